//! `taylorscope analyze`.

use super::{
    answer::{Answer, Status},
    memory::Memory,
    options::{Data, Overwrite, Settings, Threads},
    output,
    progress::Progress,
    run::free,
    signals::STOP,
};
use crate::{
    report,
    study::{
        analyze::{AnalyzeOptions, analyze},
        experiment::{ExplorationSection, RegretSection, parse, source},
    },
};
use anyhow::Context;
use clap::ValueHint;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Arguments {
    /// Trace folder (docs/formats.md)
    trace: PathBuf,
    /// Folder to write to [default: runs/analysis, or the first free one of runs/analysis-2, ...]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
    #[command(flatten)]
    data: Data,
    /// Experiment file whose [regret] and [exploration] sections to use [default: that of the run the trace lies in]
    #[arg(long, value_name = "FILE")]
    experiment: Option<String>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    memory: Memory,
    #[command(flatten)]
    overwrite: Overwrite,
}

pub fn command(arguments: &Arguments) -> anyhow::Result<Answer> {
    arguments.threads.set()?;
    let (regret, exploration) = sections(arguments)?;
    let default = PathBuf::from("runs").join("analysis");
    let out =
        arguments.out.clone().unwrap_or_else(|| if arguments.overwrite.overwrite { default } else { free(default) });
    let mut progress = Progress::new();
    let options = AnalyzeOptions {
        trace: &arguments.trace,
        out: &out,
        data: arguments.data.folder(),
        regret: &regret,
        exploration: &exploration,
        overwrite: arguments.overwrite.overwrite,
        memory: arguments.memory.bytes(),
        stop: &STOP,
    };
    let summary = analyze(&options, &mut |event| progress.show(event))?;
    progress.begin("writing the report");
    let rendered = report::render(&[&out], &out)?;
    let object = output::run(&out, &[], &rendered, &mut progress)?;
    Ok(Answer::new(Status::of(summary.status == "complete"), object))
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
    let experiment = parse(&text, &origin, &arguments.settings.settings)?;
    Ok((experiment.regret, experiment.exploration))
}
