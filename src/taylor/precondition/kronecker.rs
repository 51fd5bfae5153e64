//! The Kronecker product `mean M (x) mean x x'` in its eigenbasis, for systems with a shift (Martens and Grosse, "Optimizing neural networks with
//! Kronecker-factored approximate curvature", 2015).

use crate::kernels::{View, matmul_shared};
use faer::{MatRef, Side, linalg::solvers::SelfAdjointEigen};

/// Curvature below this fraction of the largest is not trusted: there the mean of products differs from the product of means.
pub(super) const TRUSTED: f64 = 1e-5;
/// The same where the curvature is this product: nothing but rounding.
const TRUSTED_EXACT: f64 = 1e-14;

/// A symmetric matrix `sum_j values[j] v_j v_j'`; without vectors `v_j` are those of the standard basis.
pub(super) struct Eigen {
    pub(super) values: Vec<f64>,
    /// One after the other.
    vectors: Option<Vec<f64>>,
}

impl Eigen {
    /// Of `scale` times a positive semidefinite matrix `[width, width]`.
    pub(super) fn new(matrix: &[f64], width: usize, scale: f64) -> Self {
        let view = MatRef::from_row_major_slice(matrix, width, width);
        match SelfAdjointEigen::new(view, Side::Lower) {
            Ok(eigen) => Self {
                values: eigen.S().column_vector().iter().map(|v| (v * scale).max(0.0)).collect(),
                vectors: Some(eigen.U().col_iter().flat_map(|v| v.iter().copied()).collect()),
            },
            // Not a good preconditioner any more, but the iteration stays correct.
            Err(_) => Self { values: vec![1.0; width], vectors: None },
        }
    }

    /// `value` times the identity.
    pub(super) fn multiple(value: f64, width: usize) -> Self {
        Self { values: vec![value; width], vectors: None }
    }

    /// The matrix with the vectors as rows: it takes a vector to its coordinates.
    pub(super) fn vectors(&self) -> Option<View<'_, f64>> {
        let width = self.values.len();
        self.vectors.as_ref().map(|vectors| View::new(vectors, width, width))
    }

    /// The largest eigenvalue.
    pub(super) fn top(&self) -> f64 {
        self.values.iter().copied().fold(0.0, f64::max)
    }

    pub(super) fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len() as f64
    }

    /// `V r` for `r: [width, n]` with the vectors as rows of `V`.
    fn to_coordinates(&self, r: View<f64>) -> Vec<f64> {
        self.vectors().map_or_else(|| r.to_vec(), |v| matmul_shared(v, r))
    }

    /// `V' r`.
    fn recompose(&self, r: View<f64>) -> Vec<f64> {
        self.vectors().map_or_else(|| r.to_vec(), |v| matmul_shared(v.t(), r))
    }
}

/// `mean M (x) mean x x'` of a block, with `M: [units, units]` and `x: [width]`, in the eigenvectors of both.
pub struct KroneckerFactors {
    pub(super) units: Eigen,
    pub(super) inputs: Eigen,
    /// Whether the curvature is this product, not just about so: the output layer's under the mean squared error.
    exact: bool,
}

impl KroneckerFactors {
    /// From the sums `m: [units, units]` and `x: [width, width]`, each with its scale; an approximation.
    pub(crate) fn new(m: (&[f64], f64), units: usize, x: (&[f64], f64), width: usize) -> Self {
        Self::of(Eigen::new(m.0, units, m.1), Eigen::new(x.0, width, x.1), false)
    }

    pub(super) fn of(units: Eigen, inputs: Eigen, exact: bool) -> Self {
        Self { units, inputs, exact }
    }

    /// Weights of the block.
    pub(crate) fn len(&self) -> usize {
        self.units.values.len() * self.inputs.values.len()
    }

    /// `(M (x) X + shift I)^-1 r` for `r: [units, width]`; directions without curvature are damped, not divided by zero.
    pub(crate) fn solve(&self, shift: f64, residual: &[f64]) -> Vec<f64> {
        let mut hat = self.rotate(residual);
        let damping = shift + self.floor();
        for (row, x) in hat.chunks_exact_mut(self.units.values.len()).zip(&self.inputs.values) {
            row.iter_mut().zip(&self.units.values).for_each(|(h, m)| *h /= m * x + damping);
        }
        self.rotate_back(&hat)
    }

    /// `(m X + shift I)^-1 r` for one unit, `r: [width]`, with `m` the mean of the units' curvatures.
    pub(crate) fn solve_row(&self, shift: f64, residual: &[f64]) -> Vec<f64> {
        let mean = self.units.mean();
        let floor = (TRUSTED * mean * self.inputs.top()).max(f64::MIN_POSITIVE);
        let mut hat = self.inputs.to_coordinates(View::new(residual, residual.len(), 1));
        hat.iter_mut().zip(&self.inputs.values).for_each(|(h, value)| *h /= mean * value + shift + floor);
        self.inputs.recompose(View::new(&hat, residual.len(), 1))
    }

    /// What is added to every shift: curvature that is not trusted.
    pub(super) fn floor(&self) -> f64 {
        let trusted = if self.exact { TRUSTED_EXACT } else { TRUSTED };
        (trusted * self.units.top() * self.inputs.top()).max(f64::MIN_POSITIVE)
    }

    /// The coordinates of `r: [units, width]` in the eigenvectors, transposed: `[width, units]`.
    pub(super) fn rotate(&self, residual: &[f64]) -> Vec<f64> {
        let (units, width) = (self.units.values.len(), self.inputs.values.len());
        let r = View::new(residual, units, width);
        let rotated = self.units.vectors().map(|u| matmul_shared(u, r));
        let r = rotated.as_ref().map_or(r, |rotated| View::new(rotated, units, width));
        self.inputs.to_coordinates(r.t())
    }

    /// The inverse of [`KroneckerFactors::rotate`].
    pub(super) fn rotate_back(&self, hat: &[f64]) -> Vec<f64> {
        let (units, width) = (self.units.values.len(), self.inputs.values.len());
        let r = self.inputs.recompose(View::new(hat, width, units));
        self.units.recompose(View::new(&r, width, units).t())
    }
}
