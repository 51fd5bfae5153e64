//! Studies: an experiment, its runs, their tables, and what they say about the paper's claims.
//!
//! - [`experiment`]: the experiment file
//! - [`run`]: trains and analyses, optimizer by optimizer (`course`), with checkpoints ([`keeper`]) in a folder that is
//!   one process's at a time ([`lock`]); [`analyze`]: the same for traces
//! - [`differences`]: how an experiment differs from that of a folder, and `continued`: a run that is asked for more; `further`: what
//!   its training goes on from; `inputs`: checksums of what it reads; `paths`: where that lies; `state`: what
//!   checkpoints have; [`labels`]: what its optimizers are called
//! - [`builder`]: optimizers of your own, trained and measured in memory
//! - [`analysis`]: what is measured of one run; `relay`: what it tells on the way
//! - [`tables`] and [`results`]: the result files, written and read; [`enclosure`]: what their certificates leave open;
//!   [`claims`]: what they say about the paper
//! - [`landscape`]: the landscape along a segment, and figure 1
//! - [`trial`]: many short runs side by side; [`mod@tune`]: learning-rate search; [`mod@explore`]: the exploration
//!   study
//! - [`environment`]: the machine; [`allowance`]: memory that it lets us take; [`budget`]: memory and disk that a run needs; [`statistics`]: intervals and rank
//!   correlation; [`numbers`]: how numbers are printed

#[doc(hidden)]
pub mod allowance;
pub mod analysis;
pub mod analyze;
#[doc(hidden)]
pub mod budget;
pub mod builder;
mod campaign;
pub mod claims;
mod context;
mod continued;
mod course;
#[doc(hidden)]
pub mod differences;
pub mod enclosure;
#[doc(hidden)]
pub mod environment;
pub mod error;
pub mod event;
pub mod experiment;
pub mod explore;
pub mod folder;
mod further;
mod inputs;
pub mod keeper;
#[doc(hidden)]
pub mod labels;
pub mod landscape;
#[doc(hidden)]
pub mod lock;
#[doc(hidden)]
pub mod numbers;
pub mod options;
mod outcome;
mod paths;
mod record;
mod relay;
pub mod results;
pub mod run;
mod state;
#[doc(hidden)]
pub mod statistics;
pub mod tables;
pub mod task;
pub mod train_only;
#[doc(hidden)]
pub mod trial;
pub mod tune;
mod write;

pub use error::StudyError;
pub use event::Event;
pub use experiment::{Experiment, ExperimentError};
pub use options::RunOptions;
