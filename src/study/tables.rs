//! The rows of every result table, with their readers and writers.
//!
//! The structs are the contract of `docs/formats.md`: one field is one column, in this order, under this
//! name. Empty cells are `None`. Floating-point numbers are written in the shortest form that reads back
//! to the same bits, so a table loses nothing.

use crate::files::write_atomically;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

/// The spatial scale of a Taylor loss (`docs/theory.md`, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    Network,
    Layer,
    Neuron,
}

/// The comparator that regret is measured against (`docs/theory.md`, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Comparator {
    /// The least-norm displacement among the minimizers over all weights.
    Unconstrained,
    /// The best weights in the ball around the initial weights with radius `factor * displacement`.
    Ball,
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scale::Network => "network",
            Scale::Layer => "layer",
            Scale::Neuron => "neuron",
        })
    }
}

impl fmt::Display for Comparator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Comparator::Unconstrained => "unconstrained",
            Comparator::Ball => "ball",
        })
    }
}

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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    pub epoch: usize,
    pub learning_rate: f64,
    pub train_loss: f64,
    pub test_loss: f64,
    pub train_accuracy: Option<f64>,
    pub test_accuracy: Option<f64>,
}

/// `validation.csv`: the same on the rows set aside for validation, if there are any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationRow {
    pub epoch: usize,
    pub validation_loss: f64,
    pub validation_accuracy: Option<f64>,
}

/// `regret.csv`: the Taylor optimum and the regret of one unit for one prefix of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegretRow {
    pub scale: Scale,
    /// Index in the layer list, empty at network scale.
    pub layer: Option<usize>,
    /// Row of the layer's weight matrix, empty above neuron scale.
    pub neuron: Option<usize>,
    pub comparator: Comparator,
    /// Length N of the prefix.
    pub rounds: usize,
    pub mean_loss: f64,
    pub taylor_optimum: f64,
    pub mean_regret: f64,
    /// Certificate: the true optimum lies in `[taylor_optimum - gap, taylor_optimum]`.
    pub gap: f64,
    pub attained: bool,
    /// `||V* - W^1||`.
    pub distance: f64,
    pub bound_zinkevich: f64,
    /// Empty unless the optimizer is plain SGD.
    pub bound_sgd: Option<f64>,
    /// Empty unless the optimizer is diagonal AdaGrad; the column is absent from tables of version 0.1.0.
    #[serde(default)]
    pub bound_adagrad: Option<f64>,
    /// Radius of the ball around `W^1` that the certificate speaks of; absent from tables of version 0.1.0.
    #[serde(default)]
    pub radius: Option<f64>,
}

/// `units.csv`: one unit's result for its longest prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnitRow {
    pub scale: Scale,
    pub layer: Option<usize>,
    pub neuron: Option<usize>,
    pub comparator: Comparator,
    /// Number of weights of the unit, with its biases if its layers have them.
    pub dimension: usize,
    pub mean_loss: f64,
    pub taylor_optimum: f64,
    pub mean_regret: f64,
    pub gap: f64,
    pub attained: bool,
    /// Factorizations or operator products that the solver spent.
    pub iterations: usize,
    pub distance: f64,
    /// `max_n ||W^n - W^1||`.
    pub displacement: f64,
    /// `max_n ||g_n||`.
    pub gradient_bound: f64,
    /// Slope of log regret on log N; empty with fewer than two positive regrets.
    pub slope: Option<f64>,
    pub slope_points: usize,
    /// Radius of the ball around `W^1` that the certificate speaks of; absent from tables of version 0.1.0.
    #[serde(default)]
    pub radius: Option<f64>,
}

/// A comparator farther from `W^1` than this many times the displacement of training is *far*: it says little about what
/// training could have reached (`docs/theory.md`, section 3).
pub const FAR_COMPARATOR: f64 = 10.0;

impl UnitRow {
    /// Whether the comparator lies more than [`FAR_COMPARATOR`] times farther from `W^1` than training went.
    pub fn is_far(&self) -> bool {
        self.distance > FAR_COMPARATOR * self.displacement
    }
}

/// `novelty.csv`: how new the activation configuration after `round` updates is (figure 5a).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoveltyRow {
    pub round: usize,
    /// Least Hamming distance to any earlier configuration; empty for the first.
    pub min_hamming: Option<u64>,
    /// Hamming distance to the previous configuration; empty for the first.
    pub previous_hamming: Option<u64>,
    /// Number of bits of a configuration.
    pub bits: u64,
}

/// `neurons.csv`: how widely one hidden neuron explored (figures 5b and 5c).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NeuronRow {
    pub layer: usize,
    pub neuron: usize,
    pub switches: u64,
    pub rank: usize,
    /// Sum of the logs of the first `min(50, rank)` singular values.
    pub log_volume: f64,
    /// `1/2 log det(I + Gram)`.
    pub log_det: f64,
    /// Fraction of all (configuration, datapoint) pairs in which the neuron is active.
    pub active_fraction: f64,
    /// Whether the slope of its rectifier is 0 on all of the probe set in the last configuration.
    pub dead: bool,
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

/// Writes `rows` as a CSV with a header, first beside `path`, then renamed over it.
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

/// The version of `summary.json` that is written, and the newest that is read.
pub const SUMMARY_FORMAT: u32 = 1;

impl Summary {
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
        self.status == "complete" || self.status == "failed"
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
    /// `running`, `complete`, `interrupted` or `failed`.
    pub status: String,
    pub dataset: String,
    /// `mse` or `cross_entropy`.
    pub loss: String,
    /// `input` or `label`.
    pub target: String,
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
    pub status: String,
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
