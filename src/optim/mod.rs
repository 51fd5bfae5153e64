//! Optimizers: one a file, behind one trait, on flat weight vectors.
//!
//! To add one, write its file, with its type and its `ENTRIES`, declare the module and list the entries in `registry::REGISTRY`; the experiment file,
//! the command line and the searches follow from them. Defaults equal PyTorch's.

mod adagrad;
mod adagrad_full;
mod adam;
mod batch_rms;
mod config;
mod entry;
mod error;
mod explorer;
mod momentum;
mod ogd;
mod registry;
mod rmsprop;
mod rprop;
pub mod schedule;
mod sgd;
mod sign_sgd;

pub use adagrad::AdaGrad;
pub use adagrad_full::AdaGradFull;
pub use adam::Adam;
pub use batch_rms::BatchRms;
pub use config::OptimizerConfig;
pub use entry::{Entry, Setting, Settings};
pub use error::OptimizerError;
pub use explorer::Explorer;
pub use momentum::Momentum;
pub use ogd::Ogd;
pub use registry::{find, registry};
pub use rmsprop::RmsProp;
pub use rprop::RProp;
pub use schedule::{Rate, Schedule};
pub use sgd::Sgd;
pub use sign_sgd::SignSgd;

use crate::{
    checkpoint::{Store, StoreError},
    num::Real,
};

/// A rule that turns gradients into updates.
pub trait Optimizer<T: Real>: Send {
    /// Updates `weights` in place with the gradient of round `round` (1-based). Both have the network's flat layout.
    fn step(&mut self, round: usize, weights: &mut [T], gradient: &[T]);

    /// A buffer as long as the weights, for optimizers that use per-example gradients. Before each step the training
    /// loop fills it with `sum_d g_d^2`, coordinatewise, where `g_d` is the gradient of example `d`'s share of the
    /// minibatch's mean loss. `None`, the default, costs nothing.
    fn squares(&mut self) -> Option<&mut [T]> {
        None
    }

    /// Whether [`step`](Self::step) is to be given the gradient of all training rows instead of the minibatch's. The
    /// loop then computes it at `W^n` in every round, which takes as long as an epoch; loss and gradient of the
    /// minibatch are what observers see all the same, as regret is defined on them.
    fn full_batch(&self) -> bool {
        false
    }

    /// A buffer with an entry per hidden neuron, in the order of the layers, in rounds whose update is to be watched. After
    /// [`step`](Self::step) of that round the loop fills it with the fraction of the minibatch's datapoints (for a filter: of
    /// datapoints and positions) on which the update switched the neuron on or off. It takes two forward passes.
    fn switching(&mut self, round: usize) -> Option<&mut [T]> {
        let _ = round;
        None
    }

    /// Hands over what it remembers from round to round, as [`crate::checkpoint::Persist`] has it. The default is for optimizers that
    /// remember nothing.
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        let _ = store;
        Ok(())
    }
}

/// A running mean below this is not worth its subnormal steps. A value above it, scaled by a learning rate of at least the type's precision, is still normal.
fn negligible<T: Real>() -> T {
    T::MIN_POSITIVE / T::EPSILON
}
