//! The function along one segment.

use super::{
    LandscapeError, LandscapeOptions, Quantity, SUMMARY, SegmentOptions,
    folder::{Landscape, admit, take},
    line::{Line, Moves},
    rows::{Findings, Kind, KinkRow, PieceRow, SegmentSummary, UpdateRow, columns},
    training,
    what::{Along, What},
};
use crate::{
    landscape::{
        Change, Datapoint, Ended, Kink, Limits, Profile, Propagation, Target, profile, propagation::MERGE,
        updates::target,
    },
    network::Network,
    study::{error::StudyError, tables::write_rows, write},
    train::Examples,
};
use std::path::Path;

const KINKS: Quantity = Quantity {
    what: "the kinks and pieces of this segment",
    remedy: "choose a shorter one with --through or fewer --datapoints",
};

/// Finds all kinks along a segment, then writes its tables; `events` hears what is being done.
///
/// # Errors
/// If something that was asked for does not exist, or the tables cannot be written.
pub fn along(
    options: &LandscapeOptions,
    segment: &SegmentOptions,
    events: &mut dyn FnMut(&str),
) -> Result<Landscape, LandscapeError> {
    admit(&options.out, options.overwrite)?;
    options.check_output()?;
    let line = Line::new(options, segment, events)?;
    events("kinks and pieces");
    let limits = Limits::new(options.stop, options.memory);
    let found = find(options, &line, &limits).map_err(|why| KINKS.ended(why))?;
    options.go_on()?;
    events("steps next to the segment");
    let steps = line.steps(options)?;
    let updates = updates(options, segment, &line, &limits, events)?;
    options.go_on()?;
    let summary = findings(segment, &line, &found).summary(options)?;
    let folder = take(&options.out, options.overwrite, events)?;
    let out = &folder.path;
    write_tables(&options.subject.network, out, line.shown(), &found)?;
    if let Some(steps) = steps {
        write_rows(&out.join("steps.csv"), columns::STEPS, &steps).map_err(StudyError::from)?;
    }
    if let Some(updates) = updates {
        write_rows(&out.join("updates.csv"), columns::UPDATES, &updates).map_err(StudyError::from)?;
    }
    write::json(&out.join(SUMMARY), &summary)?;
    Ok(Landscape { summary, folder })
}

/// What the updates of the subject's runs crossed, if they are to be measured: along weights that a round had.
fn updates(
    options: &LandscapeOptions,
    segment: &SegmentOptions,
    line: &Line,
    limits: &Limits,
    events: &mut dyn FnMut(&str),
) -> Result<Option<Vec<UpdateRow>>, LandscapeError> {
    if segment.updates == 0 || line.round.is_none() || segment.along == Along::Input {
        return Ok(None);
    }
    training::updates(options.subject, segment.updates, options.stop, limits, events).map(Some)
}

fn findings<'a>(segment: &SegmentOptions, line: &'a Line, found: &Profile) -> Findings<'a> {
    Findings {
        along: What::Segment(segment.along),
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
    }
}

/// The function, its kinks and its pieces along the line, for the datapoints that are shown.
fn find(options: &LandscapeOptions, line: &Line, limits: &Limits) -> Result<Profile, Ended> {
    let subject = options.subject;
    let examples = subject.examples();
    let (input_step, target_step) = match line.moves {
        Moves::Input => between(&examples, [line.rows[0], line.rows[1]].map(|row| row as usize)),
        Moves::Weights(_) => (None, None),
    };
    let weight_step = match &line.moves {
        Moves::Input => None,
        Moves::Weights(step) => Some(&step[..]),
    };
    let datapoint = |row: &u32| {
        let row = *row as usize;
        let target = match target(&examples, row) {
            Target::Values { at, .. } => Target::Values { at, step: target_step.as_deref() },
            label => label,
        };
        Datapoint { input: input(&examples, row), step: input_step.as_deref(), target }
    };
    let datapoints: Vec<Datapoint> = line.shown().iter().map(datapoint).collect();
    let propagation = Propagation::new(&subject.network, &line.weights, weight_step).within(limits);
    profile(&propagation, &datapoints, line.range, subject.loss, options.output)
}

/// The steps of input and target from one row to another; labels have none.
fn between(examples: &Examples<f64>, [a, b]: [usize; 2]) -> (Option<Vec<f64>>, Option<Vec<f64>>) {
    let step = |a: &[f64], b: &[f64]| -> Vec<f64> { b.iter().zip(a).map(|(b, a)| b - a).collect() };
    let targets = match (target(examples, a), target(examples, b)) {
        (Target::Values { at: y, .. }, Target::Values { at: z, .. }) => Some(step(y, z)),
        _ => None,
    };
    (Some(step(input(examples, a), input(examples, b))), targets)
}

/// The input of one row of the data.
pub(super) fn input<'a>(examples: &Examples<'a, f64>, row: usize) -> &'a [f64] {
    &examples.inputs[row * examples.features..][..examples.features]
}

fn write_tables(network: &Network, out: &Path, rows: &[u32], found: &Profile) -> Result<(), LandscapeError> {
    let kinks: Vec<KinkRow> =
        found.kinks.iter().map(|(datapoint, kink)| kink_row(network, rows[*datapoint] as usize, kink)).collect();
    let pieces: Vec<PieceRow> = found.pieces.iter().map(PieceRow::from).collect();
    write_rows(&out.join("kinks.csv"), columns::KINKS, &kinks).map_err(StudyError::from)?;
    write_rows(&out.join("pieces.csv"), columns::PIECES, &pieces).map_err(StudyError::from)?;
    Ok(())
}

fn kink_row(network: &Network, datapoint: usize, kink: &Kink) -> KinkRow {
    // A pool belongs to the last block before it.
    let block = network.blocks().iter().rev().find(|block| block.layer <= kink.layer);
    let neurons = block.map_or(1, |block| block.units);
    let spatial = block.is_some_and(|block| block.images().is_some());
    KinkRow {
        datapoint,
        at: kink.at,
        layer: kink.layer,
        neuron: kink.unit % neurons,
        position: spatial.then(|| kink.unit / neurons),
        change: match kink.change {
            Change::On => "on".to_owned(),
            Change::Off => "off".to_owned(),
            Change::Winner { from, to } => format!("{from}>{to}"),
        },
    }
}
