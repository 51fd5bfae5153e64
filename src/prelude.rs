//! What a program that studies an optimizer of its own, or observes one, needs: `use taylorscope::prelude::*`.

pub use crate::{
    data::{self, Minibatches},
    loss::Loss,
    network::{LayerSpec, Network, Rectifier, he_uniform},
    num::Real,
    optim::{Optimizer, OptimizerConfig},
    passes::Linearization,
    study::{
        analysis::AnalysisTables,
        builder::{BuilderError, Study, StudyRun},
        tables::{Comparator, RegretRow, Scale, UnitRow},
    },
    taylor::RegretSettings,
    train::{Ending, Examples, Observer, Round, Training, train},
};
