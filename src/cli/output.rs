//! Printing: lines for people on standard output unless `--json` is given, notes on standard error unless `--quiet` is.

use crate::{
    data::DataError,
    study::{StudyError, landscape::LandscapeError},
};
use std::{
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
};

static JSON: AtomicBool = AtomicBool::new(false);
static QUIET: AtomicBool = AtomicBool::new(false);

/// Sets what `--json` and `--quiet` ask for.
pub fn configure(json: bool, quiet: bool) {
    JSON.store(json, Ordering::SeqCst);
    QUIET.store(quiet, Ordering::SeqCst);
}

pub fn is_json() -> bool {
    JSON.load(Ordering::SeqCst)
}

pub fn is_quiet() -> bool {
    QUIET.load(Ordering::SeqCst)
}

/// Whether the reader of our output went away, which is not an error (`taylorscope ... | head`).
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

/// Whether an error is that of a dataset whose files are not at hand.
pub fn is_missing_data(error: &anyhow::Error) -> bool {
    let missing = |error: &DataError| matches!(error, DataError::NotFound { .. });
    let of_study = |error: &StudyError| matches!(error, StudyError::Data(error) if missing(error));
    error.downcast_ref::<StudyError>().is_some_and(of_study)
        || matches!(error.downcast_ref::<LandscapeError>(), Some(LandscapeError::Study(error)) if of_study(error))
}

/// Prints a line of results for people; nothing with `--json`.
pub fn line(text: impl AsRef<str>) -> anyhow::Result<()> {
    if is_json() { Ok(()) } else { raw(text.as_ref()) }
}

/// Prints a line on standard output.
pub fn raw(text: &str) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{text}")?;
    Ok(())
}

/// Prints what is neither a result nor an error on standard error; nothing with `--quiet`.
pub fn note(text: impl AsRef<str>) {
    if !is_quiet() {
        complain(text);
    }
}

/// Prints an error on standard error.
pub fn complain(text: impl AsRef<str>) {
    // Without standard error there is nowhere to report that it is missing.
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

/// Prints rows of numbers: the first and the last column on the left, all others on the right.
pub fn aligned(rows: &[Vec<String>]) -> anyhow::Result<()> {
    columns(rows, true)
}

/// Prints rows of words, all on the left.
pub fn listed(rows: &[Vec<String>]) -> anyhow::Result<()> {
    columns(rows, false)
}

/// Prints rows whose columns are as wide as they need.
fn columns(rows: &[Vec<String>], numbers: bool) -> anyhow::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let length = |row: &Vec<String>, column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let widths: Vec<usize> =
        (0..columns).map(|column| rows.iter().map(|row| length(row, column)).max().unwrap_or(0)).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            let right = numbers && column > 0 && column + 1 < columns;
            if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
