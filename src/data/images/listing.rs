//! Which files of a folder of images belong to which class and part, and which are passed over.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::{DataError, Minibatches};
use super::ImagesError;

/// The endings of files that are read.
const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];

/// One row of this many of each class is held out.
pub(super) const HELD_OUT: usize = 5;
/// The seed of the rows held out.
const SPLIT_SEED: u64 = 0;

/// What people call the parts, in lower case. The first names alone mark a folder of parts: others may well be classes.
const TRAIN: [&str; 2] = ["train", "training"];
const TEST: [&str; 2] = ["test", "testing"];
const VALIDATION: [&str; 3] = ["val", "valid", "validation"];

/// Folders and files that systems leave behind, in lower case. They are passed over without a word, like names that begin with a dot.
const LEFT_BEHIND: [&str; 8] = [
    "__macosx",
    "__pycache__",
    "@eadir",
    "lost+found",
    "$recycle.bin",
    "system volume information",
    "thumbs.db",
    "desktop.ini",
];

/// Folders whose files are counted at most below a class.
const MOST_FOLDERS: usize = 1000;
/// Names listed at most in a note.
const MOST_NAMES: usize = 4;

/// The kind of files that lie in folders of a class.
pub(super) const IN_FOLDERS: &str = "in folders";

/// A file and its class.
pub(super) type Labelled = (PathBuf, u32);

/// The files of a dataset, not read yet.
#[derive(Default)]
pub(super) struct Listing {
    pub class_names: Vec<String>,
    pub train: Vec<Labelled>,
    pub test: Vec<Labelled>,
    /// What was passed over.
    pub notes: Vec<String>,
}

/// A folder with the images of one class.
struct Class {
    name: String,
    path: PathBuf,
    images: Vec<PathBuf>,
    /// How many other files there are of each kind.
    passed_over: BTreeMap<String, usize>,
}

/// Lists the images in `folder` by part and class.
pub(super) fn list(folder: &Path) -> Result<Listing, DataError> {
    match parts(folder)? {
        Some(parts) => {
            let loose = [folder, &parts.train, &parts.test].map(loose_images);
            let mut listing = two_parts(folder, parts)?;
            listing.notes.extend(loose.into_iter().flatten());
            Ok(listing)
        }
        None => {
            let mut listing = one_folder(folder)?;
            listing.notes.extend(loose_images(folder));
            Ok(listing)
        }
    }
}

/// Says how many images lie next to the folders of the classes.
fn loose_images(folder: &Path) -> Option<String> {
    let files = entries(folder).unwrap_or_default();
    let images = files.iter().filter(|path| ENDINGS.contains(&&ending_of(path)[..]) && path.is_file()).count();
    (images > 0).then(|| {
        let (images, verbs) = if images == 1 {
            ("1 image".to_owned(), "belongs to no class and is")
        } else {
            (format!("{images} images"), "belong to no class and are")
        };
        format!("{images} right in {} {verbs} not used", folder.display())
    })
}

/// The folders of the parts.
struct Parts {
    train: PathBuf,
    test: PathBuf,
    notes: Vec<String>,
}

/// Finds folders `train` and `test` (or `val`, if there is none) in whatever capitals.
fn parts(folder: &Path) -> Result<Option<Parts>, DataError> {
    let folders: Vec<PathBuf> = entries(folder)?.into_iter().filter(|path| path.is_dir()).collect();
    let named = |names: &[&str]| {
        let exact = names.iter().map(|name| folder.join(name)).find(|path| folders.contains(path));
        exact.or_else(|| folders.iter().find(|path| names.contains(&&name_of(path).to_lowercase()[..])).cloned())
    };
    let (train, test, validation) = (named(&TRAIN), named(&TEST), named(&VALIDATION));
    let place = folder.display();
    let mut notes = Vec::new();
    let (train, test) = match (train, test, validation) {
        (Some(train), Some(test), _) => (train, test),
        (Some(train), None, Some(validation)) => {
            notes.push(format!(
                "{place} has no test folder, so that the images of {} are the test set",
                name_of(&validation)
            ));
            (train, validation)
        }
        (Some(part), None, None) | (None, Some(part), _) => {
            let name = name_of(&part);
            return match &name.to_lowercase()[..] {
                "train" => Err(one_part(folder, name, "test (or val)")),
                "test" => Err(one_part(folder, name, "train")),
                _ => Ok(None),
            };
        }
        (None, None, _) => return Ok(None),
    };
    let unused: Vec<String> =
        folders.iter().filter(|path| **path != train && **path != test).map(|path| name_of(path)).collect();
    if !unused.is_empty() {
        let (are, train, test) = (if unused.len() == 1 { "is" } else { "are" }, name_of(&train), name_of(&test));
        let unused = shortened(&unused);
        notes.push(format!(
            "{unused} in {place} {are} not used: only {train} and {test} are (data.validation holds images of {train} out)"
        ));
    }
    Ok(Some(Parts { train, test, notes }))
}

fn one_part(folder: &Path, present: String, absent: &'static str) -> DataError {
    ImagesError::OnePart { path: folder.to_owned(), present, absent }.into()
}

/// Classes and files of `train/` and `test/`.
fn two_parts(folder: &Path, Parts { train, test, mut notes }: Parts) -> Result<Listing, DataError> {
    let (train_classes, test_classes) = (classes_of(&train)?, classes_of(&test)?);
    notes.extend(note_of(folder, train_classes.iter().chain(&test_classes)));
    let mut listing = Listing::default();
    let labels: BTreeMap<&str, u32> =
        train_classes.iter().zip(0..).map(|(class, label)| (&class.name[..], label)).collect();
    let mut untested = labels.clone();
    for class in test_classes {
        let Some(label) = labels.get(&class.name[..]) else {
            return Err(ImagesError::UnknownClass { path: class.path }.into());
        };
        untested.remove(&class.name[..]);
        listing.test.extend(class.images.into_iter().map(|file| (file, *label)));
    }
    if !untested.is_empty() {
        let names: Vec<String> = untested.into_keys().map(str::to_owned).collect();
        notes.push(format!("{} has no images of {}", test.display(), shortened(&names)));
    }
    for (class, label) in train_classes.into_iter().zip(0..) {
        listing.class_names.push(class.name);
        listing.train.extend(class.images.into_iter().map(|file| (file, label)));
    }
    listing.notes = notes;
    Ok(listing)
}

/// Classes and files of a folder without parts, a fifth of each class held out.
fn one_folder(folder: &Path) -> Result<Listing, DataError> {
    let mut listing = Listing::default();
    let classes = classes_of(folder)?;
    listing.notes.extend(note_of(folder, &classes));
    for (Class { name, images, .. }, label) in classes.into_iter().zip(0_u32..) {
        // A stream of its own for each class: more images of one leave the parts of the others as they were.
        let order = Minibatches::new(images.len(), 1, SPLIT_SEED)
            .map(|orders| orders.epoch(label as usize))
            .expect("a class has at least one image");
        let out: Vec<u32> = order.into_iter().take(images.len() / HELD_OUT).collect();
        for (row, file) in (0_u32..).zip(images) {
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
fn classes_of(folder: &Path) -> Result<Vec<Class>, DataError> {
    let mut classes = Vec::new();
    for path in entries(folder)?.into_iter().filter(|path| path.is_dir()) {
        let mut class = Class { name: name_of(&path), path, images: Vec::new(), passed_over: BTreeMap::new() };
        for entry in entries(&class.path)? {
            if entry.is_file() && ENDINGS.contains(&&ending_of(&entry)[..]) {
                class.images.push(entry);
            } else {
                pass_over(&entry, &mut class.passed_over);
            }
        }
        if class.images.is_empty() {
            let found = kinds(&class.passed_over);
            return Err(ImagesError::EmptyClass { path: class.path, found }.into());
        }
        classes.push(class);
    }
    if classes.is_empty() {
        return Err(ImagesError::NoClasses { path: folder.to_owned() }.into());
    }
    Ok(classes)
}

/// Counts a file, or the files below a folder, by kind.
fn pass_over(entry: &Path, counts: &mut BTreeMap<String, usize>) {
    let kind = match ending_of(entry) {
        _ if entry.is_dir() => IN_FOLDERS.to_owned(),
        _ if !entry.exists() => "links to nothing".to_owned(),
        ending if ending.is_empty() => "without ending".to_owned(),
        ending => format!(".{ending}"),
    };
    let count = if entry.is_dir() { files_below(entry) } else { 1 };
    if count > 0 {
        *counts.entry(kind).or_default() += count;
    }
}

/// The number of files in a folder and its folders; links are not followed, as they may lead round.
fn files_below(folder: &Path) -> usize {
    let (mut waiting, mut files) = (vec![folder.to_owned()], 0);
    for _ in 0..MOST_FOLDERS {
        let Some(folder) = waiting.pop() else { break };
        let (inner, here): (Vec<PathBuf>, Vec<PathBuf>) =
            entries(&folder).unwrap_or_default().into_iter().partition(|path| path.is_dir() && !path.is_symlink());
        files += here.len();
        waiting.extend(inner);
    }
    files
}

/// `10 .webp, 5 .bmp`: most first.
fn kinds(passed_over: &BTreeMap<String, usize>) -> String {
    let mut kinds: Vec<(&String, &usize)> = passed_over.iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
}

/// Says how many files of which classes were passed over, if any were.
fn note_of<'a>(folder: &Path, classes: impl IntoIterator<Item = &'a Class>) -> Option<String> {
    let incomplete: Vec<&Class> = classes.into_iter().filter(|class| !class.passed_over.is_empty()).collect();
    let passed = |class: &Class| class.passed_over.values().sum::<usize>();
    let told: Vec<String> = incomplete
        .iter()
        .take(MOST_NAMES)
        .map(|class| {
            let (passed, name) = (passed(class), class.path.strip_prefix(folder).unwrap_or(&class.path));
            let all = passed + class.images.len();
            format!("{passed} of {}'s {all} files ({})", name.display(), kinds(&class.passed_over))
        })
        .collect();
    let rest = incomplete.get(MOST_NAMES..).filter(|rest| !rest.is_empty());
    let rest = rest.map(|rest| {
        format!(" and {} files of {} more folders", rest.iter().map(|c| passed(c)).sum::<usize>(), rest.len())
    });
    let said = told.join(", ") + &rest.unwrap_or_default();
    let place = folder.display();
    (!told.is_empty()).then(|| {
        format!("passed over in {place}: {said}; read are .png, .jpg and .jpeg right in the folder of a class: convert or rename the others")
    })
}

/// Up to four names.
fn shortened(names: &[String]) -> String {
    let more = if names.len() > MOST_NAMES { format!(" and {} more", names.len() - MOST_NAMES) } else { String::new() };
    names[..names.len().min(MOST_NAMES)].join(", ") + &more
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What stands behind the last dot, in lower case.
fn ending_of(path: &Path) -> String {
    path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// What is in `folder`, sorted by name, without hidden names and what systems leave behind.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let trouble = |error| DataError::Io { path: folder.to_owned(), error };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(trouble)? {
        let entry = entry.map_err(trouble)?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if !name.starts_with('.') && !LEFT_BEHIND.contains(&&name[..]) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
