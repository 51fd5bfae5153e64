//! How much memory searches take besides what they search in, and how they make do with less.

use super::{settings::RegretSettings, unit::Scale};
use crate::{
    loss::Loss,
    network::{Block, Network},
    num::Real,
    passes::Tape,
};

/// Shards that the minibatch of a round is cut into where a network goes by passes.
pub(crate) const SHARDS: usize = 8;
/// A basis with fewer vectors finds too little.
pub const LEAST_BASIS: usize = 36;
/// Vectors in `f64` that a search has besides its basis: points, gradients, residuals, and the sums of pieces of a product.
const VECTORS: usize = 28;
/// A small problem has a basis of as many vectors as it has weights, up to this many, whatever the memory.
pub const SMALL_SPAN: usize = 96;
/// Vectors at most of a basis with tangents.
const MOST_TANGENTS: usize = 160;
/// Copies of a block's squares: the sums of a few parts, the mean, its eigenvectors, and the decomposition at work.
const SQUARES: usize = 8;
/// Shards of a minibatch that each thread has at a time, linearized, with the cotangents of its layers.
const SHARDS_HELD: usize = 3;
/// Rows that the closed form at neuron scale gathers at least.
const LEAST_ROWS: usize = 256;

/// Weights of the largest unit that is searched by products with its curvature.
fn largest_unit(network: &Network, settings: &RegretSettings) -> usize {
    let largest = |size: &dyn Fn(&Block) -> usize| network.blocks().iter().map(size).max().unwrap_or(0);
    match () {
        () if settings.has(Scale::Network) => network.parameters(),
        () if settings.has(Scale::Layer) => largest(&|block| block.range().len()),
        () if settings.has(Scale::Neuron) => largest(&Block::width),
        () => 0,
    }
}

/// Numbers in the outputs of `rows` datapoints, if searches keep the tangents of these along each vector of a basis; else none.
pub fn tangents(network: &Network, loss: Loss, rows: usize) -> usize {
    if loss.is_quadratic() { 0 } else { rows.saturating_mul(network.outputs()) }
}

/// Bytes of a vector of a basis, with its image or the tangents along it.
fn basis_vector(network: &Network, settings: &RegretSettings, tangents: usize) -> usize {
    let largest = largest_unit(network, settings);
    largest.saturating_add(largest.max(tangents)).saturating_mul(size_of::<f32>())
}

/// Bytes of the preconditioners of all blocks, as they are made.
pub fn preconditioner_bytes(network: &Network) -> usize {
    let squares = network.blocks().iter().map(|block| block.units * block.units + block.width() * block.width());
    SQUARES * squares.sum::<usize>() * size_of::<f64>()
}

/// Bytes that searches over rounds of `batch` rows take with the smallest basis, where the rounds are linearized as they are needed.
pub fn least_search_bytes(network: &Network, settings: &RegretSettings, batch: usize, tangents: usize) -> usize {
    let largest = largest_unit(network, settings);
    if largest == 0 {
        return 0;
    }
    let small = (SMALL_SPAN - LEAST_BASIS).saturating_mul(tangents.saturating_mul(size_of::<f32>()));
    let vectors = (LEAST_BASIS * basis_vector(network, settings, tangents)).saturating_add(small)
        + VECTORS * largest * size_of::<f64>();
    let threads = rayon::current_num_threads();
    let rows = batch.div_ceil(SHARDS);
    let linearized =
        threads * (SHARDS_HELD * rows * Tape::<f64>::bytes_per_row(network) + 3 * network.parameters() * 8);
    vectors.saturating_add(linearized + preconditioner_bytes(network))
}

/// Vectors of a basis that fit in half of `left` bytes, besides the least that a search takes.
pub fn basis_within(network: &Network, settings: &RegretSettings, tangents: usize, left: usize) -> usize {
    LEAST_BASIS + left / 2 / basis_vector(network, settings, tangents).max(1)
}

/// Bytes that a basis of `basis` vectors takes more than the smallest.
pub fn basis_bytes(network: &Network, settings: &RegretSettings, tangents: usize, basis: usize) -> usize {
    basis.saturating_sub(LEAST_BASIS) * basis_vector(network, settings, tangents)
}

/// Vectors of a basis where memory is ample: as many as `max_products`, within limits.
pub fn whole_basis(max_products: usize) -> usize {
    max_products.clamp(48, 320)
}

/// Vectors of a basis with the tangents of the outputs, where memory is ample. A small problem with as many variables is solved whenever the basis
/// grows, so there is a limit to what more vectors are worth.
pub fn whole_span(max_products: usize) -> usize {
    whole_basis(max_products).min(MOST_TANGENTS)
}

/// Bytes of a row that the closed form at neuron scale gathers, for all layers.
fn gathered_row<T: Real>(network: &Network, settings: &RegretSettings) -> usize {
    let numbers = |block: &Block| block.width() + 2 * settings.selected(block.units).len();
    let all: usize = network.blocks().iter().map(numbers).sum();
    let widest = network.blocks().iter().map(numbers).max().unwrap_or(0);
    all * size_of::<T>() + widest * size_of::<f64>()
}

/// Rows are gathered as if there were this much memory at least, so that small networks have the same sums in little memory.
const PLENTY: usize = 16 << 20;

/// Rows that the closed form may gather in a quarter of `memory` bytes, `most` at most.
pub fn gathered_rows<T: Real>(network: &Network, settings: &RegretSettings, memory: usize, most: usize) -> usize {
    (memory.max(PLENTY) / 4 / gathered_row::<T>(network, settings).max(1)).clamp(LEAST_ROWS, most)
}

/// Bytes that the closed form at neuron scale takes at least besides its sums: the rows that it gathers, and what is solved at a time.
pub fn least_stream_bytes<T: Real>(network: &Network, loss: Loss, settings: &RegretSettings) -> usize {
    if !settings.streams(network, loss) {
        return 0;
    }
    let widest = network.blocks().iter().map(Block::width).max().unwrap_or(0);
    let solved = 3 * rayon::current_num_threads() * widest * widest * size_of::<f64>();
    LEAST_ROWS * gathered_row::<T>(network, settings) + solved
}
