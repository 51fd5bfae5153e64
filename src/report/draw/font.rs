//! The embedded font: outlines of letters.

use super::mark::{Contour, Point};
use ttf_parser::{Face, OutlineBuilder};

/// The embedded fonts (subsets of Inter; licence in `assets/fonts`).
pub const REGULAR: &[u8] = include_bytes!("../../../assets/fonts/Inter-Regular.otf");
pub const SEMIBOLD: &[u8] = include_bytes!("../../../assets/fonts/Inter-SemiBold.otf");

/// Straight lines that a curve of a letter is drawn with; letters are a dozen pixels high.
const STEPS: usize = 6;

pub struct Font(Face<'static>);

impl Font {
    /// # Panics
    ///
    /// If the file is not a font.
    pub fn new(file: &'static [u8]) -> Font {
        Font(Face::parse(file, 0).expect("an embedded font"))
    }

    /// The width of `text` at `size` pixels.
    pub fn width(&self, text: &str, size: f64) -> f64 {
        text.chars().map(|c| self.advance(c)).sum::<f64>() * self.scale(size)
    }

    /// The letters of `text` on a base line that starts at the origin, `y` downwards. A letter that the font lacks is
    /// its empty box.
    pub fn outline(&self, text: &str, size: f64) -> Vec<Contour> {
        let mut pen = Pen { scale: self.scale(size), ..Pen::default() };
        for c in text.chars() {
            self.0.outline_glyph(self.0.glyph_index(c).unwrap_or_default(), &mut pen);
            pen.x += self.advance(c);
        }
        pen.contours
    }

    fn scale(&self, size: f64) -> f64 {
        size / f64::from(self.0.units_per_em())
    }

    fn advance(&self, c: char) -> f64 {
        f64::from(self.0.glyph_hor_advance(self.0.glyph_index(c).unwrap_or_default()).unwrap_or(0))
    }
}

/// Draws in the units of the font, `y` upwards.
#[derive(Default)]
struct Pen {
    scale: f64,
    /// Where the letter starts.
    x: f64,
    at: Point,
    contours: Vec<Contour>,
}

impl Pen {
    fn push(&mut self, (x, y): Point) {
        self.at = (x, y);
        let point = ((self.x + x) * self.scale, -y * self.scale);
        if let Some(contour) = self.contours.last_mut() {
            contour.points.push(point);
        }
    }

    /// A Bézier curve by the weights of its points.
    fn curve<const N: usize>(&mut self, points: [Point; N], weights: impl Fn(f64) -> [f64; N]) {
        for i in 1..=STEPS {
            let weights = weights(i as f64 / STEPS as f64);
            let sum = |coordinate: fn(&Point) -> f64| -> f64 {
                points.iter().zip(&weights).map(|(point, weight)| coordinate(point) * weight).sum()
            };
            self.push((sum(|point| point.0), sum(|point| point.1)));
        }
    }
}

fn point(x: f32, y: f32) -> Point {
    (f64::from(x), f64::from(y))
}

impl OutlineBuilder for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        self.contours.push(Contour { points: Vec::new(), closed: true });
        self.push(point(x, y));
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.push(point(x, y));
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        self.curve([self.at, point(x1, y1), point(x, y)], |t| {
            let s = 1.0 - t;
            [s * s, 2.0 * s * t, t * t]
        });
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        self.curve([self.at, point(x1, y1), point(x2, y2), point(x, y)], |t| {
            let s = 1.0 - t;
            [s * s * s, 3.0 * s * s * t, 3.0 * s * t * t, t * t * t]
        });
    }

    fn close(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::draw::letters::text_width;

    #[test]
    fn estimated_text_widths_match_the_font() {
        let font = Font::new(REGULAR);
        for text in ["average regret, loss per round", "RMSProp (lr 0.003)", "1,234 rounds N", "10⁻³"] {
            let (measured, estimated) = (font.width(text, 40.0), text_width(text, 40.0));
            assert!((measured / estimated - 1.0).abs() < 0.06, "{text}: {measured} against {estimated}");
        }
    }

    #[test]
    fn letters_stand_on_the_line() {
        for file in [REGULAR, SEMIBOLD] {
            let letters = Font::new(file).outline("HAx", 100.0);
            let points = || letters.iter().flat_map(|contour| &contour.points);
            let (top, bottom) =
                (points().map(|p| p.1).fold(0.0, f64::min), points().map(|p| p.1).fold(f64::MIN, f64::max));
            assert!((-76.0..-70.0).contains(&top) && bottom.abs() < 1.0, "{top} {bottom}");
            assert_eq!(letters.len(), 4, "the A has a hole");
        }
    }
}
