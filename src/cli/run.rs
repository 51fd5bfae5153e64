//! `taylorscope run`.

use super::{
    UsageError,
    answer::{Answer, Status},
    checkpoint::Checkpoint,
    memory::Memory,
    options::{Optimizers, Overwrite, Resume, Tuned},
    output,
    progress::Progress,
    signals::{self, STOP},
    task::Task,
    tune,
};
use crate::{
    optim::OptimizerConfig,
    report,
    study::{
        Experiment, RunOptions,
        experiment::{BUILT_IN, load},
        folder::Destination,
        run::run,
        tables::RunStatus,
        train_only::train_only,
        tune::{self as search, searched},
    },
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
    memory: Memory,
    #[command(flatten)]
    checkpoint: Checkpoint,
    #[command(flatten)]
    resume: Resume,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Keep weights and minibatches of every round in the folder <optimizer>/trace of the run
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
    let (resume, overwrite) = (arguments.resume.resume, arguments.overwrite.overwrite);
    let out = match &arguments.out {
        Some(out) => Destination::Folder(out),
        None if resume || overwrite => Destination::Folder(&default),
        None => Destination::FirstFree(&default),
    };
    let options = RunOptions {
        out,
        data: arguments.task.data(),
        keep_trace: arguments.keep_trace,
        overwrite,
        resume,
        checkpoint: arguments.checkpoint.interval(),
        memory: arguments.memory.bytes(),
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
    let object = output::run(folder, &experiment.labels(), &rendered, &mut progress)?;
    Ok((folder.clone(), Status::of(ran.summary.status == RunStatus::Complete), object))
}

fn experiment(arguments: &Arguments) -> anyhow::Result<Experiment> {
    let mut experiment = arguments.task.begin()?;
    if let Some(folder) = arguments.tuned.folder(tune::folder_of(&experiment.name)) {
        take_tuned(&mut experiment, &folder)?;
    }
    replace_optimizers(&mut experiment, &arguments.optimizers.optimizers)?;
    Ok(experiment)
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
        let reason = format!("{} is no folder of a search; name the experiment before --tuned", folder.display());
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
    let found: Vec<search::Tuned> = serde_json::from_slice(&bytes).map_err(|error| {
        UsageError(format!("{}: not what a search writes ({error}); repeat `taylorscope tune`", path.display()))
    })?;
    let lost: Vec<&search::Tuned> = found.iter().filter(|found| found.learning_rate.is_none()).collect();
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
pub fn optimizer(text: &str) -> anyhow::Result<OptimizerConfig> {
    let Some((name, rate)) = text.split_once(':') else { return Ok(OptimizerConfig::named(text, None)?) };
    let reason = match rate.parse::<f64>() {
        Ok(rate) if (0.0..=1e30).contains(&rate) => return Ok(OptimizerConfig::named(name, Some(rate))?),
        Ok(_) => "no learning rate; write a positive number",
        Err(_) => "not a number; write one",
    };
    Err(UsageError(format!("--optimizer {text}: \"{rate}\" is {reason}, such as adam:0.001")).into())
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
