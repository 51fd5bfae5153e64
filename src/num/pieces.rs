//! The one way to reduce in parallel: in fixed pieces, added in order.
//!
//! A floating-point sum depends on the order of its terms. The `sum` and `reduce` of rayon order them by how threads happen to share the
//! work, so results would differ from machine to machine and from run to run; clippy refuses them in this package (`clippy.toml`).
//! Here a sum is cut by its length alone ([`Cut`]), each piece is summed in order on one thread, and the partial sums are added in order: the same
//! bytes for any number of threads.
//!
//! ```
//! use taylorscope::num::pieces::{Cut, sum_in_pieces};
//!
//! let x: Vec<f64> = (0..1000).map(f64::from).collect();
//! // A number and a vector at once; `None` of no terms at all.
//! let sums = sum_in_pieces(x.len(), Cut::VECTORS, |piece| {
//!     let mut moments = vec![0.0; 2];
//!     for x in &x[piece.clone()] {
//!         moments[0] += x;
//!         moments[1] += x * x;
//!     }
//!     (piece.len() as f64, moments)
//! });
//! assert_eq!(sums, Some((1000.0, vec![499500.0, 332833500.0])));
//! ```
//!
//! - [`sum_in_pieces`]: the sum of what every piece makes; [`add_in_pieces`]: the same, added to a sum that there is already
//! - [`map_in_pieces`]: what every piece makes, in order, for reductions of another kind
//! - [`CHUNK`] and [`contiguous`]: elementwise work, which reduces nothing

use super::Real;
use rayon::prelude::*;
use std::ops::Range;

/// How the terms `0..count` of a sum are cut into pieces. It never depends on the number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Into at most this many pieces, all of the same length but the last.
    Into(usize),
    /// Into pieces of this many terms; the last may be shorter.
    Every(usize),
}

impl Cut {
    /// For partial sums as long as the weights: pieces enough for the cores of most machines, and few enough to keep them all.
    pub const VECTORS: Self = Self::Into(16);
    /// For partial sums that are sets of matrices: fewer, as each takes much more memory.
    pub const MATRICES: Self = Self::Into(8);

    /// Terms of a piece.
    pub fn length(self, count: usize) -> usize {
        match self {
            Self::Into(pieces) => count.div_ceil(pieces).max(1),
            Self::Every(length) => length,
        }
    }

    /// The pieces of `0..count`, in order.
    pub fn ranges(self, count: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
        let length = self.length(count);
        (0..count.div_ceil(length)).map(move |at| at * length..count.min((at + 1) * length))
    }
}

/// A sum over some of the terms.
pub trait PartialSum: Send {
    /// Adds the sum over the terms that come next.
    fn add(&mut self, next: Self);
}

impl PartialSum for f64 {
    fn add(&mut self, next: Self) {
        *self += next;
    }
}

impl PartialSum for usize {
    fn add(&mut self, next: Self) {
        *self += next;
    }
}

/// Coordinatewise.
///
/// # Panics
/// If the lengths differ.
impl<T: Real> PartialSum for Vec<T> {
    fn add(&mut self, next: Self) {
        assert_eq!(self.len(), next.len(), "partial sums have different lengths");
        self.iter_mut().zip(&next).for_each(|(sum, next)| *sum += *next);
    }
}

impl<A: PartialSum, B: PartialSum> PartialSum for (A, B) {
    fn add(&mut self, next: Self) {
        self.0.add(next.0);
        self.1.add(next.1);
    }
}

/// What `piece` makes of every piece of `0..count`, in order. Every piece is a task of its own.
pub fn map_in_pieces<R: Send>(count: usize, cut: Cut, piece: impl Fn(Range<usize>) -> R + Sync) -> Vec<R> {
    let ranges: Vec<Range<usize>> = cut.ranges(count).collect();
    ranges.into_par_iter().with_max_len(1).map(&piece).collect()
}

/// [`map_in_pieces`] with buffers: `piece` gets what `start` made, which may have served other pieces before.
pub fn map_in_pieces_with<B, R: Send>(
    count: usize,
    cut: Cut,
    start: impl Fn() -> B + Sync,
    piece: impl Fn(&mut B, Range<usize>) -> R + Sync,
) -> Vec<R> {
    let ranges: Vec<Range<usize>> = cut.ranges(count).collect();
    ranges.into_par_iter().map_init(&start, |buffers, range| piece(buffers, range)).collect()
}

/// The sum over `0..count`, of which `piece` makes the parts; `None` if there are no terms.
pub fn sum_in_pieces<S: PartialSum>(count: usize, cut: Cut, piece: impl Fn(Range<usize>) -> S + Sync) -> Option<S> {
    let mut parts = map_in_pieces(count, cut, piece).into_iter();
    let first = parts.next()?;
    Some(parts.fold(first, |mut sum, next| {
        sum.add(next);
        sum
    }))
}

/// Adds the sum over `0..count` to `total`, a part after the other.
pub fn add_in_pieces<S: PartialSum>(total: &mut S, count: usize, cut: Cut, piece: impl Fn(Range<usize>) -> S + Sync) {
    map_in_pieces(count, cut, piece).into_iter().for_each(|part| total.add(part));
}

/// Chunk length of elementwise work on long vectors: long enough to pay for a few context switches, short enough that the weights of a small
/// network are several chunks. Fixed, so that work is split the same for any number of threads.
pub const CHUNK: usize = 1 << 13;

/// Gives every thread one contiguous run of chunks, so that repeated passes over the same data find it in the cache of the same core.
pub fn contiguous<I: IndexedParallelIterator>(chunks: I) -> rayon::iter::MinLen<I> {
    let run = (chunks.len() / rayon::current_num_threads()).max(1);
    chunks.with_min_len(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_every_term_once_and_in_order() {
        for cut in [Cut::Into(16), Cut::Into(1), Cut::Every(1), Cut::Every(7)] {
            for count in [0, 1, 15, 16, 17, 100] {
                let ranges: Vec<Range<usize>> = cut.ranges(count).collect();
                assert!(ranges.iter().cloned().flatten().eq(0..count), "{cut:?} of {count}");
                assert!(ranges.iter().all(|range| !range.is_empty()));
                if let Cut::Into(pieces) = cut {
                    assert!(ranges.len() <= pieces);
                }
            }
        }
    }

    #[test]
    fn sums_have_the_same_bits_for_any_number_of_threads() {
        let x: Vec<f64> = (0..10_000).map(|i| (i as f64 * 0.37).sin() * 10f64.powi(i % 17)).collect();
        let sum = || {
            let whole = sum_in_pieces(x.len(), Cut::VECTORS, |piece| {
                let part: f64 = x[piece.clone()].iter().sum();
                (part, vec![part; 2])
            });
            let mut added = 0.0;
            add_in_pieces(&mut added, x.len(), Cut::Every(100), |piece| x[piece].iter().sum());
            (whole.expect("there are terms"), added)
        };
        let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(sum);
        let (one, many) = (on(1), on(5));
        assert_eq!(one, many);
        let plain: f64 = x.iter().sum();
        let rounding = 1e-12 * x.iter().map(|x| x.abs()).sum::<f64>();
        assert!((one.0.0 - plain).abs() < rounding && (one.1 - plain).abs() < rounding && one.0.1 == [one.0.0; 2]);
        assert_eq!(sum_in_pieces(0, Cut::VECTORS, |_| 1.0), None);
    }
}
