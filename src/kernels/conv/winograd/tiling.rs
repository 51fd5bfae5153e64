//! How outputs are cut into tiles, and when it pays.

use super::transform::{PLANES, POINTS};
use crate::{
    network::{Block, Convolution},
    num::{Real, fast_paths},
};

/// Approximate number of elements of a block's planes.
const BLOCK: usize = 1 << 16;
/// Channels and units from which the products are large enough.
const FEWEST: usize = 16;
/// Tiles of a call from which transforming the filters pays.
const TILES: usize = 32;

/// How outputs are cut into tiles.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Tiling {
    /// Outputs of a tile, in each direction.
    pub(super) side: usize,
    down: usize,
    across: usize,
}

impl Tiling {
    /// Of a convolution that transforms can do.
    pub(super) fn new(c: &Convolution) -> Option<Self> {
        if c.stride != 1 || !matches!(c.kernel, 3 | 5) {
            return None;
        }
        let side = POINTS + 1 - c.kernel;
        Some(Self { side, down: c.output.height.div_ceil(side), across: c.output.width.div_ceil(side) })
    }

    /// Of a convolution of `images` that is less work by transforms.
    pub(in super::super) fn if_worthwhile<T: Real>(block: &Block, c: &Convolution, images: usize) -> Option<Self> {
        let tiling = Self::new(c).filter(|_| may_round_more::<T>() && fast_paths())?;
        let large = c.input.channels >= FEWEST && block.units >= FEWEST && images * tiling.count() >= TILES;
        let fewer = 2 * tiling.count() * PLANES <= c.output.positions() * c.kernel * c.kernel;
        (large && fewer).then_some(tiling)
    }

    /// Tiles of an image.
    pub(super) fn count(&self) -> usize {
        self.down * self.across
    }

    /// Images side by side in a block of planes with this many channels.
    pub(super) fn images(&self, channels: usize) -> usize {
        (BLOCK / (PLANES * channels * self.count())).max(1)
    }

    /// The first row and column of every tile's window in an image with `padding` rows and columns before the first.
    pub(super) fn origins(&self, padding: usize) -> impl Iterator<Item = (isize, isize)> + use<> {
        let Self { side, across, .. } = *self;
        let origin = move |at: usize| (at * side) as isize - padding as isize;
        (0..self.count()).map(move |tile| (origin(tile / across), origin(tile % across)))
    }
}

/// Whether results of this type may round ten times as much as plain sums do: `f64` is the type of exact work.
fn may_round_more<T: Real>() -> bool {
    size_of::<T>() == size_of::<f32>()
}
