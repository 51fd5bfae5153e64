//! Everything that changes from round to round of a run, as checkpoints have it.

use super::{
    analysis::Analysis,
    tables::{EpochRow, ValidationRow},
};
use crate::{
    checkpoint::{Choice, Persist, Record, Store, StoreError},
    num::Real,
    optim::Optimizer,
    trace::TraceWriter,
    train::{Ending, NotFinite, Quantity},
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
        store.record_list("epochs", &mut self.epochs, EpochRow::default)?;
        store.record_list("validation", &mut self.validation, ValidationRow::default)?;
        store.part("ending", |store| persist_ending(&mut self.ending, store))
    }
}

/// The kinds of [`Ending`] after which nobody trains any more.
#[derive(Clone, Copy, PartialEq)]
enum Ended {
    Complete,
    Reached,
    Diverged,
}

impl Choice for Ended {
    const ALL: &'static [Self] = &[Self::Complete, Self::Reached, Self::Diverged];
}

fn persist_ending(ending: &mut Option<Ending>, store: &mut Store) -> Result<(), StoreError> {
    let mut kind = match ending {
        None | Some(Ending::Stopped { .. }) => None,
        Some(Ending::Complete) => Some(Ended::Complete),
        Some(Ending::Reached { .. }) => Some(Ended::Reached),
        Some(Ending::Diverged(_)) => Some(Ended::Diverged),
    };
    store.value("kind", &mut kind)?;
    let Some(kind) = kind else {
        if store.is_reading() {
            *ending = None;
        }
        return Ok(());
    };
    let found = match kind {
        Ended::Complete => Ending::Complete,
        Ended::Reached => {
            let mut epoch = if let Some(Ending::Reached { epoch }) = ending { *epoch } else { 0 };
            store.count("epoch", &mut epoch)?;
            Ending::Reached { epoch }
        }
        Ended::Diverged => {
            let blank = NotFinite { round: 0, quantity: Quantity::Loss, layer: None };
            let mut what = if let Some(Ending::Diverged(what)) = ending { *what } else { blank };
            what.persist(store)?;
            Ending::Diverged(what)
        }
    };
    *ending = Some(found);
    Ok(())
}

impl Record for EpochRow {
    fn persist(rows: &mut [Self], store: &mut Store) -> Result<(), StoreError> {
        store.column("epoch", rows, |row| &mut row.epoch)?;
        store.column("learning_rate", rows, |row| &mut row.learning_rate)?;
        store.column("train_loss", rows, |row| &mut row.train_loss)?;
        store.column("test_loss", rows, |row| &mut row.test_loss)?;
        store.column("train_accuracy", rows, |row| &mut row.train_accuracy)?;
        store.column("test_accuracy", rows, |row| &mut row.test_accuracy)
    }
}

impl Record for ValidationRow {
    fn persist(rows: &mut [Self], store: &mut Store) -> Result<(), StoreError> {
        store.column("epoch", rows, |row| &mut row.epoch)?;
        store.column("validation_loss", rows, |row| &mut row.validation_loss)?;
        store.column("validation_accuracy", rows, |row| &mut row.validation_accuracy)
    }
}

impl<T: Real> State<T> {
    /// Rounds that were trained.
    pub fn done(&self) -> usize {
        self.log.losses.len()
    }
}
