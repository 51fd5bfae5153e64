use super::{
    Entry, Optimizer, Rate, Settings,
    entry::{EPS, Setting, entry, setting, switch},
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

pub(super) const BETA1: Setting = setting("beta1", 0.9, (0.0, 1.0));
pub(super) const BETA2: Setting = setting("beta2", 0.999, (0.0, 1.0));
pub(super) const CORRECT_MEAN: Setting = switch("correct_mean", true);

pub(super) const ENTRIES: &[Entry] = &[
    entry!("adam", "Adam", 0.001, Adam::new, [BETA1, BETA2, EPS, CORRECT_MEAN]),
    entry!(
        "adamw",
        "AdamW",
        0.001,
        Adam::decoupled,
        [BETA1, BETA2, EPS, CORRECT_MEAN, setting("weight_decay", 0.01, (0.0, f64::MAX))]
    ),
];

/// Adam (Kingma and Ba 2015, algorithm 1), as PyTorch has it: `eps` outside the root of the corrected second moment. AdamW
/// (Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019) shrinks the weights by
/// `learning_rate * weight_decay` before each step.
///
/// `correct_mean = false` leaves the running mean of gradients as it is, which grows from zero in the first rounds as the
/// velocity of momentum does; with a large `eps` the steps are then those of momentum.
pub struct Adam<T> {
    rate: Rate,
    decay: f64,
    correct_mean: bool,
    beta1: f64,
    beta2: f64,
    eps: T,
    mean: Vec<T>,
    square: Vec<T>,
}

impl<T: Real> Adam<T> {
    pub fn new(settings: &Settings) -> Self {
        Self::with_decay(settings, 0.0)
    }

    /// AdamW.
    pub fn decoupled(settings: &Settings) -> Self {
        Self::with_decay(settings, settings.number("weight_decay"))
    }

    fn with_decay(settings: &Settings, decay: f64) -> Self {
        let zeros = vec![T::ZERO; settings.network.parameters()];
        Self {
            rate: settings.rate,
            decay,
            correct_mean: settings.is_on("correct_mean"),
            beta1: settings.number("beta1"),
            beta2: settings.number("beta2"),
            eps: T::from_f64(settings.number("eps")),
            mean: zeros.clone(),
            square: zeros,
        }
    }
}

impl<T: Real> Optimizer<T> for Adam<T> {
    fn step(&mut self, round: usize, weights: &mut [T], gradient: &[T]) {
        let correction = |beta: f64| 1.0 - beta.powf(round as f64);
        let rate = self.rate.at(round);
        let step = T::from_f64(if self.correct_mean { rate / correction(self.beta1) } else { rate });
        let keep = T::from_f64(1.0 - rate * self.decay);
        let root = T::from_f64(1.0 / correction(self.beta2).sqrt());
        let (beta1, rest1) = (T::from_f64(self.beta1), T::from_f64(1.0 - self.beta1));
        let (beta2, rest2) = (T::from_f64(self.beta2), T::from_f64(1.0 - self.beta2));
        let (eps, negligible) = (self.eps, negligible::<T>());
        let moments = (self.mean.par_chunks_mut(CHUNK), self.square.par_chunks_mut(CHUNK)).into_par_iter();
        let chunks = (weights.par_chunks_mut(CHUNK), gradient.par_chunks(CHUNK), moments).into_par_iter();
        contiguous(chunks).for_each(|(weights, gradient, (mean, square))| {
            vectorized(
                #[inline(always)]
                || {
                    for ((w, (m, v)), g) in weights.iter_mut().zip(mean.iter_mut().zip(square.iter_mut())).zip(gradient)
                    {
                        *m = (beta1 * *m + rest1 * *g).or_zero(negligible);
                        *v = (beta2 * *v + rest2 * *g * *g).or_zero(T::MIN_POSITIVE);
                        // A weight whose gradient was always zero does not move, also with eps = 0. (A selection, not a
                        // branch around the store: the loop vectorizes.)
                        let moved = step * *m / (v.sqrt() * root + eps);
                        *w = keep * *w - if *v > T::ZERO { moved } else { T::ZERO };
                    }
                },
            );
        });
    }

    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.values("mean", &mut self.mean)?;
        store.values("square", &mut self.square)
    }
}
