//! Landscapes as a study: what the segment runs through, the tables, and the folder they are written to.
//!
//! - [`what`]: segments and planes by name; [`options`]: what else is asked for
//! - [`mod@along`]: the function along one segment; `line`: the line that it lies on; `direction`: gradients to go against
//! - [`mod@plane`]: the linear regions on a plane
//! - [`training`]: what the updates of a run crossed
//! - [`claims`]: what figure 1 shows
//! - [`growth`]: kinks against depth and width, and the autocorrelation of gradients, for constructed and random networks
//! - `folder`: where they are written, one process at a time
//! - [`subject`]: where data and weights come from; [`rows`]: the tables; [`results`]: read back for the report

pub mod along;
pub mod claims;
mod direction;
mod folder;
pub mod growth;
mod line;
pub mod options;
pub mod plane;
pub mod results;
pub mod rows;
pub mod subject;
pub mod training;
pub mod what;

pub use along::along;
pub use folder::Landscape;
pub use options::{LandscapeOptions, PlaneOptions, SegmentOptions};
pub use plane::plane;
pub use results::LandscapeTables;
pub use subject::Subject;
pub use what::{Along, PlaneKind, What};

use super::{ExperimentError, StudyError, budget::size};
use crate::landscape::Ended;
use std::path::PathBuf;

/// The file that says what a landscape folder holds.
pub const SUMMARY: &str = "landscape.json";

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
