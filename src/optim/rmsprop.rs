use super::{Optimizer, Settings};
use crate::kernels::Real;

/// RMSProp (Tieleman and Hinton, Coursera lecture 6.5, 2012), as PyTorch has it.
///
/// `v = alpha v + (1 - alpha) g^2`, `w -= learning_rate * g / (sqrt(v) + eps)`, coordinatewise, `v = 0` at first.
pub struct RmsProp<T> {
    rate: T,
    alpha: T,
    eps: T,
    square: Vec<T>,
}

impl<T: Real> RmsProp<T> {
    pub fn new(settings: &Settings) -> Self {
        Self {
            rate: T::of(settings.learning_rate),
            alpha: T::of(settings.get("alpha")),
            eps: T::of(settings.get("eps")),
            square: vec![T::ZERO; settings.network.parameters()],
        }
    }
}

impl<T: Real> Optimizer<T> for RmsProp<T> {
    fn step(&mut self, _round: usize, weights: &mut [T], gradient: &[T]) {
        let (rate, alpha, eps) = (self.rate, self.alpha, self.eps);
        pulp::Arch::new().dispatch(|| {
            let rest = T::ONE - alpha;
            for ((w, v), g) in weights.iter_mut().zip(&mut self.square).zip(gradient) {
                *v = alpha * *v + rest * *g * *g;
                // A weight whose gradient was always zero does not move, also with eps = 0. (A selection, not a
                // branch around the store: the loop vectorizes.)
                let moved = rate * *g / (v.sqrt() + eps);
                *w -= if *v > T::ZERO { moved } else { T::ZERO };
            }
        });
    }
}
