//! Taylor optima against a dense reference: the Jacobians of all rounds stacked into one matrix, the problem solved by
//! a singular value decomposition (mean squared error) or by Newton's method on the Lagrangian (cross-entropy).

use crate::common::{
    Goal, Numbers, Problem, Special, Unit, assert_close, graphs, loss_hessian, network, plain::Plain, units, weights,
    without_biases, without_biases_of,
};
use faer::{
    Mat, MatRef, Side,
    linalg::solvers::{Llt, Solve},
};
use std::borrow::Cow;
use taylorscope::{
    data::Minibatches,
    loss::{Loss, Targets},
    network::{LayerSpec, Network, Pooling, Rectifier, Shape},
    optim::OptimizerConfig,
    study::tables::{Comparator, Scale},
    taylor::{
        ClosedForm, Comparators, Comparison, RegretSettings, StopReason, UnitResult, Work,
        chain::{
            layer::{self},
            network as whole,
            neuron::{self},
            objective::{Windows, iterative_optima},
            preconditioners::Preconditioners,
            stream::NeuronStream,
            window::Window,
        },
        free_bounds,
        graph::{matrix_free::MatrixFree, sample::Sample},
        recorder::WindowRecorder,
        tracker::{UnitRecord, UnitTracker},
        unit::UnitId,
    },
    train::{Examples, Observer, Round, RoundEngine},
};

const RELU: Option<Rectifier> = Some(Rectifier::Relu);
const LEAKY: Option<Rectifier> = Some(Rectifier::LeakyRelu { slope: 0.1 });
const ABS: Option<Rectifier> = Some(Rectifier::Abs);

const DATAPOINTS: usize = 24;
const PREFIXES: &[usize] = &[1, 2, 5, 12, 40];

struct Case {
    name: &'static str,
    shape: (usize, &'static [(usize, Option<Rectifier>)], usize),
    goal: Goal,
    special: Special,
    /// Datapoints of the rounds, again and again.
    sizes: &'static [usize],
    optimizer: (&'static str, f64),
}

const SQUARES: &[Case] = &[
    Case {
        name: "two hidden layers, sgd",
        shape: (4, &[(5, RELU), (3, RELU)], 2),
        goal: Goal::Values,
        special: Special::Nothing,
        sizes: &[4],
        optimizer: ("sgd", 0.1),
    },
    Case {
        name: "autoencoder, adam",
        shape: (5, &[(3, RELU)], 5),
        goal: Goal::Inputs,
        special: Special::Nothing,
        sizes: &[3],
        optimizer: ("adam", 0.02),
    },
    Case {
        name: "leaky and abs, rmsprop",
        shape: (3, &[(3, LEAKY), (4, ABS), (3, None)], 3),
        goal: Goal::Values,
        special: Special::Nothing,
        sizes: &[5],
        optimizer: ("rmsprop", 0.01),
    },
    Case {
        name: "width one, one datapoint a round",
        shape: (1, &[(1, LEAKY), (1, ABS)], 1),
        goal: Goal::Values,
        special: Special::Nothing,
        sizes: &[1],
        optimizer: ("sgd", 0.05),
    },
    Case {
        name: "linear map",
        shape: (4, &[], 3),
        goal: Goal::Values,
        special: Special::Nothing,
        sizes: &[4],
        optimizer: ("sgd", 0.2),
    },
    Case {
        name: "dead units",
        shape: (4, &[(4, RELU), (4, RELU)], 2),
        goal: Goal::Values,
        special: Special::DeadUnits,
        sizes: &[4],
        optimizer: ("momentum", 0.02),
    },
    Case {
        name: "a dead layer",
        shape: (3, &[(3, RELU), (3, RELU)], 2),
        goal: Goal::Values,
        special: Special::DeadLayer,
        sizes: &[4],
        optimizer: ("sgd", 0.1),
    },
    Case {
        name: "ogd",
        shape: (4, &[(4, RELU)], 2),
        goal: Goal::Values,
        special: Special::Nothing,
        sizes: &[4],
        optimizer: ("ogd", 1.0),
    },
    Case {
        name: "a short last minibatch",
        shape: (4, &[(5, RELU), (3, LEAKY)], 2),
        goal: Goal::Values,
        special: Special::Nothing,
        sizes: &[5, 5, 5, 2],
        optimizer: ("sgd", 0.1),
    },
    Case {
        name: "minibatches of changing sizes, autoencoder",
        shape: (5, &[(3, RELU)], 5),
        goal: Goal::Inputs,
        special: Special::Nothing,
        sizes: &[1, 4, 2, 7, 7],
        optimizer: ("adam", 0.02),
    },
];

const CLASSIFIERS: &[Case] = &[
    Case {
        name: "classifier, sgd",
        shape: (3, &[(4, RELU)], 3),
        goal: Goal::Labels,
        special: Special::Nothing,
        sizes: &[4],
        optimizer: ("sgd", 0.2),
    },
    Case {
        name: "deeper classifier, adam",
        shape: (2, &[(3, ABS), (3, LEAKY)], 3),
        goal: Goal::Labels,
        special: Special::Nothing,
        sizes: &[3],
        optimizer: ("adam", 0.02),
    },
    Case {
        name: "classifier with dead units",
        shape: (3, &[(4, RELU)], 2),
        goal: Goal::Labels,
        special: Special::DeadUnits,
        sizes: &[4],
        optimizer: ("sgd", 0.2),
    },
    Case {
        name: "classifier, minibatches of changing sizes",
        shape: (3, &[(4, RELU)], 3),
        goal: Goal::Labels,
        special: Special::Nothing,
        sizes: &[2, 6, 5, 1],
        optimizer: ("sgd", 0.2),
    },
];

/// Networks on images, with the rest as above.
struct OnImages {
    image: [usize; 3],
    layers: &'static [LayerSpec],
    case: Case,
}

const fn conv(maps: usize, kernel: usize, padding: usize) -> LayerSpec {
    LayerSpec::Conv { maps, kernel, padding, stride: 1, bias: true }
}

const POOL: LayerSpec = LayerSpec::Pool { pooling: Pooling::Max, size: 2, stride: 2 };
const UNIT: LayerSpec = LayerSpec::Rectifier(Rectifier::Relu);

const IMAGES: &[OnImages] = &[
    OnImages {
        image: [1, 4, 4],
        layers: &[conv(3, 3, 1), UNIT, POOL, LayerSpec::Flatten, LayerSpec::dense(3)],
        case: Case {
            name: "convolutional classifier, sgd",
            shape: (16, &[], 3),
            goal: Goal::Labels,
            special: Special::Nothing,
            sizes: &[4],
            optimizer: ("sgd", 0.1),
        },
    },
    OnImages {
        image: [2, 4, 4],
        layers: &[conv(2, 3, 1), POOL, conv(2, 2, 0), UNIT, LayerSpec::Flatten, LayerSpec::dense(2)],
        case: Case {
            name: "two convolutions, regression, adam",
            shape: (32, &[], 2),
            goal: Goal::Values,
            special: Special::Nothing,
            sizes: &[3, 3, 1],
            optimizer: ("adam", 0.01),
        },
    },
    OnImages {
        image: [1, 3, 3],
        layers: &[conv(2, 2, 0), UNIT, LayerSpec::Flatten, LayerSpec::dense(3), UNIT, LayerSpec::dense(2)],
        case: Case {
            name: "dead filters, classifier",
            shape: (9, &[], 2),
            goal: Goal::Labels,
            special: Special::DeadUnits,
            sizes: &[4, 1, 11],
            optimizer: ("sgd", 0.2),
        },
    },
];

/// Makes a network.
type Graph = fn() -> Network;

/// Networks that branch and sum, with the rest as above.
const GRAPHS: &[(Graph, Case)] = &[
    (
        graphs::residual,
        Case {
            name: "residual, sgd",
            shape: (4, &[], 2),
            goal: Goal::Values,
            special: Special::Nothing,
            sizes: &[4, 4, 2],
            optimizer: ("sgd", 0.1),
        },
    ),
    (
        graphs::nested,
        Case {
            name: "nested residuals, classifier, adam",
            shape: (3, &[], 2),
            goal: Goal::Labels,
            special: Special::Nothing,
            sizes: &[3],
            optimizer: ("adam", 0.02),
        },
    ),
    (
        graphs::residual_images,
        Case {
            name: "residual convolutions, momentum",
            shape: (32, &[], 3),
            goal: Goal::Values,
            special: Special::Nothing,
            sizes: &[3],
            optimizer: ("momentum", 0.01),
        },
    ),
];

/// A recorded run with everything that the solvers are given.
struct Run {
    name: &'static str,
    network: Network,
    loss: Loss,
    inputs: Vec<f64>,
    values: Vec<f64>,
    labels: Vec<u32>,
    window: WindowRecorder<f64>,
    tracker: UnitTracker<f64>,
    streamed: Vec<UnitResult>,
}

/// Both comparators at every scale.
fn both() -> RegretSettings {
    RegretSettings { comparators: Comparators::both(), ..RegretSettings::default() }
}

/// Records the run and solves the closed form at every prefix.
struct Watch {
    tracker: UnitTracker<f64>,
    window: WindowRecorder<f64>,
    stream: Option<NeuronStream<f64>>,
    settings: RegretSettings,
    streamed: Vec<UnitResult>,
}

impl Observer<f64> for Watch {
    fn observe(&mut self, round: &Round<f64>) {
        self.tracker.observe(round);
        self.window.observe(round);
        if let Some(stream) = &mut self.stream {
            stream.observe(round);
            if PREFIXES.contains(&round.number) {
                let record = |id| self.tracker.record(id, round.number).expect("a prefix");
                self.streamed.extend(stream.solve(&self.settings, &record));
            }
        }
    }
}

impl Run {
    fn new(case: &Case, seed: u64, settings: &RegretSettings) -> Self {
        let (inputs, hidden, outputs) = case.shape;
        Self::of(network(inputs, hidden, outputs), case, seed, settings)
    }

    /// Networks with biases, and then without: all of them for one, some for the next. Dead units are made by biases.
    fn all(cases: &[Case], seed: u64, settings: &RegretSettings) -> Vec<Self> {
        let seeded = || cases.iter().zip(seed..);
        let with = seeded().map(|(case, seed)| Self::new(case, seed, settings));
        let free = seeded().filter(|(case, _)| case.special == Special::Nothing);
        let without = free.map(|(case, seed)| {
            let ((inputs, hidden, outputs), step) = (case.shape, 1 + seed as usize % 2);
            let network = without_biases(&network(inputs, hidden, outputs), step);
            Self { name: without_biases_of(case.name, step), ..Self::of(network, case, seed, settings) }
        });
        with.chain(without).collect()
    }

    fn of(network: Network, case: &Case, seed: u64, settings: &RegretSettings) -> Self {
        let (inputs, outputs) = (network.inputs(), network.outputs());
        let mut numbers = Numbers::new(seed);
        let data = numbers.vector(DATAPOINTS * inputs);
        let values = if case.goal == Goal::Values { numbers.vector(DATAPOINTS * outputs) } else { Vec::new() };
        let labels: Vec<u32> = match case.goal {
            Goal::Labels => (0..DATAPOINTS).map(|_| numbers.below(outputs) as u32).collect(),
            _ => Vec::new(),
        };
        let loss = if case.goal == Goal::Labels { Loss::CrossEntropy } else { Loss::Mse };
        let rounds = PREFIXES[PREFIXES.len() - 1];
        let mut watch = Watch {
            tracker: UnitTracker::new(&network, PREFIXES.iter().copied()),
            window: WindowRecorder::new((1..=rounds).collect()),
            stream: (loss == Loss::Mse && network.is_dense_chain())
                .then(|| NeuronStream::new(&network, loss, settings, case.sizes[0])),
            settings: settings.clone(),
            streamed: Vec::new(),
        };
        let mut weights = weights(&network, case.special, seed);
        let (name, rate) = case.optimizer;
        let mut optimizer = OptimizerConfig::named(name, Some(rate)).unwrap().build(&network).unwrap();
        let examples = examples(&network, &data, &values, &labels);
        let mut engine = RoundEngine::new(&network, loss, case.sizes[0]);
        // One datapoint after the other, in the order of their epoch.
        let mut order = Minibatches::new(DATAPOINTS, 1, seed).unwrap().rounds_from(1).unwrap().flatten();
        for (number, size) in (1..=rounds).zip(case.sizes.iter().cycle()) {
            let rows: Vec<u32> = order.by_ref().take(*size).collect();
            engine.compute(&weights, &examples, &rows);
            watch.observe(&engine.round(number, 1, &weights, &rows));
            optimizer.step(number, &mut weights, engine.gradient());
        }
        watch.tracker.finish(&weights, rounds);
        let Watch { tracker, window, streamed, .. } = watch;
        Self { name: case.name, network, loss, inputs: data, values, labels, window, tracker, streamed }
    }

    fn examples(&self) -> Examples<'_, f64> {
        examples(&self.network, &self.inputs, &self.values, &self.labels)
    }

    fn window(&self) -> Window<'_, f64> {
        let states = Cow::Borrowed(&self.window.states[..]);
        Window::new(&self.network, self.loss, self.examples(), states, &self.window.rows)
    }

    fn record(&self, unit: UnitId, rounds: usize) -> UnitRecord {
        self.tracker.record(unit, rounds).expect("every prefix is recorded")
    }

    /// The unit's place in the weights.
    fn unit(&self, id: UnitId) -> Unit {
        let block = self.network.blocks().iter().position(|b| Some(b.layer) == id.layer);
        let name = match (block, id.neuron) {
            (None, _) => "network".to_owned(),
            (Some(l), None) => format!("block {l}"),
            (Some(l), Some(a)) => format!("block {l}, neuron {a}"),
        };
        units(&self.network).into_iter().find(|u| u.name == name).expect("the unit exists")
    }

    /// That the reference's Jacobians, in the weights of the whole network, are those of the plain engine.
    fn has_plain_jacobians(&self) {
        let (width, outputs) = (self.network.parameters(), self.network.outputs());
        let explicit = self.explicit(UnitId { scale: Scale::Network, layer: None, neuron: None }, 3);
        let mut expected = Vec::new();
        for (state, rows) in self.window.states[..3].iter().zip(self.window.rows.iter()) {
            let mut x = Vec::new();
            self.examples().gather_inputs(rows, &mut x);
            expected.extend(Plain::new(&self.network, state, &x).weight_jacobian());
        }
        let found: Vec<f64> =
            (0..self.window.rows.start(3) * outputs * width).map(|at| explicit.a[(at / width, at % width)]).collect();
        assert_close(self.name, &found, &expected, 1e-12);
    }

    fn explicit(&self, id: UnitId, rounds: usize) -> Explicit {
        let unit = self.unit(id);
        let outputs = self.network.outputs();
        let mut columns: Vec<Vec<f64>> = vec![Vec::new(); unit.span.len()];
        let mut explicit = Explicit {
            a: Mat::new(),
            f: Vec::new(),
            loss: self.loss,
            width: outputs,
            y: Vec::new(),
            labels: Vec::new(),
            shares: Vec::new(),
        };
        let start = &self.window.states[0][unit.span.clone()];
        for (state, rows) in self.window.states[..rounds].iter().zip(self.window.rows.iter()) {
            let mut round = Problem {
                name: self.name,
                special: Special::Nothing,
                network: self.network.clone(),
                loss: self.loss,
                weights: state.clone(),
                inputs: Vec::new(),
                rows: rows.len(),
                values: Vec::new(),
                labels: Vec::new(),
            };
            let examples = self.examples();
            examples.gather_inputs(rows, &mut round.inputs);
            examples.gather_targets(rows, &mut round.values, &mut round.labels);
            for (column, new) in columns.iter_mut().zip(round.jacobian(state, &unit)) {
                column.extend(new);
            }
            explicit.f.extend(round.taylor_outputs(state, &unit, start));
            explicit.y.extend(&round.values);
            explicit.shares.extend(vec![1.0 / (rounds * rows.len()) as f64; rows.len()]);
            explicit.labels.extend(&round.labels);
        }
        explicit.a = Mat::from_fn(explicit.f.len(), columns.len(), |i, j| columns[j][i]);
        explicit
    }
}

fn examples<'a>(network: &Network, inputs: &'a [f64], values: &'a [f64], labels: &'a [u32]) -> Examples<'a, f64> {
    let features = network.inputs();
    if !labels.is_empty() {
        return Examples::classifier(inputs, features, labels);
    }
    if values.is_empty() {
        return Examples::autoencoder(inputs, features);
    }
    Examples { inputs, features, targets: Targets::Values(values), target_width: network.outputs() }
}

/// `F(u) = sum share loss(f + A u)`, with every row of every round spelled out: the mean over rounds of the means over their minibatches.
struct Explicit {
    a: Mat<f64>,
    /// The predicted outputs at `W^1`.
    f: Vec<f64>,
    loss: Loss,
    width: usize,
    y: Vec<f64>,
    labels: Vec<u32>,
    /// What each row is multiplied by.
    shares: Vec<f64>,
}

/// A minimum over a ball: `value` at a point of the ball, and a `bound` that no point of the ball lies below.
#[derive(Clone, Copy, Debug)]
struct Minimum {
    value: f64,
    bound: f64,
    distance: f64,
}

fn length(u: &[f64]) -> f64 {
    u.iter().map(|v| v * v).sum::<f64>().sqrt()
}

impl Explicit {
    fn outputs(&self, u: &[f64]) -> Vec<f64> {
        let moved = &self.a * MatRef::from_column_major_slice(u, u.len(), 1);
        self.f.iter().enumerate().map(|(i, f)| f + moved[(i, 0)]).collect()
    }

    /// Value and gradient, from the definition of the losses.
    fn value_gradient(&self, u: &[f64]) -> (f64, Vec<f64>) {
        let outputs = self.outputs(u);
        let (mut value, mut slopes) = (0.0, Vec::new());
        for ((i, f), share) in outputs.chunks(self.width).enumerate().zip(&self.shares) {
            match self.loss {
                Loss::Mse => {
                    for (k, f) in f.iter().enumerate() {
                        let residual = f - self.y[i * self.width + k];
                        value += share * residual * residual / self.width as f64;
                        slopes.push(share * 2.0 * residual / self.width as f64);
                    }
                }
                Loss::CrossEntropy => {
                    let label = self.labels[i] as usize;
                    let top = f.iter().copied().fold(f64::MIN, f64::max);
                    value += share * (top + f.iter().map(|v| (v - top).exp()).sum::<f64>().ln() - f[label]);
                    slopes.extend(
                        crate::common::softmax(f)
                            .iter()
                            .enumerate()
                            .map(|(k, p)| share * (p - f64::from(u8::from(k == label)))),
                    );
                }
            }
        }
        let gradient = self.a.transpose() * MatRef::from_column_major_slice(&slopes, slopes.len(), 1);
        (value, (0..u.len()).map(|j| gradient[(j, 0)]).collect())
    }

    /// The minimum over the ball of the given radius, which may be infinite for the mean squared error.
    fn minimum(&self, radius: f64) -> Minimum {
        match self.loss {
            Loss::Mse => self.least_squares(radius),
            Loss::CrossEntropy => self.newton(radius),
        }
    }

    fn least_squares(&self, radius: f64) -> Minimum {
        // Rows times the roots of their shares, relative to the mean one.
        let rows = self.shares.len() as f64;
        let root = |i: usize| (self.shares[i / self.width] * rows).sqrt();
        let a = Mat::from_fn(self.a.nrows(), self.a.ncols(), |i, j| root(i) * self.a[(i, j)]);
        let svd = a.thin_svd().expect("the decomposition converges");
        let s: Vec<f64> = svd.S().column_vector().iter().copied().collect();
        let b = Mat::from_fn(self.f.len(), 1, |i, _| root(i) * (self.y[i] - self.f[i]));
        let c = svd.U().transpose() * &b;
        let cutoff = 1e-11 * s.iter().copied().fold(0.0, f64::max);
        let point =
            |shift: f64| {
                let hat = Mat::from_fn(s.len(), 1, |j, _| {
                    if s[j] > cutoff { s[j] * c[(j, 0)] / (s[j] * s[j] + shift) } else { 0.0 }
                });
                let u = svd.V() * hat;
                (0..self.a.ncols()).map(|j| u[(j, 0)]).collect::<Vec<f64>>()
            };
        let free = point(0.0);
        if length(&free) <= radius {
            let value = self.value_gradient(&free).0;
            return Minimum { value, bound: value, distance: length(&free) };
        }
        if radius == 0.0 {
            let value = self.value_gradient(&vec![0.0; free.len()]).0;
            return Minimum { value, bound: value, distance: 0.0 };
        }
        // The length of the point falls with the shift: bisection on its logarithm.
        let (mut low, mut high) = (-80.0f64, 80.0f64);
        for _ in 0..200 {
            let middle = 0.5 * (low + high);
            if length(&point(middle.exp())) > radius { low = middle } else { high = middle }
        }
        let mut u = point(high.exp());
        let scale = radius / length(&u);
        u.iter_mut().for_each(|v| *v *= scale);
        let value = self.value_gradient(&u).0;
        Minimum { value, bound: value, distance: radius }
    }

    /// Minimizes `F(u) + shift |u|^2 / 2` by Newton's method with halved steps.
    fn shifted(&self, shift: f64, start: &[f64]) -> Vec<f64> {
        let d = start.len();
        let mut u = start.to_vec();
        let penalized = |u: &[f64], value: f64| value + 0.5 * shift * u.iter().map(|v| v * v).sum::<f64>();
        for _ in 0..100 {
            let (value, mut gradient) = self.value_gradient(&u);
            gradient.iter_mut().zip(&u).for_each(|(g, u)| *g += shift * u);
            let outputs = self.outputs(&u);
            let mut bent = Mat::<f64>::zeros(self.f.len(), d);
            for (i, f) in outputs.chunks(self.width).enumerate() {
                let h: Vec<f64> = loss_hessian(self.loss, f).iter().map(|h| h * self.shares[i]).collect();
                let h = MatRef::from_row_major_slice(&h, self.width, self.width);
                let rows = self.a.as_ref().subrows(i * self.width, self.width);
                bent.as_mut().subrows_mut(i * self.width, self.width).copy_from(h * rows);
            }
            let hessian = self.a.transpose() * &bent;
            let hessian = Mat::from_fn(d, d, |i, j| hessian[(i, j)] + if i == j { shift.max(1e-13) } else { 0.0 });
            let factor = Llt::new(hessian.as_ref(), Side::Lower).expect("the Hessian is positive definite");
            let step = factor.solve(Mat::from_fn(d, 1, |j, _| -gradient[j]));
            let decrement: f64 = (0..d).map(|j| -gradient[j] * step[(j, 0)]).sum();
            if decrement < 1e-26 {
                break;
            }
            let before = penalized(&u, value);
            let mut size = 1.0;
            let better = loop {
                let trial: Vec<f64> = u.iter().enumerate().map(|(j, u)| u + size * step[(j, 0)]).collect();
                // Near the minimum the step is right, and the decrease drowns in rounding.
                if decrement < 1e-10 || penalized(&trial, self.value_gradient(&trial).0) < before {
                    break Some(trial);
                }
                size *= 0.5;
                if size < 1e-6 {
                    break None;
                }
            };
            match better {
                Some(trial) => u = trial,
                None => break,
            }
        }
        u
    }

    /// By bisection on the multiplier of `|u|^2 <= radius^2`.
    fn newton(&self, radius: f64) -> Minimum {
        let start = vec![0.0; self.a.ncols()];
        let (value, slope) = self.value_gradient(&start);
        if radius == 0.0 || length(&slope) == 0.0 {
            return Minimum { value, bound: value, distance: 0.0 };
        }
        // With the multiplier |F'(0)| / radius the point lies inside the ball.
        let mut high = length(&slope) / radius * 1.0001;
        let mut low = 1e-12 * high;
        let mut u = self.shifted(low, &start);
        let mut multiplier = low;
        if length(&u) > radius {
            u = self.shifted(high, &start);
            while high > low * (1.0 + 1e-12) {
                let middle = (low * high).sqrt();
                let trial = self.shifted(middle, &u);
                if length(&trial) > radius {
                    low = middle;
                } else {
                    (high, u) = (middle, trial);
                }
            }
            multiplier = high;
        }
        let (value, slope) = self.value_gradient(&u);
        // The Lagrangian is convex with its minimum at u, up to the gradient that rounding left.
        let lagrangian = value + 0.5 * multiplier * (length(&u).powi(2) - radius * radius);
        let rest: Vec<f64> = slope.iter().zip(&u).map(|(g, u)| g + multiplier * u).collect();
        Minimum { value, bound: lagrangian - 2.0 * radius * length(&rest), distance: length(&u) }
    }
}

/// What every result must satisfy against the reference; `tolerance` is the one that the solver must reach, if it must.
fn check(run: &Run, solver: &str, id: UnitId, comparison: Comparison, found: &Found, tolerance: Option<f64>) {
    let Found { rounds, value, gap, distance, attained } = *found;
    let record = run.record(id, rounds);
    let what = format!("{}, {solver}, {}, {comparison:?}, {rounds} rounds: {found:?}", run.name, run.unit(id).name);
    let explicit = run.explicit(id, rounds);
    // Sums of at most a few hundred terms of the size of the loss; far out, a closed form adds terms of the size
    // |H| |u|^2 that cancel.
    let trace = 2.0 * explicit.a.squared_norm_l2() / explicit.f.len() as f64;
    let rounding = 1e-12 * record.mean_loss.max(1.0) + 2e-16 * trace * distance * distance;
    let radius = comparison.certified_radius(distance);
    assert!(distance <= radius * (1.0 + 1e-12), "{what}: outside its ball of radius {radius}");
    let minimum = explicit.minimum(radius.max(distance));
    assert!(value - gap <= minimum.value + rounding, "{what}: the gap is no upper bound: {minimum:?}");
    assert!(value >= minimum.bound - rounding, "{what}: below the minimum: {minimum:?}");
    let (start, slope) = explicit.value_gradient(&vec![0.0; explicit.a.ncols()]);
    assert!(value <= start + rounding, "{what}: worse than the start, {start}");
    if let Some(tolerance) = tolerance.filter(|_| attained) {
        assert!(
            gap <= tolerance * record.mean_loss + rounding,
            "{what}: not converged, mean loss {}",
            record.mean_loss
        );
        // The start is no minimizer unless its gradient vanishes (a ball of radius 0 has only the start).
        let alone = comparison.radius == Some(0.0) || distance > 0.0;
        assert!(alone || length(&slope) * radius.max(1.0) <= tolerance * record.mean_loss, "{what}: did not move");
    }
}

/// What a solver reports.
#[derive(Clone, Copy, Debug)]
struct Found {
    rounds: usize,
    value: f64,
    gap: f64,
    distance: f64,
    attained: bool,
}

impl Found {
    fn of(result: &UnitResult) -> Self {
        Self {
            rounds: result.record.rounds,
            value: result.taylor_optimum,
            gap: result.gap,
            distance: result.distance,
            attained: result.attained,
        }
    }
}

fn check_results(run: &Run, solver: &str, results: &[UnitResult], settings: &RegretSettings, tolerance: f64) {
    for result in results {
        let record = run.record(result.unit, result.record.rounds);
        assert_eq!(record, result.record);
        let comparison = settings.comparison(result.comparator, record.displacement);
        // The subspace search may end earlier where nothing bounds it: at its limit, or where single precision ends.
        let certain = comparison.radius.is_some() || solver != "subspace";
        check(run, solver, result.unit, comparison, &Found::of(result), certain.then_some(tolerance));
        assert_eq!(result.dimension, run.unit(result.unit).span.len());
    }
}

/// The units of one scale.
fn count(network: &Network, scale: Scale) -> usize {
    match scale {
        Scale::Network => 1,
        Scale::Layer => network.blocks().len(),
        Scale::Neuron => network.blocks().iter().map(|b| b.units).sum(),
    }
}

/// The subspace search for a range of blocks: its reports must follow from its points.
fn check_iterative(run: &Run, windows: &Windows, id: UnitId, settings: &RegretSettings) -> Vec<(Comparator, Found)> {
    let blocks = run.unit(id).blocks;
    let mut all = Vec::new();
    let found = iterative_optima(windows, blocks, PREFIXES, settings, &|n| run.record(id, n), &|_| ());
    assert_eq!(found.len(), PREFIXES.len() * settings.comparators.of(ClosedForm::No).len());
    for (comparator, rounds, optimum) in found {
        let record = run.record(id, rounds);
        let comparison = settings.comparison(comparator, record.displacement);
        let what = format!("{}, {}, {comparator}, {rounds} rounds", run.name, run.unit(id).name);
        let explicit = run.explicit(id, rounds);
        let (value, gradient) = explicit.value_gradient(&optimum.displacement);
        let scale = record.mean_loss.max(1.0);
        assert!((value - optimum.value).abs() <= 1e-11 * scale, "{what}: {value}, reported {}", optimum.value);
        assert!((length(&optimum.displacement) - optimum.distance).abs() <= 1e-12 * optimum.distance, "{what}");
        // The gap is a small difference of products with a gradient that is itself a sum of cancelling terms.
        let radius = comparison.certified_radius(optimum.distance);
        let inner: f64 = gradient.iter().zip(&optimum.displacement).map(|(g, u)| g * u).sum();
        let gap = (radius * length(&gradient) + inner).max(0.0);
        let rounding = 1e-11 * scale * radius.max(1.0);
        // At the start an unconstrained comparator of a unit that has not moved has no ball to be certified over.
        let vacuous = comparator == Comparator::Unconstrained && radius == 0.0;
        assert!(
            vacuous || optimum.gap <= gap + rounding,
            "{what}: reported {} above Frank and Wolfe's {gap}",
            optimum.gap
        );
        let stop = optimum.stop;
        let far = stop == StopReason::AtInfinity;
        assert!(!(far && optimum.attained), "{what}: stopped with {stop:?}");
        assert!(
            !far || (comparator == Comparator::Unconstrained && run.loss == Loss::CrossEntropy),
            "{what}: {stop:?}"
        );
        assert!(stop != StopReason::Iterations || optimum.iterations >= settings.max_products / 2, "{what}: {stop:?}");
        let found = Found {
            rounds,
            value: optimum.value,
            gap: optimum.gap,
            distance: optimum.distance,
            attained: optimum.attained,
        };
        let certain = stop == StopReason::Converged || comparison.radius.is_some();
        check(run, "subspace", id, comparison, &found, certain.then_some(settings.tolerance));
        all.push((comparator, found));
    }
    all
}

#[test]
fn optima_of_the_mean_squared_error_are_those_of_dense_least_squares() {
    for tolerance in [1e-4, 1e-6] {
        let settings = RegretSettings { tolerance, neuron_tolerance: 0.01 * tolerance, max_products: 400, ..both() };
        for run in Run::all(SQUARES, 0, &settings) {
            let exact = run.window();
            let fast = exact.to_f32();
            let preconditioners = Preconditioners::new(&exact, PREFIXES, true);
            let work = &mut Work::to_the_end();
            let (fast, preconditioners, stop) = (&fast, &preconditioners, work.stop());
            let windows = Windows { exact: &exact, fast, preconditioners, stop };
            let record = |id, n| run.record(id, n);

            let per_unit = PREFIXES.len() * 2;
            assert_eq!(run.streamed.len(), count(&run.network, Scale::Neuron) * per_unit);
            check_results(&run, "stream", &run.streamed, &settings, settings.neuron_tolerance);
            let layers = layer::optima(&windows, PREFIXES, &settings, &record, work).unwrap();
            assert_eq!(layers.len(), count(&run.network, Scale::Layer) * per_unit);
            check_results(&run, "direct", &layers, &settings, tolerance);
            let networks = whole::optima(&windows, PREFIXES, &settings, &record, work).unwrap();
            assert_eq!(networks.len(), per_unit);
            check_results(&run, "subspace", &networks, &settings, tolerance);

            for block in run.network.blocks() {
                let id = UnitId::layer(block.layer);
                for (comparator, iterative) in check_iterative(&run, &windows, id, &settings) {
                    let direct = layers
                        .iter()
                        .find(|r| (r.unit, r.comparator, r.record.rounds) == (id, comparator, iterative.rounds))
                        .map(Found::of)
                        .expect("the direct solver has the row");
                    let what = format!("{}, {id:?}, {comparator}: {iterative:?} and {direct:?}", run.name);
                    // Each lies above the other by its own gap at most, where the other is in its certified ball.
                    let displacement = run.record(id, iterative.rounds).displacement;
                    let comparison = settings.comparison(comparator, displacement);
                    let within = |a: &Found, b: &Found| {
                        b.distance > comparison.certified_radius(a.distance) * (1.0 + 1e-9)
                            || a.value <= b.value + a.gap + 1e-12
                    };
                    assert!(within(&iterative, &direct) && within(&direct, &iterative), "{what}");
                }
            }
            let id = UnitId::NETWORK;
            check_iterative(&run, &windows, id, &settings);
        }
    }
}

/// What the optima of a unit prove about each other is true, and makes none of them worse. Searches of few products leave much to prove.
#[test]
fn free_bounds_hold_against_dense_references() {
    let (mut better, mut tighter) = (0, 0);
    for (seed, case) in SQUARES.iter().chain(CLASSIFIERS).enumerate() {
        let settings = RegretSettings { max_products: 3, ..both() };
        let run = Run::new(case, 80 + seed as u64, &settings);
        let exact = run.window();
        let fast = exact.to_f32();
        let preconditioners = Preconditioners::new(&exact, PREFIXES, true);
        let work = &mut Work::to_the_end();
        let (fast, preconditioners, stop) = (&fast, &preconditioners, work.stop());
        let windows = Windows { exact: &exact, fast, preconditioners, stop };
        // One ball for all prefixes.
        let last = PREFIXES[PREFIXES.len() - 1];
        let whole_run = |id| run.record(id, last).displacement;
        let record = |id, n| UnitRecord { displacement: whole_run(id), ..run.record(id, n) };
        let mut results = run.streamed.clone();
        results.extend(layer::optima(&windows, PREFIXES, &settings, &record, work).unwrap());
        results.extend(whole::optima(&windows, PREFIXES, &settings, &record, work).unwrap());
        let before = results.clone();
        free_bounds::tighten(&mut results);
        for (old, new) in before.iter().zip(&results) {
            let what = format!("{}, {new:?} of {old:?}", run.name);
            let explicit = run.explicit(new.unit, new.record.rounds);
            let trace = 2.0 * explicit.a.squared_norm_l2() / explicit.f.len() as f64;
            let farthest = new.distance.max(old.distance);
            let rounding = 1e-12 * new.record.mean_loss.max(1.0) + 2e-16 * trace * farthest * farthest;
            assert!(new.taylor_optimum <= old.taylor_optimum, "{what}: the value rose");
            assert!(new.radius > old.radius || new.lower() >= old.lower() - rounding, "{what}: the lower bound fell");
            let minimum = explicit.minimum(new.radius);
            assert!(new.lower() <= minimum.value + rounding, "{what}: no lower bound: {minimum:?}");
            let feasible = explicit.minimum(new.radius.max(new.distance));
            assert!(new.taylor_optimum >= feasible.bound - rounding - 1e-9, "{what}: below {feasible:?}");
            assert!(new.comparator == Comparator::Unconstrained || new.distance <= new.radius * (1.0 + 1e-9), "{what}");
            better += usize::from(new.taylor_optimum < old.taylor_optimum);
            tighter += usize::from(new.radius <= old.radius && new.lower() > old.lower());
        }
    }
    assert!(better > 20 && tighter > 20, "{better} better values, {tighter} tighter certificates");
}

/// The path of shifted systems only ever grows towards the least-norm minimizer.
#[test]
fn unconstrained_optima_lie_no_farther_than_the_least_norm_minimizer() {
    let settings = both();
    let mut near = 0;
    for (seed, case) in SQUARES.iter().enumerate() {
        let run = Run::new(case, seed as u64, &settings);
        for result in run.streamed.iter().filter(|r| r.comparator == Comparator::Unconstrained) {
            let minimum = run.explicit(result.unit, result.record.rounds).minimum(f64::INFINITY);
            let what = format!("{}, {:?}: {} and {minimum:?}", run.name, result.unit, result.distance);
            // With the smallest shifts, directions without curvature hold rounding noise.
            assert!(result.distance <= 1.01 * minimum.distance + 1e-9, "{what}");
            near += u32::from(result.taylor_optimum <= minimum.value + 1e-6);
        }
    }
    assert!(near > 100, "only {near} optima are close to the least-norm minimum");
}

#[test]
fn optima_of_cross_entropy_are_those_of_a_slow_newton_method() {
    let settings = RegretSettings { max_products: 400, ..both() };
    for run in Run::all(CLASSIFIERS, 20, &settings) {
        let exact = run.window();
        let fast = exact.to_f32();
        let preconditioners = Preconditioners::new(&exact, PREFIXES, true);
        let work = &mut Work::to_the_end();
        let (fast, preconditioners, stop) = (&fast, &preconditioners, work.stop());
        let windows = Windows { exact: &exact, fast, preconditioners, stop };
        let record = |id, n| run.record(id, n);
        for n in PREFIXES {
            let neurons = neuron::optima(&exact, *n, &settings, &|id| run.record(id, *n), work).unwrap();
            assert_eq!(neurons.len(), 2 * count(&run.network, Scale::Neuron));
            check_results(&run, "neuron", &neurons, &settings, settings.neuron_tolerance);
        }
        let layers = layer::optima(&windows, PREFIXES, &settings, &record, work).unwrap();
        assert_eq!(layers.len(), 2 * PREFIXES.len() * count(&run.network, Scale::Layer));
        check_results(&run, "subspace", &layers, &settings, settings.tolerance);
        let networks = whole::optima(&windows, PREFIXES, &settings, &record, work).unwrap();
        check_results(&run, "subspace", &networks, &settings, settings.tolerance);
        for block in run.network.blocks() {
            let id = UnitId::layer(block.layer);
            check_iterative(&run, &windows, id, &settings);
        }
        // Balls always hold a minimizer.
        let balls = layers.iter().chain(&networks).filter(|r| r.comparator == Comparator::Ball);
        assert!(balls.clone().count() > 0 && balls.clone().all(|r| r.attained));
        // Few datapoints are separable, so the infimum of some unit lies at infinity.
        let far = layers.iter().chain(&networks).filter(|r| !r.attained).count();
        assert!(far > 0, "{}: nothing was unattained", run.name);
    }
}

/// The search by passes knows nothing of layers: it must solve dense and convolutional networks alike, with its linearized rounds
/// kept in memory or computed again.
#[test]
fn optima_by_passes_are_those_of_the_dense_references() {
    let settings = RegretSettings { max_products: 400, ..both() };
    let dense = SQUARES.iter().chain(CLASSIFIERS).enumerate().filter(|(index, _)| index % 3 == 0);
    let mut runs: Vec<Run> = dense.map(|(seed, case)| Run::new(case, 40 + seed as u64, &settings)).collect();
    for (seed, on) in IMAGES.iter().enumerate() {
        let network = Network::new(Shape::from_sizes(&on.image).unwrap(), on.layers).unwrap();
        if on.case.special == Special::Nothing {
            let (name, network) = (without_biases_of(on.case.name, 2), without_biases(&network, 2));
            runs.push(Run { name, ..Run::of(network, &on.case, 60 + seed as u64, &settings) });
        }
        runs.push(Run::of(network, &on.case, 60 + seed as u64, &settings));
    }
    runs.extend(Run::all(&CLASSIFIERS[..1], 40, &settings));
    for (seed, (graph, case)) in GRAPHS.iter().enumerate() {
        let run = Run::of(graph(), case, 80 + seed as u64, &settings);
        run.has_plain_jacobians();
        runs.push(run);
    }
    for run in runs {
        let examples = run.examples();
        let sample = Sample {
            network: &run.network,
            loss: run.loss,
            examples: &examples,
            states: &run.window.states,
            rows: &run.window.rows,
        };
        let record = |id, n| run.record(id, n);
        let solve = |memory: usize| {
            let search = MatrixFree::new(sample, PREFIXES, &settings, memory);
            let work = &mut Work::to_the_end();
            let neurons = search.neurons(&record, work).unwrap();
            (neurons, search.layers(&record, work).unwrap(), search.network(&record, work).unwrap())
        };
        let (neurons, layers, networks) = solve(1 << 30);
        assert_eq!(neurons.len(), 2 * PREFIXES.len() * count(&run.network, Scale::Neuron));
        assert_eq!(layers.len(), 2 * PREFIXES.len() * count(&run.network, Scale::Layer));
        check_results(&run, "subspace", &neurons, &settings, settings.neuron_tolerance);
        check_results(&run, "subspace", &layers, &settings, settings.tolerance);
        check_results(&run, "subspace", &networks, &settings, settings.tolerance);
        let again = solve(0);
        check_results(&run, "subspace", &again.0, &settings, settings.neuron_tolerance);
        let values =
            |results: &[UnitResult]| -> Vec<(f64, f64)> { results.iter().map(|r| (r.taylor_optimum, r.gap)).collect() };
        assert_eq!(values(&again.1), values(&layers), "{}: layers", run.name);
        assert_eq!(values(&again.2), values(&networks), "{}: network", run.name);
    }
}

/// A network of random shape, to be trained in a random way.
fn random_case(numbers: &mut Numbers) -> (Network, Case) {
    const SIZES: [&[usize]; 4] = [&[4], &[1], &[3, 5, 2], &[6, 6, 6, 3]];
    const OPTIMIZERS: [(&str, f64); 5] =
        [("sgd", 0.1), ("adam", 0.03), ("rmsprop", 0.01), ("momentum", 0.02), ("adagrad", 0.05)];
    let rectifiers = [RELU, RELU, LEAKY, ABS, None];
    let hidden: Vec<_> = (0..numbers.below(3)).map(|_| (1 + numbers.below(4), rectifiers[numbers.below(5)])).collect();
    let (inputs, goal) =
        (1 + numbers.below(4), [Goal::Labels, Goal::Labels, Goal::Values, Goal::Inputs][numbers.below(4)]);
    let outputs = match goal {
        Goal::Labels => 2 + numbers.below(3),
        Goal::Values => 1 + numbers.below(3),
        Goal::Inputs => inputs,
    };
    let network = network(inputs, &hidden, outputs);
    let case = Case {
        name: "random",
        shape: (1, &[], 1),
        goal,
        special: Special::Nothing,
        sizes: SIZES[numbers.below(4)],
        optimizer: OPTIMIZERS[numbers.below(5)],
    };
    (if numbers.below(4) == 0 { without_biases(&network, 1) } else { network }, case)
}

/// All scales and both losses, with budgets from too small to ample, and with what optima prove about each other.
#[test]
fn the_true_optimum_of_a_thousand_random_problems_lies_in_the_reported_interval() {
    let mut numbers = Numbers::new(2017);
    let (mut problems, mut moved) = (0, 0);
    for seed in 0.. {
        if problems >= 1000 {
            break;
        }
        let (network, case) = random_case(&mut numbers);
        let max_products = [3, 10, 400][numbers.below(3)];
        let settings =
            RegretSettings { max_products, comparators: Comparators::Chosen(vec![Comparator::Ball]), ..both() };
        let run = Run::of(network, &case, 1000 + seed, &settings);
        let exact = run.window();
        let fast = exact.to_f32();
        let preconditioners = Preconditioners::new(&exact, PREFIXES, true);
        let work = &mut Work::to_the_end();
        let (fast, preconditioners, stop) = (&fast, &preconditioners, work.stop());
        let windows = Windows { exact: &exact, fast, preconditioners, stop };
        let last = PREFIXES[PREFIXES.len() - 1];
        let whole_run = |id| run.record(id, last).displacement;
        let record = |id, n| UnitRecord { displacement: whole_run(id), ..run.record(id, n) };
        let mut results = run.streamed.clone();
        if run.loss == Loss::CrossEntropy {
            for n in PREFIXES {
                results.extend(neuron::optima(&exact, *n, &settings, &|id| record(id, *n), work).unwrap());
            }
        }
        results.extend(layer::optima(&windows, PREFIXES, &settings, &record, work).unwrap());
        results.extend(whole::optima(&windows, PREFIXES, &settings, &record, work).unwrap());
        free_bounds::tighten(&mut results);
        for result in &results {
            let explicit = run.explicit(result.unit, result.record.rounds);
            let minimum = explicit.minimum(result.radius);
            let trace = 2.0 * explicit.a.squared_norm_l2() / explicit.f.len() as f64;
            let rounding = 1e-12 * result.record.mean_loss.max(1.0) + 2e-16 * trace * result.distance.powi(2);
            let what = format!("{seed}, {:?}, {result:?}: {minimum:?}", case.optimizer);
            assert!(result.lower() <= minimum.value + rounding, "{what}");
            assert!(minimum.bound - rounding <= result.taylor_optimum, "{what}");
            problems += 1;
            moved += usize::from(result.taylor_optimum < 0.9 * result.start);
        }
    }
    assert!(moved > problems / 2, "only {moved} of {problems} optima are far from their start");
}

/// The reference itself: no random point of a ball lies below its minimum.
#[test]
fn the_reference_lies_below_random_points_of_its_ball() {
    let settings = both();
    for case in [&SQUARES[0], &SQUARES[2], &CLASSIFIERS[0]] {
        let run = Run::new(case, 7, &settings);
        let id = UnitId::NETWORK;
        let explicit = run.explicit(id, 12);
        let mut numbers = Numbers::new(3);
        for radius in [0.1, 1.0, 5.0] {
            let minimum = explicit.minimum(radius);
            assert!(minimum.value - minimum.bound <= 1e-9, "{minimum:?}");
            assert!(minimum.value < explicit.value_gradient(&vec![0.0; explicit.a.ncols()]).0);
            for _ in 0..200 {
                let mut u = numbers.direction(explicit.a.ncols());
                u.iter_mut().for_each(|v| *v *= radius);
                // Steepest descent brings the point near the minimum, where a difference would show.
                for _ in 0..20 {
                    let (_, g) = explicit.value_gradient(&u);
                    u.iter_mut().zip(&g).for_each(|(u, g)| *u -= 0.1 * g);
                    let size = length(&u);
                    if size > radius {
                        u.iter_mut().for_each(|v| *v *= radius / size);
                    }
                }
                assert!(explicit.value_gradient(&u).0 >= minimum.bound - 1e-12);
            }
        }
    }
}
