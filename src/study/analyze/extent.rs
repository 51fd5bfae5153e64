//! What the rounds of a trace are of the whole training: all of them, or a sample.
//!
//! The engine analyses the rounds that are there as if they were all, numbered from 1. What users set and read is in rounds of the training.

use crate::{
    network::LayerSpec,
    num::Real,
    study::experiment::RegretSection,
    taylor::RegretSettings,
    trace::{Trace, recorded::Course},
};

/// The rounds of a trace.
#[derive(Clone, Debug)]
pub(super) struct TraceExtent {
    /// The round that each state is before.
    numbers: Vec<usize>,
    /// How many rounds there are; there is one more state if the final one is there.
    kept: usize,
    is_sample: bool,
    /// Rounds of an epoch of the training.
    pub per_epoch: usize,
    /// What a recorded trace says of all rounds.
    pub course: Option<Course>,
}

impl TraceExtent {
    /// Of a trace whose inputs have so many features.
    pub fn of<T: Real>(trace: &Trace<T>, features: usize) -> Self {
        let kept = trace.manifest.rounds;
        let last = trace.number(kept - 1);
        let per_epoch = match &trace.course {
            Some(course) => course.per_epoch.unwrap_or(last).clamp(1, last),
            None => (trace.inputs.len() / features / trace.manifest.batch_size).clamp(1, kept),
        };
        Self {
            numbers: trace.numbers.clone(),
            kept,
            is_sample: trace.is_sample(),
            per_epoch,
            course: trace.course.clone(),
        }
    }

    /// Whether the trace was recorded as training went, in format 2.
    pub fn is_recorded(&self) -> bool {
        self.course.is_some()
    }

    /// The last round of the training that is here.
    pub fn last(&self) -> usize {
        self.numbers[self.kept - 1]
    }

    /// The number of the round that is the `n`-th here; 0 before the first.
    pub fn number(&self, n: usize) -> usize {
        n.checked_sub(1).map_or(0, |index| self.numbers[index])
    }

    /// How many of the rounds are here, if not all.
    pub fn sampled(&self) -> Option<usize> {
        self.is_sample.then_some(self.kept)
    }

    /// The numbers of rounds and of what follows them, if rounds are missing.
    pub fn numbers(&self) -> Option<&[usize]> {
        self.is_sample.then_some(&self.numbers)
    }

    /// The settings for the rounds that are here: of a window those within it.
    pub fn settings(&self, regret: &RegretSection, layers: &[LayerSpec]) -> RegretSettings {
        let mut settings = regret.settings(self.per_epoch, layers);
        if self.is_sample {
            let window = settings.window;
            settings.window = self.numbers[..self.kept].partition_point(|number| *number <= window).max(1);
        }
        settings
    }

    /// Rounds between recorded activation configurations, of those that are here, for so many of the training.
    pub fn every(&self, rounds: usize) -> usize {
        let spacing = (self.last() / self.kept).max(1);
        if self.is_sample { (rounds / spacing).clamp(1, self.kept) } else { rounds.min(self.kept) }
    }

    /// Numbers and losses of all rounds, from those that were recomputed.
    pub fn all_losses(&self, recomputed: &[f64]) -> Vec<(usize, f64)> {
        let own = self.numbers.iter().copied().zip(recomputed.iter().copied());
        let Some(course) = &self.course else { return own.collect() };
        let upto = self.number(recomputed.len());
        let mut own = own.peekable();
        let recorded = course.losses.iter().filter(|(number, _)| *number <= upto || recomputed.len() == self.kept);
        recorded
            .map(|(number, loss)| match own.next_if(|(own, _)| own == number) {
                Some(own) => own,
                None => (*number, *loss),
            })
            .collect()
    }
}
