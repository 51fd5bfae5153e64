//! The kinks of a network along many segments, found exactly, and how long that takes.
//!
//!     cargo run --release --example segments [-- SEGMENTS]
//!
//! The network is the paper's MNIST autoencoder with random weights, the segments run between random points of the
//! unit cube. `benches/peers/segments.py` is the same computation in PyTorch.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Instant;
use taylorscope::{
    landscape::{Propagation, Segment},
    network::{LayerSpec, Network, Rectifier, he_uniform},
};

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1000);
    let mut layers = Vec::new();
    for units in [50, 30, 20, 30, 50] {
        layers.extend([LayerSpec::Dense { units }, LayerSpec::Rectifier(Rectifier::Relu)]);
    }
    layers.push(LayerSpec::Dense { units: 784 });
    let network = Network::new(784, &layers).expect("the layers fit");
    let weights = he_uniform::<f64>(&network, 0);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let starts: Vec<Vec<f64>> = (0..=count).map(|_| (0..784).map(|_| rng.random::<f64>()).collect()).collect();
    let steps: Vec<Vec<f64>> =
        starts.windows(2).map(|ends| ends[1].iter().zip(&ends[0]).map(|(b, a)| b - a).collect()).collect();
    let segments: Vec<Segment> = starts
        .iter()
        .zip(&steps)
        .map(|(input, step)| Segment { input, step: Some(step), from: 0.0, to: 1.0 })
        .collect();

    let start = Instant::now();
    let propagation = Propagation::new(&network, &weights, None);
    let kinks: usize = propagation.kinks_of(&segments).iter().map(Vec::len).sum();
    let seconds = start.elapsed().as_secs_f64();
    println!("{count} segments, {kinks} kinks: {seconds:.3} s, {:.1} us a kink", 1e6 * seconds / kinks as f64);
}
