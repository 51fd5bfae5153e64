//! `taylorscope reproduce`: the paper's figures and its claims with verdicts.

use super::{STOP, Status, explore, output, run};
use crate::study::{
    RunOptions,
    claims::evaluate,
    experiment::{parse, source},
    results::RunTables,
};
use clap::ValueEnum;
use std::path::PathBuf;

/// Seeds of `--full` on the digits, and on MNIST.
const QUICK_SEEDS: usize = 5;
const FULL_SEEDS: usize = 3;

#[derive(clap::Args)]
pub struct Arguments {
    /// Which figure
    #[arg(value_enum, default_value_t = Figure::All)]
    figure: Figure,
    /// On the embedded digits: seconds instead of minutes, and no download
    #[arg(long)]
    quick: bool,
    /// Figure 5 with tuned rates, several seeds and intervals, as `explore` does it
    #[arg(long)]
    full: bool,
    /// Folder for the runs [default: runs/reproduce-FIGURE, or the first free one]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Folder with the datasets' files
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Seed of weights and data order
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: u64,
    /// Threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Replace earlier runs in the folder
    #[arg(long)]
    overwrite: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// Average regret against round for neurons, layers and the network (autoencoder)
    Fig3,
    /// Exploration of activation configurations (autoencoder)
    Fig5,
    All,
}

impl Figure {
    fn name(self) -> &'static str {
        match self {
            Figure::Fig3 => "fig3",
            Figure::Fig5 => "fig5",
            Figure::All => "all",
        }
    }

    /// The settings that turn the autoencoder study into this figure.
    fn settings(self, quick: bool) -> Vec<String> {
        let mut settings: Vec<&str> = match self {
            Figure::Fig3 => vec!["exploration.probe=0"],
            // The paper's figure 5 is over epochs; regret has its own figure.
            Figure::Fig5 => vec!["regret.scales=[]", "exploration.every=\"epoch\""],
            Figure::All => vec![],
        };
        if self == Figure::Fig5 {
            settings.push(if quick { "training.epochs=50" } else { "training.epochs=20" });
        }
        settings.into_iter().map(str::to_owned).collect()
    }
}

pub fn command(arguments: &Arguments) -> anyhow::Result<Status> {
    super::set_threads(arguments.threads)?;
    let name = if arguments.quick { "digits-autoencoder" } else { "mnist-autoencoder" };
    let default = PathBuf::from("runs").join(format!("reproduce-{}", arguments.figure.name()));
    let parent =
        arguments.out.clone().unwrap_or_else(|| if arguments.overwrite { default } else { run::free(default) });
    let figures = match arguments.figure {
        Figure::All => vec![Figure::Fig3, Figure::Fig5],
        one => vec![one],
    };
    let mut status = Status::Done;
    for figure in figures {
        let (text, origin) = source(name)?;
        if figure == Figure::Fig5 && arguments.full {
            let study = explore::Study {
                experiment: parse(&text, &origin, &[format!("seed={}", arguments.seed)])?,
                out: &parent.join("fig5-full"),
                data: arguments.data.as_deref(),
                seeds: if arguments.quick { QUICK_SEEDS } else { FULL_SEEDS },
                fine: None,
                tuned: None,
                overwrite: arguments.overwrite,
            };
            if study.run()? != Status::Done {
                status = Status::Incomplete;
            }
            continue;
        }
        let mut settings = figure.settings(arguments.quick);
        settings.push(format!("name=\"{name}-{}\"", figure.name()));
        settings.push(format!("seed={}", arguments.seed));
        let experiment = parse(&text, &origin, &settings)?;
        let out = parent.join(figure.name());
        let options = RunOptions {
            out: &out,
            data: arguments.data.as_deref(),
            keep_trace: false,
            overwrite: arguments.overwrite,
            resume: false,
            stop: &STOP,
        };
        let summary = run::run_and_report(&experiment, &options)?;
        output::line("")?;
        for claim in evaluate(&RunTables::read(&out)?) {
            output::line(format!("{}: {}", claim.verdict, claim.text))?;
            output::line(format!("    {}", claim.measured))?;
        }
        if summary.status != "complete" {
            status = Status::Incomplete;
        }
    }
    Ok(status)
}
