//! Preconditioners of the large problems (`docs/theory.md`, section 4).
//!
//! - `moments`: what is summed over rounds; how rounds are sampled
//! - `kronecker`: the Kronecker factors `mean M (x) mean x x'` of a block, and systems with their product
//! - `schur`: systems with what is left of a hidden block's curvature when the output block follows; `cache`: its decompositions for some shifts

mod cache;
mod kronecker;
mod moments;
mod schur;

pub use kronecker::KroneckerFactors;

use super::chain::window::Window;
use moments::{Moments, NetworkMoments};
use rayon::prelude::*;
use schur::SchurComplement;
use std::sync::atomic::{AtomicBool, Ordering};

/// Eigendecompositions up to this width are made for every prefix; larger ones when the prefix has grown by [`GROWTH`].
const CHEAP_WIDTH: usize = 128;
/// See [`CHEAP_WIDTH`].
const GROWTH: usize = 4;

/// The Kronecker factors of every block, for every prefix.
pub struct Preconditioners {
    /// Per block: prefix length and preconditioner, increasing.
    blocks: Vec<Vec<(usize, BlockPreconditioner)>>,
}

/// Systems with the curvature of one block.
pub(crate) struct BlockPreconditioner {
    factors: KroneckerFactors,
    schur: Option<SchurComplement>,
}

impl BlockPreconditioner {
    /// Weights of the block.
    pub(crate) fn len(&self) -> usize {
        self.factors.len()
    }

    /// [`KroneckerFactors::solve`].
    pub(crate) fn solve(&self, shift: f64, residual: &[f64]) -> Vec<f64> {
        self.factors.solve(shift, residual)
    }

    /// The same with the Schur complement of the output block, if it is known: the curvature that is left when the output block follows.
    pub(crate) fn solve_schur(&self, shift: f64, residual: &[f64]) -> Vec<f64> {
        let schur = self.schur.as_ref().and_then(|schur| schur.solve(&self.factors, shift, residual));
        schur.unwrap_or_else(|| self.solve(shift, residual))
    }
}

/// Applies `solve` to the parts of a residual one after the other, with blocks of these lengths.
pub(crate) fn solve_blocks<B>(
    blocks: impl Iterator<Item = (usize, B)>,
    residual: &[f64],
    solve: impl Fn(B, &[f64]) -> Vec<f64>,
) -> Vec<f64> {
    let mut out = Vec::with_capacity(residual.len());
    let mut rest = residual;
    for (length, block) in blocks {
        let (own, tail) = rest.split_at(length);
        out.extend(solve(block, own));
        rest = tail;
    }
    out
}

impl Preconditioners {
    /// Averages over the rounds of each prefix; with `schur` also what the hidden blocks share with the output block, for
    /// preconditioning at network scale (quadratic losses).
    pub fn new(window: &Window<f64>, prefixes: &[usize], schur: bool) -> Self {
        Self::until(window, prefixes, schur, &AtomicBool::new(false)).expect("nobody stops it")
    }

    /// The same, or nothing once `stop` is set.
    pub fn until(window: &Window<f64>, prefixes: &[usize], schur: bool, stop: &AtomicBool) -> Option<Self> {
        let stopped = || stop.load(Ordering::Relaxed);
        let quadratic = window.loss().is_quadratic();
        let mut moments = moments_of_prefixes(window, prefixes, schur && quadratic, &stopped)?;
        let scale = |rounds: usize| 1.0 / (rounds * window.batch()) as f64;
        // The output block first: the Schur complements of the others are made with its factors.
        let output = moments.pop().unwrap_or_default();
        let output =
            decompose(output, &stopped, |_, sum| BlockPreconditioner { factors: sum.factors(quadratic), schur: None });
        let hidden = |rounds: usize, sum: &Moments| {
            let factors = sum.factors(false);
            let output = output.iter().find(|(n, _)| *n == rounds).map(|(_, output)| &output.factors);
            let shared = sum.shared.as_ref().zip(output);
            let schur = shared.and_then(|(sum, output)| SchurComplement::new(sum, &factors, output, scale(rounds)));
            BlockPreconditioner { factors, schur }
        };
        let all = moments.into_par_iter().with_max_len(1);
        let mut blocks: Vec<_> = all.map(|list| decompose(list, &stopped, hidden)).collect();
        blocks.push(output);
        (!stopped()).then_some(Self { blocks })
    }

    /// The preconditioner of a block for the longest prefix known up to `rounds`.
    pub(crate) fn of(&self, block: usize, rounds: usize) -> &BlockPreconditioner {
        let list = &self.blocks[block];
        &list[list.partition_point(|(n, _)| *n <= rounds).saturating_sub(1)].1
    }
}

/// For every block the moments of the prefixes that get a decomposition of their own; `None` once `stopped`.
fn moments_of_prefixes(
    window: &Window<f64>,
    prefixes: &[usize],
    schur: bool,
    stopped: &(dyn Fn() -> bool + Sync),
) -> Option<Vec<Vec<(usize, Moments)>>> {
    let blocks = window.network().blocks();
    let mut sums = NetworkMoments::zero(blocks, schur);
    let mut lists: Vec<Vec<(usize, Moments)>> = vec![Vec::new(); blocks.len()];
    let mut from = 0;
    for rounds in prefixes {
        sums.add_rounds(window, from..*rounds, stopped);
        from = *rounds;
        if stopped() {
            return None;
        }
        for (l, (list, sum)) in lists.iter_mut().zip(&sums.0).enumerate() {
            let grown = list.last().is_none_or(|(before, _)| *rounds >= GROWTH * before);
            // Schur complements need the output block's factors of their own prefix.
            if grown || blocks[l].width() <= CHEAP_WIDTH || (schur && l + 1 == blocks.len()) {
                list.push((*rounds, sum.clone()));
            }
        }
    }
    Some(lists)
}

/// Makes the preconditioners of one block from its moments, side by side. Once `stopped`, some are left out: all of it is given up then.
fn decompose(
    moments: Vec<(usize, Moments)>,
    stopped: &(dyn Fn() -> bool + Sync),
    make: impl Fn(usize, &Moments) -> BlockPreconditioner + Sync,
) -> Vec<(usize, BlockPreconditioner)> {
    let one = |(rounds, sum): &(usize, Moments)| (!stopped()).then(|| (*rounds, make(*rounds, sum)));
    moments.par_iter().with_max_len(1).filter_map(one).collect()
}
