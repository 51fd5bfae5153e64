//! Which learning rates to try next, given the losses of those that were tried.

use serde::{Deserialize, Serialize};

/// The first grid: these multiples of the powers of ten from the first to the last exponent.
const MULTIPLES: [f64; 2] = [1.0, 3.0];
const EXPONENTS: std::ops::RangeInclusive<i32> = -4..=0;
/// The grid grows beyond its ends while the best rate lies there, up to these limits.
const LIMITS: (f64, f64) = (1e-9, 1e4);

/// What a search found for one optimizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuned {
    pub optimizer: String,
    /// The best rate with a margin to those that diverge; `None` if there is none.
    pub learning_rate: Option<f64>,
    /// Mean over the seeds of the final training loss at that rate.
    pub train_loss: Option<f64>,
    /// Rates tried.
    pub rates: usize,
    /// Whether the best rate lies at an end of the range searched, so that a better one may lie beyond.
    pub at_end: bool,
}

/// The search of one rate: which to try next, given the values so far.
#[derive(Clone, Debug)]
pub(super) struct RateSearch {
    /// Rates with their values, by rate; `None` where training diverged.
    tried: Vec<(f64, Option<f64>)>,
    /// Halvings of the spacing that are left.
    refinements: usize,
}

impl RateSearch {
    pub fn new(refinements: usize) -> Self {
        Self { tried: Vec::new(), refinements }
    }

    pub fn tell(&mut self, rate: f64, value: Option<f64>) {
        self.tried.push((rate, value));
        self.tried.sort_by(|a, b| a.0.total_cmp(&b.0));
    }

    /// How many of `tried` lie below the first rate that diverges.
    fn stable(&self) -> usize {
        self.tried.iter().position(|(_, value)| value.is_none()).unwrap_or(self.tried.len())
    }

    /// The index of the best of the first `count` rates; of equal ones the smallest.
    fn best_of(&self, count: usize) -> Option<usize> {
        let finite =
            self.tried[..count].iter().enumerate().filter_map(|(at, (_, value))| value.map(|value| (at, value)));
        finite.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
    }

    /// The index of the best stable rate, around which to search.
    fn best(&self) -> Option<usize> {
        self.best_of(self.stable())
    }

    /// The index of the rate to recommend: the best that has another stable one between it and divergence.
    fn recommended(&self) -> Option<usize> {
        let stable = self.stable();
        self.best_of(if stable < self.tried.len() { stable.saturating_sub(1) } else { stable })
    }

    /// Whether nothing was tried on one side of rate `at`.
    fn is_end(&self, at: usize) -> bool {
        at == 0 || at + 1 == self.tried.len()
    }

    /// The rates to try next; none when the search is over.
    pub fn next(&self) -> Vec<f64> {
        let Some((lowest, highest)) = self.tried.first().zip(self.tried.last()).map(|(a, b)| (a.0, b.0)) else {
            return EXPONENTS.flat_map(|e| MULTIPLES.map(|m| two_digits(m * 10f64.powi(e)))).collect();
        };
        let below = || -> Vec<f64> { [lowest / 10.0 * 3.0, lowest / 10.0].map(two_digits).to_vec() };
        let above = || -> Vec<f64> { [highest / 3.0 * 10.0, highest * 10.0].map(two_digits).to_vec() };
        match self.best() {
            None | Some(0) if lowest > LIMITS.0 => below(),
            None => Vec::new(),
            Some(at) if at + 1 == self.tried.len() && highest < LIMITS.1 => above(),
            Some(at) => self.between(at),
        }
    }

    /// The geometric means of the best rate and its neighbours, as often as refinements are left.
    fn between(&self, at: usize) -> Vec<f64> {
        // The grid has a spacing of about a half decade; each refinement halves it around the best.
        let spacing = |a: f64, b: f64| (b / a).log10();
        let finest = 0.5 / 2f64.powi(self.refinements as i32);
        let neighbours = [at.checked_sub(1), Some(at + 1)].into_iter().flatten().filter_map(|i| self.tried.get(i));
        neighbours
            .map(|(rate, _)| (rate.min(self.tried[at].0), rate.max(self.tried[at].0)))
            .filter(|(low, high)| spacing(*low, *high) > 1.5 * finest)
            .map(|(low, high)| two_digits((low * high).sqrt()))
            .filter(|rate| self.tried.iter().all(|(tried, _)| tried != rate))
            .collect()
    }

    pub fn result(&self, label: &str) -> Tuned {
        let best = self.recommended();
        Tuned {
            optimizer: label.to_owned(),
            learning_rate: best.map(|at| self.tried[at].0),
            train_loss: best.and_then(|at| self.tried[at].1),
            rates: self.tried.len(),
            at_end: best.is_none_or(|at| self.is_end(at)),
        }
    }
}

/// `rate` with this many significant digits: tables and files then show the very rate that was used, and no digits that only
/// rounding made.
pub fn rounded(rate: f64, digits: usize) -> f64 {
    format!("{rate:.*e}", digits - 1).parse().unwrap_or(rate)
}

/// The rates of a search have two significant digits.
fn two_digits(rate: f64) -> f64 {
    rounded(rate, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches the minimum of a function of the rate.
    fn search(refinements: usize, value: impl Fn(f64) -> Option<f64>) -> (Tuned, RateSearch) {
        let mut search = RateSearch::new(refinements);
        for _ in 0..100 {
            let next = search.next();
            if next.is_empty() {
                return (search.result("x"), search);
            }
            for rate in next {
                assert!(search.tried.iter().all(|(tried, _)| *tried != rate), "{rate} is tried twice");
                search.tell(rate, value(rate));
            }
        }
        panic!("the search does not end");
    }

    #[test]
    fn the_best_rate_is_found_to_the_spacing_asked_for() {
        for target in [0.0007, 0.02, 0.4] {
            for refinements in [0, 1, 2, 3] {
                let (tuned, _) = search(refinements, |rate| Some((rate / target).ln().powi(2)));
                let off = (tuned.learning_rate.unwrap() / target).log10().abs();
                // Half of the final spacing, with room for two digits.
                let allowed = 0.6 * 0.53 / 2f64.powi(refinements as i32) + 0.03;
                assert!(off <= allowed, "{target}, {refinements} refinements: off by {off} decades");
                assert!(!tuned.at_end);
            }
        }
    }

    #[test]
    fn the_grid_grows_towards_a_best_rate_beyond_it() {
        for target in [2e-7, 300.0] {
            let (tuned, _) = search(2, |rate| Some((rate / target).ln().powi(2)));
            assert!((tuned.learning_rate.unwrap() / target).log10().abs() < 0.15, "{tuned:?}");
        }
        let (tuned, search) = search(1, |rate| Some(-rate));
        assert!(tuned.at_end && tuned.learning_rate.unwrap() >= 1e4, "a search without a minimum ends at its limit");
        assert!(search.tried.len() < 40);
    }

    #[test]
    fn rates_that_diverge_are_never_best() {
        let (tuned, _) = search(2, |rate| (rate < 0.05).then(|| -rate));
        assert!(tuned.learning_rate.unwrap() < 0.05 && tuned.learning_rate.unwrap() >= 0.03);
        let (tuned, _) = search(2, |_| None);
        assert_eq!((tuned.learning_rate, tuned.at_end), (None, true));
        let (tuned, _) = search(0, |rate| (rate < 1e-6).then_some(1.0));
        assert!(tuned.learning_rate.unwrap() < 1e-6, "smaller rates are tried where all diverge");
    }

    #[test]
    fn rates_at_the_edge_of_divergence_are_not_recommended() {
        // A better loss beyond rates that diverge is luck of the seeds.
        let island = |rate: f64| (!(0.5..2.0).contains(&rate)).then(|| -rate);
        let (tuned, found) = search(2, island);
        let stable: Vec<f64> = found.tried.iter().map(|(rate, _)| *rate).filter(|rate| *rate < 0.5).collect();
        assert!(found.tried.iter().any(|(rate, value)| *rate >= 2.0 && value.is_some()), "the island was seen");
        assert_eq!(tuned.learning_rate, Some(stable[stable.len() - 2]), "one stable rate is left as a margin");
        assert!(tuned.learning_rate.unwrap() > 0.25);
        // Where the best rate lies far below, divergence of large ones changes nothing.
        let valley = |rate: f64| (rate < 0.5).then(|| (rate / 0.003).ln().powi(2));
        assert_eq!(search(2, valley).0.learning_rate, Some(0.003));
    }

    #[test]
    fn rates_have_two_digits() {
        assert_eq!([0.0173205, 3.0000000000000004e-3, 1.0].map(two_digits), [0.017, 0.003, 1.0]);
        assert_eq!(rounded(0.05500000000000001, 4), 0.055);
    }
}
