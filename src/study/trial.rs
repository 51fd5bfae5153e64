//! Trials: one optimizer trained once, many times over, on all cores.
//!
//! Learning-rate searches and the exploration study compare hundreds of short runs. Each trial here trains on one thread,
//! as trials side by side use the cores better than threads inside one; results do not depend on the number of threads.

use super::{
    continued::experiment_in,
    differences::Differences,
    environment::environment,
    experiment::Experiment,
    inputs::Inputs,
    lock::Lock,
    run::{StudyError, TypedSplit, can_begin, holds_something, initial_weights, write, write_json},
};
use crate::{
    data::{Dataset, Minibatches},
    files::remove,
    kernels::{Real, real::sum_of_squared_differences},
    network::Network,
    optim::OptimizerConfig,
    train::{Ending, Evaluation, Examples, Observer, Training, evaluate_until, train},
};
use std::{
    ffi::OsStr,
    ops::ControlFlow,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// Makes the folder `out` of an experiment's trials ours, and says whether it holds some of them, with their results in `table`, that are
/// to be continued.
///
/// # Errors
///
/// If it is in use, or holds anything else that must not be lost; entries that `beside` accepts do not count.
pub(super) fn begin(
    experiment: &Experiment,
    inputs: &Inputs,
    out: &Path,
    table: &str,
    overwrite: bool,
    beside: impl Fn(&OsStr) -> bool,
) -> Result<(Lock, bool), StudyError> {
    let fail = |source| StudyError::Write { path: out.to_owned(), source };
    let config = out.join("experiment.toml");
    if !config.exists() && out.exists() && holds_something(out, beside)? {
        return Err(StudyError::NotEmpty { path: out.to_owned() });
    }
    std::fs::create_dir_all(out).map_err(fail)?;
    let lock = Lock::take(out)?;
    let known = out.join(table);
    let mut continued = false;
    if config.exists() && !overwrite {
        refuse_foreign(out, table)?;
        let differences = Differences::between(&experiment_in(out)?, experiment);
        if !differences.is_empty() {
            return Err(StudyError::OtherExperiment { path: out.to_owned(), differences: differences.text() });
        }
        inputs.check(experiment, out)?;
        continued = known.exists();
    } else {
        // Ended at any point, this leaves nothing that could be taken for a result of the new experiment.
        remove(&known).map_err(fail)?;
        write(&config, experiment.to_toml().as_bytes())?;
    }
    let mut environment = environment();
    environment["inputs"] = inputs.to_json();
    write_json(&out.join("environment.json"), &environment)?;
    Ok((lock, continued))
}

/// What commands that keep an experiment write beside it, each its own.
const MARKS: [&str; 3] = ["summary.json", "tune.csv", "explore.csv"];

/// Fails if the folder holds results of another command than that whose table is `table`.
///
/// # Errors
/// [`StudyError::OtherCommand`].
pub fn refuse_foreign(out: &Path, table: &str) -> Result<(), StudyError> {
    let there = |name: &str| out.join(name).exists();
    match !there(table) && MARKS.into_iter().any(there) {
        true => Err(StudyError::OtherCommand { path: out.to_owned(), table: table.to_owned() }),
        false => Ok(()),
    }
}

/// An experiment's data and network, on which trials run.
pub struct Trials<'a, T: Real> {
    pub experiment: &'a Experiment,
    pub network: &'a Network,
    train: TypedSplit<'a, T>,
    test: TypedSplit<'a, T>,
}

/// A final loss of this many times the first one is no result of training. (One minibatch's loss may differ from the
/// whole set's, so a run that hardly moved may end somewhat above it.)
pub const WORSE: f64 = 2.0;

/// How a trial ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<T> {
    /// Completed rounds.
    pub rounds: usize,
    /// Whether a loss was not finite, or the loss over the training set ended at more than [`WORSE`] times that of the first
    /// minibatch.
    pub diverged: bool,
    /// Mean minibatch loss over the last 100 rounds (or all, when fewer).
    pub last_loss: f64,
    /// Mean minibatch loss over all rounds.
    pub mean_loss: f64,
    /// Over the whole training set, after the last round.
    pub train: Evaluation,
    /// Over the whole test set, after the last round.
    pub test: Evaluation,
    /// `|W^(N+1) - W^1|`, over all weights.
    pub distance: f64,
    /// The final weights, flat.
    pub weights: Vec<T>,
}

impl<'a, T: Real> Trials<'a, T> {
    pub fn new(experiment: &'a Experiment, dataset: &'a Dataset, network: &'a Network) -> Self {
        Self { experiment, network, train: TypedSplit::new(&dataset.train), test: TypedSplit::new(&dataset.test) }
    }

    /// The training examples.
    pub fn examples(&self) -> Examples<'_, T> {
        self.train.examples(self.experiment.training.target)
    }

    pub fn minibatches(&self, seed: u64) -> Result<Minibatches, StudyError> {
        Ok(Minibatches::new(self.examples().len(), self.experiment.training.batch_size, seed)?)
    }

    /// Rounds of a trial.
    pub fn planned_rounds(&self) -> Result<usize, StudyError> {
        Ok(self.minibatches(0)?.rounds_per_epoch() * self.experiment.training.epochs)
    }

    /// Fails where no trial could begin; else the rounds of each.
    pub fn check(&self) -> Result<usize, StudyError> {
        let planned = self.planned_rounds()?;
        can_begin(self.experiment, self.network, planned)?;
        Ok(planned)
    }

    /// The initial weights of a seed: all optimizers start from the same.
    pub fn initial_weights(&self, seed: u64) -> Result<Vec<T>, StudyError> {
        initial_weights(self.experiment, self.network, seed)
    }

    /// Trains `config` from the weights and in the data order of `seed`. `None` if `stop` was set on the way.
    pub fn run(
        &self,
        config: &OptimizerConfig,
        seed: u64,
        observers: &mut [&mut dyn Observer<T>],
        stop: &AtomicBool,
    ) -> Result<Option<Outcome<T>>, StudyError> {
        let training = &self.experiment.training;
        let minibatches = self.minibatches(seed)?;
        let planned = minibatches.rounds_per_epoch() * training.epochs;
        let initial = self.initial_weights(seed)?;
        let mut weights = initial.clone();
        let mut optimizer = config.build_for::<T>(self.network, planned)?;
        let examples = self.examples();
        let task = Training {
            network: self.network,
            loss: training.loss,
            examples,
            minibatches: &minibatches,
            epochs: training.epochs,
        };
        let mut losses = Vec::with_capacity(planned);
        let each_round = |_: usize, _: usize, loss: f64| {
            losses.push(loss);
            if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let each_epoch = |_: usize, _: &[T]| ControlFlow::Continue(());
        let (ending, rounds) = train(&task, &mut *optimizer, &mut weights, observers, each_round, each_epoch);
        if rounds < planned && matches!(ending, Ending::Stopped { .. }) {
            return Ok(None);
        }
        let on = |examples: &Examples<T>| evaluate_until(self.network, training.loss, &weights, examples, stop);
        let Some((train, test)) = on(&examples).zip(on(&self.test.examples(training.target))) else {
            return Ok(None);
        };
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len().max(1) as f64;
        Ok(Some(Outcome {
            rounds,
            // A loss that is finite but far larger than before training is no result, either.
            diverged: matches!(ending, Ending::Diverged(_))
                || !losses.first().is_some_and(|first| train.loss <= WORSE * *first),
            last_loss: mean(&losses[losses.len().saturating_sub(100)..]),
            mean_loss: mean(&losses),
            train,
            test,
            distance: sum_of_squared_differences(&weights, &initial).sqrt(),
            weights,
        }))
    }
}

/// `work(0), ..., work(count - 1)` on as many threads as rayon has, each call on one; in order.
///
/// Every worker has a pool of one thread: parallel loops inside `work` stay on it, and no thread that waits inside one
/// call is lent to another.
pub fn side_by_side<R: Send>(count: usize, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<R>>> = Mutex::new((0..count).map(|_| None).collect());
    let worker = || {
        loop {
            let index = next.fetch_add(1, Ordering::SeqCst);
            if index >= count {
                break;
            }
            let result = work(index);
            results.lock().expect("no worker panics while it holds the lock")[index] = Some(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..rayon::current_num_threads().min(count) {
            scope.spawn(|| match rayon::ThreadPoolBuilder::new().num_threads(1).build() {
                Ok(pool) => pool.install(worker),
                // No thread to be had: the work is done here, if less evenly.
                Err(_) => worker(),
            });
        }
    });
    let results = results.into_inner().expect("no worker panics while it holds the lock");
    results.into_iter().map(|result| result.expect("every index was worked on")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_each_once() {
        let calls = AtomicUsize::new(0);
        let squares = side_by_side(100, |i| {
            calls.fetch_add(1, Ordering::SeqCst);
            assert_eq!(rayon::current_num_threads(), 1);
            i * i
        });
        assert_eq!(squares, (0..100).map(|i| i * i).collect::<Vec<_>>());
        assert_eq!(calls.into_inner(), 100);
        assert!(side_by_side(0, |i| i).is_empty());
    }
}
