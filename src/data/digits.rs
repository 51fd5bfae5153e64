//! The handwritten digits that are part of the program: the smallest real dataset to train on, and
//! the only one that needs no download.
//!
//! 1,797 images of 8x8 pixels with values 0 to 16, in ten classes: the test part of "Optical
//! Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine Learning
//! Repository, <https://doi.org/10.24432/C50P49>, licensed under CC BY 4.0, in the order in which
//! scikit-learn's `load_digits` gives them. `assets/README.md` says how the file was made.

use std::io::Read;

use flate2::read::GzDecoder;

use super::{DataError, Dataset, Split};

/// The name of the dataset.
pub const NAME: &str = "digits";

/// The rows at the end that are held out as the test part: by position, so that the split needs no
/// seed and is the same in every run.
pub const TEST_ROWS: usize = 297;

/// The rows in all.
pub const ROWS: usize = 1797;

const HEIGHT: usize = 8;
const WIDTH: usize = 8;
const FEATURES: usize = HEIGHT * WIDTH;
const CLASSES: usize = 10;
/// What digits are called, here and in MNIST.
pub(super) const CLASS_NAMES: [&str; CLASSES] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
/// The value of a fully inked pixel: each pixel counts the ink in a block of 4x4.
const FULL_INK: u8 = 16;

/// `ROWS * FEATURES` pixels, then `ROWS` labels, one byte each, gzipped.
static PACKED: &[u8] = include_bytes!("../../assets/digits.bin.gz");

/// Loads the digits: 1,500 rows to train on and 297 to test on, inputs divided by 16.
///
/// # Errors
///
/// Only if the data in the program is damaged.
pub fn load() -> Result<Dataset, DataError> {
    unpack(PACKED)
}

fn unpack(packed: &[u8]) -> Result<Dataset, DataError> {
    let damaged = |reason: String| DataError::Embedded { reason };
    let mut bytes = Vec::with_capacity(ROWS * (FEATURES + 1));
    GzDecoder::new(packed).read_to_end(&mut bytes).map_err(|error| damaged(error.to_string()))?;
    if bytes.len() != ROWS * (FEATURES + 1) {
        return Err(damaged(format!("{} bytes instead of {}", bytes.len(), ROWS * (FEATURES + 1))));
    }
    let (pixels, labels) = bytes.split_at(ROWS * FEATURES);
    if let Some(at) = pixels.iter().position(|&pixel| pixel > FULL_INK) {
        return Err(damaged(format!("pixel {at} is {}, above {FULL_INK}", pixels[at])));
    }

    let (train_pixels, test_pixels) = pixels.split_at((ROWS - TEST_ROWS) * FEATURES);
    let (train_labels, test_labels) = labels.split_at(ROWS - TEST_ROWS);
    Ok(Dataset {
        name: NAME.to_owned(),
        shape: vec![FEATURES],
        image: [1, HEIGHT, WIDTH],
        classes: CLASSES,
        class_names: CLASS_NAMES.map(str::to_owned).to_vec(),
        standardization: None,
        notes: Vec::new(),
        train: split(train_pixels, train_labels)?,
        test: split(test_pixels, test_labels)?,
    })
}

fn split(pixels: &[u8], labels: &[u8]) -> Result<Split, DataError> {
    let inputs = pixels.iter().map(|&pixel| f32::from(pixel) / f32::from(FULL_INK)).collect();
    let labels = labels.iter().map(|&label| u32::from(label)).collect();
    Ok(Split::new(inputs, FEATURES, labels, CLASSES)?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use sha2::{Digest, Sha256};

    use super::*;

    /// The first and the last image, read off scikit-learn's `load_digits`.
    const FIRST: [u8; FEATURES] = [
        0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0, 0, 3, 15, 2, 0, 11, 8, 0, 0, 4, 12, 0, 0, 8, 8, 0, 0, 5,
        8, 0, 0, 9, 8, 0, 0, 4, 11, 0, 1, 12, 7, 0, 0, 2, 14, 5, 10, 12, 0, 0, 0, 0, 6, 13, 10, 0, 0, 0,
    ];
    const LAST: [u8; FEATURES] = [
        0, 0, 10, 14, 8, 1, 0, 0, 0, 2, 16, 14, 6, 1, 0, 0, 0, 0, 15, 15, 8, 15, 0, 0, 0, 0, 5, 16, 16, 10, 0, 0, 0, 0,
        12, 15, 15, 12, 0, 0, 0, 4, 16, 6, 4, 16, 6, 0, 0, 8, 16, 10, 8, 16, 8, 0, 0, 1, 8, 12, 14, 12, 1, 0,
    ];

    fn unpacked() -> Vec<u8> {
        let mut bytes = Vec::new();
        GzDecoder::new(PACKED).read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn pack(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn class_counts(split: &Split) -> [usize; CLASSES] {
        let mut counts = [0; CLASSES];
        for &label in &split.labels {
            counts[label as usize] += 1;
        }
        counts
    }

    #[test]
    fn the_embedded_bytes_are_those_of_the_packing_script() {
        let digest: String = Sha256::digest(unpacked()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826");
    }

    #[test]
    fn sizes_classes_and_sums_are_those_of_scikit_learn() {
        let digits = load().unwrap();
        assert_eq!((digits.train.len(), digits.test.len()), (1500, 297));
        assert_eq!((digits.shape.as_slice(), digits.classes), (&[64][..], 10));
        assert_eq!(digits.image, [1, 8, 8]);
        assert_eq!(class_counts(&digits.test), [27, 31, 27, 30, 33, 30, 30, 30, 28, 31]);
        let all: Vec<usize> = class_counts(&digits.train)
            .iter()
            .zip(class_counts(&digits.test))
            .map(|(train, test)| train + test)
            .collect();
        assert_eq!(all, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        let ink = |split: &Split| split.inputs.iter().map(|&x| f64::from(x)).sum::<f64>() * 16.0;
        assert_eq!(ink(&digits.train), 468_645.0);
        assert_eq!(ink(&digits.test), 561_718.0 - 468_645.0);
    }

    #[test]
    fn order_and_scale_are_kept() {
        let digits = load().unwrap();
        let scaled = |image: [u8; FEATURES]| image.map(|pixel| f32::from(pixel) / 16.0);
        assert_eq!(digits.train.row(0), scaled(FIRST));
        assert_eq!(digits.test.row(TEST_ROWS - 1), scaled(LAST));
        assert_eq!(digits.train.labels[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(digits.test.labels[TEST_ROWS - 5..], [9, 0, 8, 9, 8]);
        assert!(digits.train.inputs.contains(&1.0));
    }

    #[test]
    fn damage_is_reported_not_trusted() {
        let good = unpacked();
        let mut pale = good.clone();
        pale[70] = 17;
        let mut eleventh = good.clone();
        *eleventh.last_mut().unwrap() = 10;
        for (what, packed) in [
            ("cut gzip", PACKED[..PACKED.len() / 2].to_vec()),
            ("short", pack(&good[1..])),
            ("long", pack(&[&good[..], &[0]].concat())),
            ("pixel above 16", pack(&pale)),
            ("label above 9", pack(&eleventh)),
        ] {
            assert!(unpack(&packed).is_err(), "{what}");
        }
    }
}
