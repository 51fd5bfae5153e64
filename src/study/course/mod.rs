//! The course of one optimizer's run: training under observation, checkpoints on the way, analysis, tables.
//!
//! - `start`: the state before the first round; `rounds`: training; `finish`: the analysis after the last round

mod finish;
mod rounds;
mod start;

use super::{
    context::Context,
    error::StudyError,
    event::Event,
    further::{self, Earlier},
    keeper::Keeper,
    tables::OptimizerSummary,
    task::TypedTask,
};
use crate::{
    checkpoint::Identity,
    num::Real,
    optim::{OptimizerConfig, Rate},
};
use std::path::PathBuf;

/// One optimizer of a run.
struct Course<'a, T: Real> {
    context: &'a Context<'a>,
    data: TypedTask<'a, T>,
    config: &'a OptimizerConfig,
    label: &'a str,
    /// Its place in the experiment.
    index: usize,
    folder: PathBuf,
    rate: Rate,
}

/// Trains and analyses one optimizer, from the state that its folder holds if there is one.
pub(super) fn optimizer<T: Real>(
    context: &Context,
    index: usize,
    label: &str,
    events: &mut dyn FnMut(Event),
) -> Result<OptimizerSummary, StudyError> {
    let config = &context.task.experiment.optimizer[index];
    let folder = context.out.join(label);
    std::fs::create_dir_all(&folder).map_err(|source| StudyError::Write { path: folder.clone(), source })?;
    let rate = config.rate(context.planned_rounds());
    let data = TypedTask::<T>::new(context.task);
    Course { context, data, config, label, index, folder, rate }.run(events)
}

impl<T: Real> Course<'_, T> {
    fn run(&self, events: &mut dyn FnMut(Event)) -> Result<OptimizerSummary, StudyError> {
        let Context { task, options, .. } = *self.context;
        events(Event::Started {
            label: self.label,
            index: self.index + 1,
            count: task.experiment.optimizer.len(),
            learning_rate: Some(self.config.learning_rate),
            rounds: self.context.planned_rounds(),
        });
        let saved = Keeper::open(&self.folder)?;
        // The run goes on as it began.
        let kept_trace = saved.as_ref().map(|saved| saved.identity().get("trace").is_some_and(|kept| kept == "kept"));
        if options.keep_trace && kept_trace == Some(false) {
            return Err(StudyError::NoTrace { path: self.folder.clone() });
        }
        let keep_trace = kept_trace.unwrap_or(options.keep_trace);
        let earlier = self.earlier(keep_trace)?;
        if let (Err(reason), true) = (&earlier, saved.is_none()) {
            let text = format!("{}: trained again from the first round, as {reason}", self.label);
            events(Event::Note { text: &text });
        }
        let earlier = earlier.ok().flatten();
        let mut state = self.start(keep_trace, earlier.is_some(), events)?;
        let mut identity = self.identity(&task.experiment.comparable(), keep_trace);
        if let Some(earlier) = &earlier {
            identity.insert("number of rounds before".into(), earlier.rounds().to_string());
        }
        let mut keeper = Keeper::new(&self.folder, identity, options.checkpoint);
        if let Some(saved) = saved {
            saved.restore(keeper.identity(), &mut state)?;
            if !state.analysis.draws_from(self.data.train().len()) || state.done() > self.context.planned_rounds() {
                return Err(saved.malformed("its rounds are not those of this run").into());
            }
            events(Event::Resumed { label: self.label, rounds: state.done() });
        } else if let (Some(earlier), Some(before)) = (&earlier, self.context.before) {
            earlier.restore(&self.identity(&before.experiment().comparable(), false), &mut state)?;
            events(Event::Resumed { label: self.label, rounds: state.done() });
        }
        let ending = match state.log.ending.clone() {
            Some(ending) => ending,
            None => self.train(&mut state, &mut keeper, events)?,
        };
        self.analyse(state, &mut keeper, earlier.as_ref(), ending, events)
    }

    /// The result of a shorter run that this course goes on from, or why it must begin anew; `None` if there never was one.
    fn earlier(&self, keep_trace: bool) -> Result<Result<Option<Earlier>, &'static str>, StudyError> {
        let Context { task, before, .. } = *self.context;
        let Some(before) = before else { return Ok(Ok(None)) };
        let Some((folder, summary)) = before.result(task.experiment, self.index) else { return Ok(Ok(None)) };
        if !before.is_only_shorter() {
            return Ok(Err("its rounds were not kept"));
        }
        if keep_trace {
            return Ok(Err("its trace must have all rounds"));
        }
        let per_epoch = self.context.per_epoch();
        if let Some(reason) = further::obstacle(before.experiment(), self.config, &task.network, per_epoch) {
            return Ok(Err(reason));
        }
        Ok(Earlier::open(&folder, summary)?.map(Some).ok_or("its last state was not kept by this version"))
    }

    /// Whose state checkpoints of this course in an experiment have.
    fn identity(&self, experiment: &toml::Table, keep_trace: bool) -> Identity {
        let inputs = self.context.inputs;
        [
            ("experiment", experiment.to_string()),
            ("optimizer", toml::to_string(self.config).unwrap_or_default()),
            ("dataset", inputs.data.clone()),
            ("file of initial weights", inputs.weights.clone().unwrap_or_default()),
            ("trace", if keep_trace { "kept" } else { "not kept" }.to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// What is told of a trace that cannot be written.
    fn cannot_write_trace(&self, source: std::io::Error) -> StudyError {
        StudyError::Write { path: self.folder.join("trace"), source }
    }
}
