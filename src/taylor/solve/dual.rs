//! The point of the best lower bound.
//!
//! The minimizer `u` of a model is not the best point for the lower bound `F(w) - <F'(w), w> - radius |F'(w)|`: a better `w` in the same
//! subspace makes the gradient's norm small rather than the value, and gives a gap that is often a hundred times smaller for the same work.

use super::{basis::Subspace, hessian::Hessian};
use crate::num::dot;
use faer::{
    Mat, Side,
    linalg::solvers::{Llt, Solve},
};

/// Quadratics that touch the norm, one after the other, at most.
const MAX_STEPS: usize = 25;
/// Steps end when they raise the bound by less than this share of it.
const ENOUGH: f64 = 1e-6;
/// Added to the diagonal, as a part of the trace of `Y'Y`, so that rounding leaves the matrix positive definite.
const JITTER: f64 = 1e-15;

/// The gradient of a quadratic model at `u = B h` is `Y h + g`; this is what the bound needs to know of `g`.
pub struct Residuals<'a> {
    pub subspace: &'a Subspace,
    /// `B'HB`.
    pub hessian: &'a Hessian,
    /// `Y'g`.
    pub cross: &'a [f64],
    /// `|g|^2`.
    pub square: f64,
}

/// A lower bound on a model, up to the value of the model at the center, and the coordinates of its point.
pub struct Bound {
    pub value: f64,
    pub point: Vec<f64>,
}

impl Residuals<'_> {
    /// `|Y h + g|`, from the stored inner products.
    pub fn norm(&self, h: &[f64]) -> f64 {
        self.subspace.residual_square(self.cross, self.square, h).max(0.0).sqrt()
    }

    /// Maximizes the lower bound `-w'Hw / 2 - radius |H w + g|` of the model over the subspace, by repeatedly replacing the norm by a
    /// quadratic that touches it where it was; `start` is the first of these places.
    pub fn best_bound(&self, radius: f64, start: f64) -> Bound {
        let k = self.subspace.len();
        let mut best = Bound { value: -radius * self.square.sqrt(), point: vec![0.0; k] };
        let mut length = start;
        let jitter = JITTER * (0..k).map(|i| self.subspace.square(i, i)).sum::<f64>();
        for _ in 0..MAX_STEPS {
            let weight = (length / radius.max(f64::MIN_POSITIVE)).clamp(1e-300, 1e300);
            let Some(h) = self.touching(weight, jitter) else { break };
            let next = self.norm(&h);
            let value = -0.5 * dot(&self.hessian.apply(&h), &h) - radius * next;
            let gain = value - best.value;
            if gain > 0.0 {
                best = Bound { value, point: h };
            }
            if gain <= ENOUGH * value.abs() || next == 0.0 {
                break;
            }
            length = next;
        }
        best
    }

    /// The maximizer with `|H w + g|` replaced by `|H w + g|^2 / (2 weight radius)`, up to a constant.
    fn touching(&self, weight: f64, jitter: f64) -> Option<Vec<f64>> {
        let k = self.subspace.len();
        let matrix = Mat::from_fn(k, k, |i, j| {
            let (i, j) = (i.max(j), i.min(j));
            weight * self.subspace.curvature(i, j) + self.subspace.square(i, j) + if i == j { jitter } else { 0.0 }
        });
        let factor = Llt::new(matrix.as_ref(), Side::Lower).ok()?;
        let solution = factor.solve(Mat::from_fn(k, 1, |i, _| -self.cross[i]));
        Some((0..k).map(|i| solution[(i, 0)]).collect())
    }
}
