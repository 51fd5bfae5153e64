//! RMS as sign: cosines of minibatch directions with the sign of the full gradient, over rounds and by layer.

use super::{Figure, WIDTH};
use crate::{
    report::draw::{
        letters::fitted,
        palette::{INK, ramp},
        panel::cells,
        prelude::*,
    },
    study::{
        explore::{Exploration, signs::SignRow},
        numbers::display_name,
        results::mean,
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// A direction's name and its cosine; the last one is the agreement of signs instead of a direction.
type Direction = (&'static str, fn(&SignRow) -> f64);

const DIRECTIONS: [Direction; 5] = [
    ("RMS-normalized minibatch gradient", |row| row.cosine_rms),
    ("minibatch gradient", |row| row.cosine_gradient),
    ("sign of the minibatch gradient", |row| row.cosine_sign),
    ("full gradient", |row| row.cosine_full),
    ("signs that agree (fraction of the weights)", |row| row.sign_agreement),
];

/// Panels of lines over rounds in a row.
const COLUMNS: usize = 3;
/// Height of a row of the table by layer.
const ROW: f64 = 24.0;

/// Cosines of minibatch directions with the sign of the full gradient: over rounds, a panel per optimizer, and what
/// normalization adds to the plain gradient's, a row per optimizer and a column per layer.
pub fn draw(study: &Exploration) -> Figure {
    let labels: Vec<String> =
        study.labels().into_iter().filter(|label| study.signs.iter().any(|row| row.optimizer == *label)).collect();
    let svg = if labels.is_empty() {
        Err("no run of the study has rows in signs.csv".to_owned())
    } else {
        Ok(picture(study, &labels))
    };
    let caption = "Cosines with the sign of the full gradient along the runs of each optimizer at its tuned rate, \
                   means over seeds. Above: mean over layers, per round. Below: RMS-normalized minus plain minibatch \
                   gradient, mean over the run, per layer; above zero, normalization is nearer to the sign. \
                   Normalized gradient, plain gradient and its sign agree in the signs of their coordinates and \
                   differ in their lengths. The fifth line is the fraction of the weights on which those signs are \
                   the full gradient's."
        .to_owned();
    let sources = vec!["signs.csv".to_owned()];
    Figure { id: "signs", heading: "RMS normalization as sign", svg, caption, notes: Vec::new(), sources }
}

fn picture(study: &Exploration, labels: &[String]) -> Drawing {
    let layers: Vec<usize> = study.signs.iter().map(|row| row.layer).collect::<BTreeSet<_>>().into_iter().collect();
    let entries: Vec<Entry> = DIRECTIONS
        .iter()
        .enumerate()
        .map(|(at, (name, _))| Entry::new(Sample::Line(SeriesStyle::of(at).stroke(1.6)), *name))
        .collect();
    let top = legend::height(&entries, WIDTH - 20.0) + 34.0;
    let columns = labels.len().min(COLUMNS);
    let (height, gap) = (120.0, (22.0, 36.0));
    let width = (WIDTH - 66.0 - 16.0 - gap.0 * (columns - 1) as f64) / columns as f64;
    let rows = labels.len().div_ceil(columns) as f64;
    let table = top + rows * (height + gap.1) + 48.0;
    let mut svg = Svg::new("signs", WIDTH, table + ROW * labels.len() as f64 + 12.0);
    legend::draw(&mut svg, (10.0, 4.0), WIDTH - 20.0, &entries);
    let last = study.signs.iter().map(|row| row.round).max().unwrap_or(1) as f64;
    let places = cells((66.0, top), (width, height), gap, columns, labels.len());
    for (at, (label, cell)) in labels.iter().zip(places).enumerate() {
        let panel = Panel::new(cell, Axis::log(1.0, last), Axis::linear(0.0, 1.0));
        let (first, bottom) = (at % columns == 0, at + columns >= labels.len());
        let title = format!("along {}", display_name(label));
        let y = if first { "cosine, fraction" } else { "" };
        let x = if bottom { "round (log axis)" } else { "" };
        panel.draw(&mut svg, Labels { title: &title, x, y, hide_x: !bottom, hide_y: !first });
        panel.inside(&mut svg, |svg| {
            for (at, (_, of)) in DIRECTIONS.iter().enumerate() {
                panel.curve(svg, &over_rounds(study, label, *of), SeriesStyle::of(at).stroke(1.6));
            }
        });
    }
    by_layer(&mut svg, study, labels, &layers, table);
    svg.finish("Cosines with the sign of the full gradient over rounds, and what normalization adds in each layer")
}

/// The table of what normalization adds to the cosine, a row per optimizer and a column per layer.
fn by_layer(svg: &mut Svg, study: &Exploration, labels: &[String], layers: &[usize], top: f64) {
    let left = 116.0;
    let width = ((WIDTH - left - 16.0) / layers.len() as f64).min(90.0);
    let heading = "normalized minus plain, cosine with the sign of the full gradient";
    svg.text((10.0, top - 26.0), heading, Text::new(LABEL, Anchor::Start).bold());
    for (k, layer) in layers.iter().enumerate() {
        let x = left + (k as f64 + 0.5) * width;
        svg.text((x, top - 6.0), &format!("layer {layer}"), Text::new(TICK, Anchor::Middle));
    }
    for (l, label) in labels.iter().enumerate() {
        let y = top + ROW * l as f64;
        let name = fitted(&display_name(label), LABEL, left - 20.0);
        svg.text((10.0, y + 0.68 * ROW), &name, Text::new(LABEL, Anchor::Start));
        for (k, layer) in layers.iter().enumerate() {
            let mine = study.signs.iter().filter(|row| row.optimizer == *label && row.layer == *layer);
            let Some(more) = mean(mine.map(|row| row.cosine_rms - row.cosine_gradient)) else { continue };
            // Blue above zero, orange below; full at a difference of 0.5, and light enough for dark letters.
            let base = if more >= 0.0 { (0, 114, 178) } else { (213, 94, 0) };
            let color = ramp(base, (more.abs() / 0.5).min(1.0) * 0.45);
            svg.rect(Rect::new(left + k as f64 * width, y, width - 2.0, ROW - 2.0), &color, None);
            let sign = if more >= 0.0 { "+" } else { "−" };
            let at = (left + (k as f64 + 0.5) * width - 1.0, y + 0.66 * ROW);
            svg.text(at, &format!("{sign}{:.2}", more.abs()), Text::new(TICK, Anchor::Middle).colored(INK));
        }
    }
}

/// The means over seeds and layers of one direction's cosine by round.
fn over_rounds(study: &Exploration, label: &str, of: fn(&SignRow) -> f64) -> Vec<(f64, f64)> {
    let mut by_round: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for row in study.signs.iter().filter(|row| row.optimizer == label) {
        by_round.entry(row.round).or_default().push(of(row));
    }
    by_round.into_iter().filter_map(|(round, values)| Some((round as f64, mean(values)?))).collect()
}
