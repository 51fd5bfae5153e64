//! The folder of an analysis: what it may hold, how one analysis takes the place of another, and what `--resume` goes
//! on from.
//!
//! One rename decides: as long as [`REPLACING`] is not there, the folder holds the analysis of its `experiment.toml`;
//! once it is, all that the folder holds of another one is to be removed, and the analysis that it describes begins.

use crate::{
    files::{remove, remove_folder},
    study::{
        error::{AnalyzeError, StudyError},
        experiment::{ExplorationSection, RegretSection, Sections},
        folder::{EXPERIMENT, FIGURES, PAGE, Purpose, REPLACING, entries, holds_something},
        lock::LOCK_FILE,
        write,
    },
};
use serde::{Deserialize, Serialize};
use std::path::Path;
use toml::{Table, Value};

/// `experiment.toml` of an analysis: its traces and its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::study) struct Description {
    pub trace: Vec<Source>,
    pub regret: RegretSection,
    pub exploration: ExplorationSection,
}

/// One trace of an analysis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::study) struct Source {
    pub folder: String,
    /// Where its results are.
    pub label: String,
    /// Of its contents.
    pub sha256: String,
}

impl Description {
    pub fn new(sections: &Sections, trace: Vec<Source>) -> Self {
        Self { regret: sections.regret.clone(), exploration: sections.exploration.clone(), trace }
    }

    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a description is always expressible as TOML")
    }

    /// The settings alone, to tell the analysis from others of the same trace.
    pub fn settings(&self) -> String {
        Self { trace: Vec::new(), ..self.clone() }.to_toml()
    }

    /// The first key in which `found` differs, with its value and ours. Where traces lie does not matter.
    fn differs_from(&self, found: &Table) -> Option<(String, String, String)> {
        let ours = Table::try_from(self).expect("a description is always expressible as TOML");
        for section in ["regret", "exploration"] {
            let [a, b] = [&ours, found].map(|table| table.get(section).and_then(Value::as_table));
            let keys = a.into_iter().chain(b).flat_map(Table::keys);
            for key in keys {
                let [asked, found] = [a, b].map(|table| table.and_then(|table| table.get(key)));
                if asked != found {
                    let text = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
                    return Some((format!("{section}.{key}"), text(found), text(asked)));
                }
            }
        }
        let theirs: Vec<Source> =
            found.get("trace").and_then(|traces| traces.clone().try_into().ok()).unwrap_or_default();
        let list = |all: &[Source]| all.iter().map(|source| source.folder.clone()).collect::<Vec<_>>().join(", ");
        let content = |all: &[Source]| -> Vec<_> { all.iter().map(|s| (s.label.clone(), s.sha256.clone())).collect() };
        if content(&theirs) == content(&self.trace) {
            return None;
        }
        let changed = theirs.iter().zip(&self.trace).find(|(a, b)| a.folder == b.folder && a.sha256 != b.sha256);
        Some(match changed {
            Some((a, b)) => {
                let text = |source: &Source| format!("{} with SHA-256 {}...", source.folder, short(&source.sha256));
                ("trace".to_owned(), text(a), text(b))
            }
            None => ("trace".to_owned(), list(&theirs), list(&self.trace)),
        })
    }
}

fn short(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}

/// What a folder holds.
pub(in crate::study) enum Found {
    Nothing,
    /// Files that an analysis wrote.
    Analysis {
        description: Option<Table>,
        /// Whether it is still to replace what else is there.
        begins: bool,
    },
}

fn fail(path: &Path, source: std::io::Error) -> StudyError {
    StudyError::Write { path: path.to_owned(), source }
}

/// Looks into a folder without touching it.
pub(in crate::study) fn look(out: &Path) -> Result<Found, StudyError> {
    if !out.exists() {
        return Ok(Found::Nothing);
    }
    let replacing = out.join(REPLACING);
    let begins = replacing.exists();
    let path = if begins { replacing } else { out.join(EXPERIMENT) };
    let description = match std::fs::read_to_string(&path) {
        // A file that is not TOML was not written by us.
        Ok(text) => match text.parse::<Table>() {
            Ok(table) => Some(table),
            Err(_) => return Err(AnalyzeError::Foreign { path: out.to_owned(), entry: path }.into()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(fail(&path, source)),
    };
    if description.as_ref().is_some_and(|table| !table.contains_key("trace")) {
        return Err(AnalyzeError::Run { path: out.to_owned() }.into());
    }
    Purpose::Analysis.admit(out)?;
    Ok(if holds_something(out)? { Found::Analysis { description, begins } } else { Found::Nothing })
}

/// How to go on with a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::study) enum Mode {
    /// It has nothing to lose, or what it has is to be replaced.
    Begin,
    /// What is complete is kept.
    Continue,
}

/// Whether an analysis may have the folder, and how; `description` is known once the traces were read.
pub(in crate::study) fn mode(
    out: &Path,
    overwrite: bool,
    resume: bool,
    description: Option<&Description>,
) -> Result<Mode, StudyError> {
    let (found, begins) = match look(out)? {
        Found::Nothing => return Ok(Mode::Begin),
        Found::Analysis { .. } if overwrite => return Ok(Mode::Begin),
        Found::Analysis { .. } if !resume => return Err(StudyError::Occupied { path: out.to_owned() }),
        Found::Analysis { description: None, .. } => {
            return Err(AnalyzeError::NothingToResume { path: out.to_owned() }.into());
        }
        Found::Analysis { description: Some(found), begins } => (found, begins),
    };
    if let Some((key, found, asked)) = description.and_then(|description| description.differs_from(&found)) {
        return Err(AnalyzeError::Other { path: out.to_owned(), key, values: Box::new([found, asked]) }.into());
    }
    Ok(if begins { Mode::Begin } else { Mode::Continue })
}

/// Removes the page and its figures, which are of other tables than will be here.
pub(in crate::study) fn remove_page(out: &Path) -> Result<(), StudyError> {
    remove(&out.join(PAGE)).map_err(|source| fail(out, source))?;
    let figures = out.join(FIGURES);
    remove_folder(&figures).map_err(|source| fail(&figures, source))
}

/// Removes what another analysis left. Ended at any point, this leaves the other one as it was (apart from its page,
/// which its tables can make again), or a folder in which `description` begins.
pub(in crate::study) fn replace<R>(
    out: &Path,
    description: &Description,
    begin: impl FnOnce() -> Result<R, StudyError>,
) -> Result<R, StudyError> {
    remove_page(out)?;
    write::file(&out.join(REPLACING), description.to_toml().as_bytes())?;
    for path in entries(out)? {
        let name = path.file_name().unwrap_or_default();
        let removed = if path.is_dir() {
            remove_folder(&path)
        } else if name != LOCK_FILE && name != REPLACING {
            remove(&path)
        } else {
            Ok(())
        };
        removed.map_err(|source| fail(&path, source))?;
    }
    write::file(&out.join(EXPERIMENT), description.to_toml().as_bytes())?;
    let begun = begin()?;
    remove(&out.join(REPLACING)).map_err(|source| fail(out, source))?;
    Ok(begun)
}
