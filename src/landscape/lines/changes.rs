//! Which units take which lines at which points of the segment.

use crate::landscape::{Change, Ended, Kink, Pieces};

/// Gets what changes up to a point, in order, and that point.
pub type Next<'a> = &'a mut dyn FnMut(&Changes, f64) -> Result<(), Ended>;

/// A unit that takes another line at a point: its value there and its slope behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turn {
    pub unit: u32,
    pub value: f64,
    pub slope: f64,
}

/// A unit that changes its state inside of a line.
#[derive(Clone, Copy, Debug)]
pub struct Crossing {
    pub at: f64,
    pub turn: Turn,
    pub change: Change,
}

/// A point of the segment, and where the units that turn there end in the lists of them.
#[derive(Clone, Copy, Debug)]
struct Point {
    at: f64,
    turns: usize,
    crossings: usize,
}

/// Points of the segment, in order, and the units that take other lines there: some because their inputs do, some by their own crossings.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    points: Vec<Point>,
    turns: Vec<Turn>,
    crossings: Vec<Crossing>,
}

/// The units that turn at a point. Of a unit that is named twice, the later line counts.
#[derive(Clone, Copy, Debug)]
pub struct Turns<'a> {
    turns: &'a [Turn],
    crossings: &'a [Crossing],
}

impl Turns<'_> {
    #[inline(always)]
    pub fn each(self, mut visit: impl FnMut(&Turn)) {
        self.turns.iter().for_each(&mut visit);
        self.crossings.iter().for_each(|crossing| visit(&crossing.turn));
    }
}

impl Changes {
    fn clear(&mut self) {
        self.points.clear();
        self.turns.clear();
        self.crossings.clear();
    }

    /// Units that turn because their inputs do, at all points together.
    pub fn turns(&self) -> usize {
        self.turns.len()
    }

    /// Begins a point; units that turn there follow.
    pub fn begin(&mut self, at: f64) {
        self.points.push(Point { at, turns: self.turns.len(), crossings: 0 });
    }

    /// A unit that turns at the last point.
    ///
    /// # Panics
    /// If there is no point.
    pub fn push(&mut self, turn: Turn) {
        self.extend(std::iter::once(turn));
    }

    /// Units that turn at the last point.
    ///
    /// # Panics
    /// If there is no point.
    #[inline(always)]
    pub fn extend(&mut self, turns: impl Iterator<Item = Turn>) {
        self.turns.extend(turns);
        self.points.last_mut().expect("a point has begun").turns = self.turns.len();
    }

    /// The points with the units that turn there.
    pub fn points(&self) -> impl Iterator<Item = (f64, Turns<'_>)> {
        let (mut turns, mut crossings) = (0, 0);
        self.points.iter().map(move |point| {
            let here = Turns {
                turns: &self.turns[turns..point.turns],
                crossings: &self.crossings[crossings..point.crossings],
            };
            (turns, crossings) = (point.turns, point.crossings);
            (point.at, here)
        })
    }
}

/// What a layer gives: what changes at the points that it was given, and its own crossings, found out of order.
#[derive(Clone, Debug)]
pub struct Weave {
    /// Index of the layer in the layer list.
    layer: usize,
    /// Points nearer than this are one.
    merge: f64,
    /// The last point that was handed on.
    last: f64,
    buffers: Buffers,
}

/// What a layer keeps until it hands it on. Segments can take each other's.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    /// What changes at the points that came in, and crossings between them.
    changes: Changes,
    /// The points that came in, with those of the crossings.
    woven: Vec<Point>,
}

impl Weave {
    pub fn new(layer: usize, merge: f64, from: f64) -> Self {
        Self { layer, merge, last: from, buffers: Buffers::default() }
    }

    pub fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    /// What changes at the points that came in.
    #[inline(always)]
    pub fn given(&mut self) -> &mut Changes {
        &mut self.buffers.changes
    }

    /// A crossing, in any order.
    pub fn cross(&mut self, crossing: Crossing) {
        self.buffers.changes.crossings.push(crossing);
    }

    /// A change of state.
    pub fn kink(&self, at: f64, unit: usize, change: Change) -> Kink {
        Kink { at, layer: self.layer, unit, change }
    }

    /// Hands on everything up to `until`; `kink` hears of the crossings.
    ///
    /// Crossings nearer than `merge` to a point that came in, or to each other, are at one point.
    ///
    /// # Errors
    /// That of `next`.
    pub fn hand_on(&mut self, until: f64, kink: &mut dyn FnMut(Kink), next: Next) -> Result<(), Ended> {
        let Self { layer, merge, last, buffers: Buffers { changes, woven } } = self;
        let (layer, merge) = (*layer, *merge);
        changes.crossings.sort_unstable_by(|a, b| a.at.total_cmp(&b.at).then(a.turn.unit.cmp(&b.turn.unit)));
        let crossings = &changes.crossings[..];
        let next_at = |from: usize| crossings.get(from).map_or(f64::INFINITY, |crossing| crossing.at);
        // Takes all crossings at the point `at` that come before `end`, from one of them on; where they end.
        let mut take = |from: usize, at: f64, end: f64| {
            let together = crossings[from..].partition_point(|crossing| crossing.at <= at + merge && crossing.at < end);
            for crossing in &crossings[from..from + together] {
                kink(Kink { at, layer, unit: crossing.turn.unit as usize, change: crossing.change });
            }
            from + together
        };
        woven.clear();
        let (mut taken, mut turns) = (0, 0);
        let end = Point { at: f64::INFINITY, turns: 0, crossings: 0 };
        for point in changes.points.iter().chain(std::iter::once(&end)) {
            while next_at(taken) < point.at - merge {
                // What was found late must not come before what has been handed on.
                *last = next_at(taken).max(*last);
                taken = take(taken, *last, point.at - merge);
                woven.push(Point { at: *last, turns, crossings: taken });
            }
            if point.at < f64::INFINITY {
                (*last, turns) = (point.at, point.turns);
                taken = take(taken, point.at, f64::INFINITY);
                woven.push(Point { at: point.at, turns, crossings: taken });
            }
        }
        std::mem::swap(&mut changes.points, woven);
        let ended = next(changes, until);
        changes.clear();
        ended
    }
}

/// Units as lines, each from a point of its own on.
#[derive(Clone, Debug, Default)]
pub struct Lines(Vec<Line>);

#[derive(Clone, Copy, Debug)]
struct Line {
    value: f64,
    slope: f64,
    from: f64,
}

impl Line {
    #[inline(always)]
    fn at(&self, at: f64) -> f64 {
        self.value + self.slope * (at - self.from)
    }
}

impl Lines {
    /// Of units that are lines on one piece.
    pub fn of(piece: &Pieces) -> Self {
        let from = piece.bounds()[0];
        let slope = |unit: usize| if piece.degree() == 0 { 0.0 } else { piece.row(1, 0)[unit] };
        let line = |(unit, value): (usize, &f64)| Line { value: *value, slope: slope(unit), from };
        Self(piece.row(0, 0).iter().enumerate().map(line).collect())
    }

    /// Where the unit's line begins.
    pub fn from(&self, unit: usize) -> f64 {
        self.0[unit].from
    }

    pub fn slope(&self, unit: usize) -> f64 {
        self.0[unit].slope
    }

    pub fn value(&self, unit: usize, at: f64) -> f64 {
        self.0[unit].at(at)
    }

    /// Sets a unit's line, and tells the slope that it had.
    #[inline(always)]
    pub fn set(&mut self, turn: &Turn, from: f64) -> f64 {
        let new = Line { value: turn.value, slope: turn.slope, from };
        std::mem::replace(&mut self.0[turn.unit as usize], new).slope
    }

    /// All values at a point, appended.
    pub fn values_at(&self, at: f64, out: &mut Vec<f64>) {
        out.extend(self.0.iter().map(|line| line.at(at)));
    }

    /// All slopes, appended.
    pub fn slopes(&self, out: &mut Vec<f64>) {
        out.extend(self.0.iter().map(|line| line.slope));
    }

    /// All units from a point to another as one piece.
    pub fn piece(&self, at: f64, to: f64) -> Pieces {
        let (mut values, mut slopes) = (Vec::new(), Vec::new());
        self.values_at(at, &mut values);
        self.slopes(&mut slopes);
        Pieces::whole(at, to, vec![values, slopes])
    }
}
