//! The blocks of a network, their shapes, and how they lie in the flat weight vector.

use super::{
    error::NetworkError,
    layers::{LayerSpec, Rectifier, no_bias},
    node::{Activation, Node, Operation, Source},
    shape::{Convolution, Image, Pool, Pooling, Shape},
};
use std::ops::Range;

/// The linear map of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinearMap {
    /// Fully connected.
    Dense {
        /// The image between layers whose values are the inputs, if there is one.
        ///
        /// The inputs have its values as `[height, width, channels]`; files have them as PyTorch does, `[channels, height, width]`.
        flattened: Option<Image>,
    },
    Convolution(Convolution),
}

/// A layer with weights together with the rectifier and the pool behind it.
///
/// Its weights are the range [`Block::range`] of the flat weight vector: a row-major matrix
/// `[units, inputs + 1]` whose last column is the bias, so that a neuron's weight vector is one row; `[units, inputs]` if the layer has
/// no bias. The neurons of a convolution are its filters, with inputs `[kernel row, kernel column, channel]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Index of the layer with weights in the layer list.
    pub layer: usize,
    /// Inputs of a neuron, without its bias.
    pub inputs: usize,
    /// Neurons: units of a dense layer, filters of a convolution.
    pub units: usize,
    /// Whether a neuron has a bias.
    pub bias: bool,
    /// Where its weights start in the flat vector.
    pub offset: usize,
    pub map: LinearMap,
    /// The rectifier behind it, if there is one.
    pub rectifier: Option<Rectifier>,
    /// The pool behind a convolution (and its rectifier), if there is one.
    pub pool: Option<Pool>,
    /// The node that computes it.
    pub node: usize,
    /// Where its input comes from.
    pub source: Source,
}

impl Block {
    /// Weights per neuron: one for each input, and its bias if it has one.
    pub fn width(&self) -> usize {
        self.inputs + usize::from(self.bias)
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

    /// The convolution, unless the block is dense.
    pub fn convolution(&self) -> Option<&Convolution> {
        match &self.map {
            LinearMap::Dense { .. } => None,
            LinearMap::Convolution(convolution) => Some(convolution),
        }
    }

    /// The rectifier and the pool behind it.
    pub fn activation(&self) -> Activation {
        Activation { rectifier: self.rectifier, pool: self.pool }
    }

    /// The max-pool behind it, if there is one.
    pub fn max_pool(&self) -> Option<&Pool> {
        self.pool.as_ref().filter(|pool| pool.pooling == Pooling::Max)
    }

    /// Says which node computes the block, and from what.
    pub(super) fn place(&mut self, node: usize, source: Source) {
        (self.node, self.source) = (node, source);
    }

    /// Index of the pool behind it in the layer list, where there is one.
    pub fn pool_layer(&self) -> usize {
        self.layer + 1 + usize::from(self.rectifier.is_some())
    }

    /// Positions at which each neuron acts on a datapoint: 1 for a dense layer.
    pub fn positions(&self) -> usize {
        self.convolution().map_or(1, |c| c.output.positions())
    }

    /// Values that the block takes per datapoint.
    pub fn features_in(&self) -> usize {
        self.convolution().map_or(self.inputs, |c| c.input.len())
    }

    /// Pre-activations per datapoint: `[positions, units]`.
    pub fn activations(&self) -> usize {
        self.positions() * self.units
    }

    /// Values that the block gives per datapoint, behind rectifier and pool.
    pub fn features_out(&self) -> usize {
        self.pool.map_or(self.activations(), |p| p.output.len())
    }

    /// Inputs of a neuron as `[positions, channels]`; in files they are `[channels, positions]`.
    pub(super) fn input_axes(&self) -> (usize, usize) {
        match &self.map {
            LinearMap::Dense { flattened: None } => (self.inputs, 1),
            LinearMap::Dense { flattened: Some(image) } => (image.positions(), image.channels),
            LinearMap::Convolution(c) => (c.kernel * c.kernel, c.input.channels),
        }
    }
}

/// A checked network: every shape fits and the output is linear.
///
/// Most networks are a list of layers, one behind the other ([`Network::new`]); a [`super::Graph`] makes those that branch and sum.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    input: Shape,
    layers: Vec<LayerSpec>,
    /// The shape behind each layer.
    shapes: Vec<Shape>,
    blocks: Vec<Block>,
    /// Each behind those that it takes its inputs from; the last one gives the output.
    nodes: Vec<Node>,
}

/// The blocks of a network, as their weights lie one after the other in the flat vector.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    pub(super) blocks: Vec<Block>,
    end: usize,
}

impl Layout {
    /// Adds a block and returns its index.
    pub(super) fn push(
        &mut self,
        layer: usize,
        inputs: usize,
        (units, bias): (usize, bool),
        map: LinearMap,
    ) -> Result<usize, NetworkError> {
        let fits = |size: usize| size < 1 << 40;
        let width = inputs.checked_add(usize::from(bias));
        let weights = width.and_then(|w| w.checked_mul(units)).filter(|w| fits(*w));
        let end = weights.and_then(|w| self.end.checked_add(w)).filter(|end| fits(*end));
        let (rectifier, pool, node, source) = (None, None, 0, Source::Data);
        let block = Block { layer, inputs, units, bias, offset: self.end, map, rectifier, pool, node, source };
        let (Some(end), true) = (end, fits(block.positions().saturating_mul(units))) else {
            return Err(NetworkError::TooLarge { layer, inputs, units });
        };
        self.end = end;
        self.blocks.push(block);
        Ok(self.blocks.len() - 1)
    }
}

/// Checks layers one after the other.
struct Builder<'a> {
    input: Shape,
    layers: &'a [LayerSpec],
    shapes: Vec<Shape>,
    layout: Layout,
}

impl Builder<'_> {
    /// The shapes up to the layer that comes next, for messages.
    fn trail(&self) -> String {
        let mut trail = format!("input {}", self.input);
        for (index, (layer, shape)) in self.layers.iter().zip(&self.shapes).enumerate() {
            trail.push_str(&format!("; {index} {layer} -> {shape}"));
        }
        trail
    }

    fn at(&self) -> Shape {
        *self.shapes.last().unwrap_or(&self.input)
    }

    fn image(&self, layer: usize) -> Result<Image, NetworkError> {
        match self.at() {
            Shape::Image(image) => Ok(image),
            Shape::Features(features) => {
                let text = self.layers[layer].to_string();
                Err(NetworkError::NotAnImage { layer, text, features, trail: self.trail() })
            }
        }
    }

    /// The block that a rectifier or pool in the next layer stands behind, or where it stands instead.
    fn behind(&mut self) -> Result<&mut Block, &'static str> {
        match self.shapes.len().checked_sub(1).map(|last| self.layers[last]) {
            None => Err("before the first layer with weights"),
            Some(LayerSpec::Flatten) => Err("behind \"flatten\""),
            Some(_) => self.layout.blocks.last_mut().ok_or("before the first layer with weights"),
        }
    }

    fn add(&mut self, index: usize) -> Result<(), NetworkError> {
        let layer = self.layers[index];
        let text = || layer.to_string();
        let shape = match layer {
            LayerSpec::Dense { units, bias } => {
                let inputs = match self.at() {
                    Shape::Features(features) => features,
                    Shape::Image(image) => {
                        return Err(NetworkError::NotFlat { layer: index, text: text(), image, trail: self.trail() });
                    }
                };
                // An image of the input is flattened in the order of the data, which is that of files.
                let flat = |layer: &&LayerSpec| **layer == LayerSpec::Flatten;
                let flattens = self.layers[..index].iter().rev().take_while(flat).count();
                let flattened = match self.shapes[..index - flattens].last() {
                    Some(Shape::Image(image)) => Some(*image),
                    _ => None,
                };
                self.layout.push(index, inputs, (units, bias), LinearMap::Dense { flattened })?;
                Shape::Features(units)
            }
            LayerSpec::Conv { maps, kernel, padding, stride, bias } => {
                let image = self.image(index)?;
                let Some(convolution) = Convolution::new(image, maps, kernel, padding, stride) else {
                    let largest = image.height.min(image.width) + 2 * padding;
                    let trail = self.trail();
                    return Err(NetworkError::Kernel { layer: index, text: text(), image, largest, trail });
                };
                self.layout.push(index, convolution.patch(), (maps, bias), LinearMap::Convolution(convolution))?;
                Shape::Image(convolution.output)
            }
            LayerSpec::Rectifier(rectifier) => {
                let place = match self.behind() {
                    Ok(Block { pool: Some(_), .. }) => Some("behind a pool"),
                    Ok(block) => block.rectifier.replace(rectifier).map(|_| "behind another rectifier"),
                    Err(place) => Some(place),
                };
                if let Some(place) = place {
                    return Err(NetworkError::MisplacedRectifier { layer: index, text: text(), place });
                }
                self.at()
            }
            LayerSpec::Pool { pooling, size, stride } => {
                let image = self.image(index)?;
                let trail = self.trail();
                let block = self.behind().and_then(|block| match block.pool {
                    None => Ok(block),
                    Some(_) => Err("behind another pool"),
                });
                let block = block.map_err(|place| NetworkError::MisplacedPool { layer: index, text: text(), place })?;
                let Some(pool) = Pool::new(pooling, image, size, stride) else {
                    return Err(NetworkError::PoolSize { layer: index, text: text(), image, trail });
                };
                block.pool = Some(pool);
                Shape::Image(pool.output)
            }
            LayerSpec::Flatten => Shape::Features(self.at().len()),
        };
        self.shapes.push(shape);
        Ok(())
    }
}

/// A node for each block, one behind the other.
fn chain(input: Shape, blocks: &mut [Block]) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::with_capacity(blocks.len());
    for (l, block) in blocks.iter_mut().enumerate() {
        let source = match (l, &block.map, input) {
            (1.., ..) => Source::Node(l - 1),
            (0, LinearMap::Convolution(_), Shape::Image(image)) if image.channels > 1 => Source::Image,
            _ => Source::Data,
        };
        block.place(l, source);
        let shape = match (&block.pool, &block.map) {
            (Some(pool), _) => Shape::Image(pool.output),
            (None, LinearMap::Convolution(c)) => Shape::Image(c.output),
            (None, LinearMap::Dense { .. }) => Shape::Features(block.units),
        };
        nodes.push(Node { layer: block.layer, operation: Operation::Block(l), inputs: vec![source], shape });
    }
    nodes
}

impl Network {
    /// Checks the layers and lays the weights out. `input` is a number of features or an [`Image`].
    pub fn new(input: impl Into<Shape>, layers: &[LayerSpec]) -> Result<Self, NetworkError> {
        let input = input.into();
        if input.is_empty() {
            return Err(NetworkError::NoInputs);
        }
        let mut builder = Builder { input, layers, shapes: Vec::new(), layout: Layout::default() };
        for index in 0..layers.len() {
            builder.add(index)?;
        }
        let (output, Builder { shapes, layout: Layout { mut blocks, .. }, .. }) = (builder.at(), builder);
        let last = blocks.last().ok_or(NetworkError::NoDenseLayer)?;
        if let Shape::Image(image) = output {
            return Err(NetworkError::ImageOutput { image });
        }
        if let Some(image) = last.convolution().map(|c| c.output) {
            return Err(NetworkError::ImageOutput { image: last.pool.map_or(image, |p| p.output) });
        }
        if last.rectifier.is_some() {
            let text = layers.last().map(ToString::to_string).unwrap_or_default();
            return Err(NetworkError::RectifiedOutput { text });
        }
        let nodes = chain(input, &mut blocks);
        Ok(Self { input, layers: layers.to_vec(), shapes, blocks, nodes })
    }

    /// What a [`super::Graph`] has checked.
    pub(super) fn from_graph(input: Shape, blocks: Vec<Block>, nodes: Vec<Node>) -> Self {
        Self { input, layers: Vec::new(), shapes: Vec::new(), blocks, nodes }
    }

    /// Input features.
    pub fn inputs(&self) -> usize {
        self.input.len()
    }

    /// The shape of a datapoint. Its values come as `[channels, height, width]`.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// Output coordinates.
    pub fn outputs(&self) -> usize {
        self.output_block().units
    }

    /// Index of the block that gives the output.
    pub fn output_index(&self) -> usize {
        self.blocks.len() - 1
    }

    /// The block that gives the output: dense, with nothing behind it.
    pub fn output_block(&self) -> &Block {
        &self.blocks[self.output_index()]
    }

    /// The nodes, each behind those that it takes its inputs from; the last one gives the output.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The layer list as written in the experiment file; empty if the network is no list ([`Network::list`]).
    pub fn layers(&self) -> &[LayerSpec] {
        &self.layers
    }

    /// The layer list, for what works on lists alone.
    ///
    /// # Errors
    /// If the network was made by a [`super::Graph`]; `what` says what needs a list.
    pub fn list(&self, what: &'static str) -> Result<&[LayerSpec], NetworkError> {
        if self.layers.is_empty() { Err(NetworkError::NotAList { what }) } else { Ok(&self.layers) }
    }

    /// The layers that have weights.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// All blocks but the output's.
    pub fn hidden_blocks(&self) -> &[Block] {
        &self.blocks[..self.output_index()]
    }

    /// The places of each hidden block's neurons in a list of all hidden neurons.
    pub fn hidden_neurons(&self) -> Vec<Range<usize>> {
        let mut next = 0;
        let place = |block: &Block| {
            next += block.units;
            next - block.units..next
        };
        self.hidden_blocks().iter().map(place).collect()
    }

    /// Whether the network is blocks one behind the other, as every list of layers is.
    pub fn is_chain(&self) -> bool {
        let own = |(l, node): (usize, &Node)| {
            node.operation == Operation::Block(l) && (l == 0 || node.inputs == [Source::Node(l - 1)])
        };
        self.nodes.iter().enumerate().all(own)
    }

    /// Whether the network is dense layers one behind the other, each with its rectifier: what the fast paths of the analysis take.
    pub fn is_dense_chain(&self) -> bool {
        self.is_chain() && self.blocks.iter().all(|block| block.convolution().is_none())
    }

    /// Length of the flat weight vector.
    pub fn parameters(&self) -> usize {
        self.blocks[self.blocks.len() - 1].range().end
    }

    /// The layers as readable lines, e.g. `dense 784 -> 50` or `max_pool 2, 64x32x32 -> 64x16x16`; none if the network is no list.
    pub fn describe(&self) -> Vec<String> {
        let before = std::iter::once(&self.input).chain(&self.shapes);
        self.layers
            .iter()
            .zip(before.zip(&self.shapes))
            .map(|(layer, (from, to))| match layer {
                LayerSpec::Dense { bias, .. } => format!("dense {from} -> {to}{}", no_bias(*bias)),
                LayerSpec::Flatten => format!("flatten {from} -> {to}"),
                LayerSpec::Conv { .. } | LayerSpec::Pool { .. } => format!("{layer}: {from} -> {to}"),
                LayerSpec::Rectifier(_) => layer.to_string(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::shape::Pooling;

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
