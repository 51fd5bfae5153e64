//! Layers without bias, whole: the steps of optimizers, optima by plain least squares, runs, traces and files of weights. What the tables
//! of problems have without biases is in `passes`, `convolutions`, `facts`, `optima` and `landscape`.

use crate::{
    common::{Numbers, without_biases},
    support::{AUTOENCODER, CLASSIFIER, CONVNET, Workplace, copy_folder, table},
};
use faer::{
    Mat, Side,
    linalg::solvers::{Llt, Solve},
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use std::{borrow::Cow, collections::BTreeMap, fs, path::Path};
use taylorscope::{
    data::Minibatches,
    loss::{Loss, Targets},
    network::{LayerSpec, Network, Rectifier, Shape, he_uniform},
    num::{Real, convert},
    optim::{OptimizerConfig, registry},
    study::tables::{Comparator, Scale},
    taylor::{
        Comparators, RegretSettings, UnitResult, Work,
        chain::{
            layer::{self},
            objective::Windows,
            preconditioners::Preconditioners,
            stream::NeuronStream,
            window::Window,
        },
        recorder::WindowRecorder,
        tracker::UnitTracker,
    },
    train::{Examples, Observer, RoundEngine, Step, Trainer, Training},
};

const RELU: LayerSpec = LayerSpec::Rectifier(Rectifier::Relu);

/// Values of the weights of a network without biases, for one that has them; these are 0.
fn with_zeros<T: Real>(without: &Network, with: &Network, values: &[T]) -> Vec<T> {
    let mut out = vec![T::ZERO; with.parameters()];
    for (own, other) in without.blocks().iter().zip(with.blocks()) {
        for unit in 0..own.units {
            out[other.neuron(unit)][..own.inputs].copy_from_slice(&values[own.neuron(unit)]);
        }
    }
    out
}

/// Steps without biases against those on weights with biases that are 0 and have no gradient.
fn steps_agree<T: Real>(config: &OptimizerConfig, tolerance: f64) {
    let with = Network::new(5, &[LayerSpec::dense(6), RELU, LayerSpec::dense(4)]).unwrap();
    let without = without_biases(&with, 1);
    assert_eq!((without.parameters(), with.parameters()), (54, 64));
    let mut numbers = Numbers::new(7);
    let (inputs, values): (Vec<T>, Vec<T>) = (convert(&numbers.vector(20 * 5)), convert(&numbers.vector(20 * 4)));
    let examples = Examples { inputs: &inputs, features: 5, targets: Targets::Values(&values), target_width: 4 };
    let rows: Vec<u32> = (0..20).collect();
    let mut engine = RoundEngine::new(&without, Loss::Mse, 20);
    let mut weights: Vec<T> = he_uniform(&without, 1);
    let mut padded = with_zeros(&without, &with, &weights);
    let [mut own, mut other] = [&without, &with].map(|network| config.build_for::<T>(network, 24).unwrap());
    for round in 1..=24 {
        engine.compute(&weights, &examples, &rows);
        let gradient = engine.gradient().to_vec();
        let squares: Vec<T> = gradient.iter().map(|g| *g * *g * T::from_f64(0.3)).collect();
        if let Some(buffer) = own.squares() {
            buffer.copy_from_slice(&squares);
        }
        if let Some(buffer) = other.squares() {
            buffer.copy_from_slice(&with_zeros(&without, &with, &squares));
        }
        own.step(round, &mut weights, &gradient);
        other.step(round, &mut padded, &with_zeros(&without, &with, &gradient));
        for optimizer in [&mut own, &mut other] {
            if let Some(buffer) = optimizer.switching(round) {
                buffer.iter_mut().enumerate().for_each(|(i, share)| *share = T::from_f64(0.1 * i as f64));
            }
        }
        let expected = with_zeros(&without, &with, &weights);
        for (a, b) in padded.iter().zip(&expected) {
            let what = format!("{} {}, round {round}", T::NAME, config.name);
            assert!((a.to_f64() - b.to_f64()).abs() <= tolerance * b.to_f64().abs().max(0.01), "{what}: {a:?} {b:?}");
        }
    }
    assert!(weights.iter().all(|w| w.is_finite()) && weights != he_uniform::<T>(&without, 1), "{}", config.name);
}

#[test]
fn every_optimizer_takes_the_steps_that_it_takes_beside_biases_without_gradient() {
    for entry in registry() {
        let mut config = OptimizerConfig::named(entry.name, None).unwrap();
        for (key, value) in [("momentum", 0.5), ("centered", 1.0), ("weight_decay", 0.1)] {
            if entry.settings.iter().any(|setting| setting.name == key) {
                config.settings.insert(key.into(), value);
            }
        }
        steps_agree::<f64>(&config, 1e-9);
        steps_agree::<f32>(&config, 1e-4);
    }
}

/// Every optimizer through the loop, which gives it what it asks for, on a network with and without biases, dense and spatial layers.
#[test]
fn every_optimizer_trains_networks_without_biases() {
    let conv = LayerSpec::Conv { maps: 3, kernel: 3, padding: 1, stride: 1, bias: true };
    let layers = [conv, RELU, LayerSpec::Flatten, LayerSpec::dense(5), RELU, LayerSpec::dense(2)];
    let spatial = Network::new(Shape::from_sizes(&[1, 3, 3]).unwrap(), &layers).unwrap();
    let mut numbers = Numbers::new(2);
    let (inputs, values) = (numbers.vector(24 * 9), numbers.vector(24 * 2));
    let examples = Examples { inputs: &inputs, features: 9, targets: Targets::Values(&values), target_width: 2 };
    let minibatches = Minibatches::new(24, 6, 3).unwrap();
    for (network, entry) in [1, 2].into_iter().flat_map(|step| registry().map(move |entry| (step, entry))) {
        let network = without_biases(&spatial, network);
        let task = Training { network: &network, loss: Loss::Mse, examples, minibatches: &minibatches, epochs: 5 };
        let mut optimizer = OptimizerConfig::named(entry.name, Some(1e-3)).unwrap().build_for(&network, 20).unwrap();
        let initial: Vec<f64> = he_uniform(&network, 0);
        let (mut weights, mut trainer) = (initial.clone(), Trainer::new(&task, 0));
        while trainer.done() < 20 {
            let step = trainer.round(&mut *optimizer, &mut weights, &mut []);
            assert!(matches!(step, Step::Done { .. }), "{}: {step:?}", entry.name);
        }
        let mut engine = RoundEngine::new(&network, Loss::Mse, 24);
        let mut loss = |weights: &[f64]| {
            engine.compute(weights, &examples, &(0..24).collect::<Vec<_>>());
            engine.loss()
        };
        let (before, after) = (loss(&initial), loss(&weights));
        assert!(after < before, "{}: {after} after {before}", entry.name);
    }
}

/// The least of `mean_i (r_i - a_i v)^2` over `v`, by the normal equations; the rows `a_i` have `width` numbers.
fn least_squares(a: &[f64], width: usize, r: &[f64]) -> f64 {
    let count = r.len();
    let at = |i: usize, j: usize| a[i * width + j];
    let gram = Mat::from_fn(width, width, |j, k| {
        (0..count).map(|i| at(i, j) * at(i, k)).sum::<f64>() + if j == k { 1e-12 } else { 0.0 }
    });
    let pulled = Mat::from_fn(width, 1, |j, _| (0..count).map(|i| at(i, j) * r[i]).sum::<f64>());
    let v = Llt::new(gram.as_ref(), Side::Lower).expect("a positive definite matrix").solve(pulled);
    let rest = |i: usize| r[i] - (0..width).map(|j| at(i, j) * v[(j, 0)]).sum::<f64>();
    (0..count).map(|i| rest(i).powi(2)).sum::<f64>() / count as f64
}

/// A network of four inputs, three hidden units and two outputs, and what training it showed.
struct Recorded<T> {
    network: Network,
    inputs: Vec<T>,
    values: Vec<T>,
    window: WindowRecorder<T>,
    tracker: UnitTracker<T>,
    stream: NeuronStream<T>,
}

const SIZES: [usize; 3] = [4, 3, 2];
const ROUNDS: usize = 30;
const BATCH: usize = 6;

fn settings() -> RegretSettings {
    RegretSettings {
        comparators: Comparators::both(),
        neuron_tolerance: 1e-7,
        tolerance: 1e-7,
        ..RegretSettings::default()
    }
}

impl<T: Real> Recorded<T> {
    /// `bias` for each of the two layers.
    fn new(bias: [bool; 2]) -> Self {
        let [features, units, outputs] = SIZES;
        let [hidden, output] =
            [(units, bias[0]), (outputs, bias[1])].map(|(units, bias)| LayerSpec::Dense { units, bias });
        let network = Network::new(features, &[hidden, RELU, output]).unwrap();
        let mut numbers = Numbers::new(11);
        // Targets far from zero: a bias would matter.
        let inputs: Vec<T> = convert(&numbers.vector(24 * features));
        let values: Vec<T> = numbers.vector(24 * outputs).iter().map(|v| T::from_f64(v + 2.0)).collect();
        let minibatches = Minibatches::new(24, BATCH, 5).unwrap();
        let mut recorded = Self {
            window: WindowRecorder::new((1..=ROUNDS).collect()),
            tracker: UnitTracker::new(&network, [ROUNDS]),
            stream: NeuronStream::new(&network, Loss::Mse, &settings(), BATCH),
            network,
            inputs,
            values,
        };
        let Self { network, inputs, values, window, tracker, stream } = &mut recorded;
        let targets = Targets::Values(&values[..]);
        let examples = Examples { inputs: &inputs[..], features, targets, target_width: outputs };
        let task = Training { network, loss: Loss::Mse, examples, minibatches: &minibatches, epochs: ROUNDS };
        let mut trainer = Trainer::new(&task, 0);
        let mut optimizer = OptimizerConfig::named("adam", Some(0.02)).unwrap().build(network).unwrap();
        let mut weights: Vec<T> = he_uniform(network, 4);
        let observers: &mut [&mut dyn Observer<T>] = &mut [window, tracker, stream];
        while trainer.done() < ROUNDS {
            assert!(matches!(trainer.round(&mut *optimizer, &mut weights, observers), Step::Done { .. }));
        }
        recorded
    }

    /// For every neuron of both layers, and for the output layer, the least mean Taylor loss from its definition: plain loops, least squares.
    fn expected(&self) -> (Vec<f64>, f64) {
        let [features, units, outputs] = SIZES;
        let blocks = self.network.blocks();
        let (mut hidden, mut output) = (vec![(Vec::new(), Vec::new()); units], vec![(Vec::new(), Vec::new()); outputs]);
        let mut others = vec![0.0; outputs];
        for (state, rows) in self.window.states.iter().zip(self.window.rows.iter()) {
            let w: Vec<f64> = convert(state);
            // What the weights of a neuron are multiplied by.
            let seen = |l: usize, x: &[f64]| [x, if blocks[l].bias { &[1.0] } else { &[] }].concat();
            let pre = |l: usize, x: &[f64]| -> Vec<f64> {
                let neuron = |u| w[blocks[l].neuron(u)].iter().zip(&seen(l, x)).map(|(w, x)| w * x).sum();
                (0..blocks[l].units).map(neuron).collect()
            };
            for row in rows.iter().map(|row| *row as usize) {
                let x: Vec<f64> = convert(&self.inputs[row * features..][..features]);
                let y: Vec<f64> = convert(&self.values[row * outputs..][..outputs]);
                let a = pre(0, &x);
                let h: Vec<f64> = a.iter().map(|a| a.max(0.0)).collect();
                let f = pre(1, &h);
                for (u, (lines, rest)) in hidden.iter_mut().enumerate() {
                    for k in 0..outputs {
                        let slope = if a[u] > 0.0 { w[blocks[1].neuron(k)][u] } else { 0.0 };
                        lines.extend(seen(0, &x).iter().map(|x| slope * x));
                        rest.push(y[k] - f[k] + slope * a[u]);
                    }
                }
                for (k, (lines, rest)) in output.iter_mut().enumerate() {
                    lines.extend(seen(1, &h));
                    rest.push(y[k]);
                    others[k] += (f[k] - y[k]).powi(2) / (outputs * ROUNDS * BATCH) as f64;
                }
            }
        }
        let mut neurons: Vec<f64> = hidden.iter().map(|(a, r)| least_squares(a, blocks[0].width(), r)).collect();
        let own: Vec<f64> =
            output.iter().map(|(a, r)| least_squares(a, blocks[1].width(), r) / outputs as f64).collect();
        neurons.extend((0..outputs).map(|k| own[k] + others.iter().sum::<f64>() - others[k]));
        (neurons, own.iter().sum())
    }

    /// The optima without constraint that the crate finds, of the same units.
    fn found(&mut self) -> (Vec<UnitResult>, Vec<UnitResult>) {
        let [features, _, outputs] = SIZES;
        let tracker = &self.tracker;
        let neurons = self.stream.solve(&settings(), &|unit| tracker.record(unit, ROUNDS).unwrap());
        let states: Vec<Vec<f64>> = self.window.states.iter().map(|state| convert(state)).collect();
        let (inputs, values): (Vec<f64>, Vec<f64>) = (convert(&self.inputs), convert(&self.values));
        let targets = Targets::Values(&values[..]);
        let examples = Examples { inputs: &inputs, features, targets, target_width: outputs };
        let exact = Window::new(&self.network, Loss::Mse, examples, Cow::Borrowed(&states[..]), &self.window.rows);
        let preconditioners = Preconditioners::new(&exact, &[ROUNDS], true);
        let work = &mut Work::to_the_end();
        let windows =
            Windows { exact: &exact, fast: &exact.to_f32(), preconditioners: &preconditioners, stop: work.stop() };
        let record = |unit, rounds| tracker.record(unit, rounds).unwrap();
        let layers = layer::optima(&windows, &[ROUNDS], &settings(), &record, work).unwrap();
        let free = |results: Vec<UnitResult>| -> Vec<UnitResult> {
            results.into_iter().filter(|result| result.comparator == Comparator::Unconstrained).collect()
        };
        (free(neurons), free(layers))
    }
}

/// In the type that is trained in, with a column of ones where there is a bias and none where there is none.
fn optima_are_least_squares<T: Real>(tolerance: f64) {
    let mut optima = BTreeMap::new();
    for bias in [[false, false], [true, false], [false, true], [true, true]] {
        let mut recorded = Recorded::<T>::new(bias);
        let (neurons, layer) = recorded.expected();
        let (found, layers) = recorded.found();
        let [features, units, outputs] = SIZES;
        let widths = [(features, bias[0]), (units, bias[1])].map(|(inputs, bias)| inputs + usize::from(bias));
        assert_eq!(found.len(), neurons.len());
        for (at, (result, expected)) in found.iter().zip(&neurons).enumerate() {
            let what =
                format!("{} {bias:?} {:?}: {}, expected {expected}", T::NAME, result.unit, result.taylor_optimum);
            assert_eq!(result.dimension, widths[usize::from(at >= units)], "{what}");
            let slack = tolerance * result.record.mean_loss;
            assert!(result.taylor_optimum >= expected - slack, "{what}");
            assert!(result.taylor_optimum - result.gap <= expected + slack, "{what}");
            assert!(result.gap <= 1e-5 * result.record.mean_loss, "{what}: gap {}", result.gap);
        }
        let last = layers.iter().find(|result| result.unit.layer == Some(2)).unwrap();
        assert_eq!((last.unit.scale, last.dimension), (Scale::Layer, outputs * widths[1]));
        assert!((last.taylor_optimum - layer).abs() <= last.gap + tolerance * last.record.mean_loss, "{bias:?}");
        optima.insert(bias, layer);
    }
    // The bias matters here, so none of this could pass with a bias too many or too few.
    assert!(optima[&[false, false]] > 2.0 * optima[&[false, true]], "{optima:?}");
}

#[test]
fn optima_without_bias_are_least_squares_without_a_column_of_ones() {
    optima_are_least_squares::<f64>(1e-10);
    optima_are_least_squares::<f32>(1e-4);
}

/// The experiment with some layers written without bias.
fn experiment(of: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(of.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    })
}

const DENSE_8: (&str, &str) = ("{ dense = 8 }", "{ dense = { units = 8, bias = false } }");
const DENSE_6: (&str, &str) = ("{ dense = 6 }", "{ dense = { units = 6 } }");
const DENSE_10: (&str, &str) = ("{ dense = 10 }", "{ dense = { bias = false, units = 10 } }");
const DENSE_64: (&str, &str) = ("{ dense = 64 }", "{ dense = { units = 64, bias = false } }");
const CONV: (&str, &str) = (
    "{ conv = { maps = 4, kernel = 3, padding = 1 } }",
    "{ conv = { maps = 4, kernel = 3, padding = 1, bias = false } }",
);

/// The names of the tensors in a file of weights.
fn tensors(path: &Path) -> Vec<String> {
    let bytes = fs::read(path).unwrap();
    let mut names: Vec<String> =
        SafeTensors::deserialize(&bytes).unwrap().names().iter().map(ToString::to_string).collect();
    names.sort();
    names
}

/// Dimensions by scale, layer and neuron.
fn dimensions(units: &str) -> BTreeMap<(String, String), String> {
    let (header, rows) = table(units);
    let at = |name: &str| header.iter().position(|column| column == name).unwrap();
    let [scale, layer, dimension] = ["scale", "layer", "dimension"].map(at);
    rows.into_iter().map(|row| ((row[scale].clone(), row[layer].clone()), row[dimension].clone())).collect()
}

/// An experiment, what is written otherwise in it, the tensors of its trace, and the dimensions of some units.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str], &'static [Size]);
type Size = (&'static str, &'static str, usize);

#[test]
fn runs_traces_and_analyses_know_which_layers_have_no_bias() {
    let cases: [Case; 3] = [
        (
            AUTOENCODER,
            &[DENSE_8, DENSE_6, DENSE_64],
            &["0.weight", "2.bias", "2.weight", "4.weight"],
            &[("neuron", "0", 64), ("neuron", "2", 9), ("neuron", "4", 6), ("layer", "4", 384), ("network", "", 950)],
        ),
        (
            CLASSIFIER,
            &[DENSE_10],
            &["0.bias", "0.weight", "2.weight"],
            &[("neuron", "0", 65), ("neuron", "2", 8), ("layer", "2", 80), ("network", "", 600)],
        ),
        (
            CONVNET,
            &[CONV],
            &["0.weight", "3.bias", "3.weight", "7.bias", "7.weight"],
            &[("neuron", "0", 9), ("neuron", "3", 37), ("neuron", "7", 4), ("layer", "0", 36), ("network", "", 187)],
        ),
    ];
    for (of, changes, names, sizes) in cases {
        let workplace = Workplace::new();
        let text = experiment(of, changes);
        fs::write(workplace.path("mine.toml"), &text).unwrap();
        workplace.run(&["run", "mine.toml", "--optimizer", "sgd:0.1", "--keep-trace", "--out", "run"]).exits(0);
        assert_eq!(
            workplace.read("run/experiment.toml").matches("bias = false").count(),
            text.matches("bias = false").count()
        );
        assert!(!workplace.read("run/experiment.toml").contains("bias = true"), "that goes without saying");
        assert_eq!(tensors(&workplace.path("run/sgd/trace/weights-00000.safetensors")), names);
        let found = dimensions(&workplace.read("run/sgd/units.csv"));
        for (scale, layer, size) in sizes {
            assert_eq!(found[&(scale.to_string(), layer.to_string())], size.to_string(), "{scale} {layer}");
        }
        // The trace says the same in its manifest, and gives the same numbers.
        workplace.run(&["analyze", "run/sgd/trace", "--out", "analysis"]).exits(0);
        assert_eq!(workplace.read("analysis/sgd/regret.csv"), workplace.read("run/sgd/regret.csv"));
        // In double precision it is trained along nearly the same path.
        let double = ["--set", "training.precision=\"f64\"", "--optimizer", "sgd:0.1", "--out", "double"];
        workplace.run(&[&["run", "mine.toml"][..], &double].concat()).exits(0);
        let (header, rows) = table(&workplace.read("run/sgd/regret.csv"));
        let (_, wide) = table(&workplace.read("double/sgd/regret.csv"));
        let at = |name: &str| header.iter().position(|column| column == name).unwrap();
        let [scale, mean, optimum, gap] = ["scale", "mean_loss", "taylor_optimum", "gap"].map(at);
        let number = |row: &[String], at: usize| row[at].parse::<f64>().unwrap();
        assert_eq!(rows.len(), wide.len());
        for (row, wide) in rows.iter().zip(&wide) {
            assert!((number(row, mean) / number(wide, mean) - 1.0).abs() < 1e-4, "{row:?} {wide:?}");
            let apart = (number(row, optimum) - number(wide, optimum)).abs();
            let open = number(row, gap).max(number(wide, gap)) + 1e-3 * number(wide, mean);
            assert!(apart <= open, "{} {row:?} {wide:?}", row[scale]);
        }
    }
}

/// Writes tensors beside those that a file has.
fn add_tensors(path: &Path, more: &[(&str, Vec<usize>, f32)]) {
    let bytes = fs::read(path).unwrap();
    let old = SafeTensors::deserialize(&bytes).unwrap();
    let more: Vec<(&str, &Vec<usize>, Vec<u8>)> = more
        .iter()
        .map(|(name, shape, value)| (*name, shape, value.to_le_bytes().repeat(shape.iter().product())))
        .collect();
    let mut views: BTreeMap<&str, TensorView> = old.iter().collect();
    for (name, shape, bytes) in &more {
        views.insert(*name, TensorView::new(Dtype::F32, (*shape).clone(), bytes).unwrap());
    }
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn change_layers(trace: &Path, layers: Value) {
    let path = trace.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest["layers"] = layers;
    fs::write(&path, manifest.to_string()).unwrap();
}

#[test]
fn biases_of_zeros_are_let_pass_and_what_contradicts_the_layer_list_is_refused() {
    let workplace = Workplace::new();
    fs::write(workplace.path("mine.toml"), experiment(AUTOENCODER, &[DENSE_64])).unwrap();
    let quick = ["--set", "regret.scales=[\"layer\"]", "--set", "exploration.probe=0"];
    let run = ["run", "mine.toml", "--optimizer", "sgd:1", "--keep-trace", "--out", "run"];
    workplace.run(&[&run[..], &quick].concat()).exits(0);
    let prepare = |name: &str, bias: Option<f32>, layers: Value| {
        let folder = workplace.path(name);
        copy_folder(&workplace.path("run/sgd/trace"), &folder);
        if let Some(value) = bias {
            add_tensors(&folder.join("weights-00000.safetensors"), &[("4.bias", vec![16, 64], value)]);
        }
        change_layers(&folder, layers);
    };
    let with = json!([{"dense": 8}, "relu", {"dense": 6}, "relu", {"dense": 64}]);
    let without = json!([{"dense": 8}, "relu", {"dense": 6}, "relu", {"dense": {"units": 64, "bias": false}}]);
    let analyze = |name: &'static str, out: &'static str| {
        let more = ["--set", "regret.window=\"all\"", "--set", "regret.prefixes=3", "--out", out];
        workplace.run(&[&["analyze", name][..], &quick, &more].concat())
    };
    // Zeros, as one would put them in.
    prepare("zeros", Some(0.0), without.clone());
    analyze("zeros", "Z").exits(0);
    prepare("none", None, without.clone());
    analyze("none", "N").exits(0);
    assert_eq!(workplace.read("Z/sgd/regret.csv"), workplace.read("N/sgd/regret.csv"));
    // As biases that training could have moved they make room for a lower optimum.
    prepare("biases", Some(0.0), with.clone());
    analyze("biases", "B").exits(0);
    let rows = |out: &str| -> Vec<(String, f64, f64, f64)> {
        let (header, rows) = table(&workplace.read(&format!("{out}/sgd/regret.csv")));
        let at = |name: &str| header.iter().position(|column| column == name).unwrap();
        let [layer, mean, optimum, gap] = ["layer", "mean_loss", "taylor_optimum", "gap"].map(at);
        let number = |row: &[String], at: usize| row[at].parse::<f64>().unwrap();
        rows.iter().map(|r| (r[layer].clone(), number(r, mean), number(r, optimum), number(r, gap))).collect()
    };
    let (none, biases) = (rows("N"), rows("B"));
    assert_eq!(none.len(), biases.len());
    let mut lower = 0;
    for (own, other) in none.iter().zip(&biases) {
        assert!(own.0 == other.0 && (own.1 / other.1 - 1.0).abs() < 1e-6, "{own:?} {other:?}");
        if own.0 == "4" {
            assert!(other.2 - other.3 <= own.2 + 1e-9, "{own:?} {other:?}");
            lower += usize::from(other.2 < own.2 - own.3 - 1e-3 * own.1);
        }
    }
    assert!(lower > 0, "{none:?} {biases:?}");
    // What contradicts itself.
    prepare("ones", Some(1.0), without);
    analyze("ones", "X").exits(1).says(&[
        "\"4.bias\"",
        "values other than 0",
        "layer 4 has no bias",
        "\"bias\": false",
    ]);
    prepare("lacks", None, with);
    analyze("lacks", "X").exits(1).says(&["no tensor \"4.bias\"", r#"{ "dense": { "units": 64, "bias": false } }"#]);
    for layer in [json!({"dense": {"units": 64, "bias": "false"}}), json!({"dense": {"units": 64, "bais": false}})] {
        let name = format!("wrong-{}", layer.to_string().len() + usize::from(layer.to_string().contains("bais")));
        prepare(&name, None, json!([{"dense": 8}, "relu", {"dense": 6}, "relu", layer]));
        let arguments = [&["analyze", &name][..], &quick].concat();
        workplace.run(&arguments).exits(1).says(&["manifest.json", "bias"]);
    }
    assert!(!workplace.path("X").exists());
}

#[test]
fn weights_files_of_networks_without_biases_begin_runs() {
    let workplace = Workplace::new();
    fs::write(workplace.path("mine.toml"), experiment(CLASSIFIER, &[DENSE_8, DENSE_10])).unwrap();
    let quick = ["--set", "regret.scales=[]", "--set", "exploration.probe=0"];
    let network = Network::new(
        64,
        &[LayerSpec::dense(8), LayerSpec::Rectifier(Rectifier::LeakyRelu { slope: 0.01 }), LayerSpec::dense(10)],
    )
    .unwrap();
    let network = without_biases(&network, 1);
    let weights: Vec<f32> = he_uniform(&network, 99);
    let path = workplace.path("w.safetensors");
    taylorscope::network::write_weights(&network, &weights, &path).unwrap();
    assert_eq!(tensors(&path), ["0.weight", "2.weight"]);
    assert_eq!(taylorscope::network::read_weights::<f32>(&network, &path).unwrap(), weights);
    let run = |out: &str, more: &[&str]| {
        workplace.run(&[&["run", "mine.toml", "--keep-trace", "--out", out][..], &quick, more].concat())
    };
    let begun = ["--set", "network.weights=\"w.safetensors\""];
    run("A", &begun).exits(0);
    // The trace begins with these weights.
    let bytes = fs::read(workplace.path("A/sgd/trace/weights-00000.safetensors")).unwrap();
    let own = fs::read(&path).unwrap();
    let (stacked, single) = (SafeTensors::deserialize(&bytes).unwrap(), SafeTensors::deserialize(&own).unwrap());
    for name in ["0.weight", "2.weight"] {
        let first = single.tensor(name).unwrap();
        assert_eq!(stacked.tensor(name).unwrap().data()[..first.data().len()], *first.data());
    }
    add_tensors(&path, &[("0.bias", vec![8], 0.0)]);
    run("B", &begun).exits(0);
    assert_eq!(workplace.read("A/sgd/rounds.csv"), workplace.read("B/sgd/rounds.csv"));
    add_tensors(&path, &[("0.bias", vec![8], 0.5)]);
    run("C", &begun).exits(1).says(&["w.safetensors", "\"0.bias\"", "layer 0 has no bias"]);
    let layers = "network.layers=[{ dense = 8 }, \"leaky_relu\", { dense = 10 }]";
    run("D", &[&begun[..], &["--set", layers]].concat()).exits(1).says(&["\"2.bias\"", "bias = false"]);
}
