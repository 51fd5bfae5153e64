//! The state of a computation on disk, to go on from after its process ended.
//!
//! A checkpoint is a safetensors file: vectors under names such as `analysis.window.rows`, and in the metadata the version of
//! the format and whose state it is. What has a state implements [`Persist`], which lists it once for both directions, so that
//! writing and reading cannot disagree. Numbers go through unchanged, bit for bit.

use crate::{files, kernels::real::Scalar};
use safetensors::SafeTensors;
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// The version of the format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;

/// Bytes that are converted at once.
const PIECE: usize = 1 << 16;

/// A checkpoint that cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("cannot write {path}: {source}; free some space, then continue with --resume")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} has format {found}, but this version reads formats up to {FORMAT}; get a newer taylorscope")]
    Newer { path: PathBuf, found: String },
    #[error("{path} is of another {what}; remove it to begin its optimizer anew")]
    Other { path: PathBuf, what: String },
    #[error("{path} is no usable checkpoint: {reason}; remove it to begin its optimizer anew")]
    Malformed { path: PathBuf, reason: String },
}

/// Why a state could not go through a [`Store`].
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(String),
}

/// Something whose state can be written down and taken up again.
pub trait Persist {
    /// Hands every part of the state to `store`, which writes it or replaces it by what was written.
    ///
    /// # Errors
    /// If the disk fails, or what is read does not fit. What was read by then is in place, so `self` is of no use.
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError>;
}

/// Whose state a checkpoint has: names and values, all of which must be the same when it is read.
pub type Identity = BTreeMap<String, String>;

/// Where a state goes to, or comes from.
pub struct Store<'a> {
    direction: Direction<'a>,
    /// Names of the parts around, each with a dot behind it.
    prefix: String,
}

enum Direction<'a> {
    /// Finds out what there is, for the header.
    Measure(Vec<Entry>),
    Write {
        out: &'a mut dyn Write,
        buffer: Vec<u8>,
    },
    Read(&'a SafeTensors<'a>),
}

/// A vector in the header.
struct Entry {
    name: String,
    dtype: &'static str,
    bytes: usize,
    length: usize,
}

impl Store<'_> {
    /// Whether the state is being read.
    pub fn is_reading(&self) -> bool {
        matches!(self.direction, Direction::Read(_))
    }

    /// Hands over a part under a name of its own.
    pub fn part(
        &mut self,
        name: &str,
        part: impl FnOnce(&mut Self) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let outer = self.prefix.len();
        self.prefix.push_str(name);
        self.prefix.push('.');
        let done = part(self);
        self.prefix.truncate(outer);
        done
    }

    /// A vector of fixed length.
    pub fn values<V: Scalar>(&mut self, name: &str, values: &mut [V]) -> Result<(), StoreError> {
        match self.read::<V>(name, Some(values.len()))? {
            Some(found) => values.copy_from_slice(&found),
            None => self.write(name, &[values])?,
        }
        Ok(())
    }

    /// A vector of any length.
    pub fn list<V: Scalar>(&mut self, name: &str, values: &mut Vec<V>) -> Result<(), StoreError> {
        match self.read::<V>(name, None)? {
            Some(found) => *values = found,
            None => self.write(name, &[values])?,
        }
        Ok(())
    }

    /// Any number of vectors of `width` values each.
    pub fn rows<V: Scalar>(&mut self, name: &str, rows: &mut Vec<Vec<V>>, width: usize) -> Result<(), StoreError> {
        match self.read::<V>(name, None)? {
            Some(found) if width > 0 && found.len().is_multiple_of(width) => {
                *rows = found.chunks_exact(width).map(<[V]>::to_vec).collect();
            }
            Some(found) => {
                return Err(self.malformed(name, format!("{} values are no rows of {width}", found.len())));
            }
            None => self.write(name, &rows.iter().map(|row| &row[..]).collect::<Vec<_>>())?,
        }
        Ok(())
    }

    /// A single number.
    pub fn number<V: Scalar>(&mut self, name: &str, number: &mut V) -> Result<(), StoreError> {
        self.values(name, std::slice::from_mut(number))
    }

    /// A count.
    pub fn count(&mut self, name: &str, count: &mut usize) -> Result<(), StoreError> {
        let mut wide = *count as u64;
        self.number(name, &mut wide)?;
        *count = usize::try_from(wide).map_err(|_| self.malformed(name, format!("{wide} is too large")))?;
        Ok(())
    }

    /// A list of counts.
    pub fn counts(&mut self, name: &str, counts: &mut Vec<usize>) -> Result<(), StoreError> {
        let mut wide: Vec<u64> = counts.iter().map(|count| *count as u64).collect();
        self.list(name, &mut wide)?;
        let narrow: Result<Vec<usize>, _> = wide.into_iter().map(usize::try_from).collect();
        *counts = narrow.map_err(|_| self.malformed(name, "a count is too large"))?;
        Ok(())
    }

    /// Vectors under names that are part of the state.
    pub fn table<V: Scalar>(&mut self, table: &mut BTreeMap<String, Vec<V>>) -> Result<(), StoreError> {
        if let Direction::Read(tensors) = &self.direction {
            let names: Vec<String> =
                tensors.names().iter().filter_map(|name| name.strip_prefix(&self.prefix)).map(str::to_owned).collect();
            *table = names.into_iter().map(|name| (name, Vec::new())).collect();
        }
        table.iter_mut().try_for_each(|(name, values)| self.list(name, values))
    }

    /// Fails with a reason that names the part.
    pub fn malformed(&self, name: &str, reason: impl std::fmt::Display) -> StoreError {
        StoreError::Malformed(format!("\"{}{name}\": {reason}", self.prefix))
    }

    /// The values, if this reads.
    fn read<V: Scalar>(&self, name: &str, length: Option<usize>) -> Result<Option<Vec<V>>, StoreError> {
        let Direction::Read(tensors) = &self.direction else { return Ok(None) };
        let tensor =
            tensors.tensor(&format!("{}{name}", self.prefix)).map_err(|_| self.malformed(name, "is missing"))?;
        let found = tensor.data().len() / V::BYTES;
        if format!("{:?}", tensor.dtype()) != V::DTYPE {
            return Err(self.malformed(name, format!("has type {:?} instead of {}", tensor.dtype(), V::DTYPE)));
        }
        match length.filter(|length| *length != found) {
            Some(length) => Err(self.malformed(name, format!("has {found} values instead of {length}"))),
            None => Ok(Some(tensor.data().chunks_exact(V::BYTES).map(V::get).collect())),
        }
    }

    /// Notes or writes the values of all `parts`, one after the other.
    fn write<V: Scalar>(&mut self, name: &str, parts: &[&[V]]) -> Result<(), StoreError> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        match &mut self.direction {
            Direction::Measure(entries) => {
                let name = format!("{}{name}", self.prefix);
                entries.push(Entry { name, dtype: V::DTYPE, bytes: length * V::BYTES, length });
            }
            Direction::Write { out, buffer } => {
                for piece in parts.iter().flat_map(|part| part.chunks(PIECE / V::BYTES)) {
                    buffer.clear();
                    piece.iter().for_each(|value| value.put(buffer));
                    out.write_all(buffer)?;
                }
            }
            Direction::Read(_) => unreachable!("what is read was found"),
        }
        Ok(())
    }
}

/// Writes a state, in place of the one that `path` may hold.
pub fn save(path: &Path, identity: &Identity, state: &mut dyn Persist) -> Result<(), CheckpointError> {
    let fail = |source| CheckpointError::Write { path: path.to_owned(), source };
    let unwrap = |error| match error {
        StoreError::Io(source) => source,
        StoreError::Malformed(reason) => io::Error::other(reason),
    };
    let mut measure = Store { direction: Direction::Measure(Vec::new()), prefix: String::new() };
    state.persist(&mut measure).map_err(|error| fail(unwrap(error)))?;
    let Direction::Measure(entries) = measure.direction else { unreachable!("the direction does not change") };
    let header = header(identity, &entries);
    let written = files::replace(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        let mut store = Store { direction: Direction::Write { out: file, buffer: Vec::new() }, prefix: String::new() };
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
        let mut store = Store { direction: Direction::Read(&tensors), prefix: String::new() };
        state.persist(&mut store).map_err(|e| self.malformed(e))
    }

    /// The error of a state that cannot be taken over for this reason.
    pub fn malformed(&self, reason: impl ToString) -> CheckpointError {
        CheckpointError::Malformed { path: self.path.clone(), reason: reason.to_string() }
    }
}

/// Reads a state. Whether there was one: a file that does not exist is no error.
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
            Ok(1..=FORMAT) => Ok(identity),
            Ok(_) => Err(CheckpointError::Newer { path: path.to_owned(), found }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, Default, PartialEq)]
    struct State {
        count: usize,
        fixed: [f64; 3],
        list: Vec<f32>,
        words: Vec<u64>,
        rows: Vec<Vec<f64>>,
        table: BTreeMap<String, Vec<f64>>,
    }

    impl Persist for State {
        fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
            store.count("count", &mut self.count)?;
            store.values("fixed", &mut self.fixed)?;
            store.part("inner", |store| {
                store.list("list", &mut self.list)?;
                store.list("words", &mut self.words)
            })?;
            store.rows("rows", &mut self.rows, 2)?;
            store.part("table", |store| store.table(&mut self.table))
        }
    }

    fn state() -> State {
        State {
            count: 7,
            fixed: [0.1, -0.0, f64::MIN_POSITIVE / 2.0],
            list: vec![1.0 / 3.0, f32::INFINITY],
            words: vec![u64::MAX, 0],
            rows: vec![vec![1.0, 2.0], vec![3.0, 4.0]],
            table: BTreeMap::from([("layer 0".into(), vec![1.5]), ("network".into(), Vec::new())]),
        }
    }

    fn identity(experiment: &str) -> Identity {
        Identity::from([("experiment".to_owned(), experiment.to_owned())])
    }

    #[test]
    fn a_state_comes_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut found = State::default();
        assert!(!load(&path, &identity("a"), &mut found).unwrap(), "there is none yet");
        save(&path, &identity("a"), &mut state()).unwrap();
        assert!(load(&path, &identity("a"), &mut found).unwrap());
        assert_eq!(found, state());
        assert!(found.fixed[1].is_sign_negative());
        assert_eq!(*Saved::open(&path).unwrap().unwrap().identity(), identity("a"));
        // Any reader of safetensors can open it.
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(SafeTensors::deserialize(&bytes).unwrap().tensor("inner.words").unwrap().shape(), [2]);
    }

    #[test]
    fn states_of_others_and_of_newer_programs_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        save(&path, &identity("a"), &mut state()).unwrap();
        let error = load(&path, &identity("b"), &mut State::default()).unwrap_err().to_string();
        assert!(error.contains("another experiment") && error.contains("remove it"), "{error}");
        let newer =
            String::from_utf8_lossy(&std::fs::read(&path).unwrap()).replace("\"format\":\"1\"", "\"format\":\"2\"");
        let bytes = std::fs::read(&path).unwrap();
        let length = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let start = newer.find('{').unwrap();
        let header = &newer[start..start + length - 8];
        std::fs::write(&path, [&bytes[..8], header.as_bytes(), &bytes[length..]].concat()).unwrap();
        let error = load(&path, &identity("a"), &mut State::default()).unwrap_err().to_string();
        assert!(error.contains("format 2") && error.contains("newer"), "{error}");
    }

    #[test]
    fn parts_that_are_missing_or_of_another_length_are_named() {
        struct Other(Vec<f64>);
        impl Persist for Other {
            fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
                store.values("fixed", &mut self.0)
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        save(&path, &identity("a"), &mut Other(vec![1.0])).unwrap();
        let error = load(&path, &identity("a"), &mut Other(vec![0.0; 2])).unwrap_err().to_string();
        assert!(error.contains("\"fixed\"") && error.contains("1 values instead of 2"), "{error}");
        let error = load(&path, &identity("a"), &mut State::default()).unwrap_err().to_string();
        assert!(error.contains("\"count\"") && error.contains("missing"), "{error}");
        for end in 0..std::fs::metadata(&path).unwrap().len() as usize {
            let bytes = std::fs::read(&path).unwrap();
            let cut = folder.path().join("cut");
            std::fs::write(&cut, &bytes[..end]).unwrap();
            let error = load(&cut, &identity("a"), &mut Other(vec![0.0])).unwrap_err();
            assert!(matches!(error, CheckpointError::Malformed { .. }), "{end}: {error}");
        }
    }
}
