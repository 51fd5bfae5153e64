//! The format of `.npy` files (NumPy Enhancement Proposal 1): a magic string, a version, the length of the header, the
//! header (a Python dictionary, padded so that the data begin at a multiple of 64 bytes), the data.

use std::fmt::Write;

const MAGIC: &[u8] = b"\x93NUMPY";
/// The data begin at a multiple of this.
const ALIGNMENT: usize = 64;

/// What the header says.
#[derive(Debug, PartialEq)]
pub(super) struct Header<'a> {
    /// The type of the elements; `None` if they are records.
    pub kind: Option<Kind<'a>>,
    /// Whether the first index goes fastest, as in Fortran.
    pub columns_first: bool,
    pub shape: Vec<usize>,
}

/// The type of elements, such as `<f8`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Kind<'a> {
    pub text: &'a str,
    pub big_endian: bool,
    /// `f`, `i`, `u`, `b`, ...
    pub letter: char,
    /// Bytes, of strings: letters.
    pub size: usize,
}

impl Kind<'_> {
    fn parse(text: &str) -> Option<Kind<'_>> {
        let order = text.chars().next().filter(|order| "<>|=".contains(*order))?;
        let letter = text[1..].chars().next().filter(char::is_ascii_alphabetic)?;
        // Objects have no size; dates have a unit behind theirs.
        let digits = text[2..].split('[').next().unwrap_or_default();
        let size = if digits.is_empty() { 0 } else { digits.parse().ok()? };
        Some(Kind { text, big_endian: order == '>', letter, size })
    }
}

/// Takes a file apart into its header and its data.
///
/// # Errors
/// In words, if it is not a `.npy` file, or ends within the header.
pub(super) fn read(bytes: &[u8]) -> Result<(Header<'_>, &[u8]), String> {
    let Some(rest) = bytes.strip_prefix(MAGIC) else { return Err("it does not begin as one".to_owned()) };
    let (length, rest) = match rest {
        [1, _, low, high, rest @ ..] => (usize::from(u16::from_le_bytes([*low, *high])), rest),
        [2..=3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        [4..=u8::MAX, ..] => return Err(format!("its version {} is not known", rest[0])),
        _ => return Err("it ends within its header".to_owned()),
    };
    let Some((header, data)) = rest.split_at_checked(length) else {
        return Err("it ends within its header".to_owned());
    };
    let text = std::str::from_utf8(header).map_err(|_| "its header is not text".to_owned())?;
    let header = Parser(text).header().ok_or("its header is not one of an array")?;
    Ok((header, data))
}

/// A reader of the few Python expressions that headers consist of.
struct Parser<'a>(&'a str);

impl<'a> Parser<'a> {
    /// Passes over spaces, then over `token` if it comes.
    fn take(&mut self, token: &str) -> bool {
        self.0 = self.0.trim_start();
        self.0.strip_prefix(token).map(|rest| self.0 = rest).is_some()
    }

    fn header(&mut self) -> Option<Header<'a>> {
        let (mut kind, mut columns_first, mut shape) = (None, None, None);
        self.take("{").then_some(())?;
        while !self.take("}") {
            let key = self.string()?;
            self.take(":").then_some(())?;
            match key {
                "descr" => kind = Some(self.kind()?),
                "fortran_order" => columns_first = Some(self.truth()?),
                "shape" => shape = Some(self.shape()?),
                _ => return None,
            }
            if !self.take(",") {
                self.take("}").then_some(())?;
                break;
            }
        }
        self.0.trim().is_empty().then_some(())?;
        Some(Header { kind: kind?, columns_first: columns_first?, shape: shape? })
    }

    /// A string without escapes.
    fn string(&mut self) -> Option<&'a str> {
        let quote = if self.take("'") { '\'' } else { self.take("\"").then_some('"')? };
        let (text, rest) = self.0.split_once(quote)?;
        self.0 = rest;
        (!text.contains('\\')).then_some(text)
    }

    /// The type, or `None` for a list of fields, over which it passes.
    fn kind(&mut self) -> Option<Option<Kind<'a>>> {
        if !self.take("[") {
            return Some(Some(Kind::parse(self.string()?)?));
        }
        let mut depth = 1;
        while depth > 0 {
            let next = self.0.chars().next()?;
            match next {
                '[' => depth += 1,
                ']' => depth -= 1,
                // Names of fields may have brackets.
                '\'' | '"' => {
                    self.string()?;
                    continue;
                }
                _ => {}
            }
            self.0 = &self.0[next.len_utf8()..];
        }
        Some(None)
    }

    fn truth(&mut self) -> Option<bool> {
        if self.take("True") { Some(true) } else { self.take("False").then_some(false) }
    }

    fn shape(&mut self) -> Option<Vec<usize>> {
        self.take("(").then_some(())?;
        let mut shape = Vec::new();
        while !self.take(")") {
            self.0 = self.0.trim_start();
            let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
            shape.push(self.0[..end].parse().ok()?);
            self.0 = &self.0[end..];
            // As Python 2 wrote long numbers.
            self.take("L");
            if !self.take(",") {
                self.take(")").then_some(())?;
                break;
            }
        }
        Some(shape)
    }
}

/// A number that arrays are written of.
pub trait Element: Copy {
    /// The type in headers.
    const KIND: &'static str;

    fn put(self, bytes: &mut Vec<u8>);
}

macro_rules! elements {
    ($($type:ty: $kind:literal),*) => {
        $(impl Element for $type {
            const KIND: &'static str = $kind;

            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
        })*
    };
}

elements!(u8: "|u1", u32: "<u4", u64: "<u8", i64: "<i8", f32: "<f4", f64: "<f8");

/// The file of an array with the given values, row-major.
pub(super) fn file<V: Element>(shape: &[u64], values: &[V]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{}', 'fortran_order': False, 'shape': (", V::KIND);
    for side in shape {
        let _ = write!(header, "{side}, ");
    }
    header.push_str("), }");
    let before = MAGIC.len() + 4;
    let length = (before + header.len() + 1).next_multiple_of(ALIGNMENT) - before;
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.resize(before + length - 1, b' ');
    bytes.push(b'\n');
    bytes.reserve_exact(size_of_val(values));
    values.iter().for_each(|value| value.put(&mut bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for shape in [&[][..], &[3], &[2, 0, 12345678901]] {
            let bytes = file(shape, &[1.5f64, -2.0]);
            let (header, data) = read(&bytes).unwrap();
            let kind = Kind { text: "<f8", big_endian: false, letter: 'f', size: 8 };
            let shape: Vec<usize> = shape.iter().map(|side| *side as usize).collect();
            assert_eq!(header, Header { kind: Some(kind), columns_first: false, shape });
            assert_eq!(data, [1.5f64.to_le_bytes(), (-2.0f64).to_le_bytes()].concat());
            assert_eq!((bytes.len() - data.len()) % 64, 0);
        }
    }

    #[test]
    fn headers_are_read_as_python_may_write_them() {
        let parse = |text: &'static str| Parser(text).header();
        let header = parse("{\"shape\" : ( 3L ,4),'fortran_order':True, 'descr': '>u2'} \n").unwrap();
        assert_eq!((header.shape, header.columns_first), (vec![3, 4], true));
        assert_eq!(header.kind.unwrap(), Kind { text: ">u2", big_endian: true, letter: 'u', size: 2 });
        let records = "{'descr': [('a]', '<f4', (2,)), ('b', [('c', '<i2')])], 'fortran_order': False, 'shape': (), }";
        assert_eq!(parse(records).unwrap(), Header { kind: None, columns_first: false, shape: vec![] });
        assert_eq!(parse("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}").unwrap().kind.unwrap().letter, 'O');
        for broken in [
            "",
            "{}",
            "{'descr': '<f4', 'fortran_order': False}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
            "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}",
            "{'descr': 'f', 'fortran_order': False, 'shape': (2,)}",
            "{'descr': [, 'fortran_order': False, 'shape': (2,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} more",
            "{'descr': '<ä4', 'fortran_order': False, 'shape': (2,)}",
        ] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }
}
