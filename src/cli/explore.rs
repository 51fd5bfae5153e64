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
    report::{ReportOutput, study::exploration},
    study::{
        Experiment,
        campaign::CampaignOptions,
        claims::{Claim, Tally},
        enclosure::Holds,
        explore::{
            EPSILONS, Exploration, ExploreOptions, FACTORS, Optima, STEERED, SWEEP_END, UNSTEERED,
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
        let campaign = CampaignOptions {
            out,
            data: arguments.task.data(),
            seeds: arguments.seeds as usize,
            overwrite: arguments.overwrite.overwrite,
            stop: &STOP,
        };
        let options = ExploreOptions {
            campaign,
            fine: arguments.fine.map(|rounds| rounds as usize),
            optima: match arguments.optima {
                OptimaOf::All => Optima::All,
                OptimaOf::Tuned => Optima::Tuned,
                OptimaOf::None => Optima::None,
            },
            factors: arguments.factors.as_deref().unwrap_or(&FACTORS),
            epsilons: arguments.epsilons.as_deref().unwrap_or(&EPSILONS),
        };
        Study { experiment: experiment.clone(), tuned: tuned.as_deref(), options }.run()
    };
    let (status, object) = in_idle(arguments.out.as_deref(), &default, run)?;
    Ok(Answer::new(status, object))
}

/// Seeds per rate, and how often the spacing of rates is halved, where a study searches for its rates.
const TUNING_SEEDS: usize = 3;
const REFINEMENTS: usize = 2;

/// A study as asked for.
pub struct Study<'a> {
    pub experiment: Experiment,
    /// Where rates were tuned; they are searched in `tune` in the study's folder otherwise.
    pub tuned: Option<&'a Path>,
    pub options: ExploreOptions<'a>,
}

impl Study<'_> {
    /// Tunes if need be, runs the study, renders its report, prints the claims.
    pub fn run(mut self) -> anyhow::Result<(Status, Value)> {
        let CampaignOptions { out, overwrite, .. } = self.options.campaign;
        // Before the search of the rates, which takes long.
        if !overwrite {
            Purpose::Exploration.refuse_others(out)?;
        }
        let Some(tuned) = self.tune()? else { return Ok(self.interrupted()) };
        take_tuned(&mut self.experiment, &tuned)?;
        let mut progress = Progress::new();
        let study = self.explore(&mut progress)?;
        if !study.complete {
            progress.finish();
            output::note(format!("stopped; the same command continues the study in {}", out.display()));
            return Ok(self.interrupted());
        }
        progress.begin("writing the report");
        let rendered = exploration(&self.experiment.name, &study, out)?;
        progress.finish();
        let object = self.report(&claims::findings(&study), &rendered, &tuned)?;
        Ok((Status::Done, object))
    }

    /// The folder that has the learning rates, which are searched if need be; `None` if the search was stopped.
    fn tune(&mut self) -> anyhow::Result<Option<PathBuf>> {
        if let Some(folder) = self.tuned {
            return Ok(Some(folder.to_owned()));
        }
        add_companions(&mut self.experiment)?;
        let folder = self.options.campaign.out.join("tune");
        let campaign = CampaignOptions { out: &folder, seeds: TUNING_SEEDS, ..self.options.campaign };
        let found = tune::search(&self.experiment, &TuneOptions { campaign, refinements: REFINEMENTS })?;
        Ok((!found.stopped).then_some(folder))
    }

    fn explore(&self, progress: &mut Progress) -> anyhow::Result<Exploration> {
        signals::preparing();
        let study = explore(&self.experiment, &self.options, &|event| {
            signals::begun();
            progress.campaign("run", event);
        })?;
        Ok(study)
    }

    /// What a study that was stopped says.
    fn interrupted(&self) -> (Status, Value) {
        let object = json!({ "folder": self.options.campaign.out, "status": "interrupted", "claims": [] });
        (Status::Incomplete, object)
    }

    /// Prints what was found, and gives it for `--json`.
    fn report(&self, findings: &[Findings], rendered: &ReportOutput, tuned: &Path) -> anyhow::Result<Value> {
        let out = self.options.campaign.out;
        for line in table(findings) {
            output::line(line)?;
        }
        output::line(format!("report: {}", rendered.html.display()))?;
        output::line(format!("tables: {}", out.join("*.csv").display()))?;
        let claims = findings.iter().flat_map(|group| &group.findings).map(|finding| &finding.claim);
        Ok(json!({
            "folder": out,
            "status": "complete",
            "report": rendered.html,
            "figures": rendered.figures,
            "tables": [out.join("explore.csv"), out.join("signs.csv")],
            "tuned": tuned,
            "claims": claims.collect::<Vec<_>>(),
        }))
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
