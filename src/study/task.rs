//! An experiment made ready to train: its data and network ([`Task`]), these in the type that is trained in ([`TypedTask`]), and one
//! optimizer before its first round ([`PreparedRun`]).

use super::{error::StudyError, experiment::Experiment, inputs::Inputs};
use crate::{
    data::{self, Dataset, Minibatches, Split},
    loss::Loss,
    network::{LayerSpec, Network, NetworkError, Shape, he_uniform, read_weights},
    num::{Real, converted},
    optim::{Optimizer, OptimizerConfig},
    trace::TargetKind,
    train::{Ending, Examples, Observer, Training, train},
};
use std::{borrow::Cow, ops::ControlFlow, path::Path};

/// An experiment with its data and its network, which fit each other.
pub struct Task<'a> {
    pub experiment: &'a Experiment,
    /// Its training set lacks the rows for validation.
    pub dataset: Dataset,
    /// The rows that the experiment sets aside, if any.
    pub validation: Option<Split>,
    pub network: Network,
}

impl<'a> Task<'a> {
    /// Loads the data, and tells `note` what the user should know of it. `folder` is where datasets lie, unless the experiment says.
    ///
    /// # Errors
    /// If the data cannot be had, or the network does not fit it.
    pub fn load(
        experiment: &'a Experiment,
        folder: Option<&Path>,
        note: &mut dyn FnMut(&str),
    ) -> Result<Task<'a>, StudyError> {
        let (dataset, network) = resolve(experiment, folder)?;
        dataset.notes.iter().for_each(|text| note(text));
        Task::new(experiment, dataset, network)
    }

    /// The same with the checksums of all that is read.
    ///
    /// # Errors
    /// As [`Task::load`]; if the file of initial weights cannot be read.
    pub fn load_with_inputs(
        experiment: &'a Experiment,
        folder: Option<&Path>,
        note: &mut dyn FnMut(&str),
    ) -> Result<(Task<'a>, Inputs), StudyError> {
        let (dataset, network) = resolve(experiment, folder)?;
        dataset.notes.iter().for_each(|text| note(text));
        let inputs = Inputs::of(experiment, &dataset)?;
        Ok((Task::new(experiment, dataset, network)?, inputs))
    }

    /// Sets the rows for validation aside, which are those at the end of the training set.
    fn new(experiment: &'a Experiment, mut dataset: Dataset, network: Network) -> Result<Task<'a>, StudyError> {
        let (asked, rows) = (experiment.data.validation, dataset.train.len());
        let mut validation = None;
        if asked > 0 {
            validation = dataset.train.split_off(rows.saturating_sub(asked));
            if validation.is_none() {
                return Err(StudyError::Validation { asked, rows });
            }
        }
        Ok(Task { experiment, dataset, validation, network })
    }

    /// The minibatches in the order of `seed`.
    ///
    /// # Errors
    /// If the training set has too few rows for one.
    pub fn minibatches(&self, seed: u64) -> Result<Minibatches, StudyError> {
        Ok(Minibatches::new(self.dataset.train.len(), self.experiment.training.batch_size, seed)?)
    }

    /// Fails where no run of the experiment could begin; else the rounds of each.
    ///
    /// # Errors
    /// If minibatches, an optimizer or the initial weights cannot be had.
    pub fn check(&self) -> Result<usize, StudyError> {
        let planned = self.minibatches(self.experiment.seed)?.rounds_per_epoch() * self.experiment.training.epochs;
        if self.experiment.network.weights.is_some() {
            initial_weights::<f32>(self.experiment, &self.network, self.experiment.seed)?;
        }
        for config in &self.experiment.optimizer {
            config.build_for::<f32>(&self.network, planned)?;
        }
        Ok(planned)
    }
}

/// Loads the data and checks that the network fits it.
fn resolve(experiment: &Experiment, folder: Option<&Path>) -> Result<(Dataset, Network), StudyError> {
    let folder = experiment.data.path.as_deref().or(folder);
    let mut dataset = data::load(&experiment.data.dataset, folder)?;
    if experiment.data.standardize {
        dataset.standardize();
    }
    let network = Network::new(input_shape(&dataset, &experiment.network.layers)?, &experiment.network.layers)?;
    let (needed, what) = match experiment.training.target {
        TargetKind::Input => (network.inputs(), "an autoencoder of this data".to_owned()),
        // An experiment never has values.
        TargetKind::Label | TargetKind::Values => {
            (dataset.classes, format!("the {} classes of {}", dataset.classes, dataset.name))
        }
    };
    if network.outputs() != needed {
        return Err(NetworkError::Outputs { outputs: network.outputs(), needed, what }.into());
    }
    Ok((dataset, network))
}

/// How a network sees a datapoint: as an image if any layer is about images, else as the dataset has it.
fn input_shape(dataset: &Dataset, layers: &[LayerSpec]) -> Result<Shape, NetworkError> {
    Shape::from_sizes(if layers.iter().any(LayerSpec::is_spatial) { &dataset.image } else { &dataset.shape })
}

/// The experiment's initial weights: from its file, or by `seed`.
fn initial_weights<T: Real>(experiment: &Experiment, network: &Network, seed: u64) -> Result<Vec<T>, StudyError> {
    Ok(match &experiment.network.weights {
        Some(path) => read_weights(network, path)?,
        None => he_uniform(network, seed),
    })
}

/// Examples of a network that is to give back its inputs, or to tell the labels.
pub(super) fn examples_of<'a, T: Real>(
    target: TargetKind,
    inputs: &'a [T],
    features: usize,
    labels: &'a [u32],
) -> Examples<'a, T> {
    match target {
        TargetKind::Input => Examples::autoencoder(inputs, features),
        TargetKind::Label | TargetKind::Values => Examples::classifier(inputs, features, labels),
    }
}

/// A split in the type that is trained in.
struct TypedSplit<'a, T: Real> {
    inputs: Cow<'a, [T]>,
    split: &'a Split,
}

impl<'a, T: Real> TypedSplit<'a, T> {
    fn new(split: &'a Split) -> Self {
        Self { inputs: converted(&split.inputs), split }
    }

    fn examples(&self, target: TargetKind) -> Examples<'_, T> {
        examples_of(target, &self.inputs, self.split.features(), &self.split.labels)
    }
}

/// A task in the type that is trained in.
pub struct TypedTask<'a, T: Real> {
    pub task: &'a Task<'a>,
    train: TypedSplit<'a, T>,
    test: TypedSplit<'a, T>,
    validation: Option<TypedSplit<'a, T>>,
}

impl<'a, T: Real> TypedTask<'a, T> {
    pub fn new(task: &'a Task<'a>) -> Self {
        let Task { dataset, validation, .. } = task;
        let validation = validation.as_ref().map(TypedSplit::new);
        Self { task, train: TypedSplit::new(&dataset.train), test: TypedSplit::new(&dataset.test), validation }
    }

    /// The examples that rounds draw from.
    pub fn train(&self) -> Examples<'_, T> {
        self.train.examples(self.target())
    }

    pub fn test(&self) -> Examples<'_, T> {
        self.test.examples(self.target())
    }

    pub fn validation(&self) -> Option<Examples<'_, T>> {
        self.validation.as_ref().map(|split| split.examples(self.target()))
    }

    fn target(&self) -> TargetKind {
        self.task.experiment.training.target
    }

    /// An optimizer before its first round.
    ///
    /// # Errors
    /// As [`PreparedRun::new`].
    pub fn prepare(&self, config: &OptimizerConfig, seed: u64) -> Result<PreparedRun<'_, T>, StudyError> {
        PreparedRun::new(self.task.experiment, config, &self.task.network, self.train(), seed)
    }
}

/// Everything that one training run takes, before its first round.
pub struct PreparedRun<'a, T: Real> {
    pub network: &'a Network,
    pub loss: Loss,
    /// What the minibatches are drawn from.
    pub examples: Examples<'a, T>,
    pub minibatches: Minibatches,
    pub epochs: usize,
    /// `W^1`, flat; the current ones once it has trained.
    pub weights: Vec<T>,
    pub optimizer: Box<dyn Optimizer<T>>,
}

impl<'a, T: Real> PreparedRun<'a, T> {
    /// An optimizer of an experiment on examples of its data, with weights and minibatches by `seed`.
    ///
    /// # Errors
    /// If minibatches, initial weights or the optimizer cannot be had.
    pub fn new(
        experiment: &Experiment,
        config: &OptimizerConfig,
        network: &'a Network,
        examples: Examples<'a, T>,
        seed: u64,
    ) -> Result<Self, StudyError> {
        let training = &experiment.training;
        let minibatches = Minibatches::new(examples.len(), training.batch_size, seed)?;
        let weights = initial_weights(experiment, network, seed)?;
        let planned = minibatches.rounds_per_epoch() * training.epochs;
        let optimizer = config.build_for::<T>(network, planned)?;
        let (loss, epochs) = (training.loss, training.epochs);
        Ok(Self { network, loss, examples, minibatches, epochs, weights, optimizer })
    }

    /// Rounds that it will have.
    pub fn planned_rounds(&self) -> usize {
        self.minibatches.rounds_per_epoch() * self.epochs
    }

    /// Trains as [`train()`] does: to the end, or until one of the two, which are called after each round and each epoch, breaks.
    pub fn train(
        &mut self,
        observers: &mut [&mut dyn Observer<T>],
        each_round: impl FnMut(usize, usize, f64) -> ControlFlow<()>,
        each_epoch: impl FnMut(usize, &[T]) -> ControlFlow<()>,
    ) -> (Ending, usize) {
        let training = Training {
            network: self.network,
            loss: self.loss,
            examples: self.examples,
            minibatches: &self.minibatches,
            epochs: self.epochs,
        };
        train(&training, &mut *self.optimizer, &mut self.weights, observers, each_round, each_epoch)
    }
}
