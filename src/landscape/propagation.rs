//! From a network and a segment to kinks and pieces: layer by layer, each layer cutting the pieces of the one below.
//!
//! On a piece of the segment every unit of a layer is a polynomial in the segment's parameter, of degree one unless the
//! weights of several layers move. An affine layer maps coefficients to coefficients; a rectifier cuts a piece where a
//! unit changes its state. The number of pieces grows with the kinks alone, and so does the work: every piece costs
//! one pass through the layers above it, many pieces to a matrix product. Batches are bounded: a batch that has grown
//! too large is taken through the remaining layers in parts, in order.

use super::{
    Path, Pieces,
    affine::Affine,
    pool::{self, MaxPool},
    rectifier::Rectify,
};
use crate::{
    kernels::passes::{channels_last, reordered},
    network::{Network, Pool, Pooling},
};
use rayon::prelude::*;

/// What happens at a kink to the unit that causes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A rectifier's pre-activation becomes positive.
    On,
    /// A rectifier's pre-activation ceases to be positive.
    Off,
    /// The largest value of a pooling window is at another place, in row-major order.
    Winner { from: usize, to: usize },
}

/// A point of the segment where one unit changes its state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kink {
    /// The segment's parameter.
    pub at: f64,
    /// The layer with the unit's weights, or the pool, as an index in the layer list.
    pub layer: usize,
    /// The value of that layer: `position * neurons + neuron`, where dense layers have one position; of a pool
    /// `window * channels + channel`.
    pub unit: usize,
    pub change: Change,
}

/// One datapoint's way: the input `x + t v` for `from <= t <= to`.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// The input at `t = 0`.
    pub input: &'a [f64],
    /// How it moves with `t`; `None` if it rests.
    pub step: Option<&'a [f64]>,
    pub from: f64,
    pub to: f64,
}

impl<'a> Segment<'a> {
    /// A datapoint at rest: only the weights move.
    pub fn at_rest(input: &'a [f64], from: f64, to: f64) -> Self {
        Self { input, step: None, from, to }
    }
}

/// Kinks nearer than this fraction of the segment's length are reported at one point.
pub const MERGE: f64 = 1e-12;

/// Values per plane of a batch before it is taken on in parts.
const BATCH_VALUES: usize = 1 << 20;

/// Segments that go through the layers together, so that matrix products are large.
const TOGETHER: usize = 16;

/// A network whose weights rest or move along a line, `W + t D`, ready for any number of segments.
#[derive(Clone, Debug)]
pub struct Propagation<'a> {
    network: &'a Network,
    layers: Vec<Affine<'a>>,
}

/// A layer's action on pieces.
enum Stage<'a> {
    Affine(&'a Affine<'a>),
    Rectify(Rectify),
    MaxPool(MaxPool<'a>),
    AveragePool(&'a Pool),
}

impl Stage<'_> {
    fn apply(&mut self, batch: &Pieces, kinks: &mut Vec<Kink>) -> Pieces {
        match self {
            Stage::Affine(layer) => layer.apply(batch),
            Stage::Rectify(rectify) => rectify.apply(batch, &mut |kink| kinks.push(kink)),
            Stage::MaxPool(pool) => pool.apply(batch, &mut |kink| kinks.push(kink)),
            Stage::AveragePool(pool) => pool::average(pool, batch),
        }
    }
}

impl<'a> Propagation<'a> {
    /// `weights` is the flat vector at `t = 0`; `step` is how it moves with `t`, zero where it rests.
    ///
    /// # Panics
    /// If the vectors do not have the network's length.
    pub fn new(network: &'a Network, weights: &'a [f64], step: Option<&'a [f64]>) -> Self {
        assert!(weights.len() == network.parameters() && step.is_none_or(|step| step.len() == weights.len()));
        let layers = network.blocks().iter().map(|block| Affine::new(block, weights, step)).collect();
        Self { network, layers }
    }

    /// Kinks and outputs along a segment.
    ///
    /// # Panics
    /// If the input does not have the network's length, or the range is empty or not finite.
    pub fn path(&self, segment: &Segment) -> Path {
        let mut kinks = Vec::new();
        let mut outputs: Option<Pieces> = None;
        self.walk(segment, self.stages(segment), &mut kinks, &mut |next| match &mut outputs {
            Some(pieces) => pieces.append(next),
            None => outputs = Some(next.clone()),
        });
        Path::new(ordered(kinks), outputs.expect("a walk visits the whole segment"))
    }

    /// The kinks along a segment alone, without the outputs.
    ///
    /// # Panics
    /// As [`Propagation::path`].
    pub fn kinks(&self, segment: &Segment) -> Vec<Kink> {
        self.kinks_together(std::slice::from_ref(segment)).swap_remove(0)
    }

    /// The kinks of many segments, side by side on all threads.
    ///
    /// # Panics
    /// As [`Propagation::path`].
    pub fn kinks_of(&self, segments: &[Segment]) -> Vec<Vec<Kink>> {
        let alike = |a: &Segment, b: &Segment| a.step.is_some() == b.step.is_some();
        let group = |some: &[Segment]| -> Vec<Vec<Kink>> {
            some.chunk_by(alike).flat_map(|alike| self.kinks_together(alike)).collect()
        };
        segments.par_chunks(TOGETHER).flat_map_iter(group).collect()
    }

    /// The kinks of segments that all move, or all rest: layer by layer, so that a layer is one matrix product for all of them.
    fn kinks_together(&self, segments: &[Segment]) -> Vec<Vec<Kink>> {
        let without_outputs = |segment| {
            let mut stages = self.stages(segment);
            while matches!(stages.last(), Some(Stage::Affine(_) | Stage::AveragePool(_))) {
                stages.pop();
            }
            stages
        };
        let mut stages: Vec<Vec<Stage>> = segments.iter().map(without_outputs).collect();
        let mut batches: Vec<Pieces> = segments.iter().map(|segment| self.start(segment)).collect();
        let mut kinks = vec![Vec::new(); segments.len()];
        for i in 0..stages[0].len() {
            if batches.iter().map(Pieces::values).sum::<usize>() > BATCH_VALUES {
                // Too many pieces to keep at once: each segment goes on alone.
                for ((stages, batch), kinks) in stages.iter_mut().zip(batches).zip(&mut kinks) {
                    advance(&mut stages[i..], batch, kinks, &mut |_| ());
                }
                break;
            }
            if let Stage::Affine(layer) = stages[0][i] {
                batches = layer.apply_together(&batches);
                continue;
            }
            for ((stages, batch), kinks) in stages.iter_mut().zip(&mut batches).zip(&mut kinks) {
                match &mut stages[i..] {
                    [Stage::Rectify(last)] => last.kinks(batch, &mut |kink| kinks.push(kink)),
                    stages => *batch = stages[0].apply(batch, kinks),
                }
            }
        }
        kinks.into_iter().map(ordered).collect()
    }

    fn stages(&self, segment: &Segment) -> Vec<Stage<'_>> {
        let merge = MERGE * (segment.to - segment.from);
        let mut stages = Vec::new();
        for (block, layer) in self.network.blocks().iter().zip(&self.layers) {
            stages.push(Stage::Affine(layer));
            if let Some(rectifier) = block.rectifier {
                stages.push(Stage::Rectify(Rectify::new(rectifier, block.layer, merge)));
            }
            if let Some(pool) = &block.pool {
                let layer = block.layer + 1 + usize::from(block.rectifier.is_some());
                stages.push(match pool.pooling {
                    Pooling::Max => Stage::MaxPool(MaxPool::new(pool, layer, merge)),
                    Pooling::Average => Stage::AveragePool(pool),
                });
            }
        }
        stages
    }

    /// Takes the segment through the stages; `kinks` gets the kinks, out of order, `pieces` sees consecutive pieces with the
    /// last stage's units.
    fn walk(&self, segment: &Segment, mut stages: Vec<Stage>, kinks: &mut Vec<Kink>, pieces: &mut dyn FnMut(&Pieces)) {
        advance(&mut stages, self.start(segment), kinks, pieces);
    }

    /// The segment as one piece of the first layer's inputs.
    fn start(&self, segment: &Segment) -> Pieces {
        let Segment { input, step, from, to } = *segment;
        assert!(from <= to && (to - from).is_finite(), "a segment runs from a finite parameter to one not below it");
        assert_eq!(input.len(), self.network.inputs(), "the input has another length than the network's");
        let mut planes = vec![in_network_order(self.network, input)];
        if let Some(step) = step {
            let step = in_network_order(self.network, step);
            planes[0].iter_mut().zip(&step).for_each(|(x, v)| *x += from * v);
            planes.push(step);
        }
        Pieces::whole(from, to, planes)
    }
}

/// A datapoint in the order in which the network's first layer takes it.
pub(super) fn in_network_order(network: &Network, data: &[f64]) -> Vec<f64> {
    let Some(image) = reordered(network) else { return data.to_vec() };
    let mut out = Vec::new();
    channels_last(image, data, &mut out);
    out
}

/// Takes a batch through the stages that are left.
fn advance(stages: &mut [Stage], mut batch: Pieces, kinks: &mut Vec<Kink>, pieces: &mut dyn FnMut(&Pieces)) {
    for i in 0..stages.len() {
        let most = (BATCH_VALUES / batch.width()).max(1);
        if batch.len() > most {
            for from in (0..batch.len()).step_by(most) {
                let part = batch.part(from, batch.len().min(from + most));
                advance(&mut stages[i..], part, kinks, pieces);
            }
            return;
        }
        batch = stages[i].apply(&batch, kinks);
    }
    pieces(&batch);
}

/// Kinks in the order of the segment; at one point in the order of layers and units.
fn ordered(mut kinks: Vec<Kink>) -> Vec<Kink> {
    kinks.sort_by(|a, b| a.at.total_cmp(&b.at).then((a.layer, a.unit).cmp(&(b.layer, b.unit))));
    kinks
}
