//! The rule that every verdict follows.

use crate::study::{
    claims::Verdict,
    enclosure::{Enclosure, Holds},
    numbers::counted,
    statistics::Interval,
};

/// With fewer seeds Student's interval is too wide to tell anything: of two it is 13 standard deviations long.
pub const LEAST_SEEDS: usize = 3;

/// How the intervals of a claim give its verdict.
pub const RULE: &str = "A claim is supported if all of its intervals lie on the claimed side of zero, not supported \
                        if none does and at least one lies on the other side, and undecided otherwise. Intervals are \
                        Student's, at 95%, over seeds; they are not corrected for the number of claims.";

/// The side of zero that a claim says its intervals lie on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Above,
    Below,
}

impl Side {
    pub fn words(self) -> &'static str {
        match self {
            Side::Above => "above zero",
            Side::Below => "below zero",
        }
    }

    /// Whether an interval lies on this side.
    pub fn has(self, interval: &Interval) -> Holds {
        let enclosure = Enclosure::new(interval.low, interval.high);
        match self {
            Side::Above => enclosure.above(0.0),
            Side::Below => enclosure.below(0.0),
        }
    }

    pub fn opposite(self) -> Side {
        match self {
            Side::Above => Side::Below,
            Side::Below => Side::Above,
        }
    }
}

/// The rule of all verdicts, with the reason where it leaves the claim undecided; `names` are those of the intervals,
/// which are over `count` values of `what`.
pub(in crate::study) fn verdict(
    intervals: &[Option<Interval>],
    names: &[String],
    claimed: Side,
    count: usize,
    what: &str,
) -> (Verdict, Option<String>) {
    let undecided = |reason: String| (Verdict::Undecided, Some(reason));
    if count < LEAST_SEEDS {
        let give = if count == 1 { "gives" } else { "give" };
        return undecided(format!("{} {give} no useful interval; use at least {LEAST_SEEDS}", counted(count, what)));
    }
    let missing: Vec<&str> =
        intervals.iter().zip(names).filter(|(interval, _)| interval.is_none()).map(|(_, name)| name.as_str()).collect();
    if missing.len() == intervals.len() {
        return undecided(format!("not measured from every {what}"));
    }
    if !missing.is_empty() {
        return undecided(format!("not measured from every {what}: {}", missing.join(", ")));
    }
    let lie = |side: Side| intervals.iter().flatten().filter(|i| side.has(i) == Holds::Always).count();
    match (lie(claimed), lie(claimed.opposite())) {
        (claimed, _) if claimed == intervals.len() => (Verdict::Supported, None),
        (0, 1..) => (Verdict::NotSupported, None),
        (0, 0) if intervals.len() == 1 => undecided("the interval contains zero".to_owned()),
        (0, 0) => undecided("all intervals contain zero".to_owned()),
        (claimed, 0) => {
            undecided(format!("{} of {} intervals contain zero", intervals.len() - claimed, intervals.len()))
        }
        (claimed, opposite) => undecided(format!(
            "{claimed} of {} intervals lie on the claimed side, {opposite} on the other",
            intervals.len()
        )),
    }
}
