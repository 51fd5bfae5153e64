//! The linear regions on a plane, coloured by the slope of an output and by the loss.

use crate::{
    report::{
        draw::{
            palette::{FRAME, INK, MUTED, PAPER, ramp},
            prelude::*,
        },
        figure::{Figure, WIDTH},
    },
    study::{
        landscape::{
            LandscapeTables, PlaneKind, What,
            rows::{PlaneSummary, RegionRow},
        },
        numbers::{count, significant},
        results::quantile,
    },
};
use std::fmt::Write;

/// Steps of a colour ramp: each is one path of the file.
const STEPS: usize = 40;
/// With more regions than this, they have no hover texts, so that the page stays small.
const MOST_TITLES: usize = 1200;
const SLOPE: (u8, u8, u8) = (213, 94, 0);
const LOSS: (u8, u8, u8) = (0, 114, 178);
const POINT: SeriesStyle = SeriesStyle { color: INK, dash: "", marker: Marker::Circle };

/// What a region is coloured by.
type Quantity = fn(&RegionRow) -> f64;

/// Draws the regions twice: by slope and by loss.
pub fn draw(tables: &LandscapeTables, plane: &PlaneSummary) -> Figure {
    let summary = &tables.summary;
    let points = match summary.along {
        What::Plane(PlaneKind::Layer(_)) => "the weights as they are".to_owned(),
        _ => {
            let rows: Vec<String> = summary.datapoints.iter().map(ToString::to_string).collect();
            format!("rows {} of the data", rows.join(", "))
        }
    };
    let caption = format!(
        "The {1} linear regions on a plane, exact polygons. Left: coloured by the length of the gradient of output \
         {0}, which is constant on each. Right: by the loss at the middle of each, with the target of row {2}. \
         Output {0} is the one whose slope varies most on the plane, unless another was asked for. Circles: \
         {points}. Coordinates: {3}. The weights are those of {4}.",
        summary.output,
        count(tables.regions.len() as u64),
        summary.datapoints[0],
        summary.parameter,
        summary.subject
    );
    Figure {
        id: "regions",
        heading: "Linear regions on a plane",
        svg: if tables.regions.is_empty() { Err("regions.csv has no rows".into()) } else { Ok(picture(tables, plane)) },
        caption,
        notes: vec!["Colours are cut at the 1st and the 99th percentile of the area.".to_owned()],
        sources: vec!["regions.csv".to_owned()],
    }
}

fn picture(tables: &LandscapeTables, plane: &PlaneSummary) -> Drawing {
    let summary = &tables.summary;
    let map = Map { regions: &tables.regions, polygons: tables.regions.iter().map(corners).collect(), plane };
    let x = Axis::linear(summary.from, summary.to);
    let y = Axis::linear(plane.v_from, plane.v_to);
    let (left, top, gap) = (54.0, 28.0, 100.0);
    let size = (WIDTH - left - gap - 62.0) / 2.0;
    // Equal scales on both axes, within reason.
    let height = (size * (y.max - y.min) / (x.max - x.min)).clamp(0.5 * size, 1.6 * size);
    let mut svg = Svg::new("regions", WIDTH, top + height + 42.0);
    let slope_title = format!("slope of output {}", summary.output);
    let panels: [(&str, _, Quantity); 2] = [(&slope_title, SLOPE, |row| row.slope), ("loss", LOSS, |row| row.loss)];
    for (i, (title, color, value)) in panels.into_iter().enumerate() {
        let frame = Rect::new(left + i as f64 * (size + gap), top, size, height);
        let panel = Panel::new(frame, x, y);
        panel.draw(&mut svg, Labels { title, x: "u", y: if i == 0 { "v" } else { "" }, ..Labels::default() });
        let range = range(&tables.regions, value);
        panel.inside(&mut svg, |svg| map.draw(svg, &panel, color, value, range));
        svg.rect(frame, "none", Some(Stroke::solid(FRAME, 1.0)));
        color_bar(&mut svg, frame, color, range);
    }
    let rows = summary.datapoints.iter().map(ToString::to_string).collect::<Vec<_>>();
    if plane.points.len() == rows.len() {
        label_points(&mut svg, &Panel::new(Rect::new(left, top, size, height), x, y), &plane.points, &rows);
    }
    svg.finish("Linear regions of a network on a plane, coloured by slope and by loss")
}

/// The regions as they are drawn.
struct Map<'a> {
    regions: &'a [RegionRow],
    polygons: Vec<Vec<(f64, f64)>>,
    plane: &'a PlaneSummary,
}

impl Map<'_> {
    /// The regions coloured by a quantity, with their edges, and the points of the plane.
    fn draw(&self, svg: &mut Svg, panel: &Panel, color: (u8, u8, u8), value: Quantity, (low, high): (f64, f64)) {
        let mut steps = vec![String::new(); STEPS];
        let mut answers = Vec::new();
        for (row, polygon) in self.regions.iter().zip(&self.polygons) {
            let t = if high > low { ((value(row) - low) / (high - low)).clamp(0.0, 1.0) } else { 0.0 };
            let mut commands = String::new();
            outline(panel, polygon, &mut commands);
            steps[((t * STEPS as f64) as usize).min(STEPS - 1)].push_str(&commands);
            if self.regions.len() <= MOST_TITLES {
                let values = [row.slope, row.loss, row.area].map(|value| significant(value, 3));
                let title = format!("slope {}, loss {}, area {}", values[0], values[1], values[2]);
                answers.push((commands, title));
            }
        }
        for (step, commands) in steps.iter().enumerate().filter(|(_, commands)| !commands.is_empty()) {
            let fill = ramp(color, (step as f64 + 0.5) / STEPS as f64);
            // The same colour around it closes the seams between neighbours.
            svg.shape(commands, &fill, Stroke::solid(&fill, 0.6));
        }
        let mut edges = String::new();
        self.polygons.iter().for_each(|polygon| outline(panel, polygon, &mut edges));
        // Many regions would drown in their edges.
        let faint = (60.0 / (self.polygons.len() as f64).sqrt()).clamp(0.06, 0.6);
        svg.shape(&edges, "none", Stroke::solid(PAPER, 0.5).faded(faint));
        svg.unseen(|svg| answers.iter().for_each(|(commands, title)| svg.cell(commands, title)));
        for point in &self.plane.points {
            let at = panel.at(point[0], point[1]);
            SeriesStyle { color: PAPER, ..POINT }.mark(svg, at, 5.2, true);
            POINT.mark(svg, at, 3.8, true);
        }
    }
}

/// The colours of the values between `low` and `high`, to the right of a frame.
fn color_bar(svg: &mut Svg, frame: Rect, color: (u8, u8, u8), (low, high): (f64, f64)) {
    let colors: Vec<String> = (0..=10).map(|i| ramp(color, f64::from(i) / 10.0)).collect();
    let fill = svg.gradient(&colors);
    let bar = Rect::new(frame.right() + 8.0, frame.y, 9.0, frame.height.min(120.0));
    svg.rect(bar, &fill, Some(Stroke::solid(FRAME, 0.6)));
    let style = Text::new(TICK - 1.0, Anchor::Start).colored(MUTED);
    svg.text((bar.right() + 3.0, bar.y + 8.0), &significant(high, 2), style);
    svg.text((bar.right() + 3.0, bar.bottom()), &significant(low, 2), style);
}

/// Writes which rows of the data the points are, where there is room.
fn label_points(svg: &mut Svg, panel: &Panel, points: &[[f64; 2]], rows: &[String]) {
    for (point, row) in points.iter().zip(rows) {
        let (across, up) = (panel.x.place(point[0]), panel.y.place(point[1]));
        if across.clamp(0.0, 0.95) == across && up > 0.0 && up < 0.95 {
            let (px, py) = panel.at(point[0], point[1]);
            svg.label((px + 8.0, py - 6.0), row, Text::new(LABEL - 1.0, Anchor::Start));
        }
    }
}

/// The corners of a polygon, from the text of the table; a broken one has none.
fn corners(row: &RegionRow) -> Vec<(f64, f64)> {
    let numbers: Vec<f64> = row.polygon.split_whitespace().filter_map(|text| text.parse().ok()).collect();
    numbers.chunks_exact(2).map(|point| (point[0], point[1])).collect()
}

fn outline(panel: &Panel, polygon: &[(f64, f64)], commands: &mut String) {
    for (i, (u, v)) in polygon.iter().enumerate() {
        let (x, y) = panel.at(*u, *v);
        let _ = write!(commands, "{}{} {}", if i == 0 { 'M' } else { 'L' }, pixels(x), pixels(y));
    }
    commands.push('Z');
}

/// The values between which the middle 98% of the area lie.
fn range(rows: &[RegionRow], value: Quantity) -> (f64, f64) {
    let total: f64 = rows.iter().map(|row| row.area).sum();
    let mut sorted: Vec<(f64, f64)> = rows.iter().map(|row| (value(row), row.area)).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let at = |share: f64| {
        let mut sum = 0.0;
        let reached = sorted.iter().find(|(_, area)| {
            sum += area;
            sum >= share * total
        });
        reached.map_or(f64::NAN, |(value, _)| *value)
    };
    let (low, high) = (at(0.01), at(0.99));
    let all = || rows.iter().map(value);
    if low < high { (low, high) } else { (quantile(all(), 0.0).unwrap_or(0.0), quantile(all(), 1.0).unwrap_or(1.0)) }
}
