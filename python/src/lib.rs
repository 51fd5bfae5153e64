//! What the Python package has from Rust: the command line, the writer of traces, exploration metrics and kinks on NumPy arrays.
//!
//! Errors become `ValueError` (what was handed over is wrong) or `OSError` (a file cannot be written), with the library's text.

mod command;
mod external;
mod search;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::command::main;

    #[pymodule_export]
    use crate::external::analyze_external;

    #[pymodule_export]
    use crate::search::minimize;

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
