use super::{Optimizer, Settings};
use crate::kernels::Real;

/// Plain stochastic gradient descent: `w -= learning_rate * g` (Robbins and Monro 1951).
pub struct Sgd<T> {
    rate: T,
}

impl<T: Real> Sgd<T> {
    pub fn new(settings: &Settings) -> Self {
        Self { rate: T::of(settings.learning_rate) }
    }
}

impl<T: Real> Optimizer<T> for Sgd<T> {
    fn step(&mut self, _round: usize, weights: &mut [T], gradient: &[T]) {
        let rate = self.rate;
        pulp::Arch::new().dispatch(|| {
            for (w, g) in weights.iter_mut().zip(gradient) {
                *w -= rate * *g;
            }
        });
    }
}
