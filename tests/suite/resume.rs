//! Interrupting, resuming, budgets and versions, apart from crashes (`crash`).

use crate::support::{Workplace, results, table};
use std::{fs, path::Path};
use taylorscope::{
    checkpoint::{self, Identity, Persist, Store, StoreError},
    data::{self, Minibatches},
    loss::Loss,
    network::{LayerSpec, Network, Rectifier, he_uniform},
    num::Real,
    optim::{Optimizer, OptimizerConfig, Schedule, registry},
    train::{Examples, Step, Trainer, Training},
};

struct Learner<T> {
    weights: Vec<T>,
    optimizer: Box<dyn Optimizer<T>>,
}

impl<T: Real> Persist for Learner<T> {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.values("weights", &mut self.weights)?;
        store.part("optimizer", |store| self.optimizer.persist(store))
    }
}

/// Trains 24 rounds in one go, and 9, 1 and 14 with a file between them.
fn resumes<T: Real>(config: &OptimizerConfig) {
    let digits = data::load("digits", None).unwrap().train;
    let first = LayerSpec::dense(3).without_bias();
    let layers = [first, LayerSpec::Rectifier(Rectifier::Relu), LayerSpec::dense(digits.features())];
    let network = Network::new(digits.features(), &layers).unwrap();
    let inputs: Vec<T> = digits.inputs[..80 * digits.features()].iter().map(|x| T::from_f64(f64::from(*x))).collect();
    let minibatches = Minibatches::new(80, 10, 3).unwrap();
    let examples = Examples::autoencoder(&inputs, digits.features());
    let task = Training { network: &network, loss: Loss::Mse, examples, minibatches: &minibatches, epochs: 3 };
    let learner =
        || Learner::<T> { weights: he_uniform(&network, 0), optimizer: config.build_for(&network, 24).unwrap() };
    let go_on = |learner: &mut Learner<T>, from: usize, to: usize| {
        let mut trainer = Trainer::new(&task, from);
        while trainer.done() < to {
            let step = trainer.round(&mut *learner.optimizer, &mut learner.weights, &mut []);
            assert!(matches!(step, Step::Done { number, .. } if number == trainer.done()), "{step:?}");
        }
    };
    let mut whole = learner();
    go_on(&mut whole, 0, 24);
    let (folder, identity) = (tempfile::tempdir().unwrap(), Identity::new());
    let path = folder.path().join("state");
    for (from, to) in [(0, 9), (9, 10), (10, 24)] {
        let mut part = learner();
        assert_eq!(checkpoint::load(&path, &identity, &mut part).unwrap(), from > 0);
        go_on(&mut part, from, to);
        checkpoint::save(&path, &identity, &mut part).unwrap();
        if to == 24 {
            assert_ne!(part.weights, he_uniform::<T>(&network, 0));
            assert!(part.weights == whole.weights, "{}", config.name);
        }
    }
}

#[test]
fn every_optimizer_resumes_to_the_same_weights() {
    for entry in registry() {
        let mut config = OptimizerConfig::named(entry.name, Some(1e-3)).unwrap();
        // With everything that can be remembered.
        for (key, value) in [("momentum", 0.5), ("centered", 1.0), ("refresh", 4.0)] {
            if entry.settings.iter().any(|setting| setting.name == key) {
                config.settings.insert(key.into(), value);
            }
        }
        (config.schedule, config.warmup) = (Schedule::Cosine, 3);
        resumes::<f32>(&config);
        resumes::<f64>(&config);
    }
}

#[test]
fn files_of_newer_formats_are_refused() {
    let workplace = Workplace::new();
    let newer = format!("format = 2\n{}", crate::support::AUTOENCODER);
    fs::write(workplace.path("newer.toml"), newer).unwrap();
    workplace.run(&["run", "newer.toml"]).exits(2).says(&["newer.toml", "format", "newer taylorscope"]);
    let quick = ["run", "autoencoder.toml", "--set", "regret.scales=[]", "--keep-trace", "--out", "run"];
    workplace.run(&quick).exits(0);
    let raise = |name: &str, to: &str| {
        let path = workplace.path(name);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("\"format\": 1", to, 1)).unwrap();
    };
    raise("run/sgd/trace/manifest.json", "\"format\": 3");
    workplace.run(&["analyze", "run/sgd/trace"]).exits(1).says(&["manifest.json", "format 3", "newer"]);
    raise("run/summary.json", "\"format\": 2");
    for arguments in [&["report", "run"][..], &[&quick[..], &["--resume"]].concat()] {
        workplace.run(arguments).exits(1).says(&["summary.json", "format 2", "newer taylorscope"]);
    }
    // Older ones, from before there was a format, are read: the run's own experiment without it.
    fs::remove_dir_all(workplace.path("run")).unwrap();
    workplace.run(&quick).exits(0);
    let text = workplace.read("run/experiment.toml");
    fs::write(workplace.path("run/experiment.toml"), text.replace("format = 1\n", "")).unwrap();
    workplace.run(&[&quick[..], &["--resume"]].concat()).exits(0).says(&["sgd: complete, kept"]);
}

#[test]
fn budgets_are_kept() {
    let workplace = Workplace::new();
    let run = |out: &'static str, extra: &[&str]| {
        let arguments = [&["run", "autoencoder.toml", "--optimizer", "sgd:1", "--out", out], extra].concat();
        workplace.run(&arguments)
    };
    run("whole", &["--set", "regret.tolerance=1e-4", "--set", "regret.max_products=200"]).exits(0);
    // 15 states of 1,026 weights and the sums fit in 200 KB, their linearization in f64 and f32 does not.
    let small = ["--memory", "200K", "--set", "regret.tolerance=1e-4", "--set", "regret.max_products=200"];
    run("small", &small).exits(0).says(&["does not fit in --memory"]);
    let rows = |out: &str| table(&workplace.read(&format!("{out}/sgd/regret.csv"))).1;
    let (whole, small) = (rows("whole"), rows("small"));
    assert_eq!(whole.len(), small.len());
    for (a, b) in whole.iter().zip(&small) {
        assert_eq!(a[..5], b[..5]);
        let number = |row: &[String], at: usize| row[at].parse::<f64>().unwrap();
        // Both optima are within their gaps above the same minimum.
        let apart = number(a, 6) - number(b, 6);
        let (above, below) = (number(a, 8), number(b, 8));
        let rounding = 1e-9 * number(a, 5);
        assert!(apart <= above + rounding && -apart <= below + rounding, "{a:?} {b:?}");
        assert!(a[0] != "neuron" || a == b, "the closed form streams in either case");
    }
    run("less", &["--memory", "20K"]).exits(2).says(&["--memory", "regret.rounds", "20.0 KB"]);
    assert!(!workplace.path("less").exists(), "nothing is begun");
    // A trace of so many rounds fits on no disk.
    if cfg!(unix) {
        let sets = ["data.validation=1400", "regret.scales=[]", "network.layers=[{dense=20000},\"relu\",{dense=64}]"];
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let vast = [&["--keep-trace", "--epochs", "1000000"][..], &sets].concat();
        run("vast", &vast).exits(1).says(&["TB on the disk", "free", "--keep-trace"]);
    }
    assert!(run("bad", &["--checkpoint-every", "often"]).exits(2).stderr.contains("5m"));
}

#[cfg(unix)]
pub mod interrupted {
    use super::*;
    use std::{
        io::{BufRead, BufReader, Read},
        process::{Child, Command, Stdio},
        time::{Duration, Instant},
    };

    /// Starts the program and waits until standard error has `text`.
    pub fn start(
        workplace: &Workplace,
        arguments: &[&str],
        text: &str,
    ) -> (Child, BufReader<std::process::ChildStderr>) {
        let mut child = workplace.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "ended early");
        }
        (child, stderr)
    }

    pub fn signal(child: &Child, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap().success());
    }

    #[test]
    fn training_that_was_stopped_goes_on_to_the_same_bytes() {
        let workplace = Workplace::new();
        fn arguments(out: &str) -> Vec<&str> {
            let run = ["run", "classifier.toml", "--epochs", "300", "--keep-trace", "--resume", "--out", out];
            [&run[..], &["--set", "regret.window=20", "--set", "exploration.every=500"]].concat()
        }
        workplace.run(&arguments("undisturbed")).exits(0);
        for name in ["INT", "TERM"] {
            // A fast machine may be done before the signal comes; then it comes earlier.
            let struck = [80, 40, 20, 10, 5, 2].into_iter().find_map(|delay| {
                let out = format!("{name}-{delay}");
                let (mut child, mut stderr) = start(&workplace, &arguments(&out), "rounds");
                std::thread::sleep(Duration::from_millis(delay));
                signal(&child, name);
                let mut rest = String::new();
                stderr.read_to_string(&mut rest).unwrap();
                assert!(!rest.contains("panicked"), "{rest}");
                (child.wait().unwrap().code() == Some(1)).then_some((out, rest))
            });
            let (out, rest) = struck.expect("some signal comes in time");
            assert_eq!(workplace.json(&format!("{out}/summary.json"))["status"], "interrupted");
            assert!(rest.contains("--resume"), "{rest}");
            assert!(Path::new(&workplace.path(&format!("{out}/sgd/checkpoint.safetensors"))).exists());
            workplace.run(&arguments(&out)).exits(0).says(&["resuming after round"]);
            assert!(results(&workplace, &out) == results(&workplace, "undisturbed"));
            workplace.run(&arguments(&out)).exits(0).says(&["sgd: complete, kept"]);
        }
    }

    #[test]
    fn a_search_for_optima_can_be_interrupted() {
        let workplace = Workplace::new();
        let arguments = |out: &'static str| {
            let run = ["run", "autoencoder.toml", "--optimizer", "adam", "--resume", "--out", out];
            // Far more work than anybody would wait for at the scale of the network.
            let sets = [
                "regret.tolerance=1e-12",
                "regret.max_products=100000",
                "network.layers=[{dense=40},\"relu\",{dense=64}]",
            ];
            [&run[..], &sets.iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>()].concat()
        };
        let (mut child, mut stderr) = start(&workplace, &arguments("run"), "network scale (");
        let start = Instant::now();
        signal(&child, "INT");
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{rest}");
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        let summary = workplace.json("run/summary.json");
        assert_eq!(summary["optimizers"][0]["status"], "interrupted");
        assert!(summary["optimizers"][0]["message"].as_str().unwrap().contains("analysis"), "{summary}");
        let scales: Vec<String> =
            table(&workplace.read("run/adam/regret.csv")).1.into_iter().map(|row| row[0].clone()).collect();
        assert!(scales.contains(&"layer".to_owned()) && !scales.contains(&"network".to_owned()));
        assert!(workplace.path("run/adam/optima.safetensors").exists(), "layers need not be searched again");
    }
}
