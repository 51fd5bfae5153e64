//! The tests of the library from outside and of the command line, in one crate: what is generic in the library is compiled for them
//! once. `cargo test --release --test suite theorem::` runs a part.

mod activations;
mod analyze;
mod architecture;
mod bad_input;
mod cli;
mod common;
mod convolutions;
mod crash;
mod datasets;
mod determinism;
mod docs;
mod experiments;
mod explore;
mod facts;
mod landscape;
mod landscape_cli;
mod minibatches;
mod optima;
mod optimizers;
mod passes;
mod plain_paths;
mod recorded_traces;
mod resume;
mod resume_for_longer;
mod shared_machines;
mod support;
mod theorem;
mod traces_as_they_come;
mod trouble;
mod tune;
mod without_bias;
