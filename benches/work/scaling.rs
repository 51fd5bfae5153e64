//! How cost grows when one size is doubled, the others fixed.

use super::{Answer, answer, exploration::configurations, inputs::BATCH, streaming, timed};
use anyhow::{Result, bail};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::{borrow::Cow, ops::ControlFlow};
use taylorscope::{
    activation::{ActivationRecorder, explore},
    data::{Minibatches, RoundRows},
    loss::Loss,
    network::{LayerSpec, Network, Rectifier, he_uniform},
    optim::OptimizerConfig,
    taylor::{
        chain::{stream::NeuronStream, window::Window},
        tracker::UnitTracker,
    },
    train::{Examples, Training, train},
};

/// Inputs and outputs of the networks, as MNIST's.
const FEATURES: usize = 784;
/// Rows of data.
const ROWS: usize = 8192;

/// What is doubled.
#[derive(Clone, Copy)]
struct Sizes {
    rounds: usize,
    units: usize,
    datapoints: usize,
    depth: usize,
}

impl Sizes {
    fn doubled(self, which: &str, doublings: u32) -> Result<Self> {
        let factor = 1 << doublings;
        Ok(match which {
            "rounds" => Self { rounds: self.rounds * factor, ..self },
            "units" => Self { units: self.units * factor, ..self },
            "datapoints" => Self { datapoints: self.datapoints * factor, ..self },
            "depth" => Self { depth: self.depth * factor, ..self },
            _ => bail!("{which} cannot be doubled: rounds, units, datapoints and depth can"),
        })
    }

    /// `depth` hidden layers of `units` rectifiers.
    fn network(self) -> Result<Network> {
        let hidden = [LayerSpec::dense(self.units), LayerSpec::Rectifier(Rectifier::Relu)];
        let mut layers = hidden.repeat(self.depth);
        layers.push(LayerSpec::dense(FEATURES));
        Ok(Network::new(FEATURES, &layers)?)
    }
}

/// SERIES is `WORK/SIZE`: of `streaming` (training with neuron-scale sums), `recording` (configurations), `exploration` (their
/// metrics) or `operator` (a product with the curvature of the first layer), with `rounds`, `units`, `datapoints` or `depth` doubled.
pub fn serve(series: &str, doublings: u32) -> Result<()> {
    let (work, which) = series.split_once('/').unwrap_or((series, ""));
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    // A fifth of the pixels is on, as in MNIST.
    let mut pixels = |rows: usize| -> Vec<f32> {
        let pixel = |_| if rng.random_bool(0.2) { rng.random() } else { 0.0 };
        (0..rows * FEATURES).map(pixel).collect()
    };
    match work {
        "streaming" => {
            let sizes = Sizes { rounds: 100, units: 16, datapoints: 32, depth: 2 }.doubled(which, doublings)?;
            let (network, inputs) = (sizes.network()?, pixels(ROWS));
            let minibatches = Minibatches::new(ROWS, sizes.datapoints, 0)?;
            answer(|_| {
                let mut tracker = UnitTracker::new(&network, []);
                let mut stream = NeuronStream::new(&network, Loss::Mse, &streaming::settings(), sizes.datapoints);
                let mut optimizer = OptimizerConfig::named("sgd", Some(0.1))?.build::<f32>(&network)?;
                let training = Training {
                    network: &network,
                    loss: Loss::Mse,
                    examples: Examples::autoencoder(&inputs, FEATURES),
                    minibatches: &minibatches,
                    epochs: sizes.rounds.div_ceil(minibatches.rounds_per_epoch()),
                };
                let mut weights = he_uniform(&network, 0);
                let each =
                    |round, _, _| if round < sizes.rounds { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
                let (seconds, _) = timed(|| {
                    let observers: &mut [&mut dyn taylorscope::train::Observer<f32>] = &mut [&mut tracker, &mut stream];
                    train(&training, &mut *optimizer, &mut weights, observers, each, |_, _| ControlFlow::Continue(()))
                });
                Ok(Answer { seconds, facts: json!({}) })
            })
        }
        "recording" => {
            let sizes = Sizes { rounds: 8, units: 16, datapoints: 2048, depth: 2 }.doubled(which, doublings)?;
            let (network, probe) = (sizes.network()?, pixels(sizes.datapoints));
            let weights: Vec<f32> = he_uniform(&network, 0);
            answer(|_| {
                let mut recorder = ActivationRecorder::new(&network, probe.clone(), 1);
                let (seconds, ()) = timed(|| (0..sizes.rounds).for_each(|round| recorder.record(round, &weights)));
                Ok(Answer { seconds, facts: json!({}) })
            })
        }
        "exploration" => {
            let sizes = Sizes { rounds: 50, units: 24, datapoints: 16_000, depth: 1 }.doubled(which, doublings)?;
            let all = configurations(sizes.rounds, sizes.datapoints, sizes.units * sizes.depth);
            answer(|_| Ok(Answer { seconds: timed(|| explore(&all)).0, facts: json!({}) }))
        }
        "operator" => {
            let sizes = Sizes { rounds: 50, units: 16, datapoints: BATCH, depth: 2 }.doubled(which, doublings)?;
            let (network, inputs) = (sizes.network()?, pixels(ROWS));
            let examples = Examples::autoencoder(&inputs, FEATURES);
            let rows: Vec<u32> = (0..ROWS as u32).cycle().take(sizes.rounds * sizes.datapoints).collect();
            let states = vec![he_uniform::<f32>(&network, 0); sizes.rounds];
            let rows = RoundRows::uniform(rows, sizes.datapoints);
            let window = Window::new(&network, Loss::Mse, examples, Cow::Owned(states), &rows);
            let direction: Vec<f32> = (0..network.blocks()[0].range().len()).map(|i| (0.37 * i as f32).sin()).collect();
            answer(|_| {
                let (seconds, image) = timed(|| window.product(0..sizes.rounds, 0..1, &direction, &[], 1.0));
                Ok(Answer { seconds, facts: json!({"first": image[0]}) })
            })
        }
        _ => bail!("there is no series {series}"),
    }
}
