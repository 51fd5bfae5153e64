//! The figures of the exploration study: metrics at tuned rates, against distance travelled, against the final loss,
//! and along the sweep of epsilon.

use super::{Figure, WIDTH};
use crate::{
    report::draw::{palette::MUTED, panel::cells, prelude::*},
    study::{
        explore::{
            Exploration, ExploreRow, Group,
            metrics::{METRICS, Metric, TimeScale},
        },
        numbers::display_name,
        results::mean,
        statistics::Interval,
        tables::TrialStatus,
    },
};

/// One line or cloud of points in every panel.
struct Trace<'a> {
    style: SeriesStyle,
    name: String,
    rows: Vec<&'a ExploreRow>,
}

/// A quantity of a run on a horizontal axis.
struct Abscissa {
    label: &'static str,
    log: bool,
    of: fn(&ExploreRow) -> Option<f64>,
}

/// All figures of the study.
pub fn figures(study: &Exploration) -> Vec<Figure> {
    let mut figures = vec![tuned(study), against_distance(study), against_loss(study)];
    if study.rows.iter().any(|row| row.group == Group::Epsilon) {
        figures.push(sweep(study));
    }
    figures
}

fn complete(study: &Exploration, group: Group) -> impl Iterator<Item = &ExploreRow> {
    study.rows.iter().filter(move |row| row.group == group && row.status == TrialStatus::Complete)
}

fn figure(id: &'static str, heading: &'static str, caption: String, svg: Option<Drawing>) -> Figure {
    let svg = svg.ok_or_else(|| "no run of the study has what it shows".to_owned());
    Figure { id, heading, svg, caption, notes: Vec::new(), sources: vec!["explore.csv".to_owned()] }
}

/// Runs over rates, one trace per optimizer.
fn by_optimizer(study: &Exploration) -> Vec<Trace<'_>> {
    study
        .labels()
        .into_iter()
        .enumerate()
        .map(|(at, label)| Trace {
            style: SeriesStyle::of(at),
            name: display_name(&label),
            rows: complete(study, Group::Rate).filter(|row| row.optimizer == label).collect(),
        })
        .collect()
}

/// A range with some room around it.
fn linear(values: impl Iterator<Item = f64>) -> Axis {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let room = 0.06 * (high - low);
    if low >= 0.0 && low - room < 0.35 * high {
        Axis::from_zero(high + room)
    } else {
        Axis::linear(low - room, high + room)
    }
}

fn logarithmic(values: impl Iterator<Item = f64>) -> Axis {
    let (low, high) = values.filter(|v| *v > 0.0).fold((f64::INFINITY, 0.0_f64), |(l, h), v| (l.min(v), h.max(v)));
    let room = (high / low).powf(0.04).max(1.02);
    Axis::log(low / room, high * room)
}

fn title(metric: &Metric) -> String {
    match metric.scale {
        Some(TimeScale::Coarse) => format!("{}, every epoch", metric.name),
        Some(TimeScale::Fine) => format!("{}, fine", metric.name),
        None => metric.name.to_owned(),
    }
}

/// Metrics of each optimizer at its tuned rate: a point per seed, mean and interval.
fn tuned(study: &Exploration) -> Figure {
    let traces = by_optimizer(study);
    let values = |trace: &Trace, metric: &Metric| -> Vec<f64> {
        trace.rows.iter().filter(|row| row.factor == Some(1.0)).filter_map(|row| (metric.of)(row)).collect()
    };
    let measured = |metric: &Metric| traces.iter().any(|trace| !values(trace, metric).is_empty());
    let drawable = METRICS.iter().any(measured);
    let svg = drawable.then(|| {
        let (width, height, gap) = (132.0, 150.0, (52.0, 48.0));
        let mut entries: Vec<Entry> =
            traces.iter().map(|trace| Entry::new(Sample::Series(trace.style), trace.name.clone())).collect();
        entries.push(Entry::new(Sample::Open, "one seed"));
        entries.push(Entry::new(Sample::Filled, "mean, with 95% interval"));
        let top = legend::height(&entries, WIDTH - 20.0) + 34.0;
        let mut svg = Svg::new("study-tuned", WIDTH, top + 2.0 * height + gap.1 + 12.0);
        legend::draw(&mut svg, (10.0, 4.0), WIDTH - 20.0, &entries);
        for (metric, cell) in METRICS.iter().zip(cells((50.0, top), (width, height), gap, 4, METRICS.len())) {
            if !measured(metric) {
                let (at, style) = ((cell.x, cell.y - 6.0), Text::new(LABEL, Anchor::Start));
                svg.text(at, &title(metric), style.bold());
                svg.text((cell.x, cell.y + 16.0), "needs a second step", style.colored(MUTED));
                continue;
            }
            let all = traces.iter().flat_map(|trace| {
                let values = values(trace, metric);
                let interval = Interval::of(&values).filter(|interval| interval.count > 1);
                interval.map(|interval| [interval.low, interval.high]).into_iter().flatten().chain(values)
            });
            // A place for each optimizer, with the grid line of its whole number.
            let x = Axis::linear(-0.6, traces.len() as f64 - 0.4).whole();
            let panel = Panel::new(cell, x, linear(all));
            panel.draw(&mut svg, Labels { title: &title(metric), hide_x: true, ..Labels::default() });
            panel.inside(&mut svg, |svg| {
                for (at, trace) in traces.iter().enumerate() {
                    let values = values(trace, metric);
                    for (i, value) in values.iter().enumerate() {
                        let aside = 0.36 * ((i as f64 + 0.5) / values.len() as f64 - 0.5);
                        trace.style.mark(svg, panel.at(at as f64 + 0.24 + 0.5 * aside, *value), 2.0, false);
                    }
                    let Some(interval) = Interval::of(&values) else { continue };
                    let x = at as f64 - 0.14;
                    if interval.count > 1 {
                        let ends = (panel.at(x, interval.low), panel.at(x, interval.high));
                        svg.line(ends.0, ends.1, Stroke::solid(trace.style.color, 2.0));
                    }
                    trace.style.mark(svg, panel.at(x, interval.mean), 3.6, true);
                }
            });
        }
        svg.finish("Exploration metrics at tuned learning rates, a point per optimizer and seed")
    });
    let caption = "Exploration at tuned learning rates, from the same seeds. Novelty: fraction of activation bits \
                   that differ from the nearest earlier configuration, mean over all steps but the first, which \
                   leaves the initialization. Switches: fraction of bits that change from one configuration to the \
                   next. Log-volume and log-det (natural logarithms): means over neurons. Upper row: one \
                   configuration per epoch. Lower row: the fine time scale."
        .to_owned();
    figure("study-tuned", "Exploration at tuned rates", caption, svg)
}

/// The runs of one setting from all seeds.
struct Setting {
    x: f64,
    /// Mean, least and largest value of the metric over the seeds.
    y: (f64, f64, f64),
}

/// The settings of a trace in the order of its rows: learning rate or epsilon. The mean of a logarithmic abscissa is
/// geometric.
fn settings(trace: &Trace, abscissa: &Abscissa, metric: &Metric) -> Vec<Setting> {
    let same = |a: &&ExploreRow, b: &&ExploreRow| (a.learning_rate, a.epsilon) == (b.learning_rate, b.epsilon);
    let setting = |rows: &[&ExploreRow]| {
        let point = |row: &&ExploreRow| Some(((abscissa.of)(row)?, (metric.of)(row)?));
        let usable = |point: &(f64, f64)| !abscissa.log || point.0 > 0.0;
        let points: Vec<(f64, f64)> = rows.iter().filter_map(point).filter(usable).collect();
        let xs = points.iter().map(|point| point.0);
        let x = if abscissa.log { mean(xs.map(f64::ln))?.exp() } else { mean(xs)? };
        let ys = || points.iter().map(|point| point.1);
        let y = (mean(ys())?, ys().fold(f64::INFINITY, f64::min), ys().fold(f64::NEG_INFINITY, f64::max));
        Some(Setting { x, y })
    };
    trace.rows.chunk_by(same).filter_map(setting).collect()
}

/// Panels of metrics against something, in two columns: a line per trace through the means of its settings, with their
/// ranges.
fn panels(id: &str, traces: &[Trace], abscissa: &Abscissa, metrics: &[Metric], name: &str) -> Option<Drawing> {
    let all = |metric: &Metric| traces.iter().flat_map(|trace| settings(trace, abscissa, metric)).collect::<Vec<_>>();
    if metrics.iter().any(|metric| all(metric).is_empty()) {
        return None;
    }
    let mut entries: Vec<Entry> =
        traces.iter().map(|trace| Entry::new(Sample::Series(trace.style), trace.name.clone())).collect();
    entries.push(Entry::new(Sample::Upright, "range over seeds"));
    let top = legend::height(&entries, WIDTH - 20.0) + 34.0;
    let (height, gap) = (180.0, (70.0, 74.0));
    let width = (WIDTH - 66.0 - 20.0 - gap.0) / 2.0;
    let rows = metrics.len().div_ceil(2) as f64;
    let mut svg = Svg::new(id, WIDTH, top + rows * height + (rows - 1.0) * gap.1 + 42.0);
    legend::draw(&mut svg, (10.0, 4.0), WIDTH - 20.0, &entries);
    for (metric, cell) in metrics.iter().zip(cells((66.0, top), (width, height), gap, 2, metrics.len())) {
        let all = all(metric);
        let xs = all.iter().map(|setting| setting.x);
        let x = if abscissa.log { logarithmic(xs) } else { linear(xs) };
        let panel = Panel::new(cell, x, linear(all.iter().flat_map(|setting| [setting.y.1, setting.y.2])));
        let scale = if abscissa.log { format!("{} (log axis)", abscissa.label) } else { abscissa.label.to_owned() };
        panel.draw(&mut svg, Labels { title: &title(metric), x: &scale, y: metric.unit, ..Labels::default() });
        panel.inside(&mut svg, |svg| {
            for trace in traces {
                let settings = settings(trace, abscissa, metric);
                for Setting { x, y } in &settings {
                    let range = Stroke::solid(trace.style.color, 1.0).faded(0.45);
                    svg.line(panel.at(*x, y.1), panel.at(*x, y.2), range);
                }
                let means: Vec<(f64, f64)> = settings.iter().map(|setting| (setting.x, setting.y.0)).collect();
                panel.curve(svg, &means, trace.style.stroke(1.6));
                means.iter().for_each(|(x, y)| trace.style.mark(svg, panel.at(*x, *y), 2.6, true));
            }
        });
    }
    Some(svg.finish(name))
}

fn against_distance(study: &Exploration) -> Figure {
    let abscissa = Abscissa { label: "distance ‖W − W¹‖", log: true, of: |row| row.distance };
    let name = "Exploration metrics against distance travelled, one line per optimizer over its learning rates";
    let svg = panels("study-distance", &by_optimizer(study), &abscissa, &METRICS[4..], name);
    let caption =
        "Exploration at the fine time scale against the distance travelled. A marker is one multiple of the tuned \
         learning rate: the mean over the seeds that did not diverge; upright lines reach from the least to the \
         largest seed. Compare optimizers only at distances that both curves cover."
            .to_owned();
    figure("study-distance", "Exploration against distance travelled", caption, svg)
}

fn against_loss(study: &Exploration) -> Figure {
    let abscissa = Abscissa { label: "final training loss", log: true, of: |row| row.train_loss };
    let name = "Exploration metrics against final training loss, one line per optimizer over its learning rates";
    let svg = panels("study-loss", &by_optimizer(study), &abscissa, &METRICS[4..], name);
    let caption = "Exploration at the fine time scale against the loss over the whole training set after the last \
                   round. A marker is one multiple of an optimizer's tuned learning rate, in order along its line: \
                   the mean over seeds, with their range. If exploration helps, the lines slope downwards."
        .to_owned();
    figure("study-loss", "Exploration against the final loss", caption, svg)
}

/// The metrics and the loss along the sweep of epsilon.
fn sweep(study: &Exploration) -> Figure {
    let rows: Vec<&ExploreRow> = complete(study, Group::Epsilon).collect();
    let trace = Trace { style: SeriesStyle::of(0), name: "Adam with epsilon".into(), rows };
    let abscissa = Abscissa { label: "epsilon", log: true, of: |row| row.epsilon };
    let loss = Metric { name: "final training loss", scale: None, unit: "loss", of: |row| row.train_loss };
    let distance =
        Metric { name: "distance ‖W − W¹‖", scale: None, unit: "norm of the weights", of: |row| row.distance };
    let metrics = [METRICS[4], METRICS[5], METRICS[6], METRICS[7], loss, distance];
    let name = "Exploration, loss and distance against Adam's epsilon";
    let svg = panels("study-epsilon", &[trace], &abscissa, &metrics, name);
    let caption = "From Adam (left) to momentum (right). The step of every coordinate is a weighted mean of both, \
                   each at its tuned rate; epsilon shifts the weight. Metrics at the fine time scale: means over \
                   seeds, with their range."
        .to_owned();
    figure("study-epsilon", "The sweep of epsilon", caption, svg)
}
