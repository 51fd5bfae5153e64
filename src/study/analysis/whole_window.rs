//! Searches of dense chains whose rounds fit in memory, all linearized at once.

use super::search::{Search, Solver};
use crate::{
    data::RoundRows,
    loss::{Loss, Targets},
    network::Network,
    num::{Real, convert, pieces::CHUNK},
    study::tables::Scale,
    taylor::{
        ClosedForm, RegretSettings, UnitResult,
        chain::{
            layer::{self},
            network, neuron,
            objective::Windows,
            preconditioners::Preconditioners,
            window::Window,
        },
        prefixes,
        tracker::UnitRecord,
        unit::UnitId,
        work::{Halted, Work},
    },
    train::Examples,
};
use rayon::prelude::*;
use std::borrow::Cow;

/// The data and the weights of the rounds, in `f64`.
pub(super) struct Wide<'a> {
    inputs: Vec<f64>,
    /// Empty where the targets are labels or the inputs.
    values: Vec<f64>,
    labels: Option<&'a [u32]>,
    features: usize,
    target_width: usize,
    /// Before each round.
    states: Vec<Vec<f64>>,
}

impl<'a> Wide<'a> {
    pub fn new<T: Real>(examples: &Examples<'a, T>, states: Vec<Vec<T>>) -> Self {
        let wide = |values: &[T]| -> Vec<f64> { values.par_iter().with_min_len(CHUNK).map(|v| v.to_f64()).collect() };
        let (values, labels) = match examples.targets {
            Targets::Values(_) if examples.targets_are_inputs() => (Vec::new(), None),
            Targets::Values(values) => (wide(values), None),
            Targets::Labels(labels) => (Vec::new(), Some(labels)),
        };
        Self {
            inputs: wide(examples.inputs),
            values,
            labels,
            features: examples.features,
            target_width: examples.target_width,
            states: states.par_iter().map(|state| convert(state)).collect(),
        }
    }

    fn examples(&self) -> Examples<'_, f64> {
        let values = if self.values.is_empty() { &self.inputs } else { &self.values };
        Examples {
            inputs: &self.inputs,
            features: self.features,
            targets: self.labels.map_or(Targets::Values(values), Targets::Labels),
            target_width: self.target_width,
        }
    }
}

/// Searches all scales that are asked for. `rows` are the minibatches of the rounds.
pub(super) fn solve(
    network: &Network,
    loss: Loss,
    mut wide: Wide,
    rows: &RoundRows,
    search: &mut Search,
) -> Result<(), Halted> {
    let states = Cow::Owned(std::mem::take(&mut wide.states));
    let (lengths, settings) = (search.lengths, search.settings);
    let window = || Window::new(network, loss, wide.examples(), states, rows);
    let mut exact = search.clock.time("linearization", window);
    search.work.go_on()?;
    search.scale(Scale::Neuron, &Neurons { exact: &exact, lengths, settings })?;
    if !search.plan.searches(Scale::Layer) && !search.plan.searches(Scale::Network) {
        return Ok(());
    }
    // The search at network scale eliminates the output block.
    let schur = search.plan.searches(Scale::Network);
    if schur {
        search.clock.time("linearization", || exact.find_low_rank());
        search.work.go_on()?;
    }
    let (fast, stop) = (search.clock.time("linearization", || exact.to_f32()), search.work.stop());
    let estimate = || Preconditioners::until(&exact, lengths, schur, stop);
    let preconditioners = search.clock.time("linearization", estimate).ok_or(Halted)?;
    let windows = Windows { exact: &exact, fast: &fast, preconditioners: &preconditioners, stop };
    let larger = LayersAndNetwork { windows, lengths, settings };
    search.announce(&larger);
    search.scale(Scale::Layer, &larger)?;
    search.scale(Scale::Network, &larger)
}

/// The neurons of losses that have no closed form.
struct Neurons<'a> {
    exact: &'a Window<'a, f64>,
    lengths: &'a [usize],
    settings: &'a RegretSettings,
}

impl Solver for Neurons<'_> {
    fn work(&self, _: Scale) -> usize {
        neuron::work(self.exact.network(), self.lengths, self.settings)
    }

    /// They take no products.
    fn seconds_per_product(&self) -> f64 {
        0.0
    }

    fn solve(
        &self,
        _: Scale,
        record: &dyn Fn(UnitId, usize) -> UnitRecord,
        work: &mut Work,
        results: &mut Vec<UnitResult>,
    ) -> Result<(), Halted> {
        for n in self.lengths {
            results.extend(neuron::optima(self.exact, *n, self.settings, &|unit| record(unit, *n), work)?);
        }
        Ok(())
    }
}

/// Whole layers, and all of them together.
struct LayersAndNetwork<'a> {
    windows: Windows<'a>,
    lengths: &'a [usize],
    settings: &'a RegretSettings,
}

impl Solver for LayersAndNetwork<'_> {
    fn work(&self, scale: Scale) -> usize {
        let (exact, settings) = (self.windows.exact, self.settings);
        if scale == Scale::Layer {
            return layer::work(exact.network(), exact.loss(), self.lengths, settings);
        }
        let comparators = settings.comparators.of(ClosedForm::No).len();
        prefixes::work(self.lengths, settings.max_products, comparators)
    }

    fn seconds_per_product(&self) -> f64 {
        self.windows.seconds_per_product()
    }

    fn solve(
        &self,
        scale: Scale,
        record: &dyn Fn(UnitId, usize) -> UnitRecord,
        work: &mut Work,
        results: &mut Vec<UnitResult>,
    ) -> Result<(), Halted> {
        let search = if scale == Scale::Layer { layer::optima } else { network::optima };
        results.extend(search(&self.windows, self.lengths, self.settings, record, work)?);
        Ok(())
    }
}
