//! Networks from a list of layers, one behind the other, as experiment files have them.

use super::{error::NetworkError, graph::Graph, layers::LayerSpec, shape::Shape, spec::Network};

impl Network {
    /// Checks the layers and lays the weights out. `input` is a number of features or an [`Image`](super::Image).
    ///
    /// # Errors
    /// If a layer does not take what stands before it, or the output is not that of a dense layer.
    pub fn new(input: impl Into<Shape>, layers: &[LayerSpec]) -> Result<Self, NetworkError> {
        let input = input.into();
        if input.is_empty() {
            return Err(NetworkError::NoInputs);
        }
        // Behind the output, "flatten" changes nothing.
        let flattens = layers.iter().rev().take_while(|layer| **layer == LayerSpec::Flatten).count();
        let own = &layers[..layers.len() - flattens];
        let mut graph = Graph::new(input);
        let (mut output, mut shapes) = (graph.data(), Vec::with_capacity(layers.len()));
        for (index, layer) in own.iter().enumerate() {
            check_place(&own[..index], layer, graph.shape(output))?;
            output = graph.layer(output, *layer)?;
            shapes.push(graph.shape(output));
        }
        check_output(own, graph.shape(output))?;
        shapes.resize(layers.len(), graph.shape(output));
        Ok(graph.finish(output)?.with_list(layers.to_vec(), shapes))
    }
}

/// Whether a rectifier or a pool may stand behind the layers `before`: in a list both belong to the block before them.
fn check_place(before: &[LayerSpec], layer: &LayerSpec, shape: Shape) -> Result<(), NetworkError> {
    let is_activation = |layer: &&LayerSpec| matches!(layer, LayerSpec::Rectifier(_) | LayerSpec::Pool { .. });
    let own: Vec<&LayerSpec> = before.iter().rev().take_while(is_activation).collect();
    let has_pool = own.iter().any(|layer| matches!(layer, LayerSpec::Pool { .. }));
    let place = match (before.iter().rev().nth(own.len()), layer) {
        (None, _) => Some("before the first layer with weights"),
        (Some(LayerSpec::Flatten), _) => Some("behind \"flatten\""),
        (_, LayerSpec::Rectifier(_)) if has_pool => Some("behind a pool"),
        (_, LayerSpec::Rectifier(_)) if !own.is_empty() => Some("behind another rectifier"),
        (_, LayerSpec::Pool { .. }) if has_pool => Some("behind another pool"),
        _ => None,
    };
    let Some(place) = place else { return Ok(()) };
    let (index, text) = (before.len(), layer.to_string());
    match (layer, shape) {
        (LayerSpec::Rectifier(_), _) => Err(NetworkError::MisplacedRectifier { layer: index, text, place }),
        // That there is no image is told first.
        (LayerSpec::Pool { .. }, Shape::Image(_)) => Err(NetworkError::MisplacedPool { layer: index, text, place }),
        _ => Ok(()),
    }
}

/// Whether a list may end so, with the shape of its last layer.
fn check_output(layers: &[LayerSpec], shape: Shape) -> Result<(), NetworkError> {
    if !layers.iter().any(LayerSpec::has_weights) {
        return Err(NetworkError::NoDenseLayer);
    }
    if let Shape::Image(image) = shape {
        return Err(NetworkError::ImageOutput { image });
    }
    match layers.last() {
        Some(layer @ LayerSpec::Rectifier(_)) => Err(NetworkError::RectifiedOutput { text: layer.to_string() }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Image, LinearMap, Pooling, Rectifier};

    const IMAGE: Image = Image { channels: 3, height: 8, width: 8 };
    const RELU: LayerSpec = LayerSpec::Rectifier(Rectifier::Relu);
    const DENSE: LayerSpec = LayerSpec::dense(4);
    const CONV: LayerSpec = LayerSpec::Conv { maps: 5, kernel: 3, padding: 1, stride: 1, bias: true };
    const POOL: LayerSpec = LayerSpec::Pool { pooling: Pooling::Max, size: 2, stride: 2 };

    #[test]
    fn weights_of_convolutions_are_rows_of_filters() {
        let layers = [CONV, RELU, POOL, LayerSpec::Flatten, DENSE];
        let network = Network::new(IMAGE, &layers).unwrap();
        let [conv, dense] = network.blocks() else { panic!("two blocks") };
        assert_eq!((conv.units, conv.inputs, conv.positions(), conv.range()), (5, 27, 64, 0..140));
        assert_eq!((conv.features_in(), conv.activations(), conv.features_out()), (192, 320, 80));
        assert_eq!((dense.layer, dense.inputs, dense.units, dense.range()), (4, 80, 4, 140..464));
        let lines = network.describe();
        assert_eq!(lines[0], "conv 5, kernel 3, padding 1: 3x8x8 -> 5x8x8");
        assert_eq!(lines[2..], ["max_pool 2: 5x8x8 -> 5x4x4", "flatten 5x4x4 -> 80", "dense 80 -> 4"]);
        // Without biases there is a weight less per neuron.
        let network = Network::new(IMAGE, &layers.map(LayerSpec::without_bias)).unwrap();
        let [conv, dense] = network.blocks() else { panic!("two blocks") };
        assert_eq!((conv.inputs, conv.width(), conv.range(), conv.neuron(1)), (27, 27, 0..135, 27..54));
        assert_eq!((dense.inputs, dense.width(), dense.range(), network.parameters()), (80, 80, 135..455, 455));
        let lines = network.describe();
        assert_eq!(lines[0], "conv 5, kernel 3, padding 1, no bias: 3x8x8 -> 5x8x8");
        assert_eq!(lines[4], "dense 80 -> 4, no bias");
    }

    #[test]
    fn layers_that_do_not_fit_are_refused_with_the_shapes() {
        use LayerSpec::Flatten;
        let large = LayerSpec::Conv { maps: 2, kernel: 11, padding: 1, stride: 1, bias: true };
        let three = LayerSpec::Pool { pooling: Pooling::Average, size: 3, stride: 3 };
        let huge = LayerSpec::Conv { maps: 1 << 19, kernel: 1, padding: 1 << 19, stride: 1, bias: true };
        for (layers, expected) in [
            (&[DENSE][..], "put \"flatten\" before it"),
            (&[CONV, RELU, POOL, DENSE], "layer 3 (dense 4) gets an image of 5x4x4"),
            (
                &[CONV, RELU, POOL, DENSE],
                "input 3x8x8; 0 conv 5, kernel 3, padding 1 -> 5x8x8; 1 relu -> 5x8x8; 2 max_pool 2",
            ),
            (&[Flatten, CONV], "needs an image, but gets 192 features"),
            (&[CONV, Flatten, DENSE, POOL], "needs an image, but gets 4 features"),
            (&[CONV, large, Flatten, DENSE], "a kernel of at most 10"),
            (&[CONV, three, Flatten, DENSE], "does not divide its input 5x8x8"),
            (&[POOL, CONV, Flatten, DENSE], "before the first layer with weights"),
            (&[CONV, POOL, POOL, Flatten, DENSE], "behind another pool"),
            (&[CONV, POOL, RELU, Flatten, DENSE], "behind a pool"),
            (&[CONV, RELU, RELU, Flatten, DENSE], "behind another rectifier"),
            (&[CONV, Flatten, RELU, DENSE], "behind \"flatten\""),
            (&[Flatten, RELU, DENSE], "behind \"flatten\""),
            (&[RELU, CONV], "before the first"),
            (&[CONV], "ends with an image of 5x8x8"),
            (&[CONV, POOL, Flatten], "ends with an image of 5x4x4"),
            (&[Flatten], "no layer with weights"),
            (&[Flatten, DENSE, RELU], "must be linear"),
            (&[huge, Flatten, DENSE], "too many"),
        ] {
            let error = Network::new(IMAGE, layers).expect_err(expected).to_string();
            assert!(error.contains(expected), "{layers:?}: {error}");
        }
    }

    #[test]
    fn flat_inputs_may_be_flattened_again() {
        let network = Network::new(6, &[LayerSpec::Flatten, DENSE]).unwrap();
        assert_eq!(network.blocks()[0].map, LinearMap::Dense { flattened: None });
        let network = Network::new(IMAGE, &[LayerSpec::Flatten, DENSE]).unwrap();
        assert_eq!(network.blocks()[0].map, LinearMap::Dense { flattened: None });
        assert_eq!(network.blocks()[0].inputs, 192);
    }
}
