//! The minimizer of a quadratic model of a large objective, by a subspace that grows along preconditioned residuals.
//!
//! The objective is modelled by its gradient at a base point and its curvature there. Inside the span of a basis the
//! model is a small dense quadratic, solved exactly for either comparator ([`Quadratic`]); its residual in the full
//! space, preconditioned and as it is in turn, extends the basis (a generalized Davidson iteration; Hager, "Minimizing a quadratic over a sphere",
//! 2001, for the ball; `docs/theory.md`, section 4).

use super::{basis::Subspace, dual::Residuals, hessian::Hessian, quadratic::Quadratic, search::Search};
use crate::{
    num::dot,
    taylor::{
        certificate::{Comparison, Optimum},
        objective::{Direction, Objective},
    },
};

/// A dual point is sought after this many new basis vectors.
const DUAL_EVERY: usize = 4;
/// The small problem in the subspace is solved to this part of the model's target.
const SMALL_TARGET: f64 = 0.3;
/// The multiplier falls as the subspace grows: from this multiple of the last, few are tried, and none is too small.
const WARM: f64 = 3.0;

/// Every so many directions, the residual is taken as it is instead of preconditioned. The preconditioner is an estimate: its directions lead far at
/// first, but those of a Krylov space, which wins in the end, are missing among them. The two in turn cost half as much as either for small gaps.
const PLAIN_EVERY: usize = 2;

/// The quadratic model of an objective at a base point.
pub(super) struct Model<'a> {
    pub objective: &'a dyn Objective,
    pub search: &'a Search<'a>,
    /// The ball that is searched, if any.
    pub radius: Option<f64>,
    pub base: &'a [f64],
    pub value: f64,
    pub gradient: &'a [f64],
    /// The gap of the model to reach.
    pub target: f64,
}

/// What a model was solved for.
pub(super) struct ModelPoints {
    /// Its minimizer.
    pub primal: Vec<f64>,
    /// The point of its best lower bound, if that is a bound worth knowing: losses are not negative anyway.
    pub dual: Option<Vec<f64>>,
}

impl Model<'_> {
    /// Grows the subspace until the model's gap is at most the target, or the budget of `products` is spent.
    pub fn solve(&self, subspace: &mut Subspace, products: &mut usize) -> ModelPoints {
        self.begin(subspace, products);
        let mut reduced = Reduced::new(self, subspace);
        let (mut warm, mut dual, mut step) = (None, None, 0);
        loop {
            let k = subspace.len();
            if k == 0 {
                return ModelPoints { primal: self.base.to_vec(), dual: None };
            }
            let hessian = subspace.hessian();
            let (small, multiplier) = reduced.minimize(self, &hessian, warm);
            warm = Some(WARM * multiplier);
            let done = *products >= self.search.max_products || subspace.is_full() || self.search.is_halted();
            if done || step % DUAL_EVERY == 0 {
                let (lower, point) = reduced.lower_bound(self, (subspace, &hessian), (&small, multiplier));
                dual = point;
                if done || small.value - lower <= self.target {
                    subspace.remember(&small.displacement);
                    dual.iter().for_each(|w| subspace.remember(w));
                    return self.points(subspace, &small.displacement, dual);
                }
            }
            let residual = reduced.residual(subspace, &small.displacement, multiplier);
            if !self.grow_along(residual, multiplier, subspace, products) {
                return self.points(subspace, &small.displacement, dual);
            }
            reduced.extend(subspace, k);
            step += 1;
        }
    }

    /// Puts the base point into the subspace, and the gradient into one that is all but empty.
    fn begin(&self, subspace: &mut Subspace, products: &mut usize) {
        self.grow(self.base.to_vec().into(), subspace, products);
        if subspace.len() < 2 {
            self.grow(self.objective.precondition(0.0, self.gradient), subspace, products);
            self.grow(self.gradient.to_vec().into(), subspace, products);
        }
    }

    /// Extends the subspace by the residual, preconditioned and as it is in turn; `false` if it has both already.
    fn grow_along(&self, residual: Vec<f64>, multiplier: f64, subspace: &mut Subspace, products: &mut usize) -> bool {
        let preconditioned = |residual: &[f64]| self.objective.precondition(multiplier, residual);
        if subspace.len() >= self.objective.preconditioned_first() && subspace.len().is_multiple_of(PLAIN_EVERY) {
            self.grow(residual.clone().into(), subspace, products)
                || self.grow(preconditioned(&residual), subspace, products)
        } else {
            self.grow(preconditioned(&residual), subspace, products) || self.grow(residual.into(), subspace, products)
        }
    }

    /// Extends the subspace by a direction, at the cost of a product if it is new.
    fn grow(&self, direction: Direction, subspace: &mut Subspace, products: &mut usize) -> bool {
        let grown = subspace.extend(self.objective, direction);
        *products += usize::from(grown);
        (self.search.tick)(usize::from(grown));
        grown
    }

    /// The points with these coordinates.
    fn points(&self, subspace: &Subspace, primal: &[f64], dual: Option<Vec<f64>>) -> ModelPoints {
        let expand = |h: &[f64]| {
            let mut v = vec![0.0; self.base.len()];
            subspace.add(h, 1.0, &mut v);
            v
        };
        ModelPoints { primal: expand(primal), dual: dual.map(|w| expand(&w)) }
    }
}

/// A model in the coordinates of the subspace: its gradient at `u = B h` is `g + Y h`.
struct Reduced {
    /// `g`, the gradient of the model at the center.
    gradient: Vec<f64>,
    /// `|g|^2`.
    square: f64,
    /// The model at the center, `F(u) - <F'(u), u> + u'Hu / 2`.
    center: f64,
    /// `B'g`.
    slope: Vec<f64>,
    /// `Y'g`.
    cross: Vec<f64>,
}

impl Reduced {
    /// The subspace contains the model's base.
    fn new(model: &Model, subspace: &Subspace) -> Self {
        let mut gradient = model.gradient.to_vec();
        subspace.add_product(&subspace.coordinates(0, model.base), -1.0, &mut gradient);
        let center = model.value - 0.5 * (dot(model.gradient, model.base) + dot(&gradient, model.base));
        let mut reduced =
            Self { square: dot(&gradient, &gradient), gradient, center, slope: Vec::new(), cross: Vec::new() };
        reduced.extend(subspace, 0);
        reduced
    }

    /// Takes in the vectors of the subspace from `from` on.
    fn extend(&mut self, subspace: &Subspace, from: usize) {
        self.slope.extend(subspace.coordinates(from, &self.gradient));
        self.cross.extend(subspace.product_coordinates(from, &self.gradient));
    }

    /// The minimizer in the subspace, with its multiplier.
    fn minimize(&self, model: &Model, hessian: &Hessian, warm: Option<f64>) -> (Optimum, f64) {
        let ball = Comparison { radius: model.radius, ..model.search.comparison };
        Quadratic { hessian, linear: &self.slope, constant: 0.0 }.minimize(ball, SMALL_TARGET * model.target, warm)
    }

    /// The best lower bound on the model less its value at the center, given its minimizer; and the bound's point, if it is worth an evaluation.
    fn lower_bound(
        &self,
        model: &Model,
        (subspace, hessian): (&Subspace, &Hessian),
        (small, multiplier): (&Optimum, f64),
    ) -> (f64, Option<Vec<f64>>) {
        let residuals = Residuals { subspace, hessian, cross: &self.cross, square: self.square };
        let reach = model.search.comparison.certified_radius(small.distance);
        let length = residuals.norm(&small.displacement);
        let bound = residuals.best_bound(reach, length);
        // What the minimizer itself certifies: on the path `<F'(u), u> = -lambda |u|^2`.
        let own = reach * length - multiplier * small.distance * small.distance;
        let is_worth_it = self.center + bound.value > 0.0 && own > model.target;
        (bound.value, is_worth_it.then_some(bound.point))
    }

    /// On the path `(B'HB + lambda) h = -B'g`, so the residual of the full system has the multiplier in it.
    fn residual(&self, subspace: &Subspace, h: &[f64], multiplier: f64) -> Vec<f64> {
        let mut residual = self.gradient.clone();
        subspace.add_product(h, 1.0, &mut residual);
        subspace.add(h, multiplier, &mut residual);
        residual
    }
}
