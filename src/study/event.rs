//! What a run or an analysis tells its caller as it goes.

use super::tables::OptimizerSummary;

/// What a run tells its caller as it goes.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// An optimizer begins; `rounds` are planned.
    Started {
        label: &'a str,
        /// Which one of how many, from 1.
        index: usize,
        count: usize,
        /// `None` where a trace does not tell it.
        learning_rate: Option<f64>,
        rounds: usize,
    },
    /// The optimizer resumes after this many rounds, from its last checkpoint.
    Resumed {
        label: &'a str,
        rounds: usize,
    },
    /// An optimizer's result was kept from an earlier run.
    Kept {
        label: &'a str,
    },
    Round {
        number: usize,
        loss: f64,
    },
    Epoch {
        epoch: usize,
        train_loss: f64,
        test_loss: f64,
    },
    /// An analysis begins after training.
    Phase {
        name: &'a str,
    },
    /// So much of the work of the current phase is done, in units that take about equally long.
    Progress {
        done: u64,
        of: u64,
    },
    /// What the user should know before a long analysis: about how long it takes, and which setting costs most.
    Note {
        text: &'a str,
    },
    Finished {
        summary: &'a OptimizerSummary,
    },
}
