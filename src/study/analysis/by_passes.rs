//! Searches of any network: passes linearize rounds whenever they are needed.

use super::search::{Search, Solver};
use crate::{
    num::Real,
    study::tables::Scale,
    taylor::{
        UnitResult,
        graph::{matrix_free::MatrixFree, sample::Sample},
        tracker::UnitRecord,
        unit::UnitId,
        work::{Halted, Work},
    },
};

/// Searches all scales that are asked for, with `memory` bytes.
pub(super) fn solve<T: Real>(sample: Sample<T>, memory: usize, search: &mut Search) -> Result<(), Halted> {
    let stop = search.work.stop();
    let (lengths, settings) = (search.lengths, search.settings);
    let solver = search.clock.time("linearization", || MatrixFree::until(sample, lengths, settings, memory, stop));
    let solver = solver.ok_or(Halted)?;
    search.announce(&solver);
    [Scale::Neuron, Scale::Layer, Scale::Network].into_iter().try_for_each(|scale| search.scale(scale, &solver))
}

impl<T: Real> Solver for MatrixFree<'_, T> {
    fn work(&self, scale: Scale) -> usize {
        self.work_of(scale)
    }

    fn seconds_per_product(&self) -> f64 {
        self.seconds_per_product()
    }

    fn solve(
        &self,
        scale: Scale,
        record: &dyn Fn(UnitId, usize) -> UnitRecord,
        work: &mut Work,
        results: &mut Vec<UnitResult>,
    ) -> Result<(), Halted> {
        results.extend(match scale {
            Scale::Neuron => self.neurons(record, work)?,
            Scale::Layer => self.layers(record, work)?,
            Scale::Network => self.network(record, work)?,
        });
        Ok(())
    }
}
