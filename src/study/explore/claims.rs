//! What the runs of the study say about hypothesis 1 of the paper, with 95% intervals over seeds.
//!
//! All comparisons are made *within* a seed, whose runs share weights and data order, and summarized over seeds: seeds are
//! independent of each other, runs of one seed are not. One rule gives every verdict: [`RULE`].

use super::{
    Exploration, ExploreRow, Group, STEERED, UNSTEERED,
    metrics::{METRICS, Metric},
};
use crate::study::{
    claims::{Claim, Verdict},
    numbers::{counted, display_name},
    results::mean,
    statistics::{Interval, rank_correlation},
};
use std::collections::BTreeSet;

/// Optimizers whose updates are normalized by root mean squares of gradients.
pub const NORMALIZED: [&str; 4] = ["rmsprop", "adam", "adamw", "batch_rms"];
/// Vanilla gradient descent.
pub const VANILLA: &str = "sgd";

/// How the intervals of a claim give its verdict.
pub const RULE: &str = "A claim is supported if all of its intervals lie on the claimed side of zero, not supported if none does \
                        and at least one lies on the other side, and undecided otherwise. Intervals are Student's, at 95%, over \
                        seeds; they are not corrected for the number of claims.";

/// A metric's interval, or the reason why there is none.
type Measured = (Metric, Option<Interval>);

/// The claims that the study can speak to.
pub fn evaluate(study: &Exploration) -> Vec<Claim> {
    let seeds: Vec<u64> = study.rows.iter().map(|row| row.seed).collect::<BTreeSet<_>>().into_iter().collect();
    let mut claims = Vec::new();
    let labels = labels(study);
    let vanilla = labels.iter().find(|label| is(label, VANILLA));
    let normalized: Vec<&String> =
        labels.iter().filter(|label| NORMALIZED.iter().any(|name| is(label, name))).collect();
    if let Some(vanilla) = vanilla {
        for label in &normalized {
            claims.push(at_tuned_rates(study, &seeds, label, vanilla));
            claims.push(at_equal_distance(study, &seeds, label, vanilla));
            claims.push(at_equal_multiples(study, &seeds, label, vanilla));
        }
    }
    claims.extend(sweep(study, &seeds));
    if let Some(steered) = labels.iter().find(|label| is(label, STEERED)) {
        claims
            .extend(labels.iter().find(|label| is(label, UNSTEERED)).map(|adam| steers(study, &seeds, steered, adam)));
        let others = labels.iter().filter(|label| *label != steered);
        claims.extend(others.map(|other| ends_lower(study, &seeds, steered, other)));
    }
    claims.push(goes_with_loss(study, &seeds, None));
    claims.extend(labels.iter().map(|label| goes_with_loss(study, &seeds, Some(label))));
    claims.extend(labels.iter().filter_map(|label| rms_is_nearer_to_sign(study, &seeds, label)));
    claims
}

/// The optimizers of the study, in the order of its rows.
pub fn labels(study: &Exploration) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for row in &study.rows {
        if !labels.contains(&row.optimizer) {
            labels.push(row.optimizer.clone());
        }
    }
    labels
}

/// Whether a label (a name, with its rate behind a hyphen where the name is not unique) is of optimizer `name`.
fn is(label: &str, name: &str) -> bool {
    label.split_once('-').map_or(label, |(first, _)| first) == name
}

/// The runs of an optimizer over its rates from one seed that did not diverge.
fn rates<'a>(study: &'a Exploration, label: &str, seed: u64) -> Vec<&'a ExploreRow> {
    let rows = study.rows.iter().filter(|row| row.group == Group::Rate && row.status == "complete");
    rows.filter(|row| row.optimizer == label && row.seed == seed).collect()
}

fn at_factor<'a>(rows: &[&'a ExploreRow], factor: f64) -> Option<&'a ExploreRow> {
    rows.iter().copied().find(|row| row.factor == Some(factor))
}

/// The interval over seeds of what `value` gives for a metric and a seed.
///
/// Every seed must have a value: a seed that is left out, as its run diverged, would bias the mean.
fn over_seeds(seeds: &[u64], value: impl Fn(&Metric, u64) -> Option<f64>) -> Vec<Measured> {
    METRICS
        .iter()
        .map(|metric| {
            let values: Option<Vec<f64>> = seeds.iter().map(|seed| value(metric, *seed)).collect();
            (*metric, values.and_then(|values| Interval::of(&values)))
        })
        .collect()
}

/// [`over_seeds`] of rank correlations, which lie between -1 and 1.
fn correlations(seeds: &[u64], value: impl Fn(&Metric, u64) -> Option<f64>) -> Vec<Measured> {
    let cut = |(metric, interval): Measured| (metric, interval.map(|interval| interval.within(-1.0, 1.0)));
    over_seeds(seeds, value).into_iter().map(cut).collect()
}

/// The rule of all verdicts; `sign` is the claimed side.
fn verdict(intervals: &[Option<Interval>], sign: f64) -> Verdict {
    let claimed = |interval: &Interval| if sign > 0.0 { interval.is_positive() } else { interval.is_negative() };
    let opposite = |interval: &Interval| if sign > 0.0 { interval.is_negative() } else { interval.is_positive() };
    let known: Vec<&Interval> = intervals.iter().flatten().collect();
    if known.len() < intervals.len() || known.is_empty() {
        Verdict::Undecided
    } else if known.iter().all(|interval| claimed(interval)) {
        Verdict::Supported
    } else if !known.iter().any(|interval| claimed(interval)) && known.iter().any(|interval| opposite(interval)) {
        Verdict::NotSupported
    } else {
        Verdict::Undecided
    }
}

/// `novelty 0.01 [0.005, 0.015], switches ...` for both time scales.
fn describe(measured: &[Measured]) -> String {
    let scale = |scale: &str| -> String {
        let mine = measured.iter().filter(|(metric, _)| metric.scale == scale);
        let texts: Vec<String> = mine
            .map(|(metric, interval)| match interval {
                Some(interval) => format!("{} {interval}", metric.name),
                None => format!("{} not measured from every seed", metric.name),
            })
            .collect();
        format!("{scale} time scale: {}", texts.join(", "))
    };
    format!("{}; {}", scale("coarse"), scale("fine"))
}

fn conclude(id: String, text: String, lead: &str, measured: &[Measured], sign: f64, seeds: usize) -> Claim {
    let intervals: Vec<Option<Interval>> = measured.iter().map(|(_, interval)| *interval).collect();
    Claim {
        id,
        text,
        measured: format!(
            "{lead} (mean and 95% interval over {}; claimed: {}): {}.",
            counted(seeds, "seed"),
            if sign > 0.0 { "above zero" } else { "below zero" },
            describe(measured)
        ),
        verdict: verdict(&intervals, sign),
        source: "section 4, hypothesis 1".into(),
    }
}

/// What `of` gives for `label` minus what it gives for `other`, each at its tuned rate from the same seed.
fn difference_at_tuned_rates(
    study: &Exploration,
    label: &str,
    other: &str,
    seed: u64,
    of: fn(&ExploreRow) -> Option<f64>,
) -> Option<f64> {
    let value = |label: &str| at_factor(&rates(study, label, seed), 1.0).and_then(of);
    Some(value(label)? - value(other)?)
}

/// (a) Each at its own tuned rate.
fn at_tuned_rates(study: &Exploration, seeds: &[u64], label: &str, vanilla: &str) -> Claim {
    let measured = over_seeds(seeds, |metric, seed| difference_at_tuned_rates(study, label, vanilla, seed, metric.of));
    let name = display_name(label);
    conclude(
        format!("explores-more-{label}"),
        format!("At tuned learning rates, {name} explores more than SGD."),
        &format!("{name} minus SGD"),
        &measured,
        1.0,
        seeds.len(),
    )
}

/// (b) At equal distance travelled: SGD's metrics are interpolated between its own rates.
fn at_equal_distance(study: &Exploration, seeds: &[u64], label: &str, vanilla: &str) -> Claim {
    let matched = std::cell::Cell::new(0);
    let measured = over_seeds(seeds, |metric, seed| {
        let curve: Vec<(f64, f64)> = rates(study, vanilla, seed)
            .into_iter()
            .filter_map(|row| Some((row.distance.filter(|d| *d > 0.0)?.ln(), (metric.of)(row)?)))
            .collect();
        let differences: Vec<f64> = rates(study, label, seed)
            .into_iter()
            .filter_map(|row| Some((metric.of)(row)? - interpolate(&curve, row.distance.filter(|d| *d > 0.0)?.ln())?))
            .collect();
        matched.set(matched.get() + differences.len());
        mean(differences)
    });
    let name = display_name(label);
    let lead = format!(
        "{name} minus SGD at the same |W − W¹|, over {} whose distance lies between those of SGD's runs of \
         the same seed, interpolated in the logarithm of the distance",
        counted(matched.get() / METRICS.len(), "run")
    );
    conclude(
        format!("explores-more-at-equal-distance-{label}"),
        format!("At equal distance travelled, {name} explores more than SGD."),
        &lead,
        &measured,
        1.0,
        seeds.len(),
    )
}

/// The value at `x` of the line through the points around it; `None` beyond them.
fn interpolate(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    sorted.windows(2).find(|pair| (pair[0].0..=pair[1].0).contains(&x)).map(|pair| {
        let (from, to) = (pair[0], pair[1]);
        let share = if to.0 > from.0 { (x - from.0) / (to.0 - from.0) } else { 0.5 };
        from.1 + share * (to.1 - from.1)
    })
}

/// (b) At equal multiples of the tuned rates; absolute rates of the two have no common scale.
fn at_equal_multiples(study: &Exploration, seeds: &[u64], label: &str, vanilla: &str) -> Claim {
    let measured = over_seeds(seeds, |metric, seed| {
        let (mine, theirs) = (rates(study, label, seed), rates(study, vanilla, seed));
        let difference = |factor: f64| {
            let of = |rows: &[&ExploreRow]| at_factor(rows, factor).and_then(metric.of);
            Some(of(&mine)? - of(&theirs)?)
        };
        mean(mine.iter().filter_map(|row| difference(row.factor?)))
    });
    let name = display_name(label);
    conclude(
        format!("explores-more-at-equal-multiples-{label}"),
        format!("At equal multiples of the tuned learning rates, {name} explores more than SGD."),
        &format!("{name} minus SGD, mean over the multiples at which both converge"),
        &measured,
        1.0,
        seeds.len(),
    )
}

/// (c) From Adam to momentum.
fn sweep(study: &Exploration, seeds: &[u64]) -> Option<Claim> {
    let rows = |seed: u64| {
        let rows = study.rows.iter().filter(move |row| row.group == Group::Epsilon && row.seed == seed);
        rows.filter(|row| row.status == "complete")
    };
    seeds.iter().any(|seed| rows(*seed).next().is_some()).then(|| {
        let measured = correlations(seeds, |metric, seed| {
            let pairs: Vec<(f64, f64)> = rows(seed).filter_map(|row| Some((row.epsilon?, (metric.of)(row)?))).collect();
            rank_correlation(&pairs)
        });
        conclude(
            "less-exploration-towards-momentum".into(),
            "Carrying Adam to momentum by raising epsilon, a step at a time, lowers exploration.".into(),
            "Rank correlation of epsilon with the metric",
            &measured,
            -1.0,
            seeds.len(),
        )
    })
}

/// What steering by switching does to exploration.
fn steers(study: &Exploration, seeds: &[u64], steered: &str, adam: &str) -> Claim {
    let (name, other) = (display_name(steered), display_name(adam));
    conclude(
        format!("steering-explores-more-than-{adam}"),
        format!(
            "At tuned learning rates, {name}, which steers {other} by what it explores, explores more than {other}."
        ),
        &format!("{name} minus {other}"),
        &over_seeds(seeds, |metric, seed| difference_at_tuned_rates(study, steered, adam, seed, metric.of)),
        1.0,
        seeds.len(),
    )
}

/// The open question: does an optimizer that uses exploration end better, at the same effort of tuning?
fn ends_lower(study: &Exploration, seeds: &[u64], steered: &str, other: &str) -> Claim {
    let over = |of: fn(&ExploreRow) -> Option<f64>| -> Option<Interval> {
        let values = seeds.iter().map(|seed| difference_at_tuned_rates(study, steered, other, *seed, of));
        values.collect::<Option<Vec<f64>>>().and_then(|values| Interval::of(&values))
    };
    let intervals = [over(|row| row.train_loss), over(|row| row.test_loss)];
    let text = |interval: &Option<Interval>| interval.map_or("not measured from every seed".into(), |i| i.to_string());
    let (name, them) = (display_name(steered), display_name(other));
    Claim {
        id: format!("steering-ends-lower-than-{other}"),
        text: format!("At tuned learning rates, {name} ends with lower losses than {them}."),
        measured: format!(
            "Final loss of {name} minus that of {them} (mean and 95% interval over {}; claimed: below zero): training {}, test {}.",
            counted(seeds.len(), "seed"),
            text(&intervals[0]),
            text(&intervals[1])
        ),
        verdict: verdict(&intervals, -1.0),
        source: "the closing question".into(),
    }
}

/// (d) Across the runs over rates of each seed, or of one optimizer alone.
fn goes_with_loss(study: &Exploration, seeds: &[u64], label: Option<&str>) -> Claim {
    let all = labels(study);
    let measured = correlations(seeds, |metric, seed| {
        let chosen = all.iter().filter(|other| label.is_none_or(|label| label == *other));
        let pairs: Vec<(f64, f64)> = chosen
            .flat_map(|label| rates(study, label, seed))
            .filter_map(|row| Some(((metric.of)(row)?, -row.train_loss?)))
            .collect();
        rank_correlation(&pairs)
    });
    let lead = "Rank correlation of the metric with minus the final training loss";
    match label {
        None => conclude(
            "exploration-goes-with-loss".into(),
            "Across all optimizers and learning rates, more exploration goes with a lower final training loss.".into(),
            lead,
            &measured,
            1.0,
            seeds.len(),
        ),
        Some(label) => conclude(
            format!("exploration-goes-with-loss-{label}"),
            format!("Within {}, more exploration goes with a lower final training loss.", display_name(label)),
            lead,
            &measured,
            1.0,
            seeds.len(),
        ),
    }
}

/// The minibatch form of RProp against the plain gradient, layer by layer.
fn rms_is_nearer_to_sign(study: &Exploration, seeds: &[u64], label: &str) -> Option<Claim> {
    let mine = || study.signs.iter().filter(|row| row.optimizer == label);
    let layers: BTreeSet<usize> = mine().map(|row| row.layer).collect();
    if layers.is_empty() {
        return None;
    }
    let over = |layer: usize, value: fn(&super::SignRow) -> f64| -> Option<Interval> {
        let of = |seed: &u64| mean(mine().filter(|row| row.layer == layer && row.seed == *seed).map(value));
        seeds.iter().map(of).collect::<Option<Vec<f64>>>().and_then(|values| Interval::of(&values))
    };
    let intervals: Vec<Option<Interval>> =
        layers.iter().map(|layer| over(*layer, |row| row.cosine_rms - row.cosine_gradient)).collect();
    let text = |(layer, interval): (&usize, &Option<Interval>)| match interval {
        Some(interval) => format!("layer {layer} {interval}"),
        None => format!("layer {layer} not measured from every seed"),
    };
    let texts: Vec<String> = layers.iter().zip(&intervals).map(text).collect();
    let agreement = mean(mine().map(|row| row.sign_agreement)).unwrap_or(f64::NAN);
    let name = display_name(label);
    Some(Claim {
        id: format!("rms-as-sign-{label}"),
        text: format!(
            "Along {name}, the RMS-normalized minibatch gradient is nearer to the sign of the full gradient than the plain one."
        ),
        measured: format!(
            "Cosine with the sign of the full gradient, normalized minus plain, mean over the run (mean and 95% interval \
             over {}; claimed: above zero): {}. The signs themselves are those of the minibatch's gradient either way; they \
             agree with the full gradient's on {:.0}% of the weights.",
            counted(seeds.len(), "seed"),
            texts.join(", "),
            100.0 * agreement
        ),
        verdict: verdict(&intervals, 1.0),
        source: "section 4, RMS normalization".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run whose metrics are all `metric`.
    fn run(optimizer: &str, factor: f64, seed: u64, distance: f64, loss: f64, metric: f64) -> ExploreRow {
        ExploreRow {
            group: Group::Rate,
            optimizer: optimizer.into(),
            factor: Some(factor),
            epsilon: None,
            learning_rate: factor,
            seed,
            rounds: 10,
            status: "complete".into(),
            train_loss: Some(loss),
            test_loss: Some(loss),
            distance: Some(distance),
            mean_loss: Some(loss),
            taylor_optimum: None,
            mean_regret: None,
            novelty_coarse: Some(metric),
            switches_coarse: Some(metric),
            log_volume_coarse: Some(metric),
            log_det_coarse: Some(metric),
            novelty_fine: Some(metric),
            switches_fine: Some(metric),
            log_volume_fine: Some(metric),
            log_det_fine: Some(metric),
        }
    }

    /// SGD's metrics are the logarithm of its distance; the other optimizer goes twice as far, with `more` on top.
    fn study(more: f64) -> Exploration {
        let mut rows = Vec::new();
        for seed in 0..4 {
            let noise = 0.01 * seed as f64;
            for factor in super::super::FACTORS {
                rows.push(run("sgd", factor, seed, factor, 2.0 - factor / 2.0, factor.ln() + noise));
                rows.push(run("rmsprop", factor, seed, 2.0 * factor, 1.0, (2.0 * factor).ln() + more + 2.0 * noise));
            }
        }
        Exploration { rows, signs: Vec::new(), complete: true }
    }

    fn verdict_of(study: &Exploration, id: &str) -> Verdict {
        evaluate(study).into_iter().find(|claim| claim.id == id).unwrap_or_else(|| panic!("{id}")).verdict
    }

    #[test]
    fn matching_by_distance_tells_exploration_from_travelling_further() {
        // It explores more only because it goes further: nothing is left at equal distance.
        let far = study(0.0);
        assert_eq!(verdict_of(&far, "explores-more-rmsprop"), Verdict::Supported);
        assert_eq!(verdict_of(&far, "explores-more-at-equal-distance-rmsprop"), Verdict::Undecided);
        // Less at equal distance, in spite of more at the tuned rate.
        let less = study(-0.3);
        assert_eq!(verdict_of(&less, "explores-more-rmsprop"), Verdict::Supported);
        assert_eq!(verdict_of(&less, "explores-more-at-equal-distance-rmsprop"), Verdict::NotSupported);
        // More at any distance.
        assert_eq!(verdict_of(&study(0.3), "explores-more-at-equal-distance-rmsprop"), Verdict::Supported);
    }

    #[test]
    fn losses_are_ranked_within_seeds() {
        let study = study(0.0);
        assert_eq!(verdict_of(&study, "exploration-goes-with-loss-sgd"), Verdict::Supported);
        assert_eq!(
            verdict_of(&study, "exploration-goes-with-loss-rmsprop"),
            Verdict::Undecided,
            "its loss is constant"
        );
    }

    #[test]
    fn a_seed_without_a_run_leaves_the_claim_undecided() {
        let mut study = study(1.0);
        let row = study.rows.iter_mut().find(|row| row.optimizer == "sgd" && row.factor == Some(1.0)).unwrap();
        row.status = "diverged".into();
        assert_eq!(verdict_of(&study, "explores-more-rmsprop"), Verdict::Undecided);
    }

    #[test]
    fn verdicts_follow_the_rule() {
        let around = |mean: f64| Interval::of(&[mean - 0.1, mean, mean + 0.1]);
        assert_eq!(verdict(&[around(1.0), around(2.0)], 1.0), Verdict::Supported);
        assert_eq!(verdict(&[around(1.0), around(0.0)], 1.0), Verdict::Undecided);
        assert_eq!(verdict(&[around(-1.0), around(0.0)], 1.0), Verdict::NotSupported);
        assert_eq!(verdict(&[around(-1.0), around(1.0)], 1.0), Verdict::Undecided);
        assert_eq!(verdict(&[around(-1.0)], -1.0), Verdict::Supported);
        assert_eq!(verdict(&[around(1.0), None], 1.0), Verdict::Undecided);
    }

    #[test]
    fn interpolation_stays_between_its_points() {
        let points = [(2.0, 20.0), (0.0, 0.0), (1.0, 5.0)];
        assert_eq!(interpolate(&points, 0.5), Some(2.5));
        assert_eq!(interpolate(&points, 2.0), Some(20.0));
        assert_eq!((interpolate(&points, -0.1), interpolate(&points, 2.1)), (None, None));
    }
}
