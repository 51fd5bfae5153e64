//! The passes of a network on slices: forward with tape, VJP, JVP, output Jacobians.
//!
//! Shapes are row-major. `n` is the number of rows (datapoints) of a call, `l = 0..L` counts blocks (layers with weights and
//! the rectifier and pool behind them), `x_l: [n, features in of block l]` is the input of a block, so `x_0` is the data.
//! Images are `[height, width, channels]` inside the network and `[channels, height, width]` in the data.
//! Weights are the flat vector of [`Network`], with biases where a layer has them; a JVP takes and a VJP returns a vector of the same layout.

use super::{
    Real, View,
    conv::{self, Cotangents, Scratch, Term},
    dense::{accumulate_outer, affine, matrix, pre_activations, pull_back},
    gate::{self, Gate},
    matmul,
};
use crate::network::{Block, Image, LinearMap, Network, Shape};
use std::ops::Range;

/// What the forward pass leaves behind for the linear passes.
#[derive(Clone, Debug, Default)]
pub struct Tape<T> {
    /// Number of datapoints.
    pub rows: usize,
    /// The data in the order of the network, if that is not the order of the data: images of several channels.
    pub image: Vec<T>,
    /// `x_l: [rows, features in of block l]` for `l = 1..L`; entry `l - 1`.
    pub hidden: Vec<Vec<T>>,
    /// `s'(a_l): [rows, pre-activations of block l]` for `l = 0..L-1`; empty for a block with a max-pool. The input of a dense
    /// block's successor is `s' * a`.
    pub slopes: Vec<Vec<T>>,
    /// For blocks with a max-pool the codes of [`Gate::Winners`], `[rows, features out of block l]`; empty for others.
    pub winners: Vec<Vec<u8>>,
    /// The network's output `[rows, outputs]`.
    pub output: Vec<T>,
}

impl<T: Real> Tape<T> {
    /// The input of block `l`, given the data.
    pub fn input<'a>(&'a self, l: usize, data: &'a [T]) -> &'a [T] {
        match l {
            0 if self.image.is_empty() => data,
            0 => &self.image,
            _ => &self.hidden[l - 1],
        }
    }

    /// The gate behind hidden block `l`.
    pub fn gate(&self, l: usize) -> Gate<'_, T> {
        if self.winners[l].is_empty() { Gate::Slopes(&self.slopes[l]) } else { Gate::Winners(&self.winners[l]) }
    }

    /// Bytes that a tape and its data take per datapoint.
    pub fn bytes_per_row(network: &Network) -> usize {
        let data = network.input().len();
        let image = reordered(network).map_or(0, |image| image.len());
        let (mut values, mut codes) = (data + image + network.outputs(), 0);
        for block in network.hidden_blocks() {
            values += block.features_out();
            match block.max_pool() {
                Some(_) => codes += block.features_out(),
                None => values += block.activations(),
            }
        }
        values * size_of::<T>() + codes
    }

    fn resize(&mut self, network: &Network, rows: usize) {
        let hidden = network.hidden_blocks();
        self.rows = rows;
        self.hidden.resize_with(hidden.len(), Vec::new);
        self.slopes.resize_with(hidden.len(), Vec::new);
        self.winners.resize_with(hidden.len(), Vec::new);
        for (l, block) in hidden.iter().enumerate() {
            self.hidden[l].resize(rows * block.features_out(), T::ZERO);
            match block.max_pool() {
                Some(_) => self.winners[l].resize(rows * block.features_out(), 0),
                None => self.slopes[l].resize(rows * block.activations(), T::ZERO),
            }
        }
        self.output.resize(rows * network.outputs(), T::ZERO);
    }
}

/// The image whose values a network's first block takes in another order than the data has them.
pub(crate) fn reordered(network: &Network) -> Option<Image> {
    match (network.input(), &network.blocks()[0].map) {
        (Shape::Image(image), LinearMap::Convolution(_)) if image.channels > 1 => Some(image),
        _ => None,
    }
}

/// From `[channels, height, width]` to `[height, width, channels]`, image by image.
pub(crate) fn channels_last<T: Real>(image: Image, data: &[T], out: &mut Vec<T>) {
    out.resize(data.len(), T::ZERO);
    for (to, from) in out.chunks_exact_mut(image.len()).zip(data.chunks_exact(image.len())) {
        for (c, plane) in from.chunks_exact(image.positions()).enumerate() {
            to[c..].iter_mut().step_by(image.channels).zip(plane).for_each(|(to, v)| *to = *v);
        }
    }
}

/// The inverse of [`channels_last`].
fn channels_first<T: Real>(image: Image, data: &[T]) -> Vec<T> {
    let mut out = vec![T::ZERO; data.len()];
    for (to, from) in out.chunks_exact_mut(image.len()).zip(data.chunks_exact(image.len())) {
        for (c, plane) in to.chunks_exact_mut(image.positions()).enumerate() {
            plane.iter_mut().zip(from[c..].iter().step_by(image.channels)).for_each(|(to, v)| *to = *v);
        }
    }
    out
}

/// Forward pass of `rows` datapoints `x: [rows, inputs]`, filling `tape`.
pub fn forward<T: Real>(network: &Network, weights: &[T], x: &[T], rows: usize, tape: &mut Tape<T>) {
    forward_with(network, weights, x, rows, tape, &mut Scratch::default(), |_, _, _| ());
}

/// [`forward`] with buffers to reuse; calls `visit(l, row, a)` with the pre-activations `[positions, units]` of every datapoint and hidden
/// block.
pub fn forward_with<T: Real>(
    network: &Network,
    weights: &[T],
    x: &[T],
    rows: usize,
    tape: &mut Tape<T>,
    scratch: &mut Scratch<T>,
    mut visit: impl FnMut(usize, usize, &[T]),
) {
    tape.resize(network, rows);
    if let Some(image) = reordered(network) {
        channels_last(image, x, &mut tape.image);
    }
    for (l, block) in network.blocks().iter().enumerate() {
        let (before, after) = tape.hidden.split_at_mut(l);
        let input = match l {
            0 if tape.image.is_empty() => x,
            0 => &tape.image,
            _ => &before[l - 1],
        };
        let Some(out) = after.first_mut() else {
            pre_activations(block, weights, input, rows, &mut tape.output);
            break;
        };
        let (slopes, winners) = (&mut tape.slopes[l], &mut tape.winners[l]);
        if let Some(c) = block.convolution() {
            let term = Term { weights, x: input, bias: true };
            let (size, pooled) = (block.activations(), block.features_out());
            conv::apply(block, c, &[term], rows, scratch, |row, a| {
                visit(l, row, a);
                let out = &mut out[row * pooled..][..pooled];
                match block.max_pool() {
                    Some(pool) => gate::max_pool(block, pool, a, out, &mut winners[row * pooled..][..pooled]),
                    None => gate::rectify(block, a, out, &mut slopes[row * size..][..size]),
                }
            });
            continue;
        }
        pre_activations(block, weights, input, rows, out);
        out.chunks_exact(block.units).enumerate().for_each(|(row, a)| visit(l, row, a));
        match block.rectifier {
            Some(rectifier) => {
                crate::kernels::vectorized(
                    #[inline(always)]
                    || {
                        rectifier.derivatives(out, slopes);
                        out.iter_mut().zip(slopes.iter()).for_each(|(a, slope)| *a *= *slope);
                    },
                );
            }
            None => slopes.fill(T::ONE),
        }
    }
}

/// Backward pass from the cotangent of the output.
///
/// `deltas[L-1]` holds the cotangent `[rows, outputs]` on entry. On return `deltas[l]`, for `l >= blocks.start`, is the cotangent of
/// the pre-activation of a dense block, `[rows, units]`, or of the output (behind rectifier and pool) of a convolution,
/// `[rows, features out]`. The gradient of `blocks` is *added* to `gradient`, a flat vector.
pub fn vjp<T: Real>(
    network: &Network,
    weights: &[T],
    x: &[T],
    tape: &Tape<T>,
    deltas: &mut [Vec<T>],
    blocks: Range<usize>,
    gradient: &mut [T],
) {
    vjp_with(network, weights, x, tape, deltas, blocks, gradient, &mut Scratch::default());
}

/// [`vjp`] with buffers to reuse.
#[allow(clippy::too_many_arguments)]
pub fn vjp_with<T: Real>(
    network: &Network,
    weights: &[T],
    x: &[T],
    tape: &Tape<T>,
    deltas: &mut [Vec<T>],
    blocks: Range<usize>,
    gradient: &mut [T],
    scratch: &mut Scratch<T>,
) {
    let rows = tape.rows;
    for l in (blocks.start..network.blocks().len()).rev() {
        let block = &network.blocks()[l];
        let (lower, upper) = deltas.split_at_mut(l);
        let delta = &upper[0];
        if let Some(c) = block.convolution() {
            let own = blocks.contains(&l).then(|| (tape.input(l, x), &mut gradient[block.range()]));
            let below = lower.last_mut().filter(|_| l > blocks.start).map(|below| {
                below.resize(rows * block.features_in(), T::ZERO);
                (weights, &mut below[..])
            });
            let cotangents = Cotangents { values: delta, lines: 1, gate: tape.gate(l) };
            conv::backward(block, c, cotangents, rows, own, below, scratch);
            continue;
        }
        if blocks.contains(&l) {
            accumulate_outer(block, delta, tape.input(l, x), rows, &mut gradient[block.range()]);
        }
        if l > blocks.start {
            match network.blocks()[l - 1].convolution() {
                None => pull_back(block, weights, delta, &tape.slopes[l - 1], rows, &mut lower[l - 1]),
                Some(_) => pull_through(block, weights, delta, rows, &mut lower[l - 1]),
            }
        }
    }
}

/// `below = delta W`, the cotangent of a dense block's input.
fn pull_through<T: Real>(block: &Block, weights: &[T], delta: &[T], rows: usize, below: &mut Vec<T>) {
    below.resize(rows * block.inputs, T::ZERO);
    matmul(below, block.inputs, View::new(delta, rows, block.units), matrix(block, weights), false);
}

/// The cotangent `[rows, inputs]` of the data from that of the output, `[rows, outputs]`.
pub fn vjp_input<T: Real>(network: &Network, weights: &[T], tape: &Tape<T>, cotangent: &[T]) -> Vec<T> {
    let (mut below, mut scratch) = (Vec::new(), Scratch::default());
    let first = &network.blocks()[0];
    pull_cotangents(network, weights, tape, cotangent.to_vec(), 1, 0, &mut scratch, |l, delta| {
        if l > 0 {
            return;
        }
        match first.convolution() {
            None => pull_through(first, weights, delta, tape.rows, &mut below),
            Some(c) => {
                below.resize(tape.rows * first.features_in(), T::ZERO);
                let cotangents = Cotangents { values: delta, lines: 1, gate: tape.gate(0) };
                let scratch = &mut Scratch::default();
                conv::backward(first, c, cotangents, tape.rows, None, Some((weights, &mut below)), scratch);
            }
        }
    });
    match reordered(network) {
        Some(image) => channels_first(image, &below),
        None => below,
    }
}

/// The output Jacobian in what [`vjp`] gives the cotangents of: calls `visit(l, J)` for each block `l >= lowest` from the output down with
/// `J: [rows, outputs, units]` for a dense block and `[rows, outputs, features out]` for a convolution.
pub fn output_jacobians<T: Real>(
    network: &Network,
    weights: &[T],
    tape: &Tape<T>,
    lowest: usize,
    scratch: &mut Scratch<T>,
    visit: impl FnMut(usize, &[T]),
) {
    let outputs = network.outputs();
    let unit = |at: usize| if at / outputs % outputs == at % outputs { T::ONE } else { T::ZERO };
    let values = (0..tape.rows * outputs * outputs).map(unit).collect();
    pull_cotangents(network, weights, tape, values, outputs, lowest, scratch, visit);
}

/// Pulls several cotangents of the output per datapoint, `[rows, lines, outputs]`, back to block `lowest`; calls `visit(l, cotangents)` for each
/// block from the output down, as [`output_jacobians`] does.
#[allow(clippy::too_many_arguments)]
pub fn pull_cotangents<T: Real>(
    network: &Network,
    weights: &[T],
    tape: &Tape<T>,
    cotangents: Vec<T>,
    lines: usize,
    lowest: usize,
    scratch: &mut Scratch<T>,
    mut visit: impl FnMut(usize, &[T]),
) {
    let rows = tape.rows;
    let (mut delta, mut below) = (cotangents, Vec::new());
    for l in (lowest..network.blocks().len()).rev() {
        visit(l, &delta);
        if l == lowest {
            return;
        }
        let block = &network.blocks()[l];
        match block.convolution() {
            None => pull_through(block, weights, &delta, rows * lines, &mut below),
            Some(c) => {
                below.resize(rows * lines * block.features_in(), T::ZERO);
                let cotangents = Cotangents { values: &delta, lines, gate: tape.gate(l) };
                conv::backward(block, c, cotangents, rows, None, Some((weights, &mut below)), scratch);
            }
        }
        let lower = &network.blocks()[l - 1];
        if lower.convolution().is_none() {
            let slopes = tape.slopes[l - 1].chunks_exact(lower.units);
            for (lines, slopes) in below.chunks_exact_mut(lines * lower.units).zip(slopes) {
                for line in lines.chunks_exact_mut(lower.units) {
                    line.iter_mut().zip(slopes).for_each(|(d, slope)| *d *= *slope);
                }
            }
        }
        std::mem::swap(&mut delta, &mut below);
    }
}

/// Forward-mode pass: `out: [rows, outputs]` is the derivative of the output along `direction` (a flat vector of
/// which only the part of `blocks` counts).
pub fn jvp<T: Real>(
    network: &Network,
    weights: &[T],
    x: &[T],
    tape: &Tape<T>,
    direction: &[T],
    blocks: Range<usize>,
) -> Vec<T> {
    jvp_with(network, weights, x, tape, direction, blocks, &mut Scratch::default())
}

/// [`jvp`] with buffers to reuse.
pub fn jvp_with<T: Real>(
    network: &Network,
    weights: &[T],
    x: &[T],
    tape: &Tape<T>,
    direction: &[T],
    blocks: Range<usize>,
    scratch: &mut Scratch<T>,
) -> Vec<T> {
    push_forward(network, weights, x, tape, None, direction, blocks, scratch)
}

/// The derivative of the output `[rows, outputs]` as the data move along `dx: [rows, inputs]`.
pub fn jvp_input<T: Real>(network: &Network, weights: &[T], tape: &Tape<T>, dx: &[T]) -> Vec<T> {
    let mut tangent = Vec::new();
    match reordered(network) {
        Some(image) => channels_last(image, dx, &mut tangent),
        None => tangent.extend_from_slice(dx),
    }
    push_forward(network, weights, &[], tape, Some(tangent), &[], 0..0, &mut Scratch::default())
}

/// [`jvp_with`], and a tangent of the first block's input if it is given.
#[allow(clippy::too_many_arguments)]
fn push_forward<T: Real>(
    network: &Network,
    weights: &[T],
    x: &[T],
    tape: &Tape<T>,
    tangent: Option<Vec<T>>,
    direction: &[T],
    blocks: Range<usize>,
    scratch: &mut Scratch<T>,
) -> Vec<T> {
    let rows = tape.rows;
    let mut tangent = tangent;
    for (l, block) in network.blocks().iter().enumerate().skip(blocks.start) {
        let own = blocks.contains(&l);
        let mut out = vec![T::ZERO; rows * block.features_out()];
        if let Some(c) = block.convolution() {
            let carried = tangent.as_deref().map(|x| Term { weights, x, bias: false });
            let moved = own.then(|| Term { weights: direction, x: tape.input(l, x), bias: true });
            let terms: Vec<Term<T>> = carried.into_iter().chain(moved).collect();
            let gate = tape.gate(l);
            let pooled = block.features_out();
            conv::apply(block, c, &terms, rows, scratch, |row, a| {
                gate::push(block, gate.row(row, block), a, &mut out[row * pooled..][..pooled]);
            });
        } else {
            if let Some(tangent) = &tangent {
                let tangent = View::new(tangent, rows, block.inputs);
                matmul(&mut out, block.units, tangent, matrix(block, weights).t(), false);
            }
            if own {
                affine(block, direction, tape.input(l, x), rows, &mut out, true);
            }
            if let Some(slopes) = tape.slopes.get(l) {
                for (t, slope) in out.iter_mut().zip(slopes) {
                    *t *= *slope;
                }
            }
        }
        tangent = Some(out);
    }
    tangent.unwrap_or_default()
}
