//! Taylor optima at neuron scale for any loss, over the rounds of a window.
//!
//! Where the Taylor losses are not quadratic, Newton steps are taken for all neurons of a layer side by side: each is a small dense problem in a
//! ball, of the same form as the closed form of the mean squared error (`docs/theory.md`, section 4).

use super::window::{Window, WindowRound};
use crate::{
    kernels::{
        dense::{affine, append_inputs},
        factor::Factor,
        gram::{GramScratch, WeightedGram},
    },
    network::Network,
    num::dot,
    passes::curvature_factors,
    taylor::{
        certificate::{Certificate, Comparison, Optimum, StopReason},
        result::UnitResult,
        settings::{ClosedForm, RegretSettings},
        solve::{
            Hessian, Quadratic,
            line_search::{Armijo, Verdict},
        },
        tracker::UnitRecord,
        unit::UnitId,
        work::{Halted, Work},
    },
};
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Newton steps per optimum at most.
const MAX_STEPS: usize = 60;
/// A step shorter than this part of Newton's is not tried: rounding hides the descent.
const SHORTEST: f64 = 5e-11;
/// A Newton step is solved to this part of the gap: more would be lost to the change of the curvature.
const NEWTON_TARGET: f64 = 0.01;
/// A Newton step is solved to this part of the tolerance at most.
const LAST_TARGET: f64 = 0.1;

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
            let records: Vec<UnitRecord> =
                problem.selected.iter().map(|a| record(UnitId::neuron(block.layer, *a))).collect();
            let mut results = Vec::new();
            for comparator in settings.comparators.of(ClosedForm::No) {
                let comparisons: Vec<Comparison> =
                    records.iter().map(|r| settings.comparison(comparator, r.displacement)).collect();
                let tolerance = settings.neuron_tolerance * records.first().map_or(0.0, |r| r.mean_loss);
                let optima = problem.newton(&comparisons, tolerance, stop);
                results.extend(problem.selected.iter().zip(&records).zip(&optima).map(|((a, record), optimum)| {
                    UnitResult::new(UnitId::neuron(block.layer, *a), comparator, block.width(), *record, optimum)
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
    s0: Vec<f64>,
    /// `g: [rows, selected, outputs]`, columns of the output Jacobian.
    jacobian: Vec<f64>,
    /// `f: [rows, outputs]`.
    output: Vec<f64>,
    row_indices: Vec<u32>,
    /// What a row counts for, `[rows]`.
    weights: Vec<f64>,
    /// One divided by the rows, weighted.
    scale: f64,
}

/// The mean Taylor loss of a neuron at some point.
#[derive(Clone, Debug, Default)]
struct NewtonTerms {
    value: f64,
    gradient: Vec<f64>,
    /// `q = g' Hl g` row by row, divided by the number of rows; empty unless asked for.
    curvature: Vec<f64>,
}

/// How far a neuron's search has come.
struct Descent {
    point: Vec<f64>,
    at: NewtonTerms,
    gap: f64,
    steps: usize,
    /// `None` while it goes on.
    stop: Option<StopReason>,
}

impl Descent {
    fn new(point: Vec<f64>, at: NewtonTerms) -> Self {
        Self { point, at, gap: f64::INFINITY, steps: 0, stop: None }
    }

    /// Certifies the point and finds out whether more work would help.
    fn goes_on(&mut self, comparison: &Comparison, tolerance: f64) -> bool {
        self.gap = Certificate::at(comparison, &self.point, self.at.value, &self.at.gradient).gap();
        if self.gap <= tolerance {
            self.stop = Some(StopReason::Converged);
        } else if comparison.is_at_cap(&self.point) {
            // The search runs away, and its row says so.
            self.stop = Some(StopReason::AtInfinity);
        }
        self.stop.is_none()
    }

    /// The optimum, where a search that nothing else has ended did so for the reason `otherwise`.
    fn finish(self, comparison: &Comparison, start: f64, tolerance: f64, otherwise: StopReason) -> Optimum {
        let Self { point, at, gap, steps, stop } = self;
        let attained = comparison.radius.is_some() || gap <= tolerance;
        let found = Optimum::new(comparison, start, point, at.value, gap);
        Optimum { iterations: steps, attained, stop: stop.unwrap_or(otherwise), ..found }
    }
}

impl<'a> LayerProblem<'a> {
    fn new(window: &'a Window<'a, f64>, l: usize, rounds: usize, settings: &RegretSettings) -> Self {
        let network = window.network();
        let block = &network.blocks()[l];
        let (selected, outputs) = (settings.selected(block.units), network.outputs());
        let rows = window.rows().start(rounds);
        let mut problem = Self {
            window,
            width: block.width(),
            rows,
            outputs,
            x: Vec::with_capacity(rows * block.width()),
            s0: Vec::with_capacity(rows * selected.len()),
            jacobian: Vec::with_capacity(rows * selected.len() * outputs),
            output: Vec::with_capacity(rows * outputs),
            row_indices: window.rows().rows()[..rows].to_vec(),
            weights: Vec::with_capacity(rows),
            scale: window.scale(rounds),
            selected,
        };
        window.each_round(rounds, |round| problem.append(l, &round));
        problem
    }

    /// Appends the rows of a round.
    fn append(&mut self, l: usize, round: &WindowRound<f64>) {
        let (network, outputs) = (self.window.network(), self.outputs);
        let block = &network.blocks()[l];
        let input = round.tape.input(block, round.x);
        append_inputs(block, input, &mut self.x);
        let moved: Vec<f64> = round.weights.iter().zip(self.window.initial()).map(|(w, s)| w - s).collect();
        let mut s0 = vec![0.0; round.tape.rows * block.units];
        affine(block, &moved, input, round.tape.rows, &mut s0, false);
        for row in s0.chunks_exact(block.units) {
            self.s0.extend(self.selected.iter().map(|a| row[*a]));
        }
        self.output.extend_from_slice(round.output);
        self.weights.resize(self.weights.len() + round.tape.rows, self.window.weight(round.index));
        let top = Factor::Identity { scale: 1.0 };
        curvature_factors(&round.point(network), top, l, false, |at, factor| {
            if at != l {
                return;
            }
            for i in 0..round.tape.rows {
                for a in &self.selected {
                    self.jacobian.extend((0..outputs).map(|k| match factor {
                        Factor::Identity { scale } => scale * f64::from(u8::from(k == *a)),
                        Factor::Shared { values, .. } => values[k * block.units + a],
                        Factor::PerRow { values, .. } => values[(i * outputs + k) * block.units + a],
                    }));
                }
            }
        });
    }

    /// The Taylor losses of the neurons `which` (positions in `selected`), each at its point.
    fn terms(&self, which: &[usize], points: &[Vec<f64>], with_curvature: bool) -> Vec<NewtonTerms> {
        let pairs = which.par_iter().zip(points);
        pairs.map(|(p, point)| self.terms_of(*p, point, with_curvature)).collect()
    }

    fn terms_of(&self, p: usize, point: &[f64], with_curvature: bool) -> NewtonTerms {
        let (count, rows, outputs) = (self.selected.len(), self.rows, self.outputs);
        let examples = self.window.examples();
        let mut value = 0.0;
        let mut gradient = vec![0.0; self.width];
        let mut curvature = Vec::with_capacity(if with_curvature { rows } else { 0 });
        let (mut moved, mut slope) = (vec![0.0; outputs], Vec::with_capacity(outputs));
        let mut hessian_g = vec![0.0; outputs];
        for i in 0..rows {
            let x = &self.x[i * self.width..(i + 1) * self.width];
            let s = dot(x, point) - self.s0[i * count + p];
            let jacobian = &self.jacobian[(i * count + p) * outputs..][..outputs];
            let output = &self.output[i * outputs..][..outputs];
            for ((m, f), g) in moved.iter_mut().zip(output).zip(jacobian) {
                *m = f + g * s;
            }
            let row = self.row_indices[i] as usize;
            let targets = examples.targets.rows(row..row + 1, examples.target_width);
            let (weight, scale) = (self.weights[i], self.weights[i] * self.scale);
            value += weight * self.window.loss().value_gradient(&moved, outputs, targets, 1.0, &mut slope);
            let d = dot(&slope, jacobian) * scale;
            gradient.iter_mut().zip(x).for_each(|(g, x)| *g += d * x);
            if with_curvature {
                hessian_g.copy_from_slice(jacobian);
                self.window.loss().apply_hessian(&moved, outputs, scale, &mut hessian_g);
                curvature.push(dot(&hessian_g, jacobian));
            }
        }
        NewtonTerms { value: value * self.scale, gradient, curvature }
    }

    /// Newton's method with a line search that never increases the objective, for all neurons side by side; one that is done, or
    /// runs away to infinity, costs no more. Ends early once `stop` is set.
    fn newton(&self, comparisons: &[Comparison], tolerance: f64, stop: &AtomicBool) -> Vec<Optimum> {
        let all: Vec<usize> = (0..self.selected.len()).collect();
        let centers = vec![vec![0.0; self.width]; all.len()];
        let at = self.terms(&all, &centers, true);
        let starts: Vec<f64> = at.iter().map(|at| at.value).collect();
        let mut descents: Vec<Descent> =
            centers.into_iter().zip(at).map(|(point, at)| Descent::new(point, at)).collect();
        let (mut open, mut otherwise) = (all, StopReason::Iterations);
        for step in 0..=MAX_STEPS {
            open.retain(|p| descents[*p].goes_on(&comparisons[*p], tolerance));
            if step == MAX_STEPS || open.is_empty() {
                break;
            }
            if stop.load(Ordering::Relaxed) {
                otherwise = StopReason::Halted;
                break;
            }
            let directions = self.newton_directions(&open, &descents, comparisons, tolerance);
            self.line_search(&open, &directions, &mut descents);
        }
        let finished = descents.into_iter().zip(comparisons).zip(starts);
        finished.map(|((descent, set), start)| descent.finish(set, start, tolerance, otherwise)).collect()
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
                // The gradient of the model at the center, `F'(u) - H u`.
                let product = hessian.apply(point);
                let linear: Vec<f64> = at.gradient.iter().zip(&product).map(|(g, h)| g - h).collect();
                let quadratic = Quadratic { hessian: &hessian, linear: &linear, constant: 0.0 };
                // A separable problem has no minimizer: the cap is so large that it does not matter otherwise.
                let ball = Comparison { radius: comparisons[*p].search_radius(false), ..comparisons[*p] };
                let target = (NEWTON_TARGET * gap).max(LAST_TARGET * tolerance);
                let (model, _) = quadratic.minimize(ball, target, None);
                model.displacement.iter().zip(point).map(|(v, u)| v - u).collect()
            })
            .collect()
    }

    /// Takes each neuron's step, or as much of it as its loss falls.
    fn line_search(&self, open: &[usize], directions: &[Vec<f64>], descents: &mut [Descent]) {
        let begin = |(p, direction): (&usize, &Vec<f64>)| {
            let at = &descents[*p].at;
            Armijo::new(at.value, dot(&at.gradient, direction), SHORTEST)
        };
        let mut searches: Vec<Armijo> = open.iter().zip(directions).map(begin).collect();
        let mut waiting: Vec<usize> = (0..open.len()).collect();
        let mut moved = Vec::new();
        while !waiting.is_empty() {
            let trial = |o: &usize| -> Vec<f64> {
                let (start, length) = (&descents[open[*o]].point, searches[*o].length());
                start.iter().zip(&directions[*o]).map(|(u, d)| u + length * d).collect()
            };
            let trials: Vec<Vec<f64>> = waiting.iter().map(trial).collect();
            let which: Vec<usize> = waiting.iter().map(|o| open[*o]).collect();
            let found = self.terms(&which, &trials, false);
            let mut next = Vec::new();
            for ((o, point), at) in waiting.into_iter().zip(trials).zip(found) {
                let descent = &mut descents[open[o]];
                match searches[o].judge(at.value) {
                    Verdict::Accepted => {
                        (descent.point, descent.steps) = (point, descent.steps + 1);
                        moved.push(open[o]);
                    }
                    Verdict::TooLong => next.push(o),
                    Verdict::Exhausted => {
                        (descent.stop, descent.steps) = (Some(StopReason::Rounding), descent.steps + 1);
                    }
                }
            }
            waiting = next;
        }
        let points: Vec<Vec<f64>> = moved.iter().map(|p| descents[*p].point.clone()).collect();
        for (p, at) in moved.iter().zip(self.terms(&moved, &points, true)) {
            descents[*p].at = at;
        }
    }
}
