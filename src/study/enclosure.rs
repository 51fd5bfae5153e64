//! Interval arithmetic: what is known of a number whose value is not.
//!
//! A certificate gives a Taylor optimum as an interval, Student's t gives a mean over seeds as one. A rule is then
//! tried on every value at once: it holds for all of them, for none, or for some. Sums and products are those of Moore,
//! *Interval Analysis* (1966), with ends rounded to the nearest number: an end is off by a few units in the last place,
//! far less than any certificate is wide.

use super::{
    numbers::number,
    tables::{RegretRow, UnitRow},
};
use std::{
    fmt,
    ops::{Add, Div, Mul, Neg, Sub},
};

/// All numbers from `low` to `high`, ends included; the ends may be infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Enclosure {
    pub low: f64,
    pub high: f64,
}

/// For how many values of an [`Enclosure`] something is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    Always,
    Never,
    Sometimes,
}

impl Enclosure {
    /// Nothing is known.
    pub const ALL: Enclosure = Enclosure { low: f64::NEG_INFINITY, high: f64::INFINITY };

    /// From `low` to `high`; everything, if one of them is NaN or they are in the wrong order.
    pub fn new(low: f64, high: f64) -> Enclosure {
        if low <= high { Enclosure { low, high } } else { Enclosure::ALL }
    }

    /// A number that is known; everything, if it is NaN.
    pub fn exact(value: f64) -> Enclosure {
        Enclosure::new(value, value)
    }

    /// What a certificate says of the least value of a loss: `[value - gap, value]`, and not below zero, as losses are
    /// not. A gap of NaN certifies nothing: the whole value is open.
    pub fn certified(value: f64, gap: f64) -> Enclosure {
        let gap = if gap.is_nan() { f64::INFINITY } else { gap.max(0.0) };
        Enclosure::new((value - gap).max(value.min(0.0)), value)
    }

    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// Whether it is one number.
    pub fn is_exact(&self) -> bool {
        self.low == self.high
    }

    /// Whether the values are larger than `threshold`.
    pub fn above(&self, threshold: f64) -> Holds {
        holds(self.low > threshold, self.high <= threshold)
    }

    /// Whether the values are smaller than `threshold`.
    pub fn below(&self, threshold: f64) -> Holds {
        holds(self.high < threshold, self.low >= threshold)
    }

    /// Whether the values are at most `threshold`.
    pub fn at_most(&self, threshold: f64) -> Holds {
        self.above(threshold).negated()
    }

    /// Whether the values are at least `threshold`.
    pub fn at_least(&self, threshold: f64) -> Holds {
        self.below(threshold).negated()
    }

    /// The natural logarithms; those of values that are not positive are below every number.
    pub fn ln(&self) -> Enclosure {
        let end = |x: f64| if x > 0.0 { x.ln() } else { f64::NEG_INFINITY };
        Enclosure::new(end(self.low), end(self.high))
    }
}

/// What `always` and `never` of all values say together. A threshold of NaN leaves both false.
fn holds(always: bool, never: bool) -> Holds {
    if always {
        Holds::Always
    } else if never {
        Holds::Never
    } else {
        Holds::Sometimes
    }
}

impl Holds {
    /// The same of the opposite.
    pub fn negated(self) -> Holds {
        match self {
            Holds::Always => Holds::Never,
            Holds::Never => Holds::Always,
            Holds::Sometimes => Holds::Sometimes,
        }
    }
}

impl Add for Enclosure {
    type Output = Enclosure;

    fn add(self, other: Enclosure) -> Enclosure {
        // Opposite infinities have no sum; such an end is open.
        let end = |a: f64, b: f64, open: f64| if (a + b).is_nan() { open } else { a + b };
        Enclosure { low: end(self.low, other.low, f64::NEG_INFINITY), high: end(self.high, other.high, f64::INFINITY) }
    }
}

impl Neg for Enclosure {
    type Output = Enclosure;

    fn neg(self) -> Enclosure {
        Enclosure { low: -self.high, high: -self.low }
    }
}

impl Sub for Enclosure {
    type Output = Enclosure;

    /// Each value of one minus each of the other, as if they had nothing in common.
    fn sub(self, other: Enclosure) -> Enclosure {
        self + -other
    }
}

impl Mul<f64> for Enclosure {
    type Output = Enclosure;

    fn mul(self, factor: f64) -> Enclosure {
        if factor.is_nan() {
            return Enclosure::ALL;
        }
        // Zero times something that is not known, but a number, is zero.
        let end = |x: f64| if factor == 0.0 { 0.0 } else { factor * x };
        let (a, b) = (end(self.low), end(self.high));
        Enclosure::new(a.min(b), a.max(b))
    }
}

impl Div for Enclosure {
    type Output = Enclosure;

    /// Everything, if the divisor may be zero.
    fn div(self, divisor: Enclosure) -> Enclosure {
        if divisor.contains(0.0) {
            return Enclosure::ALL;
        }
        let quotients =
            [self.low / divisor.low, self.low / divisor.high, self.high / divisor.low, self.high / divisor.high];
        if quotients.iter().any(|q| q.is_nan()) {
            return Enclosure::ALL;
        }
        Enclosure::new(
            quotients.iter().copied().fold(f64::INFINITY, f64::min),
            quotients.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        )
    }
}

impl fmt::Display for Enclosure {
    /// `[0.0272, 0.0496]`, or one number where both ends read the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = (number(self.low), number(self.high));
        if low == high { f.write_str(&low) } else { write!(f, "[{low}, {high}]") }
    }
}

/// Rows with a certified optimum.
pub trait Certified {
    /// All values that the true Taylor optimum can have.
    fn optimum(&self) -> Enclosure;

    /// All values that the true average regret can have.
    fn regret(&self) -> Enclosure;
}

macro_rules! certified {
    ($($row:ty),*) => {$(
        impl Certified for $row {
            fn optimum(&self) -> Enclosure {
                Enclosure::certified(self.taylor_optimum, self.gap)
            }

            fn regret(&self) -> Enclosure {
                regret(self.mean_regret, self.mean_loss, self.gap)
            }
        }
    )*};
}

certified!(RegretRow, UnitRow);

/// `[regret, regret + gap]`, and not above the mean loss, as the optimum is not negative.
pub fn regret(regret: f64, mean_loss: f64, gap: f64) -> Enclosure {
    let gap = if gap.is_nan() { f64::INFINITY } else { gap.max(0.0) };
    let most = if mean_loss.is_nan() { f64::INFINITY } else { mean_loss.max(regret) };
    Enclosure::new(regret, (regret + gap).min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn e(low: f64, high: f64) -> Enclosure {
        Enclosure::new(low, high)
    }

    const INFINITY: f64 = f64::INFINITY;

    /// Pairs of values of two enclosures, ends included.
    fn samples(a: Enclosure, b: Enclosure) -> impl Iterator<Item = (f64, f64)> {
        let of = |e: Enclosure| (0..=8).map(move |i| e.low + (e.high - e.low) * f64::from(i) / 8.0);
        of(a).flat_map(move |x| of(b).map(move |y| (x, y)))
    }

    #[test]
    fn results_hold_every_result_of_their_values() {
        let all = [e(-2.0, -0.5), e(-1.0, 3.0), e(0.0, 0.0), e(0.25, 4.0), e(7.0, 7.0)];
        for a in all {
            for b in all {
                let near = |e: Enclosure, x: f64| e.contains(x) || (e.low - x).abs().min((e.high - x).abs()) < 1e-12;
                for (x, y) in samples(a, b) {
                    assert!(near(a + b, x + y) && near(a - b, x - y), "{a:?} {b:?}");
                    assert!(y == 0.0 || near(a / b, x / y), "{a:?} / {b:?}: {x} / {y}");
                    assert!(near(a * y, x * y));
                }
            }
        }
        // And no more than that.
        assert_eq!(e(1.0, 2.0) - e(0.5, 4.0), e(-3.0, 1.5));
        assert_eq!(e(1.0, 2.0) / e(-4.0, -2.0), e(-1.0, -0.25));
        assert_eq!(e(-1.0, 2.0) / e(2.0, 4.0), e(-0.5, 1.0));
        assert_eq!(e(1.0, 2.0) * -3.0, e(-6.0, -3.0));
        assert_eq!(-e(1.0, 2.0), e(-2.0, -1.0));
    }

    #[test]
    fn what_is_unknown_stays_unknown() {
        assert_eq!(e(1.0, 2.0) / e(-1.0, 1.0), Enclosure::ALL);
        assert_eq!(e(1.0, 2.0) / e(0.0, 1.0), Enclosure::ALL);
        assert_eq!(Enclosure::exact(f64::NAN), Enclosure::ALL);
        assert_eq!(e(2.0, 1.0), Enclosure::ALL);
        assert_eq!(Enclosure::ALL - Enclosure::ALL, Enclosure::ALL);
        assert_eq!(Enclosure::ALL * f64::NAN, Enclosure::ALL);
        assert_eq!(Enclosure::ALL * 0.0, e(0.0, 0.0));
        assert_eq!(e(-INFINITY, 1.0) + e(2.0, 3.0), e(-INFINITY, 4.0));
    }

    #[test]
    fn thresholds_are_passed_by_all_none_or_some() {
        use Holds::*;
        let cases = [(0.0, Always), (1.0, Sometimes), (1.5, Sometimes), (2.0, Never), (3.0, Never)];
        for (threshold, holds) in cases {
            assert_eq!(e(1.0, 2.0).above(threshold), holds, "{threshold}");
            assert_eq!(e(1.0, 2.0).at_most(threshold), holds.negated(), "{threshold}");
            assert_eq!((-e(1.0, 2.0)).below(-threshold), holds, "{threshold}");
            assert_eq!((-e(1.0, 2.0)).at_least(-threshold), holds.negated(), "{threshold}");
        }
        assert_eq!(e(1.0, 2.0).above(f64::NAN), Sometimes);
        assert_eq!(Enclosure::ALL.above(0.0), Sometimes);
    }

    #[test]
    fn certificates_become_intervals() {
        assert_eq!(Enclosure::certified(0.5, 0.25), e(0.25, 0.5));
        assert_eq!(Enclosure::certified(0.5, 2.0), e(0.0, 0.5));
        assert_eq!(Enclosure::certified(0.5, f64::NAN), e(0.0, 0.5));
        assert_eq!(Enclosure::certified(-1e-9, 0.1), e(-1e-9, -1e-9));
        assert_eq!(Enclosure::certified(f64::NAN, 0.1), Enclosure::ALL);
        assert_eq!(regret(0.25, 1.0, 0.25), e(0.25, 0.5));
        assert_eq!(regret(0.25, 1.0, f64::NAN), e(0.25, 1.0));
        assert_eq!(regret(f64::NAN, 1.0, 0.1), Enclosure::ALL);
    }

    #[test]
    fn logarithms_end_below_every_number() {
        assert_eq!(e(1.0, 1.0).ln(), e(0.0, 0.0));
        assert_eq!(e(-1.0, 1.0).ln(), e(-INFINITY, 0.0));
        assert_eq!(e(-2.0, -1.0).ln().high, -INFINITY);
    }

    #[test]
    fn one_number_reads_as_one() {
        assert_eq!(e(0.0272, 0.0496).to_string(), "[0.0272, 0.0496]");
        assert_eq!(e(0.02721, 0.02722).to_string(), "0.0272");
        assert_eq!(Enclosure::ALL.to_string(), "[−∞, ∞]");
    }
}
