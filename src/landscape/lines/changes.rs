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

/// Points of the segment, in order, and the units that take other lines there.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    at: Vec<f64>,
    /// Per point where its units end in `turns`.
    ends: Vec<usize>,
    turns: Vec<Turn>,
}

impl Changes {
    pub fn clear(&mut self) {
        self.at.clear();
        self.ends.clear();
        self.turns.clear();
    }

    /// Units that turn, at all points together.
    pub fn turns(&self) -> usize {
        self.turns.len()
    }

    /// Begins a point; units that turn there follow.
    pub fn begin(&mut self, at: f64) {
        self.at.push(at);
        self.ends.push(self.turns.len());
    }

    /// A unit that turns at the last point.
    ///
    /// # Panics
    /// If there is no point.
    #[inline(always)]
    pub fn push(&mut self, turn: Turn) {
        self.turns.push(turn);
        *self.ends.last_mut().expect("a point has begun") = self.turns.len();
    }

    /// Units that turn at the last point.
    ///
    /// # Panics
    /// If there is no point.
    #[inline(always)]
    pub fn extend(&mut self, turns: impl Iterator<Item = Turn>) {
        self.turns.extend(turns);
        *self.ends.last_mut().expect("a point has begun") = self.turns.len();
    }

    /// The points with the units that turn there. A unit that is named twice takes the later line.
    pub fn points(&self) -> impl Iterator<Item = (f64, &[Turn])> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        self.at.iter().zip(begins.zip(&self.ends)).map(|(at, (begin, end))| (*at, &self.turns[begin..*end]))
    }
}

/// A unit that changes its state inside of a line.
#[derive(Clone, Copy, Debug)]
pub struct Crossing {
    pub at: f64,
    pub turn: Turn,
    pub change: Change,
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
    /// What changes at the points that came in.
    given: Changes,
    crossings: Vec<Crossing>,
    out: Changes,
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
        &mut self.buffers.given
    }

    /// A crossing, in any order.
    pub fn cross(&mut self, crossing: Crossing) {
        self.buffers.crossings.push(crossing);
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
        let Self { layer, merge, last, buffers: Buffers { given, crossings, out } } = self;
        let (layer, merge) = (*layer, *merge);
        crossings.sort_unstable_by(|a, b| a.at.total_cmp(&b.at).then(a.turn.unit.cmp(&b.turn.unit)));
        let mut rest = &crossings[..];
        // All crossings at the point that has begun, none of them at `end` or behind it.
        let mut take = |out: &mut Changes, at: f64, end: f64| {
            let together = rest.partition_point(|crossing| crossing.at <= at + merge && crossing.at < end);
            for crossing in &rest[..together] {
                out.push(crossing.turn);
                kink(Kink { at, layer, unit: crossing.turn.unit as usize, change: crossing.change });
            }
            rest = &rest[together..];
            rest.first().map_or(f64::INFINITY, |crossing| crossing.at)
        };
        out.clear();
        let mut first = crossings.first().map_or(f64::INFINITY, |crossing| crossing.at);
        for (point, turns) in given.points().chain(std::iter::once((f64::INFINITY, &[][..]))) {
            while first < point - merge {
                // What was found late must not come before what has been handed on.
                *last = first.max(*last);
                out.begin(*last);
                first = take(out, *last, point - merge);
            }
            if point < f64::INFINITY {
                *last = point;
                out.begin(point);
                out.extend(turns.iter().copied());
                first = take(out, point, f64::INFINITY);
            }
        }
        given.clear();
        crossings.clear();
        next(out, until)
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
