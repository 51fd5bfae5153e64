//! Preconditioners of the large problems (`docs/theory.md`, section 4).
//!
//! Here is the algebra. What is summed over the rounds of a dense chain, and for which prefixes, is in [`super::chain::preconditioners`]; what other
//! networks estimate from samples is in [`super::graph`].
//!
//! - [`moments`]: the sums that a block's preconditioner is made of
//! - `kronecker`: the Kronecker factors `mean M (x) mean x x'` of a block, and systems with their product
//! - `schur`: systems with what is left of a hidden block's curvature when the output block follows; `cache`: its decompositions for some shifts

mod cache;
mod kronecker;
pub mod moments;
mod schur;

pub use kronecker::KroneckerFactors;

use moments::Moments;
use schur::SchurComplement;

/// Systems with the curvature of one block.
pub(crate) struct BlockPreconditioner {
    factors: KroneckerFactors,
    schur: Option<SchurComplement>,
}

impl BlockPreconditioner {
    /// From the moments of a block; `exact` if the curvature is the product of its Kronecker factors.
    pub(in crate::taylor) fn new(moments: &Moments, exact: bool) -> Self {
        Self { factors: moments.factors(exact), schur: None }
    }

    /// The same of a hidden block, with the Schur complement of the output block, where moments with that were summed; `scale` is 1 by the number of
    /// datapoints.
    pub(in crate::taylor) fn beneath(moments: &Moments, output: Option<&Self>, scale: f64) -> Self {
        let factors = moments.factors(false);
        let shared = moments.shared.as_ref().zip(output.map(|output| &output.factors));
        let schur = shared.and_then(|(sum, output)| SchurComplement::new(sum, &factors, output, scale));
        Self { factors, schur }
    }

    /// Weights of the block.
    pub(crate) fn len(&self) -> usize {
        self.factors.len()
    }

    /// [`KroneckerFactors::solve`].
    pub(crate) fn solve(&self, shift: f64, residual: &[f64]) -> Vec<f64> {
        self.factors.solve(shift, residual)
    }

    /// The same with the Schur complement of the output block, if it is known: the curvature that is left when the output block follows.
    pub(crate) fn solve_schur(&self, shift: f64, residual: &[f64]) -> Vec<f64> {
        let schur = self.schur.as_ref().and_then(|schur| schur.solve(&self.factors, shift, residual));
        schur.unwrap_or_else(|| self.solve(shift, residual))
    }
}

/// Applies `solve` to the parts of a residual one after the other, with blocks of these lengths.
pub(crate) fn solve_blocks<B>(
    blocks: impl Iterator<Item = (usize, B)>,
    residual: &[f64],
    solve: impl Fn(B, &[f64]) -> Vec<f64>,
) -> Vec<f64> {
    let mut out = Vec::with_capacity(residual.len());
    let mut rest = residual;
    for (length, block) in blocks {
        let (own, tail) = rest.split_at(length);
        out.extend(solve(block, own));
        rest = tail;
    }
    out
}
