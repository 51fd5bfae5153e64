//! Where a dataset may be that was not found, and what is there instead.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::NAMES;
use super::layout::{best_below, children, is_named_after, letters, places};
use super::remote::Remote;

/// Folders looked into at most, and how deep: a home folder may be named by mistake.
const MOST_FOLDERS: usize = 500;
const MOST_DEPTH: usize = 4;
/// Names listed at most.
const MOST_NAMES: usize = 4;

const PACKED: [&str; 8] = ["zip", "gz", "tgz", "tar", "xz", "bz2", "7z", "rar"];

/// What to do about files of a dataset that are not where they are looked for below `dir`, if anything there looks like them.
pub(super) fn elsewhere(remote: &Remote, dir: &Path) -> Option<String> {
    let fetch = format!("`taylorscope data fetch {}`", remote.name);
    if let Some(path) = archive(remote, dir) {
        return Some(format!("{} is there, but not unpacked: unpack it, or run {fetch}", path.display()));
    }
    deeper(remote, dir).map(|path| format!("they are in {}: name that folder instead", path.display()))
}

/// The first names in a folder.
pub(super) fn some_names(folder: &Path) -> Vec<String> {
    let names = children(folder).into_iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).take(MOST_NAMES + 1).collect();
    if let Some(last) = names.get_mut(MOST_NAMES) {
        *last = "...".to_owned();
    }
    names
}

/// An archive with the dataset's name, in one of the places where its files would be.
fn archive(remote: &Remote, dir: &Path) -> Option<PathBuf> {
    let is_archive = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let packed =
            path.extension().is_some_and(|ending| PACKED.iter().any(|known| ending.eq_ignore_ascii_case(known)));
        // The names of the dataset, and what a well-known site calls everything that it packs.
        packed && (letters(&name).starts_with(&letters(remote.name)) || name == "archive.zip") && path.is_file()
    };
    places(dir, remote.name).iter().flat_map(|place| children(place)).find(is_archive)
}

/// The folder nearest below `dir` that would do in its place, but none that bears the name of another dataset.
fn deeper(remote: &Remote, dir: &Path) -> Option<PathBuf> {
    let is_other = |path: &Path| {
        let is_for = |name: &str| is_named_after(path, name);
        !is_for(remote.name) && NAMES.iter().any(|name| is_for(name))
    };
    let mut waiting = VecDeque::from([(dir.to_owned(), 0)]);
    for _ in 0..MOST_FOLDERS {
        let (folder, depth) = waiting.pop_front()?;
        if depth > 0 && best_below(remote, &folder).is_some() {
            return Some(folder);
        }
        if depth < MOST_DEPTH {
            let inner = children(&folder).into_iter().filter(|path| path.is_dir() && !is_other(path));
            waiting.extend(inner.map(|path| (path, depth + 1)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::super::cifar::CIFAR10;
    use super::super::mnist::{FASHION_MNIST, MNIST};
    use super::*;

    fn touch(folder: &TempDir, path: &str) {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    fn hint(remote: &Remote, folder: &TempDir) -> String {
        elsewhere(remote, folder.path()).unwrap_or_default()
    }

    #[test]
    fn archives_that_were_not_unpacked_are_named() {
        for (file, remote) in [
            ("cifar-10-python.tar.gz", &CIFAR10),
            ("cifar10/cifar-10-binary.tar.gz", &CIFAR10),
            ("archive.zip", &MNIST),
            ("MNIST/mnist.ZIP", &MNIST),
        ] {
            let folder = TempDir::new().unwrap();
            touch(&folder, file);
            let hint = hint(remote, &folder);
            assert!(hint.contains(file) && hint.contains("unpack it"), "{hint}");
        }
        let folder = TempDir::new().unwrap();
        touch(&folder, "fashion-mnist.zip");
        assert!(!hint(&MNIST, &folder).contains("unpack"));
    }

    #[test]
    fn files_farther_below_are_pointed_at() {
        let folder = TempDir::new().unwrap();
        touch(&folder, "data/FashionMNIST/raw/train-images-idx3-ubyte");
        assert_eq!(hint(&MNIST, &folder), "");
        touch(&folder, "data/torch/MNIST/raw/train-images-idx3-ubyte");
        let path = folder.path().join("data/torch");
        assert!(
            hint(&MNIST, &folder).contains(&format!("they are in {}:", path.display())),
            "{}",
            hint(&MNIST, &folder)
        );
        assert!(hint(&FASHION_MNIST, &folder).contains(&format!("in {}:", folder.path().join("data").display())));
    }

    #[test]
    fn what_is_there_instead_is_listed() {
        let folder = TempDir::new().unwrap();
        assert!(some_names(folder.path()).is_empty());
        for name in ["emnist-digits-train-images-idx3-ubyte", ".DS_Store", "b", "c", "d"] {
            touch(&folder, name);
        }
        assert_eq!(some_names(folder.path()), ["b", "c", "d", "emnist-digits-train-images-idx3-ubyte"]);
        touch(&folder, "a");
        assert_eq!(some_names(folder.path()), ["a", "b", "c", "d", "..."]);
        let error = super::super::load("mnist", Some(folder.path())).unwrap_err().to_string();
        assert!(error.contains("(the first has a, b, c, d, ...); run `taylorscope data fetch mnist`"), "{error}");
    }
}
