//! The forward pass.

use super::{
    Passes, Tape, add,
    data::{channels_last, reordered},
    tape::sizes,
};
use crate::{
    kernels::{
        activation,
        block::{self, Recorded},
    },
    network::{Activation, Network, Operation},
    num::Real,
};
use std::mem::take;

impl<T: Real> Passes<T> {
    /// Forward pass of `rows` datapoints `x: [rows, inputs]`, filling `tape`; calls `visit(l, row, a)` with the pre-activations
    /// `[positions, units]` of every hidden block and datapoint.
    pub fn forward(
        &mut self,
        network: &Network,
        weights: &[T],
        x: &[T],
        rows: usize,
        tape: &mut Tape<T>,
        mut visit: impl FnMut(usize, usize, &[T]),
    ) {
        tape.resize(network, rows);
        if let Some(image) = reordered(network) {
            channels_last(image, x, &mut tape.image);
        }
        let (last, hidden) = network.nodes().split_last().expect("a network has a node");
        for (n, node) in hidden.iter().enumerate() {
            let (mut out, mut derivatives, mut argmax) =
                (take(&mut tape.hidden[n]), take(&mut tape.derivatives[n]), take(&mut tape.argmax[n]));
            let input = tape.value(node.inputs[0], x);
            match node.operation {
                Operation::Block(l) => {
                    let block = &network.blocks()[l];
                    let recorded = Recorded { out: &mut out, derivatives: &mut derivatives, argmax: &mut argmax };
                    let visit = |row: usize, a: &[T]| visit(l, row, a);
                    block::forward(block, weights, input, rows, recorded, &mut self.block, visit);
                }
                Operation::Activation(activation) => {
                    let recorded = Recorded { out: &mut out, derivatives: &mut derivatives, argmax: &mut argmax };
                    activate(&activation, input, sizes(network, node), recorded);
                }
                Operation::Sum => {
                    out.copy_from_slice(input);
                    node.inputs[1..].iter().for_each(|source| add(&mut out, tape.value(*source, x)));
                }
            }
            (tape.hidden[n], tape.derivatives[n], tape.argmax[n]) = (out, derivatives, argmax);
        }
        let mut output = take(&mut tape.output);
        block::output(network.output_block(), weights, tape.value(last.inputs[0], x), rows, &mut output);
        tape.output = output;
    }
}

/// An activation behind no block, a datapoint of `before` values after the other.
fn activate<T: Real>(activation: &Activation, input: &[T], (before, behind): (usize, usize), recorded: Recorded<T>) {
    let Recorded { out, derivatives, argmax } = recorded;
    let rows = input.chunks_exact(before).zip(out.chunks_exact_mut(behind)).enumerate();
    for (row, (a, out)) in rows {
        match activation.max_pool() {
            Some(pool) => {
                activation::max_pool(activation.rectifier, pool, a, out, &mut argmax[row * behind..][..behind]);
            }
            None => activation::rectify(activation, a, out, &mut derivatives[row * before..][..before]),
        }
    }
}
