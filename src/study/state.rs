//! Everything that changes from round to round of a run, as checkpoints have it.

use super::{
    analysis::Analysis,
    tables::{EpochRow, ValidationRow},
};
use crate::{
    checkpoint::{Persist, Store, StoreError},
    kernels::Real,
    optim::Optimizer,
    trace::TraceWriter,
    train::{Ending, NotFinite},
};

/// Everything that changes from round to round.
pub(super) struct State<T: Real> {
    pub weights: Vec<T>,
    pub optimizer: Box<dyn Optimizer<T>>,
    pub analysis: Analysis<T>,
    pub trace: Option<TraceWriter<T>>,
    pub log: Log,
}

/// What is written down of the rounds themselves.
#[derive(Default)]
pub(super) struct Log {
    /// Of each round.
    pub losses: Vec<f64>,
    pub epochs: Vec<EpochRow>,
    pub validation: Vec<ValidationRow>,
    /// How training ended, once it has.
    pub ending: Option<Ending>,
    /// Seconds of each epoch.
    pub epoch_seconds: Vec<f64>,
    /// All seconds so far, and those of evaluations.
    pub seconds: f64,
    pub evaluation_seconds: f64,
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
        store.list("epoch_seconds", &mut self.epoch_seconds)?;
        store.number("seconds", &mut self.seconds)?;
        store.number("evaluation_seconds", &mut self.evaluation_seconds)?;
        self.persist_results(store)
    }
}

impl Log {
    /// What does not depend on how fast the machine was.
    pub fn persist_results(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.list("losses", &mut self.losses)?;
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
    /// Rounds that were trained.
    pub fn done(&self) -> usize {
        self.log.losses.len()
    }
}
