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

#[cfg(test)]
mod tests;
mod transform;

use super::{
    Real, View,
    conv::{Cotangents, Scratch, Term, add_bias_gradient, at_least, biases, transpose},
    few::{self, Start},
};
use crate::network::{Block, Convolution, Image};

pub use transform::Transform;
use transform::{Direction, Form, PLANES, POINTS};

/// Elements of a block's planes, about.
const BLOCK: usize = 1 << 16;
/// Elements between planes, so that the same place of all planes does not fall on the same lines of a cache.
const GAP: usize = 16;
/// Channels and units from which the products are large enough.
const FEWEST: usize = 16;
/// Tiles of a call for which it is worth to transform the filters.
const TILES: usize = 32;

/// How outputs are cut into tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiling {
    /// Outputs of a tile, in each direction.
    side: usize,
    down: usize,
    across: usize,
}

impl Tiling {
    /// Of a convolution that transforms can do.
    fn new(c: &Convolution) -> Option<Self> {
        if c.stride != 1 || !matches!(c.kernel, 3 | 5) {
            return None;
        }
        let side = POINTS + 1 - c.kernel;
        Some(Self { side, down: c.output.height.div_ceil(side), across: c.output.width.div_ceil(side) })
    }

    /// Of a convolution of `images` that is less work by transforms.
    pub(super) fn if_worthwhile<T: Real>(block: &Block, c: &Convolution, images: usize) -> Option<Self> {
        let tiling = Self::new(c).filter(|_| T::TRANSFORMS)?;
        let large = c.input.channels >= FEWEST && block.units >= FEWEST && images * tiling.count() >= TILES;
        let fewer = 2 * tiling.count() * PLANES <= c.output.positions() * c.kernel * c.kernel;
        (large && fewer).then_some(tiling)
    }

    /// Tiles of an image.
    fn count(&self) -> usize {
        self.down * self.across
    }

    /// Images side by side in a block of planes with so many channels.
    fn images(&self, channels: usize) -> usize {
        (BLOCK / (PLANES * channels * self.count())).max(1)
    }

    /// The first row and column of every tile's window in an image with `padding` rows and columns before the first.
    fn origins(&self, padding: usize) -> impl Iterator<Item = (isize, isize)> + use<> {
        let Self { side, across, .. } = *self;
        let origin = move |at: usize| (at * side) as isize - padding as isize;
        (0..self.count()).map(move |tile| (origin(tile / across), origin(tile % across)))
    }
}

/// Buffers for reuse.
#[derive(Clone, Debug, Default)]
pub(super) struct Transformed<T> {
    filters: Vec<T>,
    inputs: Vec<T>,
    outputs: Vec<T>,
    sums: Vec<T>,
    /// Zeros, read in place of what lies outside of an image.
    zeros: Vec<T>,
    /// Written in place of what lies outside.
    waste: Vec<T>,
}

/// A matrix `[rows, channels]` for each pair of points.
struct Planes<'a, T> {
    data: &'a mut [T],
    rows: usize,
    channels: usize,
}

impl<'a, T: Real> Planes<'a, T> {
    fn new(buffer: &'a mut Vec<T>, rows: usize, channels: usize) -> Self {
        Self { data: at_least(buffer, PLANES * (rows * channels + GAP)), rows, channels }
    }

    /// From the start of a plane to that of the next.
    fn stride(&self) -> usize {
        self.rows * self.channels + GAP
    }

    fn plane(&self, at: usize) -> View<'_, T> {
        View::new(&self.data[at * self.stride()..][..self.rows * self.channels], self.rows, self.channels)
    }

    fn plane_mut(&mut self, at: usize) -> &mut [T] {
        let (start, size) = (at * self.stride(), self.rows * self.channels);
        &mut self.data[start..start + size]
    }

    /// Writes the transform of a window of an image to a row of every plane; `zeros` stand for what lies outside.
    fn gather(&mut self, row: usize, form: Form, image: &[T], frame: Frame, origin: (isize, isize), zeros: &[T]) {
        let (channels, stride) = (self.channels, self.stride());
        frame.check(image.len(), zeros.len(), channels);
        // Read only.
        let outside = zeros.as_ptr().cast_mut();
        let places = frame.window(image.as_ptr().cast_mut(), outside, origin, form.side());
        assert!(row < self.rows, "a row of the planes");
        let planes = self.data[row * channels..].as_mut_ptr();
        T::transform(Transform { direction: Direction::Gather, form, places, planes, stride, channels });
    }

    /// Adds the adjoint transform of a row of every plane to a window of an image; what lies outside goes to `waste`.
    fn scatter(&self, row: usize, form: Form, image: &mut [T], frame: Frame, origin: (isize, isize), waste: &mut [T]) {
        let (channels, stride) = (self.channels, self.stride());
        frame.check(image.len(), waste.len(), channels);
        let places = frame.window(image.as_mut_ptr(), waste.as_mut_ptr(), origin, form.side());
        assert!(row < self.rows, "a row of the planes");
        // Read only.
        let planes = self.data[row * channels..].as_ptr().cast_mut();
        T::transform(Transform { direction: Direction::Scatter, form, places, planes, stride, channels });
    }
}

/// Where the values of an image or a filter are: those of a place's channels side by side, places `stride` elements apart.
#[derive(Clone, Copy)]
struct Frame {
    height: usize,
    width: usize,
    stride: usize,
}

impl Frame {
    /// # Panics
    /// If an image of so many elements, or what stands for the outside, is too small.
    fn check(&self, size: usize, outside: usize, channels: usize) {
        assert!((self.height * self.width - 1) * self.stride + channels <= size, "the image is too small");
        assert!(channels <= outside, "there is too little outside");
    }

    /// Where the places of a window `side x side` are, row by row: in the image, or `outside`.
    fn window<T>(&self, image: *mut T, outside: *mut T, origin: (isize, isize), side: usize) -> [*mut T; PLANES] {
        let mut places = [outside; PLANES];
        for (i, row) in places.chunks_exact_mut(side).enumerate().take(side) {
            let y = origin.0 + i as isize;
            if y < 0 || y as usize >= self.height {
                continue;
            }
            let first = y as usize * self.width;
            for (j, place) in row.iter_mut().enumerate() {
                let x = origin.1 + j as isize;
                if x >= 0 && (x as usize) < self.width {
                    *place = image.wrapping_add((first + x as usize) * self.stride);
                }
            }
        }
        places
    }
}

/// The frame of images of `channels` channels.
fn frame(image: &Image) -> Frame {
    Frame { height: image.height, width: image.width, stride: image.channels }
}

/// What [`super::conv::apply`] does.
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
    let Transformed { filters, inputs, outputs, zeros, waste, .. } = transformed;
    let (units, channels, positions, tiles) = (block.units, c.input.channels, block.positions(), tiling.count());
    let together = tiling.images(channels.max(units)).min(rows.max(1));
    let (zeros, waste) = (at_least(zeros, channels.max(units)), at_least(waste, units));
    weights.resize_with(1.max(weights.len()), Vec::new);
    // Planes [channels, units], one term below the other.
    let mut filters = Planes::new(filters, terms.len() * channels, units);
    for (t, term) in terms.iter().enumerate() {
        transpose(block, term.weights, &mut weights[0]);
        let frame = Frame { height: c.kernel, width: c.kernel, stride: channels * units };
        for channel in 0..channels {
            let filter = &weights[0][channel * units..];
            filters.gather(t * channels + channel, Form::Weighted(c.kernel), filter, frame, (0, 0), zeros);
        }
    }
    let bias = biases(block, terms);
    let a = at_least(activations, together * positions * units);
    for first in (0..rows).step_by(together) {
        let images = first..rows.min(first + together);
        let mut sums = Planes::new(outputs, images.len() * tiles, units);
        for (t, term) in terms.iter().enumerate() {
            let mut inputs = Planes::new(inputs, images.len() * tiles, channels);
            gather_inputs(c, &tiling, &term.x[first * c.input.len()..], &mut inputs, zeros);
            for plane in 0..PLANES {
                let filters = filters.plane(plane).rows(t * channels..(t + 1) * channels);
                let start = if t == 0 { Start::Zero } else { Start::Out };
                few::combine(sums.plane_mut(plane), units, &[(inputs.plane(plane), filters)], start);
            }
        }
        for (i, image) in images.enumerate() {
            let a = &mut a[i * positions * units..][..positions * units];
            a.chunks_exact_mut(units).for_each(|a| a.copy_from_slice(&bias));
            for (tile, origin) in tiling.origins(0).enumerate() {
                sums.scatter(i * tiles + tile, Form::Values(tiling.side), a, frame(&c.output), origin, waste);
            }
            visit(image, a);
        }
    }
}

/// The transforms of the inputs of as many images as the planes have tiles of.
fn gather_inputs<T: Real>(c: &Convolution, tiling: &Tiling, x: &[T], planes: &mut Planes<T>, zeros: &[T]) {
    for (i, image) in x.chunks_exact(c.input.len()).take(planes.rows / tiling.count()).enumerate() {
        for (tile, origin) in tiling.origins(c.padding).enumerate() {
            let row = i * tiling.count() + tile;
            planes.gather(row, Form::Interpolation, image, frame(&c.input), origin, zeros);
        }
    }
}

/// What [`super::conv::backward`] does.
#[allow(clippy::too_many_arguments)]
pub(super) fn backward<T: Real>(
    block: &Block,
    c: &Convolution,
    tiling: Tiling,
    cotangents: Cotangents<T>,
    rows: usize,
    gradient: Option<(&[T], &mut [T])>,
    below: Option<(&[T], &mut [T])>,
    scratch: &mut Scratch<T>,
) {
    let lines = cotangents.lines;
    let Scratch { activations, transformed, .. } = scratch;
    let Transformed { filters, inputs, outputs, sums, zeros, waste } = transformed;
    let (units, channels, positions, width) = (block.units, c.input.channels, block.positions(), block.width());
    let (tiles, wide) = (tiling.count(), channels.max(units));
    let together = tiling.images(wide).min((rows * lines).max(1));
    let (zeros, waste) = (at_least(zeros, wide), at_least(waste, wide));
    let (mut gradient, mut below) = (gradient, below);
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
    let delta = at_least(activations, positions * units);
    for first in (0..rows * lines).step_by(together) {
        let images = first..(rows * lines).min(first + together);
        let mut deltas = Planes::new(outputs, images.len() * tiles, units);
        for (i, image) in images.clone().enumerate() {
            cotangents.pull(block, image, delta);
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
            for plane in 0..PLANES {
                let (deltas, inputs) = (deltas.plane(plane).t(), inputs.plane(plane));
                few::combine(sums.plane_mut(plane), channels, &[(deltas, inputs)], Start::Out);
            }
        }
        if let Some((_, below)) = &mut below {
            for plane in 0..PLANES {
                let (deltas, filters) = (deltas.plane(plane), filters.plane(plane));
                few::combine(inputs.plane_mut(plane), channels, &[(deltas, filters)], Start::Zero);
            }
            for (i, image) in images.enumerate() {
                let below = &mut below[image * c.input.len()..][..c.input.len()];
                for (tile, origin) in tiling.origins(c.padding).enumerate() {
                    let row = i * tiles + tile;
                    inputs.scatter(row, Form::Interpolation, below, frame(&c.input), origin, waste);
                }
            }
        }
    }
    if let Some((_, gradient)) = &mut gradient {
        for (unit, gradient) in gradient.chunks_exact_mut(width).enumerate() {
            sums.scatter(unit, Form::Weighted(c.kernel), gradient, kernel, (0, 0), waste);
        }
    }
}
