//! Arrays of numbers in `.npy` files, of any type, byte order and memory order.

use super::error::{TraceError, malformed, read_bytes};
use half::f16;
use npyz::{DType, NpyFile, Order, TypeChar};
use std::{io, path::Path};

/// An array as it lies in a file, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    /// Integers up to 2^53 are exact.
    pub values: Vec<f64>,
    /// Whether the values were stored as true and false.
    pub truths: bool,
}

impl Array {
    /// The shape without axes of length 1.
    pub fn squeezed(&self) -> Vec<usize> {
        squeezed(&self.shape)
    }

    /// The first value that is not finite, and where it is: `row 3, place 2` of an array of rows.
    pub fn not_finite(&self) -> Option<(String, f64)> {
        let at = self.values.iter().position(|v| !v.is_finite())?;
        Some((self.place(at), self.values[at]))
    }

    /// Where an entry is, in words.
    pub fn place(&self, at: usize) -> String {
        let width: usize = self.shape.iter().skip(1).product::<usize>().max(1);
        if width == 1 { format!("entry {at}") } else { format!("row {}, place {}", at / width, at % width) }
    }
}

/// A shape without axes of length 1.
pub fn squeezed(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|side| *side != 1).collect()
}

/// Reads an array of numbers.
///
/// # Errors
/// If the file cannot be read, is cut off, or holds anything but real numbers.
pub fn read_npy(path: &Path) -> Result<Array, TraceError> {
    let bytes = read_bytes(path)?;
    let broken = |e: io::Error| malformed(path, format!("not a readable .npy file: {e}; save it with numpy.save"));
    if !has_whole_header(&bytes) {
        return Err(malformed(path, "not a readable .npy file: it ends within its header; save it with numpy.save"));
    }
    let file = NpyFile::new(&bytes[..]).map_err(broken)?;
    let shape: Vec<usize> = file.shape().iter().map(|d| *d as usize).collect();
    let size = shape.iter().try_fold(1usize, |a, b| a.checked_mul(*b));
    if size.is_none_or(|size| size > bytes.len()) {
        return Err(malformed(path, format!("declares shape {shape:?}, more than the file holds; save it again")));
    }
    let columns_first = file.order() == Order::Fortran;
    let (values, truths) = numbers(file).map_err(|unread| match unread {
        Unread::Type(reason) => malformed(path, reason),
        Unread::Io(error) => broken(error),
    })?;
    let values = if columns_first { row_major(&shape, &values) } else { values };
    Ok(Array { shape, values, truths })
}

enum Unread {
    Type(String),
    Io(io::Error),
}

/// The values in the order of the file, and whether they were true and false.
fn numbers(file: NpyFile<&[u8]>) -> Result<(Vec<f64>, bool), Unread> {
    fn all<V: npyz::Deserialize>(file: NpyFile<&[u8]>, to: impl Fn(V) -> f64) -> Result<Vec<f64>, Unread> {
        let data = file.data::<V>().map_err(|e| Unread::Io(io::Error::other(e)))?;
        data.map(|v| v.map(&to)).collect::<io::Result<_>>().map_err(Unread::Io)
    }
    let dtype = file.dtype();
    let DType::Plain(plain) = &dtype else {
        return Err(Unread::Type("is not a plain array of numbers; save one array of floats or integers".to_owned()));
    };
    let values = match (plain.type_char(), plain.size_field()) {
        (TypeChar::Float, 2) => all::<f16>(file, f64::from),
        (TypeChar::Float, 4) => all::<f32>(file, f64::from),
        (TypeChar::Float, 8) => all::<f64>(file, |v| v),
        (TypeChar::Int, 8) => all::<i64>(file, |v| v as f64),
        (TypeChar::Int, 4) => all::<i32>(file, f64::from),
        (TypeChar::Int, 2) => all::<i16>(file, f64::from),
        (TypeChar::Int, 1) => all::<i8>(file, f64::from),
        (TypeChar::Uint, 8) => all::<u64>(file, |v| v as f64),
        (TypeChar::Uint, 4) => all::<u32>(file, f64::from),
        (TypeChar::Uint, 2) => all::<u16>(file, f64::from),
        (TypeChar::Uint, 1) => all::<u8>(file, f64::from),
        (TypeChar::Bool, _) => return Ok((all::<bool>(file, |v| f64::from(u8::from(v)))?, true)),
        (TypeChar::Object, _) => {
            let reason = "holds Python objects, as arrays of rows of several lengths do; all minibatches of a trace have one \
                          size: leave the short ones out of weights, batches and losses alike";
            return Err(Unread::Type(reason.to_owned()));
        }
        _ => {
            let reason = format!("has type {plain}; save it as float32, float64 or an integer type, with astype");
            return Err(Unread::Type(reason));
        }
    }?;
    Ok((values, false))
}

/// Row-major values from column-major ones.
fn row_major(shape: &[usize], values: &[f64]) -> Vec<f64> {
    let mut strides = vec![1; shape.len()];
    for axis in 1..shape.len() {
        strides[axis] = strides[axis - 1] * shape[axis - 1];
    }
    let mut index = vec![0; shape.len()];
    let mut out = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        out.push(values[index.iter().zip(&strides).map(|(i, stride)| i * stride).sum::<usize>()]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    out
}

/// Whether the header of a `.npy` file is there, as long as its length field says (NumPy's format, versions 1 to 3). The reader takes
/// memory for that length before it looks.
fn has_whole_header(bytes: &[u8]) -> bool {
    let length = match bytes.get(6..12) {
        Some([1, _, low, high, ..]) => 10 + usize::from(u16::from_le_bytes([*low, *high])),
        Some([2..=u8::MAX, _, a, b, c, d]) => 12 + u32::from_le_bytes([*a, *b, *c, *d]) as usize,
        _ => return false,
    };
    length <= bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `.npy` file of version 1 with this description and data.
    fn npy(dtype: &str, fortran: bool, shape: &str, data: &[u8]) -> Result<Array, TraceError> {
        let order = if fortran { "True" } else { "False" };
        let mut header = format!("{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape}, }}");
        while (10 + header.len() + 1) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("array.npy");
        std::fs::write(&path, bytes).unwrap();
        read_npy(&path)
    }

    #[test]
    fn every_type_of_number_is_read_in_either_byte_order() {
        let expected = [1.0, 0.0, 100.0];
        let data = |to: &dyn Fn(f64) -> Vec<u8>| expected.iter().flat_map(|v| to(*v)).collect::<Vec<u8>>();
        let f16_bits = |v: f64| f16::from_f64(v).to_bits();
        for (dtype, bytes) in [
            ("|i1", data(&|v| vec![v as u8])),
            ("|u1", data(&|v| vec![v as u8])),
            ("<i2", data(&|v| (v as i16).to_le_bytes().to_vec())),
            (">i2", data(&|v| (v as i16).to_be_bytes().to_vec())),
            ("<u2", data(&|v| (v as u16).to_le_bytes().to_vec())),
            ("<i4", data(&|v| (v as i32).to_le_bytes().to_vec())),
            (">i4", data(&|v| (v as i32).to_be_bytes().to_vec())),
            ("<u4", data(&|v| (v as u32).to_le_bytes().to_vec())),
            ("<i8", data(&|v| (v as i64).to_le_bytes().to_vec())),
            (">u8", data(&|v| (v as u64).to_be_bytes().to_vec())),
            ("<f2", data(&|v| f16_bits(v).to_le_bytes().to_vec())),
            (">f2", data(&|v| f16_bits(v).to_be_bytes().to_vec())),
            ("<f4", data(&|v| (v as f32).to_le_bytes().to_vec())),
            (">f4", data(&|v| (v as f32).to_be_bytes().to_vec())),
            ("<f8", data(&|v| v.to_le_bytes().to_vec())),
            (">f8", data(&|v| v.to_be_bytes().to_vec())),
        ] {
            let array = npy(dtype, false, "(3,)", &bytes).unwrap_or_else(|e| panic!("{dtype}: {e}"));
            assert_eq!((array.values, array.truths), (expected.to_vec(), false), "{dtype}");
        }
        let truths = npy("|b1", false, "(3,)", &[1, 0, 1]).unwrap();
        assert_eq!((truths.values, truths.truths), (vec![1.0, 0.0, 1.0], true));
    }

    #[test]
    fn columns_first_is_the_same_array() {
        let array = npy("|u1", true, "(2, 3, 2)", &[0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11]).unwrap();
        assert_eq!(array.shape, [2, 3, 2]);
        assert_eq!(array.values, (0..12).map(f64::from).collect::<Vec<_>>());
        assert_eq!(npy("|u1", true, "(0, 3)", &[]).unwrap().values, [0.0; 0]);
        assert_eq!(npy("|u1", true, "()", &[7]).unwrap().values, [7.0]);
    }

    #[test]
    fn what_is_no_number_is_named() {
        for (dtype, data, word) in
            [("|O", &[0u8; 16][..], "leave the short ones out"), ("<c8", &[0; 24], "c8"), ("<U1", &[0; 12], "type")]
        {
            let error = npy(dtype, false, "(3,)", data).unwrap_err().to_string();
            assert!(error.contains(word), "{dtype}: {error}");
        }
    }
}
