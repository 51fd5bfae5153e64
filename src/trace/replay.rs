//! Replaying a trace: the same rounds that training would emit.

use super::read::{Trace, TraceError};
use crate::{
    kernels::Real,
    network::Network,
    train::{Examples, Observer, RoundEngine},
};
use std::ops::ControlFlow;

/// Relative difference up to which a recomputed loss agrees with a recorded one.
const LOSS_TOLERANCE: f64 = 1e-3;

/// A replay on its way: one round at a time, from any round on.
pub struct Replay<'a, T: Real> {
    trace: &'a Trace<T>,
    examples: &'a Examples<'a, T>,
    engine: RoundEngine<'a, T>,
    /// Rounds that were seen.
    done: usize,
}

/// A round that was recomputed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replayed {
    pub number: usize,
    pub epoch: usize,
    pub loss: f64,
}

impl<'a, T: Real> Replay<'a, T> {
    /// Goes on after `done` rounds.
    pub fn new(trace: &'a Trace<T>, network: &'a Network, examples: &'a Examples<T>, done: usize) -> Self {
        let engine = RoundEngine::new(network, trace.manifest.loss, trace.manifest.batch_size);
        Self { trace, examples, engine, done }
    }

    /// Recomputes the next round and shows it to the observers; `None` after the last.
    ///
    /// # Errors
    /// If the loss or gradient is not finite, or the loss differs from the recorded one where the trace has them.
    pub fn round(&mut self, observers: &mut [&mut dyn Observer<T>]) -> Result<Option<Replayed>, TraceError> {
        let Self { trace, examples, engine, .. } = self;
        let (index, batch) = (self.done, trace.manifest.batch_size);
        let Some(rows) = trace.batches.chunks_exact(batch).nth(index) else { return Ok(None) };
        let weights = &trace.states[index];
        engine.compute(weights, examples, rows);
        let loss = engine.loss();
        let number = index + 1;
        if !loss.is_finite() || !engine.gradient_is_finite() {
            return Err(TraceError::NotFinite { round: number });
        }
        if let Some(recorded) = trace.losses.as_ref().map(|losses| losses[index]) {
            let agrees = (recorded - loss).abs() <= LOSS_TOLERANCE * recorded.abs().max(1e-6);
            if !agrees {
                return Err(TraceError::Loss { round: number, recorded, recomputed: loss });
            }
        }
        let epoch = index / (examples.len() / batch).max(1) + 1;
        let round = engine.round(number, epoch, weights, rows);
        observers.iter_mut().for_each(|observer| observer.observe(&round));
        self.done = number;
        Ok(Some(Replayed { number, epoch, loss }))
    }

    /// Tells the observers that this was the last round.
    pub fn finish(self, observers: &mut [&mut dyn Observer<T>]) {
        // The weights after the last update; a trace without them ends one update earlier.
        let updates = self.done.min(self.trace.states.len() - 1);
        observers.iter_mut().for_each(|observer| observer.finish(&self.trace.states[updates], updates));
    }
}

/// Recomputes every round of the trace and shows it to the observers; returns the number of rounds seen.
///
/// # Errors
/// If a recomputed loss is not finite, or differs from the recorded one where the trace has them.
pub fn replay<T: Real>(
    trace: &Trace<T>,
    network: &Network,
    examples: &Examples<T>,
    observers: &mut [&mut dyn Observer<T>],
    mut each_round: impl FnMut(usize, usize, f64) -> ControlFlow<()>,
) -> Result<usize, TraceError> {
    let mut replay = Replay::new(trace, network, examples, 0);
    while let Some(Replayed { number, epoch, loss }) = replay.round(observers)? {
        if each_round(number, epoch, loss).is_break() {
            break;
        }
    }
    let seen = replay.done;
    replay.finish(observers);
    Ok(seen)
}
