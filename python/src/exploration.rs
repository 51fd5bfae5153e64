//! Exploration metrics of activation patterns that lie in memory.

use numpy::{PyArray1, PyReadonlyArray4, PyUntypedArrayMethods};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyDict};
use taylorscope::activation::{Configurations, Neuron, exploration::NeuronRow, explore};

const BITS: usize = u64::BITS as usize;

/// Metrics of `patterns: [configurations, datapoints, units, positions]`, 1 where a unit is active: a dictionary of the columns of
/// `novelty.csv` (the two distances without the first configuration, which has none before it) and of `neurons.csv`.
#[pyfunction]
pub fn explore_patterns<'py>(py: Python<'py>, patterns: PyReadonlyArray4<'py, u8>) -> PyResult<Bound<'py, PyDict>> {
    let &[count, datapoints, units, positions] = patterns.shape() else { unreachable!("the array has four axes") };
    if count == 0 || datapoints == 0 || units == 0 || positions == 0 {
        return Err(PyValueError::new_err("there is nothing to compare: an axis of the patterns is empty"));
    }
    let values = patterns.as_slice()?;
    let (novelty, neurons) = py.detach(|| explore(&pack(values, [count, datapoints, units, positions])));
    let columns = PyDict::new(py);
    let distances = |of: fn(&taylorscope::activation::exploration::NoveltyRow) -> Option<u64>| {
        let column: Vec<i64> = novelty[1..].iter().map(|row| of(row).unwrap_or_default() as i64).collect();
        PyArray1::from_vec(py, column)
    };
    columns.set_item("min_hamming", distances(|row| row.min_hamming))?;
    columns.set_item("previous_hamming", distances(|row| row.previous_hamming))?;
    columns.set_item("bits", novelty[0].bits)?;
    let whole = |of: fn(&NeuronRow) -> i64| PyArray1::from_vec(py, neurons.iter().map(of).collect());
    let real = |of: fn(&NeuronRow) -> f64| PyArray1::from_vec(py, neurons.iter().map(of).collect());
    columns.set_item("switches", whole(|row| row.switches as i64))?;
    columns.set_item("rank", whole(|row| row.rank as i64))?;
    columns.set_item("log_volume", real(|row| row.log_volume))?;
    columns.set_item("log_det", real(|row| row.log_det))?;
    columns.set_item("active_fraction", real(|row| row.active_fraction))?;
    columns.set_item("dead", PyArray1::from_vec(py, neurons.iter().map(|row| row.dead).collect()))?;
    Ok(columns)
}

/// The patterns as the library keeps them: for each unit a row of bits for each configuration.
fn pack(values: &[u8], [count, datapoints, units, positions]: [usize; 4]) -> Configurations {
    let places = datapoints * positions;
    let words = places.div_ceil(BITS);
    let mut bits = vec![vec![0u64; count * words]; units];
    for (row, value) in values.chunks_exact(positions).enumerate() {
        let (n, i, m) = (row / (datapoints * units), row / units % datapoints, row % units);
        for (p, _) in value.iter().enumerate().filter(|(_, value)| **value != 0) {
            let place = i * positions + p;
            bits[m][n * words + place / BITS] |= 1 << (place % BITS);
        }
    }
    let neuron = |neuron| Neuron { layer: 0, neuron, positions, rests: true };
    Configurations { rounds: (0..count).collect(), datapoints, neurons: (0..units).map(neuron).collect(), bits }
}
