//! An instrument for the training dynamics of rectifier networks.
//!
//! For a run of any optimizer it answers: how much of the loss is *regret* (the convex part: optimizing inside smooth
//! regions), how much is the *Taylor optimum* (the hard part: which regions training finds), and how widely the optimizer
//! *explores* the space of activation configurations. The mathematics is that of D. Balduzzi, B. McWilliams and
//! T. Butler-Yeoman, "Neural Taylor Approximations: Convergence and Exploration in Rectifier Networks" (ICML 2017), restated in
//! `docs/theory.md`.
//!
//! The way of the data, one direction and no cycles:
//!
//! ```text
//! data ─► train ──rounds──► observers: taylor (stream, window), activation, trace ─► study (tables) ─► report
//!          ▲                                                                 trace ─► replay ─► the same observers
//! network, loss, optim                                                       cli parses and prints
//! ```
//!
//! Start at [`study::run`] for whole experiments, [`train::train`] with an [`train::Observer`] or an [`optim::Optimizer`] of your own, [`passes::Linearization`] for the
//! exact linearization of a network, [`landscape`] for exact kinks along segments, and [`taylor`] for Taylor losses and their certified optima.

pub mod activation;
pub mod allocator;
pub mod checkpoint;
pub mod cli;
pub mod data;
pub mod files;
#[cfg(test)]
mod fuzz;
pub mod kernels;
pub mod landscape;
pub mod loss;
pub mod network;
pub mod num;
pub mod optim;
pub mod passes;
pub mod report;
pub mod study;
pub mod taylor;
pub mod text;
pub mod trace;
pub mod train;
