//! Claims with the intervals that they rest on, as tables.

use super::verdict::Side;
use crate::study::{claims::Claim, explore::metrics::Column, statistics::Interval};

/// A claim with the intervals that it rests on, in the columns of its [`Findings`].
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub claim: Claim,
    /// The comparison in few words, e.g. `RMSProp − SGD, tuned rates`.
    pub subject: String,
    /// What its numbers are.
    pub lead: String,
    /// Why it is undecided, if it is.
    pub reason: Option<String>,
    pub claimed: Side,
    /// `None` where not every seed has a value.
    pub cells: Vec<Option<Interval>>,
}

/// Claims of one kind: a table of claim x quantity.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    pub title: &'static str,
    /// What the numbers are.
    pub note: String,
    pub columns: Vec<Column>,
    pub findings: Vec<Finding>,
}
