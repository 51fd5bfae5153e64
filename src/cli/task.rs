//! The options of every command that trains an experiment.

use super::options::{Data, Seed, Settings, Threads};
use crate::study::{
    Experiment,
    experiment::{MAX_EPOCHS, load},
};
use clap::ValueHint;
use std::path::Path;

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
