//! Flags that several commands have: the same name, text and meaning everywhere.

use super::{UsageError, checkpoint::Checkpoint, memory::Memory};
use crate::study::folder::Destination;
use clap::ValueHint;
use std::path::{Path, PathBuf};

/// More threads than any machine has; a larger number is a typing mistake.
const MAX_THREADS: usize = 1024;

#[derive(clap::Args)]
pub struct Data {
    /// Folder with the files of datasets; it is looked into before the cache
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    data: Option<PathBuf>,
}

impl Data {
    pub fn folder(&self) -> Option<&Path> {
        self.data.as_deref()
    }
}

#[derive(clap::Args)]
pub struct Threads {
    /// Threads to compute with [default: all cores]
    #[arg(long, value_name = "COUNT")]
    threads: Option<usize>,
}

impl Threads {
    /// Sets the number of threads for all parallel work.
    pub fn set(&self) -> anyhow::Result<()> {
        if self.threads.is_some_and(|threads| !(1..=MAX_THREADS).contains(&threads)) {
            return Err(UsageError(format!("--threads must lie between 1 and {MAX_THREADS}")).into());
        }
        // Zero stands for all cores. This thread is one of the pool's: rounds are short, and handing each to another
        // thread and waiting for it would take longer than many of their steps.
        rayon::ThreadPoolBuilder::new().num_threads(self.threads.unwrap_or(0)).use_current_thread().build_global()?;
        // faer's own threads would nest inside ours; every dense problem here is one of many.
        faer::set_global_parallelism(faer::Par::Seq);
        Ok(())
    }
}

#[derive(clap::Args)]
pub struct Overwrite {
    /// Replace the results of an earlier command in the folder
    #[arg(long)]
    pub overwrite: bool,
}

#[derive(clap::Args)]
pub struct Resume {
    /// Continue what is in the folder: an interrupted one from its last checkpoint, a complete run with more epochs, optimizers or
    /// measurements
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
}

/// Options of commands whose work takes long, so that it can be interrupted and continued.
#[derive(clap::Args)]
pub struct Lasting {
    #[command(flatten)]
    pub memory: Memory,
    #[command(flatten)]
    pub checkpoint: Checkpoint,
    #[command(flatten)]
    resume: Resume,
    #[command(flatten)]
    overwrite: Overwrite,
}

impl Lasting {
    pub fn resume(&self) -> bool {
        self.resume.resume
    }

    pub fn overwrite(&self) -> bool {
        self.overwrite.overwrite
    }

    /// The folder `out`; without one `default`, if what lies there is meant, else the first free one of that name.
    pub fn destination<'a>(&self, out: Option<&'a Path>, default: &'a Path) -> Destination<'a> {
        destination(out, default, self.resume() || self.overwrite())
    }
}

/// The folder `out`; without one `default`, if what lies there is `meant`, else the first free one of that name.
pub fn destination<'a>(out: Option<&'a Path>, default: &'a Path, meant: bool) -> Destination<'a> {
    match out {
        Some(out) => Destination::Folder(out),
        None if meant => Destination::Folder(default),
        None => Destination::FirstFree(default),
    }
}

#[derive(clap::Args)]
pub struct Seed {
    /// Seed of weights and data order [default: that of the experiment]
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: Option<u64>,
}

impl Seed {
    /// As a setting of an experiment.
    pub fn setting(&self) -> Option<String> {
        self.seed.map(|seed| format!("seed={seed}"))
    }
}

#[derive(clap::Args)]
pub struct Settings {
    /// Change a key of the experiment, e.g. --set regret.prefixes=10; repeatable. `taylorscope show --keys` lists the
    /// keys
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
}

#[derive(clap::Args)]
pub struct Optimizers {
    /// Optimizer, e.g. adam or adam:0.001 with its learning rate; repeatable; replaces those of the experiment.
    /// `taylorscope show --optimizers` lists them
    #[arg(long = "optimizer", value_name = "NAME[:RATE]")]
    pub optimizers: Vec<String>,
}

#[derive(clap::Args)]
pub struct Tuned {
    /// Take the learning rates that `taylorscope tune` found, from its folder DIR or, without one, from runs/tune-NAME
    #[arg(long, value_name = "DIR", num_args = 0..=1, value_hint = ValueHint::DirPath)]
    tuned: Option<Option<PathBuf>>,
}

impl Tuned {
    /// The folder of the search, if its rates are asked for; `default` is where the experiment's search lies unless
    /// told.
    pub fn folder(&self, default: PathBuf) -> Option<PathBuf> {
        self.tuned.as_ref().map(|folder| folder.clone().unwrap_or(default))
    }
}

/// Parses a positive number.
pub fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "write positive numbers, such as 0.5 or 1e-8".to_owned())
}
