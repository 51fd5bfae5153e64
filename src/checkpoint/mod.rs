//! The state of a computation on disk, to go on from after its process ended.
//!
//! A checkpoint is a safetensors file: vectors under names such as `analysis.window.rows`, and in the metadata the version of
//! the format and whose state it is. What has a state implements [`Persist`], which lists it once for both directions, so that
//! writing and reading cannot disagree; what has a row in a list is a [`Record`], with a vector for each of its fields. Numbers go through
//! unchanged, bit for bit.

mod field;
mod store;
#[cfg(test)]
mod tests;

pub use field::{Choice, Field, Record};
pub use store::{Persist, Store, StoreError};

use crate::files;
use safetensors::SafeTensors;
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
};
use store::{Direction, Entry};

/// The version of the format that is written, and the one that is read.
/// Format 1, of version 0.1.0, kept its records in another way; it is refused.
pub const FORMAT: u32 = 2;

/// A checkpoint that cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("cannot write {path}: {source}; free some space, then continue with --resume")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} has format {found}, but this version reads format {FORMAT}; get a newer taylorscope")]
    Newer { path: PathBuf, found: String },
    #[error(
        "{path} has format {found} of an earlier version, which this one does not read; remove it to begin its optimizer anew"
    )]
    Older { path: PathBuf, found: String },
    #[error("{path} is of another {what}; remove it to begin its optimizer anew")]
    Other { path: PathBuf, what: String },
    #[error("{path} is not a usable checkpoint: {reason}; remove it to begin its optimizer anew")]
    Malformed { path: PathBuf, reason: String },
}

/// Whose state a checkpoint has: names and values, all of which must be the same when it is read.
pub type Identity = BTreeMap<String, String>;

/// Writes a state, in place of the one that `path` may hold.
pub fn save(path: &Path, identity: &Identity, state: &mut dyn Persist) -> Result<(), CheckpointError> {
    let fail = |source| CheckpointError::Write { path: path.to_owned(), source };
    let unwrap = |error| match error {
        StoreError::Io(source) => source,
        StoreError::Malformed(reason) => io::Error::other(reason),
    };
    let mut measure = Store::new(Direction::Measure(Vec::new()));
    state.persist(&mut measure).map_err(|error| fail(unwrap(error)))?;
    let header = header(identity, &measure.into_entries());
    let written = files::replace(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        let mut store = Store::new(Direction::Write { out: file, buffer: Vec::new() });
        state.persist(&mut store).map_err(unwrap)
    });
    written.map_err(fail)
}

/// The header of a safetensors file: metadata, and type, shape and place of every vector.
fn header(identity: &Identity, entries: &[Entry]) -> String {
    let mut metadata = identity.clone();
    metadata.insert("format".into(), FORMAT.to_string());
    let mut fields = serde_json::Map::new();
    fields.insert("__metadata__".into(), serde_json::json!(metadata));
    let mut start = 0;
    for entry in entries {
        let field = serde_json::json!({
            "dtype": entry.dtype, "shape": [entry.length], "data_offsets": [start, start + entry.bytes]
        });
        fields.insert(entry.name.clone(), field);
        start += entry.bytes;
    }
    let mut text = serde_json::Value::Object(fields).to_string();
    // The values behind it begin at a multiple of eight bytes.
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    text
}

/// A checkpoint that was found.
pub struct Saved {
    path: PathBuf,
    bytes: Vec<u8>,
    identity: Identity,
}

impl Saved {
    /// Opens the checkpoint `path`; `None` if there is no such file.
    pub fn open(path: &Path) -> Result<Option<Self>, CheckpointError> {
        let Some(bytes) = read(path)? else { return Ok(None) };
        let identity = parse_identity(path, &bytes)?;
        Ok(Some(Self { path: path.to_owned(), bytes, identity }))
    }

    /// Whose state it has.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Takes the state over, if it is that of `identity`.
    pub fn restore(&self, identity: &Identity, state: &mut dyn Persist) -> Result<(), CheckpointError> {
        for (what, wanted) in identity {
            if self.identity.get(what) != Some(wanted) {
                return Err(CheckpointError::Other { path: self.path.clone(), what: what.clone() });
            }
        }
        let tensors = SafeTensors::deserialize(&self.bytes).map_err(|e| self.malformed(e))?;
        let mut store = Store::new(Direction::Read(&tensors));
        state.persist(&mut store).map_err(|e| self.malformed(e))
    }

    /// The error of a state that cannot be taken over for this reason.
    pub fn malformed(&self, reason: impl ToString) -> CheckpointError {
        CheckpointError::Malformed { path: self.path.clone(), reason: reason.to_string() }
    }
}

/// Reads a state. Whether there was one: a file that does not exist is not an error.
pub fn load(path: &Path, identity: &Identity, state: &mut dyn Persist) -> Result<bool, CheckpointError> {
    let saved = Saved::open(path)?;
    saved.as_ref().map_or(Ok(()), |saved| saved.restore(identity, state))?;
    Ok(saved.is_some())
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, CheckpointError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CheckpointError::Read { path: path.to_owned(), source }),
    }
}

fn parse_identity(path: &Path, bytes: &[u8]) -> Result<Identity, CheckpointError> {
    let malformed = |reason: String| CheckpointError::Malformed { path: path.to_owned(), reason };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| malformed(e.to_string()))?;
    let mut identity: Identity = metadata.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    match identity.remove("format") {
        None => Err(malformed("it has no format".into())),
        Some(found) => match found.parse::<u32>() {
            Ok(0) | Err(_) => Err(malformed(format!("its format is \"{found}\""))),
            Ok(FORMAT) => Ok(identity),
            Ok(..FORMAT) => Err(CheckpointError::Older { path: path.to_owned(), found }),
            Ok(_) => Err(CheckpointError::Newer { path: path.to_owned(), found }),
        },
    }
}
