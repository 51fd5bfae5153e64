//! Convolutions as products of unfolded images: with the filters `W: [units, P]` (biases apart) and the patches `X: [positions, P]` the three passes are
//!
//! ```text
//! a = X W' + b        dW = delta' X        dX = delta W
//! ```
//!
//! and folding turns `dX` into the cotangent of the images. Rectifiers and pools ([`crate::kernels::activation`]) are applied to the
//! pre-activations of an image, and their derivatives to its cotangents, while these are in the cache.

use super::{
    types::{Backward, Cotangents, Scratch, Term, add_bias_gradient, at_least, biases, transpose},
    unfold::{Tiles, fold, unfold},
};
use crate::{
    kernels::{View, matmul},
    network::{Block, Convolution},
    num::Real,
};

/// What [`super::apply`] does.
pub(super) fn apply<T: Real>(
    block: &Block,
    c: &Convolution,
    terms: &[Term<T>],
    rows: usize,
    scratch: &mut Scratch<T>,
    mut visit: impl FnMut(usize, &mut [T]),
) {
    let Scratch { columns, activations, weights, .. } = scratch;
    let (units, patch, positions) = (block.units, block.inputs, block.positions());
    weights.resize_with(terms.len().max(weights.len()), Vec::new);
    terms.iter().zip(weights.iter_mut()).for_each(|(term, weights)| transpose(block, term.weights, weights));
    let tiles = Tiles::new(c);
    let columns = at_least(columns, tiles.images * tiles.rows * c.output.width * patch);
    let a = at_least(activations, tiles.images.min(rows.max(1)) * positions * units);
    let bias = biases(block, terms);
    tiles.each(c, rows, |images, span| {
        if span.start == 0 {
            a.chunks_exact_mut(units).for_each(|a| a.copy_from_slice(&bias));
        }
        let size = span.len() * c.output.width;
        let out = &mut a[span.start * c.output.width * units..];
        for (term, weights) in terms.iter().zip(weights.iter()) {
            for (image, columns) in images.clone().zip(columns.chunks_exact_mut(size * patch)) {
                unfold(c, &term.x[image * c.input.len()..][..c.input.len()], span.clone(), columns);
            }
            let count = images.len() * size;
            let filters = View::new(&weights[..patch * units], patch, units);
            matmul(out, units, View::new(columns, count, patch), filters, true);
        }
        if span.end == c.output.height {
            images.clone().zip(a.chunks_exact_mut(positions * units)).for_each(|(image, a)| visit(image, a));
        }
    });
}

/// What [`super::backward`] does.
pub(super) fn backward<T: Real>(pass: Backward<T>, scratch: &mut Scratch<T>) {
    let Backward { block, c, cotangents, images: count, mut gradient, mut below } = pass;
    let (units, patch, positions, width) = (block.units, block.inputs, block.positions(), block.width());
    let Scratch { columns, activations, .. } = scratch;
    let tiles = Tiles::new(c);
    let columns = at_least(columns, tiles.images * tiles.rows * c.output.width * patch);
    let deltas = at_least(activations, tiles.images.min(count.max(1)) * positions * units);
    if let Some((_, below)) = &mut below {
        below.fill(T::ZERO);
    }
    tiles.each(c, count, |images, span| {
        if span.start == 0 {
            for (image, delta) in images.clone().zip(deltas.chunks_exact_mut(positions * units)) {
                cotangents.pre_activations(block, image, delta);
                if let Some((_, gradient)) = &mut gradient {
                    add_bias_gradient(block, delta, gradient);
                }
            }
        }
        let size = span.len() * c.output.width;
        let count = images.len() * size;
        let delta = View::new(&deltas[span.start * c.output.width * units..][..count * units], count, units);
        if let Some((x, gradient)) = &mut gradient {
            for (image, columns) in images.clone().zip(columns.chunks_exact_mut(size * patch)) {
                unfold(c, &x[image * c.input.len()..][..c.input.len()], span.clone(), columns);
            }
            matmul(gradient, width, delta.t(), View::new(columns, count, patch), true);
        }
        if let Some((weights, below)) = &mut below {
            let filters = View::strided(&weights[block.range()], units, patch, width);
            matmul(columns, patch, delta, filters, false);
            for (image, columns) in images.zip(columns.chunks_exact(size * patch)) {
                fold(c, columns, span.clone(), &mut below[image * c.input.len()..][..c.input.len()]);
            }
        }
    });
}

/// The gradient of each cotangent in the weights of chosen filters: `out: [filters, rows * per_datapoint, width]`.
#[allow(clippy::too_many_arguments)]
pub fn filter_gradients<T: Real>(
    block: &Block,
    c: &Convolution,
    cotangents: Cotangents<T>,
    x: &[T],
    rows: usize,
    filters: &[usize],
    scratch: &mut Scratch<T>,
    out: &mut [T],
) {
    let per_datapoint = cotangents.per_datapoint;
    let (units, patch, positions, width) = (block.units, block.inputs, block.positions(), block.width());
    assert_eq!(out.len(), filters.len() * rows * per_datapoint * width, "a gradient per filter and cotangent");
    let Scratch { columns, activations, weights, .. } = scratch;
    weights.resize_with(1.max(weights.len()), Vec::new);
    let delta = at_least(activations, positions * units);
    // [filters, per_datapoint, positions] of one datapoint.
    let chosen = at_least(&mut weights[0], filters.len() * per_datapoint * positions);
    let tiles = Tiles::new(c);
    let columns = at_least(columns, tiles.rows * c.output.width * patch);
    out.fill(T::ZERO);
    for row in 0..rows {
        for k in 0..per_datapoint {
            cotangents.pre_activations(block, row * per_datapoint + k, delta);
            for (f, filter) in filters.iter().enumerate() {
                let chosen = &mut chosen[(f * per_datapoint + k) * positions..][..positions];
                let values = delta.iter().skip(*filter).step_by(units);
                chosen.iter_mut().zip(values).for_each(|(to, d)| *to = *d);
            }
        }
        for f in 0..if block.bias { filters.len() } else { 0 } {
            for k in 0..per_datapoint {
                let sum: T = chosen[(f * per_datapoint + k) * positions..][..positions].iter().copied().sum();
                out[((f * rows + row) * per_datapoint + k) * width + patch] = sum;
            }
        }
        for first in (0..c.output.height).step_by(tiles.rows) {
            let span = first..c.output.height.min(first + tiles.rows);
            let (start, size) = (span.start * c.output.width, span.len() * c.output.width);
            unfold(c, &x[row * c.input.len()..][..c.input.len()], span, columns);
            let patches = View::new(&columns[..size * patch], size, patch);
            for f in 0..filters.len() {
                let delta =
                    View::strided(&chosen[f * per_datapoint * positions + start..], per_datapoint, size, positions);
                matmul(&mut out[(f * rows + row) * per_datapoint * width..], width, delta, patches, true);
            }
        }
    }
}
