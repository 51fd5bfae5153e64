//! Which rows each round of training sees.
//!
//! Every epoch visits the rows in a new order and drops the rows that do not fill a last
//! minibatch. The order is a function of the seed and the number of the epoch alone, so a run can
//! resume at any round, and two optimizers with the same seed see the same data.
//!
//! # The random stream
//!
//! The orders are part of what a seed means, so they are fixed here down to the bit rather than
//! left to a shuffling function that may change between versions of a library:
//!
//! - ChaCha with 8 rounds; its 32-byte key is the seed, 8 bytes little-endian, followed by the
//!   24 bytes `"taylorscope minibatches\0"`; its 64-bit stream number is the epoch; its block
//!   counter begins at 0.
//! - The rows `0, 1, ..., len - 1` are shuffled by Fisher and Yates' method (D. E. Knuth, The Art
//!   of Computer Programming, vol. 2, 3.4.2, algorithm P): for `i` from `len - 1` down to 1,
//!   entry `i` is exchanged with entry `j`, uniform in `0..=i`.
//! - A number below `b` is drawn by D. Lemire's method (Fast random integer generation in an
//!   interval, ACM TOMACS 29(1), 2019): the high half of `x * b` for a 32-bit word `x`, drawn
//!   again while the low half is below `2^32 mod b`.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use thiserror::Error;

/// Keeps this stream apart from any other use of the same seed.
const STREAM_NAME: [u8; 24] = *b"taylorscope minibatches\0";

/// The minibatches of a training run over `len` rows.
///
/// ```
/// use taylorscope::data::Minibatches;
///
/// let minibatches = Minibatches::new(1500, 64, 0)?;
/// assert_eq!(minibatches.rounds_per_epoch(), 23);
/// assert_eq!(minibatches.round(1)?, minibatches.epoch(0)[..64]);
/// # Ok::<(), taylorscope::data::MinibatchError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minibatches {
    len: u32,
    batch_size: usize,
    seed: u64,
}

impl Minibatches {
    /// Minibatches of `batch_size` out of `len` rows.
    ///
    /// # Errors
    ///
    /// If `batch_size` is 0 or more than `len`, or if rows cannot be numbered in 32 bits.
    pub fn new(len: usize, batch_size: usize, seed: u64) -> Result<Self, MinibatchError> {
        if batch_size == 0 {
            return Err(MinibatchError::ZeroBatchSize);
        }
        if batch_size > len {
            return Err(MinibatchError::BatchSizeTooLarge { batch_size, len });
        }
        let Ok(len) = u32::try_from(len) else {
            return Err(MinibatchError::TooManyRows { len });
        };
        Ok(Self { len, batch_size, seed })
    }

    /// The rows in a minibatch.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// The full minibatches in an epoch, at least 1.
    pub fn rounds_per_epoch(&self) -> usize {
        self.len as usize / self.batch_size
    }

    /// The order of the rows in epoch `epoch`, counted from 0: a permutation of `0..len`.
    ///
    /// Its first `rounds_per_epoch() * batch_size()` entries are the minibatches of the epoch, one
    /// after the other; the rest is dropped.
    pub fn epoch(&self, epoch: usize) -> Vec<u32> {
        let mut rng = self.stream(epoch);
        let mut order: Vec<u32> = (0..self.len).collect();
        for i in (1..self.len).rev() {
            let j = below(&mut rng, i + 1);
            order.swap(i as usize, j as usize);
        }
        order
    }

    /// The epoch, counted from 0, of round `round`, counted from 1.
    ///
    /// # Errors
    ///
    /// If `round` is 0.
    pub fn epoch_of(&self, round: usize) -> Result<usize, MinibatchError> {
        let before = round.checked_sub(1).ok_or(MinibatchError::RoundZero)?;
        Ok(before / self.rounds_per_epoch())
    }

    /// The rows of round `round`, counted from 1: `[batch_size]`.
    ///
    /// It shuffles the whole epoch; to go through many rounds, use
    /// [`rounds_from`](Self::rounds_from).
    ///
    /// # Errors
    ///
    /// If `round` is 0.
    pub fn round(&self, round: usize) -> Result<Vec<u32>, MinibatchError> {
        let order = self.epoch(self.epoch_of(round)?);
        Ok(self.rows_in(&order, round - 1).to_vec())
    }

    /// The rows of round `first`, counted from 1, and of the rounds after it, without end.
    ///
    /// # Errors
    ///
    /// If `first` is 0.
    pub fn rounds_from(&self, first: usize) -> Result<Rounds, MinibatchError> {
        Ok(Rounds { minibatches: *self, order: self.epoch(self.epoch_of(first)?), before: first - 1 })
    }

    /// The minibatch after `before` rounds, out of the order of its epoch.
    fn rows_in<'order>(&self, order: &'order [u32], before: usize) -> &'order [u32] {
        let place = before % self.rounds_per_epoch();
        &order[place * self.batch_size..][..self.batch_size]
    }

    fn stream(&self, epoch: usize) -> ChaCha8Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..].copy_from_slice(&STREAM_NAME);
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(epoch as u64);
        rng
    }
}

/// The rows of one round after another; see [`Minibatches::rounds_from`].
///
/// It shuffles once an epoch.
#[derive(Clone, Debug)]
pub struct Rounds {
    minibatches: Minibatches,
    /// The order of the epoch that the next round belongs to.
    order: Vec<u32>,
    /// The rounds before the next one.
    before: usize,
}

impl Iterator for Rounds {
    type Item = Vec<u32>;

    fn next(&mut self) -> Option<Vec<u32>> {
        let rows = self.minibatches.rows_in(&self.order, self.before).to_vec();
        self.before += 1;
        let rounds_per_epoch = self.minibatches.rounds_per_epoch();
        if self.before.is_multiple_of(rounds_per_epoch) {
            self.order = self.minibatches.epoch(self.before / rounds_per_epoch);
        }
        Some(rows)
    }
}

/// A number uniform in `0..bound`, for a `bound` above 0.
fn below(rng: &mut ChaCha8Rng, bound: u32) -> u32 {
    let unfair = bound.wrapping_neg() % bound;
    loop {
        let product = u64::from(rng.next_u32()) * u64::from(bound);
        // The low half tells whether this word is one of the few too many of some result.
        if product as u32 >= unfair {
            return (product >> 32) as u32;
        }
    }
}

/// Why there are no such minibatches.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MinibatchError {
    /// A minibatch without rows.
    #[error("the batch size is 0; set it to at least 1")]
    ZeroBatchSize,
    /// Not even one minibatch.
    #[error("the batch size {batch_size} exceeds the {len} rows of training data; set it to at most {len}")]
    BatchSizeTooLarge {
        /// The batch size asked for.
        batch_size: usize,
        /// The number of rows.
        len: usize,
    },
    /// Rows are numbered in 32 bits.
    #[error("{len} rows are more than can be numbered in 32 bits; use fewer")]
    TooManyRows {
        /// The number of rows.
        len: usize,
    },
    /// Rounds are counted from 1.
    #[error("there is no round 0; rounds are counted from 1")]
    RoundZero,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(mut rows: Vec<u32>) -> Vec<u32> {
        rows.sort_unstable();
        rows
    }

    #[test]
    fn every_epoch_is_a_permutation() {
        for len in [1, 2, 3, 64, 1797] {
            let minibatches = Minibatches::new(len, 1, 5).unwrap();
            for epoch in [0, 1, 2, usize::MAX] {
                let all: Vec<u32> = (0..len as u32).collect();
                assert_eq!(sorted(minibatches.epoch(epoch)), all);
            }
        }
    }

    #[test]
    fn seed_and_epoch_both_change_the_order_and_nothing_else_does() {
        let of = |seed, epoch| Minibatches::new(100, 7, seed).unwrap().epoch(epoch);
        assert_eq!(of(1, 2), of(1, 2));
        assert_ne!(of(1, 2), of(1, 3));
        assert_ne!(of(1, 2), of(2, 2));
        assert_ne!(of(1, 2), of(2, 1));
        let other_size = Minibatches::new(100, 13, 1).unwrap();
        assert_eq!(of(1, 2), other_size.epoch(2));
    }

    #[test]
    fn the_orders_are_those_of_the_documented_stream() {
        // From an independent program (Python) written after the module's documentation.
        let minibatches = Minibatches::new(10, 3, 7).unwrap();
        assert_eq!(minibatches.epoch(0), [5, 0, 9, 1, 3, 2, 6, 7, 4, 8]);
        assert_eq!(minibatches.epoch(1), [3, 0, 1, 2, 8, 5, 6, 4, 7, 9]);
        // Beyond one block of the stream, and with numbers that need all of their 64 bits.
        #[cfg(target_pointer_width = "64")]
        assert_eq!(
            Minibatches::new(40, 1, 7).unwrap().epoch((1 << 40) + 3),
            [
                6, 12, 0, 32, 21, 36, 38, 33, 9, 34, 28, 35, 22, 37, 1, 39, 8, 25, 2, 27, 14, 15, 5, 13, 20, 18, 29,
                24, 17, 16, 11, 3, 4, 10, 7, 31, 23, 19, 26, 30
            ]
        );
        assert_eq!(
            Minibatches::new(40, 1, (1 << 63) + 9).unwrap().epoch(0),
            [
                13, 21, 8, 33, 19, 14, 6, 30, 2, 9, 35, 11, 12, 4, 36, 15, 23, 37, 31, 1, 0, 32, 39, 7, 27, 24, 5, 18,
                34, 10, 26, 28, 25, 22, 16, 20, 3, 17, 29, 38
            ]
        );
    }

    #[test]
    fn rounds_cut_the_epoch_and_drop_its_incomplete_end() {
        let minibatches = Minibatches::new(10, 3, 0).unwrap();
        assert_eq!(minibatches.rounds_per_epoch(), 3);
        assert_eq!(minibatches.batch_size(), 3);
        let (first, second) = (minibatches.epoch(0), minibatches.epoch(1));
        assert_eq!(minibatches.round(1).unwrap(), first[..3]);
        assert_eq!(minibatches.round(3).unwrap(), first[6..9]);
        assert_eq!(minibatches.round(4).unwrap(), second[..3]);
        let epochs: Vec<usize> = (1..=7).map(|n| minibatches.epoch_of(n).unwrap()).collect();
        assert_eq!(epochs, [0, 0, 0, 1, 1, 1, 2]);
    }

    #[test]
    fn a_run_can_resume_at_any_round() {
        for (len, batch_size) in [(10, 3), (9, 3), (4, 4), (5, 4), (3, 1)] {
            let minibatches = Minibatches::new(len, batch_size, 11).unwrap();
            let whole: Vec<_> = minibatches.rounds_from(1).unwrap().take(20).collect();
            for first in 1..=20 {
                assert_eq!(minibatches.round(first).unwrap(), whole[first - 1]);
                let rest = minibatches.rounds_from(first).unwrap();
                assert!(rest.take(21 - first).eq(whole[first - 1..].iter().cloned()));
            }
        }
    }

    #[test]
    fn all_orders_are_equally_likely() {
        // 24 orders of 4 rows, 24,000 epochs: chi-squared with 23 degrees of freedom, whose
        // 99.99th percentile is 55.6. The seed is fixed, so the test cannot fail by bad luck.
        let minibatches = Minibatches::new(4, 1, 2024).unwrap();
        let mut counts = std::collections::BTreeMap::new();
        for epoch in 0..24_000 {
            *counts.entry(minibatches.epoch(epoch)).or_insert(0.0) += 1.0;
        }
        assert_eq!(counts.len(), 24);
        let chi_squared: f64 = counts.values().map(|count: &f64| (count - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi_squared < 55.6, "{chi_squared}");
    }

    #[test]
    fn draws_below_a_large_bound_are_fair() {
        // Of the 2^32 words a quarter is one too many; kept, they would make every third result
        // (0, 3, 6, ...) twice as likely as the others.
        let mut rng = Minibatches::new(1, 1, 0).unwrap().stream(0);
        let mut counts = [0; 3];
        for _ in 0..3000 {
            counts[(below(&mut rng, 3 << 30) % 3) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn impossible_sizes_and_round_zero_are_refused() {
        assert_eq!(Minibatches::new(10, 0, 0), Err(MinibatchError::ZeroBatchSize));
        assert_eq!(Minibatches::new(0, 0, 0), Err(MinibatchError::ZeroBatchSize));
        assert_eq!(Minibatches::new(10, 11, 0), Err(MinibatchError::BatchSizeTooLarge { batch_size: 11, len: 10 }));
        assert!(Minibatches::new(10, 10, 0).is_ok());
        #[cfg(target_pointer_width = "64")]
        assert_eq!(Minibatches::new(1 << 32, 1, 0), Err(MinibatchError::TooManyRows { len: 1 << 32 }));
        let minibatches = Minibatches::new(10, 3, 0).unwrap();
        assert_eq!(minibatches.round(0), Err(MinibatchError::RoundZero));
        assert!(minibatches.rounds_from(0).is_err());
    }
}
