use super::{
    Entry, Optimizer, Rate, Settings,
    entry::{EPS, entry},
};
use crate::num::{Real, vectorized};

pub(super) const ENTRIES: &[Entry] = &[entry!("batch_rms", "Batch RMS", 0.001, BatchRms::new, [EPS])];

/// The minibatch form of RProp (Tieleman and Hinton, Coursera lecture 6.5, 2012; `docs/theory.md`, section 5): the gradient
/// divided by the root mean square of the *per-example* gradients of the same minibatch, so nothing is remembered.
///
/// `w -= learning_rate * sum_d g_d / (sqrt(sum_d g_d^2) + eps)`, coordinatewise, over the examples `d` of the minibatch,
/// with `g_d` the gradient of the example's share of the mean loss (its loss divided by the size of the minibatch). A
/// coordinate moves by at most `sqrt(B)` learning rates, which it does where all `B` examples agree. The sums of squares
/// come from the loop ([`Optimizer::squares`]), without storing any `g_d`.
pub struct BatchRms<T> {
    rate: Rate,
    eps: T,
    squares: Vec<T>,
}

impl<T: Real> BatchRms<T> {
    pub fn new(settings: &Settings) -> Self {
        Self {
            rate: settings.rate,
            eps: T::from_f64(settings.number("eps")),
            squares: vec![T::ZERO; settings.network.parameters()],
        }
    }
}

impl<T: Real> Optimizer<T> for BatchRms<T> {
    fn step(&mut self, round: usize, weights: &mut [T], gradient: &[T]) {
        let (rate, eps) = (T::from_f64(self.rate.at(round)), self.eps);
        vectorized(
            #[inline(always)]
            || {
                for ((w, v), g) in weights.iter_mut().zip(&self.squares).zip(gradient) {
                    let moved = rate * *g / (v.sqrt() + eps);
                    *w -= if *v > T::ZERO { moved } else { T::ZERO };
                }
            },
        );
    }

    fn squares(&mut self) -> Option<&mut [T]> {
        Some(&mut self.squares)
    }
}
