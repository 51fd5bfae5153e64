//! The Kronecker factors `mean M (x) mean x x'` of every block, which precondition the large problems
//! (`docs/theory.md`, section 4).
//!
//! At network scale the output block goes along with the hidden ones (`super::layer`), and a hidden block feels only the curvature that the
//! output block cannot take over: the Schur complement. With `x` the block's inputs, `h` those of the output block and `J` the output
//! Jacobian, it is approximated by
//!
//! `S = mean M (x) mean x x' - c (mean J)'(mean J) (x) (mean x h') (mean h h')^-1 (mean h x')`,
//!
//! `c` the curvature of the loss in the output. The second term has low rank in the inputs, so its inverse costs little more than
//! the first's. It halves the products of a search.

use crate::kernels::{
    View,
    dense::{Factor, append_inputs, curvature_factors, hidden_jacobians, matrix},
    matmul, matmul_shared,
};
use crate::network::Block;
use crate::taylor::window::{Window, WindowRound};
use faer::{MatRef, Side, linalg::solvers::SelfAdjointEigen};
use rayon::prelude::*;
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// Eigendecompositions up to this width are made for every prefix; larger ones when the prefix grew fourfold.
const CHEAP_WIDTH: usize = 128;
/// Rounds whose inputs go into one product.
const TOGETHER: usize = 8;
/// The mean curvature and the mean Jacobian are taken over every so manieth round, as they change slowly, and so are the moments of inputs that
/// are kept by columns, as they cost most.
const EVERY: usize = 4;
/// So many rounds all count for the mean curvature and the moments: short prefixes have no others.
const ALL: usize = 64;

/// Applies `solve` of one block after the other to a residual of them all.
pub(crate) fn solve_blocks<'a>(
    factors: impl Iterator<Item = &'a KroneckerFactors>,
    residual: &[f64],
    solve: impl Fn(&KroneckerFactors, &[f64]) -> Vec<f64>,
) -> Vec<f64> {
    let mut out = Vec::with_capacity(residual.len());
    let mut rest = residual;
    for factors in factors {
        let (own, tail) = rest.split_at(factors.len());
        out.extend(solve(factors, own));
        rest = tail;
    }
    out
}

/// The Kronecker factors `mean M (x) mean x x'` of every block, for every prefix.
pub struct Preconditioners {
    /// Per block: prefix length and factors, increasing.
    blocks: Vec<Vec<(usize, KroneckerFactors)>>,
}

impl Preconditioners {
    /// Averages over all rounds of each prefix; with `beside_output` also what the hidden blocks share with the output block, for
    /// preconditioning at network scale (quadratic losses).
    pub fn new(window: &Window<f64>, prefixes: &[usize], beside_output: bool) -> Self {
        Self::until(window, prefixes, beside_output, &AtomicBool::new(false)).expect("nobody stops it")
    }

    /// The same, or nothing once `stop` is set.
    pub fn until(window: &Window<f64>, prefixes: &[usize], beside_output: bool, stop: &AtomicBool) -> Option<Self> {
        let stopped = || stop.load(Ordering::Relaxed);
        let network = window.network();
        let blocks = network.blocks();
        let quadratic = window.loss().is_quadratic();
        let last = blocks.len() - 1;
        let shared = beside_output && quadratic;
        let zero = || -> Vec<Moments> {
            let one = |(l, block): (usize, &Block)| {
                Moments::zero(block.units, block.width(), (shared && l < last).then(|| &blocks[last]))
            };
            blocks.iter().enumerate().map(one).collect()
        };
        let mut sums = zero();
        // The moments of the prefixes that get factors; their eigendecompositions come afterwards, side by side.
        let mut due: Vec<Vec<(usize, Moments)>> = blocks.iter().map(|_| Vec::new()).collect();
        let mut from = 0;
        for rounds in prefixes {
            let new: Vec<usize> = (from..*rounds).collect();
            from = *rounds;
            let partial: Vec<Vec<Moments>> = new
                .par_chunks(new.len().div_ceil(8).max(1))
                .with_max_len(1)
                .map(|piece| {
                    let mut part = zero();
                    let mut inputs: Vec<Vec<f64>> = vec![Vec::new(); blocks.len()];
                    for rounds in piece.chunks(TOGETHER).take_while(|_| !stopped()) {
                        inputs.iter_mut().for_each(Vec::clear);
                        let regular = |index: usize| index.is_multiple_of(EVERY);
                        let counted: Vec<usize> =
                            rounds.iter().copied().filter(|index| regular(*index) || *index < ALL).collect();
                        for index in rounds {
                            let (regular, counts) = (regular(*index), counted.contains(index));
                            window.with_round(*index, |round| {
                                for (l, (block, inputs)) in blocks.iter().zip(&mut inputs).enumerate() {
                                    if counts || l > 0 || !window.by_columns() {
                                        append_inputs(block, round.tape.input(l, round.x), inputs);
                                    }
                                }
                                if counts {
                                    add_curvature(window, &round, &mut part);
                                }
                                if shared && regular {
                                    add_jacobians(window, &round, &mut part);
                                }
                            });
                        }
                        let inner = blocks[last].width();
                        let output = View::new(&inputs[last], inputs[last].len() / inner, inner);
                        for (l, ((block, x), moments)) in blocks.iter().zip(&inputs).zip(&mut part).enumerate() {
                            let width = block.width();
                            let view = View::new(x, x.len() / width, width);
                            moments.rows += x.len() / width;
                            if l == 0 && window.by_columns() {
                                window.add_input_products(&counted, x, width, &mut moments.x);
                                if let Some(shared) = &mut moments.shared {
                                    window.add_input_products(rounds, &inputs[last], inner, &mut shared.x);
                                }
                                continue;
                            }
                            matmul(&mut moments.x, width, view.t(), view, true);
                            if let Some(shared) = &mut moments.shared {
                                matmul(&mut shared.x, inner, view.t(), output, true);
                            }
                        }
                    }
                    part
                })
                .collect();
            if stopped() {
                return None;
            }
            for part in partial {
                sums.iter_mut().zip(&part).for_each(|(sum, part)| sum.add(part));
            }
            for (l, (list, sum)) in due.iter_mut().zip(&sums).enumerate() {
                let grown = list.last().is_none_or(|(before, _)| *rounds >= 4 * before);
                if grown || blocks[l].width() <= CHEAP_WIDTH || (l == last && shared) {
                    list.push((*rounds, sum.clone()));
                }
            }
        }
        let scale = |rounds: usize| 1.0 / (rounds * window.batch()) as f64;
        let decomposed = |list: Vec<(usize, Moments)>, exact, outputs: &[(usize, KroneckerFactors)]| {
            // Decompositions that are left are left out: all of it is given up then.
            let factors = |(rounds, sum): &(usize, Moments)| {
                if stopped() {
                    return None;
                }
                let output = outputs.iter().find(|(n, _)| n == rounds).map(|(_, output)| output);
                Some((*rounds, sum.factors(scale(*rounds), exact, output)))
            };
            list.par_iter().with_max_len(1).filter_map(factors).collect::<Vec<_>>()
        };
        let output = due.pop().map(|list| decomposed(list, quadratic, &[])).unwrap_or_default();
        let mut factors: Vec<_> =
            due.into_par_iter().with_max_len(1).map(|list| decomposed(list, false, &output)).collect();
        factors.push(output);
        (!stopped()).then_some(Self { blocks: factors })
    }

    /// The factors of a block for the longest prefix known up to `rounds`.
    pub(crate) fn factors(&self, block: usize, rounds: usize) -> &KroneckerFactors {
        let list = &self.blocks[block];
        &list[list.partition_point(|(n, _)| *n <= rounds).saturating_sub(1)].1
    }
}

/// Sums of `M` and `x x'` over rows.
#[derive(Clone)]
struct Moments {
    units: usize,
    width: usize,
    /// `[units, units]`, empty as long as all curvatures are multiples of the identity.
    m: Vec<f64>,
    /// The sum of those multiples.
    multiple: f64,
    /// Datapoints whose curvature has been added.
    curved: usize,
    /// `[width, width]`, over this many rows.
    x: Vec<f64>,
    rows: usize,
    shared: Option<SharedMoments>,
}

/// Sums that couple a hidden block to the output block.
#[derive(Clone)]
struct SharedMoments {
    /// Of `x h'`: `[width, width of the output block]`.
    x: Vec<f64>,
    /// Of the output Jacobian, `[outputs, units]`, over this many datapoints.
    jacobian: Vec<f64>,
    count: usize,
}

impl Moments {
    fn zero(units: usize, width: usize, output: Option<&Block>) -> Self {
        let shared = output.map(|output| SharedMoments {
            x: vec![0.0; width * output.width()],
            jacobian: vec![0.0; output.units * units],
            count: 0,
        });
        Self { units, width, m: Vec::new(), multiple: 0.0, curved: 0, x: vec![0.0; width * width], rows: 0, shared }
    }

    fn add(&mut self, other: &Self) {
        if self.m.is_empty() {
            self.m.clone_from(&other.m);
        } else {
            self.m.iter_mut().zip(&other.m).for_each(|(a, b)| *a += b);
        }
        self.multiple += other.multiple;
        self.curved += other.curved;
        self.rows += other.rows;
        self.x.iter_mut().zip(&other.x).for_each(|(a, b)| *a += b);
        if let (Some(shared), Some(other)) = (&mut self.shared, &other.shared) {
            shared.x.iter_mut().zip(&other.x).for_each(|(a, b)| *a += b);
            shared.jacobian.iter_mut().zip(&other.jacobian).for_each(|(a, b)| *a += b);
            shared.count += other.count;
        }
    }

    /// The factors, given those of the output block for a block that shares with it; `scale` is 1 over the rows of a prefix.
    fn factors(&self, scale: f64, exact: bool, output: Option<&KroneckerFactors>) -> KroneckerFactors {
        let mean = 1.0 / self.curved.max(1) as f64;
        let units = if self.m.is_empty() {
            Eigen { values: vec![self.multiple * mean; self.units], vectors: None }
        } else {
            Eigen::new(&self.m, self.units, mean)
        };
        let inputs = Eigen::new(&self.x, self.width, 1.0 / self.rows.max(1) as f64);
        let shared = self.shared.as_ref().zip(output).and_then(|(shared, output)| {
            let (u, v, w) = (units.vectors()?, inputs.vectors()?, output.inputs.vectors()?);
            let inner = output.inputs.values.len();
            let outputs = shared.jacobian.len() / self.units;
            // c (mean J)'(mean J), in the eigenvectors of the units.
            let jacobian = matmul_shared(View::new(&shared.jacobian, outputs, self.units), u.t());
            let jacobian = View::new(&jacobian, outputs, self.units);
            let mut square = matmul_shared(jacobian.t(), jacobian);
            let mean = 1.0 / shared.count.max(1) as f64;
            square.iter_mut().for_each(|v| *v *= output.units.top() * mean * mean);
            let roots = matmul_shared(v, View::new(&shared.x, self.width, inner));
            let mut roots = matmul_shared(View::new(&roots, self.width, inner), w.t());
            let floor = TRUSTED * output.inputs.top();
            let inverse_root = |value: &f64| if *value > floor { scale / value.sqrt() } else { 0.0 };
            let factors: Vec<f64> = output.inputs.values.iter().map(inverse_root).collect();
            for row in roots.chunks_exact_mut(inner) {
                row.iter_mut().zip(&factors).for_each(|(v, factor)| *v *= factor);
            }
            Some(Shared { units: square, roots, inner, prepared: Mutex::default() })
        });
        KroneckerFactors { units, inputs, exact, shared }
    }
}

/// Adds a round's curvatures to the moments.
fn add_curvature(window: &Window<f64>, round: &WindowRound<f64>, moments: &mut [Moments]) {
    let network = window.network();
    let blocks = network.blocks();
    let rows = round.tape.rows;
    let mut storage = Vec::new();
    let top = window.loss().hessian_factor(round.output, network.outputs(), &mut storage);
    curvature_factors(network, round.weights, round.tape, top, 0, true, |l, factor| {
        let (moments, units) = (&mut moments[l], blocks[l].units);
        moments.curved += rows;
        let (values, count, times) = match factor {
            Factor::Identity { scale } => {
                moments.multiple += rows as f64 * scale * scale;
                return;
            }
            Factor::Shared { values, rank } => (values, rank, rows),
            Factor::PerRow { values, rank } => (values, rows * rank, 1),
        };
        moments.m.resize(units * units, 0.0);
        let view = View::new(values, count, units);
        for _ in 0..times {
            matmul(&mut moments.m, units, view.t(), view, true);
        }
    });
}

/// Adds a round's output Jacobians to the moments of the hidden blocks.
fn add_jacobians(window: &Window<f64>, round: &WindowRound<f64>, moments: &mut [Moments]) {
    let network = window.network();
    let output = &network.blocks()[network.blocks().len() - 1];
    let w = matrix(output, round.weights);
    let rows = round.tape.rows;
    hidden_jacobians(network, round.weights, round.tape, 0, |l, values| {
        let Moments { units, shared: Some(shared), .. } = &mut moments[l] else { return };
        let mut sum = vec![0.0; output.inputs * *units];
        for row in values.chunks_exact(sum.len()) {
            sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
        }
        matmul(&mut shared.jacobian, *units, w, View::new(&sum, output.inputs, *units), true);
        shared.count += rows;
    });
}

/// `sum_j values[j] v_j v_j'`; without vectors the standard basis.
struct Eigen {
    values: Vec<f64>,
    /// One after the other.
    vectors: Option<Vec<f64>>,
}

impl Eigen {
    fn new(matrix: &[f64], width: usize, scale: f64) -> Self {
        let view = MatRef::from_row_major_slice(matrix, width, width);
        match SelfAdjointEigen::new(view, Side::Lower) {
            Ok(eigen) => Self {
                values: eigen.S().column_vector().iter().map(|v| (v * scale).max(0.0)).collect(),
                vectors: Some(eigen.U().col_iter().flat_map(|v| v.iter().copied()).collect()),
            },
            // Not a good preconditioner any more, but the iteration stays correct.
            Err(_) => Self { values: vec![1.0; width], vectors: None },
        }
    }

    /// The matrix with the vectors as rows: it takes a vector to its coordinates.
    fn vectors(&self) -> Option<View<'_, f64>> {
        let width = self.values.len();
        self.vectors.as_ref().map(|vectors| View::new(vectors, width, width))
    }

    fn top(&self) -> f64 {
        self.values.iter().copied().fold(0.0, f64::max)
    }
}

/// Inputs that share less than this of their variance with the output block's inputs share nothing.
const SMALLEST_SHARE: f64 = 1e-9;
/// The output block takes over at most this share of a direction's curvature: both shares are estimates.
const LARGEST_SHARE: f64 = 0.999;

/// Curvature below this fraction of the largest is not trusted: there the mean of products differs from the product of means.
const TRUSTED: f64 = 1e-5;

/// `mean M (x) mean x x'` in its eigenbasis, for systems with a shift.
pub struct KroneckerFactors {
    units: Eigen,
    inputs: Eigen,
    /// Whether the curvature is this product, not just about so: the output layer's under the mean squared error.
    exact: bool,
    shared: Option<Shared>,
}

/// What a hidden block shares with the output block, in the eigenvectors of its own factors.
struct Shared {
    /// `c (mean J)'(mean J)`: `[units, units]`.
    units: Vec<f64>,
    /// `B: [width, inner]` with `B B' = (mean x h') (mean h h')^-1 (mean h x')`.
    roots: Vec<f64>,
    /// Width of the output block.
    inner: usize,
    /// For the shifts of the last systems.
    prepared: Mutex<Vec<Arc<Prepared>>>,
}

/// Shifts that a block keeps preparations for: those that two searches go through.
const PREPARED: usize = 6;

/// What [`KroneckerFactors::solve_beside_output`] needs for one shift, in the symbols of its text.
struct Prepared {
    shift: f64,
    /// The inverses of `L` and `R`, which are diagonal in the eigenvectors of the factors.
    left: Vec<f64>,
    right: Vec<f64>,
    /// The `u_i` as rows, and `mu`.
    units: Vec<f64>,
    squares: Vec<f64>,
    /// The `v_j` as rows, and `nu`.
    v: Vec<f64>,
    nu: Vec<f64>,
}

/// The nearest power of two.
fn rounded(positive: f64) -> f64 {
    positive.log2().round().exp2()
}

impl KroneckerFactors {
    /// From the sums `m: [units, units]` and `x: [width, width]`, each with its scale; an approximation.
    pub(crate) fn new(m: (&[f64], f64), units: usize, x: (&[f64], f64), width: usize) -> Self {
        Self { units: Eigen::new(m.0, units, m.1), inputs: Eigen::new(x.0, width, x.1), exact: false, shared: None }
    }

    /// Weights of the block.
    pub(crate) fn len(&self) -> usize {
        self.units.values.len() * self.inputs.values.len()
    }

    /// `(m X + shift I)^-1 r` for one unit, `r: [width]`, with `m` the mean of the units' curvatures.
    pub(crate) fn solve_row(&self, shift: f64, residual: &[f64]) -> Vec<f64> {
        let mean = self.units.values.iter().sum::<f64>() / self.units.values.len() as f64;
        let floor = (TRUSTED * mean * self.inputs.top()).max(f64::MIN_POSITIVE);
        let width = residual.len();
        let mut hat = match self.inputs.vectors() {
            Some(v) => matmul_shared(v, View::new(residual, width, 1)),
            None => residual.to_vec(),
        };
        hat.iter_mut().zip(&self.inputs.values).for_each(|(h, value)| *h /= mean * value + shift + floor);
        match self.inputs.vectors() {
            Some(v) => matmul_shared(v.t(), View::new(&hat, width, 1)),
            None => hat,
        }
    }

    /// `(M (x) X + shift I)^-1 r` for `r: [units, width]`; directions without curvature are damped, not divided by zero.
    pub(crate) fn solve(&self, shift: f64, residual: &[f64]) -> Vec<f64> {
        let mut hat = self.rotate(residual);
        let damping = shift + self.floor();
        for (row, x) in hat.chunks_exact_mut(self.units.values.len()).zip(&self.inputs.values) {
            row.iter_mut().zip(&self.units.values).for_each(|(h, m)| *h /= m * x + damping);
        }
        self.rotate_back(hat)
    }

    /// The same with the curvature that is left when the output block follows: see the module's text.
    ///
    /// The shift goes to both factors (Martens and Grosse, "Optimizing neural networks with Kronecker-factored approximate
    /// curvature", 2015, section 6.3), so that the sum of two products is diagonal in one basis: with `M + d_m = L L'` and `X + d_x = R R'`,
    /// `S = (L (x) R) (I - sum_ij mu_i nu_j (u_i v_j)(u_i v_j)') (L (x) R)'`, where `mu, u` are the eigenvalues of
    /// `L^-1 c (mean J)'(mean J) L'^-1`, and `nu, v` those of `R^-1 B B' R'^-1`, of which there are few.
    ///
    /// The shift is rounded to a power of two, so that the searches of a prefix share what was prepared for it.
    pub(crate) fn solve_beside_output(&self, shift: f64, residual: &[f64]) -> Vec<f64> {
        let Some(prepared) = self.shared.as_ref().and_then(|shared| self.prepared(shared, shift)) else {
            return self.solve(shift, residual);
        };
        let Prepared { left, right, units, squares, v, nu, .. } = &*prepared;
        let (count, width, inner) = (left.len(), right.len(), nu.len());
        let (u, v) = (View::new(units, count, count), View::new(v, inner, width));
        let scale = |hat: &mut [f64]| {
            for (row, r) in hat.chunks_exact_mut(count).zip(right) {
                row.iter_mut().zip(left).for_each(|(h, l)| *h *= l * r);
            }
        };
        let mut hat = self.rotate(residual);
        scale(&mut hat);
        let core = matmul_shared(v, View::new(&hat, width, count));
        let mut core = matmul_shared(View::new(&core, inner, count), u.t());
        for (row, nu) in core.chunks_exact_mut(count).zip(nu) {
            for (c, mu) in row.iter_mut().zip(squares) {
                let taken = (mu * nu).clamp(0.0, LARGEST_SHARE);
                *c *= taken / (1.0 - taken);
            }
        }
        let core = matmul_shared(View::new(&core, inner, count), u);
        let taken = matmul_shared(v.t(), View::new(&core, inner, count));
        hat.iter_mut().zip(&taken).for_each(|(h, t)| *h += t);
        scale(&mut hat);
        self.rotate_back(hat)
    }

    /// What systems with about this shift need; `None` where the shares cannot be told apart from rounding.
    fn prepared(&self, shared: &Shared, shift: f64) -> Option<Arc<Prepared>> {
        let shift = rounded(shift + self.floor());
        let known = || shared.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prepared) = known().iter().find(|prepared| prepared.shift == shift) {
            return Some(prepared.clone());
        }
        // Not locked meanwhile: a thread that waits for its share of the work may take up other work.
        let prepared = Arc::new(self.prepare(shared, shift)?);
        let mut known = known();
        if known.len() == PREPARED {
            known.remove(0);
        }
        known.push(prepared.clone());
        Some(prepared)
    }

    fn prepare(&self, shared: &Shared, shift: f64) -> Option<Prepared> {
        let (count, width, inner) = (self.units.values.len(), self.inputs.values.len(), shared.inner);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let ratio = (mean(&self.inputs.values) / mean(&self.units.values)).sqrt();
        let damping = shift.sqrt();
        if !(ratio > 0.0 && ratio.is_finite() && damping > 0.0) {
            return None;
        }
        let inverse_root = |values: &[f64], damping: f64| -> Vec<f64> {
            values.iter().map(|value| 1.0 / (value + damping).sqrt()).collect()
        };
        let left = inverse_root(&self.units.values, damping / ratio);
        let right = inverse_root(&self.inputs.values, damping * ratio);
        // Rows times their factors.
        let scaled = |rows: &[f64], factors: &[f64]| -> Vec<f64> {
            let rows = rows.chunks_exact(rows.len() / factors.len()).zip(factors);
            rows.flat_map(|(row, factor)| row.iter().map(move |v| v * factor)).collect()
        };
        let b = scaled(&shared.roots, &right);
        let b = View::new(&b, width, inner);
        let mut m = scaled(&shared.units, &left);
        m.chunks_exact_mut(count).for_each(|row| row.iter_mut().zip(&left).for_each(|(v, l)| *v *= l));
        let (inputs, units) =
            rayon::join(|| Eigen::new(&matmul_shared(b.t(), b), inner, 1.0), || Eigen::new(&m, count, 1.0));
        // The v_j as rows.
        let v = matmul_shared(inputs.vectors()?, b.t());
        let factor = |nu: &f64| if *nu > SMALLEST_SHARE { 1.0 / nu.sqrt() } else { 0.0 };
        let v = scaled(&v, &inputs.values.iter().map(factor).collect::<Vec<f64>>());
        Some(Prepared { shift, left, right, v, nu: inputs.values, squares: units.values, units: units.vectors? })
    }

    /// What is added to every shift.
    fn floor(&self) -> f64 {
        let trusted = if self.exact { 1e-14 } else { TRUSTED };
        (trusted * self.units.top() * self.inputs.top()).max(f64::MIN_POSITIVE)
    }

    /// `V' r' U: [width, units]` of `r: [units, width]`.
    fn rotate(&self, residual: &[f64]) -> Vec<f64> {
        let (units, width) = (self.units.values.len(), self.inputs.values.len());
        let r = View::new(residual, units, width);
        let rotated = self.units.vectors().map(|u| matmul_shared(u, r));
        let r = rotated.as_ref().map_or(r, |rotated| View::new(rotated, units, width)).t();
        match self.inputs.vectors() {
            Some(v) => matmul_shared(v, r),
            None => r.to_vec(),
        }
    }

    /// The inverse of [`KroneckerFactors::rotate`].
    fn rotate_back(&self, hat: Vec<f64>) -> Vec<f64> {
        let (units, width) = (self.units.values.len(), self.inputs.values.len());
        let hat = match self.inputs.vectors() {
            Some(v) => matmul_shared(v.t(), View::new(&hat, width, units)),
            None => hat,
        };
        let hat = View::new(&hat, width, units).t();
        match self.units.vectors() {
            Some(u) => matmul_shared(u.t(), hat),
            None => hat.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faer::{
        Mat,
        linalg::solvers::{PartialPivLu, Solve},
    };

    /// Row-major `[rows, cols]` without structure.
    fn wave(rows: usize, cols: usize, frequency: f64) -> Vec<f64> {
        (0..rows * cols).map(|i| (i as f64 * frequency).sin()).collect()
    }

    fn gram(values: &[f64], rows: usize, cols: usize) -> Vec<f64> {
        let mut out = vec![0.0; cols * cols];
        matmul(&mut out, cols, View::new(values, rows, cols).t(), View::new(values, rows, cols), false);
        out
    }

    #[test]
    fn the_curvature_beside_the_output_block_is_inverted_as_a_dense_matrix() {
        // Inputs x of a hidden block and h of the output block over 40 datapoints, of which half the Jacobians' square is their mean's.
        let (units, width, inner, outputs, rows) = (3, 5, 4, 6, 40);
        let (x, h) = (wave(rows, width, 0.37), wave(rows, inner, 0.71));
        let jacobian = wave(outputs, units, 0.53);
        let scale = 1.0 / rows as f64;
        let mut cross = vec![0.0; width * inner];
        matmul(&mut cross, inner, View::new(&x, rows, width).t(), View::new(&h, rows, inner), false);
        let mut output = Moments::zero(outputs, inner, None);
        (output.x, output.multiple, output.curved) = (gram(&h, rows, inner), 0.25 * rows as f64, rows);
        output.rows = rows;
        let output = output.factors(scale, true, None);
        let mut hidden =
            Moments { m: gram(&jacobian, outputs, units), curved: rows, rows, ..Moments::zero(units, width, None) };
        hidden.m.iter_mut().for_each(|v| *v *= 2.0 * 0.25 * rows as f64);
        hidden.x = gram(&x, rows, width);
        hidden.shared = Some(SharedMoments {
            x: cross.clone(),
            jacobian: jacobian.iter().map(|v| v * rows as f64).collect(),
            count: rows,
        });
        let factors = hidden.factors(scale, false, Some(&output));

        let shift = 1e-3;
        let residual = wave(units, width, 1.9);
        let found = factors.solve_beside_output(shift, &residual);

        // The same from its definition: M (x) X with the shift shared out, less c J'J (x) (x h') (h h')^-1 (h x').
        let dense = |values: &[f64], n: usize, factor: f64| Mat::from_fn(n, n, |i, j| values[i * n + j] * factor);
        let (mut m, mut big) = (dense(&hidden.m, units, scale), dense(&hidden.x, width, scale));
        let hh = dense(&gram(&h, rows, inner), inner, scale);
        let xh = Mat::from_fn(width, inner, |i, j| cross[i * inner + j] * scale);
        let taken = &xh * PartialPivLu::new(hh.as_ref()).solve(xh.transpose().to_owned());
        let trace = |a: &Mat<f64>| (0..a.nrows()).map(|i| a[(i, i)]).sum::<f64>() / a.nrows() as f64;
        let ratio = (trace(&big) / trace(&m)).sqrt();
        let damping = rounded(shift + factors.floor()).sqrt();
        (0..units).for_each(|i| m[(i, i)] += damping / ratio);
        (0..width).for_each(|i| big[(i, i)] += damping * ratio);
        let square = gram(&jacobian, outputs, units);
        let system = Mat::from_fn(units * width, units * width, |a, b| {
            let ((i, k), (j, l)) = ((a / width, a % width), (b / width, b % width));
            m[(i, j)] * big[(k, l)] - 0.25 * square[i * units + j] * taken[(k, l)]
        });
        let expected = PartialPivLu::new(system.as_ref()).solve(Mat::from_fn(units * width, 1, |i, _| residual[i]));
        for (i, value) in found.iter().enumerate() {
            assert!((value - expected[(i, 0)]).abs() < 1e-8 * expected.norm_max(), "{i}: {value} {}", expected[(i, 0)]);
        }
        // The same once more, from what was prepared, and with another shift in between.
        let other = factors.solve_beside_output(64.0 * shift, &residual);
        assert!(other != found && factors.solve_beside_output(shift, &residual) == found);
        // It is not the inverse without the output block.
        let alone = factors.solve(shift, &residual);
        assert!(alone.iter().zip(&found).any(|(a, b)| (a - b).abs() > 0.05 * expected.norm_max()));
    }
}
