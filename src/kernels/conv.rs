//! Convolutions as products: patches of the images are unfolded into the rows of a matrix (im2col), a tile at a time so that it stays
//! in the cache.
//!
//! Images are `[height, width, channels]`. With `P = kernel * kernel * channels`, unfolding gives `X: [positions, P]`, and with the filters
//! `W: [units, P]` (biases apart) the three passes are `a = X W' + b`, `dW = delta' X`, `dX = delta W`; folding, the adjoint of unfolding, turns
//! `dX` into the cotangent of the images. Gates ([`super::gate`]) are applied to the pre-activations of an image while they are hot.

use super::{
    Real, View,
    gate::{Gate, pull},
    matmul,
    sparse::Entry,
    winners,
    winograd::{self, Tiling, Transformed},
};
use crate::network::{Block, Convolution};
use std::ops::Range;

/// Elements of unfolded patches in a tile: half a megabyte in `f32`.
const TILE: usize = 1 << 17;

/// Buffers of the convolution kernels, for reuse. They grow to what the largest layer needs.
#[derive(Clone, Debug, Default)]
pub struct Scratch<T> {
    pub(super) columns: Vec<T>,
    pub(super) activations: Vec<T>,
    pub(super) weights: Vec<Vec<T>>,
    pub(super) entries: Vec<Vec<Entry<T>>>,
    pub(super) transformed: Transformed<T>,
}

/// The first `len` elements of a buffer, grown if need be; they hold anything.
pub(super) fn at_least<T: Real>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::ZERO);
    }
    &mut buffer[..len]
}

/// How the images of a call are cut into products.
struct Tiles {
    /// Images side by side in one product; more than one only if whole images fit in a tile.
    images: usize,
    /// Output rows of an image in one product.
    rows: usize,
}

impl Tiles {
    fn new(c: &Convolution) -> Self {
        let (height, row) = (c.output.height, c.output.width * c.patch());
        let images = TILE / (height * row);
        if images > 0 {
            return Self { images, rows: height };
        }
        // As even as possible.
        let tiles = height.div_ceil((TILE / row).max(1));
        Self { images: 1, rows: height.div_ceil(tiles) }
    }

    /// Calls `product` with the images (of `count`) and output rows of every tile.
    fn each(&self, c: &Convolution, count: usize, mut product: impl FnMut(Range<usize>, Range<usize>)) {
        for first in (0..count).step_by(self.images) {
            let images = first..count.min(first + self.images);
            for row in (0..c.output.height).step_by(self.rows) {
                product(images.clone(), row..c.output.height.min(row + self.rows));
            }
        }
    }
}

/// Places of the image under the kernel row `i` at output position `(y, x)`: the image row, and for each part of the kernel row that lies
/// inside, where it starts in the kernel row and in the image row and its length, in values.
#[inline(always)]
fn overlap(c: &Convolution, y: usize, x: usize, i: usize) -> Option<(usize, usize, usize, usize)> {
    let row = (y * c.stride + i).checked_sub(c.padding).filter(|row| *row < c.input.height)?;
    let start = x * c.stride;
    let skip = c.padding.saturating_sub(start).min(c.kernel);
    let from = (start + skip).checked_sub(c.padding)?;
    let length = (c.kernel - skip).min(c.input.width.saturating_sub(from));
    let channels = c.input.channels;
    Some((row * c.input.width * channels, skip * channels, from * channels, length * channels))
}

/// The patches of some output rows of an image: `columns: [rows * output width, P]`.
pub(super) fn unfold<T: Real>(c: &Convolution, image: &[T], rows: Range<usize>, columns: &mut [T]) {
    let segment = c.kernel * c.input.channels;
    let mut segments = columns.chunks_exact_mut(segment);
    for y in rows {
        for x in 0..c.output.width {
            for i in 0..c.kernel {
                let to = segments.next().expect("the columns have a segment per kernel row");
                match overlap(c, y, x, i) {
                    Some((row, 0, from, length)) if length == segment => {
                        to.copy_from_slice(&image[row + from..][..segment]);
                    }
                    Some((row, skip, from, length)) => {
                        to[..skip].fill(T::ZERO);
                        to[skip..skip + length].copy_from_slice(&image[row + from..][..length]);
                        to[skip + length..].fill(T::ZERO);
                    }
                    None => to.fill(T::ZERO),
                }
            }
        }
    }
}

/// Adds patches to the places of an image that they came from, the adjoint of [`unfold`].
pub(super) fn fold<T: Real>(c: &Convolution, columns: &[T], rows: Range<usize>, image: &mut [T]) {
    crate::kernels::vectorized(
        #[inline(always)]
        || {
            let mut segments = columns.chunks_exact(c.kernel * c.input.channels);
            for y in rows.clone() {
                for x in 0..c.output.width {
                    for i in 0..c.kernel {
                        let from = segments.next().expect("the columns have a segment per kernel row");
                        if let Some((row, skip, to, length)) = overlap(c, y, x, i) {
                            let to = &mut image[row + to..][..length];
                            to.iter_mut().zip(&from[skip..][..length]).for_each(|(to, from)| *to += *from);
                        }
                    }
                }
            }
        },
    );
}

/// The filters without bias as `[P, units]`, which products of many positions read fastest.
pub(super) fn transpose<T: Real>(block: &Block, weights: &[T], out: &mut Vec<T>) {
    let filters = View::strided(&weights[block.range()], block.units, block.inputs, block.width());
    filters.t().copy_to(at_least(out, block.units * block.inputs));
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

/// Calls `visit(row, a)` for each of `rows` datapoints with `a: [positions, units]`, the sum of the terms.
pub fn apply<T: Real>(
    block: &Block,
    c: &Convolution,
    terms: &[Term<T>],
    rows: usize,
    scratch: &mut Scratch<T>,
    mut visit: impl FnMut(usize, &mut [T]),
) {
    if let Some(tiling) = Tiling::if_worthwhile::<T>(block, c, rows) {
        return winograd::apply(block, c, tiling, terms, rows, scratch, visit);
    }
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

/// What a backward pass goes through.
#[derive(Clone, Copy, Debug)]
pub struct Cotangents<'a, T> {
    /// Of the block's output, `[rows * lines, features out]`.
    pub values: &'a [T],
    /// Cotangents per datapoint.
    pub lines: usize,
    pub gate: Gate<'a, T>,
}

impl<T: Real> Cotangents<'_, T> {
    /// Line `image` of all datapoints' lines, pulled back to the pre-activations: `delta: [positions, units]`.
    pub(super) fn pull(&self, block: &Block, image: usize, delta: &mut [T]) {
        let cotangent = &self.values[image * block.features_out()..][..block.features_out()];
        pull(&block.activation(), self.gate.row(image / self.lines, block), cotangent, delta);
    }
}

/// The backward pass of a block for `rows` datapoints.
///
/// Adds the gradient in the block's weights to `gradient: [units, width]`, with the inputs `x: [rows, features in]` (one line only), and
/// writes the cotangent of the inputs to `below: [rows * lines, features in]`.
pub fn backward<T: Real>(
    block: &Block,
    c: &Convolution,
    cotangents: Cotangents<T>,
    rows: usize,
    gradient: Option<(&[T], &mut [T])>,
    below: Option<(&[T], &mut [T])>,
    scratch: &mut Scratch<T>,
) {
    if let Some(tiling) = Tiling::if_worthwhile::<T>(block, c, rows * cotangents.lines) {
        return winograd::backward(block, c, tiling, cotangents, rows, gradient, below, scratch);
    }
    match winners::sparse(block, &cotangents.gate) {
        Some((pool, winners)) => {
            winners::backward(block, c, pool, winners, cotangents, rows, gradient, below, scratch);
        }
        None => dense_backward(block, c, cotangents, rows, gradient, below, scratch),
    }
}

/// [`backward`] by dense products.
fn dense_backward<T: Real>(
    block: &Block,
    c: &Convolution,
    cotangents: Cotangents<T>,
    rows: usize,
    gradient: Option<(&[T], &mut [T])>,
    below: Option<(&[T], &mut [T])>,
    scratch: &mut Scratch<T>,
) {
    let lines = cotangents.lines;
    let (units, patch, positions, width) = (block.units, block.inputs, block.positions(), block.width());
    let Scratch { columns, activations, .. } = scratch;
    let tiles = Tiles::new(c);
    let columns = at_least(columns, tiles.images * tiles.rows * c.output.width * patch);
    let deltas = at_least(activations, tiles.images.min((rows * lines).max(1)) * positions * units);
    let (mut gradient, mut below) = (gradient, below);
    if let Some((_, below)) = &mut below {
        below.fill(T::ZERO);
    }
    tiles.each(c, rows * lines, |images, span| {
        if span.start == 0 {
            for (image, delta) in images.clone().zip(deltas.chunks_exact_mut(positions * units)) {
                cotangents.pull(block, image, delta);
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
        crate::kernels::vectorized(
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

/// Calls `visit` with the patches `[patches, P]` of `rows` datapoints, in order, a tile at a time.
pub fn each_patch<T: Real>(
    c: &Convolution,
    x: &[T],
    rows: usize,
    scratch: &mut Scratch<T>,
    mut visit: impl FnMut(&[T]),
) {
    let tiles = Tiles { images: 1, ..Tiles::new(c) };
    let columns = at_least(&mut scratch.columns, tiles.rows * c.output.width * c.patch());
    tiles.each(c, rows, |images, span| {
        let columns = &mut columns[..span.len() * c.output.width * c.patch()];
        for image in images {
            unfold(c, &x[image * c.input.len()..][..c.input.len()], span.clone(), columns);
            visit(columns);
        }
    });
}

/// The gradient of each cotangent in the weights of chosen filters: `out: [filters, lines of all rows, width]`, a line after the other.
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
    let lines = cotangents.lines;
    let (units, patch, positions, width) = (block.units, block.inputs, block.positions(), block.width());
    assert_eq!(out.len(), filters.len() * rows * lines * width, "a gradient per filter and line");
    let Scratch { columns, activations, weights, .. } = scratch;
    weights.resize_with(1.max(weights.len()), Vec::new);
    let delta = at_least(activations, positions * units);
    // [filters, lines, positions] of one datapoint.
    let chosen = at_least(&mut weights[0], filters.len() * lines * positions);
    let tiles = Tiles::new(c);
    let columns = at_least(columns, tiles.rows * c.output.width * patch);
    out.fill(T::ZERO);
    for row in 0..rows {
        for line in 0..lines {
            cotangents.pull(block, row * lines + line, delta);
            for (f, filter) in filters.iter().enumerate() {
                let chosen = &mut chosen[(f * lines + line) * positions..][..positions];
                let values = delta.iter().skip(*filter).step_by(units);
                chosen.iter_mut().zip(values).for_each(|(to, d)| *to = *d);
            }
        }
        for f in 0..if block.bias { filters.len() } else { 0 } {
            for line in 0..lines {
                let sum: T = chosen[(f * lines + line) * positions..][..positions].iter().copied().sum();
                out[((f * rows + row) * lines + line) * width + patch] = sum;
            }
        }
        for first in (0..c.output.height).step_by(tiles.rows) {
            let span = first..c.output.height.min(first + tiles.rows);
            let (start, size) = (span.start * c.output.width, span.len() * c.output.width);
            unfold(c, &x[row * c.input.len()..][..c.input.len()], span, columns);
            let patches = View::new(&columns[..size * patch], size, patch);
            for f in 0..filters.len() {
                let delta = View::strided(&chosen[f * lines * positions + start..], lines, size, positions);
                matmul(&mut out[(f * rows + row) * lines * width..], width, delta, patches, true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Image;

    fn image(channels: usize, height: usize, width: usize) -> Image {
        Image { channels, height, width }
    }

    fn geometries() -> impl Iterator<Item = Convolution> {
        [
            (image(1, 4, 5), 2, 3, 1, 1),
            (image(3, 5, 4), 4, 2, 0, 1),
            (image(2, 6, 7), 3, 3, 2, 2),
            (image(2, 3, 3), 1, 5, 2, 3),
            (image(1, 2, 2), 2, 6, 3, 1),
            (image(3, 1, 1), 2, 1, 0, 1),
        ]
        .into_iter()
        .map(|(image, maps, kernel, padding, stride)| {
            Convolution::new(image, maps, kernel, padding, stride).expect("the kernel fits")
        })
    }

    fn numbers(count: usize, speed: f64) -> Vec<f64> {
        (0..count).map(|i| (i as f64 * speed + 0.3).sin()).collect()
    }

    #[test]
    fn patches_are_those_of_the_definition() {
        for c in geometries() {
            let image = numbers(c.input.len(), 0.7);
            let mut columns = vec![f64::NAN; c.output.positions() * c.patch()];
            unfold(&c, &image, 0..c.output.height, &mut columns);
            let mut at = 0;
            for (y, x) in (0..c.output.height).flat_map(|y| (0..c.output.width).map(move |x| (y, x))) {
                for (i, j) in (0..c.kernel).flat_map(|i| (0..c.kernel).map(move |j| (i, j))) {
                    for channel in 0..c.input.channels {
                        let (row, column) = (y * c.stride + i, x * c.stride + j);
                        let inside = (c.padding..c.input.height + c.padding).contains(&row)
                            && (c.padding..c.input.width + c.padding).contains(&column);
                        let expected = match inside {
                            true => {
                                let position = (row - c.padding) * c.input.width + column - c.padding;
                                image[position * c.input.channels + channel]
                            }
                            false => 0.0,
                        };
                        assert_eq!(columns[at], expected, "{c:?} at {y}, {x}, kernel {i}, {j}");
                        at += 1;
                    }
                }
            }
        }
    }

    #[test]
    fn folding_is_the_adjoint_of_unfolding() {
        for c in geometries() {
            let (image, columns) = (numbers(c.input.len(), 0.7), numbers(c.output.positions() * c.patch(), 0.3));
            let mut unfolded = vec![0.0; columns.len()];
            unfold(&c, &image, 0..c.output.height, &mut unfolded);
            let mut folded = vec![0.0; image.len()];
            for y in 0..c.output.height {
                let row = c.output.width * c.patch();
                fold(&c, &columns[y * row..(y + 1) * row], y..y + 1, &mut folded);
            }
            let left: f64 = unfolded.iter().zip(&columns).map(|(a, b)| a * b).sum();
            let right: f64 = folded.iter().zip(&image).map(|(a, b)| a * b).sum();
            assert!((left - right).abs() < 1e-12 * left.abs().max(1.0), "{c:?}: {left} {right}");
        }
    }

    #[test]
    fn tiles_cover_every_output_row_once() {
        for c in geometries().chain(Convolution::new(Image { channels: 64, height: 37, width: 33 }, 8, 5, 2, 1)) {
            let tiles = Tiles::new(&c);
            let mut seen = vec![0; 7 * c.output.height];
            tiles.each(&c, 7, |images, rows| {
                assert!(images.len() == 1 || rows == (0..c.output.height));
                for image in images {
                    rows.clone().for_each(|row| seen[image * c.output.height + row] += 1);
                }
            });
            assert!(seen.iter().all(|count| *count == 1));
        }
    }

    #[test]
    fn going_through_the_winners_is_the_dense_product() {
        use crate::network::{LayerSpec, Network, Pooling, Rectifier};
        let rectifiers = [None, Some(Rectifier::Relu), Some(Rectifier::LeakyRelu { slope: 0.1 }), Some(Rectifier::Abs)];
        let pools = [(2, 2), (3, 2), (2, 3), (4, 4), (3, 3)];
        for (rectifier, (size, stride)) in rectifiers.into_iter().flat_map(|r| pools.map(|pool| (r, pool))) {
            let (side, rows) = (size + 2 * stride, 3);
            let mut layers = vec![LayerSpec::Conv { maps: 5, kernel: 3, padding: 1, stride: 1, bias: true }];
            layers.extend(rectifier.map(LayerSpec::Rectifier));
            layers.push(LayerSpec::Pool { pooling: Pooling::Max, size, stride });
            layers.extend([LayerSpec::Flatten, LayerSpec::dense(2)]);
            let network = Network::new(image(2, side, side), &layers).unwrap();
            let (block, weights) = (&network.blocks()[0], numbers(network.parameters(), 1.3));
            let c = block.convolution().unwrap();
            let x = numbers(rows * c.input.len(), 0.7);
            let tape = crate::passes::Tape::record(&network, &weights, &x, rows);
            assert!(winners::sparse(block, &tape.gate(block)).is_some(), "{size} {stride}");
            for lines in [1, 3] {
                let values = numbers(rows * lines * block.features_out(), 0.2);
                let cotangents = Cotangents { values: &values, lines, gate: tape.gate(block) };
                let run = |sparse: bool| {
                    let mut gradient = vec![0.5; block.range().len()];
                    let mut below = vec![0.0; rows * lines * block.features_in()];
                    // Gradients are of one line only.
                    let own = (lines == 1).then_some((&x[..], &mut gradient[..]));
                    let (below_of, scratch) = (Some((&weights[..], &mut below[..])), &mut Scratch::default());
                    match sparse {
                        true => backward(block, c, cotangents, rows, own, below_of, scratch),
                        false => dense_backward(block, c, cotangents, rows, own, below_of, scratch),
                    }
                    (gradient, below)
                };
                let (sparse, dense) = (run(true), run(false));
                let pairs = sparse.0.iter().zip(&dense.0).chain(sparse.1.iter().zip(&dense.1));
                for (a, b) in pairs {
                    assert!((a - b).abs() < 1e-12, "{rectifier:?}, pool {size} {stride}, {lines} lines: {a} {b}");
                }
            }
        }
    }
}
