//! A second engine for the tests, written to be seen through: it takes from the library the description of a network and nothing else.
//!
//! Every step of a network gets its derivative at a datapoint as an explicit matrix, in its inputs and in its weights, entry by entry from the
//! definition. All passes are then products of these matrices: forward mode from the first step to the last, backward mode the other way.

use taylorscope::network::{Activation, Block, Network, Operation, Pool, Pooling, Rectifier, Shape, Source};

/// A matrix, row by row.
type Matrix = Vec<Vec<f64>>;

fn zeros(rows: usize, columns: usize) -> Matrix {
    vec![vec![0.0; columns]; rows]
}

fn times(matrix: &Matrix, vector: &[f64]) -> Vec<f64> {
    matrix.iter().map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum()).collect()
}

fn transposed_times(matrix: &Matrix, vector: &[f64]) -> Vec<f64> {
    let columns = matrix.first().map_or(0, Vec::len);
    (0..columns).map(|j| matrix.iter().zip(vector).map(|(row, v)| row[j] * v).sum()).collect()
}

fn add(sum: &mut [f64], term: &[f64]) {
    sum.iter_mut().zip(term).for_each(|(a, b)| *a += b);
}

/// What a step computes. Images lie as `[height, width, channels]`.
#[derive(Clone, Debug)]
enum Step {
    /// The data, or the data as images if that is given.
    Data(Option<[usize; 3]>),
    /// The linear map of a block.
    Linear(usize),
    Rectifier(Rectifier),
    Pool(Pool),
    /// Of as many as there are.
    Sum,
}

/// A step and the steps that it takes its inputs from.
#[derive(Clone, Debug)]
struct Node {
    step: Step,
    inputs: Vec<usize>,
}

/// The steps of a network, each behind those that it takes its inputs from; the last one gives the output.
fn nodes(network: &Network) -> Vec<Node> {
    let image = match network.input() {
        Shape::Image(image) => Some([image.channels, image.height, image.width]),
        Shape::Features(_) => None,
    };
    let mut nodes = [None, image].map(|order| Node { step: Step::Data(order), inputs: Vec::new() }).to_vec();
    // The step that gives the value of each of the network's nodes.
    let mut values: Vec<usize> = Vec::new();
    for node in network.nodes() {
        let inputs = node.inputs.iter().map(|source| match source {
            Source::Data => 0,
            Source::Image => 1,
            Source::Node(n) => values[*n],
        });
        let mut inputs: Vec<usize> = inputs.collect();
        let mut push = |step| {
            nodes.push(Node { step, inputs: std::mem::take(&mut inputs) });
            inputs = vec![nodes.len() - 1];
        };
        let (rectifier, pool) = match node.operation {
            Operation::Block(l) => {
                push(Step::Linear(l));
                (network.blocks()[l].rectifier, network.blocks()[l].pool)
            }
            Operation::Activation(Activation { rectifier, pool }) => (rectifier, pool),
            Operation::Sum => {
                push(Step::Sum);
                (None, None)
            }
        };
        rectifier.into_iter().for_each(|rectifier| push(Step::Rectifier(rectifier)));
        pool.into_iter().for_each(|pool| push(Step::Pool(pool)));
        values.push(nodes.len() - 1);
    }
    nodes
}

/// A step at a datapoint.
struct Local {
    value: Vec<f64>,
    /// The derivative in each of its inputs.
    inputs: Vec<Matrix>,
    /// The derivative in the block's weights, `[values, weights of the block]`; of a linear map only.
    weights: Matrix,
}

/// The place in a convolution's input of kernel row `i` and column `j` at output row `y` and column `x`, if it is not in the padding.
fn place(block: &Block, [y, x]: [usize; 2], [i, j]: [usize; 2]) -> Option<usize> {
    let c = block.convolution()?;
    let row = (y * c.stride + i).checked_sub(c.padding).filter(|row| *row < c.input.height)?;
    let column = (x * c.stride + j).checked_sub(c.padding).filter(|column| *column < c.input.width)?;
    Some((row * c.input.width + column) * c.input.channels)
}

/// Calls `visit(value of the output, neuron, weight of the neuron, value of the input)` for every product that a linear map sums up; the input
/// is `None` for a bias.
fn each_product(block: &Block, mut visit: impl FnMut(usize, usize, usize, Option<usize>)) {
    let positions: Vec<[usize; 2]> = match block.convolution() {
        None => vec![[0, 0]],
        Some(c) => (0..c.output.height).flat_map(|y| (0..c.output.width).map(move |x| [y, x])).collect(),
    };
    for (p, position) in positions.iter().enumerate() {
        for unit in 0..block.units {
            let out = p * block.units + unit;
            match block.convolution() {
                None => (0..block.inputs).for_each(|j| visit(out, unit, j, Some(j))),
                Some(c) => {
                    for tap in 0..c.kernel * c.kernel {
                        let Some(from) = place(block, *position, [tap / c.kernel, tap % c.kernel]) else { continue };
                        for channel in 0..c.input.channels {
                            visit(out, unit, tap * c.input.channels + channel, Some(from + channel));
                        }
                    }
                }
            }
            if block.bias {
                visit(out, unit, block.inputs, None);
            }
        }
    }
}

fn linear(block: &Block, weights: &[f64], x: &[f64]) -> Local {
    let (outputs, width) = (block.activations(), block.width());
    let mut local = Local {
        value: vec![0.0; outputs],
        inputs: vec![zeros(outputs, x.len())],
        weights: zeros(outputs, block.units * width),
    };
    each_product(block, |out, unit, weight, input| {
        let w = weights[block.offset + unit * width + weight];
        let factor = input.map_or(1.0, |input| x[input]);
        local.value[out] += w * factor;
        local.weights[out][unit * width + weight] += factor;
        if let Some(input) = input {
            local.inputs[0][out][input] += w;
        }
    });
    local
}

/// `s'(a)`, with PyTorch's choice at 0.
fn slope(rectifier: Rectifier, a: f64) -> f64 {
    match rectifier {
        _ if a > 0.0 => 1.0,
        Rectifier::Relu => 0.0,
        Rectifier::LeakyRelu { slope } => slope,
        Rectifier::Abs if a < 0.0 => -1.0,
        Rectifier::Abs => 0.0,
    }
}

/// A step that is `value = D x` with its own derivative `D`.
fn selecting(derivative: Matrix, x: &[f64]) -> Local {
    Local { value: times(&derivative, x), inputs: vec![derivative], weights: Matrix::new() }
}

fn rectify(rectifier: Rectifier, x: &[f64]) -> Local {
    let mut derivative = zeros(x.len(), x.len());
    x.iter().enumerate().for_each(|(i, a)| derivative[i][i] = slope(rectifier, *a));
    selecting(derivative, x)
}

fn pool(pool: &Pool, x: &[f64]) -> Local {
    let (channels, size) = (pool.input.channels, pool.size);
    let mut derivative = zeros(pool.output.len(), x.len());
    for (out, row) in derivative.iter_mut().enumerate() {
        let (channel, column, line) =
            (out % channels, out / channels % pool.output.width, out / channels / pool.output.width);
        let window: Vec<usize> = (0..size * size)
            .map(|at| (line * pool.stride + at / size) * pool.input.width + column * pool.stride + at % size)
            .map(|position| position * channels + channel)
            .collect();
        match pool.pooling {
            Pooling::Average => window.iter().for_each(|at| row[*at] = 1.0 / window.len() as f64),
            Pooling::Max => {
                let first_largest = window.iter().copied().reduce(|best, at| if x[at] > x[best] { at } else { best });
                row[first_largest.expect("a window has a place")] = 1.0;
            }
        }
    }
    selecting(derivative, x)
}

fn sum(terms: &[&[f64]]) -> Local {
    let size = terms[0].len();
    let mut identity = zeros(size, size);
    (0..size).for_each(|i| identity[i][i] = 1.0);
    let mut value = vec![0.0; size];
    terms.iter().for_each(|term| add(&mut value, term));
    Local { value, inputs: vec![identity; terms.len()], weights: Matrix::new() }
}

/// The data, from `[channels, height, width]` to `[height, width, channels]` if they are images.
fn data(image: Option<[usize; 3]>, x: &[f64]) -> Local {
    let mut derivative = zeros(x.len(), x.len());
    for (from, _) in x.iter().enumerate() {
        let to = match image {
            None => from,
            Some([channels, height, width]) => from % (height * width) * channels + from / (height * width),
        };
        derivative[to][from] = 1.0;
    }
    selecting(derivative, x)
}

/// A network at given weights and datapoints.
pub struct Plain<'a> {
    network: &'a Network,
    nodes: Vec<Node>,
    /// Per datapoint its steps.
    rows: Vec<Vec<Local>>,
}

impl<'a> Plain<'a> {
    /// Forward pass on `x: [n, inputs]`.
    pub fn new(network: &'a Network, weights: &[f64], x: &[f64]) -> Self {
        let nodes = nodes(network);
        let row = |x: &[f64]| {
            let mut locals: Vec<Local> = Vec::new();
            for node in &nodes {
                let inputs: Vec<&[f64]> = node.inputs.iter().map(|from| &locals[*from].value[..]).collect();
                let local = match &node.step {
                    Step::Data(image) => data(*image, x),
                    Step::Linear(l) => linear(&network.blocks()[*l], weights, inputs[0]),
                    Step::Rectifier(rectifier) => rectify(*rectifier, inputs[0]),
                    Step::Pool(p) => pool(p, inputs[0]),
                    Step::Sum => sum(&inputs),
                };
                locals.push(local);
            }
            locals
        };
        let rows = x.chunks(network.inputs()).map(row).collect();
        Self { network, nodes, rows }
    }

    /// `[n, K]`.
    pub fn output(&self) -> Vec<f64> {
        self.rows.iter().flat_map(|locals| &locals[locals.len() - 1].value).copied().collect()
    }

    /// The step of a block's linear map.
    fn step_of(&self, block: usize) -> usize {
        let is_it = |node: &Node| matches!(node.step, Step::Linear(l) if l == block);
        self.nodes.iter().position(is_it).expect("the network has the block")
    }

    /// The pre-activations of a block, `[n, pre-activations]`.
    pub fn pre_activations(&self, block: usize) -> Vec<f64> {
        self.rows.iter().flat_map(|locals| &locals[self.step_of(block)].value).copied().collect()
    }

    /// What each rectifier takes that does not stand right behind a linear map, `[n, values]`, and its number of channels.
    pub fn rectified(&self) -> Vec<(Vec<f64>, usize)> {
        let behind_none = |node: &&Node| {
            let input = node.inputs.first().map(|from| &self.nodes[*from].step);
            matches!((&node.step, input), (Step::Rectifier(_), Some(input)) if !matches!(input, Step::Linear(_)))
        };
        let taken = |node: &Node| {
            let from = node.inputs[0];
            (self.rows.iter().flat_map(|locals| &locals[from].value).copied().collect(), self.channels(from))
        };
        self.nodes.iter().filter(behind_none).map(taken).collect()
    }

    /// Channels of a step's value: of an image its own, of features all.
    fn channels(&self, step: usize) -> usize {
        let Node { step: what, inputs } = &self.nodes[step];
        match what {
            Step::Data(Some([channels, ..])) => *channels,
            Step::Data(None) => self.network.inputs(),
            Step::Linear(l) => self.network.blocks()[*l].units,
            Step::Pool(pool) => pool.output.channels,
            Step::Rectifier(_) | Step::Sum => self.channels(inputs[0]),
        }
    }

    /// The derivative of the output `[n, K]` as the weights move along a flat `direction` and the data along `dx: [n, inputs]`.
    pub fn jvp(&self, direction: &[f64], dx: &[f64]) -> Vec<f64> {
        let row = |(locals, dx): (&Vec<Local>, &[f64])| {
            let mut tangents: Vec<Vec<f64>> = Vec::new();
            for (node, local) in self.nodes.iter().zip(locals) {
                let mut tangent = vec![0.0; local.value.len()];
                match &node.step {
                    Step::Data(_) => tangent = times(&local.inputs[0], dx),
                    Step::Linear(l) => tangent = times(&local.weights, &direction[self.network.blocks()[*l].range()]),
                    _ => {}
                }
                for (from, derivative) in node.inputs.iter().zip(&local.inputs) {
                    add(&mut tangent, &times(derivative, &tangents[*from]));
                }
                tangents.push(tangent);
            }
            tangents.pop().expect("a network has a step")
        };
        self.rows.iter().zip(dx.chunks(self.network.inputs())).flat_map(row).collect()
    }

    /// The cotangents of what every step gives, for one datapoint.
    fn cotangents(&self, locals: &[Local], output: &[f64]) -> Vec<Vec<f64>> {
        let mut all: Vec<Vec<f64>> = locals.iter().map(|local| vec![0.0; local.value.len()]).collect();
        *all.last_mut().expect("a network has a step") = output.to_vec();
        for (at, (node, local)) in self.nodes.iter().zip(locals).enumerate().rev() {
            for (from, derivative) in node.inputs.iter().zip(&local.inputs) {
                let term = transposed_times(derivative, &all[at]);
                add(&mut all[*from], &term);
            }
        }
        all
    }

    /// The gradients of `<cotangent, output>`: in the weights, flat and summed over the datapoints, and in the data, `[n, inputs]`.
    pub fn vjp(&self, cotangent: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let features = self.network.inputs();
        let (mut gradient, mut dx) = (vec![0.0; self.network.parameters()], vec![0.0; self.rows.len() * features]);
        let rows = self.rows.iter().zip(cotangent.chunks(self.network.outputs()));
        for ((locals, cotangent), dx) in rows.zip(dx.chunks_mut(features)) {
            let all = self.cotangents(locals, cotangent);
            for ((node, local), cotangent) in self.nodes.iter().zip(locals).zip(&all) {
                match &node.step {
                    Step::Data(_) => add(dx, &transposed_times(&local.inputs[0], cotangent)),
                    Step::Linear(l) => {
                        let own = &mut gradient[self.network.blocks()[*l].range()];
                        add(own, &transposed_times(&local.weights, cotangent));
                    }
                    _ => {}
                }
            }
        }
        (gradient, dx)
    }

    /// `J: [n, K, pre-activations]`, the derivative of the output in the pre-activations of a block.
    pub fn jacobian(&self, block: usize) -> Vec<f64> {
        let (outputs, at) = (self.network.outputs(), self.step_of(block));
        let mut jacobian = Vec::new();
        for locals in &self.rows {
            for k in 0..outputs {
                let mut unit = vec![0.0; outputs];
                unit[k] = 1.0;
                jacobian.extend_from_slice(&self.cotangents(locals, &unit)[at]);
            }
        }
        jacobian
    }

    /// `J: [n, K, parameters]`, the derivative of the output in all weights.
    pub fn weight_jacobian(&self) -> Vec<f64> {
        let (outputs, mut jacobian) = (self.network.outputs(), Vec::new());
        for locals in &self.rows {
            for k in 0..outputs {
                let mut unit = vec![0.0; outputs];
                unit[k] = 1.0;
                let all = self.cotangents(locals, &unit);
                for block in 0..self.network.blocks().len() {
                    let at = self.step_of(block);
                    jacobian.extend(transposed_times(&locals[at].weights, &all[at]));
                }
            }
        }
        jacobian
    }

    /// `M = J' H J: [n, pre-activations, pre-activations]` of a block, from `hessian: [n, K, K]`.
    pub fn curvature(&self, block: usize, hessian: &[f64]) -> Vec<f64> {
        let (outputs, size) = (self.network.outputs(), self.network.blocks()[block].activations());
        let (jacobian, mut curvature) = (self.jacobian(block), Vec::new());
        for (j, h) in jacobian.chunks(outputs * size).zip(hessian.chunks(outputs * outputs)) {
            for (a, b) in (0..size).flat_map(|a| (0..size).map(move |b| (a, b))) {
                let terms =
                    (0..outputs * outputs).map(|km| j[km / outputs * size + a] * h[km] * j[km % outputs * size + b]);
                curvature.push(terms.sum());
            }
        }
        curvature
    }
}
