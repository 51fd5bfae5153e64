//! The passes of a network: forward with tape, VJP, JVP, output Jacobians and curvature. Nothing else walks a network.
//!
//! All arrays are row-major. `rows` is the number of datapoints of a call, `l = 0..L` counts blocks (linear maps with the rectifier and pool
//! behind them, [`crate::network::Block`]), `n` counts nodes ([`crate::network::Node`]); a walk goes through the nodes in their order, or backwards, and hands each to
//! [`crate::kernels::block`]. Where a value is taken by several nodes, their cotangents are added; where a node takes several values, their
//! tangents are. Weights, directions and gradients are flat vectors in the layout of [`Network`]. Images are `[height, width, channels]`
//! inside the network and `[channels, height, width]` in the data.
//!
//! - [`linearization`]: all passes in a form that is easy to use; [`Passes`] has them with buffers to reuse, for hot loops
//! - [`tape`]: what the forward pass leaves behind; [`data`]: the order of images
//! - [`mod@forward`], [`mod@jvp`], [`mod@vjp`], [`jacobian`]: the walks
//! - [`curvature`]: factors of the curvature of dense chains

pub mod curvature;
pub mod data;
pub mod forward;
pub mod jacobian;
pub mod jvp;
pub mod linearization;
pub mod tape;
pub mod vjp;

pub use curvature::{curvature_factors, hidden_jacobians};
pub use linearization::Linearization;
pub use tape::Tape;

use crate::{kernels::block, network::Network, num::Real};

/// A network at weights and data, with the tape that the forward pass recorded there: where linear passes are taken.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a, T> {
    pub network: &'a Network,
    /// Flat.
    pub weights: &'a [T],
    /// `[rows, inputs]`.
    pub x: &'a [T],
    pub tape: &'a Tape<T>,
}

/// The buffers of passes, and the cotangents that the last backward pass left in them.
#[derive(Clone, Debug, Default)]
pub struct Passes<T> {
    block: block::Scratch<T>,
    /// Per node the cotangent of its value, then those of the data in both orders.
    cotangents: Vec<Vec<T>>,
    /// Which of the cotangents have a value yet.
    begun: Vec<bool>,
    /// Per node of a dense block with a rectifier, the cotangents of its pre-activations.
    deltas: Vec<Vec<T>>,
    /// Per node the tangent of its value.
    tangents: Vec<Vec<T>>,
    /// A cotangent that is added to others.
    addend: Vec<T>,
    /// Buffers whose cotangents are not needed any more.
    spare: Vec<Vec<T>>,
}

impl<T: Real> Passes<T> {
    pub fn new() -> Self {
        Self::default()
    }
}

/// `sum += term`.
fn add<T: Real>(sum: &mut [T], term: &[T]) {
    sum.iter_mut().zip(term).for_each(|(a, b)| *a += *b);
}

#[cfg(test)]
mod tests;
