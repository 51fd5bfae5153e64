//! The Kronecker factors `mean M (x) mean x x'` of every block, which precondition the large problems
//! (`docs/theory.md`, section 4).

use super::window::{Window, WindowRound};
use crate::kernels::{
    View,
    dense::{Factor, append_with_ones, curvature_factors},
    matmul,
};
use faer::{Mat, MatRef, Side, linalg::solvers::SelfAdjointEigen};
use rayon::prelude::*;

/// Eigendecompositions up to this width are made for every prefix; larger ones when the prefix grew fourfold.
const CHEAP_WIDTH: usize = 128;
/// Rounds whose inputs go into one product.
const TOGETHER: usize = 8;

/// Applies [`KroneckerFactors::solve`] of one block after the other to a residual of them all.
pub(super) fn solve_blocks<'a>(
    factors: impl Iterator<Item = &'a KroneckerFactors>,
    shift: f64,
    residual: &[f64],
) -> Vec<f64> {
    let mut out = Vec::with_capacity(residual.len());
    let mut rest = residual;
    for factors in factors {
        let (own, tail) = rest.split_at(factors.len());
        out.extend(factors.solve(shift, own));
        rest = tail;
    }
    out
}

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
                    let mut inputs: Vec<Vec<f64>> = vec![Vec::new(); blocks.len()];
                    for rounds in piece.chunks(TOGETHER) {
                        inputs.iter_mut().for_each(Vec::clear);
                        for index in rounds {
                            window.with_round(*index, |round| add_curvature(window, &round, &mut part, &mut inputs));
                        }
                        for ((block, x), moments) in blocks.iter().zip(&inputs).zip(&mut part) {
                            let view = View::new(x, x.len() / block.width(), block.width());
                            matmul(&mut moments.x, block.width(), view.t(), view, true);
                        }
                    }
                    part
                })
                .collect();
            for part in partial {
                sums.iter_mut().zip(&part).for_each(|(sum, part)| sum.add(part));
            }
            let scale = 1.0 / (rounds * window.batch()) as f64;
            for (l, (list, sum)) in factors.iter_mut().zip(&sums).enumerate() {
                let due = list.last().is_none_or(|(last, _)| *rounds >= 4 * last);
                let exact = quadratic && l + 1 == blocks.len();
                if due || blocks[l].width() <= CHEAP_WIDTH {
                    list.push((*rounds, sum.factors(scale, exact)));
                }
            }
        }
        Self { blocks: factors }
    }

    /// The factors of a block for the longest prefix known up to `rounds`.
    pub(super) fn factors(&self, block: usize, rounds: usize) -> &KroneckerFactors {
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

/// Adds a round's curvatures to the moments, and appends its inputs of every block with their constant 1.
fn add_curvature(window: &Window<f64>, round: &WindowRound<f64>, moments: &mut [Moments], inputs: &mut [Vec<f64>]) {
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
    for (l, (block, inputs)) in blocks.iter().zip(inputs).enumerate() {
        append_with_ones(round.tape.input(l, round.x), block.inputs, inputs);
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
pub struct KroneckerFactors {
    units: Eigen,
    inputs: Eigen,
    /// Whether the curvature is this product, not just about so: the output layer's under the mean squared error.
    exact: bool,
}

impl KroneckerFactors {
    /// From the sums `m: [units, units]` and `x: [width, width]`, each with its scale; an approximation.
    pub(super) fn new(m: (&[f64], f64), units: usize, x: (&[f64], f64), width: usize) -> Self {
        Self { units: Eigen::new(m.0, units, m.1), inputs: Eigen::new(x.0, width, x.1), exact: false }
    }

    /// Weights of the block.
    pub(super) fn len(&self) -> usize {
        self.units.values.len() * self.inputs.values.len()
    }

    /// `(m X + shift I)^-1 r` for one unit, `r: [width]`, with `m` the mean of the units' curvatures.
    pub(super) fn solve_row(&self, shift: f64, residual: &[f64]) -> Vec<f64> {
        let mean = self.units.values.iter().sum::<f64>() / self.units.values.len() as f64;
        let floor = (TRUSTED * mean * self.inputs.top()).max(f64::MIN_POSITIVE);
        let width = residual.len();
        let r = Mat::from_fn(width, 1, |i, _| residual[i]);
        let mut hat = match &self.inputs.vectors {
            Some(v) => v.transpose() * r,
            None => r,
        };
        for (i, value) in self.inputs.values.iter().enumerate() {
            hat[(i, 0)] /= mean * value + shift + floor;
        }
        let solved = match &self.inputs.vectors {
            Some(v) => v * hat,
            None => hat,
        };
        (0..width).map(|i| solved[(i, 0)]).collect()
    }

    /// `(M (x) X + shift I)^-1 r` for `r: [units, width]`; directions without curvature are damped, not divided by zero.
    pub(super) fn solve(&self, shift: f64, residual: &[f64]) -> Vec<f64> {
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
