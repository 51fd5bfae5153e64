//! The sections of an experiment, with their defaults.

use super::words::{Count, Span};
use crate::{
    loss::Loss,
    network::LayerSpec,
    study::tables::Scale,
    taylor::{Comparators, RegretSettings},
    trace::TargetKind,
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataSection {
    pub dataset: String,
    /// Folder with the dataset's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Give each channel mean 0 and standard deviation 1 over the training set.
    #[serde(default)]
    pub standardize: bool,
    /// Rows at the end of the training set that are set aside for validation.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub validation: usize,
}

fn is_zero(rows: &usize) -> bool {
    *rows == 0
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkSection {
    pub layers: Vec<LayerSpec>,
    /// Initial weights from a safetensors file with PyTorch's names, instead of He-uniform ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
}

/// The floating-point type that is trained in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    #[default]
    F32,
    F64,
}

impl Precision {
    /// Of a number.
    pub fn bytes(self) -> usize {
        match self {
            Precision::F32 => size_of::<f32>(),
            Precision::F64 => size_of::<f64>(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingSection {
    pub loss: Loss,
    pub target: TargetKind,
    pub batch_size: usize,
    pub epochs: usize,
    #[serde(default)]
    pub precision: Precision,
    /// Training ends after the first epoch with at least this accuracy on the training set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_at_train_accuracy: Option<f64>,
}

/// Neurons per layer that are analysed in networks with convolutions, unless the experiment says otherwise.
const FILTERS: usize = 4;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegretSection {
    pub scales: Vec<Scale>,
    /// Neurons per layer; without it all, or a few in networks with convolutions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neurons: Option<Count>,
    pub prefixes: usize,
    pub comparators: Comparators,
    /// Rounds analysed at layer and network scale.
    pub window: Span,
    /// Of the window, this many evenly spaced rounds; all without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<usize>,
    pub ball_factor: f64,
    pub neuron_tolerance: f64,
    pub tolerance: f64,
    pub max_products: usize,
}

impl Default for RegretSection {
    fn default() -> Self {
        let settings = RegretSettings::default();
        Self {
            scales: settings.scales,
            neurons: None,
            prefixes: settings.prefixes,
            comparators: settings.comparators,
            window: Span::Epoch,
            rounds: None,
            ball_factor: settings.ball_factor,
            neuron_tolerance: settings.neuron_tolerance,
            tolerance: settings.tolerance,
            max_products: settings.max_products,
        }
    }
}

impl RegretSection {
    /// Fills in the neurons per layer, which depend on the layers.
    pub(super) fn resolve(&mut self, layers: &[LayerSpec]) {
        let convolutional = layers.iter().any(|layer| matches!(layer, LayerSpec::Conv { .. }));
        self.neurons.get_or_insert(if convolutional { Count::Number(FILTERS) } else { Count::All });
    }

    /// The settings of the analysis of a network with these layers, with the window in rounds.
    pub fn settings(&self, rounds_per_epoch: usize, layers: &[LayerSpec]) -> RegretSettings {
        let mut resolved = self.clone();
        resolved.resolve(layers);
        RegretSettings {
            scales: self.scales.clone(),
            comparators: self.comparators.clone(),
            neurons: match resolved.neurons {
                None | Some(Count::All) => None,
                Some(Count::Number(n)) => Some(n),
            },
            prefixes: self.prefixes,
            window: self.window.rounds(rounds_per_epoch),
            rounds: self.rounds,
            ball_factor: self.ball_factor,
            neuron_tolerance: self.neuron_tolerance,
            tolerance: self.tolerance,
            max_products: self.max_products,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExplorationSection {
    /// Datapoints of the probe set; 0 turns exploration off.
    pub probe: usize,
    /// Rounds between recorded configurations.
    pub every: Span,
    /// Whether the winners of max-pools are recorded, too.
    pub pool_winners: bool,
}

impl Default for ExplorationSection {
    fn default() -> Self {
        Self { probe: 2000, every: Span::Epoch, pool_winners: false }
    }
}

/// What to measure of a run that was trained already.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sections {
    pub regret: RegretSection,
    pub exploration: ExplorationSection,
}
