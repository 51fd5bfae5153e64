//! `taylorscope data`.

use super::{Status, output};
use crate::data::{self, FetchOptions, NAMES, Progress, Verdict};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// The datasets, and whether their files are at hand
    List {
        /// Folder with the datasets' files
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Download a dataset into the cache (or --data DIR) and check it
    Fetch {
        name: String,
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Check a dataset's files against their known checksums
    Verify {
        name: String,
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
}

pub fn command(arguments: &Arguments) -> anyhow::Result<Status> {
    match &arguments.command {
        None => list(None),
        Some(Command::List { data }) => list(data.as_deref()),
        Some(Command::Fetch { name, data }) => fetch(name, data.as_deref()),
        Some(Command::Verify { name, data }) => verify(name, data.as_deref()),
    }
}

fn list(folder: Option<&std::path::Path>) -> anyhow::Result<Status> {
    for name in NAMES {
        let state = match data::load(name, folder) {
            Ok(set) => format!(
                "{} training and {} test images of {} in {} classes",
                set.train.len(),
                set.test.len(),
                size(set.image),
                set.classes
            ),
            Err(data::DataError::NotFound { .. }) => format!("not here; get it with: taylorscope data fetch {name}"),
            Err(error) => format!("unusable: {error}"),
        };
        output::line(format!("{name:<14} {state}"))?;
    }
    Ok(Status::Done)
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
    if name.starts_with(data::images::PREFIX) { "is a folder of your own" } else { "is embedded in the program" }
}

fn fetch(name: &str, folder: Option<&std::path::Path>) -> anyhow::Result<Status> {
    let style = ProgressStyle::with_template("  {bar:30} {bytes}/{total_bytes}, ETA {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style);
    let files = data::fetch(name, folder, &FetchOptions::from_environment(), &mut |progress| match progress {
        Progress::Present { file } => eprintln!("{file}: here already"),
        Progress::Started { file, url } => eprintln!("{file}: from {url}"),
        Progress::Received { bytes, total, .. } => {
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_position(bytes);
        }
        Progress::Unpacked { file } => {
            bar.reset();
            eprintln!("{file}: unpacked and verified");
        }
        Progress::Failed { file, failure } => eprintln!("{file}: {}: {}", failure.url, failure.reason),
        Progress::Finished { file, .. } => {
            bar.reset();
            eprintln!("{file}: complete and verified");
        }
    })?;
    bar.finish_and_clear();
    match files.first().and_then(|file| file.parent()) {
        Some(folder) => output::line(format!("{name}: {} files in {}", files.len(), folder.display()))?,
        None => output::line(format!("{name} {}; nothing to fetch", at_hand(name)))?,
    }
    Ok(Status::Done)
}

fn verify(name: &str, folder: Option<&std::path::Path>) -> anyhow::Result<Status> {
    let files = data::verify(name, folder)?;
    if files.is_empty() {
        output::line(format!("{name} {} and has no checksums; it was read through and is whole", at_hand(name)))?;
    }
    let mut status = Status::Done;
    for report in files {
        let text = match &report.verdict {
            Verdict::Intact => "intact".to_owned(),
            Verdict::NotComparable => "present, but no checksum is known of this form of the file".to_owned(),
            Verdict::Missing => "missing".to_owned(),
            Verdict::Differs { expected, found } => {
                format!("differs (damaged, or packed anew): SHA-256 is {found}, expected {expected}")
            }
        };
        if matches!(report.verdict, Verdict::Missing | Verdict::Differs { .. }) {
            status = Status::Incomplete;
        }
        output::line(format!("{:<28} {text}", report.file))?;
    }
    Ok(status)
}
