//! `taylorscope report`.

use super::{Status, UsageError, output};
use crate::report;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Arguments {
    /// Run directories; with several, a page that compares them
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Where to write [default: the run directory; for several runs: runs/comparison]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn command(arguments: &Arguments) -> anyhow::Result<Status> {
    for run in &arguments.runs {
        if !run.join("summary.json").exists() {
            let reason = format!("{} is no run directory: it has no summary.json", run.display());
            return Err(UsageError(reason).into());
        }
    }
    let out = match (&arguments.out, &arguments.runs[..]) {
        (Some(out), _) => out.clone(),
        (None, [run]) => run.clone(),
        (None, _) => PathBuf::from("runs").join("comparison"),
    };
    let runs: Vec<&Path> = arguments.runs.iter().map(PathBuf::as_path).collect();
    let rendered = report::render(&runs, &out)?;
    output::line(format!("report: {}", rendered.html.display()))?;
    Ok(Status::Done)
}
