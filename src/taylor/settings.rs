//! What is asked for: scales, comparators, prefixes, tolerances (`docs/theory.md`, section 3).

use super::{
    certificate::Comparison,
    unit::{Comparator, Scale},
};
use crate::{loss::Loss, network::Network};

/// Whether a search has a closed form: then `unconstrained` costs little more than `ball`, and is certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedForm {
    Yes,
    No,
}

/// The comparators that regret is measured against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparators {
    /// `ball` everywhere, and `unconstrained` as well where that has a closed form.
    Auto,
    /// These at every scale.
    Chosen(Vec<Comparator>),
}

impl Comparators {
    /// Both at every scale.
    pub fn both() -> Self {
        Self::Chosen(Comparator::ALL.to_vec())
    }

    /// Those of a search.
    pub fn of(&self, form: ClosedForm) -> Vec<Comparator> {
        match (self, form) {
            (Self::Chosen(comparators), _) => comparators.clone(),
            (Self::Auto, ClosedForm::Yes) => Comparator::ALL.to_vec(),
            (Self::Auto, ClosedForm::No) => vec![Comparator::Ball],
        }
    }

    /// The one that is shown first: `ball`, unless only the other was asked for.
    pub fn headline(&self) -> Comparator {
        match self {
            Self::Chosen(comparators) if !comparators.contains(&Comparator::Ball) => Comparator::Unconstrained,
            _ => Comparator::Ball,
        }
    }
}

/// What to compute, and how exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct RegretSettings {
    pub scales: Vec<Scale>,
    pub comparators: Comparators,
    /// Neurons per layer, evenly spaced; `None` for all.
    pub neurons: Option<usize>,
    /// Log-spaced prefixes at most.
    pub prefixes: usize,
    /// Rounds analysed at layer and network scale, from the first.
    pub window: usize,
    /// Analyse this many evenly spaced rounds of the window instead of all.
    pub rounds: Option<usize>,
    /// The ball's radius is this factor times the displacement `D_train`.
    pub ball_factor: f64,
    /// Relative gap (gap divided by the mean training loss) at neuron scale.
    pub neuron_tolerance: f64,
    /// Relative gap at layer and network scale.
    pub tolerance: f64,
    /// Products with the curvature of the whole window that the prefixes of a layer or of the network share, per
    /// comparator. More certify smaller gaps.
    pub max_products: usize,
}

impl Default for RegretSettings {
    fn default() -> Self {
        Self {
            scales: vec![Scale::Network, Scale::Layer, Scale::Neuron],
            comparators: Comparators::Auto,
            neurons: None,
            prefixes: 30,
            window: usize::MAX,
            rounds: None,
            ball_factor: 2.0,
            neuron_tolerance: 1e-6,
            tolerance: 1e-4,
            max_products: 64,
        }
    }
}

impl RegretSettings {
    /// The neurons of a layer that are analysed: all, or evenly spaced ones.
    pub fn selected(&self, units: usize) -> Vec<usize> {
        match self.neurons {
            Some(count) if count < units => (0..count).map(|i| i * units / count).collect(),
            _ => (0..units).collect(),
        }
    }

    /// Numbers of the rounds of a window of the given length that are analysed: all, or evenly spaced ones from the first.
    pub fn sampled(&self, window: usize) -> Vec<usize> {
        match self.rounds {
            Some(count) if count < window => (0..count).map(|i| 1 + i * window / count).collect(),
            _ => (1..=window).collect(),
        }
    }

    /// Whether neurons are solved while training goes on: the closed form streams over the whole run. Other losses, and filters, need the
    /// rounds of the window.
    pub fn streams(&self, network: &Network, loss: Loss) -> bool {
        loss.is_quadratic() && self.has(Scale::Neuron) && network.is_dense_chain()
    }

    pub fn has(&self, scale: Scale) -> bool {
        self.scales.contains(&scale)
    }

    /// The comparison set of a unit with the given displacement.
    pub fn comparison(&self, comparator: Comparator, displacement: f64) -> Comparison {
        let radius = match comparator {
            Comparator::Unconstrained => None,
            Comparator::Ball => Some(self.ball_factor * displacement),
        };
        Comparison { radius, displacement }
    }
}
