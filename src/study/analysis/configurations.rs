//! How the recorded activation configurations changed.

use super::{AnalysisTables, Clock, Stage};
use crate::{
    activation::{
        ActivationRecorder,
        exploration::{exploration_bytes, explore_until, is_long},
    },
    num::Real,
    study::plan::OWN,
    taylor::work::Work,
};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// Configurations are compared for this long after somebody asked for the end: most often that is enough.
const GRACE: Duration = Duration::from_millis(500);

/// Compares the recorded configurations, unless that takes more than `memory` bytes or somebody waits for the end.
pub(super) fn compare<T: Real>(
    activations: &ActivationRecorder<T>,
    memory: usize,
    clock: &mut Clock,
    work: &Work,
    out: &mut AnalysisTables,
    progress: &mut dyn FnMut(Stage),
) {
    progress(Stage::Phase { name: "exploration", work: 0 });
    let all = || std::iter::once(&activations.configurations).chain(&activations.winners);
    let count = activations.configurations.rounds.len();
    if all().map(exploration_bytes).max().unwrap_or(0) > memory.max(OWN) {
        progress(Stage::Note(&format!(
            "comparing {count} configurations takes more than --memory: novelty.csv and neurons.csv are left empty; a larger \
             exploration.every records fewer"
        )));
        return;
    }
    let (begun, stop) = (Instant::now(), work.stop());
    let long = all().any(is_long);
    let ended = || stop.load(Ordering::Relaxed) && (long || begun.elapsed() > GRACE);
    let found = clock.time("exploration", || {
        let own = explore_until(&activations.configurations, &ended)?;
        let pools = activations.winners.as_ref().map(|winners| explore_until(winners, &ended));
        Some((own, pools.map_or(Some(None), |pools| pools.map(Some))?))
    });
    match found {
        Some((own, pools)) => ((out.novelty, out.neurons), out.pools) = (own, pools),
        None => out.halted = true,
    }
}
