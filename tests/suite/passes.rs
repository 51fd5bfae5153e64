//! The passes of a network against PyTorch's numbers (`tests/oracle/make_passes.py` wrote them), and against the plain engine.

use crate::common::{
    Numbers, Special, assert_close, graphs::graph_problems, loss_hessian, network, plain::Plain, problems,
};
use serde::Deserialize;
use taylorscope::{
    kernels::factor::Factor,
    loss::{Loss, Targets},
    network::{Network, Rectifier},
    num::{Real, convert},
    passes::{Linearization, Passes, curvature_factors},
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
    fn derivatives(&self, l: usize) -> Vec<f64> {
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
    let here = Linearization::new(&network, &weights, &x);
    let (tape, mut passes, last) = (here.tape(), Passes::new(), network.output_index());
    close("output", &tape.output, &case.layers[last].pre.concat());
    let mut kinks = 0;
    for l in 0..last {
        let pre = case.layers[l].pre.concat();
        kinks += pre.iter().filter(|a| **a == 0.0).count();
        let derivatives = case.derivatives(l);
        assert_eq!(
            convert::<T, f64>(&tape.derivatives[l]),
            convert::<T, f64>(&convert(&derivatives)),
            "{}",
            case.name()
        );
        let active: Vec<f64> = pre.iter().zip(&derivatives).map(|(a, s)| a * s).collect();
        close("activation", &tape.hidden[l], &active);
    }
    assert_eq!(kinks, case.kinks);

    let (values, labels): (Vec<T>, _) = (convert(&case.values()), case.labels());
    let outputs = network.outputs();
    let mut total = 0.0;
    for i in 0..rows {
        let targets = targets(loss, &values, &labels).rows(i..i + 1, outputs);
        let row = &tape.output[i * outputs..(i + 1) * outputs];
        let value = loss.value_gradient(row, outputs, targets, T::ONE, &mut Vec::new());
        close("loss of a row", &[T::from_f64(value)], &case.losses[i..=i]);
        total += value / rows as f64;
    }
    close("loss", &[T::from_f64(total)], &[case.loss]);
    let all = targets(loss, &values, &labels);
    loss.value_gradient(&tape.output, outputs, all, T::ONE, passes.output_cotangent(&network));
    let mut gradient = vec![T::ZERO; network.parameters()];
    passes.vjp(&here.point(), 0..last + 1, &mut gradient);
    for (block, layer) in network.blocks().iter().zip(&case.layers) {
        close("backward", passes.delta(block), &layer.backward.concat());
    }
    gradient.iter_mut().for_each(|g| *g *= T::from_f64(1.0 / rows as f64));
    close("gradient", &gradient, &case.gradient());

    for compress in [false, true] {
        let mut storage = Vec::new();
        let top = loss.hessian_factor(&tape.output, outputs, &mut storage);
        let mut visited = 0;
        curvature_factors(&here.point(), top, 0, compress, |l, factor| {
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

/// The Hessians of the loss, `[rows, K, K]`.
fn hessians(loss: Loss, outputs: &[f64], width: usize) -> Vec<f64> {
    outputs.chunks(width).flat_map(|f| loss_hessian(loss, f)).collect()
}

/// The diagonals of `[rows, units, units]`.
fn diagonals(matrices: &[f64], units: usize) -> Vec<f64> {
    matrices.chunks(units * units).flat_map(|m| (0..units).map(|u| m[u * units + u])).collect()
}

fn linearization_agrees_with_pytorch<T: Real>(case: &Case, tolerance: f64) {
    let (network, rows) = (case.network(), case.inputs.len());
    let close = |what: &str, found: &[T], expected: &[f64]| {
        assert_close(&format!("{} {}, {what}", T::NAME, case.name()), &convert::<T, f64>(found), expected, tolerance);
    };
    let (weights, x): (Vec<T>, Vec<T>) = (convert(&case.weights()), convert(&case.inputs.concat()));
    let linearization = Linearization::new(&network, &weights, &x);
    let last = network.output_index();
    close("output", linearization.output(), &case.layers[last].pre.concat());
    // The derivative of the loss at PyTorch's own outputs, so that only the passes are compared.
    let outputs = case.layers[last].pre.concat();
    let (values, labels) = (case.values(), case.labels());
    let mut cotangent = Vec::new();
    let kind = case.loss_kind();
    kind.value_gradient(&outputs, network.outputs(), targets(kind, &values, &labels), 1.0, &mut cotangent);
    let mut gradient = linearization.vjp(&convert(&cotangent));
    gradient.iter_mut().for_each(|g| *g *= T::from_f64(1.0 / rows as f64));
    close("gradient", &gradient, &case.gradient());
    let hessians: Vec<T> = convert(&hessians(kind, &outputs, network.outputs()));
    for (l, (layer, block)) in case.layers.iter().zip(network.blocks()).enumerate() {
        let curvature: Vec<f64> = convert(&linearization.curvature(l, &hessians));
        close("curvature", &convert(&diagonals(&curvature, block.units)), &layer.curvature.concat());
        // Backpropagation's cotangents, by way of the whole Jacobian.
        let jacobian: Vec<f64> = convert(&linearization.jacobian(l));
        let row = |i: usize| {
            let cotangent = &cotangent[i * network.outputs()..(i + 1) * network.outputs()];
            let lines = jacobian[i * cotangent.len() * block.units..].chunks(block.units);
            let mut sum = vec![0.0; block.units];
            for (line, c) in lines.zip(cotangent) {
                sum.iter_mut().zip(line).for_each(|(sum, j)| *sum += c * j);
            }
            sum
        };
        let backward: Vec<f64> = (0..rows).flat_map(row).collect();
        close("backward", &convert(&backward), &layer.backward.concat());
    }
}

#[test]
fn the_linearization_has_pytorchs_numbers() {
    for case in cases() {
        linearization_agrees_with_pytorch::<f64>(&case, EXACT);
        linearization_agrees_with_pytorch::<f32>(&case, SINGLE);
    }
}

/// The plain engine itself, so that what agrees with it has PyTorch's numbers where the table has none.
#[test]
fn the_plain_engine_has_pytorchs_numbers() {
    for case in cases() {
        let (network, rows) = (case.network(), case.inputs.len());
        let plain = Plain::new(&network, &case.weights(), &case.inputs.concat());
        let close = |what: &str, found: &[f64], expected: &[f64]| {
            assert_close(&format!("{}, {what}", case.name()), found, expected, EXACT);
        };
        let (outputs, kind) = (plain.output(), case.loss_kind());
        for (l, layer) in case.layers.iter().enumerate() {
            close("pre-activations", &plain.pre_activations(l), &layer.pre.concat());
        }
        let (values, labels, mut cotangent) = (case.values(), case.labels(), Vec::new());
        kind.value_gradient(&outputs, network.outputs(), targets(kind, &values, &labels), 1.0, &mut cotangent);
        let (gradient, _) = plain.vjp(&cotangent);
        close("gradient", &gradient.iter().map(|g| g / rows as f64).collect::<Vec<_>>(), &case.gradient());
        let hessians = hessians(kind, &outputs, network.outputs());
        for (l, (layer, block)) in case.layers.iter().zip(network.blocks()).enumerate() {
            close("curvature", &diagonals(&plain.curvature(l, &hessians), block.units), &layer.curvature.concat());
        }
    }
}

/// A flat vector of which the weights of some blocks count.
fn part_of(network: &Network, flat: &[f64], blocks: std::ops::Range<usize>) -> Vec<f64> {
    let mut part = vec![0.0; flat.len()];
    for block in &network.blocks()[blocks] {
        part[block.range()].copy_from_slice(&flat[block.range()]);
    }
    part
}

fn kernels_agree_with_the_plain_engine<T: Real>(tolerance: f64) {
    for (seed, problem) in problems().into_iter().enumerate() {
        let close = |what: &str, found: &[T], expected: &[f64]| {
            let what = format!("{} {}, {what}", T::NAME, problem.name);
            assert_close(&what, &convert::<T, f64>(found), expected, tolerance);
        };
        let (network, rows) = (&problem.network, problem.rows);
        let blocks = network.blocks();
        let weights: Vec<T> = convert(&problem.weights);
        let x: Vec<T> = problem.inputs_as();
        let here = Linearization::new(network, &weights, &x);
        let (tape, mut passes) = (here.tape(), Passes::new());
        // In double precision of the same rounded numbers, so that no unit is on another side of its kink.
        let plain = Plain::new(network, &convert(&weights), &convert(&x));
        close("output", &tape.output, &plain.output());

        let mut numbers = Numbers::new(seed as u64);
        let direction: Vec<f64> = convert(&convert::<f64, f32>(&numbers.vector(network.parameters())));
        let still = vec![0.0; x.len()];
        for start in 0..blocks.len() {
            for end in start + 1..=blocks.len() {
                let moved = passes.jvp(&here.point(), &convert::<f64, T>(&direction), start..end);
                close("jvp", &moved, &plain.jvp(&part_of(network, &direction, start..end), &still));
            }
        }

        let outputs = network.outputs();
        let cotangent: Vec<f64> = convert(&convert::<f64, f32>(&numbers.vector(rows * outputs)));
        close("vjp", &here.vjp(&convert(&cotangent)), &plain.vjp(&cotangent).0);

        let identity = Factor::Identity { scale: T::ONE };
        curvature_factors(&here.point(), identity, 0, false, |l, factor| {
            let units = blocks[l].units;
            let jacobian: Vec<T> = match factor {
                Factor::Identity { .. } => {
                    let unit = |at: usize| if at / units % units == at % units { T::ONE } else { T::ZERO };
                    (0..rows * units * units).map(unit).collect()
                }
                Factor::Shared { values, .. } => values.repeat(rows),
                Factor::PerRow { values, .. } => values.to_vec(),
            };
            close("output Jacobian", &jacobian, &plain.jacobian(l));
        });
        let hessians = hessians(problem.loss, &plain.output(), outputs);
        for compress in [false, true] {
            let mut storage = Vec::new();
            let top = problem.loss.hessian_factor(&tape.output, outputs, &mut storage);
            curvature_factors(&here.point(), top, 0, compress, |l, factor| {
                let units = blocks[l].units;
                let mut q = Vec::new();
                factor.diagonal(rows, units, &mut q);
                close("curvature", &q, &diagonals(&plain.curvature(l, &hessians), units));
            });
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
fn derivatives_in_the_inputs_are_adjoint_and_agree_with_differences() {
    // Where values in a pooling window are equal, differences fall on both sides of the kink.
    let graphs = graph_problems().into_iter().filter(|problem| problem.special != Special::Ties);
    for (seed, problem) in problems().into_iter().chain(graphs).enumerate() {
        let (network, rows) = (&problem.network, problem.rows);
        let (features, outputs) = (network.inputs(), network.outputs());
        let linearization = Linearization::new(network, &problem.weights, &problem.inputs);
        let mut numbers = Numbers::new(40 + seed as u64);
        for _ in 0..3 {
            let (dx, cotangent) = (numbers.vector(rows * features), numbers.vector(rows * outputs));
            let (moved, pulled) = (linearization.jvp_input(&dx), linearization.vjp_input(&cotangent));
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            assert_close(problem.name, &[dot(&moved, &cotangent)], &[dot(&pulled, &dx)], EXACT);
            // No pre-activation lies within 1e-7 of a kink unless its weights are zero, so the differences are exact but
            // for rounding, 1e-16 of the outputs over the step.
            let h = 1e-7;
            let shifted = |h: f64| {
                let x: Vec<f64> = problem.inputs.iter().zip(&dx).map(|(x, d)| x + h * d).collect();
                Linearization::new(network, &problem.weights, &x).output().to_vec()
            };
            let difference: Vec<f64> = shifted(h).iter().zip(shifted(-h)).map(|(a, b)| (a - b) / (2.0 * h)).collect();
            let scale = crate::common::largest(linearization.output()).max(1.0);
            for (a, b) in moved.iter().zip(&difference) {
                assert!((a - b).abs() <= 1e-7 * scale, "{}: {a}, differences give {b}", problem.name);
            }
        }
    }
}
