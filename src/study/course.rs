//! The course of one optimizer's run: training under observation, checkpoints on the way, analysis, tables.

use super::{
    StudyError,
    analysis::{Analysis, AnalysisSettings},
    environment::peak_memory,
    further::{self, Earlier},
    keeper::Keeper,
    numbers::number,
    relay::Relay,
    run::{Event, Outcome, Study, TypedSplit, epoch_row, initial_weights, write_analysis, write_json, write_probe},
    state::{Log, State},
    tables::{EpochRow, OptimizerSummary, RoundRow, ValidationRow, columns, write_rows},
    trial::WORSE,
};
use crate::{
    activation::probe_rows,
    checkpoint::Identity,
    kernels::Real,
    optim::{OptimizerConfig, Rate},
    taylor::{BoundRates, RegretSettings, Work, units::Displacements},
    text::nearest,
    trace::{TargetKind, TraceWriter},
    train::{Ending, Examples, NotFinite, Observer, Step, Trainer, Training, evaluate_until, train},
};
use serde_json::json;
use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Instant,
};

/// Inputs and labels that a kept trace carries along, up to this many bytes.
pub(super) const EMBEDDED_DATA_BYTES: usize = 64 << 20;

/// One optimizer of a study.
struct Course<'a, T> {
    study: &'a Study<'a>,
    config: &'a OptimizerConfig,
    label: &'a str,
    /// Its place in the experiment.
    index: usize,
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
        index: usize,
        label: &str,
        events: &mut dyn FnMut(Event),
    ) -> Result<OptimizerSummary, StudyError> {
        let config = &self.experiment.optimizer[index];
        let target = self.experiment.training.target;
        let folder = self.out.join(label);
        std::fs::create_dir_all(&folder).map_err(|source| StudyError::Write { path: folder.clone(), source })?;
        let (train, test) = (TypedSplit::<T>::new(&self.dataset.train), TypedSplit::<T>::new(&self.dataset.test));
        let validation = self.validation.map(TypedSplit::<T>::new);
        let course = Course {
            study: self,
            config,
            label,
            index,
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
        let index = self.index + 1;
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
        let earlier = self.earlier(keep_trace)?;
        if let (Err(reason), true) = (&earlier, saved.is_none()) {
            let text = format!("{}: trained again from the first round, as {reason}", self.label);
            events(Event::Note { text: &text });
        }
        let earlier = earlier.ok().flatten();
        let mut state = self.start(keep_trace, earlier.is_some(), events)?;
        let mut identity = self.identity(&self.study.experiment.comparable(), keep_trace);
        if let Some(earlier) = &earlier {
            identity.insert("number of rounds before".into(), earlier.rounds().to_string());
        }
        let mut keeper = Keeper::new(&self.folder, identity, options.checkpoint);
        if let Some(saved) = saved {
            saved.restore(keeper.identity(), &mut state)?;
            if !state.analysis.draws_from(self.train.len()) || state.done() > planned {
                return Err(saved.malformed("its rounds are not those of this run").into());
            }
            events(Event::Resumed { label: self.label, rounds: state.done() });
        } else if let (Some(earlier), Some(before)) = (&earlier, self.study.before) {
            earlier.restore(&self.identity(&before.experiment().comparable(), false), &mut state)?;
            events(Event::Resumed { label: self.label, rounds: state.done() });
        }
        let ending = match state.log.ending.clone() {
            Some(ending) => ending,
            None => self.train(&mut state, &mut keeper, events)?,
        };
        self.analyse(state, &mut keeper, earlier.as_ref(), ending, events)
    }

    /// The result of a shorter run that this course goes on from, or why it must begin anew; `None` if there never was one.
    fn earlier(&self, keep_trace: bool) -> Result<Result<Option<Earlier>, &'static str>, StudyError> {
        let Study { experiment, network, minibatches, .. } = *self.study;
        let Some(before) = self.study.before else { return Ok(Ok(None)) };
        let Some((folder, summary)) = before.result(experiment, self.index) else { return Ok(Ok(None)) };
        if !before.is_only_shorter() {
            return Ok(Err("its rounds were not kept"));
        }
        if keep_trace {
            return Ok(Err("its trace must have all rounds"));
        }
        let per_epoch = minibatches.rounds_per_epoch();
        if let Some(reason) = further::obstacle(before.experiment(), self.config, network, per_epoch) {
            return Ok(Err(reason));
        }
        Ok(Earlier::open(&folder, summary)?.map(Some).ok_or("its last state was not kept"))
    }

    /// Whose state checkpoints of this course in an experiment have.
    fn identity(&self, experiment: &toml::Table, keep_trace: bool) -> Identity {
        let inputs = self.study.inputs;
        [
            ("experiment", experiment.to_string()),
            ("optimizer", toml::to_string(self.config).unwrap_or_default()),
            ("dataset", inputs.data.clone()),
            ("file of initial weights", inputs.weights.clone().unwrap_or_default()),
            ("trace", if keep_trace { "kept" } else { "not kept" }.to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// The state before the first round. Optima are not looked for if they are `known`.
    fn start(&self, keep_trace: bool, known: bool, events: &mut dyn FnMut(Event)) -> Result<State<T>, StudyError> {
        let Study { experiment, network, options, minibatches, .. } = *self.study;
        let (planned, per_epoch) = (self.study.planned_rounds(), minibatches.rounds_per_epoch());
        self.study.inputs.check_weights(experiment, self.study.out)?;
        let regret = experiment.regret.settings(per_epoch, network.layers());
        let settings = AnalysisSettings {
            regret: if known { RegretSettings { scales: Vec::new(), ..regret } } else { regret },
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
            // Before the checkpoint that says that training has ended: a resumed run must not miss it.
            let per_epoch = minibatches.rounds_per_epoch();
            let further = || further::obstacle(experiment, self.config, network, per_epoch).is_none();
            if ending == Ending::Complete && further() {
                further::keep(state, &self.folder, &self.identity(&experiment.comparable(), false))?;
            }
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
        earlier: Option<&Earlier>,
        ending: Ending,
        events: &mut dyn FnMut(Event),
    ) -> Result<OptimizerSummary, StudyError> {
        let (planned, done, stop) = (self.study.planned_rounds(), state.done(), self.study.options.stop);
        let rounds = self.round_rows(&state);
        let State { analysis, log, .. } = state;
        let observed = analysis.clock.total();
        let relay = Relay::new(&mut *events);
        let search = |work: &mut Work| analysis.complete(&self.train, work, |stage| relay.stage(stage));
        let ((mut tables, clock), mut found) = keeper.search(done, stop, &|work| relay.tick(work), search)?;
        if tables.halted && !matches!(ending, Ending::Stopped { .. }) {
            keeper.save_last_found(done, &mut found)?;
        }
        if let Some(earlier) = earlier {
            earlier.complete(&mut tables);
        }
        write_analysis(&self.folder, &tables)?;
        let mut phases = serde_json::to_value(clock.phases()).unwrap_or_default();
        phases["training"] = json!((log.seconds - observed - log.evaluation_seconds).max(0.0));
        phases["evaluation"] = json!(log.evaluation_seconds);
        if let Some(earlier) = earlier {
            earlier.add_seconds(&mut phases);
        }
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
            Ending::Complete => ("complete", blown_up(self.config, &rounds, log.epochs.last())),
        };
        let per_epoch = self.study.minibatches.rounds_per_epoch();
        let outcome = Outcome {
            name: &self.config.name,
            learning_rate: Some(self.config.learning_rate),
            label: self.label,
            settings: self.config.other_keys(),
            checks: Vec::new(),
            warnings: Vec::new(),
            contradicted: false,
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

/// What is said of training that ended far above where it began, if with finite numbers.
fn blown_up(config: &OptimizerConfig, rounds: &[RoundRow], last: Option<&EpochRow>) -> Option<String> {
    let (first, last) = (rounds.first()?.loss, last?.train_loss);
    let rate = config.learning_rate;
    (last > WORSE * first).then(|| {
        format!(
            "diverged: the training loss ended at {}, more than {WORSE} times the {} of the first minibatch, with learning rate \
             {rate}. Try a smaller rate, for example {}",
            number(last),
            number(first),
            smaller(rate)
        )
    })
}

/// A rate to try instead.
fn smaller(rate: f64) -> f64 {
    nearest(rate / 3.0, 1)
}

fn divergence(config: &OptimizerConfig, what: NotFinite) -> String {
    let rate = config.learning_rate;
    format!(
        "{what} with learning rate {rate}; everything before it is kept. Try a smaller rate, for example {}",
        smaller(rate)
    )
}
