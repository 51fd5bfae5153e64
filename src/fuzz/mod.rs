//! Every reader of files against damaged ones: no panic, no hang, no memory out of proportion to the input.
//!
//! The inputs are those of `tests/data/fuzz`, mutated at random (a fixed sequence per target, so every failure can be repeated). The
//! ordinary tests replay the corpus and some thousand mutations; in full:
//!
//! ```text
//! EXECUTIONS=10000000 cargo test --release --lib fuzz:: -- --ignored --nocapture
//! ```

mod memory;
mod mutation;
mod targets;

use mutation::Mutator;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use targets::{TARGETS, Target};

/// No input may take longer each time that it is tried: machines pause now and then.
const MOST_TIME: Duration = Duration::from_secs(5);
const TRIES: usize = 3;

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fuzz").join(target.name);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} has no corpus", target.name);
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Runs one input; what is wrong with what happened, if anything.
fn execute(target: &Target, place: &targets::Place, input: &[u8]) -> Result<bool, String> {
    (1..TRIES).find_map(|_| try_once(target, place, input).transpose()).unwrap_or_else(|| {
        let last = try_once(target, place, input)?;
        last.ok_or_else(|| format!("takes more than {MOST_TIME:?}, {TRIES} times"))
    })
}

/// The same once; nothing if it took too long.
fn try_once(target: &Target, place: &targets::Place, input: &[u8]) -> Result<Option<bool>, String> {
    let start = Instant::now();
    let (outcome, peak) = memory::peak(|| catch_unwind(AssertUnwindSafe(|| (target.read)(place, input))));
    let Ok(accepted) = outcome else { return Err("panics".into()) };
    let allowed = target.base + target.factor * input.len();
    if peak > allowed {
        return Err(format!("takes {peak} bytes of memory for {} bytes of input, more than {allowed}", input.len()));
    }
    Ok((start.elapsed() <= MOST_TIME).then_some(accepted))
}

/// Runs the corpus and `executions` mutations of it.
fn fuzz(target: &Target, executions: u64) {
    let place = targets::Place::new();
    let seeds: Vec<Vec<u8>> = corpus(target)
        .into_iter()
        .map(|(path, bytes)| {
            let accepted =
                execute(target, &place, &bytes).unwrap_or_else(|wrong| panic!("{}: {wrong}", path.display()));
            // Files of the corpus say by their names whether they are whole.
            let whole = !path.file_name().unwrap().to_string_lossy().starts_with("bad-");
            assert_eq!(accepted, whole, "{}", path.display());
            bytes
        })
        .collect();
    let mut accepted = 0;
    let start = Instant::now();
    for number in 0..executions {
        let input = Mutator::new(target.name, number).input(&seeds, target.wrap);
        match execute(target, &place, &input) {
            Ok(yes) => accepted += u64::from(yes),
            Err(wrong) => {
                let path = std::env::temp_dir().join(format!("fuzz-{}-{number}", target.name));
                std::fs::write(&path, &input).unwrap();
                panic!("{} {wrong}: input {number}, written to {}", target.name, path.display());
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{}: {executions} executions in {seconds:.0} s, {accepted} accepted", target.name);
}

macro_rules! targets {
    ($($name:ident, $full:ident;)*) => {
        $(
            #[test]
            fn $name() {
                fuzz(Target::named(stringify!($name)), 2_000);
            }

            #[test]
            #[ignore = "EXECUTIONS executions"]
            fn $full() {
                let executions = std::env::var("EXECUTIONS").map_or(1_000_000, |text| text.parse().unwrap());
                fuzz(Target::named(stringify!($name)), executions);
            }
        )*

        #[test]
        fn every_target_has_a_test() {
            let tested = [$(stringify!($name)),*];
            assert!(TARGETS.iter().all(|target| tested.contains(&target.name)));
        }
    };
}

targets! {
    experiment, experiment_full;
    weights, weights_full;
    npy, npy_full;
    manifest, manifest_full;
    trace, trace_full;
    recorded, recorded_full;
    idx, idx_full;
    cifar, cifar_full;
    pickle, pickle_full;
    png, png_full;
    jpeg, jpeg_full;
    archive, archive_full;
    checkpoint, checkpoint_full;
    summary, summary_full;
}
