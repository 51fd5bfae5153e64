//! Taking the files of a dataset out of the archive they are published in.
//!
//! An archive is not trusted: only the members asked for are taken, each under a name of ours, so that no path in the
//! archive can lead anywhere; each has the length it should have before a byte of it is written; and it gets its name
//! only after its checksum was found right.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use thiserror::Error;

use super::at::{At, InFile};
use super::checksum::{Checksum, Verdict};
use super::remote::RemoteFile;

/// What an archive may hold besides the files wanted, unpacked: a page of text and the headers of its entries.
const MOST_OTHER_BYTES: u64 = 1 << 20;

/// An archive that does not give the files of its dataset.
pub type ArchiveError = At<ArchiveFault>;

/// What is wrong with an archive.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ArchiveFault {
    /// It cannot be read, is not a gzipped tar archive, or is cut off.
    #[error("not a whole gzipped tar archive ({0})")]
    Unreadable(io::Error),
    /// A member has another length than the published one.
    #[error("the member {member} has {found} bytes instead of {expected}")]
    Size {
        /// The member.
        member: String,
        /// The length it should have.
        expected: u64,
        /// The length that the archive says it has.
        found: u64,
    },
    /// A member has other bytes than the published one.
    #[error("the member {member} is not the published file")]
    Differs {
        /// The member.
        member: String,
    },
    /// A member is there twice.
    #[error("it has the member {member} twice")]
    Repeated {
        /// The member.
        member: String,
    },
    /// Members are not there.
    #[error("it lacks {}", .members.join(", "))]
    Missing {
        /// Their names.
        members: Vec<String>,
    },
    /// A file could not be written.
    #[error("cannot write {} ({error})", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Unpacks the `files` of the gzipped tar archive at `path` into `folder`, each under its first name. Gives their
/// paths in order; tells `unpacked` each name.
pub(super) fn unpack(
    path: &Path,
    files: &[RemoteFile],
    folder: &Path,
    unpacked: &mut dyn FnMut(&'static str),
) -> Result<Vec<PathBuf>, ArchiveError> {
    unpack_members(path, files, folder, unpacked).map_err(|fault| fault.at(path))
}

fn unpack_members(
    path: &Path,
    files: &[RemoteFile],
    folder: &Path,
    unpacked: &mut dyn FnMut(&'static str),
) -> Result<Vec<PathBuf>, ArchiveFault> {
    let source = BufReader::new(File::open(path).map_err(ArchiveFault::Unreadable)?);
    let wanted: u64 = files.iter().map(|file| file.most_bytes).sum();
    // A small archive can unpack to a very large one.
    let mut archive = tar::Archive::new(MultiGzDecoder::new(source).take(wanted + MOST_OTHER_BYTES));
    let mut done = vec![false; files.len()];
    for entry in archive.entries().map_err(ArchiveFault::Unreadable)? {
        let mut entry = entry.map_err(ArchiveFault::Unreadable)?;
        let name = entry.path_bytes().into_owned();
        let is_file = entry.header().entry_type().is_file();
        let Some(at) = files.iter().position(|file| file.names.iter().any(|known| known.as_bytes() == name)) else {
            continue;
        };
        let (file, member) = (&files[at], files[at].names[0]);
        let found = entry.size();
        let expected = file.most_bytes;
        if !is_file || found != expected {
            return Err(ArchiveFault::Size { member: member.to_owned(), expected, found });
        }
        if done[at] {
            return Err(ArchiveFault::Repeated { member: member.to_owned() });
        }
        write_checked(&mut entry, &folder.join(member), member, file.checksum)?;
        done[at] = true;
        unpacked(member);
    }
    let missing: Vec<String> =
        files.iter().zip(&done).filter(|(_, done)| !**done).map(|(file, _)| file.names[0].to_owned()).collect();
    match missing.is_empty() {
        true => Ok(files.iter().map(|file| folder.join(file.names[0])).collect()),
        false => Err(ArchiveFault::Missing { members: missing }),
    }
}

/// Writes a member to a `.part` file and gives it its name if it is the published file.
fn write_checked(source: &mut impl Read, path: &Path, member: &str, checksum: Checksum) -> Result<(), ArchiveFault> {
    let partial = path.with_file_name(format!("{member}.part"));
    let written = copy(source, &partial).and_then(|()| {
        let trouble = |error| ArchiveFault::Write { path: partial.clone(), error };
        match checksum.check(&partial).map_err(trouble)? {
            Verdict::Intact => fs::rename(&partial, path).map_err(trouble),
            _ => Err(ArchiveFault::Differs { member: member.to_owned() }),
        }
    });
    if written.is_err() {
        // What is left is of no use; if it cannot be removed, it does no harm under its name.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn copy(source: &mut impl Read, partial: &Path) -> Result<(), ArchiveFault> {
    let trouble = |error| ArchiveFault::Write { path: partial.to_owned(), error };
    let mut file = File::create(partial).map_err(trouble)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        // A failed read is the archive's fault, a failed write the disk's.
        match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => io::Write::write_all(&mut file, &buffer[..count]).map_err(trouble)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ArchiveFault::Unreadable(error)),
        }
    }
    file.sync_all().map_err(trouble)
}

#[cfg(test)]
pub(crate) mod tests {
    use tempfile::TempDir;

    use super::super::checksum::digest;
    use super::super::idx::tests::gzip;
    use super::*;

    const ONE: &[u8] = b"the first member";
    const TWO: &[u8] = b"the second one";

    fn files() -> &'static [RemoteFile] {
        // The hashes live as long as the program: made once, however often archives are unpacked.
        static FILES: std::sync::LazyLock<Vec<RemoteFile>> = std::sync::LazyLock::new(make_files);
        &FILES
    }

    fn make_files() -> Vec<RemoteFile> {
        let file = |names: &'static [&'static str], content: &[u8]| RemoteFile {
            names,
            checksum: Checksum::Unpacked {
                sha256: Box::leak(digest(content).unwrap().into_boxed_str()),
                bytes: content.len() as u64,
            },
            most_bytes: content.len() as u64,
        };
        vec![file(&["one", "folder/one"], ONE), file(&["two", "folder/two"], TWO)]
    }

    /// A gzipped tar archive; a name may be one that no careful archiver would write.
    pub fn tar_gz(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in members {
            let mut header = tar::Header::new_ustar();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_entry_type(tar::EntryType::Regular);
            header.set_cksum();
            builder.append(&header, *content).unwrap();
        }
        gzip(&builder.into_inner().unwrap())
    }

    /// An archive of two members, and whether such a one can be unpacked.
    pub fn example() -> Vec<u8> {
        tar_gz(&[("folder/two", TWO), ("readme.html", b"<html>"), ("one", ONE)])
    }

    pub fn unpacks(archive: &Path, folder: &Path) -> bool {
        unpack(archive, files(), folder, &mut |_| {}).is_ok()
    }

    /// Unpacks and gives the outcome and the names of all files in and below the parent of the folder.
    fn unpack_in(bytes: &[u8]) -> (Result<Vec<PathBuf>, ArchiveFault>, Vec<String>) {
        let parent = TempDir::new().unwrap();
        let folder = parent.path().join("data");
        fs::create_dir(&folder).unwrap();
        let archive = folder.join("archive.tar.gz");
        fs::write(&archive, bytes).unwrap();
        let outcome = unpack(&archive, files(), &folder, &mut |_| {}).map_err(|error| error.fault);
        if outcome.is_ok() {
            assert_eq!(fs::read(folder.join("one")).unwrap(), ONE);
            assert_eq!(fs::read(folder.join("two")).unwrap(), TWO);
        }
        let mut names = Vec::new();
        for folder in [parent.path(), &folder] {
            names.extend(fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()));
        }
        names.sort();
        (outcome, names)
    }

    #[test]
    fn the_members_wanted_are_unpacked_and_others_left() {
        let bytes = tar_gz(&[("folder/two", TWO), ("readme.html", b"<html>"), ("one", ONE)]);
        let (outcome, names) = unpack_in(&bytes);
        let paths = outcome.unwrap();
        assert!(paths[0].ends_with("one") && paths[1].ends_with("two"));
        assert_eq!(names, ["archive.tar.gz", "data", "one", "two"]);
    }

    #[test]
    fn no_path_leads_out_of_the_folder() {
        for evil in ["../one", "/tmp/one", "folder/../../one", "../../two"] {
            let (outcome, names) = unpack_in(&tar_gz(&[(evil, ONE), ("two", TWO)]));
            assert!(matches!(outcome, Err(ArchiveFault::Missing { .. })), "{evil}");
            assert_eq!(names, ["archive.tar.gz", "data", "two"], "{evil}");
        }
    }

    #[test]
    fn members_of_another_length_content_or_number_are_refused() {
        let (outcome, names) = unpack_in(&tar_gz(&[("one", b"short"), ("two", TWO)]));
        assert!(matches!(outcome, Err(ArchiveFault::Size { found: 5, expected: 16, .. })));
        assert_eq!(names, ["archive.tar.gz", "data"]);
        let (outcome, names) = unpack_in(&tar_gz(&[("one", b"THE FIRST MEMBER"), ("two", TWO)]));
        assert!(matches!(outcome, Err(ArchiveFault::Differs { .. })));
        assert_eq!(names, ["archive.tar.gz", "data"], "nothing is left of it");
        let (outcome, _) = unpack_in(&tar_gz(&[("one", ONE), ("folder/one", ONE), ("two", TWO)]));
        assert!(matches!(outcome, Err(ArchiveFault::Repeated { .. })));
        let (outcome, _) = unpack_in(&tar_gz(&[("one", ONE)]));
        assert!(matches!(outcome, Err(ArchiveFault::Missing { members }) if members == ["two"]));
    }

    #[test]
    fn archives_that_are_cut_off_or_none_are_refused() {
        let whole = tar_gz(&[("one", ONE), ("two", TWO)]);
        for bytes in [&whole[..whole.len() / 2], b"", b"<html>no archive</html>", &gzip(b"no tar archive")] {
            let (outcome, names) = unpack_in(bytes);
            assert!(outcome.is_err());
            assert!(!names.iter().any(|name| name.ends_with(".part")), "{names:?}");
        }
    }

    #[test]
    fn an_archive_that_unpacks_to_too_much_is_refused() {
        let large = vec![0_u8; 2 * MOST_OTHER_BYTES as usize];
        let (outcome, _) = unpack_in(&tar_gz(&[("padding", &large), ("one", ONE), ("two", TWO)]));
        assert!(outcome.is_err(), "the limit ends the archive before its members");
    }
}
