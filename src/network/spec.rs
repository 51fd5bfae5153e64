//! The layers of a network, their shapes, and how they lie in the flat weight vector.

use crate::kernels::Real;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{fmt, ops::Range};

/// A piecewise-linear unit `s(a)` with `s(a) = a` for `a > 0`.
///
/// The derivative at 0 is that of PyTorch: 0 for ReLU and the absolute value, the negative slope for leaky ReLU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rectifier {
    Relu,
    LeakyRelu { slope: f64 },
    Abs,
}

impl Rectifier {
    /// The slope for `a < 0`.
    pub fn negative_slope(self) -> f64 {
        match self {
            Rectifier::Relu => 0.0,
            Rectifier::LeakyRelu { slope } => slope,
            Rectifier::Abs => -1.0,
        }
    }

    /// The derivative chosen at the kink `a = 0`.
    pub fn slope_at_zero(self) -> f64 {
        match self {
            Rectifier::Relu | Rectifier::Abs => 0.0,
            Rectifier::LeakyRelu { slope } => slope,
        }
    }

    /// The derivative `s'(a)`; as `s` is piecewise linear through 0, also `s(a) = s'(a) a`.
    #[inline]
    pub fn derivative<T: Real>(self, a: T) -> T {
        if a > T::ZERO {
            T::ONE
        } else if a < T::ZERO {
            T::of(self.negative_slope())
        } else {
            T::of(self.slope_at_zero())
        }
    }
}

/// One entry of the layer list of an experiment file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LayerSpec {
    /// Fully connected with a bias.
    Dense {
        units: usize,
    },
    Rectifier(Rectifier),
}

/// The names that a layer list may use, for error texts.
pub const LAYER_NAMES: &[&str] = &["dense", "relu", "leaky_relu", "abs"];

impl LayerSpec {
    /// Parses the plain-text form: `relu`, `leaky_relu`, `abs`.
    fn from_name(name: &str) -> Result<Self, String> {
        match name {
            "relu" => Ok(LayerSpec::Rectifier(Rectifier::Relu)),
            "leaky_relu" => Ok(LayerSpec::Rectifier(Rectifier::LeakyRelu { slope: 0.01 })),
            "abs" => Ok(LayerSpec::Rectifier(Rectifier::Abs)),
            "dense" => Err("a dense layer needs its number of units: write { dense = 50 }".into()),
            other => Err(format!("unknown layer \"{other}\"{}", crate::text::suggestion(other, LAYER_NAMES))),
        }
    }
}

impl fmt::Display for LayerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayerSpec::Dense { units } => write!(f, "dense {units}"),
            LayerSpec::Rectifier(Rectifier::Relu) => f.write_str("relu"),
            LayerSpec::Rectifier(Rectifier::LeakyRelu { slope }) => write!(f, "leaky_relu {slope}"),
            LayerSpec::Rectifier(Rectifier::Abs) => f.write_str("abs"),
        }
    }
}

impl Serialize for LayerSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        match self {
            LayerSpec::Dense { units } => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("dense", units)?;
                map.end()
            }
            LayerSpec::Rectifier(Rectifier::LeakyRelu { slope }) if *slope != 0.01 => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("leaky_relu", slope)?;
                map.end()
            }
            LayerSpec::Rectifier(Rectifier::Relu) => serializer.serialize_str("relu"),
            LayerSpec::Rectifier(Rectifier::LeakyRelu { .. }) => serializer.serialize_str("leaky_relu"),
            LayerSpec::Rectifier(Rectifier::Abs) => serializer.serialize_str("abs"),
        }
    }
}

impl<'de> Deserialize<'de> for LayerSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = LayerSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a layer: \"relu\", \"leaky_relu\", \"abs\" or { dense = UNITS }")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<LayerSpec, E> {
                LayerSpec::from_name(name).map_err(E::custom)
            }

            fn visit_map<M: serde::de::MapAccess<'de>>(self, mut map: M) -> Result<LayerSpec, M::Error> {
                let Some(key) = map.next_key::<String>()? else {
                    return Err(M::Error::custom("an empty layer; write for example { dense = 50 }"));
                };
                let layer = match key.as_str() {
                    "dense" => match map.next_value::<i64>()? {
                        units @ 1.. => LayerSpec::Dense { units: units as usize },
                        units => {
                            return Err(M::Error::custom(format!("dense = {units}: a layer needs at least one unit")));
                        }
                    },
                    "leaky_relu" => {
                        let slope = map.next_value::<f64>()?;
                        if !slope.is_finite() {
                            return Err(M::Error::custom("leaky_relu: the slope must be finite"));
                        }
                        LayerSpec::Rectifier(Rectifier::LeakyRelu { slope })
                    }
                    "relu" | "abs" => {
                        return Err(M::Error::custom(format!("{key} takes no value: write \"{key}\"")));
                    }
                    other => {
                        let near = crate::text::suggestion(other, LAYER_NAMES);
                        return Err(M::Error::custom(format!("unknown layer \"{other}\"{near}")));
                    }
                };
                if let Some(second) = map.next_key::<String>()? {
                    return Err(M::Error::custom(format!("a layer has one key; \"{second}\" follows \"{key}\"")));
                }
                Ok(layer)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A dense layer together with the rectifier behind it.
///
/// Its weights are the range [`Block::range`] of the flat weight vector: a row-major matrix
/// `[units, inputs + 1]` whose last column is the bias, so that a neuron's weight vector is one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Index of the dense layer in the layer list.
    pub layer: usize,
    pub inputs: usize,
    pub units: usize,
    /// Where its weights start in the flat vector.
    pub offset: usize,
    /// The rectifier behind it, if there is one.
    pub rectifier: Option<Rectifier>,
}

impl Block {
    /// Weights per neuron: its inputs and its bias.
    pub fn width(&self) -> usize {
        self.inputs + 1
    }

    /// The block's weights in the flat vector.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.units * self.width()
    }

    /// One neuron's weights in the flat vector.
    pub fn neuron(&self, neuron: usize) -> Range<usize> {
        let start = self.offset + neuron * self.width();
        start..start + self.width()
    }
}

/// A checked stack of layers: every shape fits and the output is linear.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    inputs: usize,
    layers: Vec<LayerSpec>,
    blocks: Vec<Block>,
}

/// A layer list that makes no network.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NetworkError {
    #[error("the network has no dense layer; add one, for example layers = [{{ dense = 10 }}]")]
    NoDenseLayer,
    #[error("the network has no inputs; the dataset gives the input size")]
    NoInputs,
    #[error("layer {layer} ({text}) stands {place}; a rectifier must stand directly behind a dense layer, one at most")]
    MisplacedRectifier { layer: usize, text: String, place: &'static str },
    #[error("the last layer ({text}) is a rectifier, but the output must be linear: end with a dense layer")]
    RectifiedOutput { text: String },
    #[error("layer {layer} has too many weights to address ({inputs} x {units}); make it smaller")]
    TooLarge { layer: usize, inputs: usize, units: usize },
    #[error(
        "the network ends with {outputs} outputs, but {what} needs {needed}; change the last layer to {{ dense = {needed} }}"
    )]
    Outputs { outputs: usize, needed: usize, what: String },
}

impl Network {
    /// Checks the layers and lays the weights out.
    pub fn new(inputs: usize, layers: &[LayerSpec]) -> Result<Self, NetworkError> {
        if inputs == 0 {
            return Err(NetworkError::NoInputs);
        }
        let mut blocks: Vec<Block> = Vec::new();
        let (mut width, mut offset) = (inputs, 0usize);
        for (index, layer) in layers.iter().enumerate() {
            match *layer {
                LayerSpec::Dense { units } => {
                    let too_large = NetworkError::TooLarge { layer: index, inputs: width, units };
                    let weights = width.checked_add(1).and_then(|w| w.checked_mul(units)).ok_or(too_large.clone())?;
                    let end = offset.checked_add(weights).filter(|end| *end < 1 << 40).ok_or(too_large)?;
                    blocks.push(Block { layer: index, inputs: width, units, offset, rectifier: None });
                    (width, offset) = (units, end);
                }
                LayerSpec::Rectifier(rectifier) => {
                    let misplaced =
                        |place| NetworkError::MisplacedRectifier { layer: index, text: layer.to_string(), place };
                    let block = blocks.last_mut().ok_or_else(|| misplaced("before the first dense layer"))?;
                    if block.rectifier.replace(rectifier).is_some() {
                        return Err(misplaced("behind another rectifier"));
                    }
                }
            }
        }
        let last = blocks.last().ok_or(NetworkError::NoDenseLayer)?;
        if last.rectifier.is_some() {
            let text = layers.last().map(ToString::to_string).unwrap_or_default();
            return Err(NetworkError::RectifiedOutput { text });
        }
        Ok(Self { inputs, layers: layers.to_vec(), blocks })
    }

    /// Input features.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Output coordinates.
    pub fn outputs(&self) -> usize {
        self.blocks[self.blocks.len() - 1].units
    }

    /// The layer list as written in the experiment file.
    pub fn layers(&self) -> &[LayerSpec] {
        &self.layers
    }

    /// The layers that have weights.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// All blocks but the output's.
    pub fn hidden_blocks(&self) -> &[Block] {
        &self.blocks[..self.blocks.len() - 1]
    }

    /// Length of the flat weight vector.
    pub fn parameters(&self) -> usize {
        self.blocks[self.blocks.len() - 1].range().end
    }

    /// The layers as readable lines, e.g. `dense 784 -> 50`.
    pub fn describe(&self) -> Vec<String> {
        let mut blocks = self.blocks.iter();
        self.layers
            .iter()
            .map(|layer| match layer {
                LayerSpec::Dense { .. } => {
                    let block = blocks.next().expect("each dense layer has a block");
                    format!("dense {} -> {}", block.inputs, block.units)
                }
                rectifier => rectifier.to_string(),
            })
            .collect()
    }
}
