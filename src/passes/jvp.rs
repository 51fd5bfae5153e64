//! Forward mode: derivatives of the output along directions.

use super::{Passes, Point, add, data::channels_last, tape::sizes};
use crate::{
    kernels::{
        activation,
        block::{self, Term},
    },
    network::{Operation, Shape, Source},
    num::Real,
};
use std::{mem::take, ops::Range};

/// What moves in a forward-mode pass.
struct Motion<'a, T> {
    /// The tangents of the data, and of the data as images, where they move.
    data: Option<[&'a [T]; 2]>,
    /// Of which the part of `blocks` counts.
    weights: &'a [T],
    blocks: Range<usize>,
}

impl<T: Real> Passes<T> {
    /// The derivative of the output, `[rows, outputs]`, along `direction`, a flat vector of which only the part of `blocks` counts.
    pub fn jvp(&mut self, at: &Point<T>, direction: &[T], blocks: Range<usize>) -> Vec<T> {
        let first = at.network.blocks()[blocks.start].node;
        self.jvp_along(at, &Motion { data: None, weights: direction, blocks }, first)
    }

    /// The derivative of the output, `[rows, outputs]`, as the data move along `dx: [rows, inputs]`.
    pub fn jvp_input(&mut self, at: &Point<T>, dx: &[T]) -> Vec<T> {
        let mut image = Vec::new();
        if let Shape::Image(shape) = at.network.input() {
            channels_last(shape, dx, &mut image);
        }
        self.jvp_along(at, &Motion { data: Some([dx, &image]), weights: &[], blocks: 0..0 }, 0)
    }

    /// Takes tangents from the node `first` to the output.
    fn jvp_along(&mut self, at: &Point<T>, motion: &Motion<T>, first: usize) -> Vec<T> {
        let nodes = at.network.nodes();
        let mut tangents = take(&mut self.tangents);
        tangents.resize_with(nodes.len(), Vec::new);
        // Empty is what does not move.
        tangents.iter_mut().for_each(Vec::clear);
        for n in first..nodes.len() {
            let mut out = take(&mut tangents[n]);
            let tangent = |source: Source| match source {
                Source::Data => motion.data.map(|[data, _]| data),
                Source::Image => motion.data.map(|[_, image]| image),
                Source::Node(n) => Some(&tangents[n][..]).filter(|tangent| !tangent.is_empty()),
            };
            self.jvp_of_node(at, motion, n, tangent, &mut out);
            tangents[n] = out;
        }
        let mut output = take(&mut tangents[nodes.len() - 1]);
        self.tangents = tangents;
        output.resize(at.tape.rows * at.network.outputs(), T::ZERO);
        output
    }

    /// The tangent of a node's value from those of its inputs; `out` is empty before, and stays so if nothing moves.
    fn jvp_of_node<'b>(
        &mut self,
        at: &Point<T>,
        motion: &Motion<T>,
        n: usize,
        tangent: impl Fn(Source) -> Option<&'b [T]>,
        out: &mut Vec<T>,
    ) {
        let (node, rows) = (&at.network.nodes()[n], at.tape.rows);
        let size = rows * node.shape.len();
        let carried = tangent(node.inputs[0]);
        match node.operation {
            Operation::Block(l) => {
                let block = &at.network.blocks()[l];
                let own = Term { weights: motion.weights, x: at.tape.input(block, at.x), bias: true };
                let carried = carried.map(|x| Term { weights: at.weights, x, bias: false });
                let terms = carried.into_iter().chain(motion.blocks.contains(&l).then_some(own));
                let terms: Vec<Term<T>> = terms.collect();
                if !terms.is_empty() {
                    out.resize(size, T::ZERO);
                    block::jvp(block, &terms, at.tape.derivative(block), rows, &mut self.block, out);
                }
            }
            Operation::Activation(activation) => {
                let Some(carried) = carried else { return };
                let (before, behind) = sizes(at.network, node);
                out.resize(size, T::ZERO);
                let values = carried.chunks_exact(before).zip(out.chunks_exact_mut(behind));
                for (row, (a, out)) in values.enumerate() {
                    activation::jvp(&activation, at.tape.node_derivative(n).part(row, before, behind), a, out);
                }
            }
            Operation::Sum => {
                for term in node.inputs.iter().filter_map(|source| tangent(*source)) {
                    out.resize(size, T::ZERO);
                    add(out, term);
                }
            }
        }
    }
}
