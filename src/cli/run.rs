//! `taylorscope run`.

use super::{
    answer::{Answer, Status},
    options::{Lasting, Optimizers, Tuned},
    output,
    progress::Progress,
    signals::{self, STOP},
    summary,
    task::{Task, replace_optimizers, search_folder, take_tuned},
};
use crate::{
    report,
    study::{Experiment, RunOptions, run::run, tables::RunStatus, train_only::train_only},
    train::Ending,
};
use clap::ValueHint;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    task: Task,
    /// Folder to write to [default: runs/NAME, or the first free one of runs/NAME-2, ...]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
    #[command(flatten)]
    optimizers: Optimizers,
    #[command(flatten)]
    tuned: Tuned,
    #[command(flatten)]
    lasting: Lasting,
    /// Keep weights and minibatches of every round in the folder OPTIMIZER/trace of the run
    #[arg(long)]
    keep_trace: bool,
    /// Only train: no analysis, no files; one line per optimizer
    #[arg(long)]
    train_only: bool,
}

pub fn command(arguments: &Arguments) -> anyhow::Result<Answer> {
    let experiment = experiment(arguments)?;
    if arguments.train_only {
        return plain(&experiment, arguments.task.data());
    }
    let default = PathBuf::from("runs").join(&experiment.name);
    let lasting = &arguments.lasting;
    let options = RunOptions {
        out: lasting.destination(arguments.out.as_deref(), &default),
        data: arguments.task.data(),
        keep_trace: arguments.keep_trace,
        overwrite: lasting.overwrite(),
        resume: lasting.resume(),
        checkpoint: lasting.checkpoint.interval(),
        memory: lasting.memory.bytes(),
        stop: &STOP,
    };
    let (_, status, object) = run_and_report(&experiment, &options)?;
    Ok(Answer::new(status, object))
}

/// Runs an experiment with progress, renders its report, prints both. Gives the folder, too.
pub fn run_and_report(experiment: &Experiment, options: &RunOptions) -> anyhow::Result<(PathBuf, Status, Value)> {
    let mut progress = Progress::new();
    signals::preparing();
    let ran = run(experiment, options, &mut |event| {
        signals::begun();
        progress.show(event)
    })?;
    signals::begun();
    progress.begin("writing the report");
    let folder = &ran.folder;
    let rendered = report::render(&[folder], folder)?;
    let object = summary::print(folder, &experiment.labels(), &rendered, &mut progress)?;
    Ok((folder.clone(), Status::of(ran.summary.status == RunStatus::Complete), object))
}

fn experiment(arguments: &Arguments) -> anyhow::Result<Experiment> {
    let mut experiment = arguments.task.begin()?;
    if let Some(folder) = arguments.tuned.folder(search_folder(&experiment.name)) {
        take_tuned(&mut experiment, &folder)?;
    }
    replace_optimizers(&mut experiment, &arguments.optimizers.optimizers)?;
    Ok(experiment)
}

fn plain(experiment: &Experiment, data: Option<&Path>) -> anyhow::Result<Answer> {
    let mut status = Status::Done;
    let mut progress = Progress::new();
    progress.begin("training");
    // Nothing is kept of it.
    signals::preparing();
    let all = train_only(experiment, data, &mut |text| output::note(text))?;
    progress.finish();
    let mut optimizers = Vec::new();
    for trained in all {
        let mut seconds = trained.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        let median = seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN);
        let (label, last, mean) = (&trained.label, trained.last_loss, trained.mean_loss);
        output::line(format!("{label:<16} {median:.3} s/epoch  last-100 loss {last:.5}  mean loss {mean:.5}"))?;
        let diverged = if let Ending::Diverged(what) = trained.ending { Some(what.to_string()) } else { None };
        if let Some(what) = &diverged {
            output::complain(format!("{label}: {what}; try a smaller learning rate"));
            status = Status::Incomplete;
        }
        optimizers.push(json!({
            "label": label,
            "status": if diverged.is_some() { "failed" } else { "complete" },
            "message": diverged,
            "seconds_per_epoch": median,
            "final_loss": last,
            "mean_loss": mean,
        }));
    }
    Ok(Answer::new(status, json!({ "name": experiment.name, "optimizers": optimizers })))
}
