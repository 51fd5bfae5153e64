//! Certified minimization of a large convex objective whose losses are of outputs that are linear in the displacement.
//!
//! The tangents `J b` of all directions of a basis are kept, so the objective itself, with its curvature wherever it is needed, is known in the span
//! of the basis: it is minimized there by Newton's method on a few variables. The residual at the minimizer, preconditioned and as it is, extends
//! the basis. Nothing that was learnt of one point is lost when the curvature changes, as the products of a model at a base point are
//! (subspace optimization: Conn, Gould, Sartenaer and Toint, "On iterated-subspace minimization methods for nonlinear optimization", 1996;
//! `docs/theory.md`, section 4).

use super::{
    hessian::Hessian,
    line_search::{Armijo, backtrack},
    long_vectors::{dots, rough_inner_products},
    quadratic::Quadratic,
    search::Search,
    span::Span,
};
use crate::{
    kernels::Symmetric,
    num::{convert, dot, norm},
    taylor::{
        Expansion,
        certificate::{Certificate, Comparison, Optimum, StopReason},
        objective::ByOutputs,
    },
};

/// An estimate of the gap, in single precision, is followed to this part of the tolerance before it is looked at exactly.
const TARGET: f64 = 0.7;
/// In the span, the objective is minimized to this part of the gap that is left outside of it.
const INSIDE: f64 = 0.05;
/// ... and not further than this part of the tolerance.
const LEAST: f64 = 0.1;
/// Newton steps in the span before it grows.
const STEPS: usize = 4;
/// Newton steps in the span if nothing else is left to do.
const LAST_STEPS: usize = 40;
/// The curvature in the span is computed anew if a step leaves more than this share of the gap there.
const STALE: f64 = 0.25;
/// A Newton step in the span is solved to this part of the gap there.
const STEP_TARGET: f64 = 0.1;
/// Steps shorter than this part of Newton's are not tried: rounding hides the descent.
const SHORTEST: f64 = 1e-8;
/// A direction costs a pass forward, a residual one backward: half a product each.
const PASSES: usize = 2;
/// At the radius cap, a search goes on as long as each further direction leaves at most this share of the value.
const FLAT: f64 = 0.9;
/// Exact looks in vain at which the search ends.
const LOOKS: usize = 3;
/// A look is in vain if it finds more than this share of the last one's gap.
const IN_VAIN: f64 = 0.9;

impl Search<'_> {
    /// Searches for the optimum. `span` may hold the basis of earlier searches of the same objective over these or fewer rounds.
    pub fn run_by_outputs(&self, objective: &dyn ByOutputs, span: &mut Span) -> Optimum {
        let mut descent = Descent::begin(self, objective, span);
        while descent.stop.is_none() {
            let spent = descent.products() >= self.max_products || self.is_halted();
            descent.minimize_inside(spent || descent.is_stuck);
            let residual = descent.look_outside();
            if spent || descent.is_stuck || descent.is_near() || descent.is_flat_at_infinity() {
                descent.certify(spent);
            }
            if descent.stop.is_none() {
                descent.grow(residual);
            }
        }
        descent.finish()
    }
}

/// How far a search has come.
struct Descent<'a> {
    search: &'a Search<'a>,
    objective: &'a dyn ByOutputs,
    span: &'a mut Span,
    /// The ball that is searched.
    radius: f64,
    /// `F(W^1)` and the outputs there.
    start: f64,
    center: Vec<f64>,
    /// Coordinates of the current point, its outputs, value and cotangents.
    h: Vec<f64>,
    outputs: Vec<f64>,
    value: f64,
    cotangents: Vec<f64>,
    /// The gradient in coordinates.
    slope: Vec<f64>,
    /// The last multiplier of the ball's constraint.
    multiplier: f64,
    curvature: Curvature,
    /// The value before the span grew last.
    before: f64,
    /// The last estimate of the gap in all of space.
    outside: f64,
    passes: usize,
    certificate: Certificate,
    /// Exact looks that were in vain.
    vain: usize,
    is_stuck: bool,
    stop: Option<StopReason>,
}

/// The curvature in the span at some earlier outputs.
struct Curvature {
    /// The softmax of these outputs.
    softmax: Vec<f32>,
    /// Lower triangle, rows of growing length.
    rows: Vec<Vec<f64>>,
}

impl Curvature {
    fn matrix(&self) -> Hessian {
        Hessian::for_few_multipliers(Symmetric::from_fn(self.rows.len(), |i, j| self.rows[j][i]))
    }

    /// Computes all of it at the outputs `at`.
    fn renew(&mut self, objective: &dyn ByOutputs, span: &Span, at: &[f64]) {
        self.softmax = objective.loss().softmax(objective.rounds(), at);
        let products = objective.loss().hessian_products(objective.rounds(), &self.softmax, span.tangents());
        self.rows = rough_inner_products(span.tangents(), &products);
    }

    /// Takes in the vectors of the span that are new.
    fn extend(&mut self, objective: &dyn ByOutputs, span: &Span) {
        let from = self.rows.len();
        let products = objective.loss().hessian_products(objective.rounds(), &self.softmax, &span.tangents()[from..]);
        for (at, product) in (from..).zip(products) {
            self.rows.push(dots(&span.tangents()[..=at], &convert::<f32, f64>(&product)));
        }
    }
}

impl<'a> Descent<'a> {
    fn begin(search: &'a Search, objective: &'a dyn ByOutputs, span: &'a mut Span) -> Self {
        let zero = vec![0.0; objective.dimension()];
        let Expansion { value: start, gradient, outputs: center } = objective.expand(&zero);
        let certificate = Certificate::at(&search.comparison, &zero, start, &gradient);
        let radius = search.comparison.search_radius(false).expect("such losses need not have a minimizer");
        let mut descent = Self {
            search,
            objective,
            radius,
            start,
            h: Vec::new(),
            outputs: center.clone(),
            value: start,
            cotangents: Vec::new(),
            slope: Vec::new(),
            multiplier: 0.0,
            curvature: Curvature { softmax: Vec::new(), rows: Vec::new() },
            before: f64::INFINITY,
            outside: certificate.gap(),
            passes: 0,
            certificate,
            vain: 0,
            is_stuck: false,
            stop: None,
            center,
            span,
        };
        if descent.certificate.gap() <= search.tolerance {
            descent.stop = Some(StopReason::Converged);
        } else if radius == 0.0 {
            // The cap of a unit that has not moved.
            descent.stop = Some(StopReason::AtInfinity);
        } else {
            descent.start_span(gradient);
        }
        descent
    }

    /// Brings the span to the rounds of the objective, with first directions, and begins at the better of `W^1` and the last point.
    fn start_span(&mut self, gradient: Vec<f64>) {
        let displacements = match self.span.advance(self.objective) {
            Some(from) => self.objective.displacements(from),
            None => Vec::new(),
        };
        let preconditioned = self.objective.precondition(0.0, &gradient).vector;
        let first = if self.span.len() == 0 { vec![preconditioned, gradient] } else { Vec::new() };
        if self.span.is_full_with(displacements.len() + first.len()) {
            self.span.reduce();
        }
        let new = self.span.extend(self.objective, displacements.into_iter().chain(first));
        self.spend_on(new);
        let mut h = self.span.last_point();
        clip(&mut h, self.radius);
        self.go_to(vec![0.0; h.len()]);
        let (value, _) = self.evaluated(&h);
        if value < self.value {
            self.go_to(h);
        }
        self.curvature.renew(self.objective, self.span, &self.outputs);
    }

    fn spend_on(&mut self, passes: usize) {
        let before = self.products();
        self.passes += passes;
        (self.search.tick)(self.products() - before);
    }

    fn products(&self) -> usize {
        self.passes / PASSES
    }

    /// Value and outputs at coordinates.
    fn evaluated(&self, h: &[f64]) -> (f64, Vec<f64>) {
        let mut outputs = self.span.outputs(h, self.center.len());
        outputs.iter_mut().zip(&self.center).for_each(|(z, f)| *z += f);
        let (value, _) = self.objective.loss().value_gradient(self.objective.rounds(), &outputs);
        (value, outputs)
    }

    fn go_to(&mut self, h: Vec<f64>) {
        (_, self.outputs) = self.evaluated(&h);
        self.h = h;
        self.look();
    }

    /// Computes value and cotangents of the outputs.
    fn look(&mut self) {
        let (value, cotangents) = self.objective.loss().value_gradient(self.objective.rounds(), &self.outputs);
        (self.value, self.cotangents) = (value, cotangents);
        self.slope = self.span.slope(0, &self.cotangents);
    }

    /// `B h`, in the ball whatever rounding did to the basis.
    fn point(&self) -> Vec<f64> {
        let mut u = self.span.point(&self.h, self.objective.dimension());
        clip(&mut u, self.radius);
        u
    }

    /// The radius that certificates speak of.
    fn reach(&self) -> f64 {
        self.search.comparison.certified_radius(norm(&self.h))
    }

    /// Takes Newton steps in the span until the gap there is small beside that outside; or, for the last time, beside the tolerance.
    fn minimize_inside(&mut self, is_last: bool) {
        let (steps, outside) = if is_last { (LAST_STEPS, 0.0) } else { (STEPS, self.outside) };
        let target = (INSIDE * outside).max(LEAST * self.search.tolerance);
        let mut gap = self.gap_inside();
        let mut is_fresh = false;
        for _ in 0..steps {
            if gap <= target {
                break;
            }
            let moved = self.step(STEP_TARGET * gap);
            let left = self.gap_inside();
            if !moved && is_fresh {
                break;
            }
            is_fresh = !moved || left > STALE * gap;
            if is_fresh {
                self.curvature.renew(self.objective, self.span, &self.outputs);
            }
            gap = left;
        }
        let square = dot(&self.h, &self.h);
        self.multiplier = if square > 0.0 { (-dot(&self.slope, &self.h) / square).max(0.0) } else { 0.0 };
    }

    /// Whether an exact look is worth it. Losses are not negative, so a value bounds its gap.
    fn is_near(&self) -> bool {
        self.outside.min(self.value) <= TARGET * self.search.tolerance
    }

    /// Whether there is no minimizer, and the value has all but stopped to fall where the search ends.
    fn is_flat_at_infinity(&self) -> bool {
        self.search.comparison.is_at_cap(&self.h) && self.value > FLAT * self.before
    }

    /// The gap in the span, over the ball that is certified or searched, whichever is smaller.
    fn gap_inside(&self) -> f64 {
        (self.reach().min(self.radius) * norm(&self.slope) + dot(&self.slope, &self.h)).max(0.0)
    }

    /// A Newton step in the span, as long as the value falls; whether it moved.
    fn step(&mut self, target: f64) -> bool {
        let hessian = self.curvature.matrix();
        let bent = hessian.apply(&self.h);
        let linear: Vec<f64> = self.slope.iter().zip(&bent).map(|(g, b)| g - b).collect();
        let ball = Comparison { radius: Some(self.radius), ..self.search.comparison };
        let warm = (self.multiplier > 0.0).then_some(3.0 * self.multiplier);
        let (found, _) = Quadratic { hessian: &hessian, linear: &linear, constant: 0.0 }.minimize(ball, target, warm);
        let mut next = found.displacement;
        clip(&mut next, self.radius);
        let step: Vec<f64> = next.iter().zip(&self.h).map(|(next, h)| next - h).collect();
        let along = self.span.outputs(&step, self.center.len());
        let at = |length: f64| {
            let outputs: Vec<f64> = self.outputs.iter().zip(&along).map(|(z, d)| z + length * d).collect();
            let (value, cotangents) = self.objective.loss().value_gradient(self.objective.rounds(), &outputs);
            (value, (length, outputs, cotangents))
        };
        let search = Armijo::new(self.value, dot(&self.slope, &step), SHORTEST);
        let Some((value, (length, outputs, cotangents))) = backtrack(search, at) else { return false };
        self.h.iter_mut().zip(&step).for_each(|(h, s)| *h += length * s);
        (self.outputs, self.cotangents, self.value) = (outputs, cotangents, value);
        self.slope = self.span.slope(0, &self.cotangents);
        true
    }

    /// Estimates the gap in all of space; returns the residual `F'(u) + lambda u`.
    fn look_outside(&mut self) -> Vec<f64> {
        let mut residual: Vec<f64> = convert(&self.objective.pull(&convert::<f64, f32>(&self.cotangents)));
        self.spend_on(1);
        let u = self.point();
        self.outside = (self.reach() * norm(&residual) + dot(&residual, &u)).max(0.0);
        residual.iter_mut().zip(&u).for_each(|(r, u)| *r += self.multiplier * u);
        residual
    }

    /// Looks at the point exactly, and whether the search is over.
    fn certify(&mut self, spent: bool) {
        let u = self.point();
        let Expansion { value, gradient, outputs } = self.objective.expand(&u);
        let before = self.certificate.gap();
        self.certificate = Certificate::at(&self.search.comparison, &u, value, &gradient);
        (self.outputs, self.value) = (outputs, value);
        self.look();
        if self.certificate.gap() > IN_VAIN * before {
            self.vain += 1;
        }
        self.stop = if self.certificate.gap() <= self.search.tolerance {
            Some(StopReason::Converged)
        } else if self.search.comparison.is_at_cap(&u) {
            Some(StopReason::AtInfinity)
        } else if self.search.is_halted() {
            Some(StopReason::Halted)
        } else if spent {
            Some(StopReason::Iterations)
        } else {
            (self.vain >= if self.is_stuck { 1 } else { LOOKS }).then_some(StopReason::Rounding)
        };
    }

    /// Extends the span by the residual, preconditioned and as it is.
    fn grow(&mut self, residual: Vec<f64>) {
        let preconditioned = self.objective.precondition(self.multiplier, &residual).vector;
        self.before = self.value;
        self.span.remember(&self.h);
        if self.span.is_full_with(2) {
            self.span.reduce();
            self.h = self.span.last_point();
            self.curvature.rows.clear();
            self.slope.clear();
        }
        let new = self.span.extend(self.objective, [preconditioned, residual]);
        self.spend_on(new);
        self.h.resize(self.span.len(), 0.0);
        self.slope.extend(self.span.slope(self.slope.len(), &self.cotangents));
        self.curvature.extend(self.objective, self.span);
        // Where nothing is new outside, what is left to do is inside.
        self.is_stuck = new == 0;
    }

    fn finish(self) -> Optimum {
        let stop = self.stop.unwrap_or(StopReason::Iterations);
        let u = self.point();
        self.span.remember(&self.h);
        let attained = self.search.comparison.radius.is_some()
            || stop == StopReason::Converged && !self.search.comparison.is_at_cap(&u);
        let products = self.products();
        let found = Optimum::new(&self.search.comparison, self.start, u, self.value, self.certificate.gap());
        Optimum { iterations: products, attained, stop, ..found }
    }
}

/// Scales a vector back into the ball.
fn clip(v: &mut [f64], radius: f64) {
    let length = norm(v);
    if length > radius {
        v.iter_mut().for_each(|v| *v *= radius / length);
    }
}

#[cfg(test)]
mod tests;
