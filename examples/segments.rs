//! The kinks of a network along many segments, found exactly, and how long that takes.
//!
//!     cargo run --release --example segments [-- SEGMENTS [FOLDER]]
//!
//! The network is the paper's MNIST autoencoder with random weights, the segments join random points of the unit cube, one after the other.
//! With FOLDER, weights and points are written there for `benches/peers/segments.py`, the same computation in PyTorch.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{error::Error, path::Path, time::Instant};
use taylorscope::{
    landscape::{Propagation, Segment},
    network::{LayerSpec, Network, Rectifier, he_uniform, write_weights},
    trace::write::write_npy,
};

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const REPEATS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let count: usize = arguments.next().map_or(Ok(1000), |text| text.parse())?;
    let mut layers = Vec::new();
    for units in [50, 30, 20, 30, 50] {
        layers.extend([LayerSpec::Dense { units }, LayerSpec::Rectifier(Rectifier::Relu)]);
    }
    layers.push(LayerSpec::Dense { units: 784 });
    let network = Network::new(784, &layers)?;
    let weights = he_uniform::<f64>(&network, 0);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let points: Vec<Vec<f64>> = (0..=count).map(|_| (0..784).map(|_| rng.random::<f64>()).collect()).collect();
    if let Some(folder) = arguments.next() {
        std::fs::create_dir_all(&folder)?;
        write_weights(&network, &weights, &Path::new(&folder).join("weights.safetensors"))?;
        write_npy(&Path::new(&folder).join("starts.npy"), &[points.len() as u64, 784], &points.concat())?;
    }
    let steps: Vec<Vec<f64>> =
        points.windows(2).map(|ends| ends[1].iter().zip(&ends[0]).map(|(b, a)| b - a).collect()).collect();
    let segments: Vec<Segment> = points
        .iter()
        .zip(&steps)
        .map(|(input, step)| Segment { input, step: Some(step), from: 0.0, to: 1.0 })
        .collect();

    let mut kinks = 0;
    let mut seconds: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let start = Instant::now();
            let propagation = Propagation::new(&network, &weights, None);
            kinks = propagation.kinks_of(&segments).iter().map(Vec::len).sum();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds[REPEATS / 2];
    println!("{count} segments, {kinks} kinks: {median:.3} s ({:.3} to {:.3})", seconds[0], seconds[REPEATS - 1]);
    Ok(())
}
