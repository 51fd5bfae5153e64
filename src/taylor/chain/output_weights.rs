//! The output block's weights `W^n` of consecutive rounds, as products with the curvature use them.
//!
//! Directions meet them as `V'W^n`; the output block's own part of a product is `sum_n W^n P_n`. Where training moves the weights along few
//! directions, both go by a low-rank basis ([`LowRank`]), otherwise by the weights themselves ([`Exact`]).

use super::{
    group::Span,
    low_rank::LowRankWeights,
    stack::{Layout, Stack},
    window::Window,
};
use crate::{
    kernels::{View, dense::matrix, matmul},
    network::Block,
    num::{Real, convert, convert_into},
};

/// Operators of the output weights of consecutive rounds. Sums may wait inside until they are [finished](OutputWeights::finish).
pub(super) trait OutputWeights<C> {
    /// `V'W^n` for all directions: `[width, count, inputs]` in `out`.
    fn forward(&mut self, round: usize, out: &mut [C]);
    /// Adds `W^n P` to the sum of a direction, for `p: [inputs, width]`.
    fn accumulate(&mut self, round: usize, direction: usize, p: &[C]);
    /// Brings all that was accumulated into the sums.
    fn finish(self: Box<Self>);
}

impl<C: Real> Window<'_, C> {
    /// Calls `visit` with every span of a piece and the output weights of its rounds, for the directions of a stack; what these accumulate is in
    /// `sums: [count, units, width]` afterwards (empty if nothing is accumulated).
    pub(super) fn each_span(
        &self,
        piece: &[Span<C>],
        stack: &Stack<C>,
        sums: &mut [C],
        mut visit: impl FnMut(&Span<C>, &mut dyn OutputWeights<C>),
    ) {
        // Spans are whole groups but for the ends of a range, and a basis covers whole groups.
        let basis = |span: &Span<C>| self.low_rank_of(span.group.first);
        let start = |span: &Span<C>| basis(span).map(|weights| weights.rounds.start);
        for run in piece.chunk_by(|a, b| start(a) == start(b)) {
            let mut weights: Box<dyn OutputWeights<C> + '_> = match basis(&run[0]) {
                Some(weights) => Box::new(LowRank::new(weights, &stack.output, sums)),
                None => Box::new(Exact::new(self, &stack.output, &stack.layout, sums)),
            };
            run.iter().for_each(|span| visit(span, &mut *weights));
            weights.finish();
        }
    }
}

/// The weights as they are.
struct Exact<'a, C: Real> {
    window: &'a Window<'a, C>,
    block: &'a Block,
    /// `V'` of every direction, `[width, units]`.
    directions: &'a [Vec<C>],
    count: usize,
    sums: &'a mut [C],
}

impl<'a, C: Real> Exact<'a, C> {
    fn new(window: &'a Window<'a, C>, directions: &'a [Vec<C>], layout: &Layout, sums: &'a mut [C]) -> Self {
        Self { window, block: window.output_block(), directions, count: layout.count, sums }
    }
}

impl<C: Real> OutputWeights<C> for Exact<'_, C> {
    fn forward(&mut self, round: usize, out: &mut [C]) {
        let w = matrix(self.block, &self.window.states[round]);
        multiply_directions(self.directions.iter().map(|v| &v[..]), w, self.block.width(), out);
    }

    fn accumulate(&mut self, round: usize, direction: usize, p: &[C]) {
        let (inputs, width) = (self.block.inputs, self.block.width());
        let w = matrix(self.block, &self.window.states[round]);
        let size = self.sums.len() / self.count;
        let sum = &mut self.sums[direction * size..(direction + 1) * size];
        matmul(sum, width, w, View::new(p, inputs, width), true);
    }

    fn finish(self: Box<Self>) {}
}

/// The weights `Q'A_n + E_n` of the rounds of one basis: sums are in its coordinates until the end, and the residuals `E_n` go apart, in single
/// precision (or not at all, where the basis has none).
struct LowRank<'a, C: Real> {
    weights: &'a LowRankWeights<C>,
    /// `(Q V)'` of every direction, one behind the other: `[width, rank]`.
    projected: Vec<C>,
    /// `V'` of every direction, `[width, units]`, for the residuals.
    narrow: Vec<Vec<f32>>,
    /// `sum_n A_n P_n` of every direction, `[rank, width]`.
    coordinate_sums: Vec<C>,
    /// `sum_n E_n P_n` of every direction, `[units, width]`.
    residual_sums: Vec<f32>,
    /// `P_n` or `V'E_n` of the round at hand.
    buffer: Vec<f32>,
    sums: &'a mut [C],
}

impl<'a, C: Real> LowRank<'a, C> {
    fn new(weights: &'a LowRankWeights<C>, directions: &[Vec<C>], sums: &'a mut [C]) -> Self {
        let projected = directions.iter().flat_map(|v| weights.project(v)).collect();
        let (narrow, residual) = if weights.has_residuals() {
            (directions.iter().map(|v| convert(v)).collect(), sums.len())
        } else {
            (Vec::new(), 0)
        };
        Self {
            weights,
            projected,
            narrow,
            coordinate_sums: vec![C::ZERO; sums.len() / weights.units * weights.rank()],
            residual_sums: vec![0.0; residual],
            buffer: Vec::new(),
            sums,
        }
    }
}

impl<C: Real> OutputWeights<C> for LowRank<'_, C> {
    fn forward(&mut self, round: usize, out: &mut [C]) {
        let a = self.weights.coordinates(round);
        let width = self.weights.width;
        multiply_directions(self.projected.chunks_exact(width * self.weights.rank()), a, width, out);
        if let Some(e) = self.weights.residual(round) {
            self.buffer.resize(out.len(), 0.0);
            multiply_directions(self.narrow.iter().map(|v| &v[..]), e, width, &mut self.buffer);
            out.iter_mut().zip(&self.buffer).for_each(|(z, e)| *z += C::from_f64(f64::from(*e)));
        }
    }

    fn accumulate(&mut self, round: usize, direction: usize, p: &[C]) {
        let LowRankWeights { inputs, width, units, .. } = *self.weights;
        let size = self.weights.rank() * width;
        let sum = &mut self.coordinate_sums[direction * size..(direction + 1) * size];
        matmul(sum, width, self.weights.coordinates(round), View::new(p, inputs, width), true);
        if let Some(e) = self.weights.residual(round) {
            convert_into(p, &mut self.buffer);
            let sum = &mut self.residual_sums[direction * units * width..(direction + 1) * units * width];
            matmul(sum, width, e, View::new(&self.buffer, inputs, width), true);
        }
    }

    fn finish(self: Box<Self>) {
        let LowRankWeights { width, units, .. } = *self.weights;
        let coordinates = self.coordinate_sums.chunks_exact(self.weights.rank() * width);
        for (sum, out) in coordinates.zip(self.sums.chunks_exact_mut(units * width)) {
            self.weights.lift(sum, out);
        }
        self.sums.iter_mut().zip(&self.residual_sums).for_each(|(sum, e)| *sum += C::from_f64(f64::from(*e)));
    }
}

/// `V'w` for the transposed `v: [width, rows of w]` of every direction: `[width, count, inputs]` in `out`.
fn multiply_directions<'v, C: Real>(
    directions: impl Iterator<Item = &'v [C]>,
    w: View<C>,
    width: usize,
    out: &mut [C],
) {
    let stride = out.len() / width;
    for (d, v) in directions.enumerate() {
        matmul(&mut out[d * w.cols()..], stride, View::new(v, width, v.len() / width), w, false);
    }
}
