//! The mean loss of several datapoints along a segment, with the Taylor loss of its starting point beside it.

use super::{Kink, Path, Propagation, Segment, Target, path::loss_along, propagation::MERGE};
use crate::loss::Loss;
use rayon::prelude::*;

/// A datapoint on its way along a segment.
#[derive(Clone, Copy, Debug)]
pub struct Datapoint<'a> {
    /// Its input at `t = 0`.
    pub input: &'a [f64],
    /// How the input moves with `t`; `None` if only weights move.
    pub step: Option<&'a [f64]>,
    pub target: Target<'a>,
}

impl<'a> Datapoint<'a> {
    fn segment(&self, from: f64, to: f64) -> Segment<'a> {
        Segment { input: self.input, step: self.step, from, to }
    }
}

/// A value and its derivative along the segment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    pub value: f64,
    pub slope: f64,
}

/// What is known of one piece, each at its left and at its right end as seen from inside.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProfilePiece {
    pub from: f64,
    pub to: f64,
    /// The mean loss of the datapoints.
    pub loss: [Point; 2],
    /// The mean loss of the outputs' linearizations at `t = 0`: the Taylor loss.
    pub taylor: [Point; 2],
    /// The chosen output of the first datapoint.
    pub output: [Point; 2],
}

/// The function along a segment, on pieces where no unit of any datapoint changes its state.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// In order. Pieces between kinks that are not drawn exactly by cubics are divided, see [`profile`].
    pub pieces: Vec<ProfilePiece>,
    /// Pieces between kinks, before any division.
    pub smooth_pieces: usize,
    /// The kinks with the index of their datapoint, in the order of the segment.
    pub kinks: Vec<(usize, Kink)>,
    /// The output that [`ProfilePiece::output`] shows: the one whose slope varies most along the segment, unless chosen.
    pub output: usize,
    /// That output of the first datapoint at `t = 0`.
    pub start: Point,
    /// The largest power of `t` in the outputs: 1 where the network is piecewise linear.
    pub degree: usize,
}

/// Parts of the range that no divided piece is longer than.
const DIVISIONS: f64 = 256.0;

/// Datapoints are summed in this many parts; fixed, so that sums do not depend on the number of threads.
const PARTS: usize = 16;

/// The mean loss of `datapoints` for `from <= t <= to`.
///
/// The cubic with the values and slopes of a piece's ends is the loss itself where that is quadratic. Where it is not, because
/// outputs are no lines or the loss is cross-entropy, pieces longer than a fraction `1 / DIVISIONS` of the range are divided.
///
/// # Panics
/// If there is no datapoint, if an input does not fit the network or a target the loss, or if `output` is not an output.
pub fn profile(
    propagation: &Propagation,
    datapoints: &[Datapoint],
    (from, to): (f64, f64),
    loss: Loss,
    output: Option<usize>,
) -> Profile {
    let segments: Vec<Segment> = datapoints.iter().map(|datapoint| datapoint.segment(from, to)).collect();
    let mut kinks: Vec<(usize, Kink)> = propagation
        .kinks_of(&segments)
        .into_iter()
        .enumerate()
        .flat_map(|(datapoint, kinks)| kinks.into_iter().map(move |kink| (datapoint, kink)))
        .collect();
    kinks.sort_by(|(i, a), (j, b)| a.at.total_cmp(&b.at).then((i, a.layer, a.unit).cmp(&(j, b.layer, b.unit))));
    let mut bounds = vec![from];
    let near = MERGE * (to - from);
    for at in kinks.iter().map(|(_, kink)| kink.at).chain([to]) {
        if at > bounds[bounds.len() - 1] + near || bounds.len() == 1 {
            bounds.push(at);
        }
    }
    *bounds.last_mut().expect("the ends are bounds") = to;

    let first = propagation.path(&segments[0]);
    let degree = first.outputs().degree();
    let smooth_pieces = bounds.len() - 1;
    if degree > 1 || !loss.is_quadratic() {
        bounds = divided(&bounds);
    }
    let output = output.unwrap_or_else(|| most_shattered(&first));
    let size = datapoints.len().div_ceil(PARTS).max(1);
    let parts: Vec<Vec<ProfilePiece>> = datapoints
        .par_chunks(size)
        .map(|part| {
            let mut sums = vec![ProfilePiece::default(); bounds.len() - 1];
            for datapoint in part {
                add_losses(propagation, datapoint, &bounds, loss, &mut sums);
            }
            sums
        })
        .collect();
    let count = datapoints.len() as f64;
    let pieces = bounds
        .windows(2)
        .enumerate()
        .map(|(p, ends)| {
            let mut piece = ProfilePiece { from: ends[0], to: ends[1], ..ProfilePiece::default() };
            for sums in &parts {
                for end in 0..2 {
                    add(&mut piece.loss[end], sums[p].loss[end]);
                    add(&mut piece.taylor[end], sums[p].taylor[end]);
                }
            }
            for point in piece.loss.iter_mut().chain(&mut piece.taylor) {
                *point = Point { value: point.value / count, slope: point.slope / count };
            }
            let inside = first.outputs().find(0.5 * (ends[0] + ends[1]));
            piece.output = [ends[0], ends[1]].map(|t| {
                let (value, slope) = first.on(inside, t);
                Point { value: value[output], slope: slope[output] }
            });
            piece
        })
        .collect();
    let (value, slope) = tangent(propagation, &datapoints[0]);
    let start = Point { value: value[output], slope: slope[output] };
    Profile { pieces, smooth_pieces, kinks, output, start, degree }
}

/// The bounds with further ones between them, none further apart than the range over [`DIVISIONS`].
fn divided(bounds: &[f64]) -> Vec<f64> {
    let longest = (bounds[bounds.len() - 1] - bounds[0]) / DIVISIONS;
    let mut all = vec![bounds[0]];
    for ends in bounds.windows(2) {
        let length = ends[1] - ends[0];
        let parts = if longest > 0.0 { (length / longest).ceil().max(1.0) } else { 1.0 };
        all.extend((1..parts as usize).map(|i| ends[0] + length * i as f64 / parts));
        all.push(ends[1]);
    }
    all
}

/// A datapoint's outputs at `t = 0` and their derivatives along the segment.
pub(super) fn tangent(propagation: &Propagation, datapoint: &Datapoint) -> (Vec<f64>, Vec<f64>) {
    propagation.path(&datapoint.segment(0.0, 0.0)).on(0, 0.0)
}

fn add(sum: &mut Point, point: Point) {
    sum.value += point.value;
    sum.slope += point.slope;
}

/// Adds one datapoint's losses on every piece.
fn add_losses(propagation: &Propagation, datapoint: &Datapoint, bounds: &[f64], loss: Loss, sums: &mut [ProfilePiece]) {
    let target = datapoint.target;
    let path = propagation.path(&datapoint.segment(bounds[0], bounds[bounds.len() - 1]));
    let (value, slope) = tangent(propagation, datapoint);
    let mut linear = vec![0.0; value.len()];
    for (ends, sum) in bounds.windows(2).zip(sums) {
        let inside = path.outputs().find(0.5 * (ends[0] + ends[1]));
        for (end, t) in ends.iter().copied().enumerate() {
            let (loss_here, loss_slope) = path.loss_on(inside, t, loss, target);
            add(&mut sum.loss[end], Point { value: loss_here, slope: loss_slope });
            for ((f, value), slope) in linear.iter_mut().zip(&value).zip(&slope) {
                *f = value + t * slope;
            }
            let (taylor, taylor_slope) = loss_along(loss, &linear, &slope, target, t);
            add(&mut sum.taylor[end], Point { value: taylor, slope: taylor_slope });
        }
    }
}

/// The output with the largest total variation of its slope.
fn most_shattered(path: &Path) -> usize {
    let pieces = path.outputs();
    let mut variation = vec![0.0; pieces.width()];
    let mut before: Option<Vec<f64>> = None;
    for (p, ends) in pieces.bounds().windows(2).enumerate() {
        for t in [ends[0], ends[1]] {
            let (_, slope) = path.on(p, t);
            if let Some(before) = &before {
                for ((sum, a), b) in variation.iter_mut().zip(before).zip(&slope) {
                    *sum += f64::abs(b - a);
                }
            }
            before = Some(slope);
        }
    }
    let mut best = 0;
    for (output, v) in variation.iter().enumerate() {
        if *v > variation[best] {
            best = output;
        }
    }
    best
}
