//! Which shards a trace has, and what each says of its rounds.

use crate::trace::{
    error::{TraceError, malformed},
    tensor_file::{Fault, TensorFile},
};
use safetensors::Dtype;
use std::path::{Path, PathBuf};

/// What stands before the names of parameters, and of buffers.
pub(super) const STATE: &str = "state.";
const BUFFER: &str = "buffer.";

/// Shards in order, up to the first that is missing or damaged.
#[derive(Debug)]
pub(super) struct Shards {
    pub files: Vec<TensorFile>,
    /// Why those behind are not read, if there are others: a sentence.
    pub ended: Option<String>,
    early: bool,
}

fn path(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("shard-{number:05}.safetensors"))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Shards {
    /// Opens the shards of a folder. Files that are being written (`.part`) do not count.
    pub fn find(folder: &Path) -> Result<Self, TraceError> {
        let read = |source| TraceError::Read { path: folder.to_owned(), source };
        let number = |entry: std::io::Result<std::fs::DirEntry>| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.strip_prefix("shard-")?.strip_suffix(".safetensors")?.parse::<usize>().ok()
        };
        let last = std::fs::read_dir(folder).map_err(read)?.filter_map(number).max();
        let (mut files, mut ended) = (Vec::new(), None);
        for at in 0..=last.unwrap_or(0) {
            match TensorFile::open(&path(folder, at)) {
                Ok(file) => files.push(file),
                Err(fault) => {
                    ended = last.map(|last| (fault, last - at));
                    break;
                }
            }
        }
        let early = ended.is_some();
        let at = path(folder, files.len());
        let why = ended.map(|(fault, behind)| {
            let what = match &fault {
                Fault::Read(error) if error.kind() == std::io::ErrorKind::NotFound => "is missing".to_owned(),
                Fault::Read(error) => format!("cannot be read: {error}"),
                Fault::Damaged(reason) => format!("is not a whole safetensors file: {reason}"),
            };
            let rest = if behind > 0 { format!(", and {behind} behind it") } else { String::new() };
            format!("{} {what}; the trace is read up to it, without that shard{rest}", name(&at))
        });
        if files.is_empty() {
            let reason = why.unwrap_or_else(|| {
                "has no shard-00000.safetensors: training ended before the first shard was written".to_owned()
            });
            return Err(malformed(folder, reason));
        }
        Ok(Self { files, ended: why, early })
    }

    /// Whether there are shards that are not read.
    pub fn ended_early(&self) -> bool {
        self.early
    }
}

/// What a shard says of its rounds.
#[derive(Debug)]
pub(super) struct Rounds {
    pub numbers: Vec<usize>,
    pub losses: Vec<f64>,
    pub sizes: Vec<usize>,
    pub rows: Vec<u32>,
    /// Numbers and losses of all rounds since the shard before.
    pub all: Vec<(usize, f64)>,
}

/// Reads the rounds of a shard, which follow those up to `before`.
pub(super) fn rounds(file: &TensorFile, before: usize) -> Result<Rounds, TraceError> {
    Rounds::read(file, before).map_err(|reason| malformed(&file.path, reason))
}

impl Rounds {
    fn read(file: &TensorFile, before: usize) -> Result<Self, String> {
        check_names(file)?;
        let integers = |name: &str| file.eights(name, Dtype::I64, i64::from_le_bytes);
        let floats = |name: &str| file.eights(name, Dtype::F64, f64::from_le_bytes);
        let numbers = increasing("rounds", &integers("rounds")?, before)?;
        let losses = floats("losses")?;
        let sizes = integers("sizes")?;
        let count = numbers.len();
        if losses.len() != count || sizes.len() != count {
            let lengths = format!("{count} rounds, {} losses, {} sizes", losses.len(), sizes.len());
            return Err(format!("has {lengths}; there is one loss and one size for each of \"rounds\""));
        }
        if let Some(size) = sizes.iter().find(|size| **size < 1) {
            return Err(format!("\"sizes\" has {size}; a minibatch has at least one datapoint"));
        }
        let sizes: Vec<usize> = sizes.iter().map(|size| *size as usize).collect();
        let needed = sizes.iter().try_fold(0usize, |sum, size| sum.checked_add(*size));
        let rows = integers("rows")?;
        if needed != Some(rows.len()) {
            return Err(format!("has {} rows, but \"sizes\" asks for {}", rows.len(), needed.unwrap_or(usize::MAX)));
        }
        let rows = rows
            .iter()
            .map(|row| u32::try_from(*row).map_err(|_| format!("\"rows\" has {row}; rows count from 0, below 2^32")))
            .collect::<Result<Vec<u32>, String>>()?;
        let all = all_losses(file, before, &numbers, &losses)?;
        Ok(Self { numbers, losses, sizes, rows, all })
    }
}

/// The losses of all rounds; those of the kept ones if a shard has no others.
fn all_losses(file: &TensorFile, before: usize, kept: &[usize], losses: &[f64]) -> Result<Vec<(usize, f64)>, String> {
    if file.info("all_rounds").is_none() && file.info("all_losses").is_none() {
        return Ok(kept.iter().copied().zip(losses.iter().copied()).collect());
    }
    let numbers = increasing("all_rounds", &file.eights("all_rounds", Dtype::I64, i64::from_le_bytes)?, before)?;
    let losses = file.eights("all_losses", Dtype::F64, f64::from_le_bytes)?;
    if losses.len() != numbers.len() {
        return Err(format!("has {} all_rounds, but {} all_losses", numbers.len(), losses.len()));
    }
    match kept.iter().find(|number| numbers.binary_search(number).is_err()) {
        Some(number) => Err(format!("round {number} is not among \"all_rounds\"")),
        None => Ok(numbers.into_iter().zip(losses).collect()),
    }
}

/// Numbers of rounds, which increase and follow those before.
fn increasing(name: &str, numbers: &[i64], before: usize) -> Result<Vec<usize>, String> {
    let mut last = before;
    numbers
        .iter()
        .map(|number| match usize::try_from(*number) {
            // So that all numbers have a next one, and are exact as floating-point numbers.
            Ok(next) if next > last && next < 1 << 53 => {
                last = next;
                Ok(next)
            }
            _ => {
                Err(format!("\"{name}\" has {number} behind {last}; rounds count from 1 and increase over all shards"))
            }
        })
        .collect()
}

/// Refuses tensors that mean nothing.
fn check_names(file: &TensorFile) -> Result<(), String> {
    const KNOWN: [&str; 8] = ["rounds", "losses", "sizes", "rows", "all_rounds", "all_losses", "inputs", "targets"];
    let means = |name: &&String| {
        KNOWN.contains(&name.as_str())
            || [STATE, BUFFER, "inputs."].iter().any(|prefix| name.len() > prefix.len() && name.starts_with(prefix))
    };
    match file.names().iter().find(|name| !means(name)) {
        Some(name) => Err(format!("has a tensor \"{name}\", which means nothing (docs/formats.md)")),
        None => Ok(()),
    }
}
