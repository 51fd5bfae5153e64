//! A landscape folder read back into memory: what its figures and page are drawn from.

use super::{
    SUMMARY,
    rows::{
        AutocorrelationRow, FunctionRow, GrowthRow, KinkRow, LandscapeSummary, PieceRow, RegionRow, StepRow, UpdateRow,
    },
};
use crate::study::tables::{TableError, read_rows};
use serde::de::DeserializeOwned;
use std::path::Path;

/// All tables of a landscape folder; tables that it does not have are empty.
#[derive(Clone, Debug)]
pub struct LandscapeTables {
    pub summary: LandscapeSummary,
    pub kinks: Vec<KinkRow>,
    pub pieces: Vec<PieceRow>,
    pub steps: Vec<StepRow>,
    pub updates: Vec<UpdateRow>,
    pub regions: Vec<RegionRow>,
    pub growth: Vec<GrowthRow>,
    pub autocorrelation: Vec<AutocorrelationRow>,
    pub functions: Vec<FunctionRow>,
}

impl LandscapeTables {
    /// Reads the folder.
    ///
    /// # Errors
    /// If `landscape.json` is missing or a table is broken.
    pub fn read(dir: &Path) -> Result<Self, TableError> {
        let path = dir.join(SUMMARY);
        let broken = |source: std::io::Error| TableError::Read { path: path.clone(), source: source.into() };
        let text = std::fs::read_to_string(&path).map_err(broken)?;
        let summary = serde_json::from_str(&text).map_err(|e| broken(e.into()))?;
        Ok(Self {
            summary,
            kinks: rows(dir, "kinks.csv")?,
            pieces: rows(dir, "pieces.csv")?,
            steps: rows(dir, "steps.csv")?,
            updates: rows(dir, "updates.csv")?,
            regions: rows(dir, "regions.csv")?,
            growth: rows(dir, "growth.csv")?,
            autocorrelation: rows(dir, "autocorrelation.csv")?,
            functions: rows(dir, "functions.csv")?,
        })
    }
}

/// The rows of `dir/name`; none without the file.
pub(super) fn rows<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Vec<T>, TableError> {
    let path = dir.join(name);
    if path.exists() { read_rows(&path) } else { Ok(Vec::new()) }
}
