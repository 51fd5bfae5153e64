//! Analysing traces: the same tables and report for runs that were trained elsewhere.
//!
//! Traces are read and recomputed before anything is written (`check`), so that a bad one leaves the folder as it
//! was. Then each is replayed under observation and analysed (`course`), with the state kept in its folder as that of a run is
//! (`folder` has what may be replaced). `told`: what manifests say of optimizers; `names`: what traces are called; `digest`: checksums;
//! `extent`: which rounds of the training a trace has.

mod check;
mod course;
mod digest;
mod extent;
pub(super) mod folder;
mod names;
mod options;
pub(super) mod told;

pub use super::error::AnalyzeError;
pub use names::name_of;
pub use options::AnalyzeOptions;

use super::{
    budget,
    environment::environment,
    error::StudyError,
    event::Event,
    experiment::{RegretSection, Sections},
    folder::{Folder, Purpose},
    numbers::counted,
    plan::{Extent, Plan},
    record::Record,
    tables::{Comparator, RunStatus, SUMMARY_FORMAT, Summary},
};
use check::{Checked, check};
use course::Course;
use folder::{Description, Mode, Source, mode, remove_page, replace};
use names::labels;
use told::Told;

/// What an analysis has made.
#[derive(Debug)]
pub struct Analyzed {
    pub summary: Summary,
    /// Of all traces, those included that were not begun.
    pub labels: Vec<String>,
    /// The folder, which is nobody else's until this is dropped.
    pub folder: Folder,
}

/// Checks and analyses traces and writes a run directory with an optimizer for each.
///
/// # Errors
/// If a trace is bad, traces do not belong together, or the folder holds something else: nothing is written then. Or if a
/// file cannot be written.
pub fn analyze(options: &AnalyzeOptions, events: &mut dyn FnMut(Event)) -> Result<Analyzed, StudyError> {
    // What can be refused at once is.
    if let Some(out) = options.out.folder() {
        mode(out, options.overwrite, options.resume, None)?;
    }
    let checked = check(options, events)?;
    let sections = Sections { regret: fitted(options, &checked, events)?, ..options.sections.clone() };
    let labels = labels(&checked);
    let source = |(checked, label): (&Checked, &String)| Source {
        folder: checked.folder.display().to_string(),
        label: label.clone(),
        sha256: checked.digest.clone(),
    };
    let description = Description::new(&sections, checked.iter().zip(&labels).map(source).collect());

    if let Some(out) = options.out.folder() {
        mode(out, options.overwrite, options.resume, Some(&description))?;
    }
    let folder = Folder::open(&options.out, Purpose::Analysis)?;
    if let Some(text) = folder.warning() {
        events(Event::Note { text: &text });
    }
    let out = &folder.path;
    let summary = summary_of(&checked[0], options.name, sections.regret.comparators.headline());
    // Another process may have been here meanwhile.
    let record = match mode(out, options.overwrite, options.resume, Some(&description))? {
        Mode::Begin => replace(out, &description, || Record::begin(out, labels.clone(), summary, false))?,
        Mode::Continue => {
            remove_page(out)?;
            Record::begin(out, labels.clone(), summary, true)?
        }
    };
    folder.write_json("environment.json", &environment())?;
    let summary = record.complete(options.stop, events, |at, label, events| {
        let checked = &checked[at];
        let folder = out.join(label);
        std::fs::create_dir_all(&folder).map_err(|source| StudyError::Write { path: folder.clone(), source })?;
        let told = Told::by(&checked.manifest);
        let (rounds, learning_rate) = (checked.manifest.rounds, told.learning_rate);
        events(Event::Started { label, index: at + 1, count: labels.len(), learning_rate, rounds });
        let course = Course { options, checked, told, label, folder, description: &description };
        if checked.double { course.run::<f64>(events) } else { course.run::<f32>(events) }
    })?;
    Ok(Analyzed { summary, labels, folder })
}

/// The summary of a run that begins, of the network and data of this trace.
fn summary_of(checked: &Checked, name: &str, headline: Comparator) -> Summary {
    let manifest = &checked.manifest;
    Summary {
        format: SUMMARY_FORMAT,
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: None,
        searched_rates: false,
        status: RunStatus::Running,
        dataset: checked
            .dataset
            .clone()
            .unwrap_or_else(|| if checked.extent.is_recorded() { "recorded data" } else { "inputs.npy" }.to_owned()),
        loss: manifest.loss.into(),
        target: manifest.target,
        headline,
        layers: checked.network.describe(),
        optimizers: Vec::new(),
    }
}

/// The settings of the regret, with a sample of the rounds if all do not fit in memory and that is allowed.
fn fitted(
    options: &AnalyzeOptions,
    checked: &[Checked],
    events: &mut dyn FnMut(Event),
) -> Result<RegretSection, StudyError> {
    let needed = |of: &Checked, regret: &RegretSection| {
        let settings = of.extent.settings(regret, of.network.layers());
        let rounds = Extent::uniform(of.manifest.rounds, of.manifest.batch_size);
        Plan::new(&of.network, of.manifest.loss, &settings).needed_bytes(rounds, of.weight_bytes())
    };
    let fits = |of: &Checked, regret: &RegretSection| needed(of, regret) <= options.memory;
    let mut regret = options.sections.regret.clone();
    if options.sample && regret.rounds.is_none() {
        let sampled = |rounds| RegretSection { rounds: Some(rounds), ..regret.clone() };
        let too_many = checked.iter().filter(|of| !fits(of, &regret));
        // More rounds need more memory, so those that fit come before those that do not.
        let most = |of: &Checked| {
            let (mut fit, mut end) = (0, of.manifest.rounds);
            while fit + 1 < end {
                let middle = fit + (end - fit) / 2;
                if fits(of, &sampled(middle)) { fit = middle } else { end = middle }
            }
            fit
        };
        if let Some((rounds, of)) = too_many.map(|of| (most(of), of)).min_by_key(|(rounds, _)| *rounds)
            && rounds > 0
        {
            let text = format!(
                "the weights of all {} take {}, more than the {} of --memory: {} of each trace, evenly spaced, {} \
                 analysed (regret.rounds={rounds})",
                counted(of.manifest.rounds, "round"),
                budget::size(needed(of, &regret)),
                budget::size(options.memory),
                counted(rounds, "round"),
                if rounds == 1 { "is" } else { "are" }
            );
            events(Event::Note { text: &text });
            regret = sampled(rounds);
        }
    }
    checked.iter().try_for_each(|of| budget::check_memory(needed(of, &regret), options.memory))?;
    Ok(regret)
}
