//! Analysing a training whose Taylor losses are computed elsewhere: a model that the engine does not know, on an accelerator, say.
//!
//! Who has the model replays the recorded rounds, tells what it saw of them ([`ExternalRun`]) and has the products of every unit
//! ([`Source`]). The searches, their certificates and the files are those of `analyze`: the page and `report` work on the folder.
//!
//! - `course`: the searches of one run and its tables; `records`: what prefixes say of units

mod course;
mod records;

pub use records::UnitCourse;

use super::{
    analyze::{
        Analyzed,
        folder::{Description, Source as TraceSource, mode, replace},
    },
    environment::environment,
    error::StudyError,
    event::Event,
    experiment::Sections,
    folder::{Destination, Folder, Purpose},
    record::Record,
    tables::{RunStatus, SUMMARY_FORMAT, Summary},
};
use crate::{
    activation::Configurations,
    loss::LossName,
    taylor::{
        external::{Failure, Products},
        unit::UnitId,
    },
    trace::TargetKind,
};
use course::Course;
use serde_json::{Map, Value};
use std::sync::atomic::AtomicBool;

/// What was seen of a run that was trained elsewhere.
#[derive(Clone, Debug)]
pub struct ExternalRun {
    /// The name of the analysis.
    pub name: String,
    /// The folder of the results within that of the analysis.
    pub label: String,
    /// Where the trace lies, and what tells its contents from others.
    pub trace: String,
    pub digest: String,
    /// What the manifest says of the optimizer.
    pub optimizer: Map<String, Value>,
    /// The constant step, if all rounds are analysed and every update was seen to be a step of plain SGD.
    pub plain_sgd: Option<f64>,
    pub dataset: String,
    pub loss: LossName,
    pub target: TargetKind,
    /// Words for the modules that units speak of; a unit's layer is a place in this list.
    pub layers: Vec<String>,
    /// Numbers of the analysed rounds, from 1, increasing.
    pub rounds: Vec<usize>,
    /// `l^n(W^n)` of these, recomputed.
    pub losses: Vec<f64>,
    /// Numbers and losses of all rounds, as far as they were recorded.
    pub all_losses: Vec<(usize, f64)>,
    /// Rounds of an epoch.
    pub per_epoch: usize,
    /// What is to be analysed.
    pub units: Vec<UnitCourse>,
    /// Of rectifiers on the probe set, if they were recorded.
    pub configurations: Option<Configurations>,
    /// Sentences on what was found out, and on what casts doubt on the trace.
    pub checks: Vec<String>,
    pub warnings: Vec<String>,
    /// That all this took.
    pub seconds: f64,
}

/// Who has the products of the units of a run.
pub trait Source {
    /// The Taylor losses of a unit. Units are asked for in the order of the run's list, scale by scale from neurons to the network.
    ///
    /// # Errors
    /// Whatever kept them from being computed.
    fn open(&self, unit: UnitId) -> Result<Box<dyn Products + '_>, Failure>;
}

/// How to analyse.
#[derive(Clone, Copy, Debug)]
pub struct ExternalOptions<'a> {
    pub out: Destination<'a>,
    /// Replace another analysis in the folder.
    pub overwrite: bool,
    /// Scales, comparators, prefixes, tolerances and products of the searches; what chooses rounds and neurons was heeded by who made the run.
    pub sections: &'a Sections,
    /// Ends the analysis early once it is set; set by a failure of the products.
    pub stop: &'a AtomicBool,
}

/// An analysis that was not completed.
#[derive(Debug, thiserror::Error)]
pub enum ExternalFailure {
    #[error(transparent)]
    Study(#[from] StudyError),
    /// The products failed; what was found by then is in the folder, which says that it is not complete.
    #[error("{0}")]
    Products(Failure),
    #[error("{0}")]
    Run(&'static str),
}

/// Searches the Taylor optima of all units of a run and writes a folder as `analyze` does.
///
/// # Errors
/// If the folder holds something else (nothing is written then), a file cannot be written, or the products fail.
pub fn analyze(
    run: &ExternalRun,
    source: &dyn Source,
    options: &ExternalOptions,
    events: &mut dyn FnMut(Event),
) -> Result<Analyzed, ExternalFailure> {
    records::check(run).map_err(ExternalFailure::Run)?;
    let trace = TraceSource { folder: run.trace.clone(), label: run.label.clone(), sha256: run.digest.clone() };
    let description = Description::new(options.sections, vec![trace]);
    if let Some(out) = options.out.folder() {
        mode(out, options.overwrite, false, Some(&description))?;
    }
    let folder = Folder::open(&options.out, Purpose::Analysis)?;
    if let Some(text) = folder.warning() {
        events(Event::Note { text: &text });
    }
    let labels = vec![run.label.clone()];
    let begin = || Record::begin(&folder.path, labels.clone(), summary_of(run, options.sections), false);
    let record = replace(&folder.path, &description, begin)?;
    folder.write_json("environment.json", &environment())?;
    let mut failure = None;
    let summary = record.complete(options.stop, events, |_, label, events| {
        let course = Course { run, source, options, folder: folder.path.join(label) };
        let (summary, failed) = course.run(events)?;
        failure = failed;
        Ok(summary)
    })?;
    failure.map_or(Ok(Analyzed { summary, labels, folder }), |failure| Err(ExternalFailure::Products(failure)))
}

/// The summary of an analysis that begins.
fn summary_of(run: &ExternalRun, sections: &Sections) -> Summary {
    Summary {
        format: SUMMARY_FORMAT,
        name: run.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: None,
        searched_rates: false,
        status: RunStatus::Running,
        dataset: run.dataset.clone(),
        loss: run.loss.clone(),
        target: run.target,
        headline: sections.regret.comparators.headline(),
        layers: run.layers.clone(),
        optimizers: Vec::new(),
    }
}
