//! The exploration metrics of a whole run, scaled so that networks and probe sets of other sizes compare.

use super::ExploreRow;
use crate::activation::{Configurations, explore};

/// Means over configurations and neurons of the metrics of `docs/theory.md`, section 5.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metrics {
    /// Mean over configurations of the least Hamming distance to any earlier one, as a fraction of the bits.
    pub novelty: f64,
    /// Fraction of (neuron, datapoint) pairs that switch from one configuration to the next.
    pub switches: f64,
    /// Mean over neurons of the log-volume.
    pub log_volume: f64,
    /// Mean over neurons of `1/2 log det(I + Gram)`.
    pub log_det: f64,
}

impl Metrics {
    pub fn of(configurations: &Configurations) -> Metrics {
        let (novelty, neurons) = explore(configurations);
        let bits = configurations.len_bits().max(1) as f64;
        let steps = configurations.rounds.len().saturating_sub(1).max(1) as f64;
        let count = neurons.len().max(1) as f64;
        let minima = novelty.iter().filter_map(|row| row.min_hamming);
        Metrics {
            novelty: minima.map(|distance| distance as f64 / bits).sum::<f64>() / steps,
            switches: neurons.iter().map(|row| row.switches as f64).sum::<f64>() / (bits * steps),
            log_volume: neurons.iter().map(|row| row.log_volume).sum::<f64>() / count,
            log_det: neurons.iter().map(|row| row.log_det).sum::<f64>() / count,
        }
    }
}

/// A metric at a time scale, as tables, figures and claims name it.
#[derive(Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    /// `coarse` (every epoch) or `fine`.
    pub scale: &'static str,
    /// What its values are.
    pub unit: &'static str,
    pub of: fn(&ExploreRow) -> Option<f64>,
}

macro_rules! metric {
    ($name:literal, $scale:literal, $unit:literal, $field:ident) => {
        Metric { name: $name, scale: $scale, unit: $unit, of: |row| row.$field }
    };
}

/// All metrics, coarse ones first.
pub const METRICS: [Metric; 8] = [
    metric!("novelty", "coarse", "fraction of bits", novelty_coarse),
    metric!("switches", "coarse", "fraction of bits", switches_coarse),
    metric!("log-volume", "coarse", "mean per neuron", log_volume_coarse),
    metric!("log-det", "coarse", "mean per neuron", log_det_coarse),
    metric!("novelty", "fine", "fraction of bits", novelty_fine),
    metric!("switches", "fine", "fraction of bits", switches_fine),
    metric!("log-volume", "fine", "mean per neuron", log_volume_fine),
    metric!("log-det", "fine", "mean per neuron", log_det_fine),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{activation::Neuron, kernels::bits::pack};

    #[test]
    fn metrics_are_means_per_bit_and_neuron() {
        // Two neurons on four datapoints in three configurations; the second never changes.
        let rows = [[[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]], [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]];
        let packed = |neuron: &[[u8; 4]; 3]| neuron.iter().flat_map(|row| pack(4, |i| row[i] == 1)).collect();
        let configurations = Configurations {
            rounds: vec![0, 5, 10],
            datapoints: 4,
            neurons: [0, 1].map(|neuron| Neuron { layer: 0, neuron, positions: 1 }).to_vec(),
            bits: rows.iter().map(packed).collect(),
        };
        let metrics = Metrics::of(&configurations);
        // The second configuration differs from the first in one of eight bits, the third from the first in none.
        assert_eq!(metrics.novelty, (1.0 / 8.0 + 0.0) / 2.0);
        assert_eq!(metrics.switches, 2.0 / (8.0 * 2.0));
        let (_, neurons) = explore(&configurations);
        assert_eq!(metrics.log_det, (neurons[0].log_det + neurons[1].log_det) / 2.0);
    }
}
