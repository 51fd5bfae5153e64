//! Learning-rate search: a coarse logarithmic grid per optimizer, then finer rates around the best.
//!
//! Every point is one optimizer at one rate from one seed, trained as the experiment says; its value is the loss of the whole
//! training set after the last round. A rate is judged by the mean over the seeds. One that diverges from any of them is out,
//! and so is every larger one, and the last rate below: it may diverge from the next seed. The search (`search`) knows nothing but
//! these values, so it takes the same steps again when it is resumed, and points that are in `tune.csv` are not computed again.

mod search;

pub use search::Tuned;
pub(super) use search::rounded;

use super::{
    campaign::{Campaign, CampaignEvent, CampaignOptions, Listener, Opened, Table, open},
    error::StudyError,
    experiment::{Experiment, Precision},
    folder::Purpose,
    tables::{TrialStatus, columns, read_rows, write_rows},
    task::TypedTask,
    trial::run_trial,
};
use crate::num::Real;
use search::RateSearch;
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, sync::atomic::AtomicBool};

/// How to search.
#[derive(Clone, Copy, Debug)]
pub struct TuneOptions<'a> {
    /// Its seeds are those per rate.
    pub campaign: CampaignOptions<'a>,
    /// How often the spacing around the best rate is halved.
    pub refinements: usize,
}

/// The seeds of a search begin this far from the experiment's: rates are not fitted to the runs that they are
/// compared on.
const SEED_OFFSET: u64 = 1_000_000;

/// `tune.csv`: one trained point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TuneRow {
    /// The optimizer's label in the experiment.
    pub optimizer: String,
    pub learning_rate: f64,
    pub seed: u64,
    /// Completed rounds.
    pub rounds: usize,
    pub status: TrialStatus,
    /// Over the whole training set after the last round; empty if diverged.
    pub train_loss: Option<f64>,
    /// Over the whole test set after the last round; empty if diverged. Shown, not used.
    pub test_loss: Option<f64>,
}

/// A search, done or interrupted.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    pub points: Vec<TuneRow>,
    pub tuned: Vec<Tuned>,
    /// Whether the search was completed.
    pub complete: bool,
}

/// Searches the learning rate of every optimizer of `experiment` and writes `tune.csv`, `tuned.toml` and `tuned.json`.
///
/// # Errors
///
/// If the experiment cannot be run, or the folder holds another search or cannot be written.
pub fn tune(experiment: &Experiment, options: &TuneOptions, events: Listener<TuneRow>) -> Result<Search, StudyError> {
    let mut note = |text: &str| events(CampaignEvent::Note { text });
    let opened = open(experiment, &options.campaign, Purpose::Search, &mut note)?;
    let points = Points::in_folder(&opened, events)?;
    match experiment.training.precision {
        Precision::F32 => search_all::<f32>(&opened, options, points),
        Precision::F64 => search_all::<f64>(&opened, options, points),
    }
}

/// One optimizer at one rate from one seed.
#[derive(Clone, Copy)]
struct Point {
    /// The optimizer's place in the experiment.
    optimizer: usize,
    rate: f64,
    seed: u64,
}

/// `tune.csv` as it grows.
struct Points<'a> {
    path: PathBuf,
    labels: Vec<String>,
    rows: Vec<TuneRow>,
    events: Listener<'a, TuneRow>,
}

impl<'a> Points<'a> {
    /// Those that the folder holds already.
    fn in_folder(opened: &Opened, events: Listener<'a, TuneRow>) -> Result<Self, StudyError> {
        let path = opened.folder.path.join(Purpose::Search.mark());
        let rows = if opened.continued { read_rows(&path)? } else { Vec::new() };
        let points = Self { path, labels: opened.task.experiment.labels(), rows, events };
        // Even without a point, the folder is that of a search.
        write_rows(&points.path, columns::TUNE, &points.rows)?;
        Ok(points)
    }

    fn find(&self, point: &Point) -> Option<&TuneRow> {
        let Point { optimizer, rate, seed } = *point;
        let is_it =
            |row: &&TuneRow| row.optimizer == self.labels[optimizer] && row.learning_rate == rate && row.seed == seed;
        self.rows.iter().find(is_it)
    }

    /// The mean loss of an optimizer at a rate over `seeds`; `None` if training diverged from any of them.
    fn value(&self, optimizer: usize, rate: f64, seeds: &[u64]) -> Option<f64> {
        let losses = seeds.iter().map(|seed| self.find(&Point { optimizer, rate, seed: *seed })?.train_loss);
        let losses = losses.collect::<Option<Vec<f64>>>()?;
        Some(losses.iter().sum::<f64>() / seeds.len() as f64)
    }
}

impl Table for Points<'_> {
    type Point = Point;
    type Outcome = TuneRow;

    fn has(&self, point: &Point) -> bool {
        self.find(point).is_some()
    }

    /// Rows stand in the order of optimizers, rates and seeds, whatever order they came in.
    fn add(&mut self, point: &Point, row: TuneRow) -> Result<(), StudyError> {
        self.rows.push(row);
        let place = |row: &TuneRow| self.labels.iter().position(|label| *label == row.optimizer);
        self.rows.sort_by(|a, b| {
            place(a).cmp(&place(b)).then(a.learning_rate.total_cmp(&b.learning_rate)).then(a.seed.cmp(&b.seed))
        });
        write_rows(&self.path, columns::TUNE, &self.rows)?;
        if let Some(row) = self.find(point) {
            (self.events)(CampaignEvent::Done { row });
        }
        Ok(())
    }
}

fn search_all<T: Real>(opened: &Opened, options: &TuneOptions, points: Points) -> Result<Search, StudyError> {
    let Opened { task, folder, .. } = opened;
    let CampaignOptions { seeds, stop, .. } = options.campaign;
    let (experiment, labels, events) = (task.experiment, points.labels.clone(), points.events);
    let data = TypedTask::<T>::new(task);
    let campaign = Campaign::new(points, stop);
    let seeds: Vec<u64> = (0..seeds as u64).map(|i| experiment.seed.wrapping_add(SEED_OFFSET + i)).collect();
    let mut searches = vec![RateSearch::new(options.refinements); labels.len()];
    let complete = loop {
        let next = |(at, search): (usize, &RateSearch)| search.next().into_iter().map(move |rate| (at, rate));
        let wanted: Vec<(usize, f64)> = searches.iter().enumerate().flat_map(next).collect();
        if wanted.is_empty() {
            break true;
        }
        let point =
            |(optimizer, rate): &(usize, f64), seed: &u64| Point { optimizer: *optimizer, rate: *rate, seed: *seed };
        let all: Vec<Point> = wanted.iter().flat_map(|at| seeds.iter().map(move |seed| point(at, seed))).collect();
        let missing = campaign.missing(all.iter().copied());
        events(CampaignEvent::Planned { runs: missing.len(), known: all.len() - missing.len() });
        if !campaign.run(&missing, |point| train(&data, &labels, point, stop))? {
            break false;
        }
        let points = campaign.table();
        for (at, rate) in wanted {
            searches[at].tell(rate, points.value(at, rate, &seeds));
        }
    };
    let tuned: Vec<Tuned> = labels.iter().zip(&searches).map(|(label, search)| search.result(label)).collect();
    if complete {
        folder.write("tuned.toml", tuned_experiment(experiment, &tuned).to_toml().as_bytes())?;
        folder.write_json("tuned.json", &tuned)?;
    }
    Ok(Search { points: campaign.into_table().rows, tuned, complete })
}

/// Trains a point; `None` if it was stopped.
fn train<T: Real>(
    data: &TypedTask<T>,
    labels: &[String],
    point: &Point,
    stop: &AtomicBool,
) -> Result<Option<TuneRow>, StudyError> {
    let Point { optimizer, rate, seed } = *point;
    let mut config = data.task.experiment.optimizer[optimizer].clone();
    config.learning_rate = rate;
    let Some(outcome) = run_trial(data, &config, seed, &mut [], stop)? else { return Ok(None) };
    let finite = |loss: f64| (!outcome.diverged && loss.is_finite()).then_some(loss);
    Ok(Some(TuneRow {
        optimizer: labels[optimizer].clone(),
        learning_rate: rate,
        seed,
        rounds: outcome.rounds,
        status: outcome.status(),
        train_loss: finite(outcome.train.loss),
        test_loss: finite(outcome.test.loss),
    }))
}

/// The experiment at the rates that were found.
fn tuned_experiment(experiment: &Experiment, tuned: &[Tuned]) -> Experiment {
    let mut best = experiment.clone();
    for (config, tuned) in best.optimizer.iter_mut().zip(tuned) {
        config.learning_rate = tuned.learning_rate.unwrap_or(config.learning_rate);
    }
    best.rates_from = tuned.iter().all(|tuned| tuned.learning_rate.is_some()).then(|| searched(experiment));
    best
}

/// What an experiment says of learning rates that [`tune`] found for it.
pub fn searched(experiment: &Experiment) -> String {
    format!("taylorscope tune {}", experiment.name)
}
