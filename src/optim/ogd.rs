use super::{
    Entry, Optimizer, Rate, Settings,
    entry::{entry, setting},
};
use crate::{
    checkpoint::{Store, StoreError},
    num::{Real, sum_of_squared_differences, sum_of_squares},
};
use std::ops::Range;

pub(super) const ENTRIES: &[Entry] =
    &[entry!("ogd", "OGD", 1.0, Ogd::new, [setting("diameter", 1.0, (0.0, f64::MAX))])];

/// Projected online gradient descent with `eta_n = D / (G sqrt n)` (Zinkevich 2003), the learner of the convergence theorem
/// (`docs/theory.md`, section 3), for every neuron by itself.
///
/// Each neuron plays in the ball of diameter `D` around its initial weights; `G` is the largest norm of its
/// gradient so far, so no bound need be known beforehand (the steps only shrink, which the proof asks for). `learning_rate`
/// multiplies the step; the theorem has 1.
pub struct Ogd<T> {
    factor: Rate,
    diameter: f64,
    neurons: Vec<Range<usize>>,
    bounds: Vec<f64>,
    initial: Vec<T>,
}

impl<T: Real> Ogd<T> {
    pub fn new(settings: &Settings) -> Self {
        let blocks = settings.network.blocks();
        let neurons: Vec<_> = blocks.iter().flat_map(|b| (0..b.units).map(|a| b.neuron(a))).collect();
        Self {
            factor: settings.rate,
            diameter: settings.number("diameter"),
            bounds: vec![0.0; neurons.len()],
            neurons,
            initial: Vec::new(),
        }
    }
}

impl<T: Real> Optimizer<T> for Ogd<T> {
    fn step(&mut self, round: usize, weights: &mut [T], gradient: &[T]) {
        if self.initial.is_empty() {
            self.initial = weights.to_vec();
        }
        for (range, bound) in self.neurons.iter().zip(&mut self.bounds) {
            let (w, g, start) = (&mut weights[range.clone()], &gradient[range.clone()], &self.initial[range.clone()]);
            *bound = bound.max(sum_of_squares(g).sqrt());
            if *bound == 0.0 {
                continue;
            }
            let eta = T::from_f64(self.factor.at(round) * self.diameter / (*bound * (round as f64).sqrt()));
            w.iter_mut().zip(g).for_each(|(w, g)| *w -= eta * *g);
            let distance = sum_of_squared_differences(w, start).sqrt();
            let radius = self.diameter / 2.0;
            if distance > radius {
                let shrink = T::from_f64(radius / distance);
                w.iter_mut().zip(start).for_each(|(w, s)| *w = *s + shrink * (*w - *s));
            }
        }
    }

    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.values("bounds", &mut self.bounds)?;
        store.list("initial", &mut self.initial)?;
        let weights = self.neurons.last().map_or(0, |range| range.end);
        match self.initial.len() {
            length if length == 0 || length == weights => Ok(()),
            length => Err(store.malformed("initial", format!("has {length} values instead of {weights}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        network::{LayerSpec, Network, he_uniform},
        optim::OptimizerConfig,
    };

    #[test]
    fn no_neuron_leaves_its_ball() {
        let network = Network::new(3, &[LayerSpec::dense(2)]).unwrap();
        let initial: Vec<f64> = he_uniform(&network, 0);
        let mut config = OptimizerConfig::named("ogd", None).unwrap();
        config.settings.insert("diameter".into(), 0.5);
        let mut optimizer = config.build::<f64>(&network).unwrap();
        let mut weights = initial.clone();
        for round in 1..=20 {
            let gradient: Vec<f64> = (0..8).map(|i| if i < 4 { 1.0 } else { 0.0 }).collect();
            optimizer.step(round, &mut weights, &gradient);
        }
        let moved: f64 = weights[..4].iter().zip(&initial).map(|(a, b)| (a - b).powi(2)).sum();
        assert!((moved.sqrt() - 0.25).abs() < 1e-12);
        assert_eq!(weights[4..], initial[4..], "a neuron without gradient stays");
    }
}
