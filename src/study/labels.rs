//! What the optimizers of an experiment are called: their folders and their names on pages.

use crate::optim::{OptimizerConfig, find};
use serde_json::Value;
use std::collections::BTreeMap;

/// A folder name per optimizer: its name, and where a name appears more than once what differs between those that have it, as
/// `sgd-0.1` (the learning rate) or `adam-beta1=0.5`.
pub fn labels(optimizers: &[OptimizerConfig]) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for config in optimizers {
        let namesakes: Vec<&OptimizerConfig> = optimizers.iter().filter(|other| other.name == config.name).collect();
        let mut label = match namesakes[..] {
            [_] => config.name.clone(),
            _ => format!("{}{}", config.name, differences(config, &namesakes)),
        };
        // The very same optimizer twice.
        while labels.contains(&label) {
            label.push_str("-again");
        }
        labels.push(label);
    }
    labels
}

/// What tells an optimizer from its namesakes.
fn differences(config: &OptimizerConfig, namesakes: &[&OptimizerConfig]) -> String {
    let (own, all): (_, Vec<_>) = (keys(config), namesakes.iter().map(|other| keys(other)).collect());
    let differing = own.iter().filter(|(key, value)| all.iter().any(|other| other.get(*key) != Some(*value)));
    let text: String = differing.map(|(key, value)| format!("-{key}={value}")).collect();
    let rates_differ = namesakes.iter().any(|other| other.learning_rate != config.learning_rate);
    match rates_differ || text.is_empty() {
        true => format!("-{}{text}", config.learning_rate),
        false => text,
    }
}

/// All keys of an optimizer but its name and rate, defaults included, with values in characters that a folder's name may have.
fn keys(config: &OptimizerConfig) -> BTreeMap<String, String> {
    let defaults = find(&config.name).map_or(&[][..], |entry| entry.settings);
    let mut keys: BTreeMap<String, String> =
        defaults.iter().map(|setting| (setting.name.to_owned(), number(setting.default))).collect();
    keys.extend(config.settings.iter().map(|(key, value)| (key.clone(), number(*value))));
    keys.insert("warmup".into(), config.warmup.to_string());
    let schedule = match serde_json::to_value(config.schedule) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    };
    keys.insert("schedule".into(), schedule);
    keys
}

/// The shortest form that reads back: `0.5`, `1`, `1e-8`.
fn number(value: f64) -> String {
    let text = format!("{value:?}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::Schedule;

    fn adam(rate: f64, settings: &[(&str, f64)]) -> OptimizerConfig {
        let mut config = OptimizerConfig::named("adam", Some(rate)).unwrap();
        config.settings = settings.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
        config
    }

    #[test]
    fn labels_say_what_differs_and_no_more() {
        let sgd = |rate| OptimizerConfig::named("sgd", Some(rate)).unwrap();
        assert_eq!(labels(&[sgd(1.0), sgd(0.1), adam(1.0, &[])]), ["sgd-1", "sgd-0.1", "adam"]);
        // A default that is written out makes no difference.
        let all = [adam(1e-3, &[]), adam(1e-3, &[("beta1", 0.5)]), adam(1e-3, &[("beta1", 0.0), ("eps", 1e-8)])];
        assert_eq!(labels(&all), ["adam-beta1=0.9", "adam-beta1=0.5", "adam-beta1=0"]);
        let all = [adam(1e-3, &[("eps", 1e-4)]), adam(0.1, &[])];
        assert_eq!(labels(&all), ["adam-0.001-eps=0.0001", "adam-0.1-eps=1e-8"]);
        let cosine = OptimizerConfig { schedule: Schedule::Cosine, ..sgd(0.1) };
        assert_eq!(labels(&[sgd(0.1), cosine]), ["sgd-schedule=constant", "sgd-schedule=cosine"]);
        assert_eq!(labels(&[sgd(0.1), sgd(0.1)]), ["sgd-0.1", "sgd-0.1-again"]);
        // Two are equal, the third is not.
        let all = [sgd(0.1), sgd(0.1), sgd(1.0)];
        assert_eq!(labels(&all), ["sgd-0.1", "sgd-0.1-again", "sgd-1"]);
    }
}
