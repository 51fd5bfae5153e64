//! The rows of the data, in the order in which they appear.

use crate::{
    network::Network,
    num::Real,
    trace::{
        Manifest, TargetKind,
        array::{Array, of_tensor},
        error::{TraceError, malformed},
        examples::{TraceTargets, check_inputs, of_targets},
        tensor_file::TensorFile,
    },
};

/// Takes in the rows of one shard after the other.
#[derive(Debug, Default)]
pub(in super::super) struct DataReader {
    /// Type and shape of a row's inputs and targets in the shards before.
    known: Option<String>,
}

impl DataReader {
    /// Appends the rows of a shard.
    pub fn take<T: Real>(
        &mut self,
        file: &TensorFile,
        manifest: &Manifest,
        network: &Network,
        inputs: &mut Vec<T>,
        targets: &mut TraceTargets<T>,
    ) -> Result<(), TraceError> {
        let several: Vec<String> = file.names().into_iter().filter(|name| name.starts_with("inputs.")).collect();
        if !several.is_empty() && (several.len() > 1 || file.info("inputs").is_some()) {
            let reason = format!("records a model with several inputs ({})", several.join(", "));
            return Err(TraceError::NotForTheEngine { path: file.path.clone(), reason });
        }
        let name = several.first().map_or("inputs", String::as_str);
        let rows = file.info(name).and_then(|info| info.shape.first().copied()).unwrap_or(0);
        if rows == 0 {
            // Nothing new has appeared.
            return Ok(());
        }
        self.check_kind(file, name, manifest.target)?;
        let array = array(file, name)?;
        check_inputs(&file.path, &array, manifest, network)?;
        inputs.extend(array.values.iter().map(|v| T::from_f64(*v)));
        if manifest.target == TargetKind::Input {
            return Ok(());
        }
        if file.info("targets").is_none() {
            let reason = "has no \"targets\", but the target of the manifest is no \"input\"";
            return Err(malformed(&file.path, reason));
        }
        let read = of_targets::<T>(&file.path, &self::array(file, "targets")?, manifest, network, rows)?;
        match (targets, read) {
            (TraceTargets::Labels(all), TraceTargets::Labels(more)) => all.extend(more),
            (TraceTargets::Values(all), TraceTargets::Values(more)) => all.extend(more),
            _ => return Err(malformed(&file.path, "has targets of another kind than the manifest says")),
        }
        Ok(())
    }

    /// Fails unless rows are of the type and shape of those before.
    fn check_kind(&mut self, file: &TensorFile, name: &str, target: TargetKind) -> Result<(), TraceError> {
        let of = |name: &str| {
            let info = file.info(name)?;
            Some(format!("\"{name}\" is {:?} with rows of shape {:?}", info.dtype, info.shape.get(1..)?))
        };
        let targets = of("targets").filter(|_| target != TargetKind::Input);
        let kind: Vec<String> = of(name).into_iter().chain(targets).collect();
        let kind = kind.join(", ");
        match &self.known {
            Some(known) if *known != kind => {
                Err(malformed(&file.path, format!("{kind}, but in the shards before {known}")))
            }
            _ => {
                self.known = Some(kind);
                Ok(())
            }
        }
    }
}

fn array(file: &TensorFile, name: &str) -> Result<Array, TraceError> {
    let info = file.info(name).expect("a tensor of the file");
    let bytes = file.bytes(name).map_err(|source| TraceError::Read { path: file.path.clone(), source })?;
    of_tensor(info.dtype, &info.shape, &bytes).map_err(|reason| malformed(&file.path, format!("\"{name}\" {reason}")))
}
