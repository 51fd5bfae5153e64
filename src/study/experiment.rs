//! Experiment files: what to train and what to measure (`docs/formats.md`).

use super::paths;
use crate::{
    loss::Loss,
    network::LayerSpec,
    optim::{OptimizerConfig, OptimizerError},
    study::tables::Scale,
    taylor::{Comparators, RegretSettings},
    text::suggestion,
    trace::TargetKind,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The version of the format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;

fn current_format() -> u32 {
    FORMAT
}

/// An experiment, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// Version of the format, [`FORMAT`] at most.
    #[serde(default = "current_format")]
    pub format: u32,
    pub name: String,
    #[serde(default)]
    pub seed: u64,
    /// Which search found the learning rates, in words; absent where nobody searched. Verdicts depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates_from: Option<String>,
    pub data: DataSection,
    pub network: NetworkSection,
    pub training: TrainingSection,
    pub optimizer: Vec<OptimizerConfig>,
    #[serde(default)]
    pub regret: RegretSection,
    #[serde(default)]
    pub exploration: ExplorationSection,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataSection {
    pub dataset: String,
    /// Folder with the dataset's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Give each channel mean 0 and standard deviation 1 over the training set.
    #[serde(default)]
    pub standardize: bool,
    /// Rows at the end of the training set that are set aside for validation.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub validation: usize,
}

fn is_zero(rows: &usize) -> bool {
    *rows == 0
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkSection {
    pub layers: Vec<LayerSpec>,
    /// Initial weights from a safetensors file with PyTorch's names, instead of He-uniform ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
}

/// The floating-point type that is trained in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    #[default]
    F32,
    F64,
}

impl Precision {
    /// Of a number.
    pub fn bytes(self) -> usize {
        match self {
            Precision::F32 => size_of::<f32>(),
            Precision::F64 => size_of::<f64>(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingSection {
    pub loss: Loss,
    pub target: TargetKind,
    pub batch_size: usize,
    pub epochs: usize,
    #[serde(default)]
    pub precision: Precision,
    /// Training ends after the first epoch with at least this accuracy on the training set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_at_train_accuracy: Option<f64>,
}

/// `"all"` or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    All,
    Number(usize),
}

/// `"epoch"`, `"all"` or a number of rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    Epoch,
    All,
    Rounds(usize),
}

impl Span {
    /// In rounds.
    pub fn rounds(self, per_epoch: usize) -> usize {
        match self {
            Span::Epoch => per_epoch,
            Span::All => usize::MAX,
            Span::Rounds(rounds) => rounds,
        }
    }
}

macro_rules! word_or_number {
    ($type:ident, $expecting:literal, $number:path, { $($word:literal => $variant:path),* }) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match *self {
                    $($variant => serializer.serialize_str($word),)*
                    $number(n) => serializer.serialize_u64(n as u64),
                }
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<$type, E> {
                        match word {
                            $($word => Ok($variant),)*
                            other => Err(E::custom(format!("\"{other}\" is not {}", $expecting))),
                        }
                    }

                    fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<$type, E> {
                        match n {
                            1.. => Ok($number(n as usize)),
                            _ => Err(E::custom(format!("{n} is not {}", $expecting))),
                        }
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
    };
}

word_or_number!(Count, "\"all\" or a number from 1", Count::Number, { "all" => Count::All });
word_or_number!(
    Span,
    "\"epoch\", \"all\" or a number of rounds from 1",
    Span::Rounds,
    { "epoch" => Span::Epoch, "all" => Span::All }
);

impl Serialize for Comparators {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Comparators::Auto => serializer.serialize_str("auto"),
            Comparators::Chosen(comparators) => comparators.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Comparators {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Comparators;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"auto\" or a list of \"ball\" and \"unconstrained\"")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Comparators, E> {
                match word {
                    "auto" => Ok(Comparators::Auto),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, list: A) -> Result<Comparators, A::Error> {
                Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(list)).map(Comparators::Chosen)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Neurons per layer that are analysed in networks with convolutions, unless the experiment says otherwise.
const FILTERS: usize = 4;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegretSection {
    pub scales: Vec<Scale>,
    /// Neurons per layer; without it all, or a few in networks with convolutions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neurons: Option<Count>,
    pub prefixes: usize,
    pub comparators: Comparators,
    /// Rounds analysed at layer and network scale.
    pub window: Span,
    /// Of the window, this many evenly spaced rounds; all without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<usize>,
    pub ball_factor: f64,
    pub neuron_tolerance: f64,
    pub tolerance: f64,
    pub max_products: usize,
}

impl Default for RegretSection {
    fn default() -> Self {
        let settings = RegretSettings::default();
        Self {
            scales: settings.scales,
            neurons: None,
            prefixes: settings.prefixes,
            comparators: settings.comparators,
            window: Span::Epoch,
            rounds: None,
            ball_factor: settings.ball_factor,
            neuron_tolerance: settings.neuron_tolerance,
            tolerance: settings.tolerance,
            max_products: settings.max_products,
        }
    }
}

impl RegretSection {
    /// Fills in the neurons per layer, which depend on the layers.
    fn resolve(&mut self, layers: &[LayerSpec]) {
        let convolutional = layers.iter().any(|layer| matches!(layer, LayerSpec::Conv { .. }));
        self.neurons.get_or_insert(if convolutional { Count::Number(FILTERS) } else { Count::All });
    }

    /// The settings of the analysis of a network with these layers, with the window in rounds.
    pub fn settings(&self, rounds_per_epoch: usize, layers: &[LayerSpec]) -> RegretSettings {
        let mut resolved = self.clone();
        resolved.resolve(layers);
        RegretSettings {
            scales: self.scales.clone(),
            comparators: self.comparators.clone(),
            neurons: match resolved.neurons {
                None | Some(Count::All) => None,
                Some(Count::Number(n)) => Some(n),
            },
            prefixes: self.prefixes,
            window: self.window.rounds(rounds_per_epoch),
            rounds: self.rounds,
            ball_factor: self.ball_factor,
            neuron_tolerance: self.neuron_tolerance,
            tolerance: self.tolerance,
            max_products: self.max_products,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExplorationSection {
    /// Datapoints of the probe set; 0 turns exploration off.
    pub probe: usize,
    /// Rounds between recorded configurations.
    pub every: Span,
    /// Whether the winners of max-pools are recorded, too.
    pub pool_winners: bool,
}

impl Default for ExplorationSection {
    fn default() -> Self {
        Self { probe: 2000, every: Span::Epoch, pool_winners: false }
    }
}

/// An experiment that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    #[error("there is no built-in experiment \"{name}\" and no file of that name{suggestion}")]
    Unknown { name: String, suggestion: String },
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{origin}: {reason}")]
    Syntax { origin: String, reason: String },
    #[error("{origin}: unknown key \"{key}\" in {section}{suggestion}")]
    UnknownKey { origin: String, key: String, section: String, suggestion: String },
    #[error("{origin}: {key}: {reason}")]
    Value { origin: String, key: &'static str, reason: String },
    #[error("{origin}: {source}")]
    Optimizer { origin: String, source: OptimizerError },
    #[error("--set {setting}: {reason}; write for example --set training.epochs=3")]
    Setting { setting: String, reason: String },
}

/// Epochs at most, so that rounds can be counted.
pub(crate) const MAX_EPOCHS: usize = 1_000_000;

/// The experiments that come with the program: name and text.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("digits-autoencoder", include_str!("../../experiments/digits-autoencoder.toml")),
    ("digits-classifier", include_str!("../../experiments/digits-classifier.toml")),
    ("digits-convnet", include_str!("../../experiments/digits-convnet.toml")),
    ("mnist-autoencoder", include_str!("../../experiments/mnist-autoencoder.toml")),
    ("mnist-convnet", include_str!("../../experiments/mnist-convnet.toml")),
    ("cifar10-convnet", include_str!("../../experiments/cifar10-convnet.toml")),
];

/// The keys of each section.
pub(crate) const SECTIONS: &[(&str, &[&str])] = &[
    (
        "",
        &["format", "name", "seed", "rates_from", "data", "network", "training", "optimizer", "regret", "exploration"],
    ),
    ("data", &["dataset", "path", "standardize", "validation"]),
    ("network", &["layers", "weights"]),
    ("training", &["loss", "target", "batch_size", "epochs", "precision", "stop_at_train_accuracy"]),
    (
        "regret",
        &[
            "scales",
            "neurons",
            "prefixes",
            "comparators",
            "window",
            "rounds",
            "ball_factor",
            "neuron_tolerance",
            "tolerance",
            "max_products",
        ],
    ),
    ("exploration", &["probe", "every", "pool_winners"]),
];

/// The text of a built-in experiment or of a file, and what to call it in messages.
pub fn source(name_or_path: &str) -> Result<(String, String), ExperimentError> {
    if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == name_or_path) {
        return Ok(((*text).to_owned(), (*name).to_owned()));
    }
    let path = Path::new(name_or_path);
    if !path.exists() && path.extension().is_none() {
        let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        let suggestion = suggestion(name_or_path, &names);
        return Err(ExperimentError::Unknown { name: name_or_path.into(), suggestion });
    }
    if path.is_dir() {
        let reason = format!("it is a folder; name a file, such as {}", path.join("experiment.toml").display());
        return Err(ExperimentError::Read { path: path.to_owned(), source: std::io::Error::other(reason) });
    }
    let text =
        std::fs::read_to_string(path).map_err(|source| ExperimentError::Read { path: path.to_owned(), source })?;
    Ok((text, name_or_path.to_owned()))
}

/// Sets `section.key=value` in a parsed file; the value is TOML, or text if it is none.
pub fn set(table: &mut Table, setting: &str) -> Result<(), ExperimentError> {
    let fail = |reason: &str| ExperimentError::Setting { setting: setting.into(), reason: reason.into() };
    let (key, value) = setting.split_once('=').ok_or_else(|| fail("has no \"=\""))?;
    let parsed = |value: &str| format!("v = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("v"));
    // Shells take the quotes out of lists.
    let listed = || value.trim_start().starts_with(['[', '{']).then(|| parsed(&quoted(value))).flatten();
    let value = parsed(value).or_else(listed).unwrap_or_else(|| Value::String(value.to_owned()));
    let mut path: Vec<&str> = key.trim().split('.').collect();
    let last = path.pop().unwrap_or_default();
    let mut at = table;
    for part in path {
        let entry = at.entry(part).or_insert_with(|| Value::Table(Table::new()));
        at = entry.as_table_mut().ok_or_else(|| {
            fail(match part {
                "optimizer" => "optimizers are a list; replace it with --optimizer NAME:RATE, or edit the file",
                _ => "does not name a key of a section",
            })
        })?;
    }
    at.insert(last.to_owned(), value);
    Ok(())
}

/// A TOML value with quotes around its bare words, which are no keys: `[layer, {dense=3}]` is `["layer", {dense=3}]`.
fn quoted(value: &str) -> String {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || "_-.+:/".contains(c);
    let mut text = String::with_capacity(value.len() + 8);
    let mut rest = value;
    while let Some(first) = rest.chars().next() {
        let (end, bare) = match first {
            '"' | '\'' => (rest[1..].find(first).map_or(rest.len(), |at| at + 2), false),
            c if part_of_word(c) => (rest.find(|c| !part_of_word(c)).unwrap_or(rest.len()), true),
            c => (c.len_utf8(), false),
        };
        let (word, behind) = rest.split_at(end);
        let is_key = behind.trim_start().starts_with('=');
        // Numbers and truth values are values by themselves.
        let is_value = format!("v = {word}").parse::<Table>().is_ok();
        if bare && !is_key && !is_value {
            text.extend(["\"", word, "\""]);
        } else {
            text.push_str(word);
        }
        rest = behind;
    }
    text
}

/// Reads and checks a built-in experiment or a file, with `settings`, which are `section.key=value`. Relative paths in the file are
/// relative to its folder, those in settings to the current one; all are absolute in what comes of it.
pub fn load(name_or_path: &str, settings: &[String]) -> Result<Experiment, ExperimentError> {
    let (text, origin) = source(name_or_path)?;
    let folder = Path::new(name_or_path).parent().unwrap_or(Path::new(""));
    parse_in(Some(folder), &text, &origin, settings)
}

/// Parses and checks an experiment. `origin` is the file's name for messages, `settings` are `section.key=value`. Paths stay as they
/// are.
pub fn parse(text: &str, origin: &str, settings: &[String]) -> Result<Experiment, ExperimentError> {
    parse_in(None, text, origin, settings)
}

fn parse_in(
    folder: Option<&Path>,
    text: &str,
    origin: &str,
    settings: &[String],
) -> Result<Experiment, ExperimentError> {
    let syntax = |e: &dyn std::fmt::Display| ExperimentError::Syntax {
        origin: origin.into(),
        reason: e.to_string().trim_end().to_owned(),
    };
    let mut table = text.parse::<Table>().map_err(|e| syntax(&e))?;
    if let Some(folder) = folder {
        paths::make_absolute(&mut table, folder);
    }
    for setting in settings {
        set(&mut table, setting)?;
        // The rates of a search belong to the task that was searched.
        if ["data.", "network.", "training.", "optimizer"]
            .iter()
            .any(|section| setting.trim_start().starts_with(section))
        {
            table.remove("rates_from");
        }
    }
    if folder.is_some() {
        // What settings brought.
        paths::make_absolute(&mut table, Path::new(""));
    }
    // Before its keys: a newer format may well have others.
    if table.get("format").and_then(Value::as_integer).is_some_and(|found| found > i64::from(FORMAT)) {
        let reason = format!("this version reads formats up to {FORMAT}; get a newer taylorscope");
        return Err(ExperimentError::Value { origin: origin.into(), key: "format", reason });
    }
    check_keys(&table, origin)?;
    check_required(&table, origin)?;
    let mut experiment: Experiment = Experiment::deserialize(Value::Table(table)).map_err(|e| syntax(&e))?;
    experiment.regret.resolve(&experiment.network.layers);
    experiment.check(origin)?;
    Ok(experiment)
}

/// What to measure of a run that was trained already.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sections {
    pub regret: RegretSection,
    pub exploration: ExplorationSection,
}

/// The sections that say what to measure: those of an experiment, given as its text and its name for messages, else
/// `defaults`; each with `settings`, which are `section.key=value`.
pub fn sections(
    experiment: Option<(&str, &str)>,
    defaults: &Sections,
    settings: &[String],
) -> Result<Sections, ExperimentError> {
    if let Some((text, origin)) = experiment {
        let Experiment { regret, exploration, .. } = parse(text, origin, settings)?;
        return Ok(Sections { regret, exploration });
    }
    let origin = "--set";
    let syntax = |e: &dyn std::fmt::Display| ExperimentError::Syntax {
        origin: origin.into(),
        reason: e.to_string().trim_end().to_owned(),
    };
    let mut table = Table::try_from(defaults).expect("sections are always expressible as TOML");
    for setting in settings {
        set(&mut table, setting)?;
    }
    let names = ["regret", "exploration"];
    if let Some(key) = table.keys().find(|key| !names.contains(&key.as_str())) {
        return Err(ExperimentError::UnknownKey {
            origin: origin.into(),
            key: key.clone(),
            section: "an analysis".into(),
            suggestion: suggestion(key, &names),
        });
    }
    check_keys(&table, origin)?;
    let sections = Sections::deserialize(Value::Table(table)).map_err(|e| syntax(&e))?;
    sections.regret.check(origin)?;
    Ok(sections)
}

fn check_keys(table: &Table, origin: &str) -> Result<(), ExperimentError> {
    for (section, known) in SECTIONS {
        let part = if section.is_empty() { Some(table) } else { table.get(*section).and_then(Value::as_table) };
        for key in part.into_iter().flat_map(Table::keys) {
            if !known.contains(&key.as_str()) {
                return Err(ExperimentError::UnknownKey {
                    origin: origin.into(),
                    key: key.clone(),
                    section: if section.is_empty() { "the file".into() } else { format!("[{section}]") },
                    suggestion: elsewhere(key).unwrap_or_else(|| suggestion(key, known)),
                });
            }
        }
    }
    Ok(())
}

/// The suggestion for a key that is one of another section.
fn elsewhere(key: &str) -> Option<String> {
    let (section, _) = SECTIONS.iter().find(|(section, keys)| !section.is_empty() && keys.contains(&key))?;
    Some(format!("; did you mean \"{section}.{key}\"?"))
}

/// What every file has, by section.
const REQUIRED: &[(&str, &[&str])] = &[
    ("", &["name"]),
    ("data", &["dataset"]),
    ("network", &["layers"]),
    ("training", &["loss", "target", "batch_size", "epochs"]),
    ("optimizer", &["name", "learning_rate"]),
];

/// Names all that a file lacks, not only the first.
fn check_required(table: &Table, origin: &str) -> Result<(), ExperimentError> {
    let mut missing: Vec<String> = Vec::new();
    for (section, keys) in REQUIRED {
        let parts: Vec<Option<&Table>> = match table.get(*section) {
            _ if section.is_empty() => vec![Some(table)],
            // A list of tables, or something else whose type is wrong.
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_table).map(Some).collect(),
            Some(Value::Table(part)) => vec![Some(part)],
            Some(_) => vec![],
            None => vec![None],
        };
        for key in *keys {
            let name = if section.is_empty() { (*key).to_owned() } else { format!("{section}.{key}") };
            if parts.iter().any(|part| part.is_none_or(|part| !part.contains_key(*key))) {
                missing.push(name);
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let reason =
        format!("missing {}; `taylorscope show digits-autoencoder` prints a complete file", missing.join(", "));
    Err(ExperimentError::Syntax { origin: origin.into(), reason })
}

impl Experiment {
    /// Checks what types cannot: ranges, and names of optimizers.
    pub fn check(&self, origin: &str) -> Result<(), ExperimentError> {
        let fail =
            |key, reason: &str| Err(ExperimentError::Value { origin: origin.into(), key, reason: reason.into() });
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.format == 0 {
            return fail("format", "must be 1");
        }
        if self.name.is_empty() || !self.name.chars().all(plain) || self.name.starts_with('.') {
            return fail("name", "must consist of letters, digits, '-', '_' and '.', as it names a folder");
        }
        if self.training.batch_size == 0 {
            return fail("training.batch_size", "must be at least 1");
        }
        if !(1..=MAX_EPOCHS).contains(&self.training.epochs) {
            return fail("training.epochs", "must be at least 1, and at most a million");
        }
        if i64::try_from(self.seed).is_err() {
            return fail("seed", "must be below 2^63, as TOML knows no larger integers");
        }
        match (self.training.loss, self.training.target) {
            (Loss::Mse, TargetKind::Label) => {
                return fail("training.target", "\"label\" needs loss = \"cross_entropy\"");
            }
            (Loss::CrossEntropy, TargetKind::Input) => {
                return fail("training.target", "\"input\" needs loss = \"mse\"");
            }
            _ => {}
        }
        if let Some(accuracy) = self.training.stop_at_train_accuracy {
            if self.training.target != TargetKind::Label {
                return fail(
                    "training.stop_at_train_accuracy",
                    "needs target = \"label\": only classifiers have an accuracy",
                );
            }
            if !(accuracy > 0.0 && accuracy <= 1.0) {
                return fail("training.stop_at_train_accuracy", "must lie between 0 and 1, for example 0.99");
            }
        }
        if self.optimizer.is_empty() {
            return fail("optimizer", "name at least one: [[optimizer]] name = \"sgd\" learning_rate = 0.1");
        }
        for config in &self.optimizer {
            config.check().map_err(|source| ExperimentError::Optimizer { origin: origin.into(), source })?;
        }
        self.regret.check(origin)
    }
}

impl RegretSection {
    /// Checks what types cannot.
    fn check(&self, origin: &str) -> Result<(), ExperimentError> {
        let fail =
            |key, reason: &str| Err(ExperimentError::Value { origin: origin.into(), key, reason: reason.into() });
        let regret = self;
        if regret.prefixes == 0 {
            return fail("regret.prefixes", "must be at least 1");
        }
        let chosen = match &regret.comparators {
            Comparators::Auto => None,
            Comparators::Chosen(comparators) => Some(comparators.clone()),
        };
        if !regret.scales.is_empty() && chosen.as_ref().is_some_and(Vec::is_empty) {
            return fail(
                "regret.comparators",
                "name \"ball\", \"unconstrained\" or both, or write \"auto\"; or set scales = []",
            );
        }
        let repeated = |count: usize, distinct: usize| count != distinct;
        let (mut scales, mut comparators) = (regret.scales.clone(), chosen.clone().unwrap_or_default());
        scales.sort();
        scales.dedup();
        comparators.sort();
        comparators.dedup();
        if repeated(regret.scales.len(), scales.len()) {
            return fail("regret.scales", "names a scale twice");
        }
        if repeated(chosen.map_or(0, |chosen| chosen.len()), comparators.len()) {
            return fail("regret.comparators", "names a comparator twice");
        }
        if !(regret.ball_factor > 0.0 && regret.ball_factor.is_finite()) {
            return fail("regret.ball_factor", "must be a positive number");
        }
        for (key, value) in
            [("regret.tolerance", regret.tolerance), ("regret.neuron_tolerance", regret.neuron_tolerance)]
        {
            if !(1e-12..1.0).contains(&value) {
                return fail(key, "must lie between 1e-12 and 1");
            }
        }
        if regret.rounds == Some(0) {
            return fail("regret.rounds", "must be at least 1; leave it out to analyse every round of the window");
        }
        if regret.max_products == 0 {
            return fail("regret.max_products", "must be at least 1");
        }
        Ok(())
    }
}

impl Experiment {
    /// A folder name per optimizer ([`labels`](super::labels::labels)).
    pub fn labels(&self) -> Vec<String> {
        super::labels::labels(&self.optimizer)
    }

    /// What decides about results, but for the optimizers: as a table, without the places of files and without who searched the rates.
    pub fn comparable(&self) -> Table {
        let mut experiment = Self { optimizer: Vec::new(), rates_from: None, ..self.clone() };
        experiment.data.path = None;
        experiment.data.dataset = paths::without_folder(&experiment.data.dataset).to_owned();
        experiment.network.weights = self.network.weights.as_ref().map(|_| PathBuf::from("a file"));
        Table::try_from(experiment).expect("an experiment is always expressible as TOML")
    }

    /// The experiment as a file again, all defaults written out.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("an experiment is always expressible as TOML")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built_in(settings: &[&str]) -> Result<Experiment, ExperimentError> {
        let (text, origin) = source("digits-autoencoder").unwrap();
        parse(&text, &origin, &settings.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn built_in_experiments_parse_and_survive_a_round_trip() {
        for (name, text) in BUILT_IN {
            let experiment = parse(text, name, &[]).unwrap();
            assert_eq!(experiment.name, *name);
            assert_eq!(parse(&experiment.to_toml(), name, &[]).unwrap(), experiment);
        }
    }

    #[test]
    fn mistakes_are_named_with_the_nearest_valid_name() {
        for (setting, expected) in [
            ("regret.prefxies=3", "did you mean \"prefixes\""),
            ("training.batchsize=3", "did you mean \"batch_size\""),
            ("training.loss=\"msee\"", "mse"),
            ("network.layers=[{ dnse = 3 }]", "did you mean \"dense\""),
            ("network.layers=[\"rely\"]", "did you mean \"relu\""),
            ("network.layers=[\"gelu\"]", "not piecewise linear"),
            ("training.epochs=0", "at least 1"),
            ("training.batch_size=-1", "training"),
            ("regret.tolerance=nan", "between"),
            ("regret.neurons=0", "from 1"),
            ("regret.scales=[\"layer\", \"layer\"]", "twice"),
            ("training.target=\"label\"", "cross_entropy"),
            ("name=\"../up\"", "letters"),
            ("training.stop_at_train_accuracy=0.9", "only classifiers"),
            ("data.validaton=3", "did you mean \"validation\""),
            ("nonsense", "has no \"=\""),
            ("comparators=[\"ball\"]", "did you mean \"regret.comparators\"?"),
            ("format=2", "newer taylorscope"),
            ("format=0", "must be 1"),
        ] {
            let error = built_in(&[setting]).expect_err(setting).to_string();
            assert!(error.contains(expected), "{setting}: {error}");
        }
        assert!(source("digits-autoencodr").unwrap_err().to_string().contains("did you mean"));
    }

    #[test]
    fn lists_may_lack_the_quotes_that_a_shell_takes_out() {
        let layers = "network.layers=[{dense=5}, relu, {leaky_relu = 0.1}, \"abs\", { dense = 64 }]";
        assert_eq!(built_in(&["regret.scales=[neuron,layer]"]).unwrap().regret.scales, [Scale::Neuron, Scale::Layer]);
        assert_eq!(quoted("[{dense=5}, relu, \"abs\", 1e-3, true]"), "[{dense=5}, \"relu\", \"abs\", 1e-3, true]");
        assert_eq!(quoted("[\u{e9}, 'a b'"), "[\u{e9}, 'a b'");
        let found = built_in(&[layers]).map(|experiment| experiment.network.layers.len());
        assert_eq!(found.map_err(|error| error.to_string()), Ok(5));
        let wrong = built_in(&["regret.scales=[neurn]"]).unwrap_err().to_string();
        assert!(wrong.contains("neurn"), "{wrong}");
    }

    #[test]
    fn everything_that_a_file_lacks_is_named() {
        let error = parse("name = \"x\"\n[training]\nloss = \"mse\"\n", "x.toml", &[]).unwrap_err().to_string();
        for key in ["data.dataset", "network.layers", "training.target", "training.epochs", "optimizer.name"] {
            assert!(error.contains(key), "{key}: {error}");
        }
        assert!(!error.contains("training.loss") && !error.contains(" name,"), "{error}");
        let error = built_in(&["optimizer=[{name=\"sgd\"}]"]).unwrap_err().to_string();
        assert!(error.contains("missing optimizer.learning_rate;"), "{error}");
    }

    #[test]
    fn sections_without_an_experiment_are_checked_alike() {
        let sections = |settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
            sections(None, &Sections::default(), &settings)
        };
        assert_eq!(sections(&[]).unwrap(), Sections::default());
        let found = sections(&["regret.window=7", "regret.scales=[\"layer\"]", "exploration.every=3"]).unwrap();
        assert_eq!((found.regret.window, found.regret.scales), (Span::Rounds(7), vec![Scale::Layer]));
        assert_eq!(found.exploration, ExplorationSection { every: Span::Rounds(3), ..Default::default() });
        for (setting, expected) in [
            ("regret.prefxies=3", "did you mean \"prefixes\""),
            ("exploration.prob=3", "did you mean \"probe\""),
            ("regret.tolerance=nan", "between"),
            ("training.epochs=3", "\"training\" in an analysis"),
            ("regret=3", "--set"),
            ("nonsense", "has no \"=\""),
        ] {
            let error = sections(&[setting]).expect_err(setting).to_string();
            assert!(error.contains(expected), "{setting}: {error}");
        }
    }
}
