//! `taylorscope analyze`.

use super::{STOP, Status, UsageError, checkpoint::Checkpoint, memory::Memory, output};
use crate::{
    report,
    study::{
        analyze::{AnalyzeOptions, analyze, name_of},
        experiment::{RegretSection, Sections, Span, sections, source},
        lock::Destination,
    },
};
use anyhow::Context;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Arguments {
    /// Trace folders (docs/formats.md), of one network and dataset
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// Run directory [default: runs/TRACE, of several traces runs/analysis; or the first free with -2, -3, ...]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Folder with datasets, for traces that name one
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Experiment file whose [regret] and [exploration] sections to use [default: that of the run the traces lie in]
    #[arg(long, value_name = "FILE")]
    experiment: Option<String>,
    /// Change a key of these sections, e.g. --set regret.window=epoch; repeatable [default window: all]
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    #[command(flatten)]
    memory: Memory,
    #[command(flatten)]
    checkpoint: Checkpoint,
    /// Continue an interrupted analysis of the same traces
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Replace another analysis in the directory
    #[arg(long)]
    overwrite: bool,
}

pub fn command(arguments: &Arguments) -> anyhow::Result<Status> {
    super::set_threads(arguments.threads)?;
    let traces = &arguments.traces;
    let (sections, sample) = chosen_sections(arguments)?;
    let name = if let [trace] = &traces[..] { name_of(trace) } else { "analysis".to_owned() };
    let default = PathBuf::from("runs").join(&name);
    let options = AnalyzeOptions {
        traces,
        name: &name,
        out: match &arguments.out {
            Some(out) => Destination::Folder(out),
            None if arguments.resume || arguments.overwrite => Destination::Folder(&default),
            None => Destination::FirstFree(&default),
        },
        data: arguments.data.as_deref(),
        sections: &sections,
        sample,
        overwrite: arguments.overwrite,
        resume: arguments.resume,
        checkpoint: arguments.checkpoint.interval(),
        memory: arguments.memory.bytes(),
        stop: &STOP,
    };
    let mut progress = output::Progress::new();
    let analyzed = analyze(&options, &mut |event| progress.show(event))?;
    let out = &analyzed.folder.path;
    let rendered = report::render(&[out], out)?;
    output::summary_table(&analyzed.summary)?;
    output::line(format!("report:  {}", rendered.html.display()))?;
    output::line(format!("figures: {}", out.join("figures").display()))?;
    output::line(format!("tables:  {}", out.join("<optimizer>").join("*.csv").display()))?;
    Ok(if analyzed.summary.status == "complete" { Status::Done } else { Status::Incomplete })
}

/// What to measure: as the named experiment says, else as the runs that the traces lie in, else all rounds with the
/// defaults. And whether a sample of the rounds may take the place of all.
fn chosen_sections(arguments: &Arguments) -> anyhow::Result<(Sections, bool)> {
    let settings = &arguments.settings;
    let defaults =
        Sections { regret: RegretSection { window: Span::All, ..RegretSection::default() }, ..Sections::default() };
    if let Some(name) = &arguments.experiment {
        let (text, origin) = source(name)?;
        return Ok((sections(Some((&text, &origin)), &defaults, settings)?, false));
    }
    let mut found: Option<(PathBuf, Sections)> = None;
    for path in arguments.traces.iter().filter_map(|trace| experiment_of(trace)) {
        let (text, origin) = source(&path.display().to_string())?;
        let these = sections(Some((&text, &origin)), &defaults, settings).context("the run that the trace lies in")?;
        match &found {
            Some((other, those)) if *those != these => {
                let (other, path) = (other.display(), path.display());
                let reason = format!(
                    "the traces lie in runs with different settings, {other} and {path}; name the one to use with \
                     --experiment"
                );
                return Err(UsageError(reason).into());
            }
            Some(_) => {}
            None => found = Some((path, these)),
        }
    }
    if let Some((_, sections)) = found {
        return Ok((sections, false));
    }
    // Who names a window means it.
    let names = |setting: &String| setting.trim_start().starts_with("regret.window");
    Ok((sections(None, &defaults, settings)?, !settings.iter().any(names)))
}

/// The experiment of the run that a trace lies in.
fn experiment_of(trace: &Path) -> Option<PathBuf> {
    let path = trace.canonicalize().ok()?.parent()?.parent()?.join("experiment.toml");
    path.exists().then_some(path)
}
