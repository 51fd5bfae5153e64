use super::{Entry, Optimizer, Rate, Settings, entry::entry};
use crate::num::{
    Real,
    pieces::{CHUNK, contiguous},
    vectorized,
};
use rayon::prelude::*;

pub(super) const ENTRIES: &[Entry] = &[entry!("sgd", "SGD", 0.01, Sgd::new, [])];

/// Plain stochastic gradient descent (Robbins and Monro 1951), `w -= learning_rate * g`.
///
/// With a constant rate it satisfies the bound `bound_sgd` (`docs/theory.md`, section 3).
pub struct Sgd {
    rate: Rate,
}

impl Sgd {
    pub fn new(settings: &Settings) -> Self {
        Self { rate: settings.rate }
    }
}

impl<T: Real> Optimizer<T> for Sgd {
    fn step(&mut self, round: usize, weights: &mut [T], gradient: &[T]) {
        let rate = T::from_f64(self.rate.at(round));
        let chunks = (weights.par_chunks_mut(CHUNK), gradient.par_chunks(CHUNK)).into_par_iter();
        contiguous(chunks).for_each(|(weights, gradient)| {
            vectorized(
                #[inline(always)]
                || {
                    for (w, g) in weights.iter_mut().zip(gradient) {
                        *w -= rate * *g;
                    }
                },
            );
        });
    }
}
