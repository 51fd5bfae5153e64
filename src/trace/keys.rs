//! Keys of manifests and their values, of either format.

use crate::text::suggestion;
use serde_json::{Map, Value};

/// `name` is a word for people.
const DATA_KEYS: &[&str] = &["dataset", "standardize", "name"];

/// A whole number, also one that was written as `200.0`.
pub fn whole(value: &Value) -> Option<u64> {
    let float = || value.as_f64().filter(|v| v.fract() == 0.0 && (0.0..9.0e15).contains(v)).map(|v| v as u64);
    value.as_u64().or_else(float)
}

/// Refuses keys that are not among `all`, and the lack of those that are `needed`.
pub fn known(keys: &Map<String, Value>, all: &[&str], needed: &[&str]) -> Result<(), String> {
    if let Some(unknown) = keys.keys().find(|key| !all.contains(&key.as_str())) {
        return Err(format!("unknown key \"{unknown}\"{}", suggestion(unknown, all)));
    }
    match needed.iter().find(|key| !keys.contains_key(**key)) {
        Some(missing) => Err(format!("has no \"{missing}\", which every trace needs (docs/formats.md)")),
        None => Ok(()),
    }
}

/// Makes whole numbers integers, where these keys are there.
pub fn integers(keys: &mut Map<String, Value>, names: &[&str]) -> Result<(), String> {
    for key in names {
        let Some(value) = keys.get(*key) else { continue };
        let number = whole(value).ok_or_else(|| format!("\"{key}\" is {value}; it must be a whole number"))?;
        keys.insert((*key).to_owned(), number.into());
    }
    Ok(())
}

/// The sizes of an input.
pub fn tidy_input(keys: &mut Map<String, Value>) -> Result<(), String> {
    let sizes = keys["input"].as_array().and_then(|sizes| sizes.iter().map(whole).collect::<Option<Vec<_>>>());
    let sizes = sizes.ok_or_else(|| format!("\"input\" is {}; write the sizes of one input: [784]", keys["input"]))?;
    keys.insert("input".to_owned(), sizes.into());
    Ok(())
}

/// What is told of the optimizer and the data.
pub fn tidy_tables(keys: &mut Map<String, Value>) -> Result<(), String> {
    for (key, example) in
        [("optimizer", r#"{"name": "sgd", "learning_rate": 0.1}"#), ("data", r#"{"dataset": "mnist"}"#)]
    {
        match keys.get(key) {
            Some(Value::Null) => drop(keys.remove(key)),
            Some(Value::Object(_)) | None => {}
            Some(other) => return Err(format!("\"{key}\" is {other}; write for example {example}, or leave it out")),
        }
    }
    keys.get_mut("optimizer").and_then(Value::as_object_mut).map_or(Ok(()), tidy_optimizer)?;
    keys.get("data").and_then(Value::as_object).map_or(Ok(()), check_data)
}

fn tidy_optimizer(keys: &mut Map<String, Value>) -> Result<(), String> {
    // PyTorch's name.
    if let Some(rate) = keys.remove("lr") {
        let named = keys.entry("learning_rate").or_insert_with(|| rate.clone());
        if *named != rate {
            return Err(format!(
                "\"lr\" of the optimizer is {rate}, \"learning_rate\" is {named}; leave out the wrong one"
            ));
        }
    }
    if let Some(name) = keys.get("name").filter(|name| !name.is_string() && !name.is_null()) {
        return Err(format!("\"name\" of the optimizer is {name}; write its name in quotes, \"sgd\""));
    }
    if let Some(rate) = keys.get("learning_rate")
        && !rate.is_null()
        && !rate.as_f64().is_some_and(|rate| rate.is_finite() && rate >= 0.0)
    {
        return Err(format!(
            "\"learning_rate\" of the optimizer is {rate}, which is not a rate; write a number, 0.1, or leave it out"
        ));
    }
    // A number or a switch in quotes would be shown, but not be understood.
    for (key, value) in keys {
        let text = value.as_str().map(|text| text.trim().to_lowercase()).unwrap_or_default();
        if text.parse::<f64>().is_ok() || text == "true" || text == "false" {
            return Err(format!("\"{key}\" of the optimizer is the text {value}; write {text} without quotes"));
        }
    }
    Ok(())
}

fn check_data(keys: &Map<String, Value>) -> Result<(), String> {
    if let Some(unknown) = keys.keys().find(|key| !DATA_KEYS.contains(&key.as_str())) {
        return Err(format!("unknown key \"{unknown}\" of \"data\"{}", suggestion(unknown, DATA_KEYS)));
    }
    let kind = |key: &str, fits: fn(&Value) -> bool, example: &str| match keys.get(key).filter(|v| !fits(v)) {
        Some(value) => Err(format!("\"{key}\" of \"data\" is {value}; write {example}")),
        None => Ok(()),
    };
    kind("dataset", |v| v.is_string() || v.is_null(), "the name of a dataset in quotes, \"mnist\"")?;
    kind("standardize", |v| v.is_boolean() || v.is_null(), "true or false, without quotes")
}
