//! What a block does, whatever it is: the one place where the kernels ask whether a block is dense or a convolution.
//!
//! All operations have one contract. `x: [rows, features in]` is the input of the block. A cotangent comes in as that of the block's output,
//! *behind* its rectifier and pool, `[rows, features out]`, and goes out as that of its input, which is the output of what stands before it.
//! [`Cotangents`] may have several per datapoint, and bring the derivative of rectifier and pool that the forward pass recorded.

pub use super::conv::{Cotangents, Term};
use super::{
    View,
    activation::{self, ActivationDerivative},
    conv::{self, at_least},
    dense, matmul,
};
use crate::{
    network::{Block, LinearMap},
    num::Real,
};

/// Buffers of the operations, for reuse. They grow to what the largest block needs.
#[derive(Clone, Debug, Default)]
pub struct Scratch<T> {
    convolution: conv::Scratch<T>,
    /// Of the last dense block that a backward pass went through, the cotangents of its pre-activations, `[rows * per datapoint, units]`.
    pub(crate) delta: Vec<T>,
}

/// What the forward pass of a block leaves behind.
#[derive(Debug)]
pub struct Recorded<'a, T> {
    /// The output, `[rows, features out]`.
    pub out: &'a mut [T],
    /// `s'(a): [rows, pre-activations]`; empty behind a max-pool.
    pub derivatives: &'a mut [T],
    /// The codes of [`ActivationDerivative::Argmax`], `[rows, features out]`; empty without a max-pool.
    pub argmax: &'a mut [u8],
}

/// `out = W x + b: [rows, units]` of a dense block, without what stands behind it: the output of a network.
pub fn output<T: Real>(block: &Block, weights: &[T], x: &[T], rows: usize, out: &mut [T]) {
    dense::pre_activations(block, weights, x, rows, out);
}

/// Forward pass; calls `visit(row, a)` with the pre-activations `[positions, units]` of every datapoint.
pub fn forward<T: Real>(
    block: &Block,
    weights: &[T],
    x: &[T],
    rows: usize,
    recorded: Recorded<T>,
    scratch: &mut Scratch<T>,
    mut visit: impl FnMut(usize, &[T]),
) {
    let Recorded { out, derivatives, argmax } = recorded;
    match &block.map {
        LinearMap::Dense { .. } => {
            dense::pre_activations(block, weights, x, rows, out);
            out.chunks_exact(block.units).enumerate().for_each(|(row, a)| visit(row, a));
            activation::rectify_in_place(block.rectifier, out, derivatives);
        }
        LinearMap::Convolution(c) => {
            let activation = block.activation();
            let (size, pooled) = (block.activations(), block.features_out());
            conv::apply(block, c, &[Term { weights, x, bias: true }], rows, &mut scratch.convolution, |row, a| {
                visit(row, a);
                let out = &mut out[row * pooled..][..pooled];
                match activation.max_pool() {
                    Some(pool) => {
                        activation::max_pool(block.rectifier, pool, a, out, &mut argmax[row * pooled..][..pooled]);
                    }
                    None => activation::rectify(&activation, a, out, &mut derivatives[row * size..][..size]),
                }
            });
        }
    }
}

/// `out: [rows, pre-activations]`, a linear map of the block alone: without rectifier and pool, at the weights and with the bias of the term.
/// A row of the result is the same to the bit whatever the other rows and their number.
pub fn linear<T: Real>(block: &Block, term: Term<T>, rows: usize, scratch: &mut Scratch<T>, out: &mut [T]) {
    match &block.map {
        LinearMap::Dense { .. } => dense::affine_with(block, term.weights, term.x, rows, out, term.bias),
        LinearMap::Convolution(c) => {
            let size = block.activations();
            conv::apply(block, c, &[term], rows, &mut scratch.convolution, |row, a| {
                out[row * size..(row + 1) * size].copy_from_slice(a);
            });
        }
    }
}

/// Forward mode: `out: [rows, features out]`, the derivative of the output along the sum of the terms, which are tangents of the input at the
/// weights, and the input at tangents of the weights.
///
/// `out` must hold zeros.
pub fn jvp<T: Real>(
    block: &Block,
    terms: &[Term<T>],
    derivative: ActivationDerivative<T>,
    rows: usize,
    scratch: &mut Scratch<T>,
    out: &mut [T],
) {
    match &block.map {
        LinearMap::Dense { .. } => {
            for (t, term) in terms.iter().enumerate() {
                if term.bias {
                    dense::affine(block, term.weights, term.x, rows, out, true);
                } else {
                    let x = View::new(term.x, rows, block.inputs);
                    matmul(out, block.units, x, dense::matrix(block, term.weights).t(), t > 0);
                }
            }
            if let ActivationDerivative::Elementwise(derivatives) = derivative {
                out.iter_mut().zip(derivatives).for_each(|(t, slope)| *t *= *slope);
            }
        }
        LinearMap::Convolution(c) => {
            let (activation, pooled) = (block.activation(), block.features_out());
            conv::apply(block, c, terms, rows, &mut scratch.convolution, |row, a| {
                activation::jvp(&activation, derivative.row(row, block), a, &mut out[row * pooled..][..pooled]);
            });
        }
    }
}

/// Backward mode for `rows` datapoints.
///
/// Adds the gradient in the block's weights to `gradient: [units, width]`, with the inputs `x` (one cotangent per datapoint only), and writes
/// the cotangents of the inputs, at the flat weights, to `below: [rows * per datapoint, features in]`.
pub fn vjp<T: Real>(
    block: &Block,
    cotangents: Cotangents<T>,
    rows: usize,
    gradient: Option<(&[T], &mut [T])>,
    below: Option<(&[T], &mut [T])>,
    scratch: &mut Scratch<T>,
) {
    match &block.map {
        LinearMap::Dense { .. } => {
            let delta = dense_delta(block, cotangents, &mut scratch.delta);
            if let Some((x, gradient)) = gradient {
                dense::accumulate_outer(block, delta, x, rows, gradient);
            }
            if let Some((weights, below)) = below {
                dense::vjp_input(block, weights, delta, rows * cotangents.per_datapoint, below);
            }
        }
        LinearMap::Convolution(c) => {
            conv::backward(block, c, cotangents, rows, gradient, below, &mut scratch.convolution);
        }
    }
}

/// The cotangents of a dense block's pre-activations; `buffer` is used if there is a rectifier.
fn dense_delta<'a, T: Real>(block: &Block, cotangents: Cotangents<'a, T>, buffer: &'a mut Vec<T>) -> &'a [T] {
    let ActivationDerivative::Elementwise(derivatives) = cotangents.derivative else { return cotangents.values };
    buffer.resize(cotangents.values.len(), T::ZERO);
    let delta = &mut buffer[..];
    if cotangents.per_datapoint == 1 {
        crate::num::vectorized(
            #[inline(always)]
            || {
                let values = cotangents.values.iter().zip(derivatives);
                delta.iter_mut().zip(values).for_each(|(delta, (g, slope))| *delta = *g * *slope);
            },
        );
        return delta;
    }
    let (size, of_row) = (block.units, cotangents.per_datapoint * block.units);
    let rows = delta.chunks_exact_mut(of_row).zip(cotangents.values.chunks_exact(of_row));
    for ((delta, values), derivatives) in rows.zip(derivatives.chunks_exact(size)) {
        for (delta, values) in delta.chunks_exact_mut(size).zip(values.chunks_exact(size)) {
            let values = values.iter().zip(derivatives);
            delta.iter_mut().zip(values).for_each(|(delta, (g, slope))| *delta = *g * *slope);
        }
    }
    delta
}

/// Calls `visit(index, delta)` with every cotangent's image in the pre-activations, `delta: [positions, units]`.
fn each_delta<T: Real>(
    block: &Block,
    cotangents: Cotangents<T>,
    scratch: &mut Scratch<T>,
    mut visit: impl FnMut(usize, &[T]),
) {
    let (activation, size) = (block.activation(), block.activations());
    let delta = at_least(&mut scratch.delta, size);
    for (at, values) in cotangents.values.chunks_exact(block.features_out()).enumerate() {
        activation::vjp(&activation, cotangents.derivative.row(at / cotangents.per_datapoint, block), values, delta);
        visit(at, delta);
    }
}

/// The cotangents of the pre-activations, `[rows * per datapoint, positions, units]`.
pub fn pre_activation_cotangents<T: Real>(
    block: &Block,
    cotangents: Cotangents<T>,
    scratch: &mut Scratch<T>,
) -> Vec<T> {
    let mut all = Vec::with_capacity(cotangents.values.len() / block.features_out() * block.activations());
    each_delta(block, cotangents, scratch, |_, delta| all.extend_from_slice(delta));
    all
}

/// Adds `sum_d g_d^2`, elementwise, to `sum: [units, width]`, where `g_d` is the gradient of datapoint `d` in the block's weights.
///
/// The `g_d` of a dense block are never formed: `g_d = delta_d x_d'`, so the sum is `(delta^2)' (x^2)`. The `g_d` of a filter is a sum over positions,
/// whose square is not a sum of squares: there the `g_d` are formed, one at a time in one buffer.
pub fn add_squared_gradients<T: Real>(
    block: &Block,
    cotangents: Cotangents<T>,
    x: &[T],
    rows: usize,
    sum: &mut [T],
    scratch: &mut Scratch<T>,
) {
    match &block.map {
        LinearMap::Dense { .. } => {
            let squared = |values: &[T]| values.iter().map(|v| *v * *v).collect::<Vec<T>>();
            let delta = squared(dense_delta(block, cotangents, &mut scratch.delta));
            dense::accumulate_outer(block, &delta, &squared(x), rows, sum);
        }
        LinearMap::Convolution(c) => {
            let mut gradient = vec![T::ZERO; sum.len()];
            let values = cotangents.values.chunks_exact(block.features_out());
            for (row, (x, values)) in x.chunks_exact(block.features_in()).zip(values).enumerate() {
                let one = Cotangents { values, per_datapoint: 1, derivative: cotangents.derivative.row(row, block) };
                gradient.fill(T::ZERO);
                conv::backward(block, c, one, 1, Some((x, &mut gradient)), None, &mut scratch.convolution);
                sum.iter_mut().zip(&gradient).for_each(|(sum, g)| *sum += *g * *g);
            }
        }
    }
}

/// The gradient of each cotangent in the weights of chosen neurons, `[neurons, rows * per datapoint, width]`.
pub fn neuron_gradients<T: Real>(
    block: &Block,
    cotangents: Cotangents<T>,
    x: &[T],
    rows: usize,
    neurons: &[usize],
    scratch: &mut Scratch<T>,
) -> Vec<T> {
    let (count, width) = (rows * cotangents.per_datapoint, block.width());
    let mut out = vec![T::ZERO; neurons.len() * count * width];
    match &block.map {
        LinearMap::Dense { .. } => {
            let delta = dense_delta(block, cotangents, &mut scratch.delta);
            for (k, delta) in delta.chunks_exact(block.units).enumerate() {
                let x = &x[k / cotangents.per_datapoint * block.inputs..][..block.inputs];
                for (n, neuron) in neurons.iter().enumerate() {
                    let out = &mut out[(n * count + k) * width..][..width];
                    out.iter_mut().zip(x).for_each(|(g, x)| *g = delta[*neuron] * *x);
                    out[block.inputs..].fill(delta[*neuron]);
                }
            }
        }
        LinearMap::Convolution(c) => {
            conv::filter_gradients(block, c, cotangents, x, rows, neurons, &mut scratch.convolution, &mut out);
        }
    }
    out
}

/// `sum delta delta': [units, units]` over all cotangents, and over the positions of a convolution, where `delta` is the cotangent in the
/// pre-activations.
pub fn cotangent_moments<T: Real>(block: &Block, cotangents: Cotangents<T>, scratch: &mut Scratch<T>) -> Vec<T> {
    let units = block.units;
    let mut sum = vec![T::ZERO; units * units];
    let mut add = |delta: &[T]| {
        let delta = View::new(delta, delta.len() / units, units);
        matmul(&mut sum, units, delta.t(), delta, true);
    };
    match &block.map {
        LinearMap::Dense { .. } => add(dense_delta(block, cotangents, &mut scratch.delta)),
        LinearMap::Convolution(_) => each_delta(block, cotangents, scratch, |_, delta| add(delta)),
    }
    sum
}

/// Inputs of a neuron whose moments are summed in one product.
const MOMENT_ROWS: usize = 4096;

/// `sum x x': [width, width]` over the datapoints, and over the positions of a convolution, where `x` is what the weights of a neuron are
/// multiplied by: its inputs, and the constant 1 if there is a bias.
pub fn input_moments<T: Real>(block: &Block, x: &[T], rows: usize, scratch: &mut Scratch<T>) -> Vec<T> {
    let width = block.width();
    let (mut seen, mut sum) = (Vec::new(), vec![T::ZERO; width * width]);
    match &block.map {
        LinearMap::Dense { .. } => dense::append_inputs(block, x, &mut seen),
        LinearMap::Convolution(c) => {
            conv::each_patch(c, x, rows, &mut scratch.convolution, |patches| {
                dense::append_inputs(block, patches, &mut seen);
            });
        }
    }
    for part in seen.chunks(width * MOMENT_ROWS) {
        let part = View::new(part, part.len() / width, width);
        matmul(&mut sum, width, part.t(), part, true);
    }
    sum
}
