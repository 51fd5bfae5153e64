//! The solvers (`docs/theory.md`, section 4), each with a certificate for what it finds.
//!
//! - [`quadratic`]: dense problems, over all of space and over a ball. A [`hessian`] gives points of the `path` of minimizers
//!   `u(lambda) = -(H + lambda I)^-1 c`; where the path meets the sphere is a root of the [`secular`] equation.
//! - [`newton`]: large problems, by models around base points. Each model is minimized in a growing [`subspace`] with a [`basis`], its lower
//!   bound maximized by a [`dual`] point. Steps are as long as the [`line_search`] allows.
//! - [`expanding`]: large problems of a loss that is not quadratic, in a growing [`span`] with the tangents of the outputs.

pub mod basis;
mod cholesky;
pub mod dual;
pub mod expanding;
mod gram_schmidt;
pub mod hessian;
pub mod line_search;
mod long_vectors;
pub mod newton;
mod path;
pub mod quadratic;
pub mod search;
pub mod secular;
pub mod span;
pub mod subspace;

pub(crate) use gram_schmidt::orthogonalize;
pub use hessian::Hessian;
pub use quadratic::Quadratic;
pub use search::Search;
