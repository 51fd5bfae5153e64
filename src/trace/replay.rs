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
    let batch = trace.manifest.batch_size;
    let mut engine = RoundEngine::new(network, trace.manifest.loss, batch);
    let per_epoch = (examples.len() / batch).max(1);
    let mut seen = 0;
    for (index, rows) in trace.batches.chunks_exact(batch).enumerate() {
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
        let epoch = index / per_epoch + 1;
        let round = engine.round(number, epoch, weights, rows);
        observers.iter_mut().for_each(|observer| observer.observe(&round));
        seen = number;
        if each_round(number, epoch, loss).is_break() {
            break;
        }
    }
    // The weights after the last update; a trace without them ends one update earlier.
    let updates = seen.min(trace.states.len() - 1);
    observers.iter_mut().for_each(|observer| observer.finish(&trace.states[updates], updates));
    Ok(seen)
}
