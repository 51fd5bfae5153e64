//! Recording activation configurations.

use crate::{
    checkpoint::{Persist, Store, StoreError},
    kernels::{activation::argmax_index, bits::words},
    network::{Activation, Block, Network, Node, Operation, Pool, Rectifier, Shape, Source},
    num::Real,
    passes::{Passes, Tape},
    train::{Observer, Round},
};
use rayon::prelude::*;

/// Datapoints per piece of work; a multiple of 64, so that pieces fill whole words.
const PIECE: usize = 256;
/// The same for other networks than dense chains: the activations of convolutions take more room.
const GRAPH_PIECE: usize = 64;

/// The rows of the probe set: `count` evenly spaced rows of `len` (all, if there are fewer).
pub fn probe_rows(len: usize, count: usize) -> Vec<u32> {
    let count = count.min(len);
    (0..count).map(|i| (i * len / count) as u32).collect()
}

/// A neuron whose states are recorded, or a channel of a max-pool whose winners (argmax indices) are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neuron {
    /// Index in the layer list.
    pub layer: usize,
    pub neuron: usize,
    /// Positions at which it acts on a datapoint: 1 for a dense layer; for a max-pool windows times places in a window.
    pub positions: usize,
    /// Whether no gradient passes where it is not active: behind a ReLU, but not with a slope on the negative side or without a
    /// rectifier. Never of a max-pool.
    pub rests: bool,
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
    fn new(datapoints: usize, neurons: Vec<Neuron>) -> Self {
        Self { rounds: Vec::new(), datapoints, bits: vec![Vec::new(); neurons.len()], neurons }
    }

    /// Appends the packed bits of all neurons, a piece of the datapoints after the other, as the configuration after `round` updates.
    fn append(&mut self, round: usize, pieces: impl Iterator<Item = Vec<Packer>>) {
        for piece in pieces {
            let neurons = piece.into_iter().flat_map(|packer| packer.words);
            for (bits, words) in self.bits.iter_mut().zip(neurons) {
                bits.extend(words);
            }
        }
        self.rounds.push(round);
    }

    /// Drops the last configuration if it is that after `round` updates.
    fn drop_last(&mut self, round: usize) {
        if self.rounds.last() != Some(&round) {
            return;
        }
        self.rounds.pop();
        for m in 0..self.neurons.len() {
            let kept = self.words(m) * self.rounds.len();
            self.bits[m].truncate(kept);
        }
    }

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

/// Where the values are whose signs are recorded.
#[derive(Clone, Copy, Debug)]
enum Signs {
    /// The pre-activations of this block, which are seen as they are computed.
    Block(usize),
    /// What a rectifier behind no block takes: a value of the tape.
    Value(Source),
}

/// Values whose signs are recorded, `[positions, channels]` of a datapoint; the channels are the neurons.
#[derive(Clone, Copy, Debug)]
struct Site {
    signs: Signs,
    layer: usize,
    channels: usize,
    positions: usize,
    rectifier: Option<Rectifier>,
}

/// The sites of a network, in the order of its nodes.
fn sites(network: &Network) -> Vec<Site> {
    let of_node = |(n, node): (usize, &Node)| match node.operation {
        Operation::Block(l) if n + 1 < network.nodes().len() => {
            let Block { layer, units: channels, rectifier, .. } = network.blocks()[l];
            let positions = network.blocks()[l].positions();
            Some(Site { signs: Signs::Block(l), layer, channels, positions, rectifier })
        }
        Operation::Activation(Activation { rectifier: Some(rectifier), pool }) => {
            let source = node.inputs[0];
            // The signs of pre-activations that others take, too, are those of their block.
            if is_pre_activation(network, source) {
                return None;
            }
            let (channels, positions) = match pool.map_or(node.shape, |pool| Shape::Image(pool.input)) {
                Shape::Image(image) => (image.channels, image.positions()),
                Shape::Features(features) => (features, 1),
            };
            let signs = Signs::Value(source);
            Some(Site { signs, layer: node.layer, channels, positions, rectifier: Some(rectifier) })
        }
        Operation::Block(_) | Operation::Activation(_) | Operation::Sum => None,
    };
    network.nodes().iter().enumerate().filter_map(of_node).collect()
}

/// Whether a value is that of a block without rectifier and pool.
fn is_pre_activation(network: &Network, source: Source) -> bool {
    let Source::Node(n) = source else { return false };
    match network.nodes()[n].operation {
        Operation::Block(l) => network.blocks()[l].activation() == Activation::default(),
        Operation::Activation(_) | Operation::Sum => false,
    }
}

/// The max-pools of a network, each with its node and its layer.
fn max_pools(network: &Network) -> impl Iterator<Item = (usize, usize, Pool)> {
    let of_node = |(n, node): (usize, &Node)| match node.operation {
        Operation::Block(l) => {
            let block = &network.blocks()[l];
            Some((n, block.pool_layer(), *block.max_pool()?))
        }
        Operation::Activation(activation) => {
            let layer = node.layer + usize::from(activation.rectifier.is_some());
            Some((n, layer, *activation.max_pool()?))
        }
        Operation::Sum => None,
    };
    network.nodes().iter().enumerate().filter_map(of_node)
}

/// Records the configuration after every `every` updates, at the start and at the end.
///
/// Recorded are the neurons of hidden blocks, and the channels of rectifiers that stand behind none, as behind a sum.
pub struct ActivationRecorder<T> {
    network: Network,
    sites: Vec<Site>,
    probe: Vec<T>,
    every: usize,
    pub configurations: Configurations,
    /// The winners of the max-pools, one-hot, if they are recorded: bit `i` of row `n` of channel `m` of a pool says whether place
    /// `i`, of a datapoint, window and place in the window, won.
    pub winners: Option<Configurations>,
}

/// Buffers of a thread.
struct Buffers<T> {
    tape: Tape<T>,
    passes: Passes<T>,
}

impl<T: Real> ActivationRecorder<T> {
    /// `probe: [datapoints, inputs]`.
    pub fn new(network: &Network, probe: Vec<T>, every: usize) -> Self {
        let sites = sites(network);
        let of_site = |site: &Site| {
            let Site { layer, channels, positions, rectifier, .. } = *site;
            let rests = rectifier.is_some_and(|rectifier| rectifier.negative_slope() == 0.0);
            (0..channels).map(move |neuron| Neuron { layer, neuron, positions, rests })
        };
        let neurons = sites.iter().flat_map(of_site).collect();
        let configurations = Configurations::new(probe.len() / network.inputs(), neurons);
        Self { network: network.clone(), sites, probe, every: every.max(1), configurations, winners: None }
    }

    /// Records the winners of max-pools, too.
    pub fn with_winners(mut self) -> Self {
        let channels = max_pools(&self.network).flat_map(|(_, layer, pool)| {
            let positions = pool.output.positions() * pool.places();
            (0..pool.output.channels).map(move |neuron| Neuron { layer, neuron, positions, rests: false })
        });
        self.winners = Some(Configurations::new(self.configurations.datapoints, channels.collect()));
        self
    }

    /// Bytes of all that was recorded.
    pub fn bytes(&self) -> usize {
        let all = self.winners.iter().chain([&self.configurations]).flat_map(|all| &all.bits);
        all.map(|bits| size_of_val(&bits[..])).sum()
    }

    /// Resumes after an end at `rounds` updates, whose configuration is recorded again if one is due there.
    pub fn reopen(&mut self, rounds: usize) {
        self.configurations.drop_last(rounds);
        if let Some(winners) = &mut self.winners {
            winners.drop_last(rounds);
        }
    }

    /// Records the configuration at `weights`, those after `round` updates.
    ///
    /// Activations are packed as they are computed; none are kept.
    pub fn record(&mut self, round: usize, weights: &[T]) {
        let (network, features) = (&self.network, self.network.inputs());
        let datapoints = self.configurations.datapoints;
        let size = if network.is_dense_chain() { PIECE } else { GRAPH_PIECE };
        let with_winners = self.winners.is_some();
        let pieces: Vec<[Vec<Packer>; 2]> = (0..datapoints.div_ceil(size))
            .into_par_iter()
            .map_init(
                || Buffers { tape: Tape::default(), passes: Passes::new() },
                |Buffers { tape, passes }, piece| {
                    let rows = piece * size..datapoints.min((piece + 1) * size);
                    let x = &self.probe[rows.start * features..rows.end * features];
                    let signs = self.pack_signs(weights, x, passes, tape);
                    let winners = if with_winners { pack_winners(network, tape) } else { Vec::new() };
                    [signs, winners]
                },
            )
            .collect();
        let (units, winners): (Vec<_>, Vec<_>) = pieces.into_iter().map(<(_, _)>::from).unzip();
        self.configurations.append(round, units.into_iter());
        if let Some(all) = &mut self.winners {
            all.append(round, winners.into_iter());
        }
    }

    /// Takes the data `x: [rows, inputs]` through the network, and packs the signs of all sites.
    fn pack_signs(&self, weights: &[T], x: &[T], passes: &mut Passes<T>, tape: &mut Tape<T>) -> Vec<Packer> {
        let (network, positive) = (&self.network, |a: &T| *a > T::ZERO);
        let mut packers: Vec<Packer> = self.sites.iter().map(|site| Packer::new(site.channels)).collect();
        let mut of_block = vec![0; network.blocks().len()];
        for (at, site) in self.sites.iter().enumerate() {
            if let Signs::Block(l) = site.signs {
                of_block[l] = at;
            }
        }
        let rows = x.len() / network.inputs();
        passes.forward(network, weights, x, rows, tape, |l, _, a| packers[of_block[l]].push(a, positive));
        for (site, packer) in self.sites.iter().zip(&mut packers) {
            if let Signs::Value(source) = site.signs {
                packer.push(tape.value(source, x), positive);
            }
            packer.flush();
        }
        packers
    }
}

/// The winners on a tape, one-hot, pool by pool.
fn pack_winners<T: Real>(network: &Network, tape: &Tape<T>) -> Vec<Packer> {
    let pack = |(n, _, pool): (usize, usize, Pool)| {
        let channels = pool.output.channels;
        let mut packer = Packer::new(channels);
        for window in tape.argmax[n].chunks_exact(channels) {
            for place in 0..pool.places() {
                packer.push(window, |code| argmax_index(&pool, *code) == place);
            }
        }
        packer.flush();
        packer
    };
    max_pools(network).map(pack).collect()
}

/// Packs states, for all neurons of a block side by side.
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

    /// Adds the states `on` of the values `[positions, units]`.
    fn push<V>(&mut self, values: &[V], on: impl Fn(&V) -> bool) {
        for values in values.chunks_exact(self.open.len()) {
            let (open, bit) = (&mut self.open, self.filled);
            crate::num::vectorized(
                #[inline(always)]
                || {
                    open.iter_mut().zip(values).for_each(|(word, value)| *word |= u64::from(on(value)) << bit);
                },
            );
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

impl<T> Persist for ActivationRecorder<T> {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        self.configurations.persist(store)?;
        match &mut self.winners {
            Some(winners) => store.part("winners", |store| winners.persist(store)),
            None => Ok(()),
        }
    }
}

impl Persist for Configurations {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.counts("rounds", &mut self.rounds)?;
        let words: Vec<usize> = (0..self.neurons.len()).map(|m| self.words(m)).collect();
        for (m, (bits, words)) in self.bits.iter_mut().zip(words).enumerate() {
            let name = format!("bits.{m}");
            store.list(&name, bits)?;
            if bits.len() != words * self.rounds.len() {
                return Err(store.malformed(&name, format!("has no {} rows of {words} words", self.rounds.len())));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Image, LayerSpec, Pooling, Rectifier};

    /// A state by its definition: winners of windows, looked up in the pre-activations.
    fn winner(a: &[f64], side: usize, units: usize, channel: usize, window: (usize, usize), stride: usize) -> usize {
        let mut best = (0, f64::NEG_INFINITY);
        for place in 0..4 {
            let (y, x) = (window.0 * stride + place / 2, window.1 * stride + place % 2);
            let z = a[(y * side + x) * units + channel].max(0.0);
            if z > best.1 {
                best = (place, z);
            }
        }
        best.0
    }

    #[test]
    fn winners_are_one_hot_and_reported_apart() {
        for stride in [1, 2] {
            let (side, units, datapoints) = (4, 3, 70);
            let layers = [
                LayerSpec::Conv { maps: units, kernel: 3, padding: 1, stride: 1, bias: true },
                LayerSpec::Rectifier(Rectifier::Relu),
                LayerSpec::Pool { pooling: Pooling::Max, size: 2, stride },
                LayerSpec::Flatten,
                LayerSpec::dense(2),
            ];
            let network = Network::new(Image { channels: 1, height: side, width: side }, &layers).unwrap();
            // With some dead windows.
            let weights: Vec<f64> = (0..network.parameters()).map(|i| (i as f64 * 1.7).sin() - 0.3).collect();
            let probe: Vec<f64> = (0..datapoints * 16).map(|i| (i as f64 * 0.9).cos()).collect();
            let mut recorder = ActivationRecorder::new(&network, probe.clone(), 1).with_winners();
            recorder.record(0, &weights);
            let (all, windows) = (recorder.winners.unwrap(), (side - 2) / stride + 1);
            assert_eq!(all.neurons[1], Neuron { layer: 2, neuron: 1, positions: windows * windows * 4, rests: false });
            assert_eq!(all.len_bits(), (datapoints * units * windows * windows * 4) as u64);
            assert_eq!(recorder.configurations.neurons.len(), units, "the winners do not count as neurons");
            let mut checked = 0;
            Passes::new().forward(&network, &weights, &probe, datapoints, &mut Tape::default(), |_, row, a| {
                for at in 0..units * windows * windows {
                    let (channel, y, x) = (at % units, at / units / windows, at / units % windows);
                    let won = winner(a, side, units, channel, (y, x), stride);
                    for place in 0..4 {
                        // The pieces of 64 datapoints fill whole words.
                        let bit = (row * windows * windows + y * windows + x) * 4 + place;
                        let state = all.bits[channel][bit / 64] >> (bit % 64) & 1;
                        assert_eq!(state == 1, place == won, "datapoint {row}, channel {channel}, window {y} {x}");
                        checked += 1;
                    }
                }
            });
            assert_eq!(checked as u64, all.len_bits());
        }
    }
}
