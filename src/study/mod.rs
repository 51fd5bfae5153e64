//! Studies: an experiment, its runs, their tables, and what they say about the paper's claims.
//!
//! - [`experiment`]: the experiment file; [`task`]: an experiment made ready to train, and one optimizer before its first round
//! - [`mod@run`]: every optimizer of an experiment, each in its `course`, by what they share (`context`, [`options`]);
//!   [`analyze`]: the same for traces; [`external`]: the same for models that the engine does not know; `record`: the summary as it grows; [`train_only`]: training alone; [`builder`]: optimizers of
//!   your own, trained and measured in memory
//! - [`plan`]: how optima are found and what that takes; [`budget`]: whether it fits; [`analysis`]: what is measured of one run; [`event`]
//!   and `relay`: what is told on the way
//! - [`folder`]: where results go, for one process at a time ([`lock`]); `write`: files that are complete or absent; [`keeper`]:
//!   checkpoints, and `state`: what they have; `inputs`: checksums of what is read, and `paths`: where that lies
//! - [`differences`]: how an experiment differs from that of a folder; `continued`: a run that is asked for more; `further`: what its
//!   training goes on from; [`labels`]: what its optimizers are called
//! - [`tables`] and [`results`]: the result files, written and read; [`enclosure`]: what their certificates leave open; [`claims`]: what
//!   they say about the paper
//! - [`trial`]: one short run; `campaign`: many side by side; [`mod@tune`]: learning-rate search; [`mod@explore`]: the exploration study
//! - [`landscape`]: the landscape along a segment, and figure 1
//! - [`mod@error`]: why a study could not be run; [`environment`]: the machine; [`allowance`]: memory that it lets us take;
//!   [`statistics`]: means, intervals and rank correlation; [`numbers`]: how numbers are printed

#[doc(hidden)]
pub mod allowance;
pub mod analysis;
pub mod analyze;
#[doc(hidden)]
pub mod budget;
pub mod builder;
pub mod campaign;
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
pub mod external;
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
pub mod plan;
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
