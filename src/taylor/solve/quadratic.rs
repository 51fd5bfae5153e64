//! Minimizers of a dense convex quadratic, over all of space and over a ball, with certificates.
//!
//! `F(u) = constant + c'u + u'Hu / 2` in the displacement `u = V - W^1`. Both comparators lie on one path: the minimizer of
//! `F(u) + lambda |u|^2 / 2` is `u(lambda) = -(H + lambda I)^-1 c`. Its limit for `lambda -> 0` is the least-norm minimizer, and the
//! minimizer over the ball is the point of the path with `|u| = radius`, or that limit if it lies inside (Moré and Sorensen,
//! "Computing a trust region step", 1983). `lambda` is the Lagrange multiplier of the ball's constraint.

use super::{
    hessian::Hessian,
    path::Path,
    secular::{Bracket, is_same},
};
use crate::{
    num::{dot, norm},
    taylor::certificate::{Comparison, Optimum, StopReason, gap},
};

/// Multipliers tried at most.
const MAX_MULTIPLIERS: usize = 60;
/// What a multiplier that leaves the matrix numerically indefinite is raised by.
const RAISE: f64 = 10.0;
/// Without a constraint the search begins at this multiple of the smallest multiplier: from there it falls quickly, and no factorization fails.
const FIRST: f64 = 1e9;
/// Without a constraint, the part of the tolerance that the gap is aimed at.
const AIM: f64 = 0.5;
/// Without a constraint, each multiplier is at most this part of the last.
const FALL: f64 = 0.2;
/// A path that an approximation stands for is used up to this multiple of the multiplier at which it is exact, and down to that part.
const REACH: f64 = 4.0;
/// Lengths in single precision narrow the bracket only if they differ from the radius by this share.
const SINGLE_ERROR: f64 = 0.01;
/// If the minimizer seems to lie inside the ball, a multiplier that is not far from zero yet falls to this part at a time.
const STRIDE: f64 = 1e-3;

/// A convex quadratic: a prepared Hessian with its linear and constant term.
#[derive(Clone, Copy, Debug)]
pub struct Quadratic<'a> {
    pub hessian: &'a Hessian,
    pub linear: &'a [f64],
    pub constant: f64,
}

impl Quadratic<'_> {
    /// `F(u)` and its gradient.
    pub fn value_gradient(&self, u: &[f64]) -> (f64, Vec<f64>) {
        let mut gradient = self.hessian.apply(u);
        let value = self.constant + dot(self.linear, u) + 0.5 * dot(&gradient, u);
        gradient.iter_mut().zip(self.linear).for_each(|(g, c)| *g += c);
        (value, gradient)
    }

    /// Minimizes to an absolute gap of `tolerance`, starting the search of the multiplier at `warm`.
    ///
    /// The result carries the multiplier it ended with, to warm-start the next prefix.
    pub fn minimize(&self, comparison: Comparison, tolerance: f64, warm: Option<f64>) -> (Optimum, f64) {
        if norm(self.linear) == 0.0 || comparison.radius == Some(0.0) {
            let u = vec![0.0; self.hessian.width()];
            let gap = gap(&comparison, &u, self.linear);
            return (Optimum::new(&comparison, self.constant, u, self.constant, gap), 0.0);
        }
        let Some(radius) = comparison.radius else { return self.in_all_of_space(comparison, tolerance, warm) };
        match self.hessian.with_curvature_along(self.linear, radius) {
            None => self.in_the_ball(comparison, radius, tolerance, warm),
            Some(hessian) => {
                let curved = Quadratic { hessian: &hessian, ..*self };
                let (found, multiplier) = curved.in_the_ball(comparison, radius, tolerance, warm);
                (self.certified(&comparison, found.displacement, found.iterations, tolerance), multiplier)
            }
        }
    }

    /// A point with its certificate, found after this many `iterations`.
    fn certified(&self, comparison: &Comparison, u: Vec<f64>, iterations: usize, tolerance: f64) -> Optimum {
        let (value, gradient) = self.value_gradient(&u);
        let gap = gap(comparison, &u, &gradient);
        let stop = if gap <= tolerance { StopReason::Converged } else { StopReason::Rounding };
        Optimum { iterations, stop, ..Optimum::new(comparison, self.constant, u, value, gap) }
    }

    /// Follows the path to the least-norm minimizer until the gap is small enough or the multiplier drowns in rounding.
    fn in_all_of_space(&self, comparison: Comparison, tolerance: f64, warm: Option<f64>) -> (Optimum, f64) {
        let floor = self.hessian.floor();
        let mut multiplier = warm.unwrap_or(FIRST * floor).max(floor);
        let mut best = Best::default();
        for iterations in 1..=MAX_MULTIPLIERS {
            let Some(u) = self.hessian.point(self.linear, multiplier) else {
                if best.0.is_some() {
                    break;
                }
                multiplier *= RAISE;
                continue;
            };
            let distance = norm(&u);
            let converged = best.offer(self.certified(&comparison, u, iterations, tolerance), multiplier);
            if converged || multiplier <= floor {
                break;
            }
            // On the path the gradient is -lambda u, so the gap is lambda |u|^2, and |u| grows as lambda falls.
            let aimed = AIM * tolerance / (distance * distance).max(1e-300);
            multiplier = aimed.min(FALL * multiplier).max(floor);
        }
        best.or_the_center(self, &comparison, tolerance, multiplier)
    }

    /// Solves the secular equation: with matrices in single precision as long as that helps, then in double precision.
    fn in_the_ball(&self, comparison: Comparison, radius: f64, tolerance: f64, warm: Option<f64>) -> (Optimum, f64) {
        let mut search = BallSearch::new(self, comparison, radius, tolerance, warm);
        let least_single = if self.hessian.is_small() { f64::INFINITY } else { self.hessian.least_single() };
        if search.run(least_single) == Ended::SingleExhausted {
            search.run(f64::INFINITY);
        }
        search.best.or_the_center(self, &comparison, tolerance, search.multiplier)
    }
}

/// The point with the smallest gap so far, with its multiplier.
#[derive(Default)]
struct Best(Option<(Optimum, f64)>);

impl Best {
    /// Keeps a point if it is better than the others; whether its gap is small enough.
    fn offer(&mut self, optimum: Optimum, multiplier: f64) -> bool {
        let converged = optimum.stop == StopReason::Converged;
        if self.0.as_ref().is_none_or(|(best, _)| optimum.gap < best.gap) {
            self.0 = Some((optimum, multiplier));
        }
        converged
    }

    /// The best point; the center, if no system could be solved.
    fn or_the_center(
        self,
        quadratic: &Quadratic,
        comparison: &Comparison,
        tolerance: f64,
        multiplier: f64,
    ) -> (Optimum, f64) {
        self.0.unwrap_or_else(|| {
            let center = vec![0.0; quadratic.hessian.width()];
            (quadratic.certified(comparison, center, MAX_MULTIPLIERS, tolerance), multiplier)
        })
    }
}

/// How a [`BallSearch`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The gap is small enough, or rounding allows no smaller one.
    Done,
    /// Single precision has brought the multiplier as near as it can.
    SingleExhausted,
}

/// The search for the multiplier that puts the minimizer on the sphere, or for the minimizer inside.
struct BallSearch<'a> {
    quadratic: &'a Quadratic<'a>,
    comparison: Comparison,
    radius: f64,
    tolerance: f64,
    bracket: Bracket,
    multiplier: f64,
    tried: usize,
    best: Best,
}

impl<'a> BallSearch<'a> {
    fn new(
        quadratic: &'a Quadratic<'a>,
        comparison: Comparison,
        radius: f64,
        tolerance: f64,
        warm: Option<f64>,
    ) -> Self {
        let floor = quadratic.hessian.floor();
        // `|u| <= |c| / lambda`, so the root is at most `|c| / radius`.
        let bracket = Bracket { low: floor, high: (norm(quadratic.linear) / radius).max(2.0 * floor) };
        let multiplier = warm.unwrap_or(floor).clamp(floor, bracket.high);
        Self { quadratic, comparison, radius, tolerance, bracket, multiplier, tried: 0, best: Best::default() }
    }

    /// Factorizes, solves the secular equation as far as the factorization reaches, and factorizes anew there; in single precision for
    /// multipliers from `least_single` on.
    fn run(&mut self, least_single: f64) -> Ended {
        let hessian = self.quadratic.hessian;
        while self.tried < MAX_MULTIPLIERS {
            self.tried += 1;
            let single = self.multiplier >= least_single;
            let path = if single {
                hessian.path::<f32>(self.quadratic.linear, self.multiplier)
            } else {
                hessian.path::<f64>(self.quadratic.linear, self.multiplier)
            };
            let Some(path) = path else {
                if single {
                    return Ended::SingleExhausted;
                }
                self.raise();
                continue;
            };
            let inside = self.narrow(&path, single);
            let newton = path.secular.newton(self.radius, self.multiplier);
            let within_reach = newton > self.multiplier / REACH && newton < self.multiplier * REACH;
            let root = self.root_of(&path, within_reach);
            let converged = self.offer(&path, root);
            if converged || inside && self.multiplier <= hessian.floor() || self.bracket.is_closed() {
                return Ended::Done;
            }
            if single && within_reach {
                self.multiplier = root;
                return Ended::SingleExhausted;
            }
            let next = self.next(if root == self.multiplier { newton } else { root }, inside);
            if is_same(self.multiplier, next) {
                return Ended::Done;
            }
            self.multiplier = next;
        }
        Ended::Done
    }

    /// Goes on from a multiplier that leaves the matrix numerically indefinite.
    fn raise(&mut self) {
        self.bracket.narrow(self.multiplier, false);
        let raised = RAISE * self.multiplier;
        self.multiplier = if self.multiplier < self.bracket.high { raised.min(self.bracket.high) } else { raised };
    }

    /// Narrows the bracket by the length of the path at the current multiplier; whether that is inside the ball.
    fn narrow(&mut self, path: &Path, single: bool) -> bool {
        let length = path.secular.length(self.multiplier);
        let inside = length <= self.radius;
        if !single || (length - self.radius).abs() > SINGLE_ERROR * self.radius {
            self.bracket.narrow(self.multiplier, inside);
        }
        inside
    }

    /// The best multiplier as far as the path can be trusted.
    fn root_of(&self, path: &Path, within_reach: bool) -> f64 {
        match path.exact_at {
            None => path.secular.root(self.radius, self.bracket),
            Some(exact) if within_reach => path.secular.root(self.radius, self.bracket.around(exact, REACH)),
            Some(_) => self.multiplier,
        }
    }

    /// Certifies a point of the path, brought to the sphere; whether its gap is small enough.
    fn offer(&mut self, path: &Path, multiplier: f64) -> bool {
        let hessian = self.quadratic.hessian;
        let mut u = hessian.scatter(&path.point(multiplier));
        let length = norm(&u);
        if length > 0.0 && (multiplier > hessian.floor() || length > self.radius) {
            // The minimizer lies on the sphere (or the multiplier is still too large): compare there.
            let scale = self.radius / length;
            u.iter_mut().for_each(|v| *v *= scale);
        }
        let optimum = self.quadratic.certified(&self.comparison, u, self.tried, self.tolerance);
        self.best.offer(optimum, multiplier)
    }

    /// The multiplier to factorize at next: the proposed one, if it is in the bracket.
    fn next(&self, proposed: f64, inside: bool) -> f64 {
        let floor = self.quadratic.hessian.floor();
        let open_below = self.bracket.low == floor;
        let is_floor = proposed == floor && open_below && floor < self.bracket.high;
        if inside && open_below && !is_floor && !self.bracket.contains(proposed) {
            // Nothing outside of the ball is known yet: the minimizer may lie inside, at the floor.
            return (STRIDE * self.multiplier).max(floor);
        }
        if is_floor { floor } else { self.bracket.next(proposed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Symmetric;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// A random quadratic of the given width and rank whose linear term lies in the range.
    fn problem(width: usize, rank: usize, seed: f64) -> (Hessian, Vec<f64>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed as u64);
        let a: Vec<f64> = (0..rank * width).map(|_| 2.0 * rng.random::<f64>() - 1.0).collect();
        let mut h = vec![0.0; width * width];
        let mut c = vec![0.0; width];
        for (r, row) in a.chunks_exact(width).enumerate() {
            for i in 0..width {
                c[i] += row[i] * (r as f64 - 0.3 * seed).cos();
                for j in 0..width {
                    h[i * width + j] += row[i] * row[j] / (1.0 + r as f64);
                }
            }
        }
        // Values of order 1, so that absolute tolerances mean something.
        h.iter_mut().chain(&mut c).for_each(|v| *v /= rank as f64);
        (Hessian::new(Symmetric::from_fn(width, |i, j| h[i * width + j])), c)
    }

    fn minimum_on_fine_path(q: &Quadratic, radius: f64) -> f64 {
        let mut best = q.constant;
        for exponent in 0..4000 {
            let multiplier = 1e6 * 0.99f64.powi(exponent);
            let Some(u) = q.hessian.point(q.linear, multiplier) else { continue };
            let scale = (radius / norm(&u)).min(1.0);
            let u: Vec<f64> = u.iter().map(|v| v * scale).collect();
            best = best.min(q.value_gradient(&u).0);
        }
        best
    }

    #[test]
    fn ball_minima_are_found_and_their_gaps_are_upper_bounds() {
        for (width, rank) in [(1, 1), (7, 20), (12, 4), (120, 300), (130, 20)] {
            let (hessian, c) = problem(width, rank, 1.0 + width as f64);
            let q = Quadratic { hessian: &hessian, linear: &c, constant: 3.0 };
            for radius in [1e-3, 0.1, 1.0, 1e4] {
                let comparison = Comparison { radius: Some(radius), displacement: radius / 2.0 };
                let (optimum, _) = q.minimize(comparison, 1e-7, None);
                assert!(optimum.distance <= radius * (1.0 + 1e-12));
                assert!(optimum.gap <= 1e-7, "{width} {rank} {radius}: {optimum:?}");
                let reference = minimum_on_fine_path(&q, radius);
                assert!(optimum.value <= reference + 1e-7);
                assert!(optimum.value - reference <= optimum.gap + 1e-12 * optimum.value.abs().max(1.0));
            }
        }
    }

    /// Beyond the width of eigendecompositions, where a few steps of Lanczos' method stand for them.
    #[test]
    fn a_path_is_exact_at_its_multiplier_and_close_around_it() {
        for (width, rank) in [(120, 300), (130, 20)] {
            let (hessian, c) = problem(width, rank, 4.0);
            for multiplier in [1e-4, 1e-2, 1.0] {
                let path = hessian.path::<f64>(&c, multiplier).expect("positive definite");
                for (factor, error) in [(1.0, 1e-8), (1.0 / REACH, 0.02), (0.5, 0.02), (2.0, 0.02), (REACH, 0.02)] {
                    let exact = hessian.point(&c, factor * multiplier).expect("positive definite");
                    let close = hessian.scatter(&path.point(factor * multiplier));
                    let apart: Vec<f64> = exact.iter().zip(&close).map(|(a, b)| a - b).collect();
                    assert!(
                        norm(&apart) <= error * norm(&exact),
                        "{width} {rank} {multiplier} {factor}: {}",
                        norm(&apart)
                    );
                    let length = path.secular.length(factor * multiplier);
                    assert!((length - norm(&close)).abs() <= 1e-10 * length, "{width} {rank} {multiplier} {factor}");
                }
            }
        }
    }

    #[test]
    fn what_single_precision_leaves_is_found_in_double() {
        let (hessian, c) = problem(120, 300, 5.0);
        let q = Quadratic { hessian: &hessian, linear: &c, constant: 3.0 };
        let exact = hessian.path::<f64>(&c, 1e-3).expect("positive definite").secular.length(1e-3);
        let single = hessian.path::<f32>(&c, 1e-3).expect("positive definite").secular.length(1e-3);
        assert!(single != exact && (single - exact).abs() < 1e-3 * exact, "{single} {exact}");
        let comparison = Comparison { radius: Some(exact), displacement: exact };
        // From the multiplier that is sought: single precision is enough for the one tolerance, not for the other.
        let (coarse, _) = q.minimize(comparison, 1e-9, Some(1e-3));
        let (fine, multiplier) = q.minimize(comparison, 1e-16, Some(1e-3));
        assert_eq!(coarse.iterations, 1);
        assert!(fine.iterations > 1 && fine.gap < coarse.gap, "{fine:?}");
        assert!((multiplier - 1e-3).abs() < 1e-12, "{multiplier}");
        assert!(coarse.gap <= 1e-9 && (coarse.value - fine.value).abs() <= coarse.gap + 1e-14);
    }

    #[test]
    fn unconstrained_minima_agree_with_least_squares() {
        for (width, rank) in [(5, 20), (9, 3), (110, 300)] {
            let (hessian, c) = problem(width, rank, 2.0);
            let q = Quadratic { hessian: &hessian, linear: &c, constant: 0.0 };
            let (optimum, _) = q.minimize(Comparison { radius: None, displacement: 0.1 }, 1e-9, None);
            assert!(optimum.gap <= 1e-9, "{width} {rank} {}", optimum.gap);
            // At a minimizer c = -H u, so the value is c'u / 2.
            assert!((optimum.value - 0.5 * dot(&c, &optimum.displacement)).abs() < 1e-8);
        }
    }

    /// A saturated softmax has a gradient but no curvature that numbers could hold.
    #[test]
    fn a_slope_without_curvature_is_followed_to_the_sphere() {
        let mut matrix = Symmetric::zeros(3);
        for curvature in [0.0, 2.0] {
            matrix.row_mut(1)[0] = curvature;
            let hessian = Hessian::new(matrix.clone());
            let c = [3.0, 0.0, -4.0];
            let q = Quadratic { hessian: &hessian, linear: &c, constant: 7.0 };
            let (optimum, _) = q.minimize(Comparison { radius: Some(2.0), displacement: 1.0 }, 1e-6, None);
            assert!((optimum.value - (7.0 - 2.0 * 5.0)).abs() < 1e-6 && optimum.gap < 1e-4, "{optimum:?}");
        }
    }

    #[test]
    fn a_flat_quadratic_stays_at_the_center() {
        let hessian = Hessian::new(Symmetric::zeros(3));
        let q = Quadratic { hessian: &hessian, linear: &[0.0; 3], constant: 0.7 };
        for radius in [None, Some(2.0), Some(0.0)] {
            let (optimum, _) = q.minimize(Comparison { radius, displacement: 0.0 }, 1e-9, None);
            assert_eq!((optimum.value, optimum.gap, optimum.distance), (0.7, 0.0, 0.0));
        }
    }
}
