//! The embedded font: outlines of letters.

use tiny_skia::{Path, PathBuilder};
use ttf_parser::{Face, OutlineBuilder};

/// The embedded fonts (subsets of Inter; licence in `assets/fonts`).
pub const REGULAR: &[u8] = include_bytes!("../../../assets/fonts/Inter-Regular.otf");
pub const SEMIBOLD: &[u8] = include_bytes!("../../../assets/fonts/Inter-SemiBold.otf");

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
    /// its empty box. `None` if nothing is to be seen.
    pub fn outline(&self, text: &str, size: f64) -> Option<Path> {
        let mut pen = Pen { scale: self.scale(size) as f32, x: 0.0, path: PathBuilder::new() };
        for c in text.chars() {
            self.0.outline_glyph(self.0.glyph_index(c).unwrap_or_default(), &mut pen);
            pen.x += self.advance(c) as f32;
        }
        pen.path.finish()
    }

    fn scale(&self, size: f64) -> f64 {
        size / f64::from(self.0.units_per_em())
    }

    fn advance(&self, c: char) -> f64 {
        f64::from(self.0.glyph_hor_advance(self.0.glyph_index(c).unwrap_or_default()).unwrap_or(0))
    }
}

/// Draws in the units of the font, `y` upwards.
struct Pen {
    scale: f32,
    /// Where the letter starts.
    x: f32,
    path: PathBuilder,
}

impl Pen {
    fn x(&self, x: f32) -> f32 {
        (self.x + x) * self.scale
    }

    fn y(&self, y: f32) -> f32 {
        -y * self.scale
    }
}

impl OutlineBuilder for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        self.path.move_to(self.x(x), self.y(y));
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.path.line_to(self.x(x), self.y(y));
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        self.path.quad_to(self.x(x1), self.y(y1), self.x(x), self.y(y));
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        self.path.cubic_to(self.x(x1), self.y(y1), self.x(x2), self.y(y2), self.x(x), self.y(y));
    }

    fn close(&mut self) {
        self.path.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::draw::letters::text_width;
    use tiny_skia::PathSegment;

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
            let letters = Font::new(file).outline("HAx", 100.0).unwrap();
            let (top, bottom) = (letters.bounds().top(), letters.bounds().bottom());
            assert!((-76.0..-70.0).contains(&top) && bottom.abs() < 1.0, "{top} {bottom}");
            let contours = letters.segments().filter(|segment| matches!(segment, PathSegment::MoveTo(_))).count();
            assert_eq!(contours, 4, "the A has a hole");
        }
    }
}
