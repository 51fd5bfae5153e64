//! `manifest.json` of format 2.

use crate::{
    loss::Loss,
    network::LayerSpec,
    trace::{
        TargetKind,
        keys::{integers, known, tidy_input, tidy_tables},
    },
};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const KEYS: &[&str] = &[
    "format",
    "input",
    "layers",
    "loss",
    "target",
    "parameters",
    "precision",
    "optimizer",
    "data",
    "every",
    "model",
    "conversion",
    "probe",
    "rounds",
    "complete",
];

/// What losses were computed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossPrecision {
    F64,
    #[default]
    F32,
    Tf32,
    Bf16,
    F16,
}

impl LossPrecision {
    /// The spacing of numbers about 1 in what products are computed in, in that of single precision.
    pub fn spacings(self) -> f64 {
        match self {
            Self::F64 | Self::F32 => 1.0,
            // Ten bits behind the leading one, and seven.
            Self::Tf32 | Self::F16 => f64::from(1u32 << 13),
            Self::Bf16 => f64::from(1u32 << 16),
        }
    }

    /// The relative difference of losses that is usual: what is left of a few rounded products, with the factor between what single
    /// precision usually leaves and its spacing.
    pub fn usual(self) -> f64 {
        match self {
            Self::F64 | Self::F32 => 1e-4,
            Self::Tf32 | Self::F16 => 5e-3,
            Self::Bf16 => 3e-2,
        }
    }

    /// Whether gradients are too coarse to be compared with steps.
    pub fn is_half(self) -> bool {
        matches!(self, Self::Bf16 | Self::F16)
    }

    /// The word for it in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }
}

/// `manifest.json` of format 2.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct RecordedManifest {
    #[serde(default)]
    pub input: Vec<usize>,
    /// `None` of a model that is no list of layers that the engine knows.
    #[serde(default)]
    pub layers: Option<Vec<LayerSpec>>,
    /// Its name, which need not be one that the engine knows.
    pub loss: String,
    pub target: TargetKind,
    /// Names of parameters by layer and kind: `"0.weight"`.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    #[serde(default)]
    pub precision: LossPrecision,
    #[serde(default)]
    pub optimizer: Map<String, Value>,
    #[serde(default)]
    pub data: Map<String, Value>,
    /// Why there are no layers.
    #[serde(default)]
    pub conversion: Option<String>,
    /// Rows of the data in the probe set.
    #[serde(default)]
    pub probe: Option<Vec<u32>>,
    /// Of the whole training, if it was closed.
    #[serde(default)]
    pub rounds: Option<usize>,
    #[serde(default)]
    pub complete: bool,
}

impl RecordedManifest {
    /// From the keys of the file.
    ///
    /// # Errors
    /// If a key is unknown, missing, or has a value of the wrong kind.
    pub fn parse(mut keys: Map<String, Value>) -> Result<Self, String> {
        // What is null is not there.
        keys.retain(|_, value| !value.is_null());
        known(&keys, KEYS, &["format", "loss", "target"])?;
        integers(&mut keys, &["format", "every", "rounds"])?;
        if keys.contains_key("input") {
            tidy_input(&mut keys)?;
        }
        tidy_tables(&mut keys)?;
        if let Some(model) = keys.get("model").filter(|model| !model.is_string()) {
            return Err(format!("\"model\" is {model}; write a text, or leave it out"));
        }
        serde_json::from_value(Value::Object(keys)).map_err(|e| e.to_string())
    }

    /// What the engine computes with.
    ///
    /// # Errors
    /// If the model or its loss are none that it knows.
    pub fn for_the_engine(&self) -> Result<(&[LayerSpec], Loss), String> {
        let Some(layers) = &self.layers else {
            let why = match self.conversion.as_deref() {
                Some(why) => format!(": {why}"),
                None => String::new(),
            };
            return Err(format!("has no \"layers\"{why}"));
        };
        if self.input.is_empty() {
            return Err("has no \"input\", the sizes of one input".to_owned());
        }
        match serde_json::from_value(Value::String(self.loss.clone())) {
            Ok(loss) => Ok((layers, loss)),
            Err(_) => Err(format!("has the loss \"{}\", which is neither mse nor cross_entropy", self.loss)),
        }
    }
}
