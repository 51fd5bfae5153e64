//! Running an experiment: train every optimizer, analyse, write the run directory.

use super::{
    analysis::AnalysisTables,
    analyze::AnalyzeError,
    budget,
    continued::{self, Before, Way},
    course,
    environment::environment,
    experiment::{Experiment, ExperimentError, Precision},
    inputs::Inputs,
    keeper::Interval,
    lock::{Destination, Held, LOCK_FILE},
    paths::dataset_name,
    tables::{EpochRow, OptimizerSummary, RoundRow, SUMMARY_FORMAT, Summary, TableError, columns, write_rows},
};
use crate::{
    checkpoint::CheckpointError,
    data::{self, DataError, Dataset, MinibatchError, Minibatches, Split},
    files::{is_partial, remove, write_atomically},
    kernels::{Real, real::converted},
    network::{LayerSpec, Network, NetworkError, Shape, WeightsError, he_uniform, read_weights},
    optim::OptimizerError,
    trace::{TargetKind, TraceError, write::write_npy},
    train::{Ending, Evaluation, Examples, Training, train},
};
use serde_json::json;
use std::{
    borrow::Cow,
    collections::BTreeMap,
    ffi::OsStr,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

/// How to run, apart from what the experiment says.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions<'a> {
    /// The run directory.
    pub out: Destination<'a>,
    /// Where the datasets lie.
    pub data: Option<&'a Path>,
    /// Keep each optimizer's trace.
    pub keep_trace: bool,
    /// Replace another run in the directory.
    pub overwrite: bool,
    /// Continue the run in the directory: finished optimizers are kept, another goes on from its last checkpoint.
    pub resume: bool,
    /// How often the state is written, to resume from.
    pub checkpoint: Interval,
    /// Bytes that the analysis may take for linearized rounds.
    pub memory: usize,
    /// Set from outside to stop after the current round.
    pub stop: &'a AtomicBool,
}

/// What a run tells its caller as it goes.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// An optimizer begins; `rounds` are planned.
    Started {
        label: &'a str,
        /// Which one of how many, from 1.
        index: usize,
        count: usize,
        /// `None` where a trace does not tell it.
        learning_rate: Option<f64>,
        rounds: usize,
    },
    /// The optimizer goes on behind so many rounds, from its last checkpoint.
    Resumed {
        label: &'a str,
        rounds: usize,
    },
    /// An optimizer's result was kept from an earlier run.
    Kept {
        label: &'a str,
    },
    Round {
        number: usize,
        loss: f64,
    },
    Epoch {
        epoch: usize,
        train_loss: f64,
        test_loss: f64,
    },
    /// An analysis begins after training.
    Phase {
        name: &'a str,
    },
    /// So much of the work of the current phase is done, in units that take about equally long.
    Progress {
        done: u64,
        of: u64,
    },
    /// What the user should know before a long analysis: about how long it takes, and which setting costs most.
    Note {
        text: &'a str,
    },
    Finished {
        summary: &'a OptimizerSummary,
    },
}

/// A study that could not be run or written.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("data.validation: {asked} of {rows} training rows leave none to train on; set fewer aside")]
    Validation { asked: usize, rows: usize },
    #[error("training.batch_size: {0}")]
    Minibatch(#[from] MinibatchError),
    #[error("network.layers: {0}")]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Analyze(#[from] AnalyzeError),
    #[error("cannot write {path}: {source}; {}", crate::files::remedy(source))]
    Write { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} already holds a run; choose another folder with --out, continue it with --resume, or replace it with --overwrite"
    )]
    Occupied { path: PathBuf },
    #[error(
        "{path} holds another experiment: {differences}; repeat what it was begun with, choose another folder with --out, or replace \
         it with --overwrite"
    )]
    OtherExperiment { path: PathBuf, differences: String },
    #[error("{path} holds no experiment that could be continued ({source}); choose another folder with --out")]
    Unreadable { path: PathBuf, source: Box<ExperimentError> },
    #[error(
        "{path} holds a run that was to take the place of the one next to it: {differences}; repeat what it was begun with, or remove \
         that folder"
    )]
    Unfinished { path: PathBuf, differences: String },
    #[error(
        "{what} that {path} was begun with, as their checksums differ; put that back, choose another folder with --out, or replace \
         the results with --overwrite"
    )]
    OtherInputs { path: PathBuf, what: String },
    #[error("{path} holds results of another command, as it has no {table}; choose another folder with --out")]
    OtherCommand { path: PathBuf, table: String },
    #[error("{path} is not empty and holds no run; choose another folder with --out")]
    NotEmpty { path: PathBuf },
    #[error(
        "the analysis keeps {needed} in memory, more than the {allowed} of --memory; analyse fewer rounds (regret.rounds, \
         regret.window) or neurons (regret.neurons), or allow more"
    )]
    Memory { needed: String, allowed: String },
    #[error(
        "the run needs {needed} on the disk of {path}, which has {free} left; free some space, choose another folder with --out, or leave out --keep-trace"
    )]
    Disk { path: PathBuf, needed: String, free: String },
    #[error("{path} is in use by process {process}; wait until that has ended, or choose another folder with --out")]
    InUse { path: PathBuf, process: String },
    #[error(
        "{path} was begun without --keep-trace, so its trace would lack rounds; leave that out, or begin anew with --overwrite"
    )]
    NoTrace { path: PathBuf },
}

impl StudyError {
    /// Whether the user asked for something impossible (exit code 2), rather than something failing on the way.
    pub fn is_usage(&self) -> bool {
        if let StudyError::Analyze(error) = self {
            return error.is_usage();
        }
        matches!(
            self,
            StudyError::Network(_)
                | StudyError::Validation { .. }
                | StudyError::Minibatch(_)
                | StudyError::Optimizer(_)
                | StudyError::Occupied { .. }
                | StudyError::OtherExperiment { .. }
                | StudyError::Unreadable { .. }
                | StudyError::Unfinished { .. }
                | StudyError::OtherInputs { .. }
                | StudyError::OtherCommand { .. }
                | StudyError::NotEmpty { .. }
                | StudyError::InUse { .. }
                | StudyError::NoTrace { .. }
                | StudyError::Memory { .. }
                | StudyError::Data(DataError::UnknownName { .. } | DataError::Images(_))
        )
    }
}

/// Loads the data, checks that the network fits it, and returns both.
pub fn resolve(experiment: &Experiment, data_dir: Option<&Path>) -> Result<(Dataset, Network), StudyError> {
    let folder = experiment.data.path.as_deref().or(data_dir);
    let mut dataset = data::load(&experiment.data.dataset, folder)?;
    if experiment.data.standardize {
        dataset.standardize();
    }
    let network = Network::new(input_shape(&dataset, &experiment.network.layers)?, &experiment.network.layers)?;
    let (needed, what) = match experiment.training.target {
        TargetKind::Input => (network.inputs(), "an autoencoder of this data".to_owned()),
        TargetKind::Label => (dataset.classes, format!("the {} classes of {}", dataset.classes, dataset.name)),
    };
    if network.outputs() != needed {
        return Err(NetworkError::Outputs { outputs: network.outputs(), needed, what }.into());
    }
    Ok((dataset, network))
}

/// Takes the rows for validation off the end of the training set.
pub(super) fn set_aside(experiment: &Experiment, dataset: &mut Dataset) -> Result<Option<Split>, StudyError> {
    let (asked, rows) = (experiment.data.validation, dataset.train.len());
    if asked == 0 {
        return Ok(None);
    }
    let set = dataset.train.split_off(rows.saturating_sub(asked));
    set.map(Some).ok_or(StudyError::Validation { asked, rows })
}

/// How a network sees a datapoint: as an image if any layer is about images, else as the dataset has it.
fn input_shape(dataset: &Dataset, layers: &[LayerSpec]) -> Result<Shape, NetworkError> {
    Shape::from_sizes(if layers.iter().any(LayerSpec::is_spatial) { &dataset.image } else { &dataset.shape })
}

/// A split as examples in the type that is trained in.
pub(super) struct TypedSplit<'a, T: Real> {
    inputs: Cow<'a, [T]>,
    split: &'a Split,
}

impl<'a, T: Real> TypedSplit<'a, T> {
    pub fn new(split: &'a Split) -> Self {
        Self { inputs: converted(&split.inputs), split }
    }

    pub fn examples(&self, target: TargetKind) -> Examples<'_, T> {
        match target {
            TargetKind::Input => Examples::autoencoder(&self.inputs, self.split.features()),
            TargetKind::Label => Examples::classifier(&self.inputs, self.split.features(), &self.split.labels),
        }
    }
}

/// Prepares the run directory; says how the results and checkpoints in it may be used.
fn prepare(experiment: &Experiment, options: &RunOptions, inputs: &Inputs) -> Result<(Held, Way), StudyError> {
    if let Some(out) = options.out.folder()
        && !out.join("experiment.toml").exists()
        && out.exists()
        && holds_something(out, |_| false)?
    {
        return Err(StudyError::NotEmpty { path: out.to_owned() });
    }
    let held = options.out.take()?;
    let out = &held.path;
    let fail = |source| StudyError::Write { path: out.to_owned(), source };
    let config = out.join("experiment.toml");
    if config.exists() && options.resume {
        let way = continued::way(experiment, options, out, inputs)?;
        return Ok((held, way));
    }
    if config.exists() && !options.overwrite {
        return Err(StudyError::Occupied { path: out.to_owned() });
    }
    // Ended at any point, this leaves nothing that could be taken for a result of the new experiment.
    remove(&out.join("summary.json")).map_err(fail)?;
    continued::give_up(out)?;
    for label in experiment.labels() {
        let folder = out.join(label);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(fail)?;
        }
    }
    write(&config, experiment.to_toml().as_bytes())?;
    Ok((held, Way::Here { resumed: false }))
}

/// Whether a folder has anything but a lock, unfinished files, and what `beside` accepts.
pub(super) fn holds_something(folder: &Path, beside: impl Fn(&OsStr) -> bool) -> Result<bool, StudyError> {
    let fail = |source| StudyError::Write { path: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        if name != LOCK_FILE && !is_partial(&name) && !beside(&name) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), StudyError> {
    write_atomically(path, bytes).map_err(|source| StudyError::Write { path: path.to_owned(), source })
}

pub(super) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), StudyError> {
    let mut text = serde_json::to_string_pretty(value).expect("plain data is always expressible as JSON");
    text.push('\n');
    write(path, text.as_bytes())
}

/// A run, done or not, and where it lies: in the folder that was named, or in one within it while it cannot yet replace another.
#[derive(Debug)]
pub struct Ran {
    pub summary: Summary,
    pub folder: PathBuf,
    /// The folder that was named or found, which is nobody else's until this is dropped.
    pub held: Held,
}

/// Trains and analyses every optimizer of an experiment, writing the run directory as it goes.
///
/// # Errors
/// If it cannot be run, in which case nothing is written; or if a file cannot be read or written.
pub fn run(experiment: &Experiment, options: &RunOptions, events: &mut dyn FnMut(Event)) -> Result<Ran, StudyError> {
    let (mut dataset, network) = resolve(experiment, options.data)?;
    dataset.notes.iter().for_each(|text| events(Event::Note { text }));
    let inputs = Inputs::of(experiment, &dataset)?;
    let validation = set_aside(experiment, &mut dataset)?;
    let minibatches = Minibatches::new(dataset.train.len(), experiment.training.batch_size, experiment.seed)?;
    let (Destination::Folder(named) | Destination::FirstFree(named)) = options.out;
    let study = Study {
        experiment,
        options,
        out: named,
        dataset: &dataset,
        inputs: &inputs,
        validation: validation.as_ref(),
        network: &network,
        minibatches: &minibatches,
        before: None,
    };
    // Nothing is written for a run that cannot begin.
    budget::check_memory(study.needed_bytes(), options.memory)?;
    can_begin(experiment, &network, study.planned_rounds())?;
    let known = if options.resume { read_summary(named)? } else { None };
    study.check_disk(known.as_ref().map_or(&[], |summary| &summary.optimizers))?;
    let (held, way) = prepare(experiment, options, &inputs)?;
    if let Some(text) = held.warning() {
        events(Event::Note { text: &text });
    }
    let study = Study { out: &held.path, ..study };
    let (summary, folder) = match way {
        Way::Here { resumed } => (study.run_in_place(resumed, events)?, held.path.clone()),
        Way::Apart(before) => before.replace(&study, events)?,
    };
    Ok(Ran { summary, folder, held })
}

/// Fails where an optimizer or the initial weights of an experiment cannot be had.
pub(super) fn can_begin(experiment: &Experiment, network: &Network, planned: usize) -> Result<(), StudyError> {
    if experiment.network.weights.is_some() {
        initial_weights::<f32>(experiment, network, experiment.seed)?;
    }
    for config in &experiment.optimizer {
        config.build_for::<f32>(network, planned)?;
    }
    Ok(())
}

/// Reads `summary.json` of a run directory; `None` if there is none.
pub fn read_summary(run: &Path) -> Result<Option<Summary>, StudyError> {
    let path = run.join("summary.json");
    if path.exists() { Ok(Some(Summary::read(&path)?)) } else { Ok(None) }
}

/// The experiment's initial weights: from its file, or by `seed`.
pub(super) fn initial_weights<T: Real>(
    experiment: &Experiment,
    network: &Network,
    seed: u64,
) -> Result<Vec<T>, StudyError> {
    Ok(match &experiment.network.weights {
        Some(path) => read_weights(network, path)?,
        None => he_uniform(network, seed),
    })
}

/// An experiment with everything that its optimizers share.
#[derive(Clone, Copy)]
pub(super) struct Study<'a> {
    pub experiment: &'a Experiment,
    pub options: &'a RunOptions<'a>,
    /// The run directory.
    pub out: &'a Path,
    pub dataset: &'a Dataset,
    /// Checksums of what the experiment reads.
    pub inputs: &'a Inputs,
    pub validation: Option<&'a Split>,
    pub network: &'a Network,
    pub minibatches: &'a Minibatches,
    /// The run that this one is to take the place of.
    pub before: Option<&'a Before>,
}

impl Study<'_> {
    /// Runs in the folder of the options, which is prepared; `resumed` says whether what it holds may be used.
    pub fn run_in_place(&self, resumed: bool, events: &mut dyn FnMut(Event)) -> Result<Summary, StudyError> {
        let Study { experiment, options, dataset, network, .. } = *self;
        let mut environment = environment();
        environment["inputs"] = self.inputs.to_json();
        if let Some(standardization) = &dataset.standardization {
            environment["standardization"] = json!(standardization);
        }
        if !dataset.notes.is_empty() {
            environment["data_notes"] = json!(dataset.notes);
        }
        write_json(&self.out.join("environment.json"), &environment)?;
        let mut summary = Summary {
            format: SUMMARY_FORMAT,
            name: experiment.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seed: Some(experiment.seed),
            searched_rates: experiment.rates_from.is_some(),
            status: "running".to_owned(),
            dataset: dataset_name(&dataset.name),
            loss: experiment.training.loss.name().to_owned(),
            target: if experiment.training.target == TargetKind::Input { "input" } else { "label" }.to_owned(),
            headline: experiment.regret.comparators.headline(),
            layers: network.describe(),
            optimizers: Vec::new(),
        };
        let labels = experiment.labels();
        let path = self.out.join("summary.json");
        if resumed {
            let known = read_summary(self.out)?.map(|summary| summary.optimizers).unwrap_or_default();
            summary.optimizers = known.into_iter().filter(OptimizerSummary::is_final).collect();
        }
        write_json(&path, &summary)?;
        for (index, label) in labels.iter().enumerate() {
            if let Some(done) = summary.optimizers.iter().find(|done| done.label == *label) {
                course::clear(self.out, label)?;
                match done.message.as_ref().filter(|_| done.status == "failed") {
                    Some(message) => events(Event::Note { text: &format!("{label}: failed, kept: {message}") }),
                    None => events(Event::Kept { label }),
                }
                continue;
            }
            let result = match experiment.training.precision {
                Precision::F32 => self.optimizer::<f32>(index, label, events),
                Precision::F64 => self.optimizer::<f64>(index, label, events),
            }?;
            events(Event::Finished { summary: &result });
            let is_final = result.is_final();
            summary.optimizers.push(result);
            // In the order of the experiment, whatever was kept.
            summary.optimizers.sort_by_key(|done| labels.iter().position(|label| *label == done.label));
            write_json(&path, &summary)?;
            if is_final {
                course::clear(self.out, label)?;
            }
            if options.stop.load(Ordering::SeqCst) {
                break;
            }
        }
        summary.status = match () {
            () if summary.optimizers.iter().any(|o| o.status == "failed") => "failed",
            () if summary.optimizers.len() < labels.len() => "interrupted",
            () if summary.optimizers.iter().any(|o| !o.is_final()) => "interrupted",
            () => "complete",
        }
        .to_owned();
        write_json(&path, &summary)?;
        Ok(summary)
    }

    /// What the analysis of an optimizer keeps in memory while training goes on.
    fn observed_bytes(&self) -> usize {
        let Study { experiment, network, minibatches, .. } = *self;
        let regret = experiment.regret.settings(minibatches.rounds_per_epoch(), network.layers());
        let weight = experiment.training.precision.bytes();
        budget::observed_bytes(network, experiment.training.loss, &regret, self.planned_rounds(), weight)
    }

    /// The least that the analysis of an optimizer takes.
    fn needed_bytes(&self) -> usize {
        let Study { experiment, network, minibatches, .. } = *self;
        let regret = experiment.regret.settings(minibatches.rounds_per_epoch(), network.layers());
        let (weight, batch) = (experiment.training.precision.bytes(), experiment.training.batch_size);
        budget::needed_bytes(network, experiment.training.loss, &regret, (self.planned_rounds(), batch), weight)
    }

    /// Whether the disk has room for a checkpoint and for the traces that are still to be written; `known` are the
    /// optimizers that the folder has.
    pub fn check_disk(&self, known: &[OptimizerSummary]) -> Result<(), StudyError> {
        let rounds = (self.planned_rounds() + 1).saturating_mul(self.network.parameters());
        let trace = |label: &String| {
            let data = self.dataset.train.inputs.len() * size_of::<f32>();
            let data = if data <= course::EMBEDDED_DATA_BYTES { data } else { 0 };
            let whole = rounds.saturating_mul(self.experiment.training.precision.bytes()).saturating_add(data);
            let is_there = self.options.resume;
            let there = if is_there { budget::folder_bytes(&self.out.join(label).join("trace")) } else { 0 };
            whole.saturating_sub(there)
        };
        let labels = self.experiment.labels();
        let is_done = |label: &String| known.iter().any(|done| done.is_final() && done.label == *label);
        let open = labels.iter().filter(|label| !is_done(label));
        let traces = if self.options.keep_trace { open.map(trace).fold(0, usize::saturating_add) } else { 0 };
        budget::check_disk(self.out, self.observed_bytes().saturating_add(traces))
    }

    pub fn planned_rounds(&self) -> usize {
        self.minibatches.rounds_per_epoch() * self.experiment.training.epochs
    }
}

/// `probe.npy`: the rows of the training data in the probe set.
pub(super) fn write_probe(folder: &Path, rows: &[u32]) -> Result<(), StudyError> {
    let path = folder.join("probe.npy");
    let rows: Vec<i64> = rows.iter().map(|r| i64::from(*r)).collect();
    write_npy(&path, &[rows.len() as u64], &rows).map_err(|source| StudyError::Write { path, source })
}

/// The tables that an analysis makes.
pub(super) fn write_analysis(folder: &Path, tables: &AnalysisTables) -> Result<(), StudyError> {
    write_rows(&folder.join("regret.csv"), columns::REGRET, &tables.regret)?;
    write_rows(&folder.join("units.csv"), columns::UNITS, &tables.units)?;
    write_rows(&folder.join("novelty.csv"), columns::NOVELTY, &tables.novelty)?;
    write_rows(&folder.join("neurons.csv"), columns::NEURONS, &tables.neurons)?;
    if let Some((novelty, neurons)) = &tables.pools {
        write_rows(&folder.join("pool_novelty.csv"), columns::NOVELTY, novelty)?;
        write_rows(&folder.join("pool_neurons.csv"), columns::NEURONS, neurons)?;
    }
    Ok(())
}

pub(super) fn epoch_row(epoch: usize, learning_rate: f64, train: Evaluation, test: Evaluation) -> EpochRow {
    EpochRow {
        epoch,
        learning_rate,
        train_loss: train.loss,
        test_loss: test.loss,
        train_accuracy: train.accuracy,
        test_accuracy: test.accuracy,
    }
}

/// How an optimizer's run went, for its summary.
pub(super) struct Outcome<'a> {
    pub name: &'a str,
    pub learning_rate: Option<f64>,
    pub label: &'a str,
    /// All other keys of the optimizer.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// What was found out about a trace, and what of it casts doubt on it: sentences.
    pub checks: Vec<String>,
    pub warnings: Vec<String>,
    /// Whether the steps of a trace are not those of the optimizer that it names.
    pub contradicted: bool,
    pub status: &'a str,
    pub message: Option<String>,
    pub per_epoch: usize,
    pub tables: &'a AnalysisTables,
}

impl Outcome<'_> {
    pub fn summary(self, network: &Network, rounds: &[RoundRow], last: Option<&EpochRow>) -> OptimizerSummary {
        let mean = |rows: &[RoundRow]| {
            (!rows.is_empty()).then(|| rows.iter().map(|r| r.loss).sum::<f64>() / rows.len() as f64)
        };
        OptimizerSummary {
            label: self.label.to_owned(),
            name: self.name.to_owned(),
            learning_rate: self.learning_rate,
            settings: self.settings,
            checks: self.checks,
            warnings: self.warnings,
            contradicted: self.contradicted,
            status: self.status.to_owned(),
            message: self.message,
            rounds: rounds.len(),
            rounds_per_epoch: self.per_epoch,
            window_rounds: self.tables.window_rounds,
            sampled_rounds: self.tables.sampled_rounds,
            last_loss: mean(&rounds[rounds.len().saturating_sub(100)..]),
            mean_loss: mean(rounds),
            train_loss: last.map(|e| e.train_loss),
            test_loss: last.map(|e| e.test_loss),
            train_accuracy: last.and_then(|e| e.train_accuracy),
            test_accuracy: last.and_then(|e| e.test_accuracy),
            hidden_neurons: network.hidden_blocks().iter().map(|b| b.units).sum(),
            dead_neurons: self.tables.neurons.iter().filter(|n| n.dead).count(),
        }
    }
}

/// One optimizer's plain training, timed.
#[derive(Clone, Debug)]
pub struct PlainTraining {
    pub label: String,
    /// Seconds of each epoch, without evaluation.
    pub seconds: Vec<f64>,
    /// Mean loss over the last 100 rounds (or all, when fewer).
    pub last_loss: f64,
    /// Mean loss over all rounds.
    pub mean_loss: f64,
    pub ending: Ending,
}

/// Trains without observers and without writing anything; `note` hears what the user should know of the data.
pub fn train_only(
    experiment: &Experiment,
    data_dir: Option<&Path>,
    note: &mut dyn FnMut(&str),
) -> Result<Vec<PlainTraining>, StudyError> {
    match experiment.training.precision {
        Precision::F32 => train_only_in::<f32>(experiment, data_dir, note),
        Precision::F64 => train_only_in::<f64>(experiment, data_dir, note),
    }
}

fn train_only_in<T: Real>(
    experiment: &Experiment,
    data_dir: Option<&Path>,
    note: &mut dyn FnMut(&str),
) -> Result<Vec<PlainTraining>, StudyError> {
    let (mut dataset, network) = resolve(experiment, data_dir)?;
    dataset.notes.iter().for_each(|text| note(text));
    set_aside(experiment, &mut dataset)?;
    let training = &experiment.training;
    let minibatches = Minibatches::new(dataset.train.len(), training.batch_size, experiment.seed)?;
    let split = TypedSplit::<T>::new(&dataset.train);
    let examples = split.examples(training.target);
    let mut all = Vec::new();
    for (config, label) in experiment.optimizer.iter().zip(experiment.labels()) {
        let mut weights: Vec<T> = initial_weights(experiment, &network, experiment.seed)?;
        let planned = minibatches.rounds_per_epoch() * training.epochs;
        let mut optimizer = config.build_for::<T>(&network, planned)?;
        let task = Training {
            network: &network,
            loss: training.loss,
            examples,
            minibatches: &minibatches,
            epochs: training.epochs,
        };
        let (mut losses, mut seconds) = (Vec::new(), Vec::new());
        let mut start = Instant::now();
        let (ending, _) = train(
            &task,
            &mut *optimizer,
            &mut weights,
            &mut [],
            |_, _, loss| {
                losses.push(loss);
                ControlFlow::Continue(())
            },
            |_, _| {
                seconds.push(start.elapsed().as_secs_f64());
                start = Instant::now();
                ControlFlow::Continue(())
            },
        );
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len().max(1) as f64;
        let last_loss = mean(&losses[losses.len().saturating_sub(100)..]);
        all.push(PlainTraining { label, seconds, last_loss, mean_loss: mean(&losses), ending });
    }
    Ok(all)
}
