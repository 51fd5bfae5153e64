//! What an optimizer's update crosses: kinks per datapoint, and the decrease that the Taylor loss predicted.

use super::{
    Change, Datapoint, Ended, Limits, Path, Propagation, Segment, Target, kink::KINK_BYTES, path::loss_along,
    profile::tangent,
};
use crate::{
    loss::{Loss, Targets},
    network::Network,
    num::{dot, norm},
    train::{Examples, RoundEngine},
};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// One update, seen from the minibatch that it was computed from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// The minibatch loss before the update.
    pub before: f64,
    /// The minibatch loss after it.
    pub after: f64,
    /// The Taylor loss of the network at the new weights.
    pub taylor: f64,
    /// The loss before plus the gradient times the step.
    pub first_order: f64,
    /// Length of the step.
    pub step: f64,
    /// Kinks that the straight way from the old to the new weights crosses, mean per datapoint.
    pub kinks: f64,
    /// Units in another state after the update than before it, mean per datapoint; at most `kinks`.
    pub changed: f64,
    /// Cosine of the minibatch gradients before and after the update; `None` if one of them is zero.
    pub cosine: Option<f64>,
}

/// The target of a datapoint at rest.
pub fn target<'a>(examples: &Examples<'a, f64>, row: usize) -> Target<'a> {
    match examples.targets {
        Targets::Values(values) => {
            Target::Values { at: &values[row * examples.target_width..][..examples.target_width], step: None }
        }
        Targets::Labels(labels) => Target::Label(labels[row]),
    }
}

/// Measures the update from the flat weights `before` to `after` on the minibatch `rows`.
///
/// # Errors
/// If the limits end it.
///
/// # Panics
/// If there are no rows or the weights do not fit the network.
pub fn measure(
    network: &Network,
    loss: Loss,
    examples: &Examples<f64>,
    rows: &[u32],
    before: &[f64],
    after: &[f64],
    limits: &Limits,
) -> Result<Update, Ended> {
    let step: Vec<f64> = after.iter().zip(before).map(|(b, a)| b - a).collect();
    let propagation = Propagation::new(network, before, Some(&step)).within(limits);
    // Per datapoint: losses before and after, the Taylor loss, kinks, changed units.
    let each: Result<Vec<[f64; 5]>, Ended> = rows
        .par_iter()
        .map(|row| {
            let row = *row as usize;
            let input = &examples.inputs[row * examples.features..][..examples.features];
            let target = target(examples, row);
            let (value, slope) = tangent(&propagation, &Datapoint { input, step: None, target })?;
            let taylor: Vec<f64> = value.iter().zip(&slope).map(|(f, df)| f + df).collect();
            let end: Path = propagation.try_path(&Segment::at_rest(input, 1.0, 1.0))?;
            limits.give_back(end.bytes());
            let loss_of = |f: &[f64]| loss_along(loss, f, &slope, target, 0.0).0;
            let kinks = propagation.try_kinks_of(&[Segment::at_rest(input, 0.0, 1.0)])?.swap_remove(0);
            // Each unit's first and last state on the way.
            let mut states: BTreeMap<(usize, usize), (usize, usize)> = BTreeMap::new();
            for kink in &kinks {
                let (from, to) = match kink.change {
                    Change::On => (0, 1),
                    Change::Off => (1, 0),
                    Change::Winner { from, to } => (from, to),
                };
                states.entry((kink.layer, kink.unit)).and_modify(|(_, last)| *last = to).or_insert((from, to));
            }
            let changed = states.values().filter(|(first, last)| first != last).count();
            limits.give_back(kinks.len() * KINK_BYTES);
            Ok([loss_of(&value), loss_of(&end.on(0, 1.0).0), loss_of(&taylor), kinks.len() as f64, changed as f64])
        })
        .collect();
    let each = each?;
    let mean = |i: usize| each.iter().map(|values| values[i]).sum::<f64>() / rows.len() as f64;
    let mut engine = RoundEngine::new(network, loss, rows.len());
    let mut gradient = |weights: &[f64]| {
        engine.compute(weights, examples, rows);
        engine.gradient().to_vec()
    };
    let (g, h) = (gradient(before), gradient(after));
    let norms = norm(&g) * norm(&h);
    Ok(Update {
        before: mean(0),
        after: mean(1),
        taylor: mean(2),
        first_order: mean(0) + dot(&g, &step),
        step: norm(&step),
        kinks: mean(3),
        changed: mean(4),
        cosine: (norms > 0.0).then(|| (dot(&g, &h) / norms).clamp(-1.0, 1.0)),
    })
}
