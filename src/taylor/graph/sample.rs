//! Rounds of a run, linearized by the passes of the network.
//!
//! Products with the Gauss-Newton matrix are one forward-mode and one backward pass over the rounds, whatever the layers. What the passes
//! need of a round is recomputed from its weights, or kept if it fits in the memory given: the numbers are the same.

use crate::{
    data::RoundRows,
    loss::{Loss, Targets},
    network::Network,
    num::{
        Real, convert,
        pieces::{Cut, PartialSum, map_in_pieces},
    },
    passes::{Passes, Point, Tape},
    taylor::{Expansion, output_loss::OutputLoss, room},
    train::Examples,
};
use std::{
    borrow::Cow,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};

/// What moves: a range of blocks, and the part of the flat weights in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moving {
    pub blocks: Range<usize>,
    pub span: Range<usize>,
}

impl Moving {
    /// The weights of the blocks.
    fn reach(&self, network: &Network) -> Range<usize> {
        let blocks = &network.blocks()[self.blocks.clone()];
        blocks[0].offset..blocks[blocks.len() - 1].range().end
    }
}

/// Rounds of a run: weights and minibatches, in the type that was trained in.
#[derive(Clone, Copy)]
pub struct Sample<'a, T> {
    pub network: &'a Network,
    pub loss: Loss,
    pub examples: &'a Examples<'a, T>,
    /// The weights of each round, the first being `W^1`.
    pub states: &'a [Vec<T>],
    /// Their minibatches.
    pub rows: &'a RoundRows,
}

/// A part of a round's minibatch, linearized in the type `C`.
#[derive(Clone, Debug)]
pub struct Shard<C> {
    /// `[rows, inputs]`.
    pub x: Vec<C>,
    pub tape: Tape<C>,
}

/// Buffers of a thread.
struct Buffers<C> {
    passes: Passes<C>,
    gradient: Vec<C>,
}

impl<C: Real> Buffers<C> {
    fn new(network: &Network) -> Self {
        Self { passes: Passes::new(), gradient: vec![C::ZERO; network.parameters()] }
    }
}

impl<'a, T: Real> Sample<'a, T> {
    pub fn rounds(&self) -> usize {
        self.states.len()
    }

    /// One divided by the datapoints of the first `rounds` rounds, all counted with the weights of their rounds
    /// ([`RoundRows::weight`]).
    fn scale(&self, rounds: usize) -> f64 {
        1.0 / (rounds * self.rows.largest()) as f64
    }

    /// Shards of a round.
    pub fn shards(&self, round: usize) -> usize {
        self.rows.span(round).len().div_ceil(self.shard_rows())
    }

    /// Round and shard of all shards of some rounds, in order.
    pub fn shards_of(&self, rounds: Range<usize>) -> Vec<(usize, usize)> {
        rounds.flat_map(|round| (0..self.shards(round)).map(move |shard| (round, shard))).collect()
    }

    /// Datapoints of a shard, but for the last of a round.
    fn shard_rows(&self) -> usize {
        self.rows.largest().div_ceil(room::SHARDS)
    }

    /// Where the rows of a shard of a round lie among those of all rounds.
    pub fn span(&self, round: usize, shard: usize) -> Range<usize> {
        let (rows, size) = (self.rows.span(round), self.shard_rows());
        rows.start + shard * size..rows.end.min(rows.start + (shard + 1) * size)
    }

    /// The rows of the data in a shard of a round.
    fn rows_of(&self, round: usize, shard: usize) -> &'a [u32] {
        &self.rows.rows()[self.span(round, shard)]
    }

    /// The weights of a round.
    pub fn weights<C: Real>(&self, round: usize) -> Vec<C> {
        convert(&self.states[round])
    }

    /// Linearizes a shard at the given weights, which are those of its round.
    pub fn linearize<C: Real>(&self, weights: &[C], round: usize, shard: usize, passes: &mut Passes<C>) -> Shard<C> {
        let rows = self.rows_of(round, shard);
        let mut gathered = Vec::new();
        self.examples.gather_inputs(rows, &mut gathered);
        let (x, mut tape) = (convert(&gathered), Tape::default());
        passes.forward(self.network, weights, &x, rows.len(), &mut tape, |_, _, _| ());
        Shard { x, tape }
    }

    /// The loss summed over a shard at the outputs `f`, and its gradient there.
    pub fn loss_of(&self, round: usize, shard: usize, f: &[f64], scale: f64, gradient: &mut Vec<f64>) -> f64 {
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        self.examples.gather_targets(self.rows_of(round, shard), &mut values, &mut labels);
        let wide: Vec<f64> = convert(&values);
        let targets = match self.examples.targets {
            Targets::Values(_) => Targets::Values(&wide[..]),
            Targets::Labels(_) => Targets::Labels(&labels),
        };
        self.loss.value_gradient(f, self.network.outputs(), targets, scale, gradient)
    }

    /// Visits the shards of some rounds, in fixed pieces side by side; returns what each piece made, in order.
    fn pieces<C: Real, R: Send>(
        &self,
        rounds: Range<usize>,
        start: impl Fn() -> R + Sync,
        visit: impl Fn(usize, usize, &[C], &mut Buffers<C>, &mut R) + Sync,
    ) -> Vec<R> {
        let all = self.shards_of(rounds);
        map_in_pieces(all.len(), Cut::VECTORS, |piece| {
            let (mut buffers, mut result) = (Buffers::new(self.network), start());
            let (mut weights, mut current) = (Vec::new(), usize::MAX);
            for (round, shard) in &all[piece] {
                if current != *round {
                    (weights, current) = (self.weights(*round), *round);
                }
                visit(*round, *shard, &weights, &mut buffers, &mut result);
            }
            result
        })
    }

    /// The loss of the outputs of all rounds, for a loss of classes.
    pub fn output_loss(&self) -> OutputLoss<'a> {
        let mut labels = Vec::new();
        self.examples.gather_targets(self.rows.rows(), &mut Vec::new(), &mut labels);
        OutputLoss::new(self.loss, self.network.outputs(), self.rows, labels)
    }

    /// Keeps the linearization of all rounds in `f32`, and also in `f64`, where that takes no more than `memory` bytes.
    pub fn keep(self, memory: usize) -> KeptSample<'a, T> {
        static NEVER: AtomicBool = AtomicBool::new(false);
        self.keep_until(memory, &NEVER)
    }

    /// The same until `stop` is set: after that, what is kept and what is computed with it lacks shards, and is of no use.
    pub fn keep_until(self, memory: usize, stop: &'a AtomicBool) -> KeptSample<'a, T> {
        let single = self.tapes(memory, stop);
        let left = memory - single.len().min(1) * self.tape_bytes::<f32>();
        KeptSample { sample: self, single, double: self.tapes(left, stop), stop }
    }

    fn tape_bytes<C: Real>(&self) -> usize {
        self.rows.rows().len() * Tape::<C>::bytes_per_row(self.network)
    }

    /// The shards of all rounds, or nothing if they take more than `memory` bytes.
    fn tapes<C: Real>(&self, memory: usize, stop: &AtomicBool) -> Vec<Vec<Shard<C>>> {
        if self.tape_bytes::<C>() > memory {
            return Vec::new();
        }
        let visit = |round, shard, weights: &[C], buffers: &mut Buffers<C>, kept: &mut Vec<Shard<C>>| {
            if !stop.load(Ordering::Relaxed) {
                kept.push(self.linearize(weights, round, shard, &mut buffers.passes));
            }
        };
        let mut all = self.pieces(0..self.rounds(), Vec::new, visit).into_iter().flatten();
        (0..self.rounds()).map(|round| all.by_ref().take(self.shards(round)).collect()).collect()
    }
}

/// A sample for many evaluations in `f64`, and many more products with its curvature in `f32`.
pub struct KeptSample<'a, T> {
    pub sample: Sample<'a, T>,
    /// By round and shard; empty if they would not fit.
    single: Vec<Vec<Shard<f32>>>,
    double: Vec<Vec<Shard<f64>>>,
    /// Shards are passed over once it is set.
    stop: &'a AtomicBool,
}

impl<T: Real> KeptSample<'_, T> {
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Values in the outputs of the first `rounds` rounds.
    pub fn outputs(&self, rounds: usize) -> usize {
        self.sample.rows.start(rounds) * self.sample.network.outputs()
    }

    /// A shard of a round in `f64`, kept or linearized at the weights, which are those of the round.
    pub fn linearized(
        &self,
        round: usize,
        shard: usize,
        weights: &[f64],
        passes: &mut Passes<f64>,
    ) -> Cow<'_, Shard<f64>> {
        match self.double.get(round).and_then(|shards| shards.get(shard)) {
            Some(kept) => Cow::Borrowed(kept),
            None => Cow::Owned(self.sample.linearize(weights, round, shard, passes)),
        }
    }

    /// The mean of the Taylor losses over the first `rounds` rounds at the displacement `u` of what moves from `W^1`, in `f64`.
    pub fn expand(&self, rounds: usize, moving: &Moving, u: &[f64]) -> Expansion {
        let sample = &self.sample;
        let network = sample.network;
        let scale = sample.scale(rounds);
        let at: Vec<f64> =
            sample.states[0][moving.span.clone()].iter().zip(u).map(|(start, u)| start.to_f64() + u).collect();
        let visit = |round: usize, shard: usize, weights: &[f64], buffers: &mut Buffers<f64>, sum: &mut Expansion| {
            if self.is_stopped() {
                return;
            }
            let kept = self.linearized(round, shard, weights, &mut buffers.passes);
            let Shard { x, tape } = &*kept;
            let mut direction = vec![0.0; weights.len()];
            let own = direction[moving.span.clone()].iter_mut().zip(&weights[moving.span.clone()]);
            own.zip(&at).for_each(|((d, w), v)| *d = v - w);
            let (point, blocks) = (Point { network, weights, x, tape }, moving.blocks.clone());
            let Buffers { passes, gradient } = buffers;
            let mut outputs = passes.jvp(&point, &direction, blocks.clone());
            outputs.iter_mut().zip(&tape.output).for_each(|(d, f)| *d += f);
            let scale = scale * sample.rows.weight(round);
            sum.value += sample.loss_of(round, shard, &outputs, scale, passes.output_cotangent(network)) * scale;
            gradient[moving.reach(network)].fill(0.0);
            passes.vjp(&point, blocks, gradient);
            sum.gradient.iter_mut().zip(&gradient[moving.span.clone()]).for_each(|(sum, g)| *sum += g);
            sum.outputs.extend_from_slice(&outputs);
        };
        let start = || Expansion::zero(u.len());
        let mut total = start();
        sample.pieces(0..rounds, start, visit).into_iter().for_each(|piece| total.add(piece));
        total
    }

    /// `J d` of some rounds, `[rows, outputs]`, for a direction in what moves.
    pub fn tangents(&self, rounds: Range<usize>, moving: &Moving, direction: &[f32]) -> Vec<f32> {
        let mut flat = vec![0.0; self.sample.network.parameters()];
        flat[moving.span.clone()].copy_from_slice(direction);
        let visit =
            |_: usize, _: usize, point: &Point<f32>, Buffers { passes, .. }: &mut Buffers<f32>, all: &mut Vec<f32>| {
                all.extend(passes.jvp(point, &flat, moving.blocks.clone()));
            };
        self.at_points(rounds, Vec::new, visit).concat()
    }

    /// `sum_n J_n' c_n` over the first `rounds` rounds, for cotangents `[rows, outputs]` and what moves.
    pub fn pull(&self, rounds: usize, moving: &Moving, cotangents: &[f32]) -> Vec<f32> {
        let (sample, network) = (&self.sample, self.sample.network);
        let visit = |round: usize, shard: usize, point: &Point<f32>, buffers: &mut Buffers<f32>, sum: &mut Vec<f32>| {
            let rows = sample.span(round, shard);
            let own = &cotangents[rows.start * network.outputs()..rows.end * network.outputs()];
            let Buffers { passes, gradient } = buffers;
            let top = passes.output_cotangent(network);
            top.clear();
            top.extend_from_slice(own);
            gradient[moving.reach(network)].fill(0.0);
            passes.vjp(point, moving.blocks.clone(), gradient);
            sum.iter_mut().zip(&gradient[moving.span.clone()]).for_each(|(sum, g)| *sum += *g);
        };
        let mut total = vec![0.0; moving.span.len()];
        let pieces = self.at_points(0..rounds, || vec![0.0; moving.span.len()], visit);
        pieces.into_iter().for_each(|piece| total.add(piece));
        total
    }

    /// Visits the shards of some rounds, linearized in `f32`, in fixed pieces side by side; returns what each piece made, in order.
    fn at_points<R: Send>(
        &self,
        rounds: Range<usize>,
        start: impl Fn() -> R + Sync,
        visit: impl Fn(usize, usize, &Point<f32>, &mut Buffers<f32>, &mut R) + Sync,
    ) -> Vec<R> {
        let (sample, network) = (&self.sample, self.sample.network);
        sample.pieces(rounds, start, |round, shard, weights: &[f32], buffers: &mut Buffers<f32>, result: &mut R| {
            if self.is_stopped() {
                return;
            }
            let kept = match self.single.get(round).and_then(|shards| shards.get(shard)) {
                Some(kept) => Cow::Borrowed(kept),
                None => Cow::Owned(sample.linearize(weights, round, shard, &mut buffers.passes)),
            };
            let Shard { x, tape } = &*kept;
            visit(round, shard, &Point { network, weights, x, tape }, buffers, result);
        })
    }

    /// `scale * sum_n w_n J_n' Hl J_n d` over the given rounds, for what moves; `Hl` is the Hessian of the loss of one datapoint at the outputs
    /// `moved: [rows, outputs]` (all rounds; unused for the mean squared error), `w_n` the weight of the round ([`RoundRows::weight`]).
    pub fn product(
        &self,
        rounds: Range<usize>,
        moving: &Moving,
        direction: &[f32],
        moved: &[f32],
        scale: f64,
    ) -> Vec<f32> {
        let sample = &self.sample;
        let network = sample.network;
        let mut flat = vec![0.0; network.parameters()];
        flat[moving.span.clone()].copy_from_slice(direction);
        let visit = |round: usize, shard: usize, point: &Point<f32>, buffers: &mut Buffers<f32>, sum: &mut Vec<f32>| {
            let Buffers { passes, gradient } = buffers;
            let mut outputs = passes.jvp(point, &flat, moving.blocks.clone());
            let first = sample.span(round, shard).start * network.outputs();
            let scale = scale * sample.rows.weight(round);
            let at = if sample.loss.is_quadratic() { &[] } else { &moved[first..first + outputs.len()] };
            sample.loss.apply_hessian(at, network.outputs(), scale as f32, &mut outputs);
            *passes.output_cotangent(network) = outputs;
            gradient[moving.reach(network)].fill(0.0);
            passes.vjp(point, moving.blocks.clone(), gradient);
            sum.iter_mut().zip(&gradient[moving.span.clone()]).for_each(|(sum, g)| *sum += *g);
        };
        let mut total = vec![0.0; direction.len()];
        let pieces = self.at_points(rounds, || vec![0.0f32; direction.len()], visit);
        pieces.into_iter().for_each(|piece| total.add(piece));
        total
    }
}
