//! An observer of your own: watches the rounds of a training run without changing them.
//!
//!     cargo run --release --example own_observer

use std::error::Error;
use taylorscope::prelude::*;

/// How sparse the hidden layers are on the minibatches, and how much the gradient turns from round to round.
#[derive(Default)]
struct Watch {
    active: Vec<f64>,
    previous: Vec<f64>,
    cosines: Vec<f64>,
}

impl Observer<f32> for Watch {
    fn observe(&mut self, round: &Round<f32>) {
        let (mut active, mut units) = (0, 0);
        for derivatives in round.parts.iter().flat_map(|part| &part.tape.derivatives) {
            active += derivatives.iter().filter(|slope| **slope > 0.0).count();
            units += derivatives.len();
        }
        self.active.push(active as f64 / units as f64);

        let gradient: Vec<f64> = round.gradient.iter().map(|g| f64::from(*g)).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        if !self.previous.is_empty() {
            let lengths = (dot(&gradient, &gradient) * dot(&self.previous, &self.previous)).sqrt();
            self.cosines.push(dot(&gradient, &self.previous) / lengths.max(f64::MIN_POSITIVE));
        }
        self.previous = gradient;
    }

    fn finish(&mut self, final_weights: &[f32], rounds: usize) {
        let largest = final_weights.iter().fold(0.0f32, |a, w| a.max(w.abs()));
        println!("after {rounds} rounds the largest weight is {largest:.3}");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let digits = data::load("digits", None)?;
    let layers = [LayerSpec::dense(32), LayerSpec::relu(), LayerSpec::dense(digits.classes)];
    let network = Network::new(digits.train.features(), &layers)?;
    let examples = Examples::classifier(&digits.train.inputs, digits.train.features(), &digits.train.labels);

    for (name, rate) in [("sgd", 0.1), ("rmsprop", 0.003), ("adam", 0.003)] {
        let mut watch = Watch::default();
        Study::new(&network, Loss::CrossEntropy, examples)
            .registered(OptimizerConfig::named(name, Some(rate))?)
            .observer(&mut watch)
            .batch_size(50)
            // Neither regret nor exploration: only what the observer sees.
            .scales(&[])
            .probe(0, None)
            .run()?;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (active, cosine) = (mean(&watch.active), mean(&watch.cosines));
        println!("{name:<8} {active:.3} of the hidden units active, cosine of successive gradients {cosine:+.3}");
    }
    Ok(())
}
