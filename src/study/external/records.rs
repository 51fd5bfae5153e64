//! What the rounds and their prefixes say about the units of a run.

use super::ExternalRun;
use crate::taylor::{tracker::UnitRecord, unit::UnitId};

/// A unit, and how it fared in the analysed rounds.
#[derive(Clone, Debug)]
pub struct UnitCourse {
    pub unit: UnitId,
    /// `|W^n - W^1|` of every analysed round.
    pub displacements: Vec<f64>,
    /// `|g_n|` of every analysed round.
    pub gradients: Vec<f64>,
}

/// What is wrong with a run, in words for who made it.
pub fn check(run: &ExternalRun) -> Result<(), &'static str> {
    let count = run.rounds.len();
    if count == 0 {
        return Err("there are no rounds to analyse");
    }
    if run.losses.len() != count {
        return Err("there must be a loss for each analysed round");
    }
    if run.rounds[0] == 0 || run.rounds.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err("the numbers of the rounds must begin with 1 or more and increase");
    }
    if run.all_losses.is_empty() {
        return Err("there must be the losses of all rounds");
    }
    let fits = |course: &UnitCourse| course.displacements.len() == count && course.gradients.len() == count;
    if !run.units.iter().all(fits) {
        return Err("every unit must have a displacement and a gradient norm for each analysed round");
    }
    let named = |course: &UnitCourse| course.unit.layer.is_none_or(|layer| layer < run.layers.len());
    if !run.units.iter().all(named) {
        return Err("the layer of a unit must be a place in the list of layers");
    }
    if let Some(all) = &run.configurations {
        let whole = |m: usize| all.bits[m].len() == all.words(m) * all.rounds.len();
        if all.bits.len() != all.neurons.len() || !(0..all.neurons.len()).all(whole) {
            return Err("the activation configurations must have a row of whole words for every round and neuron");
        }
    }
    Ok(())
}

/// What the first `n` analysed rounds say of a unit.
pub fn record(run: &ExternalRun, course: &UnitCourse, n: usize) -> UnitRecord {
    let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let gradients = &course.gradients[..n];
    UnitRecord {
        rounds: run.rounds[n - 1],
        analysed: n,
        sampled: n < run.rounds[n - 1],
        mean_loss: run.losses[..n].iter().sum::<f64>() / n as f64,
        // One ball for all prefixes: that of all rounds that are analysed.
        displacement: most(&course.displacements),
        gradient_bound: most(gradients),
        gradient_squares: gradients.iter().map(|norm| norm * norm).sum(),
        ..UnitRecord::default()
    }
}
