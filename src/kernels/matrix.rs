//! Products of matrices, on the `gemm` crate or without copies.

use super::{
    View,
    skinny::{self, Start},
};
use crate::num::{Real, fast_paths};
use rayon::prelude::*;
use std::ops::Range;

/// Columns of products that go without copies of their operands; fewer would waste vectors.
const NARROW: Range<usize> = 8..129;
/// Rows and terms of such products at most: in larger ones the copies pay.
const SMALL: usize = 128;

/// Shares of the rows that [`matmul_shared`] works on side by side; fixed, so that results do not depend on the threads.
const SHARES: usize = 8;

/// `lhs rhs`, row-major, on all threads: for large products of problems that come one at a time.
pub fn matmul_shared<T: Real>(lhs: View<T>, rhs: View<T>) -> Vec<T> {
    let mut out = vec![T::ZERO; lhs.rows * rhs.cols];
    if out.is_empty() {
        return out;
    }
    let share = lhs.rows.div_ceil(SHARES);
    out.par_chunks_mut(share * rhs.cols).with_max_len(1).enumerate().for_each(|(s, out)| {
        let rows = s * share..s * share + out.len() / rhs.cols;
        matmul(out, rhs.cols, lhs.rows(rows), rhs, false);
    });
    out
}

/// `out = lhs rhs`, or `out += lhs rhs` if `accumulate`; `out` is row-major with rows `out_stride` apart.
///
/// One thread. The result depends only on the arguments, so equal calls give equal bits.
///
/// # Panics
/// If the shapes do not fit.
pub fn matmul<T: Real>(out: &mut [T], out_stride: usize, lhs: View<T>, rhs: View<T>, accumulate: bool) {
    let (m, k, n) = (lhs.rows, lhs.cols, rhs.cols);
    assert_eq!(k, rhs.rows, "inner dimensions differ");
    if m == 0 || n == 0 {
        return;
    }
    assert!(n <= out_stride && (m - 1) * out_stride + n <= out.len(), "the output is too small");
    if k == 0 {
        if !accumulate {
            for row in out.chunks_mut(out_stride).take(m) {
                row[..n].fill(T::ZERO);
            }
        }
        return;
    }
    if fast_paths() && rhs.col_stride == 1 && NARROW.contains(&n) && m.max(k) <= SMALL {
        return skinny::sum_of_products(
            out,
            out_stride,
            &[(lhs, rhs)],
            if accumulate { Start::Out } else { Start::Zero },
        );
    }
    // SAFETY: the views checked on construction that their largest index lies inside their slices, the
    // assertions above check the same of `out`, `out` is uniquely borrowed, and all strides are positive.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            accumulate,
            lhs.data.as_ptr(),
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_rows_make_the_whole_product() {
        let (m, k, n) = (21, 5, 3);
        let a: Vec<f64> = (0..m * k).map(|i| (i as f64 * 0.37).sin()).collect();
        let b: Vec<f64> = (0..k * n).map(|i| (i as f64 * 0.71).cos()).collect();
        let at: Vec<f64> = (0..k * m).map(|i| a[i % m * k + i / m]).collect();
        let mut whole = vec![0.0; m * n];
        matmul(&mut whole, n, View::new(&a, m, k), View::new(&b, k, n), false);
        for lhs in [View::new(&a, m, k), View::new(&at, k, m).t()] {
            let found = matmul_shared(lhs, View::new(&b, k, n));
            assert!(found.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-14));
        }
        assert!(matmul_shared(View::<f64>::new(&[], 0, k), View::new(&b, k, n)).is_empty());
    }

    #[test]
    fn the_product_agrees_with_three_loops_on_strided_and_transposed_views() {
        let (m, k, n) = (5, 7, 3);
        let a: Vec<f64> = (0..m * (k + 2)).map(|i| (i as f64 * 0.37).sin()).collect();
        let b: Vec<f64> = (0..n * k).map(|i| (i as f64 * 0.71).cos()).collect();
        let mut out = vec![1.0; m * (n + 1)];
        matmul(&mut out, n + 1, View::strided(&a, m, k, k + 2), View::new(&b, n, k).t(), true);
        for i in 0..m {
            for j in 0..n {
                let expected: f64 = 1.0 + (0..k).map(|l| a[i * (k + 2) + l] * b[j * k + l]).sum::<f64>();
                assert!((out[i * (n + 1) + j] - expected).abs() < 1e-12);
            }
            assert_eq!(out[i * (n + 1) + n], 1.0, "the padding must stay untouched");
        }
    }

    #[test]
    fn products_without_copies_agree_with_those_with_copies() {
        // Around the limits between the two.
        for (m, k, n) in
            [(3, 5, 7), (3, 5, 8), (51, 128, 50), (128, 60, 128), (129, 60, 40), (20, 129, 40), (20, 30, 129)]
        {
            let a: Vec<f64> = (0..m * k).map(|i| (i as f64 * 0.37).sin()).collect();
            let b: Vec<f64> = (0..k * n).map(|i| (i as f64 * 0.71).cos()).collect();
            let bt: Vec<f64> = (0..n * k).map(|i| b[i % k * n + i / k]).collect();
            for accumulate in [false, true] {
                let mut plain = vec![0.5; m * n];
                let mut copied = plain.clone();
                matmul(&mut plain, n, View::new(&a, m, k), View::new(&b, k, n), accumulate);
                matmul(&mut copied, n, View::new(&a, m, k), View::new(&bt, n, k).t(), accumulate);
                assert!(plain.iter().zip(&copied).all(|(a, b)| (a - b).abs() < 1e-12), "{m} {k} {n}");
            }
        }
    }
}
