//! Backward mode: gradients of `<cotangent, output>`.

use super::{Passes, Point, add, data::add_channels_first, tape::sizes};
use crate::{
    kernels::{
        activation::{self, ActivationDerivative},
        block::{self, Cotangents},
    },
    network::{Block, Network, Operation, Shape, Source},
    num::Real,
};
use std::{mem::swap, mem::take, ops::Range};

/// How far down a backward pass goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// The first node whose cotangent is needed.
    pub(super) lowest: usize,
    /// Whether those of the data are needed.
    pub(super) data: bool,
}

impl Reach {
    /// Where the cotangent of a value is kept, if it is needed.
    fn slot(self, network: &Network, source: Source) -> Option<usize> {
        let nodes = network.nodes().len();
        match source {
            Source::Node(n) => (n >= self.lowest).then_some(n),
            Source::Data => self.data.then_some(nodes),
            Source::Image => self.data.then_some(nodes + 1),
        }
    }
}

impl<T: Real> Passes<T> {
    /// The cotangent of the output, `[rows, outputs]`, which is filled before [`Passes::vjp`].
    pub fn output_cotangent(&mut self, network: &Network) -> &mut Vec<T> {
        let nodes = network.nodes().len();
        self.cotangents.resize_with(nodes + 2, Vec::new);
        &mut self.cotangents[nodes - 1]
    }

    /// Backward pass from [`Passes::output_cotangent`] down to the first of `blocks`, whose gradients are *added* to `gradient`, a flat
    /// vector. It leaves behind [`Passes::cotangent`] of what it has passed.
    pub fn vjp(&mut self, at: &Point<T>, blocks: Range<usize>, gradient: &mut [T]) {
        let lowest = at.network.blocks()[blocks.start].node;
        self.backward(at, Reach { lowest, data: false }, blocks, gradient);
    }

    /// The gradient in the data, `[rows, inputs]`, for the cotangent `[rows, outputs]` of the output.
    pub fn vjp_input(&mut self, at: &Point<T>, cotangent: &[T]) -> Vec<T> {
        let nodes = at.network.nodes().len();
        let top = self.output_cotangent(at.network);
        top.clear();
        top.extend_from_slice(cotangent);
        self.backward(at, Reach { lowest: 0, data: true }, 0..0, &mut []);
        let mut dx = vec![T::ZERO; at.tape.rows * at.network.inputs()];
        if self.begun[nodes] {
            add(&mut dx, &self.cotangents[nodes]);
        }
        if let (true, Shape::Image(image)) = (self.begun[nodes + 1], at.network.input()) {
            add_channels_first(image, &self.cotangents[nodes + 1], &mut dx);
        }
        dx
    }

    fn backward(&mut self, at: &Point<T>, reach: Reach, blocks: Range<usize>, gradient: &mut [T]) {
        self.begin(at.network);
        for (n, node) in at.network.nodes().iter().enumerate().skip(reach.lowest).rev() {
            let own = match node.operation {
                Operation::Block(l) if blocks.contains(&l) => {
                    let block = &at.network.blocks()[l];
                    Some((at.tape.input(block, at.x), &mut gradient[block.range()]))
                }
                _ => None,
            };
            self.vjp_of_node(at, n, 1, reach, own);
        }
    }

    /// The cotangent of what a block gives, behind its rectifier and pool, `[rows, features out]`, after a backward pass that went that far.
    pub fn cotangent(&self, block: &Block) -> &[T] {
        &self.cotangents[block.node]
    }

    /// The cotangent of the pre-activations of a *dense* block, `[rows, units]`, after such a pass.
    pub fn delta(&self, block: &Block) -> &[T] {
        match &self.deltas[block.node][..] {
            [] => self.cotangent(block),
            delta => delta,
        }
    }

    /// Nothing has a cotangent but the output.
    pub(super) fn begin(&mut self, network: &Network) {
        let nodes = network.nodes().len();
        self.begun.clear();
        self.begun.resize(nodes + 2, false);
        self.begun[nodes - 1] = true;
        self.deltas.resize_with(nodes, Vec::new);
    }

    /// A buffer for a cotangent of `len` values that goes to `slot`; [`Passes::close`] takes it there.
    fn open(&mut self, slot: usize, len: usize) -> Vec<T> {
        let mut buffer = if self.begun[slot] { take(&mut self.addend) } else { take(&mut self.cotangents[slot]) };
        if buffer.capacity() == 0 {
            buffer = self.spare.pop().unwrap_or_default();
        }
        buffer.resize(len, T::ZERO);
        buffer
    }

    fn close(&mut self, slot: usize, buffer: Vec<T>) {
        if self.begun[slot] {
            add(&mut self.cotangents[slot], &buffer);
            self.addend = buffer;
        } else {
            (self.cotangents[slot], self.begun[slot]) = (buffer, true);
        }
    }

    /// Takes the cotangents of a node's value, `[rows, per_datapoint, features]`, to those of its inputs; `own` is the input of a block and its part
    /// of the gradient, which is added to.
    pub(super) fn vjp_of_node(
        &mut self,
        at: &Point<T>,
        n: usize,
        per_datapoint: usize,
        reach: Reach,
        own: Option<(&[T], &mut [T])>,
    ) {
        if !self.begun[n] {
            return;
        }
        let node = &at.network.nodes()[n];
        let (values, rows) = (take(&mut self.cotangents[n]), at.tape.rows);
        let slot = reach.slot(at.network, node.inputs[0]);
        match node.operation {
            Operation::Block(l) => {
                let block = &at.network.blocks()[l];
                let cotangents = Cotangents { values: &values, per_datapoint, derivative: at.tape.derivative(block) };
                let mut below = slot.map(|slot| self.open(slot, rows * per_datapoint * block.features_in()));
                let to = below.as_mut().map(|below| (at.weights, &mut below[..]));
                swap(&mut self.block.delta, &mut self.deltas[n]);
                block::vjp(block, cotangents, rows, own, to, &mut self.block);
                swap(&mut self.block.delta, &mut self.deltas[n]);
                if let (Some(slot), Some(below)) = (slot, below) {
                    self.close(slot, below);
                }
            }
            Operation::Activation(activation) => {
                if let Some(slot) = slot {
                    let (before, behind) = sizes(at.network, node);
                    let mut below = self.open(slot, rows * per_datapoint * before);
                    let pairs = values.chunks_exact(behind).zip(below.chunks_exact_mut(before));
                    for (k, (cotangent, below)) in pairs.enumerate() {
                        let derivative = at.tape.node_derivative(n).part(k / per_datapoint, before, behind);
                        activation::vjp(&activation, derivative, cotangent, below);
                    }
                    self.close(slot, below);
                }
            }
            Operation::Sum => {
                for slot in node.inputs.iter().filter_map(|source| reach.slot(at.network, *source)) {
                    let mut below = self.open(slot, values.len());
                    below.copy_from_slice(&values);
                    self.close(slot, below);
                }
            }
        }
        self.cotangents[n] = values;
    }

    /// Gives the buffer of a node's cotangent back.
    pub(super) fn release(&mut self, n: usize) {
        let buffer = take(&mut self.cotangents[n]);
        self.spare.push(buffer);
    }

    /// The cotangents of a block as its operations take them.
    pub(super) fn cotangents_of<'a>(
        &'a self,
        block: &Block,
        per_datapoint: usize,
        derivative: ActivationDerivative<'a, T>,
    ) -> Cotangents<'a, T> {
        Cotangents { values: &self.cotangents[block.node], per_datapoint, derivative }
    }
}
