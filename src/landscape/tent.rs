//! Networks whose kinks are known: the composed tent map.

use crate::network::{LayerSpec, Network, Rectifier};

/// The `depth`-fold composition of the tent map `T(x) = 2 relu(x) - 4 relu(x - 1/2)` as a ReLU network with `depth` hidden
/// layers of two units, and its flat weights.
///
/// On `[0, 1]` it has exactly `2^depth` linear pieces of slope `+-2^depth`, with kinks at the multiples of `2^-depth`: the
/// number of kinks is exponential in the depth (Telgarsky 2016). All numbers are dyadic, so floating point is exact.
///
/// # Panics
/// If `depth` is 0.
pub fn tent(depth: usize) -> (Network, Vec<f64>) {
    assert!(depth > 0, "a tent network has at least one hidden layer");
    let mut layers = Vec::new();
    // First hidden layer: x and x - 1/2, with their biases behind the weights.
    let mut weights = vec![1.0, 0.0, 1.0, -0.5];
    for layer in 0..depth {
        layers.extend([LayerSpec::dense(2), LayerSpec::Rectifier(Rectifier::Relu)]);
        if layer > 0 {
            weights.extend([2.0, -4.0, 0.0, 2.0, -4.0, -0.5]);
        }
    }
    layers.push(LayerSpec::dense(1));
    weights.extend([2.0, -4.0, 0.0]);
    (Network::new(1, &layers).expect("two units after two units fit"), weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::landscape::{Propagation, Segment};

    #[test]
    fn tent_networks_have_two_to_the_depth_pieces() {
        for depth in 1..=16 {
            let (network, weights) = tent(depth);
            let propagation = Propagation::new(&network, &weights, None);
            let path = propagation.path(&Segment { input: &[0.0], step: Some(&[1.0]), from: 0.0, to: 1.0 });
            let pieces = path.outputs();
            let count = 1 << depth;
            assert_eq!(pieces.len(), count, "depth {depth}");
            assert_eq!(path.kinks.len(), count - 1, "one unit for each kink");
            let slope = count as f64;
            for p in 0..count {
                assert_eq!(pieces.bounds()[p], p as f64 / slope);
                assert_eq!(pieces.row(1, p), [if p % 2 == 0 { slope } else { -slope }]);
                assert_eq!(pieces.row(0, p), [(p % 2) as f64]);
            }
        }
    }
}
