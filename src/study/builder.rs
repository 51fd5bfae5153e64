//! Optimizers of your own, trained and measured in memory: [`Study`].

use super::{
    analysis::{Analysis, AnalysisSettings, AnalysisTables},
    claims::bounds::Bound,
    error::StudyError,
    tables::{RoundRow, Scale, columns, write_rows},
    task::PreparedRun,
    write,
};
use crate::{
    activation::probe_rows,
    data::{MinibatchError, Minibatches},
    loss::{Loss, Targets},
    network::{Network, he_uniform},
    num::Real,
    optim::{Optimizer, OptimizerConfig, OptimizerError},
    taylor::{BoundRates, RegretSettings, Work, tracker::Displacements},
    train::{Ending, Examples, Observer},
};
use std::{
    collections::BTreeSet,
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

/// Trains optimizers on one problem and measures each of them: regret against the Taylor optimum, and exploration.
///
/// All of them start at the same weights and see the same minibatches. What is not said has the default of
/// experiment files; losses, networks and examples are as [`train`](mod@crate::train) has them.
///
/// ```
/// use taylorscope::prelude::*;
///
/// /// Steps by the sign of the gradient.
/// #[derive(Clone)]
/// struct SignDescent(f32);
///
/// impl Optimizer<f32> for SignDescent {
///     fn step(&mut self, round: usize, weights: &mut [f32], gradient: &[f32]) {
///         let step = self.0 / (round as f32).sqrt();
///         weights.iter_mut().zip(gradient).for_each(|(w, g)| *w -= step * g.signum());
///     }
/// }
///
/// let digits = data::load("digits", None)?.train;
/// let network = Network::new(64, &[LayerSpec::dense(8), LayerSpec::relu(), LayerSpec::dense(64)])?;
/// let runs = Study::new(&network, Loss::Mse, Examples::autoencoder(&digits.inputs, 64))
///     .optimizer("sign descent", SignDescent(0.02))
///     .registered(OptimizerConfig::named("adam", Some(0.003))?)
///     .epochs(1)
///     .scales(&[Scale::Neuron])
///     .run()?;
/// for run in &runs {
///     let last = run.tables.regret.iter().filter(|row| row.rounds == run.losses.len());
///     let regret = last.map(|row| row.mean_regret).fold(0.0, f64::max);
///     println!("{}: the neuron with the most regret has {regret:.4}", run.name);
/// }
/// # assert_eq!(runs[0].losses.len(), 23);
/// # assert!(runs[1].tables.regret.len() > 72);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Study<'a, T: Real> {
    network: &'a Network,
    loss: Loss,
    examples: Examples<'a, T>,
    entrants: Vec<Entrant<T>>,
    observers: Vec<&'a mut dyn Observer<T>>,
    epochs: usize,
    batch_size: usize,
    seed: u64,
    regret: RegretSettings,
    memory: usize,
    probe: usize,
    every: Option<usize>,
    out: Option<PathBuf>,
}

/// An optimizer and its name.
struct Entrant<T> {
    name: String,
    /// Makes it for a run of this many rounds, as it is before the first.
    make: Box<Make<T>>,
    rates: BoundRates,
}

type Make<T> = dyn Fn(&Network, usize) -> Result<Box<dyn Optimizer<T>>, OptimizerError>;

/// One optimizer's run.
#[derive(Clone, Debug)]
pub struct StudyRun<T> {
    pub name: String,
    pub ending: Ending,
    /// The minibatch loss of each round, before its update.
    pub losses: Vec<RoundRow>,
    /// `W^{N+1}`, flat.
    pub weights: Vec<T>,
    /// Regret, units, novelty and neurons: the rows of `regret.csv`, `units.csv`, `novelty.csv` and `neurons.csv`.
    pub tables: AnalysisTables,
}

/// A [`Study`] that cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuilderError {
    #[error("there is no optimizer to study: add one with `optimizer` or `registered`")]
    NoOptimizer,
    #[error("two optimizers are called {name:?}: give each a name of its own")]
    Repeated { name: String },
    #[error("{name:?} cannot be the name of a folder: choose another for the optimizer")]
    Unnameable { name: String },
    #[error("the network has {found} {end}, but the examples have {needed}")]
    Misfit { end: &'static str, found: usize, needed: usize },
    #[error("the label {label} is not one of the network's {outputs} outputs: labels are counted from 0")]
    Label { label: u32, outputs: usize },
    #[error("there are {targets} targets for {rows} rows of inputs")]
    Rows { rows: usize, targets: usize },
    #[error(transparent)]
    Minibatch(#[from] MinibatchError),
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    #[error(transparent)]
    Write(#[from] StudyError),
}

impl<'a, T: Real> Study<'a, T> {
    /// A study of no optimizers yet: 10 epochs of minibatches of 64.
    pub fn new(network: &'a Network, loss: Loss, examples: Examples<'a, T>) -> Self {
        Self {
            network,
            loss,
            examples,
            entrants: Vec::new(),
            observers: Vec::new(),
            epochs: 10,
            batch_size: 64,
            seed: 0,
            regret: RegretSettings::default(),
            memory: 1 << 30,
            probe: 2000,
            every: None,
            out: None,
        }
    }

    /// Adds an optimizer of your own under a name. It is cloned where training takes two passes.
    pub fn optimizer(mut self, name: &str, optimizer: impl Optimizer<T> + Clone + 'static) -> Self {
        let make = Box::new(move |_: &Network, _: usize| Ok(Box::new(optimizer.clone()) as Box<dyn Optimizer<T>>));
        self.entrants.push(Entrant { name: name.to_owned(), make, rates: BoundRates::default() });
        self
    }

    /// Adds one of [`optim::registry`](crate::optim::registry) under its own name; the bounds of its regret are computed, too.
    pub fn registered(mut self, config: OptimizerConfig) -> Self {
        let rates = Bound::rates(&config);
        let name = config.name.clone();
        let make = Box::new(move |network: &Network, rounds: usize| config.build_for(network, rounds));
        self.entrants.push(Entrant { name, make, rates });
        self
    }

    /// Adds somebody who watches the rounds of every optimizer, one run after the other.
    pub fn observer(mut self, observer: &'a mut dyn Observer<T>) -> Self {
        self.observers.push(observer);
        self
    }

    pub fn epochs(mut self, epochs: usize) -> Self {
        self.epochs = epochs;
        self
    }

    pub fn batch_size(mut self, rows: usize) -> Self {
        self.batch_size = rows;
        self
    }

    /// Decides the initial weights and the minibatches.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The scales whose regret is computed; none of them saves all the time that optima take.
    pub fn scales(mut self, scales: &[Scale]) -> Self {
        self.regret.scales = scales.to_vec();
        self
    }

    /// What is computed of regret, and how exactly.
    pub fn regret(mut self, settings: RegretSettings) -> Self {
        self.regret = settings;
        self
    }

    /// Bytes that linearized rounds may take; default 1 GiB.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Datapoints whose activation configurations are followed, evenly spaced, and rounds between two looks at them (an
    /// epoch by default). No datapoints leave exploration out.
    pub fn probe(mut self, datapoints: usize, every: Option<usize>) -> Self {
        (self.probe, self.every) = (datapoints, every);
        self
    }

    /// Writes the tables into `folder`, too, a folder for each optimizer, in the format of a run's.
    pub fn write_to(mut self, folder: impl AsRef<Path>) -> Self {
        self.out = Some(folder.as_ref().to_owned());
        self
    }

    /// Trains and measures the optimizers, in the order in which they were added.
    ///
    /// A run that diverges ends with [`Ending::Diverged`] and has the tables of the rounds before.
    ///
    /// # Errors
    /// If the parts do not fit each other, in which case nothing is trained; or if a table cannot be written.
    pub fn run(mut self) -> Result<Vec<StudyRun<T>>, BuilderError> {
        self.check()?;
        let minibatches = Minibatches::new(self.examples.len(), self.batch_size, self.seed)?;
        let rounds = minibatches.rounds_per_epoch() * self.epochs;
        for entrant in &self.entrants {
            (entrant.make)(self.network, rounds)?;
        }
        let (entrants, mut observers) = (std::mem::take(&mut self.entrants), std::mem::take(&mut self.observers));
        let mut runs = Vec::new();
        for entrant in &entrants {
            let run = self.run_one(entrant, &minibatches, &mut observers)?;
            if let Some(out) = &self.out {
                write_run(&out.join(&run.name), &run)?;
            }
            runs.push(run);
        }
        Ok(runs)
    }

    fn check(&self) -> Result<(), BuilderError> {
        if self.entrants.is_empty() {
            return Err(BuilderError::NoOptimizer);
        }
        let mut names = BTreeSet::new();
        for Entrant { name, .. } in &self.entrants {
            if !names.insert(name) {
                return Err(BuilderError::Repeated { name: name.clone() });
            }
            if self.out.is_some() && (Path::new(name).file_name() != Some(name.as_ref()) || name.contains('\\')) {
                return Err(BuilderError::Unnameable { name: name.clone() });
            }
        }
        let Examples { inputs, features, targets, target_width } = self.examples;
        let fit = |end, found, needed| match found == needed {
            true => Ok(()),
            false => Err(BuilderError::Misfit { end, found, needed }),
        };
        fit("inputs", self.network.inputs(), features)?;
        let rows = inputs.len() / features.max(1);
        let targets = match targets {
            Targets::Values(values) => {
                fit("outputs", self.network.outputs(), target_width)?;
                values.len() / target_width.max(1)
            }
            Targets::Labels(labels) => {
                let outputs = self.network.outputs();
                if let Some(label) = labels.iter().copied().find(|label| *label as usize >= outputs) {
                    return Err(BuilderError::Label { label, outputs });
                }
                labels.len()
            }
        };
        if targets == rows { Ok(()) } else { Err(BuilderError::Rows { rows, targets }) }
    }

    fn run_one(
        &self,
        entrant: &Entrant<T>,
        minibatches: &Minibatches,
        observers: &mut [&'a mut dyn Observer<T>],
    ) -> Result<StudyRun<T>, BuilderError> {
        let planned = minibatches.rounds_per_epoch() * self.epochs;
        let probe = probe_rows(self.examples.len(), self.probe);
        let mut probe_inputs = Vec::new();
        self.examples.gather_inputs(&probe, &mut probe_inputs);
        let settings = AnalysisSettings {
            regret: self.regret.clone(),
            planned_rounds: planned,
            batch: self.batch_size,
            every: self.every.unwrap_or(minibatches.rounds_per_epoch()).clamp(1, planned.max(1)),
            pool_winners: false,
            memory: self.memory,
            rates: entrant.rates,
            displacements: self.displacements(entrant, minibatches)?,
        };
        let mut analysis = Analysis::new(self.network, self.loss, settings, probe_inputs);
        let mut watching: Vec<&mut dyn Observer<T>> = vec![&mut analysis];
        watching.extend(observers.iter_mut().map(|observer| &mut **observer as &mut dyn Observer<T>));
        let mut losses = Vec::with_capacity(planned);
        let (ending, weights) = self.train(entrant, minibatches, &mut watching, |round, epoch, loss| {
            losses.push(RoundRow { round, epoch, loss });
        })?;
        let (tables, _) = analysis.complete(&self.examples, &mut Work::to_the_end(), |_| ());
        Ok(StudyRun { name: entrant.name.clone(), ending, losses, weights, tables })
    }

    /// How far every neuron goes, from a first pass over the run; `None` where nothing is solved before its end.
    fn displacements(&self, entrant: &Entrant<T>, minibatches: &Minibatches) -> Result<Option<Vec<f64>>, BuilderError> {
        if !self.regret.streams(self.network, self.loss) || self.regret.prefixes == 1 {
            return Ok(None);
        }
        let mut displacements = Displacements::new(self.network);
        self.train(entrant, minibatches, &mut [&mut displacements], |_, _, _| ())?;
        Ok(Some(displacements.into_neurons()))
    }

    /// Trains from the first round; `told` is told of each with its epoch and its loss. Gives the last weights.
    fn train(
        &self,
        entrant: &Entrant<T>,
        minibatches: &Minibatches,
        observers: &mut [&mut dyn Observer<T>],
        mut told: impl FnMut(usize, usize, f64),
    ) -> Result<(Ending, Vec<T>), BuilderError> {
        let Self { network, loss, examples, epochs, .. } = *self;
        let optimizer = (entrant.make)(network, minibatches.rounds_per_epoch() * epochs)?;
        let (weights, minibatches) = (he_uniform(network, self.seed), *minibatches);
        let mut run = PreparedRun { network, loss, examples, minibatches, epochs, weights, optimizer };
        let each_round = |round: usize, epoch: usize, loss: f64| {
            told(round, epoch, loss);
            ControlFlow::Continue(())
        };
        let (ending, _) = run.train(observers, each_round, |_, _| ControlFlow::Continue(()));
        Ok((ending, run.weights))
    }
}

fn write_run<T>(folder: &Path, run: &StudyRun<T>) -> Result<(), StudyError> {
    fs::create_dir_all(folder).map_err(|source| StudyError::Write { path: folder.to_owned(), source })?;
    write_rows(&folder.join("rounds.csv"), columns::ROUNDS, &run.losses)?;
    write::analysis(folder, &run.tables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        network::{LayerSpec, Rectifier},
        study::{experiment::parse, folder::Destination, options::RunOptions, run::run},
    };

    #[derive(Clone)]
    struct Constant(f32);

    impl Optimizer<f32> for Constant {
        fn step(&mut self, _: usize, weights: &mut [f32], gradient: &[f32]) {
            weights.iter_mut().zip(gradient).for_each(|(w, g)| *w -= self.0 * g);
        }
    }

    fn network(inputs: usize, outputs: usize) -> Network {
        Network::new(inputs, &[LayerSpec::dense(3), LayerSpec::Rectifier(Rectifier::Relu), LayerSpec::dense(outputs)])
            .unwrap()
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let inputs = vec![0.5f32; 40];
        let (labels, net) = (vec![0, 1, 1, 0, 2, 0, 1, 1, 0, 0], network(4, 2));
        let study = || Study::new(&net, Loss::CrossEntropy, Examples::classifier(&inputs, 4, &labels)).batch_size(5);
        assert!(matches!(study().run(), Err(BuilderError::NoOptimizer)));
        let study = || study().optimizer("mine", Constant(0.1));
        assert!(matches!(study().run(), Err(BuilderError::Label { label: 2, outputs: 2 })));
        assert!(matches!(study().optimizer("mine", Constant(0.2)).run(), Err(BuilderError::Repeated { .. })));
        let named = study().optimizer("../mine", Constant(0.1)).write_to("nowhere");
        assert!(matches!(named.run(), Err(BuilderError::Unnameable { .. })));
        let few = Study::new(&net, Loss::CrossEntropy, Examples::classifier(&inputs, 4, &labels[..4]));
        let few = few.optimizer("mine", Constant(0.1)).run();
        assert!(matches!(few, Err(BuilderError::Rows { rows: 10, targets: 4 })));
        let wide =
            Study::new(&net, Loss::Mse, Examples::autoencoder(&inputs, 4)).optimizer("mine", Constant(0.1)).run();
        assert!(matches!(wide, Err(BuilderError::Misfit { end: "outputs", found: 2, needed: 4 })));
        let batch = study().batch_size(11);
        let fine = vec![0; 10];
        let batch = Study { examples: Examples::classifier(&inputs, 4, &fine), ..batch };
        assert!(matches!(batch.run(), Err(BuilderError::Minibatch(_))));
    }

    /// The same problem as an experiment file, run the long way.
    #[test]
    fn a_study_in_memory_has_the_tables_of_a_run() {
        let text = "name = \"test\"\nseed = 3\n[data]\ndataset = \"digits\"\n[network]\nlayers = [{ dense = 5 }, \"relu\", { dense = 64 }]\n\
                    [training]\nloss = \"mse\"\ntarget = \"input\"\nepochs = 1\nbatch_size = 100\n\
                    [regret]\nprefixes = 4\nmax_products = 8\n[exploration]\nprobe = 50\nevery = 4\n\
                    [[optimizer]]\nname = \"sgd\"\nlearning_rate = 0.5\n";
        let experiment = parse(text, "a test", &[]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        run(&experiment, &RunOptions::new(Destination::Folder(&out)), &mut |_| ()).unwrap();

        let digits = crate::data::load("digits", None).unwrap().train;
        let layers = [LayerSpec::dense(5), LayerSpec::Rectifier(Rectifier::Relu), LayerSpec::dense(64)];
        let network = Network::new(64, &layers).unwrap();
        let memory = folder.path().join("memory");
        let runs = Study::new(&network, Loss::Mse, Examples::autoencoder(&digits.inputs, 64))
            .registered(OptimizerConfig::named("sgd", Some(0.5)).unwrap())
            .optimizer("mine", Constant(0.5))
            .epochs(1)
            .batch_size(100)
            .seed(3)
            .regret(RegretSettings { prefixes: 4, max_products: 8, ..RegretSettings::default() })
            .probe(50, Some(4))
            .write_to(&memory)
            .run()
            .unwrap();
        for table in ["rounds.csv", "regret.csv", "units.csv", "novelty.csv", "neurons.csv"] {
            let [a, b] = [&out, &memory].map(|base| fs::read_to_string(base.join("sgd").join(table)).unwrap());
            assert_eq!(a, b, "{table}");
        }
        // SGD by hand is the same but for the bounds, which nobody knows of it.
        assert_eq!((&runs[0].losses, &runs[0].weights), (&runs[1].losses, &runs[1].weights));
        for (known, mine) in runs[0].tables.regret.iter().zip(&runs[1].tables.regret) {
            assert_eq!(known.taylor_optimum, mine.taylor_optimum);
            assert!(known.bound_sgd.is_some() && mine.bound_sgd.is_none());
        }
    }

    #[test]
    fn a_run_that_diverges_says_so_and_observers_see_all_runs() {
        struct Count(usize, usize);
        impl Observer<f32> for Count {
            fn observe(&mut self, _: &crate::train::Round<f32>) {
                self.0 += 1;
            }
            fn finish(&mut self, _: &[f32], _: usize) {
                self.1 += 1;
            }
        }
        let inputs: Vec<f32> = (0..80).map(|i| (i % 7) as f32).collect();
        let (net, mut count) = (network(4, 4), Count(0, 0));
        let runs = Study::new(&net, Loss::Mse, Examples::autoencoder(&inputs, 4))
            .optimizer("wild", Constant(1e30))
            .optimizer("calm", Constant(1e-4))
            .observer(&mut count)
            .scales(&[])
            .batch_size(5)
            .epochs(2)
            .run()
            .unwrap();
        assert!(matches!(runs[0].ending, Ending::Diverged(_)));
        assert_eq!((&runs[1].ending, runs[1].losses.len()), (&Ending::Complete, 8));
        assert_eq!(runs[1].losses[4].epoch, 2);
        assert_eq!(count.0, runs[0].losses.len() + 8);
        assert_eq!(count.1, 2);
    }
}
