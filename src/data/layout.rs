//! How the files of a dataset are named and lie in folders, however they were unpacked.

use std::fs;
use std::path::{Path, PathBuf};

use super::remote::Remote;

/// Which of the versions of a dataset its files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// That which is downloaded.
    Published,
    /// The other one, [`Remote::other_version`].
    Other,
}

/// The names that each file of a version goes by, the usual one first.
pub(super) fn names(remote: &Remote, version: Version) -> Vec<&'static [&'static str]> {
    match version {
        Version::Published => remote.files.iter().map(|file| file.names).collect(),
        Version::Other => remote.other_version.iter().map(std::slice::from_ref).collect(),
    }
}

/// Files of a dataset, in one folder.
#[derive(Debug)]
pub(super) struct Found {
    pub folder: PathBuf,
    pub version: Version,
    /// The path of each file in order, if it exists.
    pub files: Vec<Option<PathBuf>>,
}

impl Found {
    pub fn is_whole(&self) -> bool {
        self.files.iter().all(Option::is_some)
    }
}

/// The files of a version in `folder`, if there are any.
fn files_in(remote: &Remote, version: Version, folder: &Path) -> Option<Found> {
    let here = children(folder);
    let files: Vec<_> = names(remote, version).into_iter().map(|names| find_among(&here, folder, names)).collect();
    files.iter().any(Option::is_some).then(|| Found { folder: folder.to_owned(), version, files })
}

/// The best set of files in or below `base`: the first that is whole, else the first.
pub(super) fn best_below(remote: &Remote, base: &Path) -> Option<Found> {
    let mut found: Vec<Found> = places(base, remote.name)
        .iter()
        .flat_map(|place| [Version::Published, Version::Other].map(|version| files_in(remote, version, place)))
        .flatten()
        .collect();
    let best = found.iter().position(Found::is_whole).unwrap_or(0);
    (!found.is_empty()).then(|| found.swap_remove(best))
}

/// The folders at and below `base` that may hold the files of dataset `name`, best first.
///
/// Files of the same names make up MNIST and Fashion-MNIST, so folders that bear the name of the dataset go first; of these, the one that
/// [`fetch`](super::fetch()) makes. Programs put a folder `raw` or `cifar-10-batches-py` into them.
pub(super) fn places(base: &Path, name: &str) -> Vec<PathBuf> {
    let mut places = Vec::new();
    let mut add = |folder: &Path| places.extend([folder.to_owned(), folder.join("raw")]);
    for own in named_after(base, name) {
        add(&own);
        named_after(&own, name).iter().for_each(|inner| add(inner));
    }
    add(base);
    places
}

/// The folders in `base` whose names say that they hold dataset `name`, the exact name first.
fn named_after(base: &Path, name: &str) -> Vec<PathBuf> {
    let is_exact = |path: &PathBuf| path.file_name().is_some_and(|found| found == name);
    let mut folders: Vec<PathBuf> =
        children(base).into_iter().filter(|path| is_named_after(path, name) && path.is_dir()).collect();
    folders.sort_by_key(|path| !is_exact(path));
    folders
}

/// Whether the last name of `path` is that of the dataset, however it is spelled, or that of a folder in its archives.
pub(super) fn is_named_after(path: &Path, name: &str) -> bool {
    const ENDINGS: [&str; 7] = ["", "data", "dataset", "binary", "python", "batchesbin", "batchespy"];
    let found = path.file_name().map(|found| letters(&found.to_string_lossy())).unwrap_or_default();
    found.strip_prefix(&letters(name)).is_some_and(|rest| ENDINGS.contains(&rest))
}

/// Letters and digits alone, in lower case.
pub(super) fn letters(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// What is in a folder, sorted by name; nothing if it cannot be read.
pub(super) fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The first of the `names` that is a file in `folder`; or a file of such a name spelled with other capitals, dots or hyphens; or one in
/// a folder of such a name, as some archives unpack.
#[cfg(any(test, feature = "download"))]
pub(super) fn find(folder: &Path, names: &[&str]) -> Option<PathBuf> {
    find_among(&children(folder), folder, names)
}

/// [`find`] in a folder with the given children.
fn find_among(children_of: &[PathBuf], folder: &Path, names: &[&str]) -> Option<PathBuf> {
    let exact = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    exact.or_else(|| {
        let plain: Vec<String> = names.iter().filter(|name| !name.contains('/')).map(|name| letters(name)).collect();
        let alike =
            |path: &PathBuf| path.file_name().is_some_and(|name| plain.contains(&letters(&name.to_string_lossy())));
        let here = children_of.iter().filter(|path| alike(path)).cloned();
        let inside = here.clone().filter(|path| path.is_dir()).flat_map(|path| children(&path)).filter(alike);
        here.chain(inside).find(|path| path.is_file())
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn names_are_compared_without_capitals_dots_and_hyphens() {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("a-b")).unwrap();
        fs::write(folder.path().join("B.c"), "").unwrap();
        assert_eq!(find(folder.path(), &["a-b", "b-c"]), Some(folder.path().join("B.c")));
        assert_eq!(find(folder.path(), &["a-b"]), None, "a folder is not a file");
        // Some archives unpack each file into a folder of the same name.
        fs::write(folder.path().join("a-b/A.b"), "").unwrap();
        assert_eq!(find(folder.path(), &["a-b"]), Some(folder.path().join("a-b/A.b")));
        fs::write(folder.path().join("b-c"), "").unwrap();
        assert_eq!(find(folder.path(), &["b-c"]), Some(folder.path().join("b-c")), "the very name goes first");
    }
}
