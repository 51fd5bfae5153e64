use super::{
    super::{plain, types::Cotangents},
    *,
};
use crate::{
    kernels::activation::ActivationDerivative,
    network::{LayerSpec, Network, Pooling, Rectifier, Shape},
    num::{convert, simd::on_every_instruction_set},
    passes::{Passes, Tape},
};

fn numbers<T: Real>(count: usize, speed: f64) -> Vec<T> {
    (0..count).map(|i| T::from_f64((i as f64 * speed + 0.3).sin())).collect()
}

/// Images `[channels, height, width]`, filters, kernel and padding: sides that tiles do not divide, none and much padding, an image smaller
/// than a window, channels that vectors do not divide.
const GEOMETRIES: [([usize; 3], usize, usize, usize); 7] = [
    ([3, 8, 8], 5, 5, 2),
    ([17, 9, 11], 16, 5, 0),
    ([1, 6, 7], 1, 5, 4),
    ([33, 5, 13], 7, 3, 1),
    ([2, 3, 3], 3, 3, 0),
    ([16, 2, 18], 18, 3, 2),
    ([4, 1, 1], 2, 5, 2),
];

fn network((sides, maps, kernel, padding): ([usize; 3], usize, usize, usize), pool: bool) -> Network {
    let mut layers = vec![
        LayerSpec::Conv { maps, kernel, padding, stride: 1, bias: true },
        LayerSpec::Rectifier(Rectifier::LeakyRelu { slope: 0.1 }),
    ];
    if pool {
        layers.push(LayerSpec::Pool { pooling: Pooling::Max, size: 2, stride: 2 });
    }
    layers.extend([LayerSpec::Flatten, LayerSpec::dense(2)]);
    Network::new(Shape::from_sizes(&sides).unwrap(), &layers).unwrap()
}

fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    let size = expected.iter().fold(1.0, |size: f64, x| size.max(x.abs()));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() < 1e-12 * size, "{what}, number {i}: {a} instead of {b}");
    }
}

#[test]
fn transforms_give_the_convolutions_of_the_definition_on_every_instruction_set() {
    on_every_instruction_set(convolutions_agree);
}

fn convolutions_agree() {
    for geometry in GEOMETRIES {
        let network = network(geometry, false);
        let (block, rows) = (&network.blocks()[0], 5);
        let c = block.convolution().unwrap();
        let tiling = Tiling::new(c).unwrap();
        let weights = [numbers::<f64>(network.parameters(), 1.3), numbers(network.parameters(), 0.9)];
        let x = [numbers(rows * c.input.len(), 0.7), numbers(rows * c.input.len(), 0.4)];
        let term = |at: usize| Term { weights: &weights[at], x: &x[at], bias: at == 0 };
        for terms in [&[term(0)][..], &[term(1)], &[term(1), term(0)]] {
            let (mut found, mut expected) = (Vec::new(), Vec::new());
            let scratch = &mut Scratch::default();
            apply(block, c, tiling, terms, rows, scratch, |_, a| found.extend_from_slice(a));
            plain::apply(block, c, terms, rows, scratch, |_, a| expected.extend_from_slice(a));
            assert_eq!(found.len(), expected.len());
            assert_close(&found, &expected, &format!("{geometry:?}"));
        }
    }
}

#[test]
fn the_backward_pass_through_transforms_is_that_of_plain_products_on_every_instruction_set() {
    on_every_instruction_set(backward_passes_agree);
}

fn backward_passes_agree() {
    let even = |([_, height, width], _, kernel, padding): ([usize; 3], usize, usize, usize)| {
        [height, width].iter().all(|side| (side + 2 * padding + 1 - kernel) % 2 == 0)
    };
    let pooled = GEOMETRIES.into_iter().filter(|geometry| even(*geometry));
    assert!(pooled.clone().count() > 1);
    for (geometry, pool) in GEOMETRIES.map(|geometry| (geometry, false)).into_iter().chain(pooled.map(|g| (g, true))) {
        let network = network(geometry, pool);
        let (block, rows) = (&network.blocks()[0], 3);
        let c = block.convolution().unwrap();
        let tiling = Tiling::new(c).unwrap();
        let weights = numbers::<f64>(network.parameters(), 1.3);
        let x = numbers::<f64>(rows * c.input.len(), 0.7);
        let tape = Tape::record(&network, &weights, &x, rows);
        for per_datapoint in [1, 4] {
            let values = numbers(rows * per_datapoint * block.features_out(), 0.2);
            let cotangents = Cotangents { values: &values, per_datapoint, derivative: tape.derivative(block) };
            let run = |transforms: bool| {
                let mut own = vec![0.5; block.range().len()];
                let mut under = vec![f64::NAN; rows * per_datapoint * block.features_in()];
                // Gradients are of one cotangent per datapoint only.
                let gradient = (per_datapoint == 1).then_some((tape.input(block, &x), &mut own[..]));
                let below = Some((&weights[..], &mut under[..]));
                let pass = Backward { block, c, cotangents, images: rows * per_datapoint, gradient, below };
                if transforms {
                    backward(pass, tiling, &mut Scratch::default());
                } else {
                    plain::backward(pass, &mut Scratch::default());
                }
                (own, under)
            };
            let (found, expected) = (run(true), run(false));
            assert_close(&found.0, &expected.0, &format!("gradient, {geometry:?}, pool: {pool}"));
            assert_close(
                &found.1,
                &expected.1,
                &format!("cotangent, {geometry:?}, pool: {pool}, {per_datapoint} per datapoint"),
            );
        }
    }
}

#[test]
fn many_images_are_more_than_one_block_of_planes() {
    let network = network(([2, 8, 8], 3, 5, 2), false);
    let block = &network.blocks()[0];
    let c = block.convolution().unwrap();
    let tiling = Tiling::new(c).unwrap();
    let rows = 2 * tiling.images(3) + 1;
    let (weights, x) = (numbers::<f64>(network.parameters(), 1.3), numbers(rows * c.input.len(), 0.7));
    let term = Term { weights: &weights, x: &x, bias: true };
    let (mut found, mut expected, mut order) = (Vec::new(), Vec::new(), Vec::new());
    let scratch = &mut Scratch::default();
    apply(block, c, tiling, &[term], rows, scratch, |row, a| {
        order.push(row);
        found.extend_from_slice(a);
    });
    plain::apply(block, c, &[term], rows, scratch, |_, a| expected.extend_from_slice(a));
    assert!(order.into_iter().eq(0..rows));
    assert_close(&found, &expected, "three blocks");
    let values = numbers(rows * block.features_out(), 0.2);
    let derivatives = vec![1.0; rows * block.activations()];
    let cotangents =
        Cotangents { values: &values, per_datapoint: 1, derivative: ActivationDerivative::Elementwise(&derivatives) };
    let mut gradients = [vec![0.0; block.range().len()], vec![0.0; block.range().len()]];
    let [through, direct] = &mut gradients;
    let pass = |gradient| Backward { block, c, cotangents, images: rows, gradient: Some((&x, gradient)), below: None };
    backward(pass(through), tiling, scratch);
    plain::backward(pass(direct), scratch);
    assert_close(&gradients[0], &gradients[1], "gradient of three blocks");
}

/// The network of the paper's second experiment goes through transforms in single precision, but for its first block of three channels, and
/// rounding stays where the documentation says.
#[test]
fn single_precision_goes_through_transforms_and_rounds_as_documented() {
    let block = [
        LayerSpec::Conv { maps: 64, kernel: 5, padding: 2, stride: 1, bias: true },
        LayerSpec::Rectifier(Rectifier::Relu),
        LayerSpec::Pool { pooling: Pooling::Max, size: 2, stride: 2 },
    ];
    let dense = [LayerSpec::Flatten, LayerSpec::dense(10)];
    let layers: Vec<LayerSpec> = std::iter::repeat_n(block, 3).flatten().chain(dense).collect();
    let network = Network::new(Shape::from_sizes(&[3, 32, 32]).unwrap(), &layers).unwrap();
    let rows = 8;
    let weights = crate::network::he_uniform::<f64>(&network, 0);
    let x = numbers::<f64>(rows * network.inputs(), 1.7);
    let (narrow, narrow_x): (Vec<f32>, Vec<f32>) = (convert(&weights), convert(&x));
    let (weights, x): (Vec<f64>, Vec<f64>) = (convert(&narrow), convert(&narrow_x));
    for (block, transforms) in network.blocks().iter().zip([false, true, true]) {
        let c = block.convolution().unwrap();
        assert_eq!(Tiling::if_worthwhile::<f32>(block, c, rows).is_some(), transforms);
        assert!(Tiling::if_worthwhile::<f64>(block, c, rows).is_none());
    }
    let (mut single, mut double) = (Vec::new(), Vec::new());
    Passes::new().forward(&network, &narrow, &narrow_x, rows, &mut Tape::default(), |_, _, a| {
        single.push(a.to_vec());
    });
    Passes::new().forward(&network, &weights, &x, rows, &mut Tape::default(), |_, _, a| {
        double.push(a.to_vec());
    });
    let (mut error, mut size) = (0.0, 0.0);
    for (single, double) in single.iter().zip(&double).filter(|(_, double)| double.len() < 64 * 32 * 32) {
        for (s, d) in single.iter().zip(double) {
            error += (s.to_f64() - d).powi(2);
            size += d.powi(2);
        }
    }
    let relative = (error / size).sqrt();
    assert!((1e-8..5e-6).contains(&relative), "{relative}");
}
