//! An optimizer of your own: trained on the embedded digits, with its regret against the Taylor optimum.
//!
//!     cargo run --release --example own_optimizer

use std::{error::Error, ops::ControlFlow};
use taylorscope::{
    data::{self, Minibatches},
    loss::Loss,
    network::{LayerSpec, Network, Rectifier, he_uniform},
    optim::Optimizer,
    study::{
        analysis::{Analysis, AnalysisSettings},
        tables::Scale,
    },
    taylor::{BoundRates, RegretSettings, Work},
    train::{Examples, Training, train},
};

/// Steps by the sign of the gradient, the RProp of one minibatch; the step falls like `1 / sqrt(round)`.
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
    let relu = LayerSpec::Rectifier(Rectifier::Relu);
    let layers = [LayerSpec::dense(20), relu, LayerSpec::dense(64)];
    let network = Network::new(digits.features(), &layers)?;
    let minibatches = Minibatches::new(digits.len(), 64, 0)?;
    let examples = Examples::autoencoder(&digits.inputs, digits.features());
    let epochs = 10;

    let rounds = minibatches.rounds_per_epoch() * epochs;
    // Two scales, to be quick; the network as a whole is the most expensive one.
    let scales = vec![Scale::Layer, Scale::Neuron];
    let settings = AnalysisSettings {
        regret: RegretSettings { scales, prefixes: 8, tolerance: 1e-3, ..RegretSettings::default() },
        planned_rounds: rounds,
        batch: minibatches.batch_size(),
        memory: 1 << 30,
        every: 10,
        pool_winners: false,
        rates: BoundRates::default(),
        displacements: None,
    };
    let probe = digits.inputs[..500 * digits.features()].to_vec();
    let mut analysis = Analysis::new(&network, Loss::Mse, settings, probe);

    let mut weights: Vec<f32> = he_uniform(&network, 0);
    let training = Training { network: &network, loss: Loss::Mse, examples, minibatches: &minibatches, epochs };
    let (ending, done) = train(
        &training,
        &mut SignDescent { rate: 0.02 },
        &mut weights,
        &mut [&mut analysis],
        |_, _, _| ControlFlow::Continue(()),
        |_, _| ControlFlow::Continue(()),
    );
    println!("{done} rounds, {ending:?}");

    let (tables, _) = analysis.complete(&examples, &mut Work::to_the_end(), |_| ());
    println!("{:<8} {:>5} {:>14} {:>10} {:>10} {:>10}", "layer", "N", "comparator", "loss", "optimum", "regret");
    for row in tables.regret.iter().filter(|row| row.neuron.is_none()) {
        let layer = row.layer.map_or("network".into(), |layer| layer.to_string());
        let (loss, optimum, regret) = (row.mean_loss, row.taylor_optimum, row.mean_regret);
        let comparator = row.comparator.to_string();
        println!("{layer:<8} {:>5} {comparator:>14} {loss:>10.5} {optimum:>10.5} {regret:>10.5}", row.rounds);
    }
    let novel: u64 = tables.novelty.iter().filter_map(|row| row.min_hamming).sum();
    println!("{novel} bits of activation that no earlier configuration had");
    Ok(())
}
