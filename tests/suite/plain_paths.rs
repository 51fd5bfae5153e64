//! The whole analysis with every fast path turned off (`TAYLORSCOPE_PLAIN`) against the usual one.

use super::support::{Workplace, table};

/// Two convolutions of 16 maps, of which the second goes through transforms in single precision and through its pool's winners in double.
const LAYERS: &str = r#"network.layers=[{conv={maps=16,kernel=3,padding=1}},"relu",{conv={maps=16,kernel=3,padding=1}},"relu",{max_pool=2},"flatten",{dense=10}]"#;

/// A column of a table, as numbers.
fn column(text: &str, name: &str) -> Vec<f64> {
    let (header, rows) = table(text);
    let at = header.iter().position(|known| known == name).unwrap_or_else(|| panic!("{name} of {header:?}"));
    rows.iter().map(|row| row[at].parse().unwrap()).collect()
}

/// Runs an experiment in both ways. Losses must agree to `tolerance`, relatively, and optima to that and their gaps.
fn both_ways(experiment: &str, sets: &[&str], tolerance: f64) {
    let workplace = Workplace::new();
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
    let run = |out: &str, plain: bool| {
        let arguments = [&["run", experiment, "--optimizer", "sgd", "--out", out], &sets[..]].concat();
        let mut command = workplace.command(&arguments);
        if plain {
            command.env("TAYLORSCOPE_PLAIN", "1");
        }
        let output = command.output().expect("the program starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        ["rounds", "regret"].map(|name| workplace.read(&format!("{out}/sgd/{name}.csv")))
    };
    let ([fast_rounds, fast], [plain_rounds, plain]) = (run("fast", false), run("plain", true));
    assert_ne!(fast_rounds, plain_rounds, "other instructions round differently: the switch has an effect");
    let losses = [&fast_rounds, &plain_rounds].map(|text| column(text, "loss"));
    assert_eq!(losses[0].len(), losses[1].len());
    for (a, b) in losses[0].iter().zip(&losses[1]) {
        assert!((a - b).abs() <= tolerance * a, "losses {a} and {b}");
    }
    let keys = |text: &str| -> Vec<Vec<String>> { table(text).1.iter().map(|row| row[..5].to_vec()).collect() };
    assert_eq!(keys(&fast), keys(&plain));
    let numbers = |name: &str| column(&fast, name).into_iter().zip(column(&plain, name));
    let results = numbers("mean_loss").zip(numbers("taylor_optimum").zip(numbers("gap"))).zip(keys(&fast));
    for (((mean_a, mean_b), ((a, b), (gap_a, gap_b))), key) in results {
        assert!((mean_a - mean_b).abs() <= tolerance * mean_a, "{key:?}: mean losses {mean_a} and {mean_b}");
        // Both are within their gaps above what is the same minimum but for rounding.
        let apart = gap_a.max(gap_b) + tolerance * mean_a;
        assert!((a - b).abs() <= apart, "{key:?}: optima {a} and {b}, gaps {gap_a} and {gap_b}");
    }
}

#[test]
fn the_plain_way_gives_the_same_optima_of_an_autoencoder() {
    // What is certified of both ways is the ball's optimum.
    let sets = ["training.precision=\"f64\"", "regret.comparators=[\"ball\"]", "regret.max_products=60"];
    both_ways("autoencoder.toml", &sets, 1e-8);
}

#[test]
fn the_plain_way_gives_the_same_optima_of_a_classifier() {
    both_ways("classifier.toml", &["training.precision=\"f64\""], 1e-8);
}

#[test]
fn the_plain_way_gives_the_same_optima_of_a_convolutional_network() {
    let sets = [LAYERS, "training.epochs=1", "regret.rounds=4", "regret.prefixes=2", "regret.max_products=20"];
    // Training is in single precision, whose differences grow over the rounds.
    both_ways("convnet.toml", &sets, 1e-4);
}
