use super::{
    Entry, Optimizer, Rate, Settings,
    entry::{entry, setting},
};
use crate::{
    checkpoint::{Store, StoreError},
    num::{Real, vectorized},
};

pub(super) const ENTRIES: &[Entry] =
    &[entry!("adagrad", "AdaGrad", 0.01, AdaGrad::new, [setting("eps", 1e-10, (0.0, f64::MAX))])];

/// AdaGrad (Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization", JMLR 12,
/// 2011), diagonal, as PyTorch has it.
///
/// `v += g^2`, `w -= learning_rate * g / (sqrt(v) + eps)`, coordinatewise, `v = 0` at first. With a constant rate it
/// satisfies the bound `bound_adagrad` (`docs/theory.md`, section 3).
pub struct AdaGrad<T> {
    rate: Rate,
    eps: T,
    square: Vec<T>,
}

impl<T: Real> AdaGrad<T> {
    pub fn new(settings: &Settings) -> Self {
        Self {
            rate: settings.rate,
            eps: T::from_f64(settings.number("eps")),
            square: vec![T::ZERO; settings.network.parameters()],
        }
    }
}

impl<T: Real> Optimizer<T> for AdaGrad<T> {
    fn step(&mut self, round: usize, weights: &mut [T], gradient: &[T]) {
        let (rate, eps) = (T::from_f64(self.rate.at(round)), self.eps);
        vectorized(
            #[inline(always)]
            || {
                for ((w, v), g) in weights.iter_mut().zip(&mut self.square).zip(gradient) {
                    *v += *g * *g;
                    // A weight whose gradient was always zero does not move, also with eps = 0.
                    let moved = rate * *g / (v.sqrt() + eps);
                    *w -= if *v > T::ZERO { moved } else { T::ZERO };
                }
            },
        );
    }

    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.values("square", &mut self.square)
    }
}
