//! Sums over long vectors in `f32`, in `f64` and in fixed pieces, so that they do not depend on the number of threads.

use crate::{
    kernels::{View, matmul},
    num::{
        convert,
        pieces::{Cut, add_in_pieces},
    },
};
use rayon::prelude::*;

/// Coordinates per piece of work.
const SHARE: usize = 4096;

/// `<b, v>` for every vector.
pub(super) fn dots(vectors: &[Vec<f32>], v: &[f64]) -> Vec<f64> {
    vectors
        .par_iter()
        .map(|b| {
            crate::num::vectorized(
                #[inline(always)]
                || {
                    let mut sums = [0.0f64; 16];
                    let (chunks_b, chunks_v) = (b.chunks_exact(16), v.chunks_exact(16));
                    let rest: f64 =
                        chunks_b.remainder().iter().zip(chunks_v.remainder()).map(|(b, v)| f64::from(*b) * v).sum();
                    for (b, v) in chunks_b.zip(chunks_v) {
                        for (sum, (b, v)) in sums.iter_mut().zip(b.iter().zip(v)) {
                            *sum += f64::from(*b) * v;
                        }
                    }
                    sums.iter().sum::<f64>() + rest
                },
            )
        })
        .collect()
}

/// The lower triangle of all inner products `<a_i, b_j>`, symmetrized, in `f64`.
pub(super) fn inner_products(a: &[Vec<f32>], b: &[Vec<f32>]) -> Vec<Vec<f64>> {
    let (k, length) = (a.len(), a.first().map_or(0, Vec::len));
    let mut total = vec![0.0; k * k];
    add_in_pieces(&mut total, length, Cut::Every(SHARE), |range| {
        let gather = |vectors: &[Vec<f32>]| -> Vec<f64> {
            vectors.iter().flat_map(|v| v[range.clone()].iter().map(|x| f64::from(*x))).collect()
        };
        let (left, right) = (gather(a), gather(b));
        let mut out = vec![0.0; k * k];
        let (left, right) = (View::new(&left, k, range.len()), View::new(&right, k, range.len()));
        matmul(&mut out, k, left, right.t(), false);
        out
    });
    lower_triangle(k, &total)
}

/// [`inner_products`] to the precision of `f32`, at less than half the cost.
pub(super) fn rough_inner_products(a: &[Vec<f32>], b: &[Vec<f32>]) -> Vec<Vec<f64>> {
    let (k, length) = (a.len(), a.first().map_or(0, Vec::len));
    let mut total = vec![0.0; k * k];
    add_in_pieces(&mut total, length, Cut::Every(SHARE), |range| {
        let gather = |vectors: &[Vec<f32>]| vectors.iter().map(|v| &v[range.clone()]).collect::<Vec<_>>().concat();
        let (left, right): (Vec<f32>, Vec<f32>) = (gather(a), gather(b));
        let mut out = vec![0.0; k * k];
        let (left, right) = (View::new(&left, k, range.len()), View::new(&right, k, range.len()));
        matmul(&mut out, k, left, right.t(), false);
        convert(&out)
    });
    lower_triangle(k, &total)
}

/// Rows of growing length, symmetrized.
fn lower_triangle(k: usize, square: &[f64]) -> Vec<Vec<f64>> {
    let at = |i: usize, j: usize| 0.5 * (square[i * k + j] + square[j * k + i]);
    (0..k).map(|i| (0..=i).map(|j| at(i, j)).collect()).collect()
}

/// `out += factor * sum_j coefficients[j] vectors[j]`.
pub(super) fn combine(vectors: &[Vec<f32>], coefficients: &[f64], factor: f64, out: &mut [f64]) {
    out.par_chunks_mut(SHARE).enumerate().for_each(|(s, out)| {
        crate::num::vectorized(
            #[inline(always)]
            || {
                for (vector, coefficient) in vectors.iter().zip(coefficients) {
                    let scale = factor * coefficient;
                    for (o, v) in out.iter_mut().zip(&vector[s * SHARE..]) {
                        *o += scale * f64::from(*v);
                    }
                }
            },
        );
    });
}
