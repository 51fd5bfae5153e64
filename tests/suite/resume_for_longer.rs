//! `--resume` with more epochs, other optimizers and other measurements, and what else a run that is continued depends on.

use crate::support::{AUTOENCODER, CLASSIFIER, CONVNET, Workplace, files, results, table};
use std::{collections::BTreeMap, fs, path::Path};
use taylorscope::{
    activation::{ActivationRecorder, explore},
    network::{Image, LayerSpec, Network, Rectifier},
};

/// An experiment with further optimizers, of which only the first epoch's rounds are analysed.
fn experiment(text: &str) -> String {
    let adam = "[[optimizer]]\nname = \"adam\"\nlearning_rate = 0.003\nbeta1 = 0.5\n\n[regret]";
    text.replace("window = \"all\"", "window = \"epoch\"").replace("rounds = 10\n", "").replacen("[regret]", adam, 1)
}

fn workplace() -> Workplace {
    let workplace = Workplace::new();
    fs::write(workplace.path("dense.toml"), experiment(CLASSIFIER)).unwrap();
    fs::write(workplace.path("conv.toml"), experiment(CONVNET)).unwrap();
    workplace
}

/// Runs an experiment, asks for more of it, and compares with what comes of that at once. Gives what was said on the way.
#[track_caller]
fn more(workplace: &Workplace, before: &[&str], more: &[&str]) -> String {
    for run in ["went-on", "at-once"] {
        let _ = fs::remove_dir_all(workplace.path(run));
    }
    let run = |arguments: &[&str], out: &str, resume: &[&str]| {
        workplace.run(&[&["run", arguments[0], "--out", out], &arguments[1..], resume].concat()).exits(0)
    };
    run(before, "went-on", &[]);
    let went_on = run(more, "went-on", &["--resume"]);
    run(more, "at-once", &[]);
    let (found, expected) = (results(workplace, "went-on"), results(workplace, "at-once"));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{}", went_on.stderr);
    for (name, bytes) in &found {
        assert!(*bytes == expected[name], "{more:?}: {name} differs");
    }
    went_on.stderr
}

#[test]
fn more_epochs_go_on_behind_the_last_one_to_the_bytes_of_all_at_once() {
    let workplace = workplace();
    for (file, rounds) in [("dense.toml", "after round 30"), ("conv.toml", "after round 30")] {
        let said = more(&workplace, &[file, "--epochs", "2"], &[file, "--epochs", "5"]);
        assert!(said.contains("training.epochs is 2 there, 5 here"), "{said}");
        assert_eq!(said.matches(rounds).count(), 2, "{said}");
        assert!(!said.contains("again"), "{said}");
    }
    // A configuration between the epochs is recorded at the end of the shorter run only.
    let every = ["--set", "exploration.every=7", "--set", "exploration.pool_winners=true"];
    let with = |epochs: &'static str| [&["conv.toml", "--epochs", epochs], &every[..]].concat();
    assert!(more(&workplace, &with("2"), &with("3")).contains("after round 30"));
    // And once more, in double precision.
    let with = |epochs: &'static str| ["dense.toml", "--set", "training.precision=f64", "--epochs", epochs];
    workplace.run(&[&["run", "--out", "steps"], &with("1")[..]].concat()).exits(0);
    for epochs in ["2", "4"] {
        let arguments = [&["run", "--out", "steps", "--resume"], &with(epochs)[..]].concat();
        workplace.run(&arguments).exits(0).says(&["resuming after round"]);
    }
    workplace.run(&[&["run", "--out", "whole"], &with("4")[..]].concat()).exits(0);
    assert!(results(&workplace, "steps") == results(&workplace, "whole"));
    // Times are those of all epochs.
    assert_eq!(workplace.json("steps/sgd/timing.json")["epochs"].as_array().unwrap().len(), 4);
    // An optimizer that is added to a longer run has nothing to go on from.
    let one = ["dense.toml", "--optimizer", "sgd:0.1", "--epochs", "1"];
    let two = ["dense.toml", "--optimizer", "rmsprop:0.001", "--optimizer", "sgd:0.1", "--epochs", "2"];
    assert_eq!(more(&workplace, &one, &two).matches("resuming after").count(), 1);
}

#[test]
fn what_needs_the_rounds_again_is_trained_again_and_says_why() {
    let workplace = workplace();
    let said = more(&workplace, &["autoencoder.toml"], &["autoencoder.toml", "--epochs", "2"]);
    assert!(said.contains("sgd: trained again from the first round, as the optima of its neurons"), "{said}");
    let cosine = "optimizer=[{name=sgd,learning_rate=0.1,schedule=cosine},{name=adam,learning_rate=0.01}]";
    let with = |epochs: &'static str| ["dense.toml", "--set", cosine, "--epochs", epochs];
    let said = more(&workplace, &with("1"), &with("2"));
    assert!(said.contains("sgd: trained again from the first round, as its schedule depends"), "{said}");
    assert!(said.contains("adam (2 of 2): resuming after round 15"), "{said}");
    for (setting, expected) in [
        ("exploration.probe=30", "exploration.probe is 200 there, 30 here"),
        ("regret.scales=[layer]", "regret.scales is [\"network\", \"layer\", \"neuron\"] there, [\"layer\"] here"),
        ("regret.window=all", "regret.window is \"epoch\" there, \"all\" here"),
    ] {
        let said = more(&workplace, &["dense.toml"], &["dense.toml", "--set", setting]);
        assert!(said.contains(expected) && said.contains("adam: trained again"), "{said}");
    }
    let with =
        |epochs: &'static str| ["dense.toml", "--set", "training.stop_at_train_accuracy=0.2", "--epochs", epochs];
    assert!(more(&workplace, &with("1"), &with("9")).contains("stop_at_train_accuracy decides"));
    let said = more(&workplace, &["dense.toml"], &["dense.toml", "--keep-trace"]);
    assert!(said.contains("no trace was kept of sgd, adam"), "{said}");
    // A run with traces keeps them, asked or not.
    workplace.run(&["run", "dense.toml", "--keep-trace", "--out", "traced"]).exits(0);
    workplace.run(&["run", "dense.toml", "--epochs", "2", "--out", "traced", "--resume"]).exits(0);
    workplace.run(&["run", "dense.toml", "--epochs", "2", "--keep-trace", "--out", "traced-at-once"]).exits(0);
    assert!(results(&workplace, "traced") == results(&workplace, "traced-at-once"));
}

#[test]
fn optimizers_that_are_added_leave_the_others_as_they_are() {
    let workplace = workplace();
    let optimizers = |all: &[&'static str]| {
        let flags = all.iter().flat_map(|optimizer| ["--optimizer", optimizer]);
        ["dense.toml"].into_iter().chain(flags).collect::<Vec<_>>()
    };
    let said = more(&workplace, &optimizers(&["sgd:0.1"]), &optimizers(&["adam", "sgd:0.1"]));
    assert!(said.contains("sgd: complete, kept") && !said.contains("sgd (") && !said.contains("there"), "{said}");
    // In the company of a namesake, it has another name.
    let said = more(&workplace, &optimizers(&["sgd:0.1"]), &optimizers(&["sgd:0.1", "sgd:1"]));
    assert!(said.contains("sgd-0.1: complete, kept"), "{said}");
    // Proof that it is not computed again.
    workplace.run(&[&["run", "--out", "run"], &optimizers(&["sgd:0.1"])[..]].concat()).exits(0);
    let before = files(&workplace.path("run/sgd"));
    workplace.run(&[&["run", "--out", "run", "--resume"], &optimizers(&["sgd:0.1", "adam"])[..]].concat()).exits(0);
    assert!(files(&workplace.path("run/sgd")) == before, "times included");
}

#[test]
fn differences_are_named_with_both_values() {
    let workplace = workplace();
    workplace.run(&["run", "dense.toml", "--epochs", "2", "--out", "run"]).exits(0);
    let before = files(&workplace.path("run"));
    let resumed = |arguments: &[&str]| {
        let all = [&["run", "dense.toml", "--out", "run", "--resume"], arguments].concat();
        let ended = workplace.run(&all).exits(2);
        assert!(files(&workplace.path("run")) == before, "nothing is written");
        ended
    };
    resumed(&["--epochs", "1"]).says(&["another experiment", "training.epochs is 2 there, 1 here", "--overwrite"]);
    resumed(&["--epochs", "2", "--seed", "7", "--set", "training.batch_size=50"])
        .says(&["seed is 0 there, 7 here; training.batch_size is 100 there, 50 here"]);
    resumed(&["--epochs", "2", "--set", "network.layers=[{dense=10}]"]).says(&["network.layers is [{ dense = 8 }"]);
    resumed(&["--epochs", "2", "--optimizer", "sgd:0.1"])
        .says(&["optimizer adam is at rate 0.003 there, not set here", "name those that are there, too"]);
    resumed(&["--epochs", "2", "--optimizer", "sgd:0.2", "--optimizer", "adam:0.003"]).says(&[
        "learning_rate of optimizer sgd is 0.1 there, 0.2 here",
        "beta1 of optimizer adam is 0.5 there, not set",
    ]);
    // Folders of other commands are told apart.
    let search = ["tune", "dense.toml", "--seeds", "1", "--refine", "0", "--out", "search"];
    workplace.run(&search).exits(0);
    workplace.run(&["run", "dense.toml", "--out", "search", "--resume"]).exits(2).says(&["another command"]);
    workplace.run(&[&search[..], &["--epochs", "2"]].concat()).exits(2).says(&["training.epochs is 1 there, 2 here"]);
}

/// The run in `folder` is as `expected`, without what may lie beside it meanwhile.
fn is_as(workplace: &Workplace, folder: &str, expected: &BTreeMap<String, Vec<u8>>) -> bool {
    let mut found = results(workplace, folder);
    found.retain(|name, _| !name.starts_with("continued/"));
    found == *expected
}

#[test]
fn nothing_complete_is_lost_before_more_of_it_is_complete() {
    let workplace = workplace();
    let run = |epochs: &'static str, out: &'static str| {
        ["run", "dense.toml", "--epochs", epochs, "--out", out, "--resume", "--checkpoint-every", "3"]
    };
    workplace.run(&run("1", "run")).exits(0);
    workplace.run(&run("40", "whole")).exits(0);
    let (short, whole) = (results(&workplace, "run"), results(&workplace, "whole"));
    let (mut kills, mut delay, mut begun) = (0, 2, false);
    while kills < 6 || !begun {
        let mut child = workplace.command(&run("40", "run"));
        let mut child = child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        (kills, delay) = (kills + 1, delay * 2);
        begun |= workplace.path("run/continued/sgd").exists();
        let summary = workplace.json("run/summary.json");
        let replaced = summary["status"] != "complete" || summary["optimizers"][0]["rounds"] != 15;
        assert!(replaced || is_as(&workplace, "run", &short), "after {kills} kills");
    }
    assert!(begun, "some kill comes while the longer run is made");
    workplace.run(&run("40", "run")).exits(0);
    assert!(results(&workplace, "run") == whole);
    assert!(!workplace.path("run/continued").exists());
}

#[test]
fn taking_the_place_of_another_run_is_finished_wherever_it_was_cut_short() {
    let workplace = workplace();
    let optimizers = ["--optimizer", "sgd:0.1", "--optimizer", "sgd:1"];
    let run = |out: &'static str| {
        [&["run", "dense.toml", "--epochs", "2", "--out", out, "--resume"], &optimizers[..]].concat()
    };
    workplace.run(&["run", "dense.toml", "--optimizer", "sgd:0.1", "--out", "short"]).exits(0);
    workplace.run(&run("whole")).exits(0);
    let copy = |from: &Path, to: &Path| {
        for (name, bytes) in files(from) {
            fs::create_dir_all(to.join(&name).parent().unwrap()).unwrap();
            fs::write(to.join(name), bytes).unwrap();
        }
    };
    let steps: [&dyn Fn(&Path); 6] = [
        &|_| (),
        &|run| fs::remove_dir_all(run.join("sgd")).unwrap(),
        &|run| fs::rename(run.join("continued/sgd-0.1"), run.join("sgd-0.1")).unwrap(),
        &|run| fs::rename(run.join("continued/sgd-1"), run.join("sgd-1")).unwrap(),
        &|run| assert!(fs::copy(run.join("continued/summary.json"), run.join("summary.json")).unwrap() > 0),
        &|run| fs::rename(run.join("continued/experiment.toml"), run.join("experiment.toml")).unwrap(),
    ];
    for done in 1..=steps.len() {
        let _ = fs::remove_dir_all(workplace.path("run"));
        copy(&workplace.path("short"), &workplace.path("run"));
        copy(&workplace.path("whole"), &workplace.path("run/continued"));
        fs::write(workplace.path("run/continued/ready"), "").unwrap();
        steps[..done].iter().for_each(|step| step(&workplace.path("run")));
        let ended = workplace.run(&run("run")).exits(0).says(&["sgd-0.1: complete, kept", "sgd-1: complete, kept"]);
        assert!(results(&workplace, "run") == results(&workplace, "whole"), "{done}: {}", ended.stderr);
    }
}

#[test]
fn a_longer_run_that_fails_leaves_the_one_that_is_complete() {
    let workplace = workplace();
    // Grows from round to round, and leaves the numbers of single precision in a later epoch.
    let growing = "optimizer=[{name=sgd,learning_rate=100}]";
    let sets = ["--set", growing, "--set", "network.layers=[{dense=64}]", "--set", "regret.scales=[]"];
    let run = |epochs: &'static str| {
        [&["run", "autoencoder.toml", "--out", "run", "--resume", "--epochs", epochs], &sets[..]].concat()
    };
    workplace.run(&run("1")).exits(0).says(&["diverged: the training loss ended at", "Try a smaller rate"]);
    let short = results(&workplace, "run");
    for _ in 0..2 {
        workplace.run(&run("30")).exits(1).says(&["run is as it was", "run/continued", "not finite"]);
        assert!(is_as(&workplace, "run", &short));
        assert_eq!(workplace.json("run/continued/summary.json")["status"], "failed");
    }
    // What lies there is not taken for something else.
    workplace.run(&run("31")).exits(2).says(&["run/continued", "training.epochs is 30 there, 31 here"]);
    workplace.run(&run("1")).exits(0).says(&["sgd: complete, kept"]);
    let anew = [&run("1")[..4], &["--overwrite"], &sets[..]].concat();
    workplace.run(&anew).exits(0);
    assert!(!workplace.path("run/continued").exists());
}

/// The four files of a tiny dataset in MNIST's format.
fn write_images(folder: &Path, value: u8) {
    fs::create_dir_all(folder).unwrap();
    for (part, rows) in [("train", 60u32), ("t10k", 20)] {
        let sizes = |sizes: &[u32]| sizes.iter().flat_map(|size| size.to_be_bytes()).collect::<Vec<u8>>();
        let pixels: Vec<u8> = (0..rows * 784).map(|i| if i == 5 { value } else { (i * 7 % 256) as u8 }).collect();
        let images = [sizes(&[2051, rows, 28, 28]), pixels].concat();
        let labels = [sizes(&[2049, rows]), (0..rows).map(|i| (i % 10) as u8).collect()].concat();
        fs::write(folder.join(format!("{part}-images-idx3-ubyte")), images).unwrap();
        fs::write(folder.join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
    }
}

/// Initial weights of a network with one layer of 10 units on 784 inputs.
fn write_weights(path: &Path, scale: f32) {
    let numbers = |count: usize| (0..count).flat_map(|i| (scale * (i % 7) as f32).to_le_bytes()).collect::<Vec<u8>>();
    let (weight, bias) = (numbers(7840), numbers(10));
    let view =
        |shape: &[usize], data| safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), data);
    let tensors = [("0.weight", view(&[10, 784], &weight).unwrap()), ("0.bias", view(&[10], &bias).unwrap())];
    fs::write(path, safetensors::serialize(tensors, None).unwrap()).unwrap();
}

const FILES: &str = r#"
name = "files"
[data]
dataset = "mnist"
path = "data"
[network]
layers = [{ dense = 10 }]
weights = "w.safetensors"
[training]
loss = "cross_entropy"
target = "label"
batch_size = 20
epochs = 2
[regret]
scales = []
[[optimizer]]
name = "sgd"
learning_rate = 0.1
"#;

fn workplace_with_files() -> Workplace {
    let workplace = workplace();
    write_images(&workplace.path("exps/data"), 0);
    write_weights(&workplace.path("exps/w.safetensors"), 0.001);
    fs::write(workplace.path("exps/files.toml"), FILES).unwrap();
    workplace
}

#[test]
fn what_a_run_was_begun_with_is_known_by_its_checksum() {
    let workplace = workplace_with_files();
    let run = ["run", "exps/files.toml", "--out", "run", "--resume"];
    let search = ["tune", "exps/files.toml", "--seeds", "1", "--refine", "0", "--out", "search"];
    workplace.run(&run).exits(0);
    workplace.run(&search).exits(0);
    write_weights(&workplace.path("exps/w.safetensors"), 0.002);
    for command in [&run[..], &search, &[&run[..], &["--epochs", "4"]].concat()] {
        workplace.run(command).exits(2).says(&["w.safetensors is not the file that", "--overwrite"]);
    }
    write_weights(&workplace.path("exps/w.safetensors"), 0.001);
    write_images(&workplace.path("exps/data"), 1);
    for command in [&run[..], &search] {
        workplace.run(command).exits(2).says(&["the data of mnist are not those that", "checksums"]);
    }
    // The same bytes may lie elsewhere.
    write_images(&workplace.path("elsewhere"), 0);
    fs::copy(workplace.path("exps/w.safetensors"), workplace.path("moved.safetensors")).unwrap();
    let moved = ["--set", "data.path=elsewhere", "--set", "network.weights=moved.safetensors"];
    workplace.run(&[&run[..], &moved].concat()).exits(0).says(&["sgd: complete, kept"]);
}

#[test]
fn a_missing_file_of_weights_leaves_no_folder() {
    let workplace = workplace_with_files();
    fs::remove_file(workplace.path("exps/w.safetensors")).unwrap();
    workplace.run(&["run", "exps/files.toml", "--out", "run"]).exits(1).says(&["exps/w.safetensors"]);
    workplace.run(&["tune", "exps/files.toml", "--out", "search"]).exits(1).says(&["exps/w.safetensors"]);
    assert!(!workplace.path("run").exists() && !workplace.path("search").exists());
}

#[test]
fn paths_are_relative_to_the_experiments_file_and_absolute_in_what_is_kept() {
    let workplace = workplace_with_files();
    workplace.run(&["run", "exps/files.toml", "--out", "run"]).exits(0);
    let mut inside = workplace.command(&["run", "files.toml", "--out", "../inside"]);
    assert!(inside.current_dir(workplace.path("exps")).output().unwrap().status.success());
    assert!(results(&workplace, "run") == results(&workplace, "inside"));
    // The kept experiment works from anywhere.
    let kept = workplace.path("run/experiment.toml");
    let elsewhere = tempfile::tempdir().unwrap();
    let run = workplace.path("run");
    let (kept, run) = (kept.to_str().unwrap(), run.to_str().unwrap());
    for arguments in [
        &["run", kept, "--out", run, "--resume"][..],
        &["run", kept, "--out", "again"],
        &["landscape", run, "--along", "input", "--out", "landscape"],
        &["report", run],
    ] {
        let output = workplace.command(arguments).current_dir(elsewhere.path()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // Those of the command line are relative to where it is given.
    let ended =
        workplace.run(&["run", "exps/files.toml", "--set", "network.weights=w.safetensors", "--out", "none"]).exits(1);
    assert!(!ended.stderr.contains("exps/w.safetensors"), "{}", ended.stderr);
    let set = "network.weights=exps/w.safetensors";
    workplace.run(&["run", "exps/files.toml", "--set", set, "--out", "set"]).exits(0);
    assert!(results(&workplace, "run") == results(&workplace, "set"));
}

#[test]
fn labels_name_folders_and_pages_by_what_differs() {
    let workplace = workplace();
    let both = "optimizer=[{name=adam,learning_rate=0.003},{name=adam,learning_rate=0.003,beta1=0.5}]";
    workplace.run(&["run", "dense.toml", "--set", both, "--set", "regret.scales=[]", "--out", "run"]).exits(0);
    assert!(workplace.path("run/adam-beta1=0.9/rounds.csv").exists());
    assert_ne!(workplace.read("run/adam-beta1=0.9/rounds.csv"), workplace.read("run/adam-beta1=0.5/rounds.csv"));
    assert!(workplace.read("run/report.html").contains("Adam beta1=0.5"));
    let landscape = ["landscape", "run", "--along", "update 3", "--optimizer", "adam-beta1=0.5", "--out", "landscape"];
    workplace.run(&landscape).exits(0);
}

#[test]
fn rates_of_a_search_without_a_stable_one_are_refused() {
    let workplace = workplace();
    let layers = "network.layers=[{dense=4},relu,{dense=64}]";
    let huge = ["autoencoder.toml", "--optimizer", "sgd", "--set", layers, "--set", "network.weights=huge.safetensors"];
    let numbers = |count: usize| vec![1e12f32; count].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let parts = [("0.weight", vec![4, 64]), ("0.bias", vec![4]), ("2.weight", vec![64, 4]), ("2.bias", vec![64])];
    let data: Vec<Vec<u8>> = parts.iter().map(|(_, shape)| numbers(shape.iter().product())).collect();
    let views = parts.iter().zip(&data).map(|((name, shape), data)| {
        (*name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap())
    });
    fs::write(workplace.path("huge.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let search = ["--seeds", "1", "--refine", "0", "--out", "search"];
    workplace.run(&[&["tune"], &huge[..], &search].concat()).exits(1);
    let tuned = [&["run"], &huge[..1], &huge[3..], &["--tuned=search", "--out", "run"]].concat();
    let says = ["no stable learning rate for sgd", "network.weights", "tune without sgd"];
    workplace.run(&tuned).exits(2).says(&says);
    assert!(!workplace.path("run").exists());
    fs::write(workplace.path("search/tuned.json"), "{").unwrap();
    workplace.run(&tuned).exits(2).says(&["tuned.json", "repeat `taylorscope tune`"]);
}

#[test]
fn numbers_on_the_command_line_are_refused_in_words() {
    let workplace = workplace();
    for wrong in ["-1", "0", "two", "1.5"] {
        workplace.run(&["run", "--epochs", wrong]).exits(2).says(&["whole number from 1"]);
    }
    for wrong in ["adam:-1", "adam:nan", "adam:1e400"] {
        workplace.run(&["run", "--optimizer", wrong]).exits(2).says(&["is no learning rate", "adam:0.001"]);
    }
}

/// How many units of a layer with three inputs are dead, of four of which the first is never active.
fn dead(rectifier: Option<Rectifier>) -> Vec<bool> {
    let mut layers = vec![LayerSpec::dense(4), LayerSpec::dense(2)];
    layers.splice(1..1, rectifier.map(LayerSpec::Rectifier));
    let network = Network::new(3, &layers).unwrap();
    let mut weights = vec![0.1; network.parameters()];
    weights[network.blocks()[0].neuron(0).end - 1] = -100.0;
    let mut recorder = ActivationRecorder::new(&network, vec![1.0; 3 * 70], 1);
    recorder.record(0, &weights);
    explore(&recorder.configurations).1.iter().map(|row| row.dead).collect()
}

#[test]
fn units_are_dead_only_where_no_gradient_passes() {
    let first = [true, false, false, false];
    assert_eq!(dead(Some(Rectifier::Relu)), first);
    assert_eq!(dead(Some(Rectifier::LeakyRelu { slope: 0.0 })), first, "a ReLU by another name");
    for alive in [Some(Rectifier::LeakyRelu { slope: 0.01 }), Some(Rectifier::Abs), None] {
        assert_eq!(dead(alive), [false; 4], "{alive:?}");
    }
    // A filter that is active at one position of one image, and one that is nowhere.
    let conv = LayerSpec::Conv { maps: 2, kernel: 1, padding: 0, stride: 1, bias: true };
    let layers = [conv, LayerSpec::Rectifier(Rectifier::Relu), LayerSpec::Flatten, LayerSpec::dense(2)];
    let network = Network::new(Image { channels: 1, height: 6, width: 4 }, &layers).unwrap();
    let mut weights = vec![0.0; network.parameters()];
    let block = &network.blocks()[0];
    weights[block.neuron(0)].copy_from_slice(&[1.0, -0.5]);
    weights[block.neuron(1)].copy_from_slice(&[1.0, -1.5]);
    let mut images = vec![0.0; 24 * 70];
    images[24 * 69 + 23] = 1.0;
    let mut recorder = ActivationRecorder::new(&network, images, 1);
    recorder.record(0, &weights);
    let rows = explore(&recorder.configurations).1;
    assert_eq!(rows.iter().map(|row| row.dead).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn the_summary_counts_dead_units_alike() {
    let workplace = workplace();
    for (rectifier, expected) in [("relu", 3), ("abs", 0)] {
        let layers = format!("network.layers=[{{dense=3}},{rectifier},{{dense=64}}]");
        let numbers =
            |count: usize, value: f32| vec![value; count].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let data = [numbers(192, -1.0), numbers(3, -1.0), numbers(192, 0.1), numbers(64, 0.0)];
        let parts = [("0.weight", vec![3, 64]), ("0.bias", vec![3]), ("2.weight", vec![64, 3]), ("2.bias", vec![64])];
        let views = parts.iter().zip(&data).map(|((name, shape), data)| {
            (*name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap())
        });
        fs::write(workplace.path("w.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
        let sets = ["--set", &layers, "--set", "network.weights=w.safetensors", "--set", "regret.scales=[]"];
        let run = [&["run", "autoencoder.toml", "--optimizer", "sgd:0.0001", "--out", rectifier], &sets[..]].concat();
        workplace.run(&run).exits(0);
        assert_eq!(workplace.json(&format!("{rectifier}/summary.json"))["optimizers"][0]["dead_neurons"], expected);
        let rows = table(&workplace.read(&format!("{rectifier}/sgd/neurons.csv"))).1;
        assert_eq!(rows.iter().filter(|row| row[7] == "true").count(), expected);
    }
    assert!(AUTOENCODER.contains("probe = 200"), "all of the probe set");
}
