//! The problems that the tests of the mathematics share, and slow, plain references for them.

pub mod graphs;
pub mod plain;

use plain::Plain;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{borrow::Cow, ops::Range};
use taylorscope::{
    data::RoundRows,
    loss::{Loss, Targets},
    network::{LayerSpec, Network, Pooling, Rectifier, Shape, he_uniform},
    num::{Real, convert},
    passes::{Passes, Point, Tape},
    taylor::chain::window::Window,
    train::{Examples, RoundEngine},
};

pub const RELU: Option<Rectifier> = Some(Rectifier::Relu);
pub const LEAKY: Option<Rectifier> = Some(Rectifier::LeakyRelu { slope: 0.1 });
const ABS: Option<Rectifier> = Some(Rectifier::Abs);
/// A dense layer with another one right behind it.
const LINEAR: Option<Rectifier> = None;

/// What the outputs are compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// The inputs, by mean squared error.
    Inputs,
    /// Random values, by mean squared error.
    Values,
    /// Random labels, by cross-entropy.
    Labels,
}

/// What is done to the random weights or inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Special {
    Nothing,
    /// Every second unit of each hidden layer is inactive on all inputs.
    DeadUnits,
    /// All units of the middle hidden layer are inactive on all inputs.
    DeadLayer,
    /// All hidden units are active on all inputs.
    Saturated,
    /// The first unit of each hidden layer has zero weights: it sits exactly at its kink on all inputs.
    Kinks,
    /// Images are constant, and all numbers multiples of 1/8: values in a pooling window are exactly equal.
    Ties,
    /// Four of five inputs are zero.
    MostlyZero,
}

/// Inputs, hidden layers with what stands behind them, outputs.
type Shaped = (usize, &'static [(usize, Option<Rectifier>)], usize);

/// Name, shape, datapoints, goal, special weights. The place in the table seeds the numbers.
const PROBLEMS: &[(&str, Shaped, usize, Goal, Special)] = &[
    ("linear map", (3, &[], 2), 5, Goal::Values, Special::Nothing),
    ("width one throughout", (1, &[(1, RELU), (1, LEAKY)], 1), 6, Goal::Values, Special::Nothing),
    ("shallow autoencoder", (4, &[(3, RELU)], 4), 6, Goal::Inputs, Special::Nothing),
    ("deep autoencoder", (4, &[(5, RELU), (2, RELU), (5, RELU)], 4), 7, Goal::Inputs, Special::Nothing),
    ("bottleneck of width one", (3, &[(4, RELU), (1, ABS), (4, RELU)], 3), 6, Goal::Values, Special::Nothing),
    ("leaky, deep", (3, &[(4, LEAKY), (4, LEAKY), (3, LEAKY)], 2), 5, Goal::Values, Special::Nothing),
    ("absolute values", (3, &[(4, ABS), (3, ABS)], 2), 5, Goal::Values, Special::Nothing),
    ("one datapoint", (3, &[(4, RELU), (3, RELU)], 2), 1, Goal::Values, Special::Nothing),
    ("one output", (5, &[(4, RELU), (3, LEAKY)], 1), 8, Goal::Values, Special::Nothing),
    ("more outputs than units", (3, &[(2, RELU), (3, ABS)], 7), 4, Goal::Values, Special::Nothing),
    ("a layer without rectifier", (4, &[(3, LINEAR), (5, RELU)], 2), 6, Goal::Values, Special::Nothing),
    ("dead units", (4, &[(4, RELU), (4, RELU)], 3), 6, Goal::Values, Special::DeadUnits),
    ("a dead layer", (3, &[(4, RELU), (3, RELU), (4, RELU)], 2), 5, Goal::Values, Special::DeadLayer),
    ("saturated", (3, &[(4, RELU), (3, RELU)], 2), 5, Goal::Values, Special::Saturated),
    ("at the kink, relu", (3, &[(4, RELU), (3, RELU)], 2), 5, Goal::Values, Special::Kinks),
    ("at the kink, leaky", (3, &[(4, LEAKY), (3, LEAKY)], 2), 5, Goal::Values, Special::Kinks),
    ("at the kink, abs", (3, &[(4, ABS), (3, ABS)], 2), 5, Goal::Values, Special::Kinks),
    ("linear classifier", (4, &[], 3), 7, Goal::Labels, Special::Nothing),
    ("classifier", (4, &[(5, RELU), (4, RELU)], 3), 7, Goal::Labels, Special::Nothing),
    ("deep classifier", (3, &[(4, LEAKY), (3, ABS), (2, LINEAR), (3, RELU)], 4), 6, Goal::Labels, Special::Nothing),
    ("two classes, one datapoint", (2, &[(3, ABS)], 2), 1, Goal::Labels, Special::Nothing),
    ("one class", (3, &[(3, RELU)], 1), 4, Goal::Labels, Special::Nothing),
    ("classifier with dead units", (4, &[(4, RELU), (4, RELU)], 3), 6, Goal::Labels, Special::DeadUnits),
    ("classifier with a dead layer", (3, &[(4, RELU), (3, RELU)], 3), 5, Goal::Labels, Special::DeadLayer),
    ("saturated classifier", (3, &[(4, RELU), (3, RELU)], 3), 5, Goal::Labels, Special::Saturated),
    ("inputs mostly zero", (9, &[(5, RELU), (4, ABS)], 3), 6, Goal::Values, Special::MostlyZero),
    ("classifier of inputs mostly zero", (9, &[(5, RELU), (4, LEAKY)], 3), 6, Goal::Labels, Special::MostlyZero),
];

const fn conv(maps: usize, kernel: usize, padding: usize, stride: usize) -> LayerSpec {
    LayerSpec::Conv { maps, kernel, padding, stride, bias: true }
}

const fn max_pool(size: usize, stride: usize) -> LayerSpec {
    LayerSpec::Pool { pooling: Pooling::Max, size, stride }
}

const fn mean_pool(size: usize, stride: usize) -> LayerSpec {
    LayerSpec::Pool { pooling: Pooling::Average, size, stride }
}

const fn dense(units: usize) -> LayerSpec {
    LayerSpec::dense(units)
}

const R: LayerSpec = LayerSpec::Rectifier(Rectifier::Relu);
const L: LayerSpec = LayerSpec::Rectifier(Rectifier::LeakyRelu { slope: 0.1 });
const A: LayerSpec = LayerSpec::Rectifier(Rectifier::Abs);
const F: LayerSpec = LayerSpec::Flatten;

/// Name, image, layers, datapoints, goal, special weights.
type OnImages = (&'static str, [usize; 3], &'static [LayerSpec], usize, Goal, Special);

/// The same for networks on images of `[channels, height, width]`.
const CONVOLUTIONAL: &[OnImages] = &[
    ("flattened image", [2, 2, 3], &[F, dense(3), R, dense(2)], 4, Goal::Values, Special::Nothing),
    ("convolution", [1, 4, 3], &[conv(2, 3, 1, 1), R, F, dense(2)], 4, Goal::Values, Special::Nothing),
    ("one position", [2, 3, 3], &[conv(3, 3, 0, 1), L, F, dense(2)], 4, Goal::Values, Special::Nothing),
    ("max-pool", [2, 4, 4], &[conv(3, 3, 1, 1), R, max_pool(2, 2), F, dense(3)], 5, Goal::Labels, Special::Nothing),
    (
        "pool, no rectifier",
        [1, 4, 4],
        &[conv(2, 3, 1, 1), max_pool(2, 2), F, dense(2)],
        4,
        Goal::Values,
        Special::Nothing,
    ),
    (
        "two convolutions",
        [1, 6, 6],
        &[conv(2, 3, 1, 1), L, max_pool(2, 2), conv(3, 2, 0, 1), A, F, dense(4), R, dense(3)],
        4,
        Goal::Labels,
        Special::Nothing,
    ),
    (
        "strides and means",
        [3, 5, 6],
        &[conv(3, 3, 1, 2), R, conv(2, 2, 0, 1), mean_pool(2, 1), F, dense(2)],
        3,
        Goal::Values,
        Special::Nothing,
    ),
    ("mean pool", [1, 4, 4], &[conv(3, 1, 0, 1), L, mean_pool(2, 2), F, dense(2)], 4, Goal::Labels, Special::Nothing),
    (
        "windows that overlap",
        [1, 5, 5],
        &[conv(2, 3, 1, 1), A, max_pool(3, 2), F, dense(2)],
        4,
        Goal::Labels,
        Special::Nothing,
    ),
    (
        "windows with gaps",
        [2, 5, 5],
        &[conv(2, 3, 1, 1), R, max_pool(2, 3), F, dense(2)],
        3,
        Goal::Values,
        Special::Nothing,
    ),
    ("autoencoder of images", [2, 3, 3], &[conv(2, 2, 0, 1), R, F, dense(18)], 3, Goal::Inputs, Special::Nothing),
    (
        "dead filters",
        [1, 4, 4],
        &[conv(4, 3, 1, 1), R, max_pool(2, 2), F, dense(3)],
        4,
        Goal::Labels,
        Special::DeadUnits,
    ),
    (
        "a dead convolution",
        [1, 4, 4],
        &[conv(2, 3, 1, 1), R, conv(2, 3, 1, 1), R, F, dense(2)],
        3,
        Goal::Values,
        Special::DeadLayer,
    ),
    (
        "saturated filters",
        [2, 4, 4],
        &[conv(2, 3, 1, 1), R, max_pool(2, 2), F, dense(2)],
        3,
        Goal::Values,
        Special::Saturated,
    ),
    (
        "filters at the kink, relu",
        [1, 4, 4],
        &[conv(3, 3, 1, 1), R, max_pool(2, 2), F, dense(2)],
        3,
        Goal::Labels,
        Special::Kinks,
    ),
    (
        "filters at the kink, leaky",
        [1, 4, 4],
        &[conv(3, 3, 1, 1), L, max_pool(2, 2), F, dense(2)],
        3,
        Goal::Values,
        Special::Kinks,
    ),
    (
        "filters at the kink, abs",
        [1, 4, 4],
        &[conv(3, 3, 1, 1), A, mean_pool(2, 2), F, dense(2)],
        3,
        Goal::Values,
        Special::Kinks,
    ),
    ("ties, relu", [2, 6, 6], &[conv(3, 3, 1, 1), R, max_pool(2, 2), F, dense(3)], 3, Goal::Labels, Special::Ties),
    ("ties, leaky", [1, 5, 5], &[conv(3, 3, 1, 1), L, max_pool(3, 1), F, dense(2)], 3, Goal::Values, Special::Ties),
    ("ties, abs", [1, 6, 6], &[conv(3, 3, 1, 1), A, max_pool(3, 3), F, dense(2)], 3, Goal::Values, Special::Ties),
];

/// A network at given weights with a minibatch.
#[derive(Clone, Debug)]
pub struct Problem {
    pub name: &'static str,
    pub special: Special,
    pub network: Network,
    pub loss: Loss,
    pub weights: Vec<f64>,
    /// `[rows, inputs]`.
    pub inputs: Vec<f64>,
    pub rows: usize,
    /// `[rows, outputs]`; for the inputs themselves and for labels empty.
    pub values: Vec<f64>,
    pub labels: Vec<u32>,
}

/// Seeded numbers.
pub struct Numbers(ChaCha8Rng);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Uniform in `[-1, 1)`.
    pub fn signed(&mut self) -> f64 {
        2.0 * self.0.random::<f64>() - 1.0
    }

    /// A vector of numbers in `[-1, 1)`.
    pub fn vector(&mut self, length: usize) -> Vec<f64> {
        (0..length).map(|_| self.signed()).collect()
    }

    /// A random direction of length 1.
    pub fn direction(&mut self, length: usize) -> Vec<f64> {
        let v = self.vector(length);
        let size = v.iter().map(|v| v * v).sum::<f64>().sqrt();
        v.iter().map(|v| v / size).collect()
    }

    pub fn below(&mut self, bound: usize) -> usize {
        ((self.signed() + 1.0) / 2.0 * bound as f64) as usize
    }
}

/// The list of dense layers.
fn layers(hidden: &[(usize, Option<Rectifier>)], outputs: usize) -> Vec<LayerSpec> {
    let mut layers = Vec::new();
    for (units, rectifier) in hidden {
        layers.push(LayerSpec::dense(*units));
        layers.extend(rectifier.map(LayerSpec::Rectifier));
    }
    layers.push(LayerSpec::dense(outputs));
    layers
}

/// Builds a network of dense layers.
pub fn network(inputs: usize, hidden: &[(usize, Option<Rectifier>)], outputs: usize) -> Network {
    Network::new(inputs, &layers(hidden, outputs)).expect("the layers fit")
}

/// The network without the biases of its first layer with weights, and of every `step`-th behind it.
pub fn without_biases(network: &Network, step: usize) -> Network {
    let mut weighted = 0;
    let layer = |layer: &LayerSpec| {
        let own = matches!(layer, LayerSpec::Dense { .. } | LayerSpec::Conv { .. });
        weighted += usize::from(own);
        if own && (weighted - 1).is_multiple_of(step) { layer.without_bias() } else { *layer }
    };
    let layers: Vec<LayerSpec> = network.layers().iter().map(layer).collect();
    Network::new(network.input(), &layers).expect("the layers fit")
}

/// A name that the tables do not have.
pub fn without_biases_of(name: &str, step: usize) -> &'static str {
    let which = if step == 1 { "no biases" } else { "some without bias" };
    Box::leak(format!("{name}, {which}").into_boxed_str())
}

/// He-uniform weights with biases in `[-0.3, 0.3)`, then whatever is special about them.
pub fn weights(network: &Network, special: Special, seed: u64) -> Vec<f64> {
    let mut numbers = Numbers::new(1000 + seed);
    let mut weights: Vec<f64> = he_uniform(network, seed);
    let hidden = network.hidden_blocks().len();
    for (l, block) in network.blocks().iter().enumerate() {
        for u in 0..block.units {
            let row = &mut weights[block.neuron(u)];
            if !block.bias {
                match special {
                    Special::Kinks if l < hidden && u == 0 => row.fill(0.0),
                    Special::Ties => row.iter_mut().for_each(|w| *w = eighths(*w)),
                    _ => {}
                }
                continue;
            }
            row[block.inputs] = 0.3 * numbers.signed();
            // Inputs and weights are of order one, so a bias of 100 decides alone; behind saturated layers take more.
            match special {
                Special::DeadUnits if l < hidden && u % 2 == 1 => row[block.inputs] = -100.0,
                Special::DeadLayer if l == hidden / 2 => row[block.inputs] = -100.0,
                Special::Saturated if l < hidden => row[block.inputs] = 10f64.powi(l as i32 + 1),
                Special::Kinks if l < hidden && u == 0 => row.fill(0.0),
                Special::Ties => row.iter_mut().for_each(|w| *w = eighths(*w)),
                _ => {}
            }
        }
    }
    weights
}

fn eighths(value: f64) -> f64 {
    (8.0 * value).round() / 8.0
}

/// A problem with seeded numbers.
pub fn problem(name: &'static str, seed: u64, network: Network, rows: usize, goal: Goal, special: Special) -> Problem {
    let (inputs, outputs) = (network.inputs(), network.outputs());
    let mut numbers = Numbers::new(seed);
    let mut data = numbers.vector(rows * inputs);
    if let (Special::Ties, Shape::Image(image)) = (special, network.input()) {
        data.chunks_mut(image.positions()).for_each(|channel| channel.fill(eighths(channel[0])));
    }
    if special == Special::MostlyZero {
        data.iter_mut().enumerate().filter(|(i, _)| i % 5 != 0).for_each(|(_, x)| *x = 0.0);
    }
    let values = if goal == Goal::Values { numbers.vector(rows * outputs) } else { Vec::new() };
    let labels = match goal {
        Goal::Labels => (0..rows).map(|_| numbers.below(outputs) as u32).collect(),
        _ => Vec::new(),
    };
    let loss = if goal == Goal::Labels { Loss::CrossEntropy } else { Loss::Mse };
    let weights = weights(&network, special, seed);
    Problem { name, special, network, loss, weights, inputs: data, rows, values, labels }
}

/// Whether a network needs biases to be so.
fn needs_biases(special: Special) -> bool {
    matches!(special, Special::DeadUnits | Special::DeadLayer | Special::Saturated)
}

/// The problems of a table, and what stands for them without biases: everywhere for one, here and there for the next.
struct Table {
    plain: Vec<Problem>,
    twins: Vec<Problem>,
}

impl Table {
    fn new(entries: impl Iterator<Item = (&'static str, u64, Network, usize, Goal, Special)>) -> Self {
        let (mut plain, mut twins) = (Vec::new(), Vec::new());
        for (index, (name, seed, network, rows, goal, special)) in entries.enumerate() {
            let step = 1 + index % 2;
            if !needs_biases(special) {
                let (name, network) = (without_biases_of(name, step), without_biases(&network, step));
                twins.push(problem(name, seed, network, rows, goal, special));
            }
            plain.push(problem(name, seed, network, rows, goal, special));
        }
        Self { plain, twins }
    }

    fn dense() -> Self {
        Self::new(PROBLEMS.iter().zip(0..).map(|((name, shape, rows, goal, special), seed)| {
            let (inputs, hidden, outputs) = *shape;
            (*name, seed, network(inputs, hidden, outputs), *rows, *goal, *special)
        }))
    }

    fn convolutional() -> Self {
        Self::new(CONVOLUTIONAL.iter().zip(2000..).map(|((name, image, layers, rows, goal, special), seed)| {
            let network = Network::new(Shape::from_sizes(image).expect("an image"), layers).expect("the layers fit");
            (*name, seed, network, *rows, *goal, *special)
        }))
    }
}

/// The table of problems with dense layers.
pub fn problems() -> Vec<Problem> {
    let Table { plain, twins } = Table::dense();
    [plain, twins].concat()
}

/// The table of problems on images.
pub fn convolutional_problems() -> Vec<Problem> {
    let Table { plain, twins } = Table::convolutional();
    [plain, twins].concat()
}

/// All problems.
pub fn all_problems() -> Vec<Problem> {
    let (dense, convolutional) = (Table::dense(), Table::convolutional());
    [dense.plain, convolutional.plain, dense.twins, convolutional.twins, graphs::graph_problems()].concat()
}

/// A unit whose weights move: the network, a layer or a neuron.
#[derive(Clone, Debug)]
pub struct Unit {
    pub name: String,
    /// The blocks that hold its weights.
    pub blocks: Range<usize>,
    /// Its weights in the flat vector.
    pub span: Range<usize>,
}

/// All units of a network: itself, every layer, every neuron.
pub fn units(network: &Network) -> Vec<Unit> {
    let blocks = network.blocks();
    let mut all = vec![Unit { name: "network".into(), blocks: 0..blocks.len(), span: 0..network.parameters() }];
    for (l, block) in blocks.iter().enumerate() {
        all.push(Unit { name: format!("block {l}"), blocks: l..l + 1, span: block.range() });
        for a in 0..block.units {
            all.push(Unit { name: format!("block {l}, neuron {a}"), blocks: l..l + 1, span: block.neuron(a) });
        }
    }
    all
}

impl Problem {
    pub fn targets(&self) -> Targets<'_, f64> {
        match self.loss {
            Loss::CrossEntropy => Targets::Labels(&self.labels),
            Loss::Mse if self.values.is_empty() => Targets::Values(&self.inputs),
            Loss::Mse => Targets::Values(&self.values),
        }
    }

    pub fn examples(&self) -> Examples<'_, f64> {
        let features = self.network.inputs();
        match self.targets() {
            Targets::Labels(labels) => Examples::classifier(&self.inputs, features, labels),
            Targets::Values(_) if self.values.is_empty() => Examples::autoencoder(&self.inputs, features),
            targets => Examples { inputs: &self.inputs, features, targets, target_width: self.network.outputs() },
        }
    }

    pub fn tape(&self, weights: &[f64]) -> Tape<f64> {
        Tape::record(&self.network, weights, &self.inputs, self.rows)
    }

    /// What every unit and every pooling window does: while this is the same, the linearization is.
    pub fn regions(&self, weights: &[f64]) -> (Vec<Vec<f64>>, Vec<Vec<u8>>) {
        let tape = self.tape(weights);
        (tape.derivatives, tape.argmax)
    }

    /// The outputs `[rows, outputs]` of the plain engine.
    pub fn plain_outputs(&self, weights: &[f64]) -> Vec<f64> {
        Plain::new(&self.network, weights, &self.inputs).output()
    }

    /// The rows of the minibatch: all.
    pub fn all_rows(&self) -> Vec<u32> {
        (0..self.rows as u32).collect()
    }

    /// The loss and its gradient by backpropagation.
    pub fn backprop(&self, weights: &[f64]) -> (f64, Vec<f64>) {
        let mut engine = RoundEngine::new(&self.network, self.loss, self.rows);
        engine.compute(weights, &self.examples(), &self.all_rows());
        (engine.loss(), engine.gradient().to_vec())
    }

    /// The mean loss of outputs `[rows, outputs]`, from its definition.
    pub fn plain_loss(&self, outputs: &[f64]) -> f64 {
        let width = self.network.outputs();
        let losses = outputs.chunks(width).enumerate().map(|(i, f)| match self.targets() {
            Targets::Values(y) => {
                f.iter().zip(&y[i * width..]).map(|(f, y)| (f - y).powi(2)).sum::<f64>() / width as f64
            }
            Targets::Labels(labels) => {
                let top = f.iter().copied().fold(f64::MIN, f64::max);
                top + f.iter().map(|v| (v - top).exp()).sum::<f64>().ln() - f[labels[i] as usize]
            }
        });
        losses.sum::<f64>() / self.rows as f64
    }

    /// The derivative of the loss of each row in its outputs `[rows, outputs]`, from its definition.
    pub fn plain_derivatives(&self, outputs: &[f64]) -> Vec<f64> {
        let width = self.network.outputs();
        let mut slopes = Vec::new();
        for (i, f) in outputs.chunks(width).enumerate() {
            match self.targets() {
                Targets::Values(y) => {
                    slopes.extend(f.iter().zip(&y[i * width..]).map(|(f, y)| 2.0 * (f - y) / width as f64));
                }
                Targets::Labels(labels) => {
                    let hit = |k| f64::from(u8::from(labels[i] as usize == k));
                    slopes.extend(softmax(f).iter().enumerate().map(|(k, p)| p - hit(k)));
                }
            }
        }
        slopes
    }

    /// The outputs that the Taylor approximation at `weights` predicts for other weights `at` of a unit.
    pub fn taylor_outputs(&self, weights: &[f64], unit: &Unit, at: &[f64]) -> Vec<f64> {
        let tape = self.tape(weights);
        let mut direction = vec![0.0; weights.len()];
        for ((d, v), w) in direction[unit.span.clone()].iter_mut().zip(at).zip(&weights[unit.span.clone()]) {
            *d = v - w;
        }
        let point = Point { network: &self.network, weights, x: &self.inputs, tape: &tape };
        let moved = Passes::new().jvp(&point, &direction, unit.blocks.clone());
        moved.iter().zip(&tape.output).map(|(d, f)| d + f).collect()
    }

    /// The Taylor loss of a unit.
    pub fn taylor_loss(&self, weights: &[f64], unit: &Unit, at: &[f64]) -> f64 {
        self.plain_loss(&self.taylor_outputs(weights, unit, at))
    }

    /// The Jacobian of the outputs in the weights of a unit, one column `[rows, outputs]` per weight, by forward mode on
    /// unit vectors.
    pub fn jacobian(&self, weights: &[f64], unit: &Unit) -> Vec<Vec<f64>> {
        let tape = self.tape(weights);
        let point = Point { network: &self.network, weights, x: &self.inputs, tape: &tape };
        let mut passes = Passes::new();
        let column = |j: usize| {
            let mut direction = vec![0.0; weights.len()];
            direction[j] = 1.0;
            passes.jvp(&point, &direction, unit.blocks.clone())
        };
        unit.span.clone().map(column).collect()
    }

    /// The generalized Gauss-Newton block `[d, d]` of a unit, with the loss's Hessian at the outputs `at`.
    pub fn gauss_newton(&self, weights: &[f64], unit: &Unit, at: &[f64]) -> Vec<f64> {
        let columns = self.jacobian(weights, unit);
        let width = self.network.outputs();
        let d = columns.len();
        let mut block = vec![0.0; d * d];
        for i in 0..self.rows {
            let hessian = loss_hessian(self.loss, &at[i * width..(i + 1) * width]);
            for (b, column) in columns.iter().enumerate() {
                let bent: Vec<f64> = (0..width)
                    .map(|k| (0..width).map(|m| hessian[k * width + m] * column[i * width + m]).sum())
                    .collect();
                for (a, column) in columns.iter().enumerate() {
                    let product: f64 = bent.iter().zip(&column[i * width..]).map(|(h, j)| h * j).sum();
                    block[a * d + b] += product / self.rows as f64;
                }
            }
        }
        block
    }

    /// A window of rounds at the given weights, all with the whole minibatch. `rows` is one of [`Problem::rounds`].
    pub fn window<'a>(&'a self, states: &'a [Vec<f64>], rows: &'a RoundRows) -> Window<'a, f64> {
        Window::new(&self.network, self.loss, self.examples(), Cow::Borrowed(states), rows)
    }

    /// Rounds with the whole minibatch.
    pub fn equal_rounds(&self, rounds: usize) -> RoundRows {
        RoundRows::uniform(self.all_rows().repeat(rounds), self.rows)
    }

    /// The same functions of the weights by minibatches of one size, and of several: the second round has every row twice, the third three
    /// times, the fourth once again.
    pub fn rounds(&self, rounds: usize) -> [RoundRows; 2] {
        let mut mixed = RoundRows::new();
        (0..rounds).for_each(|n| mixed.push(&self.all_rows().repeat(n % 3 + 1)));
        [self.equal_rounds(rounds), mixed]
    }

    /// The weights and `rounds - 1` others near them, as of a run.
    pub fn states(&self, rounds: usize, seed: u64) -> Vec<Vec<f64>> {
        let mut numbers = Numbers::new(seed);
        let mut states = vec![self.weights.clone()];
        while states.len() < rounds {
            let next = states[states.len() - 1].iter().map(|w| w + 0.1 * numbers.signed()).collect();
            states.push(next);
        }
        states
    }

    /// Inputs in another type.
    pub fn inputs_as<T: Real>(&self) -> Vec<T> {
        convert(&self.inputs)
    }
}

/// `softmax f`.
pub fn softmax(f: &[f64]) -> Vec<f64> {
    let top = f.iter().copied().fold(f64::MIN, f64::max);
    let e: Vec<f64> = f.iter().map(|v| (v - top).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|e| e / sum).collect()
}

/// The Hessian of the loss of one row in its outputs, from its definition: `(2/K) I` or `diag p - p p'`.
pub fn loss_hessian(loss: Loss, outputs: &[f64]) -> Vec<f64> {
    let width = outputs.len();
    let p = softmax(outputs);
    let entry = |at: usize| {
        let (k, m) = (at / width, at % width);
        let unit = f64::from(u8::from(k == m));
        match loss {
            Loss::Mse => 2.0 / width as f64 * unit,
            Loss::CrossEntropy => p[k] * unit - p[k] * p[m],
        }
    };
    (0..width * width).map(entry).collect()
}

/// The largest absolute value.
pub fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |a, v| a.max(v.abs()))
}

/// Asserts that two vectors agree up to `tolerance` of the largest expected entry.
///
/// Weights, inputs and targets are of order one: vectors that are smaller than 0.01 throughout (or zero) come of
/// cancellation, so they are compared absolutely.
#[track_caller]
pub fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths differ");
    let scale = largest(expected).max(0.01);
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{what}, entry {at}: {a:e}, expected {b:e} (scale {scale:e})");
    }
}
