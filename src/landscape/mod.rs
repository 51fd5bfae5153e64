//! Shattered landscapes: every kink of a network along a segment, and the function between them, without sampling.
//!
//! A rectifier network is piecewise linear in its input, in the weights of one layer and in those of one neuron; along a
//! segment in all weights it is piecewise polynomial, of degree at most its depth (`docs/theory.md`, section 6).
//!
//! - [`kink`]: where the function changes its piece
//! - [`propagation`]: from a network and a segment to kinks and pieces
//! - [`lines`]: the same where the network is piecewise linear, by what changes at each kink
//! - [`stages`]: what layers do to polynomials on pieces, one layer after the other; [`way`]: what is found there
//! - [`path`]: the result: kinks in order, and outputs, slopes and losses anywhere between them
//! - [`pieces`]: the representation that is propagated; [`affine`], [`rectifier`] and [`pool`]: what each
//!   kind of layer does to it
//! - [`mod@regions`]: the linear regions on a plane, as polygons
//! - [`roots`]: where a polynomial changes its sign
//! - [`mod@profile`]: the mean loss of several datapoints, together with its Taylor loss; [`updates`]: what updates cross
//! - [`shatter`]: the autocorrelation of gradients; [`mod@tent`]: networks whose kinks are known
//! - [`limits`]: how much memory all of this may take, and when it ends early

pub mod affine;
pub mod kink;
pub mod limits;
pub mod lines;
pub mod path;
pub mod pieces;
pub mod pool;
pub mod profile;
pub mod propagation;
pub mod rectifier;
pub mod regions;
pub mod roots;
pub mod shatter;
pub mod stages;
pub mod tent;
pub mod updates;
pub mod way;

pub use kink::{Change, Kink};
pub use limits::{Ended, Limits};
pub use path::{Path, Target};
pub use pieces::Pieces;
pub use profile::{Datapoint, Profile, ProfilePiece, profile};
pub use propagation::{Propagation, Segment};
pub use regions::{Directions, Plane, Region, regions};
pub use shatter::Autocorrelation;
pub use tent::tent;
pub use updates::Update;
