//! What the runs of the study say about hypothesis 1 of the paper, with 95% intervals over seeds.
//!
//! All comparisons are made *within* a seed, whose runs share weights and data order, and summarized over seeds: seeds
//! are independent of each other, runs of one seed are not. One rule gives every verdict: [`RULE`]. Rates are always
//! those of a search (of the study's own, or of a finished `tune`), and there are several seeds, so claims are
//! *supported* or not, and not merely seen; with fewer than [`LEAST_SEEDS`] seeds all are undecided.
//!
//! No claim rests on a Taylor optimum. Novelty is that after the first step, which leaves the initialization and is by
//! far the largest.

pub use super::metrics::Column;

use super::{
    conditions::{STEERED, UNSTEERED},
    metrics::{FINE_FIRST, METRICS, Metric},
    rows::{Exploration, ExploreRow, Group},
    signs::SignRow,
};
use crate::study::{
    claims::{Claim, Verdict},
    enclosure::{Enclosure, Holds},
    numbers::{counted, display_name, percent},
    statistics::{Interval, mean, rank_correlation},
    tables::TrialStatus,
};
use std::collections::BTreeSet;

/// Optimizers whose updates are normalized by root mean squares of gradients.
pub const NORMALIZED: [&str; 4] = ["rmsprop", "adam", "adamw", "batch_rms"];
/// Vanilla gradient descent.
pub const VANILLA: &str = "sgd";
/// With fewer seeds Student's interval is too wide to tell anything: of two it is 13 standard deviations long.
pub const LEAST_SEEDS: usize = 3;

/// How the intervals of a claim give its verdict.
pub const RULE: &str = "A claim is supported if all of its intervals lie on the claimed side of zero, not supported \
                        if none does and at least one lies on the other side, and undecided otherwise. Intervals are \
                        Student's, at 95%, over seeds; they are not corrected for the number of claims.";

/// The side of zero that a claim says its intervals lie on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Above,
    Below,
}

impl Side {
    pub fn words(self) -> &'static str {
        match self {
            Side::Above => "above zero",
            Side::Below => "below zero",
        }
    }

    /// Whether an interval lies on this side.
    pub fn has(self, interval: &Interval) -> Holds {
        let enclosure = Enclosure::new(interval.low, interval.high);
        match self {
            Side::Above => enclosure.above(0.0),
            Side::Below => enclosure.below(0.0),
        }
    }

    pub fn opposite(self) -> Side {
        match self {
            Side::Above => Side::Below,
            Side::Below => Side::Above,
        }
    }
}

/// A claim with the intervals that it rests on, in the columns of its [`Findings`].
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub claim: Claim,
    /// The comparison in few words, e.g. `RMSProp − SGD, tuned rates`.
    pub subject: String,
    /// What its numbers are.
    pub lead: String,
    /// Why it is undecided, if it is.
    pub reason: Option<String>,
    pub claimed: Side,
    /// `None` where not every seed has a value.
    pub cells: Vec<Option<Interval>>,
}

/// Claims of one kind: a table of claim x quantity.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    pub title: &'static str,
    /// What the numbers are.
    pub note: String,
    pub columns: Vec<Column>,
    pub findings: Vec<Finding>,
}

/// The claims that the study can speak to, with their intervals.
pub fn findings(study: &Exploration) -> Vec<Findings> {
    let judge = Judge::new(study);
    let labels = labels(study);
    let vanilla = labels.iter().find(|label| is(label, VANILLA));
    let steered = labels.iter().find(|label| is(label, STEERED));
    let (mut differences, mut correlations, mut losses) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(vanilla) = vanilla {
        for label in labels.iter().filter(|label| NORMALIZED.iter().any(|name| is(label, name))) {
            differences.push(judge.at_tuned_rates(label, vanilla));
            differences.push(judge.at_equal_distance(label, vanilla));
            differences.push(judge.at_equal_multiples(label, vanilla));
        }
    }
    if let Some(steered) = steered {
        let adam = labels.iter().find(|label| is(label, UNSTEERED));
        differences.extend(adam.map(|adam| judge.steers(steered, adam)));
        let others = labels.iter().filter(|label| *label != steered);
        losses.extend(others.map(|other| judge.ends_lower(steered, other)));
    }
    correlations.extend(judge.sweep());
    correlations.push(judge.goes_with_loss(None));
    correlations.extend(labels.iter().map(|label| judge.goes_with_loss(Some(label))));
    let signs: Vec<Finding> = labels.iter().filter_map(|label| judge.rms_is_nearer_to_sign(label)).collect();
    let seeds = counted(judge.seeds.len(), "seed");
    let metrics = |plain: bool| -> Vec<Column> {
        METRICS.iter().map(|metric| if plain { metric.plain_column() } else { metric.column() }).collect()
    };
    let column = |name: &str, unit| Column { name: name.to_owned(), scale: "", unit, factor: 1.0 };
    let groups = [
        Findings {
            title: "Does it explore more?",
            note: format!("Differences of exploration metrics: mean and 95% interval over {seeds}."),
            columns: metrics(false),
            findings: differences,
        },
        Findings {
            title: "What goes with exploration?",
            note: format!("Rank correlations, between −1 and 1: mean and 95% interval over {seeds}."),
            columns: metrics(true),
            findings: correlations,
        },
        Findings {
            title: "Does steering by exploration pay?",
            note: format!("Differences of final losses: mean and 95% interval over {seeds}."),
            columns: vec![column("training loss", ""), column("test loss", "")],
            findings: losses,
        },
        Findings {
            title: "Is RMS normalization a sign?",
            note: format!(
                "Cosine with the sign of the full gradient, normalized minus plain minibatch gradient, mean over the \
                 run: mean and 95% interval over {seeds}."
            ),
            columns: judge.layers().iter().map(|layer| column(&format!("layer {layer}"), "")).collect(),
            findings: signs,
        },
    ];
    groups.into_iter().filter(|group| !group.findings.is_empty()).collect()
}

/// The claims that the study can speak to.
pub fn evaluate(study: &Exploration) -> Vec<Claim> {
    findings(study).into_iter().flat_map(|group| group.findings).map(|finding| finding.claim).collect()
}

/// The optimizers of the study, in the order of its rows.
pub fn labels(study: &Exploration) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for row in &study.rows {
        if !labels.contains(&row.optimizer) {
            labels.push(row.optimizer.clone());
        }
    }
    labels
}

/// Whether a label (a name, with its rate behind a hyphen where the name is not unique) is of optimizer `name`.
fn is(label: &str, name: &str) -> bool {
    label.split_once('-').map_or(label, |(first, _)| first) == name
}

fn at_factor<'a>(rows: &[&'a ExploreRow], factor: f64) -> Option<&'a ExploreRow> {
    rows.iter().copied().find(|row| row.factor == Some(factor))
}

/// The rule of all verdicts, with the reason where it leaves the claim undecided; `names` are those of the intervals,
/// which are over `count` values of `what`.
pub(in crate::study) fn verdict(
    intervals: &[Option<Interval>],
    names: &[String],
    claimed: Side,
    count: usize,
    what: &str,
) -> (Verdict, Option<String>) {
    let undecided = |reason: String| (Verdict::Undecided, Some(reason));
    if count < LEAST_SEEDS {
        let give = if count == 1 { "gives" } else { "give" };
        return undecided(format!("{} {give} no useful interval; use at least {LEAST_SEEDS}", counted(count, what)));
    }
    let missing: Vec<&str> =
        intervals.iter().zip(names).filter(|(interval, _)| interval.is_none()).map(|(_, name)| name.as_str()).collect();
    if missing.len() == intervals.len() {
        return undecided(format!("not measured from every {what}"));
    }
    if !missing.is_empty() {
        return undecided(format!("not measured from every {what}: {}", missing.join(", ")));
    }
    let lie = |side: Side| intervals.iter().flatten().filter(|i| side.has(i) == Holds::Always).count();
    match (lie(claimed), lie(claimed.opposite())) {
        (claimed, _) if claimed == intervals.len() => (Verdict::Supported, None),
        (0, 1..) => (Verdict::NotSupported, None),
        (0, 0) if intervals.len() == 1 => undecided("the interval contains zero".to_owned()),
        (0, 0) => undecided("all intervals contain zero".to_owned()),
        (claimed, 0) => {
            undecided(format!("{} of {} intervals contain zero", intervals.len() - claimed, intervals.len()))
        }
        (claimed, opposite) => undecided(format!(
            "{claimed} of {} intervals lie on the claimed side, {opposite} on the other",
            intervals.len()
        )),
    }
}

/// What a claim is called, and what its numbers are.
struct Wording {
    id: String,
    text: String,
    subject: String,
    lead: String,
    source: &'static str,
}

const HYPOTHESIS: &str = "section 4, hypothesis 1";

/// What the claims are judged from.
struct Judge<'a> {
    study: &'a Exploration,
    seeds: Vec<u64>,
}

impl<'a> Judge<'a> {
    fn new(study: &'a Exploration) -> Self {
        let seeds = study.rows.iter().map(|row| row.seed).collect::<BTreeSet<_>>().into_iter().collect();
        Judge { study, seeds }
    }

    /// The runs of an optimizer over its rates from one seed that did not diverge.
    fn rates(&self, label: &str, seed: u64) -> Vec<&'a ExploreRow> {
        let rows = self.study.rows.iter().filter(|row| row.group == Group::Rate && row.status == TrialStatus::Complete);
        rows.filter(|row| row.optimizer == label && row.seed == seed).collect()
    }

    /// The layers of `signs.csv`.
    fn layers(&self) -> Vec<usize> {
        self.study.signs.iter().map(|row| row.layer).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The interval over seeds of what `value` gives for a seed.
    ///
    /// Every seed must have a value: a seed that is left out, as its run diverged, would bias the mean.
    fn over_seeds(&self, value: impl Fn(u64) -> Option<f64>) -> Option<Interval> {
        let values: Option<Vec<f64>> = self.seeds.iter().map(|seed| value(*seed)).collect();
        Interval::of(&values?)
    }

    /// [`Judge::over_seeds`] for each metric.
    fn metrics(&self, value: impl Fn(&Metric, u64) -> Option<f64>) -> Vec<Option<Interval>> {
        METRICS.iter().map(|metric| self.over_seeds(|seed| value(metric, seed))).collect()
    }

    /// [`Judge::metrics`] of rank correlations, which lie between -1 and 1.
    fn correlations(&self, value: impl Fn(&Metric, u64) -> Option<f64>) -> Vec<Option<Interval>> {
        self.metrics(value).into_iter().map(|interval| interval.map(|interval| interval.within(-1.0, 1.0))).collect()
    }

    fn conclude(&self, wording: Wording, claimed: Side, names: &[String], cells: Vec<Option<Interval>>) -> Finding {
        let Wording { id, text, subject, lead, source } = wording;
        let (verdict, reason) = verdict(&cells, names, claimed, self.seeds.len(), "seed");
        let known = names.iter().zip(&cells).filter_map(|(name, cell)| Some(format!("{name} {}", cell.as_ref()?)));
        let known: Vec<String> = known.collect();
        let numbers = if known.is_empty() { String::new() } else { format!(": {}", known.join(", ")) };
        let because = reason.as_ref().map_or_else(String::new, |reason| format!(" Undecided: {reason}."));
        let measured = format!(
            "{lead} (mean and 95% interval over {}; claimed: {}){numbers}.{because}",
            counted(self.seeds.len(), "seed"),
            claimed.words(),
        );
        Finding {
            claim: Claim { id, text, measured, verdict, source: source.into() },
            subject,
            lead,
            reason,
            claimed,
            cells,
        }
    }

    /// [`Judge::conclude`] for an interval per metric. Where novelty is missing since a run has one step only, that is
    /// the reason.
    fn by_metric(&self, wording: Wording, claimed: Side, cells: Vec<Option<Interval>>) -> Finding {
        let names: Vec<String> = METRICS.iter().map(Metric::full_name).collect();
        let mut finding = self.conclude(wording, claimed, &names, cells);
        let one_step = |row: &ExploreRow| row.first_novelty_coarse.is_some() && row.later_novelty_coarse.is_none();
        let enough = self.seeds.len() >= LEAST_SEEDS;
        if enough && finding.cells[0].is_none() && finding.cells[4].is_some() && self.study.rows.iter().any(one_step) {
            let reason = " The runs have one epoch, so that no novelty by epochs is left besides the first step.";
            finding.claim.measured += reason;
            finding.reason.iter_mut().for_each(|text| *text += &format!(".{}", reason.trim_end_matches('.')));
        }
        finding
    }

    /// What `of` gives for `label` minus what it gives for `other`, each at its tuned rate from the same seed.
    fn difference(&self, label: &str, other: &str, seed: u64, of: fn(&ExploreRow) -> Option<f64>) -> Option<f64> {
        let value = |label: &str| at_factor(&self.rates(label, seed), 1.0).and_then(of);
        Some(value(label)? - value(other)?)
    }

    /// How far the first step of an optimizer at its tuned rate led, as a share of all bits, mean over seeds.
    fn first_step(&self, label: &str) -> Option<f64> {
        let first = |seed: &u64| at_factor(&self.rates(label, *seed), 1.0).and_then(FINE_FIRST);
        mean(self.seeds.iter().filter_map(first))
    }

    /// (a) Each at its own tuned rate.
    fn at_tuned_rates(&self, label: &str, vanilla: &str) -> Finding {
        let cells = self.metrics(|metric, seed| self.difference(label, vanilla, seed, metric.of));
        let name = display_name(label);
        let mut lead = format!("{name} minus SGD, novelty after the first step");
        if let (Some(mine), Some(theirs)) = (self.first_step(label), self.first_step(vanilla)) {
            let (mine, theirs) = (percent(mine), percent(theirs));
            lead += &format!(", in which {name} left its initialization by {mine} of the bits and SGD by {theirs}");
        }
        let wording = Wording {
            id: format!("explores-more-{label}"),
            text: format!("At tuned learning rates, {name} explores more than SGD."),
            subject: format!("{name} − SGD, tuned rates"),
            lead,
            source: HYPOTHESIS,
        };
        self.by_metric(wording, Side::Above, cells)
    }

    /// (b) At equal distance travelled: SGD's metrics are interpolated between its own rates.
    fn at_equal_distance(&self, label: &str, vanilla: &str) -> Finding {
        let matched = std::cell::Cell::new(0);
        let cells = self.metrics(|metric, seed| {
            let curve: Vec<(f64, f64)> = self
                .rates(vanilla, seed)
                .into_iter()
                .filter_map(|row| Some((row.distance.filter(|d| *d > 0.0)?.ln(), (metric.of)(row)?)))
                .collect();
            let differences: Vec<f64> = self
                .rates(label, seed)
                .into_iter()
                .filter_map(|row| {
                    Some((metric.of)(row)? - interpolate(&curve, row.distance.filter(|d| *d > 0.0)?.ln())?)
                })
                .collect();
            matched.set(matched.get().max(differences.len()));
            mean(differences)
        });
        let name = display_name(label);
        let wording = Wording {
            id: format!("explores-more-at-equal-distance-{label}"),
            text: format!("At equal distance travelled, {name} explores more than SGD."),
            subject: format!("{name} − SGD, equal distance"),
            lead: format!(
                "{name} minus SGD at the same ‖W − W¹‖, over up to {} a seed whose distance lies between those of \
                 SGD's runs of that seed, interpolated in the logarithm of the distance",
                counted(matched.get(), "run")
            ),
            source: HYPOTHESIS,
        };
        self.by_metric(wording, Side::Above, cells)
    }

    /// (b) At equal multiples of the tuned rates; absolute rates of the two have no common scale.
    fn at_equal_multiples(&self, label: &str, vanilla: &str) -> Finding {
        let cells = self.metrics(|metric, seed| {
            let (mine, theirs) = (self.rates(label, seed), self.rates(vanilla, seed));
            let difference = |factor: f64| {
                let of = |rows: &[&ExploreRow]| at_factor(rows, factor).and_then(metric.of);
                Some(of(&mine)? - of(&theirs)?)
            };
            mean(mine.iter().filter_map(|row| difference(row.factor?)))
        });
        let name = display_name(label);
        let wording = Wording {
            id: format!("explores-more-at-equal-multiples-{label}"),
            text: format!("At equal multiples of the tuned learning rates, {name} explores more than SGD."),
            subject: format!("{name} − SGD, equal multiples"),
            lead: format!("{name} minus SGD, mean over the multiples at which both converge"),
            source: HYPOTHESIS,
        };
        self.by_metric(wording, Side::Above, cells)
    }

    /// (c) From Adam to momentum.
    fn sweep(&self) -> Option<Finding> {
        let rows = |seed: u64| {
            let rows = self.study.rows.iter().filter(move |row| row.group == Group::Epsilon && row.seed == seed);
            rows.filter(|row| row.status == TrialStatus::Complete)
        };
        self.seeds.iter().any(|seed| rows(*seed).next().is_some()).then(|| {
            let cells = self.correlations(|metric, seed| {
                let pairs: Vec<(f64, f64)> =
                    rows(seed).filter_map(|row| Some((row.epsilon?, (metric.of)(row)?))).collect();
                rank_correlation(&pairs)
            });
            let wording = Wording {
                id: "less-exploration-towards-momentum".into(),
                text: "Carrying Adam to momentum by raising epsilon, a step at a time, lowers exploration.".into(),
                subject: "epsilon, Adam to momentum".into(),
                lead: "Rank correlation of epsilon with the metric".into(),
                source: HYPOTHESIS,
            };
            self.by_metric(wording, Side::Below, cells)
        })
    }

    /// What steering by switching does to exploration.
    fn steers(&self, steered: &str, adam: &str) -> Finding {
        let (name, other) = (display_name(steered), display_name(adam));
        let wording = Wording {
            id: format!("steering-explores-more-than-{adam}"),
            text: format!(
                "At tuned learning rates, steering {other} by what it explores ({name}) makes it explore more."
            ),
            subject: format!("{name} − {other}, tuned rates"),
            lead: format!("{name} minus {other}, novelty after the first step"),
            source: HYPOTHESIS,
        };
        let cells = self.metrics(|metric, seed| self.difference(steered, adam, seed, metric.of));
        self.by_metric(wording, Side::Above, cells)
    }

    /// The open question: does an optimizer that uses exploration end better, at the same effort of tuning?
    fn ends_lower(&self, steered: &str, other: &str) -> Finding {
        let over =
            |of: fn(&ExploreRow) -> Option<f64>| self.over_seeds(|seed| self.difference(steered, other, seed, of));
        let cells = vec![over(|row| row.train_loss), over(|row| row.test_loss)];
        let (name, them) = (display_name(steered), display_name(other));
        let wording = Wording {
            id: format!("steering-ends-lower-than-{other}"),
            text: format!("At tuned learning rates, {name} ends with lower losses than {them}."),
            subject: format!("{name} − {them}"),
            lead: format!("Final loss of {name} minus that of {them}"),
            source: "the closing question",
        };
        self.conclude(wording, Side::Below, &["training".to_owned(), "test".to_owned()], cells)
    }

    /// (d) Across the runs over rates of each seed, or of one optimizer alone.
    fn goes_with_loss(&self, label: Option<&str>) -> Finding {
        let all = labels(self.study);
        let cells = self.correlations(|metric, seed| {
            let chosen = all.iter().filter(|other| label.is_none_or(|label| label == *other));
            let pairs: Vec<(f64, f64)> = chosen
                .flat_map(|label| self.rates(label, seed))
                .filter_map(|row| Some(((metric.of)(row)?, -row.train_loss?)))
                .collect();
            rank_correlation(&pairs)
        });
        let name = label.map(display_name);
        let wording = Wording {
            id: label
                .map_or("exploration-goes-with-loss".into(), |label| format!("exploration-goes-with-loss-{label}")),
            text: format!(
                "{}, more exploration goes with a lower final training loss.",
                name.as_ref()
                    .map_or("Across all optimizers and learning rates".into(), |name| format!("Within {name}"))
            ),
            subject: name.map_or("lower loss, all optimizers".into(), |name| format!("lower loss, within {name}")),
            lead: "Rank correlation of the metric with minus the final training loss".into(),
            source: HYPOTHESIS,
        };
        self.by_metric(wording, Side::Above, cells)
    }

    /// The minibatch form of RProp against the plain gradient, layer by layer.
    fn rms_is_nearer_to_sign(&self, label: &str) -> Option<Finding> {
        let mine = || self.study.signs.iter().filter(|row| row.optimizer == label);
        mine().next()?;
        let layers = self.layers();
        let value = |row: &SignRow| row.cosine_rms - row.cosine_gradient;
        let over = |layer: &usize| {
            self.over_seeds(|seed| mean(mine().filter(|row| row.layer == *layer && row.seed == seed).map(value)))
        };
        let cells = layers.iter().map(over).collect();
        let names: Vec<String> = layers.iter().map(|layer| format!("layer {layer}")).collect();
        let agreement = mean(mine().map(|row| row.sign_agreement)).unwrap_or(f64::NAN);
        let name = display_name(label);
        let wording = Wording {
            id: format!("rms-as-sign-{label}"),
            text: format!(
                "Along {name}, the RMS-normalized minibatch gradient is nearer to the sign of the full gradient than \
                 the plain one."
            ),
            subject: format!("along {name}"),
            lead: format!(
                "Both have the signs of the minibatch's gradient, which agree with the full gradient's on {:.0}% of \
                 the weights. Cosine with the sign of the full gradient, normalized minus plain, mean over the run",
                100.0 * agreement
            ),
            source: "section 4, RMS normalization",
        };
        Some(self.conclude(wording, Side::Above, &names, cells))
    }
}

/// The value at `x` of the line through the points around it; `None` beyond them.
fn interpolate(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    sorted.windows(2).find(|pair| (pair[0].0..=pair[1].0).contains(&x)).map(|pair| {
        let (from, to) = (pair[0], pair[1]);
        let share = if to.0 > from.0 { (x - from.0) / (to.0 - from.0) } else { 0.5 };
        from.1 + share * (to.1 - from.1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run whose metrics are all `metric`.
    fn run(optimizer: &str, factor: f64, seed: u64, distance: f64, loss: f64, metric: f64) -> ExploreRow {
        ExploreRow {
            group: Group::Rate,
            optimizer: optimizer.into(),
            factor: Some(factor),
            epsilon: None,
            learning_rate: factor,
            seed,
            rounds: 10,
            status: TrialStatus::Complete,
            train_loss: Some(loss),
            test_loss: Some(loss),
            distance: Some(distance),
            mean_loss: Some(loss),
            taylor_optimum: None,
            mean_regret: None,
            novelty_coarse: Some(metric),
            switches_coarse: Some(metric),
            log_volume_coarse: Some(metric),
            log_det_coarse: Some(metric),
            novelty_fine: Some(metric),
            switches_fine: Some(metric),
            log_volume_fine: Some(metric),
            log_det_fine: Some(metric),
            taylor_gap: None,
            first_novelty_coarse: Some(0.5),
            later_novelty_coarse: Some(metric),
            first_novelty_fine: Some(0.5),
            later_novelty_fine: Some(metric),
        }
    }

    /// SGD's metrics are the logarithm of its distance; the other optimizer goes twice as far, with `more` on top.
    fn study(more: f64) -> Exploration {
        let mut rows = Vec::new();
        for seed in 0..4 {
            let noise = 0.01 * seed as f64;
            for factor in super::super::FACTORS {
                rows.push(run("sgd", factor, seed, factor, 2.0 - factor / 2.0, factor.ln() + noise));
                rows.push(run("rmsprop", factor, seed, 2.0 * factor, 1.0, (2.0 * factor).ln() + more + 2.0 * noise));
            }
        }
        Exploration { rows, signs: Vec::new(), complete: true }
    }

    fn verdict_of(study: &Exploration, id: &str) -> Verdict {
        evaluate(study).into_iter().find(|claim| claim.id == id).unwrap_or_else(|| panic!("{id}")).verdict
    }

    #[test]
    fn matching_by_distance_tells_exploration_from_travelling_further() {
        // It explores more only because it goes further: nothing is left at equal distance.
        let far = study(0.0);
        assert_eq!(verdict_of(&far, "explores-more-rmsprop"), Verdict::Supported);
        assert_eq!(verdict_of(&far, "explores-more-at-equal-distance-rmsprop"), Verdict::Undecided);
        // Less at equal distance, in spite of more at the tuned rate.
        let less = study(-0.3);
        assert_eq!(verdict_of(&less, "explores-more-rmsprop"), Verdict::Supported);
        assert_eq!(verdict_of(&less, "explores-more-at-equal-distance-rmsprop"), Verdict::NotSupported);
        // More at any distance.
        assert_eq!(verdict_of(&study(0.3), "explores-more-at-equal-distance-rmsprop"), Verdict::Supported);
    }

    #[test]
    fn losses_are_ranked_within_seeds() {
        let study = study(0.0);
        assert_eq!(verdict_of(&study, "exploration-goes-with-loss-sgd"), Verdict::Supported);
        assert_eq!(
            verdict_of(&study, "exploration-goes-with-loss-rmsprop"),
            Verdict::Undecided,
            "its loss is constant"
        );
    }

    #[test]
    fn a_seed_without_a_run_leaves_the_claim_undecided() {
        let mut study = study(1.0);
        let row = study.rows.iter_mut().find(|row| row.optimizer == "sgd" && row.factor == Some(1.0)).unwrap();
        row.status = TrialStatus::Diverged;
        assert_eq!(verdict_of(&study, "explores-more-rmsprop"), Verdict::Undecided);
    }

    #[test]
    fn verdicts_follow_the_rule() {
        let around = |mean: f64| Interval::of(&[mean - 0.1, mean, mean + 0.1]);
        let of = |intervals: &[Option<Interval>], side: Side| {
            let names: Vec<String> = (0..intervals.len()).map(|i| format!("m{i}")).collect();
            verdict(intervals, &names, side, 3, "seed")
        };
        let undecided = |reason: &str| (Verdict::Undecided, Some(reason.to_owned()));
        assert_eq!(of(&[around(1.0), around(2.0)], Side::Above), (Verdict::Supported, None));
        assert_eq!(of(&[around(1.0), around(0.0)], Side::Above), undecided("1 of 2 intervals contain zero"));
        assert_eq!(of(&[around(-1.0), around(0.0)], Side::Above), (Verdict::NotSupported, None));
        let both = "1 of 2 intervals lie on the claimed side, 1 on the other";
        assert_eq!(of(&[around(-1.0), around(1.0)], Side::Above), undecided(both));
        assert_eq!(of(&[around(-1.0)], Side::Below), (Verdict::Supported, None));
        assert_eq!(of(&[around(0.0)], Side::Below), undecided("the interval contains zero"));
        assert_eq!(of(&[around(1.0), None], Side::Above), undecided("not measured from every seed: m1"));
        assert_eq!(of(&[None, None], Side::Above), undecided("not measured from every seed"));
    }

    #[test]
    fn two_seeds_decide_nothing() {
        let mut study = study(1.0);
        assert_eq!(verdict_of(&study, "explores-more-rmsprop"), Verdict::Supported);
        study.rows.retain(|row| row.seed < 2);
        for claim in evaluate(&study) {
            assert_eq!(claim.verdict, Verdict::Undecided, "{claim:?}");
            assert_eq!(
                claim.measured.matches("2 seeds give no useful interval; use at least 3").count(),
                1,
                "{claim:?}"
            );
        }
    }

    #[test]
    fn what_is_missing_is_said_once() {
        let mut study = study(1.0);
        study.rows.iter_mut().filter(|row| row.seed == 3).for_each(|row| row.status = TrialStatus::Diverged);
        for claim in evaluate(&study) {
            assert_eq!(claim.measured.matches("not measured from every seed").count(), 1, "{claim:?}");
        }
    }

    #[test]
    fn one_step_is_no_novelty() {
        let mut study = study(1.0);
        study.rows.iter_mut().for_each(|row| row.later_novelty_coarse = None);
        let claims = evaluate(&study);
        let claim = claims.iter().find(|claim| claim.id == "explores-more-rmsprop").unwrap();
        assert_eq!(claim.verdict, Verdict::Undecided);
        assert!(claim.measured.contains("novelty by epochs. The runs have one epoch"), "{}", claim.measured);
        assert!(claim.measured.contains("left its initialization by 50% of the bits"), "{}", claim.measured);
    }

    #[test]
    fn interpolation_stays_between_its_points() {
        let points = [(2.0, 20.0), (0.0, 0.0), (1.0, 5.0)];
        assert_eq!(interpolate(&points, 0.5), Some(2.5));
        assert_eq!(interpolate(&points, 2.0), Some(20.0));
        assert_eq!((interpolate(&points, -0.1), interpolate(&points, 2.1)), (None, None));
    }
}
