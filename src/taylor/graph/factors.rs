//! Kronecker factors of the blocks of any network, estimated from some datapoints.
//!
//! For a convolution it is the product of the mean over positions of the curvature in a pre-activation and the sum over positions of `x x'` over
//! patches (Grosse and Martens, "A Kronecker-factored approximate Fisher matrix for convolution layers", 2016, section 3).

use super::sample::{Sample, Shard};
use crate::{
    kernels::{
        View,
        conv::{self, Scratch},
        dense::append_inputs,
        gate::pull,
        matmul,
        passes::pull_cotangents,
    },
    network::Block,
    num::{
        Real,
        pieces::{Cut, PartialSum, add_in_pieces},
    },
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
    let all = sample.rounds() * sample.shards();
    let count = (ESTIMATED * sample.shards()).div_ceil(sample.batch).clamp(1, all);
    let chosen: Vec<usize> = (0..count).map(|i| i * all / count).collect();
    let zero = || BlockMoments::zero(blocks);
    let (mut sums, mut rows) = (zero(), 0);
    // A few at a time, so that their squares need not be held all at once.
    for some in chosen.chunks(TOGETHER) {
        if stopped() {
            return None;
        }
        let mut total = (sums, rows);
        add_in_pieces(&mut total, some.len(), Cut::Every(1), |piece| {
            let at = some[piece.start];
            let mut moments = zero();
            let rows = add_moments(sample, at / sample.shards(), at % sample.shards(), &mut moments.0);
            (moments, rows)
        });
        (sums, rows) = total;
    }
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
    let mut scratch = Scratch::default();
    let weights: Vec<f32> = sample.weights(round);
    let Shard { x, tape } = sample.linearize(&weights, round, shard, &mut scratch);
    let (rows, outputs) = (tape.rows, network.outputs());
    let seeds = sample.loss.hessian_rows(&tape.output, outputs);
    pull_cotangents(network, &weights, &tape, seeds, outputs, 0, &mut scratch, |l, lines| {
        let block = &network.blocks()[l];
        let units = block.units;
        let mut sum = vec![0.0f32; units * units];
        if block.convolution().is_some() {
            let mut delta = vec![0.0; block.activations()];
            for (at, line) in lines.chunks_exact(block.features_out()).enumerate() {
                pull(block, tape.gate(l).row(at / outputs, block), line, &mut delta);
                let view = View::new(&delta, block.positions(), units);
                matmul(&mut sum, units, view.t(), view, true);
            }
        } else {
            let view = View::new(lines, rows * outputs, units);
            matmul(&mut sum, units, view.t(), view, true);
        }
        moments[l].m.iter_mut().zip(&sum).for_each(|(a, b)| *a += f64::from(*b));
    });
    for (l, (block, moments)) in network.blocks().iter().zip(moments).enumerate() {
        let width = block.width();
        let mut sum = vec![0.0f32; width * width];
        let mut seen = Vec::new();
        match block.convolution() {
            None => append_inputs(block, tape.input(l, &x), &mut seen),
            Some(c) => conv::each_patch(c, tape.input(l, &x), rows, &mut scratch, |patches| {
                append_inputs(block, patches, &mut seen);
            }),
        }
        for part in seen.chunks(width * 4096) {
            let view = View::new(part, part.len() / width, width);
            matmul(&mut sum, width, view.t(), view, true);
        }
        moments.x.iter_mut().zip(&sum).for_each(|(a, b)| *a += f64::from(*b));
    }
    rows
}
