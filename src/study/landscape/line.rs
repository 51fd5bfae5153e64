//! The line that a segment lies on: weights, how inputs or weights move, and whose loss is looked at.

use super::{
    LandscapeError, LandscapeOptions, SegmentOptions,
    direction::{descent, moving_weights, no_direction},
    rows::StepRow,
    subject::State,
    what::Along,
};
use crate::{
    num::{dot, norm},
    train::RoundEngine,
};
use std::{collections::BTreeSet, ops::Range};

/// What moves along the line.
pub(super) enum Moves {
    /// The input, from the first of the line's rows to the second.
    Input,
    /// The weights, by `t` times this.
    Weights(Vec<f64>),
}

/// Weights at `t = 0`, what moves, and whose loss is looked at.
pub(super) struct Line {
    pub weights: Vec<f64>,
    pub moves: Moves,
    pub rows: Vec<u32>,
    pub range: (f64, f64),
    /// What `t` means, in words.
    pub parameter: String,
    /// The round that the weights are those before the update of.
    pub round: Option<usize>,
    /// Rounds whose weights are shown next to the segment.
    neighbours: Range<usize>,
}

/// Rows of the data whose mean loss is shown along a gradient, unless others are chosen: a neuron is rarely active on one.
const DATAPOINTS: usize = 16;
/// Rounds next to the segment, before its own and after it.
const NEIGHBOURS: (usize, usize) = (4, 3);
/// Half the length of a segment along a gradient unless told, as a share of the weights' norm. One neuron must go far to
/// change much; many weights together need not.
const REACH: f64 = 0.1;
const REACH_OF_NEURON: f64 = 0.5;

fn neighbours(round: usize) -> Range<usize> {
    round.saturating_sub(NEIGHBOURS.0).max(1)..round + NEIGHBOURS.1 + 1
}

impl Line {
    /// The line that `segment` asks for; `events` hears what is being done.
    pub fn new(
        options: &LandscapeOptions,
        segment: &SegmentOptions,
        events: &mut dyn FnMut(&str),
    ) -> Result<Line, LandscapeError> {
        let chosen = chosen_rows(options)?;
        if segment.along == Along::Input {
            return Line::of_input(options, segment);
        }
        if let Some((from, to)) = segment.through.filter(|(from, to)| from >= to) {
            return Err(LandscapeError::Value {
                option: "through",
                value: format!("{from}..{to}"),
                reason: "the first end must lie below the second".into(),
            });
        }
        match segment.along {
            Along::Update(round) => Line::of_update(options, segment, round, chosen, events),
            _ => Line::of_gradient(options, segment, chosen),
        }
    }

    /// From one row of the data to another.
    fn of_input(options: &LandscapeOptions, segment: &SegmentOptions) -> Result<Line, LandscapeError> {
        let count = options.subject.examples().len();
        let (round, weights) = options.subject.weights(options.optimizer, options.round, options.stop)?;
        let (a, b) = segment.through.unwrap_or((0.0, 1.0));
        let row = |value: f64| (value >= 0.0 && value.fract() == 0.0 && value < count as f64).then_some(value as u32);
        let (Some(a), Some(b)) = (row(a), row(b)) else {
            return Err(LandscapeError::Value {
                option: "through",
                value: format!("{a}..{b}"),
                reason: format!("along the input it names two rows of the data, from 0 to {}", count - 1),
            });
        };
        Ok(Line {
            weights,
            moves: Moves::Input,
            rows: vec![a, b],
            range: (0.0, 1.0),
            parameter: format!("input from row {a} (t = 0) to row {b} (t = 1)"),
            round,
            neighbours: 0..0,
        })
    }

    /// Against the gradient, a unit of `t` being a unit of distance.
    fn of_gradient(
        options: &LandscapeOptions,
        segment: &SegmentOptions,
        chosen: Option<Vec<u32>>,
    ) -> Result<Line, LandscapeError> {
        let (subject, along) = (options.subject, segment.along);
        let examples = subject.examples();
        let (round, weights) = subject.weights(options.optimizer, options.round, options.stop)?;
        let rows = chosen.unwrap_or_else(|| (0..DATAPOINTS.min(examples.len()) as u32).collect());
        let moving = moving_weights(&subject.network, along)?;
        let mut engine = RoundEngine::new(&subject.network, subject.loss, rows.len());
        let mut step = descent(&mut engine, &weights, &examples, &rows, moving.clone());
        let length = norm(&step[moving.clone()]);
        if length == 0.0 || !length.is_finite() {
            let reason = no_direction(&subject.network, along, engine.gradient());
            return Err(LandscapeError::Along { along: along.to_string(), reason });
        }
        step[moving.clone()].iter_mut().for_each(|step| *step /= length);
        let share = if matches!(along, Along::Neuron { .. }) { REACH_OF_NEURON } else { REACH };
        let far = share * norm(&weights[moving]);
        let default = if far > 0.0 { (-far, far) } else { (-1.0, 1.0) };
        Ok(Line {
            weights,
            moves: Moves::Weights(step),
            rows,
            range: segment.through.unwrap_or(default),
            parameter: "distance moved against the gradient".to_owned(),
            round,
            neighbours: round.map_or(0..0, neighbours),
        })
    }

    /// Along the update of a round, with its minibatch.
    fn of_update(
        options: &LandscapeOptions,
        segment: &SegmentOptions,
        round: usize,
        chosen: Option<Vec<u32>>,
        events: &mut dyn FnMut(&str),
    ) -> Result<Line, LandscapeError> {
        let run = options.subject.run(options.optimizer)?;
        events("weights before and after the update");
        let mut states = options.subject.states(run, &BTreeSet::from([round, round + 1]), options.stop)?;
        let missing =
            || LandscapeError::NoSuchRound { round: round + 1, last: run.rounds + 1, label: run.label.clone() };
        let State { weights, rows } = states.remove(&round).ok_or_else(missing)?;
        let after = states.remove(&(round + 1)).ok_or_else(missing)?;
        let step: Vec<f64> = after.weights.iter().zip(&weights).map(|(b, a)| b - a).collect();
        Ok(Line {
            weights,
            moves: Moves::Weights(step),
            rows: chosen.unwrap_or(rows),
            range: segment.through.unwrap_or((-1.0, 3.0)),
            parameter: format!("step of {} in round {round} (t = 0 before, t = 1 after the update)", run.label),
            round: Some(round),
            neighbours: neighbours(round),
        })
    }

    /// The rows whose function is shown: of two that the input moves between, the first.
    pub fn shown(&self) -> &[u32] {
        match self.moves {
            Moves::Input => &self.rows[..1],
            Moves::Weights(_) => &self.rows,
        }
    }

    /// Where the weights of neighbouring rounds lie next to a segment in weight space.
    pub fn steps(&self, options: &LandscapeOptions) -> Result<Option<Vec<StepRow>>, LandscapeError> {
        let Moves::Weights(step) = &self.moves else { return Ok(None) };
        if self.neighbours.is_empty() {
            return Ok(None);
        }
        let subject = options.subject;
        let run = subject.run(options.optimizer)?;
        let states = subject.states(run, &self.neighbours.clone().collect(), options.stop)?;
        let examples = subject.examples();
        let mut engine = RoundEngine::new(&subject.network, subject.loss, self.rows.len());
        let length = norm(step);
        let row = |(round, state): (&usize, &State)| {
            let moved: Vec<f64> = state.weights.iter().zip(&self.weights).map(|(b, a)| b - a).collect();
            let at = dot(&moved, step) / (length * length);
            let off: Vec<f64> = moved.iter().zip(step).map(|(m, d)| m - at * d).collect();
            engine.compute(&state.weights, &examples, &self.rows);
            StepRow { round: *round, at, distance: norm(&off) / length, loss: engine.loss() }
        };
        Ok(Some(states.iter().map(row).collect()))
    }
}

/// The rows of the data that were asked for, if any were.
fn chosen_rows(options: &LandscapeOptions) -> Result<Option<Vec<u32>>, LandscapeError> {
    let count = options.subject.examples().len();
    match &options.datapoints {
        Some(range) if range.is_empty() || range.end > count => Err(LandscapeError::Value {
            option: "datapoints",
            value: format!("{}..{}", range.start, range.end),
            reason: format!("the data has rows 0 to {}; write for example 0..64", count - 1),
        }),
        Some(range) => Ok(Some(range.clone().map(|row| row as u32).collect())),
        None => Ok(None),
    }
}
