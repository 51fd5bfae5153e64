//! The one entry of EXIF data that says something of the pixels: how to turn them.

/// The tag of the orientation (Exif 2.3, 4.6.4).
const ORIENTATION: u16 = 0x0112;
const SHORT: u16 = 3;

/// Whether EXIF data, from its TIFF header on, say that the image is to be turned or mirrored before it is shown.
pub(super) fn is_turned(tiff: &[u8]) -> bool {
    orientation(tiff).is_some_and(|value| (2..=8).contains(&value))
}

/// The orientation, 1 to 8, in the first directory. Damaged data have none: they do not matter for the pixels.
fn orientation(tiff: &[u8]) -> Option<u16> {
    let big_endian = match tiff.get(..4)? {
        b"MM\0*" => true,
        b"II*\0" => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let bytes = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    let u32_at = |at: usize| {
        let bytes = tiff.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    let directory = u32_at(4)? as usize;
    let entries = usize::from(u16_at(directory)?);
    let mut places = (0..entries).map(|entry| directory + 2 + 12 * entry);
    let at = places.find(|&at| u16_at(at) == Some(ORIENTATION))?;
    // The value stands in the entry itself: one number of two bytes.
    (u16_at(at + 2) == Some(SHORT) && u32_at(at + 4) == Some(1)).then(|| u16_at(at + 8)).flatten()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// EXIF data with another entry and the orientation.
    pub fn data(big_endian: bool, value: u16) -> Vec<u8> {
        let two = |x: u16| if big_endian { x.to_be_bytes() } else { x.to_le_bytes() };
        let four = |x: u32| if big_endian { x.to_be_bytes() } else { x.to_le_bytes() };
        let mut bytes = if big_endian { b"MM\0*".to_vec() } else { b"II*\0".to_vec() };
        bytes.extend(four(8));
        bytes.extend(two(2));
        for (tag, value) in [(0x0100, 640), (ORIENTATION, value)] {
            bytes.extend([two(tag), two(SHORT)].concat());
            bytes.extend(four(1));
            bytes.extend([two(value), two(0)].concat());
        }
        bytes.extend(four(0));
        bytes
    }

    #[test]
    fn orientations_are_read_in_both_byte_orders() {
        for big_endian in [true, false] {
            for value in 0..=9 {
                let bytes = data(big_endian, value);
                assert_eq!(orientation(&bytes), Some(value));
                assert_eq!(is_turned(&bytes), (2..=8).contains(&value));
            }
        }
    }

    #[test]
    fn damaged_data_have_no_orientation() {
        let bytes = data(true, 6);
        for end in 0..bytes.len() - 6 {
            assert!(!is_turned(&bytes[..end]), "{end} bytes");
        }
        let mut far = bytes.clone();
        far[4..8].fill(0xff);
        assert!(!is_turned(&far));
        assert!(!is_turned(b"\xff\xd8\xff\xe0 a thumbnail"));
    }
}
