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

/// What stops a run that nobody stops.
static NEVER: AtomicBool = AtomicBool::new(false);

impl<'a> RunOptions<'a> {
    /// A run in a folder that has none yet: no trace, a checkpoint every few minutes, 1 GiB for the analysis, nobody who stops it.
    pub fn new(out: Destination<'a>) -> Self {
        Self {
            out,
            data: None,
            keep_trace: false,
            overwrite: false,
            resume: false,
            checkpoint: Interval::default(),
            memory: 1 << 30,
            stop: &NEVER,
        }
    }
}
