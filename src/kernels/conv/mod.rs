//! Convolutions, by the fastest of three methods.
//!
//! Images are `[height, width, channels]`, the pre-activations of a block `a: [positions, units]`. [`apply`] and [`backward`] choose the method:
//!
//! - `plain`: products of unfolded images with the filters (im2col)
//! - `pooled`: the backward pass behind a max-pool, where most cotangents are zero
//! - `winograd`: convolutions of many channels through transforms, in `f32` alone
//!
//! All know `types` and `unfold`, none knows another.

mod dispatch;
mod plain;
mod pooled;
#[cfg(test)]
mod tests;
mod types;
mod unfold;
mod winograd;

pub use dispatch::{apply, backward};
pub use plain::filter_gradients;
pub(in crate::kernels) use types::at_least;
pub use types::{Cotangents, Scratch, Term};
pub use unfold::each_patch;
