//! Problems on which numbers are in trouble: every analysis gives its defined answer, finite and inside its certificate.

use std::ops::ControlFlow;
use taylorscope::{
    data::Minibatches,
    loss::Loss,
    network::{LayerSpec, Network, Rectifier, he_uniform},
    num::Real,
    optim::OptimizerConfig,
    study::{
        analysis::{Analysis, AnalysisSettings, AnalysisTables},
        tables::{Comparator, Scale},
    },
    taylor::{BoundRates, Comparators, RegretSettings, StopReason, Work},
    train::{Ending, Examples, Observer, Quantity, Training, train},
};

const ROWS: usize = 24;
const FEATURES: usize = 3;
const RELU: LayerSpec = LayerSpec::Rectifier(Rectifier::Relu);

const fn dense(units: usize) -> LayerSpec {
    LayerSpec::dense(units)
}

struct Trouble {
    name: &'static str,
    layers: Vec<LayerSpec>,
    loss: Loss,
    batch: usize,
    rate: f64,
    inputs: fn(usize) -> f64,
    label: fn(usize) -> u32,
    /// What becomes of the initial weights.
    weight: fn(&Network, &mut [f64]),
}

impl Trouble {
    fn new(name: &'static str, loss: Loss) -> Self {
        let outputs = if loss == Loss::Mse { FEATURES } else { 2 };
        Self {
            name,
            layers: vec![dense(4), RELU, dense(3), RELU, dense(outputs)],
            loss,
            batch: 6,
            rate: 0.1,
            inputs: |i| (i as f64 * 0.7).sin(),
            label: |i| (i % 2) as u32,
            weight: |_, _| (),
        }
    }

    fn run<T: Real>(&self, memory: usize) -> (AnalysisTables, Vec<f64>) {
        let network = Network::new(FEATURES, &self.layers).unwrap();
        let inputs: Vec<T> = (0..ROWS * FEATURES).map(|i| T::from_f64((self.inputs)(i))).collect();
        let labels: Vec<u32> = (0..ROWS).map(self.label).collect();
        let examples = match self.loss {
            Loss::Mse => Examples::autoencoder(&inputs, FEATURES),
            Loss::CrossEntropy => Examples::classifier(&inputs, FEATURES, &labels),
        };
        let mut wide: Vec<f64> = he_uniform(&network, 1);
        (self.weight)(&network, &mut wide);
        let mut weights: Vec<T> = wide.iter().map(|w| T::from_f64(*w)).collect();
        let minibatches = Minibatches::new(ROWS, self.batch, 0).unwrap();
        let planned = 2 * minibatches.rounds_per_epoch();
        let settings = AnalysisSettings {
            regret: RegretSettings {
                prefixes: 4,
                max_products: 200,
                comparators: Comparators::both(),
                ..RegretSettings::default()
            },
            planned_rounds: planned,
            batch: self.batch,
            every: 2,
            pool_winners: false,
            memory,
            rates: BoundRates { sgd: Some(self.rate), adagrad: None },
            displacements: None,
        };
        let probe = inputs[..6 * FEATURES].to_vec();
        let mut analysis = Analysis::new(&network, self.loss, settings, probe);
        let mut optimizer = OptimizerConfig::named("sgd", Some(self.rate)).unwrap().build::<T>(&network).unwrap();
        let task = Training { network: &network, loss: self.loss, examples, minibatches: &minibatches, epochs: 2 };
        let mut losses = Vec::new();
        let (ending, _) = train(
            &task,
            &mut *optimizer,
            &mut weights,
            &mut [&mut analysis],
            |_, _, loss| {
                losses.push(loss);
                ControlFlow::Continue(())
            },
            |_, _| ControlFlow::Continue(()),
        );
        assert_eq!(ending, Ending::Complete, "{}", self.name);
        let (tables, _) = analysis.complete(&examples, &mut Work::to_the_end(), |_| ());
        (tables, losses)
    }

    /// Everything that is promised of any run.
    fn check<T: Real>(&self, tables: &AnalysisTables, losses: &[f64]) {
        let largest = losses.iter().copied().fold(0.0, f64::max);
        // The losses of rounds are computed in the type that is trained in, their optima in f64.
        let rounding = if T::NAME == "f32" { 1e-5 } else { 1e-9 } * largest.max(1e-30);
        assert!(!tables.halted && tables.units.iter().any(|row| row.scale == Scale::Network), "{}", self.name);
        for row in &tables.regret {
            let context = || format!("{}: {row:?}", self.name);
            let mean = losses[..row.rounds].iter().sum::<f64>() / row.rounds as f64;
            assert!((row.mean_loss - mean).abs() <= rounding, "{}", context());
            let all = [row.taylor_optimum, row.mean_regret, row.gap, row.distance, row.bound_zinkevich];
            assert!(all.iter().all(|value| value.is_finite()), "{}", context());
            assert!(row.distance >= 0.0, "{}", context());
            let bound = row.bound_sgd.expect("plain SGD has its bound");
            assert!(row.mean_regret <= bound + rounding, "{}", context());
            if row.comparator == Comparator::Ball {
                assert!(row.attained, "{}", context());
            }
        }
        // As the solvers found it, before anything is made of losses not being negative.
        assert_eq!(tables.found.len(), tables.regret.len(), "{}", self.name);
        for result in &tables.found {
            let context = || format!("{}: {result:?}", self.name);
            let all = [result.taylor_optimum, result.gap, result.lower(), result.start, result.radius];
            assert!(all.iter().all(|value| value.is_finite()), "{}", context());
            assert!(result.taylor_optimum >= -rounding && result.gap >= 0.0, "{}", context());
            assert!(result.taylor_optimum <= result.start + rounding, "{}: worse than no step", context());
            assert_ne!(result.stop, StopReason::Halted, "{}", context());
        }
        for row in &tables.units {
            assert!(row.slope.is_none_or(f64::is_finite), "{}: {row:?}", self.name);
        }
        for row in &tables.neurons {
            let all = [row.log_volume, row.log_det, row.active_fraction];
            assert!(all.iter().all(|value| value.is_finite()), "{}: {row:?}", self.name);
        }
    }

    /// In both precisions, with the linearized rounds kept and linearized as needed.
    fn endures(&self) -> AnalysisTables {
        let (tables, losses) = self.run::<f64>(1 << 30);
        self.check::<f64>(&tables, &losses);
        let (single, losses) = self.run::<f32>(1 << 30);
        self.check::<f32>(&single, &losses);
        let (needed, losses) = self.run::<f64>(1000);
        self.check::<f64>(&needed, &losses);
        assert_eq!(tables.regret.len(), needed.regret.len());
        for (a, b) in tables.regret.iter().zip(&needed.regret) {
            assert_eq!(
                (a.scale, a.layer, a.neuron, a.comparator, a.rounds),
                (b.scale, b.layer, b.neuron, b.comparator, b.rounds)
            );
            let apart = a.taylor_optimum - b.taylor_optimum;
            let rounding = 1e-8 * a.mean_loss.max(1e-30);
            let same_set = a.comparator == Comparator::Ball || a.attained && b.attained;
            assert!(!same_set || (-b.gap - rounding..=a.gap + rounding).contains(&apart), "{}: {a:?} {b:?}", self.name);
        }
        tables
    }
}

const LOSSES: [Loss; 2] = [Loss::Mse, Loss::CrossEntropy];

#[test]
fn a_layer_that_is_dead_everywhere() {
    for loss in LOSSES {
        let mut trouble = Trouble::new("dead layer", loss);
        trouble.weight = |network, weights| {
            let block = &network.blocks()[1];
            (0..block.units).for_each(|unit| weights[block.neuron(unit).end - 1] = -100.0);
        };
        let tables = trouble.endures();
        assert!(
            tables
                .neurons
                .iter()
                .filter(|row| row.layer == 2)
                .all(|row| row.dead && row.switches == 0 && row.rank == 0)
        );
        // Nothing that the layers below do reaches the output: their optimum is what was paid.
        for row in tables.regret.iter().filter(|row| row.layer == Some(0) && row.comparator == Comparator::Ball) {
            assert!(row.mean_regret.abs() <= 1e-12 * row.mean_loss, "{row:?}");
        }
    }
}

#[test]
fn gradients_that_are_all_zero() {
    // Nothing in, nothing out, nothing wrong: the loss is zero from the start.
    let mut trouble = Trouble::new("zero loss", Loss::Mse);
    trouble.inputs = |_| 0.0;
    let tables = trouble.endures();
    assert!(tables.regret.iter().all(|row| row.mean_loss == 0.0 && row.taylor_optimum == 0.0 && row.gap == 0.0));
    // A rate of zero: nothing moves, so the balls are points.
    for loss in LOSSES {
        let mut trouble = Trouble::new("no steps", loss);
        trouble.rate = 1e-300;
        let (tables, losses) = trouble.run::<f64>(1 << 30);
        for row in tables.regret.iter().filter(|row| row.comparator == Comparator::Ball) {
            assert!((row.mean_regret / row.mean_loss).abs() < 1e-12 && row.gap <= 1e-12 * losses[0], "{row:?}");
        }
    }
}

#[test]
fn inputs_that_are_all_the_same() {
    for loss in LOSSES {
        let mut trouble = Trouble::new("equal inputs", loss);
        trouble.inputs = |i| [0.3, -0.8, 0.5][i % FEATURES];
        trouble.endures();
    }
}

#[test]
fn a_single_class() {
    let mut trouble = Trouble::new("one class", Loss::CrossEntropy);
    trouble.label = |_| 1;
    trouble.endures();
    // And a single output, whose softmax is always right.
    (trouble.name, trouble.label) = ("one output", |_| 0);
    trouble.layers = vec![dense(3), RELU, dense(1)];
    let tables = trouble.endures();
    assert!(tables.regret.iter().all(|row| row.mean_loss == 0.0 && row.taylor_optimum == 0.0));
}

#[test]
fn layers_of_one_neuron_and_minibatches_of_one() {
    for loss in LOSSES {
        let mut trouble = Trouble::new("one neuron", loss);
        let last = *trouble.layers.last().unwrap();
        trouble.layers = vec![dense(1), RELU, dense(1), RELU, last];
        trouble.endures();
        trouble.batch = 1;
        trouble.endures();
        trouble.layers = vec![last];
        trouble.endures();
    }
}

#[test]
fn steps_that_explode_end_where_they_stop_being_numbers() {
    for loss in LOSSES {
        let network = Network::new(FEATURES, &Trouble::new("", loss).layers).unwrap();
        let inputs: Vec<f64> = (0..ROWS * FEATURES).map(|i| 1e40 * (i as f64).cos()).collect();
        let labels: Vec<u32> = (0..ROWS as u32).map(|i| i % 2).collect();
        let examples = match loss {
            Loss::Mse => Examples::autoencoder(&inputs, FEATURES),
            Loss::CrossEntropy => Examples::classifier(&inputs, FEATURES, &labels),
        };
        let minibatches = Minibatches::new(ROWS, 6, 0).unwrap();
        let task = Training { network: &network, loss, examples, minibatches: &minibatches, epochs: 50 };
        let settings = AnalysisSettings {
            regret: RegretSettings {
                prefixes: 4,
                max_products: 50,
                comparators: Comparators::both(),
                ..RegretSettings::default()
            },
            planned_rounds: 200,
            batch: 6,
            every: 1,
            pool_winners: false,
            memory: 1 << 30,
            rates: BoundRates::default(),
            displacements: None,
        };
        let mut analysis = Analysis::new(&network, loss, settings, inputs[..6 * FEATURES].to_vec());
        let mut optimizer = OptimizerConfig::named("sgd", Some(1e30)).unwrap().build::<f64>(&network).unwrap();
        let mut weights: Vec<f64> = he_uniform(&network, 1);
        let mut losses = Vec::new();
        let on_round = |_, _, loss| {
            losses.push(loss);
            ControlFlow::Continue(())
        };
        let observers: &mut [&mut dyn Observer<f64>] = &mut [&mut analysis];
        let (ending, done) =
            train(&task, &mut *optimizer, &mut weights, observers, on_round, |_, _| ControlFlow::Continue(()));
        if loss == Loss::Mse {
            let Ending::Diverged(what) = ending else { panic!("{ending:?}") };
            // The layer whose numbers were the first to overflow is named.
            assert_eq!((what.round, what.quantity), (done + 1, Quantity::Activations), "{what}");
            assert!(what.layer.is_some() && what.to_string().contains("layer"), "{what}");
        }
        assert!(losses.iter().all(|loss| loss.is_finite()) && !losses.is_empty());
        let (tables, _) = analysis.complete(&examples, &mut Work::to_the_end(), |_| ());
        assert_eq!(tables.regret.iter().map(|row| row.rounds).max(), Some(done));
        assert!(tables.regret.iter().all(|row| !row.mean_loss.is_nan() && !row.gap.is_nan() && row.gap >= 0.0));
    }
}
