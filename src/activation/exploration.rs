//! Novelty, switches and volumes, all from one integer matrix per neuron: the co-activation Gram matrix
//! `G[n, k] = popcount(A[n, :, m] AND A[k, :, m])` (`docs/theory.md`, section 5).

use super::{Configurations, Neuron};
use crate::kernels::bits::{and_count, gram};
use faer::{Mat, Side};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Singular values in the log-volume at most (the paper's number).
const TOP: usize = 50;

/// Configurations whose matrices take seconds each, so that nobody who wants an end can wait for even one.
const MANY: usize = 1500;

/// `novelty.csv`: how new the activation configuration after `round` updates is (figure 5a).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoveltyRow {
    pub round: usize,
    /// Least Hamming distance to any earlier configuration; empty for the first.
    pub min_hamming: Option<u64>,
    /// Hamming distance to the previous configuration; empty for the first.
    pub previous_hamming: Option<u64>,
    /// Number of bits of a configuration.
    pub bits: u64,
}

/// `neurons.csv`: how widely one hidden neuron explored (figures 5b and 5c).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NeuronRow {
    pub layer: usize,
    pub neuron: usize,
    pub switches: u64,
    pub rank: usize,
    /// Sum of the logs of the first `min(50, rank)` singular values.
    pub log_volume: f64,
    /// `1/2 log det(I + Gram)`.
    pub log_det: f64,
    /// Fraction of all (configuration, datapoint) pairs in which the neuron is active.
    pub active_fraction: f64,
    /// Whether the slope of its rectifier is 0 on all of the probe set in the last configuration.
    pub dead: bool,
}

/// The rows of `novelty.csv` and `neurons.csv`.
pub fn explore(configurations: &Configurations) -> (Vec<NoveltyRow>, Vec<NeuronRow>) {
    explore_until(configurations, &|| false).expect("nobody ends it")
}

/// Bytes that [`explore`] takes: a few matrices of all pairs of configurations for every thread.
pub fn exploration_bytes(configurations: &Configurations) -> usize {
    const MATRICES: usize = 5;
    let pairs = configurations.rounds.len().saturating_mul(configurations.rounds.len());
    pairs.saturating_mul(size_of::<u64>() * MATRICES * rayon::current_num_threads())
}

/// The same, or nothing if `ended` says so on the way.
pub fn explore_until(
    configurations: &Configurations,
    ended: &(dyn Fn() -> bool + Sync),
) -> Option<(Vec<NoveltyRow>, Vec<NeuronRow>)> {
    let count = configurations.rounds.len();
    #[expect(
        clippy::disallowed_methods,
        reason = "distances are integers and rows keep their order: any grouping gives the same"
    )]
    let (distances, neurons) = configurations
        .bits
        .par_iter()
        .enumerate()
        .map(|(m, bits)| {
            if ended() {
                return (Vec::new(), Vec::new());
            }
            let gram = gram(bits, count, configurations.words(m));
            let row = neuron_row(&gram, bits, configurations, m);
            (pairwise(&gram, count), vec![row])
        })
        .reduce(
            || (vec![0u64; count * count], Vec::new()),
            |(mut a, mut rows), (b, more)| {
                a.iter_mut().zip(&b).for_each(|(a, b)| *a += b);
                rows.extend(more);
                (a, rows)
            },
        );
    if ended() {
        return None;
    }
    let novelty = (0..count)
        .map(|n| NoveltyRow {
            round: configurations.rounds[n],
            min_hamming: (0..n).map(|k| distances[n * count + k]).min(),
            previous_hamming: (n > 0).then(|| distances[n * count + n - 1]),
            bits: configurations.len_bits(),
        })
        .collect();
    Some((novelty, neurons))
}

/// Whether there are enough configurations for a single neuron's matrix to take long.
pub fn is_long(configurations: &Configurations) -> bool {
    configurations.rounds.len() > MANY
}

/// Hamming distances `G_nn + G_kk - 2 G_nk`.
fn pairwise(gram: &[u64], count: usize) -> Vec<u64> {
    let at = |n: usize, k: usize| gram[n * count + k];
    (0..count * count).map(|i| (i / count, i % count)).map(|(n, k)| at(n, n) + at(k, k) - 2 * at(n, k)).collect()
}

fn neuron_row(gram: &[u64], bits: &[u64], all: &Configurations, m: usize) -> NeuronRow {
    let Neuron { layer, neuron, rests, .. } = all.neurons[m];
    let (count, words) = (all.rounds.len(), all.words(m));
    let at = |n: usize, k: usize| gram[n * count + k];
    let switches = (1..count).map(|n| at(n - 1, n - 1) + at(n, n) - 2 * at(n, n - 1)).sum();
    let (rank, log_volume, log_det) = volumes(gram, count);
    let active: u64 = (0..count).map(|n| at(n, n)).sum();
    let last = &bits[bits.len().saturating_sub(words)..];
    NeuronRow {
        layer,
        neuron,
        switches,
        rank,
        log_volume,
        log_det,
        active_fraction: active as f64 / (count * all.places(m)).max(1) as f64,
        dead: rests && and_count(last, last) == 0,
    }
}

/// Rank, log-product of the first `min(50, rank)` singular values, and `1/2 log det(I + Gram)` of the matrix whose
/// Gram matrix is given.
///
/// Singular values are square roots of eigenvalues; eigenvalues up to rounding (`count * epsilon` of the largest) count as 0.
fn volumes(gram: &[u64], count: usize) -> (usize, f64, f64) {
    let matrix = Mat::from_fn(count, count, |i, j| gram[i * count + j] as f64);
    let mut values = matrix.self_adjoint_eigenvalues(Side::Lower).unwrap_or_default();
    values.sort_by(|a, b| b.total_cmp(a));
    let floor = values.first().copied().unwrap_or(0.0) * count as f64 * f64::EPSILON * 4.0;
    let rank = values.iter().filter(|v| **v > floor && **v > 0.0).count();
    let log_volume = values[..rank.min(TOP)].iter().map(|v| 0.5 * v.ln()).sum();
    let log_det = values[..rank].iter().map(|v| 0.5 * v.ln_1p()).sum();
    (rank, log_volume, log_det)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::bits::pack;

    fn configurations(rows: &[&[&[u8]]]) -> Configurations {
        // rows[m][n] are the bits of neuron m in configuration n.
        let datapoints = rows[0][0].len();
        Configurations {
            rounds: (0..rows[0].len()).map(|n| 10 * n).collect(),
            datapoints,
            neurons: (0..rows.len()).map(|neuron| Neuron { layer: 0, neuron, positions: 1, rests: true }).collect(),
            bits: rows
                .iter()
                .map(|neuron| neuron.iter().flat_map(|row| pack(datapoints, |i| row[i] == 1)).collect())
                .collect(),
        }
    }

    #[test]
    fn hand_counted_metrics() {
        let all = configurations(&[
            &[&[1, 0, 1], &[1, 1, 1], &[1, 0, 1], &[0, 0, 1]],
            &[&[0, 0, 0], &[0, 0, 1], &[0, 0, 0], &[0, 0, 0]],
        ]);
        let (novelty, neurons) = explore(&all);
        let minima: Vec<_> = novelty.iter().map(|r| r.min_hamming).collect();
        assert_eq!(minima, [None, Some(2), Some(0), Some(1)]);
        assert_eq!(novelty.iter().map(|r| r.previous_hamming).collect::<Vec<_>>(), [None, Some(2), Some(2), Some(1)]);
        assert_eq!(novelty[3].bits, 6);
        assert_eq!((neurons[0].switches, neurons[1].switches), (3, 2));
        assert_eq!((neurons[0].rank, neurons[1].rank), (3, 1));
        assert!(!neurons[0].dead && neurons[1].dead);
        assert_eq!(neurons[0].active_fraction, 8.0 / 12.0);
        // Neuron 1 has one singular value, 1.
        assert!(neurons[1].log_volume.abs() < 1e-12);
        assert!((neurons[1].log_det - 0.5 * 2f64.ln()).abs() < 1e-12);
        // For neuron 0, det(I + Gram) equals det(I + A'A) = 19 for A'A = [[3,1,3],[1,1,1],[3,1,4]].
        assert!((neurons[0].log_det - 0.5 * 19f64.ln()).abs() < 1e-12, "{}", neurons[0].log_det.exp().powi(2));
    }

    #[test]
    fn units_with_a_gradient_on_their_negative_side_are_not_dead() {
        let mut all = configurations(&[&[&[0, 0], &[0, 0]]]);
        assert!(explore(&all).1[0].dead);
        all.neurons[0].rests = false;
        assert!(!explore(&all).1[0].dead);
    }

    #[test]
    fn a_neuron_that_is_always_dead_has_rank_0() {
        let (_, neurons) = explore(&configurations(&[&[&[0, 0], &[0, 0]]]));
        assert_eq!((neurons[0].rank, neurons[0].log_volume, neurons[0].log_det), (0, 0.0, 0.0));
    }
}
