//! How the optima of a layer are found (`docs/theory.md`, section 4).

use super::settings::ClosedForm;
use crate::{loss::Loss, network::Network};

/// Layers of up to this many weights are dense problems: the matrix of a larger one takes longer than the iterations.
pub const DENSE_WEIGHTS: usize = 1600;

/// How the optima of a layer are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerStrategy {
    /// The output layer under the mean squared error: a diagonal problem in the eigenvectors of its inputs' moments.
    OutputLayer,
    /// A small layer under the mean squared error: a dense quadratic.
    DenseQuadratic,
    /// Any other: the certified subspace iteration.
    Subspace,
}

impl LayerStrategy {
    /// That of the layer with the position `l` among those with weights.
    pub fn of(network: &Network, loss: Loss, l: usize) -> Self {
        let blocks = network.blocks();
        if !loss.is_quadratic() || !network.is_dense_chain() {
            Self::Subspace
        } else if l + 1 == blocks.len() {
            Self::OutputLayer
        } else if blocks[l].range().len() <= DENSE_WEIGHTS {
            Self::DenseQuadratic
        } else {
            Self::Subspace
        }
    }

    pub fn closed_form(self) -> ClosedForm {
        match self {
            Self::OutputLayer | Self::DenseQuadratic => ClosedForm::Yes,
            Self::Subspace => ClosedForm::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::LayerSpec;

    #[test]
    fn closed_forms_are_for_small_layers_and_the_output_under_the_squared_error() {
        let dense = |units| LayerSpec::Dense { units, bias: true };
        let network = Network::new(100, &[dense(40), dense(30), dense(200)]).unwrap();
        let of = |loss| [0, 1, 2].map(|l| LayerStrategy::of(&network, loss, l));
        use LayerStrategy::{DenseQuadratic, OutputLayer, Subspace};
        assert_eq!(of(Loss::Mse), [Subspace, DenseQuadratic, OutputLayer], "4040, 1230 and 6200 weights");
        assert_eq!(of(Loss::CrossEntropy), [Subspace; 3]);
    }
}
