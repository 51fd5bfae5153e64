//! Long searches, piece by piece: what is found is kept, and a search ends early when somebody asks for it.

use super::result::UnitResult;
use crate::checkpoint::{Persist, Store, StoreError};
use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::atomic::{AtomicBool, Ordering},
};

/// The work was halted; what it had found by then is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halted;

/// What is found by which piece of work.
#[derive(Clone, Debug, Default)]
pub struct Found(BTreeMap<String, Vec<UnitResult>>);

impl Found {
    /// All results, as the solvers found them.
    pub fn results(&self) -> impl Iterator<Item = &UnitResult> {
        self.0.values().flatten()
    }
}

/// Called with everything found so far, whenever that is more; may break to halt.
type Keep<'a> = Box<dyn FnMut(&mut Found) -> ControlFlow<()> + 'a>;

/// The searches of an analysis. Each piece depends on nothing but its own problem, so pieces of an earlier process count.
pub struct Work<'a> {
    stop: &'a AtomicBool,
    tick: &'a dyn Fn(usize),
    found: Found,
    keep: Keep<'a>,
}

static NEVER: AtomicBool = AtomicBool::new(false);

impl<'a> Work<'a> {
    /// Work that goes on to its end and is kept nowhere.
    pub fn to_the_end() -> Self {
        Self::until(&NEVER)
    }

    /// Work that halts once `stop` is set.
    pub fn until(stop: &'a AtomicBool) -> Self {
        Self { stop, tick: &|_| (), found: Found::default(), keep: Box::new(|_| ControlFlow::Continue(())) }
    }

    /// Goes on from what was `found` before, and calls `keep` as more is.
    pub fn kept(self, found: Found, keep: impl FnMut(&mut Found) -> ControlFlow<()> + 'a) -> Self {
        Self { found, keep: Box::new(keep), ..self }
    }

    /// Calls `tick` with the work that was done since the last call, in rounds that were gone through.
    pub fn telling(self, tick: &'a dyn Fn(usize)) -> Self {
        Self { tick, ..self }
    }

    /// Told how much was done as searches go on.
    pub fn tick(&self) -> &'a dyn Fn(usize) {
        self.tick
    }

    /// Searches look at this now and then, and end early with whatever they have once it is set.
    pub fn stop(&self) -> &'a AtomicBool {
        self.stop
    }

    /// Everything found so far.
    pub fn into_found(self) -> Found {
        self.found
    }

    pub fn is_halted(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Fails once the work is to be halted.
    pub fn go_on(&self) -> Result<(), Halted> {
        if self.is_halted() { Err(Halted) } else { Ok(()) }
    }

    /// The results of the piece named `name`: those found before, else those of `search`.
    pub fn piece(
        &mut self,
        name: impl ToString,
        search: impl FnOnce() -> Vec<UnitResult>,
    ) -> Result<Vec<UnitResult>, Halted> {
        let name = name.to_string();
        match self.known(&name) {
            Some(known) => known,
            None => self.keep(name, search()),
        }
    }

    /// What is known of a piece without a search, if it need not or must not begin.
    fn known(&self, name: &str) -> Option<Result<Vec<UnitResult>, Halted>> {
        match self.found.0.get(name) {
            Some(found) => Some(Ok(found.clone())),
            None => self.is_halted().then_some(Err(Halted)),
        }
    }

    /// Keeps what a search has found.
    fn keep(&mut self, name: String, results: Vec<UnitResult>) -> Result<Vec<UnitResult>, Halted> {
        // A search that was cut short found less than it should have.
        if self.is_halted() {
            return Err(Halted);
        }
        self.found.0.insert(name, results.clone());
        match (self.keep)(&mut self.found) {
            ControlFlow::Continue(()) => Ok(results),
            ControlFlow::Break(()) => Err(Halted),
        }
    }
}

/// Kept as the number of results of each piece, and all results in the order of the pieces.
impl Persist for Found {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        let count = |results: &Vec<UnitResult>| vec![results.len() as u64];
        let mut counts: BTreeMap<String, Vec<u64>> =
            self.0.iter().map(|(name, results)| (name.clone(), count(results))).collect();
        store.part("pieces", |store| store.table(&mut counts))?;
        let mut results: Vec<UnitResult> = self.0.values().flatten().cloned().collect();
        store.record_list("results", &mut results, UnitResult::blank)?;
        if store.is_reading() {
            let mut left = results.into_iter();
            for (name, count) in counts {
                let [count] = count[..] else { return Err(store.malformed(&name, "is not a number of results")) };
                // No more than there are, whatever the number says.
                let own: Vec<UnitResult> = left.by_ref().take(count.try_into().unwrap_or(usize::MAX)).collect();
                if own.len() as u64 != count {
                    return Err(store.malformed(&name, format!("has {} results instead of {count}", own.len())));
                }
                self.0.insert(name, own);
            }
            if left.len() > 0 {
                return Err(store.malformed("results", format!("has {} results too many", left.len())));
            }
        }
        Ok(())
    }
}
