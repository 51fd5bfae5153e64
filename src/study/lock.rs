//! One process at a time works in a folder.
//!
//! The lock is the operating system's, on a file that stays in the folder: it ends with the process however that ends, so no lock
//! is ever left behind. While it is held, the file has the number of the process, for messages. Some network file systems have no
//! locks; there, folders that are found to be free are still one process's each, as making a folder succeeds once only.

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
    /// Why there is no lock.
    missing: Option<io::Error>,
}

impl Lock {
    /// Takes the folder `folder`, which exists.
    ///
    /// # Errors
    /// If another process has it, or the file cannot be written.
    pub fn take(folder: &Path) -> Result<Lock, StudyError> {
        Self::take_by(folder, File::try_lock)
    }

    /// The same where files are locked by `lock`.
    fn take_by(folder: &Path, lock: impl Fn(&File) -> Result<(), TryLockError>) -> Result<Lock, StudyError> {
        let path = folder.join(LOCK_FILE);
        let fail = |source| StudyError::Write { path: path.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(fail)?;
        let mut missing = None;
        match lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                let _ = file.take(20).read_to_string(&mut process);
                return Err(StudyError::InUse { path: folder.to_owned(), process: process.trim().to_owned() });
            }
            // There, the user must take care.
            Err(TryLockError::Error(error)) => missing = Some(error),
        }
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(fail)?;
        Ok(Lock { file, missing })
    }

    /// What the user should know if `folder`, whose lock this is, could not be locked.
    pub fn warning(&self, folder: &Path) -> Option<String> {
        self.missing.as_ref().map(|why| {
            let folder = folder.display();
            format!("{folder} cannot be locked ({why}): see to it that no other process writes to it meanwhile")
        })
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
    lock: Lock,
}

impl Held {
    /// What the user should know if the folder could not be locked.
    pub fn warning(&self) -> Option<String> {
        self.lock.warning(&self.path)
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
    pub fn take(&self) -> Result<Held, StudyError> {
        let fail = |path: &Path, source| StudyError::Write { path: path.to_owned(), source };
        let base = match self {
            Destination::Folder(folder) => {
                std::fs::create_dir_all(folder).map_err(|source| fail(folder, source))?;
                return Ok(Held { path: folder.to_path_buf(), lock: Lock::take(folder)? });
            }
            Destination::FirstFree(base) => base,
        };
        loop {
            let new = NewFolder::first_free(base)?;
            match Lock::take(&new.path) {
                Err(StudyError::InUse { .. }) => {}
                lock => return Ok(Held { path: new.path.clone(), lock: lock? }),
            }
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
    fn a_file_system_without_locks_is_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        // ENOLCK, EOPNOTSUPP and ENOSYS of Linux, and what a file system may invent.
        for number in [37, 95, 38, 22] {
            let none = |_: &File| Err(TryLockError::Error(io::Error::from_raw_os_error(number)));
            let lock = Lock::take_by(folder.path(), none).unwrap();
            let warning = lock.warning(folder.path()).unwrap();
            assert!(warning.contains("cannot be locked") && warning.contains("no other process"), "{warning}");
        }
        assert_eq!(Lock::take(folder.path()).unwrap().warning(folder.path()), None);
    }

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
