//! Why a landscape cannot be drawn.

use crate::{
    landscape::Ended,
    study::{budget::size, error::StudyError, experiment::ExperimentError},
};
use std::path::PathBuf;

/// A landscape that cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum LandscapeError {
    #[error(transparent)]
    Study(#[from] StudyError),
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    #[error(
        "{path} holds neither experiment.toml nor manifest.json; name a run, a trace, an experiment or a .safetensors file"
    )]
    NoRun { path: PathBuf },
    #[error("{path} holds the analysis of a trace; name the trace's own folder, which has manifest.json")]
    AnalysisOfTrace { path: PathBuf },
    #[error(
        "{path} is a trace of another network than the run's experiment.toml says; remove it, or name the trace itself"
    )]
    OtherNetwork { path: PathBuf },
    #[error(
        "{path} does not say its layers and data; name them with --experiment, for example --experiment digits-autoencoder"
    )]
    WeightsNeedExperiment { path: PathBuf },
    #[error("there is no optimizer \"{label}\" here; known: {known}")]
    NoSuchRun { label: String, known: String },
    #[error("a weights file has no rounds; name a run or an experiment instead, or leave the round out")]
    NoRounds,
    #[error("{label} has no weights of round {round}; they run from 1 to {last}, or the run diverged before it")]
    NoSuchRound { round: usize, last: usize, label: String },
    #[error("--along {along}: {reason}")]
    Along { along: String, reason: String },
    #[error("--{option} {value}: {reason}")]
    Value { option: &'static str, value: String, reason: String },
    #[error("stopped; nothing was written")]
    Stopped,
    #[error("{what} take more than the {allowed} of --memory; {remedy}, or allow more")]
    Memory { what: &'static str, allowed: String, remedy: &'static str },
    #[error("the network branches and sums; landscapes are of layers that stand one behind the other alone")]
    NotAChain,
    #[error("{path} already holds a landscape; choose another folder with --out, or replace it with --overwrite")]
    Occupied { path: PathBuf },
}

/// What is found of one kind, which may be too much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantity {
    pub what: &'static str,
    /// How to ask for less.
    pub remedy: &'static str,
}

impl Quantity {
    /// Why it was not finished.
    pub fn ended(self, why: Ended) -> LandscapeError {
        match why {
            Ended::Stopped => LandscapeError::Stopped,
            Ended::NotAChain => LandscapeError::NotAChain,
            Ended::Memory { allowed } => {
                LandscapeError::Memory { what: self.what, allowed: size(allowed), remedy: self.remedy }
            }
        }
    }
}

impl LandscapeError {
    /// Whether the user asked for something impossible (exit code 2), rather than something failing on the way.
    pub fn is_usage(&self) -> bool {
        match self {
            LandscapeError::Stopped => false,
            LandscapeError::Study(error) => error.is_usage(),
            LandscapeError::Experiment(error) => !matches!(error, ExperimentError::Read { .. }),
            _ => true,
        }
    }
}
