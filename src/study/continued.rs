//! `--resume`: which way leads from the run in a folder to what is asked for.
//!
//! An interrupted run goes on in its place, and so does one that is to have further optimizers. A run that is asked for more epochs,
//! other measurements or traces is made anew next to what there is (in the folder `continued`), with what can be taken over, and
//! takes its place once it is complete: whatever happens before, nothing that was complete is lost.

use super::{
    differences::{Difference, Differences, listed, places},
    error::StudyError,
    experiment::Experiment,
    folder::{Destination, EXPERIMENT, Folder, PAGE, Purpose, SUMMARY, experiment_in},
    inputs::Inputs,
    tables::{OptimizerSummary, RunStatus, Summary},
    write,
};
use crate::files::{self, remove};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Where a run that is to replace that of the folder is made.
pub(super) const FOLDER: &str = "continued";
/// There once that run is complete, until it has taken its place.
const READY: &str = "ready";

/// How what is asked for is made.
pub(super) enum Way {
    /// In the folder; whether what it holds may be used.
    Here { resumed: bool },
    /// Beside what the folder holds.
    Apart(Box<Before>),
}

/// The run that a folder holds.
pub(super) struct Before {
    experiment: Experiment,
    /// Those that have ended.
    optimizers: Vec<OptimizerSummary>,
    out: PathBuf,
    /// In what more is asked for.
    further: Vec<Difference>,
    /// Optimizers without the trace that is asked for.
    traceless: Vec<String>,
    has_traces: bool,
}

/// The way to `experiment` from the run in `out`, whose lock is held.
pub(super) fn way(experiment: &Experiment, keep_trace: bool, out: &Path, inputs: &Inputs) -> Result<Way, StudyError> {
    Purpose::Run.refuse_others(out)?;
    take_place(out)?;
    let there = experiment_in(out)?;
    let Differences { foreign, further, .. } = Differences::between(&there, experiment);
    if !foreign.is_empty() {
        let mut differences = listed(foreign.iter().chain(&further));
        if foreign.iter().any(|difference| difference.is_of_optimizer()) {
            differences.push_str(" (to add an optimizer, name those that are there, too)");
        }
        return Err(StudyError::OtherExperiment { path: out.to_owned(), differences });
    }
    inputs.check(experiment, out)?;
    let optimizers = Summary::final_optimizers(out)?;
    let has_trace = |done: &&OptimizerSummary| out.join(&done.label).join("trace/manifest.json").exists();
    let traceless = optimizers.iter().filter(|done| keep_trace && !has_trace(done));
    let traceless: Vec<String> = traceless.map(|done| done.label.clone()).collect();
    if further.is_empty() && traceless.is_empty() {
        rename(out, &there, experiment)?;
        write::file(&out.join(EXPERIMENT), experiment.to_toml().as_bytes())?;
        return Ok(Way::Here { resumed: true });
    }
    let has_traces = optimizers.iter().any(|done| has_trace(&done));
    Ok(Way::Apart(Before { experiment: there, optimizers, out: out.to_owned(), further, traceless, has_traces }.into()))
}

fn fail(path: &Path) -> impl Fn(io::Error) -> StudyError {
    move |source| StudyError::Write { path: path.to_owned(), source }
}

/// Gives the folders of optimizers the names that they have in the company of others.
fn rename(out: &Path, there: &Experiment, here: &Experiment) -> Result<(), StudyError> {
    let (old, new) = (there.labels(), here.labels());
    let places = places(&there.optimizer, &here.optimizer);
    let pairs = places.iter().zip(&new).filter_map(|(place, label)| Some((&old[(*place)?], label)));
    let changed: Vec<(&String, &String)> = pairs.filter(|(old, new)| old != new).collect();
    if changed.is_empty() {
        return Ok(());
    }
    for (old, new) in &changed {
        let (from, to) = (out.join(old), out.join(new));
        // Once more after an end on the way.
        if from.exists() {
            remove_folder(&to)?;
            std::fs::rename(&from, &to).map_err(fail(&to))?;
        }
    }
    if let Some(mut summary) = Summary::find(out)? {
        for done in &mut summary.optimizers {
            if let Some((_, new)) = changed.iter().find(|(old, _)| **old == done.label) {
                done.label = (*new).clone();
            }
        }
        write::json(&out.join(SUMMARY), &summary)?;
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> Result<(), StudyError> {
    files::remove_folder(folder).map_err(fail(folder))
}

/// Removes a run that was to take the place of another.
pub(super) fn give_up(out: &Path) -> Result<(), StudyError> {
    remove_folder(&out.join(FOLDER))
}

impl Before {
    /// The complete result of the optimizer at `index` of `experiment`, with its folder.
    pub fn result(&self, experiment: &Experiment, index: usize) -> Option<(PathBuf, &OptimizerSummary)> {
        let place = places(&self.experiment.optimizer, &experiment.optimizer)[index]?;
        let label = &self.experiment.labels()[place];
        let done = self.optimizers.iter().find(|done| done.label == *label && done.status == RunStatus::Complete)?;
        Some((self.out.join(label), done))
    }

    pub fn experiment(&self) -> &Experiment {
        &self.experiment
    }

    /// Whether nothing but more epochs is asked for.
    pub fn is_only_shorter(&self) -> bool {
        self.traceless.is_empty() && self.further.iter().all(|difference| difference.key == "training.epochs")
    }

    /// The folder of this run.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// Whether any optimizer left a trace.
    pub fn has_traces(&self) -> bool {
        self.has_traces
    }

    /// Makes the folder of the run that is to take the place of this one ready; whether it holds some of that run already.
    pub fn begin(&self, experiment: &Experiment) -> Result<(Folder, bool), StudyError> {
        let apart = self.out.join(FOLDER);
        let resumed = apart.join(EXPERIMENT).exists();
        if !resumed {
            // What an end before the beginning, or after the end, left.
            remove_folder(&apart)?;
        }
        let folder = Folder::open(&Destination::Folder(&apart), Purpose::Run)?;
        if resumed {
            let differences = Differences::between(&experiment_in(&apart)?, experiment);
            if !differences.is_empty() {
                return Err(StudyError::Unfinished { path: apart, differences: differences.text() });
            }
        } else {
            folder.write(EXPERIMENT, experiment.to_toml().as_bytes())?;
        }
        Ok((folder, resumed))
    }

    /// Puts the run that was made in the place of this one.
    pub fn give_place(&self) -> Result<(), StudyError> {
        write::file(&self.out.join(FOLDER).join(READY), b"")?;
        take_place(&self.out)
    }

    /// In words, what more is asked for.
    pub fn asked(&self) -> String {
        let mut parts: Vec<String> = self.further.iter().map(Difference::to_string).collect();
        if !self.traceless.is_empty() {
            parts.push(format!("no trace was kept of {}", self.traceless.join(", ")));
        }
        parts.join("; ")
    }

    /// Whether a run has ended, and is complete wherever this one is.
    pub fn is_outdone_by(&self, experiment: &Experiment, summary: &Summary) -> bool {
        let labels = experiment.labels();
        summary.optimizers.len() == labels.len()
            && labels.iter().enumerate().all(|(index, label)| {
                let new = summary.optimizers.iter().find(|done| done.label == *label);
                let needed = self.result(experiment, index).is_some();
                new.is_some_and(|new| if needed { new.status == RunStatus::Complete } else { new.is_final() })
            })
    }
}

/// Puts a run that is ready in the place of the one in `out`. Cut short at any point, it is finished by the next call.
fn take_place(out: &Path) -> Result<(), StudyError> {
    let apart = out.join(FOLDER);
    if !apart.join(READY).exists() {
        return Ok(());
    }
    let (config, place) = (apart.join(EXPERIMENT), out.join(EXPERIMENT));
    if config.exists()
        && let Some(summary) = Summary::find(&apart)?
    {
        let path = out.join(SUMMARY);
        let labels: Vec<&String> = summary.optimizers.iter().map(|done| &done.label).collect();
        write::json(&path, &Summary { status: RunStatus::Running, optimizers: Vec::new(), ..summary.clone() })?;
        remove(&out.join(PAGE)).map_err(fail(out))?;
        for gone in experiment_in(out)?.labels().iter().filter(|label| !labels.contains(label)) {
            remove_folder(&out.join(gone))?;
        }
        for label in labels {
            let (from, to) = (apart.join(label), out.join(label));
            if from.exists() {
                remove_folder(&to)?;
                std::fs::rename(&from, &to).map_err(fail(&to))?;
            }
        }
        let environment = apart.join("environment.json");
        if environment.exists() {
            std::fs::rename(&environment, out.join("environment.json")).map_err(fail(out))?;
        }
        write::json(&path, &summary)?;
        std::fs::rename(&config, &place).map_err(fail(&place))?;
    }
    remove_folder(&apart)
}
