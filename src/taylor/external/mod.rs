//! Taylor optima of models that the engine does not know: the Taylor losses and their products come from elsewhere, by automatic differentiation
//! on an accelerator, say. Value, gradient and products with the curvature are all that the certified search needs
//! (`docs/theory.md`, section 4, "Any differentiable model").
//!
//! What comes from elsewhere may fail, and may be wrong. A failure ends the search and is handed back as it is; numbers that no convex loss
//! has are errors too ([`ExternalError`]).

use super::{
    certificate::{Comparison, Optimum},
    objective::{Direction, Objective, PrefixCursor, PrefixObjective},
    prefixes::{Effort, optima, work},
    result::{UnitResult, unit_results},
    settings::{ClosedForm, RegretSettings},
    solve::{Hessian, Quadratic, Search, basis::Subspace},
    tracker::UnitRecord,
    unit::{Comparator, UnitId},
};
use crate::{
    kernels::Symmetric,
    num::{convert, dot, norm},
};
use std::{
    error::Error,
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Why numbers did not come.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Curvature along a direction may fall below zero by this share of the largest product so far: what `f32` leaves of it.
const CURVED: f64 = 1e-3;
/// A mean of losses may fall below zero by this share of the mean loss of training.
const NEGATIVE: f64 = 1e-9;

/// Numbers from elsewhere that no mean of convex losses has.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ExternalError {
    #[error("{what} has {found} numbers instead of {expected}")]
    Length { what: &'static str, found: usize, expected: usize },
    #[error("{what} is not finite; look for a division by zero or an overflow in the model or the loss")]
    NotFinite { what: &'static str },
    #[error(
        "the curvature along a direction is {found:.3e}, but that of a convex loss is not negative; is the loss convex in the outputs of the \
         model, and is the product the one with its curvature?"
    )]
    NotConvex { found: f64 },
    #[error(
        "the mean of the losses is {found:.3e} at some point, but losses must not be negative; add a constant to the loss"
    )]
    Negative { found: f64 },
}

/// A mean of Taylor losses that is a quadratic with few variables, `F(u) = constant + c'u + u'Hu / 2`.
#[derive(Clone, Debug, PartialEq)]
pub struct DenseQuadratic {
    pub constant: f64,
    /// `c: [dimension]`.
    pub linear: Vec<f64>,
    /// `H: [dimension, dimension]`; only what lies on and right of the diagonal is read.
    pub hessian: Vec<f64>,
}

/// The Taylor losses of a unit over the analysed rounds, as functions of the displacement `u = V - W^1`.
///
/// Rounds are counted from 0 among those that are analysed.
pub trait Products: Sync {
    /// Weights of the unit.
    fn dimension(&self) -> usize;

    /// Whether the losses are quadratic, so that their curvature is the same everywhere.
    fn is_quadratic(&self) -> bool;

    /// The mean `F` of the first `rounds` Taylor losses at `u`, and its gradient, to full precision.
    ///
    /// # Errors
    /// Whatever kept them from being computed.
    fn evaluate(&self, rounds: usize, u: &[f64]) -> Result<(f64, Vec<f64>), Failure>;

    /// Makes the curvature at `u` the one of the products. Not called for quadratic losses.
    ///
    /// # Errors
    /// As [`Products::evaluate`].
    fn linearize(&self, rounds: usize, u: &[f64]) -> Result<(), Failure>;

    /// The generalized Gauss-Newton matrix times each direction: the sum over `rounds`, divided by the end of that range.
    ///
    /// # Errors
    /// As [`Products::evaluate`].
    fn ggn_products(&self, rounds: Range<usize>, directions: &[&[f32]]) -> Result<Vec<Vec<f32>>, Failure>;

    /// The mean of `W^n - W^1` over `rounds`, if it is known: worth searching along.
    ///
    /// # Errors
    /// As [`Products::evaluate`].
    fn mean_displacement(&self, _rounds: Range<usize>) -> Result<Option<Vec<f64>>, Failure> {
        Ok(None)
    }

    /// An approximation of `(H + multiplier I)^-1 residual`, if there is a better one than the residual itself.
    ///
    /// # Errors
    /// As [`Products::evaluate`].
    fn precondition(&self, _multiplier: f64, _residual: &[f64]) -> Result<Option<Vec<f64>>, Failure> {
        Ok(None)
    }

    /// The means over the first rounds of each prefix as dense quadratics, where they are that and have few variables.
    ///
    /// # Errors
    /// As [`Products::evaluate`].
    fn quadratics(&self, _prefixes: &[usize]) -> Result<Option<Vec<DenseQuadratic>>, Failure> {
        Ok(None)
    }
}

/// The first failure of a search; ends the search when it comes.
struct Guard<'a> {
    failure: Mutex<Option<Failure>>,
    /// Set once there is a failure, or when somebody else asks for the end.
    stop: &'a AtomicBool,
}

impl<'a> Guard<'a> {
    fn new(stop: &'a AtomicBool) -> Self {
        Self { failure: Mutex::default(), stop }
    }

    /// What a callback gave, or nothing: then the search ends.
    fn admit<R>(&self, result: Result<R, Failure>) -> Option<R> {
        result.map_err(|failure| self.fail(failure)).ok()
    }

    fn fail(&self, failure: Failure) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Whether numbers are still worth asking for.
    fn is_open(&self) -> bool {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// What was found, unless there was a failure.
    fn close<R>(self, found: R) -> Result<R, Failure> {
        self.failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(found), Err)
    }
}

/// An objective for the solvers, made of products from elsewhere. After a failure its numbers are zeros, and mean nothing.
struct External<'a> {
    products: &'a dyn Products,
    guard: &'a Guard<'a>,
    cursor: PrefixCursor,
    /// The mean loss of training, which negative values are compared with; `None` where values may be negative.
    mean_loss: Option<f64>,
    /// What is added to values.
    shift: f64,
    /// `max |H d| / |d|` so far.
    largest: Mutex<f64>,
}

impl<'a> External<'a> {
    fn new(products: &'a dyn Products, guard: &'a Guard<'a>, prefixes: &[usize], mean_loss: Option<f64>) -> Self {
        let cursor = PrefixCursor::new(prefixes, 1);
        Self { products, guard, cursor, mean_loss, shift: 0.0, largest: Mutex::new(0.0) }
    }

    fn zeros<Z: Clone + Default>(&self) -> Vec<Z> {
        vec![Z::default(); self.products.dimension()]
    }

    fn try_evaluate(&self, u: &[f64]) -> Result<(f64, Vec<f64>), Failure> {
        let (value, gradient) = self.products.evaluate(self.rounds(), u)?;
        checked("the gradient", &gradient, u.len())?;
        if !value.is_finite() {
            return Err(ExternalError::NotFinite { what: "the mean of the losses" }.into());
        }
        if self.mean_loss.is_some_and(|mean| value < -NEGATIVE * mean.abs()) {
            return Err(ExternalError::Negative { found: value }.into());
        }
        Ok((value + self.shift, gradient))
    }

    fn try_products(&self, from: usize, directions: &[&[f32]]) -> Result<Vec<Vec<f32>>, Failure> {
        let products = self.products.ggn_products(from..self.rounds(), directions)?;
        if products.len() != directions.len() {
            let (found, expected) = (products.len(), directions.len());
            return Err(ExternalError::Length { what: "the list of products", found, expected }.into());
        }
        let mut largest = self.largest.lock().unwrap_or_else(PoisonError::into_inner);
        for (direction, product) in directions.iter().zip(&products) {
            checked("a product", product, direction.len())?;
            let (direction, product): (Vec<f64>, Vec<f64>) = (convert(direction), convert(product));
            let (length, curvature) = (norm(&direction), dot(&direction, &product));
            *largest = largest.max(norm(&product) / length.max(f64::MIN_POSITIVE));
            if curvature < -CURVED * *largest * length * length {
                return Err(ExternalError::NotConvex { found: curvature / (length * length) }.into());
            }
        }
        Ok(products)
    }
}

/// Fails unless there are so many numbers, all of them finite.
fn checked<N: Copy + Into<f64>>(what: &'static str, numbers: &[N], expected: usize) -> Result<(), ExternalError> {
    if numbers.len() != expected {
        return Err(ExternalError::Length { what, found: numbers.len(), expected });
    }
    let finite = numbers.iter().all(|number| (*number).into().is_finite());
    if finite { Ok(()) } else { Err(ExternalError::NotFinite { what }) }
}

impl PrefixObjective for External<'_> {
    fn cursor(&mut self) -> &mut PrefixCursor {
        &mut self.cursor
    }
}

impl Objective for External<'_> {
    fn dimension(&self) -> usize {
        self.products.dimension()
    }

    fn is_quadratic(&self) -> bool {
        self.products.is_quadratic()
    }

    fn rounds(&self) -> usize {
        self.cursor.rounds()
    }

    fn evaluate(&self, u: &[f64]) -> (f64, Vec<f64>) {
        let found = self.guard.is_open().then(|| self.guard.admit(self.try_evaluate(u)));
        found.flatten().unwrap_or_else(|| (0.0, self.zeros()))
    }

    fn mean_displacement(&self, from: usize) -> Option<Vec<f64>> {
        let mean = || {
            let mean = self.products.mean_displacement(from..self.rounds())?;
            if let Some(mean) = &mean {
                checked("the mean displacement", mean, self.dimension())?;
            }
            Ok(mean)
        };
        self.guard.is_open().then(|| self.guard.admit(mean())).flatten().flatten()
    }

    fn linearize(&mut self, u: &[f64]) {
        if !self.is_quadratic() && self.guard.is_open() {
            self.guard.admit(self.products.linearize(self.cursor.rounds(), u));
            *self.largest.get_mut().unwrap_or_else(PoisonError::into_inner) = 0.0;
        }
    }

    fn ggn_products(&self, from: usize, directions: &[&[f32]]) -> Vec<Vec<f32>> {
        let found = self.guard.is_open().then(|| self.guard.admit(self.try_products(from, directions)));
        found.flatten().unwrap_or_else(|| vec![self.zeros(); directions.len()])
    }

    fn precondition(&self, multiplier: f64, residual: &[f64]) -> Direction {
        let solve = || {
            let direction = self.products.precondition(multiplier, residual)?;
            if let Some(direction) = &direction {
                checked("the preconditioned residual", direction, residual.len())?;
            }
            Ok(direction)
        };
        let found = self.guard.is_open().then(|| self.guard.admit(solve())).flatten().flatten();
        found.unwrap_or_else(|| residual.to_vec()).into()
    }
}

/// The optima of a unit for all prefixes, each a number of analysed rounds, by products from elsewhere. `record` tells what a prefix says of the
/// unit.
///
/// A search that `effort.stop` ends gives what it had found. A failure sets it.
///
/// # Errors
/// The first failure of the products, or an [`ExternalError`].
pub fn unit_optima(
    unit: UnitId,
    products: &dyn Products,
    prefixes: &[usize],
    settings: &RegretSettings,
    effort: Effort,
    record: &dyn Fn(usize) -> UnitRecord,
) -> Result<Vec<UnitResult>, Failure> {
    let dimension = products.dimension();
    let found = match products.quadratics(prefixes)? {
        Some(quadratics) => {
            let problems = checked_quadratics(quadratics, prefixes, dimension)?;
            dense_optima(&problems, prefixes, settings, effort, record)
        }
        None => {
            let guard = Guard::new(effort.stop);
            let mean_loss = prefixes.last().map(|rounds| record(*rounds).mean_loss);
            let mut objective = External::new(products, &guard, prefixes, mean_loss);
            let found = optima(&mut objective, prefixes, (settings, ClosedForm::No), effort, record);
            guard.close(found)?
        }
    };
    Ok(unit_results(unit, dimension, found, record))
}

/// Quadratics of the right sizes with finite numbers.
fn checked_quadratics(
    quadratics: Vec<DenseQuadratic>,
    prefixes: &[usize],
    dimension: usize,
) -> Result<Vec<DenseQuadratic>, ExternalError> {
    if quadratics.len() != prefixes.len() {
        let (found, expected) = (quadratics.len(), prefixes.len());
        return Err(ExternalError::Length { what: "the list of quadratics", found, expected });
    }
    for quadratic in &quadratics {
        checked("the constant of a quadratic", &[quadratic.constant], 1)?;
        checked("the linear term of a quadratic", &quadratic.linear, dimension)?;
        checked("the matrix of a quadratic", &quadratic.hessian, dimension * dimension)?;
    }
    Ok(quadratics)
}

/// The optima of dense quadratics, in closed form.
fn dense_optima(
    quadratics: &[DenseQuadratic],
    prefixes: &[usize],
    settings: &RegretSettings,
    effort: Effort,
    record: &dyn Fn(usize) -> UnitRecord,
) -> Vec<(Comparator, usize, Optimum)> {
    let mut found = Vec::new();
    for (quadratic, rounds) in quadratics.iter().zip(prefixes) {
        if effort.stop.load(Ordering::Relaxed) {
            break;
        }
        let DenseQuadratic { constant, linear, hessian } = quadratic;
        let width = linear.len();
        let matrix = Hessian::new(Symmetric::from_fn(width, |i, j| hessian[i * width + j]));
        let problem = Quadratic { hessian: &matrix, linear, constant: *constant };
        let record = record(*rounds);
        for comparator in settings.comparators.of(ClosedForm::Yes) {
            let comparison = settings.comparison(comparator, record.displacement);
            let (optimum, _) = problem.minimize(comparison, effort.tolerance * record.mean_loss, None);
            found.push((comparator, *rounds, optimum));
        }
    }
    (effort.tick)(work(prefixes, effort.max_products, settings.comparators.of(ClosedForm::No).len()));
    found
}

/// What a minimization is asked for.
#[derive(Clone, Copy)]
pub struct Minimization<'a> {
    /// Radius of the ball around the origin that is searched.
    pub radius: f64,
    /// Absolute gap to reach.
    pub tolerance: f64,
    /// Products with the curvature at most.
    pub max_products: usize,
    /// Where to begin, unless the function is quadratic.
    pub start: &'a [f64],
    /// Ends the search early once it is set; set by a failure.
    pub stop: &'a AtomicBool,
}

/// The certified minimum of a convex function over a ball, by products from elsewhere; its values may be negative.
///
/// Certificates of losses know that these are not negative. Here the function is raised by `max(0, r |F'(0)| - F(0))`, which makes it so all over the
/// ball, as `F(u) >= F(0) - r |F'(0)|` by convexity; what is found is lowered again.
///
/// # Errors
/// As [`unit_optima`].
pub fn minimize(products: &dyn Products, asked: Minimization) -> Result<Optimum, Failure> {
    let Minimization { radius, tolerance, max_products, start, stop } = asked;
    let guard = Guard::new(stop);
    let mut objective = External::new(products, &guard, &[1], None);
    let (value, gradient) = objective.evaluate(&vec![0.0; products.dimension()]);
    objective.shift = (radius * norm(&gradient) - value).max(0.0);
    let shift = objective.shift;
    let search = Search {
        comparison: Comparison { radius: Some(radius), displacement: radius },
        tolerance,
        max_products,
        stop,
        tick: &|_| (),
    };
    let mut subspace = Subspace::new(2 * max_products.min(products.dimension()) + 2);
    let found = search.run(&mut objective, start, &mut subspace);
    let found = guard.close(found)?;
    Ok(Optimum { value: found.value - shift, start: found.start - shift, ..found })
}

#[cfg(test)]
mod tests;
