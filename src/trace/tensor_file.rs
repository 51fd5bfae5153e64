//! A safetensors file of which parts are read: its header first, then the entries of its tensors that are wanted.

use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
};

/// Headers are at most this long, as in the reader of whole files.
const LONGEST_HEADER: u64 = 100_000_000;

/// An open file whose header was checked against its length.
#[derive(Debug)]
pub(super) struct TensorFile {
    pub path: PathBuf,
    file: File,
    metadata: Metadata,
    /// Where the values begin.
    start: u64,
}

/// Why a file cannot be read in parts.
#[derive(Debug)]
pub(super) enum Fault {
    Read(io::Error),
    /// It is no safetensors file, or not a whole one.
    Damaged(String),
}

impl TensorFile {
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let mut file = File::open(path).map_err(Fault::Read)?;
        let length = file.metadata().map_err(Fault::Read)?.len();
        let mut size = [0; 8];
        if length < 8 {
            return Err(Fault::Damaged(format!("it has {length} bytes")));
        }
        file.read_exact(&mut size).map_err(Fault::Read)?;
        let size = u64::from_le_bytes(size);
        if size > LONGEST_HEADER || size > length - 8 {
            return Err(Fault::Damaged(format!("its header would have {size} bytes, the file has {length}")));
        }
        let mut header = vec![0; size as usize];
        file.read_exact(&mut header).map_err(Fault::Read)?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|e| Fault::Damaged(format!("its header is not readable: {e}")))?;
        let (found, needed) = (length - 8 - size, metadata.data_len() as u64);
        if found != needed {
            return Err(Fault::Damaged(format!("it has {found} bytes of values, its header declares {needed}")));
        }
        Ok(Self { path: path.to_owned(), file, metadata, start: 8 + size })
    }

    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.metadata.info(name)
    }

    /// The tensors in the order of the file.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// A word of its metadata.
    pub fn word(&self, key: &str) -> Option<&str> {
        self.metadata.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// All values of a tensor; nothing of one that is not there.
    pub fn bytes(&self, name: &str) -> io::Result<Vec<u8>> {
        let Some(info) = self.info(name) else { return Ok(Vec::new()) };
        self.read(info.data_offsets.0, info.data_offsets.1 - info.data_offsets.0)
    }

    /// Entries of a tensor along its first axis, of which there are as many.
    pub fn entries(&self, name: &str, entries: Range<usize>) -> io::Result<Vec<u8>> {
        let Some(info) = self.info(name) else { return Ok(Vec::new()) };
        let (start, end) = info.data_offsets;
        let size = (end - start) / info.shape.first().copied().unwrap_or(1).max(1);
        self.read(start + entries.start * size, entries.len() * size)
    }

    fn read(&self, offset: usize, length: usize) -> io::Result<Vec<u8>> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.start + offset as u64))?;
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The values of a tensor of numbers of 8 bytes.
    pub fn eights<V>(&self, name: &str, dtype: Dtype, of: fn([u8; 8]) -> V) -> Result<Vec<V>, String> {
        let wrong = |found: &TensorInfo| format!("\"{name}\" is {:?} of shape {:?}", found.dtype, found.shape);
        match self.info(name) {
            Some(info) if info.dtype == dtype && info.shape.len() == 1 => {
                let bytes = self.bytes(name).map_err(|e| format!("\"{name}\" cannot be read: {e}"))?;
                Ok(bytes.as_chunks().0.iter().map(|bytes| of(*bytes)).collect())
            }
            Some(info) => Err(format!("{}; it must be {dtype:?} with one axis", wrong(info))),
            None => Err(format!("has no \"{name}\", which every shard needs")),
        }
    }
}
