//! Taylor optima at layer and network scale over the first rounds of training, and what simpler methods would need for them.

use super::{
    Answer, answer,
    inputs::{self, BATCH, Digits},
    timed,
    training::train_rounds,
};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use std::{
    borrow::Cow,
    ops::{ControlFlow, Range},
    path::Path,
    time::Instant,
};
use taylorscope::{
    loss::Loss,
    network::Network,
    num::{axpy, convert, dot, norm},
    optim::OptimizerConfig,
    study::tables::{Comparator, Scale},
    taylor::{
        Comparators, Comparison, Found, RegretSettings, UnitResult, Work, certificate,
        chain::{
            layer::{self},
            network,
            objective::Windows,
            preconditioners::Preconditioners,
            window::Window,
        },
        recorder::WindowRecorder,
        tracker::UnitTracker,
        unit::UnitId,
    },
    trace::write::write_npy,
    train::Examples,
};

/// The relative gap to reach.
const TOLERANCE: f64 = 1e-4;

/// Commands:
/// - `linearize layers`, `linearize network`: tapes and preconditioners of all rounds, as the optima need them;
/// - `layers PRODUCTS`, `network PRODUCTS`: the certified optima, with so many products for each unit at most;
/// - `product BLOCKS`: one product with the curvature, to compare with the peer's;
/// - `cg BLOCKS SECONDS GAP`, `adam BLOCKS SECONDS GAP`: how many products plain conjugate gradients or Adam need for a relative
///   gap, for at most so many seconds.
///
/// BLOCKS is `0..1` for the first layer with weights.
pub fn serve(folder: &Path, rounds: usize) -> Result<()> {
    let network = inputs::autoencoder()?;
    let digits = Digits::read(folder)?;
    let run = Run::record(&network, &digits, rounds)?;
    let states: Vec<f32> = run.recorder.states.concat();
    write_npy(&folder.join("states.npy"), &[rounds as u64, network.parameters() as u64], &states)?;
    drop(states);

    let inputs: Vec<f64> = convert(digits.examples().inputs);
    let examples = Examples::autoencoder(&inputs[..], network.inputs());
    let exact = run.linearize(&network, examples);
    let fast = exact.to_f32();
    let preconditioners = Preconditioners::new(&exact, &[rounds], true);
    let stop = Work::to_the_end().stop();
    let windows = Windows { exact: &exact, fast: &fast, preconditioners: &preconditioners, stop };
    answer(|command| {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["linearize", scale] => {
                let (seconds, ()) = timed(|| {
                    let exact = run.linearize(&network, examples);
                    let fast = exact.to_f32();
                    let preconditioners = Preconditioners::new(&exact, &[rounds], scale == "network");
                    std::hint::black_box((preconditioners, fast.rounds()));
                });
                Ok(Answer { seconds, facts: json!({}) })
            }
            ["layers", products] => {
                let settings = settings(Scale::Layer, products.parse()?);
                let start = Instant::now();
                let mut ends = Vec::new();
                let each_layer = |_: &mut Found| {
                    ends.push(start.elapsed().as_secs_f64());
                    ControlFlow::Continue(())
                };
                let mut work = Work::to_the_end().kept(Found::default(), each_layer);
                let record = |unit, n| run.record_of(unit, n);
                let results = layer::optima(&windows, &[rounds], &settings, &record, &mut work);
                let results = results.map_err(|_| anyhow!("nobody halts the work"))?;
                drop(work);
                let from = std::iter::once(0.0).chain(ends.iter().copied());
                let seconds: Vec<f64> = ends.iter().zip(from).map(|(end, start)| end - start).collect();
                let found: Vec<Value> = results.iter().map(described).collect();
                Ok(Answer { seconds: start.elapsed().as_secs_f64(), facts: json!({"each": seconds, "found": found}) })
            }
            ["network", products] => {
                let settings = settings(Scale::Network, products.parse()?);
                let solve = || {
                    let record = |unit, n| run.record_of(unit, n);
                    network::optima(&windows, &[rounds], &settings, &record, &mut Work::to_the_end())
                };
                let (seconds, results) = timed(solve);
                let results = results.map_err(|_| anyhow!("nobody halts the work"))?;
                Ok(Answer { seconds, facts: json!({"found": results.iter().map(described).collect::<Vec<_>>()}) })
            }
            ["product", blocks] => {
                let problem = Problem::new(&run, &exact, parse(blocks)?);
                let fast_direction: Vec<f32> = convert(&problem.probe(0.37));
                let scale = problem.scale();
                let product = || fast.product(0..rounds, problem.blocks.clone(), &fast_direction, &[], scale);
                let (seconds, image) = timed(product);
                let form = dot(&convert(&image), &problem.probe(0.61));
                let size = norm(&convert(&image));
                Ok(Answer { seconds, facts: json!({"form": form, "norm": size}) })
            }
            ["cg", blocks, seconds, gap] => {
                let problem = Problem::new(&run, &exact, parse(blocks)?);
                let (limit, gap) = (seconds.parse()?, gap.parse()?);
                let (seconds, facts) = timed(|| problem.conjugate_gradients(limit, gap));
                Ok(Answer { seconds, facts })
            }
            ["adam", blocks, seconds, gap] => {
                let problem = Problem::new(&run, &exact, parse(blocks)?);
                let (limit, gap) = (seconds.parse()?, gap.parse()?);
                let (seconds, facts) = timed(|| problem.adam(limit, gap));
                Ok(Answer { seconds, facts })
            }
            _ => bail!("there is no command {command}"),
        }
    })
}

fn parse(blocks: &str) -> Result<Range<usize>> {
    let (start, end) = blocks.split_once("..").context("BLOCKS is written START..END")?;
    Ok(start.parse()?..end.parse()?)
}

fn settings(scale: Scale, max_products: usize) -> RegretSettings {
    RegretSettings {
        scales: vec![scale],
        comparators: Comparators::Chosen(vec![Comparator::Unconstrained]),
        tolerance: TOLERANCE,
        max_products,
        ..RegretSettings::default()
    }
}

fn described(result: &UnitResult) -> Value {
    json!({
        "layer": result.unit.layer,
        "optimum": result.taylor_optimum,
        "relative_gap": result.gap / result.record.mean_loss,
        "products": result.iterations,
    })
}

/// The recorded rounds of a run of Adam.
struct Run {
    tracker: UnitTracker<f32>,
    recorder: WindowRecorder<f32>,
}

impl Run {
    fn record(network: &Network, digits: &Digits, rounds: usize) -> Result<Self> {
        let mut tracker = UnitTracker::new(network, [rounds]);
        let mut recorder = WindowRecorder::new((1..=rounds).collect());
        let mut adam = OptimizerConfig::named("adam", Some(1e-3))?.build::<f32>(network)?;
        train_rounds(network, digits, &mut *adam, &mut [&mut tracker, &mut recorder], rounds);
        Ok(Self { tracker, recorder })
    }

    fn record_of(&self, unit: UnitId, rounds: usize) -> taylorscope::taylor::tracker::UnitRecord {
        self.tracker.record(unit, rounds).expect("the prefix was recorded")
    }

    fn linearize<'a>(&'a self, network: &'a Network, examples: Examples<'a, f64>) -> Window<'a, f64> {
        let states: Vec<Vec<f64>> = self.recorder.states.iter().map(|state| convert(state)).collect();
        Window::new(network, Loss::Mse, examples, Cow::Owned(states), &self.recorder.rows)
    }
}

/// The least-squares problem of some blocks, for the simple methods.
struct Problem<'a> {
    window: &'a Window<'a, f64>,
    blocks: Range<usize>,
    /// `F(0)` and `F'(0)`.
    value: f64,
    gradient: Vec<f64>,
    comparison: Comparison,
    mean_loss: f64,
}

impl<'a> Problem<'a> {
    fn new(run: &Run, window: &'a Window<'a, f64>, blocks: Range<usize>) -> Self {
        let rounds = window.rounds();
        let unit = match blocks.len() {
            1 => {
                let layer = window.network().blocks()[blocks.start].layer;
                UnitId::layer(layer)
            }
            _ => UnitId::NETWORK,
        };
        let record = run.record_of(unit, rounds);
        let (value, gradient) = window.linear_terms(&[rounds], blocks.clone()).swap_remove(0);
        Self {
            window,
            blocks,
            value: value / rounds as f64,
            gradient: gradient.iter().map(|g| g / rounds as f64).collect(),
            comparison: Comparison { radius: None, displacement: record.displacement },
            mean_loss: record.mean_loss,
        }
    }

    fn scale(&self) -> f64 {
        1.0 / (self.window.rounds() * BATCH) as f64
    }

    /// A direction that both sides can write down.
    fn probe(&self, frequency: f64) -> Vec<f64> {
        (0..self.gradient.len()).map(|i| (frequency * i as f64).sin()).collect()
    }

    fn product(&self, direction: &[f64]) -> Vec<f64> {
        self.window.product(0..self.window.rounds(), self.blocks.clone(), direction, &[], self.scale())
    }

    fn relative_gap(&self, u: &[f64], gradient: &[f64]) -> f64 {
        certificate::gap(&self.comparison, u, gradient) / self.mean_loss
    }

    /// Plain conjugate gradients from `W^1`, until the gap is reached or the time is up.
    fn conjugate_gradients(&self, limit: f64, tolerance: f64) -> Value {
        let start = Instant::now();
        let mut u = vec![0.0; self.gradient.len()];
        let mut gradient = self.gradient.clone();
        let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let (mut products, mut gap) = (0, f64::INFINITY);
        while gap > tolerance && start.elapsed().as_secs_f64() < limit {
            let image = self.product(&direction);
            products += 1;
            let square = dot(&gradient, &gradient);
            let step = square / dot(&direction, &image);
            axpy(step, &direction, &mut u);
            axpy(step, &image, &mut gradient);
            let turn = dot(&gradient, &gradient) / square;
            direction.iter_mut().zip(&gradient).for_each(|(d, g)| *d = turn * *d - g);
            gap = self.relative_gap(&u, &gradient);
        }
        json!({"products": products, "relative_gap": gap, "value": self.value_at(&u, &gradient)})
    }

    /// Adam on the whole objective from `W^1`, at the best of a few rates, until the gap is reached or the time is up.
    fn adam(&self, limit: f64, tolerance: f64) -> Value {
        const TRIAL: usize = 40;
        let rates = [1e-3, 1e-2, 1e-1];
        let value = |rate: f64| self.adam_at(rate, |steps, _| steps < TRIAL);
        let trials = rates.map(|rate| (rate, value(rate)));
        let best = trials.into_iter().min_by(|a, b| a.1.1.total_cmp(&b.1.1)).expect("there are rates").0;
        // The search for the rate does not count.
        let start = Instant::now();
        let (products, value, gap) =
            self.adam_at(best, |_, gap| gap > tolerance && start.elapsed().as_secs_f64() < limit);
        json!({"products": products, "relative_gap": gap, "value": value, "rate": best})
    }

    /// Steps, value and relative gap where Adam ends.
    fn adam_at(&self, rate: f64, go_on: impl Fn(usize, f64) -> bool) -> (usize, f64, f64) {
        let size = self.gradient.len();
        let (mut u, mut mean, mut square) = (vec![0.0; size], vec![0.0; size], vec![0.0; size]);
        let mut gradient = self.gradient.clone();
        let (mut steps, mut gap) = (0, f64::INFINITY);
        while go_on(steps, gap) {
            steps += 1;
            let (first, second) = (1.0 - 0.9f64.powi(steps as i32), 1.0 - 0.999f64.powi(steps as i32));
            for (i, g) in gradient.iter().enumerate() {
                mean[i] = 0.9 * mean[i] + 0.1 * g;
                square[i] = 0.999 * square[i] + 0.001 * g * g;
                u[i] -= rate * mean[i] / first / ((square[i] / second).sqrt() + 1e-8);
            }
            gradient = self.product(&u);
            axpy(1.0, &self.gradient, &mut gradient);
            gap = self.relative_gap(&u, &gradient);
        }
        (steps, self.value_at(&u, &gradient), gap)
    }

    /// `F(u)`, given `F'(u)`: the mean of the slopes at both ends times the way.
    fn value_at(&self, u: &[f64], gradient: &[f64]) -> f64 {
        self.value + 0.5 * (dot(&self.gradient, u) + dot(gradient, u))
    }
}
