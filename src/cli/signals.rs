//! Ctrl-C and SIGTERM.

use super::{answer, output};
use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Set by a signal: the current round or search step is finished, state and results are written, then the program ends.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Whether there is nothing to lose: data are being read, and nothing was written.
static PREPARING: AtomicBool = AtomicBool::new(false);

/// From here to [`begun`] a signal ends the program at once: code that reads data from a slow disk does not look for signals.
pub fn preparing() {
    PREPARING.store(true, Ordering::SeqCst);
}

/// From here on a signal asks for an end.
pub fn begun() {
    PREPARING.store(false, Ordering::SeqCst);
}

/// People press Ctrl-C twice in a hurry, and schedulers send SIGINT and SIGTERM together. Signals this soon after the
/// first mean the same.
const TOGETHER: Duration = Duration::from_secs(1);

/// The exit code of a program that a signal ended.
const KILLED: i32 = 130;

/// What the first signal says, if the command says something of its own.
static ANSWER: OnceLock<&str> = OnceLock::new();

/// Sets what the first signal says, once for a command.
pub fn announce(answer: &'static str) {
    let _ = ANSWER.set(answer);
}

fn stop_at_once() -> ! {
    const WHY: &str = "stopped; nothing was written";
    output::complain(format!("error: {WHY}"));
    if output::is_json() {
        // A reader that went away needs no answer.
        let _ = output::raw(&answer::failure(WHY, 1));
    }
    std::process::exit(1);
}

/// Lets signals stop the command: the first asks it to end, a later one ends it at once.
pub fn listen() {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let heard = || {
        if FIRST.get_or_init(Instant::now).elapsed() > TOGETHER {
            std::process::exit(KILLED);
        }
        if PREPARING.load(Ordering::SeqCst) {
            stop_at_once();
        }
        if !STOP.swap(true, Ordering::SeqCst) {
            output::note(ANSWER.get().unwrap_or(
                &"\nstopping: state and results are being written; press Ctrl-C again after a second to end at once",
            ));
        }
    };
    // Without a handler signals end the program, as they do by themselves.
    let _ = ctrlc::set_handler(heard);
}
