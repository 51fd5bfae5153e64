//! Keeps the rounds of training that layer and network scale work on.

use crate::{
    checkpoint::{Persist, Store, StoreError},
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
    /// Their minibatches, `[rounds * batch]`.
    pub rows: Vec<u32>,
    /// Their losses.
    pub losses: Vec<f64>,
}

impl<T> WindowRecorder<T> {
    /// Keeps the rounds with these numbers, which must begin with 1 and increase.
    pub fn new(chosen: Vec<usize>) -> Self {
        Self { chosen, states: Vec::new(), rows: Vec::new(), losses: Vec::new() }
    }
}

impl<T: Real> Observer<T> for WindowRecorder<T> {
    fn observe(&mut self, round: &Round<T>) {
        if self.chosen.get(self.states.len()) == Some(&round.number) {
            self.states.push(round.weights.to_vec());
            self.rows.extend_from_slice(round.rows);
            self.losses.push(round.loss);
        }
    }
}

impl<T: Real> Persist for WindowRecorder<T> {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        let mut width = self.states.first().map_or(0, Vec::len);
        store.count("width", &mut width)?;
        store.list("rows", &mut self.rows)?;
        store.list("losses", &mut self.losses)?;
        if width == 0 {
            self.states.clear();
        } else {
            store.rows("states", &mut self.states, width)?;
        }
        let rounds = self.states.len();
        let fits = self.losses.len() == rounds && rounds <= self.chosen.len();
        if !fits || self.rows.len().checked_rem(rounds).unwrap_or(self.rows.len()) != 0 {
            return Err(store.malformed("states", format!("{rounds} states do not fit the losses and minibatches")));
        }
        Ok(())
    }
}
