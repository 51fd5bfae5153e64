//! The command line as users meet it: files, headers, exit codes, resuming, interruption.

use crate::support::{Workplace, files, table};
use std::{collections::BTreeSet, fs, path::Path, process::Stdio};

const TABLES: [(&str, &str); 6] = [
    ("rounds.csv", "round,epoch,loss"),
    ("epochs.csv", "epoch,learning_rate,train_loss,test_loss,train_accuracy,test_accuracy"),
    (
        "regret.csv",
        "scale,layer,neuron,comparator,rounds,mean_loss,taylor_optimum,mean_regret,gap,attained,distance,\
         bound_zinkevich,bound_sgd,bound_adagrad,radius",
    ),
    (
        "units.csv",
        "scale,layer,neuron,comparator,dimension,mean_loss,taylor_optimum,mean_regret,gap,attained,iterations,\
         distance,displacement,gradient_bound,slope,slope_points,radius",
    ),
    ("novelty.csv", "round,min_hamming,previous_hamming,bits"),
    ("neurons.csv", "layer,neuron,switches,rank,log_volume,log_det,active_fraction,dead"),
];

#[test]
fn a_run_writes_every_file_with_its_columns() {
    let workplace = Workplace::new();
    let ended = workplace.run(&["run", "autoencoder.toml", "--out", "run"]).exits(0);
    assert!(ended.stdout.contains("report.html"), "{}", ended.stdout);
    assert!(ended.stdout.contains("sgd") && ended.stdout.contains("adam"), "{}", ended.stdout);
    for optimizer in ["sgd", "adam"] {
        for (name, header) in TABLES {
            let text = workplace.read(&format!("run/{optimizer}/{name}"));
            assert_eq!(text.lines().next(), Some(header), "{optimizer}/{name}");
        }
        let rows = |name: &str| table(&workplace.read(&format!("run/{optimizer}/{name}"))).1;
        assert_eq!(rows("rounds.csv").len(), 15);
        assert_eq!(rows("epochs.csv").len(), 1);
        // 78 neurons and 3 layers with two comparators, the network with the ball; prefixes 1, 4, 15 or so.
        let units = rows("units.csv").len();
        assert_eq!(units, (8 + 6 + 64 + 3) * 2 + 1);
        assert_eq!(rows("regret.csv").len() % units, 0);
        // After 0, 5, 10 and 15 updates; hidden neurons only.
        assert_eq!(rows("novelty.csv").iter().map(|r| r[0].as_str()).collect::<Vec<_>>(), ["0", "5", "10", "15"]);
        assert_eq!(rows("neurons.csv").len(), 8 + 6);
        assert_eq!(rows("neurons.csv")[8][0], "2", "the second dense layer has index 2 in the layer list");
        let bounded = rows("regret.csv").iter().filter(|row| !row[12].is_empty()).count();
        assert_eq!(bounded > 0, optimizer == "sgd", "only plain SGD has the SGD bound");
        let timing = workplace.json(&format!("run/{optimizer}/timing.json"));
        assert!(timing["phases"]["training"].is_number(), "{timing}");
        let probe = fs::read(workplace.path(&format!("run/{optimizer}/probe.npy"))).unwrap();
        assert_eq!(npyz::NpyFile::new(&probe[..]).unwrap().into_vec::<i64>().unwrap().len(), 200);
    }
    let summary = workplace.json("run/summary.json");
    assert_eq!(summary["status"], "complete");
    assert_eq!(summary["headline"], "ball");
    assert_eq!(summary["optimizers"][1]["label"], "adam");
    assert_eq!(summary["optimizers"][0]["rounds"], 15);
    assert!(workplace.json("run/environment.json")["version"].is_string());
    assert!(workplace.read("run/experiment.toml").contains("ball_factor"), "defaults are written out");
    assert!(workplace.read("run/report.html").contains("small-autoencoder"));
    let figures = files(&workplace.path("run/figures"));
    assert!(figures.keys().any(|name| name.ends_with(".svg")) && figures.keys().any(|name| name.ends_with(".png")));
    let left: Vec<_> = files(&workplace.path("run")).into_keys().filter(|name| name.ends_with(".partial")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_written_experiment_runs_again_to_the_same_tables() {
    let workplace = Workplace::new();
    let settings = ["--seed", "3", "--set", "regret.prefixes=2"];
    workplace.run(&[&["run", "autoencoder.toml", "--out", "first"][..], &settings].concat()).exits(0);
    workplace.run(&["run", "first/experiment.toml", "--out", "second"]).exits(0);
    assert_eq!(workplace.read("first/adam/units.csv"), workplace.read("second/adam/units.csv"));
}

#[test]
fn standardized_inputs_are_recorded_and_their_trace_is_analysed_alike() {
    let workplace = Workplace::new();
    let run = ["run", "autoencoder.toml", "--set", "data.standardize=true", "--optimizer", "sgd:0.1", "--keep-trace"];
    workplace.run(&[&run[..], &["--out", "run"]].concat()).exits(0);
    let found = workplace.json("run/environment.json")["standardization"].clone();
    // The digits' training images, summed by scikit-learn: 468,645 sixteenths on 1,500 images of 64 pixels.
    let mean = found["mean"][0].as_f64().unwrap();
    assert!((mean - 468_645.0 / 16.0 / 96_000.0).abs() < 1e-12, "{mean}");
    assert_eq!(workplace.json("run/sgd/trace/manifest.json")["data"]["standardize"], true);
    // Without the inputs beside it, the trace takes those of the dataset it names, and standardizes them.
    fs::remove_file(workplace.path("run/sgd/trace/inputs.npy")).unwrap();
    workplace.run(&["analyze", "run/sgd/trace", "--out", "again"]).exits(0);
    assert_eq!(workplace.read("run/sgd/regret.csv"), workplace.read("again/sgd/regret.csv"));
}

#[test]
fn a_folder_of_images_is_a_dataset() {
    let workplace = Workplace::new();
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/images");
    for (class, file) in [("noise", "rgb.png"), ("palette", "palette.png")] {
        for part in ["train", "test"] {
            let folder = workplace.path(&format!("pictures/{part}/{class}"));
            fs::create_dir_all(&folder).unwrap();
            fs::copy(images.join(file), folder.join(file)).unwrap();
        }
    }
    let settings = ["--set", "data.dataset=images:pictures", "--set", "training.batch_size=2", "--set"];
    let layers = "network.layers=[{dense=3},\"relu\",{dense=2}]";
    let run = [&["run", "classifier.toml", "--out", "run"][..], &settings, &[layers]].concat();
    workplace.run(&run).exits(0);
    assert_eq!(workplace.json("run/summary.json")["dataset"], "images:pictures");
    fs::copy(images.join("rgb.jpg"), workplace.path("pictures/test/noise/rgb.jpg")).unwrap();
    workplace.run(&[&run[..], &["--overwrite"]].concat()).exits(2).says(&["rgb.jpg has 19x18 pixels", "5x4"]);
}

#[test]
fn sgd_keeps_its_bound_and_mean_losses_are_those_of_the_rounds() {
    let workplace = Workplace::new();
    workplace.run(&["run", "autoencoder.toml", "--optimizer", "sgd:0.5", "--out", "run"]).exits(0);
    let losses = table(&workplace.read("run/sgd/rounds.csv")).1;
    let losses: Vec<f64> = losses.iter().map(|row| row[2].parse().unwrap()).collect();
    for row in table(&workplace.read("run/sgd/regret.csv")).1 {
        let number = |at: usize| row[at].parse::<f64>().unwrap();
        let (loss, regret, bound) = (number(5), number(7), number(12));
        assert!(regret <= bound + 1e-6 * loss, "{row:?}");
        let rounds: usize = row[4].parse().unwrap();
        let mean = losses[..rounds].iter().sum::<f64>() / rounds as f64;
        assert!((loss - mean).abs() <= 1e-6 * mean, "{row:?}: the mean of rounds.csv is {mean}");
    }
}

/// After one round nothing has moved, and the optimum must be sought all the same.
#[test]
fn the_initial_weights_are_not_the_optimum_of_the_first_round() {
    let workplace = Workplace::new();
    for experiment in ["autoencoder", "classifier"] {
        let file = format!("{experiment}.toml");
        workplace.run(&["run", &file, "--optimizer", "sgd:0.5", "--out", experiment]).exits(0);
        let rows = table(&workplace.read(&format!("{experiment}/sgd/regret.csv"))).1;
        let first = rows.iter().filter(|row| row[4] == "1" && row[3] == "unconstrained" && row[0] != "neuron");
        let number = |row: &[String], at: usize| row[at].parse::<f64>().unwrap();
        // A search that could not leave them must claim no more than that losses are not negative.
        let stuck: Vec<_> = first.filter(|row| number(row, 10) == 0.0 && number(row, 8) < number(row, 6)).collect();
        assert!(stuck.is_empty(), "{experiment}: {stuck:?}");
    }
}

#[test]
fn train_only_prints_a_line_per_optimizer_and_writes_nothing() {
    let workplace = Workplace::new();
    let ended = workplace.run(&["run", "autoencoder.toml", "--train-only", "--out", "run"]).exits(0);
    let lines: Vec<Vec<&str>> = ended.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.iter().map(|line| line[0]).collect::<Vec<_>>(), ["sgd", "adam"]);
    for line in lines {
        // name, `0.213 s/epoch`, losses
        assert!(line[1].parse::<f64>().is_ok_and(|seconds| seconds >= 0.0), "{line:?}");
        assert_eq!(line[2], "s/epoch");
        assert!(line[3..].iter().filter(|word| word.parse::<f64>().is_ok()).count() >= 1, "{line:?}");
    }
    assert!(!workplace.path("run").exists() && !workplace.path("runs").exists());
}

#[test]
fn folders_are_named_after_the_experiment_and_never_shared() {
    let workplace = Workplace::new();
    let quick = ["run", "autoencoder.toml", "--optimizer", "sgd:1", "--set", "regret.scales=[]"];
    workplace.run(&quick).exits(0);
    workplace.run(&quick).exits(0);
    assert!(workplace.path("runs/small-autoencoder/summary.json").exists());
    assert!(workplace.path("runs/small-autoencoder-2/summary.json").exists());
}

#[test]
fn an_optimizer_named_twice_gets_two_folders() {
    let workplace = Workplace::new();
    let optimizers = ["--optimizer", "sgd:0.5", "--optimizer", "sgd:0.1", "--optimizer", "momentum"];
    let arguments =
        [&["run", "autoencoder.toml", "--out", "run", "--set", "regret.scales=[\"neuron\"]"][..], &optimizers];
    workplace.run(&arguments.concat()).exits(0);
    for label in ["sgd-0.5", "sgd-0.1", "momentum"] {
        assert!(workplace.path(&format!("run/{label}/regret.csv")).exists(), "{label}");
    }
    assert!(!workplace.path("run/adam").exists());
}

#[test]
fn every_optimizer_runs_by_its_name_alone() {
    let workplace = Workplace::new();
    let names = ["sgd", "momentum", "nesterov", "rmsprop", "adam", "ogd"];
    let mut arguments = vec!["run", "autoencoder.toml", "--out", "run", "--set", "regret.scales=[\"neuron\"]"];
    names.iter().for_each(|name| arguments.extend(["--optimizer", name]));
    workplace.run(&arguments).exits(0);
    let summary = workplace.json("run/summary.json");
    let labels: Vec<_> =
        summary["optimizers"].as_array().unwrap().iter().map(|o| o["label"].as_str().unwrap()).collect();
    assert_eq!(labels, names);
}

#[test]
fn parts_of_the_analysis_can_be_left_out() {
    let workplace = Workplace::new();
    let arguments =
        ["run", "autoencoder.toml", "--out", "run", "--set", "exploration.probe=0", "--set", "regret.scales=[]"];
    workplace.run(&arguments).exits(0);
    for (name, header) in &TABLES[2..] {
        assert_eq!(workplace.read(&format!("run/sgd/{name}")).trim(), *header, "only the header of {name}");
    }
    assert!(workplace.path("run/report.html").exists());
}

/// Cells of equal tables: the same text, or numbers that agree to `1e-6`.
fn assert_tables_agree(workplace: &Workplace, run: &str, analysis: &str, name: &str) {
    let (columns, expected) = table(&workplace.read(&format!("{run}/{name}")));
    let (_, found) = table(&workplace.read(&format!("{analysis}/{name}")));
    assert_eq!(expected.len(), found.len(), "{name}");
    assert!(!expected.is_empty(), "{name}");
    for (expected, found) in expected.iter().zip(&found) {
        for ((a, b), column) in expected.iter().zip(found).zip(&columns) {
            let close = match (a.parse::<f64>(), b.parse::<f64>()) {
                (Ok(a), Ok(b)) if a.is_finite() => (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1e-6),
                _ => a == b,
            };
            assert!(close, "{name}, {column}: {expected:?} {found:?}");
        }
    }
}

#[test]
fn a_convolutional_network_is_measured_at_all_scales() {
    let workplace = Workplace::new();
    workplace.run(&["run", "convnet.toml", "--out", "run"]).exits(0);
    let rows = |name: &str| table(&workplace.read(&format!("run/sgd/{name}"))).1;
    // Of 1400 rows, 15 minibatches an epoch.
    assert_eq!(rows("rounds.csv").len(), 30);
    assert_eq!(rows("validation.csv").len(), 2);
    let units = rows("units.csv");
    // Two neurons in each of three layers, the layers, the network; the ball alone.
    assert_eq!(units.len(), 6 + 3 + 1);
    let layers: Vec<&str> = units.iter().map(|row| row[1].as_str()).collect();
    assert!(["0", "3", "7"].iter().all(|layer| layers.contains(layer)), "{layers:?}");
    // Every third round is analysed, the last of them being round 28.
    let last = rows("regret.csv").iter().map(|row| row[4].parse::<usize>().unwrap()).max();
    assert_eq!(last, Some(28));
    // 200 images; 4 filters at 64 positions and 3 at 4.
    assert_eq!(rows("novelty.csv")[0][3], (200 * (4 * 64 + 3 * 4)).to_string());
    let summary = workplace.json("run/summary.json");
    assert_eq!(summary["optimizers"][0]["sampled_rounds"], 10);
    assert_eq!(summary["optimizers"][0]["window_rounds"], 28);
    assert_eq!(summary["layers"][0], "conv 4, kernel 3, padding 1: 1x8x8 -> 4x8x8");
    assert!(workplace.read("run/report.html").contains("max_pool"));
    // Little memory means more work, not other results at layer and network scale.
    let winners = ["--set", "exploration.pool_winners=true"];
    workplace.run(&[&["run", "convnet.toml", "--memory", "20K", "--out", "small"][..], &winners].concat()).exits(0);
    let coarse = |run: &str| -> Vec<String> {
        let text = workplace.read(&format!("{run}/sgd/regret.csv"));
        text.lines().filter(|line| !line.starts_with("neuron")).map(str::to_owned).collect()
    };
    assert_eq!(coarse("small"), coarse("run"));
    // The winners of the max-pool of 4 channels, 16 windows of 4 places each, stand apart from the neurons.
    assert_eq!(workplace.read("small/sgd/novelty.csv"), workplace.read("run/sgd/novelty.csv"));
    assert!(!workplace.path("run/sgd/pool_novelty.csv").exists());
    let pools = |name: &str| table(&workplace.read(&format!("small/sgd/pool_{name}"))).1;
    assert_eq!(pools("novelty.csv")[1][3], (200 * 4 * 16 * 4).to_string());
    let of_layer_2 = |row: &Vec<String>| row[0] == "2" && row[6] == "0.25" && row[7] == "false";
    assert!(pools("neurons.csv").len() == 4 && pools("neurons.csv").iter().all(of_layer_2));
    workplace.run(&["run", "convnet.toml", "--memory", "much"]).exits(2).says(&["8G"]);
}

#[test]
fn training_stops_at_the_accuracy_asked_for() {
    let workplace = Workplace::new();
    let settings = ["training.stop_at_train_accuracy=0.3", "training.epochs=50", "regret.scales=[]"];
    let set: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let optimizer = ["run", "classifier.toml", "--optimizer", "adam:0.01", "--out", "run"];
    workplace.run(&[&optimizer[..], &set].concat()).exits(0);
    let epochs = table(&workplace.read("run/adam/epochs.csv")).1;
    let accuracies: Vec<f64> = epochs.iter().map(|row| row[4].parse().unwrap()).collect();
    let (last, earlier) = accuracies.split_last().unwrap();
    assert!(*last >= 0.3 && earlier.iter().all(|a| *a < 0.3) && epochs.len() < 50, "{accuracies:?}");
    let summary = workplace.json("run/summary.json");
    assert_eq!(summary["status"], "complete");
    assert!(summary["optimizers"][0]["message"].as_str().unwrap().contains("0.3"), "{summary}");
}

#[test]
fn analyzing_a_kept_trace_reproduces_the_run() {
    let workplace = Workplace::new();
    for experiment in ["autoencoder", "classifier", "convnet"] {
        let file = format!("{experiment}.toml");
        workplace.run(&["run", &file, "--optimizer", "sgd:0.5", "--keep-trace", "--out", experiment]).exits(0);
        let (trace, out) = (format!("{experiment}/sgd/trace"), format!("{experiment}-again"));
        let ended = workplace.run(&["analyze", &trace, "--out", &out]).exits(0);
        assert!(ended.stdout.contains("report.html"), "{}", ended.stdout);
        for name in ["rounds.csv", "regret.csv", "units.csv", "novelty.csv", "neurons.csv"] {
            assert_tables_agree(&workplace, &format!("{experiment}/sgd"), &format!("{out}/sgd"), name);
        }
        assert_eq!(workplace.json(&format!("{out}/summary.json"))["status"], "complete");
        assert!(workplace.path(&format!("{out}/report.html")).exists());
        // It must not replace another analysis unasked.
        workplace.run(&["analyze", &trace, "--out", &out]).exits(2).says(&[&out, "--overwrite"]);
        workplace.run(&["analyze", &trace, "--out", &out, "--overwrite"]).exits(0);
    }
}

#[test]
fn a_trace_that_names_its_dataset_needs_no_copy_of_the_data() {
    let workplace = Workplace::new();
    workplace.run(&["run", "classifier.toml", "--keep-trace", "--out", "run"]).exits(0);
    fs::remove_file(workplace.path("run/sgd/trace/inputs.npy")).unwrap();
    fs::remove_file(workplace.path("run/sgd/trace/targets.npy")).unwrap();
    workplace.run(&["analyze", "run/sgd/trace", "--out", "again"]).exits(0);
    assert_tables_agree(&workplace, "run/sgd", "again/sgd", "regret.csv");
}

#[test]
fn a_trace_without_the_final_weights_is_accepted() {
    let workplace = Workplace::new();
    workplace.run(&["run", "autoencoder.toml", "--optimizer", "sgd:1", "--keep-trace", "--out", "run"]).exits(0);
    let path = workplace.path("run/sgd/trace/weights-00000.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let cut: Vec<_> = tensors
        .iter()
        .map(|(name, view)| {
            let mut shape = view.shape().to_vec();
            let one = view.data().len() / shape[0];
            shape[0] -= 1;
            let data = &view.data()[..one * shape[0]];
            (name, safetensors::tensor::TensorView::new(view.dtype(), shape, data).unwrap())
        })
        .collect();
    fs::write(&path, safetensors::serialize(cut, None).unwrap()).unwrap();
    workplace.run(&["analyze", "run/sgd/trace", "--out", "again"]).exits(0);
    assert_tables_agree(&workplace, "run/sgd", "again/sgd", "regret.csv");
}

#[test]
fn reports_are_rendered_again_and_compared() {
    let workplace = Workplace::new();
    let quick = ["--set", "regret.scales=[\"layer\"]"];
    workplace.run(&[&["run", "autoencoder.toml", "--out", "a"][..], &quick].concat()).exits(0);
    workplace.run(&[&["run", "autoencoder.toml", "--seed", "1", "--out", "b"][..], &quick].concat()).exits(0);
    let before = files(&workplace.path("a"));
    workplace.run(&["report", "a"]).exits(0);
    assert!(before == files(&workplace.path("a")), "equal tables give equal bytes");
    let ended = workplace.run(&["report", "a", "b", "--out", "both"]).exits(0);
    assert!(ended.stdout.contains("both"), "{}", ended.stdout);
    let page = workplace.read("both/report.html");
    assert!(page.contains("<svg") || page.contains("figures/"), "the comparison has figures");
    workplace.run(&["report", "a", "b"]).exits(0);
    assert!(workplace.path("runs/comparison/report.html").exists());
    workplace.run(&["report", "nowhere"]).exits(2).says(&["nowhere", "summary.json"]);
    workplace.run(&["report"]).exits(2);
    let ended = workplace.run(&["report", "a", "--certificates"]).exits(0);
    ["largest gap / loss", "layer", "ball"].iter().for_each(|word| assert!(ended.stdout.contains(word), "{word}"));
    workplace.run(&["report", "a", "--certificates", "--out", "c"]).exits(2);
    let printed = workplace.run(&["report", "a", "b", "--certificates", "--json"]).exits(0).stdout;
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let printed = printed["certificates"].as_array().expect("an object for every optimizer, scale and comparator");
    for object in printed {
        let text = |key: &str| object[key].as_str().unwrap().to_owned();
        let path = workplace.path(&text("run")).join(text("optimizer")).join("regret.csv");
        let mut reader = csv::Reader::from_path(path).unwrap();
        let rows = reader.deserialize().map(|row| row.unwrap());
        let of_kind = |row: &std::collections::HashMap<String, String>| {
            row["scale"] == text("scale") && row["comparator"] == text("comparator")
        };
        let shares: Vec<f64> = rows
            .filter(of_kind)
            .map(|row| row["gap"].parse::<f64>().unwrap() / row["mean_loss"].parse::<f64>().unwrap())
            .collect();
        assert_eq!(object["rows"], shares.len());
        assert_eq!(object["largest"].as_f64().unwrap(), shares.iter().copied().fold(0.0, f64::max));
        assert!(object["at_end"].as_f64().unwrap() <= object["largest"].as_f64().unwrap());
    }
    assert!(printed.iter().any(|object| object["run"] == "b" && object["comparator"] == "ball"));
}

#[test]
fn datasets_are_listed_without_touching_the_network() {
    let workplace = Workplace::new();
    let ended = workplace.run(&["data", "list"]).exits(0);
    assert!(ended.stdout.contains("digits") && ended.stdout.contains("1500 training"), "{}", ended.stdout);
    assert!(ended.stdout.contains("taylorscope data fetch mnist"), "{}", ended.stdout);
    assert_eq!(workplace.run(&["data"]).exits(0).stdout, ended.stdout);
    workplace.run(&["data", "verify", "digits"]).exits(0);
    workplace.run(&["data", "fetch", "digits"]).exits(0);
}

#[test]
fn exit_codes_and_help() {
    let workplace = Workplace::new();
    workplace.run(&["--help"]).exits(0);
    assert!(workplace.run(&["--version"]).exits(0).stdout.contains(env!("CARGO_PKG_VERSION")));
    workplace.run(&["run", "--help"]).exits(0);
    for wrong in [&[][..], &["trian"], &["run", "--epoch", "1"], &["run", "--epochs", "some"], &["reproduce", "fig9"]] {
        let ended = workplace.run(wrong).exits(2);
        assert!(ended.stderr.contains("Usage") || ended.stderr.contains("--help"), "{}", ended.stderr);
    }
    workplace.run(&["run", "autoencoder.toml", "--threads", "0"]).exits(2).says(&["--threads"]);
    workplace.run(&["run", "--resume", "--overwrite"]).exits(2);
}

#[test]
fn resuming_keeps_complete_optimizers_and_redoes_the_others() {
    let workplace = Workplace::new();
    workplace.run(&["run", "autoencoder.toml", "--out", "run"]).exits(0);
    let expected = files(&workplace.path("run/adam"));
    let mut summary = workplace.json("run/summary.json");
    summary["status"] = "interrupted".into();
    summary["optimizers"][1]["status"] = "interrupted".into();
    fs::write(workplace.path("run/summary.json"), summary.to_string()).unwrap();
    fs::write(workplace.path("run/adam/regret.csv"), "torn").unwrap();
    // Proof that the complete one is not computed again.
    let mark = workplace.read("run/sgd/rounds.csv").replacen("\n15,1,", "\n15,1,1", 1);
    fs::write(workplace.path("run/sgd/rounds.csv"), &mark).unwrap();

    workplace
        .run(&["run", "autoencoder.toml", "--seed", "5", "--out", "run", "--resume"])
        .exits(2)
        .says(&["another experiment"]);
    workplace.run(&["run", "autoencoder.toml", "--out", "run", "--resume"]).exits(0).says(&["sgd", "kept"]);
    assert_eq!(workplace.read("run/sgd/rounds.csv"), mark);
    assert_eq!(workplace.json("run/summary.json")["status"], "complete");
    let found = files(&workplace.path("run/adam"));
    for (name, bytes) in expected.iter().filter(|(name, _)| *name != "timing.json") {
        assert!(*bytes == found[name], "adam/{name}");
    }
}

#[test]
fn resuming_where_nothing_is_starts_afresh() {
    let workplace = Workplace::new();
    let arguments = ["run", "autoencoder.toml", "--out", "run", "--resume", "--set", "regret.scales=[]"];
    workplace.run(&arguments).exits(0);
    workplace.run(&arguments).exits(0).says(&["sgd: complete, kept", "adam: complete, kept"]);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let workplace = Workplace::new();
    let arguments = ["run", "autoencoder.toml", "--out", "run", "--set", "regret.scales=[]"];
    let mut command = workplace.command(&arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked") && !stderr.contains("error"), "{stderr}");
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(workplace.path("run/report.html").exists());
}

/// The one line of standard output, as JSON.
fn object(ended: &crate::support::Ended) -> serde_json::Value {
    assert_eq!(ended.stdout.lines().count(), 1, "{}", ended.stdout);
    serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {}", ended.stdout))
}

#[test]
fn json_is_one_object_with_paths_and_headline_numbers() {
    let workplace = Workplace::new();
    let exists = |path: &serde_json::Value| assert!(workplace.path(path.as_str().unwrap()).exists(), "{path}");
    let run = ["run", "autoencoder.toml", "--keep-trace", "--out", "run", "--json", "--set", "regret.scales=[layer]"];
    let ended = workplace.run(&run).exits(0).says(&["sgd (1 of 2): learning rate 1", "adam (2 of 2)"]);
    let found = object(&ended);
    assert_eq!(
        (&found["command"], &found["exit_code"], &found["status"]),
        (&"run".into(), &0.into(), &"complete".into())
    );
    ["run", "report", "figures", "summary"].iter().for_each(|key| exists(&found[*key]));
    let sgd = &found["optimizers"][0];
    assert!(sgd["tables"].as_array().unwrap().iter().any(|path| path.as_str().unwrap().ends_with("regret.csv")));
    sgd["tables"].as_array().unwrap().iter().for_each(exists);
    // The numbers are those of the tables: the mean over the layers, for the comparator that stands first.
    let comparator = sgd["regret"]["comparator"].as_str().unwrap();
    let units = table(&workplace.read("run/sgd/units.csv")).1;
    let rows: Vec<_> = units.iter().filter(|row| row[0] == "layer" && row[3] == comparator).collect();
    let mean =
        |column: usize| rows.iter().map(|row| row[column].parse::<f64>().unwrap()).sum::<f64>() / rows.len() as f64;
    for (key, column) in [("mean_loss", 5), ("taylor_optimum", 6), ("regret", 7), ("gap", 8)] {
        let value = sgd["regret"][key].as_f64().unwrap();
        assert!((value - mean(column)).abs() <= 1e-12 * value.abs(), "{key}: {value}");
    }
    assert_eq!(
        (&sgd["regret"]["units"], &sgd["regret"]["window"], &sgd["rounds"]),
        (&3.into(), &15.into(), &15.into())
    );
    let losses = table(&workplace.read("run/sgd/rounds.csv")).1;
    let last = losses.iter().map(|row| row[2].parse::<f64>().unwrap()).sum::<f64>() / 15.0;
    assert!((sgd["final_loss"].as_f64().unwrap() - last).abs() < 1e-9);

    let analysis = object(&workplace.run(&["analyze", "run/adam/trace", "--out", "again", "--json", "-q"]).exits(0));
    exists(&analysis["report"]);
    assert_eq!(analysis["optimizers"][0]["name"], "adam");
    let report = object(&workplace.run(&["report", "run", "again", "--out", "both", "--json"]).exits(0));
    exists(&report["report"]);
    assert_eq!(report["runs"].as_array().unwrap().len(), 2);
    let along = ["landscape", "run", "--along", "input", "--updates", "0", "--out", "land", "--json", "-q"];
    let landscape = object(&workplace.run(&along).exits(0));
    exists(&landscape["report"]);
    assert_eq!(landscape["kinks"], workplace.json("land/landscape.json")["kinks"]);
    let tuned =
        object(&workplace.run(&["tune", "autoencoder.toml", "--seeds", "1", "--refine", "0", "--json"]).exits(0));
    exists(&tuned["experiment"]);
    assert!(tuned["optimizers"][1]["learning_rate"].as_f64().unwrap() > 0.0);
    let list = object(&workplace.run(&["data", "list", "--json"]).exits(0));
    assert_eq!((&list["datasets"][0]["train"], &list["datasets"][1]["usable"]), (&1500.into(), &false.into()));
    object(&workplace.run(&["data", "verify", "digits", "--json"]).exits(0));
    let plain = object(&workplace.run(&["run", "autoencoder.toml", "--train-only", "--json"]).exits(0));
    assert!(plain["optimizers"][1]["seconds_per_epoch"].as_f64().unwrap() > 0.0);
}

#[test]
fn json_tells_errors_and_quiet_hides_everything_else() {
    let workplace = Workplace::new();
    for (arguments, code, text) in [
        (&["run", "autoencodr.toml", "--json"][..], 1, "autoencodr.toml"),
        (&["run", "autoencoder.toml", "--json", "--set", "regret.prefxies=3"], 2, "prefixes"),
        (&["run", "autoencoder.toml", "--json", "--epoch", "1"], 2, "--epoch"),
        (&["report", "nowhere", "--json", "--quiet"], 2, "summary.json"),
    ] {
        let ended = workplace.run(arguments).exits(code).says(&["error: "]);
        let found = object(&ended);
        assert_eq!(found["exit_code"], code);
        assert!(found["error"].as_str().unwrap().contains(text), "{found}");
    }
    let quiet = ["run", "autoencoder.toml", "-q", "--out", "run", "--set", "regret.scales=[]"];
    let ended = workplace.run(&quiet).exits(0);
    assert!(ended.stderr.is_empty() && ended.stdout.contains("report.html"), "{ended:?}");
    // What failed is an error.
    let wild =
        ["run", "autoencoder.toml", "-q", "--optimizer", "sgd:1e20", "--out", "wild", "--set", "regret.scales=[]"];
    workplace.run(&wild).exits(1).says(&["learning rate"]);
}

#[test]
fn errors_say_everything_once() {
    let workplace = Workplace::new();
    for arguments in [&["run", "nowhere.toml"][..], &["analyze", "nowhere"], &["report", "nowhere"]] {
        let ended = workplace.run(arguments);
        assert_ne!(ended.code, Some(0));
        assert!(ended.stderr.matches("os error").count() <= 1, "{}", ended.stderr);
    }
    assert_eq!(workplace.run(&["run", "nowhere.toml"]).stderr.matches("os error 2").count(), 1);
    fs::write(workplace.path("bare.toml"), "name = \"bare\"\n").unwrap();
    let lacking = ["data.dataset", "network.layers", "training.loss", "training.epochs", "taylorscope show"];
    workplace.run(&["run", "bare.toml"]).exits(2).says(&lacking);
    workplace
        .run(&["run", "autoencoder.toml", "--set", "comparators=[ball]"])
        .exits(2)
        .says(&["\"regret.comparators\"?"]);
    workplace.run(&["reproduce", "fig3"]).exits(1).says(&["add --quick", "taylorscope data fetch mnist"]);
    workplace.run(&["run", "--tuned", "autoencoder.toml"]).exits(2).says(&["name the experiment before --tuned"]);
    // A shell takes the quotes out of regret.scales=["neuron"].
    workplace.run(&["run", "autoencoder.toml", "--out", "run", "--set", "regret.scales=[neuron]"]).exits(0);
    let scales = table(&workplace.read("run/sgd/units.csv")).1;
    assert!(!scales.is_empty() && scales.iter().all(|row| row[0] == "neuron"));
}

#[test]
fn built_in_experiments_can_be_written_edited_and_run() {
    let workplace = Workplace::new();
    let text = workplace.run(&["show", "digits-autoencoder"]).exits(0).stdout;
    workplace.run(&["show", "digits-autoencoder", "--out", "my.toml"]).exits(0);
    assert_eq!(workplace.read("my.toml"), text);
    assert!(text.starts_with("# "), "comments are kept");
    workplace.run(&["show", "digits-convnet", "--out", "my.toml"]).exits(2).says(&["--overwrite"]);
    fs::write(workplace.path("my.toml"), text.replace("digits-autoencoder", "mine")).unwrap();
    let quick = ["run", "my.toml", "--epochs", "1", "--set", "regret.scales=[]", "--optimizer", "sgd"];
    workplace.run(&quick).exits(0);
    assert!(workplace.path("runs/mine/summary.json").exists());
    workplace.run(&["show", "digits-autoencodr"]).exits(2).says(&["did you mean \"digits-autoencoder\"?"]);
    let listed = |arguments: &[&str]| workplace.run(arguments).exits(0).stdout;
    assert!(listed(&["show"]).contains("cifar10-convnet"));
    assert!(listed(&["show", "--optimizers"]).contains("beta2 = 0.999"));
    assert!(listed(&["show", "--keys"]).contains("regret.max_products"));
}

#[test]
fn shells_complete_commands_and_flags() {
    let workplace = Workplace::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = workplace.run(&["completions", shell]).exits(0).stdout;
        assert!(script.contains("keep-trace") && script.contains("landscape"), "{shell}");
    }
    workplace.run(&["completions", "tcsh"]).exits(2).says(&["bash", "powershell"]);
}

#[test]
fn help_has_examples_names_and_whole_words() {
    let workplace = Workplace::new();
    for command in
        ["run", "tune", "explore", "reproduce", "analyze", "landscape", "report", "data", "show", "completions"]
    {
        let [short, long] = ["-h", "--help"].map(|flag| workplace.run(&[command, flag]).exits(0).stdout);
        assert!(!short.contains("Examples:") && long.contains("Examples:\n  taylorscope"), "{command}");
        for line in short.lines().chain(long.lines()) {
            assert!(line.chars().count() <= 100, "{command}: {line}");
        }
        // A word that was cut in one of them would be missing from the other, as their columns differ.
        let words = |text: &str| -> BTreeSet<String> {
            text.split_whitespace().map(|w| w.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase()).collect()
        };
        let missing: Vec<String> = words(&short).difference(&words(&long)).cloned().collect();
        assert!(missing.iter().all(|word| word == "more"), "{command}: {missing:?}");
    }
    let help = workplace.run(&["run", "--help"]).exits(0).stdout;
    assert!(help.contains("digits-convnet") && help.contains("adamw"), "{help}");
}

/// Starts the program and waits until standard error has `text`.
#[cfg(unix)]
fn start(
    workplace: &Workplace,
    arguments: &[&str],
    text: &str,
) -> (std::process::Child, impl std::io::BufRead + use<>) {
    let mut child = workplace.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    wait_for(&mut stderr, text);
    (child, stderr)
}

#[cfg(unix)]
fn wait_for(stderr: &mut impl std::io::BufRead, text: &str) {
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "ended early");
    }
}

#[cfg(unix)]
fn signal(child: &std::process::Child, name: &str) {
    let arguments = [format!("-{name}"), child.id().to_string()];
    assert!(std::process::Command::new("kill").args(arguments).status().unwrap().success());
}

/// More rounds than anybody waits for.
#[cfg(unix)]
const ENDLESS: [&str; 11] = [
    "run",
    "autoencoder.toml",
    "--out",
    "run",
    "--epochs",
    "200000",
    "--set",
    "regret.scales=[\"neuron\"]",
    // No first pass over all of them.
    "--set",
    "regret.prefixes=1",
    "--resume",
];

#[cfg(unix)]
#[test]
fn signals_that_come_together_count_as_one() {
    use std::{io::Read, thread, time::Duration};
    let workplace = Workplace::new();
    let arguments = [&ENDLESS[..], &["--set", "exploration.every=2000"]].concat();
    let (mut child, mut stderr) = start(&workplace, &arguments, "rounds");
    thread::sleep(Duration::from_millis(300));
    signal(&child, "INT");
    thread::sleep(Duration::from_millis(20));
    // It may have ended by now; then there is nobody to hear it.
    let _ = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{rest}");
    assert_eq!(workplace.json("run/summary.json")["status"], "interrupted");
    assert!(workplace.path("run/sgd/checkpoint.safetensors").exists() && workplace.path("run/report.html").exists());
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_at_once() {
    use std::{io::Read, thread, time::Duration};
    let workplace = Workplace::new();
    // Exploration of thousands of configurations cannot be stopped, and takes longer than this test.
    let slow = ["--set", "exploration.every=1", "--set", "regret.scales=[]"];
    let (mut child, mut stderr) = start(&workplace, &[&ENDLESS[..], &slow].concat(), "rounds");
    thread::sleep(Duration::from_millis(2000));
    signal(&child, "INT");
    wait_for(&mut stderr, "stopping");
    // Whatever is left to do is not done before the second signal comes.
    signal(&child, "STOP");
    thread::sleep(Duration::from_millis(1100));
    signal(&child, "TERM");
    signal(&child, "CONT");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_valid_tables() {
    use std::{io::Read, thread, time::Duration};
    let workplace = Workplace::new();
    let arguments = [&ENDLESS[..], &["--set", "exploration.every=2000"]].concat();
    let (mut child, mut stderr) = start(&workplace, &arguments, "rounds");
    thread::sleep(Duration::from_millis(500));
    signal(&child, "INT");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{rest}");
    assert!(!rest.contains("panicked"), "{rest}");
    let row = |label: &str| stdout.lines().find(|line| line.starts_with(label)).unwrap_or_default().to_owned();
    assert!(row("sgd").ends_with("interrupted") && row("adam").ends_with("not begun"), "{stdout}");

    let summary = workplace.json("run/summary.json");
    assert_eq!(summary["status"], "interrupted");
    let optimizers = summary["optimizers"].as_array().unwrap();
    assert_eq!(optimizers.len(), 1, "the other optimizer was not begun");
    assert_eq!(optimizers[0]["status"], "interrupted");
    assert!(optimizers[0]["message"].as_str().unwrap().contains("--resume"), "{summary}");
    let rounds = optimizers[0]["rounds"].as_u64().unwrap();
    assert!(rounds > 0 && rounds < 200_000 * 15);
    for (name, header) in TABLES {
        let (columns, rows) = table(&workplace.read(&format!("run/sgd/{name}")));
        assert_eq!(columns.join(","), header);
        assert!(!rows.is_empty() || name == "epochs.csv", "{name}");
    }
    assert_eq!(table(&workplace.read("run/sgd/rounds.csv")).1.len() as u64, rounds);
    let units = table(&workplace.read("run/sgd/regret.csv")).1;
    assert!(units.iter().any(|row| row[4] == rounds.to_string()), "what ran is analysed to the last round");
    assert!(workplace.path("run/report.html").exists());
}

#[test]
fn figure_5_reproduces_on_the_digits() {
    let workplace = Workplace::new();
    let ended = workplace.run(&["reproduce", "fig5", "--quick", "--out", "fig"]).exits(0);
    assert!(ended.stdout.contains("seen in this run") || ended.stdout.contains("undecided"), "{}", ended.stdout);
    assert!(workplace.path("fig/fig5/report.html").exists());
    assert!(workplace.path("fig/fig5/rmsprop/novelty.csv").exists());
    assert!(workplace.path("fig/fig5-convnet/rmsprop/novelty.csv").exists());
}

#[test]
#[ignore = "half a minute: regret at all scales"]
fn figure_4_reproduces_on_the_digits() {
    let workplace = Workplace::new();
    let ended = workplace.run(&["reproduce", "fig4", "--quick", "--out", "fig"]).exits(0);
    assert!(
        ended.stdout.contains("seen in this run: On the convolutional network every optimizer"),
        "{}",
        ended.stdout
    );
    assert!(workplace.path("fig/fig4/figures").is_dir());
}

#[test]
#[ignore = "minutes: the regret of 20 epochs at all scales"]
fn figure_3_reproduces_on_the_digits() {
    let workplace = Workplace::new();
    let ended = workplace.run(&["reproduce", "fig3", "--quick", "--out", "fig"]).exits(0);
    assert!(ended.stdout.contains("seen in this run"), "{}", ended.stdout);
    assert!(workplace.path("fig/fig3/figures").is_dir());
}
