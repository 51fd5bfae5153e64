//! What a state is handed to: the same calls write it and read it.

use crate::num::Scalar;
use safetensors::SafeTensors;
use std::{
    collections::BTreeMap,
    io::{self, Write},
};

/// Bytes that are converted at once.
const PIECE: usize = 1 << 16;

/// A record takes at most this many times the bytes of its fields, so that little of a file makes little of memory.
const LARGEST_RECORD: usize = 16;

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

/// A value of a record.
pub trait Field: Copy {
    /// Stands where a value is absent.
    const BLANK: Self;

    /// Hands over the field of all records, a value each.
    ///
    /// # Errors
    /// If the disk fails, or what is read does not fit.
    fn persist(values: &mut [Self], name: &str, store: &mut Store) -> Result<(), StoreError>;
}

/// What has a row in a list: it lists its fields, each with [`Store::column`].
pub trait Record: Sized {
    /// Hands over every field of the records.
    ///
    /// # Errors
    /// If the disk fails, or what is read does not fit.
    fn persist(records: &mut [Self], store: &mut Store) -> Result<(), StoreError>;
}

/// Where a state goes to, or comes from.
pub struct Store<'a> {
    direction: Direction<'a>,
    /// Names of the parts around, each with a dot behind it.
    prefix: String,
}

pub(super) enum Direction<'a> {
    /// Finds out what there is, for the header.
    Measure(Vec<Entry>),
    Write {
        out: &'a mut dyn Write,
        buffer: Vec<u8>,
    },
    Read(&'a SafeTensors<'a>),
}

/// A vector in the header.
pub(super) struct Entry {
    pub name: String,
    pub dtype: &'static str,
    pub bytes: usize,
    pub length: usize,
}

impl<'a> Store<'a> {
    pub(super) fn new(direction: Direction<'a>) -> Self {
        Self { direction, prefix: String::new() }
    }

    /// What was measured.
    pub(super) fn into_entries(self) -> Vec<Entry> {
        let Direction::Measure(entries) = self.direction else { unreachable!("nothing was measured") };
        entries
    }
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
                return Err(self.malformed(name, format!("{} values do not divide into rows of {width}", found.len())));
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

    /// A single value of a field's type, such as an `Option` or an enum.
    pub fn value<V: Field>(&mut self, name: &str, value: &mut V) -> Result<(), StoreError> {
        self.fields(name, std::slice::from_mut(value))
    }

    /// Any fixed number of values of a field's type.
    pub fn fields<V: Field>(&mut self, name: &str, values: &mut [V]) -> Result<(), StoreError> {
        V::persist(values, name, self)
    }

    /// The same field of every record: what [`Record::persist`] lists.
    pub fn column<R, V: Field>(
        &mut self,
        name: &str,
        records: &mut [R],
        field: impl Fn(&mut R) -> &mut V,
    ) -> Result<(), StoreError> {
        let mut values: Vec<V> = records.iter_mut().map(|record| *field(record)).collect();
        self.fields(name, &mut values)?;
        if self.is_reading() {
            records.iter_mut().zip(values).for_each(|(record, value)| *field(record) = value);
        }
        Ok(())
    }

    /// A fixed number of records.
    pub fn records<R: Record>(&mut self, name: &str, records: &mut [R]) -> Result<(), StoreError> {
        self.part(name, |store| R::persist(records, store))
    }

    /// Any number of records; reading begins with what `blank` makes.
    pub fn record_list<R: Record>(
        &mut self,
        name: &str,
        records: &mut Vec<R>,
        blank: impl Fn() -> R,
    ) -> Result<(), StoreError> {
        if let Direction::Read(tensors) = &self.direction {
            let inside = format!("{}{name}.", self.prefix);
            let fields = || tensors.iter().filter(|(name, _)| name.starts_with(&inside)).map(|(_, tensor)| tensor);
            // Every field has a value per record, or is refused when it is read.
            let count = fields().map(|tensor| tensor.shape().iter().product()).min().unwrap_or(0);
            let bytes: usize = fields().map(|tensor| tensor.data().len()).sum();
            if count.saturating_mul(size_of::<R>()) > LARGEST_RECORD.saturating_mul(bytes) {
                return Err(self.malformed(name, "lacks most of its fields"));
            }
            records.clear();
            records.resize_with(count, blank);
        }
        self.records(name, records)
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
