//! When and where the state of an optimizer's run is kept, so that nothing that ends the process costs more than the
//! work since.

use super::error::StudyError;
use crate::{
    checkpoint::{self, CheckpointError, Identity, Persist, Saved},
    files,
    taylor::{Found, Work},
};
use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

/// The state of training, and later that of all rounds that were observed.
const STATE: &str = "checkpoint.safetensors";
/// The optima that an analysis has found.
const FOUND: &str = "optima.safetensors";
/// State is written for this share of the time at most, if it is written by the clock.
const SHARE: u32 = 20;
/// Once training has ended, its state is written if it took longer than this: from then on, there is nothing more to
/// lose than single searches.
const WORTH_KEEPING: Duration = Duration::from_secs(30);

/// Optima are few bytes, but bringing them to the disk takes its time.
const OFTEN_ENOUGH: Duration = Duration::from_secs(2);

/// How often state is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    Rounds(usize),
    Time(Duration),
}

impl Default for Interval {
    fn default() -> Self {
        Interval::Time(Duration::from_secs(300))
    }
}

/// Keeps the state of one optimizer's run in its folder.
pub(super) struct Keeper {
    folder: PathBuf,
    identity: Identity,
    interval: Interval,
    /// When state was last written (or the work began), and how long that took.
    last: Instant,
    cost: Duration,
    /// When optima were last written.
    last_found: Option<Instant>,
}

impl Keeper {
    pub fn new(folder: &Path, identity: Identity, interval: Interval) -> Self {
        Self {
            folder: folder.to_owned(),
            identity,
            interval,
            last: Instant::now(),
            cost: Duration::ZERO,
            last_found: None,
        }
    }

    /// The state that was kept, if there is one.
    pub fn open(folder: &Path) -> Result<Option<Saved>, CheckpointError> {
        Saved::open(&folder.join(STATE))
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether it is time to write the state, after round `round`.
    pub fn is_due(&self, round: usize) -> bool {
        match self.interval {
            Interval::Rounds(rounds) => round.is_multiple_of(rounds.max(1)),
            Interval::Time(time) => self.last.elapsed() >= time.max(SHARE * self.cost),
        }
    }

    /// Whether the state at the end of training is worth writing.
    pub fn is_worth_it(&self) -> bool {
        match self.interval {
            Interval::Rounds(_) => true,
            Interval::Time(time) => self.last.elapsed() >= time.min(WORTH_KEEPING),
        }
    }

    /// Writes the state. If that fails, the one before it is still there.
    pub fn save(&mut self, state: &mut dyn Persist) -> Result<(), CheckpointError> {
        let start = Instant::now();
        let saved = checkpoint::save(&self.folder.join(STATE), &self.identity, state);
        (self.last, self.cost) = (Instant::now(), start.elapsed());
        saved
    }

    /// The optima that the analysis of `rounds` rounds found before.
    pub fn found(&self, rounds: usize) -> Result<Found, CheckpointError> {
        let mut found = Found::default();
        checkpoint::load(&self.folder.join(FOUND), &self.identity_after(rounds), &mut found)?;
        Ok(found)
    }

    /// Runs an analysis of `rounds` rounds that goes on from the optima found before, keeps those that it finds, and gives its result
    /// with all of them.
    pub fn search<R>(
        &mut self,
        rounds: usize,
        stop: &AtomicBool,
        tick: &dyn Fn(usize),
        analysis: impl FnOnce(&mut Work) -> R,
    ) -> Result<(R, Found), CheckpointError> {
        let (found, mut failure) = (self.found(rounds)?, None);
        let keep = |found: &mut Found| match self.save_found(rounds, found) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        };
        let mut work = Work::until(stop).kept(found, keep).telling(tick);
        let result = analysis(&mut work);
        let found = work.into_found();
        failure.map_or(Ok((result, found)), Err)
    }

    /// Writes what an analysis of `rounds` rounds has found, unless that was done just before.
    pub fn save_found(&mut self, rounds: usize, found: &mut Found) -> Result<(), CheckpointError> {
        let by_the_clock = matches!(self.interval, Interval::Time(_));
        if by_the_clock && self.last_found.is_some_and(|last| last.elapsed() < OFTEN_ENOUGH) {
            return Ok(());
        }
        checkpoint::save(&self.folder.join(FOUND), &self.identity_after(rounds), found)?;
        self.last_found = Some(Instant::now());
        Ok(())
    }

    /// Writes what an analysis that was halted had found.
    pub fn save_last_found(&mut self, rounds: usize, found: &mut Found) -> Result<(), CheckpointError> {
        self.last_found = None;
        self.save_found(rounds, found)
    }

    fn identity_after(&self, rounds: usize) -> Identity {
        let mut identity = self.identity.clone();
        identity.insert("number of rounds".into(), rounds.to_string());
        identity
    }

    /// Removes what was kept in a folder whose results are complete.
    pub fn clear(folder: &Path) -> Result<(), StudyError> {
        let cleared = [STATE, FOUND].into_iter().try_for_each(|name| files::remove_all_of(&folder.join(name)));
        cleared.map_err(|source| StudyError::Write { path: folder.to_owned(), source })
    }
}
