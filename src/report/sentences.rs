//! The findings in plain sentences, for a reader without theory.

use super::figure::{Series, exploration::novelty_in_words};
use crate::study::{
    numbers::{count, counted, number, percent},
    results::{Split, median},
    tables::{Comparator, Scale},
};

/// Three sentences on one optimizer: its regret, the regions it found, how widely it explored.
pub fn findings(series: &Series, comparator: Comparator) -> [String; 3] {
    let [regret, region] = match series.tables.split(comparator) {
        Some(split) => [regret(series, &split), region(series, &split)],
        None => [
            format!("How much of {}'s loss is regret was not measured (no rows in units.csv).", series.name),
            "So how much is the region's (the Taylor optimum) is not known either.".into(),
        ],
    };
    [regret, region, exploration(series)]
}

fn where_measured(split: &Split) -> String {
    match split.scale {
        Scale::Network => String::new(),
        scale => format!(" (mean over {} {scale}s)", split.units),
    }
}

fn regret(series: &Series, split: &Split) -> String {
    let name = &series.name;
    let mut over = counted(analysed_rounds(series, split), "round");
    if let Some(sampled) = series.tables.summary.sampled_rounds {
        over += &format!(" (estimated from {sampled}, evenly spaced)");
    }
    let place = where_measured(split);
    let loss = number(split.mean_loss);
    if split.regret < 0.0 && split.regret + split.gap > 0.0 {
        format!(
            "Regret: {name} paid {loss} per round on average over {over}{place}; whether fixed weights would have paid \
             less in the same regions is open: the best that were found pay {}, and the certified error of the solver \
             is {} (a larger `regret.max_products` lowers it).",
            number(split.taylor_optimum),
            number(split.gap)
        )
    } else if split.regret < 0.0 {
        format!(
            "Regret: {name} paid {loss} per round on average over {over}{place}, {} less than the best fixed \
             weights in hindsight would have, so none of its loss is the optimizer's fault inside the regions \
             it visited.",
            number(-split.regret)
        )
    } else {
        let sure = if split.gap > 0.1 * split.regret && split.regret > 0.0 {
            format!(" (or up to {} more, the certified error of the solver)", number(split.gap))
        } else {
            String::new()
        };
        format!(
            "Regret: of the {loss} that {name} paid per round on average over {over}{place}, {} ({}) is the \
             optimizer's fault; the best fixed weights in hindsight would have saved that much in the same \
             regions{sure}.",
            number(split.regret),
            percent(split.regret / split.mean_loss)
        )
    }
}

/// The longest prefix that was analysed at the scale of the split.
fn analysed_rounds(series: &Series, split: &Split) -> usize {
    let rows = series.tables.regret.iter().filter(|row| row.scale == split.scale);
    let window = series.tables.summary.window_rounds;
    rows.map(|row| row.rounds).max().unwrap_or(if split.scale == Scale::Neuron {
        series.tables.summary.rounds
    } else {
        window
    })
}

fn region(series: &Series, split: &Split) -> String {
    let share = |optimum: f64| format!("{} ({})", number(optimum), percent(optimum / split.mean_loss));
    let (most, name) = (share(split.taylor_optimum), &series.name);
    let optimum =
        format!("the Taylor optimum, the least that fixed weights could pay in the smooth regions that {name} visited");
    if split.gap > 0.1 * split.taylor_optimum {
        let least = share(split.taylor_optimum - split.gap);
        return format!(
            "Region: {optimum}, lies between {least} and {most}, as far as the solver came; only other regions would \
             lower it."
        );
    }
    format!("Region: {most} is {optimum}; only other regions would lower it.")
}

fn exploration(series: &Series) -> String {
    let neurons = &series.tables.neurons;
    let novelty = novelty_in_words(series);
    if novelty.is_none() && neurons.is_empty() {
        return "Exploration: not recorded.".into();
    }
    let mut text = String::from("Exploration: ");
    if let Some(novelty) = novelty {
        text += &format!(
            "each recorded activation pattern differed from every earlier one in {novelty} on \
                          average; "
        );
    }
    if let Some(switches) = median(neurons.iter().map(|row| row.switches as f64)) {
        text +=
            &format!("the median neuron switched state {} times on the probe set; ", count(switches.round() as u64));
    }
    let dead = neurons.iter().filter(|row| row.dead).count();
    text += &match neurons.len() {
        0 => "single neurons were not recorded.".into(),
        n if dead == 0 => format!("none of {n} hidden neurons is dead at the end."),
        n => format!("{dead} of {n} hidden neurons {} dead at the end.", if dead == 1 { "is" } else { "are" }),
    };
    text
}
