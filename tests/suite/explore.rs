//! The exploration study as users meet it: its files, the same bytes however it is run, and what it refuses.

use crate::support::{Workplace, files, table};
use std::fs;

/// Two seeds of 15 rounds, at given rates instead of a search.
fn study(workplace: &Workplace, out: &str, more: &[&str]) -> String {
    let arguments = ["explore", "autoencoder.toml", "--seeds", "2", "--fine", "3", "--tuned", "rates", "--out", out];
    workplace.run(&[&arguments[..], more].concat()).exits(0).stdout
}

fn workplace() -> Workplace {
    let workplace = Workplace::new();
    fs::create_dir(workplace.path("rates")).unwrap();
    let momentum = "\n[[optimizer]]\nname = \"momentum\"\nlearning_rate = 0.3\n";
    fs::write(workplace.path("rates/tuned.toml"), crate::support::AUTOENCODER.to_owned() + momentum).unwrap();
    workplace
}

#[test]
fn a_study_has_every_run_and_a_verdict_for_every_claim() {
    let workplace = workplace();
    let printed = study(&workplace, "study", &[]);
    let (header, rows) = table(&workplace.read("study/explore.csv"));
    assert_eq!(header[..6].join(","), "group,optimizer,factor,epsilon,learning_rate,seed");
    // Three optimizers at six rates and a sweep of eight, from two seeds.
    assert_eq!(rows.len(), (3 * 6 + 8) * 2);
    for row in rows.iter().filter(|row| row[7] == "complete") {
        let (numbers, one_epoch) = (row[8..].iter().enumerate(), 24 - 8);
        // With one epoch there is no step by epochs after the first.
        for (at, cell) in numbers {
            assert!(cell.parse::<f64>().is_ok_and(f64::is_finite) != (at == one_epoch), "{at}: {row:?}");
        }
    }
    assert!(rows.iter().filter(|row| row[7] == "complete").count() > 40);
    // The runs at the tuned rate are those of `run`, loss for loss.
    workplace.run(&["run", "autoencoder.toml", "--seed", "1", "--out", "run"]).exits(0);
    let summary = workplace.json("run/summary.json");
    for optimizer in summary["optimizers"].as_array().unwrap() {
        let name = optimizer["name"].as_str().unwrap();
        let row = rows.iter().find(|row| row[1] == name && row[2] == "1.0" && row[5] == "1").unwrap();
        assert_eq!(row[8].parse().ok(), optimizer["train_loss"].as_f64(), "{name}");
        // Coarse metrics: a configuration per epoch, 0 and 15, so both novelty and switches are one distance, the first
        // step's.
        assert_eq!((&row[14], &row[14]), (&row[15], &row[23]), "{name}");
    }
    let (_, signs) = table(&workplace.read("study/signs.csv"));
    assert!(signs.iter().all(|row| row[4..].iter().all(|cell| (-1.0..=1.0).contains(&cell.parse::<f64>().unwrap()))));
    assert_eq!(signs.iter().map(|row| &row[3]).collect::<std::collections::BTreeSet<_>>().len(), 3, "three layers");
    for subject in ["Adam − SGD, tuned rates", "Adam − SGD, equal distance", "epsilon, Adam to momentum", "along SGD"]
    {
        let line = printed.lines().find(|line| line.starts_with(subject));
        let line = line.unwrap_or_else(|| panic!("{subject}\n{printed}"));
        assert!(line.ends_with("undecided") && line.contains('?'), "two seeds decide nothing: {line}");
    }
    assert!(printed.contains("undecided: 2 seeds give no useful interval; use at least 3"), "{printed}");
    for figure in ["study-tuned", "study-distance", "study-loss", "study-epsilon", "signs"] {
        assert!(workplace.path(&format!("study/figures/{figure}.svg")).exists(), "{figure}");
    }
    assert!(workplace.read("study/report.html").contains("At tuned rates"));
}

#[test]
fn a_study_goes_on_where_it_was_stopped_to_the_same_bytes() {
    let workplace = workplace();
    study(&workplace, "whole", &["--threads", "1"]);
    study(&workplace, "part", &["--threads", "2"]);
    let names = ["explore.csv", "signs.csv"];
    let whole = files(&workplace.path("whole"));
    for name in names {
        assert_eq!(whole[name], files(&workplace.path("part"))[name], "{name} with another number of threads");
    }
    let text = workplace.read("part/explore.csv");
    let kept: Vec<&str> = text.lines().enumerate().filter(|(at, _)| *at == 0 || at % 3 == 0).map(|(_, l)| l).collect();
    fs::write(workplace.path("part/explore.csv"), kept.join("\n") + "\n").unwrap();
    study(&workplace, "part", &[]);
    for name in names {
        assert_eq!(whole[name], files(&workplace.path("part"))[name], "{name} after an interruption");
    }
}

#[test]
fn a_smaller_study_is_part_of_the_larger_one() {
    let workplace = workplace();
    let smaller = ["--factors", "0.5,2", "--epsilons", "1e-8,100", "--optima", "tuned"];
    study(&workplace, "part", &smaller);
    let (header, rows) = table(&workplace.read("part/explore.csv"));
    assert_eq!(rows.len(), (3 * 3 + 2) * 2);
    let optimum = header.iter().position(|name| name == "taylor_optimum").unwrap();
    for row in rows.iter().filter(|row| row[7] == "complete") {
        assert_eq!(row[optimum].is_empty(), row[2] != "1.0", "optima at the tuned rate only: {row:?}");
    }
    // The larger study goes on from its runs, and keeps them.
    study(&workplace, "part", &[]);
    let (_, all) = table(&workplace.read("part/explore.csv"));
    assert_eq!(all.len(), (3 * 6 + 8) * 2);
    assert!(rows.iter().all(|row| all.contains(row)));
    let wrong = ["explore", "autoencoder.toml", "--tuned", "rates", "--out", "x", "--factors", "0.5,-1"];
    workplace.run(&wrong).exits(2).says(&["positive numbers"]);
}

#[test]
fn other_studies_and_full_folders_are_refused() {
    let workplace = workplace();
    study(&workplace, "study", &[]);
    let arguments = ["explore", "autoencoder.toml", "--tuned", "rates", "--out", "study", "--epochs", "2"];
    workplace.run(&arguments).exits(2).says(&["another experiment"]);
    fs::create_dir(workplace.path("full")).unwrap();
    fs::write(workplace.path("full/thesis.tex"), "mine").unwrap();
    workplace.run(&["explore", "autoencoder.toml", "--tuned", "rates", "--out", "full"]).exits(2).says(&["not empty"]);
    workplace
        .run(&["explore", "autoencoder.toml", "--tuned", "nowhere", "--out", "x"])
        .exits(2)
        .says(&["taylorscope tune"]);
}
