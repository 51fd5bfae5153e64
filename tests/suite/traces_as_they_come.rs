//! Traces as people have them: what is good is read however it was saved, what is wrong is refused or doubted with its likely cause.
//!
//! The traces are trained here, in the other engine's place by plain loops of the optimizer, and written file by file.

use crate::support::{
    Ended, Workplace, table,
    trace::{Tensors, write_array},
};
use half::{bf16, f16};
use npyz::Order::C;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};
use taylorscope::{
    loss::Loss,
    network::{Image, LayerSpec, Network, Rectifier, Shape, he_uniform, weights::encode_states},
    train::{Examples, RoundEngine},
};

const ROWS: usize = 60;
const BATCH: usize = 8;
const ROUNDS: usize = 40;
const RATE: f32 = 0.05;

/// A trace in memory, to be written with something changed.
#[derive(Clone)]
struct Sample {
    network: Network,
    /// `[rows, features]`.
    inputs: Vec<f32>,
    shape: Vec<u64>,
    labels: Option<Vec<i64>>,
    batches: Vec<i64>,
    states: Vec<Vec<f32>>,
    losses: Vec<f64>,
    manifest: Value,
}

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| 2.0 * rng.random::<f32>() - 1.0).collect()
}

fn dense(units: &[usize]) -> Vec<LayerSpec> {
    let pair = |units: &usize| [LayerSpec::Rectifier(Rectifier::Relu), LayerSpec::dense(*units)];
    units.iter().flat_map(pair).skip(1).collect()
}

impl Sample {
    /// Training of `network` by plain SGD; `labels` makes it a classifier.
    fn of(input: impl Into<Shape>, layers: &[LayerSpec], labels: Option<Vec<i64>>) -> Self {
        Self::trained(input, layers, labels, |weights, gradient| {
            weights.iter_mut().zip(gradient).for_each(|(w, g)| *w -= RATE * g);
        })
    }

    fn trained(
        input: impl Into<Shape>,
        layers: &[LayerSpec],
        labels: Option<Vec<i64>>,
        mut update: impl FnMut(&mut Vec<f32>, &[f32]),
    ) -> Self {
        let shape: Shape = input.into();
        let network = Network::new(shape, layers).unwrap();
        let inputs: Vec<f32> = numbers(ROWS * shape.len(), 1).iter().map(|v| v.abs()).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let batches: Vec<i64> = (0..ROUNDS * BATCH).map(|_| rng.random_range(0..ROWS as i64)).collect();
        let loss = if labels.is_some() { Loss::CrossEntropy } else { Loss::Mse };
        let indices: Option<Vec<u32>> = labels.as_ref().map(|all| all.iter().map(|l| *l as u32).collect());
        let examples = match &indices {
            Some(labels) => Examples::classifier(&inputs, shape.len(), labels),
            None => Examples::autoencoder(&inputs, shape.len()),
        };
        let mut engine = RoundEngine::new(&network, loss, BATCH);
        let mut weights: Vec<f32> = he_uniform(&network, 3);
        let (mut states, mut losses) = (vec![weights.clone()], Vec::new());
        for rows in batches.chunks(BATCH) {
            let rows: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
            engine.compute(&weights, &examples, &rows);
            losses.push(engine.loss());
            update(&mut weights, engine.gradient());
            states.push(weights.clone());
        }
        let manifest = json!({
            "format": 1, "input": shape.sizes(), "layers": layers, "loss": loss,
            "target": if labels.is_some() { "label" } else { "input" }, "rounds": ROUNDS, "batch_size": BATCH,
            "optimizer": { "name": "sgd", "learning_rate": 0.05 }
        });
        let shape = [&[ROWS][..], &shape.sizes()].concat().iter().map(|n| *n as u64).collect();
        Self { network, inputs, shape, labels, batches, states, losses, manifest }
    }

    fn tensors(&self) -> Tensors {
        let states: Vec<&[f32]> = self.states.iter().map(|state| &state[..]).collect();
        Tensors::parse(&encode_states(&self.network, &states, true).unwrap())
    }

    fn write(&self, folder: &Path, tensors: &Tensors) {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("weights-00000.safetensors"), tensors.bytes()).unwrap();
        let rounds = self.losses.len() as u64;
        write_array(&folder.join("batches.npy"), &[rounds, BATCH as u64], C, self.batches.clone());
        write_array(&folder.join("inputs.npy"), &self.shape, C, self.inputs.clone());
        write_array(&folder.join("losses.npy"), &[rounds], C, self.losses.clone());
        if let Some(labels) = &self.labels {
            write_array(&folder.join("targets.npy"), &[ROWS as u64], C, labels.clone());
        }
        fs::write(folder.join("manifest.json"), self.manifest.to_string()).unwrap();
    }
}

/// A folder in which traces are analysed.
struct Bench {
    workplace: Workplace,
    trace: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let workplace = Workplace::new();
        let trace = workplace.path("trace");
        Self { workplace, trace }
    }

    /// Analyses the trace of the folder as it is.
    #[track_caller]
    fn analyze(&self, more: &[&str]) -> Ended {
        let _ = fs::remove_dir_all(self.workplace.path("out"));
        let quick =
            ["--set", "regret.scales=[\"layer\"]", "--set", "regret.prefixes=2", "--set", "exploration.probe=20"];
        self.workplace.run(&[&["analyze", "trace", "--out", "out"][..], &quick, more].concat())
    }

    /// Writes a sample with its tensors changed, and analyses it.
    #[track_caller]
    fn with(&self, sample: &Sample, change: impl FnOnce(Tensors) -> Tensors) -> Ended {
        sample.write(&self.trace, &change(sample.tensors()));
        self.analyze(&[])
    }

    /// Writes a sample with something done to its folder, and analyses it.
    #[track_caller]
    fn after(&self, sample: &Sample, change: impl FnOnce(&Path)) -> Ended {
        sample.write(&self.trace, &sample.tensors());
        change(&self.trace);
        self.analyze(&[])
    }

    /// What a good analysis says of losses and regret.
    fn tables(&self) -> [String; 2] {
        ["rounds.csv", "regret.csv"].map(|name| self.workplace.read(&format!("out/sgd/{name}")))
    }

    #[track_caller]
    fn refused(ended: Ended, texts: &[&str], bench: &Bench) {
        ended.exits(1).says(texts);
        assert!(!bench.workplace.path("out").exists(), "a refused trace leaves no folder");
    }

    fn optimizer(&self) -> Value {
        self.workplace.json("out/summary.json")["optimizers"][0].clone()
    }

    /// What the page says of the trace.
    fn doubts(&self) -> String {
        let page = self.workplace.read("out/report.html");
        page.split("Doubts about what was traced:")
            .nth(1)
            .unwrap_or_default()
            .split("</div>")
            .next()
            .unwrap()
            .to_owned()
    }
}

fn autoencoder() -> Sample {
    Sample::of(6, &dense(&[5, 4, 6]), None)
}

/// Renames every tensor.
fn renamed(tensors: Tensors, rename: impl Fn(&str) -> String) -> Tensors {
    Tensors(tensors.0.into_iter().map(|(name, tensor)| (rename(&name), tensor)).collect())
}

/// The values of a tensor in another type.
fn cast(dtype: Dtype, data: &[u8]) -> Vec<u8> {
    let values = data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
    match dtype {
        Dtype::F16 => values.flat_map(|v| f16::from_f32(v).to_le_bytes()).collect(),
        Dtype::BF16 => values.flat_map(|v| bf16::from_f32(v).to_le_bytes()).collect(),
        Dtype::F64 => values.flat_map(|v| f64::from(v).to_le_bytes()).collect(),
        other => panic!("{other:?}"),
    }
}

// What is good.

#[test]
fn a_trace_is_the_same_however_its_weights_were_saved() {
    let (bench, sample) = (Bench::new(), autoencoder());
    bench.with(&sample, |t| t).exits(0).says(&["agree with losses.npy to single precision", "steps of plain SGD"]);
    let expected = bench.tables();
    for prefix in ["module.", "_orig_mod.", "model.net.", "_orig_mod.module."] {
        bench.with(&sample, |t| renamed(t, |name| format!("{prefix}{name}"))).exits(0).says(&[prefix]);
        assert_eq!(bench.tables(), expected, "{prefix}");
    }
    let attributes = |name: &str| name.replace("0.", "encode.").replace("2.", "middle.").replace("4.", "out.");
    bench.with(&sample, |t| renamed(t, attributes)).exits(0).says(&["0 = encode, 2 = middle, 4 = out"]);
    assert_eq!(bench.tables(), expected);
    // One state per file, with a leading axis and without.
    for axis in [true, false] {
        sample.write(&bench.trace, &sample.tensors());
        for n in 0..=ROUNDS {
            let one = sample.tensors().map(|_, shape, data| {
                let size = data.len() / shape[0];
                let tail = shape[1..].to_vec();
                (if axis { [&[1], &tail[..]].concat() } else { tail }, data[n * size..(n + 1) * size].to_vec())
            });
            fs::write(bench.trace.join(format!("weights-{n:05}.safetensors")), one.bytes()).unwrap();
        }
        bench.analyze(&[]).exits(0);
        assert_eq!(bench.tables(), expected, "axis {axis}");
    }
    // A column of losses is a list of them, and an array of a double type is one as well.
    let columns = |folder: &Path| {
        write_array(&folder.join("losses.npy"), &[ROUNDS as u64, 1], C, sample.losses.clone());
        let inputs: Vec<f64> = sample.inputs.iter().map(|v| f64::from(*v)).collect();
        write_array(&folder.join("inputs.npy"), &sample.shape, C, inputs);
    };
    bench.after(&sample, columns).exits(0);
    assert_eq!(bench.tables(), expected);
}

#[test]
fn half_precision_is_widened_and_mixed_types_are_not_mixed_up() {
    let (bench, sample) = (Bench::new(), autoencoder());
    for dtype in [Dtype::F16, Dtype::BF16] {
        let half = |mut tensors: Tensors, only: &str| {
            for (_, (kind, _, data)) in tensors.0.iter_mut().filter(|(name, _)| name.starts_with(only)) {
                (*kind, *data) = (dtype, cast(dtype, data));
            }
            tensors
        };
        sample.write(&bench.trace, &half(sample.tensors(), ""));
        fs::remove_file(bench.trace.join("losses.npy")).unwrap();
        bench.analyze(&[]).exits(0).says(&["with the same values", "compared with nothing"]);
        // The values are those that were stored: the same trace in single precision gives the same.
        let [rounds, regret] = bench.tables();
        let widened = half(sample.tensors(), "").map(|_, shape, data| {
            let wide = data.as_chunks().0.iter().map(|b| match dtype {
                Dtype::F16 => f16::from_le_bytes(*b).to_f32(),
                _ => bf16::from_le_bytes(*b).to_f32(),
            });
            (shape, wide.flat_map(f32::to_le_bytes).collect())
        });
        let single = Tensors(widened.0.into_iter().map(|(n, (_, s, d))| (n, (Dtype::F32, s, d))).collect());
        sample.write(&bench.trace, &single);
        fs::remove_file(bench.trace.join("losses.npy")).unwrap();
        bench.analyze(&[]).exits(0);
        assert_eq!(bench.tables()[0], rounds);
        // Steps of rounded weights are no longer those of SGD, so bounds differ; all else is the same.
        assert_eq!(bench.tables()[1].lines().count(), regret.lines().count());
        bench.with(&sample, |t| half(t, "2.bias")).exits(0).says(&["some weights are stored in half precision"]);
    }
    let double = |mut tensors: Tensors| {
        let (kind, _, data) = tensors.0.get_mut("2.bias").unwrap();
        (*kind, *data) = (Dtype::F64, cast(Dtype::F64, data));
        tensors
    };
    Bench::refused(bench.with(&sample, double), &["\"0.weight\" is F32", "\"2.bias\" is F64"], &bench);
    let later = |folder: &Path| {
        let part = |dtype: Option<Dtype>, rows: std::ops::Range<usize>| {
            let mut part = sample.tensors().map(|_, shape, data| {
                let size = data.len() / shape[0];
                let shape = [&[rows.len()], &shape[1..]].concat();
                (shape, data[rows.start * size..rows.end * size].to_vec())
            });
            for (kind, _, data) in part.0.values_mut().filter(|_| dtype.is_some()) {
                (*kind, *data) = (dtype.unwrap(), cast(dtype.unwrap(), data));
            }
            part.bytes()
        };
        fs::write(folder.join("weights-00000.safetensors"), part(None, 0..20)).unwrap();
        fs::write(folder.join("weights-00001.safetensors"), part(Some(Dtype::F64), 20..ROUNDS + 1)).unwrap();
    };
    let texts = ["weights-00001.safetensors", "is F64", "weights-00000.safetensors is F32"];
    Bench::refused(bench.after(&sample, later), &texts, &bench);
}

#[test]
fn losses_near_zero_agree_within_rounding() {
    let bench = Bench::new();
    let labels = |row: usize| i64::from(row % 2 == 1);
    let mut sample = Sample::of(2, &dense(&[8, 2]), Some((0..ROWS).map(labels).collect()));
    // Rows of two kinds that the network tells apart by a large margin; losses are about 1e-7.
    for (row, x) in sample.inputs.chunks_mut(2).enumerate() {
        x.copy_from_slice(if row % 2 == 1 { &[0.0, 1.0] } else { &[1.0, 0.0] });
    }
    let mut state = vec![0.0; sample.network.parameters()];
    (state[0], state[4]) = (4.0, 4.0);
    let last = sample.network.blocks()[1].range().start;
    (state[last], state[last + 10]) = (3.9, 3.9);
    for (n, weights) in sample.states.iter_mut().enumerate() {
        *weights = state.clone();
        weights[last + 8] = n as f32 * 1e-3;
    }
    // What another program's log-softmax gives: multiples of 2^-23, up to two of them off.
    sample.losses = (0..ROUNDS).map(|n| f64::from(n as u32 % 3) * 2f64.powi(-23)).collect();
    bench.with(&sample, |t| t).exits(0).says(&["to single precision"]);
    // A loss that is larger than rounding explains is wrong all the same.
    sample.losses[7] = 1e-5;
    Bench::refused(bench.with(&sample, |t| t), &["round 8 ", "1 of 40 rounds differ"], &bench);
}

#[test]
fn a_diverged_trace_is_analysed_up_to_there() {
    let (bench, sample) = (Bench::new(), autoencoder());
    let mut diverged = sample.clone();
    diverged.states[30..].iter_mut().for_each(|state| state[4] = f32::NAN);
    diverged.losses[28..].iter_mut().for_each(|loss| *loss = f64::INFINITY);
    bench.with(&diverged, |t| t).exits(0).says(&["W^31 is not finite", "round 29 on are not finite", "1 to 28 of 40"]);
    assert_eq!(bench.optimizer()["rounds"], json!(28));
    assert!(bench.doubts().contains("W^31 is not finite"));
    // The same as if the trace had been cut there.
    let tables = bench.tables();
    sample.write(&bench.trace, &sample.tensors());
    bench.analyze(&["--rounds", "28"]).exits(0).says(&["first 28 of 40 rounds"]);
    assert_eq!(bench.tables(), tables);
    // Without losses, the weights alone decide.
    bench
        .after(&diverged, |folder| fs::remove_file(folder.join("losses.npy")).unwrap())
        .exits(0)
        .says(&["1 to 30 of 40"]);
    diverged.losses = sample.losses.clone();
    diverged.losses[11] = f64::NAN;
    Bench::refused(bench.with(&diverged, |t| t), &["round 12 is NaN", "losses after it are finite"], &bench);
    diverged.states[0][0] = f32::INFINITY;
    Bench::refused(bench.with(&diverged, |t| t), &["round 1 is not finite"], &bench);
}

#[test]
fn shards_that_are_damaged_or_missing_leave_whole_rounds() {
    let (bench, sample) = (Bench::new(), autoencoder());
    let sharded = |folder: &Path| {
        for (shard, start) in (0..=ROUNDS).step_by(10).enumerate() {
            let part = sample.tensors().map(|_, shape, data| {
                let size = data.len() / shape[0];
                let end = (start + 10).min(shape[0]);
                ([&[end - start], &shape[1..]].concat(), data[start * size..end * size].to_vec())
            });
            fs::write(folder.join(format!("weights-{shard:05}.safetensors")), part.bytes()).unwrap();
        }
    };
    bench.after(&sample, sharded).exits(0);
    let whole = bench.tables();
    let third = bench.trace.join("weights-00002.safetensors");
    let bytes = fs::read(&third).unwrap();
    fs::write(&third, &bytes[..bytes.len() / 2]).unwrap();
    let texts = ["weights-00002.safetensors", "copy it again", "20 states before are whole", "--rounds 20"];
    Bench::refused(bench.analyze(&[]), &texts, &bench);
    bench.analyze(&["--rounds", "20"]).exits(0);
    assert_eq!(bench.optimizer()["rounds"], json!(20));
    assert!(whole[0].starts_with(bench.tables()[0].trim_end()));
    fs::remove_file(&third).unwrap();
    let texts = ["weights-00002.safetensors is missing", "hold 20 states", "--rounds 20"];
    Bench::refused(bench.analyze(&[]), &texts, &bench);
    fs::remove_file(bench.trace.join("weights-00000.safetensors")).unwrap();
    Bench::refused(bench.analyze(&[]), &["weights-00000.safetensors", "count from 0"], &bench);
    bench.analyze(&["--rounds", "0"]).exits(2);
}

// Another network, other states.

#[test]
fn layers_that_are_not_in_the_list_are_named() {
    let (bench, sample) = (Bench::new(), autoencoder());
    let shifted = |t| renamed(t, |name| name.replace("4.", "5."));
    Bench::refused(bench.with(&sample, shifted), &["\"4.weight\"", "\"5\" has its shapes", "dropout"], &bench);
    let extra = |mut tensors: Tensors| {
        tensors.0.insert("bn.weight".into(), (Dtype::F32, vec![1], vec![0; 4]));
        tensors
    };
    // With losses that agree it is no layer of the network.
    bench.with(&sample, extra).exits(0).says(&["warning: no layer uses \"bn.weight\""]);
    let mut other = sample.clone();
    other.losses.iter_mut().for_each(|loss| *loss = loss.sqrt());
    Bench::refused(bench.with(&other, extra), &["no layer of the list uses \"bn.weight\""], &bench);
    sample.write(&bench.trace, &extra(sample.tensors()));
    fs::remove_file(bench.trace.join("losses.npy")).unwrap();
    Bench::refused(bench.analyze(&[]), &["no layer of the list uses \"bn.weight\"", "another network"], &bench);
    let turned = |t: Tensors| t.map_one("0.weight", |s, d| (vec![s[0], s[2], s[1]], d));
    Bench::refused(bench.with(&sample, turned), &["0.weight", "transposed", "swapaxes"], &bench);
}

#[test]
fn states_that_do_not_move_are_references() {
    let (bench, sample) = (Bench::new(), autoencoder());
    let last = sample.states.last().unwrap().clone();
    let still = Sample { states: vec![last.clone(); ROUNDS + 1], ..sample.clone() };
    Bench::refused(bench.with(&still, |t| t), &["all 41 states are equal", "detach().clone()"], &bench);
    let blind = |folder: &Path| fs::remove_file(folder.join("losses.npy")).unwrap();
    Bench::refused(bench.after(&still, blind), &["all 41 states are equal"], &bench);
    // Biases alone, as one overlooks them.
    let mut biases = sample.clone();
    for block in sample.network.blocks() {
        for at in block.range().skip(block.inputs).step_by(block.width()) {
            biases.states.iter_mut().for_each(|state| state[at] = last[at]);
        }
    }
    bench.after(&biases, blind).exits(0).says(&["warning: 0.bias, 2.bias, 4.bias never change"]);
    assert!(bench.doubts().contains("0.bias, 2.bias, 4.bias never change"));
    // Skipped steps are no fault.
    let mut skipped = sample.clone();
    let first = sample.states[0].clone();
    skipped.states.splice(0..0, [first.clone(), first]);
    skipped.states.truncate(ROUNDS + 1);
    bench.after(&skipped, blind).exits(0).says(&["2 of 40 updates change nothing"]);
}

#[test]
fn updates_that_do_not_go_downhill_are_doubted() {
    let bench = Bench::new();
    let sample = Sample::of(6, &dense(&[6, 6]), None);
    let blind = |folder: &Path| fs::remove_file(folder.join("losses.npy")).unwrap();
    bench.after(&sample, blind).exits(0);
    assert!(!bench.doubts().contains("go down"), "{}", bench.doubts());
    let mut backwards = sample.clone();
    backwards.states.reverse();
    bench.after(&backwards, blind).exits(0).says(&["go down their minibatch's gradient"]);
}

// Losses that differ, each for a reason.

#[test]
fn losses_of_another_convention_are_named() {
    let (bench, sample) = (Bench::new(), autoencoder());
    let scaled = |factor: f64| {
        let losses = sample.losses.iter().map(|loss| factor * loss).collect();
        Sample { losses, ..sample.clone() }
    };
    for (factor, texts) in [
        (
            48.0,
            &["recorded / recomputed is 48 in all", "sum over minibatch and outputs", "divide losses.npy by 48"][..],
        ),
        (6.0, &["is 6 in all", "sum over the outputs"]),
        (0.5, &["is 0.5 in all", "half"]),
        (0.25, &["is 0.25 in all", "4 accumulation steps"]),
        (65536.0, &["is 65536 in all", "loss scaler"]),
        (1.7, &["is 1.7 in all", "another mean"]),
    ] {
        Bench::refused(bench.with(&scaled(factor), |t| t), texts, &bench);
    }
    let mut penalized = sample.clone();
    for (loss, state) in penalized.losses.iter_mut().zip(&sample.states) {
        *loss += 1e-2 * state.iter().map(|w| f64::from(w * w)).sum::<f64>();
    }
    Bench::refused(bench.with(&penalized, |t| t), &["1.000e-2 times the squares", "penalty"], &bench);
    let mut noisy = sample.clone();
    let noise = numbers(ROUNDS, 9);
    noisy.losses.iter_mut().zip(&noise).for_each(|(loss, z)| *loss *= 1.0 + 5e-3 * f64::from(*z));
    Bench::refused(bench.with(&noisy, |t| t), &["half precision or TF32", "--loss-tolerance 0.009"], &bench);
    bench.analyze(&["--loss-tolerance", "0.01"]).exits(0).says(&["warning: the recomputed losses agree", "e-3 of"]);
    bench.analyze(&["--loss-tolerance", "2"]).exits(2).says(&["0 to 0.5"]);
}

#[test]
fn usual_mistakes_are_found_by_trying_them() {
    let bench = Bench::new();
    let sample = Sample::of(6, &dense(&[6, 6]), None);
    let write = |name: &'static str, values: Vec<f64>, shape: Vec<u64>| {
        move |folder: &Path| write_array(&folder.join(name), &shape, C, values)
    };
    let bytes: Vec<f64> = sample.inputs.iter().map(|v| f64::from(255.0 * v).round()).collect();
    let mut of_bytes = sample.clone();
    of_bytes.inputs = bytes.iter().map(|v| (*v / 255.0) as f32).collect();
    recompute(&mut of_bytes);
    let raw = bench.after(&of_bytes, write("inputs.npy", bytes.clone(), sample.shape.clone()));
    Bench::refused(raw, &["divided by 255"], &bench);
    of_bytes.write(&bench.trace, &of_bytes.tensors());
    write("inputs.npy", bytes, sample.shape.clone())(&bench.trace);
    fs::remove_file(bench.trace.join("losses.npy")).unwrap();
    bench.analyze(&[]).exits(0).says(&["warning: inputs.npy holds whole numbers from 2 to 254"]);
    let turned = |t: Tensors| {
        t.map(|name, shape, data| {
            let side = shape[1];
            let at = |s: usize, i: usize, j: usize| 4 * ((s * side + i) * side + j);
            if !name.ends_with("weight") {
                return (shape, data);
            }
            let all = (0..shape[0]).flat_map(|s| (0..side * side).map(move |k| (s, k / side, k % side)));
            let turned = all.flat_map(|(s, i, j)| data[at(s, j, i)..][..4].to_vec()).collect();
            (shape, turned)
        })
    };
    Bench::refused(bench.with(&sample, turned), &["square matrices are transposed"], &bench);
    let mut late = sample.clone();
    late.states.remove(0);
    late.manifest["rounds"] = json!(ROUNDS);
    Bench::refused(bench.with(&late, |t| t), &["save W^n before the optimizer's step"], &bench);
    let mut shifted = sample.clone();
    shifted.batches.rotate_left(BATCH);
    Bench::refused(bench.with(&shifted, |t| t), &["batches.npy is one round early"], &bench);
    let mut padded = sample.clone();
    for round in [9, 19] {
        let end = (round + 1) * BATCH;
        let last = padded.batches[end - 4];
        padded.batches[end - 3..end].fill(last);
    }
    Bench::refused(bench.with(&padded, |t| t), &["2 of 40 rounds differ (10, 20)", "short minibatches"], &bench);
    let classes: Vec<i64> = (0..ROWS as i64).map(|row| row % 3).collect();
    let mut classifier = Sample::of(6, &dense(&[5, 5]), Some(classes.clone()));
    classifier.labels = Some(classes.iter().map(|label| label + 1).collect());
    Bench::refused(bench.with(&classifier, |t| t), &["labels are one too high"], &bench);
    classifier.labels = Some(classes.iter().map(|label| label + 3).collect());
    Bench::refused(bench.with(&classifier, |t| t), &["targets.npy", "from 3 to 5", "5 outputs"], &bench);
    let all: Vec<i64> = (0..ROWS as i64).map(|row| row % 5 + 1).collect();
    classifier.labels = Some(all);
    Bench::refused(bench.with(&classifier, |t| t), &["from 1 to 5", "subtract 1"], &bench);
}

#[test]
fn losses_of_logs_are_told_from_those_of_rounds() {
    let (bench, sample) = (Bench::new(), autoencoder());
    let changed = |change: &dyn Fn(usize) -> f64, texts: &[&str]| {
        let losses = (0..ROUNDS).map(change).collect();
        Bench::refused(bench.with(&Sample { losses, ..sample.clone() }, |t| t), texts, &bench);
    };
    let losses = &sample.losses;
    changed(&|n| (1000.0 * losses[n]).round() / 1000.0, &["rounded to 3 decimals", "--loss-tolerance 0.0"]);
    changed(&|n| losses[..=n].iter().sum::<f64>() / (n + 1) as f64, &["means over all rounds so far"]);
    let fading = |n: usize| (1..=n).fold(losses[0], |mean, k| 0.9 * mean + 0.1 * losses[k]);
    changed(&fading, &["running mean with weight 0.900"]);
    changed(&|n| losses[n.saturating_sub(1)], &["losses.npy is one round late"]);
    changed(&|n| losses[n].sqrt(), &["root of the mean squared error"]);
    // Noise that is too large for rounding in half precision.
    let noise = numbers(ROUNDS, 9);
    changed(
        &|n| losses[n] * (1.0 + 3e-2 * f64::from(noise[n])),
        &["dropout", "only if those agree", "--loss-tolerance"],
    );
}

/// Gives a sample the losses that its weights and data make.
fn recompute(sample: &mut Sample) {
    let examples = Examples::autoencoder(&sample.inputs, sample.network.inputs());
    let mut engine = RoundEngine::new(&sample.network, Loss::Mse, BATCH);
    let rounds = sample.batches.chunks(BATCH).zip(&sample.states).map(|(rows, state)| {
        let rows: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        engine.compute(state, &examples, &rows);
        engine.loss()
    });
    sample.losses = rounds.collect();
}

#[test]
fn images_with_their_channels_last_are_refused() {
    let bench = Bench::new();
    let layers = [
        LayerSpec::Conv { maps: 2, kernel: 2, padding: 0, stride: 1, bias: true },
        LayerSpec::Flatten,
        LayerSpec::dense(3),
    ];
    let labels = (0..ROWS as i64).map(|row| row % 3).collect();
    let mut sample = Sample::of(Image { channels: 3, height: 5, width: 4 }, &layers, Some(labels));
    bench.with(&sample, |t| t).exits(0);
    sample.shape = vec![ROWS as u64, 5, 4, 3];
    Bench::refused(bench.with(&sample, |t| t), &["[60, 5, 4, 3]", "[rows, 3, 5, 4]", "moveaxis(x, -1, 1)"], &bench);
    // A row of values is in the order of the manifest.
    sample.shape = vec![ROWS as u64, 60];
    bench.with(&sample, |t| t).exits(0);
    sample.manifest["input"] = json!([5, 4, 3]);
    Bench::refused(bench.with(&sample, |t| t), &["0.weight", "channels, height, width"], &bench);
}

// The optimizer that the manifest tells.

#[test]
fn sgd_that_is_something_else_has_no_bound() {
    let bench = Bench::new();
    let has_bound = || {
        let (header, rows) = table(&bench.tables()[1]);
        let at = header.iter().position(|name| name == "bound_sgd").unwrap();
        rows.iter().all(|row| !row[at].is_empty())
    };
    let layers = dense(&[5, 4, 6]);
    bench.with(&Sample::of(6, &layers, None), |t| t).exits(0);
    assert!(has_bound());
    assert!(bench.workplace.read("out/report.html").contains("All updates are steps of plain SGD"));
    fs::rename(bench.workplace.path("out"), bench.workplace.path("good")).unwrap();
    let check = |sample: Sample, text: &str| {
        bench.with(&sample, |t| t).exits(0).says(&[
            "warning: the manifest tells plain SGD",
            text,
            "bound_sgd is left out",
        ]);
        assert!(!has_bound(), "{text}");
        assert!(bench.doubts().contains(text), "{text}");
        assert!(!bench.workplace.read("out/report.html").contains("claim-bound-sgd"), "no verdict on its theorem");
    };
    let mut speed: Vec<f32> = Vec::new();
    let momentum = Sample::trained(6, &layers, None, |w, g| {
        speed.resize(w.len(), 0.0);
        for ((w, v), g) in w.iter_mut().zip(&mut speed).zip(g) {
            *v = 0.9 * *v + g;
            *w -= RATE * *v;
        }
    });
    check(momentum, "momentum 0.9 with learning rate 0.05");
    let decay = Sample::trained(6, &layers, None, |w, g| {
        w.iter_mut().zip(g).for_each(|(w, g)| *w -= RATE * (g + 0.1 * *w));
    });
    check(decay, "weight decay 0.1 with learning rate 0.05");
    // So weak that no single step shows it.
    let weak = Sample::trained(6, &layers, None, |w, g| {
        w.iter_mut().zip(g).for_each(|(w, g)| *w -= RATE * (g + 1e-4 * *w));
    });
    check(weak, "weight decay 0.0001 with learning rate 0.05");
    let mut round = 0;
    let falling = Sample::trained(6, &layers, None, |w, g| {
        round += 1;
        let rate = if round > 20 { 0.1 * RATE } else { RATE };
        w.iter_mut().zip(g).for_each(|(w, g)| *w -= rate * g);
    });
    check(falling, "the learning rate falls from 0.05 to 0.005");
    let mut other = Sample::of(6, &layers, None);
    other.manifest["optimizer"]["learning_rate"] = json!(0.01);
    check(other, "steps of 0.05 along the gradient");
    let signs = Sample::trained(6, &layers, None, |w, g| {
        w.iter_mut().zip(g).for_each(|(w, g)| *w -= 0.01 * g.signum());
    });
    check(signs, "another optimizer");
    // The reverse: plain steps under another name.
    let mut named = Sample::of(6, &layers, None);
    named.manifest["optimizer"] = json!({ "name": "torch.optim.Adam", "lr": 0.05 });
    bench.with(&named, |t| t).exits(0).says(&["warning: the manifest names adam, but all updates are steps of 0.05"]);
    assert_eq!(bench.workplace.json("out/summary.json")["optimizers"][0]["contradicted"], json!(true));
    named.manifest["optimizer"] = json!({ "name": "shampoo" });
    bench
        .with(&named, |t| t)
        .exits(0)
        .says(&["whether the updates are those of shampoo with its settings is not checked"]);
    // Rounds that were left out.
    let mut left_out = Sample::of(6, &layers, None);
    for _ in 0..2 {
        left_out.states.remove(10);
        left_out.losses.remove(10);
        left_out.batches.drain(10 * BATCH..11 * BATCH);
    }
    left_out.manifest["rounds"] = json!(ROUNDS - 2);
    bench
        .with(&left_out, |t| t)
        .exits(0)
        .says(&["from round 10 to the next (1 of 38)", "updates between them are missing, or"]);
    assert!(!has_bound());
    // A comparison of runs says it as well.
    bench.workplace.run(&["report", "good", "out", "--out", "both"]).exits(0);
    assert!(bench.workplace.read("both/report.html").contains("updates between them are missing"));
}
