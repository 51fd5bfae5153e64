//! Checksums that tell traces, and their data, from others.

use crate::{
    num::Real,
    study::inputs::{hash, hexadecimal},
    trace::{Trace, TraceError, read::TraceTargets},
};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

fn hash_of(hashes: impl IntoIterator<Item = [u8; 32]>) -> String {
    let mut hasher = Sha256::new();
    hashes.into_iter().for_each(|hash| hasher.update(hash));
    hexadecimal(&hasher.finalize())
}

/// Of everything in a trace that its analysis depends on.
///
/// # Errors
/// If a state cannot be read.
pub(super) fn digest<T: Real>(trace: &Trace<T>) -> Result<String, TraceError> {
    let manifest = serde_json::to_string(&trace.manifest).unwrap_or_default();
    let mut reader = trace.states.reader();
    let mut all: Vec<[u8; 32]> =
        (0..trace.states.len()).map(|index| reader.get(index).map(hash)).collect::<Result<_, _>>()?;
    let targets = match &trace.targets {
        TraceTargets::Inputs => [0; 32],
        TraceTargets::Labels(labels) => hash(labels),
        TraceTargets::Values(values) => hash(values),
    };
    all.extend([Sha256::digest(manifest.as_bytes()).into(), hash(trace.batches.rows()), hash(&trace.inputs), targets]);
    // Equal sizes are told by the manifest.
    if trace.batches.is_uniform().is_none() {
        all.push(hash(&trace.batches.sizes().map(|size| size as u64).collect::<Vec<u64>>()));
    }
    if let Some(course) = &trace.course {
        all.push(hash(
            &trace.numbers[..trace.manifest.rounds].iter().map(|number| *number as u64).collect::<Vec<u64>>(),
        ));
        // Of the rounds that are read again, which may be fewer than training had.
        let last = trace.number(trace.manifest.rounds - 1);
        let (rounds, losses): (Vec<u64>, Vec<f64>) =
            course.losses.iter().filter(|(at, _)| *at <= last).map(|(at, loss)| (*at as u64, *loss)).unzip();
        all.extend([hash(&rounds), hash(&losses)]);
        all.push(hash(course.probe.as_deref().unwrap_or_default()));
    }
    Ok(hash_of(all))
}

/// Of the data alone, rounded to single precision; of a recorded trace whatever the order in which rows appeared.
pub(super) fn data_digest<T: Real>(trace: &Trace<T>, features: usize) -> String {
    let single = |values: &[T]| -> [u8; 32] { hash(&values.iter().map(|v| v.to_f64() as f32).collect::<Vec<_>>()) };
    if trace.course.is_some() {
        return hash_of(sorted_rows(trace, features));
    }
    let targets = match &trace.targets {
        TraceTargets::Inputs => [0; 32],
        TraceTargets::Labels(labels) => hash(labels),
        TraceTargets::Values(values) => single(values),
    };
    hash_of([single(&trace.inputs), targets])
}

/// Hashes of the rows, sorted, each once.
fn sorted_rows<T: Real>(trace: &Trace<T>, features: usize) -> Vec<[u8; 32]> {
    let rows = trace.inputs.len() / features;
    let of = |row: usize| {
        let mut values: Vec<f32> =
            trace.inputs[row * features..][..features].iter().map(|v| v.to_f64() as f32).collect();
        match &trace.targets {
            TraceTargets::Inputs => {}
            TraceTargets::Labels(labels) => values.push(labels[row] as f32),
            TraceTargets::Values(all) => {
                let width = all.len() / rows;
                values.extend(all[row * width..][..width].iter().map(|v| v.to_f64() as f32));
            }
        }
        hash(&values)
    };
    let mut hashes: Vec<[u8; 32]> = (0..rows).into_par_iter().map(of).collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}
