//! What a solver returns: a point, its value, and a bound on how far it is from the best (`docs/theory.md`, section 3).

use crate::kernels::real::{dot, norm};

/// The set that a Taylor optimum is taken over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Radius of the ball around `W^1`; `None` for all of space.
    pub radius: Option<f64>,
    /// `D_train = max_n |W^n - W^1|` of the prefix.
    pub displacement: f64,
}

impl Comparison {
    /// The radius of the ball for which the certificate of a point at `distance` holds.
    pub fn certified_radius(&self, distance: f64) -> f64 {
        self.radius.unwrap_or(2.0 * distance.max(self.displacement))
    }
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
    /// Factorizations or products with the curvature that were spent.
    pub iterations: usize,
    /// Whether a minimizer exists (at least as far as the solver went).
    pub attained: bool,
    pub stop: StopReason,
}

impl Optimum {
    pub(crate) fn new(
        displacement: Vec<f64>,
        value: f64,
        gap: f64,
        iterations: usize,
        attained: bool,
        stop: StopReason,
    ) -> Self {
        let distance = norm(&displacement);
        Self { displacement, value, gap, distance, iterations, attained, stop }
    }
}
