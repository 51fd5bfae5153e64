//! The analysis after the last round, and what is said of how training ended.

use super::Course;
use crate::{
    num::Real,
    optim::OptimizerConfig,
    study::{
        environment::peak_memory,
        error::StudyError,
        event::Event,
        further::Earlier,
        keeper::Keeper,
        numbers::number,
        outcome::Outcome,
        relay::Relay,
        state::{Log, State},
        tables::{OptimizerSummary, RunStatus},
        trial::WORSE,
        write,
    },
    taylor::Work,
    text::nearest,
    train::{Ending, NotFinite},
};
use serde_json::{Value, json};

impl<T: Real> Course<'_, T> {
    /// Solves what the rounds left to be solved, and writes the tables.
    pub(super) fn analyse(
        &self,
        state: State<T>,
        keeper: &mut Keeper,
        earlier: Option<&Earlier>,
        ending: Ending,
        events: &mut dyn FnMut(Event),
    ) -> Result<OptimizerSummary, StudyError> {
        let (done, stop) = (state.done(), self.context.options.stop);
        let State { analysis, log, .. } = state;
        let observed = analysis.clock.total();
        let relay = Relay::new(&mut *events);
        let train = self.data.train();
        let search = |work: &mut Work| analysis.complete(&train, work, |stage| relay.stage(stage));
        let ((mut tables, clock), mut found) = keeper.search(done, stop, &|work| relay.tick(work), search)?;
        if tables.halted && !matches!(ending, Ending::Stopped { .. }) {
            keeper.save_last_found(done, &mut found)?;
        }
        if let Some(earlier) = earlier {
            earlier.complete(&mut tables);
        }
        write::analysis(&self.folder, &tables)?;
        let phases = serde_json::to_value(clock.phases()).unwrap_or_default();
        self.write_timing(&log, observed, phases, earlier)?;
        let (status, message) = self.verdict(ending, tables.halted, &log);
        let outcome = Outcome {
            name: &self.config.name,
            learning_rate: Some(self.config.learning_rate),
            label: self.label,
            settings: self.config.other_keys(),
            checks: Vec::new(),
            warnings: Vec::new(),
            contradicted: false,
            status,
            message,
            per_epoch: self.context.per_epoch(),
            tables: &tables,
        };
        Ok(outcome.summary(&self.context.task.network, &log.losses, log.epochs.last()))
    }

    /// `timing.json`; `observed` are the seconds of `phases` that went by while training went on.
    fn write_timing(
        &self,
        log: &Log,
        observed: f64,
        mut phases: Value,
        earlier: Option<&Earlier>,
    ) -> Result<(), StudyError> {
        phases["training"] = json!((log.seconds - observed - log.evaluation_seconds).max(0.0));
        phases["evaluation"] = json!(log.evaluation_seconds);
        if let Some(earlier) = earlier {
            earlier.add_seconds(&mut phases);
        }
        let timing = json!({ "phases": phases, "epochs": log.epoch_seconds, "peak_memory_bytes": peak_memory() });
        write::json(&self.folder.join("timing.json"), &timing)
    }

    /// How far the run has come, and what is said of it; `halted` is whether its analysis was.
    fn verdict(&self, ending: Ending, halted: bool, log: &Log) -> (RunStatus, Option<String>) {
        let planned = self.context.planned_rounds();
        match ending {
            Ending::Stopped { rounds } => {
                let text = format!("stopped after round {rounds} of {planned}; continue with --resume");
                (RunStatus::Interrupted, Some(text))
            }
            _ if halted => {
                let rounds = log.losses.len();
                let text = format!("stopped in the analysis of {rounds} rounds; continue with --resume");
                (RunStatus::Interrupted, Some(text))
            }
            Ending::Diverged(what) => (RunStatus::Failed, Some(divergence(self.config, what))),
            Ending::Reached { epoch } => {
                let goal = self.context.task.experiment.training.stop_at_train_accuracy.unwrap_or(1.0);
                (RunStatus::Complete, Some(format!("reached the training accuracy {goal} after epoch {epoch}")))
            }
            Ending::Complete => (RunStatus::Complete, blown_up(self.config, log)),
        }
    }
}

/// What is said of training that ended far above where it began, if with finite numbers.
fn blown_up(config: &OptimizerConfig, log: &Log) -> Option<String> {
    let (first, last) = (*log.losses.first()?, log.epochs.last()?.train_loss);
    let rate = config.learning_rate;
    (last > WORSE * first).then(|| {
        format!(
            "diverged: the training loss ended at {}, more than {WORSE} times the {} of the first minibatch, with learning rate \
             {rate}. Try a smaller rate, for example {}",
            number(last),
            number(first),
            smaller(rate)
        )
    })
}

/// A rate to try instead.
fn smaller(rate: f64) -> f64 {
    nearest(rate / 3.0, 1)
}

fn divergence(config: &OptimizerConfig, what: NotFinite) -> String {
    let rate = config.learning_rate;
    format!(
        "{what} with learning rate {rate}; everything before it is kept. Try a smaller rate, for example {}",
        smaller(rate)
    )
}
