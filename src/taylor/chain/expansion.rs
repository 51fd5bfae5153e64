//! Values and gradients of the Taylor losses of a window, in `f64`: what is reported is computed here.
//!
//! For the mean squared error the objective is quadratic, so it is enough to know it at `W^1` ([`Window::linear_terms`]).

use super::{
    backpropagated_error::BackpropagatedError,
    cursor::{Buffers, Cursor},
    stack::{Layout, Stack},
    window::Window,
};
use crate::{
    kernels::{View, dense::matrix, matmul},
    num::{
        dot,
        pieces::{Cut, PartialSum, map_in_pieces},
    },
    passes::Passes,
    taylor::Expansion,
};
use rayon::prelude::*;
use std::ops::Range;

impl Window<'_, f64> {
    /// For a quadratic loss: the value and gradient of `F` at `W^1` for each prefix, `sum_n` not yet divided by `N`.
    pub fn linear_terms(&self, prefixes: &[usize], blocks: Range<usize>) -> Vec<(f64, Vec<f64>)> {
        let layout = Layout::new(self, blocks, 1);
        let mut total = vec![0.0; layout.len() + 1];
        let mut from = 0;
        let mut terms = Vec::new();
        for prefix in prefixes {
            // Only the rounds since the last prefix; the pieces are fixed by the rounds alone.
            let new = if layout.moves_output() {
                self.linear_term(from..*prefix, &layout)
            } else {
                vec![self.hidden_linear_term(from..*prefix, &layout)]
            };
            for part in new {
                total.iter_mut().zip(&part).for_each(|(sum, v)| *sum += v);
            }
            terms.push((total[0], total[1..].to_vec()));
            from = *prefix;
        }
        terms
    }

    /// The value and, behind it, the gradient at `W^1` over some rounds, by way of the outputs: a sum for each piece of the rounds.
    fn linear_term(&self, rounds: Range<usize>, layout: &Layout) -> Vec<Vec<f64>> {
        let (span, center) = (layout.direction(), vec![0.0; layout.len()]);
        map_in_pieces(rounds.len(), Cut::VECTORS, |piece| {
            let (mut value, mut gradient) = (0.0, vec![0.0; self.network().parameters()]);
            let mut passes = Passes::new();
            for index in piece.map(|at| rounds.start + at) {
                let scale = 1.0 / self.rows().round(index).len() as f64;
                let (loss, _) = self.add_round(index, &layout.blocks, &center, scale, &mut passes, &mut gradient);
                value += loss * scale;
            }
            [&[value], &gradient[span.clone()]].concat()
        })
    }

    /// The mean of the Taylor losses over the first `rounds` rounds at the displacement `u` of `blocks` from `W^1`, for any loss.
    pub fn expand(&self, rounds: usize, blocks: Range<usize>, u: &[f64]) -> Expansion {
        let base = self.network().blocks()[blocks.start].offset;
        let scale = self.scale(rounds);
        let pieces = map_in_pieces(rounds, Cut::VECTORS, |piece| {
            let (mut value, mut gradient) = (0.0, vec![0.0; self.network().parameters()]);
            let (mut outputs, mut passes) = (Vec::new(), Passes::new());
            for index in piece {
                let weight = self.weight(index);
                let (loss, predicted) = self.add_round(index, &blocks, u, scale * weight, &mut passes, &mut gradient);
                value += loss * weight;
                outputs.extend(predicted);
            }
            Expansion { value: value * scale, gradient: gradient[base..base + u.len()].to_vec(), outputs }
        });
        let mut total = Expansion::zero(u.len());
        pieces.into_iter().for_each(|piece| total.add(piece));
        total
    }

    /// The Taylor loss of a round at the displacement `u` of `blocks` from `W^1`, summed over its datapoints, and the outputs predicted there; adds
    /// its gradient times `scale` to that of all weights.
    fn add_round(
        &self,
        index: usize,
        blocks: &Range<usize>,
        u: &[f64],
        scale: f64,
        passes: &mut Passes<f64>,
        gradient: &mut [f64],
    ) -> (f64, Vec<f64>) {
        let network = self.network();
        let base = network.blocks()[blocks.start].offset;
        self.with_round(index, |round| {
            let point = round.point(network);
            let mut direction = vec![0.0; network.parameters()];
            for (at, u) in u.iter().enumerate() {
                direction[base + at] = self.initial()[base + at] + u - round.weights[base + at];
            }
            let mut outputs = passes.jvp(&point, &direction, blocks.clone());
            outputs.iter_mut().zip(round.output).for_each(|(d, f)| *d += f);
            let mut buffers = Default::default();
            let targets = self.targets(&round, &mut buffers);
            let top = passes.output_cotangent(network);
            let loss = self.loss().value_gradient(&outputs, network.outputs(), targets, scale, top);
            passes.vjp(&point, blocks.clone(), gradient);
            (loss, outputs)
        })
    }

    /// [`Window::linear_term`] for hidden blocks; mean squared error.
    ///
    /// With `t` the tangents of the last hidden layer along `W^1 - W^n` and `r` the error of the outputs, the Taylor loss at `W^1` is
    /// `|r + W t|^2 / K`: all that it needs of the outputs are `W'r` and `W'W`, which are known.
    fn hidden_linear_term(&self, rounds: Range<usize>, layout: &Layout) -> Vec<f64> {
        let (errors, span) = (self.errors(), layout.direction());
        let mut sum = self.sum_pieces(&rounds, layout.len() + 1, |piece, sum| {
            let (value, gradient) = sum.split_first_mut().expect("the value comes first");
            let mut buffers = Buffers::default();
            for (group, index) in piece.iter().flat_map(|span| span.rounds.clone().map(|r| (span.group, r))) {
                let round = group.first + index;
                let moved = self.initial()[span.clone()].iter().zip(&self.states[round][span.clone()]);
                let back: Vec<f64> = moved.map(|(start, w)| start - w).collect();
                let stack = Stack::new(self, layout.blocks.clone(), &[&back]);
                let cursor = Cursor::new(self, group, index..index + 1, &stack);
                *value += self.add_hidden_round(&cursor, &errors[round], &mut buffers, gradient);
            }
        });
        let gradient = layout.unstack(&sum[1..]).swap_remove(0);
        sum[1..].copy_from_slice(&gradient);
        sum
    }

    /// Adds the gradient of a single round at its cursor's direction, and returns the value.
    fn add_hidden_round(
        &self,
        cursor: &Cursor<f64>,
        error: &BackpropagatedError,
        buffers: &mut Buffers<f64>,
        gradient: &mut [f64],
    ) -> f64 {
        let batch = cursor.rows() as f64;
        cursor.tangents(buffers);
        cursor.multiply_gram(buffers);
        let Buffers { values: tangent, next, .. } = buffers;
        let BackpropagatedError { cotangent, square } = error;
        let value = (square + dot(cotangent, tangent) + 0.5 * dot(next, tangent)) / batch;
        next.iter_mut().zip(cotangent).for_each(|(next, error)| *next = (*next + error) / batch);
        buffers.swap();
        cursor.vjp(gradient, buffers);
        value
    }

    /// The errors of all rounds; mean squared error.
    fn errors(&self) -> &[BackpropagatedError] {
        self.errors.get_or_init(|| (0..self.rounds()).into_par_iter().map(|round| self.error_of(round)).collect())
    }

    fn error_of(&self, round: usize) -> BackpropagatedError {
        let output = self.output_block();
        self.with_round(round, |round| {
            let (mut buffers, mut error) = (Default::default(), Vec::new());
            let targets = self.targets(&round, &mut buffers);
            let square = self.loss().value_gradient(round.output, output.units, targets, 1.0, &mut error);
            let rows = round.tape.rows;
            let mut cotangent = vec![0.0; rows * output.inputs];
            let error = View::new(&error, rows, output.units);
            matmul(&mut cotangent, output.inputs, error, matrix(output, round.weights), false);
            BackpropagatedError { cotangent, square }
        })
    }
}
