//! What the runs of a study vary: learning rates, and epsilon between Adam and momentum.

use super::rows::Group;
use crate::{
    optim::OptimizerConfig,
    study::{experiment::Experiment, tune::rounded},
};

/// Multiples of the tuned rate at which every optimizer runs, unless others are asked for; 1 is the tuned rate itself.
pub const FACTORS: [f64; 6] = [0.1, 0.2, 0.5, 1.0, 1.5, 2.0];

/// Values of Adam's epsilon between Adam and momentum, unless others are asked for.
pub const EPSILONS: [f64; 8] = [1e-8, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 100.0];

/// The optimizer that the sweep of epsilon ends at.
pub const SWEEP_END: &str = "momentum";

/// The optimizer that uses what it explores, and the one that it is without.
pub const STEERED: &str = "explorer";
pub const UNSTEERED: &str = "adam";

/// One setting that runs from every seed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    pub group: Group,
    pub label: String,
    pub config: OptimizerConfig,
    pub factor: Option<f64>,
    pub epsilon: Option<f64>,
}

impl Condition {
    /// Whether this is an optimizer at its tuned rate.
    pub fn is_tuned(&self) -> bool {
        self.factor == Some(1.0)
    }
}

/// The settings of the study: every optimizer at multiples of its rate, and Adam's sweep of epsilon.
pub(super) fn conditions(experiment: &Experiment, factors: &[f64], epsilons: &[f64]) -> Vec<Condition> {
    let mut factors = [factors, &[1.0]].concat();
    factors.sort_by(f64::total_cmp);
    factors.dedup();
    let mut conditions = Vec::new();
    for (config, label) in experiment.optimizer.iter().zip(experiment.labels()) {
        for &factor in &factors {
            // The tuned rate itself stays as it is, to the bit.
            let rate = config.learning_rate;
            let learning_rate = if factor == 1.0 { rate } else { rounded(rate * factor, 4) };
            let config = OptimizerConfig { learning_rate, ..config.clone() };
            let (label, factor) = (label.clone(), Some(factor));
            conditions.push(Condition { group: Group::Rate, label, config, factor, epsilon: None });
        }
    }
    let named = |name: &str| experiment.optimizer.iter().position(|config| config.name == name);
    if let (Some(adam), Some(momentum)) = (named(UNSTEERED), named(SWEEP_END)) {
        let label = &experiment.labels()[adam];
        for &epsilon in epsilons {
            let config = between(&experiment.optimizer[adam], &experiment.optimizer[momentum], epsilon);
            let (group, label) = (Group::Epsilon, label.clone());
            conditions.push(Condition { group, label, config, factor: None, epsilon: Some(epsilon) });
        }
    }
    conditions
}

/// Adam with `epsilon` between Adam and momentum at their own rates.
///
/// With `s = sqrt(v)`, `m` the running mean of gradients and `c = rate_momentum / (1 - beta1)`, the learning rate
/// `rate_adam + epsilon c` makes the step of a coordinate
///
/// ```text
/// (rate_adam + epsilon c) m / (s + epsilon)  =  s / (s + epsilon) * rate_adam m / s  +  epsilon / (s + epsilon) * c m,
/// ```
///
/// a weighted mean of Adam's step and of momentum's (`c m`, as momentum sums gradients where Adam averages them). So
/// `epsilon = 0` is Adam and `epsilon -> infinity` momentum with `momentum = beta1`, both at their tuned rates. The mean is
/// not corrected for its start at zero, as momentum's velocity is not.
fn between(adam: &OptimizerConfig, momentum: &OptimizerConfig, epsilon: f64) -> OptimizerConfig {
    let beta1 = momentum.settings.get("momentum").copied().unwrap_or(0.9);
    let mut config = adam.clone();
    config.learning_rate = rounded(adam.learning_rate + epsilon * momentum.learning_rate / (1.0 - beta1), 6);
    config.settings.insert("eps".into(), epsilon);
    config.settings.insert("beta1".into(), beta1);
    config.settings.insert("correct_mean".into(), 0.0);
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        network::{LayerSpec, Network, he_uniform},
        optim::OptimizerConfig,
    };

    #[test]
    fn the_sweep_of_epsilon_begins_at_adam_and_ends_at_momentum() {
        let network = Network::new(3, &[LayerSpec::dense(4)]).unwrap();
        let mut adam = OptimizerConfig::named("adam", Some(0.01)).unwrap();
        adam.settings.insert("correct_mean".into(), 0.0);
        let momentum = OptimizerConfig::named("momentum", Some(0.05)).unwrap();
        // Gradients of very different sizes, as normalization would even out.
        let gradient = |round: usize, j: usize| ((round * 7 + j * 3) as f64).sin() * 10f64.powi(j as i32 % 4 - 2);
        let descend = |config: &OptimizerConfig| {
            let mut weights: Vec<f64> = he_uniform(&network, 0);
            let mut optimizer = config.build::<f64>(&network).unwrap();
            for round in 1..=400 {
                let g: Vec<f64> = (0..weights.len()).map(|j| gradient(round, j)).collect();
                optimizer.step(round, &mut weights, &g);
            }
            weights
        };
        let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let (first, last) = (descend(&adam), descend(&momentum));
        assert!(apart(&first, &last) > 0.1, "the ends differ");
        let exact = between(&adam, &momentum, 1e-8);
        assert!(apart(&descend(&exact), &first) < 1e-5 * apart(&first, &last), "Adam's own epsilon");
        assert!(apart(&descend(&between(&adam, &momentum, 1e9)), &last) < 1e-6 * apart(&first, &last));
        let far = |epsilon: f64| apart(&descend(&between(&adam, &momentum, epsilon)), &first);
        assert!(far(1e-6) < far(1e-2) && far(1e-2) < far(10.0), "it goes away from Adam as epsilon grows");
    }
}
