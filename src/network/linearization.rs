//! The exact linearization of a network at its weights, on Burn tensors.
//!
//! Explicit passes, without autodiff, on any device and in `f32` or `f64`. This is the generic engine: the CPU
//! kernels in [`crate::kernels::passes`] do the same on slices for the hot loops and are tested against it.
//!
//! Rows of tensors are datapoints. `n` rows, `K` outputs, block `l` with `units_l` units and `inputs_l` inputs per unit. Images lie
//! in a row as `[height, width, channels]`, except in the data, where they are `[channels, height, width]`.

use super::{Block, Convolution, LinearMap, Network, Shape, gates::Gate};
use burn_tensor::{
    DType, Device, Tensor, TensorData,
    module::{conv_transpose2d, conv2d, conv2d_weight_backward},
    ops::{ConvOptions, ConvTransposeOptions},
};

/// A network at given weights and inputs, with everything needed for linear passes.
#[derive(Clone, Debug)]
pub struct Linearization {
    blocks: Vec<Block>,
    /// Whether the first block takes the values of the data in another order.
    reordered: bool,
    /// Per block: `[inputs, units]`.
    matrices: Vec<Tensor<2>>,
    /// Per block: the block's input `[n, features in]`.
    inputs: Vec<Tensor<2>>,
    /// Per hidden block, what stands behind its pre-activations.
    gates: Vec<Gate>,
    output: Tensor<2>,
}

/// A change of the weights of one block.
#[derive(Clone, Debug)]
pub struct BlockDirection {
    /// `[inputs, units]`.
    pub matrix: Tensor<2>,
    /// `[1, units]`; zeros, and of no effect, for a block without biases.
    pub bias: Tensor<2>,
}

/// Moves the part of a flat weight vector that belongs to each block onto a device, as [`BlockDirection`]s.
pub fn blocks_from_flat(network: &Network, flat: &[f64], device: &Device, dtype: DType) -> Vec<BlockDirection> {
    network
        .blocks()
        .iter()
        .map(|block| {
            let all = tensor(&flat[block.range()], block.units, block.width(), device, dtype).transpose();
            let matrix = all.clone().slice([0..block.inputs, 0..block.units]);
            let bias = match block.bias {
                true => all.slice([block.inputs..block.width(), 0..block.units]),
                false => Tensor::zeros([1, block.units], (device, dtype)),
            };
            BlockDirection { matrix, bias }
        })
        .collect()
}

/// A row-major matrix on a device.
pub fn tensor(values: &[f64], rows: usize, cols: usize, device: &Device, dtype: DType) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [rows, cols]), (device, dtype))
}

/// Rows of images `[n, height * width * channels]` as `[n, channels, height, width]`.
fn to_images(x: Tensor<2>, [channels, height, width]: [usize; 3]) -> Tensor<4> {
    let rows = x.dims()[0];
    x.reshape([rows, height, width, channels]).permute([0, 3, 1, 2])
}

/// The inverse of [`to_images`].
fn to_rows(images: Tensor<4>) -> Tensor<2> {
    let [rows, channels, height, width] = images.dims();
    images.permute([0, 2, 3, 1]).reshape([rows, channels * height * width])
}

/// A convolution's filters `[kernel * kernel * channels, maps]` as PyTorch has them, `[maps, channels, kernel, kernel]`.
fn filters(c: &Convolution, matrix: Tensor<2>) -> Tensor<4> {
    let maps = matrix.dims()[1];
    matrix.reshape([c.kernel, c.kernel, c.input.channels, maps]).permute([3, 2, 0, 1])
}

fn options(c: &Convolution) -> ConvOptions<2> {
    ConvOptions::new([c.stride; 2], [c.padding; 2], [1; 2], 1)
}

fn sizes(image: super::Image) -> [usize; 3] {
    [image.channels, image.height, image.width]
}

/// The linear map of a block: `[n, features in]` to `[n, pre-activations]`.
fn apply(block: &Block, x: Tensor<2>, matrix: Tensor<2>, bias: Option<Tensor<2>>) -> Tensor<2> {
    let bias = bias.filter(|_| block.bias);
    match &block.map {
        LinearMap::Dense { .. } => {
            let a = x.matmul(matrix);
            if let Some(bias) = bias { a + bias } else { a }
        }
        LinearMap::Convolution(c) => {
            let bias = bias.map(|bias| bias.reshape([block.units]));
            to_rows(conv2d(to_images(x, sizes(c.input)), filters(c, matrix), bias, options(c)))
        }
    }
}

/// Its transpose: `[n, pre-activations]` to `[n, features in]`.
fn apply_transposed(block: &Block, delta: Tensor<2>, matrix: Tensor<2>) -> Tensor<2> {
    match &block.map {
        LinearMap::Dense { .. } => delta.matmul(matrix.transpose()),
        LinearMap::Convolution(c) => {
            // Rows and columns that no kernel reaches get nothing; the transposed convolution must still produce them.
            let rest = |side: usize| (side + 2 * c.padding - c.kernel) % c.stride;
            let out = [rest(c.input.height), rest(c.input.width)];
            let options = ConvTransposeOptions::new([c.stride; 2], [c.padding; 2], out, [1; 2], 1);
            to_rows(conv_transpose2d(to_images(delta, sizes(c.output)), filters(c, matrix), None, options))
        }
    }
}

/// The derivative of `<delta, a>` in the weights of a block.
fn outer(block: &Block, x: Tensor<2>, delta: Tensor<2>, matrix: Tensor<2>) -> BlockDirection {
    let sums = |delta: Tensor<2>| {
        let sums = delta.sum_dim(0);
        if block.bias { sums } else { sums.zeros_like() }
    };
    match &block.map {
        LinearMap::Dense { .. } => BlockDirection { matrix: x.transpose().matmul(delta.clone()), bias: sums(delta) },
        LinearMap::Convolution(c) => {
            let (images, deltas) = (to_images(x, sizes(c.input)), to_images(delta.clone(), sizes(c.output)));
            let gradient = conv2d_weight_backward(images, filters(c, matrix), deltas, options(c));
            let positions = delta.dims()[0] * c.output.positions();
            BlockDirection {
                matrix: gradient.permute([2, 3, 1, 0]).reshape([block.inputs, block.units]),
                bias: sums(delta.reshape([positions, block.units])),
            }
        }
    }
}

impl Linearization {
    /// Forward pass at the flat `weights` (rounded to the type of `x`) on `x: [n, inputs]`, recording the tape.
    pub fn new(network: &Network, weights: &[f64], x: Tensor<2>) -> Self {
        let (device, dtype) = (x.device(), x.dtype());
        let (mut matrices, mut inputs, mut gates) = (Vec::new(), Vec::new(), Vec::new());
        let blocks = network.blocks().to_vec();
        let reordered = blocks[0].convolution().is_some() && matches!(network.input(), Shape::Image(_));
        let mut x = if reordered { reorder(&blocks[0], x, true) } else { x };
        for (block, weights) in blocks.iter().zip(blocks_from_flat(network, weights, &device, dtype)) {
            let a = apply(block, x.clone(), weights.matrix.clone(), Some(weights.bias));
            inputs.push(x);
            matrices.push(weights.matrix);
            if gates.len() + 1 == blocks.len() {
                x = a;
                break;
            }
            let gate = Gate::new(block, &a);
            x = gate.push(a);
            gates.push(gate);
        }
        Self { blocks, reordered, matrices, inputs, gates, output: x }
    }

    /// The network's output `[n, K]`.
    pub fn output(&self) -> Tensor<2> {
        self.output.clone()
    }

    /// The slopes `s'(a): [n, pre-activations]` of a hidden block.
    pub fn slopes(&self, block: usize) -> Tensor<2> {
        self.gates[block].slopes()
    }

    /// The derivative of the output `[n, K]` as the weights move along `direction[l]` for each block `l` with an entry.
    ///
    /// `direction` has one entry per block; `None` keeps a block fixed.
    pub fn jvp(&self, direction: &[Option<BlockDirection>]) -> Tensor<2> {
        self.push_forward(None, direction)
    }

    /// The derivative of the output `[n, K]` as the inputs move along `dx: [n, inputs]`.
    pub fn jvp_input(&self, dx: Tensor<2>) -> Tensor<2> {
        let dx = if self.reordered { reorder(&self.blocks[0], dx, true) } else { dx };
        self.push_forward(Some(dx), &vec![None; self.matrices.len()])
    }

    fn push_forward(&self, dx: Option<Tensor<2>>, direction: &[Option<BlockDirection>]) -> Tensor<2> {
        let mut tangent = dx;
        for (l, (block, direction)) in self.blocks.iter().zip(direction).enumerate() {
            let carried = tangent.map(|t| apply(block, t, self.matrices[l].clone(), None));
            let own = direction
                .as_ref()
                .map(|d| apply(block, self.inputs[l].clone(), d.matrix.clone(), Some(d.bias.clone())));
            tangent = match (carried, own) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            }
            .map(|t| if let Some(gate) = self.gates.get(l) { gate.push(t) } else { t });
        }
        tangent.unwrap_or_else(|| self.output.zeros_like())
    }

    /// The gradients of `<cotangent, output>` in the weights of every block, summed over the rows.
    pub fn vjp(&self, cotangent: Tensor<2>) -> Vec<BlockDirection> {
        let parts = self.deltas(cotangent).into_iter().enumerate();
        parts
            .map(|(l, delta)| outer(&self.blocks[l], self.inputs[l].clone(), delta, self.matrices[l].clone()))
            .collect()
    }

    /// The gradient of `<cotangent, output>` in the inputs, `[n, inputs]`.
    pub fn vjp_input(&self, cotangent: Tensor<2>) -> Tensor<2> {
        let first = self.deltas(cotangent).swap_remove(0);
        let dx = apply_transposed(&self.blocks[0], first, self.matrices[0].clone());
        if self.reordered { reorder(&self.blocks[0], dx, false) } else { dx }
    }

    /// The cotangents of all pre-activations, `[n, pre-activations]` per block.
    pub fn deltas(&self, cotangent: Tensor<2>) -> Vec<Tensor<2>> {
        let mut deltas = vec![cotangent];
        for l in (1..self.matrices.len()).rev() {
            let above = deltas[deltas.len() - 1].clone();
            deltas.push(self.gates[l - 1].pull(apply_transposed(&self.blocks[l], above, self.matrices[l].clone())));
        }
        deltas.reverse();
        deltas
    }

    /// The output Jacobian in the pre-activations of a block: `J: [n, K, pre-activations]`, `J = d output / d a`, one backward pass per
    /// output.
    pub fn output_jacobian(&self, block: usize) -> Tensor<3> {
        let [rows, outputs] = self.output.dims();
        let row = |k: usize| {
            let unit =
                self.output.zeros_like().slice_assign([0..rows, k..k + 1], self.output.ones_like().narrow(1, k, 1));
            self.deltas(unit).swap_remove(block).unsqueeze_dim::<3>(1)
        };
        Tensor::cat((0..outputs).map(row).collect(), 1)
    }

    /// The curvature matrices `M_l = J_l' H J_l: [n, units, units]` of every block from the first dense one up, by the recursion
    /// `M_{l-1} = s' (W_l M_l W_l') s'` (`docs/theory.md`, section 4), from `hessian: [n, K, K]` at the output.
    pub fn curvature(&self, hessian: Tensor<3>) -> Vec<Tensor<3>> {
        let mut all = vec![hessian];
        for l in (1..self.matrices.len()).rev().take_while(|l| self.blocks[l - 1].convolution().is_none()) {
            let [inputs, units] = self.matrices[l].dims();
            let above = all[all.len() - 1].clone();
            let rows = above.dims()[0];
            let half = above.reshape([rows * units, units]).matmul(self.matrices[l].clone().transpose());
            let half = half.reshape([rows, units, inputs]).swap_dims(1, 2).reshape([rows * inputs, units]);
            let full = half.matmul(self.matrices[l].clone().transpose()).reshape([rows, inputs, inputs]);
            let slopes = self.slopes(l - 1);
            all.push(full * slopes.clone().unsqueeze_dim::<3>(1) * slopes.unsqueeze_dim::<3>(2));
        }
        all.reverse();
        all
    }
}

/// Rows of data, `[channels, height, width]`, in the order of the network, or back.
fn reorder(first: &Block, x: Tensor<2>, to_network: bool) -> Tensor<2> {
    let Some(c) = first.convolution() else { return x };
    let rows = x.dims()[0];
    let [channels, height, width] = sizes(c.input);
    match to_network {
        true => to_rows(x.reshape([rows, channels, height, width])),
        false => to_images(x, sizes(c.input)).reshape([rows, channels * height * width]),
    }
}
