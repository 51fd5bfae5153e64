//! Several runs: the split of each optimizer's mean loss, as the first figure of a run shows it.

use super::{Figure, Series, split};
use crate::study::tables::Comparator;

/// Draws one bar per series; `comparators` are the headline comparators of their runs, in the same order.
pub fn draw(series: &[Series], comparators: &[Comparator]) -> Figure {
    split::compared(series, comparators)
}
