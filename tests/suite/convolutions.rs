//! Convolutional networks: both engines against PyTorch's numbers (`tests/oracle/make_convolutions.py` wrote them) in PyTorch's names
//! and order of axes, and against one another.

use crate::common::{Numbers, assert_close, convolutional_problems};
use burn_tensor::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path};
use taylorscope::{
    kernels::{
        Real,
        conv::{Cotangents, Scratch, filter_gradients},
        passes::{Tape, forward, jvp, jvp_input, output_jacobians, vjp, vjp_input},
        real::convert,
    },
    loss::{Loss, Targets},
    network::{
        LayerSpec, Linearization, Network, Shape,
        linearization::{BlockDirection, blocks_from_flat, tensor},
        weights::{encode_states, stack_states},
    },
};

/// Sums of at most a few hundred terms of order one in `f64`.
const EXACT: f64 = 1e-12;
/// The same in `f32`.
const SINGLE: f64 = 1e-5;

type Tensors = BTreeMap<String, Vec<f64>>;

#[derive(Deserialize)]
struct Table {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    input: Vec<usize>,
    layers: Vec<LayerSpec>,
    loss_name: Loss,
    inputs: Vec<f64>,
    targets: Vec<f64>,
    shapes: BTreeMap<String, Vec<usize>>,
    weights: Tensors,
    loss: f64,
    outputs: Vec<f64>,
    gradients: Tensors,
    input_gradient: Vec<f64>,
    direction: Tensors,
    tangent: Vec<f64>,
    input_direction: Vec<f64>,
    input_tangent: Vec<f64>,
    jacobian: Vec<f64>,
}

fn cases() -> Vec<Case> {
    let table: Table =
        serde_json::from_str(include_str!("../data/convolutions.json")).expect("the table is as written");
    assert_eq!(table.cases.len(), 10);
    table.cases
}

impl Case {
    fn network(&self) -> Network {
        Network::new(Shape::from_sizes(&self.input).unwrap(), &self.layers).unwrap()
    }

    /// Tensors with PyTorch's names as a flat vector, by way of a safetensors file.
    fn flat(&self, tensors: &Tensors) -> Vec<f64> {
        let bytes: BTreeMap<&String, Vec<u8>> =
            tensors.iter().map(|(key, v)| (key, v.iter().flat_map(|v| v.to_le_bytes()).collect())).collect();
        let views = bytes.iter().map(|(key, bytes)| {
            (key.as_str(), TensorView::new(Dtype::F64, self.shapes[*key].clone(), bytes).expect("a tensor"))
        });
        let file = safetensors::serialize(views, None).unwrap();
        let file = SafeTensors::deserialize(&file).unwrap();
        stack_states(&self.network(), Path::new("memory"), &file, None).unwrap().remove(0)
    }

    /// A flat vector as tensors with PyTorch's names, by way of a safetensors file.
    fn tensors(&self, flat: &[f64]) -> Tensors {
        let bytes = encode_states(&self.network(), &[flat], false).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let values = |view: TensorView| view.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
        file.tensors().into_iter().map(|(key, view)| (key, values(view))).collect()
    }

    /// The derivative of the mean loss in the outputs, at PyTorch's own outputs.
    fn cotangent(&self, network: &Network) -> (f64, Vec<f64>) {
        let rows = self.outputs.len() / network.outputs();
        let labels: Vec<u32> = self.targets.iter().map(|t| *t as u32).collect();
        let targets = match self.loss_name {
            Loss::Mse => Targets::Values(&self.targets[..]),
            Loss::CrossEntropy => Targets::Labels(&labels),
        };
        let mut cotangent = Vec::new();
        let scale = 1.0 / rows as f64;
        let sum = self.loss_name.value_gradient(&self.outputs, network.outputs(), targets, scale, &mut cotangent);
        (sum * scale, cotangent)
    }
}

fn kernels_agree_with_pytorch<T: Real>(case: &Case, tolerance: f64) {
    let network = case.network();
    let rows = case.inputs.len() / network.inputs();
    let close = |what: &str, found: &[T], expected: &[f64]| {
        let what = format!("{} {}, {what}", T::NAME, case.name);
        assert_close(&what, &convert::<T, f64>(found), expected, tolerance);
    };
    let (weights, x): (Vec<T>, Vec<T>) = (convert(&case.flat(&case.weights)), convert(&case.inputs));
    let mut tape = Tape::default();
    forward(&network, &weights, &x, rows, &mut tape);
    close("outputs", &tape.output, &case.outputs);
    let (loss, cotangent) = case.cotangent(&network);
    assert_close(&case.name, &[loss], &[case.loss], EXACT);
    let cotangent: Vec<T> = convert(&cotangent);
    let count = network.blocks().len();
    let mut deltas = vec![Vec::new(); count];
    deltas[count - 1] = cotangent.clone();
    let mut gradient = vec![T::ZERO; network.parameters()];
    vjp(&network, &weights, &x, &tape, &mut deltas, 0..count, &mut gradient);
    for (name, found) in case.tensors(&convert(&gradient)) {
        close(&format!("gradient of {name}"), &convert(&found), &case.gradients[&name]);
    }
    close("input gradient", &vjp_input(&network, &weights, &tape, &cotangent), &case.input_gradient);
    let direction: Vec<T> = convert(&case.flat(&case.direction));
    close("tangent", &jvp(&network, &weights, &x, &tape, &direction, 0..count), &case.tangent);
    let dx: Vec<T> = convert(&case.input_direction);
    close("input tangent", &jvp_input(&network, &weights, &tape, &dx), &case.input_tangent);

    // The Jacobian in the first filter of the first convolution.
    let block = &network.blocks()[0];
    let c = block.convolution().expect("the first block is a convolution");
    let mut found = vec![T::ZERO; rows * network.outputs() * block.width()];
    let mut scratch = Scratch::default();
    output_jacobians(&network, &weights, &tape, 0, &mut Scratch::default(), |l, jacobian| {
        if l == 0 {
            let cotangents = Cotangents { values: jacobian, lines: network.outputs(), gate: tape.gate(0) };
            filter_gradients(block, c, cotangents, tape.input(0, &x), rows, &[0], &mut scratch, &mut found);
        }
    });
    // From [kernel, channels] to PyTorch's [channels, kernel].
    let (channels, places) = (c.input.channels, c.kernel * c.kernel);
    for (line, expected) in found.chunks(block.width()).zip(case.jacobian.chunks(block.width())) {
        let mut line: Vec<T> = (0..block.inputs)
            .map(|at| line[at % places * channels + at / places])
            .chain([line[block.inputs]])
            .collect();
        close("Jacobian", &std::mem::take(&mut line), expected);
    }
}

#[test]
fn the_kernels_have_pytorchs_numbers() {
    for case in cases() {
        kernels_agree_with_pytorch::<f64>(&case, EXACT);
        kernels_agree_with_pytorch::<f32>(&case, SINGLE);
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().try_to_vec().expect("the data was converted")
}

/// Gradients of blocks as a flat vector.
fn flatten(network: &Network, blocks: &[BlockDirection]) -> Vec<f64> {
    let mut flat = vec![0.0; network.parameters()];
    for (block, gradient) in network.blocks().iter().zip(blocks) {
        let (matrix, bias) = (values(gradient.matrix.clone()), values(gradient.bias.clone()));
        for u in 0..block.units {
            let row = &mut flat[block.neuron(u)];
            row.iter_mut().enumerate().take(block.inputs).for_each(|(j, w)| *w = matrix[j * block.units + u]);
            // Without a bias there is no place for it, and it must be 0.
            match row.get_mut(block.inputs) {
                Some(place) => *place = bias[u],
                None => assert_eq!(bias[u], 0.0),
            }
        }
    }
    flat
}

#[test]
fn the_linearization_has_pytorchs_numbers() {
    let device = Device::flex();
    for case in cases() {
        for (dtype, tolerance) in [(DType::F64, EXACT), (DType::F32, SINGLE)] {
            let network = case.network();
            let rows = case.inputs.len() / network.inputs();
            let close = |what: &str, found: &[f64], expected: &[f64]| {
                assert_close(&format!("{dtype:?} {}, {what}", case.name), found, expected, tolerance);
            };
            let rows_of = |v: &[f64]| tensor(v, rows, v.len() / rows, &device, dtype);
            let at = Linearization::new(&network, &case.flat(&case.weights), rows_of(&case.inputs));
            close("outputs", &values(at.output()), &case.outputs);
            let (_, cotangent) = case.cotangent(&network);
            let gradient = flatten(&network, &at.vjp(rows_of(&cotangent)));
            for (name, found) in case.tensors(&gradient) {
                close(&format!("gradient of {name}"), &found, &case.gradients[&name]);
            }
            close("input gradient", &values(at.vjp_input(rows_of(&cotangent))), &case.input_gradient);
            let direction = blocks_from_flat(&network, &case.flat(&case.direction), &device, dtype);
            let direction: Vec<_> = direction.into_iter().map(Some).collect();
            close("tangent", &values(at.jvp(&direction)), &case.tangent);
            close("input tangent", &values(at.jvp_input(rows_of(&case.input_direction))), &case.input_tangent);
        }
    }
}

fn twins_agree<T: Real>(dtype: DType, tolerance: f64) {
    let device = Device::flex();
    for (seed, problem) in convolutional_problems().into_iter().enumerate() {
        let close = |what: &str, found: &[f64], expected: &[T]| {
            let what = format!("{dtype:?} {}, {what}", problem.name);
            assert_close(&what, found, &convert::<T, f64>(expected), tolerance);
        };
        let (network, rows) = (&problem.network, problem.rows);
        let blocks = network.blocks();
        let (weights, x): (Vec<T>, Vec<T>) = (convert(&problem.weights), problem.inputs_as());
        let mut tape = Tape::default();
        forward(network, &weights, &x, rows, &mut tape);
        let rows_of = |v: &[f64]| tensor(v, rows, v.len() / rows, &device, dtype);
        let twin = Linearization::new(network, &problem.weights, rows_of(&problem.inputs));
        close("output", &values(twin.output()), &tape.output);
        for l in (0..blocks.len() - 1).filter(|l| tape.winners[*l].is_empty()) {
            close("slopes", &values(twin.slopes(l)), &tape.slopes[l]);
        }
        // Numbers that f32 has exactly.
        let mut numbers = Numbers::new(seed as u64);
        let mut vector = |length: usize| -> Vec<f64> { convert(&convert::<f64, f32>(&numbers.vector(length))) };
        let direction = vector(network.parameters());
        let narrow: Vec<T> = convert(&direction);
        for start in 0..blocks.len() {
            for end in start + 1..=blocks.len() {
                let all = blocks_from_flat(network, &direction, &device, dtype).into_iter().enumerate();
                let some: Vec<_> = all.map(|(l, block)| (start..end).contains(&l).then_some(block)).collect();
                let moved = jvp(network, &weights, &x, &tape, &narrow, start..end);
                close("jvp", &values(twin.jvp(&some)), &moved);
            }
        }
        let outputs = network.outputs();
        let cotangent = vector(rows * outputs);
        let mut deltas: Vec<Vec<T>> = vec![Vec::new(); blocks.len()];
        deltas[blocks.len() - 1] = convert(&cotangent);
        let mut gradient = vec![T::ZERO; network.parameters()];
        vjp(network, &weights, &x, &tape, &mut deltas, 0..blocks.len(), &mut gradient);
        close("vjp", &flatten(network, &twin.vjp(rows_of(&cotangent))), &gradient);
        let narrow: Vec<T> = convert(&cotangent);
        close("input vjp", &values(twin.vjp_input(rows_of(&cotangent))), &vjp_input(network, &weights, &tape, &narrow));
        let dx = vector(rows * network.inputs());
        let narrow: Vec<T> = convert(&dx);
        close("input jvp", &values(twin.jvp_input(rows_of(&dx))), &jvp_input(network, &weights, &tape, &narrow));

        // The kernels have Jacobians in the output of a convolution, the twin in its pre-activations: compare filters.
        output_jacobians(network, &weights, &tape, 0, &mut Scratch::default(), |l, jacobian| {
            let block = &blocks[l];
            let theirs = values(twin.output_jacobian(l));
            let Some(c) = block.convolution() else { return close("output Jacobian", &theirs, jacobian) };
            let filters: Vec<usize> = (0..block.units).collect();
            let mut found = vec![T::ZERO; block.units * rows * outputs * block.width()];
            let cotangents = Cotangents { values: jacobian, lines: outputs, gate: tape.gate(l) };
            let input = tape.input(l, &x);
            filter_gradients(block, c, cotangents, input, rows, &filters, &mut Scratch::default(), &mut found);
            // The bias sees the sum over positions.
            for (f, filter) in found.chunks(rows * outputs * block.width()).enumerate().filter(|_| block.bias) {
                let ours: Vec<T> = filter.chunks(block.width()).map(|line| line[block.inputs]).collect();
                let sums: Vec<f64> =
                    theirs.chunks(block.activations()).map(|a| a.iter().skip(f).step_by(block.units).sum()).collect();
                close("Jacobian in a filter's bias", &sums, &ours);
            }
        });
    }
}

#[test]
fn kernels_and_linearization_are_twins_in_double_precision() {
    twins_agree::<f64>(DType::F64, EXACT);
}

#[test]
fn kernels_and_linearization_are_twins_in_single_precision() {
    twins_agree::<f32>(DType::F32, SINGLE);
}

#[test]
fn forward_and_backward_passes_are_adjoint() {
    for (seed, problem) in convolutional_problems().into_iter().enumerate() {
        let (network, rows) = (&problem.network, problem.rows);
        let count = network.blocks().len();
        let tape = problem.tape(&problem.weights);
        let mut numbers = Numbers::new(20 + seed as u64);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for start in 0..count {
            for end in start + 1..=count {
                let direction = numbers.vector(network.parameters());
                let cotangent = numbers.vector(rows * network.outputs());
                let moved = jvp(network, &problem.weights, &problem.inputs, &tape, &direction, start..end);
                let mut deltas = vec![Vec::new(); count];
                deltas[count - 1].clone_from(&cotangent);
                let mut gradient = vec![0.0; network.parameters()];
                vjp(network, &problem.weights, &problem.inputs, &tape, &mut deltas, start..end, &mut gradient);
                let (left, right) = (dot(&moved, &cotangent), dot(&gradient, &direction));
                let what = format!("{}, blocks {start}..{end}", problem.name);
                assert_close(&what, &[left], &[right], EXACT);
            }
        }
        let (dx, cotangent) = (numbers.vector(rows * network.inputs()), numbers.vector(rows * network.outputs()));
        let moved = jvp_input(network, &problem.weights, &tape, &dx);
        let pulled = vjp_input(network, &problem.weights, &tape, &cotangent);
        assert_close(problem.name, &[dot(&moved, &cotangent)], &[dot(&pulled, &dx)], EXACT);
    }
}

/// Several images in a tile, several tiles in an image, and a batch cut into parts give the same numbers.
#[test]
fn results_do_not_depend_on_how_work_is_cut() {
    use taylorscope::{
        network::{Image, Pooling, Rectifier, he_uniform},
        train::{Examples, RoundEngine},
    };
    let layers = [
        LayerSpec::Conv { maps: 7, kernel: 5, padding: 2, stride: 1, bias: true },
        LayerSpec::Rectifier(Rectifier::Relu),
        LayerSpec::Pool { pooling: Pooling::Max, size: 2, stride: 2 },
        LayerSpec::Conv { maps: 5, kernel: 3, padding: 0, stride: 2, bias: true },
        LayerSpec::Flatten,
        LayerSpec::dense(3),
    ];
    // The first convolution needs several tiles per image, the second takes several images per tile.
    let network = Network::new(Image { channels: 6, height: 34, width: 36 }, &layers).unwrap();
    let weights: Vec<f64> = he_uniform(&network, 1);
    let rows = 13;
    let x = Numbers::new(3).vector(rows * network.inputs());
    let labels: Vec<u32> = (0..rows as u32).map(|i| i % 3).collect();
    let examples = Examples::classifier(&x, network.inputs(), &labels);
    let all: Vec<u32> = (0..rows as u32).collect();
    let mut whole = RoundEngine::new(&network, Loss::CrossEntropy, rows);
    whole.compute(&weights, &examples, &all);
    let mut sum = vec![0.0; network.parameters()];
    for row in all {
        let mut one = RoundEngine::new(&network, Loss::CrossEntropy, 1);
        one.compute(&weights, &examples, &[row]);
        sum.iter_mut().zip(one.gradient()).for_each(|(s, g)| *s += g / rows as f64);
    }
    assert_close("gradient", whole.gradient(), &sum, EXACT);
}
