use super::{Entry, Optimizer, Rate, Settings, entry::entry};
use crate::num::{Real, vectorized};

pub(super) const ENTRIES: &[Entry] = &[entry!("sign_sgd", "Sign SGD", 0.001, SignSgd::new, [])];

/// Sign descent (Bernstein et al., "signSGD: compressed optimisation for non-convex problems", ICML 2018, algorithm 1).
///
/// `w -= learning_rate * sign(g)`, coordinatewise, with `sign(0) = 0`.
pub struct SignSgd {
    rate: Rate,
}

impl SignSgd {
    pub fn new(settings: &Settings) -> Self {
        Self { rate: settings.rate }
    }
}

impl<T: Real> Optimizer<T> for SignSgd {
    fn step(&mut self, round: usize, weights: &mut [T], gradient: &[T]) {
        let rate = T::from_f64(self.rate.at(round));
        vectorized(
            #[inline(always)]
            || {
                for (w, g) in weights.iter_mut().zip(gradient) {
                    *w -= if *g > T::ZERO {
                        rate
                    } else if *g < T::ZERO {
                        -rate
                    } else {
                        T::ZERO
                    };
                }
            },
        );
    }
}
