//! The course of one trace: replayed under observation, then analysed.

use super::{check::Checked, digest::digest, folder::Description, options::AnalyzeOptions, told::Told};
use crate::{
    activation::probe_rows,
    checkpoint::{Identity, Persist, Store, StoreError},
    num::Real,
    study::{
        analysis::{Analysis, AnalysisSettings},
        environment::peak_memory,
        error::{AnalyzeError, StudyError},
        event::Event,
        keeper::Keeper,
        numbers::{counted, keys},
        outcome::Outcome,
        relay::Relay,
        tables::{OptimizerSummary, RunStatus},
        write,
    },
    taylor::{BoundRates, Work},
    trace::{
        self, ReadOptions,
        replay::{Replay, ReplayError},
    },
    train::Examples,
};
use serde_json::json;
use std::{path::PathBuf, sync::atomic::Ordering, time::Instant};

/// The analysis of one trace.
pub(super) struct Course<'a> {
    pub options: &'a AnalyzeOptions<'a>,
    pub checked: &'a Checked,
    pub told: Told,
    pub label: &'a str,
    pub folder: PathBuf,
    pub description: &'a Description,
}

/// Everything that changes from round to round.
struct State<T: Real> {
    analysis: Analysis<T>,
    losses: Vec<f64>,
    /// Whether the rounds are over.
    finished: bool,
    /// That the rounds took.
    seconds: f64,
}

impl<T: Real> Persist for State<T> {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.list("losses", &mut self.losses)?;
        store.number("seconds", &mut self.seconds)?;
        store.value("finished", &mut self.finished)?;
        store.part("analysis", |store| self.analysis.persist(store))
    }
}

impl Course<'_> {
    pub fn run<T: Real>(&self, events: &mut dyn FnMut(Event)) -> Result<OptimizerSummary, StudyError> {
        let Course { options, checked, .. } = self;
        // Only the rounds that were found good.
        let read_options = ReadOptions { data: options.data, rounds: Some(checked.extent.last()) };
        let (trace, network) = trace::read::<T>(&checked.folder, &read_options)?;
        if digest(&trace)? != checked.digest {
            return Err(self.changed().into());
        }
        let examples = trace.examples(network.inputs());
        let mut state = self.start(&examples)?;
        self.tell(&state.analysis, events);
        let mut keeper = Keeper::new(&self.folder, self.identity(), options.checkpoint);
        if let Some(saved) = Keeper::open(&self.folder)? {
            saved.restore(keeper.identity(), &mut state)?;
            if !state.analysis.draws_from(examples.len()) || state.losses.len() > checked.manifest.rounds {
                return Err(saved.malformed("its rounds are not those of this trace").into());
            }
            events(Event::Resumed { label: self.label, rounds: state.losses.len() });
        }
        if !state.finished {
            let replay = Replay::new(&trace, &network, &examples, state.losses.len());
            self.replay(replay, &mut state, &mut keeper, events)?;
        }
        self.analyse(state, &mut keeper, &examples, events)
    }

    /// The state before the first round.
    fn start<T: Real>(&self, examples: &Examples<T>) -> Result<State<T>, StudyError> {
        let Checked { manifest, network, extent, .. } = self.checked;
        let Description { regret, exploration, .. } = self.description;
        let settings = AnalysisSettings {
            regret: extent.settings(regret, network.layers()),
            planned_rounds: manifest.rounds,
            batch: manifest.batch_size,
            memory: self.options.memory,
            every: extent.every(exploration.every.rounds(extent.per_epoch)),
            pool_winners: exploration.pool_winners,
            rates: BoundRates { sgd: self.checked.plain_sgd, adagrad: None },
            displacements: Some(self.checked.displacements.clone()),
        };
        let probe = self.probe(examples.len());
        write::probe(&self.folder, &probe)?;
        let mut probe_inputs = Vec::new();
        examples.gather_inputs(&probe, &mut probe_inputs);
        let mut analysis = Analysis::new(network, manifest.loss, settings, probe_inputs);
        if let Some(numbers) = extent.numbers() {
            analysis = analysis.of_a_sample(numbers.to_vec());
        }
        Ok(State { analysis, losses: Vec::new(), finished: false, seconds: 0.0 })
    }

    /// The rows of the probe set: those that a recorded trace names, or evenly spaced ones.
    fn probe(&self, rows: usize) -> Vec<u32> {
        let count = self.description.exploration.probe;
        let named = self.checked.extent.course.as_ref().and_then(|course| course.probe.as_deref()).unwrap_or_default();
        // If training died, some may not have appeared.
        let known: Vec<u32> = named.iter().copied().filter(|row| (*row as usize) < rows).collect();
        if known.is_empty() || count == 0 { probe_rows(rows, count) } else { known }
    }

    /// Says what the manifest tells of the optimizer, and which rounds are analysed.
    fn tell<T: Real>(&self, analysis: &Analysis<T>, events: &mut dyn FnMut(Event)) {
        let (label, all) = (self.label, self.checked.manifest.rounds);
        let rounds = |count: usize| match self.checked.extent.sampled() {
            Some(_) => format!("{} of the trace", counted(count, "round")),
            None => counted(count, "round"),
        };
        if !self.told.settings.is_empty() {
            events(Event::Note { text: &format!("{label}: {}", keys(&self.told.settings)) });
        }
        for check in &self.checked.checks {
            events(Event::Note { text: &format!("{label}: {check}") });
        }
        for warning in &self.checked.warnings {
            events(Event::Note { text: &format!("{label}: warning: {warning}") });
        }
        let (window, analysed) = analysis.window();
        // The closed form at neuron scale takes all rounds in any case.
        let streams = self.checked.manifest.loss.is_quadratic() && self.checked.network.is_dense_chain();
        let scales = if streams { " at layer and network scale" } else { "" };
        let text = match (window, analysed) {
            (0, _) if self.description.regret.scales.is_empty() => return,
            (0, _) => format!("{label}: all {} are analysed", rounds(all)),
            (_, analysed) if analysed < window => {
                let of = format!("of the first {window} of {all} are analysed{scales} (regret.rounds)");
                format!("{label}: {analysed} evenly spaced rounds {of}")
            }
            (window, _) if window < all => {
                format!("{label}: rounds 1 to {window} of {all} are analysed{scales} (regret.window)")
            }
            _ => format!("{label}: all {} are analysed", rounds(all)),
        };
        events(Event::Note { text: &text });
    }

    /// Why a trace that was checked cannot be replayed.
    fn ended(&self, error: ReplayError) -> StudyError {
        match error {
            ReplayError::NotFinite(_) => self.changed().into(),
            ReplayError::Trace(error) => error.into(),
        }
    }

    fn changed(&self) -> AnalyzeError {
        AnalyzeError::Changed { path: self.checked.folder.clone() }
    }

    /// Whose state checkpoints of this analysis have.
    fn identity(&self) -> Identity {
        [
            ("settings", self.description.settings()),
            ("optimizer", self.label.to_owned()),
            ("trace", self.checked.digest.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// Goes through the rounds, to the end or until told to stop; then the state is kept.
    fn replay<T: Real>(
        &self,
        mut replay: Replay<T>,
        state: &mut State<T>,
        keeper: &mut Keeper,
        events: &mut dyn FnMut(Event),
    ) -> Result<(), StudyError> {
        let (before, start) = (state.seconds, Instant::now());
        let mut stopped = false;
        while let Some(round) = replay.round(&mut [&mut state.analysis]).map_err(|error| self.ended(error))? {
            state.losses.push(round.loss);
            state.seconds = before + start.elapsed().as_secs_f64();
            events(Event::Round { number: round.number, loss: round.loss });
            stopped = round.number < self.checked.manifest.rounds && self.options.stop.load(Ordering::SeqCst);
            if stopped || keeper.is_due(round.number) {
                keeper.save(state)?;
            }
            if stopped {
                break;
            }
        }
        replay.finish(&mut [&mut state.analysis])?;
        state.seconds = before + start.elapsed().as_secs_f64();
        state.finished = !stopped;
        if state.finished && keeper.is_worth_it() {
            keeper.save(state)?;
        }
        Ok(())
    }

    /// Solves what the rounds left to be solved, and writes the tables.
    fn analyse<T: Real>(
        &self,
        state: State<T>,
        keeper: &mut Keeper,
        examples: &Examples<T>,
        events: &mut dyn FnMut(Event),
    ) -> Result<OptimizerSummary, StudyError> {
        let State { analysis, losses, finished, seconds } = state;
        let (extent, done) = (&self.checked.extent, losses.len());
        let (reached, all, per_epoch) = (extent.number(done), extent.last(), extent.per_epoch);
        let observed = analysis.clock.total();
        let relay = Relay::new(&mut *events);
        let search = |work: &mut Work| analysis.complete(examples, work, |stage| relay.stage(stage));
        let ((tables, clock), mut found) = keeper.search(done, self.options.stop, &|work| relay.tick(work), search)?;
        if tables.halted && finished {
            keeper.save_last_found(done, &mut found)?;
        }
        let losses = extent.all_losses(&losses);
        write::numbered_rounds(&self.folder, &losses, per_epoch)?;
        write::analysis(&self.folder, &tables)?;
        let mut phases = serde_json::to_value(clock.phases()).unwrap_or_default();
        phases["check"] = json!(self.checked.seconds);
        phases["replay"] = json!((seconds - observed).max(0.0));
        let timing = json!({ "phases": phases, "epochs": [], "peak_memory_bytes": peak_memory() });
        write::json(&self.folder.join("timing.json"), &timing)?;
        let (status, message) = match (finished, tables.halted) {
            (false, _) => {
                let text = format!("stopped after round {reached} of {all}; continue with --resume");
                (RunStatus::Interrupted, Some(text))
            }
            (true, true) => {
                let rounds = counted(all, "round");
                let text = format!("stopped in the analysis of {rounds}; continue with --resume");
                (RunStatus::Interrupted, Some(text))
            }
            (true, false) => (RunStatus::Complete, None),
        };
        let outcome = Outcome {
            name: self.told.name.as_deref().unwrap_or("trace"),
            learning_rate: self.told.learning_rate,
            label: self.label,
            settings: self.told.settings.clone(),
            checks: self.checked.checks.clone(),
            warnings: self.checked.warnings.clone(),
            contradicted: self.checked.contradicted,
            status,
            message,
            per_epoch,
            tables: &tables,
        };
        let known: Vec<f64> = losses.iter().map(|(_, loss)| *loss).collect();
        let mut summary = outcome.summary(&self.checked.network, &known, None);
        summary.rounds = losses.last().map_or(0, |(number, _)| *number);
        summary.kept_rounds = extent.sampled();
        Ok(summary)
    }
}
