//! What the iterative solvers minimize: a mean of Taylor losses over the first rounds of a run (`docs/theory.md`, sections 2 and 4).

use super::{Expansion, output_loss::OutputLoss};

/// A convex function `F` of the displacement `u = V - W^1`, the mean over some first rounds.
pub trait Objective: Sync {
    fn dimension(&self) -> usize;
    /// Whether the curvature is the same everywhere.
    fn is_quadratic(&self) -> bool;
    /// Rounds that the mean is over.
    fn rounds(&self) -> usize;
    /// `F(u)` and its gradient, to full precision.
    fn evaluate(&self, u: &[f64]) -> (f64, Vec<f64>);
    /// [`Objective::evaluate`] at two points.
    fn evaluate_both(&self, points: [&[f64]; 2]) -> [(f64, Vec<f64>); 2] {
        points.map(|u| self.evaluate(u))
    }
    /// The mean displacement of training, `W^n - W^1` over rounds `from..rounds()`, if it is known: worth searching along, as Taylor losses
    /// are low where training was.
    fn mean_displacement(&self, _from: usize) -> Option<Vec<f64>> {
        None
    }
    /// Makes the curvature at `u` the one that [`Objective::ggn_products`] multiplies with.
    fn linearize(&mut self, u: &[f64]);
    /// The generalized Gauss-Newton matrix times each direction: the sum over rounds `from..rounds()`, divided by [`Objective::rounds`].
    fn ggn_products(&self, from: usize, directions: &[&[f32]]) -> Vec<Vec<f32>>;
    /// Vectors of a basis before the plain residual takes its turn: as far as the preconditioner leads better alone. A block's own factors do so
    /// for a while, those of several blocks, which know nothing of each other, do not.
    fn preconditioned_first(&self) -> usize {
        0
    }
    /// An approximation of `(H + multiplier I)^-1 residual`.
    fn precondition(&self, multiplier: f64, residual: &[f64]) -> Direction;
    /// The same objective by its outputs, if there is more to gain from them than from the curvature at one point.
    fn by_outputs(&self) -> Option<&dyn ByOutputs> {
        None
    }
}

/// An objective whose losses are those of outputs that are linear in the displacement, `F(u) = sum_i s_i loss(f_i + J_i u)`, with the passes
/// through the Jacobians by themselves. Outputs and their cotangents are `[rows, outputs]`, round by round.
pub trait ByOutputs: Objective {
    /// The loss of the outputs.
    fn loss(&self) -> &OutputLoss<'_>;
    /// `F(u)`, its gradient and the outputs, to full precision.
    fn expand(&self, u: &[f64]) -> Expansion;
    /// `J d` of rounds `from..rounds()` for each direction `d`.
    fn tangents(&self, from: usize, directions: &[&[f32]]) -> Vec<Vec<f32>>;
    /// `J'c` over all rounds.
    fn pull(&self, cotangents: &[f32]) -> Vec<f32>;
    /// The displacements of training before some of the rounds `from..rounds()`: worth searching along, as Taylor losses are low where training
    /// was.
    fn displacements(&self, from: usize) -> Vec<Vec<f64>>;
}

/// [`Objective::preconditioned_first`] of a single block.
pub const BLOCK_ALONE: usize = 12;

/// A direction to search along.
pub struct Direction {
    pub vector: Vec<f64>,
    /// Its product with the curvature, where finding the direction has found most of it; then `vector` is made of `f32`.
    pub product: Option<Vec<f32>>,
}

impl From<Vec<f64>> for Direction {
    fn from(vector: Vec<f64>) -> Self {
        Self { vector, product: None }
    }
}

/// Where an objective stands among the prefixes of a run.
pub struct PrefixCursor {
    prefixes: Vec<usize>,
    current: usize,
    /// Datapoints of the largest round.
    largest: usize,
}

impl PrefixCursor {
    /// At the first of the prefixes, which are lengths in rounds of at most `largest` datapoints.
    pub fn new(prefixes: &[usize], largest: usize) -> Self {
        Self { prefixes: prefixes.to_vec(), current: 0, largest }
    }

    /// Position of the prefix in the list.
    pub fn index(&self) -> usize {
        self.current
    }

    /// Rounds of the prefix.
    pub fn rounds(&self) -> usize {
        self.prefixes[self.current]
    }

    /// What sums over the datapoints of the prefix are multiplied by, where those of a round have weights
    /// ([`RoundRows::weight`](crate::data::RoundRows::weight)) that are 1 if it is the largest.
    pub fn scale(&self) -> f64 {
        1.0 / (self.rounds() * self.largest) as f64
    }
}

/// An objective that is the mean over the rounds of a prefix.
pub trait PrefixObjective: Objective {
    fn cursor(&mut self) -> &mut PrefixCursor;

    /// Makes the objective that of the prefix with this index.
    fn select(&mut self, index: usize) {
        self.cursor().current = index;
    }
}
