//! The rows of every result table, with their readers and writers.
//!
//! The structs are the contract of `docs/formats.md`: one field is one column, in this order, under this
//! name. Empty cells are `None`. Floating-point numbers are written in the shortest form that reads back
//! to the same bits, so a table loses nothing. Rows of Taylor optima and of activations are declared with what makes them.

use crate::{files::write_atomically, loss::LossName, trace::TargetKind};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

pub use crate::{
    activation::exploration::{NeuronRow, NoveltyRow},
    taylor::unit::{Comparator, FAR_COMPARATOR, RegretRow, Scale, UnitRow},
};

/// `rounds.csv`: the minibatch loss of each round, before its update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundRow {
    /// 1-based round.
    pub round: usize,
    /// 1-based epoch.
    pub epoch: usize,
    pub loss: f64,
}

/// `epochs.csv`: losses and accuracies after each epoch (accuracies are empty for autoencoders).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    pub epoch: usize,
    pub learning_rate: f64,
    pub train_loss: f64,
    pub test_loss: f64,
    pub train_accuracy: Option<f64>,
    pub test_accuracy: Option<f64>,
}

/// `validation.csv`: the same on the rows set aside for validation, if there are any.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ValidationRow {
    pub epoch: usize,
    pub validation_loss: f64,
    pub validation_accuracy: Option<f64>,
}

/// A table could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("cannot write {path}: {source}; {}", crate::files::remedy(source))]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot read {path}: {source}; is this a run directory of taylorscope?")]
    Read { path: PathBuf, source: csv::Error },
    #[error(
        "{path} has format {found}, but this version reads formats up to {SUMMARY_FORMAT}; get a newer taylorscope"
    )]
    Newer { path: PathBuf, found: u64 },
}

/// Writes `rows` as a CSV with a header, first under a temporary name, then renamed to `path`.
///
/// The header is written even when there are no rows, so `columns` names them.
pub fn write_rows<T: Serialize>(path: &Path, columns: &[&str], rows: &[T]) -> Result<(), TableError> {
    let fail = |source: std::io::Error| TableError::Write { path: path.to_owned(), source };
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    let csv_fail = |e: csv::Error| fail(std::io::Error::other(e));
    writer.write_record(columns).map_err(csv_fail)?;
    for row in rows {
        writer.serialize(row).map_err(csv_fail)?;
    }
    let bytes = writer.into_inner().map_err(|e| fail(std::io::Error::other(e.to_string())))?;
    write_atomically(path, &bytes).map_err(fail)
}

/// Reads all rows of a CSV that [`write_rows`] wrote.
pub fn read_rows<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, TableError> {
    let fail = |source| TableError::Read { path: path.to_owned(), source };
    csv::Reader::from_path(path).map_err(fail)?.deserialize().collect::<Result<_, _>>().map_err(fail)
}

/// The column names of each table, in order.
pub mod columns {
    pub const ROUNDS: &[&str] = &["round", "epoch", "loss"];
    pub const EPOCHS: &[&str] =
        &["epoch", "learning_rate", "train_loss", "test_loss", "train_accuracy", "test_accuracy"];
    pub const VALIDATION: &[&str] = &["epoch", "validation_loss", "validation_accuracy"];
    pub const REGRET: &[&str] = &[
        "scale",
        "layer",
        "neuron",
        "comparator",
        "rounds",
        "mean_loss",
        "taylor_optimum",
        "mean_regret",
        "gap",
        "attained",
        "distance",
        "bound_zinkevich",
        "bound_sgd",
        "bound_adagrad",
        "radius",
    ];
    pub const UNITS: &[&str] = &[
        "scale",
        "layer",
        "neuron",
        "comparator",
        "dimension",
        "mean_loss",
        "taylor_optimum",
        "mean_regret",
        "gap",
        "attained",
        "iterations",
        "distance",
        "displacement",
        "gradient_bound",
        "slope",
        "slope_points",
        "radius",
    ];
    pub const TUNE: &[&str] = &["optimizer", "learning_rate", "seed", "rounds", "status", "train_loss", "test_loss"];
    pub const EXPLORE: &[&str] = &[
        "group",
        "optimizer",
        "factor",
        "epsilon",
        "learning_rate",
        "seed",
        "rounds",
        "status",
        "train_loss",
        "test_loss",
        "distance",
        "mean_loss",
        "taylor_optimum",
        "mean_regret",
        "novelty_coarse",
        "switches_coarse",
        "log_volume_coarse",
        "log_det_coarse",
        "novelty_fine",
        "switches_fine",
        "log_volume_fine",
        "log_det_fine",
        "taylor_gap",
        "first_novelty_coarse",
        "later_novelty_coarse",
        "first_novelty_fine",
        "later_novelty_fine",
    ];
    pub const SIGNS: &[&str] = &[
        "optimizer",
        "seed",
        "round",
        "layer",
        "cosine_rms",
        "cosine_gradient",
        "cosine_sign",
        "cosine_full",
        "sign_agreement",
    ];
    pub const NOVELTY: &[&str] = &["round", "min_hamming", "previous_hamming", "bits"];
    pub const NEURONS: &[&str] =
        &["layer", "neuron", "switches", "rank", "log_volume", "log_det", "active_fraction", "dead"];
}

/// How far a run, or one optimizer of it, has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It is being worked on, or the process ended without a word.
    Running,
    Complete,
    /// Somebody asked for its end; it can be continued.
    Interrupted,
    /// Training diverged, as it always will.
    Failed,
}

impl RunStatus {
    /// The word for it in files.
    pub fn name(self) -> &'static str {
        match self {
            RunStatus::Running => "running",
            RunStatus::Complete => "complete",
            RunStatus::Interrupted => "interrupted",
            RunStatus::Failed => "failed",
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a run of a study ended: a point of a search, or a run of an exploration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialStatus {
    Complete,
    Diverged,
}

/// The version of `summary.json` that is written, and the newest that is read.
pub const SUMMARY_FORMAT: u32 = 1;

impl Summary {
    /// Whether the network has convolutions.
    pub fn is_convolutional(&self) -> bool {
        self.layers.iter().any(|layer| layer.starts_with("conv"))
    }

    /// Reads `summary.json` of a folder; `None` if there is none.
    pub fn find(folder: &Path) -> Result<Option<Summary>, TableError> {
        let path = folder.join("summary.json");
        if path.exists() { Summary::read(&path).map(Some) } else { Ok(None) }
    }

    /// The optimizers of a folder of which nothing more is to be done.
    pub fn final_optimizers(folder: &Path) -> Result<Vec<OptimizerSummary>, TableError> {
        let known = Summary::find(folder)?.map(|summary| summary.optimizers).unwrap_or_default();
        Ok(known.into_iter().filter(OptimizerSummary::is_final).collect())
    }

    /// Reads a `summary.json`.
    pub fn read(path: &Path) -> Result<Summary, TableError> {
        let fail = |source: std::io::Error| TableError::Read { path: path.to_owned(), source: source.into() };
        let text = std::fs::read_to_string(path).map_err(fail)?;
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| fail(e.into()))?;
        if let Some(found) = value["format"].as_u64().filter(|found| *found > u64::from(SUMMARY_FORMAT)) {
            return Err(TableError::Newer { path: path.to_owned(), found });
        }
        serde_json::from_value(value).map_err(|e| fail(e.into()))
    }
}

/// Whether a key of an optimizer is off: it is there, but changes no step.
pub fn is_off(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => ["", "none", "constant"].contains(&text.to_lowercase().as_str()),
        _ => false,
    }
}

impl OptimizerSummary {
    /// Whether it is what the paper means by `name`. A trace may call momentum by the name of plain descent, with a key or with steps that
    /// say otherwise.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name && !self.contradicted && (name != "sgd" || self.settings.values().all(is_off))
    }

    /// Whether nothing more is to be done: it is complete, or diverged as it always will.
    pub fn is_final(&self) -> bool {
        match self.status {
            RunStatus::Complete | RunStatus::Failed => true,
            RunStatus::Running | RunStatus::Interrupted => false,
        }
    }
}

/// `summary.json`: what a run found, for `report` and for scripts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this format, [`SUMMARY_FORMAT`].
    pub format: u32,
    /// Name of the experiment.
    pub name: String,
    /// Version of taylorscope that wrote the run.
    pub version: String,
    /// `None` for runs that were trained elsewhere.
    pub seed: Option<u64>,
    /// Whether all learning rates were found by a search (`run --tuned`, and the built-in experiments as they are).
    #[serde(default)]
    pub searched_rates: bool,
    pub status: RunStatus,
    pub dataset: String,
    pub loss: LossName,
    pub target: TargetKind,
    /// The comparator to show first: `ball`, unless only `unconstrained` was asked for.
    pub headline: Comparator,
    /// The layers as readable text, index = layer index, e.g. `dense 784 -> 50`, `relu`.
    pub layers: Vec<String>,
    pub optimizers: Vec<OptimizerSummary>,
}

/// One optimizer's part of `summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizerSummary {
    /// The subfolder of the run, unique: `sgd`, or `sgd-0.1` when one optimizer appears twice.
    pub label: String,
    pub name: String,
    /// `None` where a trace does not tell it.
    #[serde(default)]
    pub learning_rate: Option<f64>,
    /// All other keys of the optimizer, as the experiment or the trace has them; absent from version 0.1.0.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, serde_json::Value>,
    pub status: RunStatus,
    /// Why the optimizer stopped early, in words; empty otherwise.
    pub message: Option<String>,
    /// What was found out about a trace, a sentence each; absent for runs that were trained here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
    /// What casts doubt on a trace, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Whether the steps of a trace are not those of the optimizer that it names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub contradicted: bool,
    pub rounds: usize,
    pub rounds_per_epoch: usize,
    /// Rounds analysed at layer and network scale, from round 1.
    pub window_rounds: usize,
    /// How many of them were analysed, if not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled_rounds: Option<usize>,
    /// How many rounds a trace has, if not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_rounds: Option<usize>,
    /// Mean minibatch loss over the last 100 rounds (or all, when fewer).
    pub last_loss: Option<f64>,
    /// Mean minibatch loss over all rounds.
    pub mean_loss: Option<f64>,
    pub train_loss: Option<f64>,
    pub test_loss: Option<f64>,
    pub train_accuracy: Option<f64>,
    pub test_accuracy: Option<f64>,
    /// Hidden neurons, and how many of them are dead on the probe set at the end.
    pub hidden_neurons: usize,
    pub dead_neurons: usize,
}
