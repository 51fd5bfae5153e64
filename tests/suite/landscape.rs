//! Kinks and functions along segments against plain references: the forward pass, and kinks from their definition.

use crate::common::Numbers;
use rayon::prelude::*;
use taylorscope::{
    landscape::{
        Change, Datapoint, Directions, Ended, Kink, Limits, Path, Plane, Propagation, Region, Segment, Target, profile,
        propagation::MERGE, regions, updates::measure,
    },
    loss::Loss,
    network::{LayerSpec, Network, Pooling, Rectifier, Shape, he_uniform},
    passes::{Linearization, Passes, Tape},
    train::{Examples, RoundEngine},
};

const RELU: LayerSpec = LayerSpec::Rectifier(Rectifier::Relu);
const LEAKY: LayerSpec = LayerSpec::Rectifier(Rectifier::LeakyRelu { slope: 0.1 });
const ABS: LayerSpec = LayerSpec::Rectifier(Rectifier::Abs);

fn dense(units: usize) -> LayerSpec {
    LayerSpec::dense(units)
}

/// A random network with a random input, and directions for both.
struct Case {
    network: Network,
    weights: Vec<f64>,
    input: Vec<f64>,
    input_step: Vec<f64>,
    weight_step: Vec<f64>,
}

impl Case {
    fn new(input: impl Into<Shape>, layers: &[LayerSpec], seed: u64) -> Case {
        let network = Network::new(input, layers).unwrap();
        let inputs = network.inputs();
        let mut numbers = Numbers::new(seed);
        let mut random = |n: usize, scale: f64| -> Vec<f64> { (0..n).map(|_| scale * numbers.signed()).collect() };
        let mut weights = he_uniform::<f64>(&network, seed);
        let noise = random(weights.len(), 0.3);
        weights.iter_mut().zip(noise).for_each(|(w, n)| *w += n);
        let (input, input_step) = (random(inputs, 1.0), random(inputs, 3.0));
        let weight_step = random(weights.len(), 0.7);
        Case { network, weights, input, input_step, weight_step }
    }

    /// The direction within one layer, or within one of its neurons.
    fn step_in(&self, block: usize, neuron: Option<usize>) -> Vec<f64> {
        let block = &self.network.blocks()[block];
        let range = neuron.map_or(block.range(), |neuron| block.neuron(neuron));
        let mut step = vec![0.0; self.weights.len()];
        step[range.clone()].copy_from_slice(&self.weight_step[range]);
        step
    }

    /// States of all units and windows, and the outputs, at a point, by the forward pass.
    fn forward(&self, weight_step: Option<&[f64]>, input_step: Option<&[f64]>, t: f64) -> (Vec<State>, Vec<f64>) {
        let along = |base: &[f64], step: Option<&[f64]>| -> Vec<f64> {
            base.iter().enumerate().map(|(i, v)| v + step.map_or(0.0, |step| t * step[i])).collect()
        };
        let (weights, x) = (along(&self.weights, weight_step), along(&self.input, input_step));
        states_of(&self.network, &weights, &x)
    }

    /// Checks a path against the forward pass: between kinks no unit changes its state and the outputs are the
    /// network's; at each kink exactly the named units change.
    fn check(&self, what: &str, weight_step: Option<&[f64]>, input_step: Option<&[f64]>) -> Path {
        let (from, to) = (-1.0, 1.5);
        let propagation = Propagation::new(&self.network, &self.weights, weight_step);
        let segment = Segment { input: &self.input, step: input_step, from, to };
        let path = propagation.path(&segment);
        assert_eq!(path.kinks, propagation.kinks(&segment), "{what}: with and without outputs");
        let bounds = path.outputs().bounds();
        assert!(bounds.is_sorted() && bounds[0] == from && bounds[bounds.len() - 1] == to);
        let mut states: Option<Vec<State>> = None;
        for (p, ends) in bounds.windows(2).enumerate() {
            let length = ends[1] - ends[0];
            // Points that rounding cannot carry over the kink.
            let margin = (1e-3 * length).max(1e-10);
            if 2.0 * margin > length {
                continue;
            }
            let mut here: Option<Vec<State>> = None;
            for share in [0.0, 0.09, 0.23, 0.41, 0.5, 0.68, 0.83, 0.95, 1.0] {
                let t = ends[0] + margin + share * (length - 2.0 * margin);
                let (found, outputs) = self.forward(weight_step, input_step, t);
                let (value, _) = path.on(p, t);
                let scale = outputs.iter().fold(1.0f64, |a, v| a.max(v.abs()));
                for (a, b) in value.iter().zip(&outputs) {
                    assert!((a - b).abs() <= 1e-12 * scale, "{what}: {a} at {t}, but the network has {b}");
                }
                match &here {
                    Some(states) => assert_eq!(states, &found, "{what}: a kink in {ends:?} was missed"),
                    None => here = Some(found),
                }
            }
            let here = here.expect("points were looked at");
            if let Some(before) = &states {
                let change = |(a, b): (&State, &State)| {
                    let change = match (a.value, b.value) {
                        (Value::Active(a), Value::Active(b)) if a != b => [Change::Off, Change::On][usize::from(b)],
                        (Value::Winner(Some(from)), Value::Winner(Some(to))) if from != to => {
                            Change::Winner { from, to }
                        }
                        _ => return None,
                    };
                    Some((a.layer, a.unit, change))
                };
                let expected: Vec<_> = before.iter().zip(&here).filter_map(change).collect();
                let near = |kink: &&Kink| (kink.at - ends[0]).abs() <= 2.0 * MERGE * (to - from);
                let named: Vec<_> = path.kinks.iter().filter(near).map(|k| (k.layer, k.unit, k.change)).collect();
                assert_eq!(named, expected, "{what}: kinks at {}", ends[0]);
            }
            states = Some(here);
        }
        path
    }
}

/// What is compared of a unit or window.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Active(bool),
    /// The place of the largest value of a pooling window; `None` if several places have it.
    Winner(Option<usize>),
}

/// One unit's or window's state; in the order of layers and units.
#[derive(Clone, Copy, Debug, PartialEq)]
struct State {
    layer: usize,
    unit: usize,
    value: Value,
}

/// What is carried from layer to layer alone would be wrong where a network branches.
#[test]
fn networks_that_branch_are_refused() {
    let network = crate::common::graphs::residual();
    let weights: Vec<f64> = he_uniform(&network, 1);
    let (input, step) = ([0.5, -1.0, 0.25, 2.0], [1.0, 0.0, 0.0, 0.0]);
    let limits = Limits::none();
    let propagation = Propagation::new(&network, &weights, None).within(&limits);
    let segment = Segment { input: &input, step: Some(&step), from: 0.0, to: 1.0 };
    assert_eq!(propagation.try_path(&segment).unwrap_err(), Ended::NotAChain);
    assert_eq!(propagation.try_kinks_of(&[segment]).unwrap_err(), Ended::NotAChain);
    let directions = Directions::Inputs([&step, &input]);
    let plane = Plane { weights: &weights, input: &input, directions, u: (0.0, 1.0), v: (0.0, 1.0) };
    let refused = regions(&network, &plane, 100, &limits).unwrap_err().to_string();
    assert!(refused.contains("branches"), "{refused}");
}

/// States and outputs from the pre-activations of the forward pass.
fn states_of(network: &Network, weights: &[f64], input: &[f64]) -> (Vec<State>, Vec<f64>) {
    let (mut states, mut tape) = (Vec::new(), Tape::default());
    Passes::new().forward(network, weights, input, 1, &mut tape, |l, _, a| {
        let block = &network.blocks()[l];
        let mut z = a.to_vec();
        let mut layer = block.layer;
        if let Some(rectifier) = block.rectifier {
            let state = |(unit, a): (usize, &f64)| State { layer, unit, value: Value::Active(*a > 0.0) };
            states.extend(a.iter().enumerate().map(state));
            z.iter_mut().for_each(|a| *a *= rectifier.derivative(*a));
            layer += 1;
        }
        let Some(pool) = block.pool.filter(|pool| pool.pooling == Pooling::Max) else { return };
        for unit in 0..pool.output.len() {
            let (position, channel) = (unit / pool.output.channels, unit % pool.output.channels);
            let (y, x) = (position / pool.output.width, position % pool.output.width);
            let values: Vec<f64> = (0..pool.size * pool.size)
                .map(|place| {
                    let (i, j) = (y * pool.stride + place / pool.size, x * pool.stride + place % pool.size);
                    z[(i * pool.input.width + j) * pool.input.channels + channel]
                })
                .collect();
            let top = values.iter().copied().fold(f64::MIN, f64::max);
            let mut best = values.iter().enumerate().filter(|(_, v)| **v == top).map(|(place, _)| place);
            let winner = best.next().filter(|_| best.next().is_none());
            states.push(State { layer: layer + 1, unit, value: Value::Winner(winner) });
        }
    });
    (states, tape.output)
}

/// Images and layers of small convolutional networks.
fn spatial_shapes() -> Vec<([usize; 3], Vec<LayerSpec>)> {
    let conv = |maps, kernel, padding, stride| LayerSpec::Conv { maps, kernel, padding, stride, bias: true };
    let pool = |pooling, size, stride| LayerSpec::Pool { pooling, size, stride };
    let (max, mean, flatten) = (Pooling::Max, Pooling::Average, LayerSpec::Flatten);
    vec![
        ([2, 4, 4], vec![conv(3, 3, 1, 1), RELU, pool(max, 2, 2), flatten, dense(3)]),
        ([1, 5, 5], vec![conv(2, 3, 1, 1), ABS, pool(max, 3, 2), flatten, dense(5), RELU, dense(2)]),
        ([1, 4, 4], vec![conv(2, 3, 1, 1), pool(max, 2, 2), flatten, dense(2)]),
        (
            [2, 6, 6],
            vec![conv(2, 3, 1, 1), LEAKY, pool(max, 2, 2), conv(3, 2, 0, 1), RELU, pool(mean, 2, 2), flatten, dense(2)],
        ),
        (
            [3, 6, 6],
            vec![conv(2, 3, 1, 1), RELU, pool(max, 2, 2), conv(2, 3, 1, 1), RELU, pool(max, 3, 1), flatten, dense(2)],
        ),
    ]
}

/// Shapes of small networks; the seed varies the rest.
fn shapes() -> Vec<(usize, Vec<LayerSpec>)> {
    vec![
        (1, vec![dense(1), RELU, dense(1)]),
        (2, vec![dense(7), RELU, dense(3)]),
        (3, vec![dense(6), RELU, dense(5), RELU, dense(2)]),
        (4, vec![dense(5), LEAKY, dense(5), ABS, dense(4), RELU, dense(3)]),
        (3, vec![dense(4), dense(6), RELU, dense(2)]),
        (5, vec![dense(9), RELU, dense(7), RELU, dense(6), RELU, dense(5), RELU, dense(1)]),
        (3, vec![dense(3)]),
    ]
}

fn for_all(seeds: u64, check: impl Fn(&Case) + Sync) {
    let shapes = shapes();
    (0..seeds).into_par_iter().for_each(|seed| {
        let (inputs, layers) = &shapes[seed as usize % shapes.len()];
        check(&Case::new(*inputs, layers, seed));
    });
}

#[test]
fn segments_through_convolutional_networks_are_exact() {
    let shapes = spatial_shapes();
    let switches: Vec<usize> = (0..300u64)
        .into_par_iter()
        .map(|seed| {
            let (image, layers) = &shapes[seed as usize % shapes.len()];
            let case = Case::new(Shape::from_sizes(image).unwrap(), layers, seed);
            let input = case.check("input", None, Some(&case.input_step));
            for block in 0..case.network.blocks().len() {
                case.check("layer", Some(&case.step_in(block, None)), None);
                case.check("neuron", Some(&case.step_in(block, Some(0))), None);
            }
            case.check("all weights", Some(&case.weight_step), None);
            input.kinks.iter().filter(|kink| matches!(kink.change, Change::Winner { .. })).count()
        })
        .collect();
    let switches: usize = switches.iter().sum();
    assert!(switches > 500, "pools must have switched their winners: {switches}");
}

/// Without biases all kinks of the first layer's units lie on lines through the origin.
#[test]
fn segments_through_networks_without_biases_are_exact() {
    let spatial = spatial_shapes().into_iter().map(|(image, layers)| (Shape::from_sizes(&image).unwrap(), layers));
    let shapes: Vec<(Shape, Vec<LayerSpec>)> =
        shapes().into_iter().map(|(inputs, layers)| (Shape::from(inputs), layers)).chain(spatial).collect();
    let kinks: Vec<usize> = (0..600u64)
        .into_par_iter()
        .map(|seed| {
            let (input, layers) = &shapes[seed as usize % shapes.len()];
            // All of them, or all but the last.
            let kept = usize::from(seed % 2 == 1);
            let mut layers: Vec<LayerSpec> = layers.iter().map(|layer| layer.without_bias()).collect();
            if let Some(LayerSpec::Dense { bias, .. }) = layers.last_mut().filter(|_| kept == 1) {
                *bias = true;
            }
            let case = Case::new(*input, &layers, seed);
            let blocks = case.network.blocks();
            assert!(blocks.iter().filter(|block| block.bias).count() == kept);
            let path = case.check("input", None, Some(&case.input_step));
            for block in 0..blocks.len() {
                case.check("layer", Some(&case.step_in(block, None)), None);
                case.check("neuron", Some(&case.step_in(block, Some(0))), None);
            }
            case.check("all weights", Some(&case.weight_step), None);
            case.check("weights and input", Some(&case.weight_step), Some(&case.input_step));
            path.kinks.len()
        })
        .collect();
    let kinks: usize = kinks.iter().sum();
    assert!(kinks > 1000, "{kinks} kinks");
}

#[test]
fn all_units_of_a_network_without_biases_turn_at_the_origin() {
    for seed in 0..50 {
        let layers = [dense(9), RELU, dense(7), RELU, dense(2)].map(LayerSpec::without_bias);
        let case = Case::new(4, &layers, seed);
        let back: Vec<f64> = case.input_step.iter().map(|v| -v).collect();
        let twice: Vec<f64> = case.input_step.iter().map(|v| 2.0 * v).collect();
        let path = line(&case.network, &case.weights, &back, &twice);
        assert!(path.kinks.iter().all(|kink| (kink.at - 0.5).abs() < 1e-12), "{:?}", path.kinks);
        let first = path.kinks.iter().filter(|kink| kink.layer == 0).count();
        assert_eq!(first, 9, "every unit of the first layer turns there: {:?}", path.kinks);
        assert_eq!(path.outputs().len(), 2);
        // On a ray nothing turns, however short it is: the function is linear from the origin on.
        let tiny: Vec<f64> = case.input_step.iter().map(|v| 1e-30 * v).collect();
        let ray = line(&case.network, &case.weights, &tiny, &tiny);
        assert_eq!((ray.kinks.len(), ray.outputs().len()), (0, 1));
        let value = ray.outputs().row(0, 0);
        let (_, expected) = states_of(&case.network, &case.weights, &case.input_step);
        for (a, b) in value.iter().zip(&expected) {
            assert!((a * 1e30 - b).abs() <= 1e-12 * b.abs().max(1.0), "{a} {b}");
        }
    }
}

#[test]
fn windows_that_tie_exactly_are_reported_together_or_not_at_all() {
    // Filters 1 and -1 on an image whose rows move against each other; equal columns tie throughout.
    let conv = LayerSpec::Conv { maps: 1, kernel: 1, padding: 0, stride: 1, bias: true };
    let pool = LayerSpec::Pool { pooling: Pooling::Max, size: 2, stride: 2 };
    let network =
        Network::new(Shape::from_sizes(&[1, 2, 2]).unwrap(), &[conv, pool, LayerSpec::Flatten, dense(1)]).unwrap();
    let path = line(&network, &[1.0, 0.0, 1.0, 0.0], &[0.0, 0.0, 1.0, 1.0], &[1.0, 1.0, -1.0, -1.0]);
    let found: Vec<_> = path.kinks.iter().map(|k| (k.at, k.layer, k.unit, k.change)).collect();
    assert_eq!(found, [(0.5, 1, 0, Change::Winner { from: 2, to: 0 })]);
    assert_eq!(path.outputs().row(1, 0), [-1.0]);
    assert_eq!(path.outputs().row(1, 1), [1.0]);
    // All equal, all the time: no kink, and the first place wins.
    let path = line(&network, &[1.0, 0.0, 1.0, 0.0], &[1.0; 4], &[-3.0; 4]);
    assert_eq!((path.kinks.len(), path.outputs().len()), (0, 1));
    // Dead from 1/2 on, with a rectifier: the units' own kinks, no winner changes.
    let layers = [conv, RELU, pool, LayerSpec::Flatten, dense(1)];
    let network = Network::new(Shape::from_sizes(&[1, 2, 2]).unwrap(), &layers).unwrap();
    let path = line(&network, &[1.0, 0.0, 1.0, 0.0], &[0.5, 0.25, 0.0, -1.0], &[-1.0, -1.0, -1.0, 2.0]);
    let found: Vec<_> = path.kinks.iter().map(|k| (k.at, k.layer, k.unit, k.change)).collect();
    let expected = [(0.25, 0, 1, Change::Off), (0.5, 0, 0, Change::Off), (0.5, 0, 3, Change::On)];
    assert_eq!(found[..3], expected);
    assert_eq!(found[3..], [(0.5, 2, 0, Change::Winner { from: 0, to: 3 })]);
}

#[test]
fn segments_in_input_space_are_exact() {
    for_all(2100, |case| {
        let path = case.check("input", None, Some(&case.input_step));
        assert!(path.outputs().degree() == 1);
    });
}

#[test]
fn segments_in_one_layers_and_one_neurons_weights_are_exact() {
    for_all(700, |case| {
        for block in 0..case.network.blocks().len() {
            let step = case.step_in(block, None);
            let path = case.check("layer", Some(&step), None);
            assert_eq!(path.outputs().degree(), 1, "the function is piecewise linear");
            let neuron = block % case.network.blocks()[block].units;
            case.check("neuron", Some(&case.step_in(block, Some(neuron))), None);
        }
    });
}

#[test]
fn segments_in_all_weights_are_exact() {
    for_all(700, |case| {
        let path = case.check("all weights", Some(&case.weight_step), None);
        assert_eq!(path.outputs().degree(), case.network.blocks().len());
        case.check("weights and input", Some(&case.weight_step), Some(&case.input_step));
    });
}

/// The kinks of a network with one hidden layer from their definition: unit `u` has its kink at the root of its
/// pre-activation.
#[test]
fn two_layer_networks_agree_with_the_definition() {
    for seed in 0..200 {
        let case = Case::new(4, &[dense(40), RELU, dense(2)], seed);
        let block = &case.network.blocks()[0];
        let mut expected: Vec<(f64, usize, Change)> = (0..block.units)
            .filter_map(|unit| {
                let w = &case.weights[block.neuron(unit)];
                let value: f64 = w.iter().zip(case.input.iter().chain(&[1.0])).map(|(w, x)| w * x).sum();
                let slope: f64 = w.iter().zip(&case.input_step).map(|(w, v)| w * v).sum();
                let at = -value / slope;
                let change = if slope > 0.0 { Change::On } else { Change::Off };
                (at > 0.0 && at < 1.0).then_some((at, unit, change))
            })
            .collect();
        expected.sort_by(|a, b| a.0.total_cmp(&b.0));
        let propagation = Propagation::new(&case.network, &case.weights, None);
        let found =
            propagation.kinks(&Segment { input: &case.input, step: Some(&case.input_step), from: 0.0, to: 1.0 });
        assert_eq!(found.len(), expected.len());
        for (kink, (at, unit, change)) in found.iter().zip(expected) {
            assert!((kink.at - at).abs() < 1e-13);
            assert_eq!((kink.layer, kink.unit, kink.change), (0, unit, change));
        }
    }
}

fn line(network: &Network, weights: &[f64], input: &[f64], step: &[f64]) -> Path {
    Propagation::new(network, weights, None).path(&Segment { input, step: Some(step), from: 0.0, to: 1.0 })
}

#[test]
fn kinks_that_meet_are_reported_together() {
    // Two equal units, a third whose kink is at the same point in exact arithmetic only, and a second layer that
    // turns at that point too.
    let network = Network::new(1, &[dense(3), RELU, dense(1), RELU, dense(1)]).unwrap();
    let weights = [3.0, -0.9, 3.0, -0.9, 0.1, -0.03, 1.0, 1.0, 1.0, 0.0, 1.0, 0.5];
    let path = line(&network, &weights, &[0.0], &[1.0]);
    let named: Vec<_> = path.kinks.iter().map(|k| (k.layer, k.unit)).collect();
    assert_eq!(named, [(0, 0), (0, 1), (0, 2), (2, 0)]);
    assert!(path.kinks.iter().all(|k| (k.at - 0.3).abs() < 1e-12 && k.change == Change::On), "{:?}", path.kinks);
    assert_eq!(path.outputs().len(), 2);
}

#[test]
fn units_that_are_zero_on_the_segment_are_no_kinks() {
    // Exactly zero: no input reaches the unit. Zero up to rounding: the segment lies in the unit's hyperplane.
    let network = Network::new(2, &[dense(2), RELU, dense(1)]).unwrap();
    let weights = [0.0, 0.0, 0.0, 0.1, 0.7, -0.31, 1.0, 1.0, 0.0];
    let (input, step) = ([1.0, 0.3], [0.7, -0.1]);
    for t in [0.0, 0.37, 1.0] {
        let a = 0.1 * (1.0 + 0.7 * t) + 0.7 * (0.3 - 0.1 * t) - 0.31;
        assert!(f64::abs(a) < 1e-15, "the segment runs along the kink, up to rounding: {a}");
    }
    let path = line(&network, &weights, &input, &step);
    assert_eq!(path.kinks, []);
    assert_eq!(path.at(0.5), (vec![0.0], vec![0.0]));
}

#[test]
fn a_layer_that_dies_is_a_kink_of_its_units_only_once() {
    // The one unit of the first layer dies at 1/2; the unit above it rests at zero from there on.
    let network = Network::new(1, &[dense(1), RELU, dense(1), RELU, dense(1)]).unwrap();
    let path = line(&network, &[-2.0, 1.0, 3.0, 0.0, 1.0, 0.0], &[0.0], &[1.0]);
    let named: Vec<_> = path.kinks.iter().map(|k| (k.at, k.layer, k.change)).collect();
    assert_eq!(named, [(0.5, 0, Change::Off), (0.5, 2, Change::Off)]);
    assert_eq!(path.outputs().len(), 2);
}

#[test]
fn a_unit_that_touches_zero_does_not_change_its_state() {
    // |x - 1/2| at its lowest point, as the input of a rectifier.
    let network = Network::new(1, &[dense(1), ABS, dense(1), RELU, dense(1)]).unwrap();
    let path = line(&network, &[1.0, -0.5, 1.0, 0.0, 1.0, 0.0], &[0.0], &[1.0]);
    let named: Vec<_> = path.kinks.iter().map(|k| (k.at, k.layer)).collect();
    assert_eq!(named, [(0.5, 0)]);
    assert_eq!([path.at(0.25), path.at(0.75)], [(vec![0.25], vec![-1.0]), (vec![0.25], vec![1.0])]);
}

#[test]
fn segments_without_length_or_motion_are_one_piece() {
    let case = Case::new(3, &[dense(6), RELU, dense(5), RELU, dense(2)], 5);
    let propagation = Propagation::new(&case.network, &case.weights, Some(&case.weight_step));
    let still = Propagation::new(&case.network, &case.weights, None);
    let zero = vec![0.0; 3];
    let paths = [
        propagation.path(&Segment { input: &case.input, step: Some(&case.input_step), from: 0.5, to: 0.5 }),
        still.path(&Segment { input: &case.input, step: Some(&zero), from: 0.0, to: 1.0 }),
        still.path(&Segment::at_rest(&case.input, 0.0, 1.0)),
    ];
    for path in &paths {
        assert_eq!((path.kinks.len(), path.outputs().len()), (0, 1));
    }
    let (_, moved) = case.forward(Some(&case.weight_step), Some(&case.input_step), 0.5);
    let (_, rest) = case.forward(None, None, 0.0);
    for (path, expected) in paths.iter().zip([moved, rest.clone(), rest]) {
        for (a, b) in path.at(0.5).0.iter().zip(expected) {
            assert!((a - b).abs() < 1e-13);
        }
    }
}

#[test]
fn losses_and_their_slopes_agree_with_differences() {
    let case = Case::new(4, &[dense(6), RELU, dense(5), RELU, dense(4)], 11);
    let (y, v) = ([0.3, -0.2, 0.5, 0.1], [1.0, 0.5, -0.3, 0.2]);
    let propagation = Propagation::new(&case.network, &case.weights, Some(&case.weight_step));
    let path = propagation.path(&Segment { input: &case.input, step: Some(&case.input_step), from: -0.5, to: 1.0 });
    let targets = [
        (Loss::Mse, Target::Values { at: &y, step: Some(&v) }),
        (Loss::Mse, Target::Values { at: &y, step: None }),
        (Loss::CrossEntropy, Target::Label(2)),
    ];
    for (p, ends) in path.outputs().bounds().windows(2).enumerate() {
        let (t, h) = (0.5 * (ends[0] + ends[1]), 1e-6);
        for (loss, target) in targets {
            let (_, slope) = path.loss_on(p, t, loss, target);
            let [up, down] = [t + h, t - h].map(|t| path.loss_on(p, t, loss, target).0);
            assert!((slope - (up - down) / (2.0 * h)).abs() < 1e-6 * slope.abs().max(1.0));
        }
        let (_, f) = case.forward(Some(&case.weight_step), Some(&case.input_step), t);
        let squares: f64 = f.iter().zip(y.iter().zip(v)).map(|(f, (y, v))| (f - y - t * v).powi(2)).sum();
        assert!((path.loss_on(p, t, Loss::Mse, targets[0].1).0 - squares / 4.0).abs() < 1e-12);
    }
}

/// Hanin and Rolnick 2019 ("Complexity of linear regions in deep networks", ICML): at initialization the expected number
/// of kinks along a line is proportional to the number of units, whatever the depth, where the tent networks, with the same
/// two units a layer, double it with every layer.
#[test]
fn random_initializations_have_kinks_in_proportion_to_their_units() {
    let mean_kinks = |depth: usize, width: usize| -> f64 {
        let mut layers = vec![];
        for _ in 0..depth {
            layers.extend([dense(width), RELU]);
        }
        layers.push(dense(1));
        let network = Network::new(8, &layers).unwrap();
        let seeds = 60;
        let counts: Vec<usize> = (0..seeds)
            .into_par_iter()
            .map(|seed| {
                let weights = he_uniform::<f64>(&network, seed);
                let mut numbers = Numbers::new(seed);
                let x: Vec<f64> = (0..8).map(|_| numbers.signed()).collect();
                let v: Vec<f64> = x.iter().map(|x| numbers.signed() - x).collect();
                let segment = Segment { input: &x, step: Some(&v), from: 0.0, to: 1.0 };
                Propagation::new(&network, &weights, None).kinks(&segment).len()
            })
            .collect();
        counts.iter().sum::<usize>() as f64 / seeds as f64
    };
    let per_unit: Vec<f64> = [(2, 32), (4, 32), (8, 32), (16, 32), (4, 64), (8, 16)]
        .into_iter()
        .map(|(depth, width)| mean_kinks(depth, width) / (depth * width) as f64)
        .collect();
    let (least, most) = per_unit.iter().fold((f64::MAX, 0.0f64), |(a, b), v| (a.min(*v), b.max(*v)));
    assert!(most < 2.0 * least && most < 1.0, "kinks per unit, by depth and width: {per_unit:?}");
}

#[test]
fn kinks_of_many_segments_are_those_of_each() {
    let case = Case::new(3, &[dense(20), RELU, dense(20), RELU, dense(2)], 8);
    let propagation = Propagation::new(&case.network, &case.weights, None);
    let starts: Vec<Vec<f64>> = (0..9).map(|i| case.input.iter().map(|x| x + 0.1 * i as f64).collect()).collect();
    let segments: Vec<Segment> =
        starts.iter().map(|x| Segment { input: x, step: Some(&case.input_step), from: 0.0, to: 1.0 }).collect();
    let all = propagation.kinks_of(&segments);
    for (kinks, segment) in all.iter().zip(&segments) {
        assert_eq!(*kinks, propagation.kinks(segment));
        assert!(!kinks.is_empty());
    }
}

#[test]
fn profiles_are_means_over_datapoints_and_their_taylor_losses() {
    let case = Case::new(4, &[dense(6), RELU, dense(5), RELU, dense(4)], 12);
    let mut numbers = Numbers::new(3);
    let inputs: Vec<Vec<f64>> = (0..21).map(|_| numbers.vector(4)).collect();
    let (y, step) = (numbers.vector(4), &case.weight_step);
    let target = Target::Values { at: &y, step: None };
    let datapoints: Vec<Datapoint> = inputs.iter().map(|input| Datapoint { input, step: None, target }).collect();
    let propagation = Propagation::new(&case.network, &case.weights, Some(step));
    let found = profile(&propagation, &datapoints, (-0.4, 0.7), Loss::Mse, Some(2)).unwrap();

    // The mean loss by the forward pass, and the Taylor loss by forward mode.
    let along = |t: f64| -> Vec<f64> { case.weights.iter().zip(step).map(|(w, d)| w + t * d).collect() };
    let x = inputs.concat();
    let mean_loss = |outputs: &[f64]| -> f64 {
        outputs.chunks(4).flat_map(|f| f.iter().zip(&y).map(|(f, y)| (f - y).powi(2) / 4.0)).sum::<f64>() / 21.0
    };
    let outputs = |weights: &[f64]| Linearization::new(&case.network, weights, &x).output().to_vec();
    let start = outputs(&case.weights);
    let slope = Linearization::new(&case.network, &case.weights, &x).jvp(step);
    for piece in &found.pieces {
        for (end, t) in [piece.from, piece.to].into_iter().enumerate() {
            assert!((piece.loss[end].value - mean_loss(&outputs(&along(t)))).abs() < 1e-11);
            let linear: Vec<f64> = start.iter().zip(&slope).map(|(f, d)| f + t * d).collect();
            assert!((piece.taylor[end].value - mean_loss(&linear)).abs() < 1e-11);
        }
        // The cubic of the ends is what figures draw.
        let (h, middle) = (piece.to - piece.from, 0.5 * (piece.from + piece.to));
        let [a, b] = piece.loss;
        let drawn = 0.5 * (a.value + b.value) + h * (a.slope - b.slope) / 8.0;
        assert!((drawn - mean_loss(&outputs(&along(middle)))).abs() < 1e-6);
    }
    assert!(found.pieces.windows(2).all(|two| two[0].to == two[1].from));
    assert_eq!((found.pieces[0].from, found.pieces[found.pieces.len() - 1].to), (-0.4, 0.7));
    assert!((found.start.value - start[2]).abs() < 1e-13 && (found.start.slope - slope[2]).abs() < 1e-13);
    assert!(found.kinks.len() > 20 && found.kinks.is_sorted_by(|a, b| a.1.at <= b.1.at));
    for (datapoint, kink) in &found.kinks {
        let own = propagation.kinks(&Segment::at_rest(&inputs[*datapoint], -0.4, 0.7));
        assert!(own.contains(kink));
    }
}

#[test]
fn an_updates_numbers_are_those_of_the_forward_and_backward_pass() {
    for seed in 0..20 {
        let case = Case::new(4, &[dense(9), RELU, dense(7), LEAKY, dense(4)], seed);
        let mut numbers = Numbers::new(seed);
        let inputs = numbers.vector(4 * 12);
        let examples = Examples::autoencoder(&inputs, 4);
        let rows: Vec<u32> = vec![3, 0, 11, 7, 5];
        let after: Vec<f64> = case.weights.iter().zip(&case.weight_step).map(|(w, d)| w + 0.4 * d).collect();
        let found =
            measure(&case.network, Loss::Mse, &examples, &rows, &case.weights, &after, &Limits::none()).unwrap();

        let mut engine = RoundEngine::new(&case.network, Loss::Mse, rows.len());
        let mut at = |weights: &[f64]| {
            engine.compute(weights, &examples, &rows);
            (engine.loss(), engine.gradient().to_vec())
        };
        let ((before_loss, g), (after_loss, h)) = (at(&case.weights), at(&after));
        assert!((found.before - before_loss).abs() < 1e-13 && (found.after - after_loss).abs() < 1e-12);
        let product = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        let cosine = product(&g, &h) / (product(&g, &g) * product(&h, &h)).sqrt();
        assert!((found.cosine.unwrap() - cosine).abs() < 1e-12);
        let step: Vec<f64> = after.iter().zip(&case.weights).map(|(b, a)| b - a).collect();
        assert!((found.first_order - before_loss - product(&g, &step)).abs() < 1e-12);

        let x: Vec<f64> = rows.iter().flat_map(|row| inputs[4 * *row as usize..][..4].to_vec()).collect();
        let here = Linearization::new(&case.network, &case.weights, &x);
        let (start, end) = (here.tape(), Tape::record(&case.network, &after, &x, rows.len()));
        let slope = here.jvp(&step);
        let squares: f64 =
            start.output.iter().zip(&slope).zip(&x).map(|((f, d), y)| (f + d - y).powi(2)).sum::<f64>() / 20.0;
        assert!((found.taylor - squares).abs() < 1e-12);
        let changed =
            start.derivatives.iter().flatten().zip(end.derivatives.iter().flatten()).filter(|(a, b)| a != b).count();
        assert_eq!(found.changed, changed as f64 / 5.0);
        assert!(found.kinks >= found.changed);
    }
}

/// Checks that regions tile the rectangle, that the network is affine on each and that no unit changes its state inside.
fn check_regions(case: &Case, plane: &Plane) -> usize {
    let found = regions(&case.network, plane, 100_000, &Limits::none()).unwrap();
    let total: f64 = found.iter().map(Region::area).sum();
    let rectangle = (plane.u.1 - plane.u.0) * (plane.v.1 - plane.v.0);
    assert!((total - rectangle).abs() < 1e-9 * rectangle, "{total} of {rectangle}");
    let mut numbers = Numbers::new(found.len() as u64);
    for region in &found {
        assert!(region.area() > 0.0 && region.polygon.len() >= 3);
        let mut states: Option<Vec<State>> = None;
        for _ in 0..6 {
            // A random point of the polygon, a little inside.
            let shares: Vec<f64> = region.polygon.iter().map(|_| 1.001 + numbers.signed()).collect();
            let sum: f64 = shares.iter().sum();
            let middle = region.middle();
            let point = [0, 1].map(|k| {
                let mixed: f64 = region.polygon.iter().zip(&shares).map(|(v, s)| v[k] * s / sum).sum();
                middle[k] + 0.99 * (mixed - middle[k])
            });
            let moved = |base: &[f64], [d, e]: [&[f64]; 2]| -> Vec<f64> {
                base.iter().zip(d.iter().zip(e)).map(|(b, (d, e))| b + point[0] * d + point[1] * e).collect()
            };
            let (weights, input) = match plane.directions {
                Directions::Inputs(directions) => (plane.weights.to_vec(), moved(plane.input, directions)),
                Directions::Weights(directions) => (moved(plane.weights, directions), plane.input.to_vec()),
            };
            let (here, outputs) = states_of(&case.network, &weights, &input);
            for (a, b) in region.at(point).iter().zip(&outputs) {
                assert!((a - b).abs() < 1e-11 * b.abs().max(1.0), "{a} {b}");
            }
            // Regions too small for a point that is safely inside say nothing about states.
            if region.area() > 1e-8 * rectangle {
                match &states {
                    Some(states) => assert_eq!(*states, here, "a unit changes its state inside a region"),
                    None => states = Some(here),
                }
            }
        }
    }
    found.len()
}

#[test]
fn regions_of_planes_are_exact() {
    (0..40u64).into_par_iter().for_each(|seed| {
        let case = Case::new(3, &[dense(8), RELU, dense(7), LEAKY, dense(6), ABS, dense(2)], seed);
        let mut numbers = Numbers::new(seed);
        let (d, e) = (numbers.vector(3), numbers.vector(3));
        let plane = Plane {
            weights: &case.weights,
            input: &case.input,
            directions: Directions::Inputs([&d, &e]),
            u: (-2.0, 3.0),
            v: (-1.0, 2.5),
        };
        assert!(check_regions(&case, &plane) > 10);
        for block in 0..4 {
            let (d, e) = (case.step_in(block, None), case.step_in(block, Some(1)));
            let plane = Plane { directions: Directions::Weights([&d, &e]), ..plane };
            check_regions(&case, &plane);
        }
    });
}

#[test]
fn regions_of_convolutional_networks_are_exact() {
    let shapes = spatial_shapes();
    let check = |seed: u64| -> usize {
        let (image, layers) = &shapes[seed as usize % shapes.len()];
        let case = Case::new(Shape::from_sizes(image).unwrap(), layers, seed);
        let mut numbers = Numbers::new(seed);
        let (d, e) = (numbers.vector(case.input.len()), numbers.vector(case.input.len()));
        let plane = Plane {
            weights: &case.weights,
            input: &case.input,
            directions: Directions::Inputs([&d, &e]),
            u: (-0.6, 0.5),
            v: (-0.5, 0.4),
        };
        let count = check_regions(&case, &plane);
        let (d, e) = (case.step_in(0, None), case.step_in(0, Some(1)));
        count + check_regions(&case, &Plane { directions: Directions::Weights([&d, &e]), ..plane })
    };
    let regions: Vec<usize> = (0..40).into_par_iter().map(check).collect();
    let total: usize = regions.iter().sum();
    assert!(total > 1000, "the planes must have been cut: {total} regions");
}

#[test]
fn regions_of_a_known_arrangement_are_counted() {
    // |u| and |v| on a square around 0: four regions. With u + v = 1/2 and u - v = 1/2 beside them, which meet on v = 0: ten.
    let network = Network::new(2, &[dense(2), ABS, dense(1)]).unwrap();
    let weights = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0];
    let plane = |weights: &'static [f64]| Plane {
        weights,
        input: &[0.0, 0.0],
        directions: Directions::Inputs([&[1.0, 0.0], &[0.0, 1.0]]),
        u: (-1.0, 1.0),
        v: (-1.0, 1.0),
    };
    let weights: &'static [f64] = Box::leak(Box::new(weights));
    let found = regions(&network, &plane(weights), 100, &Limits::none()).unwrap();
    assert_eq!(found.len(), 4);
    assert!(found.iter().all(|region| (region.area() - 1.0).abs() < 1e-15));
    assert!(regions(&network, &plane(weights), 3, &Limits::none()).is_err(), "the limit holds");

    let network = Network::new(2, &[dense(4), RELU, dense(1)]).unwrap();
    let weights: &'static [f64] =
        Box::leak(Box::new([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, -0.5, 1.0, -1.0, -0.5, 1.0, 1.0, 1.0, 1.0, 0.0]));
    assert_eq!(regions(&network, &plane(weights), 100, &Limits::none()).unwrap().len(), 10);
    let all = vec![1.0; weights.len()];
    let several = Plane { directions: Directions::Weights([&all, &all]), ..plane(weights) };
    assert!(regions(&network, &several, 100, &Limits::none()).is_err(), "two layers move");
}
