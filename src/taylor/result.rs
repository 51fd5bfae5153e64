//! A unit's optimum for one comparator and prefix, and the bounds on its regret (`docs/theory.md`, section 3).

use super::{
    certificate::{Optimum, StopReason, of_a_loss},
    tracker::UnitRecord,
    unit::{Comparator, UnitId},
};
use crate::checkpoint::{Record, Store, StoreError};

/// A unit's optimum for one comparator and prefix, with what the bounds need.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitResult {
    pub unit: UnitId,
    pub comparator: Comparator,
    pub dimension: usize,
    pub record: UnitRecord,
    pub taylor_optimum: f64,
    /// The true optimum lies in `[taylor_optimum - gap, taylor_optimum]`.
    pub gap: f64,
    pub attained: bool,
    pub iterations: usize,
    pub distance: f64,
    /// Radius of the ball around `W^1` that the gap speaks of.
    pub radius: f64,
    /// Mean Taylor loss at `W^1`.
    pub start: f64,
    /// Why the search ended.
    pub stop: StopReason,
}

impl UnitResult {
    /// What a solver found, as it is: see [`UnitResult::use_sign`].
    pub fn new(unit: UnitId, comparator: Comparator, dimension: usize, record: UnitRecord, optimum: &Optimum) -> Self {
        Self {
            unit,
            comparator,
            dimension,
            record,
            taylor_optimum: optimum.value,
            gap: optimum.gap,
            attained: optimum.attained,
            iterations: optimum.iterations,
            distance: optimum.distance,
            radius: optimum.radius,
            start: optimum.start,
            stop: optimum.stop,
        }
    }

    /// A result that stands where one is to be read.
    pub(crate) fn blank() -> Self {
        Self {
            unit: UnitId::NETWORK,
            comparator: Comparator::Ball,
            dimension: 0,
            record: UnitRecord::default(),
            taylor_optimum: 0.0,
            gap: 0.0,
            attained: false,
            iterations: 0,
            distance: 0.0,
            radius: 0.0,
            start: 0.0,
            stop: StopReason::Converged,
        }
    }

    /// Makes use of losses not being negative: the value and the gap as they are reported.
    pub fn use_sign(&mut self) {
        (self.taylor_optimum, self.gap) = of_a_loss(self.taylor_optimum, self.gap, self.record.mean_loss);
    }

    /// The certified lower bound on the true optimum over the ball of [`radius`](Self::radius).
    pub fn lower(&self) -> f64 {
        self.taylor_optimum - self.gap
    }

    pub fn mean_regret(&self) -> f64 {
        self.record.mean_loss - self.taylor_optimum
    }

    /// `(3/2) G D / sqrt N` with `D` the diameter of the ball of comparators (Zinkevich 2003).
    pub fn bound_zinkevich(&self, ball_factor: f64) -> f64 {
        let diameter = 2.0 * ball_factor * self.record.displacement;
        1.5 * self.record.gradient_bound * diameter / (self.record.rounds as f64).sqrt()
    }

    /// `(|W^1 - V|^2 / (2 eta) + (eta / 2) sum_n |g_n|^2) / N`, which plain SGD with constant step `eta` satisfies for any `V`.
    pub fn bound_sgd(&self, eta: f64) -> f64 {
        let start = self.distance * self.distance / (2.0 * eta);
        (start + 0.5 * eta * self.record.gradient_squares) / self.record.rounds as f64
    }

    /// `(max_n |W^n - V|_inf^2 / (2 eta) + eta) sum_j |g_{1:N,j}| / N`, which diagonal AdaGrad with constant step `eta` satisfies
    /// for any `V` (Duchi, Hazan and Singer 2011, theorem 5). `|W^n - V|_inf` is bounded by way of `W^1`.
    pub fn bound_adagrad(&self, eta: f64) -> f64 {
        let farthest = self.record.largest_displacement + self.distance;
        let factor = farthest * farthest / (2.0 * eta) + eta;
        factor * self.record.coordinate_norms / self.record.rounds as f64
    }
}

impl Record for UnitResult {
    fn persist(results: &mut [Self], store: &mut Store) -> Result<(), StoreError> {
        store.column("scale", results, |result| &mut result.unit.scale)?;
        store.column("layer", results, |result| &mut result.unit.layer)?;
        store.column("neuron", results, |result| &mut result.unit.neuron)?;
        store.column("comparator", results, |result| &mut result.comparator)?;
        store.column("dimension", results, |result| &mut result.dimension)?;
        let mut records: Vec<UnitRecord> = results.iter().map(|result| result.record).collect();
        store.records("record", &mut records)?;
        results.iter_mut().zip(records).for_each(|(result, record)| result.record = record);
        store.column("taylor_optimum", results, |result| &mut result.taylor_optimum)?;
        store.column("gap", results, |result| &mut result.gap)?;
        store.column("attained", results, |result| &mut result.attained)?;
        store.column("iterations", results, |result| &mut result.iterations)?;
        store.column("distance", results, |result| &mut result.distance)?;
        store.column("radius", results, |result| &mut result.radius)?;
        store.column("start", results, |result| &mut result.start)?;
        store.column("stop", results, |result| &mut result.stop)
    }
}

/// The results of a unit with `dimension` weights from the optima of its prefixes.
pub(super) fn unit_results(
    unit: UnitId,
    dimension: usize,
    found: Vec<(Comparator, usize, Optimum)>,
    record: &dyn Fn(usize) -> UnitRecord,
) -> Vec<UnitResult> {
    let result = |(comparator, rounds, optimum): (Comparator, usize, Optimum)| {
        UnitResult::new(unit, comparator, dimension, record(rounds), &optimum)
    };
    found.into_iter().map(result).collect()
}
