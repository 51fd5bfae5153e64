//! Certified minimization of a large convex objective, by a subspace that grows along preconditioned residuals.
//!
//! The objective is modelled by its gradient at a base point and its curvature there. Inside the span of a basis the
//! model is a small dense quadratic, solved exactly for either comparator ([`Quadratic`]); its residual in the full
//! space, preconditioned, extends the basis (a generalized Davidson iteration; Hager, "Minimizing a quadratic over a sphere",
//! 2001, for the ball). For a quadratic loss one basis serves both comparators and all prefixes: when the prefix grows,
//! only the new rounds are added to the images of the basis.
//!
//! **Certificate.** For any `w`, convexity gives `min_ball F >= F(w) - <F'(w), w> - radius |F'(w)|`; the Frank-Wolfe gap is this bound
//! at the minimizer `u` itself. A better `w` in the same subspace minimizes the gradient's norm rather than the value, and gives a
//! gap that is often a hundred times smaller for the same work. Both points are evaluated exactly before anything is reported.

use super::{
    Comparison, Optimum, StopReason,
    certificate::{certify, loss_gap, lower_bound},
    quadratic::{Hessian, Quadratic},
};
use crate::kernels::{
    Symmetric, View, matmul,
    real::{convert, dot, norm},
};
use faer::{
    Mat, Side,
    linalg::solvers::{Llt, Solve},
};
use rayon::prelude::*;
use std::{
    cell::Cell,
    sync::atomic::{AtomicBool, Ordering},
};

/// Best points that a reduced basis keeps at most: those of the last prefixes.
const KEPT: usize = 12;
/// Base points (Newton steps, or corrections of rounding) at most.
const MAX_BASES: usize = 40;
/// Coordinates per piece of work on long vectors; fixed, so sums do not depend on the number of threads.
const SHARE: usize = 4096;
/// A known image is orthogonalized along with its direction if at least this share of the direction is new; of less, little but rounding
/// would be left.
const MOSTLY_KNOWN: f64 = 0.1;
/// The dual point is sought after this many new basis vectors.
const DUAL_EVERY: usize = 4;

/// A convex function of the displacement `u = V - W^1`, the mean over some first rounds.
pub trait Objective: Sync {
    fn dimension(&self) -> usize;
    /// Whether the curvature is the same everywhere.
    fn is_quadratic(&self) -> bool;
    /// Rounds that the mean is over.
    fn rounds(&self) -> usize;
    /// `F(u)` and its gradient, to full precision.
    fn evaluate(&self, u: &[f64]) -> (f64, Vec<f64>);
    /// [`Objective::evaluate`] at two points.
    fn evaluate_both(&self, points: [&[f64]; 2]) -> [(f64, Vec<f64>); 2] {
        points.map(|u| self.evaluate(u))
    }
    /// The mean of `W^n - W^1` over rounds `from..rounds()`, if it is known: a displacement worth searching along, as Taylor losses are low where
    /// training was.
    fn trodden(&self, _from: usize) -> Option<Vec<f64>> {
        None
    }
    /// Makes the curvature at `u` the one that [`Objective::images`] multiplies with.
    fn linearize(&mut self, u: &[f64]);
    /// The sum over rounds `from..rounds()` of the curvature times each direction, divided by [`Objective::rounds`].
    fn images(&self, from: usize, directions: &[&[f32]]) -> Vec<Vec<f32>>;
    /// An approximation of `(H + shift I)^-1 r`.
    fn precondition(&self, shift: f64, residual: &[f64]) -> Direction;
}

/// A direction to search along.
pub struct Direction {
    pub vector: Vec<f64>,
    /// Its image under the curvature, where finding the direction has found most of it; then `vector` is made of `f32`.
    pub image: Option<Vec<f32>>,
}

impl From<Vec<f64>> for Direction {
    fn from(vector: Vec<f64>) -> Self {
        Self { vector, image: None }
    }
}

/// Directions with their images under the curvature. Rounded to `f32`, each with the image of the rounded direction;
/// all inner products are in `f64`.
pub struct Subspace {
    /// Basis vectors kept at most. A search begins with at least half of that free: a fuller basis is first reduced to
    /// the best points found with it.
    capacity: usize,
    basis: Vec<Vec<f32>>,
    images: Vec<Vec<f32>>,
    /// `B' H B` and `(H B)' (H B)`, rows of growing length (lower triangles).
    curvature: Vec<Vec<f64>>,
    squares: Vec<Vec<f64>>,
    /// Rounds that the images are over.
    rounds: usize,
    /// Rounds up to which the basis knows where training was.
    trodden: usize,
    /// Coordinates of the best points of the searches so far, the latest last.
    best: Vec<Vec<f64>>,
}

impl Subspace {
    /// An empty subspace that holds at most `capacity` vectors (at least a few dozen).
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(3 * KEPT),
            basis: Vec::new(),
            images: Vec::new(),
            curvature: Vec::new(),
            squares: Vec::new(),
            rounds: 0,
            trodden: 0,
            best: Vec::new(),
        }
    }

    fn clear(&mut self) {
        *self = Self { rounds: self.rounds, ..Self::new(self.capacity) };
    }

    fn len(&self) -> usize {
        self.basis.len()
    }

    /// Brings the images to the objective's rounds, of which those before are the first.
    pub fn advance(&mut self, objective: &dyn Objective) {
        let (from, to) = (self.rounds, objective.rounds());
        self.rounds = to;
        if from == to || self.basis.is_empty() {
            return;
        }
        let keep = (from as f64 / to as f64) as f32;
        let directions: Vec<&[f32]> = self.basis.iter().map(|b| &b[..]).collect();
        let new = objective.images(from, &directions);
        self.images.par_iter_mut().zip(new).for_each(|(image, new)| {
            image.iter_mut().zip(&new).for_each(|(old, new)| *old = keep * *old + new);
        });
        self.curvature = products(&self.basis, &self.images);
        self.squares = products(&self.images, &self.images);
    }

    /// Makes room by keeping only the span of the latest best points; as images are linear, this needs no products.
    fn reduce(&mut self) {
        let k = self.len();
        if 2 * k <= self.capacity {
            return;
        }
        // Orthonormal coordinates of the points, the latest first; a point in the span of later ones adds nothing.
        let mut kept: Vec<Vec<f64>> = Vec::new();
        for point in self.best.iter().rev() {
            let mut h = point.clone();
            h.resize(k, 0.0);
            let before = norm(&h);
            for _ in 0..2 {
                for other in &kept {
                    let overlap = dot(other, &h);
                    h.iter_mut().zip(other).for_each(|(h, o)| *h -= overlap * o);
                }
            }
            let length = norm(&h);
            if length > 1e-6 * before && kept.len() < KEPT {
                h.iter_mut().for_each(|h| *h /= length);
                kept.push(h);
            }
        }
        let combined = |vectors: &[Vec<f32>]| -> Vec<Vec<f32>> {
            let one = |h: &Vec<f64>| {
                let mut out = vec![0.0; vectors[0].len()];
                combine(vectors, h, 1.0, &mut out);
                convert(&out)
            };
            kept.iter().map(one).collect()
        };
        (self.basis, self.images) = (combined(&self.basis), combined(&self.images));
        self.curvature = products(&self.basis, &self.images);
        self.squares = products(&self.images, &self.images);
        self.best.clear();
        self.best.extend((0..kept.len()).rev().map(|i| {
            let mut unit = vec![0.0; kept.len()];
            unit[i] = 1.0;
            unit
        }));
    }

    /// Remembers a point as worth keeping.
    fn remember(&mut self, h: &[f64]) {
        self.best.push(h.to_vec());
        if self.best.len() > 2 * KEPT {
            self.best.remove(0);
        }
    }

    /// Orthogonalizes a direction against the basis and adds it with its image; `false` if it lies in the span already.
    fn extend(&mut self, objective: &dyn Objective, direction: Direction) -> bool {
        let mut v = direction.vector;
        let before = norm(&v);
        if !(before > 0.0 && before.is_finite()) {
            return false;
        }
        // Images are linear: a known one goes along.
        let mut known: Option<Vec<f64>> = direction.image.map(|image| convert(&image));
        let scale = |v: &mut Vec<f64>, known: &mut Option<Vec<f64>>, length: f64| {
            v.iter_mut().chain(known.iter_mut().flatten()).for_each(|x| *x /= length);
        };
        scale(&mut v, &mut known, before);
        // The share of the direction that is new.
        let mut new = 1.0;
        // Twice is enough (Parlett), once if little was taken away.
        for _ in 0..2 {
            let overlaps = dots(&self.basis, &v);
            combine(&self.basis, &overlaps, -1.0, &mut v);
            if let Some(image) = &mut known {
                combine(&self.images, &overlaps, -1.0, image);
            }
            let length = norm(&v);
            if length < 1e-6 {
                return false;
            }
            scale(&mut v, &mut known, length);
            new *= length;
            if length > 0.7 {
                break;
            }
        }
        let direction: Vec<f32> = convert(&v);
        let image = match known {
            Some(image) if new >= MOSTLY_KNOWN => convert(&image),
            _ => objective.images(0, &[&direction]).swap_remove(0),
        };
        let (wide_direction, wide_image): (Vec<f64>, Vec<f64>) = (convert(&direction), convert(&image));
        self.basis.push(direction);
        self.images.push(image);
        self.curvature.push(dots(&self.images, &wide_direction));
        self.squares.push(dots(&self.images, &wide_image));
        true
    }
}

/// `<b, v>` for every vector.
fn dots(vectors: &[Vec<f32>], v: &[f64]) -> Vec<f64> {
    vectors
        .par_iter()
        .map(|b| {
            crate::kernels::vectorized(
                #[inline(always)]
                || {
                    let mut sums = [0.0f64; 16];
                    let (chunks_b, chunks_v) = (b.chunks_exact(16), v.chunks_exact(16));
                    let rest: f64 =
                        chunks_b.remainder().iter().zip(chunks_v.remainder()).map(|(b, v)| f64::from(*b) * v).sum();
                    for (b, v) in chunks_b.zip(chunks_v) {
                        for (sum, (b, v)) in sums.iter_mut().zip(b.iter().zip(v)) {
                            *sum += f64::from(*b) * v;
                        }
                    }
                    sums.iter().sum::<f64>() + rest
                },
            )
        })
        .collect()
}

/// The lower triangle of all inner products `<a_i, b_j>`, symmetrized, in `f64`.
fn products(a: &[Vec<f32>], b: &[Vec<f32>]) -> Vec<Vec<f64>> {
    let (k, length) = (a.len(), a.first().map_or(0, Vec::len));
    let pieces: Vec<Vec<f64>> = (0..length.div_ceil(SHARE))
        .into_par_iter()
        .map(|s| {
            let range = s * SHARE..length.min((s + 1) * SHARE);
            let gather = |vectors: &[Vec<f32>]| -> Vec<f64> {
                vectors.iter().flat_map(|v| v[range.clone()].iter().map(|x| f64::from(*x))).collect()
            };
            let (left, right) = (gather(a), gather(b));
            let mut out = vec![0.0; k * k];
            let (left, right) = (View::new(&left, k, range.len()), View::new(&right, k, range.len()));
            matmul(&mut out, k, left, right.t(), false);
            out
        })
        .collect();
    let mut total = vec![0.0; k * k];
    for piece in pieces {
        total.iter_mut().zip(&piece).for_each(|(a, b)| *a += b);
    }
    let at = |i: usize, j: usize| 0.5 * (total[i * k + j] + total[j * k + i]);
    (0..k).map(|i| (0..=i).map(|j| at(i, j)).collect()).collect()
}

/// `out += factor * sum_j coefficients[j] vectors[j]`.
fn combine(vectors: &[Vec<f32>], coefficients: &[f64], factor: f64, out: &mut [f64]) {
    out.par_chunks_mut(SHARE).enumerate().for_each(|(s, out)| {
        crate::kernels::vectorized(
            #[inline(always)]
            || {
                for (vector, coefficient) in vectors.iter().zip(coefficients) {
                    let scale = factor * coefficient;
                    for (o, v) in out.iter_mut().zip(&vector[s * SHARE..]) {
                        *o += scale * f64::from(*v);
                    }
                }
            },
        );
    });
}

/// What a search is asked for.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    pub comparison: Comparison,
    /// Absolute gap to reach.
    pub tolerance: f64,
    /// Products with the curvature at most.
    pub max_products: usize,
    /// Search radius of an unconstrained comparator when a minimizer need not exist.
    pub far: Option<f64>,
    /// Ends the search early once it is set.
    pub stop: &'a AtomicBool,
    /// Called with the number of products spent since the last call.
    pub tick: &'a dyn Fn(usize),
}

/// Minimizes from the displacement `start` (used only if the objective is not quadratic).
///
/// `subspace` may hold a basis of an earlier search of the same objective over these or fewer rounds.
pub fn minimize(objective: &mut dyn Objective, search: Search, start: &[f64], subspace: &mut Subspace) -> Optimum {
    let Search { comparison, tolerance, max_products, far, stop: halt, tick } = search;
    let halted = || halt.load(Ordering::Relaxed);
    let quadratic = objective.is_quadratic();
    let radius = comparison.radius.or(far);
    let mut u = vec![0.0; start.len()];
    let (mut value, mut gradient) = objective.evaluate(&u);
    let at_center = value;
    if !quadratic {
        // The last prefix's optimum, unless it is useless for this one (far away, where the softmax saturates).
        let mut warm = start.to_vec();
        clip(&mut warm, radius);
        let (warm_value, warm_gradient) = objective.evaluate(&warm);
        if warm_value < value {
            (u, value, gradient) = (warm, warm_value, warm_gradient);
        }
    }
    // A search that has come to the far sphere has no minimizer: more work would only tell how low the loss is out there.
    let runs_away = |u: &[f64]| comparison.radius.is_none() && far.is_some_and(|far| norm(u) >= 0.999 * far);
    let mut gap = certify(&comparison, &u, value, &gradient);
    let mut products = 0;
    let mut stop = StopReason::Iterations;
    let mut target = if quadratic { 0.7 * tolerance } else { tolerance };
    for base in 0..MAX_BASES {
        if gap <= tolerance || products >= max_products || radius == Some(0.0) || halted() || runs_away(&u) {
            break;
        }
        if quadratic {
            subspace.reduce();
            subspace.advance(objective);
            // Not for every prefix: a product that tells of few new rounds is better spent on the residual.
            if objective.rounds() >= 2 * subspace.trodden {
                if let Some(displacement) = objective.trodden(subspace.trodden) {
                    products += usize::from(subspace.extend(objective, displacement.into()));
                }
                subspace.trodden = objective.rounds();
            }
        } else {
            objective.linearize(&u);
            subspace.clear();
            subspace.rounds = objective.rounds();
            target = (0.05 * gap).max(0.3 * tolerance);
        }
        let model = Model { objective, comparison, radius, base: &u, value, gradient: &gradient, target, halt, tick };
        let (mut next, dual) = model.minimize(subspace, max_products, &mut products);
        clip(&mut next, radius);
        let step: Vec<f64> = next.iter().zip(&u).map(|(v, u)| v - u).collect();
        let descent = dot(&gradient, &step);
        // The step is a descent direction of a convex function inside a convex set, so some length decreases F.
        let mut length = 1.0;
        let along = |length: f64| -> Vec<f64> { u.iter().zip(&step).map(|(u, s)| u + length * s).collect() };
        // Both points of the model in one go.
        let (mut at_next, mut at_dual) = (None, None);
        if let Some(w) = dual.as_ref().filter(|_| quadratic) {
            let [next, beside] = objective.evaluate_both([&along(1.0), w]);
            (at_next, at_dual) = (Some(next), Some(beside));
        }
        let accepted = loop {
            let trial = along(length);
            let (trial_value, trial_gradient) = at_next.take().unwrap_or_else(|| objective.evaluate(&trial));
            if trial_value <= value + 1e-4 * length * descent.min(0.0) {
                break Some((trial, trial_value, trial_gradient));
            }
            length *= 0.5;
            if length < 1e-8 {
                break None;
            }
        };
        let before = (gap, value);
        let moved = accepted.is_some();
        if let Some(accepted) = accepted {
            (u, value, gradient) = accepted;
            gap = certify(&comparison, &u, value, &gradient);
        }
        if let Some(w) = dual.filter(|_| gap > tolerance) {
            let (dual_value, dual_gradient) = at_dual.take().unwrap_or_else(|| objective.evaluate(&w));
            let reach = comparison.certified_radius(norm(&u));
            if reach > 0.0 || comparison.radius.is_some() {
                gap = gap.min(loss_gap(value, lower_bound(reach, &w, dual_value, &dual_gradient)));
            }
        }
        target *= 0.5;
        let stalled = base > 1 && gap > 0.9 * before.0 && before.1 - value < 1e-3 * tolerance;
        if gap > tolerance && (!moved || stalled) {
            stop = StopReason::Rounding;
            break;
        }
    }
    if gap <= tolerance {
        stop = StopReason::Converged;
    }
    let at_infinity = runs_away(&u);
    if at_infinity && gap > tolerance {
        stop = StopReason::AtInfinity;
    }
    let attained = comparison.radius.is_some() || quadratic || (!at_infinity && gap <= tolerance);
    Optimum { iterations: products, attained, stop, ..Optimum::new(&comparison, at_center, u, value, gap) }
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
    value: f64,
    gradient: &'a [f64],
    target: f64,
    halt: &'a AtomicBool,
    tick: &'a dyn Fn(usize),
}

impl Model<'_> {
    /// Grows the subspace until the model's gap is at most the target; returns the model's minimizer and the point of
    /// its best lower bound, if that is a bound worth knowing: losses are not negative anyway.
    fn minimize(
        &self,
        subspace: &mut Subspace,
        max_products: usize,
        products: &mut usize,
    ) -> (Vec<f64>, Option<Vec<f64>>) {
        let spent = Cell::new(*products);
        let grow = |subspace: &mut Subspace, direction: Direction| {
            let grown = subspace.extend(self.objective, direction);
            spent.set(spent.get() + usize::from(grown));
            (self.tick)(usize::from(grown));
            grown
        };
        grow(subspace, self.base.to_vec().into());
        if subspace.len() < 2 {
            grow(subspace, self.objective.precondition(0.0, self.gradient));
            grow(subspace, self.gradient.to_vec().into());
        }
        // The gradient of the model at u = B h is `offset + Y h`.
        let mut offset = self.gradient.to_vec();
        let at = dots(&subspace.basis, self.base);
        combine(&subspace.images, &at, -1.0, &mut offset);
        let offset_square = dot(&offset, &offset);
        // The model at the center, `F(u) - <F'(u), u> + u'Hu / 2`.
        let center = self.value - 0.5 * (dot(self.gradient, self.base) + dot(&offset, self.base));
        let mut slope = dots(&subspace.basis, &offset);
        let mut tilt = dots(&subspace.images, &offset);
        let ball = Comparison { radius: self.radius, ..self.comparison };
        let mut since = DUAL_EVERY;
        let mut warm = None;
        let mut dual = None;
        loop {
            let k = subspace.len();
            if k == 0 {
                return (self.base.to_vec(), None);
            }
            let hessian = Hessian::for_few_shifts(Symmetric::from_fn(k, |i, j| subspace.curvature[j][i]));
            let quadratic = Quadratic { hessian: &hessian, linear: &slope, constant: 0.0 };
            let (small, shift) = quadratic.minimize(ball, 0.3 * self.target, warm);
            // The shift falls as the subspace grows; from a little above, few are tried, and none is too small.
            warm = Some(3.0 * shift);
            let h = &small.displacement;
            *products = spent.get();
            let done = *products >= max_products || k >= subspace.capacity || self.halt.load(Ordering::Relaxed);
            since += 1;
            if since >= DUAL_EVERY || done {
                since = 0;
                let reach = self.comparison.certified_radius(small.distance);
                let start = residual_norm(subspace, &tilt, offset_square, h);
                let (bound, w) = best_bound(subspace, &hessian, &tilt, offset_square, reach, start);
                // What `u` itself certifies: on the path `<F'(u), u> = -shift |u|^2`.
                let own = reach * start - shift * small.distance * small.distance;
                dual = (center + bound > 0.0 && own > self.target).then_some(w);
                if done || small.value - bound <= self.target {
                    subspace.remember(h);
                    if let Some(w) = &dual {
                        subspace.remember(w);
                    }
                    let expand = |h: &[f64]| {
                        let mut v = vec![0.0; self.base.len()];
                        combine(&subspace.basis, h, 1.0, &mut v);
                        v
                    };
                    return (expand(h), dual.map(|w| expand(&w)));
                }
            }
            // On the path (B'HB + shift) h = -b, so the residual of the full system has the shift in it.
            let mut residual = offset.clone();
            combine(&subspace.images, h, 1.0, &mut residual);
            combine(&subspace.basis, h, shift, &mut residual);
            let direction = self.objective.precondition(shift, &residual);
            if !grow(subspace, direction) && !grow(subspace, residual.into()) {
                let mut v = vec![0.0; self.base.len()];
                combine(&subspace.basis, h, 1.0, &mut v);
                let w = dual.map(|w| {
                    let mut v = vec![0.0; self.base.len()];
                    combine(&subspace.basis[..w.len()], &w, 1.0, &mut v);
                    v
                });
                return (v, w);
            }
            slope.extend(dots(&subspace.basis[k..], &offset));
            tilt.extend(dots(&subspace.images[k..], &offset));
        }
    }
}

/// `|Y h + offset|` from the stored inner products.
fn residual_norm(subspace: &Subspace, tilt: &[f64], offset_square: f64, h: &[f64]) -> f64 {
    let mut square = offset_square + 2.0 * dot(tilt, h);
    for (i, row) in subspace.squares.iter().enumerate() {
        square += 2.0 * h[i] * dot(&row[..i], &h[..i]) + row[i] * h[i] * h[i];
    }
    square.max(0.0).sqrt()
}

/// Maximizes the lower bound `-w'Hw / 2 - radius |H w + offset|` of the model over the subspace, by repeatedly replacing the
/// norm by a quadratic that touches it.
fn best_bound(
    subspace: &Subspace,
    hessian: &Hessian,
    tilt: &[f64],
    offset_square: f64,
    radius: f64,
    start: f64,
) -> (f64, Vec<f64>) {
    let k = subspace.len();
    let bound = |h: &[f64], length: f64| -0.5 * dot(&hessian.apply(h), h) - radius * length;
    let mut best = (-radius * offset_square.sqrt(), vec![0.0; k]);
    let mut length = start;
    let jitter = 1e-15 * (0..k).map(|i| subspace.squares[i][i]).sum::<f64>();
    for _ in 0..25 {
        let weight = (length / radius.max(f64::MIN_POSITIVE)).clamp(1e-300, 1e300);
        let matrix = Mat::from_fn(k, k, |i, j| {
            let (i, j) = (i.max(j), i.min(j));
            weight * subspace.curvature[i][j] + subspace.squares[i][j] + if i == j { jitter } else { 0.0 }
        });
        let Ok(factor) = Llt::new(matrix.as_ref(), Side::Lower) else { break };
        let solution = factor.solve(Mat::from_fn(k, 1, |i, _| -tilt[i]));
        let h: Vec<f64> = (0..k).map(|i| solution[(i, 0)]).collect();
        let next = residual_norm(subspace, tilt, offset_square, &h);
        let value = bound(&h, next);
        let gain = value - best.0;
        if gain > 0.0 {
            best = (value, h);
        }
        if gain <= 1e-6 * value.abs() || next == 0.0 {
            break;
        }
        length = next;
    }
    best
}
