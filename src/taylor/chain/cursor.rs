//! Tangents forward and cotangents backward through some rounds of a group, for several directions at once.
//!
//! What all rounds share (the directions, the gradient) is one large product per block, what differs (the weights `W^n`) one small product per
//! round and block. Activations of the directions are `[rows, count, units]`: datapoint, direction, unit.

use super::{group::Group, output_weights::OutputWeights, stack::Stack, window::Window};
use crate::{
    kernels::{
        View,
        dense::{accumulate_outer, affine, matrix},
        matmul,
    },
    network::Block,
    num::{Real, vectorized},
};
use std::ops::Range;

/// Activations of one thread, kept from group to group.
#[derive(Default)]
pub(super) struct Buffers<C> {
    /// Tangents or cotangents `[rows, count, units]` of the block at hand.
    pub(super) values: Vec<C>,
    /// Those of the block that comes next.
    pub(super) next: Vec<C>,
    /// Of a single round and the output block: `P_n'`, `[inputs, width]`; or `V'W^n` of all directions, `[width, count, inputs]`.
    cross: Vec<C>,
}

impl<C> Buffers<C> {
    /// Goes on to the next block.
    pub(super) fn swap(&mut self) {
        std::mem::swap(&mut self.values, &mut self.next);
    }
}

/// Some rounds of a group, and the directions that go through them.
pub(super) struct Cursor<'a, C: Real> {
    window: &'a Window<'a, C>,
    group: &'a Group<C>,
    /// Counted from the group's first round.
    span: Range<usize>,
    stack: &'a Stack<'a, C>,
}

impl<'a, C: Real> Cursor<'a, C> {
    pub(super) fn new(
        window: &'a Window<'a, C>,
        group: &'a Group<C>,
        span: Range<usize>,
        stack: &'a Stack<'a, C>,
    ) -> Self {
        Self { window, group, span, stack }
    }

    fn blocks(&self) -> &'a [Block] {
        self.window.network().blocks()
    }

    fn last(&self) -> usize {
        self.window.network().output_index()
    }

    /// Datapoints of all rounds.
    pub(super) fn rows(&self) -> usize {
        self.group.rows(self.span.clone()).len()
    }

    /// The datapoints of the `r`-th round, among those of all.
    fn rows_of(&self, r: usize) -> Range<usize> {
        let (first, r) = (self.group.rows(self.span.clone()).start, self.span.start + r);
        let rows = self.group.rows(r..r + 1);
        rows.start - first..rows.end - first
    }

    /// The rounds, counted from the first of the window.
    pub(super) fn rounds(&self) -> Range<usize> {
        self.group.first + self.span.start..self.group.first + self.span.end
    }

    /// The weights `W^n` of a block in a round, `[units, inputs]`.
    fn weights(&self, l: usize, round: usize) -> View<'a, C> {
        matrix(&self.blocks()[l], &self.window.states[round])
    }

    /// The inputs of the output block in the `r`-th round, `[rows, inputs]`.
    fn output_inputs(&self, r: usize) -> View<'a, C> {
        let (rows, r) = (self.rows_of(r).len(), self.span.start + r);
        View::new(self.group.inputs(self.last(), r..r + 1), rows, self.blocks()[self.last()].inputs)
    }

    /// Tangents of the last hidden layer along the directions, `t = J_h d`, in `buffers.values`.
    pub(super) fn tangents(&self, buffers: &mut Buffers<C>) {
        for l in self.stack.layout.blocks.start..self.last() {
            self.forward(l, buffers);
            self.multiply_derivatives(l, &mut buffers.next);
            buffers.swap();
        }
    }

    /// From the tangents of block `l`'s input in `buffers.values` to those of its pre-activations in `buffers.next`: `V x + W^n t`.
    pub(super) fn forward(&self, l: usize, buffers: &mut Buffers<C>) {
        let (block, count) = (&self.blocks()[l], self.stack.layout.count);
        buffers.next.resize(self.rows() * count * block.units, C::ZERO);
        let own = self.stack.part(l);
        if let Some(v) = own {
            self.apply(l, v, &mut buffers.next);
        }
        if l > self.stack.layout.blocks.start {
            let (from, to) = (&buffers.values, &mut buffers.next);
            self.multiply_rounds(from, block.inputs, |round| self.weights(l, round).t(), to, own.is_some());
        }
    }

    /// Adds `factor W^n P_n` of every round, times its weight, with `P_n = sum_i t_i x_i'`: what the tangents `t` in `buffers.values` do to the output block.
    pub(super) fn accumulate_output(
        &self,
        factor: C,
        weights: &mut dyn OutputWeights<C>,
        Buffers { values, cross, .. }: &mut Buffers<C>,
    ) {
        let (count, block) = (self.stack.layout.count, &self.blocks()[self.last()]);
        let (inner, width) = (block.inputs, block.width());
        let columns = count * inner;
        cross.resize(inner * width, C::ZERO);
        for (r, round) in self.rounds().enumerate() {
            let rows = self.rows_of(r);
            let tangents = &values[rows.start * columns..rows.end * columns];
            let factor = factor * C::from_f64(self.window.weight(round));
            let x = self.output_inputs(r);
            for d in 0..count {
                let tangent = &tangents[d * inner..];
                matmul(cross, width, View::strided(tangent, rows.len(), inner, columns).t(), x, false);
                if block.bias {
                    // The last column is for the constant 1.
                    cross.iter_mut().skip(inner).step_by(width).for_each(|sum| *sum = C::ZERO);
                    for row in tangent.chunks(columns) {
                        cross.iter_mut().skip(inner).step_by(width).zip(row).for_each(|(sum, t)| *sum += *t);
                    }
                }
                cross.iter_mut().for_each(|p| *p *= factor);
                weights.accumulate(round, d, cross);
            }
        }
    }

    /// The Hessian of the mean squared error, `Hl = (2/K) I`, between the tangents and the cotangents of the last hidden layer, which it replaces
    /// in `buffers.values`: `scale (2/K) (W^n'W^n t + W^n'V x)`, times the weight of each round.
    pub(super) fn output_hessian(&self, scale: C, weights: &mut dyn OutputWeights<C>, buffers: &mut Buffers<C>) {
        self.multiply_gram(buffers);
        if !self.stack.output.is_empty() {
            self.add_direct(weights, buffers);
        }
        let columns = self.stack.layout.count * self.blocks()[self.last()].inputs;
        for (r, round) in self.rounds().enumerate() {
            let (rows, scale) = (self.rows_of(r), scale * C::from_f64(self.window.weight(round)));
            buffers.next[rows.start * columns..rows.end * columns].iter_mut().for_each(|v| *v *= scale);
        }
        buffers.swap();
    }

    /// `(2/K) W^n'W^n` times the tangents of the last hidden layer in `buffers.values`, in `buffers.next`.
    pub(super) fn multiply_gram(&self, Buffers { values, next, .. }: &mut Buffers<C>) {
        let inner = self.blocks()[self.last()].inputs;
        next.resize(self.rows() * self.stack.layout.count * inner, C::ZERO);
        let gram = |round: usize| View::new(&self.window.output_gram[round], inner, inner);
        self.multiply_rounds(values, inner, gram, next, false);
    }

    /// Adds `(2/K) W^n'V x` to `buffers.next`.
    fn add_direct(&self, weights: &mut dyn OutputWeights<C>, Buffers { next, cross, .. }: &mut Buffers<C>) {
        let block = &self.blocks()[self.last()];
        let (inner, columns) = (block.inputs, self.stack.layout.count * block.inputs);
        let factor = C::from_f64(2.0 / block.units as f64);
        cross.resize(block.width() * columns, C::ZERO);
        for (r, round) in self.rounds().enumerate() {
            weights.forward(round, cross);
            cross.iter_mut().for_each(|z| *z *= factor);
            // Behind what meets the inputs comes what meets the constant 1, if there is a bias.
            let (z, constant) = cross.split_at(inner * columns);
            let rows = self.rows_of(r);
            let below = &mut next[rows.start * columns..rows.end * columns];
            matmul(below, columns, self.output_inputs(r), View::new(z, inner, columns), true);
            for row in below.chunks_exact_mut(columns) {
                row.iter_mut().zip(constant).for_each(|(b, c)| *b += *c);
            }
        }
    }

    /// Backward from the cotangents of the last hidden layer in `buffers.values`: adds `J_h'` times them, for the blocks that move.
    pub(super) fn vjp(&self, sums: &mut [C], buffers: &mut Buffers<C>) {
        for l in (self.stack.layout.blocks.start..self.last()).rev() {
            self.multiply_derivatives(l, &mut buffers.values);
            self.backward(l, sums, buffers);
        }
    }

    /// From the cotangents of block `l`'s pre-activations in `buffers.values` to those of its input: adds the products of the block, if it moves.
    pub(super) fn backward(&self, l: usize, sums: &mut [C], buffers: &mut Buffers<C>) {
        let (block, layout) = (&self.blocks()[l], &self.stack.layout);
        let (rows, count) = (self.rows(), layout.count);
        if layout.blocks.contains(&l) {
            let delta = &buffers.values[..rows * count * block.units];
            self.add_outer(l, delta, &mut sums[layout.range(l)]);
        }
        if l > layout.blocks.start {
            buffers.next.resize(rows * count * block.inputs, C::ZERO);
            let (from, to) = (&buffers.values, &mut buffers.next);
            self.multiply_rounds(from, block.units, |round| self.weights(l, round), to, false);
            buffers.swap();
        }
    }

    /// `out (+)= values M_n` for every round, where `values: [rows, count, width]` has a matrix of the round's own.
    fn multiply_rounds<'m>(
        &self,
        values: &[C],
        width: usize,
        matrix: impl Fn(usize) -> View<'m, C>,
        out: &mut [C],
        accumulate: bool,
    ) where
        C: 'm,
    {
        let count = self.stack.layout.count;
        for (r, round) in self.rounds().enumerate() {
            let (matrix, rows) = (matrix(round), self.rows_of(r));
            let (start, end, columns) = (rows.start * count, rows.end * count, matrix.cols());
            let values = View::new(&values[start * width..end * width], end - start, width);
            matmul(&mut out[start * columns..end * columns], columns, values, matrix, accumulate);
        }
    }

    /// The affine maps `v` of block `l`, of all directions: `[rows, count, units]` in the beginning of `out`.
    fn apply(&self, l: usize, v: &[C], out: &mut [C]) {
        let (block, layout) = (&self.blocks()[l], &self.stack.layout);
        if !(self.window.by_columns() && l == 0) {
            let x = self.group.inputs(l, self.span.clone());
            return affine(&layout.stacked(block), v, x, self.rows(), out, false);
        }
        let n = layout.count * block.units;
        let out = &mut out[..self.rows() * n];
        out.fill(C::ZERO);
        for (columns, part, at) in self.group.columns(self.span.clone()) {
            let out = &mut out[at.start * n..at.end * n];
            for (d, v) in v.chunks_exact(block.range().len()).enumerate() {
                columns.add_product(part.clone(), v, block.units, &mut out[d * block.units..], n);
            }
        }
    }

    /// Adds the products of block `l` with its inputs, of all directions; `delta: [rows, count, units]`.
    fn add_outer(&self, l: usize, delta: &[C], sums: &mut [C]) {
        let (block, layout) = (&self.blocks()[l], &self.stack.layout);
        if !(self.window.by_columns() && l == 0) {
            let x = self.group.inputs(l, self.span.clone());
            return accumulate_outer(&layout.stacked(block), delta, x, self.rows(), sums);
        }
        let n = layout.count * block.units;
        for (columns, part, at) in self.group.columns(self.span.clone()) {
            let delta = &delta[at.start * n..at.end * n];
            for (d, sums) in sums.chunks_exact_mut(block.range().len()).enumerate() {
                columns.add_transposed_product(part.clone(), &delta[d * block.units..], n, block.units, sums);
            }
        }
    }

    /// `values[i, d, u] *= derivatives[i, u]`, with the derivatives behind block `l`.
    fn multiply_derivatives(&self, l: usize, values: &mut [C]) {
        let (count, units) = (self.stack.layout.count, self.blocks()[l].units);
        let derivatives = self.group.derivatives(l, self.span.clone());
        vectorized(
            #[inline(always)]
            || {
                for (row, derivatives) in values.chunks_exact_mut(count * units).zip(derivatives.chunks_exact(units)) {
                    for values in row.chunks_exact_mut(units) {
                        values.iter_mut().zip(derivatives).for_each(|(v, s)| *v *= *s);
                    }
                }
            },
        );
    }
}
