//! Bad input of every kind: each is refused with an exit code, a message that names the thing and what to do, and no panic.
//!
//! Exit code 2 means that the user asked for something impossible, 1 that something failed on the way.

use crate::support::{
    Ended, Workplace, copy_folder, table,
    trace::{Tensors, read_array, write_array},
};
use safetensors::Dtype;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Runs the small autoencoder with one `--set`.
fn run_with(setting: &str) -> Ended {
    Workplace::new().run(&["run", "autoencoder.toml", "--out", "run", "--set", setting])
}

// Names and values of the experiment file.

#[test]
fn unknown_names_are_refused_with_the_nearest_valid_one() {
    let cases: &[(&str, &[&str])] = &[
        ("data.dataset=\"digist\"", &["\"digist\"", "did you mean \"digits\""]),
        ("data.dataset=\"imagenet-22k\"", &["imagenet-22k", "choose one of", "mnist"]),
        ("network.layers=[{ dense = 8 }, \"rleu\", { dense = 64 }]", &["\"rleu\"", "did you mean \"relu\""]),
        ("network.layers=[{ densse = 8 }, { dense = 64 }]", &["\"densse\"", "did you mean \"dense\""]),
        ("network.layers=[\"dense\"]", &["{ dense = 50 }"]),
        ("optimizer=[{ name = \"adma\", learning_rate = 0.1 }]", &["\"adma\"", "did you mean \"adam\""]),
        ("optimizer=[{ name = \"adam\", learning_rate = 0.1, beta3 = 0.9 }]", &["\"beta3\"", "did you mean \"beta"]),
        ("optimizer=[{ name = \"adam\" }]", &["learning_rate"]),
        ("training.losss=\"mse\"", &["\"losss\"", "[training]", "did you mean \"loss\""]),
        ("training.loss=\"mean_square\"", &["mean_square", "mse"]),
        ("training.target=\"inputs\"", &["inputs", "input"]),
        ("trainig.epochs=3", &["\"trainig\"", "did you mean \"training\""]),
        ("regret.prefix=3", &["\"prefix\"", "[regret]", "did you mean \"prefixes\""]),
        ("regret.scales=[\"neurons\"]", &["neurons", "neuron"]),
        ("regret.comparators=[\"bal\"]", &["bal", "ball"]),
        ("exploration.probes=3", &["\"probes\"", "[exploration]", "did you mean \"probe\""]),
        ("exploration.every=\"epochs\"", &["epochs", "\"epoch\""]),
        ("nonsense", &["nonsense", "write for example"]),
    ];
    for (setting, texts) in cases {
        run_with(setting).exits(2).says(texts);
    }
    let workplace = Workplace::new();
    workplace.run(&["run", "digits-autoencodr"]).exits(2).says(&["did you mean \"digits-autoencoder\""]);
    workplace.run(&["run", "--optimizer", "sdg", "--out", "run"]).exits(2).says(&["\"sdg\"", "did you mean \"sgd\""]);
    workplace.run(&["data", "fetch", "mnsit"]).exits(2).says(&["did you mean \"mnist\""]);
    assert!(!workplace.path("run").exists(), "nothing is written for a request that makes no sense");
}

#[test]
fn values_out_of_range_are_refused() {
    let cases: &[(&str, &[&str])] = &[
        ("training.epochs=0", &["training.epochs", "at least 1"]),
        ("training.batch_size=0", &["batch_size", "at least 1"]),
        ("training.batch_size=-4", &["batch_size"]),
        ("training.batch_size=2.5", &["batch_size"]),
        ("training.batch_size=5000", &["batch_size", "5000", "1500", "at most"]),
        ("regret.prefixes=0", &["regret.prefixes"]),
        ("regret.tolerance=0.0", &["regret.tolerance", "between"]),
        ("regret.tolerance=nan", &["regret.tolerance", "between"]),
        ("regret.ball_factor=inf", &["regret.ball_factor"]),
        ("regret.ball_factor=-1.0", &["regret.ball_factor"]),
        ("regret.window=0", &["from 1"]),
        ("regret.neurons=\"some\"", &["some", "\"all\""]),
        ("regret.max_products=0", &["regret.max_products"]),
        ("optimizer=[]", &["optimizer", "[[optimizer]]"]),
        ("optimizer=[{ name = \"sgd\", learning_rate = -1.0 }]", &["sgd", "learning_rate", "-1"]),
        ("optimizer=[{ name = \"sgd\", learning_rate = nan }]", &["sgd", "learning_rate"]),
        ("optimizer=[{ name = \"adam\", learning_rate = 0.1, beta1 = 2.0 }]", &["adam", "beta1", "between"]),
        ("name=\"../elsewhere\"", &["name", "letters"]),
        ("name=\"\"", &["name"]),
        ("training.loss=\"cross_entropy\"", &["training.target", "mse"]),
        ("seed=-1", &["seed"]),
    ];
    for (setting, texts) in cases {
        run_with(setting).exits(2).says(texts);
    }
    let workplace = Workplace::new();
    workplace.run(&["run", "--optimizer", "sgd:fast"]).exits(2).says(&["sgd:fast", "not a number", "adam:0.001"]);
    workplace.run(&["run", "--optimizer", "sgd:-1"]).exits(2).says(&["sgd:-1", "no learning rate"]);
    workplace.run(&["run", "--optimizer", "sgd:inf"]).exits(2).says(&["sgd:inf", "no learning rate"]);
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let cases: &[(&str, &[&str])] = &[
        ("network.layers=[{ dense = 8 }, \"relu\", { dense = 63 }]", &["63 outputs", "64", "{ dense = 64 }"]),
        ("network.layers=[\"relu\", { dense = 64 }]", &["layer 0", "relu"]),
        ("network.layers=[{ dense = 64 }, \"relu\"]", &["relu", "linear"]),
        ("network.layers=[{ dense = 8 }, \"relu\", \"abs\", { dense = 64 }]", &["layer 2", "abs"]),
        ("network.layers=[]", &["dense"]),
        ("network.layers=[{ dense = 0 }]", &["dense = 0", "at least one"]),
        ("network.layers=[{ dense = 9000000000000000000 }, { dense = 64 }]", &["too many weights"]),
        ("network.layers=[{ dense = 8, relu = 1 }]", &["one key"]),
        (
            "network.layers=[{ conv = { maps = 4, kernel = 3 } }, \"relu\", { max_pool = 2 }, { dense = 64 }]",
            &["layer 3", "\"flatten\"", "input 1x8x8", "4x6x6", "4x3x3"],
        ),
        (
            "network.layers=[{ conv = { maps = 4, kernel = 3 } }, { max_pool = 4 }, \"flatten\", { dense = 64 }]",
            &["layer 1", "does not divide", "4x6x6"],
        ),
        ("network.layers=[{ conv = { maps = 4, kernel = 9 } }, \"flatten\", { dense = 64 }]", &["at most 8"]),
        ("network.layers=[{ conv = { maps = 4 } }, \"flatten\", { dense = 64 }]", &["no kernel"]),
        ("network.layers=[{ conv = { maps = 4, kernel = 3, stirde = 2 } }]", &["stirde", "did you mean \"stride\""]),
        ("network.layers=[{ max_pool = 2 }, \"flatten\", { dense = 64 }]", &["layer 0", "before the first"]),
        ("data.validation=1500", &["data.validation", "1500"]),
        ("regret.rounds=0", &["regret.rounds", "at least 1"]),
    ];
    for (setting, texts) in cases {
        run_with(setting).exits(2).says(texts);
    }
    let workplace = Workplace::new();
    let arguments = ["run", "classifier.toml", "--set", "network.layers=[{ dense = 9 }]", "--out", "run"];
    workplace.run(&arguments).exits(2).says(&["9 outputs", "10 classes", "{ dense = 10 }"]);
}

#[test]
fn experiment_files_that_cannot_be_read() {
    let workplace = Workplace::new();
    workplace.run(&["run", "absent.toml"]).exits(1).says(&["absent.toml"]);
    fs::write(workplace.path("broken.toml"), "name = \"x\"\n[data\n").unwrap();
    workplace.run(&["run", "broken.toml"]).exits(2).says(&["broken.toml", "line 2"]);
    fs::write(workplace.path("empty.toml"), "").unwrap();
    workplace.run(&["run", "empty.toml"]).exits(2).says(&["empty.toml", "missing name, data.dataset"]);
    fs::write(workplace.path("binary.toml"), [0xff, 0xfe, 0]).unwrap();
    workplace.run(&["run", "binary.toml"]).exits(1).says(&["binary.toml"]);
    fs::create_dir(workplace.path("folder.toml")).unwrap();
    workplace.run(&["run", "folder.toml"]).exits(1).says(&["folder.toml"]);
    let twice = crate::support::AUTOENCODER.replace("prefixes = 3", "prefixes = 3\nprefixes = 4");
    fs::write(workplace.path("twice.toml"), twice).unwrap();
    workplace.run(&["run", "twice.toml"]).exits(2).says(&["twice.toml", "prefixes"]);
}

// Training.

#[test]
fn a_rate_that_diverges_stops_its_optimizer_alone() {
    for experiment in ["autoencoder.toml", "classifier.toml"] {
        let workplace = Workplace::new();
        let optimizers = ["--optimizer", "sgd:1e18", "--optimizer", "adam:0.003", "--epochs", "2"];
        let ended = workplace.run(&[&["run", experiment, "--out", "run"][..], &optimizers].concat()).exits(1);
        ended.says(&["not finite", "learning rate", "smaller"]);
        let summary = workplace.json("run/summary.json");
        assert_eq!(summary["status"], "failed");
        let (sgd, adam) = (&summary["optimizers"][0], &summary["optimizers"][1]);
        assert_eq!((sgd["status"].as_str(), adam["status"].as_str()), (Some("failed"), Some("complete")));
        let rounds = table(&workplace.read("run/sgd/rounds.csv")).1;
        let (kept, message) = (rounds.len(), sgd["message"].as_str().unwrap());
        assert!((1..30).contains(&kept), "{kept} rounds");
        assert!(message.contains(&format!("round {}", kept + 1)), "{message}");
        assert!(rounds.iter().all(|row| row[2].parse::<f64>().unwrap().is_finite()));
        assert_eq!(table(&workplace.read("run/adam/rounds.csv")).1.len(), 30);
        for name in ["regret", "units", "novelty", "neurons"] {
            table(&workplace.read(&format!("run/sgd/{name}.csv")));
        }
        assert!(workplace.path("run/report.html").exists());
        workplace.run(&["report", "run"]).exits(0);
    }
}

#[test]
fn a_rate_of_a_million_diverges_or_dies_but_never_panics() {
    for rate in ["1e6", "1e30"] {
        let workplace = Workplace::new();
        let optimizer = format!("sgd:{rate}");
        let ended = workplace.run(&["run", "autoencoder.toml", "--out", "run", "--optimizer", &optimizer]);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        let status = workplace.json("run/summary.json")["status"].clone();
        assert_eq!(ended.code, Some(if status == "complete" { 0 } else { 1 }), "{status}: {}", ended.stderr);
        assert!(workplace.path("run/report.html").exists());
        // Training alone ends in the same way.
        let trained = workplace.run(&["run", "autoencoder.toml", "--train-only", "--optimizer", &optimizer]);
        assert_eq!(trained.ends_in_order().code, ended.code, "{status}");
    }
}

#[test]
fn a_divergence_without_observers_is_told_too() {
    let workplace = Workplace::new();
    let optimizers = ["--optimizer", "sgd:1e18", "--optimizer", "sgd:0.1"];
    let ended = workplace.run(&[&["run", "autoencoder.toml", "--train-only"][..], &optimizers].concat());
    assert!(ended.exits(1).says(&["not finite", "smaller learning rate"]).stdout.lines().count() == 2);
}

#[test]
fn a_kept_trace_of_a_diverged_run_can_be_analysed() {
    let workplace = Workplace::new();
    let optimizer = ["--optimizer", "sgd:1e12", "--set", "regret.scales=[\"neuron\"]"];
    workplace.run(&[&["run", "autoencoder.toml", "--out", "run", "--keep-trace"][..], &optimizer].concat()).exits(1);
    workplace.run(&["analyze", "run/sgd/trace", "--out", "again"]).exits(0);
    assert_eq!(workplace.read("run/sgd/rounds.csv"), workplace.read("again/sgd/rounds.csv"));
}

// Folders and files that cannot be written.

#[test]
fn a_file_in_place_of_the_run_directory() {
    let workplace = Workplace::new();
    fs::write(workplace.path("run"), "a letter").unwrap();
    workplace.run(&["run", "autoencoder.toml", "--out", "run"]).exits(1).says(&["run", "--out"]);
    workplace.run(&["run", "autoencoder.toml", "--out", "run/below"]).exits(1).says(&["run/below", "--out"]);
    assert_eq!(workplace.read("run"), "a letter");
}

#[test]
fn a_directory_that_holds_something_else_is_left_alone() {
    let workplace = Workplace::new();
    fs::create_dir_all(workplace.path("thesis")).unwrap();
    fs::write(workplace.path("thesis/chapter1.tex"), "").unwrap();
    for extra in [&[][..], &["--overwrite"], &["--resume"]] {
        let arguments = [&["run", "autoencoder.toml", "--out", "thesis"][..], extra].concat();
        workplace.run(&arguments).exits(2).says(&["thesis", "--out"]);
    }
    assert_eq!(fs::read_dir(workplace.path("thesis")).unwrap().count(), 1);
}

#[test]
fn another_run_is_replaced_only_when_asked() {
    let workplace = Workplace::new();
    let quick = ["--set", "regret.scales=[\"neuron\"]", "--optimizer", "sgd:1", "--out", "run"];
    let run = |extra: &[&str]| workplace.run(&[&["run", "autoencoder.toml"][..], &quick, extra].concat());
    run(&[]).exits(0);
    let before = workplace.read("run/sgd/rounds.csv");
    run(&["--seed", "9"]).exits(2).says(&["run", "already holds a run", "--overwrite", "--resume"]);
    assert_eq!(workplace.read("run/sgd/rounds.csv"), before);
    run(&["--seed", "9", "--overwrite"]).exits(0);
    assert_ne!(workplace.read("run/sgd/rounds.csv"), before);
    assert_eq!(workplace.json("run/summary.json")["seed"], 9);
}

/// A full disk, for one file: the temporary file beside it is a link to the device that is always full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_with_the_file_that_did_not_fit() {
    let quick = ["run", "autoencoder.toml", "--optimizer", "sgd:1", "--set", "regret.scales=[]", "--out", "run"];
    let cases = [
        ("experiment.toml", "--overwrite"),
        ("environment.json", "--overwrite"),
        ("summary.json", "--overwrite"),
        ("report.html", "--overwrite"),
        ("sgd/rounds.csv", "--resume"),
        ("sgd/neurons.csv", "--resume"),
        ("sgd/timing.json", "--resume"),
        ("sgd/trace/weights-00000.safetensors", "--resume"),
        ("sgd/trace/manifest.json", "--resume"),
    ];
    for (file, mode) in cases {
        let workplace = Workplace::new();
        workplace.run(&quick).exits(0);
        if mode == "--resume" {
            fs::remove_file(workplace.path("run/summary.json")).unwrap();
            fs::create_dir_all(workplace.path("run/sgd/trace")).unwrap();
        }
        let partial = workplace.path(&format!("run/{file}.partial"));
        std::os::unix::fs::symlink("/dev/full", &partial).unwrap();
        let ended = workplace.run(&[&quick[..], &[mode, "--keep-trace"]].concat()).exits(1);
        let folder = Path::new(file).parent().unwrap().to_str().unwrap();
        ended.says(&["cannot write", folder, "No space left", "free some space"]);
        assert!(!partial.exists(), "{file}: the temporary file is removed");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_printed_is_an_error_not_a_panic() {
    let workplace = Workplace::new();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = workplace.command(&["data", "list"]).stdout(full).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("No space left") && !stderr.contains("panicked"), "{stderr}");
}

// Files of datasets and weights.

#[test]
fn a_corrupt_gz_is_named() {
    let workplace = Workplace::new();
    let folder = workplace.path("mine");
    fs::create_dir_all(&folder).unwrap();
    let arguments = ["run", "autoencoder.toml", "--set", "data.dataset=mnist", "--data", "mine", "--out", "run"];
    workplace.run(&arguments).exits(1).says(&["mnist", "mine", "taylorscope data fetch mnist"]);
    for name in ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"] {
        fs::write(folder.join(format!("{name}.gz")), b"\x1f\x8b\x08\x00 this is no deflate stream").unwrap();
    }
    workplace.run(&arguments).exits(1).says(&["only some of the files", "t10k-labels"]);
    fs::write(folder.join("t10k-labels-idx1-ubyte.gz"), b"").unwrap();
    workplace.run(&arguments).exits(1).says(&["train-images-idx3-ubyte.gz", "corrupt", "data fetch mnist"]);
    let ended = workplace.run(&["data", "verify", "mnist", "--data", "mine"]).exits(1);
    assert!(ended.stdout.contains("differs"), "{}", ended.stdout);
    assert!(workplace.run(&["data", "list", "--data", "mine"]).exits(0).stdout.contains("unusable"));
    workplace.run(&["data", "list", "--data", "nowhere"]).exits(0);
    let elsewhere = ["run", "autoencoder.toml", "--set", "data.dataset=mnist", "--data", "nowhere", "--out", "run"];
    workplace.run(&elsewhere).exits(1).says(&["nowhere"]);
    assert!(!workplace.path("run").exists());
}

#[test]
fn weights_that_cannot_be_used() {
    let workplace = Workplace::new();
    workplace.run(&["run", "autoencoder.toml", "--optimizer", "sgd:1", "--keep-trace", "--out", "run"]).exits(0);
    let states = fs::read(workplace.path("run/sgd/trace/weights-00000.safetensors")).unwrap();
    let first = Tensors::parse(&states).map(|_, shape, data| {
        let one = data.len() / shape[0];
        (shape[1..].to_vec(), data[..one].to_vec())
    });
    let path = workplace.path("w.safetensors");
    let try_bytes = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let quick =
            ["--set", "regret.scales=[]", "--set", "network.weights=w.safetensors", "--overwrite", "--out", "own"];
        workplace.run(&[&["run", "autoencoder.toml"][..], &quick].concat())
    };
    let good = first.bytes();
    try_bytes(&good).exits(0);
    assert_eq!(
        workplace.read("own/sgd/rounds.csv"),
        workplace.read("run/sgd/rounds.csv"),
        "the first state of the trace is the initialization"
    );
    for broken in [&good[..good.len() - 5], &good[..20], &good[..4], &[], b"PK\x03\x04 a zip of PyTorch"] {
        try_bytes(broken).exits(1).says(&["w.safetensors", "not a safetensors file", "save"]);
    }
    let mut torn = good.clone();
    torn[3] = 0xff;
    try_bytes(&torn).exits(1).says(&["w.safetensors"]);
    let nan = first.clone().map_one("2.weight", |shape, mut data| {
        data[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
        (shape, data)
    });
    try_bytes(&nan.bytes()).exits(1).says(&["2.weight", "not finite", "position 2"]);
    try_bytes(&first.clone().without("0.bias").bytes()).exits(1).says(&["no tensor \"0.bias\"", "0.weight"]);
    let flat = first.clone().map_one("0.weight", |shape, data| (vec![shape.iter().product()], data));
    try_bytes(&flat.bytes()).exits(1).says(&["0.weight", "[512]", "[8, 64]"]);
    fs::remove_file(&path).unwrap();
    let absent = ["run", "autoencoder.toml", "--set", "network.weights=w.safetensors", "--out", "third"];
    workplace.run(&absent).exits(1).says(&["w.safetensors", "cannot read"]);
}

// Traces.

/// A good trace, and copies of it to be damaged one way each.
struct Traces {
    workplace: Workplace,
    good: PathBuf,
}

impl Traces {
    fn of(experiment: &str) -> Self {
        let workplace = Workplace::new();
        let quick = ["--optimizer", "sgd:0.5", "--keep-trace", "--out", "run", "--set", "regret.scales=[]"];
        workplace.run(&[&["run", experiment][..], &quick].concat()).exits(0);
        let good = workplace.path("run/sgd/trace");
        Self { workplace, good }
    }

    /// Analyses a copy of the trace after `damage`.
    fn damaged(&self, damage: impl FnOnce(&Path)) -> Ended {
        let folder = self.workplace.path("trace");
        let _ = fs::remove_dir_all(&folder);
        let _ = fs::remove_dir_all(self.workplace.path("analysis"));
        copy_folder(&self.good, &folder);
        damage(&folder);
        let quick = ["--set", "regret.scales=[]", "--set", "exploration.probe=50", "--overwrite"];
        self.workplace.run(&[&["analyze", "trace", "--out", "analysis"][..], &quick].concat())
    }

    /// Damage that must be refused with exit code 1 and these words, before anything is written.
    #[track_caller]
    fn refuses(&self, texts: &[&str], damage: impl FnOnce(&Path)) {
        self.damaged(damage).exits(1).says(texts);
        assert!(!self.workplace.path("analysis/summary.json").exists(), "nothing is concluded from a bad trace");
        assert!(!self.workplace.path("analysis/sgd").exists(), "the mended trace finds the folder free");
    }

    #[track_caller]
    fn refuses_manifest(&self, texts: &[&str], change: impl FnOnce(&mut Value)) {
        self.refuses(texts, |folder| {
            let path = folder.join("manifest.json");
            let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            change(&mut manifest);
            fs::write(&path, manifest.to_string()).unwrap();
        });
    }

    #[track_caller]
    fn refuses_weights(&self, texts: &[&str], change: impl FnOnce(Tensors) -> Tensors) {
        self.refuses(texts, |folder| {
            let path = folder.join("weights-00000.safetensors");
            let tensors = Tensors::parse(&fs::read(&path).unwrap());
            fs::write(&path, change(tensors).bytes()).unwrap();
        });
    }
}

#[test]
fn the_undamaged_trace_is_accepted() {
    for experiment in ["autoencoder.toml", "classifier.toml"] {
        Traces::of(experiment).damaged(|_| ()).exits(0);
    }
}

#[test]
fn traces_that_are_not_there() {
    let traces = Traces::of("autoencoder.toml");
    traces.refuses(&["manifest.json", "cannot read"], |folder| fs::remove_file(folder.join("manifest.json")).unwrap());
    traces.refuses(&["batches.npy", "cannot read"], |folder| fs::remove_file(folder.join("batches.npy")).unwrap());
    traces.refuses(&["weights-00000.safetensors", "has no"], |folder| {
        fs::remove_file(folder.join("weights-00000.safetensors")).unwrap();
    });
    traces.workplace.run(&["analyze", "nowhere"]).exits(1).says(&["nowhere", "no such folder"]);
    traces.workplace.run(&["analyze", "autoencoder.toml"]).exits(1).says(&["autoencoder.toml"]);
}

#[test]
fn manifests_that_say_something_else() {
    let traces = Traces::of("autoencoder.toml");
    traces.refuses_manifest(&["format 3", "newer"], |m| m["format"] = json!(3));
    traces.refuses_manifest(&["unknown key \"batch_size\""], |m| m["format"] = json!(2));
    traces.refuses_manifest(&["\"format\""], |m| drop(m.as_object_mut().unwrap().remove("format")));
    traces.refuses_manifest(&["\"format\""], |m| m["format"] = json!("1"));
    traces
        .refuses_manifest(&["manifest.json", "batch_size"], |m| drop(m.as_object_mut().unwrap().remove("batch_size")));
    traces.refuses_manifest(&["\"rounds\"", "at least 1"], |m| m["rounds"] = json!(0));
    traces.refuses_manifest(&["manifest.json"], |m| m["rounds"] = json!(-1));
    traces.refuses_manifest(&["weight states", "14"], |m| m["rounds"] = json!(13));
    traces.refuses_manifest(&["weight states", "40"], |m| m["rounds"] = json!(40));
    traces.refuses_manifest(&["batches.npy", "[15, 100]", "[15, 7]"], |m| m["batch_size"] = json!(7));
    traces.refuses_manifest(&["\"conv9\""], |m| m["layers"] = json!(["conv9"]));
    traces.refuses_manifest(&["manifest.json", "dense"], |m| m["layers"] = json!([]));
    traces.refuses_manifest(&["0.weight", "[16, 8, 64]"], |m| m["layers"][0] = json!({ "dense": 9 }));
    traces.refuses_manifest(&["0.weight"], |m| m["input"] = json!([8, 9]));
    traces.refuses_manifest(&["manifest.json", "input"], |m| m["input"] = json!([0]));
    traces.refuses_manifest(&["manifest.json"], |m| m["input"] = json!([4_000_000_000u64, 4_000_000_000u64]));
    traces.refuses_manifest(&["manifest.json", "hinge", "mse"], |m| m["loss"] = json!("hinge"));
    traces.refuses_manifest(&["cross_entropy", "label"], |m| m["loss"] = json!("cross_entropy"));
    traces.refuses_manifest(&["targets.npy"], |m| m["target"] = json!("label"));
    for text in ["", "{", "[]", "null", "\u{0}"] {
        traces.refuses(&["manifest.json"], |folder| fs::write(folder.join("manifest.json"), text).unwrap());
    }
}

#[test]
fn weights_that_do_not_fit_the_manifest() {
    let traces = Traces::of("autoencoder.toml");
    traces.refuses_weights(&["no tensor \"2.bias\"", "\"bias\": false"], |t| t.without("2.bias"));
    traces.refuses_weights(&["2.weight", "shape"], |t| t.map_one("2.weight", |s, d| (vec![s[0], s[2], s[1]], d)));
    // Which of the two is called the odd one is open.
    traces.refuses_weights(&["shape [1", "needs [1"], |t| {
        t.map_one("0.bias", |s, d| {
            let one = d.len() / s[0];
            (vec![s[0] - 1, s[1]], d[one..].to_vec())
        })
    });
    traces.refuses_weights(&["round 1 is not finite"], |t| {
        t.map_one("4.weight", |s, mut d| {
            d[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
            (s, d)
        })
    });
    traces.refuses_weights(&["weight states"], |t| {
        t.map(|_, s, d| {
            let half = d.len() / s[0] * (s[0] / 2);
            ([&[s[0] / 2][..], &s[1..]].concat(), d[..half].to_vec())
        })
    });
    traces.refuses_weights(&["I32", "float32"], |mut t| {
        t.0.get_mut("0.bias").unwrap().0 = Dtype::I32;
        t
    });
    traces.refuses_weights(&["weight"], |_| Tensors(BTreeMap::new()));
    traces.refuses_weights(&["weight"], |mut t| {
        t.0.insert("0.step".into(), (Dtype::F32, vec![], vec![0; 4]));
        t.without("0.bias")
    });
    traces.refuses(&["weights-00000.safetensors"], |folder| {
        let path = folder.join("weights-00000.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    });
    traces.refuses(&["weights-00000.safetensors"], |folder| {
        fs::write(folder.join("weights-00000.safetensors"), vec![0xff; 64]).unwrap();
    });
    // A shard that should not be there.
    traces.refuses(&["weight states"], |folder| {
        fs::copy(folder.join("weights-00000.safetensors"), folder.join("weights-00001.safetensors")).unwrap();
        let path = folder.join("manifest.json");
        let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        manifest["rounds"] = json!(20);
        fs::write(&path, manifest.to_string()).unwrap();
    });
}

#[test]
fn batches_that_do_not_fit_the_data() {
    use npyz::Order::{C, Fortran};
    let traces = Traces::of("autoencoder.toml");
    let batches: Vec<i64> = read_array(&traces.good.join("batches.npy"));
    let with = |at: usize, value: i64| {
        let mut rows = batches.clone();
        rows[at] = value;
        rows
    };
    let shape = [15, 100];
    let path = |folder: &Path| folder.join("batches.npy");
    traces.refuses(&["batches.npy", "round 1 ", "1500", "0 to 1499"], |f| {
        write_array(&path(f), &shape, C, with(3, 1500))
    });
    traces.refuses(&["batches.npy", "round 2 ", "-1 fills up 1 of 15"], |f| {
        write_array(&path(f), &shape, C, with(107, -1))
    });
    traces.refuses(&["batches.npy", "round 1 "], |f| write_array(&path(f), &shape, C, with(0, i64::MAX)));
    traces.refuses(&["batches.npy", "[1500]", "[15, 100]"], |f| write_array(&path(f), &[1500], C, batches.clone()));
    traces.refuses(&["batches.npy", "round 1 ", "0.5"], |f| {
        let mut rows: Vec<f64> = batches.iter().map(|v| *v as f64).collect();
        rows[2] = 0.5;
        write_array(&path(f), &shape, C, rows);
    });
    traces.refuses(&["batches.npy", "round 1 ", "NaN"], |f| {
        let mut rows: Vec<f32> = batches.iter().map(|v| *v as f32).collect();
        rows[2] = f32::NAN;
        write_array(&path(f), &shape, C, rows);
    });
    traces.refuses(&["batches.npy", "flatnonzero"], |f| {
        write_array(&path(f), &shape, C, batches.iter().map(|v| *v > 3).collect::<Vec<bool>>());
    });
    traces.refuses(&["batches.npy"], |f| {
        let bytes = fs::read(path(f)).unwrap();
        fs::write(path(f), &bytes[..bytes.len() - 9]).unwrap();
    });
    traces.refuses(&["batches.npy"], |f| fs::write(path(f), b"1,2,3\n").unwrap());
    traces.refuses(&["batches.npy"], |f| fs::write(path(f), b"").unwrap());
    // A header that promises more than any memory holds.
    traces.refuses(&["batches.npy"], |f| {
        let text = String::from_utf8_lossy(&fs::read(path(f)).unwrap()[..128]).into_owned();
        let header = "{'descr': '<i8', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807), }";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((118u16).to_le_bytes());
        bytes.extend(format!("{header:<117}\n").as_bytes());
        assert!(text.contains("NUMPY"));
        fs::write(path(f), bytes).unwrap();
    });
    // Other integer types are fine, and so is the other order in memory.
    let columns: Vec<i64> = (0..1500).map(|i| batches[i % 15 * 100 + i / 15]).collect();
    traces.damaged(|f| write_array(&path(f), &shape, Fortran, columns)).exits(0).says(&["agree with losses.npy"]);
    let narrow: Vec<u16> = batches.iter().map(|v| *v as u16).collect();
    traces.damaged(|f| write_array(&path(f), &shape, C, narrow)).exits(0);
}

#[test]
fn inputs_and_losses_that_cannot_be_believed() {
    use npyz::Order::C;
    let traces = Traces::of("autoencoder.toml");
    let inputs: Vec<f32> = read_array(&traces.good.join("inputs.npy"));
    let path = |folder: &Path| folder.join("inputs.npy");
    for (value, text) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let mut bad = inputs.clone();
        bad[64 * 5 + 9] = value;
        traces.refuses(&["inputs.npy", "row 5, place 9", text], |f| write_array(&path(f), &[1500, 64], C, bad));
    }
    traces.refuses(&["inputs.npy", "[3000, 32]"], |f| write_array(&path(f), &[3000, 32], C, inputs.clone()));
    traces.refuses(&["inputs.npy", "[0, 64]"], |f| write_array(&path(f), &[0, 64], C, Vec::<f32>::new()));
    traces.refuses(&["batches.npy", "0 to 9"], |f| write_array(&path(f), &[10, 64], C, inputs[..640].to_vec()));
    // Other inputs than those that were trained on give other losses.
    let shuffled: Vec<f32> = inputs.iter().rev().copied().collect();
    traces.refuses(&["round 1 ", "losses.npy", "batches.npy"], |f| write_array(&path(f), &[1500, 64], C, shuffled));

    let losses: Vec<f64> = read_array(&traces.good.join("losses.npy"));
    let path = |folder: &Path| folder.join("losses.npy");
    for value in [losses[4] * 1.1, f64::NAN, -1.0] {
        let mut bad = losses.clone();
        bad[4] = value;
        traces.refuses(&["losses.npy", "round 5 "], |f| write_array(&path(f), &[15], C, bad));
    }
    traces.refuses(&["losses.npy", "[14]", "15 rounds"], |f| write_array(&path(f), &[14], C, losses[1..].to_vec()));
    // Without them there is nothing to compare with.
    traces.damaged(|f| fs::remove_file(path(f)).unwrap()).exits(0).says(&["compared with nothing"]);
    // Weights saved after the update instead of before it.
    traces.refuses(&["round 1 ", "save W^n before"], |folder| {
        let path = folder.join("weights-00000.safetensors");
        let late = Tensors::parse(&fs::read(&path).unwrap()).map(|_, s, d| {
            let one = d.len() / s[0];
            ([&[s[0] - 1][..], &s[1..]].concat(), d[one..].to_vec())
        });
        fs::write(&path, late.bytes()).unwrap();
    });
}

#[test]
fn data_that_the_trace_only_names() {
    let traces = Traces::of("autoencoder.toml");
    let named = |folder: &Path, data: Value| {
        fs::remove_file(folder.join("inputs.npy")).unwrap();
        let path = folder.join("manifest.json");
        let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        manifest["data"] = data;
        fs::write(&path, manifest.to_string()).unwrap();
    };
    traces.refuses(&["no inputs.npy", "dataset"], |f| named(f, json!({})));
    traces.refuses(&["digist", "did you mean"], |f| named(f, json!({ "dataset": "digist" })));
    traces.refuses(&["mnist", "data fetch mnist"], |f| named(f, json!({ "dataset": "mnist" })));
}

#[test]
fn labels_that_no_output_has() {
    use npyz::Order::C;
    let traces = Traces::of("classifier.toml");
    let labels: Vec<i64> = read_array(&traces.good.join("targets.npy"));
    let path = |folder: &Path| folder.join("targets.npy");
    for value in [10, -1] {
        let mut bad = labels.clone();
        bad[6] = value;
        traces.refuses(&["targets.npy", "entry 6", &value.to_string()], |f| write_array(&path(f), &[1500], C, bad));
    }
    traces.refuses(&["targets.npy", "[750, 2]", "[1500]"], |f| write_array(&path(f), &[750, 2], C, labels.clone()));
    traces.damaged(|f| write_array(&path(f), &[1500, 1], C, labels.clone())).exits(0);
    traces.refuses(&["targets.npy"], |f| fs::remove_file(path(f)).unwrap());
    traces.refuses_manifest(&["mse", "input"], |m| {
        m["loss"] = json!("mse");
        m["target"] = json!("input");
    });
}

#[test]
fn an_optimizer_name_in_a_trace_cannot_leave_the_folder() {
    let traces = Traces::of("autoencoder.toml");
    for name in ["../../up", "..", "a/b", "", "\u{1f600}"] {
        traces
            .damaged(|folder| {
                let path = folder.join("manifest.json");
                let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
                manifest["optimizer"]["name"] = json!(name);
                fs::write(&path, manifest.to_string()).unwrap();
            })
            .exits(0);
        let label = traces.workplace.json("analysis/summary.json")["optimizers"][0]["label"].clone();
        let label = label.as_str().unwrap();
        assert!(!label.is_empty() && !label.contains('/') && label != "..", "{name:?} became {label:?}");
        assert!(traces.workplace.path(&format!("analysis/{label}/rounds.csv")).exists());
        fs::remove_dir_all(traces.workplace.path("analysis")).unwrap();
    }
}

// Reports.

#[test]
fn runs_that_cannot_be_reported() {
    let workplace = Workplace::new();
    let quick = ["--set", "regret.scales=[]", "--optimizer", "sgd:1", "--out", "run"];
    workplace.run(&[&["run", "autoencoder.toml"][..], &quick].concat()).exits(0);
    let summary = workplace.read("run/summary.json");
    fs::write(workplace.path("run/summary.json"), &summary[..summary.len() / 2]).unwrap();
    workplace.run(&["report", "run"]).exits(1).says(&["summary.json"]);
    fs::write(workplace.path("run/summary.json"), &summary).unwrap();
    fs::write(workplace.path("run/sgd/rounds.csv"), "round,epoch,loss\n1,1,low\n").unwrap();
    workplace.run(&["report", "run"]).exits(1).says(&["rounds.csv"]);
    fs::remove_file(workplace.path("run/sgd/rounds.csv")).unwrap();
    workplace.run(&["report", "run"]).exits(0);
    fs::remove_dir_all(workplace.path("run/figures")).unwrap();
    fs::write(workplace.path("run/figures"), "").unwrap();
    workplace.run(&["report", "run"]).exits(1).says(&["figures", "--out"]);
}
