//! Recording a training into a trace.

use crate::error::as_python;
use numpy::{PyReadonlyArray1, PyUntypedArrayMethods};
use pyo3::{exceptions::PyValueError, prelude::*};
use serde_json::Value;
use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use taylorscope::trace::recording::{Dtype, Recording, RecordingOptions, Tensor};

/// A tensor whose values lie in memory that Python knows: name, type, shape and bytes.
type Array<'py> = (String, String, Vec<usize>, PyReadonlyArray1<'py, u8>);

/// A tensor of the state: where in the copy of a state its bytes begin.
struct Place {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    start: usize,
    bytes: usize,
}

/// A trace that is being recorded. A state is handed over as one array of bytes, in which each tensor has its place.
#[pyclass(frozen, module = "taylorscope._native")]
pub struct Recorder {
    recording: Mutex<Option<Recording>>,
    state: Vec<Place>,
    buffers: Vec<Place>,
}

#[pymethods]
impl Recorder {
    /// Begins a trace. `state` and `buffers` have name, type, shape and place of each tensor; `manifest` is JSON.
    #[new]
    #[pyo3(signature = (folder, manifest, state, buffers, *, every=1, max_bytes=None, shard_seconds=None, overwrite=false))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        folder: PathBuf,
        manifest: &str,
        state: Vec<(String, String, Vec<usize>, usize)>,
        buffers: Vec<(String, String, Vec<usize>, usize)>,
        every: usize,
        max_bytes: Option<u64>,
        shard_seconds: Option<f64>,
        overwrite: bool,
    ) -> PyResult<Self> {
        let places = |all: Vec<_>| all.into_iter().map(place).collect::<PyResult<Vec<Place>>>();
        let (state, buffers) = (places(state)?, places(buffers)?);
        let manifest = parse(manifest)?;
        let mut options = RecordingOptions { every, max_bytes, overwrite, ..RecordingOptions::default() };
        if let Some(seconds) = shard_seconds {
            options.shard_time = Duration::try_from_secs_f64(seconds)
                .map_err(|e| PyValueError::new_err(format!("shard_seconds: {e}")))?;
        }
        let recording = py.detach(|| Recording::create(&folder, manifest, options)).map_err(as_python)?;
        Ok(Self { recording: Mutex::new(Some(recording)), state, buffers })
    }

    /// Whether the state of this round is to be kept, as things are.
    fn keeps(&self, py: Python<'_>, number: usize) -> PyResult<bool> {
        py.detach(|| self.with(|recording| Ok(recording.keeps(number))))
    }

    /// Rounds between kept ones, as things are.
    #[getter]
    fn every(&self, py: Python<'_>) -> PyResult<usize> {
        py.detach(|| self.with(|recording| Ok(recording.every())))
    }

    /// Records the loss of a round that is not kept.
    fn loss(&self, py: Python<'_>, number: usize, loss: f64) -> PyResult<()> {
        py.detach(|| self.with(|recording| recording.loss(number, loss).map_err(as_python)))
    }

    /// Records a round. Returns whether it is kept, and whether rounds were dropped to stay within `max_bytes`.
    #[pyo3(signature = (number, loss, batch, inputs, targets, state))]
    #[allow(clippy::too_many_arguments)]
    fn round(
        &self,
        py: Python<'_>,
        number: usize,
        loss: f64,
        batch: usize,
        inputs: Vec<Array>,
        targets: Option<Array>,
        state: PyReadonlyArray1<u8>,
    ) -> PyResult<(bool, bool)> {
        let inputs = inputs.iter().map(tensor).collect::<PyResult<Vec<Tensor>>>()?;
        let targets = targets.as_ref().map(tensor).transpose()?;
        let bytes = state.as_slice()?;
        let (state, buffers) = (tensors(&self.state, bytes)?, tensors(&self.buffers, bytes)?);
        py.detach(|| {
            let mut guard = self.lock();
            let recording = guard.as_mut().ok_or_else(closed)?;
            let recorded = recording.round(number, loss, batch, &inputs, targets.as_ref(), &state, &buffers);
            recorded.map(|recorded| (recorded.kept, recorded.thinned)).map_err(as_python)
        })
    }

    /// Sets keys of the manifest, given as the JSON of an object.
    fn describe(&self, py: Python<'_>, keys: &str) -> PyResult<()> {
        let Value::Object(keys) = parse(keys)? else { return Err(PyValueError::new_err("no JSON object")) };
        py.detach(|| self.with(|recording| recording.describe(keys).map_err(as_python)))
    }

    /// Writes what waits, so that it outlives the process.
    fn flush(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| self.with(|recording| recording.flush().map_err(as_python)))
    }

    /// Ends the trace, with the state after the last update if there is one. A trace that is closed stays closed.
    #[pyo3(signature = (final_state, rounds, complete))]
    fn close(
        &self,
        py: Python<'_>,
        final_state: Option<PyReadonlyArray1<u8>>,
        rounds: usize,
        complete: bool,
    ) -> PyResult<()> {
        let bytes = final_state.as_ref().map(|state| state.as_slice()).transpose()?;
        let state = bytes.map(|bytes| tensors(&self.state, bytes)).transpose()?;
        py.detach(|| {
            let Some(recording) = self.lock().take() else { return Ok(()) };
            recording.close(state.as_deref(), rounds, complete).map(drop).map_err(as_python)
        })
    }
}

impl Recorder {
    /// A thread that panicked leaves the recording as it was between two calls or without what it was about to add.
    fn lock(&self) -> MutexGuard<'_, Option<Recording>> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(&self, call: impl FnOnce(&mut Recording) -> PyResult<R>) -> PyResult<R> {
        call(self.lock().as_mut().ok_or_else(closed)?)
    }
}

fn closed() -> PyErr {
    PyValueError::new_err("the trace is closed")
}

fn parse(json: &str) -> PyResult<Value> {
    serde_json::from_str(json).map_err(|e| PyValueError::new_err(format!("no JSON: {e}")))
}

fn dtype(name: &str) -> PyResult<Dtype> {
    let all = [
        ("BOOL", Dtype::BOOL),
        ("U8", Dtype::U8),
        ("I8", Dtype::I8),
        ("I16", Dtype::I16),
        ("I32", Dtype::I32),
        ("I64", Dtype::I64),
        ("F16", Dtype::F16),
        ("BF16", Dtype::BF16),
        ("F32", Dtype::F32),
        ("F64", Dtype::F64),
    ];
    let found = all.iter().find(|(known, _)| *known == name).map(|(_, dtype)| *dtype);
    found.ok_or_else(|| PyValueError::new_err(format!("tensors of type {name} are not recorded")))
}

fn place((name, kind, shape, start): (String, String, Vec<usize>, usize)) -> PyResult<Place> {
    let dtype = dtype(&kind)?;
    let bytes = shape.iter().try_fold(dtype.bitsize() / 8, |size, side| size.checked_mul(*side));
    let bytes = bytes.ok_or_else(|| PyValueError::new_err(format!("\"{name}\" of shape {shape:?} is too large")))?;
    Ok(Place { name, dtype, shape, start, bytes })
}

fn tensors<'a>(places: &'a [Place], state: &'a [u8]) -> PyResult<Vec<Tensor<'a>>> {
    let tensor = |place: &'a Place| {
        let bytes = place.start.checked_add(place.bytes).and_then(|end| state.get(place.start..end));
        let bytes = bytes.ok_or_else(|| PyValueError::new_err(format!("the state ends before \"{}\"", place.name)))?;
        Ok(Tensor { name: &place.name, dtype: place.dtype, shape: &place.shape, bytes })
    };
    places.iter().map(tensor).collect()
}

fn tensor<'a>((name, kind, shape, bytes): &'a Array) -> PyResult<Tensor<'a>> {
    if !bytes.is_contiguous() {
        return Err(PyValueError::new_err(format!("\"{name}\" is not contiguous")));
    }
    Ok(Tensor { name, dtype: dtype(kind)?, shape, bytes: bytes.as_slice()? })
}
