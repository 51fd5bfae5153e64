//! Running an experiment: train every optimizer, analyse, write the run directory.

use super::{
    budget,
    context::Context,
    continued::{self, Before, Way},
    course,
    environment::environment,
    error::StudyError,
    event::Event,
    experiment::{Experiment, Precision},
    folder::{Destination, EXPERIMENT, Folder, Purpose, SUMMARY},
    inputs::Inputs,
    options::RunOptions,
    paths::dataset_name,
    record::Record,
    tables::{OptimizerSummary, RunStatus, SUMMARY_FORMAT, Summary},
    task::Task,
    write,
};
use crate::files::remove_folder;
use serde_json::json;
use std::path::PathBuf;

/// A run, done or not, and where it lies: in the folder that was named, or in one within it while it cannot yet replace another.
#[derive(Debug)]
pub struct Ran {
    pub summary: Summary,
    pub folder: PathBuf,
    /// The folder that was named or found, which is nobody else's until this is dropped.
    pub held: Folder,
}

/// Trains and analyses every optimizer of an experiment, writing the run directory as it goes.
///
/// # Errors
/// If it cannot be run, in which case nothing is written; or if a file cannot be read or written.
pub fn run(experiment: &Experiment, options: &RunOptions, events: &mut dyn FnMut(Event)) -> Result<Ran, StudyError> {
    let note = &mut |text: &str| events(Event::Note { text });
    let (task, inputs) = Task::load_with_inputs(experiment, options.data, note)?;
    let minibatches = task.minibatches(experiment.seed)?;
    let (Destination::Folder(named) | Destination::FirstFree(named)) = options.out;
    let context = Context { task: &task, inputs: &inputs, minibatches, options, out: named, before: None };
    // Nothing is written for a run that cannot begin.
    budget::check_memory(context.needed_bytes(), options.memory)?;
    task.check()?;
    let known = if options.resume { Summary::find(named)? } else { None };
    check_disk(&context, known.as_ref().map_or(&[], |summary| &summary.optimizers))?;
    let (held, way) = prepare(experiment, options, &inputs)?;
    if let Some(text) = held.warning() {
        events(Event::Note { text: &text });
    }
    let context = Context { out: &held.path, ..context };
    let (summary, folder) = match way {
        Way::Here { resumed } => (run_in(&context, resumed, events)?, held.path.clone()),
        Way::Apart(before) => replace(&before, &context, events)?,
    };
    Ok(Ran { summary, folder, held })
}

/// Takes the run directory and makes it ready; says how the results and checkpoints in it may be used.
fn prepare(experiment: &Experiment, options: &RunOptions, inputs: &Inputs) -> Result<(Folder, Way), StudyError> {
    let folder = Folder::open(&options.out, Purpose::Run)?;
    if folder.has(EXPERIMENT) && options.resume {
        let way = continued::way(experiment, options.keep_trace, &folder.path, inputs)?;
        return Ok((folder, way));
    }
    if folder.has(EXPERIMENT) && !options.overwrite {
        return Err(StudyError::Occupied { path: folder.path.clone() });
    }
    // Ended at any point, this leaves nothing that could be taken for a result of the new experiment.
    folder.remove(SUMMARY)?;
    continued::give_up(&folder.path)?;
    for label in experiment.labels() {
        let path = folder.path.join(label);
        remove_folder(&path).map_err(|source| StudyError::Write { path: folder.path.clone(), source })?;
    }
    folder.write(EXPERIMENT, experiment.to_toml().as_bytes())?;
    Ok((folder, Way::Here { resumed: false }))
}

/// Fails where the disk has no room for a checkpoint and for the traces that are still to be written; `known` are the optimizers
/// that the folder has.
fn check_disk(context: &Context, known: &[OptimizerSummary]) -> Result<(), StudyError> {
    let labels = context.task.experiment.labels();
    let is_done = |label: &String| known.iter().any(|done| done.is_final() && done.label == *label);
    let open = labels.iter().filter(|label| context.options.keep_trace && !is_done(label));
    let traces = open.map(|label| context.missing_trace_bytes(label)).fold(0, usize::saturating_add);
    budget::check_disk(context.out, context.observed_bytes().saturating_add(traces))
}

/// Runs in the folder of the context, which is prepared; `resumed` says whether what it holds may be used.
fn run_in(context: &Context, resumed: bool, events: &mut dyn FnMut(Event)) -> Result<Summary, StudyError> {
    let experiment = context.task.experiment;
    write_environment(context)?;
    let record = Record::begin(context.out, experiment.labels(), empty_summary(context), resumed)?;
    record.complete(context.options.stop, events, |index, label, events| match experiment.training.precision {
        Precision::F32 => course::optimizer::<f32>(context, index, label, events),
        Precision::F64 => course::optimizer::<f64>(context, index, label, events),
    })
}

/// `environment.json`: the machine, the checksums of what was read, and what was done to the data.
fn write_environment(context: &Context) -> Result<(), StudyError> {
    let dataset = &context.task.dataset;
    let mut environment = environment();
    environment["inputs"] = context.inputs.to_json();
    if let Some(standardization) = &dataset.standardization {
        environment["standardization"] = json!(standardization);
    }
    if !dataset.notes.is_empty() {
        environment["data_notes"] = json!(dataset.notes);
    }
    write::json(&context.out.join("environment.json"), &environment)
}

/// The summary of a run that begins.
fn empty_summary(context: &Context) -> Summary {
    let Task { experiment, dataset, network, .. } = context.task;
    Summary {
        format: SUMMARY_FORMAT,
        name: experiment.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: Some(experiment.seed),
        searched_rates: experiment.rates_from.is_some(),
        status: RunStatus::Running,
        dataset: dataset_name(&dataset.name),
        loss: experiment.training.loss.into(),
        target: experiment.training.target,
        headline: experiment.regret.comparators.headline(),
        layers: network.describe(),
        optimizers: Vec::new(),
    }
}

/// Makes the run of `context` next to the run `before`, and puts it in its place if nothing complete is lost by that. Gives its
/// summary, and the folder that it is in.
fn replace(
    before: &Before,
    context: &Context,
    events: &mut dyn FnMut(Event),
) -> Result<(Summary, PathBuf), StudyError> {
    let experiment = context.task.experiment;
    let (apart, resumed) = before.begin(experiment)?;
    let shown = before.out().display();
    let text = format!("{}; the results in {shown} stay until the new ones are complete", before.asked());
    events(Event::Note { text: &text });
    let options = RunOptions { keep_trace: context.options.keep_trace || before.has_traces(), ..*context.options };
    let context = Context { options: &options, out: &apart.path, before: Some(before), ..*context };
    check_disk(&context, &[])?;
    let summary = run_in(&context, resumed, events)?;
    let path = apart.path.clone();
    drop(apart);
    if before.is_outdone_by(experiment, &summary) {
        before.give_place()?;
        return Ok((summary, before.out().to_owned()));
    }
    let way = if summary.status == RunStatus::Failed { "" } else { "; the same command goes on with it" };
    let text = format!("{shown} is as it was, and what was asked for is in {}{way}", path.display());
    events(Event::Note { text: &text });
    Ok((summary, path))
}
