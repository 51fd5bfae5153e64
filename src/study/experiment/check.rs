//! Checks of what types cannot: ranges, and what belongs together.

use super::{
    Experiment,
    error::ExperimentError,
    sections::{RegretSection, TrainingSection},
};
use crate::{loss::Loss, taylor::Comparators, trace::TargetKind};

/// Epochs at most, so that rounds can be counted.
pub const MAX_EPOCHS: usize = 1_000_000;

type Check = Result<(), ExperimentError>;

impl Experiment {
    /// Checks ranges, and names of optimizers. `origin` is the file's name for messages.
    ///
    /// # Errors
    /// At the first value that is out of its range.
    pub fn check(&self, origin: &str) -> Check {
        let fail = |key, reason: &str| Err(ExperimentError::value(origin, key, reason));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.format == 0 {
            return fail("format", "must be 1");
        }
        if self.name.is_empty() || !self.name.chars().all(plain) || self.name.starts_with('.') {
            return fail("name", "must consist of letters, digits, '-', '_' and '.', as it names a folder");
        }
        self.training.check_rounds(origin)?;
        if i64::try_from(self.seed).is_err() {
            return fail("seed", "must be below 2^63, as TOML knows no larger integers");
        }
        self.training.check_target(origin)?;
        if self.optimizer.is_empty() {
            return fail("optimizer", "name at least one: [[optimizer]] name = \"sgd\" learning_rate = 0.1");
        }
        for config in &self.optimizer {
            config.check().map_err(|source| ExperimentError::Optimizer { origin: origin.into(), source })?;
        }
        self.regret.check(origin)
    }
}

impl TrainingSection {
    fn check_rounds(&self, origin: &str) -> Check {
        if self.batch_size == 0 {
            return Err(ExperimentError::value(origin, "training.batch_size", "must be at least 1"));
        }
        if !(1..=MAX_EPOCHS).contains(&self.epochs) {
            return Err(ExperimentError::value(origin, "training.epochs", "must be at least 1, and at most a million"));
        }
        Ok(())
    }

    fn check_target(&self, origin: &str) -> Check {
        let fail = |key, reason: &str| Err(ExperimentError::value(origin, key, reason));
        match (self.loss, self.target) {
            (Loss::Mse, TargetKind::Label) => {
                return fail("training.target", "\"label\" needs loss = \"cross_entropy\"");
            }
            (Loss::CrossEntropy, TargetKind::Input) => {
                return fail("training.target", "\"input\" needs loss = \"mse\"");
            }
            (_, TargetKind::Values) => {
                return fail("training.target", "must be \"input\" or \"label\"; \"values\" is for traces");
            }
            (Loss::Mse, TargetKind::Input) | (Loss::CrossEntropy, TargetKind::Label) => {}
        }
        let Some(accuracy) = self.stop_at_train_accuracy else { return Ok(()) };
        let key = "training.stop_at_train_accuracy";
        if self.target != TargetKind::Label {
            return fail(key, "needs target = \"label\": only classifiers have an accuracy");
        }
        if !(accuracy > 0.0 && accuracy <= 1.0) {
            return fail(key, "must lie between 0 and 1, for example 0.99");
        }
        Ok(())
    }
}

impl RegretSection {
    /// Checks ranges.
    pub(super) fn check(&self, origin: &str) -> Check {
        let fail = |key, reason: &str| Err(ExperimentError::value(origin, key, reason));
        if self.prefixes == 0 {
            return fail("regret.prefixes", "must be at least 1");
        }
        self.check_lists(origin)?;
        if !(self.ball_factor > 0.0 && self.ball_factor.is_finite()) {
            return fail("regret.ball_factor", "must be a positive number");
        }
        for (key, value) in [("regret.tolerance", self.tolerance), ("regret.neuron_tolerance", self.neuron_tolerance)] {
            if !(1e-12..1.0).contains(&value) {
                return fail(key, "must lie between 1e-12 and 1");
            }
        }
        if self.rounds == Some(0) {
            return fail("regret.rounds", "must be at least 1; leave it out to analyse every round of the window");
        }
        if self.max_products == 0 {
            return fail("regret.max_products", "must be at least 1");
        }
        Ok(())
    }

    fn check_lists(&self, origin: &str) -> Check {
        let fail = |key, reason: &str| Err(ExperimentError::value(origin, key, reason));
        let comparators = match &self.comparators {
            Comparators::Auto => &[][..],
            Comparators::Chosen(comparators) if comparators.is_empty() && !self.scales.is_empty() => {
                let reason = "name \"ball\", \"unconstrained\" or both, or write \"auto\"; or set scales = []";
                return fail("regret.comparators", reason);
            }
            Comparators::Chosen(comparators) => comparators,
        };
        if repeats(&self.scales) {
            return fail("regret.scales", "names a scale twice");
        }
        if repeats(comparators) {
            return fail("regret.comparators", "names a comparator twice");
        }
        Ok(())
    }
}

/// Whether a list has anything twice.
fn repeats<T: Ord>(list: &[T]) -> bool {
    list.iter().collect::<std::collections::BTreeSet<_>>().len() < list.len()
}
