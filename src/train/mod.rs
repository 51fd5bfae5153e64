//! Training: rounds, who watches them, and the loop that drives an optimizer.
//!
//! - [`round`]: one round's loss, gradient and linearization, computed from weights and a minibatch
//! - [`train`]: the loop, and [`Trainer`], its single rounds; [`mod@evaluate`]: loss and accuracy of a whole split
//! - [`not_finite`]: where numbers stopped being finite
//! - [`gradients`]: per-example and full-batch gradients, for optimizers that ask for them
//! - [`switching`]: which neurons an update switched, for optimizers that ask for it
//!
//! A trace is replayed through the same [`Round`]s, so everything that watches a training run can watch a trace.

pub mod evaluate;
pub mod gradients;
pub mod not_finite;
pub mod round;
pub mod switching;

pub use evaluate::{Evaluation, evaluate, evaluate_until};
pub use gradients::{FullGradient, sum_of_squared_gradients};
pub use not_finite::{NotFinite, Quantity};
pub use round::{Examples, Part, Round, RoundEngine};
pub use switching::Switching;

use crate::{data::Minibatches, loss::Loss, network::Network, num::Real, optim::Optimizer};
use std::ops::ControlFlow;

/// Something that watches rounds: regret, exploration, a trace, a progress bar.
pub trait Observer<T: Real> {
    /// Sees round `n` before its update: the weights `W^n`, the minibatch, its loss, gradient and tape.
    fn observe(&mut self, round: &Round<T>);

    /// Sees the weights after the last update, once. `rounds` is the number of rounds observed.
    fn finish(&mut self, final_weights: &[T], rounds: usize) {
        let _ = (final_weights, rounds);
    }
}

/// An observer that may be absent.
impl<T: Real, O: Observer<T>> Observer<T> for Option<O> {
    fn observe(&mut self, round: &Round<T>) {
        self.iter_mut().for_each(|observer| observer.observe(round));
    }

    fn finish(&mut self, final_weights: &[T], rounds: usize) {
        self.iter_mut().for_each(|observer| observer.finish(final_weights, rounds));
    }
}

/// Why training ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// All rounds were trained.
    Complete,
    /// The goal was reached at the end of this epoch, earlier than planned.
    Reached { epoch: usize },
    /// Something in a round is not finite. Observers have seen the rounds before it.
    Diverged(NotFinite),
    /// The caller asked to stop after this many rounds.
    Stopped { rounds: usize },
}

/// What [`train`] is told.
pub struct Training<'a, T> {
    pub network: &'a Network,
    pub loss: Loss,
    pub examples: Examples<'a, T>,
    pub minibatches: &'a Minibatches,
    pub epochs: usize,
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Round `number` of `epoch` (both from 1) was shown to the observers, and the weights were updated. `last` says whether it is
    /// the epoch's last one.
    Done { number: usize, epoch: usize, loss: f64, last: bool },
    /// The loss or the gradient of the round is not finite: nobody saw it, nothing changed.
    Diverged(NotFinite),
    /// All rounds were trained before.
    Complete,
}

/// Training, a round at a time: what [`train()`] does in one go, for callers that want to do something between rounds.
///
/// Nothing but weights and optimizer goes from round to round, so training goes on from both behind any round.
pub struct Trainer<'a, T> {
    training: &'a Training<'a, T>,
    engine: RoundEngine<'a, T>,
    full: Option<FullGradient<'a, T>>,
    switching: Switching<'a, T>,
    done: usize,
    /// The order of the rows in the current epoch.
    order: Vec<u32>,
}

impl<'a, T: Real> Trainer<'a, T> {
    /// Goes on behind the first `done` rounds.
    pub fn new(training: &'a Training<'a, T>, done: usize) -> Self {
        let engine = RoundEngine::new(training.network, training.loss, training.minibatches.batch_size());
        let switching = Switching::new(training.network);
        Self { training, engine, full: None, switching, done, order: Vec::new() }
    }

    /// Rounds that are done.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Trains one round.
    pub fn round(
        &mut self,
        optimizer: &mut dyn Optimizer<T>,
        weights: &mut [T],
        observers: &mut [&mut dyn Observer<T>],
    ) -> Step {
        let Training { network, loss, examples, minibatches, epochs } = self.training;
        let (per_epoch, batch) = (minibatches.rounds_per_epoch(), minibatches.batch_size());
        let (epoch, place) = (self.done / per_epoch, self.done % per_epoch);
        if epoch >= *epochs {
            return Step::Complete;
        }
        if place == 0 || self.order.is_empty() {
            self.order = minibatches.epoch(epoch);
        }
        let (engine, number) = (&mut self.engine, self.done + 1);
        let rows = &self.order[place * batch..(place + 1) * batch];
        engine.compute(weights, examples, rows);
        // The loss can be finite while its gradient is not; with observers the sum is needed anyway.
        if !engine.loss().is_finite() || (!observers.is_empty() && !engine.gradient_is_finite()) {
            let (parts, gradient) = (engine.parts(), engine.gradient());
            return Step::Diverged(NotFinite::find(number, network, weights, parts, gradient));
        }
        let round = engine.round(number, epoch + 1, weights, rows);
        observers.iter_mut().for_each(|observer| observer.observe(&round));
        if let Some(squares) = optimizer.squares() {
            sum_of_squared_gradients(network, engine.parts(), squares);
        }
        let watched = optimizer.switching(number).is_some();
        if watched {
            self.switching.before(weights, engine.parts());
        }
        if optimizer.full_batch() {
            let full = self.full.get_or_insert_with(|| FullGradient::new(network, *loss, examples.len()));
            optimizer.step(number, weights, full.compute(weights, examples));
        } else {
            optimizer.step(number, weights, engine.gradient());
        }
        if let Some(switched) = optimizer.switching(number).filter(|_| watched) {
            self.switching.after(weights, engine.parts(), switched);
        }
        self.done = number;
        Step::Done { number, epoch: epoch + 1, loss: engine.loss(), last: place + 1 == per_epoch }
    }
}

/// Trains in place and returns how it ended, and the number of completed rounds.
///
/// `each_round` runs after the update of a round with its number, epoch and loss and may break to stop;
/// `each_epoch` runs after each epoch with the weights and may break because the goal is reached.
pub fn train<T: Real>(
    training: &Training<T>,
    optimizer: &mut dyn Optimizer<T>,
    weights: &mut [T],
    observers: &mut [&mut dyn Observer<T>],
    mut each_round: impl FnMut(usize, usize, f64) -> ControlFlow<()>,
    mut each_epoch: impl FnMut(usize, &[T]) -> ControlFlow<()>,
) -> (Ending, usize) {
    let mut trainer = Trainer::new(training, 0);
    let ending = loop {
        match trainer.round(optimizer, weights, observers) {
            Step::Complete => break Ending::Complete,
            Step::Diverged(what) => break Ending::Diverged(what),
            Step::Done { number, epoch, loss, last } => {
                if each_round(number, epoch, loss).is_break() {
                    break Ending::Stopped { rounds: number };
                }
                if last && each_epoch(epoch, weights).is_break() && epoch < training.epochs {
                    break Ending::Reached { epoch };
                }
            }
        }
    };
    observers.iter_mut().for_each(|observer| observer.finish(weights, trainer.done()));
    (ending, trainer.done())
}
