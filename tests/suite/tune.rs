//! The learning-rate search as users meet it: its files, resuming, and runs at the rates it found.

use crate::support::{Workplace, files, table};
use std::fs;

const SEARCH: [&str; 6] = ["tune", "autoencoder.toml", "--seeds", "2", "--refine", "1"];

fn search(workplace: &Workplace, out: &str, more: &[&str]) -> String {
    workplace.run(&[&SEARCH[..], &["--out", out], more].concat()).exits(0).stdout
}

#[test]
fn a_search_keeps_its_points_its_figure_and_the_tuned_experiment() {
    let workplace = Workplace::new();
    let printed = search(&workplace, "search", &["--epochs", "4"]);
    assert!(printed.contains("tuned.toml") && printed.contains("sgd") && printed.contains("adam"), "{printed}");
    let (header, rows) = table(&workplace.read("search/tune.csv"));
    assert_eq!(header.join(","), "optimizer,learning_rate,seed,rounds,status,train_loss,test_loss");
    let tuned = workplace.json("search/tuned.json");
    for optimizer in ["sgd", "adam"] {
        let mine: Vec<_> = rows.iter().filter(|row| row[0] == optimizer).collect();
        // Ten rates of the first grid, and one on each side of the best, from two seeds each.
        assert!(mine.len() >= 24, "{} points", mine.len());
        // The best rate is that of the least mean over the seeds, among rates below the last one before any diverges.
        let mut sums: Vec<(Option<f64>, &str)> = Vec::new();
        for pair in mine.chunks(2) {
            assert_eq!(pair[0][1], pair[1][1], "both seeds of a rate");
            let losses: Vec<f64> = pair.iter().filter_map(|row| row[5].parse().ok()).collect();
            let diverged = pair.iter().filter(|row| row[4] == "diverged").count();
            assert_eq!(losses.len(), 2 - diverged);
            sums.push(((diverged == 0).then(|| losses.iter().sum()), &pair[0][1]));
        }
        let stable = sums.iter().position(|(sum, _)| sum.is_none()).map_or(sums.len(), |first| first - 1);
        let best = sums[..stable].iter().min_by(|a, b| a.0.unwrap().total_cmp(&b.0.unwrap()));
        let entry = tuned.as_array().unwrap().iter().find(|entry| entry["optimizer"] == optimizer).unwrap();
        assert_eq!(entry["learning_rate"].as_f64(), best.unwrap().1.parse().ok(), "{optimizer}");
    }
    assert!(workplace.path("search/figures/tuning.svg").exists() && workplace.path("search/report.html").exists());

    // A run at these rates has the very loss of the table when it has a seed of the search.
    let run = ["run", "autoencoder.toml", "--tuned=search", "--epochs", "4", "--seed", "1000000", "--out", "run"];
    workplace.run(&run).exits(0);
    let summary = workplace.json("run/summary.json");
    for optimizer in summary["optimizers"].as_array().unwrap() {
        let (name, rate) = (optimizer["name"].as_str().unwrap(), optimizer["learning_rate"].as_f64());
        let point = |row: &&Vec<String>| row[0] == name && row[1].parse().ok() == rate && row[2] == "1000000";
        let point = rows.iter().find(point).unwrap();
        assert_eq!(optimizer["train_loss"].as_f64(), point[5].parse().ok(), "{name}");
    }
}

#[test]
fn a_search_goes_on_where_it_was_stopped_to_the_same_bytes() {
    let workplace = Workplace::new();
    search(&workplace, "whole", &["--threads", "1"]);
    search(&workplace, "part", &["--threads", "2"]);
    let whole = files(&workplace.path("whole"));
    for name in ["tune.csv", "tuned.toml", "tuned.json"] {
        assert_eq!(whole[name], files(&workplace.path("part"))[name], "{name} with another number of threads");
    }
    // Cut the table as an interruption would have left it, and change a value to tell that it is kept.
    let text = workplace.read("part/tune.csv");
    let kept: Vec<&str> = text.lines().take(12).collect();
    let marked = kept.join("\n").replacen(",15,", ",14,", 1) + "\n";
    fs::write(workplace.path("part/tune.csv"), &marked).unwrap();
    fs::remove_file(workplace.path("part/tuned.toml")).unwrap();
    search(&workplace, "part", &[]);
    let text = workplace.read("part/tune.csv");
    assert_eq!(
        text.replacen(",14,", ",15,", 1),
        workplace.read("whole/tune.csv"),
        "known points are not computed again"
    );
    assert_eq!(workplace.read("part/tuned.toml"), workplace.read("whole/tuned.toml"));
}

#[test]
fn searches_and_rates_of_other_tasks_are_refused() {
    let workplace = Workplace::new();
    search(&workplace, "search", &[]);
    let other = [&SEARCH[..], &["--out", "search", "--epochs", "2"]].concat();
    workplace.run(&other).exits(2).says(&["another experiment", "--out"]);
    let narrow = "network.layers=[{dense=4},\"relu\",{dense=64}]";
    let run = ["run", "autoencoder.toml", "--tuned=search", "--set", narrow, "--out", "run"];
    workplace.run(&run).exits(2).says(&["tuned.toml", "another dataset, network"]);
    workplace.run(&["run", "autoencoder.toml", "--tuned", "--out", "run"]).exits(2).says(&["taylorscope tune"]);
    fs::create_dir(workplace.path("full")).unwrap();
    fs::write(workplace.path("full/thesis.tex"), "mine").unwrap();
    let occupied = [&SEARCH[..], &["--out", "full"]].concat();
    workplace.run(&occupied).exits(2).says(&["not empty"]);
}
