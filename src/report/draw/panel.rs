//! A panel: two axes and the frame they span.

use super::{
    axis::{Axis, Tick},
    letters::{fitted, text_width},
    palette::{FRAME, GRID, MUTED, PAPER},
    svg::{Anchor, Rect, Stroke, Svg, Text},
};

/// Size of tick labels.
pub const TICK: f64 = 11.0;
/// Size of axis labels and panel titles.
pub const LABEL: f64 = 12.0;

/// Axes over a rectangle.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    pub frame: Rect,
    pub x: Axis,
    pub y: Axis,
}

/// What is written around a panel; empty texts are left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Labels<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    /// Leave out the numbers of the axis (a neighbour in the grid has them).
    pub hide_x: bool,
    pub hide_y: bool,
}

impl Panel {
    pub fn new(frame: Rect, x: Axis, y: Axis) -> Panel {
        Panel { frame, x, y }
    }

    /// The pixel of a data point.
    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        // Far values are clipped, and stay in a range that renderers handle.
        let (u, v) = (self.x.place(x).clamp(-50.0, 50.0), self.y.place(y).clamp(-50.0, 50.0));
        (self.frame.x + u * self.frame.width, self.frame.bottom() - v * self.frame.height)
    }

    /// The ticks of the horizontal axis: as many as have room for their labels.
    pub fn x_ticks(&self) -> Vec<Tick> {
        let fits = |ticks: &Vec<Tick>| {
            ticks.iter().map(|tick| text_width(&tick.label, TICK) + 14.0).sum::<f64>() <= self.frame.width
        };
        (2..=8).rev().map(|most| self.x.ticks(most)).find(fits).unwrap_or_default()
    }

    /// Draws grid, frame, ticks and labels.
    pub fn draw(&self, svg: &mut Svg, labels: Labels) {
        let frame = self.frame;
        let x_ticks = self.x_ticks();
        let y_ticks = self.y.ticks(((frame.height / 23.0) as usize).clamp(2, 7));
        svg.rect(frame, PAPER, None);
        for tick in &x_ticks {
            let x = self.at(tick.value, 0.0).0;
            svg.line((x, frame.y), (x, frame.bottom()), Stroke::solid(GRID, 1.0));
        }
        for tick in &y_ticks {
            let y = self.at(self.x.min, tick.value).1;
            svg.line((frame.x, y), (frame.right(), y), Stroke::solid(GRID, 1.0));
        }
        for value in self.x.minor_ticks() {
            let x = self.at(value, 0.0).0;
            svg.line((x, frame.bottom()), (x, frame.bottom() - 3.0), Stroke::solid(FRAME, 0.8));
        }
        for value in self.y.minor_ticks() {
            let y = self.at(self.x.min, value).1;
            svg.line((frame.x, y), (frame.x + 3.0, y), Stroke::solid(FRAME, 0.8));
        }
        svg.rect(frame, "none", Some(Stroke::solid(FRAME, 1.0)));
        let mut widest: f64 = 0.0;
        if !labels.hide_x {
            let style = Text::new(TICK, Anchor::Middle).colored(MUTED);
            for tick in &x_ticks {
                svg.text((self.at(tick.value, 0.0).0, frame.bottom() + 14.0), &tick.label, style);
            }
        }
        if !labels.hide_y {
            let style = Text::new(TICK, Anchor::End).colored(MUTED);
            for tick in &y_ticks {
                widest = widest.max(text_width(&tick.label, TICK));
                svg.text((frame.x - 5.0, self.at(self.x.min, tick.value).1 + 4.0), &tick.label, style);
            }
        }
        if !labels.title.is_empty() {
            let title = fitted(labels.title, LABEL * 1.04, frame.width + 20.0);
            svg.text((frame.x, frame.y - 6.0), &title, Text::new(LABEL, Anchor::Start).bold());
        }
        let middle = frame.x + frame.width / 2.0;
        svg_label(svg, (middle, frame.bottom() + 30.0), labels.x, 0.0);
        svg_label(svg, (frame.x - widest - 14.0, frame.y + frame.height / 2.0), labels.y, -90.0);
    }

    /// Draws data inside the frame; what lies outside is cut.
    pub fn inside(&self, svg: &mut Svg, content: impl FnOnce(&mut Svg)) {
        svg.clipped(self.frame, content);
    }

    /// A line through data points.
    pub fn curve(&self, svg: &mut Svg, points: &[(f64, f64)], stroke: Stroke) {
        let points: Vec<(f64, f64)> = points.iter().map(|&(x, y)| self.at(x, y)).collect();
        svg.polyline(&points, stroke);
    }
}

fn svg_label(svg: &mut Svg, at: (f64, f64), text: &str, rotate: f64) {
    if !text.is_empty() {
        svg.text(at, text, Text::new(LABEL, Anchor::Middle).rotated(rotate));
    }
}

/// `count` equal cells in reading order, `columns` a row, with `gap` pixels between them.
pub fn cells(origin: (f64, f64), cell: (f64, f64), gap: (f64, f64), columns: usize, count: usize) -> Vec<Rect> {
    let columns = columns.max(1);
    (0..count)
        .map(|i| {
            let (row, column) = ((i / columns) as f64, (i % columns) as f64);
            Rect::new(origin.0 + column * (cell.0 + gap.0), origin.1 + row * (cell.1 + gap.1), cell.0, cell.1)
        })
        .collect()
}
