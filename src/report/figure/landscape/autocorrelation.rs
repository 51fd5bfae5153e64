//! How long a gradient remembers itself along a segment: autocorrelation against depth.

use crate::{
    landscape::shatter::brownian,
    report::{
        draw::{
            palette::{BLUE, INK, MUTED, ramp},
            prelude::*,
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
        "Autocorrelation of the gradient along segments between datapoints, for {samples} random networks of each \
         depth ({width} units per layer, He-uniform weights), exact integrals over the pieces. References: Brownian \
         motion, which remembers, and white noise, which forgets at once. Balduzzi et al. (2017) find the gradients \
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

fn picture(rows: &[AutocorrelationRow]) -> Drawing {
    let depths: Vec<&[AutocorrelationRow]> = rows.chunk_by(|a, b| a.depth == b.depth).collect();
    let colors: Vec<String> = (0..depths.len())
        .map(|i| ramp((0, 114, 178), 0.35 + 0.65 * i as f64 / (depths.len() - 1).max(1) as f64))
        .collect();
    let lines: Vec<Stroke> = colors.iter().map(|color| Stroke::solid(color, 1.8)).collect();
    let layers = |depth: usize| if depth == 1 { "1 layer".to_owned() } else { format!("{depth} layers") };
    let entries = [
        Entry::new(Sample::Line(BROWNIAN), "Brownian motion"),
        Entry::new(Sample::Line(WHITE), "white noise"),
        Entry::new(Sample::Line(Stroke::solid(BLUE, 1.8)), "random networks, darker with depth"),
    ];
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
            svg.titled(&layers(rows[0].depth), |svg| panel.curve(svg, &points, *stroke));
        }
    });
    let references: Vec<(f64, f64)> = reference.iter().flat_map(|p| [panel.at(p.0, p.1), panel.at(p.0, 0.0)]).collect();
    let pixels: Vec<Vec<(f64, f64)>> =
        depths.iter().map(|rows| rows.iter().map(|row| panel.at(row.lag, row.autocorrelation)).collect()).collect();
    for (place, (rows, color)) in label_places(&pixels, &[references]).into_iter().zip(depths.iter().zip(&colors)) {
        if let Some((x, y)) = place {
            svg.label((x, y + 4.0), &layers(rows[0].depth), Text::new(TICK, Anchor::Middle).colored(color));
        }
    }
    svg.finish("Autocorrelation of gradients against lag, one line per depth, with references")
}

/// For each line the point that is farthest from the other lines, `others`, and the labels before; in pixels.
fn label_places(lines: &[Vec<(f64, f64)>], others: &[Vec<(f64, f64)>]) -> Vec<Option<(f64, f64)>> {
    // Half of a label's width and its height.
    const REACH: (f64, f64) = (30.0, 13.0);
    let mut places: Vec<Option<(f64, f64)>> = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let ends = line.len() / 20 + 1;
        let inner = line.get(ends..line.len().saturating_sub(ends)).unwrap_or_default();
        let clearance = |&(x, y): &(f64, f64)| {
            let lines = lines.iter().enumerate().filter(|(j, _)| *j != i).flat_map(|(_, other)| other);
            lines
                .chain(others.iter().flatten())
                .filter(|p| (p.0 - x).abs() < REACH.0)
                .map(|p| (p.1 - y).abs())
                .fold(f64::INFINITY, f64::min)
        };
        let apart = |&(x, y): &(f64, f64)| {
            places.iter().flatten().all(|p| (p.0 - x).abs() > 2.0 * REACH.0 || (p.1 - y).abs() > REACH.1)
        };
        let best = inner.iter().filter(|p| apart(p)).max_by(|a, b| clearance(a).total_cmp(&clearance(b))).copied();
        places.push(best);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_lie_on_their_lines_and_apart() {
        let line = |slope: f64| (0..100).map(|i| (5.0 * f64::from(i), slope * f64::from(i))).collect::<Vec<_>>();
        let lines = [line(0.5), line(1.0), line(2.0)];
        let places: Vec<(f64, f64)> = label_places(&lines, &[]).into_iter().flatten().collect();
        assert_eq!(places.len(), 3);
        assert!(places.iter().zip(&lines).all(|(place, line)| line.contains(place)));
    }
}
