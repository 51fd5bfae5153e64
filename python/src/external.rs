//! The analysis of models that the engine does not know: a Python object has the products, the search is Rust's.

use numpy::{PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArray3};
use pyo3::{
    exceptions::{PyOSError, PyValueError},
    prelude::*,
    types::PyAny,
};
use serde::Deserialize;
use std::{ops::Range, path::PathBuf, sync::atomic::AtomicBool};
use taylorscope::{
    activation::{Configurations, Neuron},
    loss::LossName,
    report,
    study::{
        Event, StudyError,
        experiment::{RegretSection, Sections, Span, sections},
        external::{ExternalFailure, ExternalOptions, ExternalRun, Source, UnitCourse, analyze},
        folder::Destination,
    },
    taylor::{
        external::{DenseQuadratic, Failure, Products},
        unit::{Scale, UnitId},
    },
    trace::TargetKind,
};

/// The Taylor losses of a unit, as a Python object has them: its methods are those of `taylorscope.torch_backend.products.Problem`.
pub struct PythonProducts {
    object: Py<PyAny>,
    dimension: usize,
    is_quadratic: bool,
}

impl PythonProducts {
    /// By an object with the attributes `dimension` and `is_quadratic`.
    pub fn new(object: Bound<'_, PyAny>) -> PyResult<Self> {
        let dimension = object.getattr("dimension")?.extract()?;
        let is_quadratic = object.getattr("is_quadratic")?.extract()?;
        Ok(Self { object: object.unbind(), dimension, is_quadratic })
    }

    /// Calls something that needs Python; Ctrl-C is an exception here.
    fn call<R>(&self, work: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<R>) -> Result<R, Failure> {
        Python::attach(|py| {
            py.check_signals()?;
            work(self.object.bind(py))
        })
        .map_err(Into::into)
    }
}

impl Products for PythonProducts {
    fn dimension(&self) -> usize {
        self.dimension
    }

    fn is_quadratic(&self) -> bool {
        self.is_quadratic
    }

    fn evaluate(&self, rounds: usize, u: &[f64]) -> Result<(f64, Vec<f64>), Failure> {
        self.call(|object| {
            let found = object.call_method1("evaluate", (rounds, PyArray1::from_slice(object.py(), u)))?;
            let (value, gradient): (f64, PyReadonlyArray1<f64>) = found.extract()?;
            Ok((value, gradient.as_array().to_vec()))
        })
    }

    fn linearize(&self, rounds: usize, u: &[f64]) -> Result<(), Failure> {
        self.call(|object| object.call_method1("linearize", (rounds, PyArray1::from_slice(object.py(), u))).map(drop))
    }

    fn ggn_products(&self, rounds: Range<usize>, directions: &[&[f32]]) -> Result<Vec<Vec<f32>>, Failure> {
        self.call(|object| {
            let rows: Vec<Vec<f32>> = directions.iter().map(|direction| direction.to_vec()).collect();
            let directions =
                PyArray2::from_vec2(object.py(), &rows).map_err(|e| PyValueError::new_err(e.to_string()))?;
            let found = object.call_method1("ggn_products", (rounds.start, rounds.end, directions))?;
            let products: PyReadonlyArray2<f32> = found.extract()?;
            Ok(products.as_array().rows().into_iter().map(|row| row.to_vec()).collect())
        })
    }

    fn mean_displacement(&self, rounds: Range<usize>) -> Result<Option<Vec<f64>>, Failure> {
        self.call(|object| {
            let found = object.call_method1("mean_displacement", (rounds.start, rounds.end))?;
            let mean: Option<PyReadonlyArray1<f64>> = found.extract()?;
            Ok(mean.map(|mean| mean.as_array().to_vec()))
        })
    }

    fn precondition(&self, multiplier: f64, residual: &[f64]) -> Result<Option<Vec<f64>>, Failure> {
        self.call(|object| {
            let found =
                object.call_method1("precondition", (multiplier, PyArray1::from_slice(object.py(), residual)))?;
            let direction: Option<PyReadonlyArray1<f64>> = found.extract()?;
            Ok(direction.map(|direction| direction.as_array().to_vec()))
        })
    }

    fn quadratics(&self, prefixes: &[usize]) -> Result<Option<Vec<DenseQuadratic>>, Failure> {
        self.call(|object| {
            let found = object.call_method1("quadratics", (prefixes.to_vec(),))?;
            type Arrays<'py> = (PyReadonlyArray1<'py, f64>, PyReadonlyArray2<'py, f64>, PyReadonlyArray3<'py, f64>);
            let Some((constants, linears, hessians)): Option<Arrays> = found.extract()? else { return Ok(None) };
            let (constants, linears, hessians) = (constants.as_array(), linears.as_array(), hessians.as_array());
            let terms = constants.iter().zip(linears.rows()).zip(hessians.outer_iter());
            let quadratic = |((constant, linear), hessian): ((&f64, numpy::ndarray::ArrayView1<f64>), _)| {
                let hessian: numpy::ndarray::ArrayView2<f64> = hessian;
                DenseQuadratic {
                    constant: *constant,
                    linear: linear.to_vec(),
                    hessian: hessian.iter().copied().collect(),
                }
            };
            Ok(Some(terms.map(quadratic).collect()))
        })
    }
}

/// Where the products of units come from: a Python object with `open(scale, layer, neuron)`.
struct PythonSource(Py<PyAny>);

impl Source for PythonSource {
    fn open(&self, unit: UnitId) -> Result<Box<dyn Products + '_>, Failure> {
        let products = Python::attach(|py| {
            py.check_signals()?;
            let scale = unit.scale.to_string();
            PythonProducts::new(self.0.bind(py).call_method1("open", (scale, unit.layer, unit.neuron))?)
        });
        Ok(Box::new(products?))
    }
}

/// What Python tells of a run, apart from its arrays: the fields of [`ExternalRun`].
#[derive(Deserialize)]
struct Told {
    name: String,
    label: String,
    trace: String,
    digest: String,
    optimizer: serde_json::Map<String, serde_json::Value>,
    plain_sgd: Option<f64>,
    dataset: String,
    loss: LossName,
    target: TargetKind,
    layers: Vec<String>,
    rounds: Vec<usize>,
    per_epoch: usize,
    checks: Vec<String>,
    warnings: Vec<String>,
    seconds: f64,
    /// Scale, layer and neuron.
    units: Vec<(Scale, Option<usize>, Option<usize>)>,
}

/// The configurations of rectifiers: rounds, datapoints, per neuron its layer, number, positions and whether it rests, and its packed rows.
type PackedConfigurations<'py> = (Vec<usize>, usize, Vec<(usize, usize, usize, bool)>, Vec<PyReadonlyArray1<'py, u64>>);

fn configurations((rounds, datapoints, neurons, bits): PackedConfigurations) -> Configurations {
    let neuron = |(layer, neuron, positions, rests)| Neuron { layer, neuron, positions, rests };
    Configurations {
        rounds,
        datapoints,
        neurons: neurons.into_iter().map(neuron).collect(),
        bits: bits.iter().map(|bits| bits.as_array().to_vec()).collect(),
    }
}

/// Searches the Taylor optima of a run whose products `source` has, and writes its folder and page. Gives the folder's path.
///
/// `told` is JSON; `losses: [rounds]`; `all_losses: [all rounds]` with their `numbers`; `displacements` and `gradients: [units, rounds]`.
/// `progress(kind, text, done, of)` hears of phases, notes and how far they are.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "each has a name in Python")]
#[pyo3(signature = (told, losses, numbers, all_losses, displacements, gradients, configurations, source, out, settings, overwrite, progress))]
pub fn analyze_external(
    py: Python<'_>,
    told: &str,
    losses: Vec<f64>,
    numbers: Vec<usize>,
    all_losses: Vec<f64>,
    displacements: PyReadonlyArray2<'_, f64>,
    gradients: PyReadonlyArray2<'_, f64>,
    configurations: Option<PackedConfigurations<'_>>,
    source: Py<PyAny>,
    out: PathBuf,
    settings: Vec<String>,
    overwrite: bool,
    progress: Py<PyAny>,
) -> PyResult<PathBuf> {
    let told: Told = serde_json::from_str(told).map_err(|e| PyValueError::new_err(e.to_string()))?;
    let (displacements, gradients) = (displacements.as_array(), gradients.as_array());
    let units = told.units.iter().zip(displacements.rows()).zip(gradients.rows());
    let course = |((unit, displacements), gradients): ((&(Scale, _, _), numpy::ndarray::ArrayView1<f64>), _)| {
        let gradients: numpy::ndarray::ArrayView1<f64> = gradients;
        let (scale, layer, neuron) = *unit;
        let unit = UnitId { scale, layer, neuron };
        UnitCourse { unit, displacements: displacements.to_vec(), gradients: gradients.to_vec() }
    };
    let units: Vec<UnitCourse> = units.map(course).collect();
    let configurations = configurations.map(self::configurations);
    let run = run_of(told, losses, numbers.into_iter().zip(all_losses).collect(), units, configurations);
    let defaults =
        Sections { regret: RegretSection { window: Span::All, ..RegretSection::default() }, ..Sections::default() };
    let sections = sections(None, &defaults, &settings).map_err(|e| PyValueError::new_err(e.to_string()))?;
    let source = PythonSource(source);
    py.detach(|| search(&run, &source, &sections, out, overwrite, &progress))
}

fn run_of(
    told: Told,
    losses: Vec<f64>,
    all_losses: Vec<(usize, f64)>,
    units: Vec<UnitCourse>,
    configurations: Option<Configurations>,
) -> ExternalRun {
    ExternalRun {
        name: told.name,
        label: told.label,
        trace: told.trace,
        digest: told.digest,
        optimizer: told.optimizer,
        plain_sgd: told.plain_sgd,
        dataset: told.dataset,
        loss: told.loss,
        target: told.target,
        layers: told.layers,
        rounds: told.rounds,
        losses,
        all_losses,
        per_epoch: told.per_epoch,
        units,
        configurations,
        checks: told.checks,
        warnings: told.warnings,
        seconds: told.seconds,
    }
}

/// The analysis and the page; an exception of `progress` ends it as one of the products does.
fn search(
    run: &ExternalRun,
    source: &dyn Source,
    sections: &Sections,
    out: PathBuf,
    overwrite: bool,
    progress: &Py<PyAny>,
) -> PyResult<PathBuf> {
    let stop = AtomicBool::new(false);
    let options = ExternalOptions { out: Destination::Folder(&out), overwrite, sections, stop: &stop };
    let mut raised = None;
    let mut events = |event: Event| {
        let (kind, text, done, of) = match event {
            Event::Phase { name } => ("phase", name, 0, 0),
            Event::Note { text } => ("note", text, 0, 0),
            Event::Progress { done, of } => ("progress", "", done, of),
            _ => return,
        };
        let heard = Python::attach(|py| progress.call1(py, (kind, text, done, of)).map(drop));
        if let Err(error) = heard {
            stop.store(true, std::sync::atomic::Ordering::SeqCst);
            raised.get_or_insert(error);
        }
    };
    let analyzed = analyze(run, source, &options, &mut events);
    if let Some(error) = raised {
        return Err(error);
    }
    let analyzed = analyzed.map_err(exception)?;
    let folder = &analyzed.folder.path;
    report::render(&[folder], folder).map_err(|error| PyOSError::new_err(error.to_string()))?;
    Ok(folder.clone())
}

/// What products raised, as it is; else the library's text.
fn exception(failure: ExternalFailure) -> PyErr {
    match failure {
        ExternalFailure::Products(failure) => raised(failure),
        ExternalFailure::Study(StudyError::Occupied { path }) => PyValueError::new_err(format!(
            "{} already holds an analysis; choose another folder with out=, or replace it with overwrite=True",
            path.display()
        )),
        ExternalFailure::Study(error) if !error.is_usage() => PyOSError::new_err(error.to_string()),
        other => PyValueError::new_err(other.to_string()),
    }
}

/// The exception of a callback, or that its numbers were wrong.
pub fn raised(failure: Failure) -> PyErr {
    match failure.downcast::<PyErr>() {
        Ok(error) => *error,
        Err(other) => PyValueError::new_err(other.to_string()),
    }
}
