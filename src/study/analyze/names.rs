//! What traces are called: the names of their folders.

use super::{check::Checked, told::Told};
use std::path::Path;

/// What a trace is called: by the optimizer's folder if it lies in a run, else by its own.
pub fn name_of(folder: &Path) -> String {
    match within_run(folder) {
        Some((optimizer, _)) => safe(&optimizer),
        None => safe(&last_name(folder)),
    }
}

fn last_name(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Of a trace in `RUN/<optimizer>/trace`: the names of the optimizer's folder and of the run's.
fn within_run(folder: &Path) -> Option<(String, String)> {
    let optimizer = folder.canonicalize().ok()?.parent()?.to_owned();
    let run = optimizer.parent()?;
    let is_run = last_name(folder) == "trace" && run.join("experiment.toml").exists();
    is_run.then(|| (last_name(&optimizer), last_name(run)))
}

/// Longest label.
const LONGEST: usize = 64;

/// A text as the name of a folder that no system objects to.
fn safe(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let mapped: String = text.chars().map(plain).take(LONGEST).collect();
    let name = mapped.trim_matches(['.', '-']);
    // Devices of Windows, and what a run has beside the folders of optimizers.
    let stem = name.split('.').next().unwrap_or_default().to_lowercase();
    let taken = ["con", "prn", "aux", "nul", "figures", "summary", "experiment", "environment", "report", "replacing"];
    let device = stem.len() == 4 && (stem.starts_with("com") || stem.starts_with("lpt"));
    match name {
        "" => "trace".to_owned(),
        _ if device || taken.contains(&stem.as_str()) => format!("trace-{name}"),
        _ => name.to_owned(),
    }
}

/// A folder for each trace: named after its optimizer where no other trace has that name, else after the trace;
/// unique in any case.
pub(super) fn labels(all: &[Checked]) -> Vec<String> {
    let candidates: Vec<[String; 2]> = all
        .iter()
        .map(|checked| match within_run(&checked.folder) {
            Some((optimizer, run)) => [safe(&optimizer), safe(&format!("{optimizer}-{run}"))],
            None => {
                let folder = safe(&last_name(&checked.folder));
                [Told::by(&checked.manifest).name.map_or_else(|| folder.clone(), |name| safe(&name)), folder]
            }
        })
        .collect();
    chosen(&candidates)
}

/// The first of each two names if nobody else wants it, else the second, with a number where that is taken.
fn chosen(candidates: &[[String; 2]]) -> Vec<String> {
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    let mut labels: Vec<String> = Vec::new();
    for [first, second] in candidates {
        let unique = candidates.iter().filter(|[other, _]| same(other, first)).count() == 1;
        let wanted = if unique { first } else { second };
        let numbered = (1..).map(|n| if n == 1 { wanted.clone() } else { format!("{wanted}-{n}") });
        let free = |name: &String| !labels.iter().any(|label| same(label, name));
        labels.push(numbered.into_iter().find(free).unwrap_or_else(|| wanted.clone()));
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_folders_are_safe_and_unique() {
        for (text, expected) in [
            ("sgd", "sgd"),
            ("../up", "up"),
            ("my net/1", "my-net-1"),
            ("..", "trace"),
            ("", "trace"),
            ("\u{e9}", "trace"),
            ("NUL", "trace-NUL"),
            ("com1", "trace-com1"),
            ("figures", "trace-figures"),
            ("Summary.json", "trace-Summary.json"),
        ] {
            assert_eq!(safe(text), expected, "{text}");
        }
        assert_eq!(safe(&"a".repeat(500)).len(), LONGEST);
        let pairs = |all: &[[&str; 2]]| chosen(&all.iter().map(|p| p.map(str::to_owned)).collect::<Vec<_>>());
        assert_eq!(pairs(&[["sgd", "a"], ["adam", "b"]]), ["sgd", "adam"]);
        assert_eq!(pairs(&[["sgd", "a"], ["SGD", "b"], ["adam", "c"]]), ["a", "b", "adam"]);
        assert_eq!(pairs(&[["sgd", "t"], ["sgd", "T"], ["sgd", "t"]]), ["t", "T-2", "t-3"]);
    }
}
