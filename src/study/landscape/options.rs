//! What is asked for.

use super::{
    LandscapeError, Subject,
    what::{Along, PlaneKind},
};
use crate::study::folder::Destination;
use std::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};

/// What to look at, as far as segments and planes have it in common.
#[derive(Clone, Debug)]
pub struct LandscapeOptions<'a> {
    pub subject: &'a Subject,
    /// Rows of the data whose mean loss is shown.
    pub datapoints: Option<Range<usize>>,
    /// Which optimizer of a run; the first by default.
    pub optimizer: Option<&'a str>,
    /// The weights before this round's update.
    pub round: Option<usize>,
    /// Which output to show.
    pub output: Option<usize>,
    pub out: Destination<'a>,
    /// Replace another landscape in the folder.
    pub overwrite: bool,
    /// Bytes that may be taken for kinks and pieces.
    pub memory: usize,
    /// Set from outside to stop before anything is written.
    pub stop: &'a AtomicBool,
}

impl LandscapeOptions<'_> {
    /// Fails if told to stop.
    pub(super) fn go_on(&self) -> Result<(), LandscapeError> {
        if self.stop.load(Ordering::SeqCst) { Err(LandscapeError::Stopped) } else { Ok(()) }
    }

    /// Fails if the network has no such output.
    pub(super) fn check_output(&self) -> Result<(), LandscapeError> {
        let outputs = self.subject.network.outputs();
        match self.output.filter(|output| *output >= outputs) {
            Some(output) => {
                let reason = format!("the network has outputs 0 to {}", outputs - 1);
                Err(LandscapeError::Value { option: "output", value: output.to_string(), reason })
            }
            None => Ok(()),
        }
    }
}

/// Which segment, and what to measure next to it.
#[derive(Clone, Copy, Debug)]
pub struct SegmentOptions {
    pub along: Along,
    /// Range of the parameter; for inputs the two rows of the data.
    pub through: Option<(f64, f64)>,
    /// Updates of each optimizer to measure; 0 for none.
    pub updates: usize,
}

/// Which plane, and which part of it.
#[derive(Clone, Copy, Debug)]
pub struct PlaneOptions {
    pub kind: PlaneKind,
    /// Ranges of the plane's two coordinates.
    pub ranges: [Option<(f64, f64)>; 2],
}
