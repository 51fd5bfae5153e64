//! How long a gradient remembers itself along a segment: autocorrelation against depth.

use crate::{
    landscape::shatter::brownian,
    report::{
        draw::{
            axis::Axis,
            legend::{self, Entry, Sample},
            panel::{Labels, Panel},
            style::{INK, MUTED, ramp},
            svg::{Rect, Stroke, Svg},
        },
        figure::{Figure, WIDTH},
    },
    study::landscape::{LandscapeTables, rows::AutocorrelationRow},
};

const BROWNIAN: Stroke<'static> = Stroke { color: INK, width: 1.6, dash: "7 3", opacity: 1.0 };
const WHITE: Stroke<'static> = Stroke { color: MUTED, width: 1.6, dash: "2 3", opacity: 1.0 };

/// Draws the autocorrelation of each depth between the two references.
pub fn draw(tables: &LandscapeTables) -> Figure {
    let width = tables.autocorrelation.first().map_or(0, |row| row.width);
    let samples = tables.growth.iter().map(|row| row.samples).max().unwrap_or_default();
    let caption = format!(
        "Autocorrelation of the gradient along segments between datapoints, for {samples} random networks of each depth \
         ({width} units a layer, He-uniform weights), exact integrals over the pieces. References: \
         Brownian motion, which remembers, and white noise, which forgets at once. Balduzzi et al. (2017) find the gradients \
         of shallow networks near the first and those of deep networks without skip connections near the second."
    );
    Figure {
        id: "autocorrelation",
        heading: "How fast gradients decorrelate",
        svg: Ok(picture(&tables.autocorrelation)),
        caption,
        notes: Vec::new(),
        sources: vec!["autocorrelation.csv".to_owned()],
    }
}

fn picture(rows: &[AutocorrelationRow]) -> String {
    let depths: Vec<&[AutocorrelationRow]> = rows.chunk_by(|a, b| a.depth == b.depth).collect();
    let colors: Vec<String> = (0..depths.len())
        .map(|i| ramp((0, 114, 178), 0.3 + 0.7 * i as f64 / (depths.len() - 1).max(1) as f64))
        .collect();
    let lines: Vec<Stroke> = colors.iter().map(|color| Stroke::solid(color, 1.8)).collect();
    let layers = |depth: usize| if depth == 1 { "1 layer".to_owned() } else { format!("{depth} layers") };
    let shades: Vec<Entry> = depths
        .iter()
        .zip(&colors)
        .map(|(rows, color)| Entry::new(Sample::Patch(color.clone()), layers(rows[0].depth)))
        .collect();
    let mut entries = shades;
    entries.push(Entry::new(Sample::Line(BROWNIAN), "Brownian motion"));
    entries.push(Entry::new(Sample::Line(WHITE), "white noise"));
    let top = legend::height(&entries, WIDTH - 20.0) + 20.0;
    let mut svg = Svg::new("autocorrelation", WIDTH, top + 250.0 + 42.0);
    legend::draw(&mut svg, (10.0, 4.0), WIDTH - 20.0, &entries);
    let lags: Vec<f64> = depths.first().map(|rows| rows.iter().map(|row| row.lag).collect()).unwrap_or_default();
    let reference: Vec<(f64, f64)> = lags.iter().map(|lag| (*lag, brownian(*lag))).collect();
    let lowest = rows.iter().map(|row| row.autocorrelation).chain(reference.iter().map(|p| p.1)).fold(0.0, f64::min);
    let last = lags.last().copied().unwrap_or(0.5);
    let panel = Panel::new(
        Rect::new(66.0, top, WIDTH - 66.0 - 16.0, 250.0),
        Axis::linear(0.0, last),
        Axis::linear(lowest - 0.05, 1.05),
    );
    let labels = Labels { x: "lag, as a share of the segment", y: "autocorrelation", ..Labels::default() };
    panel.draw(&mut svg, labels);
    panel.inside(&mut svg, |svg| {
        panel.curve(svg, &[(0.0, 1.0), (0.0, 0.0), (last, 0.0)], WHITE);
        panel.curve(svg, &reference, BROWNIAN);
        for (rows, stroke) in depths.iter().zip(&lines) {
            let points: Vec<(f64, f64)> = rows.iter().map(|row| (row.lag, row.autocorrelation)).collect();
            panel.curve(svg, &points, *stroke);
        }
    });
    svg.finish("Autocorrelation of gradients against lag, one line per depth, with references")
}
