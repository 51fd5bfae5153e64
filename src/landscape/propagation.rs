//! From a network and a segment to kinks and pieces: layer by layer, each layer cutting the pieces of the one below.
//!
//! On a piece of the segment every unit of a layer is a polynomial in the segment's parameter, of degree one unless the
//! weights of several layers move. An affine layer maps coefficients to coefficients; a rectifier cuts a piece where a
//! unit changes its state. The number of pieces grows with the kinks alone, and so does the work: every piece costs
//! one pass through the layers above it, many pieces to a matrix product. Batches are bounded: a batch that has grown
//! too large is taken through the remaining layers in parts, in order.

use super::{
    Ended, Limits, Path, Pieces,
    affine::Affine,
    kink::{KINK_BYTES, Kink},
    pieces::Next,
    pool::{self, MaxPool},
    rectifier::Rectify,
};
use crate::{
    network::{Network, Pool, Pooling},
    passes::data,
};
use rayon::prelude::*;
use std::cell::{Cell, RefCell};

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

/// Segments that go through the layers together, so that matrix products are large.
const TOGETHER: usize = 16;

/// A network whose weights rest or move along a line, `W + t D`, ready for any number of segments.
#[derive(Clone, Debug)]
pub struct Propagation<'a> {
    network: &'a Network,
    layers: Vec<Affine<'a>>,
    limits: &'a Limits<'a>,
}

/// A layer's action on pieces.
enum Stage<'a> {
    Affine(&'a Affine<'a>),
    Rectify(Rectify),
    MaxPool(MaxPool<'a>),
    AveragePool(&'a Pool),
}

/// A batch of a wider layer may have this many times the values of others.
const WIDER: usize = 4;

impl Stage<'_> {
    /// Values that come out for `width` that go in.
    fn width(&self, width: usize) -> usize {
        match self {
            Stage::Affine(layer) => layer.width(),
            Stage::Rectify(_) => width,
            Stage::MaxPool(pool) => pool.width(),
            Stage::AveragePool(pool) => pool.output.len(),
        }
    }

    /// Hands on what comes out of a batch, in parts that are no larger than a batch should be.
    fn apply(&mut self, batch: &Pieces, way: &Way, next: Next) -> Result<(), Ended> {
        let most = (way.limits.batch_values() / batch.width()).max(1);
        let mut kink = |kink| way.kinks.borrow_mut().push(kink);
        match self {
            Stage::Affine(layer) => return next(layer.apply(batch)),
            Stage::AveragePool(pool) => return next(pool::average(pool, batch)),
            Stage::Rectify(rectify) => rectify.apply(batch, most, &mut kink, next)?,
            Stage::MaxPool(pool) => pool.apply(batch, most, &mut kink, next)?,
        }
        way.count()
    }
}

/// What is found on the way of one segment.
struct Way<'a> {
    limits: &'a Limits<'a>,
    /// Out of order.
    kinks: RefCell<Vec<Kink>>,
    counted: Cell<usize>,
}

impl<'a> Way<'a> {
    fn new(limits: &'a Limits<'a>) -> Self {
        Self { limits, kinks: RefCell::default(), counted: Cell::new(0) }
    }

    /// Counts the kinks that have come since the last call.
    fn count(&self) -> Result<(), Ended> {
        let found = self.kinks.borrow().len();
        let new = found - self.counted.replace(found);
        self.limits.take(new * KINK_BYTES)
    }

    fn into_kinks(self) -> Vec<Kink> {
        ordered(self.kinks.into_inner())
    }
}

static NO_LIMITS: Limits<'static> = Limits::none();

impl<'a> Propagation<'a> {
    /// `weights` is the flat vector at `t = 0`; `step` is how it moves with `t`, zero where it rests.
    ///
    /// # Panics
    /// If the vectors do not have the network's length.
    pub fn new(network: &'a Network, weights: &'a [f64], step: Option<&'a [f64]>) -> Self {
        assert!(weights.len() == network.parameters() && step.is_none_or(|step| step.len() == weights.len()));
        let layers = network.blocks().iter().map(|block| Affine::new(block, weights, step)).collect();
        Self { network, layers, limits: &NO_LIMITS }
    }

    /// Counts memory and hears when to stop. What is found is then to be had from the methods that can fail.
    pub fn within(self, limits: &'a Limits<'a>) -> Self {
        Self { limits, ..self }
    }

    pub fn limits(&self) -> &'a Limits<'a> {
        self.limits
    }

    /// Kinks and outputs along a segment.
    ///
    /// # Panics
    /// If the input does not have the network's length, or the range is empty or not finite; where limits end it; or if the network is no
    /// chain.
    pub fn path(&self, segment: &Segment) -> Path {
        self.try_path(segment).expect("no limits are set, and the network is a chain")
    }

    /// Kinks and outputs along a segment. Their bytes stay counted.
    ///
    /// # Errors
    /// If the limits are reached, or the network is not a chain.
    ///
    /// # Panics
    /// If the input does not have the network's length, or the range is empty or not finite.
    pub fn try_path(&self, segment: &Segment) -> Result<Path, Ended> {
        self.check_chain()?;
        let way = Way::new(self.limits);
        let mut outputs: Option<Pieces> = None;
        advance(&mut self.stages(segment), self.start(segment), &way, &mut |next| {
            self.limits.take(2 * next.bytes())?;
            match &mut outputs {
                Some(pieces) => pieces.append(next),
                None => outputs = Some(next.clone()),
            }
            Ok(())
        })?;
        Ok(Path::new(way.into_kinks(), outputs.expect("a walk visits the whole segment")))
    }

    /// The kinks along a segment alone, without the outputs.
    ///
    /// # Panics
    /// As [`Propagation::path`].
    pub fn kinks(&self, segment: &Segment) -> Vec<Kink> {
        self.kinks_together(std::slice::from_ref(segment))
            .expect("no limits are set, and the network is a chain")
            .swap_remove(0)
    }

    /// The kinks of many segments, side by side on all threads.
    ///
    /// # Panics
    /// As [`Propagation::path`].
    pub fn kinks_of(&self, segments: &[Segment]) -> Vec<Vec<Kink>> {
        self.try_kinks_of(segments).expect("no limits are set, and the network is a chain")
    }

    /// The kinks of many segments, side by side on all threads. Their bytes stay counted.
    ///
    /// # Errors
    /// If the limits are reached, or the network is not a chain.
    ///
    /// # Panics
    /// As [`Propagation::try_path`].
    pub fn try_kinks_of(&self, segments: &[Segment]) -> Result<Vec<Vec<Kink>>, Ended> {
        let alike = |a: &Segment, b: &Segment| a.step.is_some() == b.step.is_some();
        let group = |some: &[Segment]| -> Result<Vec<Vec<Kink>>, Ended> {
            let all: Result<Vec<_>, Ended> = some.chunk_by(alike).map(|alike| self.kinks_together(alike)).collect();
            Ok(all?.into_iter().flatten().collect())
        };
        let all: Result<Vec<Vec<Vec<Kink>>>, Ended> = segments.par_chunks(TOGETHER).map(group).collect();
        Ok(all?.into_iter().flatten().collect())
    }

    /// The kinks of segments that all move, or all rest: layer by layer, so that a layer is one matrix product for all of them.
    fn kinks_together(&self, segments: &[Segment]) -> Result<Vec<Vec<Kink>>, Ended> {
        self.check_chain()?;
        let without_outputs = |segment| {
            let mut stages = self.stages(segment);
            while matches!(stages.last(), Some(Stage::Affine(_) | Stage::AveragePool(_))) {
                stages.pop();
            }
            stages
        };
        let mut stages: Vec<Vec<Stage>> = segments.iter().map(without_outputs).collect();
        let ways: Vec<Way> = segments.iter().map(|_| Way::new(self.limits)).collect();
        // The segments that go on together, and where they are.
        let mut open: Vec<usize> = (0..segments.len()).collect();
        let mut batches: Vec<Pieces> = segments.iter().map(|segment| self.start(segment)).collect();
        let values = self.limits.batch_values();
        for i in 0..stages[0].len() {
            self.limits.go_on()?;
            let pieces = batches.iter().map(Pieces::len).sum::<usize>();
            let wide = batches.first().map_or(0, |batch| pieces * stages[0][i].width(batch.width()));
            if batches.iter().map(Pieces::values).sum::<usize>() > values || wide > WIDER * values {
                // Too many pieces to keep at once: each segment goes on alone.
                for (s, batch) in open.iter().zip(batches) {
                    advance(&mut stages[*s][i..], batch, &ways[*s], &mut |_| Ok(()))?;
                }
                break;
            }
            if let Stage::Affine(layer) = stages[0][i] {
                if !batches.is_empty() {
                    batches = layer.apply_together(&batches);
                }
                continue;
            }
            let mut room = values;
            let (mut still_open, mut next) = (Vec::new(), Vec::new());
            for (s, batch) in open.into_iter().zip(batches) {
                let out = one_stage(&mut stages[s][i..], &batch, &ways[s], room)?;
                if let Some(out) = out {
                    room = room.saturating_sub(out.values());
                    still_open.push(s);
                    next.push(out);
                }
            }
            (open, batches) = (still_open, next);
        }
        Ok(ways.into_iter().map(Way::into_kinks).collect())
    }

    /// Pieces are taken from each layer to the next one, and nowhere else.
    fn check_chain(&self) -> Result<(), Ended> {
        if self.network.is_chain() { Ok(()) } else { Err(Ended::NotAChain) }
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
                let layer = block.pool_layer();
                stages.push(match pool.pooling {
                    Pooling::Max => Stage::MaxPool(MaxPool::new(pool, layer, merge)),
                    Pooling::Average => Stage::AveragePool(pool),
                });
            }
        }
        stages
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
pub(super) fn in_network_order(network: &Network, values: &[f64]) -> Vec<f64> {
    let mut out = Vec::new();
    data::in_network_order(network, values, &mut out);
    out
}

/// Takes a batch through the stages that are left; `pieces` sees consecutive pieces with the last stage's units.
fn advance(
    stages: &mut [Stage],
    batch: Pieces,
    way: &Way,
    pieces: &mut dyn FnMut(&Pieces) -> Result<(), Ended>,
) -> Result<(), Ended> {
    let Some((stage, rest)) = stages.split_first_mut() else { return pieces(&batch) };
    let values = way.limits.batch_values();
    let most = (values / batch.width()).min(WIDER * values / stage.width(batch.width())).max(1);
    let mut apply = |batch: &Pieces| {
        way.limits.go_on()?;
        stage.apply(batch, way, &mut |next| {
            way.count()?;
            advance(rest, next, way, pieces)
        })
    };
    if batch.len() <= most {
        return apply(&batch);
    }
    for from in (0..batch.len()).step_by(most) {
        apply(&batch.part(from, batch.len().min(from + most)))?;
    }
    Ok(())
}

/// Takes a batch through the first of the stages. If more than `room` values come out, it goes through all of them.
fn one_stage(stages: &mut [Stage], batch: &Pieces, way: &Way, room: usize) -> Result<Option<Pieces>, Ended> {
    if let [Stage::Rectify(last)] = stages {
        last.kinks(batch, &mut |kink| way.kinks.borrow_mut().push(kink));
        way.count()?;
        return Ok(None);
    }
    let (stage, rest) = stages.split_first_mut().expect("a stage is left");
    let (mut kept, mut alone): (Option<Pieces>, bool) = (None, false);
    stage.apply(batch, way, &mut |part| {
        let all = match kept.take() {
            Some(mut before) => {
                before.append(&part);
                before
            }
            None => part,
        };
        alone |= all.values() > room;
        if alone {
            return advance(rest, all, way, &mut |_| Ok(()));
        }
        kept = Some(all);
        Ok(())
    })?;
    Ok(kept)
}

/// Kinks in the order of the segment; at one point in the order of layers and units.
fn ordered(mut kinks: Vec<Kink>) -> Vec<Kink> {
    kinks.sort_by(|a, b| a.at.total_cmp(&b.at).then((a.layer, a.unit).cmp(&(b.layer, b.unit))));
    kinks
}
