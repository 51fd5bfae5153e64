//! The passes of a network: both engines against PyTorch's numbers (`tests/oracle/make_passes.py` wrote them), and
//! against one another.

use crate::common::{Numbers, assert_close, network, problems};
use burn_tensor::{DType, Device, Tensor, TensorData};
use serde::Deserialize;
use taylorscope::{
    kernels::{
        Real,
        dense::{Factor, curvature_factors},
        passes::{Tape, forward, jvp, vjp},
        real::convert,
    },
    loss::{Loss, Targets},
    network::{
        Linearization, Network, Rectifier,
        linearization::{BlockDirection, blocks_from_flat, tensor},
    },
};

/// Sums of at most a few dozen terms of order one in `f64`.
const EXACT: f64 = 1e-12;
/// The same in `f32`.
const SINGLE: f64 = 1e-5;

#[derive(Deserialize)]
struct Table {
    cases: Vec<Case>,
}

/// One network of the table, with PyTorch's numbers.
#[derive(Deserialize)]
struct Case {
    unit: String,
    loss_name: String,
    sizes: Vec<usize>,
    inputs: Vec<Vec<f64>>,
    targets: serde_json::Value,
    loss: f64,
    losses: Vec<f64>,
    kinks: usize,
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    weight: Vec<Vec<f64>>,
    bias: Vec<f64>,
    pre: Vec<Vec<f64>>,
    weight_gradient: Vec<Vec<f64>>,
    bias_gradient: Vec<f64>,
    backward: Vec<Vec<f64>>,
    curvature: Vec<Vec<f64>>,
}

fn cases() -> Vec<Case> {
    let table: Table =
        serde_json::from_str(include_str!("../data/passes.json")).expect("the table is what was written");
    assert_eq!(table.cases.len(), 18);
    table.cases
}

impl Case {
    fn name(&self) -> String {
        format!("{}, {}, {:?}", self.unit, self.loss_name, self.sizes)
    }

    fn network(&self) -> Network {
        let rectifier = match self.unit.as_str() {
            "relu" => Rectifier::Relu,
            "abs" => Rectifier::Abs,
            "leaky_relu" => Rectifier::LeakyRelu { slope: 0.01 },
            other => panic!("unit {other}"),
        };
        let (hidden, last) = (&self.sizes[1..self.sizes.len() - 1], self.sizes[self.sizes.len() - 1]);
        let hidden: Vec<_> = hidden.iter().map(|units| (*units, Some(rectifier))).collect();
        network(self.sizes[0], &hidden, last)
    }

    fn loss_kind(&self) -> Loss {
        match self.loss_name.as_str() {
            "mse" => Loss::Mse,
            "cross_entropy" => Loss::CrossEntropy,
            other => panic!("loss {other}"),
        }
    }

    /// One row per neuron, the bias last.
    fn flat(&self, parts: impl Fn(&Layer) -> (&Vec<Vec<f64>>, &Vec<f64>)) -> Vec<f64> {
        let mut flat = Vec::new();
        for layer in &self.layers {
            let (matrix, bias) = parts(layer);
            for (row, b) in matrix.iter().zip(bias) {
                flat.extend_from_slice(row);
                flat.push(*b);
            }
        }
        flat
    }

    fn weights(&self) -> Vec<f64> {
        self.flat(|layer| (&layer.weight, &layer.bias))
    }

    fn gradient(&self) -> Vec<f64> {
        self.flat(|layer| (&layer.weight_gradient, &layer.bias_gradient))
    }

    fn values(&self) -> Vec<f64> {
        match self.loss_kind() {
            Loss::Mse => serde_json::from_value::<Vec<Vec<f64>>>(self.targets.clone()).unwrap().concat(),
            Loss::CrossEntropy => Vec::new(),
        }
    }

    fn labels(&self) -> Vec<u32> {
        match self.loss_kind() {
            Loss::Mse => Vec::new(),
            Loss::CrossEntropy => serde_json::from_value(self.targets.clone()).unwrap(),
        }
    }

    /// The derivative of each hidden unit, from PyTorch's pre-activations and the derivative that it takes at 0.
    fn slopes(&self, l: usize) -> Vec<f64> {
        let slope = |a: &f64| match self.unit.as_str() {
            _ if *a > 0.0 => 1.0,
            "abs" if *a < 0.0 => -1.0,
            "leaky_relu" => 0.01,
            _ => 0.0,
        };
        self.layers[l].pre.concat().iter().map(slope).collect()
    }
}

fn targets<'a, T>(loss: Loss, values: &'a [T], labels: &'a [u32]) -> Targets<'a, T> {
    match loss {
        Loss::Mse => Targets::Values(values),
        Loss::CrossEntropy => Targets::Labels(labels),
    }
}

fn kernels_agree_with_pytorch<T: Real>(case: &Case, tolerance: f64) {
    let (network, loss) = (case.network(), case.loss_kind());
    let close = |what: &str, found: &[T], expected: &[f64]| {
        assert_close(&format!("{} {}, {what}", T::NAME, case.name()), &convert::<T, f64>(found), expected, tolerance);
    };
    let weights: Vec<T> = convert(&case.weights());
    let x: Vec<T> = convert(&case.inputs.concat());
    let rows = case.inputs.len();
    let mut tape = Tape::default();
    forward(&network, &weights, &x, rows, &mut tape);
    let last = network.blocks().len() - 1;
    close("output", &tape.output, &case.layers[last].pre.concat());
    let mut kinks = 0;
    for l in 0..last {
        let pre = case.layers[l].pre.concat();
        kinks += pre.iter().filter(|a| **a == 0.0).count();
        let slopes = case.slopes(l);
        assert_eq!(convert::<T, f64>(&tape.slopes[l]), convert::<T, f64>(&convert(&slopes)), "{}", case.name());
        let active: Vec<f64> = pre.iter().zip(&slopes).map(|(a, s)| a * s).collect();
        close("activation", &tape.hidden[l], &active);
    }
    assert_eq!(kinks, case.kinks);

    let (values, labels): (Vec<T>, _) = (convert(&case.values()), case.labels());
    let outputs = network.outputs();
    let mut cotangent = Vec::new();
    let mut total = 0.0;
    for i in 0..rows {
        let targets = targets(loss, &values, &labels).rows(i..i + 1, outputs);
        let row = &tape.output[i * outputs..(i + 1) * outputs];
        let value = loss.value_gradient(row, outputs, targets, T::ONE, &mut Vec::new());
        close("loss of a row", &[T::from_f64(value)], &case.losses[i..=i]);
        total += value / rows as f64;
    }
    close("loss", &[T::from_f64(total)], &[case.loss]);
    loss.value_gradient(&tape.output, outputs, targets(loss, &values, &labels), T::ONE, &mut cotangent);
    let mut deltas = vec![Vec::new(); last + 1];
    deltas[last] = cotangent;
    let mut gradient = vec![T::ZERO; network.parameters()];
    vjp(&network, &weights, &x, &tape, &mut deltas, 0..last + 1, &mut gradient);
    for (l, layer) in case.layers.iter().enumerate() {
        close("backward", &deltas[l], &layer.backward.concat());
    }
    gradient.iter_mut().for_each(|g| *g *= T::from_f64(1.0 / rows as f64));
    close("gradient", &gradient, &case.gradient());

    for compress in [false, true] {
        let mut storage = Vec::new();
        let top = loss.hessian_factor(&tape.output, outputs, &mut storage);
        let mut visited = 0;
        curvature_factors(&network, &weights, &tape, top, 0, compress, |l, factor| {
            let mut q = Vec::new();
            factor.diagonal(rows, network.blocks()[l].units, &mut q);
            close("curvature", &q, &case.layers[l].curvature.concat());
            visited += 1;
        });
        assert_eq!(visited, last + 1);
    }
}

#[test]
fn the_kernels_have_pytorchs_numbers() {
    for case in cases() {
        kernels_agree_with_pytorch::<f64>(&case, EXACT);
        kernels_agree_with_pytorch::<f32>(&case, SINGLE);
    }
}

fn flat2(tensor: Tensor<2>) -> Vec<f64> {
    data(tensor.into_data())
}

fn flat3(tensor: Tensor<3>) -> Vec<f64> {
    data(tensor.into_data())
}

fn data(data: TensorData) -> Vec<f64> {
    data.convert::<f64>().try_to_vec().expect("the data was converted")
}

/// Gradients of blocks as a flat vector.
fn flatten(network: &Network, blocks: &[BlockDirection]) -> Vec<f64> {
    let mut flat = vec![0.0; network.parameters()];
    for (block, gradient) in network.blocks().iter().zip(blocks) {
        let (matrix, bias) = (flat2(gradient.matrix.clone()), flat2(gradient.bias.clone()));
        for u in 0..block.units {
            let row = &mut flat[block.neuron(u)];
            for (j, w) in row[..block.inputs].iter_mut().enumerate() {
                *w = matrix[j * block.units + u];
            }
            // Without a bias there is no place for it, and it must be 0.
            match row.get_mut(block.inputs) {
                Some(place) => *place = bias[u],
                None => assert_eq!(bias[u], 0.0),
            }
        }
    }
    flat
}

/// The Hessians of the loss, `[rows, K, K]`.
fn hessians(loss: Loss, outputs: &[f64], width: usize, device: &Device, dtype: DType) -> Tensor<3> {
    let all: Vec<f64> = outputs.chunks(width).flat_map(|f| crate::common::loss_hessian(loss, f)).collect();
    let shape = [outputs.len() / width, width, width];
    Tensor::from_data(TensorData::new(all, shape), (device, dtype))
}

/// The diagonals of `[rows, units, units]`.
fn diagonals(matrices: &[f64], units: usize) -> Vec<f64> {
    matrices.chunks(units * units).flat_map(|m| (0..units).map(|u| m[u * units + u])).collect()
}

fn linearization_agrees_with_pytorch(case: &Case, dtype: DType, tolerance: f64) {
    let device = Device::flex();
    let (network, rows) = (case.network(), case.inputs.len());
    let close = |what: &str, found: &[f64], expected: &[f64]| {
        assert_close(&format!("{dtype:?} {}, {what}", case.name()), found, expected, tolerance);
    };
    let x = tensor(&case.inputs.concat(), rows, network.inputs(), &device, dtype);
    let linearization = Linearization::new(&network, &case.weights(), x);
    let last = network.blocks().len() - 1;
    let output = flat2(linearization.output());
    close("output", &output, &case.layers[last].pre.concat());
    for l in 0..last {
        close("slopes", &flat2(linearization.slopes(l)), &case.slopes(l));
    }
    // The derivative of the loss at PyTorch's own outputs, so that only the passes are compared.
    let outputs = case.layers[last].pre.concat();
    let (values, labels) = (case.values(), case.labels());
    let mut cotangent = Vec::new();
    let kind = case.loss_kind();
    kind.value_gradient(&outputs, network.outputs(), targets(kind, &values, &labels), 1.0, &mut cotangent);
    let cotangent = tensor(&cotangent, rows, network.outputs(), &device, dtype);
    for (delta, layer) in linearization.deltas(cotangent.clone()).into_iter().zip(&case.layers) {
        close("backward", &flat2(delta), &layer.backward.concat());
    }
    let gradient: Vec<f64> = flatten(&network, &linearization.vjp(cotangent)).iter().map(|g| g / rows as f64).collect();
    close("gradient", &gradient, &case.gradient());
    let hessians = hessians(kind, &outputs, network.outputs(), &device, dtype);
    for ((m, layer), block) in linearization.curvature(hessians).into_iter().zip(&case.layers).zip(network.blocks()) {
        close("curvature", &diagonals(&flat3(m), block.units), &layer.curvature.concat());
    }
}

#[test]
fn the_linearization_has_pytorchs_numbers() {
    for case in cases() {
        linearization_agrees_with_pytorch(&case, DType::F64, EXACT);
        linearization_agrees_with_pytorch(&case, DType::F32, SINGLE);
    }
}

fn twins_agree<T: Real>(dtype: DType, tolerance: f64) {
    let device = Device::flex();
    for (seed, problem) in problems().into_iter().enumerate() {
        let close = |what: &str, found: &[f64], expected: &[T]| {
            let what = format!("{dtype:?} {}, {what}", problem.name);
            assert_close(&what, found, &convert::<T, f64>(expected), tolerance);
        };
        let (network, rows) = (&problem.network, problem.rows);
        let blocks = network.blocks();
        let weights: Vec<T> = convert(&problem.weights);
        let x: Vec<T> = problem.inputs_as();
        let mut tape = Tape::default();
        forward(network, &weights, &x, rows, &mut tape);
        let linearization = Linearization::new(
            network,
            &problem.weights,
            tensor(&problem.inputs, rows, network.inputs(), &device, dtype),
        );
        close("output", &flat2(linearization.output()), &tape.output);
        for l in 0..blocks.len() - 1 {
            close("slopes", &flat2(linearization.slopes(l)), &tape.slopes[l]);
        }

        let mut numbers = Numbers::new(seed as u64);
        let direction: Vec<f64> = convert(&convert::<f64, f32>(&numbers.vector(network.parameters())));
        let narrow: Vec<T> = convert(&direction);
        for start in 0..blocks.len() {
            for end in start + 1..=blocks.len() {
                let all = blocks_from_flat(network, &direction, &device, dtype).into_iter().enumerate();
                let some: Vec<_> = all.map(|(l, block)| (start..end).contains(&l).then_some(block)).collect();
                let moved = jvp(network, &weights, &x, &tape, &narrow, start..end);
                close("jvp", &flat2(linearization.jvp(&some)), &moved);
            }
        }

        let outputs = network.outputs();
        let cotangent: Vec<f64> = convert(&convert::<f64, f32>(&numbers.vector(rows * outputs)));
        let mut deltas: Vec<Vec<T>> = vec![Vec::new(); blocks.len()];
        deltas[blocks.len() - 1] = convert(&cotangent);
        let mut gradient = vec![T::ZERO; network.parameters()];
        vjp(network, &weights, &x, &tape, &mut deltas, 0..blocks.len(), &mut gradient);
        let wide = tensor(&cotangent, rows, outputs, &device, dtype);
        close("vjp", &flatten(network, &linearization.vjp(wide.clone())), &gradient);
        for (theirs, delta) in linearization.deltas(wide).into_iter().zip(&deltas) {
            close("deltas", &flat2(theirs), delta);
        }

        let identity = Factor::Identity { scale: T::ONE };
        curvature_factors(network, &weights, &tape, identity, 0, false, |l, factor| {
            let units = blocks[l].units;
            let jacobian: Vec<T> = match factor {
                Factor::Identity { .. } => {
                    let unit = |at: usize| if at / units % units == at % units { T::ONE } else { T::ZERO };
                    (0..rows * units * units).map(unit).collect()
                }
                Factor::Shared { values, .. } => values.repeat(rows),
                Factor::PerRow { values, .. } => values.to_vec(),
            };
            close("output Jacobian", &flat3(linearization.output_jacobian(l)), &jacobian);
        });
        let at = flat2(linearization.output());
        let curvature = linearization.curvature(hessians(problem.loss, &at, outputs, &device, dtype));
        for compress in [false, true] {
            let mut storage = Vec::new();
            let top = problem.loss.hessian_factor(&tape.output, outputs, &mut storage);
            curvature_factors(network, &weights, &tape, top, 0, compress, |l, factor| {
                let units = blocks[l].units;
                let mut q = Vec::new();
                factor.diagonal(rows, units, &mut q);
                close("curvature", &diagonals(&flat3(curvature[l].clone()), units), &q);
            });
        }
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
fn derivatives_in_the_inputs_are_adjoint_and_agree_with_differences() {
    let (device, dtype) = (Device::flex(), DType::F64);
    for (seed, problem) in problems().into_iter().enumerate() {
        let (network, rows) = (&problem.network, problem.rows);
        let (features, outputs) = (network.inputs(), network.outputs());
        let at = |x: &[f64]| Linearization::new(network, &problem.weights, tensor(x, rows, features, &device, dtype));
        let linearization = at(&problem.inputs);
        let mut numbers = Numbers::new(40 + seed as u64);
        for _ in 0..3 {
            let (dx, cotangent) = (numbers.vector(rows * features), numbers.vector(rows * outputs));
            let moved = flat2(linearization.jvp_input(tensor(&dx, rows, features, &device, dtype)));
            let pulled = flat2(linearization.vjp_input(tensor(&cotangent, rows, outputs, &device, dtype)));
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            assert_close(problem.name, &[dot(&moved, &cotangent)], &[dot(&pulled, &dx)], EXACT);
            // No pre-activation lies within 1e-7 of a kink unless its weights are zero, so the differences are exact but
            // for rounding, 1e-16 of the outputs over the step.
            let h = 1e-7;
            let shifted = |h: f64| {
                flat2(at(&problem.inputs.iter().zip(&dx).map(|(x, d)| x + h * d).collect::<Vec<_>>()).output())
            };
            let difference: Vec<f64> = shifted(h).iter().zip(shifted(-h)).map(|(a, b)| (a - b) / (2.0 * h)).collect();
            let scale = crate::common::largest(&flat2(linearization.output())).max(1.0);
            for (a, b) in moved.iter().zip(&difference) {
                assert!((a - b).abs() <= 1e-7 * scale, "{}: {a}, differences give {b}", problem.name);
            }
        }
    }
}
