//! Telling the published files from damaged or different ones.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::idx::GZIP_MAGIC;

/// What is known of a published file, in lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Checksum {
    /// The SHA-256 of the file as published, gzipped. It tells nothing about an unpacked copy.
    Packed(&'static str),
    /// The SHA-256 and the length of the unpacked content. It recognizes a copy however it was
    /// packed.
    Unpacked { sha256: &'static str, bytes: u64 },
}

/// What the comparison of a file with its checksum says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The file is the published one.
    Intact,
    /// The file is damaged or another one; or it was packed anew, where only the checksum of the
    /// published packing is known (Fashion-MNIST).
    Differs {
        /// The SHA-256 of the published file.
        expected: String,
        /// The SHA-256 of this file, or why it has none.
        found: String,
    },
    /// The only known checksum is that of the packed file, and this one is unpacked.
    NotComparable,
    /// There is no such file.
    Missing,
}

impl Checksum {
    /// Compares the file at `path`.
    pub(super) fn check(&self, path: &Path) -> io::Result<Verdict> {
        let mut file = BufReader::new(File::open(path)?);
        let gzipped = file.fill_buf()?.starts_with(&GZIP_MAGIC);
        match *self {
            Self::Packed(_) if !gzipped => Ok(Verdict::NotComparable),
            Self::Packed(sha256) => Ok(compare(sha256, digest(file)?)),
            Self::Unpacked { sha256, bytes } if gzipped => {
                // One byte more than expected, to meet the end of the data and gzip's own checksum
                // there, but no more: a small file can unpack to a very large one.
                match digest(MultiGzDecoder::new(file).take(bytes + 1)) {
                    Ok(found) => Ok(compare(sha256, found)),
                    Err(error) if is_corruption(&error) => Ok(compare(sha256, format!("corrupt gzip data ({error})"))),
                    Err(error) => Err(error),
                }
            }
            Self::Unpacked { sha256, .. } => Ok(compare(sha256, digest(file)?)),
        }
    }
}

fn compare(expected: &str, found: String) -> Verdict {
    if found == expected { Verdict::Intact } else { Verdict::Differs { expected: expected.to_owned(), found } }
}

/// Whether a failed read means bad gzip data rather than trouble with the disk.
fn is_corruption(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof)
}

/// The SHA-256 of all that `source` gives, in lower-case hexadecimal digits.
pub(super) fn digest(mut source: impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let bytes = hasher.finalize();
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::super::idx::tests::gzip;
    use super::*;

    /// From FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    const UNPACKED_ABC: Checksum = Checksum::Unpacked { sha256: ABC, bytes: 3 };

    fn check(checksum: Checksum, bytes: &[u8]) -> Verdict {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, bytes).unwrap();
        checksum.check(&path).unwrap()
    }

    fn leak(text: String) -> &'static str {
        Box::leak(text.into_boxed_str())
    }

    #[test]
    fn the_digest_is_sha_256() {
        assert_eq!(digest(&b"abc"[..]).unwrap(), ABC);
    }

    #[test]
    fn unpacked_checksums_know_the_content_in_any_packing() {
        assert_eq!(check(UNPACKED_ABC, b"abc"), Verdict::Intact);
        assert_eq!(check(UNPACKED_ABC, &gzip(b"abc")), Verdict::Intact);
        let members = [gzip(b"a"), gzip(b"bc")].concat();
        assert_eq!(check(UNPACKED_ABC, &members), Verdict::Intact);
    }

    #[test]
    fn different_and_damaged_content_differs() {
        let packed = gzip(b"abc");
        let mut flipped = packed.clone();
        let checksum_at = packed.len() - 8;
        flipped[checksum_at] ^= 1;
        for bytes in [
            b"abd".to_vec(),
            Vec::new(),
            gzip(b"abd"),
            gzip(b"abcd"),
            packed[..packed.len() - 3].to_vec(),
            flipped,
            [&packed[..], b"junk"].concat(),
        ] {
            assert!(
                matches!(
                    check(UNPACKED_ABC, &bytes),
                    Verdict::Differs { expected, .. } if expected == ABC
                ),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn packed_checksums_know_only_the_published_packing() {
        let published = gzip(b"abc");
        let checksum = Checksum::Packed(leak(digest(&published[..]).unwrap()));
        assert_eq!(check(checksum, &published), Verdict::Intact);
        assert_eq!(check(checksum, b"abc"), Verdict::NotComparable);
        let repacked = [gzip(b"a"), gzip(b"bc")].concat();
        assert!(matches!(check(checksum, &repacked), Verdict::Differs { .. }));
    }

    #[test]
    fn an_unreadable_path_is_an_error() {
        let folder = TempDir::new().unwrap();
        assert!(UNPACKED_ABC.check(&folder.path().join("absent")).is_err());
    }
}
