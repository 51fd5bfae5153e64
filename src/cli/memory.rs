//! `--memory`: how much memory an analysis may take.

use crate::{
    allocator,
    study::{allowance::allowed_memory, environment::resident_memory},
};
use std::{sync::Once, thread, time::Duration};

/// Taken as the machine's memory where the system does not tell.
const UNKNOWN: u64 = 8 << 30;

#[derive(clap::Args)]
pub struct Memory {
    /// Memory for the analysis, on top of the program with its data, e.g. 8G or 500M. Linearized rounds that do not fit are
    /// computed again when they are needed; what cannot fit is refused [default: half of what the machine, its control
    /// groups and ulimit allow]
    #[arg(long, value_name = "SIZE", value_parser = parse)]
    memory: Option<u64>,
}

impl Memory {
    /// In bytes. From now on, memory that is freed stays with the program only as long as there is plenty.
    pub fn bytes(&self) -> usize {
        let bytes = self.memory.unwrap_or_else(|| allowed_memory().unwrap_or(UNKNOWN) / 2);
        // Where nobody asked for less, half of what there is is left in any case.
        watch(bytes, bytes / if self.memory.is_some() { 4 } else { 2 });
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

/// Milliseconds after which freed memory goes back where it is scarce; where there is little in all, it goes back at once from the beginning.
const SOON: u8 = 10;
const LITTLE: u64 = 128 << 20;
/// How often the program's memory is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Gives freed memory back to the system once the program has grown by `growth` of the `allowed` bytes. What it keeps would otherwise come on top
/// of what it needs.
fn watch(allowed: u64, growth: u64) {
    static ONCE: Once = Once::new();
    let Some(start) = resident_memory() else { return };
    ONCE.call_once(|| {
        if allowed < LITTLE {
            return allocator::give_back_freed_memory(0);
        }
        // Without such a thread, more memory is kept, which is not a reason to fail.
        let _ = thread::Builder::new().name("memory".to_owned()).stack_size(1 << 16).spawn(move || {
            while resident_memory().is_some_and(|now| now < start.saturating_add(growth)) {
                thread::sleep(LOOK);
            }
            allocator::give_back_freed_memory(SOON);
        });
    });
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
