//! An instrument for the training dynamics of rectifier networks.
//!
//! For a run of any optimizer it answers: how much of the loss is *regret* (the convex part: optimizing inside smooth
//! regions), how much is the *Taylor optimum* (the hard part: which regions training finds), and how widely the optimizer
//! *explores* the space of activation configurations. The mathematics is that of D. Balduzzi, B. McWilliams and
//! T. Butler-Yeoman, "Neural Taylor Approximations: Convergence and Exploration in Rectifier Networks" (ICML 2017), restated in
//! `docs/theory.md`.
//!
//! An optimizer of your own, beside one that is here, in ten lines:
//!
//! ```
//! use taylorscope::prelude::*;
//!
//! #[derive(Clone)]
//! struct SignDescent(f32);
//!
//! impl Optimizer<f32> for SignDescent {
//!     fn step(&mut self, round: usize, weights: &mut [f32], gradient: &[f32]) {
//!         let step = self.0 / (round as f32).sqrt();
//!         weights.iter_mut().zip(gradient).for_each(|(w, g)| *w -= step * g.signum());
//!     }
//! }
//!
//! let digits = data::load("digits", None)?.train;
//! let network = Network::new(64, &[LayerSpec::dense(4), LayerSpec::relu(), LayerSpec::dense(64)])?;
//! let runs = Study::new(&network, Loss::Mse, Examples::autoencoder(&digits.inputs, 64))
//!     .optimizer("sign descent", SignDescent(0.02))
//!     .registered(OptimizerConfig::named("adam", Some(0.003))?)
//!     .epochs(1)
//!     .scales(&[Scale::Layer, Scale::Neuron])
//!     .run()?;
//! for row in &runs[0].tables.regret {
//!     println!("{} {:?} {:?}: {} +- {}", row.rounds, row.layer, row.neuron, row.mean_regret, row.gap);
//! }
//! # assert_eq!(runs.len(), 2);
//! # assert!(runs.iter().all(|run| run.tables.regret.iter().any(|row| row.rounds == 23 && row.neuron.is_none())));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! More of it: [`study::run`] for whole experiments with checkpoints and files, [`train::train`] with an [`train::Observer`] of your own,
//! [`passes::Linearization`] for the exact linearization of a network, [`landscape`] for exact kinks along segments, and [`taylor`]
//! for Taylor losses and their certified optima.
//!
//! The way of the data, one direction and no cycles:
//!
//! ```text
//! data ─► train ──rounds──► observers: taylor (stream, window), activation, trace ─► study (tables) ─► report
//!          ▲                                                                 trace ─► replay ─► the same observers
//! network, loss, optim                                                       cli parses and prints
//! ```
//!
//! # Features
//!
//! All are on by default, as the program needs them; none is needed for the above.
//!
//! - `report`: figures and pages; `download`: published datasets, by curl or wget; `images`: folders of PNG and JPEG files
//! - `allocator`: the program's allocator, which trains faster than glibc's
//! - `cli`: the program

pub mod activation;
#[cfg(feature = "allocator")]
pub mod allocator;
pub mod checkpoint;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod data;
#[doc(hidden)]
pub mod files;
#[cfg(all(test, feature = "download", feature = "images"))]
mod fuzz;
#[doc(hidden)]
pub mod kernels;
pub mod landscape;
pub mod loss;
pub mod network;
#[doc(hidden)]
pub mod num;
pub mod optim;
pub mod passes;
pub mod prelude;
#[cfg(feature = "report")]
pub mod report;
pub mod study;
pub mod taylor;
#[doc(hidden)]
pub mod text;
pub mod trace;
pub mod train;

pub use num::Real;
