//! The exploration study: does normalizing gradients by their root mean square explore more activation configurations,
//! and does exploring more go with better losses (`docs/theory.md`, section 5, hypothesis 1)?
//!
//! Every optimizer runs at its tuned rate and at multiples of it; Adam is carried to momentum in steps of its epsilon;
//! all from the same seeds, so that runs of a seed start from the same weights and see the same minibatches.
//!
//! - [`metrics`]: what is measured of a run; [`signs`]: how near minibatch directions come to the full gradient's sign
//! - [`claims`]: what the runs say, with intervals over seeds

pub mod claims;
pub mod metrics;
pub mod signs;

use super::{
    analysis::{Analysis, AnalysisSettings},
    enclosure::Certified,
    experiment::{Experiment, Precision},
    inputs::Inputs,
    lock::Lock,
    results::mean,
    run::{StudyError, resolve, set_aside},
    tables::{Comparator, Scale, columns, read_rows, write_rows},
    trial::{Outcome, Trials, begin, side_by_side},
    tune::rounded,
};
use crate::{
    activation::{ActivationRecorder, probe_rows},
    kernels::Real,
    loss::Loss,
    optim::OptimizerConfig,
    taylor::{BoundRates, Comparators, RegretSettings, Work},
    train::Observer,
};
use metrics::Metrics;
use serde::{Deserialize, Serialize};
use signs::{SignRow, SignWatcher};
use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

/// Multiples of the tuned rate at which every optimizer runs, unless others are asked for; 1 is the tuned rate itself.
pub const FACTORS: [f64; 6] = [0.1, 0.2, 0.5, 1.0, 1.5, 2.0];

/// Values of Adam's epsilon between Adam and momentum, unless others are asked for.
pub const EPSILONS: [f64; 8] = [1e-8, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 100.0];

/// The optimizer that the sweep of epsilon ends at.
pub const SWEEP_END: &str = "momentum";

/// The optimizer that uses what it explores, and the one that it is without.
pub const STEERED: &str = "explorer";
pub const UNSTEERED: &str = "adam";

/// Which runs have the Taylor optima of their neurons measured, the most expensive part of a study of larger networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Optima {
    #[default]
    All,
    /// Those at tuned rates.
    Tuned,
    None,
}

/// How to explore.
#[derive(Clone, Copy, Debug)]
pub struct ExploreOptions<'a> {
    /// The folder of the study.
    pub out: &'a Path,
    /// Where the datasets lie.
    pub data: Option<&'a Path>,
    /// Seeds, from the experiment's on.
    pub seeds: usize,
    /// Rounds between configurations at the fine time scale; `None` for a tenth of an epoch. The coarse one is the epoch.
    pub fine: Option<usize>,
    pub optima: Optima,
    /// Multiples of the tuned rates beside 1.
    pub factors: &'a [f64],
    /// Values of Adam's epsilon in the sweep.
    pub epsilons: &'a [f64],
    /// Begin anew where the folder holds another study.
    pub overwrite: bool,
    /// Set from outside to stop after the current rounds.
    pub stop: &'a AtomicBool,
}

/// What a run of the study varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// The learning rate, as multiples of the tuned one.
    Rate,
    /// Adam's epsilon.
    Epsilon,
}

/// `explore.csv`: one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExploreRow {
    pub group: Group,
    /// The optimizer's label in the experiment.
    pub optimizer: String,
    /// Multiple of the tuned rate; empty in the sweep of epsilon.
    pub factor: Option<f64>,
    /// Empty outside the sweep of epsilon.
    pub epsilon: Option<f64>,
    pub learning_rate: f64,
    pub seed: u64,
    pub rounds: usize,
    /// `complete` or `diverged`; what follows is empty if diverged.
    pub status: String,
    /// Over the whole training set after the last round.
    pub train_loss: Option<f64>,
    pub test_loss: Option<f64>,
    /// `|W^(N+1) - W^1|`.
    pub distance: Option<f64>,
    /// Mean minibatch loss over all rounds.
    pub mean_loss: Option<f64>,
    /// Mean over neurons of the Taylor optimum of the whole run, against the best weights anywhere; for the mean squared
    /// error.
    pub taylor_optimum: Option<f64>,
    /// `mean_loss - taylor_optimum`.
    pub mean_regret: Option<f64>,
    pub novelty_coarse: Option<f64>,
    pub switches_coarse: Option<f64>,
    pub log_volume_coarse: Option<f64>,
    pub log_det_coarse: Option<f64>,
    pub novelty_fine: Option<f64>,
    pub switches_fine: Option<f64>,
    pub log_volume_fine: Option<f64>,
    pub log_det_fine: Option<f64>,
    /// Mean over neurons of the gaps of their Taylor optima; this and what follows are absent from tables of version
    /// 0.1.0.
    #[serde(default)]
    pub taylor_gap: Option<f64>,
    /// Novelty of the first step, from the initial weights, and mean novelty of those after it; empty without them.
    #[serde(default)]
    pub first_novelty_coarse: Option<f64>,
    #[serde(default)]
    pub later_novelty_coarse: Option<f64>,
    #[serde(default)]
    pub first_novelty_fine: Option<f64>,
    #[serde(default)]
    pub later_novelty_fine: Option<f64>,
}

impl ExploreRow {
    fn is(&self, condition: &Condition, seed: u64) -> bool {
        (self.group, &self.optimizer, self.learning_rate, self.epsilon, self.seed)
            == (condition.group, &condition.label, condition.config.learning_rate, condition.epsilon, seed)
    }
}

/// All runs of a study.
#[derive(Clone, Debug, PartialEq)]
pub struct Exploration {
    pub rows: Vec<ExploreRow>,
    pub signs: Vec<SignRow>,
    /// Whether all runs were done.
    pub complete: bool,
}

/// One setting that runs from every seed.
#[derive(Clone, Debug, PartialEq)]
struct Condition {
    group: Group,
    label: String,
    config: OptimizerConfig,
    factor: Option<f64>,
    epsilon: Option<f64>,
}

/// What a study tells its caller as it goes.
#[derive(Clone, Copy, Debug)]
pub enum ExploreEvent<'a> {
    /// What the user should know of the data.
    Note { text: &'a str },
    /// So many runs follow, beside those that were found in the folder.
    Planned { runs: usize, known: usize },
    /// A run was done.
    Run { row: &'a ExploreRow },
}

/// Runs the study of `experiment`, whose learning rates are taken for the tuned ones, and writes `explore.csv` and
/// `signs.csv`. Runs that are in them are not repeated.
///
/// # Errors
///
/// If the experiment cannot be run, or the folder holds another study or cannot be written.
pub fn explore(
    experiment: &Experiment,
    options: &ExploreOptions,
    events: &(dyn Fn(ExploreEvent) + Sync),
) -> Result<Exploration, StudyError> {
    match experiment.training.precision {
        Precision::F32 => explore_in::<f32>(experiment, options, events),
        Precision::F64 => explore_in::<f64>(experiment, options, events),
    }
}

fn explore_in<T: Real>(
    experiment: &Experiment,
    options: &ExploreOptions,
    events: &(dyn Fn(ExploreEvent) + Sync),
) -> Result<Exploration, StudyError> {
    let (mut dataset, network) = resolve(experiment, options.data)?;
    let inputs = Inputs::of(experiment, &dataset)?;
    dataset.notes.iter().for_each(|text| events(ExploreEvent::Note { text }));
    set_aside(experiment, &mut dataset)?;
    let trials = Trials::<T>::new(experiment, &dataset, &network);
    let planned = trials.check()?;
    let conditions = conditions(experiment, options);
    let seeds: Vec<u64> = (0..options.seeds as u64).map(|i| experiment.seed.wrapping_add(i)).collect();
    let (lock, (rows, signs)) = prepare(experiment, &inputs, options)?;
    if let Some(text) = lock.warning(options.out) {
        events(ExploreEvent::Note { text: &text });
    }
    let mut runs: Vec<(&Condition, u64)> = seeds
        .iter()
        .flat_map(|seed| conditions.iter().map(move |condition| (condition, *seed)))
        .filter(|(condition, seed)| !rows.iter().any(|row| row.is(condition, *seed)))
        .collect();
    // Those at tuned rates come first: an interrupted study has what most claims rest on.
    runs.sort_by_key(|(condition, _)| condition.factor != Some(1.0));
    let known = conditions.len() * seeds.len() - runs.len();
    events(ExploreEvent::Planned { runs: runs.len(), known });
    let per_epoch = planned / experiment.training.epochs;
    let study = Study {
        trials: &trials,
        planned,
        coarse: per_epoch,
        fine: options.fine.unwrap_or(per_epoch / 10).clamp(1, planned),
        optima: options.optima,
        stop: options.stop,
    };
    let tables = Mutex::new((rows, signs));
    let done = side_by_side(runs.len(), |index| {
        let (condition, seed) = runs[index];
        if options.stop.load(Ordering::SeqCst) {
            return Ok(false);
        }
        let Some((row, mut more)) = study.run(condition, seed)? else { return Ok(false) };
        let mut tables = tables.lock().expect("no run panics while it holds the tables");
        let (rows, signs) = &mut *tables;
        // A run counts as done when it is in explore.csv, so its other rows are written first. Rows of a run that was
        // interrupted between the two files are replaced.
        signs.retain(|sign| condition.factor != Some(1.0) || (&sign.optimizer, sign.seed) != (&condition.label, seed));
        signs.append(&mut more);
        rows.push(row);
        write_tables(options.out, &conditions, rows, signs)?;
        if let Some(row) = rows.iter().find(|row| row.is(condition, seed)) {
            events(ExploreEvent::Run { row });
        }
        Ok::<bool, StudyError>(true)
    });
    let mut complete = true;
    for run in done {
        complete &= run?;
    }
    let (rows, signs) = tables.into_inner().expect("no run panics while it holds the tables");
    Ok(Exploration { rows, signs, complete })
}

/// The settings of the study: every optimizer at multiples of its rate, and Adam's sweep of epsilon.
fn conditions(experiment: &Experiment, options: &ExploreOptions) -> Vec<Condition> {
    let mut factors = [options.factors, &[1.0]].concat();
    factors.sort_by(f64::total_cmp);
    factors.dedup();
    let mut conditions = Vec::new();
    for (config, label) in experiment.optimizer.iter().zip(experiment.labels()) {
        for &factor in &factors {
            // The tuned rate itself stays as it is, to the bit.
            let rate = config.learning_rate;
            let learning_rate = if factor == 1.0 { rate } else { rounded(rate * factor, 4) };
            let config = OptimizerConfig { learning_rate, ..config.clone() };
            let (label, factor) = (label.clone(), Some(factor));
            conditions.push(Condition { group: Group::Rate, label, config, factor, epsilon: None });
        }
    }
    let named = |name: &str| experiment.optimizer.iter().position(|config| config.name == name);
    if let (Some(adam), Some(momentum)) = (named(UNSTEERED), named(SWEEP_END)) {
        let label = &experiment.labels()[adam];
        for &epsilon in options.epsilons {
            let config = between(&experiment.optimizer[adam], &experiment.optimizer[momentum], epsilon);
            let (group, label) = (Group::Epsilon, label.clone());
            conditions.push(Condition { group, label, config, factor: None, epsilon: Some(epsilon) });
        }
    }
    conditions
}

/// Adam with `epsilon` between Adam and momentum at their own rates.
///
/// With `s = sqrt(v)`, `m` the running mean of gradients and `c = rate_momentum / (1 - beta1)`, the learning rate
/// `rate_adam + epsilon c` makes the step of a coordinate
///
/// ```text
/// (rate_adam + epsilon c) m / (s + epsilon)  =  s / (s + epsilon) * rate_adam m / s  +  epsilon / (s + epsilon) * c m,
/// ```
///
/// a weighted mean of Adam's step and of momentum's (`c m`, as momentum sums gradients where Adam averages them). So
/// `epsilon = 0` is Adam and `epsilon -> infinity` momentum with `momentum = beta1`, both at their tuned rates. The mean is
/// not corrected for its start at zero, as momentum's velocity is not.
fn between(adam: &OptimizerConfig, momentum: &OptimizerConfig, epsilon: f64) -> OptimizerConfig {
    let beta1 = momentum.settings.get("momentum").copied().unwrap_or(0.9);
    let mut config = adam.clone();
    config.learning_rate = rounded(adam.learning_rate + epsilon * momentum.learning_rate / (1.0 - beta1), 6);
    config.settings.insert("eps".into(), epsilon);
    config.settings.insert("beta1".into(), beta1);
    config.settings.insert("correct_mean".into(), 0.0);
    config
}

/// What the runs of a study share.
struct Study<'a, T: Real> {
    trials: &'a Trials<'a, T>,
    planned: usize,
    coarse: usize,
    fine: usize,
    optima: Optima,
    stop: &'a AtomicBool,
}

impl<T: Real> Study<'_, T> {
    /// One run; `None` if it was stopped.
    fn run(&self, condition: &Condition, seed: u64) -> Result<Option<(ExploreRow, Vec<SignRow>)>, StudyError> {
        let (experiment, network) = (self.trials.experiment, self.trials.network);
        let (examples, loss) = (self.trials.examples(), experiment.training.loss);
        let mut probe = Vec::new();
        examples.gather_inputs(&probe_rows(examples.len(), experiment.exploration.probe), &mut probe);
        let mut coarse = ActivationRecorder::new(network, probe.clone(), self.coarse);
        let mut fine = ActivationRecorder::new(network, probe, self.fine);
        let tuned = condition.factor == Some(1.0);
        let wanted = self.optima == Optima::All || self.optima == Optima::Tuned && tuned;
        let mut analysis = if wanted { self.analysis() } else { None };
        let mut signs = tuned.then(|| SignWatcher::new(network, loss, examples, self.planned));
        let mut observers: Vec<&mut dyn Observer<T>> = vec![&mut coarse, &mut fine];
        if let Some(analysis) = &mut analysis {
            observers.push(analysis);
        }
        if let Some(signs) = &mut signs {
            observers.push(signs);
        }
        let Some(outcome) = self.trials.run(&condition.config, seed, &mut observers, self.stop)? else {
            return Ok(None);
        };
        let mut row = empty_row(condition, seed, &outcome);
        let signs = signs.map_or_else(Vec::new, |signs| signs.into_rows(&condition.label, seed));
        if outcome.diverged {
            return Ok(Some((row, signs)));
        }
        (row.train_loss, row.test_loss) = (Some(outcome.train.loss), Some(outcome.test.loss));
        (row.distance, row.mean_loss) = (Some(outcome.distance), Some(outcome.mean_loss));
        if let Some(analysis) = analysis {
            let (tables, _) = analysis.complete(&examples, &mut Work::to_the_end(), |_| ());
            row.taylor_optimum = mean(tables.units.iter().map(|unit| unit.taylor_optimum));
            row.taylor_gap = mean(tables.units.iter().map(|unit| unit.taylor_optimum - unit.optimum().low));
            row.mean_regret = row.taylor_optimum.map(|optimum| outcome.mean_loss - optimum);
        }
        let (coarse, fine) = (Metrics::of(&coarse.configurations), Metrics::of(&fine.configurations));
        (row.novelty_coarse, row.switches_coarse) = (Some(coarse.novelty), Some(coarse.switches));
        (row.log_volume_coarse, row.log_det_coarse) = (Some(coarse.log_volume), Some(coarse.log_det));
        (row.novelty_fine, row.switches_fine) = (Some(fine.novelty), Some(fine.switches));
        (row.log_volume_fine, row.log_det_fine) = (Some(fine.log_volume), Some(fine.log_det));
        (row.first_novelty_coarse, row.later_novelty_coarse) = (coarse.first_novelty, coarse.later_novelty);
        (row.first_novelty_fine, row.later_novelty_fine) = (fine.first_novelty, fine.later_novelty);
        Ok(Some((row, signs)))
    }

    /// The Taylor optimum of every neuron over the whole run, where it has a closed form that streams.
    fn analysis(&self) -> Option<Analysis<T>> {
        let (experiment, network) = (self.trials.experiment, self.trials.network);
        let streams = experiment.training.loss == Loss::Mse && network.is_dense_chain();
        if !streams || experiment.regret.scales.is_empty() {
            return None;
        }
        let settings = AnalysisSettings {
            regret: RegretSettings {
                scales: vec![Scale::Neuron],
                comparators: Comparators::Chosen(vec![Comparator::Ball]),
                prefixes: 1,
                rounds: None,
                ..experiment.regret.settings(self.coarse, network.layers())
            },
            planned_rounds: self.planned,
            batch: experiment.training.batch_size,
            every: self.planned,
            pool_winners: false,
            // For windows of networks with convolutions, which there is none of here.
            memory: 0,
            rates: BoundRates::default(),
            // The only prefix is the whole run.
            displacements: None,
        };
        Some(Analysis::new(network, experiment.training.loss, settings, Vec::new()))
    }
}

fn empty_row<T>(condition: &Condition, seed: u64, outcome: &Outcome<T>) -> ExploreRow {
    ExploreRow {
        group: condition.group,
        optimizer: condition.label.clone(),
        factor: condition.factor,
        epsilon: condition.epsilon,
        learning_rate: condition.config.learning_rate,
        seed,
        rounds: outcome.rounds,
        status: if outcome.diverged { "diverged" } else { "complete" }.to_owned(),
        train_loss: None,
        test_loss: None,
        distance: None,
        mean_loss: None,
        taylor_optimum: None,
        mean_regret: None,
        novelty_coarse: None,
        switches_coarse: None,
        log_volume_coarse: None,
        log_det_coarse: None,
        novelty_fine: None,
        switches_fine: None,
        log_volume_fine: None,
        log_det_fine: None,
        taylor_gap: None,
        first_novelty_coarse: None,
        later_novelty_coarse: None,
        first_novelty_fine: None,
        later_novelty_fine: None,
    }
}

/// Writes both tables in the order of settings and seeds, whatever order the runs came in.
fn write_tables(
    out: &Path,
    conditions: &[Condition],
    rows: &mut [ExploreRow],
    signs: &mut [SignRow],
) -> Result<(), StudyError> {
    let place = |row: &ExploreRow| conditions.iter().position(|condition| row.is(condition, row.seed));
    rows.sort_by_key(|row| (place(row), row.seed));
    let order = |label: &str| conditions.iter().position(|condition| condition.label == label);
    signs.sort_by_key(|sign| (order(&sign.optimizer), sign.seed, sign.round, sign.layer));
    write_rows(&out.join("signs.csv"), columns::SIGNS, signs)?;
    Ok(write_rows(&out.join("explore.csv"), columns::EXPLORE, rows)?)
}

type Tables = (Vec<ExploreRow>, Vec<SignRow>);

/// Makes the folder ready and gives the rows that it holds already.
fn prepare(experiment: &Experiment, inputs: &Inputs, options: &ExploreOptions) -> Result<(Lock, Tables), StudyError> {
    let (out, name) = (options.out, "explore.csv");
    let (table, signs) = (out.join(name), out.join("signs.csv"));
    // A study may begin with a search of its own.
    let (lock, continued) = begin(experiment, inputs, out, name, options.overwrite, |entry| entry == "tune")?;
    let known = if continued { (read_rows(&table)?, read_rows(&signs)?) } else { (Vec::new(), Vec::new()) };
    write_rows(&signs, columns::SIGNS, &known.1)?;
    write_rows(&table, columns::EXPLORE, &known.0)?;
    Ok((lock, known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        network::{LayerSpec, Network, he_uniform},
        optim::OptimizerConfig,
    };

    #[test]
    fn the_sweep_of_epsilon_begins_at_adam_and_ends_at_momentum() {
        let network = Network::new(3, &[LayerSpec::dense(4)]).unwrap();
        let mut adam = OptimizerConfig::named("adam", Some(0.01)).unwrap();
        adam.settings.insert("correct_mean".into(), 0.0);
        let momentum = OptimizerConfig::named("momentum", Some(0.05)).unwrap();
        // Gradients of very different sizes, as normalization would even out.
        let gradient = |round: usize, j: usize| ((round * 7 + j * 3) as f64).sin() * 10f64.powi(j as i32 % 4 - 2);
        let descend = |config: &OptimizerConfig| {
            let mut weights: Vec<f64> = he_uniform(&network, 0);
            let mut optimizer = config.build::<f64>(&network).unwrap();
            for round in 1..=400 {
                let g: Vec<f64> = (0..weights.len()).map(|j| gradient(round, j)).collect();
                optimizer.step(round, &mut weights, &g);
            }
            weights
        };
        let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let (first, last) = (descend(&adam), descend(&momentum));
        assert!(apart(&first, &last) > 0.1, "the ends differ");
        let exact = between(&adam, &momentum, 1e-8);
        assert!(apart(&descend(&exact), &first) < 1e-5 * apart(&first, &last), "Adam's own epsilon");
        assert!(apart(&descend(&between(&adam, &momentum, 1e9)), &last) < 1e-6 * apart(&first, &last));
        let far = |epsilon: f64| apart(&descend(&between(&adam, &momentum, epsilon)), &first);
        assert!(far(1e-6) < far(1e-2) && far(1e-2) < far(10.0), "it goes away from Adam as epsilon grows");
    }
}
