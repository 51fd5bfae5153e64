//! The optimizers that experiments can name.

use super::{
    OptimizerError, adagrad, adagrad_full, adam, batch_rms, entry::Entry, explorer, momentum, ogd, rmsprop, rprop, sgd,
    sign_sgd,
};
use crate::text::suggestion;

/// What each file registers, in the order in which optimizers are listed.
const REGISTRY: &[&[Entry]] = &[
    sgd::ENTRIES,
    momentum::ENTRIES,
    rmsprop::ENTRIES,
    batch_rms::ENTRIES,
    sign_sgd::ENTRIES,
    rprop::ENTRIES,
    adagrad::ENTRIES,
    adagrad_full::ENTRIES,
    adam::ENTRIES,
    explorer::ENTRIES,
    ogd::ENTRIES,
];

/// All optimizers that can be named.
pub fn registry() -> impl Iterator<Item = &'static Entry> {
    REGISTRY.iter().copied().flatten()
}

/// The registry entry of a name.
pub fn find(name: &str) -> Result<&'static Entry, OptimizerError> {
    registry().find(|entry| entry.name == name).ok_or_else(|| {
        let names: Vec<&str> = registry().map(|entry| entry.name).collect();
        OptimizerError::Unknown { name: name.into(), suggestion: suggestion(name, &names) }
    })
}
