//! Dense blocks on slices: the affine map and its adjoints, and the curvature factors of a stack of dense layers.
//!
//! Shapes are row-major; [`super::passes`] has the conventions.

use super::{
    View, matmul,
    passes::Tape,
    skinny::{self, Start},
};
use crate::{
    network::{Block, Network},
    num::{Real, convert, fast_paths, vectorized},
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

/// [`affine`] in whichever way is fastest for as many rows: their number has a share in the rounding.
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

/// `below = slopes * (delta W)`: the cotangent of the pre-activation below a block.
pub fn pull_back<T: Real>(block: &Block, weights: &[T], delta: &[T], slopes: &[T], rows: usize, below: &mut Vec<T>) {
    below.resize(rows * block.inputs, T::ZERO);
    let (delta, w) = (View::new(delta, rows, block.units), matrix(block, weights));
    if are_few(rows) {
        skinny::sum_of_products(below, block.inputs, &[(delta, w)], Start::Zero);
    } else {
        matmul(below, block.inputs, delta, w, false);
    }
    vectorized(
        #[inline(always)]
        || {
            for (d, slope) in below.iter_mut().zip(slopes) {
                *d *= *slope;
            }
        },
    );
}

/// A factor `R` of a curvature `R' R` per datapoint, see [`curvature_factors`].
#[derive(Clone, Copy, Debug)]
pub enum Factor<'a, T> {
    /// `scale * I`, the same for all datapoints.
    Identity { scale: T },
    /// `[rank, units]`, the same for all datapoints.
    Shared { values: &'a [T], rank: usize },
    /// `[rows, rank, units]`.
    PerRow { values: &'a [T], rank: usize },
}

impl<T: Real> Factor<'_, T> {
    /// The diagonal of `R' R` per row, `q[i, u] = sum_r R[i, r, u]^2`: `out: [rows, units]`.
    pub fn diagonal(&self, rows: usize, units: usize, out: &mut Vec<T>) {
        out.clear();
        out.resize(rows * units, T::ZERO);
        let (values, stride, rank) = match *self {
            Factor::Identity { scale } => return out.fill(scale * scale),
            Factor::Shared { values, rank } => (values, 0, rank),
            Factor::PerRow { values, rank } => (values, rank * units, rank),
        };
        for (i, q) in out.chunks_exact_mut(units).enumerate() {
            for line in values[i * stride..i * stride + rank * units].chunks_exact(units) {
                for (q, r) in q.iter_mut().zip(line) {
                    *q += *r * *r;
                }
            }
        }
    }
}

/// Factors of the curvature: for each block `l >= lowest`, calls `visit(l, R_l)` from the output down with
/// `R_l: [rows, rank, units of block l]` such that `R_l' R_l = J_l' H J_l`, where `J_l = d output / d a_l` and `top' top = H`.
///
/// This is the recursion of `docs/theory.md`, section 4, in square-root form, `R_{l-1} = (R_l W_l) s'`: one product per
/// block for all rows, and `q >= 0` whatever the rounding. All blocks from `lowest` up must be dense. With `compress`, a shared factor with more rows than
/// columns is replaced by a square one with the same `R' R`. Without it, `top = I` yields the output Jacobians.
pub fn curvature_factors<T: Real>(
    network: &Network,
    weights: &[T],
    tape: &Tape<T>,
    top: Factor<'_, T>,
    lowest: usize,
    compress: bool,
    mut visit: impl FnMut(usize, Factor<'_, T>),
) {
    let rows = tape.rows;
    let last = network.blocks().len() - 1;
    visit(last, top);
    if lowest == last {
        return;
    }
    let block = &network.blocks()[last];
    let (units, inputs) = (block.units, block.inputs);
    let w = matrix(block, weights);
    let mut rank = units;
    // The first step starts from `top`, whatever its form; all later ones from a factor per row.
    let shared: Option<Vec<T>> = match top {
        Factor::Identity { scale } => {
            let rows = weights[block.range()].chunks_exact(block.width());
            Some(rows.flat_map(|row| row[..inputs].iter().map(|v| *v * scale)).collect())
        }
        Factor::Shared { values, rank: r } => {
            let mut product = vec![T::ZERO; r * inputs];
            matmul(&mut product, inputs, View::new(values, r, units), w, false);
            rank = r;
            Some(product)
        }
        Factor::PerRow { rank: r, .. } => {
            rank = r;
            None
        }
    };
    let factor: Vec<T> = match (shared, top) {
        (Some(mut shared), _) => {
            if compress && rank > inputs {
                shared = compress_factor(&shared, rank, inputs);
                rank = inputs;
            }
            shared.repeat(rows)
        }
        (None, Factor::PerRow { values, .. }) => {
            let mut product = vec![T::ZERO; rows * rank * inputs];
            matmul(&mut product, inputs, View::new(values, rows * rank, units), w, false);
            product
        }
        (None, _) => unreachable!("only a factor per row has no shared product"),
    };
    pull_factor(network, weights, tape, factor, rank, lowest, |l, values| visit(l, Factor::PerRow { values, rank }));
}

/// The derivatives of the output block's inputs in the pre-activations of every hidden block `l >= lowest`: calls `visit(l, C_l)`
/// from the top down with `C_l: [rows, inputs of the output block, units of block l]`, so that the output Jacobian is `W C_l`.
pub fn hidden_jacobians<T: Real>(
    network: &Network,
    weights: &[T],
    tape: &Tape<T>,
    lowest: usize,
    visit: impl FnMut(usize, &[T]),
) {
    let inner = network.blocks()[network.blocks().len() - 1].inputs;
    let mut identity = vec![T::ZERO; inner * inner];
    identity.iter_mut().step_by(inner + 1).for_each(|v| *v = T::ONE);
    pull_factor(network, weights, tape, identity.repeat(tape.rows), inner, lowest, visit);
}

/// Pulls `factor: [rows, rank, inputs of the output block]` down through the hidden blocks; `visit(l, values)` sees `[rows, rank, units]`.
fn pull_factor<T: Real>(
    network: &Network,
    weights: &[T],
    tape: &Tape<T>,
    mut factor: Vec<T>,
    rank: usize,
    lowest: usize,
    mut visit: impl FnMut(usize, &[T]),
) {
    let rows = tape.rows;
    let mut next: Vec<T> = Vec::new();
    for l in (lowest..network.blocks().len() - 1).rev() {
        let units = network.blocks()[l].units;
        for (row, slopes) in factor.chunks_exact_mut(rank * units).zip(tape.slopes[l].chunks_exact(units)) {
            for line in row.chunks_exact_mut(units) {
                for (value, slope) in line.iter_mut().zip(slopes) {
                    *value *= *slope;
                }
            }
        }
        visit(l, &factor);
        if l > lowest {
            let block = &network.blocks()[l];
            next.resize(rows * rank * block.inputs, T::ZERO);
            let view = View::new(&factor, rows * rank, units);
            matmul(&mut next, block.inputs, view, matrix(block, weights), false);
            std::mem::swap(&mut factor, &mut next);
        }
    }
}

/// A square factor `C: [cols, cols]` with `C' C = R' R` for `R: [rank, cols]`: the Cholesky factor of the Gram matrix, in
/// `f64`; columns that depend on earlier ones up to rounding get a zero row.
fn compress_factor<T: Real>(factor: &[T], rank: usize, cols: usize) -> Vec<T> {
    let wide: Vec<f64> = convert(factor);
    let mut gram = vec![0.0; cols * cols];
    matmul(&mut gram, cols, View::new(&wide, rank, cols).t(), View::new(&wide, rank, cols), false);
    let floor = 1e-14 * (0..cols).map(|j| gram[j * cols + j]).fold(0.0, f64::max);
    let mut upper = vec![0.0f64; cols * cols];
    for k in 0..cols {
        let pivot = gram[k * cols + k];
        if pivot <= floor {
            continue;
        }
        let root = pivot.sqrt();
        for j in k..cols {
            upper[k * cols + j] = gram[k * cols + j] / root;
        }
        for i in k + 1..cols {
            let scale = upper[k * cols + i];
            for j in i..cols {
                gram[i * cols + j] -= scale * upper[k * cols + j];
            }
        }
    }
    convert(&upper)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernels::passes::{forward, jvp, vjp},
        network::{LayerSpec, Rectifier, he_uniform},
    };

    fn problem() -> (Network, Vec<f64>, Vec<f64>) {
        let layers = [
            LayerSpec::dense(5),
            LayerSpec::Rectifier(Rectifier::Relu),
            LayerSpec::dense(4),
            LayerSpec::Rectifier(Rectifier::LeakyRelu { slope: 0.1 }),
            LayerSpec::dense(3),
        ];
        let network = Network::new(6, &layers).unwrap();
        let weights: Vec<f64> = he_uniform::<f64>(&network, 3);
        let x = (0..7 * 6).map(|i| (i as f64 * 1.3).sin()).collect();
        (network, weights, x)
    }

    #[test]
    fn jvp_and_vjp_are_adjoint_for_every_range_of_blocks() {
        let (network, weights, x) = problem();
        let mut tape = Tape::default();
        forward(&network, &weights, &x, 7, &mut tape);
        let direction: Vec<f64> = (0..network.parameters()).map(|i| (i as f64 * 0.7).cos()).collect();
        let cotangent: Vec<f64> = (0..21).map(|i| (i as f64 * 0.3).sin()).collect();
        for start in 0..3 {
            for end in start + 1..=3 {
                let out = jvp(&network, &weights, &x, &tape, &direction, start..end);
                let mut deltas = vec![Vec::new(); 3];
                deltas[2] = cotangent.clone();
                let mut gradient = vec![0.0; network.parameters()];
                vjp(&network, &weights, &x, &tape, &mut deltas, start..end, &mut gradient);
                let left: f64 = out.iter().zip(&cotangent).map(|(a, b)| a * b).sum();
                let right: f64 = gradient.iter().zip(&direction).map(|(a, b)| a * b).sum();
                assert!((left - right).abs() < 1e-12 * left.abs().max(1.0), "{start}..{end}: {left} {right}");
            }
        }
    }

    #[test]
    fn the_factor_from_the_identity_is_the_output_jacobian() {
        let (network, weights, x) = problem();
        let mut tape = Tape::default();
        forward(&network, &weights, &x, 7, &mut tape);
        curvature_factors(&network, &weights, &tape, Factor::Identity { scale: 1.0 }, 0, false, |l, factor| {
            let Factor::PerRow { values, rank: 3 } = factor else {
                assert_eq!(l, 2);
                return;
            };
            // Moving the bias of unit u of block l moves a_l[u] by the same amount for every datapoint.
            let block = &network.blocks()[l];
            for u in 0..block.units {
                let mut direction = vec![0.0; network.parameters()];
                direction[block.neuron(u).end - 1] = 1.0;
                let out = jvp(&network, &weights, &x, &tape, &direction, l..l + 1);
                for (ik, out) in out.iter().enumerate() {
                    assert!((values[ik * block.units + u] - out).abs() < 1e-12);
                }
            }
        });
    }

    #[test]
    fn compression_keeps_the_curvature() {
        let layers = [
            LayerSpec::dense(3),
            LayerSpec::Rectifier(Rectifier::Relu),
            LayerSpec::dense(2),
            LayerSpec::Rectifier(Rectifier::Abs),
            LayerSpec::dense(8),
        ];
        let network = Network::new(6, &layers).unwrap();
        let mut weights: Vec<f64> = he_uniform(&network, 1);
        weights[network.blocks()[2].range()].iter_mut().skip(1).step_by(3).for_each(|w| *w = 0.0);
        let x: Vec<f64> = (0..7 * 6).map(|i| (i as f64 * 1.3).sin()).collect();
        let mut tape = Tape::default();
        forward(&network, &weights, &x, 7, &mut tape);
        let collect = |compress| {
            let mut all = Vec::new();
            let top = Factor::Identity { scale: 0.5 };
            curvature_factors(&network, &weights, &tape, top, 0, compress, |l, factor| {
                let mut q = Vec::new();
                factor.diagonal(7, network.blocks()[l].units, &mut q);
                all.extend(q);
            });
            all
        };
        for (a, b) in collect(true).iter().zip(collect(false)) {
            assert!((a - b).abs() < 1e-13 * b.abs().max(1e-3), "{a} {b}");
        }
    }
}
