//! What the optimizers of a run share.

use super::{
    budget,
    continued::Before,
    inputs::Inputs,
    options::RunOptions,
    plan::{Extent, Plan},
    task::Task,
};
use crate::{data::Minibatches, taylor::RegretSettings};
use std::path::Path;

/// Inputs and labels that a kept trace carries along, up to this many bytes.
pub(super) const EMBEDDED_DATA_BYTES: usize = 64 << 20;

/// A task with the folder that its results go to.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub task: &'a Task<'a>,
    /// Checksums of what the experiment reads.
    pub inputs: &'a Inputs,
    pub minibatches: Minibatches,
    pub options: &'a RunOptions<'a>,
    /// The run directory.
    pub out: &'a Path,
    /// The run that this one is to take the place of.
    pub before: Option<&'a Before>,
}

impl Context<'_> {
    pub fn per_epoch(&self) -> usize {
        self.minibatches.rounds_per_epoch()
    }

    pub fn planned_rounds(&self) -> usize {
        self.per_epoch() * self.task.experiment.training.epochs
    }

    /// What is asked of the regret, with the window in rounds.
    pub fn regret(&self) -> RegretSettings {
        self.task.experiment.regret.settings(self.per_epoch(), self.task.network.layers())
    }

    /// What the analysis of an optimizer keeps in memory while training goes on.
    pub fn observed_bytes(&self) -> usize {
        let Task { experiment, network, .. } = self.task;
        let (regret, weight) = (self.regret(), experiment.training.precision.bytes());
        Plan::new(network, experiment.training.loss, &regret).observed_bytes(self.planned_rounds(), weight)
    }

    /// The least that the analysis of an optimizer takes.
    pub fn needed_bytes(&self) -> usize {
        let Task { experiment, network, .. } = self.task;
        let (regret, training) = (self.regret(), &experiment.training);
        let planned = Extent::uniform(self.planned_rounds(), training.batch_size);
        Plan::new(network, training.loss, &regret).needed_bytes(planned, training.precision.bytes())
    }

    /// Whether a kept trace carries the data along.
    pub fn embeds_data(&self) -> bool {
        self.data_bytes() <= EMBEDDED_DATA_BYTES
    }

    fn data_bytes(&self) -> usize {
        self.task.dataset.train.inputs.len() * size_of::<f32>()
    }

    /// What is still to be written of an optimizer's trace.
    pub fn missing_trace_bytes(&self, label: &str) -> usize {
        let Task { experiment, network, .. } = self.task;
        let data = if self.embeds_data() { self.data_bytes() } else { 0 };
        let states = (self.planned_rounds() + 1).saturating_mul(network.parameters());
        let whole = states.saturating_mul(experiment.training.precision.bytes()).saturating_add(data);
        let folder = self.out.join(label).join("trace");
        whole.saturating_sub(if self.options.resume { budget::folder_bytes(&folder) } else { 0 })
    }
}
