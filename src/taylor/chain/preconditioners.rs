//! The preconditioners of a window's blocks, for every prefix.

use super::{moments::NetworkMoments, window::Window};
use crate::taylor::precondition::{BlockPreconditioner, moments::Moments};
use rayon::prelude::*;
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
        let scale = |rounds: usize| window.scale(rounds);
        // The output block first: the Schur complements of the others are made with its factors.
        let output = moments.pop().unwrap_or_default();
        let output = decompose(output, &stopped, |_, sum| BlockPreconditioner::new(sum, quadratic));
        let hidden = |rounds: usize, sum: &Moments| {
            let output = output.iter().find(|(n, _)| *n == rounds).map(|(_, output)| output);
            BlockPreconditioner::beneath(sum, output, scale(rounds))
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
