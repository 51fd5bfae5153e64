//! The loss of the outputs of some rounds, by itself: what is left of the Taylor losses once the outputs at a displacement are known.

use crate::{
    data::RoundRows,
    loss::{Loss, Targets, multiply_covariance, softmax_into},
    num::{
        convert,
        pieces::{Cut, PartialSum, map_in_pieces},
    },
};
use rayon::prelude::*;
use std::ops::Range;

/// Datapoints per piece of work.
const ROWS: usize = 1024;

/// `sum_i s_i loss(f_i, y_i)` over the datapoints of the first rounds, for a loss of classes.
pub struct OutputLoss<'a> {
    loss: Loss,
    /// Outputs of a datapoint.
    outputs: usize,
    rows: &'a RoundRows,
    /// Of the datapoints of all rounds.
    labels: Vec<u32>,
}

/// Value and cotangents of a piece of the rounds.
struct Part {
    value: f64,
    cotangents: Vec<f64>,
}

impl PartialSum for Part {
    fn add(&mut self, next: Self) {
        self.value += next.value;
        self.cotangents.extend(next.cotangents);
    }
}

impl<'a> OutputLoss<'a> {
    /// `labels` are those of the datapoints of all rounds, in order.
    pub fn new(loss: Loss, outputs: usize, rows: &'a RoundRows, labels: Vec<u32>) -> Self {
        Self { loss, outputs, rows, labels }
    }

    /// Where the outputs of a round lie among those of all, `[rows, outputs]`.
    fn span(&self, round: usize) -> Range<usize> {
        let rows = self.rows.span(round);
        rows.start * self.outputs..rows.end * self.outputs
    }

    /// What a datapoint of a round is multiplied by in the mean over the first `rounds` rounds.
    fn scale(&self, rounds: usize, round: usize) -> f64 {
        self.rows.weight(round) / (rounds * self.rows.largest()) as f64
    }

    /// The mean of the losses over the first `rounds` rounds at the outputs `f: [rows, outputs]`, and its gradient there.
    pub fn value_gradient(&self, rounds: usize, f: &[f64]) -> (f64, Vec<f64>) {
        let parts = map_in_pieces(rounds, Cut::VECTORS, |piece| {
            let (mut part, mut gradient) = (Part { value: 0.0, cotangents: Vec::new() }, Vec::new());
            for round in piece {
                let (own, scale) = (&f[self.span(round)], self.scale(rounds, round));
                let labels = Targets::Labels(&self.labels[self.rows.span(round)]);
                part.value += scale * self.loss.value_gradient(own, self.outputs, labels, scale, &mut gradient);
                part.cotangents.extend_from_slice(&gradient);
            }
            part
        });
        let mut parts = parts.into_iter();
        let first = parts.next().unwrap_or(Part { value: 0.0, cotangents: Vec::new() });
        let Part { value, cotangents } = parts.fold(first, |mut sum, part| {
            sum.add(part);
            sum
        });
        (value, cotangents)
    }

    /// What [`OutputLoss::hessian_products`] needs of the outputs `f` of the first `rounds` rounds: their softmax.
    pub fn softmax(&self, rounds: usize, f: &[f64]) -> Vec<f32> {
        let rows = &f[..self.rows.start(rounds) * self.outputs];
        map_in_pieces(rows.len() / self.outputs, Cut::Every(ROWS), |piece| {
            let own: Vec<f32> = convert(&rows[piece.start * self.outputs..piece.end * self.outputs]);
            let mut p = Vec::with_capacity(own.len());
            own.chunks_exact(self.outputs).for_each(|f| {
                softmax_into(f, &mut p);
            });
            p
        })
        .concat()
    }

    /// The Hessian of the mean over the first `rounds` rounds, at the outputs with this softmax, times each of the tangents `[rows, outputs]`.
    pub fn hessian_products(&self, rounds: usize, softmax: &[f32], tangents: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let product = |tangent: &Vec<f32>| {
            let mut product = tangent.clone();
            for round in 0..rounds {
                let (span, scale) = (self.span(round), self.scale(rounds, round) as f32);
                let rows = softmax[span.clone()].chunks_exact(self.outputs);
                for (p, own) in rows.zip(product[span].chunks_exact_mut(self.outputs)) {
                    multiply_covariance(p, scale, own);
                }
            }
            product
        };
        tangents.par_iter().map(product).collect()
    }
}
