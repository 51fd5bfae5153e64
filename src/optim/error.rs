//! Why an optimizer cannot be built.

/// An optimizer that cannot be built from its configuration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OptimizerError {
    #[error("unknown optimizer \"{name}\"{suggestion}")]
    Unknown { name: String, suggestion: String },
    #[error("optimizer \"{optimizer}\" has no setting \"{key}\"{suggestion}")]
    UnknownSetting { optimizer: String, key: String, suggestion: String },
    #[error("optimizer \"{optimizer}\": {key} = {value} must {}", range(*low, *high))]
    OutOfRange { optimizer: String, key: String, value: f64, low: f64, high: f64 },
    #[error("optimizer \"{optimizer}\": {key} = {value} must be true or false")]
    NotSwitch { optimizer: String, key: String, value: f64 },
    #[error("optimizer \"{optimizer}\": schedule = \"cosine\" needs the number of rounds; build it with `build_for`")]
    NoRounds { optimizer: String },
}

/// A closed range in words.
fn range(low: f64, high: f64) -> String {
    if high < 1e30 { format!("lie between {low} and {high}") } else { format!("be a number, and at least {low}") }
}
