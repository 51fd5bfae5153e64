//! The linear regions on a plane of inputs or of one layer's weights.

use super::{
    LandscapeError, LandscapeOptions, SUMMARY,
    along::{Along, moving_weights, remove},
    rows::{LandscapeSummary, PlaneSummary, RegionRow, columns},
    subject::prepare,
};
use crate::{
    kernels::real::{axpy, dot, norm},
    landscape::{Directions, Plane, Propagation, Region, Segment, path::loss_along, regions, updates::target},
    study::{StudyError, run::write_json, tables::write_rows},
    train::RoundEngine,
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

/// Finds all regions on the plane and writes its tables. `along`, `through` and `updates` of the options are not used.
///
/// # Errors
/// If something that was asked for does not exist, or the tables cannot be written.
pub fn plane(
    options: &LandscapeOptions,
    kind: PlaneKind,
    ranges: Ranges,
    events: &mut dyn FnMut(&str),
) -> Result<LandscapeSummary, LandscapeError> {
    let subject = options.subject;
    let (round, weights) = subject.weights(options.optimizer, options.round, options.data)?;
    let examples = subject.examples();
    let input = |row: usize| &examples.inputs[row * examples.features..][..examples.features];
    let fail = |reason: String| LandscapeError::Value { option: "plane", value: kind.to_string(), reason };
    let rows: Vec<usize> = match kind {
        PlaneKind::Inputs(rows) => rows.to_vec(),
        PlaneKind::Layer(_) => options.datapoints.clone().map_or(vec![0, 1], Iterator::collect),
    };
    if let Some(row) = rows.iter().find(|row| **row >= examples.len()) {
        return Err(fail(format!("row {row} does not exist; the data has rows 0 to {}", examples.len() - 1)));
    }
    let basis = match kind {
        PlaneKind::Inputs([a, b, c]) => {
            let from = |row: usize| -> Vec<f64> { input(row).iter().zip(input(a)).map(|(x, y)| x - y).collect() };
            Basis::new(&from(b), &from(c)).ok_or_else(|| fail("the three rows lie on a line; take others".into()))?
        }
        PlaneKind::Layer(layer) => {
            let [first, second] = rows[..] else {
                return Err(fail("a plane of weights needs two datapoints, for example --datapoints 0..2".into()));
            };
            let moving = moving_weights(&subject.network, Along::Layer(layer))?;
            let mut engine = RoundEngine::new(&subject.network, subject.loss, 1);
            let mut against = |row: usize| {
                engine.compute(&weights, &examples, &[row as u32]);
                let mut step = vec![0.0; weights.len()];
                step[moving.clone()].iter_mut().zip(&engine.gradient()[moving.clone()]).for_each(|(s, g)| *s = -g);
                step
            };
            let (d, e) = (against(first), against(second));
            let mut basis = Basis::new(&d, &e)
                .ok_or_else(|| fail("the two gradients are zero or lie on a line; take other --datapoints".into()))?;
            // A gradient's length says nothing about distances; a fifth of the weights' norm is a picture's size.
            let reach = 0.1 * norm(&weights[moving]).max(f64::MIN_POSITIVE);
            basis.corners = vec![[-reach, -reach], [reach, reach]];
            basis
        }
    };
    let ranges = default_ranges(&basis.corners, ranges)?;
    let [d, e] = &basis.directions;
    let first = rows[0];
    let plane = Plane {
        weights: &weights,
        input: input(first),
        directions: match kind {
            PlaneKind::Inputs(_) => Directions::Inputs([d, e]),
            PlaneKind::Layer(_) => Directions::Weights([d, e]),
        },
        u: ranges[0],
        v: ranges[1],
    };
    events("regions");
    let found = regions(&subject.network, &plane, MOST).map_err(|error| fail(error.to_string()))?;
    let output = match options.output {
        Some(output) if output < subject.network.outputs() => output,
        Some(output) => {
            let reason = format!("the network has outputs 0 to {}", subject.network.outputs() - 1);
            return Err(LandscapeError::Value { option: "output", value: output.to_string(), reason });
        }
        None => most_varied(&found),
    };
    // The loss of an input on the way between datapoints is that with the first one's target.
    let goal = target(&examples, first);
    let table: Vec<RegionRow> = found
        .iter()
        .map(|region| {
            let f = region.at(region.middle());
            let [_, g, h] = &region.outputs;
            RegionRow {
                area: region.area(),
                value: f[output],
                slope: g[output].hypot(h[output]),
                loss: loss_along(subject.loss, &f, g, goal, 0.0).0,
                polygon: region.polygon.iter().map(|[u, v]| format!("{u} {v}")).collect::<Vec<_>>().join(" "),
            }
        })
        .collect();
    prepare(options.out, options.overwrite)?;
    write_rows(&options.out.join("regions.csv"), columns::REGIONS, &table).map_err(StudyError::from)?;
    for name in ["kinks.csv", "pieces.csv", "steps.csv", "updates.csv"] {
        remove(options.out, name)?;
    }
    let start = Propagation::new(&subject.network, &weights, None).path(&Segment::at_rest(plane.input, 0.0, 0.0));
    let summary = LandscapeSummary {
        format: 1,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        subject: subject.describe(options.optimizer, round)?,
        dataset: subject.dataset.clone(),
        loss: subject.loss.name().to_owned(),
        layers: subject.network.describe(),
        along: kind.to_string(),
        parameter: match kind {
            PlaneKind::Inputs(_) => "distance in the plane of the three inputs".to_owned(),
            PlaneKind::Layer(_) => "distance in the plane of two gradients of the layer".to_owned(),
        },
        from: ranges[0].0,
        to: ranges[0].1,
        datapoints: rows,
        kinks: 0,
        pieces: found.len(),
        degree: 1,
        method: "piecewise linear: polygons in closed form".to_owned(),
        output,
        start: start.at(0.0).0[output],
        start_slope: 0.0,
        plane: Some(PlaneSummary {
            v_from: ranges[1].0,
            v_to: ranges[1].1,
            points: if matches!(kind, PlaneKind::Inputs(_)) { basis.corners } else { vec![[0.0, 0.0]] },
        }),
    };
    write_json(&options.out.join(SUMMARY), &summary)?;
    Ok(summary)
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
