//! Verdicts on known numbers.

use super::*;
use crate::report::sample::{self, Kind};

fn run(kind: Kind) -> RunTables {
    let dir = tempfile::tempdir().unwrap();
    sample::write(dir.path(), kind);
    RunTables::read(dir.path()).unwrap()
}

fn claim(run: &RunTables, id: &str) -> Claim {
    evaluate(run).into_iter().find(|claim| claim.id == id).unwrap_or_else(|| panic!("no claim {id}"))
}

/// Shrinks a run to a few rows, so that a test sets what it needs.
fn small(kind: Kind) -> RunTables {
    let mut run = run(kind);
    for tables in &mut run.optimizers {
        tables.regret.retain(|row| row.scale == Scale::Network && row.rounds < 4);
        tables.units.retain(|row| row.scale != Scale::Neuron);
    }
    run
}

#[test]
fn final_losses_decide_who_ends_worse() {
    let mut run = small(Kind::Autoencoder);
    for (sgd, verdict) in [(0.0664, Verdict::Supported), (0.0400, Verdict::Undecided), (0.0388, Verdict::NotSupported)]
    {
        run.optimizers[0].summary.last_loss = Some(sgd);
        run.optimizers[1].summary.last_loss = Some(0.0388);
        assert_eq!(claim(&run, "sgd-worse-than-rmsprop").verdict, verdict, "{sgd}");
    }
    run.optimizers[0].summary.last_loss = Some(f64::NAN);
    let claim = claim(&run, "sgd-worse-than-rmsprop");
    assert_eq!(claim.verdict, Verdict::Undecided);
    assert!(claim.measured.contains("SGD (learning rate 1) has no finite final loss"), "{}", claim.measured);
}

#[test]
fn the_best_of_several_rates_is_compared() {
    let mut run = small(Kind::Autoencoder);
    let mut other = run.optimizers[0].clone();
    other.summary.label = "sgd-0.1".into();
    other.summary.learning_rate = Some(0.1);
    other.summary.last_loss = Some(0.05);
    run.optimizers.push(other);
    assert!(claim(&run, "sgd-worse-than-rmsprop").measured.contains("SGD (learning rate 0.1) 0.0500"));
}

#[test]
fn slow_decay_is_counted() {
    let mut run = small(Kind::Autoencoder);
    assert_eq!(claim(&run, "regret-decays-layers").verdict, Verdict::Supported);
    run.optimizers[0].units[0].slope = Some(-0.2);
    let one_slow = claim(&run, "regret-decays-layers");
    assert_eq!(one_slow.verdict, Verdict::Undecided);
    assert!(one_slow.measured.contains("SGD: 6 of 7 units"), "{}", one_slow.measured);
    for unit in run.optimizers.iter_mut().flat_map(|tables| &mut tables.units) {
        unit.slope = Some(-0.2);
    }
    assert_eq!(claim(&run, "regret-decays-layers").verdict, Verdict::NotSupported);
    for unit in run.optimizers.iter_mut().flat_map(|tables| &mut tables.units) {
        unit.mean_regret = -0.1;
    }
    let negative = claim(&run, "regret-decays-layers");
    assert_eq!(negative.verdict, Verdict::Supported);
    assert!(negative.measured.contains("7 of them trivially"), "{}", negative.measured);
    for unit in run.optimizers.iter_mut().flat_map(|tables| &mut tables.units) {
        (unit.mean_regret, unit.slope) = (0.1, None);
    }
    assert_eq!(claim(&run, "regret-decays-layers").verdict, Verdict::Undecided);
}

#[test]
fn one_broken_bound_is_enough() {
    let mut run = small(Kind::Autoencoder);
    assert_eq!(claim(&run, "bound-sgd").verdict, Verdict::Supported);
    let row = &mut run.optimizers[0].regret[0];
    row.bound_sgd = Some(row.mean_regret - 2e-6 * row.mean_loss);
    assert_eq!(claim(&run, "bound-sgd").verdict, Verdict::NotSupported);
    // Rounding is forgiven, and a bound that is no number is not.
    let row = &mut run.optimizers[0].regret[0];
    row.bound_sgd = Some(row.mean_regret - 5e-7 * row.mean_loss);
    assert_eq!(claim(&run, "bound-sgd").verdict, Verdict::Supported);
    run.optimizers[0].regret[0].bound_sgd = Some(f64::NAN);
    assert_eq!(claim(&run, "bound-sgd").verdict, Verdict::NotSupported);
    run.optimizers[0].regret.clear();
    assert_eq!(claim(&run, "bound-sgd").verdict, Verdict::Undecided);
}

#[test]
fn exploration_is_compared_with_sgd() {
    let mut run = small(Kind::Autoencoder);
    for id in ["rmsprop-novelty", "rmsprop-switches", "rmsprop-log-volume", "rmsprop-log-det", "adam-switches"] {
        assert_eq!(claim(&run, id).verdict, Verdict::Supported, "{id}");
    }
    for row in &mut run.optimizers[1].neurons {
        row.switches = 0;
    }
    assert_eq!(claim(&run, "rmsprop-switches").verdict, Verdict::NotSupported);
    for tables in &mut run.optimizers {
        for row in &mut tables.neurons {
            row.switches = 0;
        }
    }
    assert_eq!(claim(&run, "rmsprop-switches").verdict, Verdict::NotSupported);
}

#[test]
fn the_share_of_the_region_decides_what_explains_the_loss() {
    let mut run = small(Kind::Autoencoder);
    let mut set = |optimum: f64, regret: f64| {
        for (i, tables) in run.optimizers.iter_mut().enumerate() {
            let (optimum, regret) = if i == 0 { (optimum, regret) } else { (0.04, 0.01) };
            for unit in &mut tables.units {
                (unit.mean_loss, unit.taylor_optimum, unit.mean_regret) = (optimum + regret, optimum, regret);
            }
        }
        claim(&run, "region-explains-adam").verdict
    };
    assert_eq!(set(0.06, 0.011), Verdict::Supported);
    assert_eq!(set(0.041, 0.03), Verdict::NotSupported);
    assert_eq!(set(0.05, 0.02), Verdict::Undecided);
    assert_eq!(set(0.041, 0.011), Verdict::Undecided, "the losses hardly differ");
}

#[test]
fn claims_need_their_optimizers() {
    let mut run = small(Kind::Autoencoder);
    run.optimizers.retain(|tables| tables.summary.name == "adam");
    let ids: Vec<String> = evaluate(&run).into_iter().map(|claim| claim.id).collect();
    assert_eq!(ids, ["regret-decays-layers"]);
    run.optimizers.clear();
    assert!(evaluate(&run).is_empty());
}

#[test]
fn accuracy_is_claimed_of_convolutional_classifiers_only() {
    let mut run = small(Kind::Classifier);
    assert_eq!(claim(&run, "all-fit-the-training-data").verdict, Verdict::Supported);
    run.optimizers[2].summary.train_accuracy = Some(0.98);
    assert_eq!(claim(&run, "all-fit-the-training-data").verdict, Verdict::NotSupported);
    assert!(evaluate(&small(Kind::Autoencoder)).iter().all(|claim| claim.id != "all-fit-the-training-data"));
}

#[test]
fn the_spread_of_the_last_losses_decides_who_varies_more() {
    let mut run = small(Kind::Classifier);
    let mut set = |sgd: f64, adam: f64| {
        for tables in &mut run.optimizers {
            let size = if tables.summary.name == "sgd" { sgd } else { adam };
            for (i, row) in tables.rounds.iter_mut().enumerate() {
                row.loss = 0.1 + if i % 2 == 0 { size } else { -size };
            }
        }
        claim(&run, "sgd-varies-more-than-adam")
    };
    assert_eq!(set(0.02, 0.01).verdict, Verdict::Supported);
    assert!(set(0.02, 0.01).measured.contains("ratio 2.00"));
    assert_eq!(set(0.0105, 0.01).verdict, Verdict::Undecided);
    assert_eq!(set(0.01, 0.02).verdict, Verdict::NotSupported);
    assert_eq!(set(0.01, f64::NAN).verdict, Verdict::Undecided);
    assert!(evaluate(&small(Kind::Autoencoder)).iter().all(|claim| !claim.id.starts_with("sgd-varies")));
}
