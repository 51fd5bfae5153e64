//! One round: the loss of a minibatch, its gradient, and what observers need of the linearization.

use crate::{
    kernels::{
        block::Cotangents,
        dense::{RowShare, outer_of_shares},
    },
    loss::{Loss, Targets},
    network::{Block, Network},
    num::{
        Real,
        pieces::{CHUNK, contiguous},
    },
    passes::{Passes, Point, Tape},
};
use rayon::prelude::*;
use std::ops::Range;

/// The minibatch is computed in this many parts side by side: small products gain nothing from threads inside
/// them. The number is fixed, so results do not depend on the number of threads.
const PARTS: usize = 2;
/// The same for other networks than dense chains: the parts of convolutions are large enough to be more of them.
const GRAPH_PARTS: usize = 8;
/// Coordinates of the gradient of a dense chain that a task computes, for all parts.
const PIECE: usize = 1 << 13;

/// Inputs and targets that rounds draw rows from.
#[derive(Clone, Copy, Debug)]
pub struct Examples<'a, T> {
    /// `[rows, inputs]`.
    pub inputs: &'a [T],
    pub features: usize,
    /// The inputs themselves for an autoencoder.
    pub targets: Targets<'a, T>,
    /// Target values per row; 0 for labels.
    pub target_width: usize,
}

impl<'a, T: Real> Examples<'a, T> {
    /// Examples of an autoencoder: the targets are the inputs.
    pub fn autoencoder(inputs: &'a [T], features: usize) -> Self {
        Self { inputs, features, targets: Targets::Values(inputs), target_width: features }
    }

    /// Examples of a classifier.
    pub fn classifier(inputs: &'a [T], features: usize, labels: &'a [u32]) -> Self {
        Self { inputs, features, targets: Targets::Labels(labels), target_width: 0 }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.inputs.len() / self.features
    }

    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Copies the inputs of `rows` one after the other.
    pub fn gather_inputs(&self, rows: &[u32], out: &mut Vec<T>) {
        out.clear();
        for row in rows {
            out.extend_from_slice(&self.inputs[*row as usize * self.features..][..self.features]);
        }
    }

    /// Copies the targets of `rows`; values or labels, whichever there are.
    pub fn gather_targets(&self, rows: &[u32], values: &mut Vec<T>, labels: &mut Vec<u32>) {
        values.clear();
        labels.clear();
        match self.targets {
            Targets::Values(all) => {
                for row in rows {
                    values.extend_from_slice(&all[*row as usize * self.target_width..][..self.target_width]);
                }
            }
            Targets::Labels(all) => labels.extend(rows.iter().map(|row| all[*row as usize])),
        }
    }

    /// Whether the targets are the inputs, so that they need not be gathered twice.
    pub fn targets_are_inputs(&self) -> bool {
        matches!(self.targets, Targets::Values(values) if std::ptr::eq(values.as_ptr(), self.inputs.as_ptr()))
    }
}

/// A share of a round's minibatch with its tape and cotangents.
#[derive(Debug, Default)]
pub struct Part<T> {
    /// Which rows of the minibatch.
    pub rows: Range<usize>,
    /// `[rows, inputs]`.
    pub x: Vec<T>,
    values: Vec<T>,
    labels: Vec<u32>,
    pub tape: Tape<T>,
    /// Holds the derivatives of the *minibatch mean* loss.
    passes: Passes<T>,
    gradient: Vec<T>,
    loss: f64,
}

impl<T: Real> Part<T> {
    /// The derivative of the *minibatch mean* loss in what a block gives, behind its rectifier and pool, `[rows, features out]`.
    pub fn cotangents(&self, block: &Block) -> Cotangents<'_, T> {
        Cotangents { values: self.passes.cotangent(block), per_datapoint: 1, derivative: self.tape.derivative(block) }
    }

    /// The derivative of the minibatch mean loss in the pre-activations of a *dense* block, `[rows, units]`.
    pub fn delta(&self, block: &Block) -> &[T] {
        self.passes.delta(block)
    }

    /// What the gradient of a dense block takes of this part.
    fn share(&self, block: &Block) -> RowShare<'_, T> {
        RowShare { delta: self.delta(block), x: self.tape.input(block, &self.x), rows: self.rows.len() }
    }
}

/// A round as observers see it: everything about `W^n` and the minibatch `B_n`, before the update.
pub struct Round<'a, T> {
    /// 1-based.
    pub number: usize,
    /// 1-based.
    pub epoch: usize,
    /// Rows of the data in the minibatch.
    pub rows: &'a [u32],
    /// `W^n`, flat.
    pub weights: &'a [T],
    /// The gradient of the loss at `W^n`, flat.
    pub gradient: &'a [T],
    /// The mean loss of the minibatch.
    pub loss: f64,
    /// The minibatch in consecutive shares.
    pub parts: &'a [Part<T>],
}

/// Computes rounds, reusing its buffers.
pub struct RoundEngine<'a, T> {
    network: &'a Network,
    loss: Loss,
    /// Rows of the minibatch that the parts are cut for.
    batch: usize,
    /// Those of the largest minibatch so far; of them, the first `used` have rows.
    parts: Vec<Part<T>>,
    used: usize,
    /// Of a dense chain: consecutive units (block, units of the block) whose gradients are computed together.
    pieces: Vec<Vec<(usize, Range<usize>)>>,
    gradient: Vec<T>,
    mean_loss: f64,
}

/// Cuts the units of a dense chain into pieces of about [`PIECE`] coordinates; none of other networks.
fn pieces(network: &Network) -> Vec<Vec<(usize, Range<usize>)>> {
    let (mut pieces, mut piece, mut size) = (Vec::new(), Vec::new(), 0);
    if !network.is_dense_chain() {
        return pieces;
    }
    for (l, block) in network.blocks().iter().enumerate() {
        let mut first = 0;
        while first < block.units {
            // Whole groups of rows of the product.
            let some = (PIECE - size).div_ceil(block.width()).next_multiple_of(8).min(block.units - first);
            piece.push((l, first..first + some));
            first += some;
            size += some * block.width();
            if size >= PIECE {
                pieces.push(std::mem::take(&mut piece));
                size = 0;
            }
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

impl<'a, T: Real> RoundEngine<'a, T> {
    /// Expects minibatches of `batch` rows: buffers have room for them. Other sizes cost one more set-up each time they come.
    pub fn new(network: &'a Network, loss: Loss, batch: usize) -> Self {
        let gradient = vec![T::ZERO; network.parameters()];
        let (parts, pieces) = (Vec::new(), pieces(network));
        let mut engine = Self { network, loss, batch, parts, used: 0, pieces, gradient, mean_loss: 0.0 };
        engine.cut(batch);
        engine
    }

    /// Cuts minibatches of `batch` rows into parts.
    fn cut(&mut self, batch: usize) {
        let most = if self.network.is_dense_chain() { PARTS } else { GRAPH_PARTS };
        let size = batch.div_ceil(most).max(1);
        (self.batch, self.used) = (batch, batch.div_ceil(size));
        // A dense chain's gradient is computed for all parts at once.
        let own = if self.pieces.is_empty() { self.network.parameters() } else { 0 };
        while self.parts.len() < self.used {
            self.parts.push(Part { gradient: vec![T::ZERO; own], ..Part::default() });
        }
        for (part, start) in self.parts.iter_mut().zip((0..batch).step_by(size)) {
            part.rows = start..batch.min(start + size);
        }
    }

    /// Computes loss, tape, cotangents and gradient of the minibatch `rows` at `weights`, both means over its rows.
    ///
    /// # Panics
    /// If there are no rows.
    pub fn compute(&mut self, weights: &[T], examples: &Examples<T>, rows: &[u32]) {
        assert!(!rows.is_empty(), "a minibatch has at least one row");
        if rows.len() != self.batch {
            self.cut(rows.len());
        }
        let (network, loss) = (self.network, self.loss);
        let scale = T::from_f64(1.0 / self.batch as f64);
        self.parts[..self.used].par_iter_mut().with_max_len(1).for_each(|part| {
            let rows = &rows[part.rows.clone()];
            examples.gather_inputs(rows, &mut part.x);
            part.passes.forward(network, weights, &part.x, rows.len(), &mut part.tape, |_, _, _| ());
            let same = examples.targets_are_inputs();
            if !same {
                examples.gather_targets(rows, &mut part.values, &mut part.labels);
            }
            let targets = match examples.targets {
                Targets::Values(_) => Targets::Values(if same { &part.x } else { &part.values }),
                Targets::Labels(_) => Targets::Labels(&part.labels),
            };
            let outputs = network.outputs();
            let cotangent = part.passes.output_cotangent(network);
            part.loss = loss.value_gradient(&part.tape.output, outputs, targets, scale, cotangent);
            part.gradient.fill(T::ZERO);
            let own = if part.gradient.is_empty() { 0..0 } else { 0..network.blocks().len() };
            part.passes.vjp(&Point { network, weights, x: &part.x, tape: &part.tape }, own, &mut part.gradient);
        });
        self.mean_loss = self.parts().iter().map(|part| part.loss).sum::<f64>() / self.batch as f64;
        if self.pieces.is_empty() {
            self.sum_gradients();
        } else {
            self.compute_gradient();
        }
    }

    /// The gradient from those of the parts.
    fn sum_gradients(&mut self) {
        let (first, rest) = self.parts[..self.used].split_first().expect("a minibatch has at least one row");
        contiguous(self.gradient.par_chunks_mut(CHUNK)).enumerate().for_each(|(share, total)| {
            let start = share * CHUNK;
            crate::num::vectorized(
                #[inline(always)]
                || {
                    total.copy_from_slice(&first.gradient[start..start + total.len()]);
                    for part in rest {
                        total.iter_mut().zip(&part.gradient[start..]).for_each(|(sum, g)| *sum += *g);
                    }
                },
            );
        });
    }

    /// The gradient of a dense chain from the parts' inputs and cotangents, piece by piece.
    fn compute_gradient(&mut self) {
        let (blocks, parts) = (self.network.blocks(), &self.parts[..self.used]);
        let shares: Vec<Vec<RowShare<T>>> =
            blocks.iter().map(|block| parts.iter().map(|part| part.share(block)).collect()).collect();
        let mut rest = &mut self.gradient[..];
        let mut tasks = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            let size = piece.iter().map(|(l, units)| units.len() * blocks[*l].width()).sum();
            let (own, behind) = rest.split_at_mut(size);
            tasks.push((piece, own));
            rest = behind;
        }
        contiguous(tasks.into_par_iter()).for_each(|(piece, mut own)| {
            for (l, units) in piece {
                let (gradient, behind) = own.split_at_mut(units.len() * blocks[*l].width());
                outer_of_shares(&blocks[*l], units.clone(), &shares[*l], gradient);
                own = behind;
            }
        });
    }

    pub fn network(&self) -> &'a Network {
        self.network
    }

    /// Mean loss of the last computed round.
    pub fn loss(&self) -> f64 {
        self.mean_loss
    }

    /// Gradient of the last computed round, flat.
    pub fn gradient(&self) -> &[T] {
        &self.gradient
    }

    pub fn gradient_is_finite(&self) -> bool {
        // A sum is finite only if all terms are (or the squares overflow, which is divergence as well).
        crate::num::sum_of_squares(&self.gradient).is_finite()
    }

    /// The minibatch of the last computed round in consecutive shares, with their tapes and cotangents.
    pub fn parts(&self) -> &[Part<T>] {
        &self.parts[..self.used]
    }

    /// The last computed round for observers.
    pub fn round<'b>(&'b self, number: usize, epoch: usize, weights: &'b [T], rows: &'b [u32]) -> Round<'b, T> {
        Round { number, epoch, rows, weights, gradient: &self.gradient, loss: self.mean_loss, parts: self.parts() }
    }
}
