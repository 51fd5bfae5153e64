//! Products of a sparse matrix with a dense one: each row of the result is a short combination of rows.
//!
//! `out[i, :] (+)= sum_k value_k rows[index_k, :]` over the entries `(index_k, value_k)` of list `i`. The columns are taken in blocks so narrow that
//! the sums of a row stay in registers and the rows of a block in the first-level cache: an entry then costs one load and one
//! fused multiply-add per vector, about as fast per operation as a dense product.

use crate::num::{
    Real,
    simd::{Simd, WithSimd, compiled_here, fused},
};

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
pub fn combine_rows<T: Real>(
    lists: &[Vec<Entry<T>>],
    rows: Rows<T>,
    out: &mut [T],
    out_stride: usize,
    accumulate: bool,
) {
    T::by_type::<Combinations>(Call { lists, rows, out, out_stride, accumulate });
}

/// A call of [`combine_rows`].
struct Call<'a, T> {
    lists: &'a [Vec<Entry<T>>],
    rows: Rows<'a, T>,
    out: &'a mut [T],
    out_stride: usize,
    accumulate: bool,
}

compiled_here!(
    /// The forms of [`combine_rows`].
    Combinations<'a, T>: Call<'a, T>
);

/// In blocks of columns: as few elements as possible in all, in as wide blocks as possible.
impl<T: Real> WithSimd for Call<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let padded = |lanes: &usize| (self.rows.width.next_multiple_of(*lanes), usize::MAX - lanes);
        match [16, 32, 48, 64, 80].into_iter().min_by_key(padded) {
            Some(16) => blocks::<S, T, 16>(self),
            Some(32) => blocks::<S, T, 32>(self),
            Some(48) => blocks::<S, T, 48>(self),
            Some(64) => blocks::<S, T, 64>(self),
            _ => blocks::<S, T, SLACK>(self),
        }
    }
}

#[inline(always)]
fn blocks<S: Simd, T: Real, const LANES: usize>(call: Call<T>) {
    let Call { lists, rows, out, out_stride, accumulate } = call;
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
                    *sum = if fused::<S>() { value.mul_add(*x, *sum) } else { *sum + *value * *x };
                }
            }
            out.copy_from_slice(&sums[..count]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::simd::on_every_instruction_set;

    #[test]
    fn combinations_agree_with_the_plain_sum_on_every_instruction_set() {
        on_every_instruction_set(every_shape_agrees);
    }

    fn every_shape_agrees() {
        for (width, keys, stride) in [(1, 3, 1), (9, 2, 16), (75, 5, 75), (80, 1, 90), (161, 4, 176), (144, 3, 150)] {
            let count = 11;
            let data: Vec<f64> = (0..count * stride + SLACK).map(|i| (i as f64 * 0.37).sin()).collect();
            let entry = |key: usize, k: usize| ((key * 5 + k * 3) as u32 % count as u32, (k as f64 * 0.7).cos());
            let lists: Vec<Vec<Entry<f64>>> =
                (0..keys).map(|key| (0..key * 2).map(|k| entry(key, k)).collect()).collect();
            let rows = Rows { data: &data, stride, width };
            let before: Vec<f64> = (0..keys * (width + 1)).map(|i| i as f64).collect();
            for accumulate in [false, true] {
                let mut found = before.clone();
                combine_rows(&lists, rows, &mut found, width + 1, accumulate);
                for (key, list) in lists.iter().enumerate() {
                    for j in 0..width {
                        let at = key * (width + 1) + j;
                        let start = if accumulate { before[at] } else { 0.0 };
                        let sum: f64 = list.iter().map(|(i, v)| v * data[*i as usize * stride + j]).sum();
                        assert!((found[at] - start - sum).abs() < 1e-12, "{width} {key} {j}");
                    }
                    let behind = key * (width + 1) + width;
                    assert_eq!(found[behind], before[behind], "what lies between rows must stay untouched");
                }
            }
        }
    }
}
