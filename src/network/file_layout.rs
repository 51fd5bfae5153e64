//! How the weights of a block lie in files: names and order, as PyTorch has them.

use super::Block;

/// For each input of a block's neurons, its place in a file: there the channel comes before the position.
pub(super) fn file_order(block: &Block) -> impl Iterator<Item = usize> {
    let (positions, channels) = block.input_axes();
    (0..positions).flat_map(move |p| (0..channels).map(move |c| c * positions + p))
}

/// The name of a block's matrix in a safetensors file.
pub fn weight_name(block: &Block) -> String {
    format!("{}.weight", block.layer)
}

/// The name of a block's bias in a safetensors file.
pub fn bias_name(block: &Block) -> String {
    format!("{}.bias", block.layer)
}
