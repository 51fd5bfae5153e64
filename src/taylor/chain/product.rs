//! Products with the curvature `H = (1/N) sum_n J_n' Hl J_n` of a [`Window`].
//!
//! Several directions go through a group of rounds at a time: what all rounds share (the directions, the gradient) is one
//! large product per group and block, what differs (the weights `W^n`) one small product per round and block.
//!
//! For the mean squared error, `Hl = (2/K) I`, the outputs are never formed. With `t_i` the tangent of the last hidden layer
//! and `x_i` its value with the constant 1 of the output's bias, round `n` contributes
//!
//! - to the output block `W^n P_n + V S_n` with `P_n = sum_i t_i x_i'` and `S_n = sum_i x_i x_i'`,
//! - to the cotangent of the last hidden layer `(W^n' W^n) t_i + (W^n' V) x_i`,
//!
//! all times `2/K`: a few products of the size of the output block per round instead of four per datapoint.
//!
//! Where the network's inputs are mostly zero they are kept by columns ([`crate::kernels::columns`]), and what belongs to the first block,
//! directions and sums, is transposed: `[count, width, units]`.

use super::window::{Group, PulledError, Window};
use crate::{
    kernels::{
        Real, View,
        dense::{accumulate_outer, affine, matrix},
        matmul,
        real::{convert, convert_into, dot},
    },
    network::Block,
};
use std::{ops::Range, sync::OnceLock};

/// Directions that go through the rounds together at most.
const TOGETHER: usize = 16;

/// Directions stacked per block: `[count * units, width]` for each of a range of blocks (the first block's possibly transposed).
struct Stack<C> {
    count: usize,
    blocks: Range<usize>,
    /// One matrix per block of the range.
    parts: Vec<Vec<C>>,
    /// `V'` of the output block, one per direction, if it moves: `[width, units]`.
    output: Vec<Vec<C>>,
}

impl<C: Real> Stack<C> {
    /// Cuts flat directions (the part that belongs to `blocks`) into blocks.
    fn new(all: &[Block], blocks: Range<usize>, directions: &[&[C]], by_columns: bool) -> Self {
        let base = all[blocks.start].offset;
        let part = |block: &Block| {
            let range = block.offset - base..block.range().end - base;
            let directions: Vec<&[C]> = directions.iter().map(|d| &d[range.clone()]).collect();
            match by_columns && block.offset == 0 {
                true => directions.iter().flat_map(|d| transposed(d, block.width())).collect(),
                false => directions.concat(),
            }
        };
        let count = directions.len();
        let parts: Vec<Vec<C>> = all[blocks.clone()].iter().map(part).collect();
        let last = all.len() - 1;
        let output = match blocks.contains(&last) {
            true => directions.iter().map(|d| transposed(&d[all[last].offset - base..], all[last].width())).collect(),
            false => Vec::new(),
        };
        Self { count, blocks, parts, output }
    }

    /// The stacked matrix of block `l`, if it moves.
    fn part(&self, l: usize) -> Option<&[C]> {
        self.blocks.contains(&l).then(|| &self.parts[l - self.blocks.start][..])
    }

    /// A block whose units are those of all directions.
    fn stacked(&self, block: &Block) -> Block {
        Block { units: self.count * block.units, offset: 0, ..block.clone() }
    }
}

/// The transpose of a matrix with rows of this width.
fn transposed<C: Real>(matrix: &[C], width: usize) -> Vec<C> {
    /// Rows that are read together, so that what is written is a run of some length.
    const ROWS: usize = 16;
    let rows = matrix.len() / width;
    let mut out = vec![C::ZERO; rows * width];
    for (first, part) in matrix.chunks(ROWS * width).enumerate() {
        let count = part.len() / width;
        for (j, out) in out.chunks_exact_mut(rows).enumerate() {
            let run = &mut out[first * ROWS..][..count];
            run.iter_mut().zip(part[j..].iter().step_by(width)).for_each(|(to, from)| *to = *from);
        }
    }
    out
}

/// Where the sums of a block lie: the blocks one after the other, each `[count * units, width]`.
fn stacked_range(all: &[Block], stack_start: usize, count: usize, l: usize) -> Range<usize> {
    let base = all[stack_start].offset;
    (all[l].offset - base) * count..(all[l].range().end - base) * count
}

/// What a direction in the hidden blocks does to the output block, see [`Window::output_image`].
pub struct OutputImage<C> {
    /// The part of the product that belongs to the output block.
    pub image: Vec<C>,
    /// Per group the tangents of the last hidden layer, `[rows, units]`.
    tangents: Vec<OnceLock<Vec<C>>>,
}

/// Buffers of one thread, kept from group to group.
#[derive(Default)]
struct Scratch<C> {
    /// `[rows, count, units]` of the block at hand, and of the next.
    tangent: Vec<C>,
    next: Vec<C>,
    /// `P_n'`, `[inputs of the output block, width of it]`; or `W^n' V`, `[width of the output block, count * inputs of it]`.
    cross: Vec<C>,
    /// The first round of the frame that the rounds at hand are in.
    frame: Option<usize>,
    /// In that frame, of every direction: `(Q V)'`, `[width of the output block, rank]`,
    entered: Vec<C>,
    /// and `sum A_n P_n` so far, `[rank, width of the output block]`; empty if it is not asked for.
    framed: Vec<C>,
    /// What does not go by the frame, in single precision: `V'` of every direction, `[width of the output block, units]`,
    outside: Vec<f32>,
    /// `sum E_n P_n` so far, `[units, width of the output block]`,
    left: Vec<f32>,
    /// and `P_n'` or `V' E_n`.
    narrow: Vec<f32>,
}

impl<C: Real> Window<'_, C> {
    fn stack(&self, blocks: Range<usize>, directions: &[&[C]]) -> Stack<C> {
        Stack::new(self.network().blocks(), blocks, directions, self.by_columns())
    }

    /// Sums over groups, for the weights of blocks from `start` on and `count` directions, with the first block as the others.
    fn untransposed<S: Real>(&self, start: usize, count: usize, mut sums: Vec<S>) -> Vec<S> {
        if self.by_columns() && start == 0 {
            let first = &self.network().blocks()[0];
            for part in sums[..count * first.range().len()].chunks_exact_mut(first.range().len()) {
                let matrix = transposed(part, first.units);
                part.copy_from_slice(&matrix);
            }
        }
        sums
    }

    /// `scale * sum_n J_n' Hl J_n d` over the given rounds for each direction `d`, for the weights of `blocks`; `Hl` is the
    /// Hessian of the loss of one datapoint.
    ///
    /// Directions and results are the part of the flat vector that belongs to `blocks`. `moved` are the outputs at which `Hl` is
    /// taken, `[rows, outputs]` from the first round; unused (empty) for the mean squared error.
    pub fn products(
        &self,
        rounds: Range<usize>,
        blocks: Range<usize>,
        directions: &[&[C]],
        moved: &[C],
        scale: f64,
    ) -> Vec<Vec<C>> {
        if self.loss().is_quadratic() {
            let together = directions.chunks(TOGETHER);
            return together.flat_map(|d| self.quadratic_products(rounds.clone(), &blocks, d, scale)).collect();
        }
        let one = |d: &&[C]| self.general_product(rounds.clone(), &blocks, d, moved, scale);
        directions.iter().map(one).collect()
    }

    /// [`Window::products`] of a single direction.
    pub fn product(
        &self,
        rounds: Range<usize>,
        blocks: Range<usize>,
        direction: &[C],
        moved: &[C],
        scale: f64,
    ) -> Vec<C> {
        self.products(rounds, blocks, &[direction], moved, scale).swap_remove(0)
    }

    /// The part of a product that belongs to the output block, for a direction in the hidden `blocks` only; mean squared error.
    pub fn output_image(
        &self,
        rounds: Range<usize>,
        blocks: Range<usize>,
        direction: &[C],
        scale: f64,
    ) -> OutputImage<C> {
        assert!(self.loss().is_quadratic(), "only the mean squared error has images without outputs");
        let all = self.network().blocks();
        let output = &all[all.len() - 1];
        let stack = self.stack(blocks, &[direction]);
        let factor = C::from_f64(2.0 / output.units as f64 * scale);
        let tangents: Vec<OnceLock<Vec<C>>> = vec![OnceLock::new(); self.groups()];
        let visit = |scratch: &mut Scratch<C>, group: &Group<C>, span: Range<usize>, sum: &mut [C]| {
            self.tangents(group, span.clone(), &stack, scratch);
            self.enter_frame(group, &stack, scratch, Some(sum));
            for (r, index) in span.clone().enumerate() {
                self.add_output(group, index, r, &stack, factor, scratch, sum);
            }
            tangents[self.number_of(group)].get_or_init(|| scratch.tangent.clone());
        };
        let finish = |scratch: &mut Scratch<C>, sum: &mut [C]| self.leave_frame(scratch, 1, sum);
        let image = self.sum_groups_to_end(rounds, output.range().len(), Scratch::default, visit, finish);
        OutputImage { image, tangents }
    }

    /// [`Window::product`] of a direction whose part in the hidden blocks has been through [`Window::output_image`] for the same rounds:
    /// what is known of it is not computed again. `blocks` ends with the output block.
    pub fn product_with(
        &self,
        rounds: Range<usize>,
        blocks: Range<usize>,
        direction: &[C],
        known: &OutputImage<C>,
        scale: f64,
    ) -> Vec<C> {
        let all = self.network().blocks();
        let stack = self.stack(blocks, &[direction]);
        let mut sums =
            self.sum_groups(rounds.clone(), direction.len(), Scratch::default, |scratch, group, span, sums| {
                let tangents = known.tangents[self.number_of(group)].get().expect("the image was over these rounds");
                scratch.tangent.clone_from(tangents);
                self.enter_frame(group, &stack, scratch, None);
                self.quadratic_pull(group, span, &stack, C::from_f64(scale), scratch, sums);
            });
        sums = self.untransposed(stack.blocks.start, 1, sums);
        let output = stacked_range(all, stack.blocks.start, 1, all.len() - 1);
        sums[output].iter_mut().zip(&known.image).for_each(|(sum, image)| *sum += *image);
        self.add_moments(rounds, &stack, scale, &mut sums);
        sums
    }

    fn quadratic_products(
        &self,
        rounds: Range<usize>,
        blocks: &Range<usize>,
        directions: &[&[C]],
        scale: f64,
    ) -> Vec<Vec<C>> {
        let all = self.network().blocks();
        let (count, last) = (directions.len(), all.len() - 1);
        let length = directions[0].len();
        let stack = self.stack(blocks.clone(), directions);
        let width = count * length;
        let hidden = blocks.start < last;
        let output = stack.blocks.contains(&last).then(|| stacked_range(all, blocks.start, count, last));
        let visit = |scratch: &mut Scratch<C>, group: &Group<C>, span: Range<usize>, sums: &mut [C]| {
            self.quadratic_group(group, span, &stack, C::from_f64(scale), scratch, sums);
        };
        let finish = |scratch: &mut Scratch<C>, sums: &mut [C]| {
            if let Some(output) = &output {
                self.leave_frame(scratch, count, &mut sums[output.clone()]);
            }
        };
        let sums: Vec<C> = match hidden {
            true => self.sum_groups_to_end(rounds.clone(), width, Scratch::default, visit, finish),
            false => vec![C::ZERO; width],
        };
        let mut sums = self.untransposed(blocks.start, count, sums);
        self.add_moments(rounds, &stack, scale, &mut sums);
        let one = |d: usize| {
            let part = |l: usize| {
                let size = all[l].range().len();
                let start = stacked_range(all, blocks.start, count, l).start + d * size;
                &sums[start..start + size]
            };
            blocks.clone().map(part).collect::<Vec<_>>().concat()
        };
        (0..count).map(one).collect()
    }

    /// Adds `V S` to the output block's part of a product, with `S` over all rounds at once.
    fn add_moments(&self, rounds: Range<usize>, stack: &Stack<C>, scale: f64, sums: &mut [C]) {
        let all = self.network().blocks();
        let last = all.len() - 1;
        let Some(v) = stack.part(last) else { return };
        let width = all[last].width();
        let mut moments = vec![C::ZERO; width * width];
        for round in &self.output_moments[rounds] {
            moments.iter_mut().zip(round).for_each(|(sum, s)| *sum += *s);
        }
        let factor = C::from_f64(2.0 / all[last].units as f64 * scale);
        moments.iter_mut().for_each(|s| *s *= factor);
        let rows = stack.count * all[last].units;
        let range = stacked_range(all, stack.blocks.start, stack.count, last);
        let (v, moments) = (View::new(v, rows, width), View::new(&moments, width, width));
        matmul(&mut sums[range], width, v, moments, true);
    }

    fn quadratic_group(
        &self,
        group: &Group<C>,
        span: Range<usize>,
        stack: &Stack<C>,
        scale: C,
        scratch: &mut Scratch<C>,
        sums: &mut [C],
    ) {
        let all = self.network().blocks();
        let last = all.len() - 1;
        self.tangents(group, span.clone(), stack, scratch);
        if stack.blocks.contains(&last) {
            let output = stacked_range(all, stack.blocks.start, stack.count, last);
            let factor = C::from_f64(2.0 / all[last].units as f64) * scale;
            self.enter_frame(group, stack, scratch, Some(&mut sums[output.clone()]));
            for (r, index) in span.clone().enumerate() {
                self.add_output(group, index, r, stack, factor, scratch, &mut sums[output.clone()]);
            }
        }
        self.quadratic_pull(group, span, stack, scale, scratch, sums);
    }

    /// Prepares for the rounds of a group, which come after those of the scratch: what there is in the frame of the last ones goes to
    /// `sums`, the output block's, if products with it are summed.
    fn enter_frame(&self, group: &Group<C>, stack: &Stack<C>, scratch: &mut Scratch<C>, sums: Option<&mut [C]>) {
        let frame = self.frame_of(group.first);
        let start = frame.map(|frame| frame.rounds.start);
        if scratch.frame == start {
            return;
        }
        let summed = sums.is_some();
        if let Some(sums) = sums {
            self.leave_frame(scratch, stack.count, sums);
        }
        scratch.frame = start;
        let Some(frame) = frame else { return };
        let all = self.network().blocks();
        let size = frame.rank() * all[all.len() - 1].width();
        scratch.entered.resize(stack.output.len() * size, C::ZERO);
        for (v, entered) in stack.output.iter().zip(scratch.entered.chunks_exact_mut(size)) {
            frame.enter(v, entered);
        }
        if frame.has_rest() {
            scratch.outside.clear();
            stack.output.iter().for_each(|v| scratch.outside.extend(convert::<C, f32>(v)));
        }
        if summed {
            scratch.framed.resize(stack.count * size, C::ZERO);
            let left = if frame.has_rest() { stack.count * all[all.len() - 1].range().len() } else { 0 };
            scratch.left.resize(left, 0.0);
        }
    }

    /// Adds what there is in a frame to the output block's sums of `count` directions, and takes it away.
    fn leave_frame(&self, scratch: &mut Scratch<C>, count: usize, sums: &mut [C]) {
        let Some(frame) = scratch.frame.take().and_then(|start| self.frame_of(start)) else { return };
        if scratch.framed.is_empty() {
            return;
        }
        let (framed, part) = (scratch.framed.len() / count, sums.len() / count);
        for (framed, sums) in scratch.framed.chunks_exact(framed).zip(sums.chunks_exact_mut(part)) {
            frame.leave(framed, sums);
        }
        sums.iter_mut().zip(&scratch.left).for_each(|(sum, left)| *sum += C::from_f64(f64::from(*left)));
        scratch.framed.clear();
        scratch.left.clear();
    }

    /// From the tangents of the last hidden layer in `scratch.tangent` back through the hidden blocks.
    fn quadratic_pull(
        &self,
        group: &Group<C>,
        span: Range<usize>,
        stack: &Stack<C>,
        scale: C,
        scratch: &mut Scratch<C>,
        sums: &mut [C],
    ) {
        let all = self.network().blocks();
        let (count, last) = (stack.count, all.len() - 1);
        let batch = self.batch();
        let rows = span.len() * batch;
        let inner = all[last].inputs;
        let factor = C::from_f64(2.0 / all[last].units as f64);
        scratch.next.resize(rows * count * inner, C::ZERO);
        for (r, index) in span.clone().enumerate() {
            let part = r * batch * count * inner..(r + 1) * batch * count * inner;
            let gram = View::new(&self.output_gram[group.first + index], inner, inner);
            let tangent = View::new(&scratch.tangent[part.clone()], batch * count, inner);
            matmul(&mut scratch.next[part.clone()], inner, tangent, gram, false);
            if stack.output.is_empty() {
                continue;
            }
            // (W' V) x; behind what meets the inputs comes what meets the constant 1, if there is a bias.
            let round = group.first + index;
            let width = all[last].width();
            let frame = self.frame_of(round);
            let (w, rank) = match frame {
                Some(frame) => (frame.weights(round), frame.rank()),
                None => (matrix(&all[last], &self.states[round]), all[last].units),
            };
            scratch.cross.resize(width * count * inner, C::ZERO);
            for (d, v) in stack.output.iter().enumerate() {
                let v = if frame.is_some() { &scratch.entered[d * width * rank..][..width * rank] } else { &v[..] };
                matmul(&mut scratch.cross[d * inner..], count * inner, View::new(v, width, rank), w, false);
            }
            if let Some(rest) = frame.and_then(|frame| frame.rest(round)) {
                let units = all[last].units;
                scratch.narrow.resize(scratch.cross.len(), 0.0);
                for (d, v) in scratch.outside.chunks_exact(width * units).enumerate() {
                    let v = View::new(v, width, units);
                    matmul(&mut scratch.narrow[d * inner..], count * inner, v, rest, false);
                }
                scratch.cross.iter_mut().zip(&scratch.narrow).for_each(|(z, e)| *z += C::from_f64(f64::from(*e)));
            }
            scratch.cross.iter_mut().for_each(|z| *z *= factor);
            let (z, constant) = scratch.cross.split_at(inner * count * inner);
            let below = &mut scratch.next[part];
            let x = View::new(self.rows_of(group, index, last), batch, inner);
            matmul(below, count * inner, x, View::new(z, inner, count * inner), true);
            for row in below.chunks_exact_mut(count * inner) {
                row.iter_mut().zip(constant).for_each(|(b, c)| *b += *c);
            }
        }
        scratch.next.iter_mut().for_each(|v| *v *= scale);
        std::mem::swap(&mut scratch.tangent, &mut scratch.next);
        self.pull_down(group, span, stack, last - 1, scratch, sums);
    }

    /// Backward from the cotangents of block `top`'s output in `scratch.tangent`, `[rows, count, units]`: adds the products of
    /// the blocks that move to `sums`.
    fn pull_down(
        &self,
        group: &Group<C>,
        span: Range<usize>,
        stack: &Stack<C>,
        top: usize,
        scratch: &mut Scratch<C>,
        sums: &mut [C],
    ) {
        let all = self.network().blocks();
        let (count, start, batch) = (stack.count, stack.blocks.start, self.batch());
        let rows = span.len() * batch;
        for l in (start..=top).rev() {
            let block = &all[l];
            // The output is linear.
            if l + 1 < all.len() {
                multiply_rows(&mut scratch.tangent, self.slopes_of(group, span.clone(), l), count, block.units);
            }
            let delta = &scratch.tangent[..rows * count * block.units];
            if stack.blocks.contains(&l) {
                let range = stacked_range(all, start, count, l);
                self.add_outer(group, span.clone(), stack, l, delta, &mut sums[range]);
            }
            if l > start {
                scratch.next.resize(rows * count * block.inputs, C::ZERO);
                let (from, to) = (batch * count * block.units, batch * count * block.inputs);
                for (r, index) in span.clone().enumerate() {
                    let w = matrix(block, &self.states[group.first + index]);
                    let delta = View::new(&delta[r * from..(r + 1) * from], batch * count, block.units);
                    matmul(&mut scratch.next[r * to..(r + 1) * to], block.inputs, delta, w, false);
                }
                std::mem::swap(&mut scratch.tangent, &mut scratch.next);
            }
        }
    }

    /// Leaves the tangents of the last hidden layer in `scratch.tangent`: `[rows, count, units]`.
    fn tangents(&self, group: &Group<C>, span: Range<usize>, stack: &Stack<C>, scratch: &mut Scratch<C>) {
        let all = self.network().blocks();
        let (count, last) = (stack.count, all.len() - 1);
        let batch = self.batch();
        let rows = span.len() * batch;
        for (l, block) in all.iter().enumerate().take(last).skip(stack.blocks.start) {
            let (from, to) = (batch * count * block.inputs, batch * count * block.units);
            scratch.next.resize(rows * count * block.units, C::ZERO);
            let direct = stack.part(l);
            if let Some(v) = direct {
                self.apply(group, span.clone(), stack, l, v, &mut scratch.next);
            }
            if l > stack.blocks.start {
                for (r, index) in span.clone().enumerate() {
                    let w = matrix(block, &self.states[group.first + index]);
                    let tangent = View::new(&scratch.tangent[r * from..(r + 1) * from], batch * count, block.inputs);
                    matmul(&mut scratch.next[r * to..(r + 1) * to], block.units, tangent, w.t(), direct.is_some());
                }
            }
            multiply_rows(&mut scratch.next, self.slopes_of(group, span.clone(), l), count, block.units);
            std::mem::swap(&mut scratch.tangent, &mut scratch.next);
        }
    }

    /// The affine maps `v` of block `l`, of all directions: `[rows, count, units]` in the beginning of `out`.
    fn apply(&self, group: &Group<C>, span: Range<usize>, stack: &Stack<C>, l: usize, v: &[C], out: &mut [C]) {
        let (block, batch) = (&self.network().blocks()[l], self.batch());
        let rows = span.len() * batch;
        if !(self.by_columns() && l == 0) {
            return affine(&stack.stacked(block), v, self.inputs_of(group, span, l), rows, out, false);
        }
        let n = stack.count * block.units;
        let out = &mut out[..rows * n];
        out.fill(C::ZERO);
        for (columns, part, at) in group.columns_of(span.start * batch..span.end * batch) {
            let out = &mut out[at.start * n..at.end * n];
            for (d, v) in v.chunks_exact(block.range().len()).enumerate() {
                columns.add_product(part.clone(), v, block.units, &mut out[d * block.units..], n);
            }
        }
    }

    /// Adds the products of block `l` with its inputs, of all directions; `delta: [rows, count, units]`.
    fn add_outer(&self, group: &Group<C>, span: Range<usize>, stack: &Stack<C>, l: usize, delta: &[C], sums: &mut [C]) {
        let (block, batch) = (&self.network().blocks()[l], self.batch());
        if !(self.by_columns() && l == 0) {
            let x = self.inputs_of(group, span.clone(), l);
            return accumulate_outer(&stack.stacked(block), delta, x, span.len() * batch, sums);
        }
        let n = stack.count * block.units;
        for (columns, part, at) in group.columns_of(span.start * batch..span.end * batch) {
            let delta = &delta[at.start * n..at.end * n];
            for (d, sums) in sums.chunks_exact_mut(block.range().len()).enumerate() {
                columns.add_transposed_product(part.clone(), &delta[d * block.units..], n, block.units, sums);
            }
        }
    }

    /// Adds `factor W^n P_n` of one round of a group, the `r`-th of those whose tangents are in `scratch`.
    #[allow(clippy::too_many_arguments)]
    fn add_output(
        &self,
        group: &Group<C>,
        index: usize,
        r: usize,
        stack: &Stack<C>,
        factor: C,
        scratch: &mut Scratch<C>,
        sum: &mut [C],
    ) {
        let all = self.network().blocks();
        let (count, block) = (stack.count, &all[all.len() - 1]);
        let (batch, inner, width) = (self.batch(), block.inputs, block.width());
        let columns = count * inner;
        let tangent = &scratch.tangent[r * batch * columns..(r + 1) * batch * columns];
        let x = View::new(self.rows_of(group, index, all.len() - 1), batch, inner);
        let round = group.first + index;
        let frame = self.frame_of(round);
        let (w, sums) = match frame {
            Some(frame) => (frame.weights(round), &mut scratch.framed[..]),
            None => (matrix(block, &self.states[round]), sum),
        };
        let rest = frame.and_then(|frame| frame.rest(round));
        let size = sums.len() / count;
        // `P_n'`; the last column is for the constant 1, if there is a bias.
        scratch.cross.resize(inner * width, C::ZERO);
        for (d, sum) in sums.chunks_exact_mut(size).enumerate() {
            let tangent = &tangent[d * inner..];
            matmul(&mut scratch.cross, width, View::strided(tangent, batch, inner, columns).t(), x, false);
            if block.bias {
                scratch.cross.iter_mut().skip(inner).step_by(width).for_each(|sum| *sum = C::ZERO);
                for row in tangent.chunks(columns) {
                    scratch.cross.iter_mut().skip(inner).step_by(width).zip(row).for_each(|(sum, t)| *sum += *t);
                }
            }
            scratch.cross.iter_mut().for_each(|p| *p *= factor);
            matmul(sum, width, w, View::new(&scratch.cross, inner, width), true);
            if let Some(rest) = rest {
                scratch.narrow.resize(inner * width, 0.0);
                convert_into(&scratch.cross, &mut scratch.narrow);
                let left = &mut scratch.left[d * block.range().len()..][..block.range().len()];
                matmul(left, width, rest, View::new(&scratch.narrow, inner, width), true);
            }
        }
    }

    /// The rows of one round's input of block `l`.
    fn rows_of<'b>(&'b self, group: &'b Group<C>, index: usize, l: usize) -> &'b [C] {
        self.inputs_of(group, index..index + 1, l)
    }

    /// The inputs of block `l` in some rounds of a group.
    fn inputs_of<'b>(&'b self, group: &'b Group<C>, span: Range<usize>, l: usize) -> &'b [C] {
        let size = self.batch() * self.network().blocks()[l].inputs;
        &group.tape.input(l, &group.x)[span.start * size..span.end * size]
    }

    /// The slopes behind block `l` in some rounds of a group.
    fn slopes_of<'b>(&'b self, group: &'b Group<C>, span: Range<usize>, l: usize) -> &'b [C] {
        let size = self.batch() * self.network().blocks()[l].units;
        &group.tape.slopes[l][span.start * size..span.end * size]
    }

    /// For any loss: forward to the outputs, the Hessian there, and back.
    fn general_product(
        &self,
        rounds: Range<usize>,
        blocks: &Range<usize>,
        direction: &[C],
        moved: &[C],
        scale: f64,
    ) -> Vec<C> {
        let stack = self.stack(blocks.clone(), &[direction]);
        let sums = self.sum_groups(rounds, direction.len(), Scratch::default, |scratch, group, span, sum| {
            self.general_group(group, span, &stack, moved, C::from_f64(scale), scratch, sum);
        });
        self.untransposed(blocks.start, 1, sums)
    }

    #[allow(clippy::too_many_arguments)]
    fn general_group(
        &self,
        group: &Group<C>,
        span: Range<usize>,
        stack: &Stack<C>,
        moved: &[C],
        scale: C,
        scratch: &mut Scratch<C>,
        sum: &mut [C],
    ) {
        let all = self.network().blocks();
        let (last, start, batch) = (all.len() - 1, stack.blocks.start, self.batch());
        let rows = span.len() * batch;
        let outputs = all[last].units;
        self.tangents(group, span.clone(), stack, scratch);
        let output = &all[last];
        scratch.next.resize(rows * outputs, C::ZERO);
        let direct = stack.part(last);
        if let Some(v) = direct {
            self.apply(group, span.clone(), stack, last, v, &mut scratch.next);
        }
        if start < last {
            for (r, index) in span.clone().enumerate() {
                let w = matrix(output, &self.states[group.first + index]);
                let size = batch * output.inputs;
                let tangent = View::new(&scratch.tangent[r * size..(r + 1) * size], batch, output.inputs);
                let out = &mut scratch.next[r * batch * outputs..(r + 1) * batch * outputs];
                matmul(out, outputs, tangent, w.t(), direct.is_some());
            }
        }
        let at = &moved[(group.first + span.start) * batch * outputs..][..rows * outputs];
        self.loss().apply_hessian(at, outputs, scale, &mut scratch.next);
        std::mem::swap(&mut scratch.tangent, &mut scratch.next);
        self.pull_down(group, span, stack, last, scratch, sum);
    }
}

impl Window<'_, f64> {
    /// [`Window::linear_terms`] for hidden blocks; mean squared error.
    ///
    /// With `t` the tangents of the last hidden layer along `W^1 - W^n` and `r` the error of the outputs, the Taylor loss at `W^1` is
    /// `|r + W t|^2 / K`: all that it needs of the outputs are `W'r` and `W'W`, which are known.
    pub(crate) fn hidden_linear_terms(&self, prefixes: &[usize], blocks: Range<usize>) -> Vec<(f64, Vec<f64>)> {
        let all = self.network().blocks();
        let last = all.len() - 1;
        let span = all[blocks.start].offset..all[blocks.end - 1].range().end;
        let (inner, batch) = (all[last].inputs, self.batch());
        let errors = self.errors();
        let mut total = vec![0.0; span.len() + 1];
        let mut from = 0;
        let term = |scratch: &mut Scratch<f64>, group: &Group<f64>, rounds: Range<usize>, sum: &mut [f64]| {
            let (value, gradient) = sum.split_first_mut().expect("the value comes first");
            for index in rounds {
                let round = group.first + index;
                let moved = self.initial()[span.clone()].iter().zip(&self.states[round][span.clone()]);
                let back: Vec<f64> = moved.map(|(start, w)| start - w).collect();
                let stack = self.stack(blocks.clone(), &[&back]);
                self.tangents(group, index..index + 1, &stack, scratch);
                let tangent = &scratch.tangent[..batch * inner];
                let gram = View::new(&self.output_gram[round], inner, inner);
                scratch.next.resize(batch * inner, 0.0);
                matmul(&mut scratch.next, inner, View::new(tangent, batch, inner), gram, false);
                let PulledError { cotangent, square } = &errors[round];
                *value += (square + dot(cotangent, tangent) + 0.5 * dot(&scratch.next, tangent)) / batch as f64;
                for (next, error) in scratch.next.iter_mut().zip(cotangent) {
                    *next = (*next + error) / batch as f64;
                }
                std::mem::swap(&mut scratch.tangent, &mut scratch.next);
                self.pull_down(group, index..index + 1, &stack, last - 1, scratch, gradient);
            }
        };
        let mut terms = Vec::new();
        for prefix in prefixes {
            let new = self.sum_groups(from..*prefix, total.len(), Scratch::default, term);
            total.iter_mut().zip(&new).for_each(|(sum, new)| *sum += new);
            terms.push((total[0], self.untransposed(blocks.start, 1, total[1..].to_vec())));
            from = *prefix;
        }
        terms
    }
}

/// `values[i, d, u] *= factors[i, u]` for `values: [rows, count, units]`.
fn multiply_rows<C: Real>(values: &mut [C], factors: &[C], count: usize, units: usize) {
    crate::kernels::vectorized(
        #[inline(always)]
        || {
            for (row, factors) in values.chunks_exact_mut(count * units).zip(factors.chunks_exact(units)) {
                for values in row.chunks_exact_mut(units) {
                    values.iter_mut().zip(factors).for_each(|(v, f)| *v *= *f);
                }
            }
        },
    );
}
