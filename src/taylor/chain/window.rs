//! The linearized rounds that layer and network scale work on.
//!
//! A [`Window`] holds the first rounds of a run: weights `W^n`, inputs and tape of each. Its products with the curvature are in
//! [`super::product`].

use super::frame::{self, Frame};
use crate::{
    checkpoint::{Persist, Store, StoreError},
    kernels::{
        Real, View,
        columns::{Columns, SPARSE},
        dense::{append_inputs, matrix},
        matmul,
        passes::{Tape, forward, jvp, vjp},
        real::convert,
    },
    loss::{Loss, Targets},
    network::{Block, Network},
    num::pieces::{Cut, sum_in_pieces},
    train::{Examples, Observer, Round},
};
use rayon::prelude::*;
use std::{borrow::Cow, ops::Range, sync::OnceLock};

/// Rows that a group of rounds has at least (or a single round).
const GROUP_ROWS: usize = 256;
/// Pieces that sums over rounds are split into; fixed, so that sums do not depend on the number of threads.
const PIECES: usize = 16;

/// Keeps the weights and rows of chosen rounds during training.
#[derive(Clone, Debug)]
pub struct WindowRecorder<T> {
    /// Numbers of the rounds to keep, increasing.
    pub chosen: Vec<usize>,
    /// The weights of those that have gone by.
    pub states: Vec<Vec<T>>,
    /// Their minibatches, `[rounds * batch]`.
    pub rows: Vec<u32>,
    /// Their losses.
    pub losses: Vec<f64>,
}

impl<T> WindowRecorder<T> {
    /// Keeps the rounds with these numbers, which must begin with 1 and increase.
    pub fn new(chosen: Vec<usize>) -> Self {
        Self { chosen, states: Vec::new(), rows: Vec::new(), losses: Vec::new() }
    }
}

impl<T: Real> Observer<T> for WindowRecorder<T> {
    fn observe(&mut self, round: &Round<T>) {
        if self.chosen.get(self.states.len()) == Some(&round.number) {
            self.states.push(round.weights.to_vec());
            self.rows.extend_from_slice(round.rows);
            self.losses.push(round.loss);
        }
    }
}

impl<T: Real> Persist for WindowRecorder<T> {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        let mut width = self.states.first().map_or(0, Vec::len);
        store.count("width", &mut width)?;
        store.list("rows", &mut self.rows)?;
        store.list("losses", &mut self.losses)?;
        match width {
            0 => self.states.clear(),
            _ => store.rows("states", &mut self.states, width)?,
        }
        let rounds = self.states.len();
        let fits = self.losses.len() == rounds && rounds <= self.chosen.len();
        if !fits || self.rows.len().checked_rem(rounds).unwrap_or(self.rows.len()) != 0 {
            return Err(store.malformed("states", format!("{rounds} states do not fit the losses and minibatches")));
        }
        Ok(())
    }
}

/// Consecutive rounds with their tapes, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Group<C> {
    /// 0-based.
    pub(super) first: usize,
    pub(super) rounds: usize,
    /// `[rows, inputs]`, or empty if they are kept by columns.
    pub(super) x: Vec<C>,
    /// By columns, with the constant 1 of the bias, in blocks of [`Columns::ROWS`] rows, if inputs are mostly zero.
    columns: Vec<Columns<C>>,
    pub(super) tape: Tape<C>,
}

impl<C: Real> Group<C> {
    /// Some rows of the inputs by columns: blocks, the rows of them that count, and where these lie among those asked for.
    pub(crate) fn columns_of(
        &self,
        rows: Range<usize>,
    ) -> impl Iterator<Item = (&Columns<C>, Range<usize>, Range<usize>)> {
        self.columns.iter().enumerate().filter_map(move |(b, columns)| {
            let first = b * Columns::<C>::ROWS;
            let (start, end) = (rows.start.max(first), rows.end.min(first + columns.rows()));
            (start < end).then(|| (columns, start - first..end - first, start - rows.start..end - rows.start))
        })
    }
}

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

/// The first rounds of a run, linearized, in the type `C` that is computed in.
#[derive(Clone, Debug)]
pub struct Window<'a, C: Real> {
    network: &'a Network,
    loss: Loss,
    examples: Examples<'a, C>,
    batch: usize,
    pub(crate) states: Cow<'a, [Vec<C>]>,
    rows: &'a [u32],
    groups: Vec<Group<C>>,
    /// Per round `(2/K) W_L' W_L` of the output block, for losses whose Hessian is `(2/K) I`.
    pub(super) output_gram: Vec<Vec<C>>,
    /// Per round `sum_i x_i x_i'` of the output block's inputs with the constant 1 of its bias, for such losses.
    pub(super) output_moments: Vec<Vec<C>>,
    /// What the rounds' errors are to the hidden layers, for such losses; found when it is first needed.
    errors: OnceLock<Vec<PulledError>>,
    /// The output block's weights of some rounds in fewer numbers, for the searches of such losses.
    frames: Vec<Frame<C>>,
}

/// The error `r = f - y` of a round's outputs as the last hidden layer feels it, for losses whose Hessian is `(2/K) I`.
#[derive(Clone, Debug)]
pub(crate) struct PulledError {
    /// `(2/K) W_L' r`, `[rows, inputs of the output block]`.
    pub(super) cotangent: Vec<f64>,
    /// `sum_i |r_i|^2 / K`.
    pub(super) square: f64,
}

impl<'a, C: Real> Window<'a, C> {
    /// Linearizes the rounds with weights `states` and minibatches `rows: [N * batch]`.
    pub fn new(
        network: &'a Network,
        loss: Loss,
        examples: Examples<'a, C>,
        batch: usize,
        states: Cow<'a, [Vec<C>]>,
        rows: &'a [u32],
    ) -> Self {
        assert_eq!(states.len() * batch, rows.len(), "one minibatch of rows per state");
        let per_group = GROUP_ROWS.div_ceil(batch).max(1);
        let first = &network.blocks()[0];
        let by_columns = network.blocks().len() > 1 && first.convolution().is_none() && mostly_zero(&examples, rows);
        let groups: Vec<Group<C>> = (0..states.len().div_ceil(per_group))
            .into_par_iter()
            .map(|g| {
                let range = g * per_group..states.len().min((g + 1) * per_group);
                let mut group = linearize_group(network, &examples, batch, &states, rows, range);
                if by_columns {
                    let x = std::mem::take(&mut group.x);
                    let blocks = x.chunks(Columns::<C>::ROWS * first.inputs);
                    group.columns = blocks.map(|x| Columns::new(x, first.inputs, first.bias)).collect();
                }
                group
            })
            .collect();
        let output = &network.blocks()[network.blocks().len() - 1];
        let (output_gram, output_moments) = match loss {
            Loss::Mse => (
                states.par_iter().map(|w| output_gram(output, w)).collect(),
                groups.par_iter().map(|group| output_moments(output, group, batch)).flatten_iter().collect(),
            ),
            Loss::CrossEntropy => (Vec::new(), Vec::new()),
        };
        Self {
            network,
            loss,
            examples,
            batch,
            states,
            rows,
            groups,
            output_gram,
            output_moments,
            errors: OnceLock::new(),
            frames: Vec::new(),
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

    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Rounds in the window.
    pub fn rounds(&self) -> usize {
        self.states.len()
    }

    /// `W^1`.
    pub fn initial(&self) -> &[C] {
        &self.states[0]
    }

    /// Whether the network's inputs are kept by columns.
    pub(crate) fn by_columns(&self) -> bool {
        self.groups.first().is_some_and(|group| !group.columns.is_empty())
    }

    /// Groups of rounds.
    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Which of the groups this is: all but the last have the same number of rounds.
    pub(crate) fn number_of(&self, group: &Group<C>) -> usize {
        group.first / self.groups[0].rounds
    }

    /// Rounds whose output weights are in frames.
    pub fn framed_rounds(&self) -> usize {
        self.frames.iter().map(|frame| frame.rounds.len()).sum()
    }

    /// The frame that a round's output weights are in.
    pub(crate) fn frame_of(&self, round: usize) -> Option<&Frame<C>> {
        let next = self.frames.partition_point(|frame| frame.rounds.end <= round);
        self.frames.get(next).filter(|frame| frame.rounds.contains(&round))
    }

    /// The rows of the data in the first `rounds` minibatches.
    pub fn rows(&self, rounds: usize) -> &[u32] {
        &self.rows[..rounds * self.batch]
    }

    /// Calls `visit` with each of the first `rounds` rounds, in order.
    pub fn each_round(&self, rounds: usize, mut visit: impl FnMut(WindowRound<C>)) {
        for group in &self.groups {
            for r in 0..group.rounds {
                if group.first + r < rounds {
                    self.visit_round(group, r, &mut visit);
                }
            }
        }
    }

    fn visit_round<R>(&self, group: &Group<C>, r: usize, visit: impl FnOnce(WindowRound<C>) -> R) -> R {
        fn part<C>(values: &[C], r: usize, rounds: usize) -> &[C] {
            let size = values.len() / rounds;
            &values[r * size..(r + 1) * size]
        }
        let parts = |all: &[Vec<C>]| all.iter().map(|v| part(v, r, group.rounds).to_vec()).collect();
        let tape = Tape {
            rows: self.batch,
            hidden: parts(&group.tape.hidden),
            slopes: parts(&group.tape.slopes),
            ..Tape::default()
        };
        let mut x = Vec::new();
        for (columns, rows, _) in group.columns_of(r * self.batch..(r + 1) * self.batch) {
            columns.append_rows(rows, &mut x);
        }
        visit(WindowRound {
            index: group.first + r,
            weights: &self.states[group.first + r],
            x: if group.columns.is_empty() { part(&group.x, r, group.rounds) } else { &x },
            tape: &tape,
            output: part(&group.tape.output, r, group.rounds),
        })
    }

    /// Sums `visit(state, group, rounds of it that count)` over a range of rounds into vectors of length `width`: a
    /// partial sum and a `state` of its own per fixed piece, added up in order.
    pub(crate) fn sum_groups<S: Real, B>(
        &self,
        rounds: Range<usize>,
        width: usize,
        state: impl Fn() -> B + Sync,
        visit: impl Fn(&mut B, &Group<C>, Range<usize>, &mut [S]) + Sync,
    ) -> Vec<S> {
        self.sum_groups_to_end(rounds, width, state, visit, |_, _| {})
    }

    /// [`Window::sum_groups`] with `finish(state, partial sum)` after the last group of every piece.
    pub(crate) fn sum_groups_to_end<S: Real, B>(
        &self,
        rounds: Range<usize>,
        width: usize,
        state: impl Fn() -> B + Sync,
        visit: impl Fn(&mut B, &Group<C>, Range<usize>, &mut [S]) + Sync,
        finish: impl Fn(&mut B, &mut [S]) + Sync,
    ) -> Vec<S> {
        let inside = |g: &&Group<C>| g.first < rounds.end && g.first + g.rounds > rounds.start;
        let groups: Vec<&Group<C>> = self.groups.iter().filter(inside).collect();
        let size = groups.len().div_ceil(PIECES).max(1);
        let partial: Vec<Vec<S>> = groups
            .par_chunks(size)
            .with_max_len(1)
            .map(|piece| {
                let (mut sum, mut state) = (vec![S::ZERO; width], state());
                for group in piece {
                    let start = rounds.start.saturating_sub(group.first);
                    visit(&mut state, group, start..group.rounds.min(rounds.end - group.first), &mut sum);
                }
                finish(&mut state, &mut sum);
                sum
            })
            .collect();
        let mut partial = partial.into_iter();
        let mut total = partial.next().unwrap_or_else(|| vec![S::ZERO; width]);
        for other in partial {
            total.iter_mut().zip(&other).for_each(|(a, b)| *a += *b);
        }
        total
    }
}

/// What the exact (`f64`) objective needs of a round, in closed form for the mean squared error.
impl Window<'_, f64> {
    /// The outputs that the Taylor approximation of each round predicts for the weights `W^1` of `blocks`,
    /// `[rows, outputs]`: `f + J (W^1 - W^n)`.
    fn outputs_at_start(&self, round: &WindowRound<f64>, blocks: &Range<usize>) -> Vec<f64> {
        let back: Vec<f64> = self.initial().iter().zip(round.weights).map(|(start, w)| start - w).collect();
        let mut outputs = jvp(self.network, round.weights, round.x, round.tape, &back, blocks.clone());
        outputs.iter_mut().zip(round.output).for_each(|(d, f)| *d += f);
        outputs
    }

    /// The targets of a round, gathered in `buffers` where they lie nowhere together.
    fn targets<'b>(
        &self,
        round: &WindowRound<'b, f64>,
        (values, labels): &'b mut (Vec<f64>, Vec<u32>),
    ) -> Targets<'b, f64> {
        if self.examples.targets_are_inputs() {
            return Targets::Values(round.x);
        }
        let rows = &self.rows[round.index * self.batch..(round.index + 1) * self.batch];
        self.examples.gather_targets(rows, values, labels);
        match self.examples.targets {
            Targets::Values(_) => Targets::Values(values),
            Targets::Labels(_) => Targets::Labels(labels),
        }
    }

    /// For a quadratic loss: the value and gradient of `F` at `W^1` for each prefix, `sum_n` not yet divided by `N`.
    pub fn linear_terms(&self, prefixes: &[usize], blocks: Range<usize>) -> Vec<(f64, Vec<f64>)> {
        let all = self.network.blocks();
        if blocks.end < all.len() {
            return self.hidden_linear_terms(prefixes, blocks);
        }
        let span = all[blocks.start].offset..all[blocks.end - 1].range().end;
        let mut terms = Vec::new();
        let mut sum = vec![0.0; span.len() + 1];
        let mut from = 0;
        for prefix in prefixes {
            // Only the rounds since the last prefix; the pieces are fixed by the rounds alone.
            let rounds: Vec<usize> = (from..*prefix).collect();
            let size = rounds.len().div_ceil(PIECES).max(1);
            let partial: Vec<Vec<f64>> = rounds
                .par_chunks(size)
                .with_max_len(1)
                .map(|piece| {
                    let mut part = vec![0.0; span.len() + 1];
                    let mut gradient = vec![0.0; self.network.parameters()];
                    for index in piece {
                        part[0] += self.with_round(*index, |round| {
                            let outputs = self.outputs_at_start(&round, &blocks);
                            let mut deltas = vec![Vec::new(); all.len()];
                            let mut buffers = Default::default();
                            let targets = self.targets(&round, &mut buffers);
                            let scale = 1.0 / self.batch as f64;
                            let top = &mut deltas[all.len() - 1];
                            let width = self.network.outputs();
                            let value = self.loss.value_gradient(&outputs, width, targets, scale, top);
                            let (x, tape) = (round.x, round.tape);
                            vjp(self.network, round.weights, x, tape, &mut deltas, blocks.clone(), &mut gradient);
                            value * scale
                        });
                    }
                    part[1..].copy_from_slice(&gradient[span.clone()]);
                    part
                })
                .collect();
            for part in partial {
                sum.iter_mut().zip(&part).for_each(|(a, b)| *a += b);
            }
            terms.push((sum[0], sum[1..].to_vec()));
            from = *prefix;
        }
        terms
    }

    /// The errors of all rounds; mean squared error.
    pub(crate) fn errors(&self) -> &[PulledError] {
        self.errors.get_or_init(|| (0..self.rounds()).into_par_iter().map(|round| self.error_of(round)).collect())
    }

    fn error_of(&self, round: usize) -> PulledError {
        let output = &self.network.blocks()[self.network.blocks().len() - 1];
        self.with_round(round, |round| {
            let (mut buffers, mut error) = (Default::default(), Vec::new());
            let targets = self.targets(&round, &mut buffers);
            let square = self.loss.value_gradient(round.output, output.units, targets, 1.0, &mut error);
            let mut cotangent = vec![0.0; self.batch * output.inputs];
            let error = View::new(&error, self.batch, output.units);
            matmul(&mut cotangent, output.inputs, error, matrix(output, round.weights), false);
            PulledError { cotangent, square }
        })
    }

    /// Adds `x' b` of the network's inputs in some rounds, which are kept by columns; `b: [rows, n]`.
    pub(crate) fn add_input_products(&self, rounds: &[usize], b: &[f64], n: usize, out: &mut [f64]) {
        for (index, b) in rounds.iter().zip(b.chunks_exact(self.batch * n)) {
            let (group, r) = self.locate(*index);
            for (columns, part, at) in group.columns_of(r * self.batch..(r + 1) * self.batch) {
                columns.add_transposed_product(part, &b[at.start * n..at.end * n], n, n, out);
            }
        }
    }

    /// Calls `visit` with one round, counted from 0.
    pub fn with_round<R>(&self, index: usize, visit: impl FnOnce(WindowRound<f64>) -> R) -> R {
        let (group, r) = self.locate(index);
        self.visit_round(group, r, visit)
    }

    fn locate(&self, index: usize) -> (&Group<f64>, usize) {
        let group = self.groups.partition_point(|g| g.first + g.rounds <= index);
        (&self.groups[group], index - self.groups[group].first)
    }

    /// `F(u)` and its gradient over the first `rounds` rounds for any loss, and the outputs `[rows, outputs]` that the Taylor
    /// approximations predict at `u`.
    pub fn value_gradient(&self, rounds: usize, blocks: Range<usize>, u: &[f64]) -> (f64, Vec<f64>, Vec<f64>) {
        let all = self.network.blocks();
        let base = all[blocks.start].offset;
        let indices: Vec<usize> = (0..rounds).collect();
        let size = rounds.div_ceil(PIECES).max(1);
        let scale = 1.0 / (rounds * self.batch) as f64;
        let width = self.network.outputs();
        let pieces: Vec<(f64, Vec<f64>, Vec<f64>)> = indices
            .par_chunks(size)
            .with_max_len(1)
            .map(|piece| {
                let mut gradient = vec![0.0; self.network.parameters()];
                let (mut value, mut predicted) = (0.0, Vec::new());
                for index in piece {
                    self.with_round(*index, |round| {
                        let mut direction = vec![0.0; self.network.parameters()];
                        for (at, u) in u.iter().enumerate() {
                            let at = base + at;
                            direction[at] = self.initial()[at] + u - round.weights[at];
                        }
                        let (x, tape) = (round.x, round.tape);
                        let mut outputs = jvp(self.network, round.weights, x, tape, &direction, blocks.clone());
                        outputs.iter_mut().zip(round.output).for_each(|(d, f)| *d += f);
                        let mut deltas = vec![Vec::new(); all.len()];
                        let mut buffers = Default::default();
                        let targets = self.targets(&round, &mut buffers);
                        let top = &mut deltas[all.len() - 1];
                        value += self.loss.value_gradient(&outputs, width, targets, scale, top);
                        vjp(self.network, round.weights, x, tape, &mut deltas, blocks.clone(), &mut gradient);
                        predicted.extend_from_slice(&outputs);
                    });
                }
                (value * scale, gradient[base..base + u.len()].to_vec(), predicted)
            })
            .collect();
        let (mut value, mut gradient, mut predicted) = (0.0, vec![0.0; u.len()], Vec::new());
        for (v, g, p) in pieces {
            value += v;
            gradient.iter_mut().zip(&g).for_each(|(a, b)| *a += b);
            predicted.extend(p);
        }
        (value, gradient, predicted)
    }

    /// Finds the frames of the output block's weights, for products of the mean squared error that move the block and hidden ones together.
    pub fn find_frames(&mut self) {
        let blocks = self.network.blocks();
        let output = &blocks[blocks.len() - 1];
        if self.loss.is_quadratic() && blocks.len() > 1 && frame::serves(output) {
            let spans = frame::spans(&self.groups).into_par_iter().with_max_len(1);
            self.frames = spans.filter_map(|rounds| Frame::find(output, &self.states, rounds)).collect();
        }
    }

    /// The same window in `f32`, with the tape (and so the linearization) of this one; for [`Window::product`] only.
    ///
    /// Products that move the output block and hidden ones together go by its weights in frames alone, if there are frames.
    pub fn to_f32(&self) -> Window<'_, f32> {
        let group = |g: &Group<f64>| Group {
            first: g.first,
            rounds: g.rounds,
            x: convert(&g.x),
            columns: g.columns.iter().map(Columns::convert).collect(),
            tape: Tape {
                rows: g.tape.rows,
                hidden: g.tape.hidden.iter().map(|v| convert(v)).collect(),
                slopes: g.tape.slopes.iter().map(|v| convert(v)).collect(),
                ..Tape::default()
            },
        };
        let output = self.network.blocks()[self.network.blocks().len() - 1].offset;
        let states = |round: usize| match self.frame_of(round) {
            Some(_) => convert(&self.states[round][..output]),
            None => convert(&self.states[round]),
        };
        let none = Examples { inputs: &[], features: 1, targets: Targets::Values(&[]), target_width: 0 };
        Window {
            network: self.network,
            loss: self.loss,
            examples: none,
            batch: self.batch,
            states: Cow::Owned((0..self.rounds()).into_par_iter().map(states).collect()),
            rows: self.rows,
            groups: self.groups.par_iter().map(group).collect(),
            output_gram: self.output_gram.par_iter().map(|v| convert(v)).collect(),
            output_moments: self.output_moments.par_iter().map(|v| convert(v)).collect(),
            errors: OnceLock::new(),
            frames: self.frames.par_iter().map(Frame::to_f32).collect(),
        }
    }
}

/// Whether products by columns are faster for the inputs in some rows of the data.
fn mostly_zero<C: Real>(examples: &Examples<C>, rows: &[u32]) -> bool {
    let inputs = |row: &u32| &examples.inputs[*row as usize * examples.features..][..examples.features];
    let count = |row: &u32| inputs(row).iter().filter(|x| **x != C::ZERO).count();
    let present = sum_in_pieces(rows.len(), Cut::VECTORS, |piece| rows[piece].iter().map(count).sum::<usize>());
    let present = present.unwrap_or(0);
    (present as f64) < SPARSE * (rows.len() * examples.features) as f64
}

fn output_gram<C: Real>(block: &Block, weights: &[C]) -> Vec<C> {
    let wide: Vec<f64> = convert(&weights[block.range()]);
    let w = View::strided(&wide, block.units, block.inputs, block.width());
    let mut gram = vec![0.0; block.inputs * block.inputs];
    matmul(&mut gram, block.inputs, w.t(), w, false);
    let factor = 2.0 / block.units as f64;
    gram.iter().map(|v| C::from_f64(v * factor)).collect()
}

/// `sum_i x_i x_i'` of the output block's inputs with the constant 1 of its bias, for each round of a group.
fn output_moments<C: Real>(block: &Block, group: &Group<C>, batch: usize) -> Vec<Vec<C>> {
    let inputs = group.tape.hidden.last().unwrap_or(&group.x);
    let one = |x: &[C]| {
        let mut rows: Vec<f64> = Vec::with_capacity(batch * block.width());
        append_inputs(block, &convert::<C, f64>(x), &mut rows);
        let view = View::new(&rows, batch, block.width());
        let mut moments = vec![0.0; block.width() * block.width()];
        matmul(&mut moments, block.width(), view.t(), view, false);
        convert(&moments)
    };
    inputs.chunks_exact(batch * block.inputs).map(one).collect()
}

fn linearize_group<C: Real>(
    network: &Network,
    examples: &Examples<C>,
    batch: usize,
    states: &[Vec<C>],
    rows: &[u32],
    range: Range<usize>,
) -> Group<C> {
    let mut group = Group {
        first: range.start,
        rounds: range.len(),
        x: Vec::new(),
        columns: Vec::new(),
        tape: Tape { rows: 0, ..Tape::default() },
    };
    group.tape.hidden = vec![Vec::new(); network.hidden_blocks().len()];
    group.tape.slopes = vec![Vec::new(); network.hidden_blocks().len()];
    group.x.reserve_exact(range.len() * batch * examples.features);
    group.tape.output.reserve_exact(range.len() * batch * network.outputs());
    let (mut x, mut tape) = (Vec::new(), Tape::default());
    for index in range {
        examples.gather_inputs(&rows[index * batch..(index + 1) * batch], &mut x);
        forward(network, &states[index], &x, batch, &mut tape);
        group.x.extend_from_slice(&x);
        let append = |to: &mut Vec<Vec<C>>, from: &[Vec<C>]| {
            to.iter_mut().zip(from).for_each(|(to, from)| to.extend_from_slice(from));
        };
        append(&mut group.tape.hidden, &tape.hidden);
        append(&mut group.tape.slopes, &tape.slopes);
        group.tape.output.extend_from_slice(&tape.output);
        group.tape.rows += batch;
    }
    group
}
