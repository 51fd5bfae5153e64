//! Gradients beyond the minibatch's mean, for optimizers that ask for them: sums of squares of per-example gradients,
//! and the gradient of all rows.

use super::{Examples, Part, RoundEngine};
use crate::{
    kernels::block::{self, Scratch},
    loss::Loss,
    network::Network,
    num::{
        Real,
        pieces::{Cut, sum_in_pieces},
    },
};

/// `out = sum_d g_d^2`, coordinatewise, over the examples `d` of a computed minibatch (`docs/theory.md`, section 5).
///
/// `g_d` is the gradient of the example's share `l_d / B` of the mean loss.
pub fn sum_of_squared_gradients<T: Real>(network: &Network, parts: &[Part<T>], out: &mut [T]) {
    let sum = sum_in_pieces(parts.len(), Cut::Every(1), |piece| {
        let (mut sum, mut scratch) = (vec![T::ZERO; out.len()], Scratch::default());
        for part in &parts[piece] {
            for block in network.blocks() {
                let (cotangents, x) = (part.cotangents(block), part.tape.input(block, &part.x));
                let (rows, sum) = (part.rows.len(), &mut sum[block.range()]);
                block::add_squared_gradients(block, cotangents, x, rows, sum, &mut scratch);
            }
        }
        sum
    });
    match sum {
        Some(sum) => out.copy_from_slice(&sum),
        None => out.fill(T::ZERO),
    }
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
