//! Regret: what a run is asked for, prefixes, bounds, decay exponents, and the table rows (`docs/theory.md`, section 3).

use super::{
    Comparison, Optimum,
    unit::{Comparator, RegretRow, Scale, UnitRow},
    units::UnitRecord,
};
use crate::{
    checkpoint::{Record, Store, StoreError},
    loss::Loss,
    network::Network,
};

pub use super::unit::UnitId;

/// Whether a search has a closed form: then `unconstrained` costs little beside `ball`, and is certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedForm {
    Yes,
    No,
}

/// The comparators that regret is measured against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparators {
    /// `ball` everywhere, and `unconstrained` beside it where that has a closed form.
    Auto,
    /// These at every scale.
    Chosen(Vec<Comparator>),
}

impl Comparators {
    /// Both at every scale.
    pub fn both() -> Self {
        Self::Chosen(COMPARATORS.to_vec())
    }

    /// Those of a search.
    pub fn of(&self, form: ClosedForm) -> Vec<Comparator> {
        match (self, form) {
            (Self::Chosen(comparators), _) => comparators.clone(),
            (Self::Auto, ClosedForm::Yes) => COMPARATORS.to_vec(),
            (Self::Auto, ClosedForm::No) => vec![Comparator::Ball],
        }
    }

    /// The one that is shown first: `ball`, unless only the other was asked for.
    pub fn headline(&self) -> Comparator {
        match self {
            Self::Chosen(comparators) if !comparators.contains(&Comparator::Ball) => Comparator::Unconstrained,
            _ => Comparator::Ball,
        }
    }
}

/// What to compute, and how exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct RegretSettings {
    pub scales: Vec<Scale>,
    pub comparators: Comparators,
    /// Neurons per layer, evenly spaced; `None` for all.
    pub neurons: Option<usize>,
    /// Log-spaced prefixes at most.
    pub prefixes: usize,
    /// Rounds analysed at layer and network scale, from the first.
    pub window: usize,
    /// Analyse this many evenly spaced rounds of the window instead of all.
    pub rounds: Option<usize>,
    /// The ball's radius is this factor times the displacement `D_train`.
    pub ball_factor: f64,
    /// Relative gap (gap divided by the mean training loss) at neuron scale.
    pub neuron_tolerance: f64,
    /// Relative gap at layer and network scale.
    pub tolerance: f64,
    /// Products with the curvature of the whole window that the prefixes of a layer or of the network share, per
    /// comparator. More certify smaller gaps.
    pub max_products: usize,
}

impl Default for RegretSettings {
    fn default() -> Self {
        Self {
            scales: vec![Scale::Network, Scale::Layer, Scale::Neuron],
            comparators: Comparators::Auto,
            neurons: None,
            prefixes: 30,
            window: usize::MAX,
            rounds: None,
            ball_factor: 2.0,
            neuron_tolerance: 1e-6,
            tolerance: 1e-4,
            max_products: 64,
        }
    }
}

impl RegretSettings {
    /// The neurons of a layer that are analysed: all, or evenly spaced ones.
    pub fn selected(&self, units: usize) -> Vec<usize> {
        match self.neurons {
            Some(count) if count < units => (0..count).map(|i| i * units / count).collect(),
            _ => (0..units).collect(),
        }
    }

    /// Numbers of the rounds of a window of the given length that are analysed: all, or evenly spaced ones from the first.
    pub fn sampled(&self, window: usize) -> Vec<usize> {
        match self.rounds {
            Some(count) if count < window => (0..count).map(|i| 1 + i * window / count).collect(),
            _ => (1..=window).collect(),
        }
    }

    /// Whether neurons are solved while training goes on: the closed form streams over the whole run. Other losses, and filters, need the
    /// rounds of the window.
    pub fn streams(&self, network: &Network, loss: Loss) -> bool {
        loss.is_quadratic() && self.has(Scale::Neuron) && !network.has_convolutions()
    }

    pub fn has(&self, scale: Scale) -> bool {
        self.scales.contains(&scale)
    }

    /// The comparison set of a unit with the given displacement.
    pub fn comparison(&self, comparator: Comparator, displacement: f64) -> Comparison {
        let radius = match comparator {
            Comparator::Unconstrained => None,
            Comparator::Ball => Some(self.ball_factor * displacement),
        };
        Comparison { radius, displacement }
    }
}

/// About `count` log-spaced prefix lengths from 1 to `rounds`, increasing, both ends included.
pub fn prefixes(rounds: usize, count: usize) -> Vec<usize> {
    if rounds == 0 || count == 0 {
        return Vec::new();
    }
    let count = count.min(rounds);
    let steps = count.saturating_sub(1).max(1) as f64;
    let mut all: Vec<usize> = (0..count)
        .map(|i| (rounds as f64).powf(i as f64 / steps).round() as usize)
        .map(|n| n.clamp(1, rounds))
        .collect();
    all[count - 1] = rounds;
    all.dedup();
    all
}

/// A unit's optimum for one comparator and prefix, with what the bounds need.
#[derive(Clone, Debug)]
pub struct UnitResult {
    pub unit: UnitId,
    pub comparator: Comparator,
    pub dimension: usize,
    pub record: UnitRecord,
    pub taylor_optimum: f64,
    pub gap: f64,
    pub attained: bool,
    pub iterations: usize,
    pub distance: f64,
    /// Radius of the ball around `W^1` that the gap speaks of.
    pub radius: f64,
    /// Mean Taylor loss at `W^1`.
    pub start: f64,
}

/// Sums that cancel may fall below zero by this share of the mean loss, which is what single precision leaves of them.
const ROUNDING: f64 = 1e-5;

impl UnitResult {
    pub fn new(unit: UnitId, comparator: Comparator, dimension: usize, record: UnitRecord, optimum: &Optimum) -> Self {
        // Losses are not negative, though sums that cancel may be by their rounding. What is lower than that is an error of a
        // solver, and stays visible.
        let rounding = ROUNDING * record.mean_loss;
        let value = if (-rounding..0.0).contains(&optimum.value) { 0.0 } else { optimum.value };
        Self {
            unit,
            comparator,
            dimension,
            record,
            taylor_optimum: value,
            // The value itself bounds the gap.
            gap: optimum.gap.min(value.max(0.0)),
            attained: optimum.attained,
            iterations: optimum.iterations,
            distance: optimum.distance,
            radius: optimum.radius,
            start: optimum.start,
        }
    }

    /// The certified lower bound on the true optimum over the ball of [`radius`](Self::radius).
    pub fn lower(&self) -> f64 {
        self.taylor_optimum - self.gap
    }

    pub fn mean_regret(&self) -> f64 {
        self.record.mean_loss - self.taylor_optimum
    }

    /// `(3/2) G D / sqrt N` with `D` the diameter of the ball of comparators (Zinkevich 2003).
    pub fn bound_zinkevich(&self, ball_factor: f64) -> f64 {
        let diameter = 2.0 * ball_factor * self.record.displacement;
        1.5 * self.record.gradient_bound * diameter / (self.record.rounds as f64).sqrt()
    }

    /// `(|W^1 - V|^2 / (2 eta) + (eta / 2) sum_n |g_n|^2) / N`, which plain SGD with constant step `eta` satisfies for any `V`.
    pub fn bound_sgd(&self, eta: f64) -> f64 {
        let start = self.distance * self.distance / (2.0 * eta);
        (start + 0.5 * eta * self.record.gradient_squares) / self.record.rounds as f64
    }

    /// `(max_n |W^n - V|_inf^2 / (2 eta) + eta) sum_j |g_{1:N,j}| / N`, which diagonal AdaGrad with constant step `eta` satisfies
    /// for any `V` (Duchi, Hazan and Singer 2011, theorem 5). `|W^n - V|_inf` is bounded by way of `W^1`.
    pub fn bound_adagrad(&self, eta: f64) -> f64 {
        let farthest = self.record.largest_displacement + self.distance;
        let factor = farthest * farthest / (2.0 * eta) + eta;
        factor * self.record.coordinate_norms / self.record.rounds as f64
    }
}

const COMPARATORS: [Comparator; 2] = [Comparator::Unconstrained, Comparator::Ball];

impl UnitResult {
    /// What reading one from a checkpoint begins with.
    pub(crate) fn blank() -> Self {
        Self {
            unit: UnitId::NETWORK,
            comparator: Comparator::Ball,
            dimension: 0,
            record: UnitRecord::default(),
            taylor_optimum: 0.0,
            gap: 0.0,
            attained: false,
            iterations: 0,
            distance: 0.0,
            radius: 0.0,
            start: 0.0,
        }
    }
}

impl Record for UnitResult {
    fn persist(results: &mut [Self], store: &mut Store) -> Result<(), StoreError> {
        store.column("scale", results, |result| &mut result.unit.scale)?;
        store.column("layer", results, |result| &mut result.unit.layer)?;
        store.column("neuron", results, |result| &mut result.unit.neuron)?;
        store.column("comparator", results, |result| &mut result.comparator)?;
        store.column("dimension", results, |result| &mut result.dimension)?;
        store.column("taylor_optimum", results, |result| &mut result.taylor_optimum)?;
        store.column("gap", results, |result| &mut result.gap)?;
        store.column("attained", results, |result| &mut result.attained)?;
        store.column("iterations", results, |result| &mut result.iterations)?;
        store.column("distance", results, |result| &mut result.distance)?;
        store.column("radius", results, |result| &mut result.radius)?;
        store.column("start", results, |result| &mut result.start)?;
        let mut records: Vec<UnitRecord> = results.iter().map(|result| result.record).collect();
        store.records("record", &mut records)?;
        results.iter_mut().zip(records).for_each(|(result, record)| result.record = record);
        Ok(())
    }
}

/// Learning rates that bounds are computed for: each present only if the run was of that optimizer, at a constant rate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BoundRates {
    /// Step of plain SGD.
    pub sgd: Option<f64>,
    /// Step of diagonal AdaGrad.
    pub adagrad: Option<f64>,
}

/// The results of a unit with so many weights from the optima of its prefixes.
pub(super) fn unit_results(
    unit: UnitId,
    dimension: usize,
    found: Vec<(Comparator, usize, Optimum)>,
    record: &dyn Fn(usize) -> UnitRecord,
) -> Vec<UnitResult> {
    let result = |(comparator, rounds, optimum): (Comparator, usize, Optimum)| {
        UnitResult::new(unit, comparator, dimension, record(rounds), &optimum)
    };
    found.into_iter().map(result).collect()
}

/// Decay exponent: the least-squares slope of log regret on log N over the prefixes beyond the first 30 rounds with positive
/// regret, and their number. Empty with fewer than two.
pub fn slope(points: &[(usize, f64)]) -> (Option<f64>, usize) {
    let logs: Vec<(f64, f64)> = points
        .iter()
        .filter(|(n, regret)| *n > 30 && *regret > 0.0)
        .map(|(n, regret)| ((*n as f64).ln(), regret.ln()))
        .collect();
    let count = logs.len() as f64;
    let mean = |f: fn(&(f64, f64)) -> f64| logs.iter().map(f).sum::<f64>() / count;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let spread: f64 = logs.iter().map(|p| (p.0 - x).powi(2)).sum();
    let slope = logs.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / spread;
    ((logs.len() >= 2 && spread > 0.0).then_some(slope), logs.len())
}

/// The rows of `regret.csv` and `units.csv`: network first, then layers, then neurons; per unit and comparator by prefix.
///
/// `rates` are those of the optimizers that have a bound of their own.
pub fn tables(results: &[UnitResult], settings: &RegretSettings, rates: BoundRates) -> (Vec<RegretRow>, Vec<UnitRow>) {
    let mut sorted: Vec<&UnitResult> = results.iter().collect();
    sorted.sort_by_key(|r| (r.unit, r.comparator, r.record.rounds));
    let row = |r: &&UnitResult| RegretRow {
        scale: r.unit.scale,
        layer: r.unit.layer,
        neuron: r.unit.neuron,
        comparator: r.comparator,
        rounds: r.record.rounds,
        mean_loss: r.record.mean_loss,
        taylor_optimum: r.taylor_optimum,
        mean_regret: r.mean_regret(),
        gap: r.gap,
        attained: r.attained,
        distance: r.distance,
        bound_zinkevich: r.bound_zinkevich(settings.ball_factor),
        // A bound on the regret of all rounds says nothing certain about that of a sample.
        bound_sgd: rates.sgd.filter(|_| !r.record.sampled).map(|eta| r.bound_sgd(eta)),
        bound_adagrad: rates.adagrad.filter(|_| !r.record.sampled).map(|eta| r.bound_adagrad(eta)),
        radius: Some(r.radius),
    };
    let regret = sorted.iter().map(row).collect();
    let units = sorted
        .chunk_by(|a, b| (a.unit, a.comparator) == (b.unit, b.comparator))
        .map(|group| {
            let last = group[group.len() - 1];
            let points: Vec<_> = group.iter().map(|r| (r.record.rounds, r.mean_regret())).collect();
            let (slope, slope_points) = slope(&points);
            UnitRow {
                scale: last.unit.scale,
                layer: last.unit.layer,
                neuron: last.unit.neuron,
                comparator: last.comparator,
                dimension: last.dimension,
                mean_loss: last.record.mean_loss,
                taylor_optimum: last.taylor_optimum,
                mean_regret: last.mean_regret(),
                gap: last.gap,
                attained: last.attained,
                iterations: last.iterations,
                distance: last.distance,
                displacement: last.record.displacement,
                gradient_bound: last.record.gradient_bound,
                slope,
                slope_points,
                radius: Some(last.radius),
            }
        })
        .collect();
    (regret, units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_log_spaced_and_hold_both_ends() {
        assert_eq!(prefixes(1, 30), [1]);
        assert_eq!(prefixes(3, 30), [1, 2, 3]);
        let all = prefixes(937, 30);
        assert_eq!((all[0], *all.last().unwrap()), (1, 937));
        assert!(all.windows(2).all(|w| w[0] < w[1]) && all.len() >= 25);
    }

    #[test]
    fn the_slope_of_a_power_law_is_its_exponent() {
        let points: Vec<_> = prefixes(10_000, 30).into_iter().map(|n| (n, 3.0 / (n as f64).sqrt())).collect();
        let (found, count) = slope(&points);
        assert!((found.unwrap() + 0.5).abs() < 1e-12 && count > 10);
        assert_eq!(slope(&[(40, 1.0), (50, -1.0)]), (None, 1));
    }
}
