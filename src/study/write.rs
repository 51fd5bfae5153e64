//! Writing results: each file is complete or absent.

use super::{
    analysis::AnalysisTables,
    error::StudyError,
    tables::{RoundRow, columns, write_rows},
};
use crate::{files::write_atomically, trace::write::write_npy};
use serde::Serialize;
use std::path::Path;

/// Any bytes.
pub(super) fn file(path: &Path, bytes: &[u8]) -> Result<(), StudyError> {
    write_atomically(path, bytes).map_err(|source| StudyError::Write { path: path.to_owned(), source })
}

/// A value as JSON, indented.
pub(super) fn json(path: &Path, value: &impl Serialize) -> Result<(), StudyError> {
    let mut text = serde_json::to_string_pretty(value).expect("plain data is always expressible as JSON");
    text.push('\n');
    file(path, text.as_bytes())
}

/// `probe.npy`: the rows of the training data in the probe set.
pub(super) fn probe(folder: &Path, rows: &[u32]) -> Result<(), StudyError> {
    let path = folder.join("probe.npy");
    let rows: Vec<i64> = rows.iter().map(|r| i64::from(*r)).collect();
    write_npy(&path, &[rows.len() as u64], &rows).map_err(|source| StudyError::Write { path, source })
}

/// `rounds.csv`, of the losses of all rounds.
pub(super) fn rounds(folder: &Path, losses: &[f64], per_epoch: usize) -> Result<(), StudyError> {
    let all: Vec<(usize, f64)> = (1..).zip(losses.iter().copied()).collect();
    numbered_rounds(folder, &all, per_epoch)
}

/// The same, of the numbers and losses of some rounds.
pub(super) fn numbered_rounds(folder: &Path, losses: &[(usize, f64)], per_epoch: usize) -> Result<(), StudyError> {
    let row =
        |(number, loss): &(usize, f64)| RoundRow { round: *number, epoch: (number - 1) / per_epoch + 1, loss: *loss };
    let rows: Vec<RoundRow> = losses.iter().map(row).collect();
    Ok(write_rows(&folder.join("rounds.csv"), columns::ROUNDS, &rows)?)
}

/// The tables that an analysis makes.
pub(super) fn analysis(folder: &Path, tables: &AnalysisTables) -> Result<(), StudyError> {
    write_rows(&folder.join("regret.csv"), columns::REGRET, &tables.regret)?;
    write_rows(&folder.join("units.csv"), columns::UNITS, &tables.units)?;
    write_rows(&folder.join("novelty.csv"), columns::NOVELTY, &tables.novelty)?;
    write_rows(&folder.join("neurons.csv"), columns::NEURONS, &tables.neurons)?;
    if let Some((novelty, neurons)) = &tables.pools {
        write_rows(&folder.join("pool_novelty.csv"), columns::NOVELTY, novelty)?;
        write_rows(&folder.join("pool_neurons.csv"), columns::NEURONS, neurons)?;
    }
    Ok(())
}
