//! Reading a trace, believing nothing: shapes, finite values and indices are checked before anything is computed.

use super::{
    Manifest,
    error::TraceError,
    examples::{Data, read_batches, read_data, read_losses},
    manifest::{AnyManifest, read_manifest},
    recorded::{self, Course, LossPrecision, Recorded, input_shape},
    states::{States, Stored, first_shard, is_double, open, read_states},
};
use crate::{
    data::RoundRows,
    loss::Targets,
    network::{Network, tensor_names},
    num::Real,
    train::Examples,
};
use std::path::Path;

pub use super::examples::TraceTargets;

/// A trace in memory.
#[derive(Clone, Debug)]
pub struct Trace<T> {
    /// Its rounds are those that were read.
    pub manifest: Manifest,
    /// `W^1 .. W^N`, and the final weights if the trace has them: on disk, to be read when they are wanted.
    pub states: States<T>,
    /// The number of the round that each state is before: 1, 2, ... unless the trace is a sample of the rounds. The final one is before
    /// the round that training did not get to.
    pub numbers: Vec<usize>,
    /// What a recorded trace says of all rounds; `None` in format 1.
    pub course: Option<Course>,
    /// The rows of the data in each round's minibatch.
    pub batches: RoundRows,
    /// Losses that the writer recorded, to be compared with recomputed ones.
    pub losses: Option<Vec<f64>>,
    /// `[rows, features]`.
    pub inputs: Vec<T>,
    pub targets: TraceTargets<T>,
    /// The dataset named in the manifest, if the data came from there.
    pub dataset: Option<String>,
    /// The type that the weights were stored in.
    pub stored: Stored,
    /// Tensors of the shards that no layer uses.
    pub unused: Vec<String>,
    /// How the files were understood, where that does not go without saying: sentences.
    pub notes: Vec<String>,
    /// What casts doubt on them: sentences.
    pub warnings: Vec<String>,
    /// Rounds that the manifest declares, and why those that are here are fewer, if training broke down.
    pub declared: usize,
    pub cuts: Vec<String>,
}

/// How to read a trace.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOptions<'a> {
    /// Where datasets lie, for a trace that names one.
    pub data: Option<&'a Path>,
    /// How many rounds to read at most, from the first.
    pub rounds: Option<usize>,
}

/// Reads and checks a whole trace. Weights that are not finite end it before their round.
///
/// # Errors
/// If a file is missing, damaged, or does not fit the others.
pub fn read<T: Real>(folder: &Path, options: &ReadOptions) -> Result<(Trace<T>, Network), TraceError> {
    match read_manifest(folder)? {
        AnyManifest::One(manifest) => read_format_1(folder, manifest, options),
        AnyManifest::Two(manifest) => {
            let recorded = recorded::read(folder, *manifest, options.rounds)?;
            Ok(Trace::of_recorded(recorded))
        }
    }
}

fn read_format_1<T: Real>(
    folder: &Path,
    manifest: Manifest,
    options: &ReadOptions,
) -> Result<(Trace<T>, Network), TraceError> {
    let manifest_path = folder.join("manifest.json");
    let network = input_shape(&manifest.input, &manifest.layers)
        .and_then(|input| Network::new(input, &manifest.layers))
        .map_err(|source| TraceError::Network { path: manifest_path, source })?;
    let all = manifest.rounds;
    let wanted = options.rounds.map_or(all, |rounds| rounds.clamp(1, all));
    let states: States<T> = read_states(folder, &network, wanted, all)?;
    let (diverged, stored, mixed) = (states.diverged, states.stored, states.mixed);
    let names = states.names.clone();
    let Data { inputs, targets, dataset, warnings } = read_data(folder, &manifest, &network, options.data)?;
    let rows = inputs.len() / network.inputs();
    let batches = read_batches(folder, &manifest, wanted, rows)?;
    let losses = read_losses(folder, all, wanted)?;
    let mut notes: Vec<String> = names.note.into_iter().collect();
    if matches!(stored, Stored::F16 | Stored::Bf16) || mixed {
        let what = if mixed {
            "some weights are stored in half precision".to_owned()
        } else {
            format!("weights are stored as {stored}")
        };
        notes.push(format!("{what}, and are analysed as float32 with the same values"));
    }
    if wanted < all {
        notes.push(format!("only the first {wanted} of {all} rounds are read (--rounds)"));
    }
    if !names.unused.is_empty() && losses.is_none() {
        let reason = format!(
            "no layer of the list uses {}, so another network was trained; complete the list, or leave the tensors out if they \
             are none of the network's",
            tensor_names::list(&names.unused)
        );
        return Err(TraceError::Implausible { path: folder.to_owned(), reason });
    }
    let mut trace = Trace {
        manifest: Manifest { rounds: wanted, ..manifest },
        numbers: (1..=states.len()).collect(),
        course: None,
        states,
        batches,
        losses,
        inputs,
        targets,
        dataset,
        stored,
        unused: names.unused,
        notes,
        warnings,
        declared: all,
        cuts: Vec::new(),
    };
    if diverged {
        let whole = trace.states.len();
        if whole == 0 {
            return Err(TraceError::NotFinite);
        }
        trace.cut(whole, format!("W^{} is not finite", whole + 1));
    }
    Ok((trace, network))
}

/// What a trace has, by its headers alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overview {
    pub rounds: usize,
    /// Whether its weights are `f64`.
    pub double: bool,
}

/// Looks at a trace without reading its states.
///
/// # Errors
/// If its manifest or its first shard cannot be read.
pub fn overview(folder: &Path) -> Result<Overview, TraceError> {
    match read_manifest(folder)? {
        AnyManifest::One(manifest) => {
            let double = is_double(&open(&first_shard(folder)?, 0)?);
            Ok(Overview { rounds: manifest.rounds, double })
        }
        AnyManifest::Two(_) => recorded::overview(folder).map(|(rounds, double)| Overview { rounds, double }),
    }
}

impl<T: Real> Trace<T> {
    fn of_recorded(recorded: Recorded<T>) -> (Self, Network) {
        let Recorded {
            manifest,
            network,
            states,
            numbers,
            batches,
            losses,
            course,
            inputs,
            targets,
            notes,
            warnings,
            ..
        } = recorded;
        let (declared, stored, diverged) = (manifest.rounds, states.stored, states.diverged);
        let dataset = manifest.data.get("dataset").and_then(serde_json::Value::as_str).map(str::to_owned);
        let whole = states.len();
        let mut trace = Self {
            manifest,
            states,
            numbers,
            batches,
            losses: Some(losses),
            course: Some(course),
            inputs,
            targets,
            dataset,
            stored,
            unused: Vec::new(),
            notes,
            warnings,
            declared,
            cuts: Vec::new(),
        };
        if diverged {
            let why = format!("the weights before round {} are not finite", trace.number(whole));
            trace.cut(whole, why);
        }
        (trace, network)
    }

    /// The number of a round, which counts from 0 among those that were read.
    pub fn number(&self, index: usize) -> usize {
        self.numbers.get(index).copied().unwrap_or_else(|| self.numbers.last().map_or(0, |last| last + 1))
    }

    /// Whether rounds are missing between those that were read.
    pub fn is_sample(&self) -> bool {
        (0..self.manifest.rounds).any(|index| self.number(index) != index + 1)
    }

    /// What losses were computed in.
    pub fn precision(&self) -> LossPrecision {
        self.course.as_ref().map_or(LossPrecision::F32, |course| course.precision)
    }

    /// Ends the trace after `rounds` rounds, and says why.
    pub fn cut(&mut self, rounds: usize, why: String) {
        if rounds >= self.manifest.rounds {
            return;
        }
        self.cuts.push(why);
        let first = self.number(rounds);
        if let Some(course) = &mut self.course {
            course.losses.retain(|(number, _)| *number < first);
        }
        self.manifest.rounds = rounds;
        self.states.truncate(rounds + 1);
        self.numbers.truncate(rounds + 1);
        self.batches.truncate(rounds);
        if let Some(losses) = &mut self.losses {
            losses.truncate(rounds);
        }
    }

    /// Why the trace has fewer rounds than its manifest declares, if training broke down.
    pub fn shortened(&self) -> Option<String> {
        let rounds = self.manifest.rounds;
        (!self.cuts.is_empty())
            .then(|| format!("{}: rounds 1 to {rounds} of {} are analysed", self.cuts.join("; "), self.declared))
    }

    /// The minibatch of a round, which counts from 0.
    pub fn batch(&self, index: usize) -> &[u32] {
        self.batches.round(index)
    }

    /// The examples that rounds draw from; `features` is the input width.
    pub fn examples(&self, features: usize) -> Examples<'_, T> {
        match &self.targets {
            TraceTargets::Inputs => Examples::autoencoder(&self.inputs, features),
            TraceTargets::Labels(labels) => Examples::classifier(&self.inputs, features, labels),
            TraceTargets::Values(values) => {
                let width = values.len() / (self.inputs.len() / features).max(1);
                let targets = Targets::Values(&values[..]);
                Examples { inputs: &self.inputs, features, targets, target_width: width }
            }
        }
    }
}
