//! Comparing the files at hand with the published ones.

use std::io;
use std::path::{Path, PathBuf};

use super::checksum::Verdict;
use super::folders;
use super::layout::{self, Version};
use super::remote::{Remote, RemoteFile};
use super::{DataError, source_of};

/// What [`verify`] found out about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// The name as published.
    pub file: String,
    /// Where it is, if it is.
    pub path: Option<PathBuf>,
    /// How it compares with the published one.
    pub verdict: Verdict,
}

/// Compares the files that [`load`](super::load) would use with the published checksums: one
/// report a file. There are no reports for the embedded `digits` and for `images:DIR`, which are read through instead.
///
/// # Errors
///
/// If the name is unknown, or if there are no files or they cannot be read. Damaged and missing
/// files are findings, not errors.
pub fn verify(name: &str, dir: Option<&Path>) -> Result<Vec<FileReport>, DataError> {
    match source_of(name)?.remote() {
        None => super::load(name, dir).map(|_| Vec::new()),
        Some(remote) => verify_files(remote, dir),
    }
}

pub(super) fn verify_files(remote: &Remote, dir: Option<&Path>) -> Result<Vec<FileReport>, DataError> {
    let found = folders::locate(remote, dir)?;
    let names = layout::names(remote, found.version);
    let verdict = |file: &RemoteFile, path: &Option<PathBuf>| match (path, found.version) {
        (Some(path), Version::Published) => check(file, path),
        (Some(_), Version::Other) => Ok(Verdict::NotComparable),
        (None, _) => Ok(Verdict::Missing),
    };
    let files = remote.files.iter().zip(names).zip(&found.files);
    files
        .map(|((file, names), path)| {
            let verdict = verdict(file, path)?;
            Ok(FileReport { file: names[0].to_owned(), path: path.clone(), verdict })
        })
        .collect()
}

pub(super) fn check(file: &RemoteFile, path: &Path) -> Result<Verdict, DataError> {
    file.checksum.check(path).map_err(trouble_at(path))
}

pub(super) fn trouble_at(path: &Path) -> impl Fn(io::Error) -> DataError {
    let path = path.to_owned();
    move |error| DataError::Io { path: path.clone(), error }
}
