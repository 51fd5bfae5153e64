//! `taylorscope show`: what there is to start from.

use super::{
    UsageError,
    answer::{Answer, Status},
    options::Overwrite,
    output,
};
use crate::{
    files::write_atomically,
    optim::registry,
    study::experiment::{BUILT_IN, ExplorationSection, RegretSection},
    text::suggestion,
};
use anyhow::Context;
use clap::ValueHint;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Arguments {
    /// Built-in experiment to write as a file, ready to be edited [default: list them]
    #[arg(conflicts_with_all = ["optimizers", "keys"])]
    name: Option<String>,
    /// File to write to [default: standard output]
    #[arg(long, value_name = "FILE", requires = "name", value_hint = ValueHint::FilePath)]
    out: Option<PathBuf>,
    #[command(flatten)]
    overwrite: Overwrite,
    /// List the optimizers with their settings and defaults
    #[arg(long, conflicts_with = "keys")]
    optimizers: bool,
    /// List the keys of experiment files with their defaults
    #[arg(long)]
    keys: bool,
}

pub fn command(arguments: &Arguments) -> anyhow::Result<Answer> {
    let object = match &arguments.name {
        Some(name) => experiment(name, arguments)?,
        None if arguments.optimizers => optimizers()?,
        None if arguments.keys => keys()?,
        None => list()?,
    };
    Ok(Answer::new(Status::Done, object))
}

/// Names of the built-in experiments, each with the first comment of its file.
pub fn experiments() -> impl Iterator<Item = (&'static str, &'static str)> {
    BUILT_IN.iter().map(|(name, text)| (*name, text.lines().next().unwrap_or_default().trim_start_matches(['#', ' '])))
}

fn list() -> anyhow::Result<Value> {
    output::listed(&experiments().map(|(name, about)| vec![name.to_owned(), about.to_owned()]).collect::<Vec<_>>())?;
    let objects: Vec<Value> = experiments().map(|(name, about)| json!({ "name": name, "about": about })).collect();
    Ok(json!({ "experiments": objects }))
}

fn experiment(name: &str, arguments: &Arguments) -> anyhow::Result<Value> {
    let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) else {
        let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        let reason = format!("there is no built-in experiment \"{name}\"{}", suggestion(name, &names));
        return Err(UsageError(reason).into());
    };
    if let Some(path) = &arguments.out {
        if path.exists() && !arguments.overwrite.overwrite {
            let reason =
                format!("{} exists; choose another file with --out, or replace it with --overwrite", path.display());
            return Err(UsageError(reason).into());
        }
        write_atomically(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        output::line(format!("experiment: {}", path.display()))?;
    } else {
        output::line(text.trim_end())?;
    }
    Ok(json!({ "name": name, "file": arguments.out, "text": text }))
}

fn optimizers() -> anyhow::Result<Value> {
    let mut rows = Vec::new();
    let mut objects = Vec::new();
    for entry in registry() {
        let settings: Vec<String> = entry.settings.iter().map(|s| format!("{} = {:?}", s.name, s.default)).collect();
        let rate = format!("learning_rate = {:?}", entry.default_learning_rate);
        rows.push([&[entry.name.to_owned(), rate], &[settings.join(", ")][..]].concat());
        let ranges = |s: &crate::optim::Setting| json!({ "name": s.name, "default": s.default, "range": s.range });
        let settings: Vec<Value> = entry.settings.iter().map(ranges).collect();
        objects.push(json!({ "name": entry.name, "learning_rate": entry.default_learning_rate, "settings": settings }));
    }
    output::listed(&rows)?;
    output::line("every optimizer: schedule = \"constant\" (or \"inverse_sqrt\", \"cosine\"), warmup = 0 (rounds)")?;
    output::line(
        "--optimizer NAME takes these defaults; all settings are keys of [[optimizer]] in an experiment file",
    )?;
    Ok(json!({ "optimizers": objects }))
}

/// A key without a default.
const REQUIRED: &str = "required";

/// The keys of experiment files: name, default where the code does not tell it, meaning.
const KEYS: &[(&str, &str, &str)] = &[
    ("format", "1", "version of the format"),
    ("name", REQUIRED, "names the run directory"),
    ("seed", "0", "decides the initial weights and the order of the data"),
    ("rates_from", "-", "which search found the learning rates, in words"),
    ("data.dataset", REQUIRED, "a name of `taylorscope data list`, or images:DIR"),
    ("data.path", "-", "folder with the dataset's files"),
    ("data.standardize", "false", "mean 0 and standard deviation 1 per channel"),
    ("data.validation", "0", "training rows that are set aside for validation"),
    ("network.layers", REQUIRED, "list of dense, conv, relu, leaky_relu, abs, max_pool, avg_pool, flatten"),
    ("network.weights", "-", "safetensors file with the initial weights"),
    ("training.loss", REQUIRED, "mse or cross_entropy"),
    ("training.target", REQUIRED, "input (autoencoder, mse) or label (classifier, cross_entropy)"),
    ("training.batch_size", REQUIRED, "rows per minibatch"),
    ("training.epochs", REQUIRED, "passes over the training data"),
    ("training.precision", "f32", "f32 or f64: the type that is trained in"),
    ("training.stop_at_train_accuracy", "-", "training ends after the first epoch with this accuracy"),
    ("optimizer.name", REQUIRED, "a name of `taylorscope show --optimizers`; [[optimizer]] may be repeated"),
    ("optimizer.learning_rate", REQUIRED, "the step size"),
    ("regret.scales", "", "any of network, layer, neuron; [] leaves regret out"),
    ("regret.neurons", "all; with convolutions 4", "neurons per layer that are analysed"),
    ("regret.prefixes", "", "log-spaced prefix lengths at most"),
    ("regret.comparators", "", "what regret is measured against: ball, unconstrained"),
    ("regret.window", "", "rounds that are analysed, from the first: epoch, all or a number"),
    ("regret.rounds", "all", "analyse this many evenly spaced rounds of the window"),
    ("regret.ball_factor", "", "radius of the ball divided by the displacement of training"),
    ("regret.neuron_tolerance", "", "relative gap at which solvers stop at neuron scale"),
    ("regret.tolerance", "", "the same at layer and network scale"),
    ("regret.max_products", "", "work limit of each search at layer and network scale"),
    ("exploration.probe", "", "training rows whose activations are recorded; 0 leaves exploration out"),
    ("exploration.every", "", "rounds between recorded configurations: epoch, all or a number"),
    ("exploration.pool_winners", "", "also record which place wins in each window of each max-pool"),
];

/// The default of a key as the code has it; what `KEYS` says where it has none.
fn default_of(key: &str, told: &str) -> String {
    let sections = json!({ "regret": RegretSection::default(), "exploration": ExplorationSection::default() });
    let found = key.split('.').try_fold(&sections, |at, part| at.get(part));
    found.filter(|value| !value.is_null()).map_or(told.to_owned(), ToString::to_string)
}

fn keys() -> anyhow::Result<Value> {
    let rows: Vec<Vec<String>> = KEYS
        .iter()
        .map(|(key, told, about)| vec![(*key).to_owned(), default_of(key, told), (*about).to_owned()])
        .collect();
    let header = ["key", "default", "meaning"].map(str::to_owned).to_vec();
    output::listed(&[&[header], &rows[..]].concat())?;
    let objects: Vec<Value> =
        rows.iter().map(|row| json!({ "key": row[0], "default": row[1], "about": row[2] })).collect();
    Ok(json!({ "keys": objects }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::experiment::SECTIONS;

    #[test]
    fn every_key_of_experiment_files_is_listed_with_its_default() {
        let sections: Vec<&str> = SECTIONS.iter().map(|(section, _)| *section).chain(["optimizer"]).collect();
        let expected: Vec<String> = SECTIONS
            .iter()
            .flat_map(|(section, keys)| {
                let of = |key: &&str| if section.is_empty() { (*key).to_owned() } else { format!("{section}.{key}") };
                keys.iter().map(of).collect::<Vec<_>>()
            })
            .filter(|key| !sections.contains(&key.as_str()))
            .chain(["optimizer.name", "optimizer.learning_rate"].map(str::to_owned))
            .collect();
        let mut found: Vec<&str> = KEYS.iter().map(|(key, ..)| *key).collect();
        let mut expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
        for (key, told, about) in KEYS {
            assert!(!default_of(key, told).is_empty() && !about.is_empty(), "{key}");
        }
        assert_eq!(default_of("regret.prefixes", ""), RegretSection::default().prefixes.to_string());
    }

    #[test]
    fn every_built_in_experiment_says_what_it_is() {
        for (name, about) in experiments() {
            assert!(about.len() > 20 && about.ends_with('.'), "{name}: {about}");
        }
    }
}
