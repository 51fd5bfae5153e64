//! From what an analysis tells to the events of a study: a phase, and how much of its work is done.

use super::{analysis::Stage, event::Event};
use std::cell::{Cell, RefCell};

/// Passes stages and ticks of an analysis on as events.
pub(super) struct Relay<'a> {
    events: RefCell<&'a mut dyn FnMut(Event)>,
    done: Cell<u64>,
    of: Cell<u64>,
}

impl<'a> Relay<'a> {
    pub fn new(events: &'a mut dyn FnMut(Event)) -> Self {
        Self { events: RefCell::new(events), done: Cell::new(0), of: Cell::new(0) }
    }

    pub fn stage(&self, stage: Stage) {
        let event = match stage {
            Stage::Phase { name, work } => {
                self.done.set(0);
                self.of.set(work as u64);
                Event::Phase { name }
            }
            Stage::Note(text) => Event::Note { text },
        };
        (self.events.borrow_mut())(event);
    }

    /// So much more of the phase's work is done.
    pub fn tick(&self, work: usize) {
        let (done, of) = (self.done.get() + work as u64, self.of.get());
        self.done.set(done);
        if of > 0 {
            (self.events.borrow_mut())(Event::Progress { done: done.min(of), of });
        }
    }
}
