use super::{
    Entry, Optimizer, Rate, Settings,
    entry::{Setting, entry, setting},
    negligible,
};
use crate::{
    checkpoint::{Store, StoreError},
    num::{
        Real,
        pieces::{CHUNK, contiguous},
        vectorized,
    },
};
use rayon::prelude::*;

const MOMENTUM: Setting = setting("momentum", 0.9, (0.0, 1.0));

pub(super) const ENTRIES: &[Entry] = &[
    entry!("momentum", "Momentum", 0.01, Momentum::heavy_ball, [MOMENTUM]),
    entry!("nesterov", "Nesterov", 0.01, Momentum::nesterov, [MOMENTUM]),
];

/// Gradient descent with momentum (Polyak 1964; Nesterov 1983, in the form of Sutskever et al. 2013 and PyTorch).
///
/// `v = mu v + g` with `v = g` in the first round; the step is `v`, for Nesterov's form `g + mu v`.
pub struct Momentum<T> {
    rate: Rate,
    momentum: T,
    nesterov: bool,
    velocity: Vec<T>,
}

impl<T: Real> Momentum<T> {
    pub fn heavy_ball(settings: &Settings) -> Self {
        Self::new(settings, false)
    }

    pub fn nesterov(settings: &Settings) -> Self {
        Self::new(settings, true)
    }

    fn new(settings: &Settings, nesterov: bool) -> Self {
        Self {
            rate: settings.rate,
            momentum: T::from_f64(settings.number("momentum")),
            nesterov,
            velocity: vec![T::ZERO; settings.network.parameters()],
        }
    }
}

impl<T: Real> Optimizer<T> for Momentum<T> {
    fn step(&mut self, round: usize, weights: &mut [T], gradient: &[T]) {
        let (rate, mu, nesterov) = (T::from_f64(self.rate.at(round)), self.momentum, self.nesterov);
        let negligible = negligible::<T>();
        let velocity = self.velocity.par_chunks_mut(CHUNK);
        let chunks = (weights.par_chunks_mut(CHUNK), gradient.par_chunks(CHUNK), velocity).into_par_iter();
        contiguous(chunks).for_each(|(weights, gradient, velocity)| {
            vectorized(
                #[inline(always)]
                || {
                    for ((w, v), g) in weights.iter_mut().zip(velocity.iter_mut()).zip(gradient) {
                        *v = (mu * *v + *g).or_zero(negligible);
                        *w -= rate * if nesterov { *g + mu * *v } else { *v };
                    }
                },
            );
        });
    }

    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.values("velocity", &mut self.velocity)
    }
}
