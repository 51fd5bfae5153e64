//! Every optimizer against PyTorch's weights (`tests/oracle/make_optimizers.py` wrote them).

use serde::Deserialize;
use std::collections::BTreeMap;
use taylorscope::{
    loss::{Loss, Targets},
    network::{LayerSpec, Network, Rectifier},
    optim::{OptimizerConfig, find},
    train::{Examples, RoundEngine},
};

#[derive(Deserialize)]
struct Table {
    sizes: [usize; 3],
    inputs: Vec<Vec<f64>>,
    targets: Vec<Vec<f64>>,
    batches: Vec<Vec<u32>>,
    initial: Vec<f64>,
    optimizers: Vec<Entry>,
    replays: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    learning_rate: f64,
    momentum: Option<f64>,
    smoothing: Option<f64>,
    beta1: Option<f64>,
    beta2: Option<f64>,
    epsilon: Option<f64>,
    gradients_of: Option<String>,
    #[serde(default)]
    losses: Vec<f64>,
    #[serde(default)]
    gradients: Vec<Vec<f64>>,
    weights: BTreeMap<usize, Vec<f64>>,
}

impl Entry {
    fn config(&self) -> OptimizerConfig {
        let all = [
            ("momentum", self.momentum),
            ("alpha", self.smoothing),
            ("beta1", self.beta1),
            ("beta2", self.beta2),
            ("eps", self.epsilon),
        ];
        let settings = all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        OptimizerConfig { name: self.name.clone(), learning_rate: self.learning_rate, settings }
    }
}

fn table() -> Table {
    serde_json::from_str(include_str!("data/optimizers.json")).expect("the table is what was written")
}

fn network(table: &Table) -> Network {
    let [inputs, hidden, outputs] = table.sizes;
    let layers = [
        LayerSpec::Dense { units: hidden },
        LayerSpec::Rectifier(Rectifier::Relu),
        LayerSpec::Dense { units: outputs },
    ];
    Network::new(inputs, &layers).expect("the layers fit")
}

/// From `0.weight` row by row, `0.bias`, `2.weight`, `2.bias` to one row per neuron with its bias last.
fn ours(network: &Network, theirs: &[f64]) -> Vec<f64> {
    let mut flat = Vec::with_capacity(theirs.len());
    let mut rest = theirs;
    for block in network.blocks() {
        let (matrix, tail) = rest.split_at(block.units * block.inputs);
        let (bias, tail) = tail.split_at(block.units);
        for (row, b) in matrix.chunks(block.inputs).zip(bias) {
            flat.extend_from_slice(row);
            flat.push(*b);
        }
        rest = tail;
    }
    assert!(rest.is_empty(), "the vector is longer than the network's weights");
    flat
}

#[track_caller]
fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths differ");
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{what}, entry {at}: {a}, PyTorch has {b}");
    }
}

#[test]
fn fed_with_pytorchs_gradients_every_optimizer_has_pytorchs_weights() {
    let table = table();
    let network = network(&table);
    let initial = ours(&network, &table.initial);
    let mut replayed = Vec::new();
    for entry in table.optimizers.iter().chain(&table.replays) {
        if find(&entry.name).is_err() {
            // The table has one optimizer more than the program needs.
            assert_eq!(entry.name, "adagrad");
            continue;
        }
        let source = entry.gradients_of.as_ref().unwrap_or(&entry.name);
        let given = table.optimizers.iter().find(|e| e.name == *source).expect("the table has its gradients");
        let mut optimizer = entry.config().build::<f64>(&network).expect("the settings are accepted");
        let mut weights = initial.clone();
        let mut compared = 0;
        for (step, gradient) in given.gradients.iter().enumerate() {
            optimizer.step(step + 1, &mut weights, &ours(&network, gradient));
            if let Some(expected) = entry.weights.get(&(step + 1)) {
                let what = format!("{} {}, step {}", entry.name, entry.learning_rate, step + 1);
                // 50 steps of a few roundings each.
                assert_close(&what, &weights, &ours(&network, expected), 1e-12);
                compared += 1;
            }
        }
        assert_eq!(compared, 5, "{}", entry.name);
        assert!(weights.iter().zip(&initial).any(|(a, b)| (a - b).abs() > 1e-3), "{} did not move", entry.name);
        replayed.push(entry.name.as_str());
    }
    for name in ["sgd", "momentum", "nesterov", "rmsprop", "adam"] {
        assert!(replayed.contains(&name), "{name} was not replayed");
    }
}

#[test]
fn single_precision_follows_to_single_rounding() {
    let table = table();
    let network = network(&table);
    for entry in table.optimizers.iter() {
        let mut optimizer = entry.config().build::<f32>(&network).expect("the settings are accepted");
        let narrow = |v: &[f64]| -> Vec<f32> { ours(&network, v).iter().map(|v| *v as f32).collect() };
        let mut weights = narrow(&table.initial);
        for (step, gradient) in entry.gradients.iter().enumerate() {
            optimizer.step(step + 1, &mut weights, &narrow(gradient));
            if let Some(expected) = entry.weights.get(&(step + 1)) {
                let wide: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
                // 50 steps at 6e-8 each.
                assert_close(&format!("{}, step {}", entry.name, step + 1), &wide, &ours(&network, expected), 1e-5);
            }
        }
    }
}

#[test]
fn the_defaults_are_pytorchs() {
    let table = table();
    let network = network(&table);
    // All settings but the learning rate are defaults in the first part of the table.
    for entry in &table.optimizers {
        let mut optimizer =
            OptimizerConfig::named(&entry.name, Some(entry.learning_rate)).unwrap().build::<f64>(&network).unwrap();
        let mut weights = ours(&network, &table.initial);
        for (step, gradient) in entry.gradients.iter().enumerate() {
            optimizer.step(step + 1, &mut weights, &ours(&network, gradient));
        }
        assert_close(&entry.name, &weights, &ours(&network, &entry.weights[&50]), 1e-12);
    }
}

#[test]
fn trained_on_pytorchs_minibatches_losses_gradients_and_weights_agree() {
    let table = table();
    let network = network(&table);
    let (inputs, targets) = (table.inputs.concat(), table.targets.concat());
    let examples = Examples {
        inputs: &inputs,
        features: table.sizes[0],
        targets: Targets::Values(&targets),
        target_width: table.sizes[2],
    };
    for entry in &table.optimizers {
        let mut optimizer = entry.config().build::<f64>(&network).expect("the settings are accepted");
        let mut weights = ours(&network, &table.initial);
        let mut engine = RoundEngine::new(&network, Loss::Mse, table.batches[0].len());
        assert_eq!(entry.losses.len(), table.batches.len());
        for (step, rows) in table.batches.iter().enumerate() {
            engine.compute(&weights, &examples, rows);
            let what = format!("{}, step {}", entry.name, step + 1);
            // Rounding of the sums grows as it passes through up to 50 updates, some of which divide by small roots.
            assert_close(&what, &[engine.loss()], &[entry.losses[step]], 1e-10);
            assert_close(&what, engine.gradient(), &ours(&network, &entry.gradients[step]), 1e-10);
            optimizer.step(step + 1, &mut weights, engine.gradient());
            if let Some(expected) = entry.weights.get(&(step + 1)) {
                assert_close(&what, &weights, &ours(&network, expected), 1e-10);
            }
        }
    }
}
