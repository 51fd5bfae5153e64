//! Everything that is measured of one optimizer's run: an observer of its rounds, and the tables that come of it.

use crate::{
    activation::{
        ActivationRecorder,
        exploration::{exploration_bytes, explore_until, is_long},
    },
    checkpoint::{Persist, Store, StoreError},
    kernels::{Real, SHARE, real::convert},
    loss::{Loss, Targets},
    network::Network,
    study::{
        budget::{OWN, whole_window_bytes},
        tables::{NeuronRow, NoveltyRow, RegretRow, Scale, UnitRow},
    },
    taylor::{
        BoundRates, ClosedForm, RegretSettings, UnitResult, free_bounds,
        layer::{self, Windows},
        matrix_free::MatrixFree,
        network, neuron,
        neuron::NeuronStream,
        preconditioner::Preconditioners,
        prefixes,
        regret::{UnitId, prefixes as log_spaced, tables},
        sample::Sample,
        units::{UnitRecord, UnitTracker},
        window::{Window, WindowRecorder},
        work::{Halted, Work},
    },
    train::{Examples, Observer, Round},
};
use rayon::prelude::*;
use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// Seconds spent per phase.
#[derive(Clone, Debug, Default)]
pub struct Clock(BTreeMap<&'static str, f64>);

impl Clock {
    /// Runs `work` and books its time under `phase`.
    pub fn time<R>(&mut self, phase: &'static str, work: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = work();
        *self.0.entry(phase).or_default() += start.elapsed().as_secs_f64();
        result
    }

    pub fn phases(&self) -> &BTreeMap<&'static str, f64> {
        &self.0
    }

    /// All phases together.
    pub fn total(&self) -> f64 {
        self.0.values().sum()
    }
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct AnalysisSettings {
    pub regret: RegretSettings,
    /// Rounds that the run will have, to place the prefixes.
    pub planned_rounds: usize,
    pub batch: usize,
    /// Rounds between recorded activation configurations.
    pub every: usize,
    /// Whether the winners of max-pools are recorded, too.
    pub pool_winners: bool,
    /// Bytes that the analysis may take for linearized rounds.
    pub memory: usize,
    /// Steps of optimizers that have a bound of their own.
    pub rates: BoundRates,
    /// `D_train` of every neuron over the whole run, from a first pass ([`Displacements`]). Without it, the closed form that streams
    /// takes for each prefix the ball of the displacement so far.
    ///
    /// [`Displacements`]: crate::taylor::units::Displacements
    pub displacements: Option<Vec<f64>>,
}

/// What an analysis tells its caller as it goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage<'a> {
    /// A phase begins, of so much work as [`Work::tick`] is told of (0 where that is not known).
    Phase { name: &'a str, work: usize },
    /// What the user should know.
    Note(&'a str),
}

/// The tables of one optimizer's run.
#[derive(Clone, Debug, Default)]
pub struct AnalysisTables {
    pub regret: Vec<RegretRow>,
    pub units: Vec<UnitRow>,
    /// What `regret` comes of: the optima as the solvers found them, with the reasons why they stopped.
    pub found: Vec<UnitResult>,
    pub novelty: Vec<NoveltyRow>,
    pub neurons: Vec<NeuronRow>,
    /// The same of the winners of max-pools, if they were recorded.
    pub pools: Option<(Vec<NoveltyRow>, Vec<NeuronRow>)>,
    /// Rounds analysed at layer and network scale.
    pub window_rounds: usize,
    /// How many of them were analysed, if not all.
    pub sampled_rounds: Option<usize>,
    /// Whether the analysis was halted before its end.
    pub halted: bool,
}

/// Watches a run: unit statistics, the neuron-scale closed form, the window, activations.
pub struct Analysis<T: Real> {
    network: Network,
    loss: Loss,
    settings: AnalysisSettings,
    tracker: UnitTracker<T>,
    stream: Option<NeuronStream<T>>,
    stream_prefixes: Vec<usize>,
    window: WindowRecorder<T>,
    activations: Option<ActivationRecorder<T>>,
    results: Vec<UnitResult>,
    pub clock: Clock,
}

impl<T: Real> Analysis<T> {
    /// `probe: [datapoints, inputs]`, empty to leave exploration out.
    pub fn new(network: &Network, loss: Loss, settings: AnalysisSettings, probe: Vec<T>) -> Self {
        let regret = &settings.regret;
        let planned = settings.planned_rounds;
        let window = regret.window.min(planned);
        let chosen = regret.sampled(window);
        // A sample is short, and where it ends if the run does is not known beforehand.
        let windowed = match regret.rounds {
            None => log_spaced(window, regret.prefixes),
            Some(_) => chosen.clone(),
        };
        // The closed form streams over the whole run; other losses, and filters, need the window at neuron scale, too.
        let streams = regret.streams(network, loss);
        let stream_prefixes = if streams { log_spaced(planned, regret.prefixes) } else { Vec::new() };
        let needs_window =
            regret.has(Scale::Layer) || regret.has(Scale::Network) || (regret.has(Scale::Neuron) && !streams);
        let mut tracker = UnitTracker::new(network, windowed.into_iter().chain(stream_prefixes.iter().copied()));
        if settings.rates.adagrad.is_some() {
            tracker = tracker.with_coordinates();
        }
        Self {
            tracker,
            stream: streams
                .then(|| NeuronStream::new(network, loss, regret, settings.batch).within(regret, settings.memory)),
            stream_prefixes,
            window: WindowRecorder::new(if needs_window { chosen } else { Vec::new() }),
            activations: (!probe.is_empty() && !network.hidden_blocks().is_empty()).then(|| {
                let recorder = ActivationRecorder::new(network, probe, settings.every);
                if settings.pool_winners { recorder.with_winners() } else { recorder }
            }),
            results: Vec::new(),
            clock: Clock::default(),
            network: network.clone(),
            loss,
            settings,
        }
    }

    /// Rounds of the window, and how many of them are analysed; 0 where nothing needs it.
    pub fn window(&self) -> (usize, usize) {
        let chosen = &self.window.chosen;
        (chosen.last().copied().unwrap_or(0), chosen.len())
    }

    /// Whether all minibatches of the window are of the first `rows` rows of the data, as a state that was read need not be.
    pub fn draws_from(&self, rows: usize) -> bool {
        self.window.rows.iter().all(|row| (*row as usize) < rows)
    }

    /// What is recorded of activations, if anything is.
    pub fn activations(&mut self) -> Option<&mut ActivationRecorder<T>> {
        self.activations.as_mut()
    }

    fn solve_stream(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let (settings, tracker, rounds) = (&self.settings.regret, &self.tracker, stream.rounds());
        let known = self.settings.displacements.as_deref();
        let record = |unit| {
            let record = tracker.record(unit, rounds).expect("the tracker records every prefix");
            let whole = known.map_or(0.0, |all| all[tracker.neuron(unit)]);
            UnitRecord { displacement: record.displacement.max(whole), ..record }
        };
        let solved = self.clock.time("neuron_optima", || stream.solve(settings, &record));
        self.results.extend(solved);
    }

    /// Solves what needs the whole window, as far as `work` goes, and makes the tables. `progress` is told the phase that begins.
    ///
    /// `examples` are those that the rounds drew from.
    pub fn complete(
        self,
        examples: &Examples<T>,
        work: &mut Work,
        mut progress: impl FnMut(Stage),
    ) -> (AnalysisTables, Clock) {
        self.complete_telling(examples, work, &mut progress)
    }

    fn complete_telling(
        mut self,
        examples: &Examples<T>,
        work: &mut Work,
        progress: &mut dyn FnMut(Stage),
    ) -> (AnalysisTables, Clock) {
        let mut out = AnalysisTables { halted: work.is_halted(), ..AnalysisTables::default() };
        if !out.halted && !self.window.states.is_empty() {
            progress(Stage::Phase { name: "linearizing the window", work: 0 });
            let analysed = self.window.states.len();
            out.window_rounds = self.window.chosen[analysed - 1];
            out.sampled_rounds = (analysed < out.window_rounds).then_some(analysed);
            out.halted = self.solve_window(examples, work, progress).is_err();
        }
        out.found.clone_from(&self.results);
        free_bounds::tighten(&mut self.results);
        (out.regret, out.units) = tables(&self.results, &self.settings.regret, self.settings.rates);
        self.explore(work, &mut out, progress);
        (out, self.clock)
    }

    /// Compares the recorded configurations, unless that takes too much memory or somebody waits for the end.
    fn explore(&mut self, work: &Work, out: &mut AnalysisTables, progress: &mut dyn FnMut(Stage)) {
        let Some(activations) = &self.activations else { return };
        progress(Stage::Phase { name: "exploration", work: 0 });
        let all = || std::iter::once(&activations.configurations).chain(&activations.winners);
        let count = activations.configurations.rounds.len();
        if all().map(exploration_bytes).max().unwrap_or(0) > self.settings.memory.max(OWN) {
            progress(Stage::Note(&format!(
                "comparing {count} configurations takes more than --memory: novelty.csv and neurons.csv are left empty; a larger \
                 exploration.every records fewer"
            )));
            return;
        }
        let (begun, stop) = (Instant::now(), work.stop());
        let long = all().any(is_long);
        let ended = || stop.load(Ordering::Relaxed) && (long || begun.elapsed() > GRACE);
        let found = self.clock.time("exploration", || {
            let own = explore_until(&activations.configurations, &ended)?;
            let pools = activations.winners.as_ref().map(|winners| explore_until(winners, &ended));
            Some((own, pools.map_or(Some(None), |pools| pools.map(Some))?))
        });
        match found {
            Some((own, pools)) => ((out.novelty, out.neurons), out.pools) = (own, pools),
            None => out.halted = true,
        }
    }

    fn solve_window(
        &mut self,
        examples: &Examples<T>,
        work: &mut Work,
        progress: &mut dyn FnMut(Stage),
    ) -> Result<(), Halted> {
        let settings = &self.settings.regret;
        let rounds = self.window.states.len();
        let planned = self.window.chosen.len();
        let mut lengths: Vec<usize> =
            log_spaced(planned, settings.prefixes).into_iter().filter(|n| *n < rounds).collect();
        lengths.push(rounds);
        let (tracker, chosen, losses) = (&self.tracker, &self.window.chosen, &self.window.losses);
        let record_at = |unit, n: usize| tracker.record(unit, chosen[n - 1]).expect("the tracker records every prefix");
        let record = &|unit, n: usize| {
            // One ball for all prefixes: that of all rounds that are analysed.
            let record = UnitRecord { displacement: record_at(unit, rounds).displacement, ..record_at(unit, n) };
            match settings.rounds {
                None => record,
                // The mean over the rounds that are analysed, so that it can be compared with their optimum.
                Some(_) => {
                    let mean_loss = losses[..n].iter().sum::<f64>() / n as f64;
                    UnitRecord { mean_loss, sampled: n < record.rounds, ..record }
                }
            }
        };
        let batch = self.settings.batch;
        let dense = self.network.is_dense_chain();
        let kept: usize = self.window.states.iter().map(|state| size_of_val(&state[..])).sum();
        let whole = whole_window_bytes(&self.network, self.loss, settings, (rounds, batch), examples.inputs.len());
        let fits = dense && whole.saturating_add(kept) <= self.settings.memory;
        if !fits {
            if dense {
                progress(Stage::Note(
                    "the linearized window does not fit in --memory: rounds are linearized whenever they are needed",
                ));
            }
            let clock = &mut self.clock;
            let sample = Sample {
                network: &self.network,
                loss: self.loss,
                examples,
                batch: self.settings.batch,
                states: &self.window.states,
                rows: &self.window.rows,
            };
            let memory = self.settings.memory.saturating_sub(kept);
            let stop = work.stop();
            let new = || MatrixFree::until(sample, &lengths, settings, memory, stop);
            let search = clock.time("linearization", new).ok_or(Halted)?;
            let scales = [(Scale::Layer, "layer scale"), (Scale::Network, "network scale")];
            let searches: Vec<(&str, usize)> = scales
                .into_iter()
                .filter(|(scale, _)| settings.has(*scale))
                .map(|(scale, name)| (name, search.work_of(scale)))
                .collect();
            if !searches.is_empty() {
                announce(&searches, rounds, search.seconds_per_product(), progress);
            }
            // The closed form of dense networks has streamed.
            if settings.has(Scale::Neuron) && !(dense && self.loss.is_quadratic()) {
                progress(Stage::Phase { name: "neuron scale", work: search.work_of(Scale::Neuron) });
                self.results.extend(clock.time("neuron_optima", || search.neurons(record, work))?);
            }
            if settings.has(Scale::Layer) {
                progress(Stage::Phase { name: "layer scale", work: search.work_of(Scale::Layer) });
                self.results.extend(clock.time("layer_optima", || search.layers(record, work))?);
            }
            if settings.has(Scale::Network) {
                progress(Stage::Phase { name: "network scale", work: search.work_of(Scale::Network) });
                self.results.extend(clock.time("network_optima", || search.network(record, work))?);
            }
            return Ok(());
        }

        let clock = &mut self.clock;
        let wide = |values: &[T]| -> Vec<f64> { values.par_iter().with_min_len(SHARE).map(|v| v.to_f64()).collect() };
        let inputs = clock.time("linearization", || wide(examples.inputs));
        let values = match examples.targets {
            Targets::Values(values) if !examples.targets_are_inputs() => wide(values),
            _ => Vec::new(),
        };
        let wide = Examples {
            inputs: &inputs,
            features: examples.features,
            targets: match examples.targets {
                Targets::Values(_) if examples.targets_are_inputs() => Targets::Values(&inputs),
                Targets::Values(_) => Targets::Values(&values),
                Targets::Labels(labels) => Targets::Labels(labels),
            },
            target_width: examples.target_width,
        };
        let states = clock.time("linearization", || self.window.states.par_iter().map(|s| convert(s)).collect());
        drop(std::mem::take(&mut self.window.states));
        let rows = &self.window.rows[..];
        let (network, loss, lengths) = (&self.network, self.loss, &lengths[..]);
        let exact = WholeWindow { network, loss, examples: wide, batch, states, rows, lengths, settings };
        exact.solve(record, &mut self.results, clock, work, progress)
    }
}

/// An analysis that takes longer is announced.
const LONG_SECONDS: f64 = 10.0;

/// Tells beforehand how long the searches may take, if that is long, and which setting costs most. `searches` are pairs of a scale and its
/// [`Work`], in rounds that products go through; a product goes through `rounds` of them in so many `seconds`.
fn announce(searches: &[(&str, usize)], rounds: usize, seconds: f64, progress: &mut dyn FnMut(Stage)) {
    let of = |work: usize| work as f64 / rounds.max(1) as f64 * seconds;
    let total: f64 = searches.iter().map(|(_, work)| of(*work)).sum();
    if total < LONG_SECONDS {
        return;
    }
    let parts: Vec<String> = searches.iter().map(|(name, work)| format!("{name} {}", duration(of(*work)))).collect();
    progress(Stage::Note(&format!(
        "the search for optima may take up to about {} ({}); regret.max_products costs most, then the number of analysed rounds \
         (regret.window, regret.rounds)",
        duration(total),
        parts.join(", ")
    )));
}

/// Seconds in words, roughly.
fn duration(seconds: f64) -> String {
    match seconds {
        ..100.0 => format!("{:.0} s", seconds.max(1.0)),
        ..6000.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

/// What the optima that need all rounds at once are found from, in `f64`.
struct WholeWindow<'a> {
    network: &'a Network,
    loss: Loss,
    examples: Examples<'a, f64>,
    batch: usize,
    states: Vec<Vec<f64>>,
    rows: &'a [u32],
    /// Prefixes, in analysed rounds.
    lengths: &'a [usize],
    settings: &'a RegretSettings,
}

impl WholeWindow<'_> {
    /// Adds to `results` whatever is found. No method of [`Analysis`], so that it is compiled with this crate.
    fn solve(
        self,
        record: &dyn Fn(UnitId, usize) -> UnitRecord,
        results: &mut Vec<UnitResult>,
        clock: &mut Clock,
        work: &mut Work,
        progress: &mut dyn FnMut(Stage),
    ) -> Result<(), Halted> {
        let Self { network, loss, examples, batch, states, rows, lengths, settings } = self;
        let window = || Window::new(network, loss, examples, batch, Cow::Owned(states), rows);
        let mut exact = clock.time("linearization", window);
        work.go_on()?;
        if settings.has(Scale::Neuron) && !loss.is_quadratic() {
            progress(Stage::Phase { name: "neuron scale", work: neuron::work(network, lengths, settings) });
            for n in lengths {
                let record = &|unit| record(unit, *n);
                results.extend(clock.time("neuron_optima", || neuron::optima(&exact, *n, settings, record, work))?);
            }
        }
        if !settings.has(Scale::Layer) && !settings.has(Scale::Network) {
            return Ok(());
        }
        if settings.has(Scale::Network) {
            clock.time("linearization", || exact.find_low_rank());
            work.go_on()?;
        }
        let fast = clock.time("linearization", || exact.to_f32());
        let stop = work.stop();
        let beside_output = settings.has(Scale::Network);
        let preconditioners = clock
            .time("linearization", || Preconditioners::until(&exact, lengths, beside_output, stop))
            .ok_or(Halted)?;
        let windows = Windows { exact: &exact, fast: &fast, preconditioners: &preconditioners, stop };
        let comparators = settings.comparators.of(ClosedForm::No).len();
        let layers = layer::work(network, loss, lengths, settings);
        let whole = prefixes::work(lengths, settings.max_products, comparators);
        let searches = [(Scale::Layer, "layer scale", layers), (Scale::Network, "network scale", whole)];
        let searches: Vec<(&str, usize)> = searches
            .into_iter()
            .filter(|(scale, ..)| settings.has(*scale))
            .map(|(_, name, work)| (name, work))
            .collect();
        announce(&searches, exact.rounds(), windows.seconds_per_product(), progress);
        if settings.has(Scale::Layer) {
            progress(Stage::Phase { name: "layer scale", work: layers });
            let search = || layer::optima(&windows, lengths, settings, record, work);
            results.extend(clock.time("layer_optima", search)?);
        }
        if settings.has(Scale::Network) {
            progress(Stage::Phase { name: "network scale", work: whole });
            let search = || network::optima(&windows, lengths, settings, record, work);
            results.extend(clock.time("network_optima", search)?);
        }
        Ok(())
    }
}

/// Configurations are compared for so long after somebody asked for the end: most often that is enough.
const GRACE: Duration = Duration::from_millis(500);

/// Phases that time goes to while training runs.
const STREAMED: [&str; 3] = ["streaming", "activations", "neuron_optima"];

/// What was observed so far. Phases that come after the rounds have no state: what they find is kept by [`Work`].
impl<T: Real> Persist for Analysis<T> {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.part("tracker", |store| self.tracker.persist(store))?;
        let mut streams = u64::from(self.stream.is_some());
        store.number("streams", &mut streams)?;
        // It is gone once training has ended.
        if streams == 0 {
            self.stream = None;
        }
        if let Some(stream) = &mut self.stream {
            store.part("stream", |store| stream.persist(store))?;
        }
        store.part("window", |store| self.window.persist(store))?;
        if let Some(activations) = &mut self.activations {
            store.part("activations", |store| activations.persist(store))?;
        }
        store.record_list("results", &mut self.results, UnitResult::blank)?;
        for phase in STREAMED {
            let mut seconds = self.clock.0.get(phase).copied().unwrap_or_default();
            store.number(&format!("seconds.{phase}"), &mut seconds)?;
            self.clock.0.insert(phase, seconds);
        }
        Ok(())
    }
}

impl<T: Real> Observer<T> for Analysis<T> {
    fn observe(&mut self, round: &Round<T>) {
        let Self { clock, tracker, stream, window, activations, .. } = self;
        clock.time("streaming", || {
            tracker.observe(round);
            if let Some(stream) = stream {
                stream.observe(round);
            }
            window.observe(round);
        });
        if let Some(activations) = activations {
            clock.time("activations", || activations.observe(round));
        }
        if self.stream_prefixes.binary_search(&round.number).is_ok() {
            self.solve_stream();
        }
    }

    fn finish(&mut self, final_weights: &[T], rounds: usize) {
        // A diverged run ends between prefixes, and its last weights may not be finite.
        self.tracker.finish(final_weights, rounds);
        let observed = self.tracker.last();
        if observed > 0 && self.stream_prefixes.binary_search(&observed).is_err() {
            self.solve_stream();
        }
        // Its sums are large and of no more use.
        self.stream = None;
        let Self { clock, activations, .. } = self;
        if let Some(activations) = activations
            && final_weights.iter().all(|w| w.is_finite())
        {
            clock.time("activations", || activations.finish(final_weights, rounds));
        }
    }
}
