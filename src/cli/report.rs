//! `taylorscope report`.

use super::{
    UsageError,
    answer::{Answer, Status},
    output, signals,
};
use crate::{
    report,
    study::{
        folder::NewFolder,
        numbers::significant,
        results::{OptimizerTables, RunTables},
        tables::{Comparator, Scale},
    },
};
use clap::ValueHint;
use serde_json::{Value, json};
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
    /// Print how large the gaps of the Taylor optima are, as shares of the mean loss, and render nothing
    #[arg(long, conflicts_with = "out")]
    certificates: bool,
}

pub fn command(arguments: &Arguments) -> anyhow::Result<Answer> {
    for run in &arguments.runs {
        if !run.join("summary.json").exists() {
            let reason = format!("{} is not a run directory: it has no summary.json", run.display());
            return Err(UsageError(reason).into());
        }
    }
    if arguments.certificates {
        return certificates(&arguments.runs);
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

/// Prints the largest gaps of every optimizer, scale and comparator.
fn certificates(runs: &[PathBuf]) -> anyhow::Result<Answer> {
    let heads = ["run", "optimizer", "scale", "comparator", "rows", "largest gap / loss", "at round", "at the end"];
    let mut lines = vec![heads.map(str::to_owned).to_vec()];
    let mut objects = Vec::new();
    for run in runs {
        let tables = RunTables::read(run)?;
        for optimizer in &tables.optimizers {
            for (cells, object) in gaps(optimizer) {
                lines.push([vec![run.display().to_string(), optimizer.summary.label.clone()], cells].concat());
                let mut all = json!({ "run": run, "optimizer": optimizer.summary.label });
                all.as_object_mut()
                    .expect("an object was made")
                    .extend(object.as_object().cloned().unwrap_or_default());
                objects.push(all);
            }
        }
    }
    output::listed(&lines)?;
    Ok(Answer::new(Status::Done, json!({ "certificates": objects })))
}

/// The gaps of an optimizer, as cells of a table and as an object.
fn gaps(optimizer: &OptimizerTables) -> impl Iterator<Item = (Vec<String>, Value)> {
    let kinds = Scale::ALL.into_iter().flat_map(|scale| Comparator::ALL.map(|comparator| (scale, comparator)));
    kinds.filter_map(|(scale, comparator)| {
        let gaps = optimizer.relative_gaps(scale, comparator)?;
        let cells = vec![
            scale.to_string(),
            comparator.to_string(),
            gaps.rows.to_string(),
            significant(gaps.largest, 2),
            gaps.rounds.to_string(),
            significant(gaps.at_end, 2),
        ];
        let object = json!({
            "scale": scale, "comparator": comparator, "rows": gaps.rows, "largest": gaps.largest,
            "rounds": gaps.rounds, "at_end": gaps.at_end,
        });
        Some((cells, object))
    })
}
