//! RMS as sign: cosines of minibatch directions with the sign of the full gradient, a panel per layer and trajectory.

use super::{Figure, WIDTH};
use crate::{
    report::draw::{
        axis::Axis,
        legend::{self, Entry, Sample},
        panel::{LABEL, Labels, Panel, cells},
        style::{MUTED, SeriesStyle, fitted},
        svg::{Anchor, Rect, Svg, Text},
    },
    study::{
        explore::{Exploration, claims::labels, signs::SignRow},
        numbers::display_name,
        results::mean,
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// A direction's name and its cosine; the last one is no direction but the agreement of signs.
type Direction = (&'static str, fn(&SignRow) -> f64);

/// Cosines of minibatch directions with the sign of the full gradient, a panel per layer and trajectory.
pub fn draw(study: &Exploration) -> Figure {
    let labels: Vec<String> =
        labels(study).into_iter().filter(|label| study.signs.iter().any(|row| row.optimizer == *label)).collect();
    let layers: Vec<usize> = {
        let all = study.signs.iter().map(|row| row.layer);
        all.collect::<BTreeSet<_>>().into_iter().collect()
    };
    let directions: [Direction; 5] = [
        ("RMS-normalized minibatch gradient", |row| row.cosine_rms),
        ("minibatch gradient", |row| row.cosine_gradient),
        ("sign of the minibatch gradient", |row| row.cosine_sign),
        ("full gradient", |row| row.cosine_full),
        ("signs that agree (fraction of the weights)", |row| row.sign_agreement),
    ];
    let svg = (!labels.is_empty()).then(|| {
        let entries: Vec<Entry> = directions
            .iter()
            .enumerate()
            .map(|(at, (name, _))| Entry::new(Sample::Series(SeriesStyle::of(at)), *name))
            .collect();
        let top = legend::height(&entries, WIDTH - 20.0) + 34.0;
        let columns = layers.len().clamp(1, 6);
        let gap = (14.0, 30.0);
        let width = (WIDTH - 70.0 - 16.0 - gap.0 * (columns - 1) as f64) / columns as f64;
        let height = 96.0;
        let rows = labels.len() * layers.len().div_ceil(columns);
        let mut svg = Svg::new("signs", WIDTH, top + rows as f64 * (height + gap.1) + 26.0);
        legend::draw(&mut svg, (10.0, 4.0), WIDTH - 20.0, &entries);
        let last = study.signs.iter().map(|row| row.round).max().unwrap_or(1);
        let per_label = layers.len().div_ceil(columns) * columns;
        let places = cells((70.0, top), (width, height), gap, columns, labels.len() * per_label);
        for (l, label) in labels.iter().enumerate() {
            for (k, layer) in layers.iter().enumerate() {
                let cell: Rect = places[l * per_label + k];
                let panel = Panel::new(cell, Axis::log(1.0, last as f64), Axis::linear(0.0, 1.0));
                let first = k % columns == 0;
                let bottom = l + 1 == labels.len() && k + columns >= layers.len();
                let heading = format!("layer {layer}");
                let y = if first { "cosine, fraction" } else { "" };
                let labelled = Labels { title: &heading, x: "", y, hide_x: !bottom, hide_y: !first };
                panel.draw(&mut svg, labelled);
                if first {
                    let name = fitted(&display_name(label), 11.0, height);
                    let at = (cell.x - 56.0, cell.y + height / 2.0);
                    svg.text(at, &name, Text::new(11.0, Anchor::Middle).bold().colored(MUTED).rotated(-90.0));
                }
                panel.inside(&mut svg, |svg| {
                    for (at, (_, of)) in directions.iter().enumerate() {
                        panel.curve(svg, &over_rounds(study, label, *layer, *of), SeriesStyle::of(at).stroke(1.6));
                    }
                });
            }
        }
        let at = (70.0 + 0.5 * (WIDTH - 86.0), top + rows as f64 * (height + gap.1) + 4.0);
        svg.text(at, "round n (log axis)", Text::new(LABEL, Anchor::Middle));
        svg.finish("Cosine with the sign of the full gradient against round, a panel per layer and trajectory")
    });
    let caption = "RMS as sign: cosine of directions with the sign of the full gradient, per layer, along the runs of each \
                   optimizer at its tuned rate (means over seeds). The RMS-normalized gradient and the sign of the minibatch \
                   gradient have the plain gradient's signs; they differ from it in the lengths of their coordinates. The fifth line is the \
                   fraction of the weights on which those signs are the full gradient's."
        .to_owned();
    let svg = svg.ok_or_else(|| "no run of the study has rows in signs.csv".to_owned());
    let sources = vec!["signs.csv".to_owned()];
    Figure { id: "signs", heading: "RMS normalization as sign", svg, caption, notes: Vec::new(), sources }
}

/// The means over seeds of one direction's cosine by round.
fn over_rounds(study: &Exploration, label: &str, layer: usize, of: fn(&SignRow) -> f64) -> Vec<(f64, f64)> {
    let mut by_round: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for row in study.signs.iter().filter(|row| row.optimizer == label && row.layer == layer) {
        by_round.entry(row.round).or_default().push(of(row));
    }
    by_round.into_iter().filter_map(|(round, values)| Some((round as f64, mean(values)?))).collect()
}
