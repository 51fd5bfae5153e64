//! Kronecker factors of the blocks of any network, estimated from some datapoints.
//!
//! For a convolution it is the product of the mean over positions of the curvature in a pre-activation and the sum over positions of `x x'` over
//! patches (Grosse and Martens, "A Kronecker-factored approximate Fisher matrix for convolution layers", 2016, section 3).

use super::sample::{Sample, Shard};
use crate::{
    kernels::block::{Scratch, cotangent_moments, input_moments},
    network::Block,
    num::{
        Real,
        pieces::{Cut, PartialSum, add_in_pieces},
    },
    passes::{Passes, Point},
    taylor::precondition::KroneckerFactors,
};
use std::sync::atomic::{AtomicBool, Ordering};

/// Datapoints that preconditioners are estimated from, at most.
const ESTIMATED: usize = 256;
/// Shards whose moments are computed side by side.
const TOGETHER: usize = 4;

/// Sums over datapoints for one block's preconditioner.
struct Moments {
    /// `[units, units]`, of the curvature in the pre-activations, over datapoints and positions.
    m: Vec<f64>,
    /// `[width, width]`, of inputs with the constant 1 of the bias.
    x: Vec<f64>,
}

/// The moments of all blocks.
struct BlockMoments(Vec<Moments>);

impl BlockMoments {
    fn zero(blocks: &[Block]) -> Self {
        let square = |width: usize| vec![0.0; width * width];
        Self(blocks.iter().map(|block| Moments { m: square(block.units), x: square(block.width()) }).collect())
    }
}

impl PartialSum for BlockMoments {
    fn add(&mut self, next: Self) {
        for (sum, next) in self.0.iter_mut().zip(next.0) {
            sum.m.add(next.m);
            sum.x.add(next.x);
        }
    }
}

/// The Kronecker factors of every block, estimated from evenly spread shards of the sample.
pub(super) fn estimate<T: Real>(sample: &Sample<T>, stop: &AtomicBool) -> Option<Vec<KroneckerFactors>> {
    let stopped = || stop.load(Ordering::Relaxed);
    let blocks = sample.network.blocks();
    let all = sample.shards_of(0..sample.rounds());
    let count = (ESTIMATED * all.len()).div_ceil(sample.rows.rows().len()).clamp(1, all.len());
    let chosen: Vec<(usize, usize)> = (0..count).map(|i| all[i * all.len() / count]).collect();
    let mut sums = (BlockMoments::zero(blocks), 0);
    // A few at a time, so that their squares need not be held all at once.
    for some in chosen.chunks(TOGETHER) {
        if stopped() {
            return None;
        }
        add_in_pieces(&mut sums, some.len(), Cut::Every(1), |piece| {
            let (round, shard) = some[piece.start];
            let mut moments = BlockMoments::zero(blocks);
            let rows = add_moments(sample, round, shard, &mut moments.0);
            (moments, rows)
        });
    }
    let (sums, rows) = sums;
    let scale = 1.0 / rows as f64;
    let factors = |(block, sum): (&Block, &Moments)| {
        let share = scale / block.positions() as f64;
        KroneckerFactors::new((&sum.m, share), block.units, (&sum.x, scale), block.width())
    };
    blocks.iter().zip(&sums.0).map(|block| (!stopped()).then(|| factors(block))).collect()
}

/// Adds a shard to the moments of all blocks; returns its number of datapoints.
fn add_moments<T: Real>(sample: &Sample<T>, round: usize, shard: usize, moments: &mut [Moments]) -> usize {
    let network = sample.network;
    let (mut passes, mut scratch) = (Passes::new(), Scratch::default());
    let weights: Vec<f32> = sample.weights(round);
    let Shard { x, tape } = sample.linearize(&weights, round, shard, &mut passes);
    let (rows, outputs) = (tape.rows, network.outputs());
    let seeds = sample.loss.hessian_rows(&tape.output, outputs);
    let add = |to: &mut [f64], sum: &[f32]| to.iter_mut().zip(sum).for_each(|(a, b)| *a += f64::from(*b));
    let point = Point { network, weights: &weights, x: &x, tape: &tape };
    passes.backpropagate(&point, seeds, outputs, 0, |l, cotangents| {
        add(&mut moments[l].m, &cotangent_moments(&network.blocks()[l], cotangents, &mut scratch));
    });
    for (block, moments) in network.blocks().iter().zip(moments) {
        add(&mut moments.x, &input_moments(block, tape.input(block, &x), rows, &mut scratch));
    }
    rows
}
