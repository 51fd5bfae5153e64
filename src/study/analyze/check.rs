//! What is found out about traces before anything is written: whether they are good, and whether they belong together.

use super::{
    digest::{data_digest, digest},
    options::AnalyzeOptions,
    told::Told,
};
use crate::{
    network::Network,
    num::Real,
    study::{
        error::{AnalyzeError, StudyError},
        event::Event,
    },
    taylor::tracker::Displacements,
    trace::{
        self, Manifest, ReadOptions, Trace, TraceError,
        agreement::{Agreement, compare, diverged_from},
        manifest::read_manifest,
        motion::{Findings, Motion, Steps},
        replay::{NotFinite, Replay, Replayed},
        states::is_double,
    },
};
use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Instant,
};

/// A trace whose every round was recomputed.
#[derive(Debug)]
pub(super) struct Checked {
    pub folder: PathBuf,
    pub double: bool,
    pub manifest: Manifest,
    pub network: Network,
    /// The dataset that it names.
    pub dataset: Option<String>,
    /// Rows of the data.
    pub rows: usize,
    /// Tells the data from others; equal for equal data in either precision.
    data: String,
    /// Tells the trace from others.
    pub digest: String,
    /// How far every neuron goes.
    pub displacements: Vec<f64>,
    /// The constant step, if the manifest tells plain SGD and all updates are its steps.
    pub plain_sgd: Option<f64>,
    /// Whether the updates are not those of the optimizer that the manifest names.
    pub contradicted: bool,
    /// What was found, and what of it casts doubt on the trace: sentences.
    pub checks: Vec<String>,
    pub warnings: Vec<String>,
    /// That checking took.
    pub seconds: f64,
}

impl Checked {
    /// Rounds of an epoch.
    pub fn per_epoch(&self) -> usize {
        (self.rows / self.manifest.batch_size).clamp(1, self.manifest.rounds)
    }

    /// Bytes of a weight.
    pub fn weight_bytes(&self) -> usize {
        if self.double { size_of::<f64>() } else { size_of::<f32>() }
    }
}

/// Reads and recomputes every trace, and sees whether they belong together.
pub(super) fn check(options: &AnalyzeOptions, events: &mut dyn FnMut(Event)) -> Result<Vec<Checked>, StudyError> {
    let resolved = |folder: &Path| folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    for (at, folder) in options.traces.iter().enumerate() {
        if options.traces[..at].iter().any(|other| resolved(other) == resolved(folder)) {
            return Err(AnalyzeError::Twice { path: folder.clone() }.into());
        }
    }
    let mut all: Vec<Checked> = Vec::new();
    for folder in options.traces {
        if let Some(reason) = no_trace(folder) {
            return Err(AnalyzeError::NoTrace { path: folder.clone(), reason }.into());
        }
        let checked = match is_double(folder)? {
            true => first_pass::<f64>(folder, options, events),
            false => first_pass::<f32>(folder, options, events),
        }?;
        if let Some(first) = all.first() {
            belongs_to(first, &checked)?;
        }
        all.push(checked);
    }
    Ok(all)
}

/// Why a folder without a manifest is no trace, where that is plain.
fn no_trace(folder: &Path) -> Option<String> {
    if folder.join("manifest.json").exists() {
        None
    } else if !folder.exists() {
        Some("there is no such folder".to_owned())
    } else if folder.is_file() {
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(format!("it is a file; name the folder of the trace, {}", parent.display()))
    } else if let Some(trace) = trace_within(folder) {
        Some(format!("traces are in its folders; name those, such as {}", trace.display()))
    } else if folder.join("trace").join("manifest.json").exists() {
        Some(format!("it is the folder of an optimizer; analyse {}", folder.join("trace").display()))
    } else if folder.join("summary.json").exists() {
        Some("it is a run; run --keep-trace keeps traces in RUN/<optimizer>/trace".to_owned())
    } else {
        None
    }
}

/// A trace in a folder of this folder, which is no run.
fn trace_within(folder: &Path) -> Option<PathBuf> {
    let mut traces: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    traces.retain(|path| path.file_name().is_some_and(|name| name != "trace") && path.join("manifest.json").exists());
    traces.sort();
    traces.into_iter().next()
}

/// What the rounds of a trace show.
struct Pass {
    replayed: Vec<Replayed>,
    displacements: Vec<f64>,
    findings: Findings,
    /// The round that is not finite.
    ended: Option<NotFinite>,
}

/// Recomputes all rounds of a trace, compares their losses with those that it recorded and looks at how its states move.
fn first_pass<T: Real>(
    folder: &Path,
    options: &AnalyzeOptions,
    events: &mut dyn FnMut(Event),
) -> Result<Checked, StudyError> {
    let start = Instant::now();
    let rounds = read_manifest(folder)?.rounds;
    events(Event::Note { text: &format!("checking {}: {rounds} rounds", folder.display()) });
    let (mut trace, network) = trace::read::<T>(folder, &ReadOptions { data: options.data, rounds: options.rounds })?;
    if let Some(from) = trace.losses.as_deref().and_then(diverged_from).filter(|from| *from > 0) {
        trace.cut(from, format!("the recorded losses from round {} on are not finite", from + 1));
    }
    let told = Told::by(&trace.manifest);
    let Pass { replayed, displacements, findings, ended } = pass(&trace, &network, told.plain_sgd(), options, events)?;
    if let Some(NotFinite { round }) = ended {
        if round == 1 {
            let source = Box::new(TraceError::NotFinite);
            return Err(AnalyzeError::InTrace { path: folder.to_owned(), source }.into());
        }
        trace.cut(round - 1, format!("the loss or gradient of round {round} is not finite"));
    }
    let agreement = compare(folder, &trace, &network, &replayed, &findings, options.loss_tolerance)?;
    if let Some(reason) = findings.unmoved().filter(|_| trace.losses.is_none()) {
        return Err(TraceError::Implausible { path: folder.to_owned(), reason }.into());
    }
    let said = Said::of(agreement, &mut trace, &told, &findings);
    let Said { plain_sgd, contradicted, checks, warnings } = said;
    Ok(Checked {
        folder: folder.to_owned(),
        double: size_of::<T>() == size_of::<f64>(),
        rows: trace.examples(network.inputs()).len(),
        data: data_digest(&trace),
        digest: digest(&trace),
        dataset: trace.dataset,
        manifest: trace.manifest,
        network,
        displacements,
        plain_sgd,
        contradicted,
        checks,
        warnings,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// What is said of a trace that is good.
struct Said {
    /// The constant step, if all updates are steps of the plain SGD that the manifest tells.
    plain_sgd: Option<f64>,
    /// Whether the updates are not those of the optimizer that the manifest names.
    contradicted: bool,
    checks: Vec<String>,
    warnings: Vec<String>,
}

impl Said {
    /// Takes the notes and warnings of reading out of the trace.
    fn of<T: Real>(agreement: Agreement, trace: &mut Trace<T>, told: &Told, findings: &Findings) -> Said {
        let (mut checks, mut warnings) = (Vec::new(), Vec::new());
        let Agreement { sentence, doubtful } = agreement;
        if doubtful { &mut warnings } else { &mut checks }.push(sentence);
        checks.append(&mut trace.notes);
        warnings.extend(trace.shortened());
        warnings.append(&mut trace.warnings);
        if !trace.unused.is_empty() {
            let list = crate::network::tensor_names::list(&trace.unused);
            warnings.push(format!("no layer uses {list}; the losses agree without"));
        }
        warnings.extend(findings.warnings());
        let plain_by_another_name = told.plain_by_another_name(findings);
        let contradicted = plain_by_another_name.is_some() || matches!(findings.steps, Some(Steps::Other { .. }));
        let plain_sgd = told.plain_sgd();
        if let Some(name) = told.name.as_ref().filter(|_| plain_sgd.is_none() && !contradicted) {
            checks.push(format!("whether the updates are those of {name} with its settings is not checked"));
        }
        warnings.extend(plain_by_another_name);
        let plain_sgd = plain_sgd.filter(|_| findings.steps == Some(Steps::Plain));
        if let Some(rate) = plain_sgd {
            checks.push(format!("all updates are steps of plain SGD with learning rate {rate}"));
        }
        Said { plain_sgd, contradicted, checks, warnings }
    }
}

/// Goes through the rounds, to the last or the first that is not finite.
fn pass<T: Real>(
    trace: &Trace<T>,
    network: &Network,
    plain_sgd: Option<f64>,
    options: &AnalyzeOptions,
    events: &mut dyn FnMut(Event),
) -> Result<Pass, AnalyzeError> {
    let examples = trace.examples(network.inputs());
    let mut displacements = Displacements::new(network);
    let mut motion = Motion::new(trace, network, plain_sgd);
    let mut replay = Replay::new(trace, network, &examples, 0);
    let (mut replayed, mut ended) = (Vec::new(), None);
    loop {
        match replay.round(&mut [&mut displacements, &mut motion]) {
            Ok(Some(round)) => replayed.push(round),
            Ok(None) => break,
            Err(error) => {
                ended = Some(error);
                break;
            }
        }
        if options.stop.load(Ordering::SeqCst) {
            return Err(AnalyzeError::Stopped);
        }
        events(Event::Progress { done: replayed.len() as u64, of: trace.manifest.rounds as u64 });
    }
    Ok(Pass { replayed, displacements: displacements.into_neurons(), findings: motion.findings(), ended })
}

/// Fails unless two traces are of the same network, loss and data.
fn belongs_to(first: &Checked, other: &Checked) -> Result<(), AnalyzeError> {
    let shape = |of: &Checked| format!("{} rows of {} values", of.rows, of.network.inputs());
    let target = |of: &Checked| format!("\"{}\"", of.manifest.target.name());
    let input = |of: &Checked| format!("{:?}", of.manifest.input);
    let data = |of: &Checked| format!("{} with SHA-256 {}...", shape(of), &of.data[..8]);
    type Value<'a> = &'a dyn Fn(&Checked) -> String;
    let values: [(&'static str, Value); 6] = [
        ("network", &|of| of.network.describe().join(", ")),
        ("shape of the input", &input),
        ("loss", &|of| of.manifest.loss.name().to_owned()),
        ("target", &target),
        ("shape of the data", &shape),
        ("data", &data),
    ];
    for (what, value) in values {
        let (one, two) = (value(first), value(other));
        if one != two {
            let paths = [first.folder.clone(), other.folder.clone()];
            return Err(AnalyzeError::Differ { what, paths: Box::new(paths), values: Box::new([one, two]) });
        }
    }
    Ok(())
}
