//! Certified minimization of a large convex objective.
//!
//! At each base point the objective is modelled by its gradient and its curvature there, and the `Model` is solved in a subspace. For a
//! quadratic loss the model is the objective itself, up to the rounding of products in single precision, so a second base corrects that
//! rounding; one basis serves both comparators and all prefixes: when the prefix grows, only the new rounds are added to its products.
//! For another loss this is Newton's method, with a line search that never increases the objective (`docs/theory.md`, section 4).
//!
//! **Certificate.** For any `w`, convexity gives `min_ball F >= F(w) - <F'(w), w> - radius |F'(w)|`; the Frank-Wolfe gap is this bound
//! at the minimizer `u` itself. The model gives `u` and a better `w`; both are evaluated exactly before anything is reported.

use super::{
    basis::Subspace,
    line_search::{Armijo, backtrack},
    search::Search,
    subspace::{Model, ModelPoints},
};
use crate::{
    num::{dot, norm},
    taylor::{
        certificate::{Certificate, Optimum, StopReason},
        objective::Objective,
    },
};

/// Base points (Newton steps, or corrections of rounding) at most.
const MAX_BASES: usize = 40;
/// The model of a quadratic is solved to this part of the tolerance, as the exact gap is a little larger than the model's.
const QUADRATIC_TARGET: f64 = 0.7;
/// Each further model of a quadratic is solved to this part of the last one's target.
const SHARPER: f64 = 0.5;
/// A Newton step is solved to this part of the gap: more would be lost to the change of the curvature.
const NEWTON_TARGET: f64 = 0.05;
/// A Newton step is solved to this part of the tolerance at most.
const LAST_TARGET: f64 = 0.3;
/// A step shorter than this part of the model's is not tried: rounding hides the descent.
const SHORTEST: f64 = 1e-8;
/// A step is in vain if it leaves more than this share of the gap ...
const STALLED_GAP: f64 = 0.9;
/// ... and lowers the value by less than this part of the tolerance.
const STALLED_VALUE: f64 = 1e-3;
/// The first bases may be in vain: what is learnt with them still helps.
const FIRST_BASES: usize = 2;

impl Search<'_> {
    /// Searches for the optimum, from the displacement `start` (used only if the objective is not quadratic).
    ///
    /// `subspace` may hold a basis of an earlier search of the same objective over these or fewer rounds.
    pub fn run(&self, objective: &mut dyn Objective, start: &[f64], subspace: &mut Subspace) -> Optimum {
        let mut descent = Descent::begin(self, objective, start);
        for base in 0..MAX_BASES {
            if descent.stop().is_some() {
                break;
            }
            descent.prepare(objective, subspace);
            let model = descent.model(objective);
            let mut products = descent.products;
            let points = model.solve(subspace, &mut products);
            descent.products = products;
            let before = (descent.certificate.gap(), descent.at.value);
            let moved = descent.step(objective, points);
            descent.target *= SHARPER;
            if !moved || base >= FIRST_BASES && descent.has_stalled_since(before) {
                descent.stuck = true;
            }
        }
        descent.finish()
    }
}

/// A point with the value and the gradient there.
struct Evaluated {
    point: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

impl Evaluated {
    fn new(objective: &dyn Objective, point: Vec<f64>) -> Self {
        let (value, gradient) = objective.evaluate(&point);
        Self { point, value, gradient }
    }
}

/// How far a search has come.
struct Descent<'a> {
    search: &'a Search<'a>,
    is_quadratic: bool,
    /// The ball that is searched, if any.
    radius: Option<f64>,
    /// `F(W^1)`.
    start: f64,
    at: Evaluated,
    certificate: Certificate,
    /// The gap that the next model is solved to.
    target: f64,
    products: usize,
    /// Whether rounding allowed the last step no progress.
    stuck: bool,
}

impl<'a> Descent<'a> {
    fn begin(search: &'a Search, objective: &dyn Objective, start: &[f64]) -> Self {
        let is_quadratic = objective.is_quadratic();
        let radius = search.comparison.search_radius(is_quadratic);
        let center = Evaluated::new(objective, vec![0.0; start.len()]);
        let center_value = center.value;
        let mut at = center;
        if !is_quadratic {
            // The last prefix's optimum, unless it is useless for this one (far away, where the softmax saturates).
            let warm = Evaluated::new(objective, clipped(start.to_vec(), radius));
            if warm.value < at.value {
                at = warm;
            }
        }
        let certificate = Certificate::at(&search.comparison, &at.point, at.value, &at.gradient);
        let target = QUADRATIC_TARGET * search.tolerance;
        Self { search, is_quadratic, radius, start: center_value, at, certificate, target, products: 0, stuck: false }
    }

    /// Why to end here, if there is a reason.
    fn stop(&self) -> Option<StopReason> {
        if self.certificate.gap() <= self.search.tolerance {
            Some(StopReason::Converged)
        } else if self.is_at_infinity() {
            Some(StopReason::AtInfinity)
        } else if self.stuck {
            Some(StopReason::Rounding)
        } else if self.search.is_halted() {
            Some(StopReason::Halted)
        } else {
            (self.products >= self.search.max_products || self.radius == Some(0.0)).then_some(StopReason::Iterations)
        }
    }

    /// A search that has come to the radius cap has no minimizer.
    fn is_at_infinity(&self) -> bool {
        !self.is_quadratic && self.search.comparison.is_at_cap(&self.at.point)
    }

    /// Makes the objective's curvature and the subspace those of the current point.
    fn prepare(&mut self, objective: &mut dyn Objective, subspace: &mut Subspace) {
        if self.is_quadratic {
            subspace.reduce();
            subspace.advance(objective);
            if let Some(from) = subspace.new_displacement(objective.rounds())
                && let Some(displacement) = objective.mean_displacement(from)
            {
                self.products += usize::from(subspace.extend(objective, displacement.into()));
            }
        } else {
            objective.linearize(&self.at.point);
            subspace.restart(objective.rounds());
            self.target = (NEWTON_TARGET * self.certificate.gap()).max(LAST_TARGET * self.search.tolerance);
        }
    }

    fn model<'b>(&'b self, objective: &'b dyn Objective) -> Model<'b> {
        let Self { search, radius, at, target, .. } = self;
        let Evaluated { point, value, gradient } = at;
        Model { objective, search, radius: *radius, base: point, value: *value, gradient, target: *target }
    }

    /// Goes to the model's minimizer, or as far towards it as the value falls, and certifies the point; whether it moved.
    fn step(&mut self, objective: &dyn Objective, points: ModelPoints) -> bool {
        let ModelPoints { primal, dual } = points;
        let next = clipped(primal, self.radius);
        let Evaluated { point: from, value, gradient } = &self.at;
        let step: Vec<f64> = next.iter().zip(from).map(|(v, u)| v - u).collect();
        let along = |length: f64| -> Vec<f64> { from.iter().zip(&step).map(|(u, s)| u + length * s).collect() };
        let (mut at_next, mut at_dual) = self.evaluate_both(objective, along(1.0), dual.as_deref());
        // A descent direction of a convex function inside a convex set, so some length decreases F.
        let search = Armijo::new(*value, dot(gradient, &step), SHORTEST);
        let accepted = backtrack(search, |length| {
            let at = at_next.take().unwrap_or_else(|| Evaluated::new(objective, along(length)));
            (at.value, at)
        });
        let comparison = &self.search.comparison;
        let moved = accepted.is_some();
        if let Some((_, at)) = accepted {
            self.certificate = Certificate::at(comparison, &at.point, at.value, &at.gradient);
            self.at = at;
        }
        if let Some(w) = dual.filter(|_| self.certificate.gap() > self.search.tolerance) {
            let Evaluated { point, value, gradient } = at_dual.take().unwrap_or_else(|| Evaluated::new(objective, w));
            self.certificate.raise(comparison, &point, value, &gradient);
        }
        moved
    }

    /// Both points of a model in one go, where a quadratic makes it all but certain that both are needed.
    fn evaluate_both(
        &self,
        objective: &dyn Objective,
        next: Vec<f64>,
        dual: Option<&[f64]>,
    ) -> (Option<Evaluated>, Option<Evaluated>) {
        let Some(w) = dual.filter(|_| self.is_quadratic) else { return (None, None) };
        let [at_next, at_dual] = objective.evaluate_both([&next, w]);
        let evaluated = |point, (value, gradient)| Some(Evaluated { point, value, gradient });
        (evaluated(next, at_next), evaluated(w.to_vec(), at_dual))
    }

    /// Whether the last step was in vain, given the gap and the value before.
    fn has_stalled_since(&self, (gap, value): (f64, f64)) -> bool {
        self.certificate.gap() > STALLED_GAP * gap && value - self.at.value < STALLED_VALUE * self.search.tolerance
    }

    fn finish(self) -> Optimum {
        let stop = self.stop().unwrap_or(StopReason::Iterations);
        let gap = self.certificate.gap();
        let attained = self.search.comparison.radius.is_some()
            || self.is_quadratic
            || stop == StopReason::Converged && !self.is_at_infinity();
        let Evaluated { point, value, .. } = self.at;
        let found = Optimum::new(&self.search.comparison, self.start, point, value, gap);
        Optimum { iterations: self.products, attained, stop, ..found }
    }
}

/// `u`, scaled back into the ball.
fn clipped(mut u: Vec<f64>, radius: Option<f64>) -> Vec<f64> {
    if let Some(radius) = radius {
        let length = norm(&u);
        if length > radius {
            u.iter_mut().for_each(|v| *v *= radius / length);
        }
    }
    u
}
