//! `--memory`: how much memory an analysis may take.

use crate::study::environment::total_memory;

/// Taken as the machine's memory where the system does not tell.
const UNKNOWN: u64 = 8 << 30;

#[derive(clap::Args)]
pub struct Memory {
    /// Memory for the analysis, e.g. 8G or 500M. Linearized rounds that do not fit are computed again when they are
    /// needed; a run whose weights alone do not fit is refused [default: half of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = parse)]
    memory: Option<u64>,
}

impl Memory {
    /// In bytes.
    pub fn bytes(&self) -> usize {
        let bytes = self.memory.unwrap_or_else(|| total_memory().unwrap_or(UNKNOWN) / 2);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

/// Parses a number with a unit: `K`, `M`, `G` or `T`, powers of 1024.
fn parse(text: &str) -> Result<u64, String> {
    let reason = || "write a number and K, M, G or T, for example 8G".to_owned();
    let shift = match text.trim_end_matches(['B', 'b']).chars().last().map(|unit| unit.to_ascii_uppercase()) {
        Some('K') => 10,
        Some('M') => 20,
        Some('G') => 30,
        Some('T') => 40,
        _ => return Err(reason()),
    };
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = number.trim().parse().map_err(|_| reason())?;
    if !(number > 0.0 && number < 1e6) {
        return Err(reason());
    }
    Ok((number * f64::from(1u32 << (shift / 2)) * f64::from(1u32 << (shift - shift / 2))) as u64)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse("8G"), Ok(8 << 30));
        assert_eq!(parse("1.5m"), Ok(3 << 19));
        assert_eq!(parse("2 TB"), Ok(2 << 40));
        for wrong in ["", "8", "G", "-1G", "0K", "8X", "nanG", "1e99G"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
