//! Experiment files: what to train and what to measure (`docs/formats.md`).
//!
//! - `sections`: the parts of a file, with their defaults; `words`: values that are a word or a number
//! - `built_in`: experiments that come with the program; `setting`: `section.key=value`
//! - `keys` and `check`: what a file may say; `error`: why it may not

mod built_in;
mod check;
mod error;
mod keys;
mod sections;
mod setting;
mod words;

pub use built_in::{BUILT_IN, source};
pub use error::ExperimentError;
pub use sections::{
    DataSection, ExplorationSection, NetworkSection, Precision, RegretSection, Sections, TrainingSection,
};
pub use setting::set;
pub use words::{Count, Span};

pub use check::MAX_EPOCHS;
#[cfg(test)]
pub(crate) use keys::SECTIONS;

use super::{labels, paths};
use crate::{optim::OptimizerConfig, text::suggestion};
use keys::{check_keys, check_required};
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
    let mut table = text.parse::<Table>().map_err(|e| ExperimentError::syntax(origin, e))?;
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
        return Err(ExperimentError::value(origin, "format", reason));
    }
    check_keys(&table, origin)?;
    check_required(&table, origin)?;
    let mut experiment: Experiment =
        Experiment::deserialize(Value::Table(table)).map_err(|e| ExperimentError::syntax(origin, e))?;
    experiment.regret.resolve(&experiment.network.layers);
    experiment.check(origin)?;
    Ok(experiment)
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
    let sections = Sections::deserialize(Value::Table(table)).map_err(|e| ExperimentError::syntax(origin, e))?;
    sections.regret.check(origin)?;
    Ok(sections)
}

impl Experiment {
    /// A folder name per optimizer ([`labels::labels`]).
    pub fn labels(&self) -> Vec<String> {
        labels::labels(&self.optimizer)
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
    use crate::study::tables::Scale;

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
