//! What an optimizer registers, and what it is built from.

use super::{Optimizer, Rate};
use crate::{
    network::Network,
    num::{ByType, Real},
};
use std::collections::BTreeMap;

/// An entry of the registry: name, title, default learning rate, constructor, settings.
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
pub(super) use entry;

/// One optimizer that experiments can name.
pub struct Entry {
    pub name: &'static str,
    /// The name as people write it.
    pub title: &'static str,
    pub default_learning_rate: f64,
    /// Names, defaults and accepted ranges of its settings.
    pub settings: &'static [Setting],
    pub(super) single: fn(&Settings) -> Box<dyn Optimizer<f32>>,
    pub(super) double: fn(&Settings) -> Box<dyn Optimizer<f64>>,
}

/// A setting's name, default value, and the closed range it must lie in.
pub struct Setting {
    pub name: &'static str,
    pub default: f64,
    pub range: (f64, f64),
    /// Whether it is on (1) or off (0), written `true` or `false`.
    pub switch: bool,
}

pub(super) const fn setting(name: &'static str, default: f64, range: (f64, f64)) -> Setting {
    Setting { name, default, range, switch: false }
}

pub(super) const fn switch(name: &'static str, default: bool) -> Setting {
    Setting { name, default: if default { 1.0 } else { 0.0 }, range: (0.0, 1.0), switch: true }
}

pub(super) const EPS: Setting = setting("eps", 1e-8, (0.0, f64::MAX));

/// What an optimizer is built from: settings with all defaults filled in.
pub struct Settings<'a> {
    pub rate: Rate,
    values: BTreeMap<&'static str, f64>,
    pub network: &'a Network,
}

impl<'a> Settings<'a> {
    /// Those that are `given`, and the defaults of the others.
    pub(super) fn new(entry: &Entry, given: &BTreeMap<String, f64>, rate: Rate, network: &'a Network) -> Self {
        let value = |s: &Setting| (s.name, given.get(s.name).copied().unwrap_or(s.default));
        Self { rate, values: entry.settings.iter().map(value).collect(), network }
    }

    /// The number of a setting that the optimizer's entry names.
    pub fn number(&self, key: &str) -> f64 {
        self.values[key]
    }

    /// The nearest count to a number.
    pub fn count(&self, key: &str) -> usize {
        self.values[key].round() as usize
    }

    /// Whether a setting of the entry is on.
    pub fn is_on(&self, key: &str) -> bool {
        self.values[key] != 0.0
    }
}

impl Entry {
    /// The optimizer with these settings.
    pub(super) fn build<T: Real>(&self, settings: &Settings) -> Box<dyn Optimizer<T>> {
        T::by_type::<Build>((self, settings))
    }
}

/// The constructors of an entry.
struct Build;

impl ByType for Build {
    type Input<'a, T: Real> = (&'a Entry, &'a Settings<'a>);
    type Output<'a, T: Real> = Box<dyn Optimizer<T>>;

    fn single((entry, settings): Self::Input<'_, f32>) -> Self::Output<'_, f32> {
        (entry.single)(settings)
    }

    fn double((entry, settings): Self::Input<'_, f64>) -> Self::Output<'_, f64> {
        (entry.double)(settings)
    }
}
