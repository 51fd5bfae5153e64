//! The Python version of CIFAR-10: files of the same names without an ending, each a pickled dictionary with the images in `data`,
//! `[images, 3072]`, and their classes in `labels`. The file `batches.meta` next to them names the classes.
//!
//! Such files tell their own number of images, so any number is read.

use std::fs;
use std::path::Path;

use super::super::at::InFile;
use super::super::pickle::{self, Array, Id, Pickle};
use super::{CLASS_NAMES, CifarError, Fault, PIXELS};

/// The file next to the batches that names the classes. It may be absent.
pub(super) const NAMES_FILE: &str = "batches.meta";

/// Appends the images of one file: pixels divided by 255, and labels.
pub(super) fn read_batch(path: &Path, inputs: &mut Vec<f32>, labels: &mut Vec<u32>) -> Result<(), CifarError> {
    let bytes = fs::read(path).map_err(|error| Fault::Io(error).at(path))?;
    parse_batch(&bytes, PIXELS, inputs, labels).map_err(|fault| fault.at(path))
}

/// The same from the bytes of a file whose images have `pixels` values each.
pub(crate) fn parse_batch(
    bytes: &[u8],
    pixels: usize,
    inputs: &mut Vec<f32>,
    labels: &mut Vec<u32>,
) -> Result<(), Fault> {
    let pickle = pickle::read(bytes).map_err(Fault::Pickle)?;
    let (data, classes) = (entry(&pickle, "data")?, entry(&pickle, "labels")?);
    let array = pickle
        .array(data)
        .filter(|array| is_images(array, pixels))
        .ok_or_else(|| Fault::Pixels { found: describe(&pickle, data), pixels })?;
    let classes = numbers(&pickle, classes).ok_or(Fault::Labels)?;
    let images = array.shape[0];
    if classes.len() != images {
        return Err(Fault::LabelCount { labels: classes.len(), images });
    }
    for (record, label) in classes.into_iter().enumerate() {
        match u32::try_from(label) {
            Ok(class) if (class as usize) < CLASS_NAMES.len() => labels.push(class),
            _ => return Err(Fault::LabelRange { record, label }),
        }
    }
    let bytes = rows(&array);
    inputs.extend(bytes.iter().map(|&pixel| f32::from(pixel) / 255.0));
    Ok(())
}

/// The names of the classes in `batches.meta`.
pub(super) fn read_names(path: &Path) -> Result<Vec<String>, CifarError> {
    let bytes = fs::read(path).map_err(|error| Fault::Io(error).at(path))?;
    let names = || {
        let pickle = pickle::read(&bytes).map_err(Fault::Pickle)?;
        let names = pickle.list(entry(&pickle, "label_names")?).unwrap_or_default();
        let names: Vec<String> = names.iter().filter_map(|&name| pickle.text(name)).collect();
        if names.len() == CLASS_NAMES.len() { Ok(names) } else { Err(Fault::Names { found: names.len() }) }
    };
    names().map_err(|fault| fault.at(path))
}

fn entry(pickle: &Pickle, key: &'static str) -> Result<Id, Fault> {
    let missing = || Fault::NoKey { key, found: pickle.keys(pickle.root()) };
    pickle.get(pickle.root(), key).ok_or_else(missing)
}

/// Whether an array is of bytes, one image after the other, the channels of each apart.
fn is_images(array: &Array, pixels: usize) -> bool {
    let channel_major = match array.shape[..] {
        [_, values] => values == pixels,
        [_, channels, height, width] => channels <= 3 && [channels, height, width].iter().product::<usize>() == pixels,
        _ => false,
    };
    array.dtype == b"u1" && channel_major
}

/// What a value is, for those who expected images.
fn describe(pickle: &Pickle, id: Id) -> String {
    match pickle.array(id) {
        Some(Array { shape, dtype, .. }) => format!("of type {} and shape {shape:?}", String::from_utf8_lossy(dtype)),
        None => "no whole NumPy array of numbers".to_owned(),
    }
}

/// The values of an array of bytes with the last axis running fastest.
fn rows(array: &Array) -> Vec<u8> {
    let bytes = array.data.to_vec();
    if !array.columns_first {
        return bytes;
    }
    let mut ordered = Vec::with_capacity(bytes.len());
    for row in 0..bytes.len() {
        // The place of a value is counted in the same axes, the first of them fastest.
        let (mut rest, mut stride, mut at) = (row, bytes.len(), 0);
        for &axis in array.shape.iter().rev() {
            stride /= axis;
            at += rest % axis * stride;
            rest /= axis;
        }
        ordered.push(bytes[at]);
    }
    ordered
}

/// The entries of a list or array of whole numbers.
fn numbers(pickle: &Pickle, id: Id) -> Option<Vec<i64>> {
    match pickle.list(id) {
        Some(entries) => entries.iter().map(|&entry| pickle.int(entry)).collect(),
        None => pickle.array(id).filter(|array| array.shape.len() == 1)?.ints(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six pixels an image.
    fn parse(name: &str) -> Result<(Vec<f32>, Vec<u32>), Fault> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fuzz/pickle").join(name);
        let (mut inputs, mut labels) = (Vec::new(), Vec::new());
        parse_batch(&fs::read(path).unwrap(), 6, &mut inputs, &mut labels).map(|()| (inputs, labels))
    }

    #[test]
    fn rows_and_labels_are_those_of_numpy() {
        let expected: Vec<f32> = (0..12).map(|i| (21 * i % 256) as f32 / 255.0).collect();
        for name in [
            "python2.pkl",
            "protocol2.pkl",
            "protocol3.pkl",
            "protocol4.pkl",
            "protocol5.pkl",
            "fortran4.pkl",
            "fortran5.pkl",
            "scalars.pkl",
        ] {
            assert_eq!(parse(name).unwrap(), (expected.clone(), vec![3, 9]), "{name}");
        }
    }

    /// A pickle of a dictionary with the given instructions for its values.
    fn dictionary(data: &[u8], labels: &[u8]) -> Vec<u8> {
        [&b"\x80\x02}(U\x04data"[..], data, b"U\x06labels", labels, b"u."].concat()
    }

    fn bytes_array(shape: &[u8], dtype: &[u8; 2], bytes: &[u8]) -> Vec<u8> {
        let axes: Vec<u8> = shape.iter().flat_map(|&n| [b'K', n]).collect();
        let head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01(";
        let parts: [&[u8]; 8] =
            [head, &axes, b"tcnumpy\ndtype\n(U\x02", dtype, b"tR\x89U", &[bytes.len() as u8], bytes, b"tb"];
        parts.concat()
    }

    fn fault(bytes: &[u8]) -> String {
        parse_batch(bytes, 6, &mut Vec::new(), &mut Vec::new()).unwrap_err().to_string()
    }

    #[test]
    fn other_dictionaries_are_refused_with_what_they_have() {
        let images = bytes_array(&[2, 6], b"u1", &[7; 12]);
        assert!(parse_batch(&dictionary(&images, b"](K\x01K\x02e"), 6, &mut Vec::new(), &mut Vec::new()).is_ok());
        for (bytes, part) in [
            (b"\x80\x02}(U\x04dataNu.".to_vec(), "no \"labels\", only \"data\""),
            (b"\x80\x02].".to_vec(), "no \"data\""),
            (dictionary(&images, b"](K\x01e"), "1 labels for 2 images"),
            (dictionary(&images, b"](K\x01K\x0ae"), "record 1 (counted from 0) is 10"),
            (dictionary(&images, b"](K\x01J\xff\xff\xff\xffe"), "is -1"),
            (dictionary(&images, b"U\x02ab"), "\"labels\" is not a list"),
            (dictionary(&bytes_array(&[3, 4], b"u1", &[7; 12]), b"]"), "shape [3, 4]"),
            (dictionary(&bytes_array(&[1, 3], b"f4", &[7; 12]), b"]"), "type f4"),
            (dictionary(&bytes_array(&[2, 6], b"u1", &[7; 11]), b"]"), "no whole NumPy array"),
        ] {
            assert!(fault(&bytes).contains(part), "{part:?} in {}", fault(&bytes));
        }
    }
}
