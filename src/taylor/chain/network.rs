//! Taylor optima at network scale.
//!
//! The same problem as a layer's over all blocks at once: one forward-mode and one backward pass over the rounds per product
//! with the curvature, with the weights `W^n` of each round (`docs/theory.md`, section 4), and the layers' Kronecker factors as
//! block-diagonal preconditioner.

use super::objective::{Windows, iterative_optima};
use crate::taylor::{
    result::{UnitResult, unit_results},
    settings::RegretSettings,
    tracker::UnitRecord,
    unit::UnitId,
    work::{Halted, Work},
};

/// Optima of the network for the given prefixes, a single piece of `work`.
pub fn optima(
    windows: &Windows,
    prefixes: &[usize],
    settings: &RegretSettings,
    record: &dyn Fn(UnitId, usize) -> UnitRecord,
    work: &mut Work,
) -> Result<Vec<UnitResult>, Halted> {
    let network = windows.exact.network();
    let unit = UnitId::NETWORK;
    let (record, tick) = (&|n| record(unit, n), work.tick());
    work.piece("network", || {
        let found = iterative_optima(windows, 0..network.blocks().len(), prefixes, settings, record, tick);
        unit_results(unit, network.parameters(), found, record)
    })
}
