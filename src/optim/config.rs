//! Optimizers as experiment files name them.

use super::{
    Optimizer, OptimizerError, Rate, Schedule,
    entry::{Entry, Settings},
    registry::find,
};
use crate::{network::Network, num::Real, text::suggestion};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An optimizer and its settings, as in the experiment file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizerConfig {
    pub name: String,
    /// The step size; for `ogd` a factor on the theorem's step size.
    pub learning_rate: f64,
    /// How the learning rate changes over the rounds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub schedule: Schedule,
    /// Rounds of linear warm-up.
    #[serde(default, skip_serializing_if = "is_default")]
    pub warmup: usize,
    /// Settings other than these; absent ones have their defaults. `true` is 1 and `false` is 0.
    #[serde(flatten, deserialize_with = "numbers")]
    pub settings: BTreeMap<String, f64>,
}

fn is_default<V: Default + PartialEq>(value: &V) -> bool {
    *value == V::default()
}

/// Reads settings, each a number or a truth value.
fn numbers<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error> {
    struct Number(f64);
    impl<'de> Deserialize<'de> for Number {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl serde::de::Visitor<'_> for Visitor {
                type Value = Number;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a number, true or false")
                }

                fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
                    Ok(Number(value))
                }

                fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
                    Ok(Number(value as f64))
                }

                fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
                    Ok(Number(value as f64))
                }

                fn visit_bool<E>(self, value: bool) -> Result<Number, E> {
                    Ok(Number(f64::from(u8::from(value))))
                }
            }
            deserializer.deserialize_any(Visitor)
        }
    }
    let settings = BTreeMap::<String, Number>::deserialize(deserializer)?;
    Ok(settings.into_iter().map(|(key, Number(value))| (key, value)).collect())
}

impl OptimizerConfig {
    /// All keys but name and learning rate, for people to read.
    pub fn other_keys(&self) -> BTreeMap<String, serde_json::Value> {
        let all = serde_json::to_value(self).unwrap_or_default();
        let keys = all.as_object().into_iter().flatten();
        keys.filter(|(key, _)| !["name", "learning_rate"].contains(&key.as_str()))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }

    /// An optimizer with default settings; `learning_rate = None` takes the default rate.
    pub fn named(name: &str, learning_rate: Option<f64>) -> Result<Self, OptimizerError> {
        let learning_rate = learning_rate.unwrap_or(find(name)?.default_learning_rate);
        let config = Self {
            name: name.into(),
            learning_rate,
            schedule: Schedule::Constant,
            warmup: 0,
            settings: BTreeMap::new(),
        };
        config.check()?;
        Ok(config)
    }

    /// Checks the name, the names of the settings, and their ranges.
    pub fn check(&self) -> Result<&'static Entry, OptimizerError> {
        let entry = find(&self.name)?;
        let in_range = |key: &str, value: f64, (low, high): (f64, f64)| {
            if value.is_finite() && value >= low && value <= high {
                return Ok(());
            }
            Err(OptimizerError::OutOfRange { optimizer: self.name.clone(), key: key.into(), value, low, high })
        };
        in_range("learning_rate", self.learning_rate, (0.0, 1e30))?;
        for (key, value) in &self.settings {
            let Some(setting) = entry.settings.iter().find(|s| s.name == key) else {
                let names: Vec<&str> =
                    entry.settings.iter().map(|s| s.name).chain(["learning_rate", "schedule", "warmup"]).collect();
                return Err(OptimizerError::UnknownSetting {
                    optimizer: self.name.clone(),
                    key: key.clone(),
                    suggestion: suggestion(key, &names),
                });
            };
            in_range(key, *value, setting.range)?;
            if setting.switch && *value != 0.0 && *value != 1.0 {
                return Err(OptimizerError::NotSwitch {
                    optimizer: self.name.clone(),
                    key: key.clone(),
                    value: *value,
                });
            }
        }
        Ok(entry)
    }

    /// The learning rate with its schedule over a run of `rounds` rounds.
    pub fn rate(&self, rounds: usize) -> Rate {
        Rate { base: self.learning_rate, schedule: self.schedule, warmup: self.warmup, rounds }
    }

    /// The learning rate if this is the optimizer `name` at a constant rate: what a bound on its regret may assume.
    pub fn constant_rate_of(&self, name: &str) -> Option<f64> {
        if self.name == name { self.rate(0).if_constant() } else { None }
    }

    /// Builds the optimizer for a network's weights, for a run of unknown length.
    pub fn build<T: Real>(&self, network: &Network) -> Result<Box<dyn Optimizer<T>>, OptimizerError> {
        if self.schedule == Schedule::Cosine {
            return Err(OptimizerError::NoRounds { optimizer: self.name.clone() });
        }
        self.build_for(network, 0)
    }

    /// Builds the optimizer for a network's weights and a run of `rounds` rounds.
    pub fn build_for<T: Real>(
        &self,
        network: &Network,
        rounds: usize,
    ) -> Result<Box<dyn Optimizer<T>>, OptimizerError> {
        let entry = self.check()?;
        Ok(entry.build(&Settings::new(entry, &self.settings, self.rate(rounds), network)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_and_settings_are_refused_with_a_suggestion() {
        let error = OptimizerConfig::named("adm", None).unwrap_err().to_string();
        assert!(error.contains("did you mean \"adam\""), "{error}");
        let mut config = OptimizerConfig::named("rmsprop", Some(0.1)).unwrap();
        config.settings.insert("alhpa".into(), 0.5);
        assert!(config.check().err().unwrap().to_string().contains("did you mean \"alpha\""));
        config.settings.clear();
        config.settings.insert("warmpu".into(), 1.0);
        assert!(config.check().err().unwrap().to_string().contains("did you mean \"warmup\""));
        config.settings.clear();
        config.settings.insert("alpha".into(), 1.5);
        assert!(matches!(config.check(), Err(OptimizerError::OutOfRange { .. })));
        config.settings.clear();
        config.settings.insert("centered".into(), 0.5);
        assert!(config.check().err().unwrap().to_string().contains("centered = 0.5 must be true or false"));
        assert!(OptimizerConfig::named("sgd", Some(f64::NAN)).is_err());
    }

    #[test]
    fn schedules_and_truth_values_are_read_and_written() {
        let text = "name = \"rmsprop\"\nlearning_rate = 1\nschedule = \"cosine\"\nwarmup = 5\ncentered = true\n";
        let config: OptimizerConfig = toml::from_str(text).unwrap();
        assert_eq!((config.schedule, config.warmup, config.settings["centered"]), (Schedule::Cosine, 5, 1.0));
        assert_eq!(toml::from_str::<OptimizerConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
        let network = Network::new(2, &[crate::network::LayerSpec::dense(1)]).unwrap();
        assert!(matches!(config.build::<f64>(&network), Err(OptimizerError::NoRounds { .. })));
        assert!(config.build_for::<f64>(&network, 10).is_ok());
        let error =
            toml::from_str::<OptimizerConfig>("name = \"sgd\"\nlearning_rate = 1\nschedule = \"cosin\"").unwrap_err();
        assert!(error.to_string().contains("cosine"), "{error}");
        let plain = toml::to_string(&OptimizerConfig::named("sgd", None).unwrap()).unwrap();
        assert!(!plain.contains("schedule") && !plain.contains("warmup"), "defaults are left out: {plain}");
    }
}
