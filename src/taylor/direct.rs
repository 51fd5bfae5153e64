//! Direct solution of small layers under the mean squared error: `H` accumulated once over the window as a dense matrix,
//! solved at each prefix.

use super::{
    Optimum,
    quadratic::{Hessian, Quadratic},
    regret::RegretSettings,
    units::UnitRecord,
    window::{Window, WindowRound},
};
use crate::{
    kernels::{
        Symmetric, View,
        dense::{Factor, append_with_ones, curvature_factors},
        gram::{GramScratch, WeightedGram},
        matmul,
    },
    study::tables::Comparator,
};
use rayon::prelude::*;

/// Direct solution of a small layer: `H = sum_i M_i (x) x_i x_i'` accumulated once over the window, solved at each prefix.
pub(super) fn optima(
    window: &Window<f64>,
    l: usize,
    prefixes: &[usize],
    settings: &RegretSettings,
    record: impl Fn(usize) -> UnitRecord,
) -> Vec<(Comparator, usize, Optimum)> {
    let block = &window.network().blocks()[l];
    let (units, width) = (block.units, block.width());
    let pairs: Vec<(usize, usize)> = (0..units).flat_map(|a| (0..=a).map(move |b| (a, b))).collect();
    let terms = window.linear_terms(prefixes, l..l + 1);
    let mut gram = WeightedGram::new(width, pairs.len());
    let (mut x, mut m, mut scratch) = (Vec::new(), Vec::new(), GramScratch::default());
    let dimension = units * width;
    // The matrix of a prefix, given that of the prefix before.
    let mut from = 0;
    let mut accumulate = |rounds: usize| {
        for start in (from..rounds).step_by(32) {
            x.clear();
            m.clear();
            let end = (start + 32).min(rounds);
            let parts: Vec<(Vec<f64>, Vec<f64>)> = (start..end)
                .into_par_iter()
                .map(|index| window.with_round(index, |round| row_curvatures(window, l, &round, &pairs)))
                .collect();
            for (part_x, part_m) in parts {
                x.extend(part_x);
                m.extend(part_m);
            }
            gram.accumulate(&x, &m, (end - start) * window.batch(), &mut scratch);
        }
        from = rounds;
        let scale = 1.0 / (rounds * window.batch()) as f64;
        let mut matrix = Symmetric::zeros(dimension);
        for ((a, b), part) in pairs.iter().zip(gram.matrices(scale)) {
            // `b <= a`: the block lies on or above the diagonal.
            for j in 0..width {
                let (row, column) = (b * width + j, a * width);
                let to = matrix.row_mut(row);
                for k in if a == b { j } else { 0 }..width {
                    to[column + k - row] = part.get(j, k);
                }
            }
        }
        matrix
    };
    let mut warm = vec![None; settings.comparators.len()];
    let mut found = Vec::new();
    let mut matrix = prefixes.first().map(|rounds| accumulate(*rounds));
    for (index, (rounds, (constant, linear))) in prefixes.iter().zip(&terms).enumerate() {
        let Some(current) = matrix.take() else { break };
        let record = record(*rounds);
        let solve = || -> Vec<(Optimum, f64)> {
            let hessian = Hessian::new(current);
            let linear: Vec<f64> = linear.iter().map(|v| v / *rounds as f64).collect();
            let quadratic = Quadratic { hessian: &hessian, linear: &linear, constant: constant / *rounds as f64 };
            let minimize = |(comparator, warm): (&Comparator, &Option<f64>)| {
                let comparison = settings.comparison(*comparator, record.displacement);
                quadratic.minimize(comparison, settings.tolerance * record.mean_loss, *warm)
            };
            settings.comparators.par_iter().zip(&warm).map(minimize).collect()
        };
        // A factorization takes one thread; the others see to the next prefix meanwhile.
        let (solved, next) = rayon::join(solve, || prefixes.get(index + 1).map(|rounds| accumulate(*rounds)));
        matrix = next;
        for ((comparator, warm), (optimum, shift)) in settings.comparators.iter().zip(&mut warm).zip(solved) {
            *warm = Some(shift);
            found.push((*comparator, *rounds, optimum));
        }
    }
    found
}

/// Per row of a round: the inputs with the constant 1, and `M_i[a, b]` for the listed pairs of units.
fn row_curvatures(
    window: &Window<f64>,
    l: usize,
    round: &WindowRound<f64>,
    pairs: &[(usize, usize)],
) -> (Vec<f64>, Vec<f64>) {
    let network = window.network();
    let block = &network.blocks()[l];
    let rows = round.tape.rows;
    let mut x = Vec::with_capacity(rows * block.width());
    append_with_ones(round.tape.input(l, round.x), block.inputs, &mut x);
    let mut m = Vec::with_capacity(rows * pairs.len());
    if l + 2 == network.blocks().len() && window.loss().is_quadratic() {
        // `s' W' Hl W s'` with the same product for all rows.
        let gram = &window.output_gram[round.index];
        for slopes in round.tape.slopes[l].chunks_exact(block.units) {
            m.extend(pairs.iter().map(|(a, b)| slopes[*a] * slopes[*b] * gram[a * block.units + b]));
        }
        return (x, m);
    }
    let mut storage = Vec::new();
    let top = window.loss().hessian_factor(round.output, network.outputs(), &mut storage);
    curvature_factors(network, round.weights, round.tape, top, l, true, |at, factor| {
        if at != l {
            return;
        }
        let units = block.units;
        let mut full = vec![0.0; units * units];
        for i in 0..rows {
            match factor {
                Factor::Identity { scale } => {
                    (0..units).for_each(|u| full[u * units + u] = scale * scale);
                }
                Factor::Shared { values, rank } => {
                    let view = View::new(values, rank, units);
                    matmul(&mut full, units, view.t(), view, false);
                }
                Factor::PerRow { values, rank } => {
                    let view = View::new(&values[i * rank * units..], rank, units);
                    matmul(&mut full, units, view.t(), view, false);
                }
            }
            m.extend(pairs.iter().map(|(a, b)| full[a * units + b]));
        }
    });
    (x, m)
}
