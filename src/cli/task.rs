//! What every command that trains an experiment has: its options, and the optimizers that take the place of the experiment's.

use super::{
    UsageError,
    options::{Data, Seed, Settings, Threads},
};
use crate::{
    optim::OptimizerConfig,
    study::{
        Experiment,
        experiment::{BUILT_IN, MAX_EPOCHS, load},
        tune::{self, searched},
    },
};
use clap::ValueHint;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Task {
    /// Built-in experiment (`taylorscope show` lists them) or experiment file
    #[arg(default_value = "digits-autoencoder", value_hint = ValueHint::AnyPath)]
    experiment: String,
    #[command(flatten)]
    data: Data,
    /// Passes over the training data [default: those of the experiment]
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true, value_parser = epochs)]
    epochs: Option<usize>,
    #[command(flatten)]
    seed: Seed,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    settings: Settings,
}

impl Task {
    /// Sets the number of threads and reads the experiment with its settings.
    pub fn begin(&self) -> anyhow::Result<Experiment> {
        self.threads.set()?;
        let mut settings = self.settings.settings.clone();
        settings.extend(self.seed.setting());
        settings.extend(self.epochs.map(|epochs| format!("training.epochs={epochs}")));
        Ok(load(&self.experiment, &settings)?)
    }

    pub fn data(&self) -> Option<&Path> {
        self.data.folder()
    }
}

/// Parses a number of epochs.
fn epochs(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|epochs| (1..=MAX_EPOCHS).contains(epochs));
    number.ok_or_else(|| "write a whole number from 1, such as 3; at most a million".to_owned())
}

/// Where the search of an experiment's learning rates lies by default; `run --tuned` looks there.
pub fn search_folder(name: &str) -> PathBuf {
    PathBuf::from("runs").join(format!("tune-{name}"))
}

/// Puts the optimizers of `--optimizer`, if there are any, in the place of the experiment's.
pub fn replace_optimizers(experiment: &mut Experiment, optimizers: &[String]) -> anyhow::Result<()> {
    if !optimizers.is_empty() {
        experiment.optimizer = optimizers.iter().map(|text| optimizer(text)).collect::<anyhow::Result<_>>()?;
        experiment.rates_from = None;
        experiment.check("--optimizer")?;
    }
    Ok(())
}

/// Takes the optimizers that were tuned in `folder`, for the same task. The rates count as searched for only if it was searched as it is.
pub fn take_tuned(experiment: &mut Experiment, folder: &Path) -> anyhow::Result<()> {
    let path = folder.join("tuned.toml");
    let usage = |reason: String| UsageError(format!("{}: {reason}", path.display()));
    // `run --tuned my.toml` takes the experiment for the folder.
    let is_experiment = folder.is_file() || BUILT_IN.iter().any(|(name, _)| Path::new(name) == folder);
    if is_experiment && !path.exists() {
        let reason = format!("{} is not the folder of a search; name the experiment before --tuned", folder.display());
        return Err(UsageError(reason).into());
    }
    if !path.exists() {
        let reason = "there is no finished search; run `taylorscope tune` on this experiment first, or name its folder";
        return Err(usage(format!("{reason} with --tuned=DIR")).into());
    }
    refuse_unstable(folder, &path)?;
    let tuned = load(&path.display().to_string(), &[])?;
    let task = |e: &Experiment| (e.data.clone(), e.network.clone(), e.training.loss, e.training.batch_size);
    if task(&tuned) != task(&*experiment) {
        let reason = "its rates are those of another dataset, network, loss or batch size; tune this experiment";
        return Err(usage(reason.to_owned()).into());
    }
    experiment.rates_from = (tuned.training == experiment.training).then(|| searched(experiment));
    experiment.optimizer = tuned.optimizer;
    Ok(())
}

/// Fails if the search in `folder` ended without a rate for some optimizer: `tuned` then has the rate that it began with.
fn refuse_unstable(folder: &Path, tuned: &Path) -> anyhow::Result<()> {
    let path = folder.join("tuned.json");
    let Ok(bytes) = std::fs::read(&path) else { return Ok(()) };
    let found: Vec<tune::Tuned> = serde_json::from_slice(&bytes).map_err(|error| {
        UsageError(format!("{}: not what a search writes ({error}); repeat `taylorscope tune`", path.display()))
    })?;
    let lost: Vec<&tune::Tuned> = found.iter().filter(|found| found.learning_rate.is_none()).collect();
    let Some(rates) = lost.iter().map(|found| found.rates).max() else { return Ok(()) };
    let names = lost.iter().map(|found| &found.optimizer[..]).collect::<Vec<_>>().join(", ");
    let reason = format!(
        "{}: the search found no stable learning rate for {names}, as training diverged at nearly all of the {rates} it tried; look at \
         the initial weights (network.weights) and the scale of the data, or tune without {names} (--optimizer)",
        tuned.display()
    );
    Err(UsageError(reason).into())
}

/// Parses `NAME[:RATE]`.
fn optimizer(text: &str) -> anyhow::Result<OptimizerConfig> {
    let Some((name, rate)) = text.split_once(':') else { return Ok(OptimizerConfig::named(text, None)?) };
    let reason = match rate.parse::<f64>() {
        Ok(rate) if (0.0..=1e30).contains(&rate) => return Ok(OptimizerConfig::named(name, Some(rate))?),
        Ok(_) => "no learning rate; write a positive number",
        Err(_) => "not a number; write one",
    };
    Err(UsageError(format!("--optimizer {text}: \"{rate}\" is {reason}, such as adam:0.001")).into())
}
