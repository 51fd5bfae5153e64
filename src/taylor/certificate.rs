//! What a solver returns: a point, its value, and a bound on how far it is from the best (`docs/theory.md`, section 3).
//!
//! This is the only place that makes certificates; that losses are not negative enters them by [`loss_gap`].

use crate::kernels::real::{dot, norm};

/// The set that a Taylor optimum is taken over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Radius of the ball around `W^1`; `None` for all of space.
    pub radius: Option<f64>,
    /// `D_train = max_n |W^n - W^1|`, over all rounds that are analysed for the unit.
    pub displacement: f64,
}

impl Comparison {
    /// The radius of the ball for which the certificate of a point at `distance` holds.
    pub fn certified_radius(&self, distance: f64) -> f64 {
        self.radius.unwrap_or(2.0 * distance.max(self.displacement))
    }
}

/// The lower bound on `F` over the ball around the origin that convexity gives at a point with value and gradient.
pub fn lower_bound(radius: f64, point: &[f64], value: f64, gradient: &[f64]) -> f64 {
    value - dot(gradient, point) - radius * norm(gradient)
}

/// How far a loss of `value` may lie above the true optimum, if that is at least `lower`: losses are not negative.
pub fn loss_gap(value: f64, lower: f64) -> f64 {
    (value - lower.max(0.0)).max(0.0)
}

/// The Frank-Wolfe gap of a loss `F` at `u`: at most its value.
///
/// An unconstrained search that has not left the center of a unit that never moved has no ball to be certified over; then the
/// gap is the value, unless the gradient vanishes.
pub fn certify(comparison: &Comparison, u: &[f64], value: f64, gradient: &[f64]) -> f64 {
    let radius = comparison.certified_radius(norm(u));
    let vacuous = comparison.radius.is_none() && radius == 0.0 && norm(gradient) > 0.0;
    loss_gap(value, if vacuous { 0.0 } else { lower_bound(radius, u, value, gradient) })
}

/// The Frank-Wolfe gap `radius |F'(u)| + <F'(u), u>` of a convex `F`: `F(u) - min F <= gap` over the ball
/// (Jaggi 2013), here around the origin of displacements `u = V - W^1`.
pub fn gap(comparison: &Comparison, u: &[f64], gradient: &[f64]) -> f64 {
    let radius = comparison.certified_radius(norm(u));
    (radius * norm(gradient) + dot(gradient, u)).max(0.0)
}

/// Why a solver stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The gap is within the tolerance.
    Converged,
    /// The iteration limit was reached first: raise it, or accept the gap.
    Iterations,
    /// Rounding allows no further progress: the gap is what can be certified.
    Rounding,
    /// There is no minimizer; stopped at the largest distance allowed.
    AtInfinity,
}

/// A certified Taylor optimum.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimum {
    /// `u = V* - W^1`.
    pub displacement: Vec<f64>,
    /// `F(V*)`.
    pub value: f64,
    /// The true optimum lies in `[value - gap, value]`.
    pub gap: f64,
    /// `|V* - W^1|`.
    pub distance: f64,
    /// Radius of the ball around `W^1` that the gap speaks of.
    pub radius: f64,
    /// `F(W^1)`.
    pub start: f64,
    /// Factorizations or products with the curvature that were spent.
    pub iterations: usize,
    /// Whether a minimizer exists (at least as far as the solver went).
    pub attained: bool,
    pub stop: StopReason,
}

impl Optimum {
    /// The point `displacement` with its value and gap, found by a search that began at `W^1` with the value `start`.
    pub(crate) fn new(comparison: &Comparison, start: f64, displacement: Vec<f64>, value: f64, gap: f64) -> Self {
        let distance = norm(&displacement);
        let radius = comparison.certified_radius(distance);
        Self {
            displacement,
            value,
            gap,
            distance,
            radius,
            start,
            iterations: 0,
            attained: true,
            stop: StopReason::Converged,
        }
    }
}
