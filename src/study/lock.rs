//! One process at a time works in a folder.
//!
//! The lock is the operating system's, on a file that stays in the folder: it ends with the process however that ends, so no lock
//! is ever left behind. While it is held, the file has the number of the process, for messages.

use super::StudyError;
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
}
