//! `taylorscope analyze`.

use super::{STOP, Status, memory::Memory, output, run::free};
use crate::{
    report,
    study::{
        analyze::{AnalyzeOptions, analyze},
        experiment::{ExplorationSection, RegretSection, parse, source},
    },
};
use anyhow::Context;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Arguments {
    /// Trace folder (docs/formats.md)
    trace: PathBuf,
    /// Run directory [default: runs/analysis, or the first free runs/analysis-2, ...]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Folder with datasets, for traces that name one
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Experiment file whose [regret] and [exploration] sections to use [default: that of the run the trace lies in]
    #[arg(long, value_name = "FILE")]
    experiment: Option<String>,
    /// Change a key of these sections, e.g. --set regret.window=all; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    #[command(flatten)]
    memory: Memory,
    /// Replace another analysis in the directory
    #[arg(long)]
    overwrite: bool,
}

pub fn command(arguments: &Arguments) -> anyhow::Result<Status> {
    super::set_threads(arguments.threads)?;
    let (regret, exploration) = sections(arguments)?;
    let default = PathBuf::from("runs").join("analysis");
    let out = arguments.out.clone().unwrap_or_else(|| if arguments.overwrite { default } else { free(default) });
    let mut progress = output::Progress::new();
    let options = AnalyzeOptions {
        trace: &arguments.trace,
        out: &out,
        data: arguments.data.as_deref(),
        regret: &regret,
        exploration: &exploration,
        overwrite: arguments.overwrite,
        memory: arguments.memory.bytes(),
        stop: &STOP,
    };
    let summary = analyze(&options, &mut |event| progress.show(event))?;
    let rendered = report::render(&[&out], &out)?;
    output::summary_table(&summary)?;
    output::line(format!("report: {}", rendered.html.display()))?;
    Ok(if summary.status == "complete" { Status::Done } else { Status::Incomplete })
}

/// The sections that say what to compute: of the named experiment, else of the run that the trace lies in, else defaults.
fn sections(arguments: &Arguments) -> anyhow::Result<(RegretSection, ExplorationSection)> {
    let own = |trace: &Path| Some(trace.canonicalize().ok()?.parent()?.parent()?.join("experiment.toml"));
    let (text, origin) = match (&arguments.experiment, own(&arguments.trace).filter(|path| path.exists())) {
        (Some(name), _) => source(name)?,
        (None, Some(path)) => source(&path.display().to_string()).context("the run that the trace lies in")?,
        // Any experiment serves to carry the defaults and the settings.
        (None, None) => {
            let (text, _) = source("digits-autoencoder")?;
            let head = text.split("[regret]").next().unwrap_or_default();
            (head.to_owned(), "--set".to_owned())
        }
    };
    let experiment = parse(&text, &origin, &arguments.settings)?;
    Ok((experiment.regret, experiment.exploration))
}
