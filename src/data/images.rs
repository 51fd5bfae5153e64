//! Images of the user's own, in the usual layout: a folder per class.
//!
//! `images:DIR` reads `DIR/CLASS/*.png|jpg|jpeg`; or, where `DIR` has the folders `train` and `test`,
//! `DIR/train/CLASS/*` and `DIR/test/CLASS/*`. Classes are numbered by the order of their names. Without `train` and
//! `test`, a fifth of each class is held out, chosen by a fixed seed: the same files in every run, whatever the
//! experiment's seed. All images have one size; if any has colours, grey ones get three equal channels. Names that
//! begin with a dot, and files with other endings, are passed over.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use thiserror::Error;

use super::picture::{Header, PictureError, decode, read_header};
use super::{DataError, Dataset, Minibatches, Split};

/// What the names of such datasets begin with; the folder follows.
pub const PREFIX: &str = "images:";

const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];

/// One row of this many of each class is held out.
const HELD_OUT: usize = 5;
/// The seed of the rows held out.
const SPLIT_SEED: u64 = 0;

/// More values than a dataset in memory can have, by far: 16 GiB.
const MOST_VALUES: usize = 1 << 32;

/// A folder of images that is no dataset.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImagesError {
    /// The folder has no folders of classes.
    #[error("{} has no folders of images; put the images of each class into a folder named after it", .path.display())]
    NoClasses { path: PathBuf },
    /// A class has no images.
    #[error("{} has no images; add PNG or JPEG files (ending in .png, .jpg or .jpeg), or remove the folder", .path.display())]
    EmptyClass { path: PathBuf },
    /// There is a training part but no test part, or the other way round.
    #[error("{} has {present} but no {absent}; add it, or put the folders of the classes right into {0}", .path.display())]
    OnePart { path: PathBuf, present: &'static str, absent: &'static str },
    /// The test part has a class that the training part lacks.
    #[error("{} is a class that the training images lack; add it to train, or remove it", .path.display())]
    UnknownClass { path: PathBuf },
    /// Too few images to hold any out.
    #[error("no class in {} has the {HELD_OUT} images that it takes to hold one out; add images, or make train and test folders", .path.display())]
    TooFew { path: PathBuf },
    /// An image has another size than the first.
    #[error(
        "{} has {}x{} pixels, but {} has {}x{} (height x width); scale or crop all images to one size",
        .path.display(), .found[0], .found[1], .first.display(), .expected[0], .expected[1]
    )]
    MixedSizes { path: PathBuf, found: [usize; 2], first: PathBuf, expected: [usize; 2] },
    /// All images together do not fit into memory.
    #[error("{images} images of {height}x{width} pixels are too many for the memory; scale them down or take fewer")]
    TooLarge { images: usize, height: usize, width: usize },
    /// An image file is unusable.
    #[error("{0}; replace or remove the file")]
    Picture(#[from] PictureError),
}

/// A file and its class.
type Labelled = (PathBuf, u32);

/// The files of a dataset, not read yet.
#[derive(Default)]
struct Listing {
    class_names: Vec<String>,
    train: Vec<Labelled>,
    test: Vec<Labelled>,
}

/// Loads the images below `folder`; `name` is the dataset's name, with the folder in it.
pub(super) fn load(name: &str, folder: &Path) -> Result<Dataset, DataError> {
    if !folder.is_dir() {
        return Err(DataError::NoFolder { path: folder.to_owned() });
    }
    let (train, test) = (folder.join("train"), folder.join("test"));
    let one_part = |present, absent| ImagesError::OnePart { path: folder.to_owned(), present, absent };
    let Listing { class_names, train, test } = match (train.is_dir(), test.is_dir()) {
        (true, true) => two_parts(&train, &test)?,
        (false, false) => one_folder(folder)?,
        (true, false) => return Err(one_part("train", "test").into()),
        (false, true) => return Err(one_part("test", "train").into()),
    };
    let (Header { height, width, .. }, channels) = common_size(train.iter().chain(&test))?;
    let features = channels * height * width;
    let images = train.len() + test.len();
    if images.checked_mul(features).is_none_or(|values| values > MOST_VALUES) {
        return Err(ImagesError::TooLarge { images, height, width }.into());
    }
    let classes = class_names.len();
    let split = |files: &[Labelled]| -> Result<Split, DataError> {
        let labels = files.iter().map(|(_, label)| *label).collect();
        Ok(Split::new(decode_all(files, channels, features)?, features, labels, classes)?)
    };
    Ok(Dataset {
        name: name.to_owned(),
        shape: vec![features],
        image: [channels, height, width],
        classes,
        train: split(&train)?,
        test: split(&test)?,
        class_names,
        standardization: None,
    })
}

/// Classes and files of `train/` and `test/`.
fn two_parts(train: &Path, test: &Path) -> Result<Listing, DataError> {
    let classes = classes_of(train)?;
    let labels: BTreeMap<&str, u32> = classes.iter().zip(0..).map(|((name, _), label)| (&name[..], label)).collect();
    let mut listing = Listing::default();
    for (name, files) in classes_of(test)? {
        let Some(label) = labels.get(&name[..]) else {
            return Err(ImagesError::UnknownClass { path: test.join(name) }.into());
        };
        listing.test.extend(files.into_iter().map(|file| (file, *label)));
    }
    drop(labels);
    for ((name, files), label) in classes.into_iter().zip(0..) {
        listing.class_names.push(name);
        listing.train.extend(files.into_iter().map(|file| (file, label)));
    }
    Ok(listing)
}

/// Classes and files of a folder without parts, a fifth of each class held out.
fn one_folder(folder: &Path) -> Result<Listing, DataError> {
    let mut listing = Listing::default();
    for ((name, files), label) in classes_of(folder)?.into_iter().zip(0_u32..) {
        // A stream of its own for each class: more images of one leave the parts of the others as they were.
        let order = Minibatches::new(files.len(), 1, SPLIT_SEED)
            .map(|orders| orders.epoch(label as usize))
            .expect("a class has at least one image");
        let out: Vec<u32> = order.into_iter().take(files.len() / HELD_OUT).collect();
        for (row, file) in (0_u32..).zip(files) {
            let part = if out.contains(&row) { &mut listing.test } else { &mut listing.train };
            part.push((file, label));
        }
        listing.class_names.push(name);
    }
    if listing.test.is_empty() {
        return Err(ImagesError::TooFew { path: folder.to_owned() }.into());
    }
    Ok(listing)
}

/// The folders in `folder` with the images in each, both sorted by name.
fn classes_of(folder: &Path) -> Result<Vec<(String, Vec<PathBuf>)>, DataError> {
    let mut classes = Vec::new();
    for path in entries(folder)?.into_iter().filter(|path| path.is_dir()) {
        let is_image = |file: &PathBuf| {
            let ending = file.extension().map(|ending| ending.to_string_lossy().to_lowercase());
            file.is_file() && ending.is_some_and(|ending| ENDINGS.contains(&&ending[..]))
        };
        let files: Vec<PathBuf> = entries(&path)?.into_iter().filter(is_image).collect();
        if files.is_empty() {
            return Err(ImagesError::EmptyClass { path }.into());
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        classes.push((name, files));
    }
    if classes.is_empty() {
        return Err(ImagesError::NoClasses { path: folder.to_owned() }.into());
    }
    Ok(classes)
}

/// What is in `folder`, sorted by name, without names that begin with a dot.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let trouble = |error| DataError::Io { path: folder.to_owned(), error };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(trouble)? {
        let entry = entry.map_err(trouble)?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// The size that all files have, and 3 channels if any has colours, else 1.
fn common_size<'a>(files: impl Iterator<Item = &'a Labelled>) -> Result<(Header, usize), ImagesError> {
    let files: Vec<&Path> = files.map(|(path, _)| path.as_path()).collect();
    let headers: Vec<Result<Header, PictureError>> = files.par_iter().map(|path| read_header(path)).collect();
    let mut first: Option<Header> = None;
    let mut channels = 1;
    for (path, header) in files.iter().zip(headers) {
        let header = header?;
        let expected = first.get_or_insert(header);
        if (header.height, header.width) != (expected.height, expected.width) {
            return Err(ImagesError::MixedSizes {
                path: path.to_path_buf(),
                found: [header.height, header.width],
                first: files[0].to_owned(),
                expected: [expected.height, expected.width],
            });
        }
        if header.colour {
            channels = 3;
        }
    }
    Ok((first.expect("there is at least one image"), channels))
}

/// Decodes all files into rows. Of several faults the first file's is told, whatever the threads do.
fn decode_all(files: &[Labelled], channels: usize, features: usize) -> Result<Vec<f32>, ImagesError> {
    let mut inputs = vec![0.0; files.len() * features];
    let rows = inputs.par_chunks_exact_mut(features).zip(files);
    let outcomes: Vec<Result<(), PictureError>> = rows.map(|(row, (path, _))| decode(path, channels, row)).collect();
    outcomes.into_iter().collect::<Result<(), PictureError>>()?;
    Ok(inputs)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A PNG file of `height` x `width` pixels, all of the given colour, or grey if that has one sample.
    fn png(height: u32, width: u32, colour: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(if colour.len() == 3 { png::ColorType::Rgb } else { png::ColorType::Grayscale });
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&colour.repeat((height * width) as usize)).unwrap();
        writer.finish().unwrap();
        bytes
    }

    fn put(folder: &Path, name: &str, bytes: &[u8]) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn error_of(folder: &TempDir) -> String {
        load("images:x", folder.path()).unwrap_err().to_string()
    }

    /// Two classes of ten grey images each, of 2x3 pixels; image i of class c has the value 10 c + i.
    fn two_classes() -> TempDir {
        let folder = TempDir::new().unwrap();
        for (c, class) in ["cat", "dog"].iter().enumerate() {
            for i in 0..10_u8 {
                put(folder.path(), &format!("{class}/{i}.png"), &png(2, 3, &[10 * c as u8 + i]));
            }
        }
        folder
    }

    #[test]
    fn a_fifth_of_each_class_is_held_out_the_same_every_time() {
        let folder = two_classes();
        put(folder.path(), "cat/notes.txt", b"passed over");
        put(folder.path(), "cat/.hidden.png", b"passed over");
        put(folder.path(), "notes.txt", b"passed over");
        let set = load("images:x", folder.path()).unwrap();
        assert_eq!(set, load("images:x", folder.path()).unwrap());
        assert_eq!((set.image, set.classes, set.train.len(), set.test.len()), ([1, 2, 3], 2, 16, 4));
        assert_eq!(set.class_names, ["cat", "dog"]);
        assert_eq!(set.test.labels, [0, 0, 1, 1]);
        let mut values: Vec<u32> = [&set.train, &set.test]
            .iter()
            .flat_map(|split| (0..split.len()).map(|row| (split.row(row)[5] * 255.0).round() as u32))
            .collect();
        values.sort_unstable();
        assert_eq!(values, (0..20).collect::<Vec<u32>>(), "every image is in one part");
        for row in 0..set.train.len() {
            assert_eq!(set.train.labels[row], u32::from(set.train.row(row)[0] * 255.0 > 9.5));
        }
    }

    #[test]
    fn parts_of_the_users_own_are_kept() {
        let folder = TempDir::new().unwrap();
        put(folder.path(), "train/b/1.png", &png(2, 2, &[1]));
        put(folder.path(), "train/a/1.PNG", &png(2, 2, &[2]));
        put(folder.path(), "test/b/1.png", &png(2, 2, &[255, 0, 51]));
        let set = load("images:x", folder.path()).unwrap();
        assert_eq!((set.image, set.train.labels.clone(), set.test.labels.clone()), ([3, 2, 2], vec![0, 1], vec![1]));
        assert_eq!(set.test.row(0), [[1.0; 4], [0.0; 4], [0.2; 4]].concat());
        assert_eq!(set.train.row(0), [2.0 / 255.0; 12], "grey has three equal channels among colours");
        put(folder.path(), "test/c/1.png", &png(2, 2, &[1]));
        assert!(error_of(&folder).contains("class that the training images lack"));
        fs::remove_dir_all(folder.path().join("test")).unwrap();
        assert!(error_of(&folder).contains("has train but no test"));
    }

    #[test]
    fn images_of_two_sizes_are_refused_with_both() {
        let folder = two_classes();
        put(folder.path(), "dog/3.png", &png(3, 2, &[0]));
        let error = error_of(&folder);
        assert!(error.contains("3x2") && error.contains("2x3") && error.contains("scale or crop"), "{error}");
    }

    #[test]
    fn files_that_are_no_images_are_named() {
        let folder = two_classes();
        put(folder.path(), "dog/4.png", b"<html>");
        let error = error_of(&folder);
        assert!(error.contains("4.png") && error.contains("neither a PNG nor a JPEG"), "{error}");
        let whole = png(2, 3, &[7]);
        put(folder.path(), "dog/4.png", &whole[..whole.len() - 20]);
        let error = error_of(&folder);
        assert!(error.contains("4.png: cannot be decoded"), "{error}");
    }

    #[test]
    fn folders_without_images_are_refused() {
        let folder = TempDir::new().unwrap();
        assert!(error_of(&folder).contains("no folders of images"));
        put(folder.path(), "cat/notes.txt", b"no image");
        let error = error_of(&folder);
        assert!(error.contains("cat") && error.contains("has no images"), "{error}");
        put(folder.path(), "cat/1.png", &png(1, 1, &[0]));
        assert!(error_of(&folder).contains("hold one out"));
        let error = load("images:x", &folder.path().join("absent")).unwrap_err();
        assert!(matches!(error, DataError::NoFolder { .. }), "{error}");
    }
}
