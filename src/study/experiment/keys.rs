//! Which keys a file may have, and which it must have.

use super::error::ExperimentError;
use crate::text::suggestion;
use toml::{Table, Value};

/// The keys of each section.
pub(crate) const SECTIONS: &[(&str, &[&str])] = &[
    (
        "",
        &["format", "name", "seed", "rates_from", "data", "network", "training", "optimizer", "regret", "exploration"],
    ),
    ("data", &["dataset", "path", "standardize", "validation"]),
    ("network", &["layers", "weights"]),
    ("training", &["loss", "target", "batch_size", "epochs", "precision", "stop_at_train_accuracy"]),
    (
        "regret",
        &[
            "scales",
            "neurons",
            "prefixes",
            "comparators",
            "window",
            "rounds",
            "ball_factor",
            "neuron_tolerance",
            "tolerance",
            "max_products",
        ],
    ),
    ("exploration", &["probe", "every", "pool_winners"]),
];

/// Fails at a key that no section has.
pub(super) fn check_keys(table: &Table, origin: &str) -> Result<(), ExperimentError> {
    for (section, known) in SECTIONS {
        let part = if section.is_empty() { Some(table) } else { table.get(*section).and_then(Value::as_table) };
        for key in part.into_iter().flat_map(Table::keys) {
            if !known.contains(&key.as_str()) {
                return Err(ExperimentError::UnknownKey {
                    origin: origin.into(),
                    key: key.clone(),
                    section: if section.is_empty() { "the file".into() } else { format!("[{section}]") },
                    suggestion: elsewhere(key).unwrap_or_else(|| suggestion(key, known)),
                });
            }
        }
    }
    Ok(())
}

/// The suggestion for a key that is one of another section.
fn elsewhere(key: &str) -> Option<String> {
    let (section, _) = SECTIONS.iter().find(|(section, keys)| !section.is_empty() && keys.contains(&key))?;
    Some(format!("; did you mean \"{section}.{key}\"?"))
}

/// What every file has, by section.
const REQUIRED: &[(&str, &[&str])] = &[
    ("", &["name"]),
    ("data", &["dataset"]),
    ("network", &["layers"]),
    ("training", &["loss", "target", "batch_size", "epochs"]),
    ("optimizer", &["name", "learning_rate"]),
];

/// Names all that a file lacks, not only the first.
pub(super) fn check_required(table: &Table, origin: &str) -> Result<(), ExperimentError> {
    let mut missing: Vec<String> = Vec::new();
    for (section, keys) in REQUIRED {
        let parts: Vec<Option<&Table>> = match table.get(*section) {
            _ if section.is_empty() => vec![Some(table)],
            // A list of tables, or something else whose type is wrong.
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_table).map(Some).collect(),
            Some(Value::Table(part)) => vec![Some(part)],
            Some(_) => vec![],
            None => vec![None],
        };
        for key in *keys {
            let name = if section.is_empty() { (*key).to_owned() } else { format!("{section}.{key}") };
            if parts.iter().any(|part| part.is_none_or(|part| !part.contains_key(*key))) {
                missing.push(name);
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let reason =
        format!("missing {}; `taylorscope show digits-autoencoder` prints a complete file", missing.join(", "));
    Err(ExperimentError::Syntax { origin: origin.into(), reason })
}
