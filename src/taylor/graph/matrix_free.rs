//! Taylor optima of any network, at all scales, by passes: matrix-free.
//!
//! At neuron scale the derivative of the outputs in the few weights that move is kept instead ([`super::gradients`]) if it fits in the
//! memory given; products are then much cheaper.

use super::{
    factors,
    gradients::{Gradients, NeuronObjective},
    objective::PassObjective,
    sample::{KeptSample, Moving, Sample},
};
use crate::{
    num::Real,
    taylor::{
        Optimum,
        precondition::KroneckerFactors,
        prefixes::{self, Effort, optima},
        result::{UnitResult, unit_results},
        room::{basis_bytes, basis_within, least_search_bytes, tangents, whole_basis},
        settings::{ClosedForm, RegretSettings},
        strategy::LayerStrategy,
        tracker::UnitRecord,
        unit::{Comparator, Scale, UnitId},
        work::{Halted, Work},
    },
};
use std::{sync::atomic::AtomicBool, time::Instant};

/// Products that a neuron's search may take, as a multiple of a layer's: each is much cheaper.
const NEURON_PRODUCTS: usize = 8;
/// Sampled rounds, ready to be searched at every scale.
pub struct MatrixFree<'a, T> {
    kept: KeptSample<'a, T>,
    preconditioners: Vec<KroneckerFactors>,
    prefixes: &'a [usize],
    settings: &'a RegretSettings,
    memory: usize,
    /// Vectors of a basis.
    basis: usize,
}

impl<'a, T: Real> MatrixFree<'a, T> {
    /// Keeps of the linearized rounds what fits in about `memory` bytes, apart from what searches take. `prefixes` are numbers of sampled
    /// rounds.
    pub fn new(sample: Sample<'a, T>, prefixes: &'a [usize], settings: &'a RegretSettings, memory: usize) -> Self {
        static NEVER: AtomicBool = AtomicBool::new(false);
        Self::until(sample, prefixes, settings, memory, &NEVER).expect("nobody stops it")
    }

    /// The same, or nothing once `stop` is set. What is found after that is of no use.
    pub fn until(
        sample: Sample<'a, T>,
        prefixes: &'a [usize],
        settings: &'a RegretSettings,
        memory: usize,
        stop: &'a AtomicBool,
    ) -> Option<Self> {
        let (network, preconditioners) = (sample.network, factors::estimate(&sample, stop)?);
        let tangents = tangents(network, sample.loss, sample.rows.rows().len());
        let left = memory.saturating_sub(least_search_bytes(network, settings, sample.rows.largest(), tangents));
        let basis = basis_within(network, settings, tangents, left).min(whole_basis(settings.max_products));
        let memory = left.saturating_sub(basis_bytes(network, settings, tangents, basis));
        let kept = sample.keep_until(memory / 2, stop);
        (!kept.is_stopped()).then_some(Self { kept, preconditioners, prefixes, settings, memory, basis })
    }

    /// Seconds that a product with the curvature of all rounds takes, tried once.
    pub fn seconds_per_product(&self) -> f64 {
        let network = self.kept.sample.network;
        let moving = Moving { blocks: 0..network.blocks().len(), span: 0..network.parameters() };
        let rounds = self.kept.sample.rounds();
        let (direction, outputs) = (vec![1e-3; network.parameters()], vec![0.0; self.kept.outputs(rounds)]);
        let start = Instant::now();
        self.kept.product(0..rounds, &moving, &direction, &outputs, 1.0);
        start.elapsed().as_secs_f64()
    }

    /// What the search of a scale tells `Work::tick` of.
    pub fn work_of(&self, scale: Scale) -> usize {
        let (settings, sample) = (self.settings, &self.kept.sample);
        let blocks = sample.network.blocks();
        let of = |max_products, form| prefixes::work(self.prefixes, max_products, settings.comparators.of(form).len());
        match scale {
            Scale::Network => of(settings.max_products, ClosedForm::No),
            Scale::Layer => {
                let layers = 0..blocks.len();
                layers
                    .map(|l| of(settings.max_products, LayerStrategy::of(sample.network, sample.loss, l).closed_form()))
                    .sum()
            }
            Scale::Neuron => {
                let neurons: usize = blocks.iter().map(|block| settings.selected(block.units).len()).sum();
                neurons * of(NEURON_PRODUCTS * settings.max_products, ClosedForm::No)
            }
        }
    }

    fn by_passes(
        &self,
        moving: Moving,
        form: ClosedForm,
        effort: Effort<'_>,
        record: &dyn Fn(usize) -> UnitRecord,
    ) -> Vec<(Comparator, usize, Optimum)> {
        let mut objective = PassObjective::new(&self.kept, moving, &self.preconditioners, self.prefixes);
        optima(&mut objective, self.prefixes, (self.settings, form), effort, record)
    }

    /// Optima of the selected neurons of every layer, those that are searched together a piece of `work`.
    pub fn neurons(
        &self,
        record: &dyn Fn(UnitId, usize) -> UnitRecord,
        work: &mut Work,
    ) -> Result<Vec<UnitResult>, Halted> {
        let (sample, settings) = (&self.kept.sample, self.settings);
        let max_products = NEURON_PRODUCTS * settings.max_products;
        let effort = Effort { tolerance: settings.neuron_tolerance, max_products, ..self.effort(work) };
        let mut results = Vec::new();
        for (l, block) in sample.network.blocks().iter().enumerate() {
            let selected = settings.selected(block.units);
            let at_once = (self.memory / 2 / Gradients::bytes(sample, l).max(1)).min(selected.len());
            for neurons in selected.chunks(at_once.max(1)) {
                // How many are searched together decides how, and so what is found to the last bit.
                let name = format!("neurons of {} from {}, {at_once} together", block.layer, neurons[0]);
                let search = || self.neurons_together(l, neurons, at_once > 0, effort, record);
                results.extend(work.piece(name, search)?);
            }
        }
        Ok(results)
    }

    /// Optima of some neurons of block `l`, with the derivatives of the outputs in their weights kept if they `fit`.
    fn neurons_together(
        &self,
        l: usize,
        neurons: &[usize],
        fit: bool,
        effort: Effort<'_>,
        record: &dyn Fn(UnitId, usize) -> UnitRecord,
    ) -> Vec<UnitResult> {
        let (sample, settings) = (&self.kept.sample, self.settings);
        let block = &sample.network.blocks()[l];
        let gradients = if fit { Gradients::new(&self.kept, l, neurons) } else { Vec::new() };
        let (mut gradients, mut results) = (gradients.into_iter(), Vec::new());
        if self.kept.is_stopped() {
            return results;
        }
        for neuron in neurons {
            let unit = UnitId::neuron(block.layer, *neuron);
            let record = &|n| record(unit, n);
            let found = if let Some(gradients) = gradients.next() {
                let mut objective = NeuronObjective::new(sample, gradients, &self.preconditioners[l], self.prefixes);
                optima(&mut objective, self.prefixes, (settings, ClosedForm::No), effort, record)
            } else {
                let moving = Moving { blocks: l..l + 1, span: block.neuron(*neuron) };
                self.by_passes(moving, ClosedForm::No, effort, record)
            };
            results.extend(unit_results(unit, block.width(), found, record));
        }
        results
    }

    /// Optima of every layer, each a piece of `work`.
    pub fn layers(
        &self,
        record: &dyn Fn(UnitId, usize) -> UnitRecord,
        work: &mut Work,
    ) -> Result<Vec<UnitResult>, Halted> {
        let (mut results, effort) = (Vec::new(), self.effort(work));
        for (l, block) in self.kept.sample.network.blocks().iter().enumerate() {
            let unit = UnitId::layer(block.layer);
            let moving = Moving { blocks: l..l + 1, span: block.range() };
            let record = &|n| record(unit, n);
            // The same rows, whatever fits in memory.
            let form = LayerStrategy::of(self.kept.sample.network, self.kept.sample.loss, l).closed_form();
            let search = || {
                let found = self.by_passes(moving, form, effort, record);
                unit_results(unit, block.range().len(), found, record)
            };
            results.extend(work.piece(format!("layer {}", block.layer), search)?);
        }
        Ok(results)
    }

    /// Optima of the network, a single piece of `work`.
    pub fn network(
        &self,
        record: &dyn Fn(UnitId, usize) -> UnitRecord,
        work: &mut Work,
    ) -> Result<Vec<UnitResult>, Halted> {
        let network = self.kept.sample.network;
        let unit = UnitId::NETWORK;
        let moving = Moving { blocks: 0..network.blocks().len(), span: 0..network.parameters() };
        let effort = self.effort(work);
        let record = &|n| record(unit, n);
        work.piece("network", || {
            let found = self.by_passes(moving, ClosedForm::No, effort, record);
            unit_results(unit, network.parameters(), found, record)
        })
    }

    fn effort<'b>(&self, work: &Work<'b>) -> Effort<'b> {
        let (tolerance, max_products) = (self.settings.tolerance, self.settings.max_products);
        Effort { tolerance, max_products, basis: self.basis, stop: work.stop(), tick: work.tick() }
    }
}
