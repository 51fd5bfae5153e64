//! Decoding one PNG or JPEG file, grey or colour, to numbers between 0 and 1.
//!
//! The format is told by the first bytes, not by the name. Sizes are known from the header before any memory is taken
//! for pixels.

use std::fs;
use std::io::{self, Cursor};
use std::path::Path;

use thiserror::Error;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::at::{At, InFile};
use super::exif::is_turned;

const PNG_MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";
const JPEG_MAGIC: &[u8] = &[0xff, 0xd8, 0xff];

/// More pixels than any image that a network would be trained on; it bounds the memory for one image.
const MOST_PIXELS: usize = 1 << 26;
/// Bytes that a byte of deflated data unpacks to at most: 258 for a match of two bits.
const MOST_DEFLATED: usize = 1032;
/// Bytes of a palette at most: three for each of 256 colours.
const MOST_PALETTE: usize = 3 * 256;
/// Pixels to a byte of a JPEG file at most: each block of 64 takes a bit at least (ITU-T T.81, F.1.2.1), and some components are
/// stored at half the width and height.
const MOST_JPEG: usize = 64 * 8 * 4;

/// What the header of an image file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub height: usize,
    pub width: usize,
    /// Whether it has colours; palettes do if one of theirs is not grey.
    pub colour: bool,
    /// Whether it has an EXIF orientation by which it is to be turned or mirrored. That is not done here.
    pub turned: bool,
}

/// An image file that cannot be used.
pub type PictureError = At<Fault>;

/// What is wrong with an image file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Fault {
    /// The system could not read it.
    #[error("cannot be read ({0})")]
    Io(io::Error),
    /// It begins like neither of the two formats.
    #[error("neither a PNG nor a JPEG file{}, whatever its name says", but(.found))]
    Format {
        /// The format that it is of, if it is a known one.
        found: Option<&'static str>,
    },
    /// Its colours are those of print.
    #[error("its colours are {0}, not grey or RGB")]
    Colours(&'static str),
    /// It is damaged or cut off, or uses a rare variant of its format.
    #[error("cannot be decoded ({0})")]
    Decode(String),
    /// It is absurdly large.
    #[error("{height}x{width} pixels are more than {MOST_PIXELS}")]
    TooLarge { height: usize, width: usize },
    /// Some of its pixels are transparent, so their colour depends on what lies behind.
    #[error("has transparent pixels")]
    Transparent,
}

fn but(found: &Option<&'static str>) -> String {
    found.map_or(String::new(), |found| format!(" but {found}"))
}

impl Fault {
    /// What the user can do about the file.
    pub fn remedy(&self) -> &'static str {
        match self {
            Fault::Io(_) => "check the file's permissions, or remove it",
            Fault::Format { .. } => "convert it to PNG or JPEG, or remove it",
            Fault::Colours(_) => "convert the file, in Pillow by convert(\"RGB\")",
            Fault::Decode(_) => "replace or remove the file",
            Fault::TooLarge { .. } => "scale it down, or remove it",
            Fault::Transparent => "lay it on a background first",
        }
    }
}

/// Size and colour of an image file.
pub fn read_header(path: &Path) -> Result<Header, PictureError> {
    let bytes = fs::read(path).map_err(|error| Fault::Io(error).at(path))?;
    let header = match format_of(&bytes) {
        Some(Format::Png) => png_reader(&bytes).map(|(_, header)| header),
        Some(Format::Jpeg) => jpeg_decoder(&bytes).map(|(_, header)| header),
        None => Err(unknown(&bytes)),
    };
    header.map_err(|fault| fault.at(path))
}

/// Decodes an image of `channels` 1 or 3 into `out: [channels, height, width]`. A grey image fills three channels
/// alike; a colour image needs three.
///
/// # Panics
///
/// If `out` has not the size of the file's header (which [`read_header`] gives) in `channels` channels.
pub fn decode(path: &Path, channels: usize, out: &mut [f32]) -> Result<(), PictureError> {
    let bytes = fs::read(path).map_err(|error| Fault::Io(error).at(path))?;
    let decoded = match format_of(&bytes) {
        Some(Format::Png) => decode_png(&bytes),
        Some(Format::Jpeg) => decode_jpeg(&bytes),
        None => Err(unknown(&bytes)),
    };
    let Pixels { samples, per_pixel } = decoded.map_err(|fault| fault.at(path))?;
    assert_eq!(samples.len() / per_pixel * channels, out.len(), "the file has the size that its header had");
    let size = out.len() / channels;
    for (channel, plane) in out.chunks_exact_mut(size).enumerate() {
        // Grey, or grey and alpha, has its one colour in the first sample.
        let at = if per_pixel < 3 { 0 } else { channel };
        for (x, pixel) in plane.iter_mut().zip(samples.chunks_exact(per_pixel)) {
            *x = pixel[at];
        }
    }
    Ok(())
}

enum Format {
    Png,
    Jpeg,
}

fn format_of(bytes: &[u8]) -> Option<Format> {
    match bytes {
        _ if bytes.starts_with(PNG_MAGIC) => Some(Format::Png),
        _ if bytes.starts_with(JPEG_MAGIC) => Some(Format::Jpeg),
        _ => None,
    }
}

/// The fault of a file in another format.
fn unknown(bytes: &[u8]) -> Fault {
    let found = match bytes {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("WebP"),
        [b'G', b'I', b'F', b'8', ..] => Some("GIF"),
        [b'B', b'M', ..] => Some("BMP"),
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => Some("TIFF"),
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', b'f', ..] => Some("AVIF"),
        [_, _, _, _, b'f', b't', b'y', b'p', b'h', b'e', b'i', ..] => Some("HEIC"),
        [] => Some("empty"),
        _ => None,
    };
    Fault::Format { found }
}

type PngReader<'a> = png::Reader<Cursor<&'a [u8]>>;
type JpegReader<'a> = JpegDecoder<ZCursor<&'a [u8]>>;

/// Interleaved samples between 0 and 1.
struct Pixels {
    samples: Vec<f32>,
    per_pixel: usize,
}

fn header(height: usize, width: usize, colour: bool, exif: Option<&[u8]>) -> Result<Header, Fault> {
    match height.checked_mul(width) {
        Some(1..=MOST_PIXELS) => Ok(Header { height, width, colour, turned: exif.is_some_and(is_turned) }),
        _ => Err(Fault::TooLarge { height, width }),
    }
}

fn undecodable(error: impl std::fmt::Display) -> Fault {
    // Some of the decoders' messages end with the end of a line.
    Fault::Decode(error.to_string().trim().replace('\n', " "))
}

fn png_reader(bytes: &[u8]) -> Result<(PngReader<'_>, Header), Fault> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    // Palettes become colours, one to four bits become eight, a transparent colour becomes an alpha channel.
    decoder.set_transformations(png::Transformations::EXPAND);
    let reader = decoder.read_info().map_err(undecodable)?;
    let info = reader.info();
    let colour = match info.color_type {
        png::ColorType::Grayscale | png::ColorType::GrayscaleAlpha => false,
        png::ColorType::Indexed => info.palette.as_deref().is_none_or(|palette| !is_grey(palette)),
        png::ColorType::Rgb | png::ColorType::Rgba => true,
    };
    let exif = info.exif_metadata.as_deref();
    let header = header(info.height as usize, info.width as usize, colour, exif)?;
    if info.raw_row_length().saturating_mul(header.height) > bytes.len().saturating_mul(MOST_DEFLATED) {
        return Err(undecodable("it is too short for its pixels"));
    }
    // Relied on by the decoder, but not checked.
    if info.palette.as_ref().is_some_and(|palette| palette.len() % 3 != 0 || palette.len() > MOST_PALETTE) {
        return Err(undecodable("its palette is not a list of up to 256 colours"));
    }
    Ok((reader, header))
}

/// Whether all colours of a palette are grey.
fn is_grey(palette: &[u8]) -> bool {
    palette.as_chunks::<3>().0.iter().all(|[red, green, blue]| red == green && green == blue)
}

fn decode_png(bytes: &[u8]) -> Result<Pixels, Fault> {
    let (mut reader, _) = png_reader(bytes)?;
    let (kind, depth) = reader.output_color_type();
    let size = reader.output_buffer_size().ok_or_else(|| undecodable("its size overflows"))?;
    let mut buffer = vec![0; size];
    reader.next_frame(&mut buffer).map_err(undecodable)?;
    let samples: Vec<f32> = match depth {
        png::BitDepth::Sixteen => {
            let pairs = buffer.chunks_exact(2);
            pairs.map(|pair| f32::from(u16::from_be_bytes([pair[0], pair[1]])) / 65535.0).collect()
        }
        _ => buffer.iter().map(|&byte| f32::from(byte) / 255.0).collect(),
    };
    let per_pixel = kind.samples();
    let alpha = matches!(kind, png::ColorType::GrayscaleAlpha | png::ColorType::Rgba);
    if alpha && samples.chunks_exact(per_pixel).any(|pixel| pixel[per_pixel - 1] < 1.0) {
        return Err(Fault::Transparent);
    }
    Ok(Pixels { samples, per_pixel })
}

fn jpeg_decoder(bytes: &[u8]) -> Result<(JpegReader<'_>, Header), Fault> {
    // Strict: a file that is cut off is an error, not an image that ends in grey.
    let options = DecoderOptions::new_safe().set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(undecodable)?;
    let info = decoder.info().ok_or_else(|| undecodable("it has no header"))?;
    let colour = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => false,
        Some(ColorSpace::YCbCr | ColorSpace::RGB) => true,
        Some(ColorSpace::CMYK) => return Err(Fault::Colours("CMYK")),
        Some(ColorSpace::YCCK) => return Err(Fault::Colours("YCCK (a form of CMYK)")),
        _ => return Err(Fault::Colours("of an unknown kind")),
    };
    let exif = decoder.exif().map(|bytes| &bytes[..]);
    let header = header(usize::from(info.height), usize::from(info.width), colour, exif)?;
    if header.height * header.width > bytes.len().saturating_mul(MOST_JPEG) {
        return Err(undecodable("it is too short for its pixels"));
    }
    decoder.set_options(options.jpeg_set_out_colorspace(if colour { ColorSpace::RGB } else { ColorSpace::Luma }));
    Ok((decoder, header))
}

fn decode_jpeg(bytes: &[u8]) -> Result<Pixels, Fault> {
    let (mut decoder, header) = jpeg_decoder(bytes)?;
    if !is_whole_jpeg(bytes) {
        return Err(undecodable("it is cut off: its last scan has no end"));
    }
    let samples = decoder.decode().map_err(undecodable)?;
    let samples = samples.into_iter().map(|byte| f32::from(byte) / 255.0).collect();
    Ok(Pixels { samples, per_pixel: if header.colour { 3 } else { 1 } })
}

/// Whether the last start of a scan is followed by an end of image. The decoder fills what a file that is cut off lacks
/// with grey, even when it is strict. (Neither marker can occur in a scan's data, ITU-T T.81, B.1.1.5.)
fn is_whole_jpeg(bytes: &[u8]) -> bool {
    let last = |marker: [u8; 2]| bytes.windows(2).rposition(|pair| pair == marker);
    last([0xff, 0xd9]) > last([0xff, 0xda])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    /// `tests/data/images`: files of Pillow's and the samples that Pillow reads from them, `[height][width][channels]`.
    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/images")
    }

    #[derive(serde::Deserialize)]
    struct Expected {
        most: f64,
        samples: Vec<Vec<Vec<f64>>>,
    }

    fn fault(bytes: &[u8]) -> Fault {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("image.png");
        fs::write(&path, bytes).unwrap();
        let result = read_header(&path).and_then(|found| {
            let mut out = vec![0.0; 3 * found.height * found.width];
            decode(&path, 3, &mut out)
        });
        result.unwrap_err().fault
    }

    #[test]
    fn every_kind_of_file_has_pillows_samples() {
        let text = fs::read_to_string(folder().join("expected.json")).unwrap();
        let table: BTreeMap<String, Expected> = serde_json::from_str(&text).unwrap();
        assert!(table.len() >= 8);
        for (name, expected) in table {
            let path = folder().join(&name);
            let found = read_header(&path).unwrap();
            let (height, width) = (expected.samples.len(), expected.samples[0].len());
            let channels = expected.samples[0][0].len();
            assert_eq!(found, Header { height, width, colour: channels == 3, turned: false }, "{name}");
            let mut out = vec![f32::NAN; channels * height * width];
            decode(&path, channels, &mut out).unwrap();
            // Decoders of JPEG may round differently, by a step or two of 255.
            let tolerance = if name.ends_with(".jpg") { 2.5 / 255.0 } else { 1e-6 };
            for (at, x) in out.iter().enumerate() {
                let (channel, pixel) = (at / (height * width), at % (height * width));
                let value = expected.samples[pixel / width][pixel % width][channel] / expected.most;
                assert!((f64::from(*x) - value).abs() <= tolerance, "{name}, entry {at}: {x}, Pillow has {value}");
            }
        }
    }

    #[test]
    fn a_grey_image_fills_three_channels_alike() {
        let path = folder().join("grey.png");
        let size = 5 * 4;
        let (mut one, mut three) = (vec![0.0; size], vec![0.0; 3 * size]);
        decode(&path, 1, &mut one).unwrap();
        decode(&path, 3, &mut three).unwrap();
        assert_eq!(three, [&one[..], &one, &one].concat());
    }

    #[test]
    fn every_truncation_is_an_error() {
        for name in ["rgb.png", "rgb.jpg", "progressive.jpg"] {
            let bytes = fs::read(folder().join(name)).unwrap();
            // The last chunk of a PNG file is empty: all pixels are there without it.
            let tail = if name.ends_with(".png") { 12 } else { 0 };
            for end in 0..bytes.len() - tail {
                assert!(matches!(fault(&bytes[..end]), Fault::Format { .. } | Fault::Decode(_)), "{name}, {end} bytes");
            }
        }
    }

    #[test]
    fn other_files_and_transparent_pixels_are_refused() {
        assert!(matches!(fault(b"no image"), Fault::Format { found: None }));
        for (bytes, name) in [
            (&b""[..], "empty"),
            (b"GIF89a", "GIF"),
            (b"BM\0\0", "BMP"),
            (b"II*\0", "TIFF"),
            (b"RIFF\0\0\0\0WEBPVP8L", "WebP"),
            (b"\0\0\0\x1cftypavif", "AVIF"),
            (b"\0\0\0\x1cftypheic", "HEIC"),
        ] {
            assert!(matches!(fault(bytes), Fault::Format { found: Some(found) } if found == name), "{name}");
        }
        assert!(matches!(fault(&fs::read(folder().join("transparent.png")).unwrap()), Fault::Transparent));
        let missing = read_header(&folder().join("no such file.png")).unwrap_err();
        assert!(matches!(missing.fault, Fault::Io(_)));
    }

    /// A PNG file with other chunks behind its header, or in the place of its header.
    fn with_chunks(bytes: &[u8], chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let chunks = chunks.iter().flat_map(|(name, data)| {
            let body = [&name[..], data].concat();
            let length = (data.len() as u32).to_be_bytes();
            [&length[..], &body, &crc32(&body).to_be_bytes()].concat()
        });
        bytes[..33].iter().copied().chain(chunks).chain(bytes[33..].iter().copied()).collect()
    }

    fn header_of(bytes: &[u8]) -> Header {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("image");
        fs::write(&path, bytes).unwrap();
        read_header(&path).unwrap()
    }

    #[test]
    fn orientations_are_told_and_not_applied() {
        let png = fs::read(folder().join("grey.png")).unwrap();
        let exif = |value| super::super::exif::tests::data(true, value);
        assert!(header_of(&with_chunks(&png, &[(b"eXIf", &exif(6))])).turned);
        assert!(!header_of(&with_chunks(&png, &[(b"eXIf", &exif(1))])).turned);
        assert!(!header_of(&png).turned);
        let jpeg = fs::read(folder().join("rgb.jpg")).unwrap();
        let body = [&b"Exif\0\0"[..], &exif(3)[..]].concat();
        let length = (2 + body.len() as u16).to_be_bytes();
        let turned = [&jpeg[..2], b"\xff\xe1", &length, &body, &jpeg[2..]].concat();
        let (plain, told) = (header_of(&jpeg), header_of(&turned));
        assert_eq!(told, Header { turned: true, ..plain });
    }

    #[test]
    fn a_palette_of_greys_is_grey() {
        let mut encoded = Vec::new();
        for (palette, colour) in [([0, 0, 0, 9, 9, 9], false), ([0, 0, 0, 9, 9, 8], true)] {
            encoded.clear();
            let mut encoder = png::Encoder::new(&mut encoded, 3, 2);
            encoder.set_color(png::ColorType::Indexed);
            encoder.set_palette(palette.to_vec());
            encoder.write_header().unwrap().write_image_data(&[1, 0, 1, 0, 1, 0]).unwrap();
            assert_eq!(header_of(&encoded), Header { height: 2, width: 3, colour, turned: false });
            let folder = TempDir::new().unwrap();
            let path = folder.path().join("image.png");
            fs::write(&path, &encoded).unwrap();
            let mut out = vec![0.0; 6];
            decode(&path, 1, &mut out).unwrap();
            assert_eq!(out, [1, 0, 1, 0, 1, 0].map(|on| on as f32 * 9.0 / 255.0));
        }
    }

    #[test]
    fn a_header_that_promises_too_much_takes_no_memory() {
        let mut bytes = fs::read(folder().join("grey.png")).unwrap();
        // The width, and the checksum of the header, which is computed over its type and data.
        bytes[16..20].copy_from_slice(&0x7fff_ffff_u32.to_be_bytes());
        let crc = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.to_be_bytes());
        assert!(matches!(fault(&bytes), Fault::TooLarge { .. } | Fault::Decode(_)));
    }

    /// The checksum of PNG chunks (ISO 3309).
    fn crc32(bytes: &[u8]) -> u32 {
        let step = |crc: u32, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
        !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
    }
}
