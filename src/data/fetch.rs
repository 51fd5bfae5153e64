//! Downloading the files of a dataset.
//!
//! Each file is taken from the first mirror that gives the published bytes. It is written under
//! the name `FILE.part` and gets its own name only after its checksum was found right, so a file
//! under its own name is whole; a `.part` left by an interrupted download is continued by the
//! next one.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use thiserror::Error;

use super::checksum::Verdict;
use super::download::{Client, Setback, download};
use super::layout;
use super::remote::{Remote, RemoteFile};
use super::transfer::Tool;
use super::verify::{check, trouble_at};
use super::{DataError, archive, folders, source_of};

/// The environment variable that replaces the mirrors.
const MIRROR_VARIABLE: &str = "TAYLORSCOPE_MIRROR";

/// How to download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOptions {
    /// URLs to use in place of the known mirrors: the file `FILE` of the dataset `NAME` is then
    /// expected at `URL/NAME/FILE`. The checksums stay the same.
    pub mirrors: Option<Vec<String>>,
    /// The time a server has to accept a connection. Default: 15 seconds.
    pub connect_timeout: Duration,
    /// The longest silence in a download. Default: 30 seconds.
    pub stall_timeout: Duration,
    /// How often a download that breaks off is continued from the same mirror before the next one
    /// gets its turn; one that breaks off without a byte is not continued. Default: 5.
    pub attempts: usize,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            mirrors: None,
            connect_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(30),
            attempts: 5,
        }
    }
}

impl FetchOptions {
    /// The defaults, with the mirrors of the environment variable `TAYLORSCOPE_MIRROR` (URLs
    /// between spaces) if it is set.
    pub fn from_environment() -> Self {
        let listed = env::var(MIRROR_VARIABLE).unwrap_or_default();
        Self { mirrors: split_mirrors(&listed), ..Self::default() }
    }

    /// The URLs of `file` of the dataset, best first.
    fn urls(&self, remote: &Remote, file: &str) -> Vec<String> {
        match &self.mirrors {
            Some(mirrors) => mirrors
                .iter()
                .map(|mirror| format!("{}/{}/{file}", mirror.trim_end_matches('/'), remote.name))
                .collect(),
            None => remote.mirrors.iter().map(|mirror| format!("{mirror}/{file}")).collect(),
        }
    }
}

fn split_mirrors(listed: &str) -> Option<Vec<String>> {
    let mirrors: Vec<String> = listed.split_whitespace().map(str::to_owned).collect();
    (!mirrors.is_empty()).then_some(mirrors)
}

/// What happens during a [`fetch`], in order, for each file.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// The file is there and intact; it is not downloaded.
    Present {
        /// Its name.
        file: &'a str,
    },
    /// A download begins, or continues.
    Started {
        /// The name of the file.
        file: &'a str,
        /// Where it comes from.
        url: &'a str,
    },
    /// Bytes have come.
    Received {
        /// The name of the file.
        file: &'a str,
        /// The bytes there, those of earlier attempts included.
        bytes: u64,
        /// The length of the file, if the server told.
        total: Option<u64>,
    },
    /// An attempt failed; another may follow.
    Failed {
        /// The name of the file.
        file: &'a str,
        /// Where and why.
        failure: &'a MirrorFailure,
    },
    /// A file was taken out of the archive it is published in, checked, and is under its own name.
    Unpacked {
        /// Its name.
        file: &'a str,
    },
    /// The file is there, checked and under its own name.
    Finished {
        /// Its name.
        file: &'a str,
        /// Its path.
        path: &'a Path,
    },
}

/// A failed attempt to download a file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{url}: {reason}")]
pub struct MirrorFailure {
    /// Where the file was to come from.
    pub url: String,
    /// What went wrong.
    pub reason: String,
}

/// Why a download failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No mirror gave the file.
    #[error(
        "no mirror gave {file}:\n  {}\nCheck the connection and try again (a partial download is \
         continued), set {MIRROR_VARIABLE} to another mirror, or put the file into {} by hand",
        list_failures(.failures),
        .folder.display()
    )]
    Mirrors {
        /// The name of the file.
        file: String,
        /// The folder it was meant for.
        folder: PathBuf,
        /// Every attempt, in order.
        failures: Vec<MirrorFailure>,
    },
    /// Another process downloads the same file.
    #[error("{} is being downloaded by another process; wait for it to finish", .path.display())]
    Busy {
        /// The partial file.
        path: PathBuf,
    },
    /// No program that downloads is on this machine.
    #[error(
        "neither curl nor wget, which fetch files, is on this machine: install one of them, or get {url} in another way \
         and put it into {} as {file}",
        .folder.display()
    )]
    NoTool {
        /// The name of the file.
        file: String,
        /// Where it is published.
        url: String,
        /// The folder it was meant for.
        folder: PathBuf,
    },
}

fn list_failures(failures: &[MirrorFailure]) -> String {
    if failures.is_empty() {
        return "there is no mirror to try".to_owned();
    }
    let lines: Vec<String> = failures.iter().map(MirrorFailure::to_string).collect();
    lines.join("\n  ")
}

/// Downloads the files of dataset `name` into `dir/NAME`, or into the cache folder's
/// ([`cache_dir`](super::cache_dir)), and gives their paths.
///
/// Files that are there and intact are kept; damaged ones are replaced. Files that are published in one archive are
/// taken out of it, and the archive is removed. There is nothing to do for the embedded `digits`, which is part of the
/// program, and for `images:DIR`.
///
/// # Errors
///
/// If the name is unknown, if the folder cannot be written, or if no mirror gives the published
/// bytes of a file; the error then has what went wrong at each mirror.
pub fn fetch(
    name: &str,
    dir: Option<&Path>,
    options: &FetchOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<PathBuf>, DataError> {
    match source_of(name)?.remote() {
        None => Ok(Vec::new()),
        Some(remote) => {
            let folder = folders::download_folder(name, dir)?;
            fetch_files(remote, &folder, options, progress)
        }
    }
}

fn fetch_files(
    remote: &Remote,
    folder: &Path,
    options: &FetchOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<PathBuf>, DataError> {
    fs::create_dir_all(folder).map_err(trouble_at(folder))?;
    let Some(archive) = &remote.archive else {
        return remote.files.iter().map(|file| keep_or_fetch(remote, file, folder, options, progress)).collect();
    };
    let present: Option<Vec<PathBuf>> =
        remote.files.iter().map(|file| intact(file, folder)).collect::<Result<_, DataError>>()?;
    if let Some(paths) = present {
        remote.files.iter().for_each(|file| progress(Progress::Present { file: file.names[0] }));
        return Ok(paths);
    }
    let packed = keep_or_fetch(remote, archive, folder, options, progress)?;
    let paths = archive::unpack(&packed, remote.files, folder, &mut |file| progress(Progress::Unpacked { file }))?;
    fs::remove_file(&packed).map_err(trouble_at(&packed))?;
    Ok(paths)
}

/// The path of `file` in `folder` if the published file is there.
fn intact(file: &RemoteFile, folder: &Path) -> Result<Option<PathBuf>, DataError> {
    let Some(path) = layout::find(folder, file.names) else { return Ok(None) };
    Ok((check(file, &path)? == Verdict::Intact).then_some(path))
}

fn keep_or_fetch(
    remote: &Remote,
    file: &RemoteFile,
    folder: &Path,
    options: &FetchOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, DataError> {
    if let Some(path) = intact(file, folder)? {
        progress(Progress::Present { file: file.names[0] });
        return Ok(path);
    }
    fetch_file(remote, file, folder, options, progress)
}

fn fetch_file(
    remote: &Remote,
    file: &RemoteFile,
    folder: &Path,
    options: &FetchOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, DataError> {
    let name = file.names[0];
    let path = folder.join(name);
    let partial = folder.join(format!("{name}.part"));
    let mut failures = Vec::new();

    // An earlier run may have been stopped between the last byte and the renaming.
    if partial.is_file() && check(file, &partial)? == Verdict::Intact {
        return finish(name, &partial, path, progress);
    }
    let FetchOptions { connect_timeout, stall_timeout, .. } = *options;
    let client = Client { tools: Tool::ALL, connect_timeout, stall_timeout };
    for url in options.urls(remote, name) {
        for _ in 0..options.attempts.max(1) {
            progress(Progress::Started { file: name, url: &url });
            let outcome = download(&client, &url, &partial, file.most_bytes, &mut |bytes, total| {
                progress(Progress::Received { file: name, bytes, total });
            });
            let (reason, again) = match outcome {
                Ok(continued) => match check(file, &partial)? {
                    Verdict::Intact => return finish(name, &partial, path, progress),
                    verdict => {
                        fs::remove_file(&partial).map_err(trouble_at(&partial))?;
                        // The first part may be another mirror's, or another year's.
                        (describe(&verdict), continued)
                    }
                },
                Err(Setback::Mirror { reason, gained }) => (reason, gained > 0),
                Err(Setback::Busy) => return Err(FetchError::Busy { path: partial }.into()),
                Err(Setback::Disk(error)) => return Err(trouble_at(&partial)(error)),
                Err(Setback::NoTool) => {
                    remove_if_empty(&partial);
                    let folder = folder.to_owned();
                    return Err(FetchError::NoTool { file: name.to_owned(), url, folder }.into());
                }
            };
            let failure = MirrorFailure { url: url.clone(), reason };
            progress(Progress::Failed { file: name, failure: &failure });
            failures.push(failure);
            if !again {
                break;
            }
        }
    }
    remove_if_empty(&partial);
    Err(FetchError::Mirrors { file: name.to_owned(), folder: folder.to_owned(), failures }.into())
}

/// Leaves no trace of a download that brought nothing to continue. If the file cannot be removed, it does no harm.
fn remove_if_empty(partial: &Path) {
    if fs::metadata(partial).is_ok_and(|metadata| metadata.len() == 0) {
        let _ = fs::remove_file(partial);
    }
}

/// Gives a checked file its own name, at one stroke.
fn finish(
    name: &str,
    partial: &Path,
    path: PathBuf,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, DataError> {
    fs::rename(partial, &path).map_err(trouble_at(&path))?;
    progress(Progress::Finished { file: name, path: &path });
    Ok(path)
}

fn describe(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Differs { expected, found } => {
            format!("not the published file: its SHA-256 is {found}, not {expected}")
        }
        _ => "not the published file: it is not packed".to_owned(),
    }
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
