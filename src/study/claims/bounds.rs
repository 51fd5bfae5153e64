//! Regret against the bounds of theorems (`docs/theory.md`, section 3).

use super::{Claim, Thresholds, Verdict, conditions};
use crate::{
    optim::OptimizerConfig,
    study::{
        enclosure::{Certified, Holds},
        numbers::{count, percent, significant},
        results::{OptimizerTables, RunTables},
        tables::{Comparator, RegretRow},
    },
    taylor::BoundRates,
};

/// A bound on the regret of one optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Of plain SGD with a constant step.
    Sgd,
    /// Of projected descent with falling steps.
    Zinkevich,
    /// Of diagonal AdaGrad with a constant step.
    Adagrad,
}

impl Bound {
    pub const ALL: [Bound; 3] = [Bound::Sgd, Bound::Zinkevich, Bound::Adagrad];

    /// The name of the optimizer that it is about.
    pub fn optimizer(self) -> &'static str {
        match self {
            Bound::Sgd => "sgd",
            Bound::Zinkevich => "ogd",
            Bound::Adagrad => "adagrad",
        }
    }

    /// The learning rates that bounds may assume of an optimizer.
    pub fn rates(config: &OptimizerConfig) -> BoundRates {
        let rate = |bound: Bound| config.constant_rate_of(bound.optimizer());
        BoundRates { sgd: rate(Bound::Sgd), adagrad: rate(Bound::Adagrad) }
    }

    /// The bound of a row, if it is about this row.
    pub fn value(self, row: &RegretRow) -> Option<f64> {
        match self {
            Bound::Sgd => row.bound_sgd,
            // About comparators inside the ball that the iterates are kept in.
            Bound::Zinkevich => (row.comparator == Comparator::Ball).then_some(row.bound_zinkevich),
            Bound::Adagrad => row.bound_adagrad,
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            Bound::Sgd => "The regret of SGD with a constant step stays below its bound at every scale.",
            Bound::Zinkevich => {
                "The regret of projected online gradient descent stays below (3/2) G D / √N at every scale."
            }
            Bound::Adagrad => {
                "The regret of diagonal AdaGrad with a constant step stays below its bound at every scale."
            }
        }
    }

    pub fn source(self) -> &'static str {
        match self {
            Bound::Sgd => "section 2, theorem 2; the form for a constant step follows from convexity alone",
            Bound::Zinkevich => "section 2, theorem 2; Zinkevich 2003",
            Bound::Adagrad => "Duchi, Hazan and Singer 2011, theorem 5",
        }
    }

    /// Whether the theorem's conditions are met by every row that has the bound, so that a regret above it refutes the
    /// theorem (or, more likely, the program). Those of Zinkevich's are met only where the step was chosen for the ball
    /// of the row.
    fn is_unconditional(self) -> bool {
        match self {
            Bound::Sgd | Bound::Adagrad => true,
            Bound::Zinkevich => false,
        }
    }
}

/// Rows by what is known of them.
#[derive(Default)]
struct Rows {
    kept: u64,
    broken: u64,
    /// The solver's gap allows both.
    open: u64,
    /// Regret or bound is NaN.
    unknown: u64,
    /// The largest regret that a row can have, as a share of its bound.
    tightest: f64,
}

impl Rows {
    fn all(&self) -> u64 {
        self.kept + self.broken + self.open + self.unknown
    }

    fn add(&mut self, row: &RegretRow, bound: f64, t: &Thresholds) {
        if bound.is_nan() || !row.mean_regret.is_finite() {
            self.unknown += 1;
            return;
        }
        let regret = row.regret();
        match regret.at_most(bound + t.rounding * row.mean_loss.abs()) {
            Holds::Always => self.kept += 1,
            Holds::Never => self.broken += 1,
            Holds::Sometimes => self.open += 1,
        }
        // Of what rounding hides, no share is worth telling.
        if bound > 0.0 && regret.high > t.rounding * row.mean_loss.abs() {
            self.tightest = self.tightest.max(regret.high / bound);
        }
    }
}

/// Whether the regrets of the bound's optimizer keep it for each unit, comparator and prefix.
pub fn holds(run: &RunTables, bound: Bound, t: &Thresholds) -> Option<Claim> {
    let named: Vec<&OptimizerTables> =
        run.optimizers.iter().filter(|tables| tables.summary.is_called(bound.optimizer())).collect();
    if named.is_empty() {
        return None;
    }
    let mut rows = Rows::default();
    // A bound on the regret of all rounds says nothing certain about that of a sample.
    let (sampled, whole): (Vec<_>, Vec<_>) =
        named.iter().copied().partition(|tables: &&OptimizerTables| tables.summary.sampled_rounds.is_some());
    for row in whole.iter().flat_map(|tables| &tables.regret) {
        if let Some(value) = bound.value(row) {
            rows.add(row, value, t);
        }
    }
    // Another rate or rounds that are missing: the theorem is not about such runs.
    if rows.all() == 0 && sampled.is_empty() && whole.iter().any(|tables| !tables.regret.is_empty()) {
        return None;
    }
    let verdict = match rows {
        Rows { broken: 1.., .. } if bound.is_unconditional() => Verdict::NotSupported,
        Rows { broken: 1.., .. } => Verdict::NotSeen,
        Rows { kept: 1.., open: 0, unknown: 0, .. } => Verdict::Seen,
        _ => Verdict::Undecided,
    };
    let mut measured = if rows.all() == 0 {
        "Undecided: no row of regret.csv has this bound.".to_owned()
    } else {
        let plural = if rows.all() == 1 { "row" } else { "rows" };
        let mut text = format!(
            "{} in {} of {} {plural}, over all scales, units, comparators and prefixes",
            if verdict == Verdict::Seen { "Holds in this run" } else { "Holds" },
            count(rows.kept),
            count(rows.all()),
        );
        if rows.broken > 0 {
            text += &format!("; broken in {}", count(rows.broken));
        }
        if rows.open > 0 {
            text += &format!("; undecided in {}, where the solver's gap reaches beyond the bound", count(rows.open));
        }
        if rows.unknown > 0 {
            text += &format!("; undecided in {}, where regret or bound is not a number", count(rows.unknown));
        }
        if rows.tightest > 0.0 {
            text += &format!(". The largest regret that the gaps allow is {} of its bound", percent(rows.tightest));
        }
        text += &format!(". Rounding allowed: {} of the mean loss.", significant(t.rounding, 1));
        text
    };
    if rows.broken > 0 && !bound.is_unconditional() {
        measured += " The theorem speaks of steps that were chosen for the same ball, so this does not refute it.";
    }
    if !sampled.is_empty() {
        measured += " Runs of which only a sample of rounds was analysed are left out: the bound is about all rounds.";
    }
    measured += &format!(" Conditions: {}.", conditions(run, &named));
    let (id, text) = (format!("bound-{}", bound.optimizer()), bound.text().into());
    Some(Claim { id, text, measured, verdict, source: bound.source().into() })
}
