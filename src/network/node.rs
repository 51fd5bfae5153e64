//! Nodes: a network as operations on values that the data or earlier nodes give.

use super::{
    layers::Rectifier,
    shape::{Pool, Pooling, Shape},
};

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The data, in their own order.
    Data,
    /// The data as images `[height, width, channels]`.
    Image,
    /// The node with this index.
    Node(usize),
}

/// What has no weights and acts on each channel by itself: a rectifier, then a pool. Either may be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Activation {
    pub rectifier: Option<Rectifier>,
    pub pool: Option<Pool>,
}

impl Activation {
    /// The pool, if it is a max-pool.
    pub fn max_pool(&self) -> Option<&Pool> {
        self.pool.as_ref().filter(|pool| pool.pooling == Pooling::Max)
    }

    /// Values that come out for `len` that go in.
    pub fn len_out(&self, len: usize) -> usize {
        self.pool.map_or(len, |pool| pool.output.len())
    }
}

/// What a node computes from its inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    /// The block with this index: a linear map and the activation behind it, of one input.
    Block(usize),
    /// An activation that stands behind no block, as behind a sum; of one input.
    Activation(Activation),
    /// The sum of its inputs, which have the same shape.
    Sum,
}

/// A node of a network: an operation on values that the data or earlier nodes give.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Index in the layer list, or the number of the layer in the order in which a [`super::Graph`] was built.
    pub layer: usize,
    pub operation: Operation,
    pub inputs: Vec<Source>,
    /// The shape of its value; an image lies as `[height, width, channels]`.
    pub shape: Shape,
}
