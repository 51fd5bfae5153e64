//! Chains of dense layers, by fast paths: the linearized rounds ([`window`]), products with their curvature ([`product`]) and the layers that
//! have a closed form (`docs/theory.md`, section 4).

pub(crate) mod direct;
pub(crate) mod frame;
pub(crate) mod output;
pub mod product;
pub mod window;
