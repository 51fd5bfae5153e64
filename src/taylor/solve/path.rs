//! The regularization path of a dense quadratic, `u(lambda) = -(H + lambda I)^-1 c`, in eigenvectors of `H` (`docs/theory.md`, section 4).

use super::{
    cholesky::{Number, solve},
    gram_schmidt::orthogonalize,
    secular::Secular,
};
use crate::num::{convert, norm};
use faer::{Mat, MatRef, Side, linalg::solvers::SelfAdjointEigen};

/// Steps of Lanczos' method per factorization: together they take a fraction of its time.
const LANCZOS_STEPS: usize = 6;
/// A Krylov space is complete when less than this share of the next vector is new: what is left is rounding.
const COMPLETE: f64 = 1e-14;

/// The path of a linear term: `u(lambda) = sum_j weight_j / (value_j + lambda) vector_j`, with eigenvalues and eigenvectors of `H`.
pub(super) struct Path<'a> {
    pub secular: Secular,
    vectors: Vectors<'a>,
    /// The multiplier at which the path is exact, if the eigenvectors are approximations.
    pub exact_at: Option<f64>,
}

/// Orthonormal vectors on the active coordinates, as columns.
pub(super) enum Vectors<'a> {
    All(&'a Mat<f64>),
    Few(Mat<f64>),
}

impl<'a> Path<'a> {
    /// The path by all eigenvectors.
    pub fn exact(values: Vec<f64>, weights: Vec<f64>, vectors: Vectors<'a>) -> Self {
        Self { secular: Secular { values, weights }, vectors, exact_at: None }
    }

    /// The path by the eigenvectors of `M = H + lambda I` that a few steps of Lanczos' method with `M^-1` find, given `M = L L'`.
    ///
    /// Exact at `multiplier`, where `u = -M^-1 c`, and so are the first derivatives of `|u|` there; at a multiple of it the error falls
    /// geometrically with the steps: `1 / (value + lambda)` is approximated by polynomials in `1 / (value + multiplier)` (`docs/theory.md`,
    /// section 4). `None` if the numbers do not stay finite.
    pub fn around<T: Number>(lower: MatRef<T>, c: &[f64], multiplier: f64) -> Option<Self> {
        let size = norm(c);
        let Krylov { basis, diagonal, off_diagonal } = Krylov::new(lower, c, size);
        let k = basis.len();
        let few = |secular, vectors| Self { secular, vectors: Vectors::Few(vectors), exact_at: Some(multiplier) };
        if k == 0 {
            return Some(few(Secular::default(), Mat::zeros(c.len(), 0)));
        }
        let tridiagonal = Mat::from_fn(k, k, |i, j| match i.abs_diff(j) {
            0 => diagonal[i],
            1 => off_diagonal[i.min(j)],
            _ => 0.0,
        });
        if !diagonal.iter().chain(&off_diagonal).all(|entry| entry.is_finite()) {
            return None;
        }
        let eigen = SelfAdjointEigen::new(tridiagonal.as_ref(), Side::Lower).ok()?;
        let (ritz, vectors) = (eigen.S().column_vector(), eigen.U());
        // What is not positive is rounding.
        let found: Vec<usize> = (0..k).filter(|j| ritz[*j] > 0.0).collect();
        let vector = |i: usize, j: usize| basis.iter().enumerate().map(|(q, b)| b[i] * vectors[(q, found[j])]).sum();
        let secular = Secular {
            values: found.iter().map(|j| 1.0 / ritz[*j] - multiplier).collect(),
            weights: found.iter().map(|j| size * vectors[(0, *j)]).collect(),
        };
        Some(few(secular, Mat::from_fn(c.len(), found.len(), vector)))
    }

    /// The point of the path, on the active coordinates.
    pub fn point(&self, multiplier: f64) -> Vec<f64> {
        let factors: Vec<f64> = self.secular.coordinates(multiplier).collect();
        let factors = MatRef::from_column_major_slice(&factors, factors.len(), 1);
        let u = match &self.vectors {
            Vectors::All(vectors) => *vectors * factors,
            Vectors::Few(vectors) => vectors * factors,
        };
        u.col(0).iter().copied().collect()
    }
}

/// A basis of the Krylov space of `M^-1` and `c`, in which `M^-1` is tridiagonal.
struct Krylov {
    basis: Vec<Vec<f64>>,
    diagonal: Vec<f64>,
    off_diagonal: Vec<f64>,
}

impl Krylov {
    /// A few steps of Lanczos' method from `-c`, which has the length `size`.
    fn new<T: Number>(lower: MatRef<T>, c: &[f64], size: f64) -> Self {
        let mut krylov = Self { basis: Vec::new(), diagonal: Vec::new(), off_diagonal: Vec::new() };
        let mut next: Vec<f64> = c.iter().map(|c| -c / size).collect();
        while size > 0.0 && krylov.basis.len() < LANCZOS_STEPS.min(c.len()) {
            let mut image: Vec<T> = convert(&next);
            solve(lower, &mut image);
            let mut image: Vec<f64> = convert(&image);
            krylov.basis.push(next);
            let before = norm(&image);
            // All of the basis, as rounding would otherwise bring back what is orthogonal in theory.
            let along = orthogonalize(krylov.basis.iter().map(|q| &q[..]), &mut image);
            krylov.diagonal.extend(along.last());
            let rest = norm(&image);
            if rest.is_nan() || rest <= COMPLETE * before {
                break;
            }
            krylov.off_diagonal.push(rest);
            next = image.into_iter().map(|v| v / rest).collect();
        }
        krylov
    }
}
