//! Settings of the command line: `section.key=value`.

use super::error::ExperimentError;
use toml::{Table, Value};

/// Sets `section.key=value` in a parsed file; the value is TOML, or text if it is not.
pub fn set(table: &mut Table, setting: &str) -> Result<(), ExperimentError> {
    let fail = |reason: &str| ExperimentError::Setting { setting: setting.into(), reason: reason.into() };
    let (key, value) = setting.split_once('=').ok_or_else(|| fail("has no \"=\""))?;
    let parsed = |value: &str| format!("v = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("v"));
    // Shells take the quotes out of lists.
    let listed = || value.trim_start().starts_with(['[', '{']).then(|| parsed(&quoted(value))).flatten();
    let value = parsed(value).or_else(listed).unwrap_or_else(|| Value::String(value.to_owned()));
    let mut path: Vec<&str> = key.trim().split('.').collect();
    let last = path.pop().unwrap_or_default();
    let mut at = table;
    for part in path {
        let entry = at.entry(part).or_insert_with(|| Value::Table(Table::new()));
        at = entry.as_table_mut().ok_or_else(|| {
            fail(match part {
                "optimizer" => "optimizers are a list; replace it with --optimizer NAME:RATE, or edit the file",
                _ => "does not name a key of a section",
            })
        })?;
    }
    at.insert(last.to_owned(), value);
    Ok(())
}

/// A TOML value with quotes around its bare words that are not keys: `[layer, {dense=3}]` is `["layer", {dense=3}]`.
fn quoted(value: &str) -> String {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || "_-.+:/".contains(c);
    let mut text = String::with_capacity(value.len() + 8);
    let mut rest = value;
    while let Some(first) = rest.chars().next() {
        let (end, bare) = match first {
            '"' | '\'' => (rest[1..].find(first).map_or(rest.len(), |at| at + 2), false),
            c if part_of_word(c) => (rest.find(|c| !part_of_word(c)).unwrap_or(rest.len()), true),
            c => (c.len_utf8(), false),
        };
        let (word, behind) = rest.split_at(end);
        let is_key = behind.trim_start().starts_with('=');
        // Numbers and truth values are values by themselves.
        let is_value = format!("v = {word}").parse::<Table>().is_ok();
        if bare && !is_key && !is_value {
            text.extend(["\"", word, "\""]);
        } else {
            text.push_str(word);
        }
        rest = behind;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn bare_words_get_quotes_unless_they_are_keys_or_values() {
        assert_eq!(quoted("[{dense=5}, relu, \"abs\", 1e-3, true]"), "[{dense=5}, \"relu\", \"abs\", 1e-3, true]");
        assert_eq!(quoted("[\u{e9}, 'a b'"), "[\u{e9}, 'a b'");
    }
}
