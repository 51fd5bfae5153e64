use super::*;
use crate::{
    data::RoundRows,
    loss::Loss,
    taylor::{
        objective::{Direction, Objective},
        output_loss::OutputLoss,
        solve::basis::Subspace,
    },
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::AtomicBool;

const CLASSES: usize = 3;
/// Datapoints of the rounds.
const SIZES: [usize; 4] = [20, 20, 7, 20];

/// A classifier whose outputs are `f + G u`, with the numbers of all rounds.
struct Linear {
    dimension: usize,
    rounds: usize,
    /// `[rows, classes, dimension]`.
    g: Vec<f64>,
    /// `[rows, classes]`.
    f: Vec<f64>,
    moved: Vec<f64>,
    loss: OutputLoss<'static>,
}

impl Linear {
    /// With classes that follow the inputs if they are `separable`, else at random.
    fn new(dimension: usize, separable: bool, seed: u64) -> Self {
        let rows: &'static RoundRows =
            Box::leak(Box::new(RoundRows::of_sizes((0..SIZES.iter().sum::<usize>() as u32).collect(), SIZES).unwrap()));
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let count = rows.rows().len();
        let mut random = |n: usize| -> Vec<f64> { (0..n).map(|_| rng.random::<f64>() - 0.5).collect() };
        let (g, f, best) = (random(count * CLASSES * dimension), random(count * CLASSES), random(dimension));
        let score = |row: usize, class: usize| dot(&g[(row * CLASSES + class) * dimension..][..dimension], &best);
        let label = |row: usize| match separable {
            true => (0..CLASSES).max_by(|a, b| score(row, *a).total_cmp(&score(row, *b))).unwrap(),
            false => (f[row * CLASSES] * 1e6).abs() as usize % CLASSES,
        };
        let labels = (0..count).map(|row| label(row) as u32).collect();
        let loss = OutputLoss::new(Loss::CrossEntropy, CLASSES, rows, labels);
        Self { dimension, rounds: SIZES.len(), g, f, moved: Vec::new(), loss }
    }

    /// Numbers in the outputs of the rounds.
    fn count(&self, rounds: usize) -> usize {
        SIZES[..rounds].iter().sum::<usize>() * CLASSES
    }

    fn rows(&self, from: usize) -> impl Iterator<Item = &[f64]> {
        let outputs = self.count(from)..self.count(self.rounds);
        self.g[outputs.start * self.dimension..outputs.end * self.dimension].chunks_exact(self.dimension)
    }
}

impl Objective for Linear {
    fn dimension(&self) -> usize {
        self.dimension
    }

    fn is_quadratic(&self) -> bool {
        false
    }

    fn rounds(&self) -> usize {
        self.rounds
    }

    fn evaluate(&self, u: &[f64]) -> (f64, Vec<f64>) {
        let Expansion { value, gradient, .. } = self.expand(u);
        (value, gradient)
    }

    fn linearize(&mut self, u: &[f64]) {
        self.moved = self.expand(u).outputs;
    }

    fn ggn_products(&self, from: usize, directions: &[&[f32]]) -> Vec<Vec<f32>> {
        assert_eq!(from, 0, "curvature that changes is computed whole");
        let softmax = self.loss.softmax(self.rounds, &self.moved);
        let bent = self.loss.hessian_products(self.rounds, &softmax, &self.tangents(0, directions));
        bent.iter().map(|bent| self.pull(bent)).collect()
    }

    fn precondition(&self, _: f64, residual: &[f64]) -> Direction {
        residual.iter().enumerate().map(|(at, r)| r / (1.0 + at as f64)).collect::<Vec<f64>>().into()
    }

    fn by_outputs(&self) -> Option<&dyn ByOutputs> {
        Some(self)
    }
}

impl ByOutputs for Linear {
    fn loss(&self) -> &OutputLoss<'_> {
        &self.loss
    }

    fn expand(&self, u: &[f64]) -> Expansion {
        let outputs: Vec<f64> = self.rows(0).zip(&self.f).map(|(g, f)| f + dot(g, u)).collect();
        let (value, cotangents) = self.loss.value_gradient(self.rounds, &outputs);
        let mut gradient = vec![0.0; self.dimension];
        for (g, c) in self.rows(0).zip(&cotangents) {
            gradient.iter_mut().zip(g).for_each(|(sum, g)| *sum += c * g);
        }
        Expansion { value, gradient, outputs }
    }

    fn tangents(&self, from: usize, directions: &[&[f32]]) -> Vec<Vec<f32>> {
        let one = |d: &&[f32]| convert(&self.rows(from).map(|g| dot(g, &convert::<f32, f64>(d))).collect::<Vec<_>>());
        directions.iter().map(one).collect()
    }

    fn pull(&self, cotangents: &[f32]) -> Vec<f32> {
        let mut sum = vec![0.0; self.dimension];
        for (g, c) in self.rows(0).zip(cotangents) {
            sum.iter_mut().zip(g).for_each(|(sum, g)| *sum += f64::from(*c) * g);
        }
        convert(&sum)
    }

    fn displacements(&self, _: usize) -> Vec<Vec<f64>> {
        vec![vec![0.0; self.dimension], vec![1e-3; self.dimension]]
    }
}

fn search(radius: Option<f64>, max_products: usize) -> Search<'static> {
    static NEVER: AtomicBool = AtomicBool::new(false);
    let comparison = Comparison { radius, displacement: 1.0 };
    Search { comparison, tolerance: 1e-6, max_products, stop: &NEVER, tick: &|_| () }
}

/// Newton's method on models, which shares only the dense solvers.
fn by_models(objective: &mut Linear, radius: Option<f64>) -> Optimum {
    let dimension = objective.dimension;
    search(radius, 5000).run(objective, &vec![0.0; dimension], &mut Subspace::new(300))
}

#[test]
fn optima_agree_with_those_of_newtons_method_on_models() {
    for (seed, radius) in (1..).zip([0.3, 2.0, 20.0]) {
        // The wide one needs more vectors than fit, the narrow one has its minimizer inside of the largest ball.
        for dimension in [4, 150] {
            let mut objective = Linear::new(dimension, false, seed);
            let found = search(Some(radius), 2000).run_by_outputs(&objective, &mut Span::new(0));
            let expected = by_models(&mut objective, Some(radius));
            let what = format!("{radius} {dimension}: {found:?} {expected:?}");
            assert_eq!(found.stop, StopReason::Converged, "{what}");
            assert!(found.gap <= 1e-6 && expected.gap <= 1e-6 && found.distance <= radius * (1.0 + 1e-6), "{what}");
            assert!(found.value <= expected.value + 1e-6 && expected.value <= found.value + 1e-6, "{what}");
            let (value, _) = objective.evaluate(&found.displacement);
            assert!((value - found.value).abs() < 1e-13, "{what}: {value}");
        }
    }
}

#[test]
fn the_basis_of_a_short_prefix_serves_a_longer_one() {
    let mut objective = Linear::new(30, false, 5);
    let mut span = Span::new(100);
    let mut spent = Vec::new();
    for rounds in 1..=SIZES.len() {
        objective.rounds = rounds;
        let found = search(Some(2.0), 500).run_by_outputs(&objective, &mut span);
        let alone = search(Some(2.0), 500).run_by_outputs(&objective, &mut Span::new(100));
        assert!(
            (found.value - alone.value).abs() <= 1e-6 && found.stop == StopReason::Converged,
            "{found:?} {alone:?}"
        );
        spent.push((found.iterations, alone.iterations));
    }
    assert!(spent[1..].iter().all(|(together, alone)| together < alone), "{spent:?}");
}

#[test]
fn a_ball_that_is_a_point_holds_its_center_only() {
    let objective = Linear::new(5, false, 1);
    let found = search(Some(0.0), 100).run_by_outputs(&objective, &mut Span::new(0));
    assert_eq!((found.gap, found.stop, found.distance), (0.0, StopReason::Converged, 0.0));
}

#[test]
fn separable_classes_have_no_minimizer_and_a_small_budget_leaves_a_gap() {
    let mut objective = Linear::new(8, true, 3);
    objective.loss = Linear::new(8, true, 3).loss;
    objective.f.fill(0.0);
    let near = Comparison { radius: None, displacement: 0.01 };
    let far = Search { comparison: near, ..search(None, 3000) }.run_by_outputs(&objective, &mut Span::new(0));
    assert!(!far.attained && far.stop == StopReason::AtInfinity && (far.distance - 10.0).abs() < 0.02, "{far:?}");
    // What is best in the ball of that radius.
    let ball = by_models(&mut objective, Some(10.0));
    assert!(far.value <= ball.value * 1.01, "{far:?} {ball:?}");
    let short = search(Some(50.0), 2).run_by_outputs(&Linear::new(150, false, 3), &mut Span::new(0));
    assert!(short.stop == StopReason::Iterations && short.gap > 1e-6 && short.iterations <= 5, "{short:?}");
}

#[test]
fn a_search_that_is_halted_ends_with_a_certificate() {
    let stop = AtomicBool::new(true);
    let objective = Linear::new(40, false, 2);
    let found = Search { stop: &stop, ..search(Some(5.0), 500) }.run_by_outputs(&objective, &mut Span::new(0));
    let whole = search(Some(5.0), 500).run_by_outputs(&objective, &mut Span::new(0));
    assert_eq!(found.stop, StopReason::Halted);
    assert!(found.value - found.gap <= whole.value && whole.value - whole.gap <= found.value, "{found:?} {whole:?}");
}
