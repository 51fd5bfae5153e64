//! What the preconditioners of a window sum over its rounds, and how rounds are sampled.
//!
//! Rounds count the same, whatever their minibatch: sums over datapoints have the weights of [`Window::scale`], and each round is counted as
//! the largest minibatch's number of datapoints.

use super::window::{Window, WindowRound, weighted};
use crate::{
    kernels::{
        View,
        dense::{append_inputs, matrix},
        factor::Factor,
        matmul,
    },
    network::Block,
    num::pieces::{Cut, PartialSum, add_in_pieces},
    passes::{curvature_factors, hidden_jacobians},
    taylor::precondition::moments::{Moments, add},
};
use std::ops::Range;

/// Rounds whose inputs go into one product.
const TOGETHER: usize = 8;
/// The mean curvature and the mean Jacobian are taken over every `EVERY`-th round, since they change slowly, and so are the moments of inputs that
/// are kept by columns, since they cost most.
const EVERY: usize = 4;
/// The first `ALL` rounds are never skipped for the mean curvature and the moments of inputs, so that short prefixes have samples.
const ALL: usize = 64;

/// Whether a round, counted from 0, is one of every [`EVERY`].
fn is_regular(round: usize) -> bool {
    round.is_multiple_of(EVERY)
}

/// Whether a round counts for the mean curvature.
fn is_sampled(round: usize) -> bool {
    is_regular(round) || round < ALL
}

/// The moments of all blocks of a network.
#[derive(Clone)]
pub(super) struct NetworkMoments(pub(super) Vec<Moments>);

impl PartialSum for NetworkMoments {
    fn add(&mut self, next: Self) {
        self.0.iter_mut().zip(next.0).for_each(|(sum, next)| sum.add(next));
    }
}

impl NetworkMoments {
    /// Of no rounds; with `shared`, hidden blocks have their moments with the output block too.
    pub(super) fn zero(blocks: &[Block], shared: bool) -> Self {
        let last = blocks.len() - 1;
        let one = |(l, block): (usize, &Block)| {
            let own = Moments::zero(block.units, block.width());
            if shared && l < last { own.sharing_with(&blocks[last]) } else { own }
        };
        Self(blocks.iter().enumerate().map(one).collect())
    }

    /// Adds some rounds of a window, in fixed pieces; these stop short once `stopped`.
    pub(super) fn add_rounds(
        &mut self,
        window: &Window<f64>,
        rounds: Range<usize>,
        stopped: &(dyn Fn() -> bool + Sync),
    ) {
        let blocks = window.network().blocks();
        let shared = self.0.iter().any(|moments| moments.shared.is_some());
        add_in_pieces(self, rounds.len(), Cut::MATRICES, |piece| {
            let mut part = Self::zero(blocks, shared);
            let mut inputs: Vec<Vec<f64>> = vec![Vec::new(); blocks.len()];
            let piece: Vec<usize> = piece.map(|at| rounds.start + at).collect();
            for together in piece.chunks(TOGETHER).take_while(|_| !stopped()) {
                part.add_outputs(window, together);
                gather_inputs(window, together, &mut inputs);
                part.add_inputs(window, together, &inputs);
            }
            part
        });
    }

    /// Adds the curvatures and Jacobians of some rounds.
    fn add_outputs(&mut self, window: &Window<f64>, rounds: &[usize]) {
        for index in rounds.iter().filter(|index| is_sampled(**index)) {
            window.with_round(*index, |round| {
                self.add_curvature(window, &round);
                if is_regular(*index) {
                    self.add_jacobians(window, &round);
                }
            });
        }
    }

    /// Adds the products of the inputs that were gathered of some rounds.
    fn add_inputs(&mut self, window: &Window<f64>, rounds: &[usize], inputs: &[Vec<f64>]) {
        let output = inputs.last().expect("a network has a block");
        let inner = self.0.last().expect("a network has a block").width;
        for (l, (moments, x)) in self.0.iter_mut().zip(inputs).enumerate() {
            let width = moments.width;
            let view = View::new(x, x.len() / width, width);
            let counted: Vec<usize> = rounds.iter().copied().filter(|index| counts_inputs(window, l, *index)).collect();
            moments.rows += counted.len() * window.rows().largest();
            if l == 0 && window.by_columns() {
                window.add_input_products(&counted, x, width, &mut moments.x);
                if let Some(shared) = &mut moments.shared {
                    window.add_input_products(rounds, output, inner, &mut shared.x);
                }
                continue;
            }
            matmul(&mut moments.x, width, view.t(), view, true);
            if let Some(shared) = &mut moments.shared {
                matmul(&mut shared.x, inner, view.t(), View::new(output, output.len() / inner, inner), true);
            }
        }
    }

    /// Adds a round's curvatures.
    fn add_curvature(&mut self, window: &Window<f64>, round: &WindowRound<f64>) {
        let network = window.network();
        let (rows, root) = (round.tape.rows, window.weight(round.index).sqrt());
        let counted = window.rows().largest();
        let mut storage = Vec::new();
        let top = window.loss().hessian_factor(round.output, network.outputs(), &mut storage);
        curvature_factors(&round.point(network), top, 0, true, |l, factor| {
            let moments = &mut self.0[l];
            let units = moments.units;
            moments.curved += counted;
            let (values, count, times) = match factor {
                Factor::Identity { scale } => {
                    moments.multiple += counted as f64 * scale * scale;
                    return;
                }
                Factor::Shared { values, rank } => (values, rank, rows),
                Factor::PerRow { values, rank } => (values, rows * rank, 1),
            };
            moments.m.resize(units * units, 0.0);
            let values = weighted(values, root);
            let view = View::new(&values, count, units);
            for _ in 0..times {
                matmul(&mut moments.m, units, view.t(), view, true);
            }
        });
    }

    /// Adds a round's output Jacobians to the moments of the hidden blocks that have them.
    fn add_jacobians(&mut self, window: &Window<f64>, round: &WindowRound<f64>) {
        if self.0.iter().all(|moments| moments.shared.is_none()) {
            return;
        }
        let network = window.network();
        let output = network.output_block();
        let w = matrix(output, round.weights);
        let (weight, counted) = (window.weight(round.index), window.rows().largest());
        hidden_jacobians(&round.point(network), 0, |l, values| {
            let Moments { units, shared: Some(shared), .. } = &mut self.0[l] else { return };
            let mut sum = vec![0.0; output.inputs * *units];
            for row in values.chunks_exact(sum.len()) {
                add(&mut sum, row);
            }
            let sum = weighted(&sum, weight);
            matmul(&mut shared.jacobian, *units, w, View::new(&sum, output.inputs, *units), true);
            shared.count += counted;
        });
    }
}

/// Whether the inputs of block `l` in a round count: those of a first block that are kept by columns only in sampled rounds.
fn counts_inputs(window: &Window<f64>, l: usize, round: usize) -> bool {
    l > 0 || is_sampled(round) || !window.by_columns()
}

/// Gathers the inputs of every block in those of some rounds where they count, `[rows, width]`, times the square root of the rounds' weights.
fn gather_inputs(window: &Window<f64>, rounds: &[usize], inputs: &mut [Vec<f64>]) {
    inputs.iter_mut().for_each(Vec::clear);
    for index in rounds {
        window.with_round(*index, |round| {
            for (l, (block, inputs)) in window.network().blocks().iter().zip(&mut *inputs).enumerate() {
                if !counts_inputs(window, l, *index) {
                    continue;
                }
                let from = inputs.len();
                append_inputs(block, round.tape.input(block, round.x), inputs);
                let root = window.weight(*index).sqrt();
                if root != 1.0 {
                    inputs[from..].iter_mut().for_each(|x| *x *= root);
                }
            }
        });
    }
}
