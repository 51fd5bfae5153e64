//! Numbers in words: the digits a reader needs and no more.

use crate::optim::registry;
use std::collections::BTreeMap;

/// `x` with three significant digits: `0.0664`, `12.3`, `1,230`, `1.23×10⁻⁵`.
pub fn number(x: f64) -> String {
    significant(x, 3)
}

/// `x` with `digits` significant digits.
pub fn significant(x: f64, digits: usize) -> String {
    if x.is_nan() {
        return "not a number".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "∞".into() } else { "−∞".into() };
    }
    if x == 0.0 {
        return "0".into();
    }
    // The exponent after rounding, so that 9.999 becomes 10.0 and not 10.00.
    let scientific = format!("{:.*e}", digits - 1, x.abs());
    let (mantissa, exponent) = scientific.split_once('e').expect("the format writes an exponent");
    let exponent: i32 = exponent.parse().expect("the format writes an integer");
    let sign = if x < 0.0 { "−" } else { "" };
    if (-3..0).contains(&exponent) || (0..digits as i32).contains(&exponent) {
        let decimals = (digits as i32 - 1 - exponent) as usize;
        format!("{sign}{:.decimals$}", x.abs())
    } else if (0..6).contains(&exponent) {
        let unit = 10f64.powi(exponent + 1 - digits as i32);
        format!("{sign}{}", count(((x.abs() / unit).round() * unit).round() as u64))
    } else {
        format!("{sign}{mantissa}×10{}", superscript(exponent))
    }
}

/// A whole number with commas between thousands: `12,345`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `n` and the noun in the number that goes with it: `1 round`, `2 rounds`.
pub fn counted(n: usize, noun: &str) -> String {
    format!("{} {noun}{}", count(n as u64), if n == 1 { "" } else { "s" })
}

/// A share as a percentage: `15%`, `1.5%`, `−3.2%`.
pub fn percent(share: f64) -> String {
    let value = 100.0 * share;
    if !value.is_finite() {
        return "not a number".into();
    }
    let sign = if value < 0.0 { "−" } else { "" };
    match value.abs() {
        0.0 => "0%".into(),
        v if v < 0.01 => format!("{sign}<0.01%"),
        v if v < 0.1 => format!("{sign}{v:.2}%"),
        v if v < 9.95 => format!("{sign}{v:.1}%"),
        v => format!("{sign}{v:.0}%"),
    }
}

/// A learning rate or another setting as the user wrote it: the shortest decimal form.
pub fn setting(x: f64) -> String {
    if x != 0.0 && x.is_finite() && !(1e-5..1e7).contains(&x.abs()) { significant(x, 2) } else { format!("{x}") }
}

/// A setting that need not be known: `–` where it is not.
pub fn known(x: Option<f64>) -> String {
    x.map_or_else(|| "–".into(), setting)
}

/// The keys of an optimizer with their values: `betas [0.9, 0.999], momentum 0.9, nesterov true`.
pub fn keys(settings: &BTreeMap<String, serde_json::Value>) -> String {
    fn value(of: &serde_json::Value) -> String {
        use serde_json::Value;
        match of {
            Value::Null => "none".into(),
            Value::String(text) => text.clone(),
            Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), setting),
            Value::Array(all) => format!("[{}]", all.iter().map(value).collect::<Vec<_>>().join(", ")),
            Value::Object(all) => {
                let pairs: Vec<String> = all.iter().map(|(key, of)| format!("{key} {}", value(of))).collect();
                format!("{{{}}}", pairs.join(", "))
            }
            Value::Bool(of) => of.to_string(),
        }
    }
    settings.iter().map(|(key, of)| format!("{key} {}", value(of))).collect::<Vec<_>>().join(", ")
}

/// The integer in superscript digits, for powers of ten.
pub fn superscript(n: i32) -> String {
    n.to_string()
        .chars()
        .map(|c| match c {
            '-' => '⁻',
            '1' => '¹',
            '2' => '²',
            '3' => '³',
            digit => char::from_u32('⁰' as u32 + digit as u32 - '0' as u32).expect("superscript digits are adjacent"),
        })
        .collect()
}

/// An optimizer's label as people write it: `SGD`, `RMSProp`, `SGD 0.1` for the folder `sgd-0.1`.
pub fn display_name(label: &str) -> String {
    let (name, rest) = label.split_once('-').unwrap_or((label, ""));
    let name = registry().find(|entry| entry.name == name).map_or(name, |entry| entry.title);
    // Settings in a label stand behind dashes: `adam-0.001-beta1=0.5`.
    let mut parts = rest.split('-').map(str::to_owned);
    let rest = if rest.contains('=') {
        let first = parts.next().unwrap_or_default();
        let number = |part: &str| part.starts_with(|c: char| c.is_ascii_digit());
        parts.fold(first, |text, part| format!("{text}{}{part}", if number(&part) { "-" } else { " " }))
    } else {
        rest.to_owned()
    };
    if rest.is_empty() { name.into() } else { format!("{name} {rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_over_the_whole_range() {
        let cases = [
            (0.06644, "0.0664"),
            (9.999, "10.0"),
            (999.6, "1,000"),
            (123456.0, "123,000"),
            (1.0, "1.00"),
            (-0.5, "−0.500"),
            (1.234e-5, "1.23×10⁻⁵"),
            (0.00123, "0.00123"),
            (4.0e12, "4.00×10¹²"),
            (0.0, "0"),
            (f64::NAN, "not a number"),
            (f64::NEG_INFINITY, "−∞"),
        ];
        for (x, text) in cases {
            assert_eq!(number(x), text);
        }
    }

    #[test]
    fn counts_percentages_and_settings() {
        assert_eq!(count(1234567), "1,234,567");
        assert_eq!(counted(1, "round"), "1 round");
        assert_eq!(counted(1000, "round"), "1,000 rounds");
        assert_eq!(percent(0.153), "15%");
        assert_eq!(percent(-0.0321), "−3.2%");
        assert_eq!(setting(0.001), "0.001");
        assert_eq!(setting(1.0), "1");
        assert_eq!(setting(1e-8), "1.0×10⁻⁸");
    }

    #[test]
    fn keys_of_optimizers() {
        let all = serde_json::json!({
            "momentum": 0.9, "betas": [0.9, 0.999], "nesterov": true, "foreach": null,
            "schedule": { "name": "step", "gamma": 1e-8 }
        });
        let all = serde_json::from_value(all).unwrap();
        let expected =
            "betas [0.9, 0.999], foreach none, momentum 0.9, nesterov true, schedule {gamma 1.0×10⁻⁸, name step}";
        assert_eq!(keys(&all), expected);
        assert_eq!((known(Some(0.1)), known(None)), ("0.1".into(), "–".into()));
    }

    #[test]
    fn names_of_optimizers() {
        assert_eq!(display_name("sgd-0.1"), "SGD 0.1");
        assert_eq!(display_name("rmsprop"), "RMSProp");
        assert_eq!(display_name("mine"), "mine");
    }
}
