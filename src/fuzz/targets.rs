//! The readers of files, each with what it may cost.

use super::mutation::Wrap;
use crate::{
    checkpoint::{Identity, Persist, Saved, Store, StoreError},
    data,
    network::{LayerSpec, Network, Rectifier, read_weights},
    study::{experiment, tables::Summary},
    taylor::{Found, recorder::WindowRecorder},
    trace,
};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder for inputs, in memory where the system has such a place.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        Self(if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

pub struct Target {
    pub name: &'static str,
    pub wrap: Wrap,
    /// Bytes of memory allowed: a constant, and a number for each byte of input.
    pub base: usize,
    pub factor: usize,
    /// Whether the input was accepted.
    pub read: fn(&Place, &[u8]) -> bool,
}

impl Target {
    pub fn named(name: &str) -> &'static Target {
        TARGETS.iter().find(|target| target.name == name).expect("a target of that name")
    }
}

const KB: usize = 1 << 10;

pub const TARGETS: &[Target] = &[
    Target { name: "experiment", wrap: Wrap::None, base: 256 * KB, factor: 500, read: experiment },
    Target { name: "weights", wrap: Wrap::None, base: 64 * KB, factor: 100, read: weights },
    Target { name: "npy", wrap: Wrap::None, base: 64 * KB, factor: 40, read: npy },
    Target { name: "manifest", wrap: Wrap::None, base: 64 * KB, factor: 200, read: manifest },
    Target { name: "trace", wrap: Wrap::None, base: 256 * KB, factor: 200, read: whole_trace },
    Target { name: "recorded", wrap: Wrap::None, base: 256 * KB, factor: 200, read: recorded_trace },
    Target { name: "idx", wrap: Wrap::Gzip, base: 256 * KB, factor: 3000, read: idx },
    Target { name: "cifar", wrap: Wrap::None, base: 64 * KB, factor: 40, read: cifar },
    Target { name: "pickle", wrap: Wrap::None, base: 64 * KB, factor: 300, read: pickle },
    Target { name: "png", wrap: Wrap::Png, base: 512 * KB, factor: 70_000, read: picture },
    Target { name: "jpeg", wrap: Wrap::None, base: 2048 * KB, factor: 30_000, read: picture },
    Target { name: "archive", wrap: Wrap::TarGz, base: 1024 * KB, factor: 3000, read: archive },
    Target { name: "checkpoint", wrap: Wrap::None, base: 64 * KB, factor: 100, read: checkpoint },
    Target { name: "summary", wrap: Wrap::None, base: 64 * KB, factor: 200, read: summary },
];

fn experiment(_: &Place, input: &[u8]) -> bool {
    std::str::from_utf8(input).is_ok_and(|text| experiment::parse(text, "fuzz", &[]).is_ok())
}

fn network() -> Network {
    let layers = [LayerSpec::dense(3), LayerSpec::Rectifier(Rectifier::Relu), LayerSpec::dense(2)];
    Network::new(2, &layers).unwrap()
}

fn weights(place: &Place, input: &[u8]) -> bool {
    let (network, path) = (network(), place.file("weights", input));
    // A network that looks at the biases only to see whether they are 0.
    let layers: Vec<LayerSpec> = network.layers().iter().map(|layer| layer.without_bias()).collect();
    let _ = read_weights::<f32>(&Network::new(network.input(), &layers).unwrap(), &path);
    read_weights::<f32>(&network, &path).is_ok()
}

fn npy(place: &Place, input: &[u8]) -> bool {
    trace::array::read_npy(&place.file("array.npy", input)).is_ok()
}

fn manifest(place: &Place, input: &[u8]) -> bool {
    place.file("manifest.json", input);
    trace::manifest::read_manifest(place.0.path()).is_ok()
}

fn whole_trace(place: &Place, input: &[u8]) -> bool {
    let names = ["manifest.json", "batches.npy", "inputs.npy", "losses.npy", "weights-00000.safetensors"];
    trace_of_files(place, &names, input)
}

const RECORDED: [&str; 4] =
    ["manifest.json", "shard-00000.safetensors", "shard-00001.safetensors", "final.safetensors"];

fn recorded_trace(place: &Place, input: &[u8]) -> bool {
    trace_of_files(place, &RECORDED, input)
}

/// The files of a trace, one after the other, each with its length in front.
fn trace_of_files(place: &Place, names: &[&str], input: &[u8]) -> bool {
    let mut rest = input;
    for name in names {
        let Some((length, behind)) = rest.split_at_checked(4) else { return false };
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let (file, behind) = behind.split_at(length.min(behind.len()));
        place.file(name, file);
        rest = behind;
    }
    // Names of datasets would lead out of the folder.
    let folder = place.0.path();
    trace::read::<f32>(folder, &trace::ReadOptions { data: Some(folder), rounds: None }).is_ok()
}

fn idx(place: &Place, input: &[u8]) -> bool {
    let path = place.file("idx", input);
    data::idx::read_images(&path).is_ok() | data::idx::read_labels(&path, 10).is_ok()
}

fn cifar(place: &Place, input: &[u8]) -> bool {
    let records = (input.len() / data::cifar::RECORD).max(1);
    let path = place.file("batch.bin", input);
    data::cifar::read_batch(&path, records, &mut Vec::new(), &mut Vec::new()).is_ok()
}

/// Images of six pixels.
fn pickle(_: &Place, input: &[u8]) -> bool {
    data::cifar::python::parse_batch(input, 6, &mut Vec::new(), &mut Vec::new()).is_ok()
}

fn picture(place: &Place, input: &[u8]) -> bool {
    let path = place.file("picture", input);
    let Ok(header) = data::picture::read_header(&path) else { return false };
    let channels = if header.colour { 3 } else { 1 };
    let mut out =
        vec![0.0; if header.height * header.width > 1 << 20 { 0 } else { channels * header.height * header.width }];
    !out.is_empty() && data::picture::decode(&path, channels, &mut out).is_ok()
}

fn archive(place: &Place, input: &[u8]) -> bool {
    let path = place.file("archive.tar.gz", input);
    let folder = place.0.path().join("unpacked");
    let _ = std::fs::create_dir(&folder);
    let done = data::archive::tests::unpacks(&path, &folder);
    // Nothing appears but what was asked for, where it was asked for.
    for entry in std::fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        assert!(["one", "two"].iter().any(|name| entry.file_name() == *name) && entry.file_type().unwrap().is_file());
        std::fs::remove_file(entry.path()).unwrap();
    }
    assert_eq!(std::fs::read_dir(place.0.path()).unwrap().count(), 2, "the archive and the folder");
    done
}

/// States of the kinds that there are.
#[derive(Default)]
struct State {
    count: usize,
    fixed: [f64; 2],
    found: Found,
    window: Option<WindowRecorder<f32>>,
}

impl Persist for State {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.count("count", &mut self.count)?;
        store.values("fixed", &mut self.fixed)?;
        store.part("found", |store| self.found.persist(store))?;
        let window = self.window.get_or_insert_with(|| WindowRecorder::new(vec![1, 2, 3]));
        store.part("window", |store| window.persist(store))
    }
}

fn checkpoint(place: &Place, input: &[u8]) -> bool {
    let path = place.file("checkpoint", input);
    let identity = Identity::from([("experiment".to_owned(), "fuzz".to_owned())]);
    let mut state = State::default();
    Saved::open(&path).is_ok_and(|saved| saved.is_some_and(|saved| saved.restore(&identity, &mut state).is_ok()))
}

fn summary(place: &Place, input: &[u8]) -> bool {
    Summary::read(&place.file("summary.json", input)).is_ok()
}

/// The files of a recorded trace of two shards, one after the other, each with its length in front.
#[cfg(test)]
fn recorded_files(place: &Place, network: &Network, state: &[f32]) -> Vec<u8> {
    use trace::recording::{Recording, RecordingOptions, Tensor};
    let folder = place.0.path().join("recorded");
    let manifest = serde_json::json!({
        "input": [2], "layers": network.layers(), "loss": "mse", "target": "input", "parameters": { "0.weight": "0.weight" },
        "optimizer": { "name": "sgd", "learning_rate": 0.1 }
    });
    let encoded = crate::network::weights::encode_states(network, &[state], false).unwrap();
    let mut views = safetensors::SafeTensors::deserialize(&encoded).unwrap().tensors();
    views.sort_by(|a, b| a.0.cmp(&b.0));
    let tensors: Vec<Tensor> = views
        .iter()
        .map(|(name, view)| Tensor { name, dtype: view.dtype(), shape: view.shape(), bytes: view.data() })
        .collect();
    let mut recording = Recording::create(&folder, manifest, RecordingOptions::default()).unwrap();
    for (round, values) in [(1, [0.0f32, 1.0, 2.0, 3.0]), (2, [4.0, 5.0, 0.0, 1.0])] {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let inputs = Tensor { name: "inputs", dtype: safetensors::Dtype::F32, shape: &[2, 2], bytes: &bytes };
        recording.round(round, 0.5, 2, &[inputs], None, &tensors, &[]).unwrap();
        recording.flush().unwrap();
    }
    recording.close(Some(&tensors), 2, true).unwrap();
    let files = RECORDED.map(|name| std::fs::read(folder.join(name)).unwrap());
    files.iter().flat_map(|file| (file.len() as u32).to_le_bytes().into_iter().chain(file.iter().copied())).collect()
}

/// Writes the valid files of the corpus.
#[test]
#[ignore = "writes tests/data/fuzz"]
fn write_corpus() {
    use crate::{
        checkpoint,
        network::he_uniform,
        taylor::{UnitResult, Work},
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fuzz");
    let put = |target: &str, name: &str, bytes: &[u8]| {
        std::fs::create_dir_all(root.join(target)).unwrap();
        std::fs::write(root.join(target).join(name), bytes).unwrap();
    };
    for (name, text) in experiment::BUILT_IN {
        put("experiment", &format!("{name}.toml"), text.as_bytes());
    }
    let network = network();
    let place = Place::new();
    let path = place.0.path().join("file");
    let written = || std::fs::read(&path).unwrap();
    crate::network::weights::write_weights::<f32>(&network, &he_uniform(&network, 0), &path).unwrap();
    put("weights", "f32.safetensors", &written());
    crate::network::weights::write_weights::<f64>(&network, &he_uniform(&network, 0), &path).unwrap();
    put("weights", "f64.safetensors", &written());
    let array = |shape: &[u64]| {
        let values: Vec<f32> = (0..shape.iter().product::<u64>()).map(|i| i as f32).collect();
        trace::write::write_npy(&path, shape, &values).unwrap();
        written()
    };
    put("npy", "matrix.npy", &array(&[3, 4]));
    trace::write::write_npy(&path, &[3], &[1i64, 2, 3]).unwrap();
    put("npy", "integers.npy", &written());
    let manifest = r#"{"format": 1, "input": [2], "layers": [{"dense": 3}, "relu", {"dense": 2}], "loss": "mse", "target": "input", "rounds": 2, "batch_size": 2, "optimizer": {"name": "sgd", "learning_rate": 0.1}}"#;
    put("manifest", "dense.json", manifest.as_bytes());
    let spatial = r#"{"format": 1, "input": [1, 8, 8], "layers": [{"conv": {"maps": 2, "kernel": 3}}, "relu", {"max_pool": 2}, "flatten", {"dense": 10}], "loss": "cross_entropy", "target": "label", "rounds": 1, "batch_size": 4, "optimizer": {}, "data": {"dataset": "digits"}}"#;
    put("manifest", "conv.json", spatial.as_bytes());
    let without = r#"{"format": 1, "input": [1, 4, 4], "layers": [{"conv": {"maps": 2, "kernel": 3, "bias": false}}, "relu", "flatten", {"dense": {"units": 3}}, "abs", {"dense": {"units": 10, "bias": false}}], "loss": "cross_entropy", "target": "label", "rounds": 1, "batch_size": 4, "optimizer": {}, "data": {"dataset": "digits"}}"#;
    put("manifest", "no-bias.json", without.as_bytes());
    let state: Vec<f32> = he_uniform(&network, 0);
    let states = crate::network::weights::encode_states(&network, &[&state, &state, &state], true).unwrap();
    trace::write::write_npy(&path, &[2, 2], &[0i64, 1, 2, 0]).unwrap();
    let batches = written();
    let files = [manifest.as_bytes().to_vec(), batches, array(&[3, 2]), array(&[2]), states];
    let joined: Vec<u8> = files
        .iter()
        .flat_map(|file| (file.len() as u32).to_le_bytes().into_iter().chain(file.iter().copied()))
        .collect();
    put("trace", "dense", &joined);
    put("recorded", "dense", &recorded_files(&place, &network, &state));
    let images = data::idx::tests::idx(&[2, 2, 3], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255]);
    put("idx", "images.idx", &images);
    put("idx", "images.idx.gz", &data::idx::tests::gzip(&images));
    put("idx", "labels.idx.gz", &data::idx::tests::gzip(&data::idx::tests::idx(&[3], &[0, 9, 1])));
    put("cifar", "one.bin", &(0..data::cifar::RECORD).map(|i| (i % 256) as u8 % 10).collect::<Vec<_>>());
    for (target, names) in [
        ("png", &["bilevel.png", "deep.png", "grey.png", "palette.png", "rgb.png", "rgba.png"][..]),
        ("jpeg", &["grey.jpg", "rgb.jpg", "progressive.jpg"]),
    ] {
        for name in names {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/images").join(name);
            put(target, name, &std::fs::read(source).unwrap());
        }
    }
    put("archive", "two.tar.gz", &data::archive::tests::example());
    let mut state = State { count: 3, fixed: [0.5, -1.0], ..State::default() };
    let mut window = WindowRecorder::new(vec![1, 2, 3]);
    (window.states, window.losses) = (vec![vec![1.0, 2.0]; 2], vec![0.1, 0.2]);
    [&[0, 1, 2][..], &[3]].into_iter().for_each(|rows| window.rows.push(rows));
    state.window = Some(window);
    let mut work = Work::to_the_end();
    work.piece("network", || vec![UnitResult::blank()]).expect("nobody halts it");
    state.found = work.into_found();
    let identity = Identity::from([("experiment".to_owned(), "fuzz".to_owned())]);
    checkpoint::save(&path, &identity, &mut state).unwrap();
    put("checkpoint", "state.safetensors", &written());
    let text = r#"{"format": 1, "name": "a", "version": "0.1.0", "seed": 0, "status": "complete", "dataset": "digits", "loss": "mse", "target": "input", "headline": "unconstrained", "layers": ["dense 64 -> 64"], "optimizers": [{"label": "sgd", "name": "sgd", "learning_rate": 0.1, "status": "complete", "message": null, "rounds": 15, "rounds_per_epoch": 15, "window_rounds": 15, "last_loss": 0.1, "mean_loss": 0.1, "train_loss": 0.1, "test_loss": 0.1, "train_accuracy": null, "test_accuracy": null, "hidden_neurons": 0, "dead_neurons": 0}]}"#;
    put("summary", "complete.json", text.as_bytes());
    put("summary", "bad-newer.json", text.replacen("1,", "2,", 1).as_bytes());
}
