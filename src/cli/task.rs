//! The options of every command that trains an experiment.

use crate::study::{
    Experiment,
    experiment::{parse, source},
};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Task {
    /// Built-in experiment or experiment file
    #[arg(default_value = "digits-autoencoder")]
    experiment: String,
    /// Folder with the dataset's files
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[arg(long)]
    epochs: Option<usize>,
    /// Threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Change any key of the experiment, e.g. --set regret.prefixes=10; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

impl Task {
    /// Sets the number of threads and reads the experiment with its settings and `more` of them.
    pub fn begin(&self, more: impl IntoIterator<Item = String>) -> anyhow::Result<Experiment> {
        super::set_threads(self.threads)?;
        let (text, origin) = source(&self.experiment)?;
        let mut settings = self.settings.clone();
        settings.extend(more);
        settings.extend(self.epochs.map(|epochs| format!("training.epochs={epochs}")));
        Ok(parse(&text, &origin, &settings)?)
    }

    pub fn data(&self) -> Option<&Path> {
        self.data.as_deref()
    }
}
