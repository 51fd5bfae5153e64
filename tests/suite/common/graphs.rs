//! Networks that branch and sum.

use super::{A, F, Goal, L, Problem, R, Special, conv, dense, max_pool, mean_pool, problem};
use taylorscope::network::{Graph, Image, Network, NetworkError};

/// One residual connection: `relu(x + W2 relu(W1 x))`.
pub fn residual() -> Network {
    build(Graph::new(4), |graph| {
        let branch = graph.layers(graph.data(), &[dense(5), R, dense(4)])?;
        let sum = graph.sum(&[graph.data(), branch])?;
        graph.layers(sum, &[R, dense(2)])
    })
}

/// A residual branch inside another, with rectifiers behind both sums, and a value that three layers take.
pub fn nested() -> Network {
    build(Graph::new(3), |graph| {
        let start = graph.layers(graph.data(), &[dense(4), L])?;
        let inner = graph.layers(start, &[dense(4), A, dense(4)])?;
        let sum = graph.sum(&[inner, start])?;
        let rectified = graph.layer(sum, R)?;
        let outer = graph.layer(rectified, dense(4))?;
        let sum = graph.sum(&[start, outer, rectified])?;
        graph.layers(sum, &[L, dense(3), R, dense(2)])
    })
}

/// Convolutions with a shortcut around two of them, and a rectifier and a max-pool behind the sum.
pub fn residual_images() -> Network {
    build(Graph::new(Image { channels: 2, height: 4, width: 4 }), |graph| {
        let start = graph.layers(graph.data(), &[conv(3, 3, 1, 1), R])?;
        let branch = graph.layers(start, &[conv(2, 1, 0, 1), L, conv(3, 3, 1, 1)])?;
        let sum = graph.sum(&[branch, start])?;
        graph.layers(sum, &[R, max_pool(2, 2), F, dense(3)])
    })
}

/// The data themselves go into sums: as images, and flattened; a branch has weights on the shortcut, and another a pool of its own.
pub fn data_in_sums() -> Network {
    build(Graph::new(Image { channels: 2, height: 4, width: 4 }), |graph| {
        let branch = graph.layer(graph.data(), conv(2, 3, 1, 1))?;
        let sum = graph.sum(&[branch, graph.data()])?;
        let pooled = graph.layers(sum, &[A, mean_pool(2, 2)])?;
        let short = graph.layers(graph.data(), &[max_pool(2, 2), L])?;
        let shortcut = graph.layer(short, conv(2, 1, 0, 1))?;
        let sum = graph.sum(&[pooled, shortcut])?;
        let wide = graph.layers(sum, &[F, dense(32)])?;
        let flat = graph.layer(graph.data(), F)?;
        let sum = graph.sum(&[wide, flat])?;
        graph.layers(sum, &[R, dense(2)])
    })
}

fn build(
    mut graph: Graph,
    layers: impl FnOnce(&mut Graph) -> Result<taylorscope::network::graph::Value, NetworkError>,
) -> Network {
    let output = layers(&mut graph).expect("the layers fit");
    graph.finish(output).expect("the graph is whole")
}

/// Name, network, datapoints, goal, special weights.
type OfGraph = (&'static str, fn() -> Network, usize, Goal, Special);

const GRAPHS: &[OfGraph] = &[
    ("residual", residual, 6, Goal::Values, Special::Nothing),
    ("residual classifier", residual, 5, Goal::Labels, Special::Nothing),
    ("residual with dead units", residual, 5, Goal::Values, Special::DeadUnits),
    ("nested residuals", nested, 6, Goal::Values, Special::Nothing),
    ("nested residuals at the kink", nested, 5, Goal::Labels, Special::Kinks),
    ("residual convolutions", residual_images, 4, Goal::Labels, Special::Nothing),
    ("saturated residual convolutions", residual_images, 3, Goal::Values, Special::Saturated),
    ("data in sums", data_in_sums, 3, Goal::Values, Special::Nothing),
    ("data in sums, ties", data_in_sums, 3, Goal::Labels, Special::Ties),
];

/// The table of problems whose layers form a graph.
pub fn graph_problems() -> Vec<Problem> {
    let seeded = GRAPHS.iter().zip(3000..);
    seeded
        .map(|((name, network, rows, goal, special), seed)| problem(name, seed, network(), *rows, *goal, *special))
        .collect()
}
