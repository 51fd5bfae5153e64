//! `taylorscope reproduce`: the paper's figures and its claims with verdicts.

use super::{
    answer::{Answer, Status},
    explore,
    idle::in_idle,
    landscape,
    memory::Memory,
    options::{Data, Overwrite, Seed, Threads},
    output,
    progress::Progress,
    run,
    signals::{self, STOP},
};
use crate::{
    report,
    study::{
        RunOptions,
        campaign::CampaignOptions,
        claims::{Claim, Tally, evaluate},
        experiment::load,
        explore::{EPSILONS, ExploreOptions, FACTORS, Optima},
        folder::{Destination, NewFolder},
        keeper::Interval,
        landscape::{Along, LandscapeOptions, LandscapeTables, SegmentOptions, Subject, along, claims, growth},
        results::RunTables,
    },
};
use clap::{ValueEnum, ValueHint};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

/// Seeds of `--full` on the digits, and on MNIST.
const QUICK_SEEDS: usize = 5;
const FULL_SEEDS: usize = 3;
/// Multiples of the tuned rates, and epsilons, of `--full` on MNIST.
const FULL_FACTORS: [f64; 7] = [0.01, 0.03, 0.1, 0.25, 0.5, 1.0, 2.0];
const FULL_EPSILONS: [f64; 6] = [1e-8, 1e-6, 1e-4, 1e-2, 1.0, 100.0];

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
    /// Folder to write to [default: runs/reproduce-FIGURE, or the first free one of runs/reproduce-FIGURE-2, ...]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    seed: Seed,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    memory: Memory,
    #[command(flatten)]
    overwrite: Overwrite,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// Shattered gradients: functions, kinks and gradients, and what updates cross (autoencoder)
    Fig1,
    /// Average regret against round for neurons, layers and the network (autoencoder)
    Fig3,
    /// The same for the convolutional network
    Fig4,
    /// Exploration of activation configurations (both)
    Fig5,
    All,
}

impl Figure {
    fn name(self) -> &'static str {
        match self {
            Figure::Fig1 => "fig1",
            Figure::Fig3 => "fig3",
            Figure::Fig4 => "fig4",
            Figure::Fig5 => "fig5",
            Figure::All => "all",
        }
    }

    /// The runs that make the figure. Those on CIFAR-10, which take hours, come last.
    fn runs(self) -> Vec<Reproduction> {
        let autoencoder = |figure, folder| Reproduction { figure, folder, task: Task::Autoencoder };
        let convnet = |figure, folder| Reproduction { figure, folder, task: Task::Convnet };
        match self {
            // No study: see `shattered`.
            Figure::Fig1 => vec![],
            Figure::Fig3 => vec![autoencoder(Figure::Fig3, "fig3")],
            Figure::Fig4 => vec![convnet(Figure::Fig4, "fig4")],
            Figure::Fig5 => vec![autoencoder(Figure::Fig5, "fig5"), convnet(Figure::Fig5, "fig5-convnet")],
            Figure::All => {
                let mut all: Vec<Reproduction> =
                    [Figure::Fig3, Figure::Fig4, Figure::Fig5].into_iter().flat_map(Figure::runs).collect();
                all.sort_by_key(|run| run.task == Task::Convnet);
                all
            }
        }
    }
}

/// The paper's two tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Autoencoder,
    Convnet,
}

impl Task {
    fn experiment(self, quick: bool) -> &'static str {
        match (self, quick) {
            (Task::Autoencoder, true) => "digits-autoencoder",
            (Task::Autoencoder, false) => "mnist-autoencoder",
            (Task::Convnet, true) => "digits-convnet",
            (Task::Convnet, false) => "cifar10-convnet",
        }
    }
}

/// One task's half of a figure.
struct Reproduction {
    figure: Figure,
    folder: &'static str,
    task: Task,
}

impl Reproduction {
    /// The settings that turn the task's study into this figure.
    fn settings(&self, quick: bool) -> Vec<String> {
        let settings: &[&str] = match (self.figure, self.task, quick) {
            // The paper's figure 5 is over epochs; regret has its own figures.
            (Figure::Fig5, _, true) => &["regret.scales=[]", "exploration.every=\"epoch\"", "training.epochs=50"],
            (Figure::Fig5, Task::Autoencoder, false) => {
                &["regret.scales=[]", "exploration.every=\"epoch\"", "training.epochs=20"]
            }
            (Figure::Fig5, Task::Convnet, false) => &["regret.scales=[]", "exploration.every=\"epoch\""],
            // As many epochs as the training data take.
            (Figure::Fig4, _, true) => &[
                "exploration.probe=0",
                "training.epochs=60",
                "training.stop_at_train_accuracy=0.99",
                "regret.window=230",
            ],
            _ => &["exploration.probe=0"],
        };
        settings.iter().map(ToString::to_string).collect()
    }
}

/// The settings of the study of `--full`: on MNIST some 330 trainings of six epochs, about half an hour on two cores.
fn full_settings(quick: bool) -> Vec<String> {
    let settings: &[&str] = if quick { &[] } else { &["training.epochs=6", "exploration.probe=1000"] };
    settings.iter().map(ToString::to_string).collect()
}

/// What a figure of the paper came to.
struct Made {
    status: Status,
    /// For `--json`.
    object: Value,
}

pub fn command(arguments: &Arguments) -> anyhow::Result<Answer> {
    arguments.threads.set()?;
    let default = PathBuf::from("runs").join(format!("reproduce-{}", arguments.figure.name()));
    // A study continues in its folder.
    let same = arguments.overwrite.overwrite || (arguments.figure == Figure::Fig5 && arguments.full);
    if same {
        return in_idle(arguments.out.as_deref(), &default, |parent| figures(arguments, parent));
    }
    match &arguments.out {
        Some(out) => figures(arguments, out),
        None => figures(arguments, &NewFolder::first_free(&default)?.path),
    }
}

/// Makes the figures in the folder `parent`.
fn figures(arguments: &Arguments, parent: &Path) -> anyhow::Result<Answer> {
    let mut all = Vec::new();
    let mut keep = |figure: Figure, made: anyhow::Result<Made>| {
        let mut made = made.map_err(|error| with_hint(error, arguments.quick))?;
        made.object["figure"] = json!(figure.name());
        all.push(made);
        Ok::<(), anyhow::Error>(())
    };
    if matches!(arguments.figure, Figure::Fig1 | Figure::All) {
        let name = Task::Autoencoder.experiment(arguments.quick);
        keep(Figure::Fig1, shattered(arguments, name, &parent.join(Figure::Fig1.name())))?;
    }
    for reproduction in arguments.figure.runs() {
        if reproduction.figure == Figure::Fig5 && arguments.full {
            // The study of the convolutional network would take days.
            if reproduction.task == Task::Convnet {
                continue;
            }
            keep(Figure::Fig5, reproduction.study(arguments, &parent.join("fig5-full")))?;
        } else {
            keep(reproduction.figure, reproduction.run(arguments, &parent.join(reproduction.folder)))?;
        }
        if STOP.load(Ordering::SeqCst) {
            break;
        }
    }
    let complete = all.iter().all(|made| made.status == Status::Done) && !STOP.load(Ordering::SeqCst);
    let figures: Vec<Value> = all.into_iter().map(|made| made.object).collect();
    let status = if complete { "complete" } else { "incomplete" };
    Ok(Answer::new(Status::of(complete), json!({ "folder": parent, "status": status, "figures": figures })))
}

/// An error for want of the paper's datasets also names the way that needs none.
fn with_hint(error: anyhow::Error, quick: bool) -> anyhow::Error {
    match output::is_missing_data(&error) && !quick {
        true => error.context("the paper's data are not at hand; add --quick to take the embedded digits instead"),
        false => error,
    }
}

impl Reproduction {
    /// Figure 5 as a study.
    fn study(&self, arguments: &Arguments, out: &Path) -> anyhow::Result<Made> {
        let mut settings = full_settings(arguments.quick);
        settings.extend(arguments.seed.setting());
        let experiment = load(self.task.experiment(arguments.quick), &settings)?;
        let campaign = CampaignOptions {
            out,
            data: arguments.data.folder(),
            seeds: if arguments.quick { QUICK_SEEDS } else { FULL_SEEDS },
            overwrite: arguments.overwrite.overwrite,
            stop: &STOP,
        };
        let options = ExploreOptions {
            campaign,
            fine: None,
            optima: if arguments.quick { Optima::All } else { Optima::Tuned },
            factors: if arguments.quick { &FACTORS } else { &FULL_FACTORS },
            epsilons: if arguments.quick { &EPSILONS } else { &FULL_EPSILONS },
        };
        let (status, object) = explore::Study { experiment, tuned: None, options }.run()?;
        Ok(Made { status, object })
    }

    /// A figure as a run.
    fn run(&self, arguments: &Arguments, out: &Path) -> anyhow::Result<Made> {
        let name = self.task.experiment(arguments.quick);
        let mut settings = self.settings(arguments.quick);
        settings.push(format!("name=\"{name}-{}\"", self.figure.name()));
        settings.extend(arguments.seed.setting());
        let experiment = load(name, &settings)?;
        let options = RunOptions {
            out: Destination::Folder(out),
            data: arguments.data.folder(),
            keep_trace: false,
            overwrite: arguments.overwrite.overwrite,
            // The same command continues where it ended.
            resume: !arguments.overwrite.overwrite,
            checkpoint: Interval::default(),
            memory: arguments.memory.bytes(),
            stop: &STOP,
        };
        let (folder, status, mut object) = run::run_and_report(&experiment, &options)?;
        output::line("")?;
        let claims = evaluate(&RunTables::read(&folder)?);
        print(&claims)?;
        object["claims"] = json!(claims);
        Ok(Made { status, object })
    }
}

/// Prints claims with their verdicts, and how many have which.
fn print(claims: &[Claim]) -> anyhow::Result<()> {
    for claim in claims {
        output::line(format!("{}: {}", claim.verdict, claim.text))?;
        output::line(format!("    {}", claim.measured))?;
    }
    output::line(format!("claims:  {}", Tally::of(claims)))
}

/// The round whose update figure 1 looks along: early, when the function still changes much.
const SHOWN_UPDATE: usize = 10;

/// Figure 1: constructed and random networks, one update of training, and what the updates of each optimizer crossed.
fn shattered(arguments: &Arguments, name: &str, out: &Path) -> anyhow::Result<Made> {
    let mut progress = Progress::new();
    let mut events = |event: &str| progress.step(event);
    let settings: Vec<String> = arguments.seed.setting().into_iter().collect();
    let experiment = load(name, &settings)?;
    signals::preparing();
    let subject = Subject::of_experiment(&experiment, arguments.data.folder())?;
    signals::begun();
    let updates = if arguments.quick { 30 } else { 50 };
    let segment = SegmentOptions { along: Along::Update(SHOWN_UPDATE), through: None, updates };
    let options = LandscapeOptions {
        subject: &subject,
        datapoints: None,
        optimizer: None,
        round: None,
        output: None,
        out: Destination::Folder(out),
        overwrite: arguments.overwrite.overwrite,
        memory: arguments.memory.bytes(),
        stop: &STOP,
    };
    let settings = growth::GrowthSettings::new(if arguments.quick { 20 } else { 100 }, experiment.seed);
    // Before anything is written, so that what is there is complete.
    let growth = growth::find(&settings, &subject.examples(), options.memory, &STOP, &mut events)?;
    let found = along(&options, &segment, &mut events)?;
    growth.write(out)?;
    progress.begin("writing the report");
    let rendered = report::render_landscape(out)?;
    progress.finish();
    let mut object = landscape::print(&found.summary, out, &rendered)?;
    let judged = claims::evaluate(&LandscapeTables::read(out)?);
    print(&judged)?;
    output::line(claims::RULE)?;
    object["claims"] = json!(judged);
    Ok(Made { status: Status::Done, object })
}
