//! Checksums that tell traces, and their data, from others.

use crate::{
    num::Real,
    study::inputs::{hash, hexadecimal},
    trace::{Trace, read::TraceTargets},
};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

fn hash_of(hashes: impl IntoIterator<Item = [u8; 32]>) -> String {
    let mut hasher = Sha256::new();
    hashes.into_iter().for_each(|hash| hasher.update(hash));
    hexadecimal(&hasher.finalize())
}

/// Of everything in a trace that its analysis depends on.
pub(super) fn digest<T: Real>(trace: &Trace<T>) -> String {
    let manifest = serde_json::to_string(&trace.manifest).unwrap_or_default();
    let states: Vec<[u8; 32]> = trace.states.par_iter().map(|state| hash(state)).collect();
    let targets = match &trace.targets {
        TraceTargets::Inputs => [0; 32],
        TraceTargets::Labels(labels) => hash(labels),
        TraceTargets::Values(values) => hash(values),
    };
    let rest = [Sha256::digest(manifest.as_bytes()).into(), hash(trace.batches.rows()), hash(&trace.inputs), targets];
    // Equal sizes are told by the manifest.
    let sizes = trace
        .batches
        .is_uniform()
        .is_none()
        .then(|| hash(&trace.batches.sizes().map(|size| size as u64).collect::<Vec<u64>>()));
    hash_of(states.into_iter().chain(rest).chain(sizes))
}

/// Of the data alone, rounded to single precision.
pub(super) fn data_digest<T: Real>(trace: &Trace<T>) -> String {
    let single = |values: &[T]| -> [u8; 32] { hash(&values.iter().map(|v| v.to_f64() as f32).collect::<Vec<_>>()) };
    let targets = match &trace.targets {
        TraceTargets::Inputs => [0; 32],
        TraceTargets::Labels(labels) => hash(labels),
        TraceTargets::Values(values) => single(values),
    };
    hash_of([single(&trace.inputs), targets])
}
