//! The figures of landscapes, one a file, each from the tables of a landscape folder.

pub mod autocorrelation;
pub mod functions;
pub mod growth;
pub mod regions;
pub mod segment;
pub mod updates;

use super::Figure;
use crate::study::landscape::{LandscapeTables, rows::Kind};

/// All figures that the folder has tables for, in the order of the page.
pub fn of_landscape(tables: &LandscapeTables) -> Vec<Figure> {
    let mut figures = Vec::new();
    if !tables.functions.is_empty() {
        figures.push(functions::draw(tables));
    }
    if !tables.growth.is_empty() {
        figures.push(growth::draw(tables));
    }
    if !tables.autocorrelation.is_empty() {
        figures.push(autocorrelation::draw(tables));
    }
    figures.push(match &tables.summary.kind {
        Kind::Plane { plane } => regions::draw(tables, plane),
        Kind::Segment(segment) => segment::draw(tables, segment),
    });
    if !tables.updates.is_empty() {
        figures.push(updates::draw(tables));
    }
    figures
}

/// A linear axis over the values with a little room; values that are not finite are left out.
fn roomy(values: impl IntoIterator<Item = f64>, room: f64) -> crate::report::draw::axis::Axis {
    let (low, high) = values
        .into_iter()
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let extra = room * (high - low);
    crate::report::draw::axis::Axis::linear(low - extra, high + extra)
}
