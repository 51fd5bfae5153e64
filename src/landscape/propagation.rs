//! From a network and a segment to kinks and pieces.
//!
//! On a piece of the segment every unit of a layer is a polynomial in the segment's parameter. It is a line unless several things move at once,
//! input and weights or the weights of several layers. Lines go through the network by what changes at each kink
//! ([`lines`](super::lines)), polynomials by a pass through the layers for every piece ([`stages`](super::stages)): an affine layer
//! maps coefficients to coefficients, a rectifier cuts a piece where a unit changes its state, many pieces to a matrix product.

use super::{
    Ended, Kink, Limits, Path, Pieces,
    affine::Affine,
    lines::{Changes, PoolLines, Spread, Unrolled, Walk},
    pool::{self, MaxPool},
    rectifier::Rectify,
    stages::{Stage, WIDER, advance, one_stage},
    way::Way,
};
use crate::{
    network::{Block, Network, Pool, Pooling},
    passes::data,
};
use rayon::prelude::*;
use std::{ops::Range, sync::OnceLock};

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

/// Segments that go through the layers together, so that matrix products are large, and the pre-activations of a layer for which they are so
/// with one alone.
const TOGETHER: usize = 32;
const WIDE: usize = 1 << 15;

/// Values of pieces that are unrolled together for the layers behind the last kink: as many as there is memory for in any case, as the last bits
/// of products depend on it.
const UNROLLED: usize = 1 << 12;

/// Bytes of lines and states for every value of a layer, in the layer and in the next one.
const STATE_BYTES: usize = 64;

/// A network whose weights rest or move along a line, `W + t D`, ready for any number of segments.
#[derive(Clone, Debug)]
pub struct Propagation<'a> {
    network: &'a Network,
    layers: Vec<Affine<'a>>,
    /// The layers' weights for changes of single inputs; computed where they are needed.
    spreads: OnceLock<Vec<Spread>>,
    limits: &'a Limits<'a>,
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
        Self { network, layers, spreads: OnceLock::new(), limits: &NO_LIMITS }
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
        let mut keep = |next: &Pieces| {
            self.limits.take(2 * next.bytes())?;
            match &mut outputs {
                Some(pieces) => pieces.append(next),
                None => outputs = Some(next.clone()),
            }
            Ok(())
        };
        match self.lines(segment) {
            Some(blocks) => self.outputs_by_lines(segment, blocks, &way, &mut keep)?,
            None => advance(&mut self.stages(segment), self.start(segment), &way, &mut keep)?,
        }
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
        let alike = |a: &Segment, b: &Segment| self.lines(a) == self.lines(b) && a.step.is_some() == b.step.is_some();
        let group = |some: &[Segment]| -> Result<Vec<Vec<Kink>>, Ended> {
            let all: Result<Vec<_>, Ended> = some.chunk_by(alike).map(|alike| self.kinks_together(alike)).collect();
            Ok(all?.into_iter().flatten().collect())
        };
        let all: Result<Vec<Vec<Vec<Kink>>>, Ended> = segments.par_chunks(self.together()).map(group).collect();
        Ok(all?.into_iter().flatten().collect())
    }

    /// Segments that go through the layers together: where layers are wide, one is enough for large products.
    fn together(&self) -> usize {
        let widest = self.network.blocks().iter().map(Block::activations).max().unwrap_or(1);
        (WIDE / widest).clamp(1, TOGETHER)
    }

    /// The kinks of segments that all move, or all rest: layer by layer, so that a layer is one matrix product for all of them.
    fn kinks_together(&self, segments: &[Segment]) -> Result<Vec<Vec<Kink>>, Ended> {
        self.check_chain()?;
        if let Some(blocks) = self.lines(&segments[0]) {
            return self.kinks_by_lines(segments, &blocks);
        }
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

    /// The blocks that see something move and have kinks, if every unit is a line between kinks and the layers can be taken through by what
    /// changes.
    fn lines(&self, segment: &Segment) -> Option<Range<usize>> {
        let blocks = self.network.blocks();
        let mut moving = (0..blocks.len()).filter(|block| self.layers[*block].moves());
        let first = match (segment.step, moving.next()) {
            (Some(_), None) => 0,
            (None, Some(first)) if moving.next().is_none() => first,
            _ => return None,
        };
        let has_kinks = |block: &Block| block.rectifier.is_some() || block.max_pool().is_some();
        let last = blocks.iter().rposition(has_kinks).filter(|last| *last >= first)?;
        // Means are taken where nothing moves, or behind the last kink.
        let taken = |(at, pool): (usize, &Pool)| match pool.pooling {
            Pooling::Max => pool.places() <= PoolLines::PLACES,
            Pooling::Average => at < first || at == last,
        };
        let mut pools = blocks[..=last].iter().enumerate().filter_map(|(at, block)| Some((at, block.pool.as_ref()?)));
        (segment.from < segment.to && pools.all(taken)).then_some(first..last + 1)
    }

    /// The kinks of segments whose lines see the same blocks move.
    fn kinks_by_lines(&self, segments: &[Segment], blocks: &Range<usize>) -> Result<Vec<Vec<Kink>>, Ended> {
        let bytes = segments.len() * self.state_bytes();
        self.limits.take(bytes)?;
        let (mut walks, _) = self.begin(segments, blocks);
        let mut buffers = Vec::new();
        let kinks = |walk: &mut Walk| {
            let way = Way::new(self.limits);
            walk.end_here();
            walk.swap_buffers(&mut buffers);
            walk.run(&way, &mut |_, _| Ok(()))?;
            walk.swap_buffers(&mut buffers);
            way.count()?;
            Ok(way.into_kinks())
        };
        let found = walks.iter_mut().map(kinks).collect();
        self.limits.give_back(bytes);
        found
    }

    /// Bytes that are counted for what all layers keep of a segment on the way.
    fn state_bytes(&self) -> usize {
        self.network.blocks().iter().map(|block| STATE_BYTES * (block.features_in() + block.activations())).sum()
    }

    /// Goes along one segment, and calls `keep` with the outputs on consecutive pieces.
    fn outputs_by_lines(
        &self,
        segment: &Segment,
        blocks: Range<usize>,
        way: &Way,
        keep: &mut dyn FnMut(&Pieces) -> Result<(), Ended>,
    ) -> Result<(), Ended> {
        let bytes = self.state_bytes();
        self.limits.take(bytes)?;
        let (mut walks, begins) = self.begin(std::slice::from_ref(segment), &blocks);
        let mut stages = self.stages(segment);
        let last = stages.iter().rposition(Stage::has_kinks).expect("a block has kinks");
        let mut linear = stages.split_off(last + 1);
        let wide = linear.iter().map(|stage| stage.width(1)).chain([begins[0].width()]).max().unwrap_or(1);
        let most = (UNROLLED / wide).max(1);
        let mut unrolled = Unrolled::new(&begins[0], most);
        let mut on = |pieces: Pieces| advance(&mut linear, pieces, way, keep);
        walks[0].run(way, &mut |changes: &Changes, _| unrolled.advance(changes, &mut on))?;
        way.count()?;
        unrolled.finish(segment.to, &mut on)?;
        self.limits.give_back(bytes);
        Ok(())
    }

    /// The blocks at the beginning of each segment, layer by layer, and what the last of them gives there.
    fn begin(&self, segments: &[Segment], blocks: &Range<usize>) -> (Vec<Walk<'_>>, Vec<Pieces>) {
        let spread = |(block, layer): (&Block, &Affine)| Spread::new(block, layer.weights());
        let spreads = self.spreads.get_or_init(|| self.network.blocks().iter().zip(&self.layers).map(spread).collect());
        let walk = |segment: &Segment| Walk::new(segment.to, MERGE * (segment.to - segment.from));
        let mut walks: Vec<Walk> = segments.iter().map(walk).collect();
        let mut z: Vec<Pieces> = segments.iter().map(|segment| self.start(segment)).collect();
        for (at, block) in self.network.blocks()[..blocks.end].iter().enumerate() {
            let parts = (&self.layers[at], &spreads[at]);
            let a = parts.0.apply_together(&z);
            for ((walk, z), a) in walks.iter_mut().zip(&mut z).zip(&a) {
                *z = walk.add(block, parts, z, a);
                let mean = block.pool.as_ref().filter(|pool| pool.pooling == Pooling::Average);
                if let Some(pool) = mean.filter(|_| at + 1 < blocks.end) {
                    *z = pool::average(pool, z);
                }
                if at < blocks.start {
                    walk.forget();
                }
            }
        }
        (walks, z)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        landscape::Change,
        network::{LayerSpec, Rectifier, Shape, he_uniform},
    };
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// By a pass through all layers for every piece.
    fn by_pieces(propagation: &Propagation, segment: &Segment) -> Path {
        let way = Way::new(&NO_LIMITS);
        let mut outputs: Option<Pieces> = None;
        advance(&mut propagation.stages(segment), propagation.start(segment), &way, &mut |next| {
            match &mut outputs {
                Some(pieces) => pieces.append(next),
                None => outputs = Some(next.clone()),
            }
            Ok(())
        })
        .unwrap();
        Path::new(way.into_kinks(), outputs.unwrap())
    }

    fn agree(propagation: &Propagation, segment: &Segment) -> usize {
        assert!(propagation.lines(segment).is_some(), "it is to go by lines");
        let (lines, pieces) = (propagation.path(segment), by_pieces(propagation, segment));
        let named = |path: &Path| -> Vec<(usize, usize, Change)> {
            path.kinks.iter().map(|kink| (kink.layer, kink.unit, kink.change)).collect()
        };
        assert_eq!(named(&lines), named(&pieces));
        assert_eq!(lines.outputs().len(), pieces.outputs().len());
        for (a, b) in lines.kinks.iter().zip(&pieces.kinks) {
            assert!((a.at - b.at).abs() < 1e-10, "{a:?} {b:?}");
        }
        for p in 0..lines.outputs().len() {
            for k in 0..2 {
                let (a, b) = (lines.outputs().row(k, p), pieces.outputs().row(k, p));
                let scale = b.iter().fold(1.0f64, |scale, v| scale.max(v.abs()));
                let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9 * scale;
                assert!(a.iter().zip(b).all(near), "piece {p}: {a:?} {b:?}");
            }
        }
        lines.kinks.len()
    }

    /// Networks of every kind of layer that lines go through.
    fn networks() -> Vec<Network> {
        let relu = LayerSpec::Rectifier(Rectifier::Relu);
        let leaky = LayerSpec::Rectifier(Rectifier::LeakyRelu { slope: 0.1 });
        let abs = LayerSpec::Rectifier(Rectifier::Abs);
        let (dense, flatten) = (LayerSpec::dense, LayerSpec::Flatten);
        let conv = |maps, kernel, padding, stride| LayerSpec::Conv { maps, kernel, padding, stride, bias: true };
        let pool = |pooling, size, stride| LayerSpec::Pool { pooling, size, stride };
        let (max, mean) = (Pooling::Max, Pooling::Average);
        let image = |sizes: [usize; 3]| Shape::from_sizes(&sizes).unwrap();
        [
            (Shape::from(5), vec![dense(70), relu, dense(65), leaky, dense(30), abs, dense(3)]),
            (Shape::from(4), vec![dense(9), relu, dense(200), relu, dense(7)]),
            (Shape::from(4), vec![dense(9), dense(20), relu, dense(7)]),
            (
                image([2, 8, 8]),
                vec![
                    conv(5, 3, 1, 1),
                    relu,
                    pool(max, 2, 2),
                    conv(70, 3, 0, 1),
                    relu,
                    flatten,
                    dense(9),
                    leaky,
                    dense(2),
                ],
            ),
            (image([1, 9, 9]), vec![conv(4, 3, 1, 2), abs, pool(max, 3, 1), flatten, dense(6), relu, dense(2)]),
            (
                image([1, 8, 8]),
                vec![conv(4, 3, 1, 1), pool(max, 2, 2), conv(3, 3, 1, 1), relu, pool(mean, 2, 2), flatten, dense(2)],
            ),
        ]
        .into_iter()
        .map(|(input, layers)| Network::new(input, &layers).unwrap())
        .collect()
    }

    #[test]
    fn lines_and_pieces_agree() {
        let mut kinks = 0;
        for (seed, network) in networks().iter().enumerate() {
            let mut random = ChaCha8Rng::seed_from_u64(seed as u64);
            let mut numbers = |count: usize| (0..count).map(|_| random.random_range(-1.0..1.0)).collect::<Vec<f64>>();
            let weights = he_uniform::<f64>(network, seed as u64);
            let (input, step) = (numbers(network.inputs()), numbers(network.inputs()));
            let propagation = Propagation::new(network, &weights, None);
            kinks += agree(&propagation, &Segment { input: &input, step: Some(&step), from: -4.0, to: 4.0 });
            for block in network.blocks().iter().filter(|block| block.rectifier.is_some()) {
                let mut step = vec![0.0; weights.len()];
                step[block.range()].copy_from_slice(&numbers(block.range().len()));
                let propagation = Propagation::new(network, &weights, Some(&step));
                kinks += agree(&propagation, &Segment::at_rest(&input, -1.0, 1.0));
            }
        }
        assert!(kinks > 2000, "{kinks} kinks");
    }

    /// Roundings add up over the kinks of a layer only until it is computed anew.
    #[test]
    fn thousands_of_kinks_do_not_add_up_their_roundings() {
        let relu = LayerSpec::Rectifier(Rectifier::Relu);
        let layers = [LayerSpec::dense(3000), relu, LayerSpec::dense(40), relu, LayerSpec::dense(2)];
        let network = Network::new(3, &layers).unwrap();
        let weights = he_uniform::<f64>(&network, 1);
        let segment = Segment { input: &[0.3, -0.2, 0.1], step: Some(&[1.0, 0.7, -0.4]), from: -5.0, to: 5.0 };
        let propagation = Propagation::new(&network, &weights, None);
        assert!(agree(&propagation, &segment) > 2000);
        // And what is found does not depend on the memory.
        let stop = std::sync::atomic::AtomicBool::new(false);
        let little = Limits::new(&stop, 2 << 20);
        assert_eq!(propagation.path(&segment), propagation.clone().within(&little).try_path(&segment).unwrap());
    }
}
