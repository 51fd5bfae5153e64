//! The methods against each other.

use super::{
    plain, pooled,
    types::{Backward, Cotangents, Scratch},
};
use crate::{
    network::{Image, LayerSpec, Network, Pooling, Rectifier},
    num::simd::on_every_instruction_set,
    passes::Tape,
};

fn numbers(count: usize, speed: f64) -> Vec<f64> {
    (0..count).map(|i| (i as f64 * speed + 0.3).sin()).collect()
}

#[test]
fn going_through_the_pool_s_winners_is_the_dense_product_on_every_instruction_set() {
    let rectifiers = [None, Some(Rectifier::Relu), Some(Rectifier::LeakyRelu { slope: 0.1 }), Some(Rectifier::Abs)];
    let pools = [(2, 2), (3, 2), (2, 3), (4, 4), (3, 3)];
    on_every_instruction_set(|| {
        for (rectifier, pool) in rectifiers.into_iter().flat_map(|r| pools.map(|pool| (r, pool))) {
            pooled_and_plain_agree(rectifier, pool);
        }
    });
}

fn pooled_and_plain_agree(rectifier: Option<Rectifier>, (size, stride): (usize, usize)) {
    let (side, rows) = (size + 2 * stride, 3);
    let mut layers = vec![LayerSpec::Conv { maps: 5, kernel: 3, padding: 1, stride: 1, bias: true }];
    layers.extend(rectifier.map(LayerSpec::Rectifier));
    layers.push(LayerSpec::Pool { pooling: Pooling::Max, size, stride });
    layers.extend([LayerSpec::Flatten, LayerSpec::dense(2)]);
    let network = Network::new(Image { channels: 2, height: side, width: side }, &layers).unwrap();
    let (block, weights) = (&network.blocks()[0], numbers(network.parameters(), 1.3));
    let c = block.convolution().unwrap();
    let x = numbers(rows * c.input.len(), 0.7);
    let tape = Tape::record(&network, &weights, &x, rows);
    let (pool, argmax) = pooled::if_worthwhile(block, &tape.derivative(block)).expect("few cotangents are not 0");
    for per_datapoint in [1, 3] {
        let values = numbers(rows * per_datapoint * block.features_out(), 0.2);
        let cotangents = Cotangents { values: &values, per_datapoint, derivative: tape.derivative(block) };
        let run = |method: &dyn Fn(Backward<f64>, &mut Scratch<f64>)| {
            let mut results = [vec![0.5; block.range().len()], vec![0.0; rows * per_datapoint * block.features_in()]];
            let [own, below] = &mut results;
            // Gradients are of one cotangent per datapoint only.
            let gradient = (per_datapoint == 1).then_some((&x[..], &mut own[..]));
            let below = Some((&weights[..], &mut below[..]));
            let pass = Backward { block, c, cotangents, images: rows * per_datapoint, gradient, below };
            method(pass, &mut Scratch::default());
            results.concat()
        };
        let found = run(&|pass, scratch| pooled::backward(pass, pool, argmax, scratch));
        let expected = run(&plain::backward);
        for (a, b) in found.iter().zip(&expected) {
            assert!(
                (a - b).abs() < 1e-12,
                "{rectifier:?}, pool {size} {stride}, {per_datapoint} per datapoint: {a} {b}"
            );
        }
    }
}
