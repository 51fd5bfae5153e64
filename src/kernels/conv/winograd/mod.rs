//! Convolutions through transforms: Winograd's minimal filtering, in which a product of polynomials becomes one of their values.
//!
//! A tile of `m x m` outputs of a filter `k x k`, `m + k = 9`, takes 8 x 8 multiplications a channel instead of `m^2 k^2`: with
//! `k = 5` a sixth. With `A v` the values of the polynomial with coefficients `v` at the points 0, 1, -1, 2, -2, 1/2, -1/2 and infinity,
//! `C` the weights of the interpolation through them and `B` the coefficients of its polynomials, in one dimension
//!
//! ```text
//! a = A' (C A w . B' x)        dx = B (C A w . A da)        dw = A' C (A da . B' x)
//! ```
//!
//! are pre-activations, the cotangent of the inputs and the gradient. In two dimensions the transforms act on rows and on columns, and the
//! products `.` of all channels, filters and tiles are one matrix product for each of the 64 pairs of points, a plane. (S. Winograd,
//! *Arithmetic Complexity of Computations*, 1980; A. Lavin and S. Gray, *Fast Algorithms for Convolutional Neural Networks*, CVPR 2016.)
//!
//! Rounding is about ten times that of plain sums, in `f32` 2e-6 of the pre-activations, which is why `f64`, the type of exact work, does not
//! go this way.

mod planes;
#[cfg(test)]
mod tests;
mod tiling;
mod transform;

pub(super) use tiling::Tiling;

use super::types::{Backward, Scratch, Term, Transformed, add_bias_gradient, at_least, biases, transpose};
use crate::{
    kernels::skinny::{Start, sum_of_products},
    network::{Block, Convolution},
    num::Real,
};
use planes::{Frame, Planes, frame};
use transform::{Form, PLANES};

/// What [`super::apply`] does.
pub(super) fn apply<T: Real>(
    block: &Block,
    c: &Convolution,
    tiling: Tiling,
    terms: &[Term<T>],
    rows: usize,
    scratch: &mut Scratch<T>,
    mut visit: impl FnMut(usize, &mut [T]),
) {
    let Scratch { activations, weights, transformed, .. } = scratch;
    let Transformed { filters, inputs, outputs, zeros, discarded, .. } = transformed;
    let (units, channels, positions, tiles) = (block.units, c.input.channels, block.positions(), tiling.count());
    let together = tiling.images(channels.max(units)).min(rows.max(1));
    let (zeros, discarded) = (at_least(zeros, channels.max(units)), at_least(discarded, units));
    let filters = transposed_filters(block, c, terms, weights, filters, zeros);
    let bias = biases(block, terms);
    let a = at_least(activations, together * positions * units);
    for first in (0..rows).step_by(together) {
        let images = first..rows.min(first + together);
        let mut sums = Planes::new(outputs, images.len() * tiles, units);
        for (t, term) in terms.iter().enumerate() {
            let mut inputs = Planes::new(inputs, images.len() * tiles, channels);
            gather_inputs(c, &tiling, &term.x[first * c.input.len()..], &mut inputs, zeros);
            let start = if t == 0 { Start::Zero } else { Start::Out };
            for plane in 0..PLANES {
                let filters = filters.plane(plane).rows(t * channels..(t + 1) * channels);
                sum_of_products(sums.plane_mut(plane), units, &[(inputs.plane(plane), filters)], start);
            }
        }
        for (i, image) in images.enumerate() {
            let a = &mut a[i * positions * units..][..positions * units];
            a.chunks_exact_mut(units).for_each(|a| a.copy_from_slice(&bias));
            for (tile, origin) in tiling.origins(0).enumerate() {
                sums.scatter(i * tiles + tile, Form::Values(tiling.side), a, frame(&c.output), origin, discarded);
            }
            visit(image, a);
        }
    }
}

/// The transforms of all terms' filters: planes `[channels, units]`, one term below the other.
fn transposed_filters<'a, T: Real>(
    block: &Block,
    c: &Convolution,
    terms: &[Term<T>],
    weights: &mut Vec<Vec<T>>,
    filters: &'a mut Vec<T>,
    zeros: &[T],
) -> Planes<'a, T> {
    let (units, channels) = (block.units, c.input.channels);
    weights.resize_with(1.max(weights.len()), Vec::new);
    let mut filters = Planes::new(filters, terms.len() * channels, units);
    for (t, term) in terms.iter().enumerate() {
        transpose(block, term.weights, &mut weights[0]);
        let frame = Frame { height: c.kernel, width: c.kernel, stride: channels * units };
        for channel in 0..channels {
            let filter = &weights[0][channel * units..];
            filters.gather(t * channels + channel, Form::Weighted(c.kernel), filter, frame, (0, 0), zeros);
        }
    }
    filters
}

/// The transforms of the inputs of as many images as fit in the tiles of the planes.
fn gather_inputs<T: Real>(c: &Convolution, tiling: &Tiling, x: &[T], planes: &mut Planes<T>, zeros: &[T]) {
    for (i, image) in x.chunks_exact(c.input.len()).take(planes.rows / tiling.count()).enumerate() {
        for (tile, origin) in tiling.origins(c.padding).enumerate() {
            let row = i * tiling.count() + tile;
            planes.gather(row, Form::Interpolation, image, frame(&c.input), origin, zeros);
        }
    }
}

/// What [`super::backward`] does.
pub(super) fn backward<T: Real>(pass: Backward<T>, tiling: Tiling, scratch: &mut Scratch<T>) {
    let Backward { block, c, cotangents, images: count, mut gradient, mut below } = pass;
    let Scratch { activations, transformed, .. } = scratch;
    let Transformed { filters, inputs, outputs, sums, zeros, discarded } = transformed;
    let (units, channels, width, tiles) = (block.units, c.input.channels, block.width(), tiling.count());
    let wide = channels.max(units);
    let (zeros, discarded) = (at_least(zeros, wide), at_least(discarded, wide));
    let kernel = Frame { height: c.kernel, width: c.kernel, stride: channels };
    // Planes [units, channels].
    let mut filters = Planes::new(filters, units, channels);
    if let Some((weights, below)) = &mut below {
        below.fill(T::ZERO);
        for (unit, filter) in weights[block.range()].chunks_exact(width).enumerate() {
            filters.gather(unit, Form::Weighted(c.kernel), filter, kernel, (0, 0), zeros);
        }
    }
    let mut sums = Planes::new(sums, units, channels);
    if gradient.is_some() {
        sums.data.fill(T::ZERO);
    }
    let delta = at_least(activations, block.positions() * units);
    let together = tiling.images(wide).min(count.max(1));
    for first in (0..count).step_by(together) {
        let images = first..count.min(first + together);
        let mut deltas = Planes::new(outputs, images.len() * tiles, units);
        for (i, image) in images.clone().enumerate() {
            cotangents.pre_activations(block, image, delta);
            if let Some((_, gradient)) = &mut gradient {
                add_bias_gradient(block, delta, gradient);
            }
            for (tile, origin) in tiling.origins(0).enumerate() {
                deltas.gather(i * tiles + tile, Form::Values(tiling.side), delta, frame(&c.output), origin, zeros);
            }
        }
        let mut inputs = Planes::new(inputs, images.len() * tiles, channels);
        if let Some((x, _)) = &gradient {
            gather_inputs(c, &tiling, &x[first * c.input.len()..], &mut inputs, zeros);
            add_filter_gradients(&deltas, &inputs, &mut sums);
        }
        if let Some((_, below)) = &mut below {
            for plane in 0..PLANES {
                let terms = [(deltas.plane(plane), filters.plane(plane))];
                sum_of_products(inputs.plane_mut(plane), channels, &terms, Start::Zero);
            }
            let below = &mut below[first * c.input.len()..][..images.len() * c.input.len()];
            scatter_inputs(c, &tiling, &inputs, below, discarded);
        }
    }
    if let Some((_, gradient)) = &mut gradient {
        for (unit, gradient) in gradient.chunks_exact_mut(width).enumerate() {
            sums.scatter(unit, Form::Weighted(c.kernel), gradient, kernel, (0, 0), discarded);
        }
    }
}

/// `sums += deltas' inputs` in every plane: the transforms of the filters' gradients.
fn add_filter_gradients<T: Real>(deltas: &Planes<T>, inputs: &Planes<T>, sums: &mut Planes<T>) {
    let channels = inputs.channels;
    for plane in 0..PLANES {
        let terms = [(deltas.plane(plane).t(), inputs.plane(plane))];
        sum_of_products(sums.plane_mut(plane), channels, &terms, Start::Out);
    }
}

/// Adds what planes have of the images' cotangents to `below`, the adjoint of [`gather_inputs`].
fn scatter_inputs<T: Real>(c: &Convolution, tiling: &Tiling, planes: &Planes<T>, below: &mut [T], discarded: &mut [T]) {
    for (i, image) in below.chunks_exact_mut(c.input.len()).enumerate() {
        for (tile, origin) in tiling.origins(c.padding).enumerate() {
            let row = i * tiling.count() + tile;
            planes.scatter(row, Form::Interpolation, image, frame(&c.input), origin, discarded);
        }
    }
}
