//! Where the files of datasets are kept and looked for.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::DataError;
use super::fetch::Remote;

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
pub(super) fn download_folder(name: &str, dir: Option<&Path>) -> Result<PathBuf, DataError> {
    Ok(match dir {
        Some(dir) => dir.join(name),
        None => cache_dir()?.join(name),
    })
}

/// The folders to look for the files of dataset `name` in, best first.
fn search_folders(name: &str, dir: Option<&Path>) -> Result<Vec<PathBuf>, DataError> {
    let mut folders = Vec::new();
    if let Some(dir) = dir {
        // A mistyped folder must not fall back on the cache, silently.
        if !dir.is_dir() {
            return Err(DataError::NoFolder { path: dir.to_owned() });
        }
        // Files of the same names make up MNIST and Fashion-MNIST, so the folder that bears the
        // name of the dataset goes first.
        folders.push(dir.join(name));
        folders.push(dir.to_owned());
    }
    match cache_dir() {
        Ok(cache) => folders.push(cache.join(name)),
        Err(error) if folders.is_empty() => return Err(error),
        Err(_) => {}
    }
    Ok(folders)
}

/// Finds the folder that has the dataset: the first with any of its files. Gives the folder and,
/// for each file of `remote` in order, its path there if it exists.
///
/// All files come from one folder: a mixture of two copies would be no published dataset.
pub(super) fn locate(remote: &Remote, dir: Option<&Path>) -> Result<(PathBuf, Vec<Option<PathBuf>>), DataError> {
    let folders = search_folders(remote.name, dir)?;
    for folder in &folders {
        let files: Vec<_> = remote.files.iter().map(|file| find(folder, file.names)).collect();
        if files.iter().any(Option::is_some) {
            return Ok((folder.clone(), files));
        }
    }
    Err(DataError::NotFound { name: remote.name.to_owned(), folders })
}

/// As [`locate`], for datasets that need all their files: gives the path of each.
pub(super) fn locate_all(remote: &Remote, dir: Option<&Path>) -> Result<(PathBuf, Vec<PathBuf>), DataError> {
    let (folder, files) = locate(remote, dir)?;
    let missing: Vec<String> = files
        .iter()
        .zip(remote.files)
        .filter(|(found, _)| found.is_none())
        .map(|(_, file)| file.names[0].to_owned())
        .collect();
    match missing.is_empty() {
        true => Ok((folder, files.into_iter().flatten().collect())),
        false => Err(DataError::Incomplete { name: remote.name.to_owned(), folder, missing }),
    }
}

/// The first of the `names` that is a file in `folder`.
pub(super) fn find(folder: &Path, names: &[&str]) -> Option<PathBuf> {
    names.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::super::mnist::MNIST;
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

    #[test]
    fn the_folder_named_after_the_dataset_goes_first() {
        let folder = TempDir::new().unwrap();
        let own = folder.path().join("mnist");
        let name = "train-labels-idx1-ubyte.gz";
        fs::write(folder.path().join(name), "").unwrap();
        let (found, files) = locate(&MNIST, Some(folder.path())).unwrap();
        assert_eq!(found, folder.path());
        assert_eq!(files, [None, Some(folder.path().join(name)), None, None], "only the labels are there");
        fs::create_dir(&own).unwrap();
        fs::write(own.join(name), "").unwrap();
        assert_eq!(locate(&MNIST, Some(folder.path())).unwrap().0, own);
    }

    #[test]
    fn folders_with_the_name_of_a_file_are_passed_over() {
        // Some archives unpack each file into a folder of the same name.
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("b"), "").unwrap();
        assert_eq!(find(folder.path(), &["a", "b"]), Some(folder.path().join("b")));
        assert_eq!(find(folder.path(), &["a"]), None);
    }
}
