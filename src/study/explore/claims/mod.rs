//! What the runs of the study say about hypothesis 1 of the paper, with 95% intervals over seeds.
//!
//! All comparisons are made *within* a seed, whose runs share weights and data order, and summarized over seeds: seeds
//! are independent of each other, runs of one seed are not. One rule gives every verdict: [`RULE`]. Rates are always
//! those of a search (of the study's own, or of a finished `tune`), and there are several seeds, so claims are
//! *supported* or not, and not merely seen; with fewer than [`LEAST_SEEDS`] seeds all are undecided.
//!
//! No claim rests on a Taylor optimum. Novelty is that after the first step, which leaves the initialization and is by
//! far the largest.
//!
//! - `judge`: the claims one by one; `verdict`: the rule; `findings`: claims as tables

mod findings;
mod judge;
#[cfg(test)]
mod tests;
mod verdict;

pub use super::metrics::Column;
pub use findings::{Finding, Findings};
pub(in crate::study) use verdict::verdict;
pub use verdict::{LEAST_SEEDS, RULE, Side};

use super::{
    conditions::{STEERED, UNSTEERED},
    metrics::METRICS,
    rows::Exploration,
};
use crate::study::{claims::Claim, numbers::counted};
use judge::Judge;

/// Optimizers whose updates are normalized by root mean squares of gradients.
pub const NORMALIZED: [&str; 4] = ["rmsprop", "adam", "adamw", "batch_rms"];
/// Vanilla gradient descent.
pub const VANILLA: &str = "sgd";
/// The claims that the study can speak to, with their intervals.
pub fn findings(study: &Exploration) -> Vec<Findings> {
    let judge = Judge::new(study);
    let labels = study.labels();
    let vanilla = labels.iter().find(|label| is(label, VANILLA));
    let steered = labels.iter().find(|label| is(label, STEERED));
    let (mut differences, mut correlations, mut losses) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(vanilla) = vanilla {
        for label in labels.iter().filter(|label| NORMALIZED.iter().any(|name| is(label, name))) {
            differences.push(judge.at_tuned_rates(label, vanilla));
            differences.push(judge.at_equal_distance(label, vanilla));
            differences.push(judge.at_equal_multiples(label, vanilla));
        }
    }
    if let Some(steered) = steered {
        let adam = labels.iter().find(|label| is(label, UNSTEERED));
        differences.extend(adam.map(|adam| judge.steers(steered, adam)));
        let others = labels.iter().filter(|label| *label != steered);
        losses.extend(others.map(|other| judge.ends_lower(steered, other)));
    }
    correlations.extend(judge.sweep());
    correlations.push(judge.goes_with_loss(None));
    correlations.extend(labels.iter().map(|label| judge.goes_with_loss(Some(label))));
    let signs = labels.iter().filter_map(|label| judge.rms_is_nearer_to_sign(label)).collect();
    let groups = tables(&judge, differences, correlations, losses, signs);
    groups.into_iter().filter(|group| !group.findings.is_empty()).collect()
}

/// The findings of each kind under their titles.
fn tables(
    judge: &Judge,
    differences: Vec<Finding>,
    correlations: Vec<Finding>,
    losses: Vec<Finding>,
    signs: Vec<Finding>,
) -> [Findings; 4] {
    let seeds = counted(judge.seeds.len(), "seed");
    let metrics = |plain: bool| -> Vec<Column> {
        METRICS.iter().map(|metric| if plain { metric.plain_column() } else { metric.column() }).collect()
    };
    let column = |name: &str, unit| Column { name: name.to_owned(), scale: "", unit, factor: 1.0 };
    [
        Findings {
            title: "Does it explore more?",
            note: format!("Differences of exploration metrics: mean and 95% interval over {seeds}."),
            columns: metrics(false),
            findings: differences,
        },
        Findings {
            title: "What goes with exploration?",
            note: format!("Rank correlations, between −1 and 1: mean and 95% interval over {seeds}."),
            columns: metrics(true),
            findings: correlations,
        },
        Findings {
            title: "Does steering by exploration pay?",
            note: format!("Differences of final losses: mean and 95% interval over {seeds}."),
            columns: vec![column("training loss", ""), column("test loss", "")],
            findings: losses,
        },
        Findings {
            title: "Is RMS normalization a sign?",
            note: format!(
                "Cosine with the sign of the full gradient, normalized minus plain minibatch gradient, mean over the \
                 run: mean and 95% interval over {seeds}."
            ),
            columns: judge.layers().iter().map(|layer| column(&format!("layer {layer}"), "")).collect(),
            findings: signs,
        },
    ]
}

/// The claims that the study can speak to.
pub fn evaluate(study: &Exploration) -> Vec<Claim> {
    findings(study).into_iter().flat_map(|group| group.findings).map(|finding| finding.claim).collect()
}

/// Whether a label (a name, with its rate behind a hyphen where the name is not unique) is of optimizer `name`.
fn is(label: &str, name: &str) -> bool {
    label.split_once('-').map_or(label, |(first, _)| first) == name
}
