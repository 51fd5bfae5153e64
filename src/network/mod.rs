//! Rectifier networks: what they are made of, and their weights.
//!
//! - [`layers`]: the entries of a layer list; [`shape`]: images, convolutions and pools
//! - [`block`]: a layer with weights and what stands right behind it; [`node`]: the graph that blocks form; [`spec`]: checked networks
//! - [`graph`]: networks that branch and sum; `list`: those of a list of layers
//! - [`weights`]: initialization and safetensors files; [`file_layout`]: how a block lies in them; [`tensor_names`]: which of a file's
//!   tensors are whose
//! - [`error`]: why a network is refused

pub mod block;
pub mod error;
pub mod file_layout;
pub mod graph;
pub mod layers;
mod list;
pub mod node;
pub mod shape;
mod sizes;
pub mod spec;
pub mod tensor_names;
pub mod weights;

pub use block::{Block, LinearMap};
pub use error::NetworkError;
pub use graph::{Graph, Value};
pub use layers::{LayerSpec, Rectifier};
pub use node::{Activation, Node, Operation, Source};
pub use shape::{Convolution, Image, Pool, Pooling, Shape};
pub use spec::Network;
pub use weights::{WeightsError, he_uniform, read_weights, write_weights};
