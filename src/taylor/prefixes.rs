//! One unit's optima for all prefixes of a run, each search started where the last one ended.

use super::{
    Optimum,
    objective::PrefixObjective,
    regret::{ClosedForm, RegretSettings},
    solve::{Search, basis::Subspace},
    unit::Comparator,
    units::UnitRecord,
};
use std::{
    cell::Cell,
    sync::atomic::{AtomicBool, Ordering},
};

/// Up to this many weights an iterative search is not limited by its budget of products.
const SMALL: usize = 512;

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
    let Effort { tolerance, max_products, basis, stop, tick } = effort;
    let comparators = settings.comparators.of(form);
    let dimension = objective.dimension();
    let mut starts = vec![vec![0.0; dimension]; comparators.len()];
    let mut found = Vec::new();
    // A small problem may take as many products as it has weights.
    let small = if dimension <= SMALL { dimension + 2 } else { 0 };
    let mut subspace = Subspace::new(max_products.clamp(48, 320).min(basis).max(2 * small));
    let mut budget = Budget::new(prefixes, max_products, comparators.len());
    let told = Cell::new(0);
    for (index, rounds) in prefixes.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        objective.select(index);
        let record = record(*rounds);
        // The ball first: its problem is the better conditioned one, and its basis serves the other.
        let mut order: Vec<usize> = (0..comparators.len()).collect();
        order.sort_by_key(|c| comparators[*c] == Comparator::Unconstrained);
        for (done, c) in order.into_iter().enumerate() {
            let comparator = comparators[c];
            let spent = |products: usize| {
                told.set(told.get() + products * rounds);
                tick(products * rounds);
            };
            let search = Search {
                comparison: settings.comparison(comparator, record.displacement),
                tolerance: tolerance * record.mean_loss,
                max_products: budget.of(index, done).max(small),
                stop,
                tick: &spent,
            };
            let optimum = search.run(objective, &starts[c], &mut subspace);
            starts[c].clone_from(&optimum.displacement);
            budget.spend(optimum.iterations, *rounds);
            found.push((comparator, *rounds, optimum));
        }
    }
    // What the budget was not needed for.
    tick(work(prefixes, max_products, comparators.len()).saturating_sub(told.get()));
    found
}

/// Rounds that the products of a unit's searches may go through, all prefixes and comparators together.
pub fn work(prefixes: &[usize], max_products: usize, comparators: usize) -> usize {
    max_products * comparators * prefixes.last().copied().unwrap_or(0)
}

/// Of the work, this share is set aside for the last prefix: that is where people look, and its point bounds the shorter ones.
const LAST: f64 = 0.5;

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
        let later: usize = self.prefixes[index + 1..].iter().sum();
        let rounds = later * self.comparators + self.prefixes[index] * (self.comparators - done);
        let left = if later == 0 { self.left } else { self.left.saturating_sub(self.set_aside) };
        (left / rounds).clamp(2.min(self.most), self.most)
    }

    fn spend(&mut self, products: usize, rounds: usize) {
        self.left = self.left.saturating_sub(products * rounds);
    }
}
