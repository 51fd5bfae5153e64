//! What a certificate proves of an optimum, of a regret and of their differences, in words that claim no more than that.
//!
//! The true Taylor optimum lies in `[optimum - gap, optimum]`, so the true regret lies in `[regret, regret + gap]`
//! (`docs/theory.md`, section 3). Numbers are rounded away from the claim: "at least" downwards, "at most" upwards.

use crate::study::{
    enclosure::Enclosure,
    numbers::{number, percent},
    results::OptimizerTables,
    tables::{Comparator, FAR_COMPARATOR, Scale, UnitRow},
};

/// How one quantity stands to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// Lower by at least this much, for every value that the certificates allow.
    Lower(f64),
    /// Higher by at least this much.
    Higher(f64),
    /// The certificates overlap.
    Open,
}

/// The regret at a mean loss of `mean_loss` that goes with a Taylor optimum and its gap.
pub fn regret(mean_loss: f64, optimum: f64, gap: f64) -> Enclosure {
    Enclosure::exact(mean_loss) - Enclosure::certified(optimum, gap)
}

/// How `one` stands to `other`.
pub fn order(one: Enclosure, other: Enclosure) -> Order {
    if one.high < other.low {
        Order::Lower(other.low - one.high)
    } else if one.low > other.high {
        Order::Higher(one.low - other.high)
    } else {
        Order::Open
    }
}

/// `0.0272 to 0.0497`, rounded outwards; one number where the ends agree to three digits.
pub fn in_words(range: Enclosure) -> String {
    match (number(range.low), number(range.high)) {
        (low, high) if low == high => high,
        _ => format!("{} to {}", at_least(range.low), at_most(range.high)),
    }
}

/// The same as a share of `whole`: `31% to 62%`.
pub fn share_in_words(range: Enclosure, whole: f64) -> String {
    let (low, high) = (range.low / whole, range.high / whole);
    match (percent(low), percent(high)) {
        (low, high) if low == high => high,
        _ => format!("{} to {}", percent_at_least(low), percent_at_most(high)),
    }
}

/// Three digits of `x`, rounded downwards.
pub fn at_least(x: f64) -> String {
    number(towards(x, third_digit(x), f64::floor))
}

/// Three digits of `x`, rounded upwards.
pub fn at_most(x: f64) -> String {
    number(towards(x, third_digit(x), f64::ceil))
}

/// A percentage as [`percent`] writes it, rounded downwards.
pub fn percent_at_least(share: f64) -> String {
    percent(towards(share, percent_step(share), f64::floor))
}

/// A percentage as [`percent`] writes it, rounded upwards.
pub fn percent_at_most(share: f64) -> String {
    percent(towards(share, percent_step(share), f64::ceil))
}

/// The place of the third significant digit.
fn third_digit(x: f64) -> f64 {
    10f64.powi(x.abs().log10().floor() as i32 - 2)
}

fn percent_step(share: f64) -> f64 {
    match share.abs() {
        share if share < 0.001 => 1e-4,
        share if share < 0.0995 => 1e-3,
        _ => 1e-2,
    }
}

fn towards(x: f64, step: f64, round: fn(f64) -> f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let steps = x / step;
    // A number with few digits must not lose a step to the rounding of the division.
    let near = steps.round();
    step * if (steps - near).abs() < 1e-9 { near } else { round(steps) }
}

/// How the mean loss of an optimizer divides, certified.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Division {
    pub scale: Scale,
    /// Units that the values are means of; 1 at network scale.
    pub units: usize,
    pub mean_loss: f64,
    pub optimum: Enclosure,
    pub regret: Enclosure,
    pub distance: f64,
    pub displacement: f64,
    /// Whether the comparator lies far beyond where training went.
    pub far: bool,
}

impl Division {
    /// The means over all units of one scale; `None` without finite rows.
    pub fn at(tables: &OptimizerTables, scale: Scale, comparator: Comparator) -> Option<Division> {
        let finite =
            |row: &&UnitRow| row.taylor_optimum.is_finite() && row.gap.is_finite() && row.mean_loss.is_finite();
        let rows: Vec<&UnitRow> = tables.units_at(scale, comparator).filter(finite).collect();
        let mean = |of: &dyn Fn(&UnitRow) -> f64| rows.iter().map(|row| of(row)).sum::<f64>() / rows.len() as f64;
        let optimum = |row: &UnitRow| Enclosure::certified(row.taylor_optimum, row.gap);
        (!rows.is_empty()).then(|| {
            let mean_loss = mean(&|row| row.mean_loss);
            let optimum = Enclosure::new(mean(&|row| optimum(row).low), mean(&|row| optimum(row).high));
            let (distance, displacement) = (mean(&|row| row.distance), mean(&|row| row.displacement));
            Division {
                scale,
                units: rows.len(),
                mean_loss,
                optimum,
                regret: Enclosure::exact(mean_loss) - optimum,
                distance,
                displacement,
                far: distance > FAR_COMPARATOR * displacement,
            }
        })
    }

    /// The division at the coarsest scale that all of `tables` have.
    pub fn shared(tables: &[&OptimizerTables], comparator: Comparator) -> Option<Vec<Division>> {
        [Scale::Network, Scale::Layer, Scale::Neuron]
            .into_iter()
            .find_map(|scale| tables.iter().map(|tables| Division::at(tables, scale, comparator)).collect())
    }

    /// The division at the coarsest scale that was measured.
    pub fn of(tables: &OptimizerTables, comparator: Comparator) -> Option<Division> {
        Division::shared(&[tables], comparator)?.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_rounded_away_from_the_claim() {
        assert_eq!(at_least(0.014879), "0.0148");
        assert_eq!(at_most(0.014811), "0.0149");
        assert_eq!((at_least(0.0148), at_most(0.0148)), ("0.0148".into(), "0.0148".into()));
        assert_eq!((at_least(-0.00123456), at_most(-0.00123456)), ("−0.00124".into(), "−0.00123".into()));
        assert_eq!(at_most(9.999), "10.0");
        assert_eq!(at_least(0.0), "0");
        assert_eq!((percent_at_least(0.2499), percent_at_most(0.2411)), ("24%".into(), "25%".into()));
        assert_eq!((percent_at_least(0.0519), percent_at_most(0.0511)), ("5.1%".into(), "5.2%".into()));
    }

    #[test]
    fn an_interval_is_a_number_only_where_its_ends_agree() {
        assert_eq!(in_words(Enclosure::certified(0.05400146, 1.4e-5)), "0.0540");
        assert_eq!(in_words(Enclosure::certified(0.0496611, 0.0224413)), "0.0272 to 0.0497");
        assert_eq!(in_words(Enclosure::certified(0.0496611, 0.06)), "0 to 0.0497");
        assert_eq!(share_in_words(regret(0.0721, 0.0497, 0.0497), 0.0721), "31% to 100%");
    }

    #[test]
    fn an_order_needs_intervals_apart() {
        let (a, b) = (Enclosure::new(1.0, 2.0), Enclosure::new(2.5, 3.0));
        assert_eq!(order(a, b), Order::Lower(0.5));
        assert_eq!(order(b, a), Order::Higher(0.5));
        assert_eq!(order(a, Enclosure::new(2.0, 9.0)), Order::Open);
        assert_eq!(order(a, a), Order::Open);
    }
}
