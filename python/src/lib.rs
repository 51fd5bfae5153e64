//! What the Python package has from Rust: the command line, the writer of traces, exploration metrics and kinks on NumPy arrays.
//!
//! Errors become `ValueError` (what was handed over is wrong) or `OSError` (a file cannot be written), with the library's text.

mod command;
mod error;
mod exploration;
mod external;
mod landscape;
mod recording;
mod search;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::{
        command::main, exploration::explore_patterns, external::analyze_external, landscape::kinks_along,
        recording::Recorder, search::minimize,
    };

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
