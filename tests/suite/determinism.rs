//! Equal runs give equal bytes, whatever the number of threads and whoever watches.

use crate::support::{Workplace, files, results};
use std::{collections::BTreeMap, fs};

/// All results of a run that may not differ, apart from its trace.
fn results_without_trace(workplace: &Workplace, run: &str) -> BTreeMap<String, Vec<u8>> {
    let mut all = results(workplace, run);
    all.retain(|name, _| !name.contains("/trace/"));
    for table in ["rounds", "epochs", "regret", "units", "novelty", "neurons"] {
        assert!(all.contains_key(&format!("sgd/{table}.csv")), "{run} has no {table}.csv");
    }
    all
}

fn assert_same(workplace: &Workplace, first: &str, second: &str) {
    let (a, b) = (results_without_trace(workplace, first), results_without_trace(workplace, second));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{first} and {second} have other files");
    for (name, bytes) in &a {
        assert!(*bytes == b[name], "{name} differs between {first} and {second}");
    }
}

#[test]
fn equal_runs_give_equal_bytes_for_any_number_of_threads() {
    let workplace = Workplace::new();
    // An odd batch size, and more rounds than there are pieces to sum in.
    for (experiment, batch) in [
        ("autoencoder", "training.batch_size=33"),
        ("classifier", "training.batch_size=51"),
        ("convnet", "training.batch_size=51"),
    ] {
        let file = format!("{experiment}.toml");
        let variants: [(&str, &[&str]); 5] = [
            ("one", &["--threads", "1"]),
            ("two", &["--threads", "2"]),
            ("five", &["--threads", "5"]),
            ("again", &["--threads", "2"]),
            ("kept", &["--threads", "2", "--keep-trace"]),
        ];
        for (name, extra) in variants {
            let out = format!("{experiment}-{name}");
            let arguments = [&["run", &file, "--set", batch, "--out", &out], extra].concat();
            workplace.run(&arguments).exits(0);
            assert_same(&workplace, &format!("{experiment}-one"), &out);
        }
        assert!(workplace.path(&format!("{experiment}-kept/sgd/trace/manifest.json")).exists());
        assert!(!workplace.path(&format!("{experiment}-two/sgd/trace")).exists());
    }
}

#[test]
fn double_precision_is_deterministic_too() {
    let workplace = Workplace::new();
    for threads in ["1", "2"] {
        let precision = "training.precision=f64";
        workplace
            .run(&["run", "autoencoder.toml", "--set", precision, "--threads", threads, "--out", threads])
            .exits(0);
    }
    assert_same(&workplace, "1", "2");
}

#[test]
fn the_trace_does_not_depend_on_the_threads_either() {
    let workplace = Workplace::new();
    for threads in ["1", "2"] {
        workplace.run(&["run", "autoencoder.toml", "--keep-trace", "--threads", threads, "--out", threads]).exits(0);
    }
    let trace = |threads: &str| files(&workplace.path(&format!("{threads}/adam/trace")));
    assert!(trace("1").len() >= 5);
    assert!(trace("1") == trace("2"));
}

#[test]
fn the_seed_decides_weights_and_order() {
    let workplace = Workplace::new();
    let run = |out: &str, extra: &[&str]| {
        let arguments = [&["run", "autoencoder.toml", "--optimizer", "sgd:1", "--out", out], extra].concat();
        workplace.run(&arguments).exits(0);
        fs::read(workplace.path(out).join("sgd/rounds.csv")).unwrap()
    };
    let default = run("default", &[]);
    assert_eq!(default, run("zero", &["--seed", "0"]));
    assert_ne!(default, run("one", &["--seed", "1"]));
}

#[test]
fn the_order_of_optimizers_changes_no_result() {
    let workplace = Workplace::new();
    let run = |out: &str, order: [&str; 3]| {
        let mut arguments = vec!["run", "autoencoder.toml", "--keep-trace", "--out", out];
        order.iter().for_each(|name| arguments.extend(["--optimizer", name]));
        workplace.run(&arguments).exits(0);
    };
    run("forth", ["sgd:1", "momentum:0.1", "adam:0.003"]);
    run("back", ["adam:0.003", "momentum:0.1", "sgd:1"]);
    for label in ["sgd", "momentum", "adam"] {
        let folder = |out: &str| {
            let mut all = files(&workplace.path(&format!("{out}/{label}")));
            all.remove("timing.json");
            all
        };
        assert!(folder("forth").contains_key("trace/manifest.json"));
        assert!(folder("forth") == folder("back"), "{label}");
    }
}
