use super::{
    Entry, Optimizer, Rate, Settings,
    entry::{EPS, entry, setting, switch},
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

pub(super) const ENTRIES: &[Entry] = &[entry!(
    "rmsprop",
    "RMSProp",
    0.01,
    RmsProp::new,
    [setting("alpha", 0.99, (0.0, 1.0)), EPS, setting("momentum", 0.0, (0.0, 1.0)), switch("centered", false)]
)];

/// RMSProp (Tieleman and Hinton, Coursera lecture 6.5, 2012; centered: Graves, "Generating sequences with recurrent neural
/// networks", 2013), as PyTorch has it.
///
/// `v = alpha v + (1 - alpha) g^2`, `w -= learning_rate * g / (sqrt(v) + eps)`, coordinatewise, `v = 0` at first. `centered`
/// subtracts from `v` the square of the running mean of `g`. With `momentum`, the normalized gradient goes into a
/// velocity `b = momentum b + g / (sqrt(v) + eps)`, and the step is `learning_rate * b`.
pub struct RmsProp<T> {
    rate: Rate,
    alpha: T,
    eps: T,
    momentum: T,
    square: Vec<T>,
    /// Empty unless centered.
    mean: Vec<T>,
    /// Empty unless there is momentum.
    velocity: Vec<T>,
}

impl<T: Real> RmsProp<T> {
    pub fn new(settings: &Settings) -> Self {
        let zeros = |wanted: bool| if wanted { vec![T::ZERO; settings.network.parameters()] } else { Vec::new() };
        Self {
            rate: settings.rate,
            alpha: T::from_f64(settings.number("alpha")),
            eps: T::from_f64(settings.number("eps")),
            momentum: T::from_f64(settings.number("momentum")),
            square: zeros(true),
            mean: zeros(settings.is_on("centered")),
            velocity: zeros(settings.number("momentum") != 0.0),
        }
    }

    /// The update for the options that need more state than the plain form.
    fn step_with_options(&mut self, rate: T, weights: &mut [T], gradient: &[T]) {
        let (alpha, eps, rest) = (self.alpha, self.eps, T::ONE - self.alpha);
        for (j, (w, g)) in weights.iter_mut().zip(gradient).enumerate() {
            let v = &mut self.square[j];
            *v = (alpha * *v + rest * *g * *g).or_zero(T::MIN_POSITIVE);
            let mut variance = *v;
            if let Some(mean) = self.mean.get_mut(j) {
                *mean = (alpha * *mean + rest * *g).or_zero(T::MIN_POSITIVE);
                variance -= *mean * *mean;
            }
            // Rounding may leave a variance of nothing slightly below zero.
            let root = if variance > T::ZERO { variance.sqrt() } else { T::ZERO } + eps;
            let normalized = if *v > T::ZERO && root > T::ZERO { *g / root } else { T::ZERO };
            let step = match self.velocity.get_mut(j) {
                Some(velocity) => {
                    *velocity = (self.momentum * *velocity + normalized).or_zero(T::MIN_POSITIVE);
                    *velocity
                }
                None => normalized,
            };
            *w -= rate * step;
        }
    }
}

impl<T: Real> Optimizer<T> for RmsProp<T> {
    fn step(&mut self, round: usize, weights: &mut [T], gradient: &[T]) {
        let rate = T::from_f64(self.rate.at(round));
        if !self.mean.is_empty() || !self.velocity.is_empty() {
            return self.step_with_options(rate, weights, gradient);
        }
        let (alpha, eps) = (self.alpha, self.eps);
        let square = self.square.par_chunks_mut(CHUNK);
        let chunks = (weights.par_chunks_mut(CHUNK), gradient.par_chunks(CHUNK), square).into_par_iter();
        contiguous(chunks).for_each(|(weights, gradient, square)| {
            vectorized(
                #[inline(always)]
                || {
                    let rest = T::ONE - alpha;
                    for ((w, v), g) in weights.iter_mut().zip(square.iter_mut()).zip(gradient) {
                        *v = (alpha * *v + rest * *g * *g).or_zero(T::MIN_POSITIVE);
                        // A weight whose gradient was always zero does not move, also with eps = 0. (A selection, not a
                        // branch around the store: the loop vectorizes.)
                        let moved = rate * *g / (v.sqrt() + eps);
                        *w -= if *v > T::ZERO { moved } else { T::ZERO };
                    }
                },
            );
        });
    }

    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.values("square", &mut self.square)?;
        store.values("mean", &mut self.mean)?;
        store.values("velocity", &mut self.velocity)
    }
}
