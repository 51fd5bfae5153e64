//! The output block's weights of consecutive rounds, by their coordinates in a basis of few vectors.
//!
//! In a few dozen rounds training moves these weights little, and along few directions. With the rows of `Q: [rank, units]` orthonormal,
//! `W^n` is `Q' A_n` to [`RESOLUTION`], with `A_n = Q W^n: [rank, inputs]`. Products with the curvature need `W^n P_n` and `W^n' V`, and so
//! `Q' sum_n A_n P_n` and `A_n' (Q V)`: where a network has many outputs, a fraction of the work (`docs/theory.md`, section 4).
//!
//! Searches leave out what is left, `E_n = W^n - Q' A_n`. What is reported does not: it has `E_n` in single precision, which rounds a product
//! by [`RESOLUTION`] of what single precision would, some 1e-11.

use super::window::Group;
use crate::{
    kernels::{
        Real, View,
        dense::matrix,
        matmul,
        real::{axpy, convert, dot, norm},
    },
    network::Block,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// Rounds that share a frame at most (or one group's): with much fewer, going into the basis and back would cost too much.
const ROUNDS: usize = 32;
/// What a frame leaves out of its weights at most, as a share of their Frobenius norm.
const RESOLUTION: f64 = 3e-4;
/// Vectors at most, as a share of the units: with more, little work is saved.
const MAX_RANK: f64 = 0.4;
/// Outputs per input of the output block from which frames are sought.
const WIDE: usize = 4;
/// Random combinations that a basis grows by: few first, as few may be enough.
const BLOCKS: [usize; 3] = [8, 16, 32];
/// Of a vector, at least this share must be new: the rest of it is rounding.
const NEW: f64 = 1e-5;

/// Weights of consecutive rounds in a common basis.
#[derive(Clone, Debug)]
pub(crate) struct Frame<C> {
    /// 0-based.
    pub(super) rounds: Range<usize>,
    rank: usize,
    /// `Q: [rank, units]`, orthonormal rows.
    basis: Vec<C>,
    /// `A_n: [rank, inputs]` of each round.
    coordinates: Vec<Vec<C>>,
    /// `E_n: [units, inputs]` of each round, or of none.
    rest: Vec<Vec<f32>>,
    inputs: usize,
    units: usize,
}

/// Whether frames are worth a search for such an output block.
pub(crate) fn serves(block: &Block) -> bool {
    block.units >= WIDE * block.inputs
}

/// Numbers that frames keep of a round at most beside its weights, if they serve: coordinates.
pub(crate) fn numbers(block: &Block) -> usize {
    if serves(block) { (MAX_RANK * (block.units * block.inputs) as f64) as usize } else { 0 }
}

/// The rounds of each frame of a window: whole groups.
pub(crate) fn spans<C>(groups: &[Group<C>]) -> Vec<Range<usize>> {
    let per_group = groups.first().map_or(1, |group| group.rounds).max(1);
    let together = (ROUNDS / per_group).max(1);
    let span = |groups: &[Group<C>]| groups[0].first..groups[0].first + groups.iter().map(|g| g.rounds).sum::<usize>();
    groups.chunks(together).map(span).collect()
}

impl Frame<f64> {
    /// The frame of the output block `block` in some rounds with weights `states`, or `None` if it would need too many vectors.
    pub(crate) fn find(block: &Block, states: &[Vec<f64>], rounds: Range<usize>) -> Option<Self> {
        let (units, inputs) = (block.units, block.inputs);
        let max_rank = (MAX_RANK * units as f64) as usize;
        let weights: Vec<View<f64>> = states[rounds.clone()].iter().map(|w| matrix(block, w)).collect();
        // The mean of the rounds, its columns first; then what they differ by, `[units, rounds * inputs]`.
        let mut mean = vec![0.0; inputs * units];
        let mut total = 0.0;
        for w in &weights {
            for u in 0..units {
                total += dot(w.row(u), w.row(u));
                w.row(u).iter().enumerate().for_each(|(j, w)| mean[j * units + u] += w / weights.len() as f64);
            }
        }
        let mut basis = Vec::new();
        append(&mut basis, units, &mean);
        let columns = weights.len() * inputs;
        let mut rest: Vec<f64> = Vec::with_capacity(units * columns);
        for u in 0..units {
            for w in &weights {
                rest.extend(w.row(u).iter().enumerate().map(|(j, w)| w - mean[j * units + u]));
            }
        }
        // Of length 1: powers of it stay in the range of `f32`.
        let length = norm(&rest);
        let enough = RESOLUTION * RESOLUTION * total;
        if length * length > enough {
            let mut rest: Vec<f32> = rest.iter().map(|v| (v / length) as f32).collect();
            let enough = enough / (length * length);
            take_away(&mut rest, columns, &convert::<f64, f32>(&basis), units);
            let mut blocks = BLOCKS.into_iter();
            let mut size = BLOCKS[0];
            let mut random = ChaCha8Rng::seed_from_u64(rounds.start as u64);
            while rest.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() > enough {
                size = blocks.next().unwrap_or(size).min(max_rank.saturating_sub(basis.len() / units));
                if size == 0 {
                    return None;
                }
                let found = range(&rest, units, columns, size, &mut random);
                let from = basis.len();
                append(&mut basis, units, &found);
                if basis.len() == from {
                    return None;
                }
                take_away(&mut rest, columns, &convert::<f64, f32>(&basis[from..]), units);
            }
        }
        let rank = basis.len() / units;
        // Weights that are all zero, or too large to be squared, have none.
        if rank == 0 || rank > max_rank || !total.is_finite() {
            return None;
        }
        let mut frame = Self { rounds, rank, basis, coordinates: vec![], rest: vec![], inputs, units };
        let basis = View::new(&frame.basis, rank, units);
        let mut rest = vec![0.0; units * inputs];
        for w in weights {
            let mut own = vec![0.0; rank * inputs];
            matmul(&mut own, inputs, basis, w, false);
            matmul(&mut rest, inputs, basis.t(), View::new(&own, rank, inputs), false);
            frame.coordinates.push(own);
            let weights = (0..units).flat_map(|u| w.row(u));
            frame.rest.push(weights.zip(&rest).map(|(w, framed)| (w - framed) as f32).collect());
        }
        Some(frame)
    }

    /// The same in single precision, without what is left.
    pub(crate) fn to_f32(&self) -> Frame<f32> {
        let coordinates = self.coordinates.iter().map(|a| convert(a)).collect();
        let Self { rank, inputs, units, .. } = *self;
        Frame {
            rounds: self.rounds.clone(),
            basis: convert(&self.basis),
            coordinates,
            rest: vec![],
            rank,
            inputs,
            units,
        }
    }
}

impl<C: Real> Frame<C> {
    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    /// `A_n: [rank, inputs]` of a round of the window.
    pub(crate) fn weights(&self, round: usize) -> View<'_, C> {
        View::new(&self.coordinates[round - self.rounds.start], self.rank, self.inputs)
    }

    /// `E_n: [units, inputs]` of a round of the window, if it counts.
    pub(crate) fn rest(&self, round: usize) -> Option<View<'_, f32>> {
        self.rest.get(round - self.rounds.start).map(|rest| View::new(rest, self.units, self.inputs))
    }

    /// Whether what is left counts.
    pub(crate) fn has_rest(&self) -> bool {
        !self.rest.is_empty()
    }

    /// `(Q V)'` for the transposed `v: [width, units]`, in `out: [width, rank]`.
    pub(crate) fn enter(&self, v: &[C], out: &mut [C]) {
        let width = v.len() / self.units;
        matmul(
            out,
            self.rank,
            View::new(v, width, self.units),
            View::new(&self.basis, self.rank, self.units).t(),
            false,
        );
    }

    /// Adds `Q' sum` to `out: [units, width]`, for `sum: [rank, width]`.
    pub(crate) fn leave(&self, sum: &[C], out: &mut [C]) {
        let width = out.len() / self.units;
        matmul(out, width, View::new(&self.basis, self.rank, self.units).t(), View::new(sum, self.rank, width), true);
    }
}

/// `[size, units]`: combinations of the columns of `rest: [units, columns]` that lie mostly where most of it is, by random combinations and
/// one step of subspace iteration (Halko, Martinsson and Tropp, "Finding structure with randomness", 2011).
fn range(rest: &[f32], units: usize, columns: usize, size: usize, random: &mut ChaCha8Rng) -> Vec<f64> {
    let signs: Vec<f32> = (0..columns * size).map(|_| if random.next_u32() & 1 == 0 { 1.0 } else { -1.0 }).collect();
    let all = View::new(rest, units, columns);
    let (mut found, mut back) = (vec![0.0f32; units * size], vec![0.0f32; columns * size]);
    matmul(&mut found, size, all, View::new(&signs, columns, size), false);
    matmul(&mut back, size, all.t(), View::new(&found, units, size), false);
    matmul(&mut found, size, all, View::new(&back, columns, size), false);
    convert(&View::new(&found, units, size).t().to_vec())
}

/// Takes the part along the orthonormal rows of `basis` away from the columns of `rest`.
fn take_away(rest: &mut [f32], columns: usize, basis: &[f32], units: usize) {
    let rank = basis.len() / units;
    let basis = View::new(basis, rank, units);
    let mut along = vec![0.0; rank * columns];
    matmul(&mut along, columns, basis, View::new(rest, units, columns), false);
    along.iter_mut().for_each(|v| *v = -*v);
    matmul(rest, columns, basis.t(), View::new(&along, rank, columns), true);
}

/// Appends to the orthonormal rows of `basis` what is new in the rows of `vectors`.
fn append(basis: &mut Vec<f64>, units: usize, vectors: &[f64]) {
    let (known, count) = (basis.len() / units, vectors.len() / units);
    let mut rest = vectors.to_vec();
    let mut along = vec![0.0; count * known];
    // Twice is enough.
    for _ in 0..2 {
        let rows = View::new(&basis[..], known, units);
        matmul(&mut along, known.max(1), View::new(&rest, count, units), rows.t(), false);
        along.iter_mut().for_each(|v| *v = -*v);
        matmul(&mut rest, units, View::new(&along, count, known), rows, true);
    }
    for (vector, before) in rest.chunks_exact_mut(units).zip(vectors.chunks_exact(units)) {
        for _ in 0..2 {
            for other in basis[known * units..].chunks_exact(units) {
                axpy(-dot(other, vector), other, vector);
            }
        }
        let length = norm(vector);
        if length > NEW * norm(before) {
            basis.extend(vector.iter().map(|v| v / length));
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
    fn a_frame_and_its_rest_are_the_weights() {
        let layers = [LayerSpec::dense(5), LayerSpec::dense(40)];
        let network = Network::new(3, &layers).expect("the layers fit");
        let block = &network.blocks()[1];
        assert!(serves(block));
        for (directions, rank) in [(0, 5), (1, 10)] {
            let states = states(&network, directions);
            let frame = Frame::find(block, &states, 4..20).expect("few vectors");
            // The mean has one vector per input, a direction as many more; a few random combinations find them all.
            assert_eq!(frame.rank(), rank, "{directions}");
            let square = View::new(&frame.basis, rank, 40);
            let mut unit = vec![0.0; rank * rank];
            matmul(&mut unit, rank, square, square.t(), false);
            assert!(unit.iter().enumerate().all(|(i, v)| (v - f64::from(u8::from(i % (rank + 1) == 0))).abs() < 1e-12));
            for (round, weights) in states.iter().enumerate().take(20).skip(4) {
                let weights = matrix(block, weights);
                let rest = frame.rest(round).expect("frames in double precision have it");
                let mut total = vec![0.0; 40 * 5];
                frame.leave(&frame.weights(round).to_vec(), &mut total);
                let left: f64 = (0..40).map(|u| rest.row(u).iter().map(|v| f64::from(*v).powi(2)).sum::<f64>()).sum();
                assert!(left.sqrt() <= RESOLUTION * norm(&weights.to_vec()), "{left:e}");
                for (sum, (v, w)) in total.iter().zip(rest.to_vec().iter().zip(weights.to_vec())) {
                    assert!((sum + f64::from(*v) - w).abs() < 1e-10);
                }
            }
        }
        assert!(Frame::find(block, &states(&network, 4), 4..20).is_none(), "25 vectors of at most 16");
        for weight in [0.0, 1e200, f64::NAN] {
            assert!(Frame::find(block, &vec![vec![weight; network.parameters()]; 3], 0..3).is_none(), "{weight}");
        }
    }

    #[test]
    fn what_is_known_is_not_appended() {
        let (first, second) = (wave(6, 0.4), wave(6, 1.1));
        let mut basis = Vec::new();
        append(&mut basis, 6, &first);
        let mixed: Vec<f64> = first.iter().zip(&second).map(|(a, b)| 3.0 * a - b).collect();
        append(&mut basis, 6, &[first.clone(), mixed, second, vec![0.0; 6]].concat());
        assert_eq!(basis.len(), 12);
        assert!(dot(&basis[..6], &basis[6..]).abs() < 1e-14);
    }
}
