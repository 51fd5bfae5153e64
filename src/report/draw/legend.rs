//! Legends: rows of samples above the panels, where they cover no data.

use super::{
    letters::text_width,
    panel::LABEL,
    style::SeriesStyle,
    svg::{Anchor, Rect, Stroke, Svg, Text},
};

/// The sample next to a legend text.
#[derive(Clone, Debug)]
pub enum Sample {
    /// A line with the series' marker on it.
    Series(SeriesStyle),
    Line(Stroke<'static>),
    /// The series' marker alone.
    Marker(SeriesStyle),
    /// A filled patch: colour or pattern, with opacity folded into the colour.
    Patch(String),
    /// A filled and an open marker of no particular series.
    Filled,
    Open,
    /// A thin upright line: a range.
    Upright,
}

/// One entry of a legend.
#[derive(Clone, Debug)]
pub struct Entry {
    pub sample: Sample,
    pub text: String,
    /// Whether it stands for the series of this name.
    pub series: bool,
}

impl Entry {
    pub fn new(sample: Sample, text: impl Into<String>) -> Entry {
        Entry { sample, text: text.into(), series: false }
    }

    /// The entry of a series, whose name is its text.
    pub fn series(style: SeriesStyle, name: impl Into<String>) -> Entry {
        Entry { sample: Sample::Series(style), text: name.into(), series: true }
    }

    fn width(&self) -> f64 {
        self.sample_width() + 6.0 + text_width(&self.text, LABEL)
    }

    fn sample_width(&self) -> f64 {
        match self.sample {
            Sample::Series(_) | Sample::Line(_) => 34.0,
            Sample::Patch(_) => 16.0,
            Sample::Marker(_) | Sample::Filled | Sample::Open | Sample::Upright => 10.0,
        }
    }
}

const ROW: f64 = 19.0;
const GAP: f64 = 20.0;

/// The entries broken into rows of at most `width` pixels.
fn rows(entries: &[Entry], width: f64) -> Vec<&[Entry]> {
    let mut rows = Vec::new();
    let (mut start, mut used) = (0, 0.0);
    for (i, entry) in entries.iter().enumerate() {
        let needed = entry.width() + if i > start { GAP } else { 0.0 };
        if i > start && used + needed > width {
            rows.push(&entries[start..i]);
            (start, used) = (i, entry.width());
        } else {
            used += needed;
        }
    }
    rows.push(&entries[start..]);
    rows
}

/// The height that [`draw`] needs.
pub fn height(entries: &[Entry], width: f64) -> f64 {
    if entries.is_empty() { 0.0 } else { ROW * rows(entries, width).len() as f64 }
}

/// Draws the entries from the upper left corner `(x, y)`.
pub fn draw(svg: &mut Svg, (x, y): (f64, f64), width: f64, entries: &[Entry]) {
    for (row, entries) in rows(entries, width).into_iter().enumerate() {
        let mut left = x;
        let middle = y + ROW * (row as f64 + 0.5);
        for entry in entries {
            let draw = |svg: &mut Svg| draw_entry(svg, (left, middle), entry);
            if entry.series {
                svg.legend_entry(&entry.text, draw);
            } else {
                draw(svg);
            }
            left += entry.width() + GAP;
        }
    }
}

fn draw_entry(svg: &mut Svg, (left, middle): (f64, f64), entry: &Entry) {
    let right = left + entry.sample_width();
    let center = (0.5 * (left + right), middle);
    match &entry.sample {
        Sample::Series(style) => {
            svg.line((left, middle), (right, middle), style.stroke(2.0));
            style.mark(svg, center, 3.4, true);
        }
        Sample::Line(stroke) => svg.line((left, middle), (right, middle), *stroke),
        Sample::Marker(style) => style.mark(svg, center, 3.6, true),
        Sample::Patch(fill) => {
            let edge = Stroke::solid(super::palette::FRAME, 0.6);
            svg.rect(Rect::new(left, middle - 6.0, 16.0, 12.0), fill, Some(edge));
        }
        Sample::Upright => {
            let (x, stroke) = (center.0, Stroke::solid(super::palette::MUTED, 1.2));
            svg.line((x, middle - 6.0), (x, middle + 6.0), stroke);
        }
        Sample::Filled | Sample::Open => {
            let style = SeriesStyle { color: super::palette::MUTED, dash: "", marker: super::marker::Marker::Circle };
            style.mark(svg, center, 3.4, matches!(entry.sample, Sample::Filled));
        }
    }
    svg.text((right + 6.0, middle + 4.0), &entry.text, Text::new(LABEL, Anchor::Start));
}
