//! Progress on standard error: a bar on a terminal; elsewhere lines, and never a longer silence than [`SILENCE`].

use super::{course::Course, output};
use crate::study::{Event, campaign::CampaignEvent, tables::RunStatus};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::{self, IsTerminal},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How often the ticker looks.
const TICK: Duration = Duration::from_millis(500);
/// How often a bar is drawn at most.
const FRAME: Duration = Duration::from_millis(100);

/// Shows the progress of a command, from any thread. Silent with `--quiet`.
pub struct Progress {
    shared: Arc<Shared>,
    ticker: Option<JoinHandle<()>>,
}

struct Shared {
    begun: Instant,
    state: Mutex<State>,
    ended: Condvar,
}

struct State {
    course: Course,
    bar: Option<ProgressBar>,
    drawn: Duration,
    ended: bool,
}

impl Progress {
    pub fn new() -> Self {
        let terminal = io::stderr().is_terminal();
        let bar = (terminal && !output::is_quiet()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            bar.set_style(style(false));
            bar
        });
        let state = State { course: Course::default(), bar, drawn: Duration::ZERO, ended: false };
        let shared = Arc::new(Shared { begun: Instant::now(), state: Mutex::new(state), ended: Condvar::new() });
        // Lines must appear even while a phase reports nothing, so they come from a thread of their own.
        let ticker = (!output::is_quiet()).then(|| {
            let shared = shared.clone();
            thread::spawn(move || shared.tick())
        });
        Self { shared, ticker }
    }

    /// Shows an event of a study.
    pub fn show(&self, event: Event) {
        // A failed optimizer is an error, which is reported even with `--quiet`.
        if let Event::Finished { summary } = event
            && let Some(message) =
                summary.message.as_ref().filter(|_| summary.status == RunStatus::Failed && output::is_quiet())
        {
            output::complain(format!("{}: {message}", summary.label));
        }
        self.shared.update(|course, now| course.event(event, now));
    }

    /// Shows an event of a campaign, whose runs are called by the noun.
    pub fn campaign<R>(&self, noun: &'static str, event: CampaignEvent<R>) {
        match event {
            CampaignEvent::Note { text } => output::note(text),
            CampaignEvent::Planned { runs, known } => self.plan(noun, runs, known),
            CampaignEvent::Done { .. } => self.count(),
        }
    }

    /// Announces `pieces` pieces of work, besides the `known` ones that are done already.
    pub fn plan(&self, noun: &'static str, pieces: usize, known: usize) {
        self.shared.update(|course, now| course.plan(noun, pieces, known, now));
    }

    /// One more piece is done.
    pub fn count(&self) {
        self.shared.update(|course, now| course.count(now));
    }

    /// Something begins that is told in a line.
    pub fn step(&self, text: &str) {
        self.shared.update(|course, now| course.step(text, now));
    }

    /// Something begins that is told only if it takes long.
    pub fn begin(&self, name: &str) {
        self.shared.update(|course, now| course.begin(name, now));
    }

    /// Ends the display, before results are printed.
    pub fn finish(&mut self) {
        self.shared.lock().ended = true;
        self.shared.ended.notify_all();
        if let Some(ticker) = self.ticker.take() {
            // Even if the thread panicked, there is nothing left to do.
            let _ = ticker.join();
        }
        if let Some(bar) = self.shared.lock().bar.take() {
            bar.finish_and_clear();
        }
    }

    /// The phase of the analysis that took the most time, with its time and that of all phases.
    pub fn costliest(&self) -> Option<(String, Duration, Duration)> {
        self.shared.lock().course.costliest(self.shared.begun.elapsed())
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut Course, Duration) -> Vec<String>) {
        let now = self.begun.elapsed();
        let mut state = self.lock();
        let lines = change(&mut state.course, now);
        state.print(&lines);
        if !lines.is_empty() || now.saturating_sub(state.drawn) > FRAME {
            state.draw(now);
        }
    }

    fn tick(&self) {
        let mut state = self.lock();
        while !state.ended {
            state = self.ended.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
            let now = self.begun.elapsed();
            if state.bar.is_some() {
                state.draw(now);
            } else if let Some(line) = state.course.tick(now).filter(|_| !state.ended) {
                state.print(&[line]);
            }
        }
    }
}

impl State {
    fn print(&self, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        let print = || lines.iter().for_each(output::note);
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn draw(&mut self, now: Duration) {
        self.drawn = now;
        let Some(bar) = &self.bar else { return };
        let view = self.course.view(now);
        match view.share {
            Some(share) => {
                bar.set_style(style(true));
                bar.set_length(1000);
                bar.set_position((1000.0 * share) as u64);
            }
            None => bar.set_style(style(false)),
        }
        bar.set_message(view.text);
        bar.tick();
    }
}

fn style(known: bool) -> ProgressStyle {
    let template = if known { "{bar:24} {wide_msg}" } else { "{spinner} {wide_msg}" };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
