//! Taylor losses and their optima at the three scales, regret, bounds and certificates (`docs/theory.md`, sections 2 to 4).
//!
//! - [`mod@unit`]: scales, comparators, the identity of a unit, and the rows of tables; [`settings`]: what is asked for
//! - [`tracker`]: displacement and gradient norms per unit; [`recorder`]: the rounds that searches work on
//! - [`objective`]: what is minimized; [`solve`]: the solvers; [`precondition`]: their preconditioners; [`certificate`]: what they return
//! - [`chain`]: dense chains, by fast paths; [`graph`]: any network; [`external`]: any model, by products from elsewhere; [`strategy`]: how a layer is solved; [`prefixes`]: a search through the
//!   prefixes of a run
//! - [`result`]: an optimum with the bounds on its regret; [`free_bounds`]: what the optima of a unit prove about each other; [`regret`]: prefixes,
//!   decay exponents, tables
//! - [`work`]: long searches, kept piece by piece; [`room`]: how much memory searches take

pub mod certificate;
pub mod chain;
pub mod expansion;
pub mod external;
pub mod free_bounds;
pub mod graph;
pub mod objective;
pub mod output_loss;
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

pub use certificate::{Comparison, Optimum, StopReason};
pub use expansion::Expansion;
pub use regret::BoundRates;
pub use result::UnitResult;
pub use settings::{ClosedForm, Comparators, RegretSettings};
pub use work::{Found, Halted, Work};
