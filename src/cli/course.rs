//! What to say about the course of a command: events and times in, lines out.

use crate::study::{Event, numbers::counted};
use std::time::Duration;

/// Without a terminal, the longest time between two lines.
pub const SILENCE: Duration = Duration::from_secs(10);
/// Work that is reported as done this soon after its phase began was done by an earlier process.
const AT_ONCE: Duration = Duration::from_millis(200);

/// What training is counted in.
const ROUND: &str = "round";

/// What is known of the course so far. All times are since the command began.
pub struct Course {
    /// The optimizer, and which one of how many it is.
    subject: String,
    /// When it began.
    begun: Duration,
    /// Rounds that it is to train.
    rounds: u64,
    phase: Phase,
    last_line: Duration,
    /// Time spent in the phases of analyses that have ended.
    spent: Vec<(String, Duration)>,
}

/// What is being done.
#[derive(Default)]
struct Phase {
    name: String,
    /// What its work is counted in; empty for shares of it.
    noun: &'static str,
    begun: Duration,
    done: u64,
    /// 0 while nothing is known.
    of: u64,
    /// Work that an earlier process did, and when that was known.
    known: (u64, Duration),
    loss: Option<f64>,
    /// Whether it is one of an analysis.
    measures: bool,
}

/// What a bar shows.
pub struct View {
    /// Of the phase's work; `None` where that is not known.
    pub share: Option<f64>,
    pub text: String,
}

impl Phase {
    fn share(&self) -> Option<f64> {
        (self.of > 0).then(|| (self.done as f64 / self.of as f64).min(1.0))
    }

    fn advance(&mut self, done: u64, of: u64, now: Duration) {
        (self.done, self.of) = (done, of);
        if now.saturating_sub(self.begun) < AT_ONCE {
            self.known = (done, now);
        }
    }

    /// Seconds that are left if work goes on as it did.
    fn left(&self, now: Duration) -> Option<f64> {
        let done = self.done.checked_sub(self.known.0).filter(|done| *done > 0)?;
        let spent = now.saturating_sub(self.known.1).as_secs_f64();
        Some(spent / done as f64 * self.of.saturating_sub(self.done) as f64)
    }

    /// `round 120 of 230, 52%, 20 s, ETA 18 s, loss 0.0512`, as far as known.
    fn text(&self, now: Duration) -> String {
        let spent = now.saturating_sub(self.begun).as_secs_f64();
        let Some(share) = self.share() else { return format!("{}, {}", self.name, seconds(spent)) };
        let what = match self.noun {
            "" => self.name.clone(),
            noun => format!("{noun} {} of {}", self.done, self.of),
        };
        let loss = self.loss.map_or(String::new(), |loss| format!(", loss {loss:.5}"));
        let left = self.left(now).map_or(String::new(), |left| format!(", ETA {}", seconds(left)));
        format!("{what}, {:.0}%, {}{left}{loss}", (100.0 * share).floor(), seconds(spent))
    }
}

impl Default for Course {
    fn default() -> Self {
        let phase = Phase { name: "preparing".to_owned(), ..Phase::default() };
        let none = Duration::ZERO;
        Self { subject: String::new(), begun: none, rounds: 0, phase, last_line: none, spent: Vec::new() }
    }
}

impl Course {
    /// Takes an event; gives the lines to print.
    pub fn event(&mut self, event: Event, now: Duration) -> Vec<String> {
        let lines = match event {
            Event::Started { label, index, count, learning_rate, rounds } => {
                self.subject = if count > 1 { format!("{label} ({index} of {count})") } else { label.to_owned() };
                self.begun = now;
                self.rounds = rounds as u64;
                self.train(0, now);
                // A trace need not tell its rate.
                let rate = learning_rate.map_or(String::new(), |rate| format!("learning rate {rate}, "));
                vec![self.about(&format!("{rate}{}", counted(rounds, "round")))]
            }
            Event::Resumed { label: _, rounds } => {
                self.train(rounds as u64, now);
                vec![self.about(&format!("resuming after round {rounds}"))]
            }
            Event::Kept { label } => vec![format!("{label}: complete, kept")],
            Event::Round { number, loss } => {
                // A pass that only measures may have come before.
                if self.phase.noun != ROUND {
                    self.train(number as u64, now);
                }
                self.phase.done = number as u64;
                self.phase.loss = Some(loss);
                vec![]
            }
            Event::Epoch { .. } => vec![],
            Event::Progress { done, of } => {
                self.phase.advance(done, of, now);
                vec![]
            }
            Event::Note { text } => vec![text.to_owned()],
            Event::Phase { name } => {
                self.enter(Phase { name: name.to_owned(), measures: true, ..Phase::default() }, now);
                let spent = seconds(now.saturating_sub(self.begun).as_secs_f64());
                vec![self.about(&format!("{name} ({spent} so far)"))]
            }
            Event::Finished { summary } => {
                let spent = seconds(now.saturating_sub(self.begun).as_secs_f64());
                let mut lines = vec![self.about(&format!("{} in {spent}", summary.status))];
                lines.extend(summary.message.as_ref().map(|message| self.about(message)));
                self.subject.clear();
                self.begin("writing the results", now);
                lines
            }
        };
        self.printed(lines, now)
    }

    /// Equal pieces of work begin.
    pub fn plan(&mut self, noun: &'static str, pieces: usize, known: usize, now: Duration) -> Vec<String> {
        self.enter(Phase { name: "training".to_owned(), noun, of: pieces as u64, ..Phase::default() }, now);
        self.printed(vec![format!("{pieces} {noun}s to train, {known} known")], now)
    }

    /// A piece of work is done.
    pub fn count(&mut self, _now: Duration) -> Vec<String> {
        self.phase.done += 1;
        vec![]
    }

    /// A phase that is told in a line.
    pub fn step(&mut self, text: &str, now: Duration) -> Vec<String> {
        self.begin(text, now);
        self.printed(vec![text.to_owned()], now)
    }

    /// A phase that is told only if it takes long.
    pub fn begin(&mut self, name: &str, now: Duration) -> Vec<String> {
        self.enter(Phase { name: name.to_owned(), ..Phase::default() }, now);
        vec![]
    }

    /// A line to print, if none was printed for [`SILENCE`].
    pub fn tick(&mut self, now: Duration) -> Option<String> {
        if now.saturating_sub(self.last_line) < SILENCE {
            return None;
        }
        self.last_line = now;
        let text = self.phase.text(now);
        let text = if self.phase.share().is_none() { format!("still busy with {text}") } else { text };
        Some(self.about(&text))
    }

    /// What a bar shows now.
    pub fn view(&self, now: Duration) -> View {
        View { share: self.phase.share(), text: self.about(&self.phase.text(now)) }
    }

    /// The phase of all analyses that took the most time so far, with its time and that of all phases.
    pub fn costliest(&mut self, now: Duration) -> Option<(String, Duration, Duration)> {
        self.begin("printing", now);
        let all = self.spent.iter().map(|(_, time)| *time).sum();
        self.spent.iter().max_by_key(|(_, time)| *time).map(|(name, time)| (name.clone(), *time, all))
    }

    /// Training begins after the rounds that are done.
    fn train(&mut self, done: u64, now: Duration) {
        self.enter(Phase { name: "training".to_owned(), noun: ROUND, of: self.rounds, ..Phase::default() }, now);
        (self.phase.done, self.phase.known) = (done, (done, now));
    }

    fn enter(&mut self, phase: Phase, now: Duration) {
        let ended = std::mem::replace(&mut self.phase, Phase { begun: now, known: (0, now), ..phase });
        if ended.measures {
            let time = now.saturating_sub(ended.begun);
            match self.spent.iter_mut().find(|(name, _)| *name == ended.name) {
                Some((_, spent)) => *spent += time,
                None => self.spent.push((ended.name, time)),
            }
        }
    }

    fn about(&self, text: &str) -> String {
        if self.subject.is_empty() { text.to_owned() } else { format!("{}: {text}", self.subject) }
    }

    fn printed(&mut self, lines: Vec<String>, now: Duration) -> Vec<String> {
        if !lines.is_empty() {
            self.last_line = now;
        }
        lines
    }
}

/// A time as people read it: `1.2 s`, `48 s`, `12 min`, `3.4 h`.
pub fn seconds(time: f64) -> String {
    match time {
        t if t < 9.95 => format!("{t:.1} s"),
        t if t < 119.5 => format!("{t:.0} s"),
        t if t < 7170.0 => format!("{:.0} min", t / 60.0),
        t => format!("{:.1} h", t / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn started(course: &mut Course) -> Vec<String> {
        course.event(
            Event::Started { label: "adam", index: 2, count: 3, learning_rate: Some(0.01), rounds: 200 },
            at(1.0),
        )
    }

    /// The lines of the ticker, second by second.
    fn ticks(course: &mut Course, from: u32, to: u32) -> Vec<(u32, String)> {
        (from..to).filter_map(|s| course.tick(at(f64::from(s))).map(|line| (s, line))).collect()
    }

    #[test]
    fn training_tells_rounds_loss_and_what_is_left() {
        let mut course = Course::default();
        assert_eq!(started(&mut course), ["adam (2 of 3): learning rate 0.01, 200 rounds"]);
        for round in 1..=50 {
            assert!(course.event(Event::Round { number: round, loss: 0.5 }, at(1.0 + 0.2 * round as f64)).is_empty());
        }
        let line = "adam (2 of 3): round 50 of 200, 25%, 10 s, ETA 30 s, loss 0.50000";
        assert_eq!(ticks(&mut course, 2, 15), [(11, line.to_owned())]);
        let view = course.view(at(11.0));
        assert_eq!((view.share, view.text), (Some(0.25), line.to_owned()));
    }

    #[test]
    fn rounds_of_an_earlier_process_count_as_done_but_not_as_speed() {
        let mut course = Course::default();
        started(&mut course);
        let resumed = course.event(Event::Resumed { label: "adam", rounds: 100 }, at(1.0));
        assert_eq!(resumed, ["adam (2 of 3): resuming after round 100"]);
        course.event(Event::Round { number: 150, loss: 0.5 }, at(11.0));
        assert!(course.view(at(11.0)).text.ends_with("10 s, ETA 10 s, loss 0.50000"), "{}", course.view(at(11.0)).text);
    }

    #[test]
    fn rounds_after_a_pass_that_measures_are_those_of_training() {
        let mut course = Course::default();
        started(&mut course);
        course.event(Event::Phase { name: "first pass" }, at(2.0));
        course.event(Event::Progress { done: 200, of: 200 }, at(7.0));
        course.event(Event::Round { number: 1, loss: 0.5 }, at(7.0));
        course.event(Event::Round { number: 51, loss: 0.5 }, at(17.0));
        let text = "adam (2 of 3): round 51 of 200, 25%, 10 s, ETA 30 s, loss 0.50000";
        assert_eq!(course.view(at(17.0)).text, text);
        assert_eq!(course.costliest(at(30.0)), Some(("first pass".to_owned(), at(5.0), at(5.0))));
    }

    #[test]
    fn no_phase_is_silent_for_long() {
        let mut course = Course::default();
        started(&mut course);
        let line = course.event(Event::Phase { name: "neuron scale" }, at(2.0));
        assert_eq!(line, ["adam (2 of 3): neuron scale (1.0 s so far)"]);
        let lines = ticks(&mut course, 2, 40);
        assert_eq!(lines.iter().map(|(s, _)| *s).collect::<Vec<_>>(), [12, 22, 32]);
        assert_eq!(lines[1].1, "adam (2 of 3): still busy with neuron scale, 20 s");
        // Once it tells how far it is, so do the lines.
        course.event(Event::Progress { done: 20, of: 80 }, at(40.0));
        assert_eq!(ticks(&mut course, 40, 50)[0].1, "adam (2 of 3): neuron scale, 25%, 40 s, ETA 2 min");
        // Before the first optimizer, too.
        assert_eq!(Course::default().tick(at(10.0)).unwrap(), "still busy with preparing, 10 s");
        assert_eq!(Course::default().tick(at(9.0)), None);
    }

    #[test]
    fn what_was_known_at_the_beginning_of_a_phase_is_no_speed() {
        let mut course = Course::default();
        started(&mut course);
        course.event(Event::Phase { name: "layer scale" }, at(2.0));
        course.event(Event::Progress { done: 60, of: 80 }, at(2.1));
        course.event(Event::Progress { done: 70, of: 80 }, at(12.1));
        assert!(course.view(at(12.1)).text.ends_with("ETA 10 s"), "{}", course.view(at(12.1)).text);
    }

    #[test]
    fn notes_are_lines_and_end_a_silence() {
        let mut course = Course::default();
        assert_eq!(course.event(Event::Note { text: "about 3 min" }, at(5.0)), ["about 3 min"]);
        assert!(ticks(&mut course, 5, 15).is_empty());
    }

    #[test]
    fn pieces_of_work_are_counted() {
        let mut course = Course::default();
        assert_eq!(course.plan("point", 40, 3, at(0.0)), ["40 points to train, 3 known"]);
        (0..10).for_each(|_| assert!(course.count(at(5.0)).is_empty()));
        assert_eq!(course.tick(at(10.0)).unwrap(), "point 10 of 40, 25%, 10 s, ETA 30 s");
    }

    #[test]
    fn the_costliest_phase_of_all_optimizers_is_known() {
        let mut course = Course::default();
        for begin in [0.0, 100.0] {
            started(&mut course);
            course.event(Event::Phase { name: "neuron scale" }, at(begin + 50.0));
            course.event(Event::Phase { name: "layer scale" }, at(begin + 80.0));
            course.begin("the report", at(begin + 90.0));
        }
        assert_eq!(course.costliest(at(300.0)), Some(("neuron scale".to_owned(), at(60.0), at(80.0))));
        assert_eq!(Course::default().costliest(at(1.0)), None);
    }
}
