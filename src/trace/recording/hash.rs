//! A fast hash of 128 bits that tells rows of data apart. It withstands accidents, not adversaries: whoever records owns the data.

/// Odd numbers without pattern: the fractional parts of square roots of primes.
const KEYS: [u64; 4] = [0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1];

/// The state of a hash that takes bytes.
#[derive(Clone, Copy)]
pub(super) struct Hash {
    a: u64,
    b: u64,
}

/// Both halves of a product, one over the other.
fn fold(x: u64, y: u64) -> u64 {
    let product = u128::from(x) * u128::from(y);
    product as u64 ^ (product >> 64) as u64
}

impl Hash {
    pub fn new() -> Self {
        Self { a: KEYS[0], b: KEYS[1] }
    }

    /// Takes bytes in, and how many they are.
    pub fn update(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<16>();
        words.iter().for_each(|word| self.take(*word));
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        self.take(last);
        self.take((bytes.len() as u128).to_le_bytes());
    }

    /// The two halves multiply the words with different keys, and what was taken before is turned and kept beside the product, so that
    /// no factor 0 wipes it out.
    #[inline]
    fn take(&mut self, word: [u8; 16]) {
        let word = u128::from_le_bytes(word);
        let (low, high) = (word as u64, (word >> 64) as u64);
        self.a = fold(low ^ self.a, high ^ KEYS[2]).wrapping_add(self.a.rotate_left(29));
        self.b = fold(high ^ self.b, low ^ KEYS[3]).wrapping_add(self.b.rotate_left(37));
    }

    pub fn finish(self) -> u128 {
        let mixed = |x: u64, y: u64| fold(x ^ KEYS[1], y ^ KEYS[0]).wrapping_add(x);
        u128::from(mixed(self.a, self.b)) << 64 | u128::from(mixed(self.b, self.a))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn of(bytes: &[u8]) -> u128 {
        let mut hash = Hash::new();
        hash.update(bytes);
        hash.finish()
    }

    #[test]
    fn rows_that_differ_in_little_have_other_hashes() {
        let mut all = HashSet::new();
        let mut count = 0;
        let mut add = |bytes: &[u8]| {
            count += 1;
            all.insert(of(bytes));
        };
        // Lengths of zeros, every single bit, pairs of bits in the same and in different words, and swapped words.
        (0..200).for_each(|length| add(&vec![0; length]));
        for bit in 0..8 * 48 {
            let mut row = vec![0u8; 48];
            row[bit / 8] ^= 1 << (bit % 8);
            add(&row);
            for other in 0..bit {
                let mut pair = row.clone();
                pair[other / 8] ^= 1 << (other % 8);
                add(&pair);
            }
        }
        for (at, other) in (0..6).flat_map(|at| (0..at).map(move |other| (at, other))) {
            let mut row: Vec<u8> = (0..48).map(|i| i * 5 + 1).collect();
            (0..8).for_each(|byte| row.swap(8 * at + byte, 8 * other + byte));
            add(&row);
        }
        assert_eq!(all.len(), count);
        // Half of the bits of each half change.
        let flips: Vec<u32> =
            (0..64).map(|bit| (of(&(1u64 << bit).to_le_bytes()) ^ of(&[0; 8])).count_ones()).collect();
        let mean = f64::from(flips.iter().sum::<u32>()) / 64.0;
        assert!((56.0..72.0).contains(&mean), "{mean}");
    }

    #[test]
    fn parts_are_not_confused_with_each_other() {
        let of_two = |a: &[u8], b: &[u8]| {
            let mut hash = Hash::new();
            hash.update(a);
            hash.update(b);
            hash.finish()
        };
        assert_ne!(of_two(&[1], &[2, 3]), of_two(&[1, 2], &[3]));
        assert_ne!(of_two(&[], &[1]), of_two(&[1], &[]));
    }
}
