//! Hypothesis 1: descent with RMS-normalized updates explores more activation configurations than SGD.

use super::{Claim, Pair, Thresholds, Verdict, because, between, with_rate};
use crate::study::{
    enclosure::Enclosure,
    numbers::{count, number, percent},
    results::{OptimizerTables, mean, median},
};

/// One way of measuring exploration.
struct Metric {
    id: &'static str,
    text: &'static str,
    unit: &'static str,
    figure: &'static str,
    value: fn(&OptimizerTables) -> Option<f64>,
    /// Whether the run has the table that the metric is from.
    recorded: fn(&OptimizerTables) -> bool,
}

fn has_novelty(tables: &OptimizerTables) -> bool {
    tables.first_novelty().is_some()
}

fn has_neurons(tables: &OptimizerTables) -> bool {
    !tables.neurons.is_empty()
}

const METRICS: [Metric; 4] = [
    Metric {
        id: NOVELTY,
        text: "its activation configurations are farther from all earlier ones (novelty)",
        unit: "bits of least Hamming distance, mean over the recorded rounds after the first step",
        figure: "figure 5a",
        value: OptimizerTables::mean_novelty,
        recorded: has_novelty,
    },
    Metric {
        id: "switches",
        text: "its neurons switch state more often",
        unit: "switches, median over hidden neurons",
        figure: "figure 5b",
        value: |tables| median(tables.neurons.iter().map(|row| row.switches as f64)),
        recorded: has_neurons,
    },
    Metric {
        id: "log-volume",
        text: "its neurons cover a larger volume of configuration space",
        unit: "log-volume, median over hidden neurons",
        figure: "figure 5c",
        value: |tables| median(tables.neurons.iter().map(|row| row.log_volume)),
        recorded: has_neurons,
    },
    Metric {
        id: "log-det",
        text: "its neurons cover a larger volume, measured by ½ log det, which stays finite for dead neurons",
        unit: "½ log det(I + Gram), mean over hidden neurons",
        figure: "figure 5c, robust form",
        value: |tables| mean(tables.neurons.iter().map(|row| row.log_det)),
        recorded: has_neurons,
    },
];

const NOVELTY: &str = "novelty";

/// A claim for each metric that was recorded of both.
///
/// The rates of both decide much here: at other rates verdicts may turn. So they are for one run at most *seen*,
/// whether its rates were searched for or not, and the conditions say which.
pub fn explores_more(pair: &Pair, t: &Thresholds) -> Vec<Claim> {
    let recorded = |metric: &&Metric| (metric.recorded)(pair.sgd) && (metric.recorded)(pair.other);
    METRICS.iter().filter(recorded).map(|metric| explores_more_by(metric, pair, t)).collect()
}

fn explores_more_by(metric: &Metric, pair: &Pair, t: &Thresholds) -> Claim {
    let (name, other) = (pair.name(), &pair.other.summary.name);
    let finite = |tables| (metric.value)(tables).filter(|value| value.is_finite());
    let (mut measured, verdict) = match (finite(pair.sgd), finite(pair.other)) {
        (Some(few), Some(many)) => {
            // Relative to SGD; log-volumes may be negative, hence the absolute value.
            let more = if many == few { 0.0 } else { (many - few) / few.abs() };
            let (verdict, reason) = between(Enclosure::exact(more), t.clearly_more, 0.0, true);
            let measured = format!(
                "{} {}, {} {} ({}). Seen if more than {} above SGD, not seen if not above, undecided in between.{}",
                with_rate(pair.sgd),
                number(few),
                with_rate(pair.other),
                number(many),
                metric.unit,
                percent(t.clearly_more),
                because(reason),
            );
            (measured, verdict)
        }
        _ if metric.id == NOVELTY => {
            let reason = "Undecided: only one step was recorded, from the initial weights, which is left out.";
            (reason.to_owned(), Verdict::Undecided)
        }
        _ => ("Undecided: it is not finite.".to_owned(), Verdict::Undecided),
    };
    if let (NOVELTY, Some(sgd), Some(theirs)) = (metric.id, pair.sgd.first_novelty(), pair.other.first_novelty()) {
        let [sgd, theirs] = [sgd, theirs].map(|bits| count(bits.round() as u64));
        measured += &format!(" In the first step SGD left its initialization by {sgd} bits, {name} by {theirs}.");
    }
    measured += &format!(" Conditions: {}.", pair.conditions());
    Claim {
        id: format!("{other}-{}", metric.id),
        text: format!("{name} explores more than SGD: {}.", metric.text),
        measured,
        verdict,
        source: format!("section 4, hypothesis 1, {}", metric.figure),
    }
}
