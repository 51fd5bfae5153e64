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
        let mut ended = Ended::of(self.ending.as_ref());
        store.part("ending", |store| ended.persist(store))?;
        self.ending = ended.ending();
        Ok(())
    }
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

/// Whether and why training ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Why {
    /// It has not, or was stopped and will go on.
    #[default]
    NotYet,
    Complete,
    Reached,
    Diverged,
}

impl Choice for Why {
    const ALL: &'static [Self] = &[Why::NotYet, Why::Complete, Why::Reached, Why::Diverged];
}

impl Choice for Quantity {
    const ALL: &'static [Self] = &[Quantity::Weights, Quantity::Activations, Quantity::Loss, Quantity::Gradient];
}

/// How training ended, as checkpoints have it.
#[derive(Clone, Copy, Debug, Default)]
struct Ended {
    why: Why,
    /// After which the goal was reached.
    epoch: Option<usize>,
    /// In which it diverged, with what was not finite first.
    round: Option<usize>,
    quantity: Option<Quantity>,
    layer: Option<usize>,
}

impl Ended {
    fn of(ending: Option<&Ending>) -> Self {
        match ending {
            None | Some(Ending::Stopped { .. }) => Ended::default(),
            Some(Ending::Complete) => Ended { why: Why::Complete, ..Ended::default() },
            Some(Ending::Reached { epoch }) => Ended { why: Why::Reached, epoch: Some(*epoch), ..Ended::default() },
            Some(Ending::Diverged(NotFinite { round, quantity, layer })) => {
                let (round, quantity, layer) = (Some(*round), Some(*quantity), *layer);
                Ended { why: Why::Diverged, epoch: None, round, quantity, layer }
            }
        }
    }

    /// `None` while training goes on, and where a part is missing.
    fn ending(self) -> Option<Ending> {
        match self.why {
            Why::NotYet => None,
            Why::Complete => Some(Ending::Complete),
            Why::Reached => self.epoch.map(|epoch| Ending::Reached { epoch }),
            Why::Diverged => {
                let (round, quantity) = self.round.zip(self.quantity)?;
                Some(Ending::Diverged(NotFinite { round, quantity, layer: self.layer }))
            }
        }
    }
}

impl Persist for Ended {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.value("why", &mut self.why)?;
        store.value("epoch", &mut self.epoch)?;
        store.value("round", &mut self.round)?;
        store.value("quantity", &mut self.quantity)?;
        store.value("layer", &mut self.layer)
    }
}

impl<T: Real> State<T> {
    /// Rounds that were trained.
    pub fn done(&self) -> usize {
        self.log.losses.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Identity, load, save};

    #[test]
    fn a_log_comes_back_with_every_ending() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let diverged = |layer| Ending::Diverged(NotFinite { round: 7, quantity: Quantity::Gradient, layer });
        let endings = [
            None,
            Some(Ending::Complete),
            Some(Ending::Reached { epoch: 3 }),
            Some(diverged(None)),
            Some(diverged(Some(2))),
        ];
        for ending in endings {
            let epochs = vec![
                EpochRow {
                    epoch: 1,
                    learning_rate: 0.1,
                    train_loss: 0.5,
                    test_accuracy: Some(0.9),
                    ..EpochRow::default()
                },
                EpochRow { epoch: 2, test_loss: f64::NAN, ..EpochRow::default() },
            ];
            let validation = vec![ValidationRow { epoch: 1, validation_loss: 0.25, validation_accuracy: None }];
            let mut log = Log { losses: vec![0.5, 0.25], epochs, validation, ending, ..Log::default() };
            save(&path, &Identity::new(), &mut log).unwrap();
            let mut found = Log::default();
            assert!(load(&path, &Identity::new(), &mut found).unwrap());
            assert_eq!((&found.losses, &found.validation, &found.ending), (&log.losses, &log.validation, &log.ending));
            assert_eq!((&found.epochs[0], found.epochs.len()), (&log.epochs[0], 2));
            assert!(found.epochs[1].test_loss.is_nan() && found.epochs[1].train_accuracy.is_none());
        }
    }
}
