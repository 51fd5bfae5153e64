//! The folder of a landscape: whether it may be had, and how one landscape takes the place of another.

use super::{error::LandscapeError, rows::LandscapeSummary};
use crate::{
    files::remove,
    study::{
        error::StudyError,
        folder::{Destination, FIGURES, Folder, Purpose, entries, holds_something, is_picture},
    },
};
use std::path::Path;

/// The file that says what the folder holds.
pub(super) const SUMMARY: &str = "landscape.json";

/// What was found, in a folder that no other process gets until this is dropped.
#[derive(Debug)]
pub struct Landscape {
    pub summary: LandscapeSummary,
    pub folder: Folder,
}

/// Whether a landscape may go into the folder, without touching it.
///
/// # Errors
/// If it holds something else, or another landscape that may not be replaced.
pub(super) fn admit(out: &Destination, overwrite: bool) -> Result<(), LandscapeError> {
    let Some(out) = out.folder().filter(|out| out.exists()) else { return Ok(()) };
    Purpose::Landscape.admit(out)?;
    if holds_something(out)? && !overwrite {
        return Err(LandscapeError::Occupied { path: out.to_owned() });
    }
    Ok(())
}

/// Takes the folder and removes what another landscape left in it.
///
/// # Errors
/// As [`admit`]; if another process has the folder, or it cannot be written.
pub(super) fn take(out: &Destination, overwrite: bool, events: &mut dyn FnMut(&str)) -> Result<Folder, LandscapeError> {
    admit(out, overwrite)?;
    let folder = Folder::open(out, Purpose::Landscape)?;
    if let Some(text) = folder.warning() {
        events(&text);
    }
    // Another process may have been here meanwhile.
    admit(&Destination::Folder(&folder.path), overwrite)?;
    for name in Purpose::Landscape.files() {
        folder.remove(name)?;
    }
    remove_pictures(&folder.path.join(FIGURES))?;
    Ok(folder)
}

fn remove_pictures(figures: &Path) -> Result<(), StudyError> {
    if !figures.exists() {
        return Ok(());
    }
    for path in entries(figures)?.into_iter().filter(|path| is_picture(path)) {
        remove(&path).map_err(|source| StudyError::Write { path, source })?;
    }
    Ok(())
}
