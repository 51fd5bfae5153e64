//! The exploration metrics of a whole run, scaled so that networks and probe sets of other sizes compare.

use super::rows::ExploreRow;
use crate::{
    activation::{Configurations, explore},
    study::statistics::mean,
};

/// Means over configurations and neurons of the metrics of `docs/theory.md`, section 5.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metrics {
    /// Mean over configurations of the least Hamming distance to any earlier one, as a fraction of the bits.
    pub novelty: f64,
    /// The distance of the first step, from the initial weights; `None` without a step.
    pub first_novelty: Option<f64>,
    /// The mean without the first step, which leaves the initialization and is by far the largest; `None` with fewer
    /// than two.
    pub later_novelty: Option<f64>,
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
        let minima: Vec<f64> =
            novelty.iter().filter_map(|row| row.min_hamming).map(|distance| distance as f64 / bits).collect();
        Metrics {
            novelty: minima.iter().sum::<f64>() / steps,
            first_novelty: minima.first().copied(),
            later_novelty: mean(minima.iter().skip(1).copied()),
            switches: neurons.iter().map(|row| row.switches as f64).sum::<f64>() / (bits * steps),
            log_volume: neurons.iter().map(|row| row.log_volume).sum::<f64>() / count,
            log_det: neurons.iter().map(|row| row.log_det).sum::<f64>() / count,
        }
    }
}

/// What the numbers of a column are.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    /// `every epoch` or `fine`, or empty.
    pub scale: &'static str,
    pub unit: &'static str,
    /// Numbers are shown as multiples of this unit.
    pub factor: f64,
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

impl Metric {
    /// With its time scale: `fine novelty`, and `novelty by epochs` at the coarse one.
    pub fn full_name(&self) -> String {
        match self.scale {
            "coarse" => format!("{} by epochs", self.name),
            scale => format!("{scale} {}", self.name),
        }
    }

    /// Its column in a table of differences.
    pub(super) fn column(&self) -> Column {
        match self.unit {
            FRACTION => Column { unit: "% of bits", factor: 0.01, ..self.plain_column() },
            unit => Column { unit, ..self.plain_column() },
        }
    }

    /// Its column in a table of numbers without a unit.
    pub(super) fn plain_column(&self) -> Column {
        let scale = if self.scale == "coarse" { "every epoch" } else { "fine" };
        Column { name: self.name.to_owned(), scale, unit: "", factor: 1.0 }
    }
}

const FRACTION: &str = "fraction of bits";

macro_rules! metric {
    ($name:literal, $scale:literal, $unit:expr, $field:ident) => {
        Metric { name: $name, scale: $scale, unit: $unit, of: |row| row.$field }
    };
}

/// All metrics, coarse ones first.
pub const METRICS: [Metric; 8] = [
    metric!("novelty", "coarse", FRACTION, later_novelty_coarse),
    metric!("switches", "coarse", FRACTION, switches_coarse),
    metric!("log-volume", "coarse", "per neuron", log_volume_coarse),
    metric!("log-det", "coarse", "per neuron", log_det_coarse),
    metric!("novelty", "fine", FRACTION, later_novelty_fine),
    metric!("switches", "fine", FRACTION, switches_fine),
    metric!("log-volume", "fine", "per neuron", log_volume_fine),
    metric!("log-det", "fine", "per neuron", log_det_fine),
];

/// How far the first step at the fine time scale led.
pub const FINE_FIRST: fn(&ExploreRow) -> Option<f64> = |row| row.first_novelty_fine;

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
            neurons: [0, 1].map(|neuron| Neuron { layer: 0, neuron, positions: 1, rests: true }).to_vec(),
            bits: rows.iter().map(packed).collect(),
        };
        let metrics = Metrics::of(&configurations);
        // The second configuration differs from the first in one of eight bits, the third from the first in none.
        assert_eq!(metrics.novelty, (1.0 / 8.0 + 0.0) / 2.0);
        assert_eq!((metrics.first_novelty, metrics.later_novelty), (Some(1.0 / 8.0), Some(0.0)));
        assert_eq!(metrics.switches, 2.0 / (8.0 * 2.0));
        let (_, neurons) = explore(&configurations);
        assert_eq!(metrics.log_det, (neurons[0].log_det + neurons[1].log_det) / 2.0);
    }
}
