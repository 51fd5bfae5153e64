//! Taylor optima at neuron scale.
//!
//! For the mean squared error the Taylor loss of a neuron is a quadratic in one number per datapoint,
//! `T(v) = l + d s + q s^2 / 2` with `s = <v - w^n, x>`, so a prefix needs only `H = sum q x x'`, `c = sum (d - q <w^n - w^1, x>) x` and a
//! scalar (`docs/theory.md`, section 4). [`NeuronStream`] accumulates them while training runs; nothing else is kept.
//!
//! For cross-entropy the Taylor losses are not quadratic; [`optima`] takes Newton steps over a [`Window`], each of
//! which is a problem of the same form, solved for all neurons of a layer at once.

use super::{
    Comparison, Optimum, StopReason,
    certificate::Certificate,
    regret::{ClosedForm, RegretSettings, UnitResult},
    room::gathered_rows,
    solve::{Hessian, Quadratic},
    unit::UnitId,
    units::UnitRecord,
    window::Window,
    work::{Halted, Work},
};
use crate::{
    checkpoint::{Persist, Store, StoreError},
    kernels::{
        Real, View,
        dense::{Factor, affine, append_inputs, curvature_factors},
        gram::{GramScratch, WeightedGram},
        matmul,
        real::{convert_into, dot},
    },
    loss::Loss,
    network::{Block, Network},
    train::{Observer, Part, Round},
};
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rows gathered before they are added to the Gram matrices; fewer would reload the sums too often.
const BUFFER_ROWS: usize = 4096;

/// The identity of a neuron of a block.
fn unit(block: &Block, neuron: usize) -> UnitId {
    UnitId::neuron(block.layer, neuron)
}

/// Accumulates the closed form of every selected neuron during training (mean squared error).
pub struct NeuronStream<T> {
    network: Network,
    loss: Loss,
    layers: Vec<LayerSums<T>>,
    initial: Vec<T>,
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
    x: Vec<T>,
    q: Vec<T>,
    e: Vec<T>,
    /// Shifts at which the last prefix was solved, per selected neuron and comparator.
    warm: Vec<[Option<f64>; 2]>,
}

/// A neuron with its linear term, its constant, and the shifts at which its last prefix was solved.
type Neuron<'a> = (usize, &'a [f64], f64, &'a mut [Option<f64>; 2]);

/// One part of a minibatch, for one layer: `q` and `e = d - q s0` as `[rows, selected]`, and the constants.
struct PartSums<T> {
    q: Vec<T>,
    e: Vec<T>,
    constant: Vec<f64>,
}

impl<T: Real> NeuronStream<T> {
    pub fn new(network: &Network, loss: Loss, settings: &RegretSettings, batch: usize) -> Self {
        assert!(loss.is_quadratic(), "the closed form needs a loss that is quadratic in the output");
        let last = network.blocks().len() - 1;
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
        let mut curvature: Vec<Vec<T>> = vec![Vec::new(); blocks.len()];
        let mut storage = Vec::new();
        let top = self.loss.hessian_factor(&part.tape.output, self.network.outputs(), &mut storage);
        curvature_factors(&self.network, round.weights, &part.tape, top, 0, true, |l, factor| {
            crate::kernels::vectorized(
                #[inline(always)]
                || factor.diagonal(rows, blocks[l].units, &mut curvature[l]),
            );
        });
        let moved: Vec<T> = round.weights.iter().zip(&self.initial).map(|(w, start)| *w - *start).collect();
        let batch = T::from_f64(self.batch as f64);
        let layers = blocks.iter().enumerate().zip(&self.layers);
        layers
            .map(|((l, block), layer)| {
                let mut shift = vec![T::ZERO; rows * block.units];
                affine(block, &moved, part.tape.input(l, &part.x), rows, &mut shift, false);
                let count = layer.selected.len();
                let mut sums = PartSums {
                    q: Vec::with_capacity(rows * count),
                    e: Vec::with_capacity(rows * count),
                    constant: vec![0.0; count],
                };
                for i in 0..rows {
                    for (a, constant) in layer.selected.iter().zip(&mut sums.constant) {
                        let at = i * block.units + a;
                        let (d, q, s) = (part.deltas[l][at] * batch, curvature[l][at], shift[at]);
                        *constant += (T::from_f64(0.5) * q * s - d).to_f64() * s.to_f64();
                        sums.e.push(d - q * s);
                        sums.q.push(q);
                    }
                }
                if layer.gram.planes() == 1 && count != 1 {
                    let width = count.max(1);
                    sums.q = sums.q.iter().step_by(width).copied().collect();
                }
                sums
            })
            .collect()
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
            // Rows of the result in fixed shares, so that the bits do not depend on the threads.
            let share = count.div_ceil(4).max(1);
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
        let comparators = settings.comparators.of(ClosedForm::Yes);
        self.flush();
        let rounds = self.rounds;
        let scale = 1.0 / (rounds * self.batch) as f64;
        let mean_loss = self.loss_sum / rounds as f64;
        let mut results = Vec::new();
        for (block, layer) in self.network.blocks().iter().zip(&mut self.layers) {
            let width = block.width();
            let shared = layer.gram.planes() == 1;
            // As many neurons at a time as keep all threads busy: their matrices are still in the cache when they are solved.
            let together = if shared { usize::MAX } else { WeightedGram::TOGETHER * rayon::current_num_threads() };
            let mut neurons: Vec<_> = layer
                .selected
                .iter()
                .zip(layer.linear.chunks_exact(width))
                .zip(&layer.constant)
                .zip(&mut layer.warm)
                .map(|(((neuron, linear), constant), warm)| (*neuron, linear, *constant, warm))
                .collect();
            for (part, neurons) in neurons.chunks_mut(together).enumerate() {
                let planes = if shared { 0..1 } else { part * together..part * together + neurons.len() };
                let hessians: Vec<Hessian> =
                    layer.gram.matrices_of(planes, scale).into_par_iter().map(Hessian::new).collect();
                let solve = |(p, (neuron, linear, constant, warm)): (usize, &mut Neuron)| {
                    let unit = unit(block, *neuron);
                    let record = record(unit);
                    let linear: Vec<f64> = linear.iter().map(|v| v * scale).collect();
                    let quadratic = Quadratic {
                        hessian: if shared { &hessians[0] } else { &hessians[p] },
                        linear: &linear,
                        constant: mean_loss + *constant * scale,
                    };
                    let mut found = Vec::new();
                    for (comparator, warm) in comparators.iter().zip(warm.iter_mut()) {
                        let comparison = settings.comparison(*comparator, record.displacement);
                        let tolerance = settings.neuron_tolerance * mean_loss;
                        let (optimum, shift) = quadratic.minimize(comparison, tolerance, *warm);
                        *warm = Some(shift);
                        found.push(UnitResult::new(unit, *comparator, width, record, &optimum));
                    }
                    found
                };
                let solved: Vec<Vec<UnitResult>> = neurons.par_iter_mut().enumerate().map(solve).collect();
                results.extend(solved.into_iter().flatten());
            }
        }
        results
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
                append_inputs(&self.network.blocks()[l], part.tape.input(l, &part.x), &mut layer.x);
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

impl<T: Real> LayerSums<T> {
    /// `buffered` rows are waiting. They are kept as they are: adding them earlier would round the sums differently.
    fn persist(&mut self, store: &mut Store, buffered: usize) -> Result<(), StoreError> {
        store.values("gram", self.gram.sums_mut())?;
        store.values("linear", &mut self.linear)?;
        store.values("constant", &mut self.constant)?;
        let widths = [self.gram.width(), self.gram.planes(), self.selected.len()];
        for ((name, buffer), width) in
            [("x", &mut self.x), ("q", &mut self.q), ("e", &mut self.e)].into_iter().zip(widths)
        {
            store.list(name, buffer)?;
            if Some(buffer.len()) != buffered.checked_mul(width) {
                return Err(store.malformed(name, format!("has no {buffered} rows of {width} values")));
            }
        }
        store.fields("warm", self.warm.as_flattened_mut())
    }
}

/// Newton steps per optimum at most.
const MAX_STEPS: usize = 60;
/// A step is not made shorter than this part of Newton's: then rounding hides the descent.
const SHORTEST: f64 = 1e-10;

/// What [`optima`] tells `Work::tick` of, for all these prefixes.
pub fn work(network: &Network, prefixes: &[usize], settings: &RegretSettings) -> usize {
    let comparators = settings.comparators.of(ClosedForm::No).len();
    network.blocks().len() * comparators * prefixes.iter().sum::<usize>()
}

/// Optima of the selected neurons of every layer over the first `rounds` rounds of a window, for any loss; each layer a piece of
/// `work`.
pub fn optima(
    window: &Window<f64>,
    rounds: usize,
    settings: &RegretSettings,
    record: &dyn Fn(UnitId) -> UnitRecord,
    work: &mut Work,
) -> Result<Vec<UnitResult>, Halted> {
    let mut results = Vec::new();
    for (l, block) in window.network().blocks().iter().enumerate() {
        let (stop, tick) = (work.stop(), work.tick());
        let search = || {
            let problem = LayerProblem::new(window, l, rounds, settings);
            let records: Vec<UnitRecord> = problem.selected.iter().map(|a| record(unit(block, *a))).collect();
            let mut results = Vec::new();
            for comparator in settings.comparators.of(ClosedForm::No) {
                let comparisons: Vec<Comparison> =
                    records.iter().map(|r| settings.comparison(comparator, r.displacement)).collect();
                let tolerance = settings.neuron_tolerance * records.first().map_or(0.0, |r| r.mean_loss);
                let optima = problem.minimize(&comparisons, tolerance, stop);
                results.extend(problem.selected.iter().zip(&records).zip(&optima).map(|((a, record), optimum)| {
                    UnitResult::new(unit(block, *a), comparator, block.width(), *record, optimum)
                }));
                tick(rounds);
            }
            results
        };
        results.extend(work.piece(format!("neurons of {}, {rounds} rounds", block.layer), search)?);
    }
    Ok(results)
}

/// The Taylor losses of the selected neurons of a layer: `T(u) = loss(f + g (<u, x> - s0))`.
struct LayerProblem<'a> {
    window: &'a Window<'a, f64>,
    selected: Vec<usize>,
    width: usize,
    rows: usize,
    outputs: usize,
    /// `[rows, width]`, with the constant 1.
    x: Vec<f64>,
    /// `[rows, selected]`, `s0 = <w^n - w^1, x>`.
    shift: Vec<f64>,
    /// `[rows, selected, outputs]`.
    jacobian: Vec<f64>,
    /// `[rows, outputs]`.
    output: Vec<f64>,
    row_indices: Vec<u32>,
}

/// The mean Taylor loss of a neuron at some point.
#[derive(Clone, Debug, Default)]
struct Expansion {
    value: f64,
    gradient: Vec<f64>,
    /// Row by row, divided by the number of rows; empty unless asked for.
    curvature: Vec<f64>,
}

/// How far a neuron's search has come.
struct Descent {
    point: Vec<f64>,
    at: Expansion,
    gap: f64,
    steps: usize,
    /// `None` while it goes on.
    stop: Option<StopReason>,
}

impl<'a> LayerProblem<'a> {
    fn new(window: &'a Window<'a, f64>, l: usize, rounds: usize, settings: &RegretSettings) -> Self {
        let network = window.network();
        let block = &network.blocks()[l];
        let (selected, outputs) = (settings.selected(block.units), network.outputs());
        let rows = rounds * window.batch();
        let mut problem = Self {
            window,
            width: block.width(),
            rows,
            outputs,
            x: Vec::with_capacity(rows * block.width()),
            shift: Vec::with_capacity(rows * selected.len()),
            jacobian: Vec::with_capacity(rows * selected.len() * outputs),
            output: Vec::with_capacity(rows * outputs),
            row_indices: window.rows(rounds).to_vec(),
            selected,
        };
        window.each_round(rounds, |round| {
            let input = round.tape.input(l, round.x);
            append_inputs(block, input, &mut problem.x);
            let moved: Vec<f64> = round.weights.iter().zip(window.initial()).map(|(w, s)| w - s).collect();
            let mut shift = vec![0.0; round.tape.rows * block.units];
            affine(block, &moved, input, round.tape.rows, &mut shift, false);
            for row in shift.chunks_exact(block.units) {
                problem.shift.extend(problem.selected.iter().map(|a| row[*a]));
            }
            problem.output.extend_from_slice(round.output);
            let top = Factor::Identity { scale: 1.0 };
            curvature_factors(network, round.weights, round.tape, top, l, false, |at, factor| {
                if at != l {
                    return;
                }
                for i in 0..round.tape.rows {
                    for a in &problem.selected {
                        problem.jacobian.extend((0..outputs).map(|k| match factor {
                            Factor::Identity { scale } => scale * f64::from(u8::from(k == *a)),
                            Factor::Shared { values, .. } => values[k * block.units + a],
                            Factor::PerRow { values, .. } => values[(i * outputs + k) * block.units + a],
                        }));
                    }
                }
            });
        });
        problem
    }

    /// The Taylor losses of the neurons `which` (positions in `selected`), each at its point.
    fn expand(&self, which: &[usize], points: &[Vec<f64>], with_curvature: bool) -> Vec<Expansion> {
        let pairs = which.par_iter().zip(points);
        pairs.map(|(p, point)| self.expand_one(*p, point, with_curvature)).collect()
    }

    fn expand_one(&self, p: usize, point: &[f64], with_curvature: bool) -> Expansion {
        let (count, rows, outputs) = (self.selected.len(), self.rows, self.outputs);
        let examples = self.window.examples();
        let scale = 1.0 / rows as f64;
        let mut value = 0.0;
        let mut gradient = vec![0.0; self.width];
        let mut curvature = Vec::with_capacity(if with_curvature { rows } else { 0 });
        let (mut moved, mut slope) = (vec![0.0; outputs], Vec::with_capacity(outputs));
        let mut bent = vec![0.0; outputs];
        for i in 0..rows {
            let x = &self.x[i * self.width..(i + 1) * self.width];
            let s = dot(x, point) - self.shift[i * count + p];
            let jacobian = &self.jacobian[(i * count + p) * outputs..][..outputs];
            let output = &self.output[i * outputs..][..outputs];
            for ((m, f), g) in moved.iter_mut().zip(output).zip(jacobian) {
                *m = f + g * s;
            }
            let row = self.row_indices[i] as usize;
            let targets = examples.targets.rows(row..row + 1, examples.target_width);
            value += self.window.loss().value_gradient(&moved, outputs, targets, 1.0, &mut slope);
            let d = dot(&slope, jacobian) * scale;
            gradient.iter_mut().zip(x).for_each(|(g, x)| *g += d * x);
            if with_curvature {
                bent.copy_from_slice(jacobian);
                self.window.loss().apply_hessian(&moved, outputs, scale, &mut bent);
                curvature.push(dot(&bent, jacobian));
            }
        }
        Expansion { value: value * scale, gradient, curvature }
    }

    /// Newton's method with a line search that never increases the objective, for all neurons side by side; one that is done, or
    /// runs away to infinity, costs no more. Ends early once `stop` is set.
    fn minimize(&self, comparisons: &[Comparison], tolerance: f64, stop: &AtomicBool) -> Vec<Optimum> {
        let all: Vec<usize> = (0..self.selected.len()).collect();
        let centers = vec![vec![0.0; self.width]; all.len()];
        let begin =
            |(point, at): (Vec<f64>, Expansion)| Descent { point, at, gap: f64::INFINITY, steps: 0, stop: None };
        let at = self.expand(&all, &centers, true);
        let starts: Vec<f64> = at.iter().map(|at| at.value).collect();
        let mut descents: Vec<Descent> = centers.into_iter().zip(at).map(begin).collect();
        let mut open = all;
        for step in 0..=MAX_STEPS {
            open.retain(|p| descents[*p].goes_on(&comparisons[*p], tolerance));
            if step == MAX_STEPS || open.is_empty() || stop.load(Ordering::Relaxed) {
                break;
            }
            let directions = self.newton_directions(&open, &descents, comparisons, tolerance);
            self.line_search(&open, &directions, &mut descents);
        }
        let finish = |((descent, comparison), start): ((Descent, &Comparison), f64)| {
            let Descent { point, at, gap, steps, stop } = descent;
            let stop = stop.unwrap_or(StopReason::Iterations);
            let attained = comparison.radius.is_some() || gap <= tolerance;
            Optimum { iterations: steps, attained, stop, ..Optimum::new(comparison, start, point, at.value, gap) }
        };
        descents.into_iter().zip(comparisons).zip(starts).map(finish).collect()
    }

    /// The steps to the minimizers of the quadratic models of the neurons `open`, inside the balls they are searched in.
    fn newton_directions(
        &self,
        open: &[usize],
        descents: &[Descent],
        comparisons: &[Comparison],
        tolerance: f64,
    ) -> Vec<Vec<f64>> {
        let mut gram = WeightedGram::new(self.width, open.len());
        let q: Vec<f64> = (0..self.rows)
            .flat_map(|i| open.iter().map(move |p| (i, *p)))
            .map(|(i, p)| descents[p].at.curvature[i])
            .collect();
        gram.accumulate(&self.x, &q, self.rows, &mut GramScratch::default());
        let problems = open.par_iter().zip(gram.matrices(1.0));
        problems
            .map(|(p, matrix)| {
                let Descent { point, at, gap, .. } = &descents[*p];
                let hessian = Hessian::new(matrix);
                let bend = hessian.apply(point);
                let linear: Vec<f64> = at.gradient.iter().zip(&bend).map(|(g, b)| g - b).collect();
                let quadratic = Quadratic { hessian: &hessian, linear: &linear, constant: 0.0 };
                let ball = Comparison { radius: comparisons[*p].search_radius(false), ..comparisons[*p] };
                let target = (0.01 * gap).max(0.1 * tolerance);
                let (model, _) = quadratic.minimize(ball, target, None);
                model.displacement.iter().zip(point).map(|(v, u)| v - u).collect()
            })
            .collect()
    }

    /// Halves each neuron's step until its loss falls by a share of what the gradient promises (Armijo 1966).
    fn line_search(&self, open: &[usize], directions: &[Vec<f64>], descents: &mut [Descent]) {
        let mut lengths = vec![1.0; open.len()];
        let mut waiting: Vec<usize> = (0..open.len()).collect();
        let mut moved = Vec::new();
        while !waiting.is_empty() {
            let trial = |o: &usize| -> Vec<f64> {
                let start = &descents[open[*o]].point;
                start.iter().zip(&directions[*o]).map(|(u, d)| u + lengths[*o] * d).collect()
            };
            let trials: Vec<Vec<f64>> = waiting.iter().map(trial).collect();
            let which: Vec<usize> = waiting.iter().map(|o| open[*o]).collect();
            let found = self.expand(&which, &trials, false);
            let mut next = Vec::new();
            for ((o, point), at) in waiting.into_iter().zip(trials).zip(found) {
                let descent = &mut descents[open[o]];
                let slope = dot(&descent.at.gradient, &directions[o]);
                if at.value <= descent.at.value + 1e-4 * lengths[o] * slope.min(0.0) {
                    (descent.point, descent.steps) = (point, descent.steps + 1);
                    moved.push(open[o]);
                } else if lengths[o] < SHORTEST {
                    (descent.stop, descent.steps) = (Some(StopReason::Rounding), descent.steps + 1);
                } else {
                    lengths[o] *= 0.5;
                    next.push(o);
                }
            }
            waiting = next;
        }
        let points: Vec<Vec<f64>> = moved.iter().map(|p| descents[*p].point.clone()).collect();
        for (p, at) in moved.iter().zip(self.expand(&moved, &points, true)) {
            descents[*p].at = at;
        }
    }
}

impl Descent {
    /// Certifies the point and finds out whether more work would help.
    fn goes_on(&mut self, comparison: &Comparison, tolerance: f64) -> bool {
        self.gap = Certificate::at(comparison, &self.point, self.at.value, &self.at.gradient).gap();
        if self.gap <= tolerance {
            self.stop = Some(StopReason::Converged);
        } else if comparison.is_at_cap(&self.point) {
            // On the far sphere: the search runs away, and its row says so.
            self.stop = Some(StopReason::AtInfinity);
        }
        self.stop.is_none()
    }
}
