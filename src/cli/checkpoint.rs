//! `--checkpoint-every`: how often the state of a run is written.

use crate::study::keeper::Interval;
use std::time::Duration;

#[derive(clap::Args)]
pub struct Checkpoint {
    /// Time (30s, 5m, 1h) or number of rounds between checkpoints, from which --resume continues [default: 5m]
    #[arg(long = "checkpoint-every", value_name = "TIME|ROUNDS", value_parser = parse)]
    every: Option<Interval>,
}

impl Checkpoint {
    pub fn interval(&self) -> Interval {
        self.every.unwrap_or_default()
    }
}

/// Parses a number of rounds, or a time with `s`, `m` or `h`.
fn parse(text: &str) -> Result<Interval, String> {
    let reason = || "write a time such as 30s, 5m or 1h, or a number of rounds from 1".to_owned();
    let seconds = match text.chars().last() {
        Some('s') => 1.0,
        Some('m') => 60.0,
        Some('h') => 3600.0,
        _ => {
            let rounds = text.parse().ok().filter(|rounds| *rounds > 0);
            return rounds.map(Interval::Rounds).ok_or_else(reason);
        }
    };
    let number: f64 = text[..text.len() - 1].parse().map_err(|_| reason())?;
    if !(number > 0.0 && number < 1e6) {
        return Err(reason());
    }
    Ok(Interval::Time(Duration::from_secs_f64(number * seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_times_or_rounds() {
        assert_eq!(parse("90s"), Ok(Interval::Time(Duration::from_secs(90))));
        assert_eq!(parse("1.5m"), Ok(Interval::Time(Duration::from_secs(90))));
        assert_eq!(parse("2h"), Ok(Interval::Time(Duration::from_secs(7200))));
        assert_eq!(parse("200"), Ok(Interval::Rounds(200)));
        for wrong in ["", "0", "-1", "0s", "s", "5x", "nans", "infh", "1e9h", "\u{e9}"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
