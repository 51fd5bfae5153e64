//! The command line.

use pyo3::prelude::*;
use std::{
    ffi::OsString,
    io::{self, Write},
};

/// Runs the program with these arguments, without its name, and gives its exit code: 0 done, 1 failed, 2 wrong usage.
///
/// From then on Ctrl-C asks the command for an end and does not raise `KeyboardInterrupt`, so call it in a process that does nothing else.
#[pyfunction]
pub fn main(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    let command_line: Vec<OsString> = std::iter::once("taylorscope".into()).chain(arguments).collect();
    py.detach(|| {
        let code = taylorscope::cli::run_with(&command_line);
        // The process ends as Python's do, which knows nothing of what Rust still holds.
        let _ = io::stdout().flush();
        code
    })
}
