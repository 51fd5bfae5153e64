//! Synthetic run directories for the tests: plausible numbers without training anything.

use crate::{loss::Loss, study::tables::*, trace::TargetKind};
use serde_json::json;
use std::{fs, path::Path};

/// What to write.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// Three optimizers on an autoencoder, everything recorded.
    Autoencoder,
    /// As above, without exploration.
    NoExploration,
    /// SGD diverges at round 7.
    Diverged,
    /// One round, one epoch, one prefix.
    OneRound,
    /// All regrets negative.
    NegativeRegret,
    /// As above, of optima of which nothing is certified but that losses are not negative.
    Uncertified,
    /// All neurons dead, all regrets and gaps zero.
    Dead,
    /// Cross-entropy with accuracies on a small convolutional network, many epochs.
    Classifier,
    /// `summary.json` alone.
    Bare,
}

/// A generator of numbers in `[0, 1)` that is the same everywhere.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as f64 / (1u64 << 31) as f64
    }
}

struct Plan {
    name: &'static str,
    rate: f64,
    /// Where the loss ends, and how fast it gets there.
    floor: f64,
    speed: f64,
    /// Exploration compared with SGD.
    vigour: f64,
}

const PLANS: [Plan; 3] = [
    Plan { name: "sgd", rate: 1.0, floor: 0.066, speed: 0.03, vigour: 1.0 },
    Plan { name: "rmsprop", rate: 0.003, floor: 0.0388, speed: 0.02, vigour: 3.1 },
    Plan { name: "adam", rate: 0.001, floor: 0.0455, speed: 0.015, vigour: 2.2 },
];

/// Writes a run directory of `kind` into `dir`.
pub fn write(dir: &Path, kind: Kind) {
    fs::create_dir_all(dir).unwrap();
    let classifier = kind == Kind::Classifier;
    let (layers, sizes): (Vec<&str>, Vec<(usize, usize, usize)>) = if classifier {
        (
            vec![
                "conv 3 -> 64, 5x5",
                "relu",
                "max-pool 2x2",
                "flatten",
                "dense 1024 -> 192",
                "relu",
                "dense 192 -> 10",
            ],
            vec![(0, 64, 76), (4, 192, 1025), (6, 10, 193)],
        )
    } else {
        (
            vec![
                "dense 784 -> 50",
                "relu",
                "dense 50 -> 30",
                "relu",
                "dense 30 -> 20",
                "relu",
                "dense 20 -> 30",
                "relu",
                "dense 30 -> 50",
                "relu",
                "dense 50 -> 784",
            ],
            vec![(0, 50, 785), (2, 30, 51), (4, 20, 31), (6, 30, 21), (8, 50, 31), (10, 784, 51)],
        )
    };
    let rounds = if kind == Kind::OneRound { 1 } else { 938 };
    let mut optimizers = Vec::new();
    for (index, plan) in PLANS.iter().enumerate() {
        let diverged = kind == Kind::Diverged && index == 0;
        let rounds = if diverged { 7 } else { rounds };
        let mut noise = Noise(17 + index as u64);
        let start = if classifier { 2.3 } else { 0.117 };
        let scale = if classifier { 8.0 } else { 1.0 };
        let losses: Vec<f64> = (0..rounds)
            .map(|n| {
                let clean = scale * plan.floor + (start - scale * plan.floor) * (-plan.speed * n as f64).exp();
                if diverged { 0.117 * 30f64.powi(n as i32) } else { clean * (0.94 + 0.12 * noise.next()) }
            })
            .collect();
        let label = plan.name;
        let last = &losses[losses.len().saturating_sub(100)..];
        let hidden: usize = sizes[..sizes.len() - 1].iter().map(|layer| layer.1).sum();
        let dead_every = if kind == Kind::Dead { 1 } else { 23 + index };
        optimizers.push(OptimizerSummary {
            label: label.into(),
            name: plan.name.into(),
            learning_rate: Some(plan.rate),
            settings: Default::default(),
            checks: Vec::new(),
            warnings: Vec::new(),
            contradicted: false,
            status: if diverged { RunStatus::Failed } else { RunStatus::Complete },
            message: diverged.then(|| "the loss is not finite after round 7; try a smaller learning rate".into()),
            rounds,
            rounds_per_epoch: rounds,
            window_rounds: rounds,
            sampled_rounds: None,
            kept_rounds: None,
            last_loss: (!diverged).then(|| last.iter().sum::<f64>() / last.len() as f64),
            mean_loss: (!diverged).then(|| losses.iter().sum::<f64>() / rounds as f64),
            train_loss: (!diverged).then_some(scale * plan.floor),
            test_loss: (!diverged).then_some(scale * plan.floor * 1.01),
            train_accuracy: classifier.then_some(0.995),
            test_accuracy: classifier.then_some(0.74),
            hidden_neurons: hidden,
            dead_neurons: (0..hidden).filter(|i| i % dead_every == 0).count(),
        });
        if kind == Kind::Bare {
            continue;
        }
        let folder = dir.join(label);
        fs::create_dir_all(&folder).unwrap();
        let rows: Vec<RoundRow> =
            losses.iter().enumerate().map(|(n, &loss)| RoundRow { round: n + 1, epoch: 1, loss }).collect();
        write_rows(&folder.join("rounds.csv"), columns::ROUNDS, &rows).unwrap();
        let epochs = if classifier { 12 } else { 1 };
        let rows: Vec<EpochRow> = (1..=epochs)
            .map(|epoch| EpochRow {
                epoch,
                learning_rate: plan.rate,
                train_loss: if diverged { f64::NAN } else { scale * plan.floor * (1.0 + 0.5 / epoch as f64) },
                test_loss: if diverged { f64::INFINITY } else { scale * plan.floor * (1.05 + 0.5 / epoch as f64) },
                train_accuracy: classifier.then(|| 1.0 - 0.5 / (epoch as f64 + 1.0)),
                test_accuracy: classifier.then(|| 0.76 - 0.4 / (epoch as f64 + 1.0)),
            })
            .collect();
        write_rows(&folder.join("epochs.csv"), columns::EPOCHS, &rows).unwrap();
        regret(&folder, kind, plan, &losses, &sizes, &mut noise);
        if kind != Kind::NoExploration {
            exploration(&folder, plan, &sizes, rounds, dead_every, &mut noise);
        }
        let timing =
            json!({"phases": {"training": 0.21, "regret": 6.4}, "epochs": [0.21], "peak_memory_bytes": 432013312});
        fs::write(folder.join("timing.json"), timing.to_string()).unwrap();
    }
    let summary = Summary {
        format: 1,
        name: if classifier { "cifar10-convnet".into() } else { "mnist-autoencoder".into() },
        version: "0.1.0".into(),
        seed: Some(0),
        searched_rates: false,
        status: RunStatus::Complete,
        dataset: if classifier { "cifar10".into() } else { "mnist".into() },
        loss: if classifier { Loss::CrossEntropy } else { Loss::Mse }.into(),
        target: if classifier { TargetKind::Label } else { TargetKind::Input },
        headline: if classifier { Comparator::Ball } else { Comparator::Unconstrained },
        layers: layers.into_iter().map(String::from).collect(),
        optimizers,
    };
    fs::write(dir.join("summary.json"), serde_json::to_string_pretty(&summary).unwrap()).unwrap();
    if kind != Kind::Bare {
        fs::write(
            dir.join("experiment.toml"),
            "name = \"mnist-autoencoder\"\nseed = 0\n[training]\nloss = \"mse\" # <&>\n",
        )
        .unwrap();
        let environment =
            json!({"version": "0.1.0", "cpu": "some <processor>", "threads": 2, "command": "taylorscope run"});
        fs::write(dir.join("environment.json"), environment.to_string()).unwrap();
    }
}

fn regret(folder: &Path, kind: Kind, plan: &Plan, losses: &[f64], sizes: &[(usize, usize, usize)], noise: &mut Noise) {
    let mut prefixes: Vec<usize> =
        (0..30).map(|i| (losses.len() as f64).powf(f64::from(i) / 29.0).round() as usize).collect();
    prefixes.dedup();
    let mut units = vec![(Scale::Network, None, None, 83_000)];
    units.extend(sizes.iter().map(|&(layer, n, inputs)| (Scale::Layer, Some(layer), None, n * inputs)));
    for &(layer, n, inputs) in sizes {
        units.extend((0..n).map(|neuron| (Scale::Neuron, Some(layer), Some(neuron), inputs)));
    }
    let (mut rows, mut finals) = (Vec::new(), Vec::new());
    for (scale, layer, neuron, dimension) in units {
        // Regret as a share of the loss: large for the network, tiny for one output neuron.
        let share = match scale {
            Scale::Network => 0.9,
            Scale::Layer => 0.35 + 0.04 * layer.unwrap_or(0) as f64,
            Scale::Neuron if layer >= Some(10) => 0.001 * (0.2 + noise.next()),
            Scale::Neuron => 0.12 * noise.next().powi(2) + 0.002,
        };
        let wobble = 0.8 + 0.4 * noise.next();
        for comparator in [Comparator::Unconstrained, Comparator::Ball] {
            let mut sum = 0.0;
            let mut last = None;
            let mut next = prefixes.iter().peekable();
            for (n, loss) in losses.iter().enumerate() {
                sum += loss;
                if next.peek() != Some(&&(n + 1)) {
                    continue;
                }
                next.next();
                let count = (n + 1) as f64;
                let mean_loss = sum / count;
                let strict = if comparator == Comparator::Ball { 0.8 } else { 1.0 };
                let mut mean_regret =
                    strict * share * wobble * losses[0] / count.powf(0.55) - 0.0004 * share * plan.vigour;
                match kind {
                    Kind::NegativeRegret | Kind::Uncertified => mean_regret = -0.1 * mean_regret.abs(),
                    Kind::Dead => mean_regret = 0.0,
                    _ => {}
                }
                let row = RegretRow {
                    scale,
                    layer,
                    neuron,
                    comparator,
                    rounds: n + 1,
                    mean_loss,
                    taylor_optimum: mean_loss - mean_regret,
                    mean_regret,
                    gap: match kind {
                        Kind::Dead => 0.0,
                        Kind::Uncertified => mean_loss - mean_regret,
                        _ => 1e-6 * mean_loss,
                    },
                    attained: true,
                    distance: 40.0 * wobble,
                    bound_zinkevich: 3.0 * share * losses[0] / count.sqrt(),
                    bound_sgd: (plan.name == "sgd")
                        .then(|| 40.0 * share * losses[0] / count + 1.3 * mean_regret.max(0.0)),
                    bound_adagrad: None,
                    radius: Some(if comparator == Comparator::Ball { 1.4 } else { 80.0 } * wobble),
                };
                last = Some(row.clone());
                rows.push(row);
            }
            finals.extend(last.map(|row| UnitRow {
                scale,
                layer,
                neuron,
                comparator,
                dimension,
                mean_loss: row.mean_loss,
                taylor_optimum: row.taylor_optimum,
                mean_regret: row.mean_regret,
                gap: row.gap,
                attained: true,
                iterations: 12,
                distance: row.distance,
                displacement: 0.7 * wobble,
                gradient_bound: 0.3 * wobble,
                slope: (row.mean_regret > 0.0 && losses.len() > 60).then_some(-0.56),
                slope_points: if losses.len() > 60 { 14 } else { 1 },
                radius: row.radius,
            }));
        }
    }
    write_rows(&folder.join("regret.csv"), columns::REGRET, &rows).unwrap();
    write_rows(&folder.join("units.csv"), columns::UNITS, &finals).unwrap();
}

fn exploration(
    folder: &Path,
    plan: &Plan,
    sizes: &[(usize, usize, usize)],
    rounds: usize,
    dead_every: usize,
    noise: &mut Noise,
) {
    let hidden = &sizes[..sizes.len() - 1];
    let neurons: usize = hidden.iter().map(|layer| layer.1).sum();
    let bits = 2000 * neurons as u64;
    let rows: Vec<NoveltyRow> = (0..=rounds)
        .step_by(20)
        .map(|round| {
            let distance = (plan.vigour * 9000.0 * (0.9 + 0.2 * noise.next()) / (1.0 + round as f64 / 150.0)) as u64;
            let distance = (round > 0).then_some(distance);
            NoveltyRow { round, min_hamming: distance, previous_hamming: distance, bits }
        })
        .collect();
    write_rows(&folder.join("novelty.csv"), columns::NOVELTY, &rows).unwrap();
    let mut rows = Vec::new();
    for &(layer, n, _) in hidden {
        for neuron in 0..n {
            let dead = rows.len() % dead_every == 0;
            let energy = plan.vigour * (0.2 + noise.next());
            rows.push(NeuronRow {
                layer,
                neuron,
                switches: if dead { 0 } else { (3000.0 * energy) as u64 },
                rank: if dead { 0 } else { 47 },
                log_volume: if dead { 0.0 } else { 90.0 + 30.0 * energy.ln() },
                log_det: if dead { 0.0 } else { 95.0 + 28.0 * energy.ln() },
                active_fraction: if dead { 0.0 } else { 0.4 },
                dead,
            });
        }
    }
    write_rows(&folder.join("neurons.csv"), columns::NEURONS, &rows).unwrap();
}
