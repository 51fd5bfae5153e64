//! What the forward pass leaves behind for the linear passes.

use super::{Passes, data::reordered};
use crate::{
    kernels::activation::ActivationDerivative,
    network::{Activation, Block, Network, Node, Operation, Source},
    num::Real,
};

/// What the forward pass leaves behind for the linear passes, by node. Of a chain the nodes are its blocks.
#[derive(Clone, Debug, Default)]
pub struct Tape<T> {
    /// Number of datapoints.
    pub rows: usize,
    /// The data as images in the order of the network, if some node takes them so and that is not the order of the data.
    pub image: Vec<T>,
    /// The value `[rows, features out]` of every node but the last.
    pub hidden: Vec<Vec<T>>,
    /// `s'(a): [rows, pre-activations]` of every node but the last; empty for a node with a max-pool, and for a sum. The value of a dense
    /// block is `s' * a`.
    pub derivatives: Vec<Vec<T>>,
    /// For nodes with a max-pool the codes of [`ActivationDerivative::Argmax`], `[rows, features out]`; empty for others.
    pub argmax: Vec<Vec<u8>>,
    /// The network's output `[rows, outputs]`.
    pub output: Vec<T>,
}

/// Values of a node per datapoint before its activation, if it has one, and behind it.
pub(super) fn sizes(network: &Network, node: &Node) -> (usize, usize) {
    let out = node.shape.len();
    match node.operation {
        Operation::Block(l) => (network.blocks()[l].activations(), out),
        Operation::Activation(Activation { pool, .. }) => (pool.map_or(out, |pool| pool.input.len()), out),
        Operation::Sum => (out, out),
    }
}

/// Slopes and codes that a node's activation leaves behind per datapoint.
fn recorded(network: &Network, node: &Node) -> (usize, usize) {
    let (before, behind) = sizes(network, node);
    let activation = match node.operation {
        Operation::Block(l) => network.blocks()[l].activation(),
        Operation::Activation(activation) => activation,
        Operation::Sum => return (0, 0),
    };
    if activation.max_pool().is_some() { (0, behind) } else { (before, 0) }
}

impl<T: Real> Tape<T> {
    /// The forward pass of `rows` datapoints `x: [rows, inputs]`.
    pub fn record(network: &Network, weights: &[T], x: &[T], rows: usize) -> Self {
        let mut tape = Tape::default();
        Passes::new().forward(network, weights, x, rows, &mut tape, |_, _, _| ());
        tape
    }

    /// A value `[rows, features]`, given the data.
    pub fn value<'a>(&'a self, source: Source, data: &'a [T]) -> &'a [T] {
        match source {
            Source::Data => data,
            Source::Image => &self.image,
            Source::Node(n) => self.hidden.get(n).unwrap_or(&self.output),
        }
    }

    /// The input of a block, `[rows, features in]`, given the data.
    pub fn input<'a>(&'a self, block: &Block, data: &'a [T]) -> &'a [T] {
        self.value(block.source, data)
    }

    /// The derivative of what stands behind the linear map of a block.
    pub fn derivative(&self, block: &Block) -> ActivationDerivative<'_, T> {
        self.node_derivative(block.node)
    }

    /// The derivative of the activation of a node.
    pub(super) fn node_derivative(&self, n: usize) -> ActivationDerivative<'_, T> {
        match (self.derivatives.get(n), self.argmax.get(n)) {
            (_, Some(argmax)) if !argmax.is_empty() => ActivationDerivative::Argmax(argmax),
            (Some(derivatives), _) => ActivationDerivative::Elementwise(derivatives),
            (None, _) => ActivationDerivative::Identity,
        }
    }

    /// Bytes that a tape and its data take per datapoint.
    pub fn bytes_per_row(network: &Network) -> usize {
        let data = network.input().len();
        let image = reordered(network).map_or(0, |image| image.len());
        let (mut values, mut codes) = (data + image + network.outputs(), 0);
        let (_, hidden) = network.nodes().split_last().expect("a network has a node");
        for node in hidden {
            let (derivatives, argmax) = recorded(network, node);
            values += node.shape.len() + derivatives;
            codes += argmax;
        }
        values * size_of::<T>() + codes
    }

    /// Makes room for the values of `rows` datapoints.
    pub(super) fn resize(&mut self, network: &Network, rows: usize) {
        let (_, hidden) = network.nodes().split_last().expect("a network has a node");
        self.rows = rows;
        self.hidden.resize_with(hidden.len(), Vec::new);
        self.derivatives.resize_with(hidden.len(), Vec::new);
        self.argmax.resize_with(hidden.len(), Vec::new);
        for (n, node) in hidden.iter().enumerate() {
            let (derivatives, argmax) = recorded(network, node);
            self.hidden[n].resize(rows * node.shape.len(), T::ZERO);
            self.derivatives[n].resize(rows * derivatives, T::ZERO);
            self.argmax[n].resize(rows * argmax, 0);
        }
        self.output.resize(rows * network.outputs(), T::ZERO);
    }
}
