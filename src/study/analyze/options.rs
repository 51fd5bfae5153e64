//! How traces are analysed.

use crate::study::{experiment::Sections, folder::Destination, keeper::Interval};
use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

/// How to analyse traces.
#[derive(Clone, Copy, Debug)]
pub struct AnalyzeOptions<'a> {
    /// Of one network, loss and dataset.
    pub traces: &'a [PathBuf],
    /// The name of the run.
    pub name: &'a str,
    pub out: Destination<'a>,
    /// Where datasets lie, for traces that name one.
    pub data: Option<&'a Path>,
    /// How many rounds of each trace to take at most, from the first.
    pub rounds: Option<usize>,
    /// Relative difference up to which recomputed losses agree with recorded ones.
    pub loss_tolerance: f64,
    pub sections: &'a Sections,
    /// Whether to analyse a sample of the rounds where the weights of all do not fit in memory.
    pub sample: bool,
    /// Replace another analysis in the folder.
    pub overwrite: bool,
    /// Continue the analysis in the folder: what is complete is kept, the rest goes on from its last checkpoint.
    pub resume: bool,
    /// How often the state is written, to resume from.
    pub checkpoint: Interval,
    /// Bytes that the analysis may take for linearized rounds.
    pub memory: usize,
    pub stop: &'a AtomicBool,
}
