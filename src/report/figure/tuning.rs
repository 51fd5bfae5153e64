//! The learning-rate search: final training loss against learning rate, one line per optimizer.

use super::{Figure, WIDTH};
use crate::{
    report::draw::prelude::*,
    study::{
        numbers::{display_name, number, setting},
        results::mean,
        tune::{Search, TuneRow, Tuned},
    },
};

/// Losses beyond this many times the best of all optimizers lie above the frame.
const CEILING: f64 = 20.0;

/// Height of an optimizer's row of rates that diverged.
const ROW: f64 = 7.0;

/// Draws the points of a search.
pub fn draw(search: &Search) -> Figure {
    let losses = search.points.iter().filter_map(|row| row.train_loss);
    let least = losses.fold(f64::INFINITY, f64::min);
    let mut notes = Vec::new();
    let svg = if least.is_finite() {
        Ok(picture(search, least, &mut notes))
    } else {
        Err("no point of the search has a finite loss".to_owned())
    };
    let best: Vec<String> = search.tuned.iter().map(describe).collect();
    let caption = format!(
        "Learning-rate search. Loss over the whole training set after the last round: the mean over seeds (line) and \
         their range (band), with each optimizer's best rate marked. Bars at the upper edge, a row for each optimizer: rates at \
         which training diverged from any seed. {}",
        best.join(" ")
    );
    Figure { id: "tuning", heading: "Learning-rate search", svg, caption, notes, sources: vec!["tune.csv".to_owned()] }
}

fn describe(tuned: &Tuned) -> String {
    let name = display_name(&tuned.optimizer);
    match (tuned.learning_rate, tuned.train_loss) {
        (Some(rate), Some(loss)) => {
            let end = if tuned.at_end { ", at the end of the range searched" } else { "" };
            format!("{name}: {} (loss {}{end}).", setting(rate), number(loss))
        }
        _ => format!("{name}: every rate diverged."),
    }
}

/// One rate of one optimizer over all seeds.
struct Rate {
    rate: f64,
    /// Mean, least and largest loss; `None` if any seed diverged.
    loss: Option<(f64, f64, f64)>,
}

fn rates(points: &[TuneRow], label: &str) -> Vec<Rate> {
    let mine: Vec<&TuneRow> = points.iter().filter(|row| row.optimizer == label).collect();
    mine.chunk_by(|a, b| a.learning_rate == b.learning_rate)
        .map(|rows| {
            let losses: Option<Vec<f64>> = rows.iter().map(|row| row.train_loss).collect();
            let loss = losses.and_then(|losses| {
                let (low, high) = losses.iter().fold((f64::INFINITY, 0.0_f64), |(l, h), x| (l.min(*x), h.max(*x)));
                mean(losses).map(|mean| (mean, low, high))
            });
            Rate { rate: rows[0].learning_rate, loss }
        })
        .collect()
}

fn picture(search: &Search, least: f64, notes: &mut Vec<String>) -> Drawing {
    let styles: Vec<SeriesStyle> = (0..search.tuned.len()).map(SeriesStyle::of).collect();
    let mut entries: Vec<Entry> = search
        .tuned
        .iter()
        .zip(&styles)
        .map(|(tuned, style)| Entry::new(Sample::Series(*style), display_name(&tuned.optimizer)))
        .collect();
    entries.push(Entry::new(Sample::Filled, "best rate"));
    let top = legend::height(&entries, WIDTH - 20.0) + 20.0;
    let mut svg = Svg::new("tuning", WIDTH, top + 330.0);
    legend::draw(&mut svg, (10.0, 4.0), WIDTH - 20.0, &entries);

    let all: Vec<f64> = search.points.iter().map(|row| row.learning_rate).collect();
    let (low, high) = all.iter().fold((f64::INFINITY, 0.0_f64), |(l, h), x| (l.min(*x), h.max(*x)));
    let losses = search.points.iter().filter_map(|row| row.train_loss);
    let highest = losses.fold(0.0, f64::max);
    let ceiling = if least > 0.0 { highest.min(CEILING * least) } else { highest };
    if highest > ceiling {
        notes.push(format!("Losses up to {} lie above the frame.", number(highest)));
    }
    // Room for the rows of rates that diverged.
    let room = 1.3 + 0.12 * search.tuned.len() as f64;
    let y = if least > 0.0 { Axis::log(least / 1.15, ceiling * room) } else { Axis::from_zero(ceiling * room) };
    let panel = Panel::new(Rect::new(72.0, top, WIDTH - 92.0, 275.0), Axis::log(low / 1.3, high * 1.3), y);
    panel.draw(
        &mut svg,
        Labels { x: "learning rate (log axis)", y: "final training loss (log axis)", ..Labels::default() },
    );
    panel.inside(&mut svg, |svg| {
        for (row, (tuned, style)) in search.tuned.iter().zip(&styles).enumerate() {
            let rates = rates(&search.points, &tuned.optimizer);
            let finite: Vec<(f64, (f64, f64, f64))> =
                rates.iter().filter_map(|rate| rate.loss.map(|loss| (rate.rate, loss))).collect();
            let upper = finite.iter().map(|(rate, (_, _, high))| panel.at(*rate, *high));
            let lower = finite.iter().rev().map(|(rate, (_, low, _))| panel.at(*rate, *low));
            svg.polygon(&upper.chain(lower).collect::<Vec<_>>(), style.color, 0.15);
            let line: Vec<(f64, f64)> = finite.iter().map(|(rate, (mean, _, _))| (*rate, *mean)).collect();
            panel.curve(svg, &line, style.stroke(1.8));
            for (rate, loss) in &line {
                let best = tuned.learning_rate == Some(*rate);
                style.mark(svg, panel.at(*rate, *loss), if best { 5.5 } else { 2.6 }, best);
            }
            for rate in rates.iter().filter(|rate| rate.loss.is_none()) {
                let (x, _) = panel.at(rate.rate, least);
                let top = panel.frame.y + 3.0 + ROW * row as f64;
                svg.line((x, top), (x, top + ROW - 1.5), Stroke::solid(style.color, 3.5));
            }
        }
    });
    svg.finish("Final training loss against learning rate, one line per optimizer")
}
