//! The order of images: `[channels, height, width]` in the data, `[height, width, channels]` in the network.

use crate::{
    network::{Image, Network, Shape, Source},
    num::Real,
};

/// The image whose values a node takes in another order than the data has them.
pub(super) fn reordered(network: &Network) -> Option<Image> {
    let takes = network.nodes().iter().flat_map(|node| &node.inputs).any(|source| *source == Source::Image);
    match network.input() {
        Shape::Image(image) if takes => Some(image),
        _ => None,
    }
}

/// Data `[rows, inputs]` in the order in which the first block takes them, `out: [rows, inputs]`, which is replaced.
pub fn in_network_order<T: Real>(network: &Network, data: &[T], out: &mut Vec<T>) {
    out.clear();
    match (network.blocks()[0].source, network.input()) {
        (Source::Image, Shape::Image(image)) => channels_last(image, data, out),
        _ => out.extend_from_slice(data),
    }
}

/// From `[channels, height, width]` to `[height, width, channels]`, image by image.
pub(super) fn channels_last<T: Real>(image: Image, data: &[T], out: &mut Vec<T>) {
    out.resize(data.len(), T::ZERO);
    for (to, from) in out.chunks_exact_mut(image.len()).zip(data.chunks_exact(image.len())) {
        for (c, plane) in from.chunks_exact(image.positions()).enumerate() {
            to[c..].iter_mut().step_by(image.channels).zip(plane).for_each(|(to, v)| *to = *v);
        }
    }
}

/// Adds to `out: [channels, height, width]` what lies as `[height, width, channels]`, image by image: the adjoint of [`channels_last`].
pub(super) fn add_channels_first<T: Real>(image: Image, values: &[T], out: &mut [T]) {
    for (to, from) in out.chunks_exact_mut(image.len()).zip(values.chunks_exact(image.len())) {
        for (c, plane) in to.chunks_exact_mut(image.positions()).enumerate() {
            plane.iter_mut().zip(from[c..].iter().step_by(image.channels)).for_each(|(to, v)| *to += *v);
        }
    }
}
