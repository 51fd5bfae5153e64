//! The part of Python's pickle format that files of arrays use, read without running anything.
//!
//! A pickle is a program for a stack machine; Python's own reader calls whatever functions it names. This one knows the instructions
//! that build numbers, texts, lists, tuples, dictionaries and NumPy arrays, in protocols 1 to 5, and refuses all others. The functions
//! that NumPy's arrays need are recognized by name and not called. See the documentation of Python's `pickletools`.
//!
//! Values refer to each other by number and to the bytes of the file, so their memory is bounded by a constant times the file's size, and
//! their number has a limit.

mod machine;
#[cfg(test)]
mod tests;

use thiserror::Error;

/// Why a pickle was refused. Places are counted in bytes from 0.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PickleFault {
    /// It ends in the middle.
    #[error("cut off: its pickle goes on behind byte {at}, where it ends")]
    Cut {
        /// Its length.
        at: usize,
    },
    /// It has an instruction that data do not need.
    #[error(
        "byte {at} is 0x{opcode:02x}, which no pickle of NumPy arrays and lists has there: it is of a protocol before 2, damaged, or no pickle"
    )]
    Instruction {
        /// The place of the instruction.
        at: usize,
        /// The instruction.
        opcode: u8,
    },
    /// It is of a newer protocol.
    #[error("pickle protocol {0}, but those up to 5 are read")]
    Protocol(u8),
    /// It names a function or class other than those of NumPy's arrays.
    #[error(
        "it asks to call {name}, but nothing that a pickle asks for is run: only NumPy arrays, lists, texts and numbers are read"
    )]
    Global {
        /// Module and name.
        name: String,
    },
    /// It contradicts itself.
    #[error("its pickle is damaged at byte {at}: {what}")]
    Damaged {
        /// The place.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
}

/// The number of a value.
pub type Id = usize;

/// A value. Parts are numbers of other values.
#[derive(Clone, Debug)]
enum Node<'a> {
    /// Something that files of arrays have and that is not needed: `None`, truth values, numbers with a point.
    Other,
    Int(i64),
    /// A text or bytes, as they are in the file.
    Bytes(&'a [u8]),
    /// Bytes that stand in the file as the text whose characters have their numbers, in UTF-8.
    Latin1(&'a str),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Function(machine::Function),
    /// A NumPy type of values: its name such as `u1`, and the text for its byte order.
    Dtype {
        name: Id,
        order: Option<Id>,
    },
    /// A NumPy array or number.
    Array(Option<Parts>),
}

/// What an array is made of.
#[derive(Clone, Copy, Debug)]
struct Parts {
    /// A tuple of whole numbers; `None` for a single number.
    shape: Option<Id>,
    dtype: Id,
    /// Whether the first axis runs fastest; or the letter that says so.
    order: Order,
    data: Id,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Rows,
    Columns,
    Letter(Id),
}
/// A pickle that was read.
#[derive(Debug)]
pub struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: Id,
}

/// A NumPy array of whole numbers.
#[derive(Debug, PartialEq, Eq)]
pub struct Array<'a> {
    /// The sizes of the axes.
    pub shape: Vec<usize>,
    /// The name of the type, such as `u1`.
    pub dtype: &'a [u8],
    /// Whether the first axis runs fastest in `data`, not the last.
    pub columns_first: bool,
    /// Whether numbers of several bytes begin with the highest.
    pub big_endian: bool,
    /// The values.
    pub data: Bytes<'a>,
}

/// Bytes as they are in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes<'a> {
    /// Themselves.
    Plain(&'a [u8]),
    /// Characters with the bytes' numbers, in UTF-8; none is above 255 in what [`Pickle::bytes`] gives.
    Latin1(&'a str),
}

impl Bytes<'_> {
    /// The bytes themselves.
    pub fn to_vec(self) -> Vec<u8> {
        match self {
            Bytes::Plain(bytes) => bytes.to_vec(),
            Bytes::Latin1(text) => text.chars().map(|c| c as u8).collect(),
        }
    }

    /// Their number.
    pub fn count(self) -> usize {
        match self {
            Bytes::Plain(bytes) => bytes.len(),
            Bytes::Latin1(text) => text.chars().count(),
        }
    }
}

impl<'a> Pickle<'a> {
    /// The value of the pickle.
    pub fn root(&self) -> Id {
        self.root
    }

    /// The value of a key of a dictionary, be the key a text or bytes.
    pub fn get(&self, dict: Id, key: &str) -> Option<Id> {
        let Node::Dict(entries) = &self.nodes[dict] else { return None };
        entries.iter().rev().find(|(known, _)| self.is_text(*known, key)).map(|(_, value)| *value)
    }

    fn is_text(&self, id: Id, text: &str) -> bool {
        match self.nodes[id] {
            Node::Bytes(bytes) => bytes == text.as_bytes(),
            Node::Latin1(known) => known == text,
            _ => false,
        }
    }

    /// The keys of a dictionary that are texts.
    pub fn keys(&self, dict: Id) -> Vec<String> {
        let Node::Dict(entries) = &self.nodes[dict] else { return Vec::new() };
        entries.iter().filter_map(|(key, _)| self.text(*key)).collect()
    }

    /// A text, with `\u{fffd}` for bytes that are not UTF-8.
    pub fn text(&self, id: Id) -> Option<String> {
        self.bytes(id).map(|bytes| match bytes {
            Bytes::Plain(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Bytes::Latin1(text) => text.to_owned(),
        })
    }

    /// The entries of a list or tuple.
    pub fn list(&self, id: Id) -> Option<&[Id]> {
        match &self.nodes[id] {
            Node::List(entries) | Node::Tuple(entries) => Some(entries),
            _ => None,
        }
    }

    /// A whole number, be it Python's or NumPy's.
    pub fn int(&self, id: Id) -> Option<i64> {
        match self.nodes[id] {
            Node::Int(value) => Some(value),
            Node::Array(_) => self.array(id).filter(|array| array.shape.is_empty())?.ints()?.first().copied(),
            _ => None,
        }
    }

    /// Bytes or a text.
    pub fn bytes(&self, id: Id) -> Option<Bytes<'a>> {
        match self.nodes[id] {
            Node::Bytes(bytes) => Some(Bytes::Plain(bytes)),
            Node::Latin1(text) => text.chars().all(|c| u32::from(c) < 256).then_some(Bytes::Latin1(text)),
            _ => None,
        }
    }

    /// A NumPy array whose values fill its shape.
    pub fn array(&self, id: Id) -> Option<Array<'a>> {
        let Node::Array(Some(parts)) = self.nodes[id] else { return None };
        let Node::Dtype { name, order } = self.nodes[parts.dtype] else { return None };
        let Some(Bytes::Plain(dtype)) = self.bytes(name) else { return None };
        let shape = match parts.shape {
            None => Vec::new(),
            Some(shape) => self.shape(shape)?,
        };
        let columns_first = match parts.order {
            Order::Rows => false,
            Order::Columns => true,
            Order::Letter(letter) => self.is_text(letter, "F"),
        };
        let data = self.bytes(parts.data)?;
        let size: usize = std::str::from_utf8(dtype.get(1..)?).ok()?.parse().ok()?;
        let bytes = shape.iter().try_fold(size, |product, n| product.checked_mul(*n))?;
        let big_endian = order.is_some_and(|order| self.is_text(order, ">"));
        (bytes == data.count()).then_some(Array { shape, dtype, columns_first, big_endian, data })
    }

    fn shape(&self, id: Id) -> Option<Vec<usize>> {
        let axes = match self.nodes[id] {
            // `reshape(n)` and some old writers have the number alone.
            Node::Int(_) => std::slice::from_ref(&id),
            _ => self.list(id)?,
        };
        axes.iter().map(|&axis| usize::try_from(self.int_alone(axis)?).ok()).collect()
    }

    /// A whole number of Python's.
    fn int_alone(&self, id: Id) -> Option<i64> {
        match self.nodes[id] {
            Node::Int(value) => Some(value),
            _ => None,
        }
    }
}

impl Array<'_> {
    /// The values of an array of one axis or none, if its type is one of whole numbers.
    pub fn ints(&self) -> Option<Vec<i64>> {
        let (kind, size) = self.dtype.split_first()?;
        let signed = match kind {
            b'i' => true,
            b'u' | b'b' => false,
            _ => return None,
        };
        let size = match size {
            b"1" => 1,
            b"2" => 2,
            b"4" => 4,
            b"8" => 8,
            _ => return None,
        };
        let bytes = self.data.to_vec();
        let value = |chunk: &[u8]| {
            let mut wide = [0; 8];
            wide[..size].copy_from_slice(chunk);
            if self.big_endian {
                wide[..size].reverse();
            }
            let (value, unused) = (i64::from_le_bytes(wide), 64 - 8 * size);
            if signed { value << unused >> unused } else { value }
        };
        Some(bytes.chunks_exact(size).map(value).collect())
    }
}

/// Reads a pickle.
///
/// # Errors
///
/// If it is cut off or damaged, or asks for anything but plain values and NumPy arrays.
pub fn read(bytes: &[u8]) -> Result<Pickle<'_>, PickleFault> {
    let (nodes, root) = machine::run(bytes)?;
    Ok(Pickle { nodes, root })
}
