//! The exact linearization of a network at given weights and data.

use super::{Passes, Point, Tape};
use crate::{
    kernels::{
        View,
        block::{self, Scratch},
        matmul,
    },
    network::Network,
    num::Real,
};

/// A network at given weights and datapoints, with everything needed for linear passes.
///
/// Explicit passes, without automatic differentiation. All arrays are row-major; `n` is the number of datapoints and `K` that of the outputs.
/// Directions and gradients are flat vectors in the layout of the weights ([`Network`]): zeros keep weights fixed. An image is
/// `[channels, height, width]` in the data; the pre-activations of a convolution are `[height, width, filters]`.
///
/// ```
/// use taylorscope::{network::{LayerSpec, Network, Rectifier, he_uniform}, passes::Linearization};
///
/// let layers = [LayerSpec::dense(3), LayerSpec::Rectifier(Rectifier::Relu), LayerSpec::dense(2)];
/// let network = Network::new(4, &layers)?;
/// let weights: Vec<f64> = he_uniform(&network, 1);
/// let x = [0.5, -1.0, 0.25, 2.0];
/// let here = Linearization::new(&network, &weights, &x);
/// let gradient = here.vjp(&[1.0, 0.0]);
/// assert_eq!((here.output().len(), gradient.len()), (2, weights.len()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Linearization<'a, T> {
    network: &'a Network,
    weights: &'a [T],
    x: &'a [T],
    tape: Tape<T>,
}

impl<'a, T: Real> Linearization<'a, T> {
    /// Forward pass at the flat `weights` on `x: [n, inputs]`, recording the tape.
    ///
    /// # Panics
    /// If the weights do not have the network's length, or `x` is not a whole number of rows.
    pub fn new(network: &'a Network, weights: &'a [T], x: &'a [T]) -> Self {
        assert_eq!(weights.len(), network.parameters(), "the weights have the network's length");
        assert!(x.len().is_multiple_of(network.inputs()), "the data have whole rows");
        let tape = Tape::record(network, weights, x, x.len() / network.inputs());
        Self { network, weights, x, tape }
    }

    /// For passes with buffers to reuse.
    pub fn point(&self) -> Point<'_, T> {
        Point { network: self.network, weights: self.weights, x: self.x, tape: &self.tape }
    }

    /// Number of datapoints `n`.
    pub fn rows(&self) -> usize {
        self.tape.rows
    }

    /// The network's output `[n, K]`.
    pub fn output(&self) -> &[T] {
        &self.tape.output
    }

    /// What the forward pass recorded.
    pub fn tape(&self) -> &Tape<T> {
        &self.tape
    }

    /// `J d: [n, K]`, the derivative of the output as the weights move along `direction`.
    pub fn jvp(&self, direction: &[T]) -> Vec<T> {
        Passes::new().jvp(&self.point(), direction, 0..self.network.blocks().len())
    }

    /// The derivative of the output `[n, K]` as the data move along `dx: [n, inputs]`.
    pub fn jvp_input(&self, dx: &[T]) -> Vec<T> {
        Passes::new().jvp_input(&self.point(), dx)
    }

    /// `J' c`, the gradient of `<cotangent, output>` in the weights, for `cotangent: [n, K]`.
    pub fn vjp(&self, cotangent: &[T]) -> Vec<T> {
        let (mut passes, mut gradient) = (Passes::new(), vec![T::ZERO; self.weights.len()]);
        passes.output_cotangent(self.network).extend_from_slice(cotangent);
        passes.vjp(&self.point(), 0..self.network.blocks().len(), &mut gradient);
        gradient
    }

    /// The gradient of `<cotangent, output>` in the data, `[n, inputs]`.
    pub fn vjp_input(&self, cotangent: &[T]) -> Vec<T> {
        Passes::new().vjp_input(&self.point(), cotangent)
    }

    /// `J_l = d output / d a_l: [n, K, pre-activations]`, the output Jacobian in the pre-activations of block `l`.
    pub fn jacobian(&self, l: usize) -> Vec<T> {
        let mut jacobian = Vec::new();
        Passes::new().output_jacobians(&self.point(), l, |at, cotangents| {
            if at == l {
                let block = &self.network.blocks()[l];
                jacobian = block::pre_activation_cotangents(block, cotangents, &mut Scratch::default());
            }
        });
        jacobian
    }

    /// `M_l = J_l' H J_l: [n, pre-activations, pre-activations]`, the curvature in the pre-activations of block `l`, from the Hessians of
    /// the loss in the outputs, `hessian: [n, K, K]` (`docs/theory.md`, section 4).
    pub fn curvature(&self, l: usize, hessian: &[T]) -> Vec<T> {
        let (outputs, size) = (self.network.outputs(), self.network.blocks()[l].activations());
        let jacobian = self.jacobian(l);
        let mut curvature = vec![T::ZERO; self.rows() * size * size];
        let mut product = vec![T::ZERO; outputs * size];
        for (i, m) in curvature.chunks_exact_mut(size * size).enumerate() {
            let j = View::new(&jacobian[i * outputs * size..], outputs, size);
            let h = View::new(&hessian[i * outputs * outputs..], outputs, outputs);
            matmul(&mut product, size, h, j, false);
            matmul(m, size, j.t(), View::new(&product, outputs, size), false);
        }
        curvature
    }
}
