//! `taylorscope report`.

use super::{
    UsageError,
    answer::{Answer, Status},
    output, signals,
};
use crate::{report, study::folder::NewFolder};
use clap::ValueHint;
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Arguments {
    /// Run directories; with several, a page that compares them
    #[arg(required = true, value_name = "RUN", value_hint = ValueHint::DirPath)]
    runs: Vec<PathBuf>,
    /// Folder to write to [default: the run directory; for several runs, the first free one of runs/comparison,
    /// runs/comparison-2, ...]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
}

pub fn command(arguments: &Arguments) -> anyhow::Result<Answer> {
    for run in &arguments.runs {
        if !run.join("summary.json").exists() {
            let reason = format!("{} is not a run directory: it has no summary.json", run.display());
            return Err(UsageError(reason).into());
        }
    }
    let claim = match (&arguments.out, &arguments.runs[..]) {
        (None, [_, _, ..]) => Some(NewFolder::first_free(&PathBuf::from("runs").join("comparison"))?),
        _ => None,
    };
    let out = match (&claim, &arguments.out) {
        (Some(claim), _) => &claim.path,
        (None, Some(out)) => out,
        (None, None) => &arguments.runs[0],
    };
    let runs: Vec<&Path> = arguments.runs.iter().map(PathBuf::as_path).collect();
    // A page that was not finished is made again.
    signals::preparing();
    let rendered = report::render(&runs, out)?;
    output::line(format!("report: {}", rendered.html.display()))?;
    let object = json!({ "runs": arguments.runs, "folder": out, "report": rendered.html, "figures": rendered.figures });
    Ok(Answer::new(Status::Done, object))
}
