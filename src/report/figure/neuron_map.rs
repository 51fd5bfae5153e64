//! A map of all neurons: regret and Taylor optimum of each, and which are dead.

use super::{Context, Figure, Series, WIDTH};
use crate::{
    report::draw::{
        legend::{self, Entry, Sample},
        panel::{LABEL, TICK},
        style::{FRAME, MUTED, fitted, ramp},
        svg::{Anchor, Rect, Stroke, Svg, Text, pixels},
    },
    study::{
        numbers::{count, counted, significant},
        results::mean,
        tables::{Scale, UnitRow},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

/// Steps of a colour ramp: more cannot be told apart, and each is one path of the file.
const STEPS: usize = 24;
/// Layers with more neurons show means of neighbouring ones.
const MOST_CELLS: usize = 1600;
/// The two ramps: orange for regret, blue for the optimum.
const RAMPS: [(u8, u8, u8); 2] = [(213, 94, 0), (0, 114, 178)];
const DEAD: &str = "#000000";

/// One neuron, or a few neighbouring ones.
struct Cell {
    /// Regret and optimum.
    values: [f64; 2],
    dead: bool,
}

/// Draws a block of cells per layer (rows), quantity and optimizer (columns).
pub fn draw(context: &Context) -> Figure {
    let mut notes: Vec<String> =
        ["units.csv", "neurons.csv"].into_iter().filter_map(|file| context.lacking(file)).collect();
    let layers: Vec<usize> = {
        let rows = context.series.iter().flat_map(|s| s.tables.units_at(Scale::Neuron, context.comparator));
        rows.filter_map(|row| row.layer).collect::<BTreeSet<_>>().into_iter().collect()
    };
    let svg = if layers.is_empty() {
        Err(format!("no optimizer has neurons in units.csv for the {} comparator", context.comparator))
    } else {
        Ok(picture(context, &layers, &mut notes))
    };
    let caption = format!(
        "Every analysed neuron after the whole run ({} comparator), in the order of its layer, row by row from \
         the upper left. Left: mean regret; right: Taylor optimum; both in loss per round. Each layer has its \
         own colour scale, shared by the optimizers, so compare along a row. Crossed cells are dead: active \
         nowhere on the probe set at the end.",
        context.comparator
    );
    let mut sources = context.sources("units.csv");
    sources.extend(context.sources("neurons.csv"));
    Figure { id: "neurons", heading: "Map of all neurons", svg, caption, notes, sources }
}

fn layer_cells(context: &Context, series: &Series, layer: usize) -> Vec<Cell> {
    let dead: BTreeSet<usize> =
        series.tables.neurons.iter().filter(|row| row.layer == layer && row.dead).map(|row| row.neuron).collect();
    let rows: BTreeMap<usize, &UnitRow> = series
        .tables
        .units_at(Scale::Neuron, context.comparator)
        .filter(|row| row.layer == Some(layer))
        .filter_map(|row| row.neuron.map(|neuron| (neuron, row)))
        .collect();
    let rows: Vec<(usize, &UnitRow)> = rows.into_iter().collect();
    rows.chunks(rows.len().div_ceil(MOST_CELLS).max(1))
        .map(|chunk| Cell {
            values: [
                mean(chunk.iter().map(|(_, row)| row.mean_regret)).unwrap_or(f64::NAN),
                mean(chunk.iter().map(|(_, row)| row.taylor_optimum)).unwrap_or(f64::NAN),
            ],
            dead: chunk.iter().all(|(neuron, _)| dead.contains(neuron)),
        })
        .collect()
}

fn picture(context: &Context, layers: &[usize], notes: &mut Vec<String>) -> String {
    let optimizers = context.series.len();
    let (label, bar, gap) = (86.0, 66.0, 8.0);
    let block = (((WIDTH - label - 2.0 * bar) / (2.0 * optimizers as f64)) - gap).clamp(44.0, 120.0);
    let group = optimizers as f64 * (block + gap) + bar;
    let width = (label + 2.0 * group).max(WIDTH);
    let cells: Vec<Vec<Vec<Cell>>> = layers
        .iter()
        .map(|layer| context.series.iter().map(|series| layer_cells(context, series, *layer)).collect())
        .collect();
    let widest = cells.iter().flatten().map(Vec::len).max().unwrap_or(0);
    if widest == MOST_CELLS || cells.iter().flatten().flatten().count() < context_rows(context) {
        notes.push(format!("A layer of more than {MOST_CELLS} neurons shows means of neighbouring neurons."));
    }
    let negative = cells.iter().flatten().flatten().filter(|cell| cell.values[0] < 0.0).count();
    if negative > 0 {
        notes.push(format!(
            "{} cells have negative regret: the palest ones of scales that begin below zero.",
            count(negative as u64)
        ));
    }
    let heights: Vec<f64> =
        cells.iter().map(|row| row.iter().map(|cells| grid(cells.len(), block).height).fold(44.0, f64::max)).collect();
    let entries = [Entry::new(Sample::Patch(DEAD.into()), "dead neuron (a cross; black where cells are small)")];
    let head = legend::height(&entries, WIDTH - 20.0) + 56.0;
    let total = head + heights.iter().map(|h| h + 18.0).sum::<f64>();
    let mut svg = Svg::new("neurons", width, total);
    legend::draw(&mut svg, (10.0, 4.0), WIDTH - 20.0, &entries);
    for (quantity, title) in ["mean regret", "Taylor optimum"].iter().enumerate() {
        let x = label + quantity as f64 * group;
        svg.text((x, head - 28.0), &format!("{title} (loss per round)"), Text::new(LABEL, Anchor::Start).bold());
        for (i, series) in context.series.iter().enumerate() {
            let x = x + i as f64 * (block + gap);
            let name = fitted(&series.name, TICK, block + gap - 2.0);
            svg.text((x, head - 10.0), &name, Text::new(TICK, Anchor::Start).bold().colored(series.style.color));
        }
    }
    let mut y = head;
    for ((layer, row), height) in layers.iter().zip(&cells).zip(&heights) {
        let neurons = row.iter().map(Vec::len).max().unwrap_or(0);
        svg.text((10.0, y + 12.0), &format!("layer {layer}"), Text::new(LABEL, Anchor::Start).bold());
        svg.text((10.0, y + 27.0), &counted(neurons, "neuron"), Text::new(TICK, Anchor::Start).colored(MUTED));
        for (quantity, colors) in RAMPS.into_iter().enumerate() {
            let x = label + quantity as f64 * group;
            let values = || row.iter().flatten().map(|cell| cell.values[quantity]).filter(|v| v.is_finite());
            let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
            for (i, cells) in row.iter().enumerate() {
                let corner = (x + i as f64 * (block + gap), y);
                if cells.is_empty() {
                    let style = Text::new(TICK, Anchor::Start).colored(MUTED);
                    svg.text((corner.0, y + 12.0), "not measured", style);
                }
                draw_block(&mut svg, corner, block, cells, quantity, (low, high));
            }
            if low <= high {
                let x = x + optimizers as f64 * (block + gap) + 2.0;
                color_bar(&mut svg, Rect::new(x, y, 9.0, height.min(64.0)), colors, (low, high));
            }
        }
        y += height + 18.0;
    }
    svg.finish(
        "Regret and Taylor optimum of every neuron as coloured cells, one row per layer, one block per optimizer",
    )
}

fn context_rows(context: &Context) -> usize {
    context.series.iter().map(|s| s.tables.units_at(Scale::Neuron, context.comparator).count()).sum()
}

/// How many columns of which size hold `count` cells.
struct Grid {
    columns: usize,
    size: f64,
    height: f64,
}

fn grid(count: usize, block: f64) -> Grid {
    let columns = if count <= 100 { 10 } else { (count as f64).sqrt().ceil() as usize };
    let size = block / columns as f64;
    Grid { columns, size, height: count.div_ceil(columns) as f64 * size }
}

fn draw_block(svg: &mut Svg, corner: (f64, f64), block: f64, cells: &[Cell], quantity: usize, (low, high): (f64, f64)) {
    let grid = grid(cells.len(), block);
    // One path per colour step keeps the file small.
    let mut steps = vec![String::new(); STEPS];
    let (mut crosses, mut solid) = (String::new(), String::new());
    for (i, cell) in cells.iter().enumerate() {
        let x = corner.0 + (i % grid.columns) as f64 * grid.size;
        let y = corner.1 + (i / grid.columns) as f64 * grid.size;
        let size = pixels(grid.size);
        let square = format!("M{} {}h{size}v{size}h-{size}Z", pixels(x), pixels(y));
        let value = cell.values[quantity];
        if value.is_finite() {
            let t = if high > low { (value - low) / (high - low) } else { 0.0 };
            steps[((t * STEPS as f64) as usize).min(STEPS - 1)].push_str(&square);
        }
        if cell.dead && grid.size < 5.0 {
            solid.push_str(&square);
        } else if cell.dead {
            let (near, far) = (0.22 * grid.size, 0.78 * grid.size);
            let p = |dx: f64, dy: f64| format!("{} {}", pixels(x + dx), pixels(y + dy));
            let _ = write!(crosses, "M{}L{}M{}L{}", p(near, near), p(far, far), p(near, far), p(far, near));
        }
    }
    for (step, commands) in steps.iter().enumerate().filter(|(_, commands)| !commands.is_empty()) {
        svg.area(commands, &ramp(RAMPS[quantity], (step as f64 + 0.5) / STEPS as f64));
    }
    if !solid.is_empty() {
        svg.area(&solid, DEAD);
    }
    if !crosses.is_empty() {
        // A light halo keeps the cross visible on dark cells.
        svg.shape(&crosses, "none", Stroke::solid("#ffffff", 2.8));
        svg.shape(&crosses, "none", Stroke::solid(DEAD, 1.3));
    }
    if !cells.is_empty() {
        let columns = grid.columns.min(cells.len());
        let rect = Rect::new(corner.0, corner.1, columns as f64 * grid.size, grid.height);
        svg.rect(rect, "none", Some(Stroke::solid(FRAME, 0.6)));
    }
}

fn color_bar(svg: &mut Svg, rect: Rect, middle: (u8, u8, u8), (low, high): (f64, f64)) {
    // Equal values are all drawn in the palest colour, and so is their bar.
    let last = if high > low { 10 } else { 0 };
    let colors: Vec<String> = (0..=10).map(|i| ramp(middle, f64::from(i.min(last)) / 10.0)).collect();
    let fill = svg.gradient(&colors);
    svg.rect(rect, &fill, Some(Stroke::solid(FRAME, 0.6)));
    let style = Text::new(TICK - 1.0, Anchor::Start).colored(MUTED);
    if high > low {
        svg.text((rect.right() + 3.0, rect.y + 8.0), &significant(high, 2), style);
        svg.text((rect.right() + 3.0, rect.bottom()), &significant(low, 2), style);
    } else {
        svg.text((rect.right() + 3.0, rect.y + rect.height / 2.0 + 4.0), &significant(low, 2), style);
    }
}
