//! Kinks: points of a segment where the function changes its linear piece.

/// What happens at a kink to the unit that causes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A rectifier's pre-activation becomes positive.
    On,
    /// A rectifier's pre-activation ceases to be positive.
    Off,
    /// The largest value of a pooling window is at another place, in row-major order.
    Winner { from: usize, to: usize },
}

/// A point of the segment where one unit changes its state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kink {
    /// The segment's parameter.
    pub at: f64,
    /// The layer with the unit's weights, or the pool, as an index in the layer list.
    pub layer: usize,
    /// The value of that layer: `position * neurons + neuron`, where dense layers have one position; of a pool
    /// `window * channels + channel`.
    pub unit: usize,
    pub change: Change,
}

/// Bytes that are counted for a kink; its vector may have twice the room that it needs.
pub const KINK_BYTES: usize = 2 * size_of::<Kink>();
