//! What one file of a recording holds.

use super::{folder, tensor::Tensor};
use crate::trace::{
    RECORDED_FORMAT,
    error::{TraceError, malformed, read_bytes, write_error},
};
use safetensors::{
    Dtype, SafeTensorError, SafeTensors,
    tensor::{Metadata, TensorInfo},
};
use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, Write},
    path::Path,
};

/// Values of one tensor for each row or round, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Column {
    name: String,
    dtype: Dtype,
    /// Of one entry.
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Column {
    pub fn new(name: String, dtype: Dtype, shape: Vec<usize>) -> Self {
        Self { name, dtype, shape, bytes: Vec::new() }
    }

    fn part(&self, entries: usize) -> Part<'_> {
        let shape = [&[entries], &self.shape[..]].concat();
        Part { name: self.name.clone(), dtype: self.dtype, shape, bytes: &self.bytes }
    }

    /// Keeps the entries that are to stay, of as many as `stays` has.
    fn retain(&mut self, stays: &[bool]) {
        let size = self.bytes.len() / stays.len().max(1);
        let mut end = 0;
        for (at, _) in stays.iter().enumerate().filter(|(_, stays)| **stays) {
            self.bytes.copy_within(at * size..(at + 1) * size, end);
            end += size;
        }
        self.bytes.truncate(end);
    }
}

/// Rounds of a trace, with the rows of the data that appear in them first.
#[derive(Clone, Debug, Default)]
pub(super) struct Shard {
    /// Of the rounds that are kept: their numbers, losses, sizes of minibatches, and rows.
    rounds: Vec<i64>,
    losses: Vec<f64>,
    sizes: Vec<i64>,
    pub rows: Vec<i64>,
    /// Of all rounds.
    all_rounds: Vec<i64>,
    all_losses: Vec<f64>,
    /// Rows of `data`.
    new_rows: usize,
    columns: Columns,
}

/// The tensors of a shard.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns {
    /// Inputs and targets, of each new row.
    pub data: Vec<Column>,
    /// Parameters, then buffers, of each round.
    pub states: Vec<Column>,
}

/// A tensor of a file that is to be written.
struct Part<'a> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: &'a [u8],
}

impl Shard {
    pub fn set_columns(&mut self, columns: Columns) {
        self.columns = columns;
    }

    pub fn is_empty(&self) -> bool {
        self.all_rounds.is_empty()
    }

    pub fn push_loss(&mut self, number: usize, loss: f64) {
        self.all_rounds.push(number as i64);
        self.all_losses.push(loss);
    }

    pub fn push_row<'a>(&mut self, parts: impl Iterator<Item = &'a [u8]>) {
        self.new_rows += 1;
        self.columns.data.iter_mut().zip(parts).for_each(|(column, bytes)| column.bytes.extend_from_slice(bytes));
    }

    /// Takes a round whose rows are there already.
    pub fn push_round(&mut self, number: usize, loss: f64, batch: usize, state: &[Tensor], buffers: &[Tensor]) {
        self.rounds.push(number as i64);
        self.losses.push(loss);
        self.sizes.push(batch as i64);
        let tensors = state.iter().chain(buffers);
        self.columns
            .states
            .iter_mut()
            .zip(tensors)
            .for_each(|(column, tensor)| column.bytes.extend_from_slice(tensor.bytes));
    }

    /// Of states and buffers.
    pub fn state_bytes(&self) -> u64 {
        self.columns.states.iter().map(|column| column.bytes.len() as u64).sum()
    }

    pub fn row_bytes(&self) -> u64 {
        self.columns.data.iter().map(|column| column.bytes.len() as u64).sum()
    }

    /// Of all of them.
    pub fn bytes(&self) -> u64 {
        self.state_bytes() + self.row_bytes()
    }

    /// Forgets the rounds and keeps the memory.
    pub fn clear(&mut self) {
        let Self { rounds, losses, sizes, rows, all_rounds, all_losses, new_rows, columns } = self;
        [rounds, sizes, rows, all_rounds].into_iter().for_each(Vec::clear);
        [losses, all_losses].into_iter().for_each(Vec::clear);
        *new_rows = 0;
        columns.data.iter_mut().chain(&mut columns.states).for_each(|column| column.bytes.clear());
    }

    /// Drops the rounds that are not among these. Their rows of the data stay: others may have them, too.
    pub fn retain(&mut self, staying: &HashSet<i64>) {
        let stays: Vec<bool> = self.rounds.iter().map(|number| staying.contains(number)).collect();
        let mut start = 0;
        let mut rows = Vec::with_capacity(self.rows.len());
        for (size, stays) in self.sizes.iter().zip(&stays) {
            let end = start + *size as usize;
            rows.extend(self.rows[start..end].iter().filter(|_| *stays));
            start = end;
        }
        self.rows = rows;
        for values in [&mut self.rounds, &mut self.sizes] {
            keep(values, &stays);
        }
        keep(&mut self.losses, &stays);
        self.columns.states.iter_mut().for_each(|column| column.retain(&stays));
    }

    /// Writes the shard beside `path` and renames it.
    pub fn write(&self, path: &Path) -> Result<(), TraceError> {
        let bytes = [&self.rounds, &self.sizes, &self.rows, &self.all_rounds].map(|values| of_integers(values));
        let losses = [&self.losses, &self.all_losses].map(|values| of_floats(values));
        let part = |name: &str, dtype, bytes| {
            let bytes: &[u8] = bytes;
            Part { name: name.to_owned(), dtype, shape: vec![bytes.len() / 8], bytes }
        };
        let mut parts = vec![
            part("rounds", Dtype::I64, &bytes[0]),
            part("losses", Dtype::F64, &losses[0]),
            part("sizes", Dtype::I64, &bytes[1]),
            part("rows", Dtype::I64, &bytes[2]),
            part("all_rounds", Dtype::I64, &bytes[3]),
            part("all_losses", Dtype::F64, &losses[1]),
        ];
        parts.extend(self.columns.data.iter().map(|column| column.part(self.new_rows)));
        parts.extend(self.columns.states.iter().map(|column| column.part(self.rounds.len())));
        write(path, parts, [("format", RECORDED_FORMAT.to_string())])
    }

    /// Reads back a shard with these columns that was written.
    pub fn read(path: &Path, mut columns: Columns) -> Result<Self, TraceError> {
        let bytes = read_bytes(path)?;
        let fail = |e: SafeTensorError| malformed(path, format!("was changed while it was recorded: {e}"));
        let tensors = SafeTensors::deserialize(&bytes).map_err(fail)?;
        let data = |name: &str| tensors.tensor(name).map_err(fail).map(|view| view.data());
        let integers =
            |name| data(name).map(|data| data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect());
        let floats = |name| data(name).map(|data| data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect());
        let mut new_rows = 0;
        for column in &mut columns.data {
            let view = tensors.tensor(&column.name).map_err(fail)?;
            new_rows = view.shape().first().copied().unwrap_or(0);
            column.bytes = view.data().to_vec();
        }
        for column in &mut columns.states {
            column.bytes = data(&column.name)?.to_vec();
        }
        Ok(Self {
            rounds: integers("rounds")?,
            losses: floats("losses")?,
            sizes: integers("sizes")?,
            rows: integers("rows")?,
            all_rounds: integers("all_rounds")?,
            all_losses: floats("all_losses")?,
            new_rows,
            columns,
        })
    }
}

fn keep<V>(values: &mut Vec<V>, stays: &[bool]) {
    let mut stays = stays.iter();
    values.retain(|_| *stays.next().unwrap_or(&true));
}

fn of_integers(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn of_floats(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Writes `final.safetensors`.
pub(super) fn write_final(path: &Path, state: &[Tensor], rounds: usize) -> Result<(), TraceError> {
    let part = |tensor: &Tensor| (format!("state.{}", tensor.name), tensor.dtype, tensor.shape.to_vec());
    let parts = state.iter().map(|tensor| {
        let (name, dtype, shape) = part(tensor);
        Part { name, dtype, shape, bytes: tensor.bytes }
    });
    write(path, parts.collect(), [("format", RECORDED_FORMAT.to_string()), ("rounds", rounds.to_string())])
}

/// Writes a safetensors file beside `path`, straight from where the values are, and renames it.
fn write<const N: usize>(path: &Path, mut parts: Vec<Part>, words: [(&str, String); N]) -> Result<(), TraceError> {
    // The widest first, so that all values are aligned.
    parts.sort_by_key(|part| std::cmp::Reverse(part.dtype.bitsize()));
    let mut offset = 0;
    let infos = parts.iter().map(|part| {
        let start = offset;
        offset += part.bytes.len();
        let info = TensorInfo { dtype: part.dtype, shape: part.shape.clone(), data_offsets: (start, offset) };
        (part.name.clone(), info)
    });
    let words: HashMap<String, String> = words.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let header = Metadata::new(Some(words), infos.collect()).map_err(io::Error::other);
    let header = header.and_then(|header| serde_json::to_vec(&header).map_err(io::Error::other));
    let partial = folder::partial(path);
    let written = header.and_then(|mut header| {
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = File::create(&partial)?;
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        parts.iter().try_for_each(|part| file.write_all(part.bytes))?;
        drop(file);
        std::fs::rename(&partial, path)
    });
    written.map_err(|source| {
        let _ = std::fs::remove_file(&partial);
        write_error(path, source)
    })
}
