//! What most figures are drawn with: axes, panels, legends, styles and shapes. Colours are imported by name.

pub use super::{
    axis::Axis,
    legend::{self, Entry, Sample},
    marker::Marker,
    panel::{LABEL, Labels, Panel, TICK},
    style::SeriesStyle,
    svg::{Anchor, Drawing, Rect, Stroke, Svg, Text, pixels},
};
