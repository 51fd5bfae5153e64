//! The library's errors as Python's.

use pyo3::{
    PyErr,
    exceptions::{PyOSError, PyValueError},
};
use taylorscope::trace::TraceError;

/// Why a trace could not be recorded, in words.
#[derive(Clone, Debug)]
pub struct Failure {
    text: String,
    /// Whether a file could not be read or written.
    of_a_file: bool,
}

impl Failure {
    /// Something that was handed over is wrong.
    pub fn refused(text: String) -> Self {
        Self { text, of_a_file: false }
    }
}

impl From<TraceError> for Failure {
    fn from(error: TraceError) -> Self {
        let of_a_file = matches!(error, TraceError::Read { .. } | TraceError::Write { .. });
        Self { text: error.to_string(), of_a_file }
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> PyErr {
        if failure.of_a_file { PyOSError::new_err(failure.text) } else { PyValueError::new_err(failure.text) }
    }
}
