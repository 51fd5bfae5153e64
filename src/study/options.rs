//! How an experiment is run, apart from what it says itself.

use super::{folder::Destination, keeper::Interval};
use std::{path::Path, sync::atomic::AtomicBool};

/// How to run, apart from what the experiment says.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions<'a> {
    /// The run directory.
    pub out: Destination<'a>,
    /// Where the datasets lie.
    pub data: Option<&'a Path>,
    /// Keep each optimizer's trace.
    pub keep_trace: bool,
    /// Replace another run in the directory.
    pub overwrite: bool,
    /// Continue the run in the directory: finished optimizers are kept, another goes on from its last checkpoint.
    pub resume: bool,
    /// How often the state is written, to resume from.
    pub checkpoint: Interval,
    /// Bytes that the analysis may take for linearized rounds.
    pub memory: usize,
    /// Set from outside to stop after the current round.
    pub stop: &'a AtomicBool,
}
