//! Average regret of the network and its layers against rounds, on logarithmic axes (the paper's figures 3 and 4).
//!
//! A regret is known as an interval: at least what the found weights save, at most that and the certified gap.

use super::{Context, Figure, Series, WIDTH, series_entries};
use crate::{
    report::draw::{
        letters::text_width,
        palette::{BAND, FRAME, MUTED, STRIP},
        panel::cells,
        prelude::*,
    },
    study::{
        claims::bounds::Bound,
        numbers::{count, number, percent},
        tables::{RegretRow, Scale},
    },
};
use std::collections::BTreeMap;

/// The regret axis spans at most this factor below its top: smaller regrets are rounding, not signal.
const DEPTH: f64 = 1e4;
/// An interval wider than this share of its upper end is drawn as one.
const SHOWN: f64 = 0.1;
/// Bounds make room for themselves up to this factor above the largest regret.
const HEADROOM: f64 = 6.0;
/// A bound of which less than this share lies in the frame is left out.
const IN_FRAME: f64 = 0.5;
/// Dashes of bounds, unlike those of the series.
const BOUND: &str = "1 3";
/// Height of one lane of the strip below the axis.
pub(super) const LANE: f64 = 9.0;
/// Prefixes before this one start too early to anchor the guide or to fit a slope.
const EARLY: f64 = 30.0;

/// What is known of a regret after `rounds` rounds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point {
    pub rounds: f64,
    pub least: f64,
    pub most: f64,
    /// For the text under the pointer.
    pub text: String,
}

impl Point {
    fn is_open(&self) -> bool {
        self.most > 0.0 && self.most - self.least > SHOWN * self.most
    }
}

/// One optimizer's curve in one panel.
#[derive(Default)]
pub(super) struct Curve {
    pub points: Vec<Point>,
    /// The guarantee of the optimizer, if it has one.
    pub bound: Vec<(f64, f64)>,
    /// A second line above the first: the 90% quantile of neurons.
    pub upper: Vec<(f64, f64)>,
}

impl Curve {
    /// Whether the bound is to be seen on the axis.
    fn bound_fits(&self, y: &Axis) -> bool {
        let inside = self.bound.iter().filter(|p| p.1 <= y.max && p.1 >= y.min).count();
        inside > 0 && inside as f64 >= IN_FRAME * self.bound.len() as f64
    }
}

/// A panel to draw: its title, and a curve per series (empty ones for series that it does not show).
pub(super) struct Plot {
    pub title: String,
    pub curves: Vec<Curve>,
}

/// Draws a wide panel for the network and a small one for each layer.
pub fn layers(context: &Context) -> Figure {
    let network = plot(context, "whole network".into(), Scale::Network, None);
    let network = Some(network).filter(|plot| plot.curves.iter().any(|curve| !curve.points.is_empty()));
    let layers: Vec<Plot> = context
        .layers_at(Scale::Layer)
        .into_iter()
        .map(|layer| plot(context, context.layer_title(layer), Scale::Layer, Some(layer)))
        .collect();
    let mut notes: Vec<String> = context.lacking("regret.csv").into_iter().collect();
    let svg = if network.is_none() && layers.is_empty() {
        Err(format!(
            "no optimizer has rows in regret.csv at network and layer scale for the {} comparator",
            context.comparator
        ))
    } else {
        Ok(picture(context, network.as_ref(), &layers, &mut notes))
    };
    let caption = format!(
        "Average regret of the network and of each layer after N rounds ({} comparator). Both axes are logarithmic. \
         Grey: the theoretical rate 1/√N; curves at least as steep agree with it. A line is the least that the \
         regret can be. Where the gap is more than {} of the most, a band reaches up to that; nothing says where in \
         the band the regret lies.",
        context.comparator,
        percent(SHOWN)
    );
    Figure {
        id: "regret-layers",
        heading: "Average regret: network and layers",
        svg,
        caption,
        notes,
        sources: context.sources("regret.csv"),
    }
}

fn plot(context: &Context, title: String, scale: Scale, layer: Option<usize>) -> Plot {
    let curve = |series: &Series| {
        let rows = context.rows(series, scale).filter(|row| row.layer == layer && row.mean_regret.is_finite());
        let by_rounds: BTreeMap<usize, &RegretRow> = rows.map(|row| (row.rounds, row)).collect();
        let point = |row: &RegretRow| {
            // An unknown gap leaves all of the loss.
            let most = row.mean_regret + if row.gap.is_finite() { row.gap.max(0.0) } else { row.taylor_optimum };
            let regret = match most - row.mean_regret > 0.01 * row.mean_loss {
                true => format!("regret {} to {}", number(row.mean_regret), number(most)),
                false => format!("regret {} (gap {})", number(row.mean_regret), number(row.gap)),
            };
            let text = format!("{}, {title}, N = {}: {regret}", series.name, count(row.rounds as u64));
            Point { rounds: row.rounds as f64, least: row.mean_regret, most, text }
        };
        // Other bounds are guarantees for other optimizers.
        let guarantee = |row: &RegretRow| {
            let zinkevich = (series.tables.summary.name == Bound::Zinkevich.optimizer()).then_some(row.bound_zinkevich);
            let bound = row.bound_sgd.or(row.bound_adagrad).or(zinkevich)?;
            (bound.is_finite() && bound > 0.0).then_some((row.rounds as f64, bound))
        };
        Curve {
            points: by_rounds.values().map(|row| point(row)).collect(),
            bound: by_rounds.values().filter_map(|row| guarantee(row)).collect(),
            upper: Vec::new(),
        }
    };
    Plot { curves: context.series.iter().map(curve).collect(), title }
}

/// The axes of a figure, and how many regrets its panels cannot show.
pub(super) struct Axes {
    pub x: Axis,
    pub y: Axis,
    /// Regrets that are not positive, and positive ones below the axis.
    pub hidden: usize,
}

/// The axes of all panels: regrets from the least worth showing to the largest, with room for near bounds.
pub(super) fn axes(plots: &[&Plot], notes: &mut Vec<String>) -> Axes {
    let curves = || plots.iter().flat_map(|plot| &plot.curves);
    let points = || curves().flat_map(|curve| &curve.points);
    let ends = || points().flat_map(|p| [p.least, p.most]).chain(curves().flat_map(|c| &c.upper).map(|p| p.1));
    let largest = ends().filter(|regret| regret.is_finite()).fold(0.0, f64::max);
    let bounds = || curves().flat_map(|c| &c.bound).map(|p| p.1);
    let y = if largest > 0.0 {
        let shown = |regret: &f64| *regret >= largest / DEPTH;
        // Without a positive lower end, what the regrets may be sets the range.
        let lower = points().map(|p| p.least).filter(shown).min_by(f64::total_cmp);
        let least = lower.or_else(|| points().map(|p| p.most).filter(shown).min_by(f64::total_cmp)).unwrap_or(largest);
        let top = bounds().filter(|bound| *bound <= HEADROOM * largest).fold(largest, f64::max);
        // Padded to keep markers off the frame.
        Axis::log(least / 1.5, top * 1.6)
    } else {
        notes.push("No regret is positive, so there is nothing that a logarithmic axis can show.".into());
        let top = bounds().fold(0.0, f64::max);
        Axis::log(bounds().fold(top, f64::min).max(top / DEPTH), top)
    };
    let first = points().map(|p| p.rounds).fold(f64::INFINITY, f64::min);
    let last = points().map(|p| p.rounds).fold(1.0, f64::max);
    let below = points().filter(|p| p.least <= 0.0).count();
    let tiny = points().filter(|p| p.least > 0.0 && p.least < y.min).count();
    if below > 0 {
        notes.push(format!(
            "{} of {} regrets are zero or negative: the optimizer, which moves, did as well as the best fixed \
             weights that were found, or better. A logarithmic axis cannot show them; they are open markers in the \
             strip below it.",
            count(below as u64),
            count(points().count() as u64)
        ));
    }
    if tiny > 0 {
        notes.push(format!("The strip also holds {} positive regrets below {}.", count(tiny as u64), number(y.min)));
    }
    Axes { x: Axis::log(first, last).whole(), y, hidden: below + tiny }
}

fn picture(context: &Context, network: Option<&Plot>, layers: &[Plot], notes: &mut Vec<String>) -> Drawing {
    let plots: Vec<&Plot> = network.into_iter().chain(layers).collect();
    let axes = axes(&plots, notes);
    let strip = if axes.hidden > 0 { LANE * context.series.len() as f64 + 6.0 } else { 0.0 };
    let entries = legend(context, &plots, &axes);
    notes.extend(bounds_left_out(context, &plots, &axes.y));
    let top = legend::height(&entries, WIDTH - 20.0) + 34.0;
    let grid = Grid::new(top, network.is_some(), layers.len(), strip);
    let mut svg = Svg::new("regret-layers", WIDTH, grid.bottom + 44.0);
    legend::draw(&mut svg, (10.0, 4.0), WIDTH - 20.0, &entries);
    let first_layer = usize::from(network.is_some());
    for (i, (plot, frame)) in plots.iter().zip(&grid.frames).enumerate() {
        let panel = Panel::new(*frame, axes.x, axes.y);
        let column = i.checked_sub(first_layer).map_or(0, |layer| layer % grid.columns);
        draw_panel(&mut svg, &context.series, &panel, plot, (column > 0, strip));
        // Under the network, and under the lowest panel of each column.
        if i < first_layer || i + grid.columns >= plots.len() {
            x_numbers(&mut svg, &panel, strip);
        }
    }
    let label = Text::new(LABEL, Anchor::Middle).rotated(-90.0);
    svg.text((16.0, 0.5 * (top + grid.bottom)), "average regret, loss per round (log axis)", label);
    svg.finish(
        "Average regret of network and layers against the number of rounds on logarithmic axes, one line per optimizer",
    )
}

/// The curves of all panels, each with its series.
fn curves<'a>(context: &'a Context, plots: &'a [&Plot]) -> impl Iterator<Item = (&'a Curve, &'a Series<'a>)> {
    plots.iter().flat_map(|plot| plot.curves.iter().zip(&context.series))
}

/// The legend of what the panels have.
fn legend(context: &Context, plots: &[&Plot], axes: &Axes) -> Vec<Entry> {
    let mut entries = series_entries(&context.series);
    if plots.iter().any(|plot| guide(&axes.y, plot).is_some()) {
        entries.push(Entry::new(Sample::Line(Stroke::solid(MUTED, 1.4)), "slope of 1/√N"));
    }
    if curves(context, plots).any(|(curve, _)| curve.points.iter().any(Point::is_open)) {
        entries.push(Entry::new(Sample::Patch(BAND.into()), "not certified: the regret may be larger"));
    }
    let bounded: Vec<&str> = context
        .series
        .iter()
        .filter(|s| curves(context, plots).any(|(curve, of)| of.name == s.name && curve.bound_fits(&axes.y)))
        .map(|s| s.name.as_str())
        .collect();
    if !bounded.is_empty() {
        let stroke = Stroke::solid(MUTED, 1.6).dashed(BOUND);
        let text = format!("guarantee for {} (its colour)", bounded.join(", "));
        entries.push(Entry::new(Sample::Line(stroke), text));
    }
    if axes.hidden > 0 {
        entries.push(Entry::new(Sample::Open, "zero, negative or below the axis"));
    }
    entries
}

/// A note for each optimizer whose bound lies above the frame somewhere.
fn bounds_left_out(context: &Context, plots: &[&Plot], y: &Axis) -> Vec<String> {
    let note = |series: &Series| {
        let left_out =
            |(curve, of): &(&Curve, &Series)| of.name == series.name && !curve.bound.is_empty() && !curve.bound_fits(y);
        let left_out = curves(context, plots).filter(left_out).count();
        (left_out > 0).then(|| {
            format!(
                "The guarantee for {} lies above the frame in {} of {} panels, and is left out there.",
                series.name,
                left_out,
                plots.len()
            )
        })
    };
    context.series.iter().filter_map(note).collect()
}

/// Where the panels are: a wide one for the network, if there is one, and below it small ones for the layers, in columns.
struct Grid {
    frames: Vec<Rect>,
    columns: usize,
    bottom: f64,
}

impl Grid {
    /// From `top` downwards; below each panel is room for a strip.
    fn new(top: f64, network: bool, layers: usize, strip: f64) -> Grid {
        let (gap_x, gap_y, left) = (18.0, 32.0, 66.0);
        let whole = WIDTH - left - 10.0;
        let (mut frames, mut y) = (Vec::new(), top);
        if network {
            frames.push(Rect::new(left, y, whole, 190.0));
            y += 190.0 + strip + if layers == 0 { 0.0 } else { 62.0 };
        }
        let columns = match layers {
            0..=3 => layers.max(1),
            4 => 2,
            _ => 3,
        };
        if layers > 0 {
            let width = (whole - gap_x * (columns as f64 - 1.0)) / columns as f64;
            frames.extend(cells((left, y), (width, 140.0), (gap_x, gap_y + strip), columns, layers));
            y += layers.div_ceil(columns) as f64 * (140.0 + strip + gap_y) - gap_y;
        }
        Grid { frames, columns, bottom: y }
    }
}

/// One panel with its strip below.
pub(super) fn draw_panel(svg: &mut Svg, series: &[Series], panel: &Panel, plot: &Plot, (hide_y, strip): (bool, f64)) {
    panel.draw(svg, Labels { title: &plot.title, hide_x: true, hide_y, ..Labels::default() });
    if strip > 0.0 {
        let frame = panel.frame;
        let rect = Rect::new(frame.x, frame.bottom(), frame.width, strip);
        svg.rect(rect, STRIP, Some(Stroke::solid(FRAME, 1.0)));
        if !hide_y {
            let below = plot.curves.iter().flat_map(|c| &c.points).any(|p| p.least <= 0.0);
            let style = Text::new(TICK, Anchor::End).colored(MUTED);
            let text = if below { "≤ 0" } else { "below" };
            svg.text((frame.x - 8.0, rect.y + strip / 2.0 + 4.0), text, style);
        }
    }
    let guide = guide(&panel.y, plot);
    if let Some(scale) = guide {
        let ends = [panel.x.min, panel.x.max].map(|n| (n, scale / n.sqrt()));
        panel.inside(svg, |svg| panel.curve(svg, &ends, Stroke::solid(MUTED, 1.4)));
    }
    let lanes = plot.curves.iter().filter(|curve| !curve.points.is_empty()).count();
    let mut lane = 0;
    for (curve, series) in plot.curves.iter().zip(series) {
        if curve.points.is_empty() {
            continue;
        }
        let height = (strip - 6.0) / lanes.max(1) as f64;
        let middle = panel.frame.bottom() + 3.0 + height * (lane as f64 + 0.5);
        svg.series(&series.name, |svg| draw_curve(svg, series, panel, curve, middle));
        lane += 1;
    }
    if let Some(scale) = guide {
        label_guide(svg, panel, plot, scale);
    }
}

fn draw_curve(svg: &mut Svg, series: &Series, panel: &Panel, curve: &Curve, lane: f64) {
    let style = series.style;
    // What a logarithmic axis cannot show lies below the frame, where it is cut.
    let at = |rounds: f64, value: f64| panel.at(rounds, value.max(panel.y.min / 10.0));
    panel.inside(svg, |svg| {
        // From below the axis upwards there is no interval to draw.
        let drawn = |pair: &&[Point]| pair.iter().any(Point::is_open) && pair.iter().all(|p| p.most >= panel.y.min);
        for pair in curve.points.windows(2).filter(drawn) {
            let [a, b] = [&pair[0], &pair[1]];
            let outline = [at(a.rounds, a.most), at(b.rounds, b.most), at(b.rounds, b.least), at(a.rounds, a.least)];
            svg.polygon(&outline, style.color, 0.16);
            svg.polyline(&outline[..2], Stroke::solid(style.color, 0.9).dashed(style.dash));
        }
        if let [only] = &curve.points[..]
            && only.is_open()
        {
            let ends = [at(only.rounds, only.least), at(only.rounds, only.most)];
            svg.polyline(&ends, Stroke::solid(style.color, 5.0).faded(0.3));
        }
        if curve.bound_fits(&panel.y) {
            panel.curve(svg, &curve.bound, Stroke::solid(style.color, 1.5).dashed(BOUND));
        }
        for part in curve.upper.split(|p| p.1 < panel.y.min) {
            panel.curve(svg, part, Stroke::solid(style.color, 1.0).dashed("4 2"));
        }
        // The line breaks where the regret leaves the axis downwards.
        for part in curve.points.split(|p| p.least < panel.y.min) {
            let line: Vec<(f64, f64)> = part.iter().map(|p| (p.rounds, p.least)).collect();
            panel.curve(svg, &line, style.stroke(1.9));
        }
    });
    let shown: Vec<&Point> = curve.points.iter().filter(|p| p.least >= panel.y.min).collect();
    let every = shown.len().div_ceil(5).max(1);
    for (i, p) in shown.iter().enumerate() {
        if i % every == 0 || i + 1 == shown.len() {
            style.mark(svg, panel.at(p.rounds, p.least), 2.8, true);
        }
    }
    let place = |p: &Point| match p.least < panel.y.min {
        true => (panel.at(p.rounds, 1.0).0, lane),
        false => panel.at(p.rounds, p.least),
    };
    for p in curve.points.iter().filter(|p| p.least < panel.y.min) {
        style.mark(svg, place(p), 2.5, false);
    }
    svg.unseen(|svg| curve.points.iter().for_each(|p| svg.hit(place(p), &p.text)));
}

/// The factor `c` of the guide `c / √N`: a little above the largest regret at the first prefix beyond the early rounds.
pub(super) fn guide(y: &Axis, plot: &Plot) -> Option<f64> {
    // A single prefix has no rate to compare with.
    let several = plot.curves.iter().any(|curve| curve.points.len() > 1);
    let anchors = plot.curves.iter().filter_map(|curve| {
        let positive = || curve.points.iter().filter(|p| p.least >= y.min);
        positive().find(|p| p.rounds >= EARLY).or_else(|| positive().next_back())
    });
    anchors.map(|p| 1.25 * p.least * p.rounds.sqrt()).max_by(f64::total_cmp).filter(|_| several)
}

/// Writes the rate at the guide, where the text hides no line; nowhere, if there is no such place.
fn label_guide(svg: &mut Svg, panel: &Panel, plot: &Plot, scale: f64) {
    let text = "1/√N";
    let half = 0.5 * text_width(text, TICK) + 3.0;
    let lines: Vec<Vec<(f64, f64)>> = plot
        .curves
        .iter()
        .flat_map(|curve| {
            let of = |value: fn(&Point) -> f64| -> Vec<(f64, f64)> {
                let shown = curve.points.iter().filter(|p| value(p) >= panel.y.min);
                shown.map(|p| panel.at(p.rounds, value(p))).collect()
            };
            let others = [&curve.bound, &curve.upper];
            let others = others.map(|line| line.iter().map(|p| panel.at(p.0, p.1)).collect());
            [of(|p| p.least), of(|p| p.most)].into_iter().chain(others)
        })
        .collect();
    let at = |share: f64| {
        let n = panel.x.min * (panel.x.max / panel.x.min).powf(share);
        panel.at(n, scale / n.sqrt())
    };
    let frame = panel.frame;
    let free = |(x, y): &(f64, f64)| {
        let (top, bottom) = (y - TICK - 2.0, y + 4.0);
        let within = top > frame.y && bottom < frame.bottom() && x - half > frame.x && x + half < frame.right();
        let clear = |line: &Vec<(f64, f64)>| {
            (-4..=4).all(|i| {
                let x = x + f64::from(i) * half / 4.0;
                height_at(line, x).is_none_or(|line| line < top || line > bottom)
            })
        };
        within && lines.iter().all(clear)
    };
    let places = (1..20).rev().map(|i| at(f64::from(i) / 20.0));
    let offsets = places.flat_map(|(x, y)| [(x, y - 9.0), (x, y + 20.0)]);
    if let Some(place) = offsets.into_iter().find(free) {
        svg.text(place, text, Text::new(TICK, Anchor::Middle).colored(MUTED));
    }
}

/// The ordinate of a line at `x`, where it has one.
fn height_at(line: &[(f64, f64)], x: f64) -> Option<f64> {
    line.windows(2).find(|pair| pair[0].0 <= x && x <= pair[1].0).map(|pair| {
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
        if x1 > x0 { y0 + (y1 - y0) * (x - x0) / (x1 - x0) } else { y0 }
    })
}

pub(super) fn x_numbers(svg: &mut Svg, panel: &Panel, strip: f64) {
    let bottom = panel.frame.bottom() + strip;
    for tick in panel.x_ticks() {
        let at = (panel.at(tick.value, 1.0).0, bottom + 14.0);
        svg.text(at, &tick.label, Text::new(TICK, Anchor::Middle).colored(MUTED));
    }
    let middle = panel.frame.x + panel.frame.width / 2.0;
    svg.text((middle, bottom + 30.0), "rounds N (log axis)", Text::new(LABEL, Anchor::Middle));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(f64, f64, f64)], bound: &[(f64, f64)]) -> Curve {
        let point = |&(rounds, least, most): &(f64, f64, f64)| Point { rounds, least, most, text: String::new() };
        Curve { points: points.iter().map(point).collect(), bound: bound.to_vec(), upper: Vec::new() }
    }

    #[test]
    fn the_axis_reaches_up_to_what_a_regret_may_be() {
        let plot = Plot { title: String::new(), curves: vec![curve(&[(1.0, 0.01, 0.01), (9.0, 0.02, 0.9)], &[])] };
        let axes = axes(&[&plot], &mut Vec::new());
        assert!(axes.y.max > 0.9 && axes.y.min < 0.01);
        assert!(plot.curves[0].points[1].is_open() && !plot.curves[0].points[0].is_open());
    }

    #[test]
    fn a_bound_that_leaves_the_frame_is_left_out() {
        let points = [(1.0, 0.1, 0.1), (10.0, 0.05, 0.05)];
        let near = curve(&points, &[(1.0, 0.4), (10.0, 0.2)]);
        let far = curve(&points, &[(1.0, 90.0), (5.0, 30.0), (10.0, 0.2)]);
        let plot = Plot { title: String::new(), curves: vec![near, far] };
        let axes = axes(&[&plot], &mut Vec::new());
        assert!(plot.curves[0].bound_fits(&axes.y) && !plot.curves[1].bound_fits(&axes.y));
    }
}
