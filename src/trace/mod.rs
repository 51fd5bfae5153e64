//! Traces: a run's weights and minibatches on disk, to be analysed later or elsewhere (`docs/formats.md`).
//!
//! - [`recording`]: records one as a training loop goes, in format 2
//! - [`mod@write`]: keeps the trace of a run
//! - [`mod@read`]: reads one, from anywhere, with [`manifest`], [`states`], `examples` and [`mod@array`]
//! - [`mod@replay`]: turns it into rounds
//! - [`motion`]: whether its states move as those of training do; [`agreement`]: whether its losses are those that it recorded,
//!   and if not, why (`causes`)

pub mod agreement;
pub mod array;
mod causes;
pub mod error;
mod examples;
mod keys;
pub mod manifest;
pub mod motion;
mod npy;
mod pair;
pub mod read;
pub mod recorded;
pub mod recording;
pub mod replay;
pub mod states;
mod tensor_file;
pub mod write;

pub use error::TraceError;
pub use read::{ReadOptions, Trace, read};
pub use replay::replay;
pub use write::TraceWriter;

use crate::{loss::Loss, network::LayerSpec};
use serde::{Deserialize, Serialize};

/// The version of the format that runs write.
pub const FORMAT: u32 = 1;
/// The version of the format that [`recording`] writes.
pub const RECORDED_FORMAT: u32 = 2;

/// What the outputs are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// The inputs: an autoencoder.
    Input,
    /// The labels of a classifier (or target values in a trace of format 1).
    Label,
    /// Target values, in a trace.
    Values,
}

impl TargetKind {
    /// The word for it in files.
    pub fn name(self) -> &'static str {
        match self {
            TargetKind::Input => "input",
            TargetKind::Label => "label",
            TargetKind::Values => "values",
        }
    }
}

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub input: Vec<usize>,
    pub layers: Vec<LayerSpec>,
    pub loss: Loss,
    pub target: TargetKind,
    pub rounds: usize,
    pub batch_size: usize,
    /// Name, learning rate and settings; only `name` and `learning_rate` are used.
    #[serde(default)]
    pub optimizer: serde_json::Map<String, serde_json::Value>,
    /// `{"dataset": "mnist", ...}` if the rows are those of a known dataset's training set.
    #[serde(default)]
    pub data: serde_json::Map<String, serde_json::Value>,
}
