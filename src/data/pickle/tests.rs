use std::{fs, path::Path};

use super::*;

/// Files that Python's and NumPy's own writers made (and one as Python 2 did): `data` is `[2, 6]` with the entries `21 i % 256`, `labels`
/// are 3 and 9.
fn file(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fuzz/pickle").join(name)).unwrap()
}

fn expected() -> Vec<u8> {
    (0..12).map(|i| (21 * i % 256) as u8).collect()
}

fn fault(bytes: &[u8]) -> PickleFault {
    read(bytes).unwrap_err()
}

#[test]
fn all_protocols_give_the_same_arrays_and_lists() {
    for name in ["python2.pkl", "protocol2.pkl", "protocol3.pkl", "protocol4.pkl", "protocol5.pkl"] {
        let bytes = file(name);
        let pickle = read(&bytes).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let root = pickle.root();
        let data = pickle.array(pickle.get(root, "data").unwrap()).unwrap();
        assert_eq!((&data.shape[..], data.dtype, data.columns_first), (&[2, 6][..], &b"u1"[..], false), "{name}");
        assert_eq!(data.data.to_vec(), expected(), "{name}");
        let labels = pickle.list(pickle.get(root, "labels").unwrap()).unwrap();
        assert_eq!(labels.iter().map(|&id| pickle.int(id)).collect::<Vec<_>>(), [Some(3), Some(9)], "{name}");
        let names = pickle.list(pickle.get(root, "filenames").unwrap()).unwrap();
        assert_eq!(pickle.text(names[1]).as_deref(), Some("b.png"), "{name}");
        assert_eq!(pickle.keys(root), ["batch_label", "labels", "data", "filenames"], "{name}");
        assert_eq!(pickle.get(root, "label"), None);
    }
}

#[test]
fn memory_orders_byte_orders_and_numbers_are_told() {
    for (name, size) in [("fortran4.pkl", 8), ("fortran5.pkl", 2)] {
        let bytes = file(name);
        let pickle = read(&bytes).unwrap();
        let data = pickle.array(pickle.get(pickle.root(), "data").unwrap()).unwrap();
        assert!(data.columns_first, "{name}");
        assert_eq!(data.data.to_vec()[1], expected()[6], "{name}");
        let labels = pickle.array(pickle.get(pickle.root(), "labels").unwrap()).unwrap();
        assert_eq!(
            (labels.data.count(), labels.big_endian, labels.ints().unwrap()),
            (2 * size, true, vec![3, 9]),
            "{name}"
        );
    }
    let bytes = file("scalars.pkl");
    let pickle = read(&bytes).unwrap();
    let labels = pickle.list(pickle.get(pickle.root(), "labels").unwrap()).unwrap();
    assert_eq!(labels.iter().map(|&id| pickle.int(id)).collect::<Vec<_>>(), [Some(3), Some(9)]);
    let extra = pickle.list(pickle.get(pickle.root(), "extra").unwrap()).unwrap();
    assert_eq!(extra.iter().map(|&id| pickle.int(id)).collect::<Vec<_>>(), [None, None, Some(1), None, Some(-5)]);
}

#[test]
fn calls_are_refused_by_name_and_not_made() {
    for name in ["bad-call2.pkl", "bad-call4.pkl"] {
        assert_eq!(fault(&file(name)), PickleFault::Global { name: "posix.system".to_owned() });
    }
    let hostile = fault(b"\x80\x02cbuiltins\ne\x1b[2Jval\n.");
    assert!(hostile.to_string().contains(r"builtins.e\u{1b}[2Jval"), "{hostile}");
    // Classes, persistent ids and extensions are other ways to run something.
    let others: [(usize, &[u8]); 4] =
        [(3, b"\x80\x02}ibuiltins\n"), (2, b"\x80\x02Pid\n."), (2, b"\x80\x02\x82\x01."), (3, b"\x80\x02)\x81.")];
    for (at, program) in others {
        assert_eq!(fault(program), PickleFault::Instruction { at, opcode: program[at] });
    }
}

#[test]
fn every_truncation_is_an_error() {
    for name in ["python2.pkl", "protocol2.pkl", "protocol5.pkl", "scalars.pkl"] {
        let bytes = file(name);
        for end in 0..bytes.len() {
            assert_eq!(fault(&bytes[..end]), PickleFault::Cut { at: end }, "{name}, {end} bytes");
        }
    }
}

#[test]
fn programs_that_make_no_sense_are_refused() {
    for program in [
        &b"."[..],
        b"a.",
        b"t.",
        b"]K\x01s.",
        b"(K\x01e.",
        b"}(K\x01u.",
        b"h\x05.",
        b"NR.",
        b"N)R.",
        b"(0.",
        b"cnumpy\ndtype\n)R.",
        b"]Nb.",
        b"])b.",
        b"NN\x93.",
    ] {
        assert!(matches!(fault(program), PickleFault::Damaged { .. }), "{program:?}");
    }
    assert_eq!(fault(b"\x80\x06."), PickleFault::Protocol(6));
    assert!(matches!(fault(b"<html>"), PickleFault::Instruction { at: 0, opcode: b'<' }));
    assert!(
        matches!(fault(b"X\xff\xff\xff\xffabc"), PickleFault::Cut { .. }),
        "no memory is taken for what is not there"
    );
    let many = [b"]".repeat(1 << 21), b".".to_vec()].concat();
    assert!(fault(&many).to_string().contains("more than a million"));
}

#[test]
fn arrays_whose_values_do_not_fill_their_shape_are_none() {
    let whole = file("python2.pkl");
    let at = whole.windows(5).position(|w| w == b"K\x02K\x06\x86").unwrap();
    let mut other = whole.clone();
    other[at + 1] = 3;
    let pickle = read(&other).unwrap();
    assert_eq!(pickle.array(pickle.get(pickle.root(), "data").unwrap()), None);
}
