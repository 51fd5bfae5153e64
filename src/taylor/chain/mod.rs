//! Chains of dense layers, by fast paths (`docs/theory.md`, section 4).
//!
//! - [`window`]: the linearized rounds that layer and network scale work on, in `group`s; `expansion`: values and gradients of their Taylor losses
//! - [`product`]: products with the generalized Gauss-Newton matrix; `cursor`: tangents and cotangents of several directions through some rounds,
//!   `stack`: how these directions lie
//! - `output_weights`: the two ways that products treat the output block's weights, as they are or in `low_rank` bases
//! - [`stream`]: neurons in closed form, while training runs; [`neuron`], [`layer`], [`network`]: the optima at each scale over a window
//! - [`preconditioners`]: those of the blocks for every prefix, from `moments` over the rounds
//! - `output`, `direct`: layers with a closed form; [`objective`]: what the others minimize

mod backpropagated_error;
mod cursor;
pub(crate) mod direct;
mod expansion;
mod group;
pub mod layer;
pub(crate) mod low_rank;
mod moments;
pub mod network;
pub mod neuron;
pub mod objective;
pub(crate) mod output;
mod output_weights;
pub mod preconditioners;
pub mod product;
mod stack;
pub mod stream;
pub mod window;
