//! Convolutional networks and networks that are graphs: the former against PyTorch's numbers (`tests/oracle/make_convolutions.py` wrote them) in PyTorch's names and order of axes,
//! and both against the plain engine.

use crate::common::{
    Numbers, Problem, assert_close, convolutional_problems, graphs::graph_problems, loss_hessian, plain::Plain,
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path};
use taylorscope::{
    kernels::block::{Scratch, neuron_gradients},
    loss::{Loss, Targets},
    network::{
        LayerSpec, Network, Shape,
        weights::{encode_states, stack_states},
    },
    num::{Real, convert},
    passes::{Linearization, Passes},
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

fn passes_agree_with_pytorch<T: Real>(case: &Case, tolerance: f64) {
    let network = case.network();
    let rows = case.inputs.len() / network.inputs();
    let close = |what: &str, found: &[T], expected: &[f64]| {
        let what = format!("{} {}, {what}", T::NAME, case.name);
        assert_close(&what, &convert::<T, f64>(found), expected, tolerance);
    };
    let (weights, x): (Vec<T>, Vec<T>) = (convert(&case.flat(&case.weights)), convert(&case.inputs));
    let here = Linearization::new(&network, &weights, &x);
    close("outputs", here.output(), &case.outputs);
    let (loss, cotangent) = case.cotangent(&network);
    assert_close(&case.name, &[loss], &[case.loss], EXACT);
    let cotangent: Vec<T> = convert(&cotangent);
    for (name, found) in case.tensors(&convert(&here.vjp(&cotangent))) {
        close(&format!("gradient of {name}"), &convert(&found), &case.gradients[&name]);
    }
    close("input gradient", &here.vjp_input(&cotangent), &case.input_gradient);
    close("tangent", &here.jvp(&convert(&case.flat(&case.direction))), &case.tangent);
    close("input tangent", &here.jvp_input(&convert(&case.input_direction)), &case.input_tangent);

    // The Jacobian in the first filter of the first convolution.
    let block = &network.blocks()[0];
    let c = block.convolution().expect("the first block is a convolution");
    let mut found = Vec::new();
    Passes::new().output_jacobians(&here.point(), 0, |l, cotangents| {
        if l == 0 {
            let input = here.tape().input(block, &x);
            found = neuron_gradients(block, cotangents, input, rows, &[0], &mut Scratch::default());
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
fn the_passes_have_pytorchs_numbers() {
    for case in cases() {
        passes_agree_with_pytorch::<f64>(&case, EXACT);
        passes_agree_with_pytorch::<f32>(&case, SINGLE);
    }
}

/// The plain engine itself, so that what agrees with it has PyTorch's numbers where the table has none.
#[test]
fn the_plain_engine_has_pytorchs_numbers() {
    for case in cases() {
        let network = case.network();
        let close = |what: &str, found: &[f64], expected: &[f64]| {
            assert_close(&format!("{}, {what}", case.name), found, expected, EXACT);
        };
        let plain = Plain::new(&network, &case.flat(&case.weights), &case.inputs);
        close("outputs", &plain.output(), &case.outputs);
        let (gradient, dx) = plain.vjp(&case.cotangent(&network).1);
        for (name, found) in case.tensors(&gradient) {
            close(&format!("gradient of {name}"), &found, &case.gradients[&name]);
        }
        close("input gradient", &dx, &case.input_gradient);
        let (direction, dx) = (case.flat(&case.direction), &case.input_direction);
        close("tangent", &plain.jvp(&direction, &vec![0.0; dx.len()]), &case.tangent);
        close("input tangent", &plain.jvp(&vec![0.0; direction.len()], dx), &case.input_tangent);
    }
}

/// Convolutional networks, and networks that branch and sum, dense and convolutional.
fn problems() -> Vec<Problem> {
    [convolutional_problems(), graph_problems()].concat()
}

fn kernels_agree_with_the_plain_engine<T: Real>(tolerance: f64) {
    for (seed, problem) in problems().into_iter().enumerate() {
        let close = |what: &str, found: &[T], expected: &[f64]| {
            let what = format!("{} {}, {what}", T::NAME, problem.name);
            assert_close(&what, &convert::<T, f64>(found), expected, tolerance);
        };
        let (network, rows) = (&problem.network, problem.rows);
        let blocks = network.blocks();
        let (weights, x): (Vec<T>, Vec<T>) = (convert(&problem.weights), problem.inputs_as());
        let here = Linearization::new(network, &weights, &x);
        let mut passes = Passes::new();
        let plain = Plain::new(network, &convert(&weights), &convert(&x));
        close("output", here.output(), &plain.output());
        // Numbers that f32 has exactly.
        let mut numbers = Numbers::new(seed as u64);
        let mut vector = |length: usize| -> Vec<f64> { convert(&convert::<f64, f32>(&numbers.vector(length))) };
        let (direction, dx) = (vector(network.parameters()), vector(rows * network.inputs()));
        for start in 0..blocks.len() {
            for end in start + 1..=blocks.len() {
                let mut some = vec![0.0; direction.len()];
                let span = blocks[start].offset..blocks[end - 1].range().end;
                some[span.clone()].copy_from_slice(&direction[span]);
                let moved = passes.jvp(&here.point(), &convert::<f64, T>(&direction), start..end);
                close("jvp", &moved, &plain.jvp(&some, &vec![0.0; dx.len()]));
            }
        }
        let outputs = network.outputs();
        let cotangent = vector(rows * outputs);
        let (gradient, input_gradient) = plain.vjp(&cotangent);
        close("vjp", &here.vjp(&convert(&cotangent)), &gradient);
        close("input vjp", &here.vjp_input(&convert(&cotangent)), &input_gradient);
        close("input jvp", &here.jvp_input(&convert(&dx)), &plain.jvp(&vec![0.0; direction.len()], &dx));
        let hessians: Vec<f64> = plain.output().chunks(outputs).flat_map(|f| loss_hessian(problem.loss, f)).collect();
        let jacobian = plain.weight_jacobian();
        for (l, block) in blocks.iter().enumerate() {
            close("output Jacobian", &here.jacobian(l), &plain.jacobian(l));
            close("curvature", &here.curvature(l, &convert(&hessians)), &plain.curvature(l, &hessians));
            // The gradient of every output in every neuron.
            let neurons: Vec<usize> = (0..block.units).collect();
            let mut found = Vec::new();
            passes.output_jacobians(&here.point(), l, |at, cotangents| {
                if at == l {
                    let (x, scratch) = (here.tape().input(block, &x), &mut Scratch::default());
                    found = neuron_gradients(block, cotangents, x, rows, &neurons, scratch);
                }
            });
            for (f, found) in found.chunks(rows * outputs * block.width()).enumerate() {
                let lines = jacobian.chunks(network.parameters());
                let expected: Vec<f64> = lines.flat_map(|line| &line[block.neuron(f)]).copied().collect();
                close("Jacobian in a neuron", found, &expected);
            }
        }
    }
}

#[test]
fn the_kernels_agree_with_the_plain_engine_in_double_precision() {
    kernels_agree_with_the_plain_engine::<f64>(EXACT);
}

#[test]
fn the_kernels_agree_with_the_plain_engine_in_single_precision() {
    kernels_agree_with_the_plain_engine::<f32>(SINGLE);
}

#[test]
fn forward_and_backward_passes_are_adjoint() {
    for (seed, problem) in problems().into_iter().enumerate() {
        let (network, rows) = (&problem.network, problem.rows);
        let count = network.blocks().len();
        let here = Linearization::new(network, &problem.weights, &problem.inputs);
        let (at, mut passes) = (here.point(), Passes::new());
        let mut numbers = Numbers::new(20 + seed as u64);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for start in 0..count {
            for end in start + 1..=count {
                let direction = numbers.vector(network.parameters());
                let cotangent = numbers.vector(rows * network.outputs());
                let moved = passes.jvp(&at, &direction, start..end);
                let mut gradient = vec![0.0; network.parameters()];
                passes.output_cotangent(network).clone_from(&cotangent);
                passes.vjp(&at, start..end, &mut gradient);
                let (left, right) = (dot(&moved, &cotangent), dot(&gradient, &direction));
                let what = format!("{}, blocks {start}..{end}", problem.name);
                assert_close(&what, &[left], &[right], EXACT);
            }
        }
        let (dx, cotangent) = (numbers.vector(rows * network.inputs()), numbers.vector(rows * network.outputs()));
        let (moved, pulled) = (passes.jvp_input(&at, &dx), passes.vjp_input(&at, &cotangent));
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
