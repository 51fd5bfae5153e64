//! CIFAR-10: 50,000 + 10,000 colour images of 32x32 pixels in ten classes, by A. Krizhevsky, "Learning multiple layers
//! of features from tiny images" (2009), in its binary version. The Python version is read by `python`.
//!
//! The binary version is five files of training records and one of test records, 10,000 each. A record is one byte for
//! the label and 3,072 for the pixels: all red ones, row by row, then the green, then the blue. See
//! <https://www.cs.toronto.edu/~kriz/cifar.html>.

pub(crate) mod python;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::at::{At, InFile};
use super::checksum::Checksum;
use super::folders;
use super::layout::Version;
use super::pickle::PickleFault;
use super::remote::{Remote, RemoteFile};
use super::{DataError, Dataset, Split};

/// `[channels, height, width]`.
const IMAGE: [usize; 3] = [3, 32, 32];
const PIXELS: usize = IMAGE[0] * IMAGE[1] * IMAGE[2];
/// The label and the pixels.
pub(crate) const RECORD: usize = 1 + PIXELS;
/// Records in a file as published.
const RECORDS: usize = 10_000;

/// The classes in the order of their labels.
const CLASS_NAMES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The file next to the records that names the classes, one a line. It may be absent.
const NAMES_FILE: &str = "batches.meta.txt";
/// Ten short words; a larger file is another one.
const MOST_NAMES_BYTES: u64 = 4096;

macro_rules! batch {
    ($name:literal, $sha256:literal) => {
        RemoteFile {
            // The published archive has its files in a folder.
            names: &[$name, concat!("cifar-10-batches-bin/", $name)],
            checksum: Checksum::Unpacked { sha256: $sha256, bytes: (RECORD * RECORDS) as u64 },
            most_bytes: (RECORD * RECORDS) as u64,
        }
    };
}

/// The dataset as published: six files in one archive, whose MD5, the only sum on its page, is
/// c32a1d4ab5d03f1284b67883e8d87530. MLDatasets.jl and GoMLX publish the SHA-256 of the archive that is given here.
pub(super) const CIFAR10: Remote = Remote {
    name: "cifar10",
    mirrors: &["https://www.cs.toronto.edu/~kriz"],
    archive: Some(RemoteFile {
        names: &["cifar-10-binary.tar.gz"],
        checksum: Checksum::Packed("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
        most_bytes: 170_052_171,
    }),
    files: &[
        batch!("data_batch_1.bin", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
        batch!("data_batch_2.bin", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
        batch!("data_batch_3.bin", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
        batch!("data_batch_4.bin", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
        batch!("data_batch_5.bin", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
        batch!("test_batch.bin", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
    ],
    other_version: &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"],
};

/// A CIFAR-10 file in the wrong form, and where.
pub type CifarError = At<Fault>;

/// What is wrong with a CIFAR-10 file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Fault {
    /// The system could not read it.
    #[error("cannot be read ({0})")]
    Io(io::Error),
    /// It has another length than its records.
    #[error(
        "{found} bytes, but {records} records of {RECORD} bytes make {}; it is cut off, or not the binary version of CIFAR-10",
        .records * RECORD
    )]
    Size {
        /// The number of records that the file should have.
        records: usize,
        /// Its length in bytes.
        found: u64,
    },
    /// A label that names no class.
    #[error("the label of record {record} (counted from 0) is {label}, but there are only {} classes", CLASS_NAMES.len())]
    LabelRange {
        /// Its record.
        record: usize,
        /// The label.
        label: i64,
    },
    /// The names of the classes are not ten.
    #[error("{found} names of classes instead of {}", CLASS_NAMES.len())]
    Names {
        /// The number of names.
        found: usize,
    },
    /// A file of the Python version is not a pickle, or not one of data.
    #[error("{0}")]
    Pickle(PickleFault),
    /// The dictionary in a file of the Python version lacks an entry.
    #[error("a file of CIFAR-10's Python version with no {key:?}{}", only(.found))]
    NoKey {
        /// The key.
        key: &'static str,
        /// The keys that there are.
        found: Vec<String>,
    },
    /// The images in a file of the Python version are not an array of bytes.
    #[error(
        "\"data\" is {found}; images are a contiguous NumPy array of uint8 and shape [images, {pixels}], the values of a channel together"
    )]
    Pixels {
        /// What there is.
        found: String,
        /// The number of values of an image.
        pixels: usize,
    },
    /// The labels in a file of the Python version are not whole numbers.
    #[error("\"labels\" is not a list or array of whole numbers")]
    Labels,
    /// Not one label for each image, in a file of the Python version.
    #[error("{labels} labels for {images} images")]
    LabelCount {
        /// The number of labels.
        labels: usize,
        /// The number of images.
        images: usize,
    },
}

/// The keys that there are instead of the one that is missing.
fn only(keys: &[String]) -> String {
    match keys {
        [] => String::new(),
        keys => format!(", only {}", keys.iter().take(8).map(|key| format!("{key:?}")).collect::<Vec<_>>().join(", ")),
    }
}

/// Loads the dataset from the folder that has its files.
pub(super) fn load(dir: Option<&Path>) -> Result<Dataset, DataError> {
    load_records(dir, RECORDS)
}

/// Loads it from files of `records` records each, if they are of the binary version.
fn load_records(dir: Option<&Path>, records: usize) -> Result<Dataset, DataError> {
    let (version, files) = folders::locate_all(&CIFAR10, dir)?;
    let (test, training) = files.split_last().expect("the dataset has six files");
    let malformed = |fault| DataError::MalformedCifar { name: CIFAR10.name.to_owned(), fault };
    let names = |file: &str| Some(test.with_file_name(file)).filter(|path| path.is_file());
    let class_names = match version {
        Version::Published => names(NAMES_FILE).map(|path| read_names(&path)),
        Version::Other => names(python::NAMES_FILE).map(|path| python::read_names(&path)),
    };
    let split = |files: &[PathBuf]| {
        let mut inputs = Vec::with_capacity(files.len() * records * PIXELS);
        let mut labels = Vec::with_capacity(files.len() * records);
        for file in files {
            match version {
                Version::Published => read_batch(file, records, &mut inputs, &mut labels),
                Version::Other => python::read_batch(file, &mut inputs, &mut labels),
            }
            .map_err(malformed)?;
        }
        Ok::<_, DataError>(Split::new(inputs, PIXELS, labels, CLASS_NAMES.len())?)
    };
    Ok(Dataset {
        name: CIFAR10.name.to_owned(),
        shape: vec![PIXELS],
        image: IMAGE,
        classes: CLASS_NAMES.len(),
        class_names: class_names
            .transpose()
            .map_err(malformed)?
            .unwrap_or_else(|| CLASS_NAMES.map(str::to_owned).to_vec()),
        standardization: None,
        notes: Vec::new(),
        train: split(training)?,
        test: split(std::slice::from_ref(test))?,
    })
}

/// Appends the records of one file: pixels divided by 255, and labels.
pub(crate) fn read_batch(
    path: &Path,
    records: usize,
    inputs: &mut Vec<f32>,
    labels: &mut Vec<u32>,
) -> Result<(), CifarError> {
    let unreadable = |error| Fault::Io(error).at(path);
    let file = File::open(path).map_err(unreadable)?;
    let expected = records * RECORD;
    let size = file.metadata().map_err(unreadable)?.len();
    if size != expected as u64 {
        return Err(Fault::Size { records, found: size }.at(path));
    }
    // One byte more than expected, as a file may grow after its length was asked for.
    let mut bytes = Vec::with_capacity(expected);
    file.take(expected as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() != expected {
        return Err(Fault::Size { records, found: bytes.len() as u64 }.at(path));
    }
    for (record, bytes) in bytes.chunks_exact(RECORD).enumerate() {
        let (label, pixels) = (bytes[0], &bytes[1..]);
        if usize::from(label) >= CLASS_NAMES.len() {
            return Err(Fault::LabelRange { record, label: label.into() }.at(path));
        }
        labels.push(u32::from(label));
        inputs.extend(pixels.iter().map(|&pixel| f32::from(pixel) / 255.0));
    }
    Ok(())
}

/// The names of the classes in `batches.meta.txt`.
fn read_names(path: &Path) -> Result<Vec<String>, CifarError> {
    let unreadable = |error| Fault::Io(error).at(path);
    let size = fs::metadata(path).map_err(unreadable)?.len();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(size.min(MOST_NAMES_BYTES)).read_to_string(&mut text))
        .map_err(unreadable)?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if names.len() != CLASS_NAMES.len() {
        return Err(Fault::Names { found: names.len() }.at(path));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const FEW: usize = 3;

    /// The records of file `file`: the label is `(file + record) % 10`, pixel `p` is `(p + record + 7 * file) % 256`.
    fn records(file: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for record in 0..FEW {
            bytes.push(((file + record) % 10) as u8);
            bytes.extend((0..PIXELS).map(|p| ((p + record + 7 * file) % 256) as u8));
        }
        bytes
    }

    fn write_dataset(folder: &Path) {
        for (at, file) in CIFAR10.files.iter().enumerate() {
            fs::write(folder.join(file.names[0]), records(at)).unwrap();
        }
    }

    fn fault_after(change: impl FnOnce(&Path)) -> Fault {
        let folder = TempDir::new().unwrap();
        write_dataset(folder.path());
        change(folder.path());
        match load_records(Some(folder.path()), FEW).unwrap_err() {
            DataError::MalformedCifar { fault, .. } => fault.fault,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn records_are_read_in_order_and_stay_channel_major() {
        let folder = TempDir::new().unwrap();
        write_dataset(folder.path());
        let dataset = load_records(Some(folder.path()), FEW).unwrap();
        assert_eq!((dataset.train.len(), dataset.test.len()), (15, 3));
        assert_eq!((dataset.image, dataset.classes), ([3, 32, 32], 10));
        assert_eq!(dataset.class_names[3], "cat");
        assert_eq!(dataset.train.labels[..4], [0, 1, 2, 1]);
        assert_eq!(dataset.test.labels, [5, 6, 7]);
        // The first green pixel of record 1 of file 2, which is training row 7.
        assert_eq!(dataset.train.row(7)[1024], ((1024 + 1 + 14) % 256) as f32 / 255.0);
    }

    #[test]
    fn the_folder_of_the_archive_will_do() {
        let folder = TempDir::new().unwrap();
        let inner = folder.path().join("cifar-10-batches-bin");
        fs::create_dir(&inner).unwrap();
        write_dataset(&inner);
        fs::write(inner.join(NAMES_FILE), "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n").unwrap();
        let dataset = load_records(Some(folder.path()), FEW).unwrap();
        assert_eq!(dataset.train.len(), 15);
        assert_eq!(dataset.class_names[9], "j");
    }

    #[test]
    fn cut_and_grown_files_are_refused() {
        let cut =
            fault_after(|folder| fs::write(folder.join("data_batch_3.bin"), &records(2)[..FEW * RECORD - 1]).unwrap());
        assert!(matches!(cut, Fault::Size { records: FEW, found } if found == (FEW * RECORD - 1) as u64), "{cut}");
        let empty = fault_after(|folder| fs::write(folder.join("test_batch.bin"), "").unwrap());
        assert!(matches!(empty, Fault::Size { found: 0, .. }));
        let grown = fault_after(|folder| {
            fs::write(folder.join("data_batch_1.bin"), [records(0), records(1)].concat()).unwrap()
        });
        assert!(grown.to_string().contains("18438 bytes, but 3 records of 3073 bytes make 9219"), "{grown}");
    }

    #[test]
    fn labels_above_nine_are_refused_with_their_record() {
        let fault = fault_after(|folder| {
            let mut bytes = records(4);
            bytes[2 * RECORD] = 10;
            fs::write(folder.join("data_batch_5.bin"), bytes).unwrap();
        });
        assert!(matches!(fault, Fault::LabelRange { record: 2, label: 10 }), "{fault}");
    }

    #[test]
    fn missing_files_are_named() {
        let folder = TempDir::new().unwrap();
        write_dataset(folder.path());
        fs::remove_file(folder.path().join("data_batch_4.bin")).unwrap();
        let error = load_records(Some(folder.path()), FEW).unwrap_err().to_string();
        assert!(error.contains("data_batch_4.bin missing"), "{error}");
        assert!(error.contains("taylorscope data fetch cifar10"), "{error}");
    }

    #[test]
    fn nine_names_are_no_names_of_ten_classes() {
        let fault = fault_after(|folder| fs::write(folder.join(NAMES_FILE), "a\nb\n").unwrap());
        assert!(matches!(fault, Fault::Names { found: 2 }), "{fault}");
    }

    #[test]
    fn files_as_published_have_ten_thousand_records() {
        for file in CIFAR10.files {
            assert_eq!(file.most_bytes, 30_730_000);
        }
    }
}
