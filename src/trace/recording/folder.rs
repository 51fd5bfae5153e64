//! The folder of a recording: its files, and what may be in it when a recording begins.

use crate::{
    files::write_atomically,
    trace::{
        RECORDED_FORMAT,
        error::{TraceError, malformed, write_error},
        recorded::RecordedManifest,
    },
};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

const MANIFEST: &str = "manifest.json";

pub(super) fn shard(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("shard-{number:05}.safetensors"))
}

pub(super) fn final_state(folder: &Path) -> PathBuf {
    folder.join("final.safetensors")
}

/// Where a file is until it is whole.
pub(super) fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

/// A manifest of format 2 without the keys that the recording sets.
pub(super) fn manifest(folder: &Path, manifest: Value) -> Result<Map<String, Value>, TraceError> {
    let Value::Object(mut manifest) = manifest else {
        return Err(malformed(&folder.join(MANIFEST), "holds no object"));
    };
    manifest.insert("format".to_owned(), RECORDED_FORMAT.into());
    for key in ["rounds", "complete"] {
        manifest.remove(key);
    }
    RecordedManifest::parse(manifest.clone()).map_err(|reason| malformed(&folder.join(MANIFEST), reason))?;
    Ok(manifest)
}

pub(super) fn write_manifest(folder: &Path, manifest: &Map<String, Value>) -> Result<(), TraceError> {
    let path = folder.join(MANIFEST);
    let mut text = serde_json::to_vec_pretty(manifest).expect("plain data is always expressible as JSON");
    text.push(b'\n');
    write_atomically(&path, &text).map_err(|source| write_error(&path, source))
}

/// Whether a file of this name is one of a trace, of either format, or what is left of one.
fn is_of_a_trace(name: &str) -> bool {
    let name = [".part", ".partial"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    let numbered = |prefix: &str| {
        let number = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(".safetensors"));
        number.is_some_and(|number| number.len() >= 5 && number.bytes().all(|b| b.is_ascii_digit()))
    };
    let others = [MANIFEST, "final.safetensors", "batches.npy", "losses.npy", "inputs.npy", "targets.npy"];
    numbered("shard-") || numbered("weights-") || others.contains(&name)
}

/// Makes the folder, and removes the trace that is in it if it may be replaced.
pub(super) fn begin(folder: &Path, overwrite: bool) -> Result<(), TraceError> {
    std::fs::create_dir_all(folder).map_err(|source| write_error(folder, source))?;
    let read = |source| TraceError::Read { path: folder.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(read)?.collect::<Result<Vec<_>, _>>().map_err(read)?;
    let names: Vec<String> = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let occupied = |reason: String| Err(TraceError::Occupied { path: folder.to_owned(), reason });
    if !overwrite && !names.is_empty() {
        return occupied(match names.iter().any(|name| name == MANIFEST) {
            true => "it holds a trace; choose another folder, or replace the trace with overwrite".to_owned(),
            false => format!("it holds \"{}\"; choose a new or an empty folder", names[0]),
        });
    }
    if let Some(other) = names.iter().find(|name| !is_of_a_trace(name)) {
        return occupied(format!("it holds \"{other}\", which is no file of a trace; choose a new or an empty folder"));
    }
    // Without its manifest, what is left of a trace is none: it goes first, so that no moment shows a mixture of two.
    let (manifest, rest): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| *name == MANIFEST);
    for name in manifest.into_iter().chain(rest) {
        let path = folder.join(name);
        std::fs::remove_file(&path).map_err(|source| write_error(&path, source))?;
    }
    Ok(())
}
