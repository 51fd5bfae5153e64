//! Which files results depend on, by checksum: a run that is continued must find what it was begun with.

use super::{error::StudyError, experiment::Experiment, paths::dataset_name};
use crate::{
    data::{Dataset, Split},
    network::WeightsError,
    num::Scalar,
};
use rayon::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Values that are hashed at once, side by side with others. The checksum depends on it.
const PIECE: usize = 1 << 18;

/// Checksums of what an experiment reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// Of all rows and labels, as they are trained on.
    pub data: String,
    /// Of the file of initial weights, if there is one.
    pub weights: Option<String>,
}

impl Inputs {
    /// Of an experiment and its data, before rows are set aside.
    ///
    /// # Errors
    /// If the file of initial weights cannot be read.
    pub fn of(experiment: &Experiment, dataset: &Dataset) -> Result<Inputs, StudyError> {
        let weights = experiment.network.weights.as_deref().map(of_file).transpose()?;
        let mut hasher = Sha256::new();
        for split in [&dataset.train, &dataset.test] {
            split_pieces(split).iter().for_each(|piece| hasher.update(piece));
        }
        Ok(Inputs { data: hexadecimal(&hasher.finalize()), weights })
    }

    /// As `environment.json` has it.
    pub fn to_json(&self) -> Value {
        json!({ "data": self.data, "weights": self.weights })
    }

    /// Fails if what the folder `out` was begun with is known and something else.
    ///
    /// # Errors
    /// [`StudyError::OtherInputs`], which names the file.
    pub fn check(&self, experiment: &Experiment, out: &Path) -> Result<(), StudyError> {
        // Folders of earlier versions do not tell.
        let text = std::fs::read_to_string(out.join("environment.json")).unwrap_or_default();
        let there: Value = serde_json::from_str(&text).unwrap_or_default();
        let differs = |key: &str, here: &str| there["inputs"][key].as_str().is_some_and(|there| there != here);
        let what = if differs("data", &self.data) {
            format!("the data of {} are not those", dataset_name(&experiment.data.dataset))
        } else if self.weights.as_ref().is_some_and(|here| differs("weights", here)) {
            let path = experiment.network.weights.as_deref().unwrap_or(Path::new(""));
            not_the_file(path)
        } else {
            return Ok(());
        };
        Err(StudyError::OtherInputs { path: out.to_owned(), what })
    }

    /// Fails if the file of initial weights is not that of these checksums any more.
    ///
    /// # Errors
    /// [`StudyError::OtherInputs`], or if it cannot be read.
    pub fn check_weights(&self, experiment: &Experiment, out: &Path) -> Result<(), StudyError> {
        let Some(path) = experiment.network.weights.as_deref() else { return Ok(()) };
        match self.weights.as_ref() == Some(&of_file(path)?) {
            true => Ok(()),
            false => Err(StudyError::OtherInputs { path: out.to_owned(), what: not_the_file(path) }),
        }
    }
}

fn not_the_file(path: &Path) -> String {
    format!("{} is not the file", path.display())
}

fn of_file(path: &Path) -> Result<String, StudyError> {
    let bytes =
        std::fs::read(path).map_err(|source| StudyError::from(WeightsError::Read { path: path.to_owned(), source }))?;
    Ok(hexadecimal(&Sha256::digest(bytes)))
}

/// Checksums of pieces of the inputs, then of all labels.
fn split_pieces(split: &Split) -> Vec<[u8; 32]> {
    let mut pieces: Vec<[u8; 32]> = split.inputs.par_chunks(PIECE).map(hash).collect();
    pieces.push(hash(&split.labels));
    pieces
}

/// Values that become bytes at once.
const AT_ONCE: usize = 1 << 14;

/// The SHA-256 of values as their bytes.
pub(super) fn hash<V: Scalar>(values: &[V]) -> [u8; 32] {
    let (mut hasher, mut bytes) = (Sha256::new(), Vec::new());
    for piece in values.chunks(AT_ONCE) {
        bytes.clear();
        piece.iter().for_each(|value| value.put(&mut bytes));
        hasher.update(&bytes);
    }
    hasher.finalize().into()
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
