//! The output block's weights of consecutive rounds, by their coordinates in a low-rank basis.
//!
//! In a few dozen rounds training moves these weights little, and along few directions. With the rows of `Q: [rank, units]` orthonormal,
//! `W^n` is `Q' A_n` to [`RESOLUTION`], with `A_n = Q W^n: [rank, inputs]`. Products with the curvature need `W^n P_n` and `V' W^n`, and so
//! `Q' sum_n A_n P_n` and `(Q V)' A_n`: where a network has many outputs, a fraction of the work (`docs/theory.md`, section 4).
//!
//! Searches leave out the residuals `E_n = W^n - Q' A_n`. What is reported does not: it has `E_n` in single precision, which rounds a product
//! by [`RESOLUTION`] of what single precision would, some 1e-11.

use super::group::Group;
use crate::{
    kernels::{View, dense::matrix, matmul},
    network::Block,
    num::{Real, convert, dot, fast_paths, norm},
    taylor::solve::orthogonalize,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

// The constants suit the output block of the paper's autoencoder, 784 outputs of 50 inputs, trained by minibatches of 64.

/// Rounds that share a basis at most (or one group's): with much fewer, projecting and lifting would cost too much.
const ROUNDS: usize = 32;
/// Frobenius norm of the residuals at most, as a share of that of the weights.
const RESOLUTION: f64 = 3e-4;
/// Vectors of a basis at most, as a share of the units: with more, little work is saved.
const MAX_RANK: f64 = 0.4;
/// Outputs per input of the output block from which a basis is sought.
const WIDE: usize = 4;
/// Random combinations that a basis grows by: few first, as few may be enough.
const BLOCKS: [usize; 3] = [8, 16, 32];
/// Of a vector, at least this share must be new to the basis: what is left of it otherwise is rounding.
const NEW: f64 = 1e-5;

/// Weights of consecutive rounds in a common basis.
#[derive(Clone, Debug)]
pub(super) struct LowRankWeights<C> {
    /// Counted from the first of the window.
    pub(super) rounds: Range<usize>,
    /// `Q`.
    basis: Basis<C>,
    /// `A_n: [rank, inputs]` of each round.
    coordinates: Vec<Vec<C>>,
    /// `E_n: [units, inputs]` of each round, or of none.
    residuals: Vec<Vec<f32>>,
    pub(super) inputs: usize,
    /// Inputs and the constant 1 of the bias.
    pub(super) width: usize,
    pub(super) units: usize,
}

/// Orthonormal rows, `[rank, units]`.
#[derive(Clone, Debug)]
struct Basis<C> {
    units: usize,
    rows: Vec<C>,
}

/// Whether a low-rank basis is worth a search for such an output block.
pub(super) fn is_worthwhile(block: &Block) -> bool {
    block.units >= WIDE * block.inputs
}

/// Numbers that low-rank weights keep of a round at most besides its weights: coordinates.
pub(crate) fn numbers(block: &Block) -> usize {
    if is_worthwhile(block) { (MAX_RANK * (block.units * block.inputs) as f64) as usize } else { 0 }
}

/// The rounds of each basis of a window: whole groups.
pub(super) fn spans<C>(groups: &[Group<C>]) -> Vec<Range<usize>> {
    let per_group = groups.first().map_or(1, |group| group.rounds).max(1);
    let together = (ROUNDS / per_group).max(1);
    let span = |groups: &[Group<C>]| groups[0].first..groups[0].first + groups.iter().map(|g| g.rounds).sum::<usize>();
    groups.chunks(together).map(span).collect()
}

impl LowRankWeights<f64> {
    /// The weights of the output block `block` in some rounds with weights `states`, or `None` if they would need too many vectors.
    pub(super) fn find(block: &Block, states: &[Vec<f64>], rounds: Range<usize>) -> Option<Self> {
        if !fast_paths() {
            return None;
        }
        let weights: Vec<View<f64>> = states[rounds.clone()].iter().map(|w| matrix(block, w)).collect();
        let square: f64 = weights.iter().flat_map(|w| (0..block.units).map(|u| dot(w.row(u), w.row(u)))).sum();
        // The columns of the mean come first, then what spans most of the deviations from it.
        let mean = mean(block, &weights);
        let mut basis = Basis { units: block.units, rows: Vec::new() };
        basis.append(&mean);
        let max_rank = (MAX_RANK * block.units as f64) as usize;
        let allowed = RESOLUTION * RESOLUTION * square;
        let deviations = Deviations::new(block, &weights, &mean);
        if deviations.square() > allowed {
            deviations.span(&mut basis, allowed, max_rank, rounds.start as u64)?;
        }
        // Weights that are all zero, or too large to be squared, have no basis.
        if basis.rank() == 0 || basis.rank() > max_rank || !square.is_finite() {
            return None;
        }
        Some(Self::new(block, basis, &weights, rounds))
    }

    fn new(block: &Block, basis: Basis<f64>, weights: &[View<f64>], rounds: Range<usize>) -> Self {
        let (units, inputs, rank) = (block.units, block.inputs, basis.rank());
        let mut all =
            Self { rounds, basis, coordinates: Vec::new(), residuals: Vec::new(), inputs, width: block.width(), units };
        let q = all.basis.view();
        let mut lifted = vec![0.0; units * inputs];
        for w in weights {
            let mut own = vec![0.0; rank * inputs];
            matmul(&mut own, inputs, q, *w, false);
            matmul(&mut lifted, inputs, q.t(), View::new(&own, rank, inputs), false);
            all.coordinates.push(own);
            let weights = (0..units).flat_map(|u| w.row(u));
            all.residuals.push(weights.zip(&lifted).map(|(w, lifted)| (w - lifted) as f32).collect());
        }
        all
    }

    /// The same in single precision, without the residuals.
    pub(super) fn to_f32(&self) -> LowRankWeights<f32> {
        let Self { inputs, width, units, .. } = *self;
        LowRankWeights {
            rounds: self.rounds.clone(),
            basis: self.basis.to_f32(),
            coordinates: self.coordinates.iter().map(|a| convert(a)).collect(),
            residuals: Vec::new(),
            inputs,
            width,
            units,
        }
    }
}

impl<C: Real> LowRankWeights<C> {
    pub(super) fn rank(&self) -> usize {
        self.basis.rank()
    }

    /// `A_n: [rank, inputs]` of a round of the window.
    pub(super) fn coordinates(&self, round: usize) -> View<'_, C> {
        View::new(&self.coordinates[round - self.rounds.start], self.rank(), self.inputs)
    }

    /// `E_n: [units, inputs]` of a round of the window, if residuals count.
    pub(super) fn residual(&self, round: usize) -> Option<View<'_, f32>> {
        self.residuals.get(round - self.rounds.start).map(|e| View::new(e, self.units, self.inputs))
    }

    /// Whether residuals count.
    pub(super) fn has_residuals(&self) -> bool {
        !self.residuals.is_empty()
    }

    /// `(Q V)': [width, rank]` for the transposed `v: [width, units]`.
    pub(super) fn project(&self, v: &[C]) -> Vec<C> {
        let rows = v.len() / self.units;
        let mut out = vec![C::ZERO; rows * self.rank()];
        matmul(&mut out, self.rank(), View::new(v, rows, self.units), self.basis.view().t(), false);
        out
    }

    /// Adds `Q' sum` to `out: [units, width]`, for `sum: [rank, width]`.
    pub(super) fn lift(&self, sum: &[C], out: &mut [C]) {
        let width = out.len() / self.units;
        matmul(out, width, self.basis.view().t(), View::new(sum, self.rank(), width), true);
    }
}

/// The mean of matrices `[units, inputs]`, transposed: `[inputs, units]`.
fn mean(block: &Block, weights: &[View<f64>]) -> Vec<f64> {
    let mut mean = vec![0.0; block.inputs * block.units];
    for w in weights {
        for u in 0..block.units {
            let row = w.row(u).iter().enumerate();
            row.for_each(|(j, w)| mean[j * block.units + u] += w / weights.len() as f64);
        }
    }
    mean
}

/// What some rounds' weights deviate by from their mean, divided by its norm, so that powers of it stay in the range of `f32`.
struct Deviations {
    /// `[units, rounds * inputs]`
    values: Vec<f32>,
    columns: usize,
    /// The norm that they are divided by.
    norm: f64,
}

impl Deviations {
    fn new(block: &Block, weights: &[View<f64>], mean: &[f64]) -> Self {
        let (units, columns) = (block.units, weights.len() * block.inputs);
        let mut values: Vec<f64> = Vec::with_capacity(units * columns);
        for u in 0..units {
            for w in weights {
                values.extend(w.row(u).iter().enumerate().map(|(j, w)| w - mean[j * units + u]));
            }
        }
        let norm = norm(&values);
        Self { values: values.iter().map(|v| (v / norm) as f32).collect(), columns, norm }
    }

    /// The sum of their squares.
    fn square(&self) -> f64 {
        self.norm * self.norm
    }

    /// Extends the basis until the squares of what it does not span sum to at most `allowed`; `None` if that takes more than `max_rank` vectors.
    fn span(mut self, basis: &mut Basis<f64>, allowed: f64, max_rank: usize, seed: u64) -> Option<()> {
        let allowed = allowed / self.square();
        self.remove(&basis.rows, basis.units);
        let mut blocks = BLOCKS.into_iter();
        let mut size = BLOCKS[0];
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        while self.values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() > allowed {
            size = blocks.next().unwrap_or(size).min(max_rank.saturating_sub(basis.rank()));
            if size == 0 {
                return None;
            }
            let from = basis.rows.len();
            basis.append(&self.range(basis.units, size, &mut random));
            if basis.rows.len() == from {
                return None;
            }
            self.remove(&basis.rows[from..], basis.units);
        }
        Some(())
    }

    /// `[size, units]`: combinations of the columns that lie mostly where most of the deviations is, by random combinations and one step of
    /// subspace iteration (Halko, Martinsson and Tropp, "Finding structure with randomness", 2011).
    fn range(&self, units: usize, size: usize, random: &mut ChaCha8Rng) -> Vec<f64> {
        let columns = self.columns;
        let sign = |_| if random.next_u32() & 1 == 0 { 1.0 } else { -1.0 };
        let signs: Vec<f32> = (0..columns * size).map(sign).collect();
        let all = View::new(&self.values, units, columns);
        let (mut found, mut back) = (vec![0.0f32; units * size], vec![0.0f32; columns * size]);
        matmul(&mut found, size, all, View::new(&signs, columns, size), false);
        matmul(&mut back, size, all.t(), View::new(&found, units, size), false);
        matmul(&mut found, size, all, View::new(&back, columns, size), false);
        convert(&View::new(&found, units, size).t().to_vec())
    }

    /// Removes the part along orthonormal rows from the columns.
    fn remove(&mut self, rows: &[f64], units: usize) {
        let rank = rows.len() / units;
        let rows: Vec<f32> = convert(rows);
        let rows = View::new(&rows, rank, units);
        let mut along = vec![0.0; rank * self.columns];
        matmul(&mut along, self.columns, rows, View::new(&self.values, units, self.columns), false);
        along.iter_mut().for_each(|v| *v = -*v);
        matmul(&mut self.values, self.columns, rows.t(), View::new(&along, rank, self.columns), true);
    }
}

impl<C: Real> Basis<C> {
    fn rank(&self) -> usize {
        self.rows.len() / self.units
    }

    fn view(&self) -> View<'_, C> {
        View::new(&self.rows, self.rank(), self.units)
    }
}

impl Basis<f64> {
    fn to_f32(&self) -> Basis<f32> {
        Basis { units: self.units, rows: convert(&self.rows) }
    }

    /// Appends what is new in the rows of `vectors`, orthonormalized.
    fn append(&mut self, vectors: &[f64]) {
        let (units, known, count) = (self.units, self.rank(), vectors.len() / self.units);
        let mut rest = vectors.to_vec();
        let mut along = vec![0.0; count * known];
        // Gram-Schmidt; twice is enough.
        for _ in 0..2 {
            matmul(&mut along, known.max(1), View::new(&rest, count, units), self.view().t(), false);
            along.iter_mut().for_each(|v| *v = -*v);
            matmul(&mut rest, units, View::new(&along, count, known), self.view(), true);
        }
        for (vector, before) in rest.chunks_exact_mut(units).zip(vectors.chunks_exact(units)) {
            orthogonalize(self.rows[known * units..].chunks_exact(units), vector);
            let length = norm(vector);
            if length > NEW * norm(before) {
                self.rows.extend(vector.iter().map(|v| v / length));
            }
        }
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{LayerSpec, Network};

    fn wave(count: usize, frequency: f64) -> Vec<f64> {
        (0..count).map(|i| ((i * i) as f64 * frequency).sin()).collect()
    }

    /// 24 rounds of 40 units with 5 inputs that move along some directions.
    fn states(network: &Network, directions: usize) -> Vec<Vec<f64>> {
        let ways: Vec<Vec<f64>> = (0..directions).map(|d| wave(network.parameters(), 0.7 + d as f64)).collect();
        let start = wave(network.parameters(), 0.3);
        let state = |n: usize| {
            let along = |d: usize, way: &[f64], i: usize| 0.1 * ((n * (d + 1)) as f64).cos() * way[i];
            (0..start.len())
                .map(|i| start[i] + ways.iter().enumerate().map(|(d, way)| along(d, way, i)).sum::<f64>())
                .collect()
        };
        (0..24).map(state).collect()
    }

    #[test]
    fn the_lifted_coordinates_and_the_residuals_are_the_weights() {
        let layers = [LayerSpec::dense(5), LayerSpec::dense(40)];
        let network = Network::new(3, &layers).expect("the layers fit");
        let block = &network.blocks()[1];
        assert!(is_worthwhile(block));
        for (directions, rank) in [(0, 5), (1, 10)] {
            let states = states(&network, directions);
            let low_rank = LowRankWeights::find(block, &states, 4..20).expect("few vectors");
            // The mean has one vector per input, a direction as many more; a few random combinations find them all.
            assert_eq!(low_rank.rank(), rank, "{directions}");
            let square = View::new(&low_rank.basis.rows, rank, 40);
            let mut unit = vec![0.0; rank * rank];
            matmul(&mut unit, rank, square, square.t(), false);
            assert!(unit.iter().enumerate().all(|(i, v)| (v - f64::from(u8::from(i % (rank + 1) == 0))).abs() < 1e-12));
            for (round, weights) in states.iter().enumerate().take(20).skip(4) {
                let weights = matrix(block, weights);
                let residual = low_rank.residual(round).expect("there are residuals in double precision");
                let mut total = vec![0.0; 40 * 5];
                low_rank.lift(&low_rank.coordinates(round).to_vec(), &mut total);
                let left: f64 =
                    (0..40).map(|u| residual.row(u).iter().map(|v| f64::from(*v).powi(2)).sum::<f64>()).sum();
                assert!(left.sqrt() <= RESOLUTION * norm(&weights.to_vec()), "{left:e}");
                for (sum, (v, w)) in total.iter().zip(residual.to_vec().iter().zip(weights.to_vec())) {
                    assert!((sum + f64::from(*v) - w).abs() < 1e-10);
                }
            }
        }
        assert!(LowRankWeights::find(block, &states(&network, 4), 4..20).is_none(), "25 vectors of at most 16");
        for weight in [0.0, 1e200, f64::NAN] {
            assert!(
                LowRankWeights::find(block, &vec![vec![weight; network.parameters()]; 3], 0..3).is_none(),
                "{weight}"
            );
        }
    }

    #[test]
    fn what_is_known_is_not_appended() {
        let (first, second) = (wave(6, 0.4), wave(6, 1.1));
        let mut basis = Basis { units: 6, rows: Vec::new() };
        basis.append(&first);
        let mixed: Vec<f64> = first.iter().zip(&second).map(|(a, b)| 3.0 * a - b).collect();
        basis.append(&[first.clone(), mixed, second, vec![0.0; 6]].concat());
        assert_eq!(basis.rank(), 2);
        assert!(dot(&basis.rows[..6], &basis.rows[6..]).abs() < 1e-14);
    }
}
