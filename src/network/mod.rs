//! Rectifier networks: what they are made of, their weights, and their exact linearization.
//!
//! - [`spec`]: layers and shapes, checked
//! - [`weights`]: initialization and safetensors files
//! - [`linearization`]: forward with tape, JVP, VJP, output Jacobians and curvature on Burn tensors, for any
//!   device and for `f32` and `f64`; [`crate::kernels::dense`] has the CPU twin that the hot loops use

pub mod linearization;
pub mod spec;
pub mod weights;

pub use linearization::Linearization;
pub use spec::{Block, LayerSpec, Network, NetworkError, Rectifier};
pub use weights::{WeightsError, he_uniform, read_weights, write_weights};
