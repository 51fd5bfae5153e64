//! Where numbers stopped being finite.

use super::Part;
use crate::{
    network::{Network, Source},
    num::Real,
};
use std::fmt;

/// What was not finite first, in the order in which a round computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    Weights,
    Activations,
    Loss,
    Gradient,
}

/// A round that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFinite {
    pub round: usize,
    pub quantity: Quantity,
    /// Index in the layer list; empty for the loss.
    pub layer: Option<usize>,
}

impl NotFinite {
    /// Looks through a round whose loss or gradient is not finite.
    pub(super) fn find<T: Real>(
        round: usize,
        network: &Network,
        weights: &[T],
        parts: &[Part<T>],
        gradient: &[T],
    ) -> Self {
        let broken = |values: &[T]| values.iter().any(|value| !value.is_finite());
        let blocks = network.blocks();
        let found = |quantity, layer: Option<usize>| Self { round, quantity, layer };
        if let Some(block) = blocks.iter().find(|block| broken(&weights[block.range()])) {
            return found(Quantity::Weights, Some(block.layer));
        }
        for (n, node) in network.nodes().iter().enumerate() {
            if parts.iter().any(|part| broken(part.tape.value(Source::Node(n), &part.x))) {
                return found(Quantity::Activations, Some(node.layer));
            }
        }
        // A sum of squares may overflow where no term does.
        match blocks.iter().rev().find(|block| broken(&gradient[block.range()])) {
            Some(block) => found(Quantity::Gradient, Some(block.layer)),
            None => found(Quantity::Loss, None),
        }
    }

    /// Numbers for a checkpoint.
    pub fn to_numbers(self) -> [u64; 3] {
        [self.round as u64, self.quantity as u64, self.layer.map_or(u64::MAX, |layer| layer as u64)]
    }

    /// `None` if they are of no [`NotFinite`].
    pub fn from_numbers([round, quantity, layer]: [u64; 3]) -> Option<Self> {
        use Quantity::{Activations, Gradient, Loss, Weights};
        let all = [Weights, Activations, Loss, Gradient];
        let quantity = *all.iter().find(|known| **known as u64 == quantity)?;
        let layer = (layer != u64::MAX).then_some(usize::try_from(layer).ok()?);
        Some(Self { round: usize::try_from(round).ok()?, quantity, layer })
    }
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantity = match self.quantity {
            Quantity::Weights => "the weights",
            Quantity::Activations => "the activations",
            Quantity::Loss => "the loss",
            Quantity::Gradient => "the gradient",
        };
        match self.layer {
            Some(layer) => write!(f, "{quantity} of layer {layer}: not finite in round {}", self.round),
            None => write!(f, "{quantity} is not finite in round {}", self.round),
        }
    }
}
