//! Verdicts on known numbers.

use super::*;
use crate::report::sample::{self, Kind};
use crate::study::tables::{Comparator, RegretRow, UnitRow};

fn run(kind: Kind) -> RunTables {
    let dir = tempfile::tempdir().unwrap();
    sample::write(dir.path(), kind);
    RunTables::read(dir.path()).unwrap()
}

fn claim(run: &RunTables, id: &str) -> Claim {
    evaluate(run).into_iter().find(|claim| claim.id == id).unwrap_or_else(|| panic!("no claim {id}"))
}

fn verdict(run: &RunTables, id: &str) -> Verdict {
    claim(run, id).verdict
}

/// Shrinks a run to network and layers, so that a test sets what it needs.
fn small(kind: Kind) -> RunTables {
    let mut run = run(kind);
    run.summary.searched_rates = true;
    for tables in &mut run.optimizers {
        tables.regret.retain(|row| row.scale != Scale::Neuron);
        tables.units.retain(|row| row.scale != Scale::Neuron);
    }
    run
}

fn rows(run: &mut RunTables) -> impl Iterator<Item = &mut RegretRow> {
    run.optimizers.iter_mut().flat_map(|tables| &mut tables.regret)
}

fn units(run: &mut RunTables) -> impl Iterator<Item = &mut UnitRow> {
    run.optimizers.iter_mut().flat_map(|tables| &mut tables.units)
}

/// Sets the regret of each row and unit, by optimizer, layer and prefix, and all gaps to `gap` times the regret.
fn set_regrets(run: &mut RunTables, gap: f64, regret: impl Fn(&str, Option<usize>, usize) -> f64) {
    for tables in &mut run.optimizers {
        let name = tables.summary.name.clone();
        let rounds = tables.summary.rounds;
        for row in &mut tables.regret {
            row.mean_regret = regret(&name, row.layer, row.rounds);
            row.taylor_optimum = row.mean_loss - row.mean_regret;
            row.gap = gap * row.mean_regret.abs();
        }
        for unit in &mut tables.units {
            unit.mean_regret = regret(&name, unit.layer, rounds);
            unit.taylor_optimum = unit.mean_loss - unit.mean_regret;
            unit.gap = gap * unit.mean_regret.abs();
        }
    }
}

fn power(n: usize, exponent: f64) -> f64 {
    0.01 * (n as f64).powf(exponent)
}

#[test]
fn descent_with_momentum_is_not_judged_as_plain_descent() {
    let mut run = small(Kind::Autoencoder);
    assert!(evaluate(&run).iter().any(|claim| claim.id == "sgd-worse-than-adam"));
    run.optimizers[0].summary.settings.insert("momentum".into(), 0.9.into());
    let claims = evaluate(&run);
    assert!(!claims.is_empty() && claims.iter().all(|claim| !claim.text.contains("SGD")), "{claims:?}");
    run.optimizers[0].summary.settings.insert("momentum".into(), 0.into());
    assert!(evaluate(&run).iter().any(|claim| claim.id == "sgd-worse-than-adam"));
}

#[test]
fn final_losses_decide_who_ends_worse() {
    let mut run = small(Kind::Autoencoder);
    for (sgd, expected) in [(0.0664, Verdict::Seen), (0.0400, Verdict::Undecided), (0.0388, Verdict::NotSeen)] {
        run.optimizers[0].summary.last_loss = Some(sgd);
        run.optimizers[1].summary.last_loss = Some(0.0388);
        assert_eq!(verdict(&run, "sgd-worse-than-rmsprop"), expected, "{sgd}");
    }
    run.optimizers[0].summary.last_loss = Some(f64::NAN);
    let claim = claim(&run, "sgd-worse-than-rmsprop");
    assert_eq!(claim.verdict, Verdict::Undecided);
    assert!(claim.measured.contains("SGD (learning rate 1) has no finite final loss"), "{}", claim.measured);
}

#[test]
fn best_rates_are_claimed_only_of_rates_that_were_searched_for() {
    let mut run = small(Kind::Autoencoder);
    assert_eq!(verdict(&run, "sgd-worse-than-rmsprop"), Verdict::Seen);
    run.summary.searched_rates = false;
    let claim = claim(&run, "sgd-worse-than-rmsprop");
    assert_eq!(claim.verdict, Verdict::Undecided);
    assert!(claim.measured.contains("Undecided: rates not searched."), "{}", claim.measured);
}

#[test]
fn one_run_supports_nothing() {
    for kind in [Kind::Autoencoder, Kind::Classifier, Kind::OneRound, Kind::NegativeRegret, Kind::Dead, Kind::Diverged]
    {
        for searched in [false, true] {
            let mut run = run(kind);
            run.summary.searched_rates = searched;
            for claim in evaluate(&run) {
                assert!(!matches!(claim.verdict, Verdict::Supported | Verdict::NotSupported), "{claim:?}");
            }
        }
    }
}

#[test]
fn nothing_is_seen_in_optima_of_which_nothing_is_certified() {
    for kind in [Kind::Autoencoder, Kind::Classifier, Kind::NegativeRegret, Kind::OneRound] {
        for gap in [1.0, f64::NAN] {
            let mut run = run(kind);
            run.summary.searched_rates = true;
            for row in rows(&mut run) {
                // A bound above the loss would hold whatever the optimum is, as losses are not negative.
                row.bound_sgd = row.bound_sgd.map(|bound| bound.min(row.mean_regret + 0.5 * row.taylor_optimum));
                row.gap = gap * row.taylor_optimum;
            }
            for unit in units(&mut run) {
                unit.gap = gap * unit.taylor_optimum;
            }
            let claims = evaluate(&run);
            let of_optima = |claim: &&Claim| ["region-", "regret-", "bound-"].iter().any(|id| claim.id.starts_with(id));
            let resting: Vec<&Claim> = claims.iter().filter(of_optima).collect();
            assert!(resting.len() >= 2, "{claims:?}");
            for claim in resting {
                assert_eq!(claim.verdict, Verdict::Undecided, "{claim:?}");
            }
        }
    }
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
    let id = "regret-decays-layers";
    set_regrets(&mut run, 0.0, |_, _, n| power(n, -0.6));
    let all = claim(&run, id);
    assert_eq!(all.verdict, Verdict::Seen);
    assert!(all.measured.contains("SGD: 7 of 7 units (median slope −0.60);"), "{}", all.measured);
    set_regrets(&mut run, 0.0, |name, layer, n| power(n, if name == "sgd" && layer == Some(2) { -0.2 } else { -0.6 }));
    let one_slow = claim(&run, id);
    assert_eq!(one_slow.verdict, Verdict::Undecided);
    assert!(one_slow.measured.contains("SGD: 6 of 7 units (median slope −0.60), 1 slower;"), "{}", one_slow.measured);
    set_regrets(&mut run, 0.0, |_, _, n| power(n, -0.2));
    assert_eq!(verdict(&run, id), Verdict::NotSeen);
    set_regrets(&mut run, 0.0, |_, _, _| -0.1);
    let negative = claim(&run, id);
    assert_eq!(negative.verdict, Verdict::Seen);
    assert!(negative.measured.contains("7 of them trivially"), "{}", negative.measured);
}

#[test]
fn gaps_decide_whether_a_slope_is_known() {
    let mut run = small(Kind::Autoencoder);
    let id = "regret-decays-layers";
    set_regrets(&mut run, 0.01, |_, _, n| power(n, -0.6));
    assert_eq!(verdict(&run, id), Verdict::Seen);
    set_regrets(&mut run, 1.0, |_, _, n| power(n, -0.6));
    let open = claim(&run, id);
    assert_eq!(open.verdict, Verdict::Undecided);
    assert!(open.measured.contains("0 of 7 units"), "{}", open.measured);
    assert!(open.measured.contains("7 undecided by the solver's gaps"), "{}", open.measured);
    // A gap at the end makes a regret that is reported as negative one that may be positive.
    set_regrets(&mut run, 3.0, |_, _, _| -0.001);
    assert_eq!(verdict(&run, id), Verdict::Undecided);
    // Slow whatever the gaps.
    set_regrets(&mut run, 0.05, |_, _, n| power(n, 0.5));
    assert_eq!(verdict(&run, id), Verdict::NotSeen);
}

#[test]
fn units_with_few_prefixes_are_counted_and_those_that_rise_count_against() {
    let mut run = small(Kind::Autoencoder);
    let id = "regret-decays-layers";
    for tables in &mut run.optimizers {
        let mut prefixes: Vec<usize> = tables.regret.iter().map(|row| row.rounds).filter(|n| *n > 30).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        let kept = prefixes.split_off(prefixes.len() - 4);
        tables.regret.retain(|row| kept.contains(&row.rounds));
    }
    set_regrets(&mut run, 0.0, |_, _, n| power(n, -0.6));
    let few = claim(&run, id);
    assert_eq!(few.verdict, Verdict::Undecided);
    assert!(few.measured.contains("SGD: 0 of 7 units, 7 with too few prefixes (4, 5 needed);"), "{}", few.measured);
    set_regrets(&mut run, 0.0, |_, _, n| power(n, 1.5));
    let rising = claim(&run, id);
    assert_eq!(rising.verdict, Verdict::NotSeen);
    assert!(rising.measured.contains("SGD: 0 of 7 units (median slope 1.5), 7 slower;"), "{}", rising.measured);
    rows(&mut run).for_each(|row| row.mean_regret = f64::NAN);
    units(&mut run).for_each(|unit| unit.mean_regret = f64::NAN);
    assert!(claim(&run, id).measured.contains("7 without numbers"));
    assert_eq!(verdict(&run, id), Verdict::Undecided);
}

#[test]
fn of_a_ball_that_grows_no_slope_is_judged() {
    let mut run = small(Kind::Classifier);
    let id = "regret-decays-layers";
    assert_eq!(run.headline(), Comparator::Ball);
    set_regrets(&mut run, 0.0, |_, _, n| power(n, -0.6));
    assert_eq!(verdict(&run, id), Verdict::Seen);
    rows(&mut run).for_each(|row| row.radius = Some(row.rounds as f64));
    assert_eq!(verdict(&run, id), Verdict::Undecided);
    rows(&mut run).for_each(|row| row.radius = None);
    assert!(claim(&run, id).measured.contains("rises first"));
}

#[test]
fn one_broken_bound_is_enough() {
    let mut run = small(Kind::Autoencoder);
    rows(&mut run).for_each(|row| row.gap = 0.0);
    let holds = claim(&run, "bound-sgd");
    assert_eq!(holds.verdict, Verdict::Seen);
    assert!(holds.measured.starts_with("Holds in this run in 378 of 378 rows"), "{}", holds.measured);
    let mut set = |margin: f64, gap: f64| {
        let row = &mut run.optimizers[0].regret[0];
        row.bound_sgd = Some(row.mean_regret + margin * row.mean_loss);
        row.gap = gap * row.mean_loss;
        claim(&run, "bound-sgd")
    };
    assert_eq!(set(-2e-6, 0.0).verdict, Verdict::NotSupported);
    assert!(set(-2e-6, 0.0).measured.contains("broken in 1"));
    // Rounding is forgiven, and a bound of NaN says nothing.
    assert_eq!(set(-5e-7, 0.0).verdict, Verdict::Seen);
    assert_eq!(set(f64::NAN, 0.0).verdict, Verdict::Undecided);
    // A bound inside the interval of the regret is neither kept nor broken.
    let open = set(0.01, 0.02);
    assert_eq!(open.verdict, Verdict::Undecided);
    assert!(open.measured.contains("undecided in 1, where the solver's gap"), "{}", open.measured);
    assert_eq!(set(0.01, 0.005).verdict, Verdict::Seen);
    run.optimizers[0].regret.clear();
    assert_eq!(verdict(&run, "bound-sgd"), Verdict::Undecided);
}

#[test]
fn each_optimizer_has_the_bound_of_its_own_theorem() {
    let mut run = small(Kind::Autoencoder);
    for (tables, name) in run.optimizers.iter_mut().zip(["adagrad", "ogd", "adam"]) {
        tables.summary.name = name.into();
        for row in &mut tables.regret {
            row.bound_sgd = None;
            row.bound_adagrad = (name == "adagrad").then_some(2.0 * row.mean_loss);
            row.bound_zinkevich = 2.0 * row.mean_loss;
        }
    }
    let ids = |run: &RunTables| -> Vec<String> {
        evaluate(run).into_iter().map(|claim| claim.id).filter(|id| id.starts_with("bound-")).collect()
    };
    assert_eq!(ids(&run), ["bound-ogd", "bound-adagrad"]);
    let adagrad = claim(&run, "bound-adagrad");
    assert_eq!(adagrad.verdict, Verdict::Seen);
    assert!(adagrad.text.contains("AdaGrad") && adagrad.source.contains("Duchi"), "{adagrad:?}");
    let ogd = claim(&run, "bound-ogd");
    assert!(ogd.text.contains("projected online gradient descent"), "{ogd:?}");
    assert!(ogd.measured.contains("in 189 of 189 rows"), "of the ball alone: {ogd:?}");
    // AdaGrad's claim looks at AdaGrad's bound.
    run.optimizers[0].regret[0].bound_zinkevich = -1.0;
    assert_eq!(verdict(&run, "bound-adagrad"), Verdict::Seen);
    run.optimizers[0].regret[0].bound_adagrad = Some(-1.0);
    assert_eq!(verdict(&run, "bound-adagrad"), Verdict::NotSupported);
    // That of Zinkevich holds for steps that were chosen for the same ball, which the tables do not tell.
    run.optimizers[1].regret.iter_mut().for_each(|row| row.bound_zinkevich = -1.0);
    assert_eq!(verdict(&run, "bound-ogd"), Verdict::NotSeen);
    run.optimizers[1].summary.sampled_rounds = Some(10);
    assert_eq!(verdict(&run, "bound-ogd"), Verdict::Undecided);
}

#[test]
fn exploration_is_compared_with_sgd() {
    let mut run = small(Kind::Autoencoder);
    for id in ["rmsprop-novelty", "rmsprop-switches", "rmsprop-log-volume", "rmsprop-log-det", "adam-switches"] {
        assert_eq!(verdict(&run, id), Verdict::Seen, "{id}");
    }
    for row in &mut run.optimizers[1].neurons {
        row.switches = 0;
    }
    assert_eq!(verdict(&run, "rmsprop-switches"), Verdict::NotSeen);
    for tables in &mut run.optimizers {
        for row in &mut tables.neurons {
            row.switches = 0;
        }
    }
    assert_eq!(verdict(&run, "rmsprop-switches"), Verdict::NotSeen);
}

#[test]
fn the_step_that_leaves_the_initialization_is_no_novelty() {
    let mut run = small(Kind::Autoencoder);
    for tables in &mut run.optimizers {
        for (i, row) in tables.novelty.iter_mut().enumerate() {
            let later = if tables.summary.name == "sgd" { 10 } else { 20 };
            row.min_hamming = (i > 0).then_some(if i == 1 { 100_000 / later } else { later });
        }
    }
    let found = claim(&run, "rmsprop-novelty");
    assert_eq!(found.verdict, Verdict::Seen, "{}", found.measured);
    assert!(
        found.measured.contains("SGD (learning rate 1) 10.0, RMSProp (learning rate 0.003) 20.0"),
        "{}",
        found.measured
    );
    assert!(
        found.measured.contains("SGD left its initialization by 10,000 bits, RMSProp by 5,000"),
        "{}",
        found.measured
    );
    run.optimizers.iter_mut().for_each(|tables| tables.novelty.truncate(2));
    let one_step = claim(&run, "rmsprop-novelty");
    assert_eq!(one_step.verdict, Verdict::Undecided);
    assert!(one_step.measured.contains("only one step"), "{}", one_step.measured);
}

#[test]
fn the_share_of_the_region_decides_what_explains_the_loss() {
    let mut run = small(Kind::Autoencoder);
    let mut set = |optimum: f64, regret: f64, gap: f64| {
        for (i, tables) in run.optimizers.iter_mut().enumerate() {
            let (optimum, regret) = if i == 0 { (optimum, regret) } else { (0.04, 0.01) };
            for unit in &mut tables.units {
                (unit.mean_loss, unit.taylor_optimum, unit.mean_regret) = (optimum + regret, optimum, regret);
                unit.gap = gap;
            }
        }
        claim(&run, "region-explains-adam")
    };
    assert_eq!(set(0.06, 0.011, 0.0).verdict, Verdict::Seen);
    assert_eq!(set(0.041, 0.03, 0.0).verdict, Verdict::NotSeen);
    let middle = set(0.05, 0.02, 0.0);
    assert_eq!(middle.verdict, Verdict::Undecided);
    assert!(middle.measured.contains("Undecided: between the two."), "{}", middle.measured);
    let same = set(0.041, 0.011, 0.0);
    assert_eq!(same.verdict, Verdict::Undecided);
    assert!(same.measured.contains("hardly differ"), "{}", same.measured);
    // Optima 0.06 and 0.04, each known to 0.005: the share of 0.021 lies between 71% and 119%.
    let known = set(0.06, 0.011, 0.005);
    assert_eq!(known.verdict, Verdict::Seen);
    assert!(known.measured.contains("Taylor optimum [0.0150, 0.0250]"), "{}", known.measured);
    assert!(known.measured.contains("71% to 119%"), "{}", known.measured);
    let open = set(0.06, 0.011, 0.01);
    assert_eq!(open.verdict, Verdict::Undecided);
    assert!(open.measured.contains("the solver's gaps allow both sides"), "{}", open.measured);
    assert_eq!(set(0.041, 0.03, 0.005).verdict, Verdict::NotSeen);
    assert_eq!(set(0.06, 0.011, f64::NAN).verdict, Verdict::Undecided);
}

#[test]
fn optima_of_other_rounds_or_units_are_not_compared() {
    let mut run = small(Kind::Autoencoder);
    run.optimizers[0].regret.retain(|row| row.rounds < 100);
    let other = claim(&run, "region-explains-adam");
    assert_eq!(other.verdict, Verdict::Undecided);
    assert!(other.measured.contains("and of 938 rounds"), "{}", other.measured);
    let mut run = small(Kind::Autoencoder);
    run.optimizers.iter_mut().for_each(|tables| tables.units.retain(|unit| unit.scale == Scale::Layer));
    run.optimizers[0].units[0].taylor_optimum = f64::NAN;
    assert_eq!(verdict(&run, "region-explains-adam"), Verdict::Undecided);
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
    let id = "all-fit-the-training-data";
    assert_eq!(verdict(&run, id), Verdict::Seen);
    run.optimizers[0].summary.train_accuracy = None;
    assert_eq!(verdict(&run, id), Verdict::Undecided);
    run.optimizers[2].summary.train_accuracy = Some(0.98);
    assert_eq!(verdict(&run, id), Verdict::NotSeen, "one is enough");
    assert!(evaluate(&small(Kind::Autoencoder)).iter().all(|claim| claim.id != id));
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
    assert_eq!(set(0.02, 0.01).verdict, Verdict::Seen);
    assert!(set(0.02, 0.01).measured.contains("ratio 2.00"));
    assert_eq!(set(0.0105, 0.01).verdict, Verdict::Undecided);
    assert_eq!(set(0.01, 0.02).verdict, Verdict::NotSeen);
    assert_eq!(set(0.01, f64::NAN).verdict, Verdict::Undecided);
    assert!(evaluate(&small(Kind::Autoencoder)).iter().all(|claim| !claim.id.starts_with("sgd-varies")));
}

#[test]
fn verdicts_are_counted_and_keep_their_words_in_files() {
    let of = |verdict| Claim {
        id: String::new(),
        text: String::new(),
        measured: String::new(),
        verdict,
        source: String::new(),
    };
    let claims = [Verdict::Undecided, Verdict::Seen, Verdict::Seen, Verdict::NotSupported].map(of);
    assert_eq!(Tally::of(&claims).to_string(), "2 seen in this run, 1 undecided, 1 not supported");
    assert_eq!(Tally::of(&[]).to_string(), "no claims");
    let words = [Verdict::Supported, Verdict::Seen, Verdict::NotSeen, Verdict::NotSupported, Verdict::Undecided]
        .map(|verdict| serde_json::to_string(&verdict).unwrap());
    assert_eq!(words.join(","), r#""supported","seen","not_seen","not_supported","undecided""#);
}
