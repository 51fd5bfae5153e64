//! What is found out about traces before anything is written: whether they are good, and whether they belong together.

use super::{
    digest::{data_digest, digest},
    extent::TraceExtent,
    options::AnalyzeOptions,
    told::Told,
};
use crate::{
    loss::Loss,
    network::Network,
    num::Real,
    study::{
        error::{AnalyzeError, StudyError},
        event::Event,
    },
    taylor::tracker::Displacements,
    trace::{
        self, Manifest, ReadOptions, TargetKind, Trace, TraceError,
        agreement::{Agreement, compare, diverged_from},
        motion::{Findings, Motion, Steps},
        read::{Overview, overview},
        replay::{NotFinite, Replay, ReplayError, Replayed},
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
    /// What its rounds are of the whole training.
    pub extent: TraceExtent,
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
        let Overview { rounds, double } = overview(folder)?;
        events(Event::Note { text: &format!("checking {}: {rounds} rounds", folder.display()) });
        let mut checked = match double {
            true => first_pass::<f64>(folder, options, events),
            false => first_pass::<f32>(folder, options, events),
        }?;
        if let Some(first) = all.first() {
            belongs_to(first, &checked)?;
            checked.warnings.extend(other_rows(first, &checked));
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
    let (mut trace, network) = trace::read::<T>(folder, &ReadOptions { data: options.data, rounds: options.rounds })?;
    if let Some(from) = trace.losses.as_deref().and_then(diverged_from).filter(|from| *from > 0) {
        let why = format!("the recorded losses from round {} on are not finite", trace.number(from));
        trace.cut(from, why);
    }
    let told = Told::by(&trace.manifest);
    // Where rounds are missing there are no steps to compare, and the gradients of half precision are not those of ours.
    let comparable = !trace.is_sample() && !trace.precision().is_half();
    let rate = told.plain_sgd().filter(|_| comparable);
    let Pass { replayed, displacements, findings, ended } = pass(&trace, &network, rate, options, events)?;
    if let Some(NotFinite { round }) = ended {
        if round == 1 {
            let source = Box::new(TraceError::NotFinite);
            return Err(AnalyzeError::InTrace { path: folder.to_owned(), source }.into());
        }
        let why = format!("the loss or gradient of round {} is not finite", trace.number(round - 1));
        trace.cut(round - 1, why);
    }
    let agreement = compare(folder, &trace, &network, &replayed, &findings, options.loss_tolerance)?;
    if let Some(reason) = findings.unmoved().filter(|_| trace.losses.is_none()) {
        return Err(TraceError::Implausible { path: folder.to_owned(), reason }.into());
    }
    let said = Said::of(agreement, &mut trace, &told, rate, &findings);
    let Said { plain_sgd, contradicted, checks, warnings } = said;
    Ok(Checked {
        folder: folder.to_owned(),
        double: size_of::<T>() == size_of::<f64>(),
        rows: trace.examples(network.inputs()).len(),
        data: data_digest(&trace, network.inputs()),
        digest: digest(&trace)?,
        extent: TraceExtent::of(&trace, network.inputs()),
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
    fn of<T: Real>(
        agreement: Agreement,
        trace: &mut Trace<T>,
        told: &Told,
        rate: Option<f64>,
        findings: &Findings,
    ) -> Said {
        let (mut checks, mut warnings) = (Vec::new(), Vec::new());
        let Agreement { sentence, doubtful } = agreement;
        if doubtful { &mut warnings } else { &mut checks }.push(sentence);
        checks.extend(sample(trace));
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
        let plain_sgd = rate;
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
) -> Result<Pass, StudyError> {
    let examples = trace.examples(network.inputs());
    let mut displacements = Displacements::new(network);
    let mut motion = Motion::new(trace, network, plain_sgd);
    let mut replay = Replay::new(trace, network, &examples, 0);
    let (mut replayed, mut ended) = (Vec::new(), None);
    loop {
        match replay.round(&mut [&mut displacements, &mut motion]) {
            Ok(Some(round)) => replayed.push(round),
            Ok(None) => break,
            Err(ReplayError::NotFinite(error)) => {
                ended = Some(error);
                break;
            }
            Err(ReplayError::Trace(error)) => return Err(error.into()),
        }
        if options.stop.load(Ordering::SeqCst) {
            return Err(AnalyzeError::Stopped.into());
        }
        events(Event::Progress { done: replayed.len() as u64, of: trace.manifest.rounds as u64 });
    }
    // The state behind the last step.
    replay.finish(&mut [&mut motion])?;
    Ok(Pass { replayed, displacements: displacements.into_neurons(), findings: motion.findings(), ended })
}

/// What is to be said of a trace that has not all rounds.
fn sample<T: Real>(trace: &Trace<T>) -> Option<String> {
    let kept = trace.manifest.rounds;
    let known = trace.course.as_ref().and_then(|course| course.losses.last());
    let last = known.map_or(trace.number(kept - 1), |(number, _)| *number);
    trace.is_sample().then(|| {
        format!(
            "the trace has {kept} of {last} rounds: optima, regret and D_train are those of these rounds, a sample; the losses of all \
             are in rounds.csv; steps are not checked, and no bound of an optimizer is given"
        )
    })
}

/// What to say of recorded traces whose data differ: augmentation, or rows that one of them has not come to.
fn other_rows(first: &Checked, other: &Checked) -> Option<String> {
    let recorded = first.extent.is_recorded() && other.extent.is_recorded();
    (recorded && first.data != other.data).then(|| {
        let folder = first.folder.display();
        format!("its rounds saw {} rows of data, not the same {} as those of {folder}", other.rows, first.rows)
    })
}

/// Fails unless two traces are of the same network, loss and data.
fn belongs_to(first: &Checked, other: &Checked) -> Result<(), AnalyzeError> {
    let shape = |of: &Checked| format!("{} rows of {} values", of.rows, of.network.inputs());
    // Format 1 calls values labels, too.
    let target = |of: &Checked| match (of.manifest.target, of.manifest.loss) {
        (TargetKind::Label, Loss::Mse) => format!("\"{}\"", TargetKind::Values.name()),
        (target, _) => format!("\"{}\"", target.name()),
    };
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
    // Rows of recorded traces are those that their rounds came to, in any order.
    let recorded = first.extent.is_recorded() || other.extent.is_recorded();
    let compared = if recorded { &values[..4] } else { &values[..] };
    for (what, value) in compared {
        let (one, two) = (value(first), value(other));
        if one != two {
            let paths = [first.folder.clone(), other.folder.clone()];
            return Err(AnalyzeError::Differ { what, paths: Box::new(paths), values: Box::new([one, two]) });
        }
    }
    Ok(())
}
