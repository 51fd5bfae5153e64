//! The exact linearization of a network at its weights, on Burn tensors.
//!
//! Explicit passes, without autodiff, on any device and in `f32` or `f64`. This is the generic engine: the CPU
//! kernels in [`crate::kernels::dense`] do the same on slices for the hot loops and are tested against it.
//!
//! Rows of tensors are datapoints. `n` rows, `K` outputs, block `l` with `units_l` units and `inputs_l` inputs.

use super::Network;
use burn::tensor::{DType, Device, Tensor, TensorData};

/// A network at given weights and inputs, with everything needed for linear passes.
#[derive(Clone, Debug)]
pub struct Linearization {
    /// Per block: `[inputs, units]`.
    matrices: Vec<Tensor<2>>,
    /// Per block: the block's input `[n, inputs]`.
    inputs: Vec<Tensor<2>>,
    /// Per hidden block: `s'(a): [n, units]`.
    slopes: Vec<Tensor<2>>,
    output: Tensor<2>,
}

/// A change of the weights of one block.
#[derive(Clone, Debug)]
pub struct BlockDirection {
    /// `[inputs, units]`.
    pub matrix: Tensor<2>,
    /// `[1, units]`.
    pub bias: Tensor<2>,
}

/// Moves the part of a flat weight vector that belongs to each block onto a device, as [`BlockDirection`]s.
pub fn blocks_from_flat(network: &Network, flat: &[f64], device: &Device, dtype: DType) -> Vec<BlockDirection> {
    network
        .blocks()
        .iter()
        .map(|block| {
            let all = tensor(&flat[block.range()], block.units, block.width(), device, dtype).transpose();
            BlockDirection {
                matrix: all.clone().slice([0..block.inputs, 0..block.units]),
                bias: all.slice([block.inputs..block.width(), 0..block.units]),
            }
        })
        .collect()
}

/// A row-major matrix on a device.
pub fn tensor(values: &[f64], rows: usize, cols: usize, device: &Device, dtype: DType) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [rows, cols]), (device, dtype))
}

impl Linearization {
    /// Forward pass at the flat `weights` (rounded to the type of `x`) on `x: [n, inputs]`, recording the tape.
    pub fn new(network: &Network, weights: &[f64], x: Tensor<2>) -> Self {
        let (device, dtype) = (x.device(), x.dtype());
        let (mut matrices, mut inputs, mut slopes) = (Vec::new(), Vec::new(), Vec::new());
        let mut x = x;
        for (block, weights) in network.blocks().iter().zip(blocks_from_flat(network, weights, &device, dtype)) {
            let a = x.clone().matmul(weights.matrix.clone()) + weights.bias;
            inputs.push(x);
            matrices.push(weights.matrix);
            x = match block.rectifier {
                Some(rectifier) => {
                    let negative = a.clone().lower_elem(0.0);
                    let positive = a.clone().greater_elem(0.0);
                    let slope = a
                        .clone()
                        .full_like(rectifier.slope_at_zero())
                        .mask_fill(negative, rectifier.negative_slope())
                        .mask_fill(positive, 1.0);
                    slopes.push(slope.clone());
                    a * slope
                }
                None => {
                    if slopes.len() + 1 < network.blocks().len() {
                        slopes.push(a.ones_like());
                    }
                    a
                }
            };
        }
        Self { matrices, inputs, slopes, output: x }
    }

    /// The network's output `[n, K]`.
    pub fn output(&self) -> Tensor<2> {
        self.output.clone()
    }

    /// The slopes `s'(a): [n, units]` of a hidden block.
    pub fn slopes(&self, block: usize) -> Tensor<2> {
        self.slopes[block].clone()
    }

    /// The derivative of the output `[n, K]` as the weights move along `direction[l]` for each block `l` with an entry.
    ///
    /// `direction` has one entry per block; `None` keeps a block fixed.
    pub fn jvp(&self, direction: &[Option<BlockDirection>]) -> Tensor<2> {
        self.push_forward(None, direction)
    }

    /// The derivative of the output `[n, K]` as the inputs move along `dx: [n, inputs]`.
    pub fn jvp_input(&self, dx: Tensor<2>) -> Tensor<2> {
        self.push_forward(Some(dx), &vec![None; self.matrices.len()])
    }

    fn push_forward(&self, dx: Option<Tensor<2>>, direction: &[Option<BlockDirection>]) -> Tensor<2> {
        let mut tangent = dx;
        for (l, (matrix, direction)) in self.matrices.iter().zip(direction).enumerate() {
            let carried = tangent.map(|t| t.matmul(matrix.clone()));
            let own = direction.as_ref().map(|d| self.inputs[l].clone().matmul(d.matrix.clone()) + d.bias.clone());
            tangent = match (carried, own) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            }
            .map(|t| if l < self.slopes.len() { t * self.slopes[l].clone() } else { t });
        }
        tangent.unwrap_or_else(|| self.output.zeros_like())
    }

    /// The gradients of `<cotangent, output>` in the weights of every block, summed over the rows.
    pub fn vjp(&self, cotangent: Tensor<2>) -> Vec<BlockDirection> {
        self.deltas(cotangent)
            .into_iter()
            .zip(&self.inputs)
            .map(|(delta, x)| BlockDirection {
                matrix: x.clone().transpose().matmul(delta.clone()),
                bias: delta.sum_dim(0),
            })
            .collect()
    }

    /// The gradient of `<cotangent, output>` in the inputs, `[n, inputs]`.
    pub fn vjp_input(&self, cotangent: Tensor<2>) -> Tensor<2> {
        let first = self.deltas(cotangent).swap_remove(0);
        first.matmul(self.matrices[0].clone().transpose())
    }

    /// The cotangents of all pre-activations, `[n, units]` per block.
    pub fn deltas(&self, cotangent: Tensor<2>) -> Vec<Tensor<2>> {
        let mut deltas = vec![cotangent];
        for l in (1..self.matrices.len()).rev() {
            let above = deltas[deltas.len() - 1].clone();
            deltas.push(above.matmul(self.matrices[l].clone().transpose()) * self.slopes[l - 1].clone());
        }
        deltas.reverse();
        deltas
    }

    /// The output Jacobian in the pre-activations of a block: `J: [n, K, units]`, `J = d output / d a`.
    pub fn output_jacobian(&self, block: usize) -> Tensor<3> {
        let [rows, outputs] = self.output.dims();
        let (device, dtype) = (self.output.device(), self.output.dtype());
        let identity = Tensor::<2>::eye(outputs, &device).cast(dtype);
        let mut jacobian = identity.unsqueeze_dim::<3>(0).expand([rows, outputs, outputs]);
        for l in (block + 1..self.matrices.len()).rev() {
            let [inputs, units] = self.matrices[l].dims();
            let flat = jacobian.reshape([rows * outputs, units]);
            let below = flat.matmul(self.matrices[l].clone().transpose()).reshape([rows, outputs, inputs]);
            jacobian = below * self.slopes[l - 1].clone().unsqueeze_dim::<3>(1);
        }
        jacobian
    }

    /// The curvature matrices `M_l = J_l' H J_l: [n, units, units]` of every block by the recursion
    /// `M_{l-1} = s' (W_l M_l W_l') s'` (`docs/theory.md`, section 4), from `hessian: [n, K, K]` at the output.
    pub fn curvature(&self, hessian: Tensor<3>) -> Vec<Tensor<3>> {
        let mut all = vec![hessian];
        for l in (1..self.matrices.len()).rev() {
            let [inputs, units] = self.matrices[l].dims();
            let above = all[all.len() - 1].clone();
            let rows = above.dims()[0];
            let half = above.reshape([rows * units, units]).matmul(self.matrices[l].clone().transpose());
            let half = half.reshape([rows, units, inputs]).swap_dims(1, 2).reshape([rows * inputs, units]);
            let full = half.matmul(self.matrices[l].clone().transpose()).reshape([rows, inputs, inputs]);
            let slopes = self.slopes[l - 1].clone();
            all.push(full * slopes.clone().unsqueeze_dim::<3>(1) * slopes.unsqueeze_dim::<3>(2));
        }
        all.reverse();
        all
    }
}
