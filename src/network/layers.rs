//! The entries of a layer list, and how experiment files write them.

use super::shape::Pooling;
use crate::{num::Real, text::suggestion};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, IgnoredAny},
};
use std::{collections::BTreeMap, fmt};

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
            T::from_f64(self.negative_slope())
        } else {
            T::from_f64(self.slope_at_zero())
        }
    }

    /// [`Rectifier::derivative`] of many at once.
    #[inline(always)]
    pub fn derivatives<T: Real>(self, a: &[T], out: &mut [T]) {
        // Selections between numbers known beforehand, so that the loop vectorizes.
        let (below, at_zero) = (T::from_f64(self.negative_slope()), T::from_f64(self.slope_at_zero()));
        for (slope, a) in out.iter_mut().zip(a) {
            let rest = if *a < T::ZERO { below } else { at_zero };
            *slope = if *a > T::ZERO { T::ONE } else { rest };
        }
    }
}

/// One entry of the layer list of an experiment file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LayerSpec {
    /// Fully connected.
    Dense {
        units: usize,
        /// Whether every unit has a bias.
        bias: bool,
    },
    /// A convolution with `maps` square filters.
    Conv {
        maps: usize,
        kernel: usize,
        padding: usize,
        stride: usize,
        /// Whether every filter has a bias.
        bias: bool,
    },
    Rectifier(Rectifier),
    Pool {
        pooling: Pooling,
        size: usize,
        stride: usize,
    },
    /// An image as a vector.
    Flatten,
}

/// The names that a layer list may use, for error texts.
pub const LAYER_NAMES: &[&str] = &["dense", "conv", "relu", "leaky_relu", "abs", "max_pool", "avg_pool", "flatten"];

/// Activations that networks elsewhere have, and that no spelling of a rectifier is.
const SMOOTH: &[&str] =
    &["gelu", "silu", "swish", "elu", "selu", "celu", "tanh", "sigmoid", "softplus", "mish", "softmax"];

/// What to say of a name that no layer has.
fn unknown(name: &str) -> String {
    let plain = name.to_lowercase().replace(['_', '-'], "");
    let unknown = format!("unknown layer \"{name}\"");
    match plain.as_str() {
        "linear" | "lineardense" | "fc" => format!("{unknown}; a fully connected layer is {{ dense = UNITS }}"),
        "conv2d" | "convolution" => format!("{unknown}; a convolution is {{ conv = {{ maps = 16, kernel = 3 }} }}"),
        "relu" => format!("{unknown}; write \"relu\""),
        "leakyrelu" => format!("{unknown}; write \"leaky_relu\" or {{ leaky_relu = SLOPE }}"),
        "maxpool2d" | "maxpool" => format!("{unknown}; write {{ max_pool = SIZE }}"),
        "avgpool2d" | "avgpool" => format!("{unknown}; write {{ avg_pool = SIZE }}"),
        "flatten" => format!("{unknown}; write \"flatten\""),
        "dropout" | "dropout2d" | "identity" => {
            format!(
                "{unknown}; leave it out if it does nothing in training (p = 0), else the network cannot be analysed"
            )
        }
        "batchnorm" | "batchnorm1d" | "batchnorm2d" | "layernorm" => {
            format!("{unknown}: normalizations are not modelled, so this network cannot be analysed")
        }
        "softmax" | "logsoftmax" => format!("{unknown}; leave it out: cross_entropy has a softmax of its own"),
        _ if SMOOTH.contains(&name) || SMOOTH.contains(&plain.as_str()) => {
            format!("{unknown}: it is not piecewise linear; take \"relu\", \"leaky_relu\" or \"abs\"")
        }
        _ => format!("{unknown}{}", suggestion(name, LAYER_NAMES)),
    }
}

impl LayerSpec {
    /// The rectifier of plain rectifier networks.
    pub const fn relu() -> Self {
        LayerSpec::Rectifier(Rectifier::Relu)
    }

    /// A dense layer with biases.
    pub const fn dense(units: usize) -> Self {
        LayerSpec::Dense { units, bias: true }
    }

    /// The layer without its biases, if it has any.
    pub const fn without_bias(mut self) -> Self {
        if let LayerSpec::Dense { bias, .. } | LayerSpec::Conv { bias, .. } = &mut self {
            *bias = false;
        }
        self
    }

    /// The layer as a readable line, with the shapes before it and behind it.
    pub(super) fn between(&self, from: &impl fmt::Display, to: &impl fmt::Display) -> String {
        match self {
            LayerSpec::Dense { bias, .. } => format!("dense {from} -> {to}{}", no_bias(*bias)),
            LayerSpec::Flatten => format!("flatten {from} -> {to}"),
            LayerSpec::Conv { .. } | LayerSpec::Pool { .. } => format!("{self}: {from} -> {to}"),
            LayerSpec::Rectifier(_) => self.to_string(),
        }
    }

    /// Whether the layer has weights, and so begins a block.
    pub fn has_weights(&self) -> bool {
        match self {
            LayerSpec::Dense { .. } | LayerSpec::Conv { .. } => true,
            LayerSpec::Rectifier(_) | LayerSpec::Pool { .. } | LayerSpec::Flatten => false,
        }
    }

    /// Whether the layer is about images.
    pub fn is_spatial(&self) -> bool {
        matches!(self, LayerSpec::Conv { .. } | LayerSpec::Pool { .. } | LayerSpec::Flatten)
    }

    /// Parses the plain-text form: `relu`, `leaky_relu`, `abs`, `flatten`.
    fn from_name(name: &str) -> Result<Self, String> {
        match name {
            "relu" => Ok(LayerSpec::Rectifier(Rectifier::Relu)),
            "leaky_relu" => Ok(LayerSpec::Rectifier(Rectifier::LeakyRelu { slope: 0.01 })),
            "abs" => Ok(LayerSpec::Rectifier(Rectifier::Abs)),
            "flatten" => Ok(LayerSpec::Flatten),
            "dense" => Err("a dense layer needs its number of units: write { dense = 50 }".into()),
            "conv" => {
                Err("a convolution needs its filters: write { conv = { maps = 16, kernel = 3, padding = 1 } }".into())
            }
            "max_pool" | "avg_pool" => Err(format!("a pool needs the side of its windows: write {{ {name} = 2 }}")),
            other => Err(unknown(other)),
        }
    }

    /// Parses `{ name = value }` from its settings.
    fn from_settings(name: &str, mut settings: Settings) -> Result<Self, String> {
        match name {
            "dense" => match settings {
                Settings::Number(units @ 1..) => Ok(LayerSpec::dense(units as usize)),
                Settings::Number(units) => Err(format!("dense = {units}: a layer needs at least one unit")),
                Settings::Named(_) => {
                    let bias = settings.take_bias(name)?;
                    let [units] = settings.resolve(name, [("units", None)], &["bias"])?;
                    Ok(LayerSpec::Dense { units, bias })
                }
            },
            "conv" => {
                let bias = settings.take_bias(name)?;
                let known = [("maps", None), ("kernel", None), ("padding", Some(0)), ("stride", Some(1))];
                let [maps, kernel, padding, stride] = settings.resolve(name, known, &["bias"])?;
                Ok(LayerSpec::Conv { maps, kernel, padding, stride, bias })
            }
            _ => {
                let pooling = if name == "max_pool" { Pooling::Max } else { Pooling::Average };
                let (size, stride) = match settings {
                    Settings::Number(size) => (at_least(name, "size", Setting::Whole(size), 1)?, None),
                    Settings::Named(mut named) => {
                        let stride = named.remove("stride").map(|s| at_least(name, "stride", s, 1)).transpose()?;
                        let [size] = Settings::Named(named).resolve(name, [("size", None)], &["stride"])?;
                        (size, stride)
                    }
                };
                if size > MAX_POOL {
                    return Err(format!("{name}: windows are at most {MAX_POOL} wide, not {size}"));
                }
                Ok(LayerSpec::Pool { pooling, size, stride: stride.unwrap_or(size) })
            }
        }
    }
}

/// The side of a pooling window at most: the argmax index and the side of its rectifier must fit in one byte.
pub const MAX_POOL: usize = 9;

/// What stands behind the name of a layer.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a whole number or settings in { }")]
enum Settings {
    Number(i64),
    Named(BTreeMap<String, Setting>),
}

/// A setting as it was written.
#[derive(Deserialize)]
#[serde(untagged)]
enum Setting {
    Flag(bool),
    Whole(i64),
    Number(f64),
    Text(String),
    Other(IgnoredAny),
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::Flag(flag) => write!(f, "{flag}"),
            Setting::Whole(value) => write!(f, "{value}"),
            Setting::Number(value) => write!(f, "{value}"),
            Setting::Text(text) => write!(f, "{text:?}"),
            Setting::Other(_) => f.write_str("..."),
        }
    }
}

fn at_least(layer: &str, key: &str, value: Setting, least: usize) -> Result<usize, String> {
    let whole = match value {
        Setting::Whole(whole) => usize::try_from(whole).ok(),
        _ => None,
    };
    // Larger sizes than this cannot be addressed anyway, and their products must not overflow.
    whole
        .filter(|whole| (least..1 << 20).contains(whole))
        .ok_or_else(|| format!("{layer}: {key} = {value} must be a whole number from {least} to {}", (1 << 20) - 1))
}

impl Settings {
    /// Whether there are biases: so it is unless the settings say otherwise.
    fn take_bias(&mut self, layer: &str) -> Result<bool, String> {
        let Settings::Named(named) = self else { return Ok(true) };
        match named.remove("bias") {
            None => Ok(true),
            Some(Setting::Flag(bias)) => Ok(bias),
            Some(other) => Err(format!("{layer}: bias = {other} must be true or false, without quotation marks")),
        }
    }

    /// The values of the known keys, each with its default or `None` where it is required. `others` are other keys of the layer.
    fn resolve<const N: usize>(
        self,
        layer: &str,
        known: [(&str, Option<usize>); N],
        others: &[&'static str],
    ) -> Result<[usize; N], String> {
        let names: Vec<&str> = known.iter().map(|(key, _)| *key).chain(others.iter().copied()).collect();
        let required = || {
            let needed = known.iter().filter(|(_, default)| default.is_none()).map(|(key, _)| format!("{key} = 3"));
            format!("{{ {layer} = {{ {} }} }}", needed.collect::<Vec<_>>().join(", "))
        };
        let Settings::Named(mut named) = self else {
            return Err(format!("{layer} needs named settings: write for example {}", required()));
        };
        let mut values = [0; N];
        for (value, (key, default)) in values.iter_mut().zip(known) {
            *value = match (named.remove(key), default) {
                (Some(given), _) => at_least(layer, key, given, usize::from(key != "padding"))?,
                (None, Some(default)) => default,
                (None, None) => return Err(format!("{layer} has no {key}: write for example {}", required())),
            };
        }
        match named.keys().next() {
            Some(other) => Err(format!("{layer} has no setting \"{other}\"{}", suggestion(other, &names))),
            None => Ok(values),
        }
    }
}

/// What is said of a layer besides its sizes.
pub(super) fn no_bias(bias: bool) -> &'static str {
    if bias { "" } else { ", no bias" }
}

impl fmt::Display for LayerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayerSpec::Dense { units, bias } => write!(f, "dense {units}{}", no_bias(*bias)),
            LayerSpec::Conv { maps, kernel, padding, stride, bias } => {
                write!(f, "conv {maps}, kernel {kernel}, padding {padding}")?;
                if *stride != 1 {
                    write!(f, ", stride {stride}")?;
                }
                f.write_str(no_bias(*bias))
            }
            LayerSpec::Rectifier(Rectifier::Relu) => f.write_str("relu"),
            LayerSpec::Rectifier(Rectifier::LeakyRelu { slope }) => write!(f, "leaky_relu {slope}"),
            LayerSpec::Rectifier(Rectifier::Abs) => f.write_str("abs"),
            LayerSpec::Pool { pooling, size, stride } => {
                write!(f, "{} {size}", pooling.name())?;
                if stride == size { Ok(()) } else { write!(f, ", stride {stride}") }
            }
            LayerSpec::Flatten => f.write_str("flatten"),
        }
    }
}

/// The settings of a layer with weights, in the order of their names; a bias goes without saying.
#[derive(Default, Serialize)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maps: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    padding: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stride: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    units: Option<usize>,
}

impl Serialize for LayerSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        fn entry<S: Serializer>(serializer: S, key: &str, value: &impl Serialize) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(key, value)?;
            map.end()
        }
        match *self {
            LayerSpec::Dense { units, bias: true } => entry(serializer, "dense", &units),
            LayerSpec::Dense { units, bias: false } => {
                entry(serializer, "dense", &Written { bias: Some(false), units: Some(units), ..Written::default() })
            }
            LayerSpec::Conv { maps, kernel, padding, stride, bias } => {
                let bias = if bias { None } else { Some(false) };
                let [kernel, maps, padding, stride] = [kernel, maps, padding, stride].map(Some);
                entry(serializer, "conv", &Written { bias, kernel, maps, padding, stride, units: None })
            }
            LayerSpec::Rectifier(Rectifier::LeakyRelu { slope }) if slope != 0.01 => {
                entry(serializer, "leaky_relu", &slope)
            }
            LayerSpec::Rectifier(Rectifier::Relu) => serializer.serialize_str("relu"),
            LayerSpec::Rectifier(Rectifier::LeakyRelu { .. }) => serializer.serialize_str("leaky_relu"),
            LayerSpec::Rectifier(Rectifier::Abs) => serializer.serialize_str("abs"),
            LayerSpec::Pool { pooling, size, stride } if size == stride => entry(serializer, pooling.name(), &size),
            LayerSpec::Pool { pooling, size, stride } => {
                entry(serializer, pooling.name(), &BTreeMap::from([("size", size), ("stride", stride)]))
            }
            LayerSpec::Flatten => serializer.serialize_str("flatten"),
        }
    }
}

impl<'de> Deserialize<'de> for LayerSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = LayerSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a layer: \"relu\", \"leaky_relu\", \"abs\", \"flatten\", { dense = UNITS }, \
                     { conv = { maps = M, kernel = K } }, { max_pool = SIZE } or { avg_pool = SIZE }",
                )
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<LayerSpec, E> {
                LayerSpec::from_name(name).map_err(E::custom)
            }

            fn visit_map<M: serde::de::MapAccess<'de>>(self, mut map: M) -> Result<LayerSpec, M::Error> {
                let Some(key) = map.next_key::<String>()? else {
                    return Err(M::Error::custom("an empty layer; write for example { dense = 50 }"));
                };
                let layer = match key.as_str() {
                    "dense" | "conv" | "max_pool" | "avg_pool" => {
                        LayerSpec::from_settings(&key, map.next_value()?).map_err(M::Error::custom)?
                    }
                    "leaky_relu" => {
                        let slope = map.next_value::<f64>()?;
                        if !slope.is_finite() {
                            return Err(M::Error::custom("leaky_relu: the slope must be finite"));
                        }
                        LayerSpec::Rectifier(Rectifier::LeakyRelu { slope })
                    }
                    "relu" | "abs" | "flatten" => {
                        return Err(M::Error::custom(format!("{key} takes no value: write \"{key}\"")));
                    }
                    other => return Err(M::Error::custom(unknown(other))),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct List {
        layers: Vec<LayerSpec>,
    }

    #[test]
    fn every_form_survives_a_file() {
        let text = r#"layers = [{ conv = { maps = 64, kernel = 5, padding = 2 } }, "relu", { max_pool = 2 },
            { conv = { kernel = 3, maps = 8, stride = 2 } }, { leaky_relu = 0.2 }, { avg_pool = { size = 3, stride = 1 } },
            { max_pool = { size = 2 } }, "flatten", { dense = 10 }, "abs", "leaky_relu",
            { dense = { units = 7 } }, { dense = { units = 8, bias = false } }, { dense = { units = 9, bias = true } },
            { conv = { maps = 4, kernel = 3, bias = false } }]"#;
        let list: List = toml::from_str(text).unwrap();
        assert_eq!(list.layers[0], LayerSpec::Conv { maps: 64, kernel: 5, padding: 2, stride: 1, bias: true });
        assert_eq!(list.layers[5], LayerSpec::Pool { pooling: Pooling::Average, size: 3, stride: 1 });
        assert_eq!(list.layers[6], LayerSpec::Pool { pooling: Pooling::Max, size: 2, stride: 2 });
        assert_eq!(list.layers[11], LayerSpec::dense(7));
        assert_eq!(list.layers[12], LayerSpec::Dense { units: 8, bias: false });
        assert_eq!(list.layers[13], LayerSpec::dense(9));
        assert_eq!(list.layers[14], LayerSpec::Conv { maps: 4, kernel: 3, padding: 0, stride: 1, bias: false });
        assert_eq!(toml::from_str::<List>(&toml::to_string(&list).unwrap()).unwrap(), list);
        let json = serde_json::to_string(&list).unwrap();
        assert_eq!(serde_json::from_str::<List>(&json).unwrap(), list);
    }

    /// Digests of experiments and manifests go by what is written.
    #[test]
    fn a_bias_goes_without_saying() {
        let conv = LayerSpec::Conv { maps: 8, kernel: 3, padding: 1, stride: 2, bias: true };
        for (layer, json, text) in [
            (LayerSpec::dense(5), r#"{"dense":5}"#, "dense 5"),
            (conv, r#"{"conv":{"kernel":3,"maps":8,"padding":1,"stride":2}}"#, "conv 8, kernel 3, padding 1, stride 2"),
            (LayerSpec::dense(5).without_bias(), r#"{"dense":{"bias":false,"units":5}}"#, "dense 5, no bias"),
            (
                conv.without_bias(),
                r#"{"conv":{"bias":false,"kernel":3,"maps":8,"padding":1,"stride":2}}"#,
                "conv 8, kernel 3, padding 1, stride 2, no bias",
            ),
        ] {
            assert_eq!(serde_json::to_string(&layer).unwrap(), json);
            assert_eq!(layer.to_string(), text);
        }
        assert_eq!(LayerSpec::Flatten.without_bias(), LayerSpec::Flatten);
    }

    #[test]
    fn mistakes_are_named() {
        for (layer, expected) in [
            ("{ cnv = 3 }", "did you mean \"conv\""),
            ("{ conv = 3 }", "{ conv = { maps = 3, kernel = 3 } }"),
            ("{ conv = { maps = 3 } }", "conv has no kernel"),
            ("{ conv = { maps = 3, kernl = 3 } }", "conv has no kernel"),
            ("{ conv = { maps = 3, kernel = 3, pading = 1 } }", "did you mean \"padding\""),
            ("{ conv = { maps = 3, kernel = 0 } }", "kernel = 0"),
            ("{ conv = { maps = 3, kernel = 3, stride = -1 } }", "stride = -1"),
            ("{ conv = { maps = 3.5, kernel = 3 } }", "whole number"),
            ("{ max_pool = 0 }", "size = 0"),
            ("{ max_pool = 10 }", "at most 9"),
            ("{ avg_pool = { stride = 2 } }", "avg_pool has no size"),
            ("{ avg_pool = { size = 2, strid = 2 } }", "no setting \"strid\""),
            ("{ flatten = 1 }", "takes no value"),
            ("{ dense = { units = 0 } }", "dense: units = 0 must be a whole number"),
            ("{ dense = { unit = 3 } }", "{ dense = { units = 3 } }"),
            ("{ dense = { bias = false } }", "dense has no units"),
            ("{ dense = { units = 3, bais = false } }", "no setting \"bais\"; did you mean \"bias\""),
            ("{ dense = { units = 3, bias = \"false\" } }", "bias = \"false\" must be true or false"),
            ("{ dense = { units = 3, bias = 0 } }", "bias = 0 must be true or false"),
            ("{ dense = { units = 3, bias = [] } }", "must be true or false"),
            ("{ dense = { units = true } }", "units = true must be a whole number"),
            ("{ dense = true }", "whole number or settings"),
            ("{ conv = { maps = 3, kernel = 3, bias = 1.5 } }", "bias = 1.5 must be true or false"),
            ("{ conv = { maps = 3, kernel = 3, biass = false } }", "did you mean \"bias\""),
            ("{ max_pool = { size = 2, bias = false } }", "max_pool has no setting \"bias\""),
            ("{ avg_pool = { size = 2, strides = 2 } }", "did you mean \"stride\""),
            ("\"max_pool\"", "{ max_pool = 2 }"),
            ("\"flattn\"", "did you mean \"flatten\""),
        ] {
            let error = toml::from_str::<List>(&format!("layers = [{layer}]")).expect_err(layer).to_string();
            assert!(error.contains(expected), "{layer}: {error}");
        }
    }
}
