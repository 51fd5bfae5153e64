//! The function along one segment.

use super::{
    LandscapeError, Quantity, SUMMARY,
    folder::{Landscape, admit, take},
    rows::{Kind, KinkRow, LandscapeSummary, PieceRow, SegmentSummary, StepRow, columns},
    subject::{State, Subject},
    training,
};
use crate::{
    kernels::real::{dot, norm},
    landscape::{
        Change, Datapoint, Ended, Limits, Profile, Propagation, Target, profile, propagation::MERGE, updates::target,
    },
    network::{Block, Network},
    study::{error::StudyError, folder::Destination, tables::write_rows, write},
    train::RoundEngine,
};
use std::{
    collections::BTreeSet,
    fmt,
    ops::Range,
    path::Path,
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering},
};

/// What moves along the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Along {
    /// The input, from one row of the data to another.
    Input,
    /// The weights of one neuron, against the gradient.
    Neuron { layer: usize, neuron: usize },
    /// The weights of one layer, against the gradient.
    Layer(usize),
    /// All weights, against the gradient.
    Gradient,
    /// All weights, along the update of a round.
    Update(usize),
}

impl fmt::Display for Along {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Along::Input => f.write_str("input"),
            Along::Neuron { layer, neuron } => write!(f, "neuron {layer}.{neuron}"),
            Along::Layer(layer) => write!(f, "layer {layer}"),
            Along::Gradient => f.write_str("gradient"),
            Along::Update(round) => write!(f, "update {round}"),
        }
    }
}

impl FromStr for Along {
    type Err = LandscapeError;

    /// Parses `input`, `neuron L.M`, `layer L`, `gradient`, `update N`.
    fn from_str(text: &str) -> Result<Self, LandscapeError> {
        let fail = |reason: &str| LandscapeError::Along { along: text.to_owned(), reason: reason.to_owned() };
        let number = |text: &str, reason: &str| text.parse::<usize>().map_err(|_| fail(reason));
        let mut words = text.split_whitespace();
        let along = match (words.next(), words.next()) {
            (Some("input"), None) => Along::Input,
            (Some("gradient"), None) => Along::Gradient,
            (Some("neuron"), Some(at)) => {
                let reason = "a neuron is named by its layer and its row, for example neuron 2.5";
                let (layer, neuron) = at.split_once('.').ok_or_else(|| fail(reason))?;
                Along::Neuron { layer: number(layer, reason)?, neuron: number(neuron, reason)? }
            }
            (Some("layer"), Some(layer)) => {
                Along::Layer(number(layer, "a layer is named by its index in the layer list, for example layer 2")?)
            }
            (Some("update"), Some(round)) => {
                match number(round, "an update is named by its round, for example update 10")? {
                    0 => return Err(fail("rounds count from 1")),
                    round => Along::Update(round),
                }
            }
            _ => return Err(fail("write input, neuron L.M, layer L, gradient or update N")),
        };
        if words.next().is_some() {
            return Err(fail("there are too many words"));
        }
        Ok(along)
    }
}

/// What to look at.
#[derive(Clone, Debug)]
pub struct LandscapeOptions<'a> {
    pub subject: &'a Subject,
    pub along: Along,
    /// Range of the parameter; for inputs the two rows of the data.
    pub through: Option<(f64, f64)>,
    /// Rows of the data whose mean loss is shown.
    pub datapoints: Option<Range<usize>>,
    /// Which optimizer of a run; the first by default.
    pub optimizer: Option<&'a str>,
    /// The weights before this round's update.
    pub round: Option<usize>,
    /// Which output to show.
    pub output: Option<usize>,
    /// Updates of each optimizer to measure; 0 for none.
    pub updates: usize,
    pub out: Destination<'a>,
    /// Replace another landscape in the folder.
    pub overwrite: bool,
    /// Bytes that may be taken for kinks and pieces.
    pub memory: usize,
    /// Set from outside to stop before anything is written.
    pub stop: &'a AtomicBool,
}

/// Weights at `t = 0`, how they move, and whose loss is looked at.
struct Line {
    weights: Vec<f64>,
    step: Option<Vec<f64>>,
    rows: Vec<u32>,
    range: (f64, f64),
    parameter: String,
    /// Rounds whose weights are shown beside the segment.
    beside: Range<usize>,
    round: Option<usize>,
}

/// Rows of the data whose mean loss is shown along a gradient, unless others are chosen: a neuron is rarely active on one.
const DATAPOINTS: usize = 16;

const KINKS: Quantity = Quantity {
    what: "the kinks and pieces of this segment",
    remedy: "choose a shorter one with --through or fewer --datapoints",
};

/// Rounds beside the segment, before its own and after it.
const BESIDE: (usize, usize) = (4, 3);

/// Finds all kinks along a segment, then writes its tables; `events` hears what is being done.
///
/// # Errors
/// If something that was asked for does not exist, or the tables cannot be written.
pub fn along(options: &LandscapeOptions, events: &mut dyn FnMut(&str)) -> Result<Landscape, LandscapeError> {
    admit(&options.out, options.overwrite)?;
    let subject = options.subject;
    check_output(subject, options.output)?;
    let line = Line::new(subject, options, events)?;
    let shown = if options.along == Along::Input { &line.rows[..1] } else { &line.rows[..] };
    events("kinks and pieces");
    let limits = Limits::new(options.stop, options.memory);
    let found = find(options, &line, shown, &limits).map_err(|why| KINKS.ended(why))?;
    go_on(options)?;
    events("steps beside the segment");
    let steps = steps(options, &line)?;
    let measured = options.updates > 0 && line.round.is_some() && options.along != Along::Input;
    let updates = match measured {
        true => Some(training::updates(subject, options.updates, options.stop, &limits, events)?),
        false => None,
    };
    go_on(options)?;

    let findings = Findings {
        along: options.along.to_string(),
        round: line.round,
        parameter: &line.parameter,
        range: line.range,
        datapoints: line.rows.iter().map(|row| *row as usize).collect(),
        pieces: found.smooth_pieces,
        method: match found.degree {
            0 | 1 => "piecewise linear: kinks in closed form".to_owned(),
            degree => {
                format!("piecewise polynomial of degree {degree}: kinks by root isolation to {MERGE:e} of the segment")
            }
        },
        output: found.output,
        start: found.start.value,
        kind: Kind::Segment(SegmentSummary {
            kinks: found.kinks.len(),
            degree: found.degree,
            start_slope: found.start.slope,
        }),
    };
    let summary = findings.summary(options)?;
    let folder = take(&options.out, options.overwrite, events)?;
    let out = &folder.path;
    write_tables(&subject.network, out, shown, &found)?;
    if let Some(steps) = steps {
        write_rows(&out.join("steps.csv"), columns::STEPS, &steps).map_err(StudyError::from)?;
    }
    if let Some(updates) = updates {
        write_rows(&out.join("updates.csv"), columns::UPDATES, &updates).map_err(StudyError::from)?;
    }
    write::json(&out.join(SUMMARY), &summary)?;
    Ok(Landscape { summary, folder })
}

/// Fails if told to stop.
pub(super) fn go_on(options: &LandscapeOptions) -> Result<(), LandscapeError> {
    if options.stop.load(Ordering::SeqCst) { Err(LandscapeError::Stopped) } else { Ok(()) }
}

/// Fails if the network has no such output.
pub(super) fn check_output(subject: &Subject, output: Option<usize>) -> Result<(), LandscapeError> {
    let outputs = subject.network.outputs();
    match output.filter(|output| *output >= outputs) {
        Some(output) => {
            let reason = format!("the network has outputs 0 to {}", outputs - 1);
            Err(LandscapeError::Value { option: "output", value: output.to_string(), reason })
        }
        None => Ok(()),
    }
}

/// What `landscape.json` says beside its subject.
pub(super) struct Findings<'a> {
    pub along: String,
    pub round: Option<usize>,
    pub parameter: &'a str,
    pub range: (f64, f64),
    pub datapoints: Vec<usize>,
    pub pieces: usize,
    pub method: String,
    pub output: usize,
    pub start: f64,
    pub kind: Kind,
}

impl Findings<'_> {
    pub fn summary(self, options: &LandscapeOptions) -> Result<LandscapeSummary, LandscapeError> {
        let subject = options.subject;
        Ok(LandscapeSummary {
            format: 1,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            subject: subject.describe(options.optimizer, self.round)?,
            dataset: subject.dataset.clone(),
            loss: subject.loss.name().to_owned(),
            layers: subject.network.describe(),
            along: self.along,
            parameter: self.parameter.to_owned(),
            from: self.range.0,
            to: self.range.1,
            datapoints: self.datapoints,
            pieces: self.pieces,
            method: self.method,
            output: self.output,
            start: self.start,
            kind: self.kind,
        })
    }
}

/// The function, its kinks and its pieces along the line, for the datapoints of the rows `shown`.
fn find(options: &LandscapeOptions, line: &Line, shown: &[u32], limits: &Limits) -> Result<Profile, Ended> {
    let subject = options.subject;
    let examples = subject.examples();
    let features = subject.network.inputs();
    let input = |row: usize| &examples.inputs[row * features..][..features];
    let (mut input_step, mut target_step) = (Vec::new(), Vec::new());
    if options.along == Along::Input {
        let between = |a: &[f64], b: &[f64]| -> Vec<f64> { b.iter().zip(a).map(|(b, a)| b - a).collect() };
        let [a, b] = [line.rows[0], line.rows[1]].map(|row| row as usize);
        input_step = between(input(a), input(b));
        if let (Target::Values { at: y, .. }, Target::Values { at: z, .. }) =
            (target(&examples, a), target(&examples, b))
        {
            target_step = between(y, z);
        }
    }
    let moving = |step: &'_ [f64]| !step.is_empty();
    let datapoint = |row: &u32| {
        let row = *row as usize;
        let target = match target(&examples, row) {
            Target::Values { at, .. } => {
                Target::Values { at, step: Some(&target_step[..]).filter(|step| moving(step)) }
            }
            label => label,
        };
        Datapoint { input: input(row), step: Some(&input_step[..]).filter(|step| moving(step)), target }
    };
    let datapoints: Vec<Datapoint> = shown.iter().map(datapoint).collect();
    let propagation = Propagation::new(&subject.network, &line.weights, line.step.as_deref()).within(limits);
    profile(&propagation, &datapoints, line.range, subject.loss, options.output)
}

impl Line {
    fn new(
        subject: &Subject,
        options: &LandscapeOptions,
        events: &mut dyn FnMut(&str),
    ) -> Result<Line, LandscapeError> {
        let count = subject.examples().len();
        let chosen = match &options.datapoints {
            Some(range) if range.is_empty() || range.end > count => {
                return Err(LandscapeError::Value {
                    option: "datapoints",
                    value: format!("{}..{}", range.start, range.end),
                    reason: format!("the data has rows 0 to {}; write for example 0..64", count - 1),
                });
            }
            Some(range) => Some(range.clone().map(|row| row as u32).collect::<Vec<u32>>()),
            None => None,
        };
        if let Some((from, to)) = options.through.filter(|(from, to)| options.along != Along::Input && from >= to) {
            return Err(LandscapeError::Value {
                option: "through",
                value: format!("{from}..{to}"),
                reason: "the first end must lie below the second".into(),
            });
        }
        if let Along::Update(round) = options.along {
            return Line::update(subject, options, round, chosen, events);
        }
        let (round, weights) = subject.weights(options.optimizer, options.round, options.stop)?;
        let beside = round.map_or(0..0, |round| round.saturating_sub(BESIDE.0).max(1)..round + BESIDE.1 + 1);
        if options.along == Along::Input {
            let (a, b) = options.through.unwrap_or((0.0, 1.0));
            let row =
                |value: f64| (value >= 0.0 && value.fract() == 0.0 && value < count as f64).then_some(value as u32);
            let (Some(a), Some(b)) = (row(a), row(b)) else {
                return Err(LandscapeError::Value {
                    option: "through",
                    value: format!("{a}..{b}"),
                    reason: format!("along the input it names two rows of the data, from 0 to {}", count - 1),
                });
            };
            let parameter = format!("input from row {a} (t = 0) to row {b} (t = 1)");
            let rows = vec![a, b];
            return Ok(Line { weights, step: None, rows, range: (0.0, 1.0), parameter, beside: 0..0, round });
        }
        let rows = chosen.unwrap_or_else(|| (0..DATAPOINTS.min(count) as u32).collect());
        let moving = moving_weights(&subject.network, options.along)?;
        let mut engine = RoundEngine::new(&subject.network, subject.loss, rows.len());
        engine.compute(&weights, &subject.examples(), &rows);
        let mut step = vec![0.0; weights.len()];
        let length = norm(&engine.gradient()[moving.clone()]);
        if length == 0.0 || !length.is_finite() {
            let reason = no_direction(&subject.network, options.along, engine.gradient());
            return Err(LandscapeError::Along { along: options.along.to_string(), reason });
        }
        for (step, g) in step[moving.clone()].iter_mut().zip(&engine.gradient()[moving.clone()]) {
            *step = -g / length;
        }
        // One neuron must go far to change much; many weights together need not.
        let share = if matches!(options.along, Along::Neuron { .. }) { 0.5 } else { 0.1 };
        let far = share * norm(&weights[moving]);
        let default = if far > 0.0 { (-far, far) } else { (-1.0, 1.0) };
        let range = options.through.unwrap_or(default);
        let parameter = "distance moved against the gradient".to_owned();
        Ok(Line { weights, step: Some(step), rows, range, parameter, beside, round })
    }

    fn update(
        subject: &Subject,
        options: &LandscapeOptions,
        round: usize,
        chosen: Option<Vec<u32>>,
        events: &mut dyn FnMut(&str),
    ) -> Result<Line, LandscapeError> {
        let run = subject.run(options.optimizer)?;
        events("weights before and after the update");
        let mut states = subject.states(run, &BTreeSet::from([round, round + 1]), options.stop)?;
        let missing =
            || LandscapeError::NoSuchRound { round: round + 1, last: run.rounds + 1, label: run.label.clone() };
        let State { weights, rows } = states.remove(&round).ok_or_else(missing)?;
        let after = states.remove(&(round + 1)).ok_or_else(missing)?;
        let step: Vec<f64> = after.weights.iter().zip(&weights).map(|(b, a)| b - a).collect();
        Ok(Line {
            weights,
            step: Some(step),
            rows: chosen.unwrap_or(rows),
            range: options.through.unwrap_or((-1.0, 3.0)),
            parameter: format!("step of {} in round {round} (t = 0 before, t = 1 after the update)", run.label),
            beside: round.saturating_sub(BESIDE.0).max(1)..round + BESIDE.1 + 1,
            round: Some(round),
        })
    }
}

/// Why there is no direction, and which there are.
fn no_direction(network: &Network, along: Along, gradient: &[f64]) -> String {
    if !gradient.iter().all(|g| g.is_finite()) {
        return "the gradient is not finite; choose an earlier --round".to_owned();
    }
    let directed = |range: Range<usize>| gradient[range].iter().any(|g| *g != 0.0);
    let neurons = |block: &Block| (0..block.units).find(|neuron| directed(block.neuron(*neuron)));
    match along {
        Along::Neuron { layer, neuron } => {
            let others = network.blocks().iter().find(|block| block.layer == layer).and_then(neurons);
            let dead = format!("neuron {layer}.{neuron} is active on none of the datapoints, so its gradient is zero");
            match others {
                Some(other) => format!("{dead}; neuron {layer}.{other} has one, or choose other --datapoints"),
                None => format!("{dead}, as is that of every neuron of layer {layer}; choose other --datapoints"),
            }
        }
        Along::Layer(layer) => {
            let others: Vec<String> = network
                .blocks()
                .iter()
                .filter(|block| directed(block.range()))
                .map(|block| block.layer.to_string())
                .collect();
            let zero = format!("the gradient of layer {layer} is zero on the datapoints");
            match others.is_empty() {
                true => format!("{zero}, as is that of all layers; choose other --datapoints"),
                false => format!("{zero}; layers with one are {}, or choose other --datapoints", others.join(", ")),
            }
        }
        _ => "the gradient is zero on the datapoints; choose others with --datapoints".to_owned(),
    }
}

/// The weights that move, as a range of the flat vector.
pub(super) fn moving_weights(network: &Network, along: Along) -> Result<Range<usize>, LandscapeError> {
    let block = |layer: usize| -> Result<&Block, LandscapeError> {
        network.blocks().iter().find(|block| block.layer == layer).ok_or_else(|| {
            let known: Vec<String> = network.blocks().iter().map(|block| block.layer.to_string()).collect();
            LandscapeError::Along {
                along: along.to_string(),
                reason: format!("layer {layer} has no weights; layers with weights are {}", known.join(", ")),
            }
        })
    };
    match along {
        Along::Layer(layer) => Ok(block(layer)?.range()),
        Along::Neuron { layer, neuron } => {
            let block = block(layer)?;
            if neuron >= block.units {
                return Err(LandscapeError::Along {
                    along: along.to_string(),
                    reason: format!("layer {layer} has neurons 0 to {}", block.units - 1),
                });
            }
            Ok(block.neuron(neuron))
        }
        _ => Ok(0..network.parameters()),
    }
}

fn write_tables(network: &Network, out: &Path, rows: &[u32], found: &Profile) -> Result<(), LandscapeError> {
    // A pool belongs to the last block before it.
    let block = |layer: usize| network.blocks().iter().rev().find(|block| block.layer <= layer);
    let neurons = |layer: usize| block(layer).map_or(1, |block| block.units);
    let spatial = |layer: usize| block(layer).is_some_and(|block| block.convolution().is_some());
    let kinks: Vec<KinkRow> = found
        .kinks
        .iter()
        .map(|(datapoint, kink)| KinkRow {
            datapoint: rows[*datapoint] as usize,
            at: kink.at,
            layer: kink.layer,
            neuron: kink.unit % neurons(kink.layer),
            position: spatial(kink.layer).then(|| kink.unit / neurons(kink.layer)),
            change: match kink.change {
                Change::On => "on".to_owned(),
                Change::Off => "off".to_owned(),
                Change::Winner { from, to } => format!("{from}>{to}"),
            },
        })
        .collect();
    let pieces: Vec<PieceRow> = found
        .pieces
        .iter()
        .map(|piece| PieceRow {
            from: piece.from,
            to: piece.to,
            loss: piece.loss[0].value,
            loss_end: piece.loss[1].value,
            slope: piece.loss[0].slope,
            slope_end: piece.loss[1].slope,
            taylor: piece.taylor[0].value,
            taylor_end: piece.taylor[1].value,
            taylor_slope: piece.taylor[0].slope,
            taylor_slope_end: piece.taylor[1].slope,
            output: piece.output[0].value,
            output_end: piece.output[1].value,
            output_slope: piece.output[0].slope,
            output_slope_end: piece.output[1].slope,
        })
        .collect();
    write_rows(&out.join("kinks.csv"), columns::KINKS, &kinks).map_err(StudyError::from)?;
    write_rows(&out.join("pieces.csv"), columns::PIECES, &pieces).map_err(StudyError::from)?;
    Ok(())
}

/// Where the weights of neighbouring rounds lie beside a segment in weight space.
fn steps(options: &LandscapeOptions, line: &Line) -> Result<Option<Vec<StepRow>>, LandscapeError> {
    let Some(step) = line.step.as_deref().filter(|_| !line.beside.is_empty()) else { return Ok(None) };
    let subject = options.subject;
    let run = subject.run(options.optimizer)?;
    let states = subject.states(run, &line.beside.clone().collect(), options.stop)?;
    let examples = subject.examples();
    let mut engine = RoundEngine::new(&subject.network, subject.loss, line.rows.len());
    let length = norm(step);
    let row = |(round, state): (&usize, &State)| {
        let moved: Vec<f64> = state.weights.iter().zip(&line.weights).map(|(b, a)| b - a).collect();
        let at = dot(&moved, step) / (length * length);
        let off: Vec<f64> = moved.iter().zip(step).map(|(m, d)| m - at * d).collect();
        engine.compute(&state.weights, &examples, &line.rows);
        StepRow { round: *round, at, distance: norm(&off) / length, loss: engine.loss() }
    };
    Ok(Some(states.iter().map(row).collect()))
}
