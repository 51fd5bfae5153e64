//! Rectifier networks: what they are made of, and their weights.
//!
//! - [`layers`]: the entries of a layer list; [`shape`]: images, convolutions and pools
//! - [`spec`]: blocks and shapes, checked; [`node`]: the graph that they form; [`graph`]: networks that branch and sum
//! - [`weights`]: initialization and safetensors files; [`tensor_names`]: which of a file's tensors are whose

pub mod graph;
pub mod layers;
pub mod node;
pub mod shape;
pub mod spec;
pub mod tensor_names;
pub mod weights;

pub use graph::{Graph, Value};
pub use layers::{LayerSpec, Rectifier};
pub use node::{Activation, Node, Operation, Source};
pub use shape::{Convolution, Image, Pool, Pooling, Shape};
pub use spec::{Block, LinearMap, Network, NetworkError};
pub use weights::{WeightsError, he_uniform, read_weights, write_weights};
