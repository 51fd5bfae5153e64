//! The folder of a command's results: what it may hold before, and who works in it.

use super::{
    error::{AnalyzeError, StudyError},
    experiment::{Experiment, load},
    lock::{LOCK_FILE, Lock},
    write,
};
use crate::files::{is_partial, remove};
use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

/// The experiment of the results in a folder.
pub const EXPERIMENT: &str = "experiment.toml";
/// What a run or an analysis found.
pub const SUMMARY: &str = "summary.json";
/// The page that shows results, and the folder of its figures.
pub const PAGE: &str = "report.html";
pub const FIGURES: &str = "figures";
/// The description of the analysis that replaces the one in the folder, until that is gone.
pub const REPLACING: &str = "replacing.toml";

/// The files of an analysis, and those of a trace's folder in it.
const ANALYSIS: [&str; 5] = [EXPERIMENT, SUMMARY, "environment.json", PAGE, REPLACING];
const TRACE: [&str; 11] = [
    "rounds.csv",
    "regret.csv",
    "units.csv",
    "novelty.csv",
    "neurons.csv",
    "pool_novelty.csv",
    "pool_neurons.csv",
    "probe.npy",
    "timing.json",
    "checkpoint.safetensors",
    "optima.safetensors",
];

/// The tables that a landscape may have.
const LANDSCAPE: [&str; 8] = [
    "kinks.csv",
    "pieces.csv",
    "steps.csv",
    "updates.csv",
    "regions.csv",
    "growth.csv",
    "autocorrelation.csv",
    "functions.csv",
];

/// Which command's results a folder is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Of `run`.
    Run,
    /// Of `tune`.
    Search,
    /// Of `explore`.
    Exploration,
    /// Of `analyze`.
    Analysis,
    /// Of `landscape`.
    Landscape,
}

impl Purpose {
    /// The file without which there is no result.
    pub fn mark(self) -> &'static str {
        match self {
            Purpose::Run | Purpose::Analysis => SUMMARY,
            Purpose::Search => "tune.csv",
            Purpose::Exploration => "explore.csv",
            Purpose::Landscape => "landscape.json",
        }
    }

    /// The files directly in the folder that may be removed to make place for other results; those of runs and studies are told apart
    /// by their experiment instead.
    pub fn files(self) -> Vec<&'static str> {
        match self {
            Purpose::Run | Purpose::Search | Purpose::Exploration => vec![self.mark()],
            Purpose::Analysis => ANALYSIS.to_vec(),
            Purpose::Landscape => [&[self.mark(), PAGE], &LANDSCAPE[..]].concat(),
        }
    }

    /// Fails if the folder, which need not exist, holds what this command does not write; touches nothing.
    ///
    /// # Errors
    /// [`StudyError::NotEmpty`], or [`AnalyzeError::Foreign`] with the entry.
    pub fn admit(self, folder: &Path) -> Result<(), StudyError> {
        if !folder.exists() {
            return Ok(());
        }
        match self.foreign(folder)? {
            None => Ok(()),
            Some(entry) if self == Purpose::Analysis => {
                Err(AnalyzeError::Foreign { path: folder.to_owned(), entry }.into())
            }
            Some(_) => Err(StudyError::NotEmpty { path: folder.to_owned() }),
        }
    }

    /// The first entry that this command does not write.
    fn foreign(self, folder: &Path) -> Result<Option<PathBuf>, StudyError> {
        match self {
            // Whose experiment that is, is found out later.
            Purpose::Run | Purpose::Search | Purpose::Exploration if folder.join(EXPERIMENT).exists() => Ok(None),
            Purpose::Run | Purpose::Search => first(folder, |_| false),
            // A study may begin with a search of its own.
            Purpose::Exploration => first(folder, |entry| name_of(entry) == "tune"),
            Purpose::Landscape => {
                let files = self.files();
                first(folder, |entry| name_of(entry) == FIGURES || files.iter().any(|file| name_of(entry) == *file))
            }
            Purpose::Analysis => self.foreign_to_analysis(folder),
        }
    }

    fn foreign_to_analysis(self, folder: &Path) -> Result<Option<PathBuf>, StudyError> {
        let files = self.files();
        let is_ours = |entry: &Path| entry.is_dir() || files.iter().any(|file| name_of(entry) == *file);
        if let Some(foreign) = first(folder, is_ours)? {
            return Ok(Some(foreign));
        }
        for inner in entries(folder)?.into_iter().filter(|entry| entry.is_dir()) {
            let figures = name_of(&inner) == FIGURES;
            let is_ours = |entry: &Path| {
                let listed = if figures { is_picture(entry) } else { TRACE.iter().any(|file| name_of(entry) == *file) };
                !entry.is_dir() && listed
            };
            // A folder is not what an interrupted attempt to write left.
            let foreign = |entry: &PathBuf| !is_ours(entry) && (entry.is_dir() || !is_partial(name_of(entry)));
            if let Some(foreign) = entries(&inner)?.into_iter().find(foreign) {
                return Ok(Some(foreign));
            }
        }
        Ok(None)
    }

    /// Fails if the folder of an experiment holds results of another command, and none of this one.
    ///
    /// # Errors
    /// [`StudyError::OtherCommand`].
    pub fn refuse_others(self, folder: &Path) -> Result<(), StudyError> {
        let there = |purpose: Purpose| folder.join(purpose.mark()).exists();
        let others = [Purpose::Run, Purpose::Search, Purpose::Exploration].into_iter().any(there);
        if !there(self) && others {
            return Err(StudyError::OtherCommand { path: folder.to_owned(), table: self.mark().to_owned() });
        }
        Ok(())
    }
}

/// Whether a folder that exists has anything but a lock and what interrupted attempts to write left.
pub fn holds_something(folder: &Path) -> Result<bool, StudyError> {
    Ok(first(folder, |_| false)?.is_some())
}

/// The first entry of a folder that is neither its lock, nor an unfinished file, nor `ours`.
fn first(folder: &Path, ours: impl Fn(&Path) -> bool) -> Result<Option<PathBuf>, StudyError> {
    let is_foreign = |entry: &PathBuf| name_of(entry) != LOCK_FILE && !is_partial(name_of(entry)) && !ours(entry);
    Ok(entries(folder)?.into_iter().find(is_foreign))
}

/// The paths of what a folder has.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, StudyError> {
    let all = std::fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    all.map_err(|source| StudyError::Write { path: folder.to_owned(), source })
}

fn name_of(entry: &Path) -> &OsStr {
    entry.file_name().unwrap_or_default()
}

/// Whether a file is a figure, by its name.
pub(super) fn is_picture(entry: &Path) -> bool {
    entry.extension().is_some_and(|extension| extension == "svg" || extension == "png")
}

/// The experiment that the results of a folder are of.
///
/// # Errors
/// [`StudyError::Unreadable`].
pub(super) fn experiment_in(folder: &Path) -> Result<Experiment, StudyError> {
    load(&folder.join(EXPERIMENT).display().to_string(), &[])
        .map_err(|source| StudyError::Unreadable { path: folder.to_owned(), source: source.into() })
}

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub enum Destination<'a> {
    /// Into this folder.
    Folder(&'a Path),
    /// Into the first of `dir`, `dir-2`, `dir-3`, ... that does not exist.
    FirstFree(&'a Path),
}

/// A folder with its lock: nobody else works in it until this is dropped.
#[derive(Debug)]
pub struct Folder {
    pub path: PathBuf,
    lock: Lock,
}

impl Folder {
    /// Takes a folder for results of a command, and makes it where it does not exist.
    ///
    /// # Errors
    /// If it holds what that command does not write, if another process has it, or if it cannot be made.
    pub fn open(out: &Destination, purpose: Purpose) -> Result<Folder, StudyError> {
        if let Some(folder) = out.folder() {
            purpose.admit(folder)?;
        }
        let folder = out.take()?;
        // Another process may have been here meanwhile.
        purpose.admit(&folder.path)?;
        Ok(folder)
    }

    /// What the user should know if the folder could not be locked.
    pub fn warning(&self) -> Option<String> {
        self.lock.warning(&self.path)
    }

    /// Whether it has a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.path.join(name).exists()
    }

    /// Removes a file, which need not exist.
    ///
    /// # Errors
    /// If it is there and stays.
    pub fn remove(&self, name: &str) -> Result<(), StudyError> {
        let path = self.path.join(name);
        remove(&path).map_err(|source| StudyError::Write { path, source })
    }

    /// Writes a file as a whole.
    ///
    /// # Errors
    /// If the disk fails; then what was there before still is.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StudyError> {
        write::file(&self.path.join(name), bytes)
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    /// As [`Folder::write`].
    pub fn write_json(&self, name: &str, value: &impl serde::Serialize) -> Result<(), StudyError> {
        write::json(&self.path.join(name), value)
    }
}

/// A new folder, which goes again when this is dropped if nothing was put into it.
#[derive(Debug)]
pub struct NewFolder {
    pub path: PathBuf,
}

impl NewFolder {
    /// Makes the first of `base`, `base-2`, `base-3`, ... that does not exist. Two processes never get the same one.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn first_free(base: &Path) -> Result<NewFolder, StudyError> {
        let fail = |path: &Path, source| StudyError::Write { path: path.to_owned(), source };
        if let Some(parent) = base.parent() {
            std::fs::create_dir_all(parent).map_err(|source| fail(parent, source))?;
        }
        for number in 1.. {
            let path = numbered(base, number);
            // Making a folder succeeds for one process only.
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(NewFolder { path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(fail(&path, source)),
            }
        }
        unreachable!("there is always another number")
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        // This fails if the folder has something, as it should.
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// `base`, `base-2`, `base-3`, ...
pub fn numbered(base: &Path, number: usize) -> PathBuf {
    let name = base.file_name().unwrap_or_default().to_string_lossy();
    if number == 1 { base.to_path_buf() } else { base.with_file_name(format!("{name}-{number}")) }
}

impl Destination<'_> {
    /// The folder, unless it is still to be found.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Destination::Folder(folder) => Some(folder),
            Destination::FirstFree(_) => None,
        }
    }

    /// Makes the folder where it does not exist, and takes it. Two processes never get the same one.
    ///
    /// # Errors
    /// If another process has the folder, or it cannot be made.
    pub fn take(&self) -> Result<Folder, StudyError> {
        let fail = |path: &Path, source| StudyError::Write { path: path.to_owned(), source };
        let base = match self {
            Destination::Folder(folder) => {
                std::fs::create_dir_all(folder).map_err(|source| fail(folder, source))?;
                return Ok(Folder { path: folder.to_path_buf(), lock: Lock::take(folder)? });
            }
            Destination::FirstFree(base) => base,
        };
        loop {
            let new = NewFolder::first_free(base)?;
            match Lock::take(&new.path) {
                Err(StudyError::InUse { .. }) => {}
                lock => return Ok(Folder { path: new.path.clone(), lock: lock? }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_folder_without_anything_in_it_goes_again() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("runs/reproduce");
        let (first, second) = (NewFolder::first_free(&base).unwrap(), NewFolder::first_free(&base).unwrap());
        assert_eq!((&first.path, &second.path), (&base, &numbered(&base, 2)));
        std::fs::write(second.path.join("result"), "1").unwrap();
        let paths = [first.path.clone(), second.path.clone()];
        drop((first, second));
        assert_eq!(paths.map(|path| path.exists()), [false, true]);
    }

    #[test]
    fn free_folders_are_claimed_once_each() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("runs/landscape");
        let mut names: Vec<String> = std::thread::scope(|scope| {
            let claim = || Destination::FirstFree(&base).take().unwrap();
            let claims: Vec<_> = (0..8).map(|_| scope.spawn(claim)).collect();
            let held: Vec<Folder> = claims.into_iter().map(|claim| claim.join().unwrap()).collect();
            held.iter().map(|held| held.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
        });
        names.sort();
        let expected = (1..=8).map(|n| if n == 1 { "landscape".to_owned() } else { format!("landscape-{n}") });
        assert_eq!(names, expected.collect::<Vec<_>>());
        let held = Destination::Folder(&base).take().unwrap();
        assert!(matches!(Destination::Folder(&base).take(), Err(StudyError::InUse { .. })));
        drop(held);
        Destination::Folder(&base).take().unwrap();
    }
}
