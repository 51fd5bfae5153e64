//! Random experiment files: each runs, or is refused with exit code 2 and a message that names the key. None panics.

use crate::support::{Workplace, random::Random};
use std::{fs, ops::Range};

/// Draws experiments.
struct Draw(Random);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0.below(end)
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn sometimes(&mut self) -> bool {
        self.below(2) == 0
    }

    /// Keys with valid values, in sections.
    fn valid(&mut self) -> Vec<(&'static str, &'static str, String)> {
        let classifier = self.sometimes();
        let outputs = if classifier { 10 } else { 64 };
        let mut layers = Vec::new();
        let rectifiers = ["\"relu\"", "\"leaky_relu\"", "{ leaky_relu = 0.3 }", "\"abs\""];
        if self.below(3) == 0 {
            let (maps, kernel) = (1 + self.below(3), 1 + self.below(3));
            layers.push(format!("{{ conv = {{ maps = {maps}, kernel = {kernel}, padding = {} }} }}", kernel / 2));
            layers.push(self.one(&rectifiers).to_owned());
            if kernel != 2 {
                layers.push(self.one(&["{ max_pool = 2 }", "{ avg_pool = 2 }"]).to_owned());
            }
            layers.push("\"flatten\"".to_owned());
        }
        for _ in 0..self.below(3) {
            layers.push(format!("{{ dense = {} }}", 1 + self.below(5)));
            if self.sometimes() {
                layers.push(self.one(&rectifiers).to_owned());
            }
        }
        layers.push(format!("{{ dense = {outputs} }}"));
        let quoted = |text: &str| format!("\"{text}\"");
        let mut keys = vec![
            ("", "name", quoted(self.one(&["a", "b-1", "C_.2"]))),
            ("", "seed", self.below(1000).to_string()),
            ("data", "dataset", quoted("digits")),
            ("data", "standardize", self.sometimes().to_string()),
            ("data", "validation", (self.below(2) * 100).to_string()),
            ("network", "layers", format!("[{}]", layers.join(", "))),
            ("training", "loss", quoted(if classifier { "cross_entropy" } else { "mse" })),
            ("training", "target", quoted(if classifier { "label" } else { "input" })),
            ("training", "batch_size", self.one(&["1", "37", "350", "1400"]).to_owned()),
            ("training", "epochs", "1".to_owned()),
            ("training", "precision", quoted(self.one(&["f32", "f64"]))),
        ];
        // With minibatches of one, an epoch is long.
        let long = keys.iter().any(|(_, key, value)| *key == "batch_size" && value == "1");
        let scales = ["[]", "[\"neuron\"]", "[\"layer\"]", "[\"network\", \"layer\", \"neuron\"]"];
        keys.push(("regret", "scales", if long { "[]".to_owned() } else { self.one(&scales).to_owned() }));
        keys.push(("regret", "neurons", self.one(&["\"all\"", "1", "3", "1000"]).to_owned()));
        keys.push(("regret", "prefixes", self.one(&["1", "2", "5"]).to_owned()));
        let comparators = ["[\"ball\"]", "[\"unconstrained\"]", "[\"ball\", \"unconstrained\"]"];
        keys.push(("regret", "comparators", self.one(&comparators).to_owned()));
        keys.push(("regret", "window", self.one(&["\"epoch\"", "\"all\"", "2", "100000"]).to_owned()));
        if self.sometimes() {
            keys.push(("regret", "rounds", self.one(&["1", "3", "100000"]).to_owned()));
        }
        keys.push(("regret", "max_products", self.one(&["1", "8"]).to_owned()));
        keys.push(("regret", "tolerance", self.one(&["1e-2", "0.5"]).to_owned()));
        keys.push(("regret", "neuron_tolerance", self.one(&["1e-2", "0.5"]).to_owned()));
        keys.push(("regret", "ball_factor", self.one(&["0.5", "2", "1e6"]).to_owned()));
        keys.push(("exploration", "probe", self.one(&["0", "1", "65", "100000"]).to_owned()));
        keys.push(("exploration", "every", self.one(&["\"epoch\"", "\"all\"", "3"]).to_owned()));
        keys
    }

    fn optimizer(&mut self) -> String {
        let name = self.one(&["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "adagrad", "sign_sgd", "ogd"]);
        let schedule = self.one(&["constant", "inverse_sqrt", "cosine"]);
        let rate = self.one(&["0", "1e-3", "0.01"]);
        format!(
            "[[optimizer]]\nname = \"{name}\"\nlearning_rate = {rate}\nschedule = \"{schedule}\"\nwarmup = {}\n",
            self.below(4)
        )
    }
}

/// Keys with values that no experiment may have.
const INVALID: &[(&str, &str, &str)] = &[
    ("", "name", "\"\""),
    ("", "name", "\"../up\""),
    ("", "seed", "-1"),
    ("", "seed", "\"x\""),
    ("", "sede", "1"),
    ("data", "dataset", "\"digist\""),
    ("data", "dataset", "7"),
    ("data", "standardize", "\"no\""),
    ("data", "validation", "1500"),
    ("data", "validation", "9000000000000000000"),
    ("data", "valdation", "1"),
    ("network", "layers", "[]"),
    ("network", "layers", "[{ dense = 0 }, { dense = 64 }]"),
    ("network", "layers", "[{ dense = 3 }]"),
    ("network", "layers", "[\"relu\", { dense = 64 }]"),
    ("network", "layers", "[{ dense = 9000000000000000000 }, { dense = 64 }]"),
    ("network", "layers", "[{ dnse = 64 }]"),
    ("network", "layers", "[{ conv = { maps = 2, kernel = 99 } }, \"flatten\", { dense = 64 }]"),
    ("network", "layers", "\"dense\""),
    ("training", "loss", "\"hinge\""),
    ("training", "target", "\"inputs\""),
    ("training", "batch_size", "0"),
    ("training", "batch_size", "-3"),
    ("training", "batch_size", "100000"),
    ("training", "batch_size", "1.5"),
    ("training", "epochs", "0"),
    ("training", "epochs", "9000000000000000000"),
    ("training", "precision", "\"f16\""),
    ("training", "stop_at_train_accuracy", "2.0"),
    ("regret", "scales", "[\"neurons\"]"),
    ("regret", "scales", "[\"layer\", \"layer\"]"),
    ("regret", "neurons", "0"),
    ("regret", "prefixes", "0"),
    ("regret", "comparators", "[\"sphere\"]"),
    ("regret", "window", "0"),
    ("regret", "window", "\"some\""),
    ("regret", "rounds", "0"),
    ("regret", "max_products", "0"),
    ("regret", "tolerance", "0"),
    ("regret", "tolerance", "nan"),
    ("regret", "neuron_tolerance", "1.0"),
    ("regret", "ball_factor", "-1"),
    ("regret", "ball_factor", "inf"),
    ("exploration", "probe", "-1"),
    ("exploration", "every", "0"),
    ("exploration", "evry", "1"),
];

fn text(keys: &[(&str, &str, String)], optimizers: &[String]) -> String {
    let mut text = String::new();
    for section in ["", "data", "network", "training", "regret", "exploration"] {
        if !section.is_empty() {
            text.push_str(&format!("[{section}]\n"));
        }
        for (_, key, value) in keys.iter().filter(|(of, ..)| *of == section) {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    text + &optimizers.concat()
}

/// Runs the experiments of these numbers, one after the other.
fn check_all(numbers: Range<u64>) {
    let workplace = Workplace::new();
    numbers.for_each(|number| check(&workplace, number));
}

fn check(workplace: &Workplace, number: u64) {
    let mut draw = Draw(Random::new(number));
    let mut keys = draw.valid();
    let mut optimizers: Vec<String> = (0..1 + draw.below(2)).map(|_| draw.optimizer()).collect();
    let mut culprit = None;
    match draw.below(5) {
        0 | 1 => {
            let (section, key, value) = INVALID[draw.below(INVALID.len())];
            keys.retain(|(of, name, _)| (*of, *name) != (section, key));
            keys.push((section, key, value.to_owned()));
            culprit = Some(key);
        }
        2 => {
            let key = draw.one(&["name", "dataset", "layers", "loss", "target", "batch_size", "epochs"]);
            keys.retain(|(_, name, _)| *name != key);
            culprit = Some(key);
        }
        3 => {
            let (line, key) =
                [("learning_rate = -1\n", "learning_rate"), ("momentun = 1\n", "momentun")][draw.below(2)];
            optimizers = vec![format!("[[optimizer]]\nname = \"sgd\"\n{line}")];
            if key != "learning_rate" {
                optimizers[0].push_str("learning_rate = 0.1\n");
            }
            culprit = Some(key);
        }
        _ => {}
    }
    let experiment = text(&keys, &optimizers);
    fs::write(workplace.path("random.toml"), &experiment).unwrap();
    let ended = workplace.run(&["run", "random.toml", "--out", "random", "--overwrite"]);
    let context = || format!("experiment {number}:\n{experiment}\nstderr:\n{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", context());
    match culprit {
        None => assert_eq!(ended.code, Some(0), "{}", context()),
        Some(key) => {
            assert_eq!(ended.code, Some(2), "{key}; {}", context());
            assert!(ended.stderr.contains(key), "{key} is not named; {}", context());
        }
    }
}

/// Tests that run side by side, each with its share of the experiments.
macro_rules! random_experiments_run_or_are_refused_by_their_key {
    ($($name:ident: $numbers:expr),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                check_all($numbers);
            }
        )+
    };
}

random_experiments_run_or_are_refused_by_their_key! {
    random_experiments_0_to_14: 0..15,
    random_experiments_15_to_29: 15..30,
    random_experiments_30_to_44: 30..45,
    random_experiments_45_to_59: 45..60,
}

#[test]
#[ignore = "minutes: 2000 experiments"]
fn two_thousand_random_experiments_run_or_are_refused_by_their_key() {
    check_all(60..2060);
}
