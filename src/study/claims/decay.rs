//! Regret against 1/√N: the slope of log regret on log N, as an interval.
//!
//! The least-squares slope is a sum `w_1 y_1 + ... + w_k y_k` of the logarithms `y` of the regrets, with weights that
//! depend on the prefixes alone. So with each regret in its interval the slope lies between sums of ends, chosen by the
//! signs of the weights, and the bounds are attained. A regret that may be zero or less has a logarithm without a lower
//! end.
//!
//! Every unit counts, as one of `Kind`. In tables of version 0.1.0 the ball of comparators grew with the prefix: it
//! began as a point, the regret against it at zero, and had to rise first. Now a unit has one ball for all prefixes; of
//! the older tables no slope is judged.

use super::{Claim, Thresholds, conditions, in_one_run};
use crate::study::{
    enclosure::{Certified, Enclosure, Holds},
    numbers::{counted, display_name, percent, significant},
    results::{OptimizerTables, RunTables, median},
    tables::{Comparator, RegretRow, Scale, UnitRow},
};
use std::collections::BTreeMap;

/// Prefixes up to this many rounds are left out of slopes.
const EARLY: usize = 30;

/// The least-squares slope of log regret on log N, over the prefixes beyond [`EARLY`], and their number; `None` with
/// fewer than two.
///
/// Where a regret is certainly not positive, its logarithm is taken to be anything up to that of the smallest regret of
/// the unit that may be positive: early it makes the slope steeper upwards, late downwards, by an unknown amount.
fn slope(regrets: &[(usize, Enclosure)]) -> (Option<Enclosure>, usize) {
    let points: Vec<&(usize, Enclosure)> = regrets.iter().filter(|(n, _)| *n > EARLY).collect();
    let least = points.iter().map(|(_, regret)| regret.high).filter(|high| *high > 0.0).fold(f64::INFINITY, f64::min);
    let xs: Vec<f64> = points.iter().map(|(n, _)| (*n as f64).ln()).collect();
    let middle = xs.iter().sum::<f64>() / xs.len() as f64;
    let spread: f64 = xs.iter().map(|x| (x - middle).powi(2)).sum();
    if points.len() < 2 || spread <= 0.0 || !least.is_finite() {
        return (None, points.len());
    }
    let log = |regret: &Enclosure| match regret.high > 0.0 {
        true => regret.ln(),
        false => Enclosure::new(f64::NEG_INFINITY, least.ln()),
    };
    let terms = points.iter().zip(&xs).map(|((_, regret), x)| log(regret) * ((x - middle) / spread));
    (Some(terms.fold(Enclosure::exact(0.0), |sum, term| sum + term)), points.len())
}

/// What is known of one unit's decay.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// The slope is at most the limit, whatever the gaps.
    Fast(Enclosure),
    /// The slope is above the limit, whatever the gaps.
    Slow(Enclosure),
    /// The gaps allow both.
    Open(Enclosure),
    /// The regret of the longest prefix is not positive: it is below every positive curve.
    NotPositive,
    /// Too few prefixes for a slope: this many.
    Short(usize),
    /// The regret is NaN, or its prefixes are not in the tables.
    Unknown,
}

impl Kind {
    fn of(unit: &UnitRow, regrets: &[(usize, Enclosure)], t: &Thresholds) -> Kind {
        if !unit.mean_regret.is_finite() {
            return Kind::Unknown;
        }
        if unit.regret().high <= 0.0 {
            return Kind::NotPositive;
        }
        if regrets.is_empty() {
            return Kind::Unknown;
        }
        let limit = t.slope + t.slope_tolerance;
        match slope(regrets) {
            // Few prefixes show no rate, but a regret that grows through them shows that there is none.
            (Some(slope), points) if points < t.slope_points && slope.above(0.0) == Holds::Always => Kind::Slow(slope),
            (Some(slope), points) if points >= t.slope_points => match slope.at_most(limit) {
                Holds::Always => Kind::Fast(slope),
                Holds::Never => Kind::Slow(slope),
                Holds::Sometimes => Kind::Open(slope),
            },
            (_, points) => Kind::Short(points),
        }
    }

    fn slope(self) -> Option<Enclosure> {
        match self {
            Kind::Fast(slope) | Kind::Slow(slope) | Kind::Open(slope) => Some(slope),
            Kind::NotPositive | Kind::Short(_) | Kind::Unknown => None,
        }
    }

    /// Whether the regret decays as claimed.
    fn decays(self) -> Holds {
        match self {
            Kind::Fast(_) | Kind::NotPositive => Holds::Always,
            Kind::Slow(_) => Holds::Never,
            Kind::Open(_) | Kind::Short(_) | Kind::Unknown => Holds::Sometimes,
        }
    }
}

type Unit = (Scale, Option<usize>, Option<usize>);

/// The units of one optimizer at `scales`.
fn kinds(tables: &OptimizerTables, comparator: Comparator, scales: &[Scale], t: &Thresholds) -> Vec<Kind> {
    let mut curves: BTreeMap<Unit, Vec<(usize, Enclosure)>> = BTreeMap::new();
    for row in tables.regret.iter().filter(|row| row.comparator == comparator && scales.contains(&row.scale)) {
        curves.entry((row.scale, row.layer, row.neuron)).or_default().push((row.rounds, row.regret()));
    }
    let units = tables.units.iter().filter(|unit| unit.comparator == comparator && scales.contains(&unit.scale));
    let curve = |unit: &UnitRow| curves.get(&(unit.scale, unit.layer, unit.neuron)).map_or(&[][..], Vec::as_slice);
    units.map(|unit| Kind::of(unit, curve(unit), t)).collect()
}

/// Whether the rows of every unit have one ball.
fn one_radius(rows: &[RegretRow], comparator: Comparator, scales: &[Scale]) -> bool {
    let mut radii: BTreeMap<Unit, f64> = BTreeMap::new();
    rows.iter().filter(|row| row.comparator == comparator && scales.contains(&row.scale)).all(|row| {
        row.radius.is_some_and(|radius| {
            let first = *radii.entry((row.scale, row.layer, row.neuron)).or_insert(radius);
            (radius - first).abs() <= 1e-9 * first.abs()
        })
    })
}

/// `6 of 7 units (median slope −0.56), 1 slower`.
fn words(kinds: &[Kind], t: &Thresholds) -> String {
    let count = |wanted: fn(&Kind) -> bool| kinds.iter().filter(|kind| wanted(kind)).count();
    let fast = count(|kind| kind.decays() == Holds::Always);
    let mut text = format!("{fast} of {}", counted(kinds.len(), "unit"));
    let slopes: Vec<Enclosure> = kinds.iter().filter_map(|kind| kind.slope()).collect();
    if let (Some(low), Some(high)) = (median(slopes.iter().map(|s| s.low)), median(slopes.iter().map(|s| s.high))) {
        let (low, high) = (significant(low, 2), significant(high, 2));
        let middle = if low == high { low } else { format!("in [{low}, {high}]") };
        text += &format!(" (median slope {middle})");
    }
    let negative = count(|kind| matches!(kind, Kind::NotPositive));
    if negative > 0 {
        text += &format!(", {negative} of them trivially: their regret is not positive");
    }
    let slow = count(|kind| matches!(kind, Kind::Slow(_)));
    if slow > 0 {
        text += &format!(", {slow} slower");
    }
    let open = count(|kind| matches!(kind, Kind::Open(_)));
    if open > 0 {
        text += &format!(", {open} undecided by the solver's gaps");
    }
    let points = kinds.iter().filter_map(|kind| if let Kind::Short(points) = kind { Some(*points) } else { None });
    if let (Some(least), Some(most)) = (points.clone().min(), points.clone().max()) {
        let range = if least == most { least.to_string() } else { format!("{least} to {most}") };
        text += &format!(", {} with too few prefixes ({range}, {} needed)", points.count(), t.slope_points);
    }
    let unknown = count(|kind| matches!(kind, Kind::Unknown));
    if unknown > 0 {
        text += &format!(", {unknown} without numbers");
    }
    text
}

/// Whether the regret of all units at `scales` decays like 1/√N or faster.
pub fn decays(run: &RunTables, scales: &[Scale], t: &Thresholds) -> Option<Claim> {
    let headline = run.headline();
    let found: Vec<(&OptimizerTables, Vec<Kind>)> = run
        .optimizers
        .iter()
        .map(|tables| (tables, kinds(tables, headline, scales, t)))
        .filter(|(_, kinds)| !kinds.is_empty())
        .collect();
    if found.is_empty() {
        return None;
    }
    let all: Vec<Holds> = found.iter().flat_map(|(_, kinds)| kinds).map(|kind| kind.decays()).collect();
    let count = |wanted: Holds| all.iter().filter(|holds| **holds == wanted).count();
    let (decaying, open) = (count(Holds::Always), count(Holds::Sometimes));
    let judged = headline == Comparator::Unconstrained
        || found.iter().all(|(tables, _)| one_radius(&tables.regret, headline, scales));
    let rule = if !judged {
        Holds::Sometimes
    } else if decaying == all.len() {
        Holds::Always
    } else if ((decaying + open) as f64) < t.most_units * all.len() as f64 {
        // Too few, even if all that are open were to decay.
        Holds::Never
    } else {
        Holds::Sometimes
    };
    let texts: Vec<String> = found
        .iter()
        .map(|(tables, kinds)| format!("{}: {}", display_name(&tables.summary.label), words(kinds, t)))
        .collect();
    let growing = if judged {
        ""
    } else {
        " Undecided: the ball of these tables grows with the prefix, or its radius is not in them, and the regret \
         against a ball that grows begins at zero and rises first."
    };
    let neurons = scales.contains(&Scale::Neuron);
    let compared: Vec<&OptimizerTables> = found.iter().map(|(tables, _)| *tables).collect();
    Some(Claim {
        id: if neurons { "regret-decays-neurons".into() } else { "regret-decays-layers".into() },
        text: format!(
            "Average regret decays like 1/√N or faster {}.",
            if neurons { "for every neuron" } else { "for the whole network and for every layer" }
        ),
        measured: format!(
            "Units whose slope of log regret on log N, beyond the first {EARLY} rounds, is at most {} ({headline} \
             comparator): {}. Seen if all are, not seen if fewer than {} can be, undecided otherwise.{growing} \
             Conditions: {}.",
            significant(t.slope + t.slope_tolerance, 2),
            texts.join("; "),
            percent(t.most_units),
            conditions(run, &compared),
        ),
        verdict: in_one_run(rule),
        source: "theorem 2; section 3.2, figures 3 and 4".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A power law with the same relative gap at each prefix.
    fn curve(exponent: f64, gap: f64) -> Vec<(usize, Enclosure)> {
        let value = |n: usize| (n as f64).powf(exponent);
        [10, 40, 80, 160, 320, 640].map(|n| (n, Enclosure::new(value(n), value(n) * (1.0 + gap)))).to_vec()
    }

    #[test]
    fn the_slope_of_a_power_law_is_its_exponent() {
        let (found, points) = slope(&curve(-0.6, 0.0));
        let found = found.unwrap();
        assert!((found.low + 0.6).abs() < 1e-12 && (found.high + 0.6).abs() < 1e-12 && points == 5, "{found:?}");
        assert_eq!(slope(&curve(-0.6, 0.0)[..2]), (None, 1));
        assert_eq!(slope(&[]), (None, 0));
    }

    #[test]
    fn slopes_hold_every_choice_of_ends_and_attain_their_bounds() {
        let regrets = curve(-0.5, 0.3);
        let hull = slope(&regrets).0.unwrap();
        let mut found = Enclosure::new(0.0, 0.0);
        for (i, choice) in (0..1 << regrets.len()).enumerate() {
            let end = |at: usize, e: &Enclosure| if choice >> at & 1 == 0 { e.low } else { e.high };
            let chosen: Vec<_> =
                regrets.iter().enumerate().map(|(at, (n, e))| (*n, Enclosure::exact(end(at, e)))).collect();
            let one = slope(&chosen).0.unwrap();
            assert!(hull.low <= one.low + 1e-12 && one.high <= hull.high + 1e-12);
            found = if i == 0 { one } else { Enclosure::new(found.low.min(one.low), found.high.max(one.high)) };
        }
        assert!((found.low - hull.low).abs() < 1e-12 && (found.high - hull.high).abs() < 1e-12);
    }

    #[test]
    fn regrets_that_may_be_zero_leave_an_end_open() {
        let mut regrets = curve(-0.6, 0.0);
        regrets[1].1.low = -1.0;
        let early = slope(&regrets).0.unwrap();
        assert!(early.high == f64::INFINITY && (early.low + 0.6).abs() < 1e-12, "{early:?}");
        let mut regrets = curve(-0.6, 0.0);
        regrets[5].1 = Enclosure::exact(-1.0);
        let late = slope(&regrets).0.unwrap();
        assert!(late.low == f64::NEG_INFINITY && late.high < 0.0, "{late:?}");
    }
}
