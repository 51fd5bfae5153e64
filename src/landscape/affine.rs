//! Layers with weights: what an affine map does to pieces, and what moving weights do.

use super::Pieces;
use crate::{
    kernels::block::{self, Scratch, Term},
    network::Block,
    num::norm,
};
use std::borrow::Cow;

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
    /// A pre-activation that is nowhere on a piece larger than this many roundings of the sum it was computed from is taken
    /// as zero there: a unit that moves along its kink must not flicker.
    pub const ROUNDINGS: f64 = 16.0;

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
        self.apply_together(std::slice::from_ref(x)).swap_remove(0)
    }

    /// The same for several batches of pieces of one degree, with a matrix product for all of them.
    pub fn apply_together(&self, x: &[Pieces]) -> Vec<Pieces> {
        let (width, degree) = (self.width(), x[0].degree());
        let count = x.iter().map(Pieces::len).sum();
        let plane = |k: usize| match x {
            [alone] => Cow::Borrowed(alone.plane(k)),
            _ => Cow::Owned(x.iter().map(|x| x.plane(k)).collect::<Vec<_>>().concat()),
        };
        let lefts: Vec<f64> = x.iter().flat_map(|x| &x.bounds()[..x.len()]).copied().collect();
        let mut planes: Vec<Vec<f64>> = Vec::with_capacity(degree + 2);
        let mut moved: Option<Vec<f64>> = None;
        for k in 0..=degree {
            let x = plane(k);
            let mut out = self.linear(&x, count, k == 0);
            // What the moving weights added to the power above.
            if let Some(moved) = moved.take() {
                out.iter_mut().zip(&moved).for_each(|(a, d)| *a += d);
            }
            if let Some(step) = self.step {
                let direct = self.map(step, &x, count, k == 0);
                for ((out, row), left) in out.chunks_exact_mut(width).zip(direct.chunks_exact(width)).zip(&lefts) {
                    out.iter_mut().zip(row).for_each(|(a, d)| *a += left * d);
                }
                moved = Some(direct);
            }
            planes.push(out);
        }
        planes.extend(moved);
        let mut from = 0;
        let apart = x.iter().map(|x| {
            let rows = from * width..(from + x.len()) * width;
            from += x.len();
            let own = match x.len() == count {
                true => std::mem::take(&mut planes),
                false => planes.iter().map(|plane| plane[rows.clone()].to_vec()).collect(),
            };
            let mut out = x.with_planes(width, own);
            crate::num::vectorized(
                #[inline(always)]
                || self.clear_roundings(x, &mut out),
            );
            out
        });
        apart.collect()
    }

    /// The flat weights at `t = 0`.
    pub fn weights(&self) -> &'a [f64] {
        self.weights
    }

    /// Whether its weights move.
    pub fn moves(&self) -> bool {
        self.step.is_some()
    }

    /// Per neuron the norms of its weights and of their direction.
    pub fn norms(&self) -> &[[f64; 2]] {
        &self.norms
    }

    /// The weights of a neuron at `t = 0`, and its bias, if it has one.
    pub fn neuron(&self, neuron: usize) -> (&[f64], Option<f64>) {
        let (weights, bias) = self.weights[self.block.neuron(neuron)].split_at(self.block.inputs);
        (weights, bias.first().copied())
    }

    /// A bound of the norm of the inputs on a piece; the constant 1 of a bias counts as one.
    #[inline(always)]
    pub fn size_of_input(&self, x: &Pieces, p: usize) -> f64 {
        let length = x.bounds()[p + 1] - x.bounds()[p];
        let constant = f64::from(u8::from(self.block.bias));
        constant + (0..=x.degree()).rev().fold(0.0, |sum, k| sum * length + norm(x.row(k, p)))
    }

    /// Pre-activations that the layer gives, `[positions, neurons]`.
    pub fn width(&self) -> usize {
        self.block.activations()
    }

    /// `W x`, and the biases, if there are any, if `bias`, of `count` rows `x: [count, features in]`, at `t = 0`.
    pub fn linear(&self, x: &[f64], count: usize, bias: bool) -> Vec<f64> {
        self.map(self.weights, x, count, bias)
    }

    fn map(&self, weights: &[f64], x: &[f64], count: usize, bias: bool) -> Vec<f64> {
        let (block, width) = (self.block, self.width());
        let mut out = vec![0.0; count * width];
        block::linear(block, Term { weights, x, bias }, count, &mut Scratch::default(), &mut out);
        out
    }

    /// Sets units to zero on pieces where nothing but rounding is left of them.
    #[inline(always)]
    fn clear_roundings(&self, x: &Pieces, out: &mut Pieces) {
        let (width, neurons) = (self.width(), self.block.units);
        let mut sizes = vec![0.0; width];
        for p in 0..x.len() {
            let (left, right) = (x.bounds()[p], x.bounds()[p + 1]);
            let length = right - left;
            let input = self.size_of_input(x, p);
            sizes.fill(0.0);
            for k in (0..=out.degree()).rev() {
                sizes.iter_mut().zip(out.row(k, p)).for_each(|(size, v)| *size = *size * length + v.abs());
            }
            let rounding = Self::ROUNDINGS * f64::EPSILON * input;
            let farthest = left.abs().max(right.abs());
            for (position, sizes) in sizes.chunks_exact(neurons).enumerate() {
                // Almost never is there such a unit, which is seen faster without looking for it.
                let excess = |(size, [weights, step]): (&f64, &[f64; 2])| size - rounding * (weights + farthest * step);
                if !sizes.iter().zip(&self.norms).fold(false, |any, pair| any | (excess(pair) <= 0.0)) {
                    continue;
                }
                for (neuron, pair) in sizes.iter().zip(&self.norms).enumerate() {
                    if excess(pair) <= 0.0 && *pair.0 != 0.0 {
                        out.clear_unit(p, position * neurons + neuron);
                    }
                }
            }
        }
    }
}
