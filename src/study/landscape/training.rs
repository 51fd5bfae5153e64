//! What the updates of a run crossed, and how well the Taylor loss predicted them.

use super::{LandscapeError, Quantity, Subject, rows::UpdateRow};
use crate::{
    landscape::{Limits, updates::measure},
    taylor::regret::evenly_in_logs,
};
use std::{collections::BTreeSet, sync::atomic::AtomicBool};

const KINKS: Quantity =
    Quantity { what: "the kinks that an update crosses", remedy: "measure no updates (--updates 0)" };

/// Measures `count` updates of every run of the subject; updates whose weights before or after do not exist are left
/// out.
///
/// # Errors
/// If a run must be trained again and cannot be, or if told to stop.
pub fn updates(
    subject: &Subject,
    count: usize,
    stop: &AtomicBool,
    limits: &Limits,
    events: &mut dyn FnMut(&str),
) -> Result<Vec<UpdateRow>, LandscapeError> {
    let mut rows = Vec::new();
    let examples = subject.examples();
    for run in &subject.runs {
        events(&format!("updates of {}", run.label));
        let rounds: BTreeSet<usize> = evenly_in_logs(run.rounds, count).collect();
        let wanted = rounds.iter().flat_map(|round| [*round, round + 1]).collect();
        let states = subject.states(run, &wanted, stop)?;
        for round in rounds {
            let (Some(before), Some(after)) = (states.get(&round), states.get(&(round + 1))) else { continue };
            let (before, after, rows_of) = (&before.weights, &after.weights, &before.rows);
            let update = measure(&subject.network, subject.loss, &examples, rows_of, before, after, limits)
                .map_err(|why| KINKS.ended(why))?;
            rows.push(UpdateRow {
                optimizer: run.label.clone(),
                round,
                loss: update.before,
                loss_after: update.after,
                taylor_loss: update.taylor,
                first_order_loss: update.first_order,
                step: update.step,
                kinks: update.kinks,
                changed: update.changed,
                cosine: update.cosine,
            });
        }
    }
    Ok(rows)
}
