//! The weight states of a trace, from its shards.

use super::error::{TraceError, malformed, read_bytes};
use crate::{
    network::{
        Network,
        tensor_names::{BlockNames, TensorNames, list},
        weights::{find_names, stack_named},
    },
    num::Real,
};
use safetensors::{Dtype, SafeTensors};
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// The type of number that weights were stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    F16,
    Bf16,
    F32,
    F64,
}

impl Stored {
    fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            Dtype::F32 => Some(Self::F32),
            Dtype::F64 => Some(Self::F64),
            _ => None,
        }
    }

    /// The relative error of rounding to this type.
    pub fn rounding(self) -> f64 {
        match self {
            Self::F16 => 2f64.powi(-11),
            Self::Bf16 => 2f64.powi(-8),
            Self::F32 => 2f64.powi(-24),
            Self::F64 => 2f64.powi(-53),
        }
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::F32 => "F32",
            Self::F64 => "F64",
        })
    }
}

/// What the shards hold.
pub struct States<T> {
    /// All are finite.
    pub states: Vec<Vec<T>>,
    /// Whether a state that is not finite follows.
    pub diverged: bool,
    pub names: TensorNames,
    /// The widest type of the shards' tensors, and whether there are others.
    pub stored: Stored,
    pub mixed: bool,
}

/// Shards of a folder in order; those behind a gap do not count.
struct Shards {
    paths: Vec<PathBuf>,
    /// The one that is missing, where others follow it.
    missing: Option<PathBuf>,
}

fn shard_path(folder: &Path, shard: usize) -> PathBuf {
    folder.join(format!("weights-{shard:05}.safetensors"))
}

fn shards(folder: &Path) -> Result<Shards, TraceError> {
    let entries = std::fs::read_dir(folder).map_err(|source| TraceError::Read { path: folder.to_owned(), source })?;
    let number = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.strip_prefix("weights-")?.strip_suffix(".safetensors")?.parse::<usize>().ok()
    };
    let count = entries.filter_map(number).map(|n| n + 1).max().unwrap_or(0);
    let paths: Vec<PathBuf> =
        (0..count).map(|shard| shard_path(folder, shard)).take_while(|path| path.exists()).collect();
    let missing = (paths.len() < count).then(|| shard_path(folder, paths.len()));
    if paths.is_empty() {
        let reason = match missing {
            Some(path) => format!(
                "has no {}; shards count from 0 in five digits, weights-00000.safetensors",
                path.file_name().unwrap_or_default().to_string_lossy()
            ),
            None => {
                format!("has no weights-00000.safetensors; save the states there (docs/formats.md){}", others(folder))
            }
        };
        return Err(malformed(folder, reason));
    }
    Ok(Shards { paths, missing })
}

/// Files of a folder that may be the weights under other names.
fn others(folder: &Path) -> String {
    let names =
        std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let endings = [".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".npz"];
    let mut names: Vec<String> = names.filter(|name| endings.iter().any(|ending| name.ends_with(ending))).collect();
    names.sort();
    match names.len() {
        0 => String::new(),
        _ => format!("; there are {}", list(&names)),
    }
}

/// Whether a trace's weights are `f64`.
pub fn is_double(folder: &Path) -> Result<bool, TraceError> {
    let path = &shards(folder)?.paths[0];
    let bytes = read_bytes(path)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(path, &e.to_string(), 0))?;
    Ok(tensors.tensors().iter().any(|(_, t)| t.dtype() == Dtype::F64))
}

fn damaged(path: &Path, reason: &str, whole: usize) -> TraceError {
    let reason = format!(
        "{} is not a whole safetensors file: {reason}; copy it again, or save it with safetensors.torch.save_file",
        path.display()
    );
    TraceError::Shards { reason, whole }
}

/// Reads the states that the first `rounds` of all rounds need: `rounds` of them, and the next one if there is one.
///
/// # Errors
/// If a shard is missing, damaged or of another network, or if there are fewer states, or more than all rounds need.
pub fn read_states<T: Real>(
    folder: &Path,
    network: &Network,
    rounds: usize,
    all: usize,
) -> Result<States<T>, TraceError> {
    let Shards { paths, missing } = shards(folder)?;
    let mut read: Option<States<T>> = None;
    for path in &paths {
        let whole = read.as_ref().map_or(0, |read| read.states.len());
        if whole > rounds || read.as_ref().is_some_and(|read| read.diverged) {
            break;
        }
        let bytes = read_bytes(path)?;
        let tensors = match SafeTensors::deserialize(&bytes) {
            Ok(tensors) => tensors,
            // The weights after the last round can be done without.
            Err(_) if whole == rounds => break,
            Err(e) => return Err(damaged(path, &e.to_string(), whole)),
        };
        match &mut read {
            Some(read) => read.take(network, path, &paths[0], &tensors)?,
            None => read = Some(States::first(network, path, &tensors)?),
        }
    }
    let mut read = read.expect("a trace has a shard, or was refused");
    let found = read.states.len();
    // A trace may end with the weights of its last round, but not later.
    if found > all + 1 || (found < rounds && !read.diverged) {
        return Err(wrong_count(folder, found, all, missing));
    }
    read.states.truncate(rounds + 1);
    Ok(read)
}

fn wrong_count(folder: &Path, found: usize, rounds: usize, missing: Option<PathBuf>) -> TraceError {
    let needed =
        format!("{rounds} rounds need {rounds} (before each update) or {} (with the final weights)", rounds + 1);
    match missing {
        Some(path) => TraceError::Shards {
            reason: format!("{} is missing; the shards before it hold {found} states, but {needed}", path.display()),
            whole: found,
        },
        None if found < rounds => TraceError::Shards {
            reason: format!("{}: the shards hold {found} weight states, but {needed}", folder.display()),
            whole: found,
        },
        None => malformed(
            folder,
            format!(
                "the shards hold {found} weight states, but {needed}; \"rounds\" of the manifest is wrong, or shards of another run are left"
            ),
        ),
    }
}

impl<T: Real> States<T> {
    fn first(network: &Network, path: &Path, tensors: &SafeTensors) -> Result<Self, TraceError> {
        let names = find_names(network, path, tensors)?;
        let (stored, mixed) = types(path, tensors, &names)?;
        let mut read = Self { states: Vec::new(), diverged: false, names, stored, mixed };
        read.append(network, path, tensors)?;
        Ok(read)
    }

    fn take(&mut self, network: &Network, path: &Path, first: &Path, tensors: &SafeTensors) -> Result<(), TraceError> {
        let (stored, mixed) = types(path, tensors, &self.names)?;
        if (stored == Stored::F64) != (self.stored == Stored::F64) {
            let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let reason = format!(
                "is {stored}, but {} is {}; save all shards in the type that was trained in",
                name(first),
                self.stored
            );
            return Err(malformed(path, reason));
        }
        self.mixed |= mixed || stored != self.stored;
        self.append(network, path, tensors)
    }

    /// Decodes the states of a shard, up to the first that is not finite.
    fn append(&mut self, network: &Network, path: &Path, tensors: &SafeTensors) -> Result<(), TraceError> {
        let count = self.count(network, path, tensors)?;
        let states = stack_named::<T>(network, path, tensors, &self.names, count)?;
        let whole = self.states.len() + states.len();
        self.states.extend(states.into_iter().take_while(|state| state.iter().all(|w| w.is_finite())));
        self.diverged = self.states.len() < whole;
        Ok(())
    }

    /// The length of the leading axis; `None` for a shard of one state without one.
    fn count(&self, network: &Network, path: &Path, tensors: &SafeTensors) -> Result<Option<usize>, TraceError> {
        let name = &self.names.blocks[0].weight;
        let axes = network.blocks()[0].file_shape().len();
        let shape = tensors.tensor(name).map(|t| t.shape().to_vec()).unwrap_or_default();
        if shape.len() == axes {
            return Ok(None);
        }
        match shape.first() {
            Some(0) => Err(malformed(path, "holds no state; leave the file out, or save the states again")),
            first => Ok(first.copied()),
        }
    }
}

/// The widest type of the network's tensors, and whether there are others.
fn types(path: &Path, tensors: &SafeTensors, names: &TensorNames) -> Result<(Stored, bool), TraceError> {
    let mut found: Vec<(Stored, &str)> = Vec::new();
    for name in names.blocks.iter().flat_map(BlockNames::all) {
        // Values that weights cannot have are refused where they are decoded.
        let stored = tensors.tensor(name).ok().and_then(|tensor| Stored::of(tensor.dtype()));
        found.extend(stored.map(|stored| (stored, name.as_str())));
    }
    let of = |wanted: Stored| found.iter().find(|(stored, _)| *stored == wanted);
    let single = found.iter().find(|(stored, _)| *stored != Stored::F64);
    if let (Some((_, double)), Some((other, name))) = (of(Stored::F64), single) {
        let reason =
            format!("\"{name}\" is {other}, but \"{double}\" is F64; save all tensors in the type that was trained in");
        return Err(malformed(path, reason));
    }
    let widest = [Stored::F64, Stored::F32, Stored::F16, Stored::Bf16].into_iter().find(|stored| of(*stored).is_some());
    let widest = widest.unwrap_or(Stored::F32);
    Ok((widest, found.iter().any(|(stored, _)| *stored != widest)))
}
