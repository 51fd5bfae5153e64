//! MNIST and Fashion-MNIST: 60,000 + 10,000 grey images of 28x28 pixels in ten classes, each in
//! four IDX files of the same names.

use std::path::Path;

use super::checksum::{Checksum, digest};
use super::remote::{Remote, RemoteFile};
use super::{DataError, Dataset, digits, folders, idx};

/// `[height, width]` of the images.
const SIZE: [usize; 2] = [28, 28];
const CLASSES: usize = 10;

/// The classes of Fashion-MNIST in the order of their labels.
const CLOTHES: [&str; CLASSES] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// Beyond any of the packed files (the largest has 26 MB).
const MOST_BYTES: u64 = 64 << 20;

/// The names that a file goes by: as published and unpacked, and with the dot that some copies
/// have for the hyphen.
const TRAIN_IMAGES: &[&str] =
    &["train-images-idx3-ubyte.gz", "train-images-idx3-ubyte", "train-images.idx3-ubyte.gz", "train-images.idx3-ubyte"];
const TRAIN_LABELS: &[&str] =
    &["train-labels-idx1-ubyte.gz", "train-labels-idx1-ubyte", "train-labels.idx1-ubyte.gz", "train-labels.idx1-ubyte"];
const TEST_IMAGES: &[&str] =
    &["t10k-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte.gz", "t10k-images.idx3-ubyte"];
const TEST_LABELS: &[&str] =
    &["t10k-labels-idx1-ubyte.gz", "t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte.gz", "t10k-labels.idx1-ubyte"];

/// Handwritten digits, by Y. LeCun, C. Cortes and C. J. C. Burges (1998).
///
/// The checksums are those of the unpacked files, since copies packed anew are common.
pub(super) const MNIST: Remote = Remote {
    name: "mnist",
    mirrors: &["https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"],
    archive: None,
    files: &[
        RemoteFile {
            names: TRAIN_IMAGES,
            checksum: Checksum::Unpacked {
                sha256: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                bytes: 47_040_016,
            },
            most_bytes: MOST_BYTES,
        },
        RemoteFile {
            names: TRAIN_LABELS,
            checksum: Checksum::Unpacked {
                sha256: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                bytes: 60_008,
            },
            most_bytes: MOST_BYTES,
        },
        RemoteFile {
            names: TEST_IMAGES,
            checksum: Checksum::Unpacked {
                sha256: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                bytes: 7_840_016,
            },
            most_bytes: MOST_BYTES,
        },
        RemoteFile {
            names: TEST_LABELS,
            checksum: Checksum::Unpacked {
                sha256: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                bytes: 10_008,
            },
            most_bytes: MOST_BYTES,
        },
    ],
    other_version: &[],
};

/// Pictures of clothes, by H. Xiao, K. Rasul and R. Vollgraf (2017), <https://arxiv.org/abs/1708.07747>.
///
/// The checksums are those of the packed files that the authors publish (theirs are MD5 sums; the
/// SHA-256 sums of the same files are as widely published).
pub(super) const FASHION_MNIST: Remote = Remote {
    name: "fashion-mnist",
    mirrors: &[
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    ],
    archive: None,
    files: &[
        RemoteFile {
            names: TRAIN_IMAGES,
            checksum: Checksum::Packed("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            most_bytes: MOST_BYTES,
        },
        RemoteFile {
            names: TRAIN_LABELS,
            checksum: Checksum::Packed("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            most_bytes: MOST_BYTES,
        },
        RemoteFile {
            names: TEST_IMAGES,
            checksum: Checksum::Packed("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            most_bytes: MOST_BYTES,
        },
        RemoteFile {
            names: TEST_LABELS,
            checksum: Checksum::Packed("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
            most_bytes: MOST_BYTES,
        },
    ],
    other_version: &[],
};

/// The first training labels of Fashion-MNIST. Its published checksums are those of packed files, and many have them unpacked.
const FIRST_CLOTHES: [u32; 20] = [9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 0, 9, 5, 5, 7, 9, 1, 0, 6, 4];
/// The training images in each class of it.
const CLOTHES_PER_CLASS: usize = 6000;

/// Loads one of the two from the folder that has its files.
pub(super) fn load(remote: &Remote, dir: Option<&Path>) -> Result<Dataset, DataError> {
    let (_, files) = folders::locate_all(remote, dir)?;
    let [train_images, train_labels, test_images, test_labels] = &files[..] else {
        unreachable!("both datasets have four files");
    };
    let malformed = |fault| DataError::Malformed { name: remote.name.to_owned(), fault };
    // Labels that cannot be read are told below, with the other faults.
    let published = idx::read_labels(train_labels, CLASSES).ok().and_then(|labels| published_as(&labels));
    if let Some(found) = published.filter(|found| *found != remote.name) {
        let (name, path) = (remote.name.to_owned(), train_labels.clone());
        return Err(DataError::OtherDataset { name, found, path });
    }
    let split = |images: &Path, labels: &Path| {
        let (split, size) = idx::read_split(images, labels, CLASSES).map_err(malformed)?;
        if size != SIZE {
            return Err(DataError::ImageSize {
                name: remote.name.to_owned(),
                path: images.to_owned(),
                expected: SIZE,
                found: size,
            });
        }
        Ok(split)
    };
    let class_names = if remote.name == MNIST.name { digits::CLASS_NAMES } else { CLOTHES };
    Ok(Dataset {
        name: remote.name.to_owned(),
        shape: vec![SIZE[0] * SIZE[1]],
        image: [1, SIZE[0], SIZE[1]],
        classes: CLASSES,
        class_names: class_names.map(str::to_owned).to_vec(),
        standardization: None,
        notes: published.is_none().then(|| unpublished(remote.name, train_labels)).into_iter().collect(),
        train: split(train_images, train_labels)?,
        test: split(test_images, test_labels)?,
    })
}

fn unpublished(name: &str, labels: &Path) -> String {
    format!("{}: not the labels published as {name}; the results are of these files", labels.display())
}

/// The dataset that was published with these training labels: files of the same names hold one or the other.
fn published_as(labels: &[u32]) -> Option<&'static str> {
    let clothes = |class| labels.iter().filter(|label| **label == class).count() == CLOTHES_PER_CLASS;
    if labels.starts_with(&FIRST_CLOTHES) && (0..CLASSES as u32).all(clothes) {
        return Some(FASHION_MNIST.name);
    }
    let Checksum::Unpacked { sha256, bytes } = MNIST.files[1].checksum else { return None };
    // The file as it was published, unpacked.
    let count = (labels.len() as u32).to_be_bytes();
    let file: Vec<u8> = [0, 0, 8, 1].into_iter().chain(count).chain(labels.iter().map(|&label| label as u8)).collect();
    let is_mnist = file.len() as u64 == bytes && digest(&file[..]).is_ok_and(|found| found == sha256);
    is_mnist.then_some(MNIST.name)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::super::idx::tests::{gzip, idx as idx_file};
    use super::*;

    /// Writes a tiny dataset of 3 + 2 images with the given names and image size.
    fn write_dataset(folder: &Path, names: [&str; 4], size: u32) {
        let pixels = |count: u32| (0..count * size * size).map(|at| (at % 251) as u8).collect::<Vec<u8>>();
        let contents = [
            idx_file(&[3, size, size], &pixels(3)),
            idx_file(&[3], &[7, 0, 9]),
            idx_file(&[2, size, size], &pixels(2)),
            idx_file(&[2], &[1, 2]),
        ];
        for (name, content) in names.iter().zip(contents) {
            let packed = name.ends_with(".gz");
            fs::write(folder.join(name), if packed { gzip(&content) } else { content }).unwrap();
        }
    }

    #[test]
    fn every_way_of_naming_the_files_gives_the_same_dataset() {
        let mut first: Option<Dataset> = None;
        for way in 0..4 {
            let folder = TempDir::new().unwrap();
            let names = [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS].map(|n| n[way]);
            write_dataset(folder.path(), names, 28);
            let mut dataset = load(&MNIST, Some(folder.path())).unwrap();
            assert_eq!(std::mem::take(&mut dataset.notes).len(), 1, "labels of its own");
            assert_eq!(dataset.name, "mnist");
            assert_eq!((dataset.shape.as_slice(), dataset.image), (&[784][..], [1, 28, 28]));
            assert_eq!(dataset.train.labels, [7, 0, 9]);
            assert_eq!(dataset.class_names[9], "9");
            assert_eq!(dataset.test.labels, [1, 2]);
            assert_eq!(dataset.train.row(1)[0], (784 % 251) as f32 / 255.0);
            assert_eq!(*first.get_or_insert_with(|| dataset.clone()), dataset);
        }
    }

    #[test]
    fn the_labels_tell_which_dataset_the_files_are_of() {
        let rest = |first: &[u32]| {
            let missing = |class: u32| CLOTHES_PER_CLASS - first.iter().filter(|label| **label == class).count();
            (0..10).flat_map(|class| vec![class; missing(class)]).collect::<Vec<u32>>()
        };
        let clothes = [&FIRST_CLOTHES[..], &rest(&FIRST_CLOTHES)].concat();
        assert_eq!((clothes.len(), published_as(&clothes)), (60_000, Some("fashion-mnist")));
        let mut other = clothes.clone();
        other.swap(0, 1);
        assert_eq!(published_as(&other), None, "the same classes in another order");
        assert_eq!(published_as(&clothes[..30_000]), None);
        assert_eq!(published_as(&[]), None);

        let folder = TempDir::new().unwrap();
        let names = [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS].map(|n| n[1]);
        write_dataset(folder.path(), names, 28);
        let notes = load(&MNIST, Some(folder.path())).unwrap().notes;
        assert!(matches!(&notes[..], [note] if note.contains("not the labels published as mnist")), "{notes:?}");
        let labels: Vec<u8> = clothes.iter().map(|&label| label as u8).collect();
        fs::write(folder.path().join(names[1]), idx_file(&[60_000], &labels)).unwrap();
        let error = load(&MNIST, Some(folder.path())).unwrap_err();
        assert!(matches!(error, DataError::OtherDataset { found: "fashion-mnist", .. }), "{error}");
        assert!(error.to_string().contains("not of \"mnist\""), "{error}");
    }

    #[test]
    fn images_of_another_size_are_refused() {
        let folder = TempDir::new().unwrap();
        let names = [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS].map(|n| n[0]);
        write_dataset(folder.path(), names, 27);
        let error = load(&FASHION_MNIST, Some(folder.path())).unwrap_err();
        assert!(matches!(error, DataError::ImageSize { found: [27, 27], .. }), "{error}");
        assert!(error.to_string().contains("27x27"), "{error}");
    }

    #[test]
    fn missing_files_are_named() {
        let folder = TempDir::new().unwrap();
        let names = [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS].map(|n| n[1]);
        write_dataset(folder.path(), names, 28);
        fs::remove_file(folder.path().join("t10k-labels-idx1-ubyte")).unwrap();
        let error = load(&MNIST, Some(folder.path())).unwrap_err().to_string();
        assert!(error.contains("t10k-labels-idx1-ubyte.gz missing"), "{error}");
        assert!(error.contains("taylorscope data fetch mnist"), "{error}");
    }

    #[test]
    fn a_malformed_file_is_named_with_what_to_do() {
        let folder = TempDir::new().unwrap();
        let names = [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS].map(|n| n[0]);
        write_dataset(folder.path(), names, 28);
        fs::write(folder.path().join("train-labels-idx1-ubyte.gz"), "").unwrap();
        let error = load(&MNIST, Some(folder.path())).unwrap_err().to_string();
        assert!(error.contains("train-labels-idx1-ubyte.gz"), "{error}");
        assert!(error.contains("the file is empty"), "{error}");
        assert!(error.contains("taylorscope data fetch mnist"), "{error}");
    }

    #[test]
    fn the_published_checksums_are_well_formed() {
        for remote in [MNIST, FASHION_MNIST] {
            assert_eq!(remote.files.len(), 4);
            assert!(remote.mirrors.len() >= 2);
            for file in remote.files {
                let (Checksum::Packed(sha256) | Checksum::Unpacked { sha256, .. }) = file.checksum;
                assert_eq!(sha256.len(), 64);
                assert!(sha256.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')), "{sha256}");
            }
        }
    }
}
