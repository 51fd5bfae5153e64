//! One process at a time works in a folder.
//!
//! The lock is the operating system's, on a file that stays in the folder: it ends with the process however that ends, so no lock
//! is ever left behind. While it is held, the file has the number of the process, for messages.

use super::StudyError;
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// The name of the file.
pub const LOCK_FILE: &str = ".lock";

/// A folder that is ours until this is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the folder `folder`, which exists.
    ///
    /// # Errors
    /// If another process has it, or the file cannot be written.
    pub fn take(folder: &Path) -> Result<Lock, StudyError> {
        let path = folder.join(LOCK_FILE);
        let fail = |source| StudyError::Write { path: path.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                let _ = file.take(20).read_to_string(&mut process);
                return Err(StudyError::InUse { path: folder.to_owned(), process: process.trim().to_owned() });
            }
            // Some network file systems know no locks: there, the user must take care.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(fail)?;
        Ok(Lock { file })
    }

    /// Whether some process has the folder.
    pub fn is_taken(folder: &Path) -> bool {
        File::open(folder.join(LOCK_FILE))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub enum Destination<'a> {
    /// Into this folder.
    Folder(&'a Path),
    /// Into the first of `dir`, `dir-2`, `dir-3`, ... that does not exist.
    FirstFree(&'a Path),
}

/// A folder with its lock.
#[derive(Debug)]
pub struct Held {
    pub path: PathBuf,
    _lock: Lock,
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
    pub fn take(&self) -> Result<Held, StudyError> {
        let fail = |path: &Path, source| StudyError::Write { path: path.to_owned(), source };
        let base = match self {
            Destination::Folder(folder) => {
                std::fs::create_dir_all(folder).map_err(|source| fail(folder, source))?;
                return Ok(Held { path: folder.to_path_buf(), _lock: Lock::take(folder)? });
            }
            Destination::FirstFree(base) => base,
        };
        if let Some(parent) = base.parent() {
            std::fs::create_dir_all(parent).map_err(|source| fail(parent, source))?;
        }
        let name = base.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut number = 1;
        loop {
            let path = if number == 1 { base.to_path_buf() } else { base.with_file_name(format!("{name}-{number}")) };
            // Making a folder succeeds for one process only.
            match std::fs::create_dir(&path) {
                Ok(()) => match Lock::take(&path) {
                    Err(StudyError::InUse { .. }) => {}
                    lock => return Ok(Held { path, _lock: lock? }),
                },
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(fail(&path, source)),
            }
            number += 1;
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_owners_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!Lock::is_taken(folder.path()));
        let lock = Lock::take(folder.path()).unwrap();
        assert!(Lock::is_taken(folder.path()));
        let error = Lock::take(folder.path()).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(lock);
        assert!(!Lock::is_taken(folder.path()));
        assert_eq!(std::fs::read_to_string(folder.path().join(LOCK_FILE)).unwrap(), "");
        // What a process that was killed left is no lock.
        std::fs::write(folder.path().join(LOCK_FILE), "1").unwrap();
        Lock::take(folder.path()).unwrap();
    }

    #[test]
    fn free_folders_are_claimed_once_each() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("runs/landscape");
        let mut names: Vec<String> = std::thread::scope(|scope| {
            let claim = || Destination::FirstFree(&base).take().unwrap();
            let claims: Vec<_> = (0..8).map(|_| scope.spawn(claim)).collect();
            let held: Vec<Held> = claims.into_iter().map(|claim| claim.join().unwrap()).collect();
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
