//! `manifest.json`: its text, its keys and their types.

use super::{
    FORMAT, Manifest, RECORDED_FORMAT,
    error::{TraceError, malformed, read_bytes},
    keys::{integers, known, tidy_input, tidy_tables, whole},
    recorded::manifest::RecordedManifest,
};
use serde_json::{Map, Value};
use std::path::Path;

const KEYS: &[&str] = &["format", "input", "layers", "loss", "target", "rounds", "batch_size", "optimizer", "data"];
/// The manifest of a trace of either format.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyManifest {
    One(Manifest),
    Two(Box<RecordedManifest>),
}

/// Reads the manifest alone.
///
/// # Errors
/// If it is no JSON, of a newer format, or has a key that is unknown or of the wrong type.
pub fn read_manifest(folder: &Path) -> Result<AnyManifest, TraceError> {
    let path = folder.join("manifest.json");
    let text = decoded(&read_bytes(&path)?).map_err(|reason| malformed(&path, reason))?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|e| malformed(&path, format!("not valid JSON: {e}; write it with json.dump")))?;
    let Value::Object(keys) = value else {
        return Err(malformed(&path, "holds no object; a manifest is { \"format\": 1, ... }"));
    };
    match keys.get("format").and_then(whole) {
        Some(version) if version == u64::from(FORMAT) => of_format_1(&path, keys).map(AnyManifest::One),
        Some(version) if version == u64::from(RECORDED_FORMAT) => {
            let parsed = RecordedManifest::parse(keys).map_err(|reason| malformed(&path, reason))?;
            Ok(AnyManifest::Two(Box::new(parsed)))
        }
        Some(found) => Err(TraceError::Format { path, found }),
        None => {
            let found =
                keys.get("format").map_or_else(|| "has no \"format\"".to_owned(), |v| format!("\"format\" is {v}"));
            Err(malformed(&path, format!("{found}; write \"format\": 1")))
        }
    }
}

fn of_format_1(path: &Path, mut keys: Map<String, Value>) -> Result<Manifest, TraceError> {
    tidy(&mut keys).map_err(|reason| malformed(path, reason))?;
    let manifest: Manifest = serde_json::from_value(Value::Object(keys)).map_err(|e| malformed(path, e.to_string()))?;
    for (name, value) in [("rounds", manifest.rounds), ("batch_size", manifest.batch_size)] {
        if value == 0 || value > 1 << 31 {
            return Err(malformed(path, format!("\"{name}\" is {value}; it must be at least 1, and at most 2^31")));
        }
    }
    Ok(manifest)
}

/// The text of a JSON file: UTF-8, or what Windows makes of it.
fn decoded(bytes: &[u8]) -> Result<String, &'static str> {
    let wide = |bytes: &[u8], of: fn([u8; 2]) -> u16| {
        let units = bytes.as_chunks::<2>().0.iter().map(|pair| of(*pair));
        char::decode_utf16(units).collect::<Result<String, _>>().map_err(|_| "is not valid UTF-16; save it as UTF-8")
    };
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest),
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        all => utf8(all),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, &'static str> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "is not text in UTF-8; save it as UTF-8")
}

/// Refuses unknown keys and values of the wrong kind; whole numbers become integers.
fn tidy(keys: &mut Map<String, Value>) -> Result<(), String> {
    known(keys, KEYS, &KEYS[..7])?;
    integers(keys, &["format", "rounds", "batch_size"])?;
    tidy_input(keys)?;
    tidy_tables(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"format": 1, "input": [2], "layers": [{"dense": 2}], "loss": "mse", "target": "input",
        "rounds": 3, "batch_size": 4, "optimizer": {"name": "sgd", "learning_rate": 0.1}, "data": {"dataset": "digits"}}"#;

    fn read(bytes: &[u8]) -> Result<Manifest, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("manifest.json"), bytes).unwrap();
        match read_manifest(folder.path()).map_err(|e| e.to_string())? {
            AnyManifest::One(manifest) => Ok(manifest),
            AnyManifest::Two(_) => panic!("of format 2"),
        }
    }

    #[test]
    fn text_is_read_as_editors_save_it() {
        let good = read(GOOD.as_bytes()).unwrap();
        let utf16 = |of: fn(u16) -> [u8; 2]| GOOD.encode_utf16().flat_map(of).collect::<Vec<u8>>();
        for bytes in [
            [&[0xef, 0xbb, 0xbf], GOOD.as_bytes()].concat(),
            [&[0xff, 0xfe], &utf16(u16::to_le_bytes)[..]].concat(),
            [&[0xfe, 0xff], &utf16(u16::to_be_bytes)[..]].concat(),
            GOOD.replace("3,", "3.0,").replace("[2]", "[2.0]").replace("\"format\": 1", "\"format\": 1.0").into_bytes(),
            GOOD.replace("learning_rate", "lr").into_bytes(),
            GOOD.replace("\"learning_rate\": 0.1", "\"learning_rate\": 0.1, \"momentum\": null").into_bytes(),
        ] {
            let mut found = read(&bytes).unwrap();
            found.optimizer.remove("momentum");
            assert_eq!(found, good);
        }
        assert_eq!(read(GOOD.replace("{\"dataset\": \"digits\"}", "null").as_bytes()).unwrap().data.len(), 0);
        for bytes in [&[0xff, 0xfe, 0x00, 0xd8][..], &[0xc3, 0x28], b"", b"[1]", b"{"] {
            read(bytes).unwrap_err();
        }
    }

    #[test]
    fn keys_and_kinds_that_mean_nothing_are_named() {
        for (from, to, words) in [
            ("\"optimizer\"", "\"optimiser\"", &["\"optimiser\"", "did you mean \"optimizer\""][..]),
            ("\"batch_size\": 4", "\"batch_size\": 4, \"batchsize\": 3", &["batchsize", "batch_size"]),
            ("\"rounds\": 3, ", "", &["no \"rounds\""]),
            ("3,", "3.5,", &["rounds", "3.5", "whole"]),
            ("3,", "\"3\",", &["rounds", "\"3\"", "whole"]),
            ("[2]", "2", &["input", "[784]"]),
            ("0.1", "\"0.1\"", &["learning_rate", "\"0.1\"", "number"]),
            ("0.1", "-1", &["learning_rate", "-1"]),
            ("0.1", "0.1, \"momentum\": \"0.9\"", &["momentum", "without quotes"]),
            ("0.1", "0.1, \"nesterov\": \"True\"", &["nesterov", "true without quotes"]),
            ("\"name\": \"sgd\"", "\"name\": 3", &["name", "quotes"]),
            (
                "\"dataset\": \"digits\"",
                "\"dataset\": \"digits\", \"standardise\": true",
                &["standardise", "standardize"],
            ),
            ("\"dataset\": \"digits\"", "\"standardize\": \"true\"", &["standardize", "without quotes"]),
            ("\"dataset\": \"digits\"", "\"dataset\": 1", &["dataset", "in quotes"]),
            ("\"loss\": \"mse\"", "\"loss\": \"hinge\"", &["hinge", "mse"]),
            ("{\"name\": \"sgd\", \"learning_rate\": 0.1}", "\"sgd\"", &["optimizer", "learning_rate"]),
        ] {
            let error = read(GOOD.replace(from, to).as_bytes()).unwrap_err();
            for word in words {
                assert!(error.contains(word), "{to}: {error}");
            }
        }
    }
}
