//! What the paper claims, what this run measured, and whether the two agree.
//!
//! The claims are those of Balduzzi, McWilliams and Butler-Yeoman, ICML 2017, sections 2 to 4
//! (`docs/theory.md`, sections 3, 5 and 7). A claim is listed only when the run has the optimizers it speaks
//! of. A verdict never says more than one run can: one seed, the learning rates of the experiment.

#[cfg(test)]
mod tests;

use super::{
    numbers::{count, counted, display_name, known, number, percent, setting, significant},
    results::{OptimizerTables, RunTables, mean, median},
    tables::{Comparator, RegretRow, Scale, UnitRow},
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Whether the measurement agrees with the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The rule holds for every value that the certificates or intervals allow, over several seeds and at searched rates.
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

/// One claim with its measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Stable name, e.g. `sgd-worse-than-adam`.
    pub id: String,
    /// What the paper says.
    pub text: String,
    /// What the run measured, in words, with the rule of the verdict.
    pub measured: String,
    pub verdict: Verdict,
    /// Where the paper says it, e.g. `section 3.2, figure 3`.
    pub source: String,
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

impl Thresholds {
    /// Whether a quantity that is `ratio` times another is clearly worse.
    fn of_ratio(&self, ratio: f64) -> Verdict {
        if ratio > self.clearly_worse {
            Verdict::Supported
        } else if ratio <= self.not_worse {
            Verdict::NotSupported
        } else {
            Verdict::Undecided
        }
    }
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

/// The claims that `run` can speak to, with the default [`Thresholds`].
pub fn evaluate(run: &RunTables) -> Vec<Claim> {
    evaluate_with(run, &Thresholds::default())
}

/// The claims that `run` can speak to.
pub fn evaluate_with(run: &RunTables, thresholds: &Thresholds) -> Vec<Claim> {
    let mut claims = Vec::new();
    let sgd = best(run, "sgd");
    let others: Vec<&OptimizerTables> = ["rmsprop", "adam"].iter().filter_map(|name| best(run, name)).collect();
    if let Some(sgd) = sgd {
        for other in &others {
            if run.summary.loss == "mse" && run.summary.target == "input" {
                claims.push(ends_worse(run, sgd, other, thresholds));
                claims.push(mainly_the_region(run, sgd, other, thresholds));
            }
        }
    }
    claims.extend(all_accurate(run, thresholds));
    if let Some(sgd) = sgd.filter(|_| is_convolutional_classifier(run)) {
        claims.extend(others.iter().map(|other| varies_more(run, sgd, other, thresholds)));
    }
    claims.extend(decays(run, &[Scale::Network, Scale::Layer], thresholds));
    claims.extend(decays(run, &[Scale::Neuron], thresholds));
    claims.extend(bounds_hold(run, "sgd", thresholds));
    claims.extend(bounds_hold(run, "ogd", thresholds));
    claims.extend(bounds_hold(run, "adagrad", thresholds));
    if let Some(sgd) = sgd {
        for other in &others {
            claims.extend(explores_more(run, sgd, other, thresholds));
        }
    }
    claims
}

/// Of the optimizers called `name`, the one with the least final loss (a diverged one only if all did).
fn best<'a>(run: &'a RunTables, name: &str) -> Option<&'a OptimizerTables> {
    let loss = |tables: &OptimizerTables| final_loss(tables).unwrap_or(f64::INFINITY);
    run.optimizers.iter().filter(|tables| tables.summary.name == name).min_by(|a, b| loss(a).total_cmp(&loss(b)))
}

fn final_loss(tables: &OptimizerTables) -> Option<f64> {
    tables.summary.last_loss.filter(|loss| loss.is_finite())
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

fn ends_worse(run: &RunTables, sgd: &OptimizerTables, other: &OptimizerTables, t: &Thresholds) -> Claim {
    let name = display_name(&other.summary.name);
    let conditions = conditions(run, &[sgd, other]);
    let (measured, verdict) = match (final_loss(sgd), final_loss(other)) {
        (Some(worse), Some(better)) => {
            let ratio = worse / better;
            let verdict = t.of_ratio(ratio);
            let measured = format!(
                "Mean minibatch loss of the last 100 rounds: {} {}, {} {}; ratio {}. Supported above {}, not \
                 supported up to {}. Conditions: {conditions}.",
                with_rate(sgd),
                number(worse),
                with_rate(other),
                number(better),
                number(ratio),
                setting(t.clearly_worse),
                setting(t.not_worse),
            );
            (measured, verdict)
        }
        (sgd_loss, _) => {
            let lacking = if sgd_loss.is_none() { sgd } else { other };
            (format!("{} has no finite final loss. Conditions: {conditions}.", with_rate(lacking)), Verdict::Undecided)
        }
    };
    Claim {
        id: format!("sgd-worse-than-{}", other.summary.name),
        text: format!("On the autoencoder, SGD at its best fixed learning rate ends clearly worse than {name}."),
        measured,
        verdict,
        source: "section 3.2, figure 3".into(),
    }
}

/// Whether the loss difference lies in the Taylor optimum (the region) rather than in the regret.
fn mainly_the_region(run: &RunTables, sgd: &OptimizerTables, other: &OptimizerTables, t: &Thresholds) -> Claim {
    let name = display_name(&other.summary.name);
    let conditions = conditions(run, &[sgd, other]);
    let splits = sgd.split(run.headline()).zip(other.split(run.headline())).filter(|(a, b)| a.scale == b.scale);
    let (measured, verdict) = match splits {
        None => ("The Taylor optimum of both was not measured at one scale.".to_string(), Verdict::Undecided),
        Some((a, b)) => {
            let (loss, optimum) = (a.mean_loss - b.mean_loss, a.taylor_optimum - b.taylor_optimum);
            let share = optimum / loss;
            let same = loss.abs() <= (t.clearly_worse - 1.0) * b.mean_loss.abs();
            let verdict = if same || !share.is_finite() {
                Verdict::Undecided
            } else if share >= t.mainly {
                Verdict::Supported
            } else if share <= 1.0 - t.mainly {
                Verdict::NotSupported
            } else {
                Verdict::Undecided
            };
            let measured = format!(
                "At {} scale ({} comparator), SGD minus {name}: mean loss {}, Taylor optimum {}, regret {}. \
                 Supported when at least {} of the loss difference is the optimum's, not supported up to {}, \
                 undecided when the losses differ by less than {}. Conditions: {conditions}.",
                a.scale,
                run.headline(),
                number(loss),
                number(optimum),
                number(a.regret - b.regret),
                percent(t.mainly),
                percent(1.0 - t.mainly),
                percent(t.clearly_worse - 1.0),
            );
            (measured, verdict)
        }
    };
    Claim {
        id: format!("region-explains-{}", other.summary.name),
        text: format!(
            "The loss between SGD and {name} is mainly a difference between the regions they find (Taylor \
             optimum), not between how well they optimize inside them (regret)."
        ),
        measured,
        verdict,
        source: "sections 3.2 and 4".into(),
    }
}

fn is_convolutional_classifier(run: &RunTables) -> bool {
    run.summary.loss == "cross_entropy" && run.summary.layers.iter().any(|layer| layer.starts_with("conv"))
}

/// Rounds at the end over which the spread of the minibatch losses is measured.
const SPREAD_ROUNDS: usize = 100;

/// The standard deviation of the last minibatch losses.
fn spread(tables: &OptimizerTables) -> Option<f64> {
    let rounds = &tables.rounds[tables.rounds.len().saturating_sub(SPREAD_ROUNDS)..];
    let middle = mean(rounds.iter().map(|row| row.loss))?;
    mean(rounds.iter().map(|row| (row.loss - middle).powi(2))).map(f64::sqrt).filter(|spread| spread.is_finite())
}

/// Whether the minibatch losses of SGD scatter more than another optimizer's.
fn varies_more(run: &RunTables, sgd: &OptimizerTables, other: &OptimizerTables, t: &Thresholds) -> Claim {
    let name = display_name(&other.summary.name);
    let conditions = conditions(run, &[sgd, other]);
    let (measured, verdict) = match (spread(sgd), spread(other)) {
        (Some(large), Some(small)) if small > 0.0 => {
            let ratio = large / small;
            let verdict = t.of_ratio(ratio);
            let measured = format!(
                "Standard deviation of the last {SPREAD_ROUNDS} minibatch losses: {} {}, {} {}; ratio {}. Supported above {}, \
                 not supported up to {}. Conditions: {conditions}.",
                with_rate(sgd),
                number(large),
                with_rate(other),
                number(small),
                number(ratio),
                setting(t.clearly_worse),
                setting(t.not_worse),
            );
            (measured, verdict)
        }
        _ => (format!("The last losses of one of them are not finite. Conditions: {conditions}."), Verdict::Undecided),
    };
    Claim {
        id: format!("sgd-varies-more-than-{}", other.summary.name),
        text: format!("On the convolutional network the loss of SGD varies somewhat more than that of {name}."),
        measured,
        verdict,
        source: "section 3.2, figure 4".into(),
    }
}

fn all_accurate(run: &RunTables, t: &Thresholds) -> Option<Claim> {
    if !is_convolutional_classifier(run) {
        return None;
    }
    let compared: Vec<&OptimizerTables> =
        ["sgd", "rmsprop", "adam"].iter().filter_map(|name| best(run, name)).collect();
    let accuracies: Vec<(&OptimizerTables, Option<f64>)> =
        compared.iter().map(|tables| (*tables, tables.summary.train_accuracy)).collect();
    if compared.is_empty() || accuracies.iter().all(|(_, accuracy)| accuracy.is_none()) {
        return None;
    }
    let verdict = if accuracies.iter().any(|(_, accuracy)| accuracy.is_none()) {
        Verdict::Undecided
    } else if accuracies.iter().all(|(_, accuracy)| accuracy.is_some_and(|a| a >= t.accuracy)) {
        Verdict::Supported
    } else {
        Verdict::NotSupported
    };
    let words: Vec<String> = accuracies
        .iter()
        .map(|(tables, accuracy)| match accuracy {
            Some(accuracy) => format!("{} {:.2}%", with_rate(tables), 100.0 * accuracy),
            None => format!("{} not measured", with_rate(tables)),
        })
        .collect();
    Some(Claim {
        id: "all-fit-the-training-data".into(),
        text: format!(
            "On the convolutional network every optimizer reaches {:.0}% training accuracy.",
            100.0 * t.accuracy
        ),
        measured: format!("Training accuracy: {}. Conditions: {}.", words.join(", "), conditions(run, &compared)),
        verdict,
        source: "section 3.2, figure 4".into(),
    })
}

/// How the regret of a group of units decays.
#[derive(Default)]
struct Decay {
    /// Slope at most the limit.
    fast: usize,
    /// Slope above the limit.
    slow: usize,
    /// Regret at most zero at the longest prefix: below every positive curve.
    negative: usize,
    /// Positive regret but too few prefixes for a slope.
    short: usize,
    slopes: Vec<f64>,
}

impl Decay {
    fn of<'a>(units: impl Iterator<Item = &'a UnitRow>, t: &Thresholds) -> Decay {
        let mut decay = Decay::default();
        for unit in units {
            if unit.mean_regret <= 0.0 {
                decay.negative += 1;
                continue;
            }
            match unit.slope.filter(|slope| slope.is_finite() && unit.slope_points >= t.slope_points) {
                None => decay.short += 1,
                Some(slope) => {
                    decay.slopes.push(slope);
                    if slope <= t.slope + t.slope_tolerance { decay.fast += 1 } else { decay.slow += 1 }
                }
            }
        }
        decay
    }

    fn measured(&self) -> usize {
        self.fast + self.slow + self.negative
    }

    fn words(&self) -> String {
        let mut text = format!("{} of {}", self.fast + self.negative, counted(self.measured(), "unit"));
        if let Some(middle) = median(self.slopes.iter().copied()) {
            text += &format!(" (median slope {})", significant(middle, 2));
        }
        if self.negative > 0 {
            text += &format!(", {} of them trivially: their regret is not positive", self.negative);
        }
        if self.short > 0 {
            text += &format!("; {} without a slope not counted", self.short);
        }
        text
    }
}

fn decays(run: &RunTables, scales: &[Scale], t: &Thresholds) -> Option<Claim> {
    let mut words = Vec::new();
    let (mut satisfied, mut measured) = (0, 0);
    for tables in &run.optimizers {
        let units = tables.units.iter().filter(|u| u.comparator == run.headline() && scales.contains(&u.scale));
        let decay = Decay::of(units, t);
        if decay.measured() + decay.short > 0 {
            words.push(format!("{}: {}", display_name(&tables.summary.label), decay.words()));
            satisfied += decay.fast + decay.negative;
            measured += decay.measured();
        }
    }
    if words.is_empty() {
        return None;
    }
    let verdict = if measured == 0 {
        Verdict::Undecided
    } else if satisfied == measured {
        Verdict::Supported
    } else if (satisfied as f64) < t.most_units * measured as f64 {
        Verdict::NotSupported
    } else {
        Verdict::Undecided
    };
    let neurons = scales.contains(&Scale::Neuron);
    let compared: Vec<&OptimizerTables> = run.optimizers.iter().collect();
    Some(Claim {
        id: if neurons { "regret-decays-neurons".into() } else { "regret-decays-layers".into() },
        text: format!(
            "Average regret decays like 1/√N or faster {}.",
            if neurons { "for every neuron" } else { "for the whole network and for every layer" }
        ),
        measured: format!(
            "Units whose slope of log regret on log N, beyond the first 30 rounds, is at most {} ({} \
             comparator): {}. Supported when all are, not supported when fewer than {} are. Conditions: {}.",
            significant(t.slope + t.slope_tolerance, 2),
            run.headline(),
            words.join("; "),
            percent(t.most_units),
            conditions(run, &compared),
        ),
        verdict,
        source: "theorem 2; section 3.2, figures 3 and 4".into(),
    })
}

/// Whether the regret bound of `name` holds for each unit, comparator and prefix.
fn bounds_hold(run: &RunTables, name: &str, t: &Thresholds) -> Option<Claim> {
    // The bound of projected descent is about comparators inside the ball that the iterates are kept in.
    let bound = |row: &RegretRow| match name {
        "sgd" => row.bound_sgd,
        "adagrad" => row.bound_adagrad,
        _ => (row.comparator == Comparator::Ball).then_some(row.bound_zinkevich),
    };
    let named: Vec<&OptimizerTables> = run.optimizers.iter().filter(|tables| tables.summary.name == name).collect();
    if named.is_empty() {
        return None;
    }
    let (mut rows, mut broken, mut tightest) = (0u64, 0u64, None::<f64>);
    for row in named.iter().flat_map(|tables| &tables.regret) {
        let Some(bound) = bound(row).filter(|_| row.mean_regret.is_finite()) else { continue };
        rows += 1;
        // A NaN bound holds nothing: it counts as broken.
        let within = row.mean_regret <= bound + t.rounding * row.mean_loss.abs();
        broken += u64::from(!within);
        if bound > 0.0 && row.mean_regret > 0.0 {
            tightest = Some(tightest.unwrap_or(0.0).max(row.mean_regret / bound));
        }
    }
    let measured = match (rows, tightest) {
        (0, _) => "No row of regret.csv has this bound.".to_string(),
        (_, tightest) => format!(
            "{} of {} hold, over all scales, units, comparators and prefixes{}; rounding allowed: {} of the \
             mean loss. Conditions: {}.",
            count(rows - broken),
            if rows == 1 { "1 row".into() } else { format!("{} rows", count(rows)) },
            tightest.map_or(String::new(), |ratio| format!("; the tightest regret is {} of its bound", percent(ratio))),
            significant(t.rounding, 1),
            conditions(run, &named),
        ),
    };
    let verdict = match (rows, broken) {
        (0, _) => Verdict::Undecided,
        (_, 0) => Verdict::Supported,
        _ => Verdict::NotSupported,
    };
    Some(Claim {
        id: format!("bound-{name}"),
        text: match name {
            "sgd" => "The regret of SGD with a constant step stays below its bound at every scale.".into(),
            _ => "The regret of projected online gradient descent stays below (3/2) G D / √N at every scale.".into(),
        },
        measured,
        verdict,
        source: match name {
            "sgd" => "section 2, theorem 2; the form for a constant step follows from convexity alone".into(),
            _ => "section 2, theorem 2".into(),
        },
    })
}

/// One way of measuring exploration.
struct Metric {
    id: &'static str,
    text: &'static str,
    unit: &'static str,
    figure: &'static str,
    value: fn(&OptimizerTables) -> Option<f64>,
}

const METRICS: [Metric; 4] = [
    Metric {
        id: "novelty",
        text: "its activation configurations are farther from all earlier ones (novelty)",
        unit: "bits of least Hamming distance, mean over the recorded rounds",
        figure: "figure 5a",
        value: OptimizerTables::mean_novelty,
    },
    Metric {
        id: "switches",
        text: "its neurons switch state more often",
        unit: "switches, median over hidden neurons",
        figure: "figure 5b",
        value: |tables| median(tables.neurons.iter().map(|row| row.switches as f64)),
    },
    Metric {
        id: "log-volume",
        text: "its neurons cover a larger volume of configuration space",
        unit: "log-volume, median over hidden neurons",
        figure: "figure 5c",
        value: |tables| median(tables.neurons.iter().map(|row| row.log_volume)),
    },
    Metric {
        id: "log-det",
        text: "its neurons cover a larger volume by the measure that dead neurons cannot break",
        unit: "½ log det(I + Gram), mean over hidden neurons",
        figure: "figure 5c, robust form",
        value: |tables| mean(tables.neurons.iter().map(|row| row.log_det)),
    },
];

fn explores_more(run: &RunTables, sgd: &OptimizerTables, other: &OptimizerTables, t: &Thresholds) -> Vec<Claim> {
    let name = display_name(&other.summary.name);
    METRICS
        .iter()
        .filter_map(|metric| {
            let finite = |tables| (metric.value)(tables).filter(|value| value.is_finite());
            let (few, many) = (finite(sgd)?, finite(other)?);
            // Relative to SGD; log-volumes may be negative, hence the absolute value.
            let more = (many - few) / few.abs();
            let verdict = if many <= few {
                Verdict::NotSupported
            } else if more > t.clearly_more {
                Verdict::Supported
            } else {
                Verdict::Undecided
            };
            Some(Claim {
                id: format!("{}-{}", other.summary.name, metric.id),
                text: format!("{name} explores more than SGD: {}.", metric.text),
                measured: format!(
                    "{} {}, {} {} ({}). Supported when more than {} above SGD, not supported when not above. \
                     Conditions: {}.",
                    with_rate(sgd),
                    number(few),
                    with_rate(other),
                    number(many),
                    metric.unit,
                    percent(t.clearly_more),
                    conditions(run, &[sgd, other]),
                ),
                verdict,
                source: format!("section 4, hypothesis 1, {}", metric.figure),
            })
        })
        .collect()
}
