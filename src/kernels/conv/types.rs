//! What all methods take and keep.

use crate::{
    kernels::{
        View,
        activation::{self, ActivationDerivative},
        sparse::Entry,
    },
    network::{Block, Convolution},
    num::{Real, vectorized},
};

/// Buffers of the convolution kernels, for reuse. They grow to what the largest layer needs.
#[derive(Clone, Debug, Default)]
pub struct Scratch<T> {
    pub(super) columns: Vec<T>,
    pub(super) activations: Vec<T>,
    pub(super) weights: Vec<Vec<T>>,
    pub(super) entries: Vec<Vec<Entry<T>>>,
    pub(super) transformed: Transformed<T>,
}

/// Buffers of convolutions through transforms.
#[derive(Clone, Debug, Default)]
pub(super) struct Transformed<T> {
    pub filters: Vec<T>,
    pub inputs: Vec<T>,
    pub outputs: Vec<T>,
    pub sums: Vec<T>,
    /// Zeros, read in place of what lies outside of an image.
    pub zeros: Vec<T>,
    /// Written in place of what lies outside, and never read.
    pub discarded: Vec<T>,
}

/// The first `len` elements of a buffer, grown if need be; they hold anything.
pub(in crate::kernels) fn at_least<T: Real>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::ZERO);
    }
    &mut buffer[..len]
}

/// One term of an affine map: filters from a flat vector, applied to images.
#[derive(Clone, Copy, Debug)]
pub struct Term<'a, T> {
    pub weights: &'a [T],
    /// `[rows, features in]`.
    pub x: &'a [T],
    /// Whether the filters' biases are added, if they have any.
    pub bias: bool,
}

/// The sums of the terms' biases.
pub(super) fn biases<T: Real>(block: &Block, terms: &[Term<T>]) -> Vec<T> {
    let mut bias = vec![T::ZERO; block.units];
    for term in terms.iter().filter(|term| term.bias && block.bias) {
        let rows = term.weights[block.range()].chunks_exact(block.width());
        bias.iter_mut().zip(rows).for_each(|(b, row)| *b += row[block.inputs]);
    }
    bias
}

/// The filters without bias as `[P, units]`, which products of many positions read fastest.
pub(super) fn transpose<T: Real>(block: &Block, weights: &[T], out: &mut Vec<T>) {
    let filters = View::strided(&weights[block.range()], block.units, block.inputs, block.width());
    filters.t().copy_to(at_least(out, block.units * block.inputs));
}

/// The cotangents that a backward pass takes through a block, and the block's activation derivative.
#[derive(Clone, Copy, Debug)]
pub struct Cotangents<'a, T> {
    /// Of the block's output, `[rows * per_datapoint, features out]`.
    pub values: &'a [T],
    /// Cotangents per datapoint.
    pub per_datapoint: usize,
    pub derivative: ActivationDerivative<'a, T>,
}

impl<T: Real> Cotangents<'_, T> {
    /// The `image`-th of all cotangents in the pre-activations: `delta: [positions, units]`.
    pub(super) fn pre_activations(&self, block: &Block, image: usize, delta: &mut [T]) {
        let cotangent = &self.values[image * block.features_out()..][..block.features_out()];
        activation::vjp(&block.activation(), self.derivative.row(image / self.per_datapoint, block), cotangent, delta);
    }
}

/// The arguments of [`super::backward`].
pub(super) struct Backward<'a, T> {
    pub block: &'a Block,
    pub c: &'a Convolution,
    pub cotangents: Cotangents<'a, T>,
    /// Cotangents of all datapoints: `rows * per_datapoint`.
    pub images: usize,
    /// The inputs, and what the gradient is added to.
    pub gradient: Option<(&'a [T], &'a mut [T])>,
    /// The weights, and where the cotangent of the inputs goes.
    pub below: Option<(&'a [T], &'a mut [T])>,
}

/// Adds the sums of `delta: [positions, units]` to the last column of `gradient: [units, width]`, if that is the biases'.
pub(super) fn add_bias_gradient<T: Real>(block: &Block, delta: &[T], gradient: &mut [T]) {
    const LANES: usize = 16;
    if !block.bias {
        return;
    }
    let (units, width) = (block.units, block.width());
    for first in (0..units).step_by(LANES) {
        let count = LANES.min(units - first);
        let mut sums = [T::ZERO; LANES];
        vectorized(
            #[inline(always)]
            || {
                for row in delta.chunks_exact(units) {
                    sums.iter_mut().zip(&row[first..first + count]).for_each(|(sum, d)| *sum += *d);
                }
            },
        );
        for (u, sum) in sums.iter().enumerate().take(count) {
            gradient[(first + u) * width + block.inputs] += *sum;
        }
    }
}
