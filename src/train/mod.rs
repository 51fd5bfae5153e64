//! Training: rounds, who watches them, and the loop that drives an optimizer.
//!
//! - [`round`]: one round's loss, gradient and linearization, computed from weights and a minibatch
//! - [`train`]: the loop; [`mod@evaluate`]: loss and accuracy of a whole split
//! - [`gradients`]: per-example and full-batch gradients, for optimizers that ask for them
//! - [`switching`]: which neurons an update switched, for optimizers that ask for it
//!
//! A trace is replayed through the same [`Round`]s, so everything that watches a training run can watch a trace.

pub mod evaluate;
pub mod gradients;
pub mod round;
pub mod switching;

pub use evaluate::{Evaluation, evaluate};
pub use gradients::{FullGradient, sum_of_squared_gradients};
pub use round::{Examples, Part, Round, RoundEngine};
pub use switching::Switching;

use crate::{data::Minibatches, kernels::Real, loss::Loss, network::Network, optim::Optimizer};
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

/// Why training ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// All rounds were trained.
    Complete,
    /// The goal was reached at the end of this epoch, earlier than planned.
    Reached { epoch: usize },
    /// The loss or the gradient of this round is not finite. Observers have seen the rounds before it.
    Diverged { round: usize },
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
    let mut engine = RoundEngine::new(training.network, training.loss, training.minibatches.batch_size());
    let mut full =
        optimizer.full_batch().then(|| FullGradient::new(training.network, training.loss, training.examples.len()));
    let mut switching = Switching::new(training.network);
    let mut done = 0;
    let mut ending = Ending::Complete;
    'training: for epoch in 0..training.epochs {
        let order = training.minibatches.epoch(epoch);
        for rows in order.chunks_exact(training.minibatches.batch_size()) {
            let number = done + 1;
            engine.compute(weights, &training.examples, rows);
            let loss = engine.loss();
            // The loss can be finite while its gradient is not; with observers the sum is needed anyway.
            if !loss.is_finite() || (!observers.is_empty() && !engine.gradient_is_finite()) {
                ending = Ending::Diverged { round: number };
                break 'training;
            }
            let round = engine.round(number, epoch + 1, weights, rows);
            observers.iter_mut().for_each(|observer| observer.observe(&round));
            if let Some(squares) = optimizer.squares() {
                sum_of_squared_gradients(training.network, engine.parts(), squares);
            }
            let watched = optimizer.switching(number).is_some();
            if watched {
                switching.before(weights, engine.parts());
            }
            match &mut full {
                None => optimizer.step(number, weights, engine.gradient()),
                Some(full) => {
                    let gradient = full.compute(weights, &training.examples);
                    optimizer.step(number, weights, gradient);
                }
            }
            if let Some(switched) = optimizer.switching(number).filter(|_| watched) {
                switching.after(weights, engine.parts(), switched);
            }
            done = number;
            if each_round(number, epoch + 1, loss).is_break() {
                ending = Ending::Stopped { rounds: done };
                break 'training;
            }
        }
        if each_epoch(epoch + 1, weights).is_break() && epoch + 1 < training.epochs {
            ending = Ending::Reached { epoch: epoch + 1 };
            break;
        }
    }
    observers.iter_mut().for_each(|observer| observer.finish(weights, done));
    (ending, done)
}
