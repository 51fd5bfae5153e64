//! Dense blocks on slices: the affine map and its adjoints.
//!
//! Shapes are row-major; [`crate::passes`] has the conventions.

use super::{
    View, matmul,
    skinny::{self, Start},
};
use crate::{
    network::Block,
    num::{Real, fast_paths},
};
use std::ops::Range;

/// Rows up to which products without copies ([`skinny`]) are the faster ones; a power of two.
const FEW: usize = 64;

/// Whether a product of this many rows goes without copies.
fn are_few(rows: usize) -> bool {
    rows <= FEW && fast_paths()
}

/// Outputs of [`skinny::sum_of_products`] that are transposed at a time: they stay in the first-level cache.
const UNITS: usize = 24;

/// The matrix of a block without the column of its bias: `[units, inputs]`.
pub fn matrix<'a, T>(block: &Block, weights: &'a [T]) -> View<'a, T> {
    View::strided(&weights[block.range()], block.units, block.inputs, block.width())
}

/// The biases of a block, gathered from the last column; zeros if it has none.
fn biases<T: Real>(block: &Block, weights: &[T]) -> Vec<T> {
    if !block.bias {
        return vec![T::ZERO; block.units];
    }
    weights[block.range()].chunks_exact(block.width()).map(|row| row[block.inputs]).collect()
}

/// `out[i, u] (+)= sum_j W[u, j] x[i, j] + b[u]`, the affine map of a block. A row of the result is the same to the bit whatever the
/// other rows and their number.
pub fn affine<T: Real>(block: &Block, weights: &[T], x: &[T], rows: usize, out: &mut [T], accumulate: bool) {
    let bias = biases(block, weights);
    for row in out.chunks_exact_mut(block.units).take(rows) {
        if accumulate {
            row.iter_mut().zip(&bias).for_each(|(value, b)| *value += *b);
        } else {
            row.copy_from_slice(&bias);
        }
    }
    let x = View::new(x, rows, block.inputs);
    matmul(out, block.units, x, matrix(block, weights).t(), true);
}

/// [`affine`] by the fastest method for this number of rows, which the last bits of the result therefore depend on.
pub fn pre_activations<T: Real>(block: &Block, weights: &[T], x: &[T], rows: usize, out: &mut [T]) {
    if !are_few(rows) {
        return affine(block, weights, x, rows, out, false);
    }
    let (units, inputs, width) = (block.units, block.inputs, block.width());
    let (weights, out) = (&weights[block.range()], &mut out[..rows * units]);
    let w = View::strided(weights, units, inputs, width);
    let bias = block.bias.then(|| (&weights[inputs..], width));
    if inputs >= 2 * units {
        return skinny::times_transpose(out, View::new(x, rows, inputs), w, bias);
    }
    // Vectors along the datapoints, so that the weights are read as they lie; only activations are transposed.
    let mut transposed = vec![[T::ZERO; FEW]; inputs];
    for (i, row) in x.chunks_exact(inputs).take(rows).enumerate() {
        transposed.iter_mut().zip(row).for_each(|(line, v)| line[i % FEW] = *v);
    }
    let x = View::strided(transposed.as_flattened(), inputs, rows, FEW);
    let mut sums = [[T::ZERO; FEW]; UNITS];
    for first in (0..units).step_by(UNITS) {
        let some = first..units.min(first + UNITS);
        let start = bias.map_or(Start::Zero, |(bias, width)| Start::PerRow(&bias[first * width..], width));
        skinny::sum_of_products(sums.as_flattened_mut(), FEW, &[(w.rows(some.clone()), x)], start);
        for (i, row) in out.chunks_exact_mut(units).enumerate() {
            row[some.clone()].iter_mut().zip(&sums).for_each(|(out, line)| *out = line[i % FEW]);
        }
    }
}

/// `out[i, u] = sum_j W[u, j] x[i, j]`, with the biases added if `bias`.
pub fn affine_with<T: Real>(block: &Block, weights: &[T], x: &[T], rows: usize, out: &mut [T], bias: bool) {
    if bias {
        return affine(block, weights, x, rows, out, false);
    }
    matmul(out, block.units, View::new(x, rows, block.inputs), matrix(block, weights).t(), false);
}

/// Appends rows of a block's inputs to `out`, each with the constant 1 of the bias behind it if the block has one: what the weights
/// of a neuron are multiplied by, `[rows, width]`.
pub fn append_inputs<T: Real>(block: &Block, inputs: &[T], out: &mut Vec<T>) {
    if !block.bias {
        return out.extend_from_slice(inputs);
    }
    for row in inputs.chunks_exact(block.inputs) {
        out.extend_from_slice(row);
        out.push(T::ONE);
    }
}

/// Adds `delta' x`, and for the biases the column sums of `delta`, to a block's part of a flat gradient.
///
/// `delta: [rows, units]`, `x: [rows, inputs]`, `gradient: [units, width]`.
pub fn accumulate_outer<T: Real>(block: &Block, delta: &[T], x: &[T], rows: usize, gradient: &mut [T]) {
    let width = block.width();
    if block.bias {
        let mut sums = vec![T::ZERO; block.units];
        for row in delta.chunks_exact(block.units).take(rows) {
            sums.iter_mut().zip(row).for_each(|(sum, d)| *sum += *d);
        }
        for (row, sum) in gradient.chunks_exact_mut(width).zip(sums) {
            row[block.inputs] += sum;
        }
    }
    let (delta, x) = (View::new(delta, rows, block.units).t(), View::new(x, rows, block.inputs));
    if are_few(rows) {
        skinny::sum_of_products(gradient, width, &[(delta, x)], Start::Out);
    } else {
        matmul(gradient, width, delta, x, true);
    }
}

/// A share of the datapoints as [`accumulate_outer`] takes it.
#[derive(Clone, Copy, Debug)]
pub struct RowShare<'a, T> {
    /// `[rows, units]`
    pub delta: &'a [T],
    /// `[rows, inputs]`
    pub x: &'a [T],
    pub rows: usize,
}

/// The gradient of some of a block's units, `gradient: [units, width]`, summed over shares of the datapoints.
pub fn outer_of_shares<T: Real>(block: &Block, units: Range<usize>, shares: &[RowShare<T>], gradient: &mut [T]) {
    let width = block.width();
    let terms: Vec<(View<T>, View<T>)> = shares
        .iter()
        .map(|share| {
            let delta = View::new(share.delta, share.rows, block.units).columns(units.clone());
            (delta.t(), View::new(share.x, share.rows, block.inputs))
        })
        .collect();
    if shares.iter().all(|share| are_few(share.rows)) {
        skinny::sum_of_products(gradient, width, &terms, Start::Zero);
    } else {
        for (t, (delta, x)) in terms.into_iter().enumerate() {
            matmul(gradient, width, delta, x, t > 0);
        }
    }
    if !block.bias {
        return;
    }
    let mut sums = vec![T::ZERO; units.len()];
    for share in shares {
        for row in share.delta.chunks_exact(block.units).take(share.rows) {
            sums.iter_mut().zip(&row[units.clone()]).for_each(|(sum, d)| *sum += *d);
        }
    }
    for (row, sum) in gradient.chunks_exact_mut(width).zip(sums) {
        row[block.inputs] = sum;
    }
}

/// `below = delta W: [rows, inputs]`, the cotangent of a block's inputs from that of its pre-activations.
pub fn vjp_input<T: Real>(block: &Block, weights: &[T], delta: &[T], rows: usize, below: &mut [T]) {
    let (delta, w) = (View::new(delta, rows, block.units), matrix(block, weights));
    if are_few(rows) {
        skinny::sum_of_products(below, block.inputs, &[(delta, w)], Start::Zero);
    } else {
        matmul(below, block.inputs, delta, w, false);
    }
}
