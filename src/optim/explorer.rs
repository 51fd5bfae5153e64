use super::{
    Adam, Entry, Optimizer, Settings,
    adam::{BETA1, BETA2, CORRECT_MEAN},
    entry::{EPS, entry, setting},
};
use crate::{
    checkpoint::{Store, StoreError},
    num::Real,
};
use std::ops::Range;

pub(super) const ENTRIES: &[Entry] = &[entry!(
    "explorer",
    "Explorer",
    0.001,
    Explorer::new,
    [
        BETA1,
        BETA2,
        EPS,
        CORRECT_MEAN,
        setting("power", 0.5, (-4.0, 4.0)),
        setting("limit", 4.0, (1.0, f64::MAX)),
        setting("memory", 0.9, (0.0, 1.0)),
        setting("every", 10.0, (1.0, 1e9))
    ]
)];

/// Adam that steers the step of every hidden neuron by how its activation switches: an attempt of this project at the
/// paper's question whether exploring activation configurations helps design better optimizers (`docs/theory.md`, section 5).
///
/// After every `every`-th update the loop tells on which fraction `c` of the minibatch the update switched each hidden neuron
/// ([`Optimizer::switching`]). With `s = memory s + (1 - memory) c` and its mean `S` over the layer's neurons, Adam's update
/// of the neuron's weights is multiplied by
///
/// ```text
/// (S / s)^power, cut to [1 / limit, limit]    (1 where nothing of the layer switched)
/// ```
///
/// so with `power > 0` neurons that keep their configuration while others change theirs step further, and those that switch
/// more than their layer does step less; `power < 0` does the opposite, and 0 is Adam. The output layer steps as Adam does.
/// Only ratios within a layer matter, so the overall pace is the learning rate's.
pub struct Explorer<T> {
    adam: Adam<T>,
    power: f64,
    limit: f64,
    memory: f64,
    every: usize,
    /// The weights of each hidden neuron, in the order of the layers.
    neurons: Vec<Range<usize>>,
    /// Neurons of each hidden layer, as ranges of `neurons`.
    layers: Vec<Range<usize>>,
    /// What the loop measured last.
    measured: Vec<T>,
    switching: Vec<f64>,
    factors: Vec<f64>,
    /// The weights before the step.
    before: Vec<T>,
}

impl<T: Real> Explorer<T> {
    pub fn new(settings: &Settings) -> Self {
        let hidden = settings.network.hidden_blocks().iter();
        let neurons: Vec<Range<usize>> =
            hidden.flat_map(|block| (0..block.units).map(|neuron| block.neuron(neuron))).collect();
        Self {
            adam: Adam::new(settings),
            power: settings.number("power"),
            limit: settings.number("limit"),
            memory: settings.number("memory"),
            every: settings.count("every"),
            layers: settings.network.hidden_neurons(),
            measured: vec![T::ZERO; neurons.len()],
            switching: vec![0.0; neurons.len()],
            factors: vec![1.0; neurons.len()],
            before: vec![T::ZERO; settings.network.parameters()],
            neurons,
        }
    }

    /// Takes in the last measurement.
    fn steer(&mut self) {
        for (s, measured) in self.switching.iter_mut().zip(&self.measured) {
            *s = self.memory * *s + (1.0 - self.memory) * measured.to_f64();
        }
        for layer in &self.layers {
            let switching = &self.switching[layer.clone()];
            let mean = switching.iter().sum::<f64>() / switching.len() as f64;
            for (factor, s) in self.factors[layer.clone()].iter_mut().zip(switching) {
                // A neuron that never switched has an infinite ratio, which the limit cuts.
                let wanted = if mean > 0.0 { (mean / s).powf(self.power) } else { 1.0 };
                *factor = wanted.clamp(1.0 / self.limit, self.limit);
            }
        }
    }
}

impl<T: Real> Optimizer<T> for Explorer<T> {
    fn step(&mut self, round: usize, weights: &mut [T], gradient: &[T]) {
        if round > 1 && (round - 1).is_multiple_of(self.every) {
            self.steer();
        }
        self.before.copy_from_slice(weights);
        self.adam.step(round, weights, gradient);
        for (neuron, factor) in self.neurons.iter().zip(&self.factors).filter(|(_, factor)| **factor != 1.0) {
            let factor = T::from_f64(*factor);
            let moved = weights[neuron.clone()].iter_mut().zip(&self.before[neuron.clone()]);
            moved.for_each(|(w, before)| *w = *before + factor * (*w - *before));
        }
    }

    fn switching(&mut self, round: usize) -> Option<&mut [T]> {
        round.is_multiple_of(self.every).then_some(&mut self.measured)
    }

    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.part("adam", |store| self.adam.persist(store))?;
        store.values("measured", &mut self.measured)?;
        store.values("switching", &mut self.switching)?;
        store.values("factors", &mut self.factors)
    }
}
