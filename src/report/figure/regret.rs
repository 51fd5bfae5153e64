//! Average regret against round on logarithmic axes, with the 1/√N guide and the bounds (the paper's figures 3 and 4).

use super::{Context, Figure, Series, WIDTH, series_entries};
use crate::{
    report::draw::{
        axis::Axis,
        legend::{self, Entry, Sample},
        panel::{LABEL, Labels, Panel, TICK, cells},
        style::{FRAME, MUTED},
        svg::{Anchor, Rect, Stroke, Svg, Text},
    },
    study::{
        numbers::{count, number, percent},
        results::{mean, quantile},
        tables::{RegretRow, Scale},
    },
};
use std::collections::BTreeMap;

/// The regret axis spans at most this factor below its top: smaller regrets are rounding, not signal.
const DEPTH: f64 = 1e6;
/// Certified errors of the solver above this share of what the regret may be are drawn.
const SHOWN: f64 = 0.1;
/// Bounds more than this factor above the largest regret are cut, so that the regrets keep their room.
const HEADROOM: f64 = 30.0;
/// Dashes of the two bounds, unlike those of the series.
const ZINKEVICH: &str = "1 3";
const SGD: &str = "1 2.5 6 2.5";
/// Height of one lane of the strip below the axis.
const LANE: f64 = 9.0;
/// Prefixes before this one start too early to anchor the guide or to fit a slope.
const EARLY: f64 = 30.0;

/// One optimizer's curve in one panel.
#[derive(Default)]
struct Curve {
    /// (N, regret), regret of any sign.
    regret: Vec<(f64, f64)>,
    /// (N, regret, how large it may be in truth), where that is much more; empty at neuron scale.
    open: Vec<(f64, f64, f64)>,
    /// (N, 10% quantile, 90% quantile) over neurons; empty above neuron scale.
    band: Vec<(f64, f64, f64)>,
    zinkevich: Vec<(f64, f64)>,
    sgd: Vec<(f64, f64)>,
}

/// A panel to draw: its title, and a curve per series.
struct Plot {
    title: String,
    curves: Vec<Curve>,
}

/// The figure for the whole network and for each layer.
pub fn layers(context: &Context) -> Figure {
    let mut plots = Vec::new();
    let network = plot(context, "whole network".into(), Scale::Network, None);
    if network.curves.iter().any(|curve| !curve.regret.is_empty()) {
        plots.push(network);
    }
    for layer in context.layers_at(Scale::Layer) {
        plots.push(plot(context, context.layer_title(layer), Scale::Layer, Some(layer)));
    }
    let caption = format!(
        "Average regret of the whole network and of each layer after N rounds ({} comparator), both axes \
         logarithmic. The grey line falls like 1/√N, the rate that the theory asks for: a curve must fall at \
         least as steeply. The Zinkevich bound is a guarantee for projected online gradient descent and only a \
         yardstick for the others; the SGD bound is a guarantee for SGD with a constant step. A thin upright line \
         shows how large a regret may be in truth, where the solver's certified error is more than {} of that.",
        context.comparator,
        percent(SHOWN)
    );
    figure(context, "regret-layers", "Average regret: network and layers", plots, caption)
}

/// The figure for the neurons of each layer.
pub fn neurons(context: &Context) -> Figure {
    let plots: Vec<Plot> = context
        .layers_at(Scale::Neuron)
        .into_iter()
        .map(|layer| plot(context, context.layer_title(layer), Scale::Neuron, Some(layer)))
        .collect();
    let caption = format!(
        "Average regret of single neurons after N rounds ({} comparator): the mean over each layer's neurons \
         (line) and the range from the 10% to the 90% quantile (band). Bounds are means over neurons too.",
        context.comparator
    );
    figure(context, "regret-neurons", "Average regret: neurons", plots, caption)
}

fn plot(context: &Context, title: String, scale: Scale, layer: Option<usize>) -> Plot {
    let curve = |series: &Series| {
        let mut by_prefix: BTreeMap<usize, Vec<&RegretRow>> = BTreeMap::new();
        for row in context.rows(series, scale).filter(|row| row.layer == layer && row.mean_regret.is_finite()) {
            by_prefix.entry(row.rounds).or_default().push(row);
        }
        let mut curve = Curve::default();
        for (rounds, rows) in by_prefix {
            let n = rounds as f64;
            let regrets = || rows.iter().map(|row| row.mean_regret);
            curve.regret.extend(mean(regrets()).map(|regret| (n, regret)));
            if scale != Scale::Neuron {
                let most = rows[0].mean_regret + rows[0].gap;
                if most > 0.0 && rows[0].gap > SHOWN * most {
                    curve.open.push((n, rows[0].mean_regret, most));
                }
            }
            if scale == Scale::Neuron {
                curve
                    .band
                    .extend(quantile(regrets(), 0.1).zip(quantile(regrets(), 0.9)).map(|(low, high)| (n, low, high)));
            }
            let positive = |bound: &f64| bound.is_finite() && *bound > 0.0;
            curve.zinkevich.extend(mean(rows.iter().map(|row| row.bound_zinkevich)).filter(positive).map(|b| (n, b)));
            curve.sgd.extend(mean(rows.iter().filter_map(|row| row.bound_sgd)).filter(positive).map(|b| (n, b)));
        }
        curve
    };
    Plot { title, curves: context.series.iter().map(curve).collect() }
}

fn figure(context: &Context, id: &'static str, heading: &'static str, plots: Vec<Plot>, caption: String) -> Figure {
    let mut notes: Vec<String> = context.lacking("regret.csv").into_iter().collect();
    let svg = if plots.is_empty() {
        let scale = if id == "regret-neurons" { "neuron scale" } else { "network and layer scale" };
        Err(format!("no optimizer has rows in regret.csv at {scale} for the {} comparator", context.comparator))
    } else {
        Ok(picture(context, id, heading, &plots, &mut notes))
    };
    Figure { id, heading, svg, caption, notes, sources: context.sources("regret.csv") }
}

/// The regret axis of all panels: from the least regret worth showing to the largest, with room for bounds.
///
/// The flag says whether any regret is positive.
fn regret_axis(plots: &[Plot]) -> (Axis, bool) {
    let curves = || plots.iter().flat_map(|plot| &plot.curves);
    let regrets = || {
        let means = curves().flat_map(|c| c.regret.iter().map(|p| p.1).chain(c.open.iter().map(|p| p.2)));
        let ends = curves().flat_map(|c| c.band.iter().flat_map(|b| [b.1, b.2]));
        means.chain(ends).filter(|regret| *regret > 0.0)
    };
    let largest = regrets().fold(0.0, f64::max);
    let bounds = || curves().flat_map(|c| c.zinkevich.iter().chain(&c.sgd)).map(|p| p.1);
    if largest <= 0.0 {
        // Nothing but bounds to show: they set the range.
        let top = bounds().fold(0.0, f64::max);
        return (Axis::log(bounds().fold(top, f64::min).max(top / DEPTH), top), false);
    }
    let smallest = regrets().filter(|regret| *regret >= largest / DEPTH).fold(largest, f64::min);
    let top = bounds().filter(|bound| *bound <= HEADROOM * largest).fold(largest, f64::max);
    // Single early prefixes may be tiny; the axis is padded to keep markers off the frame.
    (Axis::log(smallest / 1.5, top * 1.6), true)
}

fn picture(context: &Context, id: &str, heading: &str, plots: &[Plot], notes: &mut Vec<String>) -> String {
    let curves = || plots.iter().flat_map(|plot| &plot.curves);
    let (y, positive) = regret_axis(plots);
    let first = curves().filter_map(|c| c.regret.first()).map(|p| p.0).fold(f64::INFINITY, f64::min);
    let last = curves().filter_map(|c| c.regret.last()).map(|p| p.0).fold(1.0, f64::max);
    let x = Axis::log(first, last).whole();
    let hidden = |value: f64| value < y.min;
    let below = curves().flat_map(|c| &c.regret).filter(|p| p.1 <= 0.0).count();
    let tiny = curves().flat_map(|c| &c.regret).filter(|p| p.1 > 0.0 && hidden(p.1)).count();
    let strip = if below + tiny > 0 { LANE * context.series.len() as f64 + 6.0 } else { 0.0 };
    if !positive {
        notes.push("No regret is positive, so there is nothing that a logarithmic axis can show.".into());
    }
    if below > 0 {
        notes.push(format!(
            "{} of {} regrets are zero or negative (the optimizer, which moves, did as well as the best fixed \
             weights that were found, or better). A logarithmic axis cannot show them: they stand as open markers in the strip \
             below it.",
            count(below as u64),
            count(curves().map(|c| c.regret.len()).sum::<usize>() as u64)
        ));
    }
    if tiny > 0 {
        notes.push(format!("{} positive regrets below {} stand in the strip, too.", count(tiny as u64), number(y.min)));
    }
    let cut = curves().flat_map(|c| c.zinkevich.iter().chain(&c.sgd)).filter(|p| p.1 > y.max).count();
    if cut > 0 {
        notes.push(format!("Bounds above {} lie outside the frames.", number(y.max)));
    }

    let entries = entries(context, plots, below + tiny > 0);
    let columns = plots.len().clamp(1, 3);
    let head = legend::height(&entries, WIDTH - 20.0);
    let (gap_x, gap_y) = (18.0, 32.0);
    let height = if columns == 1 { 240.0 } else { 150.0 };
    let width = ((WIDTH - 76.0 - gap_x * (columns as f64 - 1.0)) / columns as f64).min(440.0);
    let rows = plots.len().div_ceil(columns);
    let top = head + 34.0;
    let total = top + rows as f64 * (height + strip + gap_y) + 16.0;
    let mut svg = Svg::new(id, WIDTH, total);
    legend::draw(&mut svg, (10.0, 4.0), WIDTH - 20.0, &entries);
    let frames = cells((66.0, top), (width, height), (gap_x, gap_y + strip), columns, plots.len());
    for (i, (plot, frame)) in plots.iter().zip(&frames).enumerate() {
        let panel = Panel::new(*frame, x, y);
        // The lowest panel of each column carries the numbers of the rounds.
        let lowest = i + columns >= plots.len();
        draw_panel(&mut svg, context, &panel, plot, i % columns > 0);
        if strip > 0.0 {
            draw_strip(&mut svg, context, &panel, plot, strip, i % columns > 0, below > 0);
        }
        if lowest {
            x_numbers(&mut svg, &panel, strip);
        }
    }
    let middle = top + 0.5 * (rows as f64 * (height + strip + gap_y) - gap_y);
    let label = Text::new(LABEL, Anchor::Middle).rotated(-90.0);
    svg.text((16.0, middle), "average regret, loss per round (log axis)", label);
    svg.finish(&format!("{heading}: regret against the number of rounds on logarithmic axes, one line per optimizer"))
}

fn entries(context: &Context, plots: &[Plot], open: bool) -> Vec<Entry> {
    let curves = || plots.iter().flat_map(|plot| &plot.curves);
    let mut entries = series_entries(&context.series);
    entries.push(Entry::new(Sample::Line(Stroke::solid(MUTED, 1.4)), "slope of 1/√N"));
    if curves().any(|c| !c.zinkevich.is_empty()) {
        let stroke = Stroke::solid(MUTED, 1.6).dashed(ZINKEVICH);
        entries.push(Entry::new(Sample::Line(stroke), "Zinkevich bound (colour of its optimizer)"));
    }
    if curves().any(|c| !c.sgd.is_empty()) {
        let stroke = Stroke::solid(MUTED, 1.4).dashed(SGD);
        entries.push(Entry::new(Sample::Line(stroke), "SGD bound"));
    }
    if curves().any(|c| !c.open.is_empty()) {
        entries.push(Entry::new(Sample::Upright, "not certified: the regret may be larger"));
    }
    if open {
        entries.push(Entry::new(Sample::Open, "zero, negative or below the axis"));
    }
    entries
}

fn draw_panel(svg: &mut Svg, context: &Context, panel: &Panel, plot: &Plot, hide_y: bool) {
    panel.draw(svg, Labels { title: &plot.title, hide_x: true, hide_y, ..Labels::default() });
    let styled = || plot.curves.iter().zip(&context.series);
    // A single prefix has no rate to compare with.
    let several = plot.curves.iter().any(|curve| curve.regret.len() > 1);
    let scale = guide_scale(panel, plot).filter(|_| several);
    panel.inside(svg, |svg| {
        for (curve, series) in styled() {
            // Quantiles that a logarithmic axis cannot show lie below the frame, where they are cut.
            let edge = |value: fn(&(f64, f64, f64)) -> f64| -> Vec<(f64, f64)> {
                curve.band.iter().map(|b| panel.at(b.0, value(b).max(panel.y.min / 10.0))).collect()
            };
            let (low, high) = (edge(|b| b.1), edge(|b| b.2));
            let outline: Vec<(f64, f64)> = high.iter().chain(low.iter().rev()).copied().collect();
            svg.polygon(&outline, series.style.color, 0.1);
            for line in [low, high] {
                svg.polyline(&line, series.style.stroke(0.8).faded(0.7));
            }
        }
        for (curve, series) in styled() {
            let color = series.style.color;
            panel.curve(svg, &curve.zinkevich, Stroke::solid(color, 1.5).dashed(ZINKEVICH));
            panel.curve(svg, &curve.sgd, Stroke::solid(color, 1.2).dashed(SGD));
        }
        if let Some(scale) = scale {
            let guide = [panel.x.min, panel.x.max].map(|n| (n, scale / n.sqrt()));
            panel.curve(svg, &guide, Stroke::solid(MUTED, 1.4));
        }
        for (lane, (curve, series)) in styled().enumerate() {
            // Side by side where several optimizers have the same prefixes.
            let aside = 2.5 * (lane as f64 - 0.5 * (plot.curves.len() as f64 - 1.0));
            for (n, regret, most) in curve.open.iter().filter(|open| open.2 >= panel.y.min) {
                let (x, bottom) = panel.at(*n, regret.max(panel.y.min));
                let (_, top) = panel.at(*n, *most);
                svg.line((x + aside, bottom), (x + aside, top), Stroke::solid(series.style.color, 0.8).faded(0.7));
            }
        }
        for (curve, series) in styled() {
            // The line breaks where the regret leaves the axis downwards.
            for part in curve.regret.split(|p| p.1 < panel.y.min) {
                panel.curve(svg, part, series.style.stroke(1.9));
            }
            let shown: Vec<_> = curve.regret.iter().filter(|p| p.1 >= panel.y.min).collect();
            let every = shown.len().div_ceil(5).max(1);
            for (i, p) in shown.iter().enumerate() {
                if i % every == 0 || i + 1 == shown.len() {
                    series.style.mark(svg, panel.at(p.0, p.1), 2.8, true);
                }
            }
        }
        if let Some(scale) = scale {
            // Early on the guide lies above the curves, unless it is outside of the frame there.
            let at = |share: f64| {
                let n = panel.x.min * (panel.x.max / panel.x.min).powf(share);
                panel.at(n, scale / n.sqrt())
            };
            let inside = |(_, y): &(f64, f64)| *y > panel.frame.y + 16.0 && *y < panel.frame.bottom();
            if let Some((x, y)) = [0.14, 0.4, 0.86].map(at).into_iter().find(inside) {
                svg.label((x, y - 6.0), "1/√N", Text::new(TICK, Anchor::Middle).colored(MUTED));
            }
        }
    });
}

/// The factor `c` of the guide `c / √N`: through the largest regret at the first prefix beyond the early rounds, a
/// little above it.
fn guide_scale(panel: &Panel, plot: &Plot) -> Option<f64> {
    let anchors = plot.curves.iter().filter_map(|curve| {
        let positive = || curve.regret.iter().filter(|p| p.1 >= panel.y.min);
        positive().find(|p| p.0 >= EARLY).or_else(|| positive().next_back())
    });
    anchors.map(|p| 1.25 * p.1 * p.0.sqrt()).max_by(f64::total_cmp)
}

/// The strip below the axis: one lane per optimizer, an open marker for each regret that the axis cannot show.
fn draw_strip(svg: &mut Svg, context: &Context, panel: &Panel, plot: &Plot, height: f64, hide_label: bool, zero: bool) {
    let frame = panel.frame;
    let rect = Rect::new(frame.x, frame.bottom(), frame.width, height);
    svg.rect(rect, "#f6f6f6", Some(Stroke::solid(FRAME, 1.0)));
    for (lane, (curve, series)) in plot.curves.iter().zip(&context.series).enumerate() {
        let y = rect.y + 3.0 + LANE * (lane as f64 + 0.5);
        for p in curve.regret.iter().filter(|p| p.1 < panel.y.min) {
            series.style.mark(svg, (panel.at(p.0, 1.0).0, y), 2.5, false);
        }
    }
    if !hide_label {
        let text = if zero { "≤ 0" } else { "below" };
        let style = Text::new(TICK, Anchor::End).colored(MUTED);
        svg.text((frame.x - 8.0, rect.y + height / 2.0 + 4.0), text, style);
    }
}

fn x_numbers(svg: &mut Svg, panel: &Panel, strip: f64) {
    let bottom = panel.frame.bottom() + strip;
    for tick in panel.x_ticks() {
        let at = (panel.at(tick.value, 1.0).0, bottom + 14.0);
        svg.text(at, &tick.label, Text::new(TICK, Anchor::Middle).colored(MUTED));
    }
    let middle = panel.frame.x + panel.frame.width / 2.0;
    svg.text((middle, bottom + 30.0), "rounds N (log axis)", Text::new(LABEL, Anchor::Middle));
}
