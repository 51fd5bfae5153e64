//! Learning-rate search: a coarse logarithmic grid per optimizer, then finer rates around the best.
//!
//! Every point is one optimizer at one rate from one seed, trained as the experiment says; its value is the loss of the whole
//! training set after the last round. A rate is judged by the mean over the seeds. One that diverges from any of them is out,
//! and so is every larger one, and the last rate below: it may diverge from the next seed. The search knows nothing but
//! these values, so it takes the same steps again when it is resumed, and points that are in `tune.csv` are not computed again.

use super::{
    experiment::{Experiment, Precision},
    inputs::Inputs,
    lock::Lock,
    run::{StudyError, resolve, set_aside, write, write_json},
    tables::{columns, read_rows, write_rows},
    trial::{Trials, begin, side_by_side},
};
use crate::kernels::Real;
use serde::{Deserialize, Serialize};
use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

/// The first grid: these multiples of the powers of ten from the first to the last exponent.
const MULTIPLES: [f64; 2] = [1.0, 3.0];
const EXPONENTS: std::ops::RangeInclusive<i32> = -4..=0;
/// The grid grows beyond its ends while the best rate lies there, up to these limits.
const LIMITS: (f64, f64) = (1e-9, 1e4);

/// How to search.
#[derive(Clone, Copy, Debug)]
pub struct TuneOptions<'a> {
    /// The folder of the search.
    pub out: &'a Path,
    /// Where the datasets lie.
    pub data: Option<&'a Path>,
    /// Seeds per rate.
    pub seeds: usize,
    /// How often the spacing around the best rate is halved.
    pub refinements: usize,
    /// Begin anew where the folder holds another search.
    pub overwrite: bool,
    /// Set from outside to stop after the current rounds.
    pub stop: &'a AtomicBool,
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
    /// `complete` or `diverged`.
    pub status: String,
    /// Over the whole training set after the last round; empty if diverged.
    pub train_loss: Option<f64>,
    /// Over the whole test set after the last round; empty if diverged. Shown, not used.
    pub test_loss: Option<f64>,
}

/// What a search found for one optimizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuned {
    pub optimizer: String,
    /// The best rate with a margin to those that diverge; `None` if there is none.
    pub learning_rate: Option<f64>,
    /// Mean over the seeds of the final training loss at that rate.
    pub train_loss: Option<f64>,
    /// Rates tried.
    pub rates: usize,
    /// Whether the best rate lies at an end of the range searched, so that a better one may lie beyond.
    pub at_end: bool,
}

/// A search, done or interrupted.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    pub points: Vec<TuneRow>,
    pub tuned: Vec<Tuned>,
    /// Whether the search was completed.
    pub complete: bool,
}

/// What a search tells its caller as it goes.
#[derive(Clone, Copy, Debug)]
pub enum TuneEvent<'a> {
    /// What the user should know of the data.
    Note { text: &'a str },
    /// So many points follow, after those that were found in the folder.
    Planned { points: usize, known: usize },
    /// A point was computed.
    Point { row: &'a TuneRow },
}

/// Searches the learning rate of every optimizer of `experiment` and writes `tune.csv`, `tuned.toml` and `tuned.json`.
///
/// # Errors
///
/// If the experiment cannot be run, or the folder holds another search or cannot be written.
pub fn tune(
    experiment: &Experiment,
    options: &TuneOptions,
    events: &(dyn Fn(TuneEvent) + Sync),
) -> Result<Search, StudyError> {
    match experiment.training.precision {
        Precision::F32 => tune_in::<f32>(experiment, options, events),
        Precision::F64 => tune_in::<f64>(experiment, options, events),
    }
}

fn tune_in<T: Real>(
    experiment: &Experiment,
    options: &TuneOptions,
    events: &(dyn Fn(TuneEvent) + Sync),
) -> Result<Search, StudyError> {
    let (mut dataset, network) = resolve(experiment, options.data)?;
    let inputs = Inputs::of(experiment, &dataset)?;
    dataset.notes.iter().for_each(|text| events(TuneEvent::Note { text }));
    set_aside(experiment, &mut dataset)?;
    let trials = Trials::<T>::new(experiment, &dataset, &network);
    trials.check()?;
    let (lock, known) = prepare(experiment, &inputs, options)?;
    if let Some(text) = lock.warning(options.out) {
        events(TuneEvent::Note { text: &text });
    }
    let labels = experiment.labels();
    let seeds: Vec<u64> = (0..options.seeds as u64).map(|i| experiment.seed.wrapping_add(SEED_OFFSET + i)).collect();
    let table = Mutex::new(known);
    let mut searches: Vec<RateSearch> = labels.iter().map(|_| RateSearch::new(options.refinements)).collect();
    let mut complete = true;
    loop {
        let wanted: Vec<(usize, f64)> = searches
            .iter()
            .enumerate()
            .flat_map(|(at, search)| search.next().into_iter().map(move |rate| (at, rate)))
            .collect();
        if wanted.is_empty() {
            break;
        }
        let points: Vec<(usize, f64, u64)> =
            wanted.iter().flat_map(|(at, rate)| seeds.iter().map(move |seed| (*at, *rate, *seed))).collect();
        let missing: Vec<(usize, f64, u64)> = {
            let rows = table.lock().expect("no point panics while it holds the table");
            points
                .iter()
                .copied()
                .filter(|(at, rate, seed)| find(&rows, &labels[*at], *rate, *seed).is_none())
                .collect()
        };
        events(TuneEvent::Planned { points: missing.len(), known: points.len() - missing.len() });
        let computed = side_by_side(missing.len(), |index| {
            let (at, rate, seed) = missing[index];
            if options.stop.load(Ordering::SeqCst) {
                return Ok(false);
            }
            let mut config = experiment.optimizer[at].clone();
            config.learning_rate = rate;
            let Some(outcome) = trials.run(&config, seed, &mut [], options.stop)? else { return Ok(false) };
            let finite = |loss: f64| (!outcome.diverged && loss.is_finite()).then_some(loss);
            let row = TuneRow {
                optimizer: labels[at].clone(),
                learning_rate: rate,
                seed,
                rounds: outcome.rounds,
                status: if outcome.diverged { "diverged" } else { "complete" }.to_owned(),
                train_loss: finite(outcome.train.loss),
                test_loss: finite(outcome.test.loss),
            };
            let mut rows = table.lock().expect("no point panics while it holds the table");
            rows.push(row);
            write_table(options.out, &labels, &mut rows)?;
            if let Some(row) = find(&rows, &labels[at], rate, seed) {
                events(TuneEvent::Point { row });
            }
            Ok::<bool, StudyError>(true)
        });
        for done in computed {
            complete &= done?;
        }
        if !complete {
            break;
        }
        let rows = table.lock().expect("no point panics while it holds the table");
        for (at, rate) in wanted {
            let values = seeds.iter().map(|seed| find(&rows, &labels[at], rate, *seed).and_then(|row| row.train_loss));
            let sum = values.collect::<Option<Vec<f64>>>().map(|losses| losses.iter().sum::<f64>());
            searches[at].tell(rate, sum.map(|sum| sum / seeds.len() as f64));
        }
    }
    let points = table.into_inner().expect("no point panics while it holds the table");
    let tuned: Vec<Tuned> = labels.iter().zip(&searches).map(|(label, search)| search.result(label)).collect();
    if complete {
        let mut best = experiment.clone();
        for (config, tuned) in best.optimizer.iter_mut().zip(&tuned) {
            config.learning_rate = tuned.learning_rate.unwrap_or(config.learning_rate);
        }
        best.rates_from = tuned.iter().all(|tuned| tuned.learning_rate.is_some()).then(|| searched(experiment));
        write(&options.out.join("tuned.toml"), best.to_toml().as_bytes())?;
        write_json(&options.out.join("tuned.json"), &tuned)?;
    }
    Ok(Search { points, tuned, complete })
}

fn find<'a>(rows: &'a [TuneRow], label: &str, rate: f64, seed: u64) -> Option<&'a TuneRow> {
    rows.iter().find(|row| row.optimizer == label && row.learning_rate == rate && row.seed == seed)
}

/// Writes the points so far, in the order of optimizers, rates and seeds whatever order they came in.
fn write_table(out: &Path, labels: &[String], rows: &mut [TuneRow]) -> Result<(), StudyError> {
    let place = |row: &TuneRow| labels.iter().position(|label| *label == row.optimizer);
    rows.sort_by(|a, b| {
        place(a).cmp(&place(b)).then(a.learning_rate.total_cmp(&b.learning_rate)).then(a.seed.cmp(&b.seed))
    });
    Ok(write_rows(&out.join("tune.csv"), columns::TUNE, rows)?)
}

/// Makes the folder ready and gives the points that it holds already.
fn prepare(
    experiment: &Experiment,
    inputs: &Inputs,
    options: &TuneOptions,
) -> Result<(Lock, Vec<TuneRow>), StudyError> {
    let (out, name) = (options.out, "tune.csv");
    let table = out.join(name);
    let (lock, continued) = begin(experiment, inputs, out, name, options.overwrite, |_| false)?;
    let known = if continued { read_rows(&table)? } else { Vec::new() };
    write_rows(&table, columns::TUNE, &known)?;
    Ok((lock, known))
}

/// The search of one rate: which to try next, given the values so far.
#[derive(Clone, Debug)]
struct RateSearch {
    /// Rates with their values, by rate; `None` where training diverged.
    tried: Vec<(f64, Option<f64>)>,
    /// Halvings of the spacing that are left.
    refinements: usize,
}

impl RateSearch {
    fn new(refinements: usize) -> Self {
        Self { tried: Vec::new(), refinements }
    }

    fn tell(&mut self, rate: f64, value: Option<f64>) {
        self.tried.push((rate, value));
        self.tried.sort_by(|a, b| a.0.total_cmp(&b.0));
    }

    /// How many of `tried` lie below the first rate that diverges.
    fn stable(&self) -> usize {
        self.tried.iter().position(|(_, value)| value.is_none()).unwrap_or(self.tried.len())
    }

    /// The index of the best of the first `count` rates; of equal ones the smallest.
    fn best_of(&self, count: usize) -> Option<usize> {
        let finite =
            self.tried[..count].iter().enumerate().filter_map(|(at, (_, value))| value.map(|value| (at, value)));
        finite.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
    }

    /// The index of the best stable rate, around which to search.
    fn best(&self) -> Option<usize> {
        self.best_of(self.stable())
    }

    /// The index of the rate to recommend: the best that has another stable one between it and divergence.
    fn recommended(&self) -> Option<usize> {
        let stable = self.stable();
        self.best_of(if stable < self.tried.len() { stable.saturating_sub(1) } else { stable })
    }

    /// Whether nothing was tried on one side of rate `at`.
    fn is_end(&self, at: usize) -> bool {
        at == 0 || at + 1 == self.tried.len()
    }

    /// The rates to try next; none when the search is over.
    fn next(&self) -> Vec<f64> {
        let Some((lowest, highest)) = self.tried.first().zip(self.tried.last()).map(|(a, b)| (a.0, b.0)) else {
            return EXPONENTS.flat_map(|e| MULTIPLES.map(|m| two_digits(m * 10f64.powi(e)))).collect();
        };
        let below = || -> Vec<f64> { [lowest / 10.0 * 3.0, lowest / 10.0].map(two_digits).to_vec() };
        let above = || -> Vec<f64> { [highest / 3.0 * 10.0, highest * 10.0].map(two_digits).to_vec() };
        match self.best() {
            None | Some(0) if lowest > LIMITS.0 => below(),
            None => Vec::new(),
            Some(at) if at + 1 == self.tried.len() && highest < LIMITS.1 => above(),
            Some(at) => self.between(at),
        }
    }

    /// The geometric means of the best rate and its neighbours, as often as refinements are left.
    fn between(&self, at: usize) -> Vec<f64> {
        // The grid has a spacing of about a half decade; each refinement halves it around the best.
        let spacing = |a: f64, b: f64| (b / a).log10();
        let finest = 0.5 / 2f64.powi(self.refinements as i32);
        let neighbours = [at.checked_sub(1), Some(at + 1)].into_iter().flatten().filter_map(|i| self.tried.get(i));
        neighbours
            .map(|(rate, _)| (rate.min(self.tried[at].0), rate.max(self.tried[at].0)))
            .filter(|(low, high)| spacing(*low, *high) > 1.5 * finest)
            .map(|(low, high)| two_digits((low * high).sqrt()))
            .filter(|rate| self.tried.iter().all(|(tried, _)| tried != rate))
            .collect()
    }

    fn result(&self, label: &str) -> Tuned {
        let best = self.recommended();
        Tuned {
            optimizer: label.to_owned(),
            learning_rate: best.map(|at| self.tried[at].0),
            train_loss: best.and_then(|at| self.tried[at].1),
            rates: self.tried.len(),
            at_end: best.is_none_or(|at| self.is_end(at)),
        }
    }
}

/// What an experiment says of learning rates that [`tune`] found for it.
pub fn searched(experiment: &Experiment) -> String {
    format!("taylorscope tune {}", experiment.name)
}

/// `rate` with so many significant digits: tables and files then show the very rate that was used, and no digits that only
/// rounding made.
pub(super) fn rounded(rate: f64, digits: usize) -> f64 {
    format!("{rate:.*e}", digits - 1).parse().unwrap_or(rate)
}

/// The rates of a search have two significant digits.
fn two_digits(rate: f64) -> f64 {
    rounded(rate, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches the minimum of a function of the rate.
    fn search(refinements: usize, value: impl Fn(f64) -> Option<f64>) -> (Tuned, RateSearch) {
        let mut search = RateSearch::new(refinements);
        for _ in 0..100 {
            let next = search.next();
            if next.is_empty() {
                return (search.result("x"), search);
            }
            for rate in next {
                assert!(search.tried.iter().all(|(tried, _)| *tried != rate), "{rate} is tried twice");
                search.tell(rate, value(rate));
            }
        }
        panic!("the search does not end");
    }

    #[test]
    fn the_best_rate_is_found_to_the_spacing_asked_for() {
        for target in [0.0007, 0.02, 0.4] {
            for refinements in [0, 1, 2, 3] {
                let (tuned, _) = search(refinements, |rate| Some((rate / target).ln().powi(2)));
                let off = (tuned.learning_rate.unwrap() / target).log10().abs();
                // Half of the final spacing, with room for two digits.
                let allowed = 0.6 * 0.53 / 2f64.powi(refinements as i32) + 0.03;
                assert!(off <= allowed, "{target}, {refinements} refinements: off by {off} decades");
                assert!(!tuned.at_end);
            }
        }
    }

    #[test]
    fn the_grid_grows_towards_a_best_rate_beyond_it() {
        for target in [2e-7, 300.0] {
            let (tuned, _) = search(2, |rate| Some((rate / target).ln().powi(2)));
            assert!((tuned.learning_rate.unwrap() / target).log10().abs() < 0.15, "{tuned:?}");
        }
        let (tuned, search) = search(1, |rate| Some(-rate));
        assert!(tuned.at_end && tuned.learning_rate.unwrap() >= 1e4, "a search without a minimum ends at its limit");
        assert!(search.tried.len() < 40);
    }

    #[test]
    fn rates_that_diverge_are_never_best() {
        let (tuned, _) = search(2, |rate| (rate < 0.05).then(|| -rate));
        assert!(tuned.learning_rate.unwrap() < 0.05 && tuned.learning_rate.unwrap() >= 0.03);
        let (tuned, _) = search(2, |_| None);
        assert_eq!((tuned.learning_rate, tuned.at_end), (None, true));
        let (tuned, _) = search(0, |rate| (rate < 1e-6).then_some(1.0));
        assert!(tuned.learning_rate.unwrap() < 1e-6, "smaller rates are tried where all diverge");
    }

    #[test]
    fn rates_at_the_edge_of_divergence_are_not_recommended() {
        // A better loss beyond rates that diverge is luck of the seeds.
        let island = |rate: f64| (!(0.5..2.0).contains(&rate)).then(|| -rate);
        let (tuned, found) = search(2, island);
        let stable: Vec<f64> = found.tried.iter().map(|(rate, _)| *rate).filter(|rate| *rate < 0.5).collect();
        assert!(found.tried.iter().any(|(rate, value)| *rate >= 2.0 && value.is_some()), "the island was seen");
        assert_eq!(tuned.learning_rate, Some(stable[stable.len() - 2]), "one stable rate is left as a margin");
        assert!(tuned.learning_rate.unwrap() > 0.25);
        // Where the best rate lies far below, divergence of large ones changes nothing.
        let valley = |rate: f64| (rate < 0.5).then(|| (rate / 0.003).ln().powi(2));
        assert_eq!(search(2, valley).0.learning_rate, Some(0.003));
    }

    #[test]
    fn rates_have_two_digits() {
        assert_eq!([0.0173205, 3.0000000000000004e-3, 1.0].map(two_digits), [0.017, 0.003, 1.0]);
        assert_eq!(rounded(0.05500000000000001, 4), 0.055);
    }
}
