//! Traces of format 2: recorded by the library in a training loop, analysed by the program.

use crate::support::{
    Ended, Workplace, copy_folder, table,
    trace::{Tensors, write_array},
};
use npyz::Order::C;
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use taylorscope::{
    data::RoundRows,
    loss::Loss,
    network::{LayerSpec, Network, Rectifier, he_uniform, weights::encode_states},
    trace::recording::{Recording, RecordingOptions, Tensor},
    train::{Examples, RoundEngine},
};

const ROWS: usize = 60;
const FEATURES: usize = 6;
const RATE: f32 = 0.05;

/// A training, to be written in either format.
struct Training {
    network: Network,
    /// `[rows, features]`.
    inputs: Vec<f32>,
    /// Of a classifier.
    labels: Option<Vec<u32>>,
    batches: RoundRows,
    /// Before each round, and after the last.
    states: Vec<Vec<f32>>,
    losses: Vec<f64>,
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

impl Training {
    /// Plain SGD in epochs of shuffled minibatches of these sizes.
    fn of(sizes: &[usize], epochs: usize, classes: Option<usize>) -> Self {
        let relu = LayerSpec::Rectifier(Rectifier::Relu);
        let layers =
            [LayerSpec::dense(5), relu, LayerSpec::dense(4), relu, LayerSpec::dense(classes.unwrap_or(FEATURES))];
        let network = Network::new(FEATURES, &layers).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let inputs: Vec<f32> = (0..ROWS * FEATURES).map(|_| rng.random::<f32>()).collect();
        let labels = classes.map(|classes| (0..ROWS).map(|row| (row * row % classes) as u32).collect::<Vec<u32>>());
        let mut batches = RoundRows::new();
        let mut order: Vec<u32> = (0..ROWS as u32).collect();
        for _ in 0..epochs {
            order.shuffle(&mut rng);
            let mut start = 0;
            for size in sizes {
                batches.push(&order[start..start + size]);
                start += size;
            }
        }
        let examples = match &labels {
            Some(labels) => Examples::classifier(&inputs, FEATURES, labels),
            None => Examples::autoencoder(&inputs, FEATURES),
        };
        let loss = if labels.is_some() { Loss::CrossEntropy } else { Loss::Mse };
        let mut engine = RoundEngine::new(&network, loss, batches.largest());
        let mut weights: Vec<f32> = he_uniform(&network, 3);
        let (mut states, mut losses) = (vec![weights.clone()], Vec::new());
        for rows in batches.iter() {
            engine.compute(&weights, &examples, rows);
            losses.push(engine.loss());
            weights.iter_mut().zip(engine.gradient()).for_each(|(w, g)| *w -= RATE * g);
            states.push(weights.clone());
        }
        Self { network, inputs, labels, batches, states, losses }
    }

    fn manifest(&self) -> Value {
        json!({
            "input": [FEATURES], "layers": self.network.layers(),
            "loss": if self.labels.is_some() { "cross_entropy" } else { "mse" },
            "target": if self.labels.is_some() { "label" } else { "input" },
            "optimizer": { "name": "sgd", "learning_rate": 0.05 }
        })
    }

    fn write_format_1(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        let states: Vec<&[f32]> = self.states.iter().map(|state| &state[..]).collect();
        let encoded = encode_states(&self.network, &states, true).unwrap();
        fs::write(folder.join("weights-00000.safetensors"), encoded).unwrap();
        let batch = self.batches.is_uniform().unwrap();
        let (rounds, rows) =
            (self.losses.len() as u64, self.batches.rows().iter().map(|row| i64::from(*row)).collect());
        write_array(&folder.join("batches.npy"), &[rounds, batch as u64], C, rows);
        write_array(&folder.join("inputs.npy"), &[ROWS as u64, FEATURES as u64], C, self.inputs.clone());
        write_array(&folder.join("losses.npy"), &[rounds], C, self.losses.clone());
        if let Some(labels) = &self.labels {
            let labels = labels.iter().map(|label| i64::from(*label)).collect();
            write_array(&folder.join("targets.npy"), &[ROWS as u64], C, labels);
        }
        let mut manifest = self.manifest();
        for (key, value) in [("format", 1), ("rounds", rounds), ("batch_size", batch as u64)] {
            manifest[key] = value.into();
        }
        fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    }

    /// The tensors of a state as a loop has them.
    fn with_state<R>(&self, state: &[f32], run: impl FnOnce(&[Tensor]) -> R) -> R {
        let encoded = encode_states(&self.network, &[state], false).unwrap();
        let tensors = SafeTensors::deserialize(&encoded).unwrap();
        let mut views = tensors.tensors();
        views.sort_by(|a, b| a.0.cmp(&b.0));
        let tensors: Vec<Tensor> = views
            .iter()
            .map(|(name, view)| Tensor { name, dtype: view.dtype(), shape: view.shape(), bytes: view.data() })
            .collect();
        run(&tensors)
    }

    /// Records a round, which counts from 0.
    fn record_round(&self, recording: &mut Recording, n: usize) {
        let rows = self.batches.round(n);
        let gathered: Vec<f32> =
            rows.iter().flat_map(|row| &self.inputs[*row as usize * FEATURES..][..FEATURES]).copied().collect();
        let x = bytes(&gathered);
        let y: Option<Vec<u8>> = self
            .labels
            .as_ref()
            .map(|labels| rows.iter().flat_map(|row| i64::from(labels[*row as usize]).to_le_bytes()).collect());
        let inputs = Tensor { name: "inputs", dtype: Dtype::F32, shape: &[rows.len(), FEATURES], bytes: &x };
        let shape = [rows.len()];
        let targets = y.as_ref().map(|y| Tensor { name: "targets", dtype: Dtype::I64, shape: &shape, bytes: y });
        self.with_state(&self.states[n], |state| {
            recording.round(n + 1, self.losses[n], rows.len(), &[inputs], targets.as_ref(), state, &[]).unwrap();
        });
    }

    fn record(&self, folder: &Path, options: RecordingOptions) {
        let mut recording = Recording::create(folder, self.manifest(), options).unwrap();
        for n in 0..self.losses.len() {
            self.record_round(&mut recording, n);
        }
        let last = &self.states[self.losses.len()];
        self.with_state(last, |state| recording.close(Some(state), self.losses.len(), true)).unwrap();
    }
}

/// A shard every few rounds.
fn small_shards() -> RecordingOptions {
    RecordingOptions { shard_bytes: 1200, ..RecordingOptions::default() }
}

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

    #[track_caller]
    fn analyze(&self, trace: &str, more: &[&str]) -> Ended {
        let _ = fs::remove_dir_all(self.workplace.path("out"));
        let quick = ["--set", "regret.prefixes=3", "--set", "regret.max_products=20", "--set", "exploration.every=2"];
        self.workplace.run(&[&["analyze", trace, "--out", "out"][..], &quick, more].concat())
    }

    fn tables(&self) -> Vec<String> {
        let names = ["rounds.csv", "regret.csv", "units.csv", "novelty.csv", "neurons.csv"];
        names.iter().map(|name| self.workplace.read(&format!("out/sgd/{name}"))).collect()
    }

    fn optimizer(&self) -> Value {
        self.workplace.json("out/summary.json")["optimizers"][0].clone()
    }

    /// The entries of a column.
    fn column(&self, file: &str, column: &str) -> Vec<String> {
        let (header, rows) = table(&self.workplace.read(&format!("out/sgd/{file}")));
        let at = header.iter().position(|name| name == column).unwrap();
        rows.into_iter().map(|mut row| row.swap_remove(at)).collect()
    }

    /// Numbers of rounds in a column, each once.
    fn rounds(&self, file: &str, column: &str) -> BTreeSet<usize> {
        self.column(file, column).iter().map(|text| text.parse().unwrap()).collect()
    }
}

#[test]
fn both_formats_of_a_run_give_the_same_tables() {
    for classes in [None, Some(3)] {
        let (bench, training) = (Bench::new(), Training::of(&[20; 3], 4, classes));
        training.write_format_1(&bench.workplace.path("one"));
        bench.analyze("one", &[]).exits(0);
        let (expected, summary) = (bench.tables(), bench.optimizer());
        training.record(&bench.trace, small_shards());
        assert!(bench.trace.join("shard-00002.safetensors").exists());
        bench.analyze("trace", &[]).exits(0).says(&["agree with the recorded ones", "steps of plain SGD"]);
        for (found, expected) in bench.tables().iter().zip(&expected) {
            assert_eq!(found, expected);
        }
        let found = bench.optimizer();
        for key in ["rounds", "rounds_per_epoch", "mean_loss", "sampled_rounds", "warnings", "dead_neurons"] {
            assert_eq!(found[key], summary[key], "{key}");
        }
    }
}

#[test]
fn a_sample_of_the_rounds_is_analysed_under_their_numbers() {
    let (bench, training) = (Bench::new(), Training::of(&[20; 3], 5, None));
    training.record(&bench.trace, RecordingOptions { every: 4, ..small_shards() });
    bench.analyze("trace", &[]).exits(0).says(&["the trace has 4 of 15 rounds"]);
    let kept = [1, 5, 9, 13];
    assert!(bench.rounds("regret.csv", "rounds").iter().all(|round| kept.contains(round)));
    assert!(bench.rounds("regret.csv", "rounds").contains(&13));
    // Configurations: before the updates of kept rounds, and after the last of all.
    assert_eq!(bench.rounds("novelty.csv", "round"), BTreeSet::from([0, 4, 8, 12, 15]));
    assert_eq!(bench.rounds("rounds.csv", "round"), (1..=15).collect());
    assert!(bench.column("regret.csv", "bound_sgd").iter().all(String::is_empty));
    let optimizer = bench.optimizer();
    assert_eq!((&optimizer["rounds"], &optimizer["kept_rounds"]), (&json!(15), &json!(4)));
    assert_eq!((&optimizer["sampled_rounds"], &optimizer["window_rounds"]), (&json!(4), &json!(13)));
    assert!(bench.workplace.read("out/report.html").contains("of those that the trace has"));
    // The optima are those of a run of these rounds alone.
    let (regret, losses) = (bench.column("regret.csv", "mean_loss"), &training.losses);
    let mean = kept.iter().map(|round| losses[round - 1]).sum::<f64>() / 4.0;
    assert!((regret.last().unwrap().parse::<f64>().unwrap() / mean - 1.0).abs() < 1e-6);
    bench.analyze("trace", &["--rounds", "9"]).exits(0);
    assert_eq!(bench.rounds("rounds.csv", "round"), (1..=9).collect());
}

#[test]
fn a_budget_keeps_evenly_spaced_rounds_to_the_end() {
    let (bench, training) = (Bench::new(), Training::of(&[20; 3], 40, None));
    let state = 4 * training.network.parameters() as u64;
    let budget = 20 * state + (ROWS * FEATURES * 4) as u64;
    training.record(&bench.trace, RecordingOptions { max_bytes: Some(budget), ..small_shards() });
    let shards: Vec<Tensors> = (0..)
        .map(|n| bench.trace.join(format!("shard-{n:05}.safetensors")))
        .take_while(|path| path.exists())
        .map(|path| Tensors::parse(&fs::read(path).unwrap()))
        .collect();
    let rounds: Vec<i64> = shards
        .iter()
        .flat_map(|shard| shard.0["rounds"].2.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect::<Vec<_>>())
        .collect();
    assert_eq!(rounds, (1..=120).step_by(8).collect::<Vec<i64>>());
    let states: usize =
        shards.iter().flat_map(|s| &s.0).filter(|(n, _)| n.starts_with("state.")).map(|(_, t)| t.2.len()).sum();
    assert!(states as u64 <= 20 * state);
    bench.analyze("trace", &[]).exits(0).says(&["the trace has 15 of 120 rounds"]);
    assert_eq!(bench.rounds("rounds.csv", "round").len(), 120);
    let manifest: Value = serde_json::from_slice(&fs::read(bench.trace.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(
        (&manifest["every"], &manifest["rounds"], &manifest["complete"]),
        (&json!(8), &json!(120), &json!(true))
    );
}

#[test]
fn minibatches_of_any_size_are_analysed() {
    let (bench, training) = (Bench::new(), Training::of(&[25, 25, 10], 3, Some(3)));
    training.record(&bench.trace, small_shards());
    bench.analyze("trace", &[]).exits(0).says(&["agree with the recorded ones", "steps of plain SGD"]);
    assert_eq!(bench.optimizer()["rounds_per_epoch"], json!(3));
    let found = bench.column("regret.csv", "mean_loss");
    let mean = training.losses.iter().sum::<f64>() / 9.0;
    assert!((found.last().unwrap().parse::<f64>().unwrap() / mean - 1.0).abs() < 1e-6);
}

#[test]
fn rows_that_never_come_back_make_no_epochs() {
    let (bench, mut training) = (Bench::new(), Training::of(&[10; 6], 1, None));
    training.record(&bench.trace, small_shards());
    bench.analyze("trace", &[]).exits(0).says(&["all rounds count as one epoch"]);
    assert_eq!(bench.optimizer()["rounds_per_epoch"], json!(6));
    // What was not closed ends with its last shard.
    training.losses.truncate(4);
    let mut recording = Recording::create(&bench.trace, training.manifest(), again()).unwrap();
    for n in 0..4 {
        training.record_round(&mut recording, n);
    }
    recording.flush().unwrap();
    drop(recording);
    bench.analyze("trace", &[]).exits(0).says(&["training was not closed: the trace ends with round 4"]);
}

fn again() -> RecordingOptions {
    RecordingOptions { overwrite: true, ..small_shards() }
}

/// Changes a shard of a recorded trace.
fn change(trace: &Path, shard: usize, with: impl FnOnce(&mut Tensors)) {
    let path = trace.join(format!("shard-{shard:05}.safetensors"));
    let mut tensors = Tensors::parse(&fs::read(&path).unwrap());
    with(&mut tensors);
    fs::write(&path, tensors.bytes()).unwrap();
}

fn manifest(trace: &Path, with: impl FnOnce(&mut Value)) {
    let path = trace.join("manifest.json");
    let mut manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    with(&mut manifest);
    fs::write(&path, manifest.to_string()).unwrap();
}

/// Sets a value of a tensor of numbers of 8 bytes.
fn set(tensors: &mut Tensors, name: &str, at: usize, bytes: [u8; 8]) {
    tensors.0.get_mut(name).unwrap().2[8 * at..8 * (at + 1)].copy_from_slice(&bytes);
}

type Damage = Box<dyn Fn(&Path)>;

#[test]
fn what_is_wrong_with_a_trace_is_named() {
    let bench = Bench::new();
    Training::of(&[20; 3], 4, Some(3)).record(&bench.workplace.path("good"), small_shards());
    let shard = |with: fn(&mut Tensors)| -> Damage { Box::new(move |trace| change(trace, 1, with)) };
    let first = |with: fn(&mut Tensors)| -> Damage { Box::new(move |trace| change(trace, 0, with)) };
    let keys = |with: fn(&mut Value)| -> Damage { Box::new(move |trace| manifest(trace, with)) };
    let cases: Vec<(Damage, &[&str])> = vec![
        (shard(|t| drop(t.0.remove("state.2.weight"))), &["shard-00001", "no tensor \"2.weight\""]),
        (shard(|t| drop(t.0.remove("sizes"))), &["shard-00001", "no \"sizes\""]),
        (shard(|t| t.0.get_mut("rounds").unwrap().0 = Dtype::U64), &["rounds", "I64"]),
        (shard(|t| set(t, "rounds", 0, 1i64.to_le_bytes())), &["\"rounds\" has 1", "increase"]),
        (shard(|t| set(t, "rounds", 0, (-1i64).to_le_bytes())), &["\"rounds\" has -1"]),
        (shard(|t| set(t, "sizes", 0, 0i64.to_le_bytes())), &["\"sizes\" has 0"]),
        (shard(|t| set(t, "sizes", 0, i64::MAX.to_le_bytes())), &["rows", "asks for"]),
        (shard(|t| set(t, "rows", 0, 60i64.to_le_bytes())), &["has row 60", "60 rows of data"]),
        (shard(|t| set(t, "rows", 0, (-1i64).to_le_bytes())), &["\"rows\" has -1"]),
        (first(|t| set(t, "rows", 0, 59i64.to_le_bytes())), &["has row 59", "up to this shard"]),
        (shard(|t| set(t, "losses", 0, 9.0f64.to_le_bytes())), &["recorded loss", "is 9"]),
        (
            first(|t| t.0.get_mut("inputs").unwrap().2[..4].copy_from_slice(&f32::NAN.to_le_bytes())),
            &["row 0", "finite"],
        ),
        (first(|t| set(t, "targets", 0, 3i64.to_le_bytes())), &["entry 0 is 3", "3 outputs"]),
        (first(|t| drop(t.0.remove("targets"))), &["no \"targets\""]),
        (
            shard(|t| {
                let tensor = t.0["state.4.bias"].clone();
                t.0.insert("state.9.bias".to_owned(), tensor);
            }),
            &["9.bias"],
        ),
        (
            first(|t| {
                let tensor = t.0["state.4.bias"].clone();
                t.0.insert("state.9.bias".to_owned(), tensor);
            }),
            &["no layer of the list uses \"9.bias\""],
        ),
        (
            first(|t| {
                let tensor = t.0["rounds"].clone();
                t.0.insert("round".to_owned(), tensor);
            }),
            &["tensor \"round\", which means nothing"],
        ),
        (
            first(|t| {
                let tensor = t.0.remove("inputs").unwrap();
                t.0.insert("inputs.0".to_owned(), tensor.clone());
                t.0.insert("inputs.1".to_owned(), tensor);
            }),
            &["several inputs (inputs.0, inputs.1)", "backend=\"torch\""],
        ),
        (keys(|m| drop(m.as_object_mut().unwrap().remove("layers"))), &["has no \"layers\"", "backend=\"torch\""]),
        (
            keys(|m| {
                m.as_object_mut().unwrap().remove("layers");
                m["conversion"] = "net.norm is a LayerNorm".into();
            }),
            &["has no \"layers\": net.norm is a LayerNorm"],
        ),
        (keys(|m| m["loss"] = "hinge".into()), &["loss \"hinge\"", "backend=\"torch\""]),
        (keys(|m| m["target"] = "input".into()), &["does not fit target"]),
        (keys(|m| m["layer"] = 1.into()), &["unknown key \"layer\"", "layers"]),
        (keys(|m| m["precision"] = "f8".into()), &["f8", "bf16"]),
        (keys(|m| m["format"] = 3.into()), &["format 3", "formats 1 and 2"]),
        (
            Box::new(|t| fs::remove_file(t.join("shard-00000.safetensors")).unwrap()),
            &["shard-00000.safetensors is missing"],
        ),
        (Box::new(|t| fs::write(t.join("shard-00000.safetensors"), b"x").unwrap()), &["not a whole safetensors"]),
        // A header that lies about what follows takes no memory.
        (
            Box::new(|t| {
                let mut bytes = (60u64).to_le_bytes().to_vec();
                bytes.extend(
                    format!("{:60}", r#"{"a":{"dtype":"F64","shape":[99999999],"data_offsets":[0,799999992]}}"#)
                        .bytes(),
                );
                fs::write(t.join("shard-00000.safetensors"), bytes).unwrap();
            }),
            &["not a whole safetensors"],
        ),
    ];
    for (damage, texts) in cases {
        let _ = fs::remove_dir_all(&bench.trace);
        copy_folder(&bench.workplace.path("good"), &bench.trace);
        damage(&bench.trace);
        bench.analyze("trace", &[]).exits(1).says(texts);
        assert!(!bench.workplace.path("out").exists(), "{texts:?}");
    }
}

#[test]
fn a_trace_that_ends_in_damage_is_analysed_up_to_it() {
    let (bench, training) = (Bench::new(), Training::of(&[20; 3], 4, None));
    training.record(&bench.workplace.path("good"), small_shards());
    let shards = (0..).take_while(|n| bench.workplace.path(&format!("good/shard-{n:05}.safetensors")).exists()).count();
    let rounds_of = |shard: usize| {
        let tensors =
            Tensors::parse(&fs::read(bench.workplace.path(&format!("good/shard-{shard:05}.safetensors"))).unwrap());
        tensors.0["rounds"].1[0]
    };
    assert!(shards > 3);
    for cut in 1..shards {
        let _ = fs::remove_dir_all(&bench.trace);
        copy_folder(&bench.workplace.path("good"), &bench.trace);
        let path = bench.trace.join(format!("shard-{cut:05}.safetensors"));
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        bench.analyze("trace", &[]).exits(0).says(&["the trace is read up to it"]);
        let rounds: usize = (0..cut).map(rounds_of).sum();
        assert_eq!(bench.rounds("rounds.csv", "round"), (1..=rounds).collect());
    }
    // Weights that are not finite end it before their round.
    let _ = fs::remove_dir_all(&bench.trace);
    copy_folder(&bench.workplace.path("good"), &bench.trace);
    change(&bench.trace, 1, |t| {
        let bias = &mut t.0.get_mut("state.0.bias").unwrap().2;
        let end = bias.len() - 4;
        bias[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let round = rounds_of(0) + rounds_of(1);
    let text = format!("the weights before round {round} are not finite");
    bench.analyze("trace", &[]).exits(0).says(&[&text]);
}

/// Where the child records; without it there is nothing to do.
const RECORD_INTO: &str = "TAYLORSCOPE_TEST_RECORD_INTO";

/// Records for other tests, which end this process.
#[test]
#[ignore = "a child process of other tests"]
fn child_that_records() {
    let Ok(folder) = std::env::var(RECORD_INTO) else { return };
    let training = Training::of(&[20; 3], 20, None);
    let state = 4 * training.network.parameters() as u64;
    let options = RecordingOptions { max_bytes: Some(60 * state), shard_bytes: 2000, ..RecordingOptions::default() };
    training.record(Path::new(&folder), options);
}

fn child(folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "recorded_traces::child_that_records"]);
    command.env(RECORD_INTO, folder).stdout(Stdio::null());
    command
}

/// The trace of a child that ended somewhere must be none yet, or be analysed. How many rounds it has.
fn is_whole(bench: &Bench) -> usize {
    if !bench.trace.join("manifest.json").exists() || !bench.trace.join("shard-00000.safetensors").exists() {
        return 0;
    }
    let scales = ["--set", "regret.scales=[\"layer\"]", "--set", "exploration.probe=0"];
    bench.analyze("trace", &scales).exits(0);
    let rounds = bench.rounds("rounds.csv", "round");
    assert_eq!(rounds, (1..=rounds.len()).collect());
    rounds.len()
}

#[test]
fn a_recording_that_is_killed_leaves_a_trace() {
    let (bench, mut random) = (Bench::new(), ChaCha8Rng::seed_from_u64(5));
    let start = std::time::Instant::now();
    assert!(child(&bench.trace).stderr(Stdio::null()).status().unwrap().success());
    let whole = start.elapsed();
    assert_eq!(is_whole(&bench), 60);
    let mut midway = 0;
    for _ in 0..6 {
        fs::remove_dir_all(&bench.trace).unwrap();
        let mut process = child(&bench.trace).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole.mul_f64(random.random::<f64>()).max(Duration::from_millis(1)));
        process.kill().unwrap();
        process.wait().unwrap();
        fs::create_dir_all(&bench.trace).unwrap();
        midway += usize::from((1..60).contains(&is_whole(&bench)));
    }
    println!("{midway} kills struck midway");
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn a_recording_that_ends_at_any_operation_on_a_file_leaves_a_trace() {
    let bench = Bench::new();
    let library = crate::support::faults_library(&bench.workplace);
    let run = |fault: &str| {
        let _ = fs::remove_dir_all(&bench.trace);
        let output = child(&bench.trace).env("LD_PRELOAD", &library).env("FAULT", fault).output().unwrap();
        fs::create_dir_all(&bench.trace).unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (success, text) = run("count:0");
    assert!(success);
    let operations: usize = text
        .lines()
        .filter_map(|line| line.strip_prefix("operation ")?.parse().ok())
        .max()
        .expect("the library counts");
    assert!(operations > 100, "{operations}");
    let mut most = 0;
    for (kind, step) in [("die", 7), ("half", 11), ("full", 29), ("error", 31)] {
        for at in (1..=operations).step_by(step) {
            run(&format!("{kind}:{at}"));
            let rounds = is_whole(&bench);
            assert!(kind == "error" || rounds >= most || rounds > 0 || at < 30, "{kind}:{at}");
            most = most.max(rounds);
        }
    }
    assert!(most > 30, "{most}");
}
