//! The summary of a run or an analysis, which grows by one optimizer at a time.

use super::{
    error::StudyError,
    event::Event,
    folder::SUMMARY,
    keeper::Keeper,
    tables::{OptimizerSummary, RunStatus, Summary},
    write,
};
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

/// `summary.json` of a folder while it is made.
pub(super) struct Record {
    out: PathBuf,
    /// Of all optimizers, in their order.
    labels: Vec<String>,
    summary: Summary,
}

impl Record {
    /// Begins with what `summary` says and, if `resumed`, with the results of the folder that are final.
    pub fn begin(out: &Path, labels: Vec<String>, mut summary: Summary, resumed: bool) -> Result<Self, StudyError> {
        if resumed {
            summary.optimizers = Summary::final_optimizers(out)?;
        }
        let record = Record { out: out.to_owned(), labels, summary };
        record.write()?;
        Ok(record)
    }

    fn write(&self) -> Result<(), StudyError> {
        write::json(&self.out.join(SUMMARY), &self.summary)
    }

    /// Lets `make` make what is missing, in the order of the labels, until told to stop. It is told the place and the label of an
    /// optimizer.
    pub fn complete(
        mut self,
        stop: &AtomicBool,
        events: &mut dyn FnMut(Event),
        mut make: impl FnMut(usize, &str, &mut dyn FnMut(Event)) -> Result<OptimizerSummary, StudyError>,
    ) -> Result<Summary, StudyError> {
        for (index, label) in self.labels.clone().iter().enumerate() {
            let folder = self.out.join(label);
            if let Some(done) = self.summary.optimizers.iter().find(|done| done.label == *label) {
                Keeper::clear(&folder)?;
                match done.message.as_ref().filter(|_| done.status == RunStatus::Failed) {
                    Some(message) => events(Event::Note { text: &format!("{label}: failed, kept: {message}") }),
                    None => events(Event::Kept { label }),
                }
                continue;
            }
            let result = make(index, label, events)?;
            events(Event::Finished { summary: &result });
            let is_final = result.is_final();
            self.add(result)?;
            if is_final {
                Keeper::clear(&folder)?;
            }
            if stop.load(Ordering::SeqCst) {
                break;
            }
        }
        self.summary.status = self.status();
        self.write()?;
        Ok(self.summary)
    }

    /// Adds a result in the place of its optimizer, whatever was kept.
    fn add(&mut self, result: OptimizerSummary) -> Result<(), StudyError> {
        self.summary.optimizers.push(result);
        self.summary.optimizers.sort_by_key(|done| self.labels.iter().position(|label| *label == done.label));
        self.write()
    }

    fn status(&self) -> RunStatus {
        let done = &self.summary.optimizers;
        if done.iter().any(|optimizer| optimizer.status == RunStatus::Failed) {
            RunStatus::Failed
        } else if done.len() < self.labels.len() || !done.iter().all(OptimizerSummary::is_final) {
            RunStatus::Interrupted
        } else {
            RunStatus::Complete
        }
    }
}
