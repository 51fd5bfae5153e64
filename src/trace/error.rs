//! What can be wrong with a trace.

use super::{FORMAT, RECORDED_FORMAT};
use crate::{
    data::{ArrayError, DataError},
    network::{NetworkError, WeightsError},
};
use std::path::{Path, PathBuf};

/// A trace that cannot be analysed.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("cannot read {path}: {source}; a trace folder has manifest.json, weights-*.safetensors and batches.npy")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {reason}")]
    Malformed { path: PathBuf, reason: String },
    #[error(
        "{path} has format {found}, but this version reads formats {FORMAT} and {RECORDED_FORMAT}; get a newer taylorscope"
    )]
    Format { path: PathBuf, found: u64 },
    #[error("{path}: {source}")]
    Network { path: PathBuf, source: NetworkError },
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("{reason}{}", whole_rounds(*whole))]
    Shards {
        /// What is wrong, with the path.
        reason: String,
        /// States before it.
        whole: usize,
    },
    #[error("{path}: {source}")]
    Array { path: PathBuf, source: ArrayError },
    #[error("the trace names the dataset \"{dataset}\" but holds no inputs.npy: {source}")]
    Data { dataset: String, source: DataError },
    #[error(
        "the loss or gradient of round 1 is not finite, so there is no round to analyse; look at the weights and the data of that round"
    )]
    NotFinite,
    #[error(
        "{path}: the recorded loss of round {round} is {recorded}, but its weights and minibatch give {recomputed}; {cause}"
    )]
    Loss { path: PathBuf, round: usize, recorded: f64, recomputed: f64, cause: String },
    #[error("{path}: {reason}")]
    Implausible { path: PathBuf, reason: String },
    #[error(
        "{path} {reason}. This program analyses networks that are lists of its layers, with mse or cross_entropy; \
         taylorscope.analyze(TRACE, backend=\"torch\", model=MODEL, criterion=CRITERION) in Python analyses any differentiable model"
    )]
    NotForTheEngine { path: PathBuf, reason: String },
    #[error("cannot write {path}: {source}; {}", remedy(source))]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot record into {path}: {reason}")]
    Occupied { path: PathBuf, reason: String },
    #[error("round {round} cannot be recorded: {reason}")]
    Refused { round: usize, reason: String },
}

/// What can be done about an error of writing a trace.
fn remedy(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded => {
            "what was recorded before is a trace that can be analysed; free some space, or record fewer rounds with every or \
             max_bytes"
        }
        _ => "choose a folder that can be written",
    }
}

/// How to go on with what comes before a damaged shard.
fn whole_rounds(whole: usize) -> String {
    match whole {
        0 => String::new(),
        1 => "; the state before is whole: analyse its round alone with --rounds 1".to_owned(),
        _ => format!("; the {whole} states before are whole: analyse their rounds with --rounds {whole}"),
    }
}

pub(super) fn malformed(path: &Path, reason: impl Into<String>) -> TraceError {
    TraceError::Malformed { path: path.to_owned(), reason: reason.into() }
}

pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>, TraceError> {
    std::fs::read(path).map_err(|source| TraceError::Read { path: path.to_owned(), source })
}

pub(super) fn write_error(path: &Path, source: std::io::Error) -> TraceError {
    TraceError::Write { path: path.to_owned(), source }
}
