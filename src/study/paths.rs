//! Paths in experiments: what they are relative to, and what of them results tell.

use crate::data::IMAGES as PREFIX;
use std::path::Path;
use toml::{Table, Value};

/// Makes the paths that an experiment names absolute, each relative to `folder` unless it is.
pub(super) fn make_absolute(table: &mut Table, folder: &Path) {
    let absolute = |path: &str| {
        let path = folder.join(path);
        std::path::absolute(&path).unwrap_or(path).display().to_string()
    };
    for (section, key, prefix) in [("data", "path", ""), ("network", "weights", ""), ("data", "dataset", PREFIX)] {
        let value = table.get_mut(section).and_then(Value::as_table_mut).and_then(|section| section.get_mut(key));
        let Some(Value::String(text)) = value else { continue };
        if let Some(path) = text.strip_prefix(prefix).filter(|path| !path.is_empty()) {
            *text = format!("{prefix}{}", absolute(path));
        }
    }
}

/// A dataset without the place of the user's own images.
pub(super) fn without_folder(dataset: &str) -> &str {
    if dataset.starts_with(PREFIX) { PREFIX } else { dataset }
}

/// What a dataset is called in results: a folder of images by its own name, as where it lies is nobody else's concern.
pub fn dataset_name(dataset: &str) -> String {
    let folder = dataset.strip_prefix(PREFIX).and_then(|path| Path::new(path).file_name());
    folder.map_or_else(|| dataset.to_owned(), |name| format!("{PREFIX}{}", name.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_get_the_folder_and_others_stay() {
        let text = "[data]\ndataset = \"images:pics\"\npath = \"/abs/data\"\n[network]\nweights = \"w.safetensors\"\n";
        let mut table: Table = text.parse().unwrap();
        make_absolute(&mut table, Path::new("/home/exps"));
        let value = |section: &str, key: &str| table[section][key].as_str().unwrap().to_owned();
        if cfg!(unix) {
            assert_eq!(value("data", "dataset"), "images:/home/exps/pics");
            assert_eq!(value("data", "path"), "/abs/data");
            assert_eq!(value("network", "weights"), "/home/exps/w.safetensors");
        }
        // Names, empty texts and values of a wrong type are left to the checks.
        for text in ["data = 3\n[network]\nweights = \"\"\n", "[data]\ndataset = \"mnist\"\npath = 3\n"] {
            let mut table: Table = text.parse().unwrap();
            let before = table.clone();
            make_absolute(&mut table, Path::new("/home/exps"));
            assert_eq!(table, before);
        }
    }

    #[test]
    fn results_name_a_folder_of_images_only() {
        let names = ["images:/home/me/pics", "images:pics/", "mnist", "images:.."].map(dataset_name);
        assert_eq!(names, ["images:pics", "images:pics", "mnist", "images:.."]);
    }
}
