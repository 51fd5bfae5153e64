//! Datasets that are published as files: where, under which names, with which checksums.

use super::checksum::Checksum;

/// A dataset made of published files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote {
    /// One of [`NAMES`](super::NAMES).
    pub name: &'static str,
    /// URLs of folders that have all the files, best first.
    pub mirrors: &'static [&'static str],
    /// The archive that the files are published in, if they are not published one by one.
    pub archive: Option<RemoteFile>,
    /// The files.
    pub files: &'static [RemoteFile],
    /// The names, in the same order, of the files of another version that is read but not downloaded. There may be none.
    pub other_version: &'static [&'static str],
}

/// A published file.
#[derive(Clone, Copy, Debug)]
pub(super) struct RemoteFile {
    /// The name as published, then other names that copies of it go by.
    pub names: &'static [&'static str],
    /// What tells it from any other.
    pub checksum: Checksum,
    /// A length that it is known not to exceed as published; its very length if it comes in an archive.
    pub most_bytes: u64,
}
