//! `--resume`: which way leads from the run in a folder to what is asked for.
//!
//! An interrupted run goes on in its place, and so does one that is to have further optimizers. A run that is asked for more epochs,
//! other measurements or traces is made anew beside what there is (in the folder `continued`), with what can be taken over, and
//! takes its place once it is complete: whatever happens before, nothing that was complete is lost.

use super::{
    StudyError,
    differences::{Difference, Differences, listed, places},
    experiment::{Experiment, load},
    inputs::Inputs,
    lock::Lock,
    run::{Event, RunOptions, Study, read_summary, write, write_json},
    tables::{OptimizerSummary, Summary},
    trial::refuse_foreign,
};
use crate::files::remove;
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
pub(super) fn way(
    experiment: &Experiment,
    options: &RunOptions,
    out: &Path,
    inputs: &Inputs,
) -> Result<Way, StudyError> {
    refuse_foreign(out, "summary.json")?;
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
    let known = read_summary(out)?.map(|summary| summary.optimizers).unwrap_or_default();
    let optimizers: Vec<OptimizerSummary> = known.into_iter().filter(OptimizerSummary::is_final).collect();
    let has_trace = |done: &&OptimizerSummary| out.join(&done.label).join("trace/manifest.json").exists();
    let traceless = optimizers.iter().filter(|done| options.keep_trace && !has_trace(done));
    let traceless: Vec<String> = traceless.map(|done| done.label.clone()).collect();
    if further.is_empty() && traceless.is_empty() {
        rename(out, &there, experiment)?;
        write(&out.join("experiment.toml"), experiment.to_toml().as_bytes())?;
        return Ok(Way::Here { resumed: true });
    }
    let has_traces = optimizers.iter().any(|done| has_trace(&done));
    Ok(Way::Apart(Before { experiment: there, optimizers, out: out.to_owned(), further, traceless, has_traces }.into()))
}

/// The experiment that a folder was begun with.
pub(super) fn experiment_in(out: &Path) -> Result<Experiment, StudyError> {
    load(&out.join("experiment.toml").display().to_string(), &[])
        .map_err(|source| StudyError::Unreadable { path: out.to_owned(), source: source.into() })
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
    if let Some(mut summary) = read_summary(out)? {
        for done in &mut summary.optimizers {
            if let Some((_, new)) = changed.iter().find(|(old, _)| **old == done.label) {
                done.label = (*new).clone();
            }
        }
        write_json(&out.join("summary.json"), &summary)?;
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> Result<(), StudyError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail(folder)(error)),
        _ => Ok(()),
    }
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
        let done = self.optimizers.iter().find(|done| done.label == *label && done.status == "complete")?;
        Some((self.out.join(label), done))
    }

    pub fn experiment(&self) -> &Experiment {
        &self.experiment
    }

    /// Whether nothing but more epochs is asked for.
    pub fn is_only_shorter(&self) -> bool {
        self.traceless.is_empty() && self.further.iter().all(|difference| difference.key == "training.epochs")
    }

    /// Makes the run of `study` beside this one, and puts it in its place if nothing complete is lost by that.
    /// Gives its summary, and the folder that it is in.
    pub fn replace(self, study: &Study, events: &mut dyn FnMut(Event)) -> Result<(Summary, PathBuf), StudyError> {
        let (out, apart) = (&self.out, self.out.join(FOLDER));
        let (lock, resumed) = begin(&apart, study.experiment)?;
        let shown = out.display();
        events(Event::Note {
            text: &format!("{}; the results in {shown} stay until the new ones are complete", self.asked()),
        });
        let keep_trace = study.options.keep_trace || self.has_traces;
        let options = RunOptions { keep_trace, ..*study.options };
        let study = Study { options: &options, out: &apart, before: Some(&self), ..*study };
        study.check_disk(&[])?;
        let summary = study.run_in_place(resumed, events)?;
        drop(lock);
        if !self.is_outdone_by(study.experiment, &summary) {
            let way = if summary.status == "failed" { "" } else { "; the same command goes on with it" };
            let text = format!("{shown} is as it was, and what was asked for is in {}{way}", apart.display());
            events(Event::Note { text: &text });
            return Ok((summary, apart));
        }
        write(&apart.join(READY), b"")?;
        take_place(out)?;
        Ok((summary, self.out))
    }

    /// In words, what more is asked for.
    fn asked(&self) -> String {
        let mut parts: Vec<String> = self.further.iter().map(Difference::to_string).collect();
        if !self.traceless.is_empty() {
            parts.push(format!("no trace was kept of {}", self.traceless.join(", ")));
        }
        parts.join("; ")
    }

    /// Whether a run has ended, and is complete wherever this one is.
    fn is_outdone_by(&self, experiment: &Experiment, summary: &Summary) -> bool {
        let labels = experiment.labels();
        summary.optimizers.len() == labels.len()
            && labels.iter().enumerate().all(|(index, label)| {
                let new = summary.optimizers.iter().find(|done| done.label == *label);
                let needed = self.result(experiment, index).is_some();
                new.is_some_and(|new| if needed { new.status == "complete" } else { new.is_final() })
            })
    }
}

/// Makes the folder ready; whether it holds the same run already.
fn begin(apart: &Path, experiment: &Experiment) -> Result<(Lock, bool), StudyError> {
    let config = apart.join("experiment.toml");
    if config.exists() {
        let lock = Lock::take(apart)?;
        let differences = Differences::between(&experiment_in(apart)?, experiment);
        if !differences.is_empty() {
            return Err(StudyError::Unfinished { path: apart.to_owned(), differences: differences.text() });
        }
        return Ok((lock, true));
    }
    // What an end before the beginning, or behind the end, left.
    remove_folder(apart)?;
    std::fs::create_dir_all(apart).map_err(fail(apart))?;
    let lock = Lock::take(apart)?;
    write(&config, experiment.to_toml().as_bytes())?;
    Ok((lock, false))
}

/// Puts a run that is ready in the place of the one in `out`. Cut short at any point, it is finished by the next call.
fn take_place(out: &Path) -> Result<(), StudyError> {
    let apart = out.join(FOLDER);
    if !apart.join(READY).exists() {
        return Ok(());
    }
    let (config, place) = (apart.join("experiment.toml"), out.join("experiment.toml"));
    if config.exists()
        && let Some(summary) = read_summary(&apart)?
    {
        let path = out.join("summary.json");
        let labels: Vec<&String> = summary.optimizers.iter().map(|done| &done.label).collect();
        write_json(&path, &Summary { status: "running".to_owned(), optimizers: Vec::new(), ..summary.clone() })?;
        remove(&out.join("report.html")).map_err(fail(out))?;
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
        write_json(&path, &summary)?;
        std::fs::rename(&config, &place).map_err(fail(&place))?;
    }
    remove_folder(&apart)
}
