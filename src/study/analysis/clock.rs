//! What takes how long.

use std::{collections::BTreeMap, time::Instant};

/// Seconds spent per phase.
#[derive(Clone, Debug, Default)]
pub struct Clock(BTreeMap<&'static str, f64>);

impl Clock {
    /// Runs `work` and books its time under `phase`.
    pub fn time<R>(&mut self, phase: &'static str, work: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = work();
        *self.0.entry(phase).or_default() += start.elapsed().as_secs_f64();
        result
    }

    /// Seconds of a phase so far.
    pub fn of(&self, phase: &str) -> f64 {
        self.0.get(phase).copied().unwrap_or_default()
    }

    /// Sets the seconds of a phase to those of an earlier process.
    pub fn set(&mut self, phase: &'static str, seconds: f64) {
        self.0.insert(phase, seconds);
    }

    pub fn phases(&self) -> &BTreeMap<&'static str, f64> {
        &self.0
    }

    /// All phases together.
    pub fn total(&self) -> f64 {
        self.0.values().sum()
    }
}
