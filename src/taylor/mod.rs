//! Taylor losses and their optima at the three scales, regret, bounds and certificates (`docs/theory.md`, sections 2 to 4).
//!
//! - [`mod@unit`]: scales, comparators, the identity of a unit, and the rows of tables; [`settings`]: what is asked for
//! - [`tracker`]: displacement and gradient norms per unit; [`recorder`]: the rounds that searches work on
//! - [`objective`]: what is minimized; [`solve`]: the solvers; [`precondition`]: their preconditioners; [`certificate`]: what they return
//! - [`chain`]: dense chains, by fast paths; [`graph`]: any network; [`strategy`]: how a layer is solved; [`prefixes`]: a search through the
//!   prefixes of a run
//! - [`result`]: an optimum with the bounds on its regret; [`free_bounds`]: what the optima of a unit prove about each other; [`regret`]: prefixes,
//!   decay exponents, tables
//! - [`work`]: long searches, kept piece by piece; [`room`]: how much memory searches take

pub mod certificate;
pub mod chain;
pub mod free_bounds;
pub mod graph;
pub mod objective;
pub mod precondition;
pub mod prefixes;
pub mod recorder;
pub mod regret;
pub mod result;
pub mod room;
pub mod settings;
pub mod solve;
pub mod strategy;
pub mod tracker;
pub mod unit;
pub mod work;

// The paths of before, until all of their users have moved.
pub use chain::{network, product, window};
pub use graph::{gradients, matrix_free, sample};
pub use precondition as preconditioner;
pub use tracker as units;
/// The path of before, until all of its users have moved.
pub mod layer {
    pub use super::chain::{
        layer::*,
        objective::{Windows, iterative_optima},
    };
}
/// The path of before, until all of its users have moved.
pub mod neuron {
    pub use super::chain::{neuron::*, stream::NeuronStream};
}
/// The path of before, until all of its users have moved.
pub mod quadratic {
    pub use super::solve::{Hessian, Quadratic};
}
/// The path of before, until all of its users have moved.
pub mod subspace {
    pub use super::objective::{Direction, Objective};
}

pub use certificate::{Comparison, Optimum, StopReason};
pub use regret::BoundRates;
pub use result::UnitResult;
pub use settings::{ClosedForm, Comparators, RegretSettings};
pub use work::{Found, Halted, Work};
