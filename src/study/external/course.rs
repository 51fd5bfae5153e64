//! The searches of one run, scale by scale, and its tables.

use super::{ExternalOptions, ExternalRun, Source, UnitCourse, records};
use crate::{
    activation::exploration::explore_until,
    study::{
        analysis::{AnalysisTables, Clock, Stage},
        analyze::told::Told,
        environment::peak_memory,
        error::StudyError,
        event::Event,
        numbers::counted,
        outcome::Outcome,
        relay::Relay,
        tables::{OptimizerSummary, RoundRow, RunStatus, Scale, columns, write_rows},
        write,
    },
    taylor::{
        BoundRates, RegretSettings, UnitResult,
        external::{Failure, unit_optima},
        free_bounds,
        prefixes::{Effort, work},
        regret::{log_spaced, tables},
        room::whole_basis,
        settings::ClosedForm,
    },
};
use serde_json::json;
use std::{cell::Cell, path::PathBuf, sync::atomic::Ordering};

/// Products that a neuron's search may take, as a multiple of a layer's: each is much cheaper.
const NEURON_PRODUCTS: usize = 8;

/// The analysis of one run.
pub(super) struct Course<'a> {
    pub run: &'a ExternalRun,
    pub source: &'a dyn Source,
    pub options: &'a ExternalOptions<'a>,
    pub folder: PathBuf,
}

impl Course<'_> {
    /// Searches and writes; after a failure, what was found by then.
    pub fn run(&self, events: &mut dyn FnMut(Event)) -> Result<(OptimizerSummary, Option<Failure>), StudyError> {
        std::fs::create_dir_all(&self.folder)
            .map_err(|source| StudyError::Write { path: self.folder.clone(), source })?;
        let (run, told) = (self.run, Told::of(&self.run.optimizer));
        let (rounds, learning_rate) = (run.rounds.len(), told.learning_rate);
        events(Event::Started { label: &run.label, index: 1, count: 1, learning_rate, rounds });
        for text in run.checks.iter().chain(&run.warnings) {
            events(Event::Note { text });
        }
        let settings = self.options.sections.regret.settings(run.per_epoch, &[]);
        let (mut clock, mut results) = (Clock::default(), Vec::new());
        let relay = Relay::new(events);
        let failure = self.search(&settings, &relay, &mut clock, &mut results).err();
        let tables = self.tables(&settings, results, &relay, &mut clock);
        self.write(&tables, &clock)?;
        Ok((self.summary(told, &tables, failure.as_ref()), failure))
    }

    /// Searches the units, the small ones first.
    fn search(
        &self,
        settings: &RegretSettings,
        relay: &Relay,
        clock: &mut Clock,
        results: &mut Vec<UnitResult>,
    ) -> Result<(), Failure> {
        let phases = [
            (Scale::Neuron, "neuron scale", "neuron_optima"),
            (Scale::Layer, "layer scale", "layer_optima"),
            (Scale::Network, "network scale", "network_optima"),
        ];
        for (scale, name, phase) in phases {
            let units: Vec<&UnitCourse> = self.run.units.iter().filter(|course| course.unit.scale == scale).collect();
            if !units.is_empty() && settings.has(scale) {
                clock.time(phase, || self.scale(name, &units, settings, relay, results))?;
            }
        }
        Ok(())
    }

    /// Searches the units of a scale.
    fn scale(
        &self,
        name: &'static str,
        units: &[&UnitCourse],
        settings: &RegretSettings,
        relay: &Relay,
        results: &mut Vec<UnitResult>,
    ) -> Result<(), Failure> {
        let prefixes = log_spaced(self.run.rounds.len(), settings.prefixes);
        let is_neuron = units[0].unit.scale == Scale::Neuron;
        let (tolerance, max_products) = match is_neuron {
            true => (settings.neuron_tolerance, NEURON_PRODUCTS * settings.max_products),
            false => (settings.tolerance, settings.max_products),
        };
        let of_unit = work(&prefixes, max_products, settings.comparators.of(ClosedForm::No).len());
        relay.stage(Stage::Phase { name, work: units.len() * of_unit });
        for course in units {
            if self.is_stopped() {
                break;
            }
            let done = Cell::new(0);
            let tick = |work: usize| {
                done.set(done.get() + work);
                relay.tick(work);
            };
            let effort = Effort {
                tolerance,
                max_products,
                basis: whole_basis(max_products),
                stop: self.options.stop,
                tick: &tick,
            };
            let record = |n| records::record(self.run, course, n);
            let products = self.source.open(course.unit)?;
            let found = unit_optima(course.unit, &*products, &prefixes, settings, effort, &record)?;
            relay.tick(of_unit.saturating_sub(done.get()));
            // A search that was cut short found less than it should have.
            if !self.is_stopped() {
                results.extend(found);
            }
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.options.stop.load(Ordering::SeqCst)
    }

    /// The tables of what was found.
    fn tables(
        &self,
        settings: &RegretSettings,
        mut results: Vec<UnitResult>,
        relay: &Relay,
        clock: &mut Clock,
    ) -> AnalysisTables {
        let run = self.run;
        let (analysed, last) = (run.rounds.len(), run.rounds[run.rounds.len() - 1]);
        let mut out = AnalysisTables {
            window_rounds: last,
            sampled_rounds: (analysed < last).then_some(analysed),
            halted: self.is_stopped(),
            ..AnalysisTables::default()
        };
        out.found.clone_from(&results);
        free_bounds::tighten(&mut results);
        let rates = BoundRates { sgd: run.plain_sgd, adagrad: None };
        (out.regret, out.units) = tables(&results, settings, rates);
        if let Some(configurations) = run.configurations.as_ref().filter(|_| !out.halted) {
            relay.stage(Stage::Phase { name: "exploration", work: 0 });
            let stop = self.options.stop;
            let ended = || stop.load(Ordering::SeqCst);
            let explored = clock.time("exploration", || explore_until(configurations, &ended));
            match explored {
                Some(explored) => (out.novelty, out.neurons) = explored,
                None => out.halted = true,
            }
        }
        out
    }

    fn write(&self, tables: &AnalysisTables, clock: &Clock) -> Result<(), StudyError> {
        let run = self.run;
        let row = |(round, loss): &(usize, f64)| {
            let epoch = round.saturating_sub(1) / run.per_epoch.max(1) + 1;
            RoundRow { round: *round, epoch, loss: *loss }
        };
        let rows: Vec<RoundRow> = run.all_losses.iter().map(row).collect();
        write_rows(&self.folder.join("rounds.csv"), columns::ROUNDS, &rows)?;
        write::analysis(&self.folder, tables)?;
        let mut phases = serde_json::to_value(clock.phases()).unwrap_or_default();
        phases["replay"] = json!(run.seconds);
        let timing = json!({ "phases": phases, "epochs": [], "peak_memory_bytes": peak_memory() });
        write::json(&self.folder.join("timing.json"), &timing)
    }

    fn summary(&self, told: Told, tables: &AnalysisTables, failure: Option<&Failure>) -> OptimizerSummary {
        let run = self.run;
        let rounds = counted(run.rounds.len(), "analysed round");
        let (status, message) = match failure {
            Some(failure) => (RunStatus::Interrupted, Some(format!("the analysis of {rounds} ended early: {failure}"))),
            None if tables.halted => (RunStatus::Interrupted, Some(format!("stopped in the analysis of {rounds}"))),
            None => (RunStatus::Complete, None),
        };
        let hidden = run.configurations.as_ref().map_or(0, |all| all.neurons.len());
        let losses: Vec<f64> = run.all_losses.iter().map(|(_, loss)| *loss).collect();
        let outcome = Outcome {
            name: told.name.as_deref().unwrap_or("trace"),
            learning_rate: told.learning_rate,
            label: &run.label,
            settings: told.settings,
            checks: run.checks.clone(),
            warnings: run.warnings.clone(),
            contradicted: false,
            status,
            message,
            per_epoch: run.per_epoch,
            tables,
        };
        outcome.summary_of(hidden, &losses, None)
    }
}
