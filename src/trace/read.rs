//! Reading a trace, believing nothing: shapes, finite values and indices are checked before anything is computed.

use super::{FORMAT, Manifest, TargetKind};
use crate::{
    data::{self, ArrayError, DataError},
    kernels::Real,
    loss::Loss,
    network::{
        LayerSpec, Network, NetworkError, Shape, WeightsError,
        weights::{stack_states, weight_name},
    },
};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

/// A trace in memory.
#[derive(Clone, Debug)]
pub struct Trace<T> {
    pub manifest: Manifest,
    /// `W^1 .. W^N`, and the final weights if the trace has them.
    pub states: Vec<Vec<T>>,
    /// `[N * batch_size]` rows of the data.
    pub batches: Vec<u32>,
    /// Losses that the writer recorded, to be compared with recomputed ones.
    pub losses: Option<Vec<f64>>,
    /// `[rows, features]`.
    pub inputs: Vec<T>,
    pub targets: TraceTargets<T>,
    /// The dataset named in the manifest, if the data came from there.
    pub dataset: Option<String>,
}

/// What a trace's outputs are compared with.
#[derive(Clone, Debug)]
pub enum TraceTargets<T> {
    /// The inputs themselves.
    Inputs,
    /// `[rows, outputs]`.
    Values(Vec<T>),
    /// `[rows]`.
    Labels(Vec<u32>),
}

/// A trace that cannot be analysed.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("cannot read {path}: {source}; a trace folder has manifest.json, weights-*.safetensors and batches.npy")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {reason}")]
    Malformed { path: PathBuf, reason: String },
    #[error("{path} has format {found}, but this version reads format {FORMAT}; get a newer taylorscope")]
    Format { path: PathBuf, found: u64 },
    #[error("{path}: {source}")]
    Network { path: PathBuf, source: NetworkError },
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("{path}: {source}")]
    Array { path: PathBuf, source: ArrayError },
    #[error("the trace names the dataset \"{dataset}\" but holds no inputs.npy: {source}")]
    Data { dataset: String, source: DataError },
    #[error("the loss or gradient of round {round} is not finite; cut the trace before that round")]
    NotFinite { round: usize },
    #[error(
        "round {round}: the trace says loss {recorded}, but its weights and minibatch give {recomputed}; \
         check that W^n is saved *before* its update, that batches.npy matches, and that the loss is the mean over \
         outputs and datapoints"
    )]
    Loss { round: usize, recorded: f64, recomputed: f64 },
}

fn malformed(path: &Path, reason: impl Into<String>) -> TraceError {
    TraceError::Malformed { path: path.to_owned(), reason: reason.into() }
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, TraceError> {
    std::fs::read(path).map_err(|source| TraceError::Read { path: path.to_owned(), source })
}

/// Reads the manifest alone.
pub fn read_manifest(folder: &Path) -> Result<Manifest, TraceError> {
    let path = folder.join("manifest.json");
    let value: serde_json::Value =
        serde_json::from_slice(&read_bytes(&path)?).map_err(|e| malformed(&path, format!("not valid JSON: {e}")))?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(FORMAT) => {}
        Some(found) => return Err(TraceError::Format { path, found }),
        None => return Err(malformed(&path, "has no \"format\"; write \"format\": 1")),
    }
    let manifest: Manifest = serde_json::from_value(value).map_err(|e| malformed(&path, e.to_string()))?;
    for (name, value) in [("rounds", manifest.rounds), ("batch_size", manifest.batch_size)] {
        if value == 0 || value > 1 << 31 {
            return Err(malformed(&path, format!("\"{name}\" is {value}; it must be at least 1")));
        }
    }
    Ok(manifest)
}

/// Whether a trace's weights are `f64`.
pub fn is_double(folder: &Path) -> Result<bool, TraceError> {
    let path = shard_path(folder, 0);
    let bytes = read_bytes(&path)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| malformed(&path, e.to_string()))?;
    Ok(tensors.tensors().iter().any(|(_, t)| t.dtype() == safetensors::Dtype::F64))
}

fn shard_path(folder: &Path, shard: usize) -> PathBuf {
    folder.join(format!("weights-{shard:05}.safetensors"))
}

/// Reads and checks a whole trace. `data` is where datasets lie, for a trace that names one.
pub fn read<T: Real>(folder: &Path, data: Option<&Path>) -> Result<(Trace<T>, Network), TraceError> {
    let manifest = read_manifest(folder)?;
    let manifest_path = folder.join("manifest.json");
    let network = input_shape(&manifest)
        .and_then(|input| Network::new(input, &manifest.layers))
        .map_err(|source| TraceError::Network { path: manifest_path.clone(), source })?;
    let features = network.inputs();
    let states = read_states(folder, &network, manifest.rounds)?;
    let (inputs, targets, dataset) = read_data(folder, &manifest, &network, data)?;
    let rows = inputs.len() / features;
    let batches = read_batches(folder, &manifest, rows)?;
    let losses = read_losses(folder, manifest.rounds)?;
    Ok((Trace { manifest, states, batches, losses, inputs, targets, dataset }, network))
}

/// The shape of an input. Without a layer about images, an input of any shape is the vector of its values.
fn input_shape(manifest: &Manifest) -> Result<Shape, NetworkError> {
    if manifest.layers.iter().any(LayerSpec::is_spatial) {
        return Shape::from_sizes(&manifest.input);
    }
    let features = manifest.input.iter().try_fold(1usize, |a, b| a.checked_mul(*b)).unwrap_or(0);
    Ok(Shape::Features(features))
}

fn read_states<T: Real>(folder: &Path, network: &Network, rounds: usize) -> Result<Vec<Vec<T>>, TraceError> {
    let mut states: Vec<Vec<T>> = Vec::new();
    for shard in 0.. {
        let path = shard_path(folder, shard);
        if states.len() > rounds || (shard > 0 && !path.exists()) {
            break;
        }
        let bytes = read_bytes(&path)?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| {
            malformed(&path, format!("not a safetensors file: {e}; save it with safetensors.save_file"))
        })?;
        let first = tensors.tensor(&weight_name(&network.blocks()[0])).ok();
        let count = first.and_then(|t| t.shape().first().copied()).unwrap_or(0);
        states.extend(stack_states(network, &path, &tensors, Some(count))?);
    }
    if states.len() < rounds || states.len() > rounds + 1 {
        let reason = format!(
            "the shards hold {} weight states, but {rounds} rounds need {rounds} (before each update) or {} (with the final weights)",
            states.len(),
            rounds + 1
        );
        return Err(malformed(folder, reason));
    }
    Ok(states)
}

/// An array of a `.npy` file with its shape, as `f64` (integers up to 2^53 are exact).
pub(crate) fn read_npy(path: &Path) -> Result<(Vec<usize>, Vec<f64>), TraceError> {
    let bytes = read_bytes(path)?;
    let broken = |e: std::io::Error| malformed(path, format!("not a readable .npy file: {e}"));
    if !has_whole_header(&bytes) {
        return Err(malformed(path, "not a readable .npy file: it ends within its header"));
    }
    let file = npyz::NpyFile::new(&bytes[..]).map_err(broken)?;
    if file.order() != npyz::Order::C {
        return Err(malformed(path, "is in Fortran order; save numpy.ascontiguousarray(...)"));
    }
    let shape: Vec<usize> = file.shape().iter().map(|d| *d as usize).collect();
    let size = shape.iter().try_fold(1usize, |a, b| a.checked_mul(*b));
    if size.is_none_or(|size| size > bytes.len()) {
        return Err(malformed(path, format!("declares shape {shape:?}, more than the file holds")));
    }
    let npyz::DType::Plain(plain) = file.dtype() else {
        return Err(malformed(path, "is not a plain array of numbers"));
    };
    fn all<V: npyz::Deserialize>(file: npyz::NpyFile<&[u8]>, to: impl Fn(V) -> f64) -> std::io::Result<Vec<f64>> {
        file.data::<V>().map_err(std::io::Error::other)?.map(|v| v.map(&to)).collect()
    }
    let kind = (plain.type_char(), plain.size_field());
    let values = match kind {
        (npyz::TypeChar::Float, 4) => all::<f32>(file, f64::from),
        (npyz::TypeChar::Float, 8) => all::<f64>(file, |v| v),
        (npyz::TypeChar::Int, 8) => all::<i64>(file, |v| v as f64),
        (npyz::TypeChar::Int, 4) => all::<i32>(file, f64::from),
        (npyz::TypeChar::Int, 2) => all::<i16>(file, f64::from),
        (npyz::TypeChar::Uint, 8) => all::<u64>(file, |v| v as f64),
        (npyz::TypeChar::Uint, 4) => all::<u32>(file, f64::from),
        (npyz::TypeChar::Uint, 2) => all::<u16>(file, f64::from),
        (npyz::TypeChar::Uint, 1) => all::<u8>(file, f64::from),
        _ => return Err(malformed(path, format!("has type {plain}; use float32, float64 or an integer type"))),
    };
    Ok((shape, values.map_err(broken)?))
}

/// Whether the header of a `.npy` file is there, as long as its length field says (NumPy's format, versions 1 to 3). The reader takes
/// memory for that length before it looks.
fn has_whole_header(bytes: &[u8]) -> bool {
    let length = match bytes.get(6..12) {
        Some([1, _, low, high, ..]) => 10 + usize::from(u16::from_le_bytes([*low, *high])),
        Some([2..=u8::MAX, _, a, b, c, d]) => 12 + u32::from_le_bytes([*a, *b, *c, *d]) as usize,
        _ => return false,
    };
    length <= bytes.len()
}

/// Whole numbers below `end`, else an error that names the position.
fn indices(path: &Path, values: &[f64], end: usize, what: &str) -> Result<Vec<u32>, TraceError> {
    let check = |(at, v): (usize, &f64)| {
        let inside = *v >= 0.0 && *v < end as f64 && v.fract() == 0.0;
        inside.then_some(*v as u32).ok_or_else(|| {
            malformed(path, format!("entry {at} is {v}, but {what} must be whole numbers from 0 to {}", end.max(1) - 1))
        })
    };
    values.iter().enumerate().map(check).collect()
}

fn read_batches(folder: &Path, manifest: &Manifest, rows: usize) -> Result<Vec<u32>, TraceError> {
    let path = folder.join("batches.npy");
    let (shape, values) = read_npy(&path)?;
    let expected = [manifest.rounds, manifest.batch_size];
    if shape != expected {
        return Err(malformed(&path, format!("has shape {shape:?}, but the manifest asks for {expected:?}")));
    }
    indices(&path, &values, rows, "rows of the data")
}

fn read_losses(folder: &Path, rounds: usize) -> Result<Option<Vec<f64>>, TraceError> {
    let path = folder.join("losses.npy");
    if !path.exists() {
        return Ok(None);
    }
    let (shape, values) = read_npy(&path)?;
    if shape != [rounds] {
        return Err(malformed(&path, format!("has shape {shape:?}, but there are {rounds} rounds")));
    }
    Ok(Some(values))
}

type Data<T> = (Vec<T>, TraceTargets<T>, Option<String>);

fn read_data<T: Real>(
    folder: &Path,
    manifest: &Manifest,
    network: &Network,
    data: Option<&Path>,
) -> Result<Data<T>, TraceError> {
    let features = network.inputs();
    let path = folder.join("inputs.npy");
    let named = manifest.data.get("dataset").and_then(serde_json::Value::as_str).map(str::to_owned);
    if !path.exists() {
        let Some(dataset) = named else {
            return Err(malformed(folder, "has no inputs.npy and its manifest names no dataset; add one of the two"));
        };
        let mut loaded =
            data::load(&dataset, data).map_err(|source| TraceError::Data { dataset: dataset.clone(), source })?;
        if manifest.data.get("standardize").and_then(serde_json::Value::as_bool).unwrap_or(false) {
            loaded.standardize();
        }
        if loaded.train.features() != features {
            let found = loaded.train.features();
            return Err(malformed(folder, format!("\"input\" has {features} features, the dataset {found}")));
        }
        let inputs = loaded.train.inputs.iter().map(|v| T::of(f64::from(*v))).collect();
        let targets = match (manifest.target, manifest.loss) {
            (TargetKind::Input, _) => TraceTargets::Inputs,
            (TargetKind::Label, _) => TraceTargets::Labels(loaded.train.labels),
        };
        check_targets(folder, manifest, network, &targets)?;
        return Ok((inputs, targets, Some(dataset)));
    }
    let (shape, values) = read_npy(&path)?;
    let rows = shape.first().copied().unwrap_or(0);
    if rows == 0 || shape[1..].iter().product::<usize>() != features {
        let reason = format!("has shape {shape:?}, but the manifest's \"input\" asks for [rows, {features}]");
        return Err(malformed(&path, reason));
    }
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        let (row, column) = (at / features, at % features);
        return Err(malformed(&path, format!("row {row}, column {column} is {}; inputs must be finite", values[at])));
    }
    let inputs: Vec<T> = values.iter().map(|v| T::of(*v)).collect();
    let targets = match manifest.target {
        TargetKind::Input => TraceTargets::Inputs,
        TargetKind::Label => {
            let path = folder.join("targets.npy");
            let (shape, values) = read_npy(&path)?;
            match manifest.loss {
                Loss::CrossEntropy if shape == [rows] => {
                    TraceTargets::Labels(indices(&path, &values, network.outputs(), "labels")?)
                }
                Loss::Mse if shape == [rows, network.outputs()] => {
                    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                        return Err(malformed(&path, format!("entry {at} is {}; targets must be finite", values[at])));
                    }
                    TraceTargets::Values(values.iter().map(|v| T::of(*v)).collect())
                }
                loss => {
                    let needed = match loss {
                        Loss::Mse => format!("[{rows}, {}]", network.outputs()),
                        Loss::CrossEntropy => format!("[{rows}]"),
                    };
                    let reason = format!("has shape {shape:?}, but {} needs {needed}", loss.name());
                    return Err(malformed(&path, reason));
                }
            }
        }
    };
    check_targets(folder, manifest, network, &targets)?;
    Ok((inputs, targets, named))
}

fn check_targets<T>(
    folder: &Path,
    manifest: &Manifest,
    network: &Network,
    targets: &TraceTargets<T>,
) -> Result<(), TraceError> {
    let fits = match (manifest.loss, targets) {
        (Loss::Mse, TraceTargets::Inputs) => network.outputs() == network.inputs(),
        (Loss::Mse, TraceTargets::Values(_)) => true,
        (Loss::CrossEntropy, TraceTargets::Labels(labels)) => {
            labels.iter().all(|label| (*label as usize) < network.outputs())
        }
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let reason = format!(
        "loss {} does not fit target {:?} with {} inputs and {} outputs: mse with target input needs as many outputs \
         as inputs, cross_entropy needs target label and an output per class",
        manifest.loss.name(),
        manifest.target,
        network.inputs(),
        network.outputs()
    );
    Err(malformed(&folder.join("manifest.json"), reason))
}

impl<T: Real> Trace<T> {
    /// The examples that rounds draw from; `features` is the input width.
    pub fn examples(&self, features: usize) -> crate::train::Examples<'_, T> {
        use crate::{loss::Targets, train::Examples};
        match &self.targets {
            TraceTargets::Inputs => Examples::autoencoder(&self.inputs, features),
            TraceTargets::Labels(labels) => Examples::classifier(&self.inputs, features, labels),
            TraceTargets::Values(values) => {
                let width = values.len() / (self.inputs.len() / features).max(1);
                let targets = Targets::Values(&values[..]);
                Examples { inputs: &self.inputs, features, targets, target_width: width }
            }
        }
    }
}
