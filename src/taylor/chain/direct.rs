//! Direct solution of small layers under the mean squared error: `H = sum_i M_i (x) x_i x_i'` accumulated once over the window as a dense matrix,
//! and solved at each prefix (`docs/theory.md`, section 4).

use super::window::{Window, WindowRound};
use crate::{
    kernels::{
        Symmetric, View,
        dense::matrix,
        gram::{GramScratch, WeightedGram},
        matmul,
    },
    taylor::{
        Optimum,
        settings::{ClosedForm, RegretSettings},
        solve::{Hessian, Quadratic},
        tracker::UnitRecord,
        unit::Comparator,
    },
};
use rayon::prelude::*;

/// Rounds whose rows are gathered before they are added to the matrix.
const TOGETHER: usize = 32;

/// The optima of layer `l` for the given prefixes.
pub(crate) fn optima(
    window: &Window<f64>,
    l: usize,
    prefixes: &[usize],
    settings: &RegretSettings,
    record: &dyn Fn(usize) -> UnitRecord,
    tick: &dyn Fn(usize),
) -> Vec<(Comparator, usize, Optimum)> {
    let terms = window.linear_terms(prefixes, l..l + 1);
    let mut curvature = LayerCurvature::new(window, l);
    let comparators = settings.comparators.of(ClosedForm::Yes);
    let mut warm = vec![None; comparators.len()];
    let mut found = Vec::new();
    let mut matrix = prefixes.first().map(|rounds| curvature.advance(*rounds));
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
            comparators.par_iter().zip(&warm).map(minimize).collect()
        };
        // A factorization takes one thread; the others see to the next prefix meanwhile.
        let (solved, next) = rayon::join(solve, || prefixes.get(index + 1).map(|rounds| curvature.advance(*rounds)));
        matrix = next;
        for ((comparator, warm), (optimum, multiplier)) in comparators.iter().zip(&mut warm).zip(solved) {
            *warm = Some(multiplier);
            found.push((*comparator, *rounds, optimum));
        }
        tick(*rounds);
    }
    found
}

/// The curvature of a layer, summed over the first rounds of a window: one plane `[width, width]` for each pair of units `b <= a`, in the order of
/// `a`.
struct LayerCurvature<'a> {
    window: &'a Window<'a, f64>,
    l: usize,
    units: usize,
    width: usize,
    gram: WeightedGram,
    /// Rounds that have been added.
    rounds: usize,
    scratch: GramScratch<f64>,
    /// `[rows, width]` and `[rows, pairs]` of the rounds that are added next.
    x: Vec<f64>,
    m: Vec<f64>,
}

impl<'a> LayerCurvature<'a> {
    fn new(window: &'a Window<'a, f64>, l: usize) -> Self {
        let block = &window.network().blocks()[l];
        let (units, width) = (block.units, block.width());
        let gram = WeightedGram::new(width, pairs(units));
        Self { window, l, units, width, gram, rounds: 0, scratch: GramScratch::default(), x: Vec::new(), m: Vec::new() }
    }

    /// Goes on to the first `rounds` rounds; returns their mean curvature.
    fn advance(&mut self, rounds: usize) -> Symmetric {
        let (window, l) = (self.window, self.l);
        let (width, pairs) = (self.width, pairs(self.units));
        for start in (self.rounds..rounds).step_by(TOGETHER) {
            let end = (start + TOGETHER).min(rounds);
            let rows = window.rows().start(end) - window.rows().start(start);
            self.x.resize(rows * width, 0.0);
            self.m.resize(rows * pairs, 0.0);
            let (mut x, mut m) = (&mut self.x[..], &mut self.m[..]);
            let mut parts = Vec::with_capacity(end - start);
            for round in start..end {
                let own = window.rows().round(round).len();
                let (own_x, rest_x) = x.split_at_mut(own * width);
                let (own_m, rest_m) = m.split_at_mut(own * pairs);
                parts.push((round, own_x, own_m));
                (x, m) = (rest_x, rest_m);
            }
            parts.into_par_iter().for_each(|(round, x, m)| {
                window.with_round(round, |round| row_curvatures(window, l, &round, x, m));
            });
            self.gram.accumulate(&self.x, &self.m, rows, &mut self.scratch);
        }
        self.rounds = rounds;
        self.matrix()
    }

    /// The mean over the datapoints, `[units * width, units * width]`.
    fn matrix(&self) -> Symmetric {
        let (units, width) = (self.units, self.width);
        let scale = self.window.scale(self.rounds);
        let mut matrix = Symmetric::zeros(units * width);
        let pairs = (0..units).flat_map(|a| (0..=a).map(move |b| (a, b)));
        for ((a, b), part) in pairs.zip(self.gram.matrices(scale)) {
            // `b <= a`: the part lies on or above the diagonal.
            for j in 0..width {
                let (row, column) = (b * width + j, a * width);
                let to = matrix.row_mut(row);
                for k in if a == b { j } else { 0 }..width {
                    to[column + k - row] = part.get(j, k);
                }
            }
        }
        matrix
    }
}

/// Number of pairs of units `b <= a`.
fn pairs(units: usize) -> usize {
    units * (units + 1) / 2
}

/// Per row of a round: the inputs with the constant 1 of the bias, and `M_i[a, b]` for the pairs of units `b <= a`, in the order of `a`, times
/// the weight of the round.
fn row_curvatures(window: &Window<f64>, l: usize, round: &WindowRound<f64>, x: &mut [f64], m: &mut [f64]) {
    let network = window.network();
    let block = &network.blocks()[l];
    let inputs = round.tape.input(block, round.x).chunks_exact(block.inputs);
    for (to, input) in x.chunks_exact_mut(block.width()).zip(inputs) {
        to[..block.inputs].copy_from_slice(input);
        to[block.inputs..].fill(1.0);
    }
    let (hidden, weight) = (network.output_index(), window.weight(round.index));
    let mut curvature = Curvature::default();
    for (i, mut m) in m.chunks_exact_mut(block.units * (block.units + 1) / 2).enumerate() {
        let derivatives = |at: usize| {
            let units = network.blocks()[at].units;
            &round.tape.derivatives[at][i * units..(i + 1) * units]
        };
        // `W' Hl W` of the output block is the same for all rows.
        curvature.above.clone_from(&window.output_gram[round.index]);
        for at in (l + 1..hidden).rev() {
            curvature.backpropagate(derivatives(at), matrix(&network.blocks()[at], round.weights));
        }
        let s = derivatives(l);
        for (a, row) in curvature.above.chunks_exact(block.units).enumerate() {
            let (to, rest) = m.split_at_mut(a + 1);
            m = rest;
            // Half of the units are off.
            if s[a] == 0.0 {
                to.fill(0.0);
            } else {
                to.iter_mut().zip(row).zip(s).for_each(|((to, above), slope)| *to = weight * s[a] * slope * above);
            }
        }
    }
}

/// The curvature of one datapoint in a layer's outputs, `W' M W` of the layer above.
///
/// Its recursion is `M_{l-1} = s' (W_l' M_l W_l) s'` (`docs/theory.md`, section 4). Half of the units of a rectifier network are off, so a quarter of
/// `M` is all there is of it.
#[derive(Default)]
struct Curvature {
    /// `[units, units]`.
    above: Vec<f64>,
    /// Units with a slope, and `M`, rows of `W` and of `M W` on these: `[on, on]`, `[on, inputs]`.
    on: Vec<usize>,
    m: Vec<f64>,
    rows: Vec<f64>,
    product: Vec<f64>,
}

impl Curvature {
    /// To the outputs of the layer below: through the units' derivatives and `w: [units, inputs]`.
    fn backpropagate(&mut self, derivatives: &[f64], w: View<f64>) {
        let Self { above, on, m, rows, product } = self;
        on.clear();
        on.extend((0..derivatives.len()).filter(|u| derivatives[*u] != 0.0));
        m.clear();
        rows.clear();
        for a in &*on {
            m.extend(on.iter().map(|b| derivatives[*a] * derivatives[*b] * above[a * derivatives.len() + b]));
            rows.extend_from_slice(w.row(*a));
        }
        let (on, inputs) = (on.len(), w.cols());
        product.resize(on * inputs, 0.0);
        above.resize(inputs * inputs, 0.0);
        let rows = View::new(rows, on, inputs);
        matmul(product, inputs, View::new(m, on, on), rows, false);
        matmul(above, inputs, rows.t(), View::new(product, on, inputs), false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curvature_on_some_units_is_that_on_all() {
        // Three units over four over three, with derivatives of a leaky rectifier and of a rectifier; then none at all.
        let wave = |n: usize, f: f64| -> Vec<f64> { (0..n).map(|i| (i as f64 * f).sin()).collect() };
        let (top, w) = (wave(9, 0.7), wave(12, 0.3));
        let identity: Vec<f64> = (0..16).map(|i| if i % 5 == 0 { 1.0 } else { 0.0 }).collect();
        for (upper, lower) in [([1.0, 0.0, -0.5], [0.0, 1.0, 1.0, 0.25]), ([0.0; 3], [1.0; 4]), ([1.0; 3], [0.0; 4])] {
            let mut curvature = Curvature { above: top.clone(), ..Curvature::default() };
            curvature.backpropagate(&upper, View::new(&w, 3, 4));
            curvature.backpropagate(&lower, View::new(&identity, 4, 4));
            let found = &curvature.above;
            for (i, j) in (0..4).flat_map(|i| (0..4).map(move |j| (i, j))) {
                let sum: f64 = (0..3)
                    .flat_map(|a| (0..3).map(move |b| (a, b)))
                    .map(|(a, b)| w[a * 4 + i] * upper[a] * top[a * 3 + b] * upper[b] * w[b * 4 + j])
                    .sum();
                assert!((found[i * 4 + j] - lower[i] * sum * lower[j]).abs() < 1e-15, "{i} {j}");
            }
        }
    }
}
