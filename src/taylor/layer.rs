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
    window::{Window, WindowRound},
};
use crate::{
    kernels::{
        View,
        dense::{Factor, append_with_ones, curvature_factors},
        gram::WeightedGram,
        matmul,
        real::convert,
    },
    network::Block,
    study::tables::{Comparator, Scale},
};
use faer::{Mat, MatRef, Side, linalg::solvers::SelfAdjointEigen};
use rayon::prelude::*;
use std::ops::Range;

/// Layers of up to this many weights are solved directly.
pub const DIRECT_WEIGHTS: usize = 1600;

/// Up to this many weights an iterative search is not limited by its budget of products.
const SMALL: usize = 512;

/// The identity of a layer.
fn unit(block: &Block) -> UnitId {
    UnitId { scale: Scale::Layer, layer: Some(block.layer), neuron: None }
}

/// What layer and network scale work on.
pub struct Windows<'a> {
    /// In `f64`: what is reported is computed here.
    pub exact: &'a Window<'a, f64>,
    /// In `f32`: the many products of the search.
    pub fast: &'a Window<'a, f32>,
    pub preconditioners: &'a Preconditioners,
}

/// Optima of every layer for the given prefixes.
pub fn optima(
    windows: &Windows,
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
pub fn iterative_optima(
    windows: &Windows,
    blocks: Range<usize>,
    prefixes: &[usize],
    settings: &RegretSettings,
    record: impl Fn(usize) -> UnitRecord,
) -> Vec<(Comparator, usize, Optimum)> {
    let mut objective = TaylorObjective::new(windows, blocks, prefixes);
    let mut starts = vec![vec![0.0; objective.dimension()]; settings.comparators.len()];
    let mut found = Vec::new();
    // A small problem may take as many products as it has weights.
    let small = if objective.dimension() <= SMALL { objective.dimension() + 2 } else { 0 };
    let mut subspace = Subspace::new(settings.max_products.clamp(48, 320).max(2 * small));
    // Work is counted in products with one round. What a prefix does not use is left for the later, longer ones.
    let whole = settings.max_products * prefixes.last().copied().unwrap_or(0);
    let mut budgets = vec![whole; settings.comparators.len()];
    for (index, rounds) in prefixes.iter().enumerate() {
        objective.current = index;
        let record = record(*rounds);
        // The ball first: its problem is the better conditioned one, and its basis serves the other.
        let mut order: Vec<usize> = (0..settings.comparators.len()).collect();
        order.sort_by_key(|c| settings.comparators[*c] == Comparator::Unconstrained);
        for c in order {
            let comparator = settings.comparators[c];
            let comparison: Comparison = settings.comparison(comparator, record.displacement);
            let search = Search {
                comparison,
                tolerance: settings.tolerance * record.mean_loss,
                max_products: (budgets[c] / ((prefixes.len() - index) * rounds))
                    .clamp(2, settings.max_products / 2 + 2)
                    .max(small),
                far: (!objective.is_quadratic()).then_some(FAR * record.displacement),
            };
            let optimum = minimize(&mut objective, search, &starts[c], &mut subspace);
            starts[c].clone_from(&optimum.displacement);
            budgets[c] = budgets[c].saturating_sub(optimum.iterations * rounds);
            found.push((comparator, *rounds, optimum));
        }
    }
    found
}

/// The objective `F` of a range of blocks over a prefix of the window.
struct TaylorObjective<'a> {
    windows: &'a Windows<'a>,
    blocks: Range<usize>,
    prefixes: &'a [usize],
    /// For quadratic losses: value and gradient at `W^1`, summed over each prefix.
    terms: Vec<(f64, Vec<f64>)>,
    /// Index of the prefix.
    current: usize,
    /// The outputs `[rows, outputs]` at which the Hessian of the loss is taken.
    moved: Vec<f32>,
}

impl<'a> TaylorObjective<'a> {
    fn new(windows: &'a Windows<'a>, blocks: Range<usize>, prefixes: &'a [usize]) -> Self {
        let quadratic = windows.exact.loss().is_quadratic();
        let terms = if quadratic { windows.exact.linear_terms(prefixes, blocks.clone()) } else { Vec::new() };
        Self { windows, blocks, prefixes, terms, current: 0, moved: Vec::new() }
    }

    fn scale(&self) -> f64 {
        1.0 / (self.rounds() * self.windows.exact.batch()) as f64
    }
}

impl Objective for TaylorObjective<'_> {
    fn dimension(&self) -> usize {
        let all = self.windows.exact.network().blocks();
        all[self.blocks.end - 1].range().end - all[self.blocks.start].offset
    }

    fn is_quadratic(&self) -> bool {
        self.windows.exact.loss().is_quadratic()
    }

    fn rounds(&self) -> usize {
        self.prefixes[self.current]
    }

    fn evaluate(&self, u: &[f64]) -> (f64, Vec<f64>) {
        let (rounds, exact) = (self.rounds(), self.windows.exact);
        if !self.is_quadratic() {
            let (value, gradient, _) = exact.value_gradient(rounds, self.blocks.clone(), u);
            return (value, gradient);
        }
        let scale = 1.0 / rounds as f64;
        let (constant, linear) = &self.terms[self.current];
        let mut gradient: Vec<f64> = linear.iter().map(|v| v * scale).collect();
        let mut value = constant * scale;
        if u.iter().any(|v| *v != 0.0) {
            let image = exact.product(0..rounds, self.blocks.clone(), u, &[], self.scale());
            for ((g, u), h) in gradient.iter_mut().zip(u).zip(&image) {
                value += *g * u + 0.5 * h * u;
                *g += h;
            }
        }
        (value, gradient)
    }

    fn linearize(&mut self, u: &[f64]) {
        if !self.is_quadratic() {
            let (_, _, outputs) = self.windows.exact.value_gradient(self.rounds(), self.blocks.clone(), u);
            self.moved = convert(&outputs);
        }
    }

    fn image(&self, from: usize, direction: &[f32]) -> Vec<f32> {
        let rounds = from..self.rounds();
        self.windows.fast.product(rounds, self.blocks.clone(), direction, &self.moved, self.scale())
    }

    fn precondition(&self, shift: f64, residual: &[f64]) -> Vec<f64> {
        let mut out = Vec::with_capacity(residual.len());
        let mut rest = residual;
        for l in self.blocks.clone() {
            let factors = self.windows.preconditioners.factors(l, self.rounds());
            let (own, tail) = rest.split_at(factors.len());
            out.extend(factors.solve(shift, own));
            rest = tail;
        }
        out
    }
}

/// Eigendecompositions up to this width are made for every prefix; larger ones when the prefix grew by half.
const CHEAP_WIDTH: usize = 128;

/// The Kronecker factors `mean M (x) mean x x'` of every block, for every prefix.
pub struct Preconditioners {
    /// Per block: prefix length and factors, increasing.
    blocks: Vec<Vec<(usize, KroneckerFactors)>>,
}

impl Preconditioners {
    /// Averages over all rounds of each prefix.
    pub fn new(window: &Window<f64>, prefixes: &[usize]) -> Self {
        let network = window.network();
        let blocks = network.blocks();
        let quadratic = window.loss().is_quadratic();
        let mut sums: Vec<Moments> = blocks.iter().map(|b| Moments::zero(b.units, b.width())).collect();
        let mut factors: Vec<Vec<(usize, KroneckerFactors)>> = blocks.iter().map(|_| Vec::new()).collect();
        let mut from = 0;
        for rounds in prefixes {
            let new: Vec<usize> = (from..*rounds).collect();
            from = *rounds;
            let partial: Vec<Vec<Moments>> = new
                .par_chunks(new.len().div_ceil(8).max(1))
                .with_max_len(1)
                .map(|piece| {
                    let mut part: Vec<Moments> = blocks.iter().map(|b| Moments::zero(b.units, b.width())).collect();
                    piece.iter().for_each(|index| {
                        window.with_round(*index, |round| add_moments(window, &round, &mut part));
                    });
                    part
                })
                .collect();
            for part in partial {
                sums.iter_mut().zip(&part).for_each(|(sum, part)| sum.add(part));
            }
            let scale = 1.0 / (rounds * window.batch()) as f64;
            for (l, (list, sum)) in factors.iter_mut().zip(&sums).enumerate() {
                let due = list.last().is_none_or(|(last, _)| 2 * rounds >= 3 * last);
                let exact = quadratic && l + 1 == blocks.len();
                if due || blocks[l].width() <= CHEAP_WIDTH || rounds == prefixes.last().unwrap_or(rounds) {
                    list.push((*rounds, sum.factors(scale, exact)));
                }
            }
        }
        Self { blocks: factors }
    }

    /// The factors of a block for the longest prefix known up to `rounds`.
    fn factors(&self, block: usize, rounds: usize) -> &KroneckerFactors {
        let list = &self.blocks[block];
        &list[list.partition_point(|(n, _)| *n <= rounds).saturating_sub(1)].1
    }
}

/// Sums of `M` and `x x'` over rows.
struct Moments {
    units: usize,
    width: usize,
    /// `[units, units]`, empty as long as all curvatures are multiples of the identity.
    m: Vec<f64>,
    /// The sum of those multiples.
    multiple: f64,
    /// `[width, width]`.
    x: Vec<f64>,
}

impl Moments {
    fn zero(units: usize, width: usize) -> Self {
        Self { units, width, m: Vec::new(), multiple: 0.0, x: vec![0.0; width * width] }
    }

    fn add(&mut self, other: &Self) {
        if self.m.is_empty() {
            self.m.clone_from(&other.m);
        } else {
            self.m.iter_mut().zip(&other.m).for_each(|(a, b)| *a += b);
        }
        self.multiple += other.multiple;
        self.x.iter_mut().zip(&other.x).for_each(|(a, b)| *a += b);
    }

    fn factors(&self, scale: f64, exact: bool) -> KroneckerFactors {
        let units = if self.m.is_empty() {
            Eigen { values: vec![self.multiple * scale; self.units], vectors: None }
        } else {
            Eigen::new(&self.m, self.units, scale)
        };
        KroneckerFactors { units, inputs: Eigen::new(&self.x, self.width, scale), exact }
    }
}

fn add_moments(window: &Window<f64>, round: &WindowRound<f64>, moments: &mut [Moments]) {
    let network = window.network();
    let blocks = network.blocks();
    let rows = round.tape.rows;
    let mut storage = Vec::new();
    let top = window.loss().hessian_factor(&round.tape.output, network.outputs(), &mut storage);
    curvature_factors(network, round.weights, round.tape, top, 0, true, |l, factor| {
        let (moments, units) = (&mut moments[l], blocks[l].units);
        let (values, count, times) = match factor {
            Factor::Identity { scale } => {
                moments.multiple += rows as f64 * scale * scale;
                return;
            }
            Factor::Shared { values, rank } => (values, rank, rows),
            Factor::PerRow { values, rank } => (values, rows * rank, 1),
        };
        moments.m.resize(units * units, 0.0);
        let view = View::new(values, count, units);
        for _ in 0..times {
            matmul(&mut moments.m, units, view.t(), view, true);
        }
    });
    for (l, (block, moments)) in blocks.iter().zip(moments).enumerate() {
        let mut x = Vec::with_capacity(rows * block.width());
        append_with_ones(round.tape.input(l, round.x), block.inputs, &mut x);
        let view = View::new(&x, rows, block.width());
        matmul(&mut moments.x, block.width(), view.t(), view, true);
    }
}

/// `sum_j values[j] v_j v_j'`; without vectors the standard basis.
struct Eigen {
    values: Vec<f64>,
    vectors: Option<Mat<f64>>,
}

impl Eigen {
    fn new(matrix: &[f64], width: usize, scale: f64) -> Self {
        let view = MatRef::from_row_major_slice(matrix, width, width);
        match SelfAdjointEigen::new(view, Side::Lower) {
            Ok(eigen) => Self {
                values: eigen.S().column_vector().iter().map(|v| (v * scale).max(0.0)).collect(),
                vectors: Some(eigen.U().to_owned()),
            },
            // Not a good preconditioner any more, but the iteration stays correct.
            Err(_) => Self { values: vec![1.0; width], vectors: None },
        }
    }

    fn top(&self) -> f64 {
        self.values.iter().copied().fold(0.0, f64::max)
    }
}

/// Curvature below this fraction of the largest is not trusted: there the mean of products differs from the product of means.
const TRUSTED: f64 = 1e-5;

/// `mean M (x) mean x x'` in its eigenbasis, for systems with a shift.
struct KroneckerFactors {
    units: Eigen,
    inputs: Eigen,
    /// Whether the curvature is this product, not just about so: the output layer's under the mean squared error.
    exact: bool,
}

impl KroneckerFactors {
    fn len(&self) -> usize {
        self.units.values.len() * self.inputs.values.len()
    }

    /// `(M (x) X + shift I)^-1 r` for `r: [units, width]`; directions without curvature are damped, not divided by zero.
    fn solve(&self, shift: f64, residual: &[f64]) -> Vec<f64> {
        let (rows, cols) = (self.units.values.len(), self.inputs.values.len());
        let r = MatRef::from_row_major_slice(residual, rows, cols);
        let rotate = |left: Option<MatRef<f64>>, r: Mat<f64>, right: Option<MatRef<f64>>| {
            let r = if let Some(u) = left { u * r } else { r };
            if let Some(v) = right { r * v } else { r }
        };
        let (u, v) = (self.units.vectors.as_ref().map(Mat::as_ref), self.inputs.vectors.as_ref().map(Mat::as_ref));
        let mut hat = rotate(u.map(MatRef::transpose), r.to_owned(), v);
        let trusted = if self.exact { 1e-14 } else { TRUSTED };
        let floor = (trusted * self.units.top() * self.inputs.top()).max(f64::MIN_POSITIVE);
        for j in 0..cols {
            for i in 0..rows {
                hat[(i, j)] /= self.units.values[i] * self.inputs.values[j] + shift + floor;
            }
        }
        let solved = rotate(u, hat, v.map(MatRef::transpose));
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
    round: &WindowRound<f64>,
    pairs: &[(usize, usize)],
) -> (Vec<f64>, Vec<f64>) {
    let network = window.network();
    let block = &network.blocks()[l];
    let rows = round.tape.rows;
    let mut x = Vec::with_capacity(rows * block.width());
    append_with_ones(round.tape.input(l, round.x), block.inputs, &mut x);
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
