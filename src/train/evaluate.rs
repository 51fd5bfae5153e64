//! Loss and accuracy of a whole split.

use super::Examples;
use crate::{
    loss::{Loss, Targets},
    network::Network,
    num::{
        Real,
        pieces::{Cut, map_in_pieces_with},
    },
    passes::{Passes, Tape},
};
use std::sync::atomic::{AtomicBool, Ordering};

/// Mean loss, and the fraction of rows whose largest output is their label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    pub loss: f64,
    /// Empty unless the targets are labels.
    pub accuracy: Option<f64>,
}

/// Rows per piece of work; fixed, so the sums do not depend on the number of threads.
const CHUNK: usize = 500;
/// The same for other networks than dense chains: the activations of convolutions take more room.
const GRAPH_CHUNK: usize = 100;

/// Evaluates all rows of `examples`.
pub fn evaluate<T: Real>(network: &Network, loss: Loss, weights: &[T], examples: &Examples<T>) -> Evaluation {
    evaluate_until(network, loss, weights, examples, &AtomicBool::new(false)).expect("nobody stops it")
}

/// The same, or nothing if `stop` is set before the end.
pub fn evaluate_until<T: Real>(
    network: &Network,
    loss: Loss,
    weights: &[T],
    examples: &Examples<T>,
    stop: &AtomicBool,
) -> Option<Evaluation> {
    let (count, outputs) = (examples.len(), network.outputs());
    let chunk = if network.is_dense_chain() { CHUNK } else { GRAPH_CHUNK };
    let buffers = || (Passes::new(), Tape::default());
    let pieces = map_in_pieces_with(count, Cut::Every(chunk), buffers, |(passes, tape), rows| {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let x = &examples.inputs[rows.start * examples.features..rows.end * examples.features];
        passes.forward(network, weights, x, rows.len(), tape, |_, _, _| ());
        let targets = examples.targets.rows(rows, examples.target_width);
        let sum = loss.value_gradient(&tape.output, outputs, targets, T::ONE, &mut Vec::new());
        let right = match targets {
            Targets::Values(_) => 0,
            Targets::Labels(labels) => {
                tape.output.chunks_exact(outputs).zip(labels).filter(|(f, y)| argmax(f) == **y as usize).count()
            }
        };
        Some((sum, right))
    });
    let pieces: Vec<(f64, usize)> = pieces.into_iter().collect::<Option<_>>()?;
    let total: f64 = pieces.iter().map(|(sum, _)| sum).sum();
    let right: usize = pieces.iter().map(|(_, right)| right).sum();
    let accuracy = matches!(examples.targets, Targets::Labels(_)).then_some(right as f64 / count.max(1) as f64);
    Some(Evaluation { loss: total / count.max(1) as f64, accuracy })
}

fn argmax<T: Real>(values: &[T]) -> usize {
    let mut best = 0;
    for (i, v) in values.iter().enumerate() {
        if *v > values[best] {
            best = i;
        }
    }
    best
}
