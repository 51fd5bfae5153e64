//! Damaging inputs.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What files are packed in: damage inside would be caught by a checksum before it is read, so some inputs are packed again.
#[derive(Clone, Copy)]
pub enum Wrap {
    None,
    /// The checksums of chunks are made right.
    Png,
    /// Unpacked, damaged, packed.
    Gzip,
    /// The same, and the checksums of headers are made right.
    TarGz,
}

/// Values at which arithmetic breaks.
const EDGES: [u64; 12] =
    [0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX];

/// Pieces of text formats.
const WORDS: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "=",
    "\n",
    ",",
    "-1",
    "0",
    "1e999",
    "nan",
    "9223372036854775807",
    "18446744073709551616",
    "null",
    "true",
    "\\u0000",
    "\u{e9}",
    "dense",
    "conv",
    "format",
    "shape",
    "data_offsets",
    "[[optimizer]]",
];

/// One reproducible mutation.
pub struct Mutator(ChaCha8Rng);

impl Mutator {
    /// The `number`-th of a target.
    pub fn new(target: &str, number: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(target.bytes().fold(0, |seed, byte| seed * 31 + u64::from(byte)));
        rng.set_stream(number);
        Self(rng)
    }

    fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { self.0.random_range(0..end) }
    }

    /// A damaged seed.
    pub fn input(&mut self, seeds: &[Vec<u8>], wrap: Wrap) -> Vec<u8> {
        let seed = &seeds[self.below(seeds.len())];
        let inside = self.below(4) > 0;
        match wrap {
            Wrap::Gzip | Wrap::TarGz if inside => {
                let mut bytes = unpacked(seed);
                self.damage(&mut bytes, seeds);
                if matches!(wrap, Wrap::TarGz) {
                    fix_tar(&mut bytes);
                }
                packed(&bytes)
            }
            _ => {
                let mut bytes = seed.clone();
                self.damage(&mut bytes, seeds);
                if inside && matches!(wrap, Wrap::Png) {
                    fix_png(&mut bytes);
                }
                bytes
            }
        }
    }

    fn damage(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        for _ in 0..1 + self.below(6) {
            let at = self.below(bytes.len() + 1);
            // Headers come first and matter most.
            let at = if self.below(2) == 0 { at.min(self.below(256)) } else { at };
            let length = self.below(1 + bytes.len() - at).min(1 << self.below(12));
            match self.below(9) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = self.below(256) as u8,
                2 => {
                    let (value, size) = (EDGES[self.below(EDGES.len())], 1 << self.below(4));
                    let ordered = if self.below(2) == 0 { value.to_le_bytes() } else { value.to_be_bytes() };
                    let piece = if self.below(2) == 0 { &ordered[..size] } else { &ordered[8 - size..] };
                    bytes.iter_mut().skip(at).zip(piece).for_each(|(byte, new)| *byte = *new);
                }
                3 => drop(bytes.drain(at..at + length)),
                4 => {
                    let copy = bytes[at..at + length].to_vec();
                    bytes.splice(at..at, copy);
                }
                5 => bytes.truncate(at),
                6 => {
                    let word = WORDS[self.below(WORDS.len())].bytes();
                    let end = if self.below(2) == 0 { at } else { at + length.min(8) };
                    bytes.splice(at..end, word);
                }
                7 => {
                    // A number in a text becomes another.
                    let digit = bytes.iter().skip(at).position(u8::is_ascii_digit).map(|found| found + at);
                    if let Some(digit) = digit {
                        let end = digit + bytes[digit..].iter().take_while(|b| b.is_ascii_digit()).count();
                        let value = EDGES[self.below(EDGES.len())].to_string();
                        bytes.splice(digit..end, value.into_bytes());
                    }
                }
                _ => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len() + 1);
                    let to = from + self.below(1 + other.len() - from);
                    bytes.splice(at..at + length, other[from..to].iter().copied());
                }
            }
            bytes.truncate(1 << 17);
        }
    }
}

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(bytes), &mut out) {
        Ok(_) => out,
        Err(_) => bytes.to_vec(),
    }
}

/// A gzip file of stored blocks (RFC 1951, 3.2.4; RFC 1952).
fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let count = bytes.len().div_ceil(0xffff).max(1);
    for (number, block) in (1..).zip(bytes.chunks(0xffff).chain(bytes.is_empty().then_some(&[][..]))) {
        let length = block.len() as u16;
        out.push(u8::from(number == count));
        out.extend(length.to_le_bytes().into_iter().chain((!length).to_le_bytes()));
        out.extend(block);
    }
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    out.extend(crc.sum().to_le_bytes().into_iter().chain(crc.amount().to_le_bytes()));
    out
}

/// Makes the checksums of PNG chunks right (length, type, data, CRC-32 of type and data).
fn fix_png(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let (start, Some(end)) = (at + 4, (at + 8).checked_add(length)) else { return };
        if end + 4 > bytes.len() {
            return;
        }
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[start..end]);
        bytes[end..end + 4].copy_from_slice(&crc.sum().to_be_bytes());
        at = end + 4;
    }
}

/// Makes the checksums of tar headers right: the sum of the header's bytes, its own taken for blanks.
fn fix_tar(bytes: &mut [u8]) {
    for header in bytes.chunks_exact_mut(512).filter(|header| header[257..262] == *b"ustar") {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
