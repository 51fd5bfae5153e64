//! The mean of Taylor losses over some first rounds, at one displacement.

use crate::num::pieces::PartialSum;

/// What the Taylor approximations say at a displacement `u = V - W^1` of what moves.
#[derive(Clone, Debug)]
pub struct Expansion {
    /// `F(u)`.
    pub value: f64,
    /// `grad F(u)`.
    pub gradient: Vec<f64>,
    /// The outputs that are predicted at `u`, `[rows, outputs]`, round by round.
    pub outputs: Vec<f64>,
}

impl Expansion {
    /// A sum over no rounds, for `dimension` weights that move.
    pub(super) fn zero(dimension: usize) -> Self {
        Self { value: 0.0, gradient: vec![0.0; dimension], outputs: Vec::new() }
    }
}

impl PartialSum for Expansion {
    fn add(&mut self, next: Self) {
        self.value += next.value;
        self.gradient.add(next.gradient);
        self.outputs.extend(next.outputs);
    }
}
