//! Areas as pixels, with soft edges.

use super::{
    geometry::Rect,
    mark::{Color, Contour, HATCH, HATCH_GROUND, Paint},
};
use std::f64::consts::FRAC_1_SQRT_2;

/// Lines on which the edges of an area are looked at, for a row of pixels. Along them, coverage is exact.
const LINES: usize = 8;
/// Coverage is rounded to this part of a pixel: the eye sees no finer one, and fewer colours make smaller files.
const SHARES: f64 = 16.0;

/// An opaque picture, `scale` pixels for one of the figure.
pub struct Canvas {
    pub width: usize,
    pub height: usize,
    scale: f64,
    /// `[height, width, 3]`, red, green and blue.
    pub pixels: Vec<u8>,
}

/// An edge of an area between two heights, on lines counted from the top of the picture.
struct Edge {
    first: usize,
    end: usize,
    /// Where it crosses the line `first`, and how far it goes from line to line.
    x: f64,
    step: f64,
    /// 1 if it goes down, else -1.
    winding: i32,
}

impl Canvas {
    pub fn new(width: usize, height: usize, scale: f64) -> Canvas {
        Canvas { width, height, scale, pixels: vec![255; 3 * width * height] }
    }

    /// Fills what the contours turn around (the rule `nonzero`), seen within `clip`.
    pub fn fill(&mut self, contours: &[Contour], paint: &Paint, clip: Option<Rect>) {
        let (left, right) = clip.map_or((0.0, self.width as f64), |clip| {
            ((clip.x * self.scale).max(0.0), (clip.right() * self.scale).min(self.width as f64))
        });
        let edges = self.edges(contours, clip);
        let Some(bottom) = edges.iter().map(|edge| edge.end).max() else { return };
        let shade = Shade::new(paint, contours, self.scale);
        let mut waiting = edges.iter().peekable();
        let mut active: Vec<(&Edge, f64)> = Vec::new();
        let mut crossings: Vec<(f64, i32)> = Vec::new();
        let mut coverage = vec![0.0; self.width];
        for row in edges[0].first / LINES..bottom.div_ceil(LINES) {
            let mut reached = (usize::MAX, 0);
            for line in row * LINES..(row + 1) * LINES {
                active.retain(|(edge, _)| edge.end > line);
                while let Some(edge) = waiting.next_if(|edge| edge.first <= line) {
                    active.push((edge, edge.x));
                }
                crossings.clear();
                for (edge, x) in &mut active {
                    crossings.push((x.clamp(left, right), edge.winding));
                    *x += edge.step;
                }
                crossings.sort_by(|a, b| a.0.total_cmp(&b.0));
                spans(&crossings, |from, to| cover(&mut coverage, from, to, &mut reached));
            }
            self.blend(row, reached, &mut coverage, &shade);
        }
    }

    /// The edges of the contours by their heights, cut to the picture and the clip.
    fn edges(&self, contours: &[Contour], clip: Option<Rect>) -> Vec<Edge> {
        let lines = self.scale * LINES as f64;
        let (top, bottom) = clip.map_or((0.0, f64::INFINITY), |clip| (clip.y * lines, clip.bottom() * lines));
        // Lines lie in the middle of their share of the row.
        let at = |y: f64| (y.clamp(top, bottom) - 0.5).ceil().clamp(0.0, (self.height * LINES) as f64) as usize;
        let mut edges = Vec::new();
        for points in contours.iter().map(|contour| &contour.points) {
            for (i, &from) in points.iter().enumerate() {
                let to = points[(i + 1) % points.len()];
                let winding = if to.1 > from.1 { 1 } else { -1 };
                let ((x0, y0), (x1, y1)) = if winding == 1 { (from, to) } else { (to, from) };
                let (first, end) = (at(y0 * lines), at(y1 * lines));
                if first < end {
                    let step = self.scale * (x1 - x0) / ((y1 - y0) * lines);
                    let x = self.scale * x0 + (first as f64 + 0.5 - y0 * lines) * step;
                    edges.push(Edge { first, end, x, step, winding });
                }
            }
        }
        edges.sort_by_key(|edge| edge.first);
        edges
    }

    /// Mixes the shade into a row as far as it is covered, and clears the coverage.
    fn blend(&mut self, row: usize, (from, to): (usize, usize), coverage: &mut [f64], shade: &Shade) {
        for (x, covered) in coverage.iter_mut().enumerate().take(to).skip(from) {
            let share = (std::mem::take(covered) * SHARES / LINES as f64).round() / SHARES;
            if share <= 0.0 {
                continue;
            }
            let (color, opacity) = shade.at(x, row);
            let share = share.min(1.0) * opacity;
            let at = 3 * (row * self.width + x);
            for (pixel, channel) in self.pixels[at..at + 3].iter_mut().zip(color) {
                let mixed = f64::from(*pixel) + (f64::from(channel) - f64::from(*pixel)) * share;
                *pixel = mixed.round() as u8;
            }
        }
    }
}

/// Calls `inside` with every stretch between crossings that the contours turn around.
fn spans(crossings: &[(f64, i32)], mut inside: impl FnMut(f64, f64)) {
    let (mut winding, mut start) = (0, 0.0);
    for &(x, turn) in crossings {
        if winding == 0 {
            start = x;
        }
        winding += turn;
        if winding == 0 && x > start {
            inside(start, x);
        }
    }
}

/// Adds the stretch to the pixels that it covers, and widens the range of those reached.
fn cover(coverage: &mut [f64], from: f64, to: f64, reached: &mut (usize, usize)) {
    let (first, last) = (from as usize, (to as usize).min(coverage.len() - 1));
    if first == last {
        coverage[first] += to - from;
    } else {
        coverage[first] += (first + 1) as f64 - from;
        coverage[first + 1..last].iter_mut().for_each(|covered| *covered += 1.0);
        coverage[last] += to - last as f64;
    }
    *reached = (reached.0.min(first), reached.1.max(last + 1));
}

/// The colour and opacity of a paint at every pixel.
enum Shade<'a> {
    Solid(Color, f64),
    Hatch { color: Color, scale: f64 },
    Gradient { colors: &'a [Color], top: f64, height: f64 },
}

impl Shade<'_> {
    fn new<'a>(paint: &'a Paint, contours: &[Contour], scale: f64) -> Shade<'a> {
        match paint {
            Paint::Solid(color, opacity) => Shade::Solid(*color, *opacity),
            Paint::Hatch(color) => Shade::Hatch { color: *color, scale },
            Paint::Gradient(colors) => {
                let heights = || contours.iter().flat_map(|contour| contour.points.iter().map(|point| point.1));
                let (top, bottom) = (heights().fold(f64::INFINITY, f64::min), heights().fold(0.0, f64::max));
                Shade::Gradient { colors, top: top * scale, height: (bottom - top) * scale }
            }
        }
    }

    fn at(&self, x: usize, y: usize) -> (Color, f64) {
        let (x, y) = (x as f64 + 0.5, y as f64 + 0.5);
        match self {
            Shade::Solid(color, opacity) => (*color, *opacity),
            Shade::Hatch { color, scale } => {
                // The share of a pixel's width that lies on a bar, across the bars.
                let (across, width) = ((x + y) * FRAC_1_SQRT_2 / scale, 1.0 / scale);
                let on_bars = |u: f64| (u / HATCH.0).floor() * HATCH.1 + u.rem_euclid(HATCH.0).min(HATCH.1);
                let share = (on_bars(across + width / 2.0) - on_bars(across - width / 2.0)) / width;
                (*color, HATCH_GROUND + (1.0 - HATCH_GROUND) * share)
            }
            Shade::Gradient { colors, top, height } => {
                let place = (1.0 - (y - top) / height).clamp(0.0, 1.0) * (colors.len() - 1) as f64;
                let below = (place as usize).min(colors.len().saturating_sub(2));
                let (a, b) = (colors[below], colors[(below + 1).min(colors.len() - 1)]);
                let mix = |i: usize| {
                    let (a, b) = (f64::from(a[i]), f64::from(b[i]));
                    (a + (b - a) * (place - below as f64)).round() as u8
                };
                ([mix(0), mix(1), mix(2)], 1.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLACK: Paint = Paint::Solid([0; 3], 1.0);

    fn darkness(canvas: &Canvas) -> Vec<u8> {
        canvas.pixels.chunks(3).map(|pixel| 255 - pixel[0]).collect()
    }

    #[test]
    fn rectangles_are_covered_by_their_area() {
        let mut canvas = Canvas::new(4, 3, 2.0);
        canvas.fill(&[Contour::rect(Rect::new(0.25, 0.5, 1.0, 0.75))], &BLACK, None);
        assert_eq!(darkness(&canvas), [0, 0, 0, 0, 127, 255, 127, 0, 64, 127, 64, 0]);
    }

    #[test]
    fn clips_cut() {
        let mut canvas = Canvas::new(3, 2, 1.0);
        let everything = Contour::rect(Rect::new(-9.0, -9.0, 30.0, 30.0));
        canvas.fill(&[everything], &BLACK, Some(Rect::new(0.5, 1.0, 1.0, 5.0)));
        assert_eq!(darkness(&canvas), [0, 0, 0, 127, 127, 0]);
    }

    #[test]
    fn areas_that_overlap_are_covered_once_and_holes_are_not() {
        let (outer, inner) = (Rect::new(0.0, 0.0, 3.0, 1.0), Rect::new(1.0, 0.0, 1.0, 1.0));
        let mut canvas = Canvas::new(3, 1, 1.0);
        let half = Paint::Solid([0; 3], 0.5);
        canvas.fill(&[Contour::rect(outer), Contour::rect(inner)], &half, None);
        assert_eq!(darkness(&canvas), [127, 127, 127]);
        let mut hole = Contour::rect(inner);
        hole.points.reverse();
        let mut canvas = Canvas::new(3, 1, 1.0);
        canvas.fill(&[Contour::rect(outer), hole], &BLACK, None);
        assert_eq!(darkness(&canvas), [255, 0, 255]);
    }

    #[test]
    fn a_disc_has_its_area() {
        let commands = "M2 12a10 10 0 1 0 20 0a10 10 0 1 0 -20 0Z";
        let mut canvas = Canvas::new(24, 24, 1.0);
        canvas.fill(&super::super::mark::contours(commands), &BLACK, None);
        let area: f64 = darkness(&canvas).iter().map(|d| f64::from(*d) / 255.0).sum();
        assert!((area / (100.0 * std::f64::consts::PI) - 1.0).abs() < 0.01, "{area}");
    }

    #[test]
    fn gradients_end_in_their_colours() {
        let colors = vec![[0, 0, 0], [200, 100, 0]];
        let mut canvas = Canvas::new(1, 100, 1.0);
        canvas.fill(&[Contour::rect(Rect::new(0.0, 0.0, 1.0, 100.0))], &Paint::Gradient(colors), None);
        assert_eq!(canvas.pixels[..3], [199, 100, 0]);
        assert_eq!(canvas.pixels[297..], [1, 1, 0]);
    }
}
