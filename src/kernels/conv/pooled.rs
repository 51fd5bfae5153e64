//! The backward pass of a convolution behind a max-pool, where the cotangents of the pre-activations are sparse.
//!
//! A pool hands the cotangent of each of its outputs to the largest value of the window, so that of a window's `size^2` pre-activations of a
//! filter at most one has a cotangent, and none if the rectifier is flat there. Both products of the pass ([`super::plain`]) take
//! these entries alone: with windows of 2 x 2 a quarter of the dense work, whatever the data. Tiles are rows of the pool's output.

use super::{
    types::{Backward, Scratch, at_least},
    unfold::{fold, unfold},
};
use crate::{
    kernels::{
        activation::{ActivationDerivative, sides},
        sparse::{Entry, Rows, SLACK, combine_rows},
    },
    network::{Block, Pool},
    num::{Real, fast_paths},
};
use std::ops::Range;

/// Pre-activation positions of a tile at most: the unfolded rows of a block of columns fill half of a first-level cache.
const POSITIONS: usize = 64;

/// The pool and its argmax codes, if going through them is less work than a dense product.
pub(super) fn if_worthwhile<'a, T>(
    block: &'a Block,
    derivative: &ActivationDerivative<'a, T>,
) -> Option<(&'a Pool, &'a [u8])> {
    match (derivative, &block.pool) {
        (ActivationDerivative::Argmax(argmax), Some(pool))
            if fast_paths() && 3 * pool.output.positions() <= pool.input.positions() =>
        {
            Some((pool, argmax))
        }
        _ => None,
    }
}

/// What [`super::backward`] does, for a block with a max-pool and its argmax codes `argmax: [rows, features out]`.
pub(super) fn backward<T: Real>(pass: Backward<T>, pool: &Pool, argmax: &[u8], scratch: &mut Scratch<T>) {
    let Backward { block, c, cotangents, images, mut gradient, mut below } = pass;
    let (units, patch, width) = (block.units, block.inputs, block.width());
    let Scratch { columns, weights: buffers, entries, .. } = scratch;
    let tile = (POSITIONS / (pool.stride * c.output.width)).max(1);
    let covered = (tile - 1) * pool.stride + pool.size;
    let columns = at_least(columns, covered * c.output.width * patch + SLACK);
    // An odd number of cache lines apart, so that the rows of a block of columns do not fall on each other in the cache.
    let stride = patch.next_multiple_of(16) | 16;
    let filters: &[T] = match &mut below {
        None => &[],
        Some((weights, below)) => {
            below.fill(T::ZERO);
            buffers.resize_with(1.max(buffers.len()), Vec::new);
            let filters = at_least(&mut buffers[0], units * stride + SLACK);
            for (to, from) in filters.chunks_exact_mut(stride).zip(weights[block.range()].chunks_exact(width)) {
                to[..patch].copy_from_slice(&from[..patch]);
            }
            filters
        }
    };
    for image in 0..images {
        let values = &cotangents.values[image * block.features_out()..][..block.features_out()];
        let argmax = &argmax[image / cotangents.per_datapoint * block.features_out()..][..block.features_out()];
        let sparse = Sparse { pool, units, slopes: sides(block.rectifier), values, argmax };
        let place = image * c.input.len();
        for first in (0..pool.output.height).step_by(tile) {
            let pooled = first..pool.output.height.min(first + tile);
            let span = pooled.start * pool.stride..(pooled.end - 1) * pool.stride + pool.size;
            if let Some((x, gradient)) = &mut gradient {
                sparse.by_unit(pooled.clone(), entries);
                for (list, gradient) in entries.iter().zip(gradient.chunks_exact_mut(width)).filter(|_| block.bias) {
                    gradient[patch] += list.iter().map(|(_, value)| *value).sum();
                }
                unfold(c, &x[place..][..c.input.len()], span.clone(), columns);
                combine_rows(entries, Rows { data: columns, stride: patch, width: patch }, gradient, width, true);
            }
            if let Some((_, below)) = &mut below {
                sparse.by_position(pooled, span.len() * c.output.width, entries);
                combine_rows(entries, Rows { data: filters, stride, width: patch }, columns, patch, false);
                fold(c, columns, span, &mut below[place..][..c.input.len()]);
            }
        }
    }
}

/// The cotangents of an image's pre-activations that are not 0.
struct Sparse<'a, T> {
    pool: &'a Pool,
    units: usize,
    slopes: [T; 3],
    /// Cotangents of the pool's output, `[output positions, units]`.
    values: &'a [T],
    argmax: &'a [u8],
}

impl<T: Real> Sparse<'_, T> {
    /// Calls `visit(position, unit, value)` for the entries of the output rows `pooled`; positions count from their first pre-activation row.
    #[inline(always)]
    fn each(&self, pooled: Range<usize>, mut visit: impl FnMut(usize, usize, T)) {
        let (count, width) = (self.pool.places(), self.pool.input.width);
        // Where the largest value stands from the first position of its window, and the slope of the rectifier there, by its code.
        let places =
            (0..count * self.slopes.len()).map(|code| (self.pool.offset(code % count), self.slopes[code / count]));
        let places: Vec<(usize, T)> = places.collect();
        for y in pooled.clone() {
            for x in 0..self.pool.output.width {
                let window = (y - pooled.start) * self.pool.stride * width + x * self.pool.stride;
                let at = (y * self.pool.output.width + x) * self.units;
                let outputs = self.values[at..].iter().zip(&self.argmax[at..]).take(self.units);
                for (unit, (value, recorded)) in outputs.enumerate() {
                    let (place, slope) = places[*recorded as usize];
                    if slope != T::ZERO && *value != T::ZERO {
                        visit(window + place, unit, slope * *value);
                    }
                }
            }
        }
    }

    /// A list of `(position, value)` per unit.
    fn by_unit(&self, pooled: Range<usize>, lists: &mut Vec<Vec<Entry<T>>>) {
        reset(lists, self.units);
        self.each(pooled, |position, unit, value| lists[unit].push((position as u32, value)));
    }

    /// A list of `(unit, value)` for each of `positions`.
    fn by_position(&self, pooled: Range<usize>, positions: usize, lists: &mut Vec<Vec<Entry<T>>>) {
        reset(lists, positions);
        self.each(pooled, |position, unit, value| lists[position].push((unit as u32, value)));
    }
}

/// Empties `count` lists, keeping their room.
fn reset<T>(lists: &mut Vec<Vec<Entry<T>>>, count: usize) {
    lists.resize_with(count, Vec::new);
    lists.iter_mut().for_each(Vec::clear);
}
