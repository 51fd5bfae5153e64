//! The data of a trace: inputs, targets, and which rows each round saw.

use super::{
    Manifest, TargetKind,
    array::{Array, read_npy, squeezed},
    error::{TraceError, malformed},
};
use crate::{
    data::{self, RoundRows},
    loss::Loss,
    network::{LayerSpec, Network},
    num::Real,
};
use std::path::Path;

/// What a trace's outputs are compared with.
#[derive(Clone, Debug)]
pub enum TraceTargets<T> {
    /// The inputs themselves.
    Inputs,
    /// `[rows, outputs]`.
    Values(Vec<T>),
    /// `[rows]`.
    Labels(Vec<u32>),
}

/// Inputs and targets, and where they came from.
pub(super) struct Data<T> {
    pub inputs: Vec<T>,
    pub targets: TraceTargets<T>,
    /// The dataset that the manifest names.
    pub dataset: Option<String>,
    /// What casts doubt on them.
    pub warnings: Vec<String>,
}

pub(super) fn read_data<T: Real>(
    folder: &Path,
    manifest: &Manifest,
    network: &Network,
    data: Option<&Path>,
) -> Result<Data<T>, TraceError> {
    let named = manifest.data.get("dataset").and_then(serde_json::Value::as_str).map(str::to_owned);
    let path = folder.join("inputs.npy");
    let read = if path.exists() {
        let array = read_npy(&path)?;
        let rows = check_inputs(&path, &array, manifest, network)?;
        let warnings = raw_bytes("inputs.npy", array.values.iter().copied()).into_iter().collect();
        let inputs: Vec<T> = array.values.iter().map(|v| T::from_f64(*v)).collect();
        let targets = match manifest.target {
            TargetKind::Input => TraceTargets::Inputs,
            TargetKind::Label | TargetKind::Values => read_targets(folder, manifest, network, rows)?,
        };
        Data { inputs, targets, dataset: named, warnings }
    } else {
        let Some(dataset) = named else {
            return Err(malformed(folder, "has no inputs.npy and its manifest names no dataset; add one of the two"));
        };
        of_dataset(folder, manifest, network, dataset, data)?
    };
    check_targets(folder, manifest, network, &read.targets)?;
    Ok(read)
}

/// The training rows of a known dataset.
fn of_dataset<T: Real>(
    folder: &Path,
    manifest: &Manifest,
    network: &Network,
    dataset: String,
    data: Option<&Path>,
) -> Result<Data<T>, TraceError> {
    let mut loaded =
        data::load(&dataset, data).map_err(|source| TraceError::Data { dataset: dataset.clone(), source })?;
    if manifest.data.get("standardize").and_then(serde_json::Value::as_bool).unwrap_or(false) {
        loaded.standardize();
    }
    let (features, found) = (network.inputs(), loaded.train.features());
    if found != features {
        let reason = format!("\"input\" has {features} features, but those of the dataset {dataset} have {found}");
        return Err(malformed(&folder.join("manifest.json"), reason));
    }
    let inputs = loaded.train.inputs.iter().map(|v| T::from_f64(f64::from(*v))).collect();
    let targets = match manifest.target {
        TargetKind::Input => TraceTargets::Inputs,
        TargetKind::Label | TargetKind::Values => TraceTargets::Labels(loaded.train.labels),
    };
    Ok(Data { inputs, targets, dataset: Some(dataset), warnings: Vec::new() })
}

/// The number of rows of inputs that a network can take.
pub(super) fn check_inputs(
    path: &Path,
    array: &Array,
    manifest: &Manifest,
    network: &Network,
) -> Result<usize, TraceError> {
    let (shape, features) = (&array.shape, network.inputs());
    let rows = shape.first().copied().unwrap_or(0);
    let sizes = shape.get(1..).unwrap_or_default();
    let list = |sizes: &[usize]| sizes.iter().map(|side| format!(", {side}")).collect::<String>();
    let needed = format!("[rows{}]", list(&manifest.input));
    if rows == 0 || sizes.iter().product::<usize>() != features {
        let reason = format!("has shape {shape:?}, but the \"input\" of the manifest asks for {needed}");
        return Err(malformed(path, reason));
    }
    // For a dense network an input is the vector of its values; images have axes that must be where they are expected.
    let spatial = manifest.layers.iter().any(LayerSpec::is_spatial);
    if spatial && sizes != [features] && squeezed(sizes) != squeezed(&manifest.input) {
        let cure = match (&sizes, &manifest.input[..]) {
            ([a, b, c], [channels, height, width]) if (a, b, c) == (height, width, channels) => {
                "the channels are last; save numpy.moveaxis(x, -1, 1)"
            }
            _ => "reorder the axes, or correct \"input\"",
        };
        let reason = format!("has shape {shape:?}, but the \"input\" of the manifest asks for {needed}: {cure}");
        return Err(malformed(path, reason));
    }
    match array.not_finite() {
        Some((place, value)) => {
            Err(malformed(path, format!("{place} is {value}; inputs must be finite: repair or leave out that row")))
        }
        None => Ok(rows),
    }
}

/// Says that inputs look like bytes that were not scaled.
pub(super) fn raw_bytes(what: &str, values: impl Iterator<Item = f64>) -> Option<String> {
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        if value.fract() != 0.0 {
            return None;
        }
        (least, most) = (least.min(value), most.max(value));
    }
    (least >= 0.0 && (128.0..=255.0).contains(&most)).then(|| {
        format!(
            "{what} holds whole numbers from {least} to {most}, as bytes of images are: if training saw them \
             divided by 255, save them so"
        )
    })
}

fn read_targets<T: Real>(
    folder: &Path,
    manifest: &Manifest,
    network: &Network,
    rows: usize,
) -> Result<TraceTargets<T>, TraceError> {
    let path = folder.join("targets.npy");
    if !path.exists() {
        let reason =
            "has no targets.npy, which \"target\": \"label\" needs; save the labels or values of all rows there";
        return Err(malformed(folder, reason));
    }
    of_targets(&path, &read_npy(&path)?, manifest, network, rows)
}

/// The targets of `rows` rows, which are in an array.
pub(super) fn of_targets<T: Real>(
    path: &Path,
    array: &Array,
    manifest: &Manifest,
    network: &Network,
    rows: usize,
) -> Result<TraceTargets<T>, TraceError> {
    let (shape, outputs) = (&array.shape, network.outputs());
    let fits = shape.first() == Some(&rows);
    match manifest.loss {
        Loss::CrossEntropy if fits && shape[1..].iter().all(|side| *side == 1) => {
            labels(path, &array.values, outputs).map(TraceTargets::Labels)
        }
        Loss::Mse if fits && shape[1..].iter().product::<usize>() == outputs => match array.not_finite() {
            Some((place, value)) => Err(malformed(
                path,
                format!("{place} is {value}; targets must be finite: repair or leave out that row"),
            )),
            None => Ok(TraceTargets::Values(array.values.iter().map(|v| T::from_f64(*v)).collect())),
        },
        Loss::CrossEntropy => {
            let cure = if fits && shape[1..] == [outputs] {
                ": one-hot or probabilities? Save the index of the class, targets.argmax(1)"
            } else {
                "; save the class of every row of inputs.npy"
            };
            Err(malformed(path, format!("has shape {shape:?}, but cross_entropy needs [{rows}]{cure}")))
        }
        Loss::Mse => {
            let cure = "save the target values of every row of inputs.npy";
            Err(malformed(path, format!("has shape {shape:?}, but mse needs [{rows}, {outputs}]; {cure}")))
        }
    }
}

/// Labels as class indices below `classes`.
fn labels(path: &Path, values: &[f64], classes: usize) -> Result<Vec<u32>, TraceError> {
    let is_label = |v: &f64| *v >= 0.0 && *v < classes as f64 && v.fract() == 0.0;
    let Some(at) = values.iter().position(|v| !is_label(v)) else {
        return Ok(values.iter().map(|v| *v as u32).collect());
    };
    let (least, most) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    let cure = if values.iter().any(|v| v.fract() != 0.0) {
        "labels are class indices; for other values the loss is \"mse\"".to_owned()
    } else if least == 1.0 && most == classes as f64 {
        format!("labels run from 1 to {classes}, but count from 0: subtract 1")
    } else if values.contains(&-100.0) {
        "rows with label -100 were ignored in training (ignore_index), which a trace cannot say: leave such rows out of the \
         minibatches"
            .to_owned()
    } else {
        format!("labels run from {least} to {most}, and the network has {classes} outputs: 0 to {}", classes.max(1) - 1)
    };
    Err(malformed(path, format!("entry {at} is {}; {cure}", values[at])))
}

pub(super) fn check_targets<T>(
    folder: &Path,
    manifest: &Manifest,
    network: &Network,
    targets: &TraceTargets<T>,
) -> Result<(), TraceError> {
    let fits = match (manifest.loss, targets) {
        (Loss::Mse, TraceTargets::Inputs) => network.outputs() == network.inputs(),
        (Loss::Mse, TraceTargets::Values(_)) => true,
        (Loss::CrossEntropy, TraceTargets::Labels(labels)) => {
            labels.iter().all(|label| (*label as usize) < network.outputs())
        }
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let reason = format!(
        "loss {} does not fit target {:?} with {} inputs and {} outputs: mse with target input needs as many outputs \
         as inputs, cross_entropy needs target label and an output per class",
        manifest.loss.name(),
        manifest.target,
        network.inputs(),
        network.outputs()
    );
    Err(malformed(&folder.join("manifest.json"), reason))
}

/// The rows of the first rounds.
pub(super) fn read_batches(
    folder: &Path,
    manifest: &Manifest,
    rounds: usize,
    rows: usize,
) -> Result<RoundRows, TraceError> {
    let path = folder.join("batches.npy");
    let array = read_npy(&path)?;
    let expected = [manifest.rounds, manifest.batch_size];
    if array.shape != expected {
        let cure = match array.shape[..] {
            [found, size] if size == manifest.batch_size => {
                format!("it has the minibatches of {found} rounds, \"rounds\" says {}", manifest.rounds)
            }
            [found, size] if found == manifest.rounds => {
                format!("its minibatches have {size} rows, \"batch_size\" says {}", manifest.batch_size)
            }
            _ => "save the rows of the data that each round saw, a row of the array for each round".to_owned(),
        };
        let reason = format!("has shape {:?}, but the manifest asks for {expected:?}: {cure}", array.shape);
        return Err(malformed(&path, reason));
    }
    if array.truths {
        let reason = "holds true and false; save the numbers of the rows, as numpy.flatnonzero gives them of a mask";
        return Err(malformed(&path, reason));
    }
    let inside = |v: &f64| *v >= 0.0 && *v < rows as f64 && v.fract() == 0.0;
    let used = &array.values[..rounds * manifest.batch_size];
    let Some(at) = used.iter().position(|v| !inside(v)) else {
        return Ok(RoundRows::uniform(used.iter().map(|v| *v as u32).collect(), manifest.batch_size));
    };
    let (round, value) = (at / manifest.batch_size + 1, used[at]);
    let padded = used.chunks(manifest.batch_size).filter(|batch| batch.contains(&-1.0)).count();
    let cure = if value == -1.0 {
        format!(
            "-1 fills up {padded} of {rounds} minibatches? All have one size in a trace: leave those rounds out of \
             weights, batches and losses alike"
        )
    } else if value < 0.0 {
        "rows count from 0 in a trace; negative ones count from the end in Python only: save x % rows".to_owned()
    } else if value == rows as f64 && !used.contains(&0.0) {
        "rows count from 0: subtract 1".to_owned()
    } else {
        format!("rows of the data are whole numbers from 0 to {}: does inputs.npy hold all rows?", rows.max(1) - 1)
    };
    Err(malformed(&path, format!("round {round} has row {value}; {cure}")))
}

/// The recorded losses of the first rounds.
pub(super) fn read_losses(folder: &Path, all: usize, rounds: usize) -> Result<Option<Vec<f64>>, TraceError> {
    let path = folder.join("losses.npy");
    if !path.exists() {
        return Ok(None);
    }
    let Array { shape, mut values, .. } = read_npy(&path)?;
    if values.len() != all || squeezed(&shape).len() > 1 {
        let reason =
            format!("has shape {shape:?}, but there are {all} rounds; save the loss of each round's minibatch");
        return Err(malformed(&path, reason));
    }
    values.truncate(rounds);
    Ok(Some(values))
}
