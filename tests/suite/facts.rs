//! The five facts about Taylor losses (`docs/theory.md`, section 2), on every problem, at every scale, for every unit.

use crate::common::{
    Goal, LEAKY, Numbers, Problem, RELU, Special, Unit, all_problems, assert_close, largest, network, problem,
    problems, units, without_biases,
};
use taylorscope::{
    loss::Loss,
    network::Network,
    num::convert,
    passes::{Linearization, Passes, curvature_factors},
    taylor::{
        Expansion,
        graph::sample::{Moving, Sample},
    },
};

/// Sums of at most a few hundred terms of order one in `f64`: rounding stays far below.
const EXACT: f64 = 1e-12;

fn part<'a>(values: &'a [f64], unit: &Unit) -> &'a [f64] {
    &values[unit.span.clone()]
}

#[test]
fn the_value_at_the_weights_is_the_loss() {
    for problem in all_problems() {
        let (loss, _) = problem.backprop(&problem.weights);
        let outputs = problem.plain_outputs(&problem.weights);
        assert_close(problem.name, &[loss], &[problem.plain_loss(&outputs)], EXACT);
        let states = [problem.weights.clone()];
        let rows = problem.equal_rounds(1);
        let window = problem.network.is_dense_chain().then(|| problem.window(&states, &rows));
        for unit in units(&problem.network) {
            let what = format!("{}, {}", problem.name, unit.name);
            let taylor = problem.taylor_loss(&problem.weights, &unit, part(&problem.weights, &unit));
            assert_close(&what, &[taylor], &[loss], EXACT);
            let Some(window) = &window else { continue };
            // A window knows layers and the network; a neuron is a part of its layer.
            let width = problem.network.blocks()[unit.blocks.clone()].iter().map(|b| b.range().len()).sum();
            let Expansion { value, outputs: predicted, .. } = window.expand(1, unit.blocks.clone(), &vec![0.0; width]);
            assert_close(&what, &[value], &[loss], EXACT);
            assert_close(&what, &predicted, &outputs, EXACT);
        }
    }
}

#[test]
fn the_gradient_at_the_weights_is_that_of_backpropagation() {
    for problem in all_problems() {
        let (_, backprop) = problem.backprop(&problem.weights);
        let outputs = problem.tape(&problem.weights).output;
        let slopes = problem.plain_derivatives(&outputs);
        let states = [problem.weights.clone()];
        let rows = problem.equal_rounds(1);
        let window = problem.network.is_dense_chain().then(|| problem.window(&states, &rows));
        for unit in units(&problem.network) {
            let what = format!("{}, {}", problem.name, unit.name);
            let forward_mode: Vec<f64> = problem
                .jacobian(&problem.weights, &unit)
                .iter()
                .map(|column| column.iter().zip(&slopes).map(|(j, s)| j * s).sum::<f64>() / problem.rows as f64)
                .collect();
            assert_close(&what, &forward_mode, part(&backprop, &unit), EXACT);
            let Some(window) = &window else { continue };
            let base = problem.network.blocks()[unit.blocks.start].offset;
            let width = problem.network.blocks()[unit.blocks.end - 1].range().end - base;
            let gradient = window.expand(1, unit.blocks.clone(), &vec![0.0; width]).gradient;
            let own = &gradient[unit.span.start - base..unit.span.end - base];
            assert_close(&what, own, part(&backprop, &unit), EXACT);
        }
    }
}

/// The dead units have no gradient at all, and the layers below a dead layer neither.
#[test]
fn dead_units_have_no_gradient() {
    for problem in all_problems() {
        let (_, gradient) = problem.backprop(&problem.weights);
        let hidden = problem.network.hidden_blocks();
        for (l, block) in hidden.iter().enumerate() {
            for u in 0..block.units {
                let dead = match problem.special {
                    Special::DeadUnits => u % 2 == 1,
                    Special::DeadLayer => l <= hidden.len() / 2,
                    _ => false,
                };
                let moves = gradient[block.neuron(u)].iter().any(|g| *g != 0.0);
                assert!(!(dead && moves), "{}: neuron {u} of block {l} has a gradient", problem.name);
            }
        }
        let any = gradient.iter().any(|g| *g != 0.0);
        // A single class is always right.
        assert_eq!(any, !problem.name.starts_with("one class"), "{}", problem.name);
    }
}

/// The mean over rounds of Taylor losses, each at the weights of its own round.
#[test]
fn a_window_averages_the_taylor_losses_of_its_rounds() {
    for (seed, problem) in problems().into_iter().enumerate() {
        let mut numbers = Numbers::new(50 + seed as u64);
        let states = problem.states(4, 70 + seed as u64);
        for rows in problem.rounds(4) {
            let window = problem.window(&states, &rows);
            for unit in units(&problem.network).into_iter().filter(|u| !u.name.contains("neuron")) {
                let u = numbers.vector(unit.span.len());
                let at: Vec<f64> = part(&states[0], &unit).iter().zip(&u).map(|(w, u)| w + u).collect();
                let linear = match problem.loss {
                    Loss::Mse => window.linear_terms(&[1, 3, 4], unit.blocks.clone()),
                    Loss::CrossEntropy => Vec::new(),
                };
                for (index, rounds) in [1, 3, 4].into_iter().enumerate() {
                    let what = format!("{}, {}, {rounds} rounds", problem.name, unit.name);
                    let Expansion { value, gradient, .. } = window.expand(rounds, unit.blocks.clone(), &u);
                    let (mut expected, mut slope) = (0.0, vec![0.0; u.len()]);
                    let (mut start, mut start_slope) = (0.0, vec![0.0; u.len()]);
                    for state in &states[..rounds] {
                        let (l, g) = taylor_gradient(&problem, state, &unit, &at);
                        expected += l / rounds as f64;
                        slope.iter_mut().zip(&g).for_each(|(s, g)| *s += g / rounds as f64);
                        let (l, g) = taylor_gradient(&problem, state, &unit, part(&states[0], &unit));
                        start += l;
                        start_slope.iter_mut().zip(&g).for_each(|(s, g)| *s += g);
                    }
                    assert_close(&what, &[value], &[expected], EXACT);
                    assert_close(&what, &gradient, &slope, EXACT);
                    if let Some((constant, terms)) = linear.get(index) {
                        assert_close(&what, &[*constant], &[start], EXACT);
                        assert_close(&what, terms, &start_slope, EXACT);
                    }
                }
            }
        }
    }
}

/// Value and gradient of one Taylor loss at `at`, by forward mode.
fn taylor_gradient(problem: &Problem, weights: &[f64], unit: &Unit, at: &[f64]) -> (f64, Vec<f64>) {
    let outputs = problem.taylor_outputs(weights, unit, at);
    let slopes = problem.plain_derivatives(&outputs);
    let gradient = problem
        .jacobian(weights, unit)
        .iter()
        .map(|column| column.iter().zip(&slopes).map(|(j, s)| j * s).sum::<f64>() / problem.rows as f64)
        .collect();
    (problem.plain_loss(&outputs), gradient)
}

#[test]
fn taylor_losses_are_convex() {
    let mut strictly = 0;
    for (seed, problem) in all_problems().into_iter().enumerate() {
        let mut numbers = Numbers::new(100 + seed as u64);
        let (loss, backprop) = problem.backprop(&problem.weights);
        for unit in units(&problem.network) {
            for size in [0.1, 1.0, 10.0, 10.0] {
                let mut point = || -> Vec<f64> {
                    part(&problem.weights, &unit).iter().map(|w| w + size * numbers.signed()).collect()
                };
                let (a, b) = (point(), point());
                let t = 0.5 * (1.0 + numbers.signed());
                let between: Vec<f64> = a.iter().zip(&b).map(|(a, b)| t * a + (1.0 - t) * b).collect();
                let at = |v: &[f64]| problem.taylor_loss(&problem.weights, &unit, v);
                let (chord, value) = (t * at(&a) + (1.0 - t) * at(&b), at(&between));
                let rounding = 1e-13 * (1.0 + at(&a).abs() + at(&b).abs());
                assert!(value <= chord + rounding, "{}, {}: {value} above {chord}", problem.name, unit.name);
                strictly += u32::from(value < chord - 1e-6 * chord);
                // The inequality that regret bounds rest on: the tangent at the weights lies below.
                let step: f64 = a
                    .iter()
                    .zip(part(&problem.weights, &unit))
                    .zip(part(&backprop, &unit))
                    .map(|((a, w), g)| (a - w) * g)
                    .sum();
                assert!(
                    at(&a) >= loss + step - rounding,
                    "{}, {}: {} below its tangent {}",
                    problem.name,
                    unit.name,
                    at(&a),
                    loss + step
                );
            }
        }
    }
    assert!(strictly > 1000, "only {strictly} chords lie strictly above");
}

/// The largest step `2^-k` along `direction` that changes no slope and no winner of a pool, halved once more.
fn harmless_step(problem: &Problem, unit: &Unit, direction: &[f64]) -> Option<f64> {
    let before = problem.regions(&problem.weights);
    (0..40).map(|k| 0.5f64.powi(k)).find(|h| problem.regions(&moved(problem, unit, direction, 2.0 * h)) == before)
}

fn moved(problem: &Problem, unit: &Unit, direction: &[f64], step: f64) -> Vec<f64> {
    let mut weights = problem.weights.clone();
    weights[unit.span.clone()].iter_mut().zip(direction).for_each(|(w, d)| *w += step * d);
    weights
}

/// `f(w + h d) - f(w) - h J d`, its largest entry, and that of the change itself.
fn linearization_error(problem: &Problem, unit: &Unit, direction: &[f64], step: f64) -> (f64, f64) {
    let to = moved(problem, unit, direction, step);
    let predicted = problem.taylor_outputs(&problem.weights, unit, part(&to, unit));
    let (true_outputs, start) = (problem.tape(&to).output, problem.tape(&problem.weights).output);
    let difference = |a: &[f64], b: &[f64]| largest(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>());
    (difference(&true_outputs, &predicted), difference(&true_outputs, &start))
}

#[test]
fn layer_and_neuron_scale_are_exact_while_no_unit_switches() {
    for (seed, problem) in all_problems().into_iter().enumerate() {
        // Exactly at its kink a unit switches with any change of its weights, and so does a pool between equal values.
        if matches!(problem.special, Special::Kinks | Special::Ties) {
            continue;
        }
        let mut numbers = Numbers::new(200 + seed as u64);
        let (mut changed, mut tried) = (0, 0);
        for unit in units(&problem.network).into_iter().skip(1) {
            for _ in 0..3 {
                let direction = numbers.direction(unit.span.len());
                let step = harmless_step(&problem, &unit, &direction).expect("some step changes no slope");
                assert!(step > 1e-5, "{}, {}: the step is only {step:e}", problem.name, unit.name);
                let (error, change) = linearization_error(&problem, &unit, &direction, step);
                let scale = largest(&problem.tape(&problem.weights).output).max(1.0);
                assert!(error <= EXACT * scale, "{}, {}: {error:e} for {change:e}", problem.name, unit.name);
                tried += 1;
                changed += u32::from(change > 1e-6);
            }
        }
        // Of the units that are not dead, nearly all change the output.
        let dead = matches!(problem.special, Special::DeadUnits | Special::DeadLayer);
        assert!(changed * if dead { 6 } else { 2 } >= tried, "{}: {changed} of {tried} changed", problem.name);
    }
}

/// Where a unit does switch, the approximation is no longer exact: the check above can fail.
#[test]
fn layer_scale_is_not_exact_beyond_a_switch() {
    let mut inexact = 0;
    for (seed, problem) in all_problems().into_iter().enumerate() {
        let mut numbers = Numbers::new(300 + seed as u64);
        for unit in units(&problem.network).into_iter().skip(1) {
            let direction = numbers.direction(unit.span.len());
            let far = problem.regions(&moved(&problem, &unit, &direction, 8.0));
            let switches = far != problem.regions(&problem.weights);
            let (error, _) = linearization_error(&problem, &unit, &direction, 8.0);
            inexact += u32::from(switches && error > 1e-3);
        }
    }
    assert!(inexact > 50, "only {inexact} units switched");
}

#[test]
fn network_scale_is_exact_to_first_order() {
    let mut curved = 0;
    for (seed, problem) in all_problems().into_iter().enumerate() {
        if matches!(problem.special, Special::Kinks | Special::Ties) {
            continue;
        }
        let mut numbers = Numbers::new(400 + seed as u64);
        let all = &units(&problem.network)[0];
        for _ in 0..3 {
            let direction = numbers.direction(all.span.len());
            let step = harmless_step(&problem, all, &direction).expect("some step changes no slope").min(0.01);
            assert!(step > 1e-5, "{}: the step is only {step:e}", problem.name);
            let (far, _) = linearization_error(&problem, all, &direction, step);
            let (near, _) = linearization_error(&problem, all, &direction, step / 4.0);
            let scale = largest(&problem.tape(&problem.weights).output).max(1.0);
            // Without switches the output is a polynomial in the step: a quarter of it has a sixteenth of the quadratic
            // term; twice that leaves room for the cubic one.
            assert!(near <= far / 8.0 + 1e-13 * scale, "{}: {near:e} after {far:e}", problem.name);
            if problem.network.blocks().len() == 1 {
                assert!(far <= EXACT * scale, "{}: a linear network is exact", problem.name);
            }
            curved += u32::from(far > 1e3 * EXACT * scale);
        }
    }
    assert!(curved > 20, "only {curved} directions are curved");
}

#[test]
fn products_with_the_curvature_are_those_of_the_gauss_newton_matrix() {
    for (seed, problem) in problems().into_iter().enumerate() {
        let rounds = 3;
        let states = problem.states(rounds, 500 + seed as u64);
        for rows in problem.rounds(rounds) {
            let window = problem.window(&states, &rows);
            let mut numbers = Numbers::new(600 + seed as u64);
            for unit in units(&problem.network).into_iter().filter(|u| !u.name.contains("neuron")) {
                let d = unit.span.len();
                let u = numbers.vector(d);
                for count in [1, rounds] {
                    let scale = 1.0 / (count * rows.largest()) as f64;
                    let product_at = |direction: &[f64], outputs: &[f64], span: std::ops::Range<usize>| {
                        window.product(span, unit.blocks.clone(), direction, outputs, scale)
                    };
                    let what = format!("{}, {}, {count} rounds", problem.name, unit.name);
                    let outputs = window.expand(count, unit.blocks.clone(), &u).outputs;
                    let mut dense = vec![0.0; d * d];
                    for (n, state) in states.iter().enumerate().take(count) {
                        // Rows that come again have the same outputs again.
                        let width = problem.network.outputs();
                        let own = &outputs[rows.start(n) * width..][..problem.rows * width];
                        let block = problem.gauss_newton(state, &unit, own);
                        dense.iter_mut().zip(&block).for_each(|(sum, b)| *sum += b / count as f64);
                    }
                    let size = largest(&dense);
                    for j in 0..d {
                        let mut direction = vec![0.0; d];
                        direction[j] = 1.0;
                        let product = product_at(&direction, &outputs, 0..count);
                        let column: Vec<f64> = (0..d).map(|i| dense[i * d + j]).collect();
                        assert_close(&what, &product, &column, EXACT * (size / largest(&column).max(0.01)).max(1.0));
                    }
                    // Finite differences of the gradient: exact for a quadratic, else to second order in the step.
                    let direction = numbers.direction(d);
                    let product = product_at(&direction, &outputs, 0..count);
                    let mut sum = product_at(&direction, &outputs, 0..1);
                    let rest = product_at(&direction, &outputs, 1..count);
                    sum.iter_mut().zip(&rest).for_each(|(s, r)| *s += r);
                    assert_close(&what, &sum, &product, EXACT);
                    let h = if problem.loss.is_quadratic() { 1.0 } else { 1e-4 };
                    let gradient = |h: f64| {
                        let at: Vec<f64> = u.iter().zip(&direction).map(|(u, d)| u + h * d).collect();
                        window.expand(count, unit.blocks.clone(), &at).gradient
                    };
                    let difference: Vec<f64> =
                        gradient(h).iter().zip(gradient(-h)).map(|(a, b)| (a - b) / (2.0 * h)).collect();
                    let tolerance = if problem.loss.is_quadratic() { 1e-11 } else { 1e-5 };
                    assert_close(&what, &product, &difference, tolerance);
                }
            }
        }
    }
}

/// Facts 1, 2 and 5 for means over rounds by the passes of the network: values, gradients and products with the curvature, for every unit
/// of every problem, against forward mode and the dense Gauss-Newton matrix.
#[test]
fn samples_have_the_values_gradients_and_curvatures_of_their_rounds() {
    let rounds = 2;
    for (seed, problem) in all_problems().into_iter().enumerate() {
        let states = problem.states(rounds, 1000 + seed as u64);
        for rows in problem.rounds(rounds) {
            let examples = problem.examples();
            let (network, loss) = (&problem.network, problem.loss);
            let sample = Sample { network, loss, examples: &examples, states: &states, rows: &rows };
            let kept = sample.keep(1 << 30);
            let mut numbers = Numbers::new(1100 + seed as u64);
            for unit in units(&problem.network) {
                let what = format!("{}, {}", problem.name, unit.name);
                let moving = Moving { blocks: unit.blocks.clone(), span: unit.span.clone() };
                let u = numbers.vector(unit.span.len());
                let at: Vec<f64> = part(&states[0], &unit).iter().zip(&u).map(|(w, u)| w + u).collect();
                let found = kept.expand(rounds, &moving, &u);
                let (mut value, mut slope, mut outputs) = (0.0, vec![0.0; u.len()], Vec::new());
                let direction: Vec<f64> = convert(&convert::<f64, f32>(&numbers.vector(u.len())));
                let mut product = vec![0.0; u.len()];
                for (n, state) in states.iter().enumerate() {
                    let (l, g) = taylor_gradient(&problem, state, &unit, &at);
                    value += l / rounds as f64;
                    slope.iter_mut().zip(&g).for_each(|(s, g)| *s += g / rounds as f64);
                    let predicted = problem.taylor_outputs(state, &unit, &at);
                    let block = problem.gauss_newton(state, &unit, &predicted);
                    for (p, row) in product.iter_mut().zip(block.chunks(u.len())) {
                        *p += row.iter().zip(&direction).map(|(b, d)| b * d).sum::<f64>() / rounds as f64;
                    }
                    outputs.extend(predicted.repeat(rows.round(n).len() / problem.rows));
                }
                assert_close(&what, &[found.value], &[value], EXACT);
                assert_close(&what, &found.gradient, &slope, EXACT);
                assert_close(&what, &found.outputs, &outputs, EXACT);
                let (short, moved): (Vec<f32>, Vec<f32>) = (convert(&direction), convert(&outputs));
                let scale = 1.0 / (rows.len() * rows.largest()) as f64;
                let image: Vec<f64> = convert(&kept.product(0..rounds, &moving, &short, &moved, scale));
                // As for a window in single precision; where f32 sees another winner of a tie, the linearization is another.
                if problem.special != Special::Ties {
                    assert_close(&what, &image, &product, 1e-4);
                }
            }
        }
    }
}

/// A neuron's block is `mean q x x'`, with the `q` of the curvature recursion.
#[test]
fn the_curvature_of_a_neuron_is_a_weighted_gram_matrix() {
    for problem in problems() {
        let here = Linearization::new(&problem.network, &problem.weights, &problem.inputs);
        let (tape, blocks) = (here.tape(), problem.network.blocks());
        let mut storage = Vec::new();
        let top = problem.loss.hessian_factor(&tape.output, problem.network.outputs(), &mut storage);
        let mut q: Vec<Vec<f64>> = vec![Vec::new(); blocks.len()];
        curvature_factors(&here.point(), top, 0, true, |l, factor| {
            factor.diagonal(problem.rows, blocks[l].units, &mut q[l]);
        });
        let neurons = units(&problem.network).into_iter().filter(|u| u.name.contains("neuron"));
        for unit in neurons {
            let l = unit.blocks.start;
            let block = &blocks[l];
            let neuron = (unit.span.start - block.offset) / block.width();
            let expected = problem.gauss_newton(&problem.weights, &unit, &tape.output);
            let width = block.width();
            let mut found = vec![0.0; width * width];
            for i in 0..problem.rows {
                let mut x = tape.input(block, &problem.inputs)[i * block.inputs..(i + 1) * block.inputs].to_vec();
                x.resize(width, 1.0);
                for (at, sum) in found.iter_mut().enumerate() {
                    *sum += q[l][i * block.units + neuron] * x[at / width] * x[at % width] / problem.rows as f64;
                }
            }
            assert_close(&format!("{}, {}", problem.name, unit.name), &found, &expected, EXACT);
        }
    }
}

/// A product in single precision differs from the exact one by single rounding alone.
#[test]
fn a_window_in_single_precision_has_the_same_products() {
    for (seed, problem) in problems().into_iter().enumerate() {
        let states = problem.states(3, 700 + seed as u64);
        for rows in problem.rounds(3) {
            let window = problem.window(&states, &rows);
            let fast = window.to_f32();
            let mut numbers = Numbers::new(800 + seed as u64);
            for unit in units(&problem.network).into_iter().filter(|u| !u.name.contains("neuron")) {
                let direction = numbers.direction(unit.span.len());
                let outputs = window.expand(3, unit.blocks.clone(), &vec![0.0; direction.len()]).outputs;
                let narrow: Vec<f32> = convert(&outputs);
                let scale = 1.0 / (rows.len() * rows.largest()) as f64;
                let exact = window.product(0..3, unit.blocks.clone(), &direction, &outputs, scale);
                let short: Vec<f32> = convert(&direction);
                let product: Vec<f64> = convert(&fast.product(0..3, unit.blocks.clone(), &short, &narrow, scale));
                // A few hundred terms at 6e-8 each; saturated classifiers have probabilities of outputs near 100.
                assert_close(&format!("{}, {}", problem.name, unit.name), &product, &exact, 1e-4);
            }
        }
    }
}

/// Inputs that are mostly zero take a way of their own; gradients do not.
#[test]
fn products_of_inputs_mostly_zero_are_differences_of_gradients() {
    let with = network(19, &[(6, RELU), (4, LEAKY)], 5);
    let goals = [(Goal::Values, with.clone()), (Goal::Labels, with.clone()), (Goal::Values, without_biases(&with, 1))];
    for (goal, network) in goals {
        // Several blocks of rows, and a group of rounds that is not full.
        let problem = problem("inputs mostly zero", 5, network.clone(), 50, goal, Special::MostlyZero);
        let states = problem.states(7, 6);
        for rows in problem.rounds(7) {
            let window = problem.window(&states, &rows);
            let mut numbers = Numbers::new(7);
            for (rounds, blocks) in [(1, 0..1), (4, 0..1), (5, 0..2), (7, 0..3), (6, 0..3)] {
                let first = &network.blocks()[blocks.start];
                let length = network.blocks()[blocks.end - 1].range().end - first.offset;
                let (zero, direction) = (vec![0.0; length], numbers.direction(length));
                // A small step: cross-entropy is not quadratic.
                let step: Vec<f64> = direction.iter().map(|d| 1e-4 * d).collect();
                let back: Vec<f64> = step.iter().map(|d| -d).collect();
                let outputs = window.expand(rounds, blocks.clone(), &zero).outputs;
                let [ahead, behind] = [step, back].map(|u| window.expand(rounds, blocks.clone(), &u).gradient);
                let expected: Vec<f64> = ahead.iter().zip(&behind).map(|(a, b)| (a - b) / 2e-4).collect();
                let scale = window.scale(rounds);
                let product = window.product(0..rounds, blocks.clone(), &direction, &outputs, scale);
                assert_close(&format!("{goal:?}, {rounds} rounds, {blocks:?}"), &product, &expected, 1e-7);
            }
        }
    }
}

/// A direction outside a unit's blocks does not count.
#[test]
fn only_the_blocks_that_move_count() {
    for problem in all_problems() {
        let here = Linearization::new(&problem.network, &problem.weights, &problem.inputs);
        let mut numbers = Numbers::new(900);
        let direction = numbers.vector(problem.network.parameters());
        let all = 0..problem.network.blocks().len();
        let whole = here.jvp(&direction);
        let mut sum = vec![0.0; whole.len()];
        for l in all {
            let part = Passes::new().jvp(&here.point(), &direction, l..l + 1);
            sum.iter_mut().zip(&part).for_each(|(s, p)| *s += p);
        }
        assert_close(problem.name, &sum, &whole, EXACT);
    }
}

/// With many outputs, the output block's weights go by low-rank bases: exact windows have the residuals too, windows for searches do not.
#[test]
fn products_in_low_rank_bases_are_those_of_the_weights() {
    let with = network(7, &[(6, RELU), (4, LEAKY)], 60);
    products_in_low_rank_bases(&without_biases(&with, 1));
    products_in_low_rank_bases(&with);
}

fn products_in_low_rank_bases(network: &Network) {
    let problem = problem("wide output", 9, network.clone(), 16, Goal::Values, Special::Nothing);
    // Training along two directions with a little noise, over two bases and a part of one.
    let mut numbers = Numbers::new(31);
    let ways = [0, 1].map(|_| numbers.vector(network.parameters()));
    let states: Vec<Vec<f64>> = (0..70)
        .map(|n| {
            let along = [0.01 * n as f64, (0.2 * n as f64).sin()];
            let moved = problem.weights.iter().zip(ways[0].iter().zip(&ways[1]));
            moved.map(|(w, (a, b))| w + 0.1 * (along[0] * a + along[1] * b) + 1e-5 * numbers.signed()).collect()
        })
        .collect();
    for rows in problem.rounds(70) {
        let plain = problem.window(&states, &rows);
        let mut low_rank = plain.clone();
        low_rank.find_low_rank();
        assert_eq!(low_rank.low_rank_rounds(), 70);
        let (narrow, narrow_low_rank) = (plain.to_f32(), low_rank.to_f32());
        for (rounds, blocks) in [(0..70, 0..3), (0..40, 1..3), (35..70, 0..3), (0..70, 0..2), (50..51, 2..3)] {
            let all = network.blocks();
            let length = all[blocks.end - 1].range().end - all[blocks.start].offset;
            let directions = [numbers.direction(length), numbers.direction(length), numbers.direction(length)];
            let directions: Vec<&[f64]> = directions.iter().map(|d| &d[..]).collect();
            let short: Vec<Vec<f32>> = directions.iter().map(|d| convert(d)).collect();
            let short: Vec<&[f32]> = short.iter().map(|d| &d[..]).collect();
            let scale = plain.scale(rounds.len());
            let expected = plain.products(rounds.clone(), blocks.clone(), &directions, &[], scale);
            let exact = low_rank.products(rounds.clone(), blocks.clone(), &directions, &[], scale);
            let single = narrow.products(rounds.clone(), blocks.clone(), &short, &[], scale);
            let search = narrow_low_rank.products(rounds.clone(), blocks.clone(), &short, &[], scale);
            for (d, expected) in expected.iter().enumerate() {
                let what = format!("rounds {rounds:?}, blocks {blocks:?}, direction {d}");
                assert_close(&what, &exact[d], expected, 1e-10);
                assert_close(&what, &convert(&single[d]), expected, 1e-5);
                assert_close(&what, &convert(&search[d]), expected, 1e-3);
            }
            // In two steps: what hidden blocks do to the output block, then the rest.
            if blocks.len() > 1 && blocks.end == all.len() {
                let hidden = blocks.start..blocks.end - 1;
                let known = short[0][..all[blocks.end - 1].offset - all[blocks.start].offset].to_vec();
                let known = narrow_low_rank.output_image(rounds.clone(), hidden, &known, scale);
                let product = narrow_low_rank.product_with(rounds.clone(), blocks.clone(), short[0], &known, scale);
                assert_close("in two steps", &convert(&product), &convert(&search[0]), 1e-5);
            }
        }
    }
}

/// Weights that have too little in common are left as they are.
#[test]
fn weights_without_a_basis_are_multiplied_as_they_are() {
    let network = network(7, &[(6, RELU), (4, LEAKY)], 60);
    let problem = problem("wide output", 9, network.clone(), 16, Goal::Values, Special::Nothing);
    let states = problem.states(33, 3);
    for rows in problem.rounds(33) {
        let mut window = problem.window(&states, &rows);
        let direction = Numbers::new(4).direction(network.parameters());
        let expected = window.product(0..33, 0..3, &direction, &[], 0.1);
        window.find_low_rank();
        assert_eq!(window.low_rank_rounds(), 1, "only the last, of a single round");
        assert_close("without bases", &window.product(0..33, 0..3, &direction, &[], 0.1), &expected, 1e-12);
    }
}
