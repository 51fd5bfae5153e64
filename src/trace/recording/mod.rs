//! Recording a trace from any training loop as it goes, in format 2 (`docs/formats.md`, "Trace format, version 2").
//!
//! - [`Recording`]: takes rounds and losses, writes shards, thins them out where the trace has a budget
//! - `tensor`: what is handed over; `schema`: whether it fits what came before
//! - `rows`: which rows of the data were seen before; `hash`: what tells them apart
//! - `shard`: what one file holds
//!
//! A shard is written beside its name and renamed, and everything else is written at once or not at all. So the process may be killed at
//! any moment: the trace is then readable up to the last shard. Shards are not forced to the disk while training goes on; if the
//! *machine* fails, the last of them may be damaged, and the trace ends before them.
//!
//! ```
//! use taylorscope::trace::recording::{Dtype, Recording, RecordingOptions, Tensor};
//!
//! let folder = tempfile::tempdir()?;
//! let manifest = serde_json::json!({
//!     "input": [2], "layers": [{ "dense": 1 }], "loss": "mse", "target": "values",
//!     "optimizer": { "name": "sgd", "learning_rate": 0.1 }
//! });
//! let mut recording = Recording::create(folder.path(), manifest, RecordingOptions::default())?;
//! let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
//!
//! // Two datapoints of y = x_0 - x_1, plain gradient descent on the mean squared error.
//! let (x, y) = ([[1.0f32, 0.0], [0.0, 1.0]], [1.0f32, -1.0]);
//! let (mut w, mut b) = ([0.0f32, 0.0], 0.0f32);
//! let state = |w: &[f32; 2], b: f32| (bytes(w), bytes(&[b]));
//! for round in 1..=20 {
//!     let error: Vec<f32> = x.iter().zip(&y).map(|(x, y)| w[0] * x[0] + w[1] * x[1] + b - y).collect();
//!     let loss = f64::from(error.iter().map(|e| e * e).sum::<f32>() / 2.0);
//!     // Before the update: the loss, the minibatch, and the weights.
//!     let (weight, bias) = state(&w, b);
//!     let weights = [
//!         Tensor { name: "0.weight", dtype: Dtype::F32, shape: &[1, 2], bytes: &weight },
//!         Tensor { name: "0.bias", dtype: Dtype::F32, shape: &[1], bytes: &bias },
//!     ];
//!     let (inputs, targets) = (bytes(x.as_flattened()), bytes(&y));
//!     let inputs = Tensor { name: "inputs", dtype: Dtype::F32, shape: &[2, 2], bytes: &inputs };
//!     let targets = Tensor { name: "targets", dtype: Dtype::F32, shape: &[2, 1], bytes: &targets };
//!     recording.round(round, loss, 2, &[inputs], Some(&targets), &weights, &[])?;
//!     for (x, e) in x.iter().zip(&error) {
//!         (0..2).for_each(|j| w[j] -= 0.1 * e * x[j]);
//!         b -= 0.1 * e;
//!     }
//! }
//! let (weight, bias) = state(&w, b);
//! let last = [
//!     Tensor { name: "0.weight", dtype: Dtype::F32, shape: &[1, 2], bytes: &weight },
//!     Tensor { name: "0.bias", dtype: Dtype::F32, shape: &[1], bytes: &bias },
//! ];
//! recording.close(Some(&last), 20, true)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod folder;
mod hash;
mod rows;
mod schema;
mod shard;
mod tensor;

pub use safetensors::Dtype;
pub use tensor::Tensor;

use super::error::TraceError;
use rows::Rows;
use schema::Schema;
use serde_json::{Map, Value};
use shard::Shard;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A shard is written at the latest when this share of the time of the recording has gone by since the last.
const SHARE_OF_TIME: f64 = 0.02;
/// A budget has room for this many shards at least.
const SHARDS_OF_BUDGET: u64 = 8;
/// However many rows the data has, the states may take this part of the budget.
const LEAST_SHARE: u64 = 4;

/// How to record.
#[derive(Clone, Debug)]
pub struct RecordingOptions {
    /// Rounds between those whose states are kept, from round 1: 1 keeps all, 0 all that are handed over.
    pub every: usize,
    /// Bytes that the trace may take. Where states would take more than rows of the data leave of it (but at least a quarter of it),
    /// every second round is dropped, and of the rounds that follow as many.
    pub max_bytes: Option<u64>,
    /// A shard is written when it holds this many bytes of states and data.
    pub shard_bytes: usize,
    /// And when this time has gone by since the last (or a fiftieth of the time of the whole recording, if that is longer).
    pub shard_time: Duration,
    /// Whether a trace that is in the folder is replaced.
    pub overwrite: bool,
}

impl Default for RecordingOptions {
    fn default() -> Self {
        let shard_time = Duration::from_secs(10);
        Self { every: 1, max_bytes: None, shard_bytes: 64 << 20, shard_time, overwrite: false }
    }
}

/// What became of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Whether its state is in the trace; its loss is in any case.
    pub kept: bool,
    /// Whether rounds were dropped to stay within [`RecordingOptions::max_bytes`].
    pub thinned: bool,
}

/// A trace that is being recorded.
#[derive(Debug)]
pub struct Recording {
    folder: PathBuf,
    manifest: Map<String, Value>,
    options: RecordingOptions,
    schema: Option<Schema>,
    rows: Rows,
    /// Not yet written.
    pending: Shard,
    /// Bytes of the states of each shard on disk.
    written: Vec<u64>,
    /// Bytes of the data in shards on disk.
    row_bytes: u64,
    /// Of the rounds that `every` asks for, one in this many is kept.
    stride: usize,
    /// Rounds that were handed over with a state to keep or to drop.
    offered: usize,
    /// Numbers of the rounds that are kept.
    kept: Vec<i64>,
    /// The number of the last round.
    last: usize,
    begun: Instant,
    flushed: Instant,
}

impl Recording {
    /// Begins a trace in `folder`, which is made if it does not exist, and writes its manifest: the keys of format 2 but `format`,
    /// `every`, `rounds` and `complete`, which are added.
    ///
    /// # Errors
    /// If the folder holds something (with [`RecordingOptions::overwrite`]: something else than a trace), if the manifest has an unknown
    /// key or a value of the wrong kind, or if the folder cannot be written.
    pub fn create(folder: &Path, manifest: Value, mut options: RecordingOptions) -> Result<Self, TraceError> {
        let mut manifest = folder::manifest(folder, manifest)?;
        manifest.insert("every".to_owned(), options.every.into());
        if let Some(budget) = options.max_bytes {
            let most = usize::try_from(budget / SHARDS_OF_BUDGET).unwrap_or(usize::MAX);
            options.shard_bytes = options.shard_bytes.min(most);
        }
        folder::begin(folder, options.overwrite)?;
        folder::write_manifest(folder, &manifest)?;
        let now = Instant::now();
        Ok(Self {
            folder: folder.to_owned(),
            manifest,
            options,
            schema: None,
            rows: Rows::default(),
            pending: Shard::default(),
            written: Vec::new(),
            row_bytes: 0,
            stride: 1,
            offered: 0,
            kept: Vec::new(),
            last: 0,
            begun: now,
            flushed: now,
        })
    }

    /// The folder of the trace.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether [`Recording::round`] would keep the state of this round, so that others need not be copied.
    pub fn keeps(&self, number: usize) -> bool {
        match self.options.every {
            0 => self.offered.is_multiple_of(self.stride),
            every => number.saturating_sub(1).is_multiple_of(every.saturating_mul(self.stride)),
        }
    }

    /// Rounds between kept ones as things are; 0 if they are kept as they are handed over.
    pub fn every(&self) -> usize {
        self.options.every.saturating_mul(self.stride)
    }

    /// Sets keys of the manifest that were not known when the recording began (`probe`, `parameters`), and writes it.
    ///
    /// # Errors
    /// If a key is unknown or has a value of the wrong kind, or if the file cannot be written.
    pub fn describe(&mut self, keys: Map<String, Value>) -> Result<(), TraceError> {
        let mut manifest = self.manifest.clone();
        manifest.extend(keys);
        let every = self.manifest["every"].clone();
        let mut manifest = folder::manifest(&self.folder, Value::Object(manifest))?;
        manifest.insert("every".to_owned(), every);
        folder::write_manifest(&self.folder, &manifest)?;
        self.manifest = manifest;
        Ok(())
    }

    /// Records the loss of a round whose state is not handed over. Numbers count from 1 and increase.
    ///
    /// # Errors
    /// If the number does not follow that of the round before.
    pub fn loss(&mut self, number: usize, loss: f64) -> Result<(), TraceError> {
        if number <= self.last {
            let reason = format!("it comes after round {}; numbers of rounds count from 1 and increase", self.last);
            return Err(TraceError::Refused { round: number, reason });
        }
        self.last = number;
        self.pending.push_loss(number, loss);
        Ok(())
    }

    /// Records a round: the mean loss of its minibatch of `batch` datapoints, its `inputs` (`[batch, ...]` each, under the name
    /// `inputs`, or several under `inputs.0`, `inputs.encoder`, ...), its `targets` (`[batch]` or `[batch, ...]`, `None` if they are the
    /// inputs), and the parameters (`state`) and `buffers` *before* its update, under their names in the model.
    ///
    /// # Errors
    /// If it does not fit the rounds before, in which case nothing of it is recorded; or if a shard cannot be written: what was not
    /// written then is kept, and the next round or [`Recording::close`] tries again.
    #[allow(clippy::too_many_arguments)]
    pub fn round(
        &mut self,
        number: usize,
        loss: f64,
        batch: usize,
        inputs: &[Tensor],
        targets: Option<&Tensor>,
        state: &[Tensor],
        buffers: &[Tensor],
    ) -> Result<Recorded, TraceError> {
        let refuse = |reason| TraceError::Refused { round: number, reason };
        if !self.keeps(number) {
            self.loss(number, loss)?;
            self.offered += 1;
            return Ok(Recorded::default());
        }
        tensor::check(batch, inputs, targets, state, buffers).map_err(refuse)?;
        match &self.schema {
            Some(schema) => schema.check(inputs, targets, state, buffers).map_err(refuse)?,
            None => {
                let schema = Schema::of(inputs, targets, state, buffers);
                self.pending.set_columns(schema.columns());
                self.schema = Some(schema);
            }
        }
        self.rows.admit(batch).map_err(refuse)?;
        self.loss(number, loss)?;
        self.offered += 1;
        self.kept.push(number as i64);
        self.rows.take(batch, inputs, targets, &mut self.pending);
        self.pending.push_round(number, loss, batch, state, buffers);
        let thinned = if self.is_due() { self.flush()? } else { false };
        Ok(Recorded { kept: true, thinned })
    }

    /// Whether a shard is to be written.
    fn is_due(&self) -> bool {
        let waits = self.options.shard_time.max(self.begun.elapsed().mul_f64(SHARE_OF_TIME));
        self.pending.bytes() >= self.options.shard_bytes as u64 || self.flushed.elapsed() >= waits
    }

    /// Writes the rounds that wait as a shard, so that they outlive the process. Returns whether rounds were dropped to stay within
    /// the budget.
    ///
    /// # Errors
    /// If a file cannot be written; the rounds go on waiting.
    pub fn flush(&mut self) -> Result<bool, TraceError> {
        if self.pending.is_empty() {
            return Ok(false);
        }
        let thinned = self.keep_budget()?;
        self.pending.write(&folder::shard(&self.folder, self.written.len()))?;
        self.written.push(self.pending.state_bytes());
        self.row_bytes += self.pending.row_bytes();
        self.pending.clear();
        self.flushed = Instant::now();
        Ok(thinned)
    }

    /// Drops every second round until the states fit their part of the budget.
    fn keep_budget(&mut self) -> Result<bool, TraceError> {
        let Some(budget) = self.options.max_bytes else { return Ok(false) };
        let rows = self.row_bytes + self.pending.row_bytes();
        let allowed = budget.saturating_sub(rows).max(budget / LEAST_SHARE);
        let states = |this: &Self| this.written.iter().sum::<u64>() + this.pending.state_bytes();
        let mut thinned = false;
        while states(self) > allowed && self.kept.len() > 1 {
            self.thin()?;
            thinned = true;
        }
        Ok(thinned)
    }

    /// Drops every second round. Each shard is replaced at once, so that the trace is whole at any moment; only its spacing is uneven
    /// until the last is done.
    fn thin(&mut self) -> Result<(), TraceError> {
        self.stride *= 2;
        let spacing = self.every();
        let stays = |(at, number): (usize, &i64)| match spacing {
            0 => at.is_multiple_of(2),
            spacing => (*number as usize - 1).is_multiple_of(spacing),
        };
        let kept: Vec<i64> = self.kept.iter().enumerate().filter(|pair| stays(*pair)).map(|(_, n)| *n).collect();
        let staying: HashSet<i64> = kept.iter().copied().collect();
        for (at, bytes) in self.written.iter_mut().enumerate().filter(|(_, bytes)| **bytes > 0) {
            let path = folder::shard(&self.folder, at);
            let columns = self.schema.as_ref().map(Schema::columns).unwrap_or_default();
            let mut shard = Shard::read(&path, columns)?;
            shard.retain(&staying);
            shard.write(&path)?;
            *bytes = shard.state_bytes();
        }
        self.pending.retain(&staying);
        self.kept = kept;
        self.manifest.insert("every".to_owned(), spacing.into());
        folder::write_manifest(&self.folder, &self.manifest)
    }

    /// Writes what waits, the state after the last update if it is given, and the manifest with the number of `rounds` of the whole
    /// training; `complete` says whether training ended as it was meant to.
    ///
    /// # Errors
    /// If the final state does not fit the rounds, or a file cannot be written; what was written before stays a trace.
    pub fn close(
        mut self,
        final_state: Option<&[Tensor]>,
        rounds: usize,
        complete: bool,
    ) -> Result<Recorded, TraceError> {
        let thinned = self.flush()?;
        if let Some(state) = final_state {
            let refuse = |reason| TraceError::Refused { round: rounds + 1, reason };
            tensor::check_state(state).map_err(refuse)?;
            self.schema.as_ref().map_or(Ok(()), |schema| schema.check_state(state)).map_err(refuse)?;
            shard::write_final(&folder::final_state(&self.folder), state, rounds)?;
        }
        self.manifest.insert("rounds".to_owned(), rounds.into());
        self.manifest.insert("complete".to_owned(), complete.into());
        folder::write_manifest(&self.folder, &self.manifest)?;
        Ok(Recorded { kept: true, thinned })
    }
}

#[cfg(test)]
mod tests;
