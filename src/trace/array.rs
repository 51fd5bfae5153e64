//! Arrays of numbers: in `.npy` files, of any type, byte order and memory order, and in tensors.

use super::{
    error::{TraceError, malformed, read_bytes},
    npy::{self, Header, Kind},
};
use half::{bf16, f16};
use safetensors::Dtype;
use std::path::Path;

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
    let broken = |why: String| malformed(path, format!("not a readable .npy file: {why}; save it with numpy.save"));
    let (header, data) = npy::read(&bytes).map_err(broken)?;
    let Header { kind, columns_first, shape } = header;
    let size = shape.iter().try_fold(1usize, |a, b| a.checked_mul(*b)).filter(|size| *size <= bytes.len());
    let Some(size) = size else {
        return Err(malformed(path, format!("declares shape {shape:?}, more than the file holds; save it again")));
    };
    let Some(kind) = kind else {
        return Err(malformed(path, "is not a plain array of numbers; save one array of floats or integers"));
    };
    let number = number(kind).map_err(|reason| malformed(path, reason))?;
    let Some(data) = size.checked_mul(kind.size).and_then(|length| data.get(..length)) else {
        return Err(broken(format!("it ends before the last of its {size} values")));
    };
    let values: Vec<f64> = data.chunks_exact(kind.size).map(number).collect();
    let values = if columns_first { row_major(&shape, &values) } else { values };
    Ok(Array { shape, values, truths: kind.letter == 'b' })
}

/// An array of numbers from the bytes of a tensor, little-endian and as many as its shape asks for.
///
/// # Errors
/// If it holds no real numbers.
pub fn of_tensor(dtype: Dtype, shape: &[usize], bytes: &[u8]) -> Result<Array, String> {
    fn decode<const N: usize>(bytes: &[u8], of: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.as_chunks().0.iter().map(|bytes| of(*bytes)).collect()
    }
    let values = match dtype {
        Dtype::F64 => decode(bytes, f64::from_le_bytes),
        Dtype::F32 => decode(bytes, |b| f32::from_le_bytes(b).into()),
        Dtype::F16 => decode(bytes, |b| f16::from_le_bytes(b).into()),
        Dtype::BF16 => decode(bytes, |b| bf16::from_le_bytes(b).into()),
        Dtype::I64 => decode(bytes, |b| i64::from_le_bytes(b) as f64),
        Dtype::I32 => decode(bytes, |b| i32::from_le_bytes(b).into()),
        Dtype::I16 => decode(bytes, |b| i16::from_le_bytes(b).into()),
        Dtype::I8 => decode(bytes, |b| i8::from_le_bytes(b).into()),
        Dtype::U64 => decode(bytes, |b| u64::from_le_bytes(b) as f64),
        Dtype::U32 => decode(bytes, |b| u32::from_le_bytes(b).into()),
        Dtype::U16 => decode(bytes, |b| u16::from_le_bytes(b).into()),
        Dtype::U8 => decode(bytes, |[b]| b.into()),
        Dtype::BOOL => decode(bytes, |[b]| f64::from(u8::from(b != 0))),
        other => return Err(format!("has type {other:?}; save it as a floating-point or an integer type")),
    };
    Ok(Array { shape: shape.to_vec(), values, truths: dtype == Dtype::BOOL })
}

/// What the bytes of a value mean, or why they are not a number.
fn number(kind: Kind) -> Result<fn(&[u8]) -> f64, String> {
    /// For either byte order.
    macro_rules! number {
        ($type:ty, $to:expr) => {
            if kind.big_endian {
                (|bytes| $to(<$type>::from_be_bytes(of(bytes)))) as fn(&[u8]) -> f64
            } else {
                |bytes| $to(<$type>::from_le_bytes(of(bytes)))
            }
        };
    }
    fn of<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().expect("as many bytes as the type has")
    }
    Ok(match (kind.letter, kind.size) {
        ('f', 2) => number!(f16, f64::from),
        ('f', 4) => number!(f32, f64::from),
        ('f', 8) => number!(f64, f64::from),
        ('i', 8) => number!(i64, (|value: i64| value as f64)),
        ('i', 4) => number!(i32, f64::from),
        ('i', 2) => number!(i16, f64::from),
        ('i', 1) => number!(i8, f64::from),
        ('u', 8) => number!(u64, (|value: u64| value as f64)),
        ('u', 4) => number!(u32, f64::from),
        ('u', 2) => number!(u16, f64::from),
        ('u', 1) => number!(u8, f64::from),
        ('b', 1) => |bytes| f64::from(u8::from(bytes[0] != 0)),
        ('O', _) => {
            return Err(
                "holds Python objects, as arrays of rows of several lengths do; all minibatches of a trace have one \
                        size: leave the short ones out of weights, batches and losses alike"
                    .to_owned(),
            );
        }
        _ => {
            return Err(format!("has type {}; save it as float32, float64 or an integer type, with astype", kind.text));
        }
    })
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
