//! Square roots of curvatures: matrices `R` with `R' R` the curvature of a datapoint.

use crate::num::Real;

/// A factor `R` of a curvature `R' R` per datapoint.
#[derive(Clone, Copy, Debug)]
pub enum Factor<'a, T> {
    /// `scale * I`, the same for all datapoints.
    Identity { scale: T },
    /// `[rank, units]`, the same for all datapoints.
    Shared { values: &'a [T], rank: usize },
    /// `[rows, rank, units]`.
    PerRow { values: &'a [T], rank: usize },
}

impl<T: Real> Factor<'_, T> {
    /// The diagonal of `R' R` per row, `q[i, u] = sum_r R[i, r, u]^2`: `out: [rows, units]`.
    pub fn diagonal(&self, rows: usize, units: usize, out: &mut Vec<T>) {
        out.clear();
        out.resize(rows * units, T::ZERO);
        let (values, stride, rank) = match *self {
            Factor::Identity { scale } => return out.fill(scale * scale),
            Factor::Shared { values, rank } => (values, 0, rank),
            Factor::PerRow { values, rank } => (values, rank * units, rank),
        };
        for (i, q) in out.chunks_exact_mut(units).enumerate() {
            for line in values[i * stride..i * stride + rank * units].chunks_exact(units) {
                for (q, r) in q.iter_mut().zip(line) {
                    *q += *r * *r;
                }
            }
        }
    }
}
