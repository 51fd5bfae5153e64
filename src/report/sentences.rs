//! The summary of a run in sentences that compare, each as strong as the certificates allow.

use super::{
    certified::{Division, Order, at_least, at_most, order, percent_at_least, percent_at_most},
    figure::{Context, Series},
};
use crate::study::{
    numbers::{count, counted, number},
    results::{OptimizerTables, mean},
    tables::{OptimizerSummary, RunStatus, Scale},
};

/// Other optimizers that the first is compared with; of more, the next best and the last.
const COMPARED: usize = 3;

/// Who ended lowest, and whether that is better regions or less regret. Of a single optimizer: how its loss divides.
pub fn summary(context: &Context) -> Vec<String> {
    let complete: Vec<&Series> =
        context.series.iter().filter(|s| s.tables.summary.status == RunStatus::Complete).collect();
    let (mut ranked, loss) = final_losses(&complete);
    ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut sentences = Vec::new();
    match &ranked[..] {
        [] => {
            if !context.series.is_empty() {
                sentences.push("No optimizer is complete with a finite loss.".to_owned());
            }
        }
        [(series, value)] => sentences.push(format!("{} ended at a {loss} of {}.", series.name, number(*value))),
        _ => sentences.push(standing(&ranked, &loss)),
    }
    match &ranked[..] {
        [] => {}
        [(series, _)] => sentences.push(division(context, series)),
        [first, others @ ..] => sentences.extend(causes(context, first.0, others)),
    }
    let unfinished = context.series.iter().filter(|s| s.tables.summary.status != RunStatus::Complete);
    sentences.extend(unfinished.map(|series| {
        let summary = &series.tables.summary;
        let status = match summary.status {
            RunStatus::Failed => "stopped early",
            RunStatus::Interrupted => "was interrupted",
            RunStatus::Running => "is not complete",
            RunStatus::Complete => "is complete",
        };
        let why = summary.message.as_ref().filter(|message| !message.is_empty());
        let why = why.map_or(String::new(), |message| format!(": {message}"));
        format!("{} {status}{why}.", series.name)
    }));
    sentences
}

/// The loss by which optimizers are ranked, the same for all: of the training set, or of the last minibatches.
fn final_losses<'a>(series: &[&'a Series<'a>]) -> (Vec<(&'a Series<'a>, f64)>, String) {
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    let train = |series: &Series| finite(series.tables.summary.train_loss);
    let last = |series: &Series| finite(last_third(series.tables));
    let by_train = series.iter().all(|series| train(series).is_some());
    let value = |series: &Series| if by_train { train(series) } else { last(series) };
    let ranked = series.iter().filter_map(|series| Some((*series, value(series)?))).collect();
    (ranked, if by_train { "training loss" } else { "minibatch loss (mean of the last third)" }.to_owned())
}

/// The mean minibatch loss over the last third of the rounds.
pub fn last_third(tables: &OptimizerTables) -> Option<f64> {
    let rows = &tables.rounds;
    mean(rows[rows.len() - rows.len().div_ceil(3)..].iter().map(|row| row.loss)).or(tables.summary.last_loss)
}

/// `a`, `a and b`, `a, b and c`.
fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// Who ended lowest. Losses that agree to the digits shown are a tie.
fn standing(ranked: &[(&Series, f64)], loss: &str) -> String {
    let least = number(ranked[0].1);
    let tied = ranked.iter().take_while(|(_, value)| number(*value) == least).count();
    let with_loss = |(series, value): &(&Series, f64)| format!("{} ({})", series.name, number(*value));
    let names: Vec<String> = ranked[..tied].iter().map(|(series, _)| series.name.clone()).collect();
    let others: Vec<String> = ranked[tied..].iter().map(with_loss).collect();
    let lead = match tied {
        1 => format!("{} ended lowest ({loss} {least})", names[0]),
        _ => format!("{} ended equally low ({loss} {least} each)", listed(&names)),
    };
    if others.is_empty() { format!("{lead}.") } else { format!("{lead}, followed by {}.", listed(&others)) }
}

/// Rounds that the values of a scale speak of: how many, of how many, whether sampled.
fn covered(summary: &OptimizerSummary, scale: Scale) -> (usize, Option<usize>) {
    match scale {
        Scale::Neuron => (summary.rounds, summary.sampled_rounds),
        _ => (summary.window_rounds, summary.sampled_rounds),
    }
}

/// The first compared with the others: regions by their Taylor optima, and regret.
fn causes(context: &Context, first: &Series, others: &[(&Series, f64)]) -> Vec<String> {
    let others: Vec<&Series> = match others {
        [next, .., last] if others.len() > COMPARED => vec![next.0, last.0],
        _ => others.iter().map(|(series, _)| *series).collect(),
    };
    let tables: Vec<&OptimizerTables> =
        std::iter::once(first).chain(others.iter().copied()).map(|s| s.tables).collect();
    let Some(divisions) = Division::shared(&tables, context.comparator) else {
        return vec!["Whether that is better regions or less regret was not measured.".to_owned()];
    };
    let (mine, theirs) = divisions.split_first().expect("one division an optimizer");
    let rounds = |series: &Series| covered(&series.tables.summary, mine.scale);
    let mut sentences = Vec::new();
    for (other, their) in others.iter().zip(theirs) {
        if rounds(first) != rounds(other) {
            sentences.push(format!(
                "{} and {} were analysed over different rounds, so their regions and regrets are not compared.",
                first.name, other.name
            ));
            continue;
        }
        let (optimum, regret) = (order(mine.optimum, their.optimum), order(mine.regret, their.regret));
        let text = match (optimum, regret) {
            (Order::Open, Order::Open) => {
                "neither Taylor optimum nor regret can be ranked: the certificates overlap".to_owned()
            }
            _ => {
                let regions = match optimum {
                    Order::Lower(by) => {
                        format!("visited better regions (Taylor optimum lower by at least {})", at_least(by))
                    }
                    Order::Higher(by) => {
                        format!("visited worse regions (Taylor optimum higher by at least {})", at_least(by))
                    }
                    Order::Open => "the regions cannot be ranked (certificates overlap)".to_owned(),
                };
                let steps = match regret {
                    Order::Lower(by) => format!("had less regret (by at least {})", at_least(by)),
                    Order::Higher(by) => format!("had more regret (by at least {})", at_least(by)),
                    Order::Open => "the regrets cannot be ranked (certificates overlap)".to_owned(),
                };
                let agree = matches!(
                    (optimum, regret),
                    (Order::Lower(_), Order::Lower(_)) | (Order::Higher(_), Order::Higher(_))
                );
                let name = &first.name;
                match (optimum, regret) {
                    (Order::Open, _) => format!("{regions}, but {name} {steps}"),
                    (_, Order::Open) => format!("{name} {regions}; {steps}"),
                    _ if agree => format!("{name} {regions} and {steps}"),
                    _ => format!("{name} {regions} but {steps}"),
                }
            }
        };
        // Who ended lowest may have paid more on the way there.
        let paid = if mine.mean_loss > their.mean_loss {
            format!(
                "; its mean loss over all analysed rounds was higher ({} against {})",
                number(mine.mean_loss),
                number(their.mean_loss)
            )
        } else {
            String::new()
        };
        sentences.push(format!("Compared with {}, {text}{paid}.", other.name));
    }
    let plural = match mine.scale {
        Scale::Network => None,
        scale => Some(format!("These values are means over {scale}s.")),
    };
    sentences.extend(plural);
    if divisions.iter().any(|division| division.far) {
        sentences.push("Some comparators lie far beyond where training went (marked far below).".to_owned());
    }
    sentences
}

/// How the loss of one optimizer divides.
fn division(context: &Context, series: &Series) -> String {
    let Some(division) = Division::of(series.tables, context.comparator) else {
        return "How much of its loss is regret was not measured (no rows in units.csv).".to_owned();
    };
    let (rounds, sampled) = covered(&series.tables.summary, division.scale);
    let over = match sampled {
        Some(sampled) => format!("{} of {}", count(sampled as u64), counted(rounds, "round")),
        None => counted(rounds, "round"),
    };
    let place = match division.scale {
        Scale::Network => String::new(),
        scale => format!(" (means over {} {scale}s)", division.units),
    };
    let (mean_loss, regret) = (division.mean_loss, division.regret);
    let of = format!("Of its mean loss of {} over {over}{place}", number(mean_loss));
    if regret.high <= 0.0 {
        format!(
            "{of}, none is regret: moving weights beat every fixed comparator by at least {} per round.",
            at_least(-regret.high)
        )
    } else if regret.low < 0.0 {
        format!(
            "{of}, at most {} ({}) is regret; whether regret is positive cannot be decided (it is at least {}).",
            at_most(regret.high),
            percent_at_most(regret.high / mean_loss),
            at_least(regret.low)
        )
    } else {
        format!(
            "{of}, at least {} ({}) and at most {} ({}) is regret; the rest is the Taylor optimum, which only other \
             regions would lower.",
            at_least(regret.low),
            percent_at_least(regret.low / mean_loss),
            at_most(regret.high),
            percent_at_most(regret.high / mean_loss)
        )
    }
}
