//! Analysing traces: the same tables and report for runs that were trained elsewhere.
//!
//! Traces are read and recomputed before anything is written (`check`), so that a bad one leaves the folder as it
//! was. Then each is replayed under observation and analysed, with the state kept in its folder as that of a run is
//! (`folder` has what may be replaced).

mod check;
mod folder;

pub use check::name_of;

use super::{
    analysis::{Analysis, AnalysisSettings},
    budget,
    environment::{environment, peak_memory},
    experiment::{RegretSection, Sections},
    keeper::{Interval, Keeper},
    lock::{Destination, Held},
    numbers::{counted, keys},
    relay::Relay,
    run::{Event, Outcome, StudyError, read_summary, write_analysis, write_json, write_probe},
    tables::{Comparator, OptimizerSummary, RoundRow, SUMMARY_FORMAT, Summary, columns, write_rows},
};
use crate::{
    activation::probe_rows,
    checkpoint::{Identity, Persist, Store, StoreError},
    kernels::Real,
    taylor::{BoundRates, Work},
    trace::{self, Manifest, ReadOptions, TargetKind, TraceError, replay::Replay},
    train::Examples,
};
use check::{Checked, Told, check, digest, labels};
use folder::{Description, Plan, Source, plan, remove_page, replace};
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

/// How to analyse traces.
#[derive(Clone, Copy, Debug)]
pub struct AnalyzeOptions<'a> {
    /// Of one network, loss and dataset.
    pub traces: &'a [PathBuf],
    /// The name of the run.
    pub name: &'a str,
    pub out: Destination<'a>,
    /// Where datasets lie, for traces that name one.
    pub data: Option<&'a Path>,
    /// How many rounds of each trace to take at most, from the first.
    pub rounds: Option<usize>,
    /// Relative difference up to which recomputed losses agree with recorded ones.
    pub loss_tolerance: f64,
    pub sections: &'a Sections,
    /// Whether to analyse a sample of the rounds where the weights of all do not fit in memory.
    pub sample: bool,
    /// Replace another analysis in the folder.
    pub overwrite: bool,
    /// Continue the analysis in the folder: what is complete is kept, the rest goes on from its last checkpoint.
    pub resume: bool,
    /// How often the state is written, to resume from.
    pub checkpoint: Interval,
    /// Bytes that the analysis may take for linearized rounds.
    pub memory: usize,
    pub stop: &'a AtomicBool,
}

/// What an analysis has made.
#[derive(Debug)]
pub struct Analyzed {
    pub summary: Summary,
    /// Of all traces, those included that were not begun.
    pub labels: Vec<String>,
    /// The folder, which is nobody else's until this is dropped.
    pub folder: Held,
}

/// Traces that cannot be analysed, or not here.
#[derive(Debug, thiserror::Error)]
pub enum AnalyzeError {
    #[error("{path}: {source}")]
    InTrace { path: PathBuf, source: Box<TraceError> },
    #[error("{path} has changed since it was checked; begin again when it is complete")]
    Changed { path: PathBuf },
    #[error("{path} is not a trace: {reason}")]
    NoTrace { path: PathBuf, reason: String },
    #[error("{path} is named twice")]
    Twice { path: PathBuf },
    #[error(
        "{} and {} differ in their {what}: {} and {}; optimizers of one run share it, so analyse them apart and \
         compare the runs with taylorscope report RUN RUN", paths[0].display(), paths[1].display(), values[0], values[1]
    )]
    Differ { what: &'static str, paths: Box<[PathBuf; 2]>, values: Box<[String; 2]> },
    #[error("stopped while the traces were checked; nothing was written")]
    Stopped,
    #[error("{path} also holds {}, which no analysis wrote; choose another folder with --out", entry.display())]
    Foreign { path: PathBuf, entry: PathBuf },
    #[error(
        "{path} holds a run that was trained here, which an analysis does not replace; choose another folder with --out"
    )]
    Run { path: PathBuf },
    #[error(
        "{path} holds no analysis that could be continued; replace what it holds with --overwrite, or choose another \
         folder with --out"
    )]
    NothingToResume { path: PathBuf },
    #[error(
        "{path} holds an analysis with {key} = {}, not {}; repeat the traces and settings that it was begun with, replace it \
         with --overwrite, or choose another folder with --out", values[0], values[1]
    )]
    Other { path: PathBuf, key: String, values: Box<[String; 2]> },
}

impl AnalyzeError {
    /// Whether the user asked for something impossible (exit code 2), rather than something failing on the way.
    pub fn is_usage(&self) -> bool {
        !matches!(
            self,
            AnalyzeError::NoTrace { .. }
                | AnalyzeError::InTrace { .. }
                | AnalyzeError::Changed { .. }
                | AnalyzeError::Stopped
        )
    }
}

/// Checks and analyses traces and writes a run directory with an optimizer for each.
///
/// # Errors
/// If a trace is bad, traces do not belong together, or the folder holds something else: nothing is written then. Or if a
/// file cannot be written.
pub fn analyze(options: &AnalyzeOptions, events: &mut dyn FnMut(Event)) -> Result<Analyzed, StudyError> {
    // What can be refused at once is.
    if let Some(out) = options.out.folder() {
        plan(out, options.overwrite, options.resume, None)?;
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
        plan(out, options.overwrite, options.resume, Some(&description))?;
    }
    let folder = options.out.take()?;
    if let Some(text) = folder.warning() {
        events(Event::Note { text: &text });
    }
    let out = &folder.path;
    let mut summary = summary_of(&checked[0], options.name, sections.regret.comparators.headline());
    let path = out.join("summary.json");
    // Another process may have been here meanwhile.
    match plan(out, options.overwrite, options.resume, Some(&description))? {
        Plan::Begin => replace(out, &description, || write_json(&path, &summary))?,
        Plan::Continue => {
            remove_page(out)?;
            let known = read_summary(out)?.map(|summary| summary.optimizers).unwrap_or_default();
            summary.optimizers = known.into_iter().filter(OptimizerSummary::is_final).collect();
            write_json(&path, &summary)?;
        }
    }
    write_json(&out.join("environment.json"), &environment())?;

    for (at, (checked, label)) in checked.iter().zip(&labels).enumerate() {
        let folder = out.join(label);
        if summary.optimizers.iter().any(|done| done.label == *label) {
            clear(&folder)?;
            events(Event::Kept { label });
            continue;
        }
        std::fs::create_dir_all(&folder).map_err(|source| StudyError::Write { path: folder.clone(), source })?;
        let told = Told::by(&checked.manifest);
        let (rounds, learning_rate) = (checked.manifest.rounds, told.learning_rate);
        events(Event::Started { label, index: at + 1, count: labels.len(), learning_rate, rounds });
        let task = Task { options, checked, told, label, folder, description: &description };
        let result = if checked.double { task.run::<f64>(events) } else { task.run::<f32>(events) }?;
        events(Event::Finished { summary: &result });
        let is_final = result.is_final();
        summary.optimizers.push(result);
        // In the order of the traces, whatever was kept.
        summary.optimizers.sort_by_key(|done| labels.iter().position(|label| *label == done.label));
        write_json(&path, &summary)?;
        if is_final {
            clear(&out.join(label))?;
        }
        if options.stop.load(Ordering::SeqCst) {
            break;
        }
    }
    let complete =
        summary.optimizers.len() == labels.len() && summary.optimizers.iter().all(OptimizerSummary::is_final);
    summary.status = if complete { "complete" } else { "interrupted" }.to_owned();
    write_json(&path, &summary)?;
    Ok(Analyzed { summary, labels, folder })
}

fn clear(folder: &Path) -> Result<(), StudyError> {
    Keeper::clear(folder).map_err(|source| StudyError::Write { path: folder.to_owned(), source })
}

fn target(manifest: &Manifest) -> &'static str {
    if manifest.target == TargetKind::Input { "input" } else { "label" }
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
        status: "running".to_owned(),
        dataset: checked.dataset.clone().unwrap_or_else(|| "inputs.npy".to_owned()),
        loss: manifest.loss.name().to_owned(),
        target: target(manifest).to_owned(),
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
        let settings = regret.settings(of.per_epoch(), of.network.layers());
        let rounds = (of.manifest.rounds, of.manifest.batch_size);
        budget::needed_bytes(&of.network, of.manifest.loss, &settings, rounds, of.weight_bytes())
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

/// The analysis of one trace.
struct Task<'a> {
    options: &'a AnalyzeOptions<'a>,
    checked: &'a Checked,
    told: Told,
    label: &'a str,
    folder: PathBuf,
    description: &'a Description,
}

/// Everything that changes from round to round.
struct State<T: Real> {
    analysis: Analysis<T>,
    losses: Vec<f64>,
    /// Whether the rounds are over.
    finished: bool,
    /// That the rounds took.
    seconds: f64,
}

impl<T: Real> Persist for State<T> {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.list("losses", &mut self.losses)?;
        store.number("seconds", &mut self.seconds)?;
        let mut finished = u64::from(self.finished);
        store.number("finished", &mut finished)?;
        self.finished = finished != 0;
        store.part("analysis", |store| self.analysis.persist(store))
    }
}

impl Task<'_> {
    fn run<T: Real>(&self, events: &mut dyn FnMut(Event)) -> Result<OptimizerSummary, StudyError> {
        let Task { options, checked, .. } = self;
        // Only the rounds that were found good.
        let read_options = ReadOptions { data: options.data, rounds: Some(checked.manifest.rounds) };
        let (trace, network) = trace::read::<T>(&checked.folder, &read_options)?;
        if digest(&trace) != checked.digest {
            return Err(self.changed().into());
        }
        let examples = trace.examples(network.inputs());
        let mut state = self.start(&examples)?;
        self.tell(&state.analysis, events);
        let mut keeper = Keeper::new(&self.folder, self.identity(), options.checkpoint);
        if let Some(saved) = Keeper::open(&self.folder)? {
            saved.restore(keeper.identity(), &mut state)?;
            if !state.analysis.draws_from(examples.len()) || state.losses.len() > checked.manifest.rounds {
                return Err(saved.malformed("its rounds are not those of this trace").into());
            }
            events(Event::Resumed { label: self.label, rounds: state.losses.len() });
        }
        if !state.finished {
            let replay = Replay::new(&trace, &network, &examples, state.losses.len());
            self.replay(replay, &mut state, &mut keeper, events)?;
        }
        self.analyse(state, &mut keeper, &examples, events)
    }

    /// The state before the first round.
    fn start<T: Real>(&self, examples: &Examples<T>) -> Result<State<T>, StudyError> {
        let Checked { manifest, network, .. } = self.checked;
        let Description { regret, exploration, .. } = self.description;
        let per_epoch = self.checked.per_epoch();
        let settings = AnalysisSettings {
            regret: regret.settings(per_epoch, network.layers()),
            planned_rounds: manifest.rounds,
            batch: manifest.batch_size,
            memory: self.options.memory,
            every: exploration.every.rounds(per_epoch).min(manifest.rounds),
            pool_winners: exploration.pool_winners,
            rates: BoundRates { sgd: self.checked.plain_sgd, adagrad: None },
            displacements: Some(self.checked.displacements.clone()),
        };
        let probe = probe_rows(examples.len(), exploration.probe);
        write_probe(&self.folder, &probe)?;
        let mut probe_inputs = Vec::new();
        examples.gather_inputs(&probe, &mut probe_inputs);
        let analysis = Analysis::new(network, manifest.loss, settings, probe_inputs);
        Ok(State { analysis, losses: Vec::new(), finished: false, seconds: 0.0 })
    }

    /// Says what the manifest tells of the optimizer, and which rounds are analysed.
    fn tell<T: Real>(&self, analysis: &Analysis<T>, events: &mut dyn FnMut(Event)) {
        let (label, all) = (self.label, self.checked.manifest.rounds);
        if !self.told.settings.is_empty() {
            events(Event::Note { text: &format!("{label}: {}", keys(&self.told.settings)) });
        }
        for check in &self.checked.checks {
            events(Event::Note { text: &format!("{label}: {check}") });
        }
        for warning in &self.checked.warnings {
            events(Event::Note { text: &format!("{label}: warning: {warning}") });
        }
        let (window, analysed) = analysis.window();
        // The closed form at neuron scale takes all rounds in any case.
        let streams = self.checked.manifest.loss.is_quadratic() && !self.checked.network.has_convolutions();
        let scales = if streams { " at layer and network scale" } else { "" };
        let text = match (window, analysed) {
            (0, _) if self.description.regret.scales.is_empty() => return,
            (0, _) => format!("{label}: all {} are analysed", counted(all, "round")),
            (_, analysed) if analysed < window => {
                let of = format!("of the first {window} of {all} are analysed{scales} (regret.rounds)");
                format!("{label}: {analysed} evenly spaced rounds {of}")
            }
            (window, _) if window < all => {
                format!("{label}: rounds 1 to {window} of {all} are analysed{scales} (regret.window)")
            }
            _ => format!("{label}: all {} are analysed", counted(all, "round")),
        };
        events(Event::Note { text: &text });
    }

    fn changed(&self) -> AnalyzeError {
        AnalyzeError::Changed { path: self.checked.folder.clone() }
    }

    /// Whose state checkpoints of this analysis have.
    fn identity(&self) -> Identity {
        [
            ("settings", self.description.settings()),
            ("optimizer", self.label.to_owned()),
            ("trace", self.checked.digest.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// Goes through the rounds, to the end or until told to stop; then the state is kept.
    fn replay<T: Real>(
        &self,
        mut replay: Replay<T>,
        state: &mut State<T>,
        keeper: &mut Keeper,
        events: &mut dyn FnMut(Event),
    ) -> Result<(), StudyError> {
        let (before, start) = (state.seconds, Instant::now());
        let mut stopped = false;
        while let Some(round) = replay.round(&mut [&mut state.analysis]).map_err(|_| self.changed())? {
            state.losses.push(round.loss);
            state.seconds = before + start.elapsed().as_secs_f64();
            events(Event::Round { number: round.number, loss: round.loss });
            stopped = round.number < self.checked.manifest.rounds && self.options.stop.load(Ordering::SeqCst);
            if stopped || keeper.is_due(round.number) {
                keeper.save(state)?;
            }
            if stopped {
                break;
            }
        }
        replay.finish(&mut [&mut state.analysis]);
        state.seconds = before + start.elapsed().as_secs_f64();
        state.finished = !stopped;
        if state.finished && keeper.is_worth_it() {
            keeper.save(state)?;
        }
        Ok(())
    }

    /// Solves what the rounds left to be solved, and writes the tables.
    fn analyse<T: Real>(
        &self,
        state: State<T>,
        keeper: &mut Keeper,
        examples: &Examples<T>,
        events: &mut dyn FnMut(Event),
    ) -> Result<OptimizerSummary, StudyError> {
        let State { analysis, losses, finished, seconds } = state;
        let (done, all, per_epoch) = (losses.len(), self.checked.manifest.rounds, self.checked.per_epoch());
        let observed = analysis.clock.total();
        let relay = Relay::new(&mut *events);
        let search = |work: &mut Work| analysis.complete(examples, work, |stage| relay.stage(stage));
        let ((tables, clock), mut found) = keeper.search(done, self.options.stop, &|work| relay.tick(work), search)?;
        if tables.halted && finished {
            keeper.save_last_found(done, &mut found)?;
        }
        let row = |(at, loss): (usize, &f64)| RoundRow { round: at + 1, epoch: at / per_epoch + 1, loss: *loss };
        let rows: Vec<RoundRow> = losses.iter().enumerate().map(row).collect();
        write_rows(&self.folder.join("rounds.csv"), columns::ROUNDS, &rows)?;
        write_analysis(&self.folder, &tables)?;
        let mut phases = serde_json::to_value(clock.phases()).unwrap_or_default();
        phases["check"] = json!(self.checked.seconds);
        phases["replay"] = json!((seconds - observed).max(0.0));
        let timing = json!({ "phases": phases, "epochs": [], "peak_memory_bytes": peak_memory() });
        write_json(&self.folder.join("timing.json"), &timing)?;
        let (status, message) = match (finished, tables.halted) {
            (false, _) => ("interrupted", Some(format!("stopped after round {done} of {all}; continue with --resume"))),
            (true, true) => {
                let rounds = counted(all, "round");
                ("interrupted", Some(format!("stopped in the analysis of {rounds}; continue with --resume")))
            }
            (true, false) => ("complete", None),
        };
        let outcome = Outcome {
            name: self.told.name.as_deref().unwrap_or("trace"),
            learning_rate: self.told.learning_rate,
            label: self.label,
            settings: self.told.settings.clone(),
            checks: self.checked.checks.clone(),
            warnings: self.checked.warnings.clone(),
            contradicted: self.checked.contradicted,
            status,
            message,
            per_epoch,
            tables: &tables,
        };
        Ok(outcome.summary(&self.checked.network, &rows, None))
    }
}
