//! Training alone: nothing is observed and nothing is written.

use super::{
    error::StudyError,
    experiment::{Experiment, Precision},
    statistics::{last_mean, mean},
    task::{Task, TypedTask},
};
use crate::{num::Real, train::Ending};
use std::{ops::ControlFlow, path::Path, time::Instant};

/// One optimizer's plain training, timed.
#[derive(Clone, Debug)]
pub struct PlainTraining {
    pub label: String,
    /// Seconds of each epoch, without evaluation.
    pub seconds: Vec<f64>,
    /// Mean loss over the last 100 rounds (or all, when fewer); 0 without rounds.
    pub last_loss: f64,
    /// Mean loss over all rounds; 0 without rounds.
    pub mean_loss: f64,
    pub ending: Ending,
}

/// Trains every optimizer of an experiment; `note` hears what the user should know of the data.
///
/// # Errors
/// If the experiment cannot be run.
pub fn train_only(
    experiment: &Experiment,
    data_dir: Option<&Path>,
    note: &mut dyn FnMut(&str),
) -> Result<Vec<PlainTraining>, StudyError> {
    let task = Task::load(experiment, data_dir, note)?;
    match experiment.training.precision {
        Precision::F32 => train_all::<f32>(&task),
        Precision::F64 => train_all::<f64>(&task),
    }
}

fn train_all<T: Real>(task: &Task) -> Result<Vec<PlainTraining>, StudyError> {
    let typed = TypedTask::<T>::new(task);
    let experiment = task.experiment;
    let mut all = Vec::new();
    for (config, label) in experiment.optimizer.iter().zip(experiment.labels()) {
        let mut run = typed.prepare(config, experiment.seed)?;
        let (mut losses, mut seconds) = (Vec::new(), Vec::new());
        let mut start = Instant::now();
        let each_round = |_: usize, _: usize, loss: f64| {
            losses.push(loss);
            ControlFlow::Continue(())
        };
        let each_epoch = |_: usize, _: &[T]| {
            seconds.push(start.elapsed().as_secs_f64());
            start = Instant::now();
            ControlFlow::Continue(())
        };
        let (ending, _) = run.train(&mut [], each_round, each_epoch);
        let (last_loss, mean_loss) = (last_mean(&losses).unwrap_or(0.0), mean(losses).unwrap_or(0.0));
        all.push(PlainTraining { label, seconds, last_loss, mean_loss, ending });
    }
    Ok(all)
}
