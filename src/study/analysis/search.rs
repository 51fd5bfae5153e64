//! The search for optima after the rounds, scale by scale.

use super::{Clock, Stage};
use crate::{
    study::{plan::Plan, tables::Scale},
    taylor::{
        RegretSettings, UnitResult,
        tracker::UnitRecord,
        unit::UnitId,
        work::{Halted, Work},
    },
};

/// A search with longer work is announced.
const LONG_SECONDS: f64 = 10.0;

/// What a search is asked for, and where it puts what it finds.
pub(super) struct Search<'a, 'w> {
    pub plan: Plan<'a>,
    pub settings: &'a RegretSettings,
    /// Prefixes, in analysed rounds.
    pub lengths: &'a [usize],
    /// What a prefix says about a unit.
    pub record: &'a dyn Fn(UnitId, usize) -> UnitRecord,
    pub results: &'a mut Vec<UnitResult>,
    pub clock: &'a mut Clock,
    pub work: &'a mut Work<'w>,
    pub progress: &'a mut dyn FnMut(Stage),
}

/// What finds the optima of a scale: adds them to the results, as far as work goes.
pub(super) trait Solver {
    /// What it tells [`Work::tick`] of at a scale, in rounds that products go through.
    fn work(&self, scale: Scale) -> usize;

    /// Seconds that a product with the curvature of all rounds takes.
    fn seconds_per_product(&self) -> f64;

    fn solve(
        &self,
        scale: Scale,
        record: &dyn Fn(UnitId, usize) -> UnitRecord,
        work: &mut Work,
        results: &mut Vec<UnitResult>,
    ) -> Result<(), Halted>;
}

impl Search<'_, '_> {
    /// Tells the user something.
    pub fn note(&mut self, text: &str) {
        (self.progress)(Stage::Note(text));
    }

    /// Lets `solver` find the optima of a scale, if they are asked for.
    pub fn scale(&mut self, scale: Scale, solver: &dyn Solver) -> Result<(), Halted> {
        if !self.plan.searches(scale) {
            return Ok(());
        }
        (self.progress)(Stage::Phase { name: name(scale), work: solver.work(scale) });
        let phase = match scale {
            Scale::Neuron => "neuron_optima",
            Scale::Layer => "layer_optima",
            Scale::Network => "network_optima",
        };
        let Self { clock, record, work, results, .. } = self;
        clock.time(phase, || solver.solve(scale, record, work, results))
    }

    /// Tells beforehand how long layers and the network may take, if that is long, and which setting costs most.
    pub fn announce(&mut self, solver: &dyn Solver) {
        let scales = [Scale::Layer, Scale::Network].into_iter().filter(|scale| self.plan.searches(*scale));
        let searches: Vec<(&str, usize)> = scales.map(|scale| (name(scale), solver.work(scale))).collect();
        if searches.is_empty() {
            return;
        }
        let rounds = self.lengths.last().copied().unwrap_or(1).max(1) as f64;
        let seconds = solver.seconds_per_product();
        let of = |work: usize| work as f64 / rounds * seconds;
        let total: f64 = searches.iter().map(|(_, work)| of(*work)).sum();
        if total < LONG_SECONDS {
            return;
        }
        let parts: Vec<String> =
            searches.iter().map(|(name, work)| format!("{name} {}", duration(of(*work)))).collect();
        self.note(&format!(
            "the search for optima may take up to about {} ({}); regret.max_products costs most, then the number of analysed rounds \
             (regret.window, regret.rounds)",
            duration(total),
            parts.join(", ")
        ));
    }
}

/// A scale as phases and announcements name it.
fn name(scale: Scale) -> &'static str {
    match scale {
        Scale::Neuron => "neuron scale",
        Scale::Layer => "layer scale",
        Scale::Network => "network scale",
    }
}

/// Seconds in words, roughly.
fn duration(seconds: f64) -> String {
    match seconds {
        ..100.0 => format!("{:.0} s", seconds.max(1.0)),
        ..6000.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}
