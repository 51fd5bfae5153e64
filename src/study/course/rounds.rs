//! Training under observation, with checkpoints and evaluations on the way.

use super::Course;
use crate::{
    num::Real,
    study::{
        context::Context,
        error::StudyError,
        event::Event,
        further,
        keeper::Keeper,
        state::State,
        tables::{EpochRow, ValidationRow, columns, write_rows},
        write,
    },
    trace::TraceWriter,
    train::{Ending, Examples, Observer, Step, Trainer, Training, evaluate_until},
};
use std::{sync::atomic::Ordering, time::Instant};

/// The time of a run that goes on now.
struct Watch {
    /// Seconds that it took earlier.
    before: f64,
    start: Instant,
    /// When the current epoch began, or this process's part of it.
    epoch: Instant,
}

impl Watch {
    fn seconds(&self) -> f64 {
        self.before + self.start.elapsed().as_secs_f64()
    }
}

/// A round that was trained.
struct Done {
    number: usize,
    epoch: usize,
    loss: f64,
    /// Whether it is the last of its epoch.
    last: bool,
}

impl<T: Real> Course<'_, T> {
    /// Trains to the end, or until told to stop; then the state is kept.
    pub(super) fn train(
        &self,
        state: &mut State<T>,
        keeper: &mut Keeper,
        events: &mut dyn FnMut(Event),
    ) -> Result<Ending, StudyError> {
        if let Some(trace) = &mut state.trace {
            trace.begin().map_err(|source| self.cannot_write_trace(source))?;
        }
        let now = Instant::now();
        let mut watch = Watch { before: state.log.seconds, start: now, epoch: now };
        let ending = self.rounds(state, keeper, &mut watch, events)?;
        state.log.seconds = watch.seconds();
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
            let Context { task, .. } = *self.context;
            let (experiment, per_epoch) = (task.experiment, self.context.per_epoch());
            let further = || further::obstacle(experiment, self.config, &task.network, per_epoch).is_none();
            if ending == Ending::Complete && further() {
                further::keep(state, &self.folder, &self.identity(&experiment.comparable(), false))?;
            }
            if keeper.is_worth_it() {
                keeper.save(state)?;
            }
        }
        Ok(ending)
    }

    fn rounds(
        &self,
        state: &mut State<T>,
        keeper: &mut Keeper,
        watch: &mut Watch,
        events: &mut dyn FnMut(Event),
    ) -> Result<Ending, StudyError> {
        let Context { task, minibatches, options, .. } = self.context;
        let training = &task.experiment.training;
        let (loss, examples, epochs) = (training.loss, self.data.train(), training.epochs);
        let training = Training { network: &task.network, loss, examples, minibatches, epochs };
        // Stopped in the first pass, which then does not know how far training goes.
        if state.done() < self.context.planned_rounds() && options.stop.load(Ordering::SeqCst) {
            return Ok(Ending::Stopped { rounds: state.done() });
        }
        if self.is_to_be_evaluated(state) {
            let epoch = state.done() / minibatches.rounds_per_epoch();
            match self.evaluate(state, epoch, events) {
                Some(true) if epoch < epochs => return Ok(Ending::Reached { epoch }),
                Some(_) => {}
                None => return Ok(Ending::Stopped { rounds: state.done() }),
            }
        }
        let mut trainer = Trainer::new(&training, state.done());
        loop {
            let observers: &mut [&mut dyn Observer<T>] = &mut [&mut state.analysis, &mut state.trace];
            match trainer.round(&mut *state.optimizer, &mut state.weights, observers) {
                Step::Complete => return Ok(Ending::Complete),
                Step::Diverged(what) => return Ok(Ending::Diverged(what)),
                Step::Done { number, epoch, loss, last } => {
                    let done = Done { number, epoch, loss, last };
                    if let Some(ending) = self.after_round(&done, state, keeper, watch, events)? {
                        return Ok(ending);
                    }
                }
            }
        }
    }

    /// Notes a round, evaluates after the last one of an epoch, and keeps the state if it is time. Why training ends, if it does.
    fn after_round(
        &self,
        round: &Done,
        state: &mut State<T>,
        keeper: &mut Keeper,
        watch: &mut Watch,
        events: &mut dyn FnMut(Event),
    ) -> Result<Option<Ending>, StudyError> {
        let Done { number, epoch, loss, last } = *round;
        let options = self.context.options;
        state.log.losses.push(loss);
        events(Event::Round { number, loss });
        let mut reached = Some(false);
        if last {
            state.log.epoch_seconds.push(watch.epoch.elapsed().as_secs_f64());
            // If told to stop meanwhile, it is evaluated when the run is resumed.
            reached = self.evaluate(state, epoch, events);
            watch.epoch = Instant::now();
        }
        if reached == Some(true) && epoch < self.context.task.experiment.training.epochs {
            return Ok(Some(Ending::Reached { epoch }));
        }
        state.log.seconds = watch.seconds();
        if let Some(source) = state.trace.as_mut().and_then(TraceWriter::failure) {
            // The disk may well be full; the state before this one is there in any case.
            let _ = keeper.save(state);
            return Err(self.cannot_write_trace(source));
        }
        let stopped = number < self.context.planned_rounds() && options.stop.load(Ordering::SeqCst);
        if reached.is_none() || stopped {
            keeper.save(state)?;
            return Ok(Some(Ending::Stopped { rounds: number }));
        }
        if keeper.is_due(number) {
            keeper.save(state)?;
        }
        Ok(None)
    }

    /// Whether the last epoch is complete but was not evaluated, as the run was stopped meanwhile.
    fn is_to_be_evaluated(&self, state: &State<T>) -> bool {
        let (per_epoch, done) = (self.context.per_epoch(), state.done());
        done > 0 && done.is_multiple_of(per_epoch) && state.log.epochs.len() < done / per_epoch
    }

    /// Evaluates all splits after an epoch. Whether the goal of training is reached; `None` if told to stop.
    fn evaluate(&self, state: &mut State<T>, epoch: usize, events: &mut dyn FnMut(Event)) -> Option<bool> {
        let Context { task, options, .. } = *self.context;
        let (training, start) = (&task.experiment.training, Instant::now());
        let on = |examples: &Examples<T>| {
            evaluate_until(&task.network, training.loss, &state.weights, examples, options.stop)
        };
        let (train, test) = (on(&self.data.train())?, on(&self.data.test())?);
        let validation = match &self.data.validation() {
            Some(split) => Some(on(split)?),
            None => None,
        };
        let row = EpochRow {
            epoch,
            learning_rate: self.rate.at(epoch * self.context.per_epoch()),
            train_loss: train.loss,
            test_loss: test.loss,
            train_accuracy: train.accuracy,
            test_accuracy: test.accuracy,
        };
        events(Event::Epoch { epoch, train_loss: row.train_loss, test_loss: row.test_loss });
        let goal = training.stop_at_train_accuracy.zip(row.train_accuracy);
        state.log.epochs.push(row);
        state.log.validation.extend(validation.map(|found| ValidationRow {
            epoch,
            validation_loss: found.loss,
            validation_accuracy: found.accuracy,
        }));
        state.log.evaluation_seconds += start.elapsed().as_secs_f64();
        Some(goal.is_some_and(|(goal, accuracy)| accuracy >= goal))
    }

    fn write_log(&self, state: &State<T>) -> Result<(), StudyError> {
        write::rounds(&self.folder, &state.log.losses, self.context.per_epoch())?;
        write_rows(&self.folder.join("epochs.csv"), columns::EPOCHS, &state.log.epochs)?;
        if self.data.validation().is_some() {
            write_rows(&self.folder.join("validation.csv"), columns::VALIDATION, &state.log.validation)?;
        }
        Ok(())
    }
}
