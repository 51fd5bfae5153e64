//! Why a study could not be run: for all commands, and for analyses of traces.

use super::{experiment::ExperimentError, tables::TableError};
use crate::{
    checkpoint::CheckpointError,
    data::{DataError, MinibatchError},
    network::{NetworkError, WeightsError},
    optim::OptimizerError,
    trace::TraceError,
};
use std::path::PathBuf;

/// A study that could not be run or written.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("data.validation: {asked} of {rows} training rows leave none to train on; set fewer aside")]
    Validation { asked: usize, rows: usize },
    #[error("training.batch_size: {0}")]
    Minibatch(#[from] MinibatchError),
    #[error("network.layers: {0}")]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Analyze(#[from] AnalyzeError),
    #[error("cannot write {path}: {source}; {}", crate::files::remedy(source))]
    Write { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} already holds a run; choose another folder with --out, continue it with --resume, or replace it with --overwrite"
    )]
    Occupied { path: PathBuf },
    #[error(
        "{path} holds another experiment: {differences}; repeat what it was begun with, choose another folder with --out, or replace \
         it with --overwrite"
    )]
    OtherExperiment { path: PathBuf, differences: String },
    #[error("{path} holds no experiment that could be continued ({source}); choose another folder with --out")]
    Unreadable { path: PathBuf, source: Box<ExperimentError> },
    #[error(
        "{path} holds a run that was to take the place of the one next to it: {differences}; repeat what it was begun with, or remove \
         that folder"
    )]
    Unfinished { path: PathBuf, differences: String },
    #[error(
        "{what} that {path} was begun with, as their checksums differ; put that back, choose another folder with --out, or replace \
         the results with --overwrite"
    )]
    OtherInputs { path: PathBuf, what: String },
    #[error("{path} holds results of another command, as it has no {table}; choose another folder with --out")]
    OtherCommand { path: PathBuf, table: String },
    #[error("{path} is not empty and holds no run; choose another folder with --out")]
    NotEmpty { path: PathBuf },
    #[error(
        "the analysis keeps {needed} in memory, more than the {allowed} of --memory; analyse fewer rounds (regret.rounds, \
         regret.window) or neurons (regret.neurons), or allow more"
    )]
    Memory { needed: String, allowed: String },
    #[error(
        "the run needs {needed} on the disk of {path}, which has {free} left; free some space, choose another folder with --out, or leave out --keep-trace"
    )]
    Disk { path: PathBuf, needed: String, free: String },
    #[error("{path} is in use by process {process}; wait until that has ended, or choose another folder with --out")]
    InUse { path: PathBuf, process: String },
    #[error(
        "{path} was begun without --keep-trace, so its trace would lack rounds; leave that out, or begin anew with --overwrite"
    )]
    NoTrace { path: PathBuf },
}

impl StudyError {
    /// Whether the user asked for something impossible (exit code 2), rather than something failing on the way.
    pub fn is_usage(&self) -> bool {
        if let StudyError::Analyze(error) = self {
            return error.is_usage();
        }
        if let StudyError::Data(error) = self {
            return error.is_usage();
        }
        matches!(
            self,
            StudyError::Network(_)
                | StudyError::Validation { .. }
                | StudyError::Minibatch(_)
                | StudyError::Optimizer(_)
                | StudyError::Occupied { .. }
                | StudyError::OtherExperiment { .. }
                | StudyError::Unreadable { .. }
                | StudyError::Unfinished { .. }
                | StudyError::OtherInputs { .. }
                | StudyError::OtherCommand { .. }
                | StudyError::NotEmpty { .. }
                | StudyError::InUse { .. }
                | StudyError::NoTrace { .. }
                | StudyError::Memory { .. }
        )
    }
}

/// Traces that cannot be analysed, or not here.
#[derive(Debug, thiserror::Error)]
pub enum AnalyzeError {
    #[error("{path}: {source}")]
    InTrace { path: PathBuf, source: Box<TraceError> },
    #[error("{path} has changed since it was checked; begin again when it is complete")]
    Changed { path: PathBuf },
    #[error("{path} is not a trace: {reason}")]
    NoTrace { path: PathBuf, reason: String },
    #[error("{path} is named twice")]
    Twice { path: PathBuf },
    #[error(
        "{} and {} differ in their {what}: {} and {}; optimizers of one run share it, so analyse them apart and \
         compare the runs with taylorscope report RUN RUN", paths[0].display(), paths[1].display(), values[0], values[1]
    )]
    Differ { what: &'static str, paths: Box<[PathBuf; 2]>, values: Box<[String; 2]> },
    #[error("stopped while the traces were checked; nothing was written")]
    Stopped,
    #[error("{path} also holds {}, which no analysis wrote; choose another folder with --out", entry.display())]
    Foreign { path: PathBuf, entry: PathBuf },
    #[error(
        "{path} holds a run that was trained here, which an analysis does not replace; choose another folder with --out"
    )]
    Run { path: PathBuf },
    #[error(
        "{path} holds no analysis that could be continued; replace what it holds with --overwrite, or choose another \
         folder with --out"
    )]
    NothingToResume { path: PathBuf },
    #[error(
        "{path} holds an analysis with {key} = {}, not {}; repeat the traces and settings that it was begun with, replace it \
         with --overwrite, or choose another folder with --out", values[0], values[1]
    )]
    Other { path: PathBuf, key: String, values: Box<[String; 2]> },
}

impl AnalyzeError {
    /// Whether the user asked for something impossible (exit code 2), rather than something failing on the way.
    pub fn is_usage(&self) -> bool {
        !matches!(
            self,
            AnalyzeError::NoTrace { .. }
                | AnalyzeError::InTrace { .. }
                | AnalyzeError::Changed { .. }
                | AnalyzeError::Stopped
        )
    }
}
