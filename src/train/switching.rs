//! How an update moves activation configurations: on which datapoints of its minibatch it switches each hidden neuron.

use super::Part;
use crate::{
    kernels::bits::pack,
    network::Network,
    num::Real,
    passes::{Passes, Tape},
};
use rayon::prelude::*;

/// Compares the configurations of a minibatch before and after an update, reusing its buffers.
pub struct Switching<'a, T> {
    network: &'a Network,
    /// Per part of the minibatch.
    states: Vec<States<T>>,
}

#[derive(Default)]
struct States<T> {
    tape: Tape<T>,
    passes: Passes<T>,
    /// Per datapoint and hidden block, in the order of the pass: which pre-activations `[positions, units]` are positive.
    before: Vec<Vec<u64>>,
    /// Datapoints and positions at which each hidden neuron switched.
    switched: Vec<u64>,
}

impl<T: Real> States<T> {
    fn forward(&mut self, network: &Network, weights: &[T], part: &Part<T>, visit: impl FnMut(usize, usize, &[T])) {
        self.passes.forward(network, weights, &part.x, part.rows.len(), &mut self.tape, visit);
    }
}

impl<'a, T: Real> Switching<'a, T> {
    pub fn new(network: &'a Network) -> Self {
        Self { network, states: Vec::new() }
    }

    /// Keeps the configuration of the minibatch at the weights before the update.
    pub fn before(&mut self, weights: &[T], parts: &[Part<T>]) {
        let network = self.network;
        self.states.resize_with(parts.len(), States::default);
        self.states.par_iter_mut().zip(parts).with_max_len(1).for_each(|(states, part)| {
            let mut before = std::mem::take(&mut states.before);
            before.clear();
            states.forward(network, weights, part, |_, _, a| before.push(pack(a.len(), |i| a[i] > T::ZERO)));
            states.before = before;
        });
    }

    /// Fills `out`, an entry per hidden neuron in the order of the layers, with the fraction of the minibatch's datapoints (for a
    /// filter: datapoints and positions) at which the neuron's state differs from that before the update.
    pub fn after(&mut self, weights: &[T], parts: &[Part<T>], out: &mut [T]) {
        let network = self.network;
        let hidden = network.hidden_blocks();
        let places = network.hidden_neurons();
        self.states.par_iter_mut().zip(parts).with_max_len(1).for_each(|(states, part)| {
            let before = std::mem::take(&mut states.before);
            let mut switched = std::mem::take(&mut states.switched);
            switched.clear();
            switched.resize(out.len(), 0);
            let mut configurations = before.iter();
            states.forward(network, weights, part, |l, _, a| {
                let before = configurations.next().expect("both passes visit the same places");
                let units = hidden[l].units;
                for (i, a) in a.iter().enumerate() {
                    let was = before[i / 64] >> (i % 64) & 1 == 1;
                    switched[places[l].start + i % units] += u64::from(was != (*a > T::ZERO));
                }
            });
            (states.before, states.switched) = (before, switched);
        });
        let rows: usize = parts.iter().map(|part| part.rows.len()).sum();
        for (block, neurons) in hidden.iter().zip(places) {
            for neuron in neurons {
                let count: u64 = self.states.iter().map(|states| states.switched[neuron]).sum();
                out[neuron] = T::from_f64(count as f64 / (rows * block.positions()) as f64);
            }
        }
    }
}
