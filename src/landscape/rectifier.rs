//! Rectifiers: pieces are cut where a unit changes its state.

use super::{
    Ended, Pieces,
    kink::{Change, Kink},
    pieces::Next,
    roots::{RootFinder, SignChanges},
};
use crate::network::Rectifier;

/// The rectifier behind a layer, and the state in which it left the last piece.
///
/// A unit is *active* where its pre-activation is positive. Its state on a piece is one bit: a unit that is zero on the
/// whole piece is inactive. Two crossings nearer than `merge`, and crossings nearer than that to the end of a piece, are
/// one point, so that kinks which meet exactly are reported together and no piece is an artefact of rounding.
#[derive(Clone, Debug)]
pub struct Rectify {
    rectifier: Rectifier,
    /// The layer whose units it rectifies, as an index in the layer list.
    layer: usize,
    merge: f64,
    /// The units' states at the end of the last piece; empty before the first.
    last: Vec<bool>,
    finder: RootFinder,
}

/// A crossing on a piece: where, measured from the left end, and the unit.
type Crossing = (f64, usize);

impl Rectify {
    pub fn new(rectifier: Rectifier, layer: usize, merge: f64) -> Self {
        Self { rectifier, layer, merge, last: Vec::new(), finder: RootFinder::default() }
    }

    /// The rectified units, on pieces where no unit changes its state, handed on whenever there are `most` pieces; `kink` hears of
    /// every change.
    ///
    /// Batches of one segment must come in order: the states at the end of one are compared with the beginning of the
    /// next.
    ///
    /// # Errors
    /// That of `next`.
    pub fn apply(&mut self, a: &Pieces, most: usize, kink: &mut dyn FnMut(Kink), next: Next) -> Result<(), Ended> {
        let mut out = Pieces::empty(a.bounds()[0], a.width(), a.degree());
        // As many pieces come out as go in, and one more for every kink.
        out.reserve((a.len() + a.len() / 2).min(most));
        self.cut(a, kink, &mut |p, from, to, slopes| {
            out.push_scaled(a, p, from, to, slopes);
            if out.len() >= most { next(out.take()) } else { Ok(()) }
        })?;
        if out.is_empty() { Ok(()) } else { next(out) }
    }

    /// The kinks alone, where nothing comes behind the rectifier.
    pub fn kinks(&mut self, a: &Pieces, kink: &mut dyn FnMut(Kink)) {
        let done = self.cut(a, kink, &mut |_, _, _, _| Ok(()));
        debug_assert!(done.is_ok(), "nobody ends it");
    }

    /// Goes through the pieces; `part` gets the parts `from..to` of piece `p` on which no unit changes its state, with the units' slopes.
    fn cut(
        &mut self,
        a: &Pieces,
        kink: &mut dyn FnMut(Kink),
        part: &mut impl FnMut(usize, f64, f64, &[f64]) -> Result<(), Ended>,
    ) -> Result<(), Ended> {
        let width = a.width();
        let negative = self.rectifier.negative_slope();
        let slope_of = |active: bool| if active { 1.0 } else { negative };
        let (mut states, mut slopes) = (vec![false; width], vec![0.0; width]);
        let (mut crossings, mut units): (Vec<Crossing>, Vec<usize>) = (Vec::new(), Vec::new());
        for p in 0..a.len() {
            let (left, right) = (a.bounds()[p], a.bounds()[p + 1]);
            crossings.clear();
            if a.degree() == 1 {
                self.cross_lines(a, p, &mut states, &mut crossings);
            } else {
                self.cross_polynomials(a, p, &mut states, &mut crossings);
            }
            slopes.iter_mut().zip(&states).for_each(|(slope, active)| *slope = slope_of(*active));
            let report = |at: f64, unit: usize, active: bool| Kink {
                at,
                layer: self.layer,
                unit,
                change: if active { Change::On } else { Change::Off },
            };
            if states != self.last {
                for (unit, (active, _)) in states.iter().zip(&self.last).enumerate().filter(|(_, (a, b))| a != b) {
                    kink(report(left, unit, *active));
                }
            }
            crossings.sort_unstable_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
            let (mut from, mut rest) = (left, &crossings[..]);
            while let Some(&(first, _)) = rest.first() {
                let together = rest.partition_point(|(at, _)| *at <= first + self.merge);
                let at = left + first;
                part(p, from, at, &slopes)?;
                units.clear();
                units.extend(rest[..together].iter().map(|(_, unit)| *unit));
                units.sort_unstable();
                // A unit that crosses twice at one point touches zero.
                for same in units.chunk_by(|a, b| a == b).filter(|same| same.len() % 2 == 1) {
                    let unit = same[0];
                    states[unit] ^= true;
                    slopes[unit] = slope_of(states[unit]);
                    kink(report(at, unit, states[unit]));
                }
                (from, rest) = (at, &rest[together..]);
            }
            part(p, from, right, &slopes)?;
            self.last.clear();
            self.last.extend_from_slice(&states);
        }
        Ok(())
    }

    /// States at the left end and crossings of units that are `value + slope u` on a piece.
    fn cross_lines(&self, a: &Pieces, p: usize, states: &mut [bool], crossings: &mut Vec<Crossing>) {
        let length = a.bounds()[p + 1] - a.bounds()[p];
        let (values, slopes) = (a.row(0, p), a.row(1, p));
        // Almost all units have one sign at both ends: blocks of units are passed over together.
        let mut crossed = 0u64;
        for (first, states) in states.chunks_mut(u64::BITS as usize).enumerate() {
            let units = first * u64::BITS as usize;
            let lines = values[units..].iter().zip(&slopes[units..]);
            crate::num::vectorized(
                #[inline(always)]
                || {
                    crossed = 0;
                    for (bit, (active, (value, slope))) in states.iter_mut().zip(lines.clone()).enumerate() {
                        *active = *value > 0.0;
                        crossed |= u64::from(value * (value + slope * length) <= 0.0) << bit;
                    }
                },
            );
            while crossed != 0 {
                let bit = crossed.trailing_zeros() as usize;
                crossed &= crossed - 1;
                let (value, slope) = (values[units + bit], slopes[units + bit]);
                // Less than `merge` away from the left end counts as at the left end.
                if value.abs() <= slope.abs() * self.merge {
                    states[bit] = slope > 0.0;
                } else if value * slope < 0.0 && -value / slope < length - self.merge {
                    crossings.push((-value / slope, units + bit));
                }
            }
        }
    }

    /// The same for polynomials of any degree.
    fn cross_polynomials(&mut self, a: &Pieces, p: usize, states: &mut [bool], crossings: &mut Vec<Crossing>) {
        let length = a.bounds()[p + 1] - a.bounds()[p];
        let mut changes = SignChanges::default();
        let mut coefficients = vec![0.0; a.degree() + 1];
        for (unit, active) in states.iter_mut().enumerate() {
            for (k, c) in coefficients.iter_mut().enumerate() {
                *c = a.row(k, p)[unit];
            }
            self.finder.sign_changes(&coefficients, length, self.merge, &mut changes);
            *active = changes.first > 0.0;
            for at in &changes.at {
                if *at <= self.merge {
                    *active = !*active;
                } else if *at < length - self.merge {
                    crossings.push((*at, unit));
                }
            }
        }
    }
}
