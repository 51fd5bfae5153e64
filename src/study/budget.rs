//! Whether a run fits: memory and disk, before it begins.

use super::{environment::free_space, error::StudyError};
use std::path::Path;

/// Fails if what must be kept in memory is more than `allowed`.
pub(super) fn check_memory(needed: usize, allowed: usize) -> Result<(), StudyError> {
    if needed > allowed { Err(StudyError::Memory { needed: size(needed), allowed: size(allowed) }) } else { Ok(()) }
}

/// Fails if the disk that `folder` is on has no room for `needed` bytes, where the system tells.
pub(super) fn check_disk(folder: &Path, needed: usize) -> Result<(), StudyError> {
    // The folder itself need not be there yet.
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    match free_space(there) {
        Some(free) if free < needed as u64 => Err(StudyError::Disk {
            path: folder.to_owned(),
            needed: size(needed),
            free: size(usize::try_from(free).unwrap_or(usize::MAX)),
        }),
        _ => Ok(()),
    }
}

/// Bytes below a folder.
pub(super) fn folder_bytes(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len() as usize)).sum()
}

/// A number of bytes in words.
pub(super) fn size(bytes: usize) -> String {
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit < 4 {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    let digits = if unit == 0 || value >= 100.0 { 0 } else { 1 };
    format!("{value:.digits$} {}", ["bytes", "KB", "MB", "GB", "TB"][unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_its_size() {
        let error = check_memory(3 << 30, 1 << 30).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("3.0 GB"), "{error}");
        assert!(check_memory(5, 5).is_ok());
        let folder = tempfile::tempdir().unwrap();
        assert!(check_disk(folder.path(), 1).is_ok());
        if free_space(folder.path()).is_some() {
            let error = check_disk(folder.path(), usize::MAX / 2).unwrap_err();
            assert!(!error.is_usage() && error.to_string().contains("TB"), "{error}");
        }
    }
}
