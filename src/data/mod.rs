//! Datasets: loading, downloading, checking, and cutting into minibatches.
//!
//! The public surface of the module:
//!
//! - [`load`] gives a [`Dataset`] by name, one of [`NAMES`]; its two halves are [`Split`]s.
//! - [`Split::new`] and [`check_inputs`] refuse arrays that no training run could survive.
//! - [`Minibatches`] decides which rows each round sees, reproducibly.
//! - `fetch` (feature `download`) downloads the files of a dataset, [`verify`] checks them again, and
//!   [`cache_dir`] says where they are kept.
//! - [`idx`] reads the file format of the MNIST family, [`cifar`] that of CIFAR-10, `images` folders of PNG and JPEG
//!   files; [`digits`] is the embedded dataset.
//!
//! ```
//! let digits = taylorscope::data::load("digits", None)?;
//! assert_eq!(digits.train.len(), 1500);
//! assert_eq!(digits.train.row(0).len(), 64);
//! # Ok::<(), taylorscope::data::DataError>(())
//! ```

#[cfg(feature = "download")]
pub(crate) mod archive;
mod at;
mod checksum;
pub mod cifar;
pub mod digits;
#[cfg(feature = "download")]
mod download;
#[cfg(feature = "images")]
mod exif;
#[cfg(feature = "download")]
mod fetch;
mod folders;
mod hints;
pub mod idx;
#[cfg(feature = "images")]
pub mod images;
mod layout;
mod minibatches;
mod mnist;
mod pickle;
#[cfg(feature = "images")]
pub mod picture;
// Without downloads, mirrors and archives are known but not used.
#[cfg_attr(not(feature = "download"), allow(dead_code))]
mod remote;
mod round_rows;
mod split;
mod standardize;
#[cfg(all(test, feature = "download"))]
mod test_server;
#[cfg(feature = "download")]
mod transfer;
mod verify;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use remote::Remote;

#[cfg(feature = "download")]
pub use archive::{ArchiveError, ArchiveFault};
pub use at::At;
pub use checksum::Verdict;
#[cfg(feature = "download")]
pub use fetch::{FetchError, FetchOptions, MirrorFailure, Progress, fetch};
pub use folders::cache_dir;
pub use minibatches::{MinibatchError, Minibatches, Rounds};
pub use pickle::PickleFault;
pub use round_rows::RoundRows;
pub use split::{ArrayError, Split, check_inputs};
pub use standardize::Standardization;
pub use verify::{FileReport, verify};

/// What the names of datasets of the user's own images begin with; the folder follows.
pub const IMAGES: &str = "images:";

/// The datasets that [`load`] knows by name, in the order in which they are listed to users.
pub const NAMES: &[&str] = &[digits::NAME, mnist::MNIST.name, mnist::FASHION_MNIST.name, cifar::CIFAR10.name];

/// A classification dataset in memory, split into a training and a test part.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// One of [`NAMES`], or [`IMAGES`] and a folder.
    pub name: String,
    /// The shape of one row of `train.inputs` and `test.inputs`, such as `[784]`.
    pub shape: Vec<usize>,
    /// The same row seen as an image, `[channels, height, width]`; its product is that of
    /// `shape`.
    pub image: [usize; 3],
    /// The number of classes; labels are `0..classes`.
    pub classes: usize,
    /// `[classes]`, what the classes are called, in the order of their labels.
    pub class_names: Vec<String>,
    /// What [`Dataset::standardize`] did; `None` if inputs are as loaded, in `[0, 1]`.
    pub standardization: Option<Standardization>,
    /// What the user should know of how the files were read: what was passed over, or is not what its name says.
    pub notes: Vec<String>,
    /// The rows to train on.
    pub train: Split,
    /// The rows held out.
    pub test: Split,
}

/// Loads a dataset by name, with inputs scaled to `[0, 1]`.
///
/// `digits` is embedded and needs no files. `images:DIR` reads the user's own images (with the feature `images`) from `DIR` and from
/// nowhere else. The files of the others are looked for in `dir`, then in the cache folder ([`cache_dir`]): there in a folder
/// named after the dataset, however it is spelled (`mnist`, `MNIST/raw`, `cifar-10-batches-py`), then in the folder itself.
/// They come from one folder, and from the first of the two places which has any of them. Nothing is downloaded here: `fetch` does
/// that. Rows are channel-major: `[channels, height, width]`.
///
/// The files are checked for their form (sizes, counts, label range), not against checksums:
/// [`verify`] does that.
///
/// # Errors
///
/// For an unknown name, for a `dir` that is not a folder, and for missing or malformed files.
pub fn load(name: &str, dir: Option<&Path>) -> Result<Dataset, DataError> {
    match source_of(name)? {
        Source::Embedded => digits::load(),
        Source::Idx(remote) => mnist::load(remote, dir),
        Source::Cifar => cifar::load(dir),
        #[cfg(feature = "images")]
        Source::Images(folder) => images::load(name, &folder),
        #[cfg(not(feature = "images"))]
        Source::Images(folder) => Err(DataError::WithoutImages { folder }),
    }
}

/// Where the rows of a dataset come from.
enum Source {
    /// They are part of the program.
    Embedded,
    /// They are in four IDX files that can be downloaded.
    Idx(&'static Remote),
    /// They are the records of CIFAR-10, which can be downloaded.
    Cifar,
    /// They are in image files of the user's own.
    Images(PathBuf),
}

impl Source {
    /// The published files, if the dataset has any.
    fn remote(&self) -> Option<&'static Remote> {
        match self {
            Source::Embedded | Source::Images(_) => None,
            Source::Idx(remote) => Some(remote),
            Source::Cifar => Some(&cifar::CIFAR10),
        }
    }
}

/// Resolves a name, or suggests the nearest valid one.
fn source_of(name: &str) -> Result<Source, DataError> {
    if name == digits::NAME {
        return Ok(Source::Embedded);
    }
    if name == cifar::CIFAR10.name {
        return Ok(Source::Cifar);
    }
    if let Some(folder) = name.strip_prefix(IMAGES).filter(|folder| !folder.is_empty()) {
        return Ok(Source::Images(PathBuf::from(folder)));
    }
    [&mnist::MNIST, &mnist::FASHION_MNIST]
        .into_iter()
        .find(|remote| remote.name == name)
        .map(Source::Idx)
        .ok_or_else(|| DataError::UnknownName { name: name.to_owned(), suggestion: nearest_name(name) })
}

/// The valid name most like `name`, unless none is at all alike.
fn nearest_name(name: &str) -> Option<&'static str> {
    // Half of the letters in place: enough for "fashion" and "MNIST", too little for "imagenet".
    const LEAST_SIMILARITY: f64 = 0.5;
    let wanted = name.to_lowercase();
    NAMES
        .iter()
        .map(|&known| (strsim::normalized_damerau_levenshtein(&wanted, known), known))
        .filter(|&(similarity, _)| similarity >= LEAST_SIMILARITY)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

/// Why a dataset could not be loaded, fetched or verified.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// No dataset has this name.
    #[error("unknown dataset {name:?}; {}", advise_name(.suggestion))]
    UnknownName {
        /// The name asked for.
        name: String,
        /// The valid name nearest to it, if any is alike.
        suggestion: Option<&'static str>,
    },
    /// The folder given for the data does not exist or is a file.
    #[error("there is no folder {}; correct the path, or leave it out to use the cache folder", .path.display())]
    NoFolder {
        /// The path given.
        path: PathBuf,
    },
    /// The system names no home, so there is no cache folder.
    #[error(
        "no cache folder: neither {} nor a home folder is set; set {} or name a folder for the data",
        folders::CACHE_VARIABLE,
        folders::CACHE_VARIABLE
    )]
    NoCacheFolder,
    /// None of the folders looked in has any file of the dataset.
    #[error("no files of {name:?} in {}{}; {}", list_paths(.folders), list_instead(.instead), advise_files(name, .hint))]
    NotFound {
        /// The dataset.
        name: &'static str,
        /// The folders looked in.
        folders: Vec<PathBuf>,
        /// Some of the names that are in the first of them.
        instead: Vec<String>,
        /// Where the files are perhaps, and what to do about it.
        hint: Option<String>,
    },
    /// The files are those of another dataset with files of the same names.
    #[error(
        "{}: these are the files of {found:?}, not of {name:?}; set data.dataset to {found:?}, or name the folder that has those of {name:?}",
        .path.display()
    )]
    OtherDataset {
        /// The dataset asked for.
        name: String,
        /// The dataset found.
        found: &'static str,
        /// The file that tells.
        path: PathBuf,
    },
    /// A folder has some files of the dataset but not all.
    #[error(
        "{} has only some of the files of {name:?}: {} missing; run `taylorscope data fetch {name}` or add them",
        .folder.display(),
        .missing.join(", ")
    )]
    Incomplete {
        /// The dataset.
        name: String,
        /// The folder with the other files.
        folder: PathBuf,
        /// The names of the missing files.
        missing: Vec<String>,
    },
    /// A file of the dataset is malformed.
    #[error("{fault}; replace the file, for example by `taylorscope data fetch {name}`")]
    Malformed {
        /// The dataset.
        name: String,
        /// The file and what is wrong with it.
        fault: idx::IdxError,
    },
    /// A file of CIFAR-10 is malformed.
    #[error("{fault}; replace the file, for example by `taylorscope data fetch {name}`")]
    MalformedCifar {
        /// The dataset.
        name: String,
        /// The file and what is wrong with it.
        fault: cifar::CifarError,
    },
    /// A folder of images is not a dataset.
    #[cfg(feature = "images")]
    #[error(transparent)]
    Images(#[from] images::ImagesError),
    /// The library was built without the feature that reads images.
    #[cfg(not(feature = "images"))]
    #[error("{} cannot be read: taylorscope was built without its feature \"images\"", .folder.display())]
    WithoutImages {
        /// The folder with the images.
        folder: PathBuf,
    },
    /// A downloaded archive does not give its files.
    #[cfg(feature = "download")]
    #[error("{0}; remove it and fetch it again")]
    Archive(ArchiveError),
    /// The images have another size than those of the named dataset.
    #[error(
        "{}: images of {}x{} pixels, but those of {name:?} have {}x{}; put the files of {name:?} there or name another folder",
        .path.display(), .found[0], .found[1], .expected[0], .expected[1]
    )]
    ImageSize {
        /// The dataset.
        name: String,
        /// The file with the images.
        path: PathBuf,
        /// `[height, width]` of the dataset.
        expected: [usize; 2],
        /// `[height, width]` in the file.
        found: [usize; 2],
    },
    /// The data embedded in the program is damaged.
    #[error("the embedded dataset is damaged ({reason}); build or install taylorscope again")]
    Embedded {
        /// What is wrong with it.
        reason: String,
    },
    /// The system refused to read or write.
    #[error("{}: {error}; check the path and its permissions", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Values, labels or sizes that do not fit together.
    #[error(transparent)]
    Array(#[from] ArrayError),
    /// A download failed.
    #[cfg(feature = "download")]
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

#[cfg(feature = "download")]
impl From<ArchiveError> for DataError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

impl DataError {
    /// Whether the name of the dataset, or the user's own folder behind it, is what is wrong.
    pub fn is_usage(&self) -> bool {
        match self {
            DataError::UnknownName { .. } => true,
            #[cfg(feature = "images")]
            DataError::Images(_) => true,
            #[cfg(not(feature = "images"))]
            DataError::WithoutImages { .. } => true,
            _ => false,
        }
    }
}

fn advise_name(suggestion: &Option<&'static str>) -> String {
    let known = format!("{}, {}DIR", NAMES.join(", "), IMAGES);
    match suggestion {
        Some(name) => format!("did you mean {name:?}? (known: {known})"),
        None => format!("choose one of {known}"),
    }
}

fn advise_files(name: &str, hint: &Option<String>) -> String {
    let fetch = || format!("run `taylorscope data fetch {name}`, or name the folder that has them");
    hint.clone().unwrap_or_else(fetch)
}

fn list_instead(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" (the first has {})", names.join(", ")) }
}

fn list_paths(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    shown.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_has_a_source() {
        for name in NAMES {
            assert!(source_of(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_slip_of_the_pen_gets_the_right_suggestion() {
        for (typed, meant) in [
            ("minst", "mnist"),
            ("MNIST", "mnist"),
            ("digit", "digits"),
            ("fashion", "fashion-mnist"),
            ("Fashion_MNIST", "fashion-mnist"),
            ("CIFAR-10", "cifar10"),
        ] {
            assert_eq!(nearest_name(typed), Some(meant), "{typed}");
        }
    }

    #[test]
    fn a_name_like_no_other_gets_the_list() {
        let error = load("imagenet-22k", None).unwrap_err().to_string();
        assert!(error.contains("choose one of digits, mnist, fashion-mnist, cifar10, images:DIR"), "{error}");
        let error = load("", None).unwrap_err().to_string();
        assert!(error.contains("unknown dataset \"\""), "{error}");
    }

    #[test]
    fn the_error_for_a_near_miss_names_the_suggestion() {
        let error = load("mnits", None).unwrap_err().to_string();
        assert!(error.contains("did you mean \"mnist\"?"), "{error}");
    }

    #[test]
    fn the_shape_and_the_image_of_a_dataset_agree() {
        let digits = load("digits", None).unwrap();
        assert_eq!(digits.shape.iter().product::<usize>(), digits.image.iter().product::<usize>());
        assert_eq!(digits.train.features(), digits.shape[0]);
    }
}
