//! `taylorscope landscape` and `reproduce fig1` as users meet them.

use crate::support::{Workplace, files, table};
use std::fs;

const KINKS: &str = "datapoint,at,layer,neuron,position,change";
const PIECES: &str = "from,to,loss,loss_end,slope,slope_end,taylor,taylor_end,taylor_slope,taylor_slope_end,output,\
                      output_end,output_slope,output_slope_end";
const STEPS: &str = "round,at,distance,loss";
const UPDATES: &str = "optimizer,round,loss,loss_after,taylor_loss,first_order_loss,step,kinks,changed,cosine";

/// A workplace with a run that kept its traces.
fn with_run() -> Workplace {
    let workplace = Workplace::new();
    let plain = ["--set", "regret.scales=[]", "--set", "exploration.probe=0"];
    workplace.run(&[&["run", "autoencoder.toml", "--keep-trace", "--out", "run"][..], &plain].concat()).exits(0);
    workplace
}

#[test]
fn every_kind_of_segment_through_a_run_has_its_tables() {
    let workplace = with_run();
    let kinds: [(&str, &[&str]); 5] = [
        ("input", &["input", "--through", "0..7"]),
        ("neuron", &["neuron", "2.1"]),
        ("layer", &["layer", "0"]),
        ("gradient", &["gradient"]),
        ("update", &["update", "7"]),
    ];
    for (name, words) in kinds {
        let arguments = [&["landscape", "run", "--out", name, "--updates", "3", "--along"][..], words].concat();
        let ended = workplace.run(&arguments).exits(0);
        assert!(ended.stdout.contains("report.html") && ended.stdout.contains("kinks"), "{}", ended.stdout);
        let text = |file: &str| workplace.read(&format!("{name}/{file}"));
        let summary = workplace.json(&format!("{name}/landscape.json"));
        assert!(words.join(" ").starts_with(summary["along"].as_str().unwrap()), "{summary}");
        let polynomial = matches!(name, "gradient" | "update");
        assert_eq!(summary["degree"], if polynomial { 3 } else { 1 }, "{name}");
        let (kinks, pieces) = (text("kinks.csv"), text("pieces.csv"));
        assert_eq!(kinks.lines().next(), Some(KINKS));
        assert_eq!(pieces.lines().next(), Some(PIECES));
        let (kinks, pieces) = (table(&kinks).1, table(&pieces).1);
        assert_eq!(kinks.len() as u64, summary["kinks"].as_u64().unwrap());
        assert!(!kinks.is_empty() && kinks.iter().all(|row| ["0", "2"].contains(&row[2].as_str())), "{name}");
        // Pieces follow each other over the whole range, and the loss is continuous.
        let number = |cell: &String| cell.parse::<f64>().unwrap();
        for two in pieces.windows(2) {
            assert_eq!(two[0][1], two[1][0]);
            assert!((number(&two[0][3]) - number(&two[1][2])).abs() < 1e-12 * number(&two[0][3]).abs().max(1.0));
        }
        assert_eq!(number(&pieces[0][0]), summary["from"].as_f64().unwrap());
        if name == "input" {
            assert!(!workplace.path("input/steps.csv").exists() && !workplace.path("input/updates.csv").exists());
        } else {
            assert_eq!(text("steps.csv").lines().next(), Some(STEPS));
            assert_eq!(text("updates.csv").lines().next(), Some(UPDATES));
            let updates = table(&text("updates.csv")).1;
            let rounds: Vec<(&str, &str)> = updates.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
            let each = ["1", "4", "15"];
            let expected: Vec<_> = ["sgd", "adam"].iter().flat_map(|o| each.iter().map(move |r| (*o, *r))).collect();
            assert_eq!(rounds, expected);
        }
        assert!(text("report.html").contains("Function, gradient and kinks"));
        assert!(workplace.path(&format!("{name}/figures/segment.png")).exists());
    }
    // The update's own ends lie on its segment, with the losses that the function has there.
    let steps = table(&workplace.read("update/steps.csv")).1;
    let updates = table(&workplace.read("update/pieces.csv")).1;
    let at = |round: &str| steps.iter().find(|row| row[0] == round).unwrap();
    assert!(at("7")[1].parse::<f64>().unwrap().abs() < 1e-9 && at("7")[2].parse::<f64>().unwrap() < 1e-9);
    assert!((at("8")[1].parse::<f64>().unwrap() - 1.0).abs() < 1e-9);
    let loss: f64 = at("8")[3].parse().unwrap();
    let piece = updates.iter().find(|row| row[1].parse::<f64>().unwrap() >= 1.0).unwrap();
    let near = |cell: &String| (cell.parse::<f64>().unwrap() - loss).abs() < 0.01 * loss;
    assert!(near(&piece[2]) && near(&piece[3]), "{piece:?}, {loss}");
}

#[test]
fn a_run_an_experiment_and_weights_agree_whatever_the_threads() {
    let workplace = with_run();
    // A trace and training again are the same weights; the trace is of a folder of its own.
    let along = ["--along", "update", "4", "--optimizer", "adam", "--updates", "0"];
    workplace.run(&[&["landscape", "run", "--out", "a", "--threads", "1"][..], &along].concat()).exits(0);
    workplace.run(&[&["landscape", "autoencoder.toml", "--out", "b", "--threads", "3"][..], &along].concat()).exits(0);
    for name in ["kinks.csv", "pieces.csv", "steps.csv"] {
        assert_eq!(workplace.read(&format!("a/{name}")), workplace.read(&format!("b/{name}")), "{name}");
    }
    let svg = |folder: &str| workplace.read(&format!("{folder}/figures/segment.svg"));
    assert_eq!(svg("a"), svg("b"));
    let trace = ["landscape", "run/adam/trace", "--out", "c", "--along", "update", "4", "--updates", "2"];
    workplace.run(&trace).exits(0);
    assert_eq!(workplace.read("a/kinks.csv"), workplace.read("c/kinks.csv"));

    // The final weights, as a file.
    let shard = fs::read(workplace.path("run/sgd/trace/weights-00000.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&shard).unwrap();
    let last: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let states = view.shape()[0];
            let size = view.data().len() / states;
            (name, view.shape()[1..].to_vec(), view.data()[(states - 1) * size..].to_vec())
        })
        .collect();
    let views: Vec<(&str, safetensors::tensor::TensorView)> = last
        .iter()
        .map(|(name, shape, bytes)| {
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap();
            (name.as_str(), view)
        })
        .collect();
    fs::write(workplace.path("final.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let input = ["--along", "input", "--through", "5..9"];
    workplace.run(&[&["landscape", "run", "--out", "d"][..], &input].concat()).exits(0);
    let weights = ["landscape", "final.safetensors", "--experiment", "autoencoder.toml", "--out", "e"];
    workplace.run(&[&weights[..], &input].concat()).exits(0);
    assert_eq!(workplace.read("d/pieces.csv"), workplace.read("e/pieces.csv"));
}

#[test]
fn training_again_finds_the_weights_that_a_trace_would_have() {
    let workplace = Workplace::new();
    let settings = ["--set", "regret.scales=[]", "--set", "exploration.probe=0", "--set", "data.validation=297"];
    workplace.run(&[&["run", "autoencoder.toml", "--keep-trace", "--out", "run"][..], &settings].concat()).exits(0);
    let along = ["landscape", "run", "--along", "gradient", "--optimizer", "adam", "--updates", "3", "--out"];
    workplace.run(&[&along[..], &["kept"]].concat()).exits(0);
    for optimizer in ["sgd", "adam"] {
        fs::remove_dir_all(workplace.path(&format!("run/{optimizer}/trace"))).unwrap();
    }
    workplace.run(&[&along[..], &["again"]].concat()).exits(0);
    for name in ["kinks.csv", "pieces.csv", "steps.csv", "updates.csv", "landscape.json"] {
        assert_eq!(workplace.read(&format!("kept/{name}")), workplace.read(&format!("again/{name}")), "{name}");
    }
}

#[test]
fn classifiers_have_landscapes_too() {
    let workplace = Workplace::new();
    for (name, words) in [("input", &["input"][..]), ("gradient", &["gradient"]), ("update", &["update", "3"])] {
        let arguments = [&["landscape", "classifier.toml", "--updates", "2", "--out", name, "--along"][..], words];
        workplace.run(&arguments.concat()).exits(0);
        assert!(table(&workplace.read(&format!("{name}/pieces.csv"))).1.len() > 100);
    }
    assert_eq!(table(&workplace.read("update/updates.csv")).1.len(), 2);
}

#[test]
fn wrong_requests_say_what_is_possible() {
    let workplace = with_run();
    let cases: [(&[&str], &[&str]); 16] = [
        (&["run", "--along", "layer", "1"], &["layer 1 has no weights", "0, 2, 4"]),
        (&["run", "--along", "neuron", "2.6"], &["neurons 0 to 5"]),
        (&["run", "--along", "neuron", "2"], &["neuron 2.5"]),
        (&["run", "--along", "update", "0"], &["count from 1"]),
        (&["run", "--along", "update", "16"], &["no weights of round 17"]),
        (&["run", "--along", "sideways"], &["write input, neuron L.M"]),
        (&["run", "--along", "input", "--through", "0..9999"], &["two rows of the data"]),
        (&["run", "--along", "gradient", "--through", "1..0"], &["below the second"]),
        (&["run", "--along", "gradient", "--through", "one"], &["two numbers"]),
        (&["run", "--along", "gradient", "--datapoints", "3..3"], &["--datapoints"]),
        (&["run", "--along", "gradient", "--datapoints", "0..99999"], &["rows 0 to"]),
        (&["run", "--along", "gradient", "--optimizer", "lion"], &["known: sgd, adam"]),
        (&["run", "--along", "input", "--output", "64"], &["outputs 0 to 63"]),
        (&["run", "--along", "gradient", "--round", "99"], &["from 1 to 16"]),
        (&["w.safetensors", "--along", "input"], &["--experiment"]),
        (&["cache", "--along", "input"], &["experiment.toml"]),
    ];
    fs::create_dir_all(workplace.path("cache")).unwrap();
    for (arguments, texts) in cases {
        workplace.run(&[&["landscape"][..], arguments].concat()).exits(2).says(texts);
    }
    // Nothing was written for them; a folder of something else is left alone; another landscape only with --overwrite.
    assert!(!workplace.path("runs").exists());
    let along = ["--along", "input"];
    workplace.run(&[&["landscape", "run", "--out", "run"][..], &along].concat()).exits(2).says(&["not empty"]);
    workplace.run(&[&["landscape", "run", "--out", "x"][..], &along].concat()).exits(0);
    workplace.run(&[&["landscape", "run", "--out", "x"][..], &along].concat()).exits(2).says(&["--overwrite"]);
    workplace.run(&[&["landscape", "run", "--out", "x", "--overwrite"][..], &along].concat()).exits(0);
    // The default target and the target behind a single word.
    workplace.run(&["landscape", "--along", "input", "autoencoder.toml"]).exits(0);
    assert!(workplace.path("runs/landscape/report.html").exists());
}

#[test]
fn planes_are_tiled_by_their_regions() {
    let workplace = Workplace::new();
    for (name, words) in [("inputs", &["3,4,5"][..]), ("weights", &["layer", "2"])] {
        let arguments = [&["landscape", "autoencoder.toml", "--out", name, "--plane"][..], words].concat();
        workplace.run(&arguments).exits(0);
        let (header, rows) = table(&workplace.read(&format!("{name}/regions.csv")));
        assert_eq!(header, ["area", "value", "slope", "loss", "polygon"]);
        let summary = workplace.json(&format!("{name}/landscape.json"));
        let number = |value: &serde_json::Value| value.as_f64().unwrap();
        let plane = &summary["plane"];
        let size =
            (number(&summary["to"]) - number(&summary["from"])) * (number(&plane["v_to"]) - number(&plane["v_from"]));
        let area: f64 = rows.iter().map(|row| row[0].parse::<f64>().unwrap()).sum();
        assert!((area - size).abs() < 1e-9 * size && rows.len() > 2, "{name}: {} regions", rows.len());
        assert_eq!(summary["pieces"].as_u64(), Some(rows.len() as u64));
        assert!(workplace.read(&format!("{name}/report.html")).contains("Linear regions on a plane"));
        assert!(workplace.path(&format!("{name}/figures/regions.png")).exists());
    }
    // Zooming in, and the loss at a datapoint.
    let zoom = ["--plane", "3,4,5", "--u", "-0.1..0.1", "--v", "-0.1..0.1", "--out", "zoom"];
    workplace.run(&[&["landscape", "autoencoder.toml"][..], &zoom].concat()).exits(0);
    assert_eq!(workplace.json("zoom/landscape.json")["from"], -0.1);
    for (words, text) in [
        (&["3,3,4"][..], "on a line"),
        (&["1,2"], "three rows"),
        (&["0,1,99999"], "does not exist"),
        (&["layer", "1"], "has no weights"),
        (&["0,1,2", "--u", "1..0"], "below the second"),
        (&["0,1,2", "--along", "input"], "cannot be used with"),
    ] {
        workplace.run(&[&["landscape", "autoencoder.toml", "--plane"][..], words].concat()).exits(2).says(&[text]);
    }
}

#[test]
fn convolutional_networks_have_landscapes_too() {
    let workplace = Workplace::new();
    let text = crate::support::CLASSIFIER.replace(
        "layers = [{ dense = 8 }, \"leaky_relu\", { dense = 10 }]",
        "layers = [{ conv = { maps = 3, kernel = 3, padding = 1 } }, \"relu\", { max_pool = 2 }, \"flatten\", { dense = 10 }]",
    );
    assert!(text.contains("max_pool"));
    fs::write(workplace.path("conv.toml"), text).unwrap();
    for (name, words) in [("input", &["input"][..]), ("layer", &["layer", "0"]), ("update", &["update", "3"])] {
        let arguments = [&["landscape", "conv.toml", "--updates", "2", "--out", name, "--along"][..], words].concat();
        workplace.run(&arguments).exits(0);
        let kinks = table(&workplace.read(&format!("{name}/kinks.csv"))).1;
        // Filters at their positions, windows of the pool at theirs.
        assert!(kinks.iter().any(|row| row[2] == "0" && ["on", "off"].contains(&row[5].as_str())), "{name}");
        assert!(kinks.iter().any(|row| row[2] == "2" && row[5].contains('>')), "{name}");
        let below = |row: &Vec<String>, position: usize| {
            row[3].parse::<usize>().unwrap() < 3 && row[4].parse::<usize>().unwrap() < position
        };
        assert!(kinks.iter().all(|row| below(row, if row[2] == "0" { 64 } else { 16 })), "{name}");
    }
    workplace
        .run(&["landscape", "conv.toml", "--plane", "0,1,2", "--u", "0..0.5", "--v", "0..0.5", "--out", "p"])
        .exits(0);
}

#[test]
fn figure_one_is_reproduced() {
    let workplace = Workplace::new();
    workplace.run(&["reproduce", "fig1", "--quick", "--out", "one"]).exits(0);
    let growth = table(&workplace.read("one/fig1/growth.csv")).1;
    let tents: Vec<f64> =
        growth.iter().filter(|row| row[0] == "tent").map(|row| row[5].parse::<f64>().unwrap()).collect();
    assert_eq!(tents, (1..=12).map(|k| f64::from((1u32 << k) - 1)).collect::<Vec<_>>());
    let (header, rows) = table(&workplace.read("one/fig1/autocorrelation.csv"));
    assert_eq!(header, ["depth", "width", "lag", "autocorrelation", "standard_error"]);
    // At lag 0 it is 1; a tenth of the segment away the deepest networks have forgotten more than the shallowest.
    let at = |depth: &str, lag: f64| -> f64 {
        let near = |row: &&Vec<String>| row[0] == depth && (row[2].parse::<f64>().unwrap() - lag).abs() < 0.006;
        rows.iter().find(near).unwrap()[3].parse().unwrap()
    };
    assert!((at("1", 0.0) - 1.0).abs() < 1e-12 && (at("32", 0.0) - 1.0).abs() < 1e-12);
    assert!(at("32", 0.1) < at("1", 0.1) - 0.2);
    let figures = files(&workplace.path("one/fig1/figures"));
    for name in ["functions.png", "growth.svg", "autocorrelation.svg", "segment.png", "updates.svg"] {
        assert!(figures.contains_key(name), "{name}");
    }
    let page = workplace.read("one/fig1/report.html");
    assert!(!page.contains("NaN") && !page.contains("Not drawn"));
}
