//! Pools: pieces are cut where the largest value of a window changes its place.

use super::{
    Ended, Pieces,
    kink::{Change, Kink},
    pieces::Next,
    roots::{RootFinder, SignChanges},
};
use crate::network::Pool;

/// A max-pool, and the winners (argmax indices) with which it left the last piece.
///
/// The winner of a window is the place of its largest value. While several places have the largest value *identically*, as
/// where all units of a window are dead, the winner stays what it was (at the beginning it is the first of them), and a later winner
/// from among them is not a kink of the pool but the unit's own.
#[derive(Clone, Debug)]
pub struct MaxPool<'a> {
    pool: &'a Pool,
    /// Index of the pool in the layer list.
    layer: usize,
    merge: f64,
    /// Per output the winner at the end of the last piece; empty before the first.
    winners: Vec<usize>,
    /// Per output and place, whether it equalled the winner on the last piece.
    tied: Vec<bool>,
    finder: RootFinder,
}

/// The values of one window on one piece.
struct Window {
    /// Per place the coefficients.
    values: Vec<Vec<f64>>,
    length: f64,
    merge: f64,
}

impl Window {
    /// Whether two places have the same value throughout.
    fn same(&self, i: usize, j: usize) -> bool {
        self.values[i] == self.values[j]
    }

    /// Where place `j` overtakes place `i` or falls back behind it.
    fn changes(&self, finder: &mut RootFinder, i: usize, j: usize) -> SignChanges {
        let difference: Vec<f64> = self.values[j].iter().zip(&self.values[i]).map(|(b, a)| b - a).collect();
        let mut found = SignChanges::default();
        finder.sign_changes(&difference, self.length, self.merge, &mut found);
        found
    }

    /// Whether `j` is above `i` right behind `t`.
    fn above(&self, changes: &SignChanges, t: f64) -> bool {
        let passed = changes.at.iter().filter(|at| **at <= t + self.merge).count();
        let sign = if passed % 2 == 0 { changes.first } else { -changes.first };
        sign > 0.0
    }

    /// The winner right behind `t`, given one that is not below all others.
    fn winner(&self, finder: &mut RootFinder, t: f64, incumbent: usize) -> usize {
        (0..self.values.len()).fold(incumbent, |best, j| {
            if j != best && self.above(&self.changes(finder, best, j), t) { j } else { best }
        })
    }

    /// The first place that overtakes `best` behind `t`, and where.
    fn overtaken(&self, finder: &mut RootFinder, t: f64, best: usize) -> Option<f64> {
        let mut first: Option<f64> = None;
        for j in (0..self.values.len()).filter(|j| *j != best) {
            let changes = self.changes(finder, best, j);
            let mut sign = changes.first;
            for at in &changes.at {
                sign = -sign;
                let inside = *at > t + self.merge && *at < self.length - self.merge;
                if inside && sign > 0.0 && first.is_none_or(|first| *at < first) {
                    first = Some(*at);
                }
            }
        }
        first
    }
}

impl<'a> MaxPool<'a> {
    pub fn new(pool: &'a Pool, layer: usize, merge: f64) -> Self {
        Self { pool, layer, merge, winners: Vec::new(), tied: Vec::new(), finder: RootFinder::default() }
    }

    /// Values that come out.
    pub fn width(&self) -> usize {
        self.pool.output.len()
    }

    /// The pooled values, on pieces where no winner changes, handed on whenever there are `most` pieces; `kink` hears of every change.
    /// Batches must come in order.
    ///
    /// # Errors
    /// That of `next`.
    pub fn apply(&mut self, x: &Pieces, most: usize, kink: &mut dyn FnMut(Kink), next: Next) -> Result<(), Ended> {
        let (width, places) = (self.pool.output.len(), self.pool.places());
        let sources = sources(self.pool);
        let mut out = Pieces::empty(x.bounds()[0], width, x.degree());
        // Where the winner of an output changes on a piece: place on it, output, new winner.
        let mut switches: Vec<(f64, usize, usize)> = Vec::new();
        for p in 0..x.len() {
            let (left, right) = (x.bounds()[p], x.bounds()[p + 1]);
            switches.clear();
            let begins = self.winners.is_empty();
            let mut winners = if begins { vec![0; width] } else { self.winners.clone() };
            for (output, winner) in winners.iter_mut().enumerate() {
                let from = &sources[output * places..(output + 1) * places];
                let before = *winner;
                self.follow(x, p, from, output, winner, &mut switches);
                let was_tied = begins || self.tied[output * places + *winner];
                if *winner != before && !was_tied {
                    kink(Kink {
                        at: left,
                        layer: self.layer,
                        unit: output,
                        change: Change::Winner { from: before, to: *winner },
                    });
                }
            }
            switches.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let (mut from, mut rest) = (left, &switches[..]);
            while let Some(&(first, ..)) = rest.first() {
                let together = rest.partition_point(|(at, ..)| *at <= first + self.merge);
                let at = left + first;
                push(x, p, (from, at), &sources, places, &winners, &mut out);
                if out.len() >= most {
                    next(out.take())?;
                }
                for (_, output, to) in &rest[..together] {
                    let change = Change::Winner { from: winners[*output], to: *to };
                    kink(Kink { at, layer: self.layer, unit: *output, change });
                    winners[*output] = *to;
                }
                (from, rest) = (at, &rest[together..]);
            }
            push(x, p, (from, right), &sources, places, &winners, &mut out);
            if out.len() >= most {
                next(out.take())?;
            }
            self.tied.clear();
            for (output, winner) in winners.iter().enumerate() {
                let from = &sources[output * places..(output + 1) * places];
                let same = |i: &usize| (0..=x.degree()).all(|k| x.row(k, p)[*i] == x.row(k, p)[from[*winner]]);
                self.tied.extend(from.iter().map(same));
            }
            self.winners = winners;
        }
        if out.is_empty() { Ok(()) } else { next(out) }
    }

    /// Sets the winner at the beginning of a piece and collects its changes on it.
    fn follow(
        &mut self,
        x: &Pieces,
        p: usize,
        from: &[usize],
        output: usize,
        winner: &mut usize,
        switches: &mut Vec<(f64, usize, usize)>,
    ) {
        let length = x.bounds()[p + 1] - x.bounds()[p];
        if x.degree() <= 1 && leads_throughout(x, p, from, *winner, length) {
            return;
        }
        let values = from.iter().map(|i| (0..=x.degree()).map(|k| x.row(k, p)[*i]).collect()).collect();
        let window = Window { values, length, merge: self.merge };
        *winner = window.winner(&mut self.finder, 0.0, *winner);
        let (mut best, mut t) = (*winner, 0.0);
        while let Some(next) = window.overtaken(&mut self.finder, t, best) {
            let to = window.winner(&mut self.finder, next, best);
            if to != best && !window.same(to, best) {
                switches.push((next, output, to));
            }
            (best, t) = (to, next);
        }
    }
}

/// Whether a place has a largest value at both ends, and so everywhere, as values are lines.
fn leads_throughout(x: &Pieces, p: usize, from: &[usize], place: usize, length: f64) -> bool {
    let ends = |i: usize| {
        let value = x.row(0, p)[i];
        (value, value + length * if x.degree() == 1 { x.row(1, p)[i] } else { 0.0 })
    };
    let (a, b) = ends(from[place]);
    from.iter().all(|i| {
        let (c, d) = ends(*i);
        c <= a && d <= b
    })
}

/// For each output (`[windows, channels]`) and place in its window the value that stands there.
pub(super) fn sources(pool: &Pool) -> Vec<usize> {
    let (channels, places) = (pool.input.channels, pool.places());
    let mut sources = vec![0; pool.output.len() * places];
    pool.each_place(|window, place, position| {
        for channel in 0..channels {
            sources[(window * channels + channel) * places + place] = position * channels + channel;
        }
    });
    sources
}

/// Appends the winners' values on a part of a piece.
fn push(
    x: &Pieces,
    p: usize,
    (from, to): (f64, f64),
    sources: &[usize],
    places: usize,
    winners: &[usize],
    out: &mut Pieces,
) {
    let chosen = winners.iter().enumerate().map(|(output, winner)| sources[output * places + winner]);
    out.push_selected(x, p, from, to, chosen);
}

/// An average pool: the mean of every window, on the same pieces.
pub fn average(pool: &Pool, x: &Pieces) -> Pieces {
    let (sources, places) = (sources(pool), pool.places());
    let planes = x.planes().iter().map(|plane| mean(plane, x.width(), &sources, places)).collect();
    x.with_planes(pool.output.len(), planes)
}

/// The means of the windows of rows of `width` values.
pub(super) fn mean(plane: &[f64], width: usize, sources: &[usize], places: usize) -> Vec<f64> {
    let window = |row: &[f64], from: &[usize]| from.iter().map(|i| row[*i]).sum::<f64>() / places as f64;
    plane.chunks_exact(width).flat_map(|row| sources.chunks_exact(places).map(move |from| window(row, from))).collect()
}
