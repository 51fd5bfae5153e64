//! Closed form of the output layer under the mean squared error.
//!
//! Its curvature is `I (x) S` with `S = (2/K) mean x x'` the same for every output, so in the eigenvectors of `S` the gradient
//! `C: [outputs, width]` decouples into columns. A column moves along itself only, and the problem is that of one
//! diagonal quadratic in `width` coordinates whose linear term holds the columns' lengths.

use super::window::Window;
use crate::{
    kernels::Symmetric,
    taylor::{
        Optimum,
        settings::{ClosedForm, RegretSettings},
        solve::{Hessian, Quadratic},
        tracker::UnitRecord,
        unit::Comparator,
    },
};
use faer::{Mat, MatRef, Side, linalg::solvers::SelfAdjointEigen};

/// The optima of the output layer for the given prefixes; `None` if the eigenvectors could not be computed.
pub(crate) fn optima(
    window: &Window<f64>,
    prefixes: &[usize],
    settings: &RegretSettings,
    record: &dyn Fn(usize) -> UnitRecord,
    tick: &dyn Fn(usize),
) -> Option<Vec<(Comparator, usize, Optimum)>> {
    let l = window.network().output_index();
    let block = &window.network().blocks()[l];
    let (outputs, width) = (block.units, block.width());
    let terms = window.linear_terms(prefixes, l..l + 1);
    let mut moments = vec![0.0; width * width];
    let mut from = 0;
    let comparators = settings.comparators.of(ClosedForm::Yes);
    let mut warm = vec![None; comparators.len()];
    let mut found = Vec::new();
    for (rounds, (constant, linear)) in prefixes.iter().zip(&terms) {
        for round in &window.output_moments[from..*rounds] {
            moments.iter_mut().zip(round).for_each(|(sum, s)| *sum += s);
        }
        from = *rounds;
        let rows = rounds * window.rows().largest();
        let columns = Columns::new(&moments, 2.0 / (outputs * rows) as f64, linear, *rounds as f64)?;
        let quadratic =
            Quadratic { hessian: &columns.hessian, linear: &columns.lengths, constant: constant / *rounds as f64 };
        let record = record(*rounds);
        for (comparator, warm) in comparators.iter().zip(&mut warm) {
            let comparison = settings.comparison(*comparator, record.displacement);
            let (mut optimum, multiplier) =
                quadratic.minimize(comparison, settings.tolerance * record.mean_loss, *warm);
            *warm = Some(multiplier);
            optimum.displacement = columns.weights(&optimum.displacement);
            found.push((*comparator, *rounds, optimum));
        }
        tick(*rounds);
    }
    Some(found)
}

/// The problem of a prefix in the eigenvectors `U` of `S: [width, width]`.
struct Columns {
    eigen: SelfAdjointEigen<f64>,
    /// `C U: [outputs, width]`, summed over the rounds.
    columns: Mat<f64>,
    rounds: f64,
    /// The lengths of the columns of the mean over the rounds: the linear term.
    lengths: Vec<f64>,
    /// The eigenvalues of `S`.
    hessian: Hessian,
}

impl Columns {
    /// `S` is `scale` times the moments, and `linear` the gradient `C` at `W^1`, summed over `rounds`.
    fn new(moments: &[f64], scale: f64, linear: &[f64], rounds: f64) -> Option<Self> {
        let width = moments.len().isqrt();
        let eigen = SelfAdjointEigen::new(MatRef::from_row_major_slice(moments, width, width), Side::Lower).ok()?;
        let mut curvature = Symmetric::zeros(width);
        for (j, value) in eigen.S().column_vector().iter().enumerate() {
            curvature.row_mut(j)[0] = (value * scale).max(0.0);
        }
        let columns = MatRef::from_row_major_slice(linear, linear.len() / width, width) * eigen.U();
        let lengths: Vec<f64> = (0..width).map(|j| columns.col(j).norm_l2() / rounds).collect();
        Some(Self { eigen, columns, rounds, lengths, hessian: Hessian::new(curvature) })
    }

    /// The displacement `[outputs, width]` of the weights that moves each column along itself by `steps[j]`.
    fn weights(&self, steps: &[f64]) -> Vec<f64> {
        let (outputs, width) = (self.columns.nrows(), self.columns.ncols());
        let along = |i: usize, j: usize| match self.lengths[j] {
            0.0 => 0.0,
            length => self.columns[(i, j)] / (length * self.rounds) * steps[j],
        };
        let weights = Mat::from_fn(outputs, width, along) * self.eigen.U().transpose();
        (0..outputs * width).map(|at| weights[(at / width, at % width)]).collect()
    }
}
