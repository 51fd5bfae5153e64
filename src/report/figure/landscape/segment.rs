//! The function along a segment, its gradient, and its kinks (figure 1 of the paper).

use super::roomy;
use crate::{
    report::{
        draw::{
            axis::Axis,
            legend::{self, Entry, Sample},
            panel::{LABEL, Labels, Panel, TICK},
            style::{FRAME, INK, MUTED, Marker, SeriesStyle},
            svg::{Anchor, Rect, Stroke, Svg, Text, pixels},
        },
        figure::{Figure, WIDTH},
    },
    study::{
        landscape::{
            LandscapeTables,
            rows::{PieceRow, SegmentSummary, StepRow},
        },
        numbers::{count, counted, number},
    },
};
use std::{collections::BTreeMap, fmt::Write};

const TRUE: Stroke<'static> = Stroke { color: "#0072b2", width: 1.8, dash: "", opacity: 1.0 };
const TAYLOR: Stroke<'static> = Stroke { color: "#d55e00", width: 1.6, dash: "6 3", opacity: 1.0 };
const STEP: SeriesStyle = SeriesStyle { color: "#009e73", dash: "", marker: Marker::Diamond };

/// One end of a piece: place, value, slope.
type End = (f64, f64, f64);

/// What the figure shows of each piece.
struct Shown {
    /// The function and its Taylor approximation, at both ends of each piece.
    pieces: Vec<([End; 2], [End; 2])>,
    name: String,
}

impl Shown {
    fn of(tables: &LandscapeTables, segment: &SegmentSummary) -> Shown {
        let summary = &tables.summary;
        let along_input = summary.along == "input";
        let ends = |row: &PieceRow| -> ([End; 2], [End; 2]) {
            if along_input {
                let tangent = |t: f64| (t, summary.start + t * segment.start_slope, segment.start_slope);
                let of = [(row.from, row.output, row.output_slope), (row.to, row.output_end, row.output_slope_end)];
                (of, [tangent(row.from), tangent(row.to)])
            } else {
                let of = [(row.from, row.loss, row.slope), (row.to, row.loss_end, row.slope_end)];
                let taylor = [(row.from, row.taylor, row.taylor_slope), (row.to, row.taylor_end, row.taylor_slope_end)];
                (of, taylor)
            }
        };
        let name = if along_input { format!("output {}", summary.output) } else { "loss".to_owned() };
        Shown { pieces: tables.pieces.iter().map(ends).collect(), name }
    }
}

/// Draws function, gradient and kinks along the segment.
pub fn draw(tables: &LandscapeTables, segment: &SegmentSummary) -> Figure {
    let summary = &tables.summary;
    let shown = Shown::of(tables, segment);
    let mut notes = Vec::new();
    let svg = if shown.pieces.is_empty() { Err("pieces.csv has no rows".into()) } else { Ok(picture(tables, &shown)) };
    let outside = tables.steps.iter().filter(|step| step.at < summary.from || step.at > summary.to).count();
    if outside > 0 {
        notes.push(format!(
            "{} of {} neighbouring rounds lie beyond the ends of the segment; steps.csv has them.",
            outside,
            tables.steps.len()
        ));
    }
    if let Some(farthest) = tables.steps.iter().map(|step| step.distance).max_by(f64::total_cmp)
        && farthest > 0.0
    {
        notes.push(format!(
            "The rounds' weights lie beside the segment, up to {} of its unit away: their losses (diamonds) need not \
             lie on the curve.",
            number(farthest)
        ));
    }
    let what = match (summary.along.as_str(), summary.datapoints.len()) {
        ("input", _) => format!("output {} of the network between two datapoints", summary.output),
        (_, 1) => format!("the loss of datapoint {}", summary.datapoints[0]),
        (_, n) => format!("the mean loss of {}", counted(n, "datapoint")),
    };
    let caption = format!(
        "Along {}: {what} (top), its derivative (middle) and the kinks, each in the row of the layer whose unit causes \
         it (bottom). Dashed: the Taylor approximation of t = 0. {} and {} between {} and {}; {}. The weights are those of {}.",
        summary.along,
        counted(segment.kinks, "kink"),
        counted(summary.pieces, "piece"),
        number(summary.from),
        number(summary.to),
        summary.method,
        summary.subject
    );
    let mut sources = vec!["pieces.csv".to_owned(), "kinks.csv".to_owned()];
    if !tables.steps.is_empty() {
        sources.push("steps.csv".to_owned());
    }
    Figure { id: "segment", heading: "Function, gradient and kinks", svg, caption, notes, sources }
}

/// Points of the cubic with these ends, which is exact for quadratic and cubic pieces; more of them on wide pieces.
fn cubic([a, b]: [End; 2], most: usize) -> Vec<(f64, f64)> {
    let h = b.0 - a.0;
    (0..=most)
        .map(|i| {
            let u = i as f64 / most as f64;
            let (s, v) = (u * u * (3.0 - 2.0 * u), 1.0 - u);
            let value = a.1 * (1.0 - s) + b.1 * s + h * (a.2 * u * v * v - b.2 * u * u * v);
            (a.0 + u * h, value)
        })
        .collect()
}

fn picture(tables: &LandscapeTables, shown: &Shown) -> String {
    let summary = &tables.summary;
    let inside = |step: &&StepRow| step.at >= summary.from && step.at <= summary.to;
    let steps: Vec<&StepRow> = tables.steps.iter().filter(inside).collect();
    let mut entries = vec![
        Entry::new(Sample::Line(TRUE), format!("{}, exact", shown.name)),
        Entry::new(Sample::Line(TAYLOR), "Taylor approximation of t = 0"),
    ];
    if !steps.is_empty() {
        entries.push(Entry::new(Sample::Marker(STEP), "weights of neighbouring rounds"));
    }
    let mut layers: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for kink in &tables.kinks {
        layers.entry(kink.layer).or_default().push(kink.at);
    }
    let rows = layers.len().max(1);
    let (left, width) = (86.0, WIDTH - 86.0 - 74.0);
    let top = legend::height(&entries, WIDTH - 20.0) + 22.0;
    let (main, gradient, row) = (210.0, 140.0, 20.0);
    let (second, third) = (top + main + 18.0, top + main + gradient + 36.0);
    let mut svg = Svg::new("segment", WIDTH, third + rows as f64 * row + 44.0);
    legend::draw(&mut svg, (10.0, 4.0), WIDTH - 20.0, &entries);

    let x = Axis::linear(summary.from, summary.to);
    let length = (summary.to - summary.from).max(f64::MIN_POSITIVE);
    let sampled = |ends: &[End; 2]| cubic(*ends, ((60.0 * (ends[1].0 - ends[0].0) / length).ceil() as usize).max(1));
    let curve: Vec<(f64, f64)> = shown.pieces.iter().flat_map(|(ends, _)| sampled(ends)).collect();
    let approximation: Vec<(f64, f64)> = shown.pieces.iter().flat_map(|(_, ends)| sampled(ends)).collect();
    let lowest = curve.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let highest = curve.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
    let room = 0.5 * (highest - lowest);
    // The approximation may leave for infinity; it is shown as far as it says something about the function.
    let near = |value: f64| value.clamp(lowest - room, highest + room);
    let all = curve
        .iter()
        .map(|p| p.1)
        .chain(approximation.iter().map(|p| near(p.1)))
        .chain(steps.iter().map(|step| near(step.loss)));
    let panel = Panel::new(Rect::new(left, top, width, main), x, roomy(all, 0.04));
    panel.draw(&mut svg, Labels { y: &shown.name, hide_x: true, ..Labels::default() });
    panel.inside(&mut svg, |svg| {
        origin(svg, &panel);
        panel.curve(svg, &curve, TRUE);
        panel.curve(svg, &approximation, TAYLOR);
        for step in &steps {
            STEP.mark(svg, panel.at(step.at, step.loss), 3.6, true);
        }
    });
    label_steps(&mut svg, &panel, &steps);

    let slopes: Vec<(f64, f64)> = shown.pieces.iter().flat_map(|(ends, _)| ends.map(|end| (end.0, end.2))).collect();
    let taylor_slopes: Vec<(f64, f64)> =
        shown.pieces.iter().flat_map(|(_, ends)| ends.map(|end| (end.0, end.2))).collect();
    let panel = Panel::new(
        Rect::new(left, second, width, gradient),
        x,
        roomy(slopes.iter().map(|p| p.1).chain([slope_at_zero(shown)]), 0.06),
    );
    panel.draw(&mut svg, Labels { y: "derivative", hide_x: true, ..Labels::default() });
    panel.inside(&mut svg, |svg| {
        origin(svg, &panel);
        panel.curve(svg, &slopes, Stroke { width: 1.2, ..TRUE });
        panel.curve(svg, &taylor_slopes, Stroke { width: 1.2, ..TAYLOR });
    });

    kinks(&mut svg, &layers, Rect::new(left, third, width, rows as f64 * row), x, &summary.parameter);
    svg.finish("A function along a segment, its derivative, and its kinks by layer")
}

/// The derivative of the approximation nearest to `t = 0`, so that it lies in the frame.
fn slope_at_zero(shown: &Shown) -> f64 {
    let starts = shown.pieces.iter().map(|(_, ends)| ends[0]);
    starts.min_by(|a, b| a.0.abs().total_cmp(&b.0.abs())).map_or(0.0, |end| end.2)
}

/// A thin line where the segment's parameter is zero.
fn origin(svg: &mut Svg, panel: &Panel) {
    if panel.x.min < 0.0 && panel.x.max > 0.0 {
        let at = panel.at(0.0, panel.y.min).0;
        svg.line((at, panel.frame.y), (at, panel.frame.bottom()), Stroke::solid(FRAME, 0.8).dashed("2 3"));
    }
}

/// Writes the rounds above their markers, where no other marker is.
fn label_steps(svg: &mut Svg, panel: &Panel, steps: &[&StepRow]) {
    let places: Vec<(f64, f64)> = steps.iter().map(|step| panel.at(step.at, step.loss)).collect();
    for (i, (step, (x, y))) in steps.iter().zip(&places).enumerate() {
        let free = |(j, (u, v)): (usize, &(f64, f64))| j == i || (u - x).abs() > 16.0 || *v > y + 4.0 || *v < y - 26.0;
        if places.iter().enumerate().all(free) && *y > panel.frame.y + 18.0 && *y < panel.frame.bottom() {
            let style = Text::new(TICK - 1.0, Anchor::Middle).colored(STEP.color);
            svg.label((*x, y - 8.0), &count(step.round as u64), style);
        }
    }
}

/// A row of ticks for each layer, with its number of kinks at the end.
fn kinks(svg: &mut Svg, layers: &BTreeMap<usize, Vec<f64>>, frame: Rect, x: Axis, label: &str) {
    let panel = Panel::new(frame, x, Axis::linear(0.0, 1.0));
    svg.rect(frame, "#ffffff", Some(Stroke::solid(FRAME, 1.0)));
    let height = frame.height / layers.len().max(1) as f64;
    for (i, (layer, at)) in layers.iter().enumerate() {
        let y = frame.y + i as f64 * height;
        let middle = y + height / 2.0 + 4.0;
        svg.text((frame.x - 8.0, middle), &format!("layer {layer}"), Text::new(TICK, Anchor::End).colored(INK));
        svg.text(
            (frame.right() + 8.0, middle),
            &counted(at.len(), "kink"),
            Text::new(TICK, Anchor::Start).colored(MUTED),
        );
        let mut ticks = String::new();
        let mut last = f64::NEG_INFINITY;
        for t in at {
            let place = panel.at(*t, 0.0).0;
            // More than four ticks a pixel cannot be seen.
            if place - last > 0.25 {
                let _ = write!(ticks, "M{} {}V{}", pixels(place), pixels(y + 4.0), pixels(y + height - 4.0));
                last = place;
            }
        }
        let color = SeriesStyle::of(i).color;
        svg.shape(&ticks, "none", Stroke::solid(color, 0.9).faded(if at.len() > 400 { 0.5 } else { 0.9 }));
    }
    if layers.is_empty() {
        svg.text(
            (frame.x + frame.width / 2.0, frame.y + frame.height / 2.0 + 4.0),
            "no kinks",
            Text::new(TICK, Anchor::Middle).colored(MUTED),
        );
    }
    for tick in panel.x_ticks() {
        let at = panel.at(tick.value, 0.0).0;
        svg.line((at, frame.bottom()), (at, frame.bottom() + 4.0), Stroke::solid(FRAME, 1.0));
        svg.text((at, frame.bottom() + 16.0), &tick.label, Text::new(TICK, Anchor::Middle).colored(MUTED));
    }
    let middle = frame.x + frame.width / 2.0;
    svg.text((middle, frame.bottom() + 34.0), &format!("t: {label}"), Text::new(LABEL, Anchor::Middle));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cubic_is_drawn_exactly_from_its_ends() {
        let (f, df) = (|t: f64| 2.0 - t + 3.0 * t.powi(3), |t: f64| -1.0 + 9.0 * t * t);
        let end = |t: f64| (t, f(t), df(t));
        let points = cubic([end(-0.5), end(1.5)], 10);
        assert_eq!(points.len(), 11);
        assert!(points.iter().all(|(t, value)| (value - f(*t)).abs() < 1e-14));
    }
}
