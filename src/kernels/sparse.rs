//! Products of a sparse matrix with a dense one: each row of the result is a short combination of rows.
//!
//! `out[i, :] (+)= sum_k value_k rows[index_k, :]` over the entries `(index_k, value_k)` of list `i`. The columns are taken in blocks so narrow that
//! the sums of a row stay in registers and the rows of a block in the first-level cache: an entry then costs one load and one
//! fused multiply-add per vector, about as fast per operation as a dense product.

use super::Real;

/// An entry of a sparse row: where it stands, and its value.
pub type Entry<T> = (u32, T);

/// Columns of the widest block. Its rows may be read this far beyond their end, so buffers of rows have as much behind them.
pub const SLACK: usize = 80;

/// Rows to combine: `width` columns each, `stride` elements apart, with [`SLACK`] readable elements behind the last.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T> {
    pub data: &'a [T],
    pub stride: usize,
    pub width: usize,
}

/// `out[i, :] += sum_k value_k rows[index_k, :]`, or `=` unless `accumulate`; row `i` of `out` begins at `i * out_stride`.
///
/// # Panics
/// If an index or the output lies outside.
pub fn combine<T: Real>(lists: &[Vec<Entry<T>>], rows: Rows<T>, out: &mut [T], out_stride: usize, accumulate: bool) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma") {
        // SAFETY: the features were just detected.
        return unsafe { columns_avx512(lists, rows, out, out_stride, accumulate) };
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the features were just detected.
        return unsafe { columns_avx2(lists, rows, out, out_stride, accumulate) };
    }
    // Fused where every machine can: elsewhere a fused multiply-add would be a call for every element.
    const FUSED: bool = cfg!(target_arch = "aarch64");
    columns::<T, FUSED>(lists, rows, out, out_stride, accumulate);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,fma")]
fn columns_avx512<T: Real>(lists: &[Vec<Entry<T>>], rows: Rows<T>, out: &mut [T], stride: usize, accumulate: bool) {
    columns::<T, true>(lists, rows, out, stride, accumulate);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn columns_avx2<T: Real>(lists: &[Vec<Entry<T>>], rows: Rows<T>, out: &mut [T], stride: usize, accumulate: bool) {
    columns::<T, true>(lists, rows, out, stride, accumulate);
}

/// The blocks of columns: as few elements as possible in all, in as wide blocks as possible.
#[inline(always)]
fn columns<T: Real, const FUSED: bool>(
    lists: &[Vec<Entry<T>>],
    rows: Rows<T>,
    out: &mut [T],
    out_stride: usize,
    accumulate: bool,
) {
    let padded = |lanes: &usize| (rows.width.next_multiple_of(*lanes), usize::MAX - lanes);
    match [16, 32, 48, 64, 80].into_iter().min_by_key(padded) {
        Some(16) => blocks::<T, 16, FUSED>(lists, rows, out, out_stride, accumulate),
        Some(32) => blocks::<T, 32, FUSED>(lists, rows, out, out_stride, accumulate),
        Some(48) => blocks::<T, 48, FUSED>(lists, rows, out, out_stride, accumulate),
        Some(64) => blocks::<T, 64, FUSED>(lists, rows, out, out_stride, accumulate),
        _ => blocks::<T, SLACK, FUSED>(lists, rows, out, out_stride, accumulate),
    }
}

#[inline(always)]
fn blocks<T: Real, const LANES: usize, const FUSED: bool>(
    lists: &[Vec<Entry<T>>],
    rows: Rows<T>,
    out: &mut [T],
    out_stride: usize,
    accumulate: bool,
) {
    for first in (0..rows.width).step_by(LANES) {
        let count = LANES.min(rows.width - first);
        let block = &rows.data[first..];
        for (list, out) in lists.iter().zip(out.chunks_mut(out_stride)) {
            let out = &mut out[first..first + count];
            let mut sums = [T::ZERO; LANES];
            if accumulate {
                sums[..count].copy_from_slice(out);
            }
            for (index, value) in list {
                let row = &block[*index as usize * rows.stride..][..LANES];
                for (sum, x) in sums.iter_mut().zip(row) {
                    *sum = if FUSED { value.mul_add(*x, *sum) } else { *sum + *value * *x };
                }
            }
            out.copy_from_slice(&sums[..count]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_agree_with_the_plain_sum() {
        for (width, keys, stride) in [(1, 3, 1), (9, 2, 16), (75, 5, 75), (80, 1, 90), (161, 4, 176), (144, 3, 150)] {
            let count = 11;
            let data: Vec<f64> = (0..count * stride + SLACK).map(|i| (i as f64 * 0.37).sin()).collect();
            let entry = |key: usize, k: usize| ((key * 5 + k * 3) as u32 % count as u32, (k as f64 * 0.7).cos());
            let lists: Vec<Vec<Entry<f64>>> =
                (0..keys).map(|key| (0..key * 2).map(|k| entry(key, k)).collect()).collect();
            let rows = Rows { data: &data, stride, width };
            let before: Vec<f64> = (0..keys * (width + 1)).map(|i| i as f64).collect();
            for accumulate in [false, true] {
                let mut fused = before.clone();
                combine(&lists, rows, &mut fused, width + 1, accumulate);
                let mut plain = before.clone();
                columns::<f64, false>(&lists, rows, &mut plain, width + 1, accumulate);
                for (key, list) in lists.iter().enumerate() {
                    for j in 0..width {
                        let at = key * (width + 1) + j;
                        let start = if accumulate { before[at] } else { 0.0 };
                        let sum: f64 = list.iter().map(|(i, v)| v * data[*i as usize * stride + j]).sum();
                        assert!((fused[at] - start - sum).abs() < 1e-12, "{width} {key} {j}");
                        assert!((plain[at] - start - sum).abs() < 1e-12, "{width} {key} {j}");
                    }
                    let behind = key * (width + 1) + width;
                    assert_eq!(fused[behind], before[behind], "what lies between rows must stay untouched");
                }
            }
        }
    }
}
