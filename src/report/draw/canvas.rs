//! Shapes as pixels, by `tiny-skia`.

use super::{
    geometry::Rect,
    mark::{Color, Contour, HATCH, HATCH_GROUND, Join, Line, Paint},
};
use std::f64::consts::FRAC_1_SQRT_2;
use tiny_skia::{
    FillRule, GradientStop, LineJoin, LinearGradient, Mask, Path, PathBuilder, Pixmap, Point, Shader, SpreadMode,
    Stroke, StrokeDash, Transform,
};

/// How many widths a pointed join may reach (SVG's default).
const MITER_LIMIT: f32 = 4.0;

/// An opaque picture, `scale` pixels for one of the figure.
pub struct Canvas {
    pixmap: Pixmap,
    scale: f32,
    /// What is seen within the last clip: marks of one panel follow each other.
    mask: Option<(Rect, Mask)>,
}

impl Canvas {
    /// White; `None` if it is empty or too large.
    pub fn new(width: u32, height: u32, scale: f64) -> Option<Canvas> {
        let mut pixmap = Pixmap::new(width, height)?;
        pixmap.fill(tiny_skia::Color::WHITE);
        Some(Canvas { pixmap, scale: scale as f32, mask: None })
    }

    /// Fills what the path turns around (the rule `nonzero`), seen within `clip`.
    pub fn fill(&mut self, path: &Path, paint: &Paint, clip: Option<Rect>) {
        if let Some(shader) = self.shader(paint, path) {
            let scale = self.transform();
            let mask = mask(&mut self.mask, &self.pixmap, scale, clip);
            self.pixmap.fill_path(path, &painted(shader), FillRule::Winding, scale, mask);
        }
    }

    /// Draws a line along the path, seen within `clip`.
    pub fn stroke(&mut self, path: &Path, line: &Line, clip: Option<Rect>) {
        // As in SVG, an odd number of lengths is gone through twice.
        let lengths = line.dash.repeat(1 + line.dash.len() % 2).iter().map(|length| *length as f32).collect();
        // A line of more than a million dashes stays solid: the library would leave it out.
        let dashed = StrokeDash::new(lengths, 0.0).and_then(|dash| path.dash(&dash, self.scale));
        let stroke = Stroke {
            width: line.width as f32,
            miter_limit: MITER_LIMIT,
            line_join: match line.join {
                Join::Round => LineJoin::Round,
                Join::Miter => LineJoin::Miter,
            },
            ..Stroke::default()
        };
        let paint = painted(Shader::SolidColor(color(line.color, line.opacity)));
        let scale = self.transform();
        let mask = mask(&mut self.mask, &self.pixmap, scale, clip);
        self.pixmap.stroke_path(dashed.as_ref().unwrap_or(path), &paint, &stroke, scale, mask);
    }

    pub fn width(&self) -> u32 {
        self.pixmap.width()
    }

    pub fn height(&self) -> u32 {
        self.pixmap.height()
    }

    /// `[height, width, 3]`, red, green and blue.
    pub fn pixels(&self) -> Vec<u8> {
        self.pixmap.data().chunks_exact(4).flat_map(|pixel| &pixel[..3]).copied().collect()
    }

    fn transform(&self) -> Transform {
        Transform::from_scale(self.scale, self.scale)
    }

    fn shader(&self, paint: &Paint, path: &Path) -> Option<Shader<'static>> {
        match paint {
            Paint::Solid(solid, opacity) => Some(Shader::SolidColor(color(*solid, *opacity))),
            Paint::Hatch(bars) => hatch(*bars, 1.0 / f64::from(self.scale)),
            Paint::Gradient(colors) => {
                let last = (colors.len() - 1).max(1) as f32;
                let stops =
                    colors.iter().enumerate().map(|(i, stop)| GradientStop::new(i as f32 / last, color(*stop, 1.0)));
                let end = |y: f32| Point::from_xy(0.0, y);
                let (bottom, top) = (end(path.bounds().bottom()), end(path.bounds().top()));
                LinearGradient::new(bottom, top, stops.collect(), SpreadMode::Pad, Transform::identity())
            }
        }
    }
}

/// Bars as a gradient that repeats. They get darker and lighter within a pixel, whose width is given, as a sharp edge
/// would have steps.
fn hatch(bars: Color, pixel: f64) -> Option<Shader<'static>> {
    let (distance, width) = HATCH;
    let stops = [(0.0, HATCH_GROUND), (pixel, 1.0), (width, 1.0), (width + pixel, HATCH_GROUND)]
        .map(|(at, opacity)| GradientStop::new((at / distance) as f32, color(bars, opacity)));
    let across = |at: f64| {
        let diagonal = ((at - pixel / 2.0) * FRAC_1_SQRT_2) as f32;
        Point::from_xy(diagonal, diagonal)
    };
    LinearGradient::new(across(0.0), across(distance), stops.into(), SpreadMode::Repeat, Transform::identity())
}

/// The mask of a clip, kept until another is asked for.
fn mask<'a>(
    kept: &'a mut Option<(Rect, Mask)>,
    pixmap: &Pixmap,
    scale: Transform,
    clip: Option<Rect>,
) -> Option<&'a Mask> {
    let clip = clip?;
    if kept.as_ref().is_none_or(|(known, _)| *known != clip) {
        let mut mask = Mask::new(pixmap.width(), pixmap.height())?;
        if let Some(path) = path(&[Contour::rect(clip)]) {
            mask.fill_path(&path, FillRule::Winding, true, scale);
        }
        *kept = Some((clip, mask));
    }
    kept.as_ref().map(|(_, mask)| mask)
}

/// The path along the contours; `None` if there is no line in them.
pub fn path(contours: &[Contour]) -> Option<Path> {
    let mut path = PathBuilder::new();
    for contour in contours {
        for (i, &(x, y)) in contour.points.iter().enumerate() {
            let to = if i == 0 { PathBuilder::move_to } else { PathBuilder::line_to };
            to(&mut path, x as f32, y as f32);
        }
        if contour.closed {
            path.close();
        }
    }
    path.finish()
}

fn color([red, green, blue]: Color, opacity: f64) -> tiny_skia::Color {
    let mut color = tiny_skia::Color::from_rgba8(red, green, blue, 255);
    color.apply_opacity(opacity as f32);
    color
}

fn painted(shader: Shader) -> tiny_skia::Paint {
    tiny_skia::Paint { shader, ..tiny_skia::Paint::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLACK: Paint = Paint::Solid([0; 3], 1.0);

    fn filled(canvas: &mut Canvas, rect: Rect, paint: &Paint, clip: Option<Rect>) -> Vec<u8> {
        canvas.fill(&path(&[Contour::rect(rect)]).unwrap(), paint, clip);
        canvas.pixels().chunks(3).map(|pixel| pixel[0]).collect()
    }

    #[test]
    fn every_clip_cuts() {
        let everything = Rect::new(-9.0, -9.0, 30.0, 30.0);
        let mut canvas = Canvas::new(4, 2, 2.0).unwrap();
        let left = filled(&mut canvas, everything, &BLACK, Some(Rect::new(0.0, 0.5, 0.5, 3.0)));
        assert_eq!(left, [255, 255, 255, 255, 0, 255, 255, 255]);
        let right = filled(&mut canvas, everything, &BLACK, Some(Rect::new(1.5, 0.0, 0.5, 0.5)));
        assert_eq!(right, [255, 255, 255, 0, 0, 255, 255, 255]);
    }

    #[test]
    fn gradients_end_in_their_colours() {
        let colors = Paint::Gradient(vec![[0, 0, 0], [200, 100, 0]]);
        let mut canvas = Canvas::new(1, 100, 1.0).unwrap();
        let reds = filled(&mut canvas, Rect::new(0.0, 0.0, 1.0, 100.0), &colors, None);
        assert!(reds[0] >= 198 && reds[99] <= 2 && reds[50].abs_diff(100) <= 2, "{reds:?}");
        let mut canvas = Canvas::new(1, 1, 1.0).unwrap();
        let one = Paint::Gradient(vec![[7; 3]]);
        assert_eq!(filled(&mut canvas, Rect::new(0.0, 0.0, 1.0, 1.0), &one, None), [7]);
    }

    #[test]
    fn hatches_have_the_share_of_their_bars() {
        let mut canvas = Canvas::new(200, 200, 2.0).unwrap();
        let reds = filled(&mut canvas, Rect::new(0.0, 0.0, 100.0, 100.0), &Paint::Hatch([0; 3]), None);
        let mean = reds.iter().map(|red| f64::from(*red)).sum::<f64>() / reds.len() as f64;
        let share = HATCH.1 / HATCH.0;
        let expected = 255.0 * (1.0 - share) * (1.0 - HATCH_GROUND);
        assert!((mean - expected).abs() < 3.0, "{mean} against {expected}");
    }
}
