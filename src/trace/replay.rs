//! Replaying a trace: the same rounds that training would emit.

use super::{error::TraceError, read::Trace, states::StateReader};
use crate::{
    loss::Loss,
    network::Network,
    num::Real,
    train::{Examples, Observer, RoundEngine},
};
use std::ops::ControlFlow;

/// A replay on its way: one round at a time, from any round on.
pub struct Replay<'a, T: Real> {
    trace: &'a Trace<T>,
    examples: &'a Examples<'a, T>,
    engine: RoundEngine<'a, T>,
    states: StateReader<'a, T>,
    /// Datapoints of every round, if they have as many.
    batch: Option<usize>,
    /// Rounds that were seen.
    done: usize,
}

/// A round that was recomputed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replayed {
    pub number: usize,
    pub epoch: usize,
    pub loss: f64,
    /// How far the precision that it was computed in may be off in the loss.
    pub rounding: f64,
}

/// A round whose loss or gradient is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the loss or gradient of round {round} is not finite; cut the trace before that round")]
pub struct NotFinite {
    pub round: usize,
}

/// Why a replay ends early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
    /// A file has changed since it was checked.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

impl<'a, T: Real> Replay<'a, T> {
    /// Goes on after `done` rounds.
    pub fn new(trace: &'a Trace<T>, network: &'a Network, examples: &'a Examples<T>, done: usize) -> Self {
        let engine = RoundEngine::new(network, trace.manifest.loss, trace.batches.largest());
        Self { trace, examples, engine, states: trace.states.reader(), batch: trace.batches.is_uniform(), done }
    }

    /// Recomputes the next round and shows it to the observers; `None` after the last. Rounds that the trace has are numbered from 1,
    /// without gaps; [`Trace::number`] has their numbers in training.
    ///
    /// # Errors
    /// If the loss or gradient is not finite, or the state cannot be read; the observers have not seen that round then.
    pub fn round(&mut self, observers: &mut [&mut dyn Observer<T>]) -> Result<Option<Replayed>, ReplayError> {
        let Self { trace, examples, engine, states, .. } = self;
        let index = self.done;
        if index >= trace.batches.len() {
            return Ok(None);
        }
        let rows = trace.batches.round(index);
        let weights = states.get(index)?;
        engine.compute(weights, examples, rows);
        let loss = engine.loss();
        let number = index + 1;
        if !loss.is_finite() || !engine.gradient_is_finite() {
            return Err(NotFinite { round: number }.into());
        }
        // Minibatches of one size leave out what does not fill the last one of an epoch.
        let epoch = match self.batch {
            Some(batch) => index / (examples.len() / batch).max(1) + 1,
            None => trace.batches.start(index) / examples.len() + 1,
        };
        let round = engine.round(number, epoch, weights, rows);
        observers.iter_mut().for_each(|observer| observer.observe(&round));
        self.done = number;
        let rounding = rounding(engine, trace.manifest.loss, trace.precision().spacings());
        Ok(Some(Replayed { number, epoch, loss, rounding }))
    }

    /// Tells the observers that this was the last round.
    ///
    /// # Errors
    /// If the last state cannot be read.
    pub fn finish(mut self, observers: &mut [&mut dyn Observer<T>]) -> Result<(), TraceError> {
        // The weights after the last update; a trace without them ends one update earlier.
        let updates = self.done.min(self.trace.states.len() - 1);
        let weights = self.states.get(updates)?;
        observers.iter_mut().for_each(|observer| observer.finish(weights, updates));
        Ok(())
    }
}

/// The spacing of single-precision numbers about 1.
const SPACING: f64 = 1.0 / (1 << 23) as f64;
/// How many spacings of the largest output another program's outputs may differ by: sums in another order.
const SPACINGS: f64 = 16.0;

/// How far the loss of a round may be off in a program that computes in single precision, or with so many of its spacings: its derivative times the errors of
/// the outputs, their squares, and for cross-entropy the rounding of the logarithm of a sum near 1.
fn rounding<T: Real>(engine: &RoundEngine<T>, loss: Loss, spacings: f64) -> f64 {
    let spacing = SPACING * spacings;
    let (mut most, mut slope) = (0.0f64, 0.0);
    for part in engine.parts() {
        most = part.tape.output.iter().fold(most, |most, f| most.max(f.to_f64().abs()));
        slope += part.delta(engine.network().output_block()).iter().map(|d| d.to_f64().abs()).sum::<f64>();
    }
    let error = SPACINGS * spacing * most;
    let logarithm = if loss == Loss::CrossEntropy { 4.0 * spacing } else { 0.0 };
    error * slope + error * error + logarithm
}

/// Recomputes every round of the trace and shows it to the observers; returns the number of rounds seen.
///
/// # Errors
/// If a recomputed loss or gradient is not finite, or a state cannot be read.
pub fn replay<T: Real>(
    trace: &Trace<T>,
    network: &Network,
    examples: &Examples<T>,
    observers: &mut [&mut dyn Observer<T>],
    mut each_round: impl FnMut(&Replayed) -> ControlFlow<()>,
) -> Result<usize, ReplayError> {
    let mut replay = Replay::new(trace, network, examples, 0);
    while let Some(round) = replay.round(observers)? {
        if each_round(&round).is_break() {
            break;
        }
    }
    let seen = replay.done;
    replay.finish(observers)?;
    Ok(seen)
}
