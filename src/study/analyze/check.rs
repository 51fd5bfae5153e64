//! What is found out about traces before anything is written: whether they are good, whether they belong together,
//! and what they are called.

use super::options::AnalyzeOptions;
use crate::{
    kernels::Real,
    network::Network,
    optim,
    study::{
        error::{AnalyzeError, StudyError},
        event::Event,
        inputs::{hash, hexadecimal},
        tables::is_off,
    },
    taylor::units::Displacements,
    trace::{
        self, Manifest, ReadOptions, Trace, TraceError,
        agreement::{Agreement, compare, diverged_from},
        manifest::read_manifest,
        motion::{Findings, Motion, Steps, three},
        read::TraceTargets,
        replay::{NotFinite, Replay, Replayed},
        states::is_double,
    },
};
use rayon::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
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
    let plain_sgd = told.plain_sgd();
    let Pass { replayed, displacements, findings, ended } = pass(&trace, &network, plain_sgd, options, events)?;
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
    let plain_by_another_name = plain_by_another_name(&told, &findings);
    let contradicted = plain_by_another_name.is_some() || matches!(findings.steps, Some(Steps::Other { .. }));
    if let Some(name) = told.name.filter(|_| plain_sgd.is_none() && !contradicted) {
        checks.push(format!("whether the updates are those of {name} with its settings is not checked"));
    }
    warnings.extend(plain_by_another_name);
    let plain_sgd = plain_sgd.filter(|_| findings.steps == Some(Steps::Plain));
    if let Some(rate) = plain_sgd {
        checks.push(format!("all updates are steps of plain SGD with learning rate {rate}"));
    }
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

/// What to say of steps of plain SGD that the manifest calls by the name of an optimizer that never makes them.
fn plain_by_another_name(told: &Told, findings: &Findings) -> Option<String> {
    // Those that never step along the minibatch's gradient at a constant rate, but for the first round.
    const OTHERS: [&str; 8] = ["adam", "adamw", "rmsprop", "adagrad", "adagrad_full", "sign_sgd", "rprop", "batch_rms"];
    let name = told.name.as_deref().filter(|name| OTHERS.contains(name))?;
    let rate = findings.gradient_steps?;
    Some(format!(
        "the manifest names {name}, but all updates are steps of {} along the gradient, those of plain SGD; no claim of the \
         paper is judged by them",
        three(rate)
    ))
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

fn hash_of(hashes: impl IntoIterator<Item = [u8; 32]>) -> String {
    let mut hasher = Sha256::new();
    hashes.into_iter().for_each(|hash| hasher.update(hash));
    hexadecimal(&hasher.finalize())
}

/// Of everything in a trace that its analysis depends on.
pub(super) fn digest<T: Real>(trace: &Trace<T>) -> String {
    let manifest = serde_json::to_string(&trace.manifest).unwrap_or_default();
    let states: Vec<[u8; 32]> = trace.states.par_iter().map(|state| hash(state)).collect();
    let targets = match &trace.targets {
        TraceTargets::Inputs => [0; 32],
        TraceTargets::Labels(labels) => hash(labels),
        TraceTargets::Values(values) => hash(values),
    };
    let rest = [Sha256::digest(manifest.as_bytes()).into(), hash(&trace.batches), hash(&trace.inputs), targets];
    hash_of(states.into_iter().chain(rest))
}

/// Of the data alone, rounded to single precision.
fn data_digest<T: Real>(trace: &Trace<T>) -> String {
    let single = |values: &[T]| -> [u8; 32] { hash(&values.iter().map(|v| v.to_f64() as f32).collect::<Vec<_>>()) };
    let targets = match &trace.targets {
        TraceTargets::Inputs => [0; 32],
        TraceTargets::Labels(labels) => hash(labels),
        TraceTargets::Values(values) => single(values),
    };
    hash_of([single(&trace.inputs), targets])
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

/// The optimizer as the manifest tells it, for labels and bounds; it is never run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub name: Option<String>,
    pub learning_rate: Option<f64>,
    /// All other keys.
    pub settings: BTreeMap<String, Value>,
}

impl Told {
    pub fn by(manifest: &Manifest) -> Self {
        let name = manifest.optimizer.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let learning_rate = manifest.optimizer.get("learning_rate").and_then(Value::as_f64);
        // PyTorch's names of classes are those of ours in capitals.
        let known = |name: &str| {
            // As in torch.optim.SGD.
            let last = name.rsplit('.').next().unwrap_or(name);
            optim::registry().find(|entry| entry.name.eq_ignore_ascii_case(last))
        };
        let others = manifest.optimizer.iter().filter(|(key, _)| match key.as_str() {
            "name" => name.is_none(),
            "learning_rate" => learning_rate.is_none(),
            _ => true,
        });
        Self {
            name: name.map(|name| known(name).map_or(name, |entry| entry.name).to_owned()),
            learning_rate,
            settings: others.map(|(key, value)| (key.clone(), value.clone())).collect(),
        }
    }

    /// The constant step of plain SGD, which alone satisfies its bound. Any other key that is not off may change the
    /// steps.
    pub fn plain_sgd(&self) -> Option<f64> {
        let plain = self.name.as_deref() == Some("sgd") && self.settings.values().all(is_off);
        self.learning_rate.filter(|rate| plain && *rate > 0.0 && rate.is_finite())
    }
}

/// What a trace is called: by the optimizer's folder if it lies in a run, else by its own.
pub fn name_of(folder: &Path) -> String {
    match within_run(folder) {
        Some((optimizer, _)) => safe(&optimizer),
        None => safe(&last_name(folder)),
    }
}

fn last_name(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Of a trace in `RUN/<optimizer>/trace`: the names of the optimizer's folder and of the run's.
fn within_run(folder: &Path) -> Option<(String, String)> {
    let optimizer = folder.canonicalize().ok()?.parent()?.to_owned();
    let run = optimizer.parent()?;
    let is_run = last_name(folder) == "trace" && run.join("experiment.toml").exists();
    is_run.then(|| (last_name(&optimizer), last_name(run)))
}

/// Longest label.
const LONGEST: usize = 64;

/// A text as the name of a folder that no system objects to.
fn safe(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let mapped: String = text.chars().map(plain).take(LONGEST).collect();
    let name = mapped.trim_matches(['.', '-']);
    // Devices of Windows, and what a run has beside the folders of optimizers.
    let stem = name.split('.').next().unwrap_or_default().to_lowercase();
    let taken = ["con", "prn", "aux", "nul", "figures", "summary", "experiment", "environment", "report", "replacing"];
    let device = stem.len() == 4 && (stem.starts_with("com") || stem.starts_with("lpt"));
    match name {
        "" => "trace".to_owned(),
        _ if device || taken.contains(&stem.as_str()) => format!("trace-{name}"),
        _ => name.to_owned(),
    }
}

/// A folder for each trace: named after its optimizer where no other trace has that name, else after the trace;
/// unique in any case.
pub(super) fn labels(all: &[Checked]) -> Vec<String> {
    let candidates: Vec<[String; 2]> = all
        .iter()
        .map(|checked| match within_run(&checked.folder) {
            Some((optimizer, run)) => [safe(&optimizer), safe(&format!("{optimizer}-{run}"))],
            None => {
                let folder = safe(&last_name(&checked.folder));
                [Told::by(&checked.manifest).name.map_or_else(|| folder.clone(), |name| safe(&name)), folder]
            }
        })
        .collect();
    chosen(&candidates)
}

/// The first of each two names if nobody else wants it, else the second, with a number where that is taken.
fn chosen(candidates: &[[String; 2]]) -> Vec<String> {
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    let mut labels: Vec<String> = Vec::new();
    for [first, second] in candidates {
        let unique = candidates.iter().filter(|[other, _]| same(other, first)).count() == 1;
        let wanted = if unique { first } else { second };
        let numbered = (1..).map(|n| if n == 1 { wanted.clone() } else { format!("{wanted}-{n}") });
        let free = |name: &String| !labels.iter().any(|label| same(label, name));
        labels.push(numbered.into_iter().find(free).unwrap_or_else(|| wanted.clone()));
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(optimizer: Value) -> Told {
        let manifest = json!({
            "format": 1, "input": [2], "layers": [{ "dense": 2 }], "loss": "mse", "target": "input", "rounds": 1,
            "batch_size": 1, "optimizer": optimizer
        });
        Told::by(&serde_json::from_value(manifest).unwrap())
    }

    #[test]
    fn only_plain_sgd_has_its_bound() {
        for plain in [
            json!({ "name": "sgd", "learning_rate": 0.1 }),
            json!({ "name": "SGD", "learning_rate": 0.1, "momentum": 0, "nesterov": false, "weight_decay": 0.0 }),
            json!({ "name": "sgd", "learning_rate": 0.1, "schedule": "constant", "foreach": null, "decay": "None" }),
        ] {
            assert_eq!(told(plain.clone()).plain_sgd(), Some(0.1), "{plain}");
        }
        for other in [
            json!({ "name": "sgd" }),
            json!({ "name": "sgd", "learning_rate": 0.0 }),
            json!({ "name": "sgd", "learning_rate": 0.1, "momentum": 0.9 }),
            json!({ "name": "sgd", "learning_rate": 0.1, "nesterov": true }),
            json!({ "name": "sgd", "learning_rate": 0.1, "schedule": { "step": 10 } }),
            json!({ "name": "sgd", "learning_rate": 0.1, "schedule": "cosine" }),
            json!({ "name": "adam", "learning_rate": 0.1 }),
            json!({ "learning_rate": 0.1 }),
            json!({}),
        ] {
            assert_eq!(told(other.clone()).plain_sgd(), None, "{other}");
        }
    }

    #[test]
    fn nothing_that_a_manifest_tells_is_lost_or_added() {
        let all = told(json!({ "name": "Adam", "learning_rate": 1, "betas": [0.9, 0.99], "extra": { "a": null } }));
        assert_eq!((all.name.as_deref(), all.learning_rate), (Some("adam"), Some(1.0)));
        assert_eq!(json!(all.settings), json!({ "betas": [0.9, 0.99], "extra": { "a": null } }));
        let odd = told(json!({ "name": 3, "learning_rate": "fast" }));
        assert_eq!((odd.name, odd.learning_rate), (None, None));
        assert_eq!(json!(odd.settings), json!({ "name": 3, "learning_rate": "fast" }));
    }

    #[test]
    fn names_of_folders_are_safe_and_unique() {
        for (text, expected) in [
            ("sgd", "sgd"),
            ("../up", "up"),
            ("my net/1", "my-net-1"),
            ("..", "trace"),
            ("", "trace"),
            ("\u{e9}", "trace"),
            ("NUL", "trace-NUL"),
            ("com1", "trace-com1"),
            ("figures", "trace-figures"),
            ("Summary.json", "trace-Summary.json"),
        ] {
            assert_eq!(safe(text), expected, "{text}");
        }
        assert_eq!(safe(&"a".repeat(500)).len(), LONGEST);
        let pairs = |all: &[[&str; 2]]| chosen(&all.iter().map(|p| p.map(str::to_owned)).collect::<Vec<_>>());
        assert_eq!(pairs(&[["sgd", "a"], ["adam", "b"]]), ["sgd", "adam"]);
        assert_eq!(pairs(&[["sgd", "a"], ["SGD", "b"], ["adam", "c"]]), ["a", "b", "adam"]);
        assert_eq!(pairs(&[["sgd", "t"], ["sgd", "T"], ["sgd", "t"]]), ["t", "T-2", "t-3"]);
    }
}
