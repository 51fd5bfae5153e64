//! The derivative of the outputs in one neuron's weights, kept for all datapoints: `G: [rows, outputs, width]`.
//!
//! With it a neuron's Taylor loss is a generalized linear model, `T(u) = l(f - s + G u)` with `s = G (w^n - w^1)`, for a filter
//! as for a unit of a dense layer.

use super::sample::{KeptSample, Sample, Shard};
use crate::{
    kernels::block::{Scratch, neuron_gradients},
    num::{
        Real, axpy, convert, dot,
        pieces::{Cut, sum_in_pieces},
        vectorized,
    },
    passes::{Passes, Point},
    taylor::{
        objective::{Direction, Objective, PrefixCursor, PrefixObjective},
        precondition::KroneckerFactors,
    },
};
use rayon::prelude::*;
use std::ops::Range;

/// What one neuron's Taylor losses are made of.
pub struct Gradients {
    width: usize,
    /// `G`.
    values: Vec<f64>,
    /// `f - s: [rows, outputs]`, the predicted outputs at `W^1`.
    start: Vec<f64>,
}

impl Gradients {
    /// Bytes for one neuron of a block.
    pub fn bytes<T: Real>(sample: &Sample<T>, block: usize) -> usize {
        let width = sample.network.blocks()[block].width() + 1;
        sample.rows.rows().len() * sample.network.outputs() * width * size_of::<f64>()
    }

    /// Computes them for some neurons of a block.
    pub fn new<T: Real>(kept: &KeptSample<T>, l: usize, neurons: &[usize]) -> Vec<Self> {
        let sample = &kept.sample;
        let (network, outputs) = (sample.network, sample.network.outputs());
        let block = &network.blocks()[l];
        let width = block.width();
        let capacity = sample.rows.rows().len() * outputs;
        let empty =
            || Self { width, values: Vec::with_capacity(capacity * width), start: Vec::with_capacity(capacity) };
        let mut all: Vec<Self> = neurons.iter().map(|_| empty()).collect();
        for round in (0..sample.rounds()).take_while(|_| !kept.is_stopped()) {
            let weights: Vec<f64> = sample.weights(round);
            let parts: Vec<(Vec<f64>, Vec<f64>)> = (0..sample.shards(round))
                .into_par_iter()
                .with_max_len(1)
                .map(|shard| {
                    let mut passes = Passes::new();
                    let linearized = kept.linearized(round, shard, &weights, &mut passes);
                    let Shard { x, tape } = &*linearized;
                    let point = Point { network, weights: &weights, x, tape };
                    let mut values = Vec::new();
                    passes.output_jacobians(&point, l, |at, jacobian| {
                        if at == l {
                            let (x, scratch) = (tape.input(block, x), &mut Scratch::default());
                            values = neuron_gradients(block, jacobian, x, tape.rows, neurons, scratch);
                        }
                    });
                    (values, tape.output.clone())
                })
                .collect();
            for (n, (neuron, all)) in neurons.iter().zip(&mut all).enumerate() {
                let span = block.neuron(*neuron);
                let moved: Vec<f64> = weights[span.clone()]
                    .iter()
                    .zip(&sample.states[0][span])
                    .map(|(w, start)| w - start.to_f64())
                    .collect();
                for (values, f) in &parts {
                    let own = &values[n * f.len() * width..(n + 1) * f.len() * width];
                    all.start.extend(own.chunks_exact(width).zip(f).map(|(g, f)| f - dot(g, &moved)));
                    all.values.extend_from_slice(own);
                }
            }
        }
        all
    }
}

/// The objective of one neuron over a prefix of the sampled rounds.
pub struct NeuronObjective<'a, T> {
    sample: &'a Sample<'a, T>,
    gradients: Gradients,
    preconditioner: &'a KroneckerFactors,
    cursor: PrefixCursor,
    /// The outputs at which the Hessian of the loss is taken.
    moved: Vec<f64>,
}

impl<'a, T: Real> NeuronObjective<'a, T> {
    pub fn new(
        sample: &'a Sample<'a, T>,
        gradients: Gradients,
        preconditioner: &'a KroneckerFactors,
        prefixes: &[usize],
    ) -> Self {
        let cursor = PrefixCursor::new(prefixes, sample.rows.largest());
        Self { sample, gradients, preconditioner, cursor, moved: Vec::new() }
    }

    fn outputs(&self) -> usize {
        self.sample.network.outputs()
    }

    /// Sums what `derivatives(round, shard, first row, rows)` gives for each shard, as multiples of the rows of `G`: `[width]`, and a number.
    ///
    /// The derivatives are `[rows of the shard]`, for `G u` of the shard.
    fn accumulate(
        &self,
        rounds: Range<usize>,
        u: &[f64],
        derivatives: impl Fn(usize, usize, usize, &mut Vec<f64>) -> f64 + Sync,
    ) -> (f64, Vec<f64>) {
        let (width, outputs) = (self.gradients.width, self.outputs());
        let all = self.sample.shards_of(rounds);
        let sum = sum_in_pieces(all.len(), Cut::VECTORS, |piece| {
            let (mut value, mut sum, mut s) = (0.0, vec![0.0; width], Vec::new());
            for (round, shard) in &all[piece] {
                let rows = self.sample.span(*round, *shard);
                let (first, count) = (rows.start * outputs, rows.len() * outputs);
                let g = &self.gradients.values[first * width..(first + count) * width];
                vectorized(
                    #[inline(always)]
                    || {
                        s.clear();
                        s.extend(g.chunks_exact(width).map(|g| dot(g, u)));
                    },
                );
                value += derivatives(*round, *shard, first, &mut s);
                vectorized(
                    #[inline(always)]
                    || {
                        g.chunks_exact(width).zip(&s).for_each(|(g, s)| axpy(*s, g, &mut sum));
                    },
                );
            }
            (value, sum)
        });
        sum.unwrap_or_else(|| (0.0, vec![0.0; width]))
    }
}

impl<T: Real> PrefixObjective for NeuronObjective<'_, T> {
    fn cursor(&mut self) -> &mut PrefixCursor {
        &mut self.cursor
    }
}

impl<T: Real> Objective for NeuronObjective<'_, T> {
    fn dimension(&self) -> usize {
        self.gradients.width
    }

    fn is_quadratic(&self) -> bool {
        self.sample.loss.is_quadratic()
    }

    fn rounds(&self) -> usize {
        self.cursor.rounds()
    }

    fn evaluate(&self, u: &[f64]) -> (f64, Vec<f64>) {
        let scale = self.cursor.scale();
        let (value, gradient) = self.accumulate(0..self.rounds(), u, |round, shard, first, s| {
            let predicted: Vec<f64> = s.iter().zip(&self.gradients.start[first..]).map(|(s, f)| s + f).collect();
            let weight = self.sample.rows.weight(round);
            self.sample.loss_of(round, shard, &predicted, scale * weight, s) * weight
        });
        (value * scale, gradient)
    }

    fn linearize(&mut self, u: &[f64]) {
        if !self.is_quadratic() {
            let count = self.sample.rows.start(self.rounds()) * self.outputs();
            let width = self.gradients.width;
            let g = self.gradients.values.par_chunks_exact(width).zip(&self.gradients.start[..count]);
            self.moved = g.map(|(g, f)| f + dot(g, u)).collect();
        }
    }

    fn ggn_products(&self, from: usize, directions: &[&[f32]]) -> Vec<Vec<f32>> {
        let (scale, outputs) = (self.cursor.scale(), self.outputs());
        let image = |direction: &&[f32]| {
            let wide: Vec<f64> = convert(direction);
            let (_, image) = self.accumulate(from..self.rounds(), &wide, |round, _, first, s| {
                let at = if self.is_quadratic() { &[] } else { &self.moved[first..first + s.len()] };
                self.sample.loss.apply_hessian(at, outputs, scale * self.sample.rows.weight(round), s);
                0.0
            });
            convert(&image)
        };
        directions.iter().map(image).collect()
    }

    fn precondition(&self, multiplier: f64, residual: &[f64]) -> Direction {
        self.preconditioner.solve_row(multiplier, residual).into()
    }
}
