//! Runs that are killed, run out of disk, or fail to write, and are resumed: the results are those of an undisturbed run, byte for
//! byte. Short forms run with the other tests; `cargo test --release --test suite crash:: -- --ignored` runs them in full.

use crate::support::{Ended, Workplace, results};
use std::{collections::BTreeMap, fs, process::Stdio, time::Duration};

/// Three optimizers with and without memory, layers with and without bias, all scales, exploration, validation, two epochs.
const STUDY: &str = r#"
name = "crash"

[data]
dataset = "digits"
validation = 300

[network]
layers = [{ dense = { units = 5, bias = false } }, "relu", { dense = 4 }, "relu", { dense = 64 }]

[training]
loss = "mse"
target = "input"
batch_size = 100
epochs = 2

[[optimizer]]
name = "sgd"
learning_rate = 1.0

[[optimizer]]
name = "rmsprop"
learning_rate = 0.003
momentum = 0.5
centered = true

[[optimizer]]
name = "adam"
learning_rate = 0.003

[regret]
prefixes = 3
tolerance = 0.01
max_products = 10
window = "all"

[exploration]
probe = 100
every = 5
"#;

struct Study {
    workplace: Workplace,
    file: &'static str,
    expected: BTreeMap<String, Vec<u8>>,
    /// How long an undisturbed run takes.
    time: Duration,
}

impl Study {
    /// Runs it without disturbance.
    fn new(file: &'static str) -> Self {
        let workplace = Workplace::new();
        fs::write(workplace.path("study.toml"), STUDY).unwrap();
        let mut study = Self { workplace, file, expected: BTreeMap::new(), time: Duration::ZERO };
        let start = std::time::Instant::now();
        study.workplace.run(&study.arguments("undisturbed")).exits(0);
        study.time = start.elapsed();
        study.expected = study.results("undisturbed");
        assert!(study.expected.keys().any(|name| name.contains("trace/weights")));
        study
    }

    fn arguments<'a>(&'a self, out: &'a str) -> Vec<&'a str> {
        vec!["run", self.file, "--keep-trace", "--checkpoint-every", "4", "--resume", "--out", out]
    }

    fn results(&self, out: &str) -> BTreeMap<String, Vec<u8>> {
        results(&self.workplace, out)
    }

    /// Goes on to the end; all results must be there and be the expected ones.
    #[track_caller]
    fn completes(&self, out: &str, how: &str) {
        let ended = self.workplace.run(&self.arguments(out));
        assert_eq!(ended.code, Some(0), "{how}: {}", ended.stderr);
        let found = self.results(out);
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&self.expected), "{how}");
        for (name, bytes) in &found {
            assert!(*bytes == self.expected[name], "{how}: {name} differs");
        }
    }

    /// Starts or continues the run, and kills it after some time. Whether it was still running.
    fn kill_after(&self, out: &str, time: Duration) -> bool {
        let mut command = self.workplace.command(&self.arguments(out));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(time);
        let running = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        running
    }

    /// Kills the study again and again, `kills` times in all; whenever a run gets through, it must have the expected results.
    fn survives_kills(&self, kills: usize, seed: u64) {
        let (mut random, mut killed, mut round) = (Random(seed), 0, 0);
        while killed < kills {
            let out = format!("killed-{round}");
            let mut in_this_run = 0;
            while killed < kills {
                // The longer the run has come, the shorter it still takes: early and late moments alike.
                let time = self.time.mul_f64(random.next() * random.next());
                if !self.kill_after(&out, time) {
                    break;
                }
                (killed, in_this_run) = (killed + 1, in_this_run + 1);
            }
            self.completes(&out, &format!("killed {in_this_run} times"));
            fs::remove_dir_all(self.workplace.path(&out)).unwrap();
            round += 1;
        }
    }
}

/// Numbers in [0, 1) by a linear congruential generator (Knuth, MMIX).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[test]
fn killed_runs_resume_to_the_same_bytes() {
    Study::new("study.toml").survives_kills(8, 1);
    // Networks with convolutions have another engine, and cross-entropy no closed form.
    for file in ["convnet.toml", "classifier.toml"] {
        Study::new(file).survives_kills(2, 2);
    }
}

#[test]
#[ignore = "minutes: 200 kills"]
fn killed_runs_resume_to_the_same_bytes_200_times() {
    Study::new("study.toml").survives_kills(140, 3);
    for file in ["convnet.toml", "classifier.toml", "autoencoder.toml"] {
        Study::new(file).survives_kills(20, 4);
    }
}

#[test]
fn searches_and_explorations_that_were_killed_continue_to_the_same_tables() {
    let workplace = Workplace::new();
    let explore = |out: &'static str| {
        let mut arguments = vec!["explore", "autoencoder.toml", "--seeds", "1", "--fine", "4", "--out", out];
        arguments.extend(["--tuned", "tuned"]);
        arguments
    };
    let tune = ["tune", "autoencoder.toml", "--seeds", "1", "--refine", "0", "--out"];
    workplace.run(&[&tune[..], &["tuned"]].concat()).exits(0);
    workplace.run(&explore("undisturbed")).exits(0);
    let mut random = Random(5);
    for (arguments, expected, tables) in [
        ([&tune[..], &["again"]].concat(), "tuned", &["tune.csv", "tuned.toml", "tuned.json"][..]),
        (explore("explored"), "undisturbed", &["explore.csv", "signs.csv"]),
    ] {
        let out = *arguments.last().filter(|out| **out == "again").unwrap_or(&"explored");
        for _ in 0..4 {
            let mut command = workplace.command(&arguments);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_secs_f64(0.3 * random.next()));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        workplace.run(&arguments).exits(0);
        for table in tables {
            let read = |folder: &str| workplace.read(&format!("{folder}/{table}"));
            assert!(read(out) == read(expected), "{out}/{table}");
        }
    }
}

#[test]
fn a_folder_in_use_is_refused_and_one_that_was_killed_is_not() {
    let workplace = Workplace::new();
    let arguments = ["run", "autoencoder.toml", "--epochs", "100000", "--out", "run", "--set", "regret.scales=[]"];
    let mut child = workplace.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !workplace.path("run/sgd/probe.npy").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(workplace.json("run/summary.json")["status"], "running");
    for extra in ["--resume", "--overwrite"] {
        let process = child.id().to_string();
        workplace.run(&[&arguments[..], &[extra]].concat()).exits(2).says(&["in use", &process]);
    }
    workplace.run(&["report", "run"]).exits(0);
    assert!(workplace.read("run/report.html").contains("not finished yet"));
    child.kill().unwrap();
    child.wait().unwrap();
    workplace.run(&["report", "run"]).exits(0);
    let page = workplace.read("run/report.html");
    assert!(page.contains("ended early") && page.contains("--resume"));
    let few = ["run", "autoencoder.toml", "--epochs", "1", "--out", "run", "--set", "regret.scales=[]", "--overwrite"];
    workplace.run(&few).exits(0);
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod faults {
    use super::*;
    use crate::support::faults_library;

    /// A study with a library in front of the system's that makes operations on files fail.
    struct Faulty {
        study: Study,
        library: std::path::PathBuf,
    }

    impl Faulty {
        fn new(file: &'static str) -> Self {
            let study = Study::new(file);
            let library = faults_library(&study.workplace);
            Self { study, library }
        }

        fn run(&self, out: &str, fault: &str) -> Ended {
            let mut command = self.study.workplace.command(&self.study.arguments(out));
            let output = command.env("LD_PRELOAD", &self.library).env("FAULT", fault).output().unwrap();
            Ended {
                code: output.status.code(),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            }
        }

        /// Operations on files in an undisturbed run.
        fn operations(&self) -> usize {
            let ended = self.run("counted", "count:0").exits(0);
            let numbers = ended.stderr.lines().filter_map(|line| line.strip_prefix("operation ")?.parse().ok());
            let most = numbers.max().expect("the library counts");
            assert!(self.study.results("counted") == self.study.expected);
            most
        }

        /// Lets operation `at` fail; then all must be as if it had not.
        fn survives(&self, kind: &str, at: usize) {
            let (out, fault) = (format!("{kind}-{at}"), format!("{kind}:{at}"));
            let ended = self.run(&out, &fault);
            assert!(!ended.stderr.contains("panicked"), "{fault}: {}", ended.stderr);
            let struck = ended.stderr.contains(&format!("fault {kind}"));
            match ended.code {
                // A write may take fewer bytes; other faults may strike where it does not matter.
                Some(0) => {
                    assert!(kind == "short" || !struck || !kind.starts_with("error"), "{fault} passed unnoticed")
                }
                None => assert!(["die", "half"].contains(&kind), "{fault}: {}", ended.stderr),
                Some(code) => {
                    assert!(["error", "full"].contains(&kind) && code == 1, "{fault}: {code}, {}", ended.stderr);
                    assert!(ended.stderr.contains("cannot write"), "{fault}: {}", ended.stderr);
                }
            }
            self.study.completes(&out, &fault);
            fs::remove_dir_all(self.study.workplace.path(&out)).unwrap();
        }
    }

    const KINDS: [&str; 5] = ["error", "short", "full", "die", "half"];

    /// Lets some of a run's operations on files fail in one way, one in each run.
    fn survives_some(kind: &str, seed: u64) {
        let faulty = Faulty::new("study.toml");
        let operations = faulty.operations();
        assert!(operations > 200, "{operations}");
        let mut random = Random(seed);
        for _ in 0..3 {
            faulty.survives(kind, 1 + (random.next() * operations as f64) as usize);
        }
    }

    #[test]
    fn an_error_of_a_file_loses_nothing() {
        survives_some("error", 6);
    }

    #[test]
    fn a_short_write_loses_nothing() {
        survives_some("short", 7);
    }

    #[test]
    fn a_full_disk_loses_nothing() {
        survives_some("full", 8);
    }

    #[test]
    fn an_end_before_a_write_loses_nothing() {
        survives_some("die", 9);
    }

    #[test]
    fn an_end_in_the_middle_of_a_write_loses_nothing() {
        survives_some("half", 10);
    }

    #[test]
    #[ignore = "an hour: every operation on a file, in five ways"]
    fn no_write_that_fails_loses_anything() {
        let faulty = Faulty::new("autoencoder.toml");
        let operations = faulty.operations();
        for kind in KINDS {
            for at in 1..=operations {
                faulty.survives(kind, at);
            }
        }
    }
}
