//! Optimizers: one a file, behind one trait, on flat weight vectors.
//!
//! To add one, write its file, with its type and its `ENTRIES`, and name both in one line of `optimizers!`; the experiment file,
//! the command line and the searches follow from the entries. Defaults equal PyTorch's.

pub mod schedule;

pub use schedule::{Rate, Schedule};

use crate::{
    checkpoint::{Store, StoreError},
    kernels::Real,
    network::Network,
    text::suggestion,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A rule that turns gradients into updates.
pub trait Optimizer<T: Real>: Send {
    /// Updates `weights` in place with the gradient of round `round` (1-based). Both have the network's flat layout.
    fn step(&mut self, round: usize, weights: &mut [T], gradient: &[T]);

    /// A buffer as long as the weights, for optimizers that use per-example gradients. Before each step the training
    /// loop fills it with `sum_d g_d^2`, coordinatewise, where `g_d` is the gradient of example `d`'s share of the
    /// minibatch's mean loss. `None`, the default, costs nothing.
    fn squares(&mut self) -> Option<&mut [T]> {
        None
    }

    /// Whether [`step`](Self::step) is to be given the gradient of all training rows instead of the minibatch's. The
    /// loop then computes it at `W^n` in every round, which takes as long as an epoch; loss and gradient of the
    /// minibatch are what observers see all the same, as regret is defined on them.
    fn full_batch(&self) -> bool {
        false
    }

    /// A buffer with an entry per hidden neuron, in the order of the layers, in rounds whose update is to be watched. After
    /// [`step`](Self::step) of that round the loop fills it with the fraction of the minibatch's datapoints (for a filter: of
    /// datapoints and positions) on which the update switched the neuron on or off. It takes two forward passes.
    fn switching(&mut self, round: usize) -> Option<&mut [T]> {
        let _ = round;
        None
    }

    /// Hands over what it remembers from round to round, as [`crate::checkpoint::Persist`] has it. The default is for optimizers that
    /// remember nothing.
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        let _ = store;
        Ok(())
    }
}

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

/// What an optimizer is built from: settings with all defaults filled in.
pub struct Settings<'a> {
    pub rate: Rate,
    values: BTreeMap<&'static str, f64>,
    pub network: &'a Network,
}

impl Settings<'_> {
    /// A setting named in the optimizer's registry entry.
    pub fn get(&self, key: &str) -> f64 {
        self.values[key]
    }
}

/// One optimizer that experiments can name.
pub struct Entry {
    pub name: &'static str,
    /// The name as people write it.
    pub title: &'static str,
    pub default_learning_rate: f64,
    /// Names, defaults and accepted ranges of its settings.
    pub settings: &'static [Setting],
    single: fn(&Settings) -> Box<dyn Optimizer<f32>>,
    double: fn(&Settings) -> Box<dyn Optimizer<f64>>,
}

/// A setting's name, default value, and the closed range it must lie in.
pub struct Setting {
    pub name: &'static str,
    pub default: f64,
    pub range: (f64, f64),
}

const fn setting(name: &'static str, default: f64, range: (f64, f64)) -> Setting {
    Setting { name, default, range }
}

macro_rules! entry {
    ($name:literal, $title:literal, $rate:literal, $build:path, [$($setting:expr),*]) => {
        Entry {
            name: $name,
            title: $title,
            default_learning_rate: $rate,
            settings: &[$($setting),*],
            single: |s| Box::new($build(s)),
            double: |s| Box::new($build(s)),
        }
    };
}

const EPS: Setting = setting("eps", 1e-8, (0.0, f64::MAX));

/// Declares the modules, and gathers what each registers in its `ENTRIES`.
macro_rules! optimizers {
    ($($module:ident::$optimizer:ident,)*) => {
        $(
            mod $module;
            pub use $module::$optimizer;
        )*

        const REGISTRY: &[&[Entry]] = &[$($module::ENTRIES),*];
    };
}

optimizers! {
    sgd::Sgd,
    momentum::Momentum,
    rmsprop::RmsProp,
    batch_rms::BatchRms,
    sign_sgd::SignSgd,
    rprop::RProp,
    adagrad::AdaGrad,
    adagrad_full::AdaGradFull,
    adam::Adam,
    explorer::Explorer,
    ogd::Ogd,
}

/// All optimizers that can be named.
pub fn registry() -> impl Iterator<Item = &'static Entry> {
    REGISTRY.iter().copied().flatten()
}

/// An optimizer that cannot be built from its configuration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OptimizerError {
    #[error("unknown optimizer \"{name}\"{suggestion}")]
    Unknown { name: String, suggestion: String },
    #[error("optimizer \"{optimizer}\" has no setting \"{key}\"{suggestion}")]
    UnknownSetting { optimizer: String, key: String, suggestion: String },
    #[error("optimizer \"{optimizer}\": {key} = {value} must {}", range(*low, *high))]
    OutOfRange { optimizer: String, key: String, value: f64, low: f64, high: f64 },
    #[error("optimizer \"{optimizer}\": schedule = \"cosine\" needs the number of rounds; build it with `build_for`")]
    NoRounds { optimizer: String },
}

/// A closed range in words.
fn range(low: f64, high: f64) -> String {
    if high < 1e30 { format!("lie between {low} and {high}") } else { format!("be a number, and at least {low}") }
}

/// The registry entry of a name.
pub fn find(name: &str) -> Result<&'static Entry, OptimizerError> {
    registry().find(|entry| entry.name == name).ok_or_else(|| {
        let names: Vec<&str> = registry().map(|entry| entry.name).collect();
        OptimizerError::Unknown { name: name.into(), suggestion: suggestion(name, &names) }
    })
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
        let value = |s: &Setting| (s.name, self.settings.get(s.name).copied().unwrap_or(s.default));
        let values = entry.settings.iter().map(value).collect();
        let settings = Settings { rate: self.rate(rounds), values, network };
        // `T` is `f32` or `f64`; the cast through `Any` picks the constructor of that type.
        let single: Box<dyn std::any::Any> = Box::new((entry.single)(&settings));
        let built = match single.downcast::<Box<dyn Optimizer<T>>>() {
            Ok(built) => built,
            Err(_) => {
                let double: Box<dyn std::any::Any> = Box::new((entry.double)(&settings));
                double.downcast::<Box<dyn Optimizer<T>>>().unwrap_or_else(|_| unreachable!("T is f32 or f64"))
            }
        };
        Ok(*built)
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
