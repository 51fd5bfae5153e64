//! What is wrong with a file, together with the file.

use std::error::Error;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A fault and the file that has it.
#[derive(Debug, Error)]
#[error("{}: {fault}", .path.display())]
pub struct At<F> {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: F,
}

/// Every error can be a file's.
pub(super) trait InFile: Error + Sized {
    /// This fault, found in the file at `path`.
    fn at(self, path: &Path) -> At<Self> {
        At { path: path.to_owned(), fault: self }
    }
}

impl<F: Error> InFile for F {}
