//! Landscapes as a study: what the segment runs through, the tables, and the folder they are written to.
//!
//! - [`mod@along`]: the function along one segment through a run, an experiment, a trace or a weights file
//! - [`mod@plane`]: the linear regions on a plane
//! - [`training`]: what the updates of a run crossed
//! - [`claims`]: what figure 1 shows
//! - [`growth`]: kinks against depth and width, and the autocorrelation of gradients, for constructed and random networks
//! - `folder`: where they are written, one process at a time
//! - [`subject`]: where data and weights come from; [`rows`]: the tables; [`results`]: read back for the report

pub mod along;
pub mod claims;
mod error;
mod folder;
pub mod growth;
pub mod plane;
pub mod results;
pub mod rows;
pub mod subject;
pub mod training;

pub use along::{Along, LandscapeOptions, along};
pub use error::LandscapeError;
pub(crate) use error::Quantity;
pub use folder::Landscape;
pub use plane::{PlaneKind, plane};
pub use results::LandscapeTables;
pub use subject::Subject;

/// The file that says what a landscape folder holds.
pub const SUMMARY: &str = folder::SUMMARY;
