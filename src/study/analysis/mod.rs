//! Everything that is measured of one optimizer's run: an observer of its rounds, and the tables that come of it.
//!
//! - `search`: the scales whose optima are searched for after the rounds, in the `whole_window` or `by_passes`
//! - `configurations`: how activations changed; [`clock`]: what takes how long

mod by_passes;
pub mod clock;
mod configurations;
mod search;
mod whole_window;

pub use clock::Clock;

use super::{
    plan::{Extent, Plan, Strategy},
    tables::{NeuronRow, NoveltyRow, RegretRow, UnitRow},
};
use crate::{
    activation::ActivationRecorder,
    checkpoint::{Persist, Store, StoreError},
    loss::Loss,
    network::Network,
    num::Real,
    taylor::{
        BoundRates, RegretSettings, UnitResult,
        chain::stream::NeuronStream,
        free_bounds,
        graph::sample::Sample,
        recorder::WindowRecorder,
        regret::{log_spaced, tables},
        tracker::{UnitRecord, UnitTracker},
        unit::UnitId,
        work::{Halted, Work},
    },
    train::{Examples, Observer, Round},
};
use search::Search;

/// What to measure.
#[derive(Clone, Debug)]
pub struct AnalysisSettings {
    pub regret: RegretSettings,
    /// Rounds that the run will have, to place the prefixes.
    pub planned_rounds: usize,
    /// Datapoints of a round; those of rounds of other sizes count for more or less, as every round counts the same.
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
    /// [`Displacements`]: crate::taylor::tracker::Displacements
    pub displacements: Option<Vec<f64>>,
}

/// What an analysis tells its caller as it goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage<'a> {
    /// A phase begins, of as much work as [`Work::tick`] is told of (0 where that is not known).
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
    /// The numbers of the rounds in the training that they are a sample of, if they are one, and of the round behind them.
    numbers: Option<Vec<usize>>,
    pub clock: Clock,
}

impl<T: Real> Analysis<T> {
    /// `probe: [datapoints, inputs]`, empty to leave exploration out.
    pub fn new(network: &Network, loss: Loss, settings: AnalysisSettings, probe: Vec<T>) -> Self {
        let regret = &settings.regret;
        let planned = settings.planned_rounds;
        let plan = Plan::new(network, loss, regret);
        let window = regret.window.min(planned);
        // A sample is short, and where it ends if the run does is not known beforehand.
        let windowed = match regret.rounds {
            None => log_spaced(window, regret.prefixes),
            Some(_) => regret.sampled(window),
        };
        let stream_prefixes = if plan.streams() { log_spaced(planned, regret.prefixes) } else { Vec::new() };
        let mut tracker = UnitTracker::new(network, windowed.into_iter().chain(stream_prefixes.iter().copied()));
        if settings.rates.adagrad.is_some() {
            tracker = tracker.with_coordinates();
        }
        let records = !probe.is_empty() && !network.hidden_blocks().is_empty();
        let stream = || NeuronStream::new(network, loss, regret, settings.batch).within(regret, settings.memory);
        let recorder = || {
            let recorder = ActivationRecorder::new(network, probe, settings.every);
            if settings.pool_winners { recorder.with_winners() } else { recorder }
        };
        Self {
            tracker,
            stream: plan.streams().then(stream),
            stream_prefixes,
            window: WindowRecorder::new(plan.kept_rounds(planned)),
            activations: records.then(recorder),
            results: Vec::new(),
            numbers: None,
            clock: Clock::default(),
            network: network.clone(),
            loss,
            settings,
        }
    }

    /// The rounds that are seen, counted from 1, are a sample of those of a training: tables get these numbers. The last may be that of
    /// the round which the state after the last update is before.
    pub fn of_a_sample(self, numbers: Vec<usize>) -> Self {
        Self { numbers: Some(numbers), ..self }
    }

    /// Rounds of the window, and how many of them are analysed; 0 where nothing needs it.
    pub fn window(&self) -> (usize, usize) {
        let chosen = &self.window.chosen;
        (chosen.last().copied().unwrap_or(0), chosen.len())
    }

    /// Whether all minibatches of the window are of the first `rows` rows of the data, as a state that was read need not be.
    pub fn draws_from(&self, rows: usize) -> bool {
        self.window.rows.rows().iter().all(|row| (*row as usize) < rows)
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
        if let Some(numbers) = &self.numbers {
            for record in self.results.iter_mut().map(|result| &mut result.record) {
                (record.rounds, record.sampled) = (numbers[record.rounds - 1], true);
            }
            let seen = if out.window_rounds > 0 { out.window_rounds } else { self.tracker.last() };
            out.sampled_rounds = Some(out.sampled_rounds.unwrap_or(seen));
            out.window_rounds = seen.checked_sub(1).map_or(0, |last| numbers[last]);
        }
        (out.regret, out.units) = tables(&self.results, &self.settings.regret, self.settings.rates);
        if let Some(activations) = &self.activations {
            configurations::compare(activations, self.settings.memory, &mut self.clock, work, &mut out, progress);
        }
        if let Some(numbers) = &self.numbers {
            let pools = out.pools.iter_mut().flat_map(|(novelty, _)| novelty);
            // Configurations count the updates before them.
            out.novelty.iter_mut().chain(pools).for_each(|row| row.round = numbers[row.round] - 1);
        }
        (out, self.clock)
    }

    /// Searches for the optima of the scales that have no closed form that streams.
    fn solve_window(
        &mut self,
        examples: &Examples<T>,
        work: &mut Work,
        progress: &mut dyn FnMut(Stage),
    ) -> Result<(), Halted> {
        let Self { network, loss, settings, tracker, window, clock, results, .. } = self;
        let regret = &settings.regret;
        let plan = Plan::new(network, *loss, regret);
        let states = std::mem::take(&mut window.states);
        let rounds = states.len();
        let records = Records { tracker, window, rounds, is_sample: regret.rounds.is_some() };
        let kept: usize = states.iter().map(|state| size_of_val(&state[..])).sum();
        let memory = settings.memory.saturating_sub(kept);
        let strategy = plan.strategy(Extent::of(&window.rows), examples.inputs.len(), memory);
        let mut search = Search {
            plan,
            settings: regret,
            lengths: &prefix_lengths(window.chosen.len(), rounds, regret.prefixes),
            record: &|unit, n| records.at(unit, n),
            results,
            clock,
            work,
            progress,
        };
        match strategy {
            Strategy::WholeWindow => {
                let wide = search.clock.time("linearization", || whole_window::Wide::new(examples, states));
                whole_window::solve(network, *loss, wide, &window.rows, &mut search)
            }
            Strategy::ByPasses => {
                if plan.has_fast_path() {
                    search.note("the linearized window does not fit in --memory: rounds are linearized whenever they are needed");
                }
                let (states, rows) = (&states[..], &window.rows);
                by_passes::solve(Sample { network, loss: *loss, examples, states, rows }, memory, &mut search)
            }
        }
    }
}

/// The lengths of the prefixes of `rounds` analysed rounds of `planned` ones.
fn prefix_lengths(planned: usize, rounds: usize, count: usize) -> Vec<usize> {
    let mut lengths: Vec<usize> = log_spaced(planned, count).into_iter().filter(|n| *n < rounds).collect();
    lengths.push(rounds);
    lengths
}

/// What prefixes of the analysed rounds say about units.
struct Records<'a, T> {
    tracker: &'a UnitTracker<T>,
    window: &'a WindowRecorder<T>,
    /// That are analysed.
    rounds: usize,
    /// Whether they are a sample of the window.
    is_sample: bool,
}

impl<T: Real> Records<'_, T> {
    fn tracked(&self, unit: UnitId, n: usize) -> UnitRecord {
        self.tracker.record(unit, self.window.chosen[n - 1]).expect("the tracker records every prefix")
    }

    /// Of the first `n` analysed rounds.
    fn at(&self, unit: UnitId, n: usize) -> UnitRecord {
        // One ball for all prefixes: that of all rounds that are analysed.
        let record = UnitRecord { displacement: self.tracked(unit, self.rounds).displacement, ..self.tracked(unit, n) };
        if !self.is_sample {
            return record;
        }
        // The mean over the rounds that are analysed, so that it can be compared with their optimum.
        let mean_loss = self.window.losses[..n].iter().sum::<f64>() / n as f64;
        UnitRecord { mean_loss, analysed: n, sampled: n < record.rounds, ..record }
    }
}

/// Phases that time goes to while training runs.
const STREAMED: [&str; 3] = ["streaming", "activations", "neuron_optima"];

/// What was observed so far. Phases that come after the rounds have no state: what they find is kept by [`Work`].
impl<T: Real> Persist for Analysis<T> {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.part("tracker", |store| self.tracker.persist(store))?;
        let mut streams = self.stream.is_some();
        store.value("streams", &mut streams)?;
        // It is gone once training has ended.
        if !streams {
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
            let mut seconds = self.clock.of(phase);
            store.number(&format!("seconds.{phase}"), &mut seconds)?;
            self.clock.set(phase, seconds);
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
