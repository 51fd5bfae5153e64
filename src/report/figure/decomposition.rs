//! The running mean loss split into Taylor optimum and regret, per scale and optimizer.

use super::{Context, Figure, WIDTH};
use crate::{
    report::draw::{
        axis::Axis,
        legend::{self, Entry, Sample},
        panel::{LABEL, Labels, Panel, cells},
        style::{INK, NEGATIVE, OPTIMUM, REGRET, UNSOLVED},
        svg::{Anchor, Rect, Stroke, Svg, Text},
    },
    study::{
        numbers::{count, number, percent},
        results::mean,
        tables::{RegretRow, Scale},
    },
};
use std::collections::BTreeMap;

/// A certified error above this share of the loss is drawn.
const SHOWN: f64 = 0.01;

/// One point of the split: prefix length, mean loss, Taylor optimum, and how low that may lie in truth.
#[derive(Clone, Copy, Debug)]
struct Point {
    rounds: f64,
    loss: f64,
    optimum: f64,
    least: f64,
}

impl Point {
    fn is_open(&self) -> bool {
        self.optimum - self.least > SHOWN * self.loss
    }
}

/// One row of panels.
struct Row {
    title: String,
    scale: Scale,
    layer: Option<usize>,
}

/// Draws one panel per optimizer (columns) and scale (rows).
pub fn draw(context: &Context) -> Figure {
    let mut notes: Vec<String> = context.lacking("regret.csv").into_iter().collect();
    let rows = rows(context);
    let svg = if rows.is_empty() {
        Err(format!("no optimizer has rows in regret.csv for the {} comparator", context.comparator))
    } else {
        Ok(picture(context, &rows, &mut notes))
    };
    let caption = format!(
        "Where the loss comes from. The black line is the mean loss of the first N rounds. Blue: the Taylor \
         optimum, what the smooth regions that training visited cost at their best fixed weights ({} \
         comparator). Orange: the regret, what the optimizer paid on top. Where the solver's certified error is \
         more than {} of the loss, the optimum may lie anywhere in the hatched part, and the regret be as \
         much larger. All panels share one loss axis; every prefix N has its own optimum.",
        context.comparator,
        percent(SHOWN)
    );
    Figure {
        id: "decomposition",
        heading: "Loss = Taylor optimum + regret",
        svg,
        caption,
        notes,
        sources: context.sources("regret.csv"),
    }
}

fn rows(context: &Context) -> Vec<Row> {
    let mut rows = Vec::new();
    if context.series.iter().any(|s| context.rows(s, Scale::Network).next().is_some()) {
        rows.push(Row { title: "whole network".into(), scale: Scale::Network, layer: None });
    }
    for layer in context.layers_at(Scale::Layer) {
        rows.push(Row { title: context.layer_title(layer), scale: Scale::Layer, layer: Some(layer) });
    }
    if !context.layers_at(Scale::Neuron).is_empty() {
        rows.push(Row { title: "mean over all neurons".into(), scale: Scale::Neuron, layer: None });
    }
    rows
}

fn points<'a>(rows: impl Iterator<Item = &'a RegretRow>) -> Vec<Point> {
    let mut by_prefix: BTreeMap<usize, Vec<&RegretRow>> = BTreeMap::new();
    for row in rows.filter(|row| row.mean_loss.is_finite() && row.taylor_optimum.is_finite()) {
        by_prefix.entry(row.rounds).or_default().push(row);
    }
    by_prefix
        .into_iter()
        .filter_map(|(rounds, rows)| {
            let loss = mean(rows.iter().map(|row| row.mean_loss))?;
            let optimum = mean(rows.iter().map(|row| row.taylor_optimum))?;
            let gap = mean(rows.iter().map(|row| if row.gap.is_finite() { row.gap } else { row.taylor_optimum }))?;
            Some(Point { rounds: rounds as f64, loss, optimum, least: (optimum - gap).max(0.0) })
        })
        .collect()
}

fn picture(context: &Context, rows: &[Row], notes: &mut Vec<String>) -> String {
    let columns = context.series.len();
    let width = WIDTH.max(80.0 + 150.0 * columns as f64);
    let data: Vec<Vec<Vec<Point>>> = rows
        .iter()
        .map(|row| {
            let of = |s| points(context.rows(s, row.scale).filter(|r| row.layer.is_none() || r.layer == row.layer));
            context.series.iter().map(of).collect()
        })
        .collect();
    let all = || data.iter().flatten().flatten();
    let negative = all().any(|p| p.optimum > p.loss);
    let mut entries = vec![
        Entry::new(Sample::Line(Stroke::solid(INK, 1.8)), "mean loss"),
        Entry::new(Sample::Patch(OPTIMUM.into()), "Taylor optimum"),
        Entry::new(Sample::Patch(REGRET.into()), "regret"),
    ];
    if negative {
        entries.push(Entry::new(Sample::Patch(NEGATIVE.into()), "negative regret (loss below the optimum)"));
    }
    let open = all().any(Point::is_open);
    if open {
        entries.push(Entry::new(Sample::Patch(UNSOLVED.into()), "not certified: optimum or regret"));
    }
    let head = legend::height(&entries, width - 20.0);
    let top = head + 52.0;
    let (gap_x, gap_y, height) = (16.0, 30.0, 74.0);
    let cell_width = (width - 72.0 - gap_x * (columns as f64 - 1.0)) / columns as f64;
    let total = top + rows.len() as f64 * (height + gap_y) + 16.0;
    let mut svg = Svg::new("decomposition", width, total);
    legend::draw(&mut svg, (10.0, 4.0), width - 20.0, &entries);
    let hatches = Hatches { negative: svg.hatch(NEGATIVE), open: svg.hatch(UNSOLVED) };

    let last = all().map(|p| p.rounds).fold(1.0, f64::max);
    let first = all().map(|p| p.rounds).fold(last, f64::min);
    let highest = all().map(|p| p.loss.max(p.optimum)).fold(0.0, f64::max);
    // A diverged optimizer must not flatten the others: the axis ends at twice the largest first loss.
    let start = data.iter().flatten().filter_map(|p| p.first()).map(|p| p.loss).fold(0.0, f64::max);
    let ceiling = 2.0 * start;
    let y = Axis::from_zero(if ceiling > 0.0 && highest > ceiling { ceiling } else { highest });
    if highest > y.max {
        notes.push(format!("Values up to {} lie above the frames.", number(highest)));
    }
    let x = Axis::log(first, last).whole();
    let frames = cells((62.0, top), (cell_width, height), (gap_x, gap_y), columns, columns * rows.len());
    for (i, frame) in frames.iter().enumerate() {
        let (row, column) = (i / columns, i % columns);
        let points = &data[row][column];
        let series = &context.series[column];
        if row == 0 {
            let at = (frame.x + frame.width / 2.0, head + 24.0);
            svg.text(at, &series.name, Text::new(LABEL + 1.0, Anchor::Middle).bold().colored(series.style.color));
        }
        let panel = Panel::new(*frame, x, y);
        let bottom = row + 1 == rows.len();
        panel.draw(
            &mut svg,
            Labels {
                title: &rows[row].title,
                x: if bottom { "rounds N (log axis)" } else { "" },
                y: "",
                hide_x: !bottom,
                hide_y: column > 0,
            },
        );
        if points.is_empty() {
            let at = (frame.x + frame.width / 2.0, frame.y + frame.height / 2.0 + 4.0);
            svg.text(at, "not measured", Text::new(LABEL, Anchor::Middle));
            continue;
        }
        panel.inside(&mut svg, |svg| stack(svg, &panel, points, &hatches));
        if points.len() == 1 {
            bar(&mut svg, &panel, points[0], &hatches);
        }
    }
    let middle = top + 0.5 * (rows.len() as f64 * (height + gap_y) - gap_y);
    svg.text((16.0, middle), "mean loss per round", Text::new(LABEL, Anchor::Middle).rotated(-90.0));
    let fewest = data.iter().flatten().map(Vec::len).filter(|n| *n > 0).min().unwrap_or(0);
    if fewest == 1 {
        notes.push("A bar instead of an area: only one prefix was analysed.".into());
    }
    if let Some(widest) = unequal_windows(&data) {
        notes.push(widest);
    }
    svg.finish("Mean loss split into Taylor optimum and regret, one column per optimizer and one row per scale")
}

/// A note when scales were analysed over different numbers of rounds.
fn unequal_windows(data: &[Vec<Vec<Point>>]) -> Option<String> {
    let ends = || data.iter().flatten().filter_map(|points| points.last()).map(|p| p.rounds as u64);
    let (least, most) = (ends().min()?, ends().max()?);
    (least < most).then(|| {
        format!(
            "The analyses end at different rounds, from {} to {}: large scales use a window of the first \
             rounds, and an optimizer may have stopped early.",
            count(least),
            count(most)
        )
    })
}

/// Fills for what is not plain.
struct Hatches {
    negative: String,
    open: String,
}

/// Optimum from zero, regret between optimum and loss, and both lines on top.
fn stack(svg: &mut Svg, panel: &Panel, points: &[Point], hatches: &Hatches) {
    if points.len() < 2 {
        return;
    }
    let floor = panel.at(1.0, 0.0).1;
    let losses: Vec<(f64, f64)> = points.iter().map(|p| panel.at(p.rounds, p.loss)).collect();
    let optima: Vec<(f64, f64)> = points.iter().map(|p| panel.at(p.rounds, p.optimum)).collect();
    let mut area = vec![(optima[0].0, floor)];
    area.extend(&optima);
    area.push((optima[optima.len() - 1].0, floor));
    svg.polygon(&area, OPTIMUM, 0.75);
    for (upper, lower, positive) in bands(&losses, &optima) {
        let outline: Vec<(f64, f64)> = upper.into_iter().chain(lower.into_iter().rev()).collect();
        let fill = if positive { REGRET } else { &hatches.negative };
        svg.polygon(&outline, fill, if positive { 0.8 } else { 1.0 });
    }
    for pair in points.windows(2).filter(|pair| pair.iter().any(Point::is_open)) {
        let corner = |p: &Point, value: f64| panel.at(p.rounds, value);
        let [a, b] = [&pair[0], &pair[1]];
        let outline = [corner(a, a.optimum), corner(b, b.optimum), corner(b, b.least), corner(a, a.least)];
        svg.polygon(&outline, &hatches.open, 1.0);
    }
    svg.polyline(&optima, Stroke::solid("#0072b2", 1.2));
    svg.polyline(&losses, Stroke::solid(INK, 1.8));
}

type Points = Vec<(f64, f64)>;

/// The stretches between two lines over the same abscissas in which the first is above the second or below it.
fn bands(losses: &[(f64, f64)], optima: &[(f64, f64)]) -> Vec<(Points, Points, bool)> {
    let mut bands: Vec<(Points, Points, bool)> = Vec::new();
    // Pixels grow downwards: the loss is above the optimum where its ordinate is smaller.
    let above = |i: usize| losses[i].1 <= optima[i].1;
    for i in 0..losses.len() {
        if i == 0 || above(i) != above(i - 1) {
            let mut next = (Vec::new(), Vec::new(), above(i));
            if let Some((upper, lower, _)) = bands.last_mut() {
                let (before, after) = (optima[i - 1].1 - losses[i - 1].1, optima[i].1 - losses[i].1);
                let share = before / (before - after);
                let mix = |a: (f64, f64), b: (f64, f64)| (a.0 + share * (b.0 - a.0), a.1 + share * (b.1 - a.1));
                let crossing = mix(losses[i - 1], losses[i]);
                upper.push(crossing);
                lower.push(crossing);
                next.0.push(crossing);
                next.1.push(crossing);
            }
            bands.push(next);
        }
        if let Some((upper, lower, _)) = bands.last_mut() {
            upper.push(losses[i]);
            lower.push(optima[i]);
        }
    }
    bands
}

/// The split at a single prefix, as a bar in the middle of the panel.
fn bar(svg: &mut Svg, panel: &Panel, point: Point, hatches: &Hatches) {
    let center = panel.frame.x + panel.frame.width / 2.0;
    let pixel = |value: f64| panel.at(1.0, value).1.max(panel.frame.y);
    let (floor, optimum, loss) = (panel.frame.bottom(), pixel(point.optimum), pixel(point.loss));
    svg.rect(Rect::new(center - 20.0, optimum, 40.0, (floor - optimum).max(0.0)), OPTIMUM, None);
    if point.is_open() {
        svg.rect(Rect::new(center - 20.0, optimum, 40.0, pixel(point.least) - optimum), &hatches.open, None);
    }
    let fill = if loss <= optimum { REGRET } else { &hatches.negative };
    svg.rect(Rect::new(center - 20.0, loss.min(optimum), 40.0, (loss - optimum).abs()), fill, None);
    svg.line((center - 26.0, loss), (center + 26.0, loss), Stroke::solid(INK, 1.8));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_meet_where_the_lines_cross() {
        let losses = [(0.0, 0.0), (1.0, 2.0), (2.0, 2.0)];
        let optima = [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0)];
        let bands = bands(&losses, &optima);
        assert_eq!(bands.len(), 2);
        assert!(bands[0].2 && !bands[1].2);
        assert_eq!(bands[0].0, [(0.0, 0.0), (0.5, 1.0)]);
        assert_eq!(bands[1].1, [(0.5, 1.0), (1.0, 1.0), (2.0, 1.0)]);
    }
}
