//! Certified minimization of a large convex objective, by subspaces that grow along preconditioned residuals.
//!
//! The objective is modelled by its gradient at a base point and its curvature there. Inside the span of an orthonormal
//! basis the model is a small dense quadratic, solved exactly for either comparator ([`Quadratic`]); its residual in the full
//! space, preconditioned, extends the basis (a generalized Davidson iteration; Hager, "Minimizing a quadratic over a sphere", 2001,
//! for the trust-region case). One basis serves both comparators, and the last prefix's optimum starts the next.
//! When the model has converged, value, gradient and gap are computed exactly; if the gap is not small
//! enough, the exact point is the next base. For losses that are not quadratic this is Newton's method with a
//! line search that never increases the objective.

use super::{
    Comparison, Optimum, StopReason,
    certificate::gap,
    quadratic::{Hessian, Quadratic},
};
use crate::kernels::real::{axpy, dot, norm};
use rayon::prelude::*;

/// Basis vectors kept at most before the search restarts from its best point.
const MAX_BASIS: usize = 160;
/// Base points (Newton steps) at most.
const MAX_BASES: usize = 40;

/// A convex function of the displacement `u = V - W^1`.
pub trait Objective: Sync {
    fn dimension(&self) -> usize;
    /// Whether the curvature is the same everywhere.
    fn is_quadratic(&self) -> bool;
    /// `F(u)` and its gradient, to full precision; the curvature at `u` is what [`Objective::product`] multiplies with from now on.
    fn expand(&mut self, u: &[f64]) -> (f64, Vec<f64>);
    /// `F(u)` alone.
    fn value(&self, u: &[f64]) -> f64;
    /// `H d` with the curvature of the last expansion.
    fn product(&self, direction: &[f64]) -> Vec<f64>;
    /// An approximation of `(H + shift I)^-1 r`.
    fn precondition(&self, shift: f64, residual: &[f64]) -> Vec<f64>;
}

/// Orthonormal directions with their images under the curvature.
#[derive(Default)]
pub struct Subspace {
    basis: Vec<Vec<f64>>,
    images: Vec<Vec<f64>>,
    /// `B' H B`, rows of growing length (lower triangle).
    projected: Vec<Vec<f64>>,
}

impl Subspace {
    fn clear(&mut self) {
        *self = Self::default();
    }

    fn len(&self) -> usize {
        self.basis.len()
    }

    /// Orthogonalizes `v` against the basis and adds it with its image; `false` if it lies in the span already.
    fn extend(&mut self, objective: &dyn Objective, mut v: Vec<f64>) -> bool {
        let before = norm(&v);
        if !(before > 0.0 && before.is_finite()) {
            return false;
        }
        v.iter_mut().for_each(|x| *x /= before);
        // Twice is enough (Parlett).
        for _ in 0..2 {
            let overlaps: Vec<f64> = self.basis.par_iter().map(|b| dot(b, &v)).collect();
            combine(&self.basis, &overlaps, -1.0, &mut v);
            let length = norm(&v);
            if length < 1e-10 {
                return false;
            }
            v.iter_mut().for_each(|x| *x /= length);
        }
        let image = objective.product(&v);
        self.projected.push(self.basis.par_iter().map(|b| dot(b, &image)).chain([dot(&v, &image)]).collect());
        self.basis.push(v);
        self.images.push(image);
        true
    }

    /// `B' H B`, full and symmetric.
    fn matrix(&self) -> Vec<f64> {
        let k = self.len();
        let mut full = vec![0.0; k * k];
        for (i, row) in self.projected.iter().enumerate() {
            for (j, value) in row.iter().enumerate() {
                full[i * k + j] = *value;
                full[j * k + i] = *value;
            }
        }
        full
    }

    fn coordinates(&self, u: &[f64]) -> Vec<f64> {
        self.basis.par_iter().map(|b| dot(b, u)).collect()
    }
}

/// `out += factor * sum_j coefficients[j] vectors[j]`, split over the coordinates.
fn combine(vectors: &[Vec<f64>], coefficients: &[f64], factor: f64, out: &mut [f64]) {
    const SHARE: usize = 4096;
    out.par_chunks_mut(SHARE).enumerate().for_each(|(s, out)| {
        for (vector, coefficient) in vectors.iter().zip(coefficients) {
            axpy(factor * coefficient, &vector[s * SHARE..s * SHARE + out.len()], out);
        }
    });
}

/// What a search is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    pub comparison: Comparison,
    /// Absolute gap to reach.
    pub tolerance: f64,
    /// Products with the curvature at most.
    pub max_products: usize,
    /// Search radius of an unconstrained comparator when a minimizer need not exist.
    pub far: Option<f64>,
}

/// Minimizes from the displacement `start`. `subspace` may hold a basis of an earlier search of the same objective.
pub fn minimize(objective: &mut dyn Objective, search: Search, start: &[f64], subspace: &mut Subspace) -> Optimum {
    let Search { comparison, tolerance, max_products, far } = search;
    let radius = comparison.radius.or(far);
    let mut u = start.to_vec();
    clip(&mut u, radius);
    let (mut value, mut gradient) = objective.expand(&u);
    let mut certified = gap(&comparison, &u, &gradient);
    let mut products = 0;
    let mut stop = StopReason::Iterations;
    for base in 0..MAX_BASES {
        if certified <= tolerance {
            stop = StopReason::Converged;
            break;
        }
        if products >= max_products {
            break;
        }
        if !objective.is_quadratic() || subspace.len() + 2 > MAX_BASIS {
            subspace.clear();
        }
        let target = if objective.is_quadratic() { 0.5 * tolerance } else { (0.1 * certified).max(0.3 * tolerance) };
        let model = Model { objective, comparison, radius, base: &u, gradient: &gradient, target };
        let spent = &mut products;
        let next = model.minimize(subspace, max_products, spent);
        let step: Vec<f64> = next.iter().zip(&u).map(|(v, u)| v - u).collect();
        let descent = dot(&gradient, &step);
        // The step is a descent direction of a convex function inside a convex set, so some length decreases F.
        let mut length = 1.0;
        let moved = loop {
            let trial: Vec<f64> = u.iter().zip(&step).map(|(u, s)| u + length * s).collect();
            let (trial_value, trial_gradient) = objective.expand(&trial);
            let trial_gap = gap(&comparison, &trial, &trial_gradient);
            let allowed = value + 1e-4 * length * descent.min(0.0);
            if trial_value <= allowed || (trial_gap < certified && trial_value <= value + 1e-13 * value.abs()) {
                break Some((trial, trial_value, trial_gradient, trial_gap));
            }
            length *= 0.5;
            if length < 1e-8 {
                break None;
            }
        };
        let Some((trial, trial_value, trial_gradient, trial_gap)) = moved else {
            objective.expand(&u);
            stop = StopReason::Rounding;
            break;
        };
        let stalled = base > 2 && trial_gap > 0.95 * certified && value - trial_value < 1e-3 * tolerance;
        (u, value, gradient, certified) = (trial, trial_value, trial_gradient, trial_gap);
        if stalled && certified > tolerance {
            stop = StopReason::Rounding;
            break;
        }
    }
    if certified <= tolerance {
        stop = StopReason::Converged;
    }
    let at_infinity = comparison.radius.is_none() && far.is_some_and(|far| norm(&u) >= 0.999 * far);
    if at_infinity && certified > tolerance {
        stop = StopReason::AtInfinity;
    }
    Optimum::new(u, value, certified, products, !at_infinity, stop)
}

/// Scales `u` back into the ball.
fn clip(u: &mut [f64], radius: Option<f64>) {
    if let Some(radius) = radius {
        let length = norm(u);
        if length > radius {
            u.iter_mut().for_each(|v| *v *= radius / length);
        }
    }
}

/// The quadratic model of the objective at a base point.
struct Model<'a> {
    objective: &'a dyn Objective,
    comparison: Comparison,
    radius: Option<f64>,
    base: &'a [f64],
    gradient: &'a [f64],
    target: f64,
}

impl Model<'_> {
    /// Grows the subspace until the model's gap is at most the target; returns the model's minimizer.
    fn minimize(&self, subspace: &mut Subspace, max_products: usize, products: &mut usize) -> Vec<f64> {
        let before = subspace.len();
        subspace.extend(self.objective, self.base.to_vec());
        subspace.extend(self.objective, self.objective.precondition(0.0, self.gradient));
        *products += subspace.len() - before;
        let ball = Comparison { radius: self.radius, ..self.comparison };
        let mut warm = None;
        loop {
            let k = subspace.len();
            if k == 0 {
                return self.base.to_vec();
            }
            let matrix = subspace.matrix();
            let at = subspace.coordinates(self.base);
            let slope = subspace.coordinates(self.gradient);
            // Model around the base: b = B'g - B'HB h_base.
            let bend = |i: usize| dot(&matrix[i * k..(i + 1) * k], &at);
            let linear: Vec<f64> = (0..k).map(|i| slope[i] - bend(i)).collect();
            let hessian = Hessian::new(matrix, k);
            let quadratic = Quadratic { hessian: &hessian, linear: &linear, constant: 0.0 };
            let (small, shift) = quadratic.minimize(ball, 0.2 * self.target, warm);
            warm = Some(shift);
            let h = &small.displacement;
            let mut v = vec![0.0; self.base.len()];
            combine(&subspace.basis, h, 1.0, &mut v);
            let step: Vec<f64> = h.iter().zip(&at).map(|(h, a)| h - a).collect();
            let mut residual = self.gradient.to_vec();
            combine(&subspace.images, &step, 1.0, &mut residual);
            let converged = gap(&ball, &v, &residual) <= self.target;
            if converged || *products >= max_products || k >= MAX_BASIS {
                return v;
            }
            // On the path (B'HB + shift) h = -b, so the residual of the full system has the shift in it.
            let multiplier = if ball.radius.is_some() { shift } else { 0.0 };
            axpy(multiplier, &v, &mut residual);
            if !subspace.extend(self.objective, self.objective.precondition(multiplier, &residual))
                && !subspace.extend(self.objective, residual)
            {
                return v;
            }
            *products += 1;
        }
    }
}
