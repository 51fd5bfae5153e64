//! What the paper claims, what this run measured, and whether the two agree.
//!
//! The claims are those of Balduzzi, McWilliams and Butler-Yeoman, ICML 2017, sections 2 to 4
//! (`docs/theory.md`, sections 3, 5 and 7). A claim is listed only when the run has the optimizers it speaks of.
//!
//! **Verdicts are interval arithmetic** ([`crate::study::enclosure`]). A Taylor optimum is the interval that its
//! certificate leaves, and a rule is *kept* only if it holds for every value in it, *failed* only if it fails for every
//! value, else *undecided*, with the reason in the text. Losses, accuracies and counts of bits are measured and have no
//! interval.
//!
//! **One run is one run.** It has one seed, so a rule that is kept is *seen in this run* and one that is failed *not
//! seen in this run* ([`in_one_run`]); *supported* and *not supported* are for studies of several seeds
//! ([`crate::study::explore`]). There is one exception: a theorem that is broken once is broken ([`bounds`]). Where
//! nobody searched for the learning rates, a claim about best rates is undecided, as it speaks of other runs. The
//! remaining comparisons of optimizers keep their verdicts, which then speak of these rates alone: the conditions that
//! stand with each say so.
//!
//! - [`losses`]: who ends worse, and whether regions or regret explain it; accuracies
//! - [`decay`]: regret against 1/√N; [`bounds`]: regret against theorems; [`exploration`]: hypothesis 1

pub mod bounds;
pub mod decay;
pub mod exploration;
pub mod losses;
#[cfg(test)]
mod tests;

use crate::{
    loss::{Loss, LossName},
    study::{
        enclosure::{Enclosure, Holds},
        numbers::{count, counted, display_name, known},
        results::{OptimizerTables, RunTables},
        tables::{Scale, Summary},
    },
    trace::TargetKind,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Whether the measurement agrees with the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The rule holds for every value that the certificates or intervals allow, over several seeds and at searched
    /// rates.
    Supported,
    /// The rule holds for every value, but in one run: one seed, or rates that nobody searched for.
    Seen,
    /// The rule fails for every value, in one run.
    NotSeen,
    /// The rule fails for every value that the certificates or intervals allow.
    NotSupported,
    /// Between the thresholds, or not measurable in this run.
    Undecided,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Supported => "supported",
            Verdict::Seen => "seen in this run",
            Verdict::NotSeen => "not seen in this run",
            Verdict::NotSupported => "not supported",
            Verdict::Undecided => "undecided",
        })
    }
}

/// The verdict of one run on a rule that holds for all, some or none of the values that it leaves open.
pub fn in_one_run(rule: Holds) -> Verdict {
    match rule {
        Holds::Always => Verdict::Seen,
        Holds::Never => Verdict::NotSeen,
        Holds::Sometimes => Verdict::Undecided,
    }
}

/// One claim with its measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Stable name, e.g. `sgd-worse-than-adam`.
    pub id: String,
    /// What the paper says.
    pub text: String,
    /// What the run measured, in words, with the rule of the verdict and, where it is undecided, the reason.
    pub measured: String,
    pub verdict: Verdict,
    /// Where the paper says it, e.g. `section 3.2, figure 3`.
    pub source: String,
}

/// How many claims have each verdict; displayed as `3 seen in this run, 2 undecided`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub supported: usize,
    pub seen: usize,
    pub not_seen: usize,
    pub not_supported: usize,
    pub undecided: usize,
}

impl Tally {
    pub fn of(claims: &[Claim]) -> Tally {
        let mut tally = Tally::default();
        for claim in claims {
            *match claim.verdict {
                Verdict::Supported => &mut tally.supported,
                Verdict::Seen => &mut tally.seen,
                Verdict::NotSeen => &mut tally.not_seen,
                Verdict::NotSupported => &mut tally.not_supported,
                Verdict::Undecided => &mut tally.undecided,
            } += 1;
        }
        tally
    }

    /// Each verdict with its number, the favourable ones first.
    pub fn counts(&self) -> [(Verdict, usize); 5] {
        [
            (Verdict::Supported, self.supported),
            (Verdict::Seen, self.seen),
            (Verdict::Undecided, self.undecided),
            (Verdict::NotSeen, self.not_seen),
            (Verdict::NotSupported, self.not_supported),
        ]
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = self.counts().into_iter().filter(|(_, number)| *number > 0);
        let texts: Vec<String> = some.map(|(verdict, number)| format!("{} {verdict}", count(number as u64))).collect();
        f.write_str(if texts.is_empty() { "no claims" } else { "" })?;
        f.write_str(&texts.join(", "))
    }
}

/// Where the lines between the verdicts are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// A loss is clearly worse from this ratio on (default 1.1).
    pub clearly_worse: f64,
    /// A loss is not worse up to this ratio (default 1.0).
    pub not_worse: f64,
    /// The slope that the theory asks for (default -0.5).
    pub slope: f64,
    /// How far above `slope` a fitted slope may lie (default 0.05).
    pub slope_tolerance: f64,
    /// A slope fitted to fewer prefixes says nothing (default 5).
    pub slope_points: usize,
    /// The share of units below which a claim about all units fails outright (default 0.5).
    pub most_units: f64,
    /// Rounding allowed in a bound, relative to the mean loss (default 1e-6).
    pub rounding: f64,
    /// An exploration metric is clearly larger from this relative difference on (default 0.1).
    pub clearly_more: f64,
    /// The share of a loss difference that is mainly the region's (default 0.6).
    pub mainly: f64,
    /// Training accuracy that the convolutional network should pass (default 0.99).
    pub accuracy: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds {
            clearly_worse: 1.1,
            not_worse: 1.0,
            slope: -0.5,
            slope_tolerance: 0.05,
            slope_points: 5,
            most_units: 0.5,
            rounding: 1e-6,
            clearly_more: 0.1,
            mainly: 0.6,
            accuracy: 0.99,
        }
    }
}

/// The optimizers that the paper compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    Sgd,
    RmsProp,
    Adam,
}

impl Compared {
    pub const ALL: [Compared; 3] = [Compared::Sgd, Compared::RmsProp, Compared::Adam];
    /// Those whose steps are divided by root mean squares of gradients.
    pub const NORMALIZED: [Compared; 2] = [Compared::RmsProp, Compared::Adam];

    /// The name that the experiment file has for it.
    pub fn name(self) -> &'static str {
        match self {
            Compared::Sgd => "sgd",
            Compared::RmsProp => "rmsprop",
            Compared::Adam => "adam",
        }
    }
}

/// The tasks that the paper's claims speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Autoencoder,
    ConvolutionalClassifier,
    Other,
}

impl Task {
    pub fn of(summary: &Summary) -> Task {
        match (&summary.loss, summary.target) {
            (LossName::Known(Loss::Mse), TargetKind::Input) => Task::Autoencoder,
            (LossName::Known(Loss::CrossEntropy), _) if summary.is_convolutional() => Task::ConvolutionalClassifier,
            _ => Task::Other,
        }
    }
}

/// The claims that `run` can speak to, with the default [`Thresholds`].
pub fn evaluate(run: &RunTables) -> Vec<Claim> {
    evaluate_with(run, &Thresholds::default())
}

/// The claims that `run` can speak to.
pub fn evaluate_with(run: &RunTables, thresholds: &Thresholds) -> Vec<Claim> {
    let mut claims = Vec::new();
    let task = Task::of(&run.summary);
    let sgd = best(run, Compared::Sgd);
    let others: Vec<&OptimizerTables> = Compared::NORMALIZED.into_iter().filter_map(|other| best(run, other)).collect();
    let pairs = || sgd.into_iter().flat_map(|sgd| others.iter().map(move |other| Pair { run, sgd, other }));
    match task {
        Task::Autoencoder => {
            for pair in pairs() {
                claims.push(losses::ends_worse(&pair, thresholds));
                claims.push(losses::mainly_the_region(&pair, thresholds));
            }
        }
        Task::ConvolutionalClassifier => {
            claims.extend(losses::all_accurate(run, thresholds));
            claims.extend(pairs().map(|pair| losses::varies_more(&pair, thresholds)));
        }
        Task::Other => {}
    }
    claims.extend(decay::decays(run, &[Scale::Network, Scale::Layer], thresholds));
    claims.extend(decay::decays(run, &[Scale::Neuron], thresholds));
    claims.extend(bounds::Bound::ALL.into_iter().filter_map(|bound| bounds::holds(run, bound, thresholds)));
    claims.extend(pairs().flat_map(|pair| exploration::explores_more(&pair, thresholds)));
    claims
}

/// SGD and an optimizer that it is compared with.
pub struct Pair<'a> {
    run: &'a RunTables,
    sgd: &'a OptimizerTables,
    other: &'a OptimizerTables,
}

impl Pair<'_> {
    /// The other optimizer's name as people write it.
    fn name(&self) -> String {
        display_name(&self.other.summary.name)
    }

    fn conditions(&self) -> String {
        conditions(self.run, &[self.sgd, self.other])
    }
}

/// Of the runs of this optimizer, the one with the least final loss (a diverged one only if all did).
fn best(run: &RunTables, optimizer: Compared) -> Option<&OptimizerTables> {
    let loss = |tables: &OptimizerTables| losses::last(tables).unwrap_or(f64::INFINITY);
    let named = run.optimizers.iter().filter(|tables| tables.summary.is_called(optimizer.name()));
    named.min_by(|a, b| loss(a).total_cmp(&loss(b)))
}

/// `SGD (learning rate 1)`.
fn with_rate(tables: &OptimizerTables) -> String {
    let name = display_name(&tables.summary.name);
    format!("{name} (learning rate {})", known(tables.summary.learning_rate))
}

/// The conditions of a comparison, which every verdict depends on.
fn conditions(run: &RunTables, compared: &[&OptimizerTables]) -> String {
    let rounds = compared.iter().map(|tables| tables.summary.rounds);
    let (least, most) = (rounds.clone().min().unwrap_or(0), rounds.max().unwrap_or(0));
    let rounds = if least == most {
        counted(most, "round")
    } else {
        format!("{} to {}", count(least as u64), counted(most, "round"))
    };
    let seed = run.summary.seed.map_or_else(|| "trained elsewhere".to_owned(), |seed| format!("one seed ({seed})"));
    let rates =
        if run.summary.searched_rates { "searched learning rates" } else { "learning rates that nobody searched for" };
    format!("{seed}, {rounds}, {rates}")
}

/// The reason of claims about best rates in runs at others.
const NOT_SEARCHED: &str = "rates not searched";

/// ` Undecided: REASON.`, or nothing without one.
fn because(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!(" Undecided: {reason}."))
}

/// The verdict of one run on a quantity that must be at least (or, if `beyond`, above) `yes` and that fails up to `no`,
/// with the reason where it is undecided.
fn between(quantity: Enclosure, yes: f64, no: f64, beyond: bool) -> (Verdict, Option<&'static str>) {
    let kept = if beyond { quantity.above(yes) } else { quantity.at_least(yes) };
    match (kept, quantity.at_most(no)) {
        (Holds::Always, _) => (Verdict::Seen, None),
        (_, Holds::Always) => (Verdict::NotSeen, None),
        (Holds::Never, Holds::Never) => (Verdict::Undecided, Some("between the two")),
        _ => (Verdict::Undecided, Some("the solver's gaps allow both sides")),
    }
}
