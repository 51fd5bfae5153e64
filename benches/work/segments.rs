//! All kinks of the autoencoder with random weights on segments between random inputs, one after the other.

use super::{Answer, answer, inputs, timed};
use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::path::Path;
use taylorscope::{
    landscape::{Propagation, Segment},
    network::{he_uniform, write_weights},
    trace::write::write_npy,
};

const SEGMENTS: usize = 1000;

/// Every command finds all kinks.
pub fn serve(folder: &Path) -> Result<()> {
    let network = inputs::autoencoder()?;
    let weights = he_uniform::<f64>(&network, 0);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let points: Vec<Vec<f64>> =
        (0..=SEGMENTS).map(|_| (0..network.inputs()).map(|_| rng.random::<f64>()).collect()).collect();
    write_weights(&network, &weights, &folder.join("segments.safetensors"))?;
    write_npy(&folder.join("points.npy"), &[points.len() as u64, network.inputs() as u64], &points.concat())?;
    let step = |ends: &[Vec<f64>]| ends[1].iter().zip(&ends[0]).map(|(to, from)| to - from).collect();
    let steps: Vec<Vec<f64>> = points.windows(2).map(step).collect();
    let segments: Vec<Segment> = points
        .iter()
        .zip(&steps)
        .map(|(input, step)| Segment { input, step: Some(step), from: 0.0, to: 1.0 })
        .collect();
    answer(|_| {
        let (seconds, kinks) = timed(|| Propagation::new(&network, &weights, None).kinks_of(&segments));
        let counts: Vec<usize> = kinks.iter().map(Vec::len).collect();
        let places: f64 = kinks.iter().flatten().map(|kink| kink.at).sum();
        Ok(Answer { seconds, facts: json!({"kinks": counts, "places": places}) })
    })
}
