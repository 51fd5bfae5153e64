//! Training alone: an epoch of the autoencoder, and steps of the convolutional network.

use super::{
    Answer, answer,
    inputs::{self, CONVOLUTION_BATCH, Digits, Images},
    timed,
};
use anyhow::{Context, Result};
use serde_json::json;
use std::{ops::ControlFlow, path::Path};
use taylorscope::{
    data::Minibatches,
    loss::Loss,
    network::{Network, he_uniform, read_weights},
    optim::{Optimizer, OptimizerConfig},
    train::{Examples, Observer, RoundEngine, Training, train},
};

/// Steps of the convolutional network that are timed together.
const STEPS: usize = 4;

/// Trains the autoencoder for some rounds of its first epoch from its initial weights; returns the losses.
pub fn train_rounds(
    network: &Network,
    digits: &Digits,
    optimizer: &mut dyn Optimizer<f32>,
    observers: &mut [&mut dyn Observer<f32>],
    rounds: usize,
) -> Vec<f64> {
    let mut weights = he_uniform(network, 0);
    let training =
        Training { network, loss: Loss::Mse, examples: digits.examples(), minibatches: &digits.minibatches, epochs: 1 };
    let mut losses = Vec::with_capacity(rounds);
    let each_round = |round, _, loss| {
        losses.push(loss);
        if round < rounds { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    train(&training, optimizer, &mut weights, observers, each_round, |_, _| ControlFlow::Continue(()));
    losses
}

/// Mean losses of the first and the last hundred rounds.
pub fn ends(losses: &[f64]) -> [f64; 2] {
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let some = losses.len().min(100);
    [mean(&losses[..some]), mean(&losses[losses.len() - some..])]
}

/// Every command trains one epoch from the same initial weights.
pub fn autoencoder(folder: &Path, optimizer: &str) -> Result<()> {
    let network = inputs::autoencoder()?;
    let digits = Digits::read(folder)?;
    let (name, rate) = optimizer.split_once(':').context("the optimizer is written NAME:RATE")?;
    let config = OptimizerConfig::named(name, Some(rate.parse()?))?;
    let rounds = digits.minibatches.rounds_per_epoch();
    answer(|_| {
        let mut optimizer = config.build(&network)?;
        let (seconds, losses) = timed(|| train_rounds(&network, &digits, &mut *optimizer, &mut [], rounds));
        Ok(Answer { seconds, facts: json!({"losses": ends(&losses)}) })
    })
}

/// Every command continues with some steps of Adam; the seconds are those of one.
pub fn convnet(folder: &Path) -> Result<()> {
    let network = inputs::convnet()?;
    let mut weights: Vec<f32> = read_weights(&network, &folder.join("convnet.safetensors"))?;
    let images = Images::random(&network);
    let examples = Examples::classifier(&images.inputs, network.inputs(), &images.labels);
    let minibatches = Minibatches::new(examples.len(), CONVOLUTION_BATCH, 0)?;
    let mut optimizer = OptimizerConfig::named("adam", Some(1e-3))?.build::<f32>(&network)?;
    let mut engine = RoundEngine::new(&network, Loss::CrossEntropy, CONVOLUTION_BATCH);
    let mut round = 0;
    // In the order of the images, over and over.
    let order: Vec<u32> = (0..examples.len() as u32).collect();
    answer(|_| {
        let (seconds, losses) = timed(|| {
            let step = |_| {
                let first = round % minibatches.rounds_per_epoch() * CONVOLUTION_BATCH;
                engine.compute(&weights, &examples, &order[first..first + CONVOLUTION_BATCH]);
                round += 1;
                optimizer.step(round, &mut weights, engine.gradient());
                engine.loss()
            };
            (0..STEPS).map(step).collect::<Vec<f64>>()
        });
        Ok(Answer { seconds: seconds / STEPS as f64, facts: json!({"losses": losses}) })
    })
}
