//! Unfolding: patches of the images become the rows of a matrix (im2col), a tile at a time so that it stays in the cache.
//!
//! With `P = kernel * kernel * channels`, unfolding gives `X: [positions, P]`; folding is its adjoint.

use super::types::{Scratch, at_least};
use crate::{
    network::Convolution,
    num::{Real, vectorized},
};
use std::ops::Range;

/// Elements of unfolded patches in a tile: half a megabyte in `f32`.
const TILE: usize = 1 << 17;

/// How the images of a call are cut into products.
pub(super) struct Tiles {
    /// Images side by side in one product; more than one only if whole images fit in a tile.
    pub images: usize,
    /// Output rows of an image in one product.
    pub rows: usize,
}

impl Tiles {
    pub fn new(c: &Convolution) -> Self {
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
    pub fn each(&self, c: &Convolution, count: usize, mut product: impl FnMut(Range<usize>, Range<usize>)) {
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
    vectorized(
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
}
