use super::{Entry, Optimizer, Rate, Settings};
use crate::kernels::{Real, SHARE, in_a_row};
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
        let shares = (weights.par_chunks_mut(SHARE), gradient.par_chunks(SHARE)).into_par_iter();
        in_a_row(shares).for_each(|(weights, gradient)| {
            crate::kernels::vectorized(
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
