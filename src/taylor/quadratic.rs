//! Minimizers of a dense convex quadratic, over all of space and over a ball, with certificates.
//!
//! `F(u) = constant + c'u + u'Hu / 2` in the displacement `u = V - W^1`. Both comparators lie on one path: the minimizer of
//! `F(u) + shift |u|^2 / 2` is `u(shift) = -(H + shift I)^-1 c`. Its limit for `shift -> 0` is the least-norm minimizer, and the
//! minimizer over the ball is the point of the path with `|u| = radius`, or that limit if it lies inside (Moré and Sorensen,
//! "Computing a trust region step", 1983).

use super::certificate::{Comparison, Optimum, StopReason, gap};
use crate::kernels::{
    Real, Symmetric,
    real::{axpy, convert, dot, norm},
};
use faer::{
    Mat, MatMut, MatRef, Par, Side, Spec,
    dyn_stack::{MemBuffer, MemStack},
    linalg::{
        cholesky::llt::factor::{LltRegularization, cholesky_in_place, cholesky_in_place_scratch},
        solvers::SelfAdjointEigen,
        triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place},
    },
};
use std::{cell::RefCell, thread::LocalKey};

thread_local! {
    /// The matrix that is factorized, kept from system to system: fresh memory costs a tenth of the work.
    static SYSTEM: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
    static SINGLE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// A type that systems are solved in.
trait Number: Real + faer::traits::RealField {
    fn system() -> &'static LocalKey<RefCell<Vec<Self>>>;
}

impl Number for f64 {
    fn system() -> &'static LocalKey<RefCell<Vec<f64>>> {
        &SYSTEM
    }
}

impl Number for f32 {
    fn system() -> &'static LocalKey<RefCell<Vec<f32>>> {
        &SINGLE
    }
}

/// Up to this width the eigendecomposition is used, above it one Cholesky factorization per shift.
const SPECTRAL_WIDTH: usize = 96;
/// Shifts below this fraction of the largest diagonal entry drown in the rounding of `H`.
const SHIFT_FLOOR: f64 = 1e-15;
/// Shifts tried at most.
const MAX_SHIFTS: usize = 60;
/// Steps of Lanczos' method per factorization: together they take a fraction of its time.
const LANCZOS_STEPS: usize = 6;
/// Above this fraction of the trace of `H`, shifts are first tried in single precision, in half the time: the rounding of `H` is small beside
/// them. Whether the point is good enough is seen in double precision.
const SINGLE_SHIFT: f64 = 1e-7;
/// Lengths in single precision are taken as they are if they differ from the radius by this share.
const SINGLE_ERROR: f64 = 0.01;
/// Curvature that is put where there is none along the linear term, as a part of the length of that divided by the radius: it moves the
/// minimizer over the ball, which lies on the sphere, by about this part of the radius.
const FLAT_CURVATURE: f64 = 1e-6;
/// A path around a shift is used up to this multiple of it, and down to that part.
const REACH: f64 = 4.0;

/// The Hessian of a quadratic, prepared for systems `H + shift I`.
#[derive(Clone, Debug)]
pub struct Hessian {
    matrix: Symmetric,
    /// Coordinates with a nonzero diagonal; the others are outside the range of a positive semidefinite matrix.
    active: Vec<usize>,
    floor: f64,
    spectrum: Option<Spectrum>,
}

#[derive(Clone, Debug)]
struct Spectrum {
    values: Vec<f64>,
    vectors: Mat<f64>,
}

impl Hessian {
    /// Prepares a positive semidefinite matrix.
    pub fn new(matrix: Symmetric) -> Self {
        let mut hessian = Self::for_few_shifts(matrix);
        if hessian.active.len() <= SPECTRAL_WIDTH {
            let compact = hessian.compact();
            hessian.spectrum = SelfAdjointEigen::new(compact.as_ref(), Side::Lower).ok().map(|eigen| Spectrum {
                values: eigen.S().column_vector().iter().map(|v| v.max(0.0)).collect(),
                vectors: eigen.U().to_owned(),
            });
        }
        hessian
    }

    /// The same without an eigendecomposition: better if only a few shifts will be tried.
    pub fn for_few_shifts(matrix: Symmetric) -> Self {
        let diagonal = |j: usize| matrix.row(j)[0];
        let active: Vec<usize> = (0..matrix.width()).filter(|j| diagonal(*j) > 0.0).collect();
        let floor = SHIFT_FLOOR * active.iter().map(|j| diagonal(*j)).sum::<f64>();
        Self { matrix, active, floor, spectrum: None }
    }

    /// The same with a little curvature where there is none along the linear term `c`, as in a saturated softmax; `None` where there is enough.
    /// Over a ball a minimizer exists even so. Its certificate is computed with the curvature as it is.
    fn with_curvature_along(&self, c: &[f64], radius: f64) -> Option<Hessian> {
        let flat = |j: &usize| self.matrix.row(*j)[0] <= 0.0 && c[*j] != 0.0;
        let flat: Vec<usize> = (0..self.width()).filter(flat).collect();
        if flat.is_empty() {
            return None;
        }
        let mut matrix = self.matrix.clone();
        let little = FLAT_CURVATURE * norm(c) / radius;
        flat.iter().for_each(|j| matrix.row_mut(*j)[0] = little);
        Some(if self.spectrum.is_some() { Hessian::new(matrix) } else { Hessian::for_few_shifts(matrix) })
    }

    pub fn active(&self) -> usize {
        self.active.len()
    }
    pub fn width(&self) -> usize {
        self.matrix.width()
    }

    /// `H v`.
    pub fn apply(&self, v: &[f64]) -> Vec<f64> {
        self.matrix.apply(v)
    }

    /// The Cholesky factor of `H + shift I` on the active coordinates, in `system`.
    fn factorize<'a, T: Number>(&self, shift: f64, system: &'a mut Vec<T>) -> Option<MatRef<'a, T>> {
        let n = self.active.len();
        // What lies above the diagonal is never read.
        system.resize((n * n).max(system.len()), T::ZERO);
        let system = &mut system[..n * n];
        for (j, (column, source)) in system.chunks_exact_mut(n.max(1)).zip(&self.active).enumerate() {
            // Symmetric: what lies right of the diagonal lies below it too.
            let row = self.matrix.row(*source);
            if n == self.width() {
                column[j..].iter_mut().zip(row).for_each(|(to, from)| *to = T::from_f64(*from));
            } else {
                column[j..]
                    .iter_mut()
                    .zip(&self.active[j..])
                    .for_each(|(to, from)| *to = T::from_f64(row[from - source]));
            }
            column[j] = T::from_f64(row[0] + shift);
        }
        let mut factor = MatMut::from_column_major_slice_mut(system, n, n);
        let mut memory = MemBuffer::new(cholesky_in_place_scratch::<T>(n, Par::Seq, Spec::default()));
        let (stack, none) = (MemStack::new(&mut memory), LltRegularization::default());
        cholesky_in_place(factor.as_mut(), none, Par::Seq, stack, Spec::default()).ok()?;
        Some(MatRef::from_column_major_slice(system, n, n))
    }

    /// `H` on the active coordinates.
    fn compact(&self) -> Mat<f64> {
        let (active, n) = (&self.active, self.active.len());
        Mat::from_fn(n, n, |i, j| self.matrix.get(active[i], active[j]))
    }

    /// The numbers of a vector at the active coordinates.
    fn gather(&self, c: &[f64]) -> Vec<f64> {
        self.active.iter().map(|j| c[*j]).collect()
    }

    /// The vector with these numbers at the active coordinates, and zeros.
    fn scatter(&self, compact: &[f64]) -> Vec<f64> {
        let mut u = vec![0.0; self.width()];
        self.active.iter().zip(compact).for_each(|(j, value)| u[*j] = *value);
        u
    }

    /// The point `u(shift)` of the path for the linear term `c`, or `None` if the shifted matrix is numerically indefinite.
    fn point(&self, c: &[f64], shift: f64) -> Option<Vec<f64>> {
        let u = match &self.spectrum {
            Some(spectrum) => spectrum.path(self.gather(c)).point(shift),
            None => SYSTEM.with_borrow_mut(|system| {
                let lower = self.factorize::<f64>(shift, system)?;
                let mut u: Vec<f64> = self.active.iter().map(|j| -c[*j]).collect();
                solve(lower, &mut u);
                Some(u)
            })?,
        };
        u.iter().all(|u| u.is_finite()).then(|| self.scatter(&u))
    }

    /// The path for the linear term `c` around a shift, from a system in `T`, or `None` if the shifted matrix is numerically indefinite.
    fn path<T: Number>(&self, c: &[f64], shift: f64) -> Option<Path<'_>> {
        let c = self.gather(c);
        let path = match &self.spectrum {
            Some(spectrum) => spectrum.path(c),
            None => {
                T::system().with_borrow_mut(|system| Path::around(self.factorize::<T>(shift, system)?, &c, shift))?
            }
        };
        path.length(shift).is_finite().then_some(path)
    }
}

/// Solves `L L' u = u` in place.
fn solve<T: Number>(lower: MatRef<T>, u: &mut [T]) {
    let n = u.len();
    solve_lower_triangular_in_place(lower, MatMut::from_column_major_slice_mut(u, n, 1), Par::Seq);
    solve_upper_triangular_in_place(lower.transpose(), MatMut::from_column_major_slice_mut(u, n, 1), Par::Seq);
}

impl Spectrum {
    /// The path for a linear term on the active coordinates.
    fn path(&self, c: Vec<f64>) -> Path<'_> {
        let hat = self.vectors.transpose() * MatRef::from_column_major_slice(&c, c.len(), 1);
        let weights = hat.col(0).iter().map(|h| -h).collect();
        Path { values: self.values.clone(), weights, vectors: Basis::All(&self.vectors), shift: None }
    }
}

/// The path of a linear term: `u(shift) = sum_j weight_j / (value_j + shift) vector_j`, with eigenvalues and eigenvectors of `H`.
struct Path<'a> {
    values: Vec<f64>,
    weights: Vec<f64>,
    vectors: Basis<'a>,
    /// Where the path is exact, if the eigenvectors are approximations.
    shift: Option<f64>,
}

/// Orthonormal vectors on the active coordinates, as columns.
enum Basis<'a> {
    All(&'a Mat<f64>),
    Few(Mat<f64>),
}

impl Path<'_> {
    /// The path by the eigenvectors of `M = H + shift I` that a few steps of Lanczos' method with `M^-1` find, given `M = L L'`.
    ///
    /// Exact at `shift`, where `u = -M^-1 c`, and so are the first derivatives of `|u|` there; at a multiple of `shift` the error falls
    /// geometrically with the steps: `1 / (value + s)` is approximated by polynomials in `1 / (value + shift)` (`docs/theory.md`, section 4).
    /// `None` if the numbers do not stay finite.
    fn around<T: Number>(lower: MatRef<T>, c: &[f64], shift: f64) -> Option<Self> {
        let size = norm(c);
        let mut basis: Vec<Vec<f64>> = Vec::new();
        // Of the tridiagonal matrix that `M^-1` is in the basis.
        let (mut diagonal, mut beside) = (Vec::new(), Vec::new());
        let mut next: Vec<f64> = c.iter().map(|c| -c / size).collect();
        while size > 0.0 && basis.len() < LANCZOS_STEPS.min(c.len()) {
            let mut image: Vec<T> = convert(&next);
            solve(lower, &mut image);
            let mut image: Vec<f64> = convert(&image);
            basis.push(next);
            let length = norm(&image);
            let mut on_itself = 0.0;
            // Twice is enough for vectors that are orthogonal to rounding.
            for _ in 0..2 {
                for (i, q) in basis.iter().enumerate() {
                    let along = dot(q, &image);
                    axpy(-along, q, &mut image);
                    on_itself += if i + 1 == basis.len() { along } else { 0.0 };
                }
            }
            diagonal.push(on_itself);
            let rest = norm(&image);
            if rest.is_nan() || rest <= 1e-14 * length {
                break;
            }
            beside.push(rest);
            next = image.into_iter().map(|v| v / rest).collect();
        }
        let k = basis.len();
        if k == 0 {
            let vectors = Basis::Few(Mat::zeros(c.len(), 0));
            return Some(Self { values: Vec::new(), weights: Vec::new(), vectors, shift: Some(shift) });
        }
        let tridiagonal = Mat::from_fn(k, k, |i, j| match i.abs_diff(j) {
            0 => diagonal[i],
            1 => beside[i.min(j)],
            _ => 0.0,
        });
        if !diagonal.iter().chain(&beside).all(|entry| entry.is_finite()) {
            return None;
        }
        let eigen = SelfAdjointEigen::new(tridiagonal.as_ref(), Side::Lower).ok()?;
        let (ritz, vectors) = (eigen.S().column_vector(), eigen.U());
        // What is not positive is rounding.
        let found: Vec<usize> = (0..k).filter(|j| ritz[*j] > 0.0).collect();
        let vector = |i: usize, j: usize| basis.iter().enumerate().map(|(q, b)| b[i] * vectors[(q, found[j])]).sum();
        Some(Self {
            values: found.iter().map(|j| 1.0 / ritz[*j] - shift).collect(),
            weights: found.iter().map(|j| size * vectors[(0, *j)]).collect(),
            vectors: Basis::Few(Mat::from_fn(c.len(), found.len(), vector)),
            shift: Some(shift),
        })
    }

    /// The point of the path, on the active coordinates.
    fn point(&self, shift: f64) -> Vec<f64> {
        let terms = self.weights.iter().zip(&self.values);
        let factors: Vec<f64> = terms.map(|(weight, value)| weight / (value + shift)).collect();
        let factors = MatRef::from_column_major_slice(&factors, factors.len(), 1);
        let u = match &self.vectors {
            Basis::All(vectors) => *vectors * factors,
            Basis::Few(vectors) => vectors * factors,
        };
        u.col(0).iter().copied().collect()
    }

    /// `|u(shift)|`.
    fn length(&self, shift: f64) -> f64 {
        let terms = self.weights.iter().zip(&self.values);
        terms.map(|(weight, value)| (weight / (value + shift)).powi(2)).sum::<f64>().sqrt()
    }

    /// Newton's step from a shift for `1 / radius - 1 / |u| = 0`, which is nearly linear in the shift.
    fn newton(&self, radius: f64, shift: f64) -> f64 {
        let terms = self.weights.iter().zip(&self.values);
        // u' (H + shift I)^-1 u
        let bend: f64 = terms.map(|(weight, value)| weight.powi(2) / (value + shift).powi(3)).sum();
        let length = self.length(shift);
        shift + (length / radius - 1.0) * length * length / bend
    }

    /// The shift between `low` and `high` at which `|u| = radius`; one of them if it is not between them.
    fn shift_at(&self, radius: f64, mut low: f64, mut high: f64) -> f64 {
        if self.length(low) <= radius {
            return low;
        }
        let mut shift = low;
        for _ in 0..MAX_SHIFTS {
            match self.length(shift) <= radius {
                true => high = shift,
                false => low = shift,
            }
            let newton = self.newton(radius, shift);
            let next = if newton > low && newton < high { newton } else { (low * high).sqrt() };
            if (next - shift).abs() <= 1e-14 * shift {
                break;
            }
            shift = next;
        }
        shift
    }
}

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

    /// Minimizes to an absolute gap of `tolerance`, starting the search of the shift at `warm`.
    ///
    /// The result carries the shift it ended with, to warm-start the next prefix.
    pub fn minimize(&self, comparison: Comparison, tolerance: f64, warm: Option<f64>) -> (Optimum, f64) {
        if norm(self.linear) == 0.0 || comparison.radius == Some(0.0) {
            let u = vec![0.0; self.hessian.width()];
            let gap = gap(&comparison, &u, self.linear);
            return (Optimum::new(&comparison, self.constant, u, self.constant, gap), 0.0);
        }
        match comparison.radius {
            Some(radius) => match self.hessian.with_curvature_along(self.linear, radius) {
                None => self.minimize_ball(comparison, radius, tolerance, warm),
                Some(hessian) => {
                    let curved = Quadratic { hessian: &hessian, ..*self };
                    let (found, shift) = curved.minimize_ball(comparison, radius, tolerance, warm);
                    (self.candidate(&comparison, found.displacement, found.iterations, tolerance), shift)
                }
            },
            None => self.minimize_everywhere(comparison, tolerance, warm),
        }
    }

    fn candidate(&self, comparison: &Comparison, u: Vec<f64>, iterations: usize, tolerance: f64) -> Optimum {
        let (value, gradient) = self.value_gradient(&u);
        let gap = gap(comparison, &u, &gradient);
        let stop = if gap <= tolerance { StopReason::Converged } else { StopReason::Rounding };
        Optimum { iterations, stop, ..Optimum::new(comparison, self.constant, u, value, gap) }
    }

    fn minimize_everywhere(&self, comparison: Comparison, tolerance: f64, warm: Option<f64>) -> (Optimum, f64) {
        let floor = self.hessian.floor;
        let mut shift = warm.unwrap_or(1e9 * floor).max(floor);
        let mut best: Option<(Optimum, f64)> = None;
        for iterations in 1..=MAX_SHIFTS {
            let Some(u) = self.hessian.point(self.linear, shift) else {
                if best.is_some() {
                    break;
                }
                shift *= 10.0;
                continue;
            };
            let distance = norm(&u);
            let optimum = self.candidate(&comparison, u, iterations, tolerance);
            let converged = optimum.gap <= tolerance;
            if best.as_ref().is_none_or(|(b, _)| optimum.gap < b.gap) {
                best = Some((optimum, shift));
            }
            if converged || shift <= floor {
                break;
            }
            // On the path the gradient is -shift u, so the gap is shift |u|^2 and |u| grows as the shift falls.
            let aimed = 0.5 * tolerance / (distance * distance).max(1e-300);
            shift = aimed.min(0.2 * shift).max(floor);
        }
        let zero = || self.candidate(&comparison, vec![0.0; self.hessian.width()], MAX_SHIFTS, tolerance);
        let (mut optimum, shift) = best.unwrap_or_else(|| (zero(), shift));
        optimum.iterations = optimum.iterations.max(1);
        (optimum, shift)
    }

    fn minimize_ball(&self, comparison: Comparison, radius: f64, tolerance: f64, warm: Option<f64>) -> (Optimum, f64) {
        let floor = self.hessian.floor;
        let (mut low, mut high) = (floor, (norm(self.linear) / radius).max(2.0 * floor));
        let mut shift = warm.unwrap_or(floor).clamp(floor, high);
        let mut best: Option<(Optimum, f64)> = None;
        let mut try_single = self.hessian.active.len() > SPECTRAL_WIDTH;
        let lowest_single = SINGLE_SHIFT / SHIFT_FLOOR * floor;
        for iterations in 1..=MAX_SHIFTS {
            let single = try_single && shift >= lowest_single;
            let path = match single {
                true => self.hessian.path::<f32>(self.linear, shift),
                false => self.hessian.path::<f64>(self.linear, shift),
            };
            let Some(path) = path else {
                if single {
                    try_single = false;
                    continue;
                }
                low = low.max(shift);
                shift = if shift < high { (shift * 10.0).min(high) } else { 10.0 * shift };
                continue;
            };
            let length = path.length(shift);
            let interior = length <= radius;
            if !single || (length - radius).abs() > SINGLE_ERROR * radius {
                if interior {
                    high = high.min(shift);
                } else {
                    low = low.max(shift);
                }
            }
            let newton = path.newton(radius, shift);
            // The best shift as far as the path reaches.
            let within_reach = newton > shift / REACH && newton < shift * REACH;
            let at = match path.shift {
                None => path.shift_at(radius, low, high),
                Some(exact) if within_reach => path.shift_at(radius, low.max(exact / REACH), high.min(exact * REACH)),
                Some(_) => shift,
            };
            let mut u = self.hessian.scatter(&path.point(at));
            let length = norm(&u);
            if length > 0.0 && (at > floor || length > radius) {
                // The minimizer lies on the sphere (or the shift is still too large): compare there.
                let scale = radius / length;
                u.iter_mut().for_each(|v| *v *= scale);
            }
            let optimum = self.candidate(&comparison, u, iterations, tolerance);
            let converged = optimum.gap <= tolerance;
            if best.as_ref().is_none_or(|(b, _)| optimum.gap < b.gap) {
                best = Some((optimum, at));
            }
            if converged || (interior && shift <= floor) || high <= low * (1.0 + 1e-14) {
                break;
            }
            if single && within_reach {
                // As good as single precision makes it.
                (try_single, shift) = (false, at);
                continue;
            }
            let next = if at == shift { newton } else { at };
            let inside = (next > low || next == floor && low == floor) && next < high;
            let next = match inside {
                true => next,
                false if interior && low == floor && shift > 1e3 * floor => (1e-3 * shift).max(floor),
                false if interior && low == floor => floor,
                false => (low * high).sqrt(),
            };
            if (next - shift).abs() <= 1e-14 * shift {
                break;
            }
            shift = next;
        }
        let zero = || self.candidate(&comparison, vec![0.0; self.hessian.width()], MAX_SHIFTS, tolerance);
        best.unwrap_or_else(|| (zero(), shift))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let shift = 1e6 * 0.99f64.powi(exponent);
            let Some(u) = q.hessian.point(q.linear, shift) else { continue };
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
    fn a_path_is_exact_at_its_shift_and_close_around_it() {
        for (width, rank) in [(120, 300), (130, 20)] {
            let (hessian, c) = problem(width, rank, 4.0);
            for shift in [1e-4, 1e-2, 1.0] {
                let path = hessian.path::<f64>(&c, shift).expect("positive definite");
                for (factor, error) in [(1.0, 1e-8), (1.0 / REACH, 0.02), (0.5, 0.02), (2.0, 0.02), (REACH, 0.02)] {
                    let exact = hessian.point(&c, factor * shift).expect("positive definite");
                    let close = hessian.scatter(&path.point(factor * shift));
                    let apart: Vec<f64> = exact.iter().zip(&close).map(|(a, b)| a - b).collect();
                    assert!(norm(&apart) <= error * norm(&exact), "{width} {rank} {shift} {factor}: {}", norm(&apart));
                    let length = path.length(factor * shift);
                    assert!((length - norm(&close)).abs() <= 1e-10 * length, "{width} {rank} {shift} {factor}");
                }
            }
        }
    }

    #[test]
    fn what_single_precision_leaves_is_found_in_double() {
        let (hessian, c) = problem(120, 300, 5.0);
        let q = Quadratic { hessian: &hessian, linear: &c, constant: 3.0 };
        let exact = hessian.path::<f64>(&c, 1e-3).expect("positive definite").length(1e-3);
        let single = hessian.path::<f32>(&c, 1e-3).expect("positive definite").length(1e-3);
        assert!(single != exact && (single - exact).abs() < 1e-3 * exact, "{single} {exact}");
        let comparison = Comparison { radius: Some(exact), displacement: exact };
        // From the shift that is sought: single precision is enough for the one tolerance, not for the other.
        let (coarse, _) = q.minimize(comparison, 1e-9, Some(1e-3));
        let (fine, shift) = q.minimize(comparison, 1e-16, Some(1e-3));
        assert_eq!(coarse.iterations, 1);
        assert!(fine.iterations > 1 && fine.gap < coarse.gap, "{fine:?}");
        assert!((shift - 1e-3).abs() < 1e-12, "{shift}");
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
