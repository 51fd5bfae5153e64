//! A run directory read back into memory: what the report and the claims work from.
//!
//! A run that was interrupted, or that left an analysis out, lacks tables. That is not an error: the table is
//! empty and its name stands in [`OptimizerTables::missing`], so that the reader can say so in the place.
//! Only a missing or broken `summary.json`, or a table that cannot be parsed, is an error.

use super::enclosure::{Certified, Enclosure};
pub use super::statistics::{mean, median, quantile};
use super::tables::{
    Comparator, EpochRow, NeuronRow, NoveltyRow, OptimizerSummary, RegretRow, RoundRow, Scale, Summary, TableError,
    UnitRow, read_rows,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// All tables of one run.
#[derive(Clone, Debug)]
pub struct RunTables {
    pub dir: PathBuf,
    pub summary: Summary,
    /// `environment.json`; `Null` when absent.
    pub environment: Value,
    /// `experiment.toml`, as written.
    pub experiment: Option<String>,
    /// In the order of `summary.optimizers`.
    pub optimizers: Vec<OptimizerTables>,
}

/// All tables of one optimizer of a run.
#[derive(Clone, Debug)]
pub struct OptimizerTables {
    pub summary: OptimizerSummary,
    pub rounds: Vec<RoundRow>,
    pub epochs: Vec<EpochRow>,
    pub regret: Vec<RegretRow>,
    pub units: Vec<UnitRow>,
    pub novelty: Vec<NoveltyRow>,
    pub neurons: Vec<NeuronRow>,
    /// `timing.json`; `Null` when absent.
    pub timing: Value,
    /// File names of the tables that are absent or hold no rows.
    pub missing: Vec<&'static str>,
}

/// Gaps of the optima of a scale, divided by the mean loss of their prefix and unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RelativeGaps {
    /// Units times prefixes.
    pub rows: usize,
    /// The largest of all, infinite where nothing is certified.
    pub largest: f64,
    /// The length of the prefix that has it.
    pub rounds: usize,
    /// The largest at the longest prefix.
    pub at_end: f64,
}

impl RunTables {
    /// Reads the run directory `dir`.
    pub fn read(dir: &Path) -> Result<RunTables, TableError> {
        let path = dir.join("summary.json");
        let summary = Summary::read(&path)?;
        let optimizers = summary
            .optimizers
            .iter()
            .map(|optimizer| OptimizerTables::read(&dir.join(&optimizer.label), optimizer.clone()))
            .collect::<Result<_, _>>()?;
        let path = dir.join("experiment.toml");
        let experiment = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(unreadable(&path, e)),
        };
        let environment = json_or_null(&dir.join("environment.json"))?;
        Ok(RunTables { dir: dir.to_owned(), summary, environment, experiment, optimizers })
    }

    /// The comparator that figures and sentences refer to.
    pub fn headline(&self) -> Comparator {
        self.summary.headline
    }
}

impl OptimizerTables {
    /// Reads the tables in `dir`, one optimizer's folder.
    pub fn read(dir: &Path, summary: OptimizerSummary) -> Result<OptimizerTables, TableError> {
        let mut missing = Vec::new();
        let rounds = rows_or_none(dir, "rounds.csv", &mut missing)?;
        let epochs = rows_or_none(dir, "epochs.csv", &mut missing)?;
        let regret = rows_or_none(dir, "regret.csv", &mut missing)?;
        let units = rows_or_none(dir, "units.csv", &mut missing)?;
        let novelty = rows_or_none(dir, "novelty.csv", &mut missing)?;
        let neurons = rows_or_none(dir, "neurons.csv", &mut missing)?;
        let timing = json_or_null(&dir.join("timing.json"))?;
        if timing.is_null() {
            missing.push("timing.json");
        }
        Ok(OptimizerTables { summary, rounds, epochs, regret, units, novelty, neurons, timing, missing })
    }

    /// The final rows (longest prefix) of one scale and comparator.
    pub fn units_at(&self, scale: Scale, comparator: Comparator) -> impl Iterator<Item = &UnitRow> {
        self.units.iter().filter(move |row| row.scale == scale && row.comparator == comparator)
    }

    /// What the certificates of a scale leave open, as shares of the mean loss; `None` without rows.
    pub fn relative_gaps(&self, scale: Scale, comparator: Comparator) -> Option<RelativeGaps> {
        let rows: Vec<&RegretRow> =
            self.regret.iter().filter(|row| row.scale == scale && row.comparator == comparator).collect();
        let last = rows.iter().map(|row| row.rounds).max()?;
        let share = |row: &RegretRow| match row.gap / row.mean_loss {
            share if share.is_nan() => f64::INFINITY,
            share => share,
        };
        let worst = rows.iter().copied().max_by(|a, b| share(a).total_cmp(&share(b)))?;
        let at_end = rows.iter().filter(|row| row.rounds == last).map(|row| share(row)).fold(0.0, f64::max);
        Some(RelativeGaps { rows: rows.len(), largest: share(worst), rounds: worst.rounds, at_end })
    }

    /// The split of the mean loss at the coarsest scale that was measured.
    ///
    /// That is the network, else the mean over layers, else the mean over neurons; `None` without rows. A gap that is
    /// no number counts as the whole optimum.
    pub fn split(&self, comparator: Comparator) -> Option<Split> {
        [Scale::Network, Scale::Layer, Scale::Neuron].into_iter().find_map(|scale| {
            let finite = |row: &&UnitRow| row.taylor_optimum.is_finite() && row.mean_regret.is_finite();
            let rows: Vec<&UnitRow> = self.units_at(scale, comparator).filter(finite).collect();
            let mean = |value: fn(&UnitRow) -> f64| rows.iter().map(|row| value(row)).sum::<f64>() / rows.len() as f64;
            (!rows.is_empty()).then(|| Split {
                scale,
                units: rows.len(),
                unmeasured: self.units_at(scale, comparator).count() - rows.len(),
                mean_loss: mean(|row| row.mean_loss),
                taylor_optimum: mean(|row| row.taylor_optimum),
                regret: mean(|row| row.mean_regret),
                gap: mean(|row| if row.gap.is_nan() { row.taylor_optimum - row.optimum().low } else { row.gap }),
            })
        })
    }

    /// Mean over the recorded rounds of the least Hamming distance to any earlier configuration, in bits.
    ///
    /// The first step, from the initial weights to the first recorded round, is left out: it is by far the largest, and
    /// says how a run left its initialization and not how it went on ([`OptimizerTables::first_novelty`]).
    pub fn mean_novelty(&self) -> Option<f64> {
        mean(self.novelties().skip(1))
    }

    /// Hamming distance from the first recorded configuration to the second, in bits.
    pub fn first_novelty(&self) -> Option<f64> {
        self.novelties().next()
    }

    fn novelties(&self) -> impl Iterator<Item = f64> {
        self.novelty.iter().filter_map(|row| row.min_hamming.map(|bits| bits as f64))
    }
}

/// How a mean loss divides into Taylor optimum and regret.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Split {
    pub scale: Scale,
    /// Number of units averaged over; 1 at network scale.
    pub units: usize,
    /// Units of that scale whose optimum is not a number; they are left out of the means.
    pub unmeasured: usize,
    pub mean_loss: f64,
    pub taylor_optimum: f64,
    pub regret: f64,
    pub gap: f64,
}

impl Certified for Split {
    fn optimum(&self) -> Enclosure {
        Enclosure::certified(self.taylor_optimum, self.gap)
    }

    fn regret(&self) -> Enclosure {
        super::enclosure::regret(self.regret, self.mean_loss, self.gap)
    }
}

fn unreadable(path: &Path, source: io::Error) -> TableError {
    TableError::Read { path: path.to_owned(), source: source.into() }
}

/// The rows of `dir/name`; none, and a note in `missing`, when the file is absent or empty.
fn rows_or_none<T: DeserializeOwned>(
    dir: &Path,
    name: &'static str,
    missing: &mut Vec<&'static str>,
) -> Result<Vec<T>, TableError> {
    let path = dir.join(name);
    let rows = if path.exists() { read_rows(&path)? } else { Vec::new() };
    if rows.is_empty() {
        missing.push(name);
    }
    Ok(rows)
}

fn json_or_null(path: &Path) -> Result<Value, TableError> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Ok(Value::Null),
        Ok(text) => serde_json::from_str(&text).map_err(|e| unreadable(path, e.into())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Value::Null),
        Err(e) => Err(unreadable(path, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_summary_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let error = RunTables::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("summary.json") && error.contains("run directory"), "{error}");
    }

    #[test]
    fn a_broken_summary_is_an_error_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("summary.json"), "{\"format\": 1,").unwrap();
        let error = RunTables::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }
}
