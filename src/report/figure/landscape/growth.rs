//! Kinks against depth: exponential where constructed, proportional to the units where random.

use crate::{
    report::{
        draw::{palette::MUTED, prelude::*},
        figure::{Figure, WIDTH},
    },
    study::{
        landscape::{
            LandscapeTables,
            rows::{GrowthRow, Origin},
        },
        numbers::number,
        results::mean,
    },
};

const GUIDE: Stroke<'static> = Stroke { color: MUTED, width: 1.2, dash: "3 3", opacity: 1.0 };

/// Draws kinks against depth and kinks per unit against depth.
pub fn draw(tables: &LandscapeTables) -> Figure {
    let samples = tables.growth.iter().map(|row| row.samples).max().unwrap_or_default();
    let caption = format!(
        "Kinks on a segment against depth, counted exactly. Tent networks (two units per layer) have 2^depth − 1 \
         kinks. Random networks: He-uniform weights, zero biases, segments between datapoints; mean, and least to \
         most as bars, of {samples} networks each. Hanin and Rolnick (2019) derive for initializations a number in \
         proportion to the units, whatever the depth: the guides have {} kinks per unit, the mean.",
        number(kinks_per_unit(&tables.growth))
    );
    Figure {
        id: "growth",
        heading: "Kinks against depth",
        svg: Ok(picture(&tables.growth)),
        caption,
        notes: Vec::new(),
        sources: vec!["growth.csv".to_owned()],
    }
}

/// Mean over the shapes of random networks.
fn kinks_per_unit(rows: &[GrowthRow]) -> f64 {
    mean(rows.iter().filter(|row| row.network != Origin::Tent).map(per_unit)).unwrap_or(0.0)
}

/// The name of the networks of one width.
fn name(rows: &[GrowthRow]) -> String {
    format!("{}, {} units per layer", rows[0].network, rows[0].width)
}

fn picture(rows: &[GrowthRow]) -> Drawing {
    let guide = kinks_per_unit(rows);
    let series: Vec<&[GrowthRow]> = rows.chunk_by(|a, b| (&a.network, a.width) == (&b.network, b.width)).collect();
    let mut entries: Vec<Entry> =
        series.iter().enumerate().map(|(i, rows)| Entry::series(SeriesStyle::of(i), name(rows))).collect();
    entries.push(Entry::new(Sample::Line(GUIDE), format!("{} kinks per unit", number(guide))));
    let top = legend::height(&entries, WIDTH - 20.0) + 34.0;
    let height = 230.0;
    let mut svg = Svg::new("growth", WIDTH, top + height + 42.0);
    legend::draw(&mut svg, (10.0, 4.0), WIDTH - 20.0, &entries);
    let deepest = rows.iter().map(|row| row.depth).max().unwrap_or(1) as f64;
    let depth = Axis::log(0.9, 1.1 * deepest);
    let most = rows.iter().map(|row| row.most_kinks).max().unwrap_or(1) as f64;
    let left = Panel::new(Rect::new(66.0, top, 300.0, height), depth, Axis::log(0.8, 1.3 * most));
    draw_kinks(&mut svg, &left, &series, guide);
    let random: Vec<(usize, &[GrowthRow])> =
        series.iter().copied().enumerate().filter(|(_, rows)| rows[0].network != Origin::Tent).collect();
    let highest = random.iter().flat_map(|(_, rows)| rows.iter().map(per_unit)).fold(0.0, f64::max);
    let right = Panel::new(Rect::new(438.0, top, 290.0, height), depth, Axis::from_zero(1.25 * highest));
    draw_per_unit(&mut svg, &right, &random, &[(1.0, guide), (deepest, guide)]);
    svg.finish("Kinks on a segment against depth, for tent networks and random networks")
}

/// Kinks against depth, with guides for random networks of `guide` kinks per unit.
fn draw_kinks(svg: &mut Svg, panel: &Panel, series: &[&[GrowthRow]], guide: f64) {
    panel.draw(svg, Labels { title: "kinks", x: "hidden layers", y: "kinks on the segment", ..Labels::default() });
    panel.inside(svg, |svg| {
        for rows in series.iter().filter(|rows| rows[0].network != Origin::Tent) {
            let line: Vec<(f64, f64)> = rows.iter().map(|row| (row.depth as f64, guide * row.units as f64)).collect();
            panel.curve(svg, &line, GUIDE);
        }
        for (i, rows) in series.iter().enumerate() {
            let style = SeriesStyle::of(i);
            let points: Vec<(f64, f64)> = rows.iter().map(|row| (row.depth as f64, row.mean_kinks)).collect();
            svg.series(&name(rows), |svg| {
                for row in rows.iter().filter(|row| row.samples > 1) {
                    let ends =
                        [row.least_kinks, row.most_kinks].map(|kinks| panel.at(row.depth as f64, kinks.max(1) as f64));
                    svg.line(ends[0], ends[1], Stroke::solid(style.color, 1.0).faded(0.6));
                }
                panel.curve(svg, &points, style.stroke(1.6));
                for (row, p) in rows.iter().zip(&points) {
                    let kinks = format!("{} to {}, mean {}", row.least_kinks, row.most_kinks, number(row.mean_kinks));
                    let title = format!("{}, {} hidden layers: {kinks} kinks", name(rows), row.depth);
                    svg.titled(&title, |svg| style.mark(svg, panel.at(p.0, p.1), 3.2, true));
                }
            });
        }
    });
}

fn per_unit(row: &GrowthRow) -> f64 {
    row.mean_kinks / row.units as f64
}

/// Kinks per unit against depth, of random networks.
fn draw_per_unit(svg: &mut Svg, panel: &Panel, random: &[(usize, &[GrowthRow])], guide: &[(f64, f64)]) {
    let (title, y) = ("kinks per unit, random", "kinks per unit");
    panel.draw(svg, Labels { title, x: "hidden layers", y, ..Labels::default() });
    panel.inside(svg, |svg| {
        panel.curve(svg, guide, GUIDE);
        for (i, rows) in random {
            let style = SeriesStyle::of(*i);
            let points: Vec<(f64, f64)> = rows.iter().map(|row| (row.depth as f64, per_unit(row))).collect();
            svg.series(&name(rows), |svg| {
                panel.curve(svg, &points, style.stroke(1.6));
                for p in &points {
                    let title = format!("{}, {} hidden layers: {} kinks per unit", name(rows), p.0, number(p.1));
                    svg.titled(&title, |svg| style.mark(svg, panel.at(p.0, p.1), 3.2, true));
                }
            });
        }
    });
}
