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
    certificate::gap,
    quadratic::{Hessian, Quadratic},
    regret::{RegretSettings, UnitId, UnitResult},
    units::{UnitRecord, UnitTracker},
    window::Window,
    work::{Halted, Work},
};
use crate::{
    checkpoint::{Persist, Store, StoreError},
    kernels::{
        Real, View,
        dense::{Factor, affine, append_with_ones, curvature_factors},
        gram::{GramScratch, WeightedGram},
        matmul,
        real::{convert_into, dot, norm},
    },
    loss::Loss,
    network::{Block, Network},
    study::tables::Scale,
    train::{Observer, Part, Round},
};
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rows gathered before they are added to the Gram matrices; fewer would reload the sums too often.
const BUFFER_ROWS: usize = 4096;

/// The identity of a neuron of a block.
fn unit(block: &Block, neuron: usize) -> UnitId {
    UnitId { scale: Scale::Neuron, layer: Some(block.layer), neuron: Some(neuron) }
}

/// Accumulates the closed form of every selected neuron during training (mean squared error).
pub struct NeuronStream<T> {
    network: Network,
    loss: Loss,
    layers: Vec<LayerSums<T>>,
    initial: Vec<T>,
    batch: usize,
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
            buffered: 0,
            loss_sum: 0.0,
            rounds: 0,
            scratch: GramScratch::default(),
            wide_x: Vec::new(),
            wide_e: Vec::new(),
        }
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
        let batch = T::of(self.batch as f64);
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
                        *constant += (T::of(0.5) * q * s - d).f64() * s.f64();
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

    /// Optima of all selected neurons over the rounds so far; `tracker` has the same rounds.
    pub fn solve(&mut self, settings: &RegretSettings, tracker: &UnitTracker<T>) -> Vec<UnitResult> {
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
                    let record = tracker.record(unit, rounds).expect("the tracker records every prefix");
                    let linear: Vec<f64> = linear.iter().map(|v| v * scale).collect();
                    let quadratic = Quadratic {
                        hessian: if shared { &hessians[0] } else { &hessians[p] },
                        linear: &linear,
                        constant: mean_loss + *constant * scale,
                    };
                    let mut found = Vec::new();
                    for (comparator, warm) in settings.comparators.iter().zip(warm.iter_mut()) {
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
                let inputs = self.network.blocks()[l].inputs;
                append_with_ones(part.tape.input(l, &part.x), inputs, &mut layer.x);
                layer.q.extend_from_slice(&sums.q);
                layer.e.extend_from_slice(&sums.e);
                layer.constant.iter_mut().zip(&sums.constant).for_each(|(all, part)| *all += part);
            }
            self.buffered += part.tape.rows;
        }
        if self.buffered >= BUFFER_ROWS {
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
        // Checkpoints that have them as `gram` have them in another order.
        store.values("sums", self.gram.sums_mut())?;
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
        // A shift that there is not yet is no number.
        let mut warm: Vec<f64> = self.warm.iter().flatten().map(|shift| shift.unwrap_or(f64::NAN)).collect();
        store.values("warm", &mut warm)?;
        for (shifts, found) in self.warm.iter_mut().zip(warm.as_chunks().0) {
            *shifts = found.map(|shift| (!shift.is_nan()).then_some(shift));
        }
        Ok(())
    }
}

/// Newton steps per optimum at most.
const MAX_STEPS: usize = 60;
/// An unconstrained search of a loss without minimizer ends at this multiple of the displacement.
pub const FAR: f64 = 1000.0;

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
        let stop = work.stop();
        let search = || {
            let problem = LayerProblem::new(window, l, rounds, settings);
            let records: Vec<UnitRecord> = problem.selected.iter().map(|a| record(unit(block, *a))).collect();
            let mut results = Vec::new();
            for comparator in &settings.comparators {
                let comparisons: Vec<Comparison> =
                    records.iter().map(|r| settings.comparison(*comparator, r.displacement)).collect();
                let tolerance = settings.neuron_tolerance * records.first().map_or(0.0, |r| r.mean_loss);
                let optima = problem.minimize(&comparisons, tolerance, stop);
                results.extend(problem.selected.iter().zip(&records).zip(&optima).map(|((a, record), optimum)| {
                    UnitResult::new(unit(block, *a), *comparator, block.width(), *record, optimum)
                }));
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

/// Per neuron at some point: value, gradient and, row by row, the curvature.
struct Expansion {
    values: Vec<f64>,
    gradients: Vec<Vec<f64>>,
    curvature: Vec<f64>,
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
            append_with_ones(input, block.inputs, &mut problem.x);
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

    /// Values, gradients and (if asked) row curvatures of all neurons at `points`.
    fn expand(&self, points: &[Vec<f64>], with_curvature: bool) -> Expansion {
        let (count, rows, outputs) = (self.selected.len(), self.rows, self.outputs);
        let examples = self.window.examples();
        let scale = 1.0 / rows as f64;
        let per_neuron: Vec<(f64, Vec<f64>, Vec<f64>)> = (0..count)
            .into_par_iter()
            .map(|p| {
                let mut value = 0.0;
                let mut gradient = vec![0.0; self.width];
                let mut curvature = Vec::with_capacity(if with_curvature { rows } else { 0 });
                let (mut moved, mut slope) = (vec![0.0; outputs], Vec::with_capacity(outputs));
                let mut bent = vec![0.0; outputs];
                for i in 0..rows {
                    let x = &self.x[i * self.width..(i + 1) * self.width];
                    let s = dot(x, &points[p]) - self.shift[i * count + p];
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
                (value * scale, gradient, curvature)
            })
            .collect();
        let mut expansion = Expansion { values: vec![], gradients: vec![], curvature: vec![] };
        if with_curvature {
            expansion.curvature = vec![0.0; rows * count];
            for (p, (_, _, q)) in per_neuron.iter().enumerate() {
                q.iter().enumerate().for_each(|(i, q)| expansion.curvature[i * count + p] = *q);
            }
        }
        for (value, gradient, _) in per_neuron {
            expansion.values.push(value);
            expansion.gradients.push(gradient);
        }
        expansion
    }

    /// Newton's method with a line search that never increases the objective, for all neurons side by side.
    /// Ends early once `stop` is set.
    fn minimize(&self, comparisons: &[Comparison], tolerance: f64, stop: &AtomicBool) -> Vec<Optimum> {
        let count = self.selected.len();
        // A separable problem has no minimizer: search inside a ball so large that it does not matter otherwise.
        let radius = |c: &Comparison| c.radius.unwrap_or(FAR * c.displacement);
        let certify = |p: usize, points: &[Vec<f64>], at: &Expansion| {
            // At the center an unconstrained comparator has no ball to be certified over, but losses are not negative.
            let vacuous = comparisons[p].radius.is_none() && comparisons[p].certified_radius(norm(&points[p])) == 0.0;
            let flat = norm(&at.gradients[p]) == 0.0;
            let gap = gap(&comparisons[p], &points[p], &at.gradients[p]);
            if vacuous && !flat { at.values[p] } else { gap.min(at.values[p]) }
        };
        let mut points = vec![vec![0.0; self.width]; count];
        let mut stops = vec![StopReason::Iterations; count];
        let mut gaps = vec![f64::INFINITY; count];
        let mut steps = vec![0usize; count];
        let mut at = self.expand(&points, true);
        let mut open: Vec<usize> = (0..count).collect();
        for _ in 0..=MAX_STEPS {
            open.retain(|p| {
                gaps[*p] = certify(*p, &points, &at);
                if gaps[*p] <= tolerance {
                    stops[*p] = StopReason::Converged;
                }
                gaps[*p] > tolerance && stops[*p] == StopReason::Iterations
            });
            if open.is_empty() || stop.load(Ordering::Relaxed) {
                break;
            }
            let mut gram = WeightedGram::new(self.width, open.len());
            let q: Vec<f64> = (0..self.rows)
                .flat_map(|i| open.iter().map(move |p| (i, *p)))
                .map(|(i, p)| at.curvature[i * count + p])
                .collect();
            gram.accumulate(&self.x, &q, self.rows, &mut GramScratch::default());
            let directions: Vec<Vec<f64>> = open
                .par_iter()
                .zip(gram.matrices(1.0))
                .map(|(p, matrix)| {
                    let hessian = Hessian::new(matrix);
                    let bend = hessian.apply(&points[*p]);
                    let linear: Vec<f64> = at.gradients[*p].iter().zip(&bend).map(|(g, b)| g - b).collect();
                    let quadratic = Quadratic { hessian: &hessian, linear: &linear, constant: 0.0 };
                    let ball = Comparison { radius: Some(radius(&comparisons[*p])), ..comparisons[*p] };
                    let target = (0.01 * gaps[*p]).max(0.1 * tolerance);
                    let (model, _) = quadratic.minimize(ball, target, None);
                    model.displacement.iter().zip(&points[*p]).map(|(v, u)| v - u).collect()
                })
                .collect();
            let mut lengths = vec![1.0; open.len()];
            let mut waiting: Vec<usize> = (0..open.len()).collect();
            let mut trial = points.clone();
            while !waiting.is_empty() {
                for o in &waiting {
                    let start = &points[open[*o]];
                    trial[open[*o]] = start.iter().zip(&directions[*o]).map(|(u, d)| u + lengths[*o] * d).collect();
                }
                let values = self.expand(&trial, false).values;
                waiting.retain(|o| {
                    let p = open[*o];
                    let descent = dot(&at.gradients[p], &directions[*o]);
                    if values[p] <= at.values[p] + 1e-4 * lengths[*o] * descent.min(0.0) {
                        return false;
                    }
                    lengths[*o] *= 0.5;
                    if lengths[*o] < 1e-10 {
                        trial[p].clone_from(&points[p]);
                        stops[p] = StopReason::Rounding;
                        return false;
                    }
                    true
                });
            }
            open.iter().for_each(|p| steps[*p] += 1);
            points = trial;
            at = self.expand(&points, true);
        }
        let finish = |p: usize| {
            let far = comparisons[p].radius.is_none() && norm(&points[p]) >= 0.999 * radius(&comparisons[p]);
            let stop = if far && gaps[p] > tolerance { StopReason::AtInfinity } else { stops[p] };
            let attained = comparisons[p].radius.is_some() || (!far && gaps[p] <= tolerance);
            Optimum::new(points[p].clone(), at.values[p], gaps[p], steps[p], attained, stop)
        };
        (0..count).map(finish).collect()
    }
}
