//! `taylorscope tune`.

use super::{STOP, Status, output, run::replace_optimizers, task::Task};
use crate::{
    report::study::tuning,
    study::{
        Experiment,
        tune::{TuneEvent, TuneOptions, tune},
    },
};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    task: Task,
    /// Folder of the search; one that holds it already is continued [default: runs/tune-NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Seeds per learning rate
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// How often the spacing around the best rate is halved
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=8))]
    refine: u64,
    /// Optimizer; repeatable; replaces those of the experiment
    #[arg(long = "optimizer", value_name = "NAME")]
    optimizers: Vec<String>,
    /// Begin anew where the folder holds a search
    #[arg(long)]
    overwrite: bool,
}

pub fn command(arguments: &Arguments) -> anyhow::Result<Status> {
    let mut experiment = arguments.task.begin([])?;
    replace_optimizers(&mut experiment, &arguments.optimizers)?;
    let out = arguments.out.clone().unwrap_or_else(|| folder_of(&experiment.name));
    let options = TuneOptions {
        out: &out,
        data: arguments.task.data(),
        seeds: arguments.seeds as usize,
        refinements: arguments.refine as usize,
        overwrite: arguments.overwrite,
        stop: &STOP,
    };
    Ok(search(&experiment, &options)?.unwrap_or(Status::Incomplete))
}

/// Searches, renders the report, prints both. `None` if the search was stopped.
pub fn search(experiment: &Experiment, options: &TuneOptions) -> anyhow::Result<Option<Status>> {
    let out = options.out;
    let counter = output::Counter::new("points");
    let search = tune(experiment, options, &|event| match event {
        TuneEvent::Planned { points, known } => counter.plan(points, known),
        TuneEvent::Point { .. } => counter.count(),
    })?;
    counter.finish();
    if !search.complete {
        eprintln!("stopped; the same command continues the search in {}", out.display());
        return Ok(None);
    }
    let rendered = tuning(&experiment.name, &search, out)?;
    output::line(format!("{:<16} {:>10} {:>12} {:>6}", "optimizer", "rate", "train loss", "rates"))?;
    for tuned in &search.tuned {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.5}"));
        let rate = tuned.learning_rate.map_or("-".to_owned(), |rate| rate.to_string());
        let note = match (tuned.learning_rate, tuned.at_end) {
            (None, _) => "  every rate diverged",
            (_, true) => "  at the end of the range searched",
            _ => "",
        };
        let loss = number(tuned.train_loss);
        output::line(format!("{:<16} {rate:>10} {loss:>12} {:>6}{note}", tuned.optimizer, tuned.rates))?;
    }
    output::line(format!("report:     {}", rendered.html.display()))?;
    output::line(format!("experiment: {}", out.join("tuned.toml").display()))?;
    let found = search.tuned.iter().all(|tuned| tuned.learning_rate.is_some());
    Ok(Some(if found { Status::Done } else { Status::Incomplete }))
}

/// Where the search of an experiment lies by default; `run --tuned` looks there.
pub fn folder_of(name: &str) -> PathBuf {
    PathBuf::from("runs").join(format!("tune-{name}"))
}
