//! `taylorscope explore`.

use super::{STOP, Status, output, run::tuned_optimizers, task::Task, tune};
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
        tune::TuneOptions,
    },
};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    task: Task,
    /// Folder of the study; one that holds it already is continued [default: runs/explore-NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Seeds of every comparison
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Rounds between configurations at the fine time scale [default: a tenth of an epoch]
    #[arg(long, value_name = "ROUNDS", value_parser = clap::value_parser!(u64).range(1..))]
    fine: Option<u64>,
    /// Folder of a finished `tune` with the rates to use [default: search them first]
    #[arg(long, value_name = "DIR")]
    tuned: Option<PathBuf>,
    /// Runs whose neurons' Taylor optima are measured, which takes longer than training
    #[arg(long, value_enum, default_value_t)]
    optima: OptimaOf,
    /// Multiples of the tuned rates, beside 1 [default: 0.1,0.2,0.5,1.5,2]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = super::positive)]
    factors: Option<Vec<f64>>,
    /// Values of epsilon on the way from Adam to momentum [default: 1e-8,1e-5,1e-4,1e-3,1e-2,1e-1,1,100]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = super::positive)]
    epsilons: Option<Vec<f64>>,
    /// Begin anew where the folder holds a study
    #[arg(long)]
    overwrite: bool,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum OptimaOf {
    #[default]
    All,
    /// Those at tuned learning rates
    Tuned,
    None,
}

pub fn command(arguments: &Arguments) -> anyhow::Result<Status> {
    let experiment = arguments.task.begin([])?;
    let out =
        arguments.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(format!("explore-{}", experiment.name)));
    let study = Study {
        experiment,
        out: &out,
        data: arguments.task.data(),
        seeds: arguments.seeds as usize,
        fine: arguments.fine.map(|rounds| rounds as usize),
        tuned: arguments.tuned.as_deref(),
        optima: match arguments.optima {
            OptimaOf::All => Optima::All,
            OptimaOf::Tuned => Optima::Tuned,
            OptimaOf::None => Optima::None,
        },
        factors: arguments.factors.as_deref().unwrap_or(&FACTORS),
        epsilons: arguments.epsilons.as_deref().unwrap_or(&EPSILONS),
        overwrite: arguments.overwrite,
    };
    study.run()
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
    pub fn run(mut self) -> anyhow::Result<Status> {
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
                if tune::search(&self.experiment, &options)?.is_none() {
                    return Ok(Status::Incomplete);
                }
                folder
            }
        };
        self.experiment.optimizer = tuned_optimizers(&self.experiment, &folder)?;
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
        let counter = output::Counter::new("runs");
        let study = explore(&self.experiment, &options, &|event| match event {
            ExploreEvent::Planned { runs, known } => counter.plan(runs, known),
            ExploreEvent::Run { .. } => counter.count(),
        })?;
        counter.finish();
        if !study.complete {
            eprintln!("stopped; the same command continues the study in {}", self.out.display());
            return Ok(Status::Incomplete);
        }
        let rendered = exploration(&self.experiment.name, &study, self.out)?;
        for line in table(&claims::findings(&study)) {
            output::line(line)?;
        }
        output::line(format!("report: {}", rendered.html.display()))?;
        output::line(format!("tables: {}", self.out.join("*.csv").display()))?;
        Ok(Status::Done)
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
