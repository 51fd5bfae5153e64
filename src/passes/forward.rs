//! The forward pass.

use super::{
    Passes, Tape, add,
    data::{channels_last, reordered},
    tape::sizes,
};
use crate::{
    kernels::{
        block::{self, Recorded},
        gate,
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
            let (mut out, mut slopes, mut winners) =
                (take(&mut tape.hidden[n]), take(&mut tape.slopes[n]), take(&mut tape.winners[n]));
            let input = tape.value(node.inputs[0], x);
            match node.operation {
                Operation::Block(l) => {
                    let block = &network.blocks()[l];
                    let recorded = Recorded { out: &mut out, slopes: &mut slopes, winners: &mut winners };
                    let visit = |row: usize, a: &[T]| visit(l, row, a);
                    block::forward(block, weights, input, rows, recorded, &mut self.block, visit);
                }
                Operation::Activation(activation) => {
                    let recorded = Recorded { out: &mut out, slopes: &mut slopes, winners: &mut winners };
                    activate(&activation, input, sizes(network, node), recorded);
                }
                Operation::Sum => {
                    out.copy_from_slice(input);
                    node.inputs[1..].iter().for_each(|source| add(&mut out, tape.value(*source, x)));
                }
            }
            (tape.hidden[n], tape.slopes[n], tape.winners[n]) = (out, slopes, winners);
        }
        let mut output = take(&mut tape.output);
        block::output(network.output_block(), weights, tape.value(last.inputs[0], x), rows, &mut output);
        tape.output = output;
    }
}

/// An activation behind no block, a datapoint of `before` values after the other.
fn activate<T: Real>(activation: &Activation, input: &[T], (before, behind): (usize, usize), recorded: Recorded<T>) {
    let Recorded { out, slopes, winners } = recorded;
    let rows = input.chunks_exact(before).zip(out.chunks_exact_mut(behind)).enumerate();
    for (row, (a, out)) in rows {
        match activation.max_pool() {
            Some(pool) => {
                gate::max_pool(activation.rectifier, pool, a, out, &mut winners[row * behind..][..behind]);
            }
            None => gate::rectify(activation, a, out, &mut slopes[row * before..][..before]),
        }
    }
}
