//! Analysing a trace: the same tables and report for a run that was trained elsewhere.

use super::{
    analysis::{Analysis, AnalysisSettings},
    environment::{environment, peak_memory},
    experiment::{ExplorationSection, RegretSection},
    lock::Lock,
    relay::Relay,
    run::{Event, Outcome, StudyError, holds_something, read_summary, write, write_analysis, write_json, write_probe},
    tables::{RoundRow, SUMMARY_FORMAT, Summary, columns, write_rows},
};
use crate::{
    activation::probe_rows,
    kernels::Real,
    optim::{OptimizerConfig, Schedule},
    taylor::{BoundRates, Work},
    trace::{self, TargetKind, read::is_double, replay},
};
use serde_json::json;
use std::{
    ops::ControlFlow,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

/// How to analyse a trace.
#[derive(Clone, Copy, Debug)]
pub struct AnalyzeOptions<'a> {
    pub trace: &'a Path,
    pub out: &'a Path,
    /// Where datasets lie, for traces that name one.
    pub data: Option<&'a Path>,
    pub regret: &'a RegretSection,
    pub exploration: &'a ExplorationSection,
    pub overwrite: bool,
    /// Bytes that the analysis may take for linearized rounds.
    pub memory: usize,
    pub stop: &'a AtomicBool,
}

/// Checks and analyses a trace and writes a run directory with one optimizer.
pub fn analyze(options: &AnalyzeOptions, events: &mut dyn FnMut(Event)) -> Result<Summary, StudyError> {
    match is_double(options.trace)? {
        true => analyze_in::<f64>(options, events),
        false => analyze_in::<f32>(options, events),
    }
}

fn analyze_in<T: Real>(options: &AnalyzeOptions, events: &mut dyn FnMut(Event)) -> Result<Summary, StudyError> {
    let (trace, network) = trace::read::<T>(options.trace, options.data)?;
    let manifest = &trace.manifest;
    let examples = trace.examples(network.inputs());
    let (rounds, batch) = (manifest.rounds, manifest.batch_size);
    let config = optimizer_config(manifest);
    let label = if config.name.is_empty() { "trace".to_owned() } else { config.name.clone() };
    let folder = options.out.join(&label);
    let name = options.trace.file_name().map_or_else(|| "trace".into(), |n| n.to_string_lossy().into_owned());
    let mut summary = Summary {
        format: SUMMARY_FORMAT,
        name,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: None,
        searched_rates: false,
        status: "running".to_owned(),
        dataset: trace.dataset.clone().unwrap_or_else(|| "inputs.npy".to_owned()),
        loss: manifest.loss.name().to_owned(),
        target: if manifest.target == TargetKind::Input { "input" } else { "label" }.to_owned(),
        headline: options.regret.comparators.headline(),
        layers: network.describe(),
        optimizers: Vec::new(),
    };
    let _lock = prepare(options)?;
    write_json(&options.out.join("summary.json"), &summary)?;
    std::fs::create_dir_all(&folder).map_err(|source| StudyError::Write { path: folder.clone(), source })?;
    events(Event::Started { label: &label, index: 1, count: 1, learning_rate: config.learning_rate, rounds });

    let per_epoch = (examples.len() / batch).clamp(1, rounds);
    // Only plain SGD with a constant step satisfies its bound.
    let plain = config.name == "sgd"
        && config.learning_rate > 0.0
        && !["momentum", "schedule", "weight_decay"].iter().any(|key| manifest.optimizer.contains_key(*key));
    let settings = AnalysisSettings {
        regret: options.regret.settings(per_epoch, network.layers()),
        planned_rounds: rounds,
        batch,
        memory: options.memory,
        every: options.exploration.every.rounds(per_epoch).min(rounds),
        pool_winners: options.exploration.pool_winners,
        rates: BoundRates { sgd: plain.then_some(config.learning_rate), adagrad: None },
        displacements: None,
    };
    let probe = probe_rows(examples.len(), options.exploration.probe);
    write_probe(&folder, &probe)?;
    let mut probe_inputs = Vec::new();
    examples.gather_inputs(&probe, &mut probe_inputs);
    let mut analysis = Analysis::new(&network, manifest.loss, settings, probe_inputs);
    let mut rows: Vec<RoundRow> = Vec::new();
    let start = Instant::now();
    let replayed = replay(&trace, &network, &examples, &mut [&mut analysis], |number, epoch, loss| {
        rows.push(RoundRow { round: number, epoch, loss });
        events(Event::Round { number, loss });
        match options.stop.load(Ordering::SeqCst) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    if let Err(error) = replayed {
        // Nothing is concluded from a bad trace, and the mended one finds the folder free. The error says more than a failure to clear would.
        let _ = std::fs::remove_dir_all(&folder);
        let _ = std::fs::remove_file(options.out.join("summary.json"));
        return Err(error.into());
    }
    let (total, observed) = (start.elapsed().as_secs_f64(), analysis.clock.total());
    let relay = Relay::new(&mut *events);
    let tick = |work| relay.tick(work);
    let mut work = Work::until(options.stop).telling(&tick);
    let (tables, clock) = analysis.complete(&examples, &mut work, |stage| relay.stage(stage));
    drop(work);
    write_rows(&folder.join("rounds.csv"), columns::ROUNDS, &rows)?;
    write_analysis(&folder, &tables)?;
    let mut phases = serde_json::to_value(clock.phases()).unwrap_or_default();
    phases["replay"] = json!((total - observed).max(0.0));
    let timing = json!({ "phases": phases, "epochs": [], "peak_memory_bytes": peak_memory() });
    write_json(&folder.join("timing.json"), &timing)?;
    write_json(&options.out.join("environment.json"), &environment())?;
    let described = [
        toml::to_string_pretty(&json!({ "trace": options.trace.display().to_string() })),
        toml::to_string_pretty(&json!({ "regret": options.regret, "exploration": options.exploration })),
    ];
    let text: String = described.into_iter().map(|part| part.unwrap_or_default()).collect();
    write(&options.out.join("experiment.toml"), text.as_bytes())?;

    let (status, message) = match tables.halted {
        true if rows.len() == rounds => ("interrupted", Some(format!("stopped in the analysis of {rounds} rounds"))),
        true => ("interrupted", Some(format!("stopped after round {} of {rounds}", rows.len()))),
        false => ("complete", None),
    };
    let outcome = Outcome {
        config: &config,
        label: &label,
        settings: Default::default(),
        status,
        message,
        per_epoch,
        tables: &tables,
    };
    let result = outcome.summary(&network, &rows, None);
    events(Event::Finished { summary: &result });
    (summary.status, summary.optimizers) = (status.to_owned(), vec![result]);
    write_json(&options.out.join("summary.json"), &summary)?;
    Ok(summary)
}

/// Takes the folder, unless it holds something else; removes the results of an analysis that is replaced.
fn prepare(options: &AnalyzeOptions) -> Result<Lock, StudyError> {
    let out = options.out;
    let fail = |source| StudyError::Write { path: out.to_owned(), source };
    if !out.join("summary.json").exists() && out.exists() && holds_something(out, |_| false)? {
        return Err(StudyError::NotEmpty { path: out.to_owned() });
    }
    std::fs::create_dir_all(out).map_err(fail)?;
    let lock = Lock::take(out)?;
    if let Some(old) = read_summary(out)? {
        if !options.overwrite {
            return Err(StudyError::Occupied { path: out.to_owned() });
        }
        for label in old.optimizers.iter().map(|o| out.join(&o.label)).filter(|old| old.exists()) {
            std::fs::remove_dir_all(label).map_err(fail)?;
        }
    }
    Ok(lock)
}

/// The optimizer that the manifest names, for labels and bounds; it is never run.
fn optimizer_config(manifest: &trace::Manifest) -> OptimizerConfig {
    let name = manifest.optimizer.get("name").and_then(serde_json::Value::as_str).unwrap_or("trace");
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name: String = name.chars().filter(|c| plain(*c)).collect();
    let rate = manifest.optimizer.get("learning_rate").and_then(serde_json::Value::as_f64);
    OptimizerConfig {
        name: name.trim_start_matches('.').to_owned(),
        learning_rate: rate.unwrap_or(0.0),
        schedule: Schedule::Constant,
        warmup: 0,
        settings: Default::default(),
    }
}
