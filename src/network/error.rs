//! Why a layer list or a graph is refused.

use super::shape::{Image, Shape};

/// A layer list that makes no network.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NetworkError {
    #[error("the network has no layer with weights; add one, for example layers = [{{ dense = 10 }}]")]
    NoDenseLayer,
    #[error("the network has no inputs; the dataset gives the input size")]
    NoInputs,
    #[error("{sizes:?} is not a valid input shape: write [features] or [channels, height, width], each at least 1")]
    InputShape { sizes: Vec<usize> },
    #[error(
        "layer {layer} ({text}) stands {place}; a rectifier must stand directly behind a layer with weights, one at most"
    )]
    MisplacedRectifier { layer: usize, text: String, place: &'static str },
    #[error(
        "layer {layer} ({text}) stands {place}; a pool must stand directly behind a convolution or its rectifier, one at most"
    )]
    MisplacedPool { layer: usize, text: String, place: &'static str },
    #[error("layer {layer} ({text}) gets an image of {image}; put \"flatten\" before it. Shapes: {trail}")]
    NotFlat { layer: usize, text: String, image: Image, trail: String },
    #[error(
        "layer {layer} ({text}) needs an image, but gets {features} features; convolutions stand before \"flatten\" and dense layers, \
         and the input must be [channels, height, width]. Shapes: {trail}"
    )]
    NotAnImage { layer: usize, text: String, features: usize, trail: String },
    #[error(
        "layer {layer} ({text}) has a kernel larger than its input {image} with padding; use a kernel of at most {largest} \
         or more padding. Shapes: {trail}"
    )]
    Kernel { layer: usize, text: String, image: Image, largest: usize, trail: String },
    #[error(
        "layer {layer} ({text}) does not divide its input {image}; height and width minus the size must be multiples of the \
         stride: change the size, or the padding of the convolution before it. Shapes: {trail}"
    )]
    PoolSize { layer: usize, text: String, image: Image, trail: String },
    #[error("the last layer ({text}) is a rectifier, but the output must be linear: end with a dense layer")]
    RectifiedOutput { text: String },
    #[error("the network ends with an image of {image}; end with \"flatten\" and a dense layer")]
    ImageOutput { image: Image },
    #[error("layer {layer} has too many weights or activations to address ({inputs} x {units}); make it smaller")]
    TooLarge { layer: usize, inputs: usize, units: usize },
    #[error(
        "the network ends with {outputs} outputs, but {what} needs {needed}; change the last layer to {{ dense = {needed} }}"
    )]
    Outputs { outputs: usize, needed: usize, what: String },
    #[error("layer {layer} sums nothing; give it the values to sum")]
    EmptySum { layer: usize },
    #[error("layer {layer} sums values of {one} and {other}; they must have the same shape")]
    SumShapes { layer: usize, one: Shape, other: Shape },
    #[error(
        "layer {layer} sums {shape} features, some of which are images that were flattened and so lie in another order; sum images \
         before they are flattened"
    )]
    SumOrder { layer: usize, shape: Shape },
    #[error("nothing takes the value of layer {layer}; leave the layer out, or use what it gives")]
    Unused { layer: usize },
    #[error("the output, layer {layer}, must be a dense layer that no other layer takes a value from")]
    GraphOutput { layer: usize },
    #[error("the network is not a list of layers, which {what} needs")]
    NotAList { what: &'static str },
}
