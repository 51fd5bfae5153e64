//! Where the files of datasets are kept and looked for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs};

use super::layout::{Found, Version, best_below, names};
use super::remote::Remote;
use super::{DataError, hints};

/// The environment variable that names the cache folder.
pub(super) const CACHE_VARIABLE: &str = "TAYLORSCOPE_DATA";

/// The folder that downloaded datasets are kept in, each in a folder of its own name.
///
/// It is `$TAYLORSCOPE_DATA` if that is set; else `taylorscope` in `$XDG_CACHE_HOME`, or in
/// `$HOME/.cache`, or on Windows in `%LOCALAPPDATA%`. The folder need not exist yet.
///
/// # Errors
///
/// If none of these variables is set.
pub fn cache_dir() -> Result<PathBuf, DataError> {
    cache_dir_given(|name| env::var_os(name), cfg!(windows)).ok_or(DataError::NoCacheFolder)
}

/// [`cache_dir`] as a function of the environment.
fn cache_dir_given(variable: impl Fn(&str) -> Option<OsString>, windows: bool) -> Option<PathBuf> {
    let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = path(CACHE_VARIABLE) {
        return Some(folder);
    }
    let caches = if windows {
        path("LOCALAPPDATA")
    } else {
        // The XDG base directory specification has relative paths ignored.
        path("XDG_CACHE_HOME")
            .filter(|folder| folder.is_absolute())
            .or_else(|| path("HOME").map(|home| home.join(".cache")))
    };
    caches.map(|folder| folder.join("taylorscope"))
}

/// The folder that [`fetch`](super::fetch()) puts the files of dataset `name` in.
#[cfg(feature = "download")]
pub(super) fn download_folder(name: &str, dir: Option<&Path>) -> Result<PathBuf, DataError> {
    Ok(match dir {
        Some(dir) => dir.join(name),
        None => cache_dir()?.join(name),
    })
}

/// Finds the files of the dataset: those below `dir`, if it is named and has any, else those in the cache.
///
/// All files come from one folder: a mixture of two copies would be no published dataset.
pub(super) fn locate(remote: &Remote, dir: Option<&Path>) -> Result<Found, DataError> {
    // A mistyped folder must not fall back on the cache, silently.
    if let Some(dir) = dir.filter(|dir| !dir.is_dir()) {
        return Err(DataError::NoFolder { path: dir.to_owned() });
    }
    if let Some(found) = dir.and_then(|dir| best_below(remote, dir)) {
        return Ok(found);
    }
    let cache = match (cache_dir(), dir) {
        (Ok(cache), _) => Some(cache),
        (Err(error), None) => return Err(error),
        (Err(_), Some(_)) => None,
    };
    if let Some(found) = cache.as_deref().and_then(|cache| best_below(remote, cache)) {
        return Ok(found);
    }
    // Nothing can be said of a folder that cannot be listed.
    if let Some((dir, error)) = dir.and_then(|dir| Some((dir, fs::read_dir(dir).err()?))) {
        return Err(DataError::Io { path: dir.to_owned(), error });
    }
    let own = cache.map(|cache| cache.join(remote.name));
    let folders = dir.map(Path::to_owned).into_iter().chain(own).collect();
    let hint = dir.and_then(|dir| hints::elsewhere(remote, dir));
    let instead = dir.filter(|_| hint.is_none()).map(hints::some_names).unwrap_or_default();
    Err(DataError::NotFound { name: remote.name, folders, instead, hint })
}

/// As [`locate`], for datasets that need all their files: gives the version and the path of each file.
pub(super) fn locate_all(remote: &Remote, dir: Option<&Path>) -> Result<(Version, Vec<PathBuf>), DataError> {
    let found = locate(remote, dir)?;
    if found.is_whole() {
        return Ok((found.version, found.files.into_iter().flatten().collect()));
    }
    let files = names(remote, found.version).into_iter().zip(&found.files);
    let missing = files.filter(|(_, file)| file.is_none()).map(|(names, _)| names[0].to_owned()).collect();
    Err(DataError::Incomplete { name: remote.name.to_owned(), folder: found.folder, missing })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::super::cifar::CIFAR10;
    use super::super::mnist::{FASHION_MNIST, MNIST};
    use super::*;

    fn cache(variables: &[(&str, &str)], windows: bool) -> Option<PathBuf> {
        let find =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        cache_dir_given(find, windows)
    }

    #[test]
    fn the_cache_folder_follows_the_environment() {
        let home = ("HOME", "/home/ada");
        let cases = [
            (vec![home], "/home/ada/.cache/taylorscope"),
            (vec![home, ("XDG_CACHE_HOME", "/caches")], "/caches/taylorscope"),
            (vec![home, ("XDG_CACHE_HOME", "caches")], "/home/ada/.cache/taylorscope"),
            (vec![home, ("XDG_CACHE_HOME", "")], "/home/ada/.cache/taylorscope"),
            (vec![home, ("TAYLORSCOPE_DATA", "")], "/home/ada/.cache/taylorscope"),
            (vec![home, ("XDG_CACHE_HOME", "/caches"), ("TAYLORSCOPE_DATA", "here")], "here"),
        ];
        for (variables, expected) in cases {
            assert_eq!(cache(&variables, false), Some(PathBuf::from(expected)), "{variables:?}");
        }
        assert_eq!(cache(&[], false), None);
    }

    #[test]
    fn windows_keeps_caches_in_the_local_application_data() {
        let expected = PathBuf::from("ada").join("taylorscope");
        assert_eq!(cache(&[("LOCALAPPDATA", "ada"), ("HOME", "x")], true), Some(expected));
        assert_eq!(cache(&[("HOME", "x")], true), None);
    }

    #[test]
    fn a_folder_that_does_not_exist_is_an_error_not_a_detour() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("mistyped");
        let error = locate(&MNIST, Some(&path)).unwrap_err();
        assert!(matches!(error, DataError::NoFolder { .. }));
        assert!(error.to_string().contains("mistyped"), "{error}");
    }

    /// Makes an empty file, and the folders above it.
    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    const FILES: [&str; 4] =
        ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

    #[test]
    fn the_folder_named_after_the_dataset_goes_first() {
        let folder = TempDir::new().unwrap();
        let name = "train-labels-idx1-ubyte.gz";
        touch(&folder.path().join(name));
        let found = locate(&MNIST, Some(folder.path())).unwrap();
        assert_eq!(found.folder, folder.path());
        assert_eq!(found.files, [None, Some(folder.path().join(name)), None, None], "only the labels are there");
        for better in ["Mnist/raw", "MNIST", "mnist"] {
            touch(&folder.path().join(better).join(name));
            assert_eq!(locate(&MNIST, Some(folder.path())).unwrap().folder, folder.path().join(better));
        }
    }

    #[test]
    fn the_layouts_of_other_programs_are_known() {
        for (layout, remote) in [
            ("{}", &MNIST),
            ("MNIST/raw/{}", &MNIST),
            ("raw/{}", &MNIST),
            ("Mnist/{}", &MNIST),
            ("MNIST_data/{}", &MNIST),
            ("mnist/MNIST/raw/{}", &MNIST),
            ("{}/{}", &MNIST),
            ("FashionMNIST/raw/{}", &FASHION_MNIST),
            ("Fashion_MNIST/{}.gz", &FASHION_MNIST),
        ] {
            let folder = TempDir::new().unwrap();
            for file in FILES {
                touch(&folder.path().join(layout.replace("{}", file)));
            }
            assert_eq!(locate_all(remote, Some(folder.path())).unwrap().1.len(), 4, "{layout}");
        }
        for (layout, version) in [
            ("{}.bin", Version::Published),
            ("cifar-10-batches-bin/{}.bin", Version::Published),
            ("cifar-10-batches-py/{}", Version::Other),
            ("CIFAR10/cifar-10-batches-py/{}", Version::Other),
            ("cifar-10-python/cifar-10-batches-py/{}", Version::Other),
            ("{}", Version::Other),
        ] {
            let folder = TempDir::new().unwrap();
            for file in CIFAR10.other_version {
                touch(&folder.path().join(layout.replace("{}", file)));
            }
            assert_eq!(locate_all(&CIFAR10, Some(folder.path())).unwrap().0, version, "{layout}");
        }
    }

    #[test]
    fn a_whole_copy_is_better_than_a_part_of_one() {
        let folder = TempDir::new().unwrap();
        touch(&folder.path().join("mnist").join(FILES[0]));
        let error = locate_all(&MNIST, Some(folder.path())).unwrap_err();
        assert!(matches!(&error, DataError::Incomplete { missing, .. } if missing.len() == 3), "{error}");
        FILES.iter().for_each(|file| touch(&folder.path().join("MNIST/raw").join(file)));
        assert!(locate_all(&MNIST, Some(folder.path())).unwrap().1[0].ends_with("MNIST/raw/train-images-idx3-ubyte"));
    }

    #[test]
    fn one_dataset_is_not_looked_for_in_the_folder_of_another() {
        let folder = TempDir::new().unwrap();
        FILES.iter().for_each(|file| touch(&folder.path().join("FashionMNIST/raw").join(file)));
        let error = locate(&MNIST, Some(folder.path())).unwrap_err();
        assert!(matches!(error, DataError::NotFound { .. }), "{error}");
    }
}
