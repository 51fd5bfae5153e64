//! Average regret of the neurons of each layer against rounds: the median neuron, and what nine of ten do not exceed.

use super::{
    Context, Figure, Series, WIDTH,
    regret::{self, Curve, LANE, Plot, Point},
    series_entries,
};
use crate::{
    report::draw::{
        palette::{BAND, MUTED},
        prelude::*,
    },
    study::{
        numbers::{count, number},
        results::{median, quantile},
        tables::{RegretRow, Scale},
    },
};
use std::collections::BTreeMap;

/// Draws one panel per optimizer (columns) and layer (rows).
pub fn draw(context: &Context) -> Figure {
    let layers = context.layers_at(Scale::Neuron);
    let mut notes: Vec<String> = context.lacking("regret.csv").into_iter().collect();
    let svg = if layers.is_empty() {
        Err(format!("no optimizer has rows in regret.csv at neuron scale for the {} comparator", context.comparator))
    } else {
        Ok(picture(context, &layers, &mut notes))
    };
    let caption = format!(
        "Average regret of single neurons after N rounds ({} comparator), one optimizer a column. Thick: the median \
         neuron of the layer. Thin and dashed: the regret that nine of ten neurons do not exceed, whatever lies \
         within their gaps. Grey: the theoretical rate 1/√N. A band above a median is what its gap leaves open.",
        context.comparator
    );
    Figure {
        id: "regret-neurons",
        heading: "Average regret: neurons",
        svg,
        caption,
        notes,
        sources: context.sources("regret.csv"),
    }
}

/// Median and 90% quantile of the neurons of one layer.
fn curve(context: &Context, series: &Series, layer: usize) -> Curve {
    let mut by_rounds: BTreeMap<usize, Vec<&RegretRow>> = BTreeMap::new();
    let rows = context.rows(series, Scale::Neuron);
    for row in rows.filter(|row| row.layer == Some(layer) && row.mean_regret.is_finite()) {
        by_rounds.entry(row.rounds).or_default().push(row);
    }
    let mut curve = Curve::default();
    for (rounds, rows) in by_rounds {
        // An unknown gap leaves all of the loss.
        let most = |row: &&RegretRow| {
            row.mean_regret + if row.gap.is_finite() { row.gap.max(0.0) } else { row.taylor_optimum.max(0.0) }
        };
        let Some(least) = median(rows.iter().map(|row| row.mean_regret)) else { continue };
        let middle = median(rows.iter().map(most)).unwrap_or(least);
        let upper = quantile(rows.iter().map(most), 0.9).unwrap_or(middle);
        let text = format!(
            "{}, layer {layer}, {} neurons, N = {}: median regret {}{}, 90% at most {}",
            series.name,
            rows.len(),
            count(rounds as u64),
            number(least),
            if middle - least > 0.1 * middle.abs() { format!(" to {}", number(middle)) } else { String::new() },
            number(upper)
        );
        curve.points.push(Point { rounds: rounds as f64, least, most: middle, text });
        curve.upper.push((rounds as f64, upper));
    }
    curve
}

fn picture(context: &Context, layers: &[usize], notes: &mut Vec<String>) -> Drawing {
    let columns = context.series.len();
    let width = WIDTH.max(76.0 + 150.0 * columns as f64);
    // A curve for one series, and empty ones for the others.
    let plot = |layer: usize, column: usize| {
        let of = |(i, series): (usize, &Series)| match i == column {
            true => curve(context, series, layer),
            false => Curve::default(),
        };
        Plot { title: context.layer_title(layer), curves: context.series.iter().enumerate().map(of).collect() }
    };
    let plots: Vec<Vec<Plot>> =
        layers.iter().map(|layer| (0..columns).map(|column| plot(*layer, column)).collect()).collect();
    let all: Vec<&Plot> = plots.iter().flatten().collect();
    let axes = regret::axes(&all, notes);
    let strip = if axes.hidden > 0 { LANE + 6.0 } else { 0.0 };
    let mut entries = series_entries(&context.series);
    entries.push(Entry::new(Sample::Line(Stroke::solid(MUTED, 1.0).dashed("4 2")), "90% of the neurons lie below"));
    if all.iter().any(|plot| regret::guide(&axes.y, plot).is_some()) {
        entries.push(Entry::new(Sample::Line(Stroke::solid(MUTED, 1.4)), "slope of 1/√N"));
    }
    let open = |p: &Point| p.most > 0.0 && p.most - p.least > 0.1 * p.most;
    if all.iter().flat_map(|plot| &plot.curves).flat_map(|curve| &curve.points).any(open) {
        entries.push(Entry::new(Sample::Patch(BAND.into()), "not certified: the regret may be larger"));
    }
    if axes.hidden > 0 {
        entries.push(Entry::new(Sample::Open, "zero, negative or below the axis"));
    }
    let head = legend::height(&entries, width - 20.0);
    let (left, gap_x, gap_y, height) = (66.0, 16.0, 30.0, 96.0);
    let cell = (width - left - 10.0 - gap_x * (columns as f64 - 1.0)) / columns as f64;
    let top = head + 50.0;
    let step = height + strip + gap_y;
    let end = top + plots.len() as f64 * step - gap_y;
    let mut svg = Svg::new("regret-neurons", width, end + 44.0);
    legend::draw(&mut svg, (10.0, 4.0), width - 20.0, &entries);
    for (i, row) in plots.iter().enumerate() {
        for (column, (plot, series)) in row.iter().zip(&context.series).enumerate() {
            let frame = Rect::new(left + column as f64 * (cell + gap_x), top + i as f64 * step, cell, height);
            if i == 0 {
                let style = Text::new(LABEL + 1.0, Anchor::Middle).bold().colored(series.style.color);
                svg.text((frame.x + cell / 2.0, head + 22.0), &series.name, style);
            }
            let panel = Panel::new(frame, axes.x, axes.y);
            regret::draw_panel(&mut svg, &context.series, &panel, plot, (column > 0, strip));
            if plot.curves[column].points.is_empty() {
                let at = (frame.x + cell / 2.0, frame.y + height / 2.0 + 4.0);
                svg.text(at, "not measured", Text::new(LABEL, Anchor::Middle));
            }
            if i + 1 == plots.len() {
                regret::x_numbers(&mut svg, &panel, strip);
            }
        }
    }
    let label = Text::new(LABEL, Anchor::Middle).rotated(-90.0);
    svg.text((16.0, 0.5 * (top + end)), "average regret, loss per round (log axis)", label);
    svg.finish("Average regret of the median neuron and of nine in ten, per optimizer and layer, on logarithmic axes")
}
