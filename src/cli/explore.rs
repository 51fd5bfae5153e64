//! `taylorscope explore`.

use super::{
    answer::{Answer, Status},
    idle::in_idle,
    options::{Overwrite, Tuned, positive},
    output,
    progress::Progress,
    signals::{self, STOP},
    task::{Task, search_folder, take_tuned},
    tune,
};
use crate::{
    optim::OptimizerConfig,
    report::study::exploration,
    study::{
        Experiment,
        claims::{Claim, Tally},
        enclosure::Holds,
        explore::{
            EPSILONS, ExploreEvent, ExploreOptions, FACTORS, Optima, STEERED, SWEEP_END, UNSTEERED,
            claims::{self, Finding, Findings},
            explore,
        },
        folder::Purpose,
        tune::TuneOptions,
    },
};
use clap::ValueHint;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    task: Task,
    /// Folder to write to; a study that lies there is continued [default: runs/explore-NAME, or runs/explore-NAME-2, ...
    /// while other processes work there]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
    /// Seeds of every comparison
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Rounds between configurations at the fine time scale [default: a tenth of an epoch]
    #[arg(long, value_name = "ROUNDS", value_parser = clap::value_parser!(u64).range(1..))]
    fine: Option<u64>,
    #[command(flatten)]
    tuned: Tuned,
    /// Runs whose neurons' Taylor optima are measured, which takes longer than training
    #[arg(long, value_enum, default_value_t)]
    optima: OptimaOf,
    /// Multiples of the tuned rates, besides 1 [default: 0.1,0.2,0.5,1.5,2]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = positive)]
    factors: Option<Vec<f64>>,
    /// Values of epsilon on the way from Adam to momentum [default: 1e-8,1e-5,1e-4,1e-3,1e-2,1e-1,1,100]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = positive)]
    epsilons: Option<Vec<f64>>,
    #[command(flatten)]
    overwrite: Overwrite,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum OptimaOf {
    #[default]
    All,
    /// Those at tuned learning rates
    Tuned,
    None,
}

pub fn command(arguments: &Arguments) -> anyhow::Result<Answer> {
    let experiment = arguments.task.begin()?;
    let tuned = arguments.tuned.folder(search_folder(&experiment.name));
    let default = PathBuf::from("runs").join(format!("explore-{}", experiment.name));
    let run = |out: &Path| {
        let study = Study {
            experiment: experiment.clone(),
            out,
            data: arguments.task.data(),
            seeds: arguments.seeds as usize,
            fine: arguments.fine.map(|rounds| rounds as usize),
            tuned: tuned.as_deref(),
            optima: match arguments.optima {
                OptimaOf::All => Optima::All,
                OptimaOf::Tuned => Optima::Tuned,
                OptimaOf::None => Optima::None,
            },
            factors: arguments.factors.as_deref().unwrap_or(&FACTORS),
            epsilons: arguments.epsilons.as_deref().unwrap_or(&EPSILONS),
            overwrite: arguments.overwrite.overwrite,
        };
        study.run()
    };
    let (status, object) = in_idle(arguments.out.as_deref(), &default, run)?;
    Ok(Answer::new(status, object))
}

/// A study as asked for.
pub struct Study<'a> {
    pub experiment: Experiment,
    pub out: &'a Path,
    pub data: Option<&'a Path>,
    pub seeds: usize,
    pub fine: Option<usize>,
    /// Where rates were tuned; they are searched in `out/tune` otherwise.
    pub tuned: Option<&'a Path>,
    pub optima: Optima,
    pub factors: &'a [f64],
    pub epsilons: &'a [f64],
    pub overwrite: bool,
}

impl Study<'_> {
    /// Tunes if need be, runs the study, renders its report, prints the claims.
    pub fn run(mut self) -> anyhow::Result<(Status, Value)> {
        // Before the search of the rates, which takes long.
        if !self.overwrite {
            Purpose::Exploration.refuse_others(self.out)?;
        }
        let folder = match self.tuned {
            Some(folder) => folder.to_owned(),
            None => {
                add_companions(&mut self.experiment)?;
                let folder = self.out.join("tune");
                let options = TuneOptions {
                    out: &folder,
                    data: self.data,
                    seeds: 3,
                    refinements: 2,
                    overwrite: self.overwrite,
                    stop: &STOP,
                };
                if tune::search(&self.experiment, &options)?.stopped {
                    return Ok((
                        Status::Incomplete,
                        json!({ "folder": self.out, "status": "interrupted", "claims": [] }),
                    ));
                }
                folder
            }
        };
        take_tuned(&mut self.experiment, &folder)?;
        let options = ExploreOptions {
            out: self.out,
            data: self.data,
            seeds: self.seeds,
            fine: self.fine,
            optima: self.optima,
            factors: self.factors,
            epsilons: self.epsilons,
            overwrite: self.overwrite,
            stop: &STOP,
        };
        let mut progress = Progress::new();
        signals::preparing();
        let study = explore(&self.experiment, &options, &|event| {
            signals::begun();
            match event {
                ExploreEvent::Planned { runs, known } => progress.plan("run", runs, known),
                ExploreEvent::Run { .. } => progress.count(),
                ExploreEvent::Note { text } => output::note(text),
            }
        })?;
        if !study.complete {
            progress.finish();
            output::note(format!("stopped; the same command continues the study in {}", self.out.display()));
            return Ok((Status::Incomplete, json!({ "folder": self.out, "status": "interrupted", "claims": [] })));
        }
        progress.begin("writing the report");
        let rendered = exploration(&self.experiment.name, &study, self.out)?;
        progress.finish();
        let findings = claims::findings(&study);
        for line in table(&findings) {
            output::line(line)?;
        }
        output::line(format!("report: {}", rendered.html.display()))?;
        output::line(format!("tables: {}", self.out.join("*.csv").display()))?;
        let object = json!({
            "folder": self.out,
            "status": "complete",
            "report": rendered.html,
            "figures": rendered.figures,
            "tables": [self.out.join("explore.csv"), self.out.join("signs.csv")],
            "tuned": folder,
            "claims": findings.iter().flat_map(|group| &group.findings).map(|finding| &finding.claim).collect::<Vec<_>>(),
        });
        Ok((Status::Done, object))
    }
}

/// Widths of the columns of the printed tables.
const SUBJECT: usize = 32;
const CELL: usize = 5;

/// The claims as tables of signs, a line each; the intervals are on the page.
fn table(groups: &[Findings]) -> Vec<String> {
    let mut lines = Vec::new();
    for group in groups {
        let short = |name: &str| -> String {
            let name = name.strip_prefix("layer ").or(name.strip_prefix("log-")).unwrap_or(name);
            match name {
                "training loss" => "trn".to_owned(),
                "test loss" => "test".to_owned(),
                name => name.chars().take(CELL - 2).collect(),
            }
        };
        lines.push(String::new());
        let scales: String = group
            .columns
            .chunk_by(|a, b| a.scale == b.scale)
            .map(|chunk| format!("{:<width$}", chunk[0].scale, width = CELL * chunk.len()))
            .collect();
        let head = if group.columns.iter().any(|column| column.name.starts_with("layer")) { "layer" } else { "" };
        let title = |text: &str, more: &str| format!("{text:<SUBJECT$}{more}").trim_end().to_owned();
        lines.push(title(group.title, &scales));
        let names: String = group.columns.iter().map(|column| format!("{:<CELL$}", short(&column.name))).collect();
        lines.push(title(head, &names));
        lines.extend(group.findings.iter().map(row));
    }
    let claims: Vec<Claim> = groups.iter().flat_map(|group| &group.findings).map(|f| f.claim.clone()).collect();
    lines.push(String::new());
    lines.push(
        "+ and −: all of the 95% interval over seeds lies above or below zero; 0: zero is in it; ?: not known".into(),
    );
    lines.push(claims::RULE.into());
    let reasons: std::collections::BTreeSet<&String> =
        groups.iter().flat_map(|group| &group.findings).filter_map(|finding| finding.reason.as_ref()).collect();
    if let (1, Some(reason)) = (reasons.len(), reasons.first()) {
        lines.push(format!("undecided: {reason}"));
    }
    lines.push(Tally::of(&claims).to_string());
    lines
}

/// `RMSProp − SGD, tuned rates      −    −    0    0    claimed +: not supported`.
fn row(finding: &Finding) -> String {
    let cells = finding.cells.iter().map(|cell| match cell {
        Some(interval) if interval.count >= claims::LEAST_SEEDS => {
            if claims::Side::Above.has(interval) == Holds::Always {
                "+"
            } else if claims::Side::Below.has(interval) == Holds::Always {
                "−"
            } else {
                "0"
            }
        }
        _ => "?",
    });
    let cells: String = cells.map(|mark| format!("{mark:<CELL$}")).collect();
    let claimed = if finding.claimed == claims::Side::Above { "+" } else { "−" };
    format!("{:<SUBJECT$}{cells}claimed {claimed}: {}", finding.subject, finding.claim.verdict)
}

/// Adds to an experiment with Adam, so that their rates are tuned, too: momentum, where the sweep of epsilon ends, and
/// the optimizer that steers Adam by what it explores.
fn add_companions(experiment: &mut Experiment) -> anyhow::Result<()> {
    for name in [SWEEP_END, STEERED] {
        let has = |name: &str| experiment.optimizer.iter().any(|config| config.name == name);
        if has(UNSTEERED) && !has(name) {
            experiment.optimizer.push(OptimizerConfig::named(name, None)?);
        }
    }
    Ok(())
}
