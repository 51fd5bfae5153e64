//! CPU kernels on borrowed slices: the hot loops of training and analysis.
//!
//! Each is tested against a plain loop.
//! Nothing here knows of datasets, optimizers or files. All kernels run on the calling thread unless they say
//! otherwise; callers split the work, in a way that does not depend on the number of threads.
//!
//! - [`view`]: strided views of matrices; [`matrix`]: their product; [`skinny`]: products with few rows, without the copies of a general product
//! - [`symmetric`]: symmetric matrices in half the memory
//! - [`block`]: what a block does, dense or convolution; [`crate::passes`] walks the network with it
//! - [`dense`]: dense blocks; [`factor`]: square roots of curvatures
//! - [`conv`]: convolutions, by the fastest of three methods; [`activation`]: the rectifiers and pools behind them; [`sparse`]: combinations of few rows,
//!   which is all that a backward pass through a max-pool needs
//! - [`csc`]: products with inputs that are mostly zero
//! - [`gram`]: many weighted Gram matrices of the same vectors at once, in `f64`
//! - [`bits`]: packed bits and the popcount of their conjunction

pub mod activation;
pub mod bits;
pub mod block;
pub mod conv;
pub mod csc;
pub mod dense;
pub mod factor;
pub mod gram;
pub mod matrix;
pub mod skinny;
pub mod sparse;
pub mod symmetric;
pub mod view;

pub use matrix::{matmul, matmul_shared};
pub use symmetric::Symmetric;
pub use view::View;
