//! Passes against one another on dense chains.

use super::*;
use crate::{
    kernels::factor::Factor,
    network::{LayerSpec, Rectifier, he_uniform},
};

fn problem() -> (Network, Vec<f64>, Vec<f64>) {
    let layers = [
        LayerSpec::dense(5),
        LayerSpec::Rectifier(Rectifier::Relu),
        LayerSpec::dense(4),
        LayerSpec::Rectifier(Rectifier::LeakyRelu { slope: 0.1 }),
        LayerSpec::dense(3),
    ];
    let network = Network::new(6, &layers).unwrap();
    let weights: Vec<f64> = he_uniform::<f64>(&network, 3);
    let x = (0..7 * 6).map(|i| (i as f64 * 1.3).sin()).collect();
    (network, weights, x)
}

#[test]
fn jvp_and_vjp_are_adjoint_for_every_range_of_blocks() {
    let (network, weights, x) = problem();
    let tape = Tape::record(&network, &weights, &x, 7);
    let at = Point { network: &network, weights: &weights, x: &x, tape: &tape };
    let mut passes = Passes::new();
    let direction: Vec<f64> = (0..network.parameters()).map(|i| (i as f64 * 0.7).cos()).collect();
    let cotangent: Vec<f64> = (0..21).map(|i| (i as f64 * 0.3).sin()).collect();
    for start in 0..3 {
        for end in start + 1..=3 {
            let out = passes.jvp(&at, &direction, start..end);
            let mut gradient = vec![0.0; network.parameters()];
            passes.output_cotangent(&network).clone_from(&cotangent);
            passes.vjp(&at, start..end, &mut gradient);
            let left: f64 = out.iter().zip(&cotangent).map(|(a, b)| a * b).sum();
            let right: f64 = gradient.iter().zip(&direction).map(|(a, b)| a * b).sum();
            assert!((left - right).abs() < 1e-12 * left.abs().max(1.0), "{start}..{end}: {left} {right}");
        }
    }
}

#[test]
fn the_factor_from_the_identity_is_the_output_jacobian() {
    let (network, weights, x) = problem();
    let tape = Tape::record(&network, &weights, &x, 7);
    let at = Point { network: &network, weights: &weights, x: &x, tape: &tape };
    let mut passes = Passes::new();
    curvature_factors(&at, Factor::Identity { scale: 1.0 }, 0, false, |l, factor| {
        let Factor::PerRow { values, rank: 3 } = factor else {
            assert_eq!(l, 2);
            return;
        };
        // Moving the bias of unit u of block l moves a_l[u] by the same amount for every datapoint.
        let block = &network.blocks()[l];
        for u in 0..block.units {
            let mut direction = vec![0.0; network.parameters()];
            direction[block.neuron(u).end - 1] = 1.0;
            let out = passes.jvp(&at, &direction, l..l + 1);
            for (ik, out) in out.iter().enumerate() {
                assert!((values[ik * block.units + u] - out).abs() < 1e-12);
            }
        }
    });
}

#[test]
fn compression_keeps_the_curvature() {
    let layers = [
        LayerSpec::dense(3),
        LayerSpec::Rectifier(Rectifier::Relu),
        LayerSpec::dense(2),
        LayerSpec::Rectifier(Rectifier::Abs),
        LayerSpec::dense(8),
    ];
    let network = Network::new(6, &layers).unwrap();
    let mut weights: Vec<f64> = he_uniform(&network, 1);
    weights[network.blocks()[2].range()].iter_mut().skip(1).step_by(3).for_each(|w| *w = 0.0);
    let x: Vec<f64> = (0..7 * 6).map(|i| (i as f64 * 1.3).sin()).collect();
    let tape = Tape::record(&network, &weights, &x, 7);
    let at = Point { network: &network, weights: &weights, x: &x, tape: &tape };
    let collect = |compress| {
        let mut all = Vec::new();
        let top = Factor::Identity { scale: 0.5 };
        curvature_factors(&at, top, 0, compress, |l, factor| {
            let mut q = Vec::new();
            factor.diagonal(7, network.blocks()[l].units, &mut q);
            all.extend(q);
        });
        all
    };
    for (a, b) in collect(true).iter().zip(collect(false)) {
        assert!((a - b).abs() < 1e-13 * b.abs().max(1e-3), "{a} {b}");
    }
}
