//! Several directions in the weights of some blocks, stacked so that they go through the rounds together.

use super::window::Window;
use crate::{kernels::View, network::Block, num::Real};
use std::ops::Range;

/// Where the numbers of several directions lie: block after block, each `[count * units, width]`.
///
/// If the network's inputs are kept by columns, what belongs to the first block is transposed: `[count, width, units]`.
#[derive(Clone)]
pub(super) struct Layout<'a> {
    all: &'a [Block],
    /// Number of directions.
    pub(super) count: usize,
    /// The blocks that move.
    pub(super) blocks: Range<usize>,
    first_transposed: bool,
}

impl<'a> Layout<'a> {
    pub(super) fn new<C: Real>(window: &'a Window<C>, blocks: Range<usize>, count: usize) -> Self {
        let first_transposed = window.by_columns() && blocks.start == 0;
        Self { all: window.network().blocks(), count, blocks, first_transposed }
    }

    /// Numbers in all.
    pub(super) fn len(&self) -> usize {
        self.count * self.direction().len()
    }

    /// The weights of the blocks, as a range of the flat vector.
    pub(super) fn direction(&self) -> Range<usize> {
        self.all[self.blocks.start].offset..self.all[self.blocks.end - 1].range().end
    }

    /// Where the numbers of block `l` lie.
    pub(super) fn range(&self, l: usize) -> Range<usize> {
        let base = self.all[self.blocks.start].offset;
        (self.all[l].offset - base) * self.count..(self.all[l].range().end - base) * self.count
    }

    /// Whether any hidden block is among those that move.
    pub(super) fn moves_hidden(&self) -> bool {
        self.blocks.start + 1 < self.all.len()
    }

    /// Whether the output block is among those that move.
    pub(super) fn moves_output(&self) -> bool {
        self.blocks.contains(&(self.all.len() - 1))
    }

    /// The numbers of the hidden blocks, and those of the output block (none if it does not move).
    pub(super) fn split<'s, C>(&self, sums: &'s mut [C]) -> (&'s mut [C], &'s mut [C]) {
        let hidden = if self.moves_output() { self.range(self.all.len() - 1).start } else { sums.len() };
        sums.split_at_mut(hidden)
    }

    /// A block whose units are those of all directions.
    pub(super) fn stacked(&self, block: &Block) -> Block {
        Block { units: self.count * block.units, offset: 0, ..block.clone() }
    }

    /// The directions one by one, each in the order of the weights.
    pub(super) fn unstack<C: Real>(&self, sums: &[C]) -> Vec<Vec<C>> {
        let part = |d: usize, l: usize| {
            let (size, block) = (self.all[l].range().len(), &self.all[l]);
            let own = &sums[self.range(l)][d * size..(d + 1) * size];
            if l == 0 && self.first_transposed { transposed(own, block.units) } else { own.to_vec() }
        };
        let one = |d: usize| self.blocks.clone().map(|l| part(d, l)).collect::<Vec<_>>().concat();
        (0..self.count).map(one).collect()
    }
}

/// Directions, cut into one stacked matrix per block.
pub(super) struct Stack<'a, C> {
    pub(super) layout: Layout<'a>,
    /// One matrix per block that moves, in the form of [`Layout`].
    parts: Vec<Vec<C>>,
    /// `V'` of the output block, `[width, units]` for each direction, if it moves.
    pub(super) output: Vec<Vec<C>>,
}

impl<'a, C: Real> Stack<'a, C> {
    /// Stacks flat directions, each the part of a weight vector that belongs to `blocks`.
    pub(super) fn new(window: &'a Window<C>, blocks: Range<usize>, directions: &[&[C]]) -> Self {
        let layout = Layout::new(window, blocks.clone(), directions.len());
        let base = layout.direction().start;
        let part = |block: &Block| {
            let range = block.offset - base..block.range().end - base;
            let directions: Vec<&[C]> = directions.iter().map(|d| &d[range.clone()]).collect();
            if layout.first_transposed && block.offset == 0 {
                directions.iter().flat_map(|d| transposed(d, block.width())).collect()
            } else {
                directions.concat()
            }
        };
        let parts: Vec<Vec<C>> = layout.all[blocks].iter().map(part).collect();
        let output = if layout.moves_output() {
            let block = window.output_block();
            directions.iter().map(|d| transposed(&d[block.offset - base..], block.width())).collect()
        } else {
            Vec::new()
        };
        Self { layout, parts, output }
    }

    /// The stacked matrix of block `l`, if it moves.
    pub(super) fn part(&self, l: usize) -> Option<&[C]> {
        self.layout.blocks.contains(&l).then(|| &self.parts[l - self.layout.blocks.start][..])
    }
}

/// The transpose of a row-major matrix with rows of this width.
fn transposed<C: Real>(matrix: &[C], width: usize) -> Vec<C> {
    View::new(matrix, matrix.len() / width, width).t().to_vec()
}
