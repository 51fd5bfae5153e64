//! An optimizer of your own: trained on the embedded digits, with its regret against the Taylor optimum.
//!
//!     cargo run --release --example own_optimizer

use std::error::Error;
use taylorscope::prelude::*;

/// Steps by the sign of the gradient, the RProp of one minibatch; the step falls like `1 / sqrt(round)`.
#[derive(Clone)]
struct SignDescent {
    rate: f32,
}

impl Optimizer<f32> for SignDescent {
    fn step(&mut self, round: usize, weights: &mut [f32], gradient: &[f32]) {
        let step = self.rate / (round as f32).sqrt();
        for (w, g) in weights.iter_mut().zip(gradient).filter(|(_, g)| **g != 0.0) {
            *w -= step * g.signum();
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let digits = data::load("digits", None)?.train;
    let layers = [LayerSpec::dense(20), LayerSpec::relu(), LayerSpec::dense(64)];
    let network = Network::new(digits.features(), &layers)?;
    // Two scales, to be quick; the network as a whole is the most expensive one.
    let scales = vec![Scale::Layer, Scale::Neuron];
    let runs = Study::new(&network, Loss::Mse, Examples::autoencoder(&digits.inputs, digits.features()))
        .optimizer("sign descent", SignDescent { rate: 0.02 })
        .registered(OptimizerConfig::named("adam", Some(0.003))?)
        .regret(RegretSettings { scales, prefixes: 8, tolerance: 1e-3, ..RegretSettings::default() })
        .probe(500, Some(10))
        .run()?;

    for run in &runs {
        println!("{}: {} rounds, {:?}", run.name, run.losses.len(), run.ending);
        println!("  {:<8} {:>5} {:>14} {:>10} {:>10} {:>10}", "layer", "N", "comparator", "loss", "optimum", "regret");
        for row in run.tables.regret.iter().filter(|row| row.neuron.is_none()) {
            let layer = row.layer.map_or("network".into(), |layer| layer.to_string());
            let (loss, optimum, regret) = (row.mean_loss, row.taylor_optimum, row.mean_regret);
            let comparator = row.comparator.to_string();
            println!("  {layer:<8} {:>5} {comparator:>14} {loss:>10.5} {optimum:>10.5} {regret:>10.5}", row.rounds);
        }
        let novel: u64 = run.tables.novelty.iter().filter_map(|row| row.min_hamming).sum();
        println!("  {novel} bits of activation that no earlier configuration had");
    }
    Ok(())
}
