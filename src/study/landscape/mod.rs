//! Landscapes as a study: what the segment runs through, the tables, and the folder they are written to.
//!
//! - [`what`]: segments and planes by name; [`options`]: what else is asked for
//! - [`mod@along`]: the function along one segment; `line`: the line that it lies on; `direction`: gradients to go against
//! - [`mod@plane`]: the linear regions on a plane
//! - [`training`]: what the updates of a run crossed
//! - [`claims`]: what figure 1 shows
//! - [`growth`]: kinks against depth and width, and the autocorrelation of gradients, for constructed and random networks
//! - `folder`: where they are written, one process at a time
//! - [`subject`]: where data and weights come from; [`rows`]: the tables; [`results`]: read back for the report

pub mod along;
pub mod claims;
mod direction;
mod error;
mod folder;
pub mod growth;
mod line;
pub mod options;
pub mod plane;
pub mod results;
pub mod rows;
pub mod subject;
pub mod training;
pub mod what;

pub use along::along;
pub use error::LandscapeError;
pub(crate) use error::Quantity;
pub use folder::Landscape;
pub use options::{LandscapeOptions, PlaneOptions, SegmentOptions};
pub use plane::plane;
pub use results::LandscapeTables;
pub use subject::Subject;
pub use what::{Along, PlaneKind, What};

/// The file that says what a landscape folder holds.
pub const SUMMARY: &str = folder::SUMMARY;
