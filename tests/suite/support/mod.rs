//! Running the built program in a folder of its own, for the tests of its command line.

pub mod random;
pub mod trace;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tempfile::TempDir;

/// An autoencoder of the embedded digits with two optimizers: 15 rounds, a fraction of a second.
pub const AUTOENCODER: &str = r#"
name = "small-autoencoder"

[data]
dataset = "digits"

[network]
layers = [{ dense = 8 }, "relu", { dense = 6 }, "relu", { dense = 64 }]

[training]
loss = "mse"
target = "input"
batch_size = 100
epochs = 1

[[optimizer]]
name = "sgd"
learning_rate = 1.0

[[optimizer]]
name = "adam"
learning_rate = 0.003

[regret]
prefixes = 3
tolerance = 0.01
max_products = 20
window = "all"

[exploration]
probe = 200
every = 5
"#;

/// A classifier of the embedded digits: 15 rounds.
pub const CLASSIFIER: &str = r#"
name = "small-classifier"

[data]
dataset = "digits"

[network]
layers = [{ dense = 8 }, "leaky_relu", { dense = 10 }]

[training]
loss = "cross_entropy"
target = "label"
batch_size = 100
epochs = 1

[[optimizer]]
name = "sgd"
learning_rate = 0.1

[regret]
prefixes = 3
tolerance = 0.01
neuron_tolerance = 0.001
neurons = 2
max_products = 20
window = "all"

[exploration]
probe = 200
every = 5
"#;

/// A convolutional classifier of the embedded digits: 30 rounds, of which 10 are analysed.
pub const CONVNET: &str = r#"
name = "small-convnet"

[data]
dataset = "digits"
validation = 100

[network]
layers = [
    { conv = { maps = 4, kernel = 3, padding = 1 } }, "relu", { max_pool = 2 },
    { conv = { maps = 3, kernel = 3 } }, "leaky_relu", { avg_pool = 2 },
    "flatten", { dense = 10 },
]

[training]
loss = "cross_entropy"
target = "label"
batch_size = 90
epochs = 2

[[optimizer]]
name = "sgd"
learning_rate = 0.1

[regret]
prefixes = 3
tolerance = 0.01
neuron_tolerance = 0.001
neurons = 2
max_products = 40
window = "all"
rounds = 10

[exploration]
probe = 200
every = 10
"#;

/// How the program ended and what it printed.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Asserts the exit code and that nothing panicked.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        let Ended { stdout, stderr, .. } = &self;
        assert!(!stderr.contains("panicked"), "{stderr}");
        assert_eq!(self.code, Some(code), "stdout:\n{stdout}\nstderr:\n{stderr}");
        self
    }

    /// Asserts that the program ended by itself, in whatever way, and that nothing panicked.
    #[track_caller]
    pub fn ends_in_order(self) -> Self {
        let Ended { stdout, stderr, .. } = &self;
        assert!(!stderr.contains("panicked"), "{stderr}");
        assert!(matches!(self.code, Some(0..=2)), "{:?}, stdout:\n{stdout}\nstderr:\n{stderr}", self.code);
        self
    }

    /// Asserts that standard error has every one of `texts`.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "no \"{text}\" in:\n{}", self.stderr);
        }
        self
    }
}

/// A working directory with the experiments in it, removed at the end.
pub struct Workplace {
    folder: TempDir,
}

impl Workplace {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("autoencoder.toml"), AUTOENCODER).unwrap();
        fs::write(folder.path().join("classifier.toml"), CLASSIFIER).unwrap();
        fs::write(folder.path().join("convnet.toml"), CONVNET).unwrap();
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program, to be run here; no dataset of the machine is visible to it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taylorscope"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TAYLORSCOPE_DATA", self.path("cache"))
            .env_remove("RAYON_NUM_THREADS")
            .stdin(Stdio::null());
        command
    }

    #[must_use = "look at the exit code, or for a panic: call `exits` or `ends_in_order`"]
    pub fn run(&self, arguments: &[&str]) -> Ended {
        let output = self.command(arguments).output().expect("the program starts");
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    pub fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.read(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

/// Builds what is preloaded into the program to make operations on files fail (`support/faults.rs`).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn faults_library(workplace: &Workplace) -> PathBuf {
    let library = workplace.path("faults.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/support/faults.rs");
    let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
    let rustc = if rustc.exists() { rustc } else { "rustc".into() };
    let built = Command::new(rustc)
        .args(["--edition", "2024", "-O", "-A", "warnings", "--crate-type", "cdylib", "-o"])
        .args([&library, &source])
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    library
}

/// A CSV: its column names and its cells.
pub fn table(text: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let rows = reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect();
    (header, rows)
}

/// Every file below `folder` with its bytes, by path relative to it.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn visit(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(root, &path, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    visit(folder, folder, &mut found);
    found
}

/// All results of a run that may not differ from those of an equal one: everything but times, the machine, and what shows them.
pub fn results(workplace: &Workplace, run: &str) -> BTreeMap<String, Vec<u8>> {
    let mut all = files(&workplace.path(run));
    all.retain(|name, _| {
        !name.ends_with("timing.json") && !["environment.json", "report.html", ".lock"].contains(&&name[..])
    });
    all
}

/// Copies the files of one folder (no subfolders) to another.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
