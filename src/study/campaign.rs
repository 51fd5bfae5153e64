//! Campaigns: many short runs on one task, side by side, with a table that grows as they end.
//!
//! Learning-rate searches and the exploration study compare hundreds of runs. Each trains on one thread, as runs side by side use the
//! cores better than threads inside one; results do not depend on the number of threads. What a table has is not run again.

use super::{
    differences::Differences,
    environment::environment,
    error::StudyError,
    experiment::Experiment,
    folder::{Destination, EXPERIMENT, Folder, Purpose, experiment_in},
    inputs::Inputs,
    task::Task,
};
use std::{
    path::Path,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// What every campaign is told.
#[derive(Clone, Copy, Debug)]
pub struct CampaignOptions<'a> {
    /// The folder of the campaign.
    pub out: &'a Path,
    /// Where the datasets lie.
    pub data: Option<&'a Path>,
    /// Seeds of each setting.
    pub seeds: usize,
    /// Begin anew where the folder holds another campaign.
    pub overwrite: bool,
    /// Set from outside to stop after the current rounds.
    pub stop: &'a AtomicBool,
}

/// What a campaign tells its caller as it goes; `R` is a row of its table.
#[derive(Clone, Copy, Debug)]
pub enum CampaignEvent<'a, R> {
    /// What the user should know of the data.
    Note { text: &'a str },
    /// This many runs follow; `known` more were found in the folder.
    Planned { runs: usize, known: usize },
    /// A run was done.
    Done { row: &'a R },
}

/// Who is told.
pub(super) type Listener<'a, R> = &'a (dyn Fn(CampaignEvent<R>) + Sync);

/// A campaign that may begin.
pub(super) struct Opened<'a> {
    pub task: Task<'a>,
    /// Rounds of each run.
    pub planned: usize,
    pub folder: Folder,
    /// Whether the folder holds some of the runs already.
    pub continued: bool,
}

/// Loads what the runs of an experiment need, and takes the folder for them; `note` is told what the user should know.
///
/// # Errors
/// If the experiment cannot be run, or the folder is in use or holds anything else that must not be lost.
pub(super) fn open<'a>(
    experiment: &'a Experiment,
    options: &CampaignOptions,
    purpose: Purpose,
    note: &mut dyn FnMut(&str),
) -> Result<Opened<'a>, StudyError> {
    let (task, inputs) = Task::load_with_inputs(experiment, options.data, note)?;
    let planned = task.check()?;
    let (folder, continued) = take(experiment, &inputs, options, purpose)?;
    if let Some(text) = folder.warning() {
        note(&text);
    }
    Ok(Opened { task, planned, folder, continued })
}

/// Takes the folder, and says whether it holds runs that are to be continued.
fn take(
    experiment: &Experiment,
    inputs: &Inputs,
    options: &CampaignOptions,
    purpose: Purpose,
) -> Result<(Folder, bool), StudyError> {
    let out = options.out;
    let folder = Folder::open(&Destination::Folder(out), purpose)?;
    let mut continued = false;
    if folder.has(EXPERIMENT) && !options.overwrite {
        purpose.refuse_others(out)?;
        let differences = Differences::between(&experiment_in(out)?, experiment);
        if !differences.is_empty() {
            return Err(StudyError::OtherExperiment { path: out.to_owned(), differences: differences.text() });
        }
        inputs.check(experiment, out)?;
        continued = folder.has(purpose.mark());
    } else {
        // Ended at any point, this leaves nothing that could be taken for a result of the new experiment.
        folder.remove(purpose.mark())?;
        folder.write(EXPERIMENT, experiment.to_toml().as_bytes())?;
    }
    let mut environment = environment();
    environment["inputs"] = inputs.to_json();
    folder.write_json("environment.json", &environment)?;
    Ok((folder, continued))
}

/// The table of a campaign.
pub(super) trait Table: Send {
    /// What a run varies.
    type Point: Sync;
    /// What comes of it.
    type Outcome: Send;

    /// Whether the run of this point is in the table.
    fn has(&self, point: &Self::Point) -> bool;

    /// Adds what came of a run, and writes the table.
    fn add(&mut self, point: &Self::Point, outcome: Self::Outcome) -> Result<(), StudyError>;
}

/// A table with what may put an end to the runs that fill it.
pub(super) struct Campaign<'a, B> {
    table: Mutex<B>,
    stop: &'a AtomicBool,
}

impl<'a, B: Table> Campaign<'a, B> {
    pub fn new(table: B, stop: &'a AtomicBool) -> Self {
        Self { table: Mutex::new(table), stop }
    }

    pub fn table(&self) -> MutexGuard<'_, B> {
        self.table.lock().expect("no run panics while it holds the table")
    }

    pub fn into_table(self) -> B {
        self.table.into_inner().expect("no run panics while it holds the table")
    }

    /// Those that are still to be run.
    pub fn missing(&self, points: impl IntoIterator<Item = B::Point>) -> Vec<B::Point> {
        let table = self.table();
        points.into_iter().filter(|point| !table.has(point)).collect()
    }

    /// Runs `points` side by side; `run` gives `None` for one that was stopped. Whether all came to their end.
    pub fn run(
        &self,
        points: &[B::Point],
        run: impl Fn(&B::Point) -> Result<Option<B::Outcome>, StudyError> + Sync,
    ) -> Result<bool, StudyError> {
        let done = side_by_side(points.len(), |index| {
            let point = &points[index];
            if self.stop.load(Ordering::SeqCst) {
                return Ok(false);
            }
            let Some(outcome) = run(point)? else { return Ok(false) };
            self.table().add(point, outcome)?;
            Ok::<bool, StudyError>(true)
        });
        done.into_iter().try_fold(true, |all, done| Ok(done? && all))
    }
}

/// `work(0), ..., work(count - 1)` on as many threads as rayon has, each call on one; in order.
///
/// Every worker has a pool of one thread: parallel loops inside `work` stay on it, and no thread that waits inside one
/// call is lent to another.
pub fn side_by_side<R: Send>(count: usize, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<R>>> = Mutex::new((0..count).map(|_| None).collect());
    let worker = || {
        loop {
            let index = next.fetch_add(1, Ordering::SeqCst);
            if index >= count {
                break;
            }
            let result = work(index);
            results.lock().expect("no worker panics while it holds the lock")[index] = Some(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..rayon::current_num_threads().min(count) {
            scope.spawn(|| match rayon::ThreadPoolBuilder::new().num_threads(1).build() {
                Ok(pool) => pool.install(worker),
                // No thread to be had: the work is done here, if less evenly.
                Err(_) => worker(),
            });
        }
    });
    let results = results.into_inner().expect("no worker panics while it holds the lock");
    results.into_iter().map(|result| result.expect("every index was worked on")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_each_once() {
        let calls = AtomicUsize::new(0);
        let squares = side_by_side(100, |i| {
            calls.fetch_add(1, Ordering::SeqCst);
            assert_eq!(rayon::current_num_threads(), 1);
            i * i
        });
        assert_eq!(squares, (0..100).map(|i| i * i).collect::<Vec<_>>());
        assert_eq!(calls.into_inner(), 100);
        assert!(side_by_side(0, |i| i).is_empty());
    }
}
