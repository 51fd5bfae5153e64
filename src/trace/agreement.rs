//! Whether the losses that a trace recorded are those of its weights and minibatches.

use super::{
    causes, error::TraceError, motion::Findings, pair::Pair, read::Trace, recorded::LossPrecision, replay::Replayed,
};
use crate::{network::Network, num::Real};
use std::path::Path;

/// Relative difference up to which a recomputed loss agrees with a recorded one, unless the user allows more.
pub const TOLERANCE: f64 = 1e-3;

/// Where recorded losses end because training diverged: the first round (from 0) from which on none is finite.
pub fn diverged_from(losses: &[f64]) -> Option<usize> {
    let finite = losses.iter().rposition(|loss| loss.is_finite()).map_or(0, |last| last + 1);
    (finite < losses.len()).then_some(finite)
}

/// What a comparison says.
pub struct Agreement {
    pub sentence: String,
    /// Whether that casts doubt on the trace.
    pub doubtful: bool,
}

/// Compares the losses of a trace.
///
/// # Errors
/// If one differs by more than `tolerance` of it and what rounding explains, with the likely cause.
pub fn compare<T: Real>(
    folder: &Path,
    trace: &Trace<T>,
    network: &Network,
    replayed: &[Replayed],
    findings: &Findings,
    tolerance: f64,
) -> Result<Agreement, TraceError> {
    let Some(losses) = &trace.losses else {
        let sentence = "there is no losses.npy, so the recomputed losses were compared with nothing: whether network, data \
                        and minibatches are those of training is not checked";
        return Ok(Agreement { sentence: sentence.to_owned(), doubtful: true });
    };
    let pairs: Vec<Pair> = losses
        .iter()
        .zip(replayed)
        .enumerate()
        .map(|(index, (recorded, round))| Pair {
            index,
            recorded: *recorded,
            recomputed: round.loss,
            rounding: round.rounding,
        })
        .collect();
    let usual = trace.precision().usual();
    let tolerance = tolerance.max(usual);
    let wrong: Vec<usize> = pairs.iter().filter(|pair| pair.excess() > tolerance).map(|pair| pair.index).collect();
    if let Some(first) = wrong.first() {
        let Pair { index, recorded, recomputed, .. } = pairs[*first];
        let cause = causes::likely(trace, network, &pairs, &wrong, findings, tolerance);
        let cause = if trace.course.is_some() { without_files(&cause) } else { cause };
        return Err(TraceError::Loss {
            path: if trace.course.is_some() { folder.to_owned() } else { folder.join("losses.npy") },
            round: trace.number(index),
            recorded,
            recomputed,
            cause,
        });
    }
    let worst = pairs.iter().map(Pair::excess).fold(0.0, f64::max);
    let recorded = if trace.course.is_some() { "the recorded ones" } else { "losses.npy" };
    let precision = match trace.precision() {
        LossPrecision::F64 | LossPrecision::F32 => "single precision".to_owned(),
        other => other.name().to_owned(),
    };
    let mut sentence = match worst {
        0.0 => format!("the recomputed losses agree with {recorded} to {precision}"),
        _ => format!("the recomputed losses agree with {recorded} to {worst:.0e} of the loss at worst"),
    };
    if worst > usual {
        sentence += &format!(
            ": more than {precision} leaves, so training computed in {}, or something small differs",
            if precision.starts_with("single") { "TF32 or half precision" } else { "less" }
        );
    }
    Ok(Agreement { sentence, doubtful: worst > usual })
}

/// What is said of the files of format 1, of those of a recorded trace.
fn without_files(cause: &str) -> String {
    let words =
        [("losses.npy", "losses"), ("batches.npy", "rows"), ("inputs.npy", "inputs"), ("targets.npy", "targets")];
    words.iter().fold(cause.to_owned(), |text, (file, word)| text.replace(file, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_what_lasts_to_the_end() {
        assert_eq!(diverged_from(&[1.0, f64::INFINITY, 2.0]), None);
        assert_eq!(diverged_from(&[1.0, 2.0, f64::INFINITY, f64::NAN]), Some(2));
        assert_eq!(diverged_from(&[f64::NAN]), Some(0));
        assert_eq!(diverged_from(&[1.0]), None);
    }
}
