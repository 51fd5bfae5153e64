//! Axes: from values to the unit interval, with the ticks a reader expects.

use crate::study::numbers::{count, superscript};

/// A linear or logarithmic range of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    pub min: f64,
    pub max: f64,
    pub log: bool,
    /// Ticks only at whole numbers.
    pub whole: bool,
    /// Linear within this distance from zero and logarithmic beyond, on both sides; 0: off.
    pub symmetric: f64,
}

/// One tick; minor ticks have no label.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    pub value: f64,
    pub label: String,
}

impl Axis {
    /// A linear axis; an empty or broken range is widened to one that can be drawn.
    pub fn linear(min: f64, max: f64) -> Axis {
        let (min, max) = if min.is_finite() && max.is_finite() { (min.min(max), min.max(max)) } else { (0.0, 1.0) };
        let room = if max > min { 0.0 } else { (max.abs() * 0.1).max(1e-9) };
        Axis { min: min - room, max: max + room, log: false, whole: false, symmetric: 0.0 }
    }

    /// A logarithmic axis; both ends must be positive, otherwise it is `[0.1, 1]`.
    pub fn log(min: f64, max: f64) -> Axis {
        let usable = min > 0.0 && max.is_finite() && max >= min;
        let (min, max) = if usable { (min, max) } else { (0.1, 1.0) };
        let (min, max) = if max / min < 1.2 { (min / 1.1, max * 1.1) } else { (min, max) };
        Axis { min, max, log: true, whole: false, symmetric: 0.0 }
    }

    /// A linear axis from zero to the next round number above `max`.
    pub fn from_zero(max: f64) -> Axis {
        let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
        let step = round_step(max, 8);
        Axis::linear(0.0, (max / step - 1e-9).ceil() * step)
    }

    /// An axis for values of both signs that span decades: logarithmic beyond `linear` from zero.
    pub fn symmetric(min: f64, max: f64, linear: f64) -> Axis {
        let usable = linear > 0.0 && linear.is_finite();
        Axis { symmetric: if usable { linear } else { 0.0 }, ..Axis::linear(min, max) }
    }

    /// The same axis with ticks at whole numbers only.
    pub fn whole(self) -> Axis {
        Axis { whole: true, ..self }
    }

    /// The place of `value`: 0 at `min`, 1 at `max`, beyond them outside the axis.
    pub fn place(&self, value: f64) -> f64 {
        if self.log {
            (value.max(f64::MIN_POSITIVE) / self.min).ln() / (self.max / self.min).ln()
        } else if self.symmetric > 0.0 {
            let bent = |value: f64| (value / self.symmetric).asinh();
            (bent(value) - bent(self.min)) / (bent(self.max) - bent(self.min))
        } else {
            (value - self.min) / (self.max - self.min)
        }
    }

    /// Labelled ticks, at most about `most` of them.
    pub fn ticks(&self, most: usize) -> Vec<Tick> {
        if self.symmetric > 0.0 {
            return self.symmetric_ticks(most);
        }
        if !self.log {
            return self.linear_ticks(most);
        }
        let (low, high) = (self.min.log10(), self.max.log10());
        let inside = |value: &f64| *value >= self.min * (1.0 - 1e-9) && *value <= self.max * (1.0 + 1e-9);
        let decades = |multiples: &[f64]| -> Vec<f64> {
            (low.floor() as i32..=high.ceil() as i32)
                .flat_map(|exponent| multiples.iter().map(move |m| m * 10f64.powi(exponent)))
                .filter(inside)
                .collect()
        };
        let powers = decades(&[1.0]);
        let values = if powers.len() > most {
            let skip = powers.len().div_ceil(most.max(1)) as i32;
            powers.into_iter().filter(|v| (v.log10().round() as i32).rem_euclid(skip) == 0).collect()
        } else if powers.len() >= 3 || (powers.len() == 2 && most < 4) {
            powers
        } else {
            [&[1.0, 3.0][..], &[1.0, 2.0, 5.0], &[1.0, 2.0, 3.0, 4.0, 6.0, 8.0]]
                .into_iter()
                .map(decades)
                .find(|values| values.len() >= 2)
                .unwrap_or_default()
        };
        if values.len() < 2 {
            return self.linear_ticks(most.min(3));
        }
        let far = values.iter().any(|value| !(0.0099..99_999.0).contains(value));
        values.into_iter().map(|value| Tick { value, label: log_label(value, far) }).collect()
    }

    /// Zero, and powers of ten of both signs; every other one, or fewer, where there are too many.
    fn symmetric_ticks(&self, most: usize) -> Vec<Tick> {
        let largest = self.max.abs().max(self.min.abs());
        let (first, last) = (self.symmetric.log10().ceil() as i32, largest.log10().floor() as i32);
        let powers = |every: usize| {
            let side = |sign: f64| {
                let exponents = (first..=last.max(first)).rev().step_by(every);
                exponents.map(move |exponent| (sign, exponent))
            };
            let inside = |(sign, exponent): &(f64, i32)| {
                let value = sign * 10f64.powi(*exponent);
                value >= self.min && value <= self.max
            };
            side(1.0).chain(side(-1.0)).filter(inside).collect::<Vec<_>>()
        };
        let powers = (1..=20).map(powers).find(|powers| powers.len() < most).unwrap_or_default();
        let mut ticks: Vec<Tick> = powers
            .into_iter()
            .map(|(sign, exponent)| {
                let value = sign * 10f64.powi(exponent);
                let label = log_label(value.abs(), !(-2..5).contains(&exponent));
                Tick { value, label: if sign < 0.0 { format!("−{label}") } else { label } }
            })
            .collect();
        if self.min <= 0.0 && self.max >= 0.0 {
            ticks.push(Tick { value: 0.0, label: "0".into() });
        }
        ticks.sort_by(|a, b| a.value.total_cmp(&b.value));
        ticks
    }

    fn linear_ticks(&self, most: usize) -> Vec<Tick> {
        let mut ticks = linear_ticks(self.min, self.max, most);
        if self.whole {
            ticks.retain(|tick| tick.value == tick.value.round());
            for tick in &mut ticks {
                tick.label = count(tick.value.max(0.0) as u64);
            }
        }
        ticks
    }

    /// Unlabelled ticks between the decades of a logarithmic axis.
    pub fn minor_ticks(&self) -> Vec<f64> {
        if !self.log || (self.max / self.min).log10() > 6.0 {
            return Vec::new();
        }
        (self.min.log10().floor() as i32..=self.max.log10().ceil() as i32)
            .flat_map(|exponent| (1..10).map(move |m| f64::from(m) * 10f64.powi(exponent)))
            .filter(|value| *value >= self.min && *value <= self.max)
            .collect()
    }
}

/// A step of 1, 2 or 5 times a power of ten that divides `range` into at most about `most` parts.
fn round_step(range: f64, most: usize) -> f64 {
    let rough = range / most.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|step| *step >= rough * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

fn linear_ticks(min: f64, max: f64, most: usize) -> Vec<Tick> {
    let step = round_step(max - min, most);
    let (first, last) = ((min / step - 1e-9).ceil() as i64, (max / step + 1e-9).floor() as i64);
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let largest = min.abs().max(max.abs());
    (first..=last)
        .map(|i| {
            let value = i as f64 * step;
            let label = if largest >= 1e6 || (largest < 1e-3 && largest > 0.0) {
                let exponent = largest.log10().floor() as i32;
                let mantissa = value / 10f64.powi(exponent);
                let digits = (exponent - step.log10().floor() as i32).max(0) as usize;
                if i == 0 { "0".into() } else { format!("{mantissa:.digits$}×10{}", superscript(exponent)) }
            } else if decimals == 0 {
                let sign = if value < 0.0 { "-" } else { "" };
                format!("{sign}{}", count(value.abs().round() as u64))
            } else {
                format!("{value:.decimals$}")
            };
            Tick { value, label: label.replace('-', "−") }
        })
        .collect()
}

/// `0.01`, `1`, `1,000`; powers of ten on an axis that goes far beyond.
fn log_label(value: f64, far: bool) -> String {
    let exponent = (value.log10() + 1e-9).floor() as i32;
    let mantissa = (value / 10f64.powi(exponent)).round() as u64;
    match exponent {
        0 => mantissa.to_string(),
        _ if far && mantissa == 1 => format!("10{}", superscript(exponent)),
        _ if far => format!("{mantissa}×10{}", superscript(exponent)),
        1..=4 => count(mantissa * 10u64.pow(exponent as u32)),
        -2..0 => format!("{:.*}", -exponent as usize, value),
        _ => format!("{mantissa}×10{}", superscript(exponent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: Axis, most: usize) -> Vec<String> {
        axis.ticks(most).into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(Axis::from_zero(0.117), 5), ["0.00", "0.05", "0.10"]);
        assert_eq!(labels(Axis::linear(0.0, 938.0), 5), ["0", "200", "400", "600", "800"]);
        assert_eq!(labels(Axis::log(1.0, 938.0), 5), ["1", "10", "100"]);
        assert_eq!(labels(Axis::log(1e-5, 0.1), 5), ["10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹"]);
        assert_eq!(labels(Axis::log(0.02, 0.07), 5), ["0.02", "0.05"]);
    }

    #[test]
    fn a_symmetric_axis_shows_both_signs() {
        let axis = Axis::symmetric(-0.5, 0.5, 1e-3);
        assert_eq!(labels(axis, 6), ["−0.1", "−10⁻³", "0", "10⁻³", "0.1"]);
        assert_eq!(axis.place(0.0), 0.5);
        assert!((axis.place(0.1) + axis.place(-0.1) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn every_range_can_be_drawn() {
        let odd = [0.0, 1.0, -3.0, 1e-300, 1e300, f64::NAN, f64::INFINITY];
        for a in odd {
            for b in odd {
                for axis in [Axis::linear(a, b), Axis::log(a, b), Axis::from_zero(a), Axis::symmetric(a, b, 1e-3)] {
                    assert!(axis.max > axis.min, "{axis:?}");
                    let ticks = axis.ticks(5);
                    assert!(ticks.len() < 20, "{axis:?}: {ticks:?}");
                    assert!(axis.place(0.5).is_finite());
                }
            }
        }
    }
}
