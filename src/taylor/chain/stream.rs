//! Taylor optima at neuron scale under the mean squared error, in closed form while training runs.
//!
//! The Taylor loss of a neuron is a quadratic in one number per datapoint,
//! `T(v) = l + d s + q s^2 / 2` with `s = <v - w^n, x>`, so a prefix needs only `H = sum q x x'`, `c = sum (d - q <w^n - w^1, x>) x` and a
//! scalar (`docs/theory.md`, section 4). [`NeuronStream`] accumulates them; nothing else is kept.

use crate::{
    checkpoint::{Persist, Store, StoreError},
    kernels::{
        View,
        dense::{affine, append_inputs},
        gram::{GramScratch, WeightedGram},
        matmul,
    },
    loss::Loss,
    network::{Block, Network},
    num::{Real, convert_into},
    passes::{Point, curvature_factors},
    taylor::{
        result::UnitResult,
        room::gathered_rows,
        settings::{ClosedForm, RegretSettings},
        solve::{Hessian, Quadratic},
        tracker::UnitRecord,
        unit::{Comparator, UnitId},
    },
    train::{Observer, Part, Round},
};
use rayon::prelude::*;

/// Rows gathered before they are added to the Gram matrices; fewer would reload the sums too often.
const BUFFER_ROWS: usize = 4096;
/// Pieces of a layer's linear terms that are added side by side; fixed, so that the bits do not depend on the threads.
const LINEAR_PIECES: usize = 4;

/// Accumulates the closed form of every selected neuron during training (mean squared error).
pub struct NeuronStream<T> {
    network: Network,
    loss: Loss,
    layers: Vec<LayerSums<T>>,
    initial: Vec<T>,
    /// Rows of a round whose datapoints have weight 1.
    batch: usize,
    /// Rows that are gathered before they are added.
    gathered: usize,
    buffered: usize,
    loss_sum: f64,
    rounds: usize,
    scratch: GramScratch<T>,
    /// The buffered inputs and `e` of a layer in `f64`.
    wide_x: Vec<f64>,
    wide_e: Vec<f64>,
}

/// The sums of one layer, and rows waiting to be added.
struct LayerSums<T> {
    selected: Vec<usize>,
    /// One plane per selected neuron, or a single one when the curvature is the same for all (the output layer).
    gram: WeightedGram,
    /// `[selected, width]`.
    linear: Vec<f64>,
    /// Per selected neuron, without the losses.
    constant: Vec<f64>,
    /// Waiting rows: inputs, `q` and `e = d - q s0`.
    x: Vec<T>,
    q: Vec<T>,
    e: Vec<T>,
    /// Multipliers at which the last prefix was solved, per selected neuron and comparator.
    warm: Vec<[Option<f64>; 2]>,
}

/// One part of a minibatch, for one layer: `q` and `e = d - q s0` as `[rows, selected]`, and the constants.
struct PartSums<T> {
    q: Vec<T>,
    e: Vec<T>,
    constant: Vec<f64>,
}

impl<T: Real> NeuronStream<T> {
    /// Sums are those of rounds of `batch` rows: the datapoints of others weigh more or less, as every round counts the same.
    pub fn new(network: &Network, loss: Loss, settings: &RegretSettings, batch: usize) -> Self {
        assert!(loss.is_quadratic(), "the closed form needs a loss that is quadratic in the output");
        let last = network.output_index();
        let layers = network.blocks().iter().enumerate().map(|(l, block)| {
            let selected = settings.selected(block.units);
            let planes = if l == last { 1 } else { selected.len() };
            LayerSums {
                gram: WeightedGram::new(block.width(), planes),
                linear: vec![0.0; selected.len() * block.width()],
                constant: vec![0.0; selected.len()],
                x: Vec::new(),
                q: Vec::new(),
                e: Vec::new(),
                warm: vec![[None; 2]; selected.len()],
                selected,
            }
        });
        let layers = layers.collect();
        let (network, initial) = (network.clone(), Vec::new());
        Self {
            network,
            loss,
            layers,
            initial,
            batch,
            gathered: BUFFER_ROWS,
            buffered: 0,
            loss_sum: 0.0,
            rounds: 0,
            scratch: GramScratch::default(),
            wide_x: Vec::new(),
            wide_e: Vec::new(),
        }
    }

    /// Gathers as many rows at a time as fit in a share of `memory` bytes.
    pub fn within(self, settings: &RegretSettings, memory: usize) -> Self {
        let gathered = gathered_rows::<T>(&self.network, settings, memory, BUFFER_ROWS);
        Self { gathered, ..self }
    }

    /// Rounds accumulated.
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// Computes `q`, `e` and the constants of a part for every layer.
    fn part_sums(&self, round: &Round<T>, part: &Part<T>) -> Vec<PartSums<T>> {
        let rows = part.tape.rows;
        let blocks = self.network.blocks();
        let curvature = self.curvatures(round, part);
        let moved: Vec<T> = round.weights.iter().zip(&self.initial).map(|(w, start)| *w - *start).collect();
        let batch = self.batch as f64;
        // `d` is divided by the datapoints of this minibatch.
        let weights = [batch, batch / round.rows.len() as f64].map(T::from_f64);
        let layers = blocks.iter().enumerate().zip(&self.layers);
        layers
            .map(|((l, block), layer)| {
                // `s0 = <w^n - w^1, x>`
                let mut s0 = vec![T::ZERO; rows * block.units];
                affine(block, &moved, part.tape.input(block, &part.x), rows, &mut s0, false);
                layer.part_sums(block.units, [part.delta(block), &curvature[l], &s0], weights)
            })
            .collect()
    }

    /// `q: [rows, units]` of every layer.
    fn curvatures(&self, round: &Round<T>, part: &Part<T>) -> Vec<Vec<T>> {
        let (rows, blocks) = (part.tape.rows, self.network.blocks());
        let mut curvature: Vec<Vec<T>> = vec![Vec::new(); blocks.len()];
        let mut storage = Vec::new();
        let top = self.loss.hessian_factor(&part.tape.output, self.network.outputs(), &mut storage);
        let at = Point { network: &self.network, weights: round.weights, x: &part.x, tape: &part.tape };
        curvature_factors(&at, top, 0, true, |l, factor| {
            crate::num::vectorized(
                #[inline(always)]
                || factor.diagonal(rows, blocks[l].units, &mut curvature[l]),
            );
        });
        curvature
    }

    /// Adds the buffered rows to the sums.
    fn flush(&mut self) {
        let rows = std::mem::take(&mut self.buffered);
        if rows == 0 {
            return;
        }
        for layer in &mut self.layers {
            layer.gram.accumulate(&layer.x, &layer.q, rows, &mut self.scratch);
            let (width, count) = (layer.gram.width(), layer.selected.len());
            let (x, e) = (&mut self.wide_x, &mut self.wide_e);
            rayon::join(|| convert_into(&layer.x, x), || convert_into(&layer.e, e));
            let (x, e) = (&x[..], &e[..]);
            let share = count.div_ceil(LINEAR_PIECES).max(1);
            layer.linear.par_chunks_mut(share * width).enumerate().for_each(|(s, out)| {
                let neurons = out.len() / width;
                let e = View::strided(&e[s * share..], rows, neurons, count);
                matmul(out, width, e.t(), View::new(x, rows, width), true);
            });
            layer.x.clear();
            layer.q.clear();
            layer.e.clear();
        }
    }

    /// Optima of all selected neurons over the rounds so far, of which `record` tells.
    pub fn solve(
        &mut self,
        settings: &RegretSettings,
        record: &(dyn Fn(UnitId) -> UnitRecord + Sync),
    ) -> Vec<UnitResult> {
        self.flush();
        let prefix = Prefix {
            scale: 1.0 / (self.rounds * self.batch) as f64,
            mean_loss: self.loss_sum / self.rounds as f64,
            comparators: settings.comparators.of(ClosedForm::Yes),
            settings,
            record,
        };
        let layers = self.network.blocks().iter().zip(&mut self.layers);
        layers.flat_map(|(block, layer)| layer.solve(block, &prefix)).collect()
    }
}

/// What the optima of a prefix are solved with.
struct Prefix<'a> {
    /// One divided by the datapoints, weighted.
    scale: f64,
    mean_loss: f64,
    comparators: Vec<Comparator>,
    settings: &'a RegretSettings,
    record: &'a (dyn Fn(UnitId) -> UnitRecord + Sync),
}

/// A neuron with its linear term and its constant, summed, and the multipliers at which its last prefix was solved.
struct Neuron<'a> {
    unit: UnitId,
    linear: &'a [f64],
    constant: f64,
    warm: &'a mut [Option<f64>; 2],
}

impl Neuron<'_> {
    /// The optima for all comparators.
    fn solve(&mut self, hessian: &Hessian, prefix: &Prefix) -> Vec<UnitResult> {
        let Prefix { scale, mean_loss, comparators, settings, record } = prefix;
        let record = record(self.unit);
        let linear: Vec<f64> = self.linear.iter().map(|v| v * scale).collect();
        let quadratic = Quadratic { hessian, linear: &linear, constant: mean_loss + self.constant * scale };
        let tolerance = settings.neuron_tolerance * mean_loss;
        let solve = |(comparator, warm): (&Comparator, &mut Option<f64>)| {
            let comparison = settings.comparison(*comparator, record.displacement);
            let (optimum, multiplier) = quadratic.minimize(comparison, tolerance, *warm);
            *warm = Some(multiplier);
            UnitResult::new(self.unit, *comparator, linear.len(), record, &optimum)
        };
        comparators.iter().zip(self.warm.iter_mut()).map(solve).collect()
    }
}

impl<T: Real> LayerSums<T> {
    /// `q`, `e` and the constants of some rows, of which `d`, `q` and `s0` are given, `[rows, units]`; `d` and `q` are multiplied by these
    /// weights.
    fn part_sums(&self, units: usize, [d, q, s0]: [&[T]; 3], [of_d, of_q]: [T; 2]) -> PartSums<T> {
        let (rows, count) = (d.len() / units, self.selected.len());
        let mut sums = PartSums {
            q: Vec::with_capacity(rows * count),
            e: Vec::with_capacity(rows * count),
            constant: vec![0.0; count],
        };
        for i in 0..rows {
            for (a, constant) in self.selected.iter().zip(&mut sums.constant) {
                let at = i * units + a;
                let (d, q, s) = (d[at] * of_d, q[at] * of_q, s0[at]);
                *constant += (T::from_f64(0.5) * q * s - d).to_f64() * s.to_f64();
                sums.e.push(d - q * s);
                sums.q.push(q);
            }
        }
        if self.gram.planes() == 1 && count != 1 {
            sums.q = sums.q.iter().step_by(count.max(1)).copied().collect();
        }
        sums
    }

    /// Optima of all selected neurons.
    fn solve(&mut self, block: &Block, prefix: &Prefix) -> Vec<UnitResult> {
        let Self { selected, gram, linear, constant, warm, .. } = self;
        let shared = gram.planes() == 1;
        // As many neurons at a time as keep all threads busy: their matrices are still in the cache when they are solved.
        let together = if shared { usize::MAX } else { WeightedGram::TOGETHER * rayon::current_num_threads() };
        let sums = linear.chunks_exact(block.width()).zip(constant).zip(warm);
        let mut neurons: Vec<Neuron> = selected
            .iter()
            .zip(sums)
            .map(|(neuron, ((linear, constant), warm))| {
                let unit = UnitId::neuron(block.layer, *neuron);
                Neuron { unit, linear, constant: *constant, warm }
            })
            .collect();
        let mut results = Vec::new();
        for (part, neurons) in neurons.chunks_mut(together).enumerate() {
            let planes = if shared { 0..1 } else { part * together..part * together + neurons.len() };
            let hessians: Vec<Hessian> =
                gram.matrices_of(planes, prefix.scale).into_par_iter().map(Hessian::new).collect();
            let solve = |(p, neuron): (usize, &mut Neuron)| neuron.solve(&hessians[if shared { 0 } else { p }], prefix);
            let solved: Vec<Vec<UnitResult>> = neurons.par_iter_mut().enumerate().map(solve).collect();
            results.extend(solved.into_iter().flatten());
        }
        results
    }

    /// `buffered` rows are waiting. They are kept as they are: adding them earlier would round the sums differently.
    fn persist(&mut self, store: &mut Store, buffered: usize) -> Result<(), StoreError> {
        store.values("sums", self.gram.sums_mut())?;
        store.values("linear", &mut self.linear)?;
        store.values("constant", &mut self.constant)?;
        let widths = [self.gram.width(), self.gram.planes(), self.selected.len()];
        for ((name, buffer), width) in
            [("x", &mut self.x), ("q", &mut self.q), ("e", &mut self.e)].into_iter().zip(widths)
        {
            store.list(name, buffer)?;
            if Some(buffer.len()) != buffered.checked_mul(width) {
                return Err(store.malformed(name, format!("does not have {buffered} rows of {width} values")));
            }
        }
        store.fields("warm", self.warm.as_flattened_mut())
    }
}

impl<T: Real> Observer<T> for NeuronStream<T> {
    fn observe(&mut self, round: &Round<T>) {
        if self.initial.is_empty() {
            self.initial = round.weights.to_vec();
        }
        self.rounds = round.number;
        self.loss_sum += round.loss;
        let this = &*self;
        let parts: Vec<Vec<PartSums<T>>> =
            round.parts.par_iter().with_max_len(1).map(|part| this.part_sums(round, part)).collect();
        for (part, sums) in round.parts.iter().zip(parts) {
            for ((l, layer), sums) in self.layers.iter_mut().enumerate().zip(sums) {
                let block = &self.network.blocks()[l];
                append_inputs(block, part.tape.input(block, &part.x), &mut layer.x);
                layer.q.extend_from_slice(&sums.q);
                layer.e.extend_from_slice(&sums.e);
                layer.constant.iter_mut().zip(&sums.constant).for_each(|(all, part)| *all += part);
            }
            self.buffered += part.tape.rows;
        }
        if self.buffered >= self.gathered {
            self.flush();
        }
    }
}

impl<T: Real> Persist for NeuronStream<T> {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.list("initial", &mut self.initial)?;
        store.count("rounds", &mut self.rounds)?;
        store.count("buffered", &mut self.buffered)?;
        store.number("loss_sum", &mut self.loss_sum)?;
        let weights = if self.rounds == 0 { 0 } else { self.network.parameters() };
        if self.initial.len() != weights {
            return Err(store.malformed("initial", "does not fit the network"));
        }
        for (l, layer) in self.layers.iter_mut().enumerate() {
            store.part(&l.to_string(), |store| layer.persist(store, self.buffered))?;
        }
        Ok(())
    }
}
