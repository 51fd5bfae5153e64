//! The linear regions on a plane of inputs or of one layer's weights.

use super::{
    LandscapeError, LandscapeOptions, PlaneOptions, Quantity, SUMMARY, Subject,
    along::input,
    direction::{descent, moving_weights},
    folder::{Landscape, admit, take},
    rows::{Findings, Kind, PlaneSummary, RegionRow, columns},
    what::{Along, PlaneKind, What},
};
use crate::{
    landscape::{
        Directions, Limits, Plane, Propagation, Region, Segment, Target, path::loss_along, regions,
        regions::RegionError, updates::target,
    },
    loss::Loss,
    num::{axpy, dot, norm},
    study::{error::StudyError, tables::write_rows, write},
    train::{Examples, RoundEngine},
};
use std::ops::Range;

const REGIONS: Quantity =
    Quantity { what: "the regions of this plane", remedy: "choose a smaller part of it with --u and --v" };

/// More regions than a picture can show.
const MOST: usize = 200_000;

/// Half the side of a picture of weights, as a share of their norm.
const REACH: f64 = 0.1;

/// An orthonormal basis of the plane and the coordinates of the points that span it.
struct Basis {
    directions: [Vec<f64>; 2],
    corners: Vec<[f64; 2]>,
}

impl Basis {
    /// From two vectors; `None` if they lie on a line.
    fn new(d: &[f64], e: &[f64]) -> Option<Basis> {
        let length = norm(d);
        let unit = |v: &[f64], length: f64| -> Vec<f64> { v.iter().map(|v| v / length).collect() };
        let first = unit(d, length);
        let along = dot(e, &first);
        let mut rest = e.to_vec();
        axpy(-along, &first, &mut rest);
        let height = norm(&rest);
        (length > 0.0 && height > 1e-9 * norm(e)).then(|| Basis {
            directions: [first, unit(&rest, height)],
            corners: vec![[0.0, 0.0], [length, 0.0], [along, height]],
        })
    }
    /// From the first of three rows of the data to the other two.
    fn of_inputs(examples: &Examples<f64>, [a, b, c]: [usize; 3]) -> Option<Basis> {
        let from = |row: usize| -> Vec<f64> {
            input(examples, row).iter().zip(input(examples, a)).map(|(x, y)| x - y).collect()
        };
        Basis::new(&from(b), &from(c))
    }

    /// Against the gradients of two rows of the data in the weights `moving`.
    fn of_gradients(subject: &Subject, weights: &[f64], rows: [usize; 2], moving: Range<usize>) -> Option<Basis> {
        let examples = subject.examples();
        let mut engine = RoundEngine::new(&subject.network, subject.loss, 1);
        let [d, e] = rows.map(|row| descent(&mut engine, weights, &examples, &[row as u32], moving.clone()));
        let mut basis = Basis::new(&d, &e)?;
        // A gradient's length says nothing about distances.
        let reach = REACH * norm(&weights[moving]).max(f64::MIN_POSITIVE);
        basis.corners = vec![[-reach, -reach], [reach, reach]];
        Some(basis)
    }
}

/// Finds all regions on the plane, then writes its tables.
///
/// # Errors
/// If something that was asked for does not exist, or the tables cannot be written.
pub fn plane(
    options: &LandscapeOptions,
    PlaneOptions { kind, ranges: asked }: PlaneOptions,
    events: &mut dyn FnMut(&str),
) -> Result<Landscape, LandscapeError> {
    admit(&options.out, options.overwrite)?;
    options.check_output()?;
    let subject = options.subject;
    let (round, weights) = subject.weights(options.optimizer, options.round, options.stop)?;
    let rows = kind.rows(options)?;
    let basis = kind.basis(subject, &weights, &rows)?;
    let [u, v] = ranges(&basis.corners, asked)?;
    let examples = subject.examples();
    let [d, e] = &basis.directions;
    let directions = match kind {
        PlaneKind::Inputs(_) => Directions::Inputs([d, e]),
        PlaneKind::Layer(_) => Directions::Weights([d, e]),
    };
    let plane = Plane { weights: &weights, input: input(&examples, rows[0]), directions, u, v };
    events("regions");
    let found = find(options, kind, &plane)?;
    options.go_on()?;
    let output = options.output.unwrap_or_else(|| most_varied(&found));
    // The loss of an input on the way between datapoints is that with the first one's target.
    let table = table(subject.loss, target(&examples, rows[0]), &found, output);
    let start = Propagation::new(&subject.network, &weights, None).path(&Segment::at_rest(plane.input, 0.0, 0.0));
    let findings = Findings {
        along: What::Plane(kind),
        round,
        parameter: kind.parameter(),
        range: u,
        datapoints: rows,
        pieces: found.len(),
        method: "piecewise linear: polygons in closed form".to_owned(),
        output,
        start: start.at(0.0).0[output],
        kind: Kind::Plane { plane: PlaneSummary { v_from: v.0, v_to: v.1, points: kind.points(basis) } },
    };
    let summary = findings.summary(options)?;
    let folder = take(&options.out, options.overwrite, events)?;
    write_rows(&folder.path.join("regions.csv"), columns::REGIONS, &table).map_err(StudyError::from)?;
    write::json(&folder.path.join(SUMMARY), &summary)?;
    Ok(Landscape { summary, folder })
}

fn find(options: &LandscapeOptions, kind: PlaneKind, plane: &Plane) -> Result<Vec<Region>, LandscapeError> {
    let limits = Limits::new(options.stop, options.memory);
    regions(&options.subject.network, plane, MOST, &limits).map_err(|error| match error {
        RegionError::Ended(why) => REGIONS.ended(why),
        error => kind.fail(error.to_string()),
    })
}

impl PlaneKind {
    fn fail(self, reason: String) -> LandscapeError {
        LandscapeError::Value { option: "plane", value: self.to_string(), reason }
    }

    /// What the coordinates mean, in words.
    fn parameter(self) -> &'static str {
        match self {
            PlaneKind::Inputs(_) => "distance in the plane of the three inputs",
            PlaneKind::Layer(_) => "distance in the plane of two gradients of the layer",
        }
    }

    /// The points that are marked: the three inputs, or the weights as they are.
    fn points(self, basis: Basis) -> Vec<[f64; 2]> {
        match self {
            PlaneKind::Inputs(_) => basis.corners,
            PlaneKind::Layer(_) => vec![[0.0, 0.0]],
        }
    }

    /// The rows of the data that span the plane.
    fn rows(self, options: &LandscapeOptions) -> Result<Vec<usize>, LandscapeError> {
        let rows: Vec<usize> = match self {
            PlaneKind::Inputs(rows) => rows.to_vec(),
            PlaneKind::Layer(_) => options.datapoints.clone().map_or(vec![0, 1], Iterator::collect),
        };
        let count = options.subject.examples().len();
        match rows.iter().find(|row| **row >= count) {
            Some(row) => Err(self.fail(format!("row {row} does not exist; the data has rows 0 to {}", count - 1))),
            None => Ok(rows),
        }
    }

    fn basis(self, subject: &Subject, weights: &[f64], rows: &[usize]) -> Result<Basis, LandscapeError> {
        match self {
            PlaneKind::Inputs(rows) => Basis::of_inputs(&subject.examples(), rows)
                .ok_or_else(|| self.fail("the three rows lie on a line; take others".into())),
            PlaneKind::Layer(layer) => {
                let &[first, second] = rows else {
                    let reason = "a plane of weights needs two datapoints, for example --datapoints 0..2";
                    return Err(self.fail(reason.into()));
                };
                let moving = moving_weights(&subject.network, Along::Layer(layer))?;
                let reason = "the two gradients are zero or lie on a line; take other --datapoints";
                Basis::of_gradients(subject, weights, [first, second], moving).ok_or_else(|| self.fail(reason.into()))
            }
        }
    }
}

/// A row for each region, with one output and the loss with the target `goal`.
fn table(loss: Loss, goal: Target, found: &[Region], output: usize) -> Vec<RegionRow> {
    let row = |region: &Region| {
        let f = region.at(region.middle());
        let [_, g, h] = &region.outputs;
        RegionRow {
            area: region.area(),
            value: f[output],
            slope: g[output].hypot(h[output]),
            loss: loss_along(loss, &f, g, goal, 0.0).0,
            polygon: region.polygon.iter().map(|[u, v]| format!("{u} {v}")).collect::<Vec<_>>().join(" "),
        }
    };
    found.iter().map(row).collect()
}

/// The ranges asked for, or a square around the points with some room.
fn ranges(points: &[[f64; 2]], asked: [Option<(f64, f64)>; 2]) -> Result<[(f64, f64); 2], LandscapeError> {
    let bounds = [0, 1].map(|k| {
        let of = || points.iter().map(|point| point[k]);
        (of().fold(f64::INFINITY, f64::min), of().fold(f64::NEG_INFINITY, f64::max))
    });
    let half = 0.6 * bounds.iter().map(|(low, high)| high - low).fold(0.0, f64::max);
    let mut found = [(0.0, 0.0); 2];
    for (k, (low, high)) in bounds.into_iter().enumerate() {
        let middle = 0.5 * (low + high);
        let (from, to) = asked[k].unwrap_or((middle - half, middle + half));
        if from >= to {
            return Err(LandscapeError::Value {
                option: ["u", "v"][k],
                value: format!("{from}..{to}"),
                reason: "the first end must lie below the second".into(),
            });
        }
        found[k] = (from, to);
    }
    Ok(found)
}

/// The output whose slope has the largest variance over the plane.
fn most_varied(regions: &[Region]) -> usize {
    let outputs = regions[0].outputs[0].len();
    let total: f64 = regions.iter().map(Region::area).sum();
    let variance = |k: usize| -> f64 {
        [1, 2]
            .map(|plane| {
                let mean = |value: &dyn Fn(&Region) -> f64| -> f64 {
                    regions.iter().map(|region| region.area() * value(region)).sum::<f64>() / total
                };
                let middle = mean(&|region| region.outputs[plane][k]);
                mean(&|region| (region.outputs[plane][k] - middle).powi(2))
            })
            .iter()
            .sum()
    };
    let variances: Vec<f64> = (0..outputs).map(variance).collect();
    (1..outputs).fold(0, |best, k| if variances[k] > variances[best] { k } else { best })
}
