//! The objective of a range of blocks over a prefix of the window, and its optima by subspace iteration.
//!
//! Values and gradients come from the window in `f64`, the many products of the search from its copy in `f32`; the Kronecker factors
//! `mean M (x) mean x x'` are the preconditioner (`docs/theory.md`, section 4).

use super::{preconditioners::Preconditioners, window::Window};
use crate::{
    num::{convert, dot, norm, pieces::CHUNK},
    taylor::{
        Expansion,
        certificate::Optimum,
        objective::{BLOCK_ALONE, ByOutputs, Direction, Objective, PrefixCursor, PrefixObjective},
        output_loss::OutputLoss,
        precondition::{BlockPreconditioner, solve_blocks},
        prefixes::{self, Effort},
        settings::{ClosedForm, RegretSettings},
        strategy::LayerStrategy,
        tracker::UnitRecord,
        unit::Comparator,
    },
};
use rayon::prelude::*;
use std::{ops::Range, sync::atomic::AtomicBool, time::Instant};

/// What layer and network scale work on.
pub struct Windows<'a> {
    /// In `f64`: what is reported is computed here.
    pub exact: &'a Window<'a, f64>,
    /// In `f32`: the many products of the search.
    pub fast: &'a Window<'a, f32>,
    pub preconditioners: &'a Preconditioners,
    /// Ends searches early once it is set.
    pub stop: &'a AtomicBool,
}

impl Windows<'_> {
    /// Seconds that a product with the curvature of the whole window takes, tried once.
    pub fn seconds_per_product(&self) -> f64 {
        let (network, rounds) = (self.fast.network(), self.fast.rounds());
        let direction = vec![1e-3_f32; network.parameters()];
        let outputs = vec![0.0_f32; self.fast.rows().rows().len() * network.outputs()];
        let start = Instant::now();
        self.fast.product(0..rounds, 0..network.blocks().len(), &direction, &outputs, 1.0);
        start.elapsed().as_secs_f64()
    }
}

/// The optima of a range of blocks by subspace iteration.
pub fn iterative_optima(
    windows: &Windows,
    blocks: Range<usize>,
    prefixes: &[usize],
    settings: &RegretSettings,
    record: &dyn Fn(usize) -> UnitRecord,
    tick: &dyn Fn(usize),
) -> Vec<(Comparator, usize, Optimum)> {
    let (network, loss) = (windows.exact.network(), windows.exact.loss());
    let form =
        if blocks.len() == 1 { LayerStrategy::of(network, loss, blocks.start).closed_form() } else { ClosedForm::No };
    let mut objective = TaylorObjective::new(windows, blocks, prefixes);
    let Windows { stop, .. } = *windows;
    let (tolerance, max_products) = (settings.tolerance, settings.max_products);
    let effort = Effort { tolerance, max_products, basis: usize::MAX, stop, tick };
    prefixes::optima(&mut objective, prefixes, (settings, form), effort, record)
}

/// The objective `F` of a range of blocks over a prefix of the window.
struct TaylorObjective<'a> {
    windows: &'a Windows<'a>,
    blocks: Range<usize>,
    /// For quadratic losses: value and gradient at `W^1`, summed over each prefix.
    terms: Vec<(f64, Vec<f64>)>,
    cursor: PrefixCursor,
    /// The outputs `[rows, outputs]` at which the Hessian of the loss is taken.
    moved: Vec<f32>,
    /// The loss of the outputs, if it is not quadratic.
    loss: Option<OutputLoss<'a>>,
}

impl<'a> TaylorObjective<'a> {
    fn new(windows: &'a Windows<'a>, blocks: Range<usize>, prefixes: &[usize]) -> Self {
        let quadratic = windows.exact.loss().is_quadratic();
        let terms = if quadratic { windows.exact.linear_terms(prefixes, blocks.clone()) } else { Vec::new() };
        let cursor = PrefixCursor::new(prefixes, windows.exact.rows().largest());
        let loss = (!quadratic).then(|| windows.exact.output_loss());
        Self { windows, blocks, terms, cursor, moved: Vec::new(), loss }
    }

    /// For quadratic losses: value and gradient at a point, given its image under the curvature.
    fn at(&self, u: &[f64], image: &[f64]) -> (f64, Vec<f64>) {
        let scale = 1.0 / self.rounds() as f64;
        let (constant, linear) = &self.terms[self.cursor.index()];
        let mut gradient: Vec<f64> = linear.iter().map(|v| v * scale).collect();
        let mut value = constant * scale;
        for ((g, u), h) in gradient.iter_mut().zip(u).zip(image) {
            value += *g * u + 0.5 * h * u;
            *g += h;
        }
        (value, gradient)
    }

    /// The lengths and preconditioners of some blocks.
    fn factors(&self, blocks: Range<usize>) -> impl Iterator<Item = (usize, &BlockPreconditioner)> {
        blocks.map(|l| self.windows.preconditioners.of(l, self.rounds())).map(|block| (block.len(), block))
    }
}

impl PrefixObjective for TaylorObjective<'_> {
    fn cursor(&mut self) -> &mut PrefixCursor {
        &mut self.cursor
    }
}

impl Objective for TaylorObjective<'_> {
    fn dimension(&self) -> usize {
        let all = self.windows.exact.network().blocks();
        all[self.blocks.end - 1].range().end - all[self.blocks.start].offset
    }

    fn is_quadratic(&self) -> bool {
        self.windows.exact.loss().is_quadratic()
    }

    fn rounds(&self) -> usize {
        self.cursor.rounds()
    }

    fn evaluate(&self, u: &[f64]) -> (f64, Vec<f64>) {
        let (rounds, exact) = (self.rounds(), self.windows.exact);
        if !self.is_quadratic() {
            let Expansion { value, gradient, .. } = exact.expand(rounds, self.blocks.clone(), u);
            return (value, gradient);
        }
        if u.iter().all(|v| *v == 0.0) {
            return self.at(u, u);
        }
        self.at(u, &exact.product(0..rounds, self.blocks.clone(), u, &[], self.cursor.scale()))
    }

    fn linearize(&mut self, u: &[f64]) {
        if !self.is_quadratic() {
            let expansion = self.windows.exact.expand(self.rounds(), self.blocks.clone(), u);
            self.moved = convert(&expansion.outputs);
        }
    }

    fn evaluate_both(&self, points: [&[f64]; 2]) -> [(f64, Vec<f64>); 2] {
        if !self.is_quadratic() {
            return points.map(|u| self.evaluate(u));
        }
        let (rounds, blocks) = (self.rounds(), self.blocks.clone());
        let mut images = self.windows.exact.products(0..rounds, blocks, &points, &[], self.cursor.scale()).into_iter();
        points.map(|u| self.at(u, &images.next().expect("an image for every point")))
    }

    fn mean_displacement(&self, from: usize) -> Option<Vec<f64>> {
        let blocks = &self.windows.exact.network().blocks()[self.blocks.clone()];
        let span = blocks.first()?.offset..blocks.last()?.range().end;
        let states = self.windows.exact.states.get(from..self.rounds())?;
        let mut mean = vec![0.0; span.len()];
        mean.par_chunks_mut(CHUNK).enumerate().for_each(|(s, mean)| {
            let start = span.start + s * CHUNK;
            let own = start..start + mean.len();
            for state in states {
                let moved = state[own.clone()].iter().zip(&self.windows.exact.initial()[own.clone()]);
                mean.iter_mut().zip(moved).for_each(|(mean, (w, start))| *mean += (w - start) / states.len() as f64);
            }
        });
        Some(mean)
    }

    fn ggn_products(&self, from: usize, directions: &[&[f32]]) -> Vec<Vec<f32>> {
        let rounds = from..self.rounds();
        self.windows.fast.products(rounds, self.blocks.clone(), directions, &self.moved, self.cursor.scale())
    }

    fn by_outputs(&self) -> Option<&dyn ByOutputs> {
        self.loss.is_some().then_some(self)
    }

    fn preconditioned_first(&self) -> usize {
        if self.blocks.len() == 1 { BLOCK_ALONE } else { 0 }
    }

    fn precondition(&self, multiplier: f64, residual: &[f64]) -> Direction {
        let last = self.windows.exact.network().output_index();
        if self.is_quadratic() && self.blocks.contains(&last) && self.blocks.len() > 1 {
            return self.output_eliminated(multiplier, residual, last);
        }
        solve_blocks(self.factors(self.blocks.clone()), residual, |block, r| block.solve(multiplier, r)).into()
    }
}

impl ByOutputs for TaylorObjective<'_> {
    fn loss(&self) -> &OutputLoss<'_> {
        self.loss.as_ref().expect("only losses that are not quadratic are gone about by outputs")
    }

    fn expand(&self, u: &[f64]) -> Expansion {
        self.windows.exact.expand(self.rounds(), self.blocks.clone(), u)
    }

    fn tangents(&self, from: usize, directions: &[&[f32]]) -> Vec<Vec<f32>> {
        self.windows.fast.output_tangents(from..self.rounds(), self.blocks.clone(), directions)
    }

    fn pull(&self, cotangents: &[f32]) -> Vec<f32> {
        self.windows.fast.pull(self.rounds(), self.blocks.clone(), cotangents)
    }

    fn displacements(&self, from: usize) -> Vec<Vec<f64>> {
        let blocks = &self.windows.exact.network().blocks()[self.blocks.clone()];
        let span = blocks[0].offset..blocks[blocks.len() - 1].range().end;
        let (start, last) = (&self.windows.exact.initial()[span.clone()], self.rounds() - 1);
        let moved = self.windows.exact.states[last][span].iter().zip(start).map(|(w, start)| w - start).collect();
        self.mean_displacement(from).into_iter().chain([moved]).collect()
    }
}

impl TaylorObjective<'_> {
    /// The direction at network scale. The output block, the last one, is known exactly: the others move it along with them, and what is left to
    /// itself goes first.
    fn output_eliminated(&self, multiplier: f64, residual: &[f64], last: usize) -> Direction {
        let hidden = self.blocks.start..last;
        let output = self.windows.preconditioners.of(last, self.rounds());
        let (inner, outer) = residual.split_at(residual.len() - output.len());
        let moved = solve_blocks(self.factors(hidden.clone()), inner, |block, r| block.solve_schur(multiplier, r));
        let alone = output.solve(multiplier, outer);
        if dot(&alone, outer) > dot(&moved, inner) {
            return vec![0.0; inner.len()].into_iter().chain(alone).collect::<Vec<_>>().into();
        }
        let (rounds, scale, fast) = (0..self.rounds(), self.cursor.scale(), self.windows.fast);
        // Of length 1, in the range of `f32` whatever the residual.
        let length = norm(&moved).max(f64::MIN_POSITIVE);
        let mut direction: Vec<f32> = moved.iter().map(|v| (v / length) as f32).collect();
        let known = fast.output_image(rounds.clone(), hidden, &direction, scale);
        let rest: Vec<f64> = outer.iter().zip(&known.image).map(|(r, i)| r / length - f64::from(*i)).collect();
        direction.extend(convert::<f64, f32>(&output.solve(multiplier, &rest)));
        let image = fast.product_with(rounds, self.blocks.clone(), &direction, &known, scale);
        Direction { vector: convert(&direction), product: Some(image) }
    }
}
