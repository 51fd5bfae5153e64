//! `taylorscope analyze`.

use super::{
    UsageError,
    answer::{Answer, Status},
    options::{Data, Lasting, Settings, Threads},
    progress::Progress,
    signals::{self, STOP},
    summary,
};
use crate::{
    report,
    study::{
        analyze::{AnalyzeOptions, analyze, name_of},
        experiment::{RegretSection, Sections, Span, sections, source},
        tables::RunStatus,
    },
    trace::agreement::TOLERANCE,
};
use anyhow::Context;
use clap::ValueHint;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Arguments {
    /// Trace folders (docs/formats.md), of one network and dataset
    #[arg(required = true, value_name = "TRACE", value_hint = ValueHint::DirPath)]
    traces: Vec<PathBuf>,
    /// Folder to write to [default: runs/TRACE, of several traces runs/analysis; or the first free one with -2, -3,
    /// ...]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
    #[command(flatten)]
    data: Data,
    /// Take the first COUNT rounds of each trace only, for example those before a damaged shard
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Relative difference up to which recomputed losses agree with losses.npy; raise it for losses in half precision
    #[arg(long, value_name = "SHARE", default_value_t = TOLERANCE, value_parser = tolerance)]
    loss_tolerance: f64,
    /// Experiment whose [regret] and [exploration] sections to use [default: that of the run the traces lie in, else
    /// defaults with regret.window = "all"]
    #[arg(long, value_name = "NAME|FILE", value_hint = ValueHint::AnyPath)]
    experiment: Option<String>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    lasting: Lasting,
}

/// Losses that differ by more than this share do not agree in any sense.
const MOST_TOLERANT: f64 = 0.5;

fn tolerance(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=MOST_TOLERANT).contains(share));
    share.ok_or_else(|| format!("write a share of the loss from 0 to {MOST_TOLERANT}, such as 0.01"))
}

pub fn command(arguments: &Arguments) -> anyhow::Result<Answer> {
    arguments.threads.set()?;
    let traces = &arguments.traces;
    let (sections, sample) = chosen_sections(arguments)?;
    let name = if let [trace] = &traces[..] { name_of(trace) } else { "analysis".to_owned() };
    let default = PathBuf::from("runs").join(&name);
    let lasting = &arguments.lasting;
    let options = AnalyzeOptions {
        traces,
        name: &name,
        out: lasting.destination(arguments.out.as_deref(), &default),
        data: arguments.data.folder(),
        rounds: arguments.rounds.map(|rounds| rounds as usize),
        loss_tolerance: arguments.loss_tolerance,
        sections: &sections,
        sample,
        overwrite: lasting.overwrite(),
        resume: lasting.resume(),
        checkpoint: lasting.checkpoint.interval(),
        memory: lasting.memory.bytes(),
        stop: &STOP,
    };
    let mut progress = Progress::new();
    signals::preparing();
    let analyzed = analyze(&options, &mut |event| {
        signals::begun();
        progress.show(event)
    })?;
    signals::begun();
    progress.begin("writing the report");
    let out = &analyzed.folder.path;
    let rendered = report::render(&[out], out)?;
    let object = summary::print(out, &analyzed.labels, &rendered, &mut progress)?;
    Ok(Answer::new(Status::of(analyzed.summary.status == RunStatus::Complete), object))
}

/// What to measure: as the named experiment says, else as the runs that the traces lie in, else all rounds with the
/// defaults. And whether a sample of the rounds may take the place of all.
fn chosen_sections(arguments: &Arguments) -> anyhow::Result<(Sections, bool)> {
    let settings = &arguments.settings.settings;
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
    // A window that was named is not replaced by a sample.
    let names = |setting: &String| setting.trim_start().starts_with("regret.window");
    Ok((sections(None, &defaults, settings)?, !settings.iter().any(names)))
}

/// The experiment of the run that a trace lies in.
fn experiment_of(trace: &Path) -> Option<PathBuf> {
    let path = trace.canonicalize().ok()?.parent()?.parent()?.join("experiment.toml");
    path.exists().then_some(path)
}
