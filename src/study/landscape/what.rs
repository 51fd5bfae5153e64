//! What a landscape is along, as people write it: a segment or a plane.

use super::LandscapeError;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

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
            PlaneKind::Inputs([a, b, c]) => write!(f, "{a},{b},{c}"),
            PlaneKind::Layer(layer) => write!(f, "layer {layer}"),
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

/// A segment or a plane: `gradient`, `plane 0,1,2`. Files have it in these words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum What {
    Segment(Along),
    Plane(PlaneKind),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Segment(along) => along.fmt(f),
            What::Plane(kind) => write!(f, "plane {kind}"),
        }
    }
}

impl From<What> for String {
    fn from(what: What) -> String {
        what.to_string()
    }
}

impl TryFrom<String> for What {
    type Error = LandscapeError;

    fn try_from(text: String) -> Result<Self, LandscapeError> {
        match text.strip_prefix("plane ") {
            Some(kind) => kind.parse().map(What::Plane),
            None => text.parse().map(What::Segment),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for text in ["input", "neuron 2.5", "layer 4", "gradient", "update 10", "plane 0,1,2", "plane layer 4"] {
            assert_eq!(What::try_from(text.to_owned()).unwrap().to_string(), text);
        }
        for text in ["", "neuron", "neuron 2", "update 0", "plane", "plane 0,1", "plane layer x", "gradient 3"] {
            assert!(What::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
