//! Taylor optima at layer scale, each layer by the [`LayerStrategy`] that suits it (`docs/theory.md`, section 4).

use super::{
    direct,
    objective::{Windows, iterative_optima},
    output,
};
use crate::{
    loss::Loss,
    network::Network,
    taylor::{
        prefixes,
        result::{UnitResult, unit_results},
        settings::{ClosedForm, RegretSettings},
        strategy::LayerStrategy,
        tracker::UnitRecord,
        unit::UnitId,
        work::{Halted, Work},
    },
};

/// What [`optima`] tells `Work::tick` of.
pub fn work(network: &Network, loss: Loss, prefixes: &[usize], settings: &RegretSettings) -> usize {
    let comparators = settings.comparators.of(ClosedForm::No).len();
    (0..network.blocks().len())
        .map(|l| match LayerStrategy::of(network, loss, l).closed_form() {
            ClosedForm::Yes => prefixes.iter().sum(),
            ClosedForm::No => prefixes::work(prefixes, settings.max_products, comparators),
        })
        .sum()
}

/// Optima of every layer for the given prefixes, each layer a piece of `work`.
pub fn optima(
    windows: &Windows,
    prefixes: &[usize],
    settings: &RegretSettings,
    record: &dyn Fn(UnitId, usize) -> UnitRecord,
    work: &mut Work,
) -> Result<Vec<UnitResult>, Halted> {
    let mut results = Vec::new();
    let (network, loss, tick) = (windows.exact.network(), windows.exact.loss(), work.tick());
    for (l, block) in network.blocks().iter().enumerate() {
        let unit = UnitId::layer(block.layer);
        let record = &|n| record(unit, n);
        let search = || {
            let closed = match LayerStrategy::of(network, loss, l) {
                LayerStrategy::OutputLayer => output::optima(windows.exact, prefixes, settings, record, tick),
                LayerStrategy::DenseQuadratic => {
                    Some(direct::optima(windows.exact, l, prefixes, settings, record, tick))
                }
                LayerStrategy::Subspace => None,
            };
            // Also where the eigenvectors of the output layer could not be computed.
            let found = closed.unwrap_or_else(|| iterative_optima(windows, l..l + 1, prefixes, settings, record, tick));
            unit_results(unit, block.range().len(), found, record)
        };
        results.extend(work.piece(format!("layer {}", block.layer), search)?);
    }
    Ok(results)
}
