//! The certified search for the minimum of any convex function.

use crate::external::{PythonProducts, raised};
use numpy::PyArray1;
use pyo3::prelude::*;
use std::sync::atomic::AtomicBool;
use taylorscope::taylor::{
    StopReason,
    external::{Minimization, Products, minimize as search},
};

/// Value, gap, point, products, why the search ended, and what to do about it.
type Found<'py> = (f64, f64, Bound<'py, PyArray1<f64>>, usize, &'static str, &'static str);

/// Minimizes over the ball of a radius around 0; gives value, gap, point, products and why the search ended, in a word and in a sentence.
///
/// `problem` has the methods of `taylorscope.torch_backend.products.Problem`.
#[pyfunction]
pub fn minimize<'py>(
    py: Python<'py>,
    problem: Bound<'py, PyAny>,
    radius: f64,
    tolerance: f64,
    max_products: usize,
    start: Vec<f64>,
) -> PyResult<Found<'py>> {
    let products = PythonProducts::new(problem)?;
    debug_assert_eq!(products.dimension(), start.len());
    let stop = AtomicBool::new(false);
    let asked = Minimization { radius, tolerance, max_products, start: &start, stop: &stop };
    let found = py.detach(|| search(&products, asked)).map_err(raised)?;
    let word = match found.stop {
        StopReason::Converged => "converged",
        StopReason::Iterations => "budget",
        StopReason::Rounding => "rounding",
        StopReason::AtInfinity => "at_infinity",
        StopReason::Halted => "halted",
    };
    let point = PyArray1::from_vec(py, found.displacement);
    Ok((found.value, found.gap, point, found.iterations, word, found.stop.message()))
}
