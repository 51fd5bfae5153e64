//! How many rounds an epoch has, by the rows that come back.

use crate::data::RoundRows;
use std::collections::HashSet;

/// Rounds until the rows of the data have been seen once; `None` if rows do not come back as those of epochs do, or if rounds are
/// missing.
///
/// An epoch ends before the first round that sees a row again; or, of a data set that holds a few rows twice, before the first most of
/// whose rows were seen. Either is one only if fewer rows are left than a minibatch holds, which is what dropping the last one leaves,
/// and if rows do not come back within the epochs behind it. Rows that are drawn with replacement come back long before that.
/// Where both are possible and differ, nothing is said.
pub(super) fn rounds_per_epoch(numbers: &[usize], batches: &RoundRows) -> Option<usize> {
    let all_kept = numbers.iter().enumerate().all(|(at, number)| *number == at + 1);
    if !all_kept {
        return None;
    }
    let rows = batches.rows().iter().copied().collect::<HashSet<u32>>().len();
    let mut seen = HashSet::new();
    let mut candidates = [None; 2];
    for (at, round) in batches.iter().enumerate() {
        let again = round.iter().filter(|row| seen.contains(*row)).count();
        for (candidate, ends) in candidates.iter_mut().zip([again > 0, 2 * again > round.len()]) {
            *candidate = candidate.or(ends.then_some(at));
        }
        if candidates[1].is_some() {
            break;
        }
        seen.extend(round.iter().copied());
    }
    let [first, most] = candidates.map(|candidate| candidate.filter(|rounds| is_epoch(*rounds, rows, batches)));
    match (first, most) {
        (Some(first), Some(most)) if first != most => None,
        _ => first.or(most),
    }
}

/// Whether `rounds` rounds can be an epoch of a data set in which there are so many different rows.
fn is_epoch(rounds: usize, rows: usize, batches: &RoundRows) -> bool {
    if rounds == 0 {
        return false;
    }
    let different = |from: usize| {
        let to = batches.len().min(from + rounds);
        let all = &batches.rows()[batches.start(from)..batches.start(to)];
        (all.iter().copied().collect::<HashSet<u32>>().len(), all.len())
    };
    let ((first, length), least) = (different(0), batches.largest());
    let repeats = length - first;
    let behind = (rounds..batches.len()).step_by(rounds).map(different);
    rows - first < least && behind.map(|(different, all)| all - different).all(|again| again < repeats + least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(rounds: &[&[u32]]) -> Option<usize> {
        let mut batches = RoundRows::new();
        rounds.iter().for_each(|rows| batches.push(rows));
        rounds_per_epoch(&(1..=rounds.len()).collect::<Vec<_>>(), &batches)
    }

    #[test]
    fn epochs_end_where_rows_come_back() {
        assert_eq!(epoch(&[&[0, 1], &[2, 3], &[4], &[4, 1], &[0, 3], &[2]]), Some(3));
        // The last minibatch dropped: row 6 comes in the second epoch.
        assert_eq!(epoch(&[&[0, 1, 2], &[3, 4, 5], &[6, 1, 0], &[5, 3, 2]]), Some(2));
        // The whole data in each round, one round an epoch.
        assert_eq!(epoch(&[&[0, 1], &[0, 1]]), Some(1));
        // A row that the data set has twice.
        assert_eq!(epoch(&[&[0, 1], &[2, 0], &[3, 4], &[5, 6], &[6, 3], &[0, 4], &[2, 0], &[1, 5]]), Some(4));
    }

    #[test]
    fn nothing_is_said_where_rows_do_not_come_back_so() {
        // Augmented, and less than an epoch.
        assert_eq!(epoch(&[&[0, 1], &[2, 3]]), None);
        // Two rounds of which the last was dropped, or three.
        assert_eq!(epoch(&[&[0, 1], &[2, 3], &[4, 1], &[0, 3]]), None);
        // With replacement.
        assert_eq!(epoch(&[&[0, 1], &[0, 1], &[2, 3], &[4, 5], &[6, 7]]), None);
        let mut batches = RoundRows::new();
        [[0, 1], [2, 3], [1, 0]].iter().for_each(|rows| batches.push(rows));
        assert_eq!(rounds_per_epoch(&[1, 2, 3], &batches), Some(2));
        assert_eq!(rounds_per_epoch(&[1, 3, 5], &batches), None);
    }
}
