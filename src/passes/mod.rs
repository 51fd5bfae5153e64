//! The passes of a network: the exact linearization at its weights.
//!
//! - [`linearization`]: outputs, JVP, VJP, output Jacobians and curvature, easy to use; the hot loops use [`crate::kernels::passes`] with
//!   buffers of their own

pub mod linearization;

pub use linearization::Linearization;
