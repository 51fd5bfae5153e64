//! Per unit and prefix: how far it moved, how large its gradients were, and the loss it paid.

use super::unit::{Scale, UnitId};
use crate::{
    checkpoint::{Persist, Record, Store, StoreError},
    network::Network,
    num::{Real, sum_of_squared_differences, sum_of_squares},
    train::{Observer, Round},
};
use std::collections::{BTreeMap, BTreeSet};

/// What a prefix of a run says about a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UnitRecord {
    /// Length N of the prefix.
    pub rounds: usize,
    /// How many of its rounds are analysed: all, or fewer of a sample. Optima are means over these.
    pub analysed: usize,
    /// `(1/N) sum_n l^n(W^n)`.
    pub mean_loss: f64,
    /// `D_train = max_n |W^n - W^1|`.
    pub displacement: f64,
    /// `G = max_n |g_n|`.
    pub gradient_bound: f64,
    /// `sum_n |g_n|^2`.
    pub gradient_squares: f64,
    /// `max_n max_j |W^n_j - W^1_j|` over the coordinates `j`; 0 unless coordinates are tracked.
    pub largest_displacement: f64,
    /// `sum_j (sum_n g_nj^2)^(1/2)` over the coordinates `j`; 0 unless coordinates are tracked.
    pub coordinate_norms: f64,
    /// Whether `mean_loss` is over a sample of the rounds only.
    pub sampled: bool,
}

impl UnitRecord {
    /// Takes in `|W^n - W^1|^2` and `|g_n|^2` of a round.
    fn take_in(&mut self, moved: f64, gradient: f64) {
        self.displacement = self.displacement.max(moved.sqrt());
        self.gradient_bound = self.gradient_bound.max(gradient.sqrt());
        self.gradient_squares += gradient;
    }
}

impl Record for UnitRecord {
    fn persist(records: &mut [Self], store: &mut Store) -> Result<(), StoreError> {
        store.column("rounds", records, |record| &mut record.rounds)?;
        store.column("analysed", records, |record| &mut record.analysed)?;
        store.column("mean_loss", records, |record| &mut record.mean_loss)?;
        store.column("displacement", records, |record| &mut record.displacement)?;
        store.column("gradient_bound", records, |record| &mut record.gradient_bound)?;
        store.column("gradient_squares", records, |record| &mut record.gradient_squares)?;
        store.column("largest_displacement", records, |record| &mut record.largest_displacement)?;
        store.column("coordinate_norms", records, |record| &mut record.coordinate_norms)?;
        store.column("sampled", records, |record| &mut record.sampled)
    }
}

/// A first pass over a run: how far every neuron goes, so that its ball is the same for all prefixes (`docs/theory.md`, section 3).
pub struct Displacements<T> {
    network: Network,
    initial: Vec<T>,
    /// `max_n |W^n - W^1|` of the neurons of all blocks, in order.
    neurons: Vec<f64>,
}

impl<T: Real> Displacements<T> {
    pub fn new(network: &Network) -> Self {
        let neurons = network.blocks().iter().map(|b| b.units).sum();
        Self { network: network.clone(), initial: Vec::new(), neurons: vec![0.0; neurons] }
    }

    /// `max_n |W^n - W^1|` of the neurons of all blocks, in order, over the rounds that were seen.
    pub fn into_neurons(self) -> Vec<f64> {
        self.neurons
    }
}

impl<T: Real> Observer<T> for Displacements<T> {
    fn observe(&mut self, round: &Round<T>) {
        if self.initial.is_empty() {
            self.initial = round.weights.to_vec();
        }
        let mut most = self.neurons.iter_mut();
        for block in self.network.blocks() {
            let weights = round.weights[block.range()].chunks_exact(block.width());
            let initial = self.initial[block.range()].chunks_exact(block.width());
            for ((w, start), most) in weights.zip(initial).zip(&mut most) {
                let moved = crate::num::vectorized(
                    #[inline(always)]
                    || sum_of_squared_differences(w, start),
                );
                *most = most.max(moved.sqrt());
            }
        }
    }
}

/// Watches every neuron, layer and the network, and records them at the given prefixes.
pub struct UnitTracker<T> {
    network: Network,
    prefixes: BTreeSet<usize>,
    initial: Vec<T>,
    loss_sum: f64,
    /// Neurons of all blocks in order, then the blocks, then the network.
    units: Vec<UnitRecord>,
    records: BTreeMap<usize, Vec<UnitRecord>>,
    rounds: usize,
    /// Per weight, if coordinates are tracked.
    coordinates: Option<Coordinates>,
}

/// What the AdaGrad bound needs of every weight.
struct Coordinates {
    /// `max_n |W^n_j - W^1_j|`.
    displacement: Vec<f64>,
    /// `sum_n g_nj^2`.
    gradient_squares: Vec<f64>,
}

impl<T: Real> UnitTracker<T> {
    pub fn new(network: &Network, prefixes: impl IntoIterator<Item = usize>) -> Self {
        let neurons: usize = network.blocks().iter().map(|b| b.units).sum();
        Self {
            network: network.clone(),
            prefixes: prefixes.into_iter().collect(),
            initial: Vec::new(),
            loss_sum: 0.0,
            units: vec![UnitRecord::default(); neurons + network.blocks().len() + 1],
            records: BTreeMap::new(),
            rounds: 0,
            coordinates: None,
        }
    }

    /// Also tracks every weight by itself, for the bound of AdaGrad.
    pub fn with_coordinates(mut self) -> Self {
        let zeros = vec![0.0; self.network.parameters()];
        self.coordinates = Some(Coordinates { displacement: zeros.clone(), gradient_squares: zeros });
        self
    }

    /// The record of a unit for a prefix that was asked for and reached (or the last round).
    pub fn record(&self, unit: UnitId, rounds: usize) -> Option<UnitRecord> {
        self.records.get(&rounds).map(|all| all[self.index(unit)])
    }

    /// The position of a neuron among the neurons of all blocks.
    pub fn neuron(&self, unit: UnitId) -> usize {
        self.index(unit)
    }

    /// The largest recorded prefix.
    pub fn last(&self) -> usize {
        self.rounds
    }

    /// `W^1`, once a round was seen.
    pub fn initial(&self) -> &[T] {
        &self.initial
    }

    /// Records the current round as a prefix if it is not one already.
    pub fn record_now(&mut self) {
        if self.rounds > 0 {
            let (rounds, mean_loss) = (self.rounds, self.loss_sum / self.rounds as f64);
            let stamp = |unit: &UnitRecord| UnitRecord { rounds, analysed: rounds, mean_loss, ..*unit };
            let mut units: Vec<UnitRecord> = self.units.iter().map(stamp).collect();
            if let Some(coordinates) = &self.coordinates {
                coordinates.summarize(&self.network, &mut units);
            }
            self.records.entry(rounds).or_insert(units);
        }
    }

    fn index(&self, unit: UnitId) -> usize {
        let blocks = self.network.blocks();
        let block = unit.layer.map(|layer| blocks.iter().position(|b| b.layer == layer).expect("a dense layer"));
        let neurons = |upto: usize| blocks[..upto].iter().map(|b| b.units).sum::<usize>();
        match (unit.scale, block) {
            (Scale::Neuron, Some(b)) => neurons(b) + unit.neuron.expect("a neuron has an index"),
            (Scale::Layer, Some(b)) => neurons(blocks.len()) + b,
            _ => self.units.len() - 1,
        }
    }

    /// Takes in the squared displacements and gradient norms of all units in a round.
    fn take_in(&mut self, round: &Round<T>) {
        let blocks = self.network.blocks();
        let neurons = self.units.len() - blocks.len() - 1;
        let (mut at, mut network_moved, mut network_gradient) = (0, 0.0, 0.0);
        for (b, block) in blocks.iter().enumerate() {
            let (mut layer_moved, mut layer_gradient) = (0.0, 0.0);
            let weights = round.weights[block.range()].chunks_exact(block.width());
            let initial = self.initial[block.range()].chunks_exact(block.width());
            let gradients = round.gradient[block.range()].chunks_exact(block.width());
            for ((w, start), g) in weights.zip(initial).zip(gradients) {
                let (moved, gradient) = crate::num::vectorized(
                    #[inline(always)]
                    || (sum_of_squared_differences(w, start), sum_of_squares(g)),
                );
                self.units[at].take_in(moved, gradient);
                layer_moved += moved;
                layer_gradient += gradient;
                at += 1;
            }
            self.units[neurons + b].take_in(layer_moved, layer_gradient);
            network_moved += layer_moved;
            network_gradient += layer_gradient;
        }
        let last = self.units.len() - 1;
        self.units[last].take_in(network_moved, network_gradient);
    }
}

impl Coordinates {
    fn observe<T: Real>(&mut self, weights: &[T], initial: &[T], gradient: &[T]) {
        for (most, (w, start)) in self.displacement.iter_mut().zip(weights.iter().zip(initial)) {
            *most = most.max((w.to_f64() - start.to_f64()).abs());
        }
        for (sum, g) in self.gradient_squares.iter_mut().zip(gradient) {
            *sum += g.to_f64() * g.to_f64();
        }
    }

    /// Fills in the units' summaries: neurons of all blocks, then the blocks, then the network.
    fn summarize(&self, network: &Network, units: &mut [UnitRecord]) {
        let neurons = units.len() - network.blocks().len() - 1;
        let (mut at, mut all) = (0, (0.0_f64, 0.0));
        for (b, block) in network.blocks().iter().enumerate() {
            let mut layer = (0.0_f64, 0.0);
            for neuron in 0..block.units {
                let range = block.neuron(neuron);
                let largest = self.displacement[range.clone()].iter().fold(0.0, |m: f64, d| m.max(*d));
                let norms: f64 = self.gradient_squares[range].iter().map(|sum| sum.sqrt()).sum();
                (units[at].largest_displacement, units[at].coordinate_norms) = (largest, norms);
                layer = (layer.0.max(largest), layer.1 + norms);
                at += 1;
            }
            (units[neurons + b].largest_displacement, units[neurons + b].coordinate_norms) = layer;
            all = (all.0.max(layer.0), all.1 + layer.1);
        }
        let last = units.len() - 1;
        (units[last].largest_displacement, units[last].coordinate_norms) = all;
    }
}

impl<T: Real> Observer<T> for UnitTracker<T> {
    fn observe(&mut self, round: &Round<T>) {
        if self.initial.is_empty() {
            self.initial = round.weights.to_vec();
        }
        self.rounds = round.number;
        if let Some(coordinates) = &mut self.coordinates {
            coordinates.observe(round.weights, &self.initial, round.gradient);
        }
        self.loss_sum += round.loss;
        self.take_in(round);
        if self.prefixes.contains(&round.number) {
            self.record_now();
        }
    }

    fn finish(&mut self, _final_weights: &[T], _rounds: usize) {
        self.record_now();
    }
}

impl<T: Real> Persist for UnitTracker<T> {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.list("initial", &mut self.initial)?;
        store.number("loss_sum", &mut self.loss_sum)?;
        store.count("rounds", &mut self.rounds)?;
        let weights = if self.rounds == 0 { 0 } else { self.network.parameters() };
        if self.initial.len() != weights {
            return Err(store.malformed("initial", "does not fit the network"));
        }
        store.records("units", &mut self.units)?;
        let mut recorded: Vec<usize> = self.records.keys().copied().collect();
        store.counts("recorded", &mut recorded)?;
        if store.is_reading() {
            let blank = || vec![UnitRecord::default(); self.units.len()];
            self.records = recorded.into_iter().map(|rounds| (rounds, blank())).collect();
        }
        store.part("records", |store| {
            let mut records = self.records.iter_mut();
            records.try_for_each(|(rounds, units)| store.records(&rounds.to_string(), units))
        })?;
        let Some(coordinates) = &mut self.coordinates else { return Ok(()) };
        store.values("coordinates.displacement", &mut coordinates.displacement)?;
        store.values("coordinates.gradient_squares", &mut coordinates.gradient_squares)
    }
}
