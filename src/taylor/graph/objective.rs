//! The objective of the network, of a layer or of a neuron: the same mean of Taylor losses, with other weights moving. Products with its curvature
//! are passes over the rounds ([`super::sample`]).

use super::sample::{KeptSample, Moving};
use crate::{
    num::{Real, convert},
    taylor::{
        Expansion,
        objective::{BLOCK_ALONE, ByOutputs, Direction, Objective, PrefixCursor, PrefixObjective},
        output_loss::OutputLoss,
        precondition::{KroneckerFactors, solve_blocks},
    },
};
use std::sync::{Mutex, PoisonError};

/// The objective of what moves, over a prefix of the sampled rounds.
pub(super) struct PassObjective<'a, T> {
    sample: &'a KeptSample<'a, T>,
    moving: Moving,
    preconditioners: &'a [KroneckerFactors],
    cursor: PrefixCursor,
    /// The outputs at which the Hessian of the loss is taken.
    moved: Vec<f32>,
    /// The last point that was evaluated and the outputs there: curvature is asked for where the value has just been.
    last: Mutex<(Vec<f64>, Vec<f64>)>,
    /// The loss of the outputs, if it is not quadratic.
    loss: Option<OutputLoss<'a>>,
}

impl<'a, T: Real> PassObjective<'a, T> {
    pub(super) fn new(
        sample: &'a KeptSample<'a, T>,
        moving: Moving,
        preconditioners: &'a [KroneckerFactors],
        prefixes: &[usize],
    ) -> Self {
        let cursor = PrefixCursor::new(prefixes, sample.sample.rows.largest());
        let loss = (!sample.sample.loss.is_quadratic()).then(|| sample.sample.output_loss());
        Self { sample, moving, preconditioners, cursor, moved: Vec::new(), last: Mutex::default(), loss }
    }
}

impl<T: Real> PrefixObjective for PassObjective<'_, T> {
    fn cursor(&mut self) -> &mut PrefixCursor {
        &mut self.cursor
    }
}

impl<T: Real> Objective for PassObjective<'_, T> {
    fn dimension(&self) -> usize {
        self.moving.span.len()
    }

    fn is_quadratic(&self) -> bool {
        self.sample.sample.loss.is_quadratic()
    }

    fn rounds(&self) -> usize {
        self.cursor.rounds()
    }

    fn evaluate(&self, u: &[f64]) -> (f64, Vec<f64>) {
        let Expansion { value, gradient, outputs } = self.sample.expand(self.rounds(), &self.moving, u);
        if !self.is_quadratic() {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = (u.to_vec(), outputs);
        }
        (value, gradient)
    }

    fn linearize(&mut self, u: &[f64]) {
        if self.is_quadratic() {
            return;
        }
        let known = self.last.get_mut().unwrap_or_else(PoisonError::into_inner);
        let current = known.0 == u && known.1.len() == self.sample.outputs(self.cursor.rounds());
        self.moved = if current {
            convert(&known.1)
        } else {
            convert(&self.sample.expand(self.rounds(), &self.moving, u).outputs)
        };
    }

    fn ggn_products(&self, from: usize, directions: &[&[f32]]) -> Vec<Vec<f32>> {
        let product = |direction: &&[f32]| {
            self.sample.product(from..self.rounds(), &self.moving, direction, &self.moved, self.cursor.scale())
        };
        directions.iter().map(product).collect()
    }

    fn by_outputs(&self) -> Option<&dyn ByOutputs> {
        self.loss.is_some().then_some(self)
    }

    fn preconditioned_first(&self) -> usize {
        if self.moving.blocks.len() == 1 { BLOCK_ALONE } else { 0 }
    }

    fn precondition(&self, multiplier: f64, residual: &[f64]) -> Direction {
        let blocks = &self.sample.sample.network.blocks()[self.moving.blocks.clone()];
        if let [block] = blocks
            && self.moving.span != block.range()
        {
            return self.preconditioners[self.moving.blocks.start].solve_row(multiplier, residual).into();
        }
        let blocks = self.preconditioners[self.moving.blocks.clone()].iter().map(|block| (block.len(), block));
        solve_blocks(blocks, residual, |block, r| block.solve(multiplier, r)).into()
    }
}

impl<T: Real> ByOutputs for PassObjective<'_, T> {
    fn loss(&self) -> &OutputLoss<'_> {
        self.loss.as_ref().expect("only losses that are not quadratic are gone about by outputs")
    }

    fn expand(&self, u: &[f64]) -> Expansion {
        self.sample.expand(self.rounds(), &self.moving, u)
    }

    fn tangents(&self, from: usize, directions: &[&[f32]]) -> Vec<Vec<f32>> {
        directions.iter().map(|d| self.sample.tangents(from..self.rounds(), &self.moving, d)).collect()
    }

    fn pull(&self, cotangents: &[f32]) -> Vec<f32> {
        self.sample.pull(self.rounds(), &self.moving, cotangents)
    }

    fn displacements(&self, from: usize) -> Vec<Vec<f64>> {
        let states = &self.sample.sample.states[..self.rounds()];
        let moved = |state: &[T], at: usize| state[at].to_f64() - states[0][at].to_f64();
        let span = self.moving.span.clone();
        let last = span.clone().map(|at| moved(&states[states.len() - 1], at)).collect();
        let mean = span.map(|at| states[from..].iter().map(|state| moved(state, at)).sum()).collect();
        vec![mean, last]
    }
}
