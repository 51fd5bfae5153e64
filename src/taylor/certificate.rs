//! What a solver returns: a point, its value, and a bound on how far it is from the best (`docs/theory.md`, section 3).
//!
//! This is the only place that makes certificates. Its rules:
//!
//! - A convex `F` has the lower bound `F(w) - <F'(w), w> - radius |F'(w)|` over the ball, from any point `w`.
//! - Losses are not negative, so a lower bound below zero counts as zero.
//! - Without a constraint the bound holds on a ball of twice the distance. A ball that is a point proves nothing.
//! - Where there may be no minimizer, a search ends at the radius cap.

use crate::{
    checkpoint::Choice,
    num::{dot, norm},
};
use std::fmt;

/// A search without a constraint, of a loss that need not have a minimizer, ends at this multiple of the displacement of training.
const RADIUS_CAP: f64 = 1000.0;
/// Points this close to the cap, as a share of it, lie on it: a minimizer over a ball is on its sphere up to the solver's tolerance.
const AT_CAP: f64 = 0.999;
/// Sums that cancel may fall below zero by this share of the mean loss, which is what single precision leaves of them.
const ROUNDING: f64 = 1e-5;

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

    /// Where a search without a constraint ends if there may be no minimizer.
    pub fn radius_cap(&self) -> f64 {
        RADIUS_CAP * self.displacement
    }

    /// The radius of the ball that is searched: the comparator's, or else the cap unless `has_minimizer`.
    pub fn search_radius(&self, has_minimizer: bool) -> Option<f64> {
        self.radius.or((!has_minimizer).then(|| self.radius_cap()))
    }

    /// Whether a search without a constraint has come to the cap with the displacement `u`: more work would only tell how low the loss is
    /// out there.
    pub fn is_at_cap(&self, u: &[f64]) -> bool {
        self.radius.is_none() && norm(u) >= AT_CAP * self.radius_cap()
    }

    /// The lower bound on `F` that the value and the gradient at `w` give over the ball that is certified for a point at `distance`.
    ///
    /// An unconstrained search that has not left the center of a unit that never moved has no ball to be certified over; then
    /// there is no bound, unless the gradient vanishes.
    fn lower_bound(&self, distance: f64, w: &[f64], value: f64, gradient: &[f64]) -> f64 {
        let radius = self.certified_radius(distance);
        let vacuous = self.radius.is_none() && radius == 0.0 && norm(gradient) > 0.0;
        if vacuous { f64::NEG_INFINITY } else { value - dot(gradient, w) - radius * norm(gradient) }
    }
}

/// The value of a loss `F` at a point `u`, and the best lower bound on `F` that is known over the ball certified for `u`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Certificate {
    value: f64,
    lower: f64,
    distance: f64,
}

impl Certificate {
    /// The certificate of Frank and Wolfe at `u` (Jaggi 2013): the bound from `u` itself.
    pub fn at(comparison: &Comparison, u: &[f64], value: f64, gradient: &[f64]) -> Self {
        let distance = norm(u);
        Self { value, lower: comparison.lower_bound(distance, u, value, gradient), distance }
    }

    /// Takes in the bound that another point `w` gives, with the value and the gradient there.
    pub fn raise(&mut self, comparison: &Comparison, w: &[f64], value: f64, gradient: &[f64]) {
        self.lower = self.lower.max(comparison.lower_bound(self.distance, w, value, gradient));
    }

    /// The true optimum lies in `[value - gap, value]`.
    pub fn gap(&self) -> f64 {
        loss_gap(self.value, self.lower)
    }
}

/// How far a loss of `value` may lie above the true optimum, if that is at least `lower`: losses are not negative.
pub fn loss_gap(value: f64, lower: f64) -> f64 {
    (value - lower.max(0.0)).max(0.0)
}

/// The Frank-Wolfe gap `radius |F'(u)| + <F'(u), u>` of a convex `F`: `F(u) - min F <= gap` over the ball
/// (Jaggi 2013), here around the origin of displacements `u = V - W^1`. Models of losses may be negative, so their sign is not used.
pub fn gap(comparison: &Comparison, u: &[f64], gradient: &[f64]) -> f64 {
    let radius = comparison.certified_radius(norm(u));
    (radius * norm(gradient) + dot(gradient, u)).max(0.0)
}

/// The value and the gap of a loss as they are reported, given what a solver computed and the mean loss of training.
///
/// Values below zero by rounding count as zero. What is lower than that is an error of a solver, and stays visible. A value bounds its gap,
/// as losses are not negative.
pub fn of_a_loss(value: f64, gap: f64, mean_loss: f64) -> (f64, f64) {
    let value = if (-ROUNDING * mean_loss..0.0).contains(&value) { 0.0 } else { value };
    (value, gap.min(value.max(0.0)))
}

/// Why a solver stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The gap is within the tolerance.
    Converged,
    /// The budget of products or iterations was spent first.
    Iterations,
    /// Rounding allows no further progress.
    Rounding,
    /// There is no minimizer: the search came to the radius cap.
    AtInfinity,
    /// Somebody asked for an early end.
    Halted,
}

impl StopReason {
    pub const ALL: [Self; 5] = [Self::Converged, Self::Iterations, Self::Rounding, Self::AtInfinity, Self::Halted];

    /// What happened, and what can be done about it.
    pub fn message(self) -> &'static str {
        match self {
            Self::Converged => "the gap is within the tolerance",
            Self::Iterations => {
                "the budget was spent before the gap was within the tolerance: raise it, or accept the gap"
            }
            Self::Rounding => "rounding allows no further progress: the gap is what can be certified",
            Self::AtInfinity => "there is no minimizer: the search ended at the radius cap",
            Self::Halted => "the search was halted: run it again to its end for a smaller gap",
        }
    }
}

impl Choice for StopReason {
    const ALL: &'static [Self] = &StopReason::ALL;
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `F(u) = |u - (3, 4)|^2 + 1`.
    fn bowl(u: [f64; 2]) -> (f64, [f64; 2]) {
        let apart = [u[0] - 3.0, u[1] - 4.0];
        (dot(&apart, &apart) + 1.0, apart.map(|d| 2.0 * d))
    }

    #[test]
    fn a_certificate_bounds_the_minimum_over_its_ball() {
        // The minimum over the ball of radius 2 lies at distance 3 from the bowl's own.
        let (ball, minimum) = (Comparison { radius: Some(2.0), displacement: 1.0 }, 10.0);
        for u in [[0.0, 0.0], [1.0, 1.0], [1.2, 1.6]] {
            let (value, gradient) = bowl(u);
            let certificate = Certificate::at(&ball, &u, value, &gradient);
            assert!(value - certificate.gap() <= minimum + 1e-12, "{certificate:?}");
            assert!(certificate.gap() <= gap(&ball, &u, &gradient) + 1e-12);
        }
        let (value, gradient) = bowl([1.2, 1.6]);
        assert!(Certificate::at(&ball, &[1.2, 1.6], value, &gradient).gap() < 1e-12);
    }

    #[test]
    fn losses_are_not_negative() {
        let ball = Comparison { radius: Some(2.0), displacement: 1.0 };
        let (value, gradient) = bowl([0.0, 0.0]);
        // The bound from there is 26 - 2 * 10 = 6; over a larger ball it is negative.
        assert_eq!(Certificate::at(&ball, &[0.0, 0.0], value, &gradient).gap(), 20.0);
        let large = Comparison { radius: Some(200.0), displacement: 1.0 };
        assert_eq!(Certificate::at(&large, &[0.0, 0.0], value, &gradient).gap(), 26.0);
    }

    #[test]
    fn another_point_only_ever_raises_the_bound() {
        let ball = Comparison { radius: Some(2.0), displacement: 1.0 };
        let (value, gradient) = bowl([0.0, 0.0]);
        let mut certificate = Certificate::at(&ball, &[0.0, 0.0], value, &gradient);
        let (best_value, best_gradient) = bowl([1.2, 1.6]);
        certificate.raise(&ball, &[1.2, 1.6], best_value, &best_gradient);
        assert!((certificate.gap() - 16.0).abs() < 1e-12, "the value is 26, the minimum over the ball 10");
        let before = certificate;
        certificate.raise(&ball, &[0.0, 0.0], value, &gradient);
        assert_eq!(certificate, before);
    }

    #[test]
    fn a_ball_that_is_a_point_proves_nothing_without_a_constraint() {
        let point = Comparison { radius: None, displacement: 0.0 };
        let (value, gradient) = bowl([0.0, 0.0]);
        assert_eq!(Certificate::at(&point, &[0.0, 0.0], value, &gradient).gap(), value);
        assert_eq!(Certificate::at(&point, &[0.0, 0.0], value, &[0.0, 0.0]).gap(), 0.0, "a vanishing gradient does");
        // As a comparator a point is a set like any other.
        let ball = Comparison { radius: Some(0.0), displacement: 0.0 };
        assert_eq!(Certificate::at(&ball, &[0.0, 0.0], value, &gradient).gap(), 0.0);
    }

    #[test]
    fn the_radius_cap_bounds_searches_without_a_minimizer_only() {
        let free = Comparison { radius: None, displacement: 2.0 };
        let ball = Comparison { radius: Some(4.0), displacement: 2.0 };
        assert_eq!((free.search_radius(true), free.search_radius(false)), (None, Some(2000.0)));
        assert_eq!((ball.search_radius(true), ball.search_radius(false)), (Some(4.0), Some(4.0)));
        assert!(free.is_at_cap(&[1999.0]) && !free.is_at_cap(&[1900.0]) && !ball.is_at_cap(&[1999.0]));
    }

    #[test]
    fn only_rounding_is_taken_from_a_negative_value() {
        assert_eq!(of_a_loss(3.0, 5.0, 10.0), (3.0, 3.0));
        assert_eq!(of_a_loss(3.0, 1.0, 10.0), (3.0, 1.0));
        assert_eq!(of_a_loss(-1e-6, 1.0, 10.0), (0.0, 0.0));
        assert_eq!(of_a_loss(-1e-3, 1.0, 10.0), (-1e-3, 0.0), "an error of a solver stays visible");
    }
}
