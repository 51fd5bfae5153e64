//! More epochs than a complete run had: what its training goes on from, and when it cannot.
//!
//! A complete optimizer leaves weights, its memory, and what was recorded of activations. Optima are found from rounds that are gone by
//! then, so training goes on only where the rounds behind its end change none of them; else it begins again, to the same bytes.

use super::{
    error::StudyError,
    experiment::Experiment,
    plan::Plan,
    state::State,
    tables::{OptimizerSummary, RegretRow, UnitRow, read_rows},
};
use crate::{
    checkpoint::{self, CheckpointError, Identity, Persist, Saved, Store, StoreError},
    network::Network,
    num::Real,
    optim::{OptimizerConfig, Schedule},
    study::analysis::AnalysisTables,
    train::Ending,
};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The state after the last round of a complete optimizer.
pub(super) const STATE: &str = "state.safetensors";
/// A larger state is not worth its place on the disk.
const LARGEST: usize = 64 << 20;

/// Why training must begin again if a run of `experiment` is to be longer; `None` if it can go on behind its end.
pub(super) fn obstacle(
    experiment: &Experiment,
    config: &OptimizerConfig,
    network: &Network,
    per_epoch: usize,
) -> Option<&'static str> {
    let planned = per_epoch * experiment.training.epochs;
    let regret = experiment.regret.settings(per_epoch, network.layers());
    let exploration = &experiment.exploration;
    match () {
        () if config.schedule == Schedule::Cosine => Some("its schedule depends on the number of rounds"),
        () if experiment.training.stop_at_train_accuracy.is_some() => {
            Some("training.stop_at_train_accuracy decides about its end")
        }
        () if Plan::new(network, experiment.training.loss, &regret).streams() => {
            Some("the optima of its neurons are found from all rounds (regret.scales)")
        }
        () if !regret.scales.is_empty() && regret.window > planned => Some("regret.window covers the added rounds"),
        () if exploration.probe > 0 && exploration.every.rounds(per_epoch) > planned => {
            Some("exploration.every is longer than it was")
        }
        () => None,
    }
}

/// Everything of a state that training behind its end needs, without times: equal runs leave equal files.
struct Kept<'a, T: Real>(&'a mut State<T>);

impl<T: Real> Persist for Kept<'_, T> {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        let State { weights, optimizer, analysis, log, .. } = &mut *self.0;
        store.part("log", |store| log.persist_results(store))?;
        store.values("weights", weights)?;
        store.part("optimizer", |store| optimizer.persist(store))?;
        match analysis.activations() {
            Some(activations) => store.part("activations", |store| activations.persist(store)),
            None => Ok(()),
        }
    }
}

/// Writes the state of an optimizer whose training is complete, unless it is large.
pub(super) fn keep<T: Real>(state: &mut State<T>, folder: &Path, identity: &Identity) -> Result<(), CheckpointError> {
    let recorded = state.analysis.activations().map_or(0, |activations| activations.bytes());
    match recorded.saturating_add(size_of_val(&state.weights[..])) <= LARGEST {
        true => checkpoint::save(&folder.join(STATE), identity, &mut Kept(state)),
        false => Ok(()),
    }
}

/// A complete optimizer of an earlier, shorter run.
pub(super) struct Earlier {
    path: PathBuf,
    saved: Saved,
    summary: OptimizerSummary,
    regret: Vec<RegretRow>,
    units: Vec<UnitRow>,
    timing: Value,
}

impl Earlier {
    /// Opens what the optimizer left in its folder; `None` if its state was not kept, or by an earlier version.
    pub fn open(folder: &Path, summary: &OptimizerSummary) -> Result<Option<Earlier>, StudyError> {
        let path = folder.join(STATE);
        let saved = match Saved::open(&path) {
            Ok(Some(saved)) => saved,
            Ok(None) | Err(CheckpointError::Older { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let timing = std::fs::read_to_string(folder.join("timing.json")).unwrap_or_default();
        Ok(Some(Earlier {
            path,
            saved,
            summary: summary.clone(),
            regret: read_rows(&folder.join("regret.csv"))?,
            units: read_rows(&folder.join("units.csv"))?,
            timing: serde_json::from_str(&timing).unwrap_or_default(),
        }))
    }

    /// Rounds that it trained.
    pub fn rounds(&self) -> usize {
        self.summary.rounds
    }

    /// Takes the state over, as one whose training has not ended.
    pub fn restore<T: Real>(&self, identity: &Identity, state: &mut State<T>) -> Result<(), StudyError> {
        self.saved.restore(identity, &mut Kept(state))?;
        let rounds = self.rounds();
        let complete = matches!(state.log.ending.take(), Some(Ending::Complete));
        if !complete || state.done() != rounds || state.log.epochs.len() * self.summary.rounds_per_epoch != rounds {
            let reason = format!("it is not the state after {rounds} rounds");
            return Err(CheckpointError::Malformed { path: self.path.clone(), reason }.into());
        }
        if let Some(activations) = state.analysis.activations() {
            activations.reopen(rounds);
        }
        let seconds = self.timing["epochs"].as_array().into_iter().flatten();
        state.log.epoch_seconds = seconds.filter_map(Value::as_f64).collect();
        Ok(())
    }

    /// Puts the optima that were found then into the tables.
    pub fn complete(&self, tables: &mut AnalysisTables) {
        (tables.regret, tables.units) = (self.regret.clone(), self.units.clone());
        (tables.window_rounds, tables.sampled_rounds) = (self.summary.window_rounds, self.summary.sampled_rounds);
    }

    /// Adds the seconds that phases took then.
    pub fn add_seconds(&self, phases: &mut Value) {
        for (phase, seconds) in self.timing["phases"].as_object().into_iter().flatten() {
            let sum = seconds.as_f64().unwrap_or_default() + phases[phase].as_f64().unwrap_or_default();
            phases[phase] = sum.into();
        }
    }
}
