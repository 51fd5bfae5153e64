//! The Hessian of a dense quadratic, prepared for systems `H + lambda I`: by one eigendecomposition where it is small, else by a Cholesky
//! factorization per multiplier.

use super::{
    cholesky::{Number, solve},
    path::{Path, Vectors},
};
use crate::{kernels::Symmetric, num::norm};
use faer::{
    Mat, MatMut, MatRef, Par, Side, Spec,
    dyn_stack::{MemBuffer, MemStack},
    linalg::{
        cholesky::llt::factor::{LltRegularization, cholesky_in_place, cholesky_in_place_scratch},
        solvers::SelfAdjointEigen,
    },
};

/// Up to this width an eigendecomposition serves all multipliers; above it, a Cholesky factorization each costs less.
const SPECTRAL_WIDTH: usize = 96;
/// Multipliers below this part of the trace of `H` drown in its rounding.
const FLOOR: f64 = 1e-15;
/// Above this part of the trace of `H`, multipliers may be tried in single precision, in half the time: the rounding of `H` is small
/// compared with them.
const SINGLE: f64 = 1e-7;
/// Curvature that is put where there is none along the linear term, as a part of the length of that divided by the radius: it moves the
/// minimizer over the ball, which lies on the sphere, by about this part of the radius.
const FLAT_CURVATURE: f64 = 1e-6;

/// The Hessian of a quadratic, prepared for systems `H + lambda I`.
#[derive(Clone, Debug)]
pub struct Hessian {
    matrix: Symmetric,
    /// Coordinates with a nonzero diagonal; the others are outside the range of a positive semidefinite matrix.
    active: Vec<usize>,
    /// The smallest multiplier that is tried.
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
        let mut hessian = Self::for_few_multipliers(matrix);
        if hessian.is_small() {
            let compact = hessian.compact();
            hessian.spectrum = SelfAdjointEigen::new(compact.as_ref(), Side::Lower).ok().map(|eigen| Spectrum {
                values: eigen.S().column_vector().iter().map(|v| v.max(0.0)).collect(),
                vectors: eigen.U().to_owned(),
            });
        }
        hessian
    }

    /// The same without an eigendecomposition: better if only a few multipliers will be tried.
    pub fn for_few_multipliers(matrix: Symmetric) -> Self {
        let diagonal = |j: usize| matrix.row(j)[0];
        let active: Vec<usize> = (0..matrix.width()).filter(|j| diagonal(*j) > 0.0).collect();
        let floor = FLOOR * active.iter().map(|j| diagonal(*j)).sum::<f64>();
        Self { matrix, active, floor, spectrum: None }
    }

    /// The same with a little curvature where there is none along the linear term `c`, as in a saturated softmax; `None` where there is enough.
    /// Over a ball a minimizer exists even so. Its certificate is computed with the curvature as it is.
    pub(super) fn with_curvature_along(&self, c: &[f64], radius: f64) -> Option<Hessian> {
        let flat = |j: &usize| self.matrix.row(*j)[0] <= 0.0 && c[*j] != 0.0;
        let flat: Vec<usize> = (0..self.width()).filter(flat).collect();
        if flat.is_empty() {
            return None;
        }
        let mut matrix = self.matrix.clone();
        let little = FLAT_CURVATURE * norm(c) / radius;
        flat.iter().for_each(|j| matrix.row_mut(*j)[0] = little);
        Some(if self.spectrum.is_some() { Hessian::new(matrix) } else { Hessian::for_few_multipliers(matrix) })
    }

    /// Coordinates with curvature.
    pub fn active(&self) -> usize {
        self.active.len()
    }

    pub fn width(&self) -> usize {
        self.matrix.width()
    }

    /// Whether an eigendecomposition costs less than a few factorizations.
    pub(super) fn is_small(&self) -> bool {
        self.active.len() <= SPECTRAL_WIDTH
    }

    /// The smallest multiplier that is tried: smaller ones drown in rounding.
    pub(super) fn floor(&self) -> f64 {
        self.floor
    }

    /// The smallest multiplier that single precision can be tried for.
    pub(super) fn least_single(&self) -> f64 {
        SINGLE / FLOOR * self.floor
    }

    /// `H v`.
    pub fn apply(&self, v: &[f64]) -> Vec<f64> {
        self.matrix.apply(v)
    }

    /// The point `u(lambda)` of the path for the linear term `c`, or `None` if the matrix `H + lambda I` is numerically indefinite.
    pub(super) fn point(&self, c: &[f64], multiplier: f64) -> Option<Vec<f64>> {
        let u = match &self.spectrum {
            Some(spectrum) => spectrum.path(self.gather(c)).point(multiplier),
            None => f64::system().with_borrow_mut(|system| {
                let lower = self.factorize::<f64>(multiplier, system)?;
                let mut u: Vec<f64> = self.active.iter().map(|j| -c[*j]).collect();
                solve(lower, &mut u);
                Some(u)
            })?,
        };
        u.iter().all(|u| u.is_finite()).then(|| self.scatter(&u))
    }

    /// The path for the linear term `c` around a multiplier, from a system in `T`, or `None` if its matrix is numerically indefinite.
    pub(super) fn path<T: Number>(&self, c: &[f64], multiplier: f64) -> Option<Path<'_>> {
        let c = self.gather(c);
        let path = match &self.spectrum {
            Some(spectrum) => spectrum.path(c),
            None => T::system()
                .with_borrow_mut(|system| Path::around(self.factorize::<T>(multiplier, system)?, &c, multiplier))?,
        };
        path.secular.length(multiplier).is_finite().then_some(path)
    }

    /// The vector with these numbers at the active coordinates, and zeros.
    pub(super) fn scatter(&self, compact: &[f64]) -> Vec<f64> {
        let mut u = vec![0.0; self.width()];
        self.active.iter().zip(compact).for_each(|(j, value)| u[*j] = *value);
        u
    }

    /// The numbers of a vector at the active coordinates.
    fn gather(&self, c: &[f64]) -> Vec<f64> {
        self.active.iter().map(|j| c[*j]).collect()
    }

    /// `H` on the active coordinates.
    fn compact(&self) -> Mat<f64> {
        let (active, n) = (&self.active, self.active.len());
        Mat::from_fn(n, n, |i, j| self.matrix.get(active[i], active[j]))
    }

    /// The Cholesky factor of `H + lambda I` on the active coordinates, in `system`.
    fn factorize<'a, T: Number>(&self, multiplier: f64, system: &'a mut Vec<T>) -> Option<MatRef<'a, T>> {
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
            column[j] = T::from_f64(row[0] + multiplier);
        }
        let mut factor = MatMut::from_column_major_slice_mut(system, n, n);
        let mut memory = MemBuffer::new(cholesky_in_place_scratch::<T>(n, Par::Seq, Spec::default()));
        let (stack, none) = (MemStack::new(&mut memory), LltRegularization::default());
        cholesky_in_place(factor.as_mut(), none, Par::Seq, stack, Spec::default()).ok()?;
        Some(MatRef::from_column_major_slice(system, n, n))
    }
}

impl Spectrum {
    /// The path for a linear term on the active coordinates.
    fn path(&self, c: Vec<f64>) -> Path<'_> {
        let hat = self.vectors.transpose() * MatRef::from_column_major_slice(&c, c.len(), 1);
        let weights = hat.col(0).iter().map(|h| -h).collect();
        Path::exact(self.values.clone(), weights, Vectors::All(&self.vectors))
    }
}
