//! One unit's optima for all prefixes of a run, each search started where the last one ended.

use super::{
    certificate::Optimum,
    objective::PrefixObjective,
    room::{SMALL_SPAN, whole_basis, whole_span},
    settings::{ClosedForm, RegretSettings},
    solve::{Search, basis::Subspace, span::Span},
    tracker::UnitRecord,
    unit::Comparator,
};
use std::{
    cell::Cell,
    sync::atomic::{AtomicBool, Ordering},
};

/// Up to this many weights an iterative search is not limited by its budget of products.
const SMALL: usize = 512;
/// Products that a small problem may take beyond its dimension: rounding leaves something to correct.
const SPARE: usize = 2;

/// How far and how long to search.
#[derive(Clone, Copy)]
pub struct Effort<'a> {
    /// Relative gap to reach.
    pub tolerance: f64,
    /// Products with the curvature of all rounds that the prefixes share, per comparator.
    pub max_products: usize,
    /// Vectors that a basis may have, apart from small problems.
    pub basis: usize,
    /// Ends the search early once it is set.
    pub stop: &'a AtomicBool,
    /// Called with the rounds that products went through, as they are done; with those left over at the end.
    pub tick: &'a dyn Fn(usize),
}

/// The optima by subspace iteration, prefix by prefix. `form` says whether the problem has a closed form, though it is not taken here.
pub fn optima(
    objective: &mut dyn PrefixObjective,
    prefixes: &[usize],
    (settings, form): (&RegretSettings, ClosedForm),
    effort: Effort,
    record: &dyn Fn(usize) -> UnitRecord,
) -> Vec<(Comparator, usize, Optimum)> {
    // The ball first: its problem is the better conditioned one, and its basis serves the other.
    let mut comparators = settings.comparators.of(form);
    comparators.sort_by_key(|comparator| *comparator == Comparator::Unconstrained);
    let dimension = objective.dimension();
    let mut starts = vec![vec![0.0; dimension]; comparators.len()];
    let mut found = Vec::new();
    let small = least_products(dimension);
    let mut subspace = Subspace::new(whole_basis(effort.max_products).min(effort.basis).max(2 * small));
    let mut span = Span::new(whole_span(effort.max_products).min(effort.basis).max(small.min(SMALL_SPAN)));
    let mut budget = Budget::new(prefixes, effort.max_products, comparators.len());
    let told = Cell::new(0);
    for (index, rounds) in prefixes.iter().enumerate() {
        if effort.stop.load(Ordering::Relaxed) {
            break;
        }
        objective.select(index);
        let record = record(*rounds);
        let tick = |products: usize| {
            told.set(told.get() + products * rounds);
            (effort.tick)(products * rounds);
        };
        for (done, (comparator, start)) in comparators.iter().zip(&mut starts).enumerate() {
            let search = Search {
                comparison: settings.comparison(*comparator, record.displacement),
                tolerance: effort.tolerance * record.mean_loss,
                max_products: budget.of(index, done).max(small),
                stop: effort.stop,
                tick: &tick,
            };
            let optimum = match objective.by_outputs() {
                Some(outputs) => search.run_by_outputs(outputs, &mut span),
                None => search.run(objective, start, &mut subspace),
            };
            start.clone_from(&optimum.displacement);
            budget.spend(optimum.iterations, *rounds);
            found.push((*comparator, *rounds, optimum));
        }
    }
    // What the budget was not needed for.
    (effort.tick)(work(prefixes, effort.max_products, comparators.len()).saturating_sub(told.get()));
    found
}

/// A small problem may take as many products as it has weights, whatever its budget.
fn least_products(dimension: usize) -> usize {
    if dimension <= SMALL { dimension + SPARE } else { 0 }
}

/// Rounds that the products of a unit's searches may go through, all prefixes and comparators together.
pub fn work(prefixes: &[usize], max_products: usize, comparators: usize) -> usize {
    max_products * comparators * prefixes.last().copied().unwrap_or(0)
}

/// Of the work, this share is set aside for the last prefix: that is where people look, and its point bounds the shorter ones.
const LAST: f64 = 0.5;

/// The search of a prefix of at most this share of all rounds may take all the products that it wants: they cost little, and the problem of few
/// rounds is no easier than that of many.
const CHEAP: f64 = 0.05;

/// Shares the work, counted in products with one round, out among the searches: what is not set aside for the last prefix, as many products
/// for each search that is left, whatever its length. What one does not use is left for the others.
struct Budget<'a> {
    prefixes: &'a [usize],
    comparators: usize,
    left: usize,
    set_aside: usize,
    /// Products of one search at most.
    most: usize,
}

impl<'a> Budget<'a> {
    fn new(prefixes: &'a [usize], most: usize, comparators: usize) -> Self {
        let left = work(prefixes, most, comparators);
        Self { prefixes, comparators, left, set_aside: (LAST * left as f64) as usize, most }
    }

    /// Products that the search of the `done`-th comparator may take at a prefix.
    fn of(&self, index: usize, done: usize) -> usize {
        let all = self.prefixes[self.prefixes.len() - 1];
        if self.prefixes[index] as f64 <= CHEAP * all as f64 {
            return self.most;
        }
        let later: usize = self.prefixes[index + 1..].iter().sum();
        let rounds = later * self.comparators + self.prefixes[index] * (self.comparators - done);
        let left = if later == 0 { self.left } else { self.left.saturating_sub(self.set_aside) };
        (left / rounds).clamp(2.min(self.most), self.most)
    }

    fn spend(&mut self, products: usize, rounds: usize) {
        self.left = self.left.saturating_sub(products * rounds);
    }
}
