//! `explore.csv`, and all that a study found.

use super::signs::SignRow;
use crate::study::tables::TrialStatus;
use serde::{Deserialize, Serialize};

/// What a run of the study varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// The learning rate, as multiples of the tuned one.
    Rate,
    /// Adam's epsilon.
    Epsilon,
}

/// `explore.csv`: one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExploreRow {
    pub group: Group,
    /// The optimizer's label in the experiment.
    pub optimizer: String,
    /// Multiple of the tuned rate; empty in the sweep of epsilon.
    pub factor: Option<f64>,
    /// Empty outside the sweep of epsilon.
    pub epsilon: Option<f64>,
    pub learning_rate: f64,
    pub seed: u64,
    pub rounds: usize,
    /// What follows is empty if training diverged.
    pub status: TrialStatus,
    /// Over the whole training set after the last round.
    pub train_loss: Option<f64>,
    pub test_loss: Option<f64>,
    /// `|W^(N+1) - W^1|`.
    pub distance: Option<f64>,
    /// Mean minibatch loss over all rounds.
    pub mean_loss: Option<f64>,
    /// Mean over neurons of the Taylor optimum of the whole run, against the best weights anywhere; for the mean squared
    /// error.
    pub taylor_optimum: Option<f64>,
    /// `mean_loss - taylor_optimum`.
    pub mean_regret: Option<f64>,
    pub novelty_coarse: Option<f64>,
    pub switches_coarse: Option<f64>,
    pub log_volume_coarse: Option<f64>,
    pub log_det_coarse: Option<f64>,
    pub novelty_fine: Option<f64>,
    pub switches_fine: Option<f64>,
    pub log_volume_fine: Option<f64>,
    pub log_det_fine: Option<f64>,
    /// Mean over neurons of the gaps of their Taylor optima; this and what follows are absent from tables of version
    /// 0.1.0.
    #[serde(default)]
    pub taylor_gap: Option<f64>,
    /// Novelty of the first step, from the initial weights, and mean novelty of those after it; empty without them.
    #[serde(default)]
    pub first_novelty_coarse: Option<f64>,
    #[serde(default)]
    pub later_novelty_coarse: Option<f64>,
    #[serde(default)]
    pub first_novelty_fine: Option<f64>,
    #[serde(default)]
    pub later_novelty_fine: Option<f64>,
}

/// All runs of a study.
#[derive(Clone, Debug, PartialEq)]
pub struct Exploration {
    pub rows: Vec<ExploreRow>,
    pub signs: Vec<SignRow>,
    /// Whether all runs were done.
    pub complete: bool,
}
