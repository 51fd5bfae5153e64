//! The folder of a landscape: whether it may be had, and how one landscape takes the place of another.

use super::{LandscapeError, SUMMARY, rows::LandscapeSummary};
use crate::{
    files::{is_partial, remove},
    study::{
        StudyError,
        lock::{Destination, Held, LOCK_FILE},
    },
};
use std::path::Path;

/// The tables that a landscape may have.
const TABLES: [&str; 8] = [
    "kinks.csv",
    "pieces.csv",
    "steps.csv",
    "updates.csv",
    "regions.csv",
    "growth.csv",
    "autocorrelation.csv",
    "functions.csv",
];
const PAGE: &str = "report.html";
const FIGURES: &str = "figures";

/// What was found, in a folder that no other process gets until this is dropped.
#[derive(Debug)]
pub struct Landscape {
    pub summary: LandscapeSummary,
    pub folder: Held,
}

fn fail(path: &Path, source: std::io::Error) -> StudyError {
    StudyError::Write { path: path.to_owned(), source }
}

/// Whether a landscape may go into the folder, without touching it.
///
/// # Errors
/// If it holds something else, or another landscape that may not be replaced.
pub(super) fn admit(out: &Destination, overwrite: bool) -> Result<(), LandscapeError> {
    let Some(out) = out.folder().filter(|out| out.exists()) else { return Ok(()) };
    let mut results = false;
    for entry in std::fs::read_dir(out).map_err(|source| fail(out, source))? {
        let name = entry.map_err(|source| fail(out, source))?.file_name();
        if name == LOCK_FILE || is_partial(&name) {
            continue;
        }
        if ![SUMMARY, PAGE, FIGURES].iter().chain(&TABLES).any(|ours| name == *ours) {
            return Err(StudyError::NotEmpty { path: out.to_owned() }.into());
        }
        results = true;
    }
    if results && !overwrite { Err(LandscapeError::Occupied { path: out.to_owned() }) } else { Ok(()) }
}

/// Takes the folder and removes what another landscape left in it.
///
/// # Errors
/// As [`admit`]; if another process has the folder, or it cannot be written.
pub(super) fn take(out: &Destination, overwrite: bool, events: &mut dyn FnMut(&str)) -> Result<Held, LandscapeError> {
    admit(out, overwrite)?;
    let held = out.take()?;
    if let Some(text) = held.warning() {
        events(&text);
    }
    let folder = &held.path;
    // Another process may have been here meanwhile.
    admit(&Destination::Folder(folder), overwrite)?;
    for name in [SUMMARY, PAGE].iter().chain(&TABLES) {
        let path = folder.join(name);
        remove(&path).map_err(|source| fail(&path, source))?;
    }
    let figures = folder.join(FIGURES);
    if figures.exists() {
        for entry in std::fs::read_dir(&figures).map_err(|source| fail(&figures, source))? {
            let path = entry.map_err(|source| fail(&figures, source))?.path();
            if path.extension().is_some_and(|extension| extension == "svg" || extension == "png") {
                remove(&path).map_err(|source| fail(&path, source))?;
            }
        }
    }
    Ok(held)
}
