//! How an optimizer's run went, as `summary.json` has it.

use super::{
    analysis::AnalysisTables,
    statistics::{last_mean, mean},
    tables::{EpochRow, OptimizerSummary, RunStatus},
};
use crate::network::Network;
use std::collections::BTreeMap;

/// How an optimizer's run went, for its summary.
pub(super) struct Outcome<'a> {
    pub name: &'a str,
    pub learning_rate: Option<f64>,
    pub label: &'a str,
    /// All other keys of the optimizer.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// What was found out about a trace, and what of it casts doubt on it: sentences.
    pub checks: Vec<String>,
    pub warnings: Vec<String>,
    /// Whether the steps of a trace are not those of the optimizer that it names.
    pub contradicted: bool,
    pub status: RunStatus,
    pub message: Option<String>,
    pub per_epoch: usize,
    pub tables: &'a AnalysisTables,
}

impl Outcome<'_> {
    /// `losses` are those of all rounds, `last` the evaluation after the last epoch.
    pub fn summary(self, network: &Network, losses: &[f64], last: Option<&EpochRow>) -> OptimizerSummary {
        self.summary_of(network.hidden_blocks().iter().map(|b| b.units).sum(), losses, last)
    }

    /// The same, of a model with so many hidden neurons.
    pub fn summary_of(self, hidden_neurons: usize, losses: &[f64], last: Option<&EpochRow>) -> OptimizerSummary {
        OptimizerSummary {
            label: self.label.to_owned(),
            name: self.name.to_owned(),
            learning_rate: self.learning_rate,
            settings: self.settings,
            checks: self.checks,
            warnings: self.warnings,
            contradicted: self.contradicted,
            status: self.status,
            message: self.message,
            rounds: losses.len(),
            rounds_per_epoch: self.per_epoch,
            window_rounds: self.tables.window_rounds,
            sampled_rounds: self.tables.sampled_rounds,
            kept_rounds: None,
            last_loss: last_mean(losses),
            mean_loss: mean(losses.iter().copied()),
            train_loss: last.map(|e| e.train_loss),
            test_loss: last.map(|e| e.test_loss),
            train_accuracy: last.and_then(|e| e.train_accuracy),
            test_accuracy: last.and_then(|e| e.test_accuracy),
            hidden_neurons,
            dead_neurons: self.tables.neurons.iter().filter(|n| n.dead).count(),
        }
    }
}
