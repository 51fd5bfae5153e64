//! `taylorscope run`.

use super::{STOP, Status, UsageError, checkpoint::Checkpoint, memory::Memory, output, task::Task, tune};
use crate::{
    optim::OptimizerConfig,
    report,
    study::{
        Experiment, RunOptions,
        experiment::{parse, source},
        run::{run, train_only},
        tables::Summary,
        tune::{Tuned, searched},
    },
    train::Ending,
};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    task: Task,
    /// Run directory [default: runs/NAME, or the first free runs/NAME-2, ...]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Seed of weights and data order
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: Option<u64>,
    /// Optimizer and, if not its default, its learning rate; repeatable; replaces those of the experiment
    #[arg(long = "optimizer", value_name = "NAME[:RATE]")]
    optimizers: Vec<String>,
    #[command(flatten)]
    memory: Memory,
    #[command(flatten)]
    checkpoint: Checkpoint,
    /// Continue a run that was stopped or ended in any other way: what is complete is kept, the rest goes on from its last checkpoint
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Replace another run in the directory
    #[arg(long)]
    overwrite: bool,
    /// Keep weights and minibatches of every round in RUN/<optimizer>/trace
    #[arg(long)]
    keep_trace: bool,
    /// Take the optimizers with the learning rates that `tune` found, from DIR [default: runs/tune-NAME]
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, conflicts_with = "optimizers")]
    tuned: Option<Option<PathBuf>>,
    /// Only train: no analysis, no files; one line an optimizer
    #[arg(long)]
    train_only: bool,
}

pub fn command(arguments: &Arguments) -> anyhow::Result<Status> {
    let experiment = experiment(arguments)?;
    if arguments.train_only {
        return plain(&experiment, arguments.task.data());
    }
    let default = PathBuf::from("runs").join(&experiment.name);
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None if arguments.resume || arguments.overwrite => default,
        None => free(default),
    };
    let options = RunOptions {
        out: &out,
        data: arguments.task.data(),
        keep_trace: arguments.keep_trace,
        overwrite: arguments.overwrite,
        resume: arguments.resume,
        checkpoint: arguments.checkpoint.interval(),
        memory: arguments.memory.bytes(),
        stop: &STOP,
    };
    let summary = run_and_report(&experiment, &options)?;
    Ok(if summary.status == "complete" { Status::Done } else { Status::Incomplete })
}

/// Runs an experiment with progress, renders its report, prints both.
pub fn run_and_report(experiment: &Experiment, options: &RunOptions) -> anyhow::Result<Summary> {
    let mut progress = output::Progress::new();
    let summary = run(experiment, options, &mut |event| progress.show(event))?;
    let rendered = report::render(&[options.out], options.out)?;
    output::summary_table(&summary)?;
    output::line(format!("report:  {}", rendered.html.display()))?;
    output::line(format!("figures: {}", options.out.join("figures").display()))?;
    output::line(format!("tables:  {}", options.out.join("<optimizer>").join("*.csv").display()))?;
    Ok(summary)
}

/// The first of `dir`, `dir-2`, `dir-3`, ... that does not exist.
pub fn free(dir: PathBuf) -> PathBuf {
    if !dir.exists() {
        return dir;
    }
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    (2..).map(|i| dir.with_file_name(format!("{name}-{i}"))).find(|d| !d.exists()).unwrap_or(dir)
}

fn experiment(arguments: &Arguments) -> anyhow::Result<Experiment> {
    let mut experiment = arguments.task.begin(arguments.seed.map(|seed| format!("seed={seed}")))?;
    if let Some(folder) = &arguments.tuned {
        let folder = folder.clone().unwrap_or_else(|| tune::folder_of(&experiment.name));
        experiment.optimizer = tuned_optimizers(&experiment, &folder)?;
        experiment.rates_from = Some(searched(&experiment));
    }
    replace_optimizers(&mut experiment, &arguments.optimizers)?;
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

/// The optimizers that were tuned in `folder`, for the same task.
pub fn tuned_optimizers(experiment: &Experiment, folder: &Path) -> anyhow::Result<Vec<OptimizerConfig>> {
    let path = folder.join("tuned.toml");
    let usage = |reason: String| UsageError(format!("{}: {reason}", path.display()));
    if !path.exists() {
        let reason = "there is no finished search; run `taylorscope tune` on this experiment first, or name its folder";
        return Err(usage(format!("{reason} with --tuned=DIR")).into());
    }
    let found = std::fs::read(folder.join("tuned.json")).ok();
    let found: Vec<Tuned> = found.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    if let Some(lost) = found.iter().find(|tuned| tuned.learning_rate.is_none()) {
        let name = &lost.optimizer;
        let reason = format!("the search found no stable learning rate for {name}; leave {name} out, or tune anew");
        return Err(usage(reason).into());
    }
    let (text, origin) = source(&path.display().to_string())?;
    let tuned = parse(&text, &origin, &[])?;
    let task = |e: &Experiment| (e.data.clone(), e.network.clone(), e.training.loss, e.training.batch_size);
    if task(&tuned) != task(experiment) {
        let reason = "its rates are those of another dataset, network, loss or batch size; tune this experiment";
        return Err(usage(reason.to_owned()).into());
    }
    Ok(tuned.optimizer)
}

/// Parses `NAME[:RATE]`.
pub fn optimizer(text: &str) -> anyhow::Result<OptimizerConfig> {
    let (name, rate) = match text.split_once(':') {
        None => (text, None),
        Some((name, rate)) => match rate.parse::<f64>() {
            Ok(rate) => (name, Some(rate)),
            Err(_) => {
                let reason = format!("--optimizer {text}: \"{rate}\" is not a number; write for example adam:0.001");
                return Err(UsageError(reason).into());
            }
        },
    };
    Ok(OptimizerConfig::named(name, rate)?)
}

fn plain(experiment: &Experiment, data: Option<&Path>) -> anyhow::Result<Status> {
    let mut status = Status::Done;
    for trained in train_only(experiment, data)? {
        let mut seconds = trained.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        let median = seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN);
        let (label, last, mean) = (&trained.label, trained.last_loss, trained.mean_loss);
        output::line(format!("{label:<16} {median:.3} s/epoch  last-100 loss {last:.5}  mean loss {mean:.5}"))?;
        if let Ending::Diverged(what) = trained.ending {
            eprintln!("{label}: {what}; try a smaller learning rate");
            status = Status::Incomplete;
        }
    }
    Ok(status)
}
