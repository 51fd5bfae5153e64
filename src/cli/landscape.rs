//! `taylorscope landscape`.

use super::{
    UsageError,
    answer::{Answer, Status},
    memory::Memory,
    options::{Data, Overwrite, Threads, destination},
    output,
    progress::Progress,
    signals::{self, STOP},
};
use crate::{
    report::{self, ReportOutput},
    study::{
        landscape::{
            LandscapeOptions, PlaneOptions, SegmentOptions, Subject, What, along, plane,
            rows::{Kind, LandscapeSummary},
        },
        numbers::{count, counted, significant},
    },
};
use clap::ValueHint;
use serde_json::{Value, json};
use std::{
    ops::Range,
    path::{Path, PathBuf},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Run directory, built-in experiment or experiment file, trace folder, or weights (.safetensors)
    #[arg(default_value = "digits-autoencoder")]
    target: String,
    /// What moves: input | neuron L.M | layer L | gradient | update N
    #[arg(long, num_args = 1..=2, value_names = ["WHAT", "WHICH"])]
    #[arg(required_unless_present = "plane", conflicts_with = "plane")]
    along: Vec<String>,
    /// Instead of a segment, the linear regions on a plane: through three rows of the data (A,B,C), or of one layer's
    /// weights (layer L)
    #[arg(long, num_args = 1..=2, value_names = ["A,B,C|layer", "L"])]
    plane: Vec<String>,
    /// Range of a plane's first coordinate, to zoom in
    #[arg(long, value_name = "A..B", allow_hyphen_values = true, requires = "plane")]
    u: Option<String>,
    /// Range of a plane's second coordinate
    #[arg(long, value_name = "A..B", allow_hyphen_values = true, requires = "plane")]
    v: Option<String>,
    /// Range of the parameter t; along the input, two rows of the data [default: input 0..1, update -1..3, else a tenth
    /// of the weights' norm either way, half of it for a neuron]
    #[arg(long, value_name = "A..B", allow_hyphen_values = true)]
    through: Option<String>,
    /// Rows of the training data whose mean loss is shown [default: the minibatch of an update, else the first 16]
    #[arg(long, value_name = "A..B")]
    datapoints: Option<String>,
    /// Which optimizer of a run or experiment [default: the first]
    #[arg(long, value_name = "LABEL")]
    optimizer: Option<String>,
    /// The weights before this round's update [default: after the last round of a run, round 1 of an experiment]
    #[arg(long, value_name = "N")]
    round: Option<usize>,
    /// Which output to show along the input [default: the one whose slope varies most]
    #[arg(long, value_name = "K")]
    output: Option<usize>,
    /// Updates of each optimizer to measure, spread over its run; 0 for none [default: 30 for runs and traces, else 0]
    #[arg(long, value_name = "COUNT")]
    updates: Option<usize>,
    /// Experiment with the layers and the data of a weights file
    #[arg(long, value_name = "FILE")]
    experiment: Option<String>,
    /// Folder to write to [default: runs/landscape, or the first free one of runs/landscape-2, ...]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    memory: Memory,
    #[command(flatten)]
    overwrite: Overwrite,
}

/// Updates of each optimizer that are measured unless told.
const UPDATES: usize = 30;

pub fn command(arguments: &Arguments) -> anyhow::Result<Answer> {
    arguments.threads.set()?;
    // `--along input RUN`: a second word that names no part of what moves is the target.
    let given = if arguments.plane.is_empty() { &arguments.along } else { &arguments.plane };
    let (words, target) = match &given[..] {
        [what, target] if !["neuron", "layer", "update"].contains(&what.as_str()) => (what.clone(), target),
        words => (words.join(" "), &arguments.target),
    };
    let what = if arguments.plane.is_empty() { What::Segment(words.parse()?) } else { What::Plane(words.parse()?) };
    let given = |text: &Option<String>, option| text.as_deref().map(|text| range(text, option)).transpose();
    let through = given(&arguments.through, "through")?;
    let (u, v) = (given(&arguments.u, "u")?, given(&arguments.v, "v")?);
    let default = PathBuf::from("runs").join("landscape");
    let trained = std::path::Path::new(target).is_dir();
    signals::preparing();
    let subject = Subject::load(target, arguments.experiment.as_deref(), arguments.data.folder())?;
    signals::begun();
    let options = LandscapeOptions {
        subject: &subject,
        datapoints: arguments.datapoints.as_deref().map(rows).transpose()?,
        optimizer: arguments.optimizer.as_deref(),
        round: arguments.round,
        output: arguments.output,
        out: destination(arguments.out.as_deref(), &default, arguments.overwrite.overwrite),
        overwrite: arguments.overwrite.overwrite,
        memory: arguments.memory.bytes(),
        stop: &STOP,
    };
    let mut progress = Progress::new();
    let mut events = |event: &str| progress.step(event);
    let landscape = match what {
        What::Segment(way) => {
            let updates = arguments.updates.unwrap_or(if trained { UPDATES } else { 0 });
            along(&options, &SegmentOptions { along: way, through, updates }, &mut events)?
        }
        What::Plane(kind) => plane(&options, PlaneOptions { kind, ranges: [u, v] }, &mut events)?,
    };
    progress.begin("writing the report");
    let out = &landscape.folder.path;
    let rendered = report::render_landscape(out)?;
    progress.finish();
    Ok(Answer::new(Status::Done, print(&landscape.summary, out, &rendered)?))
}

/// Digits of the numbers that are printed; the files have all.
const DIGITS: usize = 4;

/// Prints a short table of what was found, and gives it for `--json`.
pub fn print(summary: &LandscapeSummary, out: &Path, rendered: &ReportOutput) -> anyhow::Result<Value> {
    output::line(format!("along    {} ({})", summary.along, summary.parameter))?;
    let range = |name: &str, from: f64, to: f64| {
        output::line(format!("{name:<8} {} to {}", significant(from, DIGITS), significant(to, DIGITS)))
    };
    range("range", summary.from, summary.to)?;
    match &summary.kind {
        Kind::Plane { plane } => {
            range("", plane.v_from, plane.v_to)?;
            output::line(format!("regions  {}", count(summary.pieces as u64)))?;
        }
        Kind::Segment(segment) => {
            let (kinks, pieces) = (count(segment.kinks as u64), counted(summary.pieces, "piece"));
            output::line(format!("kinks    {kinks}, on {pieces}"))?;
        }
    }
    output::line(format!("method   {}", summary.method))?;
    let figures = out.join("figures");
    output::line(format!("report:  {}", rendered.html.display()))?;
    output::line(format!("figures: {}", figures.display()))?;
    output::line(format!("tables:  {}", out.join("*.csv").display()))?;
    let mut object = json!(summary);
    for (key, value) in [
        ("folder", json!(out)),
        ("report", json!(rendered.html)),
        ("figures", json!(figures)),
        ("summary", json!(out.join("landscape.json"))),
    ] {
        object[key] = value;
    }
    Ok(object)
}

/// Parses `A..B` with `A < B` or, along the input, two rows in any order.
fn range(text: &str, option: &str) -> anyhow::Result<(f64, f64)> {
    let wrong =
        || UsageError(format!("--{option} {text}: write two numbers with two dots between them, for example 0..1"));
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    match (from.trim().parse::<f64>(), to.trim().parse::<f64>()) {
        (Ok(from), Ok(to)) if from.is_finite() && to.is_finite() => Ok((from, to)),
        _ => Err(wrong().into()),
    }
}

fn rows(text: &str) -> anyhow::Result<Range<usize>> {
    let (from, to) = range(text, "datapoints")?;
    let whole = |v: f64| v >= 0.0 && v.fract() == 0.0;
    if !whole(from) || !whole(to) || from >= to {
        return Err(UsageError(format!(
            "--datapoints {text}: write the first row and the one after the last, for example 0..64"
        ))
        .into());
    }
    Ok(from as usize..to as usize)
}
