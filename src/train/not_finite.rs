//! Where numbers stopped being finite.

use super::Part;
use crate::{
    checkpoint::{Choice, Persist, Store, StoreError},
    network::Network,
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
        for (l, block) in blocks.iter().enumerate() {
            let is_broken = |part: &Part<T>| match l + 1 < blocks.len() {
                true => broken(part.tape.input(l + 1, &part.x)),
                false => broken(&part.tape.output),
            };
            if parts.iter().any(is_broken) {
                return found(Quantity::Activations, Some(block.layer));
            }
        }
        // A sum of squares may overflow where no term does.
        match blocks.iter().rev().find(|block| broken(&gradient[block.range()])) {
            Some(block) => found(Quantity::Gradient, Some(block.layer)),
            None => found(Quantity::Loss, None),
        }
    }
}

impl Choice for Quantity {
    const ALL: &'static [Self] = &[Self::Weights, Self::Activations, Self::Loss, Self::Gradient];
}

impl Persist for NotFinite {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.count("round", &mut self.round)?;
        store.value("quantity", &mut self.quantity)?;
        store.value("layer", &mut self.layer)
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
