//! Which rows of the data each round saw, minibatches of any size.

use std::ops::Range;

/// The rows of the data in each round's minibatch, one round after the other. Rounds count from 0 here.
///
/// The last minibatch of an epoch is often a short one, and sizes may change while training goes on. The loss of a round is the mean over its
/// *own* minibatch (`docs/theory.md`, section 1).
///
/// ```
/// use taylorscope::data::RoundRows;
///
/// let mut rounds = RoundRows::uniform(vec![4, 0, 2, 1], 2);
/// assert_eq!(rounds.round(1), [2, 1]);
/// assert_eq!(rounds.is_uniform(), Some(2));
/// rounds.push(&[3]);
/// assert_eq!((rounds.len(), rounds.largest(), rounds.is_uniform()), (3, 2, None));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoundRows {
    /// Of all rounds, one behind the other.
    rows: Vec<u32>,
    /// Where the rows of each round end.
    ends: Vec<usize>,
    /// Datapoints of the largest round.
    largest: usize,
}

impl RoundRows {
    /// No rounds yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rounds of `batch` rows each; rows that do not fill a last minibatch are dropped.
    ///
    /// # Panics
    /// If `batch` is 0.
    pub fn uniform(mut rows: Vec<u32>, batch: usize) -> Self {
        let rounds = rows.len() / batch;
        rows.truncate(rounds * batch);
        Self { rows, ends: (1..=rounds).map(|n| n * batch).collect(), largest: if rounds == 0 { 0 } else { batch } }
    }

    /// Rounds of the given sizes.
    ///
    /// # Errors
    /// Gives the rows back if there are not as many as the sizes say.
    pub fn of_sizes(rows: Vec<u32>, sizes: impl IntoIterator<Item = usize>) -> Result<Self, Vec<u32>> {
        let mut end = Some(0usize);
        let ends: Option<Vec<usize>> = sizes
            .into_iter()
            .map(|size| {
                end = end.and_then(|end| end.checked_add(size));
                end
            })
            .collect();
        match ends {
            Some(ends) if ends.last().copied().unwrap_or(0) == rows.len() => {
                let mut all = Self { rows, ends, largest: 0 };
                all.largest = all.sizes().max().unwrap_or(0);
                Ok(all)
            }
            _ => Err(rows),
        }
    }

    /// Adds the minibatch of the next round.
    pub fn push(&mut self, rows: &[u32]) {
        self.rows.extend_from_slice(rows);
        self.ends.push(self.rows.len());
        self.largest = self.largest.max(rows.len());
    }

    /// Number of rounds.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The minibatch of round `n`.
    pub fn round(&self, n: usize) -> &[u32] {
        &self.rows[self.span(n)]
    }

    /// Where the rows of round `n` stand among those of all rounds.
    pub fn span(&self, n: usize) -> Range<usize> {
        self.start(n)..self.ends[n]
    }

    /// How many rows stand before those of round `n`, which may be the number of rounds.
    pub fn start(&self, n: usize) -> usize {
        if n == 0 { 0 } else { self.ends[n - 1] }
    }

    /// The minibatches, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        (0..self.len()).map(|n| self.round(n))
    }

    /// Datapoints of each round.
    pub fn sizes(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        (0..self.len()).map(|n| self.span(n).len())
    }

    /// Datapoints of the largest round; 0 without rounds.
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// What a datapoint of round `n` counts for in a sum that is divided by `len() * largest()`, so that the sum is the mean over rounds of the
    /// means over their minibatches: exactly 1 where sizes are equal.
    pub fn weight(&self, n: usize) -> f64 {
        self.largest as f64 / self.span(n).len() as f64
    }

    /// The size of all rounds, if they have one.
    pub fn is_uniform(&self) -> Option<usize> {
        let size = self.sizes().next()?;
        self.sizes().all(|other| other == size).then_some(size)
    }

    /// Keeps the first `rounds` rounds.
    pub fn truncate(&mut self, rounds: usize) {
        self.ends.truncate(rounds);
        self.rows.truncate(self.start(self.ends.len()));
        self.largest = self.sizes().max().unwrap_or(0);
    }

    /// The rows of all rounds, one behind the other.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed() -> RoundRows {
        let mut rounds = RoundRows::new();
        [&[7, 1, 1][..], &[2], &[0, 3]].into_iter().for_each(|rows| rounds.push(rows));
        rounds
    }

    #[test]
    fn rounds_of_any_size_stand_one_behind_the_other() {
        let rounds = mixed();
        assert_eq!((rounds.len(), rounds.largest(), rounds.is_uniform()), (3, 3, None));
        assert_eq!(rounds.sizes().collect::<Vec<_>>(), [3, 1, 2]);
        assert_eq!(rounds.rows(), [7, 1, 1, 2, 0, 3]);
        assert_eq!(rounds.round(1), [2]);
        assert_eq!((rounds.span(2), rounds.start(3)), (4..6, 6));
        assert!(rounds.iter().eq([&[7, 1, 1][..], &[2], &[0, 3]]));
    }

    #[test]
    fn equal_rounds_are_uniform_however_they_were_made() {
        let uniform = RoundRows::uniform(vec![5, 4, 3, 2, 1], 2);
        assert_eq!(uniform.is_uniform(), Some(2));
        assert_eq!(uniform.rows(), [5, 4, 3, 2]);
        let mut pushed = RoundRows::new();
        pushed.push(&[5, 4]);
        pushed.push(&[3, 2]);
        assert_eq!(pushed, uniform);
        assert_eq!(RoundRows::of_sizes(vec![5, 4, 3, 2], [2, 2]), Ok(uniform));
    }

    #[test]
    fn weighted_sums_over_datapoints_are_means_over_rounds() {
        let rounds = mixed();
        let value = |row: u32| f64::from(row).exp();
        let sum: f64 =
            (0..3).map(|n| rounds.weight(n) * rounds.round(n).iter().map(|row| value(*row)).sum::<f64>()).sum();
        let mean = |rows: &[u32]| rows.iter().map(|row| value(*row)).sum::<f64>() / rows.len() as f64;
        let expected = rounds.iter().map(mean).sum::<f64>() / 3.0;
        assert!((sum / (3 * rounds.largest()) as f64 - expected).abs() < 1e-12 * expected);
        let equal = RoundRows::uniform(vec![1; 12], 3);
        assert!((0..4).all(|n| equal.weight(n) == 1.0));
    }

    #[test]
    fn no_rounds_have_no_size() {
        let none = RoundRows::new();
        assert!(none.is_empty());
        assert_eq!((none.largest(), none.is_uniform(), none.start(0)), (0, None, 0));
        assert_eq!(RoundRows::uniform(vec![1], 2), none);
    }

    #[test]
    fn rows_that_do_not_fit_their_sizes_come_back() {
        assert_eq!(RoundRows::of_sizes(vec![7, 1, 1, 2, 0, 3], [3, 1, 2]), Ok(mixed()));
        assert_eq!(RoundRows::of_sizes(vec![7, 1], [3]), Err(vec![7, 1]));
        assert_eq!(RoundRows::of_sizes(vec![7, 1], [1]), Err(vec![7, 1]));
        assert_eq!(RoundRows::of_sizes(vec![7], []), Err(vec![7]));
        assert_eq!(RoundRows::of_sizes(vec![7], [usize::MAX, 2]), Err(vec![7]));
    }

    #[test]
    fn a_cut_drops_rounds_from_the_end() {
        let mut rounds = mixed();
        rounds.truncate(5);
        assert_eq!(rounds, mixed());
        rounds.truncate(1);
        assert_eq!((rounds.rows(), rounds.is_uniform()), (&[7, 1, 1][..], Some(3)));
        rounds.truncate(0);
        assert_eq!(rounds, RoundRows::new());
    }
}
