//! Shapes of activations, and the geometry of convolutions and pools.
//!
//! An image is `[channels, height, width]` in messages, experiment files and traces, as in PyTorch. In memory the activations of
//! convolutions are `[height, width, channels]`, so that the channels of a position lie side by side.

use std::fmt;

/// The size of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl Image {
    /// Values in an image.
    pub fn len(&self) -> usize {
        self.channels * self.height * self.width
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Positions in an image.
    pub fn positions(&self) -> usize {
        self.height * self.width
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.height, self.width)
    }
}

/// The shape of one datapoint between two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A vector of this length.
    Features(usize),
    Image(Image),
}

impl Shape {
    /// Values in a datapoint.
    pub fn len(&self) -> usize {
        match self {
            Shape::Features(features) => *features,
            Shape::Image(image) => image.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<usize> for Shape {
    fn from(features: usize) -> Self {
        Shape::Features(features)
    }
}

impl From<Image> for Shape {
    fn from(image: Image) -> Self {
        Shape::Image(image)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Features(features) => write!(f, "{features}"),
            Shape::Image(image) => write!(f, "{image}"),
        }
    }
}

/// Positions along one side that a window of `size` takes with `stride` steps; `None` if the window is larger than the side.
fn steps(side: usize, padding: usize, size: usize, stride: usize) -> Option<usize> {
    (side + 2 * padding).checked_sub(size).map(|rest| rest / stride + 1)
}

/// A convolution with a square kernel and zero padding, here with a bias: `a[y, x, m] = sum_{i, j, c} W[m, i, j, c] x[y s + i - p, x s + j - p, c] + b[m]`.
///
/// Positions that would need rows or columns beyond the padding are left out, as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    pub input: Image,
    /// Its channels are the filters.
    pub output: Image,
    pub kernel: usize,
    pub padding: usize,
    pub stride: usize,
}

impl Convolution {
    /// `None` if the kernel is larger than the padded input.
    pub fn new(input: Image, maps: usize, kernel: usize, padding: usize, stride: usize) -> Option<Self> {
        let height = steps(input.height, padding, kernel, stride)?;
        let width = steps(input.width, padding, kernel, stride)?;
        Some(Self { input, output: Image { channels: maps, height, width }, kernel, padding, stride })
    }

    /// Values under the kernel: `kernel * kernel * channels`, the inputs of a filter.
    pub fn patch(&self) -> usize {
        self.kernel * self.kernel * self.input.channels
    }
}

/// What a pool does with the values in its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The largest value; of equal ones the first in row-major order.
    Max,
    /// The mean.
    Average,
}

impl Pooling {
    /// The name in experiment files.
    pub fn name(self) -> &'static str {
        match self {
            Pooling::Max => "max_pool",
            Pooling::Average => "avg_pool",
        }
    }
}

/// A pool with square windows that cover its input exactly up to where strides skip values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    pub pooling: Pooling,
    pub input: Image,
    pub output: Image,
    pub size: usize,
    pub stride: usize,
}

impl Pool {
    /// `None` if the windows do not end with the image.
    pub fn new(pooling: Pooling, input: Image, size: usize, stride: usize) -> Option<Self> {
        let fits = |side: usize| side >= size && (side - size).is_multiple_of(stride);
        if !fits(input.height) || !fits(input.width) {
            return None;
        }
        let (height, width) = (steps(input.height, 0, size, stride)?, steps(input.width, 0, size, stride)?);
        let output = Image { channels: input.channels, height, width };
        Some(Self { pooling, input, output, size, stride })
    }

    /// Places in a window.
    pub fn places(&self) -> usize {
        self.size * self.size
    }

    /// The position of the first place of a window, which is an output position.
    #[inline(always)]
    pub fn corner(&self, window: usize) -> usize {
        let (y, x) = (window / self.output.width, window % self.output.width);
        (y * self.input.width + x) * self.stride
    }

    /// How far, in positions, a place of a window is behind the first one; places are in row-major order.
    #[inline(always)]
    pub fn offset(&self, place: usize) -> usize {
        place / self.size * self.input.width + place % self.size
    }

    /// Calls `visit(window, place in the window, position)` for every window and every place in it, the places of a window one after the other.
    #[inline(always)]
    pub fn each_place(&self, mut visit: impl FnMut(usize, usize, usize)) {
        for window in 0..self.output.positions() {
            let corner = self.corner(window);
            for i in 0..self.size {
                for j in 0..self.size {
                    visit(window, i * self.size + j, corner + i * self.input.width + j);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_sizes_are_pytorchs() {
        let image = Image { channels: 3, height: 32, width: 30 };
        let size = |kernel, padding, stride| {
            Convolution::new(image, 8, kernel, padding, stride).map(|c| (c.output.height, c.output.width))
        };
        assert_eq!(size(5, 2, 1), Some((32, 30)));
        assert_eq!(size(3, 1, 2), Some((16, 15)));
        assert_eq!(size(4, 0, 3), Some((10, 9)));
        assert_eq!(size(31, 0, 1), None);
        let pool = |size, stride| Pool::new(Pooling::Max, image, size, stride).map(|p| p.output);
        assert_eq!(pool(2, 2), Some(Image { channels: 3, height: 16, width: 15 }));
        assert_eq!(pool(4, 4), None);
        assert_eq!(pool(33, 1), None);
    }
}
