//! The passes of a stack of dense layers on slices: forward with tape, VJP, JVP, curvature factors.
//!
//! Shapes are row-major. `n` is the number of rows (datapoints) of a call, `l = 0..L` counts blocks (dense layers
//! with the rectifier behind them), `x_l: [n, inputs of block l]` is the input of a block, so `x_0` is the data.
//! Weights are the flat vector of [`Network`]; a JVP takes and a VJP returns a vector of the same layout.

use super::{Real, View, matmul};
use crate::network::{Block, Network};
use std::ops::Range;

/// What the forward pass leaves behind for the linear passes.
#[derive(Clone, Debug, Default)]
pub struct Tape<T> {
    /// Number of datapoints.
    pub rows: usize,
    /// `x_l: [rows, inputs of block l]` for `l = 1..L`; entry `l - 1`.
    pub hidden: Vec<Vec<T>>,
    /// `s'(a_l): [rows, units of block l]` for `l = 0..L-1`; the input of block `l + 1` is `s' * a`.
    pub slopes: Vec<Vec<T>>,
    /// The network's output `[rows, outputs]`.
    pub output: Vec<T>,
}

impl<T: Real> Tape<T> {
    /// The input of block `l`, given the data.
    pub fn input<'a>(&'a self, l: usize, data: &'a [T]) -> &'a [T] {
        if l == 0 { data } else { &self.hidden[l - 1] }
    }

    fn resize(&mut self, network: &Network, rows: usize) {
        let hidden = network.hidden_blocks();
        self.rows = rows;
        self.hidden.resize_with(hidden.len(), Vec::new);
        self.slopes.resize_with(hidden.len(), Vec::new);
        for ((block, x), slopes) in hidden.iter().zip(&mut self.hidden).zip(&mut self.slopes) {
            x.resize(rows * block.units, T::ZERO);
            slopes.resize(rows * block.units, T::ZERO);
        }
        self.output.resize(rows * network.outputs(), T::ZERO);
    }
}

/// The matrix of a block without its bias column: `[units, inputs]`.
pub fn matrix<'a, T>(block: &Block, weights: &'a [T]) -> View<'a, T> {
    View::strided(&weights[block.range()], block.units, block.inputs, block.width())
}

/// The biases of a block, gathered from the last column.
fn biases<T: Real>(block: &Block, weights: &[T]) -> Vec<T> {
    weights[block.range()].chunks_exact(block.width()).map(|row| row[block.inputs]).collect()
}

/// `out[i, u] (+)= sum_j W[u, j] x[i, j] + b[u]`, the affine map of a block.
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

/// Appends rows of `width` inputs to `out`, each with the constant 1 of the bias behind it.
pub fn append_with_ones<T: Real>(inputs: &[T], width: usize, out: &mut Vec<T>) {
    for row in inputs.chunks_exact(width) {
        out.extend_from_slice(row);
        out.push(T::ONE);
    }
}

/// Forward pass of `rows` datapoints `x: [rows, inputs]`, filling `tape`.
pub fn forward<T: Real>(network: &Network, weights: &[T], x: &[T], rows: usize, tape: &mut Tape<T>) {
    tape.resize(network, rows);
    for (l, block) in network.blocks().iter().enumerate() {
        let (before, after) = tape.hidden.split_at_mut(l);
        let input = if l == 0 { x } else { &before[l - 1] };
        let Some(out) = after.first_mut() else {
            affine(block, weights, input, rows, &mut tape.output, false);
            break;
        };
        affine(block, weights, input, rows, out, false);
        let slopes = &mut tape.slopes[l];
        match block.rectifier {
            Some(rectifier) => {
                pulp::Arch::new().dispatch(|| {
                    for (a, slope) in out.iter_mut().zip(slopes) {
                        *slope = rectifier.derivative(*a);
                        *a *= *slope;
                    }
                });
            }
            None => slopes.fill(T::ONE),
        }
    }
}

/// Adds `delta' x` and the column sums of `delta` to a block's part of a flat gradient.
///
/// `delta: [rows, units]`, `x: [rows, inputs]`, `gradient: [units, inputs + 1]`.
pub fn accumulate_outer<T: Real>(block: &Block, delta: &[T], x: &[T], rows: usize, gradient: &mut [T]) {
    let width = block.width();
    let mut sums = vec![T::ZERO; block.units];
    for row in delta.chunks_exact(block.units).take(rows) {
        sums.iter_mut().zip(row).for_each(|(sum, d)| *sum += *d);
    }
    for (row, sum) in gradient.chunks_exact_mut(width).zip(sums) {
        row[block.inputs] += sum;
    }
    matmul(gradient, width, View::new(delta, rows, block.units).t(), View::new(x, rows, block.inputs), true);
}

/// Backward pass from the cotangent of the output.
///
/// `deltas[L-1]` holds the cotangent `[rows, outputs]` on entry; on return `deltas[l]: [rows, units of block l]` is the
/// cotangent of the pre-activation of block `l`, for `l >= blocks.start`. The gradient of `blocks` is *added* to
/// `gradient`, a flat vector.
pub fn vjp<T: Real>(
    network: &Network,
    weights: &[T],
    x: &[T],
    tape: &Tape<T>,
    deltas: &mut [Vec<T>],
    blocks: Range<usize>,
    gradient: &mut [T],
) {
    let rows = tape.rows;
    for l in (blocks.start..network.blocks().len()).rev() {
        let block = &network.blocks()[l];
        if blocks.contains(&l) {
            accumulate_outer(block, &deltas[l], tape.input(l, x), rows, &mut gradient[block.range()]);
        }
        if l > blocks.start {
            let (lower, upper) = deltas.split_at_mut(l);
            pull_back(block, weights, &upper[0], &tape.slopes[l - 1], rows, &mut lower[l - 1]);
        }
    }
}

/// `below = slopes * (delta W)`: the cotangent of the pre-activation below a block.
pub fn pull_back<T: Real>(block: &Block, weights: &[T], delta: &[T], slopes: &[T], rows: usize, below: &mut Vec<T>) {
    below.resize(rows * block.inputs, T::ZERO);
    matmul(below, block.inputs, View::new(delta, rows, block.units), matrix(block, weights), false);
    pulp::Arch::new().dispatch(|| {
        for (d, slope) in below.iter_mut().zip(slopes) {
            *d *= *slope;
        }
    });
}

/// Forward-mode pass: `out: [rows, outputs]` is the derivative of the output along `direction` (a flat vector of
/// which only the part of `blocks` counts).
pub fn jvp<T: Real>(
    network: &Network,
    weights: &[T],
    x: &[T],
    tape: &Tape<T>,
    direction: &[T],
    blocks: Range<usize>,
) -> Vec<T> {
    let rows = tape.rows;
    let mut tangent: Vec<T> = Vec::new();
    for (l, block) in network.blocks().iter().enumerate().skip(blocks.start) {
        let mut out = vec![T::ZERO; rows * block.units];
        if l > blocks.start {
            let tangent = View::new(&tangent, rows, block.inputs);
            matmul(&mut out, block.units, tangent, matrix(block, weights).t(), false);
        }
        if blocks.contains(&l) {
            affine(block, direction, tape.input(l, x), rows, &mut out, true);
        }
        if let Some(slopes) = tape.slopes.get(l) {
            for (t, slope) in out.iter_mut().zip(slopes) {
                *t *= *slope;
            }
        }
        tangent = out;
    }
    tangent
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
/// block for all rows, and `q >= 0` whatever the rounding. With `compress`, a shared factor with more rows than
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
    let mut factor: Vec<T> = match (shared, top) {
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
    let mut next: Vec<T> = Vec::new();
    for l in (lowest..last).rev() {
        let units = network.blocks()[l].units;
        for (row, slopes) in factor.chunks_exact_mut(rank * units).zip(tape.slopes[l].chunks_exact(units)) {
            for line in row.chunks_exact_mut(units) {
                for (value, slope) in line.iter_mut().zip(slopes) {
                    *value *= *slope;
                }
            }
        }
        visit(l, Factor::PerRow { values: &factor, rank });
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
    let wide: Vec<f64> = super::real::convert(factor);
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
    super::real::convert(&upper)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{LayerSpec, Rectifier, he_uniform};

    fn problem() -> (Network, Vec<f64>, Vec<f64>) {
        let layers = [
            LayerSpec::Dense { units: 5 },
            LayerSpec::Rectifier(Rectifier::Relu),
            LayerSpec::Dense { units: 4 },
            LayerSpec::Rectifier(Rectifier::LeakyRelu { slope: 0.1 }),
            LayerSpec::Dense { units: 3 },
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
            LayerSpec::Dense { units: 3 },
            LayerSpec::Rectifier(Rectifier::Relu),
            LayerSpec::Dense { units: 2 },
            LayerSpec::Rectifier(Rectifier::Abs),
            LayerSpec::Dense { units: 8 },
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
