use super::{
    Entry, Optimizer, Rate, Settings,
    entry::{entry, setting},
};
use crate::{
    checkpoint::{Store, StoreError},
    num::Real,
};
use faer::{Mat, Side};
use rayon::prelude::*;
use std::ops::Range;

pub(super) const ENTRIES: &[Entry] = &[entry!(
    "adagrad_full",
    "Full-matrix AdaGrad",
    0.01,
    AdaGradFull::new,
    [setting("eps", 1e-10, (0.0, f64::MAX)), setting("refresh", 1.0, (1.0, 1e9))]
)];

/// Full-matrix AdaGrad (Duchi, Hazan and Singer, JMLR 12, 2011, algorithm 1) for every neuron by itself.
///
/// `H += g g'`, `w -= learning_rate * (H^(1/2) + eps I)^+ g`, with `g` the gradient of one neuron's weights and `^+` the
/// pseudo-inverse: directions that no gradient had stay still. Unlike diagonal AdaGrad it does not depend on the
/// coordinates of the neuron's inputs, which is the question of axis-aligned normalization (Krummenacher et al.,
/// "Scalable adaptive stochastic optimization using random projections", NIPS 2016). Each neuron plays an online
/// convex game of its own (`docs/theory.md`, section 3), so the blocks are not an approximation but separate learners.
///
/// A round costs a matrix product per neuron, and every `refresh` rounds an eigenvalue decomposition of a square
/// matrix as wide as the neuron; in between the last decomposition serves. It is meant for narrow networks.
pub struct AdaGradFull {
    rate: Rate,
    eps: f64,
    refresh: usize,
    neurons: Vec<Neuron>,
}

struct Neuron {
    range: Range<usize>,
    /// `sum_n g_n g_n'`.
    outer: Mat<f64>,
    /// `(H^(1/2) + eps I)^+` of the last decomposition.
    inverse_root: Mat<f64>,
}

/// Eigenvalues of `H` below this, relative to the largest, are directions without gradients.
const RANK_TOLERANCE: f64 = 1e-14;

impl AdaGradFull {
    pub fn new(settings: &Settings) -> Self {
        let blocks = settings.network.blocks();
        let neuron = |range: Range<usize>| Neuron {
            outer: Mat::zeros(range.len(), range.len()),
            inverse_root: Mat::zeros(range.len(), range.len()),
            range,
        };
        Self {
            rate: settings.rate,
            eps: settings.number("eps"),
            refresh: settings.count("refresh"),
            neurons: blocks.iter().flat_map(|b| (0..b.units).map(|a| neuron(b.neuron(a)))).collect(),
        }
    }
}

impl<T: Real> Optimizer<T> for AdaGradFull {
    fn step(&mut self, round: usize, weights: &mut [T], gradient: &[T]) {
        let (rate, eps) = (self.rate.at(round), self.eps);
        let decompose = (round - 1).is_multiple_of(self.refresh);
        let update = |neuron: &mut Neuron| -> Vec<f64> {
            let g: Vec<f64> = gradient[neuron.range.clone()].iter().map(|g| g.to_f64()).collect();
            for (j, gj) in g.iter().enumerate().filter(|(_, gj)| **gj != 0.0) {
                for (i, gi) in g.iter().enumerate() {
                    neuron.outer[(i, j)] += gi * gj;
                }
            }
            if decompose {
                neuron.inverse_root = inverse_root(&neuron.outer, eps);
            }
            let step = |i: usize| g.iter().enumerate().map(|(j, g)| neuron.inverse_root[(i, j)] * g).sum::<f64>();
            (0..g.len()).map(step).collect()
        };
        let steps: Vec<Vec<f64>> = self.neurons.par_iter_mut().map(update).collect();
        for (neuron, step) in self.neurons.iter().zip(steps) {
            for (w, d) in weights[neuron.range.clone()].iter_mut().zip(step) {
                *w -= T::from_f64(rate * d);
            }
        }
    }

    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        for (number, neuron) in self.neurons.iter_mut().enumerate() {
            store.part(&number.to_string(), |store| {
                // Columns are contiguous.
                let mut columns = |name: &str, matrix: &mut Mat<f64>| {
                    (0..matrix.ncols()).try_for_each(|j| {
                        store.part(name, |store| store.values(&j.to_string(), matrix.col_as_slice_mut(j)))
                    })
                };
                columns("outer", &mut neuron.outer)?;
                columns("inverse_root", &mut neuron.inverse_root)
            })?;
        }
        Ok(())
    }
}

/// `(H^(1/2) + eps I)^+` on the range of `H`; zero if the decomposition fails, as it does where `H` is not finite.
fn inverse_root(outer: &Mat<f64>, eps: f64) -> Mat<f64> {
    let size = outer.nrows();
    let Ok(eigen) = outer.self_adjoint_eigen(Side::Lower) else { return Mat::zeros(size, size) };
    let (vectors, values) = (eigen.U(), eigen.S().column_vector());
    let largest = values.iter().fold(0.0_f64, |m, v| m.max(*v));
    let scaled = Mat::from_fn(size, size, |i, k| {
        let value = values[k];
        if value > RANK_TOLERANCE * largest { vectors[(i, k)] / (value.sqrt() + eps) } else { 0.0 }
    });
    &scaled * vectors.transpose()
}

#[cfg(test)]
mod tests {
    use crate::{
        network::{LayerSpec, Network},
        optim::OptimizerConfig,
    };

    /// The weights of one neuron with two inputs and a bias after steps along `gradients`, from zero.
    fn descend(gradients: &[[f64; 3]], settings: &[(&str, f64)]) -> Vec<f64> {
        let network = Network::new(2, &[LayerSpec::dense(1)]).unwrap();
        let mut config = OptimizerConfig::named("adagrad_full", Some(0.1)).unwrap();
        config.settings = settings.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
        let mut optimizer = config.build::<f64>(&network).unwrap();
        let mut weights = vec![0.0; 3];
        for (round, gradient) in gradients.iter().enumerate() {
            optimizer.step(round + 1, &mut weights, gradient);
        }
        weights
    }

    #[test]
    fn a_rotation_of_the_coordinates_rotates_the_steps() {
        let gradients: Vec<[f64; 3]> =
            (0..20).map(|n| [1.0, 0.1, 0.01].map(|scale| scale * (7.0 * n as f64 + 40.0 * scale).sin())).collect();
        // The reflection I - 2 v v' at the plane across v.
        let v = [2.0 / 3.0, -1.0 / 3.0, 2.0 / 3.0];
        let reflect = |g: &[f64]| -> [f64; 3] {
            let along: f64 = v.iter().zip(g).map(|(v, g)| v * g).sum();
            std::array::from_fn(|i| g[i] - 2.0 * along * v[i])
        };
        let turned: Vec<[f64; 3]> = gradients.iter().map(|g| reflect(g)).collect();
        let (weights, other) = (descend(&gradients, &[("eps", 1e-3)]), descend(&turned, &[("eps", 1e-3)]));
        for (a, b) in reflect(&weights).iter().zip(&other) {
            assert!((a - b).abs() < 1e-10, "{weights:?} {other:?}");
        }
        assert!(weights.iter().all(|w| w.abs() > 1e-3), "all coordinates move: {weights:?}");
    }

    #[test]
    fn between_decompositions_the_last_one_serves() {
        let gradients = [[2.0, 0.0, 0.0]; 3];
        let close = |found: Vec<f64>, expected: f64| {
            assert!((found[0] + expected).abs() < 1e-12, "{found:?}");
            assert_eq!(found[1..], [0.0, 0.0], "directions without gradient stay");
        };
        close(descend(&gradients, &[("eps", 0.0)]), 0.1 * (1.0 + 1.0 / 2f64.sqrt() + 1.0 / 3f64.sqrt()));
        close(descend(&gradients, &[("eps", 0.0), ("refresh", 2.0)]), 0.1 * (1.0 + 1.0 + 1.0 / 3f64.sqrt()));
    }
}
