//! The linear regions on a plane of inputs or of one layer's weights.

use super::{
    LandscapeError, LandscapeOptions, Quantity, SUMMARY, Subject,
    along::{Along, Findings, check_output, go_on, moving_weights},
    folder::{Landscape, admit, take},
    rows::{Kind, PlaneSummary, RegionRow, columns},
};
use crate::{
    kernels::real::{axpy, dot, norm},
    landscape::{
        Directions, Limits, Plane, Propagation, Region, Segment, Target, path::loss_along, regions,
        regions::RegionError, updates::target,
    },
    loss::Loss,
    study::{error::StudyError, tables::write_rows, write},
    train::{Examples, RoundEngine},
};
use std::{fmt, str::FromStr};

/// Which plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaneKind {
    /// Through three rows of the data.
    Inputs([usize; 3]),
    /// One layer's weights, against the gradients of two datapoints.
    Layer(usize),
}

impl fmt::Display for PlaneKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlaneKind::Inputs([a, b, c]) => write!(f, "plane {a},{b},{c}"),
            PlaneKind::Layer(layer) => write!(f, "plane layer {layer}"),
        }
    }
}

impl FromStr for PlaneKind {
    type Err = LandscapeError;

    /// Parses `A,B,C` and `layer L`.
    fn from_str(text: &str) -> Result<Self, LandscapeError> {
        let fail = || LandscapeError::Value {
            option: "plane",
            value: text.to_owned(),
            reason: "write three rows of the data, for example 0,1,2, or layer L".into(),
        };
        if let Some(layer) = text.strip_prefix("layer ") {
            return layer.trim().parse().map(PlaneKind::Layer).map_err(|_| fail());
        }
        let rows: Vec<usize> =
            text.split(',').map(|row| row.trim().parse()).collect::<Result<_, _>>().map_err(|_| fail())?;
        rows.try_into().map(PlaneKind::Inputs).map_err(|_| fail())
    }
}

/// Ranges of the plane's two coordinates.
pub type Ranges = [Option<(f64, f64)>; 2];

const REGIONS: Quantity =
    Quantity { what: "the regions of this plane", remedy: "choose a smaller part of it with --u and --v" };

/// More regions than a picture can show.
const MOST: usize = 200_000;

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
}

/// Finds all regions on the plane, then writes its tables. `along`, `through` and `updates` of the options are not
/// used.
///
/// # Errors
/// If something that was asked for does not exist, or the tables cannot be written.
pub fn plane(
    options: &LandscapeOptions,
    kind: PlaneKind,
    ranges: Ranges,
    events: &mut dyn FnMut(&str),
) -> Result<Landscape, LandscapeError> {
    admit(&options.out, options.overwrite)?;
    let subject = options.subject;
    check_output(subject, options.output)?;
    let (round, weights) = subject.weights(options.optimizer, options.round, options.stop)?;
    let rows = kind.rows(options)?;
    let basis = kind.basis(subject, &weights, &rows)?;
    let [u, v] = default_ranges(&basis.corners, ranges)?;
    let examples = subject.examples();
    let [d, e] = &basis.directions;
    let plane = Plane {
        weights: &weights,
        input: input(&examples, rows[0]),
        directions: match kind {
            PlaneKind::Inputs(_) => Directions::Inputs([d, e]),
            PlaneKind::Layer(_) => Directions::Weights([d, e]),
        },
        u,
        v,
    };
    events("regions");
    let limits = Limits::new(options.stop, options.memory);
    let found = regions(&subject.network, &plane, MOST, &limits).map_err(|error| match error {
        RegionError::Ended(why) => REGIONS.ended(why),
        error => kind.fail(error.to_string()),
    })?;
    go_on(options)?;
    let output = options.output.unwrap_or_else(|| most_varied(&found));
    // The loss of an input on the way between datapoints is that with the first one's target.
    let table = table(subject.loss, target(&examples, rows[0]), &found, output);
    let start = Propagation::new(&subject.network, &weights, None).path(&Segment::at_rest(plane.input, 0.0, 0.0));
    let findings = Findings {
        along: kind.to_string(),
        round,
        parameter: match kind {
            PlaneKind::Inputs(_) => "distance in the plane of the three inputs",
            PlaneKind::Layer(_) => "distance in the plane of two gradients of the layer",
        },
        range: u,
        datapoints: rows,
        pieces: found.len(),
        method: "piecewise linear: polygons in closed form".to_owned(),
        output,
        start: start.at(0.0).0[output],
        kind: Kind::Plane {
            plane: PlaneSummary {
                v_from: v.0,
                v_to: v.1,
                points: if matches!(kind, PlaneKind::Inputs(_)) { basis.corners } else { vec![[0.0, 0.0]] },
            },
        },
    };
    let summary = findings.summary(options)?;
    let folder = take(&options.out, options.overwrite, events)?;
    write_rows(&folder.path.join("regions.csv"), columns::REGIONS, &table).map_err(StudyError::from)?;
    write::json(&folder.path.join(SUMMARY), &summary)?;
    Ok(Landscape { summary, folder })
}

fn input<'a>(examples: &Examples<'a, f64>, row: usize) -> &'a [f64] {
    &examples.inputs[row * examples.features..][..examples.features]
}

impl PlaneKind {
    fn fail(self, reason: String) -> LandscapeError {
        LandscapeError::Value { option: "plane", value: self.to_string(), reason }
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
        let examples = subject.examples();
        let layer = match self {
            PlaneKind::Inputs([a, b, c]) => {
                let from = |row: usize| -> Vec<f64> {
                    input(&examples, row).iter().zip(input(&examples, a)).map(|(x, y)| x - y).collect()
                };
                let basis = Basis::new(&from(b), &from(c));
                return basis.ok_or_else(|| self.fail("the three rows lie on a line; take others".into()));
            }
            PlaneKind::Layer(layer) => layer,
        };
        let [first, second] = rows[..] else {
            return Err(self.fail("a plane of weights needs two datapoints, for example --datapoints 0..2".into()));
        };
        let moving = moving_weights(&subject.network, Along::Layer(layer))?;
        let mut engine = RoundEngine::new(&subject.network, subject.loss, 1);
        let mut against = |row: usize| {
            engine.compute(weights, &examples, &[row as u32]);
            let mut step = vec![0.0; weights.len()];
            step[moving.clone()].iter_mut().zip(&engine.gradient()[moving.clone()]).for_each(|(s, g)| *s = -g);
            step
        };
        let (d, e) = (against(first), against(second));
        let mut basis = Basis::new(&d, &e)
            .ok_or_else(|| self.fail("the two gradients are zero or lie on a line; take other --datapoints".into()))?;
        // A gradient's length says nothing about distances; a fifth of the weights' norm is a picture's size.
        let reach = 0.1 * norm(&weights[moving]).max(f64::MIN_POSITIVE);
        basis.corners = vec![[-reach, -reach], [reach, reach]];
        Ok(basis)
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
fn default_ranges(points: &[[f64; 2]], ranges: Ranges) -> Result<[(f64, f64); 2], LandscapeError> {
    let bounds = [0, 1].map(|k| {
        let of = || points.iter().map(|point| point[k]);
        (of().fold(f64::INFINITY, f64::min), of().fold(f64::NEG_INFINITY, f64::max))
    });
    let half = 0.6 * bounds.iter().map(|(low, high)| high - low).fold(0.0, f64::max);
    let mut found = [(0.0, 0.0); 2];
    for (k, (low, high)) in bounds.into_iter().enumerate() {
        let middle = 0.5 * (low + high);
        let (from, to) = ranges[k].unwrap_or((middle - half, middle + half));
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
