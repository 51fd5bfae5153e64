//! What updates cross, and what the Taylor loss predicts of them.

use crate::{
    report::{
        draw::{
            axis::Axis,
            legend::{self, Entry, Sample},
            panel::{Labels, Panel},
            style::{MUTED, SeriesStyle},
            svg::{Rect, Stroke, Svg},
        },
        figure::{Figure, WIDTH},
    },
    study::{
        landscape::{LandscapeTables, rows::UpdateRow},
        numbers::{count, display_name},
    },
};

const GUIDE: Stroke<'static> = Stroke { color: MUTED, width: 1.2, dash: "3 3", opacity: 1.0 };

/// Draws kinks against rounds, actual against predicted decrease, and gradient agreement against kinks.
pub fn draw(tables: &LandscapeTables) -> Figure {
    let rows = &tables.updates;
    let mut notes = Vec::new();
    let predicted = |row: &UpdateRow| row.loss - row.taylor_loss;
    let actual = |row: &UpdateRow| row.loss - row.loss_after;
    let hidden = rows.iter().filter(|row| predicted(row) <= 0.0 || actual(row) <= 0.0).count();
    if hidden > 0 {
        notes.push(format!(
            "{} of {} updates have no place in the middle panel: the loss of their minibatch rose, or the Taylor loss said so.",
            count(hidden as u64),
            count(rows.len() as u64)
        ));
    }
    let never = rows.iter().filter(|row| row.kinks == 0.0).count();
    if never > 0 {
        notes.push(format!("{} updates cross no kink and are left out of the outer panels.", count(never as u64)));
    }
    let caption = "Updates of training, each on its own minibatch. Left: kinks on the straight way from the old to the new \
                   weights, mean per datapoint. Middle: the decrease of the loss against the decrease that the network's \
                   Taylor loss predicts (both axes logarithmic; on the dotted line the prediction is right). Right: the \
                   cosine between the gradients before and after the update, against the kinks crossed."
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

fn picture(rows: &[UpdateRow]) -> String {
    let series: Vec<(SeriesStyle, &[UpdateRow])> = rows
        .chunk_by(|a, b| a.optimizer == b.optimizer)
        .enumerate()
        .map(|(i, rows)| (SeriesStyle::of(i), rows))
        .collect();
    let mut entries: Vec<Entry> = series
        .iter()
        .map(|(style, rows)| Entry::new(Sample::Series(*style), display_name(&rows[0].optimizer)))
        .collect();
    entries.push(Entry::new(Sample::Line(GUIDE), "prediction right"));
    let top = legend::height(&entries, WIDTH - 20.0) + 34.0;
    let (cell, height) = (178.0, 200.0);
    let mut svg = Svg::new("updates", WIDTH, top + height + 42.0);
    legend::draw(&mut svg, (10.0, 4.0), WIDTH - 20.0, &entries);
    let frame = |i: usize| Rect::new(58.0 + i as f64 * (cell + 70.0), top, cell, height);
    let positive = |values: Vec<f64>| {
        let good = || values.iter().copied().filter(|v| *v > 0.0 && v.is_finite());
        Axis::log(good().fold(f64::INFINITY, f64::min) * 0.8, good().fold(0.0, f64::max) * 1.25)
    };
    let kinks = positive(rows.iter().map(|row| row.kinks).collect());
    let last = rows.iter().map(|row| row.round).max().unwrap_or(1) as f64;
    let points = |rows: &[UpdateRow], value: &dyn Fn(&UpdateRow) -> Option<(f64, f64)>| -> Vec<(f64, f64)> {
        rows.iter().filter_map(value).filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
    };
    let crossed = |row: &UpdateRow| (row.kinks > 0.0).then_some(row.kinks);

    let panel = Panel::new(frame(0), Axis::log(0.9, 1.1 * last), kinks);
    let labels = Labels { title: "kinks crossed", x: "round", y: "kinks per datapoint", ..Labels::default() };
    panel.draw(&mut svg, labels);
    panel.inside(&mut svg, |svg| {
        for (style, rows) in &series {
            let at = points(rows, &|row| crossed(row).map(|kinks| (row.round as f64, kinks)));
            panel.curve(svg, &at, style.stroke(1.2));
            at.iter().for_each(|p| style.mark(svg, panel.at(p.0, p.1), 2.4, true));
        }
    });

    let decreases = |row: &UpdateRow| {
        let (predicted, actual) = (row.loss - row.taylor_loss, row.loss - row.loss_after);
        (predicted > 0.0 && actual > 0.0).then_some((predicted, actual))
    };
    let both = positive(rows.iter().filter_map(decreases).flat_map(|(a, b)| [a, b]).collect());
    let panel = Panel::new(frame(1), both, both);
    let labels =
        Labels { title: "decrease of the loss", x: "predicted by the Taylor loss", y: "actual", ..Labels::default() };
    panel.draw(&mut svg, labels);
    panel.inside(&mut svg, |svg| {
        panel.curve(svg, &[(both.min, both.min), (both.max, both.max)], GUIDE);
        for (style, rows) in &series {
            points(rows, &decreases).iter().for_each(|p| style.mark(svg, panel.at(p.0, p.1), 2.8, true));
        }
    });

    let panel = Panel::new(frame(2), kinks, Axis::linear(-1.05, 1.05));
    let labels = Labels {
        title: "gradient agreement",
        x: "kinks per datapoint",
        y: "cosine before, after",
        ..Labels::default()
    };
    panel.draw(&mut svg, labels);
    panel.inside(&mut svg, |svg| {
        for (style, rows) in &series {
            let at = points(rows, &|row| Some((crossed(row)?, row.cosine?)));
            at.iter().for_each(|p| style.mark(svg, panel.at(p.0, p.1), 2.8, true));
        }
    });
    svg.finish("Kinks crossed by updates, actual against predicted decrease, and gradient agreement, per optimizer")
}
