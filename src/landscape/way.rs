//! What is found on the way of one segment.

use super::{
    Ended, Limits,
    kink::{KINK_BYTES, Kink},
};
use std::cell::{Cell, RefCell};

/// The kinks of a segment as they are found, and how many of them have been counted.
#[derive(Debug)]
pub struct Way<'a> {
    pub limits: &'a Limits<'a>,
    /// Out of order.
    kinks: RefCell<Vec<Kink>>,
    counted: Cell<usize>,
}

impl<'a> Way<'a> {
    pub fn new(limits: &'a Limits<'a>) -> Self {
        Self { limits, kinks: RefCell::default(), counted: Cell::new(0) }
    }

    pub fn add(&self, kink: Kink) {
        self.kinks.borrow_mut().push(kink);
    }

    /// Counts the kinks that have come since the last call.
    ///
    /// # Errors
    /// [`Ended::Memory`].
    pub fn count(&self) -> Result<(), Ended> {
        let found = self.kinks.borrow().len();
        let new = found - self.counted.replace(found);
        self.limits.take(new * KINK_BYTES)
    }

    /// The kinks in the order of the segment; at one point in the order of layers and units.
    pub fn into_kinks(self) -> Vec<Kink> {
        let mut kinks = self.kinks.into_inner();
        kinks.sort_by(|a, b| a.at.total_cmp(&b.at).then((a.layer, a.unit).cmp(&(b.layer, b.unit))));
        kinks
    }
}
