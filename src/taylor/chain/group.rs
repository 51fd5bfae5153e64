//! Consecutive rounds of a window with their tapes, one behind the other.
//!
//! What the rounds of a group share takes one large matrix product instead of one per round.

use crate::{
    data::RoundRows,
    kernels::csc::Columns,
    network::{Block, Network},
    num::{Real, convert},
    passes::{Passes, Tape},
    train::Examples,
};
use std::{borrow::Cow, ops::Range};

/// Consecutive rounds, linearized: `rows` below are those of all their minibatches, in order.
#[derive(Clone, Debug)]
pub(super) struct Group<C> {
    /// The first of the rounds, counted from 0.
    pub(super) first: usize,
    pub(super) rounds: usize,
    /// The row that each of the rounds begins with, and the number of all rows.
    starts: Vec<usize>,
    /// `[rows, inputs]`, or empty if the inputs are kept by columns.
    x: Vec<C>,
    /// The inputs by columns, with the constant 1 of the bias, in blocks of [`Columns::ROWS`] rows, if they are mostly zero.
    columns: Vec<Columns<C>>,
    tape: Tape<C>,
}

/// Some of the rounds of a group.
pub(super) struct Span<'a, C> {
    pub(super) group: &'a Group<C>,
    /// Counted from the group's first.
    pub(super) rounds: Range<usize>,
}

/// A single round of a group.
pub(super) struct GroupRound<'a, C: Clone> {
    /// `[rows, inputs]`
    pub(super) x: Cow<'a, [C]>,
    /// Without the outputs.
    pub(super) tape: Tape<C>,
    /// `[rows, outputs]`
    pub(super) output: &'a [C],
}

impl<C: Real> Group<C> {
    /// Linearizes the rounds `range`, with weights `states` and minibatches `rows` of all rounds.
    pub(super) fn linearize(
        network: &Network,
        examples: &Examples<C>,
        states: &[Vec<C>],
        rows: &RoundRows,
        range: Range<usize>,
    ) -> Self {
        let first = rows.start(range.start);
        let starts: Vec<usize> = (range.start..=range.end).map(|n| rows.start(n) - first).collect();
        let all_rows = rows.start(range.end) - first;
        let hidden = network.hidden_blocks().len();
        let mut all = Tape { rows: 0, ..Tape::default() };
        (all.hidden, all.derivatives) = (vec![Vec::new(); hidden], vec![Vec::new(); hidden]);
        all.output.reserve_exact(all_rows * network.outputs());
        let mut group =
            Self { first: range.start, rounds: range.len(), starts, x: Vec::new(), columns: Vec::new(), tape: all };
        group.x.reserve_exact(all_rows * examples.features);
        let (mut x, mut tape, mut passes) = (Vec::new(), Tape::default(), Passes::new());
        for index in range {
            let rows = rows.round(index);
            examples.gather_inputs(rows, &mut x);
            passes.forward(network, &states[index], &x, rows.len(), &mut tape, |_, _, _| ());
            group.append(&x, &tape);
        }
        group
    }

    fn append(&mut self, x: &[C], tape: &Tape<C>) {
        let append = |to: &mut Vec<Vec<C>>, from: &[Vec<C>]| {
            to.iter_mut().zip(from).for_each(|(to, from)| to.extend_from_slice(from));
        };
        self.x.extend_from_slice(x);
        append(&mut self.tape.hidden, &tape.hidden);
        append(&mut self.tape.derivatives, &tape.derivatives);
        self.tape.output.extend_from_slice(&tape.output);
        self.tape.rows += tape.rows;
    }

    /// Keeps the inputs of the first block by columns, without their zeros.
    pub(super) fn by_columns(mut self, first: &Block) -> Self {
        let x = std::mem::take(&mut self.x);
        let blocks = x.chunks(Columns::<C>::ROWS * first.inputs);
        self.columns = blocks.map(|x| Columns::new(x, first.inputs, first.bias)).collect();
        self
    }

    pub(super) fn is_by_columns(&self) -> bool {
        !self.columns.is_empty()
    }

    /// The rows of some of the rounds.
    pub(super) fn rows(&self, rounds: Range<usize>) -> Range<usize> {
        self.starts[rounds.start]..self.starts[rounds.end]
    }

    /// The part of `values: [rows, _]` that belongs to some of the rounds.
    fn part<'v>(&self, values: &'v [C], rounds: Range<usize>) -> &'v [C] {
        let (width, rows) = (values.len() / self.tape.rows, self.rows(rounds));
        &values[rows.start * width..rows.end * width]
    }

    /// The inputs of block `l` in some of the rounds, `[rows, inputs of the block]`; for the first block only if they are not kept by columns.
    pub(super) fn inputs(&self, l: usize, rounds: Range<usize>) -> &[C] {
        let inputs = if l == 0 { &self.x } else { &self.tape.hidden[l - 1] };
        self.part(inputs, rounds)
    }

    /// The derivatives of the rectifiers behind block `l` in some of the rounds, `[rows, units]`.
    pub(super) fn derivatives(&self, l: usize, rounds: Range<usize>) -> &[C] {
        self.part(&self.tape.derivatives[l], rounds)
    }

    /// The inputs of some of the rounds by columns: matrices, the rows of them that count, and where these lie among those asked for.
    pub(super) fn columns(
        &self,
        rounds: Range<usize>,
    ) -> impl Iterator<Item = (&Columns<C>, Range<usize>, Range<usize>)> {
        let rows = self.rows(rounds);
        self.columns.iter().enumerate().filter_map(move |(b, columns)| {
            let first = b * Columns::<C>::ROWS;
            let (start, end) = (rows.start.max(first), rows.end.min(first + columns.rows()));
            (start < end).then(|| (columns, start - first..end - first, start - rows.start..end - rows.start))
        })
    }

    /// The `r`-th of the rounds.
    pub(super) fn round(&self, r: usize) -> GroupRound<'_, C> {
        let own = |values: &[C]| self.part(values, r..r + 1).to_vec();
        let parts = |all: &[Vec<C>]| all.iter().map(|values| own(values)).collect();
        let tape = Tape {
            rows: self.rows(r..r + 1).len(),
            hidden: parts(&self.tape.hidden),
            derivatives: parts(&self.tape.derivatives),
            ..Tape::default()
        };
        let mut x = Cow::Borrowed(self.part(&self.x, r..r + 1));
        for (columns, rows, _) in self.columns(r..r + 1) {
            columns.append_rows(rows, x.to_mut());
        }
        GroupRound { x, tape, output: self.part(&self.tape.output, r..r + 1) }
    }
}

impl Group<f64> {
    /// The same in single precision, without the outputs.
    pub(super) fn to_f32(&self) -> Group<f32> {
        let Self { first, rounds, starts, x, columns, tape } = self;
        let narrow = |all: &[Vec<f64>]| all.iter().map(|values| convert(values)).collect();
        Group {
            first: *first,
            rounds: *rounds,
            starts: starts.clone(),
            x: convert(x),
            columns: columns.iter().map(Columns::convert).collect(),
            tape: Tape {
                rows: tape.rows,
                hidden: narrow(&tape.hidden),
                derivatives: narrow(&tape.derivatives),
                ..Tape::default()
            },
        }
    }
}
