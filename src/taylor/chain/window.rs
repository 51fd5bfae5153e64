//! The linearized rounds that layer and network scale work on.
//!
//! A [`Window`] holds the analysed rounds of a run: weights `W^n`, inputs and tape of each. Values and gradients of their Taylor losses are in
//! `super::expansion`, products with their curvature in [`super::product`].

use super::{
    backpropagated_error::BackpropagatedError,
    group::{Group, Span},
    low_rank::{self, LowRankWeights},
};
use crate::{
    data::RoundRows,
    kernels::{View, csc::SPARSE, dense::append_inputs, matmul},
    loss::{Loss, Targets},
    network::{Block, Network},
    num::{
        Real, convert, fast_paths,
        pieces::{Cut, sum_in_pieces},
    },
    passes::{Point, Tape},
    taylor::output_loss::OutputLoss,
    train::Examples,
};
use rayon::prelude::*;
use std::{borrow::Cow, ops::Range, sync::OnceLock};

/// Rows that a group of rounds has at least (or a single round), so that what its rounds share is one large product. Chosen for the paper's
/// autoencoder: four of its minibatches.
const GROUP_ROWS: usize = 256;

/// One round of a window.
pub struct WindowRound<'a, C> {
    /// 0-based.
    pub index: usize,
    pub weights: &'a [C],
    pub x: &'a [C],
    /// Without the outputs.
    pub tape: &'a Tape<C>,
    /// The network's output `[rows, outputs]`.
    pub output: &'a [C],
}

impl<'a, C> WindowRound<'a, C> {
    /// Where the linear passes of the round are taken.
    pub fn point(&self, network: &'a Network) -> Point<'a, C> {
        Point { network, weights: self.weights, x: self.x, tape: self.tape }
    }
}

/// The analysed rounds of a run, linearized, in the type `C` that is computed in.
#[derive(Clone, Debug)]
pub struct Window<'a, C: Real> {
    network: &'a Network,
    loss: Loss,
    examples: Examples<'a, C>,
    pub(crate) states: Cow<'a, [Vec<C>]>,
    rows: &'a RoundRows,
    groups: Vec<Group<C>>,
    /// Per round `(2/K) W_L' W_L` of the output block, for losses whose Hessian is `(2/K) I`.
    pub(super) output_gram: Vec<Vec<C>>,
    /// Per round `sum_i x_i x_i'` of the output block's inputs with the constant 1 of its bias, times the round's [`RoundRows::weight`], for
    /// such losses.
    pub(super) output_moments: Vec<Vec<C>>,
    /// The rounds' errors as the hidden layers see them, for such losses; computed when first needed.
    pub(super) errors: OnceLock<Vec<BackpropagatedError>>,
    /// The output block's weights of some rounds in low-rank bases, for such losses.
    low_rank: Vec<LowRankWeights<C>>,
}

impl<'a, C: Real> Window<'a, C> {
    /// Linearizes the rounds with weights `states` and minibatches `rows`.
    ///
    /// # Panics
    /// If the network is not a chain of dense layers, or there is not a minibatch for every state.
    pub fn new(
        network: &'a Network,
        loss: Loss,
        examples: Examples<'a, C>,
        states: Cow<'a, [Vec<C>]>,
        rows: &'a RoundRows,
    ) -> Self {
        assert!(network.is_dense_chain(), "other networks go by passes, see `taylor::graph`");
        assert_eq!(states.len(), rows.len(), "one minibatch of rows per state");
        let groups = linearize(network, &examples, &states, rows);
        let output = network.output_block();
        let (output_gram, output_moments) = if loss.is_quadratic() {
            (
                states.par_iter().map(|w| output_gram(output, w)).collect(),
                groups.par_iter().map(|group| output_moments(network, group, rows)).flatten_iter().collect(),
            )
        } else {
            (Vec::new(), Vec::new())
        };
        Self {
            network,
            loss,
            examples,
            states,
            rows,
            groups,
            output_gram,
            output_moments,
            errors: OnceLock::new(),
            low_rank: Vec::new(),
        }
    }

    pub fn network(&self) -> &Network {
        self.network
    }

    pub fn loss(&self) -> Loss {
        self.loss
    }

    pub fn examples(&self) -> &Examples<'a, C> {
        &self.examples
    }

    /// One divided by the datapoints of the first `rounds` rounds, all counted with the weights of their rounds.
    pub fn scale(&self, rounds: usize) -> f64 {
        1.0 / (rounds * self.rows.largest()) as f64
    }

    /// What a datapoint of a round counts for in sums that are multiplied by [`Window::scale`].
    pub(super) fn weight(&self, round: usize) -> f64 {
        self.rows.weight(round)
    }

    /// Rounds in the window.
    pub fn rounds(&self) -> usize {
        self.states.len()
    }

    /// `W^1`.
    pub fn initial(&self) -> &[C] {
        &self.states[0]
    }

    /// The minibatches of all rounds.
    pub fn rows(&self) -> &RoundRows {
        self.rows
    }

    /// The block that ends the chain.
    pub(super) fn output_block(&self) -> &Block {
        self.network.output_block()
    }

    /// Whether the network's inputs are kept by columns.
    pub(crate) fn by_columns(&self) -> bool {
        self.groups.first().is_some_and(Group::is_by_columns)
    }

    /// Number of groups of rounds.
    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The position of a group: all but the last have the same number of rounds.
    pub(super) fn position_of(&self, group: &Group<C>) -> usize {
        group.first / self.groups[0].rounds
    }

    /// Rounds whose output weights are in low-rank bases.
    pub fn low_rank_rounds(&self) -> usize {
        self.low_rank.iter().map(|weights| weights.rounds.len()).sum()
    }

    /// The low-rank basis of a round's output weights, if there is one.
    pub(super) fn low_rank_of(&self, round: usize) -> Option<&LowRankWeights<C>> {
        let next = self.low_rank.partition_point(|weights| weights.rounds.end <= round);
        self.low_rank.get(next).filter(|weights| weights.rounds.contains(&round))
    }

    /// Calls `visit` with each of the first `rounds` rounds, in order.
    pub fn each_round(&self, rounds: usize, mut visit: impl FnMut(WindowRound<C>)) {
        (0..rounds.min(self.rounds())).for_each(|index| self.with_round(index, &mut visit));
    }

    /// Calls `visit` with one round, counted from 0.
    pub fn with_round<R>(&self, index: usize, visit: impl FnOnce(WindowRound<C>) -> R) -> R {
        let span = self.locate(index);
        let round = span.group.round(span.rounds.start);
        visit(WindowRound { index, weights: &self.states[index], x: &round.x, tape: &round.tape, output: round.output })
    }

    /// One round in its group.
    pub(super) fn locate(&self, index: usize) -> Span<'_, C> {
        let group = &self.groups[self.groups.partition_point(|g| g.first + g.rounds <= index)];
        Span { group, rounds: index - group.first..index - group.first + 1 }
    }

    /// A range of rounds, group by group.
    pub(super) fn spans(&self, rounds: &Range<usize>) -> Vec<Span<'_, C>> {
        let inside = |g: &&Group<C>| g.first < rounds.end && g.first + g.rounds > rounds.start;
        let span =
            |group: &'_ Group<C>| rounds.start.saturating_sub(group.first)..group.rounds.min(rounds.end - group.first);
        self.groups.iter().filter(inside).map(|group| Span { group, rounds: span(group) }).collect()
    }

    /// Sums over a range of rounds into a vector of length `width`: `add` adds the rounds of a fixed piece to the piece's sum.
    pub(super) fn sum_pieces(
        &self,
        rounds: &Range<usize>,
        width: usize,
        add: impl Fn(&[Span<C>], &mut [C]) + Sync,
    ) -> Vec<C> {
        let spans = self.spans(rounds);
        let sum = sum_in_pieces(spans.len(), Cut::VECTORS, |piece| {
            let mut sum = vec![C::ZERO; width];
            add(&spans[piece], &mut sum);
            sum
        });
        sum.unwrap_or_else(|| vec![C::ZERO; width])
    }
}

impl Window<'_, f64> {
    /// The targets of a round, gathered in `buffers` where they are not the inputs.
    pub(super) fn targets<'b>(
        &self,
        round: &WindowRound<'b, f64>,
        (values, labels): &'b mut (Vec<f64>, Vec<u32>),
    ) -> Targets<'b, f64> {
        if self.examples.targets_are_inputs() {
            return Targets::Values(round.x);
        }
        self.examples.gather_targets(self.rows.round(round.index), values, labels);
        match self.examples.targets {
            Targets::Values(_) => Targets::Values(values),
            Targets::Labels(_) => Targets::Labels(labels),
        }
    }

    /// The loss of the outputs of all rounds, for a loss of classes.
    pub fn output_loss(&self) -> OutputLoss<'_> {
        let mut labels = Vec::new();
        self.examples.gather_targets(self.rows.rows(), &mut Vec::new(), &mut labels);
        OutputLoss::new(self.loss, self.network.outputs(), self.rows, labels)
    }

    /// Adds `x' b` of the network's inputs `x` in some rounds, which are kept by columns; `b: [rows, n]`, `out: [width, n]`. Both have the square
    /// root of their round's weight as a factor, `b` already.
    pub(crate) fn add_input_products(&self, rounds: &[usize], mut b: &[f64], n: usize, out: &mut [f64]) {
        for index in rounds {
            let Span { group, rounds } = self.locate(*index);
            let b = b.split_off(..self.rows.span(*index).len() * n).expect("b has the rows of all rounds");
            let b = weighted(b, self.weight(*index).sqrt());
            for (columns, part, at) in group.columns(rounds) {
                columns.add_transposed_product(part, &b[at.start * n..at.end * n], n, n, out);
            }
        }
    }

    /// Finds low-rank bases of the output block's weights, for products under the mean squared error that move the block together with hidden
    /// ones.
    pub fn find_low_rank(&mut self) {
        let output = self.network.output_block();
        if self.loss.is_quadratic() && self.network.blocks().len() > 1 && low_rank::is_worthwhile(output) {
            let spans = low_rank::spans(&self.groups).into_par_iter().with_max_len(1);
            self.low_rank = spans.filter_map(|rounds| LowRankWeights::find(output, &self.states, rounds)).collect();
        }
    }

    /// The same window in `f32`, with the tape (and so the linearization) of this one; for [`Window::product`] only.
    ///
    /// Where output weights are in low-rank bases, it has nothing else of them: products leave out the residuals.
    pub fn to_f32(&self) -> Window<'_, f32> {
        let hidden = 0..self.output_block().offset;
        let states = |round: usize| match self.low_rank_of(round) {
            Some(_) => convert(&self.states[round][hidden.clone()]),
            None => convert(&self.states[round]),
        };
        let none = Examples { inputs: &[], features: 1, targets: Targets::Values(&[]), target_width: 0 };
        Window {
            network: self.network,
            loss: self.loss,
            examples: none,
            states: Cow::Owned((0..self.rounds()).into_par_iter().map(states).collect()),
            rows: self.rows,
            groups: self.groups.par_iter().map(Group::to_f32).collect(),
            output_gram: self.output_gram.par_iter().map(|v| convert(v)).collect(),
            output_moments: self.output_moments.par_iter().map(|v| convert(v)).collect(),
            errors: OnceLock::new(),
            low_rank: self.low_rank.par_iter().map(LowRankWeights::to_f32).collect(),
        }
    }
}

/// All rounds in groups, with their inputs by columns if most of these are zero.
fn linearize<C: Real>(network: &Network, examples: &Examples<C>, states: &[Vec<C>], rows: &RoundRows) -> Vec<Group<C>> {
    let typical = rows.rows().len().div_ceil(rows.len().max(1)).max(1);
    let per_group = GROUP_ROWS.div_ceil(typical);
    let first = &network.blocks()[0];
    let by_columns = network.blocks().len() > 1 && fast_paths() && mostly_zero(examples, rows.rows());
    let group = |g: usize| {
        let range = g * per_group..states.len().min((g + 1) * per_group);
        let group = Group::linearize(network, examples, states, rows, range);
        if by_columns { group.by_columns(first) } else { group }
    };
    (0..states.len().div_ceil(per_group)).into_par_iter().map(group).collect()
}

/// Whether products by columns are faster for the inputs in some rows of the data.
fn mostly_zero<C: Real>(examples: &Examples<C>, rows: &[u32]) -> bool {
    let inputs = |row: &u32| &examples.inputs[*row as usize * examples.features..][..examples.features];
    let count = |row: &u32| inputs(row).iter().filter(|x| **x != C::ZERO).count();
    let present = sum_in_pieces(rows.len(), Cut::VECTORS, |piece| rows[piece].iter().map(count).sum::<usize>());
    let present = present.unwrap_or(0);
    (present as f64) < SPARSE * (rows.len() * examples.features) as f64
}

/// `factor` times the values, which are left alone if it is 1.
pub(super) fn weighted(values: &[f64], factor: f64) -> Cow<'_, [f64]> {
    if factor == 1.0 { Cow::Borrowed(values) } else { values.iter().map(|v| v * factor).collect() }
}

/// `(2/K) W' W` of the output block without its biases: `[inputs, inputs]`.
fn output_gram<C: Real>(block: &Block, weights: &[C]) -> Vec<C> {
    let wide: Vec<f64> = convert(&weights[block.range()]);
    let w = View::strided(&wide, block.units, block.inputs, block.width());
    let mut gram = vec![0.0; block.inputs * block.inputs];
    matmul(&mut gram, block.inputs, w.t(), w, false);
    let factor = 2.0 / block.units as f64;
    gram.iter().map(|v| C::from_f64(v * factor)).collect()
}

/// `sum_i x_i x_i'` of the output block's inputs with the constant 1 of its bias, weighted, `[width, width]` for each round of a group.
fn output_moments<C: Real>(network: &Network, group: &Group<C>, all: &RoundRows) -> Vec<Vec<C>> {
    let (block, last) = (network.output_block(), network.output_index());
    let one = |r: usize| {
        let (count, weight) = (group.rows(r..r + 1).len(), all.weight(group.first + r));
        let mut rows: Vec<f64> = Vec::with_capacity(count * block.width());
        append_inputs(block, &convert::<C, f64>(group.inputs(last, r..r + 1)), &mut rows);
        let view = View::new(&rows, count, block.width());
        let mut moments = vec![0.0; block.width() * block.width()];
        matmul(&mut moments, block.width(), view.t(), view, false);
        moments.iter_mut().for_each(|sum| *sum *= weight);
        convert(&moments)
    };
    (0..group.rounds).map(one).collect()
}
