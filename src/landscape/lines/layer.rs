//! A layer with weights and the rectifier behind it.

use super::{
    changes::{Buffers, Changes, Crossing, Lines, Next, Turn, Turns, Weave},
    spread::{Difference, Reached, Spread},
};
use crate::{
    landscape::{Change, Ended, Kink, Pieces, affine::Affine},
    network::{Block, Rectifier},
    num::vectorized,
};

/// Points after which all pre-activations are computed anew, so that no more than this many roundings add up.
const ANEW: usize = 1024;

/// A layer with its rectifier, and where it is on the segment.
///
/// A unit's pre-activation is a line until one of the unit's inputs takes another line. Only then, and when something is
/// handed on, it is looked whether the unit has changed its state: a line crosses zero once.
#[derive(Clone, Debug)]
pub struct LayerLines<'a> {
    affine: &'a Affine<'a>,
    spread: &'a Spread,
    /// What is behind it; without a rectifier every unit counts as active.
    rectifier: Option<Rectifier>,
    merge: f64,
    to: f64,
    /// Empty where nothing changes but by the layer's own kinks.
    inputs: Lines,
    units: Units,
    /// Whether anybody takes what it gives, apart from its kinks.
    gives: bool,
    reached: Reached,
    differences: Vec<Difference>,
    /// A bound of the inputs' norm on what is left of the segment, with the constant 1 of the biases.
    input: f64,
    /// Points since all was computed anew.
    points: usize,
    weave: Weave,
}

/// The pre-activations `[positions, neurons]`.
#[derive(Clone, Debug)]
struct Units {
    neurons: usize,
    values: Vec<f64>,
    slopes: Vec<f64>,
    /// What the slopes are to change by; zero between points.
    turns: Vec<f64>,
    /// Per position where its lines begin.
    from: Vec<f64>,
    /// Per position a bit for each neuron that is active, in words.
    active: Vec<u64>,
    /// Per neuron the norm of its weights.
    norms: Vec<f64>,
}

/// Neurons whose states are kept in a word.
const WORD: usize = u64::BITS as usize;

/// A unit on its way over a point.
struct Crossed {
    unit: usize,
    /// The line up to the point: value and slope where it began, and that place.
    before: (f64, f64, f64),
}

impl Units {
    fn words(&self) -> usize {
        self.neurons.div_ceil(WORD)
    }

    /// The units of a word, and where they stand in it.
    fn range(&self, position: usize, word: usize) -> std::ops::Range<usize> {
        let first = position * self.neurons;
        first + word * WORD..first + self.neurons.min((word + 1) * WORD)
    }

    /// A bit for each unit of a word that is positive at `at`.
    fn positive(&self, position: usize, word: usize, at: f64) -> u64 {
        let (range, by) = (self.range(position, word), at - self.from[position]);
        let lines = self.values[range.clone()].iter().zip(&self.slopes[range]);
        let mut bits = 0;
        vectorized(
            #[inline(always)]
            || {
                bits = 0;
                for (bit, (value, slope)) in lines.clone().enumerate() {
                    bits |= u64::from(value + slope * by > 0.0) << bit;
                }
            },
        );
        bits
    }

    /// Turns the lines of a word at a point, keeping what they were in `before`. A bit for each unit that is positive there, and for each
    /// that one must look at closely, being zero up to `merge` or up to rounding.
    fn turn(&mut self, position: usize, word: usize, point: &Point, before: &mut [[f64; WORD]; 2]) -> [u64; 2] {
        let (range, by) = (self.range(position, word), point.at - self.from[position]);
        let norms = &self.norms[word * WORD..][..range.len()];
        let (values, slopes) = (&mut self.values[range.clone()], &mut self.slopes[range.clone()]);
        let turns = &mut self.turns[range];
        let [old_values, old_slopes] = before;
        let mut bits = [0; 2];
        vectorized(
            #[inline(always)]
            || {
                let (values, values_left) = values.as_chunks_mut::<LANES>();
                let (slopes, slopes_left) = slopes.as_chunks_mut::<LANES>();
                let (turns, turns_left) = turns.as_chunks_mut::<LANES>();
                let (norms, norms_left) = norms.as_chunks::<LANES>();
                let (old_values, _) = old_values.as_chunks_mut::<LANES>();
                let (old_slopes, _) = old_slopes.as_chunks_mut::<LANES>();
                let mut found = Found::<LANES>::new(0);
                let count = values.len();
                for k in 0..count {
                    (old_values[k], old_slopes[k]) = (values[k], slopes[k]);
                    point.turn(by, &mut values[k], &mut slopes[k], turns[k], norms[k], &mut found);
                    turns[k] = [0.0; LANES];
                }
                bits = found.bits();
                let mut found = Found::<1>::new(count * LANES);
                for (k, (value, slope)) in values_left.iter_mut().zip(slopes_left).enumerate() {
                    let (chunk, lane) = (count + k / LANES, k % LANES);
                    (old_values[chunk][lane], old_slopes[chunk][lane]) = (*value, *slope);
                    let (mut one, mut steep) = ([*value], [*slope]);
                    point.turn(by, &mut one, &mut steep, [turns_left[k]], [norms_left[k]], &mut found);
                    ([*value], [*slope], turns_left[k]) = (one, steep, 0.0);
                }
                let left = found.bits();
                bits = [bits[0] | left[0], bits[1] | left[1]];
            },
        );
        bits
    }
}

/// Units whose lines turn together: fixed, so that the compiler sees vectors.
const LANES: usize = 4;

/// A point of the segment at which units turn.
struct Point {
    at: f64,
    merge: f64,
    /// From there to the end of the segment.
    rest: f64,
    /// What is less than this times the norm of a neuron's weights may be nothing but rounding.
    rounding: f64,
}

impl Point {
    /// Turns lines that begin `by` before the point.
    #[inline(always)]
    fn turn<const N: usize>(
        &self,
        by: f64,
        values: &mut [f64; N],
        slopes: &mut [f64; N],
        turns: [f64; N],
        norms: [f64; N],
        found: &mut Found<N>,
    ) {
        for lane in 0..N {
            let here = values[lane] + slopes[lane] * by;
            let behind = slopes[lane] + turns[lane];
            (values[lane], slopes[lane]) = (here, behind);
            let (size, steep) = (here.abs(), behind.abs());
            let near = (size <= steep * self.merge) | (size + steep * self.rest <= self.rounding * norms[lane]);
            found.positive[lane] |= if here > 0.0 { found.bit[lane] } else { 0 };
            found.doubtful[lane] |= if near { found.bit[lane] } else { 0 };
            found.bit[lane] <<= N;
        }
    }
}

/// The bits of [`Units::turn`], those of a lane apart.
struct Found<const N: usize> {
    /// The next bit of each lane.
    bit: [u64; N],
    positive: [u64; N],
    doubtful: [u64; N],
}

impl<const N: usize> Found<N> {
    /// From this bit on.
    #[inline(always)]
    fn new(first: usize) -> Self {
        let mut bit = [0; N];
        for (lane, bit) in bit.iter_mut().enumerate() {
            *bit = 1u64.checked_shl((first + lane) as u32).unwrap_or(0);
        }
        Self { bit, positive: [0; N], doubtful: [0; N] }
    }

    #[inline(always)]
    fn bits(&self) -> [u64; 2] {
        let all = |lanes: &[u64; N]| lanes.iter().fold(0, |bits, lane| bits | lane);
        [all(&self.positive), all(&self.doubtful)]
    }
}

/// Whether a unit with this line is active at its beginning: less than `merge` away from its kink, it counts as being there.
fn active(value: f64, slope: f64, merge: f64) -> bool {
    if value.abs() <= slope.abs() * merge { slope > 0.0 } else { value > 0.0 }
}

impl<'a> LayerLines<'a> {
    /// At the beginning of a segment, where the inputs are `x`, if they are lines that change, and the pre-activations `a`, each as one
    /// piece.
    pub fn new(
        block: &Block,
        (affine, spread): (&'a Affine<'a>, &'a Spread),
        merge: f64,
        x: Option<&Pieces>,
        a: &Pieces,
    ) -> Self {
        let (from, to) = (a.bounds()[0], a.bounds()[1]);
        let slopes = if a.degree() == 0 { vec![0.0; a.width()] } else { a.row(1, 0).to_vec() };
        let mut units = Units {
            neurons: block.units,
            values: a.row(0, 0).to_vec(),
            slopes,
            turns: vec![0.0; a.width()],
            from: vec![from; block.positions()],
            active: Vec::new(),
            norms: affine.norms().iter().map(|norms| norms[0]).collect(),
        };
        for position in 0..block.positions() {
            for word in 0..units.words() {
                let range = units.range(position, word);
                let lines = units.values[range.clone()].iter().zip(&units.slopes[range]);
                let bits =
                    lines.enumerate().map(|(bit, (value, slope))| u64::from(active(*value, *slope, merge)) << bit);
                let all = if block.rectifier.is_some() { bits.sum() } else { u64::MAX };
                units.active.push(all);
            }
        }
        Self {
            affine,
            spread,
            rectifier: block.rectifier,
            merge,
            to,
            inputs: x.map_or_else(Lines::default, Lines::of),
            units,
            gives: true,
            reached: Reached::new(block.positions()),
            differences: Vec::new(),
            input: x.map_or(0.0, |x| affine.size_of_input(x, 0)),
            points: 0,
            weave: Weave::new(block.layer, merge, from),
        }
    }

    /// Has it find its kinks alone, as nobody takes what it gives.
    pub fn end_here(&mut self) {
        self.gives = false;
    }

    /// What it keeps while it works, for reuse.
    pub fn buffers(&mut self) -> &mut Buffers {
        self.weave.buffers()
    }

    /// What it gives at the beginning, as one piece.
    pub fn begin(&self, a: &Pieces) -> Pieces {
        let negative = self.negative_slope();
        let mut slopes = Vec::with_capacity(a.width());
        for (at, active) in self.units.active.iter().enumerate() {
            let count = self.units.range(0, at % self.units.words()).len();
            slopes.extend((0..count).map(|bit| if active >> bit & 1 == 1 { 1.0 } else { negative }));
        }
        let planes = a.planes().iter().map(|plane| plane.iter().zip(&slopes).map(|(v, slope)| v * slope).collect());
        a.with_planes(a.width(), planes.collect())
    }

    /// Takes the inputs' changes up to `until`. What comes out is handed on when it has become `most` turns, and at the end.
    ///
    /// # Errors
    /// That of `next`.
    pub fn advance(
        &mut self,
        changes: &Changes,
        until: f64,
        most: usize,
        kink: &mut dyn FnMut(Kink),
        next: Next,
    ) -> Result<(), Ended> {
        for (at, turns) in changes.points() {
            if self.weave.given().turns() >= most {
                self.hand_on(at, kink, next)?;
            }
            self.weave.given().begin(at);
            self.change_inputs(at, turns);
            let point = self.point(at);
            let positions = std::mem::take(&mut self.reached.positions);
            positions.iter().for_each(|position| self.turn_position(*position as usize, &point, kink));
            self.reached.positions = positions;
            self.reached.clear();
            if self.points >= ANEW {
                self.compute_anew(&point, kink);
            }
        }
        self.hand_on(until, kink, next)
    }

    /// What an inactive unit is multiplied by.
    fn negative_slope(&self) -> f64 {
        self.rectifier.map_or(1.0, Rectifier::negative_slope)
    }

    fn is_active(&self, unit: usize) -> bool {
        let (position, neuron) = (unit / self.units.neurons, unit % self.units.neurons);
        self.units.active[position * self.units.words() + neuron / WORD] >> (neuron % WORD) & 1 == 1
    }

    fn set_active(&mut self, unit: usize, on: bool) {
        let (position, neuron) = (unit / self.units.neurons, unit % self.units.neurons);
        let word = position * self.units.words() + neuron / WORD;
        let bit = 1 << (neuron % WORD);
        if on { self.units.active[word] |= bit } else { self.units.active[word] &= !bit }
    }

    fn point(&self, at: f64) -> Point {
        let roundings = Affine::ROUNDINGS * (1 + self.points) as f64;
        Point { at, merge: self.merge, rest: self.to - at, rounding: roundings * f64::EPSILON * self.input }
    }

    /// Sets the inputs' lines, and what the slopes of the units change by.
    fn change_inputs(&mut self, at: f64, turns: Turns) {
        self.differences.clear();
        let mut squares = 0.0;
        turns.each(|turn| {
            let by = turn.slope - self.inputs.set(turn, at);
            if by != 0.0 {
                self.differences.push((turn.unit, by));
                squares += by * by;
            }
        });
        self.input += squares.sqrt() * (self.to - at);
        self.points += 1;
        self.spread.add(&self.differences, &mut self.units.turns, &mut self.reached);
    }

    /// Turns the units of a position, and names those whose output changes.
    fn turn_position(&mut self, position: usize, point: &Point, kink: &mut dyn FnMut(Kink)) {
        let mut before = [[0.0; WORD]; 2];
        let from = self.units.from[position];
        for word in 0..self.units.words() {
            let [positive, doubtful] = self.units.turn(position, word, point, &mut before);
            let range = self.units.range(position, word);
            let at = position * self.units.words() + word;
            let mut off = 0;
            if self.rectifier.is_some() {
                let mut look = (positive ^ self.units.active[at]) & mask(range.len()) | doubtful;
                while look != 0 {
                    let bit = look.trailing_zeros() as usize;
                    look &= look - 1;
                    let crossed = Crossed { unit: range.start + bit, before: (before[0][bit], before[1][bit], from) };
                    let doubt = doubtful >> bit & 1 == 1;
                    let ended = self.settle(position, &crossed, point, doubt, kink);
                    off |= u64::from(ended) << bit;
                }
            }
            if self.gives {
                self.give(range, self.units.active[at], off);
            }
        }
        self.units.from[position] = point.at;
    }

    /// Decides about the state of a unit at a point that it turns at: whether it ceased to be active there.
    fn settle(
        &mut self,
        position: usize,
        crossed: &Crossed,
        point: &Point,
        doubtful: bool,
        kink: &mut dyn FnMut(Kink),
    ) -> bool {
        let unit = crossed.unit;
        self.cross(unit, crossed.before, point.at);
        if doubtful {
            self.clear_rounding(position, unit, point);
        }
        let now = active(self.units.values[unit], self.units.slopes[unit], self.merge);
        let was = self.is_active(unit);
        if now != was {
            self.set_active(unit, now);
            kink(self.weave.kink(point.at, unit, if now { Change::On } else { Change::Off }));
        }
        was && !now
    }

    /// Sees whether a unit has crossed zero before `until`, on a line with this value and slope where it began.
    fn cross(&mut self, unit: usize, (value, slope, from): (f64, f64, f64), until: f64) {
        let was = self.is_active(unit);
        if (value + slope * (until - from) > 0.0) == was || slope == 0.0 {
            return;
        }
        let at = from - value / slope;
        if at >= from && at < until - self.merge {
            self.set_active(unit, !was);
            let turn =
                Turn { unit: unit as u32, value: 0.0, slope: slope * if was { self.negative_slope() } else { 1.0 } };
            let change = if was { Change::Off } else { Change::On };
            self.weave.cross(Crossing { at, turn, change });
        }
    }

    /// Computes a unit anew that may be nothing but rounding, and sets it to zero if it is.
    fn clear_rounding(&mut self, position: usize, unit: usize, point: &Point) {
        let Units { values, slopes, norms, neurons, .. } = &mut self.units;
        let neuron = unit % *neurons;
        if values[unit].abs() + slopes[unit].abs() * point.rest > point.rounding * norms[neuron] {
            return;
        }
        let (weights, bias) = self.affine.neuron(neuron);
        let (mut value, mut slope) = (bias.unwrap_or(0.0), 0.0);
        let (mut squares, mut steps) = (0.0, 0.0);
        self.spread.each_input(position, |own, input| {
            let (x, step) = (self.inputs.value(input, point.at), self.inputs.slope(input));
            value += weights[own] * x;
            slope += weights[own] * step;
            squares += x * x;
            steps += step * step;
        });
        let input = f64::from(u8::from(bias.is_some())) + squares.sqrt() + steps.sqrt() * point.rest;
        let nothing =
            value.abs() + slope.abs() * point.rest <= Affine::ROUNDINGS * f64::EPSILON * input * norms[neuron];
        (values[unit], slopes[unit]) = if nothing { (0.0, 0.0) } else { (value, slope) };
    }

    /// Names the units of a word whose output has changed: those that are active, and those that ceased to be.
    #[inline(always)]
    fn give(&mut self, range: std::ops::Range<usize>, active: u64, off: u64) {
        let negative = self.negative_slope();
        let mut bits = mask(range.len()) & if negative == 0.0 { active | off } else { u64::MAX };
        let (values, slopes) = (&self.units.values[range.clone()], &self.units.slopes[range.clone()]);
        self.weave.given().extend(std::iter::from_fn(|| {
            let bit = bits.trailing_zeros() as usize;
            bits &= bits.wrapping_sub(1);
            let (value, slope) = (values.get(bit)?, slopes.get(bit)?);
            let gain = if active >> bit & 1 == 1 { 1.0 } else { negative };
            Some(Turn { unit: (range.start + bit) as u32, value: gain * value, slope: gain * slope })
        }));
    }

    /// Computes all pre-activations anew from the inputs.
    fn compute_anew(&mut self, point: &Point, kink: &mut dyn FnMut(Kink)) {
        let x = self.inputs.piece(point.at, self.to);
        let a = self.affine.apply(&x);
        self.points = 0;
        self.input = self.affine.size_of_input(&x, 0);
        for position in 0..self.units.from.len() {
            let from = std::mem::replace(&mut self.units.from[position], point.at);
            for unit in position * self.units.neurons..(position + 1) * self.units.neurons {
                self.cross(unit, (self.units.values[unit], self.units.slopes[unit], from), point.at);
                self.units.turns[unit] = a.row(1, 0)[unit] - self.units.slopes[unit];
                self.units.values[unit] = a.row(0, 0)[unit];
            }
            self.turn_position(position, point, kink);
        }
    }

    /// Hands on what has come out up to `until`.
    fn hand_on(&mut self, until: f64, kink: &mut dyn FnMut(Kink), next: Next) -> Result<(), Ended> {
        if self.rectifier.is_some() {
            let words = self.units.words();
            for position in 0..self.units.from.len() {
                for word in 0..words {
                    let range = self.units.range(position, word);
                    let positive = self.units.positive(position, word, until);
                    let mut look = positive ^ (self.units.active[position * words + word] & mask(range.len()));
                    while look != 0 {
                        let unit = range.start + look.trailing_zeros() as usize;
                        look &= look - 1;
                        let line = (self.units.values[unit], self.units.slopes[unit], self.units.from[position]);
                        self.cross(unit, line, until);
                    }
                }
            }
        }
        self.weave.hand_on(until, kink, next)
    }
}

/// The first bits of a word.
fn mask(count: usize) -> u64 {
    if count == WORD { u64::MAX } else { (1 << count) - 1 }
}
