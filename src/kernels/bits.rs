//! Packed bits and the popcount of their conjunction.

use crate::num::simd;

/// Number of 64-bit words that `bits` bits take.
pub fn words(bits: usize) -> usize {
    bits.div_ceil(64)
}

/// Packs `active(i)` for `i in 0..bits` into words, bit `i % 64` of word `i / 64`; unused bits are 0.
pub fn pack(bits: usize, mut active: impl FnMut(usize) -> bool) -> Vec<u64> {
    let mut packed = vec![0u64; words(bits)];
    for i in 0..bits {
        packed[i / 64] |= u64::from(active(i)) << (i % 64);
    }
    packed
}

/// `popcount(a AND b)`: on how many datapoints both are active.
#[inline(always)]
pub fn and_count(a: &[u64], b: &[u64]) -> u64 {
    a.iter().zip(b).map(|(a, b)| u64::from((a & b).count_ones())).sum()
}

/// The co-activation Gram matrix `G[n, k] = popcount(row_n AND row_k)` of `rows` packed rows of `words` words each,
/// row-major `[rows, rows]`.
///
/// Uses the machine's popcount (AVX-512 VPOPCNTDQ or POPCNT) where there is one; the count is exact either way.
///
/// # Panics
/// If `packed` has another length than `rows * words`.
pub fn gram(packed: &[u64], rows: usize, words: usize) -> Vec<u64> {
    assert_eq!(packed.len(), rows * words, "shapes differ");
    #[cfg(target_arch = "x86_64")]
    if simd::counts_bits_by_512() {
        // SAFETY: the machine has the instructions, and the length was checked.
        return unsafe { avx512::gram(packed, rows, words) };
    }
    simd::vectorized(
        #[inline(always)]
        || gram_by_rows(packed, rows, words),
    )
}

#[inline(always)]
fn gram_by_rows(packed: &[u64], rows: usize, words: usize) -> Vec<u64> {
    let row = |n: usize| &packed[n * words..(n + 1) * words];
    let mut gram = vec![0u64; rows * rows];
    for n in 0..rows {
        for k in 0..=n {
            let count = and_count(row(n), row(k));
            gram[n * rows + k] = count;
            gram[k * rows + n] = count;
        }
    }
    gram
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    /// Words of a vector register.
    const LANES: usize = 8;
    /// Rows of a block: four against four others are 16 counts for 8 loads, all in registers.
    const BLOCK: usize = 4;
    /// Words of a row that are counted before the next ones: those of two blocks stay in the first-level cache.
    const PANEL: usize = 256;

    /// [`super::gram`] in blocks of rows.
    ///
    /// # Safety
    /// Needs AVX-512F and VPOPCNTDQ, and `packed` of `rows * words` words.
    #[target_feature(enable = "avx512f,avx512vpopcntdq")]
    pub unsafe fn gram(packed: &[u64], rows: usize, words: usize) -> Vec<u64> {
        let mut gram = vec![0u64; rows * rows];
        for panel in (0..words).step_by(PANEL) {
            let length = PANEL.min(words - panel);
            // Behind the last row, the last row again: its counts are not used.
            let block = |first: usize| -> [&[u64]; BLOCK] {
                std::array::from_fn(|i| &packed[(first + i).min(rows - 1) * words + panel..][..length])
            };
            for first in (0..rows).step_by(BLOCK) {
                for second in (0..=first).step_by(BLOCK) {
                    // SAFETY: the caller has the features; all slices have the same length.
                    let counts = unsafe { counts(block(first), block(second)) };
                    for (n, counts) in (first..rows).zip(counts) {
                        for (k, count) in (second..=n).zip(counts) {
                            gram[n * rows + k] += count;
                        }
                    }
                }
            }
        }
        for n in 0..rows {
            for k in 0..n {
                gram[k * rows + n] = gram[n * rows + k];
            }
        }
        gram
    }

    /// `popcount(a AND b)` for all pairs of a row of `left` and a row of `right`.
    ///
    /// # Safety
    /// Needs AVX-512F and VPOPCNTDQ, and rows of equal length.
    #[target_feature(enable = "avx512f,avx512vpopcntdq")]
    unsafe fn counts(left: [&[u64]; BLOCK], right: [&[u64]; BLOCK]) -> [[u64; BLOCK]; BLOCK] {
        let mut sums = [[_mm512_setzero_si512(); BLOCK]; BLOCK];
        let length = left[0].len();
        for word in (0..length).step_by(LANES) {
            let mask = if length - word >= LANES { 0xff } else { (1u8 << (length - word)) - 1 };
            let mut b = [_mm512_setzero_si512(); BLOCK];
            // Loops, not closures: those would be called without the features.
            for (b, row) in b.iter_mut().zip(right) {
                // SAFETY: the mask leaves out what lies behind the end of the row.
                *b = unsafe { _mm512_maskz_loadu_epi64(mask, row.as_ptr().add(word).cast()) };
            }
            for (sums, row) in sums.iter_mut().zip(left) {
                // SAFETY: as above.
                let a = unsafe { _mm512_maskz_loadu_epi64(mask, row.as_ptr().add(word).cast()) };
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum = _mm512_add_epi64(*sum, _mm512_popcnt_epi64(_mm512_and_si512(a, b)));
                }
            }
        }
        let mut counts = [[0; BLOCK]; BLOCK];
        for (counts, sums) in counts.iter_mut().zip(sums) {
            for (count, sum) in counts.iter_mut().zip(sums) {
                *count = _mm512_reduce_add_epi64(sum) as u64;
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gram_matrix_counts_common_bits_on_every_instruction_set() {
        simd::on_every_instruction_set(every_pair_is_counted);
    }

    fn every_pair_is_counted() {
        let bit = |n: usize, i: usize| (n * 31 + i * i * 7 + i / 3) % 5 < 2;
        // Whole and broken blocks of rows and vectors of words.
        for (rows, bits) in [(9, 200), (1, 64), (4, 512), (5, 513), (8, 1100), (3, 1), (0, 100)] {
            let packed: Vec<u64> = (0..rows).flat_map(|n| pack(bits, |i| bit(n, i))).collect();
            let found = gram(&packed, rows, words(bits));
            for n in 0..rows {
                for k in 0..rows {
                    let expected = (0..bits).filter(|i| bit(n, *i) && bit(k, *i)).count() as u64;
                    assert_eq!(found[n * rows + k], expected);
                }
            }
        }
    }
}
