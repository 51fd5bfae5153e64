//! The exact linearization of a network on Burn tensors, in `f64`, without autodiff: forward, JVP, VJP and curvature.
//!
//!     cargo run --release --example linearization

use burn_tensor::{DType, Device, Tensor};
use std::error::Error;
use taylorscope::network::{
    LayerSpec, Linearization, Network, Rectifier, he_uniform,
    linearization::{blocks_from_flat, tensor},
};

fn main() -> Result<(), Box<dyn Error>> {
    let (device, dtype) = (Device::default(), DType::F64);
    let relu = LayerSpec::Rectifier(Rectifier::Relu);
    let layers = [LayerSpec::dense(8), relu, LayerSpec::dense(6), relu, LayerSpec::dense(3)];
    let network = Network::new(4, &layers)?;
    let weights: Vec<f64> = he_uniform(&network, 1);
    let x: Vec<f64> = (0..20).map(|i| f64::from(i * i % 7) / 7.0).collect();
    let input = || tensor(&x, 5, 4, &device, dtype);
    let at = |weights: &[f64]| Linearization::new(&network, weights, input());
    let here = at(&weights);

    // A direction in one layer's weights, small enough that no unit switches: the Taylor approximation is exact.
    let hidden = &network.blocks()[1];
    let mut direction = vec![0.0; network.parameters()];
    for (i, d) in direction[hidden.range()].iter_mut().enumerate() {
        *d = 1e-3 * (i as f64).sin();
    }
    let blocks = blocks_from_flat(&network, &direction, &device, dtype);
    let layer: Vec<_> = blocks.into_iter().enumerate().map(|(l, block)| (l == 1).then_some(block)).collect();
    let moved: Vec<f64> = weights.iter().zip(&direction).map(|(w, d)| w + d).collect();
    let predicted = here.output() + here.jvp(&layer);
    println!("layer approximation: off by {:.1e}", largest(predicted - at(&moved).output())?);

    // JVP and VJP are transposes of each other: <c, J d> = <J' c, d>.
    let cotangent = here.output();
    let forward: f64 = (cotangent.clone() * here.jvp(&layer)).sum().into_data().try_to_vec::<f64>()?[0];
    let pulled = &here.vjp(cotangent)[1];
    let block = blocks_from_flat(&network, &direction, &device, dtype).swap_remove(1);
    let products = (pulled.matrix.clone() * block.matrix).sum() + (pulled.bias.clone() * block.bias).sum();
    println!("<c, J d> - <J' c, d> = {:.1e}", forward - products.into_data().try_to_vec::<f64>()?[0]);

    // The curvature M = J' H J of a block, from the recursion and from the output Jacobian; H = (2 / K) I.
    let [rows, outputs] = here.output().dims();
    let hessian = Tensor::<2>::eye(outputs, &device).cast(dtype) * (2.0 / outputs as f64);
    let hessian = hessian.unsqueeze_dim::<3>(0).expand([rows, outputs, outputs]);
    let curvature = here.curvature(hessian.clone()).swap_remove(0);
    let jacobian = here.output_jacobian(0);
    let product = jacobian.clone().swap_dims(1, 2).matmul(hessian.matmul(jacobian));
    let difference = (curvature - product).reshape([rows * 8, 8]);
    println!("curvature recursion: off by {:.1e}", largest(difference)?);
    Ok(())
}

fn largest(values: Tensor<2>) -> Result<f64, Box<dyn Error>> {
    let values = values.into_data().try_to_vec::<f64>()?;
    Ok(values.iter().fold(0.0, |a, v| v.abs().max(a)))
}
