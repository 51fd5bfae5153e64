//! What updates cross, and what the Taylor loss predicts of them.

use crate::{
    report::{
        draw::{
            palette::{FRAME, MUTED},
            prelude::*,
        },
        figure::{Figure, WIDTH},
    },
    study::{
        landscape::{LandscapeTables, rows::UpdateRow},
        numbers::{count, display_name, number},
        results::median,
    },
};

/// The decrease of the loss that the Taylor loss predicts, and the actual one; negative where the loss rises.
fn predicted(row: &UpdateRow) -> f64 {
    row.loss - row.taylor_loss
}

fn actual(row: &UpdateRow) -> f64 {
    row.loss - row.loss_after
}

/// Axes for predicted and actual decreases of both signs: linear up to about a tenth of the typical size.
fn decreases(rows: &[UpdateRow]) -> [Axis; 2] {
    let values = |of: fn(&UpdateRow) -> f64| rows.iter().map(of).filter(|value| value.is_finite());
    let sizes = values(predicted).chain(values(actual)).map(f64::abs).filter(|size| *size > 0.0);
    let typical = median(sizes).unwrap_or(0.0);
    let linear = if typical > 0.0 { 10f64.powf((0.1 * typical).log10().floor()) } else { 0.0 };
    [predicted, actual].map(|of| {
        let ends = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
        let (low, high) = values(of).fold((0.0, 0.0), ends);
        Axis::symmetric(1.5 * low - linear, 1.5 * high + linear, linear)
    })
}

const GUIDE: Stroke<'static> = Stroke { color: MUTED, width: 1.2, dash: "3 3", opacity: 1.0 };

/// Draws kinks against rounds, actual against predicted decrease, and gradient agreement against kinks.
pub fn draw(tables: &LandscapeTables) -> Figure {
    let rows = &tables.updates;
    let mut notes = Vec::new();
    let worse = rows.iter().filter(|row| !(predicted(row) > 0.0 && actual(row) > 0.0)).count();
    if worse > 0 {
        notes.push(format!(
            "{} of {} updates lie left of or below zero in the middle panel: the loss of their minibatch rose, or \
             was predicted to rise.",
            count(worse as u64),
            count(rows.len() as u64)
        ));
    }
    let never = rows.iter().filter(|row| row.kinks == 0.0).count();
    if never > 0 {
        notes.push(format!("{} updates cross no kink and are left out of the outer panels.", count(never as u64)));
    }
    let caption = "Updates of training, each on its own minibatch. Left: kinks on the straight way from the old to \
                   the new weights, mean per datapoint. Middle: the decrease of the loss against the decrease \
                   predicted by the network's Taylor loss. On the dotted line the prediction is right; the axes are \
                   linear close to zero and logarithmic beyond. Right: the cosine between the gradients before and \
                   after the update, against the kinks crossed. Kinks and losses are exact up to rounding."
        .to_owned();
    Figure {
        id: "updates",
        heading: "What updates cross",
        svg: Ok(picture(rows)),
        caption,
        notes,
        sources: vec!["updates.csv".to_owned()],
    }
}

/// What the panels share.
struct Panels<'a> {
    rows: &'a [UpdateRow],
    series: Vec<(SeriesStyle, &'a [UpdateRow])>,
    /// The axis of kinks crossed.
    kinks: Axis,
    top: f64,
}

/// Width and height of a panel.
const CELL: f64 = 178.0;
const HEIGHT: f64 = 200.0;

fn picture(rows: &[UpdateRow]) -> Drawing {
    let series: Vec<(SeriesStyle, &[UpdateRow])> = rows
        .chunk_by(|a, b| a.optimizer == b.optimizer)
        .enumerate()
        .map(|(i, rows)| (SeriesStyle::of(i), rows))
        .collect();
    let mut entries: Vec<Entry> =
        series.iter().map(|(style, rows)| Entry::series(*style, display_name(&rows[0].optimizer))).collect();
    entries.push(Entry::new(Sample::Line(GUIDE), "prediction right"));
    let top = legend::height(&entries, WIDTH - 20.0) + 34.0;
    let mut svg = Svg::new("updates", WIDTH, top + HEIGHT + 42.0);
    legend::draw(&mut svg, (10.0, 4.0), WIDTH - 20.0, &entries);
    let good = || rows.iter().map(|row| row.kinks).filter(|v| *v > 0.0 && v.is_finite());
    let kinks = Axis::log(good().fold(f64::INFINITY, f64::min) * 0.8, good().fold(0.0, f64::max) * 1.25);
    let panels = Panels { rows, series, kinks, top };
    panels.crossed(&mut svg);
    panels.decrease(&mut svg);
    panels.agreement(&mut svg);
    svg.finish("Kinks crossed by updates, actual against predicted decrease, and gradient agreement, per optimizer")
}

impl Panels<'_> {
    fn frame(&self, i: usize) -> Rect {
        Rect::new(58.0 + i as f64 * (CELL + 70.0), self.top, CELL, HEIGHT)
    }

    /// Draws each optimizer's part of a panel.
    fn each_series(&self, svg: &mut Svg, panel: &Panel, draw: impl Fn(&mut Svg, &SeriesStyle, &[UpdateRow])) {
        for (style, rows) in &self.series {
            svg.series(&display_name(&rows[0].optimizer), |svg| panel.inside(svg, |svg| draw(svg, style, rows)));
        }
    }

    /// Kinks against rounds.
    fn crossed(&self, svg: &mut Svg) {
        let last = self.rows.iter().map(|row| row.round).max().unwrap_or(1) as f64;
        let panel = Panel::new(self.frame(0), Axis::log(0.9, 1.1 * last), self.kinks);
        let labels = Labels { title: "kinks crossed", x: "round", y: "kinks per datapoint", ..Labels::default() };
        panel.draw(svg, labels);
        self.each_series(svg, &panel, |svg, style, rows| {
            let place = |row: &UpdateRow| (row.round as f64, row.kinks);
            let crossing = || rows.iter().filter(|row| row.kinks > 0.0);
            panel.curve(svg, &crossing().map(place).collect::<Vec<_>>(), style.stroke(1.2));
            crossing().for_each(|row| point(svg, style, row, panel.at(row.round as f64, row.kinks)));
        });
    }

    /// Actual against predicted decrease.
    fn decrease(&self, svg: &mut Svg) {
        let [x, y] = decreases(self.rows);
        let panel = Panel::new(self.frame(1), x, y);
        let (title, predicted_by) = ("decrease of the loss", "predicted by the Taylor loss");
        panel.draw(svg, Labels { title, x: predicted_by, y: "actual", ..Labels::default() });
        panel.inside(svg, |svg| {
            let zero = Stroke::solid(FRAME, 1.0);
            panel.curve(svg, &[(x.min, 0.0), (x.max, 0.0)], zero);
            panel.curve(svg, &[(0.0, y.min), (0.0, y.max)], zero);
            // Where the prediction is right; bent, as the axes have different ends.
            let (low, high) = (x.min.max(y.min), x.max.min(y.max));
            let decades = |end: f64| (0..=24).map(move |i| end * 10f64.powf(-0.25 * f64::from(24 - i)));
            let right = decades(low).rev().chain([0.0]).chain(decades(high));
            panel.curve(svg, &right.map(|value| (value, value)).collect::<Vec<_>>(), GUIDE);
        });
        self.each_series(svg, &panel, |svg, style, rows| {
            let finite = rows.iter().filter(|row| predicted(row).is_finite() && actual(row).is_finite());
            finite.for_each(|row| point(svg, style, row, panel.at(predicted(row), actual(row))));
        });
    }

    /// Gradient agreement against kinks.
    fn agreement(&self, svg: &mut Svg) {
        let panel = Panel::new(self.frame(2), self.kinks, Axis::linear(-1.05, 1.05));
        let (title, y) = ("gradient agreement", "cosine before, after");
        panel.draw(svg, Labels { title, x: "kinks per datapoint", y, ..Labels::default() });
        self.each_series(svg, &panel, |svg, style, rows| {
            for row in rows.iter().filter(|row| row.kinks > 0.0) {
                if let Some(cosine) = row.cosine {
                    point(svg, style, row, panel.at(row.kinks, cosine));
                }
            }
        });
    }
}

/// One point of a panel with its text.
fn point(svg: &mut Svg, style: &SeriesStyle, row: &UpdateRow, at: (f64, f64)) {
    let cosine = row.cosine.map_or(String::new(), |cosine| format!(", cosine {cosine:.2}"));
    let title = format!(
        "{}, round {}: {} kinks, decrease {} (predicted {}){cosine}",
        display_name(&row.optimizer),
        row.round,
        number(row.kinks),
        number(actual(row)),
        number(predicted(row))
    );
    svg.titled(&title, |svg| style.mark(svg, at, 2.6, true));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(loss_after: f64, taylor_loss: f64) -> UpdateRow {
        UpdateRow {
            optimizer: "sgd".into(),
            round: 3,
            loss: 1.0,
            loss_after,
            taylor_loss,
            first_order_loss: taylor_loss,
            step: 0.1,
            kinks: 5.0,
            changed: 2.0,
            cosine: None,
        }
    }

    #[test]
    fn updates_whose_loss_rose_are_drawn() {
        let rows = [update(0.9, 0.95), update(1.4, 0.9), update(0.99, 1.2)];
        let [x, y] = decreases(&rows);
        for row in &rows {
            for (axis, value) in [(x, predicted(row)), (y, actual(row))] {
                assert!((0.0..1.0).contains(&axis.place(value)), "{value} on {axis:?}");
            }
        }
        // Each of the three in the first two panels.
        assert_eq!(picture(&rows).matches("<title>SGD, round 3:").count(), 6);
    }
}
