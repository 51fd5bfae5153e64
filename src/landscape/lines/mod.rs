//! Segments along which the network is piecewise linear, by what changes at each kink.
//!
//! Where the input moves, or the weights of one layer, every unit is a line between kinks, and a kink of one unit changes the lines of the
//! units that it reaches and no others. So every unit keeps its line, and what goes from layer to layer are the units that take another line
//! and the points at which they do ([`Changes`]): the work per kink is that of its own differences, which for a convolution are those of
//! its receptive fields, in place of a pass through the network.
//!
//! - [`changes`]: which units take which lines where; how what a layer finds itself is put between what it was given
//! - [`spread`]: the difference that changed inputs make to pre-activations
//! - [`layer`]: a layer with weights and its rectifier; [`pool`]: a max-pool
//! - [`walk`]: all layers together, from the beginning of a segment to its end
//! - [`unrolled`]: every unit on every piece again, for the layers behind the last kink

pub mod changes;
pub mod layer;
pub mod pool;
pub mod spread;
pub mod unrolled;
pub mod walk;

pub use changes::Changes;
pub use layer::LayerLines;
pub use pool::PoolLines;
pub use spread::Spread;
pub use unrolled::Unrolled;
pub use walk::Walk;
