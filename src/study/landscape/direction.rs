//! Directions of weights: which weights move, and the steepest descent of a loss in them.

use super::{LandscapeError, what::Along};
use crate::{
    network::{Block, Network},
    train::{Examples, RoundEngine},
};
use std::ops::Range;

/// Minus the gradient of the mean loss of `rows` in the weights `moving`; zero in all others.
pub(super) fn descent(
    engine: &mut RoundEngine<f64>,
    weights: &[f64],
    examples: &Examples<f64>,
    rows: &[u32],
    moving: Range<usize>,
) -> Vec<f64> {
    engine.compute(weights, examples, rows);
    let mut step = vec![0.0; weights.len()];
    step[moving.clone()].iter_mut().zip(&engine.gradient()[moving]).for_each(|(step, g)| *step = -g);
    step
}

/// The weights that move, as a range of the flat vector.
pub(super) fn moving_weights(network: &Network, along: Along) -> Result<Range<usize>, LandscapeError> {
    let block = |layer: usize| -> Result<&Block, LandscapeError> {
        network.blocks().iter().find(|block| block.layer == layer).ok_or_else(|| {
            let known: Vec<String> = network.blocks().iter().map(|block| block.layer.to_string()).collect();
            LandscapeError::Along {
                along: along.to_string(),
                reason: format!("layer {layer} has no weights; layers with weights are {}", known.join(", ")),
            }
        })
    };
    match along {
        Along::Layer(layer) => Ok(block(layer)?.range()),
        Along::Neuron { layer, neuron } => {
            let block = block(layer)?;
            if neuron >= block.units {
                return Err(LandscapeError::Along {
                    along: along.to_string(),
                    reason: format!("layer {layer} has neurons 0 to {}", block.units - 1),
                });
            }
            Ok(block.neuron(neuron))
        }
        _ => Ok(0..network.parameters()),
    }
}

/// Why there is no direction, and which there are.
pub(super) fn no_direction(network: &Network, along: Along, gradient: &[f64]) -> String {
    if !gradient.iter().all(|g| g.is_finite()) {
        return "the gradient is not finite; choose an earlier --round".to_owned();
    }
    let directed = |range: Range<usize>| gradient[range].iter().any(|g| *g != 0.0);
    let neurons = |block: &Block| (0..block.units).find(|neuron| directed(block.neuron(*neuron)));
    match along {
        Along::Neuron { layer, neuron } => {
            let others = network.blocks().iter().find(|block| block.layer == layer).and_then(neurons);
            let dead = format!("neuron {layer}.{neuron} is active on none of the datapoints, so its gradient is zero");
            match others {
                Some(other) => format!("{dead}; neuron {layer}.{other} has one, or choose other --datapoints"),
                None => format!("{dead}, as is that of every neuron of layer {layer}; choose other --datapoints"),
            }
        }
        Along::Layer(layer) => {
            let others: Vec<String> = network
                .blocks()
                .iter()
                .filter(|block| directed(block.range()))
                .map(|block| block.layer.to_string())
                .collect();
            let zero = format!("the gradient of layer {layer} is zero on the datapoints");
            match others.is_empty() {
                true => format!("{zero}, as is that of all layers; choose other --datapoints"),
                false => format!("{zero}; layers with one are {}, or choose other --datapoints", others.join(", ")),
            }
        }
        _ => "the gradient is zero on the datapoints; choose others with --datapoints".to_owned(),
    }
}
