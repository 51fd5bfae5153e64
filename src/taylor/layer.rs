//! Taylor optima at layer scale.
//!
//! Small layers are dense problems in closed form; the others go through the products of the [`Window`] with the Kronecker
//! factors `mean M (x) mean x x'` as preconditioner (`docs/theory.md`, section 4).

use super::{
    Comparison, Optimum,
    neuron::FAR,
    quadratic::{Hessian, Quadratic},
    regret::{RegretSettings, UnitId, UnitResult},
    subspace::{Objective, Search, Subspace, minimize},
    units::UnitRecord,
    window::Window,
};
use crate::{
    kernels::{
        Real, View,
        dense::{Factor, curvature_factors},
        gram::WeightedGram,
        matmul,
    },
    network::Block,
    study::tables::{Comparator, Scale},
};
use faer::{Mat, MatRef, Side, linalg::solvers::SelfAdjointEigen};
use rayon::prelude::*;
use std::ops::Range;

/// Layers of up to this many weights are solved directly.
pub const DIRECT_WEIGHTS: usize = 1600;

/// The identity of a layer.
fn unit(block: &Block) -> UnitId {
    UnitId { scale: Scale::Layer, layer: Some(block.layer), neuron: None }
}

/// The exact window, and one in the type of the run for the many inner products.
pub struct Windows<'a, C: Real> {
    pub exact: &'a Window<'a, f64>,
    pub fast: &'a Window<'a, C>,
    pub curvature: &'a MeanCurvature,
}

/// Optima of every layer for the given prefixes.
pub fn optima<C: Real>(
    windows: &Windows<C>,
    prefixes: &[usize],
    settings: &RegretSettings,
    record: impl Fn(UnitId, usize) -> UnitRecord,
    mut progress: impl FnMut(),
) -> Vec<UnitResult> {
    let mut results = Vec::new();
    for (l, block) in windows.exact.network().blocks().iter().enumerate() {
        let dimension = block.range().len();
        let unit = unit(block);
        let direct = windows.exact.loss().is_quadratic() && dimension <= DIRECT_WEIGHTS;
        let found = if direct {
            direct_optima(windows.exact, l, prefixes, settings, |n| record(unit, n))
        } else {
            iterative_optima(windows, l..l + 1, prefixes, settings, |n| record(unit, n))
        };
        results.extend(found.into_iter().map(|(comparator, rounds, optimum)| {
            UnitResult::new(unit, comparator, dimension, record(unit, rounds), &optimum)
        }));
        progress();
    }
    results
}

/// The optima of a range of blocks by subspace iteration, prefix by prefix, each started at the last.
pub fn iterative_optima<C: Real>(
    windows: &Windows<C>,
    blocks: Range<usize>,
    prefixes: &[usize],
    settings: &RegretSettings,
    record: impl Fn(usize) -> UnitRecord,
) -> Vec<(Comparator, usize, Optimum)> {
    let mut objective = TaylorObjective::new(windows, blocks, prefixes);
    let mut starts = vec![vec![0.0; objective.dimension()]; settings.comparators.len()];
    let mut found = Vec::new();
    for (index, rounds) in prefixes.iter().enumerate() {
        objective.select(index);
        let record = record(*rounds);
        let mut subspace = Subspace::default();
        // The ball first: its problem is the better conditioned one, and its basis serves the other.
        let mut order: Vec<usize> = (0..settings.comparators.len()).collect();
        order.sort_by_key(|c| settings.comparators[*c] == Comparator::Unconstrained);
        for c in order {
            let comparator = settings.comparators[c];
            let comparison: Comparison = settings.comparison(comparator, record.displacement);
            let search = Search {
                comparison,
                tolerance: settings.tolerance * record.mean_loss,
                max_products: settings.max_products,
                far: (!objective.is_quadratic()).then_some(FAR * record.displacement),
            };
            let optimum = minimize(&mut objective, search, &starts[c], &mut subspace);
            starts[c].clone_from(&optimum.displacement);
            found.push((comparator, *rounds, optimum));
        }
    }
    found
}

/// The objective `F` of a range of blocks over a prefix of the window.
struct TaylorObjective<'a, C: Real> {
    windows: &'a Windows<'a, C>,
    blocks: Range<usize>,
    prefixes: &'a [usize],
    /// For quadratic losses: value and gradient at `W^1`, summed over each prefix.
    terms: Vec<(f64, Vec<f64>)>,
    current: usize,
    moved: Vec<C>,
    factors: Vec<KroneckerFactors>,
}

impl<'a, C: Real> TaylorObjective<'a, C> {
    fn new(windows: &'a Windows<'a, C>, blocks: Range<usize>, prefixes: &'a [usize]) -> Self {
        let quadratic = windows.exact.loss().is_quadratic();
        let terms =
            if quadratic { windows.exact.linear_terms(prefixes, blocks.clone()) } else { Vec::new() };
        let factors = blocks.clone().map(|l| windows.curvature.factors(l)).collect();
        Self { windows, blocks, prefixes, terms, current: 0, moved: Vec::new(), factors }
    }

    fn select(&mut self, prefix: usize) {
        self.current = prefix;
        self.moved.clear();
    }

    fn rounds(&self) -> usize {
        self.prefixes[self.current]
    }
}

impl<C: Real> Objective for TaylorObjective<'_, C> {
    fn dimension(&self) -> usize {
        let all = self.windows.exact.network().blocks();
        all[self.blocks.end - 1].range().end - all[self.blocks.start].offset
    }

    fn is_quadratic(&self) -> bool {
        self.windows.exact.loss().is_quadratic()
    }

    fn expand(&mut self, u: &[f64]) -> (f64, Vec<f64>) {
        let (rounds, exact) = (self.rounds(), self.windows.exact);
        if !self.is_quadratic() {
            let (value, gradient, outputs) = exact.value_gradient(rounds, self.blocks.clone(), u);
            self.moved = outputs.iter().map(|v| C::of(*v)).collect();
            return (value, gradient);
        }
        let scale = 1.0 / rounds as f64;
        let (constant, linear) = &self.terms[self.current];
        let mut gradient: Vec<f64> = linear.iter().map(|v| v * scale).collect();
        let mut value = constant * scale;
        if u.iter().any(|v| *v != 0.0) {
            let image = exact.product(rounds, self.blocks.clone(), u, &[]);
            for ((g, u), h) in gradient.iter_mut().zip(u).zip(&image) {
                value += *g * u + 0.5 * h * u;
                *g += h;
            }
        }
        (value, gradient)
    }

    fn value(&self, u: &[f64]) -> f64 {
        self.windows.exact.value_gradient(self.rounds(), self.blocks.clone(), u).0
    }

    fn product(&self, direction: &[f64]) -> Vec<f64> {
        self.windows.fast.product(self.rounds(), self.blocks.clone(), direction, &self.moved)
    }

    fn precondition(&self, shift: f64, residual: &[f64]) -> Vec<f64> {
        let mut out = Vec::with_capacity(residual.len());
        let mut rest = residual;
        for factors in &self.factors {
            let (own, tail) = rest.split_at(factors.len());
            out.extend(factors.solve(shift, own));
            rest = tail;
        }
        out
    }
}

/// `mean M` and `mean x x'` of every block over the window.
pub struct MeanCurvature {
    /// Per block: `[units, units]`, `[width, width]`.
    means: Vec<(Vec<f64>, Vec<f64>)>,
    shapes: Vec<(usize, usize)>,
}

impl MeanCurvature {
    /// Averages over at most `rounds` evenly spaced rounds of the window: an estimate is enough for a preconditioner.
    pub fn new(window: &Window<f64>, rounds: usize) -> Self {
        let network = window.network();
        let blocks = network.blocks();
        let shapes: Vec<_> = blocks.iter().map(|b| (b.units, b.width())).collect();
        let mut means: Vec<_> = shapes.iter().map(|(u, w)| (vec![0.0; u * u], vec![0.0; w * w])).collect();
        let step = window.rounds().div_ceil(rounds).max(1);
        let mut storage = Vec::new();
        window.each_round(window.rounds(), |round| {
            if round.index % step != 0 {
                return;
            }
            let rows = round.tape.rows;
            let top = window.loss().hessian_factor(&round.tape.output, network.outputs(), &mut storage);
            curvature_factors(network, round.weights, round.tape, top, 0, true, |l, factor| {
                let (mean, units) = (&mut means[l].0, blocks[l].units);
                match factor {
                    Factor::Identity { scale } => {
                        (0..units).for_each(|u| mean[u * units + u] += rows as f64 * scale * scale);
                    }
                    Factor::Shared { values, rank } => {
                        for _ in 0..rows {
                            let view = View::new(values, rank, units);
                            matmul(mean, units, view.t(), view, true);
                        }
                    }
                    Factor::PerRow { values, rank } => {
                        let view = View::new(values, rows * rank, units);
                        matmul(mean, units, view.t(), view, true);
                    }
                }
            });
            for (l, block) in blocks.iter().enumerate() {
                let mut x = Vec::with_capacity(rows * block.width());
                for row in round.tape.input(l, round.x).chunks_exact(block.inputs) {
                    x.extend_from_slice(row);
                    x.push(1.0);
                }
                let view = View::new(&x, rows, block.width());
                matmul(&mut means[l].1, block.width(), view.t(), view, true);
            }
        });
        let sampled = window.rounds().div_ceil(step).max(1) * window.batch();
        for (m, x) in &mut means {
            m.iter_mut().chain(x.iter_mut()).for_each(|v| *v /= sampled as f64);
        }
        Self { means, shapes }
    }

    fn factors(&self, l: usize) -> KroneckerFactors {
        let ((units, width), (m, x)) = (self.shapes[l], &self.means[l]);
        KroneckerFactors { units: Eigen::new(m, units), inputs: Eigen::new(x, width) }
    }
}

struct Eigen {
    values: Vec<f64>,
    vectors: Mat<f64>,
}

impl Eigen {
    fn new(matrix: &[f64], width: usize) -> Self {
        let view = MatRef::from_row_major_slice(matrix, width, width);
        match SelfAdjointEigen::new(view, Side::Lower) {
            Ok(eigen) => Self {
                values: eigen.S().column_vector().iter().map(|v| v.max(0.0)).collect(),
                vectors: eigen.U().to_owned(),
            },
            // Not a preconditioner any more, but the iteration stays correct.
            Err(_) => Self { values: vec![1.0; width], vectors: Mat::identity(width, width) },
        }
    }
}

/// `mean M (x) mean x x'` in its eigenbasis, for systems with a shift.
struct KroneckerFactors {
    units: Eigen,
    inputs: Eigen,
}

impl KroneckerFactors {
    fn len(&self) -> usize {
        self.units.values.len() * self.inputs.values.len()
    }

    /// `(M (x) X + shift I)^-1 r` for `r: [units, width]`; directions without curvature are damped, not divided by zero.
    fn solve(&self, shift: f64, residual: &[f64]) -> Vec<f64> {
        let (rows, cols) = (self.units.values.len(), self.inputs.values.len());
        let r = MatRef::from_row_major_slice(residual, rows, cols);
        let mut hat = self.units.vectors.transpose() * r * &self.inputs.vectors;
        let top = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        let floor = (1e-9 * top(&self.units.values) * top(&self.inputs.values)).max(f64::MIN_POSITIVE);
        for j in 0..cols {
            for i in 0..rows {
                hat[(i, j)] /= self.units.values[i] * self.inputs.values[j] + shift + floor;
            }
        }
        let solved = &self.units.vectors * hat * self.inputs.vectors.transpose();
        (0..rows * cols).map(|at| solved[(at / cols, at % cols)]).collect()
    }
}

/// Direct solution of a small layer: `H = sum_i M_i (x) x_i x_i'` accumulated once over the window, solved at each prefix.
fn direct_optima(
    window: &Window<f64>,
    l: usize,
    prefixes: &[usize],
    settings: &RegretSettings,
    record: impl Fn(usize) -> UnitRecord,
) -> Vec<(Comparator, usize, Optimum)> {
    let block = &window.network().blocks()[l];
    let (units, width) = (block.units, block.width());
    let pairs: Vec<(usize, usize)> = (0..units).flat_map(|a| (0..=a).map(move |b| (a, b))).collect();
    let terms = window.linear_terms(prefixes, l..l + 1);
    let mut gram = WeightedGram::new(width, pairs.len());
    let (mut x, mut m): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut warm = vec![None; settings.comparators.len()];
    let mut found = Vec::new();
    let mut from = 0;
    for (rounds, (constant, linear)) in prefixes.iter().zip(&terms) {
        for start in (from..*rounds).step_by(32) {
            x.clear();
            m.clear();
            let end = (start + 32).min(*rounds);
            let parts: Vec<(Vec<f64>, Vec<f64>)> = (start..end)
                .into_par_iter()
                .map(|index| window.with_round(index, |round| row_curvatures(window, l, &round, &pairs)))
                .collect();
            for (part_x, part_m) in parts {
                x.extend(part_x);
                m.extend(part_m);
            }
            gram.accumulate(&x, &m, (end - start) * window.batch());
        }
        from = *rounds;
        let scale = 1.0 / (rounds * window.batch()) as f64;
        let mut matrix = vec![0.0; (units * width) * (units * width)];
        for (plane, (a, b)) in pairs.iter().enumerate() {
            for (at, value) in gram.matrix(plane).into_iter().enumerate() {
                let (j, k) = (at / width, at % width);
                matrix[(a * width + j) * units * width + b * width + k] = value * scale;
                matrix[(b * width + j) * units * width + a * width + k] = value * scale;
            }
        }
        let hessian = Hessian::new(matrix, units * width);
        let linear: Vec<f64> = linear.iter().map(|v| v / *rounds as f64).collect();
        let quadratic = Quadratic { hessian: &hessian, linear: &linear, constant: constant / *rounds as f64 };
        let record = record(*rounds);
        let solved: Vec<(Optimum, f64)> = settings
            .comparators
            .par_iter()
            .zip(&warm)
            .map(|(comparator, warm)| {
                let comparison = settings.comparison(*comparator, record.displacement);
                quadratic.minimize(comparison, settings.tolerance * record.mean_loss, *warm)
            })
            .collect();
        for ((comparator, warm), (optimum, shift)) in settings.comparators.iter().zip(&mut warm).zip(solved) {
            *warm = Some(shift);
            found.push((*comparator, *rounds, optimum));
        }
    }
    found
}

/// Per row of a round: the inputs with the constant 1, and `M_i[a, b]` for the listed pairs of units.
fn row_curvatures(
    window: &Window<f64>,
    l: usize,
    round: &super::window::WindowRound<f64>,
    pairs: &[(usize, usize)],
) -> (Vec<f64>, Vec<f64>) {
    let network = window.network();
    let block = &network.blocks()[l];
    let rows = round.tape.rows;
    let mut x = Vec::with_capacity(rows * block.width());
    for row in round.tape.input(l, round.x).chunks_exact(block.inputs) {
        x.extend_from_slice(row);
        x.push(1.0);
    }
    let mut m = Vec::with_capacity(rows * pairs.len());
    let mut storage = Vec::new();
    let top = window.loss().hessian_factor(&round.tape.output, network.outputs(), &mut storage);
    curvature_factors(network, round.weights, round.tape, top, l, true, |at, factor| {
        if at != l {
            return;
        }
        let units = block.units;
        let mut full = vec![0.0; units * units];
        for i in 0..rows {
            match factor {
                Factor::Identity { scale } => {
                    (0..units).for_each(|u| full[u * units + u] = scale * scale);
                }
                Factor::Shared { values, rank } => {
                    let view = View::new(values, rank, units);
                    matmul(&mut full, units, view.t(), view, false);
                }
                Factor::PerRow { values, rank } => {
                    let view = View::new(&values[i * rank * units..], rank, units);
                    matmul(&mut full, units, view.t(), view, false);
                }
            }
            m.extend(pairs.iter().map(|(a, b)| full[a * units + b]));
        }
    });
    (x, m)
}
