//! Files that are complete or absent, never half written.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

/// What the name of a file that is being written ends with.
const PARTIAL: &str = ".partial";

/// What the user can do about an error of writing.
pub fn remedy(error: &io::Error) -> &'static str {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded => "free some space or choose another folder with --out",
        _ => "choose a folder that can be written with --out",
    }
}

/// Writes `bytes` to a temporary file beside `path` and renames it over `path`.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, |file| file.write_all(bytes))
}

/// Lets `write` fill a temporary file beside `path`, brings it to the disk, and renames it over `path`. Whatever happens on the
/// way, `path` holds what it held before or all of the new contents.
pub fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let partial = partial(path);
    let written = File::create(&partial)
        .and_then(|file| {
            let mut file = BufWriter::new(file);
            write(&mut file)?;
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
        })
        .and_then(|()| std::fs::rename(&partial, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    written
}

/// Removes `path`, which need not exist.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the folder `path` with all that is in it; it need not exist.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes `path`, and what an interrupted attempt to write it left; neither need exist.
pub fn remove_all_of(path: &Path) -> io::Result<()> {
    remove(path)?;
    remove(&partial(path))
}

/// Whether a file of this name is what an interrupted attempt to write left.
pub fn is_partial(name: &OsStr) -> bool {
    name.to_string_lossy().ends_with(PARTIAL)
}

fn partial(path: &Path) -> PathBuf {
    let mut name: OsString = path.file_name().unwrap_or_default().to_owned();
    name.push(PARTIAL);
    path.with_file_name(name)
}
