//! The last few values that were computed, by the number they belong to.

use std::sync::{Arc, Mutex, PoisonError};

/// Values for the numbers that were asked for last, at most `CAPACITY` of them, for all threads.
pub(super) struct Recent<T, const CAPACITY: usize> {
    /// The oldest first.
    entries: Mutex<Vec<(f64, Arc<T>)>>,
}

impl<T, const CAPACITY: usize> Default for Recent<T, CAPACITY> {
    fn default() -> Self {
        Self { entries: Mutex::default() }
    }
}

impl<T, const CAPACITY: usize> Recent<T, CAPACITY> {
    /// The value for `key`; made, and kept in place of the oldest, if it is not there.
    pub(super) fn get_or_make(&self, key: f64, make: impl FnOnce() -> Option<T>) -> Option<Arc<T>> {
        let entries = || self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, value)) = entries().iter().find(|(known, _)| *known == key) {
            return Some(value.clone());
        }
        // Not locked meanwhile: a thread that waits for its share of the work may take up other work, which may ask for a value too.
        let value = Arc::new(make()?);
        let mut entries = entries();
        if entries.len() == CAPACITY {
            entries.remove(0);
        }
        entries.push((key, value.clone()));
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_value_is_made_again() {
        let recent = Recent::<f64, 2>::default();
        let made = std::cell::Cell::new(0);
        let get = |key: f64| {
            let value = recent.get_or_make(key, || {
                made.set(made.get() + 1);
                (key > 0.0).then_some(10.0 * key)
            });
            value.map(|value| *value)
        };
        assert_eq!([1.0, 2.0, 1.0, 2.0].map(get), [10.0, 20.0, 10.0, 20.0].map(Some));
        assert_eq!(made.get(), 2);
        // A third one takes the place of the first; failures take none.
        assert_eq!([3.0, -1.0, 2.0, 1.0].map(get), [Some(30.0), None, Some(20.0), Some(10.0)]);
        assert_eq!(made.get(), 5);
    }
}
