//! Checked networks.

use super::{
    block::Block,
    error::NetworkError,
    layers::LayerSpec,
    node::{Node, Operation, Source},
    shape::Shape,
};
use std::ops::Range;

/// A checked network: every shape fits and the output is linear.
///
/// Most networks are a list of layers, one behind the other ([`Network::new`]); a [`super::Graph`] makes those that branch and sum.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    input: Shape,
    layers: Vec<LayerSpec>,
    /// The shape behind each layer.
    shapes: Vec<Shape>,
    blocks: Vec<Block>,
    /// Each behind those that it takes its inputs from; the last one gives the output.
    nodes: Vec<Node>,
}

impl Network {
    /// What a [`super::Graph`] has checked.
    pub(super) fn from_graph(input: Shape, blocks: Vec<Block>, nodes: Vec<Node>) -> Self {
        Self { input, layers: Vec::new(), shapes: Vec::new(), blocks, nodes }
    }

    /// The same network with the list that it was made of, and the shape behind each of its layers.
    pub(super) fn with_list(self, layers: Vec<LayerSpec>, shapes: Vec<Shape>) -> Self {
        Self { layers, shapes, ..self }
    }

    /// Input features.
    pub fn inputs(&self) -> usize {
        self.input.len()
    }

    /// The shape of a datapoint. Its values come as `[channels, height, width]`.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// Output coordinates.
    pub fn outputs(&self) -> usize {
        self.output_block().units
    }

    /// Index of the block that gives the output.
    pub fn output_index(&self) -> usize {
        self.blocks.len() - 1
    }

    /// The block that gives the output: dense, with nothing behind it.
    pub fn output_block(&self) -> &Block {
        &self.blocks[self.output_index()]
    }

    /// The nodes, each behind those that it takes its inputs from; the last one gives the output.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The layer list as written in the experiment file; empty for a graph that no list describes ([`Network::list`]).
    pub fn layers(&self) -> &[LayerSpec] {
        &self.layers
    }

    /// The layer list, for what works on lists alone.
    ///
    /// # Errors
    /// If the network was made by a [`super::Graph`]; `what` says what needs a list.
    pub fn list(&self, what: &'static str) -> Result<&[LayerSpec], NetworkError> {
        if self.layers.is_empty() { Err(NetworkError::NotAList { what }) } else { Ok(&self.layers) }
    }

    /// The layers that have weights.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// All blocks but the output's.
    pub fn hidden_blocks(&self) -> &[Block] {
        &self.blocks[..self.output_index()]
    }

    /// The places of each hidden block's neurons in a list of all hidden neurons.
    pub fn hidden_neurons(&self) -> Vec<Range<usize>> {
        let mut next = 0;
        let place = |block: &Block| {
            next += block.units;
            next - block.units..next
        };
        self.hidden_blocks().iter().map(place).collect()
    }

    /// Whether the network is blocks one behind the other, as every list of layers is.
    pub fn is_chain(&self) -> bool {
        let own = |(l, node): (usize, &Node)| {
            node.operation == Operation::Block(l) && (l == 0 || node.inputs == [Source::Node(l - 1)])
        };
        self.nodes.iter().enumerate().all(own)
    }

    /// Whether the network is dense layers one behind the other, each with its rectifier: what the fast paths of the analysis take.
    pub fn is_dense_chain(&self) -> bool {
        self.is_chain() && self.blocks.iter().all(|block| block.images().is_none())
    }

    /// Length of the flat weight vector.
    pub fn parameters(&self) -> usize {
        self.blocks[self.blocks.len() - 1].range().end
    }

    /// The layers as readable lines, e.g. `dense 784 -> 50` or `max_pool 2, 64x32x32 -> 64x16x16`; empty for a graph that no list of layers describes.
    pub fn describe(&self) -> Vec<String> {
        let before = std::iter::once(&self.input).chain(&self.shapes);
        self.layers.iter().zip(before.zip(&self.shapes)).map(|(layer, (from, to))| layer.between(from, to)).collect()
    }
}
