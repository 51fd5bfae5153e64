//! Recording a training into a trace, on a thread of its own that needs nothing of Python.

use crate::error::Failure;
use numpy::PyReadonlyArray1;
use pyo3::{exceptions::PyValueError, prelude::*};
use serde_json::Value;
use std::{
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use taylorscope::trace::recording::{Dtype, Recording, RecordingOptions, Tensor};

/// Rounds that may wait. States wait in memory of the caller's, which has less room.
const WAITING: usize = 1024;

/// A tensor whose values lie in memory that Python knows: name, type, shape and bytes.
type Array<'py> = (String, String, Vec<usize>, PyReadonlyArray1<'py, u8>);
/// Name, type and shape of a tensor of the state, and where in the copy of a state its bytes begin.
type Entry = (String, String, Vec<usize>, usize);

/// A trace that is being recorded. A state is handed over as one array of bytes, in which each tensor has its place.
#[pyclass(frozen, module = "taylorscope._native")]
pub struct Recorder {
    shared: Arc<Shared>,
    jobs: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What caller and writer both see.
struct Shared {
    recording: Mutex<Option<Recording>>,
    state: Vec<Place>,
    buffers: Vec<Place>,
    every: AtomicUsize,
    progress: Mutex<Progress>,
    advanced: Condvar,
    /// Arrays that are written: their counts go down where Python may be asked.
    written: Mutex<Vec<Py<PyAny>>>,
}

#[derive(Default)]
struct Progress {
    /// The last round that the writer is done with, written or not.
    done: usize,
    /// The last round that it wrote.
    rounds: usize,
    failure: Option<Failure>,
}

/// A tensor of the state.
struct Place {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    start: usize,
    bytes: usize,
}

/// Bytes of an array that is kept alive elsewhere.
#[derive(Clone, Copy)]
struct Bytes {
    start: *const u8,
    len: usize,
}

// SAFETY: they are read only, and only as long as the array lives.
unsafe impl Send for Bytes {}

impl Bytes {
    fn of(array: &PyReadonlyArray1<u8>) -> PyResult<Self> {
        let slice = array.as_slice()?;
        Ok(Self { start: slice.as_ptr(), len: slice.len() })
    }

    /// # Safety
    /// The array must be alive, and nobody may write to it as long as the slice is used.
    unsafe fn get<'a>(self) -> &'a [u8] {
        // SAFETY: the bytes are those of a slice, see above.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

struct Given {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Bytes,
}

impl Given {
    fn tensor(&self) -> Tensor<'_> {
        // SAFETY: as for the state of the job that this belongs to.
        let bytes = unsafe { self.bytes.get() };
        Tensor { name: &self.name, dtype: self.dtype, shape: &self.shape, bytes }
    }
}

/// A round that is to be written. Without a state, its loss alone.
struct Job {
    number: usize,
    loss: f64,
    batch: usize,
    inputs: Vec<Given>,
    targets: Option<Given>,
    state: Option<Bytes>,
    /// Keeps the arrays alive.
    arrays: Vec<Py<PyAny>>,
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
        state: Vec<Entry>,
        buffers: Vec<Entry>,
        every: usize,
        max_bytes: Option<u64>,
        shard_seconds: Option<f64>,
        overwrite: bool,
    ) -> PyResult<Self> {
        let places = |all: Vec<Entry>| all.into_iter().map(place).collect::<PyResult<Vec<Place>>>();
        let (state, buffers) = (places(state)?, places(buffers)?);
        let manifest = parse(manifest)?;
        let mut options = RecordingOptions { every, max_bytes, overwrite, ..RecordingOptions::default() };
        if let Some(seconds) = shard_seconds {
            options.shard_time = Duration::try_from_secs_f64(seconds)
                .map_err(|e| PyValueError::new_err(format!("shard_seconds: {e}")))?;
        }
        let recording = py.detach(|| Recording::create(&folder, manifest, options)).map_err(Failure::from)?;
        let shared = Arc::new(Shared {
            recording: Mutex::new(Some(recording)),
            state,
            buffers,
            every: AtomicUsize::new(every),
            progress: Mutex::default(),
            advanced: Condvar::new(),
            written: Mutex::default(),
        });
        let (jobs, waiting) = sync_channel(WAITING);
        let writer = shared.clone();
        let thread = thread::Builder::new().name("taylorscope".to_owned()).spawn(move || writer.write_all(&waiting))?;
        Ok(Self { shared, jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)) })
    }

    /// Rounds between kept ones, as things are.
    #[getter]
    fn every(&self) -> usize {
        self.shared.every.load(Ordering::Relaxed)
    }

    /// The number of the last round that was written.
    #[getter]
    fn rounds(&self) -> usize {
        lock(&self.shared.progress).rounds
    }

    /// Hands a round over to be written; without a state its loss alone. Waits while very many rounds wait. The arrays must not change until
    /// [`Recorder::wait`] has returned for this round.
    ///
    /// Raises what went wrong with an earlier round, after which nothing more is written.
    #[pyo3(signature = (number, loss, batch=0, inputs=vec![], targets=None, state=None))]
    #[allow(clippy::too_many_arguments)]
    fn submit(
        &self,
        py: Python<'_>,
        number: usize,
        loss: f64,
        batch: usize,
        inputs: Vec<Array>,
        targets: Option<Array>,
        state: Option<PyReadonlyArray1<u8>>,
    ) -> PyResult<()> {
        self.check()?;
        drop(std::mem::take(&mut *lock(&self.shared.written)));
        let mut arrays = Vec::new();
        let mut take = |(name, kind, shape, array): Array| {
            let bytes = Bytes::of(&array)?;
            arrays.push(array.as_any().clone().unbind());
            Ok::<_, PyErr>(Given { name, dtype: dtype(&kind)?, shape, bytes })
        };
        let inputs = inputs.into_iter().map(&mut take).collect::<PyResult<Vec<Given>>>()?;
        let targets = targets.map(&mut take).transpose()?;
        let bytes = state.as_ref().map(Bytes::of).transpose()?;
        arrays.extend(state.map(|array| array.as_any().clone().unbind()));
        let job = Job { number, loss, batch, inputs, targets, state: bytes, arrays };
        let jobs = lock(&self.jobs).clone().ok_or_else(closed)?;
        py.detach(|| jobs.send(job).map_err(|_| closed()))
    }

    /// Waits until the writer is done with a round.
    fn wait(&self, py: Python<'_>, number: usize) {
        py.detach(|| {
            let mut progress = lock(&self.shared.progress);
            while progress.done < number {
                progress = self.shared.advanced.wait(progress).unwrap_or_else(PoisonError::into_inner);
            }
        });
    }

    /// Raises what went wrong, if something did.
    fn check(&self) -> PyResult<()> {
        lock(&self.shared.progress).failure.clone().map_or(Ok(()), |failure| Err(failure.into()))
    }

    /// Sets keys of the manifest, given as the JSON of an object.
    fn describe(&self, py: Python<'_>, keys: &str) -> PyResult<()> {
        let Value::Object(keys) = parse(keys)? else { return Err(PyValueError::new_err("no JSON object")) };
        py.detach(|| {
            let mut recording = lock(&self.shared.recording);
            let recording = recording.as_mut().ok_or_else(closed)?;
            Ok(recording.describe(keys).map_err(Failure::from)?)
        })
    }

    /// Waits for all rounds and ends the trace, with the state after the last update if there is one. A trace that is closed stays closed.
    ///
    /// Raises what went wrong on the way or now; what was written before is a trace.
    #[pyo3(signature = (final_state, complete))]
    fn close(&self, py: Python<'_>, final_state: Option<PyReadonlyArray1<u8>>, complete: bool) -> PyResult<()> {
        let bytes = final_state.as_ref().map(|state| state.as_slice()).transpose()?;
        py.detach(|| {
            drop(lock(&self.jobs).take());
            if let Some(thread) = lock(&self.thread).take() {
                // A writer that panicked has written what it could.
                let _ = thread.join();
            }
            let Some(recording) = lock(&self.shared.recording).take() else { return Ok(()) };
            let progress = lock(&self.shared.progress);
            let (rounds, failure) = (progress.rounds, progress.failure.clone());
            drop(progress);
            let state =
                bytes.filter(|_| failure.is_none()).map(|bytes| tensors(&self.shared.state, bytes)).transpose()?;
            let closed = recording.close(state.as_deref(), rounds, complete && failure.is_none());
            failure.map_or(Ok(()), Err)?;
            closed.map(drop).map_err(Failure::from)
        })
        .map_err(PyErr::from)
    }
}

impl Shared {
    fn write_all(&self, waiting: &Receiver<Job>) {
        for job in waiting {
            let failed = lock(&self.progress).failure.is_some();
            let written = if failed { Ok(()) } else { self.write(&job) };
            lock(&self.written).extend(job.arrays);
            let mut progress = lock(&self.progress);
            progress.done = job.number;
            match written {
                Ok(()) if !failed => progress.rounds = job.number,
                Ok(()) => {}
                Err(failure) => progress.failure = Some(failure),
            }
            self.advanced.notify_all();
        }
    }

    fn write(&self, job: &Job) -> Result<(), Failure> {
        let mut recording = lock(&self.recording);
        let Some(recording) = recording.as_mut() else { return Ok(()) };
        let Some(state) = job.state else { return Ok(recording.loss(job.number, job.loss)?) };
        // SAFETY: the job keeps the array alive, and the caller does not write to it before the round is done.
        let state = unsafe { state.get() };
        let inputs: Vec<Tensor> = job.inputs.iter().map(Given::tensor).collect();
        let targets = job.targets.as_ref().map(Given::tensor);
        let (state, buffers) = (tensors(&self.state, state)?, tensors(&self.buffers, state)?);
        let (number, loss) = (job.number, job.loss);
        let recorded = recording.round(number, loss, job.batch, &inputs, targets.as_ref(), &state, &buffers)?;
        if recorded.thinned {
            self.every.store(recording.every(), Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A thread that panicked leaves what it held as it was between two steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

fn place((name, kind, shape, start): Entry) -> PyResult<Place> {
    let dtype = dtype(&kind)?;
    let bytes = shape.iter().try_fold(dtype.bitsize() / 8, |size, side| size.checked_mul(*side));
    let bytes = bytes.ok_or_else(|| PyValueError::new_err(format!("\"{name}\" of shape {shape:?} is too large")))?;
    Ok(Place { name, dtype, shape, start, bytes })
}

/// The tensors of a state.
fn tensors<'a>(places: &'a [Place], state: &'a [u8]) -> Result<Vec<Tensor<'a>>, Failure> {
    let tensor = |place: &'a Place| {
        let bytes = place.start.checked_add(place.bytes).and_then(|end| state.get(place.start..end));
        let bytes = bytes.ok_or_else(|| Failure::refused(format!("the state ends before \"{}\"", place.name)))?;
        Ok(Tensor { name: &place.name, dtype: place.dtype, shape: &place.shape, bytes })
    };
    places.iter().map(tensor).collect()
}
