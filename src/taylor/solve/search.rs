//! What an iterative search is asked for.

use crate::taylor::certificate::Comparison;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a search is asked for.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    pub comparison: Comparison,
    /// Absolute gap to reach.
    pub tolerance: f64,
    /// Products with the curvature at most.
    pub max_products: usize,
    /// Ends the search early once it is set.
    pub stop: &'a AtomicBool,
    /// Called with the number of products spent since the last call.
    pub tick: &'a dyn Fn(usize),
}

impl Search<'_> {
    /// Whether somebody asked for an early end.
    pub(super) fn is_halted(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
