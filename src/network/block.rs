//! Blocks, and how their weights lie in the flat weight vector.

use super::{
    error::NetworkError,
    layers::{LayerSpec, Rectifier},
    node::{Activation, Source},
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

    /// The images that the linear map takes and gives, unless the block is dense.
    pub fn images(&self) -> Option<(&Image, &Image)> {
        match &self.map {
            LinearMap::Dense { .. } => None,
            LinearMap::Convolution(c) => Some((&c.input, &c.output)),
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
        self.images().map_or(1, |(_, output)| output.positions())
    }

    /// Values that the block takes per datapoint.
    pub fn features_in(&self) -> usize {
        self.images().map_or(self.inputs, |(input, _)| input.len())
    }

    /// Pre-activations per datapoint: `[positions, units]`.
    pub fn activations(&self) -> usize {
        self.positions() * self.units
    }

    /// Values that the block gives per datapoint, behind rectifier and pool.
    pub fn features_out(&self) -> usize {
        self.pool.map_or(self.activations(), |p| p.output.len())
    }

    /// The shape of its weights in a file, without the biases, as PyTorch has it.
    pub fn file_shape(&self) -> Vec<usize> {
        match &self.map {
            LinearMap::Dense { .. } => vec![self.units, self.inputs],
            LinearMap::Convolution(c) => vec![self.units, c.input.channels, c.kernel, c.kernel],
        }
    }

    /// The initial value of a weight, for a number drawn from `[-1, 1)`: `U(-sqrt(6/fan_in), sqrt(6/fan_in))` (He et al. 2015).
    pub(super) fn initial(&self, drawn: f64) -> f64 {
        match &self.map {
            LinearMap::Dense { .. } | LinearMap::Convolution(_) => drawn * (6.0 / self.inputs as f64).sqrt(),
        }
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

/// The blocks of a network, as their weights lie one after the other in the flat vector.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    pub(super) blocks: Vec<Block>,
    end: usize,
}

impl Layout {
    /// Adds a block and returns its index.
    pub(super) fn push(&mut self, layer: usize, linear: &Linear) -> Result<usize, NetworkError> {
        let Linear { inputs, units, bias, map, .. } = *linear;
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

/// What a layer with weights makes of the value that it gets.
pub(super) struct Linear {
    inputs: usize,
    units: usize,
    bias: bool,
    map: LinearMap,
    pub(super) shape: Shape,
}

/// What a layer does to the value that it gets.
pub(super) enum Role {
    Linear(Linear),
    Rectifier(Rectifier),
    Pool(Pool),
    Flatten,
}

/// Why a layer does not take a value.
pub(super) enum Misfit {
    NotFlat(Image),
    NotAnImage(usize),
    Kernel { image: Image, largest: usize },
    PoolSize(Image),
}

impl Misfit {
    /// The error, for the layer at this index, written so, behind values of these shapes.
    pub(super) fn error(self, layer: usize, text: String, trail: String) -> NetworkError {
        match self {
            Misfit::NotFlat(image) => NetworkError::NotFlat { layer, text, image, trail },
            Misfit::NotAnImage(features) => NetworkError::NotAnImage { layer, text, features, trail },
            Misfit::Kernel { image, largest } => NetworkError::Kernel { layer, text, image, largest, trail },
            Misfit::PoolSize(image) => NetworkError::PoolSize { layer, text, image, trail },
        }
    }
}

impl Role {
    /// Of a layer behind a value of this shape, whose features lie in the order of an image where they come of one.
    pub(super) fn new(layer: LayerSpec, value: Shape, order: Option<Image>) -> Result<Self, Misfit> {
        let image = || match value {
            Shape::Image(image) => Ok(image),
            Shape::Features(features) => Err(Misfit::NotAnImage(features)),
        };
        match layer {
            LayerSpec::Dense { units, bias } => match value {
                Shape::Features(inputs) => {
                    let (map, shape) = (LinearMap::Dense { flattened: order }, Shape::Features(units));
                    Ok(Self::Linear(Linear { inputs, units, bias, map, shape }))
                }
                Shape::Image(image) => Err(Misfit::NotFlat(image)),
            },
            LayerSpec::Conv { maps, kernel, padding, stride, bias } => {
                let image = image()?;
                let largest = image.height.min(image.width) + 2 * padding;
                let convolution = Convolution::new(image, maps, kernel, padding, stride);
                let convolution = convolution.ok_or(Misfit::Kernel { image, largest })?;
                let (map, shape) = (LinearMap::Convolution(convolution), Shape::Image(convolution.output));
                Ok(Self::Linear(Linear { inputs: convolution.patch(), units: maps, bias, map, shape }))
            }
            LayerSpec::Rectifier(rectifier) => Ok(Self::Rectifier(rectifier)),
            LayerSpec::Pool { pooling, size, stride } => {
                let image = image()?;
                Pool::new(pooling, image, size, stride).map(Self::Pool).ok_or(Misfit::PoolSize(image))
            }
            LayerSpec::Flatten => Ok(Self::Flatten),
        }
    }
}
