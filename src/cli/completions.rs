//! `taylorscope completions`.

use super::{
    answer::{Answer, Status},
    output,
};
use clap_complete::Shell;
use serde_json::json;

#[derive(clap::Args)]
pub struct Arguments {
    /// The shell that is to complete commands and flags
    #[arg(value_enum)]
    shell: Shell,
}

pub fn command(arguments: &Arguments) -> anyhow::Result<Answer> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::help::command(), "taylorscope", &mut script);
    let script = String::from_utf8(script)?;
    output::line(script.trim_end())?;
    Ok(Answer::new(Status::Done, json!({ "shell": arguments.shell.to_string(), "script": script })))
}
