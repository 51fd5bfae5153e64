use super::{
    Entry, Optimizer, Rate, Settings,
    entry::{entry, setting},
};
use crate::{
    checkpoint::{Store, StoreError},
    num::Real,
};

pub(super) const ENTRIES: &[Entry] = &[entry!(
    "rprop",
    "RProp",
    0.01,
    RProp::new,
    [
        setting("eta_minus", 0.5, (0.0, 1.0)),
        setting("eta_plus", 1.2, (1.0, f64::MAX)),
        setting("step_min", 1e-6, (0.0, f64::MAX)),
        setting("step_max", 50.0, (0.0, f64::MAX))
    ]
)];

/// RProp (Riedmiller and Braun, "A direct adaptive method for faster backpropagation learning", 1993), without weight
/// backtracking, as PyTorch has it.
///
/// Every weight has a step size of its own, `learning_rate` at first. Where the gradient keeps its sign the step
/// grows by `eta_plus`; where it changes, the step shrinks by `eta_minus` and the weight rests for a round. Only the sign
/// of the gradient counts, so it steps by the gradient of *all* training rows ([`Optimizer::full_batch`]). A schedule
/// multiplies the steps taken, not the step sizes kept.
pub struct RProp<T> {
    rate: Rate,
    shrink: T,
    grow: T,
    least: T,
    most: T,
    steps: Vec<T>,
    previous: Vec<T>,
}

impl<T: Real> RProp<T> {
    pub fn new(settings: &Settings) -> Self {
        let parameters = settings.network.parameters();
        Self {
            rate: settings.rate,
            shrink: T::from_f64(settings.number("eta_minus")),
            grow: T::from_f64(settings.number("eta_plus")),
            least: T::from_f64(settings.number("step_min")),
            most: T::from_f64(settings.number("step_max")),
            steps: vec![T::from_f64(settings.rate.base); parameters],
            previous: vec![T::ZERO; parameters],
        }
    }
}

impl<T: Real> Optimizer<T> for RProp<T> {
    fn step(&mut self, round: usize, weights: &mut [T], gradient: &[T]) {
        let factor = T::from_f64(self.rate.factor(round));
        let state = self.steps.iter_mut().zip(&mut self.previous);
        for ((w, (step, previous)), g) in weights.iter_mut().zip(state).zip(gradient) {
            let agreement = *previous * *g;
            let mut now = *g;
            if agreement > T::ZERO {
                *step = clamp(*step * self.grow, self.least, self.most);
            } else if agreement < T::ZERO {
                *step = clamp(*step * self.shrink, self.least, self.most);
                now = T::ZERO;
            } else {
                *step = clamp(*step, self.least, self.most);
            }
            if now > T::ZERO {
                *w -= factor * *step;
            } else if now < T::ZERO {
                *w += factor * *step;
            }
            *previous = now;
        }
    }

    fn full_batch(&self) -> bool {
        true
    }

    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.values("steps", &mut self.steps)?;
        store.values("previous", &mut self.previous)
    }
}

fn clamp<T: Real>(value: T, low: T, high: T) -> T {
    if value < low {
        low
    } else if value > high {
        high
    } else {
        value
    }
}
