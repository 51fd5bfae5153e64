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

#[cfg(test)]
mod tests {
    use super::suggestion;

    #[test]
    fn near_names_are_suggested_and_far_ones_listed() {
        assert_eq!(suggestion("mnits", &["digits", "mnist"]), "; did you mean \"mnist\"?");
        assert_eq!(suggestion("imagenet", &["digits", "mnist"]), "; known: digits, mnist");
    }
}
