//! Taylor losses and their optima at the three scales, regret, bounds and certificates (`docs/theory.md`, sections 2 to 4).
//!
//! - [`neuron`], [`layer`], [`network`]: the Taylor optima at each scale, the same names in each file
//! - [`window`]: the linearized rounds that layer and network scale work on; [`product`]: products with their curvature, `frame`: output
//!   weights in few numbers
//! - [`solve`]: dense problems in closed form, and large problems by a certified subspace iteration, with a [`precondition`]er; [`objective`]: what
//!   they minimize
//! - [`matrix_free`]: networks with convolutions at all scales, over [`sample`]s of rounds, with neurons' [`gradients`]; [`prefixes`] drives
//!   a search through the prefixes of a run
//! - [`certificate`]: what a solver returns; [`free_bounds`]: what the optima of a unit prove about each other
//! - [`room`]: how much memory searches take
//! - [`unit`]: scales, comparators, the identity of a unit, and the rows of tables
//! - [`regret`]: prefixes, bounds and decay exponents; [`units`]: displacement and gradient norms per unit; [`work`]: long searches,
//!   kept piece by piece

pub mod certificate;
pub mod chain;
pub mod free_bounds;
pub mod graph;
pub mod layer;
pub mod network;
pub mod neuron;
pub mod objective;
pub mod precondition;
pub mod prefixes;
pub mod recorder;
pub mod regret;
pub mod room;
pub mod solve;
pub mod unit;
pub mod units;
pub mod work;

// The paths of before, until all of their users have moved.
pub(crate) use chain::low_rank as frame;
pub use chain::{product, window};
pub use graph::{gradients, matrix_free, sample};
pub use precondition as preconditioner;
/// The path of before, until all of its users have moved.
pub mod quadratic {
    pub use super::solve::{Hessian, Quadratic};
}
/// The path of before, until all of its users have moved.
pub mod subspace {
    pub use super::objective::{Direction, Objective};
}

pub use certificate::{Comparison, Optimum, StopReason};
pub use regret::{BoundRates, ClosedForm, Comparators, RegretSettings, UnitResult};
pub use work::{Found, Halted, Work};
