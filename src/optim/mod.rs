//! Optimizers: one a file, behind one trait, on flat weight vectors.
//!
//! To add one, write its file and add it to [`REGISTRY`]; the experiment file, the command line and the documentation
//! of its settings follow from the entry. Defaults equal PyTorch's.

mod adam;
mod momentum;
mod ogd;
mod rmsprop;
mod sgd;

pub use adam::Adam;
pub use momentum::Momentum;
pub use ogd::Ogd;
pub use rmsprop::RmsProp;
pub use sgd::Sgd;

use crate::{kernels::Real, network::Network, text::suggestion};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A rule that turns gradients into updates.
pub trait Optimizer<T: Real>: Send {
    /// Updates `weights` in place with the gradient of round `round` (1-based). Both have the network's flat layout.
    fn step(&mut self, round: usize, weights: &mut [T], gradient: &[T]);
}

/// An optimizer and its settings, as in the experiment file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizerConfig {
    pub name: String,
    /// The step size; for `ogd` a factor on the theorem's step size.
    pub learning_rate: f64,
    /// Settings other than the learning rate; absent ones have their defaults.
    #[serde(flatten)]
    pub settings: BTreeMap<String, f64>,
}

/// What an optimizer is built from: settings with all defaults filled in.
pub struct Settings<'a> {
    pub learning_rate: f64,
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
    ($name:literal, $rate:literal, $build:path, [$($setting:expr),*]) => {
        Entry {
            name: $name,
            default_learning_rate: $rate,
            settings: &[$($setting),*],
            single: |s| Box::new($build(s)),
            double: |s| Box::new($build(s)),
        }
    };
}

const MOMENTUM: Setting = setting("momentum", 0.9, (0.0, 1.0));
const EPS: Setting = setting("eps", 1e-8, (0.0, f64::MAX));

/// All optimizers that can be named.
pub const REGISTRY: &[Entry] = &[
    entry!("sgd", 0.01, Sgd::new, []),
    entry!("momentum", 0.01, Momentum::heavy_ball, [MOMENTUM]),
    entry!("nesterov", 0.01, Momentum::nesterov, [MOMENTUM]),
    entry!("rmsprop", 0.01, RmsProp::new, [setting("alpha", 0.99, (0.0, 1.0)), EPS]),
    entry!("adam", 0.001, Adam::new, [setting("beta1", 0.9, (0.0, 1.0)), setting("beta2", 0.999, (0.0, 1.0)), EPS]),
    entry!("ogd", 1.0, Ogd::new, [setting("diameter", 1.0, (0.0, f64::MAX))]),
];

/// An optimizer that cannot be built from its configuration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OptimizerError {
    #[error("unknown optimizer \"{name}\"{suggestion}")]
    Unknown { name: String, suggestion: String },
    #[error("optimizer \"{optimizer}\" has no setting \"{key}\"{suggestion}")]
    UnknownSetting { optimizer: String, key: String, suggestion: String },
    #[error("optimizer \"{optimizer}\": {key} = {value} must lie between {low} and {high}")]
    OutOfRange { optimizer: String, key: String, value: f64, low: f64, high: f64 },
}

/// The registry entry of a name.
pub fn find(name: &str) -> Result<&'static Entry, OptimizerError> {
    REGISTRY.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let names: Vec<&str> = REGISTRY.iter().map(|entry| entry.name).collect();
        OptimizerError::Unknown { name: name.into(), suggestion: suggestion(name, &names) }
    })
}

impl OptimizerConfig {
    /// An optimizer with default settings; `learning_rate = None` takes the default rate.
    pub fn named(name: &str, learning_rate: Option<f64>) -> Result<Self, OptimizerError> {
        let learning_rate = learning_rate.unwrap_or(find(name)?.default_learning_rate);
        let config = Self { name: name.into(), learning_rate, settings: BTreeMap::new() };
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
                let names: Vec<&str> = entry.settings.iter().map(|s| s.name).chain(["learning_rate"]).collect();
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

    /// Builds the optimizer for a network's weights.
    pub fn build<T: Real>(&self, network: &Network) -> Result<Box<dyn Optimizer<T>>, OptimizerError> {
        let entry = self.check()?;
        let value = |s: &Setting| (s.name, self.settings.get(s.name).copied().unwrap_or(s.default));
        let values = entry.settings.iter().map(value).collect();
        let settings = Settings { learning_rate: self.learning_rate, values, network };
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
        config.settings.insert("alpha".into(), 1.5);
        assert!(matches!(config.check(), Err(OptimizerError::OutOfRange { .. })));
        assert!(OptimizerConfig::named("sgd", Some(f64::NAN)).is_err());
    }
}
