//! Gradients beyond the minibatch's mean, for optimizers that ask for them: sums of squares of per-example gradients,
//! and the gradient of all rows.

use super::{Examples, Part, RoundEngine};
use crate::{
    kernels::{
        Real,
        conv::{self, Cotangents, Scratch},
        dense::accumulate_outer,
    },
    loss::Loss,
    network::{Block, Convolution, Network},
};
use rayon::prelude::*;

/// `out = sum_d g_d^2`, coordinatewise, over the examples `d` of a computed minibatch (`docs/theory.md`, section 5).
///
/// `g_d` is the gradient of the example's share `l_d / B` of the mean loss. It is never formed: a dense layer has
/// `g_d = delta_d x_d'`, so the sum is `(delta^2)' (x^2)` with squares taken elementwise, as large as a gradient. A filter of a
/// convolution has `g_d` a sum over positions, whose square is no sum of squares: there the block's `g_d` are formed, one
/// at a time in one buffer.
pub fn sum_of_squared_gradients<T: Real>(network: &Network, parts: &[Part<T>], out: &mut [T]) {
    let sums: Vec<Vec<T>> = parts
        .par_iter()
        .with_max_len(1)
        .map(|part| {
            let mut sum = vec![T::ZERO; out.len()];
            let rows = part.rows.len();
            for (l, block) in network.blocks().iter().enumerate() {
                if let Some(convolution) = block.convolution() {
                    add_squares_of_filters(block, convolution, part, l, &mut sum[block.range()]);
                    continue;
                }
                let (delta, x) = (squared(&part.deltas[l]), squared(part.tape.input(l, &part.x)));
                accumulate_outer(block, &delta, &x, rows, &mut sum[block.range()]);
            }
            sum
        })
        .collect();
    out.fill(T::ZERO);
    for sum in sums {
        out.iter_mut().zip(sum).for_each(|(total, sum)| *total += sum);
    }
}

/// Adds the squares of the examples' gradients of a convolution, example by example.
fn add_squares_of_filters<T: Real>(block: &Block, convolution: &Convolution, part: &Part<T>, l: usize, sum: &mut [T]) {
    let inputs = part.tape.input(l, &part.x).chunks_exact(block.features_in());
    let (mut gradient, mut scratch) = (vec![T::ZERO; sum.len()], Scratch::default());
    for (row, (x, delta)) in inputs.zip(part.deltas[l].chunks_exact(block.features_out())).enumerate() {
        let cotangents = Cotangents { values: delta, lines: 1, gate: part.tape.gate(l).row(row, block) };
        gradient.fill(T::ZERO);
        conv::backward(block, convolution, cotangents, 1, Some((x, &mut gradient)), None, &mut scratch);
        sum.iter_mut().zip(&gradient).for_each(|(sum, g)| *sum += *g * *g);
    }
}

fn squared<T: Real>(values: &[T]) -> Vec<T> {
    values.iter().map(|v| *v * *v).collect()
}

/// Rows per piece of the full gradient; fixed, so the sums do not depend on the number of threads.
const CHUNK: usize = 512;

/// The gradient of the mean loss of all rows, reusing its buffers.
pub struct FullGradient<'a, T> {
    rows: Vec<u32>,
    /// For whole pieces, and for the shorter last one.
    engines: [Option<RoundEngine<'a, T>>; 2],
    sum: Vec<f64>,
    gradient: Vec<T>,
}

impl<'a, T: Real> FullGradient<'a, T> {
    /// For examples of `rows` rows.
    pub fn new(network: &'a Network, loss: Loss, rows: usize) -> Self {
        let engine = |size: usize| (size > 0).then(|| RoundEngine::new(network, loss, size));
        Self {
            rows: (0..rows as u32).collect(),
            engines: [engine(if rows < CHUNK { 0 } else { CHUNK }), engine(rows % CHUNK)],
            sum: vec![0.0; network.parameters()],
            gradient: vec![T::ZERO; network.parameters()],
        }
    }

    /// The gradient at `weights`, flat; summed in `f64`.
    pub fn compute(&mut self, weights: &[T], examples: &Examples<T>) -> &[T] {
        self.sum.fill(0.0);
        for piece in self.rows.chunks(CHUNK) {
            let engine =
                self.engines[usize::from(piece.len() < CHUNK)].as_mut().expect("an engine per size of a piece");
            engine.compute(weights, examples, piece);
            let share = piece.len() as f64 / self.rows.len() as f64;
            self.sum.iter_mut().zip(engine.gradient()).for_each(|(sum, g)| *sum += share * g.to_f64());
        }
        self.gradient.iter_mut().zip(&self.sum).for_each(|(g, sum)| *g = T::from_f64(*sum));
        &self.gradient
    }
}
