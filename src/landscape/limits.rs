//! What a landscape may take: memory for what is found, and time until somebody asks it to end.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Values per plane of a batch of pieces before it is taken on in parts, where memory is ample.
const BATCH_VALUES: usize = 1 << 20;
/// Fewer would make matrix products small and slow.
const LEAST_VALUES: usize = 1 << 12;
/// Bytes of the memory for each value of a batch: every thread has some planes of `f64` in some layers at a time.
const BYTES_PER_VALUE: usize = 1 << 11;

/// Why a landscape was not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    #[error("stopped")]
    Stopped,
    #[error("what was found takes more than {allowed} bytes")]
    Memory { allowed: usize },
    #[error("the network branches and sums; kinks are found in layers that stand one behind the other alone")]
    NotAChain,
}

/// Counts what is kept, and hears when to stop. All work on one landscape shares one of these.
#[derive(Debug)]
pub struct Limits<'a> {
    stop: &'a AtomicBool,
    /// Bytes in all.
    allowed: usize,
    used: AtomicUsize,
    batch: usize,
}

static NEVER: AtomicBool = AtomicBool::new(false);

impl Limits<'static> {
    /// As much as there is, to the end.
    pub const fn none() -> Self {
        Limits { stop: &NEVER, allowed: usize::MAX, used: AtomicUsize::new(0), batch: BATCH_VALUES }
    }
}

impl<'a> Limits<'a> {
    /// Until `stop` is set, and `allowed` bytes for kinks, pieces and batches.
    pub fn new(stop: &'a AtomicBool, allowed: usize) -> Self {
        let batch = (allowed / BYTES_PER_VALUE).clamp(LEAST_VALUES, BATCH_VALUES);
        Self { stop, allowed, used: AtomicUsize::new(0), batch }
    }

    /// Fails once told to stop.
    ///
    /// # Errors
    /// [`Ended::Stopped`].
    pub fn go_on(&self) -> Result<(), Ended> {
        if self.stop.load(Ordering::Relaxed) { Err(Ended::Stopped) } else { Ok(()) }
    }

    /// Counts this many bytes more.
    ///
    /// # Errors
    /// [`Ended::Memory`] if they are too many.
    pub fn take(&self, bytes: usize) -> Result<(), Ended> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        match before.saturating_add(bytes) > self.allowed {
            true => Err(Ended::Memory { allowed: self.allowed }),
            false => Ok(()),
        }
    }

    /// Fails if this many bytes more would be too many.
    ///
    /// # Errors
    /// [`Ended::Memory`].
    pub fn has_room(&self, bytes: usize) -> Result<(), Ended> {
        let fits = self.take(bytes);
        self.give_back(bytes);
        fits
    }

    /// Whether little of the memory is used, so that what could be found again is better kept.
    pub fn are_ample(&self) -> bool {
        self.used.load(Ordering::Relaxed) <= self.allowed / 4
    }

    /// Counts this many bytes less.
    pub fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Values per plane of a batch of pieces before it is taken on in parts. It depends on the memory alone, as the last bits of products
    /// depend on it.
    pub fn batch_values(&self) -> usize {
        self.batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_counted_until_it_is_too_much() {
        let stop = AtomicBool::new(false);
        let limits = Limits::new(&stop, 1000);
        assert_eq!((limits.take(600), limits.take(400)), (Ok(()), Ok(())));
        assert!(!limits.are_ample());
        limits.give_back(750);
        assert!(limits.are_ample());
        assert_eq!(limits.take(750), Ok(()));
        assert_eq!(limits.take(1), Err(Ended::Memory { allowed: 1000 }));
        assert_eq!(limits.go_on(), Ok(()));
        stop.store(true, Ordering::Relaxed);
        assert_eq!(limits.go_on(), Err(Ended::Stopped));
    }

    #[test]
    fn batches_are_smaller_in_little_memory() {
        let stop = AtomicBool::new(false);
        let values = |allowed| Limits::new(&stop, allowed).batch_values();
        assert_eq!((values(0), values(64 << 20), values(4 << 30)), (LEAST_VALUES, 1 << 15, BATCH_VALUES));
        assert_eq!(Limits::none().batch_values(), BATCH_VALUES);
    }
}
