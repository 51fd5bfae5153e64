//! What a landscape is of: a run, an experiment, a trace or a weights file, with its data and the weights of its rounds.

use super::error::LandscapeError;
use crate::{
    loss::{Loss, Targets},
    network::{Network, read_weights},
    num::{Real, convert},
    optim::OptimizerConfig,
    study::{
        error::StudyError,
        experiment::{Experiment, Precision, load, source},
        folder::EXPERIMENT,
        paths::dataset_name,
        tables::Summary,
        task::{PreparedRun, Task, examples_of},
    },
    trace::{self, ReadOptions, TargetKind, Trace, read::TraceTargets},
    train::{Examples, Observer, Round},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

/// The weights before a round's update, and the round's minibatch (empty after the last round).
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub weights: Vec<f64>,
    pub rows: Vec<u32>,
}

/// Data and network of a subject, in `f64`.
#[derive(Clone, Debug)]
pub struct Subject {
    /// In words.
    pub name: String,
    pub dataset: String,
    pub network: Network,
    pub loss: Loss,
    /// `[rows, features]`.
    pub inputs: Vec<f64>,
    labels: Vec<u32>,
    values: Vec<f64>,
    pub target: TargetKind,
    /// Runs whose rounds can be looked at, by label; a weights file has none.
    pub runs: Vec<SubjectRun>,
    /// The weights of a weights file.
    fixed: Option<Vec<f64>>,
    /// Whether weights are those after the last round unless another is asked for.
    trained: bool,
}

/// A run of one optimizer.
#[derive(Clone, Debug)]
pub struct SubjectRun {
    pub label: String,
    /// Rounds of the whole run.
    pub rounds: usize,
    origin: Origin,
}

/// Where a run's weights come from.
#[derive(Clone, Debug)]
enum Origin {
    Trace(Box<Trace<f64>>),
    /// The same experiment gives the same weights, so they can be trained again.
    Training(Box<(Experiment, OptimizerConfig)>),
}

impl Subject {
    /// Finds out what `target` is and loads it. `experiment` names the layers and data of a weights file.
    ///
    /// # Errors
    /// If it is nothing of the kind, or something in it cannot be used.
    pub fn load(target: &str, experiment: Option<&str>, data: Option<&Path>) -> Result<Subject, LandscapeError> {
        let path = Path::new(target);
        if path.join("manifest.json").exists() {
            let mut subject = Subject::of_trace(path, data)?;
            subject.name = format!("the trace {target}");
            return Ok(subject);
        }
        if path.is_dir() {
            return Subject::of_run(path, data);
        }
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let Some(name) = experiment else {
                return Err(LandscapeError::WeightsNeedExperiment { path: path.to_owned() });
            };
            let mut subject = Subject::of_experiment(&load(name, &[])?, data)?;
            subject.fixed = Some(read_weights(&subject.network, path).map_err(StudyError::from)?);
            subject.runs.clear();
            subject.name = format!("the weights {target}");
            return Ok(subject);
        }
        Subject::of_experiment(&load(target, &[])?, data)
    }

    fn of_run(dir: &Path, data: Option<&Path>) -> Result<Subject, LandscapeError> {
        let config = dir.join(EXPERIMENT);
        if !config.exists() {
            return Err(LandscapeError::NoRun { path: dir.to_owned() });
        }
        let name = config.display().to_string();
        let (text, _) = source(&name)?;
        if text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("trace")) {
            return Err(LandscapeError::AnalysisOfTrace { path: dir.to_owned() });
        }
        let experiment = load(&name, &[])?;
        let mut subject = Subject::of_experiment(&experiment, data)?;
        let done = Summary::find(dir).map_err(StudyError::from)?.map(|summary| summary.optimizers).unwrap_or_default();
        for run in &mut subject.runs {
            // A run may have ended before its last planned round.
            run.rounds = done.iter().find(|o| o.label == run.label).map_or(run.rounds, |o| o.rounds);
            let folder = dir.join(&run.label).join("trace");
            if folder.join("manifest.json").exists() {
                let (trace, network) =
                    trace::read::<f64>(&folder, &ReadOptions { data, rounds: None }).map_err(StudyError::from)?;
                if network != subject.network {
                    return Err(LandscapeError::OtherNetwork { path: folder });
                }
                run.rounds = trace.manifest.rounds;
                run.origin = Origin::Trace(Box::new(trace));
            }
        }
        subject.name = format!("the run {}", dir.display());
        subject.trained = true;
        Ok(subject)
    }

    fn of_trace(folder: &Path, data: Option<&Path>) -> Result<Subject, LandscapeError> {
        let (trace, network) =
            trace::read::<f64>(folder, &ReadOptions { data, rounds: None }).map_err(StudyError::from)?;
        let manifest = &trace.manifest;
        let label = manifest.optimizer.get("name").and_then(serde_json::Value::as_str).unwrap_or("trace").to_owned();
        let (labels, values) = match &trace.targets {
            TraceTargets::Labels(labels) => (labels.clone(), Vec::new()),
            TraceTargets::Values(values) => (Vec::new(), values.clone()),
            TraceTargets::Inputs => (Vec::new(), Vec::new()),
        };
        Ok(Subject {
            name: String::new(),
            dataset: trace.dataset.clone().unwrap_or_else(|| "inputs.npy".to_owned()),
            network,
            loss: manifest.loss,
            inputs: trace.inputs.clone(),
            labels,
            values,
            target: manifest.target,
            fixed: None,
            trained: true,
            runs: vec![SubjectRun {
                label,
                rounds: trace.number(manifest.rounds - 1),
                origin: Origin::Trace(Box::new(trace)),
            }],
        })
    }

    /// The subject of an experiment: its initial weights, unless rounds are asked for.
    ///
    /// # Errors
    /// If its data or network cannot be had.
    pub fn of_experiment(experiment: &Experiment, data: Option<&Path>) -> Result<Subject, LandscapeError> {
        let Task { dataset, network, .. } = Task::load(experiment, data, &mut |_| ())?;
        let batches = dataset.train.len() / experiment.training.batch_size;
        let runs = experiment.optimizer.iter().zip(experiment.labels()).map(|(config, label)| SubjectRun {
            label,
            rounds: batches * experiment.training.epochs,
            origin: Origin::Training(Box::new((experiment.clone(), config.clone()))),
        });
        Ok(Subject {
            name: format!("the experiment {}", experiment.name),
            dataset: dataset_name(&dataset.name),
            loss: experiment.training.loss,
            target: experiment.training.target,
            runs: runs.collect(),
            fixed: None,
            trained: false,
            inputs: convert(&dataset.train.inputs),
            labels: dataset.train.labels,
            values: Vec::new(),
            network,
        })
    }

    /// The examples that rounds draw from.
    pub fn examples(&self) -> Examples<'_, f64> {
        let features = self.network.inputs();
        match (self.target, self.loss) {
            (TargetKind::Input, _) => Examples::autoencoder(&self.inputs, features),
            (TargetKind::Label | TargetKind::Values, Loss::CrossEntropy) => {
                Examples::classifier(&self.inputs, features, &self.labels)
            }
            (TargetKind::Label | TargetKind::Values, Loss::Mse) => Examples {
                inputs: &self.inputs,
                features,
                targets: Targets::Values(&self.values),
                target_width: self.network.outputs(),
            },
        }
    }

    /// The run with this label, or the first.
    ///
    /// # Errors
    /// If there is none.
    pub fn run(&self, label: Option<&str>) -> Result<&SubjectRun, LandscapeError> {
        let found = match label {
            Some(label) => self.runs.iter().find(|run| run.label == label),
            None => self.runs.first(),
        };
        found.ok_or_else(|| LandscapeError::NoSuchRun {
            label: label.unwrap_or_default().to_owned(),
            known: self.runs.iter().map(|run| run.label.clone()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The weights to look at where no round is named: those of a weights file, the initial ones of an experiment, or
    /// those after a run's last round; with the round they belong to.
    ///
    /// # Errors
    /// As [`Subject::states`].
    pub fn weights(
        &self,
        label: Option<&str>,
        round: Option<usize>,
        stop: &AtomicBool,
    ) -> Result<(Option<usize>, Vec<f64>), LandscapeError> {
        match (&self.fixed, round) {
            (Some(_), Some(_)) => Err(LandscapeError::NoRounds),
            (Some(weights), None) => Ok((None, weights.clone())),
            (None, round) => {
                let run = self.run(label)?;
                let last = match &run.origin {
                    Origin::Trace(trace) => trace.numbers.last().copied().unwrap_or(0),
                    Origin::Training(_) => run.rounds + 1,
                };
                let round = round.unwrap_or(if self.trained { last } else { 1 });
                let mut states = self.states(run, &BTreeSet::from([round]), stop)?;
                let state = states.remove(&round).ok_or_else(|| LandscapeError::NoSuchRound {
                    round,
                    last,
                    label: run.label.clone(),
                })?;
                Ok((Some(round), state.weights))
            }
        }
    }

    /// In words, whose weights those before `round` are.
    ///
    /// # Errors
    /// If there is no such run.
    pub fn describe(&self, label: Option<&str>, round: Option<usize>) -> Result<String, LandscapeError> {
        Ok(match round {
            None => self.name.clone(),
            Some(1) => format!("{}, initial weights", self.name),
            Some(round) => format!("{}, {}, weights before round {round}", self.name, self.run(label)?.label),
        })
    }

    /// The states before the updates of the wanted rounds; the round after the last has the final weights. Rounds that
    /// the run does not have are left out.
    ///
    /// # Errors
    /// If the run must be trained again and cannot be, or if told to stop.
    pub fn states(
        &self,
        run: &SubjectRun,
        wanted: &BTreeSet<usize>,
        stop: &AtomicBool,
    ) -> Result<BTreeMap<usize, State>, LandscapeError> {
        match &run.origin {
            Origin::Trace(trace) => {
                let mut reader = trace.states.reader();
                let mut found = BTreeMap::new();
                for round in wanted {
                    // Of a sample of the rounds, those that are there.
                    let Ok(index) = trace.numbers.binary_search(round) else { continue };
                    let weights = reader.get(index).map_err(StudyError::from)?.to_vec();
                    let rows = trace.batches.iter().nth(index).unwrap_or_default().to_vec();
                    found.insert(*round, State { weights, rows });
                }
                Ok(found)
            }
            Origin::Training(training) => {
                let (experiment, config) = &**training;
                match experiment.training.precision {
                    Precision::F32 => self.retrain::<f32>(experiment, config, wanted, stop),
                    Precision::F64 => self.retrain::<f64>(experiment, config, wanted, stop),
                }
            }
        }
    }
}

/// Keeps the states of some rounds while training goes by.
struct Capture<'a> {
    wanted: &'a BTreeSet<usize>,
    found: BTreeMap<usize, State>,
}

impl<T: Real> Observer<T> for Capture<'_> {
    fn observe(&mut self, round: &Round<T>) {
        if self.wanted.contains(&round.number) {
            self.found.insert(round.number, State { weights: convert(round.weights), rows: round.rows.to_vec() });
        }
    }

    fn finish(&mut self, final_weights: &[T], rounds: usize) {
        if self.wanted.contains(&(rounds + 1)) && final_weights.iter().all(|w| w.is_finite()) {
            self.found.insert(rounds + 1, State { weights: convert(final_weights), rows: Vec::new() });
        }
    }
}

impl Subject {
    /// The states of the wanted rounds of an experiment, which is trained again as far as the last of them.
    fn retrain<T: Real>(
        &self,
        experiment: &Experiment,
        config: &OptimizerConfig,
        wanted: &BTreeSet<usize>,
        stop: &AtomicBool,
    ) -> Result<BTreeMap<usize, State>, LandscapeError> {
        // The data came from `f32`, so that nothing is lost.
        let inputs: Vec<T> = convert(&self.inputs);
        let examples = examples_of(experiment.training.target, &inputs, self.network.inputs(), &self.labels);
        let mut run = PreparedRun::new(experiment, config, &self.network, examples, experiment.seed)?;
        let last = wanted.iter().next_back().copied().unwrap_or(1);
        let mut capture = Capture { wanted, found: BTreeMap::new() };
        let each_round = |number: usize, _: usize, _: f64| {
            let ended = number >= last || stop.load(Ordering::Relaxed);
            if ended { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        run.train(&mut [&mut capture], each_round, |_, _| ControlFlow::Continue(()));
        if stop.load(Ordering::Relaxed) { Err(LandscapeError::Stopped) } else { Ok(capture.found) }
    }
}
