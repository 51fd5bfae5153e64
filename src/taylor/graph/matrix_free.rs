//! Taylor optima of networks with convolutions, at all scales, matrix-free.
//!
//! The objective of the network, of a layer or of a neuron is the same mean of Taylor losses, with other weights moving; products with its
//! curvature are passes over the rounds ([`super::sample`]). The preconditioner of a convolution is the Kronecker product of the mean over
//! positions of the curvature in a pre-activation and the sum over positions of `x x'` over patches (Grosse and Martens 2016, "A Kronecker-factored
//! approximate Fisher matrix for convolution layers", section 3).
//!
//! At neuron scale the derivative of the outputs in the few weights that move is kept instead ([`super::gradients`]) if it fits in the
//! memory given; products are then much cheaper.

use super::{
    gradients::{Gradients, NeuronObjective},
    sample::{Expansion, KeptSample, Moving, Sample, Shard},
};
use crate::{
    kernels::{
        Real, View,
        conv::{self, Scratch},
        dense::append_inputs,
        gate::pull,
        matmul,
        passes::pull_cotangents,
        real::convert,
    },
    network::Block,
    taylor::{
        Optimum,
        objective::{Direction, Objective, PrefixCursor, PrefixObjective},
        precondition::{KroneckerFactors, solve_blocks},
        prefixes::{self, Effort, optima},
        result::{UnitResult, unit_results},
        room::{basis_bytes, basis_within, least_search_bytes, whole_basis},
        settings::{ClosedForm, RegretSettings},
        strategy::LayerStrategy,
        tracker::UnitRecord,
        unit::{Comparator, Scale, UnitId},
        work::{Halted, Work},
    },
};
use rayon::prelude::*;
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// Products that a neuron's search may take, as a multiple of a layer's: each is much cheaper.
const NEURON_PRODUCTS: usize = 8;

/// The objective of what moves, over a prefix of the sampled rounds.
struct PassObjective<'a, T> {
    sample: &'a KeptSample<'a, T>,
    moving: Moving,
    preconditioners: &'a [KroneckerFactors],
    cursor: PrefixCursor,
    /// The outputs at which the Hessian of the loss is taken.
    moved: Vec<f32>,
    /// The last point that was evaluated and the outputs there: curvature is asked for where the value has just been.
    last: Mutex<(Vec<f64>, Vec<f64>)>,
}

impl<T: Real> PrefixObjective for PassObjective<'_, T> {
    fn cursor(&mut self) -> &mut PrefixCursor {
        &mut self.cursor
    }
}

impl<T: Real> Objective for PassObjective<'_, T> {
    fn dimension(&self) -> usize {
        self.moving.span.len()
    }

    fn is_quadratic(&self) -> bool {
        self.sample.sample.loss.is_quadratic()
    }

    fn rounds(&self) -> usize {
        self.cursor.rounds()
    }

    fn evaluate(&self, u: &[f64]) -> (f64, Vec<f64>) {
        let Expansion { value, gradient, outputs } = self.sample.expand(self.rounds(), &self.moving, u);
        if !self.is_quadratic() {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = (u.to_vec(), outputs);
        }
        (value, gradient)
    }

    fn linearize(&mut self, u: &[f64]) {
        if self.is_quadratic() {
            return;
        }
        let known = self.last.get_mut().unwrap_or_else(PoisonError::into_inner);
        let current = known.0 == u && known.1.len() == self.cursor.rounds() * self.sample.outputs_per_round();
        self.moved = match current {
            true => convert(&known.1),
            false => convert(&self.sample.expand(self.rounds(), &self.moving, u).outputs),
        };
    }

    fn ggn_products(&self, from: usize, directions: &[&[f32]]) -> Vec<Vec<f32>> {
        let product = |direction: &&[f32]| {
            self.sample.product(from..self.rounds(), &self.moving, direction, &self.moved, self.cursor.scale())
        };
        directions.iter().map(product).collect()
    }

    fn precondition(&self, multiplier: f64, residual: &[f64]) -> Direction {
        let blocks = &self.sample.sample.network.blocks()[self.moving.blocks.clone()];
        if let [block] = blocks
            && self.moving.span != block.range()
        {
            return self.preconditioners[self.moving.blocks.start].solve_row(multiplier, residual).into();
        }
        let blocks = self.preconditioners[self.moving.blocks.clone()].iter();
        solve_blocks(blocks, residual, |block, r| block.solve(multiplier, r)).into()
    }
}

/// Datapoints that preconditioners are estimated from, at most.
const ESTIMATED: usize = 256;

/// Sums over datapoints for one block's preconditioner.
struct Moments {
    /// `[units, units]`, of the curvature in the pre-activations, over datapoints and positions.
    m: Vec<f64>,
    /// `[width, width]`, of inputs with the constant 1 of the bias.
    x: Vec<f64>,
}

/// The Kronecker factors of every block, estimated from evenly spread shards of the sample.
fn preconditioners<T: Real>(sample: &Sample<T>, stop: &AtomicBool) -> Option<Vec<KroneckerFactors>> {
    let stopped = || stop.load(Ordering::Relaxed);
    let blocks = sample.network.blocks();
    let all = sample.rounds() * sample.shards();
    let count = (ESTIMATED * sample.shards()).div_ceil(sample.batch).clamp(1, all);
    let chosen: Vec<usize> = (0..count).map(|i| i * all / count).collect();
    let zero = |block: &Block| Moments {
        m: vec![0.0; block.units * block.units],
        x: vec![0.0; block.width() * block.width()],
    };
    let mut sums: Vec<Moments> = blocks.iter().map(zero).collect();
    let mut rows = 0;
    // A few at a time, so that their squares need not be held all at once.
    for some in chosen.chunks(4) {
        if stopped() {
            return None;
        }
        let parts: Vec<(usize, Vec<Moments>)> = some
            .par_iter()
            .with_max_len(1)
            .map(|at| {
                let (round, shard) = (at / sample.shards(), at % sample.shards());
                let mut moments: Vec<Moments> = blocks.iter().map(zero).collect();
                (add_moments(sample, round, shard, &mut moments), moments)
            })
            .collect();
        for (count, part) in parts {
            rows += count;
            for (sum, part) in sums.iter_mut().zip(&part) {
                sum.m.iter_mut().zip(&part.m).for_each(|(a, b)| *a += b);
                sum.x.iter_mut().zip(&part.x).for_each(|(a, b)| *a += b);
            }
        }
    }
    let scale = 1.0 / rows as f64;
    let factors = |(block, sum): (&Block, &Moments)| {
        let share = scale / block.positions() as f64;
        KroneckerFactors::new((&sum.m, share), block.units, (&sum.x, scale), block.width())
    };
    blocks.iter().zip(&sums).map(|block| (!stopped()).then(|| factors(block))).collect()
}

/// Adds a shard to the moments of all blocks; returns its number of datapoints.
fn add_moments<T: Real>(sample: &Sample<T>, round: usize, shard: usize, moments: &mut [Moments]) -> usize {
    let network = sample.network;
    let mut scratch = Scratch::default();
    let weights: Vec<f32> = sample.weights(round);
    let Shard { x, tape } = sample.linearize(&weights, round, shard, &mut scratch);
    let (rows, outputs) = (tape.rows, network.outputs());
    let seeds = sample.loss.hessian_rows(&tape.output, outputs);
    pull_cotangents(network, &weights, &tape, seeds, outputs, 0, &mut scratch, |l, lines| {
        let block = &network.blocks()[l];
        let units = block.units;
        let mut sum = vec![0.0f32; units * units];
        if block.convolution().is_some() {
            let mut delta = vec![0.0; block.activations()];
            for (at, line) in lines.chunks_exact(block.features_out()).enumerate() {
                pull(block, tape.gate(l).row(at / outputs, block), line, &mut delta);
                let view = View::new(&delta, block.positions(), units);
                matmul(&mut sum, units, view.t(), view, true);
            }
        } else {
            let view = View::new(lines, rows * outputs, units);
            matmul(&mut sum, units, view.t(), view, true);
        }
        moments[l].m.iter_mut().zip(&sum).for_each(|(a, b)| *a += f64::from(*b));
    });
    for (l, (block, moments)) in network.blocks().iter().zip(moments).enumerate() {
        let width = block.width();
        let mut sum = vec![0.0f32; width * width];
        let mut seen = Vec::new();
        match block.convolution() {
            None => append_inputs(block, tape.input(l, &x), &mut seen),
            Some(c) => conv::each_patch(c, tape.input(l, &x), rows, &mut scratch, |patches| {
                append_inputs(block, patches, &mut seen);
            }),
        }
        for part in seen.chunks(width * 4096) {
            let view = View::new(part, part.len() / width, width);
            matmul(&mut sum, width, view.t(), view, true);
        }
        moments.x.iter_mut().zip(&sum).for_each(|(a, b)| *a += f64::from(*b));
    }
    rows
}

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
    /// Keeps of the linearized rounds what fits in about `memory` bytes, beside what searches take. `prefixes` are numbers of sampled
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
        let (network, preconditioners) = (sample.network, preconditioners(&sample, stop)?);
        let left = memory.saturating_sub(least_search_bytes(network, settings, sample.batch));
        let basis = basis_within(network, settings, left).min(whole_basis(settings.max_products));
        let memory = left.saturating_sub(basis_bytes(network, settings, basis));
        let kept = sample.keep_until(memory / 2, stop);
        (!kept.is_stopped()).then_some(Self { kept, preconditioners, prefixes, settings, memory, basis })
    }

    /// Seconds that a product with the curvature of all rounds takes, tried once.
    pub fn seconds_per_product(&self) -> f64 {
        let network = self.kept.sample.network;
        let moving = Moving { blocks: 0..network.blocks().len(), span: 0..network.parameters() };
        let rounds = self.kept.sample.rounds();
        let (direction, outputs) =
            (vec![1e-3; network.parameters()], vec![0.0; rounds * self.kept.outputs_per_round()]);
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
        let mut objective = PassObjective {
            sample: &self.kept,
            moving,
            preconditioners: &self.preconditioners,
            cursor: PrefixCursor::new(self.prefixes, self.kept.sample.batch),
            moved: Vec::new(),
            last: Mutex::default(),
        };
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
                let search = || {
                    let gradients = if at_once > 0 { Gradients::new(&self.kept, l, neurons) } else { Vec::new() };
                    let (mut gradients, mut results) = (gradients.into_iter(), Vec::new());
                    if self.kept.is_stopped() {
                        return results;
                    }
                    for neuron in neurons {
                        let unit = UnitId::neuron(block.layer, *neuron);
                        let record = &|n| record(unit, n);
                        let found = if let Some(gradients) = gradients.next() {
                            let mut objective =
                                NeuronObjective::new(sample, gradients, &self.preconditioners[l], self.prefixes);
                            optima(&mut objective, self.prefixes, (settings, ClosedForm::No), effort, record)
                        } else {
                            let moving = Moving { blocks: l..l + 1, span: block.neuron(*neuron) };
                            self.by_passes(moving, ClosedForm::No, effort, record)
                        };
                        results.extend(unit_results(unit, block.width(), found, record));
                    }
                    results
                };
                // How many are searched together decides how, and so what is found to the last bit.
                let name = format!("neurons of {} from {}, {at_once} together", block.layer, neurons[0]);
                results.extend(work.piece(name, search)?);
            }
        }
        Ok(results)
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
