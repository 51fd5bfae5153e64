//! `taylorscope data`.

use super::{
    answer::{Answer, Status},
    course::SILENCE,
    options::Data,
    output,
    signals::{self, STOP},
};
use crate::data::{self, FetchOptions, NAMES, Progress, Verdict};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use std::{
    cell::Cell,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::Ordering,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// The datasets, and whether their files are at hand
    List {
        #[command(flatten)]
        data: Data,
    },
    /// Download a dataset into the cache (or the folder of --data) and check it
    Fetch {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        data: Data,
    },
    /// Check a dataset's files against their known checksums
    Verify {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        data: Data,
    },
}

#[derive(clap::Args)]
struct Name {
    /// The dataset: one that `taylorscope data list` names, or images:DIR
    name: String,
}

pub fn command(arguments: &Arguments) -> anyhow::Result<Answer> {
    match &arguments.command {
        None => list(None),
        Some(Command::List { data }) => list(data.folder()),
        Some(Command::Fetch { name, data }) => fetch(&name.name, data.folder()),
        Some(Command::Verify { name, data }) => verify(&name.name, data.folder()),
    }
}

fn list(folder: Option<&Path>) -> anyhow::Result<Answer> {
    let mut datasets: Vec<Value> = Vec::new();
    for name in NAMES {
        let (text, object) = match data::load(name, folder) {
            Ok(set) => {
                let (train, test, size) = (set.train.len(), set.test.len(), size(set.image));
                let mut text = format!("{train} training and {test} test images of {size} in {} classes", set.classes);
                set.notes.iter().for_each(|note| text += &format!(" ({note})"));
                let object = json!({ "train": train, "test": test, "image": set.image, "classes": set.classes });
                (text, object)
            }
            Err(data::DataError::NotFound { hint: None, .. }) => {
                (format!("not here; get it with: taylorscope data fetch {name}"), json!({}))
            }
            Err(data::DataError::NotFound { hint: Some(hint), .. }) => (format!("not here; {hint}"), json!({})),
            Err(error) => (format!("unusable: {error}"), json!({ "error": error.to_string() })),
        };
        output::line(format!("{name:<14} {text}"))?;
        let mut object = object;
        object["name"] = json!(name);
        object["usable"] = json!(object.get("train").is_some());
        datasets.push(object);
    }
    Ok(Answer::new(Status::Done, json!({ "datasets": datasets })))
}

/// `28x28`, or `3x32x32` with channels.
fn size([channels, height, width]: [usize; 3]) -> String {
    match channels {
        1 => format!("{height}x{width}"),
        _ => format!("{channels}x{height}x{width}"),
    }
}

/// Why a dataset has no files to download.
fn at_hand(name: &str) -> &'static str {
    if name.starts_with(data::IMAGES) { "is a folder of your own" } else { "is embedded in the program" }
}

/// How often a download looks for signals.
const GLANCE: Duration = Duration::from_millis(50);

/// A download that was stopped by a signal.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error("stopped before anything came; repeat the command to try again")]
    Empty,
    #[error("stopped; the same command goes on behind the {bytes} bytes of {file} that are here")]
    Partial { file: String, bytes: u64 },
}

/// What has come of the file that is being downloaded.
type Received = Arc<Mutex<Option<(String, u64)>>>;

fn fetch(name: &str, folder: Option<&Path>) -> anyhow::Result<Answer> {
    signals::announce("\nstopping");
    let received = Received::default();
    let files = interruptibly(name, folder, &received)?;
    let place = files.first().and_then(|file| file.parent());
    match place {
        Some(folder) => output::line(format!("{name}: {} files in {}", files.len(), folder.display()))?,
        None => output::line(format!("{name} {}; nothing to fetch", at_hand(name)))?,
    }
    Ok(Answer::new(Status::Done, json!({ "name": name, "folder": place, "files": files })))
}

/// Downloads in a thread of its own, because a thread that waits for a server cannot react to signals, and servers may be silent for long. A
/// thread that is left behind ends with the program; what it has written is as good as after any other interruption.
fn interruptibly(name: &str, folder: Option<&Path>, received: &Received) -> anyhow::Result<Vec<PathBuf>> {
    let (send, outcome) = mpsc::channel();
    let (name, folder, of_thread) = (name.to_owned(), folder.map(Path::to_owned), received.clone());
    let thread = thread::spawn(move || send.send(download(&name, folder.as_deref(), &of_thread)));
    loop {
        match outcome.recv_timeout(GLANCE) {
            Ok(files) => return Ok(files?),
            Err(RecvTimeoutError::Timeout) if STOP.load(Ordering::SeqCst) => {
                let received = received.lock().unwrap_or_else(PoisonError::into_inner);
                let stopped = match &*received {
                    Some((file, bytes)) if *bytes > 0 => Stopped::Partial { file: file.clone(), bytes: *bytes },
                    _ => Stopped::Empty,
                };
                return Err(stopped.into());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(_) => unreachable!("the thread ends after it has sent its outcome"),
            },
        }
    }
}

fn download(name: &str, folder: Option<&Path>, received: &Received) -> Result<Vec<PathBuf>, data::DataError> {
    let style = ProgressStyle::with_template("  {bar:30} {bytes}/{total_bytes}, ETA {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let shown = io::stderr().is_terminal() && !output::is_quiet();
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target).with_style(style);
    let last_line = Cell::new(Instant::now());
    let say = |text: String| {
        last_line.set(Instant::now());
        bar.suspend(|| output::note(text));
    };
    let files = data::fetch(name, folder, &FetchOptions::from_environment(), &mut |progress| match progress {
        Progress::Present { file } => say(format!("{file}: here already")),
        Progress::Started { file, url } => say(format!("{file}: from {url}")),
        Progress::Received { file, bytes, total } => {
            *received.lock().unwrap_or_else(PoisonError::into_inner) = Some((file.to_owned(), bytes));
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_position(bytes);
            if !shown && last_line.get().elapsed() >= SILENCE {
                let of = total.map_or(String::new(), |total| format!(" of {:.1}", total as f64 / 1e6));
                say(format!("{file}: {:.1}{of} MB", bytes as f64 / 1e6));
            }
        }
        Progress::Unpacked { file } => {
            bar.reset();
            say(format!("{file}: unpacked and verified"));
        }
        Progress::Failed { file, failure } => say(format!("{file}: {}: {}", failure.url, failure.reason)),
        Progress::Finished { file, .. } => {
            bar.reset();
            say(format!("{file}: complete and verified"));
        }
    });
    bar.finish_and_clear();
    files
}

fn verify(name: &str, folder: Option<&Path>) -> anyhow::Result<Answer> {
    let files = data::verify(name, folder)?;
    if files.is_empty() {
        output::line(format!("{name} {} and has no checksums; it was read through and is whole", at_hand(name)))?;
    }
    let mut whole = true;
    let mut objects: Vec<Value> = Vec::new();
    for report in files {
        let (word, text) = match &report.verdict {
            Verdict::Intact => ("intact", "intact".to_owned()),
            Verdict::NotComparable => {
                ("not comparable", "present, but no checksum is known of this form of the file".to_owned())
            }
            Verdict::Missing => ("missing", "missing".to_owned()),
            Verdict::Differs { expected, found } => {
                ("differs", format!("differs (damaged, or packed anew): SHA-256 is {found}, expected {expected}"))
            }
        };
        whole &= matches!(report.verdict, Verdict::Intact | Verdict::NotComparable);
        output::line(format!("{:<28} {text}", report.file))?;
        objects.push(json!({ "file": report.file, "verdict": word, "message": text }));
    }
    Ok(Answer::new(Status::of(whole), json!({ "name": name, "files": objects })))
}
