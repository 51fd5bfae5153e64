//! How an experiment differs from the one that a folder was begun with, and what that means for `--resume`.

use super::experiment::Experiment;
use crate::optim::OptimizerConfig;
use std::{collections::BTreeMap, fmt};
use toml::{Table, Value};

/// A key with its value in the folder and as asked for; `None` where it is not set.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub key: String,
    pub there: Option<String>,
    pub here: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        write!(f, "{} is {} there, {} here", self.key, value(&self.there), value(&self.here))
    }
}

impl Difference {
    /// Whether it is about an optimizer.
    pub fn is_of_optimizer(&self) -> bool {
        self.key.starts_with("optimizer ") || self.key.contains(" of optimizer ")
    }
}

/// Several, for a message.
pub fn listed<'a>(differences: impl IntoIterator<Item = &'a Difference>) -> String {
    differences.into_iter().map(Difference::to_string).collect::<Vec<_>>().join("; ")
}

/// All that differs, by what it takes to get from the one to the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Differences {
    /// Other results altogether, or results that would be lost.
    pub foreign: Vec<Difference>,
    /// The same training, longer or with something else measured.
    pub further: Vec<Difference>,
    /// Optimizers that are not there yet.
    pub added: Vec<Difference>,
}

impl Differences {
    /// Between the experiment `there` in a folder and what is asked for. Where files lie does not matter, as checksums tell what is in
    /// them, nor who searched the learning rates.
    pub fn between(there: &Experiment, here: &Experiment) -> Differences {
        let (old, new) = (flat(&there.comparable()), flat(&here.comparable()));
        let mut found = Differences::default();
        let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for key in keys.into_iter().filter(|key| old.get(*key) != new.get(*key)) {
            let difference = Difference { key: key.clone(), there: old.get(key).cloned(), here: new.get(key).cloned() };
            let longer = key == "training.epochs" && here.training.epochs > there.training.epochs;
            let measured = key.starts_with("regret.") || key.starts_with("exploration.");
            if longer || measured { &mut found.further } else { &mut found.foreign }.push(difference);
        }
        let (lost, added) = unmatched(&there.optimizer, &here.optimizer);
        found.foreign.extend(of_optimizers(&lost, &added));
        let new = |config: &&OptimizerConfig| Difference {
            key: format!("optimizer {}", config.name),
            there: None,
            here: Some(format!("at rate {}", config.learning_rate)),
        };
        found.added = added.iter().map(new).collect();
        found
    }

    pub fn is_empty(&self) -> bool {
        self.foreign.is_empty() && self.further.is_empty() && self.added.is_empty()
    }

    /// In words, everything.
    pub fn text(&self) -> String {
        let changed = self.foreign.iter().chain(&self.further);
        // Optimizers that are there with other keys are told of already.
        let added = self.added.iter().filter(|_| self.foreign.is_empty());
        listed(changed.chain(added))
    }
}

/// Where each optimizer of `here` stands in `there`, if it does; equal ones are paired in their order.
pub fn places(there: &[OptimizerConfig], here: &[OptimizerConfig]) -> Vec<Option<usize>> {
    let mut free: Vec<bool> = vec![true; there.len()];
    let place = |config: &OptimizerConfig| {
        let at = (0..there.len()).find(|at| free[*at] && there[*at] == *config)?;
        free[at] = false;
        Some(at)
    };
    here.iter().map(place).collect()
}

/// The optimizers that only the one has, and those that only the other has.
fn unmatched<'a>(
    there: &'a [OptimizerConfig],
    here: &'a [OptimizerConfig],
) -> (Vec<&'a OptimizerConfig>, Vec<&'a OptimizerConfig>) {
    let places = places(there, here);
    let lost = (0..there.len()).filter(|at| !places.contains(&Some(*at))).map(|at| &there[at]).collect();
    let added = here.iter().zip(&places).filter(|(_, place)| place.is_none()).map(|(config, _)| config).collect();
    (lost, added)
}

/// What is said of optimizers that would be lost: the keys in which a namesake differs, if there is one.
fn of_optimizers(lost: &[&OptimizerConfig], added: &[&OptimizerConfig]) -> Vec<Difference> {
    let mut found = Vec::new();
    for gone in lost {
        let (mut old, name) = (keys(gone), &gone.name);
        let Some(namesake) = added.iter().find(|config| config.name == *name) else {
            let key = format!("optimizer {name}");
            found.push(Difference { key, there: Some(format!("at rate {}", gone.learning_rate)), here: None });
            continue;
        };
        let mut new = keys(namesake);
        old.retain(|key, value| match new.get(key) == Some(value) {
            true => new.remove(key).is_none(),
            false => true,
        });
        let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        found.extend(names.into_iter().map(|key| Difference {
            key: format!("{key} of optimizer {name}"),
            there: old.get(key).cloned(),
            here: new.get(key).cloned(),
        }));
    }
    found
}

fn keys(config: &OptimizerConfig) -> BTreeMap<String, String> {
    Table::try_from(config).map(|table| flat(&table)).unwrap_or_default()
}

/// The values of a table by their keys with dots between, as they stand in a file.
fn flat(table: &Table) -> BTreeMap<String, String> {
    fn visit(table: &Table, prefix: &str, found: &mut BTreeMap<String, String>) {
        for (key, value) in table {
            match value {
                Value::Table(inner) => visit(inner, &format!("{prefix}{key}."), found),
                value => {
                    found.insert(format!("{prefix}{key}"), value.to_string());
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    visit(table, "", &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::experiment::{parse, source};

    fn experiment(settings: &[&str]) -> Experiment {
        let (text, origin) = source("digits-classifier").unwrap();
        parse(&text, &origin, &settings.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    fn between(there: &[&str], here: &[&str]) -> Differences {
        Differences::between(&experiment(there), &experiment(here))
    }

    #[test]
    fn more_epochs_and_other_measurements_go_further_and_the_rest_is_another_experiment() {
        let found = between(&["training.epochs=3"], &["training.epochs=6", "regret.scales=[]", "exploration.probe=7"]);
        let keys: Vec<&str> = found.further.iter().map(|difference| &difference.key[..]).collect();
        assert_eq!(keys, ["exploration.probe", "regret.scales", "training.epochs"]);
        assert!(found.foreign.is_empty(), "{found:?}");
        assert_eq!(found.further[2].to_string(), "training.epochs is 3 there, 6 here");
        for (setting, expected) in [
            ("seed=5", "seed is 0 there, 5 here"),
            ("training.epochs=1", "there, 1 here"),
            ("training.stop_at_train_accuracy=0.5", "training.stop_at_train_accuracy is not set there, 0.5 here"),
            ("data.dataset=mnist", "data.dataset is \"digits\" there, \"mnist\" here"),
            ("network.weights=w.safetensors", "network.weights is not set there"),
        ] {
            let found = between(&[], &[setting]);
            assert!(found.further.is_empty() && found.text().contains(expected), "{setting}: {found:?}");
        }
    }

    #[test]
    fn places_of_files_and_searches_make_no_difference() {
        let mut here = experiment(&["network.weights=a/w.safetensors", "data.path=b"]);
        let there = experiment(&["network.weights=c/w.safetensors"]);
        here.rates_from = Some("a search".into());
        assert!(Differences::between(&there, &here).is_empty());
        assert!(between(&["data.dataset=images:a"], &["data.dataset=images:b"]).is_empty());
    }

    #[test]
    fn optimizers_may_be_added_but_not_lost() {
        let list = |text: &str| format!("optimizer=[{text}]");
        let sgd = "{name=\"sgd\",learning_rate=0.1}";
        let adam = "{name=\"adam\",learning_rate=0.1,beta1=0.5}";
        let both = list(&format!("{adam},{sgd}"));
        let found = between(&[&list(sgd)], &[&both]);
        assert_eq!((found.added.len(), found.foreign.len(), found.further.len()), (1, 0, 0));
        assert_eq!(found.text(), "optimizer adam is not set there, at rate 0.1 here");
        let found = between(&[&both], &[&list(sgd)]);
        assert_eq!(listed(&found.foreign), "optimizer adam is at rate 0.1 there, not set here");
        let other = list("{name=\"sgd\",learning_rate=0.2,warmup=3}");
        let text = listed(&between(&[&list(sgd)], &[&other]).foreign);
        assert!(text.contains("learning_rate of optimizer sgd is 0.1 there, 0.2 here"), "{text}");
        assert!(text.contains("warmup of optimizer sgd is not set there, 3 here"), "{text}");
        let all = |text: &str| experiment(&[&list(text)]).optimizer;
        let found = places(&all(&format!("{sgd},{sgd}")), &all(&format!("{sgd},{adam},{sgd},{sgd}")));
        assert_eq!(found, [Some(0), None, Some(1), None]);
    }
}
