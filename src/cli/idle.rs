//! Default folders of commands that continue when they are repeated, and which one to take while another process works in it.

use super::output;
use crate::study::{StudyError, folder::numbered, lock::Lock};
use std::path::{Path, PathBuf};

/// How many folders are tried.
const MOST: usize = 1000;

/// Works in `chosen` or, where none was, in the first of `default`, `default-2`, ... that no other process works in.
pub fn in_idle<R>(
    chosen: Option<&Path>,
    default: &Path,
    work: impl Fn(&Path) -> anyhow::Result<R>,
) -> anyhow::Result<R> {
    if let Some(out) = chosen {
        return work(out);
    }
    let mut busy: Option<anyhow::Error> = None;
    for number in 1..=MOST {
        let out: PathBuf = numbered(default, number);
        if number > 1 && Lock::is_taken(&out) {
            continue;
        }
        if busy.is_some() {
            output::note(format!(
                "{} is in use by another process; this one takes {}",
                default.display(),
                out.display()
            ));
        }
        match work(&out) {
            Err(error) if is_busy(&error) => busy = busy.or(Some(error)),
            // What lies in a folder that nobody asked for is not a reason to fail.
            Err(error) if number > 1 && holds_other_things(&error) => {}
            done => return done,
        }
    }
    Err(busy.unwrap_or_else(|| anyhow::anyhow!("{} and its neighbours are all in use", default.display())))
}

fn is_busy(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StudyError::InUse { .. }))
}

fn holds_other_things(error: &anyhow::Error) -> bool {
    use StudyError::{NotEmpty, OtherCommand, OtherExperiment};
    matches!(error.downcast_ref(), Some(NotEmpty { .. } | OtherCommand { .. } | OtherExperiment { .. }))
}
