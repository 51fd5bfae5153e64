//! Keeps the rounds of training that layer and network scale work on.

use crate::{
    checkpoint::{Persist, Store, StoreError},
    data::RoundRows,
    num::Real,
    train::{Observer, Round},
};

/// Keeps the weights and minibatches of chosen rounds during training.
#[derive(Clone, Debug)]
pub struct WindowRecorder<T> {
    /// Numbers of the rounds to keep, increasing.
    pub chosen: Vec<usize>,
    /// The weights of those that have gone by.
    pub states: Vec<Vec<T>>,
    /// Their minibatches.
    pub rows: RoundRows,
    /// Their losses.
    pub losses: Vec<f64>,
}

impl<T> WindowRecorder<T> {
    /// Keeps the rounds with these numbers, which must begin with 1 and increase.
    pub fn new(chosen: Vec<usize>) -> Self {
        Self { chosen, states: Vec::new(), rows: RoundRows::new(), losses: Vec::new() }
    }
}

impl<T: Real> Observer<T> for WindowRecorder<T> {
    fn observe(&mut self, round: &Round<T>) {
        if self.chosen.get(self.states.len()) == Some(&round.number) {
            self.states.push(round.weights.to_vec());
            self.rows.push(round.rows);
            self.losses.push(round.loss);
        }
    }
}

impl<T: Real> Persist for WindowRecorder<T> {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        let mut width = self.states.first().map_or(0, Vec::len);
        store.count("width", &mut width)?;
        let (mut rows, mut sizes) = (self.rows.rows().to_vec(), self.rows.sizes().collect());
        store.list("rows", &mut rows)?;
        store.counts("sizes", &mut sizes)?;
        self.rows =
            RoundRows::of_sizes(rows, sizes).map_err(|_| store.malformed("rows", "do not fit their minibatches"))?;
        store.list("losses", &mut self.losses)?;
        if width == 0 {
            self.states.clear();
        } else {
            store.rows("states", &mut self.states, width)?;
        }
        let rounds = self.states.len();
        if self.losses.len() != rounds || self.rows.len() != rounds || rounds > self.chosen.len() {
            return Err(store.malformed("states", format!("{rounds} states do not fit the losses and minibatches")));
        }
        Ok(())
    }
}
