//! Writing a trace while training runs.

use super::{
    FORMAT, Manifest, TargetKind,
    npy::{self, Element},
};
use crate::{
    checkpoint::{Persist, Store, StoreError},
    data::Dataset,
    files::{remove, write_atomically},
    loss::Loss,
    network::{Network, weights::encode_states},
    num::Real,
    optim::OptimizerConfig,
    train::{Observer, Round},
};
use std::{
    io,
    path::{Path, PathBuf},
};

/// A shard is written when it holds this many bytes of weights.
const SHARD_BYTES: usize = 64 << 20;

/// Writes weights in shards as rounds go by, and the rest at the end. The manifest comes last: a folder without one has no trace.
///
/// A write that fails is remembered, and nothing is taken in after it: see [`TraceWriter::failure`].
pub struct TraceWriter<T> {
    folder: PathBuf,
    network: Network,
    manifest: Manifest,
    pending: Vec<Vec<T>>,
    shards: usize,
    rows: Vec<u32>,
    losses: Vec<f64>,
    failure: Option<io::Error>,
}

impl<T: Real> TraceWriter<T> {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        folder: &Path,
        network: &Network,
        loss: Loss,
        target: TargetKind,
        batch_size: usize,
        optimizer: &OptimizerConfig,
        dataset: &Dataset,
    ) -> io::Result<Self> {
        let layers = network.list("a trace's manifest").map_err(io::Error::other)?.to_vec();
        std::fs::create_dir_all(folder)?;
        let to_map = |value: serde_json::Value| match value {
            serde_json::Value::Object(map) => map,
            _ => serde_json::Map::new(),
        };
        let manifest = Manifest {
            format: FORMAT,
            input: network.input().sizes(),
            layers,
            loss,
            target,
            rounds: 0,
            batch_size,
            optimizer: to_map(serde_json::to_value(optimizer).unwrap_or_default()),
            data: to_map(match dataset.standardization {
                None => serde_json::json!({ "dataset": dataset.name }),
                Some(_) => serde_json::json!({ "dataset": dataset.name, "standardize": true }),
            }),
        };
        Ok(Self {
            folder: folder.to_owned(),
            network: network.clone(),
            manifest,
            pending: Vec::new(),
            shards: 0,
            rows: Vec::new(),
            losses: Vec::new(),
            failure: None,
        })
    }

    /// Writes the inputs `[rows, features]` and, if given, labels next to the weights, so that the trace needs no other files.
    pub fn write_data(&self, inputs: &[f32], features: usize, labels: Option<&[u32]>) -> io::Result<()> {
        let rows = inputs.len() / features;
        write_npy(&self.folder.join("inputs.npy"), &[rows as u64, features as u64], inputs)?;
        match labels {
            Some(labels) => {
                let labels: Vec<i64> = labels.iter().map(|l| i64::from(*l)).collect();
                write_npy(&self.folder.join("targets.npy"), &[rows as u64], &labels)
            }
            None => Ok(()),
        }
    }

    /// Removes what the folder has beyond the shards that were written: traces of an earlier, longer run.
    pub fn begin(&self) -> io::Result<()> {
        remove(&self.folder.join("manifest.json"))?;
        let mut shard = self.shards;
        while self.shard_path(shard).exists() {
            remove(&self.shard_path(shard))?;
            shard += 1;
        }
        Ok(())
    }

    /// The first write that failed. The rounds of that shard are still here, so a checkpoint loses nothing.
    pub fn failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    fn shard_path(&self, shard: usize) -> PathBuf {
        self.folder.join(format!("weights-{shard:05}.safetensors"))
    }

    fn push(&mut self, weights: &[T]) {
        self.pending.push(weights.to_vec());
        if self.pending.len() * weights.len() * size_of::<T>() >= SHARD_BYTES {
            self.write_shard();
        }
    }

    fn write_shard(&mut self) {
        if self.pending.is_empty() || self.failure.is_some() {
            return;
        }
        let states: Vec<&[T]> = self.pending.iter().map(|s| &s[..]).collect();
        let written = encode_states(&self.network, &states, true)
            .map_err(io::Error::other)
            .and_then(|bytes| write_atomically(&self.shard_path(self.shards), &bytes));
        match written {
            Ok(()) => {
                self.pending.clear();
                self.shards += 1;
            }
            Err(failure) => self.failure = Some(failure),
        }
    }

    /// Writes what is left and the manifest. The trace is complete when this returns without an error.
    pub fn close(mut self) -> io::Result<()> {
        self.write_shard();
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        self.manifest.rounds = self.losses.len();
        let shape = [self.losses.len() as u64, self.manifest.batch_size as u64];
        let rows: Vec<i64> = self.rows.iter().map(|r| i64::from(*r)).collect();
        write_npy(&self.folder.join("batches.npy"), &shape, &rows)?;
        write_npy(&self.folder.join("losses.npy"), &shape[..1], &self.losses)?;
        let text = serde_json::to_string_pretty(&self.manifest)?;
        write_atomically(&self.folder.join("manifest.json"), text.as_bytes())
    }
}

impl<T: Real> Observer<T> for TraceWriter<T> {
    fn observe(&mut self, round: &Round<T>) {
        if self.failure.is_none() {
            self.rows.extend_from_slice(round.rows);
            self.losses.push(round.loss);
            self.push(round.weights);
        }
    }

    fn finish(&mut self, final_weights: &[T], _rounds: usize) {
        // A diverged run has no usable last state; the format allows to leave it out.
        if self.failure.is_none() && final_weights.iter().all(|w| w.is_finite()) {
            self.push(final_weights);
        }
    }
}

impl<T: Real> Persist for TraceWriter<T> {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.count("shards", &mut self.shards)?;
        store.list("rows", &mut self.rows)?;
        store.list("losses", &mut self.losses)?;
        store.rows("pending", &mut self.pending, self.network.parameters())?;
        if Some(self.rows.len()) != self.losses.len().checked_mul(self.manifest.batch_size) {
            return Err(store.malformed("rows", "do not fit the losses"));
        }
        Ok(())
    }
}

/// Writes an array of any shape as a `.npy` file, atomically.
pub fn write_npy<V: Element>(path: &Path, shape: &[u64], values: &[V]) -> io::Result<()> {
    write_atomically(path, &npy::file(shape, values))
}
