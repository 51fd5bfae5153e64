//! Training with the regret of every neuron streaming, and without.

use super::{
    Answer, answer,
    inputs::{self, BATCH, Digits},
    timed,
    training::{ends, train_rounds},
};
use anyhow::{Result, bail};
use serde_json::json;
use std::path::Path;
use taylorscope::{
    kernels::factor::Factor,
    loss::Loss,
    network::{Network, he_uniform},
    optim::OptimizerConfig,
    passes::{Linearization, curvature_factors},
    study::{
        analysis::{Analysis, AnalysisSettings},
        tables::{Comparator, Scale},
    },
    taylor::{BoundRates, Comparators, RegretSettings, chain::stream::NeuronStream, tracker::UnitTracker},
    train::Observer,
};

/// Neuron scale, all neurons.
pub fn settings() -> RegretSettings {
    RegretSettings {
        scales: vec![Scale::Neuron],
        comparators: Comparators::Chosen(vec![Comparator::Unconstrained]),
        ..Default::default()
    }
}

/// Commands: `plain`, `streaming` (every round's sums), `solved` (also the optima of 30 prefixes), each one epoch of SGD; and
/// `curvature`, the Gauss-Newton diagonal of the first round, to compare with the peer's.
pub fn serve(folder: &Path) -> Result<()> {
    let network = inputs::autoencoder()?;
    let digits = Digits::read(folder)?;
    let config = OptimizerConfig::named("sgd", Some(1.0))?;
    let rounds = digits.minibatches.rounds_per_epoch();
    answer(|command| {
        let mut optimizer = config.build(&network)?;
        let mut run = |observers: &mut [&mut dyn Observer<f32>]| {
            timed(|| ends(&train_rounds(&network, &digits, &mut *optimizer, observers, rounds)))
        };
        let (seconds, losses) = match command {
            "plain" => run(&mut []),
            "streaming" => {
                let mut tracker = UnitTracker::new(&network, []);
                let mut stream = NeuronStream::new(&network, Loss::Mse, &settings(), BATCH);
                run(&mut [&mut tracker, &mut stream])
            }
            "solved" => {
                let settings = AnalysisSettings {
                    regret: settings(),
                    planned_rounds: rounds,
                    batch: BATCH,
                    every: rounds,
                    memory: 0,
                    pool_winners: false,
                    rates: BoundRates::default(),
                    displacements: None,
                };
                run(&mut [&mut Analysis::new(&network, Loss::Mse, settings, Vec::new())])
            }
            "curvature" => {
                let (seconds, sums) = timed(|| diagonal(&network, &digits));
                return Ok(Answer { seconds, facts: json!({"diagonal": sums}) });
            }
            _ => bail!("there is no command {command}"),
        };
        Ok(Answer { seconds, facts: json!({"losses": losses}) })
    })
}

/// Per block the sum over its weights of the Gauss-Newton diagonal of the first round, `mean_i q_i |x_i|^2` summed over neurons.
fn diagonal(network: &Network, digits: &Digits) -> Vec<f64> {
    let weights: Vec<f32> = he_uniform(network, 0);
    let (mut x, mut storage) = (Vec::new(), Vec::new());
    digits.examples().gather_inputs(&digits.order(1), &mut x);
    let here = Linearization::new(network, &weights, &x);
    let top: Factor<f32> = Loss::Mse.hessian_factor(here.output(), network.outputs(), &mut storage);
    let mut sums = vec![0.0; network.blocks().len()];
    curvature_factors(&here.point(), top, 0, true, |l, factor| {
        let block = &network.blocks()[l];
        let mut q = Vec::new();
        factor.diagonal(BATCH, block.units, &mut q);
        let inputs = here.tape().input(block, &x).chunks_exact(block.inputs);
        let row = |(q, x): (&[f32], &[f32])| {
            let square = 1.0 + x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
            square * q.iter().map(|v| f64::from(*v)).sum::<f64>()
        };
        sums[l] = q.chunks_exact(block.units).zip(inputs).map(row).sum::<f64>() / BATCH as f64;
    });
    sums
}
