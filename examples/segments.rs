//! The kinks of a network along many segments, found exactly, and how long that takes.
//!
//!     cargo run --release --example segments [-- SEGMENTS]
//!
//! The network is the paper's MNIST autoencoder with random weights, the segments join random points of the unit cube, one after the other.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{error::Error, time::Instant};
use taylorscope::{
    landscape::{Propagation, Segment},
    network::{LayerSpec, Network, Rectifier, he_uniform},
};

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let count: usize = std::env::args().nth(1).map_or(Ok(1000), |text| text.parse())?;
    let mut layers = Vec::new();
    for units in [50, 30, 20, 30, 50] {
        layers.extend([LayerSpec::dense(units), LayerSpec::Rectifier(Rectifier::Relu)]);
    }
    layers.push(LayerSpec::dense(784));
    let network = Network::new(784, &layers)?;
    let weights = he_uniform::<f64>(&network, 0);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let points: Vec<Vec<f64>> = (0..=count).map(|_| (0..784).map(|_| rng.random::<f64>()).collect()).collect();
    let steps: Vec<Vec<f64>> =
        points.windows(2).map(|ends| ends[1].iter().zip(&ends[0]).map(|(b, a)| b - a).collect()).collect();
    let segments: Vec<Segment> = points
        .iter()
        .zip(&steps)
        .map(|(input, step)| Segment { input, step: Some(step), from: 0.0, to: 1.0 })
        .collect();

    let start = Instant::now();
    let kinks = Propagation::new(&network, &weights, None).kinks_of(&segments);
    let total: usize = kinks.iter().map(Vec::len).sum();
    println!("{count} segments, {total} kinks in {:.3} s", start.elapsed().as_secs_f64());
    if let Some(first) = kinks.first().and_then(|kinks| kinks.first()) {
        println!("the first: at {:.12}, unit {} of layer {}, {:?}", first.at, first.unit, first.layer, first.change);
    }
    Ok(())
}
