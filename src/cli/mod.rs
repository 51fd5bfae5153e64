//! The command line: parse, dispatch, print. One subcommand a file.
//!
//! Exit codes: 0 done, 1 failed on the way, 2 wrong usage.

mod analyze;
mod answer;
mod checkpoint;
mod completions;
mod course;
mod data;
mod explore;
mod help;
mod idle;
mod landscape;
mod memory;
mod options;
mod output;
mod progress;
mod report;
mod reproduce;
mod run;
mod show;
mod signals;
mod summary;
mod task;
mod tune;

use crate::study::{ExperimentError, StudyError, landscape::LandscapeError};
use clap::{FromArgMatches, Parser, Subcommand};
use std::{ffi::OsString, process::ExitCode};

/// An instrument for the training dynamics of rectifier networks: how much of the loss is regret, how much is the
/// Taylor optimum, and how widely an optimizer explores.
#[derive(Parser)]
#[command(name = "taylorscope", version, about, long_about = None)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Print one JSON object on standard output instead of text
    #[arg(long, global = true, display_order = 900)]
    json: bool,
    /// Print no progress and no notes on standard error, only errors
    #[arg(long, short, global = true, display_order = 901)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Train, analyse and report an experiment
    Run(run::Arguments),
    /// Search the learning rate of every optimizer of an experiment
    Tune(tune::Arguments),
    /// Test with several seeds whether RMS normalization explores more; rates are searched first unless --tuned has them
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
    /// Write a built-in experiment, or list experiments, optimizers and keys
    Show(show::Arguments),
    /// Print a script that lets the shell complete commands and flags
    Completions(completions::Arguments),
}

/// Parses the command line, runs the command, and returns the exit code.
pub fn main() -> ExitCode {
    ExitCode::from(run_with(&std::env::args_os().collect::<Vec<_>>()))
}

/// The same with these arguments, the first of which is the name of the program. Signals are listened to from then on, so that this is for
/// programs that do nothing else.
pub fn run_with(command_line: &[OsString]) -> u8 {
    let mut matches = match help::command().try_get_matches_from(command_line) {
        Ok(matches) => matches,
        Err(error) => return refuse(&error, command_line),
    };
    let name = matches.subcommand_name().unwrap_or_default().to_owned();
    let arguments = match Arguments::from_arg_matches_mut(&mut matches) {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error, command_line),
    };
    output::configure(arguments.json, arguments.quiet);
    signals::listen();
    let result = match arguments.command {
        Command::Run(arguments) => run::command(&arguments),
        Command::Tune(arguments) => tune::command(&arguments),
        Command::Explore(arguments) => explore::command(&arguments),
        Command::Reproduce(arguments) => reproduce::command(&arguments),
        Command::Analyze(arguments) => analyze::command(&arguments),
        Command::Landscape(arguments) => landscape::command(&arguments),
        Command::Report(arguments) => report::command(&arguments),
        Command::Data(arguments) => data::command(&arguments),
        Command::Show(arguments) => show::command(&arguments),
        Command::Completions(arguments) => completions::command(&arguments),
    };
    let printed = result.and_then(|answer| {
        let code = answer.status.exit_code();
        if arguments.json {
            output::raw(&answer.line(&name))?
        }
        Ok(code)
    });
    match printed {
        Ok(code) => code,
        Err(error) if output::is_broken_pipe(&error) => 0,
        Err(error) => {
            let (text, code) = (answer::describe(&error), if is_usage(&error) { 2 } else { 1 });
            output::complain(format!("error: {text}"));
            if arguments.json {
                // A reader that went away needs no answer.
                let _ = output::raw(&answer::failure(&text, code));
            }
            code
        }
    }
}

/// Prints what is wrong with a command line, or the help that it asks for, and gives the exit code.
fn refuse(error: &clap::Error, command_line: &[OsString]) -> u8 {
    let _ = error.print();
    if !error.use_stderr() {
        return 0;
    }
    if command_line.iter().any(|argument| argument == "--json") {
        let text = error.to_string();
        let what = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let _ = output::raw(&answer::failure(what, 2));
    }
    2
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
