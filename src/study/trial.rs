//! A trial: one optimizer trained once, without a trace of it on disk.

use super::{
    error::StudyError,
    statistics::{last_mean, mean},
    tables::TrialStatus,
    task::TypedTask,
};
use crate::{
    num::{Real, sum_of_squared_differences},
    optim::OptimizerConfig,
    train::{Ending, Evaluation, Examples, Observer, evaluate_until},
};
use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicBool, Ordering},
};

/// A final loss of this many times the first one does not count as a result of training. (One minibatch's loss may differ from the
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

impl<T> Outcome<T> {
    pub fn status(&self) -> TrialStatus {
        if self.diverged { TrialStatus::Diverged } else { TrialStatus::Complete }
    }
}

/// Trains an optimizer of the task, with weights and minibatches by `seed`; `None` if it was stopped.
///
/// # Errors
/// If initial weights or the optimizer cannot be had.
pub fn run_trial<T: Real>(
    data: &TypedTask<T>,
    config: &OptimizerConfig,
    seed: u64,
    observers: &mut [&mut dyn Observer<T>],
    stop: &AtomicBool,
) -> Result<Option<Outcome<T>>, StudyError> {
    let mut run = data.prepare(config, seed)?;
    let (initial, planned) = (run.weights.clone(), run.planned_rounds());
    let mut losses = Vec::with_capacity(planned);
    let each_round = |_: usize, _: usize, loss: f64| {
        losses.push(loss);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let (ending, rounds) = run.train(observers, each_round, |_, _| ControlFlow::Continue(()));
    if rounds < planned && matches!(ending, Ending::Stopped { .. }) {
        return Ok(None);
    }
    let on = |examples: &Examples<T>| evaluate_until(run.network, run.loss, &run.weights, examples, stop);
    let Some((train, test)) = on(&run.examples).zip(on(&data.test())) else { return Ok(None) };
    // A loss that is finite but far larger than before training does not count, either.
    let risen = !losses.first().is_some_and(|first| train.loss <= WORSE * *first);
    Ok(Some(Outcome {
        rounds,
        diverged: matches!(ending, Ending::Diverged(_)) || risen,
        last_loss: last_mean(&losses).unwrap_or(0.0),
        mean_loss: mean(losses).unwrap_or(0.0),
        train,
        test,
        distance: sum_of_squared_differences(&run.weights, &initial).sqrt(),
        weights: run.weights,
    }))
}
