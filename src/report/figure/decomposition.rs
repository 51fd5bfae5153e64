//! The running mean loss split into Taylor optimum and regret, per layer and optimizer.

use super::{
    Context, Figure, Series, WIDTH,
    split::{Hatches, Part},
};
use crate::{
    report::{
        certified::{regret, share_in_words},
        draw::{
            palette::{INK, MUTED, OPTIMUM, REGRET},
            prelude::*,
        },
    },
    study::{
        numbers::{count, number},
        tables::{RegretRow, RunStatus, Scale},
    },
};
use std::collections::BTreeMap;

/// The loss axis ends at the mean loss of about this many rounds: the first ones are far above what follows.
const EARLY: f64 = 30.0;
/// Or of this share of the rounds, in short runs.
const EARLY_SHARE: f64 = 0.2;

/// The split of the first `rounds` rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    rounds: f64,
    part: Part,
}

/// One row of panels.
struct Row {
    title: String,
    scale: Scale,
    layer: Option<usize>,
}

/// Draws one panel per optimizer (columns) and unit (rows).
pub fn draw(context: &Context) -> Figure {
    let mut notes: Vec<String> = context.lacking("regret.csv").into_iter().collect();
    let rows = rows(context);
    let svg = if rows.is_empty() {
        Err(format!(
            "no optimizer has rows in regret.csv at network or layer scale for the {} comparator",
            context.comparator
        ))
    } else {
        Ok(picture(context, &rows, &mut notes))
    };
    let caption = format!(
        "The split during training ({} comparator). The black line is the mean loss of the first N rounds. Below it \
         lie the Taylor optimum of these rounds and the regret; every N has its own optimum. The hatched part is not \
         certified: it may be optimum or regret. The numbers say which share of the last mean loss is regret.",
        context.comparator
    );
    Figure {
        id: "decomposition",
        heading: "Taylor optimum and regret during training",
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
    rows
}

/// The points of one unit, by rounds.
fn points<'a>(rows: impl Iterator<Item = &'a RegretRow>) -> Vec<Point> {
    let by_rounds: BTreeMap<usize, Part> = rows
        .filter_map(|row| Part::new(row.mean_loss, row.taylor_optimum, row.gap).map(|part| (row.rounds, part)))
        .collect();
    by_rounds.into_iter().map(|(rounds, part)| Point { rounds: rounds as f64, part }).collect()
}

/// Where the loss axis ends: the largest of the mean losses at the end of the early rounds.
fn ceiling<'a>(curves: impl Iterator<Item = &'a Vec<Point>>) -> Option<f64> {
    let of = |points: &Vec<Point>| {
        let last = points.last()?.rounds;
        let early = EARLY.min(EARLY_SHARE * last);
        points.iter().find(|point| point.rounds >= early).map(|point| point.part.loss)
    };
    curves.filter_map(of).max_by(f64::total_cmp)
}

/// The points of every row (a unit) and column (an optimizer).
type Data = Vec<Vec<Vec<Point>>>;

fn data_of(context: &Context, rows: &[Row]) -> Data {
    rows.iter()
        .map(|row| {
            let of = |s| points(context.rows(s, row.scale).filter(|r| row.layer.is_none() || r.layer == row.layer));
            context.series.iter().map(of).collect()
        })
        .collect()
}

fn all(data: &Data) -> impl Iterator<Item = &Point> {
    data.iter().flatten().flatten()
}

fn entries(data: &Data, hatches: &Hatches) -> Vec<Entry> {
    let mut entries = vec![
        Entry::new(Sample::Line(Stroke::solid(INK, 1.8)), "mean loss"),
        Entry::new(Sample::Patch(OPTIMUM.into()), "Taylor optimum"),
        Entry::new(Sample::Patch(REGRET.into()), "regret"),
    ];
    if all(data).any(|p| p.part.least() > p.part.loss) {
        entries.push(Entry::new(Sample::Patch(hatches.negative.clone()), "negative regret (loss below the optimum)"));
    }
    if all(data).any(|p| p.part.is_open()) {
        entries.push(Entry::new(Sample::Patch(hatches.open.clone()), "not certified: optimum or regret"));
    }
    entries
}

/// The axis of losses, which leaves out those of the first rounds; a note says so.
fn loss_axis(context: &Context, data: &Data, notes: &mut Vec<String>) -> Axis {
    let columns = context.series.len();
    let highest = all(data).map(|p| p.part.loss.max(p.part.optimum)).fold(0.0, f64::max);
    // A diverged optimizer must not flatten the others.
    let failed = |column: &usize| context.series[*column].tables.summary.status == RunStatus::Failed;
    let sound: Vec<usize> = (0..columns).filter(|column| !failed(column)).collect();
    let early = ceiling(data.iter().flat_map(|row| sound.iter().map(move |column| &row[*column])))
        .or_else(|| ceiling(data.iter().flatten()));
    let axis = Axis::from_zero((1.1 * early.unwrap_or(highest)).min(highest));
    if highest > axis.max {
        let diverged = if sound.len() < columns { ", and of an optimizer that diverged" } else { "" };
        notes.push(format!(
            "Mean losses up to {} lie above the frames: those of the first rounds{diverged}.",
            number(highest)
        ));
    }
    axis
}

/// What a reader must know of the points.
fn remarks(data: &Data) -> Vec<String> {
    let mut notes = Vec::new();
    let most = data.iter().flatten().map(Vec::len).max().unwrap_or(0);
    if data.iter().flatten().any(|points| points.len() == 1) {
        notes.push("A bar instead of an area: only one prefix was analysed.".into());
    }
    let hidden = all(data).filter(|p| p.part.nothing_certified()).count();
    if hidden > 0 && most > 1 {
        notes.push(format!(
            "At {} of {} points nothing is certified: the search ended before its bound said more than that losses \
             are not negative. Their optima are not drawn.",
            count(hidden as u64),
            count(all(data).count() as u64)
        ));
    }
    notes.extend(unequal_windows(data));
    notes
}

/// Gaps between columns and between rows.
const GAPS: (f64, f64) = (16.0, 30.0);

fn picture(context: &Context, rows: &[Row], notes: &mut Vec<String>) -> Drawing {
    let columns = context.series.len() as f64;
    let width = WIDTH.max(80.0 + 150.0 * columns);
    let data = data_of(context, rows);
    let mut svg = Svg::new("decomposition", width, 0.0);
    let hatches = Hatches::new(&mut svg);
    let entries = entries(&data, &hatches);
    let head = legend::height(&entries, width - 20.0);
    legend::draw(&mut svg, (10.0, 4.0), width - 20.0, &entries);
    let top = head + 52.0;
    let cell = (width - 72.0 - GAPS.0 * (columns - 1.0)) / columns;
    let last = all(&data).map(|p| p.rounds).fold(1.0, f64::max);
    let axes = (Axis::linear(0.0, last).whole(), loss_axis(context, &data, notes));
    let mut corner = top;
    for (i, (row, data)) in rows.iter().zip(&data).enumerate() {
        let height = if row.scale == Scale::Network { 130.0 } else { 70.0 };
        for (column, (points, series)) in data.iter().zip(&context.series).enumerate() {
            let frame = Rect::new(62.0 + column as f64 * (cell + GAPS.0), corner, cell, height);
            let panel = Panel::new(frame, axes.0, axes.1);
            let edges =
                Edges { name_at: (i == 0).then_some(head + 24.0), left: column == 0, bottom: i + 1 == rows.len() };
            svg.series(&series.name, |svg| cell_of(svg, &panel, row, series, points, &edges, &hatches));
        }
        corner += height + GAPS.1;
    }
    let middle = 0.5 * (top + corner - GAPS.1);
    svg.text((16.0, middle), "mean loss per round", Text::new(LABEL, Anchor::Middle).rotated(-90.0));
    svg.resize(corner + 16.0);
    notes.extend(remarks(&data));
    svg.finish("Mean loss split into Taylor optimum and regret, one column per optimizer and one row per unit")
}

/// What a panel has at the edges of the figure.
struct Edges {
    /// The height at which the optimizer's name stands, above the first row.
    name_at: Option<f64>,
    left: bool,
    bottom: bool,
}

/// The panel of one unit and one optimizer.
fn cell_of(
    svg: &mut Svg,
    panel: &Panel,
    row: &Row,
    series: &Series,
    points: &[Point],
    edges: &Edges,
    hatches: &Hatches,
) {
    if let Some(y) = edges.name_at {
        let style = Text::new(LABEL + 1.0, Anchor::Middle).bold().colored(series.style.color);
        svg.text((panel.frame.x + panel.frame.width / 2.0, y), &series.name, style);
    }
    let x = if edges.bottom { "rounds N" } else { "" };
    panel.draw(svg, Labels { title: &row.title, x, y: "", hide_x: !edges.bottom, hide_y: !edges.left });
    draw_panel(svg, panel, points, hatches);
    let name = |point: &Point| format!("{}, {}, N = {}", series.name, row.title, count(point.rounds as u64));
    answers(svg, panel, points, name);
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

fn draw_panel(svg: &mut Svg, panel: &Panel, points: &[Point], hatches: &Hatches) {
    let frame = panel.frame;
    let Some(last) = points.last() else {
        let at = (frame.x + frame.width / 2.0, frame.y + frame.height / 2.0 + 4.0);
        svg.text(at, "not measured", Text::new(LABEL, Anchor::Middle));
        return;
    };
    panel.inside(svg, |svg| match points {
        [point] => bar(svg, panel, point, hatches),
        _ => stack(svg, panel, points, hatches),
    });
    let text = match last.part.nothing_certified() {
        true => "nothing certified".to_owned(),
        false => {
            let Part { loss, optimum, gap } = last.part;
            format!("regret {}", share_in_words(regret(loss, optimum, gap), loss))
        }
    };
    svg.label((frame.right() - 6.0, frame.y + 13.0), &text, Text::new(TICK, Anchor::End).colored(MUTED));
}

/// Neighbouring points with those between them at which the loss crosses an end of the optimum's interval.
fn refined(points: &[Point]) -> Vec<Point> {
    let mut all = Vec::new();
    for pair in points.windows(2) {
        let [a, b] = [pair[0], pair[1]];
        let crossing = |height: fn(&Part) -> f64| {
            let (before, after) = (height(&a.part), height(&b.part));
            (before * after < 0.0).then(|| before / (before - after))
        };
        let mut shares: Vec<f64> =
            [crossing(|part| part.regret()), crossing(|part| part.most_regret())].into_iter().flatten().collect();
        shares.sort_by(f64::total_cmp);
        all.push(a);
        all.extend(shares.into_iter().map(|t| {
            let mix = |value: fn(&Part) -> f64| value(&a.part) + t * (value(&b.part) - value(&a.part));
            let (optimum, least) = (mix(|part| part.optimum), mix(Part::least));
            let part = Part { loss: mix(|part| part.loss), optimum, gap: optimum - least };
            Point { rounds: a.rounds + t * (b.rounds - a.rounds), part }
        }));
    }
    all.extend(points.last());
    all
}

/// Certified optimum, what is not certified, and regret, from the bottom; the mean loss on top.
fn stack(svg: &mut Svg, panel: &Panel, points: &[Point], hatches: &Hatches) {
    // Stretches that are certified, and those with an end that is not at all, in turn.
    let unknown = |pair: &[Point]| pair.iter().any(|point| point.part.nothing_certified());
    let pairs: Vec<&[Point]> = points.windows(2).collect();
    let mut start = 0;
    for run in pairs.chunk_by(|a, b| unknown(a) == unknown(b)) {
        let stretch = refined(&points[start..=start + run.len()]);
        start += run.len();
        let mut area = |upper: fn(&Part) -> f64, lower: fn(&Part) -> f64, fill: &str| {
            let line = |value: fn(&Part) -> f64| stretch.iter().map(move |p| panel.at(p.rounds, value(&p.part)));
            if stretch.iter().any(|p| upper(&p.part) > lower(&p.part)) {
                let outline: Vec<(f64, f64)> = line(upper).chain(line(lower).rev()).collect();
                svg.polygon(&outline, fill, 1.0);
            }
        };
        if unknown(run[0]) {
            // An upper bound that nothing supports from below shows the search and not the training.
            area(|part| part.loss, |_| 0.0, &hatches.open);
        } else {
            area(|part| part.least().min(part.loss), |_| 0.0, OPTIMUM);
            area(|part| part.optimum.max(part.least()), Part::least, &hatches.open);
            area(|part| part.loss.max(part.optimum), |part| part.optimum, REGRET);
            area(|part| part.least().max(part.loss), |part| part.loss, &hatches.negative);
        }
    }
    let losses: Vec<(f64, f64)> = points.iter().map(|p| panel.at(p.rounds, p.part.loss)).collect();
    svg.polyline(&losses, Stroke::solid(INK, 1.8));
}

/// The split at a single prefix, as a bar in the middle of the panel.
fn bar(svg: &mut Svg, panel: &Panel, point: &Point, hatches: &Hatches) {
    let center = panel.frame.x + panel.frame.width / 2.0;
    let pixel = |value: f64| panel.at(1.0, value).1.max(panel.frame.y);
    let part = point.part;
    let mut stretch = |from: f64, to: f64, fill: &str| {
        if to > from {
            svg.rect(Rect::new(center - 20.0, pixel(to), 40.0, pixel(from) - pixel(to)), fill, None);
        }
    };
    stretch(0.0, part.least().min(part.loss), OPTIMUM);
    stretch(part.loss, part.least(), &hatches.negative);
    stretch(part.least(), part.optimum, &hatches.open);
    stretch(part.optimum, part.loss, REGRET);
    let loss = pixel(part.loss);
    svg.line((center - 26.0, loss), (center + 26.0, loss), Stroke::solid(INK, 1.8));
}

/// A strip around every point that says its numbers.
fn answers(svg: &mut Svg, panel: &Panel, points: &[Point], name: impl Fn(&Point) -> String) {
    let frame = panel.frame;
    let place = |i: usize| panel.at(points[i].rounds, 0.0).0;
    svg.unseen(|svg| {
        for (i, point) in points.iter().enumerate() {
            let from = if i == 0 { frame.x } else { 0.5 * (place(i - 1) + place(i)) };
            let to = if i + 1 == points.len() { frame.right() } else { 0.5 * (place(i) + place(i + 1)) };
            let rect = Rect::new(from, frame.y, (to - from).max(0.0), frame.height);
            svg.hit_rect(rect, &format!("{}: {}", name(point), point.part.in_words()));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(rounds: f64, loss: f64, optimum: f64, gap: f64) -> Point {
        Point { rounds, part: Part::new(loss, optimum, gap).unwrap() }
    }

    fn drawn(points: &[Point]) -> Drawing {
        let panel = Panel::new(Rect::new(0.0, 0.0, 100.0, 100.0), Axis::linear(0.0, 100.0), Axis::linear(0.0, 1.0));
        let mut svg = Svg::new("x", 100.0, 100.0);
        let hatches = Hatches::new(&mut svg);
        stack(&mut svg, &panel, points, &hatches);
        svg.finish("x")
    }

    #[test]
    fn where_nothing_is_certified_all_below_the_loss_is_hatched() {
        let certified = drawn(&[point(0.0, 0.8, 0.5, 0.0), point(100.0, 0.8, 0.5, 0.0)]);
        assert!(certified.contains(OPTIMUM) && certified.contains(REGRET));
        let unknown = drawn(&[point(0.0, 0.8, 0.5, 0.0), point(100.0, 0.8, 0.5, 0.5)]);
        assert!(!unknown.contains(OPTIMUM) && !unknown.contains(REGRET));
        assert!(unknown.contains(r#"<path d="M0 20L100 20L100 100L0 100Z" fill="url(#x-2)""#), "{unknown}");
    }

    #[test]
    fn areas_meet_where_the_loss_crosses_the_optimum() {
        let points = refined(&[point(0.0, 0.8, 0.4, 0.0), point(100.0, 0.4, 0.8, 0.0)]);
        assert_eq!(points.len(), 4, "both ends of the interval are crossed");
        assert!((points[1].rounds - 50.0).abs() < 1e-9 && points[1].part.regret().abs() < 1e-9);
    }

    #[test]
    fn the_axis_ends_where_the_early_rounds_do() {
        let run = vec![point(1.0, 9.0, 1.0, 0.0), point(30.0, 2.0, 1.0, 0.0), point(200.0, 1.0, 0.5, 0.0)];
        let short = vec![point(1.0, 9.0, 1.0, 0.0), point(4.0, 3.0, 1.0, 0.0), point(10.0, 1.0, 1.0, 0.0)];
        assert_eq!(ceiling([&run].into_iter()), Some(2.0));
        assert_eq!(ceiling([&run, &short].into_iter()), Some(3.0), "a fifth of a short run");
    }
}
