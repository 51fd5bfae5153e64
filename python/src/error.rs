//! The library's errors as Python's.

use pyo3::{
    PyErr,
    exceptions::{PyOSError, PyValueError},
};
use taylorscope::trace::TraceError;

/// `OSError` if a file could not be read or written, else `ValueError`.
pub fn as_python(error: TraceError) -> PyErr {
    let text = error.to_string();
    match error {
        TraceError::Read { .. } | TraceError::Write { .. } => PyOSError::new_err(text),
        _ => PyValueError::new_err(text),
    }
}
