//! Running an experiment: train every optimizer, analyse, write the run directory.

use super::{
    analysis::{Analysis, AnalysisSettings, AnalysisTables},
    environment::{environment, peak_memory},
    experiment::{Experiment, Precision},
    tables::{
        Comparator, EpochRow, OptimizerSummary, RoundRow, Summary, TableError, ValidationRow, columns, write_rows,
    },
};
use crate::{
    activation::probe_rows,
    data::{self, DataError, Dataset, MinibatchError, Minibatches, Split},
    files::write_atomically,
    kernels::{Real, real::converted},
    loss::Loss,
    network::{LayerSpec, Network, NetworkError, Shape, WeightsError, he_uniform, read_weights},
    optim::{OptimizerConfig, OptimizerError},
    taylor::BoundRates,
    trace::{TargetKind, TraceError, TraceWriter, write::write_npy},
    train::{Ending, Evaluation, Examples, Observer, Training, evaluate, train},
};
use serde_json::json;
use std::{
    borrow::Cow,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

/// Inputs and labels that a kept trace carries along, up to this many bytes.
const EMBEDDED_DATA_BYTES: usize = 64 << 20;

/// How to run, apart from what the experiment says.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions<'a> {
    /// The run directory.
    pub out: &'a Path,
    /// Where the datasets lie.
    pub data: Option<&'a Path>,
    /// Keep each optimizer's trace.
    pub keep_trace: bool,
    /// Replace another run in the directory.
    pub overwrite: bool,
    /// Continue an interrupted run in the directory: finished optimizers are kept.
    pub resume: bool,
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
        learning_rate: f64,
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
    #[error("cannot write {path}: {source}; free some space or choose another folder with --out")]
    Write { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} already holds a run; choose another folder with --out, continue it with --resume, or replace it with --overwrite"
    )]
    Occupied { path: PathBuf },
    #[error("{path} holds a run of another experiment, so it cannot be resumed; choose another folder with --out")]
    OtherExperiment { path: PathBuf },
    #[error("{path} is not empty and holds no run; choose another folder with --out")]
    NotEmpty { path: PathBuf },
}

impl StudyError {
    /// Whether the user asked for something impossible (exit code 2), rather than something failing on the way.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            StudyError::Network(_)
                | StudyError::Validation { .. }
                | StudyError::Minibatch(_)
                | StudyError::Optimizer(_)
                | StudyError::Occupied { .. }
                | StudyError::OtherExperiment { .. }
                | StudyError::NotEmpty { .. }
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

/// Prepares the run directory; says whether finished optimizers in it may be kept.
fn prepare(experiment: &Experiment, options: &RunOptions) -> Result<bool, StudyError> {
    let out = options.out;
    let fail = |source| StudyError::Write { path: out.to_owned(), source };
    let config = out.join("experiment.toml");
    let mut resumed = false;
    if config.exists() {
        if options.resume {
            let same = std::fs::read_to_string(&config).is_ok_and(|text| text == experiment.to_toml());
            if !same {
                return Err(StudyError::OtherExperiment { path: out.to_owned() });
            }
            resumed = true;
        } else if !options.overwrite {
            return Err(StudyError::Occupied { path: out.to_owned() });
        }
    } else if out.exists() && std::fs::read_dir(out).map_err(fail)?.next().is_some() {
        return Err(StudyError::NotEmpty { path: out.to_owned() });
    }
    std::fs::create_dir_all(out).map_err(fail)?;
    if !resumed {
        for label in experiment.labels() {
            let folder = out.join(label);
            if folder.exists() {
                std::fs::remove_dir_all(&folder).map_err(fail)?;
            }
        }
        let _ = std::fs::remove_file(out.join("summary.json"));
        write(&config, experiment.to_toml().as_bytes())?;
    }
    Ok(resumed)
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), StudyError> {
    write_atomically(path, bytes).map_err(|source| StudyError::Write { path: path.to_owned(), source })
}

pub(super) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), StudyError> {
    let mut text = serde_json::to_string_pretty(value).expect("plain data is always expressible as JSON");
    text.push('\n');
    write(path, text.as_bytes())
}

/// Trains and analyses every optimizer of an experiment, writing the run directory as it goes.
pub fn run(
    experiment: &Experiment,
    options: &RunOptions,
    events: &mut dyn FnMut(Event),
) -> Result<Summary, StudyError> {
    let (mut dataset, network) = resolve(experiment, options.data)?;
    let validation = set_aside(experiment, &mut dataset)?;
    let minibatches = Minibatches::new(dataset.train.len(), experiment.training.batch_size, experiment.seed)?;
    let resumed = prepare(experiment, options)?;
    let mut environment = environment();
    if let Some(standardization) = &dataset.standardization {
        environment["standardization"] = json!(standardization);
    }
    write_json(&options.out.join("environment.json"), &environment)?;
    let kept: Vec<OptimizerSummary> = match resumed {
        true => read_summary(options.out).map(|s| s.optimizers).unwrap_or_default(),
        false => Vec::new(),
    };
    let headline = match experiment.training.loss {
        Loss::Mse => Comparator::Unconstrained,
        Loss::CrossEntropy => Comparator::Ball,
    };
    let mut summary = Summary {
        format: 1,
        name: experiment.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: experiment.seed,
        status: "interrupted".to_owned(),
        dataset: dataset.name.clone(),
        loss: experiment.training.loss.name().to_owned(),
        target: if experiment.training.target == TargetKind::Input { "input" } else { "label" }.to_owned(),
        headline,
        layers: network.describe(),
        optimizers: Vec::new(),
    };
    let study = Study {
        experiment,
        options,
        dataset: &dataset,
        validation: validation.as_ref(),
        network: &network,
        minibatches: &minibatches,
    };
    for (config, label) in experiment.optimizer.iter().zip(experiment.labels()) {
        if let Some(done) = kept.iter().find(|o| o.label == label && o.status == "complete") {
            events(Event::Kept { label: &label });
            summary.optimizers.push(done.clone());
            continue;
        }
        let result = match experiment.training.precision {
            Precision::F32 => study.optimizer::<f32>(config, &label, events),
            Precision::F64 => study.optimizer::<f64>(config, &label, events),
        }?;
        events(Event::Finished { summary: &result });
        summary.optimizers.push(result);
        write_json(&options.out.join("summary.json"), &summary)?;
        if options.stop.load(Ordering::SeqCst) {
            break;
        }
    }
    let all = |status: &str| summary.optimizers.iter().all(|o| o.status == status);
    summary.status = match () {
        () if summary.optimizers.len() == experiment.optimizer.len() && all("complete") => "complete",
        () if summary.optimizers.iter().any(|o| o.status == "failed") => "failed",
        () => "interrupted",
    }
    .to_owned();
    write_json(&options.out.join("summary.json"), &summary)?;
    Ok(summary)
}

/// Reads `summary.json` of a run directory.
pub fn read_summary(run: &Path) -> Option<Summary> {
    serde_json::from_slice(&std::fs::read(run.join("summary.json")).ok()?).ok()
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
struct Study<'a> {
    experiment: &'a Experiment,
    options: &'a RunOptions<'a>,
    dataset: &'a Dataset,
    validation: Option<&'a Split>,
    network: &'a Network,
    minibatches: &'a Minibatches,
}

impl Study<'_> {
    fn planned_rounds(&self) -> usize {
        self.minibatches.rounds_per_epoch() * self.experiment.training.epochs
    }

    fn optimizer<T: Real>(
        &self,
        config: &OptimizerConfig,
        label: &str,
        events: &mut dyn FnMut(Event),
    ) -> Result<OptimizerSummary, StudyError> {
        let (network, training) = (self.network, &self.experiment.training);
        let folder = self.options.out.join(label);
        std::fs::create_dir_all(&folder).map_err(|source| StudyError::Write { path: folder.clone(), source })?;
        let mut weights: Vec<T> = initial_weights(self.experiment, self.network, self.experiment.seed)?;
        let mut optimizer = config.build_for::<T>(network, self.planned_rounds())?;
        let (train_split, test_split) =
            (TypedSplit::<T>::new(&self.dataset.train), TypedSplit::<T>::new(&self.dataset.test));
        let (train_set, test_set) = (train_split.examples(training.target), test_split.examples(training.target));
        let validation_split = self.validation.map(TypedSplit::<T>::new);
        let validation_set = validation_split.as_ref().map(|split| split.examples(training.target));
        let per_epoch = self.minibatches.rounds_per_epoch();
        let planned = self.planned_rounds();
        let rate = config.rate(planned);
        events(Event::Started { label, learning_rate: config.learning_rate, rounds: planned });

        let settings = AnalysisSettings {
            regret: self.experiment.regret.settings(per_epoch, network.layers()),
            planned_rounds: planned,
            batch: training.batch_size,
            memory: self.options.memory,
            every: self.experiment.exploration.every.rounds(per_epoch).min(planned),
            pool_winners: self.experiment.exploration.pool_winners,
            rates: BoundRates { sgd: config.constant_rate_of("sgd"), adagrad: config.constant_rate_of("adagrad") },
        };
        let probe = probe_rows(train_set.len(), self.experiment.exploration.probe);
        write_probe(&folder, &probe)?;
        let mut probe_inputs = Vec::new();
        train_set.gather_inputs(&probe, &mut probe_inputs);
        let mut analysis = Analysis::new(network, training.loss, settings, probe_inputs);
        let mut trace = self.trace_writer::<T>(config, &folder)?;

        let (mut rounds, mut epochs): (Vec<RoundRow>, Vec<EpochRow>) = (Vec::new(), Vec::new());
        let mut validation: Vec<ValidationRow> = Vec::new();
        let mut epoch_seconds = Vec::new();
        let (start, mut epoch_start) = (Instant::now(), Instant::now());
        let mut evaluation_seconds = 0.0;
        let mut observers: Vec<&mut dyn Observer<T>> = vec![&mut analysis];
        if let Some(trace) = &mut trace {
            observers.push(trace);
        }
        let task = Training {
            network,
            loss: training.loss,
            examples: train_set,
            minibatches: self.minibatches,
            epochs: training.epochs,
        };
        let events_cell = std::cell::RefCell::new(&mut *events);
        let (ending, done) = train(
            &task,
            &mut *optimizer,
            &mut weights,
            &mut observers,
            |number, epoch, loss| {
                rounds.push(RoundRow { round: number, epoch, loss });
                (events_cell.borrow_mut())(Event::Round { number, loss });
                match self.options.stop.load(Ordering::SeqCst) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            },
            |epoch, weights| {
                epoch_seconds.push(epoch_start.elapsed().as_secs_f64());
                let evaluated = Instant::now();
                let on = |examples: &Examples<T>| evaluate(network, training.loss, weights, examples);
                let row = epoch_row(epoch, rate.at(epoch * per_epoch), on(&train_set), on(&test_set));
                validation.extend(validation_set.as_ref().map(&on).map(|found| ValidationRow {
                    epoch,
                    validation_loss: found.loss,
                    validation_accuracy: found.accuracy,
                }));
                (events_cell.borrow_mut())(Event::Epoch {
                    epoch,
                    train_loss: row.train_loss,
                    test_loss: row.test_loss,
                });
                epochs.push(row);
                evaluation_seconds += evaluated.elapsed().as_secs_f64();
                epoch_start = Instant::now();
                match training.stop_at_train_accuracy.zip(epochs.last().and_then(|row| row.train_accuracy)) {
                    Some((goal, accuracy)) if accuracy >= goal => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            },
        );
        let total = start.elapsed().as_secs_f64();
        let observed = analysis.clock.total();
        write_rows(&folder.join("rounds.csv"), columns::ROUNDS, &rounds)?;
        write_rows(&folder.join("epochs.csv"), columns::EPOCHS, &epochs)?;
        if validation_set.is_some() {
            write_rows(&folder.join("validation.csv"), columns::VALIDATION, &validation)?;
        }
        if let Some(trace) = trace {
            let path = folder.join("trace");
            trace.close().map_err(|source| StudyError::Write { path, source })?;
        }

        let stopped = matches!(ending, Ending::Stopped { .. }) && done < planned;
        let (tables, clock) = analysis.complete(&train_set, stopped, |name| events(Event::Phase { name }));
        write_analysis(&folder, &tables)?;
        let mut phases = serde_json::to_value(clock.phases()).unwrap_or_default();
        phases["training"] = json!((total - observed - evaluation_seconds).max(0.0));
        phases["evaluation"] = json!(evaluation_seconds);
        let timing = json!({ "phases": phases, "epochs": epoch_seconds, "peak_memory_bytes": peak_memory() });
        write_json(&folder.join("timing.json"), &timing)?;

        let (status, message) = match ending {
            Ending::Diverged { round } => ("failed", Some(divergence(config, round))),
            Ending::Reached { epoch } => ("complete", Some(reached(training.stop_at_train_accuracy, epoch))),
            Ending::Stopped { rounds } if rounds < planned => {
                ("interrupted", Some(format!("stopped after round {rounds} of {planned}; continue with --resume")))
            }
            _ => ("complete", None),
        };
        let outcome = Outcome { config, label, status, message, per_epoch, tables: &tables };
        Ok(outcome.summary(network, &rounds, epochs.last()))
    }

    fn trace_writer<T: Real>(
        &self,
        config: &OptimizerConfig,
        folder: &Path,
    ) -> Result<Option<TraceWriter<T>>, StudyError> {
        if !self.options.keep_trace {
            return Ok(None);
        }
        let training = &self.experiment.training;
        let path = folder.join("trace");
        let fail = |source| StudyError::Write { path: path.clone(), source };
        let train = &self.dataset.train;
        let writer = TraceWriter::new(
            &path,
            self.network,
            training.loss,
            training.target,
            training.batch_size,
            config,
            self.dataset,
        )
        .map_err(fail)?;
        if train.inputs.len() * size_of::<f32>() <= EMBEDDED_DATA_BYTES {
            let labels = (training.target == TargetKind::Label).then_some(&train.labels[..]);
            writer.write_data(&train.inputs, train.features(), labels).map_err(fail)?;
        }
        Ok(Some(writer))
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

fn epoch_row(epoch: usize, learning_rate: f64, train: Evaluation, test: Evaluation) -> EpochRow {
    EpochRow {
        epoch,
        learning_rate,
        train_loss: train.loss,
        test_loss: test.loss,
        train_accuracy: train.accuracy,
        test_accuracy: test.accuracy,
    }
}

fn divergence(config: &OptimizerConfig, round: usize) -> String {
    let rate = config.learning_rate;
    format!(
        "the loss of round {round} is not finite with learning rate {rate}; everything before it is kept. Try a \
         smaller rate, for example {}",
        rate / 3.0
    )
}

fn reached(goal: Option<f64>, epoch: usize) -> String {
    format!("reached the training accuracy {} after epoch {epoch}", goal.unwrap_or(1.0))
}

/// How an optimizer's run went, for its summary.
pub(super) struct Outcome<'a> {
    pub config: &'a OptimizerConfig,
    pub label: &'a str,
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
            name: self.config.name.clone(),
            learning_rate: self.config.learning_rate,
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

/// Trains without observers and without writing anything.
pub fn train_only(experiment: &Experiment, data_dir: Option<&Path>) -> Result<Vec<PlainTraining>, StudyError> {
    match experiment.training.precision {
        Precision::F32 => train_only_in::<f32>(experiment, data_dir),
        Precision::F64 => train_only_in::<f64>(experiment, data_dir),
    }
}

fn train_only_in<T: Real>(experiment: &Experiment, data_dir: Option<&Path>) -> Result<Vec<PlainTraining>, StudyError> {
    let (mut dataset, network) = resolve(experiment, data_dir)?;
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
