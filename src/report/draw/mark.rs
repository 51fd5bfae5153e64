//! What a figure consists of, as shapes: recorded by [`Svg`](super::svg::Svg) beside its text, for pictures of pixels.

use super::geometry::{Anchor, Rect};
use std::f64::consts::{FRAC_PI_2, PI};

/// A point in pixels of the SVG, `y` downwards.
pub type Point = (f64, f64);

/// A line through points, and whether it returns to the first.
#[derive(Clone, Debug, PartialEq)]
pub struct Contour {
    pub points: Vec<Point>,
    pub closed: bool,
}

impl Contour {
    pub fn rect(rect: Rect) -> Contour {
        let (x, y, right, bottom) = (rect.x, rect.y, rect.right(), rect.bottom());
        Contour { points: vec![(x, y), (right, y), (right, bottom), (x, bottom)], closed: true }
    }
}

/// A colour, each channel in `0..=255`.
pub type Color = [u8; 3];

/// `#rrggbb`; `None` for anything else.
pub fn hex(text: &str) -> Option<Color> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii())?;
    let channel = |i: usize| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok();
    Some([channel(0)?, channel(1)?, channel(2)?])
}

/// What an area is filled with.
#[derive(Clone, Debug, PartialEq)]
pub enum Paint {
    Solid(Color, f64),
    /// Diagonal bars of the colour on a quarter of it.
    Hatch(Color),
    /// Colours at equal distances from the bottom of the area to its top.
    Gradient(Vec<Color>),
}

/// Distance between the bars of a hatch, and their width.
pub const HATCH: (f64, f64) = (5.0, 1.2);
/// What the hatch has between its bars.
pub const HATCH_GROUND: f64 = 0.25;

/// How segments of a line meet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Join {
    Round,
    /// Pointed, or cut off where that would reach further than SVG's limit.
    Miter,
}

/// A line drawn along contours.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub color: Color,
    pub opacity: f64,
    pub width: f64,
    /// Lengths of dashes and gaps in turn; empty for a solid line.
    pub dash: Vec<f64>,
    pub join: Join,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    Area {
        contours: Vec<Contour>,
        fill: Option<Paint>,
        line: Option<Line>,
    },
    Text {
        at: Point,
        text: String,
        size: f64,
        anchor: Anchor,
        bold: bool,
        color: Color,
        rotate: f64,
        halo: Option<f64>,
    },
}

/// A form, and the rectangle outside which it is not seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    pub form: Form,
    pub clip: Option<Rect>,
}

/// The contours of a path of SVG commands: `M L H V A Z`, absolute or relative, arcs of circles only. What follows a
/// command that is not one of these is dropped.
pub fn contours(commands: &str) -> Vec<Contour> {
    let mut reader = Path::default();
    let mut rest = commands;
    while let Some(command) = rest.chars().next() {
        let end = rest[1..].find(|c: char| c.is_ascii_alphabetic()).map_or(rest.len(), |at| at + 1);
        if !reader.apply(command, &numbers(&rest[1..end])) {
            break;
        }
        rest = &rest[end..];
    }
    reader.contours
}

/// Numbers set apart by spaces or by their signs alone.
fn numbers(text: &str) -> Vec<f64> {
    let mut numbers = Vec::new();
    let mut start = 0;
    for (i, c) in text.char_indices().chain([(text.len(), ' ')]) {
        if c == ' ' || c == '-' || c == ',' {
            numbers.extend(text[start..i].trim_matches([' ', ',']).parse::<f64>());
            start = i;
        }
    }
    numbers
}

#[derive(Default)]
struct Path {
    contours: Vec<Contour>,
    at: Point,
}

impl Path {
    /// Whether the command is known.
    fn apply(&mut self, command: char, numbers: &[f64]) -> bool {
        let origin = if command.is_ascii_lowercase() { self.at } else { (0.0, 0.0) };
        match (command.to_ascii_uppercase(), numbers) {
            ('M', &[x, y]) => {
                self.at = (origin.0 + x, origin.1 + y);
                self.contours.push(Contour { points: vec![self.at], closed: false });
            }
            ('L', &[x, y]) => self.line_to((origin.0 + x, origin.1 + y)),
            ('H', &[x]) => self.line_to((origin.0 + x, self.at.1)),
            ('V', &[y]) => self.line_to((self.at.0, origin.1 + y)),
            ('A', &[r, _, _, large, sweep, x, y]) => {
                self.arc_to(r, large != 0.0, sweep != 0.0, (origin.0 + x, origin.1 + y));
            }
            ('Z', []) => {
                if let Some(contour) = self.contours.last_mut() {
                    contour.closed = true;
                    self.at = contour.points[0];
                }
            }
            _ => return false,
        }
        true
    }

    fn line_to(&mut self, to: Point) {
        match self.contours.last_mut() {
            Some(contour) if !contour.closed => contour.points.push(to),
            _ => self.contours.push(Contour { points: vec![self.at, to], closed: false }),
        }
        self.at = to;
    }

    /// A part of a circle with the given radius, by its centre (SVG 2, appendix B.2.4, for equal radii).
    fn arc_to(&mut self, radius: f64, large: bool, sweep: bool, to: Point) {
        let from = self.at;
        let (half_x, half_y) = ((to.0 - from.0) / 2.0, (to.1 - from.1) / 2.0);
        let half = half_x.hypot(half_y);
        if half == 0.0 {
            return;
        }
        // A radius that is too small is enlarged until it reaches.
        let radius = radius.abs().max(half);
        let off = (radius * radius - half * half).max(0.0).sqrt() / half * if large == sweep { -1.0 } else { 1.0 };
        let center = (from.0 + half_x - off * half_y, from.1 + half_y + off * half_x);
        let angle = |point: Point| (point.1 - center.1).atan2(point.0 - center.0);
        let start = angle(from);
        let turn = (angle(to) - start).rem_euclid(2.0 * PI) - if sweep { 0.0 } else { 2.0 * PI };
        let steps = steps_of_arc(radius, turn);
        for i in 1..steps {
            let (sin, cos) = (start + turn * i as f64 / steps as f64).sin_cos();
            self.line_to((center.0 + radius * cos, center.1 + radius * sin));
        }
        self.line_to(to);
    }
}

/// The number of straight lines that a part of a circle is drawn with: few enough, and none further than a fiftieth of
/// a pixel from it.
fn steps_of_arc(radius: f64, turn: f64) -> usize {
    const OFF: f64 = 0.02;
    let step = 2.0 * (1.0 - OFF / radius.max(2.0 * OFF)).acos();
    (turn.abs() / step.min(FRAC_PI_2)).ceil().max(1.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_followed() {
        let triangle = contours("M1.5 2L-3 4h-2V-1.25Zm1 0l1 1");
        assert_eq!(triangle[0].points, [(1.5, 2.0), (-3.0, 4.0), (-5.0, 4.0), (-5.0, -1.25)]);
        assert_eq!((triangle[0].closed, triangle[1].closed), (true, false));
        assert_eq!(triangle[1].points, [(2.5, 2.0), (3.5, 3.0)]);
        assert!(contours("C1 2 3 4 5 6").is_empty());
    }

    #[test]
    fn two_half_arcs_are_a_circle() {
        let circle = &contours("M-3 1a3 3 0 1 0 6 0a3 3 0 1 0 -6 0Z")[0];
        assert!(circle.points.len() > 12);
        for (x, y) in &circle.points {
            assert!((x.hypot(y - 1.0) - 3.0).abs() < 1e-9, "{x} {y}");
        }
        let above = circle.points.iter().filter(|point| point.1 < 1.0 - 1e-9).count();
        assert!(above.abs_diff(circle.points.len() / 2) <= 2, "both halves");
    }

    #[test]
    fn colours_are_read() {
        assert_eq!(hex("#0a10ff"), Some([10, 16, 255]));
        for other in ["none", "#fff", "url(#a-1)", "#gg0000", ""] {
            assert_eq!(hex(other), None, "{other}");
        }
    }
}
