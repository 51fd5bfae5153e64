//! Every optimizer against PyTorch's weights (`tests/oracle/make_optimizers.py` wrote them).

use serde::Deserialize;
use std::{collections::BTreeMap, ops::ControlFlow};
use taylorscope::{
    activation::ActivationRecorder,
    data::Minibatches,
    loss::{Loss, Targets},
    network::{LayerSpec, Network, Pooling, Rectifier, Shape, he_uniform},
    optim::{OptimizerConfig, Schedule},
    train::{Examples, FullGradient, RoundEngine, Switching, Training, sum_of_squared_gradients, train},
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
    #[serde(default)]
    schedule: Schedule,
    #[serde(default)]
    warmup: usize,
    /// Settings that the two programs call alike.
    #[serde(default)]
    settings: BTreeMap<String, f64>,
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
        let mut settings = self.settings.clone();
        settings.extend(all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        OptimizerConfig {
            name: self.name.clone(),
            learning_rate: self.learning_rate,
            schedule: self.schedule,
            warmup: self.warmup,
            settings,
        }
    }
}

fn table() -> Table {
    serde_json::from_str(include_str!("../data/optimizers.json")).expect("the table is what was written")
}

fn network(table: &Table) -> Network {
    let [inputs, hidden, outputs] = table.sizes;
    let layers = [LayerSpec::dense(hidden), LayerSpec::Rectifier(Rectifier::Relu), LayerSpec::dense(outputs)];
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
        let source = entry.gradients_of.as_ref().unwrap_or(&entry.name);
        let given = table.optimizers.iter().find(|e| e.name == *source).expect("the table has its gradients");
        let mut optimizer =
            entry.config().build_for::<f64>(&network, given.gradients.len()).expect("the settings are accepted");
        let mut weights = initial.clone();
        let mut compared = 0;
        for (step, gradient) in given.gradients.iter().enumerate() {
            optimizer.step(step + 1, &mut weights, &ours(&network, gradient));
            if let Some(expected) = entry.weights.get(&(step + 1)) {
                let what = format!("{} {}, step {}", entry.name, entry.learning_rate, step + 1);
                // 50 steps of a few roundings each; those of eigenvectors are larger where eigenvalues nearly agree.
                let tolerance = if entry.name == "adagrad_full" { 1e-9 } else { 1e-12 };
                assert_close(&what, &weights, &ours(&network, expected), tolerance);
                compared += 1;
            }
        }
        assert_eq!(compared, 5, "{}", entry.name);
        assert!(weights.iter().zip(&initial).any(|(a, b)| (a - b).abs() > 1e-3), "{} did not move", entry.name);
        replayed.push(entry.name.as_str());
    }
    let names =
        ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "adagrad", "rprop", "sign_sgd", "adagrad_full"];
    for name in names {
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

/// The sums of squares that the loop supplies are those of explicit per-example gradients, and the full gradient is the
/// mean over all rows, also where the last piece is not full.
#[test]
fn per_example_and_full_gradients_are_those_of_single_examples() {
    let digits = taylorscope::data::load("digits", None).unwrap().train;
    let inputs: Vec<f64> = digits.inputs.iter().map(|x| f64::from(*x)).collect();
    let relu = LayerSpec::Rectifier(Rectifier::Relu);
    let flat = Shape::from_sizes(&[64]).unwrap();
    let image = Shape::from_sizes(&[1, 8, 8]).unwrap();
    let conv = |maps, stride| LayerSpec::Conv { maps, kernel: 3, padding: 1, stride, bias: true };
    let pool = |pooling| LayerSpec::Pool { pooling, size: 2, stride: 2 };
    let dense = LayerSpec::dense;
    let problems = [
        (Loss::Mse, flat, vec![dense(9), relu, dense(7), relu, dense(64)]),
        (Loss::CrossEntropy, flat, vec![dense(9), relu, dense(7), relu, dense(10)]),
        (
            Loss::CrossEntropy,
            image,
            vec![
                conv(5, 1),
                relu,
                pool(Pooling::Max),
                conv(4, 1),
                relu,
                pool(Pooling::Average),
                LayerSpec::Flatten,
                dense(7),
                relu,
                dense(10),
            ],
        ),
        (Loss::CrossEntropy, image, vec![conv(3, 2), relu, LayerSpec::Flatten, dense(10)]),
    ];
    for (loss, input, layers) in problems {
        let network = Network::new(input, &layers).unwrap();
        let weights: Vec<f64> = he_uniform(&network, 3);
        let examples = match loss {
            Loss::Mse => Examples::autoencoder(&inputs, 64),
            Loss::CrossEntropy => Examples::classifier(&inputs, 64, &digits.labels),
        };
        let single = |row: u32| {
            let mut engine = RoundEngine::new(&network, loss, 1);
            engine.compute(&weights, &examples, &[row]);
            engine.gradient().to_vec()
        };
        let rows: Vec<u32> = (0..13).map(|i| i * 101).collect();
        let mut engine = RoundEngine::new(&network, loss, rows.len());
        engine.compute(&weights, &examples, &rows);
        let mut squares = vec![f64::NAN; network.parameters()];
        sum_of_squared_gradients(&network, engine.parts(), &mut squares);
        let mut expected = vec![0.0; network.parameters()];
        for row in &rows {
            let share = |g: f64| g / rows.len() as f64;
            expected.iter_mut().zip(single(*row)).for_each(|(sum, g)| *sum += share(g).powi(2));
        }
        let largest = expected.iter().fold(0.0_f64, |m, v| m.max(*v));
        for (found, expected) in squares.iter().zip(&expected) {
            assert!((found - expected).abs() <= 1e-12 * expected.max(1e-3 * largest), "{found} {expected}");
        }

        let mut full = vec![0.0; network.parameters()];
        for row in 0..1500 {
            full.iter_mut().zip(single(row)).for_each(|(sum, g)| *sum += g / 1500.0);
        }
        let mut whole = FullGradient::new(&network, loss, 1500);
        assert_close("full gradient", whole.compute(&weights, &examples), &full, 1e-13);
    }
}

/// The minibatch form of RProp through the training loop, against its formula on explicit per-example gradients.
#[test]
fn batch_rms_divides_by_the_root_of_per_example_squares() {
    let digits = taylorscope::data::load("digits", None).unwrap().train;
    let inputs: Vec<f64> = digits.inputs.iter().map(|x| f64::from(*x)).collect();
    let layers = [LayerSpec::dense(8), LayerSpec::Rectifier(Rectifier::Relu), LayerSpec::dense(64)];
    let network = Network::new(64, &layers).unwrap();
    let examples = Examples::autoencoder(&inputs, 64);
    let minibatches = Minibatches::new(1500, 50, 0).unwrap();
    let initial: Vec<f64> = he_uniform(&network, 0);
    let mut trained = initial.clone();
    let mut rounds = 0;
    let mut optimizer = OptimizerConfig::named("batch_rms", Some(0.01)).unwrap().build::<f64>(&network).unwrap();
    let task = Training { network: &network, loss: Loss::Mse, examples, minibatches: &minibatches, epochs: 2 };
    let stop_after_50 = |_: usize, _: usize, _: f64| {
        rounds += 1;
        if rounds == 50 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    train(&task, &mut *optimizer, &mut trained, &mut [], stop_after_50, |_, _| ControlFlow::Continue(()));

    let mut expected = initial.clone();
    let mut engine = RoundEngine::new(&network, Loss::Mse, 1);
    for round in 1..=50 {
        let (mut sum, mut squares) = (vec![0.0; expected.len()], vec![0.0; expected.len()]);
        for row in minibatches.round(round).unwrap() {
            engine.compute(&expected, &examples, &[row]);
            for (j, g) in engine.gradient().iter().map(|g| g / 50.0).enumerate() {
                sum[j] += g;
                squares[j] += g * g;
            }
        }
        for j in 0..expected.len() {
            expected[j] -= if squares[j] > 0.0 { 0.01 * sum[j] / (squares[j].sqrt() + 1e-8) } else { 0.0 };
        }
    }
    // Rounding grows through 50 rounds in which some coordinates are divided by small roots.
    assert_close("batch_rms", &trained, &expected, 1e-9);
    assert!(trained.iter().zip(&initial).any(|(a, b)| (a - b).abs() > 0.01));
}

/// RProp through the training loop steps by the sign of the gradient of all rows, not of the minibatch.
#[test]
fn rprop_steps_by_the_full_gradient() {
    let digits = taylorscope::data::load("digits", None).unwrap().train;
    let inputs: Vec<f64> = digits.inputs.iter().map(|x| f64::from(*x)).collect();
    let layers = [LayerSpec::dense(8), LayerSpec::Rectifier(Rectifier::Relu), LayerSpec::dense(64)];
    let network = Network::new(64, &layers).unwrap();
    let examples = Examples::autoencoder(&inputs, 64);
    let initial: Vec<f64> = he_uniform(&network, 0);
    let mut ends = Vec::new();
    for batch in [50, 1500] {
        let minibatches = Minibatches::new(1500, batch, 0).unwrap();
        let mut weights = initial.clone();
        let mut optimizer = OptimizerConfig::named("rprop", Some(0.01)).unwrap().build::<f64>(&network).unwrap();
        let task = Training { network: &network, loss: Loss::Mse, examples, minibatches: &minibatches, epochs: 20 };
        let mut losses = Vec::new();
        let ten = |round: usize, _: usize, loss: f64| {
            losses.push(loss);
            if round == 10 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        train(&task, &mut *optimizer, &mut weights, &mut [], ten, |_, _| ControlFlow::Continue(()));
        assert!(losses[9] < losses[0]);
        ends.push(weights);
    }
    assert_close("the size of the minibatch", &ends[0], &ends[1], 1e-12);
}

/// What the loop tells about an update is what activations recorded before and after it say, also for filters behind pools.
#[test]
fn switching_is_that_of_recorded_configurations() {
    let digits = taylorscope::data::load("digits", None).unwrap().train;
    let inputs: Vec<f64> = digits.inputs.iter().map(|x| f64::from(*x)).collect();
    let relu = LayerSpec::Rectifier(Rectifier::Relu);
    let dense = LayerSpec::dense;
    let pool = LayerSpec::Pool { pooling: Pooling::Max, size: 2, stride: 2 };
    let conv = LayerSpec::Conv { maps: 5, kernel: 3, padding: 1, stride: 1, bias: true };
    let problems = [
        (Shape::from_sizes(&[64]).unwrap(), vec![dense(9), relu, dense(7), relu, dense(10)]),
        (Shape::from_sizes(&[1, 8, 8]).unwrap(), vec![conv, relu, pool, LayerSpec::Flatten, dense(7), relu, dense(10)]),
    ];
    for (input, layers) in problems {
        let network = Network::new(input, &layers).unwrap();
        let (before, after): (Vec<f64>, Vec<f64>) = (he_uniform(&network, 3), he_uniform(&network, 4));
        let rows: Vec<u32> = (0..13).map(|i| i * 101).collect();
        let mut engine = RoundEngine::new(&network, Loss::CrossEntropy, rows.len());
        engine.compute(&before, &Examples::classifier(&inputs, 64, &digits.labels), &rows);
        let mut found = vec![f64::NAN; network.hidden_neurons().last().unwrap().end];
        let mut switching = Switching::new(&network);
        switching.before(&before, engine.parts());
        switching.after(&after, engine.parts(), &mut found);

        let mut minibatch = Vec::new();
        Examples::classifier(&inputs, 64, &digits.labels).gather_inputs(&rows, &mut minibatch);
        let mut recorder = ActivationRecorder::new(&network, minibatch, 1);
        recorder.record(0, &before);
        recorder.record(1, &after);
        let configurations = recorder.configurations;
        for (m, found) in found.iter().enumerate() {
            let (was, is) = configurations.bits[m].split_at(configurations.words(m));
            let switched: u32 = was.iter().zip(is).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert_eq!(*found, f64::from(switched) / configurations.places(m) as f64, "neuron {m}");
        }
        assert!(found.iter().filter(|fraction| **fraction > 0.0).count() > found.len() / 2);
        switching.after(&before, engine.parts(), &mut found);
        assert!(found.iter().all(|fraction| *fraction == 0.0), "no update, no switches");
    }
}

/// The exploring optimizer through the training loop, against its formula on forward passes written out.
#[test]
fn explorer_scales_adams_steps_by_switching() {
    let digits = taylorscope::data::load("digits", None).unwrap().train;
    let inputs: Vec<f64> = digits.inputs.iter().map(|x| f64::from(*x)).collect();
    let sizes = [64, 8, 6, 64];
    let relu = LayerSpec::Rectifier(Rectifier::Relu);
    let dense = LayerSpec::dense;
    let network = Network::new(64, &[dense(8), relu, dense(6), relu, dense(64)]).unwrap();
    let examples = Examples::autoencoder(&inputs, 64);
    let minibatches = Minibatches::new(1500, 50, 0).unwrap();
    let initial: Vec<f64> = he_uniform(&network, 0);
    let (power, limit, memory, every, rate): (f64, f64, f64, usize, f64) = (0.7, 2.5, 0.8, 3, 0.02);
    let settings = [("power", power), ("limit", limit), ("memory", memory), ("every", every as f64)];
    let mut config = OptimizerConfig::named("explorer", Some(rate)).unwrap();
    config.settings = settings.map(|(key, value)| (key.to_owned(), value)).into();
    let mut trained = initial.clone();
    let task = Training { network: &network, loss: Loss::Mse, examples, minibatches: &minibatches, epochs: 2 };
    let stop_after_50 =
        |round: usize, _: usize, _: f64| if round == 50 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let mut optimizer = config.build::<f64>(&network).unwrap();
    train(&task, &mut *optimizer, &mut trained, &mut [], stop_after_50, |_, _| ControlFlow::Continue(()));

    // Which of the hidden neurons are active on a row.
    let states = |weights: &[f64], row: u32| -> Vec<bool> {
        let (mut x, mut rest, mut active) = (inputs[row as usize * 64..][..64].to_vec(), weights, Vec::new());
        for pair in sizes[..3].windows(2) {
            let (matrix, tail) = rest.split_at(pair[1] * (pair[0] + 1));
            let affine = |w: &[f64]| w[..pair[0]].iter().zip(&x).map(|(w, x)| w * x).sum::<f64>() + w[pair[0]];
            let a: Vec<f64> = matrix.chunks(pair[0] + 1).map(affine).collect();
            active.extend(a.iter().map(|a| *a > 0.0));
            (x, rest) = (a.iter().map(|a| a.max(0.0)).collect(), tail);
        }
        active
    };
    let mut weights = initial.clone();
    let (mut mean, mut square) = (vec![0.0; weights.len()], vec![0.0; weights.len()]);
    let (mut switching, mut factors) = ([0.0; 14], [1.0_f64; 14]);
    let mut engine = RoundEngine::new(&network, Loss::Mse, 50);
    let mut largest = 1.0_f64;
    for round in 1..=50 {
        let rows = minibatches.round(round).unwrap();
        engine.compute(&weights, &examples, &rows);
        let before: Vec<Vec<bool>> = rows.iter().map(|row| states(&weights, *row)).collect();
        for (j, g) in engine.gradient().iter().enumerate() {
            mean[j] = 0.9 * mean[j] + 0.1 * g;
            square[j] = 0.999 * square[j] + 0.001 * g * g;
            let (m, v) =
                (mean[j] / (1.0 - 0.9_f64.powi(round as i32)), square[j] / (1.0 - 0.999_f64.powi(round as i32)));
            // 8 neurons of 65 weights, then 6 of 9, then the output.
            let factor = match j {
                0..520 => factors[j / 65],
                520..574 => factors[8 + (j - 520) / 9],
                _ => 1.0,
            };
            weights[j] -= if v > 0.0 { factor * rate * m / (v.sqrt() + 1e-8) } else { 0.0 };
        }
        if round % every == 0 {
            for (m, s) in switching.iter_mut().enumerate() {
                let changed = rows.iter().zip(&before).filter(|(row, before)| states(&weights, **row)[m] != before[m]);
                *s = memory * *s + (1.0 - memory) * changed.count() as f64 / 50.0;
            }
            for layer in [0..8, 8..14] {
                let average = switching[layer.clone()].iter().sum::<f64>() / layer.len() as f64;
                for m in layer {
                    let wanted = if average > 0.0 { (average / switching[m]).powf(power) } else { 1.0 };
                    factors[m] = wanted.min(limit).max(1.0 / limit);
                    largest = largest.max(factors[m]);
                }
            }
        }
    }
    assert!(largest > 1.2, "the neurons do not differ enough to tell: {largest}");
    assert_close("explorer", &trained, &weights, 1e-9);

    // Without a power it is Adam, to rounding.
    let ends = ["explorer", "adam"].map(|name| {
        let mut config = OptimizerConfig::named(name, Some(rate)).unwrap();
        config.settings.extend((name == "explorer").then(|| ("power".to_owned(), 0.0)));
        let mut weights = initial.clone();
        let mut optimizer = config.build::<f64>(&network).unwrap();
        train(&task, &mut *optimizer, &mut weights, &mut [], stop_after_50, |_, _| ControlFlow::Continue(()));
        weights
    });
    assert_close("power = 0", &ends[0], &ends[1], 1e-12);
}
