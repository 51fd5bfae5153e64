//! The weight states of a trace: where they lie in its shards, and how some of them at a time are read.

use super::{
    error::{TraceError, malformed},
    tensor_file::{Fault, TensorFile},
};
use crate::{
    network::{
        Network, WeightsError,
        tensor_names::{self, BlockNames, Mismatch, TensorNames, list},
        weights::stack_tensors,
    },
    num::Real,
};
use safetensors::Dtype;
use std::{
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    ops::Range,
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

/// How the tensors of a file are called in the network's own way: `0.weight`.
#[derive(Clone, Debug, Default)]
pub(super) struct Renaming {
    /// What stands before the names of parameters.
    pub prefix: &'static str,
    /// Names of parameters that stand for layers, without the prefix.
    pub layers: BTreeMap<String, String>,
}

impl Renaming {
    /// The network's name of a tensor, if it is a parameter.
    fn to_network(&self, name: &str) -> Option<String> {
        let parameter = name.strip_prefix(self.prefix)?;
        Some(self.layers.get(parameter).cloned().unwrap_or_else(|| parameter.to_owned()))
    }
}

/// States of one file.
#[derive(Clone, Debug)]
struct Part {
    path: PathBuf,
    /// The first of its states in the trace, and how many are of it.
    first: usize,
    count: usize,
    /// Whether its tensors have an axis of states.
    stacked: bool,
    /// The file's names of the network's tensors.
    own: BTreeMap<String, String>,
}

/// The states of a trace: where they lie in its files, which were checked. They are read when they are wanted, some at a time.
#[derive(Clone, Debug)]
pub struct States<T> {
    network: Network,
    parts: Vec<Part>,
    len: usize,
    renaming: Renaming,
    pub names: TensorNames,
    /// The widest type of the files' tensors, and whether there are others.
    pub stored: Stored,
    pub mixed: bool,
    /// Whether a state that is not finite follows.
    pub diverged: bool,
    precision: PhantomData<T>,
}

/// Bytes of states that are in memory at a time.
const AT_A_TIME: usize = 16 << 20;

/// Reads states, those that follow each other with few accesses.
#[derive(Debug)]
pub struct StateReader<'a, T> {
    states: &'a States<T>,
    file: Option<(usize, TensorFile)>,
    /// The first of the states in memory.
    first: usize,
    loaded: Vec<Vec<T>>,
}

impl<T: Real> StateReader<'_, T> {
    /// `W^(index + 1)`, flat.
    ///
    /// # Errors
    /// If the file has changed since it was checked, or cannot be read.
    pub fn get(&mut self, index: usize) -> Result<&[T], TraceError> {
        if !(self.first..self.first + self.loaded.len()).contains(&index) {
            self.load(index)?;
        }
        Ok(&self.loaded[index - self.first])
    }

    /// Reads states from `index` on.
    fn load(&mut self, index: usize) -> Result<(), TraceError> {
        let States { parts, network, .. } = self.states;
        let at = parts.partition_point(|part| part.first + part.count <= index);
        let part = parts.get(at).expect("a state of the trace");
        if self.file.as_ref().is_none_or(|(open, _)| *open != at) {
            self.file = Some((at, open(&part.path, index)?));
        }
        let (_, file) = self.file.as_ref().expect("it was opened");
        let size = (network.parameters() * size_of::<T>()).max(1);
        let from = index - part.first;
        let count = (AT_A_TIME / size).clamp(1, part.count - from);
        self.loaded = self.states.decode(part, file, from..from + count)?;
        self.first = index;
        Ok(())
    }
}

impl<T: Real> States<T> {
    /// How many there are: one before each round, and the final one if the trace has it.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn reader(&self) -> StateReader<'_, T> {
        StateReader { states: self, file: None, first: 0, loaded: Vec::new() }
    }

    /// Keeps the first states.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.parts.retain(|part| part.first < len);
        if let Some(last) = self.parts.last_mut() {
            last.count = last.count.min(len - last.first);
        }
    }

    /// Without states; the first file says how tensors are called.
    pub(super) fn new(network: &Network, renaming: Renaming, file: &TensorFile) -> Result<Self, TraceError> {
        let own = own_names(file, &renaming);
        let shapes: BTreeMap<&str, &[usize]> =
            own.iter().filter_map(|(name, own)| Some((name.as_str(), &file.info(own)?.shape[..]))).collect();
        let is_zero = |name: &str| {
            let info = own.get(name).and_then(|own| Some((own, file.info(own)?.dtype)));
            info.is_some_and(|(own, dtype)| file.bytes(own).is_ok_and(|bytes| tensor_names::is_zero(dtype, &bytes)))
        };
        let names = TensorNames::find_by(network, &shapes, &is_zero).map_err(|Mismatch { name, reason }| {
            let path = file.path.clone();
            match shapes.contains_key(name.as_str()) {
                true => WeightsError::Shape { path, name, reason },
                false => WeightsError::Missing { path, name, reason },
            }
        })?;
        Ok(Self {
            network: network.clone(),
            parts: Vec::new(),
            len: 0,
            renaming,
            names,
            stored: Stored::F32,
            mixed: false,
            diverged: false,
            precision: PhantomData,
        })
    }

    /// Takes in the states of a file, up to the first that is not finite; `stacked` says whether they have an axis of their own, where
    /// that is known.
    pub(super) fn append(&mut self, file: &TensorFile, stacked: Option<bool>) -> Result<(), TraceError> {
        let own = own_names(file, &self.renaming);
        let (stored, mixed) = self.types(file, &own)?;
        match self.parts.first() {
            Some(first) if (stored == Stored::F64) != (self.stored == Stored::F64) => {
                let name = first.path.file_name().unwrap_or_default().to_string_lossy();
                let known = self.stored;
                let reason =
                    format!("is {stored}, but {name} is {known}; save all shards in the type that was trained in");
                return Err(malformed(&file.path, reason));
            }
            Some(_) => self.mixed |= mixed || stored != self.stored,
            None => (self.stored, self.mixed) = (stored, mixed),
        }
        let count = self.count(file, &own, stacked)?;
        self.check_shapes(file, &own, count)?;
        let part =
            Part { path: file.path.clone(), first: self.len, count: count.unwrap_or(1), stacked: count.is_some(), own };
        let step = (AT_A_TIME / (self.network.parameters() * size_of::<T>()).max(1)).max(1);
        for start in (0..part.count).step_by(step) {
            let states = self.decode(&part, file, start..part.count.min(start + step))?;
            if let Some(at) = states.iter().position(|state| !state.iter().all(|w| w.is_finite())) {
                self.diverged = true;
                self.add(Part { count: start + at, ..part });
                return Ok(());
            }
        }
        self.add(part);
        Ok(())
    }

    fn add(&mut self, part: Part) {
        self.len += part.count;
        if part.count > 0 {
            self.parts.push(part);
        }
    }

    /// The length of the leading axis; `None` for a file of one state without one.
    fn count(
        &self,
        file: &TensorFile,
        own: &BTreeMap<String, String>,
        stacked: Option<bool>,
    ) -> Result<Option<usize>, TraceError> {
        let axes = self.network.blocks()[0].file_shape().len();
        let info = own.get(&self.names.blocks[0].weight).and_then(|own| file.info(own));
        let shape = info.map(|info| info.shape.clone()).unwrap_or_default();
        if !stacked.unwrap_or(shape.len() != axes) {
            return Ok(None);
        }
        match shape.first() {
            Some(0) => Err(malformed(&file.path, "holds no state; leave the file out, or save the states again")),
            first => Ok(first.copied()),
        }
    }

    /// Fails unless all tensors of the network are there with as many states.
    fn check_shapes(
        &self,
        file: &TensorFile,
        own: &BTreeMap<String, String>,
        count: Option<usize>,
    ) -> Result<(), TraceError> {
        let path = || file.path.clone();
        for (block, names) in self.network.blocks().iter().zip(&self.names.blocks) {
            for (name, tail) in names.all().zip([block.file_shape(), vec![block.units]]) {
                let Some(info) = own.get(name).and_then(|own| file.info(own)) else {
                    let known: Vec<&String> = own.keys().collect();
                    let reason = format!("only {}", list(&known));
                    return Err(WeightsError::Missing { path: path(), name: name.clone(), reason }.into());
                };
                let expected = [&count.into_iter().collect::<Vec<_>>(), &tail[..]].concat();
                if info.shape != expected {
                    let reason = format!("has shape {:?}, but the network needs {expected:?}", info.shape);
                    return Err(WeightsError::Shape { path: path(), name: name.clone(), reason }.into());
                }
            }
        }
        Ok(())
    }

    /// The widest type of the network's tensors, and whether there are others.
    fn types(&self, file: &TensorFile, own: &BTreeMap<String, String>) -> Result<(Stored, bool), TraceError> {
        let names = self.names.blocks.iter().flat_map(BlockNames::all);
        let found: Vec<(Stored, &str)> = names
            // Values that weights cannot have are refused where they are decoded.
            .filter_map(|name| Some((Stored::of(file.info(own.get(name)?)?.dtype)?, name.as_str())))
            .collect();
        widest(&file.path, &found)
    }

    /// States of a file, flat.
    fn decode(&self, part: &Part, file: &TensorFile, which: Range<usize>) -> Result<Vec<Vec<T>>, TraceError> {
        let changed = |reason: String| {
            let reason = format!("has changed since it was checked ({reason}); analyse the trace again");
            malformed(&file.path, reason)
        };
        let mut tensors = Vec::new();
        for name in self.names.blocks.iter().flat_map(BlockNames::all) {
            let own = part.own.get(name).ok_or_else(|| changed(format!("no \"{name}\"")))?;
            let info = file.info(own).ok_or_else(|| changed(format!("no \"{own}\"")))?;
            let (bytes, shape) = match part.stacked {
                true if info.shape.first().is_none_or(|count| *count < which.end) => {
                    return Err(changed("fewer states".to_owned()));
                }
                true => (file.entries(own, which.clone()), [&[which.len()], &info.shape[1..]].concat()),
                false => (file.bytes(own), info.shape.clone()),
            };
            let bytes = bytes.map_err(|e| changed(e.to_string()))?;
            tensors.push((name.as_str(), info.dtype, shape, bytes));
        }
        let count = part.stacked.then_some(which.len());
        let decoded = stack_tensors(&self.network, &file.path, &tensors, &self.names, count)?;
        Ok(decoded)
    }
}

/// The file's names of its parameters, by the network's.
fn own_names(file: &TensorFile, renaming: &Renaming) -> BTreeMap<String, String> {
    file.names().into_iter().filter_map(|own| Some((renaming.to_network(&own)?, own))).collect()
}

/// Opens a file whose first `whole` states are those before it.
pub(super) fn open(path: &Path, whole: usize) -> Result<TensorFile, TraceError> {
    TensorFile::open(path).map_err(|fault| match fault {
        Fault::Read(source) => TraceError::Read { path: path.to_owned(), source },
        Fault::Damaged(reason) => damaged(path, &reason, whole),
    })
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

/// The first shard of states.
pub(super) fn first_shard(folder: &Path) -> Result<PathBuf, TraceError> {
    Ok(shards(folder)?.paths.swap_remove(0))
}

/// Whether a file has weights in `f64`.
pub(super) fn is_double(file: &TensorFile) -> bool {
    let names = file.names();
    names.iter().any(|name| !is_of_rounds(name) && file.info(name).is_some_and(|info| info.dtype == Dtype::F64))
}

/// Whether a tensor of a recorded trace is none of the state.
fn is_of_rounds(name: &str) -> bool {
    ["losses", "all_losses", "inputs", "targets"].contains(&name)
        || name.starts_with("inputs.")
        || name.starts_with("buffer.")
}

fn damaged(path: &Path, reason: &str, whole: usize) -> TraceError {
    let reason = format!(
        "{} is not a whole safetensors file: {reason}; copy it again, or save it with safetensors.torch.save_file",
        path.display()
    );
    TraceError::Shards { reason, whole }
}

/// Checks the states that the first `rounds` of all rounds need: `rounds` of them, and the next one if there is one.
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
        let whole = read.as_ref().map_or(0, States::len);
        if whole > rounds || read.as_ref().is_some_and(|read| read.diverged) {
            break;
        }
        let file = match open(path, whole) {
            // The weights after the last round can be done without.
            Err(TraceError::Shards { .. }) if whole == rounds => break,
            file => file?,
        };
        let states = match &mut read {
            Some(read) => read,
            None => read.insert(States::new(network, Renaming::default(), &file)?),
        };
        states.append(&file, None)?;
    }
    let mut read = read.expect("a trace has a shard, or was refused");
    let found = read.len();
    // A trace may end with the weights of its last round, but not later.
    if found > all + 1 || (found < rounds && !read.diverged) {
        return Err(wrong_count(folder, found, all, missing));
    }
    read.truncate(rounds + 1);
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

/// The widest of the types of named tensors, and whether there are others.
fn widest(path: &Path, found: &[(Stored, &str)]) -> Result<(Stored, bool), TraceError> {
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
