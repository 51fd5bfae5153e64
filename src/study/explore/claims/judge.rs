//! The claims one by one, each with the intervals that it rests on.

use super::{
    findings::Finding,
    verdict::{LEAST_SEEDS, Side, verdict},
};
use crate::study::{
    claims::Claim,
    explore::{
        metrics::{FINE_FIRST, METRICS, Metric},
        rows::{Exploration, ExploreRow, Group},
        signs::SignRow,
    },
    numbers::{counted, display_name, percent},
    statistics::{Interval, mean, rank_correlation},
    tables::TrialStatus,
};
use std::collections::BTreeSet;

fn at_factor<'a>(rows: &[&'a ExploreRow], factor: f64) -> Option<&'a ExploreRow> {
    rows.iter().copied().find(|row| row.factor == Some(factor))
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
pub(super) struct Judge<'a> {
    study: &'a Exploration,
    pub seeds: Vec<u64>,
}

impl<'a> Judge<'a> {
    pub fn new(study: &'a Exploration) -> Self {
        let seeds = study.rows.iter().map(|row| row.seed).collect::<BTreeSet<_>>().into_iter().collect();
        Judge { study, seeds }
    }

    /// The runs of an optimizer over its rates from one seed that did not diverge.
    fn rates(&self, label: &str, seed: u64) -> Vec<&'a ExploreRow> {
        let rows = self.study.rows.iter().filter(|row| row.group == Group::Rate && row.status == TrialStatus::Complete);
        rows.filter(|row| row.optimizer == label && row.seed == seed).collect()
    }

    /// The layers of `signs.csv`.
    pub fn layers(&self) -> Vec<usize> {
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
    pub fn at_tuned_rates(&self, label: &str, vanilla: &str) -> Finding {
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
    pub fn at_equal_distance(&self, label: &str, vanilla: &str) -> Finding {
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
    pub fn at_equal_multiples(&self, label: &str, vanilla: &str) -> Finding {
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
    pub fn sweep(&self) -> Option<Finding> {
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
    pub fn steers(&self, steered: &str, adam: &str) -> Finding {
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
    pub fn ends_lower(&self, steered: &str, other: &str) -> Finding {
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
    pub fn goes_with_loss(&self, label: Option<&str>) -> Finding {
        let all = self.study.labels();
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
    pub fn rms_is_nearer_to_sign(&self, label: &str) -> Option<Finding> {
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
pub(super) fn interpolate(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    sorted.windows(2).find(|pair| (pair[0].0..=pair[1].0).contains(&x)).map(|pair| {
        let (from, to) = (pair[0], pair[1]);
        let share = if to.0 > from.0 { (x - from.0) / (to.0 - from.0) } else { 0.5 };
        from.1 + share * (to.1 - from.1)
    })
}
