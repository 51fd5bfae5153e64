//! The function along a segment, its gradient, and its kinks (figure 1 of the paper).

use super::roomy;
use crate::{
    report::{
        draw::{
            palette::{BLUE, FRAME, GREEN, INK, MUTED, PAPER, VERMILION},
            prelude::*,
        },
        figure::{Figure, WIDTH},
    },
    study::{
        landscape::{
            Along, LandscapeTables, What,
            rows::{PieceRow, SegmentSummary, StepRow},
        },
        numbers::{count, counted, number},
    },
};
use std::{collections::BTreeMap, fmt::Write};

const TRUE: Stroke<'static> = Stroke { color: BLUE, width: 1.8, dash: "", opacity: 1.0 };
const TAYLOR: Stroke<'static> = Stroke { color: VERMILION, width: 1.6, dash: "6 3", opacity: 1.0 };
const STEP: SeriesStyle = SeriesStyle { color: GREEN, dash: "", marker: Marker::Diamond };

/// Left and right of the panels.
const LEFT: f64 = 86.0;
const RIGHT: f64 = 74.0;

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
        let along_input = summary.along == What::Segment(Along::Input);
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
            "The rounds' weights lie off the segment, up to {} of its unit away: their losses (diamonds) need not \
             lie on the curve. Those beyond the frame are cut; steps.csv has all.",
            number(farthest)
        ));
    }
    let mut by_layer: BTreeMap<usize, usize> = BTreeMap::new();
    tables.kinks.iter().for_each(|kink| *by_layer.entry(kink.layer).or_default() += 1);
    if by_layer.values().any(|kinks| *kinks as f64 * TICK_ROOM > WIDTH - LEFT - RIGHT) {
        notes.push("Rows with too many kinks for ticks show their density: the darker, the more kinks.".into());
    }
    let what = match (summary.along, summary.datapoints.len()) {
        (What::Segment(Along::Input), _) => format!("output {} of the network between two datapoints", summary.output),
        (_, 1) => format!("the loss of datapoint {}", summary.datapoints[0]),
        (_, n) => format!("the mean loss of {}", counted(n, "datapoint")),
    };
    let caption = format!(
        "Along {}: {what} (top), its derivative (middle) and the kinks, each in the row of the layer whose unit \
         causes it (bottom). Dashed: the Taylor approximation at t = 0. {} and {} between {} and {}; {}. The weights \
         are those of {}.",
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

fn picture(tables: &LandscapeTables, shown: &Shown) -> Drawing {
    let summary = &tables.summary;
    let inside = |step: &&StepRow| step.at >= summary.from && step.at <= summary.to;
    let steps: Vec<&StepRow> = tables.steps.iter().filter(inside).collect();
    let mut entries = vec![
        Entry::new(Sample::Line(TRUE), format!("{}, exact", shown.name)),
        Entry::new(Sample::Line(TAYLOR), "Taylor approximation at t = 0"),
    ];
    if !steps.is_empty() {
        entries.push(Entry::new(Sample::Marker(STEP), "weights of neighbouring rounds"));
    }
    let mut layers: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for kink in &tables.kinks {
        layers.entry(kink.layer).or_default().push(kink.at);
    }
    let rows = layers.len().max(1);
    let width = WIDTH - LEFT - RIGHT;
    let top = legend::height(&entries, WIDTH - 20.0) + 22.0;
    let (main, gradient, row) = (210.0, 140.0, 20.0);
    let (second, third) = (top + main + 18.0, top + main + gradient + 36.0);
    let mut svg = Svg::new("segment", WIDTH, third + rows as f64 * row + 44.0);
    legend::draw(&mut svg, (10.0, 4.0), WIDTH - 20.0, &entries);
    let x = Axis::linear(summary.from, summary.to);
    draw_function(&mut svg, shown, &steps, Rect::new(LEFT, top, width, main), x);
    draw_derivative(&mut svg, shown, Rect::new(LEFT, second, width, gradient), x);
    kinks(&mut svg, &layers, Rect::new(LEFT, third, width, rows as f64 * row), x, &summary.parameter);
    svg.finish("A function along a segment, its derivative, and its kinks by layer")
}

/// The function and its Taylor approximation, with the losses at the weights of rounds.
fn draw_function(svg: &mut Svg, shown: &Shown, steps: &[&StepRow], frame: Rect, x: Axis) {
    let length = (x.max - x.min).max(f64::MIN_POSITIVE);
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
    let panel = Panel::new(frame, x, roomy(all, 0.04));
    panel.draw(svg, Labels { y: &shown.name, hide_x: true, ..Labels::default() });
    panel.inside(svg, |svg| {
        origin(svg, &panel);
        panel.curve(svg, &curve, TRUE);
        panel.curve(svg, &approximation, TAYLOR);
        for step in steps {
            let title = format!(
                "weights of round {}: loss {}, {} beside the segment",
                count(step.round as u64),
                number(step.loss),
                number(step.distance)
            );
            svg.titled(&title, |svg| STEP.mark(svg, panel.at(step.at, step.loss), 3.6, true));
        }
    });
    label_steps(svg, &panel, steps);
}

/// The derivatives of both.
fn draw_derivative(svg: &mut Svg, shown: &Shown, frame: Rect, x: Axis) {
    let slopes: Vec<(f64, f64)> = shown.pieces.iter().flat_map(|(ends, _)| ends.map(|end| (end.0, end.2))).collect();
    let taylor_slopes: Vec<(f64, f64)> =
        shown.pieces.iter().flat_map(|(_, ends)| ends.map(|end| (end.0, end.2))).collect();
    let y = roomy(slopes.iter().map(|p| p.1).chain([slope_at_zero(shown)]), 0.06);
    let panel = Panel::new(frame, x, y);
    panel.draw(svg, Labels { y: "derivative", hide_x: true, ..Labels::default() });
    panel.inside(svg, |svg| {
        origin(svg, &panel);
        panel.curve(svg, &slopes, Stroke { width: 1.2, ..TRUE });
        panel.curve(svg, &taylor_slopes, Stroke { width: 1.2, ..TAYLOR });
    });
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

/// Writes the rounds next to their markers: all of them, or none if some have no room.
fn label_steps(svg: &mut Svg, panel: &Panel, steps: &[&StepRow]) {
    let frame = panel.frame;
    let all = steps.iter().map(|step| (*step, panel.at(step.at, step.loss)));
    // Markers beyond the frame are cut.
    let inside = |place: (f64, f64)| place.1 >= frame.y && place.1 <= frame.bottom();
    let (steps, places): (Vec<&StepRow>, Vec<(f64, f64)>) = all.filter(|(_, place)| inside(*place)).unzip();
    let style = Text::new(TICK - 1.0, Anchor::Middle).colored(STEP.color);
    for (step, place) in steps.iter().zip(label_places(frame, &places).unwrap_or_default()) {
        svg.label(place, &count(step.round as u64), style);
    }
}

/// A place for the number of each marker, apart from all markers and numbers; `None` unless all have one.
fn label_places(frame: Rect, markers: &[(f64, f64)]) -> Option<Vec<(f64, f64)>> {
    // Half a number's width, and its height above the base line.
    const SIZE: (f64, f64) = (9.0, 9.0);
    let mut places: Vec<(f64, f64)> = Vec::new();
    for (x, y) in markers {
        let free = |(u, v): &(f64, f64)| {
            let inside =
                u - SIZE.0 > frame.x && u + SIZE.0 < frame.right() && v - SIZE.1 > frame.y && *v < frame.bottom();
            let clear = |(p, q): &(f64, f64)| (p - u).abs() > SIZE.0 + 4.0 || *q > v + 4.0 || *q < v - SIZE.1 - 4.0;
            let apart = |(p, q): &(f64, f64)| (p - u).abs() > 2.0 * SIZE.0 || (q - v).abs() > SIZE.1 + 2.0;
            inside && markers.iter().all(clear) && places.iter().all(apart)
        };
        let offsets = [(0.0, -8.0), (0.0, 17.0), (15.0, 4.0), (-15.0, 4.0), (13.0, -8.0), (-13.0, -8.0), (13.0, 16.0)];
        places.push(offsets.into_iter().map(|(dx, dy)| (x + dx, y + dy)).find(free)?);
    }
    Some(places)
}

/// Pixels that a tick needs to be seen as one; rows with more kinks show their density.
const TICK_ROOM: f64 = 4.0;
/// Bins of a density, and of the texts under the pointer.
const BINS: usize = 96;

/// The bins that hold kinks: left and right end in pixels, and how many kinks.
fn bins(panel: &Panel, at: &[f64], number: usize) -> Vec<(f64, f64, usize)> {
    let width = panel.frame.width / number as f64;
    let mut counts = vec![0; number];
    for t in at {
        let bin = ((panel.at(*t, 0.0).0 - panel.frame.x) / width).clamp(0.0, number as f64 - 1.0);
        counts[bin as usize] += 1;
    }
    let end = |i: usize| panel.frame.x + i as f64 * width;
    counts.into_iter().enumerate().filter(|(_, n)| *n > 0).map(|(i, n)| (end(i), end(i + 1), n)).collect()
}

/// A strip that is darker where there are more kinks.
fn density(svg: &mut Svg, panel: &Panel, at: &[f64], (top, bottom): (f64, f64), color: &str) {
    let bins = bins(panel, at, BINS);
    let most = bins.iter().map(|bin| bin.2).max().unwrap_or(1) as f64;
    for (from, to, number) in bins {
        let corners = [(from, top), (to, top), (to, bottom), (from, bottom)];
        svg.polygon(&corners, color, number as f64 / most);
    }
}

/// A row of ticks for each layer, with its number of kinks at the end.
fn kinks(svg: &mut Svg, layers: &BTreeMap<usize, Vec<f64>>, frame: Rect, x: Axis, label: &str) {
    let panel = Panel::new(frame, x, Axis::linear(0.0, 1.0));
    svg.rect(frame, PAPER, Some(Stroke::solid(FRAME, 1.0)));
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
        let color = SeriesStyle::of(i).color;
        let (top, bottom) = (y + 4.0, y + height - 4.0);
        if at.len() as f64 * TICK_ROOM > frame.width {
            density(svg, &panel, at, (top, bottom), color);
        } else {
            let mut ticks = String::new();
            for t in at {
                let _ = write!(ticks, "M{} {}V{}", pixels(panel.at(*t, 0.0).0), pixels(top), pixels(bottom));
            }
            svg.shape(&ticks, "none", Stroke::solid(color, 0.9));
        }
        svg.unseen(|svg| {
            for (from, to, number) in bins(&panel, at, BINS) {
                let rect = Rect::new(from, top, to - from, bottom - top);
                svg.hit_rect(rect, &format!("layer {layer}: {} here", counted(number, "kink")));
            }
        });
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
    fn all_rounds_are_numbered_or_none() {
        let frame = Rect::new(0.0, 0.0, 300.0, 200.0);
        let apart: Vec<(f64, f64)> = (1..9).map(|i| (30.0 * f64::from(i), 100.0)).collect();
        assert_eq!(label_places(frame, &apart).map(|places| places.len()), Some(8));
        let crowd: Vec<(f64, f64)> = (0..40).map(|i| (100.0 + f64::from(i), 100.0)).collect();
        assert_eq!(label_places(frame, &crowd), None);
    }

    #[test]
    fn a_density_has_every_kink() {
        let panel = Panel::new(Rect::new(10.0, 0.0, 96.0, 20.0), Axis::linear(-1.0, 1.0), Axis::linear(0.0, 1.0));
        let at: Vec<f64> = (0..=500).map(|i| f64::from(i) / 250.0 - 1.0).collect();
        assert_eq!(bins(&panel, &at, BINS).iter().map(|bin| bin.2).sum::<usize>(), 501);
    }

    #[test]
    fn a_cubic_is_drawn_exactly_from_its_ends() {
        let (f, df) = (|t: f64| 2.0 - t + 3.0 * t.powi(3), |t: f64| -1.0 + 9.0 * t * t);
        let end = |t: f64| (t, f(t), df(t));
        let points = cubic([end(-0.5), end(1.5)], 10);
        assert_eq!(points.len(), 11);
        assert!(points.iter().all(|(t, value)| (value - f(*t)).abs() < 1e-14));
    }
}
