//! What a run will take of memory and disk, found out before it begins.

use super::{environment::free_space, error::StudyError};
use crate::{
    loss::Loss,
    network::Network,
    study::tables::Scale,
    taylor::{RegretSettings, frame, room},
};
use std::path::Path;

/// What the analysis of a run keeps in memory while training goes on, in bytes: the weights of the window's rounds, and the sums of
/// the closed form at neuron scale. `size` is that of a weight.
pub fn observed_bytes(network: &Network, loss: Loss, settings: &RegretSettings, planned: usize, size: usize) -> usize {
    let streams = settings.streams(network, loss);
    let needs_window =
        settings.has(Scale::Layer) || settings.has(Scale::Network) || (settings.has(Scale::Neuron) && !streams);
    let rounds = if needs_window { settings.sampled(settings.window.min(planned)).len() } else { 0 };
    let last = network.output_index();
    let sums = network.blocks().iter().enumerate().map(|(l, block)| {
        // Half of each symmetric matrix; all neurons of the output layer share one.
        let planes = if l == last { 1 } else { settings.selected(block.units).len() };
        planes.next_multiple_of(8) * block.width() * block.width() * size_of::<f64>() / 2
    });
    let sums: usize = if streams { sums.sum() } else { 0 };
    rounds.saturating_mul(network.parameters() * size).saturating_add(sums)
}

/// What the linearization of so many rounds of a dense network takes in memory, in bytes: weights and activations in `f64` and in `f32`,
/// and for the mean squared error the products of the output layer's weights and inputs with themselves.
pub fn window_bytes(network: &Network, loss: Loss, rounds: usize, batch: usize) -> usize {
    let hidden: usize = network.hidden_blocks().iter().map(|block| block.features_out()).sum();
    let row = network.inputs() + 2 * hidden + network.outputs();
    let output = network.output_block();
    let squares = if loss.is_quadratic() { 2 * output.width() * output.width() + frame::numbers(output) } else { 0 };
    let values = network.parameters() + batch * row + squares;
    rounds.saturating_mul(values).saturating_mul(size_of::<f64>() + size_of::<f32>())
}

/// What the analysis of so many rounds of a dense network takes once they have gone by, in bytes, if all of them are linearized at once:
/// that, the data and the weights in `f64`, preconditioners, and the bases of searches.
pub fn whole_window_bytes(
    network: &Network,
    loss: Loss,
    settings: &RegretSettings,
    (rounds, batch): (usize, usize),
    inputs: usize,
) -> usize {
    let wide = (inputs + rounds * network.parameters()) * size_of::<f64>();
    let basis = room::basis_bytes(network, settings, room::whole_basis(settings.max_products));
    let search = room::least_search_bytes(network, settings, batch).saturating_add(basis);
    // Vectors that grow, and what is at work on a few rounds.
    let more = 4;
    let all = window_bytes(network, loss, rounds, batch).saturating_add(wide);
    all.saturating_add(all / more).saturating_add(search)
}

/// Buffers of so many bytes are the program's own, and no matter of `--memory`.
pub(super) const OWN: usize = 32 << 20;

/// The least that an analysis needs of `--memory`, in bytes: what it keeps while rounds go by ([`observed_bytes`]), and either what the
/// closed form at neuron scale works with meanwhile or what searches take afterwards.
pub fn needed_bytes(
    network: &Network,
    loss: Loss,
    settings: &RegretSettings,
    (planned, batch): (usize, usize),
    size: usize,
) -> usize {
    let observed = observed_bytes(network, loss, settings, planned, size);
    let stream = if size == size_of::<f64>() {
        room::least_stream_bytes::<f64>(network, loss, settings)
    } else {
        room::least_stream_bytes::<f32>(network, loss, settings)
    };
    let streams = settings.streams(network, loss);
    let searches =
        settings.has(Scale::Layer) || settings.has(Scale::Network) || (settings.has(Scale::Neuron) && !streams);
    let search = if searches { room::least_search_bytes(network, settings, batch) } else { 0 };
    observed.max(observed.saturating_add(stream.max(search)).saturating_sub(OWN))
}

/// Fails if what must be kept in memory is more than `allowed`.
pub(super) fn check_memory(needed: usize, allowed: usize) -> Result<(), StudyError> {
    if needed > allowed { Err(StudyError::Memory { needed: size(needed), allowed: size(allowed) }) } else { Ok(()) }
}

/// Fails if the disk that `folder` is on has no room for `needed` bytes, where the system tells.
pub(super) fn check_disk(folder: &Path, needed: usize) -> Result<(), StudyError> {
    // The folder itself need not be there yet.
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    match free_space(there) {
        Some(free) if free < needed as u64 => Err(StudyError::Disk {
            path: folder.to_owned(),
            needed: size(needed),
            free: size(usize::try_from(free).unwrap_or(usize::MAX)),
        }),
        _ => Ok(()),
    }
}

/// Bytes below a folder.
pub(super) fn folder_bytes(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len() as usize)).sum()
}

/// A number of bytes in words.
pub(super) fn size(bytes: usize) -> String {
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit < 4 {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    let digits = if unit == 0 || value >= 100.0 { 0 } else { 1 };
    format!("{value:.digits$} {}", ["bytes", "KB", "MB", "GB", "TB"][unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{LayerSpec, Rectifier};

    #[test]
    fn the_autoencoder_of_the_paper_takes_what_it_was_seen_to_take() {
        let dense = LayerSpec::dense;
        let relu = LayerSpec::Rectifier(Rectifier::Relu);
        let layers = [dense(50), relu, dense(30), relu, dense(20), relu, dense(30), relu, dense(50), relu, dense(784)];
        let network = Network::new(784, &layers).unwrap();
        let settings = RegretSettings { window: 937, ..RegretSettings::default() };
        let observed = observed_bytes(&network, Loss::Mse, &settings, 937, 4);
        // 937 states of 82,434 weights; 50 neurons with 785^2 / 2 sums each, and little ones.
        let expected = 937 * network.parameters() * 4 + 56 * 785 * 785 * 4;
        assert!(observed >= expected && observed < expected + (8 << 20), "{observed} {expected}");
        let window = window_bytes(&network, Loss::Mse, 937, 64);
        assert!((2usize << 30..3 << 30).contains(&window), "{window}");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_size() {
        let error = check_memory(3 << 30, 1 << 30).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("3.0 GB"), "{error}");
        assert!(check_memory(5, 5).is_ok());
        let folder = tempfile::tempdir().unwrap();
        assert!(check_disk(folder.path(), 1).is_ok());
        if free_space(folder.path()).is_some() {
            let error = check_disk(folder.path(), usize::MAX / 2).unwrap_err();
            assert!(!error.is_usage() && error.to_string().contains("TB"), "{error}");
        }
    }
}
