//! Which method a convolution goes by.

use super::{
    plain, pooled,
    types::{Backward, Cotangents, Scratch, Term},
    winograd::{self, Tiling},
};
use crate::{
    network::{Block, Convolution},
    num::Real,
};

/// Calls `visit(row, a)` for each of `rows` datapoints with `a: [positions, units]`, the sum of the terms.
pub fn apply<T: Real>(
    block: &Block,
    c: &Convolution,
    terms: &[Term<T>],
    rows: usize,
    scratch: &mut Scratch<T>,
    visit: impl FnMut(usize, &mut [T]),
) {
    match Tiling::if_worthwhile::<T>(block, c, rows) {
        Some(tiling) => winograd::apply(block, c, tiling, terms, rows, scratch, visit),
        None => plain::apply(block, c, terms, rows, scratch, visit),
    }
}

/// The backward pass of a block for `rows` datapoints.
///
/// Adds the gradient in the block's weights to `gradient: [units, width]`, with the inputs `x: [rows, features in]` (one cotangent per datapoint only), and
/// writes the cotangent of the inputs to `below: [rows * per_datapoint, features in]`.
pub fn backward<T: Real>(
    block: &Block,
    c: &Convolution,
    cotangents: Cotangents<T>,
    rows: usize,
    gradient: Option<(&[T], &mut [T])>,
    below: Option<(&[T], &mut [T])>,
    scratch: &mut Scratch<T>,
) {
    let images = rows * cotangents.per_datapoint;
    let pass = Backward { block, c, cotangents, images, gradient, below };
    if let Some(tiling) = Tiling::if_worthwhile::<T>(block, c, images) {
        return winograd::backward(pass, tiling, scratch);
    }
    match pooled::if_worthwhile(block, &cotangents.derivative) {
        Some((pool, argmax)) => pooled::backward(pass, pool, argmax, scratch),
        None => plain::backward(pass, scratch),
    }
}
