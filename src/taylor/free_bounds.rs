//! Bounds that come free: what the results of a unit say about each other (`docs/theory.md`, section 3).
//!
//! Losses are not negative, so for a fixed `V` the sum `S_N(V) = sum_{n<=N} T^n(V)` cannot fall with `N`. A point of a longer prefix bounds the
//! optimum of a shorter one from above, and a lower bound at a shorter prefix bounds the longer ones from below:
//!
//! ```text
//! opt(M) <= S_M(V) / M <= S_N(V) / M     and     opt(N) >= M opt(M) / N,     M < N.
//! ```
//!
//! `M` and `N` count the rounds that were summed, which are fewer than the prefix has where rounds are a sample.
//!
//! A point bounds every optimum whose comparison set holds it, whatever search found it; `W^1` lies in all of them. A lower bound
//! holds for every set inside the ball that its certificate speaks of.

use super::{
    certificate::loss_gap,
    result::UnitResult,
    unit::{Comparator, UnitId},
};

/// Distances that differ by this share are taken for equal: points on a sphere lie there up to rounding.
const ROUNDING: f64 = 1e-9;

/// A point that some search ended at.
#[derive(Clone, Copy)]
struct Point {
    rounds: usize,
    /// `S_N(V)`, the sum over its rounds.
    sum: f64,
    distance: f64,
    attained: bool,
}

/// A lower bound on the sum over its rounds, over the ball of a radius.
#[derive(Clone, Copy)]
struct Floor {
    rounds: usize,
    sum: f64,
    radius: f64,
}

/// Improves every result by what the other results of its unit prove. No value rises, and no lower bound over the same ball falls.
///
/// That losses are not negative is made use of first ([`UnitResult::use_sign`]): a value that rounding left below zero rises to zero.
pub fn tighten(results: &mut [UnitResult]) {
    results.iter_mut().for_each(UnitResult::use_sign);
    // Stable, so rows of a unit keep their order.
    let units: Vec<UnitId> = results.iter().map(|result| result.unit).collect();
    let mut order: Vec<usize> = (0..results.len()).collect();
    order.sort_by_key(|at| units[*at]);
    for unit in order.chunk_by(|a, b| units[*a] == units[*b]) {
        let points: Vec<Point> = unit.iter().flat_map(|at| points(&results[*at])).collect();
        let floors: Vec<Floor> = unit.iter().map(|at| floor(&results[*at])).collect();
        for at in unit {
            improve(&mut results[*at], &points, &floors);
        }
    }
}

/// The point of a result, and `W^1`.
fn points(result: &UnitResult) -> [Point; 2] {
    let (rounds, sum) = (result.record.analysed, |value: f64| value * result.record.analysed as f64);
    [
        Point { rounds, sum: sum(result.taylor_optimum), distance: result.distance, attained: result.attained },
        Point { rounds, sum: sum(result.start), distance: 0.0, attained: true },
    ]
}

fn floor(result: &UnitResult) -> Floor {
    let rounds = result.record.analysed;
    Floor { rounds, sum: result.lower() * rounds as f64, radius: result.radius }
}

fn improve(result: &mut UnitResult, points: &[Point], floors: &[Floor]) {
    let rounds = result.record.analysed;
    let mut lower = result.lower();
    let reach = match result.comparator {
        // The ball of the row; its certificate speaks of the same.
        Comparator::Ball => result.radius * (1.0 + ROUNDING),
        Comparator::Unconstrained => f64::INFINITY,
    };
    let inside = |point: &&Point| point.rounds >= rounds && point.distance <= reach && point.sum.is_finite();
    let least = points.iter().filter(inside).min_by(|a, b| a.sum.total_cmp(&b.sum));
    if let Some(point) = least.filter(|point| point.sum / (rounds as f64) < result.taylor_optimum) {
        result.taylor_optimum = point.sum / rounds as f64;
        result.distance = point.distance;
        result.attained = result.comparator == Comparator::Ball || point.attained;
        // The certificate of a row without constraint reaches twice as far as its point: farther than that of its own search, perhaps.
        let needed = 2.0 * point.distance.max(result.record.displacement);
        if result.comparator == Comparator::Unconstrained && needed > result.radius {
            (result.radius, lower) = (needed, 0.0);
        }
    }
    let known =
        floors.iter().filter(|floor| floor.rounds <= rounds && floor.radius >= result.radius * (1.0 - ROUNDING));
    let best = known.map(|floor| floor.sum / rounds as f64).filter(|low| low.is_finite()).fold(lower, f64::max);
    result.gap = loss_gap(result.taylor_optimum, best);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::taylor::{certificate::StopReason, tracker::UnitRecord};

    fn result(comparator: Comparator, rounds: usize, value: f64, gap: f64, distance: f64, radius: f64) -> UnitResult {
        UnitResult {
            unit: UnitId::NETWORK,
            comparator,
            dimension: 3,
            record: UnitRecord {
                rounds: 7 * rounds,
                analysed: rounds,
                mean_loss: 10.0,
                displacement: 1.0,
                ..UnitRecord::default()
            },
            taylor_optimum: value,
            gap,
            attained: true,
            iterations: 1,
            distance,
            radius,
            start: 9.0,
            stop: StopReason::Converged,
        }
    }

    #[test]
    fn a_longer_prefix_bounds_a_shorter_one_from_above() {
        let mut all =
            [result(Comparator::Ball, 4, 8.0, 8.0, 2.0, 2.0), result(Comparator::Ball, 5, 2.0, 0.5, 1.5, 2.0)];
        tighten(&mut all);
        // S_4 <= S_5 = 10.
        assert_eq!((all[0].taylor_optimum, all[0].distance), (2.5, 1.5));
        assert_eq!(all[0].gap, 2.5, "losses are not negative");
        assert_eq!((all[1].taylor_optimum, all[1].gap), (2.0, 0.5));
    }

    #[test]
    fn a_shorter_prefix_bounds_a_longer_one_from_below() {
        let mut all =
            [result(Comparator::Ball, 4, 3.0, 1.0, 2.0, 2.0), result(Comparator::Ball, 5, 3.0, 3.0, 2.0, 2.0)];
        tighten(&mut all);
        // S_5 >= S_4 >= 4 * 2.
        assert!((all[1].gap - (3.0 - 8.0 / 5.0)).abs() < 1e-15, "{}", all[1].gap);
        // But not of a ball that is larger than the certified one.
        all[1] = result(Comparator::Ball, 5, 3.0, 3.0, 2.0, 2.1);
        tighten(&mut all);
        assert_eq!(all[1].gap, 3.0);
    }

    #[test]
    fn a_minimizer_of_the_ball_is_feasible_without_one_and_not_the_other_way_round() {
        let mut all = [
            result(Comparator::Unconstrained, 5, 4.0, 4.0, 30.0, 60.0),
            result(Comparator::Ball, 5, 2.0, 0.5, 2.0, 2.0),
        ];
        tighten(&mut all);
        assert_eq!((all[0].taylor_optimum, all[0].distance), (2.0, 2.0));
        assert_eq!(all[0].gap, 2.0, "the ball's certificate says nothing of the larger one");
        let mut all = [
            result(Comparator::Unconstrained, 5, 1.0, 0.25, 30.0, 60.0),
            result(Comparator::Ball, 5, 2.0, 2.0, 2.0, 2.0),
        ];
        tighten(&mut all);
        assert_eq!(all[1].taylor_optimum, 2.0, "the point lies outside of the ball");
        assert_eq!(all[1].gap, 2.0 - 0.75, "but the certificate holds inside");
    }

    #[test]
    fn a_value_that_rounding_left_below_zero_is_zero_and_certain() {
        let mut all =
            [result(Comparator::Ball, 4, -1e-7, 0.5, 2.0, 2.0), result(Comparator::Ball, 5, -1e-3, 0.5, 2.0, 2.0)];
        all[0].use_sign();
        all[1].use_sign();
        assert_eq!((all[0].taylor_optimum, all[0].gap), (0.0, 0.0));
        assert_eq!((all[1].taylor_optimum, all[1].gap), (-1e-3, 0.0), "more than rounding stays visible");
    }

    #[test]
    fn the_initial_weights_are_always_feasible() {
        let mut all = [result(Comparator::Unconstrained, 5, 11.0, 11.0, 30.0, 60.0)];
        tighten(&mut all);
        assert_eq!((all[0].taylor_optimum, all[0].distance), (9.0, 0.0));
    }

    #[test]
    fn a_farther_point_without_constraint_takes_no_certificate_of_a_smaller_ball() {
        let mut all = [
            result(Comparator::Unconstrained, 4, 5.0, 0.1, 3.0, 6.0),
            result(Comparator::Unconstrained, 5, 2.0, 2.0, 50.0, 100.0),
        ];
        tighten(&mut all);
        assert_eq!((all[0].taylor_optimum, all[0].gap), (2.5, 2.5), "far below what is the best nearby");
        assert_eq!((all[0].distance, all[0].radius), (50.0, 100.0));
    }
}
