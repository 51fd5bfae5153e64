//! Any network, by the passes over its layers (`docs/theory.md`, section 4).
//!
//! - [`sample`]: rounds of a run, linearized, and products with their curvature; `factors`: Kronecker factors estimated from them
//! - `objective`: the mean of their Taylor losses in what moves; [`gradients`]: that of a single neuron, of which derivatives are kept
//! - [`matrix_free`]: the optima at all scales

mod factors;
pub mod gradients;
pub mod matrix_free;
mod objective;
pub mod sample;
