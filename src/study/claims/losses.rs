//! Who ends with which loss, and why: regions (Taylor optimum) or optimization inside them (regret).

use super::{
    Claim, Compared, NOT_SEARCHED, Pair, Task, Thresholds, Verdict, because, best, between, conditions, in_one_run,
    with_rate,
};
use crate::study::{
    enclosure::{Certified, Enclosure, Holds},
    numbers::{count, number, percent, setting},
    results::{OptimizerTables, RunTables, Split, mean},
};

/// Rounds at the end over which losses are averaged and their spread is measured.
const LAST_ROUNDS: usize = 100;

/// The mean minibatch loss at the end, if it is finite.
pub fn last(tables: &OptimizerTables) -> Option<f64> {
    tables.summary.last_loss.filter(|loss| loss.is_finite())
}

/// Whether SGD at its best rate ends with a clearly larger loss. Of a run at rates that nobody searched for this says
/// nothing.
pub fn ends_worse(pair: &Pair, t: &Thresholds) -> Claim {
    let Pair { run, sgd, other } = pair;
    let (name, conditions) = (pair.name(), pair.conditions());
    let (measured, verdict) = match (last(sgd), last(other)) {
        (Some(worse), Some(better)) => {
            let ratio = worse / better;
            let (verdict, reason) = match between(Enclosure::exact(ratio), t.clearly_worse, t.not_worse, true) {
                _ if !run.summary.searched_rates => (Verdict::Undecided, Some(NOT_SEARCHED)),
                found => found,
            };
            let measured = format!(
                "Mean minibatch loss of the last {LAST_ROUNDS} rounds: {} {}, {} {}; ratio {}. Seen if the ratio \
                 exceeds {}, not seen if it is at most {}, undecided in between.{} Conditions: {conditions}.",
                with_rate(sgd),
                number(worse),
                with_rate(other),
                number(better),
                number(ratio),
                setting(t.clearly_worse),
                setting(t.not_worse),
                because(reason),
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
pub fn mainly_the_region(pair: &Pair, t: &Thresholds) -> Claim {
    let name = pair.name();
    let headline = pair.run.headline();
    let (measured, verdict) = match comparable(pair) {
        Err(reason) => (format!("Undecided: {reason}."), Verdict::Undecided),
        Ok((a, b)) => {
            let loss = a.mean_loss - b.mean_loss;
            let optimum = a.optimum() - b.optimum();
            let share = optimum / Enclosure::exact(loss);
            let same = loss.abs() <= (t.clearly_worse - 1.0) * b.mean_loss.abs();
            let (verdict, reason) = if same || !loss.is_finite() {
                (Verdict::Undecided, Some("the losses hardly differ"))
            } else {
                between(share, t.mainly, 1.0 - t.mainly, false)
            };
            let measured = format!(
                "At {} scale ({headline} comparator), SGD minus {name}: mean loss {}, Taylor optimum {optimum}, \
                 regret {}. The optimum's share of the difference is {}. Seen if at least {}, not seen if at most \
                 {}, undecided in between and where the losses differ by less than {}.{} Conditions: {}.",
                a.scale,
                number(loss),
                Enclosure::exact(loss) - optimum,
                shares(share),
                percent(t.mainly),
                percent(1.0 - t.mainly),
                percent(t.clearly_worse - 1.0),
                because(reason),
                pair.conditions(),
            );
            (measured, verdict)
        }
    };
    Claim {
        id: format!("region-explains-{}", pair.other.summary.name),
        text: format!(
            "The difference in loss between SGD and {name} is mainly one between the regions they find (Taylor optimum), \
             not between how well they optimize inside them (regret)."
        ),
        measured,
        verdict,
        source: "sections 3.2 and 4".into(),
    }
}

/// Both splits, of the same units over the same rounds; otherwise the reason why there are none.
fn comparable(pair: &Pair) -> Result<(Split, Split), String> {
    let headline = pair.run.headline();
    let splits = pair.sgd.split(headline).zip(pair.other.split(headline)).filter(|(a, b)| a.scale == b.scale);
    let (a, b) = splits.ok_or("the Taylor optimum of both was not measured at one scale")?;
    let unmeasured = a.unmeasured + b.unmeasured;
    if unmeasured > 0 {
        return Err(format!("at {} scale {unmeasured} Taylor optima are not numbers", a.scale));
    }
    let rounds = [pair.sgd, pair.other].map(|tables| {
        let units = tables.units_at(a.scale, headline);
        let rows = tables.regret.iter().filter(|row| (row.scale, row.comparator) == (a.scale, headline));
        (units.count(), rows.map(|row| row.rounds).max())
    });
    match rounds {
        [(_, Some(mine)), (_, Some(theirs))] if mine != theirs => {
            Err(format!("the optima are of {} and of {} rounds", count(mine as u64), count(theirs as u64)))
        }
        [(mine, _), (theirs, _)] if mine != theirs => Err("other units were measured of each".to_owned()),
        _ => Ok((a, b)),
    }
}

/// `86%`, or `62% to 110%`.
fn shares(share: Enclosure) -> String {
    let (low, high) = (percent(share.low), percent(share.high));
    if low == high { low } else { format!("{low} to {high}") }
}

/// The standard deviation of the last minibatch losses.
fn spread(tables: &OptimizerTables) -> Option<f64> {
    let rounds = &tables.rounds[tables.rounds.len().saturating_sub(LAST_ROUNDS)..];
    let middle = mean(rounds.iter().map(|row| row.loss))?;
    mean(rounds.iter().map(|row| (row.loss - middle).powi(2))).map(f64::sqrt).filter(|spread| spread.is_finite())
}

/// Whether the minibatch losses of SGD scatter more than another optimizer's.
pub fn varies_more(pair: &Pair, t: &Thresholds) -> Claim {
    let (name, conditions) = (pair.name(), pair.conditions());
    let (measured, verdict) = match (spread(pair.sgd), spread(pair.other)) {
        (Some(large), Some(small)) if small > 0.0 => {
            let ratio = large / small;
            let (verdict, reason) = between(Enclosure::exact(ratio), t.clearly_worse, t.not_worse, true);
            let measured = format!(
                "Standard deviation of the last {LAST_ROUNDS} minibatch losses: {} {}, {} {}; ratio {}. Seen if the \
                 ratio exceeds {}, not seen if it is at most {}, undecided in between.{} Conditions: {conditions}.",
                with_rate(pair.sgd),
                number(large),
                with_rate(pair.other),
                number(small),
                number(ratio),
                setting(t.clearly_worse),
                setting(t.not_worse),
                because(reason),
            );
            (measured, verdict)
        }
        _ => (format!("The last losses of one of them are not finite. Conditions: {conditions}."), Verdict::Undecided),
    };
    Claim {
        id: format!("sgd-varies-more-than-{}", pair.other.summary.name),
        text: format!("On the convolutional network the loss of SGD varies somewhat more than that of {name}."),
        measured,
        verdict,
        source: "section 3.2, figure 4".into(),
    }
}

/// Whether all optimizers of the paper fit the training data.
pub fn all_accurate(run: &RunTables, t: &Thresholds) -> Option<Claim> {
    if Task::of(&run.summary) != Task::ConvolutionalClassifier {
        return None;
    }
    let compared: Vec<&OptimizerTables> =
        Compared::ALL.into_iter().filter_map(|optimizer| best(run, optimizer)).collect();
    let accuracies: Vec<(&OptimizerTables, Option<f64>)> =
        compared.iter().map(|tables| (*tables, tables.summary.train_accuracy)).collect();
    if compared.is_empty() || accuracies.iter().all(|(_, accuracy)| accuracy.is_none()) {
        return None;
    }
    let unknown = accuracies.iter().any(|(_, accuracy)| accuracy.is_none());
    let below = accuracies.iter().any(|(_, accuracy)| accuracy.is_some_and(|accuracy| accuracy < t.accuracy));
    // One that falls short is enough, whatever those reach that were not measured.
    let rule = match (below, unknown) {
        (true, _) => Holds::Never,
        (false, true) => Holds::Sometimes,
        (false, false) => Holds::Always,
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
        verdict: in_one_run(rule),
        source: "section 3.2, figure 4".into(),
    })
}
