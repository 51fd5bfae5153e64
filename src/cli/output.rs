//! Printing: progress on a terminal or as plain lines, and tables.

use crate::study::{Event, numbers::known, tables::Summary};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::{self, IsTerminal, Write},
    sync::Mutex,
    time::{Duration, Instant},
};

/// Whether the reader of our output went away, which is no error (`taylorscope ... | head`).
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

/// Prints a line on standard output.
pub fn line(text: impl AsRef<str>) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{}", text.as_ref())?;
    Ok(())
}

/// Shows a study's progress on standard error.
pub struct Progress {
    bar: Option<ProgressBar>,
    terminal: bool,
    label: String,
    rounds: usize,
    /// Rounds that an earlier process did.
    before: usize,
    started: Instant,
    last_line: Instant,
}

impl Progress {
    pub fn new() -> Self {
        let now = Instant::now();
        let terminal = io::stderr().is_terminal();
        Self { bar: None, terminal, label: String::new(), rounds: 0, before: 0, started: now, last_line: now }
    }

    pub fn show(&mut self, event: Event) {
        match event {
            Event::Started { label, index: _, count: _, learning_rate, rounds } => {
                (self.label, self.rounds, self.before) = (label.to_owned(), rounds, 0);
                self.started = Instant::now();
                eprintln!("{label}: learning rate {}, {rounds} rounds", known(learning_rate));
                if self.terminal {
                    let template = "{prefix} {bar:30} {pos}/{len} rounds, {elapsed}, ETA {eta}  {msg}";
                    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
                    let bar =
                        ProgressBar::with_draw_target(Some(rounds as u64), ProgressDrawTarget::stderr_with_hz(10));
                    self.bar = Some(bar.with_style(style).with_prefix(label.to_owned()));
                }
            }
            Event::Resumed { label, rounds } => {
                self.before = rounds;
                eprintln!("{label}: goes on behind round {rounds}");
            }
            Event::Kept { label } => eprintln!("{label}: complete, kept"),
            Event::Round { number, loss } => {
                if let Some(bar) = &self.bar {
                    bar.set_position(number as u64);
                    bar.set_message(format!("loss {loss:.5}"));
                } else if self.last_line.elapsed() > Duration::from_secs(5) {
                    self.last_line = Instant::now();
                    let spent = self.started.elapsed().as_secs_f64();
                    let left = spent / (number - self.before) as f64 * (self.rounds - number) as f64;
                    eprintln!("{}: round {number}/{}, loss {loss:.5}, ETA {left:.0} s", self.label, self.rounds);
                }
            }
            Event::Epoch { epoch, train_loss, test_loss } => {
                if let Some(bar) = &self.bar {
                    bar.set_message(format!("epoch {epoch}: train {train_loss:.5}, test {test_loss:.5}"));
                }
            }
            Event::Progress { .. } => {}
            Event::Note { text } => eprintln!("{text}"),
            Event::Phase { name } => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
                let spent = self.started.elapsed().as_secs_f64();
                eprintln!("{}: {name} ({spent:.1} s so far)", self.label);
            }
            Event::Finished { summary } => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
                let spent = self.started.elapsed().as_secs_f64();
                eprintln!("{}: {} in {spent:.1} s", self.label, summary.status);
                if let Some(message) = &summary.message {
                    eprintln!("{}: {message}", self.label);
                }
            }
        }
    }
}

/// Prints the optimizers of a run as a short table.
pub fn summary_table(summary: &Summary) -> anyhow::Result<()> {
    line(format!(
        "{:<16} {:>10} {:>8} {:>10} {:>10} {:>10} {:>6}",
        "optimizer", "rate", "rounds", "last loss", "mean loss", "test loss", "dead"
    ))?;
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.5}"));
    for o in &summary.optimizers {
        line(format!(
            "{:<16} {:>10} {:>8} {:>10} {:>10} {:>10} {:>6}{}",
            o.label,
            known(o.learning_rate),
            o.rounds,
            number(o.last_loss),
            number(o.mean_loss),
            number(o.test_loss),
            format!("{}/{}", o.dead_neurons, o.hidden_neurons),
            if o.status == "complete" { String::new() } else { format!("  {}", o.status) },
        ))?;
    }
    Ok(())
}

/// Shows how many of many equal pieces of work are done: a bar on a terminal, a line now and then elsewhere.
pub struct Counter {
    bar: ProgressBar,
    terminal: bool,
    noun: &'static str,
    last_line: Mutex<Instant>,
}

impl Counter {
    pub fn new(noun: &'static str) -> Self {
        let template = format!("  {{bar:30}} {{pos}}/{{len}} {noun}, {{elapsed}}, ETA {{eta}}");
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10)).with_style(style);
        Self { bar, terminal: io::stderr().is_terminal(), noun, last_line: Mutex::new(Instant::now()) }
    }

    /// So many pieces follow, beside those that are known already.
    pub fn plan(&self, pieces: usize, known: usize) {
        eprintln!("{pieces} {} to train, {known} known", self.noun);
        self.bar.set_length(pieces as u64);
        self.bar.reset();
    }

    /// One more is done.
    pub fn count(&self) {
        self.bar.inc(1);
        let Ok(mut last_line) = self.last_line.lock() else { return };
        if !self.terminal && last_line.elapsed() > Duration::from_secs(5) {
            *last_line = Instant::now();
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
            let left = self.bar.elapsed().as_secs_f64() / done.max(1) as f64 * all.saturating_sub(done) as f64;
            eprintln!("{done}/{all} {}, ETA {left:.0} s", self.noun);
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
