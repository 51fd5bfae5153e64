//! Kinks of a network along a segment.

use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyDict};
use std::path::Path;
use taylorscope::{
    landscape::{Change, Kink, Propagation, Segment},
    network::{Image, LayerSpec, Network, Shape, weights::decode_weights},
};

/// All kinks for `start <= t <= stop` where the input is `x + t dx` and the weights are `weights + t dweights`, in their order: a dictionary
/// of the columns `at`, `layer`, `unit` and `change`. `layers` is the JSON of a layer list; weights are safetensors files.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
pub fn kinks_along<'py>(
    py: Python<'py>,
    input: Vec<usize>,
    layers: &str,
    weights: &[u8],
    dweights: Option<&[u8]>,
    x: PyReadonlyArray1<'py, f64>,
    dx: Option<PyReadonlyArray1<'py, f64>>,
    start: f64,
    stop: f64,
) -> PyResult<Bound<'py, PyDict>> {
    let network = network(&input, layers)?;
    let decode = |bytes, name| decode_weights::<f64>(&network, Path::new(name), bytes).map_err(refused);
    let weights = decode(weights, "weights")?;
    let step = dweights.map(|bytes| decode(bytes, "dweights")).transpose()?;
    let x = point(&network, x.as_slice()?, "x")?;
    let dx = dx.as_ref().map(|dx| point(&network, dx.as_slice()?, "dx")).transpose()?;
    if !(start.is_finite() && stop.is_finite() && start < stop) {
        return Err(PyValueError::new_err(format!(
            "the segment goes from {start} to {stop}; start must be less than stop"
        )));
    }
    let segment = Segment { input: x, step: dx, from: start, to: stop };
    let found = py.detach(|| Propagation::new(&network, &weights, step.as_deref()).try_kinks_of(&[segment]));
    let kinks: Vec<Kink> = found.map_err(refused)?.into_iter().flatten().collect();
    let columns = PyDict::new(py);
    columns.set_item("at", PyArray1::from_vec(py, kinks.iter().map(|kink| kink.at).collect()))?;
    columns.set_item("layer", PyArray1::from_vec(py, kinks.iter().map(|kink| kink.layer as i64).collect()))?;
    columns.set_item("unit", PyArray1::from_vec(py, kinks.iter().map(|kink| kink.unit as i64).collect()))?;
    columns.set_item("change", kinks.iter().map(change).collect::<Vec<_>>())?;
    Ok(columns)
}

fn refused(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn network(input: &[usize], layers: &str) -> PyResult<Network> {
    let layers: Vec<LayerSpec> = serde_json::from_str(layers).map_err(refused)?;
    let shape = match *input {
        [channels, height, width] if layers.iter().any(LayerSpec::is_spatial) => {
            Shape::Image(Image { channels, height, width })
        }
        _ => Shape::Features(input.iter().product()),
    };
    Network::new(shape, &layers).map_err(refused)
}

/// The values of a point, if they fit the network.
fn point<'a>(network: &Network, values: &'a [f64], name: &str) -> PyResult<&'a [f64]> {
    let expected = network.input().len();
    if values.len() != expected || values.iter().any(|value| !value.is_finite()) {
        let found = values.len();
        return Err(PyValueError::new_err(format!("{name} has {found} values; it must have {expected}, all finite")));
    }
    Ok(values)
}

fn change(kink: &Kink) -> String {
    match kink.change {
        Change::On => "on".to_owned(),
        Change::Off => "off".to_owned(),
        Change::Winner { from, to } => format!("winner {from} -> {to}"),
    }
}
