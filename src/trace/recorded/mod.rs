//! Reading traces of format 2, shard by shard (`docs/formats.md`, "Trace format, version 2").
//!
//! - [`manifest`]: its keys
//! - `shards`: which shards there are, and what each says of its rounds
//! - `data`: the rows of the data, as they appear
//! - `epochs`: how many rounds an epoch has, by the rows that repeat

pub(super) mod data;
mod epochs;
pub mod manifest;
mod shards;

pub use manifest::{LossPrecision, RecordedManifest};

use super::{
    Manifest, RECORDED_FORMAT, TargetKind,
    error::{TraceError, malformed},
    examples::{TraceTargets, check_targets, raw_bytes},
    states::{Renaming, States, Stored, is_double},
    tensor_file::TensorFile,
};
use crate::{
    data::RoundRows,
    loss::Loss,
    network::{LayerSpec, Network, NetworkError, Shape, tensor_names::list},
    num::Real,
};
use data::DataReader;
use shards::Shards;
use std::{collections::BTreeSet, path::Path};

/// What all shards hold, but for the states, which stay there.
#[derive(Debug)]
pub(super) struct Recorded<T> {
    pub manifest: Manifest,
    pub network: Network,
    pub states: States<T>,
    /// The round that each state is before; the final one is before the round that training did not get to.
    pub numbers: Vec<usize>,
    pub batches: RoundRows,
    pub losses: Vec<f64>,
    /// Of all rounds, kept or not.
    pub course: Course,
    pub inputs: Vec<T>,
    pub targets: TraceTargets<T>,
    pub notes: Vec<String>,
    pub warnings: Vec<String>,
}

/// What is known of the whole training.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// Numbers and recorded losses of all rounds, kept or not.
    pub losses: Vec<(usize, f64)>,
    /// Rounds of an epoch, if the rows of the data say so.
    pub per_epoch: Option<usize>,
    /// Rows of the data in the probe set, if the manifest names them.
    pub probe: Option<Vec<u32>>,
    pub precision: LossPrecision,
}

/// Rounds that are kept, and whether their weights are `f64`, by the headers of the shards.
pub(super) fn overview(folder: &Path) -> Result<(usize, bool), TraceError> {
    let shards = Shards::find(folder)?;
    let counts = shards.files.iter().filter_map(|file| file.info("rounds")?.shape.first().copied());
    Ok((counts.fold(0, usize::saturating_add), is_double(&shards.files[0])))
}

/// Reads and checks all shards; of `most`, rounds up to that number.
pub(super) fn read<T: Real>(
    folder: &Path,
    manifest: RecordedManifest,
    most: Option<usize>,
) -> Result<Recorded<T>, TraceError> {
    let path = folder.join("manifest.json");
    let not_for_the_engine = |reason| TraceError::NotForTheEngine { path: path.clone(), reason };
    let (layers, loss) = manifest.for_the_engine().map_err(not_for_the_engine)?;
    let network = input_shape(&manifest.input, layers)
        .and_then(|input| Network::new(input, layers))
        .map_err(|source| TraceError::Network { path: path.clone(), source })?;
    let known = Manifest {
        format: RECORDED_FORMAT,
        input: manifest.input.clone(),
        layers: layers.to_vec(),
        loss,
        target: manifest.target,
        rounds: 0,
        batch_size: 0,
        optimizer: manifest.optimizer.clone(),
        data: manifest.data.clone(),
    };
    Reading::begin(folder, manifest, known, network)?.through(most)
}

/// A trace that is read.
struct Reading<'a, T> {
    folder: &'a Path,
    recorded: RecordedManifest,
    shards: Shards,
    into: Recorded<T>,
    data: DataReader,
    /// Tensors of the state.
    parameters: BTreeSet<String>,
}

/// The tensors of a state.
fn parameters(file: &TensorFile) -> impl Iterator<Item = String> {
    file.names().into_iter().filter(|name| name.starts_with(shards::STATE))
}

impl<'a, T: Real> Reading<'a, T> {
    fn begin(
        folder: &'a Path,
        recorded: RecordedManifest,
        manifest: Manifest,
        network: Network,
    ) -> Result<Self, TraceError> {
        let shards = Shards::find(folder)?;
        // Shards without rounds need not have states.
        let has_states = |file: &&TensorFile| file.names().iter().any(|name| name.starts_with(shards::STATE));
        let Some(first) = shards.files.iter().find(has_states) else {
            return Err(malformed(folder, "has no round with its state: training ended before the first was recorded"));
        };
        let layers = recorded.parameters.iter().map(|(layer, name)| (name.clone(), layer.clone())).collect();
        let states = States::new(&network, Renaming { prefix: shards::STATE, layers }, first)?;
        if !states.names.unused.is_empty() {
            let names = list(&states.names.unused);
            let reason = format!(
                "no layer of the list uses {names}, so another network was trained: complete \"layers\", or leave the parameters \
                 out if they are none of the network's"
            );
            return Err(TraceError::Implausible { path: first.path.clone(), reason });
        }
        let course = Course { probe: recorded.probe.clone(), precision: recorded.precision, ..Course::default() };
        let targets = match (manifest.target, manifest.loss) {
            (TargetKind::Input, _) => TraceTargets::Inputs,
            (TargetKind::Label | TargetKind::Values, Loss::CrossEntropy) => TraceTargets::Labels(Vec::new()),
            (TargetKind::Label | TargetKind::Values, Loss::Mse) => TraceTargets::Values(Vec::new()),
        };
        let into = Recorded {
            manifest,
            network,
            states,
            numbers: Vec::new(),
            batches: RoundRows::new(),
            losses: Vec::new(),
            course,
            inputs: Vec::new(),
            targets,
            notes: Vec::new(),
            warnings: Vec::new(),
        };
        let parameters = parameters(first).collect();
        Ok(Self { folder, recorded, shards, into, data: DataReader::default(), parameters })
    }

    /// Goes through the shards, up to the wanted round or the first state that is not finite.
    fn through(mut self, most: Option<usize>) -> Result<Recorded<T>, TraceError> {
        let most = most.unwrap_or(usize::MAX).max(1);
        for file in std::mem::take(&mut self.shards.files) {
            let rounds = shards::rounds(&file, self.into.course.losses.last().map_or(0, |(number, _)| *number))?;
            let Recorded { manifest, network, inputs, targets, .. } = &mut self.into;
            self.data.take(&file, manifest, network, inputs, targets)?;
            let rows = self.into.inputs.len() / self.into.network.inputs();
            if let Some(row) = rounds.rows.iter().find(|row| **row as usize >= rows) {
                let reason = format!("has row {row}, but there are {rows} rows of data up to this shard");
                return Err(malformed(&file.path, reason));
            }
            self.into.course.losses.extend(rounds.all.iter().copied());
            self.take(&file, rounds)?;
            if self.into.states.diverged || self.into.course.losses.last().is_some_and(|(number, _)| *number >= most) {
                break;
            }
        }
        self.end(most)
    }

    /// Takes in the rounds of a shard and their states.
    fn take(&mut self, file: &TensorFile, rounds: shards::Rounds) -> Result<(), TraceError> {
        let count = rounds.numbers.len();
        let mut start = 0;
        for ((number, loss), size) in rounds.numbers.iter().zip(&rounds.losses).zip(&rounds.sizes) {
            self.into.numbers.push(*number);
            self.into.losses.push(*loss);
            self.into.batches.push(&rounds.rows[start..start + size]);
            start += size;
        }
        if count == 0 {
            return Ok(());
        }
        self.check_parameters(file)?;
        let before = self.into.states.len();
        self.into.states.append(file, Some(true))?;
        let found = self.into.states.len() - before;
        if found != count && !self.into.states.diverged {
            return Err(malformed(&file.path, format!("has {found} states, but {count} rounds")));
        }
        Ok(())
    }

    /// Fails if a file has parameters that the first shard has not.
    fn check_parameters(&self, file: &TensorFile) -> Result<(), TraceError> {
        match parameters(file).find(|name| !self.parameters.contains(name)) {
            Some(name) => Err(malformed(&file.path, format!("has \"{name}\", which the first shard has not"))),
            None => Ok(()),
        }
    }

    /// Checks what is there as a whole, and takes the state behind the last wanted round.
    fn end(mut self, most: usize) -> Result<Recorded<T>, TraceError> {
        if self.into.numbers.is_empty() {
            return Err(malformed(self.folder, "has no round with its state"));
        }
        check_targets(self.folder, &self.into.manifest, &self.into.network, &self.into.targets)?;
        self.into.course.per_epoch = epochs::rounds_per_epoch(&self.into.numbers, &self.into.batches);
        let all = self.into.numbers.len();
        let kept = self.into.numbers.partition_point(|number| *number <= most).max(1);
        let next = if kept < all { Some(self.into.numbers[kept]) } else { self.final_state()? };
        let Recorded { numbers, states, losses, batches, course, manifest, notes, .. } = &mut self.into;
        numbers.truncate(kept);
        losses.truncate(kept);
        batches.truncate(kept);
        let last = numbers[kept - 1];
        course.losses.retain(|(number, _)| *number <= most.max(last));
        states.truncate(kept + 1);
        numbers.extend(next.filter(|_| states.len() > kept));
        (manifest.rounds, manifest.batch_size) = (kept, batches.largest());
        if kept < all {
            notes.push(format!("only rounds 1 to {most} are read (--rounds)"));
        }
        self.say();
        Ok(self.into)
    }

    /// Takes in the state after the last update, if it is there; returns the number of the round that would follow.
    fn final_state(&mut self) -> Result<Option<usize>, TraceError> {
        let path = self.folder.join("final.safetensors");
        // That of an unfinished trace is of another state than the shards.
        if self.into.states.diverged || self.shards.ended_early() || self.recorded.rounds.is_none() || !path.exists() {
            return Ok(None);
        }
        let Ok(file) = TensorFile::open(&path) else {
            self.into
                .notes
                .push("final.safetensors is damaged: the state after the last update is left out".to_owned());
            return Ok(None);
        };
        let rounds = file.word("rounds").and_then(|rounds| rounds.parse::<usize>().ok()).or(self.recorded.rounds);
        let last = self.into.numbers.last().copied().unwrap_or(0);
        let Some(rounds) = rounds.filter(|rounds| *rounds >= last) else {
            let reason = format!("its \"rounds\" must be a number, at least that of the last kept round, {last}");
            return Err(malformed(&path, reason));
        };
        self.check_parameters(&file)?;
        self.into.states.append(&file, Some(false))?;
        // A state that is not finite is not one to look at; the rounds before are whole.
        self.into.states.diverged = false;
        Ok(Some(rounds + 1))
    }

    /// How the files were understood, where that does not go without saying.
    fn say(&mut self) {
        let Recorded { states, notes, warnings, manifest, inputs, course, numbers, .. } = &mut self.into;
        notes.extend(states.names.note.clone());
        if matches!(states.stored, Stored::F16 | Stored::Bf16) || states.mixed {
            notes.push(format!(
                "weights are stored as {}, and are analysed as float32 with the same values",
                states.stored
            ));
        }
        warnings.extend(self.shards.ended.take());
        warnings.extend(raw_bytes("the trace", inputs.iter().map(|v| v.to_f64())));
        if self.recorded.rounds.is_none() {
            let last = numbers[manifest.rounds - 1];
            notes.push(format!(
                "training was not closed: the trace ends with round {last}, the last of its last whole shard"
            ));
        } else if !self.recorded.complete {
            notes.push("training ended before it was complete".to_owned());
        }
        if course.per_epoch.is_none() && manifest.rounds == numbers[manifest.rounds - 1] {
            notes.push(
                "the rows of the data do not come back as those of epochs do (augmentation, or less than an epoch), so all \
                 rounds count as one epoch"
                    .to_owned(),
            );
        }
    }
}

/// The shape of an input. Without a layer about images, an input of any shape is the vector of its values.
pub(super) fn input_shape(input: &[usize], layers: &[LayerSpec]) -> Result<Shape, NetworkError> {
    if layers.iter().any(LayerSpec::is_spatial) {
        return Shape::from_sizes(input);
    }
    let features = input.iter().try_fold(1usize, |a, b| a.checked_mul(*b)).unwrap_or(0);
    Ok(Shape::Features(features))
}
