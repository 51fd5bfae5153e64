//! Exploration of activation configurations: novelty, switches and log-volume (the paper's figure 5).

use super::{Context, Figure, Series, WIDTH, series_entries};
use crate::{
    report::draw::prelude::*,
    study::{
        numbers::{count, number, percent},
        tables::NeuronRow,
    },
};

/// A novelty axis is logarithmic when positive values span more than this ratio.
const LOG_RATIO: f64 = 30.0;

/// Draws the three panels side by side.
pub fn draw(context: &Context) -> Figure {
    let mut notes: Vec<String> =
        ["novelty.csv", "neurons.csv"].into_iter().filter_map(|file| context.lacking(file)).collect();
    let series = &context.series;
    let svg = if series.iter().all(|s| s.tables.novelty.is_empty() && s.tables.neurons.is_empty()) {
        Err("exploration was not recorded: no rows in novelty.csv and neurons.csv".to_string())
    } else {
        Ok(picture(series, &mut notes))
    };
    let bits = series.iter().flat_map(|s| &s.tables.novelty).map(|row| row.bits).max();
    let caption = format!(
        "How widely each optimizer searched. An activation configuration says which hidden unit is active on which \
         datapoint of the probe set{}. (a) Novelty: the least number of bits in which the configuration after that \
         many rounds differs from any earlier one; the first step, from the initialization, is in the notes. (b) \
         Switches: how often datapoints switched a neuron's state, neurons sorted. (c) Log-volume of the \
         configurations that a neuron covered, neurons sorted. Everything is counted on the probe set alone; there \
         is no certificate for other data.",
        bits.map_or(String::new(), |bits| format!(" ({} bits)", count(bits)))
    );
    let mut sources = context.sources("novelty.csv");
    sources.extend(context.sources("neurons.csv"));
    Figure { id: "exploration", heading: "Exploration", svg, caption, notes, sources }
}

fn picture(series: &[Series], notes: &mut Vec<String>) -> Drawing {
    let entries = series_entries(series);
    let top = legend::height(&entries, WIDTH - 20.0) + 36.0;
    let (height, width) = (200.0, 158.0);
    let mut svg = Svg::new("exploration", WIDTH, top + height + 42.0);
    legend::draw(&mut svg, (10.0, 4.0), WIDTH - 20.0, &entries);
    let frame = |i: usize| Rect::new(70.0 + i as f64 * (width + 88.0), top, width, height);

    let novelty: Vec<Vec<(f64, f64)>> = series
        .iter()
        .map(|s| {
            s.tables.novelty.iter().filter_map(|row| row.min_hamming.map(|b| (row.round as f64, b as f64))).collect()
        })
        .collect();
    // The way from the initialization is longer than all that follow: it would set the axis.
    let later = without_first(novelty, series, notes);
    novelty_panel(&mut svg, series, frame(0), &later, notes);
    sorted_panel(&mut svg, series, frame(1), |row| row.switches as f64, ["(b) switches", "switches per neuron"]);
    sorted_panel(&mut svg, series, frame(2), |row| row.log_volume, ["(c) log-volume", "log-volume (nats)"]);
    svg.finish("Exploration: novelty against round, switches and log-volume of sorted neurons, one line per optimizer")
}

/// The novelties after the first step, which a note tells; all, where there is no later one.
fn without_first(novelty: Vec<Vec<(f64, f64)>>, series: &[Series], notes: &mut Vec<String>) -> Vec<Vec<(f64, f64)>> {
    if novelty.iter().all(|points| points.len() < 3) {
        return novelty;
    }
    let first: Vec<String> = novelty
        .iter()
        .zip(series)
        .filter_map(|(points, s)| {
            let (round, bits) = points.first()?;
            let all: f64 = points.iter().map(|p| p.1).sum();
            let share = if all > 0.0 { bits / all } else { 0.0 };
            let (round, bits) = (count(*round as u64), count(*bits as u64));
            Some(format!("{} {bits} bits by round {round} ({} of its sum)", s.name, percent(share)))
        })
        .collect();
    notes.push(format!("Not in panel (a): the first step, from the initialization: {}.", first.join(", ")));
    novelty.into_iter().map(|points| points.into_iter().skip(1).collect()).collect()
}

fn novelty_panel(svg: &mut Svg, series: &[Series], frame: Rect, novelty: &[Vec<(f64, f64)>], notes: &mut Vec<String>) {
    let values = || novelty.iter().flatten().map(|p| p.1);
    let largest = values().fold(0.0, f64::max);
    let smallest = values().filter(|v| *v > 0.0).fold(largest, f64::min);
    let log = smallest > 0.0 && largest / smallest > LOG_RATIO;
    let y = if log { Axis::log(smallest / 1.4, largest * 1.3) } else { Axis::from_zero(largest) };
    let last = novelty.iter().flatten().map(|p| p.0).fold(0.0, f64::max);
    let panel = Panel::new(frame, Axis::linear(0.0, last), y);
    let label = if log { "least distance, bits (log axis)" } else { "least distance (bits)" };
    panel.draw(svg, Labels { title: "(a) novelty", x: "rounds", y: label, ..Labels::default() });
    let zeros = values().filter(|v| *v == 0.0).count();
    if log && zeros > 0 {
        notes.push(format!(
            "{} novelties are zero (a configuration came back) and stand as open markers at the lower edge of \
             panel (a).",
            count(zeros as u64)
        ));
    }
    for (points, s) in novelty.iter().zip(series).filter(|(points, _)| !points.is_empty()) {
        let place = |p: &(f64, f64)| match log && p.1 <= 0.0 {
            true => (panel.at(p.0, 1.0).0, frame.bottom()),
            false => panel.at(p.0, p.1),
        };
        svg.series(&s.name, |svg| {
            panel.inside(svg, |svg| {
                for part in points.split(|p| log && p.1 <= 0.0) {
                    panel.curve(svg, part, s.style.stroke(1.8));
                }
            });
            let every = points.len().div_ceil(7).max(1);
            for (i, p) in points.iter().enumerate() {
                let returned = log && p.1 <= 0.0;
                if returned || i % every == 0 || i + 1 == points.len() {
                    s.style.mark(svg, place(p), 2.8, !returned);
                }
            }
            svg.unseen(|svg| {
                for i in thinned(points.len(), 120) {
                    let (round, bits) = (count(points[i].0 as u64), count(points[i].1 as u64));
                    svg.hit(place(&points[i]), &format!("{}, round {round}: novelty {bits} bits", s.name));
                }
            });
        });
    }
    if novelty.iter().all(Vec::is_empty) {
        not_recorded(svg, frame);
    }
}

/// Values sorted downwards, against the share of neurons, so that networks of any size compare.
fn sorted_panel(
    svg: &mut Svg,
    series: &[Series],
    frame: Rect,
    value: impl Fn(&NeuronRow) -> f64,
    [title, y_label]: [&str; 2],
) {
    let all = || series.iter().flat_map(|s| &s.tables.neurons).map(&value).filter(|v| v.is_finite());
    let (least, largest) = (all().fold(0.0, f64::min), all().fold(0.0, f64::max));
    let y = if least < 0.0 { Axis::linear(least * 1.05, largest.max(0.0) * 1.05) } else { Axis::from_zero(largest) };
    let panel = Panel::new(frame, Axis::linear(0.0, 100.0), y);
    panel.draw(svg, Labels { title, x: "neurons, sorted (%)", y: y_label, ..Labels::default() });
    for s in series {
        let mut sorted: Vec<(f64, &NeuronRow)> =
            s.tables.neurons.iter().map(|row| (value(row), row)).filter(|(v, _)| v.is_finite()).collect();
        sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
        let at = |i: usize| (100.0 * (i as f64 + 0.5) / sorted.len() as f64, sorted[i].0);
        let points: Vec<(f64, f64)> = thinned(sorted.len(), 200).map(at).collect();
        svg.series(&s.name, |svg| {
            panel.curve(svg, &points, s.style.stroke(1.8));
            for i in thinned(points.len(), 6) {
                s.style.mark(svg, panel.at(points[i].0, points[i].1), 2.8, true);
            }
            svg.unseen(|svg| {
                for i in thinned(sorted.len(), 60) {
                    let ((x, y), row) = (at(i), sorted[i].1);
                    let dead = if row.dead { ", dead" } else { "" };
                    let title = format!("{}, layer {}, neuron {}{dead}: {}", s.name, row.layer, row.neuron, number(y));
                    svg.hit(panel.at(x, y), &title);
                }
            });
        });
    }
    if all().next().is_none() {
        not_recorded(svg, frame);
    }
}

/// At most about `most` indices below `count`, the first and the last among them.
fn thinned(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let every = count.div_ceil(most).max(1);
    (0..count).filter(move |i| i % every == 0 || i + 1 == count)
}

fn not_recorded(svg: &mut Svg, frame: Rect) {
    let at = (frame.x + frame.width / 2.0, frame.y + frame.height / 2.0);
    svg.text(at, "not recorded", Text::new(LABEL, Anchor::Middle));
}

/// A sentence on the novelty of one series, for the page.
pub fn novelty_in_words(series: &Series) -> Option<String> {
    let bits = series.tables.novelty.iter().map(|row| row.bits).max().filter(|bits| *bits > 0)?;
    let mean = series.tables.mean_novelty()?;
    Some(format!("{} of {} bits ({})", count(mean.round() as u64), count(bits), percent(mean / bits as f64)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report::sample::{self, Kind},
        study::results::RunTables,
    };

    #[test]
    fn the_first_step_is_told_and_not_drawn() {
        let dir = tempfile::tempdir().unwrap();
        sample::write(dir.path(), Kind::Autoencoder);
        let run = RunTables::read(dir.path()).unwrap();
        let context = Context::of(&run);
        let mut notes = Vec::new();
        let all = vec![vec![(10.0, 900.0), (20.0, 60.0), (30.0, 40.0)]; context.series.len()];
        let later = without_first(all.clone(), &context.series, &mut notes);
        assert!(later.iter().all(|points| points[..] == [(20.0, 60.0), (30.0, 40.0)]));
        assert!(notes[0].contains("SGD 900 bits by round 10 (90% of its sum)"), "{notes:?}");
        let single = vec![vec![(10.0, 900.0)]; context.series.len()];
        assert_eq!(without_first(single.clone(), &context.series, &mut notes), single);
    }
}
