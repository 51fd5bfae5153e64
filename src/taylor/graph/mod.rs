//! Any network, by the passes over its layers: rounds of a run ([`sample`]), the objective of what moves ([`matrix_free`]) and that of a single
//! neuron ([`gradients`]; `docs/theory.md`, section 4).

pub mod gradients;
pub mod matrix_free;
pub mod sample;
