//! A map of all neurons: which share of the loss is regret of each, and which are dead.

use super::{Context, Figure, Series, WIDTH};
use crate::{
    report::draw::{
        letters::fitted,
        palette::{DEAD, FRAME, MUTED, PAPER, UNSOLVED, ramp},
        prelude::*,
    },
    study::{
        numbers::{count, counted, percent},
        results::mean,
        tables::{Scale, UnitRow},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

/// Steps of the colour ramp: more cannot be told apart.
const STEPS: usize = 24;
/// Layers with more neurons show means of neighbouring ones.
const MOST_CELLS: usize = 1600;
/// Figures with more cells have no hover texts, so that the page stays small.
const MOST_TITLES: usize = 6000;
/// Orange, as regret is elsewhere.
const COLOR: (u8, u8, u8) = (213, 94, 0);
/// Cells whose gap is more than this share of the colour scale are hatched.
const SHOWN: f64 = 0.1;

/// One neuron, or a few neighbouring ones; shares are of the mean loss.
#[derive(Debug, PartialEq)]
struct Cell {
    /// The first and the last neuron.
    neurons: (usize, usize),
    regret: f64,
    gap: f64,
    dead: bool,
}

/// Draws a block of cells per layer (rows) and optimizer (columns).
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
        "Regret of every neuron as a share of the mean loss, after all rounds ({} comparator). Neurons are in the \
         order of their layer, row by row; grey numbers name the first neuron of a row and of a column. Each layer \
         has its own colour scale, shared by the optimizers: compare along a row. Hatched: the gap is more than {} \
         of the colour scale, so the regret may be that much larger. Crossed: dead, its rectifier lets no \
         gradient through on the probe set at the end.",
        context.comparator,
        percent(SHOWN)
    );
    let mut sources = context.sources("units.csv");
    sources.extend(context.sources("neurons.csv"));
    Figure { id: "neurons", heading: "Map of all neurons: regret", svg, caption, notes, sources }
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
    let share = |value: f64, row: &UnitRow| if row.mean_loss > 0.0 { value / row.mean_loss } else { 0.0 };
    // An unknown gap leaves all of the optimum.
    let gap = |row: &UnitRow| if row.gap.is_finite() { row.gap } else { row.taylor_optimum };
    rows.chunks(rows.len().div_ceil(MOST_CELLS).max(1))
        .map(|chunk| Cell {
            neurons: (chunk[0].0, chunk[chunk.len() - 1].0),
            regret: mean(chunk.iter().map(|(_, row)| share(row.mean_regret, row))).unwrap_or(f64::NAN),
            gap: mean(chunk.iter().map(|(_, row)| share(gap(row), row))).unwrap_or(f64::NAN),
            dead: chunk.iter().all(|(neuron, _)| dead.contains(neuron)),
        })
        .collect()
}

/// The side of the image that the outputs of `layer` form: of a network whose square input is its target.
fn image_side(layers: &[String], layer: usize) -> Option<usize> {
    let dense = |text: &String| -> Option<(usize, usize)> {
        let (from, to) = text.strip_prefix("dense ")?.split_once("->")?;
        let to = to.split(", ").next()?;
        Some((from.trim().parse().ok()?, to.trim().parse().ok()?))
    };
    let last = layers.iter().rposition(|text| dense(text).is_some())?;
    let (inputs, outputs) = (layers.iter().find_map(dense)?.0, dense(&layers[last])?.1);
    let side = outputs.isqrt();
    (last == layer && inputs == outputs && side * side == outputs && side > 3).then_some(side)
}

/// How many columns of which size hold the cells of a layer.
#[derive(Clone, Copy)]
struct Grid {
    columns: usize,
    size: f64,
    height: f64,
    /// Whether rows and columns are those of an image.
    image: bool,
}

impl Grid {
    fn of(count: usize, block: f64, side: Option<usize>) -> Grid {
        let side = side.filter(|side| side * side == count);
        let columns = match side {
            Some(side) => side,
            None if count <= 100 => 10,
            None => (count as f64).sqrt().ceil() as usize,
        };
        // Cells of small layers are no larger than others.
        let size = block / columns.max(10) as f64;
        Grid { columns, size, height: count.div_ceil(columns) as f64 * size, image: side.is_some() }
    }

    fn corner(&self, index: usize) -> (f64, f64) {
        ((index % self.columns) as f64 * self.size, (index / self.columns) as f64 * self.size)
    }
}

/// A layer of the map: for each optimizer its cells, their grid and their scale of colours.
struct LayerMap {
    layer: usize,
    cells: Vec<Vec<Cell>>,
    grid: Grid,
    scale: (f64, f64),
}

/// Left of the blocks, and to their right, where the colour bars are; and between them.
const LABELS: f64 = 84.0;
const BARS: f64 = 58.0;
const GAP: f64 = 30.0;

impl LayerMap {
    /// Of blocks of this width.
    fn of(context: &Context, layer: usize, block: f64) -> LayerMap {
        let cells: Vec<Vec<Cell>> = context.series.iter().map(|series| layer_cells(context, series, layer)).collect();
        let count = cells.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let grid = Grid::of(count, block, image_side(context.layers, layer));
        let scale = scale(cells.iter().flatten());
        LayerMap { layer, cells, grid, scale }
    }

    fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().flatten()
    }

    fn height(&self) -> f64 {
        self.grid.height.max(46.0)
    }
}

fn picture(context: &Context, layers: &[usize], notes: &mut Vec<String>) -> Drawing {
    let optimizers = context.series.len();
    let block = ((WIDTH - LABELS - BARS) / optimizers as f64 - GAP).clamp(60.0, 190.0);
    let width = (LABELS + optimizers as f64 * (block + GAP) + BARS).max(WIDTH);
    let maps: Vec<LayerMap> = layers.iter().map(|layer| LayerMap::of(context, *layer, block)).collect();
    notes.extend(remarks(context, &maps));
    let titled = maps.iter().flat_map(LayerMap::cells).count() <= MOST_TITLES;
    let mut svg = Svg::new("neurons", width, 0.0);
    let hatch = svg.hatch(UNSOLVED);
    let mut entries =
        vec![Entry::new(Sample::Patch(DEAD.into()), "dead neuron (a cross; black where cells are small)")];
    if maps.iter().any(|map| map.cells().any(|cell| cell.is_open(map.scale))) {
        entries.push(Entry::new(Sample::Patch(hatch.clone()), "not certified: the regret may be larger"));
    }
    let head = legend::height(&entries, WIDTH - 20.0) + 46.0;
    legend::draw(&mut svg, (10.0, 4.0), WIDTH - 20.0, &entries);
    let left = |i: usize| LABELS + i as f64 * (block + GAP);
    for (i, series) in context.series.iter().enumerate() {
        let name = fitted(&series.name, LABEL, block + GAP - 4.0);
        let style = Text::new(LABEL, Anchor::Start).bold().colored(series.style.color);
        svg.text((left(i) + 16.0, head - 24.0), &name, style);
    }
    let x = left(optimizers) + 4.0;
    for (line, text) in ["regret,", "% of loss"].into_iter().enumerate() {
        svg.text((x, head - 24.0 + 13.0 * line as f64), text, Text::new(TICK, Anchor::Start).colored(MUTED));
    }
    let mut y = head;
    for map in &maps {
        draw_layer(&mut svg, context, map, y, &|i| left(i) + 16.0, (&hatch, titled));
        if map.scale.0 <= map.scale.1 {
            color_bar(&mut svg, Rect::new(x, y, 9.0, map.height().min(64.0)), map.scale);
        }
        y += map.height() + 26.0;
    }
    svg.resize(y - 8.0);
    svg.finish("Regret of every neuron as coloured cells, one row per layer, one block per optimizer")
}

/// What is to be said of the map.
fn remarks(context: &Context, maps: &[LayerMap]) -> Vec<String> {
    let all = || maps.iter().flat_map(LayerMap::cells);
    let mut notes = Vec::new();
    if all().any(|cell| cell.neurons.0 != cell.neurons.1) {
        notes.push(format!("A layer of more than {MOST_CELLS} neurons shows means of neighbouring neurons."));
    }
    let negative = all().filter(|cell| cell.regret < 0.0).count();
    if negative > 0 {
        notes.push(format!(
            "{} cells have negative regret: the palest ones of scales that begin below zero.",
            count(negative as u64)
        ));
    }
    if maps.iter().any(|map| image_side(context.layers, map.layer).is_some()) {
        notes.push("The last layer is shown as the image that its outputs form.".into());
    }
    notes
}

/// A row of the map: the layer's name, and a block of each optimizer, from `left(i)` on.
fn draw_layer(
    svg: &mut Svg,
    context: &Context,
    map: &LayerMap,
    y: f64,
    left: &dyn Fn(usize) -> f64,
    (hatch, titled): (&str, bool),
) {
    let neurons = map.cells().map(|cell| cell.neurons.1 + 1).max().unwrap_or(0);
    svg.text((8.0, y + 12.0), &format!("layer {}", map.layer), Text::new(LABEL, Anchor::Start).bold());
    svg.text((8.0, y + 27.0), &counted(neurons, "neuron"), Text::new(TICK, Anchor::Start).colored(MUTED));
    for (i, (cells, series)) in map.cells.iter().zip(&context.series).enumerate() {
        svg.series(&series.name, |svg| {
            if cells.is_empty() {
                let style = Text::new(TICK, Anchor::Start).colored(MUTED);
                svg.text((left(i), y + 12.0), "not measured", style);
                return;
            }
            let name = |cell: &Cell| title(cell, map.layer, &series.name, &map.grid);
            draw_block(svg, (left(i), y), map.grid, cells, map.scale, hatch, titled.then_some(&name));
        });
    }
}

impl Cell {
    fn is_open(&self, (low, high): (f64, f64)) -> bool {
        self.gap > SHOWN * (high - low).max(f64::MIN_POSITIVE) && self.gap > 1e-4
    }
}

/// The colour scale of a layer, from zero or the least negative regret.
fn scale<'a>(cells: impl Iterator<Item = &'a Cell>) -> (f64, f64) {
    let values = cells.map(|cell| cell.regret).filter(|regret| regret.is_finite());
    values.fold((0.0, 0.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)))
}

/// `SGD, layer 10, neuron 60 (row 7, column 4): regret 3.2% of the loss, gap 0.1%`.
fn title(cell: &Cell, layer: usize, series: &str, grid: &Grid) -> String {
    let (first, last) = cell.neurons;
    let which = if first == last { format!("neuron {first}") } else { format!("neurons {first} to {last}") };
    let place = match grid.image {
        true => format!(" (row {}, column {})", first / grid.columns, first % grid.columns),
        false => String::new(),
    };
    format!(
        "{series}, layer {layer}, {which}{place}: regret {} of the loss, gap {}{}",
        percent(cell.regret),
        percent(cell.gap),
        if cell.dead { ", dead" } else { "" }
    )
}

fn draw_block(
    svg: &mut Svg,
    corner: (f64, f64),
    grid: Grid,
    cells: &[Cell],
    (low, high): (f64, f64),
    hatch: &str,
    title: Option<&dyn Fn(&Cell) -> String>,
) {
    let paths = Paths::of(corner, grid, cells, (low, high));
    for (step, squares) in paths.steps.iter().enumerate().filter(|(_, squares)| !squares.is_empty()) {
        let fill = ramp(COLOR, (step as f64 + 0.5) / STEPS as f64);
        match title {
            Some(title) => svg.filled(&fill, |svg| {
                squares.iter().for_each(|(i, square)| svg.cell(square, &title(&cells[*i])));
            }),
            None => svg.area(&squares.iter().map(|(_, square)| square.as_str()).collect::<String>(), &fill),
        }
    }
    // What lies on the cells must not take the pointer from them.
    svg.untouchable(|svg| {
        paths.draw_marks(svg, hatch);
        let columns = grid.columns.min(cells.len());
        let (width, rows) = (columns as f64 * grid.size, cells.len().div_ceil(grid.columns));
        let height = rows as f64 * grid.size;
        svg.rect(Rect::new(corner.0, corner.1, width, height), "none", Some(Stroke::solid(FRAME, 0.6)));
        number_cells(svg, corner, grid, cells, (rows, columns));
    });
}

/// The cells of a block as paths, in pixels.
struct Paths {
    /// By their step of the colour scale: index and square of each cell.
    steps: Vec<Vec<(usize, String)>>,
    /// Crosses of dead neurons, and squares of those too small for a cross.
    crosses: String,
    solid: String,
    /// Squares of cells that are not certified.
    open: String,
}

impl Paths {
    fn of(corner: (f64, f64), grid: Grid, cells: &[Cell], (low, high): (f64, f64)) -> Paths {
        let mut steps: Vec<Vec<(usize, String)>> = vec![Vec::new(); STEPS];
        let (mut crosses, mut solid, mut open) = (String::new(), String::new(), String::new());
        for (i, cell) in cells.iter().enumerate() {
            let (x, y) = grid.corner(i);
            let (x, y) = (corner.0 + x, corner.1 + y);
            let size = pixels(grid.size);
            let square = format!("M{} {}h{size}v{size}h-{size}Z", pixels(x), pixels(y));
            if cell.dead && grid.size < 5.0 {
                solid.push_str(&square);
            } else if cell.dead {
                let (near, far) = (0.22 * grid.size, 0.78 * grid.size);
                let p = |dx: f64, dy: f64| format!("{} {}", pixels(x + dx), pixels(y + dy));
                let _ = write!(crosses, "M{}L{}M{}L{}", p(near, near), p(far, far), p(near, far), p(far, near));
            }
            if cell.is_open((low, high)) {
                open.push_str(&square);
            }
            if cell.regret.is_finite() {
                let t = if high > low { (cell.regret - low) / (high - low) } else { 0.0 };
                steps[((t * STEPS as f64) as usize).min(STEPS - 1)].push((i, square));
            }
        }
        Paths { steps, crosses, solid, open }
    }

    /// What is marked on the colours.
    fn draw_marks(&self, svg: &mut Svg, hatch: &str) {
        if !self.open.is_empty() {
            svg.area(&self.open, hatch);
        }
        if !self.solid.is_empty() {
            svg.area(&self.solid, DEAD);
        }
        if !self.crosses.is_empty() {
            // A light halo keeps the cross visible on dark cells.
            svg.shape(&self.crosses, "none", Stroke::solid(PAPER, 2.8));
            svg.shape(&self.crosses, "none", Stroke::solid(DEAD, 1.3));
        }
    }
}

/// The first neuron of rows and columns; of an image, its rows and columns.
fn number_cells(svg: &mut Svg, corner: (f64, f64), grid: Grid, cells: &[Cell], (rows, columns): (usize, usize)) {
    let every = (12.0 / grid.size).ceil().max(1.0) as usize * if columns > 10 { 2 } else { 1 };
    let merged = cells.iter().any(|cell| cell.neurons.0 != cell.neurons.1);
    for row in (0..rows).step_by(every) {
        let first = if grid.image && !merged { row } else { cells[row * grid.columns].neurons.0 };
        let at = (corner.0 - 3.0, corner.1 + (row as f64 + 0.5) * grid.size + 3.0);
        svg.text(at, &first.to_string(), Text::new(TICK - 2.0, Anchor::End).colored(MUTED));
    }
    if !merged {
        for column in (0..columns).step_by(every) {
            let at = (corner.0 + (column as f64 + 0.5) * grid.size, corner.1 - 3.0);
            svg.text(at, &column.to_string(), Text::new(TICK - 2.0, Anchor::Middle).colored(MUTED));
        }
    }
}

fn color_bar(svg: &mut Svg, rect: Rect, (low, high): (f64, f64)) {
    // Equal values are all drawn in the palest colour, and so is their bar.
    let last = if high > low { 10 } else { 0 };
    let colors: Vec<String> = (0..=10).map(|i| ramp(COLOR, f64::from(i.min(last)) / 10.0)).collect();
    let fill = svg.gradient(&colors);
    svg.rect(rect, &fill, Some(Stroke::solid(FRAME, 0.6)));
    let style = Text::new(TICK, Anchor::Start).colored(MUTED);
    if high > low {
        svg.text((rect.right() + 3.0, rect.y + 8.0), &percent(high), style);
        svg.text((rect.right() + 3.0, rect.bottom()), &percent(low), style);
    } else {
        svg.text((rect.right() + 3.0, rect.y + rect.height / 2.0 + 4.0), &percent(low), style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_that_are_an_image_have_its_shape() {
        let layers: Vec<String> = ["dense 64 -> 50", "relu", "dense 50 -> 64"].into_iter().map(String::from).collect();
        assert_eq!(image_side(&layers, 2), Some(8));
        assert_eq!(image_side(&layers, 0), None, "only the outputs are an image");
        let without: Vec<String> =
            layers.iter().map(|text| text.replace("dense 50 -> 64", "dense 50 -> 64, no bias")).collect();
        assert_eq!(image_side(&without, 2), Some(8));
        let classifier: Vec<String> =
            ["dense 64 -> 32", "relu", "dense 32 -> 16"].into_iter().map(String::from).collect();
        assert_eq!(image_side(&classifier, 2), None, "classes are not pixels");
        let grid = Grid::of(64, 160.0, Some(8));
        assert_eq!((grid.columns, grid.corner(63)), (8, (112.0, 112.0)));
    }

    #[test]
    fn every_cell_has_a_title_that_names_it() {
        let cell =
            |neuron| Cell { neurons: (neuron, neuron), regret: 0.01 * neuron as f64, gap: 0.0, dead: neuron == 2 };
        let cells: Vec<Cell> = (0..12).map(cell).collect();
        let grid = Grid::of(12, 100.0, None);
        let mut svg = Svg::new("x", 100.0, 100.0);
        let name = |cell: &Cell| title(cell, 4, "SGD", &grid);
        draw_block(&mut svg, (0.0, 0.0), grid, &cells, (0.0, 0.11), "none", Some(&name));
        let text = svg.finish("x");
        assert_eq!(text.matches("<path d=\"M").count() - 2, 12, "cells, and the cross in two strokes");
        for neuron in 0..12 {
            assert_eq!(text.matches(&format!("<title>SGD, layer 4, neuron {neuron}:")).count(), 1);
        }
        assert!(text.contains("neuron 2: regret 2.0% of the loss, gap 0%, dead</title>"), "{text}");
    }

    #[test]
    fn a_gap_of_the_whole_optimum_is_hatched() {
        let open = Cell { neurons: (0, 0), regret: 0.01, gap: 0.99, dead: false };
        let closed = Cell { neurons: (1, 1), regret: 0.02, gap: 1e-7, dead: false };
        assert!(open.is_open((0.0, 0.02)) && !closed.is_open((0.0, 0.02)));
    }
}
