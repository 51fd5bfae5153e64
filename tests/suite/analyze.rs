//! `taylorscope analyze`: several traces in one run, replacing, continuing, and what is told of optimizers and rounds.

use crate::support::{Workplace, copy_folder, files, results, table};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// Two scales and few prefixes.
const QUICK: [&str; 4] = ["--set", "regret.scales=[\"neuron\", \"layer\"]", "--set", "regret.prefixes=3"];

/// A workplace with the traces of three optimizers, in folders that lie in no run: 15 rounds each, or more.
fn with_traces(more: &[&str]) -> Workplace {
    let workplace = Workplace::new();
    let optimizers = ["--optimizer", "sgd:1", "--optimizer", "adam", "--optimizer", "rmsprop"];
    let plain = ["--set", "regret.scales=[]", "--set", "exploration.probe=0", "--keep-trace", "--out", "run"];
    workplace.run(&[&["run", "autoencoder.toml"][..], &optimizers, &plain, more].concat()).exits(0);
    for name in ["sgd", "adam", "rmsprop"] {
        copy_folder(&workplace.path(&format!("run/{name}/trace")), &workplace.path(&format!("traces/{name}")));
    }
    workplace
}

/// The arguments of an analysis of these traces of [`with_traces`].
fn analyze<'a>(traces: &[&'a str], out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["analyze", "--out", out][..], traces, &QUICK, more].concat()
}

fn change_manifest(trace: &Path, change: impl FnOnce(&mut Value)) {
    let path = trace.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(&path, manifest.to_string()).unwrap();
}

/// Changes the last byte of a file, which for an array is the sign and exponent of its last number.
fn change_last_number(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_bad_trace_leaves_the_folder_as_it_was() {
    let workplace = with_traces(&[]);
    workplace.run(&analyze(&["traces/sgd", "traces/adam"], "R", &[])).exits(0);
    let before = files(&workplace.path("R"));
    assert!(before.contains_key("report.html") && before.contains_key("adam/regret.csv"));
    let copy = |name: &str| {
        let folder = workplace.path(name);
        copy_folder(&workplace.path("traces/rmsprop"), &folder);
        folder
    };
    // Bad at the last of its rounds only, bad from the start, and good but of another network.
    change_last_number(&copy("late").join("losses.npy"));
    fs::remove_file(copy("early").join("batches.npy")).unwrap();
    workplace.run(&["run", "classifier.toml", "--set", "regret.scales=[]", "--keep-trace", "--out", "c"]).exits(0);
    let cases: [(&[&str], i32, &[&str]); 6] = [
        (&["late"], 1, &["late", "round 15 ", "1 of 15 rounds differ"]),
        (&["traces/sgd", "late"], 1, &["late", "round 15"]),
        (&["early"], 1, &["batches.npy"]),
        (&["traces/sgd", "early"], 1, &["batches.npy"]),
        (&["traces/sgd", "c/sgd/trace"], 2, &["network", "dense 64 -> 8", "dense 8 -> 10", "compare the runs"]),
        (&["traces/sgd", "traces/adam", "run/../traces/sgd"], 2, &["named twice"]),
    ];
    for (traces, code, texts) in cases {
        for mode in ["--overwrite", "--resume"] {
            workplace.run(&analyze(traces, "R", &[mode])).exits(code).says(texts);
            assert!(files(&workplace.path("R")) == before, "{traces:?} {mode}");
        }
        workplace.run(&analyze(traces, "new", &[])).exits(code);
        assert!(!workplace.path("new").exists(), "nothing is begun");
    }
    // Neither without being asked to, nor by other settings under --resume.
    workplace.run(&analyze(&["traces/rmsprop"], "R", &[])).exits(2).says(&["--resume", "--overwrite"]);
    let other = ["--resume", "--set", "regret.prefixes=4"];
    let both = ["traces/sgd", "traces/adam"];
    workplace.run(&analyze(&both, "R", &other)).exits(2).says(&["regret.prefixes = 3, not 4"]);
    workplace.run(&analyze(&both[..1], "R", &["--resume"])).exits(2).says(&["trace = ", "traces/adam"]);
    assert!(files(&workplace.path("R")) == before);
    // The mended trace takes the place of all of it.
    workplace.run(&analyze(&["traces/rmsprop"], "R", &["--overwrite"])).exits(0);
    workplace.run(&analyze(&["traces/rmsprop"], "fresh", &[])).exits(0);
    assert!(results(&workplace, "R") == results(&workplace, "fresh"));
    assert!(!workplace.path("R/sgd").exists() && !workplace.path("R/replacing.toml").exists());
}

#[test]
fn folders_of_others_are_left_alone() {
    let workplace = with_traces(&[]);
    let before = files(&workplace.path("run"));
    for mode in [&[][..], &["--overwrite"], &["--resume"]] {
        workplace.run(&analyze(&["run/sgd/trace"], "run", mode)).exits(2).says(&["trained here"]);
        workplace.run(&analyze(&["traces/sgd"], "traces", mode)).exits(2).says(&["which no analysis wrote"]);
    }
    assert!(files(&workplace.path("run")) == before, "the trace is still there");
    workplace.run(&analyze(&["traces/sgd"], "R", &[])).exits(0);
    fs::write(workplace.path("R/sgd/notes.txt"), "mine").unwrap();
    workplace.run(&analyze(&["traces/sgd"], "R", &["--overwrite"])).exits(2).says(&["notes.txt"]);
    fs::remove_file(workplace.path("R/sgd/notes.txt")).unwrap();
    // What is left of an analysis is no hindrance.
    fs::remove_file(workplace.path("R/summary.json")).unwrap();
    fs::remove_file(workplace.path("R/experiment.toml")).unwrap();
    workplace.run(&analyze(&["traces/sgd"], "R", &["--resume"])).exits(2).says(&["--overwrite"]);
    workplace.run(&analyze(&["traces/sgd"], "R", &["--overwrite"])).exits(0);
}

#[test]
fn several_traces_make_one_run_with_all_tables() {
    let workplace = with_traces(&[]);
    let names = ["sgd", "adam", "rmsprop"];
    let traces = ["traces/sgd", "traces/adam", "traces/rmsprop"];
    let ended = workplace.run(&analyze(&traces, "all", &[])).exits(0).says(&["adam: all 15 rounds are analysed"]);
    let summary = workplace.json("all/summary.json");
    assert_eq!((&summary["status"], &summary["name"]), (&json!("complete"), &json!("analysis")));
    assert_eq!((&summary["seed"], &summary["searched_rates"]), (&json!(null), &json!(false)));
    let labels: Vec<&str> =
        summary["optimizers"].as_array().unwrap().iter().map(|o| o["label"].as_str().unwrap()).collect();
    assert_eq!(labels, names);
    let page = workplace.read("all/report.html");
    for (name, shown) in names.iter().zip(["SGD", "Adam", "RMSProp"]) {
        assert!(page.contains(shown) && ended.stdout.contains(name), "{shown}");
        // Each as by itself.
        workplace.run(&analyze(&[&format!("traces/{name}")], name, &[])).exits(0);
        for file in ["rounds.csv", "regret.csv", "units.csv", "novelty.csv", "neurons.csv", "probe.npy"] {
            let read = |out: &str| fs::read(workplace.path(&format!("{out}/{name}/{file}"))).unwrap();
            assert!(read("all") == read(name), "{name}/{file}");
        }
        assert_eq!(table(&workplace.read(&format!("all/{name}/rounds.csv"))).1.len(), 15);
    }
    for figure in ["training", "decomposition", "regret-layers", "exploration"] {
        assert!(workplace.path(&format!("all/figures/{figure}.svg")).exists(), "{figure}");
    }
    assert!(workplace.run(&["report", "all"]).exits(0).stdout.contains("report.html"));
    // Traces are refused as a network's landscape, which the message says.
    workplace.run(&["landscape", "all", "--along", "input"]).exits(2).says(&["analysis of a trace"]);
}

#[test]
fn folders_are_named_after_optimizers_and_traces() {
    let workplace = with_traces(&[]);
    let quick = ["--set", "regret.scales=[]", "--set", "exploration.probe=0"];
    let labels = |out: &str| -> Vec<String> {
        let summary = workplace.json(&format!("{out}/summary.json"));
        summary["optimizers"].as_array().unwrap().iter().map(|o| o["label"].as_str().unwrap().to_owned()).collect()
    };
    // A run of one trace is named after it, and the next one finds another name.
    for expected in ["runs/adam", "runs/adam-2"] {
        workplace.run(&[&["analyze", "traces/adam"][..], &quick].concat()).exits(0);
        assert_eq!(labels(expected), ["adam"]);
        assert_eq!(workplace.json(&format!("{expected}/summary.json"))["name"], "adam");
    }
    for (name, change) in [("one", json!("sgd")), ("two words", json!("SGD")), ("three", json!("../../up"))] {
        let trace = workplace.path(name);
        copy_folder(&workplace.path("traces/sgd"), &trace);
        change_manifest(&trace, |manifest| manifest["optimizer"]["name"] = change);
    }
    workplace.run(&[&["analyze", "one", "two words", "three", "traces/adam"][..], &quick].concat()).exits(0);
    assert_eq!(labels("runs/analysis"), ["one", "two-words", "up", "adam"]);
    // In a run, the folder of the optimizer has the name; that of the run tells equal ones apart.
    workplace
        .run(&[
            "run",
            "autoencoder.toml",
            "--optimizer",
            "sgd:1",
            "--keep-trace",
            "--out",
            "b",
            "--set",
            "regret.scales=[]",
        ])
        .exits(0);
    fs::rename(workplace.path("run/adam"), workplace.path("run/adam-0.1")).unwrap();
    let settings = ["--experiment", "autoencoder.toml"];
    let traces = ["run/sgd/trace", "b/sgd/trace", "run/adam-0.1/trace"];
    workplace.run(&[&["analyze"][..], &traces].concat()).exits(2).says(&["different settings", "--experiment"]);
    workplace.run(&[&["analyze"][..], &traces, &settings, &quick, &["--out", "in-runs"]].concat()).exits(0);
    assert_eq!(labels("in-runs"), ["sgd-run", "sgd-b", "adam-0.1"]);
}

#[test]
fn all_that_a_manifest_tells_of_its_optimizer_is_shown_and_nothing_else() {
    let workplace = with_traces(&[]);
    let trace = workplace.path("traces/sgd");
    let bounds = |out: &str| -> Vec<bool> {
        let (header, rows) = table(&workplace.read(&format!("{out}/sgd/regret.csv")));
        let at = header.iter().position(|name| name == "bound_sgd").unwrap();
        rows.iter().map(|row| !row[at].is_empty()).collect()
    };
    workplace.run(&analyze(&["traces/sgd"], "plain", &[])).exits(0);
    assert!(bounds("plain").iter().all(|bound| *bound), "the keys of our own traces are off");
    let settings = json!({ "momentum": 0.9, "nesterov": true, "betas": [0.9, 0.999], "schedule": { "step": 10 } });
    change_manifest(&trace, |manifest| {
        manifest["optimizer"] = json!({ "name": "SGD", "learning_rate": 0.05 });
        manifest["optimizer"].as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    });
    let keys = "sgd: betas [0.9, 0.999], momentum 0.9, nesterov true, schedule {step 10}";
    workplace.run(&analyze(&["traces/sgd"], "keys", &[])).exits(0).says(&[keys, "learning rate 0.05"]);
    let optimizer = workplace.json("keys/summary.json")["optimizers"][0].clone();
    assert_eq!((&optimizer["name"], &optimizer["learning_rate"]), (&json!("sgd"), &json!(0.05)));
    assert_eq!(optimizer["settings"], settings);
    assert!(bounds("keys").iter().all(|bound| !bound), "momentum does not satisfy the bound");
    // A rate that is not told is not invented.
    change_manifest(&trace, |manifest| manifest["optimizer"] = json!({ "name": "sgd" }));
    let ended = workplace.run(&analyze(&["traces/sgd"], "silent", &[])).exits(0).says(&["sgd: 15 rounds"]);
    assert!(ended.stdout.lines().any(|line| line.starts_with("sgd ") && line.contains('–')), "{}", ended.stdout);
    assert_eq!(workplace.json("silent/summary.json")["optimizers"][0]["learning_rate"], json!(null));
    assert!(bounds("silent").iter().all(|bound| !bound));
    change_manifest(&trace, |manifest| drop(manifest.as_object_mut().unwrap().remove("optimizer")));
    workplace.run(&analyze(&["traces/sgd"], "nothing", &[])).exits(0);
    assert_eq!(workplace.json("nothing/summary.json")["optimizers"][0]["name"], "trace");
}

#[test]
fn the_whole_trace_is_analysed_where_it_fits() {
    let workplace = with_traces(&["--epochs", "3"]);
    let scale = "regret.scales=[\"layer\"]";
    let run = |out: &'static str, more: &[&'static str]| {
        let arguments = ["analyze", "traces/adam", "--out", out, "--set", scale, "--set", "regret.prefixes=3"];
        workplace.run(&[&arguments[..], more].concat())
    };
    let rounds = |out: &str| {
        let optimizer = workplace.json(&format!("{out}/summary.json"))["optimizers"][0].clone();
        (optimizer["window_rounds"].as_u64().unwrap(), optimizer["sampled_rounds"].as_u64())
    };
    run("all", &[]).exits(0).says(&["adam: all 45 rounds are analysed"]);
    assert_eq!(rounds("all"), (45, None));
    let last: Vec<String> =
        table(&workplace.read("all/adam/units.csv")).1.into_iter().map(|row| row[0].clone()).collect();
    assert!(!last.is_empty() && last.iter().all(|scale| scale == "layer"));
    run("epoch", &["--set", "regret.window=\"epoch\""])
        .exits(0)
        .says(&["rounds 1 to 15 of 45 are analysed at layer and network scale (regret.window)"]);
    assert_eq!(rounds("epoch"), (15, None));
    run("ten", &["--set", "regret.window=10"]).exits(0).says(&["rounds 1 to 10 of 45"]);
    assert_eq!(rounds("ten"), (10, None));
    // 1,022 weights of four bytes in each round: 45 take 180 KB, and 25 are the most in 100 KB.
    let ended = run("less", &["--memory", "100K"]).exits(0).says(&["all 45 rounds take", "100 KB of --memory"]);
    let (window, sampled) = rounds("less");
    let sampled = sampled.unwrap();
    assert_eq!(sampled, 100 * 1024 / (1022 * 4));
    assert!((44..=45).contains(&window), "{window}");
    assert!(ended.stderr.contains(&format!("regret.rounds={sampled}")), "{}", ended.stderr);
    assert!(
        ended
            .stderr
            .contains(&format!("adam: {sampled} evenly spaced rounds of the first {window} of 45 are analysed")),
        "{}",
        ended.stderr
    );
    assert!(workplace.read("less/experiment.toml").contains(&format!("rounds = {sampled}")));
    // Who asks for a window gets it or hears why not.
    run("no", &["--memory", "100K", "--set", "regret.window=all"]).exits(2).says(&["regret.rounds", "100 KB"]);
    run("none", &["--memory", "1K"]).exits(2).says(&["--memory"]);
    assert!(!workplace.path("no").exists() && !workplace.path("none").exists());
    // Without an experiment, keys are checked all the same.
    run("typo", &["--set", "regret.prefxies=3"]).exits(2).says(&["did you mean \"prefixes\""]);
    run("other", &["--set", "training.epochs=3"]).exits(2).says(&["training", "analysis"]);
}

#[test]
fn a_replacement_that_was_cut_short_is_finished() {
    let workplace = with_traces(&[]);
    workplace.run(&analyze(&["traces/sgd", "traces/adam"], "R", &[])).exits(0);
    workplace.run(&analyze(&["traces/rmsprop"], "fresh", &[])).exits(0);
    // As it is when the process ends after the decision, and when some of the old files are gone already.
    for gone in [&[][..], &["summary.json"], &["summary.json", "experiment.toml", "sgd/regret.csv", "report.html"]] {
        let folder = workplace.path("cut");
        let _ = fs::remove_dir_all(&folder);
        copy_folder_deep(&workplace.path("R"), &folder);
        fs::copy(workplace.path("fresh/experiment.toml"), folder.join("replacing.toml")).unwrap();
        gone.iter().for_each(|name| fs::remove_file(folder.join(name)).unwrap());
        let old = ["traces/sgd", "traces/adam"];
        workplace.run(&analyze(&old, "cut", &["--resume"])).exits(2).says(&["trace = traces/rmsprop"]);
        workplace.run(&analyze(&["traces/rmsprop"], "cut", &["--resume"])).exits(0);
        assert!(results(&workplace, "cut") == results(&workplace, "fresh"), "{gone:?}");
    }
}

fn copy_folder_deep(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn what_is_no_trace_is_named_for_what_it_is() {
    let workplace = with_traces(&[]);
    workplace.run(&analyze(&["nowhere"], "out", &[])).exits(1).says(&["nowhere", "no such folder"]);
    workplace.run(&["run", "autoencoder.toml", "--keep-trace", "--out", "kept"]).exits(0);
    workplace.run(&analyze(&["kept/sgd"], "out", &[])).exits(1).says(&["analyse kept/sgd/trace"]);
    workplace.run(&analyze(&["kept"], "out", &[])).exits(1).says(&["it is a run", "--keep-trace"]);
    assert!(!workplace.path("out").exists(), "nothing was begun");
}

#[cfg(unix)]
mod interrupted {
    use super::*;
    use crate::resume::interrupted::{signal, start};
    use std::io::Read;

    /// Analyses two traces, far more exactly than the other tests.
    fn arguments(out: &str) -> Vec<&str> {
        let sets = [
            "regret.scales=[\"layer\", \"network\"]",
            "regret.comparators=[\"ball\"]",
            "regret.prefixes=4",
            "regret.tolerance=1e-9",
            "regret.max_products=4000",
        ];
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        ["analyze", "traces/sgd", "traces/adam", "--resume", "--out", out].into_iter().chain(sets).collect()
    }

    #[test]
    fn an_analysis_that_was_stopped_goes_on_to_the_same_bytes() {
        let workplace = with_traces(&[]);
        workplace.run(&arguments("undisturbed")).exits(0);
        let mut stopped = 0;
        // In the replay of the first trace, in the searches of the first, and in those of the second.
        for (at, text) in ["sgd (1 of 2): learning rate", "sgd (1 of 2): network scale", "adam (2 of 2): network scale"]
            .into_iter()
            .enumerate()
        {
            let (mut child, mut stderr) = start(&workplace, &arguments("R"), text);
            signal(&child, if at == 1 { "TERM" } else { "INT" });
            let mut rest = String::new();
            stderr.read_to_string(&mut rest).unwrap();
            assert!(!rest.contains("panicked"), "{rest}");
            // A signal may come too late.
            if child.wait().unwrap().code() == Some(0) {
                break;
            }
            let summary = workplace.json("R/summary.json");
            assert_eq!(summary["status"], "interrupted");
            let last = summary["optimizers"].as_array().unwrap().last().unwrap().clone();
            if last["status"] == "interrupted" {
                stopped += 1;
                assert!(rest.contains("continue with --resume"), "{rest}");
                let kept = ["checkpoint.safetensors", "optima.safetensors"];
                let label = last["label"].as_str().unwrap();
                assert!(kept.iter().any(|name| workplace.path(&format!("R/{label}/{name}")).exists()));
            }
        }
        assert!(stopped > 0, "no signal came in time");
        let ended = workplace.run(&arguments("R")).exits(0).says(&["sgd: complete, kept"]);
        assert!(ended.stdout.contains("report.html"));
        assert!(results(&workplace, "R") == results(&workplace, "undisturbed"));
        assert!(!workplace.path("R/adam/optima.safetensors").exists(), "what is complete needs no state");
        // Other contents under the same name are another trace.
        change_manifest(&workplace.path("traces/adam"), |manifest| manifest["optimizer"]["learning_rate"] = json!(9));
        workplace.run(&arguments("R")).exits(2).says(&["trace = traces/adam with SHA-256"]);
    }

    #[test]
    fn an_analysis_in_rounds_goes_on_from_its_checkpoint() {
        let workplace = with_traces(&["--epochs", "40"]);
        // 600 rounds, with the closed form at neuron scale on the way.
        let arguments = |out: &'static str| {
            let sets = ["--set", "regret.scales=[\"neuron\"]", "--set", "regret.prefixes=40", "--resume", "--out", out];
            [&["analyze", "traces/adam", "--checkpoint-every", "20"][..], &sets].concat()
        };
        workplace.run(&arguments("undisturbed")).exits(0);
        // A fast machine may be done before the signal comes, a slow one may have kept nothing yet.
        let struck = [60, 30, 15, 120, 240, 480].into_iter().any(|delay| {
            let _ = fs::remove_dir_all(workplace.path("R"));
            let (mut child, mut stderr) = start(&workplace, &arguments("R"), "adam: learning rate");
            std::thread::sleep(std::time::Duration::from_millis(delay));
            signal(&child, "KILL");
            let mut rest = String::new();
            stderr.read_to_string(&mut rest).unwrap();
            child.wait().unwrap();
            let is_running = workplace.json("R/summary.json")["status"] == "running";
            is_running && workplace.path("R/adam/checkpoint.safetensors").exists()
        });
        assert!(struck, "some kill comes between a checkpoint and the end");
        workplace.run(&arguments("R")).exits(0).says(&["resum"]);
        assert!(results(&workplace, "R") == results(&workplace, "undisturbed"));
    }
}
