//! Why an experiment cannot be run.

use crate::optim::OptimizerError;
use std::path::PathBuf;

/// An experiment that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    #[error("there is no built-in experiment \"{name}\" and no file of that name{suggestion}")]
    Unknown { name: String, suggestion: String },
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{origin}: {reason}")]
    Syntax { origin: String, reason: String },
    #[error("{origin}: unknown key \"{key}\" in {section}{suggestion}")]
    UnknownKey { origin: String, key: String, section: String, suggestion: String },
    #[error("{origin}: {key}: {reason}")]
    Value { origin: String, key: &'static str, reason: String },
    #[error("{origin}: {source}")]
    Optimizer { origin: String, source: OptimizerError },
    #[error("--set {setting}: {reason}; write for example --set training.epochs=3")]
    Setting { setting: String, reason: String },
}

impl ExperimentError {
    /// A value that is out of its range, with its key and the reason.
    pub(super) fn value(origin: &str, key: &'static str, reason: impl Into<String>) -> Self {
        ExperimentError::Value { origin: origin.into(), key, reason: reason.into() }
    }

    /// A text that cannot be read as what it should be.
    pub(super) fn syntax(origin: &str, error: impl std::fmt::Display) -> Self {
        ExperimentError::Syntax { origin: origin.into(), reason: error.to_string().trim_end().to_owned() }
    }
}
