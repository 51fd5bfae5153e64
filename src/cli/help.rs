//! The command line with what its help says beyond the flags: examples, and what there is to name.

use super::{Arguments, show};
use crate::optim::registry;
use clap::{Command, CommandFactory};

/// Examples of each command; a subcommand of a command is written `data list`.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "run",
        &[
            "taylorscope run",
            "taylorscope run digits-classifier --optimizer sgd:0.1 --optimizer adam --epochs 5",
            "taylorscope run my.toml --set regret.prefixes=10 --resume",
        ],
    ),
    ("tune", &["taylorscope tune digits-autoencoder", "taylorscope tune my.toml --optimizer adam --seeds 5"]),
    ("explore", &["taylorscope explore", "taylorscope explore my.toml --tuned --optima none"]),
    ("reproduce", &["taylorscope reproduce fig3 --quick", "taylorscope reproduce fig5 --full --quick"]),
    ("analyze", &["taylorscope analyze my-trace", "taylorscope analyze sgd-trace adam-trace --out runs/both"]),
    (
        "landscape",
        &[
            "taylorscope landscape --along neuron 0.3",
            "taylorscope landscape runs/digits-autoencoder --along update 10 --optimizer adam",
            "taylorscope landscape digits-classifier --plane 0,1,2",
        ],
    ),
    ("report", &["taylorscope report runs/digits-autoencoder", "taylorscope report runs/a runs/b --out runs/both"]),
    ("data", &["taylorscope data list", "taylorscope data fetch mnist"]),
    ("data list", &["taylorscope data list", "taylorscope data list --data ~/datasets"]),
    ("data fetch", &["taylorscope data fetch mnist", "taylorscope data fetch cifar10 --data ~/datasets"]),
    ("data verify", &["taylorscope data verify mnist", "taylorscope data verify images:pictures"]),
    (
        "show",
        &[
            "taylorscope show",
            "taylorscope show digits-autoencoder --out my.toml",
            "taylorscope show --keys",
            "taylorscope show --optimizers",
        ],
    ),
    (
        "completions",
        &[
            "taylorscope completions bash > ~/.local/share/bash-completion/completions/taylorscope",
            "taylorscope completions fish > ~/.config/fish/completions/taylorscope.fish",
        ],
    ),
];

/// The whole command line.
pub fn command() -> Command {
    let mut command = Arguments::command();
    let named = ["run", "tune", "explore"];
    for (path, examples) in EXAMPLES {
        let mut text = format!("Examples:\n  {}", examples.join("\n  "));
        if named.contains(path) {
            text.push_str(&names());
        }
        command = match path.split_once(' ') {
            None => command.mut_subcommand(*path, |c| c.after_long_help(text)),
            Some((outer, inner)) => {
                command.mut_subcommand(outer, |c| c.mut_subcommand(inner, |c| c.after_long_help(text)))
            }
        };
    }
    let first = "Examples:\n  taylorscope run\n  taylorscope show digits-autoencoder --out my.toml\n  \
                 taylorscope run my.toml\n\n\
                 `taylorscope COMMAND --help` has the flags of a command.";
    command
        .after_long_help(first)
        .mut_subcommand("run", |c| c.mut_arg("tuned", |tuned| tuned.conflicts_with("optimizers")))
}

/// The experiments and optimizers that can be named.
fn names() -> String {
    let experiments: Vec<&str> = show::experiments().map(|(name, _)| name).collect();
    let optimizers: Vec<&str> = registry().map(|entry| entry.name).collect();
    format!("\n\nExperiments:\n  {}\n\nOptimizers:\n  {}", experiments.join(", "), optimizers.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command with its path.
    fn all(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            let path = format!("{path} {}", inner.get_name()).trim_start().to_owned();
            all(inner, &path, found);
            found.push((path, inner.clone()));
        }
    }

    fn commands() -> Vec<(String, Command)> {
        let mut found = Vec::new();
        let mut command = command();
        command.build();
        all(&command, "", &mut found);
        found
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_and_every_argument_a_text() {
        for (path, command) in commands() {
            assert!(command.get_after_long_help().is_some(), "{path} has no examples");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{path}: {} has no text", argument.get_id());
            }
        }
    }

    #[test]
    fn a_flag_means_the_same_in_all_commands() {
        // The default folder is each command's own, and a landscape is that of one optimizer.
        let own = |text: &str| {
            text.split(" [default").next().unwrap_or_default().split(';').next().unwrap_or_default().to_owned()
        };
        let mut texts = std::collections::BTreeMap::<String, (String, String)>::new();
        let flags = ["out", "overwrite", "resume", "data", "threads", "set", "memory", "seed", "tuned", "epochs"];
        for (path, command) in commands() {
            for argument in command.get_arguments() {
                let Some(flag) = argument.get_long().filter(|flag| flags.contains(flag)) else { continue };
                let text = own(&argument.get_help().map(ToString::to_string).unwrap_or_default());
                if flag == "out" && path == "show" {
                    continue;
                }
                let (first, known) = texts.entry(flag.to_owned()).or_insert((path.clone(), text.clone()));
                assert_eq!(*known, text, "--{flag} in {first} and {path}");
            }
        }
        assert_eq!(texts.len(), flags.len());
    }

    #[test]
    fn examples_are_accepted() {
        for (_, examples) in EXAMPLES {
            for example in *examples {
                let words = example.split(" >").next().unwrap_or_default().split(' ');
                let parsed = command().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{example}: {}", parsed.err().map(|e| e.to_string()).unwrap_or_default());
            }
        }
    }
}
