//! The experiments that come with the program, and where others are read from.

use super::error::ExperimentError;
use crate::text::suggestion;
use std::path::Path;

/// The experiments that come with the program: name and text.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("digits-autoencoder", include_str!("../../../experiments/digits-autoencoder.toml")),
    ("digits-classifier", include_str!("../../../experiments/digits-classifier.toml")),
    ("digits-convnet", include_str!("../../../experiments/digits-convnet.toml")),
    ("mnist-autoencoder", include_str!("../../../experiments/mnist-autoencoder.toml")),
    ("mnist-convnet", include_str!("../../../experiments/mnist-convnet.toml")),
    ("cifar10-convnet", include_str!("../../../experiments/cifar10-convnet.toml")),
];

/// The text of a built-in experiment or of a file, and what to call it in messages.
pub fn source(name_or_path: &str) -> Result<(String, String), ExperimentError> {
    if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == name_or_path) {
        return Ok(((*text).to_owned(), (*name).to_owned()));
    }
    let path = Path::new(name_or_path);
    if !path.exists() && path.extension().is_none() {
        let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        let suggestion = suggestion(name_or_path, &names);
        return Err(ExperimentError::Unknown { name: name_or_path.into(), suggestion });
    }
    if path.is_dir() {
        let reason = format!("it is a folder; name a file, such as {}", path.join("experiment.toml").display());
        return Err(ExperimentError::Read { path: path.to_owned(), source: std::io::Error::other(reason) });
    }
    let text =
        std::fs::read_to_string(path).map_err(|source| ExperimentError::Read { path: path.to_owned(), source })?;
    Ok((text, name_or_path.to_owned()))
}
