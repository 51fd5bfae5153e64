//! IDX files, plain or gzipped: the format of the MNIST family of datasets.
//!
//! An IDX file begins with two zero bytes, a byte for the type of the values (8: unsigned bytes)
//! and a byte for the number of dimensions. Each dimension follows as a big-endian 32-bit number,
//! then the values, row-major. See the page of the MNIST database by Y. LeCun, C. Cortes and
//! C. J. C. Burges, <http://yann.lecun.com/exdb/mnist/>.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use thiserror::Error;

use super::Split;
use super::at::{At, InFile};

/// What every gzip file begins with.
pub(super) const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The only type of values in the MNIST family.
const UNSIGNED_BYTES: u8 = 8;

/// More values than any file of the family has, by far, and few enough to hold as `f32`. It stops
/// a small gzip file that claims, and unpacks to, more than the memory can take.
const MOST_VALUES: u64 = 1 << 30;

/// The images of an IDX file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// `[count, height, width]`, all at least 1.
    pub dimensions: [usize; 3],
    /// The pixels, row-major, 0 to 255.
    pub pixels: Vec<u8>,
}

impl Images {
    /// `[height, width]` of an image.
    pub fn size(&self) -> [usize; 2] {
        [self.dimensions[1], self.dimensions[2]]
    }
}

/// Reads a file of images: three dimensions, at least one image of at least one pixel.
///
/// # Errors
///
/// If the file cannot be read or is malformed in any way, bytes after the last image included.
pub fn read_images(path: &Path) -> Result<Images, IdxError> {
    let (dimensions, pixels) = read::<3>(path)?;
    Ok(Images { dimensions, pixels })
}

/// Reads a file of labels: one dimension, at least one label, all below `classes`.
///
/// # Errors
///
/// If the file cannot be read or is malformed in any way, or if a label is not below `classes`.
pub fn read_labels(path: &Path, classes: usize) -> Result<Vec<u32>, IdxError> {
    let (_, labels) = read::<1>(path)?;
    match labels.iter().position(|&label| usize::from(label) >= classes) {
        Some(row) => Err(Fault::LabelRange { row, label: labels[row], classes }.at(path)),
        None => Ok(labels.into_iter().map(u32::from).collect()),
    }
}

/// Reads a file of images and its file of labels. Gives the rows, pixels divided by 255, and
/// `[height, width]` of the images.
///
/// # Errors
///
/// As [`read_images`] and [`read_labels`], and if the counts of images and labels differ.
pub fn read_split(images: &Path, labels: &Path, classes: usize) -> Result<(Split, [usize; 2]), IdxError> {
    let pictures = read_images(images)?;
    let classes_of_rows = read_labels(labels, classes)?;
    let [count, height, width] = pictures.dimensions;
    if classes_of_rows.len() != count {
        return Err(Fault::LabelCount { labels: classes_of_rows.len(), images: count, images_path: images.to_owned() }
            .at(labels));
    }
    let inputs = pictures.pixels.iter().map(|&pixel| f32::from(pixel) / 255.0).collect();
    let split =
        Split::new(inputs, height * width, classes_of_rows, classes).map_err(|error| Fault::Array(error).at(images))?;
    Ok((split, [height, width]))
}

/// A file in the wrong form, and where.
pub type IdxError = At<Fault>;

/// What is wrong with an IDX file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Fault {
    /// The system could not read it.
    #[error("cannot be read ({0})")]
    Io(io::Error),
    /// The gzip data is corrupt or cut off, or something follows it.
    #[error("the gzip data is corrupt or cut off ({0})")]
    Gzip(io::Error),
    /// There is nothing in it.
    #[error("the file is empty")]
    Empty,
    /// It ends within the header.
    #[error("the file ends after {bytes} bytes, within its header")]
    CutHeader {
        /// How many bytes there are.
        bytes: usize,
    },
    /// The first bytes are not those of an IDX file.
    #[error("no IDX file of unsigned bytes: it begins with {found:02x?}, not with [00, 00, 08]")]
    Magic {
        /// The bytes it begins with.
        found: [u8; 3],
    },
    /// It has another number of dimensions: labels where images are wanted, for instance.
    #[error("{found} dimensions instead of {expected} (images have 3, labels 1)")]
    DimensionCount {
        /// The number wanted.
        expected: usize,
        /// The number in the file.
        found: usize,
    },
    /// A dimension is zero.
    #[error("no values: the dimensions are {dimensions:?}")]
    NoValues {
        /// The dimensions in the file.
        dimensions: Vec<u32>,
    },
    /// The dimensions are absurdly large.
    #[error("the dimensions {dimensions:?} declare more than {MOST_VALUES} values")]
    TooLarge {
        /// The dimensions in the file.
        dimensions: Vec<u32>,
    },
    /// It ends before the last value.
    #[error("cut off: {found} of the {declared} values that its dimensions declare")]
    CutValues {
        /// The number of values the dimensions declare.
        declared: u64,
        /// The number of values there are.
        found: u64,
    },
    /// It goes on after the last value.
    #[error("more bytes follow the {declared} values that its dimensions declare")]
    TrailingBytes {
        /// The number of values the dimensions declare.
        declared: u64,
    },
    /// A label that names no class.
    #[error("label {row} (counted from 0) is {label}, but there are only {classes} classes")]
    LabelRange {
        /// Its row.
        row: usize,
        /// The label.
        label: u8,
        /// The number of classes.
        classes: usize,
    },
    /// Not one label for each image.
    #[error("{labels} labels for the {images} images of {}", .images_path.display())]
    LabelCount {
        /// The number of labels.
        labels: usize,
        /// The number of images.
        images: usize,
        /// The file with the images.
        images_path: PathBuf,
    },
    /// The rows made of it were refused.
    #[error(transparent)]
    Array(super::ArrayError),
}

/// Reads `D` dimensions and their values, unpacking the file if it is gzipped.
fn read<const D: usize>(path: &Path) -> Result<([usize; D], Vec<u8>), IdxError> {
    let plain = |error| Fault::Io(error).at(path);
    let mut file = BufReader::new(File::open(path).map_err(plain)?);
    let start = file.fill_buf().map_err(plain)?;
    // The name does not tell: browsers and archive programs unpack files and keep the ".gz".
    if start.starts_with(&GZIP_MAGIC) { parse(MultiGzDecoder::new(file), Fault::Gzip) } else { parse(file, Fault::Io) }
        .map_err(|fault| fault.at(path))
}

/// Parses `D` dimensions and their values; `unreadable` says what a failed read means.
fn parse<const D: usize>(
    mut source: impl Read,
    unreadable: fn(io::Error) -> Fault,
) -> Result<([usize; D], Vec<u8>), Fault> {
    // `read_to_end` under a limit allocates for the bytes that come, never for the bytes that a
    // header promises.
    let mut take = |limit: u64| {
        let mut bytes = Vec::new();
        match source.by_ref().take(limit).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(unreadable(error)),
        }
    };

    let magic = take(4)?;
    let found = match magic[..] {
        [] => return Err(Fault::Empty),
        [0, 0, UNSIGNED_BYTES, dimensions] => usize::from(dimensions),
        [a, b, c, _] => return Err(Fault::Magic { found: [a, b, c] }),
        _ => return Err(Fault::CutHeader { bytes: magic.len() }),
    };
    if found != D {
        return Err(Fault::DimensionCount { expected: D, found });
    }
    let header = take(4 * D as u64)?;
    if header.len() != 4 * D {
        return Err(Fault::CutHeader { bytes: magic.len() + header.len() });
    }
    let dimensions: Vec<u32> = header.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
    if dimensions.contains(&0) {
        return Err(Fault::NoValues { dimensions });
    }
    let declared = dimensions
        .iter()
        .try_fold(1_u64, |product, &n| product.checked_mul(u64::from(n)))
        .filter(|&product| product <= MOST_VALUES);
    let Some(declared) = declared else {
        return Err(Fault::TooLarge { dimensions });
    };

    // One byte more than declared, so that trailing bytes show, and the end of gzip data is
    // reached and its checksum compared.
    let values = take(declared + 1)?;
    let count = values.len() as u64;
    if count < declared {
        return Err(Fault::CutValues { declared, found: count });
    }
    if count > declared {
        return Err(Fault::TrailingBytes { declared });
    }
    let mut sizes = [0; D];
    for (size, dimension) in sizes.iter_mut().zip(dimensions) {
        // Exact: no dimension exceeds `MOST_VALUES`.
        *size = dimension as usize;
    }
    Ok((sizes, values))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tempfile::TempDir;

    use super::*;

    /// The bytes of an IDX file.
    pub fn idx(dimensions: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
        for dimension in dimensions {
            bytes.extend(dimension.to_be_bytes());
        }
        bytes.extend(values);
        bytes
    }

    pub fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn images_of(bytes: &[u8]) -> Result<Images, IdxError> {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, bytes).unwrap();
        read_images(&path)
    }

    fn fault_of(bytes: &[u8]) -> Fault {
        images_of(bytes).unwrap_err().fault
    }

    #[test]
    fn plain_and_gzipped_files_read_the_same() {
        let bytes = idx(&[2, 1, 3], &[0, 1, 2, 253, 254, 255]);
        let plain = images_of(&bytes).unwrap();
        assert_eq!(plain.dimensions, [2, 1, 3]);
        assert_eq!(plain.size(), [1, 3]);
        assert_eq!(plain.pixels, [0, 1, 2, 253, 254, 255]);
        assert_eq!(images_of(&gzip(&bytes)).unwrap(), plain);
    }

    #[test]
    fn gzip_data_in_several_members_is_read_to_its_end() {
        let bytes = idx(&[2, 1, 3], &[9; 6]);
        let members = [gzip(&bytes[..9]), gzip(&bytes[9..])].concat();
        assert_eq!(images_of(&members).unwrap().pixels, [9; 6]);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = idx(&[2, 2, 2], &[7; 8]);
        let packed = gzip(&bytes);
        for end in 0..bytes.len() {
            assert!(images_of(&bytes[..end]).is_err(), "plain, {end} bytes");
        }
        for end in 0..packed.len() {
            assert!(images_of(&packed[..end]).is_err(), "gzip, {end} bytes");
        }
        assert!(matches!(fault_of(&[]), Fault::Empty));
        assert!(matches!(fault_of(&bytes[..2]), Fault::CutHeader { bytes: 2 }));
        assert!(matches!(fault_of(&bytes[..15]), Fault::CutHeader { bytes: 15 }));
        assert!(matches!(fault_of(&bytes[..20]), Fault::CutValues { declared: 8, found: 4 }));
        assert!(matches!(fault_of(&packed[..packed.len() - 1]), Fault::Gzip(_)));
    }

    #[test]
    fn trailing_bytes_are_an_error() {
        let long = idx(&[1, 1, 2], &[1, 2, 3]);
        assert!(matches!(fault_of(&long), Fault::TrailingBytes { declared: 2 }));
        assert!(matches!(fault_of(&gzip(&long)), Fault::TrailingBytes { declared: 2 }));
        let mut junk = gzip(&idx(&[1, 1, 2], &[1, 2]));
        junk.extend(b"junk after the gzip data");
        assert!(matches!(fault_of(&junk), Fault::Gzip(_)));
    }

    #[test]
    fn a_flipped_bit_in_gzip_data_is_an_error() {
        let packed = gzip(&idx(&[4, 4, 4], &(0..64).collect::<Vec<u8>>()));
        // The last eight bytes are the checksum and the length of the unpacked data.
        for at in packed.len() - 8..packed.len() {
            let mut bytes = packed.clone();
            bytes[at] ^= 0x10;
            assert!(matches!(fault_of(&bytes), Fault::Gzip(_)), "byte {at}");
        }
    }

    #[test]
    fn other_formats_are_refused() {
        assert!(matches!(fault_of(b"\x89PNG\r\n"), Fault::Magic { found: [0x89, b'P', b'N'] }));
        let mut floats = idx(&[1, 1, 1], &[0; 4]);
        floats[2] = 0x0d;
        assert!(matches!(fault_of(&floats), Fault::Magic { found: [0, 0, 0x0d] }));
        let text = images_of(b"<html>").unwrap_err().to_string();
        assert!(text.contains("not with [00, 00, 08]"), "{text}");
    }

    #[test]
    fn labels_are_no_images_and_images_no_labels() {
        assert!(matches!(fault_of(&idx(&[3], &[0, 1, 2])), Fault::DimensionCount { expected: 3, found: 1 }));
    }

    #[test]
    fn no_memory_is_taken_for_values_that_are_not_there() {
        // Terabytes, or an overflow, if the header were believed.
        for dimensions in [[u32::MAX, u32::MAX, u32::MAX], [u32::MAX, 28, 28], [1 << 31, 1 << 31, 4]] {
            assert!(matches!(fault_of(&idx(&dimensions, &[0; 8])), Fault::TooLarge { .. }));
        }
        assert!(matches!(fault_of(&idx(&[1_000_000, 28, 28], &[0; 8])), Fault::CutValues { found: 8, .. }));
    }

    #[test]
    fn files_without_images_or_pixels_are_refused() {
        for dimensions in [[0, 28, 28], [3, 0, 28], [3, 28, 0], [0, u32::MAX, u32::MAX]] {
            assert!(matches!(fault_of(&idx(&dimensions, &[])), Fault::NoValues { .. }));
        }
    }

    #[test]
    fn a_split_needs_one_label_in_range_for_each_image() {
        let folder = TempDir::new().unwrap();
        let (images, labels) = (folder.path().join("images"), folder.path().join("labels"));
        fs::write(&images, idx(&[2, 1, 2], &[0, 51, 102, 255])).unwrap();

        fs::write(&labels, gzip(&idx(&[2], &[9, 0]))).unwrap();
        let (split, size) = read_split(&images, &labels, 10).unwrap();
        assert_eq!(size, [1, 2]);
        assert_eq!(split.labels, [9, 0]);
        assert_eq!(split.inputs, [0.0, 51.0 / 255.0, 102.0 / 255.0, 1.0]);

        fs::write(&labels, idx(&[2], &[9, 10])).unwrap();
        let error = read_split(&images, &labels, 10).unwrap_err();
        assert_eq!(error.path, labels);
        assert!(matches!(error.fault, Fault::LabelRange { row: 1, label: 10, classes: 10 }));

        fs::write(&labels, idx(&[3], &[0, 1, 2])).unwrap();
        let error = read_split(&images, &labels, 10).unwrap_err();
        assert!(matches!(error.fault, Fault::LabelCount { labels: 3, images: 2, .. }));
        assert!(error.to_string().contains("images"), "{error}");
    }

    #[test]
    fn a_missing_file_and_a_folder_are_errors_with_the_path() {
        let folder = TempDir::new().unwrap();
        for path in [folder.path().join("absent"), folder.path().to_owned()] {
            let error = read_images(&path).unwrap_err();
            assert!(matches!(error.fault, Fault::Io(_)));
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
    }
}
