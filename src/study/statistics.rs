//! Means and quantiles, and the statistics of paired seeds: Student's intervals and rank correlation.

use std::fmt;

use super::numbers::{number, significant};

/// Mean of the values; `None` without any.
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.into_iter().fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// Quantile `q` in `[0, 1]` by linear interpolation between order statistics; NaNs are left out.
pub fn quantile(values: impl IntoIterator<Item = f64>, q: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().filter(|value| !value.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let position = q.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    let share = position - below as f64;
    Some(if share == 0.0 { sorted[below] } else { sorted[below] * (1.0 - share) + sorted[above] * share })
}

/// Median of the values; `None` without any.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    quantile(values, 0.5)
}

/// Losses at the end of a run that count as its last ones.
const LAST: usize = 100;

/// Mean of the last 100 losses, or of all where there are fewer; `None` without any.
pub fn last_mean(losses: &[f64]) -> Option<f64> {
    mean(losses[losses.len().saturating_sub(LAST)..].iter().copied())
}

/// A mean over seeds with its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
    /// Number of values; with fewer than two the interval is all numbers.
    pub count: usize,
}

impl Interval {
    /// Student's 95% interval of the mean of independent values.
    pub fn of(values: &[f64]) -> Option<Interval> {
        let count = values.len();
        if count == 0 || values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        if count == 1 {
            return Some(Interval::of_mean(mean, f64::INFINITY, count));
        }
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1) as f64;
        Some(Interval::of_mean(mean, (variance / count as f64).sqrt(), count))
    }

    /// Student's 95% interval around `mean`, from its standard error over `count` values.
    pub fn of_mean(mean: f64, standard_error: f64, count: usize) -> Interval {
        let half = if count < 2 { f64::INFINITY } else { student_quantile(0.975, count - 1) * standard_error };
        Interval { mean, low: mean - half, high: mean + half, count }
    }

    /// The interval cut to values that are possible, such as -1 to 1 for a correlation.
    pub fn within(self, least: f64, most: f64) -> Interval {
        Interval { low: self.low.max(least), high: self.high.min(most), ..self }
    }

    /// Whether all of the interval lies above zero.
    pub fn is_positive(&self) -> bool {
        self.low > 0.0
    }

    /// Whether all of the interval lies below zero.
    pub fn is_negative(&self) -> bool {
        self.high < 0.0
    }
}

impl Interval {
    /// The interval as `mean ± half its length`.
    pub fn plus_minus(&self) -> String {
        format!("{} ± {}", number(self.mean), significant(0.5 * (self.high - self.low), 2))
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}, {}]", number(self.mean), number(self.low), number(self.high))
    }
}

/// The quantile `p` of Student's t distribution with `freedom` degrees of freedom, for `p` in (0.5, 1).
pub fn student_quantile(p: f64, freedom: usize) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while student_cdf(high, freedom) < p && high < 1e9 {
        high *= 2.0;
    }
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if student_cdf(middle, freedom) < p { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// The distribution function of Student's t for `t >= 0` and a whole number of degrees of freedom: a finite sum
/// (Abramowitz and Stegun, 26.7.3 and 26.7.4).
fn student_cdf(t: f64, freedom: usize) -> f64 {
    let theta = (t / (freedom as f64).sqrt()).atan();
    let (sine, cosine) = theta.sin_cos();
    let mut term = if freedom % 2 == 1 { cosine } else { 1.0 };
    let mut sum = 0.0;
    let mut k = if freedom % 2 == 1 { 1 } else { 0 };
    while k + 2 <= freedom {
        sum += term;
        term *= cosine * cosine * (k + 1) as f64 / (k + 2) as f64;
        k += 2;
    }
    let inside = if freedom % 2 == 1 { (theta + sine * sum) * std::f64::consts::FRAC_2_PI } else { sine * sum };
    0.5 + 0.5 * inside
}

/// Spearman's rank correlation of pairs; equal values share their mean rank. `None` with fewer than three pairs, or where
/// one side is constant.
pub fn rank_correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    if pairs.len() < 3 || pairs.iter().any(|(x, y)| x.is_nan() || y.is_nan()) {
        return None;
    }
    let x = ranks(pairs.iter().map(|pair| pair.0).collect());
    let y = ranks(pairs.iter().map(|pair| pair.1).collect());
    let middle = (pairs.len() + 1) as f64 / 2.0;
    let sum = |f: &dyn Fn(f64, f64) -> f64| x.iter().zip(&y).map(|(x, y)| f(x - middle, y - middle)).sum::<f64>();
    let scale = (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt();
    (scale > 0.0).then(|| sum(&|x, y| x * y) / scale)
}

/// Ranks from 1, equal values at their mean.
fn ranks(values: Vec<f64>) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for group in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let mean = first as f64 + (group.len() + 1) as f64 / 2.0;
        group.iter().for_each(|at| ranks[*at] = mean);
        first += group.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_and_skip_nan() {
        assert_eq!(median([3.0, 1.0, f64::NAN, 2.0]), Some(2.0));
        assert_eq!(median([1.0, 2.0]), Some(1.5));
        assert_eq!(quantile([0.0, 10.0], 0.25), Some(2.5));
        assert_eq!(median([f64::NAN]), None);
        assert_eq!(mean([]), None);
        let losses: Vec<f64> = (1..=150).map(f64::from).collect();
        assert_eq!((last_mean(&losses), last_mean(&losses[..3]), last_mean(&[])), (Some(100.5), Some(2.0), None));
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        // Two-sided 95% points, from any table of the distribution.
        let known =
            [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216), (30, 2.04227), (200, 1.97190)];
        for (freedom, point) in known {
            assert!((student_quantile(0.975, freedom) - point).abs() < 1e-4, "{freedom}");
        }
    }

    #[test]
    fn intervals_hold_their_mean_and_know_their_side() {
        let interval = Interval::of(&[1.0, 2.0, 3.0]).unwrap();
        // 2 +- 4.30265 / sqrt 3.
        assert!((interval.low - (2.0 - 2.484_138)).abs() < 1e-5 && (interval.high - 4.484_138).abs() < 1e-5);
        assert!(!interval.is_positive() && !interval.is_negative());
        assert!(Interval::of(&[5.0, 5.1, 4.9]).unwrap().is_positive());
        assert!(Interval::of(&[-5.0, -5.1]).unwrap().is_negative());
        assert!(!Interval::of(&[5.0]).unwrap().is_positive(), "one value proves nothing");
        assert_eq!(interval.plus_minus(), "2.00 ± 2.5");
        assert_eq!((Interval::of(&[]), Interval::of(&[f64::NAN])), (None, None));
    }

    #[test]
    fn rank_correlations_are_those_of_scipy() {
        let pairs = |x: &[f64], y: &[f64]| x.iter().copied().zip(y.iter().copied()).collect::<Vec<_>>();
        let close = |found: Option<f64>, value: f64| assert!((found.unwrap() - value).abs() < 1e-12, "{found:?}");
        close(rank_correlation(&pairs(&[1.0, 2.0, 3.0, 4.0], &[1.0, 8.0, 27.0, 64.0])), 1.0);
        close(rank_correlation(&pairs(&[1.0, 2.0, 3.0], &[9.0, 5.0, -1.0])), -1.0);
        // scipy.stats.spearmanr([1, 2, 2, 4, 5], [5, 6, 7, 8, 7]).statistic
        close(
            rank_correlation(&pairs(&[1.0, 2.0, 2.0, 4.0, 5.0], &[5.0, 6.0, 7.0, 8.0, 7.0])),
            0.763_157_894_736_842_1,
        );
        assert_eq!(rank_correlation(&pairs(&[1.0, 2.0, 3.0], &[4.0, 4.0, 4.0])), None);
        assert_eq!(rank_correlation(&pairs(&[1.0, 2.0], &[1.0, 2.0])), None);
    }
}
