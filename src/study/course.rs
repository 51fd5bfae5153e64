//! The course of one optimizer's run: training under observation, checkpoints on the way, analysis, tables.

use super::{
    StudyError,
    analysis::{Analysis, AnalysisSettings},
    environment::peak_memory,
    keeper::Keeper,
    relay::Relay,
    run::{Event, Outcome, Study, TypedSplit, epoch_row, initial_weights, write_analysis, write_json, write_probe},
    tables::{EpochRow, OptimizerSummary, RoundRow, ValidationRow, columns, write_rows},
};
use crate::{
    activation::probe_rows,
    checkpoint::{Identity, Persist, Store, StoreError},
    kernels::Real,
    optim::{Optimizer, OptimizerConfig, Rate},
    taylor::{BoundRates, Found, Work, units::Displacements},
    trace::{TargetKind, TraceWriter},
    train::{Ending, Examples, NotFinite, Observer, Step, Trainer, Training, evaluate_until, train},
};
use serde_json::json;
use std::{
    cell::RefCell,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Instant,
};

/// Inputs and labels that a kept trace carries along, up to this many bytes.
pub(super) const EMBEDDED_DATA_BYTES: usize = 64 << 20;

/// Everything that changes from round to round.
struct State<T: Real> {
    weights: Vec<T>,
    optimizer: Box<dyn Optimizer<T>>,
    analysis: Analysis<T>,
    trace: Option<TraceWriter<T>>,
    log: Log,
}

/// What is written down of the rounds themselves.
#[derive(Default)]
struct Log {
    /// Of each round.
    losses: Vec<f64>,
    epochs: Vec<EpochRow>,
    validation: Vec<ValidationRow>,
    /// How training ended, once it has.
    ending: Option<Ending>,
    /// Seconds of each epoch.
    epoch_seconds: Vec<f64>,
    /// All seconds so far, and those of evaluations.
    seconds: f64,
    evaluation_seconds: f64,
}

impl<T: Real> Persist for State<T> {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.part("log", |store| self.log.persist(store))?;
        store.part("analysis", |store| self.analysis.persist(store))?;
        if self.log.ending.is_some() {
            // Nobody trains any more, and the trace is complete.
            self.trace = None;
            return Ok(());
        }
        store.values("weights", &mut self.weights)?;
        store.part("optimizer", |store| self.optimizer.persist(store))?;
        match &mut self.trace {
            Some(trace) => store.part("trace", |store| trace.persist(store)),
            None => Ok(()),
        }
    }
}

impl Persist for Log {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.list("losses", &mut self.losses)?;
        store.list("epoch_seconds", &mut self.epoch_seconds)?;
        store.number("seconds", &mut self.seconds)?;
        store.number("evaluation_seconds", &mut self.evaluation_seconds)?;
        // An accuracy that does not exist is no number.
        let absent = |value: Option<f64>| value.unwrap_or(f64::NAN);
        let present = |value: f64| (!value.is_nan()).then_some(value);
        let mut epochs: Vec<f64> = self
            .epochs
            .iter()
            .flat_map(|row| {
                let accuracies = [absent(row.train_accuracy), absent(row.test_accuracy)];
                [row.learning_rate, row.train_loss, row.test_loss, accuracies[0], accuracies[1]]
            })
            .collect();
        store.list("epochs", &mut epochs)?;
        let mut validation: Vec<f64> =
            self.validation.iter().flat_map(|row| [row.validation_loss, absent(row.validation_accuracy)]).collect();
        store.list("validation", &mut validation)?;
        let mut ending = match self.ending {
            None | Some(Ending::Stopped { .. }) => [0; 4],
            Some(Ending::Complete) => [1, 0, 0, 0],
            Some(Ending::Reached { epoch }) => [2, epoch as u64, 0, 0],
            Some(Ending::Diverged(what)) => {
                let [round, quantity, layer] = what.to_numbers();
                [3, round, quantity, layer]
            }
        };
        store.values("ending", &mut ending)?;
        if !store.is_reading() {
            return Ok(());
        }
        self.ending = match ending {
            [0, ..] => None,
            [1, ..] => Some(Ending::Complete),
            [2, epoch, ..] => Some(Ending::Reached { epoch: epoch as usize }),
            [3, what @ ..] => NotFinite::from_numbers(what).map(Ending::Diverged),
            _ => return Err(store.malformed("ending", "is none")),
        };
        let rows = epochs.as_chunks().0.iter().enumerate();
        let row = |(at, [learning_rate, train_loss, test_loss, train, test]): (usize, &[f64; 5])| EpochRow {
            epoch: at + 1,
            learning_rate: *learning_rate,
            train_loss: *train_loss,
            test_loss: *test_loss,
            train_accuracy: present(*train),
            test_accuracy: present(*test),
        };
        self.epochs = rows.map(row).collect();
        let rows = validation.as_chunks().0.iter().enumerate();
        let row = |(at, [loss, accuracy]): (usize, &[f64; 2])| ValidationRow {
            epoch: at + 1,
            validation_loss: *loss,
            validation_accuracy: present(*accuracy),
        };
        self.validation = rows.map(row).collect();
        Ok(())
    }
}

impl<T: Real> State<T> {
    fn done(&self) -> usize {
        self.log.losses.len()
    }
}

/// One optimizer of a study.
struct Course<'a, T> {
    study: &'a Study<'a>,
    config: &'a OptimizerConfig,
    label: &'a str,
    folder: PathBuf,
    rate: Rate,
    train: Examples<'a, T>,
    test: Examples<'a, T>,
    validation: Option<Examples<'a, T>>,
}

impl Study<'_> {
    /// Trains and analyses one optimizer, from the state that its folder holds if there is one.
    pub(super) fn optimizer<T: Real>(
        &self,
        config: &OptimizerConfig,
        label: &str,
        events: &mut dyn FnMut(Event),
    ) -> Result<OptimizerSummary, StudyError> {
        let target = self.experiment.training.target;
        let folder = self.out.join(label);
        std::fs::create_dir_all(&folder).map_err(|source| StudyError::Write { path: folder.clone(), source })?;
        let (train, test) = (TypedSplit::<T>::new(&self.dataset.train), TypedSplit::<T>::new(&self.dataset.test));
        let validation = self.validation.map(TypedSplit::<T>::new);
        let course = Course {
            study: self,
            config,
            label,
            folder,
            rate: config.rate(self.planned_rounds()),
            train: train.examples(target),
            test: test.examples(target),
            validation: validation.as_ref().map(|split| split.examples(target)),
        };
        course.run(events)
    }
}

impl<T: Real> Course<'_, T> {
    fn run(&self, events: &mut dyn FnMut(Event)) -> Result<OptimizerSummary, StudyError> {
        let options = self.study.options;
        let planned = self.study.planned_rounds();
        let index = self.study.experiment.labels().iter().position(|label| label == self.label).unwrap_or(0) + 1;
        let count = self.study.experiment.optimizer.len();
        events(Event::Started {
            label: self.label,
            index,
            count,
            learning_rate: Some(self.config.learning_rate),
            rounds: planned,
        });
        let saved = Keeper::open(&self.folder)?;
        // The run goes on as it began.
        let kept_trace = saved.as_ref().map(|saved| saved.identity().get("trace").is_some_and(|kept| kept == "kept"));
        if options.keep_trace && kept_trace == Some(false) {
            return Err(StudyError::NoTrace { path: self.folder.clone() });
        }
        let keep_trace = kept_trace.unwrap_or(options.keep_trace);
        let mut state = self.start(keep_trace, events)?;
        let mut keeper = Keeper::new(&self.folder, self.identity(keep_trace), options.checkpoint);
        if let Some(saved) = saved {
            saved.restore(keeper.identity(), &mut state)?;
            if !state.analysis.draws_from(self.train.len()) || state.done() > planned {
                return Err(saved.malformed("its rounds are not those of this run").into());
            }
            events(Event::Resumed { label: self.label, rounds: state.done() });
        }
        let ending = match state.log.ending.clone() {
            Some(ending) => ending,
            None => self.train(&mut state, &mut keeper, events)?,
        };
        self.analyse(state, &mut keeper, ending, events)
    }

    /// Whose state checkpoints of this course have.
    fn identity(&self, keep_trace: bool) -> Identity {
        [
            ("experiment", self.study.experiment.to_toml()),
            ("optimizer", self.label.to_owned()),
            ("dataset", self.study.data.to_owned()),
            ("trace", if keep_trace { "kept" } else { "not kept" }.to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// The state before the first round.
    fn start(&self, keep_trace: bool, events: &mut dyn FnMut(Event)) -> Result<State<T>, StudyError> {
        let Study { experiment, network, options, minibatches, .. } = *self.study;
        let (planned, per_epoch) = (self.study.planned_rounds(), minibatches.rounds_per_epoch());
        let settings = AnalysisSettings {
            regret: experiment.regret.settings(per_epoch, network.layers()),
            planned_rounds: planned,
            batch: experiment.training.batch_size,
            memory: options.memory,
            every: experiment.exploration.every.rounds(per_epoch).min(planned),
            pool_winners: experiment.exploration.pool_winners,
            rates: BoundRates {
                sgd: self.config.constant_rate_of("sgd"),
                adagrad: self.config.constant_rate_of("adagrad"),
            },
            displacements: self.displacements(events)?,
        };
        let probe = probe_rows(self.train.len(), experiment.exploration.probe);
        write_probe(&self.folder, &probe)?;
        let mut probe_inputs = Vec::new();
        self.train.gather_inputs(&probe, &mut probe_inputs);
        Ok(State {
            weights: initial_weights(experiment, network, experiment.seed)?,
            optimizer: self.config.build_for::<T>(network, planned)?,
            analysis: Analysis::new(network, experiment.training.loss, settings, probe_inputs),
            trace: if keep_trace { Some(self.trace_writer()?) } else { None },
            log: Log::default(),
        })
    }

    /// How far every neuron will go, from training without looking at anything else: a neuron has one ball for all prefixes. `None` where
    /// nothing is solved before the last round. Stopped on the way, it is of no use: then no round is trained either.
    fn displacements(&self, events: &mut dyn FnMut(Event)) -> Result<Option<Vec<f64>>, StudyError> {
        let Study { experiment, network, minibatches, options, .. } = *self.study;
        let training = &experiment.training;
        let per_epoch = minibatches.rounds_per_epoch();
        let regret = experiment.regret.settings(per_epoch, network.layers());
        if !regret.streams(network, training.loss) || regret.prefixes == 1 {
            return Ok(None);
        }
        events(Event::Phase { name: "first pass: how far training goes" });
        let (loss, examples, epochs) = (training.loss, self.train, training.epochs);
        let task = Training { network, loss, examples, minibatches, epochs };
        let planned = self.study.planned_rounds();
        let mut optimizer = self.config.build_for::<T>(network, planned)?;
        let mut weights: Vec<T> = initial_weights(experiment, network, experiment.seed)?;
        let mut displacements = Displacements::new(network);
        let each_round = |number: usize, _: usize, _: f64| {
            events(Event::Progress { done: number as u64, of: planned as u64 });
            if options.stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let each_epoch = |_: usize, _: &[T]| ControlFlow::Continue(());
        train(&task, &mut *optimizer, &mut weights, &mut [&mut displacements], each_round, each_epoch);
        Ok(Some(displacements.into_neurons()))
    }

    fn trace_writer(&self) -> Result<TraceWriter<T>, StudyError> {
        let Study { experiment, network, dataset, .. } = *self.study;
        let (training, path) = (&experiment.training, self.folder.join("trace"));
        let fail = |source| StudyError::Write { path: path.clone(), source };
        let (loss, target, batch) = (training.loss, training.target, training.batch_size);
        let writer = TraceWriter::new(&path, network, loss, target, batch, self.config, dataset).map_err(fail)?;
        let train = &dataset.train;
        if train.inputs.len() * size_of::<f32>() <= EMBEDDED_DATA_BYTES {
            let labels = (target == TargetKind::Label).then_some(&train.labels[..]);
            writer.write_data(&train.inputs, train.features(), labels).map_err(fail)?;
        }
        Ok(writer)
    }

    /// Trains to the end, or until told to stop; then the state is kept.
    fn train(
        &self,
        state: &mut State<T>,
        keeper: &mut Keeper,
        events: &mut dyn FnMut(Event),
    ) -> Result<Ending, StudyError> {
        let Study { experiment, network, minibatches, options, .. } = *self.study;
        let training = &experiment.training;
        let (loss, examples, epochs) = (training.loss, self.train, training.epochs);
        let task = Training { network, loss, examples, minibatches, epochs };
        let planned = self.study.planned_rounds();
        if let Some(trace) = &mut state.trace {
            trace.begin().map_err(|source| self.cannot_write_trace(source))?;
        }
        let mut trainer = Trainer::new(&task, state.done());
        let (before, start) = (state.log.seconds, Instant::now());
        let mut epoch_start = start;
        // Stopped in the first pass, which then does not know how far training goes.
        let stopped = state.done() < planned && options.stop.load(Ordering::SeqCst);
        let mut pending = self.is_to_be_evaluated(state);
        let ending = loop {
            if stopped {
                break Ending::Stopped { rounds: state.done() };
            }
            if std::mem::take(&mut pending) {
                let epoch = state.done() / minibatches.rounds_per_epoch();
                match self.evaluate(state, epoch, events) {
                    Some(true) if epoch < epochs => break Ending::Reached { epoch },
                    Some(_) => {}
                    None => break Ending::Stopped { rounds: state.done() },
                }
            }
            let observers: &mut [&mut dyn Observer<T>] = &mut [&mut state.analysis, &mut state.trace];
            match trainer.round(&mut *state.optimizer, &mut state.weights, observers) {
                Step::Complete => break Ending::Complete,
                Step::Diverged(what) => break Ending::Diverged(what),
                Step::Done { number, epoch, loss, last } => {
                    state.log.losses.push(loss);
                    events(Event::Round { number, loss });
                    let mut unevaluated = false;
                    if last {
                        state.log.epoch_seconds.push(epoch_start.elapsed().as_secs_f64());
                        let reached = self.evaluate(state, epoch, events);
                        epoch_start = Instant::now();
                        if reached == Some(true) && epoch < epochs {
                            break Ending::Reached { epoch };
                        }
                        // Evaluated when the run is resumed.
                        unevaluated = reached.is_none();
                    }
                    state.log.seconds = before + start.elapsed().as_secs_f64();
                    if let Some(source) = state.trace.as_mut().and_then(TraceWriter::failure) {
                        // The disk may well be full; the state before this one is there in any case.
                        let _ = keeper.save(state);
                        return Err(self.cannot_write_trace(source));
                    }
                    if unevaluated || number < planned && options.stop.load(Ordering::SeqCst) {
                        keeper.save(state)?;
                        break Ending::Stopped { rounds: number };
                    }
                    if keeper.is_due(number) {
                        keeper.save(state)?;
                    }
                }
            }
        };
        state.log.seconds = before + start.elapsed().as_secs_f64();
        let (done, weights) = (state.done(), &state.weights);
        state.analysis.finish(weights, done);
        state.trace.finish(weights, done);
        self.write_log(state)?;
        if let Some(trace) = state.trace.take() {
            trace.close().map_err(|source| self.cannot_write_trace(source))?;
        }
        if !matches!(ending, Ending::Stopped { .. }) {
            state.log.ending = Some(ending.clone());
            if keeper.is_worth_it() {
                keeper.save(state)?;
            }
        }
        Ok(ending)
    }

    /// Whether the last epoch is complete but was not evaluated, as the run was stopped meanwhile.
    fn is_to_be_evaluated(&self, state: &State<T>) -> bool {
        let per_epoch = self.study.minibatches.rounds_per_epoch();
        let done = state.done();
        done > 0 && done.is_multiple_of(per_epoch) && state.log.epochs.len() < done / per_epoch
    }

    /// Evaluates all splits after an epoch. Whether the goal of training is reached; nothing if told to stop.
    fn evaluate(&self, state: &mut State<T>, epoch: usize, events: &mut dyn FnMut(Event)) -> Option<bool> {
        let Study { experiment, network, minibatches, options, .. } = *self.study;
        let (training, start) = (&experiment.training, Instant::now());
        let on =
            |examples: &Examples<T>| evaluate_until(network, training.loss, &state.weights, examples, options.stop);
        let rate = self.rate.at(epoch * minibatches.rounds_per_epoch());
        let row = epoch_row(epoch, rate, on(&self.train)?, on(&self.test)?);
        let validation = match &self.validation {
            Some(split) => Some(on(split)?),
            None => None,
        };
        let validation = validation.map(|found| ValidationRow {
            epoch,
            validation_loss: found.loss,
            validation_accuracy: found.accuracy,
        });
        events(Event::Epoch { epoch, train_loss: row.train_loss, test_loss: row.test_loss });
        let goal = training.stop_at_train_accuracy.zip(row.train_accuracy);
        state.log.epochs.push(row);
        state.log.validation.extend(validation);
        state.log.evaluation_seconds += start.elapsed().as_secs_f64();
        Some(goal.is_some_and(|(goal, accuracy)| accuracy >= goal))
    }

    fn cannot_write_trace(&self, source: std::io::Error) -> StudyError {
        StudyError::Write { path: self.folder.join("trace"), source }
    }

    fn round_rows(&self, state: &State<T>) -> Vec<RoundRow> {
        let per_epoch = self.study.minibatches.rounds_per_epoch();
        let row = |(at, loss): (usize, &f64)| RoundRow { round: at + 1, epoch: at / per_epoch + 1, loss: *loss };
        state.log.losses.iter().enumerate().map(row).collect()
    }

    fn write_log(&self, state: &State<T>) -> Result<(), StudyError> {
        write_rows(&self.folder.join("rounds.csv"), columns::ROUNDS, &self.round_rows(state))?;
        write_rows(&self.folder.join("epochs.csv"), columns::EPOCHS, &state.log.epochs)?;
        if self.validation.is_some() {
            write_rows(&self.folder.join("validation.csv"), columns::VALIDATION, &state.log.validation)?;
        }
        Ok(())
    }

    /// Solves what the rounds left to be solved, and writes the tables.
    fn analyse(
        &self,
        state: State<T>,
        keeper: &mut Keeper,
        ending: Ending,
        events: &mut dyn FnMut(Event),
    ) -> Result<OptimizerSummary, StudyError> {
        let (planned, done, stop) = (self.study.planned_rounds(), state.done(), self.study.options.stop);
        let rounds = self.round_rows(&state);
        let State { analysis, log, .. } = state;
        let observed = analysis.clock.total();
        let (found, failure) = (keeper.found(done)?, RefCell::new(None));
        let keep = |found: &mut Found| match keeper.save_found(done, found) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure.replace(Some(error));
                ControlFlow::Break(())
            }
        };
        let relay = Relay::new(&mut *events);
        let tick = |work| relay.tick(work);
        let mut work = Work::until(stop).kept(found, keep).telling(&tick);
        let (tables, clock) = analysis.complete(&self.train, &mut work, |stage| relay.stage(stage));
        let mut found = work.into_found();
        if let Some(error) = failure.into_inner() {
            return Err(error.into());
        }
        if tables.halted && !matches!(ending, Ending::Stopped { .. }) {
            keeper.save_last_found(done, &mut found)?;
        }
        write_analysis(&self.folder, &tables)?;
        let mut phases = serde_json::to_value(clock.phases()).unwrap_or_default();
        phases["training"] = json!((log.seconds - observed - log.evaluation_seconds).max(0.0));
        phases["evaluation"] = json!(log.evaluation_seconds);
        let timing = json!({ "phases": phases, "epochs": log.epoch_seconds, "peak_memory_bytes": peak_memory() });
        write_json(&self.folder.join("timing.json"), &timing)?;

        let (status, message) = match ending {
            Ending::Stopped { rounds } => {
                ("interrupted", Some(format!("stopped after round {rounds} of {planned}; continue with --resume")))
            }
            _ if tables.halted => {
                ("interrupted", Some(format!("stopped in the analysis of {done} rounds; continue with --resume")))
            }
            Ending::Diverged(what) => ("failed", Some(divergence(self.config, what))),
            Ending::Reached { epoch } => {
                let goal = self.study.experiment.training.stop_at_train_accuracy.unwrap_or(1.0);
                ("complete", Some(format!("reached the training accuracy {goal} after epoch {epoch}")))
            }
            Ending::Complete => ("complete", None),
        };
        let per_epoch = self.study.minibatches.rounds_per_epoch();
        let outcome = Outcome {
            name: &self.config.name,
            learning_rate: Some(self.config.learning_rate),
            label: self.label,
            settings: self.config.other_keys(),
            status,
            message,
            per_epoch,
            tables: &tables,
        };
        Ok(outcome.summary(self.study.network, &rounds, log.epochs.last()))
    }
}

/// Removes what was kept of an optimizer on its way, once its results are complete.
pub(super) fn clear(out: &Path, label: &str) -> Result<(), StudyError> {
    let folder = out.join(label);
    Keeper::clear(&folder).map_err(|source| StudyError::Write { path: folder, source })
}

fn divergence(config: &OptimizerConfig, what: NotFinite) -> String {
    let rate = config.learning_rate;
    format!(
        "{what} with learning rate {rate}; everything before it is kept. Try a smaller rate, for example {}",
        rate / 3.0
    )
}
