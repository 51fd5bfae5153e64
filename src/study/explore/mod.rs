//! The exploration study: does normalizing gradients by their root mean square explore more activation configurations,
//! and does exploring more go with better losses (`docs/theory.md`, section 5, hypothesis 1)?
//!
//! Every optimizer runs at its tuned rate and at multiples of it; Adam is carried to momentum in steps of its epsilon;
//! all from the same seeds, so that runs of a seed start from the same weights and see the same minibatches.
//!
//! - `conditions`: the settings that run; [`rows`]: the table
//! - [`metrics`]: what is measured of a run; [`signs`]: how near minibatch directions come to the full gradient's sign
//! - [`claims`]: what the runs say, with intervals over seeds

pub mod claims;
mod conditions;
pub mod metrics;
pub mod rows;
pub mod signs;

pub use conditions::{EPSILONS, FACTORS, STEERED, SWEEP_END, UNSTEERED};
pub use rows::{Exploration, ExploreRow, Group};

use super::{
    analysis::{Analysis, AnalysisSettings},
    campaign::{Campaign, CampaignEvent, CampaignOptions, Listener, Opened, Table, open},
    enclosure::Certified,
    error::StudyError,
    experiment::{Experiment, Precision},
    folder::Purpose,
    plan::Plan,
    statistics::mean,
    tables::{Comparator, Scale, columns, read_rows, write_rows},
    task::{Task, TypedTask},
    trial::{Outcome, run_trial},
};
use crate::{
    activation::{ActivationRecorder, probe_rows},
    num::Real,
    taylor::{BoundRates, Comparators, RegretSettings, Work},
    train::Observer,
};
use conditions::{Condition, conditions};
use metrics::Metrics;
use signs::{SignRow, SignWatcher};
use std::{path::Path, sync::atomic::AtomicBool};

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
    /// Its seeds begin with the experiment's.
    pub campaign: CampaignOptions<'a>,
    /// Rounds between configurations at the fine time scale; `None` for a tenth of an epoch. The coarse one is the epoch.
    pub fine: Option<usize>,
    pub optima: Optima,
    /// Multiples of the tuned rates other than 1.
    pub factors: &'a [f64],
    /// Values of Adam's epsilon in the sweep.
    pub epsilons: &'a [f64],
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
    events: Listener<ExploreRow>,
) -> Result<Exploration, StudyError> {
    let mut note = |text: &str| events(CampaignEvent::Note { text });
    let opened = open(experiment, &options.campaign, Purpose::Exploration, &mut note)?;
    let runs = Runs::in_folder(&opened, options, events)?;
    match experiment.training.precision {
        Precision::F32 => run_all::<f32>(&opened, options, runs),
        Precision::F64 => run_all::<f64>(&opened, options, runs),
    }
}

const EXPLORE: &str = "explore.csv";
const SIGNS: &str = "signs.csv";

/// A condition, by its place, from a seed.
#[derive(Clone, Copy)]
struct Point {
    condition: usize,
    seed: u64,
}

/// Both tables as they grow.
struct Runs<'a> {
    out: &'a Path,
    conditions: Vec<Condition>,
    rows: Vec<ExploreRow>,
    signs: Vec<SignRow>,
    events: Listener<'a, ExploreRow>,
}

impl<'a> Runs<'a> {
    /// Those that the folder holds already.
    fn in_folder(
        Opened { task, folder, continued, .. }: &Opened,
        options: &ExploreOptions<'a>,
        events: Listener<'a, ExploreRow>,
    ) -> Result<Self, StudyError> {
        let conditions = conditions(task.experiment, options.factors, options.epsilons);
        let (mut rows, mut signs) = (Vec::new(), Vec::new());
        if *continued {
            rows = read_rows(&folder.path.join(EXPLORE))?;
            signs = read_rows(&folder.path.join(SIGNS))?;
        }
        let runs = Self { out: options.campaign.out, conditions, rows, signs, events };
        runs.write()?;
        Ok(runs)
    }

    fn find(&self, point: &Point) -> Option<&ExploreRow> {
        let condition = &self.conditions[point.condition];
        self.rows.iter().find(|row| row.seed == point.seed && is_of(row, condition))
    }

    fn write(&self) -> Result<(), StudyError> {
        write_rows(&self.out.join(SIGNS), columns::SIGNS, &self.signs)?;
        Ok(write_rows(&self.out.join(EXPLORE), columns::EXPLORE, &self.rows)?)
    }
}

/// Whether a row is of this condition, from any seed.
fn is_of(row: &ExploreRow, condition: &Condition) -> bool {
    (row.group, &row.optimizer, row.learning_rate, row.epsilon)
        == (condition.group, &condition.label, condition.config.learning_rate, condition.epsilon)
}

impl Table for Runs<'_> {
    type Point = Point;
    type Outcome = (ExploreRow, Vec<SignRow>);

    fn has(&self, point: &Point) -> bool {
        self.find(point).is_some()
    }

    /// Rows stand in the order of conditions and seeds, whatever order they came in. A run counts as done when it is in `explore.csv`,
    /// so its other rows are written first. Rows of a run that was interrupted between the two files are replaced.
    fn add(&mut self, point: &Point, (row, mut signs): Self::Outcome) -> Result<(), StudyError> {
        let condition = &self.conditions[point.condition];
        if condition.is_tuned() {
            self.signs.retain(|sign| (&sign.optimizer, sign.seed) != (&condition.label, point.seed));
        }
        self.signs.append(&mut signs);
        self.rows.push(row);
        let conditions = &self.conditions;
        self.rows.sort_by_key(|row| (conditions.iter().position(|condition| is_of(row, condition)), row.seed));
        let order = |label: &str| conditions.iter().position(|condition| condition.label == label);
        self.signs.sort_by_key(|sign| (order(&sign.optimizer), sign.seed, sign.round, sign.layer));
        self.write()?;
        if let Some(row) = self.find(point) {
            (self.events)(CampaignEvent::Done { row });
        }
        Ok(())
    }
}

fn run_all<T: Real>(
    Opened { task, planned, .. }: &Opened,
    options: &ExploreOptions,
    runs: Runs,
) -> Result<Exploration, StudyError> {
    let CampaignOptions { seeds, stop, .. } = options.campaign;
    let planned = *planned;
    let (experiment, conditions, events) = (task.experiment, runs.conditions.clone(), runs.events);
    let data = TypedTask::<T>::new(task);
    let campaign = Campaign::new(runs, stop);
    let seeds = (0..seeds as u64).map(|i| experiment.seed.wrapping_add(i));
    let all: Vec<Point> =
        seeds.flat_map(|seed| (0..conditions.len()).map(move |condition| Point { condition, seed })).collect();
    let mut missing = campaign.missing(all.iter().copied());
    // Those at tuned rates come first: an interrupted study has what most claims rest on.
    missing.sort_by_key(|point| !conditions[point.condition].is_tuned());
    events(CampaignEvent::Planned { runs: missing.len(), known: all.len() - missing.len() });
    let per_epoch = planned / experiment.training.epochs;
    let study = Study {
        data: &data,
        planned,
        coarse: per_epoch,
        fine: options.fine.unwrap_or(per_epoch / 10).clamp(1, planned),
        optima: options.optima,
        stop,
    };
    let complete = campaign.run(&missing, |point| study.run(&conditions[point.condition], point.seed))?;
    let Runs { rows, signs, .. } = campaign.into_table();
    Ok(Exploration { rows, signs, complete })
}

/// What the runs of a study share.
struct Study<'a, T: Real> {
    data: &'a TypedTask<'a, T>,
    planned: usize,
    coarse: usize,
    fine: usize,
    optima: Optima,
    stop: &'a AtomicBool,
}

impl<T: Real> Study<'_, T> {
    /// One run; `None` if it was stopped.
    fn run(&self, condition: &Condition, seed: u64) -> Result<Option<(ExploreRow, Vec<SignRow>)>, StudyError> {
        let Task { experiment, network, .. } = self.data.task;
        let (examples, loss) = (self.data.train(), experiment.training.loss);
        let mut probe = Vec::new();
        examples.gather_inputs(&probe_rows(examples.len(), experiment.exploration.probe), &mut probe);
        let mut coarse = ActivationRecorder::new(network, probe.clone(), self.coarse);
        let mut fine = ActivationRecorder::new(network, probe, self.fine);
        let tuned = condition.is_tuned();
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
        let Some(outcome) = run_trial(self.data, &condition.config, seed, &mut observers, self.stop)? else {
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
        let Task { experiment, network, .. } = self.data.task;
        let regret = RegretSettings {
            scales: vec![Scale::Neuron],
            comparators: Comparators::Chosen(vec![Comparator::Ball]),
            prefixes: 1,
            rounds: None,
            ..experiment.regret.settings(self.coarse, network.layers())
        };
        if !Plan::new(network, experiment.training.loss, &regret).streams() || experiment.regret.scales.is_empty() {
            return None;
        }
        let settings = AnalysisSettings {
            regret,
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
        status: outcome.status(),
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
