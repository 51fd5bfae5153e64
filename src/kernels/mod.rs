//! CPU kernels on borrowed slices: the hot loops of training and analysis.
//!
//! Each is tested against a plain loop.
//! Nothing here knows of datasets, optimizers or files. All kernels run on the calling thread unless they say
//! otherwise; callers split the work, in a way that does not depend on the number of threads.
//!
//! - [`lanes`]: vectors of either on whatever the machine has
//! - [`matrix`]: strided matrix views and their product; [`few`]: products with few rows, without the copies of a general product
//! - [`symmetric`]: symmetric matrices in half the memory
//! - [`block`]: what a block does, dense or convolution; [`crate::passes`] walks the network with it
//! - [`dense`]: dense blocks; [`factor`]: square roots of curvatures
//! - [`conv`]: convolutions as products of unfolded images; [`gate`]: the rectifiers and pools behind them; [`sparse`]: combinations of few rows,
//!   which is all that a backward pass through a max-pool needs
//! - [`columns`]: products with inputs that are mostly zero
//! - [`gram`]: many weighted Gram matrices of the same vectors at once, in `f64`
//! - [`bits`]: packed bits and the popcount of their conjunction

pub mod bits;
pub mod block;
pub mod columns;
pub mod conv;
pub mod dense;
pub mod factor;
pub mod few;
pub mod gate;
pub mod gram;
pub mod lanes;
pub mod matrix;
pub mod sparse;
pub mod symmetric;
mod winners;
mod winograd;

pub use crate::num::{
    self as real, Real,
    pieces::{CHUNK as SHARE, contiguous as in_a_row},
};
pub use lanes::Lanes;
pub use matrix::{View, matmul, matmul_shared};
pub use symmetric::Symmetric;

/// Calls `work` compiled for the best instructions of the machine.
///
/// The compiler must see all of the work in one place: write `vectorized(#[inline(always)] || ...)`, or a large closure is compiled
/// for the plainest machine and called from there.
pub fn vectorized<R>(work: impl FnMut() -> R) -> R {
    struct Work<F>(F);

    impl<R, F: FnMut() -> R> pulp::WithSimd for Work<F> {
        type Output = R;

        // Not `FnOnce`, whose calls go through another function that is not inlined.
        #[inline(always)]
        fn with_simd<S: pulp::Simd>(mut self, _: S) -> R {
            (self.0)()
        }
    }
    pulp::Arch::new().dispatch(Work(work))
}
