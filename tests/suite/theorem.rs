//! The convergence theorem on real runs: every unit, comparator and prefix stays below the bounds (`docs/theory.md`,
//! section 3), healthy networks and pathological ones alike.

use crate::common::{Special, network, weights};
use std::ops::ControlFlow;
use taylorscope::{
    data::{self, Minibatches},
    loss::Loss,
    network::{Network, Rectifier},
    num::{Real, convert},
    optim::OptimizerConfig,
    study::{
        analysis::{Analysis, AnalysisSettings, AnalysisTables},
        tables::{Comparator, RegretRow},
    },
    taylor::{BoundRates, Comparators, RegretSettings, Work, tracker::Displacements},
    train::{Ending, Examples, Observer, Training, train},
};

const RELU: Option<Rectifier> = Some(Rectifier::Relu);
const LEAKY: Option<Rectifier> = Some(Rectifier::LeakyRelu { slope: 0.1 });
/// 30 rounds per epoch: there are 1,500 digits.
const BATCH: usize = 50;
/// Relative gap at layer and network scale.
const TOLERANCE: f64 = 1e-3;

/// How the initial weights differ from He-uniform ones.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Start {
    Healthy,
    DeadLayer,
    Saturated,
    /// Thirty times as large.
    Exploding,
}

struct Experiment {
    network: Network,
    loss: Loss,
    start: Start,
    optimizer: OptimizerConfig,
    epochs: usize,
    ball_factor: f64,
    /// Products with the curvature a search may take. Some bounds hold for every point, not for optima alone: these need fewer.
    products: usize,
    /// The step of plain SGD that the bound is computed for, if not the true one.
    claimed: Option<f64>,
}

fn autoencoder() -> Network {
    network(64, &[(10, RELU), (6, RELU), (10, RELU)], 64)
}

fn classifier() -> Network {
    network(64, &[(8, LEAKY), (6, RELU)], 10)
}

fn loss(network: &Network) -> Loss {
    if network.outputs() == 10 { Loss::CrossEntropy } else { Loss::Mse }
}

fn optimizer(name: &str, learning_rate: f64, settings: &[(&str, f64)]) -> OptimizerConfig {
    let mut config = OptimizerConfig::named(name, Some(learning_rate)).unwrap();
    config.settings = settings.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
    config
}

impl Experiment {
    fn new(network: Network, start: Start, optimizer: OptimizerConfig) -> Self {
        Self {
            loss: loss(&network),
            network,
            start,
            optimizer,
            epochs: 1,
            ball_factor: 2.0,
            products: 40,
            claimed: None,
        }
    }

    fn name(&self) -> String {
        let Self { loss, start, optimizer, ball_factor, .. } = self;
        format!("{}, {start:?}, {} {}, ball {ball_factor}", loss.name(), optimizer.name, optimizer.learning_rate)
    }

    fn settings(&self) -> RegretSettings {
        RegretSettings {
            prefixes: 4,
            comparators: Comparators::both(),
            ball_factor: self.ball_factor,
            tolerance: TOLERANCE,
            neuron_tolerance: 1e-4,
            max_products: self.products,
            neurons: Some(if self.loss == Loss::Mse { usize::MAX } else { 3 }),
            ..RegretSettings::default()
        }
    }

    /// Trains on the digits and solves everything; the losses of the rounds come along.
    fn run<T: Real>(&self) -> (AnalysisTables, Vec<f64>) {
        self.train::<T>(false)
    }

    /// The same with how far training goes known beforehand.
    fn run_with_first_pass<T: Real>(&self) -> (AnalysisTables, Vec<f64>) {
        self.train::<T>(true)
    }

    fn train<T: Real>(&self, first_pass: bool) -> (AnalysisTables, Vec<f64>) {
        let digits = data::load("digits", None).expect("the digits are part of the program").train;
        let inputs: Vec<T> = convert(&digits.inputs);
        let examples = match self.loss {
            Loss::Mse => Examples::autoencoder(&inputs, digits.features()),
            Loss::CrossEntropy => Examples::classifier(&inputs, digits.features(), &digits.labels),
        };
        let special = match self.start {
            Start::DeadLayer => Special::DeadLayer,
            Start::Saturated => Special::Saturated,
            Start::Healthy | Start::Exploding => Special::Nothing,
        };
        let mut initial = weights(&self.network, special, 1);
        if self.start == Start::Exploding {
            initial.iter_mut().for_each(|w| *w *= 30.0);
        }
        let initial: Vec<T> = convert(&initial);
        let minibatches = Minibatches::new(examples.len(), BATCH, 0).unwrap();
        let plain = self.optimizer.name == "sgd";
        let planned = self.epochs * minibatches.rounds_per_epoch();
        let training = Training {
            network: &self.network,
            loss: self.loss,
            examples,
            minibatches: &minibatches,
            epochs: self.epochs,
        };
        let displacements = first_pass.then(|| {
            let mut displacements = Displacements::new(&self.network);
            let mut optimizer = self.optimizer.build::<T>(&self.network).unwrap();
            let go_on = |_, _, _| ControlFlow::Continue(());
            let observers: &mut [&mut dyn Observer<T>] = &mut [&mut displacements];
            let mut weights = initial.clone();
            train(&training, optimizer.as_mut(), &mut weights, observers, go_on, |_, _| ControlFlow::Continue(()));
            displacements.into_neurons()
        });
        let mut weights = initial;
        let settings = AnalysisSettings {
            memory: 1 << 30,
            regret: self.settings(),
            planned_rounds: planned,
            batch: BATCH,
            every: 1,
            pool_winners: false,
            rates: BoundRates {
                sgd: self.claimed.or(plain.then_some(self.optimizer.learning_rate)),
                adagrad: self.claimed.or(self.optimizer.constant_rate_of("adagrad")),
            },
            displacements,
        };
        let mut analysis = Analysis::new(&self.network, self.loss, settings, Vec::new());
        let mut optimizer = self.optimizer.build::<T>(&self.network).unwrap();
        let mut losses = Vec::new();
        let (ending, rounds) = train(
            &training,
            optimizer.as_mut(),
            &mut weights,
            &mut [&mut analysis],
            |_, _, loss| {
                losses.push(loss);
                ControlFlow::Continue(())
            },
            |_, _| ControlFlow::Continue(()),
        );
        assert_eq!((&ending, rounds), (&Ending::Complete, planned), "{}", self.name());
        let (tables, _) = analysis.complete(&examples, &mut Work::to_the_end(), |_| {});
        self.assert_complete(&tables);
        (tables, losses)
    }

    /// Every unit has a row per comparator and prefix.
    fn assert_complete(&self, tables: &AnalysisTables) {
        let settings = self.settings();
        let blocks = self.network.blocks();
        let units = 1 + blocks.len() + blocks.iter().map(|b| settings.selected(b.units).len()).sum::<usize>();
        assert_eq!(tables.units.len(), 2 * units, "{}", self.name());
        assert_eq!(tables.regret.len() % tables.units.len(), 0);
        assert!(tables.regret.len() >= settings.prefixes * tables.units.len(), "{} rows", tables.regret.len());
    }
}

/// The regret against every reported point of the ball lies below the bound; where the solver converged, so does
/// that against the true optimum, which lies at most the gap below the reported one.
fn assert_zinkevich(name: &str, rows: &[RegretRow], tolerance: f64, rounding: f64) {
    let balls: Vec<&RegretRow> = rows.iter().filter(|r| r.comparator == Comparator::Ball).collect();
    let mut converged = 0;
    for row in &balls {
        let small = row.gap <= tolerance * row.mean_loss;
        let regret = row.mean_regret + if small { row.gap } else { 0.0 };
        assert!(
            regret <= row.bound_zinkevich + rounding * row.mean_loss,
            "{name}: {} layer {:?} neuron {:?}, {} rounds: regret {:e}, gap {:e}, above {:e}",
            row.scale,
            row.layer,
            row.neuron,
            row.rounds,
            row.mean_regret,
            row.gap,
            row.bound_zinkevich
        );
        converged += usize::from(small);
    }
    assert!(converged * 4 >= balls.len() * 3, "{name}: only {converged} of {} optima are certified", balls.len());
}

/// The regret of every row lies below the bound that holds for any comparator.
fn assert_bound(name: &str, rows: &[RegretRow], bound: fn(&RegretRow) -> Option<f64>) {
    for row in rows {
        let bound = bound(row).unwrap_or_else(|| panic!("{name}: a row has no bound: {row:?}"));
        let excess = row.mean_regret - bound;
        assert!(excess <= 1e-6 * row.mean_loss, "{name}: regret {excess:e} above {bound:e} in {row:?}");
    }
}

fn assert_sgd(name: &str, rows: &[RegretRow]) {
    assert_bound(name, rows, |row| row.bound_sgd);
}

fn assert_adagrad(name: &str, rows: &[RegretRow]) {
    assert_bound(name, rows, |row| row.bound_adagrad);
}

/// Rounding of sums of losses in double and single precision, relative to the loss.
const DOUBLE: f64 = 1e-9;
const SINGLE: f64 = 1e-5;

#[test]
fn projected_gradient_descent_satisfies_its_bound_on_healthy_networks() {
    for network in [autoencoder(), classifier()] {
        for (diameter, ball_factor) in [(1.0, 2.0), (1.0, 1.0), (0.1, 2.0), (5.0, 2.0)] {
            let ogd = optimizer("ogd", 1.0, &[("diameter", diameter)]);
            let experiment = Experiment { ball_factor, ..Experiment::new(network.clone(), Start::Healthy, ogd) };
            let name = format!("{}, diameter {diameter}", experiment.name());
            let (tables, losses) = experiment.run::<f64>();
            assert_zinkevich(&name, &tables.regret, TOLERANCE, DOUBLE);
            // It learns, and there is something to bound.
            let last = losses[losses.len() - 5..].iter().sum::<f64>() / 5.0;
            assert!(diameter == 5.0 || last < losses[0], "{name}: from {} to {last}", losses[0]);
            assert!(tables.regret.iter().any(|r| r.mean_regret > 0.01 * r.mean_loss), "{name}: no regret");
        }
    }
}

#[test]
fn projected_gradient_descent_satisfies_its_bound_on_pathological_networks() {
    for network in [autoencoder(), classifier()] {
        for start in [Start::DeadLayer, Start::Saturated, Start::Exploding] {
            for ball_factor in [2.0, 1.0] {
                let ogd = optimizer("ogd", 1.0, &[]);
                let experiment = Experiment { ball_factor, ..Experiment::new(network.clone(), start, ogd) };
                let (tables, _) = experiment.run::<f64>();
                assert_zinkevich(&experiment.name(), &tables.regret, TOLERANCE, DOUBLE);
            }
        }
    }
}

#[test]
fn single_precision_satisfies_the_bounds_too() {
    for network in [autoencoder(), classifier()] {
        let ogd =
            Experiment { epochs: 2, ..Experiment::new(network.clone(), Start::Healthy, optimizer("ogd", 1.0, &[])) };
        let (tables, _) = ogd.run::<f32>();
        assert_zinkevich(&ogd.name(), &tables.regret, TOLERANCE, SINGLE);
        let sgd = Experiment { epochs: 2, ..Experiment::new(network, Start::Healthy, optimizer("sgd", 0.1, &[])) };
        let (tables, _) = sgd.run::<f32>();
        assert_sgd(&sgd.name(), &tables.regret);
    }
}

#[test]
fn constant_step_gradient_descent_satisfies_its_bound() {
    // A small step, one that learns well, and one that is too long.
    for (network, rates) in [(autoencoder(), [0.01, 1.0, 5.0]), (classifier(), [0.01, 0.1, 1.0])] {
        for (kind, rate) in rates.into_iter().enumerate() {
            let experiment = Experiment {
                products: 15,
                ..Experiment::new(network.clone(), Start::Healthy, optimizer("sgd", rate, &[]))
            };
            let (tables, losses) = experiment.run::<f64>();
            assert_sgd(&experiment.name(), &tables.regret);
            assert!(kind == 2 || losses[losses.len() - 1] < losses[0], "{} does not learn", experiment.name());
        }
    }
}

/// Also where nothing good happens: the Taylor losses then merely have poor optima.
#[test]
fn constant_step_gradient_descent_satisfies_its_bound_on_pathological_networks() {
    // Saturated and exploding networks have outputs of up to 1e6, so only tiny steps stay finite.
    let cases = [(Start::DeadLayer, 0.1), (Start::Saturated, 1e-3), (Start::Exploding, 1e-9)];
    for network in [autoencoder(), classifier()] {
        for (start, rate) in cases {
            let experiment =
                Experiment { products: 15, ..Experiment::new(network.clone(), start, optimizer("sgd", rate, &[])) };
            let (tables, _) = experiment.run::<f64>();
            assert_sgd(&experiment.name(), &tables.regret);
        }
    }
}

#[test]
fn diagonal_adagrad_satisfies_its_bound() {
    // A small step, one that learns well, and one that is too long; and networks where nothing good happens.
    let cases = [(Start::Healthy, 1e-3), (Start::Healthy, 0.03), (Start::Healthy, 1.0), (Start::DeadLayer, 0.03)];
    for network in [autoencoder(), classifier()] {
        for (start, rate) in cases.into_iter().chain([(Start::Saturated, 0.03), (Start::Exploding, 0.03)]) {
            let experiment =
                Experiment { products: 15, ..Experiment::new(network.clone(), start, optimizer("adagrad", rate, &[])) };
            let (tables, losses) = experiment.run::<f64>();
            assert_adagrad(&experiment.name(), &tables.regret);
            assert!(tables.regret.iter().all(|row| row.bound_sgd.is_none()), "no other bound is claimed");
            if start == Start::Healthy && rate == 0.03 {
                assert!(losses[losses.len() - 1] < losses[0], "{} does not learn", experiment.name());
                assert!(tables.regret.iter().any(|r| r.mean_regret > 0.01 * r.mean_loss), "there is regret to bound");
            }
        }
    }
}

/// The bound of AdaGrad says something: a learner that hardly moves has more regret than that of a learner that does.
#[test]
fn the_adagrad_bound_does_not_hold_for_a_learner_that_hardly_moves() {
    let slow = optimizer("sgd", 1e-5, &[]);
    let experiment =
        Experiment { claimed: Some(0.003), epochs: 4, ..Experiment::new(autoencoder(), Start::Healthy, slow) };
    let (tables, _) = experiment.run::<f64>();
    let beyond = tables.regret.iter().filter(|r| r.mean_regret > r.bound_adagrad.expect("the step is claimed")).count();
    assert!(beyond > 0, "no row of {}", tables.regret.len());
}

/// Below a dead layer nothing can be gained: the optimum of every unit there is the loss that was paid.
#[test]
fn units_below_a_dead_layer_have_no_regret() {
    for network in [autoencoder(), classifier()] {
        let dead = network.hidden_blocks()[network.hidden_blocks().len() / 2].layer;
        for config in [optimizer("sgd", 0.1, &[]), optimizer("ogd", 1.0, &[])] {
            let experiment = Experiment::new(network.clone(), Start::DeadLayer, config);
            let (tables, _) = experiment.run::<f64>();
            let mut seen = 0;
            for row in tables.regret.iter().filter(|r| r.layer.is_some_and(|layer| layer <= dead)) {
                let what = format!("{}, {row:?}", experiment.name());
                assert!(row.mean_regret.abs() <= 1e-12 * row.mean_loss && row.gap == 0.0, "{what}");
                assert!(row.distance == 0.0 && row.bound_zinkevich == 0.0, "{what}");
                seen += 1;
            }
            assert!(seen > 0);
            // The layers above still learn.
            assert!(tables.regret.iter().any(|r| r.distance > 0.0 && r.mean_regret > 0.0));
        }
    }
}

/// The bounds are no trivialities: a learner that hardly moves violates that of projected gradient descent, and that of
/// gradient descent with a step that it did not take.
#[test]
fn the_bounds_do_not_hold_for_a_learner_that_hardly_moves() {
    let slow = optimizer("sgd", 1e-4, &[]);
    let experiment =
        Experiment { claimed: Some(0.3), epochs: 4, ..Experiment::new(autoencoder(), Start::Healthy, slow) };
    let (tables, _) = experiment.run::<f64>();
    let rows = tables.regret.iter().filter(|r| r.rounds > 20);
    let beyond = |bound: fn(&RegretRow) -> f64| rows.clone().filter(|r| r.mean_regret > bound(r)).count();
    let zinkevich = beyond(|r| if r.comparator == Comparator::Ball { r.bound_zinkevich } else { f64::INFINITY });
    assert!(zinkevich > 10, "{zinkevich} of {} rows", rows.count());
    let step = beyond(|r| r.bound_sgd.expect("the step is claimed"));
    assert!(step > 0, "no row of {}", rows.count());
}

/// More work never makes a row worse: not its value, and not its certificate over the same ball.
#[test]
fn more_products_never_make_a_row_worse() {
    for (network, rate) in [(autoencoder(), 1.0), (classifier(), 0.1)] {
        for name in ["sgd", "adam"] {
            let rate = if name == "adam" { 0.01 } else { rate };
            let with = |products: usize| {
                let config = optimizer(name, rate, &[]);
                let experiment =
                    Experiment { products, epochs: 2, ..Experiment::new(network.clone(), Start::Healthy, config) };
                experiment.run::<f64>().0.regret
            };
            let (little, much) = (with(10), with(1000));
            assert_eq!(little.len(), much.len());
            let mut better = 0;
            for (a, b) in little.iter().zip(&much) {
                assert_eq!((a.scale, a.layer, a.neuron, a.rounds), (b.scale, b.layer, b.neuron, b.rounds));
                // Both may stop within the tolerance.
                let slack = TOLERANCE * a.mean_loss;
                assert!(b.taylor_optimum <= a.taylor_optimum + slack, "{name}: {a:?} became {b:?}");
                if a.comparator == Comparator::Ball {
                    let lower = |row: &RegretRow| row.taylor_optimum - row.gap;
                    assert!(lower(b) >= lower(a) - slack && b.gap <= a.gap + slack, "{name}: {a:?} became {b:?}");
                }
                better += usize::from(b.gap < 0.5 * a.gap - slack);
            }
            assert!(better > 0, "{name}: ten products leave nothing to do");
        }
    }
}

/// A unit has one ball for all prefixes, where a first pass tells how far training goes.
#[test]
fn a_unit_has_one_ball_for_all_prefixes() {
    for network in [autoencoder(), classifier()] {
        let rate = if network.outputs() == 10 { 0.1 } else { 1.0 };
        let experiment = Experiment::new(network, Start::Healthy, optimizer("sgd", rate, &[]));
        let (tables, _) = experiment.run_with_first_pass::<f64>();
        for unit in &tables.units {
            let same = |row: &&RegretRow| {
                (row.scale, row.layer, row.neuron, row.comparator)
                    == (unit.scale, unit.layer, unit.neuron, unit.comparator)
            };
            if unit.comparator == Comparator::Ball {
                let radius = 2.0 * unit.displacement;
                for row in tables.regret.iter().filter(same) {
                    assert_eq!(row.radius, Some(radius), "{row:?}");
                    assert!(row.distance <= radius * (1.0 + 1e-9), "{row:?}");
                }
            }
        }
    }
}
