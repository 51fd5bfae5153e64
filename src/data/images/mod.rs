//! Images of the user's own, in the usual layout: a folder per class.
//!
//! `images:DIR` reads `DIR/CLASS/*.png|jpg|jpeg`; or, where `DIR` has the folders `train` and `test` (or `val`),
//! `DIR/train/CLASS/*` and `DIR/test/CLASS/*`. Classes are numbered by the order of their names. Without `train` and
//! `test`, a fifth of each class is held out, chosen by a fixed seed: the same files in every run, whatever the
//! experiment's seed. All images have one size; if any has colours, grey ones get three equal channels. Names that
//! begin with a dot are passed over; other files that are not read are counted in the dataset's notes, and so are images with an EXIF
//! orientation, which is not applied.

mod listing;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use thiserror::Error;

use super::picture::{Header, PictureError, decode, read_header};
use super::{DataError, Dataset, Split};
use listing::{HELD_OUT, IN_FOLDERS, Labelled, Listing, list};

pub use super::IMAGES as PREFIX;

/// More values than a dataset in memory can have, by far: 16 GiB.
const MOST_VALUES: usize = 1 << 32;

/// A folder of images that is not a dataset.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImagesError {
    /// The folder has no folders of classes.
    #[error("{} has no folders of images; put the images of each class into a folder named after it", .path.display())]
    NoClasses { path: PathBuf },
    /// A class has no images.
    #[error("{} has no images{}", .path.display(), advise_class(.found))]
    EmptyClass { path: PathBuf, found: String },
    /// There is a training part but no test part, or the other way round.
    #[error("{} has {present} but no {absent}; add it, or put the folders of the classes right into {0}", .path.display())]
    OnePart { path: PathBuf, present: String, absent: &'static str },
    /// The test part has a class that the training part lacks.
    #[error("{} is a class that the training images lack; add it to train, or remove it", .path.display())]
    UnknownClass { path: PathBuf },
    /// Too few images to hold any out.
    #[error("no class in {} has the {HELD_OUT} images that it takes to hold one out; add images, or make train and test folders", .path.display())]
    TooFew { path: PathBuf },
    /// An image has another size than the first.
    #[error(
        "{} has {}x{} pixels, but {} has {}x{} (height x width); {}",
        .path.display(), .found[0], .found[1], .first.display(), .expected[0], .expected[1], advise_size(.turned)
    )]
    MixedSizes {
        path: PathBuf,
        found: [usize; 2],
        first: PathBuf,
        expected: [usize; 2],
        /// Whether one of them has an EXIF orientation, which may exchange its height and width.
        turned: bool,
    },
    /// All images together do not fit into memory.
    #[error("{images} images of {height}x{width} pixels are too many for the memory; scale them down or take fewer")]
    TooLarge { images: usize, height: usize, width: usize },
    /// An image file is unusable.
    #[error("{0}; {remedy}", remedy = .0.fault.remedy())]
    Picture(#[from] PictureError),
}

/// What there is instead, and what to do.
fn advise_class(found: &str) -> String {
    let read = "PNG or JPEG files (ending in .png, .jpg or .jpeg)";
    match found {
        "" => format!("; add {read}, or remove the folder"),
        _ if found.contains(IN_FOLDERS) => format!(
            " right in it, only {found}; if those folders are the classes, name this folder as the dataset's, else put \
             {read} right into it"
        ),
        _ => format!(" that are read, only {found}; convert them to {read}, or remove the folder"),
    }
}

fn advise_size(turned: &bool) -> String {
    let scale = "scale or crop all images to one size";
    match turned {
        false => scale.to_owned(),
        true => format!("one of them has an EXIF orientation, which is not applied: {TURN}, then {scale}"),
    }
}

/// How to apply an orientation.
const TURN: &str = "turn the pixels first (in Pillow by ImageOps.exif_transpose)";

/// Loads the images below `folder`; `name` is the dataset's name, with the folder in it.
pub(super) fn load(name: &str, folder: &Path) -> Result<Dataset, DataError> {
    if !folder.is_dir() {
        return Err(DataError::NoFolder { path: folder.to_owned() });
    }
    let Listing { class_names, train, test, mut notes } = list(folder)?;
    let Common { header: Header { height, width, .. }, channels, notes: more } = common(train.iter().chain(&test))?;
    notes.extend(more);
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
        notes,
    })
}

/// What all files have in common.
struct Common {
    header: Header,
    /// 3 if any has colours, else 1.
    channels: usize,
    notes: Vec<String>,
}

/// Reads the headers of all files, and compares their sizes.
fn common<'a>(files: impl Iterator<Item = &'a Labelled>) -> Result<Common, ImagesError> {
    let files: Vec<&Path> = files.map(|(path, _)| path.as_path()).collect();
    let headers: Vec<Result<Header, PictureError>> = files.par_iter().map(|path| read_header(path)).collect();
    let headers: Vec<Header> = headers.into_iter().collect::<Result<_, _>>()?;
    let first = headers[0];
    let size = |header: &Header| [header.height, header.width];
    if let Some(at) = headers.iter().position(|header| size(header) != size(&first)) {
        let turned = headers[at].turned || first.turned;
        let (path, found, expected) = (files[at].to_owned(), size(&headers[at]), size(&first));
        return Err(ImagesError::MixedSizes { path, found, first: files[0].to_owned(), expected, turned });
    }
    let which = |has: fn(&Header) -> bool| (0..files.len()).filter(|&at| has(&headers[at])).collect::<Vec<usize>>();
    let (coloured, turned) = (which(|header| header.colour), which(|header| header.turned));
    let mut notes = Vec::new();
    let all = files.len();
    if let Some(&at) = coloured.first().filter(|_| coloured.len() < all) {
        let (grey, path) = (all - coloured.len(), files[at].display());
        notes.push(format!("{grey} of {all} images are grey; they get three equal channels, as {path} has colours"));
    }
    if let Some(&at) = turned.first() {
        let (count, path) = (turned.len(), files[at].display());
        notes.push(format!(
            "{count} of {all} images have an EXIF orientation, which is not applied ({path}); if they are to be seen upright, {TURN}"
        ));
    }
    Ok(Common { header: first, channels: if coloured.is_empty() { 1 } else { 3 }, notes })
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
    use std::fs;

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
        let mut set = load("images:x", folder.path()).unwrap();
        assert_eq!(set, load("images:x", folder.path()).unwrap());
        let notes = std::mem::take(&mut set.notes);
        assert!(matches!(&notes[..], [note] if note.contains("1 of cat's 11 files (1 .txt)")), "{notes:?}");
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
