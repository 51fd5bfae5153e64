//! Small helpers for messages.

/// `; did you mean "name"?` for the nearest of `names`, or `; known: a, b` when none is near.
pub fn suggestion(given: &str, names: &[&str]) -> String {
    let nearest = names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3));
    match nearest {
        Some((_, name)) => format!("; did you mean \"{name}\"?"),
        None => format!("; known: {}", names.join(", ")),
    }
}

/// The nearest number with `digits` significant digits: what one would write, or type on a command line.
pub fn nearest(value: f64, digits: usize) -> f64 {
    format!("{value:.*e}", digits.saturating_sub(1)).parse().unwrap_or(value)
}

/// Rounds from 1 for their indices from 0, the first few of many.
pub fn rounds(indices: &[usize]) -> String {
    const SHOWN: usize = 5;
    let mut texts: Vec<String> = indices.iter().take(SHOWN).map(|index| (index + 1).to_string()).collect();
    if indices.len() > SHOWN {
        texts.push("...".to_owned());
    }
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::suggestion;

    #[test]
    fn near_names_are_suggested_and_far_ones_listed() {
        assert_eq!(suggestion("mnits", &["digits", "mnist"]), "; did you mean \"mnist\"?");
        assert_eq!(suggestion("imagenet", &["digits", "mnist"]), "; known: digits, mnist");
    }
}
