//! Numbers: element types, conversions, and sums over vectors.
//!
//! - [`Real`]: `f32` or `f64`, the element types of all computation; [`ByType`]: what differs between them; [`Scalar`]: numbers as files hold them
//! - [`convert`](mod@convert): conversions of slices
//! - [`vector`]: inner products, norms and sums of squares
//! - [`pieces`]: parallel sums in fixed pieces, the one way to reduce in parallel
//! - [`paths`]: a switch for tests that turns fast paths off
//! - [`simd`]: the one way to vector instructions; [`Lanes`]: vectors of either type

pub mod convert;
pub mod lanes;
pub mod paths;
pub mod pieces;
pub mod real;
pub mod scalar;
pub mod simd;
pub mod vector;

pub use convert::{convert, convert_into, converted};
pub use lanes::Lanes;
pub use paths::fast_paths;
pub use real::{ByType, Real};
pub use scalar::Scalar;
pub use simd::vectorized;
pub use vector::{axpy, dot, norm, sum_of_squared_differences, sum_of_squares};
