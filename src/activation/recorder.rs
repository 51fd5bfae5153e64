//! Recording activation configurations.

use crate::{
    kernels::{
        Real,
        bits::words,
        conv::Scratch,
        passes::{Tape, forward_with},
    },
    network::{Block, Network},
    train::{Observer, Round},
};
use rayon::prelude::*;

/// Datapoints per piece of work; a multiple of 64, so that pieces fill whole words.
const PIECE: usize = 256;
/// The same for networks with convolutions, whose activations take more room.
const CONVOLUTION_PIECE: usize = 64;

/// The rows of the probe set: `count` evenly spaced rows of `len` (all, if there are fewer).
pub fn probe_rows(len: usize, count: usize) -> Vec<u32> {
    let count = count.min(len);
    (0..count).map(|i| (i * len / count) as u32).collect()
}

/// A neuron whose states are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neuron {
    /// Index in the layer list.
    pub layer: usize,
    pub neuron: usize,
    /// Positions at which it acts on a datapoint: 1 for a dense layer.
    pub positions: usize,
}

/// The configurations `A[n, i, m]` of the hidden neurons: bit `i` of row `n` of neuron `m` says whether the
/// neuron's pre-activation was positive at place `i`. A place is a datapoint for a dense layer, and a datapoint and a position
/// in it for a filter.
#[derive(Clone, Debug, Default)]
pub struct Configurations {
    /// Round `r` of each configuration: the weights after `r` updates.
    pub rounds: Vec<usize>,
    /// Datapoints.
    pub datapoints: usize,
    /// The hidden neurons `m`.
    pub neurons: Vec<Neuron>,
    /// Per neuron the packed rows, one after the other.
    pub bits: Vec<Vec<u64>>,
}

impl Configurations {
    /// Words per row of neuron `m`.
    pub fn words(&self, m: usize) -> usize {
        words(self.places(m))
    }

    /// Bits per row of neuron `m`.
    pub fn places(&self, m: usize) -> usize {
        self.datapoints * self.neurons[m].positions
    }

    /// Bits of a configuration.
    pub fn len_bits(&self) -> u64 {
        (0..self.neurons.len()).map(|m| self.places(m) as u64).sum()
    }
}

/// Records the configuration after every `every` updates, at the start and at the end.
pub struct ActivationRecorder<T> {
    network: Network,
    probe: Vec<T>,
    every: usize,
    pub configurations: Configurations,
}

/// Buffers of a thread.
struct Buffers<T> {
    tape: Tape<T>,
    scratch: Scratch<T>,
}

impl<T: Real> ActivationRecorder<T> {
    /// `probe: [datapoints, inputs]`.
    pub fn new(network: &Network, probe: Vec<T>, every: usize) -> Self {
        let of_block = |block: &Block| {
            let (layer, positions) = (block.layer, block.positions());
            (0..block.units).map(move |neuron| Neuron { layer, neuron, positions })
        };
        let neurons: Vec<Neuron> = network.hidden_blocks().iter().flat_map(of_block).collect();
        let configurations = Configurations {
            rounds: Vec::new(),
            datapoints: probe.len() / network.inputs(),
            bits: vec![Vec::new(); neurons.len()],
            neurons,
        };
        Self { network: network.clone(), probe, every: every.max(1), configurations }
    }

    /// Records the configuration at `weights`, those after `round` updates.
    ///
    /// Activations are packed as they are computed; none are kept.
    pub fn record(&mut self, round: usize, weights: &[T]) {
        let (network, features) = (&self.network, self.network.inputs());
        let datapoints = self.configurations.datapoints;
        let hidden = network.hidden_blocks();
        let size = if network.has_convolutions() { CONVOLUTION_PIECE } else { PIECE };
        let pieces: Vec<Vec<Packer>> = (0..datapoints.div_ceil(size))
            .into_par_iter()
            .map_init(
                || Buffers { tape: Tape::default(), scratch: Scratch::default() },
                |Buffers { tape, scratch }, piece| {
                    let rows = piece * size..datapoints.min((piece + 1) * size);
                    let x = &self.probe[rows.start * features..rows.end * features];
                    let mut packers: Vec<Packer> = hidden.iter().map(|block| Packer::new(block.units)).collect();
                    forward_with(network, weights, x, rows.len(), tape, scratch, |l, _, a| packers[l].push(a));
                    packers.iter_mut().for_each(Packer::flush);
                    packers
                },
            )
            .collect();
        for piece in pieces {
            let neurons = piece.into_iter().flat_map(|packer| packer.words);
            for (bits, words) in self.configurations.bits.iter_mut().zip(neurons) {
                bits.extend(words);
            }
        }
        self.configurations.rounds.push(round);
    }
}

/// Packs the signs of pre-activations, for all neurons of a block side by side.
struct Packer {
    /// Per neuron.
    words: Vec<Vec<u64>>,
    /// The word that is being filled, per neuron, and the bits in it.
    open: Vec<u64>,
    filled: u32,
}

impl Packer {
    fn new(units: usize) -> Self {
        Self { words: vec![Vec::new(); units], open: vec![0; units], filled: 0 }
    }

    /// Adds the pre-activations `[positions, units]` of a datapoint.
    fn push<T: Real>(&mut self, a: &[T]) {
        for a in a.chunks_exact(self.open.len()) {
            let (open, bit) = (&mut self.open, self.filled);
            pulp::Arch::new().dispatch(|| {
                open.iter_mut().zip(a).for_each(|(word, a)| *word |= u64::from(*a > T::ZERO) << bit);
            });
            self.filled += 1;
            if self.filled == u64::BITS {
                self.flush();
            }
        }
    }

    /// Ends the word that is being filled.
    fn flush(&mut self) {
        if std::mem::take(&mut self.filled) > 0 {
            for (words, open) in self.words.iter_mut().zip(&mut self.open) {
                words.push(std::mem::take(open));
            }
        }
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
