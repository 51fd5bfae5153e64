//! The curvature of a hidden block that is left when the output block follows: the Schur complement of the output block.
//!
//! At network scale the output block goes along with the hidden ones ([`crate::taylor::chain::network`]), and a hidden block feels only the curvature that
//! the output block cannot take over. With `x` the block's inputs, `h` those of the output block and `J` the output Jacobian, it is modelled by
//!
//! `S = mean M (x) mean x x' - c (mean J)'(mean J) (x) (mean x h') (mean h h')^-1 (mean h x')`,
//!
//! `c` the curvature of the loss in the output. The second term has low rank in the inputs, so its inverse costs little more than
//! the first's. It halves the products of a search.

use super::{
    cache::Recent,
    kronecker::{Eigen, KroneckerFactors, TRUSTED},
    moments::SharedMoments,
};
use crate::kernels::{View, matmul_shared};

/// Inputs that share less than this of their variance with the output block's inputs share nothing.
const SMALLEST_SHARE: f64 = 1e-9;
/// The output block takes over at most this share of a direction's curvature: both shares are estimates.
const LARGEST_SHARE: f64 = 0.999;
/// Shifts that a block keeps decompositions for: those that two searches go through.
const SHIFTS: usize = 6;

/// The second term of `S`, in the eigenvectors of the block's own factors.
pub(super) struct SchurComplement {
    /// `c (mean J)'(mean J)`: `[units, units]`.
    units: Vec<f64>,
    /// `B: [width, inner]` with `B B' = (mean x h') (mean h h')^-1 (mean h x')`.
    roots: Vec<f64>,
    /// Width of the output block.
    inner: usize,
    /// For the shifts of the last systems.
    decompositions: Recent<Decomposition, SHIFTS>,
}

/// `S` for one shift, in the symbols of [`SchurComplement::solve`].
struct Decomposition {
    /// The inverses of `L` and `R`, which are diagonal in the eigenvectors of the factors.
    left: Vec<f64>,
    right: Vec<f64>,
    /// The `u_i` as rows, and `mu`.
    u: Vec<f64>,
    mu: Vec<f64>,
    /// The `v_j` as rows, and `nu`.
    v: Vec<f64>,
    nu: Vec<f64>,
}

/// The nearest power of two.
fn rounded(positive: f64) -> f64 {
    positive.log2().round().exp2()
}

/// Rows times their factors.
fn scaled(rows: &[f64], factors: &[f64]) -> Vec<f64> {
    let rows = rows.chunks_exact(rows.len() / factors.len()).zip(factors);
    rows.flat_map(|(row, factor)| row.iter().map(move |v| v * factor)).collect()
}

impl SchurComplement {
    /// What a block with `factors` shares with the output block; `scale` is 1 over the datapoints of a prefix.
    pub(super) fn new(
        shared: &SharedMoments,
        factors: &KroneckerFactors,
        output: &KroneckerFactors,
        scale: f64,
    ) -> Option<Self> {
        let (u, v, w) = (factors.units.vectors()?, factors.inputs.vectors()?, output.inputs.vectors()?);
        let (units, width, inner) =
            (factors.units.values.len(), factors.inputs.values.len(), output.inputs.values.len());
        let outputs = shared.jacobian.len() / units;
        let jacobian = matmul_shared(View::new(&shared.jacobian, outputs, units), u.t());
        let jacobian = View::new(&jacobian, outputs, units);
        let mut square = matmul_shared(jacobian.t(), jacobian);
        let mean = 1.0 / shared.count.max(1) as f64;
        square.iter_mut().for_each(|v| *v *= output.units.top() * mean * mean);
        let roots = matmul_shared(v, View::new(&shared.x, width, inner));
        let mut roots = matmul_shared(View::new(&roots, width, inner), w.t());
        let floor = TRUSTED * output.inputs.top();
        let inverse_root = |value: &f64| if *value > floor { scale / value.sqrt() } else { 0.0 };
        let inverse_roots: Vec<f64> = output.inputs.values.iter().map(inverse_root).collect();
        for row in roots.chunks_exact_mut(inner) {
            row.iter_mut().zip(&inverse_roots).for_each(|(v, factor)| *v *= factor);
        }
        Some(Self { units: square, roots, inner, decompositions: Recent::default() })
    }

    /// `(S + shift I)^-1 r` for `r: [units, width]`; `None` where the shares cannot be told apart from rounding.
    ///
    /// The shift goes to both factors (Martens and Grosse, "Optimizing neural networks with Kronecker-factored approximate
    /// curvature", 2015, section 6.3), so that the sum of two products is diagonal in one basis: with `M + d_m = L L'` and `X + d_x = R R'`,
    /// `S = (L (x) R) (I - sum_ij mu_i nu_j (u_i v_j)(u_i v_j)') (L (x) R)'`, where `mu, u` are the eigenvalues and eigenvectors of
    /// `L^-1 c (mean J)'(mean J) L'^-1`, and `nu, v` those of `R^-1 B B' R'^-1`, of which there are few.
    ///
    /// The shift is rounded to a power of two, so that the searches of a prefix share its decomposition.
    pub(super) fn solve(&self, factors: &KroneckerFactors, shift: f64, residual: &[f64]) -> Option<Vec<f64>> {
        let shift = rounded(shift + factors.floor());
        let decomposition = self.decompositions.get_or_make(shift, || self.decompose(factors, shift))?;
        let Decomposition { left, right, u, mu, v, nu } = &*decomposition;
        let (count, width, inner) = (left.len(), right.len(), nu.len());
        let (u, v) = (View::new(u, count, count), View::new(v, inner, width));
        let scale = |hat: &mut [f64]| {
            for (row, r) in hat.chunks_exact_mut(count).zip(right) {
                row.iter_mut().zip(left).for_each(|(h, l)| *h *= l * r);
            }
        };
        let mut hat = factors.rotate(residual);
        scale(&mut hat);
        // The inverse of the middle is I + sum_ij t / (1 - t) (u_i v_j)(u_i v_j)' with t = mu_i nu_j.
        let core = matmul_shared(v, View::new(&hat, width, count));
        let mut core = matmul_shared(View::new(&core, inner, count), u.t());
        for (row, nu) in core.chunks_exact_mut(count).zip(nu) {
            for (c, mu) in row.iter_mut().zip(mu) {
                let taken = (mu * nu).clamp(0.0, LARGEST_SHARE);
                *c *= taken / (1.0 - taken);
            }
        }
        let core = matmul_shared(View::new(&core, inner, count), u);
        let taken = matmul_shared(v.t(), View::new(&core, inner, count));
        hat.iter_mut().zip(&taken).for_each(|(h, t)| *h += t);
        scale(&mut hat);
        Some(factors.rotate_back(&hat))
    }

    fn decompose(&self, factors: &KroneckerFactors, shift: f64) -> Option<Decomposition> {
        let (count, width, inner) = (factors.units.values.len(), factors.inputs.values.len(), self.inner);
        let ratio = (factors.inputs.mean() / factors.units.mean()).sqrt();
        let damping = shift.sqrt();
        if !(ratio > 0.0 && ratio.is_finite() && damping > 0.0) {
            return None;
        }
        let inverse_root = |values: &[f64], damping: f64| -> Vec<f64> {
            values.iter().map(|value| 1.0 / (value + damping).sqrt()).collect()
        };
        let left = inverse_root(&factors.units.values, damping / ratio);
        let right = inverse_root(&factors.inputs.values, damping * ratio);
        let b = scaled(&self.roots, &right);
        let b = View::new(&b, width, inner);
        let mut m = scaled(&self.units, &left);
        m.chunks_exact_mut(count).for_each(|row| row.iter_mut().zip(&left).for_each(|(v, l)| *v *= l));
        let (inputs, units) =
            rayon::join(|| Eigen::new(&matmul_shared(b.t(), b), inner, 1.0), || Eigen::new(&m, count, 1.0));
        let v = matmul_shared(inputs.vectors()?, b.t());
        let factor = |nu: &f64| if *nu > SMALLEST_SHARE { 1.0 / nu.sqrt() } else { 0.0 };
        let v = scaled(&v, &inputs.values.iter().map(factor).collect::<Vec<f64>>());
        let u = units.vectors()?.to_vec();
        Some(Decomposition { left, right, u, mu: units.values, v, nu: inputs.values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernels::matmul, taylor::precondition::moments::Moments};
    use faer::{
        Mat,
        linalg::solvers::{PartialPivLu, Solve},
    };

    /// Row-major `[rows, cols]` without structure.
    fn wave(rows: usize, cols: usize, frequency: f64) -> Vec<f64> {
        (0..rows * cols).map(|i| (i as f64 * frequency).sin()).collect()
    }

    fn gram(values: &[f64], rows: usize, cols: usize) -> Vec<f64> {
        let mut out = vec![0.0; cols * cols];
        matmul(&mut out, cols, View::new(values, rows, cols).t(), View::new(values, rows, cols), false);
        out
    }

    #[test]
    fn the_schur_complement_is_inverted_as_a_dense_matrix() {
        // Inputs x of a hidden block and h of the output block over 40 datapoints, of which half the Jacobians' square is their mean's.
        let (units, width, inner, outputs, rows) = (3, 5, 4, 6, 40);
        let (x, h) = (wave(rows, width, 0.37), wave(rows, inner, 0.71));
        let jacobian = wave(outputs, units, 0.53);
        let scale = 1.0 / rows as f64;
        let mut cross = vec![0.0; width * inner];
        matmul(&mut cross, inner, View::new(&x, rows, width).t(), View::new(&h, rows, inner), false);
        let mut output = Moments::zero(outputs, inner);
        (output.x, output.multiple, output.curved) = (gram(&h, rows, inner), 0.25 * rows as f64, rows);
        output.rows = rows;
        let output = output.factors(true);
        let mut hidden =
            Moments { m: gram(&jacobian, outputs, units), curved: rows, rows, ..Moments::zero(units, width) };
        hidden.m.iter_mut().for_each(|v| *v *= 2.0 * 0.25 * rows as f64);
        hidden.x = gram(&x, rows, width);
        let shared = SharedMoments {
            x: cross.clone(),
            jacobian: jacobian.iter().map(|v| v * rows as f64).collect(),
            count: rows,
        };
        let factors = hidden.factors(false);
        let schur = SchurComplement::new(&shared, &factors, &output, scale).expect("all factors have eigenvectors");

        let shift = 1e-3;
        let residual = wave(units, width, 1.9);
        let found = schur.solve(&factors, shift, &residual).expect("the shares are large");

        // The same from its definition: M (x) X with the shift shared out, less c J'J (x) (x h') (h h')^-1 (h x').
        let dense = |values: &[f64], n: usize, factor: f64| Mat::from_fn(n, n, |i, j| values[i * n + j] * factor);
        let (mut m, mut big) = (dense(&hidden.m, units, scale), dense(&hidden.x, width, scale));
        let hh = dense(&gram(&h, rows, inner), inner, scale);
        let xh = Mat::from_fn(width, inner, |i, j| cross[i * inner + j] * scale);
        let taken = &xh * PartialPivLu::new(hh.as_ref()).solve(xh.transpose().to_owned());
        let trace = |a: &Mat<f64>| (0..a.nrows()).map(|i| a[(i, i)]).sum::<f64>() / a.nrows() as f64;
        let ratio = (trace(&big) / trace(&m)).sqrt();
        let damping = rounded(shift + factors.floor()).sqrt();
        (0..units).for_each(|i| m[(i, i)] += damping / ratio);
        (0..width).for_each(|i| big[(i, i)] += damping * ratio);
        let square = gram(&jacobian, outputs, units);
        let system = Mat::from_fn(units * width, units * width, |a, b| {
            let ((i, k), (j, l)) = ((a / width, a % width), (b / width, b % width));
            m[(i, j)] * big[(k, l)] - 0.25 * square[i * units + j] * taken[(k, l)]
        });
        let expected = PartialPivLu::new(system.as_ref()).solve(Mat::from_fn(units * width, 1, |i, _| residual[i]));
        for (i, value) in found.iter().enumerate() {
            assert!((value - expected[(i, 0)]).abs() < 1e-8 * expected.norm_max(), "{i}: {value} {}", expected[(i, 0)]);
        }
        // The same once more, from the decomposition that is kept, and with another shift in between.
        let other = schur.solve(&factors, 64.0 * shift, &residual).expect("the shares are large");
        assert!(other != found && schur.solve(&factors, shift, &residual) == Some(found.clone()));
        // It is not the inverse without the output block.
        let alone = factors.solve(shift, &residual);
        assert!(alone.iter().zip(&found).any(|(a, b)| (a - b).abs() > 0.05 * expected.norm_max()));
    }
}
