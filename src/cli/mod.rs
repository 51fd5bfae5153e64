//! The command line: parse, dispatch, print. One subcommand a file.
//!
//! Exit codes: 0 done, 1 failed on the way, 2 wrong usage.

mod analyze;
mod checkpoint;
mod data;
mod explore;
mod landscape;
mod memory;
mod output;
mod report;
mod reproduce;
mod run;
mod task;
mod tune;

use crate::study::{ExperimentError, StudyError, landscape::LandscapeError};
use clap::{Parser, Subcommand};
use std::{
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

/// An instrument for the training dynamics of rectifier networks: how much of the loss is regret, how much is the
/// Taylor optimum, and how widely an optimizer explores.
#[derive(Parser)]
#[command(name = "taylorscope", version, about, long_about = None)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train, analyse and report an experiment
    Run(run::Arguments),
    /// Search the learning rate of every optimizer of an experiment
    Tune(tune::Arguments),
    /// Test with tuned rates and several seeds whether RMS normalization explores more
    Explore(explore::Arguments),
    /// Reproduce figures of the paper and judge its claims
    Reproduce(reproduce::Arguments),
    /// Analyse a trace of a run that was trained elsewhere
    Analyze(analyze::Arguments),
    /// Exact kinks, function and gradient along a segment of inputs or weights
    Landscape(landscape::Arguments),
    /// Render a run's report again, or several runs side by side
    Report(report::Arguments),
    /// List, fetch or verify datasets
    Data(data::Arguments),
}

/// Set by Ctrl-C and SIGTERM: the current round or search step is finished, state and results are written, then the program ends.
static STOP: AtomicBool = AtomicBool::new(false);

/// More threads than any machine has; a larger number is a typing mistake.
const MAX_THREADS: usize = 1024;

/// How a command ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Done,
    /// Results were written, but something in them failed or was interrupted.
    Incomplete,
}

/// Parses the command line, runs the command, and returns the exit code.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    // A second Ctrl-C ends at once.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("\nstopping: writing down what there is; press Ctrl-C again to end at once");
    });
    let result = match arguments.command {
        Command::Run(arguments) => run::command(&arguments),
        Command::Tune(arguments) => tune::command(&arguments),
        Command::Explore(arguments) => explore::command(&arguments),
        Command::Reproduce(arguments) => reproduce::command(&arguments),
        Command::Analyze(arguments) => analyze::command(&arguments),
        Command::Landscape(arguments) => landscape::command(&arguments),
        Command::Report(arguments) => report::command(&arguments),
        Command::Data(arguments) => data::command(&arguments),
    };
    match result {
        Ok(Status::Done) => ExitCode::SUCCESS,
        Ok(Status::Incomplete) => ExitCode::from(1),
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if is_usage(&error) { 2 } else { 1 })
        }
    }
}

/// An error in what the user asked for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

fn is_usage(error: &anyhow::Error) -> bool {
    error.downcast_ref::<UsageError>().is_some()
        || error.downcast_ref::<ExperimentError>().is_some_and(|e| !matches!(e, ExperimentError::Read { .. }))
        || error.downcast_ref::<StudyError>().is_some_and(StudyError::is_usage)
        || error.downcast_ref::<LandscapeError>().is_some_and(LandscapeError::is_usage)
        || error.downcast_ref::<crate::optim::OptimizerError>().is_some()
        || error
            .downcast_ref::<crate::data::DataError>()
            .is_some_and(|e| matches!(e, crate::data::DataError::UnknownName { .. }))
}

/// Parses a positive number.
fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "write positive numbers, such as 0.5 or 1e-8".to_owned())
}

/// Sets the number of threads for all parallel work.
fn set_threads(threads: Option<usize>) -> anyhow::Result<()> {
    if threads.is_some_and(|threads| !(1..=MAX_THREADS).contains(&threads)) {
        return Err(UsageError(format!("--threads must lie between 1 and {MAX_THREADS}")).into());
    }
    // Zero stands for all cores. This thread is one of the pool's: rounds are short, and handing each to another thread and
    // waiting for it would take longer than many of their steps.
    rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).use_current_thread().build_global()?;
    // faer's own threads would nest inside ours; every dense problem here is one of many.
    faer::set_global_parallelism(faer::Par::Seq);
    Ok(())
}
