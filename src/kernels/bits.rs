//! Packed bits and the popcount of their conjunction.

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
#[inline]
pub fn and_count(a: &[u64], b: &[u64]) -> u64 {
    a.iter().zip(b).map(|(a, b)| u64::from((a & b).count_ones())).sum()
}

/// The co-activation Gram matrix `G[n, k] = popcount(row_n AND row_k)` of `rows` packed rows of `words` words each,
/// row-major `[rows, rows]`.
///
/// Uses the machine's popcount (AVX-512 VPOPCNTDQ or POPCNT) where there is one; the count is exact either way.
pub fn gram(packed: &[u64], rows: usize, words: usize) -> Vec<u64> {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512vpopcntdq") && is_x86_feature_detected!("avx512f") {
            // SAFETY: the features were just detected.
            return unsafe { gram_avx512(packed, rows, words) };
        }
        if is_x86_feature_detected!("popcnt") {
            // SAFETY: the feature was just detected.
            return unsafe { gram_popcnt(packed, rows, words) };
        }
    }
    gram_portable(packed, rows, words)
}

#[inline(always)]
fn gram_portable(packed: &[u64], rows: usize, words: usize) -> Vec<u64> {
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
#[target_feature(enable = "avx512f,avx512vpopcntdq,popcnt")]
fn gram_avx512(packed: &[u64], rows: usize, words: usize) -> Vec<u64> {
    gram_portable(packed, rows, words)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
fn gram_popcnt(packed: &[u64], rows: usize, words: usize) -> Vec<u64> {
    gram_portable(packed, rows, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gram_matrix_counts_common_bits() {
        let bit = |n: usize, i: usize| (n * 31 + i * i * 7 + i / 3) % 5 < 2;
        let bits = 200;
        let packed: Vec<u64> = (0..9).flat_map(|n| pack(bits, |i| bit(n, i))).collect();
        let fast = gram(&packed, 9, words(bits));
        assert_eq!(fast, gram_portable(&packed, 9, words(bits)));
        for n in 0..9 {
            for k in 0..9 {
                let expected = (0..bits).filter(|i| bit(n, *i) && bit(k, *i)).count() as u64;
                assert_eq!(fast[n * 9 + k], expected);
            }
        }
    }
}
