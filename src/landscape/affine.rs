//! Layers with weights: what an affine map does to pieces, and what moving weights do.

use super::Pieces;
use crate::{
    kernels::{
        conv::{self, Scratch, Term},
        dense,
        real::norm,
    },
    network::Block,
};

/// A pre-activation that is nowhere on a piece larger than this many roundings of the sum it was computed from is taken
/// as zero there: a unit that moves along its kink must not flicker.
const ROUNDINGS: f64 = 16.0;

/// A layer `a = W x + b` whose weights may move, `W(t) = W + t D`.
#[derive(Clone, Debug)]
pub struct Affine<'a> {
    block: &'a Block,
    /// The whole flat weight vector.
    weights: &'a [f64],
    /// The whole flat direction, if this layer moves.
    step: Option<&'a [f64]>,
    /// Per neuron the norms of its weights and of their direction.
    norms: Vec<[f64; 2]>,
}

impl<'a> Affine<'a> {
    pub fn new(block: &'a Block, weights: &'a [f64], step: Option<&'a [f64]>) -> Self {
        let step = step.filter(|step| step[block.range()].iter().any(|v| *v != 0.0));
        let norms = (0..block.units)
            .map(|neuron| {
                let range = block.neuron(neuron);
                [norm(&weights[range.clone()]), step.map_or(0.0, |step| norm(&step[range.clone()]))]
            })
            .collect();
        Self { block, weights, step, norms }
    }

    /// The pre-activations on the same pieces: `x` has the layer's inputs; of one degree more if the weights move.
    ///
    /// With `x = sum_k x_k (t - l)^k` on a piece that begins at `l`, the weights are `(W + l D) + (t - l) D` there, so
    /// `a_k = (W + l D) x_k + D x_{k-1}`, with the biases at `x_0`'s constant 1.
    pub fn apply(&self, x: &Pieces) -> Pieces {
        let (width, count) = (self.width(), x.len());
        let mut planes: Vec<Vec<f64>> = (0..=x.degree()).map(|k| self.linear(x.plane(k), count, k == 0)).collect();
        if let Some(step) = self.step {
            planes.push(vec![0.0; count * width]);
            for k in 0..=x.degree() {
                let moved = self.map(step, x.plane(k), count, k == 0);
                for (p, row) in moved.chunks_exact(width).enumerate() {
                    let left = x.bounds()[p];
                    let at = p * width..(p + 1) * width;
                    planes[k][at.clone()].iter_mut().zip(row).for_each(|(a, d)| *a += left * d);
                    planes[k + 1][at].iter_mut().zip(row).for_each(|(a, d)| *a += d);
                }
            }
        }
        let mut out = x.with_planes(width, planes);
        self.clear_roundings(x, &mut out);
        out
    }

    /// Pre-activations that the layer gives, `[positions, neurons]`.
    pub fn width(&self) -> usize {
        self.block.activations()
    }

    /// `W x`, and the biases if `bias`, of `count` rows `x: [count, features in]`, at `t = 0`.
    pub fn linear(&self, x: &[f64], count: usize, bias: bool) -> Vec<f64> {
        self.map(self.weights, x, count, bias)
    }

    fn map(&self, weights: &[f64], x: &[f64], count: usize, bias: bool) -> Vec<f64> {
        let (block, width) = (self.block, self.width());
        let mut out = vec![0.0; count * width];
        match block.convolution() {
            None => dense::affine_with(block, weights, x, count, &mut out, bias),
            Some(c) => conv::apply(block, c, &[Term { weights, x, bias }], count, &mut Scratch::default(), |row, a| {
                out[row * width..(row + 1) * width].copy_from_slice(a);
            }),
        }
        out
    }

    /// Sets units to zero on pieces where nothing but rounding is left of them.
    fn clear_roundings(&self, x: &Pieces, out: &mut Pieces) {
        let (width, neurons) = (self.width(), self.block.units);
        let mut sizes = vec![0.0; width];
        for p in 0..x.len() {
            let (left, right) = (x.bounds()[p], x.bounds()[p + 1]);
            let length = right - left;
            // Bounds of the polynomials on the piece; the constant 1 of the bias counts as an input.
            let input = 1.0 + (0..=x.degree()).rev().fold(0.0, |sum, k| sum * length + norm(x.row(k, p)));
            sizes.fill(0.0);
            for k in (0..=out.degree()).rev() {
                sizes.iter_mut().zip(out.row(k, p)).for_each(|(size, v)| *size = *size * length + v.abs());
            }
            let rounding = ROUNDINGS * f64::EPSILON * input;
            let farthest = left.abs().max(right.abs());
            for (position, sizes) in sizes.chunks_exact(neurons).enumerate() {
                for (neuron, (size, [weights, step])) in sizes.iter().zip(&self.norms).enumerate() {
                    if *size <= rounding * (weights + farthest * step) && *size != 0.0 {
                        out.clear_unit(p, position * neurons + neuron);
                    }
                }
            }
        }
    }
}
