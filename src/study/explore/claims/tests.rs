//! Verdicts on studies whose answer is known.

use super::{judge::interpolate, *};
use crate::study::{
    claims::Verdict,
    explore::rows::{ExploreRow, Group},
    statistics::Interval,
    tables::TrialStatus,
};

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
        status: TrialStatus::Complete,
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
        taylor_gap: None,
        first_novelty_coarse: Some(0.5),
        later_novelty_coarse: Some(metric),
        first_novelty_fine: Some(0.5),
        later_novelty_fine: Some(metric),
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
    assert_eq!(verdict_of(&study, "exploration-goes-with-loss-rmsprop"), Verdict::Undecided, "its loss is constant");
}

#[test]
fn a_seed_without_a_run_leaves_the_claim_undecided() {
    let mut study = study(1.0);
    let row = study.rows.iter_mut().find(|row| row.optimizer == "sgd" && row.factor == Some(1.0)).unwrap();
    row.status = TrialStatus::Diverged;
    assert_eq!(verdict_of(&study, "explores-more-rmsprop"), Verdict::Undecided);
}

#[test]
fn verdicts_follow_the_rule() {
    let around = |mean: f64| Interval::of(&[mean - 0.1, mean, mean + 0.1]);
    let of = |intervals: &[Option<Interval>], side: Side| {
        let names: Vec<String> = (0..intervals.len()).map(|i| format!("m{i}")).collect();
        verdict(intervals, &names, side, 3, "seed")
    };
    let undecided = |reason: &str| (Verdict::Undecided, Some(reason.to_owned()));
    assert_eq!(of(&[around(1.0), around(2.0)], Side::Above), (Verdict::Supported, None));
    assert_eq!(of(&[around(1.0), around(0.0)], Side::Above), undecided("1 of 2 intervals contain zero"));
    assert_eq!(of(&[around(-1.0), around(0.0)], Side::Above), (Verdict::NotSupported, None));
    let both = "1 of 2 intervals lie on the claimed side, 1 on the other";
    assert_eq!(of(&[around(-1.0), around(1.0)], Side::Above), undecided(both));
    assert_eq!(of(&[around(-1.0)], Side::Below), (Verdict::Supported, None));
    assert_eq!(of(&[around(0.0)], Side::Below), undecided("the interval contains zero"));
    assert_eq!(of(&[around(1.0), None], Side::Above), undecided("not measured from every seed: m1"));
    assert_eq!(of(&[None, None], Side::Above), undecided("not measured from every seed"));
}

#[test]
fn two_seeds_decide_nothing() {
    let mut study = study(1.0);
    assert_eq!(verdict_of(&study, "explores-more-rmsprop"), Verdict::Supported);
    study.rows.retain(|row| row.seed < 2);
    for claim in evaluate(&study) {
        assert_eq!(claim.verdict, Verdict::Undecided, "{claim:?}");
        assert_eq!(claim.measured.matches("2 seeds give no useful interval; use at least 3").count(), 1, "{claim:?}");
    }
}

#[test]
fn what_is_missing_is_said_once() {
    let mut study = study(1.0);
    study.rows.iter_mut().filter(|row| row.seed == 3).for_each(|row| row.status = TrialStatus::Diverged);
    for claim in evaluate(&study) {
        assert_eq!(claim.measured.matches("not measured from every seed").count(), 1, "{claim:?}");
    }
}

#[test]
fn one_step_is_no_novelty() {
    let mut study = study(1.0);
    study.rows.iter_mut().for_each(|row| row.later_novelty_coarse = None);
    let claims = evaluate(&study);
    let claim = claims.iter().find(|claim| claim.id == "explores-more-rmsprop").unwrap();
    assert_eq!(claim.verdict, Verdict::Undecided);
    assert!(claim.measured.contains("novelty by epochs. The runs have one epoch"), "{}", claim.measured);
    assert!(claim.measured.contains("left its initialization by 50% of the bits"), "{}", claim.measured);
}

#[test]
fn interpolation_stays_between_its_points() {
    let points = [(2.0, 20.0), (0.0, 0.0), (1.0, 5.0)];
    assert_eq!(interpolate(&points, 0.5), Some(2.5));
    assert_eq!(interpolate(&points, 2.0), Some(20.0));
    assert_eq!((interpolate(&points, -0.1), interpolate(&points, 2.1)), (None, None));
}
