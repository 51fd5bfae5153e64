//! Rectifier networks: what they are made of, their weights, and their exact linearization.
//!
//! - [`layers`]: the entries of a layer list; [`shape`]: images, convolutions and pools
//! - [`spec`]: blocks and shapes, checked
//! - [`weights`]: initialization and safetensors files; [`tensor_names`]: which of a file's tensors are whose
//! - [`linearization`]: forward with tape, JVP, VJP, output Jacobians and curvature on Burn tensors, for any
//!   device and for `f32` and `f64`; [`crate::kernels::passes`] has the CPU twin that the hot loops use

mod gates;
pub mod layers;
pub mod linearization;
pub mod shape;
pub mod spec;
pub mod tensor_names;
pub mod weights;

pub use layers::{LayerSpec, Rectifier};
pub use linearization::Linearization;
pub use shape::{Convolution, Image, Pool, Pooling, Shape};
pub use spec::{Block, LinearMap, Network, NetworkError};
pub use weights::{WeightsError, he_uniform, read_weights, write_weights};
