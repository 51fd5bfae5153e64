//! The vocabulary of Taylor optima: scales, units and comparators (`docs/theory.md`, sections 2 and 3), and the rows of the tables that
//! tell of them.

use crate::checkpoint::Choice;
use serde::{Deserialize, Serialize};
use std::fmt;

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

impl Scale {
    pub const ALL: [Self; 3] = [Self::Network, Self::Layer, Self::Neuron];
}

impl Comparator {
    pub const ALL: [Self; 2] = [Self::Unconstrained, Self::Ball];
}

impl Choice for Scale {
    const ALL: &'static [Self] = &Scale::ALL;
}

impl Choice for Comparator {
    const ALL: &'static [Self] = &Comparator::ALL;
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

/// Which unit a result belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnitId {
    pub scale: Scale,
    /// Index in the layer list.
    pub layer: Option<usize>,
    pub neuron: Option<usize>,
}

impl UnitId {
    /// The network as a whole.
    pub const NETWORK: Self = Self { scale: Scale::Network, layer: None, neuron: None };

    /// The layer with this index in the layer list.
    pub fn layer(layer: usize) -> Self {
        Self { scale: Scale::Layer, layer: Some(layer), neuron: None }
    }

    /// A row of a dense layer's weight matrix, or a filter of a convolution.
    pub fn neuron(layer: usize, neuron: usize) -> Self {
        Self { scale: Scale::Neuron, layer: Some(layer), neuron: Some(neuron) }
    }
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
