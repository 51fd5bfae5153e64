//! Activation configurations of a network on a fixed probe set, and how widely training explores them
//! (`docs/theory.md`, section 5).
//!
//! - [`recorder`]: packed configurations, recorded during training
//! - [`exploration`]: novelty, switches and volumes from the co-activation Gram matrices

pub mod exploration;
pub mod recorder;

pub use exploration::explore;
pub use recorder::{ActivationRecorder, Configurations, Neuron, probe_rows};
