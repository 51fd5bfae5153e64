//! The exact linearization of a network, in `f64`, without automatic differentiation: forward, JVP, VJP and curvature.
//!
//!     cargo run --release --example linearization

use std::error::Error;
use taylorscope::{
    network::{LayerSpec, Network, Rectifier, he_uniform},
    passes::Linearization,
};

fn main() -> Result<(), Box<dyn Error>> {
    let relu = LayerSpec::Rectifier(Rectifier::Relu);
    let layers = [LayerSpec::dense(8), relu, LayerSpec::dense(6), relu, LayerSpec::dense(3)];
    let network = Network::new(4, &layers)?;
    let weights: Vec<f64> = he_uniform(&network, 1);
    let x: Vec<f64> = (0..20).map(|i| f64::from(i * i % 7) / 7.0).collect();
    let here = Linearization::new(&network, &weights, &x);

    // A direction in one layer's weights, small enough that no unit switches: the Taylor approximation is exact.
    let mut direction = vec![0.0; network.parameters()];
    for (i, d) in direction[network.blocks()[1].range()].iter_mut().enumerate() {
        *d = 1e-3 * (i as f64).sin();
    }
    let moved: Vec<f64> = weights.iter().zip(&direction).map(|(w, d)| w + d).collect();
    let there = Linearization::new(&network, &moved, &x);
    let tangent = here.jvp(&direction);
    let predicted: Vec<f64> = here.output().iter().zip(&tangent).map(|(f, d)| f + d).collect();
    println!("layer approximation: off by {:.1e}", largest_difference(&predicted, there.output()));

    // JVP and VJP are transposes of each other: <c, J d> = <J' c, d>.
    let cotangent = here.output();
    let difference = dot(cotangent, &tangent) - dot(&here.vjp(cotangent), &direction);
    println!("<c, J d> - <J' c, d> = {difference:.1e}");

    // The curvature M = J' H J in the pre-activations of a layer, and its diagonal from the output Jacobian; H = (2 / K) I.
    let (outputs, units) = (network.outputs(), network.blocks()[0].units);
    let identity = (0..outputs * outputs).map(|at| f64::from(u8::from(at / outputs == at % outputs)));
    let hessian: Vec<f64> = identity.map(|v| 2.0 / outputs as f64 * v).collect();
    let curvature = here.curvature(0, &hessian.repeat(here.rows()));
    let jacobian = here.jacobian(0);
    let (mut diagonal, mut squares) = (Vec::new(), Vec::new());
    for (m, j) in curvature.chunks(units * units).zip(jacobian.chunks(outputs * units)) {
        for u in 0..units {
            diagonal.push(m[u * units + u]);
            squares.push(2.0 / outputs as f64 * j.iter().skip(u).step_by(units).map(|v| v * v).sum::<f64>());
        }
    }
    println!("diagonal of the curvature: off by {:.1e}", largest_difference(&diagonal, &squares));
    Ok(())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |largest, (a, b)| (a - b).abs().max(largest))
}
