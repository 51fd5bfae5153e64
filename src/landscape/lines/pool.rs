//! A max-pool.

use super::changes::{Buffers, Changes, Crossing, Lines, Next, Turn, Weave};
use crate::{
    landscape::{Change, Ended, Kink, Pieces, pool::sources},
    network::Pool,
};

/// A max-pool, and where it is on the segment: per output the place in its window that has the largest value.
///
/// The conventions are those of [`MaxPool`](crate::landscape::pool::MaxPool).
#[derive(Clone, Debug)]
pub struct PoolLines {
    /// Places of a window.
    places: usize,
    /// `[outputs, places]`, the value that stands there.
    sources: Vec<usize>,
    /// Per value the outputs that it may go to: where they begin in `outputs`.
    begins: Vec<usize>,
    outputs: Vec<u32>,
    merge: f64,
    inputs: Lines,
    windows: Vec<Window>,
    /// Windows that are looked at.
    reached: Vec<u32>,
    weave: Weave,
}

/// The window of an output.
#[derive(Clone, Debug, Default)]
struct Window {
    /// The place with the largest value.
    winner: usize,
    /// Where its values took the lines that they have.
    since: f64,
    /// Where the winner last changed on these lines.
    turned: f64,
    /// Where another place overtakes the winner on these lines; infinite if none does.
    overtaken: f64,
    /// A bit for each place that had the winner's line up to the last change.
    tied: u64,
    marked: bool,
}

/// A line at the place where it is looked at.
#[derive(Clone, Copy, PartialEq)]
struct Line {
    value: f64,
    slope: f64,
}

impl Line {
    fn at(self, by: f64) -> f64 {
        self.value + by * self.slope
    }

    /// Whether it is above another one right behind `by`: less than `merge` away from where they meet counts as there.
    fn is_above(self, other: Line, by: f64, merge: f64) -> bool {
        let (height, steepness) = (self.at(by) - other.at(by), self.slope - other.slope);
        if height.abs() <= steepness.abs() * merge { steepness > 0.0 } else { height > 0.0 }
    }
}

impl PoolLines {
    /// The most places that a window may have.
    pub const PLACES: usize = u64::BITS as usize;

    /// At the beginning of a segment, where the inputs are `x` on one piece.
    ///
    /// # Panics
    /// If the windows have more than [`PoolLines::PLACES`] places.
    pub fn new(pool: &Pool, layer: usize, merge: f64, x: &Pieces) -> Self {
        let (sources, places, from) = (sources(pool), pool.places(), x.bounds()[0]);
        assert!(places <= Self::PLACES, "a window has too many places");
        let mut begins = vec![0; x.width() + 1];
        sources.iter().for_each(|source| begins[source + 1] += 1);
        (0..x.width()).for_each(|source| begins[source + 1] += begins[source]);
        let (mut filled, mut outputs) = (begins.clone(), vec![0; sources.len()]);
        for (at, source) in sources.iter().enumerate() {
            outputs[filled[*source]] = (at / places) as u32;
            filled[*source] += 1;
        }
        let window = Window { since: from, turned: from, ..Window::default() };
        let windows = vec![window; pool.output.len()];
        let (inputs, weave) = (Lines::of(x), Weave::new(layer, merge, from));
        let mut all = Self { places, sources, begins, outputs, merge, inputs, windows, reached: Vec::new(), weave };
        for output in 0..all.windows.len() {
            all.windows[output].winner = all.winner(output, from, from, 0);
            all.windows[output].overtaken = all.overtaken(output);
        }
        all
    }

    /// What it keeps while it works, for reuse.
    pub fn buffers(&mut self) -> &mut Buffers {
        self.weave.buffers()
    }

    /// What it gives at the beginning, as one piece.
    pub fn begin(&self, x: &Pieces) -> Pieces {
        let chosen = |(output, window): (usize, &Window)| self.source(output, window.winner);
        let sources: Vec<usize> = self.windows.iter().enumerate().map(chosen).collect();
        let planes = x.planes().iter().map(|plane| sources.iter().map(|source| plane[*source]).collect());
        x.with_planes(self.windows.len(), planes.collect())
    }

    /// Takes the inputs' changes up to `until`, and hands on what comes out.
    ///
    /// # Errors
    /// That of `next`.
    pub fn advance(
        &mut self,
        changes: &Changes,
        until: f64,
        kink: &mut dyn FnMut(Kink),
        next: Next,
    ) -> Result<(), Ended> {
        for (at, turns) in changes.points() {
            self.weave.given().begin(at);
            turns.each(|turn| {
                let unit = turn.unit as usize;
                for k in self.begins[unit]..self.begins[unit + 1] {
                    self.reach(self.outputs[k] as usize, at);
                }
            });
            turns.each(|turn| {
                self.inputs.set(turn, at);
            });
            let reached = std::mem::take(&mut self.reached);
            reached.iter().for_each(|output| self.turn(*output as usize, at, kink));
            self.reached = reached;
            self.reached.clear();
        }
        for output in 0..self.windows.len() {
            self.settle(output, until);
        }
        self.weave.hand_on(until, kink, next)
    }

    fn source(&self, output: usize, place: usize) -> usize {
        self.sources[output * self.places + place]
    }

    fn line(&self, output: usize, place: usize, at: f64) -> Line {
        let source = self.source(output, place);
        Line { value: self.inputs.value(source, at), slope: self.inputs.slope(source) }
    }

    /// The winner right behind `at`, given one that is not below all others; lines are compared as they are at `from`.
    fn winner(&self, output: usize, from: f64, at: f64, incumbent: usize) -> usize {
        (0..self.places).fold(incumbent, |best, place| {
            let (new, old) = (self.line(output, place, from), self.line(output, best, from));
            if place != best && new.is_above(old, at - from, self.merge) { place } else { best }
        })
    }

    /// A window some of whose values turn at a point: what it was up to there.
    fn reach(&mut self, output: usize, at: f64) {
        if self.windows[output].marked {
            return;
        }
        self.settle(output, at);
        let Window { winner, since, .. } = self.windows[output];
        let best = self.line(output, winner, since);
        let tied = (0..self.places).map(|place| u64::from(self.line(output, place, since) == best) << place).sum();
        let window = &mut self.windows[output];
        (window.tied, window.marked) = (tied, true);
        self.reached.push(output as u32);
    }

    /// Finds the changes of the winner from the last one up to `until`.
    #[inline(always)]
    fn settle(&mut self, output: usize, until: f64) {
        while self.windows[output].overtaken < until - self.merge {
            self.overtake(output);
        }
    }

    /// The next change of the winner.
    #[cold]
    fn overtake(&mut self, output: usize) {
        let Window { winner: from, since, overtaken: at, .. } = self.windows[output];
        let to = self.winner(output, since, at, from);
        if to != from {
            let (old, new) = (self.line(output, from, since), self.line(output, to, since));
            // Of equal ones the first winner stays.
            if old != new {
                self.windows[output].winner = to;
                let turn = Turn { unit: output as u32, value: new.at(at - since), slope: new.slope };
                self.weave.cross(Crossing { at, turn, change: Change::Winner { from, to } });
            }
        }
        self.windows[output].turned = at;
        self.windows[output].overtaken = self.overtaken(output);
    }

    /// Where the first place overtakes the winner behind the last change.
    fn overtaken(&self, output: usize) -> f64 {
        let Window { winner, since, turned, .. } = self.windows[output];
        let old = self.line(output, winner, since);
        let mut first = f64::INFINITY;
        for place in 0..self.places {
            let new = self.line(output, place, since);
            let steepness = new.slope - old.slope;
            if steepness > 0.0 {
                let meets = since - (new.value - old.value) / steepness;
                if meets > turned + self.merge && meets < first {
                    first = meets;
                }
            }
        }
        first
    }

    /// Goes on with the values' new lines.
    fn turn(&mut self, output: usize, at: f64, kink: &mut dyn FnMut(Kink)) {
        let Window { winner: from, tied, .. } = self.windows[output];
        let to = self.winner(output, at, at, from);
        let window = &mut self.windows[output];
        (window.winner, window.since, window.turned, window.marked) = (to, at, at, false);
        self.windows[output].overtaken = self.overtaken(output);
        if to != from && tied >> to & 1 == 0 {
            kink(self.weave.kink(at, output, Change::Winner { from, to }));
        }
        if to != from || self.inputs.from(self.source(output, to)) == at {
            let Line { value, slope } = self.line(output, to, at);
            self.weave.given().push(Turn { unit: output as u32, value, slope });
        }
    }
}
