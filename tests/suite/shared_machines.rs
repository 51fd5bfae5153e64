//! Machines that others use as well: jobs that start together, little memory, signals of schedulers, folders without locks or space.

use crate::support::{Workplace, table};
use std::{
    collections::BTreeSet,
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PLAIN: [&str; 4] = ["--set", "regret.scales=[]", "--set", "exploration.probe=20"];

/// Starts commands at once; all must be done well.
#[track_caller]
fn together(workplace: &Workplace, commands: &[Vec<&str>]) {
    let start = |arguments: &Vec<&str>| {
        let mut command = workplace.command(arguments);
        command.arg("--quiet").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let started: Vec<Child> = commands.iter().map(start).collect();
    for (child, arguments) in started.into_iter().zip(commands) {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The folders in `runs` whose names begin so.
fn folders(workplace: &Workplace, name: &str) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(workplace.path("runs")) else { return BTreeSet::new() };
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|found| found.starts_with(name))
        .collect()
}

fn numbered(name: &str, count: usize) -> BTreeSet<String> {
    (1..=count).map(|i| if i == 1 { name.to_owned() } else { format!("{name}-{i}") }).collect()
}

#[test]
fn jobs_that_start_together_have_folders_of_their_own() {
    let workplace = Workplace::new();
    let run = [&["run", "autoencoder.toml", "--threads", "1", "--keep-trace"][..], &PLAIN].concat();
    together(&workplace, &vec![run; 4]);
    assert_eq!(folders(&workplace, "small-autoencoder"), numbered("small-autoencoder", 4));
    for folder in folders(&workplace, "small-autoencoder") {
        assert_eq!(workplace.json(&format!("runs/{folder}/summary.json"))["status"], "complete");
    }

    let neurons = ["0.0", "0.1", "0.2"];
    let landscape = |neuron| vec!["landscape", "autoencoder.toml", "--threads", "1", "--along", "neuron", neuron];
    together(&workplace, &neurons.map(landscape));
    assert_eq!(folders(&workplace, "landscape"), numbered("landscape", 3));
    for folder in folders(&workplace, "landscape") {
        let kinks = table(&workplace.read(&format!("runs/{folder}/kinks.csv"))).1.len() as u64;
        assert_eq!(workplace.json(&format!("runs/{folder}/landscape.json"))["kinks"], kinks, "{folder}");
    }

    let analyze = [&["analyze", "runs/small-autoencoder/sgd/trace", "--threads", "1"][..], &PLAIN].concat();
    together(&workplace, &vec![analyze; 3]);
    assert_eq!(folders(&workplace, "sgd"), numbered("sgd", 3));

    let report = vec!["report", "runs/small-autoencoder", "runs/small-autoencoder-2"];
    together(&workplace, &vec![report; 2]);
    assert_eq!(folders(&workplace, "comparison"), numbered("comparison", 2));
    // A search that another process is at is not waited for, and no reason to fail.
    let tune = vec!["tune", "classifier.toml", "--seeds", "1", "--refine", "0", "--threads", "1"];
    together(&workplace, &vec![tune; 2]);
    let searches = folders(&workplace, "tune");
    assert!(searches.is_subset(&numbered("tune-small-classifier", 2)), "{searches:?}");
    for folder in &searches {
        assert_eq!(
            workplace.read(&format!("runs/{folder}/tune.csv")),
            workplace.read("runs/tune-small-classifier/tune.csv")
        );
    }
}

#[test]
fn what_is_refused_leaves_no_folder() {
    let workplace = Workplace::new();
    let wide = "network.layers=[{dense=3},\"relu\",{dense=5}]";
    let refused: [&[&str]; 11] = [
        &["run", "autoencoder.toml", "--memory", "1K"],
        &["run", "autoencoder.toml", "--memory", "1K", "--out", "runs/mine"],
        &["run", "autoencoder.toml", "--set", "network.weights=\"none.safetensors\""],
        &["run", "autoencoder.toml", "--set", wide],
        &["run", "mnist-autoencoder"],
        &["tune", "autoencoder.toml", "--set", "network.weights=\"none.safetensors\""],
        &["explore", "autoencoder.toml", "--set", wide],
        &["reproduce", "fig3"],
        &["landscape", "autoencoder.toml", "--along", "neuron", "0.99"],
        &["analyze", "."],
        &["report", "runs/none", "runs/nothing"],
    ];
    for arguments in refused {
        let ended = workplace.run(arguments);
        assert!(matches!(ended.code, Some(1 | 2)), "{arguments:?}: {ended:?}");
        assert_eq!(folders(&workplace, ""), BTreeSet::new(), "{arguments:?}: {}", ended.stderr);
    }
}

#[test]
fn a_full_disk_is_told_before_a_folder_is_made() {
    let workplace = Workplace::new();
    // More weights of rounds than any disk holds.
    let wide = "network.layers=[{dense=20000},\"relu\",{dense=64}]";
    let long = ["run", "autoencoder.toml", "--keep-trace", "--epochs", "1000000", "--set", wide];
    workplace.run(&[&long[..], &PLAIN].concat()).exits(1).says(&["needs", "left", "--keep-trace"]);
    assert_eq!(folders(&workplace, ""), BTreeSet::new());
}

/// A convolutional network wide enough that a landscape through it takes minutes.
const WIDE: &str = r#"
name = "wide"
data = { dataset = "digits" }
network = { layers = [
    { conv = { maps = 64, kernel = 5, padding = 2 } }, "relu", { max_pool = 2 },
    { conv = { maps = 64, kernel = 3, padding = 1 } }, "relu", "flatten", { dense = 10 },
] }
training = { loss = "cross_entropy", target = "label", batch_size = 100, epochs = 1 }
optimizer = [{ name = "sgd", learning_rate = 0.1 }]
"#;

#[cfg(unix)]
#[test]
fn commands_end_soon_after_a_signal() {
    let workplace = Workplace::new();
    fs::write(workplace.path("wide.toml"), WIDE).unwrap();
    let landscape = ["landscape", "wide.toml", "--datapoints", "0..1500", "--along"];
    let [layer, plane] = [&["layer", "0"][..], &["layer", "3"]].map(|along| [&landscape[..], along].concat());
    let long = ["run", "autoencoder.toml", "--epochs", "1000000", "--out", "run", "--set", "regret.scales=[]"];
    let tune = ["tune", "autoencoder.toml", "--epochs", "100000", "--out", "tune"];
    let updates = ["landscape", "wide.toml", "--along", "neuron", "0.1", "--updates", "1000000"];
    for (signal, arguments) in [
        ("INT", &layer[..]),
        ("TERM", &plane),
        ("INT", &["landscape", "wide.toml", "--plane", "0,1,2", "--memory", "8G"]),
        ("TERM", &updates),
        ("TERM", &long),
        ("INT", &tune),
    ] {
        let mut command = workplace.command(arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(700));
        let start = Instant::now();
        let sent = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        let (time, text) = (start.elapsed(), String::from_utf8_lossy(&output.stderr).into_owned());
        assert!(sent.success() && text.contains("stop"), "{arguments:?} ended before: {text}");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        // Two seconds are promised; other tests may run at the same time.
        assert!(time < Duration::from_secs(6), "{arguments:?} took {time:?} to end");
    }
    assert_eq!(folders(&workplace, "landscape"), BTreeSet::new(), "nothing is written of a landscape that was stopped");
}

#[test]
fn landscapes_keep_to_their_memory() {
    let workplace = Workplace::new();
    fs::write(workplace.path("wide.toml"), WIDE).unwrap();
    let layer = ["landscape", "wide.toml", "--along", "layer", "0"];
    let texts = ["--memory", "--through", "--datapoints"];
    workplace.run(&[&layer[..], &["--memory", "100K"]].concat()).exits(2).says(&texts);
    let plane = ["landscape", "wide.toml", "--plane", "0,1,2", "--memory", "100K"];
    workplace.run(&plane).exits(2).says(&["--memory", "--u", "--v"]);
    assert_eq!(folders(&workplace, ""), BTreeSet::new());
    // What fits is the same in batches of any size.
    let short = ["--through", "-0.3..0.3", "--datapoints", "0..3"];
    workplace.run(&[&layer[..], &short, &["--memory", "8M", "--out", "small"]].concat()).exits(0);
    workplace.run(&[&layer[..], &short, &["--memory", "8G", "--out", "large"]].concat()).exits(0);
    assert!(table(&workplace.read("small/kinks.csv")).1.len() > 100);
    for name in ["kinks.csv", "pieces.csv"] {
        assert!(workplace.read(&format!("small/{name}")) == workplace.read(&format!("large/{name}")), "{name}");
    }
}

/// What `--memory` does not count: buffers of the program's own.
const OWN: u64 = 32 << 20;

/// How far resident memory differs between runs of the same command: pages of the program's file that the system happens to map with
/// those that are asked for, and what the allocator holds for threads. Up to 7 MB were seen.
const NOISE: u64 = 12 << 20;

#[cfg(target_os = "linux")]
#[test]
fn an_analysis_keeps_to_its_memory() {
    let workplace = Workplace::new();
    let run = |out: &str, more: &[&str]| {
        let arguments = ["run", "digits-autoencoder", "--optimizer", "sgd", "--threads", "2", "--out", out];
        let few = ["--set", "regret.max_products=20", "--set", "regret.prefixes=6"];
        workplace.run(&[&arguments[..], &few, more].concat()).exits(0);
        workplace.json(&format!("{out}/sgd/timing.json"))["peak_memory_bytes"].as_u64().unwrap()
    };
    let base = run("base", &["--set", "regret.scales=[]", "--set", "exploration.probe=0", "--memory", "20M"]);
    for (out, memory) in [("20M", 20u64 << 20), ("100M", 100 << 20)] {
        let peak = run(out, &["--memory", out]);
        assert!(
            peak <= base + OWN + NOISE + memory * 11 / 10,
            "{peak} bytes at --memory {out}; without an analysis {base}"
        );
    }
}

#[cfg(unix)]
#[test]
fn an_address_space_with_a_limit_is_known() {
    let workplace = Workplace::new();
    // The default memory is half of what is allowed, and the refusal names it.
    let refused = "run autoencoder.toml --set regret.window=900000 --epochs 60000 --set exploration.probe=0";
    let script = format!("ulimit -v 3000000 && exec {} {refused}", env!("CARGO_BIN_EXE_taylorscope"));
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(workplace.path("."))
        .env_remove("RAYON_NUM_THREADS")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("1.4 GB of --memory"), "{text}");
    assert_eq!(folders(&workplace, ""), BTreeSet::new());
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn a_file_system_without_locks_is_a_warning() {
    let workplace = Workplace::new();
    let library = crate::support::faults_library(&workplace);
    let run = [&["run", "autoencoder.toml"][..], &PLAIN].concat();
    let tune = ["tune", "classifier.toml", "--seeds", "1", "--refine", "0", "--set", "training.epochs=1"];
    for arguments in [&run[..], &["landscape", "autoencoder.toml", "--along", "neuron", "0.1"], &tune] {
        let mut command = workplace.command(arguments);
        let output = command.env("LD_PRELOAD", &library).env("FAULT", "nolocks:0").output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {text}");
        assert!(text.contains("cannot be locked") && text.contains("no other process"), "{arguments:?}: {text}");
    }
}
