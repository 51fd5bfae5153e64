//! One process at a time works in a folder.
//!
//! The lock is the operating system's, on a file that stays in the folder: it ends with the process however that ends, so no lock
//! is ever left behind. While it is held, the file has the number of the process, for messages. Some network file systems have no
//! locks; there, folders that are found to be free are still one process's each, as making a folder succeeds once only.

use super::error::StudyError;
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::Path,
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
        // A file that a killed process left behind does not lock.
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
}
