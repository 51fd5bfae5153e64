//! Recording activation configurations.

use crate::{
    kernels::{
        Real,
        bits::{pack, words},
        dense::{Tape, forward},
    },
    network::Network,
    train::{Observer, Round},
};
use rayon::prelude::*;

/// Rows per piece of work; a multiple of 64, so that pieces fill whole words.
const PIECE: usize = 256;

/// The rows of the probe set: `count` evenly spaced rows of `len` (all, if there are fewer).
pub fn probe_rows(len: usize, count: usize) -> Vec<u32> {
    let count = count.min(len);
    (0..count).map(|i| (i * len / count) as u32).collect()
}

/// The configurations `A[n, i, m]` of the hidden neurons: bit `i` of row `n` of neuron `m` says whether the
/// neuron's pre-activation on datapoint `i` was positive.
#[derive(Clone, Debug, Default)]
pub struct Configurations {
    /// Round `r` of each configuration: the weights after `r` updates.
    pub rounds: Vec<usize>,
    /// Datapoints.
    pub datapoints: usize,
    /// `(layer, neuron)` of each hidden neuron `m`; `layer` is the index in the layer list.
    pub neurons: Vec<(usize, usize)>,
    /// Per neuron the packed rows, one after the other.
    pub bits: Vec<Vec<u64>>,
}

impl Configurations {
    /// Words per row.
    pub fn words(&self) -> usize {
        words(self.datapoints)
    }

    /// Bits of a configuration.
    pub fn len_bits(&self) -> u64 {
        (self.datapoints * self.neurons.len()) as u64
    }
}

/// Records the configuration after every `every` updates, at the start and at the end.
pub struct ActivationRecorder<T> {
    network: Network,
    probe: Vec<T>,
    every: usize,
    pub configurations: Configurations,
}

impl<T: Real> ActivationRecorder<T> {
    /// `probe: [datapoints, inputs]`.
    pub fn new(network: &Network, probe: Vec<T>, every: usize) -> Self {
        let neurons: Vec<(usize, usize)> =
            network.hidden_blocks().iter().flat_map(|b| (0..b.units).map(|a| (b.layer, a))).collect();
        let configurations = Configurations {
            rounds: Vec::new(),
            datapoints: probe.len() / network.inputs(),
            bits: vec![Vec::new(); neurons.len()],
            neurons,
        };
        Self { network: network.clone(), probe, every: every.max(1), configurations }
    }

    /// Records the configuration at `weights`, those after `round` updates.
    pub fn record(&mut self, round: usize, weights: &[T]) {
        let (network, features) = (&self.network, self.network.inputs());
        let datapoints = self.configurations.datapoints;
        let pieces: Vec<Vec<Vec<u64>>> = (0..datapoints.div_ceil(PIECE))
            .into_par_iter()
            .map_init(Tape::default, |tape, piece| {
                let rows = piece * PIECE..datapoints.min((piece + 1) * PIECE);
                forward(network, weights, &self.probe[rows.start * features..rows.end * features], rows.len(), tape);
                let mut packed = Vec::with_capacity(self.configurations.neurons.len());
                for (block, (x, slopes)) in network.hidden_blocks().iter().zip(tape.hidden.iter().zip(&tape.slopes)) {
                    for u in 0..block.units {
                        // x = s'(a) a, so its sign with that of the slope is the sign of a; a linear unit has slope 1.
                        let active = |i: usize| {
                            let at = i * block.units + u;
                            x[at] * slopes[at] > T::ZERO && slopes[at] == T::ONE
                        };
                        packed.push(pack(rows.len(), active));
                    }
                }
                packed
            })
            .collect();
        for piece in pieces {
            for (bits, words) in self.configurations.bits.iter_mut().zip(piece) {
                bits.extend(words);
            }
        }
        self.configurations.rounds.push(round);
    }
}

impl<T: Real> Observer<T> for ActivationRecorder<T> {
    fn observe(&mut self, round: &Round<T>) {
        let updates = round.number - 1;
        if updates.is_multiple_of(self.every) {
            self.record(updates, round.weights);
        }
    }

    fn finish(&mut self, final_weights: &[T], rounds: usize) {
        if self.configurations.rounds.last() != Some(&rounds) {
            self.record(rounds, final_weights);
        }
    }
}
