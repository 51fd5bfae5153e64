//! `taylorscope tune`.

use super::{
    answer::{Answer, Status},
    idle::in_idle,
    options::{Optimizers, Overwrite},
    output,
    progress::Progress,
    signals::{self, STOP},
    task::{Task, replace_optimizers, search_folder},
};
use crate::{
    report::study::tuning,
    study::{
        Experiment,
        campaign::CampaignOptions,
        tune::{TuneOptions, tune},
    },
};
use clap::ValueHint;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    task: Task,
    /// Folder to write to; a search that lies there is continued [default: runs/tune-NAME, or runs/tune-NAME-2, ... while
    /// other processes search there]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
    /// Seeds per learning rate
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// How often the spacing around the best rate is halved
    #[arg(long, value_name = "TIMES", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=8))]
    refine: u64,
    #[command(flatten)]
    optimizers: Optimizers,
    #[command(flatten)]
    overwrite: Overwrite,
}

pub fn command(arguments: &Arguments) -> anyhow::Result<Answer> {
    let mut experiment = arguments.task.begin()?;
    replace_optimizers(&mut experiment, &arguments.optimizers.optimizers)?;
    let found = in_idle(arguments.out.as_deref(), &search_folder(&experiment.name), |out| {
        let campaign = CampaignOptions {
            out,
            data: arguments.task.data(),
            seeds: arguments.seeds as usize,
            overwrite: arguments.overwrite.overwrite,
            stop: &STOP,
        };
        search(&experiment, &TuneOptions { campaign, refinements: arguments.refine as usize })
    })?;
    Ok(Answer::new(found.status, found.object))
}

/// What a search found.
pub struct Found {
    /// Whether the search was stopped.
    pub stopped: bool,
    pub status: Status,
    /// For `--json`.
    pub object: Value,
}

/// Searches, renders the report, prints both.
pub fn search(experiment: &Experiment, options: &TuneOptions) -> anyhow::Result<Found> {
    let out = options.campaign.out;
    let mut progress = Progress::new();
    signals::preparing();
    let search = tune(experiment, options, &|event| {
        signals::begun();
        progress.campaign("point", event);
    })?;
    if !search.complete {
        progress.finish();
        output::note(format!("stopped; the same command continues the search in {}", out.display()));
        let object = json!({ "folder": out, "status": "interrupted", "optimizers": [] });
        return Ok(Found { stopped: true, status: Status::Incomplete, object });
    }
    progress.begin("writing the report");
    let rendered = tuning(&experiment.name, &search, out)?;
    progress.finish();
    let mut rows = vec![["optimizer", "rate", "train loss", "rates tried", ""].map(str::to_owned).to_vec()];
    for tuned in &search.tuned {
        let note = match (tuned.learning_rate, tuned.at_end) {
            (None, _) => "every rate diverged",
            (_, true) => "at the end of the range searched",
            _ => "",
        };
        rows.push(vec![
            tuned.optimizer.clone(),
            tuned.learning_rate.map_or("-".to_owned(), |rate| rate.to_string()),
            tuned.train_loss.map_or("-".to_owned(), |loss| format!("{loss:.5}")),
            tuned.rates.to_string(),
            note.to_owned(),
        ]);
    }
    output::aligned(&rows)?;
    let experiment = out.join("tuned.toml");
    output::line(format!("report:     {}", rendered.html.display()))?;
    output::line(format!("experiment: {}", experiment.display()))?;
    let found = search.tuned.iter().all(|tuned| tuned.learning_rate.is_some());
    let object = json!({
        "folder": out,
        "status": "complete",
        "report": rendered.html,
        "experiment": experiment,
        "table": out.join("tune.csv"),
        "optimizers": search.tuned,
    });
    Ok(Found { stopped: false, status: Status::of(found), object })
}
