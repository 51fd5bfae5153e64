//! How the optimizers of a figure are told apart.

use super::{
    marker::Marker,
    palette::{COLORS, PAPER},
    svg::{Stroke, Svg},
};

const DASHES: [&str; 5] = ["", "7 3", "2.5 2.5", "9 3 2 3", "12 4"];
const MARKERS: [Marker; 6] =
    [Marker::Circle, Marker::Square, Marker::Triangle, Marker::Diamond, Marker::Cross, Marker::TriangleDown];

/// How one optimizer looks in every figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeriesStyle {
    pub color: &'static str,
    pub dash: &'static str,
    pub marker: Marker,
}

impl SeriesStyle {
    /// The style of the optimizer at position `index`.
    pub fn of(index: usize) -> SeriesStyle {
        SeriesStyle::mixed(index, index + index / COLORS.len())
    }

    /// A colour by one index and a dash and marker by another.
    pub fn mixed(color: usize, form: usize) -> SeriesStyle {
        SeriesStyle {
            color: COLORS[color % COLORS.len()],
            dash: DASHES[form % DASHES.len()],
            marker: MARKERS[form % MARKERS.len()],
        }
    }

    pub fn stroke(&self, width: f64) -> Stroke<'static> {
        Stroke::solid(self.color, width).dashed(self.dash)
    }

    /// Draws the marker with half-width `r`, filled or open.
    pub fn mark(&self, svg: &mut Svg, center: (f64, f64), r: f64, filled: bool) {
        self.marker.draw(svg, center, r, if filled { self.color } else { PAPER }, self.color);
    }
}
