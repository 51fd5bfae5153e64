//! The rows of the landscape tables; one field is one column (`docs/formats.md`).

use super::{LandscapeError, LandscapeOptions, what::What};
use crate::landscape::ProfilePiece;
use serde::{Deserialize, Serialize};
use std::fmt;

/// `kinks.csv`: one kink of one datapoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KinkRow {
    /// Row of the data; along an input, the row that the segment begins at.
    pub datapoint: usize,
    /// The segment's parameter.
    pub at: f64,
    pub layer: usize,
    /// Row of a dense layer, filter of a convolution, channel of a pool.
    pub neuron: usize,
    /// Position in the image or window of the pool, in row-major order; empty for dense layers.
    pub position: Option<usize>,
    /// `on` or `off`: whether the neuron becomes active or ceases to be; `0>3`: the winner of a pooling window.
    pub change: String,
}

/// `pieces.csv`: the function between two neighbouring kinks, at the left and (`_end`) at the right end of the piece.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PieceRow {
    pub from: f64,
    pub to: f64,
    /// Mean loss of the datapoints.
    pub loss: f64,
    pub loss_end: f64,
    /// Its derivative in the segment's parameter.
    pub slope: f64,
    pub slope_end: f64,
    /// The Taylor loss of `t = 0`.
    pub taylor: f64,
    pub taylor_end: f64,
    pub taylor_slope: f64,
    pub taylor_slope_end: f64,
    /// One output of the first datapoint.
    pub output: f64,
    pub output_end: f64,
    pub output_slope: f64,
    pub output_slope_end: f64,
}

impl From<&ProfilePiece> for PieceRow {
    fn from(piece: &ProfilePiece) -> Self {
        let ([loss, loss_end], [taylor, taylor_end]) = (piece.loss, piece.taylor);
        let [output, output_end] = piece.output;
        PieceRow {
            from: piece.from,
            to: piece.to,
            loss: loss.value,
            loss_end: loss_end.value,
            slope: loss.slope,
            slope_end: loss_end.slope,
            taylor: taylor.value,
            taylor_end: taylor_end.value,
            taylor_slope: taylor.slope,
            taylor_slope_end: taylor_end.slope,
            output: output.value,
            output_end: output_end.value,
            output_slope: output.slope,
            output_slope_end: output_end.slope,
        }
    }
}

/// `steps.csv`: where the weights of a round lie next to the segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRow {
    /// The weights before this round's update.
    pub round: usize,
    /// The parameter of the nearest point of the segment's line.
    pub at: f64,
    /// The distance from that point, in the unit of the parameter.
    pub distance: f64,
    /// Mean loss of the datapoints at these weights.
    pub loss: f64,
}

/// `updates.csv`: what one update of an optimizer crossed, and what its Taylor loss predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateRow {
    pub optimizer: String,
    pub round: usize,
    /// The minibatch loss before the update.
    pub loss: f64,
    /// The loss of the same minibatch after it.
    pub loss_after: f64,
    /// The network's Taylor loss at the new weights.
    pub taylor_loss: f64,
    /// The loss before plus gradient times step.
    pub first_order_loss: f64,
    /// Length of the step.
    pub step: f64,
    /// Kinks on the straight way, mean per datapoint.
    pub kinks: f64,
    /// Units in another state after the update, mean per datapoint.
    pub changed: f64,
    /// Cosine of the minibatch gradients before and after; empty if one is zero.
    pub cosine: Option<f64>,
}

/// How the networks of `growth.csv` and `functions.csv` come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Constructed: a tent map composed with itself.
    Tent,
    /// He-uniform weights, zero biases.
    Random,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Tent => "tent",
            Origin::Random => "random",
        })
    }
}

/// `growth.csv`: kinks along a segment against the size of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrowthRow {
    pub network: Origin,
    /// Hidden layers.
    pub depth: usize,
    /// Units of each hidden layer.
    pub width: usize,
    /// Hidden units.
    pub units: usize,
    /// Networks (and segments) that were averaged.
    pub samples: usize,
    pub mean_kinks: f64,
    pub least_kinks: usize,
    pub most_kinks: usize,
    /// Standard deviation over the samples; empty with fewer than two, absent from tables of version 0.1.0.
    #[serde(default)]
    pub deviation: Option<f64>,
}

/// `autocorrelation.csv`: of the gradient along a segment, for random networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AutocorrelationRow {
    pub depth: usize,
    pub width: usize,
    /// As a fraction of the segment.
    pub lag: f64,
    pub autocorrelation: f64,
    /// By the jackknife over the samples; empty with fewer than two, absent from tables of version 0.1.0.
    #[serde(default)]
    pub standard_error: Option<f64>,
}

/// `functions.csv`: one output of an example network along a segment, linear on each piece.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionRow {
    pub network: Origin,
    pub depth: usize,
    pub width: usize,
    pub from: f64,
    pub to: f64,
    pub value: f64,
    pub value_end: f64,
    pub slope: f64,
}

/// `landscape.json`: what was looked at and what was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LandscapeSummary {
    /// Version of this format; 1.
    pub format: u32,
    pub version: String,
    /// What the weights are those of, in words.
    pub subject: String,
    pub dataset: String,
    pub loss: String,
    pub layers: Vec<String>,
    pub along: What,
    /// What the parameter means, in words.
    pub parameter: String,
    pub from: f64,
    pub to: f64,
    /// Rows of the data; along an input the two that the segment joins.
    pub datapoints: Vec<usize>,
    /// Of a segment between kinks; of a plane its regions.
    pub pieces: usize,
    /// How they were found, in words.
    pub method: String,
    /// The output that `pieces.csv` or `regions.csv` shows, and its value at `t = 0` or at the origin of the plane.
    pub output: usize,
    pub start: f64,
    #[serde(flatten)]
    pub kind: Kind,
}

/// What a landscape is of, with what only that has. Older files have the keys of a segment for planes, too; they mean
/// nothing there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Kind {
    /// `from` and `to` are the range of the first coordinate.
    Plane {
        plane: PlaneSummary,
    },
    Segment(SegmentSummary),
}

/// What a segment has beyond a plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentSummary {
    pub kinks: usize,
    /// The largest power of the parameter in the outputs between kinks; 1: piecewise linear.
    pub degree: usize,
    /// Slope of the output at `t = 0`.
    pub start_slope: f64,
}

/// What a plane has beyond a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlaneSummary {
    /// Range of the second coordinate.
    pub v_from: f64,
    pub v_to: f64,
    /// The datapoints that span it, or the weights as they are.
    pub points: Vec<[f64; 2]>,
}

/// What `landscape.json` says apart from its subject.
pub(super) struct Findings<'a> {
    pub along: What,
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

/// `regions.csv`: one polygon of a plane, on which the network is affine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionRow {
    pub area: f64,
    /// One output, and the loss with the first datapoint's target, at the mean of the corners.
    pub value: f64,
    /// Length of the output's gradient in the plane.
    pub slope: f64,
    pub loss: f64,
    /// Corners `u v u v ...`, counterclockwise.
    pub polygon: String,
}

/// The column names of each table, in order.
pub mod columns {
    pub const KINKS: &[&str] = &["datapoint", "at", "layer", "neuron", "position", "change"];
    pub const PIECES: &[&str] = &[
        "from",
        "to",
        "loss",
        "loss_end",
        "slope",
        "slope_end",
        "taylor",
        "taylor_end",
        "taylor_slope",
        "taylor_slope_end",
        "output",
        "output_end",
        "output_slope",
        "output_slope_end",
    ];
    pub const STEPS: &[&str] = &["round", "at", "distance", "loss"];
    pub const UPDATES: &[&str] = &[
        "optimizer",
        "round",
        "loss",
        "loss_after",
        "taylor_loss",
        "first_order_loss",
        "step",
        "kinks",
        "changed",
        "cosine",
    ];
    pub const REGIONS: &[&str] = &["area", "value", "slope", "loss", "polygon"];
    pub const GROWTH: &[&str] =
        &["network", "depth", "width", "units", "samples", "mean_kinks", "least_kinks", "most_kinks", "deviation"];
    pub const AUTOCORRELATION: &[&str] = &["depth", "width", "lag", "autocorrelation", "standard_error"];
    pub const FUNCTIONS: &[&str] = &["network", "depth", "width", "from", "to", "value", "value_end", "slope"];
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn summaries_of_either_kind_are_read_and_those_of_older_versions() {
        let common = json!({
            "format": 1, "version": "0.1.0", "subject": "a", "dataset": "digits", "loss": "mse",
            "layers": ["dense 2 -> 2"], "along": "gradient", "parameter": "t", "from": -0.1, "to": 0.1, "datapoints": [0],
            "pieces": 3, "method": "m", "output": 1, "start": 0.5
        });
        let with = |more: serde_json::Value| {
            let mut all = common.clone();
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let read: LandscapeSummary = serde_json::from_value(all.clone()).unwrap();
            (read.kind.clone(), serde_json::to_value(read).unwrap() == all)
        };
        let segment = json!({ "kinks": 2, "degree": 1, "start_slope": 0.25 });
        let plane = json!({ "plane": { "v_from": -1.0, "v_to": 1.0, "points": [[0.0, 0.0]] } });
        let slope = SegmentSummary { kinks: 2, degree: 1, start_slope: 0.25 };
        assert_eq!(with(segment), (Kind::Segment(slope), true));
        let flat = Kind::Plane { plane: PlaneSummary { v_from: -1.0, v_to: 1.0, points: vec![[0.0, 0.0]] } };
        assert_eq!(with(plane.clone()), (flat.clone(), true));
        let mut old = json!({ "kinks": 0, "degree": 1, "start_slope": 0.0 });
        old.as_object_mut().unwrap().extend(plane.as_object().unwrap().clone());
        assert_eq!(with(old), (flat, false));
    }
}
