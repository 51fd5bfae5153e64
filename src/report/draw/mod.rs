//! A small drawing kit for the figures: SVG primitives, axes, panels, legends and the PNG rendering.
//!
//! Figures need shared axes over many panels, strips for values that a log axis cannot show, and bytes that
//! depend on nothing but the tables, in an embedded font. Writing SVG directly gives all three in few lines.

pub mod axis;
mod canvas;
pub mod font;
mod geometry;
pub mod legend;
pub mod letters;
pub mod mark;
pub mod marker;
pub mod palette;
pub mod panel;
pub mod png;
pub mod prelude;
pub mod style;
pub mod svg;
