//! The mean loss of several datapoints along a segment, and the Taylor loss at its starting point.

use super::{Ended, Kink, Path, Propagation, Segment, Target, path::loss_along, propagation::MERGE};
use crate::{
    loss::Loss,
    num::pieces::{Cut, map_in_pieces},
};
use std::ops::Range;

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

/// Bytes that a kink and a piece take in addition to what is found here: rows of tables, their text, and the figures drawn from them.
const KINK_WRITTEN: usize = 400;
const PIECE_WRITTEN: usize = 1000;

/// The mean loss of `datapoints` for `from <= t <= to`.
///
/// The cubic with the values and slopes of a piece's ends is the loss itself where that is quadratic. Where it is not, because
/// outputs are not linear in the parameter or the loss is cross-entropy, pieces longer than a fraction `1 / DIVISIONS` of the range are divided.
///
/// # Errors
/// If the propagation's limits end it.
///
/// # Panics
/// If there is no datapoint, if an input does not fit the network or a target the loss, or if `output` is not an output.
pub fn profile(
    propagation: &Propagation,
    datapoints: &[Datapoint],
    (from, to): (f64, f64),
    loss: Loss,
    output: Option<usize>,
) -> Result<Profile, Ended> {
    let limits = propagation.limits();
    let segments: Vec<Segment> = datapoints.iter().map(|datapoint| datapoint.segment(from, to)).collect();
    let mut found = find(propagation, &segments)?;
    let of = |(datapoint, found): (usize, &mut Found)| {
        std::mem::take(&mut found.kinks).into_iter().map(move |kink| (datapoint, kink))
    };
    let mut kinks: Vec<(usize, Kink)> = found.iter_mut().enumerate().flat_map(of).collect();
    kinks.sort_by(|(i, a), (j, b)| a.at.total_cmp(&b.at).then((i, a.layer, a.unit).cmp(&(j, b.layer, b.unit))));
    let mut bounds = vec![from];
    let near = MERGE * (to - from);
    for at in kinks.iter().map(|(_, kink)| kink.at).chain([to]) {
        if at > bounds[bounds.len() - 1] + near || bounds.len() == 1 {
            bounds.push(at);
        }
    }
    *bounds.last_mut().expect("the ends are bounds") = to;

    let smooth_pieces = bounds.len() - 1;
    // What is known to be needed is counted before the work.
    limits.take(kinks.len() * (size_of::<(usize, Kink)>() + KINK_WRITTEN))?;
    limits.take(smooth_pieces * (2 * size_of::<ProfilePiece>() + PIECE_WRITTEN))?;
    let first = found[0].path.as_ref().expect("the first path is kept");
    let degree = first.outputs().degree();
    if degree > 1 || !loss.is_quadratic() {
        bounds = divided(&bounds);
    }
    let output = output.unwrap_or_else(|| most_shattered(first));
    let mut pieces = sums_of_losses(propagation, datapoints, &found, &bounds, loss)?;
    let count = datapoints.len() as f64;
    for piece in &mut pieces {
        for point in piece.loss.iter_mut().chain(&mut piece.taylor) {
            *point = Point { value: point.value / count, slope: point.slope / count };
        }
        let inside = first.outputs().find(0.5 * (piece.from + piece.to));
        piece.output = [piece.from, piece.to].map(|t| {
            let (value, slope) = first.on(inside, t);
            Point { value: value[output], slope: slope[output] }
        });
    }
    let (value, slope) = tangent(propagation, &datapoints[0])?;
    let start = Point { value: value[output], slope: slope[output] };
    Ok(Profile { pieces, smooth_pieces, kinks, output, start, degree })
}

/// What is found of a datapoint: its kinks, and its outputs if they are kept.
struct Found {
    kinks: Vec<Kink>,
    path: Option<Path>,
}

/// The kinks of every segment, and its outputs: all of the first one, of others as long as little memory is used. Those that are not kept are found
/// again when they are needed.
fn find(propagation: &Propagation, segments: &[Segment]) -> Result<Vec<Found>, Ended> {
    let limits = propagation.limits();
    let found = map_in_pieces(segments.len(), Cut::Every(1), |at| -> Result<Found, Ended> {
        let mut path = propagation.try_path(&segments[at.start])?;
        let kinks = path.take_kinks();
        if at.start == 0 || limits.are_ample() {
            return Ok(Found { kinks, path: Some(path) });
        }
        limits.give_back(path.bytes());
        Ok(Found { kinks, path: None })
    });
    found.into_iter().collect()
}

/// The losses of all datapoints, summed on every piece. Parts of the datapoints are added in order, as many side by side as there
/// are threads, so that no more sums than threads are kept.
fn sums_of_losses(
    propagation: &Propagation,
    datapoints: &[Datapoint],
    found: &[Found],
    bounds: &[f64],
    loss: Loss,
) -> Result<Vec<ProfilePiece>, Ended> {
    let limits = propagation.limits();
    let empty = |ends: &[f64]| ProfilePiece { from: ends[0], to: ends[1], ..ProfilePiece::default() };
    let mut total: Vec<ProfilePiece> = bounds.windows(2).map(empty).collect();
    let parts: Vec<Range<usize>> = Cut::Into(PARTS).ranges(datapoints.len()).collect();
    let threads = rayon::current_num_threads().min(PARTS);
    let bytes = total.len() * size_of::<ProfilePiece>();
    for some in parts.chunks(threads) {
        let sums = map_in_pieces(some.len(), Cut::Every(1), |at| -> Result<Vec<ProfilePiece>, Ended> {
            limits.take(bytes)?;
            let mut sums = vec![ProfilePiece::default(); bounds.len() - 1];
            for i in some[at.start].clone() {
                let datapoint = &datapoints[i];
                if let Some(path) = &found[i].path {
                    add_losses(propagation, path, datapoint, bounds, loss, &mut sums)?;
                    continue;
                }
                let path = propagation.try_path(&datapoint.segment(bounds[0], bounds[bounds.len() - 1]))?;
                add_losses(propagation, &path, datapoint, bounds, loss, &mut sums)?;
                limits.give_back(path.bytes());
            }
            Ok(sums)
        });
        for part in sums {
            for (piece, sums) in total.iter_mut().zip(&part?) {
                for end in 0..2 {
                    add(&mut piece.loss[end], sums.loss[end]);
                    add(&mut piece.taylor[end], sums.taylor[end]);
                }
            }
            limits.give_back(bytes);
        }
    }
    Ok(total)
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
pub(super) fn tangent(propagation: &Propagation, datapoint: &Datapoint) -> Result<(Vec<f64>, Vec<f64>), Ended> {
    let path = propagation.try_path(&datapoint.segment(0.0, 0.0))?;
    propagation.limits().give_back(path.bytes());
    Ok(path.on(0, 0.0))
}

fn add(sum: &mut Point, point: Point) {
    sum.value += point.value;
    sum.slope += point.slope;
}

/// Pieces between two looks at the limits.
const PIECES_AT_ONCE: usize = 4096;

/// Adds one datapoint's losses on every piece.
fn add_losses(
    propagation: &Propagation,
    path: &Path,
    datapoint: &Datapoint,
    bounds: &[f64],
    loss: Loss,
    sums: &mut [ProfilePiece],
) -> Result<(), Ended> {
    let (target, limits) = (datapoint.target, propagation.limits());
    let (value, slope) = tangent(propagation, datapoint)?;
    let mut linear = vec![0.0; value.len()];
    let (mut f, mut df) = (Vec::new(), Vec::new());
    let (mut inside, last) = (0, path.outputs().len() - 1);
    for (at, (ends, sum)) in bounds.windows(2).zip(sums).enumerate() {
        if at % PIECES_AT_ONCE == 0 {
            limits.go_on()?;
        }
        while inside < last && path.outputs().bounds()[inside + 1] <= 0.5 * (ends[0] + ends[1]) {
            inside += 1;
        }
        for (end, t) in ends.iter().copied().enumerate() {
            path.outputs().evaluate(inside, t, &mut f, &mut df);
            let (loss_here, loss_slope) = loss_along(loss, &f, &df, target, t);
            add(&mut sum.loss[end], Point { value: loss_here, slope: loss_slope });
            for ((f, value), slope) in linear.iter_mut().zip(&value).zip(&slope) {
                *f = value + t * slope;
            }
            let (taylor, taylor_slope) = loss_along(loss, &linear, &slope, target, t);
            add(&mut sum.taylor[end], Point { value: taylor, slope: taylor_slope });
        }
    }
    Ok(())
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
