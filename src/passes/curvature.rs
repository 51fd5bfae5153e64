//! Factors of the curvature of dense chains, layer by layer.

use super::Point;
use crate::{
    kernels::{View, dense::matrix, factor::Factor, matmul},
    num::{Real, convert},
};

/// Factors of the curvature: for each block `l >= lowest`, calls `visit(l, R_l)` from the output down with
/// `R_l: [rows, rank, units of block l]` such that `R_l' R_l = J_l' H J_l`, where `J_l = d output / d a_l` and `top' top = H`.
///
/// This is the recursion of `docs/theory.md`, section 4, in square-root form, `R_{l-1} = (R_l W_l) s'`: one product per
/// block for all rows, and `q >= 0` whatever the rounding. All blocks from `lowest` up must be dense. With `compress`, a shared factor with more rows than
/// columns is replaced by a square one with the same `R' R`. Without it, `top = I` yields the output Jacobians.
///
/// # Panics
/// If the network is not a dense chain.
pub fn curvature_factors<T: Real>(
    at: &Point<T>,
    top: Factor<'_, T>,
    lowest: usize,
    compress: bool,
    mut visit: impl FnMut(usize, Factor<'_, T>),
) {
    assert!(at.network.is_dense_chain(), "the curvature has factors layer by layer in dense chains alone");
    let last = at.network.output_index();
    visit(last, top);
    if lowest < last {
        let (factor, rank) = below_output(at, top, compress);
        backpropagate_factor(at, factor, rank, lowest, |l, values| visit(l, Factor::PerRow { values, rank }));
    }
}

/// `R W` for the weights `W` of the output block, `[rows, rank, inputs of the output block]`, and its rank.
fn below_output<T: Real>(at: &Point<T>, top: Factor<'_, T>, compress: bool) -> (Vec<T>, usize) {
    let (block, rows) = (at.network.output_block(), at.tape.rows);
    let (units, inputs, w) = (block.units, block.inputs, matrix(block, at.weights));
    let product = |values: &[T], count: usize| {
        let mut product = vec![T::ZERO; count * inputs];
        matmul(&mut product, inputs, View::new(values, count, units), w, false);
        product
    };
    let (shared, rank) = match top {
        Factor::PerRow { values, rank } => return (product(values, rows * rank), rank),
        Factor::Shared { values, rank } => (product(values, rank), rank),
        Factor::Identity { scale } => {
            let rows = at.weights[block.range()].chunks_exact(block.width());
            (rows.flat_map(|row| row[..inputs].iter().map(|v| *v * scale)).collect(), units)
        }
    };
    if compress && rank > inputs {
        (semidefinite_cholesky(&shared, rank, inputs).repeat(rows), inputs)
    } else {
        (shared.repeat(rows), rank)
    }
}

/// The derivatives of the output block's inputs in the pre-activations of every hidden block `l >= lowest`: calls `visit(l, C_l)`
/// from the top down with `C_l: [rows, inputs of the output block, units of block l]`, so that the output Jacobian is `W C_l`.
///
/// # Panics
/// If the network is not a dense chain.
pub fn hidden_jacobians<T: Real>(at: &Point<T>, lowest: usize, visit: impl FnMut(usize, &[T])) {
    assert!(at.network.is_dense_chain(), "hidden Jacobians are those of dense chains");
    let inner = at.network.output_block().inputs;
    let mut identity = vec![T::ZERO; inner * inner];
    identity.iter_mut().step_by(inner + 1).for_each(|v| *v = T::ONE);
    backpropagate_factor(at, identity.repeat(at.tape.rows), inner, lowest, visit);
}

/// Takes `factor: [rows, rank, inputs of the output block]` down through the hidden blocks; `visit(l, values)` sees `[rows, rank, units]`.
fn backpropagate_factor<T: Real>(
    at: &Point<T>,
    mut factor: Vec<T>,
    rank: usize,
    lowest: usize,
    mut visit: impl FnMut(usize, &[T]),
) {
    let (blocks, rows) = (at.network.blocks(), at.tape.rows);
    let mut next: Vec<T> = Vec::new();
    for l in (lowest..at.network.output_index()).rev() {
        let units = blocks[l].units;
        for (row, derivatives) in factor.chunks_exact_mut(rank * units).zip(at.tape.derivatives[l].chunks_exact(units))
        {
            for factor in row.chunks_exact_mut(units) {
                for (value, slope) in factor.iter_mut().zip(derivatives) {
                    *value *= *slope;
                }
            }
        }
        visit(l, &factor);
        if l > lowest {
            let block = &blocks[l];
            next.resize(rows * rank * block.inputs, T::ZERO);
            let view = View::new(&factor, rows * rank, units);
            matmul(&mut next, block.inputs, view, matrix(block, at.weights), false);
            std::mem::swap(&mut factor, &mut next);
        }
    }
}

/// A square factor `C: [cols, cols]` with `C' C = R' R` for `R: [rank, cols]`: the Cholesky factor of the Gram matrix, in
/// `f64`; columns that depend on earlier ones up to rounding get a zero row.
fn semidefinite_cholesky<T: Real>(factor: &[T], rank: usize, cols: usize) -> Vec<T> {
    let wide: Vec<f64> = convert(factor);
    let mut gram = vec![0.0; cols * cols];
    matmul(&mut gram, cols, View::new(&wide, rank, cols).t(), View::new(&wide, rank, cols), false);
    let floor = 1e-14 * (0..cols).map(|j| gram[j * cols + j]).fold(0.0, f64::max);
    let mut upper = vec![0.0f64; cols * cols];
    for k in 0..cols {
        let pivot = gram[k * cols + k];
        if pivot <= floor {
            continue;
        }
        let root = pivot.sqrt();
        for j in k..cols {
            upper[k * cols + j] = gram[k * cols + j] / root;
        }
        for i in k + 1..cols {
            let scale = upper[k * cols + i];
            for j in i..cols {
                gram[i * cols + j] -= scale * upper[k * cols + j];
            }
        }
    }
    convert(&upper)
}
