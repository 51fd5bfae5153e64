//! Reading a trace, believing nothing: shapes, finite values and indices are checked before anything is computed.

use super::{
    Manifest,
    error::TraceError,
    examples::{Data, read_batches, read_data, read_losses},
    manifest::read_manifest,
    states::{States, Stored, read_states},
};
use crate::{
    data::RoundRows,
    loss::Targets,
    network::{LayerSpec, Network, NetworkError, Shape, tensor_names},
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
    /// `W^1 .. W^N`, and the final weights if the trace has them.
    pub states: Vec<Vec<T>>,
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
    let manifest = read_manifest(folder)?;
    let manifest_path = folder.join("manifest.json");
    let network = input_shape(&manifest)
        .and_then(|input| Network::new(input, &manifest.layers))
        .map_err(|source| TraceError::Network { path: manifest_path, source })?;
    let all = manifest.rounds;
    let wanted = options.rounds.map_or(all, |rounds| rounds.clamp(1, all));
    let States { states, diverged, names, stored, mixed } = read_states(folder, &network, wanted, all)?;
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

/// The shape of an input. Without a layer about images, an input of any shape is the vector of its values.
fn input_shape(manifest: &Manifest) -> Result<Shape, NetworkError> {
    if manifest.layers.iter().any(LayerSpec::is_spatial) {
        return Shape::from_sizes(&manifest.input);
    }
    let features = manifest.input.iter().try_fold(1usize, |a, b| a.checked_mul(*b)).unwrap_or(0);
    Ok(Shape::Features(features))
}

impl<T: Real> Trace<T> {
    /// Ends the trace after `rounds` rounds, and says why.
    pub fn cut(&mut self, rounds: usize, why: String) {
        if rounds >= self.manifest.rounds {
            return;
        }
        self.cuts.push(why);
        self.manifest.rounds = rounds;
        self.states.truncate(rounds + 1);
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
