//! Minibatches of any size. A minibatch in which every row comes twice is the same function of the weights, so runs with short rounds, and
//! with these rounds filled up by their own rows, must say the same.

use crate::common::{Goal, LEAKY, Problem, RELU, Special, all_problems, assert_close, graphs, network, problem};
use taylorscope::{
    checkpoint::{self, Identity},
    study::{
        analysis::{Analysis, AnalysisSettings},
        tables::{Comparator, Scale},
    },
    taylor::{BoundRates, Comparators, RegretSettings, UnitResult, Work},
    train::{Observer, RoundEngine},
};

/// What a round leaves behind, to the last bit.
fn traces_of(engine: &RoundEngine<f64>) -> Vec<f64> {
    let mut all = [&[engine.loss()], engine.gradient()].concat();
    for part in engine.parts() {
        all.extend(part.rows.clone().map(|row| row as f64));
        all.extend(part.x.iter().chain(&part.tape.output));
        for block in engine.network().blocks() {
            all.extend(part.cotangents(block).values);
        }
    }
    all
}

#[test]
fn an_engine_takes_minibatches_of_any_size_as_if_it_had_been_made_for_them() {
    for problem in all_problems() {
        let examples = problem.examples();
        let rows = problem.all_rows();
        let mut engine = RoundEngine::new(&problem.network, problem.loss, problem.rows);
        for minibatch in [rows.repeat(7), rows[..1].to_vec(), rows.repeat(2), rows.clone(), rows[..1].to_vec()] {
            engine.compute(&problem.weights, &examples, &minibatch);
            let mut own = RoundEngine::new(&problem.network, problem.loss, minibatch.len());
            own.compute(&problem.weights, &examples, &minibatch);
            assert_eq!(traces_of(&engine), traces_of(&own), "{}, {} rows", problem.name, minibatch.len());
        }
        let (loss, gradient) = problem.backprop(&problem.weights);
        engine.compute(&problem.weights, &examples, &rows.repeat(3));
        assert_close(problem.name, &[engine.loss()], &[loss], 1e-12);
        assert_close(problem.name, engine.gradient(), &gradient, 1e-12);
    }
}

const ROUNDS: usize = 9;
/// Datapoints of the rounds, again and again.
const SIZES: [usize; 3] = [4, 4, 2];

/// The minibatches of all rounds; short ones `filled` up by their own rows.
fn minibatches(problem: &Problem, filled: bool) -> Vec<Vec<u32>> {
    let mut order = problem.all_rows().into_iter().cycle();
    let one = |size: &usize| {
        let rows: Vec<u32> = order.by_ref().take(*size).collect();
        if filled { rows.repeat(SIZES[0] / size) } else { rows }
    };
    SIZES.iter().cycle().take(ROUNDS).map(one).collect()
}

/// An analysis at all scales, which is put on disk and taken up again behind every round.
struct Run<'a> {
    problem: &'a Problem,
    memory: usize,
}

impl Run<'_> {
    fn analysis(&self) -> Analysis<f64> {
        let regret = RegretSettings {
            scales: vec![Scale::Neuron, Scale::Layer, Scale::Network],
            comparators: Comparators::both(),
            window: ROUNDS,
            tolerance: 1e-6,
            ..RegretSettings::default()
        };
        let settings = AnalysisSettings {
            regret,
            planned_rounds: ROUNDS,
            batch: SIZES[0],
            every: 1,
            pool_winners: false,
            memory: self.memory,
            rates: BoundRates::default(),
            displacements: None,
        };
        Analysis::new(&self.problem.network, self.problem.loss, settings, self.problem.inputs.clone())
    }

    fn found(&self, filled: bool) -> Vec<UnitResult> {
        let (problem, examples) = (self.problem, self.problem.examples());
        let states = problem.states(ROUNDS + 1, 5);
        let mut engine = RoundEngine::new(&problem.network, problem.loss, 1);
        let (folder, identity) = (tempfile::tempdir().unwrap(), Identity::new());
        let path = folder.path().join("state");
        for (n, rows) in minibatches(problem, filled).iter().enumerate() {
            let mut analysis = self.analysis();
            assert_eq!(checkpoint::load(&path, &identity, &mut analysis).unwrap(), n > 0);
            engine.compute(&states[n], &examples, rows);
            analysis.observe(&engine.round(n + 1, 1, &states[n], rows));
            checkpoint::save(&path, &identity, &mut analysis).unwrap();
        }
        let mut analysis = self.analysis();
        assert!(checkpoint::load(&path, &identity, &mut analysis).unwrap());
        analysis.finish(&states[ROUNDS], ROUNDS);
        let (tables, _) = analysis.complete(&examples, &mut Work::to_the_end(), |_| ());
        assert_eq!(tables.window_rounds, ROUNDS);
        tables.found
    }
}

#[test]
fn short_rounds_have_the_optima_of_rounds_that_are_filled_up_by_their_own_rows() {
    let networks = [
        ("squares", network(4, &[(5, RELU), (3, LEAKY)], 2), Goal::Values),
        ("autoencoder", network(6, &[(3, RELU)], 6), Goal::Inputs),
        ("classifier", network(4, &[(4, RELU)], 3), Goal::Labels),
        ("residual", graphs::residual(), Goal::Values),
        ("residual classifier", graphs::nested(), Goal::Labels),
    ];
    for (name, network, goal) in networks {
        let problem = problem(name, 3, network, 20, goal, Special::Nothing);
        // With all rounds linearized at once, and by passes with nothing kept.
        for memory in [1 << 30, 0] {
            let run = Run { problem: &problem, memory };
            let (short, filled) = (run.found(false), run.found(true));
            assert_eq!(short.len(), filled.len());
            for (a, b) in short.iter().zip(&filled) {
                let what = format!("{name}, memory {memory}: {a:?} and {b:?}");
                assert_eq!((a.unit, a.comparator, a.record.rounds), (b.unit, b.comparator, b.record.rounds), "{what}");
                assert_close(&what, &[a.record.mean_loss, a.start], &[b.record.mean_loss, b.start], 1e-11);
                assert_close(&what, &[a.record.displacement], &[b.record.displacement], 1e-12);
                // Each lies above the other's lower bound.
                let rounding = 1e-10 * a.record.mean_loss;
                let overlap = a.taylor_optimum - a.gap <= b.taylor_optimum + rounding
                    && b.taylor_optimum - b.gap <= a.taylor_optimum + rounding;
                assert!(overlap || a.comparator == Comparator::Unconstrained, "{what}");
            }
            // Intervals that overlap say something where they are narrow.
            let balls = || short.iter().filter(|result| result.comparator == Comparator::Ball);
            let narrow = balls().filter(|result| result.gap < 1e-3 * result.record.mean_loss).count();
            assert!(2 * narrow > balls().count(), "{name}: {narrow} of {} optima are certified", balls().count());
        }
    }
}
