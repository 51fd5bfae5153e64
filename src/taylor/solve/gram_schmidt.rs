//! Orthogonalization against a few vectors.

use crate::num::{axpy, dot};

/// Makes `v` orthogonal to the orthonormal vectors of `basis` by modified Gram-Schmidt; returns what was taken away along each of them.
///
/// Done twice, which is enough for vectors that are orthogonal up to rounding (Parlett, "The symmetric eigenvalue problem", section 6.9).
pub(crate) fn orthogonalize<'a>(basis: impl Iterator<Item = &'a [f64]> + Clone, v: &mut [f64]) -> Vec<f64> {
    let mut along: Vec<f64> = Vec::new();
    for pass in 0..2 {
        for (i, q) in basis.clone().enumerate() {
            let overlap = dot(q, v);
            axpy(-overlap, q, v);
            if pass == 0 {
                along.push(overlap);
            } else {
                along[i] += overlap;
            }
        }
    }
    along
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::norm;

    #[test]
    fn nearly_dependent_vectors_become_orthogonal_to_rounding() {
        let first = [0.6, 0.0, 0.8];
        let second = [0.0, 1.0, 0.0];
        // All but a millionth lies in the span of the two.
        let mut v = [3.0 * 0.6 + 1e-6 * 0.8, -2.0, 3.0 * 0.8 - 1e-6 * 0.6];
        let along = orthogonalize([&first[..], &second[..]].into_iter(), &mut v);
        assert!((along[0] - 3.0).abs() < 1e-14 && along[1] == -2.0, "{along:?}");
        assert!((norm(&v) - 1e-6).abs() < 1e-14);
        assert!(dot(&first, &v).abs() < 1e-20 && dot(&second, &v).abs() < 1e-20);
    }
}
