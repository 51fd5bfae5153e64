//! Regret: prefixes, decay exponents, and the rows of tables (`docs/theory.md`, section 3).

use super::{
    result::UnitResult,
    settings::RegretSettings,
    unit::{RegretRow, UnitRow},
};

/// `count` rounds from 1 to `last`, evenly spaced on a logarithmic scale, some of them repeated where there are few.
pub fn evenly_in_logs(last: usize, count: usize) -> impl Iterator<Item = usize> {
    let steps = (count.max(2) - 1) as f64;
    let spaced = move |i: usize| (last as f64).powf(i as f64 / steps).round() as usize;
    (0..count).map(move |i| spaced(i).clamp(1, last.max(1)))
}

/// About `count` log-spaced prefix lengths from 1 to `rounds`, increasing, both ends included.
pub fn log_spaced(rounds: usize, count: usize) -> Vec<usize> {
    if rounds == 0 || count == 0 {
        return Vec::new();
    }
    let count = count.min(rounds);
    let mut all: Vec<usize> = evenly_in_logs(rounds, count).collect();
    all[count - 1] = rounds;
    all.dedup();
    all
}

/// Learning rates that bounds are computed for: each present only if the run was of that optimizer, at a constant rate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BoundRates {
    /// Step of plain SGD.
    pub sgd: Option<f64>,
    /// Step of diagonal AdaGrad.
    pub adagrad: Option<f64>,
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
    let regret = sorted.iter().map(|result| regret_row(result, settings, rates)).collect();
    let units = sorted.chunk_by(|a, b| (a.unit, a.comparator) == (b.unit, b.comparator)).map(unit_row).collect();
    (regret, units)
}

fn regret_row(result: &UnitResult, settings: &RegretSettings, rates: BoundRates) -> RegretRow {
    let UnitResult { unit, comparator, record, .. } = result;
    // A bound on the regret of all rounds says nothing certain about that of a sample.
    let of_all_rounds = |rate: Option<f64>| rate.filter(|_| !record.sampled);
    RegretRow {
        scale: unit.scale,
        layer: unit.layer,
        neuron: unit.neuron,
        comparator: *comparator,
        rounds: record.rounds,
        mean_loss: record.mean_loss,
        taylor_optimum: result.taylor_optimum,
        mean_regret: result.mean_regret(),
        gap: result.gap,
        attained: result.attained,
        distance: result.distance,
        bound_zinkevich: result.bound_zinkevich(settings.ball_factor),
        bound_sgd: of_all_rounds(rates.sgd).map(|eta| result.bound_sgd(eta)),
        bound_adagrad: of_all_rounds(rates.adagrad).map(|eta| result.bound_adagrad(eta)),
        radius: Some(result.radius),
    }
}

/// The row of a unit from its results for one comparator, by prefix; at least one.
fn unit_row(prefixes: &[&UnitResult]) -> UnitRow {
    let last = prefixes[prefixes.len() - 1];
    let points: Vec<_> = prefixes.iter().map(|r| (r.record.rounds, r.mean_regret())).collect();
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_spaced_over_the_whole_run() {
        let spaced = |last, count| evenly_in_logs(last, count).collect::<Vec<_>>();
        assert_eq!((spaced(1, 2), spaced(50, 1)), (vec![1, 1], vec![1]));
        assert_eq!(spaced(100, 3), [1, 10, 100]);
    }

    #[test]
    fn prefixes_are_log_spaced_and_hold_both_ends() {
        assert_eq!(log_spaced(1, 30), [1]);
        assert_eq!(log_spaced(3, 30), [1, 2, 3]);
        let all = log_spaced(937, 30);
        assert_eq!((all[0], *all.last().unwrap()), (1, 937));
        assert!(all.windows(2).all(|w| w[0] < w[1]) && all.len() >= 25);
    }

    #[test]
    fn the_slope_of_a_power_law_is_its_exponent() {
        let points: Vec<_> = log_spaced(10_000, 30).into_iter().map(|n| (n, 3.0 / (n as f64).sqrt())).collect();
        let (found, count) = slope(&points);
        assert!((found.unwrap() + 0.5).abs() < 1e-12 && count > 10);
        assert_eq!(slope(&[(40, 1.0), (50, -1.0)]), (None, 1));
    }
}
