//! Forward mode: derivatives of the output along directions.

use super::{Passes, Point, add, data::channels_last, tape::sizes};
use crate::{
    kernels::{
        block::{self, Term},
        gate,
    },
    network::{Operation, Shape, Source},
    num::Real,
};
use std::{mem::take, ops::Range};

/// Tangents of the data, in both orders, where they move.
struct DataTangent<'a, T> {
    data: &'a [T],
    image: &'a [T],
}

impl<T: Real> Passes<T> {
    /// The derivative of the output, `[rows, outputs]`, along `direction`, a flat vector of which only the part of `blocks` counts.
    pub fn jvp(&mut self, at: &Point<T>, direction: &[T], blocks: Range<usize>) -> Vec<T> {
        let first = at.network.blocks()[blocks.start].node;
        self.push_forward(at, None, direction, blocks, first)
    }

    /// The derivative of the output, `[rows, outputs]`, as the data move along `dx: [rows, inputs]`.
    pub fn jvp_input(&mut self, at: &Point<T>, dx: &[T]) -> Vec<T> {
        let mut image = Vec::new();
        if let Shape::Image(shape) = at.network.input() {
            channels_last(shape, dx, &mut image);
        }
        self.push_forward(at, Some(DataTangent { data: dx, image: &image }), &[], 0..0, 0)
    }

    fn push_forward(
        &mut self,
        at: &Point<T>,
        dx: Option<DataTangent<T>>,
        direction: &[T],
        blocks: Range<usize>,
        first: usize,
    ) -> Vec<T> {
        let (nodes, rows) = (at.network.nodes(), at.tape.rows);
        let mut tangents = take(&mut self.tangents);
        tangents.resize_with(nodes.len(), Vec::new);
        // Empty is what does not move.
        tangents.iter_mut().for_each(Vec::clear);
        for (n, node) in nodes.iter().enumerate().skip(first) {
            let mut out = take(&mut tangents[n]);
            let tangent = |source: &Source| match source {
                Source::Data => dx.as_ref().map(|dx| dx.data),
                Source::Image => dx.as_ref().map(|dx| dx.image),
                Source::Node(n) => Some(&tangents[*n][..]).filter(|tangent| !tangent.is_empty()),
            };
            let carried = tangent(&node.inputs[0]);
            let size = rows * node.shape.len();
            match node.operation {
                Operation::Block(l) => {
                    let block = &at.network.blocks()[l];
                    let carried = carried.map(|x| Term { weights: at.weights, x, bias: false });
                    let input = at.tape.input(block, at.x);
                    let own = blocks.contains(&l).then_some(Term { weights: direction, x: input, bias: true });
                    let (both, one);
                    let terms: &[Term<T>] = match (carried, own) {
                        (Some(carried), Some(own)) => {
                            both = [carried, own];
                            &both
                        }
                        (None, None) => &[],
                        (term, None) | (None, term) => {
                            one = term;
                            one.as_slice()
                        }
                    };
                    if !terms.is_empty() {
                        out.resize(size, T::ZERO);
                        block::jvp(block, terms, at.tape.gate(block), rows, &mut self.block, &mut out);
                    }
                }
                Operation::Activation(activation) => {
                    if let Some(carried) = carried {
                        let (before, behind) = sizes(at.network, node);
                        out.resize(size, T::ZERO);
                        let values = carried.chunks_exact(before).zip(out.chunks_exact_mut(behind));
                        for (row, (a, out)) in values.enumerate() {
                            let derivative = at.tape.gate_of(n).part(row, before, behind);
                            gate::push(&activation, derivative, a, out);
                        }
                    }
                }
                Operation::Sum => {
                    for term in node.inputs.iter().filter_map(tangent) {
                        out.resize(size, T::ZERO);
                        add(&mut out, term);
                    }
                }
            }
            tangents[n] = out;
        }
        let mut output = take(&mut tangents[nodes.len() - 1]);
        self.tangents = tangents;
        output.resize(rows * at.network.outputs(), T::ZERO);
        output
    }
}
