//! Micro-benchmarks of the kernels: `cargo bench --bench kernels [FILTER]`.
//!
//! Rates are in floating-point operations (two per multiplication and addition) or in bytes, so that they can be compared with the limits
//! in `BENCHMARKS.md`. Kernels run on one thread, [`WeightedGram`] on all.

use divan::{
    Bencher, black_box,
    counter::{BytesCount, ItemsCount},
};
use taylorscope::{
    kernels::{
        View,
        activation::{self, ActivationDerivative},
        bits::{gram, words},
        conv::{self, Scratch, Term},
        dense,
        factor::Factor,
        gram::{GramScratch, WeightedGram},
        matmul,
    },
    loss::Loss,
    network::{Block, LayerSpec, Network, Pooling, Rectifier, Shape, he_uniform},
    passes::{Passes, Point, Tape, curvature_factors},
};

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: taylorscope::allocator::MiMalloc = taylorscope::allocator::MiMalloc;

fn main() {
    divan::main();
}

/// Datapoints in half a minibatch of the autoencoder, which is what a thread works on.
const ROWS: usize = 32;

fn autoencoder() -> Network {
    let mut layers = Vec::new();
    for units in [50, 30, 20, 30, 50] {
        layers.extend([LayerSpec::dense(units), LayerSpec::Rectifier(Rectifier::Relu)]);
    }
    layers.push(LayerSpec::dense(784));
    Network::new(784, &layers).expect("the shapes fit")
}

/// One convolution with rectifier and pool, 64 maps from as many channels of 16 x 16, and a small output.
fn convolutional() -> Network {
    let layers = [
        LayerSpec::Conv { maps: 64, kernel: 5, padding: 2, stride: 1, bias: true },
        LayerSpec::Rectifier(Rectifier::Relu),
        LayerSpec::Pool { pooling: Pooling::Max, size: 2, stride: 2 },
        LayerSpec::Flatten,
        LayerSpec::dense(10),
    ];
    let shape = Shape::from_sizes(&[64, 16, 16]).expect("an image");
    Network::new(shape, &layers).expect("the shapes fit")
}

/// Numbers between -1 and 1, a third of them zero.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| if i % 3 == 0 { 0.0 } else { (i as f32 * 0.37).sin() }).collect()
}

fn flops(count: usize) -> ItemsCount {
    ItemsCount::new(count)
}

#[divan::bench(args = [(32, 784, 50), (32, 50, 784), (2048, 1600, 64)])]
fn product(bencher: Bencher, (m, k, n): (usize, usize, usize)) {
    let (a, b, mut out) = (numbers(m * k), numbers(k * n), vec![0.0; m * n]);
    bencher.counter(flops(2 * m * k * n)).bench_local(|| {
        matmul(black_box(&mut out), n, View::new(&a, m, k), View::new(&b, k, n), false);
    });
}

#[divan::bench]
fn forward_pass(bencher: Bencher) {
    let network = autoencoder();
    let (weights, x, mut tape) = (he_uniform::<f32>(&network, 0), numbers(ROWS * 784), Tape::default());
    let work = 2 * ROWS * network.parameters();
    let mut passes = Passes::new();
    bencher.counter(flops(work)).bench_local(|| {
        passes.forward(&network, &weights, black_box(&x), ROWS, &mut tape, |_, _, _| ());
    });
}

#[divan::bench]
fn backward_pass(bencher: Bencher) {
    let network = autoencoder();
    let (weights, x) = (he_uniform::<f32>(&network, 0), numbers(ROWS * 784));
    let tape = Tape::record(&network, &weights, &x, ROWS);
    let (blocks, mut passes) = (network.blocks().len(), Passes::new());
    *passes.output_cotangent(&network) = numbers(ROWS * 784);
    let mut gradient = vec![0.0; network.parameters()];
    let work = 2 * ROWS * (2 * network.parameters() - network.blocks()[0].range().len());
    bencher.counter(flops(work)).bench_local(|| {
        let at = Point { network: &network, weights: &weights, x: black_box(&x), tape: &tape };
        passes.vjp(&at, 0..blocks, &mut gradient);
    });
}

#[divan::bench]
fn curvature(bencher: Bencher) {
    let network = autoencoder();
    let (weights, x) = (he_uniform::<f32>(&network, 0), numbers(ROWS * 784));
    let tape = Tape::record(&network, &weights, &x, ROWS);
    let mut storage = Vec::new();
    let top: Factor<f32> = Loss::Mse.hessian_factor(&tape.output, network.outputs(), &mut storage);
    let mut q = Vec::new();
    bencher.bench_local(|| {
        let at = Point { network: &network, weights: &weights, x: &x, tape: black_box(&tape) };
        curvature_factors(&at, top, 0, true, |l, factor| {
            factor.diagonal(ROWS, network.blocks()[l].units, &mut q);
        });
    });
}

#[divan::bench]
fn outer_product(bencher: Bencher) {
    let network = autoencoder();
    let block = &network.blocks()[0];
    let (delta, x) = (numbers(ROWS * block.units), numbers(ROWS * block.inputs));
    let mut gradient = vec![0.0; block.range().len()];
    bencher.counter(flops(2 * ROWS * gradient.len())).bench_local(|| {
        dense::accumulate_outer(block, black_box(&delta), &x, ROWS, &mut gradient);
    });
}

/// 50 neurons with 785 inputs, as the first layer of the autoencoder.
#[divan::bench(sample_count = 10)]
fn weighted_gram(bencher: Bencher) {
    let (rows, width, planes) = (2048, 785, 50);
    let (x, q) = (numbers(rows * width), numbers(rows * planes));
    let (mut gram, mut scratch) = (WeightedGram::new(width, planes), GramScratch::default());
    bencher.counter(ItemsCount::new(rows)).bench_local(|| gram.accumulate(black_box(&x), &q, rows, &mut scratch));
}

/// 100 rounds: the bytes are those of the conjunctions, one for each pair of rounds.
#[divan::bench(args = [4_096, 60_000])]
fn popcount_gram(bencher: Bencher, datapoints: usize) {
    let (rounds, words) = (100, words(datapoints));
    let packed: Vec<u64> = (0..(rounds * words) as u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let bytes = rounds * (rounds + 1) / 2 * words * 8;
    bencher.counter(BytesCount::new(bytes)).bench_local(|| gram(black_box(&packed), rounds, words));
}

/// Images of a thread's share of a minibatch.
const IMAGES: usize = 16;

fn convolution_flops(block: &Block) -> usize {
    2 * IMAGES * block.activations() * block.inputs
}

#[divan::bench]
fn convolution(bencher: Bencher) {
    let network = convolutional();
    let block = &network.blocks()[0];
    let convolution = block.convolution().expect("the first block is one");
    let (weights, x) = (he_uniform::<f32>(&network, 0), numbers(IMAGES * block.features_in()));
    let mut scratch = Scratch::default();
    bencher.counter(flops(convolution_flops(block))).bench_local(|| {
        let terms = [Term { weights: &weights, x: black_box(&x), bias: true }];
        conv::apply(block, convolution, &terms, IMAGES, &mut scratch, |_, a| {
            black_box(a);
        });
    });
}

#[divan::bench]
fn rectifier_and_pool(bencher: Bencher) {
    let network = convolutional();
    let block = &network.blocks()[0];
    let pool = block.pool.as_ref().expect("the block ends in one");
    let a = numbers(block.activations());
    let (mut out, mut winners) = (vec![0.0; block.features_out()], vec![0u8; block.features_out()]);
    bencher.counter(BytesCount::of_slice(&a)).bench_local(|| {
        activation::max_pool(block.rectifier, pool, black_box(&a), &mut out, &mut winners);
    });
}

#[divan::bench]
fn cotangent_through_the_pool(bencher: Bencher) {
    let network = convolutional();
    let block = &network.blocks()[0];
    let pool = block.pool.as_ref().expect("the block ends in one");
    let a = numbers(block.activations());
    let (mut out, mut winners) = (vec![0.0; block.features_out()], vec![0u8; block.features_out()]);
    activation::max_pool(block.rectifier, pool, &a, &mut out, &mut winners);
    let mut delta = vec![0.0; block.activations()];
    bencher.counter(BytesCount::of_slice(&delta)).bench_local(|| {
        activation::vjp(&block.activation(), ActivationDerivative::Argmax(&winners), black_box(&out), &mut delta);
    });
}
